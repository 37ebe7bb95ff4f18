"""Where clients stand after what was entered about them, and that nobody who rests is ever listed."""

import math
from datetime import date

import pytest
from hypothesis import given, settings

from attrition.contacts import standings
from attrition.contacts.log import Entry
from attrition.contacts.standings import NEVER, Rest, Rules
from tests.contacts.rules import MONDAY, RULES, cases, check_list, check_replaced, day

CASES = 300


def contact(number, outcome="reached", follow_up=None, **more):
    when = "" if follow_up is None else day(follow_up)
    return Entry(
        "Acme", "contact", "Ann", outcome, date=when, at=f"{day(number)}T09:00:00Z", **more
    )


def other(number, kind, until, risk=0.5, **more):
    at = f"{day(number)}T09:00:00Z"
    return Entry("Acme", kind, "Ann", date=day(until), risk=risk, at=at, note="why", **more)


def stand(today, *entries):
    numbered = [entry._replace(id=entry.id or i) for i, entry in enumerate(entries, 1)]
    return standings.standing(numbered, day(today), RULES)


def rests_until(today, *entries, risk=0.5):
    """Return the number of the first day on which the client may be listed; None if it is today."""
    rest = stand(today, *entries).rest(risk)
    return rest and (date.fromisoformat(rest.until) - MONDAY).days


# ---- contacts


@pytest.mark.parametrize(
    ("outcome", "days"),
    [
        *(("reached", 30), ("will_stay", 30), ("will_leave", 30)),
        *(("not_reached", 3), ("wrong_person", 3)),
    ],
)
def test_a_client_rests_after_a_contact_as_long_as_its_outcome_asks_for(outcome, days):
    assert rests_until(days - 1, contact(0, outcome)) == days
    assert rests_until(days, contact(0, outcome)) is None


def test_the_day_of_a_contact_is_that_of_the_managers():
    rules = Rules(30, 3, lambda at: "2026-12-01")
    standing = standings.standing([contact(0, id=1)], day(28), rules)
    assert (standing.contacted_on, standing.rests[0].until) == ("2026-12-01", "2026-12-31")


def test_a_follow_up_takes_the_place_of_the_cool_downs_before_it():
    entries = contact(0), contact(1, "will_stay", 9)
    assert rests_until(8, *entries) == 9
    assert rests_until(9, *entries) is None
    assert rests_until(40, contact(0, "will_stay", 120)) == 120


def test_a_follow_up_is_due_on_its_day_and_stays_due_after_it():
    for today in (5, 9, 12):
        assert stand(today, contact(0, follow_up=9)).due_on == day(9)


def test_a_follow_up_stays_open_until_the_client_is_reached():
    missed = contact(0, follow_up=9), contact(9, "not_reached")
    assert (stand(12, *missed).due_on, rests_until(11, *missed)) == (day(9), 12)
    reached = (*missed, contact(12))
    assert (stand(20, *reached).due_on, rests_until(20, *reached)) == ("", 42)


def test_a_client_who_must_not_be_contacted_rests_for_ever():
    entries = contact(0, follow_up=9), contact(1, "do_not_contact"), contact(2, follow_up=3)
    standing = stand(4_000, *entries)
    assert standing.rest(1.0) == Rest(NEVER, "do_not_contact")
    assert standing.due_on == ""


# ---- not before, override, reassignment


def test_a_client_is_not_listed_before_a_date_and_is_on_it():
    assert rests_until(9, other(0, "not_before", 10)) == 10
    assert rests_until(10, other(0, "not_before", 10)) is None


def test_the_latest_date_counts_and_the_longest_rest():
    later = other(0, "not_before", 20), other(1, "not_before", 10)
    assert rests_until(5, *later) == 10
    assert rests_until(5, contact(0), other(1, "not_before", 10)) == 30
    assert rests_until(5, contact(0, follow_up=7), other(1, "not_before", 10)) == 10


def test_a_follow_up_that_is_postponed_is_due_later():
    assert stand(5, contact(0, follow_up=7), other(1, "not_before", 10)).due_on == day(10)
    assert stand(5, other(0, "not_before", 10), contact(1, follow_up=7)).due_on == day(7)


@pytest.mark.parametrize("kind", ["not_before", "override"])
def test_a_risk_that_rose_by_ten_points_ends_a_rest_but_no_cool_down(kind):
    entry = other(0, kind, 10, outcome="stays" if kind == "override" else "")
    assert rests_until(5, entry, risk=0.59) is not None
    assert rests_until(5, entry, risk=0.6) is None
    assert rests_until(5, entry._replace(risk=None), risk=1.0) is not None
    assert rests_until(5, contact(0, risk=0.1), entry, risk=0.9) == 30


def test_an_override_counts_to_its_last_day():
    stays = other(0, "override", 10, outcome="stays")
    assert (rests_until(10, stays), rests_until(11, stays)) == (11, None)
    leaves = other(0, "override", 10, outcome="leaves")
    assert (stand(10, leaves).override, stand(10, leaves).rests) == ("leaves", ())
    assert stand(11, leaves).override == ""
    assert rests_until(5, stays, leaves) is None


def test_a_reassignment_counts_to_its_last_day():
    moved = other(0, "reassignment", 10, manager="Bob")
    assert stand(10, moved)[2:4] == ("Bob", day(10))
    assert stand(11, moved)[2:4] == ("", "")
    assert stand(5, moved, other(1, "reassignment", 4, manager="Cem")).manager == ""


# ---- corrections


def test_a_correction_has_the_time_and_the_risk_of_the_entry_that_it_corrects():
    first = other(0, "not_before", 20, risk=0.2, id=1)
    again = other(5, "not_before", 10, risk=0.9, id=2, replaces=1)
    third = other(6, "not_before", 12, risk=0.9, id=3, replaces=2)
    (entry,) = stand(7, first, again, third).entries
    assert (entry.id, entry.at, entry.risk, entry.date) == (3, first.at, 0.2, day(12))
    assert rests_until(7, first, again, third, risk=0.35) is None


def test_a_corrected_contact_keeps_its_place_among_the_others():
    entries = contact(0, follow_up=50, id=1), contact(4, id=2)
    corrected = contact(9, follow_up=60, id=3, replaces=1)
    assert stand(10, *entries, corrected).last_contact.id == 2


def test_a_withdrawn_client_can_be_contacted_again():
    taboo = contact(0, "do_not_contact", id=1)
    corrected = contact(1, "not_reached", id=2, replaces=1)
    withdrawn = Entry("Acme", "withdrawal", "Ann", replaces=2, id=3)
    assert rests_until(3, taboo, corrected) is None
    assert stand(0, taboo, corrected, withdrawn) == standings.Standing()


def test_the_standing_as_json_is_that_for_the_risk():
    snoozed = stand(1, contact(0, "not_reached"), other(0, "not_before", 9))
    assert snoozed.to_dict(math.nan)["resting_until"] == day(9)
    assert snoozed.to_dict(0.8)["resting_until"] == day(3)
    taboo = stand(1, contact(0, "do_not_contact")).to_dict(0.8)
    assert (taboo["resting_why"], taboo["resting_until"]) == ("do_not_contact", None)
    assert taboo["last_contact"] == day(0)


# ---- the rules once more


@settings(max_examples=CASES, deadline=None)
@given(cases())
def test_nobody_who_rests_is_listed_and_every_place_goes_to_whom_the_rules_name(case):
    check_list(case)


@settings(max_examples=CASES // 3, deadline=None)
@given(cases())
def test_a_replaced_entry_leaves_no_trace_in_where_a_client_stands(case):
    check_replaced(case)
