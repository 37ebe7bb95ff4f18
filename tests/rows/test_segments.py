"""Rows in several segments: found, replaced, withdrawn and merged as if they were in one file."""

import random
from dataclasses import replace

import pytest

from attrition.errors import Damaged
from attrition.rows import ledger, segments, typed_rows
from attrition.storage import files, tables
from ingestion import ingest_new_data
from tests.conftest import read_rows, write_config
from tests.segments import DATED, TABLE, check_all, deliver, execute, find_segments, row
from tests.support import counts
from tests.support import ledger as read_lines


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


def test_file_of_a_person_beside_the_segments_is_not_removed(config):
    deliver(config, "a", [row(i) for i in range(4)])
    copy = config.rows.with_name("finaldata-copy.parquet")
    copy.write_bytes(b"of a person")
    ingest_new_data(config)
    assert copy.read_bytes() == b"of a person"


def test_a_duplicate_changes_no_row_file(config):
    deliver(config, "a", [row(i) for i in range(40)])
    before = {path: path.stat().st_ino for path in config.output_folder.iterdir()}
    version = ledger.rows_version(config)
    deliver(config, "b", [row(3), row(5)])
    changed = {path.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert changed == {"ingestedfiles.txt", "ingestion.json"}
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


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_rows_withdrawn_from_a_segment_are_written_as_they_were(tmp_path, config, format):
    config = write_config(tmp_path, columns=DATED, databases=[TABLE], dataset_format=format)
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
