import numpy as np
import pandas as pd
import pytest

import assessment
import diagnostics
import ingestion
import monitoring
from app import create_app
from attrition import wording
from attrition.config import Columns, Numeric
from attrition.errors import AttritionError, NoModel
from attrition.modelling import models
from attrition.monitoring import drift
from attrition.operations import releases
from attrition.operations.dependencies import ask_all
from attrition.storage import files, history
from tests.conftest import make_rows, read_rows, run_whole, write_config


def arrive(config, rows, name):
    """Deliver a file and read it in."""
    rows.to_csv(config.input_folder / name, index=False)
    ingestion.ingest_new_data(config)


def record(config):
    return files.read_record(config.diagnostics_record)


def verdicts(config):
    return files.read_record(config.monitoring_record)


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
    found, expected = diagnostics.summarise(rows.get, COLUMNS)["a"], rows["a"].describe()
    for ours, theirs in {"mean": "mean", "median": "50%", "std": "std", "minimum": "min"}.items():
        assert found[ours] == pytest.approx(expected[theirs])
    assert found["quantiles"]["0.25"] == pytest.approx(expected["25%"])
    assert found["quantiles"]["0.95"] == pytest.approx(rows["a"].quantile(0.95))


def test_the_missing_share_is_counted_for_each_column():
    rows = table()
    found = diagnostics.summarise(rows.get, COLUMNS)
    assert found["a"]["missing"] == rows["a"].isna().sum() > 0
    assert found["a"]["missing_pct"] == pytest.approx(100 * rows["a"].isna().mean())
    assert found["b"]["missing_pct"] == pytest.approx(100 * (rows["b"] == "").mean())
    assert found["worth"]["missing_pct"] == 0


def test_levels_are_counted_the_commonest_first_ties_by_name():
    rows = pd.DataFrame({"a": 1.0, "b": ["y", "x", "z", "z", ""], "worth": 1.0})
    found = diagnostics.summarise(rows.get, COLUMNS)["b"]
    assert found["levels"] == [["z", 2], ["x", 1], ["y", 1]]
    assert found["distinct"] == 3


@pytest.mark.parametrize(
    "rows", [table().iloc[:0], table().head(1), table().assign(a=np.nan, b="")]
)
def test_a_table_without_values_is_described_without_nan(rows):
    found = diagnostics.summarise(rows.get, COLUMNS)
    assert files.encode(found)
    assert found["a"]["count"] == len(rows)


def test_the_current_clients_are_described(project):
    current = pd.read_csv(project.input_folder / "current.csv")
    found = record(project)["columns"]["lastmonth_activity"]
    assert found["mean"] == pytest.approx(current["lastmonth_activity"].mean())
    assert found["count"] == record(project)["data"]["current_clients"] == 200


def test_those_who_stayed_are_held_against_those_who_stayed(tmp_path):
    """Where every outcome is known, the current clients are what is left of the rows learned from."""
    config = write_config(tmp_path)
    make_rows(2000).to_csv(config.input_folder / "a.csv", index=False)
    assert run_whole(config) == 0
    assert record(config)["drift"]["verdict"] == "stable"
    champion = releases.read_current(config.production_folder)
    rows = read_rows(config)
    stayed, reference = rows[rows["exited"] == 0], releases.read_reference(champion)
    look = drift.compare_clients(
        reference, stayed, models.predict(releases.load_model(champion), stayed), champion.training
    )
    assert look.verdict == "moved"


def test_the_state_of_the_data_is_told(project):
    data = record(project)["data"]
    assert (data["rows"], data["labelled"], data["open"]) == (800, 600, 200)
    assert (data["sources"], data["rejected"], data["duplicates"]) == (2, 0, 0)


LATER = make_rows(40, seed=3, prefix="now").assign(exited="")
WRONG = LATER.assign(lastmonth_activity="many")


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        # rows, clients, current clients, sources, refused rows, duplicates
        ([], (800, 800, 200, 2, 0, 0)),
        ([LATER], (840, 800, 200, 3, 0, 0)),  # other rows of the same clients
        ([LATER, LATER[::-1]], (840, 800, 200, 3, 0, 40)),  # the second gave no row
        ([WRONG], (800, 800, 200, 2, 40, 0)),  # no new row, and yet news
        ([LATER.assign(exited=1)], (840, 800, 160, 3, 0, 0)),
    ],
)
def test_clients_sources_and_refused_rows_are_counted_as_they_are(project, deliveries, expected):
    for i, rows in enumerate(deliveries):
        arrive(project, rows, f"{i}.csv")
    monitoring.monitor_model(project)
    assessment.assess_clients(project)
    diagnostics.run_diagnostics(project)
    names = ("rows", "clients", "current_clients", "sources", "rejected", "duplicates")
    data = record(project)["data"]
    assert tuple(data[name] for name in names) == expected
    sentence = wording.rows_read(data)
    assert sentence.startswith(
        f"{expected[0]} rows of 800 clients, {expected[2]} of them current, "
        f"from {expected[3]} accepted sources: "
    )


def test_the_second_call_does_nothing(project):
    before = project.diagnostics_record.read_bytes()
    assert diagnostics.run_diagnostics(project).up_to_date
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


@pytest.mark.parametrize("change", ["no record", "other rows", "other release", "no table"])
def test_without_an_assessment_of_these_rows_it_says_so(project, change):
    record = files.read_record(project.assessment_record)
    if change == "no record":
        project.assessment_record.unlink()
    elif change == "no table":
        project.clients.unlink()
    else:
        name = "finaldata" if change == "other rows" else "release"
        record["inputs"][name] = "other"
        files.write_bytes(project.assessment_record, files.encode(files.sealed(record)))
    project.diagnostics_record.unlink()
    with pytest.raises(AttritionError, match=r"clients\.parquet: .* run assessment\.py first"):
        diagnostics.run_diagnostics(project)


def test_risks_of_the_assessment_are_taken_without_a_model(project, monkeypatch):
    def predict(*_):
        raise AssertionError("predicted again")

    before = record(project)
    monkeypatch.setattr(models, "predict", predict)
    found = diagnose_again(project)
    for part in ("columns", "predictions", "drift", "data"):
        assert found[part] == before[part]


def test_main_monitors_and_diagnoses(project, capsys):
    assert diagnostics.main(["--config", str(project.file), "--quiet"]) == 0
    assert (
        "800 rows of 800 clients, 600 with an outcome; 200 current clients"
        in capsys.readouterr().out
    )


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
    assert found["training"][-1]["elapsed_s"] == 7500.0
    assert len(found["ingestion"]) == 1
    assert found["trend"]["training"] == "7500.0 s, too few runs to compare"


def test_step_whose_cost_has_doubled_is_named_in_health_and_on_the_page(project):
    costs = [("a", 4.0), ("b", 4.0), ("c", 4.0), ("d", 9.0), ("e", 9.0), ("f", 9.0)]
    rows = [
        {"step": "assessment", "made": made, "elapsed_s": cpu_s, "cpu_s": cpu_s, "rows": 800}
        | {"started_at": "2999-01-01T00:00:00Z", "peak_mb": 123.4}
        for made, cpu_s in costs
    ]
    history.save(project.history, "steps", rows)
    (sentence,) = diagnose_again(project)["timings"]["doubled"]
    assert sentence.startswith("assessment: CPU time has grown from 4 s to 9 s")
    client = create_app(project).test_client()
    answer = client.get("/health").json
    assert "cost" in answer["complaints"]
    assert sentence in answer["warnings"]
    assert "123 MB" in client.get("/system").text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ([], "has not run yet"),
        ([3], "first run"),
        ([2, 2, 2, 2, 2, 2.4], "2.4 s, no change (median of 5 before: 2.0 s)"),
        ([2, 2, 2, 2, 2, 3], "3.0 s, +50% (median of 5 before: 2.0 s)"),
        ([2, 2, 2, 2, 3], "3.0 s, too few runs to compare"),
        ([9, 2, 2, 2, 2, 2, 1], "1.0 s, -50% (median of 5 before: 2.0 s)"),
        ([0] * 6, "0.0 s, no change (median of 5 before: 0.0 s)"),
    ],
)
def test_the_trend_of_durations_is_told_in_words(seconds, told):
    assert diagnostics.describe_trend([{"elapsed_s": s} for s in seconds]) == told


# ---- outdated packages


@pytest.fixture
def asked(project, monkeypatch):
    """What the index was asked, which nobody did before; it answers as `asked.answer` says."""

    class Asked(list):
        answer = ""

    found = Asked()

    def ask_index(names):
        found.append(names)
        return dict.fromkeys(names, found.answer) if found.answer else {}

    monkeypatch.setattr("attrition.operations.dependencies.ask_index", ask_index)
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
    asked.answer = "999.0"
    found = diagnose_again(project)["dependencies"]["packages"]
    assert {package["latest"] for package in found} == {"999.0"}
    count = len(found)
    assert diagnostics.run_diagnostics(project).outdated == (
        f"dependencies: {count} of {count} outdated"
    )


def test_an_index_that_answered_is_asked_at_most_once_a_day(project, asked):
    asked.answer = "999.0"
    first = diagnose_again(project)["dependencies"]
    count = len(asked)
    assert diagnose_again(project)["dependencies"] == first
    assert len(asked) == count > 1


def test_an_index_that_did_not_answer_is_asked_again_the_next_time(project, asked):
    diagnose_again(project)
    asked.answer = "999.0"
    assert diagnose_again(project)["dependencies"]["reachable"]


def test_a_damaged_answer_is_asked_again(project, asked):
    project.dependencies.write_bytes(b"{}")
    asked.answer = "999.0"
    assert diagnose_again(project)["dependencies"]["reachable"]


def test_answers_that_somebody_asked_for_are_taken_without_asking(project, asked):
    found = diagnose_again(project, latest=lambda: {"numpy": "999.0"})["dependencies"]
    outdated = [package["name"] for package in found["packages"] if package["outdated"]]
    assert outdated == ["numpy"]
    assert asked == []
