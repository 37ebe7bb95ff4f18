import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as peers

import deployment
import scoring
import training
from attrition import config_file
from attrition.errors import NoModel
from attrition.modelling import metrics, models, persistence
from attrition.operations import releases
from attrition.rows import ledger, typed_rows
from attrition.storage import files, history
from tests.conftest import ingest_rows, make_rows, read_rows, write_config
from tests.support import row_ids


def with_candidate(tmp_path, rows, test=None):
    """A project with a trained candidate and, perhaps, test data."""
    config = write_config(tmp_path, contact_capacity=20)
    ingest_rows(config, rows)
    if test is not None:
        test.to_csv(config.test_folder / "testdata.csv", index=False)
    training.train_model(config)
    return config


def record(config):
    return files.read_record(config.score_record)


def is_held_out(config, rows):
    return typed_rows.held_out(typed_rows.client_hashes(rows["corporation"]), config.held_out_share)


def unseen(config):
    rows = read_rows(config)
    return rows[typed_rows.held_out(rows[typed_rows.CLIENT_HASH], config.held_out_share)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two projects, made once: one scored, one whose champion has a challenger."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("scored", "challenged"))
    config = with_candidate(first, make_rows(300), make_rows(200, seed=2, prefix="test"))
    scoring.score_model(config)
    shutil.copytree(first, second, dirs_exist_ok=True)
    config = config_file.load(second / "config.json")
    deployment.deploy_model(config)
    ingest_rows(config, make_rows(500))
    training.train_model(config)
    scoring.score_model(config)
    return first, second


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


@pytest.fixture
def scored(folders, tmp_path):
    """A project whose first candidate was scored."""
    return copied(folders[0], tmp_path)


@pytest.fixture
def challenged(folders, tmp_path):
    """The candidate is in production, and a new one was trained on more rows and scored."""
    return copied(folders[1], tmp_path)


def test_latest_score_is_the_f1_of_scikit_learn_on_the_test_data(scored):
    test = pd.read_csv(scored.test_folder / "testdata.csv")
    model = persistence.loads(scored.evaluation_model.read_bytes())
    expected = peers.f1_score(test["exited"], models.predict(model, test) >= 0.5)
    assert float(scored.latest_score.read_text()) == pytest.approx(expected, abs=1e-12)


def test_latest_score_is_one_number_and_nothing_else(scored):
    assert scored.latest_score.read_text().count("\n") == 1
    assert 0 < float(scored.latest_score.read_text()) < 1


def test_the_held_out_clients_are_scored_beside_the_test_data(scored):
    rows = unseen(scored)
    found = record(scored)["sets"]["unseen"]
    assert (found["rows"], found["left"]) == (len(rows), rows["exited"].sum())
    model = persistence.loads(scored.evaluation_model.read_bytes())
    expected = peers.roc_auc_score(rows["exited"], models.predict(model, rows))
    assert found["candidate"]["roc_auc"]["value"] == pytest.approx(expected)


def test_the_second_call_does_nothing(scored):
    before = scored.score_record.read_bytes()
    assert scoring.score_model(scored).up_to_date
    assert scored.score_record.read_bytes() == before


def test_changed_test_data_is_scored_anew(scored):
    make_rows(200, seed=3, prefix="t").to_csv(scored.test_folder / "more.csv", index=False)
    assert not scoring.score_model(scored).up_to_date
    assert record(scored)["sets"]["test"]["rows"] == 400


def test_without_a_champion_there_is_nothing_to_compare_with(scored):
    assert record(scored)["champion"] is None
    assert record(scored)["comparison"] is None


def test_champion_and_candidate_are_scored_on_the_same_rows(challenged):
    found, release = record(challenged), releases.read_current(challenged.production_folder)
    champion = releases.load_evaluation_model(release)
    candidate = persistence.loads(challenged.evaluation_model.read_bytes())
    assert found["champion"]["sha256"] == release.model_sha256 != found["candidate"]["sha256"]
    rows = unseen(challenged)
    for name, model in (("champion", champion), ("candidate", candidate)):
        expected = peers.roc_auc_score(rows["exited"], models.predict(model, rows))
        assert found["sets"]["unseen"][name]["roc_auc"]["value"] == pytest.approx(expected)


def test_the_comparison_is_over_all_rows_that_neither_has_seen(challenged):
    found = record(challenged)
    assert found["comparison"]["set"] == "all_unseen"
    names = ("test", "unseen", "since")
    assert found["comparison"]["rows"] == sum(found["sets"][name]["rows"] for name in names)


def test_what_came_since_the_champion_is_compared_by_cross_validated_risks(challenged):
    """The champion knew none of the rows that the candidate learned from."""
    rows = read_rows(challenged)
    learned_from = rows[
        ~typed_rows.held_out(rows[typed_rows.CLIENT_HASH], challenged.held_out_share)
    ]
    since = record(challenged)["sets"]["since"]
    assert (since["rows"], since["left"]) == (len(learned_from), learned_from["exited"].sum())
    candidate = persistence.loads(challenged.evaluation_model.read_bytes())
    optimistic = metrics.row_log_loss(
        learned_from["exited"].to_numpy(), models.predict(candidate, learned_from)
    )
    assert since["candidate"]["log_loss"]["value"] > optimistic.mean()


def test_what_only_held_out_clients_show_improves_no_score(tmp_path):
    """Their outcomes follow from a range of numbers that no other client has."""
    rows = make_rows(600)
    hidden = is_held_out(write_config(tmp_path), rows)
    rows.loc[hidden, "number_of_employees"] = 10_000 + 1_000 * rows.loc[hidden, "exited"]
    rows.loc[hidden, "lastmonth_activity"] = 50
    rows.loc[hidden, "lastyear_activity"] = 500
    config = with_candidate(tmp_path, rows)
    scoring.score_model(config)
    served = models.predict(persistence.loads(config.candidate.read_bytes()), unseen(config))
    assert peers.roc_auc_score(unseen(config)["exited"], served) > 0.95
    assert record(config)["sets"]["unseen"]["candidate"]["roc_auc"]["value"] < 0.6


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_after_a_change_of_the_share_only_clients_held_out_in_both_trainings_count(
    challenged, share
):
    changed = replace(challenged, held_out_share=share)
    training.train_model(changed)
    scoring.score_model(changed)
    both = replace(challenged, held_out_share=min(share, challenged.held_out_share))
    assert record(changed)["sets"]["unseen"]["rows"] == len(unseen(both))


def test_the_same_model_is_known_as_the_champion(challenged):
    shutil.rmtree(challenged.model_folder)
    ingest_rows(challenged, make_rows(300))
    training.train_model(challenged)
    scoring.score_model(challenged)
    found = record(challenged)
    assert found["candidate"]["sha256"] == found["champion"]["sha256"]
    assert deployment.deploy_model(challenged).rule == "same_model"


def test_many_rows_are_predicted_with_the_same_risks(scored, monkeypatch):
    model = persistence.loads(scored.evaluation_model.read_bytes())
    rows = unseen(scored)
    expected = models.predict(model, rows)
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 50)
    np.testing.assert_allclose(scoring.predict(model, rows), expected, atol=1e-12)
    with monkeypatch.context() as patch:
        patch.setattr(scoring.flattening, "MAX_DIFFERENCE", -1.0)  # no flat form is equal
        assert scoring.predict(model, rows).tolist() == expected.tolist()


def test_test_rows_that_are_training_rows_are_not_scored(tmp_path):
    rows = make_rows(300)
    test = pd.concat([rows.head(100), make_rows(50, seed=2, prefix="test")])
    config = with_candidate(tmp_path, rows, test)
    held_out = typed_rows.held_out(
        typed_rows.client_hashes(rows["corporation"].head(100)), config.held_out_share
    ).sum()
    found = scoring.score_model(config)
    assert record(config)["sets"]["test"]["rows"] == 50 + held_out
    assert (
        f"{100 - held_out} test rows are also training rows; they are not scored" in found.warnings
    )


def test_rows_of_held_out_clients_that_are_also_test_rows_count_once(tmp_path):
    rows = make_rows(300)
    config = with_candidate(tmp_path, rows, rows)
    scoring.score_model(config)
    found = record(config)
    assert found["curves"]["rows"] == found["sets"]["test"]["rows"] == len(unseen(config))
    assert found["sets"]["unseen"] is None


def test_rows_that_stand_twice_in_the_test_data_count_once(tmp_path):
    test = make_rows(60, seed=2, prefix="test")
    config = with_candidate(tmp_path, make_rows(300), pd.concat([test, test]))
    test.to_csv(config.test_folder / "again.csv", index=False)
    scoring.score_model(config)
    assert record(config)["sets"]["test"]["rows"] == 60


def test_test_rows_without_an_outcome_are_not_scored(tmp_path):
    test = make_rows(60, seed=2, prefix="test").astype({"exited": object})
    test.loc[:9, "exited"] = ""
    config = with_candidate(tmp_path, make_rows(300), test)
    scoring.score_model(config)
    assert record(config)["sets"]["test"]["rows"] == 50


def test_without_a_test_folder_a_warning_is_told_and_the_rest_is_scored(tmp_path):
    config = with_candidate(tmp_path, make_rows(300))
    config.test_folder.rmdir()
    found = scoring.score_model(config)
    assert "no test rows with an outcome: nothing could be scored on them" in found.warnings
    assert config.latest_score.read_text() == "nan\n"
    assert record(config)["sets"]["unseen"]["rows"] > 40


def test_five_test_rows_are_scored_with_a_warning(tmp_path):
    test = make_rows(5, seed=2, prefix="test").assign(exited=[0, 1, 0, 1, 0])
    config = with_candidate(tmp_path, make_rows(300), test)
    found = scoring.score_model(config)
    assert found.f1 is not None
    assert any(
        text.startswith("test: only 5 rows (2 left), so the scores are imprecise")
        for text in found.warnings
    )


@pytest.mark.parametrize("label", [0, 1])
def test_test_rows_of_one_class_have_no_f1(tmp_path, label):
    test = make_rows(30, seed=2, prefix="test").assign(exited=label)
    config = with_candidate(tmp_path, make_rows(300), test)
    assert scoring.score_model(config).f1 is None
    assert config.latest_score.read_text() == "nan\n"


def test_nothing_unseen_at_all_is_told_and_not_an_error(tmp_path):
    rows = make_rows(60)
    config = with_candidate(tmp_path, rows)
    rows = rows[
        ~typed_rows.held_out(typed_rows.client_hashes(rows["corporation"]), config.held_out_share)
    ]
    ingest_rows(config, rows)
    found = scoring.score_model(config)
    assert found.sentence == "no unseen rows with an outcome, so nothing could be scored"
    assert record(config)["curves"] is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"corporation,exited\na,1\n", "no column lastmonth_activity"),
        (b"\x00\x01\x02" * 50, "not used"),
        (b"", "not used"),
    ],
)
def test_a_test_file_that_cannot_be_used_is_told_by_name(scored, data, told):
    (scored.test_folder / "bad.csv").write_bytes(data)
    warnings = scoring.score_model(scored).warnings
    assert any("bad.csv: not used" in text and told in text for text in warnings)
    assert record(scored)["sets"]["test"]["rows"] == 200


def test_refused_test_rows_are_counted_and_the_first_is_told(scored):
    test = make_rows(10, seed=5, prefix="odd").assign(number_of_employees=-3)
    test.to_csv(scored.test_folder / "odd.csv", index=False)
    (warning,) = [text for text in scoring.score_model(scored).warnings if "odd.csv" in text]
    assert "10 rows refused, first: line 2: number_of_employees is '-3'" in warning


def test_a_candidate_that_was_changed_is_not_scored(scored):
    scored.candidate.write_bytes(scored.candidate.read_bytes()[:-1])
    with pytest.raises(NoModel, match=r"run training\.py first"):
        scoring.score_model(scored)


def test_without_a_candidate_it_says_what_to_run(empty_project):
    with pytest.raises(NoModel, match=r"run training\.py first"):
        scoring.score_model(empty_project)


def test_scores_are_kept_in_the_history_once(scored):
    scored.score_record.unlink()
    scoring.score_model(scored)
    rows = history.read_scores(scored.history)
    keys = [(row["set"], row["metric"]) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * 7
    f1 = next(row["value"] for row in rows if (row["set"], row["metric"]) == ("test", "f1"))
    assert f1 == float(scored.latest_score.read_text())


def test_after_a_change_of_the_truth_only_the_rows_since_then_are_compared(challenged):
    rows = unseen(challenged)
    earlier, columns = rows.head(60), challenged.columns
    arrays = {
        "labelled": row_ids(earlier, columns),
        "inputs": typed_rows.input_ids(earlier, columns),
        "waiting": np.array([], "uint64"),
    }
    contents = {challenged.settled_rows: files.arrays_bytes(**arrays)}
    files.commit(challenged.monitoring_record, contents, {"triggers": ["degraded"]})
    scoring.score_model(challenged)
    found = record(challenged)
    assert found["comparison"]["set"] == "recent"
    assert found["sets"]["recent"]["rows"] == len(rows) - 60
    both = sum(found["sets"][name]["rows"] for name in ("recent", "since"))
    assert found["comparison"]["rows"] == both


def test_the_size_of_parts_changes_no_score(challenged, monkeypatch):
    before, split = record(challenged), ledger.split_rows
    assert before["sets"]["since"] and before["comparison"]
    monkeypatch.setattr(ledger, "split_rows", lambda config: split(config, 50))
    challenged.score_record.unlink()
    assert not scoring.score_model(challenged).up_to_date
    after = record(challenged)
    for name in ("sets", "comparison", "curves", "warnings"):
        assert after[name] == before[name]


def test_curves_are_of_all_unseen_rows(scored):
    curves = record(scored)["curves"]
    assert sum(curves["confusion"].values()) == curves["rows"] == 200 + len(unseen(scored))
    assert np.diff(curves["roc"]["true_positive_rate"]).min() >= 0


def test_main_scores_and_prints_with_intervals(scored, capsys):
    assert scoring.main(["--config", str(scored.file), "--quiet"]) == 0
    assert "ROC AUC" in capsys.readouterr().out
