import os
import signal
import time

import pytest

from attrition.operations import runs
from attrition.operations.runs import Ended
from attrition.storage import files


@pytest.mark.parametrize("number", runs.ENDING)
def test_a_signal_ends_the_work_with_its_own_exit_code(number):
    with pytest.raises(Ended, match=f"ended by {number.name}") as ended, runs.ended_by_signals():
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number


def test_afterwards_signals_do_what_they_did_before():
    before = [signal.getsignal(number) for number in runs.ENDING]
    with runs.ended_by_signals():
        pass
    assert [signal.getsignal(number) for number in runs.ENDING] == before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runs.ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_library_that_catches_everything_goes_on():
    with pytest.raises(Ended), runs.ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("caught")


def wait_for_the_limit(seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        signal.sigtimedwait([], 0.01)
    pytest.fail("the limit did not end it")


def test_what_takes_longer_than_its_limit_is_ended():
    with (
        pytest.raises(Ended, match="longer than its limit of 0.001 minutes") as ended,
        runs.time_limit(0.06),
    ):
        wait_for_the_limit()
    assert ended.value.code == 1


def test_code_that_swallows_the_limit_gets_it_again(monkeypatch):
    monkeypatch.setattr(runs, "AGAIN_S", 0.05)
    swallowed = 0
    with pytest.raises(Ended), runs.time_limit(0.05):
        try:
            wait_for_the_limit()
        except BaseException:
            swallowed += 1
        wait_for_the_limit()
    assert swallowed == 1


def test_what_is_done_in_time_is_left_alone():
    with runs.time_limit(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_must_not_be_disturbed_is_finished_first():
    done = []
    with pytest.raises(Ended), runs.ended_by_signals():
        with runs.undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("finished")
        done.append("went on")
    assert done == ["finished"]


def test_a_mark_says_who_is_at_work_since_when(tmp_path):
    path = tmp_path / ".lock"
    with files.run_lock(path) as lock:
        assert runs.read_mark(path) is None
        runs.leave_mark(lock, "a run", "2026-01-01T00:00:00Z", 60.0)
        mark = runs.read_mark(path)
        assert (mark["run"], mark["pid"], mark["limit_s"]) == ("a run", os.getpid(), 60.0)
        assert 0 <= runs.age_s(mark) < 60
        runs.clear_mark(lock)
        assert runs.read_mark(path) is None


def test_a_shorter_mark_replaces_a_longer_one_whole(tmp_path):
    path = tmp_path / ".lock"
    with files.run_lock(path) as lock:
        runs.leave_mark(lock, "a run with a long name", "2026-01-01T00:00:00Z", 60.0)
        runs.leave_mark(lock, "b", "2026-01-01T00:00:00Z", None)
    assert runs.read_mark(path)["run"] == "b"


@pytest.mark.parametrize("data", [b"{}", b"[]", b"\0" * 4096, b'{"run": 1}', b"\xff", b"[" * 9999])
def test_a_mark_that_cannot_be_read_was_left_by_a_run_too(tmp_path, data):
    (tmp_path / ".lock").write_bytes(data)
    mark = runs.read_mark(tmp_path / ".lock")
    assert mark["run"].startswith("unknown ")
    assert runs.age_s(mark) is None
    assert not runs.is_overdue(mark)


def test_a_holder_is_overdue_after_its_limit_and_its_grace():
    now = time.monotonic()
    fine = {"monotonic": now - 60 - runs.GRACE_S + 10, "limit_s": 60.0}
    late = {"monotonic": now - 60 - runs.GRACE_S - 10, "limit_s": 60.0}
    by_hand = {"monotonic": now - 1e6, "limit_s": None}
    assert [runs.is_overdue(mark) for mark in (fine, late, by_hand)] == [False, True, False]


def test_an_age_is_never_negative():
    assert runs.age_s({"monotonic": time.monotonic() + 1e6}) == 0


def write_last_run(config, **record):
    files.write_bytes(config.last_run, files.encode(files.sealed(record)))


def test_the_last_good_run_is_when_its_record_was_last_renewed(empty_project):
    assert runs.last_good_at(empty_project) is None
    write_last_run(empty_project, good=True, good_at="2020-01-01T00:00:00Z")
    os.utime(empty_project.last_run, (0, 86_400))
    assert runs.last_good_at(empty_project) == "1970-01-02T00:00:00Z"


def test_a_run_that_was_not_good_carries_the_last_good_one_on(empty_project):
    write_last_run(empty_project, good=False, good_at="2020-01-01T00:00:00Z")
    assert runs.last_good_at(empty_project) == "2020-01-01T00:00:00Z"


def test_a_damaged_record_says_nothing_of_the_last_good_run(empty_project):
    files.write_bytes(empty_project.last_run, b"{}")
    assert runs.last_good_at(empty_project) is None
