import shutil
from dataclasses import replace

import numpy as np
import pytest

import deployment
import scoring
import training
from attrition import config_file
from attrition.errors import Damaged, NoModel
from attrition.modelling import models
from attrition.operations import releases
from attrition.serving import flattening
from attrition.serving.flat_model import FlatModel
from attrition.storage import files, history
from tests.conftest import ingest_rows, make_rows, write_config


@pytest.fixture(scope="module")
def scored_folder(tmp_path_factory):
    """A project whose first candidate was scored and never deployed; copied, never changed."""
    config = write_config(tmp_path_factory.mktemp("scored"))
    ingest_rows(config, make_rows(300))
    make_rows(200, seed=2, prefix="test").to_csv(config.test_folder / "t.csv", index=False)
    training.train_model(config)
    scoring.score_model(config)
    return config.file.parent


@pytest.fixture
def scored(scored_folder, tmp_path):
    shutil.copytree(scored_folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


@pytest.fixture
def deployed(scored):
    deployment.deploy_model(scored)
    return scored


def deploy_again(config, stamp, monkeypatch):
    """Deploy the candidate once more as though it were the first, at another time."""
    config.decision_record.unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(files, "utc_now", lambda: stamp)
        patch.setattr(deployment, "_find_decision", lambda config, **inputs: None)
        return deployment.deploy_model(config).release


def actions(config):
    return [row["action"] for row in history.read_deployments(config.history)]


def test_the_first_model_is_deployed(scored):
    found = deployment.deploy_model(scored)
    assert (found.promoted, found.rule) == (True, "first_model")
    assert releases.read_current(scored.production_folder).id == found.release
    assert (scored.production_folder / "trainedmodel.skops").read_bytes() == (
        scored.candidate.read_bytes()
    )


def test_a_release_holds_all_that_is_known_of_its_model(deployed):
    folder = releases.read_current(deployed.production_folder).folder
    assert sorted(path.name for path in folder.iterdir()) == [
        *("decision.json", "evaluationmodel.skops", "ingestedfiles.txt", "known_rows.npz"),
        "latestscore.txt",
        *(
            "manifest.json",
            "modelcard.md",
            "reference.csv",
            "score.json",
            "servingmodel.npz",
            "trainedmodel.skops",
            "training.json",
        ),
    ]
    assert (folder / "latestscore.txt").read_bytes() == deployed.latest_score.read_bytes()


def test_the_card_of_a_release_is_of_its_model_and_verified_with_it(deployed):
    found = releases.read_current(deployed.production_folder)
    assert found.card.decode().startswith(f"# Model card: {found.training['kind']}\n")
    assert f"sha256 of the model: {found.model_sha256}" in found.card.decode()
    (found.folder / releases.CARD).write_text("a better model")
    with pytest.raises(Damaged, match=releases.CARD):
        releases.read_current(deployed.production_folder)


def test_the_second_call_does_nothing(deployed):
    before = deployed.decision_record.read_bytes()
    found = deployment.deploy_model(deployed)
    assert found.up_to_date
    assert deployed.decision_record.read_bytes() == before
    assert len(releases.list_ids(deployed.production_folder)) == 1


def test_the_decision_and_the_promotion_are_in_the_history(deployed):
    (row,) = history.read_deployments(deployed.history)
    assert row["action"] == "promoted"
    assert row["release"] == releases.current_id(deployed.production_folder)
    assert {score["promoted"] for score in history.read_scores(deployed.history)} == {1}


def test_release_contains_the_model_as_arrays(deployed):
    release = releases.read_current(deployed.production_folder)
    flat = FlatModel.from_bytes((release.folder / releases.SERVING_MODEL).read_bytes())
    rows = releases.read_reference(release)
    risks = flat.predict(flattening.to_columns(flat, rows))
    expected = models.predict(releases.load_model(release), rows)
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-12)


def test_model_that_cannot_be_flattened_is_deployed_without_arrays(scored, monkeypatch, caplog):
    def refuse(*_):
        raise flattening.NotFlat("a tree has 80 leaves")

    monkeypatch.setattr(flattening, "check_equal", refuse)
    assert deployment.deploy_model(scored).promoted
    release = releases.read_current(scored.production_folder)
    assert releases.SERVING_MODEL not in release.manifest["outputs"]
    assert "cannot be flattened: a tree has 80 leaves" in caplog.text


def test_the_same_model_is_not_deployed_again(deployed):
    scoring.score_model(deployed)
    found = deployment.deploy_model(deployed)
    assert (found.promoted, found.rule) == (False, "same_model")
    assert sorted(actions(deployed)) == ["promoted", "refused"]


def test_a_run_that_died_between_pointer_and_record_decided_already(deployed):
    release = releases.current_id(deployed.production_folder)
    deployed.decision_record.unlink()
    found = deployment.deploy_model(deployed)
    assert (found.up_to_date, found.rule, found.release) == (True, "first_model", release)
    assert files.read_record(deployed.decision_record)["release"] == release
    assert releases.list_ids(deployed.production_folder) == [release]


def test_a_decision_made_up_after_a_crash_is_in_the_history_once(deployed):
    deployed.decision_record.unlink()
    deployment.deploy_model(deployed)
    assert actions(deployed) == ["promoted"]


def test_a_run_that_died_before_the_pointer_moved_is_completed(scored, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(releases, "activate", crash)
        with pytest.raises(KeyboardInterrupt):
            deployment.deploy_model(scored)
    assert not scored.current.exists()
    [written] = releases.list_ids(scored.production_folder)
    found = deployment.deploy_model(scored)
    assert (found.promoted, found.release) == (True, written)
    assert releases.list_ids(scored.production_folder) == [written]


def test_a_damaged_decision_record_is_made_up_from_the_release(deployed):
    deployed.decision_record.write_bytes(b"{}")
    assert deployment.deploy_model(deployed).rule == "first_model"
    assert files.read_record(deployed.decision_record)["promoted"]


def test_a_verdict_of_monitoring_counts_as_answered_only_when_it_was(deployed):
    assert deployment.find_current_decision(deployed) is None
    files.commit(deployed.monitoring_record, {}, {"triggers": []})
    assert deployment.find_current_decision(deployed) is None
    deployment.deploy_model(deployed)
    assert deployment.find_current_decision(deployed).up_to_date


def test_where_nothing_could_be_trained_the_question_is_answered_too(deployed):
    files.commit(deployed.monitoring_record, {}, {"triggers": ["degraded"]})
    found = deployment.refuse(deployed, deployment.TOO_LITTLE_DATA, "all stayed")
    assert (found.promoted, found.reason) == (False, "kept the champion: all stayed")
    assert deployment.find_current_decision(deployed).rule == "too_little_data"


def test_refusal_for_leakage_is_answered_until_other_columns_are_accepted(deployed):
    files.commit(deployed.monitoring_record, {}, {"triggers": ["degraded"]})
    deployment.refuse(deployed, deployment.LEAKAGE, "ended_at knows the outcome")
    assert deployment.find_current_decision(deployed).rule == "leakage"
    accepting = replace(deployed, accept_leakage=("lastmonth_activity",))
    assert deployment.find_current_decision(accepting) is None


def test_without_a_scored_candidate_it_says_what_to_run(empty_project):
    with pytest.raises(NoModel, match=r"run training\.py and scoring\.py"):
        deployment.deploy_model(empty_project)


def test_a_score_of_another_candidate_is_not_taken(scored):
    ingest_rows(scored, make_rows(200))
    training.train_model(scored)
    with pytest.raises(NoModel, match="is of another candidate"):
        deployment.deploy_model(scored)


def test_a_candidate_that_was_changed_is_not_deployed(scored):
    scored.candidate.write_bytes(scored.candidate.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"trainedmodel\.skops not as trained"):
        deployment.deploy_model(scored)
    assert not scored.current.exists()


@pytest.mark.parametrize("degraded", [False, True])
def test_the_gate_is_asked_with_what_scoring_wrote(deployed, degraded):
    ingest_rows(deployed, make_rows(500, signal=3))
    training.train_model(deployed)
    scoring.score_model(deployed)
    score = files.read_record(deployed.score_record)
    decision = deployment.decide(score, ["degraded"] * degraded, looks=1)
    assert (
        decision.rule
        in {
            False: ("proven_better", "not_proven_better"),
            True: ("champion_degraded", "degraded_not_better"),
        }[degraded]
    )
    assert f"on {score['comparison']['rows']:,} unseen rows" in decision.reason


@pytest.mark.parametrize(
    ("actions", "looks"),
    [("", 1), ("promoted", 1), ("promoted refused", 2), ("refused promoted refused refused", 3)],
)
def test_candidates_are_counted_since_the_champion_was_deployed(actions, looks):
    assert deployment.count_looks([{"action": action} for action in actions.split()]) == looks


def test_a_champion_that_was_not_compared_with_stays(deployed):
    score = files.read_record(deployed.score_record) | {"champion": {"sha256": "other"}}
    assert deployment.decide(score, [], looks=1).rule == "too_few_rows"


def test_rolling_back_goes_to_the_release_before(deployed, monkeypatch):
    first = releases.current_id(deployed.production_folder)
    second = deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    assert releases.current_id(deployed.production_folder) == second != first
    assert deployment.roll_back(deployed, None) == first
    assert releases.current_id(deployed.production_folder) == first
    assert "rolled back" in actions(deployed)


def test_rolling_back_to_a_named_release_also_goes_forward(deployed, monkeypatch):
    second = deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    deployment.roll_back(deployed, None)
    assert deployment.roll_back(deployed, second) == second


def test_there_is_nothing_before_the_first_release(deployed):
    with pytest.raises(NoModel, match="no older release"):
        deployment.roll_back(deployed, None)


@pytest.mark.parametrize("name", ["nonsense", "20200101T000000Z-00000000", "../releases"])
def test_an_unknown_release_is_refused_and_production_stays(deployed, name):
    before = releases.current_id(deployed.production_folder)
    with pytest.raises(NoModel, match="there is no release"):
        deployment.roll_back(deployed, name)
    assert releases.current_id(deployed.production_folder) == before


def test_a_damaged_release_is_not_rolled_back_to(deployed, monkeypatch):
    first = releases.current_id(deployed.production_folder)
    second = deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    (deployed.releases / first / "reference.csv").write_bytes(b"edited")
    with pytest.raises(Damaged):
        deployment.roll_back(deployed, first)
    assert releases.current_id(deployed.production_folder) == second


def test_rolling_back_mends_a_pointer_that_was_lost(deployed):
    release = releases.current_id(deployed.production_folder)
    deployed.current.unlink()
    assert deployment.roll_back(deployed, None) == release


def test_deploying_again_keeps_the_newest_releases_and_the_current(deployed, monkeypatch):
    for day in range(1, 15):
        deploy_again(deployed, f"2999-01-{day:02}T00:00:00Z", monkeypatch)
    ids = releases.list_ids(deployed.production_folder)
    assert len(ids) == releases.KEEP
    assert releases.current_id(deployed.production_folder) == ids[-1]


def run(config, *more):
    return deployment.main(["--config", str(config.file), "--quiet", *more])


def test_the_list_marks_the_release_in_production(deployed, monkeypatch, capsys):
    first = releases.current_id(deployed.production_folder)
    second = deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    assert run(deployed, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] + line[2:].split()[0] for line in lines] == [f"  {first}", f"* {second}"]
    assert all("ROC AUC 0." in line for line in lines)


def test_the_list_names_a_damaged_release(deployed, capsys):
    (deployed.current / "score.json").write_bytes(b"{}")
    run(deployed, "--list")
    assert "damaged: " in capsys.readouterr().out


def test_the_list_before_the_first_release_says_what_to_run(empty_project, capsys):
    run(empty_project, "--list")
    assert capsys.readouterr().out == "no release yet; run fullprocess.py\n"


def test_the_command_line_deploys_and_rolls_back(scored, monkeypatch, capsys):
    assert run(scored) == 0
    first = releases.current_id(scored.production_folder)
    deploy_again(scored, "2999-01-01T00:00:00Z", monkeypatch)
    assert run(scored, "--rollback") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"in production: {first}"


def test_the_command_line_refuses_an_unknown_release_with_1(deployed):
    assert run(deployed, "--rollback", "nonsense") == 1


def test_rolling_back_twice_in_one_second_is_recorded_twice(deployed, monkeypatch):
    first = releases.current_id(deployed.production_folder)
    second = deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    monkeypatch.setattr(files, "utc_now", lambda: "2999-01-01T00:00:01Z")
    for release_id in (first, second, first):
        deployment.roll_back(deployed, release_id)
    assert actions(deployed)[-3:] == ["rolled back"] * 3


def test_lost_decision_record_does_not_undo_a_rollback(deployed, monkeypatch):
    first = releases.current_id(deployed.production_folder)
    deploy_again(deployed, "2999-01-01T00:00:00Z", monkeypatch)
    deployment.roll_back(deployed, None)
    deployed.decision_record.unlink()
    result = deployment.deploy_model(deployed)
    assert result.release == releases.current_id(deployed.production_folder) == first
    assert result.reason.startswith("rolled back by hand on ")
    assert files.read_record(deployed.decision_record)["promoted"]
    assert actions(deployed) == ["promoted", "rolled back"]
