"""Schedule the looks at an experiment, and decide what one shows.

Each year of an experiment, counted from its first assignment, has four looks, one at the end of each
quarter: at the units of this year, and at those that were still open at the end of the year before.
Whoever looks monthly at an interval of 95 % finds an effect in one of six years without any; the bounds
of these looks keep that below 6 %.
"""

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

import numpy as np

from attrition.contacts.experiment import HARMS, HELPS, NO_EFFECT, OPEN, VOID
from attrition.effect.estimation import Effect
from attrition.modelling.metrics import Vector

# Source: O'Brien and Fleming 1979, Biometrics 35:549; Lan and DeMets 1983, Biometrika 70:659.
BOUNDS = (3.93, 2.78, 2.30, 2.04)
MONTHS_BETWEEN = 3
QUARTER_DAYS = 91
Z_POWER = 0.8416212335729143  # the normal quantile of a power of 80 %


@dataclass(frozen=True)
class Look:
    """A look: its number among all from 1, its day, and the first day of the units that it compares."""

    index: int
    on: date
    since: date

    @property
    def number(self) -> int:
        """The number of the look in its year, from 1."""
        return (self.index - 1) % len(BOUNDS) + 1

    @property
    def is_last(self) -> bool:
        """Whether the year ends with it."""
        return self.number == len(BOUNDS)

    @property
    def bound(self) -> float:
        return BOUNDS[self.number - 1]


def add_months(day: date, months: int) -> date:
    """Return the same day of a later month, or the last day of that month if it is shorter.

    >>> add_months(date(2026, 11, 30), 3)
    datetime.date(2027, 2, 28)
    """
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def schedule(first: date, today: date) -> tuple[Look | None, Look]:
    """Return the latest look that is due, None before the first one is, and the next look.

    A look compares the units that were assigned from its `since` until its day. Looks that were missed,
    because nothing ran for months, are not made up for: fewer looks find fewer effects by chance.

    first: the day of the first assignment

    >>> due, upcoming = schedule(date(2026, 1, 5), date(2026, 7, 5))
    >>> due.number, upcoming.number, upcoming.on.isoformat(), upcoming.bound
    (2, 3, '2026-10-05', 2.3)
    """
    n = 0
    while add_months(first, (n + 1) * MONTHS_BETWEEN) <= today:
        n += 1
    return (_look(first, n) if n else None), _look(first, n + 1)


def _look(first: date, index: int) -> Look:
    years = (index - 1) // len(BOUNDS)
    since = add_months(first, years * len(BOUNDS) * MONTHS_BETWEEN)
    return Look(index, add_months(first, index * MONTHS_BETWEEN), since)


def decide(effect: Effect, look: Look, *, is_valid: bool = True) -> str:
    """Decide if contacts help, harm, or if that is open; void if the assignment is not valid."""
    if not is_valid:
        return VOID
    if effect.z is None or not abs(effect.z) > look.bound:  # open if z is NaN
        return OPEN
    return HELPS if effect.z < 0 else HARMS


def conclude(verdicts: Iterable[tuple[int, str]]) -> str:
    """Conclude from all looks so far: the latest effect that is proven counts.

    A year of looks that leaves the first question open concludes that there is no effect of the size
    that would have been seen. It does not refute an effect proven earlier, since few units are controls
    after that. A look that is void voids those before it in its year, whose units it compares too, but
    no effect that was proven in an earlier year.

    verdicts: the number, among all looks, and the verdict of each one, in order

    >>> conclude([(1, "open"), (2, "helps"), (3, "open"), (4, "open")])
    'helps'
    >>> conclude([(1, "open"), (2, "open"), (3, "open"), (4, "open"), (5, "open")])
    'no_effect'
    >>> conclude([(1, "helps"), (2, "void")]), conclude([(4, "helps"), (5, "void")])
    ('void', 'helps')
    """
    result = OPEN
    for _, each in groupby(verdicts, lambda look: (look[0] - 1) // len(BOUNDS)):
        looks = list(each)
        index, last = looks[-1]
        proven = [verdict for _, verdict in looks if verdict in (HELPS, HARMS)]
        if last == VOID:
            result = VOID if result == OPEN else result
        elif proven:
            result = proven[-1]
        elif result in (OPEN, VOID):
            result = OPEN if index % len(BOUNDS) else NO_EFFECT
    return result


def describe_look(
    look: Look, effect: Effect, verdict: str, at: str, units: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of a look that was taken; units: what describes those that it compared."""
    return {
        "number": look.number,
        "of": len(BOUNDS),
        "at": at,
        "verdict": verdict,
        "bound": look.bound,
        **effect.to_dict(),
        **units,
    }


def describe_next(
    look: Look, today: date, *, risk: Vector, share: Vector, n_known: int
) -> dict[str, Any]:
    """Describe the next look: how many outcomes until then, and the smallest effect it would show.

    Outcomes arrive as fast as units were assigned, at least since a quarter ago: the first list assigns
    as many at once as would otherwise come in months. The smallest effect is the one whose z exceeds the
    bound of the look with a power of 80 %.

    risk, share: (n,) of the units of this look so far, those with open outcomes too; n_known: those with
    known outcomes

    >>> units = {"risk": np.full(500, 0.5), "share": np.full(500, 0.2), "n_known": 375}
    >>> plan = describe_next(_look(date(2026, 1, 1), 2), date(2026, 5, 2), **units)
    >>> plan["more_outcomes"], round(plan["smallest_effect"], 2)
    (248, 0.18)
    """
    days = (look.on - today).days
    per_day = len(risk) / max((today - look.since).days, QUARTER_DAYS)
    more = round(per_day * days)
    variance = float(np.mean(risk * (1 - risk))) if len(risk) else 0.0
    # n p (1 - p) / n of n units is the inverse of 1 / n1 + 1 / n2.
    information = (n_known + more) * float(np.mean(share * (1 - share))) if len(share) else 0.0
    error = np.sqrt(variance / information) if information > 0 else None
    return {
        "number": look.number,
        "of": len(BOUNDS),
        "on": look.on.isoformat(),
        "more_outcomes": more,
        "smallest_effect": None if error is None else float((look.bound + Z_POWER) * error),
    }
