"""Ingest one clean CSV, beside polars and plain pandas that parse, validate, deduplicate and write it.

Two tables: the plain form (a name and three counts), and a mixed one of nine columns. Each run is a
process of its own on an empty project, and the three alternate: CPU seconds and peak memory are the
kernel's figures, medians of the repeats. See benchmarks/ingest_peers.py for what the peers do.

Run: python -m benchmarks.ingest [--rows 1000000] [--repeats 5] [--peer PYTHON]
     PYTHON: of an environment with polars; without it, polars is left out
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Config
from benchmarks import scale
from benchmarks.project import ROOT, make_project
from benchmarks.scale import Cost

MAX_POLARS, MIN_PANDAS = 3.0, 2.0
MIXED: dict[str, Any] = {
    "client": "client",
    "outcome": "churned",
    "time": "seen",
    "categorical": ["plan", "region"],
    "numeric": {name: {"minimum": 0} for name in ("calls", "logins", "users", "annual_value")},
    "value": "annual_value",
}
SETTINGS = {"plain": scale.SETTINGS, "mixed": {"databases": [], "columns": MIXED}}


def make_mixed(count: int) -> pa.Table:
    """Rows of nine columns: names, two categories, a value with two decimals, days and counts."""
    rng = np.random.default_rng(0)

    def pick(words: Sequence[str]) -> pa.Array:
        return pa.array(words, pa.string()).take(pa.array(rng.integers(0, len(words), count)))

    names = pc.binary_join_element_wise("client", pa.array(np.arange(count)).cast("string"), " ")
    cents = pa.array(rng.integers(0, 10**8, count)).cast("string")
    cents = pc.utf8_lpad(cents, 3, "0")
    whole, rest = pc.utf8_slice_codeunits(cents, 0, -2), pc.utf8_slice_codeunits(cents, -2)
    return pa.table({
        "client": names,
        "plan": pick(["basic", "plus", "premium", "enterprise", ""]),
        "region": pick([f"region {i}" for i in range(40)]),
        "annual_value": pc.binary_join_element_wise(whole, rest, "."),
        "seen": pa.array(np.datetime64("2024-01-01") + rng.integers(0, 900, count)).cast("string"),
        "calls": pa.array(rng.poisson(4, count)),
        "logins": pa.array(rng.integers(0, 10**4, count)),
        "users": pa.array(rng.integers(1, 10**3, count)),
        "churned": pick(["yes", "no", "no", "no", ""]),
    })  # fmt: skip


MAKERS = {"plain": scale.make_rows, "mixed": make_mixed}


def write_source(name: str, path: Path, count: int) -> None:
    scale.write_csv(MAKERS[name](count), path)


def ingest(folder: Path, name: str, source: Path, rows: int) -> Cost:
    """Measure the ingestion of a source by an empty project."""
    config: Config = make_project(folder, **SETTINGS[name])
    shutil.copy(source, config.input_folder)
    cost = scale.ingest(config)
    scale.check_rows(config, rows, 1)
    shutil.rmtree(folder)
    return cost


def run_peer(folder: Path, peer: str, python: str, source: Path) -> Cost:
    folder.mkdir()
    script = str(ROOT / "benchmarks" / "ingest_peers.py")
    cost = scale.measure([python, "-P", script, peer, str(source), str(folder)])
    shutil.rmtree(folder)
    return cost


def compare(folder: Path, name: str, rows: int, repeats: int, python: str | None) -> bool:
    """Measure all in alternation and print medians; return whether ours is within the limits."""
    source = folder / f"{name}.csv"
    scale.apart(write_source, name, source, rows)
    peers = {"pandas": sys.executable} | ({"polars": python} if python else {})
    costs: dict[str, list[Cost]] = {each: [] for each in ("ours", *peers)}
    for _ in range(repeats):
        costs["ours"].append(ingest(folder / "ours", name, source, rows))
        for peer, its_python in peers.items():
            costs[peer].append(run_peer(folder / peer, peer, its_python, source))
    medians = {
        each: Cost(*(statistics.median(values) for values in zip(*runs, strict=True)))
        for each, runs in costs.items()
    }
    ours = medians["ours"]
    print(f"{name}: {rows:,} rows, {source.stat().st_size / 1e6:.0f} MB, median of {repeats}")
    for each, cost in medians.items():
        ratio = ours.cpu_seconds / cost.cpu_seconds
        print(
            f"  {each:8} {cost.cpu_seconds:6.2f} s cpu {cost.peak_mb:6,.0f} MB  ours is {ratio:.2f} x"
        )
    enough = ours.cpu_seconds * MIN_PANDAS <= medians["pandas"].cpu_seconds
    return enough and (not python or ours.cpu_seconds <= MAX_POLARS * medians["polars"].cpu_seconds)


def main(argv: list[str] | None = None) -> int:
    """Return 0 if ours is within the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--only", choices=MAKERS)
    options = parser.parse_args(argv)
    if not options.peer:
        print("polars is left out: name a Python that has it with --peer")
    is_within = True
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.only] if options.only else MAKERS:
            arguments = (name, options.rows, options.repeats, options.peer)
            is_within &= compare(Path(folder), *arguments)
    verdict = "within" if is_within else "NOT within"
    print(f"limits: {MAX_POLARS:g} x polars, pandas / {MIN_PANDAS:g}: {verdict} both")
    return int(not is_within)


if __name__ == "__main__":
    sys.exit(main())
