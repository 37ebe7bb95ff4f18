"""A project in a folder of its own, for a benchmark to run in."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrition import config_file
from attrition.config import Config
from attrition.storage import files

ROOT = Path(__file__).resolve().parent.parent


def make_project(folder: Path, **settings: Any) -> Config:
    """Make a project with the sample's test data and config, and no sources yet.

    Its dependencies count as asked, so that no benchmark measures the package index.
    """
    (folder / "sourcedata").mkdir(parents=True)
    shutil.copytree(ROOT / "testdata", folder / "testdata")
    made = json.loads((ROOT / "config.json").read_text())
    made |= {"max_days_ahead": 10_000} | settings  # simulated months may lie ahead
    (folder / "config.json").write_text(json.dumps(made))
    config = config_file.load(folder / "config.json")
    asked = {"asked_at": files.utc_now(), "reachable": False, "packages": []}
    files.write_bytes(config.dependencies, files.encode(files.sealed(asked)))
    return config


def finish_sample(folder: Path) -> Config:
    """Run the sample once in a project of its own."""
    config = make_project(folder, columns=sample_columns(), contact_capacity=100)
    shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
    subprocess.run(
        [sys.executable, str(ROOT / "fullprocess.py"), "--quiet", "--config", str(config.file)],
        check=True,
    )
    return config


def finish_project(folder: Path, finished: Path | None) -> Config:
    """Copy a finished project, or finish the sample if there is none."""
    if finished is None:
        return finish_sample(folder)
    shutil.copytree(finished, folder, symlinks=True)
    return config_file.load(folder / "config.json")


def sample_columns() -> dict[str, object]:
    columns: dict[str, object] = json.loads((ROOT / "config.json").read_text())["columns"]
    return columns
