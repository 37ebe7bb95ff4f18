import errno
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from attrition.config import Columns
from attrition.errors import AttritionError, Damaged, SourceError
from attrition.rows import ledger as ledger_room
from attrition.rows import typed_rows
from attrition.rows.ledger import Line
from attrition.sources import files as source_files
from attrition.storage import files
from ingestion import ingest_new_data, main
from tests.campaigns.catalogue import GOOD, HEADER, ROWS, TELCO, lines
from tests.conftest import ROOT, TABLES, make_rows, write_config
from tests.earlier import become_earlier
from tests.support import (
    counts,
    final_rows,
    folder_bytes,
    ledger,
    put,
    reconfigure,
    rejected,
    settle,
)

COURSE = TABLES / "course"


def test_name_that_is_not_utf8_is_shown_with_its_bytes(empty_project):
    put(empty_project, os.fsdecode(b"\xff\n.csv"), GOOD)
    ingest_new_data(empty_project)
    assert ledger(empty_project)[0]["source"] == r"\xff\n.csv"


def test_clean_file_is_ingested_without_pandas(empty_project):
    put(empty_project, "a.csv", GOOD)
    code = (
        "import sys, ingestion\n"
        f"assert ingestion.main(['--quiet', '--config', {str(empty_project.file)!r}]) == 0\n"
        "assert 'pandas' not in sys.modules\n"
        "import pyarrow\n"
        "print(pyarrow.array([1]).to_pandas().tolist())  # what needs it still gets it"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("\n[1]\n"), done.stderr


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
    assert refused["reason"] == "CONFLICT: exited is 0 here and the opposite elsewhere; row refused"


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
    assert line["sha256"] == files.sha256_bytes(GOOD.encode())


def test_record_counts_all_that_was_ever_judged(empty_project):
    put(empty_project, "a.csv", lines(*ROWS, ROWS[0], "bad,x,1,1,0"))
    ingest_new_data(empty_project)
    put(empty_project, "b.csv", GOOD)
    ingest_new_data(empty_project)
    record = files.read_record(empty_project.ingestion_record)
    assert record["totals"] == {"records": 10, "accepted": 4, "rejected": 1, "duplicates": 5}
    assert (record["rows"], record["sources"]) == (4, 2)


# ---- running again


def test_second_run_says_nothing_new_and_changes_no_byte(empty_project):
    put(empty_project, "a.csv", lines(*ROWS, "bad,x,1,1,0"))
    put(empty_project, "notes.txt", "hello")
    put(empty_project, "held.csv", "")
    put(empty_project, "being_written.csv", "", up_to_date=True)
    (empty_project.input_folder / "link.csv").symlink_to("a.csv")
    first = ingest_new_data(empty_project)
    before = folder_bytes(empty_project)
    second = ingest_new_data(empty_project)
    assert not first.up_to_date
    assert second.up_to_date
    assert second.summary().startswith("nothing new")
    assert (second.seal, second.deferred) == (first.seal, 1)
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
    assert ingest_new_data(empty_project).up_to_date


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
    put(empty_project, "a.csv", text, up_to_date=True)
    result = ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (line["verdict"], counts(line)) == ("deferred", (0, 0, 0))
    assert line["reason"].startswith(code)
    assert (result.rows, result.deferred) == (0, 1)


def test_unfinished_file_is_judged_once_it_has_settled(empty_project):
    path = put(empty_project, "a.csv", GOOD[:-1], up_to_date=True)
    ingest_new_data(empty_project)
    settle(path)
    result = ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (line["verdict"], counts(line), result.deferred) == ("accepted", (4, 0, 0), 0)


def test_deferred_file_is_taken_when_it_is_whole(empty_project):
    put(empty_project, "a.csv", GOOD[:60], up_to_date=True)
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GOOD, up_to_date=True)
    result = ingest_new_data(empty_project)
    assert (result.rows, result.deferred) == (4, 0)
    assert [line["verdict"] for line in ledger(empty_project)] == ["deferred", "accepted"]


def test_deferred_file_that_was_taken_away_is_not_waited_for(empty_project):
    path = put(empty_project, "a.csv", GOOD[:60], up_to_date=True)
    assert ingest_new_data(empty_project).deferred == 1
    path.unlink()
    assert ingest_new_data(empty_project).deferred == 0


def test_whole_file_is_taken_however_fresh(empty_project):
    put(empty_project, "a.csv", GOOD, up_to_date=True)
    assert ingest_new_data(empty_project).rows == 4


def test_file_that_grows_brings_only_its_new_rows(empty_project):
    put(empty_project, "a.csv", lines(*ROWS[:2]), up_to_date=True)
    ingest_new_data(empty_project)
    put(empty_project, "a.csv", GOOD, up_to_date=True)
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
    assert [row[1:] for row in rows] == [["1", "a", "0"], ["1", "a", "0"], ["1", "b", "1"]]
    assert rows[1][0] == f"{rows[0][0]}-2"
    assert rows[2][0] not in (rows[0][0], rows[1][0])
    assert counts(ledger(config)[0]) == (3, 0, 0)


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


@pytest.mark.parametrize(
    "markers",
    [
        ("NULL", "nan", "n/a", "<NA>", "#N/A", "\\N", "NaT", "(blank)", "#DIV/0!", "#VALUE!"),
        ("Null", "NAN", "N/a", "#n/a", "\\n", "(Leer)", "-", "\u00a0"),
        ("#NV", "#BEZUG!", "#WERT!", "k.A."),
        ("1.#IND", "-NaN", "nil", "--", "\u2013", "."),
    ],
)
def test_markers_of_databases_and_spreadsheets_are_missing(empty_project, markers):
    rows = [f"c{i},{marker},{i},3,{i % 2}" for i, marker in enumerate(markers)]
    put(empty_project, "a.csv", lines(*rows))
    ingest_new_data(empty_project)
    assert counts(ledger(empty_project)[0]) == (len(markers), 0, 0)
    assert {row[1] for row in final_rows(empty_project)} == {""}


@pytest.mark.parametrize("marker", ["NA", "None", "?", "null"])
def test_frequent_marker_in_a_categorical_column_is_a_warning(tmp_path, capsys, marker):
    columns = {"numeric": ["seats"], "categorical": ["region"]}
    config = write_config(tmp_path, columns=columns)
    rows = [f"c{i},{i},{marker if i % 2 else 'EMEA'},0" for i in range(10)]
    path = put(config, "a.csv", "\n".join(["corporation,seats,region,exited", *rows]) + "\n")
    note = f"MARKERS: region {marker!r} in 5 of 10 rows is read as missing, but may be a level"
    assert note in check(config, path, capsys)[1]
    main(["--config", str(config.file)])
    assert note in ledger(config)[0]["reason"]
    [warning] = [row for row in capsys.readouterr().err.splitlines() if "WARNING" in row]
    assert note in warning
    columns["markers_are_levels"] = ["region"]
    ingest_new_data(write_config(tmp_path, columns=columns))
    assert {row[2] for row in final_rows(config)} == {"EMEA", marker}


@pytest.mark.parametrize(
    "more",
    [
        ["Total,43,527,1044,"],
        ["Total,43,527,1044,", "(3 rows)"],
        ["", "Exported by Ann on 2026-03-01", "Filter: all clients"],
        [",,,,"] * 9,
    ],
)
def test_total_and_footers_do_not_make_a_file_bad(empty_project, more):
    put(empty_project, "a.csv", lines(*ROWS[:3], *more))
    ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert counts(line) == (3, len([row for row in more if row]), 0)
    assert line["verdict"] == "accepted"


def test_file_with_numbers_of_two_dialects_is_not_used(empty_project):
    put(empty_project, "a.csv", lines("acme,1.234,1,1,0", 'bolt,"1.234,5",1,1,0', "corp,7,1,1,1"))
    ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert (counts(line), line["verdict"]) == ((0, 3, 0), "quarantined")
    assert "DIALECT: lastmonth_activity has '1.234,5', and '1.234' would be" in line["reason"]


def test_file_of_nothing_but_headings_is_bad(empty_project):
    put(empty_project, "a.csv", lines("acme,,,,", "bolt,,,,"))
    ingest_new_data(empty_project)
    assert ledger(empty_project)[0]["verdict"] == "quarantined"


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
    with pytest.raises(Damaged, match=r"restore it from a backup, or .* --repair"):
        ingest_new_data(empty_project)
    assert folder_bytes(empty_project) == before


def test_inner_folder_that_cannot_be_listed_stops_nothing(empty_project, monkeypatch):
    def refuse_inner(folder):
        if folder.name == "private":
            raise SourceError("private: cannot be listed")
        return real(folder)

    real = source_files.list_names
    monkeypatch.setattr(source_files, "list_names", refuse_inner)
    (empty_project.input_folder / "private").mkdir()
    put(empty_project, "a.csv", GOOD)
    assert ingest_new_data(empty_project).rows == 4
    assert [line["source"] for line in ledger(empty_project)] == ["a.csv", "private"]


def test_file_that_needs_too_much_memory_is_held_and_the_others_go_on(empty_project, monkeypatch):
    def fail(text, *_, **__):
        if text.read(1) == b"x":
            raise MemoryError
        return real(text, fast=False)

    real = source_files.read_csv
    monkeypatch.setattr(source_files, "read_csv", fail)
    put(empty_project, "a.csv", "x" * 99)
    put(empty_project, "b.csv", GOOD)
    result = ingest_new_data(empty_project)
    assert result.unavailable == (
        "a.csv: needs more memory than there is; lower max_source_mb, or remove the file",
    )
    assert result.rows == 4


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EPERM, errno.ETIMEDOUT])
def test_file_that_cannot_be_read_now_is_tried_again(empty_project, monkeypatch, error):
    real = os.open

    def fail(path, *args, **options):
        if str(path).endswith("/a.csv"):
            raise OSError(error, os.strerror(error))
        return real(path, *args, **options)

    put(empty_project, "a.csv", lines("acme,1,2,3,0"))
    put(empty_project, "b.csv", GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        assert main(["--config", str(empty_project.file)]) == 1
        [unavailable] = ingest_new_data(empty_project).unavailable
    assert unavailable.startswith(f"a.csv: cannot be read ({os.strerror(error)}); correct its perm")
    assert [line["source"] for line in ledger(empty_project)] == ["b.csv"]
    assert main(["--config", str(empty_project.file)]) == 0
    assert len(final_rows(empty_project)) == 5


def test_file_that_a_library_stumbles_over_is_held_and_the_others_go_on(empty_project, monkeypatch):
    def stumble(text, *_, **__):
        if text.read(1) == b"x":
            raise KeyError("the row of a client")
        return real(text, fast=False)

    real = source_files.read_csv
    monkeypatch.setattr(source_files, "read_csv", stumble)
    put(empty_project, "a.csv", "x" * 99)
    put(empty_project, "b.csv", GOOD)
    [unavailable] = ingest_new_data(empty_project).unavailable
    assert unavailable.startswith("a.csv: cannot be judged (KeyError in test_ingestion.py:")
    assert "client" not in unavailable
    assert len(final_rows(empty_project)) == 4


def test_folder_that_is_not_there_is_told(empty_project):
    empty_project.input_folder.rmdir()
    with pytest.raises(AttritionError, match="cannot be listed"):
        ingest_new_data(empty_project)


# ---- by hand


def run_script(config, *more, cwd="/"):
    command = [sys.executable, str(ROOT / "ingestion.py"), "--config", str(config.file), *more]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


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
    assert "crm: there is no SQLite file" in done.stderr
    assert len(final_rows(config)) == 4


# ---- a file that is only checked


def tree_of(config):
    """Every path of a project with what it is and holds."""
    paths = sorted(config.file.parent.rglob("*"))
    return {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in paths}


def check(config, path, capsys):
    """What --check prints, and its exit code; nothing may be written."""
    before = tree_of(config)
    code = main(["--config", str(config.file), "--check", str(path)])
    assert tree_of(config) == before
    told = capsys.readouterr()
    return code, told.out or told.err.partition(": ")[2]


def test_check_tells_that_a_good_file_would_be_taken(empty_project, capsys):
    path = put(empty_project, "a.csv", lines(*ROWS, ROWS[0]))
    counts = "5 records, 4 accepted, 0 refused, 1 duplicate"
    told = f"a.csv: would be accepted: {counts}\nreason: DUP_ROWS: 1\n"
    assert check(empty_project, path, capsys) == (0, told)


def test_check_tells_the_first_rows_refused_with_line_and_reason(empty_project, capsys):
    path = put(empty_project, "a.csv", lines(*ROWS * 4, *["echo,x,2,3,0"] * 12))
    code, told = check(empty_project, path, capsys)
    assert (code, len(told.splitlines())) == (0, 2 + 10 + 1)
    reason = "lastmonth_activity is 'x', expected a plain number; if it stands for no value, "
    assert told.splitlines()[2].startswith(f"line 18: BAD_NUMBER: {reason}")
    assert told.endswith("\n... and 2 more\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "\nreason: EMPTY_FILE: 0 bytes\n"),
        ("company\nacme\n", "\nreason: HEADER_MISMATCH: no column corporation, "),
        (lines("a,x,1,1,0"), ": 1 record, 0 accepted, 1 refused, 0 duplicates\nreason: BAD_NUMBER: 1; "),
    ],
)  # fmt: skip
def test_check_of_a_file_of_no_use_exits_1(empty_project, capsys, text, told):
    code, found = check(empty_project, put(empty_project, "a.csv", text), capsys)
    assert code == 1
    assert found.startswith(f"a.csv: would be quarantined{told}")


def test_check_of_a_file_that_may_still_be_written_says_so(empty_project, capsys):
    code, told = check(empty_project, put(empty_project, "a.csv", "", up_to_date=True), capsys)
    assert code == 1
    assert told.startswith(
        "a.csv: would wait, because it may still be being written\nreason: EMPTY_FILE"
    )


def test_check_of_no_file_is_one_clear_line(empty_project, capsys):
    path = empty_project.input_folder / "nowhere\n.csv"
    code, told = check(empty_project, path, capsys)
    assert (code, told) == (1, f"{path.parent}/nowhere\\n.csv: there is no such file\n")


def test_check_of_another_kind_of_name_says_which_are_read(empty_project, capsys):
    code, told = check(empty_project, put(empty_project, "a.xls", GOOD), capsys)
    endings = ".csv, .csv.gz, .parquet, .xlsx, .xlsm"
    expected = f"a.xls: would be skipped (NOT_AN_INPUT_NAME); inputs end in {endings}\n"
    assert (code, told) == (1, expected)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_check_of_what_is_no_file_waits_for_nothing(empty_project, capsys, kind):
    path = empty_project.input_folder / "a.csv"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    code, told = check(empty_project, path, capsys)
    assert code == 1
    assert told.startswith("a.csv: would be quarantined\nreason: ")


def test_check_of_a_file_larger_than_config_allows_does_not_read_it(empty_project, capsys):
    path = empty_project.input_folder / "a.csv"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    code = main(["--config", str(empty_project.file), "--check", str(path)])
    told = capsys.readouterr().out
    assert (code, told) == (
        1,
        "a.csv: would be quarantined\nreason: TOO_LARGE: 3221225472 bytes, at most 2147483648\n",
    )


def test_check_knows_what_was_ingested(empty_project, capsys):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    at = ledger(empty_project)[0]["ingested_at"]
    counted = "4 records, 4 accepted, 0 refused, 0 duplicates"
    told = f"a.csv: not new, it was accepted at {at}: {counted}\n"
    assert check(empty_project, path, capsys) == (0, told)
    code, told = check(empty_project, put(empty_project, "b.csv", GOOD), capsys)
    assert (code, told) == (0, "b.csv: would be skipped\nreason: SAME_CONTENT: as a.csv\n")
    code, told = check(empty_project, put(empty_project, "b.csv", GOOD + "a,1,1,1,0\n"), capsys)
    assert told.startswith(
        "b.csv: would be accepted: 5 records, 1 accepted, 0 refused, 4 duplicates"
    )


def test_check_while_another_run_is_at_work(empty_project, capsys):
    path = put(empty_project, "a.csv", GOOD)
    with files.run_lock(empty_project.lock):
        assert check(empty_project, path, capsys)[0] == 0


def test_check_where_a_run_was_interrupted_touches_nothing(empty_project, capsys, monkeypatch):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    put(empty_project, "b.csv", lines("a,1,1,1,0"))
    real = os.replace

    def die_at_the_second(source, target):
        if target == empty_project.ingested_files:
            pytest.fail("killed")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die_at_the_second)
        with pytest.raises(pytest.fail.Exception):
            ingest_new_data(empty_project)
    code, told = check(empty_project, path, capsys)
    assert code == 1
    assert "a run is writing it, or was interrupted; try again when it is done" in told
    ingest_new_data(empty_project)
    assert check(empty_project, path, capsys)[0] == 0


def test_check_and_explain_from_a_foreign_folder(empty_project):
    put(empty_project, "a.csv", GOOD)
    before = tree_of(empty_project)
    done = run_script(empty_project, "--check", "a.csv", cwd=empty_project.input_folder)
    told = "a.csv: would be accepted: 4 records, 4 accepted, 0 refused, 0 duplicates\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    done = run_script(empty_project, "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    assert tree_of(empty_project) == before


def test_explain_names_every_column_and_what_it_may_hold(tmp_path, capsys):
    config = write_config(tmp_path, **TELCO.settings)
    assert main(["--config", str(config.file), "--explain"]) == 0
    told = capsys.readouterr().out
    for name in TELCO.columns:
        assert f"\n  {name}: " in told
    assert "\n  tenure: a number >= 0, '.' for the fraction, no thousands separator\n" in told
    assert "The outcome Churn: 'Yes' if the client left, 'No' if not; empty for a current" in told
    assert max(map(len, told.splitlines())) <= 100


def test_explain_of_a_table_without_clients_or_markers(tmp_path, capsys):
    columns = {"client": None, "outcome": "left", "numeric": {"x": {"integer": True, "maximum": 9}}}
    config = write_config(tmp_path, columns=columns, missing_markers=[""])
    assert main(["--config", str(config.file), "--explain"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "x: a whole number <= 9" in told
    assert "there is no client column" in told


# ---- a folder that has vanished


def test_folder_that_had_files_and_has_none_is_an_alarm(empty_project, capsys):
    paths = [put(empty_project, f"{i}.csv", lines(row)) for i, row in enumerate(ROWS)]
    ingest_new_data(empty_project)
    for path in paths:
        path.unlink()
    before = folder_bytes(empty_project)
    for _ in range(2):
        assert main(["--config", str(empty_project.file), "--quiet"]) == 1
        told = capsys.readouterr().err
        assert "no file is there, but 4 were before. Mount it or put them back" in told
        assert folder_bytes(empty_project) == before
    put(empty_project, "0.csv", lines(ROWS[0]))
    assert main(["--config", str(empty_project.file), "--quiet"]) == 0


def test_loss_of_a_folder_is_accepted_once_and_for_all(empty_project, capsys):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    path.unlink()
    assert main(["--config", str(empty_project.file), "--quiet", "--accept-loss"]) == 0
    assert main(["--config", str(empty_project.file), "--quiet"]) == 0
    assert "no file is there" not in capsys.readouterr().out
    assert len(final_rows(empty_project)) == 4


def test_folder_of_files_that_are_no_inputs_has_vanished_too(empty_project):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    path.rename(path.with_suffix(".csv.done"))
    assert "no file is there, but 1 were before" in ingest_new_data(empty_project).unavailable[0]


def test_folder_that_may_be_empty_by_config_is_no_alarm(empty_project):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    path.unlink()
    config = reconfigure(empty_project, sources_may_vanish=True)
    assert ingest_new_data(config).unavailable == ()


def test_other_sources_go_on_where_the_folder_has_vanished(empty_project):
    path = put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    path.unlink()
    with closing(sqlite3.connect(empty_project.file.parent / "crm.sqlite")) as connection:
        connection.execute(f"CREATE TABLE clients ({HEADER})")
        connection.execute("INSERT INTO clients VALUES ('zed', 1, 2, 3, 0)")
        connection.commit()
    database = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}
    result = ingest_new_data(reconfigure(empty_project, databases=[database]))
    assert (len(result.unavailable), result.rows) == (1, 5)


def test_folder_that_was_always_empty_is_no_alarm(empty_project):
    assert ingest_new_data(empty_project).unavailable == ()


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
    header = empty_project.final_data.read_text().splitlines()[0]
    assert header == ",".join(Columns().table)


# ---- which delivery each row came by


def delivered_by(config):
    """The source that delivered each row last, and the one that delivered it open."""
    sources = [line.source for line in ledger_room.read_lines(config)] + ["never"]
    rows = ledger_room.read_rows(config, ("corporation", typed_rows.DELIVERED, typed_rows.OPENED))
    rows = rows.set_index("corporation").map(lambda number: sources[number])
    return {name: tuple(row) for name, row in rows.T.items()}


def test_row_knows_the_delivery_of_its_outcome_and_the_one_that_opened_it(empty_project):
    put(empty_project, "may.csv", lines("acme,1,2,3,", "bolt,1,2,3,", "coil,1,2,3,0"))
    ingest_new_data(empty_project)
    put(empty_project, "june.csv", lines("acme,1,2,3,0", "dune,1,2,3,1"))
    ingest_new_data(empty_project)
    put(empty_project, "july.csv", lines("acme,1,2,3,1", "coil,1,2,3,1"))
    ingest_new_data(empty_project)
    assert delivered_by(empty_project) == {
        "acme": ("july.csv", "may.csv"),
        "bolt": ("may.csv", "may.csv"),
        "coil": ("july.csv", "never"),
        "dune": ("june.csv", "never"),
    }


def test_rows_that_open_and_close_in_one_run_know_both_deliveries(empty_project):
    put(empty_project, "a.csv", lines("acme,1,2,3,", "bolt,1,2,3,0"))
    put(empty_project, "b.csv", lines("acme,1,2,3,1"))
    ingest_new_data(empty_project)
    assert delivered_by(empty_project) == {"acme": ("b.csv", "a.csv"), "bolt": ("a.csv", "never")}


def test_rows_of_a_version_without_deliveries_are_kept(empty_project):
    put(empty_project, "may.csv", lines("acme,1,2,3,", "bolt,1,2,3,0"))
    ingest_new_data(empty_project)
    become_earlier(empty_project, without=[empty_project.deliveries.name])
    assert delivered_by(empty_project) == {
        "acme": ("never", "may.csv"),
        "bolt": ("never", "never"),
    }
    put(empty_project, "june.csv", lines("coil,1,2,3,"))
    ingest_new_data(empty_project)
    assert delivered_by(empty_project) == {
        "acme": ("never", "may.csv"),
        "bolt": ("never", "never"),
        "coil": ("june.csv", "june.csv"),
    }


def test_rows_that_are_withdrawn_take_their_delivery_with_them(empty_project):
    url = f"sqlite:///{empty_project.input_folder / 'crm.sqlite'}"
    table = {"name": "crm", "url": url, "table": "clients", "reconcile_hours": 0, "max_shrink": 1}
    config = reconfigure(empty_project, databases=[table])
    put(config, "a.csv", lines("acme,1,2,3,0"))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as crm, crm:
        crm.execute(f"CREATE TABLE clients ({HEADER})")
        crm.executemany("INSERT INTO clients VALUES (?, 1, 2, 3, NULL)", [("bolt",), ("coil",)])
    ingest_new_data(config)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as crm, crm:
        crm.execute("DELETE FROM clients WHERE corporation = 'bolt'")
    put(config, "b.csv", lines("dune,1,2,3,"))
    ingest_new_data(config)
    assert delivered_by(config) == {
        "acme": ("a.csv", "never"),
        "coil": ("crm", "crm"),
        "dune": ("b.csv", "b.csv"),
    }
