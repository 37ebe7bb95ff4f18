"""The units of the experiment: which outcome and which contacts count, and what is made of them."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from attrition.contacts import log
from attrition.contacts.assignments import Look
from attrition.contacts.experiment import CONTROL, TREATED, Assignment, Trial, key_digest
from attrition.contacts.log import Entry
from attrition.contacts.standings import Standing
from attrition.effect import sentences, units
from attrition.effect.units import KNOWN, LOST, PENDING, Row, Units
from tests.conftest import write_config

AT, LATER = "2026-01-05T08:00:00Z", "2026-03-01T08:00:00Z"
ACME = Assignment("Acme", "2026-Q1", TREATED, AT, "r1", 1, 0.5, 100.0, "2026-01-01", 0.2)


def row(churned=None, time="2026-01-01", arrived=LATER, first=AT, has_outcome=None):
    is_there = churned is not None if has_outcome is None else has_outcome
    return Row(time, churned, is_there, arrived, first)


NEW = "2026-02-01T08:00:00Z"  # after the assignment
EARLY = row(has_outcome=True)  # its outcome is not mature
BEFORE = row(False, arrived="2026-01-02T08:00:00Z")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], (LOST, False, "")),
        ([row(True, time="2025-12-01")], (LOST, False, "")),
        ([row(time="2026-02-01")], (PENDING, False, "")),
        ([row(True, time="2026-02-01")], (KNOWN, True, LATER)),
        ([row(), row(True, time="2026-02-01")], (KNOWN, True, LATER)),
        ([EARLY, row(True, time="2026-02-01")], (PENDING, False, "")),
        ([row()], (PENDING, False, "")),
        ([EARLY], (PENDING, False, "")),
        ([row(True), row(False, time="2026-02-01")], (KNOWN, True, LATER)),
        ([row(False)], (KNOWN, False, LATER)),
        ([BEFORE], (PENDING, False, "")),
        ([BEFORE, row(True, time="2026-02-01")], (KNOWN, True, LATER)),
        ([BEFORE, row(True, time="2025-06-01")], (PENDING, False, "")),
        ([BEFORE, row(True, "2026-03-01"), row(False, "2026-02-01")], (KNOWN, False, LATER)),
    ],
)
def test_outcome_is_that_of_the_assessed_row(rows, expected):
    assert units.find_outcome(ACME, rows) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], (LOST, False, "")),
        ([row(time="")], (PENDING, False, "")),
        ([BEFORE._replace(time="")], (PENDING, False, "")),
        ([row(True, time="", arrived="")], (PENDING, False, "")),
        ([row(False, "", "2026-06-01"), row(True, "")], (KNOWN, True, LATER)),
        # that of an older observation arrives
        ([row(False, ""), row(True, "", "2026-06-01")], (KNOWN, True, "2026-06-01")),
        ([row(False, ""), row(time="")], (PENDING, False, "")),
        ([row(True, ""), BEFORE._replace(time="")], (KNOWN, True, LATER)),
        # the assessed row is replaced, or its outcome was known
        ([row(False, "", "2026-06-01", NEW), row(True, "", first=NEW)], (KNOWN, True, LATER)),
        ([BEFORE._replace(time=""), row(True, "", first=NEW)], (KNOWN, True, LATER)),
        ([row(time=""), row(True, "", first=NEW)], (KNOWN, True, LATER)),
        ([row(False, ""), row(True, "", first=NEW)], (KNOWN, False, LATER)),
        ([EARLY._replace(time=""), row(True, "", "2026-06-01", NEW)], (PENDING, False, "")),
    ],
)
def test_without_a_time_the_newest_row_open_at_the_assignment_was_assessed(rows, expected):
    assert units.find_outcome(ACME._replace(observed=""), rows) == expected


@pytest.mark.parametrize(
    ("outcome", "at", "until", "expected"),
    [
        (log.REACHED, AT, "", (True, True)),
        (log.NOT_REACHED, LATER, "", (True, False)),
        (log.REACHED, LATER, LATER, (False, False)),
        (log.REACHED, "2026-01-05T07:59:59Z", "", (False, False)),
        (log.REACHED, "2026-03-31T21:59:59Z", "", (True, True)),
        (log.REACHED, "2026-03-31T22:00:00Z", "", (False, False)),
    ],
)
def test_contact_counts_from_the_assignment_until_the_outcome_or_the_quarters_end(
    tmp_path, outcome, at, until, expected
):
    config = write_config(tmp_path, time_zone="Europe/Berlin")
    entry = Entry("Acme", log.CONTACT, "Ann", outcome, at=at)
    assert units.find_contacts(ACME, [entry], until, config) == expected


def make_units(config, n, churned, assigned_at=AT):
    """n controls and 3 n treated; of each arm, this many of 100 churned, mature after two months."""
    assigned, rows = [], {}
    for i in range(4 * n):
        arm = TREATED if i % 4 else CONTROL
        left = (i // 4) % 100 < churned[arm]
        assigned.append(ACME._replace(client=f"c{i}", arm=arm, share=0.25, at=assigned_at))
        rows[f"c{i}"] = [row(left)]
    return units.find_units(config, assigned, rows, {})


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def test_units_are_counted_by_arm_and_state(config):
    assigned = [ACME, ACME._replace(client="Bolt", arm=CONTROL), ACME._replace(client="Cox")]
    rows = {"Acme": [row(True)], "Bolt": [row()]}
    reached = Standing(entries=(Entry("Bolt", log.CONTACT, "Ann", log.REACHED, at=LATER),))
    made = units.find_units(config, assigned, rows, {"Bolt": reached})
    trial = Trial("2026-Q1", 0.2, b"key", frozenset(), np.inf, {})
    record = units.describe_experiment(trial, made, [], "2026-03-05")
    assert record["units"] == {
        "treated": {"known": 1, "open": 0, "lost": 1},
        "control": {"known": 0, "open": 1, "lost": 0},
    }
    assert record["contacted_controls"] == {"clients": 1, "share": 1.0, "is_high": True}
    assert record["reached"] == {"treated": 0.0, "control": 1.0}
    assert (record["state"], record["since"]) == ("running", "2026-01-05")
    assert record["next_look"]["on"] == "2026-04-05"
    assert (record["last_look"], record["verdict"]) == (None, "open")
    assert (
        units.describe_experiment(trial._replace(key=None), made, [], AT[:10])["state"] == "no_key"
    )
    off = units.describe_experiment(None, made, [], "2026-03-05")
    assert (off["state"], off["share"], off["next_look"]) == ("off", 0.2, None)


def test_look_is_due_a_quarter_after_the_first_assignment_and_taken_once(config):
    made = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    assert units.take_look(made, [], "2026-04-04", LATER, 0.25) is None
    look = units.take_look(made, [], "2026-04-05", LATER, 0.25)
    record = json.loads(look.record)
    assert (look.number, look.verdict, record["number"], record["of"]) == (1, "helps", 1, 4)
    assert record["effect"]["difference"] == pytest.approx(-0.4)
    assert record["treated"] == {"clients": 300, "churned": 60, "expected": 150.0}
    assert units.take_look(made, [look], "2026-07-04", LATER, 0.25) is None
    assert units.take_look(made, [look], "2026-07-05", LATER, 0.25).number == 2
    trial = Trial("2026-Q2", 0.05, b"key", frozenset(), np.inf, {})
    described = units.describe_experiment(trial, made, [look], "2026-04-05")
    assert (described["last_look"], described["verdict"]) == (record, "helps")


def test_broken_sample_ratio_makes_the_verdict_void(config):
    made = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    made.share[:] = 0.1
    look = units.take_look(made, [], "2026-04-05", LATER, 0.1)
    assert look.verdict == "void"
    trial = Trial("2026-Q2", 0.1, b"key", frozenset(), np.inf, {})
    described = units.describe_experiment(trial, made, [look], "2026-04-05")
    assert not described["ratio"]["is_valid"] and described["verdict"] == "void"


def test_units_lost_in_one_arm_only_make_the_verdict_void(config):
    made = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    made.state[~made.is_control & (np.arange(400) < 60)] = LOST
    look = units.take_look(made, [], "2026-04-05", LATER, 0.25)
    described = units.describe_experiment(None, made, [look], "2026-04-05")
    assert (look.verdict, described["verdict"]) == ("void", "void")
    assert described["lost"]["treated"] == pytest.approx(45 / 300)
    made.state[:] = KNOWN  # found again
    assert units.take_look(made, [look], "2026-07-05", LATER, 0.25).verdict == "helps"


def draw_units(config, n, **moved):
    """n units that the key draws; moved: what one of the treated ones has instead."""
    trial = Trial("2026-Q1", 0.25, b"key", frozenset(), np.inf, {})
    drawn = ACME._replace(share=0.25, key_digest=key_digest(b"key"))
    assigned = [
        drawn._replace(id=i, client=f"c{i}", arm=trial.arm(f"c{i}", None)) for i in range(n)
    ]
    place = next(i for i, each in enumerate(assigned) if each.arm == TREATED)
    assigned[place] = assigned[place]._replace(**moved)
    rows = {each.client: [row(i % 10 < 3)] for i, each in enumerate(assigned)}
    return units.find_units(config, assigned, rows, {}), trial, place


@pytest.mark.parametrize(
    ("key", "moved", "expected"),
    [
        ("key", {}, (400, 0)),
        ("key", {"arm": CONTROL}, (400, 1)),
        ("other", {"arm": CONTROL}, (0, 0)),
        ("", {"arm": CONTROL}, (0, 0)),
        ("key", {"client": "token", "key_digest": ""}, (399, 0)),
        ("key", {"share": 0.05}, (400, 0)),
        ("key", {"share": 0.99}, (400, 1)),
    ],
)
def test_one_assignment_that_differs_from_the_draw_makes_the_verdict_void(
    tmp_path, monkeypatch, key, moved, expected
):
    monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", key)
    made, trial, place = draw_units(write_config(tmp_path, experiment={}), 400, **moved)
    verdict = "void" if expected[1] else "open"
    look = units.take_look(made, [], "2026-04-05", LATER, 0.25)
    described = units.describe_experiment(trial, made, [look], "2026-04-05")
    draws = described["draws"]
    assert (draws["assignments"], draws["recomputed"], draws["differ"]) == (400, *expected)
    assert draws["first"] == (place if expected[1] else None)
    assert (look.verdict, described["verdict"]) == (verdict, verdict)
    assert described["ratio"]["is_valid"]


def test_assignments_are_not_recomputed_while_the_experiment_is_off(config):
    made, _, _ = draw_units(config, 40, arm=CONTROL)
    draws = units.describe_experiment(None, made, [], "2026-02-05")["draws"]
    assert (draws["recomputed"], draws["differ"]) == (0, 0)


def test_a_carried_unit_that_differs_makes_the_next_look_void(config):
    made = make_units(config, 50, {TREATED: 20, CONTROL: 60})
    late = replace(made, id=np.arange(200), state=made.state.copy())
    late.state[100:] = PENDING
    last = units.take_look(late, [], "2027-01-05", LATER, 0.25)
    for moved, verdict in ((10, "helps"), (150, "void")):
        late.is_moved[moved] = True
        late.state[:] = KNOWN
        assert units.take_look(late, [last], "2027-04-05", LATER, 0.25).verdict == verdict


def test_verdict_of_a_year_outlives_the_faults_of_the_next_one(config):
    year = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    year.is_contacted[year.is_control & (np.arange(400) < 80)] = True
    year.is_reached[:] = ~year.is_control
    last = units.take_look(year, [], "2027-01-05", LATER, 0.25)
    new = make_units(config, 30, {TREATED: 20, CONTROL: 60}, "2027-01-05T09:00:00Z")
    new.share[:] = 0.01
    both = Units(**{n: np.concatenate([getattr(year, n), getattr(new, n)]) for n in vars(year)})
    described = units.describe_experiment(None, both, [last], "2027-01-05")
    look = described["last_look"]
    assert (look["verdict"], described["verdict"]) == ("helps", "helps")
    assert look["contacted_controls"] == {"clients": 20, "share": 0.2, "is_high": True}
    assert look["reached"] == {"treated": 1.0, "control": 0.0}
    assert look["ratio"]["is_valid"] and look["draws"]["assignments"] == 400
    assert look["lost"]["is_valid"] and not described["ratio"]["is_valid"]
    assert not described["contacted_controls"]["is_high"]
    texts = " ".join(sentences.all_sentences(described, "EUR")).replace("\xa0", " ")
    assert texts.startswith("Contacting keeps clients")
    assert "At the look on 1 March 2026: 20 held-out clients (20 %) were contacted all the" in texts
    assert "so that look will be void: 25 % of the clients were held out, 1.0 % planned." in texts
    assert "Sample ratio: At the look on 1 March 2026: 25 % were held out, 25 % planned" in texts


def test_last_look_that_was_void_stays_so_on_its_day_and_after_it(config):
    year = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    year.share[:] = 0.1
    last = units.take_look(year, [], "2027-01-05", LATER, 0.1)
    described = units.describe_experiment(None, year, [last], "2027-01-05")
    assert (described["ratio"], described["verdict"]) == (None, "void")
    headline = sentences.verdict(described, "EUR").headline.replace("\xa0", " ")
    assert headline == "Void: 25 % of the clients were held out, 10 % planned."


def test_second_year_compares_its_own_units(config):
    old = make_units(config, 100, {TREATED: 20, CONTROL: 60})
    looks = [
        Look(LATER, n, 0.25, json.dumps({"number": n, "verdict": "open"})) for n in (1, 2, 3, 4)
    ]
    assert units.take_look(old, looks, "2027-04-05", LATER, 0.25).number == 5
    compared = json.loads(units.take_look(old, looks, "2027-04-05", LATER, 0.25).record)
    assert (compared["number"], compared["treated"]["clients"]) == (1, 0)
    described = units.describe_experiment(None, old, looks, "2027-04-05")
    assert described["verdict"] == "no_effect" and described["ratio"] is None


def test_units_open_at_the_last_look_of_a_year_are_compared_in_the_next_one(config):
    made = make_units(config, 50, {TREATED: 20, CONTROL: 60})
    late = replace(made, id=np.arange(200), state=made.state.copy())
    late.state[100:180], late.state[180:] = PENDING, LOST
    last = units.take_look(late, [], "2027-01-05", LATER, 0.25)
    first = Look(LATER, 1, 0.25, json.dumps({"number": 1, "verdict": "open"}))
    late.state[100:] = KNOWN
    look = units.take_look(late, [first, last], "2027-04-05", LATER, 0.25)
    sizes = [
        [json.loads(each.record)[arm]["clients"] for arm in ("treated", "control")]
        for each in (last, look)
    ]
    assert (last.number, look.number, sizes) == (4, 5, [[75, 25], [60, 20]])
    described = units.describe_experiment(None, late, [first, last, look], "2027-04-06")
    assert described["units"]["treated"] == {"known": 60, "open": 0, "lost": 0}
    assert described["ratio"] is None and "open" not in described["looks"][1]


def test_value_kept_is_that_of_the_units_of_the_quarter(config):
    values = {"2026-01-05": (9, 3), "2026-03-31": (5, 5), "2026-04-01": (8, 4)}
    assigned = [
        ACME._replace(client=f"{day} {arm}", arm=arm, at=f"{day}T09:00:00Z", value=100.0 * value)
        for day, pair in values.items()
        for arm, value in zip((CONTROL, TREATED), pair, strict=True)
    ]
    made = units.find_units(config, assigned, {}, {})
    kept = [units.measure_kept(made, day, "value_at_risk") for day in ("2026-03-31", "2026-04-30")]
    assert kept == [pytest.approx(8 / 14), 0.5]
    assert units.measure_kept(made, "2026-07-01", "risk") is None


def test_quality_of_the_list_is_that_of_the_controls_whom_nobody_contacted(config):
    made = make_units(config, 50, {TREATED: 20, CONTROL: 60})
    made.is_contacted[made.is_control & (np.arange(200) < 40)] = True
    quality = units.describe_experiment(None, made, [], "2026-06-01")["list_quality"]
    assert quality["clients"] == 40 and quality["expected"] == 20.0
    assert quality["lead_days"] == (date(2026, 3, 1) - date(2026, 1, 5)).days
