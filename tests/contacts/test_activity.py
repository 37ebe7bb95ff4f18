"""What happened to a client, and what came of the contacts of the team."""

import pytest

from attrition.config import Label
from attrition.contacts import activity, standings
from attrition.contacts.activity import RiskAt
from attrition.contacts.log import Entry
from attrition.contacts.standings import Rules
from attrition.data.risk_history import Snapshot
from attrition.rows.observations import Observation
from tests.contacts.samples import DAY

RULES = Rules(30, 3, lambda at: at[:10])


def contact(client, on, outcome="reached", date="", by="Ann", number=1):
    at = f"{on}T09:00:00Z"
    return Entry(client, "contact", by, outcome, date=date, id=number, at=at)


def team_of(entries, listed=(), managers=None):
    by_client = standings.all_standings(entries, DAY, RULES)
    owners = {entry.client: "Ann" for entry in entries} if managers is None else managers
    rows = activity.team(listed, by_client, owners, DAY, RULES)
    return {row.pop("manager"): row for row in rows}


def test_listed_and_reached_are_counted_for_each_manager():
    entries = [
        contact("a", "2026-11-20", number=1),
        contact("a", "2026-11-25", number=2),  # the same client
        contact("b", "2026-11-20", "not_reached", number=3),
        contact("c", "2026-10-29", number=4),  # 30 days ago
        contact("d", "2026-10-30", "will_leave", number=5),
        contact("e", "2026-11-20", by="Eve", number=6),  # no longer a current client
    ]
    counted = team_of(entries, ["Ann", "Bob", "Ann"], dict.fromkeys("abcd", "Ann"))
    assert {name: (row["listed"], row["reached"]) for name, row in counted.items()} == {
        **{"Ann": (2, 2), "Bob": (1, 0), "Eve": (0, 1)}
    }


def test_entries_about_a_client_without_a_manager_count_for_the_person():
    entries = [contact("a", "2026-11-20")]
    assert team_of(entries, [], {"a": ""})["Ann"]["reached"] == 1


@pytest.mark.parametrize(
    ("date", "next_contact", "due", "kept"),
    [
        ("2026-11-20", "2026-11-20", 1, 1),
        ("2026-11-20", "2026-11-21", 1, 1),
        ("2026-11-20", "2026-11-15", 1, 1),  # earlier than agreed
        ("2026-11-20", "2026-11-22", 1, 0),
        ("2026-11-20", None, 1, 0),
        ("2026-11-27", None, 0, 0),  # it can still be kept today
        ("2026-11-28", "2026-11-28", 1, 1),
        ("2026-12-05", None, 0, 0),
        ("2026-12-20", "2026-11-21", 0, 0),  # it is not due yet
        ("2026-10-29", None, 0, 0),  # long ago
        ("", None, 0, 0),
    ],
)
def test_follow_up_is_kept_if_a_contact_takes_place_in_time(date, next_contact, due, kept):
    entries = [contact("a", "2026-10-01", date=date)]
    entries += [contact("a", next_contact, "not_reached", number=2)] if next_contact else []
    row = team_of(entries, ["Ann"])["Ann"]
    assert (row["follow_ups_due"], row["follow_ups_kept"]) == (due, kept)


def test_follow_up_that_was_moved_in_time_is_due_on_the_later_date():
    first = contact("a", "2026-10-01", date="2026-11-10")
    moved = Entry("a", "not_before", "Ann", date="2026-11-20", id=2, at="2026-11-09T08:00:00Z")
    last = contact("a", "2026-11-20", number=3)
    assert team_of([first, moved, last])["Ann"]["follow_ups_kept"] == 1
    late = moved._replace(at="2026-11-12T08:00:00Z")
    assert team_of([first, late, last])["Ann"]["follow_ups_kept"] == 0


def override(client, outcome, risk, at="2026-06-01T08:00:00Z"):
    return Entry(client, "override", "Ann", outcome, date="2026-08-01", risk=risk, at=at)


def test_opinions_and_the_model_are_compared_with_the_first_outcome_after_them():
    entries = [override(f"c{i}", "stays", 0.8) for i in range(19)]
    entries += [override("l", "leaves", 0.2), override("o", "leaves", 0.2)]
    outcomes = {f"c{i}": [("2026-07-01T00:00:00Z", i < 4)] for i in range(19)}
    outcomes["l"] = [("2026-05-01T00:00:00Z", False), ("2026-07-01T00:00:00Z", True)]
    outcomes["l"] += [("2026-08-01T00:00:00Z", False)]
    outcomes["o"] = [("2026-05-01T00:00:00Z", True)]  # it arrived before the opinion
    scored = activity.score_overrides(entries, outcomes)
    assert scored == {"open": 1, "known": 20, "right": 16, "model_right": 4}


def test_opinion_without_a_risk_beside_it_is_not_compared():
    outcomes = {"a": [("2026-07-01T00:00:00Z", True)]}
    scored = activity.score_overrides([override("a", "leaves", None)], outcomes)
    assert (scored["open"], scored["known"]) == (0, 0)


def test_few_known_outcomes_give_no_hit_rate():
    outcomes = {"a": [("2026-07-01T00:00:00Z", True)]}
    scored = activity.score_overrides([override("a", "leaves", 0.2)], outcomes)
    assert scored == {"open": 0, "known": 1, "right": None, "model_right": None}


def test_correction_of_the_same_time_stands_above_its_entry():
    entries = [contact("a", "2026-11-20", number=1), contact("a", "2026-11-20", number=2)]
    events = activity.timeline(entries, entries[1:], [], [], [], DAY)
    assert [one.is_counted for one in events] == [True, False]


def test_timeline_has_everything_with_time_and_source_the_newest_first():
    entries = [contact("a", "2026-11-20", date="2026-12-05")._replace(via="page 127.0.0.1")]
    entries += [contact("a", "2026-11-21", number=2)]
    listed = {
        "at": "2026-11-19T06:00:00Z",
        "action": "listed",
        "rank": 2,
        "risk": 0.4,
        "reason": "",
    }
    risks = activity.risks_over_time(
        [Snapshot("2026-11-01", "r1"), Snapshot("2026-11-02", "r1"), Snapshot("2026-11-18", "r2")],
        [None, 0.3, 0.4],
    )
    assert risks == [RiskAt("2026-11-02", "r1", 0.3), RiskAt("2026-11-18", "r2", 0.4)]
    observed = [Observation("2026-10-01", None, "2026-10-02T00:00:00Z", "crm.csv")]
    events = activity.timeline(entries, entries[1:], [listed], risks, observed, DAY)
    shown = [(one.at[:10], one.kind, one.who, one.source, one.text) for one in events]
    assert shown == [
        ("2026-11-21", "entry", "Ann", "", "reached"),
        ("2026-11-20", "entry", "Ann", "page 127.0.0.1", "reached; follow-up on 5 December"),
        (
            *("2026-11-19", "listing", "", "contact list"),
            "came onto the contact list, number 2, risk 40\xa0%",
        ),
        (
            *("2026-11-18", "assessment", "", "release r2"),
            "new model: risk 30\xa0% → 40\xa0%",
        ),
        ("2026-11-02", "assessment", "", "release r1", "assessed, risk 30\xa0%"),
        ("2026-10-01", "observation", "", "crm.csv", "observed: outcome not known yet"),
    ]
    assert [one.is_counted for one in events[:2]] == [True, False]


def test_observations_say_what_changed_since_the_one_before():
    rows = [
        {"open_tickets": 1.0, "orders": 20.0, "size": 100.0, "plan": "yearly", "x": None},
        {"open_tickets": 3.0, "orders": 16.0, "size": 100.0, "plan": "yearly", "x": None},
        {"open_tickets": 3.0, "orders": 0.0, "size": 90.0, "plan": "monthly", "x": 5.0},
        {"open_tickets": 3.0, "orders": 0.0, "size": 90.0, "plan": "monthly", "x": 5.0},
    ]
    observed = [
        Observation(f"2026-10-0{i}", True if i == 4 else None, "", "crm.csv", features)
        for i, features in enumerate(rows, 1)
    ]
    labels = {"orders": Label("orders", label="orders last month")}
    events = activity.timeline([], [], [], [], observed, DAY, labels)
    assert [event.text for event in events] == [
        "observed: left",
        "observed: plan yearly → monthly, orders last month 16 → 0, x not known → 5 "
        "(outcome not known yet)",
        "observed: open tickets 1 → 3, orders last month 20 → 16 (outcome not known yet)",
        "observed: outcome not known yet",
    ]
