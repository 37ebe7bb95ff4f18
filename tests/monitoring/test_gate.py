import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from attrition.modelling import calibration, metrics
from attrition.modelling.metrics import Interval
from attrition.monitoring import gate
from attrition.monitoring.gate import Attempt


def scores(n, aucs, seed, *, correlation=0.9, rate=0.2):
    """Outcomes, and two correlated risks of given AUCs, both calibrated."""
    rng = np.random.default_rng(seed)
    outcome = (rng.random(n) < rate).astype(float)
    mix = [[1, correlation], [correlation, 1]]
    noise = rng.multivariate_normal([0, 0], mix, n)
    risks = []
    for i, auc in enumerate(aucs):
        apart = np.sqrt(2) * stats.norm.ppf(auc)
        log_odds = apart * (noise[:, i] + apart * outcome - apart / 2) + np.log(rate / (1 - rate))
        risks.append(1 / (1 + np.exp(-log_odds)))
    return outcome, risks[0], risks[1]


def decide(outcome, candidate, champion, **facts):
    facts = {"first": False, "identical": False, "degraded": False} | facts
    return gate.decide_promotion(
        gate.compare_risks("unseen", outcome, candidate, champion), **facts
    )


def test_the_first_model_is_deployed():
    decision = gate.decide_promotion(None, first=True, identical=False, degraded=False)
    assert (decision.promoted, decision.rule) == (True, "first_model")


def test_the_same_model_is_refused_as_such():
    decision = decide(*scores(1000, (0.9, 0.7), 0), identical=True)
    assert (decision.promoted, decision.rule) == (False, "same_model")


def test_a_model_held_against_itself_is_refused_as_such():
    outcome, risk, _ = scores(1000, (0.8, 0.8), 0)
    assert decide(outcome, risk, risk).rule == "same_model"


def test_a_list_of_fewer_who_leave_is_worse_whatever_the_rest_says():
    """Better on the whole, but the forty that are called are those who stay."""
    outcome, candidate, champion = scores(2000, (0.86, 0.80), 0)
    spoiled = candidate.copy()
    spoiled[np.flatnonzero(outcome == 0)[:40]] = np.nextafter(candidate.max(), 1)
    compared = gate.compare_risks("unseen", outcome, spoiled, champion, 40)
    assert compared.precision_difference.high < 0
    alone = replace(compared, log_loss_difference=Interval(0.0), brier_difference=Interval(0.0))
    better = replace(alone, precision_difference=Interval(0.0))
    facts = {"first": False, "identical": False, "degraded": False}
    assert gate.decide_promotion(better, **facts).promoted
    assert not gate.decide_promotion(alone, **facts).promoted


def test_each_candidate_after_the_first_has_to_prove_more():
    outcome, candidate, champion = scores(300, (0.84, 0.80), 2)
    compared = replace(gate.compare_risks("unseen", outcome, candidate, champion), p_value=0.008)
    facts = {"first": False, "identical": False, "degraded": False}
    assert gate.decide_promotion(compared, **facts, looks=1).promoted
    assert not gate.decide_promotion(compared, **facts, looks=3).promoted
    assert sum(gate.alpha(look) for look in range(1, 31)) < 0.11


def test_no_comparison_proves_nothing():
    decision = gate.decide_promotion(None, first=False, identical=False, degraded=True)
    assert decision.rule == "too_few_rows"
    assert "0 unseen rows with 0 who left" in decision.reason


@pytest.mark.parametrize(("n", "left"), [(99, 40), (500, 19), (500, 481)])
@pytest.mark.parametrize("degraded", [False, True])
def test_few_rows_prove_nothing_however_good_they_look(n, left, degraded):
    outcome = np.r_[np.ones(left), np.zeros(n - left)]
    decision = decide(outcome, outcome * 0.8 + 0.1, 0.9 - outcome * 0.8, degraded=degraded)
    assert (decision.promoted, decision.rule) == (False, "too_few_rows")


def test_noise_is_not_promoted():
    drawn = [decide(*scores(300, (0.8, 0.8), seed)) for seed in range(200)]
    assert np.mean([decision.promoted for decision in drawn]) <= 0.03


def test_a_worse_candidate_is_never_promoted():
    drawn = [decide(*scores(300, (0.78, 0.8), seed)) for seed in range(200)]
    assert not any(decision.promoted for decision in drawn)


def test_a_better_candidate_is_promoted():
    drawn = [decide(*scores(1000, (0.84, 0.80), seed)) for seed in range(200)]
    assert np.mean([decision.promoted for decision in drawn]) >= 0.9
    assert {d.rule for d in drawn} <= {"proven_better", "not_proven_better"}


def test_a_proven_gain_that_is_too_small_to_matter_is_refused():
    outcome, candidate, champion = scores(300_000, (0.803, 0.80), 0)
    assert gate.compare_risks("unseen", outcome, candidate, champion).p_value < gate.ALPHA
    assert decide(outcome, candidate, champion).rule == "not_proven_better"


def test_a_better_ranking_with_worse_risks_is_refused():
    outcome, candidate, champion = scores(2000, (0.86, 0.80), 0)
    assert decide(outcome, candidate, champion).promoted
    assert not decide(outcome, candidate / 20, champion).promoted


def test_a_degraded_champion_gives_way_only_to_a_gain():
    outcome, alike, champion = scores(2000, (0.80, 0.80), 4, correlation=0.99)
    assert decide(outcome, alike, champion, degraded=True).rule == "degraded_not_better"
    assert decide(*scores(1000, (0.84, 0.80), 1), degraded=True).rule == "champion_degraded"


def test_a_degraded_champion_gives_way_to_better_risks_of_the_same_ranking():
    outcome, candidate, _ = scores(1000, (0.8, 0.8), 1)
    assert decide(outcome, candidate, candidate / 4, degraded=True).rule == "champion_degraded"


@pytest.mark.parametrize(("moved", "rule"), [(True, "input_moved"), (False, "not_proven_better")])
def test_moved_input_makes_better_risks_of_the_same_ranking_enough(moved, rule):
    outcome, candidate, _ = scores(2000, (0.80, 0.80), 1)
    assert decide(outcome, candidate, candidate / 4, moved=moved).rule == rule


def test_moved_input_alone_lets_no_candidate_in():
    looks = [decide(*scores(1000, (0.80, 0.80), seed), moved=True) for seed in range(200)]
    assert np.mean([decision.promoted for decision in looks]) <= 0.04


def test_a_degraded_champion_stays_when_the_candidate_is_worse():
    decision = decide(*scores(2000, (0.74, 0.80), 1), degraded=True)
    assert (decision.promoted, decision.rule) == (False, "ranks_worse")


TRIGGERS = ({}, {"degraded": True}, {"moved": True})


@pytest.mark.parametrize("facts", TRIGGERS)
def test_a_candidate_that_ranks_todays_clients_worse_is_refused(facts):
    """Better on nine unseen rows in ten, worse on those that are like today's clients."""
    of_old, of_today = scores(2700, (0.88, 0.70), 0), scores(300, (0.70, 0.88), 1)
    outcome, candidate, champion = map(np.concatenate, zip(of_old, of_today, strict=True))
    weights = np.r_[np.full(2700, 0.1), np.full(300, 9.1)]
    facts = {"first": False, "identical": False, "degraded": False} | facts
    plain = gate.compare_risks("unseen", outcome, candidate, champion)
    assert gate.decide_promotion(plain, **facts).promoted
    todays = gate.compare_risks("unseen", outcome, candidate, champion, weights=weights)
    assert todays.log_loss_difference.high < 0
    decision = gate.decide_promotion(todays, **facts)
    assert (decision.promoted, decision.rule) == (False, "ranks_worse")
    assert "clients like today's" in decision.reason


def test_too_few_rows_like_todays_clients_count_as_all_others():
    outcome, candidate, champion = scores(3000, (0.84, 0.80), 0)
    weights = np.r_[np.full(2960, 0.01), np.full(40, 74.0)]
    compared = gate.compare_risks("unseen", outcome, candidate, champion, weights=weights)
    assert compared.weighted_roc_auc_difference == compared.roc_auc_difference


@pytest.mark.parametrize("facts", TRIGGERS)
def test_a_base_rate_never_replaces_a_model_that_ranks(facts):
    """The level is three times as high as the champion's, so that its log loss is much worse."""
    outcome, risk, _ = scores(1000, (0.70, 0.70), 0, rate=0.6)
    champion = risk / 6
    base_rate = np.full(len(outcome), outcome.mean())
    compared = gate.compare_risks("unseen", outcome, base_rate, champion)
    assert compared.log_loss_difference.high < 0
    assert decide(outcome, base_rate, champion, **facts).rule == "base_rate"


def test_a_base_rate_replaces_a_model_that_ranks_in_reverse():
    outcome, risk, _ = scores(1000, (0.70, 0.70), 0)
    decision = decide(outcome, np.full(1000, 0.2), 1 - risk, degraded=True)
    assert (decision.promoted, decision.rule) == (True, "champion_degraded")


@pytest.mark.parametrize("facts", TRIGGERS[1:])
def test_a_better_log_loss_has_to_prove_more_with_each_look(facts):
    outcome, candidate, champion = scores(1000, (0.80, 0.80), 0)
    compared = gate.compare_risks("unseen", outcome, candidate, champion)
    error, nothing = 0.01, Interval(0.0)
    gain = Interval(-2.6 * error, -2.6 * error - 1.96 * error, -2.6 * error + 1.96 * error)
    compared = replace(compared, log_loss_difference=gain, brier_difference=nothing, p_value=0.5)
    facts = {"first": False, "identical": False, "degraded": False} | facts
    assert gate.decide_promotion(compared, **facts, looks=1).promoted
    assert not gate.decide_promotion(compared, **facts, looks=30).promoted


# ---- the champion with another intercept and slope

FACTS = {"first": False, "identical": False, "degraded": True}
FOLDS = [(np.flatnonzero(np.arange(400) % 5 != i), np.arange(i, 400, 5)) for i in range(5)]
PROVEN, UNCLEAR = Interval(-0.02, -0.03, -0.01), Interval(-0.001, -0.01, 0.008)


def draw_moved(n, rng, level):
    """Log-odds of the champion, and outcomes whose true log-odds are `level` higher."""
    log_odds = rng.normal(-1.6, 1, n)
    return log_odds, (rng.random(n) < metrics.expit(log_odds + level)).astype(float)


def recalibrate(n, *, level, move, gain=PROVEN, looks=1):
    log_odds, outcome = draw_moved(n, np.random.default_rng(0), level)
    risks = metrics.expit(log_odds + move), metrics.expit(log_odds)
    compared = gate.compare_risks("unseen", outcome, *risks)
    return gate.decide_promotion(compared, **FACTS, recalibration=gain, looks=looks)


def test_a_level_that_is_proven_right_is_deployed_without_a_gain_in_rank():
    decision = recalibrate(500, level=0.7, move=0.6)
    assert (decision.promoted, decision.rule) == (True, "recalibrated")
    assert "on 500 unseen rows" in decision.reason


def test_a_level_that_unseen_rows_prove_wrong_is_refused():
    for level, move in ((0.0, 0.3), (0.7, -0.4)):
        decision = recalibrate(3000, level=level, move=move)
        assert (decision.promoted, decision.rule) == (False, "recalibration_not_better")


def test_with_few_unseen_rows_cross_validation_decides_about_a_level():
    assert recalibrate(50, level=0.7, move=0.6).promoted
    for gain in (UNCLEAR, Interval(None)):
        decision = recalibrate(50, level=0.7, move=0.6, gain=gain)
        assert decision.rule == "recalibration_not_better"


def test_a_level_has_to_prove_more_with_each_look():
    gain = Interval(-0.0110, -0.0110 - 1.96 * 0.01, -0.0110 + 1.96 * 0.01)
    assert recalibrate(500, level=0.7, move=0.6, gain=gain).promoted
    assert not recalibrate(500, level=0.7, move=0.6, gain=gain, looks=30).promoted


def test_a_better_log_loss_with_a_level_proven_worse_is_refused():
    compared = replace(
        gate.compare_risks("unseen", *scores(1000, (0.80, 0.80), 0)),
        log_loss_difference=PROVEN,
        level_difference=Interval(0.002, 0.001, 0.003),
    )
    assert not gate.decide_promotion(compared, **FACTS, recalibration=PROVEN).promoted
    nearer = replace(compared, level_difference=Interval(-0.002, -0.003, -0.001))
    assert gate.decide_promotion(nearer, **FACTS, recalibration=PROVEN).promoted


@pytest.mark.parametrize(("level", "least", "most"), [(0.0, 0, 0.05), (0.7, 0.95, 1)])
def test_a_level_is_moved_only_if_it_has_changed(level, least, most):
    """400 rows to fit the intercept, 100 unseen ones."""
    promoted = []
    for seed in range(100):
        log_odds, outcome = draw_moved(400, np.random.default_rng(seed), level)
        crossed = calibration.cross_calibrate(calibration.fit_intercept, log_odds, outcome, FOLDS)
        losses = [
            metrics.row_log_loss(outcome, metrics.expit(each)) for each in (crossed, log_odds)
        ]
        line = calibration.fit_intercept(log_odds, outcome)
        unseen, left = draw_moved(100, np.random.default_rng([seed, 1]), level)
        risks = metrics.expit(line.apply(unseen)), metrics.expit(unseen)
        compared = gate.compare_risks("unseen", left, *risks)
        gain = metrics.mean(losses[0] - losses[1])
        promoted.append(gate.decide_promotion(compared, **FACTS, recalibration=gain).promoted)
    assert least <= np.mean(promoted) <= most


# ---- records


def test_a_comparison_is_read_as_it_was_written():
    compared = gate.compare_risks("unseen", *scores(300, (0.84, 0.80), 2))
    assert gate.Comparison.from_dict(json.loads(json.dumps(compared.to_dict()))) == compared


def test_the_reason_tells_the_difference_with_its_interval():
    outcome, candidate, champion = scores(1000, (0.84, 0.80), 0)
    compared = gate.compare_risks("unseen", outcome, candidate, champion)
    low = compared.roc_auc_difference.low
    reason = gate.decide_promotion(compared, first=False, identical=False, degraded=False).reason
    assert f"[{low:+.3f}," in reason
    assert "on 1,000 unseen rows" in reason


def test_the_difference_is_candidate_minus_champion():
    compared = gate.compare_risks("unseen", *scores(2000, (0.86, 0.70), 0))
    assert compared.roc_auc_difference.value == pytest.approx(0.16, abs=0.03)
    assert compared.log_loss_difference.value < 0
    assert compared.brier_difference.value < 0


def test_comparison_of_one_class_is_told_as_unknown():
    compared = gate.compare_risks("unseen", np.zeros(5), np.full(5, 0.1), np.full(5, 0.2))
    assert compared.to_dict()["roc_auc_difference"]["value"] is None
    assert compared.p_value is None


# ---- is there reason to train?


def triggers(**facts):
    usual = {"has_model": True, "degraded": False, "input_moved": False}
    return gate.find_triggers(**(usual | {"labelled": 100, "champion_labelled": 100} | facts))


def test_every_reason_to_train_is_named():
    assert triggers() == ()
    assert triggers(has_model=False, degraded=True) == ("no_model",)
    assert triggers(degraded=True, input_moved=True) == ("degraded", "input_moved")
    assert triggers(labelled=199) == ()
    assert triggers(labelled=200) == ("more_rows",)


def test_without_a_trigger_nothing_is_trained():
    is_worth_it, why = gate.is_worth_training((), None, 1000, 0)
    assert not is_worth_it
    assert why.startswith("no retraining needed")
    assert "outcomes" not in why


def test_outcomes_that_are_not_trained_on_are_said():
    is_worth_it, why = gate.is_worth_training((), None, 1000, 20)
    assert not is_worth_it
    assert why.endswith("20 new outcomes not used for training yet")


def test_without_a_model_or_an_earlier_training_it_is_worth_trying():
    last = Attempt(100, 100, ("no_model",))
    assert gate.is_worth_training(("no_model",), last, 100, 100)[0]
    assert gate.is_worth_training(("input_moved",), None, 100, 0)[0]


def test_a_model_found_wrong_since_the_last_training_is_worth_one_training():
    before = Attempt(1000, 1000, ("no_model",))
    assert gate.is_worth_training(("degraded",), before, 1000, 150)[0]
    asked = Attempt(1000, 150, ("degraded",))
    assert not gate.is_worth_training(("degraded",), asked, 1000, 150)[0]


def test_a_degraded_model_waits_for_a_tenth_more_rows_from_after_the_change():
    asked = Attempt(1000, 150, ("degraded",))
    assert not gate.is_worth_training(("degraded",), asked, 5000, 160)[0]
    assert gate.is_worth_training(("degraded",), asked, 1015, 166)[0]


def test_twice_the_rows_of_the_last_training_are_worth_it():
    asked = Attempt(1000, 1000, ("more_rows",))
    assert gate.is_worth_training(("more_rows",), asked, 2000, 0)[0]


def test_moved_input_is_not_asked_again_without_new_outcomes():
    asked = Attempt(1000, 1000, ("input_moved",))
    assert not gate.is_worth_training(("input_moved",), asked, 1000, 0)[0]
    assert not gate.is_worth_training(("input_moved",), asked, 1050, 50)[0]
    assert gate.is_worth_training(("input_moved",), asked, 1101, 101)[0]


@pytest.mark.parametrize("before", [0, 1, 7, 20, 30, 100, 995])
def test_the_refusal_tells_exactly_how_many_outcomes_are_needed(before):
    asked = Attempt(before, before, ("input_moved",))
    worth, reason = gate.is_worth_training(("input_moved",), asked, before, 0)
    needed = next(
        i for i in range(1, 1000) if gate.is_worth_training(asked.triggers, asked, before + i, 0)[0]
    )
    assert not worth
    assert f"at least {needed:,} more outcomes are needed" in reason
