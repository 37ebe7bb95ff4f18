"""SQLite files in every state."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from attrition.databases import sqlite
from attrition.databases.reader import probe, reading
from attrition.errors import SourceError
from tests.tables import Crm, SqliteTable, all_rows, client, unavailable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        ("", ""),
        (3, "3"),
        (2**63 - 1, "9223372036854775807"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        (b"acme", "\x0161636d65"),
        (b"", "\x01"),
        ("x" * 9000, "x" * 8192),
        (b"x" * 9000, "\x01" + "78" * 20),
    ],
)
def test_value_that_sqlite_lets_into_any_column_is_text(sqlite_crm, value, text):
    sqlite_crm.insert(client("acme"), client("bolt", 1, month=value))
    assert all_rows(sqlite_crm.database())[1][1] == text


def test_declared_types_of_sqlite_convert_nothing(sqlite_crm):
    sqlite_crm.execute("CREATE TABLE typed (d DATE, t DATETIME, n NUMERIC(9, 2), b BOOLEAN)")
    sqlite_crm.execute("INSERT INTO typed VALUES (?, ?, ?, ?)", [["no", "no", "no", "no"]])
    database = sqlite_crm.database(table="typed", changed_column=None)
    assert all_rows(database) == [["no"] * 4]


def test_file_that_is_no_database_is_told(sqlite_crm):
    sqlite_crm.table.path.write_bytes(b"not a database " * 99)
    assert unavailable(sqlite_crm.database()) == "crm: file is not a database"


def test_locked_file_is_told_and_read_when_it_is_free(sqlite_crm, monkeypatch):
    sqlite_crm.insert(client("acme"))
    connection = sqlite3.connect(sqlite_crm.table.path)
    connection.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
    assert unavailable(sqlite_crm.database()) == "crm: database is locked"
    connection.rollback()
    connection.close()
    assert sqlite_crm.read()[1] == ["acme"]


def test_lock_that_is_held_for_a_moment_is_waited_for(sqlite_crm):
    sqlite_crm.insert(client("acme"))
    connection = sqlite3.connect(sqlite_crm.table.path, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, connection.rollback)
    release.start()
    assert sqlite_crm.read()[1] == ["acme"]
    release.join()
    connection.close()


def test_file_is_not_written_to(sqlite_crm):
    sqlite_crm.insert(client("acme"))
    before = sqlite_crm.table.path.read_bytes()
    sqlite_crm.read()
    assert sqlite_crm.table.path.read_bytes() == before
    assert os.listdir(sqlite_crm.table.path.parent) == ["crm.sqlite"]


def leave_log_behind(crm):
    """Leave a write-ahead log as after a crash: the database and its log, without an index of it."""
    connection = sqlite3.connect(crm.table.path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO clients VALUES ('logged', 1, 2, 3, 0, '2026-03-01')")
    connection.commit()
    log = Path(f"{crm.table.path}-wal")
    copies = {path: path.read_bytes() for path in (crm.table.path, log)}
    connection.close()
    for path, data in copies.items():
        path.write_bytes(data)
    Path(f"{crm.table.path}-shm").unlink(missing_ok=True)
    return copies


def test_log_left_behind_is_read_and_left_alone(sqlite_crm):
    copies = leave_log_behind(sqlite_crm)
    assert sqlite_crm.read()[1] == ["logged"]
    assert {path: path.read_bytes() for path in copies} == copies


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("log", [False, True])
def test_file_in_a_folder_that_we_may_not_write_to_is_read_or_told(sqlite_crm, tmp_path, log):
    sqlite_crm.insert(client("acme"))
    names = ["logged", "acme"] if log else ["acme"]
    if log:
        leave_log_behind(sqlite_crm)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        found = sqlite_crm.read()[1]
    except SourceError as error:
        assert log
        assert "unable to open database file" in str(error)
    else:
        assert sorted(found) == sorted(names)
    finally:
        os.seteuid(0)


def test_file_replaced_in_the_middle_is_read_as_it_was(sqlite_crm, tmp_path):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    with reading(sqlite_crm.database(), None, seconds=60) as read:
        names = next(read.chunks).columns[0].to_pylist()
        (tmp_path / "other").mkdir()
        other = Crm(SqliteTable(tmp_path / "other"))
        other.insert(client("new"))
        other.table.path.replace(sqlite_crm.table.path)
        names += [name for chunk in read.chunks for name in chunk.columns[0].to_pylist()]
    assert len(names) == 60_000
    assert sqlite_crm.read()[1] == ["new"]


def test_file_overwritten_in_the_middle_without_a_lock_is_told(sqlite_crm):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    data = sqlite_crm.table.path.read_bytes()
    told = pytest.raises(SourceError, match="^crm: ")
    with told, reading(sqlite_crm.database(), None, seconds=60) as read:
        next(read.chunks)
        sqlite_crm.table.path.write_bytes(data[: len(data) // 2])
        list(read.chunks)


def test_file_changed_in_the_middle_without_a_lock_is_told(sqlite_crm):
    sqlite_crm.insert(*(client(f"old{i}", 1) for i in range(60_000)))
    told = pytest.raises(SourceError, match="written to in the middle of the reading")
    with told, reading(sqlite_crm.database(), None, seconds=60) as read:
        next(read.chunks)
        sqlite_crm.table.path.write_bytes(sqlite_crm.table.path.read_bytes())
        list(read.chunks)


def test_damage_in_another_table_is_told(sqlite_crm):
    """Who wrote over one page may have written over others."""
    sqlite_crm.insert(client("acme"))
    sqlite_crm.execute("CREATE TABLE other (x)")
    sqlite_crm.execute("INSERT INTO other VALUES (?)", [["x" * 3000]] * 4)
    data = sqlite_crm.table.path.read_bytes()
    sqlite_crm.table.path.write_bytes(data[:-4096] + b"\x05" * 4096)
    assert f"{sqlite_crm.table.path} is damaged: " in unavailable(sqlite_crm.database())


def test_text_that_is_not_unicode_is_told(sqlite_crm):
    sqlite_crm.execute("INSERT INTO clients (corporation) VALUES (CAST(x'ff' AS TEXT))")
    assert "Could not decode to UTF-8" in unavailable(sqlite_crm.database())


def test_file_that_takes_too_long_to_hash_is_told(sqlite_crm):
    with pytest.raises(SourceError, match="cannot be hashed in 0 seconds"):
        probe(sqlite_crm.database(), seconds=0)


def test_row_of_any_size_is_told_or_cut(sqlite_crm):
    sqlite_crm.execute("INSERT INTO clients (corporation) VALUES (zeroblob(70000000))")
    assert unavailable(sqlite_crm.database()) == "crm: string or blob too big"


def test_link_to_a_file_is_followed_to_its_news(sqlite_crm, tmp_path):
    sqlite_crm.insert(client("acme"))
    (tmp_path / "link.sqlite").symlink_to(sqlite_crm.table.path)
    url = f"sqlite:///{tmp_path}/link.sqlite"
    before = sqlite_crm.mark(url=url)
    sqlite_crm.insert(client("bolt"))
    assert sqlite_crm.mark(url=url) != before
    assert sqlite_crm.read(url=url)[1] == ["acme", "bolt"]


def test_path_of_a_file_may_hold_any_character(sqlite_crm, tmp_path):
    path = tmp_path / "my %41 #1 &crm.sqlite"
    sqlite_crm.insert(client("acme"))
    sqlite_crm.table.path.rename(path)
    assert sqlite_crm.read(url=f"sqlite:///{path}")[1] == ["acme"]
