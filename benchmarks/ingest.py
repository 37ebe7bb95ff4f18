"""Ingest one clean CSV, beside polars and plain pandas that parse, validate, deduplicate and write it.

Two tables: the plain form (a name and three counts), and a mixed one of nine columns. Each run is a
process of its own on an empty project, and the three alternate: CPU seconds and peak memory are the
kernel's figures, medians of the repeats. See benchmarks/ingest_peers.py for what the peers do.

Run: python -m benchmarks.ingest [--rows 1000000] [--repeats 5] [--peer PYTHON]
     PYTHON: of an environment with polars; without it, polars is left out
"""

import argparse
import shutil
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
from benchmarks.measure import Cost, Row, at_most, cpu_of, median, print_rows
from benchmarks.project import ROOT, make_project

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
    cost = cpu_of([python, "-P", script, peer, str(source), str(folder)])
    shutil.rmtree(folder)
    return cost


def compare(folder: Path, name: str, rows: int, repeats: int, python: str | None) -> list[Row]:
    """Measure all in alternation; return the medians and how they compare."""
    source = folder / f"{name}.csv"
    scale.apart(write_source, name, source, rows)
    peers = {"pandas": sys.executable} | ({"polars": python} if python else {})
    costs: dict[str, list[Cost]] = {each: [] for each in ("ours", *peers)}
    for _ in range(repeats):
        costs["ours"].append(ingest(folder / "ours", name, source, rows))
        for peer, its_python in peers.items():
            costs[peer].append(run_peer(folder / peer, peer, its_python, source))
    medians = {each: median(runs) for each, runs in costs.items()}
    ours = medians["ours"]
    table, limits = (
        f"{name} table of {rows:,} rows",
        {"polars": MAX_POLARS, "pandas": 1 / MIN_PANDAS},
    )
    ratios = {each: ours.cpu_seconds / medians[each].cpu_seconds for each in peers}
    return [
        *(
            Row(f"{table}: {each}", f"{cost.cpu_seconds:.2f} s, {cost.peak_mb:,.0f} MB")
            for each, cost in medians.items()
        ),
        *(at_most(f"{table}: ours / {each}", ratios[each], limits[each], "x") for each in peers),
    ]


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
    results: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.only] if options.only else MAKERS:
            arguments = (name, options.rows, options.repeats, options.peer)
            results += compare(Path(folder), *arguments)
    return print_rows(results)


if __name__ == "__main__":
    sys.exit(main())
