"""Group rows into cohorts, and decide which outcomes are mature enough to be judged and learned from.

When an outcome arrives depends on the outcome: cancellations at once, renewals when the period closes.
So the first outcomes of a cohort are chosen by outcome: among them the share who left means nothing,
while the order of the risks keeps its meaning.

Source: Prentice and Pyke 1979, Biometrika 66:403, for samples that are chosen by outcome; Chapelle
2014, KDD, "Modeling delayed feedback in display advertising".
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MATURE_SHARE = 0.9  # of the outcomes that can still arrive, if no time is given
# If most rows of a cohort never get an outcome, those that do are chosen by outcome.
LEAST_KNOWN_SHARE = 0.5

# What decides the cohort of a row: its time or only the month, "" if unknown; the position in
# `deliveries` of its last one, 0 if it was ever open; that of the first one without outcome, else -1.
KEYS = TIME, DELIVERED, OPENED = ["time", "delivered", "opened"]
# How many rows a group has, how many of them have an outcome, and how many clients left.
ROWS, KNOWN, LEFT = COUNTS = ["rows", "known", "left"]

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
    """The groups of rows with the same keys, the cohorts, and what is known of each group.

    number: (groups,) position of its cohort; mature: (groups,) whether its outcomes count
    next_at: when the next row matures by time; None if none does
    """

    groups: pd.DataFrame
    cohorts: tuple[Cohort, ...]
    number: Numbers
    mature: Mask
    next_at: str | None


def find_keys(
    times: pd.Series | None, delivered: Numbers, opened: Numbers, *, after_days: float | None = None
) -> pd.DataFrame:
    """Return the `KEYS` of rows, with only the month of each time if there are no `after_days`.

    times: ISO 8601, "" if unknown; None if no row has one
    """
    code, distinct = pd.factorize(times) if times is not None else (np.zeros_like(opened), [""])
    length = 7 if after_days is None else None
    label, names = pd.factorize(pd.Index([str(time)[:length] for time in distinct], dtype=object))
    last = np.where(opened < 0, delivered, 0)
    columns = (pd.Categorical.from_codes(label[code], names), last, opened)
    return pd.DataFrame(dict(zip(KEYS, columns, strict=True)))


def count_groups(keys: pd.DataFrame, outcome: NDArray[np.float64]) -> pd.DataFrame:
    """Count the rows of each group: those with the same keys.

    outcome: (n,) 1 if the client left, 0 if not, NaN if open
    """
    counts = {ROWS: 1, KNOWN: ~np.isnan(outcome), LEFT: outcome == 1}
    return add_groups([keys.assign(**counts)])


def add_groups(groups: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add the counts of equal groups; the result is sorted by `KEYS`."""
    together = pd.concat(groups, ignore_index=True)
    result = together.groupby(KEYS, observed=True, as_index=False, sort=False)[COUNTS].sum()
    result = result.astype({TIME: object} | dict.fromkeys(COUNTS, "int64"))
    return result.sort_values(KEYS, ignore_index=True)


def find_groups(groups: pd.DataFrame, keys: pd.DataFrame) -> Numbers:
    """Return the position in `groups` of the keys of each row, which are all there."""
    index = pd.MultiIndex.from_frame(groups[KEYS])
    return np.asarray(index.get_indexer(pd.MultiIndex.from_frame(keys[KEYS])), np.intp)


def find_cohorts(
    groups: pd.DataFrame,
    deliveries: Sequence[tuple[str, str]],
    *,
    now: str,
    after_days: float | None = None,
    count_replaced: Callable[[], Numbers],
) -> Cohorts:
    """Join groups into cohorts by the month of their time, or by delivery if they have none.

    Rows that were delivered with their outcome are a cohort by delivery. A row is mature if `after_days`
    have passed since its time. Without days or a time, it is mature if 90 % of its cohort have
    an outcome; a row without one does not count if a later row of the same client has replaced it. If a
    cohort was delivered open, and fewer than half of its rows have an outcome, none of them is mature.

    groups: see `count_groups`; deliveries: source and time of each; now: ISO 8601; count_replaced:
    returns how many open rows of each group a later one has replaced; called only if that matters
    """
    number, names, is_at_once = _number_cohorts(groups, deliveries)

    def count(of_each: Any) -> Numbers:
        return np.bincount(number, of_each, minlength=len(names)).astype(np.intp)

    total, known, left = (count(groups[name]) for name in COUNTS)
    due = _due_times(groups[TIME], after_days)
    is_enough = is_at_once | (known >= LEAST_KNOWN_SHARE * total)
    is_complete = known >= MATURE_SHARE * total
    is_open_question = is_enough & ~is_complete & ~is_at_once
    if (is_open_question[number] & (due == "")).any():
        is_complete = known >= MATURE_SHARE * (total - count(count_replaced()))
    is_due = np.where(due == "", is_complete[number], due <= now)
    mature = is_due & is_enough[number]
    is_mature = (count(groups[KNOWN] * mature) == known) & (known > 0)
    coming = due[due > now]
    cohorts = tuple(
        Cohort(name, bool(once), int(n), int(k), int(gone), bool(complete), at or None)
        for name, once, n, k, gone, complete, at in zip(
            *(names, is_at_once, total, known, left, is_mature),
            _last_due(number, due, len(names)),
            strict=True,
        )
    )
    return Cohorts(groups, cohorts, number, mature, min(coming) if len(coming) else None)


def _number_cohorts(
    groups: pd.DataFrame, deliveries: Sequence[tuple[str, str]]
) -> tuple[Numbers, list[str], Mask]:
    """Return each group's cohort number, and each cohort's name and whether it came with its outcomes.

    Cohorts by delivery come first, then those by label, sorted.
    """
    sources = Counter(source for source, _ in deliveries)
    names = {-1: "earlier rows"} | {
        i: source if sources[source] == 1 else f"{source}, {at}"
        for i, (source, at) in enumerate(deliveries)
    }

    def key(time: str, last: int, first: int) -> tuple[bool, int, str]:
        if first < 0:
            return False, last, names[last]
        return True, 0, time[:7] or f"delivered {deliveries[first][1]}"

    keys = [key(*each) for each in groups[KEYS].itertuples(index=False)]
    cohorts = sorted(set(keys))
    place = {each: i for i, each in enumerate(cohorts)}
    number = np.array([place[each] for each in keys], np.intp)
    is_at_once = np.array([not is_by_label for is_by_label, *_ in cohorts], dtype=bool)
    return number, [name for *_, name in cohorts], is_at_once


def find_replaced(
    client: NDArray[Any], times: pd.Series, delivered: Numbers, opened: Numbers
) -> Mask:
    """Return which rows are followed by a later one of the same client, by time, then by delivery."""
    first = np.where(opened < 0, delivered, opened).astype(np.int64)
    code, distinct = pd.factorize(times)
    rank = np.argsort(np.argsort(np.asarray(distinct, dtype=object), kind="stable"))
    order = rank[code] * (first.max(initial=0) + 2) + first
    by_client = np.argsort(client, kind="stable")  # fast where rows are sorted by client already
    client, order = client[by_client], order[by_client]
    starts = np.flatnonzero(np.append(True, client[1:] != client[:-1])[: len(client)])
    last = np.repeat(np.maximum.reduceat(order, starts), np.diff(starts, append=len(order)))
    result = np.empty(len(order), dtype=bool)
    result[by_client] = order < last
    return result


def _due_times(times: pd.Series, after_days: float | None) -> NDArray[Any]:
    """Return when outcomes of these times are mature: ISO 8601, "" if that is not given."""
    if after_days is None:
        return np.full(len(times), "", dtype=object)
    wait = timedelta(days=after_days)
    due = [_utc(str(one)) + wait if one else None for one in times]
    texts = [at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "" for at in due]
    return np.array(texts, dtype=object)


def _last_due(number: Numbers, due: NDArray[Any], cohorts: int) -> list[str]:
    """Return the last of the due times of each cohort, "" if none is given."""
    last = [""] * cohorts
    for i, at in zip(number.tolist(), due, strict=True):
        last[i] = max(last[i], at)
    return last


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
