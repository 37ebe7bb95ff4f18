import shutil

import pytest

from attrition.data import ledger
from attrition.data.ledger import Line
from attrition.errors import Damaged, Unaccounted
from attrition.storage import files, history
from ingestion import ingest_new_data, main
from tests.campaigns.catalogue import GOOD, ROWS, lines
from tests.support import final_rows, put


def keep(config, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(config.output_folder, folder)


def put_back(config, folder):
    shutil.rmtree(config.output_folder)
    shutil.copytree(folder, config.output_folder)


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


def test_state_of_before_generations_were_counted_goes_on(empty_project):
    put(empty_project, "a.csv", lines("a,1,2,3,", *ROWS))
    ingest_new_data(empty_project)
    put(empty_project, "b.csv", lines("a,1,2,3,0"))
    ingest_new_data(empty_project)
    record = files.read_record(empty_project.ingestion_record)
    assert record is not None
    kept = ("ingested_at", "inputs", "marks", "watermarks", "rows", "totals", "sources", "outputs")
    old = {key: record[key] for key in kept}
    for path in (empty_project.withdrawn, empty_project.table_rows):
        path.unlink()
        del old["outputs"][path.name]
    files.write_bytes(empty_project.ingestion_record, files.encode(files.sealed(old)))
    empty_project.history.unlink()
    ingest_new_data(empty_project)
    assert ingest_new_data(empty_project).up_to_date
    put(empty_project, "c.csv", lines("c,1,2,3,0"))
    assert ingest_new_data(empty_project).rows == 6
    record = files.read_record(empty_project.ingestion_record)
    assert record is not None
    assert (record["generation"], record["replaced"]) == (2, 1)


# ---- the account


@pytest.mark.parametrize("counts", [(4, 3, 0, 0), (4, 4, 1, 0), (0, 0, 0, 1)])
def test_line_that_does_not_add_up_is_never_written(counts):
    with pytest.raises(Unaccounted, match="nothing was written"):
        ledger.check_line(Line("now", "a.csv", "0", *counts))


def test_rows_that_their_account_does_not_know_are_never_written(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    before = {path: path.read_bytes() for path in empty_project.output_folder.iterdir()}
    known = ledger.read(empty_project)
    known.add_rows([b"0" * 16], ["1"], ["x,1,2,3,1"])
    with pytest.raises(Unaccounted, match="5 rows are known, but the account says 4"):
        known.write("now")
    known.close()
    assert {path: path.read_bytes() for path in empty_project.output_folder.iterdir()} == before


def test_row_lost_on_the_way_to_the_disk_is_noticed(empty_project):
    put(empty_project, "a.csv", GOOD)
    ingest_new_data(empty_project)
    known = ledger.read(empty_project)
    known.add_line(Line("now", "b.csv", "0", 1, 1, 0, 0, ledger.ACCEPTED))
    known.add_rows([b"0" * 16], ["1"], [])
    with pytest.raises(Unaccounted, match="5 rows are known, but those written are 4"):
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
