"""Rows from CSV, gzipped CSV and Parquet files in a folder, and from SQL tables.

Text passes a strict gate: bytes -> strict decoding -> strict CSV -> cells for `schema`. Nothing is
guessed that could turn one client into another. Only SELECT is ever sent to a database.
"""

import csv
import gzip
import hashlib
import io
import math
import os
import re
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from attrition import schema
from attrition.config import Columns, Database
from attrition.errors import AttritionError, SourceError
from attrition.schema import BLANKS, MAX_COLUMNS, Table, number_text

INPUT_ENDINGS = (".csv", ".csv.gz", ".parquet")
MAX_FILE_BYTES = 2 << 30
MAX_FIELD = 131_072
SQLITE_URL = "sqlite:///"
BUSY_SECONDS, CONNECT_SECONDS = 5, 5
MAGIC = {
    b"\x1f\x8b": "BINARY_GZIP",
    b"PK\x03\x04": "BINARY_ZIP",
    b"%PDF": "BINARY_PDF",
    b"SQLite format 3\x00": "BINARY_SQLITE",
    b"PAR1": "BINARY_PARQUET",
}
DELIMITERS = ",;\t|"


class Refused(Exception):
    """Nothing of this source can be used; `unfinished` says that it may still be being written."""

    def __init__(self, code: str, reason: str, *, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.code, self.reason, self.unfinished = code, reason, unfinished


@dataclass(frozen=True)
class File:
    """A file as it was read once: the bytes that were hashed are the bytes that are used."""

    name: str
    sha256: str
    data: bytes
    changed_s_ago: float


# ---- files


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted.

    Raises: SourceError when there is no such folder.
    """
    try:
        return sorted((path.name for path in folder.iterdir()), key=os.fsencode)
    except OSError as error:
        raise SourceError(
            f"{folder}: cannot be listed ({error.strerror}); create the folder or mend config.json"
        ) from error


def not_an_input(name: str) -> str | None:
    """Say why a name is not that of an input, or None when it is."""
    if name.startswith("."):
        return "HIDDEN"
    return None if name.lower().endswith(INPUT_ENDINGS) else "NOT_AN_INPUT_NAME"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file without following a link or waiting for a pipe.

    Raises: Refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise Refused("SYMLINK", "a symbolic link, expected a regular file") from error
        raise Refused("UNREADABLE", f"cannot be read ({error.strerror})") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Refused("NOT_REGULAR", "not a regular file")
        if about.st_size > MAX_FILE_BYTES:
            raise Refused("TOO_LARGE", f"{about.st_size} bytes, at most {MAX_FILE_BYTES}")
        yield descriptor, about
    except OSError as error:
        raise Refused("UNREADABLE", f"cannot be read ({error.strerror})") from error
    finally:
        os.close(descriptor)


def hash_file(path: Path) -> str:
    """Return the sha256 of what a source file holds now; "-" where there is nothing to read."""
    try:
        with _opened(path) as (descriptor, _):
            digest = hashlib.sha256()
            while chunk := os.read(descriptor, 1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
    except Refused:
        return "-"


def read_file(path: Path) -> File:
    """Read a file's bytes once.

    Raises: Refused.
    """
    with _opened(path) as (descriptor, about), os.fdopen(os.dup(descriptor), "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Refused("TOO_LARGE", f"more than {MAX_FILE_BYTES} bytes")
    return File(path.name, hashlib.sha256(data).hexdigest(), data, time.time() - about.st_mtime)


def read_table(file: File) -> Table:
    """Turn the bytes of a file into rows of text.

    Raises: Refused.
    """
    name = file.name.lower()
    if name.endswith(".parquet"):
        return _read_parquet(file.data)
    if name.endswith(".gz"):
        return read_csv(_gunzip(file.data))
    return read_csv(file.data)


def _gunzip(data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused("BAD_GZIP", f"not whole gzip ({error})", unfinished=True) from error
    if len(text) > MAX_FILE_BYTES:
        raise Refused("TOO_LARGE", f"more than {MAX_FILE_BYTES} bytes when unpacked")
    return text


def _read_parquet(data: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
        columns = [[cell_text(value) for value in column.to_pylist()] for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused("BAD_PARQUET", f"not readable ({reason})", unfinished=True) from error
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(tuple(table.column_names), rows, list(range(1, len(rows) + 1)))


def cell_text(value: Any) -> str:
    """Write a typed value as the text that a CSV would hold."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        return number_text(value) if abs(value) < 1e300 else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return "\x00" + bytes(value).hex()[:40]
    return str(value)


# ---- our own tables


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Write rows as CSV in UTF-8; a name that is not Unicode is written with its bytes escaped."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_cells(path: Path) -> Iterator[list[str]]:
    """Read the rows of a CSV file that we wrote, as text, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Read finaldata.csv, or another table that we wrote, with its types (see `schema.typed`).

    Raises: AttritionError when it is not there.
    """
    try:
        text = pd.read_csv(path, dtype=object, na_filter=False, encoding="utf-8")
    except FileNotFoundError as error:
        raise AttritionError(f"{path}: is not there yet; run ingestion.py first") from error
    return schema.typed(text, columns)


# ---- CSV


def read_csv(data: bytes) -> Table:
    """Parse CSV strictly; the delimiter is the one that splits the header.

    Raises: Refused.
    """
    text, notes = _decode(data)
    lines = iter(io.StringIO(text, newline=""))
    header_line, skipped = _first_line(lines)
    if re.fullmatch(r'"?sep=[,;\t|]"?', header_line.strip().lower()):
        notes.append("SEP_LINE")
        header_line, more = _first_line(lines)
        skipped += more
    if re.match(r"\s*<(!doctype|html|\?xml)", header_line, re.IGNORECASE):
        raise Refused("NOT_CSV_HTML", "a web page, expected CSV")
    if re.match(r"\s*(\[\s*)?\{|\s*\[\s*$", header_line):
        raise Refused("HEADER_MISMATCH", "JSON, expected CSV with column names")
    delimiter = max(DELIMITERS, key=header_line.count)
    if header_line.count(delimiter) >= MAX_COLUMNS:
        count = header_line.count(delimiter) + 1
        raise Refused("TOO_MANY_COLUMNS", f"{count} columns, at most {MAX_COLUMNS}")
    header, rows, begins = _split(chain([header_line], lines), delimiter, skipped)
    if delimiter != "," and len(header) > 1:
        notes.append("DELIMITER")
    if not rows:
        notes.append("NO_ROWS")
    if not text.endswith(("\n", "\r")):
        notes.append("NO_FINAL_EOL")
    return Table(header, rows, begins, tuple(notes))


def _first_line(lines: Iterator[str]) -> tuple[str, int]:
    """Return the first line that is not blank, and how many lines were read for it."""
    for count, line in enumerate(lines, start=1):
        if line.strip():
            return line, count
    raise Refused("NO_HEADER", "only blank lines, expected column names", unfinished=True)


def _split(
    lines: Iterator[str], delimiter: str, skipped: int
) -> tuple[tuple[str, ...], list[list[str]], list[int]]:
    """Return the header, the rows, and the line that each row began at; blank lines are no rows."""
    rows, begins = [], []
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    before = skipped - 1
    begin = skipped
    try:
        header = tuple(next(reader))
        begin = before + reader.line_num + 1
        for row in reader:
            if len(row) > 1 or (row and row[0].strip(BLANKS)):
                rows.append(row)
                begins.append(begin)
            begin = before + reader.line_num + 1
    except csv.Error as error:
        where = f"line {begin}: {error}"
        if "unexpected end" in str(error):
            raise Refused("UNTERMINATED_QUOTE", where, unfinished=True) from error
        if "field limit" in str(error):
            raise Refused("FIELD_TOO_LONG", where) from error
        raise Refused("BAD_QUOTING", where) from error
    return header, rows, begins


def _decode(data: bytes) -> tuple[str, list[str]]:
    if not data:
        raise Refused("EMPTY_FILE", "0 bytes", unfinished=True)
    for magic, code in MAGIC.items():
        if data.startswith(magic):
            kind = code.removeprefix("BINARY_").lower()
            raise Refused(code, f"a {kind} file, expected CSV text")
    notes, encoding = [], "utf-8"
    if data.startswith(b"\xef\xbb\xbf"):
        data, notes = data[3:], ["BOM"]
    elif data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise Refused("ENCODING", "UTF-32, expected UTF-8")
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, notes = "utf-16", ["UTF16"]
    if encoding == "utf-8" and (at := data.find(b"\x00")) >= 0:
        raise Refused("BINARY_NUL", f"a NUL byte at {at}, expected text")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        cut = error.end >= len(data) and "unexpected end" in error.reason
        reason = f"byte {error.start} is not {encoding}"
        raise Refused("ENCODING", reason, unfinished=cut) from error
    if "\x00" in text:
        raise Refused("BINARY_NUL", "a NUL character, expected text")
    return text, notes


# ---- databases

Seen = dict[str, Any]


@dataclass(frozen=True)
class Fetched:
    """Rows of a table as text, what they hash to, and how far the table has been seen by then.

    `seen` has the number of rows in the table, the bound from which to read on, how many rows lie
    below that bound, and the day on which the table was last read whole.
    """

    table: Table
    sha256: str
    seen: Seen


def sqlite_file(database: Database) -> Path | None:
    """Return the file behind an SQLite URL, or None for a server."""
    if not database.url.startswith(SQLITE_URL):
        return None
    return Path(database.url.removeprefix(SQLITE_URL).split("?")[0])


def identity(database: Database) -> str:
    """Hash what says which table is read: another table under an old name starts from its first row."""
    settings = f"{database.url}\n{database.table}\n{database.changed_column}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _existing_file(database: Database) -> Path | None:
    file = sqlite_file(database)
    if file is not None and not file.is_file():
        raise SourceError(f"{database.name}: there is no SQLite file {file}")
    return file


def _resolve(database: Database) -> tuple[Any, list[str]]:
    """Return the URL to connect to, its `${NAME}`s filled in, and the secrets in it, longest first.

    A password from the environment may hold any character; one in a URL is quoted by who wrote it.

    Raises: SourceError.
    """
    import sqlalchemy as sa

    file = _existing_file(database)
    if file is not None:
        read_only = {"mode": "ro", "uri": "true"}
        return sa.URL.create("sqlite", database=f"file:{quote(str(file))}", query=read_only), []
    names = re.findall(r"\$\{(\w+)\}", database.url)
    if missing := [name for name in names if name not in os.environ]:
        told = ", ".join(missing)
        raise SourceError(f"{database.name}: the environment variable {told} is not set")
    given = {name: os.environ[name] for name in names}
    text = re.sub(r"(?<=:)\$\{(\w+)\}(?=@)", lambda m: quote(given[m[1]], safe=""), database.url)
    text = re.sub(r"\$\{(\w+)\}", lambda m: given[m[1]], text)
    try:
        url = sa.make_url(text)
        if "@" in f"{url.host}{url.database}":
            raise ValueError("the password is cut short")
    except (sa.exc.ArgumentError, ValueError) as error:
        form = (
            "dialect://user:${PASSWORD}@host/database, with '@', ':' and '/' in it as %40, %3A, %2F"
        )
        raise SourceError(f"{database.name}: its url is not {form}") from error
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    secrets = {url.password or "", *given.values()} - {""}
    return url, sorted(secrets, key=len, reverse=True)


@contextmanager
def _connected(database: Database) -> Iterator[Any]:
    """Connect read-only.

    Raises: SourceError in place of whatever the driver raises, without any secret.
    """
    import sqlalchemy as sa

    url, secrets = _resolve(database)
    waits = {
        "sqlite": {"timeout": BUSY_SECONDS},
        "postgresql": {"connect_timeout": CONNECT_SECONDS},
    }
    arguments = waits.get(url.drivername.split("+")[0], {})
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        told = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
        line = told.splitlines()[0]
        for secret in secrets:
            line = line.replace(secret, "***")
        raise SourceError(f"{database.name}: {line}") from error


def probe(database: Database) -> str:
    """Return a mark that changes when a table has news: its size and its newest change.

    Raises: SourceError.
    """
    import sqlalchemy as sa

    mark = identity(database)
    file = _existing_file(database)
    if file is not None:
        beside = [Path(f"{file}{ending}") for ending in ("", "-wal", "-journal")]
        hashes = [hash_file(path) for path in beside if path.is_file() and path.stat().st_size]
        return " ".join([mark, *hashes])
    if not database.changed_column:
        return f"{mark} {fetch_table(database, None).sha256}"
    with _connected(database) as connection:
        table = _find_table(connection, database)
        query = sa.select(sa.func.count(), sa.func.max(table.c[database.changed_column]))
        return " ".join([mark, *(str(value) for value in connection.execute(query).one())])


def fetch_table(database: Database, since: Seen | None) -> Fetched:
    """Select the rows that changed since a table was last seen; all of them where that is unsure.

    Rows at the bound come again and are dropped by their content: one that shares its time with the
    last row read, or was committed a day late, is not missed. Rows without a time always come. The
    first news of each day have the table read whole, which finds whatever slipped through.

    Raises: SourceError.
    """
    import sqlalchemy as sa

    with _connected(database) as connection:
        table = _find_table(connection, database)
        query = sa.select(table)
        seen: Seen = {"rows": connection.scalar(sa.select(sa.func.count()).select_from(table))}
        if database.changed_column:
            changed = table.c[database.changed_column]
            bound = _bound(connection.scalar(sa.select(sa.func.max(changed))))
            seen |= {"bound": bound, "below": _count_below(connection, changed, bound)}
            seen |= {"whole_on": str(today())}
            query = query.order_by(changed)
            if since and _goes_on(connection, changed, since):
                later = changed >= sa.literal(since["bound"], sa.types.NullType())
                query = query.where(sa.or_(later, changed.is_(None)))
        rows = [[cell_text(value) for value in row] for row in connection.execute(query)]
    header = tuple(table.c.keys())
    texts = sorted("\x1f".join(row) for row in (header, *rows))
    digest = hashlib.sha256("\x1e".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
    return Fetched(Table(header, rows, list(range(1, len(rows) + 1))), digest, seen)


def _find_table(connection: Any, database: Database) -> Any:
    """Return the table or view with its columns as the driver delivers them.

    SQLite keeps any value in any column, so SQLAlchemy's conversions by declared type would raise.
    """
    import sqlalchemy as sa

    schema_name, _, name = database.table.rpartition(".")
    found = sa.inspect(connection)
    if not found.has_table(name, schema=schema_name or None):
        raise SourceError(f"{database.name}: there is no table {database.table!r}")
    columns = [column["name"] for column in found.get_columns(name, schema=schema_name or None)]
    if database.changed_column and database.changed_column not in columns:
        raise SourceError(f"{database.name}: there is no column {database.changed_column!r}")
    return sa.table(name, *map(sa.column, columns), schema=schema_name or None)


def today() -> date:
    return datetime.now(UTC).date()


def _bound(newest: Any) -> Any:
    """Return the value from which to read the next time, or None to read all.

    Of times it is the day before the newest, so that a late commit is still met, and never a day in
    the future, which would hide all that follows.
    """
    if newest is None or isinstance(newest, bytes) or newest in (math.inf, -math.inf):
        return None
    if isinstance(newest, int | float):
        return newest
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(newest)):
        return str(newest)
    try:
        newest_day = date.fromisoformat(str(newest)[:10])
        return str(min(newest_day, today()) - timedelta(days=1))
    except (ValueError, OverflowError):
        return None


def _count_below(connection: Any, changed: Any, bound: Any) -> int:
    import sqlalchemy as sa

    below = changed < sa.literal(bound, sa.types.NullType())
    return int(
        connection.scalar(sa.select(sa.func.count()).select_from(changed.table).where(below))
    )


def _goes_on(connection: Any, changed: Any, since: Seen) -> bool:
    """Did a table only go on since it was seen: nothing new below the bound, something above it?

    Otherwise rows were committed late, a clock jumped back, a backup was restored or the table was
    filled anew.
    """
    import sqlalchemy as sa

    if since.get("bound") is None or since["whole_on"] != str(today()):
        return False
    below = _count_below(connection, changed, since["bound"])
    return below <= int(since["below"]) and below < connection.scalar(
        sa.select(sa.func.count(changed))
    )
