"""What a good cell is: a number, a level, a client's name, an outcome, a time; each judged as text.

A cell is either a canonical text or refused with a code and a reason. Every check is linear in the
length of the cell, and short of it where the length alone tells.
"""

import re
import unicodedata
from collections.abc import Callable, Collection
from datetime import UTC, datetime
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


class Cell(NamedTuple):
    """A judged cell: its canonical text, or a code and what was wrong; a note on what was mended."""

    value: str
    code: str = ""
    problem: str = ""
    note: str = ""


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
