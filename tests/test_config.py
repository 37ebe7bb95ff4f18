import json
from pathlib import Path

import pytest

from attrition import config as configuration
from attrition.errors import ConfigError
from tests.conftest import PLAIN_KEYS, write_config


def load(folder: Path, settings: object) -> configuration.Config:
    (folder / "config.json").write_text(json.dumps(settings))
    return configuration.load(folder / "config.json")


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
        ({"columns": {"client": "x"}}, "neither numeric nor categorical"),
        ({"columns": {"numeric": ["a"], "left": "Yes"}}, "go together"),
        ({"columns": {"numeric": ["a"], "left": "Y", "stayed": "Y"}}, "are both 'Y'"),
        ({"columns": {"numeric": ["a"], "left": "Y", "stayed": "y"}}, "are both 'Y'"),
        ({"columns": {"numeric": {"a": {"minimum": 2, "maximum": 1}}}}, "is above maximum"),
        ({"columns": {"numeric": ["a"], "value": "exited"}}, "two meanings"),
        ({"contact_order": "value_at_risk"}, "columns.value names none"),
        ({"contact_order": "luck"}, "expected one of"),
        ({"databases": [{"name": "crm"}]}, "databases[0].url is missing"),
        ({"databases": {}}, "expected a list"),
        ({"databases": [TABLE | {"on_delete": "no"}]}, "on_delete is 'no', expected one of"),
        ({"databases": [TABLE | {"max_shrink": 2}]}, "databases[0].max_shrink"),
        ({"max_source_mb": 0}, "max_source_mb"),
        ({"run_limit_minutes": "long"}, "run_limit_minutes"),
        ({"sources_may_vanish": 1}, "sources_may_vanish"),
        ({"accept_leakage": ["exited"]}, "accept_leakage names 'exited', which is no feature"),
        ({"api": {"port": 99999}}, "api.port"),
        ({"test_data_path": "sourcedata"}, "name the same folder"),
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
        configuration.load(tmp_path / "config.json")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="--config"):
        configuration.load(tmp_path / "nothing.json")


def test_relative_sqlite_url_lies_beside_the_config(tmp_path):
    url = {"name": "crm", "url": "sqlite:///data/crm.sqlite", "table": "clients"}
    config = write_config(tmp_path, databases=[url])
    assert config.databases[0].url == f"sqlite:///{tmp_path}/data/crm.sqlite"
