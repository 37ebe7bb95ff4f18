"""A --forget that dies at any write: the next run, or the command again, finishes it."""

import shutil

import pytest

from attrition.contacts import log
from attrition.upkeep import integrity
from tests.conftest import run_whole
from tests.forgetting import NAME, copy_of, find_everywhere, forget, token_of
from tests.support import Crash, crash_at, digest


def test_a_request_that_died_at_any_write_is_finished(knowing, tmp_path, monkeypatch):
    config = copy_of(knowing, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        calls = crash_at(patch, -1)
        assert forget(config, NAME, "--yes") == 0
    points = len(calls)
    assert points > 50
    for k in range(1, points + 1, 3):
        config = copy_of(knowing, tmp_path / f"died{k}")
        state = digest(config.file.parent)
        with monkeypatch.context() as patch, pytest.raises(Crash):
            crash_at(patch, k)
            forget(config, NAME, "--yes")
        if k % 2:  # the next run finishes a change that has begun, else the client stays
            assert run_whole(config) == 0
        if not (is_forgotten := token_of(config) is not None):
            assert forget(config, NAME, "--yes") == 0
        where = f"after a death at call {k} of {points}: {calls[k - 1]}, {is_forgotten=}"
        assert find_everywhere(config, NAME) == set() or not config.forgotten.exists(), where
        if config.forgetting.exists():
            assert run_whole(config) == 0
        assert find_everywhere(config, NAME) == set(), where
        assert integrity.find_all(config) == [], where
        assert log.read(config.contact_log)[0][0].client == token_of(config), where
        assert not [path for path in digest(config.file.parent) if path.endswith(".forgotten")]
        assert state  # compared by the unit tests
        shutil.rmtree(config.file.parent)
