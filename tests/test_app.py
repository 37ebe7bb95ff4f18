"""The app is created from a config, and served or refused at start."""

import socket
import subprocess
import sys

import pytest
import requests

from app import bind, create_app, main
from attrition.config import Config
from attrition.errors import AttritionError
from tests.conftest import ROOT, served


def test_debug_stays_off_if_the_environment_sets_it(project, monkeypatch):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    assert not create_app(project).debug


def start(config: Config, *more: str) -> subprocess.CompletedProcess:
    """Run app.py where it is expected to end by itself."""
    command = [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)


@pytest.mark.slow
def test_taken_port_is_one_clear_line(project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start(project, "--port", str(port))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}: cannot listen" in ended.stderr


def test_port_taken_by_an_app_is_named_with_the_project(project):
    with served(project, "--workers", "1") as (port, _):
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=30).ok  # it has started
        own = start(project, "--port", str(port))
    assert own.returncode == 1
    assert own.stderr.endswith(f"; this project answers at http://127.0.0.1:{port}\n")
    assert len(own.stderr.splitlines()) == 1


@pytest.mark.slow
def test_open_host_without_a_token_is_refused_at_start(project):
    ended = start(project, "--host", "0.0.0.0", "--port", "0")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "api.token" in ended.stderr


def test_host_that_is_not_ours_is_a_clear_error():
    with pytest.raises(AttritionError, match="cannot listen"):
        bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "65536"),
        ("--port", "-1"),
        ("--port", "8000.5"),
        ("--port", "\u0661"),
        ("--workers", "0"),
        ("--workers", "-2"),
        ("--workers", "1000"),
    ],
)
def test_number_out_of_range_is_one_clear_error(capsys, options):
    with pytest.raises(SystemExit) as ended:
        main(list(options))
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {options[0]}: {options[1]!r}, expected a number from" in last


def test_refusal_needs_no_heavy_module(project):
    code = (
        "import sys, app; app.main(sys.argv[1:]); "
        "print(*sorted({'flask', 'gunicorn', 'numpy', 'pyarrow', 'requests'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "--config", str(project.file), "--host", "0.0.0.0"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert "api.token" in ended.stderr
    assert ended.stdout == "\n"
