"""What a new assessment is compared with."""

import sqlite3
from contextlib import closing

import pytest

import assessment
from attrition.contacts import log
from attrition.data import clients
from attrition.storage import files, history
from tests.conftest import make_rows
from tests.support import arrive, enter, read_table


def test_list_of_the_same_day_is_compared_with_that_of_the_day_before(project, next_day):
    before = clients.ClientTable(project.clients).listed
    idle = make_rows(1, prefix="new").assign(lastmonth_activity=0, lastyear_activity=0, exited="")
    arrive(project, idle)
    assessment.assess_clients(project)
    earlier = project.earlier_clients.read_bytes()
    (gone,) = files.read_record(project.assessment_record)["gone"]
    assert gone == {"client": before[-1]["client"], "why": "no_place"}
    enter(project, before[3]["client"], outcome=log.REACHED)
    assert not assessment.assess_clients(project).up_to_date
    record = files.read_record(project.assessment_record)
    assert project.earlier_clients.read_bytes() == earlier
    assert record["changes_since"] == record["snapshots"][0]["date"] < next_day == record["day"]
    assert record["blocks"] == {"overdue": 0, "due": 0, "new": 1, "rest": 19}
    assert record["gone"] == [{"client": before[3]["client"], "why": "reached"}]
    assert record["resting"] == {"reached": 1}
    team = [(row["manager"], row["listed"], row["reached"]) for row in record["team"]]
    assert team == [("", 20, 0), ("Kim", 0, 1)]
    listed = {row["client"]: row for row in clients.ClientTable(project.clients).listed}
    assert listed["new0"]["previous_rank"] is None
    assert listed[before[0]["client"]]["previous_rank"] in (1, 2)
    assert read_table(project.contact_list)["client"].tolist() == list(listed)
    assert assessment.assess_clients(project).up_to_date


def test_installation_of_the_previous_version_goes_on(project, next_day):
    record = files.read_record(project.assessment_record)
    old_inputs = {
        key: value for key, value in record["inputs"].items() if key not in ("contacts", "day")
    }
    new = ("day", "snapshots", "gone", "changes_since", "earlier_release", "team", "overrides")
    old = {key: value for key, value in record.items() if key not in new}
    paths = (project.clients, project.risk_scores, project.contact_list)
    contents = {path: path.read_bytes() for path in paths}
    project.risk_history.unlink()
    files.commit(project.assessment_record, contents, old | {"inputs": old_inputs})
    with closing(sqlite3.connect(project.history)) as connection:
        connection.execute("DROP TABLE listings")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    runs = history.read_runs(project.history)
    assert history.read_listings(project.history) == []
    history.check(project.history)
    assessment.assess_clients(project)
    record = files.read_record(project.assessment_record)
    assert [one["date"] for one in record["snapshots"]] == [old["assessed_at"][:10]]
    assert record["changes_since"] == old["assessed_at"][:10]
    assert history.read_runs(project.history) == runs
    assert history.read_listings(project.history) == [], "everybody was on the list before"
    enter(project, read_table(project.contact_list)["client"][0], outcome=log.REACHED)
    assessment.assess_clients(project)
    assert len(history.read_listings(project.history)) == 2


@pytest.mark.parametrize("text", ["", "garbled", "client,rank,risk\na,x,y"])
def test_a_file_that_a_person_changed_is_made_again(project, text, caplog):
    before = project.risk_scores.read_bytes()
    project.risk_scores.write_text(text)
    project.clients.write_text(text)
    assessment.assess_clients(project)
    assert project.risk_scores.read_bytes() == before
    assert "clients.parquet" in caplog.text
