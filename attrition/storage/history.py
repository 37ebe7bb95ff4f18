"""The record over time, in one SQLite file: runs, durations, scores, drift, deployments, generations.

Every row has a key made of what it describes, so that work done again after a crash replaces its own
row and nothing is counted twice. Rows are kept in the order in which they were saved, whatever the
clock said, the newest KEEP of each table; each carries a seal by which damage is known. Rollback
journal, as SQLite before 3.51.3 can lose writes in WAL mode; and synchronous=EXTRA, as with FULL a
power cut may bring a removed journal back, and with it undo a transaction that later records count on.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from attrition.errors import AttritionError, Damaged
from attrition.storage import files

Rows = list[dict[str, Any]]

KEEP = 10_000
VERSION = 2
BUSY_S = 30
# What is wrong with the machine for now, not with the file.
PASSING = ("BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "CANTOPEN", "NOMEM", "PERM", "PROTOCOL")
MEND = "python fullprocess.py --repair mends it"


class Table(NamedTuple):
    """The columns of a table, and its unique key."""

    columns: str
    key: str


TABLES = {
    "runs": Table(
        "run TEXT, started_at TEXT, ended_at TEXT, elapsed_s REAL, outcome TEXT, reason TEXT", "run"
    ),
    "steps": Table(
        "step TEXT, made TEXT, started_at TEXT, elapsed_s REAL, outcome TEXT", "step, made"
    ),
    "scores": Table(
        'scored_at TEXT, model TEXT, kind TEXT, promoted INTEGER, "set" TEXT, metric TEXT, '
        "value REAL, low REAL, high REAL",
        'model, "set", metric',
    ),
    "missing": Table('at TEXT, made TEXT, "column" TEXT, missing_pct REAL', 'made, "column"'),
    "drift": Table(
        'at TEXT, made TEXT, "column" TEXT, psi REAL, p_value REAL, verdict TEXT', 'made, "column"'
    ),
    "deployments": Table('at TEXT, made TEXT, action TEXT, "release" TEXT, reason TEXT', "made"),
    "estimates": Table(
        'at TEXT, made TEXT, "release" TEXT, figure TEXT, "rows" INTEGER, estimated REAL, low REAL, '
        "high REAL, realised REAL",
        "made, figure",
    ),
    "generations": Table("generation INTEGER, seal TEXT, at TEXT", "generation"),
}
SEAL = "row_seal"


def _create(connection: sqlite3.Connection) -> None:
    """Create the tables; `seq` is the order of saving, whatever the clock says."""
    for name, table in TABLES.items():
        connection.execute(
            f"CREATE TABLE {name} (seq INTEGER PRIMARY KEY, {table.columns}, "
            f"{SEAL} TEXT, UNIQUE ({table.key}))"
        )
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _seal(table: str, row: sqlite3.Row) -> str:
    """Hash a row as it was read back, the names of its columns included."""
    values = {name: row[name] for name in row.keys() if name != SEAL}  # noqa: SIM118
    text = json.dumps([table, values], default=repr)  # a value that became bytes is damage
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in row.keys() if name not in ("seq", SEAL)}  # noqa: SIM118


def _seal_rows(connection: sqlite3.Connection, table: str, where: str, *values: Any) -> None:
    found = connection.execute(f"SELECT * FROM {table} WHERE {where}", values).fetchall()
    seals = [(_seal(table, row), row["seq"]) for row in found]
    connection.executemany(f"UPDATE {table} SET {SEAL} = ? WHERE seq = ?", seals)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise AttritionError(
            f"{path}: was made by a newer version of this software (format {version}, expected "
            f"at most {VERSION}); use that one"
        )


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Damaged(f"{path}: the history is damaged ({found}); {MEND}")


def _check_file(path: Path) -> None:
    """Refuse what SQLite would take for a new database, or follow to another file.

    Raises: Damaged.
    """
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path}: is not the file it was; {MEND}")
    if path.stat().st_size == 0:
        raise Damaged(f"{path}: the history is empty; {MEND}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell damage from what passes, such as a full disk: then nothing is wrong with the file.

    A damaged schema makes sqlite3 fail to decode its own message: that is damage too.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
        if name.startswith(PASSING):
            text = f"{path}: the history cannot be read or written now ({error})"
            raise AttritionError(text) from error
        raise Damaged(f"{path}: the history cannot be read ({error}); {MEND}") from error


def begin(path: Path) -> None:
    """Make a history without a row, whole or not at all: an empty file is damage."""
    files.make_folder(path.parent)
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)
    with closing(sqlite3.connect(made)) as connection:
        _create(connection)
        connection.commit()
    made.chmod(files.FILE_MODE)
    os.replace(made, path)
    files.fsync_folder(path.parent)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open for one transaction; create the history if there is none.

    Raises: Damaged when the file is not a database of ours, AttritionError when it cannot be written
    now (locked, disk full): then nothing is wrong with it.
    """
    with _explained(path):
        if not os.path.lexists(path):
            begin(path)
        _check_file(path)
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
            connection.isolation_level = None  # transactions begin and end where we say
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            try:
                _check_whole(connection, path)
                _check_version(connection, path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def save(path: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in one transaction; a row with the key of an older one replaces it, as the newest.

    Raises: Damaged, AttritionError.
    """
    _write(path, table, rows, "REPLACE")


def save_if_new(path: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows whose key is not there yet.

    Raises: Damaged, AttritionError.
    """
    _write(path, table, rows, "IGNORE")


def _write(path: Path, table: str, rows: Iterable[Mapping[str, Any]], otherwise: str) -> None:
    assert table in TABLES, table
    with _open(path) as connection:
        newest = _newest(connection, table)
        for seq, row in enumerate(rows, newest + 1):
            names = ", ".join(f'"{name}"' for name in ("seq", *row))
            marks = ", ".join("?" * (len(row) + 1))
            sql = f"INSERT OR {otherwise} INTO {table} ({names}) VALUES ({marks})"
            connection.execute(sql, [seq, *row.values()])
        _seal_rows(connection, table, "seq > ?", newest)
        connection.execute(
            f"DELETE FROM {table} WHERE seq NOT IN "
            f"(SELECT seq FROM {table} ORDER BY seq DESC LIMIT {KEEP})"
        )


def _newest(connection: sqlite3.Connection, table: str) -> int:
    (seq,) = connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()
    return int(seq)


def mark_promoted(path: Path, model: str) -> None:
    """Note in the scores of a model that it was deployed."""
    with _open(path) as connection:
        connection.execute("UPDATE scores SET promoted = 1 WHERE model = ?", [model])
        _seal_rows(connection, "scores", "model = ?", model)


def _read(path: Path, table: str, limit: int, where: str = "", *values: Any) -> Rows:
    """Return the newest rows, oldest first; [] while there is no history.

    Opened for writing where that is allowed: what a killed run left half-written has to be undone
    before anything can be read.

    Raises: Damaged when a row is not what was saved, AttritionError when it cannot be read now.
    """
    if not os.path.lexists(path):
        return []
    _check_file(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with _explained(path), closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
        connection.row_factory = sqlite3.Row
        _check_version(connection, path)
        _check_whole(connection, path)
        sql = f"SELECT * FROM {table} {where} ORDER BY seq DESC LIMIT ?"
        rows = connection.execute(sql, [*values, limit]).fetchall()
    if not all(_is_sealed(table, row) for row in rows):
        raise Damaged(f"{path}: a row of {table} is not what was saved; {MEND}")
    return [_plain(row) for row in reversed(rows)]


def check(path: Path) -> None:
    """Read all of it.

    Raises: Damaged, AttritionError.
    """
    for table in TABLES:
        _read(path, table, -1)


def salvage(damaged: Path, path: Path) -> int:
    """Save the rows of a damaged history that are still as they were saved; return how many."""
    begin(path)
    saved = 0
    for table in TABLES:
        rows = list(_readable(damaged, table))
        save(path, table, rows)
        saved += len(rows)
    return saved


def _readable(damaged: Path, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows that can be read and whose seal matches, until there is nothing to read."""
    uri = f"{damaged.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY seq"):
                if _is_sealed(table, row):
                    yield _plain(row)
    except (sqlite3.Error, UnicodeDecodeError):
        return  # what follows cannot be read any more: that is why it is set aside


def _is_sealed(table: str, row: sqlite3.Row) -> bool:
    return SEAL in row.keys() and _seal(table, row) == row[SEAL]  # noqa: SIM118


def read_runs(path: Path, limit: int = 50) -> Rows:
    """run, started_at, ended_at, elapsed_s, outcome, reason."""
    return _read(path, "runs", limit)


def read_worked_runs(path: Path, limit: int = 50) -> Rows:
    """The same of the runs that worked: ticks that left the work to another run push none out."""
    return _read(path, "runs", limit, "WHERE +outcome != ?", "skipped")


def read_steps(path: Path, step: str, limit: int = 50) -> Rows:
    """step, made, started_at, elapsed_s, outcome of one step."""
    return _read(path, "steps", limit, "WHERE +step = ?", step)


def read_scores(path: Path, limit: int = 2000) -> Rows:
    """scored_at, model, kind, promoted, set, metric, value, low, high."""
    return _read(path, "scores", limit)


def read_missing(path: Path, limit: int = 2000) -> Rows:
    """at, column, missing_pct of the current clients."""
    return _read(path, "missing", limit)


def read_drift(path: Path, limit: int = 2000) -> Rows:
    """at, column, psi, p_value, verdict of the current clients."""
    return _read(path, "drift", limit)


def read_estimates(path: Path, limit: int = 200) -> Rows:
    """at, release, figure, rows, estimated, low, high, realised: what was estimated and what became."""
    return _read(path, "estimates", limit)


def read_deployments(path: Path, limit: int = 200) -> Rows:
    """at, action, release, reason."""
    return _read(path, "deployments", limit)


def read_generations(path: Path, limit: int = KEEP) -> Rows:
    """generation, seal, at of the records of ingestion."""
    return _read(path, "generations", limit)
