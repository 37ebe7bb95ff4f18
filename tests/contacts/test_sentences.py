"""Entries, rests and places on the list in words."""

import pytest

from attrition.contacts import log, sentences, standings
from attrition.contacts.log import Entry
from attrition.contacts.standings import Rest, Standing
from attrition.data.cells import Reason

DAY = "2026-11-28"
ROW = {
    **{"client": "A", "risk": 0.4, "list_rank": 3, "status": "", "own_manager": None},
    **{"manager": None, "manager_until": "", "value": None, "value_at_risk": None},
    **{"last_contact": None, "last_outcome": None, "last_contact_by": None, "follow_up": None},
    **{"override": None, "override_until": None, "resting_until": None, "resting_why": None},
    **{"previous_rank": None, "risk_change": None, "changes": [], "cautions": []},
    **{"reasons": [], "list_reasons": []},
}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, ""),
        ({"follow_up": "2026-11-25"}, "Follow-up was due 25 November, 3 days ago"),
        ({"follow_up": "2026-11-27"}, "Follow-up was due yesterday"),
        ({"follow_up": DAY}, "Follow-up is due today"),
        (
            {"follow_up": DAY, "list_rank": None},
            "Follow-up is due today; no place on the list today",
        ),
        ({"due": "2026-11-27", "list_rank": None}, "Off the list: the contract has ended"),
        ({"due": DAY, "list_rank": None}, ""),
        (
            {"override": "leaves", "override_until": "2027-02-26"},
            "The manager expects them to leave (until 26 February 2027)",
        ),
        (
            {"resting_until": standings.NEVER, "resting_why": log.DO_NOT_CONTACT},
            "Off the list: do not contact",
        ),
        (
            {"resting_until": "2026-12-05", "resting_why": log.NOT_BEFORE},
            "Snoozed until 5 December",
        ),
    ],
)
def test_place_of_a_client_is_explained(fields, text):
    assert sentences.place_text(ROW | fields, DAY) == text


@pytest.mark.parametrize(
    "why", [standings.FOLLOW_UP, log.NOT_BEFORE, log.OVERRIDE, log.REACHED, log.NOT_REACHED]
)
def test_every_rest_has_words(why):
    text = sentences.rest_text(Rest("2026-12-05", why), DAY)
    assert "until 5 December" in text and "_" not in text
    assert sentences.GONE[why] != why


@pytest.mark.parametrize("kind", log.KINDS)
def test_every_kind_of_entry_has_words(kind):
    outcome = {log.CONTACT: "reached", log.OVERRIDE: "stays"}.get(kind, "")
    entry = Entry("A", kind, "Ann", outcome, date="2026-12-05", manager="Bob")
    text = sentences.entry_text(entry, DAY)
    assert text and "_" not in text
    assert kind == log.WITHDRAWAL or "5 December" in text


def test_card_has_the_note_of_the_last_contact_and_what_moved():
    tickets = Reason("open_tickets", 5.0, 1.0, 0.8)
    row = ROW | {"previous_rank": 9, "risk_change": 0.2, "changes": [tickets], "reasons": [tickets]}
    row |= {"last_contact": "2026-11-25", "last_outcome": "not_reached", "last_contact_by": "Ann"}
    standing = Standing(last_contact=Entry("A", "contact", "Ann", "not_reached", "mailbox"))
    card = sentences.card(row, standing, DAY, {}, "EUR")
    assert card["moved"] == "Risk +20.0 points: open tickets 1 → 5"
    assert card["contacted"] == "3 days ago: not reached (Ann)"
    assert card["note"] == "mailbox"
    assert card["reasons"] == ["open tickets: 5 (baseline: 1)"]
    assert (card["value"], card["value_at_risk"], card["due"], card["tel"]) == ("", "", "", "")


def test_first_list_has_no_moves():
    assert sentences.moved_text(ROW, {}) == ""
    assert sentences.moved_text(ROW | {"list_rank": None, "previous_rank": 3}, {}) == ""
