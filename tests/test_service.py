"""The files of examples/service name options, files, keys and limits that exist."""

import json
import re
import shlex
from dataclasses import fields

import pytest

import app
from attrition.config import Api
from attrition.web import server
from attrition.web.middleware import MAX_BODY_BYTES
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "service"
UNIT = (FOLDER / "attrition.service").read_text(encoding="utf-8")
CADDYFILE = (FOLDER / "Caddyfile").read_text(encoding="utf-8")


def test_unit_starts_app_with_options_that_it_has():
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    python, script, *options = shlex.split(line)
    assert python == "/opt/attrition/.venv/bin/python"
    assert (ROOT / script.removeprefix("/opt/attrition/")).samefile(app.__file__)
    with pytest.raises(SystemExit) as ended:  # it parses the options before it
        app.main([*options, "--version"])
    assert ended.value.code == 0


def test_unit_names_files_of_the_project():
    named = re.findall(r"/opt/attrition/([\w./]+\.(?:md|py))|examples/service/([\w.]+)", UNIT)
    assert all((ROOT / file if file else FOLDER / example).exists() for file, example in named)


def test_unit_gives_requests_the_time_to_finish():
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > server.GRACEFUL_S
    assert "KillMode=mixed" in UNIT  # workers get SIGTERM from the main process


def test_unit_opens_more_files_than_its_connections_need():
    (count,) = re.findall(r"^LimitNOFILE=(\d+)$", UNIT, re.MULTILINE)
    assert int(count) > server.CONNECTIONS + 100


def test_proxy_names_keys_of_the_config():
    (example,) = re.findall(r'config.json: "api": (\{.*\})', CADDYFILE)
    assert set(json.loads(example)) <= {field.name for field in fields(Api)}
    assert json.loads(example)["hosts"][0] in CADDYFILE


def test_proxy_connects_to_the_default_port_and_has_the_limits_of_the_app():
    assert f"reverse_proxy 127.0.0.1:{Api().port} " in CADDYFILE
    megabytes = int(re.findall(r"max_size (\d+)MB", CADDYFILE)[0])
    assert MAX_BODY_BYTES <= megabytes * 1_000_000 <= 2 * MAX_BODY_BYTES
    assert f"read_body {server.REQUEST_S}s" in CADDYFILE
    assert int(re.findall(r"keepalive (\d+)s", CADDYFILE)[0]) < server.SILENCE_S
