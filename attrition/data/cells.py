"""Validate one cell: a number, a category, a client's name, an outcome or a time, all read from text.

A cell becomes canonical text, or is refused with a code and a reason. Every check is linear in the
length of the cell, and shorter if the length alone decides.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from typing import NamedTuple

from attrition.config import DEFAULT_DIALECT, Columns, Dialect, Numeric

NAME_LENGTH = 16  # of a row without a client, before its number among equal rows
MAX_TEXT = 200
MAX_MARKS_IN_A_ROW = 4
MAX_NUMBER = 1e15
MAX_DIGITS = 6000
MAX_DAYS = 36525.0  # a century

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
# A number of some dialect: in groups of three, or with one sign for the fraction.
LOCALE = re.compile(
    r"[+-]?[0-9]{1,3}(?:[.,' \u00a0\u2009\u202f\u2019][0-9]{3}){1,8}(?:[.,][0-9]+)?"
    r"|[+-]?[0-9]+[.,][0-9]+"
)
SEPARATORS = {",": ",", ".": ".", " ": " \u00a0\u2009\u202f", "'": "'\u2019"}
NOT_FINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
MAX_TIME = 64
# PostgreSQL writes the offset +02, Rails and BigQuery a space and UTC.
TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r"( ?(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
DATE_AND_CLOCK = re.compile(
    r"(.{1,40}?)[T ]([0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r"( ?(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
NAMES_CLOCK = re.compile("%[HIMSfpXc]")
NUMERIC_DATE = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})[./-][0-9]{4}(?:[T ].{0,40})?")
YES = ("1", "yes", "true", "y", "t", "1.0", "ja", "j", "wahr", "oui", "vrai", "si", "s\u00ed")
NO = ("0", "no", "false", "n", "f", "0.0", "nein", "falsch", "non", "faux")
LABELS = dict.fromkeys(YES, "1") | dict.fromkeys(NO, "0")
BLANK_RUN = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
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


def fold(text: str) -> str:
    """Return a text without case, invisible characters and repeated blanks, to compare it.

    >>> fold("\ufeffAnnual\u00a0 Value ")
    'annual value'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(INVISIBLE))
    return " ".join(text.split()).casefold()


def fold_markers(markers: Collection[str]) -> frozenset[str]:
    """Return missing markers as the validators of cells compare them."""
    return frozenset(map(fold, markers))


def _is_missing(stripped: str, markers: Collection[str]) -> bool:
    return (stripped.lower() if stripped.isascii() else fold(stripped)) in markers


def read_number(
    text: str, column: Numeric, markers: Collection[str], dialect: Dialect = DEFAULT_DIALECT
) -> Cell:
    """Validate a number: decimal or scientific notation of the dialect, finite, in its range.

    markers: as of `fold_markers`

    >>> read_number("007.0", Numeric("n", minimum=0), {"", "na"})
    Cell(value='7', code='', problem='', note='NORMALISED')
    >>> read_number("-3", Numeric("n", minimum=0), {""}).code
    'OUT_OF_RANGE'
    >>> read_number("1.234,5", Numeric("n"), {""}, Dialect(decimal=",", thousands=".")).value
    '1234.5'
    """
    stripped = text.strip(BLANKS)
    if _is_missing(stripped, markers):
        return Cell("")
    if len(stripped) <= 15 and stripped.isascii() and stripped.isdigit():
        plain = stripped
    else:
        if stripped.lower() in NOT_FINITE:
            return _no_number("NOT_FINITE", column, text, "a finite number")
        plain = _plain_number(stripped, dialect)
        if not plain:
            return _not_a_number(stripped, column, text, dialect)
    value = float(plain)
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        return _no_number("OUT_OF_RANGE", column, text, "at most 1e15 either way")
    if column.minimum is not None and value < column.minimum:
        return _no_number("OUT_OF_RANGE", column, text, f"a number >= {column.minimum:g}")
    if column.maximum is not None and value > column.maximum:
        return _no_number("OUT_OF_RANGE", column, text, f"a number <= {column.maximum:g}")
    if column.integer and not value.is_integer():
        return _no_number("NOT_INTEGER", column, text, "a whole number")
    canonical = number_text(value)
    is_canonical = plain == canonical and len(text) == len(stripped)
    return Cell(canonical, note="" if is_canonical else "NORMALISED")


def _plain_number(text: str, dialect: Dialect) -> str:
    """Return a number of the dialect with "." for the fraction and nothing else; "" if it is none."""
    if len(text) > MAX_DIGITS:
        return ""
    if dialect.decimal == "." and dialect.groups is None:
        return text if NUMBER.fullmatch(text) else ""
    if not _number_of(dialect.decimal, dialect.groups).fullmatch(text):
        return ""
    for separator in SEPARATORS.get(dialect.groups or "", ""):
        text = text.replace(separator, "")
    return text.replace(dialect.decimal, ".")


@cache
def _number_of(decimal: str, thousands: str | None) -> re.Pattern[str]:
    grouped = rf"[0-9]{{1,3}}(?:[{SEPARATORS[thousands]}][0-9]{{3}})+|" if thousands else ""
    fraction = re.escape(decimal)
    return re.compile(
        rf"[+-]?(?:(?:{grouped}[0-9]+)(?:{fraction}[0-9]*)?|{fraction}[0-9]+)(?:[eE][+-]?[0-9]{{1,6}})?"
    )


def _not_a_number(stripped: str, column: Numeric, text: str, dialect: Dialect) -> Cell:
    """Refuse a number of another dialect, or what is none, and name the key that cures it."""
    if len(stripped) <= MAX_DIGITS and LOCALE.fullmatch(stripped):
        groups = f"{dialect.groups!r}" if dialect.groups else "nothing"
        keys = " or ".join(map(files_key, number_dialects(stripped, dialect)))
        expected = (
            f"digits with {dialect.decimal!r} for the fraction and {groups} between thousands; "
            f"to read it, set {keys}"
        )
        return _no_number("LOCALE_NUMBER", column, text, expected)
    expected = "a plain number"
    if not any(character.isdigit() for character in stripped[:MAX_TEXT]):
        expected += "; if it stands for no value, add it to missing_markers"
    return _no_number("BAD_NUMBER", column, text, expected)


def number_dialects(text: str, dialect: Dialect = DEFAULT_DIALECT) -> list[dict[str, str]]:
    """Return the keys of a dialect by which a `LOCALE` number can be read; several if ambiguous.

    >>> number_dialects("1.234,56"), number_dialects("1,234")
    ([{'decimal': ',', 'thousands': '.'}], [{'decimal': ','}, {'thousands': ','}])
    """
    kinds = [kind for sign in text for kind, signs in SEPARATORS.items() if sign in signs]
    first, last = kinds[0], kinds[-1]
    if first != last:
        return [{"decimal": last, "thousands": first}]
    other = {".": ",", ",": "."}.get(first, dialect.decimal)
    grouped = {"thousands": first} | ({"decimal": other} if other != dialect.decimal else {})
    if len(kinds) > 1 or first in " '":
        return [grouped]
    is_group = re.fullmatch(r"[+-]?[0-9]{1,3}[.,][0-9]{3}", text)
    return [{"decimal": first}, *([grouped] if is_group else [])]


def files_key(keys: Mapping[str, str | int]) -> str:
    """Format keys of a dialect as in config.json."""
    return f'"files": {json.dumps(keys, ensure_ascii=False)}'


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
    if _is_missing(stripped, markers):
        return Cell("")
    return _plain_text(stripped, name, "BAD_TEXT")


def read_client(text: str, name: str) -> Cell:
    """Validate a client's name: always text, never missing, without invisible characters.

    A run of blanks with one that is no plain space, such as U+00A0, becomes one plain space.

    >>> read_client("NA", "corporation").value, read_client("007", "corporation").value
    ('NA', '007')
    """
    plain = text if text.isascii() else BLANK_RUN.sub(_plain_blank, text)
    stripped = plain.strip(BLANKS)
    if not stripped:
        return Cell("", "MISSING_VALUE", f"{name} is empty, expected the client's name")
    cell = _plain_text(stripped, name, "BAD_ID")
    return cell if cell.code or stripped == text else cell._replace(note="NORMALISED")


def _plain_blank(run: re.Match[str]) -> str:
    return run[0] if run[0].isascii() else " "


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
        plain, named = ("1", "0"), LABELS
        expected = (
            "1/0, yes/no, true/false, y/n or t/f, or the values of columns.left and columns.stayed"
        )
    label = named.get(stripped.casefold())
    if label is not None:
        return Cell(label, note="" if text in plain else "LABEL")
    if _is_missing(stripped, markers):
        return Cell("")
    return Cell("", "BAD_LABEL", f"{columns.outcome} is {shorten(text)!r}, expected {expected}")


def read_time(text: str, name: str, markers: Collection[str], dates: str | None = None) -> Cell:
    """Validate the time of an observation, stored as a date or in UTC to the second.

    It is ISO 8601, or a date in the format `dates`, with or without a time of day behind it.

    >>> read_time("2026-03-01 12:30", "seen", {""}).value
    '2026-03-01T12:30:00Z'
    >>> read_time("31.08.2026 9:30", "seen", {""}, "%d.%m.%Y").value
    '2026-08-31T09:30:00Z'
    """
    stripped = text.strip(BLANKS)
    if _is_missing(stripped, markers):
        return Cell("")
    try:
        time = _parse_time(stripped, dates)
        if not isinstance(time, datetime):
            return Cell(time.isoformat())
        utc = time.astimezone(UTC) if time.tzinfo else time
        return Cell(f"{utc.replace(tzinfo=None).isoformat(timespec='seconds')}Z")
    except (ValueError, OverflowError):
        expected = f"a date as {dates}" if dates else "an ISO 8601 date or time such as 2026-08-31"
        keys = [
            files_key({"dates": likely}) for likely in date_formats(stripped) if likely != dates
        ]
        cure = f"; to read it, set {' or '.join(keys)}" if keys else ""
        return Cell("", "BAD_TIME", f"{name} is {shorten(text)!r}, expected {expected}{cure}")


def read_date(text: str, name: str, markers: Collection[str], dates: str | None = None) -> Cell:
    """Validate a date; of a time, take the day as it is written.

    >>> read_date("2026-08-31 00:00:00+02", "contract_end", {""}).value
    '2026-08-31'
    """
    cell = read_time(text, name, markers, dates)
    return Cell(_parse_time(text.strip(BLANKS), dates).isoformat()[:10]) if cell.value else cell


def _parse_time(text: str, dates: str | None) -> date | datetime:
    """Return a date, or a datetime if the text has a time of day.

    With `dates`, ISO is read too, but only YYYY-MM-DD, and only if no such format is named.

    Raises: ValueError, OverflowError.
    """
    if len(text) > MAX_TIME or not text.isascii():
        raise ValueError
    is_iso = dates is None or (text[4:5] == "-" and not dates.startswith("%Y-"))
    match = TIME.fullmatch(text) if is_iso else None
    if match:
        day = date.fromisoformat(match[1])
    elif dates is None:
        raise ValueError
    elif NAMES_CLOCK.search(dates):
        return datetime.strptime(text, dates)  # noqa: DTZ007 - without an offset it is UTC
    else:
        match = DATE_AND_CLOCK.fullmatch(text)
        day = _parse_date(match[1] if match else text, dates)
    if not match or not match[2]:
        return day
    zone = (match[3] or "").strip().replace("UTC", "Z")
    clock = match[2] if match[2][2] == ":" else f"0{match[2]}"
    return datetime.fromisoformat(f"{day.isoformat()}T{clock}{zone}")


@lru_cache(maxsize=10_000)
def _parse_date(text: str, dates: str) -> date:
    return datetime.strptime(text, dates).date()  # noqa: DTZ007


def date_formats(text: str) -> list[str]:
    """Return the formats in which a text may be a date; several if it is ambiguous.

    >>> date_formats("31.08.2026"), date_formats("03/04/2026")
    (['%d.%m.%Y'], ['%d/%m/%Y', '%m/%d/%Y'])
    """
    if re.fullmatch("[0-9]{4}-[0-9]{2}", text):
        return ["%Y-%m"]
    if re.fullmatch("[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}(?:[T ].{0,40})?", text):
        return ["%Y/%m/%d"]
    match = NUMERIC_DATE.fullmatch(text)
    if not match:
        return []
    sign, (first, second) = match[2], (int(match[1]), int(match[3]))
    orders = [
        *(["%d{0}%m{0}%Y"] if second <= 12 else []),
        *(["%m{0}%d{0}%Y"] if first <= 12 else []),
    ]
    return [order.format(sign) for order in orders[: 1 if sign == "." else 2]]


def day_number(text: str) -> float:
    """Return the day of a canonical time as a number of days, NaN if it is missing.

    >>> day_number("2026-03-02T23:00:00Z") - day_number("2026-02-28")
    2.0
    """
    return float(date.fromisoformat(text[:10]).toordinal()) if text else math.nan


def days_between(reference: float, day: float) -> float:
    """Return the days from one day number to another, at most a century either way.

    A date such as 9999-12-31 stands for "never": whatever the time of the observation, it is one value.

    >>> days_between(day_number("2026-03-01"), day_number("2026-02-27"))
    -2.0
    >>> days_between(day_number("2026-03-01"), day_number("9999-12-31"))
    36525.0
    """
    return math.copysign(min(abs(day - reference), MAX_DAYS), day - reference)


def shorten(text: str, width: int = 60) -> str:
    """Shorten a text for display."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def numeric_columns(columns: Columns) -> dict[str, Numeric]:
    """Return the numeric features and the value, which is at least 0 unless it is a feature too."""
    numeric = {column.name: column for column in columns.numeric}
    if columns.value:
        numeric.setdefault(columns.value, Numeric(columns.value, minimum=0))
    return numeric


def readers(
    columns: Columns, markers: Collection[str], dialect: Dialect = DEFAULT_DIALECT
) -> dict[str, Callable[[str], Cell]]:
    """Return the validator of each delivered column."""
    missing = fold_markers(markers)
    validators: dict[str, Callable[[str], Cell]] = {}
    if columns.client:
        validators[columns.client] = lambda text: read_client(text, columns.client_name)
    if columns.time:
        validators[columns.time] = lambda text: read_time(
            text, columns.time or "", missing, dialect.dates
        )
    for name in filter(None, (*columns.dates, columns.due)):
        validators[name] = lambda text, name=name: read_date(text, name, missing, dialect.dates)  # type: ignore[misc]
    for name in filter(None, (*columns.categorical, columns.manager, *columns.details)):
        own = fold_markers([""]) if name in columns.markers_are_levels else missing
        validators[name] = lambda text, name=name, own=own: read_text(text, name, own)  # type: ignore[misc]
    for name, column in numeric_columns(columns).items():
        validators[name] = lambda text, column=column: read_number(  # type: ignore[misc]
            text, column, missing, dialect
        )
    validators[columns.outcome] = lambda text: read_outcome(text, columns, missing)
    return {name: validators[name] for name in columns.delivered}
