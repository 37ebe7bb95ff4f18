"""Measure how the cost of each step grows with the rows, and of a tick of 500 new rows beside them.

The rows are those of the sample company, drawn again and again for other clients: eight in ten have an
outcome, the others are current clients. The model is trained once, on 2,000 of them; each size starts
from that state and gets the other rows in one file. Each step runs in a process of its own. Its CPU
time is what the step records in the history, that of a tick the median of three. The exponent is the
slope of a least-squares line through the logarithms; beside it, that between the two largest sizes.

Run: python -m benchmarks.growth [--sizes 10000 100000 1000000] [--large] [--folder FOLDER]
     [--out FILE]
     --large: 10^7 rows too, which takes an hour; --folder: keep the tables and the trained state here;
     --out docs/scale.md: write the costs there, those of larger sizes extrapolated
"""

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from attrition import config_file
from attrition.config import Config
from attrition.storage import history
from benchmarks.measure import Row, at_most, cpu_of, print_rows, write_table
from benchmarks.project import ROOT, make_project, sample_columns

SIZES, LARGE = (10_000, 100_000, 1_000_000), 10_000_000
STEPS = ("ingestion", "monitoring", "assessment", "diagnostics", "reporting")
ALL = "all of them"
MAX_EXPONENT, MAX_TICK_EXPONENT = 1.1, 0.3
TRAINED, NEW_ROWS, TICKS, BLOCK = 2_000, 500, 3, 500_000
SHARE_LABELLED = 0.8
LEAST_S = 0.005  # a step that was up to date records no cost


class Pass(NamedTuple):
    """The CPU seconds of each step, and the highest memory of any of them."""

    cpu_s: dict[str, float]
    peak_mb: float

    @property
    def total_s(self) -> float:
        return sum(self.cpu_s.values())


def read_sample() -> pd.DataFrame:
    """Return the rows of the sample as text: those with outcomes, then the current clients."""
    paths = sorted((ROOT / "sourcedata").glob("*.csv"))
    labelled = pd.concat([pd.read_csv(path, dtype=str) for path in paths])
    with sqlite3.connect(ROOT / "sourcedata" / "crm.sqlite") as connection:
        current = pd.read_sql_query("SELECT * FROM clients", connection).astype(str)
    current = current.replace({"None": "", "nan": ""})
    return pd.concat([labelled, current[labelled.columns]]).fillna("").reset_index(drop=True)


def write_rows(path: Path, sample: pd.DataFrame, first: int, count: int) -> None:
    """Write rows of the clients with the numbers from `first` on, block by block."""
    given = np.flatnonzero(sample["exited"] != "")
    still_open = np.flatnonzero(sample["exited"] == "")
    rng = np.random.default_rng(first)
    with path.open("w", encoding="utf-8") as file:
        for at in range(first, first + count, BLOCK):
            n = min(BLOCK, first + count - at)
            is_given = rng.random(n) < SHARE_LABELLED
            drawn = np.where(is_given, rng.choice(given, n), rng.choice(still_open, n))
            rows = sample.iloc[drawn].assign(
                corporation=[f"Client {i:09} Ltd" for i in range(at, at + n)]
            )
            rows.to_csv(file, index=False, header=at == first)


def make_trained(folder: Path, sample: pd.DataFrame, rows: int) -> None:
    """Make a project of the first rows, and run it, unless an earlier run has."""
    if folder.is_dir():
        return
    place = folder.with_suffix(".part")
    shutil.rmtree(place, ignore_errors=True)
    config = make_project(place, columns=sample_columns(), databases=[], contact_capacity=100)
    write_rows(config.input_folder / "a.csv", sample, 0, rows)
    cpu_of([sys.executable, str(ROOT / "fullprocess.py"), "--quiet", "--config", str(config.file)])
    place.rename(folder)


def run_steps(config: Config) -> Pass:
    """Run each step once; return what each recorded."""
    costs, peaks = {}, []
    for name in STEPS:
        before = history.read_steps(config.history, name)
        command = [sys.executable, str(ROOT / f"{name}.py"), "--quiet"]
        peaks.append(cpu_of([*command, "--config", str(config.file)]).peak_mb)
        after = history.read_steps(config.history, name)
        has_worked = after[-1:] != before[-1:]
        costs[name] = max(LEAST_S, after[-1]["cpu_s"]) if has_worked else LEAST_S
    return Pass(costs, max(peaks))


def measure(folder: Path, sample: pd.DataFrame, trained: Path, rows: int) -> tuple[Pass, Pass]:
    """Measure a pass over so many rows, and the medians of ticks beside them."""
    source = folder / f"rows-{rows}.csv"
    if not source.is_file():
        part = source.with_suffix(".part")
        write_rows(part, sample, TRAINED, rows - TRAINED)
        part.rename(source)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shutil.copytree(trained, place, symlinks=True, dirs_exist_ok=True)
        config = config_file.load(Path(place) / "config.json")
        (config.input_folder / "b.csv").hardlink_to(source)
        whole = run_steps(config)
        ticks = []
        for i in range(TICKS):
            at = 2 * LARGE + i * NEW_ROWS
            write_rows(config.input_folder / f"c{i}.csv", sample, at, NEW_ROWS)
            ticks.append(run_steps(config))
    medians = {name: statistics.median(tick.cpu_s[name] for tick in ticks) for name in STEPS}
    return whole, Pass(medians, max(tick.peak_mb for tick in ticks))


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms.

    >>> round(exponent([10, 100, 1000], [1, 10, 100]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def describe(kind: str, passes: dict[int, Pass], goal: float, judged: Collection[str]) -> list[Row]:
    """Return a row for each step: the exponent, and the CPU time at each size.

    judged: the steps to which the goal applies
    """
    sizes, rows = list(passes), []
    for name in (*STEPS, ALL):
        costs = [
            passes[size].total_s if name == ALL else passes[size].cpu_s[name] for size in sizes
        ]
        fitted = exponent(sizes, costs)
        last = exponent(sizes[-2:], costs[-2:])
        shown = ", ".join(f"{cost:.2f} s" for cost in costs)
        title, figure = f"{kind}: {name}, CPU {shown}", f"{fitted:.2f} (last {last:.2f})"
        row = at_most(title, fitted, goal, "exponent") if name in judged else Row(title, "")
        rows.append(row._replace(figure=figure))
    peaks = ", ".join(f"{one.peak_mb:,.0f}" for one in passes.values())
    return [*rows, Row(f"{kind}: peak memory of any step", f"{peaks} MB")]


def cost_table(wholes: dict[int, Pass], ticks: dict[int, Pass]) -> str:
    """Return the costs at each size as Markdown, up to 10^9 rows.

    Beyond the largest size that was measured, each figure grows as it did between the last two sizes.
    """
    sizes = list(wholes)
    lines = ["| rows | " + " | ".join([*STEPS, "peak memory", f"{NEW_ROWS} new rows", ""]) + " |"]
    lines.append("|---" * (len(STEPS) + 4) + "|")
    for power in range(4, 10):
        size = 10**power
        is_measured = size in wholes
        if not is_measured and size < sizes[-1]:
            continue
        figures = [_at(size, wholes, lambda one, name=name: one.cpu_s[name]) for name in STEPS]
        peak_mb = _at(size, wholes, lambda one: one.peak_mb)
        tick_s = _at(size, ticks, lambda one: one.total_s)
        cells = [f"{figure:,.1f} s" for figure in figures]
        cells += [f"{peak_mb / 1000:,.1f} GB", f"{tick_s:,.1f} s"]
        cells.append("measured" if is_measured else "extrapolated")
        lines.append(f"| 10^{power} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _at(size: int, passes: dict[int, Pass], figure: Callable[[Pass], float]) -> float:
    """Return a figure at a size, measured or extrapolated."""
    if size in passes:
        return figure(passes[size])
    last = list(passes)[-2:]
    slope = max(0.0, exponent(last, [figure(passes[each]) for each in last]))
    return float(figure(passes[last[-1]]) * (size / last[-1]) ** slope)


def main(argv: list[str] | None = None) -> int:
    """Return 0 if no step grows faster than its goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    sizes = sorted({*options.sizes, *([LARGE] if options.large else [])})
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sample = read_sample()
        trained = folder / "trained"
        make_trained(trained, sample, TRAINED)
        wholes, ticks = {}, {}
        for size in sizes:
            wholes[size], ticks[size] = measure(folder, sample, trained, size)
            print(f"{size:,} rows: {wholes[size]}; tick: {ticks[size]}", flush=True)
    if options.out:
        write_table(options.out, "growth", cost_table(wholes, ticks))
    rows = describe("all rows", wholes, MAX_EXPONENT, STEPS)
    rows += describe(f"{NEW_ROWS} new rows", ticks, MAX_TICK_EXPONENT, [ALL])
    return print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
