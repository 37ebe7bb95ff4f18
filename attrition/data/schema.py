"""What a good row is: one contract for files, databases and API bodies.

Rows arrive in runs of text, a column at a time; `cells` judges each distinct value once, so that a
plain function per kind of cell is fast enough. What is good comes out in canonical text.
"""

import hashlib
import math
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from attrition.config import Columns, Numeric
from attrition.data.cells import (
    BLANKS,
    MAX_NUMBER,
    MAX_TEXT,
    NUMBER,
    Cell,
    read_client,
    read_number,
    read_text,
    readers,
    shorten,
)

MAX_COLUMNS = 2000
MAX_RAW = 2000
REMEMBERED = 100_000
# Columns of the typed rows beside those of the contract: what a row is known by, with and without its
# outcome, and the hash that says whether its client is held-out. No company names a column like that.
ROW_ID, INPUT_ID, CLIENT_HASH = "attrition:row_id", "attrition:input_id", "attrition:client_hash"
COMPUTED = (ROW_ID, INPUT_ID, CLIENT_HASH)
MISSING_HASH = np.uint64(2**64 - 1)


class Refusal(NamedTuple):
    """A row that is not used: where it stood, why, and what it said."""

    line: int
    code: str
    reason: str
    raw: str


class Chunk(NamedTuple):
    """A run of rows as delivered: an arrow array of text a column, and the line each row began at.

    Each column is a `pa.Array` of `pa.string()` without nulls ("" is missing), all of one length;
    `lines` is as long. `odd` has the rows with another number of fields than the header, and their
    lines.
    """

    columns: tuple[Any, ...]
    lines: Sequence[int]
    odd: Sequence[tuple[int, Sequence[str]]] = ()

    @property
    def records(self) -> int:
        return len(self.lines) + len(self.odd)


@dataclass(frozen=True)
class Table:
    """Rows on their way in: the header, runs of rows that can be read once, and what was mended."""

    header: tuple[str, ...]
    chunks: Iterable[Chunk]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidatedRows:
    """Good rows in canonical text, a column of the contract each, with their lines; rows refused.

    `raw` is the good rows as they were delivered; `notes` says of a whole table what was mended.
    """

    columns: Mapping[str, Any]
    lines: Sequence[int]
    raw: Any
    refused: list[Refusal]
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return the good rows as a DataFrame of text."""
        found = {name: column.to_pylist() for name, column in self.columns.items()}
        return pd.DataFrame(found, columns=list(self.columns), dtype=object)

    def keys(self) -> Any:
        """Return each good row as a line of CSV, its outcome aside: (n,) `pa.string()`."""
        return csv_lines([*self.columns.values()][:-1])


class BadHeader(Exception):
    """The columns are not those of the contract: nothing of the table can be used."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Refused(Exception):
    """Nothing of this source can be used; `unfinished` says that it may still be being written."""

    def __init__(self, code: str, reason: str, *, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.code, self.reason, self.unfinished = code, reason, unfinished


class BadRecords(Exception):
    """API records that break the contract; `problems` names the record, the field and why."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems in the records")
        self.problems = problems


# ---- a table


def match_header(header: Sequence[str], columns: Columns) -> tuple[dict[str, int], list[str]]:
    """Find where each column of the contract stands; return positions and what was mended.

    Raises: BadHeader.
    """
    folded = [name.strip(BLANKS).casefold() for name in header]
    named = [name for name in folded if name]
    if len(header) > MAX_COLUMNS:
        raise BadHeader("TOO_MANY_COLUMNS", f"{len(header)} columns, at most {MAX_COLUMNS}")
    places = {}
    missing = []
    for name in columns.delivered:
        if name in header:
            places[name] = list(header).index(name)
        elif name.casefold() in folded:
            places[name] = folded.index(name.casefold())
        else:
            missing.append(name)
    if not places and any(NUMBER.fullmatch(name[:40]) for name in named):
        raise BadHeader("NO_HEADER", "the first line holds values, expected column names")
    if len(set(named)) < len(named):
        twice = sorted(name for name, count in Counter(named).items() if count > 1)
        raise BadHeader("DUP_HEADER", f"column {shorten(twice[0])!r} stands twice")
    if missing:
        raise BadHeader("HEADER_MISMATCH", f"no column {', '.join(missing)}")
    notes = [] if all(header[i] == name for name, i in places.items()) else ["HEADER_FOLDED"]
    if list(places.values()) != sorted(places.values()):
        notes.append("REORDERED")
    return places, notes


class Contract:
    """The contract, held against one table a run of rows at a time; nothing is dropped in silence.

    Raises: BadHeader when the table cannot be used at all.
    """

    def __init__(self, header: Sequence[str], columns: Columns, markers: Collection[str]) -> None:
        self.header, self.columns = tuple(header), columns
        self.places, notes = match_header(header, columns)
        self.readers = readers(columns, markers)
        self._judged: dict[str, dict[str, Cell]] = {name: {} for name in self.readers}
        self._mended = dict.fromkeys(notes)
        self._extra = self._extra_columns()

    def _extra_columns(self) -> dict[int, bool]:
        """Return which columns nobody asked for, and whether any row has filled them so far."""
        ignored = {name.casefold() for name in self.columns.ignore}
        known = self.places.values()
        return {
            i: bool(name)
            for i, name in enumerate(self.header)
            if i not in known and name.strip(BLANKS).casefold() not in ignored
        }

    def notes(self) -> list[str]:
        """Say what had to be mended so far, by code."""
        extra = ["EXTRA_COLUMN" if filled else "EMPTY_COLUMN" for filled in self._extra.values()]
        return list(dict.fromkeys([*extra, *self._mended]))

    def check(self, chunk: Chunk) -> ValidatedRows:
        """Judge a run of rows."""
        refused = {line: _misshapen(line, row, self.header) for line, row in chunk.odd}
        for i, filled in self._extra.items():
            self._extra[i] = filled or bool(pc.any(pc.not_equal(chunk.columns[i], "")).as_py())
        problems = self._repeated_headers(chunk)
        found = {}
        for name, read in self.readers.items():
            found[name] = self._column(chunk.columns[self.places[name]], name, read, problems)
        features = [found[name] for name in self.columns.features]
        empty = np.logical_and.reduce([pc.equal(column, "").to_numpy(False) for column in features])
        for i in np.flatnonzero(empty).tolist():
            problems.setdefault(i, ("EMPTY_ROW", "no feature has a value"))
        if not self.columns.client:
            found[self.columns.client_name] = _row_names(features)
        for i, (code, problem) in problems.items():
            raw = raw_text([column[i].as_py() for column in chunk.columns])
            line = int(chunk.lines[i])
            refused[line] = Refusal(line, code, f"{problem}; row refused", raw)
        is_good = np.ones(len(chunk.lines), dtype=bool)
        is_good[list(problems)] = False
        kept = pa.array(is_good)
        return ValidatedRows(
            columns={name: found[name].filter(kept) for name in self.columns.table},
            lines=np.asarray(chunk.lines)[is_good].tolist(),
            raw=csv_lines([column.filter(kept) for column in chunk.columns]),
            refused=[refused[line] for line in sorted(refused)],
        )

    def _repeated_headers(self, chunk: Chunk) -> dict[int, tuple[str, str]]:
        """Find the rows that are the header again, as files laid end to end have them."""
        first = pa.array([self.header[0], f"\ufeff{self.header[0]}"])
        alike = pc.is_in(chunk.columns[0], value_set=first).to_numpy(False)
        return {
            int(i): ("REPEATED_HEADER", "the header again")
            for i in np.flatnonzero(alike)
            if [column[int(i)].as_py() for column in chunk.columns[1:]] == list(self.header[1:])
        }

    def _column(
        self, column: Any, name: str, read: Any, problems: dict[int, tuple[str, str]]
    ) -> Any:
        """Return a column in canonical text; add the rows whose first problem lies in it."""
        encoded = column.dictionary_encode()
        judged = self._judged[name]
        if len(judged) > REMEMBERED:
            judged.clear()
        cells = []
        for text in encoded.dictionary.to_pylist():
            cell = judged.get(text)
            if cell is None:
                cell = judged[text] = read(text)
            cells.append(cell)
        places = encoded.indices.to_numpy()
        is_bad = np.array([bool(cell.code) for cell in cells], dtype=bool)
        told = np.array([bool(cell.note) for cell in cells], dtype=bool)
        for cell in (cells[i] for i in np.flatnonzero(told)):
            self._mended[cell.note] = None
        if is_bad.any():
            for i in np.flatnonzero(is_bad[places]).tolist():
                cell = cells[places[i]]
                problems.setdefault(i, (cell.code, cell.problem))
        values = pa.array([cell.value for cell in cells], pa.string())
        return values.take(encoded.indices)


def check(table: Table, columns: Columns, markers: Collection[str]) -> ValidatedRows:
    """Judge a whole table that fits into memory.

    Raises: BadHeader.
    """
    contract = Contract(table.header, columns, markers)
    parts = [contract.check(chunk) for chunk in table.chunks]
    none = pa.array([], pa.string())
    return ValidatedRows(
        columns={
            name: pa.chunked_array([part.columns[name] for part in parts] or [none])
            for name in columns.table
        },
        lines=[int(line) for part in parts for line in part.lines],
        raw=pa.chunked_array([part.raw for part in parts] or [none]),
        refused=[refusal for part in parts for refusal in part.refused],
        notes=(*table.notes, *contract.notes()),
    )


def make_chunk(rows: Sequence[Sequence[str]], lines: Sequence[int], width: int) -> Chunk:
    """Turn rows of text into a run of columns; a row of another width is set apart as odd."""
    whole = [i for i, row in enumerate(rows) if len(row) == width]
    odd = [(lines[i], row) for i, row in enumerate(rows) if len(row) != width]
    columns = list(zip(*(rows[i] for i in whole), strict=True)) or [()] * width
    arrays = tuple(pa.array(column, pa.string()) for column in columns)
    return Chunk(arrays, [lines[i] for i in whole] if odd else lines, odd)


def _misshapen(line: int, row: Sequence[str], header: Sequence[str]) -> Refusal:
    code = "RAGGED_SHORT" if len(row) < len(header) else "RAGGED_LONG"
    reason = f"{len(row)} fields, expected {len(header)}; row refused"
    return Refusal(line, code, reason, raw_text(row))


def _row_names(features: Sequence[Any]) -> Any:
    """Name each client by a hash of its row, for a table without a client column."""
    joined = pc.binary_join_element_wise(*features, "\x1f") if len(features) > 1 else features[0]
    names = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in joined.to_pylist()]
    return pa.array(names, pa.string())


def csv_lines(columns: Sequence[Any]) -> Any:
    """Join columns of text into lines of CSV, quoted where they must be: (n,) `pa.string()`.

    >>> csv_lines([pa.array(["a", "b"]), pa.array(["1,5", ""])]).to_pylist()
    ['a,"1,5"', 'b,']
    """
    quoted = [_quote(column) for column in columns]
    return pc.binary_join_element_wise(*quoted, ",") if len(quoted) > 1 else quoted[0]


def _quote(column: Any) -> Any:
    risky = pc.match_substring_regex(column, '[",\r\n]')
    if not pc.any(risky).as_py():
        return column
    doubled = pc.replace_substring(column, '"', '""')
    return pc.if_else(risky, pc.binary_join_element_wise('"', doubled, '"', ""), column)


def raw_text(fields: Sequence[str]) -> str:
    """Write the fields of a refused row as one line of CSV, so that a person can mend it."""
    quoted = []
    for text in fields:
        text = text.encode("utf-8", "replace").decode()
        risky = any(mark in text for mark in ',"\n\r')
        quoted.append('"' + text.replace('"', '""') + '"' if risky else text)
    return shorten(",".join(quoted), MAX_RAW)


def explain(columns: Columns, markers: Collection[str]) -> str:
    """Say in words what a good row is, for whoever prepares a file."""
    numeric = {column.name: column for column in columns.numeric}
    if columns.value:
        numeric.setdefault(columns.value, Numeric(columns.value, minimum=0))
    columns_told = [f"  {name}: {_expected(name, columns, numeric)}" for name in columns.delivered]
    shown = " or ".join(["empty", *(repr(marker) for marker in markers if marker)])
    left = f"{columns.left!r} left, {columns.stayed!r} stayed" if columns.left else (
        "1, yes, true or y left; 0, no, false or n stayed"
    )  # fmt: skip
    client = (
        "a client is never missing, whatever the name"
        if columns.client
        else "a row names its client by its content, as there is no column for it"
    )
    paragraphs = [
        "One row is one observation of one client. CSV in UTF-8, columns found by their names in the "
        "first line, in any order; split by comma, semicolon, tab or |. Also .csv.gz and .parquet.",
        f"The outcome {columns.outcome}: {left}; empty: not known yet, a current client. "
        f"Missing is {shown}; {client}.",
        "Columns of other names are ignored. A row without any feature is refused, and a row whose "
        "fields do not match the header. Refused rows stand in rejected.csv, each with its line and "
        "the reason; where more than half of a file is bad, none of it is used.",
    ]
    first, *others = [textwrap.fill(text, 100) for text in paragraphs]
    return "\n\n".join([first, "\n".join(columns_told), *others])


def _expected(name: str, columns: Columns, numeric: Mapping[str, Numeric]) -> str:
    if name == columns.client:
        return f"the client, text of at most {MAX_TEXT} characters, always given"
    if name == columns.outcome:
        return "the outcome, see below"
    if name == columns.time:
        return "when it was observed: 2026-03-01 or 2026-03-01T12:30:00Z (ISO 8601)"
    if name in numeric:
        column = numeric[name]
        kind = "a whole number" if column.integer else "a number"
        low = f" >= {column.minimum:g}" if column.minimum is not None else ""
        high = f" <= {column.maximum:g}" if column.maximum is not None else ""
        return f"{kind}{low}{high}, '.' for the fraction, no thousands separator"
    return f"text of at most {MAX_TEXT} characters"


# ---- typed rows


def number_names(columns: Columns) -> list[str]:
    """Return the columns that are float64 in typed rows: numbers, the value and the outcome."""
    names = [*columns.numeric_names, columns.outcome, *([columns.value] if columns.value else [])]
    return list(dict.fromkeys(names))


def typed(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return canonical text rows with their types.

    Numbers and the value become float64 (missing NaN), the outcome 1.0 / 0.0 / NaN (open), all else
    stays text ("" missing).
    """
    result = rows.astype(object).copy()
    for name in number_names(columns):
        result[name] = pd.to_numeric(result[name].replace("", np.nan)).astype("float64")
    return result


def type_lines(lines: bytes, columns: Columns) -> pa.Table:
    """Parse lines of finaldata.csv into the columns of `typed` and those of `COMPUTED`.

    Each distinct value of a column is typed and hashed once. A number is hashed as the text that
    float64 has in Python, where a whole one ends in ".0", without being turned into a float and back.
    """
    texts_only = pa.schema([(name, pa.string()) for name in columns.table])
    read = csv.ReadOptions(column_names=texts_only.names, block_size=len(lines) + 1)
    convert = csv.ConvertOptions(column_types=texts_only)
    table = texts_only.empty_table()
    if lines:
        table = csv.read_csv(pa.py_buffer(lines), read, convert_options=convert)
    numbers, result, hashes = set(number_names(columns)), {}, []
    for name in columns.table:
        result[name] = table[name].combine_chunks()
        encoded = result[name].dictionary_encode()
        texts, places = encoded.dictionary, encoded.indices.to_numpy()
        if name in numbers:
            texts = pc.replace_with_mask(texts, pc.equal(texts, ""), pa.scalar(None, pa.string()))
            result[name] = texts.cast(pa.float64()).take(encoded.indices)
            is_float = pc.match_substring_regex(texts, "[.e]")
            texts = pc.if_else(is_float, texts, pc.binary_join_element_wise(texts, ".0", ""))
        elif name == columns.client_name:
            result[CLIENT_HASH] = pa.array(_hash_names(texts.to_pylist())[places])
        hashes.append(_hash_texts(texts.to_pylist())[places])
    result[ROW_ID] = pa.array(_combine_hashes(hashes))
    result[INPUT_ID] = pa.array(_combine_hashes(hashes[:-1]))
    return pa.table({name: result[name] for name in (*columns.table, *COMPUTED)})


def row_ids(rows: pd.DataFrame, columns: Columns, *, with_outcome: bool) -> np.ndarray:
    """Return a 64-bit id for each typed row, by its content alone: (n,) uint64.

    With its outcome, a row whose label arrives later is a new one. These are the ids of `type_lines`.
    """
    hashes = []
    for name in columns.table if with_outcome else columns.table[:-1]:
        places, values = pd.factorize(rows[name], use_na_sentinel=False)
        texts = [None if value != value else str(value) for value in values.tolist()]
        hashes.append(_hash_texts(texts)[places])
    return _combine_hashes(hashes)


def _hash_texts(texts: Sequence[str | None]) -> np.ndarray:
    """Return a 64-bit hash of each text, `MISSING_HASH` for None: (n,) uint64."""
    objects = np.array([text or "" for text in texts], dtype=object)
    hashes = np.asarray(pd.util.hash_array(objects, categorize=False), dtype="uint64")
    return np.where([text is None for text in texts], MISSING_HASH, hashes)


def _combine_hashes(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """Combine the hashes of the columns of each row: (n,) uint64.

    Source: pandas' `hash_pandas_object`, whose ids the releases of before know their rows by; CPython's
    hash of a tuple.
    """
    combined = np.full(len(hashes[0]), 0x345678, dtype="uint64")
    factor = 1000003
    for left, column in zip(range(len(hashes), 0, -1), hashes, strict=True):
        combined = (combined ^ column) * np.uint64(factor % 2**64)
        factor += 82520 + 2 * left
    return combined + np.uint64(97531)


def _hash_names(names: Iterable[str]) -> np.ndarray:
    """Hash the names of clients, so that it is the same ones today and in three years: (n,) uint64."""
    digests = (hashlib.sha256(str(name).encode("utf-8", "surrogatepass")) for name in names)
    hashes = [int.from_bytes(digest.digest()[:8], "big") for digest in digests]
    return np.array(hashes, dtype="uint64")


def client_hashes(clients: pd.Series) -> np.ndarray:
    """Return what decides whether a client is held-out, as `type_lines` does: (n,) uint64."""
    places, names = pd.factorize(clients)
    return _hash_names(names)[places]


def held_out(hashes: Any, share: float) -> np.ndarray:
    """Return which rows belong to the clients that no model is ever trained on: (n,) bool.

    hashes: (n,) uint64, see `client_hashes`
    """
    return np.asarray(hashes, dtype="uint64") < np.uint64(math.ceil(share * 2**64))


# ---- API records


def check_records(
    columns: Columns, records: Sequence[Any], missing_allowed: Collection[str] = ()
) -> pd.DataFrame:
    """Judge records of an API body by the same contract; return typed features, order kept.

    A record names every feature and may name its client. Numbers are JSON numbers, levels are text.
    null is allowed for the columns in `missing_allowed` only: elsewhere the model never saw one.

    Raises: BadRecords.
    """
    problems: list[dict[str, Any]] = []
    good = []
    for i, record in enumerate(records):
        row, found = _check_record(columns, record, missing_allowed)
        problems += [{"record": i, "field": name, "problem": why} for name, why in found]
        good.append(row)
    if problems:
        raise BadRecords(problems)
    rows = pd.DataFrame(good, columns=[columns.client_name, *columns.features], dtype=object)
    for name in columns.numeric_names:
        rows[name] = pd.to_numeric(rows[name]).astype("float64")
    return rows


def _check_record(
    columns: Columns, record: Any, missing_allowed: Collection[str]
) -> tuple[dict[str, Any], list[tuple[str | None, str]]]:
    if not isinstance(record, Mapping):
        return {}, [(None, "expected an object of features")]
    extras = {columns.client_name, columns.outcome, columns.time, columns.value, columns.manager}
    known = {*columns.features, *(name for name in extras if name)}
    unknown = [name for name in record if name not in known]
    found: list[tuple[str | None, str]] = [(shorten(name), "unknown field") for name in unknown]
    row: dict[str, Any] = {columns.client_name: ""}
    if columns.client and (client := record.get(columns.client)) is not None:
        cell = read_client(client, columns.client) if isinstance(client, str) else None
        if cell is None or cell.code:
            found.append((columns.client, cell.problem if cell else "expected text"))
        else:
            row[columns.client] = cell.value
    numeric = {column.name: column for column in columns.numeric}
    for name in columns.features:
        if name not in record:
            found.append((name, "missing"))
        elif record[name] is None:
            row[name] = math.nan if name in numeric else ""
            if name not in missing_allowed:
                found.append((name, "is null, but the model has never seen it missing"))
        elif name in numeric:
            row[name], why = _record_number(record[name], numeric[name])
            found += [(name, why)] if why else []
        else:
            row[name], why = _record_text(record[name], name)
            found += [(name, why)] if why else []
    return row, found


def _record_number(value: Any, column: Numeric) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan, "expected a number"
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return math.nan, "expected at most 1e15 either way"
    cell = read_number(repr(value), column, ())
    return (math.nan, cell.problem) if cell.code else (float(cell.value), "")


def _record_text(value: Any, name: str) -> tuple[str, str]:
    if not isinstance(value, str):
        return "", "expected text"
    cell = read_text(value, name, ())
    return cell.value, cell.problem
