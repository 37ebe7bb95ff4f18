import numpy as np
import pandas as pd

from attrition.monitoring import settled_rows
from attrition.monitoring.settled_rows import IN_BATCH, IS_NEW, SettledRows
from attrition.rows import typed_rows

TRAINED = dict.fromkeys(settled_rows.KINDS, np.array([2, 4], "uint64"))


def make(numbers, *, is_new=True, in_batch=True):
    ids = np.random.default_rng(0).integers(0, 2**63, len(numbers)).astype("uint64")
    rows = {typed_rows.NUMBER: numbers, typed_rows.INPUT_ID: ids, typed_rows.DELIVERED: 0}
    return pd.DataFrame(rows).assign(**{IS_NEW: is_new, IN_BATCH: in_batch, "level": "a"})


def test_ids_are_added_once_and_only_beyond_those_of_the_model():
    settled = SettledRows(TRAINED)
    settled.add("inputs", np.array([9, 4, 3, 9], "uint64"))
    assert settled.settled["inputs"].tolist() == [3, 9]
    asked = np.array([2, 3, 5, 9], "uint64")
    assert settled.contains("inputs", asked).tolist() == [True, True, False, True]
    assert settled.contains("labelled", asked).tolist() == [True, False, False, False]


def make_settled(numbers, sampled, groups=1):
    """Rows that wait, but for the first one."""
    rows, counts = make(numbers), pd.DataFrame({"rows": [9] * groups})
    rows.loc[0, [IS_NEW, IN_BATCH]] = False
    return SettledRows(TRAINED, rows=rows, features=make(sampled), groups=counts)


def read_again(settled, **options):
    again = SettledRows(TRAINED)
    again.read(settled.to_arrays(), **{"is_same_store": True, **options})
    return again


def test_rows_that_wait_are_read_as_they_were_written():
    settled = make_settled([3, 5, 8], [3, 8])
    settled.keep(since=9)
    again = read_again(settled)
    assert (again.since, again.count()) == (9, 9)
    assert again.rows[typed_rows.NUMBER].tolist() == [5, 8]
    assert again.features[typed_rows.NUMBER].tolist() == [8]
    pd.testing.assert_frame_equal(again.rows, settled.rows.reset_index(drop=True))


def test_numbers_of_another_store_are_not_taken():
    settled = make_settled([1, 3], [3])
    settled.keep(since=9)
    again = read_again(settled, is_same_store=False)
    assert (again.since, again.rows, again.count()) == (0, None, 0)


def test_file_of_an_earlier_version_without_groups_gives_ids_only():
    settled = make_settled([1, 3], [3])
    settled.add("inputs", np.array([7], "uint64"))
    settled.keep(since=9)
    arrays = settled.to_arrays()
    del arrays[settled_rows.GROUPS]
    again = SettledRows(TRAINED)
    again.read(arrays, is_same_store=True)
    assert (again.since, again.rows, again.count()) == (0, None, 0)
    assert again.settled["inputs"].tolist() == [7]


def test_too_many_waiting_rows_are_read_again(monkeypatch):
    monkeypatch.setattr(settled_rows, "MAX_WAITING", 2)
    settled = make_settled([1, 3, 5, 8], [3, 8])
    settled.keep(since=9)
    again = read_again(settled)
    assert (again.since, len(again.rows), again.count()) == (0, 0, 0)


def test_too_many_groups_are_counted_again(monkeypatch):
    monkeypatch.setattr(settled_rows, "MAX_GROUPS", 2)
    settled = make_settled([1, 3], [3], groups=3)
    settled.keep(since=9)
    again = read_again(settled)
    assert (again.since, len(again.rows), again.count()) == (9, 1, 0)


def test_sample_is_the_same_in_whatever_parts_rows_are_read():
    rows = make(np.arange(1000))
    rows.loc[600:, typed_rows.DELIVERED] = 1
    whole = settled_rows.thin(rows, 50)
    assert whole[typed_rows.DELIVERED].value_counts().tolist() == [50, 50]
    parts = settled_rows.thin(rows.iloc[:500], 50)
    parts = settled_rows.thin(pd.concat([parts, rows.iloc[500:]]), 50)
    pd.testing.assert_frame_equal(parts, whole)
    of_all = settled_rows.smallest(rows[typed_rows.INPUT_ID].to_numpy(), 50)
    assert set(rows.index[of_all]) <= set(whole.index)
    assert of_all.sum() == 50
