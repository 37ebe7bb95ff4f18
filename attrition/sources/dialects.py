"""Detect how a file writes text, numbers and dates, to propose it to a person.

Ingestion uses only the dialect that config.json names: if two files were read differently, the same
row (1.234, 03/04/2026) would become two different rows.
"""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, NamedTuple

from attrition.config import DEFAULT_DIALECT, Dialect, Encoding, Numeric
from attrition.data.cells import Cell, files_key, number_text, read_number, read_time

# Bytes that Windows-1252 does not define.
UNDEFINED = re.compile(b"[\x81\x8d\x8f\x90\x9d]")
CONTROLS = re.compile(b"[\x80-\x9f]")
UTF8_PAIR = re.compile(b"[\xc2-\xdf][\x80-\xbf](?![\x80-\xbf])|[\xe1-\xef][\x80-\xbf]{2}")
SAMPLE = 1 << 20
NUMBERS: list[dict[str, Any]] = [
    {"decimal": decimal, "thousands": thousands}
    for thousands in (None, ",", " ", "'")  # "." is the default beside a decimal comma
    for decimal in ".,"
    if thousands != decimal
]
LEADING_ZERO = re.compile("[+-]?0[0-9]*[.,' ]")
CLOCKS = ("", " %I:%M %p", " %I:%M:%S %p")
# With dots the day always comes first.
DATES = (
    *(f"%d.%m.%Y{clock}" for clock in CLOCKS[:1]),
    *(f"%d{sign}%m{sign}%Y{clock}" for sign in "/-" for clock in CLOCKS),
    *(f"%m{sign}%d{sign}%Y{clock}" for sign in "/-" for clock in CLOCKS),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y"),
    *("%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
)


class Proposal(NamedTuple):
    """The keys of a dialect that read the most cells, and what only a person can decide."""

    keys: dict[str, Any]
    findings: Sequence[str] = ()
    ambiguities: Sequence[str] = ()


def detect_encoding(data: bytes) -> Encoding | None:
    """Detect the encoding of a text by its bytes, None if it looks like none that can be named.

    Windows-1252 and ISO 8859-15 differ in few characters: bytes 0x80-0x9F are letters and signs only in
    the first, and 0xA4 is the euro sign only in the second.

    >>> detect_encoding("Müller;5 €".encode("windows-1252")), detect_encoding(b"M\\xfcller;5 \\xa4")
    ('windows-1252', 'iso-8859-15')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or utf16_order(data):
        return "utf-16"
    if b"\x00" in data:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    if UTF8_PAIR.search(data):  # UTF-8 with damaged characters
        return None
    if CONTROLS.search(data):
        return None if UNDEFINED.search(data) else "windows-1252"
    return "iso-8859-15" if b"\xa4" in data else "windows-1252"


def utf16_order(data: bytes) -> str | None:
    """Return the byte order of UTF-16 text without a mark, None if it is none.

    In a table most characters are ASCII, so one byte of two is NUL.

    >>> utf16_order("name;value".encode("utf-16-be")), utf16_order(b"name;value")
    ('utf-16-be', None)
    """
    data = data[: SAMPLE // 16 * 2]
    first, second = data[::2].count(0), data[1::2].count(0)
    if (
        len(data) < 4
        or max(first, second) < 0.6 * len(data[1::2])
        or min(first, second) > 0.05 * len(data)
    ):
        return None
    return "utf-16-be" if first > second else "utf-16-le"


def detect_numbers(
    lines: Mapping[str, int], dialect: Dialect, *, is_typed: bool = False
) -> Proposal:
    """Detect the decimal sign and the thousands separator that read the most cells.

    lines: the first line of each distinct cell; if they may be typed, the dialect is right for those
    that it reads

    >>> detect_numbers({"1.234,56": 2, "7": 3}, DEFAULT_DIALECT).keys
    {'decimal': ','}
    >>> detect_numbers({"1,234": 2}, DEFAULT_DIALECT).ambiguities[0]
    'line 2: 1,234 is either 1.234 ("files": {"decimal": ","}) or 1234 ("files": {"thousands": ","})'
    """
    own = {"decimal": dialect.decimal, "thousands": dialect.thousands}

    def read(text: str, keys: dict[str, Any]) -> Cell:
        if keys["thousands"] and LEADING_ZERO.match(text.strip()):
            keys = keys | {"thousands": None}
        return read_number(text, Numeric("number"), (), replace(dialect, **keys))

    return _propose(lines, [own, *NUMBERS], read, is_typed=is_typed)


def detect_dates(lines: Mapping[str, int], dialect: Dialect, *, is_typed: bool = False) -> Proposal:
    """Detect the format that reads the most dates and times.

    lines: as for `detect_numbers`

    >>> detect_dates({"03/04/2026": 2, "03/14/2026": 3}, DEFAULT_DIALECT).keys
    {'dates': '%m/%d/%Y'}
    >>> len(detect_dates({"03/04/2026": 2}, DEFAULT_DIALECT).ambiguities)
    1
    """
    candidates = [{"dates": each} for each in (dialect.dates, None, *DATES)]

    def read(text: str, keys: dict[str, Any]) -> Cell:
        return read_time(text, "date", (), keys["dates"])

    return _propose(lines, candidates, read, is_typed=is_typed)


def _propose(
    lines: Mapping[str, int],
    candidates: Sequence[dict[str, Any]],
    read: Callable[[str, dict[str, Any]], Cell],
    *,
    is_typed: bool,
) -> Proposal:
    """Return the first of the candidates that read the most cells; the present one is the first of all.

    If another one reads as many cells, and one of them as another value, it is ambiguous.
    """
    own = candidates[0]
    if is_typed:
        lines = {text: line for text, line in lines.items() if read(text, own).code}
    readings = []
    for keys in candidates:
        cells = {text: read(text, keys) for text in lines}
        readings.append({text: cell.value for text, cell in cells.items() if not cell.code})
    most = max(map(len, readings))
    best = [i for i, values in enumerate(readings) if most and len(values) == most]
    if not best:
        return Proposal({})
    first, values = best[0], readings[best[0]]
    for other in best[1:]:
        for text in lines:
            if readings[other].get(text) != values.get(text):
                what = [f"{readings[i].get(text)} ({_keys(candidates[i])})" for i in (first, other)]
                line = f"line {lines[text]}: {text} is either {what[0]} or {what[1]}"
                return Proposal({}, ambiguities=(line,))
    keys = {key: value for key, value in candidates[first].items() if value != own[key]}
    findings = [f"{key}: {value!r}" for key, value in candidates[first].items() if value]
    return Proposal(keys, findings)


def _keys(keys: dict[str, Any]) -> str:
    """Return the keys that config.json has to name."""
    named = {key: value for key, value in keys.items() if value != getattr(DEFAULT_DIALECT, key)}
    return files_key(named) if named else "by default"


def typed_text(value: object, dialect: Dialect = DEFAULT_DIALECT) -> str:
    """Format a typed value as a cell of a file in a dialect.

    >>> typed_text(1234.5, Dialect(decimal=",")), typed_text(date(2026, 8, 31)), typed_text(True)
    ('1234,5', '2026-08-31', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        text = number_text(value) if abs(value) < 1e300 else repr(value)
        return text.replace(".", dialect.decimal)
    if isinstance(value, date):
        # A date in ISO 8601 is read beside the format of a dialect, unless that begins like it.
        if dialect.dates and dialect.dates.startswith("%Y-"):
            return value.strftime(dialect.dates)
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return "\x00" + bytes(value).hex()[:40]
    return str(value)
