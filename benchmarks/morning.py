"""Measure the pages that client managers work in, in a warm worker: CPU milliseconds and memory.

After a run over the sample, the clients are replaced by many synthetic ones, with rows, risks over
time and a contact log of 2,000 entries. The worker is a process of its own, with the model loaded. Each
figure is the median of the requests: the data of a page alone, and the whole page by the test client.

Run: python -m benchmarks.morning [--clients 10000 1000000]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attrition.config import Config
from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.data import clients, risk_history
from attrition.data.risk_history import Snapshot
from attrition.rows import observations
from attrition.storage import files, tables
from benchmarks.one_client import make_table
from benchmarks.project import finish_sample

ENTRIES, SNAPSHOTS, REPEATS = 2_000, 20, 20
LIMITS_MS = {10_000: 30.0, 1_000_000: 100.0}  # of Today and Client
LIMIT_MB = 400.0


def grow(config: Config, count: int) -> None:
    """Replace the clients of a finished project by `count` others."""
    table = make_table(count)
    record = files.read_record(config.assessment_record) or {}
    keys = clients.client_keys(table["client"])
    history, snapshots = risk_history.empty(), []
    for i in range(SNAPSHOTS):
        on = (date(2026, 1, 1) + timedelta(days=i)).isoformat()
        risk = table["risk"].to_numpy() * (i + 1) / SNAPSHOTS
        snapshot = Snapshot(on, record["release"])
        history, snapshots = risk_history.add(history, snapshots, keys, risk, snapshot)
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_clients(file, table),
        config.risk_history: lambda file: risk_history.write(file, history),
    }
    record |= {"snapshots": [one._asdict() for one in snapshots], "clients": count}
    files.commit(config.assessment_record, contents, record)
    grow_rows(config, table["client"].tolist())
    names = np.random.default_rng(1).choice(table["client"], ENTRIES).tolist()
    entries = [
        Entry(
            name, log.CONTACT, "Kim", log.OUTCOMES[i % 4], "a note", date=f"2031-01-{i % 28 + 1:02}"
        )
        for i, name in enumerate(names)
    ]
    log.append(config.contact_log, entries, files.utc_now())


def grow_rows(config: Config, names: list[str]) -> None:
    """Replace the typed rows by one row of each client."""
    columns, count = config.columns, len(names)
    hashes = np.array([observations.name_hash(name) for name in names], "uint64")
    order = np.argsort(hashes)
    rows = pa.table(
        {
            columns.client_name: pa.array(np.array(names)[order]),
            str(columns.time): ["2026-10-01"] * count,
            columns.outcome: pa.nulls(count, pa.float64()),
            observations.CLIENT_HASH: hashes[order],
            observations.NUMBER: order,
            observations.DELIVERED: np.zeros(count, "int32"),
        }
    )
    kept = [
        config.final_data,
        config.ingested_files,
        config.rejected,
        config.withdrawn,
        config.gone,
    ]
    contents: dict[Path, files.Content] = {
        path: path.read_bytes() for path in kept if path.exists()
    }
    contents[config.rows] = lambda file: pq.write_table(rows, file, row_group_size=tables.ROW_GROUP)
    files.commit(
        config.ingestion_record, contents, files.read_record(config.ingestion_record) or {}
    )


def measure(config_file: Path) -> dict[str, float]:
    """Answer requests in this process, as a worker does."""
    from app import create_app

    app = create_app(config_file)
    state = app.extensions["attrition"]
    state.production.get()
    client = app.test_client()
    work, _ = state.worklist(files.utc_now())
    listed = [row["client"] for row in work.rows(work.listed.rows)]

    def page(address: str) -> None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text

    def read_client(name: str) -> None:
        work, _ = state.worklist(files.utc_now())
        work.overlay(work.table.rows_of([name])[name], work.table.find(name))
        state.timeline(name, work.day)

    def read_today() -> None:
        work, _ = state.worklist(files.utc_now())
        work.rows(work.listed.rows)

    def enter(name: str) -> None:
        now = files.utc_now()
        log.append(state.config.contact_log, [Entry(name, log.CONTACT, "Kim", log.REACHED)], now)

    def after_entry(name: str) -> float:
        enter(name)
        return cost(page, "/")

    figures = {
        "Today, data": [cost(read_today) for _ in range(REPEATS)],
        "Today": [cost(page, "/") for _ in range(REPEATS)],
        "Client, data": [cost(read_client, name) for name in listed[:REPEATS]],
        "Client": [cost(page, f"/client/{name}") for name in listed[:REPEATS]],
        "List": [cost(page, f"/list?page={i}") for i in range(1, REPEATS)],
        "search": [cost(page, f"/list?q={name.split()[1]}") for name in listed[:REPEATS]],
        "Today after an entry": [after_entry(name) for name in listed[-REPEATS:]],
    }
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    memory = dict(line.split(":", 1) for line in lines)["VmRSS"].split()[0]
    medians = {name: statistics.median(costs[1:]) for name, costs in figures.items()}
    return medians | {"first Today": figures["Today"][0], "memory_mb": int(memory) / 1024}


def cost(call: Callable[..., object], *arguments: str) -> float:
    """Return the CPU milliseconds of a call."""
    began = time.process_time()
    call(*arguments)
    return 1000 * (time.process_time() - began)


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all limits were kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=list(LIMITS_MS))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(measure(options.worker)))
        return 0
    is_slow = False
    with tempfile.TemporaryDirectory() as folder:
        config = finish_sample(Path(folder))
        for count in options.clients:
            grow(config, count)
            command = [sys.executable, "-m", "benchmarks.morning", "--worker", str(config.file)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout)
            print(f"{count:,} clients, {config.clients.stat().st_size / 1e6:.0f} MB")
            for name, figure in result.items():
                print(f"  {name:22} {figure:7.1f}")
            limit = LIMITS_MS.get(count, 100.0)
            is_slow |= max(result["Today"], result["Client"]) > limit
            is_slow |= result["memory_mb"] > LIMIT_MB
    return int(is_slow)


if __name__ == "__main__":
    sys.exit(main())
