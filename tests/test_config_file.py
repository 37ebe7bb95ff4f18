import json
import re
from pathlib import Path

import pytest

import monitoring
import scoring
import training
from attrition import config_file
from attrition.config import Config, Label, Numeric
from attrition.errors import ConfigError
from attrition.modelling import backtest, calibration, data_checks, reliability, selection
from attrition.monitoring import drift, gate, performance, sources
from tests.conftest import PLAIN_KEYS, ROOT, write_config

DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
# Rows, and rows of each outcome, in the order of the table "How much data do I need?".
MINIMA = [
    (training.MIN_ROWS_TO_TRAIN, training.MIN_OF_EACH_TO_TRAIN),
    (reliability.MIN_ROWS_TO_RELY, reliability.MIN_OF_EACH_TO_RELY),
    (None, data_checks.MIN_OF_EACH_TO_CHECK),
    (None, calibration.MIN_OF_EACH_TO_CALIBRATE),
    (calibration.MIN_ROWS_TO_BEND, None),
    (selection.MIN_ROWS_TO_BLEND, selection.MIN_OF_EACH_TO_BLEND),
    (None, backtest.MIN_OF_EACH_TO_BACKTEST),
    (scoring.MIN_ROWS_TO_SCORE, scoring.MIN_OF_EACH_TO_SCORE),
    (gate.MIN_ROWS_TO_COMPARE, gate.MIN_OF_EACH_TO_COMPARE),
    (performance.MIN_LABELLED_TO_JUDGE, performance.MIN_OF_EACH_TO_JUDGE),
    (sources.MIN_ROWS_TO_CONTRADICT, sources.MIN_OF_EACH_TO_CONTRADICT),
    (drift.MIN_ROWS_FOR_DRIFT, None),
    (drift.MIN_ROWS_FOR_JOINT_DRIFT, None),
    (monitoring.MIN_ROWS_TO_SETTLE, None),
    (performance.MIN_ROWS_TO_ESTIMATE, performance.MIN_OF_EACH_TO_ESTIMATE),
    (performance.MIN_ROWS_TO_TRUST_AUC, None),
    (performance.MIN_ROWS_TO_REWEIGH, None),
]


def load(folder: Path, settings: object) -> Config:
    (folder / "config.json").write_text(json.dumps(settings))
    return config_file.load(folder / "config.json")


def test_five_folder_keys_are_enough(tmp_path):
    config = load(tmp_path, PLAIN_KEYS)
    assert config.columns.client == "corporation"
    assert config.columns.features[0] == "lastmonth_activity"
    assert config.final_data == tmp_path / "ingesteddata" / "finaldata.csv"


def test_every_wrong_key_is_told_at_once(tmp_path):
    settings = {"input_folder_path": 3, "contact_capacity": 0, "colums": {}, "held_out_share": "x"}
    with pytest.raises(ConfigError) as error:
        load(tmp_path, settings)
    told = str(error.value)
    for name in ("input_folder_path", "contact_capacity", "colums", "held_out_share"):
        assert name in told
    assert "output_model_path is missing" in told


TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"columns": {"numeric": ["a"], "categorical": ["a"]}}, "'a' is given two meanings"),
        ({"columns": {"client": "x"}}, "columns names no feature, expected"),
        ({"columns": {"numeric": ["a"], "left": "Yes"}}, "go together"),
        ({"columns": {"numeric": ["a"], "left": "Y", "stayed": "Y"}}, "are both 'Y'"),
        ({"columns": {"numeric": ["a"], "left": "Y", "stayed": "y"}}, "are both 'Y'"),
        ({"columns": {"numeric": {"a": {"minimum": 2, "maximum": 1}}}}, "is above maximum"),
        ({"columns": {"numeric": ["a"], "value": "exited"}}, "two meanings"),
        ({"columns": {"dates": ["ends"], "due": "ends"}}, "'ends' is given two meanings"),
        ({"contact_order": "value_at_risk"}, "columns.value is not set"),
        ({"contact_order": "luck"}, "expected one of"),
        ({"databases": [{"name": "crm"}]}, "databases[0].url is missing"),
        ({"databases": {}}, "expected a list"),
        ({"databases": [TABLE | {"on_delete": "no"}]}, "on_delete is 'no', expected one of"),
        ({"databases": [TABLE | {"max_shrink": 2}]}, "databases[0].max_shrink"),
        ({"max_source_mb": 0}, "max_source_mb"),
        ({"time_zone": "Europe/Berln"}, "time_zone is 'Europe/Berln', expected a name such as"),
        ({"run_limit_minutes": "long"}, "run_limit_minutes"),
        ({"sources_may_vanish": 1}, "sources_may_vanish"),
        ({"accept_leakage": ["exited"]}, "accept_leakage names 'exited', which is not a feature"),
        ({"api": {"port": 99999}}, "api.port"),
        ({"engine": {"backend": "spark"}}, "engine.backend is 'spark', expected one of ('loky',"),
        ({"engine": {"backend": "dask"}}, "engine.address is None, expected host:port"),
        ({"engine": {"address": "head:6379"}}, "engine.address is 'head:6379', expected none"),
        ({"engine": {"backend": "ray", "address": "head"}}, "engine.address is 'head', expected"),
        (
            {"experiment": {"share": 0.6}},
            "experiment.share is 0.6, expected a number >= 0.01 and <= 0.5",
        ),
        ({"experiment": {"key": "s3cret"}}, "experiment.key is the key itself, expected ${NAME}"),
        ({"experiment": True}, "experiment is true/false, expected an object"),
        (
            {"experiment": {}, "columns": {"numeric": ["a"], "client": None}},
            "experiment is given, but columns.client is null",
        ),
        (
            {"experiment": {"never_hold_out": {"value_above": 5}}},
            "experiment.never_hold_out.value_above is given, but columns.value is not set",
        ),
        (
            {"experiment": {"never_hold_out": {"names": []}}},
            "unknown key experiment.never_hold_out.names; the known keys are clients, value_above",
        ),
        ({"test_data_path": "sourcedata"}, "name the same folder"),
        ({"test_data_path": None}, "test_data_path is missing, expected the name of a folder"),
        ({"contact_capacity": 1.5}, "contact_capacity is 1.5, expected a whole number >= 1"),
        ({"contact_capacity": True}, "contact_capacity is True, expected a whole number"),
        ({"columns": {"numeric": ["a", 3]}}, "expected names, or names with their keys"),
        ({"columns": {"numeric": {"a": {"minimum": "x"}}}}, "columns.numeric.a.minimum is 'x'"),
        ({"columns": {"numeric": {"a": {"lowest": 1}}}}, "unknown key columns.numeric.a.lowest"),
        ({"columns": {"numeric": ["a"], "left": True, "stayed": "N"}}, "columns.left is True"),
        ({"columns": []}, "columns is a list, expected an object"),
        (
            {"api": {"prot": 1}},
            "unknown key api.prot; the known keys are host, hosts, port, proxies, requests_per_minute, "
            "token, user_header",
        ),
        (
            {"columns": {"categorical": ["kind"], "markers_are_levels": ["kinds"]}},
            "columns.markers_are_levels names 'kinds', which is not a categorical feature",
        ),
        ({"missing_markers": "NA"}, "missing_markers is 'NA', expected a list of names"),
        ({"files": []}, "files is a list, expected an object"),
        ({"files": {"decimals": ","}}, "unknown key files.decimals"),
        ({"files": {"encoding": "latin"}}, "files.encoding is 'latin', expected one of ('utf-8'"),
        ({"files": {"decimal": ",", "thousands": ","}}, "decimal and thousands are both ','"),
        ({"files": {"dates": "%d.%m."}}, "files.dates is '%d.%m.', expected the format of a date"),
        ({"files": {"dates": "TT.MM.JJJJ"}}, "files.dates is 'TT.MM.JJJJ'"),
        ({"files": {"dates": "%d.%m.%Q"}}, "files.dates is '%d.%m.%Q'"),
        ({"files": {"header_line": 0}}, "files.header_line is 0, expected a whole number >= 1"),
        ({"files": {"by_name": ["a"]}}, "expected an object of patterns and their keys"),
        ({"files": {"by_name": {"a*": ","}}}, "files.by_name.a* is text, expected an object"),
        ({"files": {"by_name": {"a*": {"sep": ","}}}}, "unknown key files.by_name.a*.sep"),
        ({"files": {"by_name": {"a*": {"thousands": "."}}}}, "files.by_name.a*: decimal and"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, told):
    with pytest.raises(ConfigError, match="config.json") as error:
        load(tmp_path, PLAIN_KEYS | settings)
    assert told in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"contact_capacity": NaN}', "[" * 100_000])
def test_a_file_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="config.json"):
        config_file.load(tmp_path / "config.json")


def test_a_number_too_large_for_a_float_is_named(tmp_path):
    text = json.dumps(PLAIN_KEYS)[:-1] + ', "contact_capacity": 1e999}'
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="contact_capacity is inf, expected a whole number"):
        config_file.load(tmp_path / "config.json")


def test_values_are_read_as_they_are_written(tmp_path):
    columns = {"client": None, "left": 1, "stayed": " 0 ", "numeric": {"a": {"maximum": 5}}}
    settings = {"columns": columns, "contact_capacity": 7.0, "reports_path": " out "}
    config = load(tmp_path, PLAIN_KEYS | settings)
    assert (config.columns.client, config.columns.left, config.columns.stayed) == (None, "1", "0")
    assert config.columns.numeric == (Numeric("a", maximum=5),)
    assert repr(config.contact_capacity) == "7"
    assert config.report == tmp_path / "out" / "report.pdf"


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="--config"):
        config_file.load(tmp_path / "nothing.json")


def test_relative_sqlite_url_lies_beside_the_config(tmp_path):
    url = {"name": "crm", "url": "sqlite:///data/crm.sqlite", "table": "clients"}
    config = write_config(tmp_path, databases=[url])
    assert config.databases[0].url == f"sqlite:///{tmp_path}/data/crm.sqlite"


# ---- docs/configuration.md


def test_documentation_has_the_settings_as_they_are_declared():
    assert DOCUMENTATION.endswith("## All settings\n\n" + config_file.describe())


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", DOCUMENTATION, re.DOTALL))
def test_an_example_of_the_documentation_is_valid(tmp_path, block):
    settings = json.loads(block)
    assert load(tmp_path, settings).file.parent == tmp_path


def test_documentation_has_the_minima_of_the_code():
    section = DOCUMENTATION.partition("## How much data do I need?")[2].partition("\n## ")[0]
    table = [line.split("|")[2:4] for line in section.splitlines() if line.startswith("| ")][1:]
    numbers = [
        tuple(int(cell.replace(",", "")) if cell.strip() else None for cell in row) for row in table
    ]
    assert numbers == MINIMA


# ---- labels


def test_features_may_have_labels_for_people(tmp_path):
    columns = {
        "numeric": {"tenure": {"minimum": 0, "label": "client for", "unit": "months"}, "age": {}},
        "categorical": {"plan": {"label": "contract", "fixed": True}, "trade": {}},
    }
    config = load(tmp_path, PLAIN_KEYS | {"columns": columns})
    assert config.columns.categorical == ("plan", "trade")
    assert config.columns.numeric[0] == Numeric("tenure", minimum=0)
    assert config.labels == {
        "tenure": Label("tenure", "client for", "months"),
        "plan": Label("plan", "contract", fixed=True),
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"numeric": {"a": {"label": 3}}}, "columns.numeric.a.label is 3, expected text"),
        ({"numeric": {"a": {"fixed": 1}}}, "columns.numeric.a.fixed is 1, expected true or false"),
        (
            {"categorical": {"a": {"unit": "m"}}},
            "unknown key columns.categorical.a.unit; the known keys are fixed, label",
        ),
        ({"categorical": {"a": "label"}}, "columns.categorical.a is text, expected an object"),
        (
            {"numeric": {"a": {"label": "x"}, "b": {"label": "x"}}},
            "columns: the label 'x' is given to two features",
        ),
    ],
)
def test_a_wrong_label_is_one_message(tmp_path, columns, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, PLAIN_KEYS | {"columns": columns})
    assert message in str(error.value)
    assert "; " not in str(error.value).replace("; the known keys", "")


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ({"columns": {"numeric": ["a"], "value": "a"}}, "value_at_risk"),
        ({"columns": {"numeric": ["a"]}}, "risk"),
        ({"columns": {"numeric": ["a"], "value": "a"}, "contact_order": "risk"}, "risk"),
    ],
)
def test_the_list_is_by_value_at_risk_if_there_is_a_value(tmp_path, settings, order):
    assert load(tmp_path, PLAIN_KEYS | settings).contact_order == order


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('"currency": "CHF", "currency": "EUR"', ["currency"]),
        ('"api": {"port": 1, "port": 2}', ["port"]),
        ('"columns": {"numeric": {"a": {"minimum": 0, "minimum": 1}}}', ["minimum"]),
        ('"databases": [{"name": "crm", "name": "x"}], "api": {"host": "a", "host": "b"}',
         ["name", "host"]),
    ],
)  # fmt: skip
def test_a_key_given_twice_is_an_error_by_name_at_any_depth(tmp_path, text, keys):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN_KEYS)[:-1] + f", {text}}}")
    with pytest.raises(ConfigError) as error:
        config_file.load(tmp_path / "config.json")
    assert all(f"the key {key!r} is given twice" in str(error.value) for key in keys)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://joe:hunter2@h/db",
        "postgresql://joe:hun/ter2@h/db",
        "postgresql://joe:hunter2${REST}@h:5432/db",
        "postgresql+psycopg://joe@h/db?sslmode=require&password=hunter2",
        "mysql://joe:hunter2@h/db",
        "mariadb+pymysql://joe@h/db?ssl_key_password=hunter2",
    ],
)
def test_a_password_in_a_database_url_is_refused_and_not_printed(tmp_path, url):
    with pytest.raises(ConfigError, match="expected .{NAME} with the name of an env") as error:
        load(tmp_path, PLAIN_KEYS | {"databases": [TABLE | {"url": url}]})
    assert "ter2" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["postgresql://joe:${P}@h/db", "postgresql://h:5432/db?user=a@b&password=${P}"]
)
def test_a_password_from_the_environment_is_accepted(tmp_path, url):
    config = load(tmp_path, PLAIN_KEYS | {"databases": [TABLE | {"url": url}]})
    assert config.databases[0].url == url


def test_due_date_may_be_a_feature_if_there_is_a_time(tmp_path):
    columns = {"dates": ["ends"], "due": "ends", "time": "seen"}
    assert load(tmp_path, PLAIN_KEYS | {"columns": columns}).columns.due == "ends"


# ---- messages

MAIL = {"host": "mail.example.com", "sender": "run@example.com"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mail": {"host": "x"}}, "mail.sender is missing"),
        ({"mail": MAIL | {"sender": "a, b"}}, "mail.sender is 'a, b', expected an address such as"),
        (
            {"mail": MAIL | {"user": "joe", "password": "hunter2"}},
            "mail.password is the password itself, expected ${NAME}",
        ),
        (
            {"mail": MAIL | {"user": "j", "password": 12345}},
            "mail.password is a number, expected text",
        ),
        ({"mail": MAIL | {"user": "joe"}}, "mail.user and mail.password go together"),
        (
            {"mail": MAIL | {"user": "j", "password": "${A}", "security": "none"}},
            "mail.password needs mail.security 'starttls' or 'tls'",
        ),
        ({"alerts": {"recipients": ["a@x"]}}, "mail is missing, expected the server that sends"),
        ({"digest": {"lead": ["a@x"]}}, "mail is missing, expected the server that sends"),
        (
            {"mail": MAIL, "digest": {"managers": {"Ann": 3}}},
            "digest.managers.Ann is 3, expected an address such as ann@example.com",
        ),
        ({"alerts": {"webhook": {"url": "hunter2"}}}, "alerts.webhook.url is no address, expected"),
        ({"alerts": {"heartbeat": "hunter2"}}, "alerts.heartbeat is no address, expected https://"),
        ({"alerts": {"webhook": {"url": "${A}", "shape": "x"}}}, "alerts.webhook.shape is 'x'"),
        ({"alerts": {"webhok": {}}}, "unknown key alerts.webhok"),
    ],
)
def test_wrong_setting_of_messages_is_named_and_no_secret_is_quoted(tmp_path, settings, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, PLAIN_KEYS | settings)
    assert message in str(error.value)
    assert not {"hunter2", "12345"} & set(re.findall(r"\w+", str(error.value)))


# ---- what is written by request


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("sqlite:///contacts/contacts.sqlite", True),
        ("sqlite:///sourcedata/../contacts/contacts.sqlite?timeout=3", True),
        ("sqlite:///link.sqlite", True),
        ("sqlite:///production_deployment/history.sqlite", True),
        ("sqlite:///crm.sqlite", False),
    ],
)
def test_risks_are_never_written_into_a_file_of_ours(tmp_path, url, is_refused):
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "contacts" / "contacts.sqlite")
    settings = {"write_back": {"url": url, "table": "risks"}}
    if is_refused:
        with pytest.raises(ConfigError, match=r"write_back.url is .*a file of this installation"):
            write_config(tmp_path, **settings)
    else:
        write_config(tmp_path, **settings)


@pytest.mark.parametrize(
    ("written", "is_refused"),
    [
        ({"url": "sqlite:///./crm.sqlite", "table": "Clients"}, True),
        ({"url": "sqlite:///crm.sqlite", "table": "main.clients"}, True),
        ({"url": "sqlite:///crm.sqlite", "table": "risks"}, False),
        ({"url": "postgresql://host/crm", "table": "clients"}, True),
        ({"url": "postgresql://host/other", "table": "clients"}, False),
    ],
)
def test_risks_are_never_written_into_a_source(tmp_path, written, is_refused):
    urls = {"crm": "sqlite:///crm.sqlite", "erp": "postgresql://host/crm"}
    sources = [{"name": name, "url": url, "table": "clients"} for name, url in urls.items()]
    settings = {"databases": sources, "write_back": written}
    if is_refused:
        with pytest.raises(ConfigError, match="is the source '(crm|erp)', which is never written"):
            write_config(tmp_path, **settings)
    else:
        write_config(tmp_path, **settings)


def test_alerts_are_never_appended_to_a_file_of_ours(tmp_path):
    for name in ("config.json", "contacts/contacts.sqlite", "reports/assessment.json"):
        with pytest.raises(ConfigError, match=r"alerts.file is .*a file of this installation"):
            write_config(tmp_path, alerts={"file": name})
    write_config(tmp_path, alerts={"file": "alerts.jsonl"})
