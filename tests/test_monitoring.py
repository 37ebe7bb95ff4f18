import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

import assessment
import deployment
import ingestion
import monitoring
import scoring
import training
from attrition import config_file
from attrition.config import Columns, Numeric
from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Damaged
from attrition.modelling import models
from attrition.monitoring import drift
from attrition.operations import releases
from attrition.rows import ledger
from attrition.storage import files, history
from tests.conftest import make_rows, read_rows, run_whole, write_config
from tests.support import reconfigure


def arrive(config, rows, name):
    """Deliver a file and read it in."""
    rows.to_csv(config.input_folder / name, index=False)
    ingestion.ingest_new_data(config)


def verdicts(config):
    return files.read_record(config.monitoring_record)


def settled(config):
    """The number of rows that the champion learned from, or was judged on and passed."""
    champion = releases.read_current(config.production_folder)
    known = files.read_arrays(champion.folder / releases.KNOWN_ROWS)
    arrays = files.read_arrays(config.settled_rows)
    return {name: len(np.union1d(known[name], arrays[name])) for name in ("labelled", "inputs")}


@pytest.fixture(scope="module")
def watched_folder(finished_folder, tmp_path_factory):
    """A finished project that was monitored once more, with its model; copied, never changed."""
    folder = tmp_path_factory.mktemp("watched") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    config.monitoring_record.unlink()
    monitoring.monitor_model(config)
    return folder


@pytest.fixture
def watched(watched_folder, tmp_path):
    shutil.copytree(watched_folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


def test_without_a_model_one_is_to_be_trained(empty_project):
    arrive(empty_project, make_rows(60), "a.csv")
    found = monitoring.monitor_model(empty_project)
    assert (found.retrain, found.triggers) == (True, ("no_model",))


def test_with_nothing_new_nothing_is_to_be_trained(watched):
    found = monitoring.monitor_model(watched)
    assert found.up_to_date
    assert (found.retrain, found.triggers) == (False, ())


def test_a_check_from_before_a_deployment_is_named_as_such(project):
    release = releases.current_id(project.production_folder)
    found = monitoring.monitor_model(project)
    assert found.up_to_date
    assert f"before {release} was deployed, which found: retraining needed" in found.summary()


def test_a_check_of_the_model_in_production_names_no_deployment(watched):
    assert "since the last check, which found: " in monitoring.monitor_model(watched).summary()


def test_the_open_rows_that_came_with_the_first_data_are_judged_and_settled(watched):
    assert verdicts(watched)["drift"]["rows"] == 200
    assert verdicts(watched)["drift"]["verdict"] == "stable"
    assert settled(watched) == {"labelled": 600, "inputs": 800}


def test_new_rows_of_the_same_law_are_fine_and_settled_once(watched):
    arrive(watched, make_rows(300, seed=9, prefix="new"), "new.csv")
    assert not monitoring.monitor_model(watched).retrain
    assert verdicts(watched)["performance"]["rows"] == 300
    assert settled(watched) == {"labelled": 900, "inputs": 1100}
    arrive(watched, make_rows(150, seed=10, prefix="newer"), "newer.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["rows"] == verdicts(watched)["drift"]["rows"] == 150


def test_too_few_rows_are_pooled_with_those_to_come(watched):
    arrive(watched, make_rows(60, seed=9, prefix="few"), "few.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["verdict"] == "insufficient"
    assert settled(watched) == {"labelled": 600, "inputs": 800}
    arrive(watched, make_rows(90, seed=10, prefix="more"), "more.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["rows"] == verdicts(watched)["drift"]["rows"] == 150
    assert settled(watched) == {"labelled": 750, "inputs": 950}


def test_an_outcome_that_arrives_for_a_known_client_is_new_truth_but_no_new_input(watched):
    arrive(watched, make_rows(200, seed=5, prefix="now"), "outcomes.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["rows"] == 200
    assert verdicts(watched)["performance"]["verdict"] == "fine"
    assert verdicts(watched)["drift"]["rows"] == 0


def test_rows_of_clients_who_were_reached_are_not_judged_in_an_experiment(watched):
    """The risks are those without a contact."""
    config = reconfigure(watched, experiment={})
    outcomes = make_rows(200, seed=5, prefix="now")
    reached = [Entry(f"now{i}", log.CONTACT, "Ann", log.REACHED) for i in range(150)]
    log.append(config.contact_log, reached, ledger.read_lines(config)[-1].ingested_at)
    outcomes.loc[:149, "exited"] = 0
    arrive(config, outcomes, "outcomes.csv")
    monitoring.monitor_model(config)
    assert verdicts(config)["performance"]["rows"] == 50
    assert verdicts(config)["suspicious"] == []
    assert len(files.read_arrays(config.settled_rows)[releases.WAITING]) == 0
    assert settled(config)["labelled"] == 750  # 50 are too few to settle
    arrive(config, make_rows(100, seed=6, prefix="more"), "more.csv")
    monitoring.monitor_model(config)
    assert verdicts(config)["performance"]["rows"] == 150
    assert settled(config)["labelled"] == 900


def test_one_delivery_that_contradicts_the_model_is_named_and_waits(watched):
    arrive(watched, make_rows(300, seed=9, prefix="new", signal=-2.0), "new.csv")
    result = monitoring.monitor_model(watched)
    assert (result.retrain, result.triggers) == (False, ())
    [suspicious] = verdicts(watched)["suspicious"]
    assert (suspicious["source"], suspicious["rows"]) == ("new.csv", 300)
    assert suspicious["sentence"] in result.summary()
    assert verdicts(watched)["performance"]["rows"] == 0
    assert settled(watched) == {"labelled": 600, "inputs": 800}
    assert len(files.read_arrays(watched.settled_rows)[releases.WAITING]) == 300


def test_two_deliveries_that_contradict_the_model_ask_for_training(watched):
    for name, seed in (("one", 9), ("two", 10)):
        rows = make_rows(200, seed=seed, prefix=name, signal=-2.0)
        arrive(watched, rows, f"{name}.csv")
        result = monitoring.monitor_model(watched)
    assert result.triggers[0] == "degraded"
    assert result.retrain
    assert verdicts(watched)["suspicious"] == []
    assert verdicts(watched)["performance"]["rows"] == 400
    assert len(files.read_arrays(watched.settled_rows)[releases.WAITING]) == 0


def test_suspicious_delivery_counts_if_a_person_accepts_it(watched):
    arrive(watched, make_rows(300, seed=9, prefix="new", signal=-2.0), "new.csv")
    monitoring.monitor_model(watched)
    with pytest.raises(AttritionError, match=r"other\.csv: is not .* these are: new\.csv"):
        ingestion.ingest_new_data(watched, accept_source="other.csv")
    ingestion.ingest_new_data(watched, accept_source="new.csv")
    result = monitoring.monitor_model(watched)
    assert verdicts(watched)["suspicious"] == []
    assert verdicts(watched)["performance"]["verdict"] == "degraded"
    assert result.triggers == ("degraded",)
    assert list(files.read_record(watched.ingestion_record)["accepted"]) == ["new.csv"]


def test_first_outcomes_of_a_cohort_are_neither_judged_nor_learned_from(watched):
    """20 of the 200 open clients, nearly all of whom left."""
    rows = make_rows(200, seed=5, prefix="now")
    left, stayed = rows[rows["exited"] == 1], rows[rows["exited"] == 0]
    assert len(left) > 17
    arrive(watched, pd.concat([left[:18], stayed[:2]]), "first.csv")
    result = monitoring.monitor_model(watched)
    assert not result.retrain
    assert verdicts(watched)["performance"]["rows"] == 0
    assert result.performance == "none of the 20 new outcomes is mature yet"
    assert "20 of 200 outcomes known, 18 of them left; judged when complete" in result.summary()
    assert len(files.read_arrays(watched.settled_rows)[releases.WAITING]) == 20
    arrive(watched, rows, "all.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["rows"] == 200
    assert verdicts(watched)["performance"]["verdict"] == "fine"


def test_an_outcome_is_held_against_the_estimate_once(watched):
    rows = []
    for name, seed in (("one", 9), ("two", 10)):
        arrive(watched, make_rows(200, seed=seed, prefix=name, signal=-2.0), f"{name}.csv")
        monitoring.monitor_model(watched)
        rows += [{check["rows"] for check in verdicts(watched)["estimator"]}]
    assert rows == [{200}, {200}]
    kept = history.read_estimates(watched.history)
    assert len(kept) == 2 * len(verdicts(watched)["estimator"])
    assert {row["rows"] for row in kept} == {200}


def test_input_that_moved_is_named(watched):
    rows = make_rows(300, seed=9, prefix="new").assign(exited="")
    rows["lastmonth_activity"] += 400
    arrive(watched, rows, "new.csv")
    found = monitoring.monitor_model(watched)
    assert found.triggers == ("input_moved",)
    assert "data has drifted: predicted risk, lastmonth_activity" in found.drift
    assert settled(watched)["inputs"] == 800


def test_input_that_the_model_hardly_goes_by_is_named_and_no_reason_to_train(watched):
    rows = make_rows(300, seed=9, prefix="new").assign(exited="")
    rows["number_of_employees"] += 400
    arrive(watched, rows, "new.csv")
    found = monitoring.monitor_model(watched)
    assert (found.retrain, found.triggers) == (False, ())
    assert "number_of_employees drifted, but has little importance to the model" in found.drift


def month(number):
    """150 clients in a month of 2025, whose tenure grows."""
    clients = make_rows(150)[["corporation", "lastmonth_activity", "exited"]]
    return clients.assign(tenure=np.arange(150) % 24 + number, seen=f"2025-{number:02}-01")


@pytest.fixture(scope="module")
def dated_folder(tmp_path_factory):
    """A project whose rows have times, with a model; copied, never changed."""
    columns = {
        "client": "corporation",
        "outcome": "exited",
        "numeric": ["lastmonth_activity", "tenure"],
        "time": "seen",
    }
    config = write_config(tmp_path_factory.mktemp("dated"), columns=columns)
    arrive(config, pd.concat(map(month, range(1, 4))), "old.csv")
    for step in (training.train_model, scoring.score_model, deployment.deploy_model):
        step(config)
    return config.file.parent


@pytest.fixture
def dated(dated_folder, tmp_path):
    shutil.copytree(dated_folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


def test_clients_who_grow_older_are_no_drift_if_the_times_are_known(dated):
    arrive(dated, month(12).assign(exited=""), "new.csv")
    monitoring.monitor_model(dated)
    assert verdicts(dated)["drift"]["rows"] == 150
    assert "tenure: compared along its trend, +1" in verdicts(dated)["drift"]["sentence"]
    columns = {column["column"]: column for column in verdicts(dated)["drift"]["columns"]}
    assert columns["tenure"]["verdict"] == "stable"


def test_judged_outcomes_wait_again_if_most_of_their_month_turns_out_to_be_open(dated):
    """Open rows that later ones of the same clients have replaced do not count."""
    arrive(dated, month(11).assign(exited=""), "open.csv")
    arrive(dated, month(11), "outcomes.csv")
    monitoring.monitor_model(dated)
    assert verdicts(dated)["performance"]["rows"] == 150
    more = month(11).assign(exited="", corporation=lambda rows: "more " + rows["corporation"])
    arrive(dated, more.head(40), "more.csv")
    monitoring.monitor_model(dated)
    *_, november = verdicts(dated)["cohorts"]
    assert november["name"] == "2025-11"
    assert (november["known"], november["rows"], november["mature"]) == (150, 190, False)
    assert len(files.read_arrays(dated.settled_rows)[releases.WAITING]) == 150
    later = more.assign(seen="2025-12-01", tenure=more["tenure"] + 1)
    arrive(dated, later.head(30), "later.csv")
    monitoring.monitor_model(dated)
    november, _ = verdicts(dated)["cohorts"][-2:]
    assert (november["rows"], november["mature"]) == (190, True)
    assert len(files.read_arrays(dated.settled_rows)[releases.WAITING]) == 0


def test_twice_the_rows_are_a_reason_to_train(watched):
    arrive(watched, make_rows(600, seed=9, prefix="new"), "new.csv")
    found = monitoring.monitor_model(watched)
    assert (found.retrain, found.triggers) == (True, ("more_rows",))


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: data[:-30], lambda data: b"x" * 50]
)
def test_where_the_settled_rows_are_damaged_all_since_the_deployment_is_judged_again(
    watched, spoil, caplog
):
    arrive(watched, make_rows(300, seed=9, prefix="new"), "new.csv")
    monitoring.monitor_model(watched)
    watched.settled_rows.write_bytes(spoil(watched.settled_rows.read_bytes()))
    assert not monitoring.monitor_model(watched).up_to_date
    assert verdicts(watched)["performance"]["rows"] == 300
    assert settled(watched) == {"labelled": 900, "inputs": 1100}
    assert "judged again" in caplog.text


def test_where_the_verdict_is_damaged_all_since_the_deployment_is_judged_again(watched):
    watched.monitoring_record.write_bytes(b"{}")
    assert not monitoring.monitor_model(watched).up_to_date
    assert verdicts(watched)["drift"]["rows"] == 200


def test_rows_that_came_after_a_restored_backup_are_judged(watched, tmp_path):
    shutil.copytree(watched.output_folder, tmp_path / "rows")
    shutil.copy(watched.history, tmp_path / "history")
    arrive(watched, make_rows(300, seed=9, prefix="lost"), "lost.csv")
    monitoring.monitor_model(watched)
    shutil.rmtree(watched.output_folder)
    shutil.copytree(tmp_path / "rows", watched.output_folder)
    shutil.copy(tmp_path / "history", watched.history)
    (watched.input_folder / "lost.csv").unlink()
    arrive(watched, make_rows(300, seed=10, prefix="new"), "new.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["performance"]["rows"] == 300


def test_a_damaged_model_has_no_verdict(watched):
    model = watched.production_folder / "trainedmodel.skops"
    model.write_bytes(model.read_bytes()[:-1])
    watched.monitoring_record.unlink()
    with pytest.raises(Damaged, match="roll back"):
        monitoring.monitor_model(watched)


def test_columns_that_the_model_does_not_know_are_a_reason_for_a_new_one(watched):
    columns = Columns(numeric=(Numeric("lastmonth_activity"), Numeric("number_of_employees")))
    found = monitoring.monitor_model(dataclasses.replace(watched, columns=columns))
    assert found.triggers == ("no_model",)


def test_the_auc_at_deployment_is_that_of_the_rows_nobody_was_trained_on(watched):
    champion = releases.read_current(watched.production_folder)
    expected = champion.score["sets"]["unseen"]["candidate"]["roc_auc"]["value"]
    assert monitoring._reference_auc(champion).value == expected


def test_an_auc_of_too_few_rows_is_not_held_against_the_model(watched):
    champion = releases.read_current(watched.production_folder)
    few = {name: {"rows": 99} for name in ("unseen", "test")}
    champion = dataclasses.replace(champion, score={"sets": few})
    assert monitoring._reference_auc(champion).value is None


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
    final = read_rows(config)
    reference = releases.read_reference(champion)
    look = drift.compare_clients(
        reference, final, models.predict(releases.load_model(champion), final), champion.training
    )
    assert look.verdict == "stable"
    assert {column.column for column in look.columns} >= {"lastmonth_activity", "size", "trade"}


def test_delivery_in_other_units_is_named_and_its_clients_keep_their_risk(watched):
    """The activity of known clients times 100, as an export in other units has it."""
    assessment.assess_clients(watched)
    before = pd.read_csv(watched.risk_scores).set_index("client")["risk"]
    rows = make_rows(200, seed=5, prefix="now").assign(exited="")
    rows["lastyear_activity"] *= 100
    arrive(watched, rows, "cents.csv")
    result = monitoring.monitor_model(watched)
    [one] = verdicts(watched)["other_units"]
    assert (one["source"], one["column"], one["rows"]) == ("cents.csv", "lastyear_activity", 200)
    assert one["factor"] == pytest.approx(100, rel=0.3)
    assert one["sentence"] in result.summary()
    assert result.triggers == ()
    assessment.assess_clients(watched)
    after = pd.read_csv(watched.risk_scores).set_index("client")
    pd.testing.assert_series_equal(after["risk"], before)
    assert after["low_confidence"].str.contains("looks like another unit").all()
    ingestion.ingest_new_data(watched, accept_source="cents.csv")
    monitoring.monitor_model(watched)
    assert verdicts(watched)["other_units"] == []
    assessment.assess_clients(watched)
    assert not pd.read_csv(watched.risk_scores).set_index("client")["risk"].equals(before)


def test_only_rows_since_the_last_check_are_read_with_the_same_verdicts(
    watched, tmp_path, monkeypatch
):
    """A copy that compares the ids of all rows, as if they had been ingested anew, finds the same."""
    shutil.copytree(watched.file.parent, tmp_path / "copy", symlinks=True)
    other = config_file.load(tmp_path / "copy" / "config.json")
    others = make_rows(80, seed=7, prefix="late").assign(exited="")
    current = make_rows(200, seed=5, prefix="now")
    deliveries = [
        make_rows(60, seed=9, prefix="few").assign(exited=""),  # too few: pooled
        current.head(30),  # early outcomes wait
        pd.concat([others, make_rows(60, seed=9, prefix="few").head(20)]),
        make_rows(200, seed=11, prefix="odd", signal=-2.0),  # contradicts the model
        make_rows(150, seed=12, prefix="moved").assign(exited="", lastmonth_activity=5000),
        current,
        current.tail(1).assign(exited=lambda rows: 1 - rows["exited"]),  # corrected
    ]
    read, counted, verdicts_of = [], [], {}
    read_rows, read_groups = monitoring.ledger.read_rows, monitoring.read_groups

    def remember(config, names, **limits):
        rows = read_rows(config, names, **limits)
        if config.file == watched.file and "lastmonth_activity" in names:
            read.append(len(rows))
        return rows

    def remember_groups(config, numbers):
        counted.append(config.file)
        return read_groups(config, numbers)

    monkeypatch.setattr(monitoring.ledger, "read_rows", remember)
    monkeypatch.setattr(monitoring, "read_groups", remember_groups)
    for number, rows in enumerate(deliveries):
        monkeypatch.setattr(
            files, "utc_now", lambda number=number: f"2027-01-0{number + 1}T00:00:00Z"
        )
        for config in (watched, other):
            arrive(config, rows, f"{number}.csv")
            with monkeypatch.context() as patch:
                if config is other:
                    patch.setattr(monitoring.ledger, "read_lineage", lambda _: None)
                monitoring.monitor_model(config)
            record = verdicts(config) | {"settled": settled(config)}
            for name in ("inputs", "lineage", "outputs", "seal", "checked_at"):
                record.pop(name)
            verdicts_of[config.file] = record
        assert verdicts_of[watched.file] == verdicts_of[other.file], number
        waiting = [
            files.read_arrays(config.settled_rows)[releases.WAITING] for config in (watched, other)
        ]
        assert sorted(waiting[0]) == sorted(waiting[1])
    assert read == [60, 30, 100, 200, 150, 170, 1]
    assert counted == [watched.file] * 4  # only if earlier rows have been replaced
