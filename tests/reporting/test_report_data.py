import pytest

from attrition.data.cells import Reason
from attrition.errors import Damaged
from attrition.operations import releases
from attrition.reporting.report_data import ReportData, load_report_data, read_contacts
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
