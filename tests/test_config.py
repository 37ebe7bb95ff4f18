import hashlib
import json
from dataclasses import replace

import pytest

from attrition.config import Dialect
from attrition.rows import ledger
from tests.conftest import write_config


def test_dialect_of_a_file_is_that_of_the_first_matching_pattern_over_the_general_one(tmp_path):
    by_name = {"CRM_*.csv": {"decimal": ".", "thousands": ","}, "*.csv": {"separator": "\t"}}
    files = {"encoding": "windows-1252", "decimal": ",", "by_name": by_name}
    config = write_config(tmp_path, files=files)
    general = Dialect(encoding="windows-1252", decimal=",")
    assert config.files.dialect("crm_1.CSV") == replace(general, decimal=".", thousands=",")
    assert config.files.dialect("other.csv") == replace(general, separator="\t")
    assert config.files.dialect("other.xlsx") == general


def test_experiment_has_defaults_and_takes_its_key_from_the_environment(tmp_path, monkeypatch):
    assert write_config(tmp_path).experiment is None
    experiment = write_config(tmp_path, experiment={}).experiment
    assert (experiment.share, experiment.never_hold_out.clients) == (0.2, ())
    monkeypatch.delenv("ATTRITION_EXPERIMENT_KEY", raising=False)
    assert experiment.secret is None
    monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", " k\u00e9y\n")
    assert experiment.secret == "k\u00e9y".encode()


def test_a_label_is_no_part_of_the_contract_of_the_columns(tmp_path):
    plain = {"numeric": {"tenure": {"minimum": 0}}, "categorical": ["plan"]}
    labelled = {
        "numeric": {"tenure": {"minimum": 0, "label": "client for", "fixed": True}},
        "categorical": {"plan": {"label": "contract"}},
    }
    one, two = (write_config(tmp_path, columns=each) for each in (plain, labelled))
    assert one.columns == two.columns
    assert one.limited_to("labels").fingerprint() != two.limited_to("labels").fingerprint()


@pytest.mark.parametrize(
    ("name", "is_ignored"),
    [("Notes.TXT", True), ("old/a.csv", True), ("deep/notes.txt", True), ("a.csv", False)],
)
def test_ignored_files_are_named_by_pattern_or_sub_folder(tmp_path, name, is_ignored):
    config = write_config(tmp_path, ignore_files=["*.txt", "OLD"])
    assert config.is_ignored(name) == is_ignored


def test_messages_are_off_by_default_and_change_no_result(tmp_path):
    plain = write_config(tmp_path)
    assert (plain.mail, plain.alerts, plain.digest) == (None, None, None)
    mail = {"host": "mail.example.com", "sender": "run@example.com"}
    other = write_config(tmp_path, mail=mail, digest={"managers": {"Ann": "a@x.com"}})
    assert other.digest.managers == (("Ann", "a@x.com"),)
    assert other.fingerprint() == plain.fingerprint()


# ---- what an earlier version computed

EARLIER_COLUMNS = {
    **{"client": "corporation", "outcome": "exited", "left": None, "stayed": None},
    "numeric": [
        {"name": name, "minimum": 0, "maximum": None, "integer": False}
        for name in ("lastmonth_activity", "lastyear_activity", "number_of_employees")
    ],
    **{"categorical": [], "time": None, "value": None, "manager": None, "ignore": []},
}


def earlier_fingerprint(**settings):
    """The fingerprint of an earlier version, which wrote out every setting that it had."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def test_meaning_of_the_columns_has_the_fingerprint_that_an_earlier_version_stored(tmp_path):
    config = write_config(tmp_path)
    markers = ["", "NA", "N/A", "NaN", "null", "None", "-", "?"]
    earlier = earlier_fingerprint(columns=EARLIER_COLUMNS, missing_markers=markers)
    assert ledger.contract(config) == earlier


def test_own_markers_have_the_fingerprint_that_an_earlier_version_stored(tmp_path):
    config = write_config(tmp_path, missing_markers=["", "unknown"])
    earlier = earlier_fingerprint(columns=EARLIER_COLUMNS, missing_markers=["", "unknown"])
    assert ledger.contract(config) == earlier
    assert ledger.contract(config) != ledger.contract(write_config(tmp_path / "other"))


def test_other_settings_have_the_fingerprint_that_an_earlier_version_stored(tmp_path):
    config = write_config(
        tmp_path, databases=[{"name": "crm", "url": "sqlite:////x", "table": "t"}]
    )
    database = {
        **{"name": "crm", "url": "sqlite:////x", "table": "t", "changed_column": None},
        **{"overlap_hours": 24.0, "reconcile_hours": 24.0, "on_delete": "keep_outcomes"},
        "max_shrink": 0.5,
    }
    view = config.limited_to("databases", "api", "labels")
    api = {"host": "127.0.0.1", "port": config.api.port, "token": None}
    earlier = earlier_fingerprint(databases=[database], api=api, labels={})
    assert view.fingerprint() == earlier
