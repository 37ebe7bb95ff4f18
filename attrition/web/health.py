"""Check the health of the model, the records, the sources and the recent runs.

Sentences name no folder and no secret, because anyone with access to the network can read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attrition import wording
from attrition.config import Columns
from attrition.errors import AttritionError, NotReady
from attrition.operations import releases, runs
from attrition.operations.releases import Release
from attrition.operations.runs import Complaint
from attrition.reporting.report_data import BASE_RATE
from attrition.storage import history
from attrition.web.artifact_cache import State, optional

Row = Mapping[str, Any]

UNUSED_SHOWN = 5
CODES = (
    *("overdue", "run", "unavailable", "unused", "no_model", "model", "release", "damaged"),
    *("history", "slow", "other_columns", "cost"),
)
OK, STARTING, DEGRADED = "ok", "starting", "degraded"


@dataclass(frozen=True)
class RecentRuns:
    """The last run with work to do, the end of the last good one, and counts of one day."""

    last: Row | None
    good_at: str | None
    counts: Mapping[str, int]
    complaints: tuple[Complaint, ...]


@dataclass(frozen=True)
class Health:
    """The status of the app; `can_answer` is false if no request can be answered."""

    status: str
    can_answer: bool
    release: str | None
    runs: RecentRuns
    complaints: tuple[Complaint, ...]


def summarise_runs(state: State, now: datetime) -> RecentRuns:
    """Summarise recent runs, with a complaint if one failed or if a good one is overdue."""
    config = state.config
    complaints: list[Complaint] = []
    try:
        rows = state.read_history(history.read_runs, runs.RUNS_READ)
        worked = state.read_history(history.read_worked_runs, 1)
    except AttritionError:
        rows = worked = []
        complaints.append(Complaint("history", "the history cannot be read"))
    last = worked[-1] if worked else None
    if last and last["outcome"] in ("failed", "died"):
        complaints.append(Complaint("run", f"the last run {last['outcome']}; see its log"))
    good_at, damage = None, list[str]()
    record = optional(state.last_run, damage=damage)
    complaints += [Complaint("damaged", sentence) for sentence in damage]
    if record is not None:
        good_at = runs.last_good_at(config)
        complaints += filter(None, [runs.check_overdue(good_at, config.overdue_minutes, now)])
        if unavailable := record.get("unavailable"):
            count = wording.plural(len(unavailable), "source")
            sentence = f"{count} could not be read in the last run; see its log"
            complaints.append(Complaint("unavailable", sentence))
    return RecentRuns(last, good_at, runs.tally(rows, now), tuple(complaints))


def find_unused(state: State, damage: list[str] | None = None) -> list[Row]:
    """Return the sources that are there and of which nothing is used."""
    record = optional(state.ingestion, damage=damage) or {}
    return list(record.get("unused", []))


def performance_of(monitoring: Row | None, release: str | None) -> Row | None:
    """Return the performance of a release, None if the record describes another one."""
    if monitoring is None or release is None or monitoring["release"] != release:
        return None
    return monitoring["performance"]


def check_health(state: State, now: datetime) -> Health:
    """Check the release, the records and the recent runs."""
    production = state.production
    complaints: list[Complaint] = []
    status, can_answer, release, kind = OK, True, None, ""
    try:
        loaded = production.get()[0]
        release, kind = loaded.id, loaded.training["kind"]
        if production.problem:
            complaints.append(Complaint("release", production.problem))
        if not production.is_flat:
            sentence = f"the model of {release} could not be flattened, so predictions are slower"
            complaints.append(Complaint("slow", sentence))
        if gone := releases.gone_features(loaded.training, state.config.columns):
            sentence = f"config.json no longer names {', '.join(gone)}, which the model needs"
            complaints.append(Complaint("other_columns", sentence))
    except NotReady as error:
        is_starting = error.code == "no_model"
        status, can_answer = (STARTING, True) if is_starting else (DEGRADED, False)
        complaints.append(Complaint(error.code, str(error)))
    damage: list[str] = []
    sources = find_unused(state, damage)
    for read in (state.monitoring, state.assessment, state.diagnostics, state.figure_names):
        optional(read, damage=damage)
    optional(state.check_contact_log, damage=damage)
    complaints += [Complaint("damaged", sentence) for sentence in damage]
    performance = performance_of(optional(state.monitoring), release)
    if performance and performance["verdict"] == "degraded":
        name = kind if kind == BASE_RATE else "model"
        complaints.append(Complaint("model", f"the {name} in production is no longer accurate"))
    timings = (optional(state.diagnostics) or {}).get("timings") or {}
    complaints += [Complaint("cost", sentence) for sentence in timings.get("doubled", [])]
    recent = summarise_runs(state, now)
    complaints += recent.complaints
    # Without the reason, which may quote a client's row.
    lines = wording.unused_lines(sources, UNUSED_SHOWN, with_reason=False)
    complaints += [Complaint("unused", line) for line in lines]
    if complaints and status == OK:
        status = DEGRADED
    return Health(status, can_answer, release, recent, tuple(complaints))


def check_columns(release: Release, columns: Columns) -> None:
    """Check that config.json still names the columns that a model needs.

    Raises: NotReady.
    """
    if gone := releases.gone_features(release.training, columns):
        sentence = (
            f"the model in production needs {', '.join(gone)}, which config.json no longer names; run "
            "fullprocess.py"
        )
        raise NotReady(sentence, "other_columns")


def check_ready(state: State, now: datetime) -> str:
    """Return the release that answers requests, if it verifies and the last good run is recent.

    Raises: NotReady.
    """
    release, config = state.production.get()[0], state.config
    check_columns(release, config.columns)
    overdue = runs.check_overdue(runs.last_good_at(config), config.overdue_minutes, now)
    if overdue:
        raise NotReady(overdue.sentence, overdue.code)
    return release.id
