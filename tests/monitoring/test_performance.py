import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attrition.modelling import metrics
from attrition.monitoring import performance


def drawn(n, seed=0, b=4.0):
    """Risks that are true, and what came of them."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, b, n)
    return risk, (rng.random(n) < risk).astype(float)


def reference(n=3000, seed=100):
    risk, outcome = drawn(n, seed)
    return {"reference_risk": risk, "reference_outcome": outcome}


def poisson_binomial(risk):
    """Probability of each number who leave, by convolution: (n + 1,)."""
    found = np.ones(1)
    for p in risk:
        found = np.convolve(found, [1 - p, p])
    return found


# ---- the figures


@pytest.mark.parametrize("n", [1, 2, 10, 60, 400])
def test_without_a_reference_the_count_has_the_poisson_binomial_interval(n):
    risk, _ = drawn(n)
    exact = np.cumsum(poisson_binomial(risk))
    expected = performance.estimate(risk).expected
    assert expected.value == pytest.approx(risk.sum())
    assert exact[int(expected.high)] >= 0.96
    assert exact[int(expected.high) - 1] <= 0.99 or expected.high == 0
    assert expected.low == 0 or exact[int(expected.low) - 1] <= 0.04
    assert expected.low == 0 or exact[int(expected.low)] >= 0.01


def test_auc_is_that_of_all_pairs_weighed_by_their_probability():
    risk = np.round(drawn(150)[0], 1)  # with many ties
    pairs = list(itertools.permutations(risk, 2))
    weight = [left * (1 - stayed) for left, stayed in pairs]
    won = [(left > stayed) + (left == stayed) / 2 for left, stayed in pairs]
    expected = np.average(won, weights=weight)
    assert performance.estimate(risk).roc_auc.value == pytest.approx(expected)


def test_value_and_precision_are_sums_of_risks():
    risk, _ = drawn(1000)
    value = np.random.default_rng(1).lognormal(3, 1, 1000)
    found = performance.estimate(risk, value=value, capacity=50)
    assert found.value_at_risk.value == pytest.approx(risk @ value)
    assert found.precision.value == pytest.approx(np.sort(risk)[-50:].mean())
    assert found.rate.value == pytest.approx(risk.mean())


def test_the_drawn_figures_are_those_of_the_drawn_outcomes():
    rng = np.random.default_rng(0)
    risk = np.sort(np.round(rng.random(200), 1))
    outcome = (rng.random(200) < risk).astype(float)
    of_each = np.column_stack(
        [np.ones(200), stats.rankdata(risk), np.arange(200) >= 180, *np.ones((3, 200))]
    )
    found = performance._rates(outcome @ of_each, 200, 20, 0.0)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc(outcome, risk).value)
    assert found["precision"] == outcome[180:].mean()


def test_sums_over_many_clients_have_the_distribution_of_drawn_outcomes(monkeypatch):
    rng = np.random.default_rng(0)
    risk = np.sort(drawn(4000)[0])
    value = rng.lognormal(3, 1.5, 4000)
    value[3000] = value.sum()
    is_listed = np.arange(4000) >= 3980
    of_each = np.column_stack(
        [np.ones(4000), stats.rankdata(risk), is_listed, value, np.zeros(4000), is_listed * value]
    )
    terms = performance._terms(risk)
    lines = np.tile(performance.IDENTITY, (2000, 1)) + np.c_[np.zeros((2000, 2)), rng.random(2000)]
    expected = performance._draw_each(terms, lines, of_each)
    monkeypatch.setattr(performance, "MANY", 1000)
    monkeypatch.setattr(performance, "SINGLE", 60)
    monkeypatch.setattr(performance, "BLOCKS", 200)
    sums = performance._draw_sums(terms, lines, of_each)
    assert not sums[:, 4].any() and not expected[:, 4].any()
    is_whole = sums[:, 2] == np.rint(sums[:, 2])
    assert is_whole.all()  # the few on the list are drawn one by one
    apart = (sums.mean(axis=0) - expected.mean(axis=0)) / np.maximum(expected.std(axis=0), 1e-9)
    assert np.abs(apart).max() < 4 * np.sqrt(2 / 2000)
    has_any = [0, 1, 2, 3, 5]
    for i in has_any:
        assert stats.ks_2samp(sums[:, i], expected[:, i]).pvalue > 1e-3
    together = [np.corrcoef(each[:, has_any].T) for each in (sums, expected)]
    np.testing.assert_allclose(*together, atol=0.1)


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_of_many_clients_neither_fewer_than_none_leave_nor_more_than_all(monkeypatch, risk):
    monkeypatch.setattr(performance, "MANY", 1000)
    monkeypatch.setattr(performance, "SINGLE", 60)
    monkeypatch.setattr(performance, "BLOCKS", 200)
    value = np.full(100_000, 2.0)
    result = performance.estimate(np.full(100_000, risk), value=value, is_listed=value > 1)
    for interval in (result.expected, result.listed):
        assert 0 <= interval.low <= interval.high <= 100_000
    assert 0 <= result.value_at_risk.low <= result.value_at_risk.high <= 200_000


def test_a_list_of_the_highest_risks_has_the_precision_of_the_highest_risks():
    risk, value = drawn(800)[0], np.random.default_rng(1).lognormal(3, 1, 800)
    is_listed = np.isin(np.arange(800), np.argsort(-risk)[:50])
    found = performance.estimate(risk, value=value, capacity=50, is_listed=is_listed, **reference())
    for end in ("value", "low", "high"):
        listed, precision = getattr(found.listed, end), getattr(found.precision, end)
        assert listed == pytest.approx(50 * precision)


def test_an_empty_list_has_no_precision():
    result = performance.estimate(drawn(300)[0], capacity=0, is_listed=np.zeros(300), **reference())
    assert (result.precision.value, result.listed.value) == (None, 0)


def test_a_list_of_everybody_has_the_figures_of_everybody():
    risk, value = drawn(300)[0], np.random.default_rng(1).lognormal(3, 1, 300)
    found = performance.estimate(risk, value=value, is_listed=np.ones(300), **reference())
    for listed, everybody in (
        (found.listed, found.expected),
        (found.listed_value_at_risk, found.value_at_risk),
    ):
        assert listed.to_dict() == pytest.approx(everybody.to_dict())


def test_without_a_list_its_figures_are_unknown():
    found = performance.estimate(drawn(300)[0], value=np.ones(300))
    assert found.listed == found.listed_value_at_risk == metrics.UNKNOWN


def test_one_client_who_is_half_of_all_value_may_leave_or_stay():
    risk, _ = drawn(1000)
    value = np.where(np.arange(1000) == 0, 1000.0, 1.0)
    risk[0] = 0.5
    found = performance.estimate(risk, value=value).value_at_risk
    assert found.low < 300 and found.high > 1100


def test_a_missing_value_counts_nothing_and_no_value_breaks_it():
    risk, _ = drawn(500)
    value = np.ones(500)
    value[:4] = [np.nan, -5, np.inf, 1e308]
    found = performance.estimate(risk, value=value).value_at_risk
    assert np.isfinite([found.value, found.low, found.high]).all()
    value[:4] = np.nan
    assert performance.estimate(risk, value=value).value_at_risk.value == pytest.approx(
        risk[4:].sum()
    )
    assert performance.estimate(risk).value_at_risk == metrics.UNKNOWN


def test_the_order_of_the_rows_changes_nothing():
    risk, _ = drawn(700)
    risk = np.round(risk, 2)
    value = np.random.default_rng(1).lognormal(3, 1, 700)
    before = reference()
    order, other = (np.random.default_rng(2).permutation(n) for n in (700, 3000))
    turned = {name: one[other] for name, one in before.items()}
    assert performance.estimate(risk, value=value, **before) == performance.estimate(
        risk[order], value=value[order], **turned
    )


def test_capacity_beyond_all_clients_calls_them_all():
    found = performance.estimate(drawn(150)[0], capacity=1000)
    assert found.called == 150
    assert found.precision.value == pytest.approx(found.rate.value)


# ---- the calibration


def test_risks_that_the_reference_proves_too_low_are_put_right():
    risk, outcome = drawn(5000, 1)
    half = metrics.expit(metrics.log_odds(risk) - 1)
    found = performance.estimate(half, reference_risk=half, reference_outcome=outcome)
    assert found.rate.value == pytest.approx(risk.mean(), abs=0.015)


def test_a_small_reference_widens_every_interval():
    risk, _ = drawn(5000)
    small, large = (performance.estimate(risk, **reference(n)) for n in (300, 10_000))
    for name in ("rate", "roc_auc", "precision"):
        one, other = getattr(small, name), getattr(large, name)
        assert one.high - one.low > other.high - other.low


def test_what_the_reference_leaves_open_is_what_logistic_regression_says():
    before = reference(2000)
    found = performance._recalibrations(performance._sort_reference(*before.values(), None), 1000)
    terms = performance._terms(before["reference_risk"])
    risk = metrics.expit(terms @ found[0])
    information = terms.T @ (terms * (risk * (1 - risk))[:, np.newaxis]) + np.diag([1, 1, 0])
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert found[1:].std(axis=0) == pytest.approx(errors, rel=0.2)
    assert found[1:].mean(axis=0) == pytest.approx(found[0], abs=0.3 * errors.max())


@pytest.mark.parametrize("risk", [np.full(200, 0.2), np.full(200, 0.999), np.tile([0.0, 1.0], 100)])
def test_a_reference_that_says_little_or_the_opposite_breaks_nothing(risk):
    outcome = np.tile([1.0, 0.0], 100)
    found = performance.estimate(risk, reference_risk=risk, reference_outcome=outcome)
    assert found.rate.value == pytest.approx(0.5, abs=0.01)


def test_without_enough_of_both_outcomes_the_risks_are_taken_as_they_are():
    risk, outcome = drawn(1000)
    outcome[np.flatnonzero(outcome)[19:]] = 0
    found = performance.estimate(risk, reference_risk=risk, reference_outcome=outcome)
    assert found.expected.value == pytest.approx(risk.sum())
    assert found.reference_roc_auc == metrics.UNKNOWN
    assert found.verdict == "insufficient"
    assert any("reference" in warning for warning in found.warnings)


# ---- few rows


def test_no_client_is_all_unknown():
    found = performance.estimate(np.empty(0), value=np.empty(0), **reference())
    assert {getattr(found, name) for name in performance.FIGURES} == {metrics.UNKNOWN}
    assert found.verdict == "insufficient"


@pytest.mark.parametrize("risk", [np.full(99, 0.5), np.full(500, 0.03), np.full(500, 0.97)])
def test_too_few_rows_or_of_one_outcome_give_a_count_alone(risk):
    found = performance.estimate(risk, **reference(200))
    assert found.roc_auc == found.precision == metrics.UNKNOWN
    assert found.expected.value is not None
    assert found.verdict == "insufficient"
    assert "too few" in found.sentence and "too few" in found.warnings[-1]


def test_few_rows_are_a_warning():
    assert performance.estimate(drawn(499)[0], **reference()).warnings != ()
    assert performance.estimate(drawn(500)[0], **reference()).warnings == ()


@pytest.mark.parametrize(("risk", "expected"), [(np.zeros(300), 0), (np.ones(300), 300)])
def test_risks_of_nought_or_one_are_certain(risk, expected):
    found = performance.estimate(risk).expected
    assert found.value == pytest.approx(expected, abs=0.001)
    assert (found.low, found.high) == (expected, expected)


def test_equal_risks_rank_nobody():
    found = performance.estimate(np.full(1000, 0.3)).roc_auc
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


# ---- the verdict and the words


def test_clients_whom_the_risks_hardly_tell_apart_raise_the_alarm():
    alike = np.random.default_rng(0).uniform(0.3, 0.4, 2000)
    found = performance.estimate(alike, **reference())
    assert found.verdict == "degraded"
    assert f"below the {found.reference_roc_auc.value:.2f}" in found.sentence


def test_the_same_kind_of_clients_raise_none():
    found = [performance.estimate(drawn(1000, seed)[0], **reference()) for seed in range(10)]
    assert {one.verdict for one in found} == {"fine"}


def test_the_sentence_says_it_in_plain_words():
    found = performance.estimate(np.linspace(0, 0.4, 10_000))
    assert found.sentence == (
        f"expected to leave: 2,000 of 10,000 clients (95 % interval {found.expected.low:,.0f} to "
        f"{found.expected.high:,.0f}); estimated ROC AUC {found.roc_auc.value:.2f} "
        f"({found.roc_auc.low:.2f} to {found.roc_auc.high:.2f})"
    )


def test_an_estimate_is_json():
    found = performance.estimate(drawn(200)[0], **reference())
    assert json.loads(json.dumps(found.to_dict()))["rows"] == 200


# ---- the second opinion


def clients(n, seed, shift=0.0):
    """Two features; in the second half of `kind` the risks are too low, by log-odds of 1."""
    rng = np.random.default_rng(seed)
    x, kind = rng.normal(0, 1, n), rng.random(n) < 0.3 + shift
    table = pd.DataFrame({"x": x, "kind": np.where(kind, "b", "a")})
    outcome = (rng.random(n) < metrics.expit(x - 1 + kind)).astype(float)
    return table, metrics.expit(x - 0.6), outcome


def opinion(table, risk, before):
    old, old_risk, old_outcome = before
    weighing = performance.weigh(old, table, ["x"], ["kind"])
    return performance.second_opinion(
        risk, weighing, reference_risk=old_risk, reference_outcome=old_outcome
    )


def test_a_second_opinion_follows_what_the_risks_do_not_know():
    before = clients(4000, 0)
    table, risk, outcome = clients(4000, 1, shift=0.5)
    first = performance.estimate(risk, reference_risk=before[1], reference_outcome=before[2])
    second = opinion(table, risk, before).estimate
    assert abs(second.rate.value - outcome.mean()) < abs(first.rate.value - outcome.mean()) / 2


@pytest.mark.parametrize(
    ("rows", "shift", "reason"),
    [(2000, 0.0, "resemble the training data"), (900, 0.5, "too few"), (2, 0.5, "too few")],
)
def test_no_second_opinion_where_it_cannot_help(rows, shift, reason):
    table, risk, _ = clients(rows, 1, shift)
    found = opinion(table, risk, clients(3000, 0))
    assert found.estimate is None
    assert reason in found.reason


def test_no_second_opinion_from_a_reference_with_nobody_like_the_clients():
    before, (table, risk, _) = clients(1000, 0), clients(2000, 1)
    found = opinion(table.assign(x=table["x"] + 3), risk, before)
    assert found.estimate is None
    assert "too few rows like these clients" in found.reason


# ---- the estimator itself


def test_an_estimate_is_held_against_what_came():
    risk, outcome = drawn(400)
    estimated = performance.estimate(risk, value=np.ones(400), **reference())
    found = {
        one.figure: one
        for one in performance.check_estimate(estimated, outcome, risk, np.ones(400))
    }
    assert tuple(found) == performance.FIGURES
    assert found["expected"].realised == found["value_at_risk"].realised == outcome.sum()
    assert found["rate"].error == pytest.approx(estimated.rate.value - outcome.mean())
    everyone = performance.check_estimate(estimated, np.ones(400), risk)
    assert {one.figure: one.is_covered for one in everyone} == {
        "expected": False,
        "rate": False,
        "precision": False,
    }


def test_checks_are_summed_up_by_figure():
    checks = [
        performance.EstimateCheck("rate", 0.2, 0.05, 0.3, 0.1),
        performance.EstimateCheck("rate", 0.2, 0.1, 0.3, 0.5),
    ]
    (record,) = performance.estimate_accuracy(checks)
    assert (record.figure, record.estimates) == ("rate", 2)
    assert record.mean_absolute_error == pytest.approx(0.2)
    assert record.coverage.value == 0.5
    assert performance.estimate_accuracy([]) == ()


@pytest.mark.parametrize(("n", "sigma"), [(300, 1.5), (1000, 1.0)])
def test_intervals_cover_what_is_realised_95_times_in_100(n, sigma):
    rng = np.random.default_rng(5)
    checks = []
    for seed in range(200):
        before = reference(1000, 1000 + seed)
        risk, outcome = drawn(n, seed)
        value = rng.lognormal(4, sigma, n)
        found = performance.estimate(risk, value=value, **before)
        checks += performance.check_estimate(found, outcome, risk, value)
    for record in performance.estimate_accuracy(checks):
        assert 0.90 <= record.coverage.value <= 0.985, record


# ---- once outcomes are known


def outcomes(n, seed, *, flipped=False, bend=1.0):
    """Risks and outcomes drawn from them; `flipped`: who seemed safe leaves."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(1.5, 4, n)
    law = np.clip((1 - risk if flipped else risk) * bend, 0, 1)
    return (rng.random(n) < law).astype(float), risk


AT_DEPLOYMENT = metrics.roc_auc(*outcomes(2000, 99))


def test_performance_is_fine_under_the_same_law():
    verdicts = [
        performance.check_performance(*outcomes(500, s), AT_DEPLOYMENT).verdict for s in range(200)
    ]
    assert np.mean(np.array(verdicts) == "degraded") <= 0.03
    assert set(verdicts) <= {"fine", "degraded"}


@pytest.mark.parametrize("n", [150, 500])
def test_performance_is_degraded_when_the_concept_flips(n):
    found = performance.check_performance(*outcomes(n, 1, flipped=True), AT_DEPLOYMENT)
    assert found.verdict == "degraded"
    assert found.sentence.startswith("model no longer accurate")


def test_performance_is_degraded_when_half_as_many_leave_as_expected():
    outcome, risk = outcomes(1000, 1, bend=0.5)
    found = performance.check_performance(outcome, risk, AT_DEPLOYMENT)
    assert found.verdict == "degraded"
    assert found.observed == outcome.sum()
    assert found.expected == pytest.approx(risk.sum())


def test_performance_is_judged_by_the_count_alone_where_no_auc_is_known():
    outcome, risk = outcomes(500, 1)
    assert performance.check_performance(outcome, risk, metrics.UNKNOWN).verdict == "fine"
    assert performance.check_performance(outcome, risk / 3, metrics.UNKNOWN).verdict == "degraded"


@pytest.mark.parametrize(("n", "left"), [(0, 0), (99, 50), (200, 19), (200, 181)])
def test_performance_is_not_judged_on_too_few_outcomes(n, left):
    outcome = np.r_[np.ones(left), np.zeros(n - left)]
    found = performance.check_performance(outcome, np.full(n, 0.01), AT_DEPLOYMENT)
    assert found.verdict == "insufficient"
    assert f"{n} new outcomes ({left} left) are too few to check the model" in found.sentence


def test_performance_that_is_impossible_by_the_model_is_degraded_without_a_division_by_nought():
    outcome = np.r_[np.ones(30), np.zeros(170)]
    assert (
        performance.check_performance(outcome, np.zeros(200), metrics.UNKNOWN).verdict == "degraded"
    )


def test_a_base_rate_is_not_called_an_accurate_model():
    outcome = np.r_[np.ones(79), np.zeros(221)]
    found = performance.check_performance(outcome, np.full(300, 0.3), metrics.UNKNOWN)
    assert found.sentence == (
        "about as many clients left as expected: 79 of 300 left, 90 expected; "
        "all have the same risk (base rate)"
    )


@pytest.mark.parametrize(("left", "word"), [(150, "more"), (30, "fewer")])
def test_a_base_rate_that_is_wrong_names_the_direction(left, word):
    outcome = np.r_[np.ones(left), np.zeros(300 - left)]
    result = performance.check_performance(outcome, np.full(300, 0.3), metrics.UNKNOWN)
    assert result.verdict == "degraded"
    assert result.sentence.startswith(f"{word} clients left than expected: {left} of 300")


def test_a_model_whose_order_is_chance_is_not_called_accurate():
    outcome, risk = np.tile([0.0, 1.0, 0.0], 100), np.tile([0.3, 0.3, 0.4], 100)
    risk[:3] = risk[0] + 0.01
    result = performance.check_performance(outcome, risk, metrics.UNKNOWN)
    assert result.verdict == "fine"
    assert "accurate" not in result.sentence
    assert "not proven better than chance, ROC AUC" in result.sentence
