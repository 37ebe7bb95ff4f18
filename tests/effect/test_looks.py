from datetime import date

import numpy as np
import pytest

from attrition.effect.estimation import Arms, Range, estimate
from attrition.effect.looks import (
    BOUNDS,
    conclude,
    decide,
    describe_look,
    describe_next,
    schedule,
)

FIRST = date(2026, 1, 31)


@pytest.mark.parametrize(
    ("today", "due", "upcoming", "since"),
    [
        ("2026-01-31", None, (1, "2026-04-30"), "2026-01-31"),
        ("2026-04-29", None, (1, "2026-04-30"), "2026-01-31"),
        ("2026-04-30", (1, "2026-04-30"), (2, "2026-07-31"), "2026-01-31"),
        ("2027-01-30", (3, "2026-10-31"), (4, "2027-01-31"), "2026-01-31"),
        ("2027-01-31", (4, "2027-01-31"), (1, "2027-04-30"), "2027-01-31"),
        ("2029-12-31", (3, "2029-10-31"), (4, "2030-01-31"), "2029-01-31"),
    ],
)
def test_looks_are_three_months_apart_and_each_year_has_four_of_its_own(
    today, due, upcoming, since
):
    last, following = schedule(FIRST, date.fromisoformat(today))
    assert (last and (last.number, last.on.isoformat())) == due
    assert (following.number, following.on.isoformat()) == upcoming
    assert following.since.isoformat() == since
    assert following.bound == BOUNDS[following.number - 1]


@pytest.mark.parametrize(
    ("z", "today", "verdict"),
    [
        (-3.94, "2026-05-01", "helps"),
        (-3.92, "2026-05-01", "open"),
        (2.79, "2026-08-01", "harms"),
        (-2.05, "2027-02-01", "helps"),
        (-2.03, "2027-02-01", "open"),
        (None, "2027-02-01", "open"),
        (np.nan, "2027-02-01", "open"),
    ],
)
def test_verdict_needs_the_bound_of_its_look_and_a_valid_sample_ratio(z, today, verdict):
    nothing = estimate(Arms(*(np.zeros(0, t) for t in (bool, bool, float, float, bool, float))))
    effect = nothing._replace(z=z, difference=Range(0.0, 0.0, 0.0))
    look, _ = schedule(FIRST, date.fromisoformat(today))
    assert decide(effect, look) == verdict
    assert decide(effect, look, is_valid=False) == "void"
    record = describe_look(look, effect, verdict, "2026-05-01T06:00:00Z", {"reached": 1})
    assert (record["number"], record["verdict"]) == (look.number, verdict) and record["z"] is z
    assert record["reached"] == 1


@pytest.mark.parametrize(
    ("verdicts", "conclusion"),
    [
        ([], "open"),
        (["open"] * 3, "open"),
        (["open"] * 4, "no_effect"),
        (["open"] * 5, "no_effect"),
        (["open", "helps", "open", "open"], "helps"),
        (["open"] * 7 + ["harms"], "harms"),
        (["helps"] + ["open"] * 7, "helps"),
        (["helps"] + ["open"] * 6 + ["harms"], "harms"),
        (["open"] * 3 + ["void"], "void"),
        (["open"] * 3 + ["void", "open"], "open"),
        (["void", "open"], "open"),
        (["open", "helps", "void"], "void"),
        (["open"] * 3 + ["helps", "void"], "helps"),
        (["open"] * 4 + ["void"], "no_effect"),
        (["open"] * 3 + ["helps", "harms", "void"], "helps"),
        (["open"] * 3 + ["void"] + ["open"] * 4, "no_effect"),
    ],
)
def test_latest_proven_effect_is_the_conclusion(verdicts, conclusion):
    assert conclude(enumerate(verdicts, 1)) == conclusion


def plan_next(n, today, **given):
    _, upcoming = schedule(date(2026, 1, 1), date.fromisoformat(today))
    units = {"risk": np.full(n, 0.5), "share": np.full(n, 0.2), "n_known": n}
    return describe_next(upcoming, date.fromisoformat(today), **units | given)


def test_next_look_expects_as_many_outcomes_as_units_were_assigned():
    assert plan_next(182, "2026-07-02")["more_outcomes"] == 91  # 92 days hence, 182 in 182 days
    assert plan_next(91, "2026-01-01")["more_outcomes"] == 90  # all of the first list on one day


def test_smallest_effect_of_the_next_look_is_found_in_four_of_five_trials():
    plan = plan_next(1000, "2026-10-02", n_known=670)
    n = 670 + plan["more_outcomes"]
    error = np.sqrt(0.25 * (1 / (0.2 * n) + 1 / (0.8 * n)))
    z = np.random.default_rng(0).normal(plan["smallest_effect"] / error, 1, 100_000)
    assert (z > BOUNDS[3]).mean() == pytest.approx(0.8, abs=0.005)


def test_without_units_the_next_look_shows_no_effect_of_any_size():
    plan = plan_next(0, "2026-01-01")
    assert (plan["more_outcomes"], plan["smallest_effect"], plan["on"]) == (0, None, "2026-04-01")
    assert plan_next(10, "2026-01-01", share=np.zeros(10))["smallest_effect"] is None
