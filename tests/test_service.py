"""The files of examples/service name options, files, keys and limits that exist."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import app
import fullprocess
from attrition.config import Api, Config
from attrition.web import server
from attrition.web.middleware import MAX_BODY_BYTES
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "service"
UNIT = (FOLDER / "attrition.service").read_text(encoding="utf-8")
CADDYFILE = (FOLDER / "Caddyfile").read_text(encoding="utf-8")
RUN_UNIT = (FOLDER / "attrition-run.service").read_text(encoding="utf-8")
TIMER = (FOLDER / "attrition-run.timer").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
PYTHON = "/opt/attrition/.venv/bin/python"


def check_options(main, words):
    """Check that a script has these options: it parses those before --version."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--version"])
    assert ended.value.code == 0


@pytest.mark.parametrize(("unit", "module"), [(UNIT, app), (RUN_UNIT, fullprocess)])
def test_unit_starts_a_script_with_options_that_it_has(unit, module):
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    python, *words = shlex.split(line)
    assert python == PYTHON
    at = next(i for i, word in enumerate(words) if word.endswith(".py"))
    assert set(words[:at]) <= {"-E", "-s", "-B"}
    assert (ROOT / words[at].removeprefix("/opt/attrition/")).samefile(module.__file__)
    check_options(module.main, words[at + 1 :])


@pytest.mark.parametrize("text", [UNIT, RUN_UNIT, TIMER, DOCKERFILE, COMPOSE_TEXT])
def test_file_names_files_of_the_project(text):
    named = re.findall(r"/opt/attrition/([\w./]+\.(?:md|py))|examples/service/([\w.-]+\w)", text)
    assert all((ROOT / file if file else FOLDER / example).exists() for file, example in named)


def test_units_and_timer_are_valid(tmp_path):
    """systemd-analyze wants the program to exist, so another one stands for it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    for path in FOLDER.glob("attrition*.*"):
        text = path.read_text(encoding="utf-8").replace(PYTHON, "/bin/true")
        (tmp_path / path.name).write_text(text)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["attrition-run.service", "attrition-run.timer", "attrition.service"]
    command = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_run_has_longer_than_its_own_limit_and_every_hardening_of_the_app():
    (minutes,) = re.findall(r"^TimeoutStartSec=(\d+)min$", RUN_UNIT, re.MULTILINE)
    assert int(minutes) > Config.run_limit_minutes
    assert "OnCalendar=*:0/10\n" in TIMER

    def hardening(unit):
        lines = unit.partition("UMask")[2].splitlines()
        return {line for line in lines if "=" in line and not line.startswith(("#", "IPAddress"))}

    assert hardening(UNIT) - hardening(RUN_UNIT) == {"WantedBy=multi-user.target"}


def test_delivery_of_messages_outlives_the_run():
    assert "\nType=oneshot\n" in RUN_UNIT  # whose other processes are ended with it by default
    assert "\nKillMode=process\n" in RUN_UNIT


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


# ---- the image and its containers


def instructions(name):
    """The arguments of every instruction of this name in the Dockerfile."""
    text = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^(?:\s*HEALTHCHECK.*)?{name} +(.*)$", text, re.MULTILINE)


def test_image_contains_files_that_exist_and_that_are_sent_to_its_builder():
    sent = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    copied = [words.split()[:-1] for words in instructions("COPY") if "--from" not in words]
    for name in [name.rstrip("/") for names in copied for name in names]:
        assert list(ROOT.glob(name)), name
        assert f"!{name}\n" in sent, name


def test_image_takes_its_packages_from_the_lock_with_hashes():
    assert "--require-hashes --requirement /build/requirements.lock" in DOCKERFILE
    assert "--hash=sha256:" in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_image_starts_the_app_on_the_port_that_is_published_and_asked_for_its_health():
    python, script, *options = json.loads(instructions("CMD")[-1])
    assert (python, script) == ("python", "/opt/attrition/app.py")
    check_options(app.main, options)
    port = options[options.index("--port") + 1]
    (probe,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", DOCKERFILE)
    assert probe == (port, "/health")
    assert instructions("EXPOSE") == [port]
    assert COMPOSE["services"]["app"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_containers_are_not_root_and_write_to_their_volume_alone():
    (user,) = instructions("USER")
    uid = user.partition(":")[0]
    assert int(uid) > 0
    assert f"--uid {uid} " in DOCKERFILE
    assert f"--owner {uid} --group {uid} data" in COMPOSE_TEXT
    for service in COMPOSE["services"].values():
        assert service["user"] == user
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["volumes"] == ["./data:/data"]
        assert not service.keys() & {"privileged", "environment", "cap_add", "network_mode"}
        assert service["env_file"] == [{"path": "./environment", "required": False}]


def test_proxy_of_the_containers_is_the_gateway_of_their_network():
    (example,) = re.findall(r'#   "api": (\{.*\})', COMPOSE_TEXT)
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert json.loads(example)["proxies"] == [network["gateway"]]
    assert set(json.loads(example)) <= {field.name for field in fields(Api)}


def test_loop_goes_on_after_a_run_that_failed_and_ends_with_the_run_at_work(tmp_path):
    script, *interval = COMPOSE["services"]["runs"]["command"]
    assert Path(script).name == "tick.sh"
    assert interval == ["600"]
    log = tmp_path / "log"
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n[ $(wc -l < {log}) -lt 3 ] && exit 1\nexec sleep 60\n'
    )
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    loop = subprocess.Popen([FOLDER / "tick.sh", "0"], env={"PATH": path}, start_new_session=True)
    try:
        give_up = time.monotonic() + 20
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(10) == 0
    finally:
        os.killpg(loop.pid, signal.SIGKILL) if loop.poll() is None else None
    *words, script, _, _, quiet = log.read_text().splitlines()[0].split()
    assert (words, script, quiet) == (
        ["-E", "-s", "-B"],
        "/opt/attrition/fullprocess.py",
        "--quiet",
    )
