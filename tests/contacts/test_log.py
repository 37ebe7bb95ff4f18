"""The contact log: nothing is changed, lost or stored twice, and damage is never passed over."""

import os
import sqlite3
import stat
import threading

import pytest

from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Damaged
from tests.contacts.writers import write_at_once

AT, LATER = "2026-11-28T08:00:00Z", "2026-11-29T08:00:00Z"
SOON = "2026-11-28T08:05:00Z"
CALL = Entry("Acme", "contact", "Ann", outcome="reached", note="called")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "contacts" / "contacts.sqlite"


def append(path, *entries, seen=None, at=AT):
    return log.append(path, entries or [CALL], at, seen)


def execute(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)


def test_entries_come_back_as_they_were_entered(path):
    entry = CALL._replace(
        date="2026-12-05", via="api ::1", risk=0.5, release="r", note="ü\n=1+1 \U0001f600"
    )
    (stored,), is_repeat = append(path, entry)
    assert stored == entry._replace(id=1, key=stored.key, at=AT)
    assert (is_repeat, log.read(path)[0]) == (False, [stored])


def test_before_the_first_entry_there_is_no_log_and_nothing_is_written(path):
    assert log.read(path) == ([], log.NO_SEAL)
    assert log.check(path) == 0
    assert not path.parent.exists()


def test_only_the_owner_and_the_group_can_read_the_log_whatever_the_umask(path):
    before = os.umask(0)
    try:
        append(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET note = 'x'",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries",
        "REPLACE INTO entries SELECT 9, client, kind, by, outcome, note, date, manager, replaces, via,"
        " risk, release, key, at, seal FROM entries",
    ],
)
def test_an_entry_can_neither_be_changed_nor_removed(path, statement):
    append(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        execute(path, statement)
    assert log.check(path) == 1


# ---- sent twice


def test_the_same_key_twice_is_one_entry_as_it_was_stored_first(path):
    first = append(path, CALL._replace(key="k"))
    append(path, CALL._replace(note="other"))
    again = append(path, CALL._replace(key="k", via="api ::1"), at=LATER, seen=0)
    assert again == (first.entries, True)
    assert log.check(path) == 2


def test_an_entry_is_found_by_its_key(path, tmp_path):
    stored = log.append(path, [CALL._replace(key="k")], AT).entries[0]
    assert log.find_key(path, "k") == stored
    assert log.find_key(path, "other") is None
    assert log.find_key(tmp_path / "none.sqlite", "k") is None


def test_a_key_of_another_entry_is_refused(path):
    append(path, CALL._replace(key="k"))
    with pytest.raises(log.KeyTaken):
        append(path, CALL._replace(key="k", note="other"))
    with pytest.raises(log.KeyTaken):
        append(path, CALL._replace(key="new"), CALL._replace(key="new", client="B"))
    assert log.check(path) == 1


def test_a_form_sent_twice_is_one_entry(path):
    first = append(path, seen=0)
    assert append(path, seen=0, at=SOON) == (first.entries, True)
    append(path, CALL._replace(client="another"), seen=0)
    assert append(path, seen=0).is_repeat
    assert append(path, seen=1).is_repeat is False


def test_the_same_form_a_day_later_is_another_contact_of_which_the_writer_sees_the_first(path):
    append(path, seen=0)
    with pytest.raises(log.Stale):
        append(path, seen=0, at=LATER)
    assert append(path, seen=1, at=LATER).is_repeat is False


@pytest.mark.parametrize("risk", [float("nan"), float("inf"), -0.0])
def test_a_risk_that_sqlite_stores_otherwise_does_not_damage_the_log(path, risk):
    append(path, CALL._replace(risk=risk))
    assert log.check(path) == 1


def test_a_form_sent_again_after_its_entry_was_withdrawn_is_stale(path):
    append(path, seen=0)
    append(path, Entry("Acme", "withdrawal", "Ann", replaces=1))
    with pytest.raises(log.Stale) as error:
        append(path, seen=0)
    assert [entry.id for entry in error.value.newer] == [1, 2]


def test_a_stale_form_stores_nothing_and_names_what_is_new(path):
    append(path)
    theirs = append(path, CALL._replace(by="Bob")).entries
    with pytest.raises(log.Stale) as error:
        append(path, CALL._replace(client="B"), CALL, seen=1)
    assert error.value.newer == tuple(theirs)
    assert log.check(path) == 2
    assert append(path, CALL._replace(client="B"), seen=1).is_repeat is False


def test_several_entries_are_stored_all_or_none(path):
    bad = Entry("B", "withdrawal", "Ann", replaces=1)
    with pytest.raises(log.NotReplaceable):
        append(path, CALL, bad)
    assert log.check(path) == 0
    many = [CALL._replace(client=name) for name in "ABC"]
    assert [entry.id for entry in append(path, *many, seen=0).entries] == [1, 2, 3]
    assert append(path, *many, seen=0).is_repeat


# ---- corrections


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"replaces": 9}, "entry 9 is not an entry of this client"),
        ({"replaces": 1, "client": "B"}, "entry 1 is not an entry of this client"),
        ({"replaces": 1, "kind": "override"}, "is of the kind contact, not override"),
        ({"replaces": 2}, "was replaced by entry 3"),
        ({"replaces": 3}, "entry 3 is not an entry of this client"),
    ],
)
def test_only_an_entry_of_the_client_that_counts_can_be_replaced(path, change, problem):
    append(path)
    append(path)
    append(path, Entry("Acme", "withdrawal", "Ann", replaces=2))
    with pytest.raises(log.NotReplaceable, match=problem):
        append(path, CALL._replace(**change))
    assert log.check(path) == 3


# ---- damage


@pytest.mark.parametrize("column", ["client", "note", "at", "risk", "seal", "replaces"])
def test_a_changed_value_is_damage(path, column):
    append(path, CALL, CALL)
    execute(path, "DROP TRIGGER no_update", f"UPDATE entries SET {column} = 7 WHERE id = 1")
    with pytest.raises(Damaged, match=r"entry 1 is not what was entered; restore a backup"):
        log.read(path)


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_entry_is_damage(path, number):
    append(path, CALL, CALL, CALL)
    execute(path, "DROP TRIGGER no_delete", f"DELETE FROM entries WHERE id = {number}")
    with pytest.raises(Damaged):
        log.check(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_log_is_damage_and_stays_as_it_is(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for work in (log.read, log.check, append):
        with pytest.raises(Damaged, match="restore a backup"):
            work(path)
    assert path.read_bytes() == content


def test_a_link_or_a_folder_in_place_of_the_log_is_damage(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged):
        append(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(Damaged):
        log.read(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_of_a_newer_version_is_neither_read_nor_damaged(path):
    append(path)
    execute(path, "PRAGMA user_version = 99")
    with pytest.raises(AttritionError, match="format 99") as error:
        append(path)
    assert not isinstance(error.value, Damaged)


def test_a_log_in_use_elsewhere_is_busy_not_damaged(path, monkeypatch):
    append(path)
    monkeypatch.setattr(log, "BUSY_S", 0)
    with sqlite3.connect(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AttritionError, match="try again") as error:
            append(path)
    assert not isinstance(error.value, Damaged)
    assert log.check(path) == 1


def test_wal_mode_that_another_program_chose_is_ended(path):
    append(path)
    execute(path, "PRAGMA journal_mode = WAL")
    append(path, CALL._replace(note="second"))
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("delete",)


# ---- what was read before


def test_only_what_is_new_is_read(path):
    append(path)
    entries, seal = log.read(path)
    assert log.read(path, 1, seal) == ([], seal)
    (second,), _ = append(path, CALL._replace(note="second"))
    assert log.read(path, 1, seal)[0] == [second]
    assert log.read(path) == ([*entries, second], log.read(path, 1, seal)[1])


def test_a_log_that_lacks_what_was_read_before_is_noticed(path):
    append(path)
    _, seal = log.read(path)
    path.unlink()
    with pytest.raises(log.Replaced):
        log.read(path, 1, seal)
    append(path, CALL._replace(note="other"))
    with pytest.raises(log.Replaced):
        log.read(path, 1, seal)
    with pytest.raises(log.Replaced):
        log.read(path, 2, seal)


def test_entries_that_a_list_counted_are_missed(path):
    log.check_counted(path, "")
    append(path, CALL, CALL)
    _, seal = log.read(path)
    append(path)
    log.check_counted(path, f"2 {seal}")
    with pytest.raises(
        Damaged, match="has 3 entries, and the last list counted 15; restore a backup"
    ):
        log.check_counted(path, f"15 {seal}")
    with pytest.raises(Damaged, match="entry 2 is not the one"):
        log.check_counted(path, "2 other")
    path.unlink()
    with pytest.raises(Damaged, match=r"is missing, and the last list counted 2 .*--accept-log"):
        log.check_counted(path, f"2 {seal}")


# ---- several writers


def test_each_entry_of_many_threads_and_processes_is_stored_once(path):
    writers = write_at_once(path)
    assert [writer.wait() for writer in writers] == [0, 0]
    notes = [entry.note for entry in log.read(path)[0]]
    expected = {f"{p} {t} {i}" for p in range(2) for t in range(8) for i in range(56 + (t < 2))}
    assert len(expected) == 900
    assert (len(notes), set(notes)) == (900, expected)
    assert log.check(path) == 900


def test_the_first_entries_of_many_threads_make_one_log(path):
    start = threading.Barrier(8)

    def write(number):
        start.wait()
        append(path, CALL._replace(note=str(number)))

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.note for entry in log.read(path)[0]) == list("01234567")
