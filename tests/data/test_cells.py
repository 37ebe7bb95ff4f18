import ast
import math
import re
import timeit
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.config import MISSING_MARKERS, Columns, Numeric
from attrition.data import cells, schema
from attrition.sources import csv_reader
from tests.support import WIDE

MARKERS = frozenset(MISSING_MARKERS)
X = Numeric("x")
NAMED = Columns(outcome="status", left="Gone", stayed="Here")


@settings(max_examples=300, derandomize=True, database=None)
@given(st.floats(-1e15, 1e15, allow_nan=False))
def test_number_written_out_reads_back_as_itself(value):
    cell = cells.read_number(repr(value), X, MARKERS)
    assert float(cell.value) == value
    assert cells.read_number(cell.value, X, MARKERS) == (cell.value, "", "", "")


@settings(max_examples=500, derandomize=True, database=None)
@given(st.text("0123456789.,eE+-_' \u0660\uff11\u2212x", max_size=12))
def test_text_is_a_number_only_where_it_is_plain_decimal(text):
    cell = cells.read_number(text, X, MARKERS)
    if cell.value:
        assert math.isclose(float(cell.value), float(Fraction(text.strip())), rel_tol=1e-15)
        assert text.isascii()
        assert "_" not in text
    else:
        assert cell.code or text.strip(" \t") in MARKERS


@settings(max_examples=300, derandomize=True, database=None)
@given(st.text(max_size=30))
def test_cells_are_judged_the_same_twice(text):
    for read in cells.readers(WIDE, MARKERS).values():
        cell = read(text)
        assert cell.code == "" or (cell.value == "" and cell.problem)
        again = read(cell.value)
        assert cell.code or not cell.value or (again.value, again.note) == (cell.value, "")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01 12:30", "2026-03-01T12:30:00Z"),
        ("2026-03-01T12:30:15.123456789+0230", "2026-03-01T10:00:15Z"),
        ("2026-03-01T12:30Z", "2026-03-01T12:30:00Z"),
        ("NA", ""),
    ],
)
def test_time_is_kept_as_a_date_or_as_utc(text, kept):
    assert cells.read_time(text, "seen", MARKERS).value == kept


@pytest.mark.parametrize(
    "text", ["2026-02-30", "20260301", "2026-W01-1", "01/03/2026", "0001-01-01T00:00+02:00", "now"]
)
def test_time_that_is_none_is_refused(text):
    assert cells.read_time(text, "seen", MARKERS).code == "BAD_TIME"


@settings(max_examples=200, derandomize=True, database=None)
@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_time_is_the_same_instant_whatever_its_zone(time, minutes):
    time = time.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    cell = cells.read_time(time.isoformat(), "seen", MARKERS)
    if cell.code:
        assert time.year in (1, 9999)
    else:
        assert datetime.fromisoformat(cell.value) == time


# ---- outcomes


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [
        ("1", "1", ""),
        ("0", "0", ""),
        ("Yes", "1", "LABEL"),
        (" 0 ", "0", "LABEL"),
        ("0.0", "0", "LABEL"),
        ("NA", "", ""),
    ],
)
def test_outcome_is_kept_as_one_or_zero(text, value, note):
    assert cells.read_outcome(text, Columns(), MARKERS) == (value, "", "", note)


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [("Gone", "1", ""), ("Here", "0", ""), ("GONE", "1", "LABEL"), (" Here", "0", "LABEL")],
)
def test_outcome_that_config_names_is_noted_where_it_is_spelled_otherwise(text, value, note):
    assert cells.read_outcome(text, NAMED, MARKERS) == (value, "", "", note)


@pytest.mark.parametrize("text", ["1", "0", "yes", "true", "left", "Gone!"])
def test_where_config_names_the_outcomes_no_other_is_one(text):
    cell = cells.read_outcome(text, NAMED, MARKERS)
    assert (cell.value, cell.code) == ("", "BAD_LABEL")
    assert cell.problem == f"status is {text!r}, expected 'Gone' or 'Here'"


# ---- what hostile text costs

UNITS = (
    "0",
    "9",
    "+",
    "-",
    ".",
    ",",
    "'",
    "e",
    " ",
    "\t",
    "[",
    "{",
    "<",
    '"',
    "s",
    "T",
    ":",
    "\u0301",
)
UNITS += ("1.", "1,", ",000", ".000", "1e", "[ ", " [", "<!", "é", "ab", "0 ", "-0", "2026-01-01T")


def patterns():
    """Every regular expression that a cell or a text of unknown origin meets."""
    for room in (cells, csv_reader, schema):
        for node in ast.walk(ast.parse(Path(room.__file__).read_text())):
            is_call = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")
            if is_call and isinstance(node.args[0], ast.Constant):
                yield re.compile(node.args[0].value, re.IGNORECASE)


def cost(work, text):
    """Seconds of one call, at best: another process may have taken the rest."""
    return min(timeit.repeat(lambda: work(text), number=1, repeat=5))


def check_linear(work, unit):
    """Ten times the text takes about ten times as long; a hundred times, were it quadratic."""
    for end in ("", "x"):
        short, long = (unit * (length // len(unit)) + end for length in (10_000, 100_000))
        assert cost(work, long) < 40 * cost(work, short) + 1e-4, (work, unit, end)


def test_there_are_patterns_to_look_at():
    assert len(list(patterns())) >= 6


@pytest.mark.parametrize("pattern", [*patterns()], ids=lambda pattern: pattern.pattern[:20])
def test_pattern_is_linear_in_what_it_reads(pattern):
    for unit in UNITS:
        check_linear(pattern.match, unit)
        check_linear(pattern.fullmatch, unit)


@pytest.mark.parametrize("name", WIDE.delivered)
def test_judging_a_cell_is_linear_in_its_length(name):
    for unit in UNITS:
        check_linear(cells.readers(WIDE, MARKERS)[name], unit)
