"""Count how often one first run of the sample reads its rows and predicts its current clients.

Each step may read the typed twin of finaldata.csv once. Only ingestion may read the CSV. Each of the two
may be read once per run to be hashed, and the model may score all current clients once per run.

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

import pandas as pd

import fullprocess
from attrition.config import Config
from attrition.modelling import models
from attrition.modelling.metrics import Vector
from attrition.operations import cli
from attrition.storage import files
from benchmarks.project import ROOT, make_project

HASHING, PREDICTED = "hashing", "current clients"


def count_work(config: Config) -> Counter[tuple[str, str]]:
    """Run the whole process once; count for each step its reads and its predictions of all clients."""
    reads: Counter[tuple[str, str]] = Counter()
    paths = {os.fspath(path): path.name for path in (config.final_data, config.rows)}
    step, real, real_score = ["before"], cli.run_step, models.score
    scored: list[tuple[str, int]] = []

    def run_step(config: Config, name: str, work: Callable[[Config], Any], *more: Any) -> Any:
        step[0] = name
        return real(config, name, work, *more)

    def score(model: models.Model, rows: pd.DataFrame) -> Vector:
        scored.append((step[0], len(rows)))
        return real_score(model, rows)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            name, flags = paths.get(os.fspath(arguments[0])), arguments[2]
            if name and not flags & (os.O_WRONLY | os.O_RDWR):
                reads[name, HASHING if is_hashing() else step[0]] += 1

    sys.addaudithook(look)
    cli.run_step, models.score = run_step, score
    try:
        if code := fullprocess.main(["--config", str(config.file), "--quiet"]):
            sys.exit(code)
    finally:
        cli.run_step, models.score = real, real_score
        paths.clear()
    record = files.read_record(config.assessment_record)
    assert record is not None
    reads.update((PREDICTED, name) for name, rows in scored if rows == record["clients"])
    return reads


def is_hashing() -> bool:
    """Is a file being opened by `files.sha256_file`?"""
    frame = sys._getframe()
    while frame is not None and frame.f_code is not files.sha256_file.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def main(argv: list[str] | None = None) -> int:
    """Print each count; return 1 if one is too high."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        config = make_project(Path(place) / "company")
        shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
        reads = count_work(config)
    is_too_often = sum(count for (name, _), count in reads.items() if name == PREDICTED) > 1
    for (name, reader), count in sorted(reads.items()):
        most = 0 if name == config.final_data.name and reader not in (HASHING, "ingestion") else 1
        is_too_often |= count > most
        print(f"{name:18} {reader:12} {count}{'  TOO OFTEN' * (count > most)}")
    return int(is_too_often)


if __name__ == "__main__":
    sys.exit(main())
