"""Clusters for tests and benchmarks: a scheduler and its workers, reached only by an address."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attrition.config import Engine
from tests.conftest import ROOT

AUTHENTICATION = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
BIN = Path(sys.executable).parent
START_S = 120  # beside other campaigns on two cores


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


def wait_until(condition, every_s=0.1):
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(every_s)


@contextmanager
def dask_cluster(root=ROOT, count=2):
    distributed = pytest.importorskip("distributed", reason="make engines installs Dask")
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = start(
        BIN / "dask", "scheduler", "--port", address.rpartition(":")[2], "--no-dashboard"
    )
    with TemporaryDirectory(prefix="dask", ignore_cleanup_errors=True) as folder:
        worker = (BIN / "dask", "worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard")
        workers = [
            start(*worker, "--local-directory", f"{folder}/worker{i}", root=root)
            for i in range(count)
        ]
        try:
            with distributed.Client(address, timeout=START_S) as client:
                client.wait_for_workers(count, timeout=START_S)
            yield Engine("dask", address), scheduler, workers
        finally:
            stop([scheduler, *workers])


# In a process of its own, since one process can connect to one cluster only.
WAIT_FOR_RAY = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
while ray.cluster_resources().get("CPU", 0) < 2:
    time.sleep(0.1)
"""


@contextmanager
def ray_cluster():
    pytest.importorskip("ray", reason="make engines installs Ray")
    address = f"127.0.0.1:{free_port()}"
    common = ("--block", "--disable-usage-stats")
    # Ray's sockets are below this folder, and the path of a socket has at most 107 characters.
    with TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = start(
            *(BIN / "ray", "start", "--head", "--port", address.rpartition(":")[2]),
            *("--num-cpus", 0, "--include-dashboard=false", "--temp-dir", folder, *common),
        )
        processes = [head]
        try:
            wait_until(lambda: can_connect(address))
            worker = start(BIN / "ray", "start", "--address", address, "--num-cpus", 2, *common)
            waiting = start(BIN / "python", "-c", WAIT_FOR_RAY, address)
            processes += [worker, waiting]
            wait_until(lambda: waiting.poll() is not None or worker.poll() is not None)
            assert waiting.poll() == 0, f"the worker of Ray ended: {worker.poll()}"
            yield Engine("ray", address, workers=2), head, [worker]
        finally:
            stop(processes)


def can_connect(address):
    host, _, port = address.partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0
