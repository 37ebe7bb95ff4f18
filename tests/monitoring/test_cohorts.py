import dataclasses

import numpy as np
import pandas as pd
import pytest

from attrition.monitoring import cohorts

NOW = "2026-11-28T04:00:00Z"
OPEN = float("nan")
DELIVERIES = [("june.csv", "2026-06-01T00:00:00Z"), ("july.csv", "2026-07-01T00:00:00Z")]


def make(outcome, *, time="", client=None, delivered=0, opened=0):
    n = len(outcome)
    client = np.arange(n) if client is None else client
    columns = {"outcome": outcome, "time": time, "client": client}
    return pd.DataFrame({**columns, "delivered": delivered, "opened": opened}, index=range(n))


def join(*rows):
    return pd.concat(rows, ignore_index=True)


def find(rows, after_days=None, parts=1):
    """Find the cohorts of rows, counted in some parts; return them, and which outcomes count."""
    arrivals = [rows[name].to_numpy("int64") for name in ("delivered", "opened")]
    outcome = rows["outcome"].to_numpy("float64")
    keys = cohorts.find_keys(rows["time"], *arrivals, after_days=after_days)
    groups = cohorts.add_groups(
        [cohorts.count_groups(keys[i::parts], outcome[i::parts]) for i in range(parts)]
    )
    places = cohorts.find_groups(groups, keys)

    def count_replaced():
        is_replaced = cohorts.find_replaced(rows["client"].to_numpy(), rows["time"], *arrivals)
        return np.bincount(places[is_replaced & np.isnan(outcome)], minlength=len(groups))

    options = {"now": NOW, "after_days": after_days, "count_replaced": count_replaced}
    result = cohorts.find_cohorts(groups, DELIVERIES, **options)
    mature = result.mature[places] & ~np.isnan(outcome)
    return dataclasses.replace(result, number=result.number[places], mature=mature)


def test_first_outcomes_of_an_open_cohort_are_not_mature():
    result = find(make([1] * 15 + [0] * 3 + [OPEN] * 282, time="2026-07-01"))
    [cohort] = result.cohorts
    assert (cohort.name, cohort.rows, cohort.known, cohort.left) == ("2026-07", 300, 18, 15)
    assert not cohort.mature and not result.mature.any()
    assert (
        cohort.sentence
        == "2026-07: 18 of 300 outcomes known, 15 of them left; judged when complete"
    )


@pytest.mark.parametrize(("known", "mature"), [(89, False), (90, True), (100, True)])
def test_cohort_is_mature_when_nine_in_ten_outcomes_are_known(known, mature):
    result = find(make([0] * known + [OPEN] * (100 - known)))
    assert result.cohorts[0].mature is mature
    assert result.mature.sum() == known * mature


def test_cohorts_without_a_time_are_those_of_a_look():
    rows = join(make([0] * 10, opened=0), make([OPEN] * 10, opened=1))
    result = find(rows)
    assert [cohort.name for cohort in result.cohorts] == [f"delivered {at}" for _, at in DELIVERIES]
    assert [cohort.mature for cohort in result.cohorts] == [True, False]


def test_rows_delivered_with_outcomes_are_a_cohort_of_their_source():
    rows = join(
        make([1, 0], time="2026-07-01", delivered=1, opened=-1),
        make([OPEN] * 8, time="2026-07-01", opened=0),
    )
    result = find(rows)
    assert [(c.name, c.at_once, c.mature) for c in result.cohorts] == [
        ("july.csv", True, True),
        ("2026-07", False, False),
    ]
    assert result.number.tolist() == [0, 0] + [1] * 8


def test_replaced_rows_are_not_waited_for():
    """30 of 100 clients were observed again, and their first rows will never get an outcome."""
    first = make([0] * 70 + [OPEN] * 30, time="2026-06-01")
    again = make([OPEN] * 30, time="2026-07-01", client=np.arange(70, 100))
    june, july = find(join(first, again)).cohorts
    assert june.mature
    assert not july.mature


def test_cohort_of_leavers_whose_others_were_replaced_is_not_mature():
    """All 90 who stayed were observed again without an outcome: those known are all leavers."""
    first = make([1] * 10 + [OPEN] * 90, time="2026-06-01")
    again = make([OPEN] * 90, time="2026-07-01", client=np.arange(10, 100))
    june, _ = find(join(first, again)).cohorts
    assert not june.mature


def test_row_is_mature_after_the_given_days():
    time = ["2026-10-01"] * 60 + ["2026-11-01"] * 40
    result = find(make([0] * 100, time=time), after_days=30)
    october, november = result.cohorts
    assert (october.mature, november.mature) == (True, False)
    assert result.mature.tolist() == [True] * 60 + [False] * 40
    assert result.next_at == november.matures_at == "2026-12-01T00:00:00Z"
    assert november.sentence.endswith("judged on 2026-12-01")


def test_days_count_for_rows_delivered_with_their_outcome_too():
    time = ["2026-10-01", "2026-11-20"]
    result = find(make([0, 1], time=time, opened=-1), after_days=30)
    assert result.mature.tolist() == [True, False]


def test_no_rows_are_no_cohorts():
    result = find(make([]))
    assert result.cohorts == () and len(result.mature) == 0


@pytest.mark.parametrize("after_days", [None, 30])
def test_order_and_parts_of_the_rows_change_no_cohort(after_days):
    rows = join(
        make([0] * 10, time="2026-07-01"),
        make([OPEN] * 10, time="2026-06-01"),
        make([1] * 5, time="2026-06-02", delivered=1),
        make([1] * 5, opened=-1),
    )
    result, other = find(rows, after_days), find(rows[::-1], after_days, parts=3)
    assert [cohort.name for cohort in result.cohorts] == ["june.csv", "2026-06", "2026-07"]
    assert other.cohorts == result.cohorts
    assert other.mature[::-1].tolist() == result.mature.tolist()
    pd.testing.assert_frame_equal(other.groups, result.groups)


def test_replaced_rows_are_sought_only_where_they_decide():
    """With fewer than half of the outcomes, or nine in ten, no row is mature, or all are."""
    sought = []

    def count_replaced():
        sought.append(known)
        return np.zeros(1, int)

    for known in (4, 6, 9):
        outcome = np.array([0.0] * known + [OPEN] * (10 - known))
        keys = cohorts.find_keys(None, np.zeros(10, int), np.zeros(10, int))
        groups = cohorts.count_groups(keys, outcome)
        cohorts.find_cohorts(groups, DELIVERIES, now=NOW, count_replaced=count_replaced)
    assert sought == [6]


def test_rows_without_days_are_grouped_by_month():
    days = [f"2026-06-{day:02}T04:00:00Z" for day in range(1, 31)]
    keys = cohorts.find_keys(pd.Series(days), np.zeros(30, int), np.zeros(30, int))
    groups = cohorts.count_groups(keys, np.zeros(30))
    assert groups.to_dict("list") == {
        **{"time": ["2026-06"], "delivered": [0], "opened": [0]},
        **{"rows": [30], "known": [30], "left": [0]},
    }
