"""Calling a running app, and the error if none runs."""

import json
import shutil
import subprocess
import sys

import pytest

import apicalls
from attrition import config as configuration
from attrition.errors import AttritionError
from tests.conftest import ROOT, TOKEN, damage, served, write_config

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def running(finished_folder, tmp_path_factory):
    """A project and the address of the app that serves it."""
    folder = tmp_path_factory.mktemp("called") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = configuration.load(folder / "config.json")
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
