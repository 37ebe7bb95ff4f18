"""The history in one SQLite file: runs, durations, scores, drift, deployments, alerts, messages.

The key of a row is derived from its content: if work is repeated after a crash, it replaces its own
row and nothing is counted twice. Rows keep the order in which they were saved, even if the clock goes
back; each table keeps its newest KEEP rows, and each row has a seal that reveals damage. The journal
is a rollback journal because SQLite before 3.51.3 can lose writes in WAL mode; synchronous is EXTRA
because with FULL a power cut may restore a deleted journal, which would undo a committed transaction.
"""

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from attrition.errors import AttritionError, Damaged
from attrition.storage import files

Rows = list[dict[str, Any]]

KEEP = 10_000
VERSION = 5
BUSY_S = 30
# Errors that will pass, such as a full disk: the file is not damaged.
PASSING = ("BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "CANTOPEN", "NOMEM", "PERM", "PROTOCOL")
REPAIR = "python fullprocess.py --repair repairs it"


class Table(NamedTuple):
    """The columns of a table and its unique key."""

    columns: str
    key: str


TABLES = {
    "runs": Table(
        "run TEXT, started_at TEXT, ended_at TEXT, elapsed_s REAL, outcome TEXT, reason TEXT", "run"
    ),
    "steps": Table(
        "step TEXT, made TEXT, started_at TEXT, elapsed_s REAL, outcome TEXT, cpu_s REAL, "
        'peak_mb REAL, "rows" INTEGER',
        "step, made",
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
    "listings": Table(
        "at TEXT, made TEXT, client TEXT, action TEXT, rank INTEGER, risk REAL, reason TEXT",
        "made, client",
    ),
    "alerts": Table(
        "cause TEXT, opened_at TEXT, code TEXT, sentence TEXT, gone_at TEXT, resolved_at TEXT",
        "cause, opened_at",
    ),
    "outbox": Table(
        "message TEXT, at TEXT, channel TEXT, recipients TEXT, body TEXT, attempts INTEGER, "
        "tried_at TEXT, error TEXT, ended_at TEXT, outcome TEXT",
        "message",
    ),
    "generations": Table("generation INTEGER, seal TEXT, at TEXT", "generation"),
}
SEAL = "row_seal"
STEPS = (
    *("ingestion", "monitoring", "training", "scoring", "deployment"),
    *("assessment", "diagnostics", "reporting"),
)


ADDED = {"listings": 3, "alerts": 5, "outbox": 5}  # the version since which a table exists
# Columns added to a table that exists. While one is empty, the seal of its row leaves it out, as it
# did when the row was saved.
ADDED_COLUMNS = {"steps": {"cpu_s": "REAL", "peak_mb": "REAL", "rows": "INTEGER"}}


def _create(connection: sqlite3.Connection) -> None:
    """Create the tables and columns that do not exist yet; `seq` is the order of saving."""
    for name, table in TABLES.items():
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (seq INTEGER PRIMARY KEY, {table.columns}, "
            f"{SEAL} TEXT, UNIQUE ({table.key}))"
        )
        existing = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
        for column, kind in ADDED_COLUMNS.get(name, {}).items():
            if column not in existing:
                connection.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" {kind}')
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _seal(table: str, row: sqlite3.Row) -> str:
    """Hash the values of a stored row and the names of its columns."""
    added = ADDED_COLUMNS.get(table, {})
    left_out = {SEAL, *(name for name in added if name in row.keys() and row[name] is None)}  # noqa: SIM118
    values = {name: row[name] for name in row.keys() if name not in left_out}  # noqa: SIM118
    text = json.dumps([table, values], default=repr)  # a value that became bytes is damage
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in row.keys() if name not in ("seq", SEAL)}  # noqa: SIM118


def _seal_rows(connection: sqlite3.Connection, table: str, where: str, *values: Any) -> None:
    rows = connection.execute(f"SELECT * FROM {table} WHERE {where}", values).fetchall()
    seals = [(_seal(table, row), row["seq"]) for row in rows]
    connection.executemany(f"UPDATE {table} SET {SEAL} = ? WHERE seq = ?", seals)


def _check_content(connection: sqlite3.Connection, path: Path) -> int:
    """Let SQLite check the file; return the version that wrote it."""
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise Damaged(f"{path}: the history is damaged ({result}); {REPAIR}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise AttritionError(
            f"{path}: was written by a newer version of this software (format {version}, expected "
            f"at most {VERSION}); use that version"
        )
    return int(version)


def _check_file(path: Path) -> None:
    """Raise Damaged if SQLite would follow a link or take the file for a new database."""
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path}: is not a regular file; {REPAIR}")
    if path.stat().st_size == 0:
        raise Damaged(f"{path}: the history is empty; {REPAIR}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise Damaged for an error of SQLite, or AttritionError if the error will pass.

    If the schema is damaged, sqlite3 fails to decode its own message.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        name = str(getattr(error, "sqlite_errorname", "")).removeprefix("SQLITE_")
        if name.startswith(PASSING):
            text = f"{path}: the history cannot be read or written now ({error})"
            raise AttritionError(text) from error
        raise Damaged(f"{path}: the history cannot be read ({error}); {REPAIR}") from error


def begin(path: Path) -> None:
    """Create a history without rows, atomically: an empty file counts as damaged."""
    files.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(temporary)) as connection:
        connection.execute("BEGIN")  # one wait for the disk, not one for each table
        _create(connection)
        connection.commit()
    temporary.chmod(files.FILE_MODE)
    os.replace(temporary, path)
    files.fsync_folder(path.parent)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open for one transaction; create the history if there is none.

    Raises: Damaged, or AttritionError if it cannot be written now (locked, disk full).
    """
    with _explained(path):
        if not os.path.lexists(path):
            begin(path)
        with _connect(path) as connection:
            connection.isolation_level = None  # transactions begin and end explicitly
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA secure_delete=ON")  # a delivered digest names clients
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _check_content(connection, path) < VERSION:
                    _create(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _connect(path: Path) -> closing[sqlite3.Connection]:
    """Connect to an existing history.

    The mode is read-write even for readers: SQLite has to undo what a killed run left half-written.

    Raises: Damaged.
    """
    _check_file(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S)
    connection.row_factory = sqlite3.Row
    return closing(connection)


def save(
    path: Path, table: str, rows: Iterable[Mapping[str, Any]], *, replace: bool = True
) -> None:
    """Write rows in one transaction; if a key exists, the new row replaces the old or is ignored.

    Raises: Damaged, AttritionError.
    """
    save_tables(path, {table: rows}, replace=replace)


def save_tables(
    path: Path, tables: Mapping[str, Iterable[Mapping[str, Any]]], *, replace: bool = True
) -> None:
    """Write rows of several tables in one transaction, as `save` does."""
    assert tables.keys() <= TABLES.keys(), tables.keys()
    with _open(path) as connection:
        for table, rows in tables.items():
            _insert(connection, table, rows, "REPLACE" if replace else "IGNORE")


def _insert(
    connection: sqlite3.Connection,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    otherwise: str,
) -> None:
    (newest,) = connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()
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


def mark_promoted(path: Path, model: str) -> None:
    """Mark the scores of a model as those of a deployed model."""
    with _open(path) as connection:
        connection.execute("UPDATE scores SET promoted = 1 WHERE model = ?", [model])
        _seal_rows(connection, "scores", "model = ?", model)


def read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts of all rows, each with the name of its column.

    Raises: Damaged, AttritionError.
    """
    for table in TABLES:
        for row in _read(table, path, -1):
            yield from ((name, text) for name, text in row.items() if isinstance(text, str))


def rewrite(path: Path, change: Callable[[str, str], str]) -> Counter[str]:
    """Change texts of all rows in one transaction, and remove the old ones from the file.

    change: returns the new text, from the name of its column and the text

    Return how many rows of each table changed.

    Raises: Damaged, AttritionError.
    """
    changed = Counter[str]()
    with _open(path) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        for table in TABLES:
            for row in connection.execute(f"SELECT * FROM {table}").fetchall():
                texts = {name: text for name, text in _plain(row).items() if isinstance(text, str)}
                new = {name: change(name, text) for name, text in texts.items()}
                if new != texts:
                    names = ", ".join(f'"{name}" = ?' for name in new)
                    sql = f"UPDATE {table} SET {names} WHERE seq = ?"
                    connection.execute(sql, [*new.values(), row["seq"]])
                    _seal_rows(connection, table, "seq = ?", row["seq"])
                    changed[table] += 1
    if changed:
        with _explained(path), _connect(path) as connection:
            connection.execute("VACUUM")
    return changed


def _read(table: str, path: Path, limit: int = 2000, where: str = "", *values: Any) -> Rows:
    """Return the newest rows, oldest first; [] if there is no history.

    Raises: Damaged if a row is not what was saved, AttritionError if it cannot be read now.
    """
    if not os.path.lexists(path):
        return []
    with _explained(path), _connect(path) as connection:
        if _check_content(connection, path) < ADDED.get(table, 0):
            return []
        sql = f"SELECT * FROM {table} {where} ORDER BY seq DESC LIMIT ?"
        rows = connection.execute(sql, [*values, limit]).fetchall()
    if not all(_is_sealed(table, row) for row in rows):
        raise Damaged(f"{path}: a row of {table} is not what was saved; {REPAIR}")
    return [_plain(row) for row in reversed(rows)]


def check(path: Path) -> None:
    """Read every row.

    Raises: Damaged, AttritionError.
    """
    for table in TABLES:
        _read(table, path, -1)


def salvage(damaged: Path, path: Path) -> int:
    """Copy the intact rows of a damaged history into a new one; return how many."""
    begin(path)
    saved = 0
    for table in TABLES:
        rows = list(_readable(damaged, table))
        save(path, table, rows)
        saved += len(rows)
    return saved


def _readable(damaged: Path, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows whose seal matches, until a row cannot be read."""
    uri = f"{damaged.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY seq"):
                if _is_sealed(table, row):
                    yield _plain(row)
    except (sqlite3.Error, UnicodeDecodeError):
        return  # the rest cannot be read: the damaged file is kept


def _is_sealed(table: str, row: sqlite3.Row) -> bool:
    return SEAL in row.keys() and _seal(table, row) == row[SEAL]  # noqa: SIM118


def read_worked_runs(path: Path, limit: int = 50) -> Rows:
    """Return the newest runs that were not skipped because another run was active."""
    return _read("runs", path, limit, "WHERE +outcome != ?", "skipped")


def has_generation(path: Path, seal: str) -> bool:
    """Return whether the history has this state of the rows."""
    return bool(_read("generations", path, 1, "WHERE seal = ?", seal))


def read_steps(path: Path, step: str, limit: int = 50) -> Rows:
    """Return the newest durations and outcomes of one step."""
    return _read("steps", path, limit, "WHERE +step = ?", step)


def read_open_alerts(path: Path) -> Rows:
    """Return the alerts that are not resolved."""
    return _read("alerts", path, KEEP, "WHERE resolved_at IS NULL")


def read_waiting(path: Path) -> Rows:
    """Return the messages that are neither delivered nor given up."""
    return _read("outbox", path, KEEP, "WHERE ended_at IS NULL")


def read_messages(path: Path, names: Collection[str]) -> Rows:
    """Return messages by their ids."""
    marks = ", ".join("?" * len(names))
    return _read("outbox", path, KEEP, f"WHERE message IN ({marks})", *names)


# Each takes the path and, if need be, a limit; it returns the newest rows of its table.
read_runs = partial(_read, "runs")
read_scores = partial(_read, "scores")
read_missing = partial(_read, "missing")
read_drift = partial(_read, "drift")
read_estimates = partial(_read, "estimates", limit=200)
read_deployments = partial(_read, "deployments", limit=200)
read_listings = partial(_read, "listings", limit=KEEP)
read_generations = partial(_read, "generations")
