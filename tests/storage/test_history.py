import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from attrition.errors import AttritionError, Damaged
from attrition.storage import history
from tests.conftest import ROOT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "history.sqlite"


def save_runs(path, *names):
    history.save(path, "runs", [{"run": name, "started_at": name} for name in names])


def names(path, **options):
    return [row["run"] for row in history.read_runs(path, **options)]


def test_before_the_first_run_there_is_no_history_and_reading_makes_none(path):
    assert history.read_runs(path) == []
    assert not path.exists()


def test_what_was_saved_is_read_oldest_first_whatever_the_clock_said(path):
    save_runs(path, "3", "1", "2")
    assert names(path) == ["3", "1", "2"]


def test_the_newest_rows_are_read_where_there_are_many(path):
    save_runs(path, *"12345")
    assert names(path, limit=2) == ["4", "5"]


def test_rows_of_one_second_keep_the_order_of_their_saving(path):
    rows = [{"run": name, "started_at": "same"} for name in "zyx"]
    history.save(path, "runs", rows)
    assert names(path) == ["z", "y", "x"]


def test_a_row_saved_again_replaces_itself(path):
    save_runs(path, "1")
    history.save(path, "runs", [{"run": "1", "started_at": "1", "outcome": "done"}])
    assert [row["outcome"] for row in history.read_runs(path)] == ["done"]


def test_steps_are_read_by_name(path):
    rows = [{"step": step, "made": "x", "elapsed_s": 1.5} for step in ("training", "scoring")]
    history.save(path, "steps", rows)
    found = history.read_steps(path, "training")
    assert [(row["step"], row["elapsed_s"]) for row in found] == [("training", 1.5)]


def test_a_deployed_model_is_marked_in_all_of_its_scores(path):
    keys = [("new", "f1"), ("new", "brier"), ("old", "f1")]
    rows = [{"scored_at": "1", "model": m, "set": "test", "metric": metric} for m, metric in keys]
    history.save(path, "scores", rows)
    history.mark_promoted(path, "new")
    assert [row["promoted"] for row in history.read_scores(path)] == [1, 1, None]


@pytest.mark.parametrize(
    "read", [history.read_missing, history.read_drift, history.read_deployments]
)
def test_each_table_is_empty_at_first(path, read):
    save_runs(path, "1")
    assert read(path) == []


def test_columns_whose_names_are_words_of_sql_are_kept(path):
    row = {
        "at": "1",
        "made": "m",
        "column": "select",
        "psi": 0.1,
        "p_value": None,
        "verdict": "act",
    }
    history.save(path, "drift", [row])
    assert history.read_drift(path) == [row]


def test_all_rows_of_a_save_count_or_none(path):
    save_runs(path, "old")
    with pytest.raises(AttritionError):
        history.save(path, "runs", [{"run": "new"}, {"no_such_column": 1}])
    assert names(path) == ["old"]


@pytest.mark.parametrize("data", [b"not a database" * 100, b"SQLite format 3\x00" + bytes(5000)])
def test_a_file_that_is_no_history_is_told_by_name(path, data):
    path.parent.mkdir()
    path.write_bytes(data)
    for ask in (lambda: save_runs(path, "1"), lambda: history.read_runs(path)):
        with pytest.raises(Damaged, match=r"history.sqlite: the history cannot be"):
            ask()


def test_the_history_is_not_for_everybody(path):
    save_runs(path, "1")
    assert path.stat().st_mode & 0o007 == 0


def test_a_name_with_odd_characters_is_a_path_not_an_address(tmp_path):
    path = tmp_path / "a?mode=memory#%20" / "history.sqlite"
    save_runs(path, "1")
    assert names(path) == ["1"]


KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN")
for i in range(2000):
    connection.execute("INSERT INTO runs (run, reason) VALUES (?, ?)", [str(i), "x" * 500])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_write_that_was_killed_midway_is_undone_by_the_next_reader(path):
    save_runs(path, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("history.sqlite-journal").exists()
    assert names(path) == ["old"]


def test_a_locked_history_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "history.sqlite"
    history.save(path, "runs", [{"run": "1", "started_at": "2026-01-01T00:00:00Z"}])
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **(k | {"timeout": 0})))
    with closing(real(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AttritionError, match="cannot be read or written now") as error:
            history.mark_promoted(path, "model")
    assert not isinstance(error.value, Damaged)


def test_only_the_newest_rows_are_kept(path, monkeypatch):
    monkeypatch.setattr(history, "KEEP", 3)
    for name in "12345":
        save_runs(path, name)
    assert names(path) == ["3", "4", "5"]


def test_a_row_that_must_not_replace_another_is_left_out(path):
    save_runs(path, "1")
    rows = [{"run": "1", "outcome": "died"}, {"run": "2"}]
    history.save(path, "runs", rows, replace=False)
    assert [(row["run"], row["outcome"]) for row in history.read_runs(path)] == [
        ("1", None),
        ("2", None),
    ]


def test_generations_are_kept_by_their_number(path):
    rows = [{"generation": n, "seal": f"s{n}", "at": "2026-01-01T00:00:00Z"} for n in (1, 2)]
    history.save(path, "generations", rows)
    assert history.read_generations(path) == rows


def test_a_history_of_a_newer_format_is_refused_and_not_called_damaged(path):
    save_runs(path, "1")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AttritionError, match="written by a newer version") as error:
        names(path)
    assert not isinstance(error.value, Damaged)


def test_history_of_the_previous_version_gets_the_new_columns_and_keeps_its_rows(
    path, tmp_path, monkeypatch
):
    old = {"step": "training", "made": "x", "elapsed_s": 1.5}
    with monkeypatch.context() as previous:
        columns = "step TEXT, made TEXT, started_at TEXT, elapsed_s REAL, outcome TEXT"
        previous.setitem(history.TABLES, "steps", history.Table(columns, "step, made"))
        previous.setattr(history, "ADDED_COLUMNS", {})
        previous.setattr(history, "VERSION", 3)
        history.save(path, "steps", [old])
    assert history.read_steps(path, "training")[0].get("cpu_s") is None
    history.save(path, "steps", [old | {"made": "y", "cpu_s": 2.5, "peak_mb": 90.1, "rows": 7}])
    history.check(path)
    history.salvage(path, tmp_path / "copy.sqlite")
    for each in (path, tmp_path / "copy.sqlite"):
        rows = history.read_steps(each, "training")
        assert [(row["cpu_s"], row["rows"]) for row in rows] == [(None, None), (2.5, 7)]


def test_history_of_the_previous_version_has_no_message_and_gets_the_tables(path, monkeypatch):
    with monkeypatch.context() as previous:
        for name in ("alerts", "outbox"):
            previous.delitem(history.TABLES, name)
        previous.setattr(history, "VERSION", 4)
        save_runs(path, "1")
    assert history.read_open_alerts(path) == history.read_waiting(path) == []
    alert, row = {"cause": "run", "opened_at": "1"}, {"message": "m", "body": "x"}
    history.save_tables(path, {"alerts": [alert], "outbox": [row]})
    assert [one["cause"] for one in history.read_open_alerts(path)] == ["run"]
    assert [one["message"] for one in history.read_messages(path, ["m", "n"])] == ["m"]
    assert names(path) == ["1"]


def test_rows_of_several_tables_are_saved_together_or_not_at_all(path):
    with pytest.raises(AttritionError):
        history.save_tables(path, {"alerts": [{"cause": "run"}], "outbox": [{"no_column": 1}]})
    assert history.read_open_alerts(path) == []


def fill(path):
    save_runs(path, *map(str, range(40)))
    steps = [{"step": "training", "made": f"{i}", "elapsed_s": i / 7} for i in range(40)]
    history.save(path, "steps", steps)
    scores = [
        {"scored_at": "1", "model": f"{i}", "set": "test", "metric": "f1", "value": i / 9}
        for i in range(100)
    ]
    history.save(path, "scores", scores)


def read_all(path):
    return [history._read(table, path, -1) for table in history.TABLES]


def test_a_flipped_bit_is_noticed_or_changes_nothing_that_is_read(path, tmp_path):
    fill(path)
    expected, data = read_all(path), path.read_bytes()
    rng, other = random.Random(0), tmp_path / "history.sqlite"
    noticed = 0
    # The first page holds the names of tables and columns: half of the flips go there.
    for end in [4096] * 200 + [len(data)] * 200:
        flipped = bytearray(data)
        flipped[rng.randrange(end)] ^= 1 << rng.randrange(8)
        other.write_bytes(flipped)
        try:
            assert read_all(other) == expected
        except AttritionError:
            noticed += 1
    assert noticed > 60


@pytest.mark.parametrize("spoil", ["empty", "folder", "link", "half", "tail"])
def test_what_is_no_history_is_damage_for_reader_and_writer(path, tmp_path, spoil):
    fill(path)
    data = path.read_bytes()
    path.unlink()
    if spoil == "folder":
        path.mkdir()
    elif spoil == "link":
        (tmp_path / "other.sqlite").write_bytes(data)
        path.symlink_to(tmp_path / "other.sqlite")
    else:
        cut = {"empty": b"", "half": data[: len(data) // 2], "tail": data[:-4096] + bytes(4096)}
        path.write_bytes(cut[spoil])
    for ask in (lambda: save_runs(path, "1"), lambda: history.check(path)):
        with pytest.raises(Damaged, match=r"--repair repairs it"):
            ask()


def test_what_can_still_be_read_of_a_damaged_history_is_saved(path, tmp_path):
    fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE runs SET reason = 'changed' WHERE run = '7'")
        connection.commit()
    new = tmp_path / "history.sqlite"
    assert history.salvage(path, new) == 179
    assert [name for name in map(str, range(40)) if name not in names(new)] == ["7"]


def test_nothing_can_be_saved_of_what_is_no_database(tmp_path):
    (tmp_path / "damaged").write_bytes(b"no database" * 1000)
    assert history.salvage(tmp_path / "damaged", tmp_path / "new.sqlite") == 0
    assert history.read_runs(tmp_path / "new.sqlite") == []


def test_runs_that_worked_are_not_pushed_out_by_ticks_that_were_skipped(tmp_path):
    path = tmp_path / "history.sqlite"
    history.save(path, "runs", [{"run": "0", "outcome": "failed"}])
    skipped = [{"run": str(i), "outcome": "skipped"} for i in range(1, 99)]
    history.save(path, "runs", skipped)
    assert [row["run"] for row in history.read_worked_runs(path, 1)] == ["0"]
