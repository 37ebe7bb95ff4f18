"""Who is on the list of a day, in which block, and why others are not; answers are planted."""

import numpy as np
import pytest
from hypothesis import given, settings

from attrition.contacts import ranking
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Standing
from tests.contacts import rules
from tests.contacts.samples import DAY, make_book, resting

ALL = Capacity(3, {})


def make_list(book, standings=None, capacity=ALL, order="risk"):
    places = ranking.order_of_list(book, order)
    return ranking.make_list(book, places, standings or {}, capacity, DAY)


def test_list_is_in_order_of_value_at_risk_and_unknown_values_come_last():
    book = make_book([0.9, 0.8, 0.2, 0.1], value_at_risk=[9.0, np.nan, 20.0, 9.0])
    assert make_list(book, order="value_at_risk").rows.tolist() == [2, 0, 3]
    assert make_list(book).rows.tolist() == [0, 1, 2]


def test_place_of_a_resting_client_goes_to_the_next():
    listed = make_list(make_book([0.9, 0.8, 0.7, 0.6]), {1: resting()})
    assert listed.rows.tolist() == [0, 2, 3]
    assert listed.resting[1].until == "2026-12-05"


def test_risk_that_rose_by_ten_points_wakes_a_client():
    asleep = {0: resting(why="not_before", wakes_at=0.9)}
    assert make_list(make_book([0.9]), asleep).rows.tolist() == [0]
    assert make_list(make_book([0.89]), asleep).rows.tolist() == []


def test_client_whose_contract_has_ended_is_not_listed_and_one_of_today_is():
    book = make_book([0.9, 0.8], due=np.array(["2026-11-27", DAY], dtype="datetime64[D]"))
    listed = make_list(book)
    assert (listed.rows.tolist(), listed.past_due.tolist()) == ([1], [0])


def test_due_follow_ups_and_clients_who_will_leave_have_the_first_claim():
    standings = {
        3: Standing(due_on=DAY),
        4: Standing(override="leaves"),
        5: Standing(due_on="2026-11-29"),
    }
    listed = make_list(make_book([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), standings)
    assert listed.rows.tolist() == [0, 3, 4]
    assert listed.status == ("", "due", "")


def test_due_follow_up_without_a_place_waits():
    standings = {row: Standing(due_on=day) for row, day in ((1, DAY), (2, "2026-11-20"))}
    listed = make_list(make_book([0.9, 0.8, 0.7]), standings, Capacity(1, {}))
    assert (listed.rows.tolist(), listed.waiting.tolist()) == ([1], [2])


def test_each_place_is_in_one_block():
    book = make_book(
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        previous_rank=[1, 2, 0, 0, 3, 4],
        risk_change=[0.0, 0.0, 0.0, np.nan, 0.1, 0.099],
    )
    standings = {
        0: Standing(due_on="2026-11-27"),
        1: Standing(due_on=DAY),
        2: Standing(last_contact="before"),
    }
    listed = make_list(book, standings, Capacity(6, {}))
    assert listed.status == ("overdue", "due", "back", "new", "risen", "")
    assert listed.blocks == ("overdue", "due", "new", "new", "new", "rest")
    assert listed.counts() == {"overdue": 1, "due": 1, "new": 3, "rest": 1}


def test_nobody_is_new_on_the_first_list():
    assert make_list(make_book([0.9, 0.8])).status == ("", "")


def test_after_an_empty_list_everybody_is_new():
    assert make_list(make_book([0.9], risk_change=[0.0])).status == ("new",)


def test_gone_are_those_of_the_earlier_list_with_the_reason():
    book = make_book(
        [0.9, 0.8, 0.7, 0.6],
        previous_rank=[1, 2, 3, 0],
        due=np.array(["NaT", "2026-01-01", "NaT", "NaT"], dtype="datetime64[D]"),
    )
    listed = make_list(book, {0: resting()}, Capacity(0, {}))
    assert listed.gone == {0: "reached", 1: "past_due", 2: "no_place"}


@pytest.mark.parametrize(
    ("capacity", "rows"),
    [
        (Capacity(4, {}), [0, 1, 2, 3]),
        (Capacity(4, {"Ann": 1, "Bob": 3}), [0, 4, 5, 6]),
        (Capacity(4, {"Ann": 1, "Bob": 1}), [0, 1, 2, 4]),  # two more places for anybody
        (Capacity(4, {"Bob": 0}), [0, 1, 2, 3]),
        (Capacity(8, {"Bob": 0}), [0, 1, 2, 3]),  # never one with 0
        (Capacity(6, {"Eve": 3}), [0, 1, 2, 3, 4, 5]),  # places of somebody without clients
        (Capacity(6, {"Ann": 4, "Bob": 1}), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_places_of_managers_are_exact_and_unused_ones_move_on(capacity, rows):
    book = make_book(np.linspace(0.9, 0.2, 8), manager=["Ann"] * 4 + ["Bob"] * 4)
    assert make_list(book, capacity=capacity).rows.tolist() == rows


def test_client_who_is_handed_over_takes_the_place_along():
    book = make_book([0.9, 0.8, 0.7, 0.6], manager=["Ann", "Ann", "Bob", "Bob"])
    capacity = Capacity(2, {"Ann": 1, "Bob": 1})
    assert make_list(book, capacity=capacity).rows.tolist() == [0, 2]
    assert make_list(book, {0: Standing(manager="Bob")}, capacity).rows.tolist() == [0, 2]


def test_client_of_a_manager_without_places_takes_one_of_the_new_manager():
    book = make_book([0.9, 0.8, 0.7], manager=["Ann", "Bob", "Bob"])
    capacity = Capacity(1, {"Ann": 0, "Bob": 1})
    assert make_list(book, capacity=capacity).rows.tolist() == [1]
    assert make_list(book, {0: Standing(manager="Bob")}, capacity).rows.tolist() == [0]


def test_next_are_those_behind_the_list_and_those_who_rest():
    book = make_book([0.9, 0.8, 0.7, 0.6, 0.5])
    listed = make_list(book, {0: resting()}, Capacity(1, {}))
    assert ranking.next_rows(np.arange(5), listed, 2).tolist() == [2, 3, 0]


def test_list_of_no_clients_is_empty():
    listed = make_list(make_book([]))
    assert listed.rows.tolist() == listed.waiting.tolist() == []


# ---- the experiment


def hold_out(*rows):
    """Draw these rows as controls and all others as treated."""
    return lambda places: ["control" if row in rows else "treated" for row in places]


def experiment(book, draw, standings=None, capacity=ALL):
    order = ranking.order_of_list(book, "risk")
    return ranking.make_list(book, order, standings or {}, capacity, DAY, draw)


def test_list_is_refilled_below_those_who_are_held_out():
    listed = experiment(make_book(np.linspace(0.9, 0.1, 9)), hold_out(1, 3, 5))
    assert (listed.rows.tolist(), listed.held_out) == ([0, 2, 4], [1, 3])
    assert listed.arms == dict(enumerate(["treated", "control"] * 2 + ["treated"]))


def test_held_out_client_takes_no_place_of_his_manager_nor_of_the_others():
    book = make_book([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], manager=["A", "B", "A", "B", "A", "B"])
    listed = experiment(book, hold_out(0, 1), capacity=Capacity(3, {"A": 1}))
    assert (listed.rows.tolist(), listed.held_out) == ([2, 3, 5], [0, 1])


def test_client_with_a_claim_is_listed_whatever_was_drawn():
    standings = {2: Standing(due_on=DAY), 3: Standing(override="leaves")}
    listed = experiment(make_book([0.9, 0.8, 0.7, 0.6]), hold_out(0, 2, 3), standings)
    assert (listed.rows.tolist(), listed.held_out) == ([1, 2, 3], [0])
    assert listed.arms == {0: "control", 1: "treated"}


def test_resting_client_is_not_drawn():
    listed = experiment(make_book([0.9, 0.8, 0.7]), hold_out(), {0: resting()})
    assert listed.arms.keys() == {1, 2}


def test_held_out_client_of_the_previous_list_reads_as_any_other_without_a_place():
    book = make_book([0.9, 0.8, 0.7, 0.6, 0.5], previous_rank=np.array([1, 2, 0, 0, 3]))
    assert experiment(book, hold_out(0)).gone == {0: "no_place", 4: "no_place"}


def test_only_clients_down_to_the_line_are_drawn():
    drawn = []

    def draw(places):
        drawn.extend(places)
        return ["treated"] * len(places)

    experiment(make_book(np.linspace(1, 0, 100_000)), draw)
    assert drawn == [0, 1, 2]


@settings(max_examples=150, deadline=None)
@given(rules.cases())
def test_list_follows_the_rules_whoever_is_held_out(case):
    rules.check_list(case)
