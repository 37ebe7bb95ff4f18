"""Compare a run with a new file and no retraining with the least that its result costs.

The project is the sample after its first run: 10,000 current clients. The new file has a later row of
500 of them. The peer is one process that imports the third-party modules which the run imported, reads
the new file with pandas, predicts its rows once with the model in production, and draws the figures
that the run drew: the same functions on the same records. It checks, keeps, compares and lays out
nothing. Both are measured in turn, as CPU time of the whole process; every run starts from the same
state. At the end, one more run is split into its parts.

Run: python -m benchmarks.floor [--times 7]
"""

import argparse
import csv
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from attrition.config import Config
from attrition.storage import files
from benchmarks.measure import at_most, compare, cpu_of, print_rows
from benchmarks.project import ROOT, make_project

LIMIT, ROWS, DAY = 2.0, 500, "2026-11-01"
MADE = ("ingesteddata", "practicemodels", "production_deployment", "reports", "contacts")

RUN = "import sys, fullprocess; sys.exit(fullprocess.main(sys.argv[1:]))"

# Runs fullprocess.py and saves what it imported, and the CPU time of its parts. The time of an import
# counts for the imports alone.
TRACE = """
import builtins, json, sys, time

spent, imports, depth = {}, 0.0, 0
load = builtins.__import__

def timed_import(*arguments, **named):
    global imports, depth
    depth, start = depth + 1, time.process_time()
    try:
        return load(*arguments, **named)
    finally:
        depth -= 1
        imports += 0.0 if depth else time.process_time() - start

def time_calls(owner, name, label):
    function = getattr(owner, name)
    def timed(*arguments, **named):
        start, before = time.process_time(), imports
        try:
            return function(*arguments, **named)
        finally:
            part = label or arguments[1]
            seconds = time.process_time() - start - (imports - before)
            spent[part] = spent.get(part, 0.0) + seconds
    setattr(owner, name, timed)

builtins.__import__ = timed_import
import fullprocess, reporting
from attrition.operations import cli

time_calls(cli, "run_step", None)
time_calls(reporting, "draw_figures", "of it figures")
time_calls(reporting, "build_pdf", "of it PDF")
for name in ("find_sources", "check_state", "check_made", "keep_state"):
    time_calls(fullprocess, name, name)
code = fullprocess.main(sys.argv[2:])
spent |= {"imports": imports, "all": time.process_time()}
places = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
modules = [name for name, place in places.items() if "site-packages" in place]
with open(sys.argv[1], "w") as file:
    json.dump({"modules": modules, "spent": spent}, file)
sys.exit(code)
"""

PEER = """
import importlib, json, sys

with open(sys.argv[1]) as file:
    plan = json.load(file)
for name in plan["modules"]:
    importlib.import_module(name)
import pandas as pd
from attrition.reporting import charts
from attrition.serving.flat_model import FlatModel

rows = pd.read_csv(plan["file"])
with open(plan["model"], "rb") as file:
    FlatModel.from_bytes(file.read()).predict({name: rows[name] for name in plan["features"]})
for name, data in plan["figures"].items():
    with open(f"{plan['folder']}/{name}.png", "wb") as file:
        file.write(charts.draw(name, data))
"""


def write_news(config: Config) -> Path:
    """Write a file with a later row of 500 current clients, and return its path."""
    with closing(sqlite3.connect(config.input_folder / "crm.sqlite")) as database:
        cursor = database.execute(f"SELECT * FROM clients ORDER BY corporation LIMIT {ROWS}")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    later = [
        row | {"observed_on": DAY, "lastmonth_activity": row["lastmonth_activity"] + 1}
        for row in rows
    ]
    path = config.input_folder / "2026-11.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = [name for name in names if name != "updated_at"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(later)
    return path


def command(code: str, *arguments: object) -> list[str]:
    """Return the command of a Python program."""
    return [sys.executable, "-c", code, *map(str, arguments)]


class Project:
    """The sample after its first run, at one place, and a copy of its state to go back to."""

    def __init__(self, folder: Path) -> None:
        self.config = make_project(folder / "project")
        shutil.copytree(ROOT / "sourcedata", self.config.input_folder, dirs_exist_ok=True)
        self.options = ("--quiet", "--config", self.config.file)
        self.run = command(RUN, *self.options)
        cpu_of(self.run)
        self.kept = shutil.copytree(folder / "project", folder / "kept", symlinks=True)
        self.restore()

    def restore(self) -> None:
        """Bring back the state after the first run, with a new file that no run has seen."""
        folder = self.config.file.parent
        for name in MADE:
            shutil.rmtree(folder / name, ignore_errors=True)
            if (self.kept / name).is_dir():
                shutil.copytree(self.kept / name, folder / name, symlinks=True)
        (self.config.input_folder / "2026-11.csv").unlink(missing_ok=True)
        cpu_of(self.run)  # it finds nothing new, and learns that the copies are what they were
        self.news = write_news(self.config)

    def figure_digests(self) -> dict[str, str]:
        return dict((files.read_record(self.config.report_record) or {})["figure_data"])


def trace(project: Project, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Run once with the new file; return what the peer needs, and the CPU time of the parts."""
    import reporting
    from attrition.operations import releases

    config, before = project.config, project.figure_digests()
    cpu_of(command(TRACE, folder / "trace.json", *project.options))
    traced = json.loads((folder / "trace.json").read_text())
    data = reporting.figure_data(reporting.load_report_data(config))
    drawn = [name for name, digest in project.figure_digests().items() if digest != before[name]]
    release = releases.read_current(config.production_folder)
    plan = {
        "modules": traced["modules"],
        "file": str(shutil.copy(project.news, folder / "news.csv")),
        "model": str(release.folder / releases.SERVING_MODEL),
        "features": [name for names in release.training["features"].values() for name in names],
        "figures": {name: data[name] for name in drawn},
        "folder": str(folder),
    }
    return plan, traced["spent"]


def describe(plan: dict[str, Any], spent: dict[str, float]) -> Iterator[str]:
    """Describe what the run did, and the CPU time of its parts in milliseconds."""
    libraries = sorted({name.partition(".")[0] for name in plan["modules"]})
    yield f"modules of others: {len(plan['modules'])} of {', '.join(libraries)}"
    yield f"figures drawn: {', '.join(plan['figures'])}"
    yield from (f"  {name:<16} {1000 * seconds:6.0f} ms" for name, seconds in spent.items())


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the run costs at most twice as much as the peer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args(argv).times
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no program is compiled anew for each run
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="floor-") as name:
        folder = Path(name)
        project = Project(folder)
        plan, spent = trace(project, folder)
        (folder / "plan.json").write_text(json.dumps(plan))
        commands = {"run": project.run, "peer": command(PEER, folder / "plan.json")}

        def prepare(name: str) -> None:
            if name == "run":
                project.restore()

        costs = compare(commands, repeat=times, before=prepare)
    print("\n".join(describe(plan, spent)))
    run, peer = (costs[name].cpu_seconds for name in commands)
    name = f"a new file, no retraining, {run:.2f} s of CPU / the least that it costs, {peer:.2f} s"
    return print_rows([at_most(name, run / peer, LIMIT, "x")])


if __name__ == "__main__":
    sys.exit(main())
