"""Measure what training costs, and what a sample costs in log loss.

* first: the first run of the sample, in processes of a past commit and of this one, in turns
* growth: training on growing tables of a simulated company, on the sample that training chooses and on
  all rows; both models predict the clients of another company, whose true risks are known

Run: python -m benchmarks.training [first] [growth] [--rows 100000 300000 1000000] [--all-rows 300000]
     [--commit 05ec447] [--repeat 5]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.modelling import metrics, models, persistence
from attrition.rows import typed_rows
from attrition.storage import files
from benchmarks import measure, simulation
from benchmarks.measure import Row
from benchmarks.project import ROOT, make_project

MONTHS, SCORED_CLIENTS = 10, 20_000
MAX_SHARE, MAX_LOSS = 0.7, 0.0005
FIRST_RUN = """
import os, shutil, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(sys.argv[1], folder, dirs_exist_ok=True)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = folder
    pid = os.spawnl(os.P_WAIT, sys.executable, sys.executable, "fullprocess.py")
    shutil.copy("practicemodels/training.json", sys.argv[2])
"""
ON_ALL_ROWS = "import sys, training; training.SIZES = (); sys.exit(training.main(sys.argv[1:]))"


def export(commit: str, folder: Path) -> Path:
    """Write the files of a commit, or of this working tree if it is "": only what git tracks."""
    folder.mkdir()
    command = ["git", "archive", commit] if commit else ["git", "stash", "create"]
    if not commit:
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        command = ["git", "archive", made.stdout.strip() or "HEAD"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def measure_first_run(commit: str, repeat: int) -> list[Row]:
    """Compare the first run of the sample with that of a past commit."""
    with tempfile.TemporaryDirectory() as place:
        names = {"then": commit, "now": ""}
        records = {name: Path(place) / f"{name}.json" for name in names}
        commands = {
            name: [
                *(sys.executable, "-c", FIRST_RUN),
                *(str(export(each, Path(place) / name)), str(records[name])),
            ]
            for name, each in names.items()
        }
        costs = measure.compare(commands, repeat=repeat)
        losses = {
            name: min(
                one["log_loss"]
                for one in (files.read_record(path) or {})["candidates"]
                if one["chosen"]
            )
            for name, path in records.items()
        }
    share = costs["now"].cpu_seconds / costs["then"].cpu_seconds
    change = losses["now"] - losses["then"]
    return [
        Row("first run then, CPU", f"{costs['then'].cpu_seconds:.1f} s"),
        Row("first run now, CPU", f"{costs['now'].cpu_seconds:.1f} s"),
        measure.at_most("first run, now / then", share, MAX_SHARE, "x"),
        Row(
            "its cross-validated log loss, now - then",
            f"{change:+.4f}",
            f"at most {MAX_LOSS}",
            change <= MAX_LOSS,
        ),
    ]


def make_company(folder: Path, rows: int) -> Config:
    """Make a project with so many labelled rows, ingested."""
    config = make_project(folder, databases=[])
    company = simulation.simulate(months=MONTHS, clients=rows // MONTHS)
    company.to_csv(config.input_folder / "company.csv", index=False)
    command = [sys.executable, "ingestion.py", "--config", str(config.file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return config


def strangers(config: Config) -> tuple[pd.DataFrame, np.ndarray]:
    """Return typed rows of another company, and their true risks."""
    rows = simulation.simulate(months=1, clients=SCORED_CLIENTS, elsewhere=True)
    risk = simulation.true_risk(rows)
    texts = rows.astype(object).where(rows.notna(), "")
    return typed_rows.typed(texts.astype(str).replace({"nan": ""}), config.columns), risk


def expected_loss(config: Config, rows: pd.DataFrame, risk: np.ndarray) -> np.ndarray:
    """Return the log loss of the candidate that each row is expected to have: (n,)."""
    predicted = models.predict(persistence.loads(config.candidate.read_bytes()), rows)
    left, stayed = (metrics.row_log_loss(np.full(len(rows), y), predicted) for y in (1.0, 0.0))
    return np.asarray(risk * left + (1 - risk) * stayed)


def measure_growth(sizes: list[int], all_rows: int) -> list[Row]:
    """Measure training at growing sizes; up to `all_rows` also without a sample."""
    rows: list[Row] = []
    costs = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            config = make_company(Path(place) / "project", size)
            scored, risk = strangers(config)
            ways = {"a sample": [sys.executable, str(ROOT / "training.py")]}
            if size <= all_rows:
                ways["all rows"] = [sys.executable, "-c", ON_ALL_ROWS]
            losses = {}
            for way, command in ways.items():
                config.training_record.unlink(missing_ok=True)
                options = ["--config", str(config.file)]
                cost = measure.cpu_of([*command, *options], {"PYTHONPATH": str(ROOT)})
                losses[way] = expected_loss(config, scored, risk)
                record = files.read_record(config.training_record) or {}
                trained = (record["sample"] or record)["rows"]
                name = f"training on {way} ({trained:,} of {size:,})"
                figure = f"{cost.cpu_seconds:.0f} CPU s, {cost.peak_mb:,.0f} MB"
                rows += [Row(name, figure), Row("its log loss", f"{losses[way].mean():.4f}")]
                costs[way, size] = cost.cpu_seconds
                if record["sample"]:
                    print(pd.DataFrame(record["sample"]["points"]).to_string(index=False))
            best = float(expected_entropy(risk))
            rows.append(Row("log loss of the true risks", f"{best:.4f}"))
            if len(losses) == 2:
                difference = metrics.mean(losses["a sample"] - losses["all rows"])
                figure = f"{difference.value:+.5f} ({difference.standard_error:.5f})"
                rows.append(Row("a sample - all rows, and its standard error", figure))
    if len(sizes) > 1:
        first, last = (costs["a sample", size] for size in (sizes[0], sizes[-1]))
        exponent = np.log(last / first) / np.log(sizes[-1] / sizes[0])
        rows.append(Row("growth exponent of training on a sample", f"{exponent:.2f}"))
    return rows


def expected_entropy(risk: np.ndarray) -> float:
    left, stayed = (metrics.row_log_loss(np.full(len(risk), y), risk) for y in (1.0, 0.0))
    return float(np.mean(risk * left + (1 - risk) * stayed))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], "first", "growth"], default=[])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--all-rows", type=int, default=300_000)
    parser.add_argument("--commit", default="05ec447")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(argv)
    rows: list[Row] = []
    if "first" in options.parts or not options.parts:
        rows += measure_first_run(options.commit, options.repeat)
    if "growth" in options.parts or not options.parts:
        rows += measure_growth(options.rows, options.all_rows)
    return measure.print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
