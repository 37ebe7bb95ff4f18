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


def typed(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return canonical text rows with their types.

    Numbers and the value become float64 (missing NaN), the outcome 1.0 / 0.0 / NaN (open), all else
    stays text ("" missing).
    """
    made = rows.astype(object).copy()
    numbers = [*columns.numeric_names, columns.outcome, *([columns.value] if columns.value else [])]
    for name in dict.fromkeys(numbers):
        made[name] = pd.to_numeric(made[name].replace("", np.nan)).astype("float64")
    return made


def row_ids(rows: pd.DataFrame, columns: Columns, *, with_outcome: bool) -> np.ndarray:
    """Return a 64-bit id for each row, by its content alone: (n,) uint64.

    With its outcome, a row whose label arrives later is a new one.
    """
    names = [name for name in columns.table if with_outcome or name != columns.outcome]
    text = rows[names].astype(str)
    ids = pd.util.hash_pandas_object(text, index=False).to_numpy(dtype="uint64")
    return np.asarray(ids)


def held_out(clients: pd.Series, share: float) -> np.ndarray:
    """Say which rows belong to the clients that no model is ever trained on: (n,) bool.

    A hash of the name decides, so that it is the same clients today and in three years.
    """
    places, names = pd.factorize(clients)
    digests = (hashlib.sha256(str(name).encode("utf-8", "surrogatepass")) for name in names)
    chosen = [int.from_bytes(digest.digest()[:8], "big") < share * 2**64 for digest in digests]
    return np.array(chosen, dtype=bool)[places]


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
