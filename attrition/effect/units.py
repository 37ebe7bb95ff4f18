"""Describe the experiment: its units, their outcomes and contacts, and what the looks at them show.

A unit is a client in a quarter. It stays in the arm that it was assigned to, whether or not it was
contacted. Its outcome is that of the row that was assessed then, once it is mature. If no outcome of
that row arrives, because a later observation has replaced it or its outcome was known already, it is the
first outcome of the client's later observations that arrives. Without times, the order of arrival
decides which row was assessed, and which ones are later.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.config import Config
from attrition.contacts import experiment, log
from attrition.contacts.assignments import Look
from attrition.contacts.experiment import VOID, Assignment, Trial
from attrition.contacts.log import Entry
from attrition.contacts.standings import NOT_IN_REACH, Standing
from attrition.effect import estimation, list_quality, looks
from attrition.effect.estimation import Arms, Bool
from attrition.modelling.metrics import Vector
from attrition.rows import ledger, observations, typed_rows
from attrition.rows.known_rows import is_among
from attrition.storage import tables

KNOWN, PENDING, LOST = "known", "open", "lost"
CHECKS = ("ratio", "draws", "lost")  # a look that fails one of them is void
CARRIED = "open"  # in the record of the last look of a year: units for the next one
NO_STANDING = Standing()


class Row(NamedTuple):
    """A row of a client; churned: None as long as the outcome is open or immature.

    arrived: when the row arrived, with its outcome if it has one; first: when it arrived for the first
    time, open or not; "" if unknown, as of rows of an earlier version
    """

    time: str
    churned: bool | None
    has_outcome: bool
    arrived: str
    first: str = ""


@dataclass(frozen=True)
class Units:
    """All units, oldest first: (n,) each.

    id: of the assignment
    is_recomputed: whether the present key drew the arm; is_moved: whether the arm is another one than
    the key draws
    state: "known", "open" or, if neither the row nor a later one is there, "lost"; value: NaN if unknown
    assigned_on, first_on, left_on: datetime64[D], of the assignment, of the client's first one, and of
    the outcome of those who churned, else NaT
    """

    id: NDArray[np.int64]
    is_control: Bool
    is_recomputed: Bool
    is_moved: Bool
    risk: Vector
    value: Vector
    share: Vector
    state: NDArray[np.str_]
    churned: Bool
    is_contacted: Bool
    is_reached: Bool
    assigned_on: NDArray[np.datetime64]
    first_on: NDArray[np.datetime64]
    left_on: NDArray[np.datetime64]

    @property
    def is_known(self) -> Bool:
        return self.state == KNOWN

    def select(self, mask: Bool) -> "Units":
        return Units(**{name: values[mask] for name, values in vars(self).items()})

    def between(self, first: date, end: date | None = None) -> "Units":
        """Return the units that were assigned from one day until before another."""
        is_in = self.assigned_on >= np.datetime64(first)
        return self.select(is_in & (self.assigned_on < np.datetime64(end)) if end else is_in)

    def arms(self) -> Arms:
        known = self.select(self.is_known)
        return Arms(*(getattr(known, name) for name in Arms._fields))


# ---- read


def read_rows(
    config: Config, clients: Iterable[str], waiting: NDArray[np.uint64] | None
) -> dict[str, list[Row]]:
    """Read client -> rows of some clients, in the order of their arrival.

    waiting: the sorted ids of the rows whose outcomes are immature or suspicious; None if that is
    unknown, so that no outcome counts
    """
    columns, wanted = config.columns, set(clients)
    if not wanted:
        return {}
    hashes = np.unique(np.array([observations.name_hash(name) for name in wanted], "uint64"))
    is_stored = ledger.read_next_number(config) > 0  # not by an earlier version
    facts = (typed_rows.DELIVERED, typed_rows.OPENED, typed_rows.ROW_ID)
    names = [columns.client_name, columns.outcome, *filter(None, [columns.time]), *facts]
    table = ledger.read_table(config, names, clients=hashes if is_stored else None)
    frame = tables.to_frame(table)
    frame = frame[frame[columns.client_name].isin(wanted)]
    ids, outcome = frame[typed_rows.ROW_ID].to_numpy(), frame[columns.outcome].to_numpy("float64")
    has_outcome = ~np.isnan(outcome)
    counts = has_outcome & (False if waiting is None else ~is_among(ids, waiting))
    at = {number: line.ingested_at for number, line in enumerate(ledger.read_lines(config))}
    rows: dict[str, list[Row]] = {}
    for name, time, left, is_there, is_mature, delivered, opened in zip(
        frame[columns.client_name],
        frame[columns.time] if columns.time else [""] * len(frame),
        outcome == 1,
        has_outcome.tolist(),
        counts.tolist(),
        frame[typed_rows.DELIVERED],
        frame[typed_rows.OPENED],
        strict=True,
    ):
        arrived = at.get(delivered, "")
        row = Row(
            time, bool(left) if is_mature else None, is_there, arrived, at.get(opened, arrived)
        )
        rows.setdefault(name, []).append(row)
    return rows


def find_outcome(assignment: Assignment, rows: Sequence[Row]) -> tuple[str, bool, str]:
    """Return the state of a unit, whether the client churned, and when that arrived.

    rows: of the client, in the order of their arrival
    """
    at, observed = assignment.at, assignment.observed
    if observed:
        own = [row for row in rows if row.time == observed]
        later = [row for row in rows if row.time > observed]
    else:
        seen = [  # open rows come before others, as in `clients.current_clients`
            (not row.has_outcome or row.arrived > at, place)
            for place, row in enumerate(rows, 1)
            if row.first <= at
        ]
        _, place = max(seen, default=(False, 0))
        own, later = [*rows[:place][-1:]], [*rows[place:]]
    if not own and not later:
        return LOST, False, ""
    own, later = (
        [row for row in each if row.has_outcome and row.arrived > at] for each in (own, later)
    )
    counting = own or sorted(later, key=lambda row: (row.arrived, row.time))[:1]
    known = [row for row in counting if row.churned is not None]
    return (KNOWN, bool(known[-1].churned), known[-1].arrived) if known else (PENDING, False, "")


def find_contacts(
    assignment: Assignment, entries: Iterable[Entry], until: str, config: Config
) -> tuple[bool, bool]:
    """Return whether a unit was contacted, and reached, before its outcome and in its quarter.

    entries: those of the client that count; until: when the outcome arrived, "" if it has not
    """
    outcomes = [
        entry.outcome
        for entry in entries
        if entry.kind == log.CONTACT
        and assignment.at <= entry.at < (until or "9999")
        and experiment.quarter_of(config.day(entry.at)) == assignment.quarter
    ]
    return bool(outcomes), any(outcome not in NOT_IN_REACH for outcome in outcomes)


def find_units(
    config: Config,
    assigned: Sequence[Assignment],
    rows: Mapping[str, Sequence[Row]],
    standings: Mapping[str, Standing],
) -> Units:
    """Return the units of all assignments; rows: as `read_rows` returns them; standings: by client."""
    first: dict[str, str] = {}
    columns: dict[str, list[Any]] = {name: [] for name in Units.__dataclass_fields__}
    key = config.experiment.secret if config.experiment else None
    drawn = experiment.compare_with_draw(assigned, key)
    for each, is_as_drawn in zip(assigned, drawn, strict=True):
        state, churned, arrived = find_outcome(each, rows.get(each.client, ()))
        entries = standings.get(each.client, NO_STANDING).entries
        is_contacted, is_reached = find_contacts(each, entries, arrived, config)
        unit = {
            **{"id": each.id, "is_control": each.arm == experiment.CONTROL, "risk": each.risk},
            **{"is_recomputed": is_as_drawn is not None, "is_moved": is_as_drawn is False},
            **{"value": np.nan if each.value is None else each.value, "share": each.share},
            **{"state": state, "churned": churned},
            **{"is_contacted": is_contacted, "is_reached": is_reached},
            "assigned_on": config.day(each.at),
            "first_on": first.setdefault(each.client, config.day(each.at)),
            "left_on": config.day(arrived) if churned and arrived else "NaT",
        }
        for name, value in unit.items():
            columns[name].append(value)
    kinds = dict.fromkeys(("is_control", "churned", "is_contacted", "is_reached"), "bool")
    kinds |= dict.fromkeys(("is_recomputed", "is_moved"), "bool")
    kinds |= dict.fromkeys(("assigned_on", "first_on", "left_on"), "datetime64[D]")
    kinds |= {"state": "U5", "id": "int64"}
    return Units(
        **{name: np.array(each, kinds.get(name, "float64")) for name, each in columns.items()}
    )


# ---- describe


def take_look(
    units: Units, stored: Sequence[Look], day: str, now: str, share: float
) -> Look | None:
    """Return the look that is due and has not been taken, None if there is none.

    share: of those held out from now on, without this look
    """
    if not len(units.risk):
        return None
    due, _ = looks.schedule(_first_day(units), date.fromisoformat(day))
    if due is None or any(look.number >= due.index for look in stored):
        return None
    assigned = units.between(due.since, due.on)
    compared = _of_year(units.between(date.min, due.on), due, stored)
    effect, described = estimation.estimate(compared.arms()), _describe(assigned, compared)
    verdict = looks.decide(effect, due, is_valid=_are_valid(described))
    record = looks.describe_look(due, effect, verdict, now, described)
    if due.is_last:
        record[CARRIED] = compared.id[compared.state == PENDING].tolist()
    return Look(now, due.index, share, json.dumps(record, sort_keys=True))


def _of_year(units: Units, look: looks.Look, stored: Sequence[Look]) -> Units:
    """Return the units of a look's year, and those still open at the last look of the year before.

    Each unit is compared in the year in which its outcome is known. The sample ratio is that of the
    former only: which units stay open may depend on what contacts change.
    """
    records = [
        json.loads(each.record) for each in stored if each.number == look.index - look.number
    ]
    carried = [number for record in records for number in record.get(CARRIED, ())]
    is_of_year = units.assigned_on >= np.datetime64(look.since)
    return units.select(is_of_year | np.isin(units.id, carried))


def _describe(assigned: Units, compared: Units) -> dict[str, Any]:
    """Describe the units of a look: the checks of `CHECKS`, and who was contacted and reached."""
    is_lost = compared.state == LOST
    return {
        "ratio": estimation.check_ratio(assigned.is_control, assigned.share),
        "draws": estimation.check_draws(compared.id, compared.is_recomputed, compared.is_moved),
        "lost": estimation.check_lost(compared.is_control, is_lost, compared.share),
        "contacted_controls": estimation.count_contacted(
            compared.is_contacted[compared.is_control]
        ),
        "reached": {arm: _share(compared.is_reached[mask]) for arm, mask in _arms(compared)},
    }


def _are_valid(described: Mapping[str, Any]) -> bool:
    return all(described[name] is None or described[name]["is_valid"] for name in CHECKS)


def _first_day(units: Units) -> date:
    first: date = units.assigned_on.min().item()
    return first


def describe_experiment(
    trial: Trial | None, units: Units, stored: Sequence[Look], day: str
) -> dict[str, Any]:
    """Describe the experiment on a day, without the list of the day.

    The figures are those of the year that the next look belongs to, but for the looks, which have their
    own, and for the quality of the list. If that year fails a check so far, its looks are void.

    trial: None if the experiment is off; stored: the looks so far, oldest first
    """
    is_off, today = trial is None, date.fromisoformat(day)
    upcoming = looks.schedule(_first_day(units), today)[1] if len(units.risk) else None
    assigned = units.between(upcoming.since) if upcoming else units
    own = _of_year(units, upcoming, stored) if upcoming else units
    described = _describe(assigned, own)
    taken = [json.loads(look.record) for look in stored]
    for record in taken:
        record.pop(CARRIED, None)
    verdicts = [(look.number, look.verdict) for look in stored]
    if upcoming and not _are_valid(described):
        verdicts.append((upcoming.index, VOID))
    n_known = int(own.is_known.sum())
    return {
        "state": _state(trial),
        "share": float(units.share[-1]) if trial is None else trial.share,
        "since": _first_day(units).isoformat() if upcoming else None,
        "quarter": experiment.quarter_of(day),
        "units": {arm: _count(own.select(mask)) for arm, mask in _arms(own)},
        **described,
        "looks": taken,
        "last_look": taken[-1] if taken else None,
        "next_look": None
        if is_off or upcoming is None
        else looks.describe_next(upcoming, today, risk=own.risk, share=own.share, n_known=n_known),
        "verdict": looks.conclude(verdicts),
        "list_quality": _describe_quality(units, today),
    }


def measure_kept(units: Units, day: str, order: str) -> float | None:
    """Return the share of the value at risk that the lists of the quarter keep without the controls.

    order: of the list, "risk" or "value_at_risk". None before the first assignment of the quarter.
    """
    is_in = [
        experiment.quarter_of(str(each)) == experiment.quarter_of(day) for each in units.assigned_on
    ]
    own = units.select(np.array(is_in, bool))
    return list_quality.measure_kept(own.is_control, own.risk, own.value, order)


def _state(trial: Trial | None) -> str:
    if trial is None:
        return experiment.OFF
    return experiment.RUNNING if trial.key else experiment.NO_KEY


def _arms(units: Units) -> list[tuple[str, Bool]]:
    return [
        (experiment.TREATED, ~units.is_control),
        (experiment.CONTROL, units.is_control),
    ]


def _count(units: Units) -> dict[str, int]:
    return {state: int((units.state == state).sum()) for state in (KNOWN, PENDING, LOST)}


def _share(mask: Bool) -> float | None:
    return float(mask.mean()) if len(mask) else None


def _describe_quality(units: Units, today: date) -> dict[str, Any] | None:
    """Describe how good the list was, by the controls whom nobody contacted."""
    own = units.select(units.is_control & units.is_known & ~units.is_contacted)
    names = ("assigned_on", "churned", "risk", "first_on", "left_on")
    return list_quality.describe_list_quality(today, **{name: getattr(own, name) for name in names})
