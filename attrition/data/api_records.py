"""Validate the rows of an API body by the contract of rows, and describe that contract as a JSON schema.

Rows arrive as records, as columns or as the texts of a CSV. All are validated column by column: numbers
at once with numpy, each distinct text once, and only a value that is out of range by itself. The same
rows get the same problems in each form. No pandas: a worker of the app never imports it for a record.
"""

import heapq
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.config import Columns, Numeric
from attrition.data.cells import (
    BLANKS,
    MAX_DAYS,
    MAX_NUMBER,
    MAX_TEXT,
    Cell,
    day_number,
    days_between,
    fold,
    read_client,
    read_date,
    read_number,
    read_text,
    read_time,
    readers,
    shorten,
)
from attrition.data.spelling import NO_SPELLING, Spelling, spell

Vector = NDArray[np.float64]
Values = Sequence[Any]
Problems = dict[int, str]  # by row
MAX_PROBLEMS = 100  # that are listed
# What np.array converts like `float`; not bool, which is an int in Python.
NUMBERS = frozenset({int, float, type(None)})
# What one dictionary can have as different keys; not numbers, because True == 1.
TEXTS = frozenset({str, bool, type(None)})


class BadRecords(Exception):
    """API records that break the contract.

    `problems` contains the record, the field and the reason of the first ones, `count` is that of all.
    """

    def __init__(self, problems: list[dict[str, Any]], count: int) -> None:
        super().__init__(f"{count} problems in the records")
        self.problems, self.count = problems, count


class CheckedRows(NamedTuple):
    """Valid rows in their order: the clients' names, "" if not given, and the features by name.

    A number is float64, NaN if missing; a category is a list of text, "" if missing.
    """

    clients: list[str]
    columns: dict[str, Vector | list[str]]


class _Rows(NamedTuple):
    """Rows of one form: how many, how to take a column of them, and what is wrong already.

    take: the values of a column; has: whether a row names a column at all; broken: rows that cannot be
    read; unknown: rows and the names in them that no row may have; unknown_columns: such names in each
    row; unreadable: by column, values that are no longer there
    """

    size: int
    take: Callable[[str], Values]
    has: Callable[[int, str], bool]
    broken: Problems
    unknown: Sequence[tuple[int, str]] = ()
    unknown_columns: Sequence[str] = ()
    unreadable: Mapping[str, Problems] = {}


def check_records(
    columns: Columns,
    records: Sequence[Any],
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
    today: str = "",
) -> CheckedRows:
    """Validate records, each an object of features that may also name its client.

    Numbers are JSON numbers, categories text. A feature may be null, absent or blank only if it is in
    `missing_allowed`, and at least one has a value. The words of a boolean column, and true and false,
    are read in its spelling. A date is ISO text, relative to the record's own time or else `today`, or
    the number of days.

    Raises: BadRecords.
    """
    is_object = [isinstance(record, dict) for record in records]
    objects = [one if whole else {} for one, whole in zip(records, is_object, strict=True)]
    fields = _fields(columns)
    unknown = [
        (i, name)
        for i, record in enumerate(objects)
        if not record.keys() <= fields
        for name in record
        if name not in fields
    ]
    rows = _Rows(
        len(records),
        lambda name: [record.get(name) for record in objects],
        lambda i, name: name in objects[i],
        {i: "expected an object of features" for i, whole in enumerate(is_object) if not whole},
        unknown,
    )
    return _check(columns, rows, missing_allowed, spelling, today)


def check_columns(
    columns: Columns,
    values: Mapping[str, Sequence[Any]],
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
    today: str = "",
) -> CheckedRows:
    """Validate columns of equal lengths, one or more, as `check_records` does the same rows as records.

    Raises: BadRecords.
    """
    count, fields = len(next(iter(values.values()))), _fields(columns)
    none = [None] * count
    rows = _Rows(
        count,
        lambda name: values.get(name, none),
        lambda _, name: name in values,
        {},
        unknown_columns=[name for name in values if name not in fields],
    )
    return _check(columns, rows, missing_allowed, spelling, today)


def check_texts(
    columns: Columns,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    markers: Collection[str],
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
    today: str = "",
) -> CheckedRows:
    """Validate the rows of a CSV, whose cells are read like those of a file, by the rules of records.

    Column names are compared as those of files are. A client's name may be empty.

    Raises: BadRecords.
    """
    fields = {fold(name): name for name in _fields(columns)}
    ignored = {*map(fold, columns.ignore), ""}
    named = [fields.get(fold(name), name) for name in header]
    width, narrow = len(header), [None] * len(header)
    broken = {
        i: f"{len(row)} fields, expected {width}"
        for i, row in enumerate(cells)
        if len(row) != width
    }
    whole = [narrow if i in broken else row for i, row in enumerate(cells)] if broken else cells
    read = readers(columns, markers)
    used = {columns.client, *columns.features, *([columns.time] if columns.dates else [])}
    values: dict[str, Values] = {}
    unreadable = {}
    for name, texts in zip(named, zip(*whole, strict=True), strict=True):
        if name in used:
            kept = frozenset(spelling.kept.get(name, ()))
            is_number = name in columns.numeric_names and name not in columns.dates
            is_client = name == columns.client
            one = _cell_reader(read[name], kept, is_number=is_number, may_be_empty=is_client)
            values[name], unreadable[name] = _read_each(texts, one)
    unknown = [n for n in named if n not in fields.values() and fold(n) not in ignored]
    rows = _Rows(
        len(cells),
        lambda name: values.get(name, [None] * len(cells)),
        lambda _, name: name in values,
        broken,
        unknown_columns=unknown,
        unreadable=unreadable,
    )
    return _check(columns, rows, missing_allowed, spelling, today)


def _cell_reader(
    read: Callable[[str], Cell], kept: Collection[str], *, is_number: bool, may_be_empty: bool
) -> Callable[[Any], tuple[Any, str]]:
    """Return a reader that turns the text of a cell into the value that a record would have."""

    def read_cell(text: Any) -> tuple[Any, str]:
        if text is None or (may_be_empty and not text.strip()):
            return None, ""
        if (stripped := text.strip(BLANKS)) in kept:
            return stripped, ""
        cell = read(text)
        if cell.code or not cell.value:
            return None, cell.problem
        return (float(cell.value) if is_number else cell.value), ""

    return read_cell


def _fields(columns: Columns) -> frozenset[str]:
    extras = {columns.client_name, columns.outcome, columns.time, columns.value, columns.manager}
    extras |= {columns.due, *columns.details}
    return frozenset({*columns.features, *(name for name in extras if name)})


def _check(
    columns: Columns,
    rows: _Rows,
    missing_allowed: Collection[str],
    spelling: Spelling,
    today: str,
) -> CheckedRows:
    """Validate the columns of rows in any form.

    Raises: BadRecords with the problems in the order of the rows and, within a row, of the contract.
    """
    faults: list[tuple[int, int, str, str]] = []
    clients: list[str] = [""] * rows.size
    if columns.client:
        clients, problems = _read_each(rows.take(columns.client), _client_reader(columns.client))
        problems |= rows.unreadable.get(columns.client, {})
        faults += [(i, 1, columns.client, problem) for i, problem in problems.items()]
    reference = np.full(rows.size, day_number(today)) if columns.dates else np.empty(0)
    if columns.dates and columns.time:
        days, problems = _read_each(rows.take(columns.time), _time_reader(columns.time))
        problems |= rows.unreadable.get(columns.time, {})
        faults += [(i, 2, columns.time, problem) for i, problem in problems.items()]
        reference = np.where(np.isnan(days), reference, days)
    numeric = {column.name: column for column in columns.numeric}
    checked: dict[str, Vector | list[str]] = {}
    has_value = np.zeros(rows.size, dtype=bool)
    for place, name in enumerate(columns.features, start=3):
        values = rows.take(name)
        if name in numeric:
            checked[name], problems = _read_numbers(values, numeric[name])
        elif name in columns.dates:
            checked[name], problems = _read_dates(values, name, reference)
        else:
            read = _text_reader(name, spelling.booleans.get(name, ()))
            checked[name], problems = _read_each(values, read)
        problems |= rows.unreadable.get(name, {})
        missing = _is_missing(checked[name])
        has_value |= ~missing
        if name not in missing_allowed and missing.any():
            for i in np.flatnonzero(missing).tolist():
                if i not in problems:
                    problems[i] = _describe_missing(values[i], has=rows.has(i, name))
        faults += [(i, place, name, problem) for i, problem in problems.items()]
    if faults or rows.unknown or rows.unknown_columns or rows.broken or not has_value.all():
        _refuse(rows, faults, has_value, len(columns.features) + 3)
    return CheckedRows(clients, checked)


def _is_missing(column: Vector | list[str]) -> NDArray[np.bool_]:
    if isinstance(column, np.ndarray):
        return np.isnan(column)
    return np.fromiter((not text for text in column), bool, len(column))


def _describe_missing(value: Any, *, has: bool) -> str:
    if not has:
        return "missing"
    kind = "null" if value is None else "empty"
    return f"is {kind}, but the model has never seen it missing"


def _refuse(
    rows: _Rows, faults: list[tuple[int, int, str, str]], has_value: NDArray[np.bool_], last: int
) -> None:
    """Raise BadRecords with the first problems of the rows, and the number of all.

    If a column is unknown, every row has a problem, so those of the first rows are enough.
    """
    unknown = [*rows.unknown, *product(range(min(rows.size, MAX_PROBLEMS)), rows.unknown_columns)]
    faults += [(i, 0, shorten(name), "unknown field") for i, name in unknown]
    bad = {i for i, *_ in faults} | rows.broken.keys()
    empty = () if rows.unknown_columns else np.flatnonzero(~has_value).tolist()
    every: list[tuple[int, int, str | None, str]] = [
        *(fault for fault in faults if fault[0] not in rows.broken),
        *((i, last, None, problem) for i, problem in rows.broken.items()),
        *((i, last, None, "no feature has a value") for i in empty if i not in bad),
    ]
    later = sum(i not in rows.broken for i in range(MAX_PROBLEMS, rows.size))
    first = heapq.nsmallest(MAX_PROBLEMS, every, key=lambda fault: fault[:2])
    raise BadRecords(
        [{"record": i, "field": name, "problem": problem} for i, _, name, problem in first],
        len(every) + later * len(rows.unknown_columns),
    )


# ---- the values of a column


def _read_each(
    values: Values, read: Callable[[Any], tuple[Any, str]]
) -> tuple[list[Any], Problems]:
    """Read each value, but equal texts only once; return them, and the problems by row."""
    if TEXTS.issuperset(map(type, values)):
        distinct = {value: read(value) for value in dict.fromkeys(values)}
        results = [distinct[value] for value in values]
    else:
        results = [read(value) for value in values]
    return [value for value, _ in results], {
        i: each[1] for i, each in enumerate(results) if each[1]
    }


def _read_numbers(values: Values, column: Numeric) -> tuple[Vector, Problems]:
    """Read a column of numbers; only those that are missing or out of range are looked at one by one."""
    numbers = np.full(len(values), math.nan)
    if NUMBERS.issuperset(map(type, values)):
        with suppress(OverflowError):  # by an integer of hundreds of digits
            numbers = np.array(values, dtype="float64") + 0.0  # there is no minus zero
    low, high = _limits(column)
    is_good = (numbers >= low) & (numbers <= high)
    if column.integer:
        is_good &= numbers == np.floor(numbers)
    problems: Problems = {}
    if not is_good.all():
        for i in np.flatnonzero(~is_good).tolist():
            if (value := values[i]) is not None:
                numbers[i], problem = _read_number(value, column)
                problems |= {i: problem} if problem else {}
    return numbers, problems


def _limits(column: Numeric) -> tuple[float, float]:
    low = -MAX_NUMBER if column.minimum is None else max(column.minimum, -MAX_NUMBER)
    return low, MAX_NUMBER if column.maximum is None else min(column.maximum, MAX_NUMBER)


def _read_number(value: Any, column: Numeric) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan, "expected a number"
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return math.nan, "expected at most 1e15 either way"
    cell = read_number(repr(value), column, ())
    return (math.nan, cell.problem) if cell.code else (float(cell.value), "")


def _read_dates(values: Values, name: str, reference: Vector) -> tuple[Vector, Problems]:
    """Read a column of dates as days from the reference, or of numbers of days.

    reference: (n,) day numbers
    """
    is_number = [type(value) in (int, float) for value in values]
    given = [value if is_one else None for value, is_one in zip(values, is_number, strict=True)]
    texts = [None if is_one else value for value, is_one in zip(values, is_number, strict=True)]
    numbers, problems = _read_numbers(given, Numeric(name, -MAX_DAYS, MAX_DAYS))
    days, more = _read_each(texts, _date_reader(name))
    between = [days_between(*pair) for pair in zip(reference.tolist(), days, strict=True)]
    return np.where(is_number, numbers, between), problems | more


def _date_reader(name: str) -> Callable[[Any], tuple[float, str]]:
    def read(value: Any) -> tuple[float, str]:
        if value is None:
            return math.nan, ""
        cell = _time_cell(value, name)
        cell = cell if cell.code else read_date(value, name, ())
        return day_number(cell.value), cell.problem

    return read


def _time_reader(name: str) -> Callable[[Any], tuple[float, str]]:
    def read(value: Any) -> tuple[float, str]:
        if value is None:
            return math.nan, ""
        cell = _time_cell(value, name)
        return day_number(cell.value), cell.problem

    return read


def _time_cell(value: Any, name: str) -> Cell:
    if not isinstance(value, str):
        return Cell("", "BAD_TIME", "expected an ISO 8601 date or time as text")
    return read_time(value, name, ())


def _text_reader(name: str, words: Sequence[str]) -> Callable[[Any], tuple[str, str]]:
    """Return the reader of a category; words: the spelling of a boolean column, else none."""

    def read(value: Any) -> tuple[str, str]:
        if value is None:
            return "", ""
        if isinstance(value, bool) and words:
            value = str(value)
        if not isinstance(value, str):
            return "", "expected text"
        cell = _too_long(value, name) or read_text(value, name, ())
        return spell(cell.value, words), cell.problem

    return read


def _client_reader(name: str) -> Callable[[Any], tuple[str, str]]:
    def read(value: Any) -> tuple[str, str]:
        if value is None:
            return "", ""
        if not isinstance(value, str):
            return "", "expected text"
        cell = _too_long(value, name) or read_client(value, name)
        return cell.value, cell.problem

    return read


def _too_long(text: str, name: str) -> Cell | None:
    """Refuse a text that is too long, blanks at its ends included, so that a schema can say so."""
    if len(text) <= MAX_TEXT:
        return None
    problem = f"{name} has {len(text)} characters, expected at most {MAX_TEXT}"
    return Cell("", "BAD_TEXT", problem)


# ---- the contract as a JSON schema

# In JSON's escapes, which every dialect of regular expressions knows, as far as there are any.
CONTROL = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f"
)
SPACES = r"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # those of `cells.BLANK_RUN`
TEXT = rf"^[ \t]*[^ {CONTROL}][^{CONTROL}]*[ \t]*$"
TEXT_OR_BLANK = rf"^[ \t]*(?:[^ {CONTROL}][^{CONTROL}]*)?[ \t]*$"
CLIENT = rf"^[ \t{SPACES}]*[^ {SPACES}{CONTROL}][^{CONTROL}]*[ \t]*$"
_LEAP = "0[48]|[2468][048]|[13579][26]"
_DAY = (
    "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)%s(?:(?:0[13578]|1[02])%s"
    "(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)%s(?:0[1-9]|[12][0-9]|30)|02%s(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|(?:[0-9]{{2}}(?:{_LEAP})|(?:{_LEAP})00)%s02%s29"
)
TIME = (
    rf"^[ \t]*(?:{_DAY % (('-',) * 6)}|{_DAY % (('',) * 6)})"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"(?: ?(?:Z|UTC|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?))?)?[ \t]*$"
)


def describe_record(
    columns: Columns,
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
) -> dict[str, Any]:
    """Return a JSON schema (2020-12) of the records that `check_records` accepts.

    It does not say that a letter has at most four marks, nor that a time must exist in UTC.
    """
    fields = _describe_fields(columns, missing_allowed, spelling)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": fields,
        "required": [name for name in columns.features if name not in missing_allowed],
        "additionalProperties": False,
    }
    if not schema["required"]:
        given = _describe_fields(columns, (), spelling)
        schema["anyOf"] = [
            {"required": [name], "properties": {name: given[name]}} for name in columns.features
        ]
    return schema


def describe_columns(
    columns: Columns,
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
    *,
    max_rows: int,
) -> dict[str, Any]:
    """Return a JSON schema of the columns that `check_columns` accepts.

    It cannot say that the columns have the same length, nor that each row needs a value.
    """
    fields = _describe_fields(columns, missing_allowed, spelling)
    return {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": field, "minItems": 1, "maxItems": max_rows}
            for name, field in fields.items()
        },
        "required": [name for name in columns.features if name not in missing_allowed],
        "minProperties": 1,
        "additionalProperties": False,
    }


def _describe_fields(
    columns: Columns, missing_allowed: Collection[str], spelling: Spelling
) -> dict[str, Any]:
    """Return the schema of each field; one that is no feature may have any value, and is not used."""
    fields: dict[str, Any] = {name: {} for name in sorted(_fields(columns))}
    if columns.client:
        client = {"type": ["string", "null"], "maxLength": MAX_TEXT, "pattern": CLIENT}
        fields[columns.client] = client
    if columns.dates and columns.time:
        fields[columns.time] = {"type": ["string", "null"], "pattern": TIME}
    numeric = {column.name: column for column in columns.numeric}
    for name in columns.features:
        may_be_missing = name in missing_allowed
        if name in columns.categorical:
            types = ["string", "boolean"] if spelling.booleans.get(name) else ["string"]
            pattern = TEXT_OR_BLANK if may_be_missing else TEXT
            field: dict[str, Any] = {"maxLength": MAX_TEXT, "pattern": pattern}
        else:
            column = numeric.get(name) or Numeric(name, -MAX_DAYS, MAX_DAYS)
            types = ["integer" if column.integer else "number"]
            low, high = _limits(column)
            field = {"minimum": low, "maximum": high}
        if name in columns.dates:
            types.append("string")
            field["pattern"] = TIME
        types += ["null"] * may_be_missing
        fields[name] = {"type": types if len(types) > 1 else types[0], **field}
    return fields
