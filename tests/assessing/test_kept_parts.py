"""Kept parts of an assessment: used again, the outputs are the same to the byte as if all were anew."""

import shutil
import sqlite3
from dataclasses import replace
from unittest.mock import Mock

import pytest

import assessment
import ingestion
from attrition.assessing import kept_parts, parts
from attrition.contacts import log
from attrition.rows import ledger
from attrition.storage import files, tables
from tests.conftest import make_rows
from tests.segments import find_segments
from tests.support import arrive, enter, read_table, reconfigure

OUTPUTS = ("clients.parquet", "riskscores.csv", "contactlist.csv", "riskhistory.npy")
TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
FEATURES = ("lastmonth_activity", "lastyear_activity", "number_of_employees")
COLUMNS = {"numeric": [*FEATURES], "categorical": [], "outcome": "exited"}
DATED = {"time": "seen", "value": "lastyear_activity", "manager": "who"}
ALL = "all parts"


def add_details(rows, config, seen="2026-01-05"):
    rows = rows.assign(seen=seen, who=["Ann", "Bob"] * (len(rows) // 2) + ["Ann"] * (len(rows) % 2))
    return rows[[*config.columns.table]] if config.columns.client else rows[[*FEATURES, "exited"]]


def execute(config, sql):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


@pytest.fixture
def begin(project, monkeypatch):
    """Return a function that ingests rows of a file and of a table, in several parts and segments."""
    monkeypatch.setattr(tables, "ROW_GROUP", 128)
    monkeypatch.setattr(files, "utc_now", lambda: "2026-06-01T08:00:00Z")
    split = ledger.split_rows
    monkeypatch.setattr(ledger, "split_rows", lambda config, rows_per_part: split(config, 200))

    def begin(**columns):
        config = reconfigure(
            project,
            columns=COLUMNS | columns,
            databases=[TABLE],
            contact_capacity=20,
            max_days_ahead=3000,
        )
        shutil.rmtree(config.output_folder)
        shutil.rmtree(config.reports_folder)
        shutil.rmtree(config.input_folder)
        config.input_folder.mkdir()
        table = add_details(make_rows(40, seed=8, prefix="crm").assign(exited=None), config)
        with sqlite3.connect(config.file.parent / "crm.sqlite") as connection:
            table.to_sql("clients", connection, index=False)
        connection.close()
        rows = make_rows(700, seed=5)
        rows = rows.assign(exited=rows["exited"].astype(object).where(rows.index % 3 == 0, ""))
        add_details(rows, config).to_csv(config.input_folder / "first.csv", index=False)
        ingestion.ingest_new_data(config, adopt=True)
        return config

    return begin


@pytest.fixture
def assess(monkeypatch, tmp_path):
    """Return a function that assesses twice, with kept parts and without, and compares all outputs.

    The function returns how many clients were assessed again, or `ALL`.
    """
    calls, assess_part = [], parts.assess_part

    def count(*arguments):
        calls.append(ALL if len(arguments) < 6 else len(arguments[5]))
        return assess_part(*arguments)

    monkeypatch.setattr(parts, "assess_part", count)

    def results(config):
        calls.clear()
        assert not assessment.assess_clients(config).up_to_date
        record = files.read_record(config.assessment_record)
        assert not list(config.reports_folder.glob(".*"))
        paths = [config.reports_folder / name for name in OUTPUTS]
        return [path.read_bytes() for path in paths], record

    def assess(config):
        folder, before, after = config.reports_folder, tmp_path / "before", tmp_path / "after"
        if folder.exists():
            shutil.copytree(folder, before)
        result = results(config)
        again = ALL if ALL in calls else sum(calls)
        folder.rename(after)
        if before.exists():
            shutil.copytree(before, folder)
            shutil.rmtree(folder / kept_parts.FOLDER)
        assert results(config) == result
        shutil.rmtree(folder)
        after.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
        return again

    return assess


@pytest.mark.parametrize("columns", [DATED, {"client": None}], ids=["dated", "nameless"])
def test_outputs_are_the_same_bytes_with_kept_parts(begin, assess, monkeypatch, columns):
    config = begin(**columns)
    assert assess(config) == ALL
    news = make_rows(8, seed=3, prefix="new").assign(exited="")
    arrive(config, add_details(news, config, "2026-02-01"), "news.csv")
    assert assess(config) == 8
    first, second, *_, last = read_table(config.risk_scores)["client"]
    outcomes = make_rows(700, seed=5).iloc[[1, 2, 4]].assign(exited=[1, 0, 1])
    arrive(config, add_details(outcomes, config), "outcomes.csv")
    assert len(find_segments(config)) > 1
    assert assess(config) == 11
    enter(config, first, kind=log.REASSIGNMENT, manager="Cy", date="2999-01-01")
    enter(config, last, kind=log.OVERRIDE, outcome=log.LEAVES)
    execute(config, f"DELETE FROM clients WHERE {FEATURES[0]} > 100")
    ingestion.ingest_new_data(config)
    gone = files.read_record(config.ingestion_record)["withdrawn"]
    assert gone > 5
    assert gone < assess(config) <= 13 + gone
    monkeypatch.setattr(files, "utc_now", lambda: "2026-06-02T08:00:00Z")
    enter(config, second)
    assert assess(config) != ALL


def describe(config):
    """Return the arguments of `kept_parts.read`, as the last assessment had them."""
    record = files.read_record(config.assessment_record)
    limited = config.limited_to(*assessment.SETTINGS)
    last = assessment.read_last(limited, record["day"])
    return limited, record["release"], assessment.describe_whole(limited, last, {})


def test_newest_time_that_only_withdrawn_rows_had_makes_all_parts_anew(begin, assess):
    config = begin(**DATED)
    execute(config, "UPDATE clients SET seen = '2026-03-01' WHERE rowid = 1")
    ingestion.ingest_new_data(config)
    assert assess(config) == ALL
    execute(config, "DELETE FROM clients WHERE rowid = 2")
    ingestion.ingest_new_data(config)
    assert assess(config) == 1
    execute(config, "DELETE FROM clients WHERE rowid = 1")
    ingestion.ingest_new_data(config)
    assert assess(config) == ALL


def test_first_and_last_open_row_make_all_parts_anew(begin, assess):
    config = begin(client="corporation")
    open_row = add_details(make_rows(1, prefix="open").assign(exited=""), config)
    assert assess(config) == ALL
    rows = make_rows(700, seed=5)
    closed = rows[rows.index % 3 != 0].assign(exited=0)
    execute(config, "UPDATE clients SET exited = 0")
    arrive(config, add_details(closed, config), "closed.csv")
    assert assess(config) == ALL
    arrive(config, open_row, "open.csv")
    assert assess(config) == ALL
    assert len(read_table(config.risk_scores)) == 1


def test_row_of_the_future_makes_all_parts_anew_when_its_time_comes(begin, assess, monkeypatch):
    config = begin(**DATED)
    late = add_details(make_rows(2, seed=5).assign(exited=""), config, "2026-07-01")
    arrive(config, late, "late.csv")
    results = []
    for day in ("2026-06-02", "2026-06-30", "2026-07-01"):
        monkeypatch.setattr(ledger, "read_latest_time", lambda config, day=day: f"{day}T00:00:00Z")
        enter(config, f"somebody on {day}")
        results.append(assess(config))
    assert results == [ALL, 0, ALL]


def test_changes_that_add_up_to_all_clients_make_all_parts_anew(begin, assess):
    config = begin()
    results = [assess(config)]
    for day in (1, 2):
        rows = make_rows(30, seed=day, prefix=f"day{day}").assign(exited="")
        arrive(config, add_details(rows, config), f"{day}.csv")
        results.append(assess(config))
    place = config.reports_folder / kept_parts.FOLDER / kept_parts.RECORD
    record = files.read_record(place)
    assert record["assessed"] == 30 + 60
    place.write_bytes(files.encode(files.sealed(record | {"assessed": 700})))
    enter(config, "somebody")
    results.append(assess(config))
    assert results == [ALL, 30, 60, ALL]


def test_damaged_kept_parts_are_not_used_and_made_again(begin, assess):
    config = begin()
    assert assess(config) == ALL
    folder = config.reports_folder / kept_parts.FOLDER
    arguments = describe(config)
    assert kept_parts.read(*arguments) is not None
    for path in (folder / kept_parts.RECORD, next(folder.glob("*.arrow"))):
        data = path.read_bytes()
        for spoiled in (b"", b"{}", data[: len(data) // 2], data[:-1] + b"x", None):
            path.unlink()
            path.mkdir() if spoiled is None else path.write_bytes(spoiled)
            assert kept_parts.read(*arguments) is None
            path.rmdir() if spoiled is None else path.unlink()
            assert kept_parts.read(*arguments) is None
            path.write_bytes(data)
    assert kept_parts.read(*arguments) is not None
    path.write_bytes(b"damaged")
    arrive(config, add_details(make_rows(3, prefix="new"), config).assign(exited=""), "new.csv")
    assert assess(config) == ALL
    assert kept_parts.read(*describe(config)) is not None


def test_kept_parts_whose_record_cannot_be_written_are_not_used(begin, assess, monkeypatch):
    config = begin()
    assert assess(config) == ALL
    arrive(config, add_details(make_rows(3, prefix="new"), config).assign(exited=""), "new.csv")
    arguments = describe(config)
    assert kept_parts.read(*arguments) is not None
    monkeypatch.setattr(files, "write_bytes", Mock(side_effect=PermissionError))
    assert kept_parts.read(*arguments) is None


def test_other_settings_release_and_units_make_all_parts_anew(begin, assess):
    config = begin()
    assert assess(config) == ALL
    limited, release, whole = describe(config)
    smaller = replace(config, contact_capacity=3).limited_to(*assessment.SETTINGS)
    assert kept_parts.read(limited, release, whole) is not None
    assert kept_parts.read(smaller, release, whole) is None
    assert kept_parts.read(limited, "another", whole) is None
    assert kept_parts.read(limited, release, whole._replace(other_units={1: "x"})) is None


def test_restored_backup_makes_all_parts_anew(begin, assess, tmp_path):
    config = begin()
    arrive(config, add_details(make_rows(1, prefix="old").assign(exited=""), config), "old.csv")
    backup = tmp_path / "backup"
    shutil.copytree(config.file.parent, backup, symlinks=True)
    arrive(config, add_details(make_rows(3, prefix="lost").assign(exited=""), config), "lost.csv")
    assert assess(config) == ALL
    for folder in (config.output_folder, config.production_folder):
        shutil.rmtree(folder)
        shutil.copytree(backup / folder.name, folder, symlinks=True)
    (config.input_folder / "lost.csv").unlink()
    arrive(config, add_details(make_rows(6, prefix="new").assign(exited=""), config), "new.csv")
    assert assess(config) == ALL


def test_something_else_in_the_place_of_kept_parts_does_no_harm(begin):
    config = begin()
    config.reports_folder.mkdir()
    (config.reports_folder / kept_parts.FOLDER).write_text("of a person")
    assert assessment.assess_clients(config).listed == 20
    assert (config.reports_folder / kept_parts.FOLDER).read_text() == "of a person"
    assert not list(config.reports_folder.glob(".*"))


def test_beside_few_rows_no_parts_are_kept(project):
    assert not (project.reports_folder / kept_parts.FOLDER).exists()
