"""Measure GET /clients/<name> over a table of many clients, in a worker that just started and later.

The table is synthetic, written as assessment.py writes it. The worker is a process of its own: CPU
milliseconds of the first request after create_app, the median of 20 other names, and peak memory.

Run: python -m benchmarks.one_client [--clients 300000]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import clients
from attrition.data.cells import Reason
from attrition.storage import files
from benchmarks.project import make_project

LIMITS = {"cold_ms": 300.0, "warm_ms": 20.0, "peak_mb": 200.0}
NUMBERS, LEVELS = 6, 2
BASELINE = 20.0
DAYS = range(1, 29)


def make_table(count: int) -> pd.DataFrame:
    """Clients with eight features, a value, one of 40 managers and three reasons each."""
    rng = np.random.default_rng(0)
    numbers = {f"feature_n{i}": rng.lognormal(3, 1, count).round(i % 3) for i in range(NUMBERS)}
    levels = {f"feature_l{i}": rng.choice([*"abcdefgh"], count) for i in range(LEVELS)}
    risk = np.sort(rng.beta(1, 5, count))[::-1]
    value = rng.lognormal(9, 1, count).round(2)
    contribution = rng.exponential(0.5, (count, 2))
    none = pd.array([pd.NA] * count, "Int64")
    reasons = [
        [
            Reason("n0", n0, BASELINE, first),
            Reason("n1", n1, BASELINE, second),
            Reason("l0", l0, "a", 0.1),
        ]
        for n0, n1, l0, (first, second) in zip(
            numbers["feature_n0"].tolist(),
            numbers["feature_n1"].tolist(),
            levels["feature_l0"].tolist(),
            contribution.tolist(),
            strict=True,
        )
    ]
    table = {
        "client": [f"Client {i:07} Ltd" for i in rng.permutation(count)],
        **{"rank": np.arange(1, count + 1), "risk": risk, "observed_at": "2026-10-01"},
        **{"value": value, "value_at_risk": risk * value},
        "manager": rng.choice([f"Manager {i}" for i in range(40)], count),
        "due": rng.choice(
            [f"2031-{month:02}-{day:02}" for month in (1, 7) for day in range(1, 29)], count
        ),
        **{"phone": "+49 30 901820", "email": "ann@example.org"},
        **{"list_rank": none, "previous_rank": none, "risk_change": np.nan},
        **{"reasons": reasons, "cautions": [[]] * count},
        **{"list_reasons": [[]] * count, "changes": [[]] * count},
    }
    return pd.DataFrame(table | numbers | levels)


def write_assessment(config: Config, count: int) -> None:
    table = make_table(count)
    began = time.process_time()
    files.commit(
        config.assessment_record,
        {config.clients: lambda path: clients.write_clients(path, table)},
        {"release": "none", "assessed_at": files.utc_now(), "inputs": {}},
    )
    size = config.clients.stat().st_size / 1e6
    print(f"{count:,} clients: {size:.1f} MB, {time.process_time() - began:.1f} s CPU to write")


def measure(config_file: Path, count: int) -> dict[str, float]:
    """Ask for 21 clients in this process: a worker that has served nothing yet."""
    from app import create_app

    client = create_app(config_file).test_client()
    costs = []
    for i in range(21):
        began = time.process_time()
        answer = client.get(f"/clients/Client {i * (count // 21):07} Ltd")
        costs.append(1000 * (time.process_time() - began))
        assert answer.status_code == 200, answer.text
    # Not ru_maxrss: it counts the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    peak_mb = int(status["VmHWM"].split()[0]) / 1024
    warm_ms = statistics.median(costs[1:])
    return {"cold_ms": costs[0], "warm_ms": warm_ms, "peak_mb": peak_mb}


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all limits were kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=300_000)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(measure(options.worker, options.clients)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        config = make_project(Path(folder), databases=[])
        write_assessment(config, options.clients)
        command = [sys.executable, "-m", "benchmarks.one_client", "--worker", str(config.file)]
        command += ["--clients", str(options.clients)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    for name, limit in LIMITS.items():
        print(f"{name:8} {result[name]:7.1f}  at most {limit:.0f}")
    return int(any(result[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
