"""The list in the memory of the app: a new entry, a new day and a new table each count at once."""

from dataclasses import replace

import pytest

from attrition.contacts import assignments, log
from attrition.contacts.desk import Desk
from attrition.contacts.log import Entry
from attrition.errors import AttritionError, Damaged
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


# ---- the experiment

RISKS = [0.9 - i / 100 for i in range(40)]
NEXT_QUARTER = "2027-01-02T08:00:00Z"


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A desk with ten places and an experiment, in which half of the clients are held out."""
    monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", "secret")
    config = write_config(tmp_path, contact_capacity=10, experiment={"share": 0.5})
    return config, Desk(config), write_table(tmp_path / "t", RISKS)


def arms(config, quarter="2026-Q4"):
    every, _ = assignments.read(config.contact_log)
    return {each.client: each.arm for each in every if each.quarter == quarter}


def test_list_keeps_its_size_and_all_above_its_line_are_assigned_once(held):
    config, desk, table = held
    work, _ = desk.worklist(table, NOW, {"release": "r1"})
    assert len(names(work)) == 10 and len(work.listed.held_out) > 2
    above = [f"c{row}" for row in sorted([*work.listed.rows.tolist(), *work.listed.held_out])]
    assert sorted(arms(config)) == sorted(above) == sorted(f"c{i}" for i in range(len(above)))
    assert [client for client, arm in arms(config).items() if arm == "treated"] == names(work)
    assert desk.worklist(table, NOW)[0] is work
    assert {each.release for each in assignments.read(config.contact_log)[0]} == {"r1"}


def test_client_who_is_contacted_stays_treated_and_the_next_is_assigned(held):
    config, desk, table = held
    first = names(desk.worklist(table, NOW)[0])
    before = arms(config)
    log.append(config.contact_log, [Entry(first[0], log.CONTACT, "Ann", log.REACHED)], NOW)
    work, _ = desk.worklist(table, NOW)
    assert len(names(work)) == 10 and first[0] not in names(work)
    new = arms(config).keys() - before
    assert new >= {names(work)[-1]} and arms(config) | before == arms(config)


def test_page_is_shown_if_assignments_cannot_be_saved_which_is_tried_again(held, monkeypatch):
    config, desk, table = held

    def fail(*arguments):
        raise AttritionError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(assignments, "append", fail)
        first = names(desk.worklist(table, NOW)[0])
    assert len(first) == 10 and not config.contact_log.exists()
    log.append(config.contact_log, [Entry(first[0], log.CONTACT, "Ann", log.REACHED)], NOW)
    desk.worklist(table, NOW)
    assert arms(config)[first[0]] == "treated"


def test_what_another_program_assigned_meanwhile_counts(held, monkeypatch):
    config, desk, table = held
    append, other = assignments.append, {"treated": "control", "control": "treated"}

    def first_to_save(path, new, *more):
        if new:
            append(path, [new[0]._replace(arm=other[new[0].arm])])
        return append(path, new, *more)

    monkeypatch.setattr(assignments, "append", first_to_save)
    work, _ = desk.worklist(table, NOW)
    treated = {client for client, arm in arms(config).items() if arm == "treated"}
    assert set(names(work)) <= treated and len(names(work)) == 10


def test_without_the_key_stored_assignments_count_and_the_others_are_outside(held, monkeypatch):
    config, desk, table = held
    work, _ = desk.worklist(table, NOW)
    before, first = arms(config), names(work)
    monkeypatch.delenv("ATTRITION_EXPERIMENT_KEY")
    log.append(config.contact_log, [Entry(first[0], log.CONTACT, "Ann", log.REACHED)], NOW)
    again, _ = Desk(config).worklist(table, NOW)
    assert again.listed.held_out == work.listed.held_out
    assert names(again) == [*first[1:], f"c{len(before)}"]
    assert arms(config) == before


def test_new_quarter_draws_anew_and_off_holds_out_nobody(held):
    config, desk, table = held
    before = desk.worklist(table, NOW)[0].listed.held_out
    after = desk.worklist(table, NEXT_QUARTER)[0].listed.held_out
    assert before != after
    assert all(arms(config, "2027-Q1")[f"c{row}"] == "control" for row in after)
    stored = assignments.read(config.contact_log)
    off = Desk(replace(config, experiment=None)).worklist(table, NEXT_QUARTER)[0]
    assert names(off) == [f"c{i}" for i in range(10)] and not off.listed.held_out
    assert assignments.read(config.contact_log) == stored
    on_again = Desk(config).worklist(table, NEXT_QUARTER)[0]
    assert on_again.listed.held_out == after


def test_changed_share_counts_for_clients_who_are_not_assigned_yet(held):
    config, desk, table = held
    work, _ = desk.worklist(table, NOW)
    few = replace(config, experiment=replace(config.experiment, share=0.01))
    log.append(config.contact_log, [Entry(c, log.CONTACT, "Ann") for c in names(work)], NOW)
    after, _ = Desk(few).worklist(table, NOW)
    assert after.listed.held_out == work.listed.held_out, "these are controls for this quarter"
    assert {each.share for each in assignments.read(config.contact_log)[0]} == {0.5, 0.01}


def test_after_proof_the_share_falls_for_new_assignments(held):
    config, desk, table = held
    desk.worklist(table, NOW)
    look = assignments.Look(NOW, 1, 0.5, '{"verdict": "helps"}')
    assignments.append_look(config.contact_log, look)
    desk.worklist(table, NEXT_QUARTER)
    shares = {each.quarter: each.share for each in assignments.read(config.contact_log)[0]}
    assert shares == {"2026-Q4": 0.5, "2027-Q1": 0.05}


def test_list_is_refused_if_counted_assignments_are_lost(held):
    config, desk, table = held
    desk.worklist(table, NOW)
    record = {"inputs": {"assignments": log.newest(config.contact_log, "assignments")}}
    desk.worklist(table, NOW, record)
    config.contact_log.unlink()
    with pytest.raises(Damaged, match="is missing, and the last list counted .* assignments"):
        Desk(config).worklist(table, NOW, record)
