import ast
import math
import re
import time
import timeit
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.config import MISSING_MARKERS, Columns, Dialect, Numeric
from attrition.data import cells, schema
from attrition.sources import csv_reader
from tests.support import WIDE

MARKERS = cells.fold_markers(MISSING_MARKERS)
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
        assert cell.code or cells.fold(text) in MARKERS


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
        ("20260301", "2026-03-01"),
        ("2026-03-01 12:30:00+00", "2026-03-01T12:30:00Z"),
        ("2026-03-01 12:30:00.123456-05:30", "2026-03-01T18:00:00Z"),
        ("2026-03-01 12:30:00+02", "2026-03-01T10:30:00Z"),
        ("2026-03-01 12:30:00 UTC", "2026-03-01T12:30:00Z"),
        ("2026-03-01 12:30:00 +0200", "2026-03-01T10:30:00Z"),
        ("NA", ""),
    ],
)
def test_time_is_kept_as_a_date_or_as_utc(text, kept):
    assert cells.read_time(text, "seen", MARKERS).value == kept


@pytest.mark.parametrize(
    "text",
    [
        *("2026-02-30", "20260230", "2026-W01-1", "2026-060", "0001-01-01T00:00+02:00", "now"),
        *("infinity", "-infinity", "2026-03-01 BC", "202603", "\uff12026-03-01"),
    ],
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


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("31.08.2026", '"files": {"dates": "%d.%m.%Y"}'),
        ("31/08/2026 09:00", '"files": {"dates": "%d/%m/%Y"}'),
        ("08/31/2026", '"files": {"dates": "%m/%d/%Y"}'),
        ("08/07/2026", '"files": {"dates": "%d/%m/%Y"} or "files": {"dates": "%m/%d/%Y"}'),
        ("2026/08/31", '"files": {"dates": "%Y/%m/%d"}'),
        ("2026-08", '"files": {"dates": "%Y-%m"}'),
    ],
)
def test_refused_date_names_the_key_by_which_it_is_read(text, key):
    cell = cells.read_time(text, "seen", MARKERS)
    assert cell.code == "BAD_TIME"
    assert cell.problem.endswith(f"such as 2026-08-31; to read it, set {key}")


@pytest.mark.parametrize(
    ("dates", "text", "kept"),
    [
        ("%d.%m.%Y", "31.08.2026", "2026-08-31"),
        ("%d.%m.%Y", "1.9.2026", "2026-09-01"),
        ("%d.%m.%Y", "31.08.2026 9:05", "2026-08-31T09:05:00Z"),
        ("%d.%m.%Y", "31.08.2026 12:30:15+02:00", "2026-08-31T10:30:15Z"),
        ("%d.%m.%Y", "2026-08-31", "2026-08-31"),
        ("%d.%m.%Y", "2026-08-31 12:30:00+00", "2026-08-31T12:30:00Z"),
        ("%d.%m.%y", "31.08.26", "2026-08-31"),
        ("%m/%d/%Y", "08/31/2026", "2026-08-31"),
        ("%m/%d/%Y %I:%M %p", "08/31/2026 1:05 PM", "2026-08-31T13:05:00Z"),
        ("%d %b %Y", "31 Aug 2026 23:59", "2026-08-31T23:59:00Z"),
        ("%d%m%Y", "31082026", "2026-08-31"),
        ("%Y-%m", "2026-08", "2026-08-01"),
        ("%d.%m.%Y", "n/a", ""),
    ],
)
def test_date_is_read_in_the_format_of_the_dialect(dates, text, kept):
    read = cells.readers(WIDE, MISSING_MARKERS, Dialect(dates=dates))["seen"]
    assert read(text) == (kept, "", "", "")


@pytest.mark.parametrize(
    ("dates", "text"),
    [
        ("%d.%m.%Y", "31.08.26"),
        ("%d.%m.%y", "31.08.2026"),
        ("%d.%m.%Y", "08/31/2026"),
        ("%d.%m.%Y", "31.02.2026"),
        ("%d.%m.%Y", "20260831"),
        ("%d.%m.%Y", "31.08.2026 25:00"),
        ("%d.%m.%Y", "\u0663\u0661.08.2026"),
        ("%Y-%d-%m", "2026-08-31"),
    ],
)
def test_date_in_another_format_than_that_of_the_dialect_is_refused(dates, text):
    assert cells.read_time(text, "seen", MARKERS, dates).code == "BAD_TIME"


# ---- numbers of a dialect

GERMAN = Dialect(decimal=",", thousands=".")
FRENCH = Dialect(decimal=",", thousands=" ")
SWISS = Dialect(thousands="'")
AMERICAN = Dialect(thousands=",")


@pytest.mark.parametrize(
    ("dialect", "text", "value", "note"),
    [
        (GERMAN, "1.234,56", "1234.56", ""),
        (GERMAN, "-1.234.567", "-1234567", ""),
        (GERMAN, "0,5", "0.5", ""),
        (GERMAN, "1234,50", "1234.5", "NORMALISED"),
        (GERMAN, "1,5e3", "1500", "NORMALISED"),
        (Dialect(decimal=","), "1234,56", "1234.56", ""),
        (FRENCH, "1 234,56", "1234.56", ""),
        (FRENCH, "1\u00a0234\u202f567,8", "1234567.8", ""),
        (SWISS, "1'234.56", "1234.56", ""),
        (SWISS, "12\u2019345", "12345", ""),
        (AMERICAN, "1,234.56", "1234.56", ""),
        (Dialect(decimal=","), "1.234,5", "1234.5", ""),
        (Dialect(decimal=","), "1.234", "1234", ""),
        (AMERICAN, "1234.56", "1234.56", ""),
    ],
)
def test_number_is_read_in_the_dialect(dialect, text, value, note):
    assert cells.read_number(text, X, MARKERS, dialect) == (value, "", "", note)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (GERMAN, "1.23"),
        (GERMAN, "1234.567"),
        (GERMAN, "1,234.56"),
        (GERMAN, "1.234,56.7"),
        (GERMAN, "1 234,56"),
        (GERMAN, "1.234,56 \u20ac"),
        (GERMAN, "12,5 %"),
        (Dialect(decimal=","), "1.5"),
        (FRENCH, "12 34"),
        (SWISS, "1'23"),
        (AMERICAN, "1,23"),
        (AMERICAN, "1,2345"),
        (AMERICAN, ",123"),
        (AMERICAN, "1.234,5"),
    ],
)
def test_number_of_another_dialect_is_refused(dialect, text):
    assert cells.read_number(text, X, MARKERS, dialect).code in ("LOCALE_NUMBER", "BAD_NUMBER")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("1.234,56", '"files": {"decimal": ",", "thousands": "."}'),
        ("12,5", '"files": {"decimal": ","}'),
        ("1,234", '"files": {"decimal": ","} or "files": {"thousands": ","}'),
        ("1,234,567", '"files": {"thousands": ","}'),
        ("1.234.567", '"files": {"thousands": ".", "decimal": ","}'),
        ("1'234", '"files": {"thousands": "\'"}'),
        ("1\u00a0234,5", '"files": {"decimal": ",", "thousands": " "}'),
    ],
)
def test_refused_number_names_the_keys_by_which_it_is_read(text, keys):
    cell = cells.read_number(text, X, MARKERS)
    assert cell.code == "LOCALE_NUMBER"
    assert cell.problem.endswith(f"; to read it, set {keys}")


@settings(max_examples=300, derandomize=True, database=None)
@given(st.floats(-1e15, 1e15, allow_nan=False), st.sampled_from([GERMAN, FRENCH, SWISS, AMERICAN]))
def test_number_written_in_a_dialect_reads_back_as_itself(value, dialect):
    signs = str.maketrans({",": dialect.thousands, ".": dialect.decimal})
    text = f"{value:,.4f}".translate(signs)
    cell = cells.read_number(text, X, MARKERS, dialect)
    assert float(cell.value) == float(f"{value:.4f}")


# ---- missing markers


@pytest.mark.parametrize(
    "text",
    [
        *("NULL", "nan", "n/a", "<NA>", "#N/A", "\\N", "NaT", "(blank)", "#DIV/0!", "#VALUE!"),
        *(
            "null",
            "Na",
            "#n/a",
            "(BLANK)",
            "\u00a0",
            "NA\u00a0",
            "#WERT!",
            "1.#QNAN",
            "nil",
            "\u2014",
        ),
    ],
)
def test_marker_is_missing_in_each_column_but_the_client(text):
    for name, read in cells.readers(WIDE, MISSING_MARKERS).items():
        if name != "id":
            assert read(text) == ("", "", "", ""), name


@pytest.mark.parametrize("text", ["NA", "null", "<NA>", "nil"])
def test_client_may_be_named_like_a_marker(text):
    assert cells.read_client(text, "id").value == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Acme\u00a0Ltd", "Acme Ltd"),
        ("\u2003Acme", "Acme"),
        ("Acme \u202f Ltd\u00a0", "Acme Ltd"),
        ("\u3000\u00c4rzte\u00a0AG", "\u00c4rzte AG"),
    ],
)
def test_blanks_of_a_client_are_plain_spaces(text, name):
    assert cells.read_client(text, "id") == (name, "", "", "NORMALISED")


@pytest.mark.parametrize("text", ["Acme  Ltd", "\u00c4rzte  AG"])
def test_plain_spaces_of_a_client_are_kept(text):
    assert cells.read_client(text, "id") == (text, "", "", "")


@pytest.mark.parametrize("text", ["unknown", "keine", "x", "#####"])
def test_refused_word_in_a_numeric_column_names_missing_markers(text):
    cell = cells.read_number(text, X, MARKERS)
    assert cell.code == "BAD_NUMBER"
    assert cell.problem.endswith("if it stands for no value, add it to missing_markers")


def test_refused_text_with_digits_is_no_marker():
    assert "missing_markers" not in cells.read_number("12 pieces", X, MARKERS).problem


# ---- outcomes


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [
        ("1", "1", ""),
        ("0", "0", ""),
        ("Yes", "1", "LABEL"),
        (" 0 ", "0", "LABEL"),
        ("0.0", "0", "LABEL"),
        ("t", "1", "LABEL"),
        ("f", "0", "LABEL"),
        ("Ja", "1", "LABEL"),
        ("nein", "0", "LABEL"),
        ("FALSCH", "0", "LABEL"),
        ("NA", "", ""),
        ("\\N", "", ""),
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
    """CPU seconds of one call, at best: other processes may have cost some."""
    timer = time.process_time
    return min(timeit.repeat(lambda: work(text), timer=timer, number=1, repeat=5))


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
