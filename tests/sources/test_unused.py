"""Which sources are unused: refused as a whole, or passed over although they look like data."""

import gzip
import io
import sqlite3

import pandas as pd
import pytest

import ingestion
from attrition.rows.ledger import QUARANTINED, SKIPPED, Line
from attrition.sources import unused
from attrition.storage import files, history
from tests.conftest import make_rows
from tests.support import put, reconfigure

ROWS = make_rows(40, seed=7, prefix="odd")
CSV = ROWS.to_csv(index=False)
BAD = ROWS.assign(lastmonth_activity="many").to_csv(index=False)


def unused_of(config):
    return {one.source: one.code for one in ingestion.ingest_new_data(config).unused}


PASSED_OVER = [
    *(
        "a.xls",
        "A.XLSB",
        "a.ods",
        "a.tsv",
        "a.TXT",
        "a.json",
        "a.jsonl",
        "a.zip",
        "a.7z",
        "a.csv.zip",
    ),
    *(
        "a.tar.gz",
        "a.xml",
        "a.sqlite",
        "a.feather",
        "a.dta",
        "a.sav",
        "a.rds",
        "a.csv.1",
        "a (2).json",
    ),
    *("a.csv.bak", "sub/a.csv", "sub/a.parquet", "sub/a.zip", "über größe.dat", "a.csv.gz.old"),
]
NOT_DATA = [
    *(
        ".hidden.zip",
        "a.csv.part",
        "a.xls.tmp",
        "README.md",
        "a.csv.sha256",
        "logo.png",
        "sub/.a.csv",
    ),
    *("sub/README.md", "Thumbs.db", "~$a.xls", "Makefile", "noending"),
]


@pytest.mark.parametrize("name", PASSED_OVER)
def test_data_that_is_passed_over_is_unused(name):
    reason = "NOT_TOP_LEVEL" if "/" in name else "NOT_AN_INPUT_NAME"
    line = Line("", name, "-", verdict=SKIPPED, reason=reason)
    one = unused.describe(line)
    assert one.code == reason
    assert one.advice.endswith("remove it, or name it in ignore_files of config.json")


@pytest.mark.parametrize("name", NOT_DATA)
def test_what_is_no_data_is_no_warning(name):
    reason = "NOT_TOP_LEVEL" if "/" in name else "NOT_AN_INPUT_NAME"
    assert unused.describe(Line("", name, "-", verdict=SKIPPED, reason=reason)) is None


def test_a_long_or_odd_reason_is_one_short_line():
    line = Line("", "a.csv", "-", verdict=QUARANTINED, reason="X: \x1b[2J\n" + "y" * 5000)
    one = unused.describe(line)
    assert one.code == "X"
    assert one.reason.isprintable()
    assert len(one.reason) < 400


def test_only_the_version_that_is_there_counts(empty_project):
    put(empty_project, "a.csv", BAD)
    put(empty_project, "b.csv.gz", gzip.compress(b"\xff\xfe"))
    put(empty_project, "c.csv", CSV)
    put(empty_project, "copy.csv", CSV)  # the same content is no news, and no warning
    before = unused_of(empty_project)
    assert before.keys() == {"a.csv", "b.csv.gz"}
    assert before["a.csv"] == "MOST_ROWS_BAD"
    assert not ingestion.ingest_new_data(empty_project).lines
    put(empty_project, "a.csv", CSV.replace("odd", "other"))
    (empty_project.input_folder / "b.csv.gz").unlink()
    assert unused_of(empty_project) == {}
    put(empty_project, "a.csv", BAD)  # back to the version that was refused
    assert unused_of(empty_project).keys() == {"a.csv"}


def test_ignored_files_are_neither_read_nor_unused(empty_project):
    (empty_project.input_folder / "old").mkdir()
    for name in ("a.csv", "b.zip", "old/c.csv"):
        put(empty_project, name, BAD)
    assert len(unused_of(empty_project)) == 3
    config = reconfigure(empty_project, ignore_files=["A.csv", "*.zip", "old"])
    result = ingestion.ingest_new_data(config)
    assert (result.unused, result.lines, result.unavailable) == ((), (), ())
    assert not result.up_to_date
    assert ingestion.ingest_new_data(config).up_to_date


def test_a_quarantined_table_is_unused_until_its_rows_are_good(empty_project):
    def write(rows):
        with sqlite3.connect(empty_project.file.parent / "crm.sqlite") as connection:
            rows.to_sql("clients", connection, index=False, if_exists="replace")
        connection.close()

    table = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
    config = reconfigure(empty_project, databases=[table])
    write(ROWS)
    assert unused_of(config) == {}
    write(ROWS.assign(lastmonth_activity="many"))
    for _ in range(2):
        assert unused_of(config) == {"crm": "MOST_ROWS_BAD"}
    write(ROWS)  # nothing new in it, but it is mended
    assert unused_of(config) == {}


def test_the_database_of_a_table_is_no_unused_file_wherever_it_lies(empty_project):
    (empty_project.input_folder / "sub").mkdir()
    databases = []
    for place in ("crm.sqlite", "sub/crm.db"):
        path = empty_project.input_folder / place
        pd.read_csv(io.StringIO(CSV)).to_sql("clients", f"sqlite:///{path}", index=False)
        url = f"sqlite:///../{empty_project.file.parent.name}/sourcedata/{place}"
        databases.append({"name": place, "url": url, "table": "clients"})
    assert unused_of(reconfigure(empty_project, databases=databases)) == {}


def test_an_earlier_version_that_named_no_unused_source_is_continued(empty_project):
    put(empty_project, "a.csv", BAD)
    put(empty_project, "c.csv", CSV)
    ingestion.ingest_new_data(empty_project)
    record = files.read_record(empty_project.ingestion_record)
    del record["unused"]
    files.write_bytes(empty_project.ingestion_record, files.encode(files.sealed(record)))
    seal = files.sealed(record)["seal"]
    row = {"generation": record["generation"], "seal": seal, "at": record["ingested_at"]}
    history.save(empty_project.history, "generations", [row])
    rows = empty_project.final_data.read_bytes()
    assert unused_of(empty_project).keys() == {"a.csv"}
    assert empty_project.final_data.read_bytes() == rows
