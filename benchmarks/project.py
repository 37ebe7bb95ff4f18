"""A project in a folder of its own, for a benchmark to run in."""

import json
import shutil
from pathlib import Path
from typing import Any

from attrition import config as configuration
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
    config = configuration.load(folder / "config.json")
    asked = {"asked_at": files.utc_now(), "reachable": False, "packages": []}
    files.write_bytes(config.dependencies, files.encode(files.sealed(asked)))
    return config
