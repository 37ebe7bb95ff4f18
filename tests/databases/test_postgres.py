"""Tables of a real PostgreSQL server: types, sessions, and what it can refuse."""

import time

import psycopg
import pytest
import sqlalchemy as sa

from attrition.config import Database
from attrition.databases import postgres
from attrition.databases import reader as databases
from tests.postgres import READER
from tests.tables import all_rows, client, day, unavailable


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


def test_materialized_view_is_read_whole_once_it_was_refreshed(postgres_crm):
    postgres_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    postgres_crm.execute("CREATE MATERIALIZED VIEW other AS TABLE clients")
    seen, before = postgres_crm.read(table="other")[2], postgres_crm.mark(table="other")
    postgres_crm.insert(client("new", 9))
    postgres_crm.execute("REFRESH MATERIALIZED VIEW other")
    whole, names, _ = postgres_crm.read(seen, table="other")
    assert (whole, "new" in names) == (True, True)
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


@pytest.mark.parametrize("gone", ["old3", "old9"])
def test_delete_made_up_for_by_an_insert_has_the_table_read_whole(postgres_crm, gone):
    """The server tells of it once the session that deleted is over."""
    postgres_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    seen = postgres_crm.read()[2]
    postgres_crm.execute(f"DELETE FROM clients WHERE corporation = '{gone}'")
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


def test_table_that_may_not_be_read_is_told(postgres_crm):
    postgres_crm.execute(f"REVOKE SELECT ON clients FROM {READER}")
    assert unavailable(postgres_crm.database()) == "crm: permission denied for table clients"


def test_rows_that_are_not_unicode_are_told(postgres_server, clock):
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING SQL_ASCII TEMPLATE template0")
    with postgres_server.connect(database="ascii", client_encoding="SQL_ASCII") as connection:
        connection.execute("CREATE TABLE clients AS SELECT E'\\xe9'::text AS corporation")
        connection.execute(f"GRANT SELECT ON clients TO {READER}")
    database = Database("crm", postgres_server.url(database="ascii"), "clients")
    assert "invalid byte sequence" in unavailable(database)


def test_bytes_that_are_not_unicode_are_an_error_of_the_driver():
    with pytest.raises(psycopg.DataError, match="not Unicode"):
        list(postgres.parsed([bytearray(b"\xe9\n")]))
