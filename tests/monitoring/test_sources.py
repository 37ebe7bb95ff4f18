import numpy as np
import pytest

from attrition.monitoring.sources import (
    FEWER,
    MORE,
    REVERSED,
    count_deliveries,
    find_contradictions,
    find_suspicious,
)

NAMES = ["may.csv", "june.csv", "july.csv"]


def deliver(rates, n=400, seed=0, *, reverse=()):
    """Outcomes of three deliveries whose log-odds are moved; risks as the model has them."""
    rng = np.random.default_rng(seed)
    number = np.repeat(range(len(rates)), n)
    score = rng.normal(-1.5, 1, len(number))
    true = score * np.where(np.isin(number, reverse), -1, 1) + np.asarray(rates)[number]
    outcome = (rng.random(len(number)) < 1 / (1 + np.exp(-true))).astype(float)
    return outcome, 1 / (1 + np.exp(-score)), number


@pytest.mark.parametrize(("move", "kind"), [(1.5, MORE), (-1.5, FEWER)])
def test_delivery_with_another_rate_is_named(move, kind):
    [one] = find_contradictions(*deliver([0, move, 0]), NAMES)
    assert (one.source, one.kind, one.rows) == ("june.csv", kind, 400)
    assert f"{one.left} of 400 left, {one.expected:.0f} expected" in one.sentence
    assert find_suspicious([one]) == [one]


def test_delivery_in_reverse_order_is_named():
    outcome, risk, number = deliver([0, 0, 0], reverse=[2])
    [one] = find_contradictions(outcome, risk, number, NAMES)
    assert (one.source, one.kind) == ("july.csv", REVERSED)
    assert one.roc_auc < 0.4


def test_deliveries_as_predicted_are_not_named():
    """Three deliveries in each of 200 worlds, at 0.1 % each and 15 % at least."""
    wrong = sum(len(find_contradictions(*deliver([0] * 3, seed=i), NAMES)) for i in range(200))
    assert wrong <= 3


def test_two_deliveries_that_agree_are_not_suspicious():
    contradictions = find_contradictions(*deliver([0, 1.5, 1.5]), NAMES)
    assert [one.kind for one in contradictions] == [MORE, MORE]
    assert find_suspicious(contradictions) == []


def test_two_deliveries_that_disagree_are_suspicious_both():
    contradictions = find_contradictions(*deliver([0, 1.5, -1.5]), NAMES)
    assert len(find_suspicious(contradictions)) == 2


def test_accepted_delivery_is_not_suspicious():
    contradictions = find_contradictions(*deliver([0, 1.5, 0]), NAMES)
    assert find_suspicious(contradictions, accepted=["june.csv"]) == []


def test_few_rows_contradict_nothing():
    assert find_contradictions(*deliver([0, 3, 0], n=49), NAMES) == []


def test_uncertain_level_of_a_small_training_contradicts_less():
    outcome, risk, number = deliver([0.6, 0.6, 0.6], n=200)
    assert find_contradictions(outcome, risk, number, NAMES)
    assert not find_contradictions(outcome, risk, number, NAMES, left_in_training=10)


@pytest.mark.parametrize(
    ("sizes", "expected"), [((), 0), ((500,), 1), ((500, 19), 1), ((500, 20), 2), ((20, 20, 20), 3)]
)
def test_deliveries_count_if_enough_rows_are_not_from_the_largest(sizes, expected):
    assert count_deliveries(np.repeat(range(len(sizes)), sizes).astype(int)) == expected
