"""What becomes of rows that a table no longer holds."""

import csv
import sqlite3
from datetime import timedelta

import pytest

import ingestion
from attrition.databases import reader as databases
from attrition.storage import files
from ingestion import ingest_new_data, main
from tests.campaigns.catalogue import lines
from tests.conftest import write_config
from tests.support import final_rows, ledger, put, reconfigure

TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}


def execute(config, sql, *rows):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.executemany(sql, rows) if rows else connection.execute(sql)
    connection.close()


@pytest.fixture
def crm(tmp_path):
    """A project with a table of three open clients and one who left, ingested."""
    config = write_config(tmp_path, databases=[TABLE])
    execute(config, "CREATE TABLE clients (corporation, lastmonth_activity, lastyear_activity, "
            "number_of_employees, exited)")  # fmt: skip
    rows = [("acme", 1, 2, 3, None), ("bolt", 1, 2, 3, None), ("corp", 1, 2, 3, None),
            ("dune", 1, 2, 3, 1)]  # fmt: skip
    execute(config, "INSERT INTO clients VALUES (?,?,?,?,?)", *rows)
    assert ingest_new_data(config).rows == 4
    return config


def names(config):
    return [row[0] for row in final_rows(config)]


def withdrawn(config):
    with config.withdrawn.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_open_row_that_is_deleted_is_no_current_client(crm):
    execute(crm, "DELETE FROM clients WHERE corporation = 'bolt'")
    ingest_new_data(crm)
    assert names(crm) == ["acme", "corp", "dune"]
    [row] = withdrawn(crm)
    assert (row["source"], row["corporation"], row["lastyear_activity"]) == ("crm", "bolt", "2")
    assert ledger(crm)[-1]["reason"] == "DUP_ROWS: 3; WITHDRAWN: 1"


def test_open_row_with_other_values_takes_the_place_of_the_one_before(crm):
    execute(crm, "UPDATE clients SET lastmonth_activity = 9 WHERE corporation = 'bolt'")
    ingest_new_data(crm)
    assert [row[:2] for row in final_rows(crm)] == [
        ["acme", "1"], ["corp", "1"], ["dune", "1"], ["bolt", "9"]]  # fmt: skip


def test_outcome_once_told_stays_true(crm):
    execute(crm, "DELETE FROM clients WHERE corporation = 'dune'")
    ingest_new_data(crm)
    assert "dune" in names(crm)


def test_outcome_goes_where_the_config_says_remove(crm):
    config = reconfigure(crm, databases=[TABLE | {"on_delete": "remove"}])
    execute(config, "DELETE FROM clients WHERE corporation = 'dune'")
    ingest_new_data(config)
    assert "dune" not in names(config)


def test_row_that_comes_back_is_taken_again(crm):
    execute(crm, "DELETE FROM clients WHERE corporation = 'bolt'")
    ingest_new_data(crm)
    execute(crm, "INSERT INTO clients VALUES ('bolt', 1, 2, 3, NULL)")
    ingest_new_data(crm)
    assert names(crm) == ["acme", "corp", "dune", "bolt"]
    record = files.read_record(crm.ingestion_record)
    assert record is not None
    assert (record["rows"], record["totals"]["accepted"], record["withdrawn"]) == (4, 5, 1)


def test_row_that_a_file_brought_first_stays(tmp_path):
    config = write_config(tmp_path, databases=[TABLE])
    put(config, "a.csv", lines("acme,1,2,3,"))
    execute(config, "CREATE TABLE clients AS SELECT 'acme' corporation, 1 lastmonth_activity, "
            "2 lastyear_activity, 3 number_of_employees, NULL exited "
            "UNION SELECT 'bolt', 1, 2, 3, NULL")  # fmt: skip
    ingest_new_data(config)
    execute(config, "DELETE FROM clients WHERE corporation = 'acme'")
    ingest_new_data(config)
    assert names(config) == ["acme", "bolt"]


@pytest.mark.parametrize("gone", ["", "WHERE corporation != 'acme'"])
def test_table_that_lost_most_of_its_rows_is_held(crm, gone):
    execute(crm, f"DELETE FROM clients {gone}")
    result = ingest_new_data(crm)
    assert "but had 4 before" in result.unavailable[0]
    assert len(names(crm)) == 4
    assert len(ingest_new_data(crm).unavailable) == 1, "it is said until somebody acts"


def test_loss_is_accepted_on_request(crm):
    execute(crm, "DELETE FROM clients")
    assert main(["--config", str(crm.file), "--accept-loss", "--quiet"]) == 0
    assert names(crm) == ["dune"]
    assert ingest_new_data(crm).up_to_date


def test_table_that_is_not_there_withdraws_nothing(crm):
    execute(crm, "DELETE FROM clients WHERE corporation = 'bolt'")
    (crm.file.parent / "crm.sqlite").rename(crm.file.parent / "away")
    assert len(ingest_new_data(crm).unavailable) == 1
    assert len(names(crm)) == 4


def test_whole_reading_that_is_due_is_done_once_though_nothing_is_new(crm, monkeypatch):
    later = databases.utc_datetime() + timedelta(hours=25)
    monkeypatch.setattr(databases, "utc_datetime", lambda: later)
    monkeypatch.setattr(ingestion, "is_due", lambda database, since: since["whole_at"] < str(later))
    assert not ingest_new_data(crm).up_to_date
    record = files.read_record(crm.ingestion_record)
    assert record is not None
    [seen] = record["watermarks"].values()
    assert seen["whole_at"] == later.isoformat()
    monkeypatch.setattr(ingestion, "is_due", lambda database, since: False)
    assert ingest_new_data(crm).up_to_date


def test_table_that_is_held_back_is_not_read_again_before_it_changes(crm, monkeypatch):
    execute(crm, "UPDATE clients SET lastyear_activity = -1")
    ingest_new_data(crm)
    assert ledger(crm)[-1]["verdict"] == "quarantined"
    monkeypatch.setattr(databases, "reading", lambda *_, **__: pytest.fail("it was read again"))
    assert ingest_new_data(crm).up_to_date


@pytest.mark.parametrize(("hours", "due"), [(1, False), (23.9, False), (24, True), (-1, True)])
def test_whole_reading_is_due_by_the_hours_of_the_config(crm, hours, due):
    since = {"whole_at": (databases.utc_datetime() - timedelta(hours=hours)).isoformat()}
    assert ingestion.is_due(crm.databases[0], since) == due
