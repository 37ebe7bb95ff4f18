"""Read CSV strictly: bytes -> strict decoding -> records -> chunks of rows, at any size.

Two lanes give the same verdicts. The strict lane is Python's csv module behind guards. If a text has no
quotes, parsing is only splitting, and the fast lane lets arrow do it; when a line does not split evenly,
the fast lane raises `NotPlain` and the strict lane finds the reason.

Source: RFC 4180. pandas issues 47490, 12519 and 15203 show why a bare `pandas.read_csv` validates
nothing: if a row has too many fields, all its values shift without a warning.
"""

import codecs
import csv
import functools
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import DEFAULT_DIALECT, Dialect
from attrition.data import schema
from attrition.data.cells import BLANKS
from attrition.data.schema import MAX_COLUMNS, Chunk, Refused, Table
from attrition.sources import dialects

PIECE = 1 << 20
MAX_FIELD = 131_072
MAX_RECORD = 4 << 20
CHUNK_ROWS = 50_000
CHUNK_CHARACTERS = BLOCK_BYTES = 8 << 20
# What other files begin with, and what to do about them.
MAGIC = {
    b"\x1f\x8b": ("BINARY_GZIP", "a gzip file; name it .csv.gz"),
    b"PK\x03\x04": ("BINARY_ZIP", "a zip file; unpack it, or name an Excel workbook .xlsx"),
    b"\xd0\xcf\x11\xe0": (
        "BINARY_XLS",
        "an .xls or password-protected Office file; save it as .xlsx without a password, or as CSV",
    ),
    b"%PDF": ("BINARY_PDF", "a PDF; export the table as CSV"),
    b"SQLite format 3\x00": ("BINARY_SQLITE", "an SQLite database; name it in databases"),
    b"PAR1": ("BINARY_PARQUET", "a Parquet file; name it .parquet"),
    b"7z\xbc\xaf": ("BINARY_7Z", "a 7z archive; unpack it"),
    b"Rar!": ("BINARY_RAR", "a rar archive; unpack it"),
    b"BZh": ("BINARY_BZIP2", "a bzip2 file; unpack it, or pack it with gzip as .csv.gz"),
    b"\xfd7zXZ": ("BINARY_XZ", "an xz file; unpack it, or pack it with gzip as .csv.gz"),
    b"\x28\xb5\x2f\xfd": ("BINARY_ZSTD", "a zstd file; unpack it, or pack it with gzip as .csv.gz"),
}
TITLES = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "windows-1252": "Windows-1252"}
DELIMITERS = ",;\t|"


class NotPlain(Exception):
    """The fast lane cannot judge this text; read it again in the strict lane."""


@dataclass(frozen=True)
class _Scan:
    """Properties of a text that one pass over its bytes finds before any row is read."""

    encoding: str
    notes: tuple[str, ...]
    has_quote: bool
    ends_whole: bool


def read_csv(text: IO[bytes], dialect: Dialect = DEFAULT_DIALECT, *, fast: bool = True) -> Table:
    """Parse CSV strictly; unless the dialect names it, the delimiter is the one that splits the header.

    Raises: Refused, NotPlain (only when `fast`), both also while the rows are being read.
    """
    scan = _scan(text, dialect.encoding)
    with _as_text(text, scan.encoding) as reader:
        beginning = _begin(reader, dialect)
        _, fields = next(beginning.records, (0, None))
        if fields is None:
            raise Refused("NO_HEADER", "only blank lines, expected column names", unfinished=True)
        skipped = beginning.lines.count
    header, notes = tuple(fields), [*scan.notes, *beginning.notes]
    if dialect.separator is None and beginning.delimiter != "," and len(header) > 1:
        notes.append("DELIMITER")
    if not scan.ends_whole:
        notes.append("NO_FINAL_EOL")
    if not fast:
        chunks = _strict_chunks(text, scan.encoding, dialect)
    elif scan.has_quote or scan.encoding.startswith("utf-16") or len(header) < 2:
        raise NotPlain
    else:
        chunks = _fast_chunks(text, scan.encoding, beginning.delimiter, skipped, len(header))
    return Table(header, chunks, tuple(notes), dialect, beginning.delimiter)


def _scan(text: IO[bytes], named: str) -> _Scan:
    """Read every byte once and find quotes and binary files; a mark counts above the named encoding.

    Raises: Refused.
    """
    text.seek(0)
    start = text.read(PIECE)
    if not start:
        raise Refused("EMPTY_FILE", "0 bytes", unfinished=True)
    for magic, (code, advice) in MAGIC.items():
        if start.startswith(magic):
            raise Refused(code, f"expected CSV text, found {advice}")
    encoding, notes = _marked_encoding(start, named)
    is_utf16 = encoding.startswith("utf-16")
    decoder = codecs.getincrementaldecoder(encoding)()
    # The bytes of a text in UTF-8, read as another encoding, would be other letters without an error.
    utf8 = None if encoding.startswith("utf") else codecs.getincrementaldecoder("utf-8")()
    bad: Refused | None = None
    at, has_quote, is_ascii, last = 0, False, True, ""
    piece = start
    while piece:
        if not is_utf16 and (nul := piece.find(b"\x00")) >= 0:
            likely = _advice(start) if dialects.detect_encoding(start) == "utf-16" else ""
            raise Refused("BINARY_NUL", f"a NUL byte at {at + nul}, expected text{likely}")
        if bad is None:
            waiting = len(decoder.getstate()[0])
            try:
                last = decoder.decode(piece) or last
            except UnicodeDecodeError as error:
                bad = _not_decodable(text, at - waiting + error.start, encoding)
                text.seek(at + len(piece))
            if is_utf16 and "\x00" in last:
                raise Refused("BINARY_NUL", "a NUL character, expected text")
        if utf8 is not None:
            is_ascii = is_ascii and piece.isascii()
            try:
                utf8.decode(piece)
            except UnicodeDecodeError:
                utf8 = None
        has_quote = has_quote or b'"' in piece
        at += len(piece)
        piece = text.read(PIECE)
    if bad is not None:
        raise bad
    if utf8 is not None and not is_ascii:
        raise Refused(
            "ENCODING",
            f'is in UTF-8, but config.json names {named}; set "encoding": "utf-8" for it',
        )
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Refused("ENCODING", "ends inside a character", unfinished=True) from error
    return _Scan(encoding, notes, has_quote, last.endswith(("\n", "\r")))


def _marked_encoding(start: bytes, named: str) -> tuple[str, tuple[str, ...]]:
    """Return the encoding by the byte order mark, else the named one, and a note of the mark."""
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig", ("BOM",)
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise Refused("ENCODING", "UTF-32, expected UTF-8; save the file as UTF-8")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", ("UTF16",)
    if named == "utf-16":
        return dialects.utf16_order(start) or "utf-16-le", ()
    return named, ()


def _not_decodable(text: IO[bytes], offset: int, encoding: str) -> Refused:
    """Describe where a text is not valid, by line and column, and what it looks like."""
    text.seek(0)
    line, rest, start = 1, offset, b""
    while rest > 0 and (piece := text.read(min(PIECE, rest))):
        rest -= len(piece)
        line += piece.count(b"\n")
        start = piece.rpartition(b"\n")[2] if b"\n" in piece else start + piece
    around = text.read(dialects.SAMPLE)
    text.seek(0)
    before = text.read(min(offset, dialects.SAMPLE))
    column = len(start.decode("utf-8-sig", "ignore")) + 1
    where = f"line {line}, column {column} (byte 0x{around[:1].hex().upper()})"
    title = TITLES.get(encoding, "UTF-16")
    return Refused("ENCODING", f"not valid {title} at {where}{_advice(before + around)}")


def _advice(data: bytes) -> str:
    """Return what an undecodable text looks like, and the key of config.json that reads it."""
    if (likely := dialects.detect_encoding(data)) in (None, "utf-8"):
        return "; save the file as UTF-8"
    return f'; looks like {likely}: set "files": {{"encoding": "{likely}"}}, or save it as UTF-8'


@contextmanager
def _as_text(text: IO[bytes], encoding: str) -> Iterator[io.TextIOWrapper]:
    """Decode from the beginning; the bytes stay open behind it."""
    text.seek(0)
    reader = io.TextIOWrapper(text, encoding, newline="")
    try:
        yield reader
    finally:
        reader.detach()


class _Lines:
    """Iterate over the lines of a text and count them; refuse a record that never ends."""

    def __init__(self, reader: io.TextIOWrapper) -> None:
        self.reader = reader
        self.count = self.characters = self.of_record = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.reader.readline(MAX_RECORD + 1)
        if not line:
            raise StopIteration
        self.count += 1
        self.characters += len(line)
        self.of_record += len(line)
        if self.of_record > MAX_RECORD:
            if max(map(line.count, DELIMITERS)) >= MAX_COLUMNS:
                raise Refused("TOO_MANY_COLUMNS", f"line {self.count}: more than {MAX_COLUMNS}")
            reason = f"line {self.count}: a record of more than {MAX_RECORD} characters"
            raise Refused("FIELD_TOO_LONG", reason)
        return line


class _Beginning(NamedTuple):
    """The start of a text; the first record is the header."""

    records: Iterator[tuple[int, list[str]]]
    lines: _Lines
    delimiter: str
    notes: tuple[str, ...]


def _begin(reader: io.TextIOWrapper, dialect: Dialect) -> _Beginning:
    """Find the header and its delimiter.

    Raises: Refused.
    """
    lines = _Lines(reader)
    line = _first_line(lines, dialect.header_line)
    notes: tuple[str, ...] = ()
    if dialect.header_line is None and re.fullmatch(r'"?sep=[,;\t|]"?', line[:20].strip().lower()):
        line, notes = _first_line(lines), ("SEP_LINE",)
    if re.match(r"[ \t]*<(!doctype|html|\?xml)", line, re.IGNORECASE):
        raise Refused("NOT_CSV_HTML", "a web page, expected CSV")
    if re.match(r"[ \t]*(\[[ \t]*)?\{|[ \t]*\[\s*$", line):
        raise Refused("HEADER_MISMATCH", "JSON, expected CSV with column names")
    delimiter: str = dialect.separator or max(DELIMITERS, key=line.count)
    if (count := line.count(delimiter)) >= MAX_COLUMNS:
        raise Refused("TOO_MANY_COLUMNS", f"{count + 1} columns, at most {MAX_COLUMNS}")
    return _Beginning(_records(line, lines, delimiter), lines, delimiter, notes)


def _first_line(lines: _Lines, number: int | None = None) -> str:
    """Return the line with this number, by default the first that is not blank."""
    for line in lines:
        if line.strip() if number is None else lines.count == number:
            return line
        lines.of_record = 0
    if number is not None:
        reason = f"only {lines.count} lines, expected column names in line {number} (header_line)"
        raise Refused("NO_HEADER", reason, unfinished=True)
    raise Refused("NO_HEADER", "only blank lines, expected column names", unfinished=True)


def _records(first: str, lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Split lines into records, each with its first line number; skip blank lines.

    Raises: Refused.
    """
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    begin = lines.count
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip(BLANKS)):
                yield begin, row
            begin = lines.count + 1
            lines.of_record = 0
    except csv.Error as error:
        where = f"line {begin}: {error}"
        if "unexpected end" in str(error):
            raise Refused("UNTERMINATED_QUOTE", where, unfinished=True) from error
        if "field limit" in str(error):
            raise Refused("FIELD_TOO_LONG", where) from error
        raise Refused("BAD_QUOTING", where) from error


def _strict_chunks(text: IO[bytes], encoding: str, dialect: Dialect) -> Iterator[Chunk]:
    with _as_text(text, encoding) as reader:
        beginning = _begin(reader, dialect)
        width = len(next(beginning.records)[1])
        rows: list[list[str]] = []
        begins: list[int] = []
        full = beginning.lines.characters + CHUNK_CHARACTERS
        for begin, row in beginning.records:
            rows.append(row)
            begins.append(begin)
            if beginning.lines.characters >= full or len(rows) >= CHUNK_ROWS:
                yield schema.make_chunk(rows, begins, width)
                rows, begins = [], []
                full = beginning.lines.characters + CHUNK_CHARACTERS
        if rows:
            yield schema.make_chunk(rows, begins, width)


def _fast_chunks(
    text: IO[bytes], encoding: str, delimiter: str, skipped: int, width: int
) -> Iterator[Chunk]:
    """Split a text without quotes with arrow.

    Raises: NotPlain if a line does not split evenly, or if the strict lane may refuse it.
    """
    import pyarrow.csv

    names = [str(i) for i in range(width)]
    reading_options = pyarrow.csv.ReadOptions(
        block_size=BLOCK_BYTES,
        skip_rows=skipped,
        column_names=names,
        encoding="utf8" if encoding.startswith("utf-8") else encoding,
    )
    parsing = pyarrow.csv.ParseOptions(
        delimiter=delimiter, quote_char=False, escape_char=False, ignore_empty_lines=False
    )
    converting = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    text.seek(0)
    line = skipped + 1
    try:
        with pyarrow.csv.open_csv(text, reading_options, parsing, converting) as reader:
            for batch in reader:
                lengths = [pc.binary_length(column) for column in batch.columns]
                if any(pc.max(length).as_py() > MAX_FIELD for length in lengths):
                    raise NotPlain
                # arrow reads a blank line as a row of empty fields; it is not a row.
                if pc.min(functools.reduce(pc.add, lengths)).as_py() == 0:
                    raise NotPlain
                yield Chunk(tuple(batch.columns), range(line, line + batch.num_rows))
                line += batch.num_rows
    except pa.ArrowInvalid as error:
        raise NotPlain from error
