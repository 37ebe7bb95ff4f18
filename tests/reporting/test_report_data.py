import pytest

from attrition.contacts import log
from attrition.data.cells import Reason
from attrition.errors import Damaged
from attrition.operations import releases
from attrition.reporting.report_data import (
    ReportData,
    find_latest_events,
    light,
    load_report_data,
    read_contacts,
)
from attrition.storage import files, tables

NOW = "2026-03-02T12:00:00Z"


def test_a_project_that_never_ran_has_nothing_to_report(empty_project):
    data = load_report_data(empty_project)
    assert (data.release, data.training, data.contacts, data.warnings) == (None, {}, [], [])
    assert data.model == "no model in production yet"
    assert data.as_of == ""
    assert data.sets == {}


def test_all_that_the_steps_wrote_is_read(project):
    data = load_report_data(project)
    assert data.release == releases.current_id(project.production_folder)
    assert data.model == f"model: {data.training['kind']}, release {data.release}"
    assert data.training == files.read_record(project.training_record)
    assert data.assessment == files.read_record(project.assessment_record)
    assert len(data.contacts) == project.contact_capacity == data.capacity
    assert [row["action"] for row in data.deployments] == ["promoted"]
    assert list(data.sets) == ["unseen clients", "test data"]


@pytest.mark.parametrize("name", ["decision_record", "assessment_record", "diagnostics_record"])
def test_a_damaged_record_is_an_error_and_a_missing_one_is_empty(project, name):
    path = getattr(project, name)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Damaged, match=path.name):
        load_report_data(project)
    path.unlink()
    assert getattr(load_report_data(project), name.removesuffix("_record")) == {}


def test_the_time_is_that_of_the_newest_record():
    data = ReportData(training={"trained_at": NOW}, diagnostics={"diagnosed_at": "2026-01-01"})
    assert data.as_of == NOW
    assert data.now.day == 2


@pytest.mark.parametrize(("good_at", "is_overdue"), [("11:30", False), ("09:00", True)])
def test_a_good_run_too_long_before_the_report_is_a_warning(good_at, is_overdue):
    data = ReportData(decision={"decided_at": NOW}, good_at=f"2026-03-02T{good_at}:00Z")
    assert (data.overdue is not None) == is_overdue
    assert ("the last good run" in light(data).sentence.lower()) == is_overdue


def test_nothing_is_overdue_where_nothing_ran_well_or_nothing_has_a_time():
    assert ReportData(decision={"decided_at": NOW}).overdue is None
    assert ReportData(good_at=NOW).overdue is None


def test_each_warning_stands_once_and_ends_as_a_sentence():
    data = ReportData(
        training={"warnings": ["few rows"]},
        score={"warnings": ["few rows", "one class"]},
    )
    assert data.warnings == ["Few rows.", "One class."]


def test_the_drift_is_that_of_the_diagnosis_else_that_of_the_check_of_this_model():
    checked = {"release": "r", "drift": {"verdict": "moved"}}
    assert ReportData(release="r", monitoring=checked).drift == {"verdict": "moved"}
    assert ReportData(release="another", monitoring=checked).drift == {}
    assert ReportData(diagnostics={"drift": {"rows": 1}}, monitoring=checked).drift == {"rows": 1}


def test_sources_that_could_not_be_read_are_those_of_the_last_run_unless_named(project):
    record = files.read_record(project.last_run)
    lost = files.sealed({**record, "unavailable": ["crm: gone"]})
    files.write_bytes(project.last_run, files.encode(lost))
    assert load_report_data(project).unavailable == ("crm: gone",)
    assert load_report_data(project, ["b.csv"]).unavailable == ("b.csv",)
    project.last_run.write_bytes(b"damaged")
    assert load_report_data(project).unavailable == ()


def test_contacts_are_those_of_the_contact_list_in_its_order(project):
    listed = tables.parse_dicts(project.contact_list.read_bytes())
    contacts = read_contacts(project)
    assert [row["client"] for row in contacts] == [row["client"] for row in listed]
    assert all(isinstance(reason, Reason) for row in contacts for reason in row["reasons"])
    project.assessment_record.unlink()
    assert read_contacts(project) == []


def test_contacts_have_what_the_log_said_when_they_were_assessed(project):
    clients = [row["client"] for row in read_contacts(project)[:2]]
    entry = log.Entry(clients[0], "contact", "Ann", "will_stay", date="2026-03-05")
    log.append(project.contact_log, [entry], "2026-03-01T09:00:00Z")
    moved = log.Entry(clients[0], "reassignment", "Ann", manager="Bob", date="2026-04-01")
    log.append(project.contact_log, [moved], "2026-03-01T10:00:00Z")
    _, seal = log.read(project.contact_log)
    later = log.Entry(clients[1], "contact", "Ann", "will_leave")
    log.append(project.contact_log, [later], "2026-03-02T09:00:00Z")
    record = files.read_record(project.assessment_record)
    record |= {"day": "2026-03-02", "inputs": {"contacts": f"2 {seal}"}}
    files.write_bytes(project.assessment_record, files.encode(files.sealed(record)))
    first, second = read_contacts(project)[:2]
    assert (first["last_contact"], first["last_outcome"]) == ("2026-03-01", "will_stay")
    assert (first["follow_up"], first["manager"]) == ("2026-03-05", "Bob")
    assert "last_contact" not in second
    project.contact_log.unlink()
    with pytest.raises(Damaged, match=r"is missing, and the last list counted 2 entries"):
        read_contacts(project)


def test_contacts_that_do_not_match_their_hash_are_damaged(project):
    project.clients.write_bytes(b"damaged")
    with pytest.raises(Damaged, match=r"clients\.parquet"):
        read_contacts(project)


# ---- what last happened to production

A, B, C = (f"2026010{day}T000000Z-0000000{day}" for day in (1, 2, 3))
DEPLOYED = {"decided_at": "2026-01-02", "promoted": True, "rule": "proven_better"}
DEPLOYED |= {"reason": "deployed: proven better", "release": B}
NEWS = "; nothing newer is deployed until there is news"


def rows(*events):
    """Rows of the history, a day apart: first A was deployed, then B, then `events` happened."""
    all_events = [
        ("promoted", A, "first model deployed"),
        ("promoted", B, "deployed: proven better"),
    ]
    return [
        {
            "at": f"2026-01-0{i}",
            "made": str(i),
            "action": action,
            "release": release,
            "reason": reason,
        }
        for i, (action, release, reason) in enumerate([*all_events, *events], 1)
    ]


def rolled_back(to, origin):
    return "rolled back", to, f"by hand, from {origin}"


REFUSED = ("refused", A, "kept the champion: not proven better")
REPAIRED = ("repaired", A, "by --repair: the records of the candidate were damaged")
BY_HAND = f"rolled back by hand on 3 January 2026, 00:00 UTC, from {B} to {A}"


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([], ["deployed: proven better"]),
        ([rolled_back(A, B)], [BY_HAND + NEWS]),
        ([rolled_back(A, B), REPAIRED], [BY_HAND + NEWS]),
        ([rolled_back(A, B), REFUSED], [BY_HAND, REFUSED[2]]),
        ([rolled_back(A, B), REFUSED, ("promoted", C, "deployed: C")], ["deployed: C"]),
        ([REFUSED], [REFUSED[2]]),
        (
            [rolled_back(A, B), rolled_back(B, A)],
            [f"rolled forward by hand on 4 January 2026, 00:00 UTC, from {A} to {B}{NEWS}"],
        ),
        (
            [rolled_back(A, "None")],
            [f"rolled back by hand on 3 January 2026, 00:00 UTC, to {A}{NEWS}"],
        ),
        (
            [("rolled back", A, "by --repair: /secret/folder is damaged")],
            [
                f"rolled back by --repair on 3 January 2026, 00:00 UTC to {A}, the newest release "
                "that verified"
            ],
        ),
        (
            [("withdrawn", None, "by --repair: no release verifies")],
            ["withdrawn by --repair on 3 January 2026, 00:00 UTC, because no release verified"],
        ),
    ],
)
@pytest.mark.parametrize("decision", [DEPLOYED, {}])
def test_latest_events_are_the_rollback_and_the_decision_since(events, reasons, decision):
    found = find_latest_events(rows(*events), decision)
    assert [event["reason"] for event in found] == reasons
    assert all(event["promoted"] == event["reason"].startswith("deployed") for event in found)
    if found == [DEPLOYED]:
        assert decision


def test_decision_that_the_history_does_not_contain_is_the_latest_event():
    refused = {"decided_at": "2026-02-01", "reason": "kept the champion: late", "promoted": False}
    assert find_latest_events(rows(), refused) == [refused]
    assert find_latest_events([], refused) == [refused]
    assert find_latest_events([], {}) == []


def test_latest_change_names_the_time_once_and_whose_list_it_is():
    data = ReportData(release=A, deployments=rows(rolled_back(A, B)), decision=DEPLOYED)
    assert data.latest_change == f"R{BY_HAND[1:]}{NEWS}."
    data = ReportData(release=A, deployments=data.deployments, assessment={"release": B})
    assert data.latest_change.endswith(f"still those of release {B}: run fullprocess.py.")


def test_drift_of_another_release_is_not_shown():
    moved = {"release": B, "drift": {"verdict": "moved"}}
    assert ReportData(release=A, diagnostics=moved).drift == {}
    assert ReportData(release=B, diagnostics=moved).drift == {"verdict": "moved"}


@pytest.mark.parametrize(
    ("low", "title"),
    [(0.44, "As many clients leave as expected"), (0.71, "The model is still accurate")],
)
def test_model_that_does_not_rank_is_not_called_accurate(low, title):
    performance = {"verdict": "fine", "sentence": "x", "roc_auc": {"value": 0.7, "low": low}}
    monitoring = {"release": A, "performance": performance}
    data = ReportData(release=A, training={"kind": "scorecard"}, monitoring=monitoring)
    assert data.state.title == title


PORTFOLIO = {"clients": 10, "expected_to_leave": {"value": 4}, "estimate": {"rate": 0.4}}
PORTFOLIO |= {"value": 100.0, "value_at_risk": {"value": 40}, "list": {"clients": 10}}


@pytest.mark.parametrize(
    ("change", "number", "note"),
    [
        ({"without_value": 0}, "40", "of 100"),
        ({"without_value": 1}, "40", "of 100; 1 client without a value"),
        ({}, "40", "of 100"),  # the record of an earlier version
        ({"value_at_risk": None, "without_value": 10}, "–", "no current client has a value"),
        (
            {"value_at_risk": None, "without_value": None},
            "–",
            "config.json names no column for the value",
        ),
        ({"clients": 0, "value_at_risk": None, "without_value": 0}, "0", "no current client"),
    ],
)
def test_value_at_risk_names_the_clients_without_a_value(change, number, note):
    value = ReportData(assessment=PORTFOLIO | change).numbers[2]
    assert (value.value, value.note) == (number, note)


# ---- the traffic light

AREA = {"value": 0.84, "low": 0.81, "high": 0.87}
HEALTHY = {
    "release": A,
    "training": {"kind": "scorecard"},
    "score": {"sets": {"unseen": {"rows": 2_299, "candidate": {"roc_auc": AREA}}}},
    "monitoring": {
        "release": A,
        "performance": {"verdict": "fine", "sentence": "71 of 612 left", "roc_auc": AREA},
        "drift": {"verdict": "stable"},
    },
}

DRIFTED = {"verdict": "moved", "sentence": "data has drifted: age"}
LATE = {"good_at": "2026-01-01T00:00:00Z", "decision": {"decided_at": NOW}}


def judged(verdict="fine", **changes):
    """The traffic light of a healthy model, with another verdict on it or with other records."""
    performance = HEALTHY["monitoring"]["performance"] | {"verdict": verdict}
    monitoring = HEALTHY["monitoring"] | {"performance": performance} | changes.pop("also", {})
    damage = changes.pop("damage", ())
    return light(ReportData(**(HEALTHY | {"monitoring": monitoring} | changes)), damage=damage)


def test_green_light_names_its_evidence_and_every_check():
    assert judged() == (
        "green",
        "71 of 612 left. Data drift, runs, sources and files were also checked and are in order.",
        "",
    )
    unknown = judged(also={"drift": {"verdict": "insufficient"}})
    assert unknown.sentence.endswith("Runs, sources and files were also checked and are in order.")


def test_model_without_new_outcomes_is_judged_by_its_score():
    unchecked = judged(monitoring={})
    assert unchecked.colour == "green"
    assert "has not been checked against new outcomes yet. On 2,299 rows" in unchecked.sentence
    assert judged("insufficient").colour == "green"
    untested = judged("insufficient", score={})
    assert untested.colour == "amber"
    assert "too few outcomes to test it" in untested.sentence
    assert untested.action.startswith("Treat the order of the list with care")


@pytest.mark.parametrize(
    ("changes", "colour", "sentence", "action"),
    [
        ({"verdict": "degraded"}, "red", "71 of 612 left.", "proven better"),
        ({"training": {"kind": "base rate"}}, "amber", "does not rank clients", "more rows"),
        ({"release": None}, "amber", "No model is in production yet.", "run fullprocess.py"),
        ({"also": {"drift": DRIFTED}}, "amber", "Data has drifted: age.", "columns that drifted"),
        ({"unavailable": ["crm: gone"]}, "amber", "Could not be read: crm: gone.", "sources"),
        ({"unused": [{"source": "a.zip"}]}, "amber", "1 source not used: a.zip", "sources"),
        (
            {"also": {"suspicious": [{"sentence": "may.csv lies"}]}},
            "amber",
            "May.csv lies.",
            "source",
        ),
        (LATE, "amber", "The last good run ended", "crontab"),
        ({"damage": ["score.json is damaged"]}, "red", "Score.json is damaged.", "--repair"),
    ],
)
def test_light_that_is_not_green_explains_itself_and_what_to_do(changes, colour, sentence, action):
    result = judged(**changes)
    assert result.colour == colour
    assert sentence in result.sentence
    assert action in result.action


def test_model_that_ranks_no_better_than_chance_is_amber():
    performance = {"verdict": "fine", "sentence": "x", "roc_auc": {"value": 0.5, "low": 0.44}}
    assert judged(also={"performance": performance}).colour == "amber"


def test_worst_of_several_problems_gives_the_colour_and_all_are_named():
    result = judged("degraded", unavailable=["crm: gone"])
    assert result.colour == "red"
    assert "Could not be read: crm: gone." in result.sentence
    assert result.sentence.endswith(
        "Data drift, runs and files were also checked and are in order."
    )


# ---- what changed since the last list


def client(name, previous_rank=1, risk_change=0.0, **values):
    moved = {"client": name, "previous_rank": previous_rank, "risk_change": risk_change}
    return {"manager": None, "value": None} | moved | values


def test_changes_name_the_new_the_risen_and_the_gone_with_the_reason():
    contacts = [client("New", None, None), client("Up", 3, 0.1), client("Same", 2, 0.09)]
    contacts.append(client("Known", None, 0.2, last_contact="2026-01-05"))
    gone = [{"client": "Called", "why": "reached"}, {"client": "Also called", "why": "reached"}]
    gone.append({"client": "Late", "why": "past_due"})
    assessment = {"changes_since": "2026-02-01", "gone": gone}
    data = ReportData(assessment=assessment, contacts=contacts)
    assert data.changes[:-1] == [
        "1 new: New",
        "1 back: Known",
        "1 with a risk up by 10 points or more: Up",
        "2 gone (reached lately): Called, Also called",
        "1 gone (whose contract has ended): Late",
    ]


def test_first_list_has_nothing_to_compare_with():
    assert ReportData().changes == ["There is no list yet."]
    first = ReportData(assessment={"clients": 1}, contacts=[client("New", None, None)])
    assert first.changes[0] == "This is the first list."


def test_what_last_happened_to_the_model_is_the_last_of_the_changes():
    data = ReportData(
        release=B,
        assessment={"changes_since": "2026-01-01", "release": B},
        contacts=[client("Same")],
        deployments=rows(),
    )
    same = "The same clients are on the list as before."
    assert data.changes == [same, "Deployed: proven better. (2 January 2026, 00:00 UTC)"]


# ---- the team, and the runs of earlier days


def test_team_is_sorted_by_name_and_includes_who_has_nobody_listed():
    contacts = [client("a", manager="Bob", value=5.0), client("b", manager="Ann", value=None)]
    contacts += [client("c", manager="Bob", value=7.0), client("d")]
    work = [{"manager": "Cem", "listed": 0, "reached": 2}, {"manager": "Bob", "reached": 1}]
    data = ReportData(assessment={"team": work}, contacts=contacts)
    assert [(row["manager"], row["listed"], row["value"]) for row in data.team] == [
        ("Ann", 1, None),
        ("Bob", 2, 12.0),
        ("Cem", 0, None),
        ("", 1, None),
    ]
    assert [row.get("reached") for row in data.team] == [None, 1, 2, None]
    assert ReportData(contacts=[client("d")]).team == []


def test_runs_before_the_newest_are_counted_by_day():
    runs = [
        {"started_at": f"2026-03-0{day}T12:00:00Z", "outcome": outcome, "elapsed_s": 10.0}
        for day, outcome in ((1, "done"), (2, "failed"), (2, "done"), (2, "done"), (3, "done"))
    ]
    runs[1]["elapsed_s"] = None
    assert ReportData(worked_runs=runs).earlier_days(shown=2) == [
        {"day": "2026-03-02", "runs": 2, "outcomes": "1 done, 1 failed", "took": 10.0},
        {"day": "2026-03-01", "runs": 1, "outcomes": "1 done", "took": 10.0},
    ]
    assert ReportData(worked_runs=runs).earlier_days(shown=5) == []
