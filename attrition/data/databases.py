"""Rows from SQL tables: what is new in a table since it was last seen, or all of it.

A table is looked at in one snapshot: how many rows it has, how far they changed, and the rows are those
of one moment. Whatever goes wrong becomes a SourceError of one line that holds no secret.
"""

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from attrition.config import Database
from attrition.data import postgres, sqlite
from attrition.data.schema import Chunk
from attrition.data.table_snapshot import Snapshot
from attrition.data.table_snapshot import sqlite_file as sqlite_file
from attrition.errors import SourceError

ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")
MAX_XIDS = 1 << 31  # how far apart PostgreSQL can compare transactions

Watermark = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One look at a table in one snapshot; consumed while `reading` holds it open.

    `chunks` come in the order of their changes; `whole` says that they are every row of the table, not
    only what changed. `seen` is JSON, known before the first chunk: `rows` in the table, and what the
    next look has to know to go on from here.
    """

    header: tuple[str, ...]
    chunks: Iterator[Chunk]
    whole: bool
    seen: Watermark


def utc_datetime() -> datetime:
    return datetime.now(UTC)


def identity(database: Database) -> str:
    """Hash what says which table is read: another table under an old name starts from its first row."""
    settings = f"{database.url}\n{database.table}\n{database.changed_column}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def probe(database: Database, *, seconds: float) -> str:
    """Return a mark that changes when a table has news, at the cost of one pass over it.

    Of SQLite it hashes the file. Of a PostgreSQL table it adds up the transactions that wrote its
    rows, of a view the hashes of its rows: a change that leaves the number of rows and the newest time
    alone is seen as well. A file or a server that takes too long is an error, not a table without news.

    Raises: SourceError.
    """
    mark = identity(database)
    if sqlite_file(database) is not None:
        with _told(database):
            file = sqlite.existing_file(database)
            return f"{mark} {sqlite.hash_files(file, seconds=seconds)}"
    import sqlalchemy as sa

    with _opened(database, seconds) as found, _told(database):
        query = sa.select(sa.func.count(), *found.digest).select_from(found.table)
        told = [*found.place.values(), *found.ask(query), found.header]
    return f"{mark} {_hash(told)}"


@contextmanager
def reading(
    database: Database, since: Watermark | None, *, seconds: float, whole: bool = False
) -> Iterator[Reading]:
    """Look at a table: what changed since it was last seen, or all of it where that is unsure.

    What changed is: rows from `overlap_hours` before the newest change on, so that one that shares its
    time with the last row read or was committed late is met again, and dropped by its content; rows
    without a time; and of a PostgreSQL table whatever a transaction wrote that was not over by then.
    The table is read whole when that is asked for, when it is `reconcile_hours` ago, and whenever what
    is there now cannot be told from what was there then by additions alone (see `_goes_on`).

    Raises: SourceError, also out of the chunks.
    """
    with _opened(database, seconds) as found:
        with _told(database):
            moment = utc_datetime()
            seen = _look(found, database, moment)
            goes_on = not whole and since and _goes_on(found, database, since, seen, moment)
            if since and goes_on:
                seen["whole_at"] = since["whole_at"]
            query = _select(found, since if goes_on else None)
        yield Reading(found.header, _numbered(database, found.batches(query)), not goes_on, seen)


def _select(found: Snapshot, since: Watermark | None) -> Any:
    """Select the rows in the order of their changes: all of them, or what changed."""
    import sqlalchemy as sa

    query = sa.select(*found.texts()).select_from(found.table)
    if not found.changes:
        return query
    changed = found.table.c[found.changes]
    if since:
        up_to_date = _fresh(found, since)
        news = [changed >= _literal(since["bound"]), changed.is_(None)]
        query = query.where(sa.or_(*news, *([] if up_to_date is None else [up_to_date])))
    return query.order_by(changed.nulls_first())


def _fresh(found: Snapshot, since: Watermark) -> Any | None:
    """Say which rows no transaction had written for good when the table was seen; None if unknown."""
    import sqlalchemy as sa

    then = since.get("xid")
    if found.xid is None or then is None or not 0 <= found.xid - then < MAX_XIDS:
        return None
    oldest: Any = sa.literal_column(f"'{then % (1 << 32)}'::xid")
    return sa.func.age(sa.literal_column("t.xmin")) <= sa.func.age(oldest)


def _numbered(database: Database, batches: Iterable[tuple[Any, ...]]) -> Iterator[Chunk]:
    """Number the rows from 1, and let nothing but a SourceError out."""
    first = 1
    with _told(database):
        for columns in batches:
            following = first + len(columns[0])
            yield Chunk(columns, range(first, following))
            first = following


# ---- what is there now, and may we go on from what was there?


def _look(found: Snapshot, database: Database, moment: datetime) -> Watermark:
    """Count the rows, and find from where to read the next time."""
    import sqlalchemy as sa

    seen: Watermark = {
        "whole_at": moment.isoformat(),
        "bound": None,
        **found.place,
        "xid": found.xid,
    }
    count = sa.func.count()
    if not found.changes:
        (seen["rows"],) = found.ask(sa.select(count).select_from(found.table))
        return seen
    changed = found.table.c[found.changes]
    query = sa.select(count, sa.func.count(changed), found.newest).select_from(found.table)
    seen["rows"], timed, newest = found.ask(query)
    kind = found.kind or ("number" if isinstance(newest, int | float) else "text")
    bound, until = find_bound(newest, kind, database.overlap_hours, moment)
    if bound is not None and found.xid is None:
        seen["below"] = _below(found, bound)
    return seen | {"nulls": seen["rows"] - timed, "bound": bound, "until": until}


def find_bound(newest: Any, kind: str, overlap_hours: float, moment: datetime) -> tuple[Any, Any]:
    """Return from where to read the next time, and up to where all has been seen; None to read all.

    Of a time it is the overlap before the newest, and never in the future, which would hide all that
    follows; of one kept as text the day of that, which no way to write it sorts before. A counter goes
    on from the newest itself.

    >>> april = datetime(2026, 4, 1, tzinfo=UTC)
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


def _below(found: Snapshot, bound: Any) -> str:
    """Digest the rows below a bound, which the next look does not mean to read."""
    import sqlalchemy as sa

    query = sa.select(sa.func.count(), *found.digest).select_from(found.table)
    return _hash(found.ask(query.where(found.table.c[found.changes] < _literal(bound))))


def _goes_on(
    found: Snapshot, database: Database, since: Watermark, seen: Watermark, moment: datetime
) -> bool:
    """Can what is there now be told from what was seen by additions and changes alone?

    Not where rows are gone, nothing is left of the newest change (a backup was restored, a table filled
    anew), or the table, the server or the clock is another one. Where the server does not know which
    rows are fresh, those below the bound have to be what they were.
    """
    import sqlalchemy as sa

    if since.get("bound") is None or seen["bound"] is None or seen["rows"] < since["rows"]:
        return False
    if any(since.get(name) != value for name, value in found.place.items()):
        return False
    hours_ago = (moment - datetime.fromisoformat(since["whole_at"])) / timedelta(hours=1)
    if not 0 <= hours_ago < database.reconcile_hours:
        return False
    newest = sa.select(sa.func.count()).select_from(found.table)
    reached = found.table.c[found.changes] >= _literal(since["until"])
    if found.ask(newest.where(reached))[0] == 0:
        return False
    if found.xid is None:
        return bool(_below(found, since["bound"]) == since["below"])
    return _fresh(found, since) is not None


def _hash(values: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(values)).encode()).hexdigest()[:16]


def _literal(value: Any) -> Any:
    """Bind a value without a type: the column that it is compared with decides."""
    import sqlalchemy as sa

    return sa.literal(value, sa.types.NullType())


# ---- open, and say what went wrong


@contextmanager
def _opened(database: Database, seconds: float) -> Iterator[Snapshot]:
    """Hold a table open in one snapshot.

    Raises: SourceError.
    """
    with ExitStack() as stack:
        with _told(database):
            if sqlite_file(database) is not None:
                found = sqlite.open_table(database, seconds, stack)
            else:
                found = postgres.open_table(database, seconds, stack)
        yield found


@contextmanager
def _told(database: Database) -> Iterator[None]:
    """Raise a SourceError of one line in place of whatever a driver raises.

    Neither the line nor a traceback holds a secret: the driver's own error is not chained to it.
    """
    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    if sqlite_file(database) is None:
        import psycopg

        errors += (psycopg.Error,)
    try:
        yield
    except errors as error:
        text = str(error).strip() or type(error).__name__
        line = text.splitlines()[0]
        if line == "interrupted" or "statement timeout" in line:
            line = f"reading {database.table} took longer than max_source_seconds allow"
        secrets = [] if sqlite_file(database) is not None else postgres.resolve(database)[1]
        for secret in secrets:
            line = line.replace(secret, "***")
        raise SourceError(f"{database.name}: {line}") from None
