import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrition.data.schema import Refusal
from attrition.rows.deduplication import (
    CONTRARY,
    NEWER,
    OUTCOMES,
    REPEATED,
    classify,
    hash_records,
    merge,
)
from attrition.rows.known_rows import CLIENT_HASH, INPUT_ID, NUMBER, OUTCOME, KnownRows
from attrition.rows.typed_rows import ROW_ID

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


rows_of_small_keys = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([-1, 0, 1])), max_size=12
)


def enter(known, rows):
    """Classify rows, compare with `merge`, and enter the accepted ones."""
    client, inputs, outcome = np.array(rows, "int64").reshape(-1, 3).T
    client, inputs = client.astype("uint64"), inputs.astype("uint64")
    codes = classify(known, client, inputs, outcome.astype("int8"))
    is_new, is_newer = codes < NEWER, codes == NEWER
    places = known.find(client[is_newer], inputs[is_newer])
    known.change(places, {OUTCOME: outcome[is_newer]})
    new = {CLIENT_HASH: client, INPUT_ID: inputs, OUTCOME: outcome, NUMBER: outcome}
    known.add({name: values[is_new] for name, values in new.items()})
    return codes


@given(st.lists(rows_of_small_keys, max_size=6))
def test_rows_are_classified_by_arrays_as_one_by_one(sources):
    arrays, known = KnownRows([CLIENT_HASH, INPUT_ID, OUTCOME, NUMBER]), {}
    for rows in sources:
        keys, outcomes = [row[:2] for row in rows], [OUTCOMES[row[2]] for row in rows]
        expected = merge(known, keys, outcomes)
        verdicts = {REPEATED: "duplicate", CONTRARY: "conflict"}
        codes = enter(arrays, rows).tolist()
        assert [verdicts.get(code, "accepted") for code in codes] == expected
        is_newer = [code == NEWER for code in codes if code <= NEWER]
        accepted = [i for i, verdict in enumerate(expected) if verdict == "accepted"]
        assert is_newer == [keys[i] in known for i in accepted]
        known |= {keys[i]: outcomes[i] for i in accepted}
        assert len(arrays) == len(known)


def test_hash_of_records_is_the_same_in_any_order_and_another_for_a_repeat():
    bad = [Refusal(3, "BAD_NUMBER", "x", "raw")]

    def content(rows, refused=bad):
        hashes = {ROW_ID: rows, CLIENT_HASH: [row % 10 for row in rows]}
        arrays = {name: pa.array(values, pa.uint64()) for name, values in hashes.items()}
        return hash_records(arrays, refused).tolist()

    one = content([11, 2**63 + 5])
    assert content([2**63 + 5, 11]) == one
    assert content([11, 2**63 + 6]) != one
    assert content([11, 2**63 + 5, 11]) != one
    assert content([11, 2**63 + 5], []) != one
