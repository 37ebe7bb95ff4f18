"""Read tables of MySQL and MariaDB servers in one read-only snapshot, row by row."""

import time
from collections.abc import Iterator, Sequence
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
BATCH_ROWS = 25_000
BATCH_BYTES = 64 << 20
NO_SUCH_TABLE = 1146

# Types by their number in the protocol of MySQL, which is the same on every server.
FLOAT, DOUBLE, BIT, JSON = 4, 5, 16, 245
INTEGERS = frozenset({1, 2, 3, 8, 9})
NUMBERS = INTEGERS | {0, FLOAT, DOUBLE, 246}
TIMES = frozenset({7, 10, 12})
SHORT = NUMBERS | TIMES | {6, 11, 13}  # also NULL, times of day and years
BINARY = 63  # the character set of bytes


def driver_errors() -> tuple[type[Exception], ...]:
    import pymysql

    return (pymysql.Error,)


def _connect(database: Database, seconds: float) -> Any:
    """Connect, by TLS if the server offers it or the URL asks for it; limit each wait.

    Raises: SourceError, pymysql.Error.
    """
    import pymysql
    import sqlalchemy as sa
    from pymysql.converters import encoders
    from sqlalchemy.dialects.mysql import pymysql as dialect

    url, _ = resolve(database)
    numbers = dict.fromkeys(INTEGERS, int) | {DOUBLE: float}
    try:
        given: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
        given |= dialect.dialect().create_connect_args(url)[1]
        given |= {"password": given.get("password", "").encode(), "charset": "utf8mb4"}
        given |= {"sql_mode": "", "read_timeout": given["connect_timeout"]}
        given |= {"write_timeout": seconds}
        sa.util.coerce_kw_type(given, "ssl_disabled", bool)
        connection: Any = pymysql.connect(**given, conv=encoders | numbers)
    except pymysql.Error:
        raise
    except Exception as error:  # PyMySQL does not check what it is given, by the URL or a server
        problem = f"{error}; is it a MySQL server, and are the options of its URL right?"
        raise pymysql.OperationalError(0, problem) from None
    connection._read_timeout = seconds + BUSY_SECONDS  # the server gives up first, and says so
    return connection


def _begin(cursor: Any, seconds: float) -> None:
    """Begin a transaction that sees one moment and cannot write; each statement has a time limit."""
    limit = f"max_statement_time = {seconds:g}"
    if not _is_mariadb(cursor):
        limit = f"max_execution_time = {max(1, int(seconds * 1000))}"
    settings = f"time_zone = '+00:00', lock_wait_timeout = {max(1, int(BUSY_SECONDS))}, {limit}, "
    settings += f"net_write_timeout = {max(60, int(seconds))}"
    cursor.execute(f"SET SESSION {settings}")
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _is_mariadb(cursor: Any) -> bool:
    return "mariadb" in cursor.connection.get_server_info().lower()


# Identify the server: MariaDB has a `server_uid` at most. The time of its start is exact: within one
# statement, the clock and `Uptime` agree.
SERVER = """SELECT unix_timestamp() - variable_value FROM {schema}.global_status
    WHERE variable_name = 'Uptime' UNION ALL SELECT variable_value FROM {schema}.global_variables
    WHERE variable_name IN ('hostname', 'port', 'server_id', 'server_uid', 'server_uuid')"""
# A table that is altered or restored is made anew, at another time. Views have no engine.
TABLE = """SELECT engine, coalesce(transactions, 'YES'), coalesce(create_time, '')
    FROM information_schema.tables LEFT JOIN information_schema.engines USING (engine)
    WHERE table_schema = coalesce(%s, database()) AND table_name = %s
    ORDER BY CAST(table_name AS BINARY) = %s DESC"""


def _find_place(cursor: Any, database: Database) -> dict[str, str]:
    """Identify server and table.

    Raises: SourceError if the table has no transactions, hence no snapshot either.
    """
    schema_name, _, name = database.table.rpartition(".")
    cursor.execute(TABLE, [schema_name or None, name, name])
    engine, transactions, created = cursor.fetchone()
    if transactions != "YES":
        raise SourceError(
            f"{database.name}: {database.table} is a table of {engine}, which cannot be read as of one "
            f"moment; convert it: ALTER TABLE {database.table} ENGINE = InnoDB"
        )
    schema = "information_schema" if _is_mariadb(cursor) else "performance_schema"
    cursor.execute(SERVER.format(schema=schema))
    return {"server": "/".join(sorted(str(value) for (value,) in cursor)), "relation": created}


def open_table(database: Database, seconds: float, stack: ExitStack) -> Snapshot:
    """Open a table of a MySQL or MariaDB server.

    Raises: SourceError, pymysql.Error.
    """
    import pymysql
    import sqlalchemy as sa

    end = time.monotonic() + seconds
    connection = _connect(database, seconds)
    stack.callback(_close, connection)
    cursor = connection.cursor()
    _begin(cursor, seconds)
    dialect = _dialect()

    def written(query: Any) -> str:
        compiled = query.compile(dialect=dialect)
        return str(cursor.mogrify(str(compiled), compiled.params))

    try:
        cursor.execute(written(sa.select(sa.text("*")).select_from(named_table(database)).limit(0)))
    except pymysql.ProgrammingError as error:
        if error.args[0] != NO_SUCH_TABLE:
            raise
        raise SourceError(f"{database.name}: there is no table {database.table!r}") from None
    fields = {field.name: field for field in connection._result.fields}
    table = named_table(database, tuple(fields))
    texts = [_text(table.c[name], field) for name, field in fields.items()]
    changes = kind_of(fields[database.changed_column]) if database.changed_column else ""

    def ask(query: Any) -> Sequence[Any]:
        cursor.execute(written(query))
        row: Sequence[Any] = cursor.fetchone()
        return row

    def batches(query: Any) -> Iterator[tuple[Any, ...]]:
        connection.decoders = {}  # numbers stay the text that they arrive as
        width = sum(min(field.length, 4 * MAX_VALUE) for field in fields.values())
        rows_at_once = max(100, min(BATCH_ROWS, BATCH_BYTES // max(1, width)))
        unbuffered = connection.cursor(pymysql.cursors.SSCursor)
        unbuffered.execute(written(query))
        kinds = [field.type_code for field in fields.values()]
        while rows := unbuffered.fetchmany(rows_at_once):
            if time.monotonic() > end:
                raise TimeoutError("the server does not deliver all rows in time")
            yield tuple(map(text_array, zip(*rows, strict=True), kinds))

    return Snapshot(
        table,
        tuple(fields),
        lambda: texts,
        changes=database.changed_column if changes else None,
        kind=changes,
        newest=_newest(table.c[database.changed_column], fields) if changes else None,
        ask=ask,
        batches=batches,
        digest=[sa.func.sum(_row_hash(texts))],
        place=_find_place(cursor, database),
    )


def _close(connection: Any) -> None:
    """Close a connection at once, instead of reading all that the server still has to send."""
    if connection._result is not None:
        connection._result.unbuffered_active = False
    connection.close()


def _dialect() -> Any:
    """Return the SQL of MySQL, which has no NULLS FIRST: that is where they are."""
    from sqlalchemy.dialects.mysql import base, pymysql

    class Compiler(base.MySQLCompiler):
        def visit_nulls_first_op_unary_modifier(self, element: Any, _: Any, **kw: Any) -> str:
            return self.process(element.element, **kw)

    dialect: Any = pymysql.dialect(paramstyle="pyformat")
    dialect.statement_compiler = Compiler
    return dialect


def kind_of(field: Any) -> str:
    """Return the kind of a changed column: "number", "time", "text", or "" if it cannot be used."""
    if field.type_code in NUMBERS:
        return "number"
    if field.type_code in TIMES:
        return "time"
    return "" if field.type_code in SHORT or field.charsetnr == BINARY else "text"


def _newest(column: Any, fields: Any) -> Any:
    """Select the newest change; the server would round a FLOAT."""
    import sqlalchemy as sa

    newest = sa.func.max(column)
    return newest + sa.literal_column("0e0") if fields[column.name].type_code == FLOAT else newest


def _text(column: Any, field: Any) -> Any:
    """Select a column as the text that CSV would contain, limited in length."""
    import sqlalchemy as sa

    if field.type_code == BIT:
        return column + sa.literal_column("0")
    if field.type_code == FLOAT:
        return column + sa.literal_column("0e0")
    if field.type_code in SHORT:
        return column
    if field.charsetnr == BINARY and field.type_code != JSON:
        return sa.func.concat(UNPRINTABLE, sa.func.lower(sa.func.hex(sa.func.left(column, 20))))
    return column if field.length <= MAX_VALUE else sa.func.left(column, MAX_VALUE)


def _row_hash(texts: Sequence[Any]) -> Any:
    """Hash a row to 64 bits. NULL and text differ, and no two columns can be taken for one.

    If a row is too long for the server to hash (`max_allowed_packet`), it counts as changed.
    """
    import sqlalchemy as sa

    quoted = [sa.func.quote(sa.cast(text, sa.LargeBinary)) for text in texts]
    digits = sa.func.left(sa.func.md5(sa.func.concat_ws(",", *quoted)), 16)
    number = sa.cast(sa.func.conv(digits, 16, 10), sa.Numeric(20))
    return sa.func.coalesce(number, sa.func.uuid_short())


def text_array(values: Sequence[str | None], kind: int) -> Any:
    """Format a column as CSV would: a `pa.string()` array; a FLOAT with no more digits than it has."""
    import pyarrow as pa

    texts = pa.array(values, pa.string())
    if kind == FLOAT:
        texts = texts.cast(pa.float64()).cast(pa.float32()).cast(pa.string())
    return texts.fill_null("")
