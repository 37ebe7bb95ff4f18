"""Records of an API body are validated by the contract of rows."""

import math
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.config import MISSING_MARKERS
from attrition.data import api_records, cells, schema
from attrition.data.api_records import (
    BadRecords,
    check_columns,
    check_records,
    check_texts,
    describe_columns,
    describe_record,
)
from attrition.data.schema import Table, check
from attrition.data.spelling import Spelling
from attrition.rows import typed_rows
from tests.conftest import ROOT
from tests.support import WIDE

MARKERS = frozenset(MISSING_MARKERS)


def table(header, *rows):
    names = tuple(header.split(","))
    cells = [row.split(",") for row in rows]
    return Table(names, [schema.make_chunk(cells, range(2, 2 + len(rows)), len(names))])


# ---- API records

GOOD = {"x": 1.5, "n": 3, "kind": "gold"}


def problems(*records, allowed=()):
    with pytest.raises(BadRecords) as error:
        check_records(WIDE, records, allowed)
    return [(found["record"], found["field"], found["problem"]) for found in error.value.problems]


def test_good_records_keep_their_order():
    rows = check_records(WIDE, [GOOD | {"id": "b"}, GOOD | {"id": "a", "x": -2}, GOOD])
    assert rows.clients == ["b", "a", ""]
    assert rows.columns["x"].tolist() == [1.5, -2, 1.5]
    assert list(rows.columns) == ["x", "n", "kind"]


def test_columns_that_are_no_features_may_be_given_and_are_not_used():
    more = {"left": 0, "seen": "2026-03-01", "worth": 5, "owner": "Ann"}
    assert list(check_records(WIDE, [GOOD | more]).columns) == ["x", "n", "kind"]


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"x": "1"}, "x", "expected a number"),
        ({"x": True}, "x", "expected a number"),
        ({"x": [1]}, "x", "expected a number"),
        ({"x": math.nan}, "x", "expected a plain number"),
        ({"x": math.inf}, "x", "expected a finite number"),
        ({"x": 1e16}, "x", "expected at most 1e15"),
        ({"x": 10**400}, "x", "expected at most 1e15"),
        ({"n": -1}, "n", "expected a number >= 0"),
        ({"n": 10}, "n", "expected a number <= 9"),
        ({"n": 2.5}, "n", "expected a whole number"),
        ({"kind": 7}, "kind", "expected text"),
        ({"kind": "a\x00b"}, "kind", "control character U+0000"),
        ({"kind": "x" * 201}, "kind", "expected at most 200"),
        ({"x": None}, "x", "is null"),
        ({"kind": None}, "kind", "is null"),
        ({"id": 7}, "id", "expected text"),
        ({"id": " "}, "id", "expected the client's name"),
        ({"y": 1}, "y", "unknown field"),
    ],
)
def test_bad_field_of_a_record_is_named(change, field, told):
    [(record, named, problem)] = problems(GOOD, GOOD | change)
    assert (record, named) == (1, field)
    assert told in problem


def test_missing_field_is_named():
    assert problems({"x": 1, "kind": "gold"}) == [(0, "n", "missing")]


@pytest.mark.parametrize("record", [None, 7, "text", [1]])
def test_record_that_is_no_object_is_told(record):
    assert problems(record) == [(0, None, "expected an object of features")]


def test_every_problem_of_every_record_is_told():
    assert len(problems({"x": "1"}, GOOD, {})) == 3 + 3


def test_null_is_taken_where_the_model_has_seen_it_missing():
    rows = check_records(WIDE, [GOOD | {"x": None, "kind": None}], ("x", "kind")).columns
    assert math.isnan(rows["x"][0])
    assert rows["kind"][0] == ""


@pytest.mark.parametrize("record", [{"n": 3}, {"n": 3, "x": None}, {"n": 3, "kind": None}])
def test_feature_that_may_be_missing_may_be_absent_or_null(record):
    rows = check_records(WIDE, [record], ("x", "kind")).columns
    assert rows["n"].tolist() == [3]
    assert math.isnan(rows["x"][0])
    assert rows["kind"][0] == ""


def test_only_the_features_that_may_be_missing_may_be_absent():
    assert problems({"n": 3}, {"x": 1}, allowed=("x",)) == [
        (0, "kind", "missing"), (1, "n", "missing"), (1, "kind", "missing")]  # fmt: skip


def test_value_of_a_feature_that_may_be_missing_is_checked():
    [(_, field, problem)] = problems(GOOD | {"x": "many"}, allowed=("x",))
    assert (field, problem) == ("x", "expected a number")


@pytest.mark.parametrize("record", [{}, {"x": None}, {"id": "a"}])
def test_record_without_any_value_is_refused_like_a_row(record):
    assert problems(record, allowed=("x", "n", "kind")) == [(0, None, "no feature has a value")]


def test_record_and_file_give_the_same_row():
    row = check(
        table("id,seen,x,n,kind,worth,owner,left", "a,,1.5,3,gold,,,"), WIDE, MARKERS
    ).frame()
    from_file = typed_rows.typed(row, WIDE)
    from_body = check_records(WIDE, [GOOD | {"id": "a"}])
    assert from_file["id"].tolist() == from_body.clients
    for name in WIDE.features:
        assert from_file[name][0] == from_body.columns[name][0]


# ---- the same rows in each form

SHAPED = replace(WIDE, dates=("end",), categorical=("kind", "plan"))
SPELLED = Spelling({"plan": ["Yes", "No"]})
TODAY = "2026-03-01"
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.floats(-3, 12),
    st.sampled_from([1e15, -1e15, 1.1e15, 2**63, 10**400, -0.0, 1e-300]),
)
DATES = st.sampled_from(
    [
        *(
            "2026-03-11",
            "9999-12-31",
            "20260228",
            " 2024-02-29\t",
            "2026-02-29",
            "2026-03-11 24:00",
        ),
        *(
            "2026-03-11T10:30:00.5+02:30",
            "2026-03-11 09:00 UTC",
            "2026-03-11T09:00:60",
            "",
            "later",
        ),
    ]
)
ODD_TEXTS = (
    *("gold", "", " ", "a\tb", " a\t", "\u00a0", "\u00a0a", "\t\u00a0 a", "a\u200b", "\U000e0020"),
    *("x" * 200, "x" * 201, "x" * 199 + "  ", "a\n", "\u2028", "\u0301"),
)
TEXTS = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.text(st.characters(exclude_categories=["Cs", "Mn", "Me"]), max_size=5),
)
OTHERS = st.sampled_from([None, True, False, [], {}, [1], "3"])


def mostly(values):
    return st.one_of(values, values, values, OTHERS)


FIELDS = {
    "x": mostly(NUMBERS),
    "n": mostly(NUMBERS),
    "end": mostly(st.one_of(DATES, st.integers(-40_000, 40_000), st.floats(-9, 9))),
    "kind": mostly(TEXTS),
    "plan": mostly(st.sampled_from(["Yes", "No", "true", "J", "maybe"])),
    "id": mostly(TEXTS),
    "seen": mostly(DATES),
    "worth": OTHERS,
    "else": OTHERS,
}
VALID = {"x": 1.5, "n": 3, "end": "2026-03-11", "kind": "gold", "plan": "Yes", "id": "Ann"}
ALLOWED = st.sets(st.sampled_from(SHAPED.features))
GIVEN = st.lists(st.sampled_from(list(FIELDS)), min_size=4, unique=True)


def outcome_of(check, rows, allowed):
    """Return what a form is answered: the checked rows as plain values, or the problems."""
    try:
        checked = check(SHAPED, rows, allowed, SPELLED, TODAY)
    except BadRecords as error:
        return error.problems
    columns = {name: [repr(value) for value in values] for name, values in checked.columns.items()}
    return checked.clients, columns


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_records_and_columns_get_the_same_rows_or_the_same_problems(data):
    names, allowed = data.draw(GIVEN), data.draw(ALLOWED)
    rows = data.draw(st.lists(st.tuples(*(FIELDS[name] for name in names)), min_size=1, max_size=5))
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    by_record = outcome_of(check_records, records, allowed)
    assert outcome_of(check_columns, columns, allowed) == by_record
    # each record alone gets what it gets among others
    for i, record in enumerate(records):
        alone = outcome_of(check_records, [record], allowed)
        if isinstance(by_record, list):
            own = [one | {"record": 0} for one in by_record if one["record"] == i]
            assert alone == own or (not own and isinstance(alone, tuple))


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_schema_of_a_record_accepts_what_is_accepted(data):
    names, allowed = data.draw(GIVEN), data.draw(ALLOWED)
    few = st.fixed_dictionaries({name: FIELDS[name] for name in names})
    changed = st.sampled_from(names).flatmap(
        lambda name: st.fixed_dictionaries({name: FIELDS[name]})
    )
    record = data.draw(st.one_of(few, changed.map(VALID.__or__)))
    schema = describe_record(SHAPED, allowed, SPELLED)
    is_valid = jsonschema_rs.Draft202012Validator(schema).is_valid(record)
    assert is_valid == isinstance(outcome_of(check_records, [record], allowed), tuple)


def test_control_characters_of_the_schema_are_those_that_are_refused():
    text, client = (re.compile(f"[{part}]") for part in (api_records.CONTROL, api_records.SPACES))
    for code in (*range(0xD800), *range(0xE000, sys.maxunicode + 1)):
        category = unicodedata.category(chr(code))
        assert bool(text.match(chr(code))) == (category in ("Cc", "Cf", "Zl", "Zp")), hex(code)
        if client.match(chr(code)):
            assert cells.BLANK_RUN.match(chr(code))


def test_schema_of_columns_describes_each_value_like_that_of_a_record():
    record, columns = describe_record(SHAPED), describe_columns(SHAPED, max_rows=7)
    assert columns["properties"]["x"]["items"] == record["properties"]["x"]
    assert (columns["properties"]["x"]["maxItems"], columns["required"]) == (7, record["required"])


def test_cells_of_a_csv_are_read_like_those_of_a_file():
    header = ["Kind ", "n", "x", "note", "seen", "end", "plan"]
    rows = [
        ["gold", "3", "1e2", "?", "2026-03-10", "2026-03-11", "t"],
        ["NA", "", "-", "", "", "", ""],
    ]
    spelling = SPELLED._replace(kept={"kind": ["NA"]})
    allowed = ("x", "n", "end", "plan")
    checked = check_texts(SHAPED, header, rows, MARKERS, allowed, spelling, TODAY)
    assert checked.columns["kind"] == ["gold", "NA"]
    assert checked.columns["plan"] == ["Yes", ""]
    assert checked.columns["x"].tolist()[0] == 100
    assert checked.columns["end"].tolist()[0] == 1
    assert np.isnan(checked.columns["n"][1])


def test_faults_of_a_csv_are_named_by_row_and_field():
    rows = [["1", "silver", "9"], ["many", "gold"], ["many", "", "9"]]
    with pytest.raises(BadRecords) as error:
        check_texts(WIDE, ["x", "kind", "colour"], rows, MARKERS, ("n",))
    problems = [(one["record"], one["field"], one["problem"]) for one in error.value.problems]
    assert problems == [
        (0, "colour", "unknown field"),
        (1, None, "2 fields, expected 3"),
        (2, "colour", "unknown field"),
        (2, "x", problems[3][2]),
        (2, "kind", "is null, but the model has never seen it missing"),
    ]  # fmt: skip
    assert problems[3][2].startswith("x is 'many', expected a plain number")


def test_a_record_is_checked_without_pandas():
    code = (
        "import sys; from attrition.config import Columns; from attrition.data import api_records;"
        "from attrition.serving import prediction; from attrition.web import request_body;"
        "api_records.check_records(Columns(), [dict.fromkeys(Columns().features, 1)]);"
        "print([name for name in ('pandas', 'sklearn', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
