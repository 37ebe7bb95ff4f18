"""Rows that arrive from tables: the same verdicts as from files, whatever happens in between."""

import csv
import io
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from attrition.databases import reader as databases
from attrition.databases import sqlite
from attrition.errors import AttritionError
from ingestion import ingest_new_data
from ingestion import main as ingestion_main
from tests.campaigns import catalogue
from tests.campaigns.catalogue import HEADER, of_clients, of_numbers, of_outcomes, of_repeats
from tests.conftest import write_config
from tests.postgres import PASSWORD
from tests.support import (
    counts,
    final_rows,
    folder_bytes,
    ledger,
    put,
    reconfigure,
    rejected,
)
from tests.tables import MariadbTable, PostgresTable, SqliteTable

CLIENTS = """CREATE TABLE clients (corporation TEXT, lastmonth_activity INTEGER,
    lastyear_activity REAL, number_of_employees NUMERIC, exited INTEGER, updated_at TEXT)"""
START = datetime(2026, 3, 1, tzinfo=UTC)
FILE = f"{HEADER}\nacme,1,2,3,0\n"


def day(n):
    return str((START + timedelta(days=n)).date())


def client(name, changed=0, *, month=1, year=2.0, employees=3, exited=0):
    """A row of the table; `changed` is a number of days."""
    return (name, month, year, employees, exited, day(changed) if type(changed) is int else changed)


def insert(config, *rows):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.executemany("INSERT INTO clients VALUES (?,?,?,?,?,?)", rows)
    connection.close()


def update(config, sql):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


def settings(**changes):
    plain = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
    return plain | {"changed_column": "updated_at"} | changes


@pytest.fixture
def crm(tmp_path):
    """A project that reads one SQLite table, empty so far."""
    config = write_config(tmp_path, databases=[settings()])
    update(config, CLIENTS)
    return config


def names(config):
    return [row[0] for row in final_rows(config)]


# ---- the catalogue

SHAPE_OF_FILES = ("g50", "g51", "h09")
ROW_CASES = [
    pytest.param(form, case, id=f"{form.name}-{case.name[:24]}")
    for form in catalogue.FORMS
    for group in (of_numbers, of_outcomes, of_clients, of_repeats)
    for case in group(form)
    if not case.name.startswith(SHAPE_OF_FILES)
]


def rows_of(case):
    """The rows that a case of the catalogue has as a file."""
    return list(csv.reader(io.StringIO(case.content.decode(), newline="")))[1:]


class Source:
    """A database in which each case is a table of its own, and a project that reads all of them."""

    def __init__(self, table, folder):
        self.table, self.folder, self.databases = table, folder, []

    def ingest(self, rows, types=None, form=catalogue.PLAIN):
        name = f"t{len(self.databases)}"
        kinds = types or ["TEXT"] * len(form.columns)
        columns = ", ".join(f'"{n}" {kind}' for n, kind in zip(form.columns, kinds, strict=True))
        self.table.execute(f"CREATE TABLE {name} ({columns})")
        marks = ", ".join([self.table.mark] * len(form.columns))
        self.table.execute(f"INSERT INTO {name} VALUES ({marks})", rows)
        self.databases.append({"name": name, "url": self.table.config_url, "table": name})
        self.config = write_config(self.folder, databases=self.databases, **form.settings)
        assert ingest_new_data(self.config).unavailable == ()
        return ledger(self.config)[-1]


@pytest.fixture(params=[SqliteTable, PostgresTable, MariadbTable], ids=lambda kind: kind.kind)
def source(request, tmp_path):
    kind = request.param
    place = tmp_path if kind is SqliteTable else request.getfixturevalue(f"{kind.kind}_server")
    return Source(kind(place), tmp_path)


def check_verdict(source, case, line, before):
    """The verdict and the counts are those of the file, and each refused row has the code."""
    refused = [row for row in rejected(source.config) if row["source"] == line["source"]]
    is_held = case.outcome == catalogue.ROWS_OUT and case.counts[0] == 0
    assert line["verdict"] == ("quarantined" if is_held else "accepted")
    assert counts(line) == case.counts
    assert int(line["records"]) == sum(case.counts)
    assert len(final_rows(source.config)) == before + case.counts[0]
    if case.outcome == catalogue.ROWS_OUT:
        assert len(refused) == case.counts[1]
        assert all(row["reason"].startswith(f"{case.code}: ") for row in refused)


@pytest.mark.parametrize(("form", "case"), ROW_CASES)
def test_row_of_a_table_of_text_gets_the_verdict_of_the_file(source, form, case):
    for earlier in case.after:
        source.ingest(rows_of(earlier), form=form)
    before = len(final_rows(source.config)) if case.after else 0
    line = source.ingest(rows_of(case), form=form)
    check_verdict(source, case, line, before)
    assert case.code in line["reason"] or case.outcome == catalogue.ROWS_OUT
    assert case.code or line["reason"] == form.always


ECHO = {"e": 1, "f": 4, "g": 0}
TYPED = [
    ("e01_nan", "NUMERIC", "NaN"),
    ("e02_inf", "NUMERIC", "Infinity"),
    ("e02_inf", "DOUBLE PRECISION", float("inf")),
    ("e03_neginf", "DOUBLE PRECISION", float("-inf")),
    ("e05_null", "INTEGER", None),
    ("e09_empty", "DOUBLE PRECISION", None),
    ("e11_negative", "INTEGER", -3),
    ("e12_1e308", "DOUBLE PRECISION", 1e308),
    ("e14_2p63", "NUMERIC", 2.0**63),
    ("e14_2p63", "BIGINT", 2**63 - 1),
    ("e15_1e30int", "NUMERIC", "1" + "0" * 30),
    ("e17_fraction", "DOUBLE PRECISION", 12.5),
    ("e17_fraction", "NUMERIC", 12.5),
    ("e18_tiny", "DOUBLE PRECISION", 5e-324),
    ("e41_month_gt_year", "INTEGER", 5000),
    ("e50_float_int", "DOUBLE PRECISION", 12.0),
    ("e55_neg_zero", "DOUBLE PRECISION", -0.0),
    ("f01_two", "INTEGER", 2),
    ("f02_minus", "SMALLINT", -1),
    ("f04_half", "DOUBLE PRECISION", 0.5),
    ("f06_missing", "BOOLEAN", None),
    ("f12_true", "BOOLEAN", True),
    ("f13_false", "BOOLEAN", False),
    ("f15_float", "DOUBLE PRECISION", 1.0),
    ("g40_empty", "VARCHAR(50)", None),
    ("g46_long", "VARCHAR(20000)", "x" * 10_000),
]


@pytest.mark.parametrize(("name", "kind", "value"), TYPED, ids=lambda value: str(value)[:20])
def test_row_of_a_typed_table_gets_the_verdict_of_the_file(source, name, kind, value):
    cases = catalogue.first_tick(catalogue.PLAIN)
    [case] = [case for case in cases if case.name == f"{name}.csv"]
    at = ECHO[name[0]]
    *good, odd = [list(row) for row in rows_of(case)]
    odd[at] = value
    if kind == "BOOLEAN" and isinstance(source.table, PostgresTable):
        for row in good:
            row[at] = row[at] == "1"
    if isinstance(source.table, MariadbTable):
        if kind == "NUMERIC":
            kind = "DECIMAL(60, 1)"
        if str(value).strip("-").lower() in ("nan", "inf", "infinity"):
            pytest.skip("MariaDB has no such number")
    types = ["TEXT" if place in (0, at) else "INTEGER" for place in range(5)]
    types[at] = kind
    line = source.ingest([*good, odd], types)
    check_verdict(source, case, line, 0)


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (client("x", month=b"\x01"), "BAD_NUMBER"),
        (client("x", month="twelve"), "BAD_NUMBER"),
        (client("x", month=2**63 - 1), "OUT_OF_RANGE"),
        (client("x", year=float("inf")), "NOT_FINITE"),
        (client(None), "MISSING_VALUE"),
        (client(b"x"), "CONTROL_CHAR"),
        (client("x", exited="maybe"), "BAD_LABEL"),
    ],
)
def test_value_that_sqlite_lets_into_any_column_is_refused(crm, odd, code):
    insert(crm, client("acme"), odd)
    ingest_new_data(crm)
    [refused] = rejected(crm)
    assert refused["reason"].startswith(f"{code}: ")
    assert names(crm) == ["acme"]


def test_number_of_5000_digits_in_postgres_is_refused(postgres_server, tmp_path):
    """SQLite would have made infinity of it."""
    source = Source(PostgresTable(postgres_server), tmp_path)
    rows = [("acme", 1, 2, 3, 0), ("bolt", "9" * 5000, 2, 3, 0)]
    source.ingest(rows, ["TEXT", "NUMERIC", "INTEGER", "INTEGER", "INTEGER"])
    assert [row["reason"][:13] for row in rejected(source.config)] == ["OUT_OF_RANGE:"]


def test_bytes_in_postgres_are_refused(postgres_server, tmp_path):
    table = PostgresTable(postgres_server)
    table.execute("CREATE TABLE t AS SELECT 'acme'::bytea AS corporation, 1 AS lastmonth_activity, "
                  "2 AS lastyear_activity, 3 AS number_of_employees, 0 AS exited")  # fmt: skip
    config = write_config(
        tmp_path, databases=[{"name": "crm", "url": table.config_url, "table": "t"}]
    )
    ingest_new_data(config)
    assert rejected(config)[0]["reason"].startswith("CONTROL_CHAR: ")


# ---- what a run takes of a table


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
    config = reconfigure(crm, databases=[settings(changed_column=changed_column)])
    insert(config, client("acme"))
    ingest_new_data(config)
    before = folder_bytes(config)
    assert ingest_new_data(config).up_to_date
    assert folder_bytes(config) == before


def test_only_what_changed_is_read_again(crm):
    insert(crm, *(client(f"old{i}", i) for i in range(20)))
    ingest_new_data(crm)
    insert(crm, client("new", 20))
    ingest_new_data(crm)
    line = ledger(crm)[1]
    assert (line["records"], counts(line)) == ("3", (1, 0, 2))
    assert names(crm)[-1] == "new"


def test_outcome_that_arrives_in_the_table_replaces_the_open_row(crm):
    insert(crm, client("acme", exited=None), client("bolt", exited=None))
    ingest_new_data(crm)
    update(
        crm, f"UPDATE clients SET exited = 1, updated_at = '{day(5)}' WHERE corporation = 'acme'"
    )
    ingest_new_data(crm)
    assert sorted((row[0], row[4]) for row in final_rows(crm)) == [("acme", "1"), ("bolt", "")]


def test_another_table_under_the_same_name_is_read_from_its_first_row(crm):
    insert(crm, *(client(f"old{i}", i) for i in range(10)))
    ingest_new_data(crm)
    update(crm, "CREATE TABLE prospects AS SELECT 'x' || corporation AS corporation, "
           "lastmonth_activity, lastyear_activity, number_of_employees, exited, updated_at "
           "FROM clients")  # fmt: skip
    config = reconfigure(crm, databases=[settings(table="prospects")])
    ingest_new_data(config)
    assert {f"xold{i}" for i in range(10)} <= set(names(config))


@pytest.mark.parametrize("month", ["12", 12.0, " 12 "])
def test_number_stored_as_text_is_a_number(crm, month):
    insert(crm, client("acme", month=month))
    ingest_new_data(crm)
    assert final_rows(crm)[0][1] == "12"


def test_files_and_tables_share_their_rows(crm):
    put(crm, "a.csv", FILE)
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


def test_database_beside_the_files_is_not_taken_for_one(tmp_path):
    config = write_config(tmp_path, databases=[settings(url="sqlite:///sourcedata/crm.csv")])
    SqliteTable(config.input_folder).execute(CLIENTS)
    (config.input_folder / "crm.sqlite").rename(config.input_folder / "crm.csv")
    ingest_new_data(config)
    assert [line["source"] for line in ledger(config)] == ["crm"]


# ---- tables that cannot be read


def held_line(config):
    """Ingest a good file beside a bad database; return the line that tells of the database."""
    put(config, "a.csv", FILE)
    result = ingest_new_data(config)
    assert result.rows == 1, "the other sources go on"
    [line] = result.unavailable
    assert line.startswith("crm: ")
    assert "\n" not in line
    return line


def test_missing_column_is_held_until_it_is_back(crm):
    update(crm, "ALTER TABLE clients RENAME COLUMN exited TO gone")
    insert(crm, client("bolt"))
    assert held_line(crm).startswith("crm: clients: no column exited; the columns are ")
    assert len(ingest_new_data(crm).unavailable) == 1
    update(crm, "ALTER TABLE clients RENAME COLUMN gone TO exited")
    assert ingest_new_data(crm).rows == 2


def test_column_that_goes_between_two_runs_is_held(source):
    source.ingest([("acme", 1, 2, 3, 0)])
    source.table.execute("ALTER TABLE t0 DROP COLUMN exited")
    [unavailable] = ingest_new_data(source.config).unavailable
    assert unavailable.startswith("t0: t0: no column exited; the columns are 'corporation', ")
    assert final_rows(source.config) == [["acme", "1", "2", "3", "0"]]


def test_locked_database_is_held_and_read_when_it_is_free(crm, monkeypatch):
    insert(crm, client("bolt"))
    connection = sqlite3.connect(crm.file.parent / "crm.sqlite")
    connection.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
    assert held_line(crm) == "crm: database is locked"
    connection.rollback()
    connection.close()
    assert ingest_new_data(crm).rows == 2


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_server_that_is_not_up_holds_its_table_alone(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("CRM_PASSWORD", "hunter2")
    url = kind + "://joe:${CRM_PASSWORD}@127.0.0.1:1/db"
    line = held_line(write_config(tmp_path, databases=[settings(url=url)]))
    assert "Connection refused" in line
    assert "hunter2" not in line


def test_reading_cut_off_in_the_middle_leaves_everything_as_it_was(source, monkeypatch):
    """The mark and the watermark stay where they were: the next run takes all of it."""
    source.ingest([(f"c{i}", i, 2, 3, 0) for i in range(50)])
    before = folder_bytes(source.config)
    source.table.execute("INSERT INTO t0 SELECT 'new', '1', '2', '3', '0'")
    real = databases._numbered

    def cut(database, batches):
        for chunk in real(database, batches):
            yield chunk
            raise databases.SourceError(f"{database.name}: cut off")

    monkeypatch.setattr(databases, "_numbered", cut)
    assert ingest_new_data(source.config).unavailable == ("t0: cut off",)
    assert folder_bytes(source.config) == before
    monkeypatch.undo()
    ingest_new_data(source.config)
    assert len(final_rows(source.config)) == 51


def test_password_stands_in_no_output_of_a_run(postgres_server, tmp_path, monkeypatch, capfd):
    table = PostgresTable(postgres_server)
    table.execute("CREATE TABLE t AS SELECT 'acme' AS corporation, 1 AS lastmonth_activity, "
                  "2 AS lastyear_activity, 3 AS number_of_employees, 0 AS exited")  # fmt: skip
    url = table.url.replace(PASSWORD, "${CRM_PASSWORD}")
    databases = [{"name": "crm", "url": url, "table": "t"}]
    config = write_config(tmp_path, databases=databases)
    told = ""
    for password in (PASSWORD, f"{PASSWORD}wrong"):
        monkeypatch.setenv("CRM_PASSWORD", password)
        code = ingestion_main(["--config", str(config.file), "--reconcile"])
        assert code == (password != PASSWORD)
        told += "".join(capfd.readouterr())
    assert "password authentication failed" in told
    assert PASSWORD not in told
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [data for data in written if PASSWORD.encode() in data]


def test_columns_are_not_changed_while_a_table_cannot_be_read_again(crm):
    insert(crm, client("acme"))
    ingest_new_data(crm)
    (crm.file.parent / "crm.sqlite").rename(crm.file.parent / "away.sqlite")
    tables = json.loads(crm.file.read_text())["databases"]
    config = reconfigure(crm, databases=tables, columns={"numeric": ["lastmonth_activity"]})
    with pytest.raises(AttritionError, match="but some are gone: crm"):
        ingest_new_data(config)
    (crm.file.parent / "away.sqlite").rename(crm.file.parent / "crm.sqlite")
    ingest_new_data(config)
    assert final_rows(config) == [["acme", "1", "0"]]


# ---- the real thing, in short


@pytest.mark.parametrize("mode", ["restarts", "locks"])
def test_nothing_is_missed_beside_a_writer(mode, capsys):
    from benchmarks.databases import main

    assert main([mode, "--restarts", "5", "--minutes", "0.1"]) == 0
    assert "after a whole reading: 0 missed, 0 too many" in capsys.readouterr().out
