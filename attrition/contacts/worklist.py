"""Combine the current clients, the contact log and the day into the work list and its views.

Pages, API and exports show the same views: a view and its filters name the same rows everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.contacts import ranking
from attrition.contacts.experiment import Trial
from attrition.contacts.ranking import Book, Capacity, ContactList, Places
from attrition.contacts.standings import Rest, Standing, days_after
from attrition.data.clients import ClientTable
from attrition.storage import tables

Row = dict[str, Any]

NEGLECTED_DAYS = 90
VALUABLE_SHARE = 0.2  # of the clients with a value
LISTED, ALL, MOVED = "list", "all", "moved"
RESTING, NEGLECTED, OVERRIDDEN = "resting", "neglected", "overridden"
PAST_DUE, WAITING = ranking.PAST_DUE, "waiting"
VIEWS = (LISTED, ALL, MOVED, RESTING, NEGLECTED, OVERRIDDEN, PAST_DUE, WAITING)


class Filters(NamedTuple):
    """What a view is narrowed to, and how it is sorted.

    manager: after reassignments; query: words of the client's name; due_days: the contract ends within
    so many days; order: "risk" or "value_at_risk", "" for that of the view
    """

    manager: str | None = None
    query: str = ""
    due_days: int | None = None
    min_risk: float = 0.0
    order: str = ""


NO_FILTERS = Filters()


@dataclass(frozen=True)
class Worklist:
    """The clients, where each stands on the day, and the list that follows."""

    table: ClientTable
    book: Book
    standings: Mapping[int, Standing]
    order: Places
    listed: ContactList
    day: str

    def select(self, view: str, filters: Filters = NO_FILTERS) -> Places:
        """Return the rows of a view, sorted."""
        if view not in self._views:
            self._views[view] = self._view(view)
        rows = self._views[view]
        passes = self._passing(filters)
        if passes is not None:
            rows = rows[passes[rows]]
        return self._sorted(rows, filters.order) if filters.order else rows

    def counts(self, filters: Filters = NO_FILTERS) -> dict[str, int]:
        """Return how many clients of each view pass the filters."""
        passes, views = self._passing(filters), {view: self.select(view) for view in VIEWS}
        if passes is None:
            return {view: len(rows) for view, rows in views.items()}
        return {
            view: int(np.count_nonzero(passes if view == ALL else passes[rows]))
            for view, rows in views.items()
        }

    @cached_property
    def _views(self) -> dict[str, Places]:
        """Rows of views: over many clients, each is a pass over all of them."""
        return {}

    def _passing(self, filters: Filters) -> NDArray[np.bool_] | None:
        """Return which clients pass the filters: (n,) bool; None if all do."""
        book, masks = self.book, []
        if filters.manager is not None:
            masks.append(self._manager_is(filters.manager))
        if filters.query.strip():
            masks.append(np.zeros(len(book.risk), dtype=bool))
            masks[-1][self.table.search(filters.query)] = True
        if filters.due_days is not None:
            last = np.datetime64(days_after(self.day, filters.due_days))
            masks.append((book.due >= np.datetime64(self.day)) & (book.due <= last))
        if filters.min_risk:
            masks.append(book.risk >= filters.min_risk)
        return reduce(np.logical_and, masks) if masks else None

    def _sorted(self, rows: Places, order: str) -> Places:
        """Return rows in another order; the book is sorted by risk."""
        rows = np.arange(len(self.order)) if rows is self.order else np.sort(rows)
        if order == "risk":
            return rows
        return rows[np.argsort(-self.book.value_at_risk[rows], kind="stable")]

    def _view(self, view: str) -> Places:
        book, is_in = self.book, np.zeros(len(self.book.risk), dtype=bool)
        if view == LISTED:
            return self.listed.rows
        if view == ALL:
            return self.order
        if view == RESTING:
            until = {row: rest.until for row, rest in self.listed.resting.items()}
            return np.array(sorted(until, key=lambda row: (until[row], row)), dtype=np.intp)
        if view == MOVED:
            is_in |= book.risk_change >= ranking.MUCH_WORSE
            is_new = [block == ranking.NEW for block in self.listed.blocks]
            is_in[self.listed.rows] |= np.array(is_new, dtype=bool)
        elif view in (PAST_DUE, WAITING):
            is_in[self.listed.past_due if view == PAST_DUE else self.listed.waiting] = True
        elif view == NEGLECTED:
            known = book.value[~np.isnan(book.value)]
            if len(known):
                is_in = book.value >= np.quantile(known, 1 - VALUABLE_SHARE)
            is_in[[row for row in self.standings if self._is_attended(row)]] = False
        else:
            is_in[[row for row, standing in self.standings.items() if standing.override]] = True
        return self.order[is_in[self.order]] if is_in.any() else np.zeros(0, np.intp)

    def _is_attended(self, row: int) -> bool:
        standing = self.standings[row]
        return (
            bool(standing.contacted_on)
            and days_after(standing.contacted_on, NEGLECTED_DAYS) > self.day
        )

    def _manager_is(self, name: str) -> NDArray[np.bool_]:
        code = self.book.managers.index(name) if name in self.book.managers else -1
        is_own = self.book.manager == code
        for row, standing in self.standings.items():
            if standing.manager:
                is_own[row] = standing.manager == name
        return is_own

    def rows(self, places: Sequence[int]) -> list[Row]:
        """Read clients in this order, each with what the log says of it."""
        places = [int(place) for place in places]
        return [
            self.overlay(place, row)
            for place, row in zip(places, self.table.read(places), strict=True)
        ]

    def overlay(self, place: int, row: Row) -> Row:
        """Add to a client what the log says, and his or her place on the list of the day."""
        standing = self.standings.get(place, Standing())
        at = next(iter(np.flatnonzero(self.listed.rows == place).tolist()), None)
        return row | {
            "list_rank": None if at is None else at + 1,
            "status": "" if at is None else self.listed.status[at],
            "block": "" if at is None else self.listed.blocks[at],
            "own_manager": row["manager"],
            **contact_fields(standing, self.listed.resting.get(place)),
            "manager": standing.manager or row["manager"],
        }


def contact_fields(standing: Standing, rest: Rest | None) -> Row:
    """Return the fields of a client that follow from the contact log."""
    last = standing.last_contact
    return {
        "manager_until": standing.manager_until,
        "last_contact": standing.contacted_on or None,
        "last_contact_by": last.by if last else None,
        "last_outcome": last.outcome if last else None,
        "follow_up": standing.due_on or None,
        "override": standing.override or None,
        "override_until": standing.override_until or None,
        "resting_until": rest.until if rest else None,
        "resting_why": rest.why if rest else None,
    }


def make_worklist(
    table: ClientTable,
    standings: Mapping[str, Standing],
    capacity: Capacity,
    order: str,
    day: str,
    trial: Trial | None = None,
) -> Worklist:
    """Return the work list of a day; standings: by client, as `standings.all_standings` returns them."""
    book, places = read_book(table, order)
    rows = table.rows_of(list(standings))
    by_row = {rows[client]: standings[client] for client in rows}
    draw = (lambda rows: trial.draw(rows, table.read)) if trial else None
    listed = ranking.make_list(book, places, by_row, capacity, day, draw)
    tables.release_memory()
    return Worklist(table, book, by_row, places, listed, day)


@lru_cache(maxsize=1)  # it changes with the table, not with each entry in the log
def read_book(table: ClientTable, order: str) -> tuple[Book, Places]:
    """Read the columns that decide the list, and return the rows in its order."""
    managers, names = table.codes("manager")
    codes, due = table.codes("due")
    previous = np.nan_to_num(table.numbers("previous_rank"))
    book = Book(
        risk=table.numbers("risk"),
        value=table.numbers("value").astype(np.float32),  # compared only: half the memory
        value_at_risk=table.numbers("value_at_risk"),
        manager=managers,
        managers=names,
        due=ranking.due_dates(codes, due),
        previous_rank=previous.astype(np.int32),
        risk_change=table.numbers("risk_change").astype(np.float32),
    )
    return book, ranking.order_of_list(book, order)
