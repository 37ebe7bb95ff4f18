"""Decide which clients are on the contact list: pure, from risk, value, due date, log and capacity.

Clients that rest and clients whose contract has ended are not listed. Of the others, those whose
follow-up is due and those who will leave in a manager's opinion get a place first, then the others by
the order of the list; the list keeps that order. Equal clients keep the order of their names, so the
same state gives the same list.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.contacts import log
from attrition.contacts.standings import Rest, Standing

REASONS = 3
MUCH_WORSE = 0.1  # a risk that rose by ten points since the last list
OVERDUE, DUE, NEW, OTHER = "overdue", "due", "new", "rest"
BLOCKS = (OVERDUE, DUE, NEW, OTHER)
BACK, RISEN = "back", "risen"
PAST_DUE, NO_PLACE = "past_due", "no_place"
NO_RANK = 0
Places = NDArray[np.signedinteger[Any]]


class Book(NamedTuple):
    """The current clients as arrays of length n, sorted by risk, equal risks by name.

    value, value_at_risk: NaN if unknown; manager: a number into `managers`; due: NaT if unknown;
    previous_rank: the place on the list of an earlier day, 0 if the client was not on it;
    risk_change: since then, NaN if the client is new
    """

    risk: NDArray[np.float64]
    value: NDArray[np.floating[Any]]
    value_at_risk: NDArray[np.float64]
    manager: NDArray[np.int32]
    managers: Sequence[str]
    due: NDArray[np.datetime64]
    previous_rank: NDArray[np.int32]
    risk_change: NDArray[np.floating[Any]]


class Capacity(NamedTuple):
    """How many clients are listed: in total, and of each manager who has a number of his own."""

    total: int
    of_manager: Mapping[str, int]


class ContactList(NamedTuple):
    """The list on a day: rows of the book in the order of the list, and why others are not on it.

    status: of each place: "overdue", "due", "back", "new", "risen" or ""
    resting: row -> the rest that counts; past_due: rows whose contract has ended
    waiting: rows whose follow-up is due, but for whom there is no place
    gone: row -> why a client of the previous list is not on this one
    """

    rows: Places
    status: tuple[str, ...]
    resting: Mapping[int, Rest]
    past_due: Places
    waiting: Places
    gone: Mapping[int, str]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The block of each place on the page of the day; each place is in exactly one."""
        as_new = dict.fromkeys((BACK, NEW, RISEN), NEW)
        return tuple(as_new.get(each, each or OTHER) for each in self.status)

    def counts(self) -> Counter[str]:
        return Counter(self.blocks)

    def why_not(self, row: int, is_past: Collection[int]) -> str:
        """Return why a client is not listed; is_past: the rows `past_due` as a set."""
        if row in self.resting:
            return self.resting[row].why
        return PAST_DUE if row in is_past else NO_PLACE


def order_of_list(book: Book, order: str) -> Places:
    """Return the rows in the order of the list; `order` is "risk" or "value_at_risk".

    Clients without a value come last.
    """
    if order == "risk":
        return np.arange(len(book.risk), dtype=np.int32)
    rows = np.argsort(-book.value_at_risk, kind="stable")  # NaN last; the book is sorted by risk
    return rows.astype(np.int32)


def make_list(
    book: Book,
    order: Places,
    standings: Mapping[int, Standing],
    capacity: Capacity,
    day: str,
) -> ContactList:
    """Return the contact list of a day.

    order: as `order_of_list` returns it; standings: row of the book -> standing on the day
    """
    resting = {
        row: rest
        for row, standing in standings.items()
        if (rest := standing.rest(float(book.risk[row]))) is not None
    }
    is_past = book.due < np.datetime64(day)  # false if unknown
    is_out = is_past.copy()
    is_out[list(resting)] = True
    claims = {
        row
        for row, standing in standings.items()
        if not is_out[row] and (is_due(standing, day) or standing.override == log.LEAVES)
    }
    has_claim = np.zeros(len(order), dtype=bool)
    has_claim[list(claims)] = True
    able = order[~is_out[order]]
    first = has_claim[able]
    candidates = np.concatenate([able[first], able[~first]])
    is_listed = np.zeros(len(order), dtype=bool)
    is_listed[_cut(candidates, *_charged(book, standings, capacity), capacity)] = True
    rows = order[is_listed[order]]
    waiting = [row for row in able[first].tolist() if not is_listed[row]]
    listed = ContactList(
        rows=rows,
        status=_status(book, rows, standings, day),
        resting=resting,
        past_due=np.flatnonzero(is_past),
        waiting=np.array([r for r in waiting if is_due(standings[r], day)], dtype=np.intp),
        gone={},
    )
    was = np.flatnonzero((book.previous_rank > NO_RANK) & ~is_listed).tolist()
    past = {row for row in was if is_past[row]}
    return listed._replace(gone={row: listed.why_not(row, past) for row in was})


def next_rows(order: Places, listed: ContactList, count: int) -> Places:
    """Return the rows of those who come onto the list if others leave it, and of those who rest."""
    is_out = np.zeros(len(order), dtype=bool)
    is_out[listed.rows] = is_out[listed.past_due] = is_out[list(listed.resting)] = True
    return np.concatenate([order[~is_out[order]][:count], np.array([*listed.resting], np.intp)])


def is_due(standing: Standing, day: str) -> bool:
    """Return whether a follow-up was to take place until this day."""
    return bool(standing.due_on) and standing.due_on <= day


def _charged(
    book: Book, standings: Mapping[int, Standing], capacity: Capacity
) -> tuple[NDArray[np.int32], list[str]]:
    """Return the manager from whose places each client gets one: numbers into the names.

    A client who is handed over takes the place along, so that no client of either manager loses his or
    her own; from a manager without places there is none to take.
    """
    moved = {
        row: each.manager
        for row, each in standings.items()
        if each.manager and capacity.of_manager.get(book.managers[book.manager[row]]) == 0
    }
    names = list(dict.fromkeys([*book.managers, *moved.values()]))
    codes = book.manager.copy()
    for row, name in moved.items():
        codes[row] = names.index(name)
    return codes, names


def _cut(
    candidates: Places, manager: NDArray[np.int32], names: Sequence[str], capacity: Capacity
) -> Places:
    """Return the candidates who get a place: first from the places of their manager, then any other."""
    own = {names.index(name): n for name, n in capacity.of_manager.items() if name in names}
    total = capacity.total
    if not own and not capacity.of_manager:
        return candidates[:total]
    codes = manager[candidates]
    shared = total - sum(capacity.of_manager.values())
    is_shared = ~np.isin(codes, list(own))
    taken = [np.flatnonzero(codes == code)[:n] for code, n in own.items()]
    taken.append(np.flatnonzero(is_shared)[:shared])
    is_taken = np.zeros(len(candidates), dtype=bool)
    is_taken[np.concatenate(taken)] = True
    may_have_more = ~np.isin(codes, [code for code, n in own.items() if n == 0])
    more = np.flatnonzero(~is_taken & may_have_more)[: total - int(is_taken.sum())]
    is_taken[more] = True
    return candidates[is_taken]


def _status(
    book: Book, rows: Places, standings: Mapping[int, Standing], day: str
) -> tuple[str, ...]:
    is_first_list = bool(np.isnan(book.risk_change).all())
    return tuple(
        _status_of(book, row, standings.get(row), day, is_first_list) for row in rows.tolist()
    )


def _status_of(
    book: Book, row: int, standing: Standing | None, day: str, is_first_list: bool
) -> str:
    if standing and is_due(standing, day):
        return OVERDUE if standing.due_on < day else DUE
    if not is_first_list and not book.previous_rank[row]:
        return BACK if standing and standing.last_contact else NEW
    return RISEN if book.risk_change[row] >= MUCH_WORSE else ""


def due_dates(
    codes: NDArray[np.signedinteger[Any]], texts: Sequence[str]
) -> NDArray[np.datetime64]:
    """Return the date of each client: (n,), NaT if unknown.

    codes: (n,) numbers into the distinct texts, ISO dates or ""

    >>> due_dates(np.array([1, 0]), ["", "2026-12-31"]).tolist()
    [datetime.date(2026, 12, 31), None]
    """
    dates = np.array([text or "NaT" for text in texts] or ["NaT"], dtype="datetime64[D]")
    return dates[codes]
