"""Tables of clients in SQLite, PostgreSQL and MariaDB, and what is read of them; with fixtures."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from attrition.config import Database
from attrition.databases import reader as databases
from attrition.databases.reader import probe, reading
from attrition.errors import SourceError

START = datetime(2026, 3, 1, tzinfo=UTC)


COLUMNS = """corporation TEXT, lastmonth_activity INTEGER, lastyear_activity DOUBLE PRECISION,
    number_of_employees {number}, exited INTEGER, updated_at {time}"""


INSERT = "INSERT INTO clients VALUES ({0}, {0}, {0}, {0}, {0}, {0})"


def day(n):
    return str((START + timedelta(days=n)).date())


def client(name, changed=0, *, month=1, year=2.5, employees=3, exited=0):
    """A row of the table; `changed` is a number of days."""
    return (name, month, year, employees, exited, day(changed) if type(changed) is int else changed)


class SqliteTable:
    """A table of clients in an SQLite file."""

    kind, mark = "sqlite", "?"

    def __init__(self, folder):
        self.path = folder / "crm.sqlite"
        self.url = self.config_url = f"sqlite:///{self.path}"

    def execute(self, sql, rows=()):
        connection = sqlite3.connect(self.path)
        with connection:
            connection.executemany(sql, rows) if rows else connection.execute(sql)
        connection.close()


class PostgresTable:
    """A table of clients on a PostgreSQL server, the only one there."""

    kind, mark = "postgres", "%s"

    def __init__(self, server):
        server.clear()
        self.server, self.url, self.connect = server, server.url(), server.connect
        self.config_url = server.config_url()

    def execute(self, sql, rows=()):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(sql, rows) if rows else cursor.execute(sql)


class MariadbTable(PostgresTable):
    """A table of clients on a MariaDB server, the only one there."""

    kind = "mariadb"

    def execute(self, sql, rows=()):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(sql, rows) if rows else cursor.execute(sql)
            connection.commit()


# How each database writes what the others write otherwise.
TIMES = {"postgres": "TIMESTAMPTZ", "mariadb": "DATETIME(6)"}
NUMBERS = {"mariadb": "DECIMAL(60, 2)"}


class Crm:
    """A table of clients, whichever database it lies in, and what is read of it."""

    def __init__(self, table, time="TEXT"):
        self.table, self.kind, self.execute = table, table.kind, table.execute
        types = {"time": TIMES.get(self.kind, time), "number": NUMBERS.get(self.kind, "NUMERIC")}
        self.execute(f"CREATE TABLE clients ({COLUMNS.format(**types)})")

    def insert(self, *rows):
        if rows:
            self.execute(INSERT.format(self.table.mark), rows)

    def database(self, **changes):
        plain = {"name": "crm", "url": self.table.url, "table": "clients"}
        return Database(**(plain | {"changed_column": "updated_at"} | changes))

    def read(self, since=None, *, whole=False, **changes):
        """Read to the end; return whether it was whole, the names in order, and what was seen."""
        with reading(self.database(**changes), since, seconds=60, whole=whole) as read:
            rows = list_rows(read)
            return read.whole, [row[0] for row in rows], read.seen

    def mark(self, **changes):
        return probe(self.database(**changes), seconds=60)


def list_rows(read):
    """The rows of a reading as lists of text; their lines run from 1."""
    rows, lines = [], []
    for chunk in read.chunks:
        columns = [column.to_pylist() for column in chunk.columns]
        rows += map(list, zip(*columns, strict=True))
        lines += chunk.lines
    assert lines == list(range(1, len(rows) + 1))
    return rows


def all_rows(database, **options):
    with reading(database, None, seconds=60, **options) as read:
        return list_rows(read)


def unavailable(database, seconds=60):
    """Read a database that cannot be; return the line that tells why."""
    with pytest.raises(SourceError) as raised, reading(database, None, seconds=seconds) as read:
        list_rows(read)
    line = str(raised.value)
    assert line.startswith(f"{database.name}: ")
    assert "\n" not in line
    return line


@pytest.fixture
def clock(monkeypatch):
    """Set the day that it is; at first one after all rows."""

    def set_day(n, hours=0):
        moment = START + timedelta(days=n, hours=hours)
        monkeypatch.setattr(databases, "utc_datetime", lambda: moment)

    set_day(100)
    return set_day


@pytest.fixture
def sqlite_crm(tmp_path, clock):
    return Crm(SqliteTable(tmp_path))


@pytest.fixture
def postgres_crm(postgres_server, clock):
    return Crm(PostgresTable(postgres_server))


@pytest.fixture
def mariadb_crm(mariadb_server, clock):
    return Crm(MariadbTable(mariadb_server))


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def crm(request):
    return request.getfixturevalue(f"{request.param}_crm")


@pytest.fixture
def ten(crm):
    """Ten clients that changed a day after each other."""
    crm.insert(*(client(f"old{i}", i) for i in range(10)))
    return crm


BIG = {"postgres": "generate_series(1, 300000)", "mariadb": "seq_1_to_300000"}


@pytest.fixture(params=BIG)
def server_crm(request):
    return request.getfixturevalue(f"{request.param}_crm")


@pytest.fixture
def big(server_crm):
    """A table too big for the buffers between a server and its reader."""
    rows = BIG[server_crm.kind]
    server_crm.execute(f"CREATE TABLE big AS SELECT n.*, repeat('x', 200) AS filler FROM {rows} n")
    return server_crm.database(table="big", changed_column=None)
