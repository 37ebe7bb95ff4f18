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

from attrition.config import Columns
from attrition.contacts import fields, ranking, worklist
from attrition.contacts.ranking import Book, ContactList, Places
from attrition.contacts.standings import Standing
from attrition.data import clients
from attrition.data.cells import Reason

LEFT, NOT_CURRENT = "left", "not_current"
LISTED, GONE = "listed", "gone"


class Earlier(NamedTuple):
    """The last assessment of an earlier day; table: as `clients.read_earlier` returns it."""

    table: pa.Table
    day: str
    release: str

    def rows_of(self, names: Iterable[str]) -> NDArray[np.intp]:
        """Return the row of each client, -1 if it was not assessed."""
        return clients.find_rows(self.table[clients.KEY].to_numpy(), clients.client_keys(names))

    def numbers(self, name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.table[name].cast(pa.float64()).to_numpy()
        return values


def listed_clients(table: pa.Table) -> set[str]:
    """Return the clients who are listed in a table that `clients.read_earlier` returned."""
    return set(table.filter(table["list_rank"].is_valid())["client"].to_pylist())


def compare_with(ranked: pd.DataFrame, earlier: Earlier | None) -> pd.DataFrame:
    """Add the place on the list of an earlier day and the change of risk since, null if unknown."""
    previous, change = np.full((2, len(ranked)), np.nan)
    if earlier is not None and len(earlier.table):
        at = earlier.rows_of(ranked["client"])
        previous = np.where(at >= 0, earlier.numbers("list_rank")[at], np.nan)
        change = np.where(at >= 0, ranked["risk"] - earlier.numbers("risk")[at], np.nan).round(6)
    return ranked.assign(
        previous_rank=pd.array(previous, dtype="Float64").astype("Int64"), risk_change=change
    )


def make_book(ranked: pd.DataFrame) -> Book:
    """Return the columns that decide the list; ranked: as `compare_with` returns it."""
    codes, managers = pd.factorize(ranked["manager"])
    due, dates = pd.factorize(ranked["due"])
    return Book(
        risk=ranked["risk"].to_numpy(),
        value=ranked["value"].to_numpy(dtype="float64"),
        value_at_risk=ranked["value_at_risk"].to_numpy(dtype="float64"),
        manager=codes.astype(np.int32),
        managers=[str(name) for name in managers],
        due=ranking.due_dates(due, [str(date) for date in dates]),
        previous_rank=ranked["previous_rank"].fillna(0).to_numpy(dtype=np.int32),
        risk_change=ranked["risk_change"].to_numpy(),
    )


def add_list(
    ranked: pd.DataFrame,
    rows: Places,
    listed: int,
    list_reasons: Sequence[Sequence[Reason]],
    changes: Sequence[Sequence[Reason]],
) -> pd.DataFrame:
    """Add the places on the list, and the reasons and changes of the clients in these rows.

    rows: those of the `listed` clients, in order, and behind them those who may come next
    """
    places = np.full(len(ranked), np.nan)
    places[rows[:listed]] = np.arange(1, listed + 1)
    table = ranked.assign(list_rank=pd.array(places, dtype="Float64").astype("Int64"))
    for name, values in (("list_reasons", list_reasons), ("changes", changes)):
        of_row = dict(zip(rows.tolist(), values, strict=True))
        table[name] = [of_row.get(row, ()) for row in range(len(ranked))]
    return table


def add_contacts(ranked: pd.DataFrame, standings: Mapping[int, Standing]) -> pd.DataFrame:
    """Add the fields of the contact log, and replace the managers of reassigned clients.

    standings: row -> standing
    """
    manager = ranked["manager"].to_numpy(dtype=object, copy=True)
    for row, standing in standings.items():
        manager[row] = standing.manager or manager[row]
    nothing = worklist.contact_fields(Standing(), None)
    known = {row: worklist.contact_fields(each, None) for row, each in standings.items()}
    entered = {
        name: [known.get(row, nothing)[name] for row in range(len(ranked))]
        for name in fields.CONTACTS
    }
    return ranked.assign(manager=manager, **entered)


def describe_gone(
    names: pd.Series,
    listed: ContactList,
    was_listed: Collection[str],
    rows: pd.DataFrame,
    columns: Columns,
) -> list[dict[str, str]]:
    """Return the clients of another list who are not on this one, sorted, and why.

    names: the current clients, ranked; was_listed: the clients on the other list; rows: all typed rows
    """
    was = np.flatnonzero(names.isin(was_listed))
    current = dict(zip(names.iloc[was], was.tolist(), strict=True))
    others = set(was_listed) - current.keys()
    of_others = rows[rows[columns.client_name].isin(others)]
    churned = set(of_others.loc[of_others[columns.outcome] == 1, columns.client_name])
    why = {name: LEFT if name in churned else NOT_CURRENT for name in others}
    on_list, is_past = set(listed.rows.tolist()), set(listed.past_due.tolist())
    why |= {
        name: listed.why_not(row, is_past) for name, row in current.items() if row not in on_list
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
    table: pd.DataFrame,
    listed: ContactList,
    was_listed: Collection[str],
    gone: Iterable[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Return who came onto the list since the last assessment and who left it, for the history.

    table: the ranked clients
    """
    names, risks = table["client"].tolist(), table["risk"].tolist()
    places = enumerate(zip(listed.rows.tolist(), listed.status, strict=True), 1)
    moves = [
        {"client": names[row], "action": LISTED, "rank": place}
        | {"risk": round(risks[row], 4), "reason": status}
        for place, (row, status) in places
        if names[row] not in was_listed
    ]
    moves += [
        {"client": one["client"], "action": GONE, "rank": None, "risk": None, "reason": one["why"]}
        for one in gone
    ]
    return moves
