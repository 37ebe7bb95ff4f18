"""Measure a run that finds nothing new against `python -c pass`, and check that it writes no content.

CPU time, user and system, of whole processes, one after the other; the median of each.

Run: python -m benchmarks.idle [--config PATH] [--runs 15] [--files 0] [--mb 0]
     without --config, a project of the sample is made and run once: with so many more files of one row
     each, and with so many MB among the test files
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from attrition import config_file, idle
from attrition.config import Config
from attrition.storage import files
from benchmarks.measure import Row, at_most, cpu_of, print_rows
from benchmarks.project import ROOT, make_project

MAX_RATIO = 4
ROW = "{},2026-08-01,1,2,3,4,5,600,logistics,multi-year,Daniel Okafor,0"


def hash_contents(config: Config) -> dict[Path, str]:
    """Hash every file of a project."""
    files.forget_hashes()
    paths = [path for path in sorted(config.file.parent.rglob("*")) if path.is_file()]
    return {path: files.sha256_file(path) for path in paths}


def compare(config: Config, runs: int) -> list[Row]:
    """Return the ratio of the CPU times, and what was written."""
    tick = [sys.executable, str(ROOT / "fullprocess.py"), "--quiet", "--config", str(config.file)]
    subprocess.run(tick, check=True)
    before = hash_contents(config)
    is_watched = idle.is_current(str(config.file))
    bare, ticks = [], []
    for _ in range(runs):
        bare.append(cpu_of([sys.executable, "-c", "pass"]).cpu_seconds)
        ticks.append(cpu_of(tick).cpu_seconds)
    changed = [path for path, digest in hash_contents(config).items() if before.get(path) != digest]
    megabytes = sum(path.stat().st_size for path in before) / 1e6
    tick_ms, bare_ms = (1000 * statistics.median(each) for each in (ticks, bare))
    name = f"idle tick over {megabytes:,.0f} MB, {tick_ms:.1f} ms of CPU / python -c pass"
    return [
        at_most(name, tick_ms / bare_ms, MAX_RATIO, "x"),
        at_most("files that an idle tick changed", len(changed), 0, "files"),
        Row("a watch list exists", "yes" if is_watched else "no", "yes", is_watched),
    ]


def make_sample(folder: Path, count: int, megabytes: int) -> Config:
    """Make a project of the sample and run it once."""
    config = make_project(folder)
    shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
    header = (ROOT / "sourcedata" / "2026-08.csv").open().readline()
    for i in range(count):
        text = header + ROW.format(f"client {i}") + "\n"
        (config.input_folder / f"small{i:05}.csv").write_text(text)
    if megabytes:
        with (config.test_folder / "large.bin").open("wb") as file:
            file.truncate(megabytes * 1_000_000)
    run = [sys.executable, str(ROOT / "fullprocess.py"), "--quiet", "--config", str(config.file)]
    subprocess.run(run, check=True)
    return config


def main(argv: list[str] | None = None) -> int:
    """Return 0 if a run that finds nothing new costs little and writes nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--mb", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if options.config:
            config = config_file.load(options.config)
        else:
            config = make_sample(Path(folder) / "project", options.files, options.mb)
        return print_rows(compare(config, options.runs))


if __name__ == "__main__":
    sys.exit(main())
