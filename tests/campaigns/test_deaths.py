"""A run that dies at a random instant: the next one finishes it, as if nothing had happened."""

import random
import shutil
import signal
import subprocess

import pandas as pd
import pytest

from attrition import config_file
from attrition.operations import releases
from attrition.storage import history
from tests.conftest import count_as_asked, run_whole
from tests.support import SCRIPT, Crash, crash_at


def outcome_of(config):
    """What must be the same after any crash: rows, their account, the model's decisions, the list."""
    ledger = pd.read_csv(config.ingested_files).drop(columns="ingested_at")
    release = releases.read_current(config.production_folder)
    score = {k: v for k, v in release.score["sets"].items() if k != "recent"}
    return (
        config.final_data.read_bytes(),
        ledger.to_csv(index=False),
        len(releases.list_ids(config.production_folder)),
        score,
        config.contact_list.read_bytes(),
        [row["action"] for row in history.read_deployments(config.history)],
    )


def test_run_that_died_at_any_write_is_finished_by_the_next(small_project, tmp_path, monkeypatch):
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(small_project.file.parent, undisturbed, ignore=ignore_own(undisturbed))
    config = config_file.load(undisturbed / "config.json")
    with monkeypatch.context() as patch:
        points = len_of_run(patch, config)
    expected = outcome_of(config)
    sample = random.Random(0).sample(range(1, points + 1), 12)
    for k in sorted(sample):
        folder = tmp_path / f"died{k}"
        shutil.copytree(small_project.file.parent, folder, ignore=ignore_own(folder))
        config = config_file.load(folder / "config.json")
        with monkeypatch.context() as patch, pytest.raises(Crash):
            crash_at(patch, k)
            run_whole(config)
        assert run_whole(config) == 0
        assert outcome_of(config) == expected, f"after a death at call {k} of {points}"


def len_of_run(patch, config):
    calls = crash_at(patch, -1)
    assert run_whole(config) == 0
    return len(calls)


def ignore_own(target):
    """Copy only the sources: the copies lie in the same temporary folder."""
    return lambda folder, names: [n for n in names if n.startswith(("died", "undisturbed"))]


def test_run_that_was_killed_is_finished_by_the_next(small_project, tmp_path):
    rng = random.Random(1)
    expected = None
    for i in range(4):
        folder = tmp_path / f"died{i}"
        shutil.copytree(small_project.file.parent, folder, ignore=ignore_own(folder))
        config = config_file.load(folder / "config.json")
        count_as_asked(config)
        if i:
            process = subprocess.Popen([*SCRIPT, "--config", str(config.file), "--quiet"])
            try:
                process.wait(timeout=rng.uniform(0.5, 6))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert run_whole(config) == 0
        expected = expected or outcome_of(config)
        assert outcome_of(config) == expected
