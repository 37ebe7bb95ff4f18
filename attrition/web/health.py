"""Is everything well? What the model, the records and the runs of late say, for /health and people.

Sentences name no folder and no secret: they are shown to whoever can reach the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attrition import wording
from attrition.errors import AttritionError
from attrition.operations import runs
from attrition.operations.runs import Complaint
from attrition.storage import history
from attrition.web.artifact_cache import NotReady, State

Row = Mapping[str, Any]

OK, STARTING, DEGRADED = "ok", "starting", "degraded"


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


def of_runs(state: State, now: datetime) -> Runs:
    """Summarise the recent runs."""
    config = state.config
    complaints: list[Complaint] = []
    try:
        rows = history.read_runs(config.history, runs.RUNS_READ)
        worked = history.read_worked_runs(config.history, 1)
    except AttritionError:
        rows = worked = []
        complaints.append(Complaint("history", "the history cannot be read"))
    last = worked[-1] if worked else None
    if last and last["outcome"] in ("failed", "died"):
        complaints.append(Complaint("run", f"the last run {last['outcome']}; its log says why"))
    good_at = None
    try:
        record = state.cache.record(config.last_run, "fullprocess.py")
    except NotReady as error:
        if error.code == "damaged":
            complaints.append(Complaint("damaged", str(error)))
    else:
        good_at = runs.last_good_at(config)
        complaints += filter(None, [runs.check_overdue(good_at, config.overdue_minutes, now)])
        if unavailable := record.get("unavailable"):
            what = wording.plural(len(unavailable), "source")
            sentence = f"{what} could not be read in the last run; its log says which"
            complaints.append(Complaint("unavailable", sentence))
    return Runs(last, good_at, runs.tally(rows, now), tuple(complaints))


def performance_of(monitoring: Row | None, release: str | None) -> Row | None:
    """Return what monitoring says of a release; of another one it says nothing about this one."""
    if monitoring is None or release is None or monitoring["release"] != release:
        return None
    performance: Row = monitoring["performance"]
    return performance


def look(state: State, now: datetime) -> Health:
    """Check the model, the records and the recent runs."""
    config, production = state.config, state.production
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
            record = state.cache.record(path, script)
        except NotReady as error:
            complaints += [Complaint("damaged", str(error))] if error.code == "damaged" else []
        else:
            performance = performance_of(record, release) if "performance" in record else None
            if performance and performance["verdict"] == "degraded":
                sentence = "the model in production is no longer right"
                complaints.append(Complaint("model", sentence))
    recent_runs = of_runs(state, now)
    complaints += recent_runs.complaints
    if complaints and status == OK:
        status = DEGRADED
    return Health(status, answers, release, recent_runs, tuple(complaints))
