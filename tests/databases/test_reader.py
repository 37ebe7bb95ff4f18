"""Real tables of SQLite, PostgreSQL and MariaDB, and what is read of them when."""

import json
import sqlite3
import time
from datetime import timedelta

import psycopg
import pymysql
import pytest

from attrition.databases import reader as databases
from attrition.databases.reader import find_bound, identity, probe, reading
from attrition.errors import SourceError
from tests.tables import START, client, day, list_rows, unavailable

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
    decimals = {"sqlite": ["12.5", "3"], "postgres": ["12.50", "3"], "mariadb": ["12.50", "3.00"]}
    odd, even = decimals[crm.kind]
    assert sorted(rows) == [["", "1", "-0.1", odd, "0"], ["acme", "1", "2.5", even, ""]]


def test_nothing_can_be_written(crm):
    crm.insert(client("acme"))
    with (
        databases._opened(crm.database(), 60) as found,
        pytest.raises(
            (sqlite3.Error, psycopg.errors.ReadOnlySqlTransaction, pymysql.Error),
            match="(?i)read.?only|denied",
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
    assert whole == (ten.kind != "postgres"), "PostgreSQL knows which rows are fresh"


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
    assert whole == (ten.kind != "postgres"), "PostgreSQL knows which rows are fresh"


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


@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
def test_row_replaced_within_the_overlap_is_gone_after_the_next_whole_reading(request, kind, clock):
    crm = request.getfixturevalue(f"{kind}_crm")
    crm.insert(*(client(f"old{i}", i) for i in range(10)))
    seen = crm.read()[2]
    crm.execute("DELETE FROM clients WHERE corporation = 'old8'")
    crm.insert(client("new", 9))
    assert crm.read(seen)[:2] == (False, ["old9", "new"])
    clock(100, hours=24)
    assert crm.read(seen)[0]


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
    kind = {("sqlite", "REAL"): "DOUBLE PRECISION", ("mariadb", "REAL"): "FLOAT"}.get(
        (crm.kind, kind), kind
    )
    crm.execute("DROP TABLE clients")
    crm.execute(f"CREATE TABLE clients (corporation TEXT, changed {kind})")
    insert = f"INSERT INTO clients VALUES ({crm.table.mark}, {crm.table.mark})"
    crm.execute(insert, [(f"old{i}", value) for i, value in enumerate(old)])
    whole, names, seen = crm.read(changed_column="changed")
    assert (whole, len(names)) == (True, len(old))
    crm.execute(insert, [("new", new)])
    whole, names, _ = crm.read(seen, changed_column="changed")
    assert "new" in names
    assert whole == (is_whole and (crm.kind, kind) != ("mariadb", "BOOLEAN")), (
        "it is a number there"
    )


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
    if crm.kind == "mariadb":
        name = name.replace(" 🚀", "")  # its names have no characters beyond the first 65,536
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


# ---- many sessions at once


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


SESSIONS = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader'",
}


def test_reading_that_is_left_early_leaves_no_session_behind(big, server_crm):
    with reading(big, None, seconds=60) as read:
        next(read.chunks)
    give_up = time.monotonic() + 10
    with server_crm.table.connect() as session, session.cursor() as cursor:
        cursor.execute(SESSIONS[server_crm.kind])
        while cursor.fetchone() != (0,):
            assert time.monotonic() < give_up
            session.rollback()
            cursor.execute(SESSIONS[server_crm.kind])


# ---- what cannot be read


def test_missing_file_table_and_column_are_told(tmp_path, crm):
    assert unavailable(crm.database(table="customers")) == "crm: there is no table 'customers'"
    assert unavailable(crm.database(changed_column="no")) == "crm: there is no column 'no'"
    database = crm.database(url=f"sqlite:///{tmp_path}/no.sqlite")
    assert unavailable(database) == f"crm: there is no SQLite file {tmp_path}/no.sqlite"
    assert not (tmp_path / "no.sqlite").exists()
    with pytest.raises(SourceError, match="there is no SQLite file"):
        probe(database, seconds=60)


def test_reading_that_takes_too_long_is_ended(crm):
    endless = {
        "postgres": "CREATE VIEW endless AS SELECT count(*) AS n FROM generate_series(1, 1e9)",
        "mariadb": "CREATE VIEW endless AS SELECT benchmark(1000000000, md5('x')) AS n",
        "sqlite": "CREATE VIEW endless AS WITH RECURSIVE c(n) AS "
        "(SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
    }
    crm.execute(endless[crm.kind])
    start = time.monotonic()
    line = unavailable(crm.database(table="endless", changed_column=None), seconds=0.5)
    assert line == "crm: reading endless took longer than max_source_seconds allow"
    assert time.monotonic() - start < 5


def test_error_of_who_consumes_the_rows_is_passed_on(ten):
    mine = pytest.raises(sqlite3.OperationalError, match="mine")
    with mine, reading(ten.database(), None, seconds=60) as read:
        next(read.chunks)
        raise sqlite3.OperationalError("mine")
