import subprocess
import sys

import pytest

from attrition.engine import costs

BUSY = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True); input()"


def test_cpu_time_of_children_counts_once():
    child, alive = costs.measure(start_and_wait_until_busy)
    _, ended = costs.measure(lambda: child.communicate(b"\n"))
    assert 0.3 <= alive.cpu_s < 2
    assert ended.cpu_s < 0.2


def start_and_wait_until_busy():
    command = [sys.executable, "-c", BUSY]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def test_peak_memory_is_that_of_the_step_alone():
    _, large = costs.measure(lambda: len(b"x" * 200_000_000))
    _, small = costs.measure(lambda: None)
    if small.is_bound:
        pytest.skip("the peak cannot be reset here")
    assert 150 < large.peak_mb - small.peak_mb < 250


def test_what_cannot_be_reset_is_an_upper_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "PROC", tmp_path)
    _, cost = costs.measure(lambda: None)
    assert cost.is_bound
    assert cost.peak_mb > 10


@pytest.mark.parametrize(
    ("before", "last", "count"),
    [
        ([{"cpu_s": 4.0, "peak_mb": 300.0}] * 3, [{"cpu_s": 4.0, "peak_mb": 700.0}] * 3, 1),
        ([{"cpu_s": 4.0, "peak_mb": 300.0}] * 3, [{"cpu_s": 9.0, "peak_mb": 700.0}] * 3, 2),
        ([{"cpu_s": 0.1}] * 10, [{"cpu_s": 0.9}] * 3, 0),  # no second of growth
        ([{"cpu_s": 4.0}] * 2, [{"cpu_s": 40.0}] * 3, 0),  # too few runs
        ([{"cpu_s": 4.0}] * 10, [{"cpu_s": 40.0}, {"cpu_s": 4.0}, {"cpu_s": 4.0}], 0),
        ([{}] * 10, [{"cpu_s": 40.0}] * 3, 0),  # of an earlier version
        ([{"cpu_s": 4.0, "rows": 500}] * 10, [{"cpu_s": 90.0, "rows": 10**6}] * 3, 0),
        ([{"cpu_s": 4.0, "rows": 500}] * 10, [{"cpu_s": 4.0, "rows": 5}] * 3, 0),
    ],
)
def test_cost_that_doubled_without_more_rows_is_named(before, last, count):
    assert len(costs.find_growth("training", [*before, *last])) == count
