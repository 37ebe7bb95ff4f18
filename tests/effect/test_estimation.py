import math

import numpy as np
import pytest
from scipy import stats

from attrition.effect.estimation import (
    NEWCOMBE,
    WELCH,
    Arms,
    check_draws,
    check_lost,
    check_ratio,
    count_contacted,
    estimate,
    newcombe,
)


def make_arms(n=1500, seed=0, effect=-0.08, share=0.2, **given):
    """Units with a planted effect; a fifth are controls."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(5, 5, n)
    is_control = rng.random(n) < share
    churned = rng.random(n) < risk + np.where(is_control, 0, effect)
    units = {
        "is_control": is_control,
        "churned": churned,
        "risk": risk,
        "value": rng.lognormal(8, 1, n),
        "is_reached": ~is_control & (rng.random(n) < 0.6),
        "share": np.full(n, share),
    }
    return Arms(**units | given)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_interval_of_two_shares_is_that_of_the_paper(first, second, low, high):
    counts = np.array([first, second]).T
    interval = newcombe(counts[:1], counts[1:])
    assert [round(x, 4) for x in interval[1:]] == [low, high]


def test_risk_adjusted_interval_and_z_are_those_of_a_welch_test():
    arms = make_arms()
    residual = arms.churned - arms.risk
    expected = stats.ttest_ind(
        residual[~arms.is_control], residual[arms.is_control], equal_var=False
    )
    effect = estimate(arms)
    assert effect.method == WELCH
    assert effect.difference[1:] == pytest.approx(expected.confidence_interval())
    assert effect.z == pytest.approx(stats.norm.ppf(expected.pvalue / 2))
    assert effect.control["expected"] == pytest.approx(arms.risk[arms.is_control].sum())
    assert effect.treated["churned"] == arms.churned[~arms.is_control].sum()


def test_money_is_the_difference_in_value_lost_times_the_treated_units_of_known_value():
    arms = make_arms()
    value = np.where(np.arange(1500) % 5, arms.value, np.nan)
    lost, known = value * (arms.churned - arms.risk), ~np.isnan(value)
    treated, control = lost[known & ~arms.is_control], lost[known & arms.is_control]
    expected = stats.ttest_ind(control, treated, equal_var=False).confidence_interval()
    money = estimate(arms._replace(value=value)).money
    n = money["clients"]
    assert n == len(treated)
    assert money["value"] == pytest.approx(n * (control.mean() - treated.mean()))
    assert (money["low"], money["high"]) == pytest.approx((n * expected.low, n * expected.high))


def test_ends_of_the_interval_per_client_reached_are_just_not_refuted():
    arms = make_arms()
    effect = estimate(arms)
    share_reached = arms.is_reached[~arms.is_control].mean()
    difference, *ends = effect.per_reached
    assert difference == pytest.approx(effect.difference.difference / share_reached)
    for end in ends:  # as a test of outcome - risk - end * is_reached
        rest = arms.churned - arms.risk - end * arms.is_reached
        found = stats.ttest_ind(rest[~arms.is_control], rest[arms.is_control], equal_var=False)
        assert found.pvalue == pytest.approx(0.05, abs=0.001)


def test_everybody_reached_makes_both_figures_equal():
    arms = make_arms()
    effect = estimate(arms._replace(is_reached=~arms.is_control))
    assert effect.per_reached == pytest.approx(effect.difference)


@pytest.mark.parametrize("is_reached", [False, "control", "coin"])
def test_without_a_proven_difference_in_contact_rates_there_is_no_figure_per_reached(is_reached):
    arms, rng = make_arms(), np.random.default_rng(1)
    reached = {
        False: arms.is_control & False,
        "control": arms.is_control,
        "coin": rng.random(1500) < 0.5,
    }
    assert estimate(arms._replace(is_reached=reached[is_reached])).per_reached is None


@pytest.mark.parametrize(
    ("controls", "churned", "method"),
    [
        (30, 10, WELCH),
        (29, 10, NEWCOMBE),
        (30, 9, NEWCOMBE),
        (30, 21, NEWCOMBE),
        (300, 9, NEWCOMBE),
    ],
)
def test_few_controls_or_few_of_an_outcome_are_compared_by_newcombe(controls, churned, method):
    number = np.arange(controls + 400)
    is_control = number < controls
    arms = make_arms(
        len(number),
        is_control=is_control,
        churned=np.where(is_control, number < churned, number % 2 == 0),
    )
    effect = estimate(arms)
    assert effect.method == method
    if method == NEWCOMBE:
        counts = np.array([[arms.churned[~is_control].sum(), churned]]), np.array([[400, controls]])
        assert effect.difference == newcombe(*counts)
        assert_is_mid_p(effect.z, [400, controls], *counts[0][0])
        assert effect.per_reached is effect.money is None


def assert_is_mid_p(z, n, treated, control):
    """As scipy's hypergeometric distribution has it, one-sided."""
    law = stats.hypergeom(sum(n), treated + control, n[1])
    mid_p = law.sf(control) + law.pmf(control) / 2  # at least as many controls churned
    assert stats.norm.cdf(z) == pytest.approx(mid_p)


def test_a_share_that_was_changed_while_more_left_is_no_effect():
    first = make_arms(2000, effect=0, share=0.5)
    then = make_arms(2000, seed=1, effect=0, share=0.05)
    then = then._replace(
        churned=np.random.default_rng(2).random(2000) < 0.9
    )  # 40 points above risk
    arms = Arms(*(np.concatenate(pair) for pair in zip(first, then, strict=True)))
    assert abs(estimate(arms).z) < 2
    pooled = estimate(arms._replace(share=np.full(4000, 0.275)))
    assert pooled.difference.low > 0.1


def test_equal_strata_have_the_estimate_of_one_with_few_units_too():
    half = make_arms(40)
    twice = Arms(*(np.concatenate([x, x]) for x in half))
    apart = twice._replace(share=np.repeat([0.2, 0.3], 40))
    for arms in (twice, apart):
        assert estimate(arms).method == NEWCOMBE
    assert estimate(apart).difference.difference == pytest.approx(
        estimate(twice).difference.difference
    )


@pytest.mark.parametrize("n", [0, 1, 50])
@pytest.mark.parametrize("is_control", [True, False])
def test_one_arm_alone_has_no_figure(n, is_control):
    effect = estimate(make_arms(n, is_control=np.full(n, is_control)))
    assert effect.to_dict() | {"treated": 0, "control": 0} == {
        **dict.fromkeys(("z", "effect", "per_reached", "money")),
        "treated": 0,
        "control": 0,
    }
    assert effect.control["clients"] == n * is_control


def test_values_may_be_unknown_or_huge_and_perfect_risks_no_infinite_z():
    arms = make_arms()
    assert estimate(arms._replace(value=np.full(1500, math.nan))).money is None
    money = estimate(arms._replace(value=np.full(1500, 1e200))).money
    assert money["low"] < money["value"] < money["high"] < 1e204
    assert estimate(arms._replace(value=np.zeros(1500))).money["value"] == 0
    perfect = estimate(arms._replace(risk=arms.churned.astype(float)))
    assert (perfect.z, *perfect.difference) == (0, 0, 0, 0)
    opposite = estimate(arms._replace(churned=arms.is_control ^ (np.arange(1500) % 50 == 0)))
    assert math.isfinite(opposite.z)
    assert opposite.z < -30


# ---- sample ratio, contamination


@pytest.mark.parametrize(
    ("controls", "n", "share"), [(20, 100, 0.2), (35, 100, 0.2), (375, 1500, 0.2), (0, 1, 0.5)]
)
def test_sample_ratio_is_an_exact_binomial_test(controls, n, share):
    ratio = check_ratio(np.arange(n) < controls, np.full(n, share))
    assert ratio["p"] == pytest.approx(stats.binomtest(controls, n, share).pvalue)
    assert ratio["is_valid"] == (ratio["p"] >= 0.001)
    assert (ratio["observed"], ratio["expected"]) == pytest.approx((controls / n, share))


def test_sample_ratio_with_several_shares_is_that_of_one_unit_after_the_other():
    share = np.repeat([0.2, 0.05, 0.5], [40, 60, 7])
    probability = np.ones(1)
    for p in share:
        probability = np.append(probability * (1 - p), 0) + np.append(0, probability * p)
    for controls in (3, 15, 30):
        ratio = check_ratio(np.arange(107) < controls, share)
        as_likely = probability[probability <= probability[controls] * (1 + 1e-7)]
        assert ratio["p"] == pytest.approx(as_likely.sum())
    assert check_ratio(share[:0] > 0, share[:0]) is None


@pytest.mark.parametrize(("lost_controls", "lost"), [(2, 30), (0, 60), (9, 27), (0, 0)])
def test_lost_units_are_compared_by_fishers_exact_test(lost_controls, lost):
    n = np.arange(500)
    is_lost = (n < lost_controls) | (n >= 500 - lost + lost_controls)
    table = [[lost - lost_controls, 400 - lost + lost_controls]]
    table += [[lost_controls, 100 - lost_controls]]
    checked = check_lost(n < 100, is_lost, np.full(500, 0.2))
    assert checked["p"] == pytest.approx(stats.fisher_exact(table).pvalue)
    assert checked["is_valid"] == (checked["p"] >= 0.001)
    assert checked["treated"] == pytest.approx(table[0][0] / 400)
    # more are lost at one share, and more are controls at it: no difference between the arms
    second, every_other = np.repeat([False, True], 500), np.tile(n % 2 == 0, 2)
    arms = np.concatenate([n < 100, n < 400])
    checked = check_lost(arms, second & every_other, np.where(second, 0.8, 0.2))
    assert checked["is_valid"] and checked["control"] > 2 * checked["treated"]


@pytest.mark.parametrize("is_control", [[], [True, True], [False]])
def test_lost_units_of_one_arm_are_not_compared(is_control):
    arms = np.array(is_control, bool)
    assert check_lost(arms, arms, np.full(len(arms), 0.2)) is None


def test_draws_are_valid_without_units_and_without_the_key():
    no = np.zeros(3, bool)
    for n in (0, 3):
        draws = check_draws(np.arange(n), no[:n], no[:n])
        assert draws == {"assignments": n, "recomputed": 0, "differ": 0} | {
            "first": None,
            "is_valid": True,
        }


@pytest.mark.parametrize(("contacted", "is_high"), [(10, False), (11, True), (0, False)])
def test_contacted_controls_are_named_above_a_tenth(contacted, is_high):
    assert count_contacted(np.arange(100) < contacted) == {
        "clients": contacted,
        "share": contacted / 100,
        "is_high": is_high,
    }
    assert count_contacted(np.zeros(0, bool)) is None
