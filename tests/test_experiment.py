"""The experiment through the steps: who is held out, what survives what, and what is measured."""

import pytest

import assessment
import fullprocess
import monitoring
from attrition.contacts import assignments, experiment, log
from attrition.errors import Damaged
from attrition.storage import files
from attrition.upkeep import integrity
from tests.conftest import make_rows, run_whole
from tests.contacts.rules import draw_again
from tests.support import arrive, enter, read_table, reconfigure

KEY = "secret"
ON = {"contact_capacity": 20, "experiment": {"share": 0.3}}
NEXT_QUARTER = "2099-10-01T08:00:00Z"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", KEY)
    monkeypatch.setattr(files, "utc_now", lambda: "2099-07-01T08:00:00Z")


@pytest.fixture
def held(project, key):
    """A finished project after an assessment with an experiment."""
    config = reconfigure(project, **ON)
    assessment.assess_clients(config)
    return config


def arms(config, quarter="2099-Q3"):
    every, _ = assignments.read(config.contact_log)
    return {each.client: each.arm for each in every if each.quarter == quarter}


def listed(config):
    return read_table(config.contact_list)["client"].tolist()


def described(config):
    return files.read_record(config.assessment_record)["experiment"]


def test_off_it_changes_nothing_but_what_the_record_names(project, key):
    before = [path.read_bytes() for path in (project.contact_list, project.risk_scores)]
    assert described(project) is None and not project.contact_log.exists()
    reconfigure(project, **ON)
    off = reconfigure(project, contact_capacity=20)
    assert assessment.assess_clients(off).up_to_date
    assert [path.read_bytes() for path in (off.contact_list, off.risk_scores)] == before


def test_list_has_its_size_and_nobody_who_is_held_out(held):
    ranked = read_table(held.risk_scores)["client"].tolist()
    again = {c: draw_again(KEY.encode(), c, "2099-Q3") < 0.3 for c in ranked}
    expected = [c for c in ranked if not again[c]][:20]
    assert listed(held) == expected
    above = ranked[: ranked.index(expected[-1]) + 1]
    assert arms(held) == {c: "control" if again[c] else "treated" for c in above}
    record = described(held)
    assert (record["listed"], record["held_out"]) == (20, len(above) - 20)
    assert 0.7 < record["value_kept"] < 1 and record["state"] == "running"
    assert record["units"]["treated"] == {"known": 0, "open": 20, "lost": 0}


def test_second_assessment_is_up_to_date_and_the_next_quarter_is_not(held, monkeypatch):
    assert assessment.assess_clients(held).up_to_date
    before = arms(held)
    monkeypatch.setattr(files, "utc_now", lambda: NEXT_QUARTER)
    assert not assessment.assess_clients(held).up_to_date
    assert arms(held) == before and arms(held, "2099-Q4").keys() & before
    assert set(listed(held)) <= {c for c, arm in arms(held, "2099-Q4").items() if arm == "treated"}


def test_stored_assignments_survive_a_lost_key(held, monkeypatch):
    before, first = arms(held), listed(held)
    monkeypatch.delenv("ATTRITION_EXPERIMENT_KEY")
    enter(held, first[0], outcome=log.REACHED)
    assert not assessment.assess_clients(held).up_to_date
    assert (described(held)["state"], described(held)["held_out"]) == ("no_key", len(before) - 20)
    assert listed(held)[:19] == first[1:] and listed(held)[19] not in before
    assert arms(held) == before


def test_without_a_key_from_the_beginning_nobody_is_assigned(project, key, monkeypatch, caplog):
    monkeypatch.delenv("ATTRITION_EXPERIMENT_KEY")
    before = listed(project)
    config = reconfigure(project, **ON)
    assessment.assess_clients(config)
    assert listed(config) == before and not config.contact_log.exists()
    assert (described(config)["state"], described(config)["since"]) == ("no_key", None)
    assert "${ATTRITION_EXPERIMENT_KEY}, is not set" in caplog.text
    assert assessment.assess_clients(config).up_to_date


def test_switched_off_nobody_is_held_out_and_on_again_the_same_are(held):
    before, first, ranked = arms(held), listed(held), read_table(held.risk_scores)["client"]
    assessment.assess_clients(reconfigure(held, contact_capacity=20))
    assert listed(held) == ranked.head(20).tolist() and arms(held) == before
    assert described(held)["state"] == "off" and described(held)["units"]["control"]["open"]
    assessment.assess_clients(reconfigure(held, **ON | {"experiment": {"share": 0.01}}))
    assert (listed(held), arms(held)) == (first, before)
    assert described(held)["share"] == 0.01


def test_run_that_was_killed_after_the_assignment_is_completed_by_the_next(
    project, key, monkeypatch
):
    config = reconfigure(project, **ON)

    def die(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            assessment.assess_clients(config)
    before = assignments.read(config.contact_log)
    assert before[0] and described(config) is None
    assessment.assess_clients(config)
    assert assignments.read(config.contact_log) == before
    assert listed(config) == [c for c, arm in arms(config).items() if arm == "treated"]
    assert assessment.assess_clients(config).up_to_date


def test_outcomes_that_arrive_make_units_known_once_they_are_mature(held, monkeypatch):
    outcomes = make_rows(200, seed=5, prefix="now")
    monkeypatch.setattr(files, "utc_now", lambda: "2099-08-01T08:00:00Z")
    arrive(held, outcomes.head(100), "some.csv")
    monitoring.monitor_model(held)
    assessment.assess_clients(held)
    units = described(held)["units"]
    assert units["treated"]["known"] == units["control"]["known"] == 0, "half of the cohort is open"
    monkeypatch.setattr(files, "utc_now", lambda: "2099-08-02T08:00:00Z")
    arrive(held, outcomes.head(190), "most.csv")
    monitoring.monitor_model(held)
    assert not assessment.assess_clients(held).up_to_date
    units, own = described(held)["units"], arms(held)
    known = [own[c] for c in own.keys() & set(outcomes["corporation"][:190])]
    for arm in ("treated", "control"):
        assert (units[arm]["known"], units[arm]["lost"]) == (known.count(arm), 0)
    assert known.count("control") > 5


def test_exempt_clients_are_listed_and_names_that_nobody_has_are_counted(held, caplog):
    controls = [c for c, arm in arms(held).items() if arm == "control"]
    exempt = {"never_hold_out": {"clients": [*controls, "Nobody"]}, "share": 0.3}
    before = arms(held)
    assessment.assess_clients(reconfigure(held, **ON | {"experiment": exempt}))
    assert listed(held) == read_table(held.risk_scores)["client"].head(20).tolist()
    assert described(held)["held_out"] == 0 and {*controls} & {*listed(held)}
    assert arms(held) == before
    last = len(controls) + 1
    assert (
        f"1 of the {last} names in experiment.never_hold_out.clients belong to no current client, the "
        f"first is number {last};" in caplog.text
    )


def test_look_that_falls_due_is_taken_and_seen_by_the_next_assessment(held, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: NEXT_QUARTER)
    monitoring.monitor_model(held)
    assessment.assess_clients(held)
    look = described(held)["last_look"]
    assert (look["number"], look["verdict"], look["at"]) == (1, "open", NEXT_QUARTER)
    assert described(held)["next_look"]["number"] == 2
    assert assessment.assess_clients(held).up_to_date
    inputs = files.read_record(held.assessment_record)["inputs"]
    assert inputs["looks"] == log.newest(held.contact_log, "looks")


def test_client_who_was_assigned_otherwise_than_drawn_makes_the_verdict_void(
    project, key, monkeypatch
):
    first, draw_arm = listed(project)[0], experiment.draw_arm

    def faulty(key, client, *more):
        arm = draw_arm(key, client, *more)
        return {"treated": "control", "control": "treated"}[arm] if client == first else arm

    config = reconfigure(project, **ON)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "draw_arm", faulty)
        assessment.assess_clients(config)
    n = len(arms(config))
    checks = []
    for day, name in (("02", KEY), ("03", "replaced"), ("04", KEY)):
        monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", name)
        monkeypatch.setattr(files, "utc_now", lambda day=day: f"2099-07-{day}T08:00:00Z")
        assessment.assess_clients(config)
        draws = described(config)["draws"]
        checks.append((draws["recomputed"], draws["differ"], described(config)["verdict"]))
    assert checks == [(n, 1, "void"), (0, 0, "open"), (n, 1, "void")]
    number = [each.client for each in assignments.read(config.contact_log)[0]].index(first) + 1
    assert draws["first"] == number


def test_log_without_the_counted_assignments_is_damaged(held):
    held.contact_log.unlink()
    with pytest.raises(Damaged, match="is missing, and the last list counted .* assignments"):
        integrity.check_contact_log(held)


def test_whole_run_is_complete_with_an_experiment_and_again_if_one_is_assigned(
    small_project, monkeypatch
):
    monkeypatch.setenv("ATTRITION_EXPERIMENT_KEY", KEY)
    config = reconfigure(small_project, **ON)
    assert run_whole(config) == 0
    assert fullprocess.find_reason(config) is None
    (last, *_), _ = assignments.read(config.contact_log)
    assignments.append(config.contact_log, [last._replace(client="now199")])
    assert "the experiment has changed" in fullprocess.find_reason(config)
    assert run_whole(config) == 0
    assert fullprocess.find_reason(config) is None
    monkeypatch.delenv("ATTRITION_EXPERIMENT_KEY")
    assert fullprocess.find_reason(config)
