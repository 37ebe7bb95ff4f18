"""The answers of /health."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime

from app import create_app
from attrition.storage import files, history
from tests.conftest import damage, run_whole


def health_of(config):
    return create_app(config).test_client().get("/health").json


def test_health_lists_damage_and_a_failed_run(client, project):
    assert client.get("/health").json["warnings"] == []
    damage(project.diagnostics_record)
    run = {"run": "z", "started_at": "2999-01-01T00:00:00Z", "ended_at": "2999-01-01T00:00:01Z"}
    history.save(project.history, "runs", [run | {"outcome": "failed", "reason": "no disk"}])
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert len(answer.json["warnings"]) == 2


def test_health_and_the_page_stand_without_a_readable_history(client, project):
    project.history.write_bytes(b"no database at all" * 100)
    assert "the history cannot be read" in client.get("/health").json["warnings"]
    assert "The history cannot be read" in client.get("/").text


def test_health_complains_when_no_good_run_was_seen_for_long(project):
    run_whole(project)
    assert health_of(project)["complaints"] == []
    hours_ago = time.time() - 3 * 3600
    os.utime(project.last_run, (hours_ago, hours_ago))
    answer = health_of(project)
    assert (answer["status"], answer["complaints"]) == ("degraded", ["overdue"])
    assert "the last good run ended 3 hours ago" in answer["warnings"][0]
    assert 3 * 3600 <= answer["last_good_run_age_s"] < 4 * 3600


def test_health_counts_the_runs_of_the_last_day(project):
    now = datetime.now(UTC).strftime(files.TIME)
    for i, outcome in enumerate(["skipped", "skipped", "failed", "died", "done"]):
        row = {"run": f"z{i}", "started_at": now, "ended_at": now, "outcome": outcome}
        history.save(project.history, "runs", [row])
    old = {"run": "old", "started_at": "2020-01-01T00:00:00Z", "outcome": "skipped"}
    history.save(project.history, "runs", [old])
    answer = health_of(project)
    assert answer["runs_of_last_day"] == {"skipped": 2, "failed": 1, "died": 1, "unavailable": 0}
    assert answer["complaints"] == []
    page = create_app(project).test_client().get("/system").text
    assert "2 runs skipped, 1 run failed, 1 run died" in page


# ---- /ready


def test_app_with_a_model_and_a_recent_good_run_is_ready(client, project):
    answer = client.get("/ready")
    release = project.current.readlink().name
    assert (answer.status_code, answer.json["model"]) == (200, release)
    assert answer.json["status"] == "ready"


def refused(config):
    answer = create_app(config).test_client().get("/ready")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    return answer.json


def test_app_is_not_ready_before_the_first_model(empty_project):
    assert refused(empty_project)["code"] == "no_model"


def test_app_is_not_ready_if_the_last_good_run_is_overdue(project):
    hours_ago = time.time() - 3 * 3600
    os.utime(project.last_run, (hours_ago, hours_ago))
    answer = refused(project)
    assert answer["code"] == "overdue"
    assert "the last good run ended 3 hours ago" in answer["error"]
    assert create_app(project).test_client().get("/health").status_code == 200


def test_app_is_not_ready_if_no_release_verifies(project):
    damage(project.current / "training.json")
    assert refused(project)["code"] == "damaged"


def test_model_of_other_columns_is_a_complaint_and_not_ready(project):
    columns = replace(project.columns, numeric=project.columns.numeric[1:])
    client = create_app(replace(project, columns=columns)).test_client()
    assert "other_columns" in client.get("/health").json["complaints"]
    answer = client.get("/ready")
    assert (answer.status_code, answer.json["code"]) == (503, "other_columns")
