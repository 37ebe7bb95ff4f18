"""Validate one cell: a number, a category, a client's name, an outcome or a time, all read from text.

A cell becomes canonical text, or is refused with a code and a reason. Every check is linear in the
length of the cell, and shorter if the length alone decides.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from typing import NamedTuple

from attrition.config import Columns, Numeric

MAX_TEXT = 200
MAX_MARKS_IN_A_ROW = 4
MAX_NUMBER = 1e15
MAX_DIGITS = 6000

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


class Reason(NamedTuple):
    """A feature that raises a client's risk: its value, the baseline, what it adds to the log-odds.

    A value is None if it is missing.
    """

    feature: str
    value: float | str | None
    baseline: float | str | None
    contribution: float


class Caution(NamedTuple):
    """Why to read a risk with care: of the client, or, without a feature, of every risk of a model.

    `low` and `high` are the range of a feature in training.
    """

    code: str
    feature: str | None = None
    value: float | str | None = None
    low: float | None = None
    high: float | None = None


class Cell(NamedTuple):
    """A validated cell: its canonical text, or a code and the problem; `note` names what was changed."""

    value: str
    code: str = ""
    problem: str = ""
    note: str = ""


def read_number(text: str, column: Numeric, markers: Collection[str]) -> Cell:
    """Validate a number: plain ASCII decimal or scientific notation, finite, in its range.

    >>> read_number("007.0", Numeric("n", minimum=0), {"", "NA"})
    Cell(value='7', code='', problem='', note='NORMALISED')
    >>> read_number("-3", Numeric("n", minimum=0), {""}).code
    'OUT_OF_RANGE'
    """
    stripped = text.strip(BLANKS)
    if stripped in markers:
        return Cell("")
    if not (len(stripped) <= 15 and stripped.isascii() and stripped.isdigit()):
        if stripped.lower() in NOT_FINITE:
            return _no_number("NOT_FINITE", column, text, "a finite number")
        if len(stripped) > MAX_DIGITS or not NUMBER.fullmatch(stripped):
            if len(stripped) <= MAX_DIGITS and LOCALE.fullmatch(stripped):
                expected = "digits with '.' for the fraction"
                return _no_number("LOCALE_NUMBER", column, text, expected)
            return _no_number("BAD_NUMBER", column, text, "a plain number")
    value = float(stripped)
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        return _no_number("OUT_OF_RANGE", column, text, "at most 1e15 either way")
    if column.minimum is not None and value < column.minimum:
        return _no_number("OUT_OF_RANGE", column, text, f"a number >= {column.minimum:g}")
    if column.maximum is not None and value > column.maximum:
        return _no_number("OUT_OF_RANGE", column, text, f"a number <= {column.maximum:g}")
    if column.integer and not value.is_integer():
        return _no_number("NOT_INTEGER", column, text, "a whole number")
    canonical = number_text(value)
    return Cell(canonical, note="" if text == canonical else "NORMALISED")


def _no_number(code: str, column: Numeric, text: str, expected: str) -> Cell:
    return Cell("", code, f"{column.name} is {shorten(text)!r}, expected {expected}")


def number_text(value: float) -> str:
    """Format a number canonically: whole numbers without a fraction, no minus zero.

    >>> number_text(12.0), number_text(-0.0), number_text(0.1)
    ('12', '0', '0.1')
    """
    return str(int(value)) if value.is_integer() else repr(value)


def read_text(text: str, name: str, markers: Collection[str]) -> Cell:
    """Validate a category; if it is a missing marker, it is missing and no category."""
    stripped = text.strip(BLANKS)
    return Cell("") if stripped in markers else _plain_text(stripped, name, "BAD_TEXT")


def read_client(text: str, name: str) -> Cell:
    """Validate a client's name: always text, never missing, without invisible characters.

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
            return Cell("", "CONTROL_CHAR", f"{name} contains the control character {what}")
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MAX_MARKS_IN_A_ROW:
            return Cell("", code, f"{name} stacks more than {MAX_MARKS_IN_A_ROW} marks on a letter")
    composed = unicodedata.normalize("NFC", text)
    return Cell(composed, note="" if composed == text else "NFC")


def read_outcome(text: str, columns: Columns, markers: Collection[str]) -> Cell:
    """Validate an outcome: 1 if the client left, 0 if it stayed, empty if not known yet."""
    stripped = text.strip(BLANKS)
    if columns.left is not None and columns.stayed is not None:
        plain = (columns.left, columns.stayed)
        named = {columns.left.casefold(): "1", columns.stayed.casefold(): "0"}
        expected = f"{columns.left!r} or {columns.stayed!r}"
    else:
        plain, named, expected = ("1", "0"), LABELS, "1/0, yes/no, true/false or y/n"
    label = named.get(stripped.casefold())
    if label is not None:
        return Cell(label, note="" if text in plain else "LABEL")
    if stripped in markers:
        return Cell("")
    return Cell("", "BAD_LABEL", f"{columns.outcome} is {shorten(text)!r}, expected {expected}")


def read_time(text: str, name: str, markers: Collection[str]) -> Cell:
    """Validate the time of an observation: ISO 8601, stored as a date or in UTC to the second.

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


def day_number(text: str) -> float:
    """Return the day of a canonical time as a number of days, NaN if it is missing.

    >>> day_number("2026-03-02T23:00:00Z") - day_number("2026-02-28")
    2.0
    """
    return float(date.fromisoformat(text[:10]).toordinal()) if text else math.nan


def shorten(text: str, width: int = 60) -> str:
    """Shorten a text for display."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def readers(columns: Columns, markers: Collection[str]) -> dict[str, Callable[[str], Cell]]:
    """Return the validator of each delivered column."""
    missing = frozenset(markers)
    validators: dict[str, Callable[[str], Cell]] = {}
    if columns.client:
        validators[columns.client] = lambda text: read_client(text, columns.client_name)
    if columns.time:
        validators[columns.time] = lambda text: read_time(text, columns.time or "", missing)
    for name in columns.categorical + ((columns.manager,) if columns.manager else ()):
        validators[name] = lambda text, name=name: read_text(text, name, missing)  # type: ignore[misc]
    numeric = {column.name: column for column in columns.numeric}
    if columns.value:
        numeric.setdefault(columns.value, Numeric(columns.value, minimum=0))
    for name, column in numeric.items():
        validators[name] = lambda text, column=column: read_number(text, column, missing)  # type: ignore[misc]
    validators[columns.outcome] = lambda text: read_outcome(text, columns, missing)
    return {name: validators[name] for name in columns.delivered}
