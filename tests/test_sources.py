import gzip
import io
import json
import os
import socket
import sqlite3
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition import sources
from attrition.config import Columns, Database
from attrition.errors import AttritionError, SourceError
from attrition.sources import File, Refused, cell_text, fetch_table, read_csv, read_table
from ingestion import ingest_new_data
from tests.conftest import write_config
from tests.test_ingestion import (
    counts,
    final_rows,
    folder_bytes,
    ledger,
    put,
    reconfigure,
    rejected,
)

CLIENTS = """CREATE TABLE clients (corporation TEXT, lastmonth_activity INTEGER,
    lastyear_activity REAL, number_of_employees NUMERIC, exited BOOLEAN, updated_at TEXT)"""
START = datetime(2026, 3, 1, tzinfo=UTC)


def day(n):
    return str((START + timedelta(days=n)).date())


def client(name, changed=0, *, month=1, year=2.0, employees=3, exited=0):
    """A row of the table; `changed` is a number of days."""
    when = day(changed) if isinstance(changed, int) else changed
    return (name, month, year, employees, exited, when)


def execute(path, sql, *rows):
    connection = sqlite3.connect(path)
    with connection:
        if rows:
            connection.executemany(sql, rows)
        else:
            connection.execute(sql)
    connection.close()


def insert(config, *rows):
    execute(config.file.parent / "crm.sqlite", "INSERT INTO clients VALUES (?,?,?,?,?,?)", *rows)


def update(config, sql):
    execute(config.file.parent / "crm.sqlite", sql)


def database_settings(**changes):
    plain = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
    return plain | {"changed_column": "updated_at"} | changes


@pytest.fixture
def crm(tmp_path, monkeypatch):
    """A project that reads one SQLite table, empty so far, on a day after its rows."""
    set_day(monkeypatch, 100)
    config = write_config(tmp_path, databases=[database_settings()])
    execute(tmp_path / "crm.sqlite", CLIENTS)
    return config


def set_day(monkeypatch, n):
    monkeypatch.setattr(sources, "today", lambda: date.fromisoformat(day(n)))


def names(config):
    return [row[0] for row in final_rows(config)]


# ---- SQLite tables


def test_first_read_takes_the_whole_table(crm):
    insert(crm, client("acme"), client("bolt", exited=1, year=2.5), client("corp", exited=None))
    ingest_new_data(crm)
    assert final_rows(crm) == [
        ["acme", "1", "2", "3", "0"],
        ["bolt", "1", "2.5", "3", "1"],
        ["corp", "1", "2", "3", ""],
    ]
    [line] = ledger(crm)
    assert (line["source"], line["verdict"], counts(line)) == ("crm", "accepted", (3, 0, 0))
    assert line["reason"] == ""


@pytest.mark.parametrize("changed_column", ["updated_at", None])
def test_unchanged_table_is_not_news(crm, changed_column):
    config = reconfigure(crm, databases=[database_settings(changed_column=changed_column)])
    insert(config, client("acme"))
    ingest_new_data(config)
    before = folder_bytes(config)
    assert ingest_new_data(config).fresh
    assert folder_bytes(config) == before


def test_file_rewritten_with_the_same_rows_adds_no_line(crm):
    insert(crm, client("acme"))
    ingest_new_data(crm)
    insert(crm, client("bolt"))
    update(crm, "DELETE FROM clients WHERE corporation = 'bolt'")
    ingest_new_data(crm)
    assert len(ledger(crm)) == 1


def test_only_what_changed_is_read_again(crm):
    insert(crm, *(client(f"old{i}", i) for i in range(20)))
    ingest_new_data(crm)
    insert(crm, client("new", 20))
    ingest_new_data(crm)
    line = ledger(crm)[1]
    assert (line["records"], counts(line)) == ("3", (1, 0, 2))
    assert names(crm)[-1] == "new"


def test_row_that_shares_its_number_with_the_last_one_read_is_not_missed(crm):
    insert(crm, *(client(f"old{i}", str(i)) for i in range(1, 9)))
    update(crm, "ALTER TABLE clients ADD COLUMN version INTEGER")
    update(crm, "UPDATE clients SET version = updated_at")
    config = reconfigure(crm, databases=[database_settings(changed_column="version")])
    ingest_new_data(config)
    update(config, "INSERT INTO clients VALUES ('tie', 1, 2, 3, 0, '', 8)")
    ingest_new_data(config)
    line = ledger(config)[1]
    assert (line["records"], names(config)[-1]) == ("2", "tie")


def test_outcome_that_arrives_in_the_table_replaces_the_open_row(crm):
    insert(crm, client("acme", exited=None), client("bolt", exited=None))
    ingest_new_data(crm)
    update(
        crm, f"UPDATE clients SET exited = 1, updated_at = '{day(5)}' WHERE corporation = 'acme'"
    )
    ingest_new_data(crm)
    assert [(row[0], row[4]) for row in final_rows(crm)] == [("bolt", ""), ("acme", "1")]


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (day(9), "committed an hour late"),
        (day(2), "committed a week late"),
        (None, "without a time"),
        ("2999-01-01", "from the future"),
    ],
)
def test_row_is_taken_whatever_its_time(crm, when, why):
    insert(crm, *(client(f"old{i}", i) for i in range(10)))
    ingest_new_data(crm)
    insert(crm, client("late", when))
    ingest_new_data(crm)
    assert "late" in names(crm), why


def test_row_from_the_future_does_not_hide_what_follows(crm):
    insert(crm, client("acme"), client("future", "2999-01-01"))
    ingest_new_data(crm)
    today = day(100)
    insert(crm, client("next", today))
    ingest_new_data(crm)
    update(crm, f"UPDATE clients SET exited = 1, updated_at = '{today}' WHERE corporation = 'acme'")
    ingest_new_data(crm)
    assert [(row[0], row[4]) for row in final_rows(crm)][-2:] == [("next", "0"), ("acme", "1")]


@pytest.mark.parametrize("days", [range(3), range(20), range(40, 60)])
def test_table_filled_anew_is_read_whole(crm, days):
    insert(crm, *(client(f"old{i}", i) for i in range(5, 15)))
    ingest_new_data(crm)
    update(crm, "DELETE FROM clients")
    insert(crm, *(client(f"new{i}", i) for i in days))
    ingest_new_data(crm)
    assert len(names(crm)) == 10 + len(days)


def test_what_slipped_through_is_found_at_the_first_news_of_another_day(crm, monkeypatch):
    insert(crm, *(client(f"old{i}", i) for i in range(10)))
    ingest_new_data(crm)
    update(crm, f"UPDATE clients SET updated_at = '{day(20)}' WHERE corporation = 'old1'")
    insert(crm, client("backdated", 2))
    ingest_new_data(crm)
    assert "backdated" not in names(crm)
    set_day(monkeypatch, 101)
    insert(crm, client("new", 101))
    ingest_new_data(crm)
    assert {"backdated", "new"} <= set(names(crm))


def test_deleted_rows_are_told(crm, caplog):
    insert(crm, *(client(f"old{i}", i) for i in range(10)))
    ingest_new_data(crm)
    update(crm, "DELETE FROM clients WHERE corporation IN ('old1', 'old2')")
    with caplog.at_level("WARNING"):
        ingest_new_data(crm)
    assert "crm: 2 rows fewer than before" in caplog.text


def test_another_table_under_the_same_name_is_read_from_its_first_row(crm):
    insert(crm, *(client(f"old{i}", i) for i in range(10)))
    ingest_new_data(crm)
    update(crm, "CREATE TABLE prospects AS SELECT 'x' || corporation AS corporation, "
           "lastmonth_activity, lastyear_activity, number_of_employees, exited, updated_at "
           "FROM clients")  # fmt: skip
    config = reconfigure(crm, databases=[database_settings(table="prospects")])
    assert ingest_new_data(config).rows == 20


def test_view_can_be_read(crm):
    insert(crm, client("acme"), client("bolt", exited=1))
    update(crm, "CREATE VIEW stayed AS SELECT * FROM clients WHERE exited = 0")
    config = reconfigure(crm, databases=[database_settings(table="stayed")])
    ingest_new_data(config)
    assert names(config) == ["acme"]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (client("x", month=b"\x01"), "BAD_NUMBER"),
        (client("x", month="twelve"), "BAD_NUMBER"),
        (client("x", month=2**63 - 1), "OUT_OF_RANGE"),
        (client("x", year=2.0**63), "OUT_OF_RANGE"),
        (client("x", year=float("inf")), "NOT_FINITE"),
        (client(None), "MISSING_VALUE"),
        (client(""), "MISSING_VALUE"),
        (client(b"x"), "CONTROL_CHAR"),
        (client("x", exited="maybe"), "BAD_LABEL"),
        (client("x", exited=7), "BAD_LABEL"),
    ],
)
def test_value_that_sqlite_lets_into_any_column_is_refused(crm, row, code):
    insert(crm, client("acme"), row)
    ingest_new_data(crm)
    [refused] = rejected(crm)
    assert refused["reason"].startswith(f"{code}: ")
    assert names(crm) == ["acme"]


@pytest.mark.parametrize("month", ["12", 12.0, " 12 "])
def test_number_stored_as_text_is_a_number(crm, month):
    insert(crm, client("acme", month=month))
    ingest_new_data(crm)
    assert final_rows(crm)[0][1] == "12"


def test_declared_types_convert_nothing(crm):
    for name, kind in (("d", "DATE"), ("t", "DATETIME"), ("n", "NUMERIC(9, 2)"), ("b", "BLOB")):
        update(crm, f"ALTER TABLE clients ADD COLUMN {name} {kind} DEFAULT 'not one'")
    insert_all = "INSERT INTO clients SELECT 'acme', 1, 2, 3, 0, '2026', 'x', 'x', 'x', 'x'"
    update(crm, insert_all)
    assert ingest_new_data(crm).rows == 1


def test_files_and_tables_share_their_rows(crm):
    put(crm, "a.csv", "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited\n"
        "acme,1,2,3,0\n")  # fmt: skip
    insert(crm, client("acme"), client("bolt"))
    ingest_new_data(crm)
    assert [counts(line) for line in ledger(crm)] == [(1, 0, 0), (1, 0, 1)]


def test_table_whose_rows_are_mostly_bad_is_held_and_read_whole_again(crm):
    insert(crm, client("a", month=-1), client("b", month=-1), client("c"))
    ingest_new_data(crm)
    assert ledger(crm)[0]["verdict"] == "quarantined"
    update(crm, "UPDATE clients SET lastmonth_activity = 1")
    ingest_new_data(crm)
    assert names(crm) == ["a", "b", "c"]


def test_source_database_is_not_written_to(crm):
    insert(crm, client("acme"))
    path = crm.file.parent / "crm.sqlite"
    before = path.read_bytes()
    ingest_new_data(crm)
    assert path.read_bytes() == before
    with pytest.raises(SourceError, match="readonly"):  # noqa: SIM117
        with sources._connected(crm.databases[0]) as connection:
            connection.exec_driver_sql("DELETE FROM clients")


def test_database_beside_the_files_is_not_taken_for_one(tmp_path):
    settings = database_settings(url="sqlite:///sourcedata/crm.csv")
    config = write_config(tmp_path, databases=[settings])
    execute(config.input_folder / "crm.csv", CLIENTS)
    ingest_new_data(config)
    assert [line["source"] for line in ledger(config)] == ["crm"]


def test_write_ahead_log_of_a_source_is_read_and_is_no_news_by_itself(crm):
    path = crm.file.parent / "crm.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO clients VALUES ('acme', 1, 2, 3, 0, '2026-03-01')")
    connection.commit()
    assert ingest_new_data(crm).rows == 1
    assert ingest_new_data(crm).fresh
    connection.close()
    ingest_new_data(crm)
    assert ingest_new_data(crm).fresh


def test_path_of_a_database_may_hold_any_character(tmp_path):
    settings = database_settings(url="sqlite:///my %41 #1 &crm.sqlite")
    config = write_config(tmp_path, databases=[settings])
    execute(tmp_path / "my %41 #1 &crm.sqlite", CLIENTS)
    assert ingest_new_data(config).held == ()


# ---- databases that cannot be read


def held_line(config):
    """Ingest a good file beside a bad database; return the line that tells of the database."""
    put(config, "a.csv", "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited\n"
        "acme,1,2,3,0\n")  # fmt: skip
    result = ingest_new_data(config)
    assert result.rows == 1, "the other sources go on"
    [line] = result.held
    assert line.startswith("crm: ")
    assert "\n" not in line
    assert f"cannot be read now: {line}" in result.summary().splitlines()
    return line


def test_missing_sqlite_file_is_held(tmp_path):
    config = write_config(tmp_path, databases=[database_settings(url="sqlite:///no.sqlite")])
    assert held_line(config) == f"crm: there is no SQLite file {tmp_path / 'no.sqlite'}"
    assert not (tmp_path / "no.sqlite").exists()


def test_missing_table_is_held(crm):
    config = reconfigure(crm, databases=[database_settings(table="customers")])
    assert held_line(config) == "crm: there is no table 'customers'"


def test_missing_column_is_held_until_it_is_back(crm):
    update(crm, "ALTER TABLE clients RENAME COLUMN exited TO gone")
    insert(crm, client("bolt"))
    assert held_line(crm) == "crm: no column exited in clients"
    assert len(ingest_new_data(crm).held) == 1
    update(crm, "ALTER TABLE clients RENAME COLUMN gone TO exited")
    assert ingest_new_data(crm).rows == 2


def test_missing_changed_column_is_held(crm):
    config = reconfigure(crm, databases=[database_settings(changed_column="modified")])
    assert held_line(config) == "crm: there is no column 'modified'"


def test_file_that_is_no_database_is_held(crm):
    (crm.file.parent / "crm.sqlite").write_bytes(b"not a database " * 99)
    assert held_line(crm) == "crm: file is not a database"


def test_locked_database_is_held_and_read_when_it_is_free(crm, monkeypatch):
    insert(crm, client("bolt"))
    connection = sqlite3.connect(crm.file.parent / "crm.sqlite")
    connection.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sources, "BUSY_SECONDS", 0)
    assert held_line(crm) == "crm: database is locked"
    connection.rollback()
    connection.close()
    assert ingest_new_data(crm).rows == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://joe:${CRM_PASSWORD}@h/db", "environment variable CRM_PASSWORD is not set"),
        ("${CRM_URL}", "environment variable CRM_URL is not set"),
        ("postgresql://joe:hunter2@127.0.0.1:1/db", "Connection refused"),
        ("postgresql://joe:hun@ter2@127.0.0.1:1/db", "its url is not dialect://"),
        ("postgresql://joe:hunter2@127.0.0.1:one/db", "its url is not dialect://"),
        ("hunter2", "its url is not dialect://"),
        ("nosuch://joe:hunter2@h/db", "Can't load plugin"),
        ("oracle://joe:hunter2@h/db", "No module named"),
    ],
)
def test_unusable_url_is_held_without_its_password(tmp_path, url, told):
    line = held_line(write_config(tmp_path, databases=[database_settings(url=url)]))
    assert told in line
    assert "hun" not in line


def test_password_from_the_environment_is_never_shown(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CRM_PASSWORD", "127.0.0.1")  # as the server's own message will contain it
    url = "postgresql://joe:${CRM_PASSWORD}@127.0.0.1:1/db"
    with caplog.at_level("DEBUG"):
        line = held_line(write_config(tmp_path, databases=[database_settings(url=url)]))
    assert '"***", port 1' in line
    assert "127.0.0.1" not in caplog.text


def test_password_from_the_environment_may_hold_any_character(tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "p@ss/w:rd%40#?é")
    database = Database("crm", "postgresql://joe:${CRM_PASSWORD}@127.0.0.1:1/db", "clients")
    url, secrets = sources._resolve(database)
    assert url.password == "p@ss/w:rd%40#?é"
    assert secrets == ["p@ss/w:rd%40#?é"]


@pytest.mark.slow
def test_server_that_never_answers_is_held_in_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://joe:hunter2@127.0.0.1:{server.getsockname()[1]}/db"
        config = write_config(tmp_path, databases=[database_settings(url=url)])
        start = time.monotonic()
        assert "timeout" in held_line(config)
        assert time.monotonic() - start < 15


def test_columns_are_not_changed_while_a_table_cannot_be_read_again(crm):
    insert(crm, client("acme"))
    ingest_new_data(crm)
    (crm.file.parent / "crm.sqlite").rename(crm.file.parent / "away.sqlite")
    settings = json.loads(crm.file.read_text())["databases"]
    config = reconfigure(crm, databases=settings, columns={"numeric": ["lastmonth_activity"]})
    with pytest.raises(AttritionError, match="there to be read again: crm"):
        ingest_new_data(config)
    (crm.file.parent / "away.sqlite").rename(crm.file.parent / "crm.sqlite")
    ingest_new_data(config)
    assert final_rows(config) == [["acme", "1", "0"]]


def test_fetched_rows_hash_by_content_whatever_their_order(tmp_path):
    found = []
    for rows in (("a", "b"), ("b", "a")):
        path = tmp_path / f"{rows[0]}.sqlite"
        execute(path, "CREATE TABLE t (x)")
        execute(path, "INSERT INTO t VALUES (?)", *[(row,) for row in rows])
        found.append(fetch_table(Database("t", f"sqlite:///{path}", "t"), None).sha256)
    assert found[0] == found[1]


# ---- values and files


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        (Decimal("12.50"), "12.50"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "2026-03-01 12:30:00+00:00"),
        ("x", "x"),
    ],
)
def test_typed_value_is_the_text_that_a_csv_would_hold(value, text):
    assert cell_text(value) == text


def parquet_bytes(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_parquet_types_become_text():
    times = pa.array([datetime(2026, 3, 1, tzinfo=UTC), None], pa.timestamp("ns", tz="UTC"))
    data = parquet_bytes(n=[1, None], t=times, s=pa.array(["a", "b"]).dictionary_encode())
    table = read_table(File("a.parquet", "", data, 0))
    assert table.header == ("n", "t", "s")
    assert table.rows == [["1", "2026-03-01 00:00:00+00:00", "a"], ["", "", "b"]]


def test_parquet_date_that_python_cannot_hold_is_refused():
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    with pytest.raises(Refused) as error:
        read_table(File("a.parquet", "", parquet_bytes(d=days), 0))
    assert error.value.code == "BAD_PARQUET"


@pytest.mark.parametrize("kept", [0, 3, 0.5])
def test_cut_parquet_and_gzip_look_unfinished(kept):
    for name, data in (
        ("a.parquet", parquet_bytes(n=list(range(99)))),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)),
    ):
        cut = data[: int(kept * len(data)) if kept < 1 else kept]
        with pytest.raises(Refused) as error:
            read_table(File(name, "", cut, 0))
        assert error.value.unfinished


def test_harmed_gzip_is_refused():
    data = bytearray(gzip.compress(b"a,b\n1,2\n" * 99, mtime=0))
    data[12] ^= 0xFF
    with pytest.raises(Refused) as error:
        read_table(File("a.csv.gz", "", bytes(data), 0))
    assert error.value.code == "BAD_GZIP"


def test_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    with pytest.raises(Refused) as error:
        read_table(File("a.csv.gz", "", gzip.compress(b"0" * 10_000), 0))
    assert error.value.code == "TOO_LARGE"


def test_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    (tmp_path / "a.csv").write_bytes(b"0" * 1001)
    with pytest.raises(Refused) as error:
        sources.read_file(tmp_path / "a.csv")
    assert error.value.code == "TOO_LARGE"


def test_disk_that_fails_while_a_file_is_read_is_that_files_fault_alone(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a\n")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "dup", fail)
    with pytest.raises(Refused) as error:
        sources.read_file(tmp_path / "a.csv")
    assert error.value.code == "UNREADABLE"


def test_hash_of_what_is_no_file_is_a_dash(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    assert [sources.hash_file(tmp_path / name) for name in ("link", "nowhere")] == ["-", "-"]


def test_header_may_be_quoted_over_two_lines():
    table = read_csv(b'id,"days\nsince",x\na,1,2\n')
    assert (table.header, table.rows, table.lines) == (
        ("id", "days\nsince", "x"), [["a", "1", "2"]], [3])  # fmt: skip


def test_table_of_one_column():
    table = read_csv(b"client\nacme\n\nbolt\n")
    assert (table.header, table.rows, table.lines) == (("client",), [["acme"], ["bolt"]], [2, 4])


def test_names_are_listed_in_the_order_of_their_bytes(tmp_path):
    for name in ("b", "é", "B", "a"):
        (tmp_path / name).touch()
    assert sources.list_names(tmp_path) == ["B", "a", "b", "é"]


def test_final_rows_that_are_not_there_are_asked_of_ingestion(tmp_path):
    with pytest.raises(AttritionError, match=r"run ingestion\.py first"):
        sources.read_rows(tmp_path / "finaldata.csv", Columns())
