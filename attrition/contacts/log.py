"""Append what people enter about clients to a SQLite file in which nothing is ever changed or removed.

Each entry has a key, so that an entry that is sent twice is stored once, and a seal over itself and the
entry before it, which reveals damage. A correction or a withdrawal is a further entry that names the
earlier one. The journal is a rollback journal because SQLite before 3.51.3 can lose writes in WAL mode;
synchronous is EXTRA because with FULL a power cut may restore a deleted journal, which would undo a
committed transaction. Standard library only.
"""

import hashlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from attrition.errors import AttritionError, Damaged
from attrition.storage import files

CONTACT, NOT_BEFORE, OVERRIDE = "contact", "not_before", "override"
REASSIGNMENT, WITHDRAWAL = "reassignment", "withdrawal"
KINDS = (CONTACT, NOT_BEFORE, OVERRIDE, REASSIGNMENT, WITHDRAWAL)
REACHED, NOT_REACHED, DO_NOT_CONTACT = "reached", "not_reached", "do_not_contact"
OUTCOMES = (REACHED, "will_stay", "will_leave", NOT_REACHED, "wrong_person", DO_NOT_CONTACT)
STAYS, LEAVES = "stays", "leaves"
VERSION, BUSY_S = 1, 30
# Errors that will pass, such as a full disk: the file is not damaged.
PASSING = ("BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "CANTOPEN", "NOMEM", "PERM", "PROTOCOL")
RESTORE = "restore a backup of it, see docs/operations.md; --repair never changes this file"
NO_SEAL = ""


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


SCHEMA = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT, client TEXT NOT NULL, kind TEXT NOT NULL,
        "by" TEXT NOT NULL, outcome TEXT NOT NULL, note TEXT NOT NULL, date TEXT NOT NULL,
        manager TEXT NOT NULL, replaces INTEGER, via TEXT NOT NULL, risk REAL, release TEXT NOT NULL,
        key TEXT NOT NULL UNIQUE, at TEXT NOT NULL, seal TEXT NOT NULL)""",
    "CREATE INDEX of_client ON entries (client)",
    """CREATE TRIGGER no_update BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END""",
    """CREATE TRIGGER no_delete BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END""",
    f"PRAGMA user_version = {VERSION}",
)


class Stale(AttritionError):
    """The log has entries of these clients that the writer had not seen."""

    def __init__(self, newer: Sequence[Entry]) -> None:
        super().__init__("something was entered about the client in the meantime")
        self.newer = tuple(newer)


class KeyTaken(AttritionError):
    """The key of an entry belongs to an earlier entry with other content."""


def append(path: Path, entries: Sequence[Entry], at: str, seen: int | None = None) -> list[Entry]:
    """Append entries in one transaction, all or none; return them as stored.

    An entry whose key the log contains already is returned as it was stored. `seen` is the number of the
    newest entry that the writer knew of: if a client has a newer one, it is returned if its content is
    the same, because the form was sent twice.

    Raises: Stale, KeyTaken, Damaged; AttritionError if the log cannot be written now.
    """
    if not os.path.lexists(path):
        _begin(path)
    with _explained(path), _connect(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        newer = [] if seen is None else _newer(connection, entries, seen)
        repeated = {entry.content: entry for entry in newer}
        if unknown := [e for e in newer if e.content not in {one.content for one in entries}]:
            raise Stale(unknown)
        stored = [
            repeated.get(entry.content) or _append(connection, entry._replace(at=at))
            for entry in entries
        ]
        connection.commit()
    return stored


def _newer(connection: sqlite3.Connection, entries: Sequence[Entry], seen: int) -> list[Entry]:
    """Return the entries of the same clients that are newer than `seen`, oldest first."""
    rows = connection.execute("SELECT * FROM entries WHERE id > ? ORDER BY id", [seen]).fetchall()
    clients = {entry.client for entry in entries}
    return [_entry(row) for row in rows if row["client"] in clients]


def _append(connection: sqlite3.Connection, entry: Entry) -> Entry:
    entry = entry._replace(key=entry.key or uuid.uuid4().hex)
    if row := connection.execute("SELECT * FROM entries WHERE key = ?", [entry.key]).fetchone():
        stored = _entry(row)
        if stored.content != entry.content:
            raise KeyTaken(f"the key {entry.key[:60]!r} belongs to an entry with other content")
        return stored
    last = connection.execute("SELECT id, seal FROM entries ORDER BY id DESC LIMIT 1").fetchone()
    before, seal = last or (0, NO_SEAL)
    entry = entry._replace(id=before + 1)
    values = entry._asdict() | {"seal": _seal(entry, seal)}
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO entries ({names}) VALUES ({marks})", list(values.values()))
    return entry


def read(path: Path, after: int = 0, seal: str = NO_SEAL) -> tuple[list[Entry], str]:
    """Return the entries after a number, oldest first, and the seal of the last one.

    seal: that of the entry `after`; an installation without a log has no entries

    Raises: Damaged if an entry is not what was stored; AttritionError if it cannot be read now.
    """
    if not os.path.lexists(path):
        return [], NO_SEAL
    with _explained(path), _connect(path) as connection:
        rows = connection.execute("SELECT * FROM entries WHERE id > ? ORDER BY id", [after])
        entries = []
        for row in rows:
            entry = _entry(row)
            seal = _seal(entry, seal)
            if entry.id != after + 1 or row["seal"] != seal:
                raise Damaged(f"{path}: entry {after + 1} is not what was entered; {RESTORE}")
            after = entry.id
            entries.append(entry)
    return entries, seal


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(**{name: row[name] for name in Entry._fields})


def _seal(entry: Entry, before: str) -> str:
    """Hash an entry and the seal of the one before it."""
    text = json.dumps([before, *entry], default=repr)  # a value that became bytes is damage
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _begin(path: Path) -> None:
    """Create a log without entries, atomically; if another process was faster, use its log."""
    files.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    with closing(sqlite3.connect(temporary)) as connection:
        for statement in SCHEMA:
            connection.execute(statement)
        connection.commit()
    temporary.chmod(files.FILE_MODE)
    try:
        os.link(temporary, path)  # fails if there is one; a rename would replace its entries
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    files.fsync_folder(path.parent)


@contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    if path.is_symlink() or not path.is_file() or path.stat().st_size == 0:
        raise Damaged(f"{path}: is not a contact log; {RESTORE}")
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
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
def _explained(path: Path) -> Iterator[None]:
    """Raise Damaged for an error of SQLite, or AttritionError if the error will pass."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
        if name.startswith(PASSING):
            raise AttritionError(
                f"{path}: the contact log cannot be read or written now ({error}); nothing was saved"
            ) from error
        raise Damaged(f"{path}: the contact log cannot be read ({error}); {RESTORE}") from error


def check(path: Path) -> None:
    """Read every entry, and let SQLite check the file.

    Raises: Damaged, AttritionError.
    """
    if not os.path.lexists(path):
        return
    with _explained(path), _connect(path) as connection:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise Damaged(f"{path}: the contact log is damaged ({result}); {RESTORE}")
    read(path)
