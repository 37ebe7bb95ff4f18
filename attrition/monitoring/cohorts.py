"""Group rows into cohorts, and decide which outcomes are mature enough to be judged and learned from.

When an outcome arrives depends on the outcome: cancellations at once, renewals when the period closes.
So the first outcomes of a cohort are chosen by outcome: among them the share who left means nothing,
while the order of the risks keeps its meaning.

Source: Prentice and Pyke 1979, Biometrika 66:403, for samples that are chosen by outcome; Chapelle
2014, KDD, "Modeling delayed feedback in display advertising".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MATURE_SHARE = 0.9  # of the outcomes that can still arrive, if no time is given
# If most rows of a cohort never get an outcome, those that do are chosen by outcome.
LEAST_KNOWN_SHARE = 0.5

# The columns of the rows to group: 1 if the client left, 0 if not, NaN if open; ISO 8601, "" if unknown;
# an id of the client; positions in `deliveries`: the last one, and the first one without outcome or -1.
OUTCOME, TIME, CLIENT = "outcome", "time", "client"
DELIVERED, OPENED = "delivered", "opened"
COLUMNS = (OUTCOME, TIME, CLIENT, DELIVERED, OPENED)

Numbers = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cohort:
    """Rows of one month or one delivery; `known` of them have an outcome, `mature`: all those count.

    at_once: delivered with their outcomes; matures_at: the last time at which rows mature, None if that
    depends on the outcomes that arrive.
    """

    name: str
    at_once: bool
    rows: int
    known: int
    left: int
    mature: bool
    matures_at: str | None = None

    @property
    def sentence(self) -> str:
        state = f"{self.known:,} of {self.rows:,} outcomes known, {self.left:,} of them left"
        if self.mature:
            return f"{self.name}: {state}"
        when = f"on {self.matures_at[:10]}" if self.matures_at else "when complete"
        return f"{self.name}: {state}; judged {when}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sentence": self.sentence}


@dataclass(frozen=True)
class Cohorts:
    """The cohorts, the cohort of each row, and which rows are mature: with an outcome that counts.

    next_at: when the next row matures by time; None if none does.
    """

    cohorts: tuple[Cohort, ...]
    number: Numbers
    mature: Mask
    next_at: str | None


def find_cohorts(
    rows: pd.DataFrame,
    deliveries: Sequence[tuple[str, str]],
    *,
    now: str,
    after_days: float | None = None,
) -> Cohorts:
    """Group rows by the month of their time, or by delivery if they have none.

    Rows that were delivered with their outcome are a cohort by delivery. A row is mature if `after_days`
    have passed since its time. Without days or a time, it is mature if 90 % of its cohort have
    an outcome; a row without one does not count if a later row of the same client has replaced it. If a
    cohort was delivered open, and fewer than half of its rows have an outcome, none of them is mature.

    rows: `COLUMNS`; deliveries: source and time of each; now: ISO 8601.
    """
    outcome, at_once = rows[OUTCOME].to_numpy(dtype="float64"), rows[OPENED].to_numpy() < 0
    is_known = ~np.isnan(outcome)
    number, names, is_at_once = _number_cohorts(rows, deliveries)

    def count(mask: Mask) -> Numbers:
        return np.bincount(number[mask], minlength=len(names))

    total, known = count(np.ones(len(rows), dtype=bool)), count(is_known)
    awaited = total - count(~is_known & ~at_once & _is_replaced(rows))
    due_at = _due_times(rows[TIME], after_days)
    is_due = np.where(due_at == "", (known >= MATURE_SHARE * awaited)[number], due_at <= now)
    is_enough = is_at_once | (known >= LEAST_KNOWN_SHARE * total)
    mature = is_known & is_due & is_enough[number]
    is_complete = (count(mature) == known) & (known > 0)
    last = pd.Series(due_at).groupby(number).max().reindex(range(len(names)), fill_value="")
    coming = due_at[due_at > now]
    columns = (names, is_at_once, total, known, count(outcome == 1), is_complete, last)
    cohorts = tuple(
        Cohort(name, bool(once), int(n), int(k), int(left), bool(complete), at or None)
        for name, once, n, k, left, complete, at in zip(*columns, strict=True)
    )
    return Cohorts(cohorts, number, mature, min(coming) if len(coming) else None)


def _number_cohorts(
    rows: pd.DataFrame, deliveries: Sequence[tuple[str, str]]
) -> tuple[Numbers, list[str], Mask]:
    """Return each row's cohort number, and each cohort's name and whether it came with its outcomes."""
    delivered, opened = rows[DELIVERED].to_numpy(), rows[OPENED].to_numpy()
    code, times = pd.factorize(rows[TIME])
    months = np.array([str(time)[:7] for time in times], dtype=object)
    looks = np.array([f"delivered {at}" for _, at in deliveries] or [""], dtype=object)
    label = np.where(months[code] == "", looks[opened], months[code]) if len(rows) else code
    month, month_names = pd.factorize(label)
    key = np.where(opened < 0, delivered, len(deliveries) + month)
    keys, number = np.unique(key, return_inverse=True)
    is_at_once = keys < len(deliveries)
    sources = [source for source, _ in deliveries]
    names = []
    for each in keys.tolist():
        if each >= len(deliveries):
            names.append(str(month_names[each - len(deliveries)]))
        elif each < 0:
            names.append("earlier rows")
        else:
            source, at = deliveries[each]
            names.append(source if sources.count(source) == 1 else f"{source}, {at}")
    return number, names, is_at_once


def _is_replaced(rows: pd.DataFrame) -> Mask:
    """Return which rows are followed by a later one of the same client, by time, then by delivery."""
    first = np.where(rows[OPENED] < 0, rows[DELIVERED], rows[OPENED])
    order = pd.factorize(rows[TIME], sort=True)[0] * (first.max(initial=0) + 2) + first
    last = pd.Series(order).groupby(rows[CLIENT].to_numpy()).transform("max").to_numpy()
    return np.asarray(order < last)


def _due_times(time: pd.Series, after_days: float | None) -> NDArray[Any]:
    """Return when the outcome of each row is mature: (n,) ISO 8601, "" if that is not given."""
    if after_days is None:
        return np.full(len(time), "", dtype=object)
    code, times = pd.factorize(time)
    wait = timedelta(days=after_days)
    due = [_utc(str(one)) + wait if one else None for one in times]
    texts = [at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "" for at in due]
    return np.array(texts, dtype=object)[code]


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
