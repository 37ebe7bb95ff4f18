"""The list in the memory of the app: a new entry, a new day and a new table each count at once."""

import pytest

from attrition.contacts import log
from attrition.contacts.desk import Desk
from attrition.contacts.log import Entry
from tests.conftest import write_config
from tests.contacts.samples import write_table

NOW, NEXT_DAY = "2026-11-28T08:00:00Z", "2026-11-29T08:00:00Z"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, contact_capacity=2)


def names(work):
    return [row["client"] for row in work.rows(work.listed.rows)]


def test_entry_counts_at_once_and_the_list_is_computed_once_for_it(config, tmp_path):
    desk, table = Desk(config), write_table(tmp_path / "t", [0.9, 0.8, 0.7])
    first, seen = desk.worklist(table, NOW)
    assert (names(first), seen) == (["c0", "c1"], 0)
    assert desk.worklist(table, NOW)[0] is first
    log.append(config.contact_log, [Entry("c0", log.CONTACT, "Ann", log.REACHED)], NOW)
    work, seen = desk.worklist(table, NOW)
    assert (names(work), seen) == (["c1", "c2"], 1)
    assert desk.worklist(table, NOW)[0] is work
    assert [entry.by for entry in desk.entries("c0")] == ["Ann"]


def test_client_comes_back_on_the_day_and_not_before(config, tmp_path):
    desk, table = Desk(config), write_table(tmp_path / "t", [0.9, 0.8, 0.7])
    entry = Entry("c0", log.NOT_BEFORE, "Ann", note="away", date="2026-11-29")
    log.append(config.contact_log, [entry], NOW)
    assert names(desk.worklist(table, NOW)[0]) == ["c1", "c2"]
    assert names(desk.worklist(table, NEXT_DAY)[0]) == ["c0", "c1"]


def test_new_table_is_ranked_with_the_entries_so_far(config, tmp_path):
    desk, table = Desk(config), write_table(tmp_path / "t", [0.9, 0.8, 0.7])
    log.append(config.contact_log, [Entry("c1", log.CONTACT, "Ann", log.REACHED)], NOW)
    assert names(desk.worklist(table, NOW)[0]) == ["c0", "c2"]
    other = write_table(tmp_path / "u", [0.9, 0.8], client=["c1", "d"])
    assert names(desk.worklist(other, NOW)[0]) == ["d"]
