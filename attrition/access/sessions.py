"""Store sessions in a SQLite file that all workers share, so that a sign-out counts in all of them.

A session ends after 12 hours, when its user signs out, or when the token or user behind it changes. Only
the hash of its cookie is stored. Standard library only.
"""

import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from attrition.access.credentials import FILE_MODE, FOLDER_MODE
from attrition.errors import AttritionError
from attrition.storage import files
from attrition.storage.history import PASSING

logger = logging.getLogger(__name__)

HOURS = 12
BUSY_S = 5
SCHEMA = """CREATE TABLE IF NOT EXISTS sessions (
    sha256 TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, stamp TEXT NOT NULL,
    ends_at TEXT NOT NULL) WITHOUT ROWID"""


class Session(NamedTuple):
    """The token or user that signed in; `stamp` is that of the credential at that time."""

    kind: str
    name: str
    stamp: str


def begin(path: Path, session: Session, at: str) -> str:
    """Store a session, remove those that have ended, and return the value of its cookie.

    A damaged file is replaced, so everybody has to sign in again.

    Raises: AttritionError if the file cannot be written now.
    """
    cookie = secrets.token_urlsafe(32)
    try:
        _insert(path, cookie, session, at)
    except sqlite3.DatabaseError as error:
        _check_damaged(path, error)
        logger.warning("%s: is damaged (%s), so everybody has to sign in again", path, error)
        for name in (path, path.with_name(f"{path.name}-journal")):
            name.unlink(missing_ok=True)
        with _explained(path):
            _insert(path, cookie, session, at)
    return cookie


def _insert(path: Path, cookie: str, session: Session, at: str) -> None:
    ends_at = datetime.fromisoformat(at) + timedelta(hours=HOURS)
    row = (_sha256(cookie), *session, ends_at.strftime(files.TIME))
    path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    with _connect(path) as connection:
        connection.execute(SCHEMA)
        connection.execute("DELETE FROM sessions WHERE ends_at <= ?", [at])
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", row)


def find(path: Path, cookie: str, at: str) -> Session | None:
    """Return the session of a cookie; None if there is none, or it has ended.

    Raises: AttritionError if the file cannot be read now.
    """
    if not path.is_file():
        return None
    query = "SELECT kind, name, stamp FROM sessions WHERE sha256 = ? AND ends_at > ?"
    try:
        with _connect(path) as connection:
            row = connection.execute(query, [_sha256(cookie), at]).fetchone()
    except sqlite3.DatabaseError as error:
        _check_damaged(path, error)
        return None  # nobody is signed in; the next sign-in writes a new file
    return Session(*row) if row else None


def end(path: Path, cookie: str) -> None:
    """End a session.

    Raises: AttritionError if the file cannot be written now.
    """
    if path.is_file():
        with _explained(path), _connect(path) as connection:
            connection.execute("DELETE FROM sessions WHERE sha256 = ?", [_sha256(cookie)])


@contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction; EXTRA, so that a power cut does not undo a sign-out."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
        connection.execute("PRAGMA synchronous = EXTRA")
        with connection:
            yield connection


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise AttritionError(f"{path}: cannot be read or written now ({error})") from error


def _check_damaged(path: Path, error: sqlite3.Error) -> None:
    """Raises: AttritionError if the error will pass: the file is not damaged, but busy."""
    name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
    if name.startswith(PASSING):
        raise AttritionError(f"{path}: cannot be read or written now ({error})") from error


def _sha256(cookie: str) -> str:
    return files.sha256_bytes(cookie.encode("utf-8", "surrogatepass"))
