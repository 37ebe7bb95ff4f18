"""Real tables, of SQLite and of PostgreSQL, and whatever happens to them."""

import json
import os
import random
import signal
import socket
import sqlite3
import threading
import time
import traceback
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from attrition.config import Database
from attrition.data import databases, postgres, sqlite
from attrition.data.databases import find_bound, identity, probe, reading
from attrition.errors import SourceError
from tests.postgres import OWNER, PASSWORD, READER

START = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = """corporation TEXT, lastmonth_activity INTEGER, lastyear_activity DOUBLE PRECISION,
    number_of_employees NUMERIC, exited INTEGER, updated_at {time}"""
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
        self.url = f"sqlite:///{self.path}"

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

    def execute(self, sql, rows=()):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(sql, rows) if rows else cursor.execute(sql)


class Crm:
    """A table of clients, whichever database it lies in, and what is read of it."""

    def __init__(self, table, time="TEXT"):
        self.table, self.kind, self.execute = table, table.kind, table.execute
        time = "TIMESTAMPTZ" if table.kind == "postgres" else time
        self.execute(f"CREATE TABLE clients ({COLUMNS.format(time=time)})")

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


def held(database, seconds=60):
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


@pytest.fixture(params=["sqlite", "postgres"])
def crm(request):
    return request.getfixturevalue(f"{request.param}_crm")


@pytest.fixture
def ten(crm):
    """Ten clients that changed a day after each other."""
    crm.insert(*(client(f"old{i}", i) for i in range(10)))
    return crm


# ---- what is read


def test_first_look_takes_the_whole_table_in_the_order_of_its_changes(crm):
    crm.insert(client("late", 5), client("early", 1), client("timeless", None))
    assert crm.read()[:2] == (True, ["timeless", "early", "late"])


def test_rows_arrive_as_text(crm):
    crm.insert(client("acme", exited=None), client(None, year=-0.1, employees="12.50"))
    header = ("corporation", "lastmonth_activity", "lastyear_activity", "number_of_employees")
    with reading(crm.database(), None, seconds=60) as read:
        assert read.header == (*header, "exited", "updated_at")
        rows = [row[:5] for row in list_rows(read)]
    employees = "12.50" if crm.kind == "postgres" else "12.5"
    assert sorted(rows) == [["", "1", "-0.1", employees, "0"], ["acme", "1", "2.5", "3", ""]]


def test_nothing_can_be_written(crm):
    crm.insert(client("acme"))
    with (
        databases._opened(crm.database(), 60) as found,
        pytest.raises(
            (sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction), match="read-?only"
        ),
    ):
        found.ask(found.table.element.insert().values(corporation="x"))
    assert crm.read()[1] == ["acme"]


@pytest.mark.parametrize("changed_column", ["updated_at", None])
def test_what_did_not_change_leaves_the_mark_alone(ten, changed_column):
    assert ten.mark(changed_column=changed_column) == ten.mark(changed_column=changed_column)


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE clients SET updated_at = '{day(4)}' WHERE corporation = 'old3'",
        "DELETE FROM clients WHERE corporation = 'old3'",
        f"INSERT INTO clients VALUES ('x', 1, 2, 3, 0, '{day(2)}')",
        "INSERT INTO clients VALUES ('x', 1, 2, 3, 0, NULL)",
    ],
)
@pytest.mark.parametrize("table", ["clients", "everyone"])
def test_any_change_changes_the_mark(ten, table, change):
    ten.execute("CREATE VIEW everyone AS SELECT corporation, updated_at FROM clients")
    before = ten.mark(table=table)
    ten.execute(change)
    assert ten.mark(table=table) != before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE clients SET exited = 1 WHERE corporation = 'old3'",
        "ALTER TABLE clients RENAME COLUMN exited TO gone",
        "ALTER TABLE clients DROP COLUMN lastmonth_activity",
        "ALTER TABLE clients ADD COLUMN more TEXT",
    ],
)
def test_change_that_the_times_do_not_tell_changes_the_mark(ten, change):
    before = ten.mark()
    ten.execute(change)
    assert ten.mark() != before


def test_one_row_in_place_of_another_changes_the_mark(ten):
    before = ten.mark()
    ten.execute("DELETE FROM clients WHERE corporation = 'old3'")
    ten.insert(client("new", 3))
    assert ten.mark() != before


def test_identity_tells_tables_apart(ten):
    other = ten.database(table="prospects"), ten.database(changed_column=None)
    assert len({identity(ten.database()), *map(identity, other)}) == 3


# ---- what changed since


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (client("new", 10), "it is the newest"),
        (client("new", 9), "it shares its time with the last row read"),
        (client("new", day(8)), "it was committed a day late"),
        (client("new", None), "it has no time"),
        (client("new", "2999-01-01"), "it is from the future"),
    ],
)
def test_new_row_is_read_without_the_old_ones(ten, row, why):
    seen = ten.read()[2]
    ten.insert(row)
    whole, names, _ = ten.read(seen)
    assert not whole
    assert "new" in names, why
    assert len(names) <= 4


def test_row_with_a_time_long_gone_is_read(ten):
    seen = ten.read()[2]
    ten.insert(client("backdated", 2))
    whole, names, _ = ten.read(seen)
    assert "backdated" in names
    assert whole == (ten.kind == "sqlite"), "PostgreSQL knows which rows are fresh"


def test_hours_of_the_overlap_are_those_of_the_config(ten):
    seen = ten.read(overlap_hours=72)[2]
    ten.insert(client("new", 10))
    assert ten.read(seen)[:2] == (False, ["old6", "old7", "old8", "old9", "new"])


def test_row_from_the_future_does_not_hide_what_follows(ten, clock):
    ten.insert(client("future", "2999-01-01"))
    seen = ten.read()[2]
    ten.insert(client("next", 100))
    _, names, seen = ten.read(seen)
    assert "next" in names
    clock(100, hours=5)
    ten.insert(client("last", str(START + timedelta(days=100, hours=4))))
    assert ten.read(seen)[0] is False
    assert "last" in ten.read(seen)[1]


def test_changed_row_is_read_again(ten):
    seen = ten.read()[2]
    ten.execute(
        f"UPDATE clients SET exited = 1, updated_at = '{day(20)}' WHERE corporation = 'old3'"
    )
    whole, names, _ = ten.read(seen)
    assert names[-1] == "old3"
    assert whole == (ten.kind == "sqlite"), "PostgreSQL knows which rows are fresh"


def test_thousand_rows_of_the_same_time_are_all_read(crm):
    crm.insert(*(client(f"a{i}", 1) for i in range(1000)))
    seen = crm.read()[2]
    crm.insert(*(client(f"b{i}", 1) for i in range(1000)))
    assert set(crm.read(seen)[1]) >= {f"b{i}" for i in range(1000)}


@pytest.mark.parametrize("days", [range(3), range(20), range(40, 60), range(2, 12)])
def test_table_filled_anew_is_read_whole(ten, days):
    seen = ten.read()[2]
    ten.execute("DELETE FROM clients" if ten.kind == "sqlite" else "TRUNCATE clients")
    ten.insert(*(client(f"new{i}", i) for i in days))
    whole, names, _ = ten.read(seen)
    assert names == [f"new{i}" for i in days] or not whole
    assert set(names) == {f"new{i}" for i in days}


@pytest.mark.parametrize("lost", ["old1", "old8", "old9"])
def test_table_that_lost_a_row_is_read_whole(ten, lost):
    seen = ten.read()[2]
    ten.execute(f"DELETE FROM clients WHERE corporation = '{lost}'")
    assert ten.read(seen)[0]


def test_mark_ahead_of_the_data_has_the_table_read_whole(ten):
    """As after a backup of the database was restored."""
    ten.insert(client("lost", 50))
    seen = ten.read()[2]
    ten.execute("DELETE FROM clients WHERE corporation = 'lost'")
    ten.insert(client("found", 20))
    assert ten.read(seen)[0]


def test_newest_row_that_is_gone_has_the_table_read_whole(ten):
    seen = ten.read()[2]
    ten.execute("DELETE FROM clients WHERE corporation = 'old9'")
    ten.insert(client("in between", 8))
    assert ten.read(seen)[0]


def test_table_is_read_whole_once_the_hours_of_the_config_have_passed(ten, clock):
    seen = ten.read()[2]
    clock(100, hours=23)
    assert not ten.read(seen)[0]
    clock(100, hours=24)
    whole, _, seen = ten.read(seen)
    assert whole
    clock(100, hours=25)
    assert not ten.read(seen)[0]


def test_clock_that_went_back_has_the_table_read_whole(ten, clock):
    seen = ten.read()[2]
    clock(99)
    assert ten.read(seen)[0]


def test_whole_reading_can_be_asked_for(ten):
    assert ten.read(ten.read()[2], whole=True)[0]


def test_table_without_a_column_of_changes_is_read_whole(ten):
    seen = ten.read(changed_column=None)[2]
    assert ten.read(seen, changed_column=None)[0]


def test_watermark_of_an_earlier_version_has_the_table_read_whole(ten):
    assert ten.read({"rows": 10, "bound": day(8), "below": 8, "whole_on": day(100)})[0]


def test_empty_table_is_no_error(crm):
    whole, names, seen = crm.read()
    assert (whole, names, seen["rows"]) == (True, [], 0)
    crm.insert(client("first"))
    assert crm.read(seen)[1] == ["first"]


def test_what_was_seen_is_plain_json(ten):
    seen = ten.read()[2]
    assert json.loads(json.dumps(seen)) == seen
    assert seen["rows"] == 10


@pytest.mark.parametrize(
    ("kind", "old", "new", "is_whole"),
    [
        ("INTEGER", [1, 2, 3], 3, False),
        ("BIGINT", [1, 2, 2**62], 2**62, False),
        ("DOUBLE PRECISION", [0.1, 0.2, 0.3], 0.3, False),
        ("REAL", [0.1, 0.2, 0.7], 0.7, False),
        ("NUMERIC", ["1.5", "2.5"], "2.5", False),
        ("DATE", [day(1), day(2)], day(2), False),
        ("TIMESTAMP", [day(1), f"{day(2)} 12:00:00.5"], f"{day(2)} 12:00:00.5", False),
        ("TEXT", [day(1), f"{day(2)}T12:00Z"], f"{day(2)}T12:00:01+02:00", False),
        ("TEXT", ["v9", "v10"], "v11", True),
        ("TEXT", ["03/15/2026", "12/01/2025"], "01/02/2026", True),
        ("BOOLEAN", ["true", "false"], "true", True),
    ],
)
def test_any_column_can_tell_what_changed(crm, kind, old, new, is_whole):
    if crm.kind == "sqlite" and kind == "REAL":
        kind = "DOUBLE PRECISION"
    crm.execute("DROP TABLE clients")
    crm.execute(f"CREATE TABLE clients (corporation TEXT, changed {kind})")
    insert = f"INSERT INTO clients VALUES ({crm.table.mark}, {crm.table.mark})"
    crm.execute(insert, [(f"old{i}", value) for i, value in enumerate(old)])
    whole, names, seen = crm.read(changed_column="changed")
    assert (whole, len(names)) == (True, len(old))
    crm.execute(insert, [("new", new)])
    whole, names, _ = crm.read(seen, changed_column="changed")
    assert "new" in names
    assert whole == is_whole


@pytest.mark.parametrize("newest", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"])
def test_time_beyond_all_clocks_has_the_table_read_whole(postgres_crm, newest):
    postgres_crm.insert(client("odd", newest))
    _, names, seen = postgres_crm.read()
    postgres_crm.insert(client("next", 1))
    assert names == ["odd"]
    assert set(postgres_crm.read(seen)[1]) >= {"next"}


@pytest.mark.parametrize("newest", ["NaN", "Infinity"])
def test_number_beyond_all_numbers_hides_nothing(postgres_crm, newest):
    postgres_crm.execute("ALTER TABLE clients ADD COLUMN version NUMERIC")
    postgres_crm.execute(f"INSERT INTO clients (corporation, version) VALUES ('odd', '{newest}')")
    seen = postgres_crm.read(changed_column="version")[2]
    postgres_crm.execute("INSERT INTO clients (corporation, version) VALUES ('next', 1)")
    assert "next" in postgres_crm.read(seen, changed_column="version")[1]


@pytest.mark.parametrize(
    ("kind", "bound"), [("time", "2026-02-28 23:00:00+00:00"), ("text", "2026-02-28")]
)
def test_bound_is_never_in_the_future(kind, bound):
    found, until = find_bound("2999-01-01 00:00:00+00:00", kind, 1, START)
    assert (found, until[:10]) == (bound, "2026-03-01")


def test_bound_that_no_date_can_hold_has_the_table_read_whole():
    assert find_bound("0001-01-01", "text", 24, START) == (None, None)
    assert find_bound(day(1), "text", 1e300, START) == (None, None)


# ---- types and names


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("BOOLEAN", "true", "true"),
        ("BOOLEAN", "NULL", ""),
        ("TEXT", "NULL", ""),
        ("TEXT", "''", ""),
        ("TEXT", r"'\.'", r"\."),
        ("TEXT", "'a,\"b\"'", 'a,"b"'),
        ("TEXT", "E'two\nlines\r\n'", "two\nlines\r\n"),
        ("TEXT", "'NULL'", "NULL"),
        ("TEXT", "'é🚀'", "é🚀"),
        ("TEXT", "repeat('x', 9000)", "x" * 8192),
        ("CHAR(9)", "'acme'", "acme"),
        ("VARCHAR(9)", "' acme '", " acme "),
        ("BIGINT", "9223372036854775807", "9223372036854775807"),
        ("NUMERIC", "'NaN'", "NaN"),
        ("NUMERIC", "'-Infinity'", "-Infinity"),
        ("NUMERIC(9, 2)", "12.5", "12.50"),
        ("DOUBLE PRECISION", "0.1", "0.1"),
        ("DOUBLE PRECISION", "1e300", "1e+300"),
        ("DOUBLE PRECISION", "2", "2"),
        ("REAL", "0.1", "0.1"),
        ("BYTEA", "'acme'", "\x0161636d65"),
        ("BYTEA", "NULL", ""),
        ("JSON", """'{"a": 1}'""", '{"a": 1}'),
        ("JSONB", """'{"a":1}'""", '{"a": 1}'),
        ("INTEGER[]", "'{1,2}'", "{1,2}"),
        ("UUID", "'00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("DATE", "'2026-03-01'", "2026-03-01"),
        ("TIMESTAMP", "'2026-03-01 12:30:00.5'", "2026-03-01 12:30:00.5"),
        ("TIMESTAMPTZ", "'2026-03-01 12:30:00+02'", "2026-03-01 10:30:00"),
        ("INTERVAL", "'1 day'", "1 day"),
    ],
)
def test_type_of_postgres_is_the_text_that_a_csv_would_hold(postgres_crm, kind, value, text):
    postgres_crm.execute(f"CREATE TABLE typed AS SELECT 1 AS n, {value}::{kind} AS value")
    assert all_rows(postgres_crm.database(table="typed", changed_column=None)) == [["1", text]]


def test_column_of_nothing_keeps_its_rows(postgres_crm):
    postgres_crm.execute("CREATE TABLE single AS SELECT NULL::text AS a FROM generate_series(1, 3)")
    assert all_rows(postgres_crm.database(table="single", changed_column=None)) == [[""]] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        ("", ""),
        (3, "3"),
        (2**63 - 1, "9223372036854775807"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        (b"acme", "\x0161636d65"),
        (b"", "\x01"),
        ("x" * 9000, "x" * 8192),
        (b"x" * 9000, "\x01" + "78" * 20),
    ],
)
def test_value_that_sqlite_lets_into_any_column_is_text(sqlite_crm, value, text):
    sqlite_crm.insert(client("acme"), client("bolt", 1, month=value))
    assert all_rows(sqlite_crm.database())[1][1] == text


def test_declared_types_of_sqlite_convert_nothing(sqlite_crm):
    sqlite_crm.execute("CREATE TABLE typed (d DATE, t DATETIME, n NUMERIC(9, 2), b BOOLEAN)")
    sqlite_crm.execute("INSERT INTO typed VALUES (?, ?, ?, ?)", [["no", "no", "no", "no"]])
    database = sqlite_crm.database(table="typed", changed_column=None)
    assert all_rows(database) == [["no"] * 4]


NAMES = [
    "'; DROP TABLE clients;--",
    'a "quoted" name',
    "%s %(x)s %n",
    ":name ?",
    "select",
    "Größe 🚀",
    "UPPER case",
]


@pytest.mark.parametrize("name", NAMES)
def test_name_of_a_table_and_a_column_may_be_anything(crm, name):
    quoted = '"' + name.replace('"', '""') + '"'
    sql = f"CREATE TABLE {quoted} (t INTEGER, {quoted} INTEGER)"
    crm.execute(sql)
    crm.execute(f"INSERT INTO {quoted} VALUES (1, 2)")
    settings = {"table": name, "changed_column": name}
    with reading(crm.database(**settings), None, seconds=60) as read:
        assert read.header == ("t", name)
        assert list_rows(read) == [["1", "2"]]
    assert crm.read(read.seen, **settings)[:2] == (False, ["1"])
    assert crm.mark(**settings) == crm.mark(**settings)
    assert crm.read()[1] == []


def test_url_may_say_how_to_connect(postgres_crm):
    postgres_crm.insert(client("acme"))
    more = "?connect_timeout=3&sslmode=prefer&client_encoding=latin1"
    more += "&options=-c%20work_mem%3D8MB%20-c%20default_transaction_read_only%3Doff"
    database = postgres_crm.database(url=postgres_crm.table.url + more)
    assert [row[0] for row in all_rows(database)] == ["acme"]
    with databases._opened(database, 60) as found:
        assert found.ask(sa.text("SHOW work_mem")) == ("8MB",)
        assert found.ask(sa.text("SHOW default_transaction_read_only")) == ("on",)
        assert found.ask(sa.text("SHOW transaction_isolation")) == ("repeatable read",)


def test_table_of_a_schema_is_read(postgres_crm):
    postgres_crm.execute("CREATE SCHEMA sales")
    postgres_crm.execute("CREATE TABLE sales.clients AS SELECT 7 AS n")
    postgres_crm.execute("GRANT ALL ON SCHEMA sales TO PUBLIC")
    postgres_crm.execute("GRANT SELECT ON sales.clients TO PUBLIC")
    database = postgres_crm.database(table="sales.clients", changed_column=None)
    assert all_rows(database) == [["7"]]
    assert probe(database, seconds=60) == probe(database, seconds=60)


@pytest.mark.parametrize(
    ("relation", "refresh", "is_whole"),
    [
        ("VIEW other AS SELECT * FROM clients", "SELECT 1", False),
        ("MATERIALIZED VIEW other AS TABLE clients", "REFRESH MATERIALIZED VIEW other", True),
    ],
)
def test_view_is_read_on(postgres_crm, relation, refresh, is_whole):
    postgres_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    postgres_crm.execute(f"CREATE {relation}")
    seen, before = postgres_crm.read(table="other")[2], postgres_crm.mark(table="other")
    postgres_crm.insert(client("new", 9))
    postgres_crm.execute(refresh)
    whole, names, _ = postgres_crm.read(seen, table="other")
    assert (whole, "new" in names) == (is_whole, True)
    assert postgres_crm.mark(table="other") != before


def test_partitioned_table_is_read_on(postgres_crm):
    postgres_crm.execute("CREATE TABLE parts (LIKE clients) PARTITION BY LIST (exited)")
    postgres_crm.execute("CREATE TABLE stayed PARTITION OF parts FOR VALUES IN (0)")
    postgres_crm.execute("CREATE TABLE left_us PARTITION OF parts DEFAULT")
    for i in range(10):
        postgres_crm.execute(f"INSERT INTO parts VALUES ('old{i}', 1, 2, 3, {i % 2}, '{day(i)}')")
    seen, before = postgres_crm.read(table="parts")[2], postgres_crm.mark(table="parts")
    postgres_crm.execute(f"INSERT INTO parts VALUES ('new', 1, 2, 3, 0, '{day(9)}')")
    whole, names, _ = postgres_crm.read(seen, table="parts")
    assert (whole, sorted(names)) == (False, ["new", "old8", "old9"])
    postgres_crm.execute("UPDATE parts SET lastmonth_activity = 5 WHERE corporation = 'old1'")
    assert postgres_crm.mark(table="parts") != before
    assert postgres_crm.read(seen, table="parts")[0]


# ---- many sessions at once


def test_late_commit_with_an_old_time_and_number_is_read(postgres_crm):
    """The first to begin is the last to commit, and a whole look came in between."""
    postgres_crm.execute("ALTER TABLE clients ADD COLUMN id BIGSERIAL")
    with postgres_crm.table.connect() as late:
        late.execute("INSERT INTO clients (corporation, updated_at) VALUES ('late', '2026-01-01')")
        postgres_crm.execute(
            f"INSERT INTO clients (corporation, updated_at) VALUES ('soon', '{day(5)}')"
        )
        seen = {name: postgres_crm.read(changed_column=name)[2] for name in ("id", "updated_at")}
        marks = {name: postgres_crm.mark(changed_column=name) for name in seen}
        late.commit()
    for name in seen:
        whole, names, _ = postgres_crm.read(seen[name], changed_column=name)
        assert (whole, "late" in names) == (False, True)
        assert postgres_crm.mark(changed_column=name) != marks[name]


def test_delete_made_up_for_by_an_insert_has_the_table_read_whole(postgres_crm):
    """The server tells of it once the session that deleted is over."""
    postgres_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    seen = postgres_crm.read()[2]
    postgres_crm.execute("DELETE FROM clients WHERE corporation = 'old9'")
    postgres_crm.insert(client("new", 9), client("newer", 10))
    give_up = time.monotonic() + 10
    while not postgres_crm.read(seen)[0]:
        assert time.monotonic() < give_up


def test_long_transaction_hides_nothing_of_its_own_or_of_others(postgres_crm):
    postgres_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    with postgres_crm.table.connect() as slow:
        slow.execute("UPDATE clients SET exited = 1 WHERE corporation = 'old1'")
        seen = postgres_crm.read()[2]
        for i in range(3):
            postgres_crm.execute(f"UPDATE clients SET exited = 1 WHERE corporation = 'old{i + 2}'")
            _, names, seen = postgres_crm.read(seen)
            assert f"old{i + 2}" in names
        slow.commit()
    assert "old1" in postgres_crm.read(seen)[1]


def test_all_of_a_look_is_of_one_moment(crm):
    if crm.kind == "sqlite":
        with sqlite3.connect(crm.table.path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    crm.insert(*(client(f"old{i}", i) for i in range(10)))
    with reading(crm.database(), None, seconds=60) as read:
        crm.execute("DELETE FROM clients WHERE corporation = 'old1'")
        crm.insert(client("new", 5))
        names = [row[0] for row in list_rows(read)]
    assert names == [f"old{i}" for i in range(10)]
    assert read.seen["rows"] == 10


# ---- what cannot be read


def test_missing_file_table_and_column_are_told(tmp_path, crm):
    assert held(crm.database(table="customers")) == "crm: there is no table 'customers'"
    assert held(crm.database(changed_column="no")) == "crm: there is no column 'no'"
    database = crm.database(url=f"sqlite:///{tmp_path}/no.sqlite")
    assert held(database) == f"crm: there is no SQLite file {tmp_path}/no.sqlite"
    assert not (tmp_path / "no.sqlite").exists()
    with pytest.raises(SourceError, match="there is no SQLite file"):
        probe(database, seconds=60)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://joe:${CRM_PASSWORD}@h/db", "environment variable CRM_PASSWORD is not set"),
        ("${CRM_URL}", "environment variable CRM_URL is not set"),
        ("postgresql://joe:hunter2@127.0.0.1:1/db", "Connection refused"),
        ("postgresql://joe:hun@ter2@127.0.0.1:1/db", "its url is not postgresql://"),
        ("postgresql://joe:hunter2@127.0.0.1:one/db", "its url is not postgresql://"),
        ("postgresql://joe:hunter2@127.0.0.1:1/db?nosuch=hunter2", "invalid connection option"),
        ("hunter2", "its url is not postgresql://"),
        ("mysql://joe:hunter2@h/db", "its url is not postgresql://"),
    ],
)
def test_unusable_url_is_told_without_its_password(url, told):
    line = held(Database("crm", url, "clients"))
    assert told in line
    assert "hun" not in line


def test_password_from_the_environment_may_hold_any_character(monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "p@ss/w:rd%40#?é")
    database = Database("crm", "postgresql://joe:${CRM_PASSWORD}@127.0.0.1:1/db", "clients")
    url, secrets = postgres.resolve(database)
    assert url.password == "p@ss/w:rd%40#?é"
    assert secrets == ["p@ss/w:rd%40#?é"]


def test_secret_is_blotted_out_of_what_the_server_says(monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "127.0.0.1")  # as the message will contain it
    line = held(Database("crm", "postgresql://joe:${CRM_PASSWORD}@127.0.0.1:1/db", "clients"))
    assert '"***", port 1' in line
    assert "127.0.0.1" not in line


@pytest.mark.parametrize("password", [PASSWORD, f"{PASSWORD}wrong"])
def test_password_stands_nowhere(postgres_crm, monkeypatch, caplog, capfd, password):
    monkeypatch.setenv("CRM_PASSWORD", password)
    url = postgres_crm.table.url.replace(PASSWORD, "${CRM_PASSWORD}")
    told = ""
    with caplog.at_level("DEBUG"):
        try:
            told += postgres_crm.mark(url=url) + str(postgres_crm.read(url=url))
            postgres_crm.read(url=url, table="nowhere")
        except SourceError as error:
            told += "".join(traceback.format_exception(error))
            is_wrong = password != PASSWORD
            assert ("password authentication failed" in str(error)) == is_wrong
    told += caplog.text + "".join(capfd.readouterr())
    assert told
    assert PASSWORD not in told


def test_role_that_may_only_read_is_enough_and_ours_refuses_to_write(postgres_crm):
    postgres_crm.insert(client("acme"))
    denied = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(postgres_crm.table.url) as session, denied:
        session.execute("DELETE FROM clients")
    owner = postgres_crm.table.server.url(OWNER)
    with (
        databases._opened(postgres_crm.database(url=owner), 60) as found,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        found.ask(found.table.element.insert().values(corporation="x"))


def test_table_that_may_not_be_read_is_told(postgres_crm):
    postgres_crm.execute(f"REVOKE SELECT ON clients FROM {READER}")
    assert held(postgres_crm.database()) == "crm: permission denied for table clients"


def test_server_that_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://joe:hunter2@127.0.0.1:{server.getsockname()[1]}/db"
        monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)
        start = time.monotonic()
        assert "timeout" in held(Database("crm", url, "clients"))
        assert time.monotonic() - start < 10


def test_reading_that_takes_too_long_is_ended(crm):
    endless = {
        "postgres": "CREATE VIEW endless AS SELECT count(*) AS n FROM generate_series(1, 1e9)",
        "sqlite": "CREATE VIEW endless AS WITH RECURSIVE c(n) AS "
        "(SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
    }
    crm.execute(endless[crm.kind])
    start = time.monotonic()
    line = held(crm.database(table="endless", changed_column=None), seconds=0.5)
    assert line == "crm: reading endless took longer than max_source_seconds allow"
    assert time.monotonic() - start < 5


def test_table_that_is_locked_is_told_in_seconds(postgres_crm, monkeypatch):
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.2)
    with postgres_crm.table.connect() as owner:
        owner.execute("LOCK TABLE clients IN ACCESS EXCLUSIVE MODE")
        assert held(postgres_crm.database()) == "crm: canceling statement due to lock timeout"


BIG = "SELECT i AS n, repeat('x', 200) AS filler FROM generate_series(1, {rows}) i"


@pytest.fixture
def big(postgres_crm):
    """A table too big for the buffers between a server and its reader."""
    postgres_crm.execute(f"CREATE TABLE big AS {BIG.format(rows=300_000)}")
    return postgres_crm.database(table="big", changed_column=None)


@pytest.mark.parametrize("how", ["terminate", "restart"])
def test_reading_cut_off_in_the_middle_is_an_error_and_not_an_end(big, postgres_crm, how):
    server = postgres_crm.table.server
    with pytest.raises(SourceError) as raised, reading(big, None, seconds=60) as read:
        next(read.chunks)
        {"terminate": server.terminate, "restart": server.restart}[how]()
        rows = list_rows(read)
        assert len(rows) < 300_000
    assert "\n" not in str(raised.value)
    assert len(all_rows(big)) == 300_000


def test_server_that_falls_silent_in_the_middle_is_given_up(big, postgres_crm):
    with postgres_crm.table.connect() as session:
        mine = "SELECT pid FROM pg_stat_activity WHERE usename = %s AND state = 'active'"
        with pytest.raises(SourceError, match="in time"), reading(big, None, seconds=3) as read:
            next(read.chunks)
            [(backend,)] = session.execute(mine, [READER]).fetchall()
            os.kill(backend, signal.SIGSTOP)
            try:
                list(read.chunks)
            finally:
                os.kill(backend, signal.SIGCONT)


def test_reading_that_is_left_early_leaves_no_session_behind(big, postgres_crm):
    with reading(big, None, seconds=60) as read:
        next(read.chunks)
    with postgres_crm.table.connect() as session:
        left = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        give_up = time.monotonic() + 10
        while session.execute(left, [READER]).fetchone() != (0,):
            session.rollback()
            assert time.monotonic() < give_up


def test_error_of_who_consumes_the_rows_is_passed_on(ten):
    mine = pytest.raises(sqlite3.OperationalError, match="mine")
    with mine, reading(ten.database(), None, seconds=60) as read:
        next(read.chunks)
        raise sqlite3.OperationalError("mine")


def test_rows_that_are_not_unicode_are_told(postgres_server, clock):
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING SQL_ASCII TEMPLATE template0")
    with postgres_server.connect(database="ascii", client_encoding="SQL_ASCII") as connection:
        connection.execute("CREATE TABLE clients AS SELECT E'\\xe9'::text AS corporation")
        connection.execute(f"GRANT SELECT ON clients TO {READER}")
    database = Database("crm", postgres_server.url(database="ascii"), "clients")
    assert "invalid byte sequence" in held(database)


def test_bytes_that_are_not_unicode_are_an_error_of_the_driver():
    with pytest.raises(psycopg.DataError, match="not Unicode"):
        list(postgres._parsed([bytearray(b"\xe9\n")]))


# ---- SQLite files in every state


def test_file_that_is_no_database_is_told(sqlite_crm):
    sqlite_crm.table.path.write_bytes(b"not a database " * 99)
    assert held(sqlite_crm.database()) == "crm: file is not a database"


def test_locked_file_is_told_and_read_when_it_is_free(sqlite_crm, monkeypatch):
    sqlite_crm.insert(client("acme"))
    connection = sqlite3.connect(sqlite_crm.table.path)
    connection.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
    assert held(sqlite_crm.database()) == "crm: database is locked"
    connection.rollback()
    connection.close()
    assert sqlite_crm.read()[1] == ["acme"]


def test_lock_that_is_held_for_a_moment_is_waited_for(sqlite_crm):
    sqlite_crm.insert(client("acme"))
    connection = sqlite3.connect(sqlite_crm.table.path, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, connection.rollback)
    release.start()
    assert sqlite_crm.read()[1] == ["acme"]
    release.join()
    connection.close()


def test_file_is_not_written_to(sqlite_crm):
    sqlite_crm.insert(client("acme"))
    before = sqlite_crm.table.path.read_bytes()
    sqlite_crm.read()
    assert sqlite_crm.table.path.read_bytes() == before
    assert os.listdir(sqlite_crm.table.path.parent) == ["crm.sqlite"]


def leave_log_behind(crm):
    """Leave a write-ahead log as after a crash: the database and its log, without an index of it."""
    connection = sqlite3.connect(crm.table.path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO clients VALUES ('logged', 1, 2, 3, 0, '2026-03-01')")
    connection.commit()
    log = Path(f"{crm.table.path}-wal")
    copies = {path: path.read_bytes() for path in (crm.table.path, log)}
    connection.close()
    for path, data in copies.items():
        path.write_bytes(data)
    Path(f"{crm.table.path}-shm").unlink(missing_ok=True)
    return copies


def test_log_left_behind_is_read_and_left_alone(sqlite_crm):
    copies = leave_log_behind(sqlite_crm)
    assert sqlite_crm.read()[1] == ["logged"]
    assert {path: path.read_bytes() for path in copies} == copies


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("log", [False, True])
def test_file_in_a_folder_that_we_may_not_write_to_is_read_or_told(sqlite_crm, tmp_path, log):
    sqlite_crm.insert(client("acme"))
    names = ["logged", "acme"] if log else ["acme"]
    if log:
        leave_log_behind(sqlite_crm)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        found = sqlite_crm.read()[1]
    except SourceError as error:
        assert log
        assert "unable to open database file" in str(error)
    else:
        assert sorted(found) == sorted(names)
    finally:
        os.seteuid(0)


def test_file_replaced_in_the_middle_is_read_as_it_was(sqlite_crm, tmp_path):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    with reading(sqlite_crm.database(), None, seconds=60) as read:
        names = next(read.chunks).columns[0].to_pylist()
        (tmp_path / "other").mkdir()
        other = Crm(SqliteTable(tmp_path / "other"))
        other.insert(client("new"))
        other.table.path.replace(sqlite_crm.table.path)
        names += [name for chunk in read.chunks for name in chunk.columns[0].to_pylist()]
    assert len(names) == 60_000
    assert sqlite_crm.read()[1] == ["new"]


def test_file_overwritten_in_the_middle_without_a_lock_is_told(sqlite_crm):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    data = sqlite_crm.table.path.read_bytes()
    told = pytest.raises(SourceError, match="^crm: ")
    with told, reading(sqlite_crm.database(), None, seconds=60) as read:
        next(read.chunks)
        sqlite_crm.table.path.write_bytes(data[: len(data) // 2])
        list(read.chunks)


def test_file_changed_in_the_middle_without_a_lock_is_told(sqlite_crm):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    told = pytest.raises(SourceError, match="written to in the middle of the reading")
    with told, reading(sqlite_crm.database(), None, seconds=60) as read:
        next(read.chunks)
        sqlite_crm.table.path.write_bytes(sqlite_crm.table.path.read_bytes())
        list(read.chunks)


def test_damage_in_another_table_is_told(sqlite_crm):
    """Who wrote over one page may have written over others."""
    sqlite_crm.insert(client("acme"))
    sqlite_crm.execute("CREATE TABLE other (x)")
    sqlite_crm.execute("INSERT INTO other VALUES (?)", [["x" * 3000]] * 4)
    data = sqlite_crm.table.path.read_bytes()
    sqlite_crm.table.path.write_bytes(data[:-4096] + b"\x05" * 4096)
    assert f"{sqlite_crm.table.path} is damaged: " in held(sqlite_crm.database())


def test_any_flipped_byte_is_told_or_does_no_harm(sqlite_crm):
    """200 single bytes of a good file: what is read is right, or it is told; never a crash."""
    sqlite_crm.insert(*(client(f"client{i}", i, month=i) for i in range(300)))
    sqlite_crm.execute("CREATE INDEX by_change ON clients (updated_at)")
    good = sqlite_crm.table.path.read_bytes()
    rows = len(all_rows(sqlite_crm.database()))
    rng = random.Random(0)
    told = 0
    for at in [*range(0, 100, 2), *rng.sample(range(100, len(good)), 150)]:
        sqlite_crm.table.path.write_bytes(
            good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :]
        )
        try:
            probe(sqlite_crm.database(), seconds=20)
            found = all_rows(sqlite_crm.database())
            assert len(found) == rows
        except SourceError:
            told += 1
    assert 20 < told < 200


def test_text_that_is_not_unicode_is_told(sqlite_crm):
    sqlite_crm.execute("INSERT INTO clients (corporation) VALUES (CAST(x'ff' AS TEXT))")
    assert "Could not decode to UTF-8" in held(sqlite_crm.database())


def test_file_that_takes_too_long_to_hash_is_told(sqlite_crm):
    with pytest.raises(SourceError, match="cannot be hashed in 0 seconds"):
        probe(sqlite_crm.database(), seconds=0)


def test_hostile_view_ends_with_its_time(sqlite_crm):
    sqlite_crm.execute(
        "CREATE VIEW hostile AS SELECT a.name || b.name || c.name || d.name AS x FROM "
        "pragma_function_list a, pragma_function_list b, pragma_function_list c, "
        "pragma_function_list d"
    )
    held(sqlite_crm.database(table="hostile", changed_column=None), seconds=0.5)


def test_row_of_any_size_is_told_or_cut(sqlite_crm):
    sqlite_crm.execute("INSERT INTO clients (corporation) VALUES (zeroblob(70000000))")
    assert held(sqlite_crm.database()) == "crm: string or blob too big"


def test_link_to_a_file_is_followed_to_its_news(sqlite_crm, tmp_path):
    sqlite_crm.insert(client("acme"))
    (tmp_path / "link.sqlite").symlink_to(sqlite_crm.table.path)
    url = f"sqlite:///{tmp_path}/link.sqlite"
    before = sqlite_crm.mark(url=url)
    sqlite_crm.insert(client("bolt"))
    assert sqlite_crm.mark(url=url) != before
    assert sqlite_crm.read(url=url)[1] == ["acme", "bolt"]


def test_path_of_a_file_may_hold_any_character(sqlite_crm, tmp_path):
    path = tmp_path / "my %41 #1 &crm.sqlite"
    sqlite_crm.insert(client("acme"))
    sqlite_crm.table.path.rename(path)
    assert sqlite_crm.read(url=f"sqlite:///{path}")[1] == ["acme"]


def test_memory_does_not_grow_with_the_table(big):
    """60 MB of rows, of which a piece and its text are held at a time."""
    tracemalloc.start()
    try:
        with reading(big, None, seconds=60) as read:
            most = max(pa.total_allocated_bytes() for _ in read.chunks)
        assert most < 30e6
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [0, 1, 49_999, 60_001])
def test_rows_come_in_pieces_that_lose_none(crm, n):
    crm.insert(*(client(f"c{i}", None) for i in range(n)))
    with reading(crm.database(), None, seconds=60) as read:
        rows = list_rows(read)
    assert sorted(row[0] for row in rows) == sorted(f"c{i}" for i in range(n))
    assert read.seen["rows"] == n
