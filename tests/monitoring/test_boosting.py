import numpy as np
import pytest

from attrition.modelling import metrics
from attrition.monitoring.boosting import separate

SECOND = np.repeat([0.0, 1.0], [1500, 500])


def draw(columns=3):
    return np.random.default_rng(0).normal(size=(len(SECOND), columns))


def find_auc(columns):
    probability, gain = separate(columns, SECOND)
    assert np.isfinite(probability).all() and np.isfinite(gain).all()
    return metrics.roc_auc(SECOND, probability).value, gain / max(gain.sum(), 1e-9)


def shift(x):
    x[SECOND == 1, 2] += 1


def lose_values(x):
    x[SECOND == 1, 2] = np.where(x[SECOND == 1, 0] < 0, np.nan, x[SECOND == 1, 2])


def correlate(x):
    x[SECOND == 1, 2] = x[SECOND == 1, 1]


@pytest.mark.parametrize(
    ("change", "columns"), [(shift, [2]), (lose_values, [2]), (correlate, [1, 2])]
)
def test_columns_that_separate_the_samples_have_most_of_the_gain(change, columns):
    x = draw()
    assert find_auc(x)[0] == pytest.approx(0.5, abs=0.03)
    change(x)
    auc, share = find_auc(x)
    assert auc > 0.65
    assert set(np.argsort(-share)[: len(columns)]) == set(columns)
    assert share[columns].sum() > 0.6


def test_columns_without_information_separate_nothing():
    constant = np.column_stack([np.zeros(len(SECOND)), np.full(len(SECOND), np.nan)])
    auc, share = find_auc(constant)
    assert auc == pytest.approx(0.5, abs=0.01)
    assert not share.any()


def test_infinite_and_huge_values_are_only_large_ones():
    x = draw()
    auc, _ = find_auc(x)
    x[x > 2], x[x < -2] = np.inf, -1e300
    assert find_auc(x)[0] == pytest.approx(auc, abs=0.02)
