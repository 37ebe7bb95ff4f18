from datetime import date

import numpy as np
import pytest

from attrition.effect.list_quality import describe_list_quality, measure_kept
from attrition.modelling import metrics

TODAY = date(2026, 5, 31)


def describe(assigned, churned, left=None, first=None):
    days = np.array(assigned, "datetime64[D]")
    return describe_list_quality(
        TODAY,
        assigned_on=days,
        churned=np.array(churned, bool),
        risk=np.full(len(days), 0.25),
        first_on=days if first is None else np.array(first, "datetime64[D]"),
        left_on=np.array(left or ["NaT"] * len(days), "datetime64[D]"),
    )


def test_only_clients_assigned_three_months_ago_are_counted():
    quality = describe(["2026-02-28", "2026-02-28", "2026-03-01", "2026-01-01"], [1, 0, 1, 1])
    share = metrics.wilson(2, 3)
    assert quality == {
        "clients": 3,
        "churned": 2,
        "expected": 0.75,
        "low": share.low,
        "high": share.high,
        "lead_days": None,
        "lead_clients": 0,
    }
    assert describe(["2026-03-01"], [1]) is describe([], []) is None


def test_lead_time_starts_when_the_client_was_first_due_for_the_list():
    quality = describe(
        ["2026-02-01"] * 5,
        [1, 1, 1, 1, 0],
        left=["2026-02-11", "2026-03-03", "NaT", "2025-12-31", "2026-03-03"],
        first=["2026-02-01", "2026-01-02", "2026-02-01", "2026-01-01", "2026-02-01"],
    )
    assert quality["lead_clients"] == 2  # not the one who had left before
    assert quality["lead_days"] == pytest.approx(35)


UNKNOWN = [np.nan] * 5


@pytest.mark.parametrize(
    ("held", "value", "order", "kept"),
    [
        ([], [9, 1, 10, 10, 10], "value_at_risk", 1),
        ([0], [9, 1, 10, 10, 10], "value_at_risk", 12.6 / 20.1),
        ([4], [9, 1, 10, 10, 10], "value_at_risk", 17.7 / 20.1),
        ([0], [9, 1, 10, 10, 10], "risk", 12.6 / 17.7),
        ([1], UNKNOWN, "value_at_risk", 2.1 / 2.4),
        ([1], [np.nan, 10, 10, 10, np.nan], "value_at_risk", 9 / 15),
        ([0, 1, 2, 3, 4], UNKNOWN, "risk", None),
    ],
)
def test_list_keeps_the_worth_of_the_treated_of_that_of_the_first_as_many(held, value, order, kept):
    risk = np.array([0.9, 0.6, 0.5, 0.4, 0.3])
    is_control = np.isin(np.arange(5), held)
    measured = measure_kept(is_control, risk, np.array(value, float), order)
    assert measured == (kept if kept is None else pytest.approx(kept))
    nothing = risk[:0]
    assert measure_kept(nothing > 0, nothing, nothing, order) is None
