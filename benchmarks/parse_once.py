"""Count how often one first run of the sample opens its rows: each file is to be parsed once a step.

A step reads the typed twin of finaldata.csv, at most once; nobody but ingestion reads the CSV, and each
of the two is read at most once a run to be hashed.

Run: python -m benchmarks.parse_once
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fullprocess
from attrition.config import Config
from attrition.operations import cli
from attrition.storage import files
from benchmarks.project import ROOT, make_project

HASHING = "hashing"


def count_reads(config: Config) -> Counter[tuple[str, str]]:
    """Run the whole process once; return how often each step, or hashing, read each file of the rows."""
    reads: Counter[tuple[str, str]] = Counter()
    paths = {os.fspath(path): path.name for path in (config.final_data, config.rows)}
    step, real = ["before"], cli.run_step

    def run_step(config: Config, name: str, work: Callable[[Config], Any]) -> Any:
        step[0] = name
        return real(config, name, work)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            name, flags = paths.get(os.fspath(arguments[0])), arguments[2]
            if name and not flags & (os.O_WRONLY | os.O_RDWR):
                reads[name, HASHING if is_hashing() else step[0]] += 1

    sys.addaudithook(look)
    cli.run_step = run_step
    try:
        if code := fullprocess.main(["--config", str(config.file), "--quiet"]):
            sys.exit(code)
    finally:
        cli.run_step = real
        paths.clear()
    return reads


def is_hashing() -> bool:
    """Is a file being opened by `files.sha256_file`?"""
    frame = sys._getframe()
    while frame is not None and frame.f_code is not files.sha256_file.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def main(argv: list[str] | None = None) -> int:
    """Print who read what, and how often; return 1 when that was too often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        config = make_project(Path(place) / "company")
        shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
        reads = count_reads(config)
    is_too_often = False
    for (name, reader), count in sorted(reads.items()):
        most = 0 if name == config.final_data.name and reader not in (HASHING, "ingestion") else 1
        is_too_often |= count > most
        print(f"{name:18} {reader:12} {count}{'  TOO OFTEN' * (count > most)}")
    print(f"{'':18} {'in all':12} {reads.total()}")
    return int(is_too_often)


if __name__ == "__main__":
    sys.exit(main())
