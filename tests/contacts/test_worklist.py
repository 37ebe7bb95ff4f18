"""Views of the clients: each filter and each view names the rows that were planted."""

import numpy as np
import pandas as pd
import pytest

from attrition.contacts import worklist
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Standing
from attrition.contacts.worklist import Filters
from tests.contacts.samples import DAY, resting, write_table

RISKS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
CONTACT = Entry("c4", "contact", "Ann", "reached", at="2026-11-01T08:00:00Z")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    value = [1.0, 100.0, 2.0, 3.0, 200.0, 4.0, 5.0, 6.0, 7.0, np.nan]
    return write_table(
        tmp_path_factory.mktemp("table") / "clients.parquet",
        RISKS,
        client=["Émile & Söhne", "b", "مثال", "Straße 1", "c4", "c5", "c6", "<b>x</b>", "é", "z"],
        manager=["Ann", "Bob"] * 5,
        value=value,
        value_at_risk=np.multiply(RISKS, value),
        due=["2026-11-27", "2026-12-28", "2026-12-29", DAY, *[""] * 6],
        previous_rank=pd.array([1, 2, 3, pd.NA, *[pd.NA] * 6], "Int64"),
        risk_change=[0.0, 0.2, 0.0, 0.0, 0.15, *[0.0] * 5],
    )


@pytest.fixture(scope="module")
def work(table):
    standings = {
        "c5": resting("2026-12-05"),
        "c6": resting("2026-12-01", "not_before"),
        "c4": Standing(last_contact=CONTACT, contacted_on="2026-11-01", manager="Cy"),
        "z": Standing(override="stays"),
        "gone": Standing(due_on=DAY),
    }
    return worklist.make_worklist(table, standings, Capacity(3, {}), "risk", DAY)


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        ("list", [1, 2, 3]),
        ("all", list(range(10))),
        ("moved", [1, 3, 4]),
        ("resting", [6, 5]),
        ("neglected", [1]),  # of the two most valuable, one was contacted
        ("overridden", [9]),
        ("past_due", [0]),
        ("waiting", []),
    ],
)
def test_view_has_its_clients_in_order(work, view, rows):
    assert work.select(view).tolist() == rows


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        (Filters(manager="Ann"), [0, 2, 6, 8]),  # c4 was handed over
        (Filters(manager="Cy"), [4]),
        (Filters(manager="Eve"), []),
        (Filters(query="emile"), [0]),
        (Filters(query="SOHNE  emile"), [0]),
        (Filters(query="strasse"), [3]),
        (Filters(query="مثال"), [2]),
        (Filters(query="<b>"), [7]),
        (Filters(query="nobody"), []),
        (Filters(query=" "), list(range(10))),
        (Filters(due_days=30), [1, 3]),
        (Filters(due_days=31), [1, 2, 3]),
        (Filters(due_days=0), [3]),
        (Filters(min_risk=0.8), [0, 1]),
        (Filters(order="value_at_risk", min_risk=0.5), [4, 1, 3, 2, 0]),
        (Filters(manager="Bob", min_risk=0.6, query="e"), [3]),
    ],
)
def test_filters_narrow_a_view(work, filters, rows):
    assert work.select("all", filters).tolist() == rows


def test_counts_of_the_tabs_are_those_of_the_views(work):
    for filters in (Filters(), Filters(manager="Ann"), Filters(query="e", order="risk")):
        counts = {view: len(work.select(view, filters)) for view in worklist.VIEWS}
        assert work.counts(filters) == counts


def test_rows_are_in_the_order_asked_with_what_the_log_says(work):
    listed, handed_over = work.rows([3, 4])
    assert (listed["client"], listed["list_rank"], listed["block"]) == ("Straße 1", 3, "new")
    assert (handed_over["manager"], handed_over["own_manager"]) == ("Cy", "Ann")
    assert handed_over["last_contact_by"] == "Ann"
    (row,) = work.rows([5])
    assert (row["resting_until"], row["resting_why"]) == ("2026-12-05", "reached")
    assert (row["list_rank"], row["block"]) == (None, "")


def test_work_list_of_no_clients_is_empty(tmp_path):
    table = write_table(tmp_path / "none", [])
    work = worklist.make_worklist(table, {"a": Standing()}, Capacity(3, {}), "risk", DAY)
    assert [work.select(view).tolist() for view in worklist.VIEWS] == [[]] * len(worklist.VIEWS)
    assert work.select("all", Filters(query="a")).tolist() == []


def test_table_of_an_earlier_version_has_a_list(tmp_path):
    path = tmp_path / "old.parquet"
    write_table(path, [0.9, 0.8])
    import pyarrow.parquet as pq

    old = pq.read_table(path).drop(["due", "phone", "email", "previous_rank"])
    pq.write_table(old, path)
    table = worklist.ClientTable(path)
    work = worklist.make_worklist(table, {}, Capacity(1, {}), "risk", DAY)
    assert work.rows(work.select("list"))[0]["due"] is None
