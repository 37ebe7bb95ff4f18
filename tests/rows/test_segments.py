"""Rows in several segments: found, replaced, withdrawn and merged as if they were in one file."""

import random
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from attrition.errors import Damaged
from attrition.rows import ledger, segments, typed_rows
from attrition.storage import files, tables
from ingestion import ingest_new_data
from tests.conftest import read_rows, write_config
from tests.earlier import become_earlier
from tests.support import counts, final_rows, put
from tests.support import ledger as read_lines

COLUMNS = {"client": "who", "outcome": "left", "numeric": ["x"], "dates": ["end"], "time": "seen"}
HEADER = "who,seen,x,end,left"
TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
UNNAMED = {"client": None, "outcome": "left", "numeric": ["x"], "categorical": ["plan"]}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A project whose row groups have eight rows; the disk need not outlive a power cut."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    monkeypatch.setattr(segments, "ROWS_PER_RUN", 16)
    monkeypatch.setattr(segments, "ROWS_PER_BATCH", 4)
    return write_config(tmp_path, columns=COLUMNS)


def deliver(config, name, rows):
    put(config, f"{name}.csv", "\n".join([HEADER, *rows, ""]))
    ingest_new_data(config)


def row(i, outcome=""):
    return f"c{i % 60},,{i},2026-{1 + i % 12:02d}-01,{outcome}"


def find_segments(config):
    record = files.read_record(config.ingestion_record)
    return config.list_segments(record["outputs"])


def check_all(config, rows):
    """Check that all readers find the expected lines, in the order of arrival."""
    assert [",".join(each) for each in final_rows(config)] == rows
    names = ("who", "x", "left", typed_rows.NUMBER, *typed_rows.COMPUTED)
    table = ledger.read_rows(config, names)
    texts = [
        f"{who},{x:g},{'' if np.isnan(left) else int(left)}"
        for who, x, left in zip(table["who"], table["x"], table["left"], strict=True)
    ]
    cells = [each.split(",") for each in rows]
    assert texts == [f"{each[0]},{each[2]},{each[4]}" for each in cells]
    assert table[typed_rows.NUMBER].is_monotonic_increasing
    parts = [ledger.read_rows(config, names, part=part) for part in ledger.split_rows(config, 30)]
    assert sum(map(len, parts)) == len(rows)
    assert len({name for part in parts for name in set(part["who"])}) == len(set(table["who"]))
    middle = int(table[typed_rows.NUMBER].iloc[len(table) // 2])
    later = ledger.read_rows(config, names, since=middle)
    assert later.equals(table.iloc[len(table) // 2 :].reset_index(drop=True))
    assert {path.name for path in config.output_folder.glob("finaldata*.parquet")} == {
        path.name for path in find_segments(config)
    }


def test_any_deliveries_are_stored_in_segments_as_in_one_file(config):
    rng, expected, most = random.Random(1), [], 0
    deliver(config, "first", [row(i) for i in range(300)])
    expected += [row(i) for i in range(300)]
    for day in range(14):
        news = [row(i) for i in range(300 + 5 * day, 305 + 5 * day)]
        closed = rng.sample([each for each in expected if each.endswith(",")], 3)
        outcomes = [each + rng.choice("01") for each in closed]
        deliver(config, f"day{day}", [*news, *outcomes, expected[-1]])
        expected = [each for each in expected if each not in closed] + news + outcomes
        assert counts(read_lines(config)[-1]) == (8, 0, 1)
        check_all(config, expected)
        most = max(most, len(find_segments(config)))
    assert 2 <= most <= 4
    assert ingest_new_data(config).up_to_date
    check_damage(config, expected)


def check_damage(config, expected):
    """Damage each segment: ingestion writes all of them anew, with the same content."""
    columns = [*config.columns.table, *segments.arrival_names(config.columns)]
    before = read_rows(config), ledger.read_rows(config, columns)
    for i in (-1, 0):
        find_segments(config)[i].write_bytes(b"x")
        config.segment(9999).write_bytes(b"stale")
        with pytest.raises(Damaged, match=r"is not what was ingested"):
            read_rows(config)
        assert not ingest_new_data(config).up_to_date
        check_all(config, expected)
        assert read_rows(config).equals(before[0])
        assert ledger.read_rows(config, columns).equals(before[1])
        assert len(find_segments(config)) == 1


def test_a_duplicate_changes_no_row_file(config):
    deliver(config, "a", [row(i) for i in range(40)])
    before = {path: path.stat().st_ino for path in config.output_folder.iterdir()}
    version = ledger.rows_version(config)
    deliver(config, "b", [row(3), row(5)])
    changed = {path.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert changed == {"gone.npz", "ingestedfiles.txt", "ingestion.json"}
    assert ledger.rows_version(config) == version
    deliver(config, "c", [row(41)])
    assert ledger.rows_version(config) != version


def test_dates_of_a_later_outcome_count_from_the_first_delivery_in_any_segment(config, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-01-01T00:00:00Z")
    deliver(config, "a", [row(i) for i in range(40)])
    monkeypatch.setattr(files, "utc_now", lambda: "2026-03-01T00:00:00Z")
    deliver(config, "b", [row(5, 1), row(100)])
    assert len(find_segments(config)) == 2
    rows = ledger.read_rows(config, ("x", "end", typed_rows.OPENED)).set_index("x")
    assert rows.loc[5.0].tolist() == [151.0, 0]
    assert rows.loc[100.0].tolist() == [61.0, 1]


def execute(config, sql):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_rows_withdrawn_from_a_segment_are_written_as_they_were(tmp_path, config, format):
    config = write_config(tmp_path, columns=COLUMNS, databases=[TABLE], dataset_format=format)
    execute(config, "CREATE TABLE clients (who, seen, x REAL, end, left)")
    values = [f"('c{i}', '2026-01-0{1 + i % 9}', {i}.5, '9999-12-31', NULL)" for i in range(40)]
    execute(config, f"INSERT INTO clients VALUES {', '.join(values)}")
    ingest_new_data(config)
    execute(config, "DELETE FROM clients WHERE who IN ('c7', 'c21')")
    assert ingest_new_data(config).rows == 38
    cells = [row[1:] for row in tables.read_cells(config.withdrawn)]
    assert cells == [
        ["crm", "c7", "2026-01-08", "7.5", "9999-12-31", ""],
        ["crm", "c21", "2026-01-04", "21.5", "9999-12-31", ""],
    ]
    assert len(ledger.read_rows(config, ["who"])) == 38
    assert config.final_data.exists() == (format == "csv")


def test_format_can_be_changed_to_and_fro(config):
    deliver(config, "a", [row(i) for i in range(40)])
    before = read_rows(config)
    plain = replace(config, dataset_format="parquet")
    deliver(plain, "b", [row(50)])
    record = files.read_record(config.ingestion_record)
    assert not {"finaldata.csv", "deliveries.npz"} & {*record["outputs"]}
    assert not config.final_data.exists()
    assert not list(config.output_folder.glob("deliveries*"))
    deliver(plain, "c", [row(3, 1), row(50, 0), row(3)])
    ingest_new_data(config)
    gone = [row(3), row(50)]
    lines = [row(i) for i in range(40) if row(i) not in gone] + [row(3, 1), row(50, 0)]
    check_all(config, lines)
    columns = list(config.columns.table)
    assert (
        read_rows(config)[columns]
        .iloc[:39]
        .equals(before[before["x"] != 3][columns].reset_index(drop=True))
    )
    config.rows.unlink()
    assert not ingest_new_data(config).up_to_date
    check_all(config, lines)


def test_damaged_rows_without_a_csv_are_reported(config):
    plain = replace(config, dataset_format="parquet")
    deliver(plain, "a", [row(i) for i in range(10)])
    plain.rows.write_bytes(b"x")
    with pytest.raises(Damaged, match=r"finaldata\.parquet not as written; .* --repair"):
        ingest_new_data(plain)


# ---- an installation of the previous version


def test_rows_of_the_previous_version_are_read_and_rewritten_by_the_next_news(config):
    deliver(config, "a", [row(i) for i in range(40)])
    deliver(config, "b", [row(3, 1), row(7, 0)])
    expected = [",".join(each) for each in final_rows(config)]
    names = (*config.columns.table, *typed_rows.COMPUTED, typed_rows.DELIVERED, typed_rows.OPENED)
    before = ledger.read_rows(config, names)
    become_earlier(config)
    assert ledger.read_rows(config, names).equals(before)
    part, *_ = ledger.split_rows(config, 10)
    assert 0 < len(ledger.read_rows(config, names, part=part)) < 40
    assert ledger.rows_version(config) == files.sha256_file(config.final_data)
    assert ingest_new_data(config).up_to_date
    deliver(config, "c", [row(5, 1), row(50), row(7, 0)])
    assert counts(read_lines(config)[-1]) == (2, 0, 1)
    check_all(config, [each for each in expected if each != row(5)] + [row(5, 1), row(50)])
    assert (
        ledger.read_rows(config, names)
        .iloc[:39]
        .equals(before[before["x"] != 5].reset_index(drop=True))
    )
    record = files.read_record(config.ingestion_record)
    assert record["next_number"] == 42
    assert files.damaged_outputs(config.output_folder, record) == []


def test_rows_that_a_table_had_in_the_previous_version_are_withdrawn(tmp_path, config):
    config = write_config(tmp_path, columns=COLUMNS, databases=[TABLE])
    execute(config, "CREATE TABLE clients (who, seen, x, end, left)")
    values = [f"('c{i}', NULL, {i}, '2026-12-01', NULL)" for i in range(20)]
    execute(config, f"INSERT INTO clients VALUES {', '.join(values)}")
    ingest_new_data(config)
    become_earlier(config)
    execute(config, "DELETE FROM clients WHERE who = 'c7'")
    assert ingest_new_data(config).rows == 19
    assert counts(read_lines(config)[-1]) == (0, 0, 19)


def test_equal_rows_without_a_client_of_the_previous_version_stay_known(tmp_path, config):
    config = write_config(tmp_path, columns=UNNAMED)
    put(config, "a.csv", "x,plan,left\n1,a,\n1,a,\n1,a,1\n2,b,\n")
    ingest_new_data(config)
    become_earlier(config)
    put(config, "b.csv", "x,plan,left\n1,a,\n1,a,0\n1,a,1\n2,b,\n3,c,\n")
    ingest_new_data(config)
    assert counts(read_lines(config)[-1]) == (2, 0, 3)
    expected = typed_rows.typed(tables.read_texts(config.final_data), config.columns)
    ids = typed_rows.row_ids(expected, config.columns, with_outcome=True)
    assert read_rows(config)[typed_rows.ROW_ID].tolist() == ids.tolist()
