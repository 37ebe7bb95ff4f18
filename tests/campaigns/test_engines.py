"""Dask and Ray as engines: a scheduler and two workers of their own, reached only by an address."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from attrition.config import Engine
from attrition.engine import backends
from attrition.errors import EngineError
from tests.conftest import ROOT

AUTHENTICATION = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
BIN = Path(sys.executable).parent
START_S = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(*command, root=ROOT):
    environment = os.environ | {"PYTHONPATH": str(root)} | AUTHENTICATION
    return subprocess.Popen(
        [*map(str, command)], env=environment, cwd="/", start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def stop(processes):
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(condition):
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end, "the cluster did not come up"
        time.sleep(0.1)


@contextmanager
def dask_cluster(folder, root=ROOT):
    distributed = pytest.importorskip("distributed", reason="make engines installs Dask")
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = start(
        BIN / "dask", "scheduler", "--port", address.rpartition(":")[2], "--no-dashboard"
    )
    workers = [
        start(
            *(BIN / "dask", "worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard"),
            *("--local-directory", folder / f"worker{i}"),
            root=root,
        )
        for i in range(2)
    ]
    try:
        with distributed.Client(address, timeout=START_S) as client:
            client.wait_for_workers(2, timeout=START_S)
        yield Engine("dask", address), scheduler, workers
    finally:
        stop([scheduler, *workers])


@contextmanager
def ray_cluster(folder):
    pytest.importorskip("ray", reason="make engines installs Ray")
    address = f"127.0.0.1:{free_port()}"
    common = ("--block", "--disable-usage-stats")
    head = start(
        *(BIN / "ray", "start", "--head", "--port", address.rpartition(":")[2], "--num-cpus", 0),
        *("--include-dashboard=false", "--temp-dir", folder, *common),
    )
    workers = []
    try:
        wait_until(lambda: can_connect(address))
        workers = [start(BIN / "ray", "start", "--address", address, "--num-cpus", 2, *common)]
        yield Engine("ray", address, workers=2), head, workers
    finally:
        stop([*workers, head])


def can_connect(address):
    host, _, port = address.partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def start_run(engine, folder):
    """Start a run in a process of its own; return it when its first call has begun."""
    arguments = (engine.backend, engine.address, str(folder))
    command = (sys.executable, "-m", "tests.engine.tasks", *arguments)
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(folder.glob("began-*")))
    return run


def printed(run):
    return run.communicate(timeout=3 * backends.PATIENCE_S)[0].splitlines()


@pytest.fixture(params=[dask_cluster, ray_cluster], ids=["dask", "ray"])
def cluster(request, tmp_path_factory, monkeypatch):
    for name, value in AUTHENTICATION.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path_factory.mktemp("c")
    with request.param(folder) as parts:
        yield parts
    shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_gives_the_results_of_this_process_and_names_its_errors(cluster):
    engine, *_ = cluster
    calls = [(number,) for number in range(20)]
    here = backends.run(Engine(), "tests.engine.tasks:double", calls)
    assert backends.run(engine, "tests.engine.tasks:double", calls) == here
    with pytest.raises(OSError, match="No space left on device: '/part3'"):
        backends.run(engine, "tests.engine.tasks:fill_disk", calls)


def test_a_scheduler_that_is_killed_ends_the_run_with_one_line(cluster, tmp_path):
    engine, scheduler, _ = cluster
    run = start_run(engine, tmp_path)
    stop([scheduler])
    (line,) = printed(run)
    assert line.startswith(f"engine {engine.backend} at {engine.address}: ")
    assert line.endswith(backends.ADVICE)


def test_work_of_a_killed_dask_worker_is_done_by_another(tmp_path):
    with dask_cluster(tmp_path) as (engine, _, workers):
        run = start_run(engine, tmp_path)
        stop(workers[:1])
        (tmp_path / "go").touch()
        assert printed(run) == ["[0, 1, 2, 3]"]


def test_a_cluster_without_workers_ends_the_run(tmp_path):
    with dask_cluster(tmp_path) as (engine, _, workers):
        run = start_run(engine, tmp_path)
        stop(workers)
        (line,) = printed(run)
        assert f"no worker answered for {backends.PATIENCE_S:g} s" in line


def test_a_worker_with_another_checkout_is_refused(tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "attrition", other / "attrition")
    shutil.copytree(ROOT / "tests" / "engine", other / "tests" / "engine")
    (other / "attrition" / "wording.py").write_text("")
    refused = pytest.raises(
        EngineError, match=r"has code \w+, expected \w+: install the same checkout"
    )
    with dask_cluster(tmp_path, root=other) as (engine, *_), refused:
        backends.run(engine, "tests.engine.tasks:double", [(1,), (2,)])


def test_a_killed_ray_worker_ends_the_run_with_one_line(tmp_path_factory, monkeypatch):
    for name, value in AUTHENTICATION.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path_factory.mktemp("r")
    with ray_cluster(folder) as (engine, _, workers):
        run = start_run(engine, folder)
        stop(workers)
        (line,) = printed(run)
        assert line.startswith(f"engine ray at {engine.address}: ")
