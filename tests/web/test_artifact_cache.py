"""Files that change or are damaged while the app runs."""

from typing import Any

import pytest

from attrition.contacts import log
from attrition.storage import files, tables
from attrition.web.artifact_cache import ArtifactCache, State
from tests.apps import rewrite
from tests.conftest import damage, write_config
from tests.segments import DATED, deliver, find_segments, row

NOBODY: Any = None


def test_replaced_clients_are_read_again(client, project):
    first = client.get("/clients?limit=1").json["clients"][0]
    rewrite(project, lambda table: table.assign(manager="New"))
    again = client.get("/clients?limit=1").json["clients"][0]
    assert (first["manager"], again["manager"]) == (None, "New")


def test_assessment_without_the_table_of_clients_is_503(client, project):
    contents = {path: path.read_bytes() for path in (project.risk_scores, project.contact_list)}
    record = files.read_record(project.assessment_record)
    files.commit(project.assessment_record, contents, record)
    answer = client.get("/clients")
    assert (answer.status_code, answer.json["code"]) == (503, "not_ready")
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("clients", "/clients"),
        ("clients", "/clients/now1"),
        ("clients", "/contactlist.csv"),
        ("assessment_record", "/clients"),
        ("diagnostics_record", "/summarystats"),
        ("diagnostics_record", "/diagnostics"),
        ("report_record", "/report.pdf"),
        ("report", "/report.pdf"),
        ("decision_record", "/scoring"),
    ],
)
def test_damaged_file_is_503_never_500_and_the_page_stands(client, project, file, path):
    damage(getattr(project, file))
    answer = client.get(path)
    if file == "decision_record":
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json["code"]) == (503, "damaged")
    assert "Retry-After" in answer.headers
    assert client.get("/").status_code == 200


def test_missing_file_of_a_record_is_503(client, project):
    project.figure("roc").unlink()
    assert client.get("/figures/roc.png").status_code == 503


def test_timeline_of_a_client_has_all_that_can_be_read(client, project):
    state = client.application.extensions["attrition"]
    work, _ = state.worklist(files.utc_now())
    (row,) = work.rows(work.listed.rows[:1])
    entry = log.Entry(client=row["client"], kind=log.CONTACT, by="Kim", outcome=log.REACHED)
    log.append(project.contact_log, [entry], files.utc_now())
    events = {event.kind: event for event in state.timeline(row["client"], work.day)}
    assert events.keys() == {"entry", "listing", "assessment", "observation"}
    assert (events["entry"].who, events["entry"].is_counted) == ("Kim", True)
    assert events["observation"].source == "current.csv"
    (risk,) = state.risk_history(row["client"])
    assert (risk.date, risk.risk) == (state.assessment()["day"], round(row["risk"], 4))
    damage(project.risk_history)
    project.history.write_bytes(b"no history" * 1_000)
    events = state.timeline(row["client"], work.day)
    assert {event.kind for event in events} == {"entry", "observation"}
    assert client.get(f"/client/{row['client']}").status_code == 200
    assert state.timeline("nobody", work.day) == []


def test_client_is_found_while_a_run_replaces_the_row(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    config = write_config(tmp_path, columns=DATED)
    deliver(config, "a", [row(i) for i in range(40)])
    listed = iter([lambda: deliver(config, "b", [row(3, "1")])])
    monkeypatch.setattr(ArtifactCache, "discard", lambda *_, **__: next(listed, tuple)())
    state = State(config, ArtifactCache(), NOBODY, NOBODY)
    assert [each.churned for each in state.observations("c3")] == [True]
    assert len(find_segments(config)) == 2
