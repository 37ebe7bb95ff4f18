"""Backup and restore of the contact log: complete, verified, and nothing is overwritten."""

import shutil
import sqlite3
import threading

import pytest

from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Damaged
from attrition.operations import backup
from tests.conftest import damage

CALL = Entry("Acme", "contact", "Ann", outcome="reached", note="called")
FIRST, SECOND = CALL._replace(key="1"), CALL._replace(key="2")
AT = "2026-11-28T08:00:00Z"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "contacts" / "contacts.sqlite"
    log.append(path, [FIRST, SECOND], AT)
    return path


@pytest.fixture
def saved(path, tmp_path):
    assert backup.back_up(path, tmp_path / "saved.sqlite") == 2
    return tmp_path / "saved.sqlite"


def run(config, *more):
    return backup.main(["--config", str(config.file), *map(str, more)])


def test_two_commands_save_the_log_and_bring_it_back(empty_project, tmp_path, capsys):
    config, saved = empty_project, tmp_path / "saved.sqlite"
    log.append(config.contact_log, [CALL, CALL], AT)
    before = log.read(config.contact_log)
    assert run(config, "--save", saved) == 0
    shutil.rmtree(config.contact_log.parent)
    assert run(config, "--restore", saved) == 0
    assert log.read(config.contact_log) == before
    assert "2 entries saved and verified" in capsys.readouterr().out
    assert run(config, "--save", saved) == 1  # it exists


def test_a_backup_never_replaces_a_file(path, saved):
    before = saved.read_bytes()
    with pytest.raises(AttritionError, match="exists already; name a new file"):
        backup.back_up(path, saved)
    assert saved.read_bytes() == before


def test_a_backup_beside_a_writer_is_a_log_as_it_was_at_one_moment(path, tmp_path):
    def write():
        for i in range(60):
            log.append(path, [CALL._replace(client=name, note=str(i)) for name in "AB"], AT)

    writer = threading.Thread(target=write)
    writer.start()
    counts = [backup.back_up(path, tmp_path / f"{i}.sqlite") for i in range(5)]
    writer.join()
    assert counts == sorted(counts)
    assert all(count % 2 == 0 for count in counts)  # no transaction in half
    assert log.check(path) == 122


def test_a_damaged_log_is_replaced_and_kept_with_its_journal(path, saved):
    journal = path.with_name(f"{path.name}-journal")
    path.write_bytes(b"")
    journal.write_bytes(b"of the damaged log")
    count, aside = backup.restore(path, saved)
    assert (count, log.check(path)) == (2, 2)
    assert aside.read_bytes() == b""
    assert aside.with_name(f"{aside.name}-journal").read_bytes() == b"of the damaged log"
    assert not journal.exists()


def test_a_log_with_fewer_entries_is_replaced_and_kept(path, saved):
    path.unlink()
    log.append(path, [FIRST], AT)
    count, aside = backup.restore(path, saved)
    assert (count, log.check(path), log.check(aside)) == (2, 2, 1)


def test_an_intact_log_with_all_entries_is_not_replaced(path, saved):
    log.append(path, [CALL], AT)
    with pytest.raises(AttritionError, match="is intact and has 3 entries, the backup has 2"):
        backup.restore(path, saved)
    assert log.check(path) == 3


@pytest.mark.parametrize(
    ("present", "first"), [([CALL], 1), ([FIRST, CALL], 2), ([FIRST, CALL, CALL], 2)]
)
def test_an_intact_log_with_an_entry_that_the_backup_lacks_is_not_replaced(
    path, saved, present, first
):
    path.unlink()
    log.append(path, present, AT)
    before = log.read(path)
    with pytest.raises(
        AttritionError, match=f"the backup has 2, and they differ from entry {first}"
    ):
        backup.restore(path, saved)
    assert log.read(path) == before


def write_after_check(monkeypatch, path, entry):
    """Let another append once the log was checked, before the restore locks it."""
    original = log.check

    def check(checked):
        try:
            return original(checked)
        finally:
            if checked == path:
                log.append(path, [entry], AT)

    monkeypatch.setattr(log, "check", check)


def test_what_is_entered_before_a_restore_locks_the_log_is_not_lost(path, saved, monkeypatch):
    path.unlink()
    log.append(path, [FIRST], AT)
    write_after_check(monkeypatch, path, CALL._replace(client="B"))
    with pytest.raises(AttritionError, match="differ from entry 2 on"):
        backup.restore(path, saved)
    assert [entry.client for entry in log.read(path)[0]] == ["Acme", "B"]


def test_a_log_that_is_begun_during_a_restore_is_not_lost(path, saved, monkeypatch):
    path.unlink()
    original, more = log.check, CALL._replace(client="B")

    def check(checked):
        if checked != path and not path.exists():
            log.append(path, [more], AT)
        return original(checked)

    monkeypatch.setattr(log, "check", check)
    with pytest.raises(AttritionError, match="differ from entry 1 on"):
        backup.restore(path, saved)
    assert [entry.client for entry in log.read(path)[0]] == ["B"]


def break_seal(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET note = 'other' WHERE id = 1")
    connection.close()


def test_a_damaged_log_that_is_in_use_is_not_replaced(path, saved, monkeypatch):
    break_seal(path)
    monkeypatch.setattr(log, "BUSY_S", 0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AttritionError, match="cannot be read or written now"):
        backup.restore(path, saved)
    other.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert backup.restore(path, saved)[0] == log.check(path) == 2


@pytest.mark.parametrize("target", ["folder", "link"])
def test_what_stands_in_place_of_the_log_is_kept_too(path, saved, target, tmp_path):
    path.unlink()
    path.mkdir() if target == "folder" else path.symlink_to(tmp_path / "elsewhere")
    _, aside = backup.restore(path, saved)
    assert log.check(path) == 2
    assert aside.is_dir() or aside.is_symlink()


def test_a_damaged_backup_is_refused(path, saved):
    damage(saved)
    path.unlink()
    with pytest.raises(Damaged):
        backup.restore(path, saved)
    assert list(path.parent.iterdir()) == []


def test_without_a_log_or_a_backup_there_is_nothing_to_do(tmp_path):
    with pytest.raises(AttritionError, match="nothing to back up"):
        backup.back_up(tmp_path / "none.sqlite", tmp_path / "saved.sqlite")
    with pytest.raises(AttritionError, match="name the file of a backup"):
        backup.restore(tmp_path / "none.sqlite", tmp_path / "saved.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_writer_that_waits_for_a_restore_writes_to_the_restored_log(
    path, saved, is_damaged, monkeypatch
):
    path.unlink()
    log.append(path, [FIRST], AT)
    if is_damaged:
        break_seal(path)
    original, writers, more = backup._set_aside, [], CALL._replace(client="B")

    def set_aside(log_path):
        writers.append(threading.Thread(target=log.append, args=[path, [more], AT]))
        writers[0].start()
        writers[0].join(0.05)  # it waits for the lock of the restore
        return original(log_path)

    monkeypatch.setattr(backup, "_set_aside", set_aside)
    _, aside = backup.restore(path, saved)
    writers[0].join()
    assert [entry.client for entry in log.read(path)[0]] == ["Acme", "Acme", "B"]
    with sqlite3.connect(aside) as old:
        assert old.execute("SELECT COUNT(*) FROM entries").fetchone() == (1,)
    old.close()


def test_a_copy_of_a_log_alone_has_what_was_committed(path, tmp_path):
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        shutil.copyfile(path, tmp_path / "copy.sqlite")
    assert log.check(tmp_path / "copy.sqlite") == 2
