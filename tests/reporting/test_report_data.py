import pytest

from attrition.data.cells import Reason
from attrition.errors import Damaged
from attrition.operations import releases
from attrition.reporting.report_data import (
    ReportData,
    find_latest_events,
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
    assert any("last good run" in warning for warning in data.warnings) == is_overdue


def test_nothing_is_overdue_where_nothing_ran_well_or_nothing_has_a_time():
    assert ReportData(decision={"decided_at": NOW}).overdue is None
    assert ReportData(good_at=NOW).overdue is None


def test_each_warning_stands_once_and_ends_as_a_sentence():
    data = ReportData(
        training={"warnings": ["few rows"]},
        score={"warnings": ["few rows", "one class"]},
        unavailable=["crm: no such table"],
    )
    assert data.warnings == [
        "Could not be read: crm: no such table.",
        "Few rows.",
        "One class.",
    ]


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
