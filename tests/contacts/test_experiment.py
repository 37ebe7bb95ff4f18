"""Who is held out: the draw once more from its description, exemptions, and what was stored."""

import math

import pytest

from attrition.contacts import experiment
from attrition.contacts.experiment import (
    CONTROL,
    OUTSIDE,
    TREATED,
    Trial,
    compare_with_draw,
    key_digest,
)
from tests.contacts.rules import draw_again

UNKNOWN = {"risk": 0.5, "value": None, "observed_at": None}
TRIAL = Trial("2026-Q1", 0.2, b"secret", frozenset(), math.inf, {})


def test_draw_is_that_of_a_second_implementation():
    clients = [f"Client {i}" for i in range(500)] + ["Émile Straße", "", "a\nb", "客户"]
    for client in clients:
        is_held = draw_again(b"secret", client, "2026-Q1") < 0.2
        assert TRIAL.arm(client, None) == (CONTROL if is_held else TREATED)
    held = sum(TRIAL.arm(client, None) == CONTROL for client in clients)
    assert 70 < held < 130


def test_every_quarter_and_every_key_draw_anew():
    clients = [f"c{i}" for i in range(1000)]
    arms = [TRIAL.arm(client, None) for client in clients]
    for other in (TRIAL._replace(quarter="2026-Q2"), TRIAL._replace(key=b"other")):
        both = sum(
            arm == other.arm(client, None) == CONTROL
            for client, arm in zip(clients, arms, strict=True)
        )
        assert 20 < both < 65, "as if drawn independently: 40"


def test_stored_arm_counts_whatever_key_and_share_are():
    arms = {f"c{i}": (CONTROL, TREATED)[i % 2] for i in range(50)}
    for key in (b"secret", b"other", None):
        trial = TRIAL._replace(arms=arms, key=key, share=0.01)
        assert {client: trial.arm(client, None) for client in arms} == arms


def test_without_the_key_other_clients_are_outside():
    assert TRIAL._replace(key=None).arm("c1", 5.0) == OUTSIDE


@pytest.mark.parametrize(("client", "value"), [("Acme", 1.0), ("other", 100.01)])
def test_exempt_client_is_outside_even_if_held_out_before(client, value):
    trial = TRIAL._replace(exempt={"Acme"}, value_above=100.0, arms={client: CONTROL})
    assert trial.arm(client, value) == OUTSIDE
    assert trial.arm("third", 100.0) != OUTSIDE


def test_only_clients_without_a_stored_arm_are_assigned():
    rows = {
        4: {"client": "a", "risk": 0.4, "value": 10.0, "observed_at": None},
        7: {"client": "b", "risk": 0.3, "value": 20.0, "observed_at": "2026-01-31"},
        8: {"client": "c", "risk": 0.2, "value": 20.0, "observed_at": ""},
    }
    trial = TRIAL._replace(arms={"c": CONTROL})
    arms = {4: TREATED, 7: CONTROL, 8: CONTROL, 9: OUTSIDE}
    new = trial.new_assignments(
        arms, lambda places: [rows[place] for place in places], "2026-02-02T08:00:00Z", "r1"
    )
    assert [each[:3] for each in new] == [("a", "2026-Q1", TREATED), ("b", "2026-Q1", CONTROL)]
    digest = key_digest(b"secret")
    assert [each[4:11] for each in new] == [
        ("r1", 5, 0.4, 10.0, "", 0.2, digest),
        ("r1", 8, 0.3, 20.0, "2026-01-31", 0.2, digest),
    ]


def assign(trial, clients):
    """Return the assignments of clients whom the trial draws."""

    def read(rows):
        return [{"client": clients[row], **UNKNOWN} for row in rows]

    arms = {row: trial.arm(client, None) for row, client in enumerate(clients)}
    return trial.new_assignments(arms, read, "2026-02-02T08:00:00Z", "r1")


def test_assignments_are_as_drawn_in_each_quarter_at_the_share_that_is_stored():
    clients = ["Émile Straße", "E\u0301mile", "", "a\nb", "客户", *(f"c{i}" for i in range(200))]
    earlier, later = assign(TRIAL, clients), TRIAL._replace(quarter="2026-Q2", share=0.05)
    assigned = [*earlier, *assign(later, clients)]
    assert {each.share for each in assigned} == {0.2, 0.05}
    assert compare_with_draw(assigned, b"secret") == [True] * 410


def test_only_what_the_key_drew_is_compared_with_the_draw():
    ann, cem, dee = assign(TRIAL, ["Ann", "Cem", "Dee"])
    moved = ann._replace(arm=TREATED if ann.arm == CONTROL else CONTROL)
    (other,) = assign(TRIAL._replace(key=b"other"), ["Bob"])
    forgotten = cem._replace(client="forgotten-1", key_digest="")
    assigned = [moved, other, forgotten, dee]
    assert compare_with_draw(assigned, b"secret") == [False, None, None, True]
    assert compare_with_draw(assigned, b"other") == [None, True, None, None]
    assert compare_with_draw(assigned, None) == [None] * 4


def test_quarters_end_with_their_months():
    days = ["2026-01-01", "2026-03-31", "2026-04-01", "2026-12-31", "2027-01-01"]
    assert [experiment.quarter_of(day) for day in days] == [
        *("2026-Q1", "2026-Q1", "2026-Q2", "2026-Q4", "2027-Q1"),
    ]


def test_digest_changes_with_the_key_and_does_not_contain_it():
    digests = {experiment.key_digest(key) for key in (None, b"one", b"two")}
    assert len(digests) == 3 and "one" not in digests
