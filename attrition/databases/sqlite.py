"""Read tables of SQLite files. They may be locked, torn or hostile, and are never written to."""

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrition.config import Database
from attrition.data.cells import number_text
from attrition.databases.table_snapshot import (
    BUSY_SECONDS,
    MAX_VALUE,
    UNPRINTABLE,
    Snapshot,
    named_table,
    sqlite_file,
)
from attrition.errors import SourceError
from attrition.storage import files

FETCH_ROWS = 25_000
HASHED_BYTES = 4 << 20
MAX_ROW_BYTES = 64 << 20
STEPS_BETWEEN_CHECKS = 20_000  # virtual machine steps of SQLite between two checks of the time


def driver_errors() -> tuple[type[Exception], ...]:
    return (sqlite3.Error,)


def existing_file(database: Database) -> Path:
    file = sqlite_file(database)
    if file is None or not file.is_file():
        raise SourceError(f"{database.name}: there is no SQLite file {file}")
    return file


def hash_files(file: Path, *, seconds: float) -> str:
    """Hash a database with its write-ahead log and journal.

    Never call it while a connection is open: closing any descriptor of the file frees its locks.

    Raises: OSError, also if it takes longer than `seconds`.
    """
    paths = [Path(f"{file}{ending}") for ending in ("", "-wal", "-journal")]
    paths = [path for path in paths if path.is_file() and path.stat().st_size]
    if paths != [file]:
        return _hash(paths, seconds)
    key, began_ns, about = f"{file}\0as a database", time.time_ns(), file.stat()
    if (known := files.find_hash(key, about)) is not None:
        return known
    digest = _hash(paths, seconds)
    files.keep_hash(key, digest, about, file.stat(), began_ns)
    return digest


def _hash(paths: list[Path], seconds: float) -> str:
    end = time.monotonic() + seconds
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as opened:
            while chunk := opened.read(HASHED_BYTES):
                digest.update(chunk)
                if time.monotonic() > end:
                    raise TimeoutError(f"{path} cannot be hashed in {seconds:g} seconds")
    return digest.hexdigest()


def open_table(database: Database, seconds: float, stack: ExitStack) -> Snapshot:
    """Open a table of an SQLite file for reading.

    Raises: SourceError, sqlite3.Error.
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects import sqlite

    file = existing_file(database)
    connection = _connect(file, seconds)
    stack.callback(connection.close)
    dialect = sqlite.dialect(paramstyle="named")

    def send(query: Any) -> sqlite3.Cursor:
        compiled = query.compile(dialect=dialect)
        return connection.execute(str(compiled), compiled.params)

    try:
        described = send(sa.select(sa.text("*")).select_from(named_table(database)).limit(0))
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise SourceError(f"{database.name}: there is no table {database.table!r}") from None
        raise
    before = _stand_of(file)
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        problem = " ".join(problem.split())
        raise SourceError(f"{database.name}: {file} is damaged: {problem}; restore it")
    header = tuple(column[0] for column in described.description)
    table = named_table(database, header)

    def batches(query: Any) -> Iterator[tuple[Any, ...]]:
        cursor = send(query)
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield tuple(map(text_array, zip(*rows, strict=True)))
        log = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if not log and before != (now := _stand_of(file)) and before[0] == now[0]:
            raise OSError(f"{file} was written to in the middle of the reading without a lock")

    return Snapshot(
        table,
        header,
        texts=lambda: [_cut(table.c[name]) for name in header],
        changes=database.changed_column,
        kind="",
        newest=sa.func.max(table.c[database.changed_column]) if database.changed_column else None,
        digest=[
            sa.func.total(of)
            for name in header
            for of in (table.c[name], sa.func.length(table.c[name]), sa.func.unicode(table.c[name]))
        ],
        ask=lambda query: send(query).fetchone(),
        batches=batches,
        place={"schema": connection.execute("PRAGMA schema_version").fetchone()[0]},
    )


def _connect(file: Path, seconds: float) -> sqlite3.Connection:
    """Connect and begin one read snapshot, limited to `seconds`."""
    connection = sqlite3.connect(
        f"file:{quote(str(file))}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_CHECKS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("BEGIN")
    return connection


def _stand_of(file: Path) -> tuple[int, int, int]:
    about = file.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _cut(column: Any) -> Any:
    """Select a value of any type, cut to the longest text that could be valid."""
    import sqlalchemy as sa

    is_long = sa.and_(
        sa.func.typeof(column).in_([sa.literal_column("'text'"), sa.literal_column("'blob'")]),
        sa.func.length(column) > MAX_VALUE,
    )
    return sa.case((is_long, sa.func.substr(column, 1, MAX_VALUE)), else_=column)


def text_array(values: Sequence[Any]) -> Any:
    """Format a column of SQLite values as CSV would: a `pa.string()` array."""
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if kinds == {int}:
        return pa.array(values, pa.int64()).cast(pa.string()).fill_null("")
    if not kinds <= {str}:
        values = [cell_text(value) for value in values]
    return pa.array(values, pa.string()).fill_null("")


def cell_text(value: Any) -> str:
    """Format one SQLite value as CSV would."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number_text(value) if abs(value) < 1e300 else repr(value)
    if isinstance(value, bytes):
        return UNPRINTABLE + value[:20].hex()
    return str(value)
