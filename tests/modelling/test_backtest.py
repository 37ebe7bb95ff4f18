import numpy as np
import pandas as pd
import pytest

from attrition.modelling import backtest, metrics, selection
from attrition.modelling.selection import RECENT, Table

MONTHS = [f"2026-{month:02}-01" for month in range(1, 11)]


def monthly(n, *, turns=0.0, seed=0):
    """Ten months of clients, each seen once; what means leaving turns from one column to another.

    turns: by how much in the last two months, from 0, not at all, to 1, wholly.
    """
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    time = np.array(MONTHS, dtype=object)[np.arange(n) * 10 // n]
    share = np.where(time >= MONTHS[8], turns, 0.0)
    odds = 2 * (rows["a"] * (1 - share) + rows["b"] * share) - 1
    outcome = (rng.random(n) < metrics.expit(odds)).astype(float)
    return Table(rows, outcome, np.arange(n), np.full(n, RECENT), ("a", "b"), ()), time


def held(table, time):
    return backtest.backtest_model(table, selection.select_model(table), time)


# ---- split


def test_the_last_fifth_of_the_times_is_judged_and_the_tenth_before_it_left_out():
    train, judged, gap = backtest.split_by_time(MONTHS, np.arange(10))
    assert (train.tolist(), judged.tolist(), gap) == ([0, 1, 2, 3, 4, 5, 6], [8, 9], 1)


def test_the_order_of_the_rows_does_not_matter():
    train, judged, _ = backtest.split_by_time(MONTHS[::-1], np.arange(10))
    assert (train.tolist(), judged.tolist()) == ([3, 4, 5, 6, 7, 8, 9], [0, 1])


def test_three_times_are_the_least():
    assert backtest.split_by_time(["2026-01", "2026-02", "2026-02"], np.arange(3)) is None
    train, judged, _ = backtest.split_by_time(["2026-01", "2026-02", "2026-03"], np.arange(3))
    assert (train.tolist(), judged.tolist()) == ([0], [2])


def test_a_row_without_a_time_is_on_no_side():
    train, judged, _ = backtest.split_by_time(["", *MONTHS], np.arange(11))
    assert 0 not in {*train, *judged}


@pytest.mark.parametrize("seed", range(5))
def test_no_client_is_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    groups, time = rng.integers(0, 150, 1000), rng.choice(MONTHS, 1000)
    train, judged, _ = backtest.split_by_time(time, groups)
    assert len(train) > 300
    assert len(judged) > 20
    assert not set(groups[train]) & set(groups[judged])
    assert max(time[train]) < MONTHS[7]
    assert min(time[judged]) > MONTHS[7]


def test_where_every_client_is_seen_every_month_a_fifth_is_judged():
    groups, time = np.tile(np.arange(100), 10), np.repeat(MONTHS, 100)
    train, judged, _ = backtest.split_by_time(time, groups)
    assert (len(train), len(judged)) == (7 * 80, 2 * 20)


# ---- run


def test_a_truth_that_turns_makes_the_future_harder():
    found = held(*monthly(1000, turns=0.7))
    assert found.is_harder
    assert found.difference.interval.value == pytest.approx(
        found.random_roc_auc.value - found.roc_auc.value
    )
    assert found.sentence.startswith("the future is harder than the past: trained on rows until")
    assert (found.cut, found.trained_until, found.gap) == (MONTHS[8], MONTHS[6], 1)
    assert (found.trained_rows, found.rows) == (700, 200)


def test_a_truth_that_stays_does_not():
    found = held(*monthly(1000))
    assert not found.is_harder
    assert abs(found.difference.interval.value) < 0.02
    assert found.log_loss.value == pytest.approx(found.random_log_loss.value, abs=0.02)


def test_too_few_who_left_late_say_nothing():
    table, time = monthly(300)
    table.outcome[time >= MONTHS[8]] = 0
    assert "fewer than 20 who left" in held(table, time)


def test_one_time_says_nothing():
    table, time = monthly(100)
    assert held(table, [MONTHS[0]] * len(time)) == "fewer than three times of observation"
