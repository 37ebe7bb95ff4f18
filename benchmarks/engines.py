"""Measure the assessment of many clients by each engine: in this process, and by loky, Dask and Ray.

Every cluster is on this machine, a scheduler and two workers that are reached by an address. Each
engine starts from the same state, in turns; the time by the clock is the least of all turns, because
other programs can only make it longer. CPU time is that of the run and of the workers, beside that in
this process; that of Ray is left out, because its workers end with the run and leave no account. All
files must be the same to the byte. With one worker, joblib computes in the process of the run: that is
the line of this process.

Run: python -m benchmarks.engines [--clients 1000000] [--repeat 3] [--project FOLDER] [--only NAME ...]
     --project: a finished project to start from
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from attrition.config import Config, Engine
from attrition.rows import ledger
from attrition.storage import files
from benchmarks.assess import OUTPUTS, grow
from benchmarks.measure import Row, at_most, cpu_of, print_rows
from benchmarks.project import ROOT, finish_project
from tests.clusters import AUTHENTICATION, dask_cluster, ray_cluster

MOST_TIME = 0.65
HERE, LOKY, DASK, RAY = "this process", "loky, 2 workers", "Dask, 2 workers", "Ray, 2 workers"
TICKS = os.sysconf("SC_CLK_TCK")


class Assessed(NamedTuple):
    seconds: float
    cpu_seconds: float
    hashes: dict[str, str]


def cpu_of_sessions(sessions: Iterable[int]) -> float:
    """Return the CPU seconds of all processes of some sessions so far."""
    leaders, ticks = {*sessions}, 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) in leaders:
                ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def assess(config: Config, engine: Engine, sessions: Iterable[int]) -> Assessed:
    """Assess all clients in a process of its own; sessions: of the cluster, if there is one."""
    named = {key: value for key, value in vars(engine).items() if value is not None}
    settings = json.loads(config.file.read_text()) | {"engine": named}
    place = config.file.with_name("engine.json")
    place.write_text(json.dumps(settings))
    shutil.rmtree(config.reports_folder)
    config.reports_folder.mkdir(mode=0o750)
    before = cpu_of_sessions(sessions)
    command = [sys.executable, str(ROOT / "assessment.py"), "--config", str(place)]
    cost = cpu_of(command, AUTHENTICATION)
    cpu_seconds = cost.cpu_seconds + cpu_of_sessions(sessions) - before
    record = files.read_record(config.assessment_record) or {}
    return Assessed(cost.seconds, cpu_seconds, {name: record["outputs"][name] for name in OUTPUTS})


def measure(config: Config, count: int, repeat: int, only: list[str]) -> list[Row]:
    size = min(ledger.ROWS_PER_PART, count // 4)
    results: dict[str, list[Assessed]] = {}
    with ExitStack() as stack:
        engines: dict[str, tuple[Engine, list[int]]] = {HERE: (Engine(), [])}
        engines[LOKY] = (Engine("loky", workers=2), [])
        for name, cluster in ((DASK, dask_cluster), (RAY, ray_cluster)):
            if not only or name.split(",")[0].lower() in only:
                engine, head, workers = stack.enter_context(cluster())
                engines[name] = (engine, [head.pid, *(worker.pid for worker in workers)])
        for _ in range(repeat):
            for name, (engine, sessions) in engines.items():
                sized = replace(engine, rows_per_part=size)
                results.setdefault(name, []).append(assess(config, sized, sessions))
    hashes = results[HERE][0].hashes
    is_same = all(one.hashes == hashes for each in results.values() for one in each)
    seconds = {name: min(one.seconds for one in each) for name, each in results.items()}
    cpu = {name: min(one.cpu_seconds for one in each) for name, each in results.items()}
    rows = []
    for name in results:
        figure = f"{seconds[name]:.1f} s"
        if name != RAY:
            figure += f", {cpu[name]:.1f} CPU s ({cpu[name] / cpu[HERE]:.2f} x)"
        rows.append(Row(f"assessment of {count:,} clients, {name}", figure))
        if name != HERE:
            share = seconds[name] / seconds[HERE]
            rows.append(at_most(f"time with {name}, of one process", share, MOST_TIME, "x"))
    rows.append(Row("same bytes by every engine", str(is_same), is_met=is_same))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--only", nargs="+", choices=("dask", "ray"), default=[])
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        config = finish_project(Path(name) / "project", options.project)
        grow(config, options.clients)
        rows = measure(config, options.clients, options.repeat, options.only)
        return print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
