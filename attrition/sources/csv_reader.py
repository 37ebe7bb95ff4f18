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

from attrition.data import schema
from attrition.data.cells import BLANKS
from attrition.data.schema import MAX_COLUMNS, Chunk, Refused, Table

PIECE = 1 << 20
MAX_FIELD = 131_072
MAX_RECORD = 4 << 20
CHUNK_ROWS = 50_000
CHUNK_CHARACTERS = BLOCK_BYTES = 8 << 20
MAGIC = {
    b"\x1f\x8b": "BINARY_GZIP",
    b"PK\x03\x04": "BINARY_ZIP",
    b"%PDF": "BINARY_PDF",
    b"SQLite format 3\x00": "BINARY_SQLITE",
    b"PAR1": "BINARY_PARQUET",
}
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


def read_csv(text: IO[bytes], *, fast: bool = True) -> Table:
    """Parse CSV strictly; the delimiter is the one that splits the header.

    Raises: Refused, NotPlain (only when `fast`), both also while the rows are being read.
    """
    scan = _scan(text)
    with _as_text(text, scan.encoding) as reader:
        beginning = _begin(reader)
        _, fields = next(beginning.records, (0, None))
        if fields is None:
            raise Refused("NO_HEADER", "only blank lines, expected column names", unfinished=True)
        skipped = beginning.lines.count
    header, notes = tuple(fields), [*scan.notes, *beginning.notes]
    if beginning.delimiter != "," and len(header) > 1:
        notes.append("DELIMITER")
    if not scan.ends_whole:
        notes.append("NO_FINAL_EOL")
    if not fast:
        chunks = _strict_chunks(text, scan.encoding)
    elif scan.has_quote or scan.encoding == "utf-16" or len(header) < 2:
        raise NotPlain
    else:
        chunks = _fast_chunks(text, beginning.delimiter, skipped, len(header))
    return Table(header, chunks, tuple(notes))


def _scan(text: IO[bytes]) -> _Scan:
    """Read every byte once and detect encoding, quotes and binary files.

    Raises: Refused.
    """
    text.seek(0)
    start = text.read(PIECE)
    if not start:
        raise Refused("EMPTY_FILE", "0 bytes", unfinished=True)
    for magic, code in MAGIC.items():
        if start.startswith(magic):
            kind = code.removeprefix("BINARY_").lower()
            raise Refused(code, f"a {kind} file, expected CSV text")
    encoding = "utf-8"
    notes: tuple[str, ...] = ()
    if start.startswith(codecs.BOM_UTF8):
        encoding, notes = "utf-8-sig", ("BOM",)
    elif start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise Refused("ENCODING", "UTF-32, expected UTF-8")
    elif start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, notes = "utf-16", ("UTF16",)
    decoder = codecs.getincrementaldecoder(encoding)()
    bad: Refused | None = None
    at, has_quote, last = 0, False, ""
    piece = start
    while piece:
        if encoding != "utf-16" and (nul := piece.find(b"\x00")) >= 0:
            raise Refused("BINARY_NUL", f"a NUL byte at {at + nul}, expected text")
        if bad is None:
            waiting = len(decoder.getstate()[0])
            try:
                last = decoder.decode(piece) or last
            except UnicodeDecodeError as error:
                bad = Refused(
                    "ENCODING", _not_decodable(text, at - waiting + error.start, encoding)
                )
                text.seek(at + len(piece))
            if encoding == "utf-16" and "\x00" in last:
                raise Refused("BINARY_NUL", "a NUL character, expected text")
        has_quote = has_quote or b'"' in piece
        at += len(piece)
        piece = text.read(PIECE)
    if bad is not None:
        raise bad
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Refused("ENCODING", "ends inside a character", unfinished=True) from error
    return _Scan(encoding, notes, has_quote, last.endswith(("\n", "\r")))


def _not_decodable(text: IO[bytes], offset: int, encoding: str) -> str:
    """Describe where a text is not valid, by line and column, and guess its encoding."""
    text.seek(0)
    line, rest, start = 1, offset, b""
    while rest > 0 and (piece := text.read(min(PIECE, rest))):
        rest -= len(piece)
        line += piece.count(b"\n")
        start = piece.rpartition(b"\n")[2] if b"\n" in piece else start + piece
    byte = text.read(1)
    column = len(start.decode("utf-8-sig", "ignore")) + 1
    name = "UTF-16" if encoding == "utf-16" else "UTF-8"
    likely = "; looks like Windows-1252" if name == "UTF-8" and byte >= b"\xa0" else ""
    where = f"line {line}, column {column} (byte 0x{byte.hex().upper()})"
    return f"not valid {name} at {where}{likely}. Save the file as UTF-8"


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


def _begin(reader: io.TextIOWrapper) -> _Beginning:
    """Find the header and its delimiter.

    Raises: Refused.
    """
    lines = _Lines(reader)
    line = _first_line(lines)
    notes: tuple[str, ...] = ()
    if re.fullmatch(r'"?sep=[,;\t|]"?', line[:20].strip().lower()):
        line, notes = _first_line(lines), ("SEP_LINE",)
    if re.match(r"[ \t]*<(!doctype|html|\?xml)", line, re.IGNORECASE):
        raise Refused("NOT_CSV_HTML", "a web page, expected CSV")
    if re.match(r"[ \t]*(\[[ \t]*)?\{|[ \t]*\[\s*$", line):
        raise Refused("HEADER_MISMATCH", "JSON, expected CSV with column names")
    delimiter = max(DELIMITERS, key=line.count)
    if (count := line.count(delimiter)) >= MAX_COLUMNS:
        raise Refused("TOO_MANY_COLUMNS", f"{count + 1} columns, at most {MAX_COLUMNS}")
    return _Beginning(_records(line, lines, delimiter), lines, delimiter, notes)


def _first_line(lines: _Lines) -> str:
    """Return the first line that is not blank."""
    for line in lines:
        if line.strip():
            return line
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


def _strict_chunks(text: IO[bytes], encoding: str) -> Iterator[Chunk]:
    with _as_text(text, encoding) as reader:
        beginning = _begin(reader)
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


def _fast_chunks(text: IO[bytes], delimiter: str, skipped: int, width: int) -> Iterator[Chunk]:
    """Split a text without quotes with arrow.

    Raises: NotPlain if a line does not split evenly, or if the strict lane may refuse it.
    """
    import pyarrow.csv

    names = [str(i) for i in range(width)]
    reading_options = pyarrow.csv.ReadOptions(
        block_size=BLOCK_BYTES, skip_rows=skipped, column_names=names
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
