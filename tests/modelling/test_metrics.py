import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as peers

from attrition.modelling import metrics


def planted(n=400, seed=0, rate=0.25, shift=1.2, digits=2):
    """Outcomes and risks with ties: those who left have the higher scores."""
    rng = np.random.default_rng(seed)
    outcome = (rng.random(n) < rate).astype(float)
    score = rng.normal(shift * outcome - 1.5)
    return outcome, np.clip(np.round(1 / (1 + np.exp(-score)), digits), 0.01, 0.99)


def resampled(rng, outcome):
    """Positions of one stratified bootstrap draw."""
    classes = [np.flatnonzero(outcome == label) for label in (0, 1)]
    return np.concatenate([rng.choice(rows, len(rows)) for rows in classes])


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_scikit_learn(seed):
    outcome, risk = planted(seed=seed)
    assert metrics.roc_auc(outcome, risk).value == pytest.approx(
        peers.roc_auc_score(outcome, risk), abs=1e-12
    )
    assert metrics.pr_auc(outcome, risk).value == pytest.approx(
        peers.average_precision_score(outcome, risk), abs=1e-12
    )
    assert metrics.f1(outcome, risk).value == pytest.approx(
        peers.f1_score(outcome, risk >= 0.5), abs=1e-12
    )
    assert metrics.mean(metrics.row_log_loss(outcome, risk)).value == pytest.approx(
        peers.log_loss(outcome, risk), abs=1e-12
    )
    assert metrics.mean(metrics.row_brier(outcome, risk)).value == pytest.approx(
        peers.brier_score_loss(outcome, risk), abs=1e-12
    )


def test_delong_error_is_that_of_a_bootstrap():
    outcome, risk = planted()
    rng = np.random.default_rng(1)
    draws = [resampled(rng, outcome) for _ in range(500)]
    spread = np.std([peers.roc_auc_score(outcome[rows], risk[rows]) for rows in draws])
    interval = metrics.roc_auc(outcome, risk)
    assert (interval.high - interval.low) / (2 * metrics.Z95) == pytest.approx(spread, rel=0.1)


def test_delong_difference_knows_that_the_risks_are_correlated():
    outcome, risk = planted(digits=6)
    other = risk + np.random.default_rng(2).normal(0, 0.05, len(risk))
    rng = np.random.default_rng(3)
    drawn = []
    for _ in range(500):
        rows = resampled(rng, outcome)
        aucs = [peers.roc_auc_score(outcome[rows], found[rows]) for found in (other, risk)]
        drawn.append(aucs[0] - aucs[1])
    interval = metrics.roc_auc_difference(outcome, other, risk).interval
    error = (interval.high - interval.low) / (2 * metrics.Z95)
    assert error == pytest.approx(np.std(drawn), rel=0.15)
    assert error < 0.7 * (metrics.roc_auc(outcome, risk).high - interval.value) / metrics.Z95


def test_delong_by_hand():
    """Two left, two stayed; pairs won 3 of 4. Placements: (.5, 1) and (1, .5), variances 1/8 each."""
    interval = metrics.roc_auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    assert interval.value == 0.75
    assert interval.low == pytest.approx(0.75 - metrics.Z95 * np.sqrt(1 / 16 + 1 / 16))
    assert interval.high == 1.0


def three_risks(n=600, seed=0):
    """Outcomes, two risks of them with ties, and weights that depend on one of the risks."""
    rng = np.random.default_rng(seed)
    outcome = (rng.random(n) < 0.3).astype(float)
    risk = np.round(rng.normal(outcome, 1), 1)
    other = np.round(risk + rng.normal(0, 0.7, n), 1)
    return outcome, risk, other, np.exp(0.5 * risk)


def test_equal_weights_change_nothing():
    outcome, risk, other, _ = three_risks()
    plain = metrics.roc_auc_difference(outcome, risk, other)
    for weight in (1.0, 7.0):
        weighted = metrics.roc_auc_difference(outcome, risk, other, np.full(len(outcome), weight))
        assert weighted.interval.to_dict() == pytest.approx(plain.interval.to_dict(), abs=1e-12)
        assert weighted.p_value == pytest.approx(plain.p_value, abs=1e-12)


def test_a_row_of_weight_3_counts_as_three_rows():
    outcome, risk, other, _ = three_risks()
    weights = 1 + np.arange(len(outcome)) % 3
    repeated = [np.repeat(values, weights) for values in (outcome, risk, other)]
    weighted = metrics.roc_auc_difference(outcome, risk, other, weights.astype(float))
    expected = metrics.roc_auc_difference(*repeated).interval.value
    assert weighted.interval.value == pytest.approx(expected, abs=1e-12)


def test_error_of_a_weighted_difference_is_that_of_a_bootstrap():
    outcome, risk, other, weights = three_risks()
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(1000):
        rows = rng.integers(len(outcome), size=len(outcome))
        sample = (values[rows] for values in (outcome, risk, other, weights))
        drawn.append(metrics.roc_auc_difference(*sample).interval.value)
    weighted = metrics.roc_auc_difference(outcome, risk, other, weights)
    assert weighted.interval.standard_error == pytest.approx(np.std(drawn), rel=0.1)


def test_the_level_that_is_nearer_is_proven_with_enough_rows():
    outcome = np.r_[np.ones(300), np.zeros(700)]
    nearer, further = np.full(1000, 0.31), np.full(1000, 0.2)
    assert metrics.level_difference(outcome, nearer, further).high < 0
    assert metrics.level_difference(outcome, further, nearer).low > 0
    few = outcome[::50]
    unclear = metrics.level_difference(few, np.full(20, 0.31), np.full(20, 0.2))
    assert unclear.low < 0 < unclear.high


def test_difference_of_a_risk_to_itself_is_nothing():
    outcome, risk = planted()
    found = metrics.roc_auc_difference(outcome, risk, risk)
    assert found == metrics.Difference(metrics.Interval(0.0, 0.0, 0.0), 0.5)


def test_difference_changes_sign_with_the_order_of_the_risks():
    outcome, risk = planted()
    noise = np.random.default_rng(0).random(len(risk))
    better = metrics.roc_auc_difference(outcome, risk, noise)
    worse = metrics.roc_auc_difference(outcome, noise, risk)
    assert better.interval.value == pytest.approx(-worse.interval.value)
    assert better.p_value < 0.001
    assert better.p_value + worse.p_value == pytest.approx(1)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (10, 20), (20, 20), (3, 7), (50, 1000)])
def test_wilson_equals_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = metrics.wilson(hits, n)
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_unknown():
    assert metrics.wilson(0, 0) == metrics.UNKNOWN


def test_f1_interval_is_that_of_a_bootstrap_of_rows():
    outcome, risk = planted(shift=2.5)
    rng = np.random.default_rng(4)
    draws = [resampled(rng, outcome) for _ in range(500)]
    drawn = [peers.f1_score(outcome[rows], risk[rows] >= 0.5) for rows in draws]
    interval = metrics.f1(outcome, risk)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)


def test_f1_is_nought_where_nobody_is_called():
    outcome, risk = planted()
    assert metrics.f1(outcome, risk * 0).value == 0.0


def test_average_precision_interval_is_that_of_a_bootstrap():
    outcome, risk = planted()
    rng = np.random.default_rng(5)
    draws = [resampled(rng, outcome) for _ in range(300)]
    drawn = [peers.average_precision_score(outcome[rows], risk[rows]) for rows in draws]
    interval = metrics.pr_auc(outcome, risk)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("outcome", [np.zeros(5), np.ones(5), np.array([])])
def test_one_class_has_no_ranking_scores(outcome):
    risk = np.linspace(0, 1, len(outcome))
    assert metrics.roc_auc(outcome, risk) == metrics.UNKNOWN
    assert metrics.pr_auc(outcome, risk) == metrics.UNKNOWN
    assert metrics.f1(outcome, risk) == metrics.UNKNOWN
    assert metrics.roc_auc_difference(outcome, risk, risk).p_value is None


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_scores_of_few_rows_are_numbers_or_none(n):
    outcome, risk = np.arange(n) % 2.0, np.linspace(0.2, 0.8, n)
    scores = metrics.compute_metrics(outcome, risk, 3)
    assert scores.pop("called") == min(n, 3)
    figures = [figure for score in scores.values() for figure in score.values()]
    assert all(figure is None or np.isfinite(figure) for figure in figures)


def test_one_who_left_among_many_gives_an_auc_without_certainty():
    interval = metrics.roc_auc(np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]))
    assert (interval.value, interval.low, interval.high) == (1.0, 0.0, 1.0)


def test_certain_and_wrong_costs_much_but_not_infinitely_much():
    loss = metrics.row_log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert loss == pytest.approx(-np.log(metrics.SMALLEST_RISK))


def test_mean_has_the_interval_of_the_normal_approximation():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    error = metrics.Z95 * stats.sem(values)
    assert metrics.mean(values) == metrics.Interval(2.5, 2.5 - error, 2.5 + error)
    assert metrics.mean(values[:1]) == metrics.Interval(1.0)


def test_precision_and_lift_count_those_the_managers_can_call():
    outcome = np.array([1.0, 0, 1, 0, 0, 0, 0, 0])
    risk = np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1])
    precision, lift = metrics.precision_and_lift(outcome, risk, 3)
    assert precision == metrics.wilson(2, 3)
    assert lift.value == pytest.approx((2 / 3) / (2 / 8))


def test_lift_is_unknown_where_nobody_left():
    precision, lift = metrics.precision_and_lift(np.zeros(4), np.linspace(0, 1, 4), 2)
    assert precision.value == 0.0
    assert lift == metrics.UNKNOWN


def test_ties_at_the_capacity_keep_the_order_of_the_rows():
    assert metrics.top(np.array([0.5, 0.9, 0.5, 0.5]), 2).tolist() == [1, 0]


def test_confusion_equals_scikit_learn():
    outcome, risk = planted(shift=2.5)
    expected = peers.confusion_matrix(outcome, risk >= 0.5).ravel().tolist()
    found = metrics.confusion(outcome, risk)
    names = ("stayed_stayed", "stayed_left", "left_stayed", "left_left")
    assert [found[name] for name in names] == expected


def test_roc_curve_bounds_the_area():
    outcome, risk = planted()
    curve = metrics.roc_curve(outcome, risk, points=10_000)
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(peers.roc_auc_score(outcome, risk))


def test_roc_curve_is_thinned_and_keeps_its_ends():
    outcome, risk = planted(2000, digits=9)
    curve = metrics.roc_curve(outcome, risk, points=50)
    assert len(curve["true_positive_rate"]) == 50
    assert curve["true_positive_rate"][0] == 0
    assert curve["true_positive_rate"][-1] == curve["false_positive_rate"][-1] == 1


def test_calibration_bins_hold_every_row_once():
    outcome, risk = planted(103)
    found = metrics.calibration_curve(outcome, risk)
    assert sum(bin["rows"] for bin in found) == 103
    assert sum(bin["observed"] * bin["rows"] for bin in found) == pytest.approx(outcome.sum())
    assert all(bin["low"] <= bin["observed"] <= bin["high"] for bin in found)


def test_gain_of_a_perfect_order_finds_all_at_the_base_rate():
    outcome = np.r_[np.ones(10), np.zeros(90)]
    curve = metrics.gain_curve(outcome, np.linspace(1, 0, 100))
    assert curve["share_found"][curve["share_contacted"].index(0.1)] == 1.0
    assert curve["share_found"][curve["share_contacted"].index(0.05)] == 0.5


@pytest.mark.parametrize("curve", [metrics.gain_curve, metrics.roc_curve])
def test_curves_are_empty_where_nobody_left(curve):
    assert not any(curve(np.zeros(3), np.linspace(0, 1, 3)).values())
