"""Compare the service with MLflow's `models serve`: the same model, two workers each, side by side.

MLflow is installed by pip into an environment of its own, once, outside the repository. Both servers are
loaded in turns over kept connections, by one process that only sends and counts. If pip cannot install
MLflow, the service is measured alone.

Run: python -m benchmarks.serving [--rounds 5] [--seconds 4] [--config PATH] [--peer FOLDER]
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

import fullprocess
from attrition import config_file
from attrition.config import Config
from attrition.operations import releases
from benchmarks.project import ROOT, make_project

MLFLOW = "mlflow==3.17.2"
SHARED = ("numpy", "pandas", "scikit-learn", "scipy", "skops", "threadpoolctl")
WORKERS, CONNECTIONS, BLOCK_ROWS = 2, 8, 10_000
START_S, ANSWER_S, STARTS = 120.0, 60.0, 3
Requests = dict[str, dict[str, tuple[str, bytes]]]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
OURS, PEER = "attrition", "MLflow"


# ---- servers


@dataclass(frozen=True)
class Server:
    """A running server: its port and its workers."""

    port: int
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """Compute the CPU time of all workers so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in self.pids]
        return TICK_S * sum(int(part) for stat in stats for part in stat.split()[11:13])

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        with contextlib.closing(connection):
            connection.request("POST" if body else "GET", path, body, JSON if body else {})
            response = connection.getresponse()
            return response.status, response.read()


JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def running(command: list[str], health: str, port: int, **environment: str) -> Iterator[Server]:
    """Start a server, wait until it answers, and stop it with all of its processes."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            **{"stdout": log, "stderr": log, "cwd": ROOT, "start_new_session": True},
            env=os.environ | environment,
        )
        try:
            wait_for(Server(port, ()), health, process)
            yield Server(port, tuple(workers_of(process.pid)))
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(server: Server, health: str, process: subprocess.Popen) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask(health)[0] == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start within {START_S:.0f} s")


def workers_of(pid: int) -> list[int]:
    """Return the processes without children that descend from one, except Python's resource tracker."""
    children = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    if not children:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [] if b"resource_tracker" in command else [pid]
    return [worker for child in children for worker in workers_of(child)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve_ours(config: Config, workers: int = WORKERS) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.echo_app", "--config", str(config.file)]
    command += ["--port", str(port), "--workers", str(workers)]
    return running(command, "/health", port)


def serve_peer(python: Path, model: Path) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    command = [str(python), "-P", "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
    command += ["--env-manager", "local", "--workers", str(WORKERS), "--port", str(port)]
    path = f"{python.parent}:{os.environ['PATH']}"
    return running(command, "/ping", port, PATH=path, OMP_NUM_THREADS="1")


# ---- the peer


def install_peer(folder: Path) -> str | None:
    """Install MLflow and the versions that the model needs; return why not if pip cannot."""
    done = folder / "installed"
    pins = re.findall(r"^([\w-]+==\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    packages = [MLFLOW, *(pin for pin in pins if pin.partition("==")[0] in SHARED)]
    if done.is_file() and done.read_text() == str(packages):
        return None
    venv.create(folder, clear=True, with_pip=True)
    command = [folder / "bin/python", "-m", "pip", "install", "--quiet", *packages]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        return next((line for line in lines[::-1] if line.startswith("ERROR")), "pip failed")
    done.write_text(str(packages))
    return None


def save_peer_model(python: Path, config: Config, folder: Path) -> Path:
    release = releases.read_current(config.production_folder)
    script = ROOT / "benchmarks" / "mlflow_model.py"
    command = [python, "-P", script, release.folder / releases.MODEL, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return folder


# ---- requests


def read_rows(config: Config) -> dict[str, list[Any]]:
    """Return the features of the first 10,000 current clients, by column."""
    names = config.columns.features
    table = pq.read_table(config.clients, columns=[f"feature_{name}" for name in names])
    rows = table.slice(0, BLOCK_ROWS).rename_columns(list(names))
    return rows.to_pydict()


def bodies(columns: dict[str, list[Any]]) -> Requests:
    """Return the path and the body of each kind of request, for each server."""
    names, first = list(columns), {name: values[:1] for name, values in columns.items()}
    row = {name: values[0] for name, values in columns.items()}

    def split(columns: dict[str, list[Any]]) -> dict[str, Any]:
        return {"columns": names, "data": [*zip(*columns.values(), strict=True)]}

    def body(value: Any) -> bytes:
        return json.dumps(value).encode()

    return {
        OURS: {
            "one row": ("/prediction", body({"records": [row]})),
            "echo of one row": ("/echo", body({"records": [row]})),
            "10,000 rows": ("/prediction", body({"columns": columns})),
        },
        PEER: {
            "one row": ("/invocations", body({"dataframe_split": split(first)})),
            "10,000 rows": ("/invocations", body({"dataframe_split": split(columns)})),
        },
    }


@dataclass(frozen=True)
class Load:
    """What came of loading a server: answers, the seconds, and CPU seconds of its workers and ours."""

    answers: int
    elapsed_s: float
    workers_s: float
    own_s: float

    @property
    def per_second(self) -> float:
        return self.answers / self.elapsed_s

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.workers_s / self.answers


def load(server: Server, path: str, body: bytes, seconds: float, connected: int) -> Load:
    """Send one request again and again over so many kept connections; every answer must be 200.

    Raises: RuntimeError if one is not.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    selector, answers = selectors.EpollSelector(), 0
    connections = []
    cpu_s, own_s, start = server.cpu_s(), time.process_time(), time.monotonic()
    for _ in range(connected):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, bytearray())
        connections.append(connection)
        connection.sendall(message)  # at once: the next connection finds this worker at work
    open_requests = len(connections)
    while open_requests:
        events = selector.select(ANSWER_S)
        if not events:
            raise RuntimeError(f"{path}: no answer within {ANSWER_S:.0f} s")
        for key, _ in events:
            connection, received = key.fileobj, key.data
            received += connection.recv(1 << 20)
            if not is_complete(received):
                continue
            if not received.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{path}: {bytes(received[:500])!r}")
            received.clear()
            answers += 1
            if time.monotonic() - start < seconds:
                connection.sendall(message)
            else:
                open_requests -= 1
    elapsed_s = time.monotonic() - start
    own_s, cpu_s = time.process_time() - own_s, server.cpu_s() - cpu_s
    for connection in connections:
        connection.close()
    selector.close()
    return Load(answers, elapsed_s, cpu_s, own_s)


def is_complete(received: bytearray) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", received[:end])
    if not length:
        raise RuntimeError(f"an answer without a length: {bytes(received[:500])!r}")
    return len(received) >= end + 4 + int(length[1])


# ---- measures


class Turn(NamedTuple):
    """What is sent to which server, over how many connections."""

    server: str
    kind: str
    connected: int


def compare_risks(ours: Server, peer: Server, requests: Requests) -> float:
    """Return the greatest difference between the risks that the two servers answer for 10,000 rows."""
    answers = []
    for name, server in ((OURS, ours), (PEER, peer)):
        status, content = server.ask(*requests[name]["10,000 rows"])
        assert status == 200, content[:500]
        answers.append(json.loads(content)["predictions"])
    risks = [row["risk"] for row in answers[0]]
    return max(abs(a - b) for a, b in zip(risks, answers[1], strict=True))


def measure_start(config: Config, path: str, body: bytes) -> tuple[float, float]:
    """Return the ms of the first request after a start, and the median of those around the hundredth."""
    with serve_ours(config) as server:
        times_ms = []
        for _ in range(110):
            start = time.perf_counter()
            status, content = server.ask(path, body)
            times_ms.append(1000 * (time.perf_counter() - start))
            assert status == 200, content[:500]
    return times_ms[0], statistics.median(times_ms[90:])


def measure(
    servers: dict[str, Server], requests: Requests, rounds: int, seconds: float
) -> dict[Turn, list[Load]]:
    """Load the servers in turns, after one turn of each that is not counted.

    The CPU time of a request is measured over one connection: with eight, it depends on how many of them
    the same worker accepts.
    """
    turns = [
        Turn(OURS, "one row", 1),
        Turn(OURS, "echo of one row", 1),
        *(Turn(name, "one row", CONNECTIONS) for name in servers),
        *(Turn(name, "10,000 rows", CONNECTIONS) for name in servers),
    ]
    loads: dict[Turn, list[Load]] = {turn: [] for turn in turns}
    for i in range(rounds + 1):
        for turn in turns:
            request = requests[turn.server][turn.kind]
            result = load(servers[turn.server], *request, seconds, turn.connected)
            loads[turn] += [result] if i else []
    return loads


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all limits were kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="length of each turn; default: 4")
    parser.add_argument("--config", type=Path, help="a finished project; default: the sample")
    parser.add_argument(
        "--peer",
        type=Path,
        default=Path(tempfile.gettempdir()) / "attrition-benchmarks" / MLFLOW,
        help="folder of MLflow's environment; default: %(default)s",
    )
    options = parser.parse_args(argv)
    reason = install_peer(options.peer)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = config_file.load(options.config) if options.config else run_sample(Path(folder))
        requests = bodies(read_rows(config))
        starts = [measure_start(config, *requests[OURS]["one row"]) for _ in range(STARTS)]
        servers = {OURS: stack.enter_context(serve_ours(config))}
        difference = None
        if reason:
            print(f"{MLFLOW} is not compared, because pip cannot install it: {reason}")
        else:
            python = options.peer / "bin" / "python"
            model = save_peer_model(python, config, Path(folder) / "model")
            servers[PEER] = stack.enter_context(serve_peer(python, model))
            difference = compare_risks(servers[OURS], servers[PEER], requests)
        loads = measure(servers, requests, options.rounds, options.seconds)
    return report(loads, starts, difference)


def run_sample(folder: Path) -> Config:
    config = make_project(folder / "sample")
    shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
    assert fullprocess.main(["--config", str(config.file), "--quiet"]) == 0
    return config


def report(
    loads: dict[Turn, list[Load]], starts: list[tuple[float, float]], difference: float | None
) -> int:
    """Print the measures beside their limits, and return 0 if all of them were kept."""
    print(f"{'server':10} {'request':16} connections  per second   CPU ms  generator")
    speed, cpu_ms = {}, {}
    for turn, results in loads.items():
        speed[turn] = statistics.median(result.per_second for result in results)
        cpu_ms[turn] = statistics.median(result.cpu_ms for result in results)
        own = statistics.median(result.own_s / result.elapsed_s for result in results)
        print(
            f"{turn.server:10} {turn.kind:16} {turn.connected:11} {speed[turn]:11,.1f} "
            f"{cpu_ms[turn]:8.2f} {own:8.0%} of a core"
        )
    first, hundredth = (statistics.median(times) for times in zip(*starts, strict=True))
    one, echo = cpu_ms[Turn(OURS, "one row", 1)], cpu_ms[Turn(OURS, "echo of one row", 1)]
    checks = [
        ("CPU of a worker for one row, ms", one, "at most", 3),
        ("the same, relative to the echo", one / echo, "at most", 2.5),
        (
            f"first request / hundredth ({first:.1f} / {hundredth:.1f} ms)",
            first / hundredth,
            "at most",
            2,
        ),
    ]
    if difference is not None:
        for kind, goal in (("one row", 6), ("10,000 rows", 3)):
            ours, peer = (speed[Turn(name, kind, CONNECTIONS)] for name in (OURS, PEER))
            ratio = ours / peer
            checks.append(
                (f"requests per second relative to MLflow, {kind}", ratio, "at least", goal)
            )
        checks.append(("greatest difference of risks from MLflow's", difference, "at most", 1e-12))
    broken = 0
    for name, value, bound, limit in checks:
        is_kept = value <= limit if bound == "at most" else value >= limit
        broken += not is_kept
        print(f"{name:60} {value:9.3g}  {bound} {limit:g}{'' if is_kept else '  MISSED'}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
