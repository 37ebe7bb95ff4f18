"""Store in the contact log whom the experiment assigned to which arm, and the looks at its results.

Two more tables of the same file: append-only as the entries are, each with its own chain of seals. A log
without them gets them with the first assignment. Standard library only.
"""

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attrition.config import Config
from attrition.contacts import experiment, log
from attrition.contacts.experiment import Assignment

TABLES = TABLE, LOOKS = "assignments", "looks"


class Look(NamedTuple):
    """A look at the results, which is taken once; record: JSON, see attrition/effect/units.py."""

    at: str
    number: int
    share: float
    record: str
    id: int = 0

    @property
    def verdict(self) -> str:
        return str(json.loads(self.record)["verdict"])


# The records of the log, by table.
KINDS: dict[str, type[Any]] = {"entries": log.Entry, TABLE: Assignment, LOOKS: Look}


def _triggers(table: str, key: str) -> Iterable[str]:
    """Return what keeps a table append-only, as for the entries."""
    refuse = "BEGIN SELECT RAISE(ABORT, 'the contact log is append-only'); END"
    yield f"CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} {refuse}"
    yield f"CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} {refuse}"
    yield f"""CREATE TRIGGER {table}_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id OR {key}) {refuse}"""


SCHEMA = (
    f"""CREATE TABLE {TABLE} (
        id INTEGER PRIMARY KEY, client TEXT NOT NULL, quarter TEXT NOT NULL, arm TEXT NOT NULL,
        at TEXT NOT NULL, release TEXT NOT NULL, rank INTEGER NOT NULL, risk REAL NOT NULL, value REAL,
        observed TEXT NOT NULL, share REAL NOT NULL, key_digest TEXT NOT NULL, seal TEXT NOT NULL,
        UNIQUE (client, quarter))""",
    f"""CREATE TABLE {LOOKS} (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, number INTEGER NOT NULL UNIQUE, share REAL NOT NULL,
        record TEXT NOT NULL, seal TEXT NOT NULL)""",
    *_triggers(TABLE, "(client = NEW.client AND quarter = NEW.quarter)"),
    *_triggers(LOOKS, "number = NEW.number"),
    f"PRAGMA user_version = {log.VERSION}",
)


def append(
    path: Path, assignments: Sequence[Assignment], busy_s: float | None = None
) -> list[Assignment]:
    """Append assignments in one transaction; return each as it is stored.

    If a client was assigned in the quarter before, the earlier assignment counts.

    Raises: Damaged; AttritionError if the log cannot be written now.
    """
    if not assignments:
        return []
    with log.explained(path), log.begin_writing(path, busy_s) as connection:
        if not log.has_table(connection, TABLE):
            for statement in SCHEMA:
                connection.execute(statement)
        stored = [
            _find(connection, each) or log.append_record(connection, TABLE, _as_stored(each))
            for each in assignments
        ]
        connection.commit()
    return stored


def _as_stored(assignment: Assignment) -> Assignment:
    """Return an assignment with its numbers as SQLite stores them, or the seal would not match."""
    value = assignment.value
    if value is not None:
        value = value + 0.0 if math.isfinite(value) else None
    return assignment._replace(risk=assignment.risk + 0.0, value=value)


def _find(connection: sqlite3.Connection, assignment: Assignment) -> Assignment | None:
    """Return the assignment of the same client in the same quarter; None if there is none."""
    sql = f"SELECT * FROM {TABLE} WHERE client = ? AND quarter = ?"
    row = connection.execute(sql, [assignment.client, assignment.quarter]).fetchone()
    return Assignment(**{name: row[name] for name in Assignment._fields}) if row else None


def append_look(path: Path, look: Look) -> Look:
    """Append a look unless one with its number is stored; return the stored one.

    Raises: as `append`.
    """
    with log.explained(path), log.begin_writing(path) as connection:
        row = connection.execute(
            f"SELECT * FROM {LOOKS} WHERE number = ?", [look.number]
        ).fetchone()
        if row:
            return Look(**{name: row[name] for name in Look._fields})
        stored = log.append_record(connection, LOOKS, look)
        connection.commit()
    return stored


def read(path: Path) -> tuple[list[Assignment], str]:
    """Return all assignments, oldest first, and which they are, see `log.newest`.

    Raises: Damaged if one is not what was stored; AttritionError if the log cannot be read now.
    """
    return _read(path, TABLE, Assignment)


def read_looks(path: Path) -> tuple[list[Look], str]:
    """Return all looks, oldest first, and which they are. Raises: as `read`."""
    return _read(path, LOOKS, Look)


def _read(path: Path, table: str, kind: type[Any]) -> tuple[list[Any], str]:
    if not os.path.lexists(path):
        return [], ""
    with log.explained(path), log.connect(path) as connection:
        if not log.has_table(connection, table):
            return [], ""
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    records, seal = log.verified(path, table, rows, kind)
    return records, f"{len(records)} {seal}" if records else ""


def check(path: Path) -> int:
    """Let SQLite check the log, and verify every record of it; return the number of entries.

    Raises: Damaged, AttritionError.
    """
    count = log.check(path)
    read(path)
    read_looks(path)
    return count


def check_counted(path: Path, inputs: Mapping[str, Any]) -> None:
    """Check that the log contains all records that an assessment with these inputs counted.

    Raises: Damaged if it does not; AttritionError if the log cannot be read now.
    """
    log.check_counted(path, str(inputs.get("contacts", "")))
    for table in TABLES:
        log.check_counted(path, str(inputs.get(table, "")), table)


def find_inputs(config: Config) -> dict[str, str]:
    """Return what changes the experiment beside rows and settings; {} if there is and was none.

    Raises: AttritionError if the log cannot be read now.
    """
    result = {table: log.newest(config.contact_log, table) for table in TABLES}
    if config.experiment is None and not result[TABLE]:
        return {}
    key = config.experiment.secret if config.experiment else None
    return result | {"key": experiment.key_digest(key)}
