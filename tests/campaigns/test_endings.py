"""Whatever ends a run of the whole process, the next one finishes: signals, limits, kills, clocks."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

import training
from attrition.operations import releases, runs
from attrition.storage import files, history
from tests.conftest import ROOT, contradict, count_as_asked, run_whole
from tests.support import SCRIPT, run


def outcomes(config):
    return [row["outcome"] for row in history.read_runs(config.history)]


def run_with(config, prepare, *more, **settings):
    """Run the whole process in a process of its own, after some lines that set a trap."""
    count_as_asked(config)
    arguments = ["--config", str(config.file), *more]
    code = f"{prepare}\nimport sys, fullprocess\nsys.exit(fullprocess.main({arguments!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, **settings
    )


WAIT_IN_TRAINING = """
import pathlib, time, training
def wait(config):
    pathlib.Path({ready!r}).touch()
    time.sleep(600)
training.train_model = wait
"""


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


@pytest.mark.parametrize("number", runs.ENDING)
def test_a_signal_ends_a_run_at_once_and_the_next_one_finishes(small_project, tmp_path, number):
    ready = tmp_path / "ready"
    process = run_with(small_project, WAIT_IN_TRAINING.format(ready=str(ready)), "--quiet")
    wait_for(ready, process)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in told
    assert "Traceback" not in told
    (row,) = history.read_runs(small_project.history)
    assert (row["outcome"], row["reason"]) == ("failed", f"ended by {number.name}")
    assert run_whole(small_project) == 0
    assert outcomes(small_project) == ["failed", "done"]


def limited(config, minutes):
    text = config.file.read_text()
    config.file.write_text(text[:-1] + f', "run_limit_minutes": {minutes}}}')


def test_a_run_that_takes_too_long_is_ended_and_recorded(small_project, monkeypatch, capsys):
    limited(small_project, 0.05)

    def hang(config):
        while True:
            signal.sigtimedwait([], 0.01)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_model", hang)
        assert run_whole(small_project) == 1
    assert "longer than its limit of 0.05 minutes" in capsys.readouterr().err
    assert outcomes(small_project) == ["failed"]
    limited_again = small_project.file.read_text().replace("0.05", "60")
    small_project.file.write_text(limited_again)
    assert run_whole(small_project) == 0


HOLD_THE_GIL = """
import assessment, diagnostics, ingestion, itertools, reporting, training
from attrition.operations import runs
runs.GRACE_S = 1
ingestion.ingest_new_data = lambda config, **_: 0 in itertools.count(1)
"""


def test_a_run_that_no_longer_listens_is_ended_all_the_same(small_project):
    limited(small_project, 0.05)
    process = run_with(small_project, HOLD_THE_GIL, "--quiet")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Timeout" in told
    small_project.file.write_text(small_project.file.read_text().replace("0.05", "60"))
    assert run_whole(small_project) == 0
    assert outcomes(small_project) == ["died", "done"]


def test_a_killed_run_is_recorded_by_the_next_once(small_project, tmp_path, capsys):
    ready = tmp_path / "ready"
    process = run_with(small_project, WAIT_IN_TRAINING.format(ready=str(ready)), "--quiet")
    wait_for(ready, process)
    process.kill()
    process.communicate()
    assert run_whole(small_project) == 0
    assert "it never ended: it was killed, or the machine stopped" in capsys.readouterr().err
    assert run_whole(small_project) == 0
    assert capsys.readouterr().err == ""
    assert outcomes(small_project) == ["died", "done"]


def test_a_run_without_a_reader_of_its_output_is_told_by_its_exit_code_alone(small_project):
    count_as_asked(small_project)
    command = [*SCRIPT, "--config", str(small_project.file)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert run(small_project).stdout == "nothing new\n"


def test_closed_standard_streams_cost_no_file_its_content(small_project):
    count_as_asked(small_project)
    command = f"exec {SCRIPT[0]} {SCRIPT[1]} --config {small_project.file} <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0
    assert run(small_project).stdout == "nothing new\n"


def test_a_stopped_holder_keeps_the_lock_and_finishes_right(small_project, tmp_path):
    ready = tmp_path / "ready"
    slow = WAIT_IN_TRAINING.format(ready=str(ready)).replace(
        "time.sleep(600)", "return real(config)"
    )
    process = run_with(small_project, "import training\nreal = training.train_model\n" + slow)
    wait_for(ready, process)
    process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(2):
            assert run(small_project, "--quiet").returncode == 0
    finally:
        process.send_signal(signal.SIGCONT)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert outcomes(small_project) == ["skipped", "skipped", "done"]
    assert run_whole(small_project) == 0


def test_a_child_that_lingers_does_not_hold_the_lock(small_project, monkeypatch):
    children = []
    real = training.train_model

    def spawn(config):
        children.append(subprocess.Popen(["/bin/sleep", "600"], close_fds=False))
        return real(config)

    monkeypatch.setattr(training, "train_model", spawn)
    try:
        assert run_whole(small_project) == 0
        assert children[0].poll() is None
        with small_project.lock.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("did not converge"), OSError(28, "full")]
)
def test_a_training_that_fails_keeps_the_model_and_its_reason(project, monkeypatch, error):
    before = releases.current_id(project.production_folder)
    contradict(project)

    def fail(config):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_model", fail)
        try:
            assert run_whole(project) == 1
        except ValueError:
            assert isinstance(error, ValueError)  # our own bugs are not hidden
    assert releases.current_id(project.production_folder) == before
    last = history.read_runs(project.history)[-1]
    assert last["outcome"] == "failed"
    assert last["reason"]
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) != before


@pytest.mark.parametrize("jump", ["2020-01-01T00:00:00Z", "1970-01-01T00:00:10Z"])
def test_a_clock_that_went_back_changes_no_order(project, monkeypatch, jump):
    before = releases.current_id(project.production_folder)
    contradict(project)
    with monkeypatch.context() as patch:
        patch.setattr(files, "utc_now", lambda: jump)
        assert run_whole(project) == 0
        after = releases.current_id(project.production_folder)
        assert releases.list_ids(project.production_folder) == [before, after]
        assert history.read_runs(project.history)[-1]["started_at"] == jump
        assert history.read_deployments(project.history)[-1]["release"] == after
        assert all(row["elapsed_s"] >= 0 for row in history.read_runs(project.history))
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) == after
