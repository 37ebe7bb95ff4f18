"""Check the health of the model, the records, the sources and the recent runs.

Sentences name no folder and no secret, because anyone with access to the network can read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from attrition.config import Columns
from attrition.errors import AttritionError, NotReady
from attrition.messages import causes
from attrition.messages.causes import Records
from attrition.operations import releases, runs
from attrition.operations.releases import Release
from attrition.operations.runs import Complaint
from attrition.storage import history
from attrition.web.artifact_cache import State, optional

Row = Mapping[str, Any]

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
    """Summarise recent runs, with a complaint if a good one is overdue or the history is unreadable."""
    config = state.config
    complaints: list[Complaint] = []
    try:
        rows = state.read_history(history.read_runs, runs.RUNS_READ)
        worked = state.read_history(history.read_worked_runs, 1)
    except AttritionError:
        rows = worked = []
        complaints.append(Complaint("history", "the history cannot be read"))
    good_at = None
    if optional(state.last_run) is not None:
        good_at = runs.last_good_at(config)
        complaints += filter(None, [runs.check_overdue(good_at, config.overdue_minutes, now)])
    last = worked[-1] if worked else None
    return RecentRuns(last, good_at, runs.tally(rows, now), tuple(complaints))


def find_unused(state: State) -> list[Row]:
    """Return the sources that are there and of which nothing is used."""
    return list((optional(state.ingestion) or {}).get("unused", []))


def check_health(state: State, now: datetime) -> Health:
    """Check the release, the records and the recent runs."""
    production = state.production
    complaints: list[Complaint] = []
    status, can_answer, release, training = OK, True, None, None
    try:
        loaded = production.get()[0]
        release, training = loaded.id, loaded.training
        if production.problem:
            complaints.append(Complaint("release", production.problem))
        if not production.is_flat:
            sentence = f"the model of {release} could not be flattened, so predictions are slower"
            complaints.append(Complaint("slow", sentence))
    except NotReady as error:
        is_starting = error.code == "no_model"
        status, can_answer = (STARTING, True) if is_starting else (DEGRADED, False)
        complaints.append(Complaint(error.code, str(error)))
    recent = summarise_runs(state, now)
    damage: list[str] = []
    read = partial(optional, damage=damage)
    records = Records(
        release=release,
        training=training,
        ingestion=read(state.ingestion),
        monitoring=read(state.monitoring),
        assessment=read(state.assessment),
        diagnostics=read(state.diagnostics),
        last_run=read(state.last_run),
        worked=recent.last,
        damage=damage,
    )
    for check in (state.figure_names, state.check_contact_log):
        read(check)
    complaints += [*causes.judge(records, state.config.columns), *recent.complaints]
    experiment = state.config.experiment
    if experiment and experiment.secret is None:
        complaints.append(Complaint("experiment", causes.WITHOUT_KEY.format("app")))
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
