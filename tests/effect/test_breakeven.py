import math

import numpy as np
import pytest

from attrition import wording
from attrition.effect.breakeven import break_even

RISK, VALUE = np.array([0.5, 0.25, 0.1, 0.9]), np.array([1000.0, 1000.0, 1000.0, math.nan])


@pytest.mark.parametrize(
    ("cost", "success", "clients", "lower", "higher"),
    [
        (50.0, 0.2, 2, 1, 2),  # at least 250 at risk; 500; 167
        (0.0, 0.2, 3, 3, 3),
        (200.0, 0.2, 0, 0, 0),
        (100.0, 0.8, 2, 2, 3),  # half as much again is capped at 1
    ],
)
def test_contacts_pay_from_cost_divided_by_success_at_risk(cost, success, clients, lower, higher):
    pays = break_even(RISK, VALUE, cost, success)
    assert pays["value_at_risk"] == pytest.approx(cost / success)
    assert (pays["clients"], pays["of"]) == (clients, 3)
    assert (pays["lower"]["clients"], pays["higher"]["clients"]) == (lower, higher)
    assert pays["higher"]["success"] == pytest.approx(min(1, 1.5 * success))


@pytest.mark.parametrize(
    ("value", "cost", "success"),
    [
        (VALUE, None, None),
        (VALUE, 50.0, None),
        (VALUE * math.nan, 50.0, 0.2),
        (VALUE[:0], 50.0, 0.2),
    ],
)
def test_without_costs_or_values_there_is_no_break_even(value, cost, success):
    assert break_even(RISK[: len(value)], value, cost, success) is None


@pytest.mark.parametrize(
    ("cost", "value", "end"),
    [
        (50.0, VALUE, "At the median value, EUR 1,000, it pays from a risk of 25\xa0%."),
        (250.0, VALUE, "At the median value, EUR 1,000, it never pays."),
        (50.0, VALUE * 0, "if it keeps 10\xa0% or 30\xa0%, for 0 or 0."),
    ],
)
def test_sentence_ends_with_the_risk_from_which_on_the_median_value_pays(cost, value, end):
    assert wording.break_even(break_even(RISK, value, cost, 0.2), "EUR").endswith(end)
