"""The counts of requests, and what /metrics answers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from attrition.contacts.log import Entry
from attrition.messages import causes
from attrition.operations import metrics as figures
from attrition.operations import runs
from attrition.web import metrics
from tests.apps import enter
from tests.conftest import ROOT, damage

COUNT = "attrition_http_requests_total"
SECONDS = "attrition_http_request_duration_seconds"
ALERTS = (ROOT / "examples" / "service" / "alerts.yml").read_text(encoding="utf-8")


def scrape(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


def value(families, name, **labels):
    """The value of the sample with these labels; None if there is none."""
    found = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else None


# ---- requests


def test_requests_are_counted_by_view_method_and_class_of_status(client):
    for address in (
        "/clients?limit=1",
        "/clients?limit=x",
        "/clients/now1",
        "/clients/now2",
        "/no",
    ):
        client.get(address)
    families = scrape(client)
    for view, status, times in (
        *(("list_clients", "2xx", 1), ("list_clients", "4xx", 1), ("show_client", "2xx", 2)),
        ("other", "4xx", 1),
    ):
        labels = {"view": view, "method": "GET", "status": status}
        assert value(families, COUNT, **labels) == times
        assert value(families, f"{SECONDS}_count", **labels) == times
        assert value(families, f"{SECONDS}_bucket", le="10.0", **labels) == times
        assert 0 < value(families, f"{SECONDS}_sum", **labels) < 10


def test_labels_stay_few_whatever_a_client_sends(client):
    for i in range(20):
        client.open(f"/{i}", method=f"WORD{i}")
    families = scrape(client)
    assert value(families, COUNT, view="other", method="other", status="4xx") == 20
    assert len([each for family in families for each in family.samples if each.name == COUNT]) == 1


DEATHS = """
import os, random, signal, sys
from attrition.web import metrics
folder = sys.argv[1]
os.environ[metrics.FOLDER] = folder
labels = dict(view="v", method="GET", status="2xx")
random.seed(1)
acked, before = 0, 0.0
for i in range(50):
    os.environ[metrics.SLOT] = str(i % 2)
    read, write = os.pipe()
    if not (child := os.fork()):
        requests = metrics.Requests()
        while True:
            requests.record("v", "GET", 200, 0.003)
            os.write(write, b"x")
    os.close(write)
    wanted = random.randint(0, 300)  # 0: it may die while it begins its files
    while wanted > 0:
        wanted -= len(data := os.read(read, wanted))
        acked += len(data)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while data := os.read(read, 65536):
        acked += len(data)
    os.close(read)
    families = metrics.read_files(folder)
    count = sum(s.value for f in families for s in f.samples if s.name.endswith("requests_total"))
    seconds = [s.value for f in families for s in f.samples if s.name.endswith("seconds_count")]
    assert before <= count and acked <= count <= acked + i + 1, (before, acked, count, i)
    assert not seconds or acked <= seconds[0] <= acked + i + 1, (acked, seconds, i)
    before = count
print(acked, *sorted(os.listdir(folder)))
"""


def test_50_killed_workers_leave_the_files_of_two_slots_and_lose_no_count(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DEATHS, tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    acked, *names = done.stdout.split()
    assert int(acked) > 1000
    assert names == ["counter_0.db", "counter_1.db", "histogram_0.db", "histogram_1.db"]


def test_counts_of_other_workers_are_added(project, tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setattr(metrics.values, "ValueClass", metrics.values.ValueClass)
    clients = []
    for slot in "01":
        monkeypatch.setenv(metrics.SLOT, slot)
        clients.append(create_app(project).test_client())
        clients[-1].get("/scoring")
    families = scrape(clients[0])
    assert value(families, COUNT, view="scoring", method="GET", status="2xx") == 2


def test_counts_that_cannot_be_read_do_not_break_the_scrape(project, tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setenv(metrics.SLOT, "0")
    monkeypatch.setattr(metrics.values, "ValueClass", metrics.values.ValueClass)
    client = create_app(project).test_client()
    (tmp_path / "counter_7.db").write_bytes(b"")
    families = scrape(client)
    assert value(families, "attrition_record_readable", record="requests") == 0
    assert value(families, "attrition_clients") == 200


# ---- records


def test_metrics_follow_the_records_the_log_and_the_disk(client, project):
    enter(project, Entry("now1", "contact", "Ann", "reached"))
    families = scrape(client)
    assert value(families, "attrition_clients") == 200
    assert value(families, "attrition_contact_log_entries") == 1
    assert value(families, "attrition_ready") == 1
    assert value(families, "attrition_complaints", code="overdue") == 0
    assert value(families, "attrition_last_good_run_timestamp_seconds") == int(
        project.last_run.stat().st_mtime
    )
    free = value(families, "attrition_disk_free_bytes", folder="reports")
    assert 0 < free < value(families, "attrition_disk_size_bytes", folder="reports")
    assert value(families, "attrition_state_bytes", folder="reports") > 10_000


def test_every_declared_metric_is_there_unless_it_needs_the_value_of_clients(client):
    names = {family.name for family in scrape(client)}
    declared = {f"attrition_{gauge.name}" for gauge in figures.GAUGES}
    assert declared - names == {"attrition_value_at_risk", "attrition_listed_value_at_risk"}


def test_value_at_risk_is_there_if_clients_have_a_value(odd_client):
    families = scrape(odd_client)
    total = value(families, "attrition_value_at_risk")
    assert 0 < value(families, "attrition_listed_value_at_risk") <= total


def test_one_broken_record_does_not_break_the_scrape(client, project):
    damage(project.monitoring_record)
    families = scrape(client)
    assert value(families, "attrition_record_readable", record="monitoring") == 0
    assert value(families, "attrition_record_readable", record="assessment") == 1
    assert value(families, "attrition_model_performance", verdict="fine") is None
    assert value(families, "attrition_complaints", code="damaged") == 1


def test_metrics_of_an_installation_before_its_first_run(empty_project):
    families = scrape(create_app(empty_project).test_client())
    assert value(families, "attrition_ready") == 0
    assert value(families, "attrition_complaints", code="no_model") == 1
    assert value(families, "attrition_clients") is None
    assert value(families, "attrition_release_verified") is None


def test_release_that_does_not_verify_is_visible(project):
    damage(project.current / "training.json")
    families = scrape(create_app(project).test_client())
    assert value(families, "attrition_release_verified") == 0
    assert value(families, "attrition_release_info") is None


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x;escaping=\x7f", "*/*"])
def test_format_is_text_unless_openmetrics_is_asked_for(client, accept):
    answer = client.get("/metrics", headers={"Accept": accept})
    is_open = accept != "*/*"
    assert answer.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0" if is_open else "text/plain; version=0.0.4"
    )
    assert answer.text.endswith("# EOF\n") == is_open


def test_metrics_name_no_client_and_no_path(client, project):
    client.get("/clients/now1")
    text = client.get("/metrics").text.replace("`/health`", "").replace("`/ready`", "")
    assert not re.search(r"now\d|corporation|/", text)


# ---- alerts


def test_alerts_use_only_metrics_and_labels_that_exist():
    expressions = re.findall(r"^ +expr: (?:>-\n)?(.*(?:\n {10}\S.*)*)", ALERTS, re.MULTILINE)
    assert len(expressions) == ALERTS.count("- alert:") > 10
    labels = {f"attrition_{gauge.name}": {gauge.label} for gauge in figures.GAUGES}
    labels |= {name: set(metrics.LABELS) for name in (COUNT, f"{SECONDS}_bucket")}
    labels |= {"up": {"job"}, "node_textfile_mtime_seconds": {"file"}}
    for expression in expressions:
        used = re.findall(r"\b(attrition_\w+|up|node_\w+)\b(?:\{(.*?)\})?", expression)
        assert used, expression
        for name, selector in used:
            assert set(re.findall(r"(\w+)(?:=|!)", selector)) <= labels[name], expression


def test_values_of_labels_in_alerts_exist():
    known = {*figures.OUTCOMES, *figures.VERDICTS, *figures.EXTENTS, *causes.CODES}
    known |= {"5xx", "ready", "attrition"}
    for selector in re.findall(r"\b(?:attrition_\w+|up)\{(.*?)\}", ALERTS):
        for text in re.findall(r'"(.*?)"', selector):
            assert set(text.split("|")) <= known, text


def test_every_complaint_is_counted_before_it_first_occurs():
    text = "".join(
        Path(each.__file__).read_text("utf-8") for each in (causes, runs, metrics.health)
    )
    given = re.findall(r'Complaint\(\s*"(\w+)"', text)
    assert {*given} <= {*causes.CODES} and len(given) > 8


def test_each_alert_has_a_runbook_that_names_a_section_of_the_docs():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    titles = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    runbooks = re.findall(r'runbook: ".*docs/operations\.md#([\w-]+)', ALERTS)
    assert len(runbooks) == ALERTS.count("- alert:")
    assert set(runbooks) <= anchors
