"""Rows that the previous version stored: read as they are, and rewritten once."""

from attrition.rows import ledger, typed_rows
from attrition.storage import files, tables
from ingestion import ingest_new_data
from tests.conftest import read_rows, write_config
from tests.earlier import become_earlier
from tests.segments import DATED, TABLE, check_all, deliver, execute, row
from tests.support import counts, final_rows, put, row_ids
from tests.support import ledger as read_lines

UNNAMED = {"client": None, "outcome": "left", "numeric": ["x"], "categorical": ["plan"]}


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
    config = write_config(tmp_path, columns=DATED, databases=[TABLE])
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
    ids = row_ids(expected, config.columns)
    assert read_rows(config)[typed_rows.ROW_ID].tolist() == ids.tolist()
