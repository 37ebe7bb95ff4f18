"""The table that `python -m benchmarks` writes."""

import sys

from benchmarks import __main__ as table
from benchmarks import measure
from benchmarks.__main__ import Entry
from benchmarks.measure import Row


def run(monkeypatch, script, budget_s=60.0):
    monkeypatch.setattr(table, "command_of", lambda entry: [sys.executable, "-c", script])
    return [row for _, row in table.run_all([Entry("any"), Entry("other")], budget_s)]


def test_rows_of_a_benchmark_are_collected(monkeypatch):
    script = "from benchmarks.measure import *; print(1); print_rows([at_most('a', 2, 4, 'x')])"
    assert run(monkeypatch, script) == 2 * [Row("a", "2 x", "at most 4 x", True)]


def test_benchmark_that_fails_is_not_met(monkeypatch):
    rows = run(monkeypatch, "raise SystemExit(3)")
    assert [(row.figure, row.is_met) for row in rows] == 2 * [("exit code 3", False)]


def test_benchmark_without_time_is_named(monkeypatch):
    rows = run(monkeypatch, "import time; time.sleep(60)", budget_s=0.2)
    assert [row.name for row in rows] == ["stopped", "not run"]


def test_interrupt_ends_with_one_line_and_writes_nothing(monkeypatch, tmp_path, capsys):
    script = "import os, time; os.kill(os.getppid(), 2); time.sleep(60)"
    monkeypatch.setattr(table, "command_of", lambda entry: [sys.executable, "-c", script])
    path = tmp_path / "scale.md"
    assert table.main(["--only", "idle", "--out", str(path)]) == 130
    assert capsys.readouterr().err == f"interrupted; {path} was not changed\n"
    assert not path.exists()


def test_table_replaces_the_one_between_its_markers(tmp_path):
    path = tmp_path / "scale.md"
    path.write_text("a\n<!-- make bench: begin -->\nold\n<!-- make bench: end -->\nb\n")
    rows = [(Entry("idle", ("--runs", "5")), Row("tick", "9 x", "at most 4 x", False))]
    measure.write_table(path, "make bench", table.format_table(rows))
    lines = path.read_text().splitlines()
    assert lines[:2] + lines[-2:] == [
        *("a", "<!-- make bench: begin -->", "<!-- make bench: end -->", "b")
    ]
    assert (
        lines[-3] == "| tick | 9 x | at most 4 x | **no** | `python -m benchmarks.idle --runs 5` |"
    )
    assert "old" not in lines
