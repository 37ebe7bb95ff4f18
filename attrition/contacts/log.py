"""Append what people enter about clients to a SQLite file in which nothing is ever changed or removed.

Each entry has a key, so that an entry that is sent twice is stored once, and a seal over itself and the
entry before it, which reveals damage. A correction or a withdrawal is a further entry that names the
earlier one. The journal is a rollback journal because SQLite before 3.51.3 can lose writes in WAL mode;
synchronous is EXTRA because with FULL a power cut may restore a deleted journal, which would undo a
committed transaction. Standard library only.
"""

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from attrition.errors import AttritionError, Damaged
from attrition.storage import files
from attrition.storage.history import BUSY_S, PASSING

CONTACT, NOT_BEFORE, OVERRIDE = "contact", "not_before", "override"
REASSIGNMENT, WITHDRAWAL = "reassignment", "withdrawal"
KINDS = (CONTACT, NOT_BEFORE, OVERRIDE, REASSIGNMENT, WITHDRAWAL)
REACHED, NOT_REACHED, DO_NOT_CONTACT = "reached", "not_reached", "do_not_contact"
OUTCOMES = (REACHED, "will_stay", "will_leave", NOT_REACHED, "wrong_person", DO_NOT_CONTACT)
STAYS, LEAVES = "stays", "leaves"
# A log has the first version until it contains assignments; earlier software opens only that one.
FIRST_VERSION, VERSION = 1, 2
RESTORE = "restore a backup of it, see docs/operations.md; --repair never changes this file"
LOST = (
    "restore a backup that has them, see docs/operations.md, or accept the loss with "
    "fullprocess.py --accept-log-loss"
)
AGAIN = "try again; what was saved already is not saved twice"
NO_SEAL = ""
REPEATED = timedelta(minutes=10)  # the same form sent again so soon is one entry


class Entry(NamedTuple):
    """What a person enters about one client; `append` adds the number, the key and the time.

    outcome: of a contact, one of `OUTCOMES`; of an override, "stays" or "leaves"; else ""
    date: the follow-up of a contact; the first day on which a client may be listed again (not_before);
    the last day of an override or of a reassignment; "" if there is none
    manager: who takes over a reassigned client
    replaces: the number of the entry that this one corrects or withdraws
    risk, release: what the model said when the entry was made
    """

    client: str
    kind: str
    by: str
    outcome: str = ""
    note: str = ""
    date: str = ""
    manager: str = ""
    replaces: int | None = None
    via: str = ""
    risk: float | None = None
    release: str = ""
    id: int = 0
    key: str = ""
    at: str = ""

    @property
    def content(self) -> tuple[Any, ...]:
        """What was entered: two entries with equal content are the same form, sent twice."""
        return (
            *(self.client, self.kind, self.by, self.outcome, self.note, self.date),
            *(self.manager, self.replaces),
        )


ONE = {"entries": "entry", "assignments": "assignment", "looks": "look"}  # by table
Sealed = TypeVar("Sealed", bound=Any)  # a NamedTuple with `id`
SCHEMA = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, client TEXT NOT NULL, kind TEXT NOT NULL,
        "by" TEXT NOT NULL, outcome TEXT NOT NULL, note TEXT NOT NULL, date TEXT NOT NULL,
        manager TEXT NOT NULL, replaces INTEGER, via TEXT NOT NULL, risk REAL, release TEXT NOT NULL,
        key TEXT NOT NULL UNIQUE, at TEXT NOT NULL, seal TEXT NOT NULL)""",
    "CREATE INDEX of_client ON entries (client)",
    """CREATE TRIGGER no_update BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END""",
    """CREATE TRIGGER no_delete BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END""",
    # INSERT OR REPLACE deletes the old row without the trigger on DELETE
    """CREATE TRIGGER no_replace BEFORE INSERT ON entries
        WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id OR key = NEW.key)
        BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END""",
    f"PRAGMA user_version = {FIRST_VERSION}",
)
_writing = Lock()  # the threads of a process take turns; between processes SQLite only polls


class Appended(NamedTuple):
    """Entries as they are stored; `is_repeat` is true if all of them were stored before."""

    entries: list[Entry]
    is_repeat: bool


class Stale(AttritionError):
    """The log has entries of these clients that the writer had not seen."""

    def __init__(self, newer: Sequence[Entry]) -> None:
        super().__init__("something was entered about the client in the meantime")
        self.newer = tuple(newer)


class KeyTaken(AttritionError):
    """The key of an entry belongs to an earlier entry with other content."""


class NotReplaceable(AttritionError):
    """The entry to correct or to withdraw is not one that counts, or is of another client or kind."""


class Replaced(AttritionError):
    """The log is not the one that was read before: a backup was restored, or the file was removed."""


def append(
    path: Path,
    entries: Sequence[Entry],
    at: str,
    seen: int | None = None,
    refuse: Callable[[Iterable[str]], str] = lambda _: "",
) -> Appended:
    """Append entries in one transaction, all or none.

    An entry whose key the log contains already is returned as it was stored. `seen` is the number of the
    newest entry that the writer knew of: if all entries are there since, because the form was sent
    twice, they are returned; if the clients have other entries since, nothing is stored.

    refuse: returns why entries about some clients must not be stored; asked while nobody else can write

    Raises: Stale, KeyTaken, NotReplaceable, Damaged; AttritionError if the log cannot be written now.
    """
    with explained(path), begin_writing(path) as connection:
        if reason := refuse(entry.client for entry in entries):
            raise NotReplaceable(reason)
        stored = [_find_key(connection, entry) for entry in entries]
        if seen is not None and None in stored and (newer := _newer(connection, entries, seen)):
            stored = _find_repeats(entries, newer, at)
            if None in stored:
                raise Stale(newer)
        result = [
            known or _find_key(connection, entry) or _append(connection, entry._replace(at=at))
            for known, entry in zip(stored, entries, strict=True)
        ]
        connection.commit()
    return Appended(result, is_repeat=None not in stored)


@contextmanager
def begin_writing(path: Path, busy_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Open the log and begin a transaction; open it again if a restore has replaced it meanwhile.

    busy_s: how long to wait for other writers, by default `BUSY_S`
    """
    if not os.path.lexists(path):
        _begin(path)
    with _writing:
        while True:
            file = path.lstat().st_ino
            with connect(path, busy_s) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")  # if another program chose WAL
                connection.execute("BEGIN IMMEDIATE")
                if path.lstat().st_ino == file:
                    yield connection
                    return


def _find_key(connection: sqlite3.Connection, entry: Entry) -> Entry | None:
    """Return the entry that the log contains under the same key; None if there is none.

    Raises: KeyTaken.
    """
    row = connection.execute("SELECT * FROM entries WHERE key = ?", [entry.key]).fetchone()
    if row is None:
        return None
    stored = _entry(row)
    if stored.content != entry.content:
        raise KeyTaken(f"the key {entry.key[:60]!r} belongs to an entry with other content")
    return stored


def find_key(path: Path, key: str) -> Entry | None:
    """Return the entry that the log contains under a key; None if there is none.

    Raises: Damaged; AttritionError if the log cannot be read now.
    """
    if not os.path.lexists(path):
        return None
    with explained(path), connect(path) as connection:
        row = connection.execute("SELECT * FROM entries WHERE key = ?", [key]).fetchone()
    return _entry(row) if row else None


def _newer(connection: sqlite3.Connection, entries: Sequence[Entry], seen: int) -> list[Entry]:
    """Return the entries of the same clients that are newer than `seen`, oldest first."""
    rows = connection.execute("SELECT * FROM entries WHERE id > ? ORDER BY id", [seen]).fetchall()
    clients = {entry.client for entry in entries}
    return [_entry(row) for row in rows if row["client"] in clients]


def _find_repeats(entries: Sequence[Entry], newer: Sequence[Entry], at: str) -> list[Entry | None]:
    """Return for each entry the recent one with the same content, unless that was replaced since."""
    replaced = {entry.replaces for entry in newer}
    by_content = {
        entry.content: entry
        for entry in newer
        if entry.id not in replaced and is_recent(entry.at, at)
    }
    return [by_content.get(entry.content) for entry in entries]


def is_recent(before: str, at: str) -> bool:
    """Return whether the same form, sent at two times, was sent twice by mistake."""
    return datetime.fromisoformat(at) - datetime.fromisoformat(before) < REPEATED


def _append(connection: sqlite3.Connection, entry: Entry) -> Entry:
    if entry.replaces is not None:
        _check_replaced(connection, entry, entry.replaces)
    risk = entry.risk
    if risk is not None:  # as SQLite stores it, or the seal would not match
        risk = risk + 0.0 if math.isfinite(risk) else None
    entry = entry._replace(key=entry.key or os.urandom(16).hex(), risk=risk)
    return append_record(connection, "entries", entry)


def append_record(connection: sqlite3.Connection, table: str, record: Sealed) -> Sealed:
    """Append a record to a table with the next number and a seal; return it with its number."""
    last = connection.execute(f"SELECT id, seal FROM {table} ORDER BY id DESC LIMIT 1").fetchone()
    before, seal = last or (0, NO_SEAL)
    record = record._replace(id=before + 1)
    values = record._asdict() | {"seal": _seal(record, seal)}
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
    return record


def _check_replaced(connection: sqlite3.Connection, entry: Entry, number: int) -> None:
    """Raises: NotReplaceable."""
    client = [number, entry.client]
    old = connection.execute("SELECT kind FROM entries WHERE id = ? AND client = ?", client)
    kind = next((row["kind"] for row in old), WITHDRAWAL)
    if kind == WITHDRAWAL:
        raise NotReplaceable(f"entry {number} is not an entry of this client that can be replaced")
    if entry.kind not in (kind, WITHDRAWAL):
        raise NotReplaceable(f"entry {number} is of the kind {kind}, not {entry.kind}")
    later = connection.execute("SELECT id FROM entries WHERE replaces = ? AND client = ?", client)
    if (row := later.fetchone()) is not None:
        raise NotReplaceable(f"entry {number} was replaced by entry {row['id']} already")


def read(path: Path, after: int = 0, seal: str = NO_SEAL) -> tuple[list[Entry], str]:
    """Return the entries after a number, oldest first, and the seal of the last one.

    seal: that of the entry `after`; an installation without a log has no entries

    Raises: Replaced if the log has no entry `after` with this seal; Damaged if an entry is not what was
    stored; AttritionError if the log cannot be read now.
    """
    if not os.path.lexists(path):
        if after:
            raise Replaced(f"{path}: is missing")
        return [], NO_SEAL
    with explained(path), connect(path) as connection:
        rows = connection.execute("SELECT * FROM entries WHERE id >= ? ORDER BY id", [after])
        newer = rows.fetchall()
    if after:
        before = newer.pop(0) if newer else None
        if before is None or (before["id"], before["seal"]) != (after, seal):
            raise Replaced(f"{path}: is not the contact log that was read before")
    return verified(path, "entries", newer, Entry, after, seal)


def verified(
    path: Path,
    table: str,
    rows: Sequence[sqlite3.Row],
    kind: type[Sealed],
    after: int = 0,
    seal: str = NO_SEAL,
) -> tuple[list[Sealed], str]:
    """Return the records in the rows after a number, and the seal of the last one.

    Raises: Damaged if a record is not what was stored.
    """
    records = []
    for row in rows:
        record = kind(**{field: row[field] for field in kind._fields})
        seal = _seal(record, seal)
        if record.id != after + 1 or row["seal"] != seal:
            problem = f"{ONE[table]} {after + 1} is not what was entered"
            raise Damaged(f"{path}: {problem}; {RESTORE}")
        after = record.id
        records.append(record)
    return records, seal


def newest(path: Path, table: str = "entries") -> str:
    """Return the number and the seal of the newest record, "<number> <seal>"; "" if there is none.

    Raises: AttritionError if the log cannot be read now.
    """
    if not os.path.lexists(path):
        return ""
    with explained(path), connect(path) as connection:
        if not has_table(connection, table):
            return ""
        last = connection.execute(
            f"SELECT id, seal FROM {table} ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return f"{last['id']} {last['seal']}" if last else ""


def has_table(connection: sqlite3.Connection, table: str) -> bool:
    """Return whether the log has a table; one of the first version has only entries."""
    names = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(names, [table]).fetchone() is not None


def check_counted(path: Path, counted: str, table: str = "entries") -> None:
    """Check that the log contains the records of which an assessment counted, "<number> <seal>".

    Raises: Damaged if it does not; AttritionError if the log cannot be read now.
    """
    count, _, seal = counted.partition(" ")
    if not seal:
        return
    if not os.path.lexists(path):
        raise Damaged(f"{path}: is missing, and the last list counted {count} {table}; {LOST}")
    with explained(path), connect(path) as connection:
        ends = f"(?, (SELECT MAX(id) FROM {table}))"
        seals = f"SELECT id, seal FROM {table} WHERE id IN {ends} ORDER BY id"
        is_there = has_table(connection, table)
        rows = [tuple(row) for row in connection.execute(seals, [int(count)])] if is_there else []
    if (int(count), seal) not in rows:
        last = rows[-1][0] if rows else 0
        problem = f"has {last} {table}, and the last list counted {count}"
        if last >= int(count):
            problem = f"{ONE[table]} {count} is not the one that the last list counted"
        raise Damaged(f"{path}: {problem}; {LOST}")


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(**{name: row[name] for name in Entry._fields})


def _seal(record: Iterable[Any], before: str) -> str:
    """Hash a record and the seal of the one before it."""
    text = json.dumps([before, *record], default=repr)  # a value that became bytes is damage
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# Returns the new values of a record, by column.
Change = Callable[[Mapping[str, Any]], dict[str, Any]]


def rewrite(path: Path, kinds: Mapping[str, type[Any]], change: Change) -> None:
    """Replace the log by one with other values and new chains of seals.

    Writers meanwhile wait, and then write to the new one, see `begin_writing`. A reader that knows
    a seal which has changed reads the new log from its start.

    kinds: of the records, by table

    Raises: Damaged; AttritionError if the log cannot be written now.
    """
    with explained(path), temporary_file(path) as temporary, begin_writing(path):
        with connect(path) as source, closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)
            copy.row_factory = sqlite3.Row
            for table, kind in kinds.items():
                _rewrite_table(copy, table, kind, change)
            copy.commit()
            copy.execute("VACUUM")  # removes the old texts from the file
        check(temporary)
        files.fsync(temporary)
        os.replace(temporary, path)
        files.fsync_folder(path.parent)


def _rewrite_table(
    connection: sqlite3.Connection, table: str, kind: type[Any], change: Change
) -> None:
    """Change the rows of a table and renew all its seals; its triggers, which refuse that, come back."""
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    triggers = connection.execute(sql, [table]).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for row, new, seal in _change_rows(connection, table, kind, change):
        names = ", ".join(f'"{name}" = ?' for name in (*new, "seal"))
        sql = f"UPDATE {table} SET {names} WHERE id = ?"
        connection.execute(sql, [*new.values(), seal, row["id"]])
    for _, trigger in triggers:
        connection.execute(trigger)


def _change_rows(
    connection: sqlite3.Connection, table: str, kind: type[Any], change: Change
) -> Iterator[tuple[sqlite3.Row, dict[str, Any], str]]:
    """Yield the rows of a table, if it exists, each with its new values and seal."""
    seal = NO_SEAL
    if not has_table(connection, table):
        return
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall():
        new = change({name: row[name] for name in kind._fields})
        seal = _seal(kind(**new), seal)
        yield row, new, seal


def find_new_seals(path: Path, kinds: Mapping[str, type[Any]], change: Change) -> dict[str, str]:
    """Return each seal that `rewrite` changes, and the new one.

    Raises: Damaged; AttritionError if the log cannot be read now.
    """
    with explained(path), connect(path) as connection:
        rows = [
            each
            for table, kind in kinds.items()
            for each in _change_rows(connection, table, kind, change)
        ]
    return {row["seal"]: seal for row, _, seal in rows if row["seal"] != seal}


def _begin(path: Path) -> None:
    """Create a log without entries, atomically; if another process was faster, use its log."""
    files.make_folder(path.parent)
    with temporary_file(path) as temporary:
        with closing(sqlite3.connect(temporary)) as connection:
            connection.execute("BEGIN")  # one wait for the disk, not one for each statement
            for statement in SCHEMA:
                connection.execute(statement)
            connection.commit()
        with suppress(FileExistsError):
            os.link(temporary, path)  # a rename would replace a log that is there
    files.fsync_folder(path.parent)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside another one; remove it, also its journal, at the end."""
    name = f".{path.name}.{os.getpid()}.{os.urandom(16).hex()}.tmp"
    temporary = path.with_name(name)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.FILE_MODE))
        yield temporary
    finally:
        for left_over in (temporary, path.with_name(f"{name}-journal")):
            left_over.unlink(missing_ok=True)


@contextmanager
def connect(path: Path, busy_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """Open the log, and only by SQLite.

    If this process opened the file by other means too, closing that would end the locks of SQLite.
    Source: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    if path.is_symlink() or not path.is_file() or path.stat().st_size == 0:
        raise Damaged(f"{path}: is not a contact log; {RESTORE}")
    uri = f"{path.absolute().as_uri()}?mode=rw"
    timeout = BUSY_S if busy_s is None else busy_s
    with closing(sqlite3.connect(uri, uri=True, timeout=timeout)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = EXTRA")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise AttritionError(
                f"{path}: was written by a newer version of this software (format {version}, expected "
                f"at most {VERSION}); use that version"
            )
        yield connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise Damaged for an error of SQLite, or AttritionError if the error will pass."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
        if name.startswith(PASSING):
            raise AttritionError(
                f"{path}: the contact log cannot be read or written now ({error}); {AGAIN}"
            ) from error
        raise Damaged(f"{path}: the contact log cannot be read ({error}); {RESTORE}") from error
    except OSError as error:
        raise AttritionError(f"{error.filename or path}: {error.strerror}; {AGAIN}") from error


def check(path: Path) -> int:
    """Let SQLite check the file, and verify every entry; return their number.

    Raises: Damaged, AttritionError.
    """
    if not os.path.lexists(path):
        return 0
    with explained(path), connect(path) as connection:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise Damaged(f"{path}: the contact log is damaged ({result}); {RESTORE}")
    return len(read(path)[0])
