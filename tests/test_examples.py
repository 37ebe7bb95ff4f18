"""The sample company and the public tables of examples/, each through the whole process."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import app
import fullprocess
from attrition import config_file
from attrition.data import clients
from attrition.modelling import models
from attrition.operations import releases
from benchmarks import ranking
from tests.conftest import ROOT, TABLES, make_rows, read_rows, run_whole, write_config


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample company as it is delivered, after its first run."""
    folder = tmp_path_factory.mktemp("sample")
    for name in ("sourcedata", "testdata"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "config.json", folder)
    config = config_file.load(folder / "config.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attrition.operations.dependencies.ask_all", dict.fromkeys)
        assert run_whole(config) == 0
    return config


def test_contact_list_of_the_sample_is_nearly_the_best_there_is(sample):
    ours, best = ranking.judge(sample)
    assert ours >= 0.95 * best


def test_api_assessment_and_hand_give_the_same_risk(sample):
    columns = sample.columns
    rows = clients.current_clients(read_rows(sample), columns).head(300)
    model = releases.load_model(releases.read_current(sample.production_folder))
    by_hand = models.predict(model, rows)
    assessed = pd.read_csv(sample.risk_scores, index_col="client")["risk"]
    wanted = rows[[columns.client_name, *columns.features]].astype(object)
    records = wanted.where(wanted.notna() & (wanted != ""), None).to_dict("records")
    answer = app.create_app(sample).test_client().post("/prediction", json={"records": records})
    by_api = [prediction["risk"] for prediction in answer.get_json()["predictions"]]
    np.testing.assert_allclose(by_api, by_hand, rtol=0, atol=1e-9)
    np.testing.assert_allclose(assessed[rows[columns.client_name]], by_hand, rtol=0, atol=1e-9)


def test_first_clients_of_the_api_have_the_highest_risk(sample):
    listed = app.create_app(sample).test_client().get("/clients?limit=20").get_json()["clients"]
    highest = pd.read_csv(sample.risk_scores)["risk"].nlargest(20)
    assert [client["risk"] for client in listed] == list(highest)


@pytest.mark.parametrize("name", ["telco", "mlc_churn", "iranian"])
def test_public_table_runs_by_config_alone(name, tmp_path):
    table = TABLES / name / f"{name}.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not there; name the folder of the tables with ATTRITION_TABLES")
    shutil.copy(ROOT / "examples" / f"{name}.json", tmp_path)
    config = config_file.load(tmp_path / f"{name}.json")
    config.input_folder.mkdir(parents=True)
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    is_open = np.random.default_rng(0).random(len(rows)) < 0.2
    rows.loc[is_open, config.columns.outcome] = ""
    rows.to_csv(config.input_folder / "table.csv", index=False)
    assert run_whole(config) == 0
    assert len(pd.read_csv(config.contact_list)) == config.contact_capacity
    score = releases.read_current(config.production_folder).score["sets"]["unseen"]
    assert score["candidate"]["roc_auc"]["low"] > 0.75
    answer = app.create_app(config).test_client().get("/clients?limit=1")
    assert json.loads(answer.data)["total"] == len(pd.read_csv(config.risk_scores))


def test_few_rows_are_run_through_and_said_to_be_few(tmp_path, capsys):
    course = TABLES / "course"
    if not course.is_dir():
        pytest.skip(f"{course} is not there; name the folder of the tables with ATTRITION_TABLES")
    config = write_config(tmp_path)
    for folder, target in (("sourcedata", config.input_folder), ("testdata", config.test_folder)):
        shutil.copytree(course / folder, target, dirs_exist_ok=True)
    assert fullprocess.main(["--config", str(config.file)]) == 0
    told = capsys.readouterr().out
    assert "the risks are little more than the base rate until" in told
    assert "test: only 5 rows (3 left), so the scores are imprecise" in told
    champion = releases.current_id(config.production_folder)
    make_rows(20).to_csv(config.input_folder / "dataset5.csv", index=False)
    assert fullprocess.main(["--config", str(config.file)]) == 0
    told = capsys.readouterr().out
    assert "20 accepted" in told
    assert "20 new outcomes not used for training yet" in told
    assert releases.current_id(config.production_folder) == champion
