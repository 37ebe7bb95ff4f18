"""What a good row is: one contract for files, databases and API bodies.

Rows arrive as text, cell by cell; each cell is either a canonical value or refused with a code and a
reason. Each distinct value is judged once, so that a plain function per kind of cell is fast enough.
"""

import hashlib
import math
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from attrition.config import Columns, Numeric

MAX_TEXT = 200
MAX_MARKS_IN_A_ROW = 4
MAX_NUMBER = 1e15
MAX_DIGITS = 6000
MAX_COLUMNS = 2000

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
LOCALE = re.compile(r"[+-]?[0-9]{1,3}(?:[.,' ][0-9]{3}){1,8}(?:[.,][0-9]+)?|[+-]?[0-9]+,[0-9]+")
NOT_FINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
LABELS = {"1": "1", "yes": "1", "true": "1", "y": "1", "1.0": "1"}
LABELS |= {"0": "0", "no": "0", "false": "0", "n": "0", "0.0": "0"}
BLANKS = " \t"


class Cell(NamedTuple):
    """A judged cell: its canonical text, or a code and what was wrong; a note on what was mended."""

    value: str
    code: str = ""
    problem: str = ""
    note: str = ""


class Refusal(NamedTuple):
    """A row that is not used: where it stood, why, and what it said."""

    line: int
    code: str
    reason: str
    raw: str


@dataclass(frozen=True)
class Table:
    """Rows as they were delivered: text cells, and the line each row began at."""

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    notes: tuple[str, ...] = ()


class Chunk(NamedTuple):
    """A run of rows as delivered: an arrow array of text a column, and the line each row began at.

    Each column is a `pa.Array` of `pa.string()` without nulls ("" is missing), all of one length;
    `lines` is as long.
    """

    columns: tuple[Any, ...]
    lines: Sequence[int]


@dataclass(frozen=True)
class Checked:
    """Good rows in canonical text, with their lines; the rows refused; what was mended, by code."""

    rows: pd.DataFrame
    lines: list[int]
    refused: list[Refusal] = field(default_factory=list)
    notes: tuple[str, ...] = ()


class BadHeader(Exception):
    """The columns are not those of the contract: nothing of the table can be used."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class BadRecords(Exception):
    """API records that break the contract; `problems` names the record, the field and why."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems in the records")
        self.problems = problems


# ---- one cell


def read_number(text: str, column: Numeric, markers: Collection[str]) -> Cell:
    """Judge a number: plain ASCII decimal or scientific notation, finite, in its range.

    >>> read_number("007.0", Numeric("n", minimum=0), {"", "NA"})
    Cell(value='7', code='', problem='', note='NORMALISED')
    >>> read_number("-3", Numeric("n", minimum=0), {""}).code
    'OUT_OF_RANGE'
    """
    stripped = text.strip(BLANKS)
    if stripped in markers:
        return Cell("")
    shown = f"{column.name} is {shorten(text)!r}"
    if stripped.lower() in NOT_FINITE:
        return Cell("", "NOT_FINITE", f"{shown}, expected a finite number")
    if len(stripped) > MAX_DIGITS or not NUMBER.fullmatch(stripped):
        if len(stripped) <= MAX_DIGITS and LOCALE.fullmatch(stripped):
            return Cell("", "LOCALE_NUMBER", f"{shown}, expected digits with '.' for the fraction")
        return Cell("", "BAD_NUMBER", f"{shown}, expected a plain number")
    value = float(stripped)
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        return Cell("", "OUT_OF_RANGE", f"{shown}, expected at most 1e15 either way")
    if column.minimum is not None and value < column.minimum:
        return Cell("", "OUT_OF_RANGE", f"{shown}, expected a number >= {column.minimum:g}")
    if column.maximum is not None and value > column.maximum:
        return Cell("", "OUT_OF_RANGE", f"{shown}, expected a number <= {column.maximum:g}")
    if column.integer and not value.is_integer():
        return Cell("", "NOT_INTEGER", f"{shown}, expected a whole number")
    canonical = number_text(value)
    return Cell(canonical, note="" if text == canonical else "NORMALISED")


def number_text(value: float) -> str:
    """Write a number the one way it is kept: whole numbers without a fraction, no minus zero.

    >>> number_text(12.0), number_text(-0.0), number_text(0.1)
    ('12', '0', '0.1')
    """
    return str(int(value)) if value.is_integer() else repr(value)


def read_text(text: str, name: str, markers: Collection[str]) -> Cell:
    """Judge a level of a categorical column: a missing marker is missing, not a level."""
    stripped = text.strip(BLANKS)
    return Cell("") if stripped in markers else _plain_text(stripped, name, "BAD_TEXT")


def read_client(text: str, name: str) -> Cell:
    """Judge a client's name: never a number, never missing, no character that cannot be seen.

    >>> read_client("NA", "corporation").value, read_client("007", "corporation").value
    ('NA', '007')
    """
    stripped = text.strip(BLANKS)
    if not stripped:
        return Cell("", "MISSING_VALUE", f"{name} is empty, expected the client's name")
    cell = _plain_text(stripped, name, "BAD_ID")
    return cell if cell.code or stripped == text else cell._replace(note="NORMALISED")


def _plain_text(text: str, name: str, code: str) -> Cell:
    if len(text) > MAX_TEXT:
        return Cell("", code, f"{name} has {len(text)} characters, expected at most {MAX_TEXT}")
    if text.isascii() and text.isprintable():
        return Cell(text)
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            what = f"U+{ord(character):04X}"
            return Cell("", "CONTROL_CHAR", f"{name} holds the control character {what}")
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MAX_MARKS_IN_A_ROW:
            return Cell("", code, f"{name} stacks more than {MAX_MARKS_IN_A_ROW} marks on a letter")
    composed = unicodedata.normalize("NFC", text)
    return Cell(composed, note="" if composed == text else "NFC")


def read_outcome(text: str, columns: Columns, markers: Collection[str]) -> Cell:
    """Judge an outcome: 1 left, 0 stayed, empty not known yet."""
    stripped = text.strip(BLANKS)
    if columns.left is not None and columns.stayed is not None:
        named = {columns.left.casefold(): "1", columns.stayed.casefold(): "0"}
        expected = f"{columns.left!r} or {columns.stayed!r}"
    else:
        named, expected = LABELS, "1/0, yes/no, true/false or y/n"
    label = named.get(stripped.casefold())
    if label is not None:
        return Cell(label, note="" if text in ("0", "1") or columns.left is not None else "LABEL")
    if stripped in markers:
        return Cell("")
    return Cell("", "BAD_LABEL", f"{columns.outcome} is {shorten(text)!r}, expected {expected}")


def read_time(text: str, name: str, markers: Collection[str]) -> Cell:
    """Judge the time of an observation: ISO 8601, kept as a date or as UTC to the second.

    >>> read_time("2026-03-01 12:30", "seen", {""}).value
    '2026-03-01T12:30:00Z'
    """
    stripped = text.strip(BLANKS)
    if stripped in markers:
        return Cell("")
    try:
        if not TIME.fullmatch(stripped):
            raise ValueError
        time = datetime.fromisoformat(stripped)
        if len(stripped) == len("2026-03-01"):
            return Cell(stripped)
        utc = time.astimezone(UTC) if time.tzinfo else time
        return Cell(f"{utc.replace(tzinfo=None).isoformat(timespec='seconds')}Z")
    except (ValueError, OverflowError):
        problem = f"{name} is {shorten(text)!r}, expected an ISO 8601 date or time"
        return Cell("", "BAD_TIME", problem)


def shorten(text: str, width: int = 60) -> str:
    """Cut a text that is only shown."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def readers(columns: Columns, markers: Collection[str]) -> dict[str, Callable[[str], Cell]]:
    """Return how each delivered column is judged."""
    kept = frozenset(markers)
    found: dict[str, Callable[[str], Cell]] = {}
    if columns.client:
        found[columns.client] = lambda text: read_client(text, columns.client_name)
    if columns.time:
        found[columns.time] = lambda text: read_time(text, columns.time or "", kept)
    for name in columns.categorical + ((columns.manager,) if columns.manager else ()):
        found[name] = lambda text, name=name: read_text(text, name, kept)  # type: ignore[misc]
    numeric = {column.name: column for column in columns.numeric}
    if columns.value:
        numeric.setdefault(columns.value, Numeric(columns.value, minimum=0))
    for name, column in numeric.items():
        found[name] = lambda text, column=column: read_number(text, column, kept)  # type: ignore[misc]
    found[columns.outcome] = lambda text: read_outcome(text, columns, kept)
    return {name: found[name] for name in columns.delivered}


# ---- a table


def match_header(header: Sequence[str], columns: Columns) -> tuple[dict[str, int], list[str]]:
    """Find where each column of the contract stands; return positions and what was mended.

    Raises: BadHeader.
    """
    folded = [name.strip(BLANKS).casefold() for name in header]
    named = [name for name in folded if name]
    if len(header) > MAX_COLUMNS:
        raise BadHeader("TOO_MANY_COLUMNS", f"{len(header)} columns, at most {MAX_COLUMNS}")
    if len(set(named)) < len(named):
        twice = sorted(name for name, count in Counter(named).items() if count > 1)
        raise BadHeader("DUP_HEADER", f"column {shorten(twice[0])!r} stands twice")
    places = {}
    missing = []
    for name in columns.delivered:
        if name in header:
            places[name] = list(header).index(name)
        elif name.casefold() in folded:
            places[name] = folded.index(name.casefold())
        else:
            missing.append(name)
    if missing:
        if not places and any(NUMBER.fullmatch(name[:40]) for name in named):
            raise BadHeader("NO_HEADER", "the first line holds values, expected column names")
        raise BadHeader("HEADER_MISMATCH", f"no column {', '.join(missing)}")
    notes = [] if all(header[i] == name for name, i in places.items()) else ["HEADER_FOLDED"]
    if list(places.values()) != sorted(places.values()):
        notes.append("REORDERED")
    return places, notes


def check(table: Table, columns: Columns, markers: Collection[str]) -> Checked:
    """Judge every row of a table; nothing is dropped in silence.

    Raises: BadHeader when the table cannot be used at all.
    """
    places, notes = match_header(table.header, columns)
    notes = [*table.notes, *notes, *_extra_columns(table, places, columns)]
    width = len(table.header)
    refused: dict[int, Refusal] = {}
    whole = []
    for i, row in enumerate(table.rows):
        if len(row) == width and not _is_header(row, table.header):
            whole.append(i)
        else:
            refused[i] = _bad_shape(row, table, i)
    cells = {name: [table.rows[i][place] for i in whole] for name, place in places.items()}
    good, problems, mended = check_cells(cells, columns, markers)
    for position, (code, problem) in problems.items():
        i = whole[position]
        reason = f"{problem}; row refused"
        refused[i] = Refusal(table.lines[i], code, reason, raw_text(table.rows[i]))
    kept = [position for position in range(len(whole)) if position not in problems]
    return Checked(
        rows=good.iloc[kept].reset_index(drop=True),
        lines=[table.lines[whole[position]] for position in kept],
        refused=[refused[i] for i in sorted(refused)],
        notes=tuple(dict.fromkeys([*notes, *mended])),
    )


def _is_header(row: Sequence[str], header: Sequence[str]) -> bool:
    return row[0].lstrip("\ufeff") == header[0] and list(row[1:]) == list(header[1:])


def _bad_shape(row: list[str], table: Table, i: int) -> Refusal:
    found, width = len(row), len(table.header)
    if found == width:
        code, reason = "REPEATED_HEADER", "the header again; row refused"
    else:
        code = "RAGGED_SHORT" if found < width else "RAGGED_LONG"
        reason = f"{found} fields, expected {width}; row refused"
    return Refusal(table.lines[i], code, reason, raw_text(row))


def _extra_columns(table: Table, places: Mapping[str, int], columns: Columns) -> list[str]:
    ignored = {name.casefold() for name in columns.ignore}
    notes = []
    for i, name in enumerate(table.header):
        if i in places.values() or name.strip(BLANKS).casefold() in ignored:
            continue
        empty = not name and not any(row[i] for row in table.rows if len(row) > i)
        notes.append("EMPTY_COLUMN" if empty else "EXTRA_COLUMN")
    return notes


def check_cells(
    cells: Mapping[str, Sequence[str]], columns: Columns, markers: Collection[str]
) -> tuple[pd.DataFrame, dict[int, tuple[str, str]], list[str]]:
    """Judge rows of the right shape: canonical rows, the first problem of each bad one, notes."""
    judged: dict[str, list[str]] = {}
    problems: dict[int, tuple[str, str]] = {}
    notes: list[str] = []
    for name, read in readers(columns, markers).items():
        verdicts = {text: read(text) for text in dict.fromkeys(cells[name])}
        judged[name] = [verdicts[text].value for text in cells[name]]
        notes += [cell.note for cell in verdicts.values() if cell.note]
        bad = {text for text, cell in verdicts.items() if cell.code}
        if bad:
            for i, text in enumerate(cells[name]):
                if text in bad:
                    problems.setdefault(i, (verdicts[text].code, verdicts[text].problem))
    rows = pd.DataFrame(judged, dtype=object)
    features = rows[list(columns.features)].to_numpy(dtype=object)
    for position in np.flatnonzero((features == "").all(axis=1)):
        problems.setdefault(int(position), ("EMPTY_ROW", "no feature has a value"))
    if not columns.client:
        names = [row_name(row) for row in rows[list(columns.features)].itertuples(index=False)]
        rows.insert(0, columns.client_name, names)
    return rows[list(columns.table)], problems, notes


def row_name(values: Sequence[str]) -> str:
    """Name a client by a hash of its row, for a table without a client column."""
    return hashlib.sha256("\x1f".join(values).encode()).hexdigest()[:16]


def raw_text(fields: Sequence[str]) -> str:
    """Write the fields of a refused row as one line, so that a person can mend it."""
    quoted = []
    for text in fields:
        text = text.encode("utf-8", "replace").decode()
        risky = any(mark in text for mark in ',"\n\r')
        quoted.append('"' + text.replace('"', '""') + '"' if risky else text)
    return shorten(",".join(quoted), 2000)


def raw_at(table: Table, line: int) -> str:
    """Write the row that began at a line."""
    return raw_text(table.rows[bisect_left(table.lines, line)])


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


def current_clients(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the rows to assess, one a client: the latest open row of each that has not left since.

    Where no row is open, the latest row of each client that has not left. `rows` are typed, in the
    order in which they arrived; that order decides where the table has no time column.
    """
    ordered = rows.sort_values(columns.time, kind="stable") if columns.time else rows
    outcome = ordered[columns.outcome]
    if outcome.isna().any():
        decisive = ordered[outcome.isna() | (outcome == 1)]
    else:
        decisive = ordered
    latest = decisive.drop_duplicates(columns.client_name, keep="last")
    return latest[latest[columns.outcome] != 1].sort_values(columns.client_name, kind="stable")


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
