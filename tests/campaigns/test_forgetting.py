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
    for k in range(1, points + 1, 4):
        config = copy_of(knowing, tmp_path / f"died{k}")
        with monkeypatch.context() as patch, pytest.raises(Crash):
            crash_at(patch, k)
            forget(config, NAME, "--yes")
        where = f"after a death at call {k} of {points}: {calls[k - 1]}"
        if is_by_run := k % 8 == 1:
            assert run_whole(config) == 0
        if not is_by_run or token_of(config) is None:  # nothing had begun
            assert forget(config, NAME, "--yes") == 0
        assert find_everywhere(config, NAME) == set(), where
        assert integrity.find_all(config) == [], where
        assert log.read(config.contact_log)[0][0].client == token_of(config), where
        assert not [path for path in digest(config.file.parent) if path.endswith(".forgotten")]
        shutil.rmtree(config.file.parent)
