"""Is everything well? What the model, the records and the runs of late say, for /health and people.

Sentences name no folder and no secret: they are shown to whoever can reach the API.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from attrition import wording as words
from attrition.config import Config
from attrition.errors import AttritionError
from attrition.operations import runs as watch
from attrition.storage import history
from attrition.web import pages as dashboard
from attrition.web.artifact_cache import NotReady, Production, Shelf

Row = Mapping[str, Any]

COUNTED = ("skipped", "failed", "died", "held")
LATELY = timedelta(days=1)
RUNS_READ = 300  # more than the ticks of a day
EXAMPLE = datetime(2026, 3, 1, 12, tzinfo=UTC)
OK, STARTING, DEGRADED = "ok", "starting", "degraded"


class Complaint(NamedTuple):
    """What a person should look at: a code for machines, a sentence for people."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Runs:
    """The last run that did something, the last good one, and the counts of the last day."""

    last: Row | None
    good_at: str | None
    counts: Mapping[str, int]
    complaints: tuple[Complaint, ...]


@dataclass(frozen=True)
class Health:
    """`answers` says whether requests can be answered."""

    status: str
    answers: bool
    release: str | None
    runs: Runs
    complaints: tuple[Complaint, ...]


def tally(runs: Iterable[Row], now: datetime) -> dict[str, int]:
    """Count the runs of the last day that were skipped, failed, died, or could not read a source.

    >>> tally([{"started_at": "2026-03-01T11:00:00Z", "outcome": "failed"}], EXAMPLE)["failed"]
    1
    """
    recent = Counter(
        row["outcome"]
        for row in runs
        if row["started_at"]
        and dashboard.seconds_since(row["started_at"], now) < LATELY.total_seconds()
    )
    return {outcome: recent[outcome] for outcome in COUNTED}


def check_overdue(good_at: str | None, limit_minutes: float, now: datetime) -> Complaint | None:
    """Complain when the last good run is longer ago than it may be.

    A time in the future says that the clock was set back: how long ago it was nobody knows.

    >>> check_overdue("2026-03-01T09:00:00Z", 60, EXAMPLE).sentence
    'the last good run ended 3 hours ago, expected one every 60 minutes; is cron running?'
    """
    if good_at is None:
        return Complaint("overdue", "there was no good run yet; the log says why")
    seconds = dashboard.seconds_since(good_at, now)
    if abs(seconds) <= 60 * limit_minutes:
        return None
    when = "in the future: the clock was set back" if seconds < 0 else dashboard.ago(good_at, now)
    return Complaint(
        "overdue",
        f"the last good run ended {when}, expected one every {limit_minutes:g} minutes; "
        "is cron running?",
    )


def of_runs(config: Config, shelf: Shelf, now: datetime) -> Runs:
    """Look at the runs of late."""
    complaints: list[Complaint] = []
    try:
        rows = history.read_runs(config.history, RUNS_READ)
        worked = history.read_worked_runs(config.history, 1)
    except AttritionError:
        rows = worked = []
        complaints.append(Complaint("history", "the history cannot be read"))
    last = worked[-1] if worked else None
    if last and last["outcome"] in ("failed", "died"):
        complaints.append(Complaint("run", f"the last run {last['outcome']}; its log says why"))
    good_at = None
    try:
        record = shelf.record(config.last_run, "fullprocess.py")
    except NotReady as error:
        if error.code == "damaged":
            complaints.append(Complaint("damaged", str(error)))
    else:
        good_at = watch.last_good_at(config)
        complaints += filter(None, [check_overdue(good_at, config.overdue_minutes, now)])
        if held := record.get("held"):
            what = words.plural(len(held), "source")
            sentence = f"{what} could not be read in the last run; its log says which"
            complaints.append(Complaint("held", sentence))
    return Runs(last, good_at, tally(rows, now), tuple(complaints))


def look(config: Config, shelf: Shelf, production: Production, now: datetime) -> Health:
    """Look at everything."""
    complaints: list[Complaint] = []
    status, answers, release = OK, True, None
    try:
        release = production.get()[0].id
        if production.problem:
            complaints.append(Complaint("release", production.problem))
    except NotReady as error:
        is_starting = error.code == "no_model"
        status, answers = (STARTING, True) if is_starting else (DEGRADED, False)
        complaints.append(Complaint(error.code, str(error)))
    for path, script in (
        (config.monitoring_record, "fullprocess.py"),
        (config.assessment_record, "assessment.py"),
        (config.diagnostics_record, "diagnostics.py"),
        (config.report_record, "reporting.py"),
    ):
        try:
            record = shelf.record(path, script)
        except NotReady as error:
            complaints += [Complaint("damaged", str(error))] if error.code == "damaged" else []
        else:
            truth = dashboard.truth_of(record, release) if "truth" in record else None
            if truth and truth["verdict"] == "degraded":
                sentence = "the model in production is no longer right"
                complaints.append(Complaint("model", sentence))
    runs = of_runs(config, shelf, now)
    complaints += runs.complaints
    if complaints and status == OK:
        status = DEGRADED
    return Health(status, answers, release, runs, tuple(complaints))
