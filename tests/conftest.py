"""A whole configured project in a temporary folder, and rows to put into it."""

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fullprocess
import ingestion
from attrition import config_file
from attrition.config import Config
from attrition.operations import dependencies
from attrition.rows import ledger, typed_rows
from attrition.storage import files

pytest_plugins = [
    *("tests.apps", "tests.postgres", "tests.mariadb", "tests.tables", "tests.damage"),
    "tests.forgetting",
]

ROOT = Path(__file__).resolve().parent.parent
# Public tables that are not ours to ship; tests that use them skip where they are not.
TABLES = Path(os.environ.get("ATTRITION_TABLES", ROOT.parent / "shared" / "data"))
PLAIN_KEYS = {
    "input_folder_path": "sourcedata",
    "output_folder_path": "ingesteddata",
    "test_data_path": "testdata",
    "output_model_path": "practicemodels",
    "prod_deployment_path": "production_deployment",
}
NOBODY_AT = {"port": 9}  # no test asks the app that may be running on the default port
TOKEN = "correct-horse-battery-staple"


def write_config(folder: Path, **settings: Any) -> Config:
    """Write config.json into a folder, make the folders of the sources, and load it."""
    for name in ("sourcedata", "testdata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(PLAIN_KEYS | {"api": NOBODY_AT} | settings))
    return config_file.load(folder / "config.json")


@contextmanager
def handlers_taken_down() -> Iterator[None]:
    """Take down the handlers that a script's main() puts up in this block."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)
            handler.close()


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Build a folder once for all processes of a session of tests: the first builds, others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.fstat(lock.fileno()).st_size:  # its position is that from before the wait
            shutil.rmtree(folder, ignore_errors=True)  # of a process whose build failed
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch, handlers_taken_down():
                patch.setattr(dependencies, "ask_all", dict.fromkeys)
                build(folder)
            lock.write("built")
    return folder


def count_as_asked(config: Config) -> None:
    """Let the package index count as asked today: a process of its own asks nobody either."""
    asked = {"asked_at": files.utc_now(), "reachable": False, "packages": []}
    files.write_bytes(config.dependencies, files.encode(files.sealed(asked)))


def make_rows(
    n: int = 600, *, seed: int = 0, prefix: str = "c", signal: float = 2.0, first: int = 0
) -> pd.DataFrame:
    """Rows of the plain form: little activity means that a client leaves."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(4, 1, n).round()
    odds = -1.2 - signal * (np.log1p(activity) - 4)
    return pd.DataFrame(
        {
            "corporation": [f"{prefix}{first + i}" for i in range(n)],
            "lastmonth_activity": activity.astype(int),
            "lastyear_activity": (activity * rng.uniform(8, 14, n)).astype(int),
            "number_of_employees": rng.integers(1, 500, n),
            "exited": (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int),
        }
    )


def contradict(config: Config) -> None:
    """Deliver outcomes by the opposite law, twice: one delivery alone proves nothing."""
    rows = make_rows(900, seed=9, prefix="new", signal=-2.0)
    rows.head(450).to_csv(config.input_folder / "new1.csv", index=False)
    rows.tail(450).to_csv(config.input_folder / "new2.csv", index=False)


def ingest_rows(config: Config, rows: pd.DataFrame) -> None:
    """Let these rows be all that was ever ingested."""
    sources = replace(config, input_folder=config.file.parent / "only these")
    for folder in (sources.input_folder, config.output_folder):
        shutil.rmtree(folder, ignore_errors=True)
    sources.input_folder.mkdir()
    path = sources.input_folder / "rows.csv"
    rows.to_csv(path, index=False)
    os.utime(path, (1, 1))
    ingestion.ingest_new_data(sources, adopt=True)


def read_rows(config: Config) -> pd.DataFrame:
    """Every typed row with all of its columns."""
    return ledger.read_rows(config, (*config.columns.table, *typed_rows.COMPUTED))


def write_sources(folder: Path, labelled: int = 600) -> Config:
    """Configure a project with 600 labelled rows, 200 open ones and 300 test rows."""
    config = write_config(folder, contact_capacity=20)
    make_rows(labelled).to_csv(config.input_folder / "history.csv", index=False)
    current = make_rows(200, seed=5, prefix="now").assign(exited="")
    current.to_csv(config.input_folder / "current.csv", index=False)
    make_rows(300, seed=2, prefix="test").to_csv(config.test_folder / "testdata.csv", index=False)
    return config


def run_whole(config: Config, *more: str) -> int:
    """Run the whole process in this process."""
    return fullprocess.main(["--config", str(config.file), "--quiet", *more])


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o640)
    path.write_bytes(bytes(data))


@contextmanager
def served(config: Config, *more: str) -> Iterator[tuple[int, int]]:
    """Serve a project from a process of its own, on a free port; yield the port and the pid."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), "--port", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        line = process.stdout.readline()
        port = re.search(r":(\d+) ", line)
        assert port, line + process.stderr.read()
        yield int(port[1]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in stderr, stderr


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The package index is the one thing we ask of the outside; tests ask nobody."""
    if request.path.name != "test_dependencies.py":
        monkeypatch.setattr(dependencies, "ask_all", dict.fromkeys)


@pytest.fixture(autouse=True, scope="session")
def no_sync() -> Iterator[None]:
    """Do not wait for the disk: no file of a test need survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take down the handlers of a test: their stderr ends with it."""
    with handlers_taken_down():
        yield


@pytest.fixture
def empty_project(tmp_path: Path) -> Config:
    """A configured project without any data."""
    return write_config(tmp_path)


@pytest.fixture
def small_project(tmp_path: Path) -> Config:
    """A configured project with 600 labelled rows, 200 open ones and 300 test rows; nothing run."""
    return write_sources(tmp_path)


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose whole process ran once; copied, never changed."""

    def build(folder: Path) -> None:
        assert run_whole(write_sources(folder)) == 0

    return build_once(tmp_path_factory, "finished", build)


@pytest.fixture
def project(finished_folder: Path, tmp_path: Path) -> Config:
    """A whole configured project after its first run."""
    folder = tmp_path / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    os.utime(config.last_run)  # a good run of now, however long the tests have been running
    return config


@pytest.fixture
def next_day(monkeypatch):
    """Let it be tomorrow: a list is compared with that of an earlier day."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime(files.TIME)
    monkeypatch.setattr(files, "utc_now", lambda: tomorrow)
    return tomorrow[:10]
