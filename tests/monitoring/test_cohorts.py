import numpy as np
import pandas as pd
import pytest

from attrition.monitoring.cohorts import COLUMNS, find_cohorts

NOW = "2026-11-28T04:00:00Z"
OPEN = float("nan")
DELIVERIES = [("june.csv", "2026-06-01T00:00:00Z"), ("july.csv", "2026-07-01T00:00:00Z")]


def make(outcome, *, time="", client=None, delivered=0, opened=0):
    n = len(outcome)
    client = np.arange(n) if client is None else client
    columns = (outcome, time, client, delivered, opened)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=range(n))


def join(*rows):
    return pd.concat(rows, ignore_index=True)


def find(rows, **options):
    return find_cohorts(rows, DELIVERIES, now=NOW, **options)


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


def test_order_of_the_rows_changes_no_cohort():
    rows = join(
        make([0] * 10, time="2026-07-01"),
        make([OPEN] * 10, time="2026-06-01"),
        make([1] * 5, opened=-1),
    )
    result, other = find(rows), find(rows[::-1])
    assert [cohort.name for cohort in result.cohorts] == ["june.csv", "2026-06", "2026-07"]
    assert other.cohorts == result.cohorts
    assert other.mature[::-1].tolist() == result.mature.tolist()
