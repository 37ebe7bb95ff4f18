"""Assignments and looks in the file of the contact log: kept as the entries are."""

import sqlite3
from contextlib import closing

import pytest

from attrition.contacts import assignments, log
from attrition.contacts.assignments import Look
from attrition.contacts.experiment import CONTROL, TREATED, Assignment
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Damaged
from attrition.operations import backup

AT = "2026-02-02T08:00:00Z"
ACME = Assignment(
    "Acme", "2026-Q1", TREATED, AT, "r1", 1, 0.5, 100.0, "2026-01-31", 0.2, "0a1b2c3d"
)
BOLT = ACME._replace(client="Bolt", arm=CONTROL, value=None, observed="")
LOOK = Look(AT, 1, 0.2, "{}")


@pytest.fixture
def path(tmp_path):
    """A log of one entry, two assignments and a look."""
    path = tmp_path / "contacts" / "contacts.sqlite"
    log.append(path, [Entry("Acme", log.CONTACT, "Ann", log.REACHED)], AT)
    assignments.append(path, [ACME, BOLT])
    assignments.append_look(path, LOOK)
    return path


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_assignments_are_read_as_they_were_stored(path):
    stored, _ = assignments.read(path)
    assert stored == [ACME._replace(id=1), BOLT._replace(id=2)]
    assert assignments.read_looks(path)[0] == [LOOK._replace(id=1)]
    assert assignments.check(path) == 1


def test_without_a_log_there_are_none_and_the_first_one_begins_it(tmp_path):
    path = tmp_path / "contacts" / "contacts.sqlite"
    assert assignments.read(path) == ([], "")
    assert assignments.append(path, []) == [] and not path.exists()
    assignments.append(path, [ACME])
    assert (assignments.check(path), log.newest(path)) == (0, "")


def test_first_assignment_of_a_quarter_counts(path):
    other = ACME._replace(arm=CONTROL, risk=0.9)
    later = other._replace(quarter="2026-Q2", value=float("nan"), risk=-0.0)
    first, new = assignments.append(path, [other, later])
    assert first == ACME._replace(id=1)
    assert new == later._replace(id=3, value=None)
    assert len(assignments.read(path)[0]) == 3


def test_look_is_taken_once(path):
    assert assignments.append_look(path, LOOK._replace(record="other")) == LOOK._replace(id=1)


def test_log_stays_of_the_first_version_until_it_contains_assignments(tmp_path, monkeypatch):
    path = tmp_path / "contacts.sqlite"
    log.append(path, [Entry("Acme", log.CONTACT, "Ann", log.REACHED)], AT)
    assert assignments.read(path) == ([], "") and log.newest(path, "looks") == ""
    monkeypatch.setattr(log, "VERSION", log.FIRST_VERSION)
    log.read(path)
    monkeypatch.undo()
    assignments.append(path, [ACME])
    monkeypatch.setattr(log, "VERSION", log.FIRST_VERSION)
    with pytest.raises(AttritionError, match=r"format 2, expected at most 1\); use that version"):
        log.read(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE assignments SET arm = 'treated'",
        "DELETE FROM looks",
        "INSERT OR REPLACE INTO assignments SELECT * FROM assignments WHERE id = 1",
    ],
)
def test_no_record_is_changed_or_removed(path, change):
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        execute(path, change)


@pytest.mark.parametrize(
    ("table", "change", "problem"),
    [
        ("assignments", "UPDATE assignments SET arm = 'treated' WHERE id = 2", "assignment 2"),
        ("assignments", "DELETE FROM assignments WHERE id = 1", "assignment 1"),
        ("looks", "UPDATE looks SET record = '{1}'", "look 1"),
    ],
)
def test_changed_record_is_damage(path, table, change, problem):
    execute(path, f"DROP TRIGGER {table}_update", f"DROP TRIGGER {table}_delete", change)
    with pytest.raises(Damaged, match=f"{problem} is not what was entered; restore a backup"):
        assignments.check(path)


def test_log_that_lacks_counted_assignments_is_damaged(path):
    inputs = {name: log.newest(path, name) for name in ("assignments", "looks")}
    assignments.check_counted(path, inputs)
    assignments.append(path, [ACME._replace(client="Cox")])
    assignments.check_counted(path, inputs)
    more = {"assignments": log.newest(path, "assignments")}
    path.unlink()
    assignments.append(path, [ACME, BOLT])
    with pytest.raises(Damaged, match="has 2 assignments, and the last list counted 3"):
        assignments.check_counted(path, more)
    with pytest.raises(Damaged, match="has 0 looks, and the last list counted 1"):
        assignments.check_counted(path, inputs)


def test_backup_has_them_and_an_older_one_does_not_replace_the_log(path, tmp_path):
    saved, records = tmp_path / "saved.sqlite", assignments.read(path)
    backup.back_up(path, saved)
    assignments.append(path, [ACME._replace(client="Cox")])
    with pytest.raises(AttritionError, match="has 3 assignments, the backup has 2"):
        backup.restore(path, saved)
    path.unlink()
    backup.restore(path, saved)
    assert assignments.read(path) == records
