"""The list as columns and records, beside the list of an earlier day."""

import numpy as np
import pyarrow as pa

from attrition.contacts import daily_list, ranking
from attrition.contacts.daily_list import Earlier
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Standing
from attrition.data import clients
from tests.contacts.samples import DAY, make_book, resting


def make_earlier(names, ranks, risks):
    table = {
        clients.KEY: clients.client_keys(names),
        "client": names,
        "list_rank": pa.array(ranks, pa.int32()),
        "risk": risks,
    }
    return Earlier(pa.table(table), "2026-11-27", "release")


def compare(names, risks, earlier):
    return daily_list.compare_with(clients.client_keys(names), np.array(risks), earlier)


def test_clients_are_compared_with_the_list_of_an_earlier_day():
    earlier = make_earlier(["c", "a"], [None, 1], [0.5, 0.25])
    change = compare(["a", "b", "c"], [0.75, 0.5, 0.25], earlier)
    assert np.nan_to_num(change.previous_rank, nan=9).tolist() == [1, 9, 9]
    assert np.nan_to_num(change.risk_change, nan=9).tolist() == [0.5, 9, -0.25]


def test_without_an_earlier_day_there_is_nothing_to_compare_with():
    for earlier in (None, make_earlier([], [], pa.array([], pa.float64()))):
        change = compare(["a"], [0.75], earlier)
        assert np.isnan([*change.previous_rank, *change.risk_change]).all()


def list_of(risks, standings, capacity=1):
    book = make_book(risks)
    order = ranking.order_of_list(book, "risk")
    return ranking.make_list(book, order, standings, Capacity(capacity, {}), DAY)


def test_gone_have_a_reason_also_if_they_are_no_longer_current():
    listed = list_of([0.9, 0.8, 0.7], {0: resting()})
    current = {"a": 0, "b": 1, "c": 2}
    gone = daily_list.describe_gone(current, listed, {*"abcde"}, {"d"})
    assert {one["client"]: one["why"] for one in gone} == {
        **{"a": "reached", "c": "no_place"},
        **{"d": "left", "e": "not_current"},
    }
    assert [one["client"] for one in gone] == sorted(one["client"] for one in gone)
    moves = daily_list.describe_moves(["b"], [0.8], listed, {"a"}, gone[:1])
    assert moves == [
        {"client": "b", "action": "listed", "rank": 1, "risk": 0.8, "reason": ""},
        {"client": "a", "action": "gone", "rank": None, "risk": None, "reason": "reached"},
    ]


def test_counts_of_the_list_are_those_of_its_parts():
    listed = list_of(
        [0.9, 0.8, 0.7, 0.6], {0: resting(), 1: Standing(due_on=DAY), 2: Standing(due_on=DAY)}
    )
    assert daily_list.summarise(listed) == {
        "blocks": {"overdue": 0, "due": 1, "new": 0, "rest": 0},
        **{"resting": {"reached": 1}, "past_due": 0, "waiting": 1},
    }
