"""Switch the release and kill workers while an app answers predictions; check every answer.

Keep-alive connections send predictions all the time. Once a second another release is put into
production, by turns a rollback and a new deployment, of models that give different risks. In the second
half a worker is killed each second. Then come slow and silent connections. Errors are allowed only on a
connection that was open when a worker was killed, and a sample of the answers is compared with the model
of the release that each one names.

Run: python -m benchmarks.endurance [--minutes 10] [--connections 32] [--switches 600] [--workers 2]
"""

import argparse
import http.client
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import clients
from attrition.modelling import models
from attrition.operations import releases
from attrition.storage import files
from tests.conftest import ROOT, contradict, count_as_asked, read_rows, run_whole, write_sources

HOST = "127.0.0.1"
MAX_ROWS = 20
WARM_UP = 0.3  # of the half without kills
KILL_S = 1.0
TIMEOUT_S = 30
TEMPORARY = "temporary"  # folder of the app's temporary files
Connection = http.client.HTTPConnection


@dataclass
class Outcome:
    """What happened: counts, answers to compare, errors, and what the processes used."""

    answers: int = 0
    sample: list[tuple[str, list[int], list[float]]] = field(default_factory=list)
    releases: set[str] = field(default_factory=set)
    lost: int = 0  # connections of killed workers
    errors: list[str] = field(default_factory=list)
    switches: int = 0
    kills: list[float] = field(default_factory=list)
    memory: list[tuple[float, int, int]] = field(default_factory=list)  # time, RSS, descriptors
    master: list[tuple[int, int]] = field(default_factory=list)
    metric_files: list[int] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)
    differing: int = 0

    def growth(self) -> tuple[float, float]:
        """Return by which shares memory and descriptors of the workers grew after the warm-up."""
        values = np.array([row[1:] for row in self.memory], dtype=float)
        values = values[int(len(values) * WARM_UP) :]
        n = max(len(values) // 5, 1)
        memory, descriptors = np.median(values[-n:], axis=0) / np.median(values[:n], axis=0) - 1
        return float(memory), float(descriptors)


def make_releases(folder: Path) -> Config:
    """Make a project with two releases whose models give different risks."""
    config = write_sources(folder)
    count_as_asked(config)
    assert run_whole(config) == 0
    contradict(config)
    run_whole(config)
    assert len(releases.list_ids(config.production_folder)) >= 2
    return config


@contextmanager
def serve(config: Config, workers: int) -> Iterator[tuple[int, int]]:
    """Serve a project from a process of its own; yield the port and the pid."""
    command = [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), "--port", "0"]
    command += ["--workers", str(workers)]
    temporary = config.file.parent / TEMPORARY
    temporary.mkdir()
    env = os.environ | {"TMPDIR": str(temporary)}
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env
        )
        assert process.stdout is not None
        try:
            match = re.search(r":(\d+) ", process.stdout.readline())
            assert match, "the app did not start"
            yield int(match[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            process.stdout.close()
    assert process.returncode == 0
    assert not list(temporary.iterdir()), "the app left temporary files"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def usage(pid: int) -> tuple[int, int]:
    """Return the resident bytes and the open descriptors of a process, without its connections."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:
            continue
    return pages * 4096, sum(not link.startswith("socket:") for link in links)


def redeploy(config: Config, source: str) -> str:
    """Deploy the model of a release again, as a release of its own; return its id."""
    old = releases.read(config.production_folder, source)
    contents = {name: (old.folder / name).read_bytes() for name in old.manifest["outputs"]}
    manifest = {key: old.manifest[key] for key in old.manifest if key not in ("outputs", "seal")}
    manifest["deployed_at"] = files.utc_now()
    return releases.create(config.production_folder, contents, manifest)


class Load:
    """Connections that predict all the time, and what else goes on meanwhile."""

    def __init__(self, config: Config, port: int, pid: int, rows: list[dict[str, Any]]) -> None:
        self.config, self.port, self.pid, self.rows = config, port, pid, rows
        self.outcome, self.lock, self.stop = Outcome(), Lock(), Event()

    def predict(self, connection: Connection, chosen: list[int]) -> dict[str, Any]:
        body = json.dumps({"records": [self.rows[i] for i in chosen]})
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/prediction", body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise AssertionError(f"{response.status}: {content[:200]!r}")
        answer: dict[str, Any] = json.loads(content)
        if len(answer["predictions"]) != len(chosen):
            raise AssertionError(f"{len(answer['predictions'])} predictions for {len(chosen)} rows")
        return answer

    def work(self, seed: int, sample: int) -> None:
        """Predict until it is time to stop; keep `sample` answers, by reservoir sampling."""
        rng, kept, count = random.Random(seed), [], 0
        connection, since = Connection(HOST, self.port, timeout=TIMEOUT_S), time.monotonic()
        while not self.stop.is_set():
            chosen = rng.sample(range(len(self.rows)), rng.randint(1, MAX_ROWS))
            start = time.monotonic()
            try:
                answer = self.predict(connection, chosen)
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.count_error(error, since)
                connection.close()
                since = time.monotonic()
                continue
            since = start
            count += 1
            risks = [prediction["risk"] for prediction in answer["predictions"]]
            place = len(kept) if len(kept) < sample else rng.randrange(count)
            kept[place : place + 1] = [(answer["model"], chosen, risks)] if place < sample else []
            with self.lock:
                self.outcome.answers += 1
                self.outcome.releases.add(answer["model"])
        connection.close()
        with self.lock:
            self.outcome.sample += kept

    def count_error(self, error: Exception, since: float) -> None:
        """Count an error: a lost connection if a worker was killed after its last answered request."""
        with self.lock:
            is_lost = isinstance(error, OSError | http.client.HTTPException)
            if is_lost and any(at >= since for at in self.outcome.kills):
                self.outcome.lost += 1
            else:
                self.outcome.errors.append(f"{type(error).__name__}: {error}")

    def switch(self, seconds: float) -> None:
        """Put another release into production again and again, until it is time to stop."""
        production = self.config.production_folder
        originals = releases.list_ids(production)[:2]
        due = time.monotonic()
        while not self.stop.is_set():
            source = originals[self.outcome.switches % 2]
            is_new = self.outcome.switches % 4 >= 2
            releases.activate(production, redeploy(self.config, source) if is_new else source)
            self.outcome.switches += 1
            due += seconds
            self.stop.wait(max(due - time.monotonic(), 0))

    def watch(self) -> None:
        """Measure the workers every half second, until one is killed, and the main process."""
        while not self.stop.wait(0.5):
            if not self.outcome.kills and (workers := children(self.pid)):
                sizes = [usage(worker) for worker in workers]
                totals = sum(size for size, _ in sizes), sum(count for _, count in sizes)
                self.outcome.memory.append((time.monotonic(), *totals))
            self.outcome.master.append(usage(self.pid))
            files_now = list(self.config.file.parent.glob(f"{TEMPORARY}/*/*"))
            self.outcome.metric_files.append(len(files_now))

    def kill(self, until: float) -> None:
        """Kill a worker each second."""
        rng = random.Random(0)
        while time.monotonic() < until:
            if workers := children(self.pid):
                self.outcome.kills.append(
                    math.inf
                )  # this thread may wait before and after the signal
                os.kill(rng.choice(workers), signal.SIGKILL)
                self.outcome.kills[-1] = time.monotonic()
            time.sleep(KILL_S)


def measure_start(load: Load) -> None:
    """Measure the first hundred requests after the start."""
    with closing(Connection(HOST, load.port, timeout=TIMEOUT_S)) as connection:
        for place in range(100):
            start = time.monotonic()
            load.predict(connection, [place % len(load.rows)])
            load.outcome.start_ms.append((time.monotonic() - start) * 1000)


def run_load(load: Load, *, seconds: float, connections: int, switches: int, sample: int) -> None:
    """Predict and switch for some seconds, and kill workers in the second half."""
    end = time.monotonic() + seconds
    targets: list[Callable[[], None]] = [
        lambda: load.switch(seconds / switches),
        load.watch,
        *(lambda seed=seed: load.work(seed, sample // connections) for seed in range(connections)),
    ]
    threads = [Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    try:
        time.sleep(seconds / 2)
        load.kill(end)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()


def slow_down(load: Load, *, slow: int, silent: int, seconds: float) -> None:
    """Ask for /health beside connections that send a byte now and then, and others that send none."""
    head = b"POST /prediction HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    stop = Event()
    with ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(closing(socket.create_connection((HOST, load.port))))

        def dribble() -> None:
            connected = [connect() for _ in range(slow)]
            for place, sender in enumerate(connected):
                sender.sendall(head if place % 2 else head + b"\r\n")
            while not stop.wait(2):
                for place, sender in enumerate(connected):
                    try:
                        sender.sendall(b"1")
                    except OSError:  # it was ended after 20 s
                        sender.close()
                        connected[place] = connect()
                        connected[place].sendall(head)

        for _ in range(silent):
            connect()
        thread = Thread(target=dribble)
        thread.start()
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                start = time.monotonic()
                with closing(Connection(HOST, load.port, timeout=10)) as connection:
                    connection.request("GET", "/health")
                    assert connection.getresponse().status == 200
                load.outcome.health_ms.append((time.monotonic() - start) * 1000)
                time.sleep(0.05)
        finally:
            stop.set()
            thread.join()


def compare(load: Load) -> None:
    """Count the answers of the sample that differ from the model of the release they name."""
    rows = pd.DataFrame(load.rows).astype(object)
    risks: dict[str, np.ndarray] = {}
    by_release: dict[str, np.ndarray] = {}
    for release_id in load.outcome.releases:
        release = releases.read(load.config.production_folder, release_id)
        if release.model_sha256 not in risks:
            risks[release.model_sha256] = models.predict(releases.load_model(release), rows)
        by_release[release_id] = risks[release.model_sha256]
    values = list(risks.values())
    assert all(np.abs(values[0] - other).max() > 0.01 for other in values[1:]), "models are alike"
    load.outcome.differing = sum(
        not np.allclose(by_release[release_id][chosen], answered, rtol=0, atol=1e-9)
        for release_id, chosen, answered in load.outcome.sample
    )


def endure(
    config: Config,
    *,
    seconds: float,
    connections: int,
    switches: int,
    workers: int,
    sample: int,
    slow: int,
    slow_seconds: float,
) -> Outcome:
    """Serve a project with two releases through all of it."""
    table = clients.current_clients(read_rows(config), config.columns).head(500)
    wanted = table[list(config.columns.features)].astype(object)
    rows = wanted.where(wanted.notna() & (wanted != ""), None).to_dict("records")
    with serve(config, workers) as (port, pid):
        load = Load(config, port, pid, rows)
        measure_start(load)
        run_load(load, seconds=seconds, connections=connections, switches=switches, sample=sample)
        slow_down(load, slow=slow, silent=slow, seconds=slow_seconds)
    compare(load)
    return load.outcome


def main(argv: list[str] | None = None) -> int:
    """Return 0 if there was no error, no wrong answer, no growth, and /health was answered in time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--switches", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument(
        "--slow", type=int, default=200, help="slow, and as many silent connections"
    )
    parser.add_argument("--slow-seconds", type=float, default=60)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        outcome = endure(
            make_releases(Path(folder)),
            seconds=options.minutes * 60,
            connections=options.connections,
            switches=options.switches,
            workers=options.workers,
            sample=options.sample,
            slow=options.slow,
            slow_seconds=options.slow_seconds,
        )
    (growth, opened), p99 = outcome.growth(), float(np.percentile(outcome.health_ms, 99))
    print(
        f"{outcome.answers} answers of {len(outcome.releases)} releases, {outcome.switches} switches"
    )
    print(f"{len(outcome.kills)} workers killed, {outcome.lost} connections lost with them")
    print(f"{len(outcome.errors)} other errors", *outcome.errors[:5], sep="\n  ")
    print(f"{len(outcome.sample)} answers recomputed, {outcome.differing} differ")
    print(f"memory of the workers grew by {growth:.1%}, their descriptors by {opened:.1%}")
    sizes, counts = zip(*outcome.master, strict=True)
    print(f"main process: {sizes[0] >> 20} to {sizes[-1] >> 20} MB, descriptors to {max(counts)}")
    print(f"files of metrics: {outcome.metric_files[0]} to {max(outcome.metric_files)}")
    print(f"first request {outcome.start_ms[0]:.0f} ms, hundredth {outcome.start_ms[-1]:.1f} ms")
    print(f"/health beside slow connections: p99 {p99:.0f} ms, max {max(outcome.health_ms):.0f} ms")
    is_good = (
        not outcome.errors and not outcome.differing and max(growth, opened) < 0.05 and p99 < 1000
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
