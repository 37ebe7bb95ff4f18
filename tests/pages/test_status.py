"""The pages about the model, the data and the system, and the frame of every page."""

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app import create_app
from attrition.config import Label
from attrition.effect import breakeven
from attrition.operations import releases
from attrition.pages import status
from attrition.storage import files, history
from tests.apps import deploy_again
from tests.conftest import damage

PATHS = ("/model", "/data", "/system")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"


def state_of(config):
    return create_app(config).extensions["attrition"]


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def plant(config, table, *rows):
    """Save rows in the history, each with a key of its own."""
    keys = {"runs": "run"}
    named = [{keys.get(table, "made"): str(i), **row} for i, row in enumerate(rows)]
    history.save(config.history, table, named)


@pytest.mark.parametrize("path", PATHS)
def test_page_marks_itself_in_the_navigation_and_has_nothing_inline(client, path):
    page = client.get(path).text
    (current,) = re.findall(r'<a href="([^"]*)" aria-current="page"', page)
    assert current == path
    assert not re.search(r"<script>|<style|\sstyle=|https?://|\son\w+=", page)
    assert 'role="alert"' not in page


@pytest.mark.parametrize("path", PATHS)
def test_page_of_an_empty_project_has_no_alert(empty_project, path):
    answer = create_app(empty_project).test_client().get(path)
    assert answer.status_code == 200
    assert 'role="alert"' not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_page_stands_on_a_model_alone(client, project, path):
    shutil.rmtree(project.reports_folder)
    shutil.rmtree(project.output_folder)
    project.monitoring_record.unlink()
    project.history.unlink()
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "file",
    [
        *("monitoring_record", "assessment_record", "diagnostics_record", "report_record"),
        *("ingestion_record", "last_run"),
    ],
)
def test_every_page_names_the_damaged_record(client, project, file):
    path = getattr(project, file)
    damage(path)
    for page in PATHS:
        answer = client.get(page)
        assert answer.status_code == 200
        assert f"The file {path.name} is damaged" in answer.text, page


def test_every_page_stands_without_a_readable_history(client, project):
    project.history.write_bytes(b"no database at all" * 100)
    for page in PATHS:
        assert "The history cannot be read." in client.get(page).text


@pytest.mark.parametrize("file", ["ingested_files", "rejected"])
def test_damaged_account_of_ingestion_is_named_and_not_shown(client, project, file):
    path = getattr(project, file)
    path.write_text("a,b\n<b>,2\n")
    page = client.get("/data").text
    assert f"The file {path.name} is damaged" in page
    assert f"There is nothing to show: {path.name} cannot be read" in page
    assert "No row has been refused" not in page or file == "ingested_files"


# ---- the model


def test_model_page_shows_the_numbers_of_the_records(client, project):
    page = text_of(client.get("/model").text)
    record = files.read_record(project.assessment_record)
    release = releases.read_current(project.production_folder)
    assert release.id in page
    assert f"{release.training['rows']:,} rows" in page
    assert f"{record['expected_to_leave']['value']:,.0f}" in page
    assert "python deployment.py --rollback [RELEASE]" in page


def test_state_of_the_model_is_the_traffic_light_of_the_report(client, project):
    state, now = state_of(project), datetime.now(UTC)
    described = status.model_context(state, now)["state"]
    assert (described["colour"], described["tone"], described["action"]) == ("green", "good", "")
    late = status.model_context(state, now + timedelta(hours=3))["state"]
    assert (late["colour"], late["action"][:18]) == ("amber", "Check the crontab,")
    damage(project.diagnostics_record)
    broken = status.model_context(state, now)["state"]
    assert broken["colour"] == "red"
    assert "The file diagnostics.json is damaged" in broken["sentence"]
    assert '<span class="badge bad">red</span>' in client.get("/model").text


def test_decisions_are_in_words_the_newest_first(project):
    first = releases.current_id(project.production_folder)
    second = deploy_again(project)
    plant(
        project,
        "deployments",
        {"at": "2031-01-01T00:00:00Z", "action": "refused", "reason": "kept: not better"},
        {"at": "2031-01-02T00:00:00Z", "action": "repaired", "reason": "a link was repaired"},
        {"at": "2031-01-03T00:00:00Z", "action": "rolled back", "release": first}
        | {"reason": f"by hand, from {second}"},
    )
    context = status.model_context(state_of(project), NOW)
    sentences = [event["sentence"] for event in context["events"]]
    by_hand = f"3 January 2031, 00:00 UTC, from {second} to {first}"
    assert sentences == [
        f"Rolled back by hand on {by_hand}; nothing newer is deployed until there is news.",
        "Kept: not better.",
        "First model deployed (none was in production).",
    ]
    assert [(one["id"], one["is_served"], one["is_next"]) for one in context["releases"]] == [
        (second, True, False),
        (first, False, True),
    ]


def test_decision_that_the_history_lacks_is_shown(project):
    project.history.unlink()
    events = status.model_context(state_of(project), NOW)["events"]
    assert [event["sentence"] for event in events] == [
        "First model deployed (none was in production)."
    ]


def test_accuracy_of_past_estimates_counts_the_covered_outcomes(project):
    def check(realised):
        limits = {"low": 90.0, "high": 110.0, "realised": realised}
        return {"at": "2026-01-01T00:00:00Z", "figure": "expected", "estimated": 100.0, **limits}

    plant(project, "estimates", check(95.0), check(130.0))
    rows = status.model_context(state_of(project), NOW)["accuracy"]
    assert rows == [["clients who leave", "1 of 2", "18", "100 (90 to 110)", "130"]]


def test_break_even_is_described_or_the_keys_that_it_needs(client, project):
    assert "Set contact_cost and contact_success in config.json" in client.get("/model").text
    risk, value = np.array([0.5, 0.2]), np.array([1000.0, 1000.0])
    record = files.read_record(project.assessment_record)
    record["break_even"] = breakeven.break_even(risk, value, cost=50.0, success=0.2)
    files.write_bytes(project.assessment_record, files.encode(files.sealed(record)))
    page = client.get("/model").text
    assert "so it pays from EUR 250 at risk. That is the case for 1 of 2 clients" in page
    assert "Set contact_cost" not in page


# ---- the data


def test_ingestions_are_newest_first_and_refusals_are_counted(client, project):
    record = files.read_record(project.ingestion_record)
    names = record["outputs"]
    contents = {
        project.output_folder / name: (project.output_folder / name).read_bytes() for name in names
    }
    line = f"2031-01-01T00:00:00Z,{HOSTILE}.csv,{'0' * 64},9,6,3,0,accepted,\n"
    contents[project.ingested_files] += line.encode()
    rows = [
        f"2031-01-01T00:00:00Z,a.csv,{i},{code}: of '{HOSTILE}',x{i}\n"
        for i, code in enumerate(("BAD_TIME", "OUT_OF_RANGE", "OUT_OF_RANGE"), 2)
    ]
    contents[project.rejected] += "".join(rows).encode()
    files.commit(project.ingestion_record, contents, record)
    state = state_of(project)
    context = status.data_context(state)
    assert context["lines"][0]["source"] == f"{HOSTILE}.csv"
    counted = [(one.code, one.rows, one.source, one.line, one.raw) for one in context["refusals"]]
    assert counted == [("OUT_OF_RANGE", 2, "a.csv", "4", "x4"), ("BAD_TIME", 1, "a.csv", "2", "x2")]
    page = client.get("/data").text
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;.csv") == 1
    assert page.index("<summary>Reason and row") < page.index("x4</pre>")


def test_label_of_a_column_is_escaped(project):
    labels = {"lastmonth_activity": Label("lastmonth_activity", HOSTILE)}
    client = create_app(replace(project, labels=labels)).test_client()
    for path in ("/model", "/data"):
        page = client.get(path).text
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page


def test_columns_are_shown_over_time_the_most_drifted_first(project):
    at = "2031-01-01T00:00:00Z"
    plant(
        project,
        "drift",
        *({"at": at, "column": "number_of_employees", "psi": psi} for psi in (0.05, 0.2)),
    )
    plant(project, "missing", {"at": at, "column": "number_of_employees", "missing_pct": 4.0})
    rows = {row["name"]: row for row in status.data_context(state_of(project))["columns"]}
    row = rows["number_of_employees"]
    assert row["psi_over_time"].count(",") == 3  # one of the run, two planted
    assert row["missing_over_time"].count(",") == 2
    assert row["verdict"] == "stable"
    sizes = [row["psi"] or 0.0 for row in rows.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_cohort_has_a_share_of_leavers_only_if_it_is_mature():
    cohort = {"name": "May", "rows": 200, "known": 50, "left": 30, "mature": False}
    young = status.describe_cohort({**cohort, "matures_at": "2026-07-01T00:00:00Z"})
    assert (young["left_share"], young["share_known"]) == (None, 0.25)
    assert young["state"] == "judged from 2026-07-01"
    undated = status.describe_cohort({**cohort, "matures_at": None})
    assert undated["state"] == "not complete yet, not used"
    mature = status.describe_cohort({**cohort, "mature": True, "matures_at": None})
    assert (mature["left_share"], mature["state"]) == (0.6, "complete")


# ---- the system


def test_system_page_lists_runs_and_problems(client, project):
    run = {"started_at": "2031-01-01T00:00:00Z", "ended_at": "2031-01-01T00:00:09Z"}
    failed = run | {"elapsed_s": 9.0, "outcome": "failed", "reason": f"no disk {HOSTILE}"}
    assert "Everything is in order" in client.get("/system").text
    plant(project, "runs", failed)
    page = client.get("/system").text
    assert "1 problem to look at" in page
    assert "The last run failed; see its log." in page
    assert "no disk &lt;script&gt;" in page
    context = status.system_context(state_of(project), NOW)
    assert [row["outcome"] for row in context["runs"]] == ["failed", "done"]


def test_overdue_run_is_a_problem(project):
    later = datetime.now(UTC) + timedelta(hours=3)
    problems = status.describe_problems(state_of(project), later)
    assert problems == [
        "The last good run ended 3 hours ago, expected one every 60 minutes; is cron running?"
    ]


@pytest.mark.parametrize(
    ("durations", "last", "median", "trend"),
    [
        ([10.0, 10.0, 10.0, 10.0, 10.0, 15.0], "15.0 s", "10.0 s", "50 % longer"),
        ([90.0, 10.0, 10.0, 10.0, 20.0, 20.0, 15.0], "15.0 s", "10.0 s", "50 % longer"),
        ([8.0, 10.0, 12.0, 15.0], "15.0 s", "10.0 s", "too few runs to compare"),
        ([15.0], "15.0 s", "–", ""),
    ],
)
def test_step_is_compared_with_the_median_beside_it(
    project, monkeypatch, durations, last, median, trend
):
    rows = [
        {"started_at": "2031-01-01T00:00:00Z", "elapsed_s": seconds, "outcome": "done"}
        for seconds in durations
    ]
    monkeypatch.setattr(history, "read_steps", lambda *_: rows)
    step = status.describe_step(state_of(project), "training")
    assert (step["last"], step["median"], step["trend"]) == (last, median, trend)


def test_history_is_read_again_only_after_a_transaction(project, monkeypatch):
    state = state_of(project)
    first = state.read_history(history.read_runs, 300)
    assert state.read_history(history.read_runs, 300) is first
    plant(project, "runs", {"started_at": "2031-01-01T00:00:00Z", "outcome": "done"})
    assert len(state.read_history(history.read_runs, 300)) == len(first) + 1
