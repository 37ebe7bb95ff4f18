import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition import config as configuration
from attrition import disk, sources
from attrition import ledger as ledger_room
from attrition.config import Columns
from attrition.errors import AttritionError, Damaged, SourceError
from attrition.ledger import Line
from ingestion import ingest_new_data
from tests import catalogue
from tests.catalogue import GOOD, HEADER, ROWS, lines
from tests.conftest import PLAIN_KEYS, ROOT, TABLES, make_rows, write_config

COURSE = TABLES / "course"


def put(config, name, text, *, fresh=False):
    """Write a source file; settled, unless it is fresh."""
    path = config.input_folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if not fresh:
        settle(path)
    return path


def settle(path):
    os.utime(path, (1, 1), follow_symlinks=False)


def ledger(config):
    with config.ingested_files.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rejected(config):
    with config.rejected.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def final_rows(config):
    return list(sources.read_cells(config.final_data))


def counts(line):
    return int(line["accepted"]), int(line["rejected"]), int(line["duplicates"])


def reconfigure(config, **settings):
    config.file.write_text(json.dumps(PLAIN_KEYS | settings))
    return configuration.load(config.file)


# ---- the catalogue

VERDICTS = {
    catalogue.ACCEPT: "accepted",
    catalogue.ROWS_OUT: "accepted",
    catalogue.FILE_OUT: "quarantined",
    catalogue.SKIP: "skipped",
}


def name_of(case):
    return f"{'second-' if case in catalogue.SECOND_TICK else ''}{case.name[:24]}"


@pytest.mark.parametrize("case", catalogue.FILES + catalogue.SECOND_TICK, ids=name_of)
def test_catalogue(empty_project, case):
    folder = empty_project.input_folder
    for earlier in case.after:
        earlier.write(folder / earlier.name)
        settle(folder / earlier.name)
        ingest_new_data(empty_project)
    known = len(ledger(empty_project)) if case.after else 0
    rows_before = len(final_rows(empty_project)) if case.after else 0
    case.write(folder / case.name)
    settle(folder / case.name)

    ingest_new_data(empty_project)

    news = [line for line in ledger(empty_project)[known:] if "target" not in line["source"]]
    if case in catalogue.SECOND_TICK and case.outcome == catalogue.SKIP and not case.code:
        assert news == []
        return
    [line] = news
    refused = [row for row in rejected(empty_project) if row["source"] == line["source"]]
    half_bad = case.outcome == catalogue.ROWS_OUT and case.counts[0] == 0
    assert line["verdict"] == ("quarantined" if half_bad else VERDICTS[case.outcome])
    assert case.code in line["reason"]
    assert line["reason"] or case.outcome != catalogue.FILE_OUT
    assert counts(line) == case.counts
    assert int(line["records"]) == sum(case.counts)
    if case.outcome == catalogue.ACCEPT and not case.code:
        assert line["reason"] == ""
    if case.outcome == catalogue.ROWS_OUT:
        assert len(refused) == case.counts[1]
        assert all(row["reason"].startswith(f"{case.code}: ") for row in refused)
    assert len(final_rows(empty_project)) == rows_before + case.counts[0]
    assert line["source"].isprintable()


def test_plain_cell_values_reach_the_final_rows(empty_project):
    put(empty_project, "e.csv", lines("NA,+12,1.50,-0,No", "007,NA,5e-324,,yes"))
    ingest_new_data(empty_project)
    assert final_rows(empty_project) == [
        ["NA", "12", "1.5", "0", "0"],
        ["007", "", "5e-324", "", "1"],
    ]


def test_name_that_is_not_utf8_is_shown_with_its_bytes(empty_project):
    put(empty_project, os.fsdecode(b"\xff\n.csv"), GOOD)
    ingest_new_data(empty_project)
    assert ledger(empty_project)[0]["source"] == r"\xff\n.csv"


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_mutated_file_is_never_a_crash_and_never_a_loss(data):
    text = bytearray((GOOD + '"echo, Inc.",1.5,,7,\nCafé,NA,2,3,yes\n').encode())
    for _ in range(data.draw(st.integers(1, 4), label="mutations")):
        at = data.draw(st.integers(0, len(text)), label="at")
        end = data.draw(st.integers(at, min(len(text), at + 40)), label="end")
        kind = data.draw(st.sampled_from(["cut", "flip", "splice", "repeat"]), label="kind")
        if kind == "cut":
            del text[at:end]
        elif kind == "flip":
            text[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "splice":
            text[at:at] = data.draw(st.binary(max_size=8) | st.text('",;\n\r\t 0-.', max_size=8)
                                    .map(str.encode))  # fmt: skip
        else:
            text[at:at] = text[at:end]
    ending = data.draw(st.sampled_from([".csv", ".csv.gz"]), label="ending")
    content = bytes(text) if ending == ".csv" else mutated_gzip(bytes(text), data)
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder))
        put(config, f"m{ending}", content)
        ingest_new_data(config)
        [line] = ledger(config)
        assert int(line["records"]) == sum(counts(line))
        assert len(rejected(config)) == int(line["rejected"])
        assert len(final_rows(config)) == int(line["accepted"])


def mutated_gzip(text, data):
    packed = bytearray(gzip.compress(text, mtime=0))
    if data.draw(st.booleans(), label="harm the gzip too"):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(packed)


# ---- repeats, updates, conflicts


def test_row_in_two_files_counts_once(empty_project):
    put(empty_project, "a.csv", lines(*ROWS[:3]))
    put(empty_project, "b.csv", lines(*ROWS[1:]))
    ingest_new_data(empty_project)
    assert [counts(line) for line in ledger(empty_project)] == [(3, 0, 0), (1, 0, 2)]
    assert len(final_rows(empty_project)) == 4


def test_same_client_with_other_values_is_another_observation(empty_project):
    put(empty_project, "a.csv", lines("acme,1,2,3,0", "acme,2,2,3,0"))
    assert ingest_new_data(empty_project).rows == 2


@pytest.mark.parametrize(("before", "after"), [("", "1"), ("", "0"), ("0", "1")])
def test_outcome_that_arrives_later_replaces_the_row(empty_project, before, after):
    put(empty_project, "a.csv", lines(f"acme,1,2,3,{before}", "bolt,1,2,3,0"))
    ingest_new_data(empty_project)
    put(empty_project, "b.csv", lines(f"acme,1,2,3,{after}"))
    ingest_new_data(empty_project)
    assert counts(ledger(empty_project)[1]) == (1, 0, 0)
    assert final_rows(empty_project) == [
        ["bolt", "1", "2", "3", "0"],
        ["acme", "1", "2", "3", after],
    ]


def test_client_that_left_is_not_called_back(empty_project):
    put(empty_project, "a.csv", lines("acme,1,2,3,1"))
    put(empty_project, "b.csv", lines("acme,1,2,3,0", "bolt,1,2,3,0"))
    ingest_new_data(empty_project)
    assert final_rows(empty_project)[0] == ["acme", "1", "2", "3", "1"]
    [refused] = rejected(empty_project)
    assert refused["reason"] == "CONFLICT: exited is 0 here and the other elsewhere; row refused"


# ---- what is refused, and how it is told


def test_rejected_names_source_line_reason_and_raw_text(empty_project):
    put(empty_project, "a.csv", lines(*ROWS, "", '"echo, Inc.",-3,2,3,0', "fox,1,2"))
    ingest_new_data(empty_project)
    found = [[row[name] for name in ("source", "line", "reason", "raw")]
             for row in rejected(empty_project)]  # fmt: skip
    told = "OUT_OF_RANGE: lastmonth_activity is '-3', expected a number >= 0; row refused"
    assert found == [
        ["a.csv", "7", told, '"echo, Inc.",-3,2,3,0'],
        ["a.csv", "8", "RAGGED_SHORT: 3 fields, expected 5; row refused", "fox,1,2"],
    ]


def test_line_is_where_a_row_begins(empty_project):
    text = f'\n{HEADER}\n"a\nb",1,2,3,0\n{ROWS[0]}\n{ROWS[1]}\nbad,x,2,3,0\n'
    put(empty_project, "a.csv", text)
    ingest_new_data(empty_project)
    assert [row["line"] for row in rejected(empty_project)] == ["3", "7"]


def test_file_of_which_more_than_half_is_bad_is_held_whole(empty_project):
    put(empty_project, "a.csv", lines(ROWS[0], "bad,x,2,3,0", "bad,y,2,3,0"))
    result = ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (line["verdict"], counts(line)) == ("quarantined", (0, 3, 0))
    assert line["reason"] == "BAD_NUMBER: 2; 2 of 3 rows are bad, so none is used"
    codes = [row["reason"].split(":")[0] for row in rejected(empty_project)]
    assert codes == ["HELD", "BAD_NUMBER", "BAD_NUMBER"]
    assert result.rows == 0


def test_file_of_which_half_is_bad_gives_its_good_half(empty_project):
    put(empty_project, "a.csv", lines(ROWS[0], "bad,x,2,3,0"))
    ingest_new_data(empty_project)
    assert counts(ledger(empty_project)[0]) == (1, 1, 0)


def test_formats_are_as_promised(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    head = empty_project.ingested_files.read_text().splitlines()[0]
    assert head == "ingested_at,source,sha256,records,accepted,rejected,duplicates,verdict,reason"
    assert empty_project.rejected.read_text() == "ingested_at,source,line,reason,raw\n"
    assert empty_project.final_data.read_text() == GOOD
    [line] = ledger(empty_project)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["ingested_at"])
    assert line["sha256"] == disk.sha256_bytes(GOOD.encode())


def test_record_counts_all_that_was_ever_judged(empty_project):
    put(empty_project, "a.csv", lines(*ROWS, ROWS[0], "bad,x,1,1,0"))
    ingest_new_data(empty_project)
    put(empty_project, "b.csv", GOOD)
    ingest_new_data(empty_project)
    record = disk.read_record(empty_project.ingestion_record)
    assert record["totals"] == {"records": 10, "accepted": 4, "rejected": 1, "duplicates": 5}
    assert (record["rows"], record["sources"]) == (4, 2)


# ---- running again


def folder_bytes(config):
    return {path: path.read_bytes() for path in config.output_folder.iterdir()}


def test_second_run_says_nothing_new_and_changes_no_byte(empty_project):
    put(empty_project, "a.csv", lines(*ROWS, "bad,x,1,1,0"))
    put(empty_project, "notes.txt", "hello")
    put(empty_project, "held.csv", "")
    put(empty_project, "being_written.csv", "", fresh=True)
    (empty_project.input_folder / "link.csv").symlink_to("a.csv")
    first = ingest_new_data(empty_project)
    before = folder_bytes(empty_project)
    second = ingest_new_data(empty_project)
    assert not first.fresh
    assert second.fresh
    assert second.summary().startswith("nothing new")
    assert (second.made, second.deferred) == (first.made, 1)
    assert folder_bytes(empty_project) == before


def test_same_content_under_another_name_is_not_news(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    (empty_project.input_folder / "a.csv").rename(empty_project.input_folder / "b.csv")
    ingest_new_data(empty_project)
    line = ledger(empty_project)[1]
    assert (line["verdict"], line["reason"]) == ("skipped", "SAME_CONTENT: as a.csv")


def test_file_that_returns_to_an_old_version_is_not_news(empty_project):
    for text in (lines(ROWS[0]), lines(ROWS[1])):
        put(empty_project, "a.csv", text)
        ingest_new_data(empty_project)
    put(empty_project, "a.csv", lines(ROWS[0]))
    assert ingest_new_data(empty_project).fresh


def test_repaired_file_is_read(empty_project):
    put(empty_project, "a.csv", "company\nacme\n")
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GOOD)
    assert ingest_new_data(empty_project).rows == 4


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "EMPTY_FILE"),
        (b"\n", "NO_HEADER"),
        (HEADER[:30].encode(), "NO_FINAL_EOL"),
        (GOOD[:-1].encode(), "NO_FINAL_EOL"),
        (lines(*ROWS, "echo,1").encode(), "RAGGED_SHORT"),
        ((GOOD + '"ech').encode(), "UNTERMINATED_QUOTE"),
        ((GOOD + "Café").encode()[:-1], "ENCODING"),
    ],
)
def test_unfinished_file_waits_while_it_is_fresh(empty_project, text, code):
    put(empty_project, "a.csv", text, fresh=True)
    result = ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (line["verdict"], counts(line)) == ("deferred", (0, 0, 0))
    assert line["reason"].startswith(code)
    assert (result.rows, result.deferred) == (0, 1)


def test_unfinished_file_is_judged_once_it_has_settled(empty_project):
    path = put(empty_project, "a.csv", GOOD[:-1], fresh=True)
    ingest_new_data(empty_project)
    settle(path)
    result = ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (line["verdict"], counts(line), result.deferred) == ("accepted", (4, 0, 0), 0)


def test_deferred_file_is_taken_when_it_is_whole(empty_project):
    put(empty_project, "a.csv", GOOD[:60], fresh=True)
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GOOD, fresh=True)
    result = ingest_new_data(empty_project)
    assert (result.rows, result.deferred) == (4, 0)
    assert [line["verdict"] for line in ledger(empty_project)] == ["deferred", "accepted"]


def test_deferred_file_that_was_taken_away_is_not_waited_for(empty_project):
    path = put(empty_project, "a.csv", GOOD[:60], fresh=True)
    assert ingest_new_data(empty_project).deferred == 1
    path.unlink()
    assert ingest_new_data(empty_project).deferred == 0


def test_whole_file_is_taken_however_fresh(empty_project):
    put(empty_project, "a.csv", GOOD, fresh=True)
    assert ingest_new_data(empty_project).rows == 4


def test_file_that_grows_brings_only_its_new_rows(empty_project):
    put(empty_project, "a.csv", lines(*ROWS[:2]), fresh=True)
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GOOD, fresh=True)
    ingest_new_data(empty_project)
    assert counts(ledger(empty_project)[1]) == (2, 0, 2)


def test_killed_while_writing_nothing_is_lost_or_doubled(empty_project, monkeypatch):
    put(empty_project, "a.csv", GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            ingest_new_data(empty_project)
    assert ingest_new_data(empty_project).rows == 4
    assert empty_project.final_data.read_text() == GOOD


def test_order_of_files_does_not_depend_on_the_disk(empty_project):
    for name in ("b.csv", "a.csv", "C.csv"):
        put(empty_project, name, lines(f"{name[0]},1,2,3,0"))
    ingest_new_data(empty_project)
    assert [row[0] for row in final_rows(empty_project)] == ["C", "a", "b"]


# ---- other formats


def test_gzip_and_parquet_give_the_same_rows_as_csv(tmp_path):
    rows = make_rows(50).assign(lastmonth_activity=lambda df: df.lastmonth_activity.astype(float))
    rows.loc[3, "lastmonth_activity"] = None
    found = []
    for kind in ("csv", "csv.gz", "parquet"):
        config = write_config(tmp_path / kind)
        path = config.input_folder / f"a.{kind}"
        rows.to_parquet(path) if kind == "parquet" else rows.to_csv(path, index=False)
        assert ingest_new_data(config).rows == 50
        found.append(config.final_data.read_bytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("practice", "source", "rows"), [(1, 0, 26), (0, 1, 26), (1, 1, 52)])
def test_course_files(empty_project, practice, source, rows):
    if not COURSE.is_dir():
        pytest.skip(f"{COURSE} is not there; name the folder of the tables with ATTRITION_TABLES")
    folders = ["practicedata"] * practice + ["sourcedata"] * source
    for path in [path for folder in folders for path in (COURSE / folder).glob("*.csv")]:
        put(empty_project, path.name, path.read_bytes())
    result = ingest_new_data(empty_project)
    assert result.rows == rows
    assert sum(line.records for line in result.lines) == 36 * practice + 26 * source
    assert sum(line.rejected for line in result.lines) == 0


# ---- other columns


def test_outcome_values_named_by_config(tmp_path):
    columns = {
        "client": "id",
        "outcome": "status",
        "left": "Gone",
        "stayed": "Here",
        "numeric": ["x"],
    }
    config = write_config(tmp_path, columns=columns)
    put(config, "a.csv", "id,x,status\na,-1,gone\nb,2,HERE\nc,3,\nd,4,1\n")
    ingest_new_data(config)
    assert final_rows(config) == [["a", "-1", "1"], ["b", "2", "0"], ["c", "3", ""]]
    assert "expected 'Gone' or 'Here'" in rejected(config)[0]["reason"]


def test_table_without_clients_names_each_row_by_its_content(tmp_path):
    columns = {"client": None, "outcome": "left", "numeric": ["x"], "categorical": ["kind"]}
    config = write_config(tmp_path, columns=columns)
    put(config, "a.csv", "x,kind,left\n1,a,0\n1,a,0\n1,b,1\n")
    ingest_new_data(config)
    rows = final_rows(config)
    assert config.final_data.read_text().splitlines()[0] == "client,x,kind,left"
    assert [row[1:] for row in rows] == [["1", "a", "0"], ["1", "b", "1"]]
    assert rows[0][0] != rows[1][0]
    assert counts(ledger(config)[0]) == (2, 0, 1)


def test_numeric_ranges_and_whole_numbers_come_from_config(tmp_path):
    numeric = {"age": {"minimum": 18, "maximum": 99, "integer": True}, "score": {}}
    config = write_config(tmp_path, columns={"numeric": numeric})
    bad = ["a,17,0,0", "b,100,0,0", "c,20.5,0,0"]
    good = ["d,18,-7,0", "e,99.0,2,0", "f,,1.5,0"]
    put(config, "a.csv", lines(*bad, *good, header="corporation,age,score,exited"))
    ingest_new_data(config)
    codes = [row["reason"].split(":")[0] for row in rejected(config)]
    assert codes == ["OUT_OF_RANGE", "OUT_OF_RANGE", "NOT_INTEGER"]
    assert [row[1] for row in final_rows(config)] == ["18", "99", ""]


def test_time_of_an_observation_is_kept_as_utc(tmp_path):
    config = write_config(tmp_path, columns={"numeric": ["x"], "time": "seen"})
    rows = ["a,2026-03-01,1,0", "b,2026-03-01T12:30:00+02:00,1,0", "c,,1,0", "d,soon,1,0"]
    put(config, "a.csv", lines(*rows, header="corporation,seen,x,exited"))
    ingest_new_data(config)
    assert [row[1] for row in final_rows(config)] == ["2026-03-01", "2026-03-01T10:30:00Z", ""]
    assert rejected(config)[0]["reason"].startswith("BAD_TIME: seen is 'soon'")


def test_missing_markers_come_from_config(tmp_path):
    config = write_config(tmp_path, missing_markers=["", "unknown"])
    put(config, "a.csv", lines("a,unknown,1,1,0", "b,NA,1,1,0"))
    ingest_new_data(config)
    assert final_rows(config) == [["a", "", "1", "1", "0"]]


def test_other_columns_in_config_read_everything_again(empty_project):
    put(empty_project, "a.csv", lines("a,1,2,3,0", "b,-1,2,3,0"))
    ingest_new_data(empty_project)
    config = reconfigure(empty_project, columns={"numeric": ["lastmonth_activity"]})
    ingest_new_data(config)
    assert final_rows(config) == [["a", "1", "0"], ["b", "-1", "0"]]
    assert rejected(config) == []
    assert [line["source"] for line in ledger(config)] == ["a.csv"]


def test_other_columns_are_refused_when_a_source_is_gone(empty_project):
    put(empty_project, "a.csv", GOOD)
    put(empty_project, "gone.csv", lines("a,1,2,3,0"))
    ingest_new_data(empty_project)
    (empty_project.input_folder / "gone.csv").unlink()
    config = reconfigure(empty_project, columns={"numeric": ["lastmonth_activity"]})
    before = folder_bytes(config)
    with pytest.raises(AttritionError, match=r"gone\.csv"):
        ingest_new_data(config)
    assert folder_bytes(config) == before


# ---- our own files, damaged


@pytest.mark.parametrize(
    "name", ["finaldata.csv", "ingestedfiles.txt", "rejected.csv", "ingestion.json"]
)
@pytest.mark.parametrize("harm", ["emptied", "halved", "flipped", "removed"])
def test_damaged_file_of_ours_stops_the_run(empty_project, name, harm):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    path = empty_project.output_folder / name
    data = path.read_bytes()
    flipped = data[:20] + bytes([data[20] ^ 1]) + data[21:]
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {"emptied": b"", "halved": data[: len(data) // 2], "flipped": flipped}[harm]
        )
    before = folder_bytes(empty_project)
    with pytest.raises(Damaged, match=r"put the copy from a backup back, or .* --repair"):
        ingest_new_data(empty_project)
    assert folder_bytes(empty_project) == before


def test_inner_folder_that_cannot_be_listed_stops_nothing(empty_project, monkeypatch):
    def refuse_inner(folder):
        if folder.name == "private":
            raise SourceError("private: cannot be listed")
        return real(folder)

    real = sources.list_names
    monkeypatch.setattr(sources, "list_names", refuse_inner)
    (empty_project.input_folder / "private").mkdir()
    put(empty_project, "a.csv", GOOD)
    assert ingest_new_data(empty_project).rows == 4
    assert [line["source"] for line in ledger(empty_project)] == ["a.csv", "private"]


def test_file_that_needs_too_much_memory_is_held_and_the_others_go_on(empty_project, monkeypatch):
    def fail(text, **_):
        if text.read(1) == b"x":
            raise MemoryError
        return real(text)

    real = sources.read_csv
    monkeypatch.setattr(sources, "read_csv", fail)
    put(empty_project, "a.csv", "x" * 99)
    put(empty_project, "b.csv", GOOD)
    result = ingest_new_data(empty_project)
    assert result.held == (
        "a.csv: needs more memory than there is; lower max_source_mb, or take the file away",
    )
    assert result.rows == 4


def test_folder_that_is_not_there_is_told(empty_project):
    empty_project.input_folder.rmdir()
    with pytest.raises(AttritionError, match="cannot be listed"):
        ingest_new_data(empty_project)


# ---- by hand


def run_script(config):
    command = [sys.executable, str(ROOT / "ingestion.py"), "--config", str(config.file)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_script_runs_from_a_foreign_folder(empty_project):
    put(empty_project, "a.csv", GOOD)
    done = run_script(empty_project)
    told = "1 new source: 4 records, 4 accepted, 0 refused, 0 duplicates; finaldata.csv has 4 rows"
    assert (done.returncode, done.stdout) == (0, told + "\n")


def test_script_says_which_source_could_not_be_read_and_exits_1(empty_project):
    put(empty_project, "a.csv", GOOD)
    database = {"name": "crm", "url": "sqlite:///nowhere.sqlite", "table": "clients"}
    config = reconfigure(empty_project, databases=[database])
    done = run_script(config)
    assert done.returncode == 1
    assert "cannot be read now: crm: there is no SQLite file" in done.stdout
    assert len(final_rows(config)) == 4


def test_nothing_of_a_clients_row_is_logged(empty_project, caplog):
    put(empty_project, "a.csv", lines(*ROWS, "secret-client,x,1,1,0"))
    with caplog.at_level("DEBUG"):
        ingest_new_data(empty_project)
    assert "secret-client" not in caplog.text


def test_line_reads_back_as_it_was_written(empty_project):
    put(empty_project, "a,\"'b.csv", GOOD)
    result = ingest_new_data(empty_project)
    [found] = ledger_room.read(empty_project).lines.values()
    assert (found,) == result.lines
    assert isinstance(found, Line)


def test_columns_of_the_final_rows_are_those_of_the_config(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    found = sources.read_rows(empty_project.final_data, Columns())
    assert isinstance(found, pd.DataFrame)
    assert tuple(found.columns) == Columns().table
