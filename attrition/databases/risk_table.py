"""The table of risks, open in one transaction: read it, insert or update rows, delete clients.

Only here is anything but SELECT sent to a database of others, and only to this one table. Readers never
wait for PostgreSQL, and see the table as it was before until the transaction has been committed.
"""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from attrition.config import Database
from attrition.databases import postgres
from attrition.databases.reader import one_line_errors
from attrition.databases.table_snapshot import BUSY_SECONDS, sqlite_file
from attrition.errors import SourceError

# In the order of the table: the type in PostgreSQL and in SQLite.
COLUMNS = {
    "client": ("text", "TEXT"),
    "risk": ("double precision", "REAL"),
    "rank": ("integer", "INTEGER"),
    "value_at_risk": ("double precision", "REAL"),
    "reasons": ("text", "TEXT"),
    "release": ("text", "TEXT"),
    "assessed_at": ("timestamp with time zone", "TEXT"),
}
READ = tuple(name for name in COLUMNS if name != "assessed_at")
NUMBERS = ("risk", "value_at_risk")
UPSERT = "ON CONFLICT (client) DO UPDATE SET " + ", ".join(
    f"{name} = EXCLUDED.{name}" for name in COLUMNS if name != "client"
)
FETCH_ROWS, DELETED_AT_ONCE = 25_000, 10_000
CACHE_KB = 64 << 10  # changes that SQLite keeps in memory, so that readers need not wait
STEPS_BETWEEN_LOOKS = 20_000

Rows = dict[str, Any]


@dataclass(frozen=True)
class RiskTable:
    """The table in an open transaction, which is committed at the end of the block.

    `read` yields the columns `READ`, nothing if there is no table yet; `put` inserts rows, or updates
    those of the same client, and creates the table; `delete` takes names.
    """

    read: Callable[[], Iterator[Rows]]
    put: Callable[[Iterable[Rows]], None]
    delete: Callable[[Sequence[str]], None]


@contextmanager
def opened(database: Database, seconds: float, *, read_only: bool = False) -> Iterator[RiskTable]:
    """Open the table in one transaction; it is rolled back if the block fails.

    Raises: SourceError, also if the table has other columns.
    """
    open_table = _in_postgres if sqlite_file(database) is None else _in_sqlite
    errors = one_line_errors(database, "writing", "write_back.max_seconds")
    with errors, open_table(database, seconds, read_only) as table:
        yield table


def check_columns(database: Database, kinds: dict[str, str], key: Sequence[str], at: int) -> None:
    """Check that a table has exactly our columns, and that `client` is its primary key.

    kinds: type by name; at: which types of `COLUMNS` are expected

    Raises: SourceError.
    """
    expected = {name: each[at] for name, each in COLUMNS.items()}
    problems = [f"no column {name}" for name in expected if name not in kinds]
    problems += [f"a column {name!r}" for name in kinds if name not in expected]
    problems += [
        f"{name} is {kinds[name]}, not {kind}"
        for name, kind in expected.items()
        if kinds.get(name, kind) != kind
    ]
    if not problems and [*key] != ["client"]:
        problems = ["client is not its primary key"]
    if problems:
        raise SourceError(
            f"{database.name}: {database.table} is not a table of risks ({'; '.join(problems)}), so "
            "nothing is written to it; in write_back.table, name one that does not exist yet"
        )


def name_parts(database: Database) -> list[str]:
    schema, _, name = database.table.rpartition(".")
    return [schema, name] if schema else [name]


# ---- PostgreSQL


DESCRIBE = """SELECT attname, format_type(atttypid, atttypmod), relkind, attnum = ANY(indkey)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


@contextmanager
def _in_postgres(database: Database, seconds: float, read_only: bool) -> Iterator[RiskTable]:
    """Open the table of a server; nobody else writes to it until the end, and everybody may read.

    New and changed rows are copied into a temporary table first, unless the table is empty.
    """
    from psycopg import sql

    end = time.monotonic() + seconds
    table, staged = sql.Identifier(*name_parts(database)), sql.Identifier("staged_risks")
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    with (
        closing(postgres.connect(database, seconds, read_only=read_only)) as connection,
        _limited(connection.fileno(), seconds),
        connection.cursor() as cursor,
    ):

        def send(statement: str, **more: Any) -> None:
            composed = sql.SQL(statement).format(table=table, staged=staged, names=names, **more)
            cursor.execute(composed)

        name = table.as_string(connection)
        columns = cursor.execute(DESCRIBE, [name]).fetchall()
        is_empty = True
        if columns:
            kinds = {column: kind for column, kind, _, _ in columns}
            key = [column for column, _, kind, is_key in columns if is_key and kind == "r"]
            check_columns(database, kinds, key, 0)
            if not read_only:
                send("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
            send("SELECT FROM {table} LIMIT 1")
            is_empty = cursor.rowcount == 0

        def read() -> Iterator[Rows]:
            if is_empty:
                return
            query = f"SELECT {', '.join(READ)} FROM {name}"
            for texts in postgres.parsed(postgres.copied(connection.pgconn, query, end)):
                rows = dict(zip(READ, texts, strict=True))
                yield rows | {number: _numbers(rows[number]) for number in NUMBERS}
            while connection.pgconn.get_result() is not None:  # the end, before another statement
                pass

        def put(batches: Iterable[Rows]) -> None:
            if not columns:
                kinds = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
                send(f"CREATE TABLE {{table}} ({kinds}, PRIMARY KEY (client))")
            if not is_empty:
                send("CREATE TEMP TABLE {staged} (LIKE {table}) ON COMMIT DROP")
            target = table if is_empty else staged
            copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(target, names)
            with cursor.copy(copy) as copied:
                for batch in batches:
                    copied.write(csv_bytes(batch))
            if not is_empty:
                send("INSERT INTO {table} ({names}) SELECT {names} FROM {staged} " + UPSERT)

        def delete(clients: Sequence[str]) -> None:
            for at in range(0, len(clients), DELETED_AT_ONCE):
                some = sql.Literal(list(clients[at : at + DELETED_AT_ONCE]))
                send("DELETE FROM {table} WHERE client = ANY({some})", some=some)

        yield RiskTable(read, put, delete)
        connection.commit()  # without it, closing the connection rolls back


@contextmanager
def _limited(descriptor: int, seconds: float) -> Iterator[None]:
    """Cut a connection if the block takes longer: a server that does not answer has no other limit.

    Raises: TimeoutError.
    """
    import psycopg

    is_cut = threading.Event()
    with socket.socket(fileno=os.dup(descriptor)) as connection:

        def cut() -> None:
            is_cut.set()
            connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error:
            if is_cut.is_set():
                raise TimeoutError("statement timeout") from None
            raise
        finally:
            timer.cancel()
            timer.join()


def _numbers(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), None, texts).cast(pa.float64())


def csv_bytes(rows: Rows) -> pa.Buffer:
    """Return rows as PostgreSQL reads CSV: text is quoted, NULL is not."""
    sink = pa.BufferOutputStream()
    table = pa.table({name: rows[name] for name in COLUMNS})
    csv.write_csv(table, sink, csv.WriteOptions(include_header=False))
    return sink.getvalue()


# ---- SQLite


@contextmanager
def _in_sqlite(database: Database, seconds: float, read_only: bool) -> Iterator[RiskTable]:
    """Open the table of a file, locked against other writers; readers wait for the commit."""
    parts, schema = name_parts(database), name_parts(database)[:-1]
    table = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    with closing(_connect(database, seconds, read_only)) as connection:
        connection.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
        query = f"SELECT name, upper(type), pk FROM pragma_table_info(?{', ?' if schema else ''})"
        columns = connection.execute(query, [parts[-1], *schema]).fetchall()
        if columns:
            kinds = {name: kind for name, kind, _ in columns}
            check_columns(database, kinds, [name for name, _, is_key in columns if is_key], 1)
            if not read_only:  # SQLite accepts any type as a key
                connection.execute(f"DELETE FROM {table} WHERE typeof(client) <> 'text'")

        def read() -> Iterator[Rows]:
            if not columns:
                return
            casts = ", ".join(f"CAST({name} AS {COLUMNS[name][1]})" for name in READ)
            cursor = connection.execute(
                f"SELECT {casts} FROM {table} WHERE typeof(client) = 'text'"
            )
            kinds = {"TEXT": pa.string(), "REAL": pa.float64(), "INTEGER": pa.int64()}
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield {
                    name: pa.array(values, kinds[COLUMNS[name][1]])
                    for name, values in zip(READ, zip(*rows, strict=True), strict=True)
                }

        def put(batches: Iterable[Rows]) -> None:
            if not columns:
                kinds = ", ".join(f"{name} {kind}" for name, (_, kind) in COLUMNS.items())
                connection.execute(f"CREATE TABLE {table} ({kinds}, PRIMARY KEY (client))")
            values = ", ".join("?" for _ in COLUMNS)
            insert = f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES ({values}) {UPSERT}"
            for batch in batches:
                lists = [batch[name].to_pylist() for name in COLUMNS]
                connection.executemany(insert, zip(*lists, strict=True))

        def delete(clients: Sequence[str]) -> None:
            one = f"DELETE FROM {table} WHERE client = ?"
            connection.executemany(one, ([client] for client in clients))

        yield RiskTable(read, put, delete)
        connection.execute("COMMIT")  # without it, closing the connection rolls back


def _connect(database: Database, seconds: float, read_only: bool) -> sqlite3.Connection:
    """Open a file for at most `seconds`; to read, one that does not exist is like an empty one."""
    file = sqlite_file(database)
    name = f"file:{quote(str(file))}?mode={'ro' if read_only else 'rwc'}"
    if read_only and file and not file.exists():
        name = "file::memory:"
    connection = sqlite3.connect(
        name, uri=True, timeout=min(BUSY_SECONDS, seconds), isolation_level=None
    )
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_LOOKS)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    return connection
