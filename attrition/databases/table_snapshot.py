"""The interface of a table that is open for reading in one snapshot, for any database."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrition.config import Database
from attrition.errors import SourceError

SQLITE_URL = "sqlite:///"
BUSY_SECONDS = 5
# A longer value is cut: it is invalid at that length anyway (`cells.MAX_TEXT`, `cells.MAX_DIGITS`).
MAX_VALUE = 8192
UNPRINTABLE = "\x01"  # before the hex digits of binary values, so that validation refuses them


@dataclass(frozen=True)
class Snapshot:
    """A table in an open snapshot: its columns, and the functions to query it.

    `texts` returns the columns as text. `changes` names the column that grows with every change, if
    there is one; `kind` is how to read it ("number", "time", "text", or "" to decide by value), and
    `newest` is its maximum. `digest` are sums that change when the rows change: always for servers,
    nearly always for SQLite. `place` identifies the table and its server. If the server records which
    transaction wrote a row, `xid` is the oldest transaction that was still open.
    """

    table: Any
    header: tuple[str, ...]
    texts: Callable[[], list[Any]]
    changes: str | None
    kind: str
    newest: Any
    digest: list[Any]
    ask: Callable[[Any], Sequence[Any]]
    batches: Callable[[Any], Iterator[tuple[Any, ...]]]
    place: dict[str, Any]
    xid: int | None = None


def sqlite_file(database: Database) -> Path | None:
    """Return the file behind an SQLite URL, or None for a server."""
    if not database.url.startswith(SQLITE_URL):
        return None
    return Path(database.url.removeprefix(SQLITE_URL).split("?")[0])


def named_table(database: Database, header: Sequence[str] = ()) -> Any:
    """Return the table that the config names, with these columns.

    Raises: SourceError if the changed column is not among them; SQLite would read its name as text.
    """
    import sqlalchemy as sa

    if header and database.changed_column and database.changed_column not in header:
        raise SourceError(f"{database.name}: there is no column {database.changed_column!r}")
    schema_name, _, name = database.table.rpartition(".")
    return sa.table(name, *map(sa.column, header), schema=schema_name or None).alias("t")
