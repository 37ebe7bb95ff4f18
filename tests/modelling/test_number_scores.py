import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from attrition.modelling import metrics, models, number_scores
from attrition.modelling.number_scores import NORMAL, STANDARD, NumberScores


def scored(values, kind=NORMAL, at=None):
    column = np.array(values, float).reshape(-1, 1)
    encoder = NumberScores(kind).fit(column)
    return encoder.transform(column if at is None else np.array(at, float).reshape(-1, 1))[:, 0]


def test_the_score_of_a_tied_lowest_value_is_that_of_its_mid_rank():
    """29 % zeros lie at the 14.5 % quantile of a normal distribution."""
    scores = scored([0] * 29 + list(range(1, 72)))
    assert scores[0] == pytest.approx(norm.ppf(0.145)) == pytest.approx(-1.06, abs=0.01)


def test_a_tied_highest_value_mirrors_a_tied_lowest_one():
    values = np.r_[np.zeros(30), np.arange(1, 71)]
    assert scored(-values) == pytest.approx(-scored(values))


@pytest.mark.parametrize("kind", [NORMAL, STANDARD])
def test_beyond_the_ends_the_score_is_that_of_the_end_and_between_it_never_falls(kind):
    values = np.random.default_rng(0).lognormal(3, 2, 500)
    scores = scored(values, kind, at=np.r_[-1e15, np.sort(values), 1e15])
    assert (np.diff(scores) >= 0).all()
    assert scores[0] == scores[1]
    assert scores[-1] == scores[-2]


def test_many_numbers_are_scored_within_the_distance_of_two_knots():
    values = np.random.default_rng(0).lognormal(3, 2, 20_000)
    exact = norm.ppf((np.argsort(np.argsort(values)) + 0.5) / len(values))
    numbers, _ = number_scores.normal_scores(values)
    assert len(numbers) <= number_scores.MAX_KNOTS
    assert scored(values) == pytest.approx(exact, abs=0.1)


def test_a_missing_number_stays_missing_and_does_not_count():
    scores = scored([1, np.nan, 2, 3])
    assert np.isnan(scores[1])
    assert scores[[0, 2, 3]] == pytest.approx(scored([1, 2, 3]))


@pytest.mark.parametrize("kind", [NORMAL, STANDARD])
def test_a_constant_number_scores_nought(kind):
    assert scored([7, 7, 7], kind).tolist() == [0, 0, 0]


def test_a_number_far_out_has_a_standard_score_of_five():
    assert scored(np.r_[np.arange(1000.0), 1e9], STANDARD)[-1] == pytest.approx(5)


# ---- the ends of a column: the model is as right there as elsewhere


def planted(kind, n=20_000):
    """A column, and the true log-odds of leaving, which are smooth in it."""
    rng = np.random.default_rng(0)
    values = {
        "uniform count": lambda: rng.integers(0, 61, n),
        "zero-inflated amount": lambda: np.where(rng.random(n) < 0.4, 0, rng.lognormal(4, 1, n)),
        "three values": lambda: rng.choice([0, 1, 2], n, p=[0.5, 0.3, 0.2]),
        "heavy tail": lambda: rng.lognormal(4, 1.5, n),
        "capped": lambda: np.minimum(rng.lognormal(3, 0.5, n), 25),
    }[kind]() * 1.0
    odds = {
        "uniform count": lambda x: 0.4 - 0.07 * x,
        "zero-inflated amount": lambda x: -0.5 - x / 100,
        "three values": lambda x: 0.3 - 0.9 * x,
        "heavy tail": lambda x: 2 - np.log(x) / 2,
        "capped": lambda x: 1.5 - x / 10,
    }[kind](values)
    return values, metrics.expit(odds), (rng.random(n) < metrics.expit(odds)).astype(float)


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("uniform count", "low"),
        ("uniform count", "high"),
        ("zero-inflated amount", "low"),
        ("three values", "low"),
        ("three values", "high"),
        ("heavy tail", "low"),
        ("heavy tail", "high"),
        ("capped", "high"),
    ],
)
def test_the_risk_does_not_jump_at_an_end_of_a_column(kind, end):
    values, true_risk, outcome = planted(kind)
    rows = pd.DataFrame({"x": values})
    part = models.build(models.LOGISTIC, ["x"], [], rows)
    risk = metrics.expit(
        models.score_part(models.fit(part, rows, outcome, np.ones(len(rows))), rows)
    )
    low, high = np.quantile(values, [0.01, 0.99])
    at_end = values <= low if end == "low" else values >= high
    assert abs((risk - true_risk)[at_end].mean()) <= 0.03


def test_four_hundred_rows_are_enough_for_the_risk_at_the_lowest_of_a_count():
    """Logins from 0 to 60 and tickets; the mean of twenty samples, scored on the true risks."""
    rng = np.random.default_rng(1)

    def sample(n):
        logins, tickets = rng.integers(0, 61, n), rng.poisson(1.2, n)
        rows = pd.DataFrame({"logins": logins, "tickets": tickets}, dtype="float64")
        return rows, metrics.expit(0.05 - 0.07 * logins + 0.35 * tickets)

    new, true_risk = sample(20_000)
    losses, errors = [], []
    for _ in range(20):
        rows, chance = sample(400)
        part = models.build(models.LOGISTIC, ["logins", "tickets"], [], rows)
        models.fit(part, rows, (rng.random(400) < chance).astype(float), np.ones(400))
        risk = metrics.expit(models.score_part(part, new))
        losses.append(np.mean(metrics.row_log_loss(true_risk, risk)))
        errors.append([(risk - true_risk)[new["logins"] == logins].mean() for logins in (0, 1)])
    at_lowest, at_next = np.mean(errors, axis=0)
    assert np.mean(losses) <= 0.445
    assert abs(at_lowest - at_next) <= 0.05
