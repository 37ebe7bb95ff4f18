import dataclasses
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

import diagnostics
import ingestion
from attrition import config as configuration
from attrition.config import Columns, Numeric
from attrition.data import files as source_files
from attrition.errors import Damaged, NoModel
from attrition.operations import releases
from attrition.operations.dependencies import ask_all
from attrition.storage import files, history
from tests.conftest import make_rows, run_whole, write_config


def arrive(config, rows, name):
    """Deliver a file and read it in."""
    rows.to_csv(config.input_folder / name, index=False)
    ingestion.ingest_new_data(config)


def record(config):
    return files.read_record(config.diagnostics_record)


def verdicts(config):
    return files.read_record(config.monitoring_record)


def settled(config):
    arrays = files.read_arrays(config.settled_rows)
    return {name: len(arrays[name]) for name in diagnostics.SETTLED}


def diagnose_again(config, **options):
    config.diagnostics_record.unlink(missing_ok=True)
    diagnostics.run_diagnostics(config, **options)
    return record(config)


# ---- summary statistics

COLUMNS = Columns(numeric=(Numeric("a"),), categorical=("b",), value="worth")


def table():
    rng = np.random.default_rng(0)
    a = np.where(rng.random(101) < 0.2, np.nan, rng.lognormal(3, 1, 101))
    level = rng.choice(["x", "y", ""], 101)
    return pd.DataFrame({"a": a, "b": level, "worth": rng.random(101)})


def test_numbers_are_described_as_by_pandas():
    rows = table()
    found, expected = diagnostics.summarise(rows, COLUMNS)["a"], rows["a"].describe()
    for ours, theirs in {"mean": "mean", "median": "50%", "std": "std", "minimum": "min"}.items():
        assert found[ours] == pytest.approx(expected[theirs])
    assert found["quantiles"]["0.25"] == pytest.approx(expected["25%"])
    assert found["quantiles"]["0.95"] == pytest.approx(rows["a"].quantile(0.95))


def test_the_missing_share_is_counted_for_each_column():
    rows = table()
    found = diagnostics.summarise(rows, COLUMNS)
    assert found["a"]["missing"] == rows["a"].isna().sum() > 0
    assert found["a"]["missing_pct"] == pytest.approx(100 * rows["a"].isna().mean())
    assert found["b"]["missing_pct"] == pytest.approx(100 * (rows["b"] == "").mean())
    assert found["worth"]["missing_pct"] == 0


def test_levels_are_counted_the_commonest_first_ties_by_name():
    rows = pd.DataFrame({"a": 1.0, "b": ["y", "x", "z", "z", ""], "worth": 1.0})
    found = diagnostics.summarise(rows, COLUMNS)["b"]
    assert found["levels"] == [["z", 2], ["x", 1], ["y", 1]]
    assert found["distinct"] == 3


@pytest.mark.parametrize(
    "rows", [table().iloc[:0], table().head(1), table().assign(a=np.nan, b="")]
)
def test_a_table_without_values_is_described_without_nan(rows):
    found = diagnostics.summarise(rows, COLUMNS)
    assert files.encode(found)
    assert found["a"]["count"] == len(rows)


def test_the_current_clients_are_described(project):
    current = pd.read_csv(project.input_folder / "current.csv")
    found = record(project)["columns"]["lastmonth_activity"]
    assert found["mean"] == pytest.approx(current["lastmonth_activity"].mean())
    assert found["count"] == record(project)["data"]["clients"] == 200


def test_those_who_stayed_are_held_against_those_who_stayed(tmp_path):
    """Where every outcome is known, the current clients are what is left of the rows learned from."""
    config = write_config(tmp_path)
    make_rows(2000).to_csv(config.input_folder / "a.csv", index=False)
    assert run_whole(config) == 0
    assert record(config)["drift"]["verdict"] == "stable"
    champion = releases.read_current(config.production_folder)
    rows = source_files.read_rows(config.final_data, config.columns)
    stayed, reference = rows[rows["exited"] == 0], releases.read_reference(champion)
    look = diagnostics.compare_input(champion, releases.load_model(champion), stayed, reference)
    assert look.verdict == "moved"


def test_the_state_of_the_data_is_told(project):
    data = record(project)["data"]
    assert (data["rows"], data["labelled"], data["open"]) == (800, 600, 200)
    assert (data["sources"], data["rejected"], data["duplicates"]) == (2, 0, 0)


def test_the_second_call_does_nothing(project):
    before = project.diagnostics_record.read_bytes()
    assert diagnostics.run_diagnostics(project).fresh
    assert project.diagnostics_record.read_bytes() == before


def test_missing_data_and_drift_are_kept_in_the_history_once(project):
    diagnose_again(project)
    missing, moved = history.read_missing(project.history), history.read_drift(project.history)
    assert sorted(row["column"] for row in missing) == sorted(project.columns.features)
    assert len(moved) == len(project.columns.features) + 1
    assert {row["missing_pct"] for row in missing} == {0.0}


def test_without_a_model_it_says_so(empty_project):
    with pytest.raises(NoModel):
        diagnostics.run_diagnostics(empty_project)


def test_main_monitors_and_diagnoses(project, capsys):
    assert diagnostics.main(["--config", str(project.file), "--quiet"]) == 0
    assert "800 rows, 600 with an outcome; 200 current clients" in capsys.readouterr().out


# ---- timings


def test_timings_come_from_the_history_and_nothing_is_run_again(project, monkeypatch):
    import training

    def run(*_):
        raise AssertionError("ran again")

    monkeypatch.setattr(training, "train_model", run)
    monkeypatch.setattr(ingestion, "ingest_new_data", run)
    step = {
        "step": "training",
        "made": "x",
        "started_at": "2999-01-01T00:00:00Z",
        "elapsed_s": 7500.0,
    }
    history.save(project.history, "steps", [step])
    found = diagnose_again(project)["timings"]
    assert found["training"][-1] == {"at": "2999-01-01T00:00:00Z", "elapsed_s": 7500.0}
    assert len(found["ingestion"]) == 1
    assert found["trend"]["training"].startswith("7500.0 s, +")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ([], "has not run yet"),
        ([3], "3.0 s, the first run"),
        ([2, 2, 2.4], "2.4 s, as usual against the 2.0 s of the 2 before"),
        ([2, 2, 3], "3.0 s, +50% against the 2.0 s of the 2 before"),
        ([9, 2, 2, 2, 2, 2, 1], "1.0 s, -50% against the 2.0 s of the 5 before"),
        ([0, 0], "0.0 s, as usual against the 0.0 s of the 1 before"),
    ],
)
def test_the_trend_of_durations_is_told_in_words(seconds, told):
    assert diagnostics.trend([{"elapsed_s": s} for s in seconds]) == told


# ---- outdated packages


@pytest.fixture
def asked(project, monkeypatch):
    """What the index was asked, which nobody did before; it answers as `asked.answer` says."""

    class Asked(list):
        answer = ""

    found = Asked()

    def run(command, **_):
        found.append(command)
        return subprocess.CompletedProcess(command, 0 if found.answer else 1, found.answer, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("attrition.operations.dependencies.ask_all", ask_all)
    project.dependencies.unlink(missing_ok=True)
    return found


def test_an_index_that_does_not_answer_leaves_every_package_unknown(project, asked):
    found = diagnose_again(project)["dependencies"]
    assert not found["reachable"]
    assert {package["latest"] for package in found["packages"]} == {"unknown"}
    assert {package["outdated"] for package in found["packages"]} == {None}
    assert "cannot be reached" in diagnostics.run_diagnostics(project).outdated
    assert len(asked) == 1  # the index itself, once; no package after that


def test_outdated_packages_are_counted(project, asked):
    asked.answer = "Available versions: 999.0\n"
    found = diagnose_again(project)["dependencies"]["packages"]
    assert {package["latest"] for package in found} == {"999.0"}
    count = len(found)
    assert diagnostics.run_diagnostics(project).outdated == (
        f"dependencies: {count} of {count} outdated"
    )


def test_an_index_that_answered_is_asked_at_most_once_a_day(project, asked):
    asked.answer = "Available versions: 999.0\n"
    first = diagnose_again(project)["dependencies"]
    count = len(asked)
    assert diagnose_again(project)["dependencies"] == first
    assert len(asked) == count > 5


def test_an_index_that_did_not_answer_is_asked_again_the_next_time(project, asked):
    diagnose_again(project)
    asked.answer = "Available versions: 999.0\n"
    assert diagnose_again(project)["dependencies"]["reachable"]


def test_a_damaged_answer_is_asked_again(project, asked):
    project.dependencies.write_bytes(b"{}")
    asked.answer = "Available versions: 999.0\n"
    assert diagnose_again(project)["dependencies"]["reachable"]


def test_answers_that_somebody_asked_for_are_taken_without_asking(project, asked):
    found = diagnose_again(project, latest=lambda: {"numpy": "999.0"})["dependencies"]
    outdated = [package["name"] for package in found["packages"] if package["outdated"]]
    assert outdated == ["numpy"]
    assert asked == []


# ---- is the model in production still right?


@pytest.fixture(scope="module")
def watched_folder(finished_folder, tmp_path_factory):
    """A finished project that was monitored once more, with its model; copied, never changed."""
    folder = tmp_path_factory.mktemp("watched") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = configuration.load(folder / "config.json")
    config.monitoring_record.unlink()
    diagnostics.monitor_model(config)
    return folder


@pytest.fixture
def watched(watched_folder, tmp_path):
    shutil.copytree(watched_folder, tmp_path / "project", symlinks=True)
    return configuration.load(tmp_path / "project" / "config.json")


def test_without_a_model_one_is_to_be_trained(empty_project):
    arrive(empty_project, make_rows(60), "a.csv")
    found = diagnostics.monitor_model(empty_project)
    assert (found.retrain, found.triggers) == (True, ("no_model",))


def test_with_nothing_new_nothing_is_to_be_trained(watched):
    found = diagnostics.monitor_model(watched)
    assert found.fresh
    assert (found.retrain, found.triggers) == (False, ())


def test_the_open_rows_that_came_with_the_first_data_are_judged_and_settled(watched):
    assert verdicts(watched)["input"]["rows"] == 200
    assert verdicts(watched)["input"]["verdict"] == "stable"
    assert settled(watched) == {"labelled": 600, "inputs": 800}


def test_new_rows_of_the_same_law_are_fine_and_settled_once(watched):
    arrive(watched, make_rows(300, seed=9, prefix="new"), "new.csv")
    assert not diagnostics.monitor_model(watched).retrain
    assert verdicts(watched)["truth"]["rows"] == 300
    assert settled(watched) == {"labelled": 900, "inputs": 1100}
    arrive(watched, make_rows(150, seed=10, prefix="newer"), "newer.csv")
    diagnostics.monitor_model(watched)
    assert verdicts(watched)["truth"]["rows"] == verdicts(watched)["input"]["rows"] == 150


def test_too_few_rows_are_pooled_with_those_to_come(watched):
    arrive(watched, make_rows(60, seed=9, prefix="few"), "few.csv")
    diagnostics.monitor_model(watched)
    assert verdicts(watched)["truth"]["verdict"] == "insufficient"
    assert settled(watched) == {"labelled": 600, "inputs": 800}
    arrive(watched, make_rows(90, seed=10, prefix="more"), "more.csv")
    diagnostics.monitor_model(watched)
    assert verdicts(watched)["truth"]["rows"] == verdicts(watched)["input"]["rows"] == 150
    assert settled(watched) == {"labelled": 750, "inputs": 950}


def test_an_outcome_that_arrives_for_a_known_client_is_new_truth_but_no_new_input(watched):
    arrive(watched, make_rows(200, seed=1, prefix="now"), "outcomes.csv")
    diagnostics.monitor_model(watched)
    assert verdicts(watched)["truth"]["rows"] == 200
    assert verdicts(watched)["truth"]["verdict"] == "fine"
    assert verdicts(watched)["input"]["rows"] == 0


def test_outcomes_that_contradict_the_model_ask_for_training(watched):
    arrive(watched, make_rows(300, seed=9, prefix="new", signal=-2.0), "new.csv")
    found = diagnostics.monitor_model(watched)
    assert found.retrain
    assert "degraded" in found.triggers
    assert settled(watched)["labelled"] == 600


def test_contradictions_are_held_until_a_model_has_learned_from_them(watched):
    for name in ("one", "two"):
        arrive(watched, make_rows(200, seed=9, prefix=name, signal=-2.0), f"{name}.csv")
        diagnostics.monitor_model(watched)
    assert verdicts(watched)["truth"]["rows"] == 400


def test_an_outcome_is_held_against_the_estimate_once(watched):
    rows = []
    for name, seed in (("one", 9), ("two", 10)):
        arrive(watched, make_rows(200, seed=seed, prefix=name, signal=-2.0), f"{name}.csv")
        diagnostics.monitor_model(watched)
        rows += [{check["rows"] for check in verdicts(watched)["estimator"]}]
    assert rows == [{200}, {200}]
    kept = history.read_estimates(watched.history)
    assert len(kept) == 2 * len(verdicts(watched)["estimator"])
    assert {row["rows"] for row in kept} == {200}


def test_input_that_moved_is_named(watched):
    rows = make_rows(300, seed=9, prefix="new").assign(exited="")
    rows["lastmonth_activity"] += 400
    arrive(watched, rows, "new.csv")
    found = diagnostics.monitor_model(watched)
    assert found.triggers == ("input_moved",)
    assert "input has moved: predicted risk, lastmonth_activity" in found.input
    assert settled(watched)["inputs"] == 800


def test_input_that_the_model_hardly_goes_by_is_named_and_no_reason_to_train(watched):
    rows = make_rows(300, seed=9, prefix="new").assign(exited="")
    rows["number_of_employees"] += 400
    arrive(watched, rows, "new.csv")
    found = diagnostics.monitor_model(watched)
    assert (found.retrain, found.triggers) == (False, ())
    assert "number_of_employees moved, but the model hardly goes by it" in found.input


def test_twice_the_rows_are_a_reason_to_train(watched):
    arrive(watched, make_rows(600, seed=9, prefix="new"), "new.csv")
    found = diagnostics.monitor_model(watched)
    assert (found.retrain, found.triggers) == (True, ("more_rows",))


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: data[:-30], lambda data: b"x" * 50]
)
def test_where_the_settled_rows_are_damaged_all_since_the_deployment_is_judged_again(
    watched, spoil, caplog
):
    arrive(watched, make_rows(300, seed=9, prefix="new"), "new.csv")
    diagnostics.monitor_model(watched)
    watched.settled_rows.write_bytes(spoil(watched.settled_rows.read_bytes()))
    assert not diagnostics.monitor_model(watched).fresh
    assert verdicts(watched)["truth"]["rows"] == 300
    assert settled(watched) == {"labelled": 900, "inputs": 1100}
    assert "judged again" in caplog.text


def test_where_the_verdict_is_damaged_all_since_the_deployment_is_judged_again(watched):
    watched.monitoring_record.write_bytes(b"{}")
    assert not diagnostics.monitor_model(watched).fresh
    assert verdicts(watched)["input"]["rows"] == 200


def test_a_damaged_model_has_no_verdict(watched):
    model = watched.production_folder / "trainedmodel.skops"
    model.write_bytes(model.read_bytes()[:-1])
    watched.monitoring_record.unlink()
    with pytest.raises(Damaged, match="roll back"):
        diagnostics.monitor_model(watched)


def test_columns_that_the_model_does_not_know_are_a_reason_for_a_new_one(watched):
    columns = Columns(numeric=(Numeric("lastmonth_activity"), Numeric("number_of_employees")))
    found = diagnostics.monitor_model(dataclasses.replace(watched, columns=columns))
    assert found.triggers == ("no_model",)


def test_the_auc_at_deployment_is_that_of_the_rows_nobody_was_trained_on(watched):
    champion = releases.read_current(watched.production_folder)
    expected = champion.score["sets"]["unseen"]["candidate"]["roc_auc"]["value"]
    assert diagnostics._reference_auc(champion).value == expected


def test_an_auc_of_too_few_rows_is_not_held_against_the_model(watched):
    champion = releases.read_current(watched.production_folder)
    few = {name: {"rows": 99} for name in ("unseen", "test")}
    champion = dataclasses.replace(champion, score={"sets": few})
    assert diagnostics._reference_auc(champion).value is None


def test_the_input_of_a_model_with_levels_and_missing_values_is_compared(tmp_path):
    columns = {"numeric": ["lastmonth_activity", "size"], "categorical": ["trade"]}
    config = write_config(tmp_path, columns=columns)
    rng = np.random.default_rng(0)
    rows = make_rows(400).rename(columns={"number_of_employees": "size"})
    rows["size"] = rows["size"].where(rng.random(400) < 0.9)
    rows["trade"] = rng.choice(["bank", "shop", ""], 400)
    rows[["corporation", "lastmonth_activity", "size", "trade", "exited"]].to_csv(
        config.input_folder / "a.csv", index=False
    )
    assert run_whole(config) == 0
    champion = releases.read_current(config.production_folder)
    final = source_files.read_rows(config.final_data, config.columns)
    reference = releases.read_reference(champion)
    look = diagnostics.compare_input(champion, releases.load_model(champion), final, reference)
    assert look.verdict == "stable"
    assert {column.column for column in look.columns} >= {"lastmonth_activity", "size", "trade"}
