import math

import pandas as pd
import pytest

from attrition.contacts import ranking


def ranked(*clients):
    """Clients as (name, risk) or (name, risk, value at risk), ranked."""
    names = ["client", "risk", "value_at_risk"][: len(clients[0])]
    return ranking.rank(pd.DataFrame(list(clients), columns=names))


def test_the_highest_risk_comes_first():
    found = ranked(("a", 0.1), ("b", 0.9), ("c", 0.5))
    assert found["client"].tolist() == ["b", "c", "a"]
    assert found["rank"].tolist() == [1, 2, 3]


def test_ties_are_broken_by_name_whatever_the_order_of_the_rows():
    rows = [("b", 0.5), ("a", 0.5), ("c", 0.5)]
    assert ranked(*rows)["client"].tolist() == ranked(*rows[::-1])["client"].tolist()
    assert ranked(*rows)["client"].tolist() == ["a", "b", "c"]


def test_the_list_is_cut_to_the_capacity():
    found = ranking.cut_to_capacity(ranked(("a", 0.1), ("b", 0.9), ("c", 0.5)), 2, "risk")
    assert found["client"].tolist() == ["b", "c"]


def test_a_capacity_for_more_than_all_lists_all():
    assert len(ranking.cut_to_capacity(ranked(("a", 0.1), ("b", 0.9)), 100, "risk")) == 2


def test_order_by_value_at_risk_numbers_the_list_anew():
    rows = ranked(("a", 0.1, 1000.0), ("b", 0.9, 10.0), ("c", 0.5, 500.0))
    found = ranking.cut_to_capacity(rows, 2, "value_at_risk")
    assert found["client"].tolist() == ["a", "c"]
    assert found["rank"].tolist() == [1, 2]


def test_a_client_without_a_value_comes_last_but_by_risk():
    rows = ranked(("a", 0.1, 5.0), ("b", 0.8, math.nan), ("c", 0.9, math.nan))
    found = ranking.cut_to_capacity(rows, 3, "value_at_risk")
    assert found["client"].tolist() == ["a", "c", "b"]


def test_equal_value_at_risk_is_ordered_by_risk_and_then_by_name():
    rows = ranked(("b", 0.5, 5.0), ("a", 0.5, 5.0), ("c", 0.9, 5.0))
    assert ranking.cut_to_capacity(rows, 3, "value_at_risk")["client"].tolist() == ["c", "a", "b"]


def test_what_moved_since_the_last_list_is_told():
    chosen = ranking.cut_to_capacity(ranked(("a", 0.25), ("b", 0.9)), 2, "risk")
    found = ranking.add_changes(chosen, {"a": (7, 0.75), "gone": (1, 0.9)})
    assert found["previous_rank"].tolist() == [pd.NA, 7]
    assert found["risk_change"].iloc[1] == pytest.approx(-0.5)
    assert math.isnan(found["risk_change"].iloc[0])


def test_an_empty_list_moves_nowhere():
    empty = ranking.cut_to_capacity(ranked(("a", 0.1)).iloc[:0], 5, "risk")
    found = ranking.add_changes(empty, {"a": (1, 0.1)})
    assert list(found["previous_rank"]) == list(found["risk_change"]) == []
