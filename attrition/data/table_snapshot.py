"""What a table is once it is open for reading in one snapshot, whichever database it lies in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrition.config import Database
from attrition.errors import SourceError

SQLITE_URL = "sqlite:///"
BUSY_SECONDS = 5
# A longer value is cut: the contract refuses it by then (`cells.MAX_TEXT`, `cells.MAX_DIGITS`).
MAX_VALUE = 8192
UNPRINTABLE = "\x01"  # before the hex digits of binary values, so that the contract refuses them


@dataclass(frozen=True)
class Snapshot:
    """A table in an open snapshot: its columns, and how to ask it.

    `texts` returns the columns as text. `changes` names the column that tells what changed, if one does;
    `kind` says how it is to be read ("number", "time", "text", or "" by its value), and `newest` is its
    greatest value. `digest` are sums that change with the rows that they are taken of: of SQLite most of
    the time, of PostgreSQL always. `place` says which table of which server this is. Where the server
    keeps which transaction wrote a row, `xid` is the oldest that was not over.
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

    Raises: SourceError when the column of the changes is not among them: SQLite would take its name
    for a text.
    """
    import sqlalchemy as sa

    if header and database.changed_column and database.changed_column not in header:
        raise SourceError(f"{database.name}: there is no column {database.changed_column!r}")
    schema_name, _, name = database.table.rpartition(".")
    return sa.table(name, *map(sa.column, header), schema=schema_name or None).alias("t")
