"""Records of an API body are validated by the contract of rows."""

import math

import pytest

from attrition.config import MISSING_MARKERS
from attrition.data import schema, typed_rows
from attrition.data.api_records import BadRecords, check_records
from attrition.data.schema import Table, check
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
