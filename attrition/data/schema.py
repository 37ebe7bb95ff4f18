"""Validate rows: one contract for files and databases.

Rows arrive in chunks of text, column by column; `cells` validates each distinct value once, so a plain
function for each kind of cell is fast enough. Valid rows are returned as canonical text.
"""

import difflib
import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import DEFAULT_DIALECT, MISSING_MARKERS, Columns, Dialect, Numeric
from attrition.data import plain_cells, summary_rows
from attrition.data.cells import (
    BLANKS,
    MAX_TEXT,
    NAME_LENGTH,
    NUMBER,
    Cell,
    files_key,
    fold,
    number_dialects,
    readers,
    shorten,
)
from attrition.data.spelling import NO_SPELLING, Booleans, Spelling

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 2000
MAX_RAW = 2000
MAX_SHOWN_COLUMNS, MAX_SHOWN_PROBLEMS = 20, 3
MAX_LINES_ABOVE = 20  # of a title, before the line of the column names
# A marker is frequent from this number and share of rows on: rarer levels are pooled in any case.
MIN_MARKERS, MIN_MARKER_SHARE = 3, 0.01
# With one of these, a marker is no word, and hardly a level: \N, <NA>, (blank), #N/A.
NO_LEVEL = "\\<(#"
# A number that may be of a dialect with "." between thousands.
IN_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")
REMEMBERED = 100_000
NO_COLUMN = "NO_COLUMN"
DOUBTFUL = ("MARKERS", "THOUSANDS", NO_COLUMN)  # notes on a source that a person should read

Fault = tuple[str, str]  # a code and the problem


class Refusal(NamedTuple):
    """A refused row: its line, the reason and its text."""

    line: int
    code: str
    reason: str
    raw: str


class Chunk(NamedTuple):
    """A chunk of rows as delivered: columns of text, and the line at which each row began.

    Each column is a `pa.Array` of `pa.string()` without nulls ("" is missing), as long as `lines`. If a
    row has more or fewer fields than the header, it is in `odd`, with its line.
    """

    columns: tuple[Any, ...]
    lines: Sequence[int]
    odd: Sequence[tuple[int, Sequence[str]]] = ()

    @property
    def records(self) -> int:
        return len(self.lines) + len(self.odd)


@dataclass(frozen=True)
class Table:
    """A table to validate: the header, chunks that can be read once, and codes of corrections.

    `dialect` is how its cells write numbers and dates; `separator` split the cells of a text.
    """

    header: tuple[str, ...]
    chunks: Iterable[Chunk]
    notes: tuple[str, ...] = ()
    dialect: Dialect = DEFAULT_DIALECT
    separator: str = ""


@dataclass(frozen=True)
class ValidatedRows:
    """The valid rows as canonical text by column, with their lines, and the refused rows.

    `delivered` are the columns of the valid rows as delivered, those that are no part of the contract
    too; `notes` the codes of corrections to a whole table.
    """

    columns: Mapping[str, Any]
    lines: Sequence[int]
    delivered: Sequence[Any]
    refused: list[Refusal]
    notes: tuple[str, ...] = ()

    @property
    def raw(self) -> Any:
        """The valid rows as delivered, as lines of CSV: (n,) `pa.string()`."""
        return csv_lines(self.delivered)

    def without(self, rows: Sequence[int]) -> "ValidatedRows":
        """Return all but some of the valid rows, named by their places."""
        is_kept = np.ones(len(self.lines), dtype=bool)
        is_kept[rows] = False
        kept = pa.array(is_kept)
        return replace(
            self,
            columns={name: column.filter(kept) for name, column in self.columns.items()},
            lines=np.asarray(self.lines)[is_kept].tolist(),
            delivered=[column.filter(kept) for column in self.delivered],
        )

    def frame(self) -> "pd.DataFrame":
        """Return the valid rows as a DataFrame of text."""
        import pandas as pd  # ingestion does without it

        texts = {name: column.to_pylist() for name, column in self.columns.items()}
        return pd.DataFrame(texts, columns=list(self.columns), dtype=object)

    def keys(self) -> Any:
        """Return each valid row as a line of CSV without its outcome: (n,) `pa.string()`."""
        return csv_lines([*self.columns.values()][:-1])


class BadHeader(Exception):
    """A table that cannot be used because its columns are not those of the contract.

    If rows follow its header, the header `is_whole`: not cut by a program that still writes it.
    """

    def __init__(self, code: str, reason: str, *, is_whole: bool = False) -> None:
        super().__init__(reason)
        self.code, self.reason, self.is_whole = code, reason, is_whole


class Refused(Exception):
    """A source that cannot be used; if it may still be being written, it is `unfinished`."""

    def __init__(self, code: str, reason: str, *, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.code, self.reason, self.unfinished = code, reason, unfinished


# ---- a table


def match_header(header: Sequence[str], columns: Columns) -> tuple[dict[str, int], list[str]]:
    """Return the position of each column of the contract, and the codes of corrections.

    Names are compared without case, invisible characters and repeated blanks. If no other column can be
    meant, there need be no column of the time, the value, the manager, the due date, the phone or the
    e-mail; its cells are missing then.

    Raises: BadHeader.
    """
    folded = [fold(name) for name in header]
    named = [name for name in folded if name]
    if len(header) > MAX_COLUMNS:
        raise BadHeader("TOO_MANY_COLUMNS", f"{len(header)} columns, at most {MAX_COLUMNS}")
    places, missing = {}, []
    for name in columns.delivered:
        if name in header:
            places[name] = list(header).index(name)
        elif fold(name) in folded:
            places[name] = folded.index(fold(name))
        else:
            missing.append(name)
    if not places and any(NUMBER.fullmatch(name[:40]) for name in named):
        raise BadHeader("NO_HEADER", "the first line contains values, expected column names")
    twice = sorted(name for name, count in Counter(named).items() if count > 1)
    problems = [f"column {', '.join(repr(shorten(name)) for name in twice)} stands twice"] * bool(
        twice
    )
    used = {folded[i] for i in places.values()} | set(map(fold, columns.ignore))
    may_lack = {columns.time, columns.value, columns.manager, columns.due, *columns.details}
    may_lack -= {*columns.features}
    if set(named) - used or not set(missing) <= may_lack:
        problems += [_describe_missing(missing, header)] * bool(missing)
    if problems:
        raise BadHeader("DUP_HEADER" if twice else "HEADER_MISMATCH", "; ".join(problems))
    notes = [f"{NO_COLUMN}: {name}" for name in missing]
    notes += [] if all(header[i] == name for name, i in places.items()) else ["HEADER_FOLDED"]
    if list(places.values()) != sorted(places.values()):
        notes.append("REORDERED")
    return places, notes


def _describe_missing(missing: Sequence[str], header: Sequence[str]) -> str:
    """List the missing columns, each with the nearest one, and the columns that are there."""
    shown = {fold(name)[:60]: repr(shorten(name)) for name in header if fold(name)}
    texts = []
    for name in missing[:MAX_SHOWN_COLUMNS]:
        names = [*shown][: 5 * MAX_SHOWN_COLUMNS]
        nearest = difflib.get_close_matches(fold(name)[:60], names, n=1, cutoff=0.7)
        texts.append(f"{name} (nearest: {shown[nearest[0]]})" if nearest else name)
    more = (
        "" if len(missing) <= MAX_SHOWN_COLUMNS else f" and {len(missing) - MAX_SHOWN_COLUMNS} more"
    )
    there = ", ".join([*shown.values()][:MAX_SHOWN_COLUMNS]) or "none"
    there += ", ..." if len(shown) > MAX_SHOWN_COLUMNS else ""
    return f"no column {', '.join(texts)}{more}; the columns are {there}"


def make_contract(
    table: Table,
    columns: Columns,
    markers: Collection[str],
    spelling: Spelling = NO_SPELLING,
) -> "Contract":
    """Return the contract of a table; if its header is bad, look for a better one below it.

    spelling: of earlier rows

    Raises: BadHeader.
    """
    try:
        return Contract(table.header, columns, markers, table.dialect, spelling)
    except BadHeader as error:
        line, is_whole = find_header(table, columns)
        reason = error.reason
        if line:
            key = files_key({"header_line": line})
            reason = f"{reason}; line {line} looks like the column names: {key}"
        raise BadHeader(error.code, reason, is_whole=is_whole) from error


def find_header(table: Table, columns: Columns) -> tuple[int | None, bool]:
    """Return the line of the column names if others stand above it, and if the table has rows.

    Among the first lines, it has more names of the contract than the header, and at least half of them.
    """
    expected = {fold(name) for name in columns.delivered}
    best, line = max(len(expected & set(map(fold, table.header))), (len(expected) - 1) // 2), None
    has_rows = False
    try:
        for at, row in _first_rows(table):
            has_rows = True
            for delimiter in ",;\t|":
                names = {fold(name.strip('"')) for name in ",".join(row).split(delimiter)}
                if len(expected & names) > best:
                    best, line = len(expected & names), at
    except Refused:
        return None, has_rows
    return line, has_rows


def _first_rows(table: Table) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the first rows with their lines, and close the chunks, which nobody reads any more."""
    try:
        for chunk in table.chunks:
            rows = dict(chunk.odd[:MAX_LINES_ABOVE])
            for i, line in enumerate(chunk.lines[:MAX_LINES_ABOVE]):
                rows[line] = [column[i].as_py() for column in chunk.columns]
            for line in sorted(rows):
                if line > MAX_LINES_ABOVE:
                    return
                yield line, rows[line]
    finally:
        if isinstance(table.chunks, Generator):
            table.chunks.close()


class Contract:
    """The contract for one table, which validates one chunk of rows at a time.

    `latest` is the latest valid time of a row; without it, any is valid.

    Raises: BadHeader if no row can be used.
    """

    latest = ""

    def __init__(
        self,
        header: Sequence[str],
        columns: Columns,
        markers: Collection[str],
        dialect: Dialect = DEFAULT_DIALECT,
        spelling: Spelling = NO_SPELLING,
    ) -> None:
        self.header, self.columns = tuple(header), columns
        self.places, notes = match_header(header, columns)
        self.dialect, self.readers = dialect, readers(columns, markers, dialect)
        numbers = (*columns.numeric_names, *filter(None, [columns.value]))
        self._numbers = [name for name in dict.fromkeys(numbers) if name in self.readers]
        for name in spelling.kept.keys() & self.readers.keys():
            self.readers[name] = _keeping(frozenset(spelling.kept[name]), self.readers[name])
        self._finders = plain_cells.finders(columns, markers, dialect)
        self._cells: dict[str, dict[str, Cell]] = {name: {} for name in self.readers}
        self._corrections = dict.fromkeys(notes)
        # If config.json lists the markers, somebody has decided; the default list may swallow a level.
        is_default = tuple(markers) == MISSING_MARKERS
        self._may_swallow = set(columns.categorical if is_default else ())
        self._swallowed: Counter[tuple[str, str]] = Counter()
        self._rows = 0
        self.booleans = Booleans(spelling.booleans)
        self._summaries = summary_rows.SummaryRows(columns, self.places)
        ignored = {fold(name) for name in columns.ignore}
        # Columns that are not in the contract, and whether one has a name or, so far, a value.
        self._extra = {
            i: bool(name)
            for i, name in enumerate(self.header)
            if i not in self.places.values() and fold(name) not in ignored
        }

    def notes(self) -> list[str]:
        """Return the codes of corrections so far."""
        extra = ["EXTRA_COLUMN" if filled else "EMPTY_COLUMN" for filled in self._extra.values()]
        enough = max(MIN_MARKERS, MIN_MARKER_SHARE * self._rows)
        markers = [
            f"MARKERS: {name} {marker!r} in {count} of {self._rows} rows is read as missing, but may "
            "be a level (columns.markers_are_levels)"
            for (name, marker), count in sorted(self._swallowed.items())
            if count >= enough
        ]
        thousands = [
            f"THOUSANDS: {name} {texts[0]!r} is read as {float(texts[0]):g}, but '.' may separate "
            f"thousands ({files_key({'decimal': ',', 'thousands': '.'})})"
            for name in self._numbers
            if len(texts := self._dotted(name)) >= MIN_MARKERS
            and all(map(IN_GROUPS.fullmatch, texts))
        ]
        return list(dict.fromkeys([*extra, *self._corrections, *markers, *thousands]))

    def find_two_dialects(self) -> str:
        """Describe a column that has both 1.234,5 and 1.234; return "" if there is none."""
        for name in self._numbers:
            grouped = next(filter(IN_GROUPS.fullmatch, self._dotted(name)), None)
            for text, cell in self._cells[name].items():
                if grouped and cell.code == "LOCALE_NUMBER":
                    dialects = number_dialects(text.strip(BLANKS))
                    if len(dialects) == 1 and dialects[0].get("decimal") == ",":
                        return (
                            f"DIALECT: {name} has {text!r}, and {grouped!r} would be read as "
                            f"{float(grouped):g}, so no row is used ({files_key(dialects[0])})"
                        )
        return ""

    def _dotted(self, name: str) -> list[str]:
        """Return the distinct valid numbers of a column, as far as remembered, that have a "."."""
        cells = self._cells[name].items() if self.dialect.decimal == "." else ()
        texts = (text.strip(BLANKS) for text, cell in cells if "." in text and cell.value)
        return [text for text in texts if NUMBER.fullmatch(text)]

    def check(self, chunk: Chunk, *, is_last: bool = False) -> ValidatedRows:
        """Validate a chunk of rows; the last one may end in totals and footers."""
        refused = self._refuse_odd(chunk, is_last=is_last)
        for i, filled in self._extra.items():
            self._extra[i] = filled or bool(pc.any(pc.not_equal(chunk.columns[i], "")).as_py())
        self._rows += chunk.records
        problems = self._repeated_headers(chunk)
        texts, none = {}, pa.repeat("", len(chunk.lines))
        for name in self.readers:
            column = chunk.columns[self.places[name]] if name in self.places else none
            texts[name] = self._column(column, name, problems)
        self._check_times(texts, problems)
        features = [texts[name] for name in self.columns.features]
        for i in np.flatnonzero(_are_empty(features)).tolist():
            problems.setdefault(i, []).append(("EMPTY_ROW", "no feature has a value"))
        summaries = self._summaries.find(chunk.columns, texts, problems, is_last=is_last)
        problems |= {i: [row] for i, row in summaries.items()}
        if not self.columns.client:
            texts[self.columns.client_name] = _row_names(features)
        for i, faults in problems.items():
            raw = raw_text([column[i].as_py() for column in chunk.columns])
            line = int(chunk.lines[i])
            refused[line] = Refusal(line, faults[0][0], _describe(faults), raw)
        rows = ValidatedRows(
            columns={name: texts[name] for name in self.columns.table},
            lines=chunk.lines,
            delivered=chunk.columns,
            refused=[refused[line] for line in sorted(refused)],
        )
        return rows.without([*problems]) if problems else rows

    def _check_times(self, texts: Mapping[str, Any], problems: dict[int, list[Fault]]) -> None:
        """Add a problem of each row whose time is in the future."""
        if not (self.latest and self.columns.time):
            return
        times = texts[self.columns.time]
        for i in np.flatnonzero(pc.greater(times, self.latest).fill_null(False).to_numpy(False)):
            problem = (
                f"{self.columns.time} is {times[int(i)].as_py()}, expected at most "
                f"{self.latest[:10]}; leave a time empty if it stands for 'no end'; if it is right, "
                "raise max_days_ahead in config.json"
            )
            problems.setdefault(int(i), []).append(("FUTURE_TIME", problem))

    def _refuse_odd(self, chunk: Chunk, *, is_last: bool) -> dict[int, Refusal]:
        """Return the refusal of each row that has more or fewer fields than the header, by line."""
        last_line = max(chunk.lines, default=0) if chunk.odd else 0
        summaries = summary_rows.describe_odd(chunk.odd, last_line, is_last=is_last)
        return {
            line: Refusal(line, summaries[line][0], _describe([summaries[line]]), raw_text(row))
            if line in summaries
            else _misshapen(line, row, self.header)
            for line, row in chunk.odd
        }

    def _repeated_headers(self, chunk: Chunk) -> dict[int, list[Fault]]:
        """Find the rows that repeat the header, as in files that were concatenated."""
        first = pa.array([self.header[0], f"\ufeff{self.header[0]}"])
        alike = pc.is_in(chunk.columns[0], value_set=first).to_numpy(False)
        return {
            int(i): [("REPEATED_HEADER", "the header again")]
            for i in np.flatnonzero(alike)
            if [column[int(i)].as_py() for column in chunk.columns[1:]] == list(self.header[1:])
        }

    def _column(self, column: Any, name: str, problems: dict[int, list[Fault]]) -> Any:
        """Return a column as canonical text; add the problems of its rows."""
        find_plain = self._finders.get(name)
        if find_plain is None or not plain_cells.has_many_levels(column):
            return self._read_cells(column, name, problems)
        plain = find_plain(column)
        others = np.flatnonzero(~plain.is_plain)
        self._corrections |= {"NORMALISED": None} if plain.is_normalised else {}
        if not len(others):
            return plain.texts
        of_others: dict[int, list[Fault]] = {}
        values = self._read_cells(column.take(pa.array(others)), name, of_others)
        for i, faults in of_others.items():
            problems.setdefault(int(others[i]), []).extend(faults)
        return pc.replace_with_mask(plain.texts, pa.array(~plain.is_plain), values)

    def _read_cells(self, column: Any, name: str, problems: dict[int, list[Fault]]) -> Any:
        """Return a column as `_column` does; each distinct cell is validated once."""
        encoded, read, remembered = (
            column.dictionary_encode(),
            self.readers[name],
            self._cells[name],
        )
        if len(remembered) > REMEMBERED:
            remembered.clear()
        cells, texts = [], encoded.dictionary.to_pylist()
        for text in texts:
            cell = remembered.get(text)
            if cell is None:
                cell = remembered[text] = read(text)
            cells.append(cell)
        places = encoded.indices.to_numpy()
        is_bad = np.array([bool(cell.code) for cell in cells], dtype=bool)
        self._corrections |= dict.fromkeys(cell.note for cell in cells if cell.note)
        values = [cell.value for cell in cells]
        if name in self.columns.categorical:
            folded = self.booleans.fold(name, values, places)
            self._corrections |= dict.fromkeys(["BOOLEAN"] if folded != values else [])
            values = folded
        if is_bad.any():
            for i in np.flatnonzero(is_bad[places]).tolist():
                cell = cells[places[i]]
                problems.setdefault(i, []).append((cell.code, cell.problem))
        if name in self._may_swallow:
            self._count_markers(name, encoded, cells)
        if values == texts:
            return column
        return pa.array(values, pa.string()).take(encoded.indices)

    def _count_markers(self, name: str, encoded: Any, cells: Sequence[Cell]) -> None:
        """Count the rows in which a word of a categorical column is read as missing."""
        texts = [text.strip(BLANKS) for text in encoded.dictionary.to_pylist()]
        is_swallowed = [
            bool(fold(text)) and text[0] not in NO_LEVEL and not cell.code and not cell.value
            for text, cell in zip(texts, cells, strict=True)
        ]
        if any(is_swallowed):
            counts = np.bincount(encoded.indices.to_numpy(), minlength=len(texts)).tolist()
            for text, swallowed, count in zip(texts, is_swallowed, counts, strict=True):
                self._swallowed[name, text] += count * swallowed


def _keeping(kept: Collection[str], read: Callable[[str], Cell]) -> Callable[[str], Cell]:
    """Return a validator that leaves the kept texts as they are."""
    return lambda text: Cell(stripped) if (stripped := text.strip(BLANKS)) in kept else read(text)


def _describe(faults: Sequence[Fault]) -> str:
    """Describe the faults of a row, since whoever corrects it wants to know all of them."""
    if faults[0][0] == "REPEATED_HEADER":
        faults = faults[:1]
    texts = list(dict.fromkeys(problem for _, problem in faults))
    more = (
        [f"and {len(texts) - MAX_SHOWN_PROBLEMS} more"] if len(texts) > MAX_SHOWN_PROBLEMS else []
    )
    return "; ".join([*texts[:MAX_SHOWN_PROBLEMS], *more, "row refused"])


def check(
    table: Table,
    columns: Columns,
    markers: Collection[str],
    spelling: Spelling = NO_SPELLING,
) -> ValidatedRows:
    """Validate a whole table that fits into memory.

    Raises: BadHeader.
    """
    contract = make_contract(table, columns, markers, spelling)
    parts = [contract.check(chunk, is_last=last) for chunk, last in mark_last(table.chunks)]
    none = pa.array([], pa.string())
    return ValidatedRows(
        columns={
            name: pa.chunked_array([part.columns[name] for part in parts] or [none])
            for name in columns.table
        },
        lines=[int(line) for part in parts for line in part.lines],
        delivered=[
            pa.chunked_array([part.delivered[i] for part in parts] or [none])
            for i in range(len(table.header))
        ],
        refused=[refusal for part in parts for refusal in part.refused],
        notes=(*table.notes, *contract.notes()),
    )


def mark_last(chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, bool]]:
    """Yield each chunk, and whether it is the last one."""
    following = iter(chunks)
    chunk = next(following, None)
    while chunk is not None:
        after = next(following, None)
        yield chunk, after is None
        chunk = after


def make_chunk(rows: Sequence[Sequence[str]], lines: Sequence[int], width: int) -> Chunk:
    """Turn rows of text into a chunk of columns; if a row has another width, it is odd."""
    whole = [i for i, row in enumerate(rows) if len(row) == width]
    odd = [(lines[i], row) for i, row in enumerate(rows) if len(row) != width]
    columns = list(zip(*(rows[i] for i in whole), strict=True)) or [()] * width
    arrays = tuple(pa.array(column, pa.string()) for column in columns)
    return Chunk(arrays, [lines[i] for i in whole] if odd else lines, odd)


def _misshapen(line: int, row: Sequence[str], header: Sequence[str]) -> Refusal:
    code = "RAGGED_SHORT" if len(row) < len(header) else "RAGGED_LONG"
    reason = f"{len(row)} fields, expected {len(header)}; row refused"
    return Refusal(line, code, reason, raw_text(row))


def _are_empty(columns: Sequence[Any]) -> Any:
    """Return which rows have no text in any of the columns: (n,) bool."""
    result = pc.equal(pc.binary_length(columns[0]), 0)
    for column in columns[1:]:
        if not pc.any(result).as_py():
            break
        result = pc.and_(result, pc.equal(pc.binary_length(column), 0))
    return result.to_numpy(zero_copy_only=False)


def _row_names(features: Sequence[Any]) -> Any:
    """Return a name for each client from a hash of its row, if the table has no client column."""
    joined = pc.binary_join_element_wise(*features, "\x1f") if len(features) > 1 else features[0]
    names = [hashlib.sha256(text.encode()).hexdigest()[:NAME_LENGTH] for text in joined.to_pylist()]
    return pa.array(names, pa.string())


def csv_lines(columns: Sequence[Any]) -> Any:
    """Join columns of text into lines of CSV, quoted if necessary: (n,) `pa.string()`.

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
    """Format the fields of a refused row as one line of CSV, so that a person can correct it."""
    quoted = []
    for text in fields:
        text = text.encode("utf-8", "replace").decode()
        risky = any(mark in text for mark in ',"\n\r')
        quoted.append('"' + text.replace('"', '""') + '"' if risky else text)
    return shorten(",".join(quoted), MAX_RAW)


def explain(columns: Columns, markers: Collection[str]) -> str:
    """Describe a valid row for a person who prepares a file."""
    numeric = {column.name: column for column in columns.numeric}
    if columns.value:
        numeric.setdefault(columns.value, Numeric(columns.value, minimum=0))
    descriptions = [f"  {name}: {_expected(name, columns, numeric)}" for name in columns.delivered]
    missing = " or ".join(["empty", *(repr(marker) for marker in markers if marker)])
    left = f"{columns.left!r} if the client left, {columns.stayed!r} if not" if columns.left else (
        "1, yes, true, y or t if the client left; 0, no, false, n or f if not"
    )  # fmt: skip
    client = (
        "a client, however, may have such a name"
        if columns.client
        else "there is no client column, so each row is a client, named by a hash of its features"
    )
    paragraphs = [
        "One row is one observation of one client. CSV in UTF-8 with column names in the first line, "
        "in any order; separated by comma, semicolon, tab or |. Also .csv.gz, .parquet, .xlsx and "
        ".xlsm (first visible sheet). Other encodings, decimal commas, date formats, sheets and title "
        "lines: `files` in config.json; --check FILE prints the keys.",
        f"The outcome {columns.outcome}: {left}; empty for a current client. "
        f"A value is missing if it is {missing}, in small or capital letters; {client}.",
        "Other columns are ignored. A row is refused if it has no feature or if its fields do not "
        "match the header. Totals, headings and footers of an export are refused too. Refused rows "
        "are listed in rejected.csv with their lines and reasons; if "
        "more than half of the other rows of a file are refused, no row of it is used.",
    ]
    first, *others = [textwrap.fill(text, 100) for text in paragraphs]
    return "\n\n".join([first, "\n".join(descriptions), *others])


def _expected(name: str, columns: Columns, numeric: Mapping[str, Numeric]) -> str:
    if name == columns.client:
        return f"the client, text of at most {MAX_TEXT} characters, never empty"
    if name == columns.outcome:
        return "the outcome, see below"
    if name == columns.time:
        return "time of the observation: 2026-03-01 or 2026-03-01T12:30:00Z (ISO 8601)"
    if name in columns.dates:
        return "a date: 2026-03-01 (ISO 8601), used as days after the observation"
    if name == columns.due:
        return "date on which the contract ends or is renewed: 2026-03-01 (ISO 8601)"
    if name in numeric:
        column = numeric[name]
        kind = "a whole number" if column.integer else "a number"
        low = f" >= {column.minimum:g}" if column.minimum is not None else ""
        high = f" <= {column.maximum:g}" if column.maximum is not None else ""
        return f"{kind}{low}{high}, '.' for the fraction, no thousands separator"
    return f"text of at most {MAX_TEXT} characters"
