"""Read tables of PostgreSQL servers in one read-only transaction, with rows by COPY."""

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from attrition.config import Database
from attrition.databases.table_snapshot import (
    BUSY_SECONDS,
    MAX_VALUE,
    UNPRINTABLE,
    Snapshot,
    named_table,
)
from attrition.databases.urls import resolve
from attrition.errors import SourceError

CONNECT_SECONDS = 5
PIECE_BYTES = 4 << 20

# Types by their oid, which is the same on every server.
BOOLEAN, BYTEA, CHAR, TIMESTAMP, TIMESTAMPTZ, UUID = 16, 17, 1042, 1114, 1184, 2950
NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})
TIMES = frozenset({1082, TIMESTAMP, TIMESTAMPTZ})
PLAIN_TEXTS = frozenset({25, 1043})
KEEPS_XMIN = ("r", "m")  # tables and materialised views; other relations have no such column


def connect(database: Database, seconds: float, *, read_only: bool = True) -> Any:
    """Connect with a time limit for each statement; read-only, all statements share one snapshot.

    Raises: SourceError, psycopg.Error.
    """
    import psycopg

    url, _ = resolve(database)
    limit_ms = max(1, int(seconds * 1000))
    settings = {
        "default_transaction_read_only": "on" if read_only else "off",
        "statement_timeout": limit_ms,
        "idle_in_transaction_session_timeout": limit_ms,
        "lock_timeout": min(BUSY_SECONDS * 1000, limit_ms),
        "DateStyle": "ISO",
        "TimeZone": "UTC",
        "extra_float_digits": 1,
    }
    given: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": limit_ms}
    given |= {"host": url.host, "port": url.port, "dbname": url.database}
    given |= {"user": url.username, "password": url.password, **url.query}
    ours = (f"-c {name}={value}" for name, value in settings.items())
    given |= {"options": " ".join([given.get("options") or "", *ours]), "client_encoding": "UTF8"}
    connection = psycopg.connect(
        **{name: value for name, value in given.items() if value is not None},
        cursor_factory=psycopg.ClientCursor,
    )
    if read_only:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
    return connection


# Identify server and table, count deleted rows, and find the oldest open transaction. The server counts
# deletes with a delay, and from zero after a crash, so the count is only a hint.
PLACE = """SELECT relkind, system_identifier || '/' || timeline_id, oid || '/' ||
    coalesce(pg_relation_filenode(oid), 0), pg_stat_get_tuples_deleted(oid),
    pg_snapshot_xmin(pg_current_snapshot())::text
    FROM pg_class, pg_control_system(), pg_control_checkpoint() WHERE oid = to_regclass(%s)"""
XMIN_NUMBER = "t.xmin::text::bigint"
ROW_HASH = "hashtextextended(t.*::text, 0)"


def driver_errors() -> tuple[type[Exception], ...]:
    import psycopg

    return (psycopg.Error,)


def open_table(database: Database, seconds: float, stack: ExitStack) -> Snapshot:
    """Open a table of a PostgreSQL server.

    Raises: SourceError, psycopg.Error.
    """
    import psycopg
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    end = time.monotonic() + seconds
    connection = connect(database, seconds)
    stack.callback(connection.close)
    dialect = postgresql.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
    cursor = connection.cursor()

    def written(query: Any) -> str:
        compiled = query.compile(dialect=dialect)
        return str(cursor.mogrify(str(compiled), compiled.params))

    try:
        cursor.execute(written(sa.select(sa.text("*")).select_from(named_table(database)).limit(0)))
    except psycopg.errors.UndefinedTable:
        raise SourceError(f"{database.name}: there is no table {database.table!r}") from None
    types = {column.name: column.type_code for column in cursor.description or ()}
    table = named_table(database, tuple(types))
    name = dialect.identifier_preparer.format_table(table.element).replace("%%", "%")
    kind, server, relation, deleted, xid = cursor.execute(PLACE, [name]).fetchone()
    by_xmin = kind in KEEPS_XMIN
    changes = kind_of(types[database.changed_column]) if database.changed_column else ""
    changed = table.c[database.changed_column] if changes else None

    def ask(query: Any) -> Sequence[Any]:
        return cursor.execute(written(query)).fetchone()

    def texts() -> list[Any]:
        longest = [sa.func.max(sa.func.octet_length(table.c[name])) for name in plain]
        lengths = dict(zip(plain, ask(sa.select(*longest)), strict=True)) if plain else {}
        long = {name for name, length in lengths.items() if (length or 0) > MAX_VALUE}
        return [_text(table.c[n], 0 if n in long else oid) for n, oid in types.items()]

    plain = [name for name, oid in types.items() if oid in PLAIN_TEXTS]
    return Snapshot(
        table,
        tuple(types),
        texts,
        changes=database.changed_column if changes else None,
        kind=changes,
        newest=sa.cast(sa.func.max(changed), sa.Text) if changes else None,
        ask=ask,
        batches=lambda query: parsed(copied(connection.pgconn, written(query), end)),
        digest=[sa.func.sum(sa.literal_column(XMIN_NUMBER if by_xmin else ROW_HASH))],
        place={"server": server, "relation": relation, "deleted": deleted},
        xid=int(xid) if by_xmin else None,
    )


def kind_of(oid: int) -> str:
    """Return the kind of a changed column: "number", "time", "text", or "" if it cannot be used."""
    kinds = {"number": NUMBERS, "time": TIMES, "text": PLAIN_TEXTS | {CHAR}}
    return next((kind for kind, oids in kinds.items() if oid in oids), "")


def _text(column: Any, oid: int) -> Any:
    """Select a column as the text that CSV would contain, limited in length.

    Types that COPY formats well need no cast; a cast costs a tenth of the reading time.
    """
    import sqlalchemy as sa

    if oid == BYTEA:
        return sa.func.chr(ord(UNPRINTABLE)).concat(sa.func.left(sa.func.encode(column, "hex"), 40))
    if oid == TIMESTAMPTZ:
        return sa.func.timezone("UTC", column)
    if oid in (BOOLEAN, CHAR):
        return sa.cast(column, sa.Text)
    known = oid in NUMBERS | TIMES | PLAIN_TEXTS | {UUID}
    return column if known else sa.func.left(sa.cast(column, sa.Text), MAX_VALUE)


def copied(pgconn: Any, query: str, end: float) -> Iterator[bytearray]:
    """Copy the rows of a query as CSV, in pieces that end with a row.

    psycopg's own loop creates a generator and a wait per row, and waits without a limit.

    Raises: psycopg.Error, OSError.
    """
    from psycopg.pq import ExecStatus

    _expect(pgconn.exec_(f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()), ExecStatus.COPY_OUT)
    piece = bytearray()
    size = 0
    while size >= 0:
        size, row = pgconn.get_copy_data(1)
        if size > 0:
            piece += row
            if len(piece) >= PIECE_BYTES:
                yield piece
                piece = bytearray()
        elif size == 0:
            _await(pgconn, end)
    while pgconn.is_busy():
        _await(pgconn, end)
    _expect(pgconn.get_result(), ExecStatus.COMMAND_OK)
    if piece:
        yield piece


def _await(pgconn: Any, end: float) -> None:
    """Wait for the next data, at most until `end` on the monotonic clock."""
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    left_ms = (end - time.monotonic()) * 1000
    if left_ms <= 0 or not poll.poll(left_ms):
        raise TimeoutError("the server does not answer in time")
    pgconn.consume_input()


def _expect(result: Any, status: int) -> None:
    import psycopg
    from psycopg.pq import DiagnosticField

    if result is None or result.status != status:
        message = result and result.error_field(DiagnosticField.MESSAGE_PRIMARY)
        raise psycopg.OperationalError(
            (message or b"the reading was cut off").decode(errors="replace")
        )


def parsed(pieces: Iterable[bytearray]) -> Iterator[tuple[Any, ...]]:
    """Parse CSV as PostgreSQL writes it: quoted if needed, without a header, all columns text.

    Raises: psycopg.DataError if the server delivers text that is not Unicode.
    """
    import psycopg
    import pyarrow as pa
    from pyarrow import csv

    for piece in pieces:
        options = csv.ReadOptions(
            use_threads=False, block_size=len(piece), autogenerate_column_names=True
        )
        parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        convert = csv.ConvertOptions(default_column_type=pa.string(), strings_can_be_null=False)
        try:
            table = csv.read_csv(pa.py_buffer(piece), options, parse, convert)
        except pa.ArrowInvalid as error:
            raise psycopg.DataError(f"rows that are not Unicode text ({error})") from error
        yield tuple(column.chunk(0) for column in table.columns)
