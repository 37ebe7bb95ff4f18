"""Identities in sorted arrays, compared with a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.rows import known_rows
from attrition.rows.known_rows import (
    ABSENT,
    CLIENT_HASH,
    INPUT_ID,
    NUMBER,
    OUTCOME,
    Identities,
    KnownRows,
    find_repeated,
    is_among,
)

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)
BIG = 2**64 - 1  # the last hashes, which a signed number could not contain


def arrays(pairs):
    client, inputs = np.array([*pairs], "int64").reshape(-1, 2).T
    return client.astype("uint64") + np.uint64(BIG - 3), inputs.astype("uint64")


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "change"]), PAIRS), max_size=8))
def test_rows_are_found_changed_and_removed_as_in_a_dictionary(changes):
    rows, expected = KnownRows([CLIENT_HASH, INPUT_ID, OUTCOME, NUMBER]), {}
    every = [(i, j) for i in range(4) for j in range(4)]
    for at, (change, pairs) in enumerate(changes):
        pairs = sorted(set(pairs), key=pairs.index)
        places = rows.find(*arrays(pairs))
        assert [place >= 0 for place in places] == [pair in expected for pair in pairs]
        if change == "add":
            pairs = [pair for pair in pairs if pair not in expected]
            names = dict(zip((CLIENT_HASH, INPUT_ID), arrays(pairs), strict=True))
            rows.add(names | {OUTCOME: np.zeros(len(pairs)), NUMBER: np.full(len(pairs), at)})
            expected |= dict.fromkeys(pairs, at)
        elif change == "remove":
            rows.remove(places[places >= 0])
            expected = {pair: number for pair, number in expected.items() if pair not in pairs}
        else:
            rows.change(places[places >= 0], {NUMBER: np.full((places >= 0).sum(), at)})
            expected |= {pair: at for pair in pairs if pair in expected}
        assert len(rows) == len(expected)
        places = rows.find(*arrays(every))
        numbers = rows.get(NUMBER, places[places >= 0]).tolist()
        assert numbers == [expected[pair] for pair in every if pair in expected]
        clients, _ = arrays([(i, 0) for i in range(4)])
        assert sorted(rows.read_clients(clients)[NUMBER].tolist()) == sorted(expected.values())
        assert ABSENT not in rows.read_clients(clients)[OUTCOME]


@settings(derandomize=True, database=None, deadline=None)
@given(PAIRS, PAIRS)
def test_identities_are_sets_of_pairs(one, other):
    for operator in ("__or__", "__and__", "__sub__"):
        expected = sorted(getattr(set(one), operator)(set(other)))
        found = getattr(Identities(*arrays(one)), operator)(Identities(*arrays(other)))
        assert [*zip(*(each.tolist() for each in (found.client, found.inputs)), strict=True)] == [
            *zip(*(each.tolist() for each in arrays(expected)), strict=True)
        ]
    assert find_repeated(*arrays(one)).tolist() == [one.count(pair) > 1 for pair in one]


def test_many_small_additions_are_merged_into_few_runs():
    rows = KnownRows([CLIENT_HASH, INPUT_ID, OUTCOME, NUMBER])
    for i in range(200):
        number = np.array([i])
        rows.add(dict.fromkeys((CLIENT_HASH, INPUT_ID, OUTCOME, NUMBER), number))
        assert rows.find(number.astype("uint64"), number.astype("uint64"))[0] >= 0
    assert len(rows) == 200
    assert len(rows._runs) <= 5


def test_members_are_found_beyond_both_ends():
    assert is_among(np.array([0, 3, 9]), np.array([3, 5])).tolist() == [False, True, False]
    assert not is_among(np.array([0, 3]), np.array([], "int64")).any()


@pytest.mark.parametrize("many", [0, 10])
@pytest.mark.parametrize("last_bits", [1, 1 << 16])
def test_members_are_found_however_many_there_are(monkeypatch, many, last_bits):
    monkeypatch.setattr(known_rows, "MANY", many)
    monkeypatch.setattr(known_rows, "LAST_BITS", last_bits)
    values, members = np.array([9, 2, 7, 2, 5], "uint64"), np.array([2, 5, 8], "uint64")
    assert is_among(values, members).tolist() == [False, True, False, True, True]
    assert is_among(np.sort(values), members).tolist() == [True, True, True, False, False]
