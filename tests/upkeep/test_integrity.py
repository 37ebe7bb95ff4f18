"""Every file of ours, spoiled: what is named, and what is left to the run that makes it again."""

import os
import shutil
import sqlite3

import pytest

import diagnostics
from attrition.access import credentials
from attrition.access.credentials import Credentials
from attrition.contacts import log
from attrition.errors import Damaged
from attrition.operations import releases
from attrition.storage import files, history
from attrition.upkeep import integrity


def problems(config, find=integrity.find):
    """What a look finds, as {path below the project: problem}."""
    return {str(each.path.relative_to(config.file.parent)): each.problem for each in find(config)}


def current_folder(config):
    return config.releases / releases.current_id(config.production_folder)


def test_an_undamaged_state_is_clean_to_every_look(project):
    assert integrity.find(project) == []
    assert integrity.find_all(project) == []
    assert set(integrity.scrub(project).values()) == {""}


def test_a_project_that_never_ran_is_clean(empty_project):
    assert integrity.find_all(empty_project) == []
    assert integrity.scrub(empty_project) == {}


def test_a_scrub_lists_every_file_release_and_pointer(project):
    names = {path.name for path in integrity.scrub(project)}
    assert {"finaldata.csv", "riskscores.csv", "roc.png", "history.sqlite", "current"} <= names
    assert releases.current_id(project.production_folder) in names


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("final_data", False),
        ("ingestion_record", False),
        ("candidate", True),
        ("decision_record", True),
        ("monitoring_record", True),
        ("risk_scores", True),
        ("report", True),
        ("last_run", True),
    ],
)
def test_what_can_be_made_again_is_told_apart_from_what_cannot(project, name, follows):
    path = getattr(project, name)
    path.write_bytes(path.read_bytes()[:-3] + b"???")
    (damage,) = integrity.find(project)
    assert (damage.path, damage.problem, damage.follows) == (path, integrity.CHANGED, follows)


@pytest.mark.parametrize("name", ["ingestion_record", "training_record", "score_record"])
def test_a_record_is_missed_once_there_is_what_it_stands_for(project, name):
    getattr(project, name).unlink()
    assert list(problems(project).values()) == [integrity.GONE]


@pytest.mark.parametrize("name", ["monitoring_record", "assessment_record", "report_record"])
def test_a_record_that_every_run_makes_is_missed_by_nobody(project, name):
    getattr(project, name).unlink()
    assert problems(project) == {}


def test_an_output_that_is_missing_is_named_not_its_record(project):
    project.risk_scores.unlink()
    assert problems(project) == {"reports/riskscores.csv": integrity.GONE}


def test_a_folder_or_a_link_where_a_file_belongs_is_named_once(project, tmp_path):
    project.final_data.unlink()
    project.final_data.mkdir()
    project.report.rename(tmp_path / "elsewhere")
    project.report.symlink_to(tmp_path / "elsewhere")
    project.lock.unlink()
    os.mkfifo(project.lock)
    assert problems(project) == {
        "ingesteddata/finaldata.csv": integrity.FOLDER,
        "reports/report.pdf": integrity.LINK,
        "production_deployment/.lock": "is not a regular file",
    }


def test_a_file_where_a_commit_is_staged_is_in_the_way(project):
    (project.output_folder / files.STAGING).write_text("theirs")
    assert problems(project) == {"ingesteddata/.staging": "is not a folder"}


def test_a_release_is_read_with_its_manifest(project):
    (current_folder(project) / releases.MODEL).write_bytes(b"damaged")
    (found,) = integrity.find(project)
    assert found.path == current_folder(project)
    assert found.problem == "trainedmodel.skops not as deployed"


def test_a_release_that_is_not_in_production_is_looked_at_by_the_wide_look_only(project):
    old = project.releases / "20200101T000000Z-00000000"
    shutil.copytree(current_folder(project), old)
    (old / releases.MODEL).write_bytes(b"damaged")
    assert problems(project) == {}
    assert list(problems(project, integrity.find_all)) == [
        f"production_deployment/releases/{old.name}"
    ]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("releases/20200101T000000Z-00000000", "there is no release 20200101T000000Z-00000000"),
        (None, integrity.GONE),
    ],
)
def test_a_pointer_to_nothing_is_damage_once_a_model_was_deployed(project, target, problem):
    project.current.unlink()
    if target:
        project.current.symlink_to(target)
    assert problems(project)["production_deployment/current"] == problem


def test_a_pointer_is_not_missed_where_the_model_was_withdrawn(project):
    row = {"at": files.utc_now(), "action": integrity.WITHDRAWN, "made": "now"}
    history.save(project.history, "deployments", [row])
    project.current.unlink()
    assert not integrity.was_deployed(project)
    assert "production_deployment/current" not in problems(project)


def test_a_history_is_missed_once_something_was_deployed(project, empty_project):
    project.history.unlink()
    assert problems(project)["production_deployment/history.sqlite"] == integrity.GONE
    assert "history" not in str(problems(empty_project))


def test_a_row_of_the_history_that_was_changed_is_found(project):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(project.history)) as connection:
        connection.execute("UPDATE runs SET outcome = 'failed'")
        connection.commit()
    (found,) = integrity.find(project)
    assert (found.path, found.follows) == (project.history, False)
    assert found.problem == "a row of runs is not what was saved"


def test_a_whole_record_of_an_earlier_day_is_older_than_what_the_history_knows(project):
    row = {"step": "monitoring", "made": "a later one", "started_at": files.utc_now()}
    history.save(project.history, "steps", [row])
    assert problems(project) == {}
    assert problems(project, integrity.find_all) == {
        "production_deployment/monitoring.json": integrity.OLDER
    }


def test_verify_names_what_is_wrong_and_exits_1(project, capsys):
    folder = current_folder(project)
    (folder / releases.MODEL).write_bytes(b"damaged")
    project.contact_list.write_bytes(b"damaged")
    files.save_hashes(project.hashes)
    project.watch_list.write_bytes(b"everything is as it was")
    assert diagnostics.main(["--config", str(project.file), "--verify"]) == 1
    assert not project.hashes.exists()
    assert not project.watch_list.exists()
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines if line.startswith("damaged")]
    assert any(f"{folder.name}: trainedmodel.skops not as deployed" in line for line in wrong)
    assert any(f"{project.contact_list}: is not what was written" in line for line in wrong)
    assert len(wrong) == 2
    assert len([line for line in lines if line.startswith("ok ")]) > 30


# ---- the contact log


def enter(config, *names):
    entries = [log.Entry(name, "contact", "Ann", outcome="do_not_contact") for name in names]
    return log.append(config.contact_log, entries, files.utc_now()).entries


def count_in_assessment(config):
    """Let the last list have counted the entries that the log has now."""
    entries, seal = log.read(config.contact_log)
    record = files.read_record(config.assessment_record)
    record["inputs"]["contacts"] = f"{len(entries)} {seal}"
    files.write_bytes(config.assessment_record, files.encode(files.sealed(record)))


def test_an_intact_contact_log_is_listed_and_a_damaged_one_is_named(project):
    enter(project, "A", "B")
    count_in_assessment(project)
    enter(project, "C")
    assert integrity.scrub(project)[project.contact_log] == ""
    with sqlite3.connect(project.contact_log) as connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET client = 'Z' WHERE id = 2")
    (damage,) = integrity.find(project)
    assert (damage.path, damage.follows, damage.by_repair) == (project.contact_log, False, False)
    assert damage.problem.startswith("entry 2 is not what was entered; restore a backup")
    assert integrity.scrub(project)[project.contact_log] == damage.problem


@pytest.mark.parametrize("way", ["missing", "fewer", "others"])
def test_entries_that_the_last_list_counted_are_missed(project, way):
    enter(project, "A", "B")
    count_in_assessment(project)
    project.contact_log.unlink()
    if way != "missing":
        enter(project, *{"fewer": "A", "others": "CD"}[way])
    (damage,) = integrity.find(project)
    assert "the last list counted" in damage.problem
    assert "--accept-log-loss" in damage.problem
    assert integrity.find(project, accept_log_loss=True) == []
    with pytest.raises(Damaged, match="the last list counted"):
        integrity.check_contact_log(project)


def test_damaged_tokens_are_named_by_the_whole_check_and_stop_no_run(project):
    access = Credentials(project.tokens, project.users)
    credentials.add_token(access, "crm", ["read"], None)
    assert integrity.find_all(project) == []
    project.tokens.write_bytes(b"{}")
    assert problems(project) == {}
    assert problems(project, integrity.find_all) == {"access/tokens.json": integrity.CHANGED}
    assert integrity.scrub(project)[project.tokens] == integrity.CHANGED
