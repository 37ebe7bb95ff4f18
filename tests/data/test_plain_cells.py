"""What array operations call plain is what its validator returns unchanged, with the same verdicts."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attrition.config import MISSING_MARKERS, Columns, Dialect, Numeric
from attrition.data import plain_cells, schema
from attrition.data.cells import Cell, number_text, readers

COLUMNS = Columns(
    client="who",
    outcome="left",
    numeric=(
        Numeric("x"),
        Numeric("n", minimum=0, maximum=1000, integer=True),
        Numeric("r", minimum=-1.5),
    ),
    categorical=("kind",),
    time="seen",
    value="worth",
    manager="owner",
    dates=("end",),
    due="renewed",
    phone="phone",
)
MARKERS = (*MISSING_MARKERS, "999", "2026-01-01", "0.5", "Missing")
NUMERALS = (
    st.from_regex(r"[+-]?[0-9]{0,17}(\.[0-9]{0,17})?(e-?[0-9])?", fullmatch=True)
    | st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{3}){1,2}", fullmatch=True)
    | st.floats(-1e16, 1e16).map(number_text)
    | st.decimals(-2000, 2000, places=3, allow_nan=False).map(str)
    | st.integers(-999, 9999).map(lambda cents: f"{cents / 100:.2f}")
    | st.sampled_from(
        [
            "0",
            "-0",
            "0.0",
            "00",
            "1.",
            ".5",
            "12..0",
            "-0.00",
            "1.0.00",
            "0.0001",
            "0.00001",
            "-0.5",
            "1e15",
        ]
    )
)
TIMES = (
    st.dates().map(str)
    | st.datetimes().map(lambda time: f"{time.isoformat()}Z")
    | st.from_regex(
        r"[0-9]{4}-[0-3][0-9]-[0-3][0-9](T[0-2][0-9]:[0-9]{2}:[0-9]{2}Z?)?", fullmatch=True
    )
    | st.sampled_from(
        ["2023-02-29", "2024-02-29", "0000-01-01", "2026-04-31", "2026-01-01T24:00:00Z"]
    )
)
TEXTS = (
    st.text(max_size=8)
    | st.text("ab \t\u00a0\x7f-.", max_size=5)
    | st.sampled_from([*MARKERS, " x", "x ", "a" * 200, "a" * 201, "nA", "1\n", "2026-03-01\n", "x\n"])
)  # fmt: skip
CELLS = st.one_of(NUMERALS, TIMES, TEXTS)
DIALECTS = (
    Dialect(),
    Dialect(decimal=",", thousands="."),
    Dialect(thousands=","),
    Dialect(thousands="'", dates="%d.%m.%Y"),
)
DELIVERED = [*COLUMNS.delivered]
CLEAN = {
    "who": ["client 1", "x"],
    "seen": ["2026-03-31", "2026-12-30T23:59:59Z"],
    "x": ["0", "-17", "123456789012345", "850624.22", "-0.5", "0.0001", "12.50"],
    "n": ["0", "1000"],
    "r": ["-1.5", "-1", "3.25"],
    "worth": ["0", "12.5", "7.00"],
    "kind": ["a", "b"],
    "end": ["2026-02-28", "1999-10-31"],
    "renewed": ["2026-02-28"],
    "owner": ["Ann O'Neil"],
    "phone": ["+49 30 123"],
    "left": ["", "0", "1", "yes"],
}


@settings(max_examples=80, derandomize=True, database=None, deadline=None)
@given(
    st.lists(CELLS, min_size=1, max_size=40)
    | st.lists(st.integers(-2000, 2000).map(str) | st.just(""), min_size=1),
    st.sampled_from(DIALECTS),
    st.sampled_from([MARKERS, MISSING_MARKERS]),
)
def test_a_plain_cell_is_what_its_validator_returns(cells, dialect, markers):
    texts = pa.array(cells, pa.string())
    read = readers(COLUMNS, markers, dialect)
    for name, find in plain_cells.finders(COLUMNS, markers, dialect).items():
        result = find(texts)
        canonical = result.texts.to_pylist()
        plain = np.flatnonzero(result.is_plain).tolist()
        for i in plain:
            note = "" if canonical[i] == cells[i] else "NORMALISED"
            assert read[name](cells[i]) == Cell(canonical[i], note=note)
        assert result.is_normalised == any(canonical[i] != cells[i] for i in plain)


@pytest.mark.parametrize("others", [[], [""], ["007"], ["1.5"], ["-1"], ["1001"], ["+5"], ["-0"]])
def test_whole_numbers_are_plain_whatever_stands_beside_them(others):
    find = plain_cells.finders(COLUMNS, MISSING_MARKERS)["n"]
    result = find(pa.array(["0", *others, "17", "1000"]))
    assert result.is_plain.tolist() == [True, *(False for _ in others), True, True]


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(st.lists(st.text("abäA ", max_size=4), max_size=200), st.integers(0, 3))
def test_texts_that_match_are_found_group_by_group(texts, start):
    array = pa.array(["b", "", "a", *texts], pa.string())[start:]
    expected = ["ab" in text.lower() or "Ä" in text.upper() for text in array.to_pylist()]
    assert plain_cells.match_anywhere(array, "(?i)ab|ä").tolist() == expected


def test_cells_of_a_clean_table_are_plain():
    find = plain_cells.finders(COLUMNS, MARKERS)
    for name, function in find.items():
        # the first number with a "." is an example for those who infer the dialect
        examples = int(name in ("x", "r", "worth"))
        assert function(pa.array(CLEAN[name])).is_plain.sum() == len(CLEAN[name]) - examples
    assert CLEAN.keys() - find.keys() == {"kind", "left"}


def judge(rows, dialect, cut):
    """All that a contract finds in rows that arrive in two chunks."""
    contract = schema.Contract(DELIVERED, COLUMNS, MARKERS, dialect)
    contract.latest = "2030-01-01"
    parts = []
    for some, first in ((rows[:cut], 2), (rows[cut:], 2 + cut)):
        columns = [pa.array(column, pa.string()) for column in zip(*some, strict=True)]
        chunk = schema.Chunk(tuple(columns), range(first, first + len(some)))
        checked = contract.check(chunk, is_last=first > 2)
        texts = {name: column.to_pylist() for name, column in checked.columns.items()}
        parts.append((texts, list(checked.lines), checked.refused, checked.raw.to_pylist()))
    return parts, contract.notes(), contract.find_two_dialects()


@st.composite
def row(draw):
    """A clean row, or one with up to three cells of any kind."""
    cells = [draw(st.sampled_from(CLEAN[name])) for name in DELIVERED]
    for i in draw(st.lists(st.integers(0, len(cells) - 1), max_size=3)):
        cells[i] = draw(CELLS)
    return tuple(cells)


THOUSANDS = [
    ("a", "", *(f"{i}.250" if name in ("x", "worth") else "" for name in DELIVERED[2:]))
    for i in (1, 1, 2, 3, 4)
]


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@example(THOUSANDS, DIALECTS[0], 3)
@example([(*row[:2], *("1.234,5" for _ in row[2:])) for row in THOUSANDS], DIALECTS[0], 2)
@given(st.lists(row(), min_size=3, max_size=12), st.sampled_from(DIALECTS), st.integers(1, 2))
def test_verdicts_are_the_same_with_and_without_array_operations(rows, dialect, cut):
    results = []
    for has_many in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain_cells, "has_many_levels", lambda texts, it=has_many: it)
            results.append(judge(rows, dialect, cut))
    assert results[0] == results[1]
