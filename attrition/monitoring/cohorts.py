"""Group rows into cohorts, and decide which outcomes are mature enough to be judged and learned from.

When an outcome arrives depends on the outcome: cancellations at once, renewals when the period closes.
So the first outcomes of a cohort are chosen by outcome: among them the share who left means nothing,
while the order of the risks keeps its meaning.

Source: Prentice and Pyke 1979, Biometrika 66:403, for samples that are chosen by outcome; Chapelle
2014, KDD, "Modeling delayed feedback in display advertising".
"""

from collections import Counter
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
    outcome, opened = rows[OUTCOME].to_numpy(dtype="float64"), rows[OPENED].to_numpy()
    is_known, at_once = ~np.isnan(outcome), opened < 0
    code, times = pd.factorize(rows[TIME])
    number, names, is_at_once = _number_cohorts(rows, code, times, deliveries)

    def count(mask: Mask) -> Numbers:
        return np.bincount(number[mask], minlength=len(names))

    total, known = np.bincount(number, minlength=len(names)), count(is_known)
    due, waits = _due_times(times, after_days), ~is_known & ~at_once
    # only where it decides: the clients of all rows are by far the most expensive thing to compare
    is_open_question = (known > 0) & (known < MATURE_SHARE * total)
    asked = (waits & is_open_question[number]).any() and (due == "").any()
    awaited = total - count(waits & _is_replaced(rows, code, times)) if asked else total
    is_complete = known >= MATURE_SHARE * awaited
    is_due = np.where((due == "")[code], is_complete[number], (due <= now)[code])
    is_enough = is_at_once | (known >= LEAST_KNOWN_SHARE * total)
    mature = is_known & is_due & is_enough[number]
    is_mature = (count(mature) == known) & (known > 0)
    coming = due[due > now]
    columns = (names, is_at_once, total, known, count(outcome == 1), is_mature)
    cohorts = tuple(
        Cohort(name, bool(once), int(n), int(k), int(left), bool(complete), at or None)
        for name, once, n, k, left, complete, at in zip(
            *columns, _last_due(number, code, due, len(names)), strict=True
        )
    )
    return Cohorts(cohorts, number, mature, min(coming) if len(coming) else None)


def _number_cohorts(
    rows: pd.DataFrame, code: Numbers, times: Any, deliveries: Sequence[tuple[str, str]]
) -> tuple[Numbers, list[str], Mask]:
    """Return each row's cohort number, and each cohort's name and whether it came with its outcomes.

    code: (n,) positions in `times`. Cohorts by delivery come first, then those by label, sorted.
    """
    delivered, opened = rows[DELIVERED].to_numpy(), rows[OPENED].to_numpy()
    labels = [str(time)[:7] for time in times]
    looks = [f"delivered {at}" for _, at in deliveries]
    label, label_names = pd.factorize(np.array([*labels, *looks, ""], dtype=object))
    label = label.astype("int32")  # half of the memory of all rows
    of_time = label[: len(labels)]
    is_timed = np.array([bool(text) for text in labels], dtype=bool)
    of_row = np.where(is_timed[code], of_time[code], label[len(labels) :][opened])
    # -1: an earlier version delivered the row; then the deliveries, then the labels
    key = np.where(opened < 0, delivered, len(deliveries) + of_row) + 1
    used = np.bincount(key, minlength=len(deliveries) + len(label_names) + 1) > 0
    keys = np.flatnonzero(used)
    by_label = keys > len(deliveries)
    by_name = sorted(keys[by_label], key=lambda each: label_names[each - 1 - len(deliveries)])
    keys = np.append(keys[~by_label], by_name)
    keys = keys.astype(np.intp)
    place = np.zeros(len(used), dtype=np.intp)
    place[keys] = np.arange(len(keys))
    sources = Counter(source for source, _ in deliveries)
    names = []
    for each in (keys - 1).tolist():
        if each >= len(deliveries):
            names.append(str(label_names[each - len(deliveries)]))
        elif each < 0:
            names.append("earlier rows")
        else:
            source, at = deliveries[each]
            names.append(source if sources[source] == 1 else f"{source}, {at}")
    return place[key], names, keys <= len(deliveries)


def _is_replaced(rows: pd.DataFrame, code: Numbers, times: Any) -> Mask:
    """Return which rows are followed by a later one of the same client, by time, then by delivery."""
    opened = rows[OPENED].to_numpy()
    first = np.where(opened < 0, rows[DELIVERED].to_numpy(), opened).astype(np.int64)
    rank = np.argsort(np.argsort(np.asarray(times, dtype=object), kind="stable"))
    order = rank[code] * (first.max(initial=0) + 2) + first
    client = rows[CLIENT].to_numpy()
    by_client = np.argsort(client, kind="stable")  # fast where rows are sorted by client already
    client, order = client[by_client], order[by_client]
    starts = np.flatnonzero(np.append(True, client[1:] != client[:-1]))
    last = np.repeat(np.maximum.reduceat(order, starts), np.diff(starts, append=len(order)))
    result = np.empty(len(order), dtype=bool)
    result[by_client] = order < last
    return result


def _due_times(times: Any, after_days: float | None) -> NDArray[Any]:
    """Return when outcomes of these times are mature: ISO 8601, "" if that is not given."""
    if after_days is None:
        return np.full(len(times), "", dtype=object)
    wait = timedelta(days=after_days)
    due = [_utc(str(one)) + wait if one else None for one in times]
    texts = [at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "" for at in due]
    return np.array(texts, dtype=object)


def _last_due(number: Numbers, code: Numbers, due: NDArray[Any], cohorts: int) -> list[str]:
    """Return the last of the due times of each cohort, "" if none is given."""
    texts, rank = np.unique(np.append(due, ""), return_inverse=True)
    last = np.zeros(cohorts, dtype=np.intp)
    if len(texts) > 1:
        np.maximum.at(last, number, rank[:-1][code])
    return [str(text) for text in texts[last]]


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
