"""Calling a running app, and the error if none runs."""

import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import apicalls
from attrition import config_file
from attrition.config import Api
from attrition.errors import AttritionError
from tests.conftest import ROOT, TOKEN, damage, served, write_config

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def running(finished_folder, tmp_path_factory):
    """A project and the address of the app that serves it."""
    folder = tmp_path_factory.mktemp("called") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    with served(config, "--workers", "1") as (port, _):
        yield config, f"http://127.0.0.1:{port}"


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "apicalls.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)


def test_every_endpoint_is_called_and_every_answer_kept(running):
    config, url = running
    answers = apicalls.call_api(config, url)
    assert answers.failed == []
    assert {call.path.split("?")[0] for call in answers.calls} >= {
        "/",
        "/clients",
        "/contactlist.csv",
        "/diagnostics",
        "/docs",
        "/figures/roc.png",
        "/health",
        "/list.csv",
        "/list.xlsx",
        "/metrics",
        "/modelcard.md",
        "/openapi.json",
        "/prediction",
        "/ready",
        "/report.pdf",
        "/scoring",
        "/summarystats",
    }
    text = config.api_returns.read_text(encoding="utf-8")
    assert all(f"\n{call.method} {call.path}\n" in text for call in answers.calls)
    assert '"predictions": [' in text
    assert "roc_auc" in text


def test_script_prints_a_line_an_endpoint(running):
    config, url = running
    ended = run("--config", str(config.file), "--url", url)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert all(line.startswith("200 ") for line in lines[:-1])
    assert lines[-1].endswith("all succeeded")
    assert max(map(len, lines)) < 170
    metrics = next(line for line in lines if line.split()[4] == "/metrics")
    assert int(metrics.split()[5].replace(",", "")) > 100


@pytest.mark.slow
def test_failed_answer_fails_the_script_and_is_written(running):
    config, url = running
    kept = config.diagnostics_record.read_bytes()
    damage(config.diagnostics_record)
    ended = run("--config", str(config.file), "--url", url)
    config.diagnostics_record.write_bytes(kept)
    assert ended.returncode == 1
    assert "2 failed: GET /summarystats: the file diagnostics.json is damaged" in ended.stdout
    assert '"code": "damaged"' in config.api_returns.read_text(encoding="utf-8")


def test_app_that_does_not_run_is_reported_with_how_to_start_it(project):
    ended = run("--config", str(project.file), "--url", NOBODY)
    assert ended.returncode == 1
    assert "start the app with python app.py" in ended.stderr
    assert apicalls.find_app(project, NOBODY) is None
    assert not project.api_returns.exists()


def test_app_of_another_project_is_not_called(running, tmp_path):
    _, url = running
    other = write_config(tmp_path)
    with pytest.raises(AttritionError, match="another project answers at http"):
        apicalls.call_api(other, url)
    assert not other.api_returns.exists()


def test_json_is_kept_readable():
    rows = [{"client": f"client {i}", "risk": 0.123456} for i in range(4)]
    text = apicalls.readable({"predictions": rows})
    assert json.loads(text) == {"predictions": rows}
    assert len(text.splitlines()) == 8


def test_forms_of_a_prediction_agree(running):
    config, url = running
    calls = apicalls.call_api(config, url).calls
    forms = [call.value for call in calls if call.path.startswith("/prediction") and call.value]
    risks = [[row["risk"] for row in value["predictions"]] for value in forms[:3]]
    assert len(risks[0]) == 2
    assert risks[0] == pytest.approx(risks[1], abs=1e-12) == risks[2]
    assert "reasons" in forms[1]["predictions"][0]


def test_long_answers_are_shortened_with_a_count(running):
    config, url = running
    apicalls.call_api(config, url)
    text = config.api_returns.read_text(encoding="utf-8")
    assert '"... 297 more"' in text  # of the 300 rows of the test data
    assert re.search(r"^\.\.\. \d+ more lines$", text, re.MULTILINE)
    assert re.search(r"GET /report\.pdf\n200, \d+ ms, [\d,]+ bytes\napplication/pdf, ", text)
    assert "text/html" in text and "<html" not in text


# ---- tokens


@pytest.fixture
def token_app(project, monkeypatch):
    """A project whose app wants a token, and the address of that app."""
    monkeypatch.setenv("API_TOKEN", TOKEN)
    raw = json.loads(project.file.read_text())
    project.file.write_text(json.dumps(raw | {"api": {"token": "${API_TOKEN}"}}))
    config = config_file.load(project.file)
    with served(config, "--workers", "1") as (port, _):
        yield config, f"http://127.0.0.1:{port}"


def test_token_comes_from_the_environment_and_stays_out_of_the_answers(
    token_app, tmp_path, monkeypatch
):
    config, url = token_app
    answers = apicalls.call_api(config, url)
    assert answers.failed == []
    assert TOKEN not in config.api_returns.read_text(encoding="utf-8")
    other = write_config(tmp_path / "other")
    monkeypatch.setenv("ATTRITION_TOKEN", TOKEN)  # it is for the app of this project
    with pytest.raises(AttritionError, match=r"another project answers at .* --token-variable"):
        apicalls.call_api(other, url)
    answers = apicalls.call_api(other, url, variable="API_TOKEN")
    assert answers.failed == []
    assert len(answers.calls) > 20
    monkeypatch.setenv("ATTRITION_TOKEN", "wrong" * 5)
    with pytest.raises(AttritionError, match="the token is not accepted"):
        apicalls.call_api(config, url)
    monkeypatch.delenv("ATTRITION_TOKEN")
    with pytest.raises(apicalls.NoToken, match="set the environment variable ATTRITION_TOKEN"):
        apicalls.call_api(replace(config, api=Api()), url)


def test_named_variable_that_is_not_set_is_a_wrong_command(project):
    ended = run("--config", str(project.file), "--url", NOBODY, "--token-variable", "NOT_SET_HERE")
    assert ended.returncode == 2
    assert "the environment variable NOT_SET_HERE is not set" in ended.stderr


# ---- repeated calls


class Answers(BaseHTTPRequestHandler):
    """Answers of a list, one after the other; None ends the connection without one."""

    def do_GET(self):
        self.server.asked += 1
        answer = self.server.answers.pop(0)
        if answer:
            status, headers = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A server of planned answers, and a client for it."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.asked = 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server, apicalls.Caller(f"http://127.0.0.1:{server.server_port}", None, 5)
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(apicalls, "PAUSE_S", 0.01)


OK, FULL, BUSY = (200, {}), (429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})


@pytest.mark.parametrize("first", [FULL, BUSY, None], ids=["limit", "not ready", "broken off"])
def test_call_is_repeated_if_that_may_help(server, first):
    served, caller = server
    served.answers = [first, OK]
    call = caller.ask("/ready")
    assert (call.status, call.tries, served.asked) == (200, 2, 2)
    assert call.line().endswith("(try 2)")


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([FULL] * 4, 3),
        ([(503, {})] * 2, 1),
        ([(503, {"Retry-After": "6"})] * 2, 1),
        ([(429, {"Retry-After": "61"})] * 2, 1),
        ([(429, {"Retry-After": "30"})] * 2, 1),  # later than the end of all calls
        ([(500, {"Retry-After": "0"})] * 2, 1),
    ],
)
def test_call_is_not_repeated_without_end_or_hope(server, answers, asked):
    served, caller = server
    served.answers = answers
    assert not caller.ask("/ready").is_good
    assert served.asked == asked


def test_app_that_is_gone_is_not_waited_for_at_each_endpoint():
    caller = apicalls.Caller(NOBODY, None, 5)
    assert [caller.ask("/ready").tries for _ in range(2)] == [3, 1]


def test_endpoint_that_the_role_does_not_cover_is_no_failure(server):
    served, caller = server
    served.answers = [(403, {}), (404, {})]
    calls = (caller.ask("/metrics"), caller.ask("/nowhere"))
    answers = apicalls.ApiCalls("http://h", "now", calls)
    assert [call.path for call in answers.failed] == ["/nowhere"]
    assert calls[0].line().endswith("GET  /metrics  not allowed for this token")
    assert answers.summary().startswith("2 calls of http://h: 1 failed: GET /nowhere: ")
    assert answers.summary().endswith("; 1 not allowed for this token")
