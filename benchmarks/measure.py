"""Measure what commands cost, and print figures beside their goals.

A benchmark measures whole processes with `cpu_of`, or several side by side with `compare`. Its `main`
ends with `return print_rows(rows)`: a line for people and one that `python -m benchmarks` collects.
"""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROW = "ROW "  # begins the line of a row for machines


class Cost(NamedTuple):
    """The cost of a process: seconds by the clock and of the processor, peak memory."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


class Row(NamedTuple):
    """A figure, the goal beside it, and whether it is met; None if the figure has no goal."""

    name: str
    figure: str
    goal: str = ""
    is_met: bool | None = None


def cpu_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Measure a command, including the children that it waited for.

    environment: variables beside those of this process. The peak memory is at least that of this
    process, so call it from one that has loaded little.

    Raises: CalledProcessError.
    """
    began = time.monotonic()
    env = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Cost(time.monotonic() - began, cpu_seconds, usage.ru_maxrss / 1024)


def compare(
    commands: Mapping[str, Sequence[str]],
    *,
    repeat: int = 5,
    before: Callable[[str], object] = lambda name: None,
) -> dict[str, Cost]:
    """Measure commands in turns, so that all of them meet the same machine; return their medians.

    A first round, which fills the caches, does not count. before: prepares each run, not measured
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(repeat + 1):
        for name, command in commands.items():
            before(name)
            costs[name].append(cpu_of(command))
    return {name: median(each[1:]) for name, each in costs.items()}


def median(costs: Iterable[Cost]) -> Cost:
    """Compute the median of each figure."""
    return Cost(*(statistics.median(figures) for figures in zip(*costs, strict=True)))


def at_most(name: str, figure: float, goal: float, unit: str) -> Row:
    """Compare a figure with its upper limit.

    >>> at_most("idle tick", 3.21, 4, "x")
    Row(name='idle tick', figure='3.2 x', goal='at most 4 x', is_met=True)
    """
    return Row(name, f"{_rounded(figure)} {unit}", f"at most {goal:,g} {unit}", figure <= goal)


def at_least(name: str, figure: float, goal: float, unit: str) -> Row:
    """Compare a figure with its lower limit.

    >>> at_least("assessment beside the bare model", 0.5, 0.8, "x").is_met
    False
    """
    return Row(name, f"{_rounded(figure)} {unit}", f"at least {goal:,g} {unit}", figure >= goal)


def _rounded(figure: float) -> str:
    """Format a figure with two significant digits or more.

    >>> _rounded(1234.5), _rounded(12.34), _rounded(0.1234)
    ('1,234', '12', '0.12')
    """
    return f"{figure:,.0f}" if abs(figure) >= 10 else f"{figure:.2g}"


def print_rows(rows: Sequence[Row]) -> int:
    """Print rows for people and for `python -m benchmarks`; return 1 if a goal is not met, else 0."""
    for row in rows:
        verdict = {True: "met", False: "NOT MET", None: ""}[row.is_met]
        print(f"{row.name:50} {row.figure:>16}  {row.goal:24} {verdict}".rstrip(), flush=True)
        print(ROW + json.dumps(row), flush=True)
    return int(any(row.is_met is False for row in rows))


def describe_machine() -> str:
    """Describe this machine in general words."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()}, Python {version}"


def write_table(path: Path, name: str, table: str) -> None:
    """Replace the table of a Markdown file between its markers, with the date and the machine."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    assert begin in text and end in rest, f"{path} has no place for the table of {name}"
    today = datetime.now(UTC).date().isoformat()
    measured = f"Measured on {today}: {describe_machine()}."
    path.write_text(f"{before}{begin}\n{measured}\n\n{table}\n{end}{after}", encoding="utf-8")


def read_rows(output: str) -> list[Row]:
    """Read the rows that a benchmark printed.

    >>> read_rows('anything\\nROW ["idle tick", "3.2 x", "at most 4 x", true]\\n')
    [Row(name='idle tick', figure='3.2 x', goal='at most 4 x', is_met=True)]
    """
    lines = [line.removeprefix(ROW) for line in output.splitlines() if line.startswith(ROW)]
    return [Row(*json.loads(line)) for line in lines]
