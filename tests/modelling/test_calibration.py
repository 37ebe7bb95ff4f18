import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from attrition.modelling import calibration, metrics


def drawn(n, slope=1.0, intercept=0.0, seed=0):
    """Scores, and outcomes whose log-odds are slope times score plus intercept."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-1, 1.5, n)
    return score, (rng.random(n) < metrics.expit(slope * score + intercept)).astype(float)


def cut(n, k=5):
    parts = np.array_split(np.arange(n), k)
    return [(np.setdiff1d(np.arange(n), test), test) for test in parts]


def test_sigmoid_is_logistic_regression_on_the_score():
    score, outcome = drawn(5000, 0.5, -1)
    peer = LogisticRegression(C=np.inf).fit(score[:, np.newaxis], outcome)
    found = calibration.fit_sigmoid(score, outcome).apply(score)
    expected = peer.decision_function(score[:, np.newaxis])
    assert found == pytest.approx(expected, abs=0.01)


def test_the_intercept_makes_the_risks_add_up_to_those_who_left():
    score, outcome = drawn(5000, 1, 0.7)
    found = calibration.fit_intercept(score, outcome)
    assert found.log_odds == pytest.approx((0.7, 1.7), abs=0.1)
    assert metrics.expit(found.apply(score)).sum() == pytest.approx(outcome.sum(), abs=0.5)


@pytest.mark.parametrize("left", [0.0, 1.0])
def test_the_intercept_is_finite_if_all_outcomes_are_equal(left):
    found = calibration.fit_intercept(np.zeros(98), np.full(98, left))
    assert metrics.expit(found.apply(np.zeros(1)))[0] == pytest.approx(0.01 + 0.98 * left)


def test_a_score_that_separates_leaves_a_finite_slope():
    score = np.array([-2.0, -1, 1, 2])
    found = calibration.fit_sigmoid(score, np.array([0.0, 0, 1, 1])).apply(score)
    assert np.abs(found).max() < 10


def test_a_score_that_says_the_opposite_is_flattened_not_turned():
    score, outcome = drawn(2000, -1)
    found = calibration.fit_sigmoid(score, outcome).apply(score)
    assert np.ptp(found) == pytest.approx(0, abs=1e-6)


def test_isotonic_never_turns_the_order_and_is_never_sure():
    score, outcome = drawn(1500)
    found = calibration.fit_isotonic(score, outcome)
    risk = metrics.expit(found.apply(np.linspace(-20, 20, 999)))
    assert (np.diff(risk) >= 0).all()
    assert 0 < risk.min() < risk.max() < 1


def with_floor(n, floor=-1.0):
    """Scores that tell nothing below a floor, where one in nine leaves."""
    score, _ = drawn(n)
    risk = metrics.expit(1.5 * np.maximum(score, floor) - 0.6)
    return score, (np.random.default_rng(1).random(n) < risk).astype(float)


def test_below_a_floor_all_count_alike():
    found = calibration.fit_floored(*with_floor(20_000))
    assert metrics.expit(found.apply(np.array([-9.0, -1]))) == pytest.approx([0.11] * 2, abs=0.01)
    assert found.apply(np.array([0.0, 1])) == pytest.approx([-0.6, 0.9], abs=0.1)


def test_a_floor_is_chosen_where_the_lowest_scores_tell_nothing():
    assert (
        calibration.choose_calibration(*with_floor(8000), cut(8000))[0].kind
        == "sigmoid with a floor"
    )


def test_where_every_score_tells_the_floor_lies_under_nearly_all():
    score, outcome = drawn(4000)
    found = calibration.fit_floored(score, outcome)
    assert (score < found.scores[0]).mean() < 0.15


def test_a_step_on_which_nobody_left_is_as_sure_as_it_is_long():
    score = np.r_[np.zeros(49), np.ones(9)]
    found = calibration.fit_isotonic(score, (score > 0).astype(float)).apply(np.array([0.0, 1]))
    assert metrics.expit(found) == pytest.approx([0.01, 0.95], abs=2e-3)


def test_a_short_step_at_the_end_lowers_no_other():
    """One alone at the top left, and ninety of a hundred just below."""
    score = np.r_[np.zeros(100), np.ones(100), 2]
    outcome = np.r_[np.zeros(90), np.ones(10), np.zeros(10), np.ones(91)]
    found = metrics.expit(calibration.fit_isotonic(score, outcome).apply(np.array([0.0, 1, 2])))
    assert found == pytest.approx([0.1, 0.9, 0.9])


def test_isotonic_bends_where_the_truth_does():
    rng = np.random.default_rng(0)
    score = rng.normal(0, 2, 20_000)
    outcome = (rng.random(20_000) < np.where(score < 0, 0.1, 0.6)).astype(float)
    risk = metrics.expit(calibration.fit_isotonic(score, outcome).apply(np.array([-2.0, 2.0])))
    assert risk == pytest.approx([0.1, 0.6], abs=0.03)


@pytest.mark.parametrize(
    ("n", "slope", "kind"), [(4000, 1.0, "none"), (4000, 0.5, "sigmoid"), (300, 0.4, "sigmoid")]
)
def test_the_simplest_that_is_as_good_as_the_best_is_chosen(n, slope, kind):
    score, outcome = drawn(n, slope)
    found, losses = calibration.choose_calibration(score, outcome, cut(n))
    assert found.kind == kind
    assert ("isotonic" in losses) == (n >= 1000)


def test_isotonic_is_chosen_where_no_line_will_do():
    rng = np.random.default_rng(0)
    score = rng.normal(0, 2, 20_000)
    outcome = (rng.random(20_000) < np.where(score < 2, 0.1, 0.7)).astype(float)
    found, _ = calibration.choose_calibration(score, outcome, cut(20_000))
    assert found.kind == "isotonic"


def test_too_few_who_left_calibrate_nothing():
    score, outcome = drawn(200)
    outcome[np.flatnonzero(outcome)[9:]] = 0
    found, losses = calibration.choose_calibration(score, outcome, cut(200))
    assert found == calibration.AS_IT_IS
    assert set(losses) == {"none"}
