"""Turn the contact list of a day into columns and records, and compare it with an earlier one.

The list is compared with the last one of an earlier day, so that computing it again during the day, for
each note in the contact log, leaves what is new since yesterday as it is.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attrition.contacts import fields, ranking, worklist
from attrition.contacts.ranking import Book, ContactList
from attrition.contacts.standings import Standing
from attrition.data import clients
from attrition.data.cells import Reason
from attrition.data.client_parts import ClientParts

LEFT, NOT_CURRENT = "left", "not_current"
LISTED, GONE = "listed", "gone"


class Earlier(NamedTuple):
    """The last assessment of an earlier day; table: as `clients.read_earlier` returns it."""

    table: pa.Table
    day: str
    release: str

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the row of each client, -1 if it was not assessed; keys: see `clients.client_keys`."""
        return clients.find_rows(self.table[clients.KEY].to_numpy(), keys)

    def numbers(self, name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.table[name].cast(pa.float64()).to_numpy()
        return values


def listed_clients(table: pa.Table) -> set[str]:
    """Return the clients who are listed in a table that `clients.read_earlier` returned."""
    return set(table.filter(table["list_rank"].is_valid())["client"].to_pylist())


class Change(NamedTuple):
    """The place on the list of an earlier day and the change of risk since: (n,), NaN if unknown."""

    previous_rank: NDArray[np.float64]
    risk_change: NDArray[np.float64]


def compare_with(
    keys: NDArray[np.uint64], risk: NDArray[np.float64], earlier: Earlier | None
) -> Change:
    """Compare the clients with the assessment of an earlier day."""
    previous, change = np.full((2, len(keys)), np.nan)
    if earlier is not None and len(earlier.table):
        at = earlier.rows_of(keys)
        previous = np.where(at >= 0, earlier.numbers("list_rank")[at], np.nan)
        change = np.where(at >= 0, risk - earlier.numbers("risk")[at], np.nan).round(6)
    return Change(previous, change)


def make_book(parts: ClientParts, change: Change) -> Book:
    """Return the columns that decide the list."""
    manager, managers = parts.codes("manager")
    due, dates = parts.codes("due")
    return Book(
        risk=parts.risk,
        value=parts.numbers("value"),
        value_at_risk=parts.numbers("value_at_risk"),
        manager=manager,
        managers=managers,
        due=ranking.due_dates(due, dates),
        previous_rank=np.nan_to_num(change.previous_rank).astype(np.int32),
        risk_change=change.risk_change,
    )


def list_table(
    stored: pa.Table,
    change: Change,
    reasons: Sequence[Sequence[Reason]],
    changes: Sequence[Sequence[Reason]],
    standings: Sequence[Standing],
) -> pd.DataFrame:
    """Return the clients on the list as `fields.contact_list` takes them.

    stored: their columns; the others are beside them, one for each client
    """
    rows = [clients.decode(row) for row in stored.to_pylist()]
    table = pd.DataFrame(rows, columns=[*clients.COLUMNS])
    places = np.arange(1, len(table) + 1)
    entered = [worklist.contact_fields(each, None) for each in standings]
    return table.assign(
        rank=places,
        list_rank=places,
        **{name: stored[name].to_numpy() for name in ("risk", "value", "value_at_risk")},
        manager=[each.manager or row["manager"] for each, row in zip(standings, rows, strict=True)],
        previous_rank=pd.array(change.previous_rank, dtype="Float64").astype("Int64"),
        risk_change=change.risk_change,
        list_reasons=pd.Series(list(reasons), dtype=object),
        changes=pd.Series(list(changes), dtype=object),
        **{name: [each[name] for each in entered] for name in fields.CONTACTS},
    )


def describe_gone(
    current: Mapping[str, int],
    listed: ContactList,
    was_listed: Collection[str],
    left: Collection[str],
) -> list[dict[str, str]]:
    """Return the clients of another list who are not on this one, sorted, and why.

    current: client -> rank, of the current ones among them; was_listed: the clients on the other list;
    left: those who have left
    """
    why = {name: LEFT if name in left else NOT_CURRENT for name in set(was_listed) - current.keys()}
    on_list, is_past = set(listed.rows.tolist()), set(listed.past_due.tolist())
    why |= {
        name: listed.why_not(row, is_past)
        for name, row in current.items()
        if name in was_listed and row not in on_list
    }
    return [{"client": name, "why": why[name]} for name in sorted(why)]


def summarise(listed: ContactList) -> dict[str, Any]:
    """Count who is on the list, and who is not and why."""
    counts = listed.counts()
    return {
        "blocks": {block: counts[block] for block in ranking.BLOCKS},
        "resting": dict(Counter(rest.why for rest in listed.resting.values())),
        "past_due": len(listed.past_due),
        "waiting": len(listed.waiting),
    }


def describe_moves(
    names: Sequence[str],
    risks: Sequence[float],
    listed: ContactList,
    was_listed: Collection[str],
    gone: Iterable[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Return who came onto the list since the last assessment and who left it, for the history.

    names, risks: of the listed clients
    """
    moves: list[dict[str, Any]] = [
        {"client": name, "action": LISTED, "rank": place, "risk": round(risk, 4), "reason": status}
        for place, (name, risk, status) in enumerate(
            zip(names, risks, listed.status, strict=True), 1
        )
        if name not in was_listed
    ]
    moves += [
        {"client": one["client"], "action": GONE, "rank": None, "risk": None, "reason": one["why"]}
        for one in gone
    ]
    return moves
