"""The record over time, in one SQLite file: runs, durations, scores, drift, deployments.

Every row has a key made of what it describes, so that work done again after a crash replaces its own
row and nothing is counted twice. Rollback journal and synchronous=FULL: SQLite before 3.51.3 can lose
writes in WAL mode.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrition import disk
from attrition.errors import AttritionError, Damaged

Rows = list[dict[str, Any]]

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, started_at TEXT, ended_at TEXT, elapsed_s REAL, outcome TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS steps (
    step TEXT, made TEXT, started_at TEXT, elapsed_s REAL, outcome TEXT, PRIMARY KEY (step, made));
CREATE TABLE IF NOT EXISTS scores (
    scored_at TEXT, model TEXT, kind TEXT, promoted INTEGER, "set" TEXT, metric TEXT,
    value REAL, low REAL, high REAL, PRIMARY KEY (model, "set", metric));
CREATE TABLE IF NOT EXISTS missing (
    at TEXT, made TEXT, "column" TEXT, missing_pct REAL, PRIMARY KEY (made, "column"));
CREATE TABLE IF NOT EXISTS drift (
    at TEXT, made TEXT, "column" TEXT, psi REAL, p_value REAL, verdict TEXT,
    PRIMARY KEY (made, "column"));
CREATE TABLE IF NOT EXISTS deployments (
    at TEXT, made TEXT PRIMARY KEY, action TEXT, "release" TEXT, reason TEXT);
"""
ORDER = {
    "runs": "started_at",
    "steps": "started_at",
    "scores": "scored_at",
    "missing": "at",
    "drift": "at",
    "deployments": "at",
}


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open for one transaction.

    Raises: Damaged when the file is not a database of ours, AttritionError when it cannot be written
    now (locked, disk full): then nothing is wrong with it.
    """
    disk.make_folder(path.parent)
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(SCHEMA)
            with connection:
                yield connection
        path.chmod(disk.FILE_MODE)
    except sqlite3.OperationalError as error:
        raise AttritionError(f"{path}: the history cannot be written now ({error})") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path}: the history cannot be read ({error}); move it away") from error


def save(path: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in one transaction; a row with the key of an older one replaces it.

    Raises: Damaged, AttritionError.
    """
    assert table in ORDER, table
    with _open(path) as connection:
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join("?" * len(row))
            sql = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"
            connection.execute(sql, list(row.values()))


def mark_promoted(path: Path, model: str) -> None:
    """Note in the scores of a model that it was deployed."""
    with _open(path) as connection:
        connection.execute("UPDATE scores SET promoted = 1 WHERE model = ?", [model])


def _read(path: Path, table: str, limit: int, where: str = "", *values: Any) -> Rows:
    """Return the newest rows, oldest first; [] while there is no history.

    Opened for writing where that is allowed: what a killed run left half-written has to be undone
    before anything can be read.
    """
    if not path.is_file():
        return []
    sql = f"SELECT * FROM {table} {where} ORDER BY {ORDER[table]} DESC, rowid DESC LIMIT ?"
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(sql, [*values, limit]).fetchall()
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path}: the history cannot be read ({error}); move it away") from error
    return [dict(row) for row in reversed(found)]


def read_runs(path: Path, limit: int = 50) -> Rows:
    """run, started_at, ended_at, elapsed_s, outcome, reason."""
    return _read(path, "runs", limit)


def read_steps(path: Path, step: str, limit: int = 50) -> Rows:
    """step, made, started_at, elapsed_s, outcome of one step."""
    return _read(path, "steps", limit, "WHERE step = ?", step)


def read_scores(path: Path, limit: int = 2000) -> Rows:
    """scored_at, model, kind, promoted, set, metric, value, low, high."""
    return _read(path, "scores", limit)


def read_missing(path: Path, limit: int = 2000) -> Rows:
    """at, column, missing_pct of the current clients."""
    return _read(path, "missing", limit)


def read_drift(path: Path, limit: int = 2000) -> Rows:
    """at, column, psi, p_value, verdict of the current clients."""
    return _read(path, "drift", limit)


def read_deployments(path: Path, limit: int = 200) -> Rows:
    """at, action, release, reason."""
    return _read(path, "deployments", limit)
