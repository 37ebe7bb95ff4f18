"""Limit a run: the signals that end it, its time limit, and the mark that it leaves while it works.

The mark is the content of the lock file: it names the run that has the lock, and since when. If there is
a mark but the lock is free, that run was killed. Ages come from the monotonic clock, which does not
change when the clock is set. Standard library only.
"""

import faulthandler
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from attrition import wording
from attrition.config import Config
from attrition.errors import Damaged
from attrition.storage import files

Mark = dict[str, Any]
Row = Mapping[str, Any]

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 60
AGAIN_S = 5  # the interval of the signal, which comes again if Python code swallows its exception
STDERR = 2
COUNTED = ("skipped", "failed", "died", "unavailable")
LATELY = timedelta(days=1)
RUNS_READ = 300  # more than the ticks of a day
EXAMPLE = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Ended(BaseException):
    """The end of the work by a signal or the time limit.

    Not an Exception, so that the run ends even if a library catches every Exception.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


# ---- what ends a run


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the block with `Ended` and exit code 128 + n on SIGTERM, SIGINT and SIGHUP.

    If a signal was ignored (nohup), it stays ignored. Outside the main thread nothing can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(f"ended by {signal.Signals(number).name}", 128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    handled = [number for number, was in before.items() if was not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the block with `Ended` when it takes longer, and the process if the block does not end.

    Code in C receives no signal if it never returns to Python; a thread of faulthandler, which needs no
    GIL, ends the process GRACE_S later.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(f"ended: it took longer than its limit of {seconds / 60:g} minutes", 1)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True, file=STDERR)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Postpone a signal that ends a run until the block is done.

    Blocking it in this thread is not enough: another thread receives it then, and Python runs the
    handler in this one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, wait) for number in ENDING}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was if was is not None else signal.SIG_DFL)
    if received:
        signal.raise_signal(received[0])


# ---- the mark


def leave_mark(lock: int, run: str, started_at: str, limit_s: float | None) -> None:
    """Write the mark of a run into the lock file; lock: its descriptor; limit_s: None if unlimited."""
    mark: Mark = {"run": run, "pid": os.getpid(), "started_at": started_at}
    mark |= {"monotonic": time.monotonic(), "limit_s": limit_s}
    data = json.dumps(mark, sort_keys=True).encode()
    os.pwrite(lock, data, 0)
    os.ftruncate(lock, len(data))
    os.fsync(lock)


def clear_mark(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.fsync(lock)


def read_mark(path: Path) -> Mark | None:
    """Read the mark in a lock file; None if there is none.

    If it cannot be read, a run left it all the same: a mark without a time is returned.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if not data:
        return None
    unknown: Mark = {"run": f"unknown {files.sha256_bytes(data)[:16]}", "started_at": None}
    try:
        mark = json.loads(data)
        is_ours = isinstance(mark["run"], str) and isinstance(mark["started_at"], str)
    except (ValueError, TypeError, KeyError, RecursionError):
        return unknown
    return mark if is_ours else unknown


def age_s(mark: Mark) -> float | None:
    """Return the seconds since the run with the lock began; None if its mark contains no time.

    Valid only while that run has the lock: then both processes share the monotonic clock of one boot.
    """
    since = mark.get("monotonic")
    return max(0.0, time.monotonic() - since) if isinstance(since, int | float) else None


def is_overdue(mark: Mark) -> bool:
    """Has the run with the lock exceeded its time limit and the grace to end?"""
    limit_s, age = mark.get("limit_s"), age_s(mark)
    return isinstance(limit_s, int | float) and age is not None and age > limit_s + GRACE_S


# ---- the last good run


def last_good_at(config: Config) -> str | None:
    """Return when the last good run ended; None if there was none, or if its record cannot be read.

    A run is good if it read every source. The time is that of the record of the last run: a run with
    nothing new renews it without changing the content, and a run that is not good copies the time.
    """
    try:
        record = files.read_record(config.last_run)
        renewed = config.last_run.stat().st_mtime
    except (Damaged, FileNotFoundError):
        return None
    if record is None:
        return None
    if record.get("good"):
        return time.strftime(files.TIME, time.gmtime(renewed))
    good_at = record.get("good_at")
    return str(good_at) if good_at else None


def last_unavailable(config: Config) -> list[str]:
    """Return the sources that the last run could not read."""
    try:
        record = files.read_record(config.last_run)
    except Damaged:
        return []  # every run reports it and writes the record again
    return list(record.get("unavailable", [])) if record else []


# ---- the runs of the last day


class Complaint(NamedTuple):
    """A problem that needs attention: a code for machines, a sentence for people.

    subject: what distinguishes several complaints of one code, such as the name of a source
    """

    code: str
    sentence: str
    subject: str = ""


def tally(recent_runs: Iterable[Row], now: datetime) -> dict[str, int]:
    """Count the runs of the last day if they were skipped, failed, died, or could not read a source.

    >>> tally([{"started_at": "2026-03-01T11:00:00Z", "outcome": "failed"}], EXAMPLE)["failed"]
    1
    """
    recent = Counter(
        row["outcome"]
        for row in recent_runs
        if row["started_at"]
        and wording.seconds_since(row["started_at"], now) < LATELY.total_seconds()
    )
    return {outcome: recent[outcome] for outcome in COUNTED}


def check_overdue(good_at: str | None, limit_minutes: float, now: datetime) -> Complaint | None:
    """Return a complaint if the last good run is longer ago than the limit.

    If its time is in the future, the clock was set back and its age is unknown.

    >>> check_overdue("2026-03-01T09:00:00Z", 60, EXAMPLE).sentence
    'the last good run ended 3 hours ago, expected one every 60 minutes; is cron running?'
    """
    if good_at is None:
        return Complaint("overdue", "there was no good run yet; see the log for the reason")
    seconds = wording.seconds_since(good_at, now)
    if abs(seconds) <= 60 * limit_minutes:
        return None
    when = "in the future: the clock was set back" if seconds < 0 else wording.ago(good_at, now)
    return Complaint(
        "overdue",
        f"the last good run ended {when}, expected one every {limit_minutes:g} minutes; "
        "is cron running?",
    )
