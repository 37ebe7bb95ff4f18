import numpy as np
import pytest

from attrition.rows import sampling

IDS = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
OUTCOME = (np.arange(20_000) % 50 == 0).astype(float)  # 400 left
MONTH = np.arange(20_000) // 7 % 12
NO_AGE = np.zeros(20_000, dtype=np.intp)


def draw(size, order=slice(None), age=NO_AGE):
    outcome, codes = OUTCOME[order], age[order]
    place, stratum = sampling.place_rows(IDS[order], [outcome.astype(np.intp), codes, MONTH[order]])
    return sampling.take_sample(place, stratum, outcome, codes, size)


def test_all_who_left_are_in_a_sample_and_the_others_fill_it():
    sample = draw(2000)
    assert sample.is_taken[OUTCOME == 1].all()
    assert sample.is_taken.sum() == pytest.approx(2000, abs=12)  # a row for each month at most
    assert (sample.weight[OUTCOME == 1] == 1).all()


def test_those_who_left_are_at_most_half_of_a_sample():
    sample = draw(200)
    assert (sample.is_taken & (OUTCOME == 1)).sum() == pytest.approx(100, abs=12)
    assert (sample.is_taken & (OUTCOME == 0)).sum() == pytest.approx(100, abs=12)


@pytest.mark.parametrize("size", [200, 2000])
def test_weights_add_up_to_the_rows_of_each_outcome_and_month(size):
    sample = draw(size)
    for rows in (OUTCOME == 1, OUTCOME == 0, MONTH == 3):
        assert sample.weight[sample.is_taken & rows].sum() == pytest.approx(rows.sum())


def test_a_sample_depends_on_the_rows_and_not_on_their_order():
    order = np.random.default_rng(1).permutation(20_000)
    np.testing.assert_array_equal(draw(2000, order).is_taken, draw(2000).is_taken[order])


def test_a_larger_sample_contains_a_smaller_one():
    assert not (draw(500).is_taken & ~draw(2000).is_taken).any()


def test_simple_rows_have_the_outcomes_of_all_rows():
    sample = draw(2000)
    assert sample.is_simple.sum() == pytest.approx(1600 / 19_600 * 20_000, abs=24)
    assert OUTCOME[sample.is_simple].mean() == pytest.approx(0.02, abs=0.006)
    assert not (sample.is_simple & ~sample.is_taken).any()


def test_each_age_has_a_sample_of_its_own():
    """Only 100 rows are recent: a common share would leave ten of them."""
    recent = np.arange(20_000) >= 19_900
    sample = draw(2000, age=recent.astype(np.intp))
    assert sample.is_taken[recent].all()
    assert sample.is_taken.sum() == pytest.approx(2100, abs=24)
