"""The list as columns and records, beside the list of an earlier day."""

import numpy as np
import pandas as pd
import pyarrow as pa

from attrition.config import Columns, Numeric
from attrition.contacts import daily_list, ranking
from attrition.contacts.daily_list import Earlier
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Standing
from attrition.data import clients
from tests.contacts.samples import DAY, resting

COLUMNS = Columns(client="client", outcome="left", numeric=(Numeric("a"),))


def make_earlier(names, ranks, risks):
    table = {
        clients.KEY: clients.client_keys(names),
        "client": names,
        "list_rank": pa.array(ranks, pa.int32()),
        "risk": risks,
    }
    return Earlier(pa.table(table), "2026-11-27", "release")


def make_ranked(names, risks):
    empty = dict.fromkeys(("manager", "due"), "") | dict.fromkeys(
        ("value", "value_at_risk"), np.nan
    )
    return pd.DataFrame({"client": names, "risk": risks} | empty)


def test_clients_are_compared_with_the_list_of_an_earlier_day():
    earlier = make_earlier(["c", "a"], [None, 1], [0.5, 0.25])
    ranked = daily_list.compare_with(make_ranked(["a", "b", "c"], [0.75, 0.5, 0.25]), earlier)
    assert ranked["previous_rank"].tolist() == [1, pd.NA, pd.NA]
    assert ranked["risk_change"].fillna(9).tolist() == [0.5, 9, -0.25]


def test_without_an_earlier_day_there_is_nothing_to_compare_with():
    for earlier in (None, make_earlier([], [], pa.array([], pa.float64()))):
        ranked = daily_list.compare_with(make_ranked(["a"], [0.75]), earlier)
        assert ranked["previous_rank"].isna().all()
        assert ranked["risk_change"].isna().all()


def list_of(ranked, standings, capacity=1):
    book = daily_list.make_book(ranked)
    order = ranking.order_of_list(book, "risk")
    return ranking.make_list(book, order, standings, Capacity(capacity, {}), DAY)


def test_gone_have_a_reason_also_if_they_are_no_longer_current():
    names = ["a", "b", "c"]
    ranked = daily_list.compare_with(make_ranked(names, [0.9, 0.8, 0.7]), None)
    rows = pd.DataFrame({"client": ["a", "d", "e", "d"], "left": [np.nan, 0, np.nan, 1]})
    listed = list_of(ranked, {0: resting()})
    gone = daily_list.describe_gone(ranked["client"], listed, {*"abcde"}, rows, COLUMNS)
    assert {one["client"]: one["why"] for one in gone} == {
        **{"a": "reached", "c": "no_place"},
        **{"d": "left", "e": "not_current"},
    }
    assert [one["client"] for one in gone] == sorted(one["client"] for one in gone)
    moves = daily_list.describe_moves(ranked, listed, {"a"}, gone[:1])
    assert moves == [
        {"client": "b", "action": "listed", "rank": 1, "risk": 0.8, "reason": ""},
        {"client": "a", "action": "gone", "rank": None, "risk": None, "reason": "reached"},
    ]


def test_counts_of_the_list_are_those_of_its_parts():
    ranked = daily_list.compare_with(make_ranked([*"abcd"], [0.9, 0.8, 0.7, 0.6]), None)
    listed = list_of(ranked, {0: resting(), 1: Standing(due_on=DAY), 2: Standing(due_on=DAY)})
    assert daily_list.summarise(listed) == {
        "blocks": {"overdue": 0, "due": 1, "new": 0, "rest": 0},
        **{"resting": {"reached": 1}, "past_due": 0, "waiting": 1},
    }


def test_due_dates_of_the_table_decide():
    due = ["2026-11-27", "", "2026-11-28"]
    ranked = make_ranked([*"abc"], [0.9, 0.8, 0.7]).assign(due=due)
    listed = list_of(daily_list.compare_with(ranked, None), {}, capacity=3)
    assert (listed.rows.tolist(), listed.past_due.tolist()) == ([1, 2], [0])


def test_list_and_reasons_are_columns_of_the_clients_concerned():
    table = daily_list.add_list(
        make_ranked([*"abc"], [0.9, 0.8, 0.7]), np.array([2, 0]), 1, [["x"], ["y"]], [[], ["z"]]
    )
    assert table["list_rank"].tolist() == [pd.NA, pd.NA, 1]
    assert table["list_reasons"].tolist() == [["y"], (), ["x"]]
    assert table["changes"].tolist() == [["z"], (), []]


def test_reassigned_client_has_the_new_manager_in_every_export():
    ranked = make_ranked([*"ab"], [0.9, 0.8]).assign(manager=["Ann", "Bob"])
    exported = daily_list.add_contacts(ranked, {1: Standing(manager="Cy", contacted_on=DAY)})
    assert exported["manager"].tolist() == ["Ann", "Cy"]
    assert exported["last_contact"].fillna("").tolist() == ["", DAY]
    assert ranked["manager"].tolist() == ["Ann", "Bob"]
