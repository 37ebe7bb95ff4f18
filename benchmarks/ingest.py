"""Ingest one clean CSV, beside polars and plain pandas that parse, validate, deduplicate and write it.

Two tables: the plain form (a name and three counts), and a mixed one of nine columns. Each run is a
process of its own on an empty project, and the three alternate: CPU seconds and peak memory are the
kernel's figures, medians of the runs. See benchmarks/ingest_peers.py for what the peers do.

Run: python -m benchmarks.ingest [--rows 1000000] [--repeat 5] [--peer PYTHON]
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

from attrition import config_file
from benchmarks import measure, scale
from benchmarks.measure import Row
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


def compare(folder: Path, name: str, rows: int, repeat: int, python: str | None) -> list[Row]:
    """Measure all in turns, each run on an empty project or folder."""
    source, written = folder / f"{name}.csv", folder / "written"
    scale.apart(write_source, name, source, rows)
    peer = [str(ROOT / "benchmarks" / "ingest_peers.py")]
    pythons = {"pandas": sys.executable} | ({"polars": python} if python else {})
    commands = {
        each: [its_python, "-P", *peer, each, str(source), str(written)]
        for each, its_python in pythons.items()
    }
    ours = [sys.executable, str(ROOT / "ingestion.py"), "--quiet", "--config"]
    commands = {"ours": [*ours, str(written / "config.json")], **commands}

    def begin(each: str) -> None:
        shutil.rmtree(written, ignore_errors=True)
        if each == "ours":
            config = make_project(written, **SETTINGS[name])
            shutil.copy(source, config.input_folder)
        else:
            written.mkdir()

    costs = measure.compare(commands, repeat=repeat, before=begin)
    begin("ours")
    measure.cpu_of(commands["ours"])
    scale.check_rows(config_file.load(written / "config.json"), rows, 1)
    print(f"{name}: {rows:,} rows, {source.stat().st_size / 1e6:.0f} MB")
    for each, cost in costs.items():
        print(f"  {each:8} {cost.cpu_seconds:6.2f} s of CPU, {cost.peak_mb:6,.0f} MB")
    cpu = {each: cost.cpu_seconds for each, cost in costs.items()}
    title = f"ingesting {rows:,} rows ({name})"
    result = [
        measure.at_least(
            f"{title}, pandas beside it", cpu["pandas"] / cpu["ours"], MIN_PANDAS, "x ours"
        )
    ]
    if python:
        ratio = cpu["ours"] / cpu["polars"]
        result.append(measure.at_most(f"{title} beside polars", ratio, MAX_POLARS, "x polars"))
    return result


def main(argv: list[str] | None = None) -> int:
    """Return 0 if ours is within the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--only", choices=MAKERS)
    options = parser.parse_args(argv)
    if not options.peer:
        print("polars is left out: name a Python that has it with --peer")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.only] if options.only else MAKERS:
            rows += compare(Path(folder), name, options.rows, options.repeat, options.peer)
    return measure.print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
