import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import ingestion
import training
from attrition import config_file
from attrition.config import Columns, Experiment, Numeric
from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Leakage, TooLittleData
from attrition.modelling import calibration, models, persistence, selection
from attrition.monitoring import updating
from attrition.operations import releases
from attrition.rows import ledger, typed_rows
from attrition.storage import files, tables
from tests.conftest import ingest_rows, make_rows, read_rows, write_config
from tests.support import row_ids

COLUMNS = Columns(client="client", outcome="left", numeric=(Numeric("a"),), categorical=("b",))


def table(clients, a, b, left=None):
    made = pd.DataFrame({"client": list(clients), "a": np.array(a, float), "b": list(b)})
    return made.assign(left=0.0 if left is None else left)


def with_data(tmp_path, rows, **settings):
    """A project whose ingestion wrote these rows."""
    config = write_config(tmp_path, **settings)
    ingest_rows(config, rows)
    return config


def record(config):
    return files.read_record(config.training_record)


def is_held_out(config, rows):
    return typed_rows.held_out(typed_rows.client_hashes(rows["corporation"]), config.held_out_share)


@pytest.fixture
def spied(monkeypatch):
    """The positions of the rows that each model was fitted on."""
    seen, real = [], models.fit

    def fit(model, rows, outcome, weight):
        seen.append(rows.index.to_numpy())
        return real(model, rows, outcome, weight)

    monkeypatch.setattr(models, "fit", fit)
    return seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose candidate was trained on 600 rows, and the result; copied, never changed."""
    config = with_data(tmp_path_factory.mktemp("trained"), make_rows(600))
    return config, training.train_model(config)


@pytest.fixture
def champion(trained, tmp_path):
    """A copy of the project whose candidate was trained on 600 rows."""
    return copy_of(trained[0], tmp_path)


@pytest.fixture(scope="module")
def quickly_trained(tmp_path_factory):
    """A project whose candidate was trained on 100 rows; copied, never changed."""
    config = with_data(tmp_path_factory.mktemp("quickly_trained"), make_rows(100))
    training.train_model(config)
    return config


@pytest.fixture
def hundred(quickly_trained, tmp_path):
    """A copy of the project whose candidate was trained on 100 rows."""
    return copy_of(quickly_trained, tmp_path)


def copy_of(config, folder):
    shutil.copytree(config.file.parent, folder, dirs_exist_ok=True)
    return config_file.load(folder / "config.json")


# ---- compute


def test_features_that_say_nothing_are_left_out_with_a_reason():
    rows = pd.DataFrame(
        {"client": list("pqr"), "a": [3.0] * 3, "b": ["", "", ""], "c": [1.0, 1, 2]}
    )
    columns = Columns(client="client", numeric=(Numeric("a"), Numeric("c")), categorical=("b",))
    kept, dropped = training.usable_features(rows, columns)
    assert kept == ["c"]
    assert dropped == {"a": "always 3", "b": "never has a value"}


def test_a_constant_that_is_sometimes_missing_says_something():
    kept, _ = training.usable_features(table("pqr", [3, 3, np.nan], ["x", "", "x"]), COLUMNS)
    assert kept == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "left", "told"),
    [
        (49, 20, "little more than the base rate"),
        (200, 9, "little more than the base rate"),
        (200, 195, "little more than the base rate"),
        (399, 150, "treat the risks as approximate"),
        (1000, 99, "treat the risks as approximate"),
    ],
)
def test_little_data_is_told(rows, left, told):
    (warning,) = training.warn_if_few_rows(rows, left)
    assert told in warning
    assert f"{rows} labelled rows ({left} left)" in warning


def test_enough_data_is_no_warning():
    assert training.warn_if_few_rows(400, 100) == []


def changed_law(n=600):
    """The first two thirds by one law, the rest by its opposite."""
    old, new = make_rows(2 * n // 3, seed=1), make_rows(n // 3, seed=2, prefix="d")
    return pd.concat([old, new.assign(exited=1 - new["exited"])], ignore_index=True)


# ---- the step


def test_a_candidate_is_trained_and_its_files_are_written(trained):
    config, found = trained
    assert found.kind in models.SIMPLEST_FIRST[1:]
    assert not found.up_to_date
    assert sorted(path.name for path in config.model_folder.iterdir()) == sorted(
        path.name
        for path in (
            *(config.candidate, config.evaluation_model, config.reference),
            *(config.known_rows, config.training_record),
        )
    )


def test_the_second_call_does_nothing(tmp_path, spied):
    config = with_data(tmp_path, make_rows(100))
    first = training.train_model(config)
    fitted, times = len(spied), config.candidate.stat().st_mtime_ns
    second = training.train_model(config)
    assert second.up_to_date
    assert second.seal == first.seal
    assert (len(spied), config.candidate.stat().st_mtime_ns) == (fitted, times)


@pytest.mark.parametrize(
    "name", ["candidate", "evaluation_model", "reference", "known_rows", "training_record"]
)
def test_a_damaged_file_is_made_again(hundred, name):
    before = getattr(hundred, name).read_bytes()
    getattr(hundred, name).write_bytes(before[:-9])
    assert not training.train_model(hundred).up_to_date
    assert training.train_model(hundred).up_to_date


def test_the_same_rows_give_the_same_files(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    made = [with_data(tmp_path / folder, make_rows(100)) for folder in ("one", "two")]
    outputs = []
    for config in made:
        training.train_model(config)
        outputs.append(record(config)["outputs"])
    assert outputs[0] == outputs[1]


def test_only_the_served_model_is_trained_on_held_out_clients(tmp_path, spied):
    rows = make_rows(300)
    rows["corporation"] = [f"c{i // 2}" for i in range(300)]
    config = with_data(tmp_path, rows)
    training.train_model(config)
    held_out = np.flatnonzero(is_held_out(config, rows))
    assert 30 < len(held_out) < 90
    served = len(record(config)["parts"])
    assert not np.isin(np.concatenate(spied[:-served]), held_out).any()
    assert all(len(rows) == 300 for rows in spied[-served:])
    assert record(config)["held_out_rows"] == len(held_out)


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    """A project that trains 900 rows, of which 90 left, on a sample of them."""
    monkeypatch.setattr(training, "SIZES", (100, 200, 400))
    monkeypatch.setattr(training, "MIN_SAMPLE", 100)
    rows = make_rows(900)
    stays = (rows["exited"] == 1) & (np.arange(900) % 5 > 0)
    rows["exited"] = np.where(stays, 0, rows["exited"])
    return with_data(tmp_path, rows), rows


def test_a_sample_is_described_and_its_risks_have_the_level_of_all_rows(sampled):
    config, rows = sampled
    training.train_model(config)
    made, known = record(config), files.read_arrays(config.known_rows)
    left, drawn = int(rows["exited"].sum()), made["sample"]
    assert (made["rows"], made["left"], made["labelled"]) == (900, left, 900)
    assert drawn["left"] / drawn["rows"] > 1.5 * left / 900
    assert drawn["chosen"] in training.SIZES
    assert [point["size"] for point in drawn["points"]] == [*training.SIZES][: len(drawn["points"])]
    assert len(known["labelled"]) == 900
    assert len(known["judged"]) < drawn["rows"]
    risk = models.predict(persistence.loads(config.candidate.read_bytes()), rows)
    assert risk.mean() == pytest.approx(left / 900, rel=0.2)
    assert known["judged_risk"].mean() == pytest.approx(left / 900, rel=0.35)
    assert tables.read_texts(config.reference)["exited"].astype(float).mean() < 2 * left / 900


def test_a_sample_does_not_depend_on_the_parts_that_it_is_read_in(sampled, monkeypatch):
    config, _ = sampled
    training.train_model(config)
    outputs = record(config)["outputs"]
    ends = [0, 2**62, 2**63, 2**64]
    parts = [ledger.Part(low, high) for low, high in pairwise(ends)]
    monkeypatch.setattr(ledger, "split_rows", lambda config: parts)
    config.training_record.unlink()
    training.train_model(config)
    assert record(config)["outputs"] == outputs


def test_the_evaluation_model_depends_on_no_value_of_held_out_clients(tmp_path):
    rows = make_rows(300)
    config = with_data(tmp_path, rows)
    training.train_model(config)
    evaluation, served = config.evaluation_model.read_bytes(), config.candidate.read_bytes()
    chosen = record(config)["candidates"]
    held_out = is_held_out(config, rows)
    rows.loc[held_out, "exited"] = 1 - rows.loc[held_out, "exited"]
    rows.loc[held_out, "lastmonth_activity"] += 7
    ingest_rows(config, rows)
    training.train_model(config)
    assert config.evaluation_model.read_bytes() == evaluation
    assert record(config)["candidates"] == chosen
    assert config.candidate.read_bytes() != served


def test_what_is_known_only_of_held_out_clients_decides_no_choice(tmp_path):
    rows = make_rows(600)
    config = with_data(tmp_path, rows)
    held_out = is_held_out(config, rows)
    rng = np.random.default_rng(0)
    rows["exited"] = (rng.random(600) < 0.3).astype(int)
    rows.loc[held_out, "exited"] = (rows.loc[held_out, "lastmonth_activity"] < 40).astype(int)
    ingest_rows(config, rows)
    assert training.train_model(config).kind == models.BASE_RATE


def test_open_rows_are_not_learned_from(tmp_path, spied):
    rows = pd.concat([make_rows(100), make_rows(50, seed=5, prefix="now").assign(exited="")])
    config = with_data(tmp_path, rows)
    found = training.train_model(config)
    assert found.rows == record(config)["labelled"] == 100
    assert max(map(len, spied)) == 100


def test_a_constant_column_is_left_out_and_told(tmp_path):
    config = with_data(tmp_path, make_rows(100).assign(number_of_employees=7))
    found = training.train_model(config)
    assert "column number_of_employees is left out: always 7" in found.warnings
    assert "number_of_employees" not in record(config)["features"]["numeric"]


def test_a_column_that_is_nearly_always_missing_is_no_trouble(tmp_path):
    rows = make_rows(300)
    rows["number_of_employees"] = rows["number_of_employees"].where(rows.index < 2)
    config = with_data(tmp_path, rows)
    found = training.train_model(config)
    assert found.kind in models.SIMPLEST_FIRST
    assert record(config)["missing_seen"] == ["number_of_employees"]


def test_the_record_tells_the_range_of_every_number(tmp_path):
    rows = make_rows(300)
    rows["number_of_employees"] = rows["number_of_employees"].where(rows.index % 3 > 0)
    config = with_data(tmp_path, rows)
    training.train_model(config)
    for name, (low, high) in record(config)["ranges"].items():
        assert (low, high) == (rows[name].min(), rows[name].max())


def test_the_record_tells_how_much_the_model_goes_by_each_column(trained):
    config, _ = trained
    shares = record(config)["importance"]
    assert set(shares) == set(record(config)["features"]["numeric"])
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["number_of_employees"] < 0.2


@pytest.mark.parametrize(("label", "word"), [(0, "stayed"), (1, "left")])
def test_one_class_is_too_little_and_says_what_is_needed(tmp_path, label, word):
    config = with_data(tmp_path, make_rows(100).assign(exited=label))
    with pytest.raises(TooLittleData, match=f"clients to learn from {word}; training needs"):
        training.train_model(config)
    assert not config.candidate.exists()


def test_no_outcome_at_all_says_what_to_add(tmp_path):
    config = with_data(tmp_path, make_rows(20).assign(exited=""))
    with pytest.raises(
        TooLittleData, match=r"finaldata\.parquet: no row .* add rows of clients who left"
    ):
        training.train_model(config)


def test_no_data_says_what_to_run(empty_project):
    with pytest.raises(AttritionError, match=r"run ingestion\.py first"):
        training.train_model(empty_project)


def test_clients_that_are_all_alike_are_nothing_to_learn_from(tmp_path):
    rows = make_rows(100)
    rows[["lastmonth_activity", "lastyear_activity", "number_of_employees"]] = 5
    with pytest.raises(TooLittleData, match="no feature differs"):
        training.train_model(with_data(tmp_path, rows))


def leaking(tmp_path, **settings):
    """A project whose number of employees was set to nought when a client left."""
    rows = make_rows(300)
    rows["number_of_employees"] = rows["number_of_employees"].where(rows["exited"] == 0, 0)
    return with_data(tmp_path, rows, **settings)


def test_a_column_that_knows_the_outcome_is_named_and_refused(tmp_path):
    config = leaking(tmp_path)
    with pytest.raises(Leakage, match="number_of_employees alone predicts who left") as refused:
        training.train_model(config)
    assert "columns.ignore" in str(refused.value)
    assert "--accept-leakage" in str(refused.value)
    assert not config.candidate.exists()


def test_a_column_that_knows_the_outcome_may_be_accepted_by_name(tmp_path):
    config = leaking(tmp_path, accept_leakage=["number_of_employees"])
    assert any("alone predicts" in warning for warning in training.train_model(config).warnings)
    assert [sign["column"] for sign in record(config)["signs"]] == ["number_of_employees"]


def test_the_flag_accepts_what_looks_like_leakage(tmp_path, capsys):
    config = leaking(tmp_path)
    assert training.main(["--config", str(config.file)]) == 1
    assert "number_of_employees alone predicts who left" in capsys.readouterr().err
    assert training.main(["--config", str(config.file), "--accept-leakage"]) == 0


def test_where_nothing_tells_who_leaves_it_says_so(tmp_path):
    rows = make_rows(700)
    rows["exited"] = (np.random.default_rng(3).random(700) < 0.3).astype(int)
    found = training.train_model(with_data(tmp_path, rows))
    assert found.kind == models.BASE_RATE
    assert any(warning.startswith("no usable signal") for warning in found.warnings)


@pytest.mark.parametrize("n", [26, 60])
def test_few_rows_are_trained_with_a_warning(tmp_path, n):
    config = with_data(tmp_path, make_rows(n))
    found = training.train_model(config)
    assert found.rows <= n
    assert any("until there are" in warning for warning in found.warnings)
    assert "note: " in found.summary()


def test_one_who_left_is_the_least_that_can_be_learned_from(tmp_path):
    rows = make_rows(40).assign(exited=0)
    config = with_data(tmp_path, rows)
    rows.loc[int(np.flatnonzero(~is_held_out(config, rows))[0]), "exited"] = 1
    ingest_rows(config, rows)
    found = training.train_model(config)
    assert (found.kind, found.left) == (models.BASE_RATE, 1)


def test_the_record_tells_every_candidate_and_the_chosen_one(tmp_path):
    config = with_data(tmp_path, make_rows(400))
    found = training.train_model(config)
    told = record(config)["candidates"]
    assert [one["name"] for one in told] == models.candidates(found.rows, found.left)
    assert [one["name"] for one in told if one["chosen"]] == [found.kind]
    assert all(one["log_loss"] > 0 and one["standard_error"] > 0 for one in told)


def test_the_reference_holds_the_rows_and_the_risks_of_models_that_never_saw_them(trained):
    config, found = trained
    reference = pd.read_csv(config.reference)
    assert len(reference) == found.rows
    assert reference["predicted risk"].between(0, 1).all()
    assert reference["predicted risk"].corr(reference["lastmonth_activity"] < 40) > 0.3


def test_the_reference_risk_of_a_base_rate_is_the_one_that_it_gives_to_everybody(tmp_path):
    """Each fold has another rate; compared with one risk for all it would look like drift."""
    config = with_data(tmp_path, make_rows(60).assign(exited=[i % 7 == 0 for i in range(60)]))
    assert training.train_model(config).kind == models.BASE_RATE
    reference = pd.read_csv(config.reference)
    served = models.predict(persistence.loads(config.candidate.read_bytes()), reference)
    assert reference["predicted risk"].tolist() == served.tolist()


def test_the_reference_risk_of_a_held_out_client_is_that_of_the_evaluation_model(trained):
    config, _ = trained
    reference = pd.read_csv(config.reference)[is_held_out(config, make_rows(600))]
    model = persistence.loads(config.evaluation_model.read_bytes())
    expected = models.predict(model, reference)
    assert reference["predicted risk"].to_numpy() == pytest.approx(expected, abs=1e-12)


def test_every_labelled_row_is_known_from_now_on(quickly_trained):
    known = files.read_arrays(quickly_trained.known_rows)
    ids = row_ids(read_rows(quickly_trained), quickly_trained.columns)
    assert np.isin(ids, known["labelled"]).all()
    assert len(known["inputs"]) == 100


CANDIDATE = (releases.MODEL, releases.EVALUATION_MODEL, releases.TRAINING, releases.REFERENCE)


def write_verdict(config, settled, *triggers, before_change=()):
    """Let monitoring have judged a champion, with these rows from before the truth moved.

    The champion is the candidate, if there is one.
    """
    typed = typed_rows.typed(settled.astype(str), config.columns)
    ids = [row_ids(typed, config.columns), typed_rows.input_ids(typed, config.columns)]
    known = {"labelled": ids[0], "inputs": ids[1]}
    earlier = ids[0][list(before_change)]
    record = files.encode(files.sealed({}))
    contents = dict.fromkeys((releases.TRAINING, releases.SCORE), record)
    contents |= {releases.MODEL: b"", releases.CARD: b""}
    if config.training_record.is_file():
        contents |= {name: (config.model_folder / name).read_bytes() for name in CANDIDATE}
    contents[releases.KNOWN_ROWS] = files.arrays_bytes(**known, before_change=earlier)
    manifest = {"deployed_at": files.utc_now()}
    release_id = releases.create(config.production_folder, contents, manifest)
    releases.activate(config.production_folder, release_id)
    files.commit(
        config.monitoring_record,
        {config.settled_rows: files.arrays_bytes(**known, waiting=np.array([], "uint64"))},
        {"triggers": list(triggers), "deliveries": 2},
    )


def contradicted(config, rows, new):
    """Deploy the candidate that was trained on the rows, and deliver rows that contradict it."""
    write_verdict(config, rows, "degraded")
    new.to_csv(config.input_folder / "new.csv", index=False)
    ingestion.ingest_new_data(config)
    return config


def test_concept_drift_is_learned_from_older_rows_with_less_weight(tmp_path):
    rows = changed_law(1500)
    config = with_data(tmp_path, rows.head(1000))
    training.train_model(config)
    contradicted(config, rows.head(1000), rows.tail(500))
    training.train_model(config)
    made = record(config)
    assert made["update"]["name"] == made["window"] == selection.OLDER_WEIGHTED
    assert (made["recent"], made["triggers"]) == (500, ["degraded"])
    assert len(files.read_arrays(config.known_rows)["before_change"]) == 1000


def test_another_level_is_learned_by_the_intercept_of_the_champion(champion):
    """Of those who stayed a third left: the order is the same, and so are the parts of the model."""
    new = make_rows(400, seed=5, prefix="new")
    stayed = new.index[new["exited"] == 0]
    new.loc[np.random.default_rng(0).permutation(stayed)[: len(stayed) // 3], "exited"] = 1
    config = contradicted(champion, make_rows(600), new)
    release = releases.read_current(config.production_folder)
    training.train_model(config)
    made = record(config)
    assert made["update"]["name"] in updating.RECALIBRATIONS
    assert made["update"]["champion"] == release.id
    for name in ("kind", "rows", "held_out_rows"):
        assert made[name] == release.training[name]
    candidate = persistence.loads(config.candidate.read_bytes())
    risk = models.predict(candidate, new)
    before = models.predict(releases.load_model(release), new)
    assert (np.argsort(risk, kind="stable") == np.argsort(before, kind="stable")).all()
    assert risk.mean() == pytest.approx(new["exited"].mean(), rel=0.1)
    assert before.mean() < 0.8 * new["exited"].mean()


def test_champion_that_is_not_contradicted_after_all_is_the_candidate(champion):
    config = contradicted(champion, make_rows(600), make_rows(300, seed=5, prefix="new"))
    before = config.candidate.read_bytes(), config.evaluation_model.read_bytes()
    training.train_model(config)
    assert record(config)["update"]["name"] == updating.CHAMPION
    assert (config.candidate.read_bytes(), config.evaluation_model.read_bytes()) == before


def test_update_is_compared_by_the_risks_of_the_evaluation_model(champion):
    config = contradicted(champion, make_rows(600), make_rows(300, seed=5, prefix="new"))
    training.train_model(config)
    rows, known = read_rows(config), files.read_arrays(config.known_rows)
    rows = rows.set_index(typed_rows.ROW_ID).loc[known[releases.JUDGED]]
    expected = models.predict(persistence.loads(config.evaluation_model.read_bytes()), rows)
    assert known[releases.JUDGED_RISK] == pytest.approx(expected)


def test_outcomes_that_wait_are_not_learned_from(tmp_path):
    rows = make_rows(300)
    config = with_data(tmp_path, rows)
    ids = read_rows(config)
    waiting = row_ids(ids, config.columns)[:100]
    contents = {config.settled_rows: files.arrays_bytes(waiting=waiting)}
    files.commit(config.monitoring_record, contents, {"triggers": ["no_model"]})
    training.train_model(config)
    assert record(config)["labelled"] == 200
    assert not np.isin(waiting, files.read_arrays(config.known_rows)["labelled"]).any()


def test_rows_are_older_by_the_changes_that_came_after_them(tmp_path):
    rows = make_rows(100)
    config = with_data(tmp_path, rows)
    write_verdict(config, rows.head(60), "degraded", before_change=range(20))
    labelled = read_rows(config)
    expected = [selection.ANCIENT] * 20 + [selection.OLDER] * 40 + [selection.RECENT] * 40
    assert training.find_age(config, labelled).tolist() == expected


def test_a_change_of_the_truth_is_remembered_by_the_champion_that_was_trained_after_it(tmp_path):
    rows = make_rows(100)
    config = with_data(tmp_path, rows)
    write_verdict(config, rows, "more_rows", before_change=range(20))
    labelled = read_rows(config)
    expected = [selection.OLDER] * 20 + [selection.RECENT] * 80
    assert training.find_age(config, labelled).tolist() == expected


def test_another_verdict_of_monitoring_is_another_training(hundred):
    write_verdict(hundred, make_rows(100), "input_moved")
    assert not training.train_model(hundred).up_to_date
    assert record(hundred)["window"] == selection.ALL_ROWS


@pytest.mark.parametrize("since", [0, 10])
def test_too_little_since_the_change_does_not_stop_training(tmp_path, since):
    rows = make_rows(200)
    rows.loc[190:, "exited"] = 1
    config = with_data(tmp_path, rows)
    write_verdict(config, rows.head(200 - since), "degraded")
    assert training.train_model(config).rows > 100


TIMED = {
    "client": "corporation",
    "outcome": "exited",
    "numeric": ["lastmonth_activity", "lastyear_activity", "number_of_employees"],
    "time": "observed_on",
}


def test_with_times_the_future_is_held_against_the_past(tmp_path):
    rows = make_rows(1000)
    rows["observed_on"] = [f"2026-{1 + i // 100:02}-01" for i in range(1000)]
    rows.loc[800:, "exited"] = (rows.loc[800:, "number_of_employees"] < 200).astype(int)
    config = with_data(tmp_path, rows, columns=TIMED)
    found = training.train_model(config)
    told = record(config)["temporal"]
    assert (told["validated"], told["harder"], told["cut"]) == (True, True, "2026-09-01")
    assert any(warning.startswith("the future is harder") for warning in found.warnings)


def test_the_reference_has_the_times_of_its_rows(tmp_path):
    rows = make_rows(100).assign(observed_on=[f"2026-{1 + i // 10:02}-01" for i in range(100)])
    config = with_data(tmp_path, rows, columns=TIMED)
    training.train_model(config)
    assert set(pd.read_csv(config.reference)["observed_on"]) == set(rows["observed_on"])


def test_without_times_it_says_that_the_future_was_not_tried(tmp_path):
    config = with_data(tmp_path, make_rows(100))
    found = training.train_model(config)
    assert record(config)["temporal"] == {
        "validated": False,
        "reason": "not temporally validated: no column of times",
    }
    assert not any("temporal" in warning for warning in found.warnings)


# ---- contacted clients


def with_contacts(folder, reached, **settings):
    """A project of 100 clients, some of whom were reached before their outcomes arrived."""
    folder.mkdir(exist_ok=True)
    config = with_data(folder, make_rows(100), **settings)
    entries = [Entry(f"c{i}", log.CONTACT, "Ann", log.REACHED) for i in reached]
    log.append(config.contact_log, entries, "2020-01-01T00:00:00Z")
    return config


@pytest.mark.parametrize(("reached", "left_out_of"), [(5, "calibration"), (6, "training")])
def test_contacted_rows_are_left_out_of_calibration_and_if_many_of_training(
    tmp_path, spied, monkeypatch, reached, left_out_of
):
    weights, real = [], calibration.choose_calibration

    def choose(score, outcome, folds, weight):
        weights.append(weight)
        return real(score, outcome, folds, weight)

    monkeypatch.setattr(calibration, "choose_calibration", choose)
    config = with_contacts(tmp_path, range(reached), experiment={"share": 0.2})
    result = training.train_model(config)
    described = record(config)["contacted"]
    assert (described["rows"], described["left_out_of"]) == (reached, left_out_of)
    assert described["sentence"] in result.warnings
    own = read_rows(config).head(reached)
    learned = int((~is_held_out(config, own)).sum())
    assert ((weights[0] == 0).sum() == learned) == (left_out_of == "calibration")
    assert max(len(fitted) for fitted in spied) == 100 - reached * (left_out_of == "training")
    assert record(config)["labelled"] == 100
    assert len(files.read_arrays(config.known_rows)["labelled"]) == 100


def test_updates_are_compared_and_risks_calibrated_on_the_other_rows_alone():
    rows = table("abcdef", range(6), "xxxxxx")
    age = np.array([selection.OLDER, *[selection.RECENT] * 5])
    is_contacted = np.array([True, True, False, False, True, False])
    columns = (np.zeros(6), np.arange(6), age, ("a",), ())
    whole = selection.Table(rows, *columns, is_contacted=is_contacted)
    assert training._recent_rows(whole).rows["client"].tolist() == ["c", "d", "f"]
    assert (whole.calibration_weight * 3 / 5).tolist() == pytest.approx([0, 1, 1, 0, 1])
    assert selection.Table(rows, *columns).calibration_weight.tolist() == [1] * 5


def test_training_is_repeated_if_another_client_was_contacted(tmp_path):
    config = with_contacts(tmp_path, [0], experiment={"share": 0.2})
    training.train_model(config)
    assert training.train_model(replace(config, experiment=Experiment(share=0.1))).up_to_date
    later = Entry("c1", log.CONTACT, "Ann", log.REACHED)
    log.append(config.contact_log, [later._replace(client="nobody")], "2020-01-02T00:00:00Z")
    assert training.train_model(config).up_to_date
    log.append(config.contact_log, [later], "2020-01-02T00:00:00Z")
    assert not training.train_model(config).up_to_date


def test_without_an_experiment_contacts_change_nothing(tmp_path):
    with_log, without = (
        with_contacts(tmp_path / name, reached) for name, reached in (("a", [0, 1]), ("b", []))
    )
    for config in (with_log, without):
        training.train_model(config)
    for name in ("candidate", "evaluation_model", "reference", "known_rows"):
        assert getattr(with_log, name).read_bytes() == getattr(without, name).read_bytes()
    assert record(with_log)["inputs"] == record(without)["inputs"]
    assert record(with_log).keys() == record(without).keys()


def test_main_trains_and_prints_why(tmp_path, capsys):
    config = with_data(tmp_path, make_rows(100))
    assert training.main(["--config", str(config.file), "--quiet"]) == 0
    assert "log loss" in capsys.readouterr().out
    assert json.loads(config.training_record.read_text())["rows"] > 50
