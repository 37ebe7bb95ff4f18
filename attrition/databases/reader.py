"""Read rows from SQL tables: those that changed since the last reading, or all of them.

A table is read in one snapshot, so that the number of rows, the newest change and the rows belong to
one moment. If anything fails, it becomes a SourceError of one line without secrets.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import ModuleType
from typing import Any

from attrition.config import Database
from attrition.data.schema import Chunk
from attrition.databases import mysql, postgres, sqlite
from attrition.databases.table_snapshot import Snapshot
from attrition.databases.table_snapshot import sqlite_file as sqlite_file
from attrition.databases.urls import resolve, server_kind
from attrition.errors import SourceError
from attrition.storage import files

ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")
MAX_XIDS = 1 << 31  # how far apart PostgreSQL can compare transactions

Watermark = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One reading of a table in one snapshot; consume it while `reading` keeps the table open.

    `chunks` are sorted by change; `whole` is true if they are all rows of the table and not only the
    changed ones. `seen` is JSON and complete before the first chunk: `rows` in the table, and whatever
    the next reading needs in order to continue from here.
    """

    header: tuple[str, ...]
    chunks: Iterator[Chunk]
    whole: bool
    seen: Watermark


def utc_datetime() -> datetime:
    return datetime.fromisoformat(files.utc_now())


def identity(database: Database) -> str:
    """Hash what identifies the table; if another table takes an old name, it is read from the start."""
    settings = f"{database.url}\n{database.table}\n{database.changed_column}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def probe(database: Database, *, seconds: float) -> str:
    """Return a mark that changes when the table changes; costs one pass over it.

    For SQLite, hash the file. For a PostgreSQL table, sum the transactions that wrote its rows; for a
    view, or a table of MySQL, sum the hashes of its rows. So a change is noticed even if the number of
    rows and the newest time stay the same. If a file or a server takes too long, that is an error and
    not "unchanged".

    Raises: SourceError.
    """
    mark = identity(database)
    if sqlite_file(database) is not None:
        with one_line_errors(database):
            file = sqlite.existing_file(database)
            return f"{mark} {sqlite.hash_files(file, seconds=seconds)}"
    import sqlalchemy as sa

    with _opened(database, seconds) as snapshot, one_line_errors(database):
        query = sa.select(sa.func.count(), *snapshot.digest).select_from(snapshot.table)
        parts = [*snapshot.place.values(), *snapshot.ask(query), snapshot.header]
    return f"{mark} {_hash(parts)}"


@contextmanager
def reading(
    database: Database, since: Watermark | None, *, seconds: float, whole: bool = False
) -> Iterator[Reading]:
    """Read a table: what changed since the last reading, or everything if that is uncertain.

    Changed rows are: all rows from `overlap_hours` before the newest change on, because a row may share
    its time with the last row read or may be committed late (repeats are dropped by content); rows
    without a time; and, for a PostgreSQL table, rows written by a transaction that was still open.
    The whole table is read if the caller asks for it, if the last whole reading is `reconcile_hours`
    ago, or if more happened than additions and changes (see `_can_continue`).

    Raises: SourceError, also out of the chunks.
    """
    with _opened(database, seconds) as snapshot:
        with one_line_errors(database):
            moment = utc_datetime()
            seen = _summarise(snapshot, database, moment)
            continues = (
                not whole and since and _can_continue(snapshot, database, since, seen, moment)
            )
            if since and continues:
                seen["whole_at"] = since["whole_at"]
            query = _select(snapshot, since if continues else None)
        yield Reading(
            snapshot.header, _numbered(database, snapshot.batches(query)), not continues, seen
        )


def _select(snapshot: Snapshot, since: Watermark | None) -> Any:
    """Select all rows, or the changed ones, sorted by change."""
    import sqlalchemy as sa

    query = sa.select(*snapshot.texts()).select_from(snapshot.table)
    if not snapshot.changes:
        return query
    changed = snapshot.table.c[snapshot.changes]
    if since:
        uncommitted = _uncommitted(snapshot, since)
        news = [changed >= _literal(since["bound"]), changed.is_(None)]
        query = query.where(sa.or_(*news, *([] if uncommitted is None else [uncommitted])))
    return query.order_by(changed.nulls_first())


def _uncommitted(snapshot: Snapshot, since: Watermark) -> Any | None:
    """Return a condition for rows not yet committed when the table was last read; None if unknown."""
    import sqlalchemy as sa

    then = since.get("xid")
    if snapshot.xid is None or then is None or not 0 <= snapshot.xid - then < MAX_XIDS:
        return None
    oldest: Any = sa.literal_column(f"'{then % (1 << 32)}'::xid")
    return sa.func.age(sa.literal_column("t.xmin")) <= sa.func.age(oldest)


def _numbered(database: Database, batches: Iterable[tuple[Any, ...]]) -> Iterator[Chunk]:
    """Number the rows from 1; raise nothing but SourceError."""
    first = 1
    with one_line_errors(database):
        for columns in batches:
            following = first + len(columns[0])
            yield Chunk(columns, range(first, following))
            first = following


# ---- can this reading continue from the last one?


def _summarise(snapshot: Snapshot, database: Database, moment: datetime) -> Watermark:
    """Count the rows and find where the next reading starts."""
    import sqlalchemy as sa

    seen: Watermark = {
        "whole_at": moment.isoformat(),
        "bound": None,
        **snapshot.place,
        "xid": snapshot.xid,
    }
    count = sa.func.count()
    if not snapshot.changes:
        (seen["rows"],) = snapshot.ask(sa.select(count).select_from(snapshot.table))
        return seen
    changed = snapshot.table.c[snapshot.changes]
    query = sa.select(count, sa.func.count(changed), snapshot.newest).select_from(snapshot.table)
    seen["rows"], timed, newest = snapshot.ask(query)
    kind = snapshot.kind or ("number" if isinstance(newest, int | float) else "text")
    bound, until = find_bound(newest, kind, database.overlap_hours, moment)
    if bound is not None and snapshot.xid is None:
        seen["below"] = _below(snapshot, bound)
    return seen | {"nulls": seen["rows"] - timed, "bound": bound, "until": until}


def find_bound(newest: Any, kind: str, overlap_hours: float, moment: datetime) -> tuple[Any, Any]:
    """Return where the next reading starts and up to where everything was read; None to read all.

    For a time, start at the overlap before the newest, but never in the future, which would hide all
    later rows. For a time stored as text, start at its day, because every notation sorts after it. For
    a counter, start at the newest value.

    >>> april = datetime.fromisoformat("2026-04-01T00:00Z")
    >>> find_bound("2026-03-01 12:00:00+00:00", "time", 1, april)
    ('2026-03-01 11:00:00+00:00', '2026-03-01 12:00:00+00:00')
    >>> find_bound("2026-03-01T12:00Z", "text", 1, april)
    ('2026-02-28', '2026-03-01T12:00Z')
    >>> find_bound(7, "number", 1, april)
    (7, 7)
    """
    if newest is None or str(newest).lstrip("-").lower() in ("nan", "inf", "infinity"):
        return None, None
    if kind == "number":
        return newest, newest
    try:
        overlap = timedelta(hours=overlap_hours)
        if kind == "time":
            return _time_bound(str(newest), overlap, moment)
        day = date.fromisoformat(str(newest)[:10])
        if not ISO_DAY.match(str(newest)):
            return None, None
        if day > moment.date():
            day, newest = moment.date(), str(moment.date())
        return str((datetime.combine(day, datetime.min.time()) - overlap).date()), newest
    except (ValueError, OverflowError):
        return None, None


def _time_bound(newest: str, overlap: timedelta, moment: datetime) -> tuple[str, str]:
    time_of = datetime.fromisoformat(newest)
    until = min(time_of, moment if time_of.tzinfo else moment.replace(tzinfo=None))
    return (until - overlap).isoformat(sep=" "), until.isoformat(sep=" ")


def _below(snapshot: Snapshot, bound: Any) -> str:
    """Hash the rows below a bound, which the next reading will skip."""
    import sqlalchemy as sa

    query = sa.select(sa.func.count(), *snapshot.digest).select_from(snapshot.table)
    return _hash(snapshot.ask(query.where(snapshot.table.c[snapshot.changes] < _literal(bound))))


def _can_continue(
    snapshot: Snapshot, database: Database, since: Watermark, seen: Watermark, moment: datetime
) -> bool:
    """Do additions and changes alone explain the difference to the last reading?

    No if rows are gone, if the newest change is gone (a backup was restored, the table was refilled), or
    if the table, the server or the clock differs. If the server does not know which rows are new, the
    rows below the bound must be unchanged.
    """
    import sqlalchemy as sa

    if since.get("bound") is None or seen["bound"] is None or seen["rows"] < since["rows"]:
        return False
    if any(since.get(name) != value for name, value in snapshot.place.items()):
        return False
    hours_ago = (moment - datetime.fromisoformat(since["whole_at"])) / timedelta(hours=1)
    if not 0 <= hours_ago < database.reconcile_hours:
        return False
    newest = sa.select(sa.func.count()).select_from(snapshot.table)
    reached = snapshot.table.c[snapshot.changes] >= _literal(since["until"])
    if snapshot.ask(newest.where(reached))[0] == 0:
        return False
    if snapshot.xid is None:
        return bool(_below(snapshot, since["bound"]) == since["below"])
    return _uncommitted(snapshot, since) is not None


def _hash(values: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(values)).encode()).hexdigest()[:16]


def _literal(value: Any) -> Any:
    """Bind a value without a type; the column it is compared with decides."""
    import sqlalchemy as sa

    return sa.literal(value, sa.types.NullType())


# ---- open a table, and turn errors into one line


@contextmanager
def _opened(database: Database, seconds: float) -> Iterator[Snapshot]:
    """Open a table in one snapshot for as long as the block lasts.

    Raises: SourceError.
    """
    with ExitStack() as stack:
        with one_line_errors(database):
            snapshot = _opener(database).open_table(database, seconds, stack)
        yield snapshot


def _opener(database: Database) -> ModuleType:
    """Return the module that opens tables of this kind of database.

    Raises: SourceError.
    """
    if sqlite_file(database) is not None:
        return sqlite
    return mysql if server_kind(resolve(database)[0]) == "mysql" else postgres


@contextmanager
def one_line_errors(
    database: Database, verb: str = "reading", limit: str = "max_source_seconds"
) -> Iterator[None]:
    """Raise a SourceError of one line instead of whatever a driver raises.

    Neither the line nor a traceback contains a secret: the driver's own error is not chained.

    verb, limit: what is done to the table, and the setting that limits its time
    """
    errors = _opener(database).driver_errors()
    try:
        yield
    except (OSError, *errors) as error:
        is_coded = len(error.args) == 2 and not isinstance(error, OSError)  # as PyMySQL's are
        text = str(error.args[1] if is_coded else error).strip() or type(error).__name__
        line = text.splitlines()[0]
        if line == "interrupted" or "statement timeout" in line or "time exceeded" in line:
            line = f"{verb} {database.table} took longer than {limit} allow"
        secrets = [] if sqlite_file(database) is not None else resolve(database)[1]
        for secret in secrets:
            line = line.replace(secret, "***")
        raise SourceError(f"{database.name}: {line}") from None
