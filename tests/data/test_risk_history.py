"""The risks of clients over time: each snapshot is found again, and old ones are thinned out."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from attrition.data import risk_history
from attrition.data.risk_history import Snapshot


def days(n, first=date(2026, 1, 1)):
    return [(first + timedelta(days=i)).isoformat() for i in range(n)]


def add_days(dates, risk_on=lambda i: i / 1000, keys=(5,)):
    history, snapshots = risk_history.empty(), []
    for i, on in enumerate(dates):
        risk = np.full(len(keys), risk_on(i))
        snapshot = Snapshot(on, "a")
        history, snapshots = risk_history.add(history, snapshots, np.uint64(keys), risk, snapshot)
    return history, snapshots


def test_newest_days_and_month_ends_are_kept():
    dates = days(400)
    history, snapshots = add_days(dates)
    ends = [one for one, after in pairwise(dates) if one[:7] != after[:7]]
    assert [one.date for one in snapshots] == sorted({*ends, *dates[-14:]})
    expected = [dates.index(one.date) / 1000 for one in snapshots]
    assert risk_history.find(history, 5) == pytest.approx(expected, abs=1e-4)


def test_history_never_grows_above_its_limit():
    history, snapshots = add_days([f"20{y}-{m:02}-01" for y in range(26, 30) for m in range(1, 13)])
    assert len(snapshots) == history["risk"].shape[1] == risk_history.MOST


def test_day_without_a_change_adds_nothing():
    history, snapshots = add_days(days(5), risk_on=lambda i: 0.5)
    assert len(snapshots) == 1
    _, snapshots = risk_history.add(
        history, snapshots, np.uint64([5]), np.array([0.5]), Snapshot("2026-02-01", "b")
    )
    assert [one.release for one in snapshots] == ["a", "b"]


def test_assessment_of_the_same_day_takes_the_place_of_the_one_before():
    history, snapshots = add_days(["2026-01-01", "2026-01-02", "2026-01-02"])
    assert [one.date for one in snapshots] == ["2026-01-01", "2026-01-02"]
    assert risk_history.find(history, 5) == [0.0, 0.002]


def test_client_who_is_gone_keeps_the_past_until_nothing_of_it_is_left():
    history, snapshots = add_days(days(1), keys=(5, 6))
    for i, on in enumerate(days(20)[1:], 1):
        risk, one = np.array([i / 1000]), Snapshot(on, "a")
        history, snapshots = risk_history.add(history, snapshots, np.uint64([5]), risk, one)
        if i == 1:
            assert risk_history.find(history, 6) == [0.0, None]
    assert history["key"].tolist() == [5]
    assert risk_history.find(history, 6) == [None] * len(snapshots)


def test_file_is_found_again_and_its_bytes_are_the_same(tmp_path):
    history, snapshots = add_days(days(3), keys=(5, 2**64 - 1))
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as file:
            risk_history.write(file, history)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    _, opened = risk_history.open_hashed(tmp_path / "one")
    assert risk_history.find(opened, 2**64 - 1) == [0.0, 0.001, 0.002]
    assert np.array_equal(np.load(tmp_path / "one"), history)
    assert len(snapshots) == 3
