"""Decide which clients are on the contact list: pure, from risk, value, due date, log and capacity.

Clients that rest and clients whose contract has ended are not listed. Of the others, those whose
follow-up is due and those who will leave in a manager's opinion get a place first, then the others by
the order of the list; the list keeps that order. Equal clients keep the order of their names, so the
same state gives the same list. Of the others, an experiment holds out some: they take no place, so the
list is refilled below them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.contacts import log
from attrition.contacts.experiment import CONTROL
from attrition.contacts.standings import Rest, Standing

REASONS = 3
MUCH_WORSE = 0.1  # a risk that rose by ten points since the last list
OVERDUE, DUE, NEW, OTHER = "overdue", "due", "new", "rest"
BLOCKS = (OVERDUE, DUE, NEW, OTHER)
BACK, RISEN = "back", "risen"
PAST_DUE, NO_PLACE = "past_due", "no_place"
NO_RANK = 0
Places = NDArray[np.signedinteger[Any]]
Draw = Callable[[list[int]], list[str]]  # returns the arms of clients, "" if outside the experiment


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
    arms: row -> arm of each client above the line without a claim: listed, or held out
    """

    rows: Places
    status: tuple[str, ...]
    resting: Mapping[int, Rest]
    past_due: Places
    waiting: Places
    gone: Mapping[int, str]
    arms: Mapping[int, str] = {}

    @property
    def held_out(self) -> list[int]:
        """The rows of those who would be listed if the experiment did not hold them out."""
        return [row for row, arm in self.arms.items() if arm == CONTROL]

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
    draw: Draw | None = None,
) -> ContactList:
    """Return the contact list of a day.

    order: as `order_of_list` returns it; standings: row of the book -> standing on the day
    draw: of the experiment, if there is one; it is called only for clients above the line
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
    places = _Places(candidates, *_charged(book, standings, capacity), capacity)
    chosen, arms = _hold_out(places, int(first.sum()), draw)
    is_listed = np.zeros(len(order), dtype=bool)
    is_listed[chosen] = True
    rows = order[is_listed[order]]
    waiting = [row for row in able[first].tolist() if not is_listed[row]]
    listed = ContactList(
        rows=rows,
        status=_status(book, rows, standings, day),
        resting=resting,
        past_due=np.flatnonzero(is_past),
        waiting=np.array([r for r in waiting if is_due(standings[r], day)], dtype=np.intp),
        gone={},
        arms=arms,
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


class _Places(NamedTuple):
    """The candidates in the order in which they get places, and what they are charged to."""

    candidates: Places
    manager: NDArray[np.int32]
    names: Sequence[str]
    capacity: Capacity

    def cut(self, is_held: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """Return who gets a place: first from the places of their manager, then any other.

        Candidates who are held out take no place; they are returned if they got one otherwise.
        """
        names, capacity, total = self.names, self.capacity, self.capacity.total
        own = {names.index(name): n for name, n in capacity.of_manager.items() if name in names}
        if not own and not capacity.of_manager:
            return _first(np.arange(len(self.candidates)), total, is_held)
        codes = self.manager[self.candidates]
        shared = total - sum(capacity.of_manager.values())
        is_shared = ~np.isin(codes, list(own))
        taken = [_first(np.flatnonzero(codes == code), n, is_held) for code, n in own.items()]
        taken.append(_first(np.flatnonzero(is_shared), shared, is_held))
        is_taken = np.zeros(len(self.candidates), dtype=bool)
        is_taken[np.concatenate(taken)] = True
        may_have_more = ~np.isin(codes, [code for code, n in own.items() if n == 0])
        count = int(np.count_nonzero(is_taken if is_held is None else is_taken & ~is_held))
        more = _first(np.flatnonzero(~is_taken & may_have_more), total - count, is_held)
        is_taken[more] = True
        return np.flatnonzero(is_taken)


def _first(
    places: NDArray[np.intp], count: int, is_held: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Return the places up to the `count`-th one that is not held out.

    >>> _first(np.arange(5), 2, np.array([False, True, False, True, False])).tolist()
    [0, 1, 2]
    """
    if is_held is None:
        return places[:count]
    counts = ~is_held[places]
    return places[np.cumsum(counts) - counts < count]


def _hold_out(places: _Places, claims: int, draw: Draw | None) -> tuple[Places, dict[int, str]]:
    """Return the rows of those who are listed, and the arms of all above the line without a claim.

    Each client who is held out moves the line down, so clients are drawn until no other is above it.
    """
    candidates = places.candidates
    if draw is None:
        return candidates[places.cut()], {}
    is_held = np.zeros(len(candidates), dtype=bool)
    is_drawn = np.arange(len(candidates)) < claims
    arms: dict[int, str] = {}
    while True:
        above = places.cut(is_held)
        new = above[~is_drawn[above]]
        if not len(new):
            break
        rows = candidates[new].tolist()
        drawn = draw(rows)
        arms |= zip(rows, drawn, strict=True)
        is_drawn[new], is_held[new] = True, [arm == CONTROL for arm in drawn]
    return candidates[above[~is_held[above]]], arms


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
