import logging
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attrition.config import Columns
from attrition.errors import AttritionError, Damaged, Unaccounted
from attrition.rows import ledger, segments, typed_rows
from attrition.rows.ledger import Line
from attrition.storage import files, history, tables
from ingestion import ingest_new_data, main
from tests.campaigns.catalogue import GOOD, ROWS, lines
from tests.conftest import read_rows, write_config
from tests.support import final_rows, put, row_ids


def keep(config, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(config.output_folder, folder)


def put_back(config, folder):
    shutil.rmtree(config.output_folder)
    shutil.copytree(folder, config.output_folder)


def test_numbers_that_are_given_again_belong_to_another_lineage(empty_project, monkeypatch):
    lineages = set()
    for hour in (1, 2):
        monkeypatch.setattr(files, "utc_now", lambda hour=hour: f"2026-03-01T0{hour}:00:00Z")
        put(empty_project, "a.csv", lines(*ROWS[:2]))
        ingest_new_data(empty_project)
        ingest_new_data(empty_project)
        lineages.add(ledger.read_lineage(empty_project))
        shutil.rmtree(empty_project.output_folder)
        empty_project.history.unlink()
    assert len(lineages) == 2


@pytest.fixture
def restored(empty_project, tmp_path):
    """A project whose ingested data of the first run was put back after the second."""
    put(empty_project, "a.csv", lines(*ROWS[:2]))
    ingest_new_data(empty_project)
    keep(empty_project, tmp_path / "backup")
    put(empty_project, "b.csv", lines(*ROWS[2:]))
    ingest_new_data(empty_project)
    put_back(empty_project, tmp_path / "backup")
    return empty_project


# ---- the chain of generations


def test_each_record_names_the_one_before(empty_project):
    seals = []
    for name, row in zip("ab", ROWS, strict=False):
        put(empty_project, f"{name}.csv", lines(row))
        ingest_new_data(empty_project)
        record = files.read_record(empty_project.ingestion_record)
        assert record is not None
        assert record["previous"] == (seals[-1] if seals else "")
        seals.append(record["seal"])
    found = history.read_generations(empty_project.history)
    assert [(row["generation"], row["seal"]) for row in found] == [(1, seals[0]), (2, seals[1])]


def test_older_state_is_not_taken_for_the_present_one(restored):
    with pytest.raises(Damaged, match=r"is generation 1 .* --adopt"):
        ingest_new_data(restored)


def test_older_state_is_adopted_on_request_and_made_good(restored):
    assert main(["--config", str(restored.file), "--adopt", "--quiet"]) == 0
    assert [row[0] for row in final_rows(restored)] == ["acme", "bolt", "corp", "dune"]
    assert ingest_new_data(restored).up_to_date
    assert [row["generation"] for row in history.read_generations(restored.history)][-1] == 3


def test_state_of_another_history_is_not_taken_for_ours(restored, tmp_path):
    ingest_new_data(restored, adopt=True)
    keep(restored, tmp_path / "ours")
    put(restored, "c.csv", lines("x,1,2,3,0"))
    history.save(restored.history, "generations", [{"generation": 3, "seal": "other", "at": ""}])
    with pytest.raises(Damaged, match="but another one, 3"):
        ingest_new_data(restored)


def test_emptied_folder_is_not_a_new_beginning(restored):
    shutil.rmtree(restored.output_folder)
    with pytest.raises(Damaged, match=r"is empty, but 2 generations .* --adopt"):
        ingest_new_data(restored)
    assert ingest_new_data(restored, adopt=True).rows == 4


def test_state_ahead_of_the_history_is_a_run_that_died_between_the_two(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    empty_project.history.unlink()
    assert ingest_new_data(empty_project).up_to_date


# ---- the account


@pytest.mark.parametrize("counts", [(4, 3, 0, 0), (4, 4, 1, 0), (0, 0, 0, 1)])
def test_line_that_does_not_add_up_is_never_written(counts):
    with pytest.raises(Unaccounted, match="nothing was written"):
        ledger.check_line(Line("now", "a.csv", "0", *counts))


def make_accepted(*rows):
    """Rows of finaldata.csv as a source delivers them, none of them known."""
    columns = Columns()
    texts = typed_rows.parse_lines("".join(f"{row}\n" for row in rows).encode(), columns)
    everything = {**texts, **typed_rows.compute_hashes(texts, columns)}
    return pa.record_batch({**everything, ledger.REPLACES: pa.array([False] * len(rows))})


def test_rows_that_their_account_does_not_know_are_never_written(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    before = {path: path.read_bytes() for path in empty_project.output_folder.iterdir()}
    known = ledger.read(empty_project)
    known.add_rows(make_accepted("x,1,2,3,1"))
    with pytest.raises(Unaccounted, match="expected 5 rows, but the sources add up to 4"):
        known.write("now")
    known.close()
    assert {path: path.read_bytes() for path in empty_project.output_folder.iterdir()} == before


@pytest.mark.parametrize("lost", ["lines", "rows"])
def test_row_lost_on_the_way_to_the_disk_is_noticed(empty_project, lost):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    known = ledger.read(empty_project)
    known.add_line(Line("now", "b.csv", "0", 1, 1, 0, 0, ledger.ACCEPTED))
    known.add_rows(make_accepted("x,1,2,3,1"))
    if lost == "lines":
        known._added.truncate(0)
    else:
        vars(known)["_new"] = segments.RowSpool(None)
    with pytest.raises(Unaccounted, match="expected 5 rows, but the file would have 4"):
        known.write("now")
    known.close()


def test_second_copy_of_a_row_replaces_the_first_wherever_both_stand(empty_project):
    put(empty_project, "a.csv", lines("a,1,2,3,", "b,1,2,3,"))
    put(empty_project, "b.csv", lines("a,1,2,3,0"))
    put(empty_project, "c.csv", lines("a,1,2,3,1"))
    ingest_new_data(empty_project)
    assert final_rows(empty_project) == [["b", "1", "2", "3", ""], ["a", "1", "2", "3", "1"]]
    record = files.read_record(empty_project.ingestion_record)
    assert record is not None
    assert (record["rows"], record["replaced"], record["withdrawn"]) == (2, 2, 0)


# ---- the typed twin

WIDE = {
    "client": "who",
    "outcome": "gone, or not",
    "numeric": ["n", "row_id", "worth"],
    "categorical": ["kind", "a.b"],
    "time": "seen",
    "value": "worth",
    "manager": "by",
}
WIDE_HEADER = 'who,seen,n,row_id,worth,kind,a.b,by,"gone, or not"'
WIDE_ROWS = (
    'NA,2026-01-01,1,2.50,1e15,NA,nan,"O\'Neil, ""Kim""",1',
    '"a,b",,0.1,-0,5e-324,"say ""hi""",x,,0',
    '"say ""hi""",2026-01-02T03:04:05Z,,-1.5e-7,0.30000000000000004,é,null,NA,',
    "Café,,123456789.123,1e14,,=1+1,007,None,yes",
    "007,2026-01-01,,,,x,,,no",
    "nan,,1,1,1,,,,",
)


@pytest.fixture
def wide(tmp_path):
    """A project whose columns hold every kind of text and number."""
    config = write_config(tmp_path, columns=WIDE)
    put(config, "a.csv", "\n".join([WIDE_HEADER, *WIDE_ROWS, ""]))
    assert ingest_new_data(config).rows == len(WIDE_ROWS)
    return config


def check_twin(config):
    """The twin is what its CSV reads as, with the ids and hashes of these rows."""
    columns = config.columns
    expected = typed_rows.typed(tables.read_texts(config.final_data), columns)
    found = read_rows(config)
    pd.testing.assert_frame_equal(found[list(columns.table)], expected, check_exact=True)
    np.testing.assert_array_equal(found[typed_rows.ROW_ID], row_ids(expected, columns))
    ids = typed_rows.input_ids(expected, columns)
    np.testing.assert_array_equal(found[typed_rows.INPUT_ID], ids)
    text = expected[[*columns.table[:-1]]].astype(str)
    assert ids.tolist() == pd.util.hash_pandas_object(text, index=False).tolist()
    hashes = typed_rows.client_hashes(expected[columns.client_name])
    np.testing.assert_array_equal(found[typed_rows.CLIENT_HASH], hashes)


def test_twin_of_hostile_text_and_numbers_is_what_the_rows_read_as(wide):
    check_twin(wide)
    assert read_rows(wide)["who"].tolist()[:2] == ["NA", "a,b"]
    assert read_rows(wide)["worth"].tolist()[:2] == [1e15, 5e-324]


def test_twin_is_committed_with_its_rows(wide):
    record = files.read_record(wide.ingestion_record)
    assert record is not None
    assert record["outputs"][wide.rows.name] == files.sha256_file(wide.rows)


def test_twin_that_grew_equals_one_that_is_written_at_once(wide, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 4)
    put(
        wide, "b.csv", "\n".join([WIDE_HEADER, WIDE_ROWS[2] + "1", "x,,1,,,,,,", "y,,1,,,,,,0", ""])
    )
    ingest_new_data(wide)
    check_twin(wide)
    assert len(read_rows(wide)) == len(WIDE_ROWS) + 2
    grown = wide.rows.read_bytes()
    wide.rows.unlink()
    ingest_new_data(wide)
    assert wide.rows.read_bytes() == grown


def test_twin_of_no_rows_has_every_column(empty_project):
    put(empty_project, "a.csv", lines())
    ingest_new_data(empty_project)
    check_twin(empty_project)


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")]
)
def test_damaged_twin_is_not_read_and_made_again_by_ingestion(wide, damage, caplog):
    before = wide.rows.read_bytes()
    damage(wide.rows)
    with pytest.raises(Damaged, match=r"finaldata\.parquet: is not what was ingested"):
        read_rows(wide)
    with caplog.at_level(logging.WARNING):
        assert not ingest_new_data(wide).up_to_date
    assert "finaldata.parquet: is not what was written" in caplog.text
    assert wide.rows.read_bytes() == before
    assert ingest_new_data(wide).up_to_date


def test_rows_that_were_changed_by_hand_are_not_read(wide):
    wide.final_data.write_bytes(wide.final_data.read_bytes()[:-2])
    with pytest.raises(Damaged, match=r"finaldata\.csv: is not what was ingested"):
        read_rows(wide)


def test_rows_that_are_not_there_are_asked_of_ingestion(empty_project):
    with pytest.raises(AttritionError, match=r"run ingestion\.py first"):
        read_rows(empty_project)


def test_the_line_that_counts_accepted_rows_is_kept_if_the_same_bytes_come_again(empty_project):
    put(empty_project, "a.csv", lines(*ROWS[:2]))
    ingest_new_data(empty_project)
    account = ledger.read(empty_project)
    [line] = account.lines.values()
    again = line._replace(accepted=0, duplicates=line.records, reason="CHANGED; DUP_ROWS: 2")
    assert not account.add_line(again)
    assert [*account.lines.values()] == [line]
    account.close()
