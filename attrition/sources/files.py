"""Read CSV, gzipped CSV, Parquet and Excel files of any size, one chunk of rows at a time.

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
from typing import IO

from attrition.config import DEFAULT_DIALECT, Dialect
from attrition.data.schema import Chunk, Refused, Table
from attrition.errors import SourceError
from attrition.sources.csv_reader import PIECE, NotPlain, read_csv
from attrition.sources.excel import read_excel
from attrition.sources.parquet import read_parquet
from attrition.storage import files as storage
from attrition.storage.tables import make_spool

EXCEL_ENDINGS = (".xlsx", ".xlsm")
INPUT_ENDINGS = (".csv", ".csv.gz", ".parquet", *EXCEL_ENDINGS)


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
    if name.startswith((".", "~$")):  # "~$": Excel marks a workbook that is open
        return "HIDDEN"
    return None if name.lower().endswith(INPUT_ENDINGS) else "NOT_AN_INPUT_NAME"


def shown(name: str) -> str:
    """Format a file name as one line of UTF-8; other bytes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file without following a link or waiting for a pipe.

    Raises: Refused, SourceError if it cannot be read now.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise Refused("SYMLINK", "a symbolic link, expected a regular file") from error
        raise _unreadable(path.name, error) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Refused("NOT_REGULAR", "not a regular file")
        if about.st_size > limits.max_bytes:
            raise Refused("TOO_LARGE", f"{about.st_size} bytes, at most {limits.max_bytes}")
        yield descriptor, about
    finally:
        os.close(descriptor)


def _pieces(descriptor: int, name: str) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises: SourceError if the disk fails, Refused.
    """
    try:
        while piece := os.read(descriptor, PIECE):
            yield piece
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError) -> Refused | SourceError:
    """Describe why a file cannot be read now; the next run retries it."""
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return Refused("UNREADABLE", f"has disappeared ({error.strerror})", unfinished=True)
    if error.errno == errno.ENXIO:
        return Refused("NOT_REGULAR", "a socket, expected a regular file")
    return SourceError(
        f"{shown(name)}: cannot be read ({error.strerror}); correct its permissions, or remove the file"
    )


def hash_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the sha256 of a source file; "-" if it is none.

    Raises: SourceError if it cannot be read now.
    """
    try:
        with _opened(path, limits) as (descriptor, _):
            try:
                return storage.sha256_open(path, descriptor)
            except OSError as error:
                raise _unreadable(path.name, error) from error
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
            for piece in _pieces(descriptor, path.name):
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
            table = read_parquet(file.spool, file.limits.max_bytes)
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
        file.spool.seek(0)
        is_cut = file.spool.read(2) == b"\x1f\x8b"
        raise Refused("BAD_GZIP", f"not whole gzip ({error})", unfinished=is_cut) from error
    except BaseException:
        text.close()
        raise
    return text
