"""Calling a running app, and the error if none runs."""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import apicalls
from attrition import config as configuration
from attrition.config import Api
from attrition.errors import AttritionError
from tests.conftest import ROOT, TOKEN, damage, served

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def running(finished_folder, tmp_path_factory):
    """A project and the address of the app that serves it."""
    folder = tmp_path_factory.mktemp("called") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = configuration.load(folder / "config.json")
    with served(config, "--workers", "1") as (port, _):
        yield config, f"http://127.0.0.1:{port}"


@pytest.fixture
def stranger():
    """The address of a web server that is not ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


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
        "/figures/roc.png",
        "/health",
        "/modelcard.md",
        "/prediction",
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


def test_token_is_shown_and_kept_out_of_the_answers(project, monkeypatch):
    monkeypatch.setenv("API_TOKEN", TOKEN)
    raw = json.loads(project.file.read_text())
    project.file.write_text(json.dumps(raw | {"api": {"token": "${API_TOKEN}"}}))
    config = configuration.load(project.file)
    with served(config, "--workers", "1") as (port, _):
        answers = apicalls.call_api(config, f"http://127.0.0.1:{port}")
    assert answers.failed == []
    assert TOKEN not in config.api_returns.read_text(encoding="utf-8")


def test_app_that_does_not_run_is_reported_with_how_to_start_it(project):
    ended = run("--config", str(project.file), "--url", NOBODY)
    assert ended.returncode == 1
    assert "start the app with python app.py" in ended.stderr
    assert not apicalls.is_running(project, NOBODY)
    assert not project.api_returns.exists()


def test_another_server_is_not_taken_for_ours(project, stranger):
    assert not apicalls.is_running(project, stranger)
    with pytest.raises(AttritionError, match="another server answers there"):
        apicalls.call_api(project, stranger)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_address_is_that_of_the_config(project, host, url):
    assert apicalls.default_url(replace(project, api=Api(host=host))) == url


def test_json_is_kept_readable():
    rows = [{"client": f"client {i}", "risk": 0.123456} for i in range(4)]
    text = apicalls.readable({"predictions": rows})
    assert json.loads(text) == {"predictions": rows}
    assert len(text.splitlines()) == 8
