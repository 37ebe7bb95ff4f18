"""Read CSV, gzipped CSV and Parquet files of any size, one chunk of rows at a time.

A file is copied once into a spool, so the bytes that are read are the bytes that were hashed. Text is
validated strictly: bytes -> decoding -> CSV -> cells for `schema`. If a file has no quotes, it takes a
fast lane with the same verdicts. Nothing is guessed that could turn one client into another.
"""

import errno
import gzip
import hashlib
import os
import shutil
import stat
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import DEFAULT_DIALECT, Dialect
from attrition.data.schema import MAX_COLUMNS, Chunk, Refused, Table
from attrition.errors import SourceError
from attrition.sources.csv_reader import CHUNK_ROWS, PIECE, NotPlain, read_csv
from attrition.sources.dialects import typed_text
from attrition.sources.excel import read_excel
from attrition.storage.tables import make_spool, open_parquet

EXCEL_ENDINGS = (".xlsx", ".xlsm")
INPUT_ENDINGS = (".csv", ".csv.gz", ".parquet", *EXCEL_ENDINGS)
MAX_PARQUET_TEXT = 10_000


@dataclass(frozen=True)
class Limits:
    """The limits on a source: bytes, packed and unpacked, and seconds."""

    max_bytes: int = 2 << 30
    max_seconds: float = 600.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class File:
    """A file that was copied into a spool."""

    name: str
    sha256: str
    spool: IO[bytes]
    changed_s_ago: float
    limits: Limits = DEFAULT_LIMITS
    spool_folder: Path | None = None
    dialect: Dialect = DEFAULT_DIALECT


# ---- files


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted.

    Raises: SourceError if there is no such folder.
    """
    try:
        return sorted((path.name for path in folder.iterdir()), key=os.fsencode)
    except OSError as error:
        raise SourceError(
            f"{folder}: cannot be listed ({error.strerror}); create the folder or correct config.json"
        ) from error


def not_an_input(name: str) -> str | None:
    """Return a code if a name is not that of an input, else None."""
    if name.startswith("."):
        return "HIDDEN"
    return None if name.lower().endswith(INPUT_ENDINGS) else "NOT_AN_INPUT_NAME"


def shown(name: str) -> str:
    """Format a file name as one line of UTF-8; other bytes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file without following a link or waiting for a pipe.

    Raises: Refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise Refused("SYMLINK", "a symbolic link, expected a regular file") from error
        raise _unreadable(error) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Refused("NOT_REGULAR", "not a regular file")
        if about.st_size > limits.max_bytes:
            raise Refused("TOO_LARGE", f"{about.st_size} bytes, at most {limits.max_bytes}")
        yield descriptor, about
    finally:
        os.close(descriptor)


def _pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises: Refused if the disk fails.
    """
    try:
        while piece := os.read(descriptor, PIECE):
            yield piece
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> Refused:
    """Describe why a file cannot be read; if it has just disappeared, the next run retries it."""
    is_gone = error.errno in (errno.ENOENT, errno.ESTALE)
    return Refused("UNREADABLE", f"cannot be read ({error.strerror})", unfinished=is_gone)


def hash_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the sha256 of a source file; "-" if it cannot be read."""
    try:
        with _opened(path, limits) as (descriptor, _):
            digest = hashlib.sha256()
            for piece in _pieces(descriptor):
                digest.update(piece)
            return digest.hexdigest()
    except Refused:
        return "-"


@contextmanager
def reading(
    path: Path,
    limits: Limits = DEFAULT_LIMITS,
    spool_folder: Path | None = None,
    dialect: Dialect = DEFAULT_DIALECT,
) -> Iterator[File]:
    """Copy a file into a spool and hash the copy, so that later writes to the file change neither.

    Raises: Refused.
    """
    digest, size = hashlib.sha256(), 0
    with closing(make_spool(spool_folder)) as spool:
        with _opened(path, limits) as (descriptor, about):
            for piece in _pieces(descriptor):
                size += len(piece)
                if size > limits.max_bytes:
                    raise Refused("TOO_LARGE", f"more than {limits.max_bytes} bytes")
                digest.update(piece)
                spool.write(piece)
            after = os.fstat(descriptor)
        if (after.st_mtime_ns, after.st_size) != (about.st_mtime_ns, about.st_size):
            raise Refused("UNSTABLE", "it changed while it was read", unfinished=True)
        changed_s_ago = time.time() - about.st_mtime
        sha256 = digest.hexdigest()
        yield File(path.name, sha256, spool, changed_s_ago, limits, spool_folder, dialect)


@contextmanager
def open_table(file: File, *, fast: bool = True) -> Iterator[Table]:
    """Read a file as chunks of rows of text; only the fast lane raises NotPlain.

    Raises: Refused, SourceError if it takes too long, NotPlain; all of them also while the chunks are
    read.
    """
    name = file.name.lower()
    file.spool.seek(0)
    with closing(_gunzip(file)) if name.endswith(".gz") else nullcontext(file.spool) as text:
        if name.endswith(".parquet"):
            table = _read_parquet(file)
        elif name.endswith(EXCEL_ENDINGS):
            size = file.limits.max_bytes
            table = read_excel(file.spool, file.dialect, size, file.spool_folder)
        else:
            table = read_csv(text, file.dialect, fast=fast)
        yield replace(table, chunks=_in_time(table.chunks, file))


def read_path(
    path: Path, limits: Limits = DEFAULT_LIMITS, dialect: Dialect = DEFAULT_DIALECT
) -> Table:
    """Read a whole file into memory.

    Raises: Refused, SourceError.
    """
    with reading(path, limits, dialect=dialect) as file:
        return read_table(file)


def read_table(file: File) -> Table:
    """Read a whole spool into memory.

    Raises: Refused, SourceError.
    """
    for fast in (True, False):
        try:
            with open_table(file, fast=fast) as table:
                return replace(table, chunks=list(table.chunks))
        except NotPlain:
            continue
    raise AssertionError("the strict lane reads every file")


def _in_time(chunks: Iterable[Chunk], file: File) -> Iterator[Chunk]:
    """Yield the chunks until the time is up.

    Raises: SourceError, so that the next run retries: the machine may be slow.
    """
    began = time.monotonic()
    try:
        for chunk in chunks:
            yield chunk
            if time.monotonic() - began > file.limits.max_seconds:
                raise SourceError(
                    f"{ascii(file.name)[1:-1]}: took longer than max_source_seconds "
                    f"({file.limits.max_seconds:g}); raise it in config.json or remove the file"
                )
    finally:
        if isinstance(chunks, Generator):
            chunks.close()  # while the file is open


def unpacked(file: File) -> IO[bytes]:
    """Return the text of a file, which the caller closes.

    Raises: Refused.
    """
    file.spool.seek(0)
    if file.name.lower().endswith(".gz"):
        return _gunzip(file)
    text = make_spool(file.spool_folder)
    shutil.copyfileobj(file.spool, text)
    return text


def _gunzip(file: File) -> IO[bytes]:
    """Unpack into another spool, up to the limit.

    Raises: Refused.
    """
    text, size = make_spool(file.spool_folder), 0
    try:
        with gzip.open(file.spool) as packed:
            while piece := packed.read(PIECE):
                size += len(piece)
                if size > file.limits.max_bytes:
                    reason = f"more than {file.limits.max_bytes} bytes when unpacked"
                    raise Refused("TOO_LARGE", reason)
                text.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        text.close()
        raise Refused("BAD_GZIP", f"not whole gzip ({error})", unfinished=True) from error
    except BaseException:
        text.close()
        raise
    return text


def _read_parquet(file: File) -> Table:
    """Read Parquet a batch of rows at a time.

    Raises: Refused, also while the batches are read.
    """
    import pyarrow.parquet as pq

    with _parquet_errors():
        metadata = pq.read_metadata(file.spool)
        fields = metadata.schema.to_arrow_schema()
        names = fields.names
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        size = max(sum(group.total_byte_size for group in groups), metadata.num_rows * len(names))
        if size > file.limits.max_bytes:
            raise Refused("TOO_LARGE", f"{size} bytes unpacked, at most {file.limits.max_bytes}")
        if len(names) > MAX_COLUMNS:
            raise Refused("TOO_MANY_COLUMNS", f"{len(names)} columns, at most {MAX_COLUMNS}")
        file.spool.seek(0)
        # In a dictionary, a long text that is repeated a million times takes memory once.
        texts = [name for name, kind in zip(names, fields.types, strict=True) if _is_text(kind)]
        reader = open_parquet(file.spool, read_dictionary=texts)
    return Table(tuple(names), _parquet_chunks(reader))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _parquet_chunks(reader: Any) -> Iterator[Chunk]:
    line = 1
    with _parquet_errors():
        for batch in reader.iter_batches(CHUNK_ROWS, use_threads=False):
            columns = tuple(_text_column(column) for column in batch.columns)
            yield Chunk(columns, range(line, line + batch.num_rows))
            line += batch.num_rows


@contextmanager
def _parquet_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError:  # arrow's is an ArrowException too, but no fault of the file
        raise
    except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk: arrow's own have no number
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused("BAD_PARQUET", f"not readable ({reason})", unfinished=True) from error


def _text_column(column: Any) -> Any:
    """Convert a column of any type to text, each distinct value once.

    Raises: Refused if a text is too long.
    """
    if pa.types.is_nested(column.type):
        return pa.array([typed_text(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_integer(column.type):
        return pc.fill_null(column.cast(pa.string()), "")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary
    if _is_text(values.type):
        values.validate(full=True)  # arrow does not check that a text is UTF-8 when it reads one
        texts = values.cast(pa.string())
    else:
        texts = pa.array([typed_text(value) for value in values.to_pylist()], pa.string())
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) > MAX_PARQUET_TEXT:
        raise Refused("FIELD_TOO_LONG", f"a text of more than {MAX_PARQUET_TEXT} characters")
    return pc.fill_null(texts.take(column.indices), "")
