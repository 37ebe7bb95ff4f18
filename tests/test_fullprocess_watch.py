"""The whole process, watched: signals, limits, ticks beside a running one, runs that never ended."""

import fcntl
import logging
import os
import shutil
import time
from pathlib import Path

import pytest

import app as api
import deployment
import fullprocess
import reporting
from attrition.operations import log, releases, runs
from attrition.reporting.report_data import light
from attrition.storage import files, history
from tests.conftest import build_once, contradict, make_rows, run_whole
from tests.support import digest, run


def outcomes(config):
    return [row["outcome"] for row in history.read_runs(config.history)]


# ---- beside a running one


def test_a_skipped_tick_is_counted_and_says_who_is_at_work(project):
    before = outcomes(project)
    with files.run_lock(project.lock) as lock:
        runs.leave_mark(lock, "the other", files.utc_now(), 3600.0)
        done = run(project, "--quiet")
        runs.clear_mark(lock)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert outcomes(project) == [*before, "skipped"]
    assert f"process {os.getpid()}, since 20" in history.read_runs(project.history)[-1]["reason"]


def test_a_holder_that_outlived_its_limit_is_a_complaint_and_keeps_the_lock(project):
    with files.run_lock(project.lock) as lock:
        runs.leave_mark(lock, "the other", files.utc_now(), -2.0 * runs.GRACE_S)
        done = run(project, "--quiet")
        assert runs.read_mark(project.lock)["run"] == "the other"
        runs.clear_mark(lock)
    assert done.returncode == 1
    assert "check it, and stop it if it hangs" in done.stderr


def test_two_runs_in_the_same_second_are_two_runs(project, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-11-24T12:00:00Z")
    before = len(outcomes(project))
    for i in range(2):
        rows = make_rows(20, seed=i, prefix=f"x{i}")
        rows.to_csv(project.input_folder / f"{i}.csv", index=False)
        assert run_whole(project) == 0
    assert len(outcomes(project)) == before + 2


# ---- the last good run


def test_a_tick_with_nothing_new_renews_the_last_good_run_and_no_content(project):
    run_whole(project)
    os.utime(project.last_run, (0, 0))
    before = digest(project.file.parent)
    assert run_whole(project) == 0
    assert digest(project.file.parent) == before
    assert runs.last_good_at(project) > "2026"


def health_of(config):
    return api.create_app(config).test_client().get("/health").json


def test_other_tests_do_not_write_into_the_log_of_the_shared_project(finished_folder):
    handlers = logging.getLogger().handlers
    assert [each for each in handlers if isinstance(each, log.Diary)] == []


def test_folder_that_another_process_builds_meanwhile_is_not_built_again(
    tmp_path_factory, monkeypatch
):
    monkeypatch.setattr(fcntl, "flock", lambda lock, _: Path(lock.name).write_text("built"))
    built = []
    build_once(tmp_path_factory, "built meanwhile", built.append)
    assert built == []


def test_a_source_that_is_gone_is_an_alarm_at_every_tick_until_it_is_mended(project, capsys):
    run_whole(project)
    good_at = runs.last_good_at(project)
    settings = project.file.read_text()
    table = '"databases": [{"name": "crm", "url": "sqlite:///gone.sqlite", "table": "clients"}]'
    project.file.write_text(f"{settings[:-1]}, {table}}}")
    assert run_whole(project) == 1
    assert "crm" in capsys.readouterr().err
    assert run_whole(project) == 1
    assert capsys.readouterr().err == ""  # once a day
    assert project.diary.read_text().count("crm: there is no SQLite file") == 2
    assert outcomes(project)[-2:] == ["unavailable", "unavailable"]
    assert runs.last_good_at(project) == good_at
    found = health_of(project)
    assert (found["status"], found["complaints"]) == ("degraded", ["unavailable"])
    assert str(project.file.parent) not in str(found)
    facts = reporting.load_report_data(project)
    assert "crm" in light(facts).sentence
    project.file.write_text(settings)
    assert run_whole(project) == 0
    assert health_of(project)["complaints"] == []


def test_the_report_says_that_the_good_run_before_it_was_long_ago(project):
    hours_ago = time.time() - 30 * 3600
    os.utime(project.last_run, (hours_ago, hours_ago))
    facts = reporting.load_report_data(project)
    assert "The last good run ended 1 day ago" in light(facts).sentence


# ---- steps that fail


def test_a_report_that_fails_leaves_the_deployment_and_is_told(small_project, monkeypatch, capsys):
    def fail(config, unavailable):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write_report", fail)
        assert run_whole(small_project) == 1
    assert "not enough memory" in capsys.readouterr().err
    deployed = releases.read_current(small_project.production_folder).id
    assert small_project.contact_list.exists()
    assert health_of(small_project)["complaints"] == ["run"]
    assert run_whole(small_project) == 0
    assert releases.current_id(small_project.production_folder) == deployed
    assert outcomes(small_project) == ["failed", "done"]
    assert health_of(small_project)["complaints"] == []


# ---- the clock


def test_a_clock_ten_years_ahead_and_back_is_a_complaint_until_the_next_good_run(project):
    run_whole(project)
    ahead = time.time() + 10 * 365 * 86_400
    os.utime(project.last_run, (ahead, ahead))
    assert health_of(project)["complaints"] == ["overdue"]
    assert health_of(project)["last_good_run_age_s"] == 0
    assert run_whole(project) == 0
    assert health_of(project)["complaints"] == []


def test_limits_go_by_the_monotonic_clock(project, monkeypatch):
    mark = {"monotonic": time.monotonic(), "limit_s": 60.0}
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not runs.is_overdue(mark)


def test_dry_run_beside_a_running_one_leaves_no_trace(project, capsys):
    before = digest(project.file.parent)
    with files.run_lock(project.lock):
        assert fullprocess.main(["--config", str(project.file), "--dry-run"]) == 0
    assert "another run is at work" in capsys.readouterr().out
    assert digest(project.file.parent) == before


def test_an_old_lastrun_record_of_other_keys_is_looked_at_as_none(project):
    files.write_bytes(project.last_run, files.encode(files.sealed({"what": "else"})))
    assert not fullprocess.nothing_new(project)
    shutil.rmtree(project.reports_folder)
    assert run_whole(project) == 0


def test_a_decision_that_was_never_written_is_no_damage_once_new_rows_answer_otherwise(
    project, monkeypatch
):
    run_whole(project)

    def die(config, record, *, up_to_date):
        row = {"at": record["decided_at"], "made": "the one that died", "action": "refused"}
        history.save(project.history, "deployments", [row])
        raise KeyboardInterrupt

    contradict(project)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(deployment, "_save_decision", die)
        run_whole(project)
    rows = make_rows(4000, seed=8, prefix="fine")
    rows.to_csv(project.input_folder / "new.csv", index=False)
    assert run_whole(project) == 0
    assert run_whole(project) == 0
