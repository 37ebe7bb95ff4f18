"""Rows from CSV, gzipped CSV and Parquet files in a folder, and from SQL tables.

Text passes a strict gate: bytes -> strict decoding -> strict CSV -> cells for `schema`. Nothing is
guessed that could turn one client into another. Only SELECT is ever sent to a database.
"""

import csv
import gzip
import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from attrition import schema
from attrition.config import Columns, Database
from attrition.errors import AttritionError, SourceError
from attrition.schema import BLANKS, MAX_COLUMNS, Table, number_text

INPUT_ENDINGS = (".csv", ".csv.gz", ".parquet")
MAX_FILE_BYTES = 2 << 30
MAX_FIELD = 131_072
SQLITE_URL = "sqlite:///"
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
    except (OSError, EOFError) as error:
        raise Refused("BAD_GZIP", f"not whole gzip ({error})", unfinished=True) from error
    if len(text) > MAX_FILE_BYTES:
        raise Refused("TOO_LARGE", f"more than {MAX_FILE_BYTES} bytes when unpacked")
    return text


def _read_parquet(data: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise Refused("BAD_PARQUET", f"not readable ({reason})", unfinished=True) from error
    columns = [[cell_text(value) for value in column.to_pylist()] for column in table.columns]
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


# ---- our own rows


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
    delimiter = max(DELIMITERS, key=header_line.count)
    if header_line.count(delimiter) >= MAX_COLUMNS:
        count = header_line.count(delimiter) + 1
        raise Refused("TOO_MANY_COLUMNS", f"{count} columns, at most {MAX_COLUMNS}")
    if len(header_line) > MAX_FIELD:
        raise Refused("FIELD_TOO_LONG", f"a field of more than {MAX_FIELD} characters")
    header = tuple(next(csv.reader([header_line.rstrip("\r\n")], delimiter=delimiter), ()))
    if delimiter != "," and len(header) > 1:
        notes.append("DELIMITER")
    rows, begins = _rows(lines, delimiter, skipped)
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


def _rows(lines: Iterator[str], delimiter: str, skipped: int) -> tuple[list[list[str]], list[int]]:
    rows, begins = [], []
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = skipped + 1
    try:
        for row in reader:
            if row and not (len(row) == 1 and not row[0].strip(BLANKS)):
                rows.append(row)
                begins.append(begin)
            begin = skipped + reader.line_num + 1
    except csv.Error as error:
        where = f"line {begin}: {error}"
        if "unexpected end" in str(error):
            raise Refused("UNTERMINATED_QUOTE", where, unfinished=True) from error
        if "field limit" in str(error):
            raise Refused("FIELD_TOO_LONG", where) from error
        raise Refused("BAD_QUOTING", where) from error
    return rows, begins


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


def sqlite_file(database: Database) -> Path | None:
    """Return the file behind an SQLite URL, or None for a server."""
    if not database.url.startswith(SQLITE_URL):
        return None
    return Path(database.url.removeprefix(SQLITE_URL).split("?")[0])


def resolve_url(url: str) -> str:
    """Fill `${NAME}` from the environment.

    Raises: SourceError naming what is not set; never the secret.
    """
    missing = [name for name in re.findall(r"\$\{(\w+)\}", url) if name not in os.environ]
    if missing:
        raise SourceError(f"the environment variable {', '.join(missing)} is not set")
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], url)


@dataclass(frozen=True)
class Fetched:
    """Rows of a table as text, what they hash to, and how far `changed_column` has come."""

    table: Table
    sha256: str
    watermark: str | None


@contextmanager
def _connected(database: Database) -> Iterator[Any]:
    """Connect read-only.

    Raises: SourceError in place of whatever the driver raises, without the URL.
    """
    import sqlalchemy as sa

    file = sqlite_file(database)
    if file is not None and not file.is_file():
        raise SourceError(f"{database.name}: there is no SQLite file {file}")
    url = resolve_url(database.url)
    try:
        if file is not None:
            url = f"{SQLITE_URL}file:{file}?mode=ro&uri=true"
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        arguments = {"connect_timeout": 10} if parsed.drivername.startswith("postgresql") else {}
        engine = sa.create_engine(parsed, poolclass=sa.NullPool, connect_args=arguments)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        detail = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()
        raise SourceError(f"{database.name}: {_without_secrets(detail[0], url)}") from error


def _without_secrets(text: str, url: str) -> str:
    found = re.search(r"//[^:/@]*:([^@]*)@", url)
    return text.replace(found[1], "***") if found and found[1] else text


def probe(database: Database) -> str:
    """Return a mark that changes when a table has news: its size and its newest change.

    Raises: SourceError.
    """
    file = sqlite_file(database)
    if file is not None:
        beside = [Path(f"{file}{ending}") for ending in ("", "-wal", "-journal")]
        return "".join(hash_file(path) for path in beside if path.is_file()) or "-"
    import sqlalchemy as sa

    with _connected(database) as connection:
        table = sa.table(database.table, *_columns_of(database))
        wanted: list[Any] = [sa.func.count()]
        if database.changed_column:
            wanted.append(sa.func.max(table.c[database.changed_column]))
        else:
            return fetch_table(database, None).sha256
        return " ".join(
            str(v) for v in connection.execute(sa.select(*wanted).select_from(table)).one()
        )


def _columns_of(database: Database) -> list[Any]:
    import sqlalchemy as sa

    return [sa.column(database.changed_column)] if database.changed_column else []


def fetch_table(database: Database, watermark: str | None) -> Fetched:
    """Select the rows that changed at or after the watermark, all of them without one.

    Rows that stood at the watermark already come again and are dropped by their content: a row that
    shares its time with the last one read is never missed.

    Raises: SourceError.
    """
    import sqlalchemy as sa

    with _connected(database) as connection:
        found = sa.inspect(connection)
        if not found.has_table(database.table) and database.table not in found.get_view_names():
            raise SourceError(f"{database.name}: there is no table {database.table!r}")
        table = sa.Table(database.table, sa.MetaData(), autoload_with=connection)
        query = sa.select(table)
        changed = None
        if database.changed_column:
            if database.changed_column not in table.c:
                raise SourceError(f"{database.name}: no column {database.changed_column!r}")
            changed = table.c[database.changed_column]
            if watermark is not None:
                query = query.where(changed >= _bound(watermark, changed))
            query = query.order_by(changed)
        result = connection.execute(query)
        header = tuple(result.keys())
        rows = [[cell_text(value) for value in row] for row in result]
    place = header.index(database.changed_column) if database.changed_column else None
    if place is not None:
        watermark = next((row[place] for row in reversed(rows) if row[place]), watermark)
    digest = hashlib.sha256("\x1e".join("\x1f".join(row) for row in rows).encode()).hexdigest()
    return Fetched(Table(header, rows, list(range(1, len(rows) + 1))), digest, watermark)


def _bound(watermark: str, column: Any) -> Any:
    """Give the watermark back the type of its column."""
    kind = column.type.python_type
    if kind in (int, float):
        return kind(watermark)
    if kind in (datetime, date):
        return kind.fromisoformat(watermark)
    return watermark
