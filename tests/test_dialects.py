"""A dialect that changes: what was refused is judged again, what was accepted is read again."""

import json
import logging

import pytest

from attrition import config_file
from attrition.errors import AttritionError
from attrition.storage import files
from ingestion import ingest_new_data
from tests.campaigns.catalogue import GOOD, HEADER
from tests.conftest import PLAIN_KEYS
from tests.support import check_conserved, counts, final_rows, ledger, put, rejected

GERMAN = f"{HEADER}\nMüller,1,5,2,3,0\n".replace(",", ";").replace("1;5", "1,5")


def name_files(config, **keys):
    config.file.write_text(json.dumps(PLAIN_KEYS | {"files": keys}))
    return config_file.load(config.file)


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252"])
def test_file_that_was_refused_is_judged_again_in_another_dialect(empty_project, encoding):
    put(empty_project, "plain.csv", GOOD)
    put(empty_project, "a.csv", GERMAN.encode(encoding))
    ingest_new_data(empty_project)
    assert [line["verdict"] for line in ledger(empty_project)] == ["quarantined", "accepted"]
    keys = {"encoding": encoding, "decimal": ","}
    config = name_files(empty_project, by_name={"a.csv": keys})
    result = ingest_new_data(config)
    assert [line.source for line in result.lines] == ["a.csv"]
    assert final_rows(config)[-1] == ["Müller", "1.5", "2", "3", "0"]
    assert rejected(config) == []
    check_conserved(config)
    assert ingest_new_data(config).up_to_date


def test_file_that_stays_refused_has_the_reason_of_the_new_dialect_and_is_not_tried_again(
    empty_project,
):
    put(empty_project, "a.csv", GERMAN.replace(";0", ";maybe").encode("cp1252"))
    ingest_new_data(empty_project)
    config = name_files(empty_project, encoding="windows-1252", decimal=",")
    ingest_new_data(config)
    [line] = ledger(config)
    assert (line["verdict"], counts(line)) == ("quarantined", (0, 1, 0))
    assert line["reason"].startswith("DELIMITER; ")
    check_conserved(config)
    assert ingest_new_data(config).up_to_date
    config = name_files(empty_project, encoding="windows-1252")
    ingest_new_data(config)
    assert len(rejected(config)) == 1
    check_conserved(config)
    assert ingest_new_data(config).up_to_date


def test_file_that_was_accepted_in_another_dialect_is_read_again_with_all_others(
    empty_project, caplog
):
    put(empty_project, "a.csv", f"{HEADER}\nacme,1.500,2,3,0\n")
    put(empty_project, "b.csv", GOOD)
    ingest_new_data(empty_project)
    config = name_files(empty_project, by_name={"A*.csv": {"decimal": ",", "thousands": "."}})
    with caplog.at_level(logging.WARNING):
        assert ingest_new_data(config).rows == 5
    assert "the dialect of a.csv has changed: all sources are read again" in caplog.text
    assert final_rows(config)[0][:2] == ["acme", "1500"]
    record = files.read_record(config.ingestion_record)
    assert record["dialects"] == {"a.csv": {"decimal": ",", "thousands": "."}}
    assert ingest_new_data(config).up_to_date


def test_change_is_refused_if_a_source_is_gone(empty_project):
    put(empty_project, "a.csv", GOOD)
    gone = put(empty_project, "b.csv", f"{HEADER}\nfox,1,2,3,0\n")
    ingest_new_data(empty_project)
    gone.unlink()
    config = name_files(empty_project, decimal=",")
    with pytest.raises(AttritionError, match=r"changes the dialect of a\.csv, .* gone: b\.csv\."):
        ingest_new_data(config)


def test_pattern_for_new_files_reads_no_other_again(empty_project):
    put(empty_project, "a.csv", GOOD)
    put(empty_project, "a.parquet", b"")
    ingest_new_data(empty_project)
    put(empty_project, "kunden.csv", GERMAN.encode("cp1252"))
    keys = {"encoding": "windows-1252", "decimal": ","}
    config = name_files(empty_project, by_name={"kunden*": keys, "*.parquet": keys})
    result = ingest_new_data(config)
    assert [line.source for line in result.lines] == ["kunden.csv"]
    assert result.rows == 5


def test_new_version_of_a_file_in_a_new_dialect_keeps_the_rows_of_the_old_one(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GERMAN.encode("cp1252"))
    config = name_files(empty_project, encoding="windows-1252", decimal=",")
    assert ingest_new_data(config).rows == 5
    assert ingest_new_data(config).up_to_date
