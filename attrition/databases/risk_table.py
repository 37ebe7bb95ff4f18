"""The table of risks, open in one transaction: read it, insert or update rows, delete clients.

Only here is anything but SELECT sent to a database of others, and only to this one table. Readers never
wait for PostgreSQL, and see the table as it was before until the transaction has been committed.
"""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol
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
NAMES, VALUES = ", ".join(COLUMNS), tuple(COLUMNS)[1:]
FETCH_ROWS, DELETED_AT_ONCE = 25_000, 10_000
CACHE_KB = 64 << 10  # changes that SQLite keeps in memory, so that readers need not wait
STEPS_BETWEEN_CHECKS = 20_000  # of the time, by SQLite

Rows = dict[str, Any]


class RiskTable(Protocol):
    """The table in an open transaction, in which it is created if it does not exist yet."""

    def read(self, release: str) -> Iterator[Rows]:
        """Yield the columns `READ`; in rows of other releases, which differ anyway, only the name."""

    def put(self, batches: Iterable[Rows]) -> None:
        """Insert rows, or update those of the same client."""

    def delete(self, clients: Sequence[str]) -> None:
        """Delete the rows of these clients."""


@contextmanager
def opened(database: Database, seconds: float, *, read_only: bool = False) -> Iterator[RiskTable]:
    """Open the table in one transaction, which is committed at the end, or rolled back if that fails.

    Raises: SourceError, also if the table has other columns.
    """
    open_table = _in_postgres if sqlite_file(database) is None else _in_sqlite
    errors = one_line_errors(database, "writing", "write_back.max_seconds")
    with errors, open_table(database, seconds, read_only) as table:
        yield table


def check_columns(database: Database, columns: Sequence[tuple[str, str, bool]], at: int) -> None:
    """Check that a table has exactly our columns, and that `client` is its primary key.

    columns: name, type, and whether it is of the key; at: which types of `COLUMNS` are expected

    Raises: SourceError.
    """
    kinds = {name: kind for name, kind, _ in columns}
    expected = {name: each[at] for name, each in COLUMNS.items()}
    problems = [f"no column {name}" for name in expected if name not in kinds]
    problems += [f"an unknown column {name!r}" for name in kinds if name not in expected]
    problems += [
        f"{name} is {kinds[name]}, not {kind}"
        for name, kind in expected.items()
        if kinds.get(name, kind) != kind
    ]
    if not problems and [name for name, _, is_key in columns if is_key] != ["client"]:
        problems = ["client is not its primary key"]
    if problems:
        raise SourceError(
            f"{database.name}: {database.table} is not a table of risks ({'; '.join(problems)}), so "
            "nothing is written to it; in write_back.table, name one that does not exist yet"
        )


def name_parts(database: Database) -> list[str]:
    schema, _, name = database.table.rpartition(".")
    return [schema, name] if schema else [name]


def definitions(at: int) -> str:
    """Define the columns of a new table, for PostgreSQL (0) or SQLite (1)."""
    kinds = ", ".join(f"{name} {kinds[at]}" for name, kinds in COLUMNS.items())
    return f"({kinds}, PRIMARY KEY (client))"


# ---- PostgreSQL


DESCRIBE = """SELECT attname, format_type(atttypid, atttypmod), relkind = 'r' AND attnum = ANY(indkey)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
# Pages are filled by half, so that a row is updated in its own page and the index stays as it is: a
# million updates take 3.5 s instead of 8.8 s, with a fifth of the log. They run in the order of the
# pages: if the table is in another order than the risks, each update would read a page of its own.
FILL = "WITH (fillfactor = 45)"
UPDATE = f"""UPDATE {{table}} t SET {", ".join(f"{name} = s.{name}" for name in VALUES)}
    FROM (SELECT r.ctid AS place, s.* FROM {{staged}} s JOIN {{table}} r USING (client)
        ORDER BY place) s WHERE t.ctid = s.place"""
INSERT = f"""INSERT INTO {{table}} ({NAMES}) SELECT {NAMES} FROM {{staged}} s
    WHERE NOT EXISTS (SELECT FROM {{table}} t WHERE t.client = s.client)"""


@contextmanager
def _in_postgres(database: Database, seconds: float, read_only: bool) -> Iterator[RiskTable]:
    """Open the table of a server; nobody else writes to it until the end, and everybody may read."""
    end = time.monotonic() + seconds
    with (
        closing(postgres.connect(database, seconds, read_only=read_only)) as connection,
        _limited(connection.fileno(), seconds),
    ):
        yield _PostgresTable(database, connection, end, read_only)
        connection.commit()  # without it, closing the connection rolls back


class _PostgresTable:
    """Rows are copied into a temporary table first, unless the table is empty."""

    def __init__(self, database: Database, connection: Any, end: float, read_only: bool) -> None:
        from psycopg import sql

        self._connection, self._end, self._sql = connection, end, sql.SQL
        parts = name_parts(database)
        table, staged = sql.Identifier(*parts), sql.Identifier(f"staged {parts[-1]:.40}")
        self._names = {"table": table, "staged": staged}
        columns = connection.execute(DESCRIBE, [table.as_string(connection)]).fetchall()
        if columns:
            check_columns(database, columns, 0)
        if not read_only:
            define = f"CREATE TABLE {{table}} {definitions(0)} {FILL}"
            lock = "LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
            self._send(lock if columns else define)
        self._is_empty = not columns or not self._send("SELECT FROM {table} LIMIT 1").rowcount

    def _composed(self, statement: str, *values: Any) -> Any:
        return self._sql(statement).format(*values, **self._names)

    def _send(self, statement: str, *values: Any) -> Any:
        return self._connection.execute(self._composed(statement, *values))

    def read(self, release: str) -> Iterator[Rows]:
        if self._is_empty:
            return
        values = (f"CASE release WHEN {{0}} THEN {name} END" for name in READ[1:])
        query = self._composed(f"SELECT {', '.join(['client', *values])} FROM {{table}}", release)
        pgconn, text = self._connection.pgconn, query.as_string(self._connection)
        for texts in postgres.parsed(postgres.copied(pgconn, text, self._end)):
            rows = dict(zip(READ, texts, strict=True))
            yield rows | {name: _numbers(rows[name]) for name in NUMBERS}
        while pgconn.get_result() is not None:  # the end, before another statement
            pass

    def put(self, batches: Iterable[Rows]) -> None:
        if not self._is_empty:
            self._send("CREATE TEMP TABLE {staged} (LIKE {table}) ON COMMIT DROP")
        target = "{table}" if self._is_empty else "{staged}"
        copy = self._composed(f"COPY {target} ({NAMES}) FROM STDIN (FORMAT csv)")
        cursor = self._connection.cursor()
        with cursor.copy(copy) as copied:
            for batch in batches:
                copied.write(csv_bytes(batch))
        if not self._is_empty:
            self._send("SET LOCAL work_mem = '256MB'")
            if self._send(UPDATE).rowcount < cursor.rowcount:
                self._send(INSERT)

    def delete(self, clients: Sequence[str]) -> None:
        for at in range(0, len(clients), DELETED_AT_ONCE):
            some = list(clients[at : at + DELETED_AT_ONCE])
            self._send("DELETE FROM {table} WHERE client = ANY({})", some)


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
    with closing(_connect(database, seconds, read_only)) as connection:
        connection.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
        yield _SqliteTable(database, connection, read_only)
        connection.execute("COMMIT")  # without it, closing the connection rolls back


class _SqliteTable:
    def __init__(self, database: Database, connection: sqlite3.Connection, read_only: bool) -> None:
        self._connection, parts = connection, name_parts(database)
        self._table = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        marks = ", ".join("?" for _ in parts)
        query = f"SELECT name, upper(type), pk FROM pragma_table_info({marks})"
        columns = connection.execute(query, parts[::-1]).fetchall()
        self._exists = bool(columns)
        if columns:
            check_columns(database, columns, 1)
            if not read_only:  # SQLite accepts any type as a key
                connection.execute(f"DELETE FROM {self._table} WHERE typeof(client) <> 'text'")

    def read(self, release: str) -> Iterator[Rows]:
        if not self._exists:
            return
        values = [f"CASE release WHEN ?1 THEN {name} END" for name in READ[1:]]
        casts = zip(["client", *values], READ, strict=True)
        columns = ", ".join(f"CAST({value} AS {COLUMNS[name][1]})" for value, name in casts)
        query = f"SELECT {columns} FROM {self._table} WHERE typeof(client) = 'text'"
        cursor = self._connection.execute(query, [release])
        kinds = {"TEXT": pa.string(), "REAL": pa.float64(), "INTEGER": pa.int64()}
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield {
                name: pa.array(values, kinds[COLUMNS[name][1]])
                for name, values in zip(READ, zip(*rows, strict=True), strict=True)
            }

    def put(self, batches: Iterable[Rows]) -> None:
        if not self._exists:
            self._connection.execute(f"CREATE TABLE {self._table} {definitions(1)}")
        changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in VALUES)
        insert = (
            f"INSERT INTO {self._table} ({NAMES}) VALUES ({', '.join('?' for _ in COLUMNS)}) "
            f"ON CONFLICT (client) DO UPDATE SET {changes}"
        )
        for batch in batches:
            lists = [batch[name].to_pylist() for name in COLUMNS]
            self._connection.executemany(insert, zip(*lists, strict=True))

    def delete(self, clients: Sequence[str]) -> None:
        one = f"DELETE FROM {self._table} WHERE client = ?"
        self._connection.executemany(one, ([client] for client in clients))


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
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_CHECKS)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    return connection
