"""Write the tables of all assessed clients, in blocks sorted by rank."""

from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attrition.assessing.parts import OTHER_UNIT
from attrition.assessing.scored import Scored, Shown
from attrition.config import Columns
from attrition.contacts import fields
from attrition.contacts.daily_list import Change
from attrition.data import clients
from attrition.data.cells import Caution
from attrition.serving import risk_scores


def ranked_clients(scored: Scored, shown: Shown, listed: int, change: Change) -> Iterator[pa.Table]:
    """Yield the table of all clients in blocks, sorted by rank.

    listed: how many of those shown are on the list
    """
    parts = scored.parts
    stored = [name for name in parts.schema.names if name not in risk_scores.CELLS]
    places = np.full(parts.total, np.nan)
    places[shown.rows[:listed]] = np.arange(1, listed + 1)
    lists = {"list_reasons": shown.list_reasons, "changes": shown.changes}
    for start, table in parts.merged(stored):
        rows = slice(start, start + len(table))
        columns = {name: table[name] for name in stored}
        columns["cautions"] = _all_cautions(table, scored.is_long_ago[rows])
        numbers = {
            "rank": np.arange(start + 1, start + 1 + len(table)),
            "list_rank": places[rows],
            "previous_rank": change.previous_rank[rows],
            "risk_change": change.risk_change[rows],
        }
        columns |= {
            name: clients.to_array(each, clients.COLUMNS[name]) for name, each in numbers.items()
        }
        at = np.flatnonzero((shown.rows >= start) & (shown.rows < start + len(table)))
        for name, of_shown in lists.items():
            of_row = {int(shown.rows[i]) - start: of_shown[i] for i in at.tolist()}
            columns[name] = clients.to_list_array(of_row, len(table), clients.COLUMNS[name])
        names = [
            clients.KEY,
            *clients.COLUMNS,
            *(n for n in stored if n.startswith(clients.FEATURE)),
        ]
        yield pa.table({name: columns[name] for name in names})


def write_risk_scores(
    file: IO[bytes], scored: Scored, labels: fields.Labels, columns: Columns
) -> None:
    """Write riskscores.csv."""
    file.write(risk_scores.header(columns))
    names = [*risk_scores.CELLS, "due", "cautions", "observed_at"]
    for start, table in scored.parts.merged(names):
        is_long_ago = scored.is_long_ago[start : start + len(table)]
        if is_long_ago.any():
            at = np.flatnonzero(is_long_ago)
            some = table.take(pa.array(at))
            own = [clients.decode_cautions(each) for each in some["cautions"].to_pylist()]
            cautions = add_last_seen(own, some["observed_at"].to_pylist(), is_long_ago[at])
            table = risk_scores.replace_cautions(table, is_long_ago, cautions, labels)
        file.write(risk_scores.lines(table, start, columns))


def add_last_seen(
    cautions: Sequence[Sequence[Caution]], times: Sequence[str], is_long_ago: NDArray[np.bool_]
) -> list[list[Caution]]:
    """Add a caution if a client was last seen long ago, after any caution about a unit."""
    added = []
    for own, time, is_old in zip(cautions, times, is_long_ago.tolist(), strict=True):
        at = sum(caution.code in OTHER_UNIT for caution in own) if is_old else len(own)
        seen = [Caution("last_seen", value=time[:10])] if is_old else []
        added.append([*own[:at], *seen, *own[at:]])
    return added


def _all_cautions(table: pa.Table, is_long_ago: NDArray[np.bool_]) -> Any:
    """Return the cautions of clients, with that of each one who was last seen long ago."""
    if not is_long_ago.any():
        return table["cautions"]
    own = [clients.decode_cautions(each) for each in table["cautions"].to_pylist()]
    cautions = add_last_seen(own, table["observed_at"].to_pylist(), is_long_ago)
    return clients.to_array(cautions, clients.COLUMNS["cautions"])
