import pytest

from attrition.data.schema import Refusal
from attrition.rows.deduplication import hash_records, merge

LEFT, STAYED, OPEN = "1", "0", ""


@pytest.mark.parametrize(
    ("known", "arrives", "verdict"),
    [
        (None, OPEN, "accepted"),
        (None, LEFT, "accepted"),
        (OPEN, OPEN, "duplicate"),
        (OPEN, STAYED, "accepted"),
        (OPEN, LEFT, "accepted"),
        (STAYED, OPEN, "duplicate"),
        (STAYED, STAYED, "duplicate"),
        (STAYED, LEFT, "accepted"),
        (LEFT, OPEN, "duplicate"),
        (LEFT, STAYED, "conflict"),
        (LEFT, LEFT, "duplicate"),
    ],
)
def test_merge_of_a_row_with_the_row_known(known, arrives, verdict):
    key = ("acme", "1")
    assert merge({} if known is None else {key: known}, [key], [arrives]) == [verdict]


@pytest.mark.parametrize(
    ("outcomes", "verdicts"),
    [
        ([LEFT, LEFT], ["accepted", "duplicate"]),
        ([OPEN, LEFT], ["duplicate", "accepted"]),
        ([STAYED, OPEN], ["accepted", "duplicate"]),
        ([LEFT, STAYED], ["conflict", "conflict"]),
        ([LEFT, OPEN, STAYED], ["conflict", "accepted", "conflict"]),
    ],
)
def test_merge_of_rows_of_one_source(outcomes, verdicts):
    assert merge({}, ["acme"] * len(outcomes), outcomes) == verdicts


def test_hash_of_records_is_the_same_in_any_order_and_another_for_a_repeat():
    bad = [Refusal(3, "BAD_NUMBER", "x", "raw")]
    one = hash_records([b"a", b"b"], ["0", "1"], bad)
    assert hash_records([b"b", b"a"], ["1", "0"], bad) == one
    assert hash_records([b"b", b"a"], ["0", "1"], bad) != one
    assert hash_records([b"a", b"b", b"b"], ["0", "1", "1"], bad) != one
    assert hash_records([b"a", b"b"], ["0", "1"], []) != one
