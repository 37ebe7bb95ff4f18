"""Measure what each step of a run costs, and find steps whose cost per row has grown.

CPU time and memory include the processes that a step starts on this machine, not those of a cluster.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Row = Mapping[str, Any]
T = TypeVar("T")

LAST, BEFORE, FACTOR = 3, 10, 2.0
PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RESET_PEAK = "5"  # what resets VmHWM when written to clear_refs; source: proc_pid_clear_refs(5)
REST, TOTAL = "the rest", "total"
BAR = 20


class Figure(NamedTuple):
    """A cost that is compared over time; growth below `least` is not worth a complaint."""

    column: str
    name: str
    unit: str
    least: float


FIGURES = (Figure("cpu_s", "CPU time", "s", 1.0), Figure("peak_mb", "peak memory", "MB", 100.0))


class Cost(NamedTuple):
    """Seconds, CPU seconds and peak memory; `is_bound`: the true peak may be lower."""

    elapsed_s: float
    cpu_s: float
    peak_mb: float
    is_bound: bool


def measure(call: Callable[[], T]) -> tuple[T, Cost]:
    """Call a function; return its result and what it cost.

    The kernel keeps one peak for the whole life of a process. It is reset here where /proc allows that;
    elsewhere it may be the peak of an earlier step.
    """
    is_reset = [_reset_peak(pid) for pid in (os.getpid(), *_children())]
    began, cpu_s = time.monotonic(), _cpu_s()
    result = call()
    elapsed_s, cpu_s = time.monotonic() - began, _cpu_s() - cpu_s
    return result, Cost(elapsed_s, max(0.0, cpu_s), _peak_mb(), not all(is_reset))


def measure_run(steps: Sequence[tuple[str, Cost]], elapsed_s: float) -> Cost:
    """Return what this process has cost since its start, whose steps reset its peak."""
    peaks = [cost.peak_mb for _, cost in steps]
    is_bound = any(cost.is_bound for _, cost in steps)
    return Cost(elapsed_s, _cpu_s(), max([*peaks, _peak_mb()]), is_bound)


def _children() -> list[int]:
    """Return the processes that this one and its children started and that are alive."""
    found, waiting = list[int](), [os.getpid()]
    while waiting:
        for path in (PROC / str(waiting.pop()) / "task").glob("*/children"):
            with suppress(OSError, ValueError):
                waiting += (new := [int(pid) for pid in path.read_text().split()])
                found += new
    return found


def _reset_peak(pid: int) -> bool:
    try:
        (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _cpu_s() -> float:
    """Return the CPU seconds so far: of this process, of those that it waited for, of its children."""
    cpu_s = sum(os.times()[:4])
    for pid in _children():
        with suppress(OSError, ValueError):
            stat = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            cpu_s += TICK_S * sum(map(int, stat[11:15]))
    return cpu_s


def _peak_mb() -> float:
    """Return the sum of the peaks of this process and of its children that are alive."""
    peaks = [_peak_of(pid) for pid in (os.getpid(), *_children())]
    if peaks[0]:
        return sum(peaks)
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / (1024 if sys.platform != "darwin" else 1024**2)


def _peak_of(pid: int) -> float:
    with suppress(OSError, ValueError, IndexError):
        status = (PROC / str(pid) / "status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    return 0.0


# ---- the table of --profile


def format_table(steps: Sequence[tuple[str, Cost]], whole: Cost) -> str:
    """Return a line for each step, the rest of the run, and the total; the share is that of CPU time.

    >>> step, whole = Cost(2.0, 1.5, 80.0, False), Cost(4.0, 2.0, 90.0, True)
    >>> print(format_table([("ingestion", step)], whole))
    step             time       CPU  peak memory   share of CPU
    ingestion       2.0 s     1.5 s        80 MB    75 %  ███████████████
    the rest        2.0 s     0.5 s                 25 %  █████
    total           4.0 s     2.0 s  up to 90 MB
    """
    lines = [f"{'step':12} {'time':>8}  {'CPU':>8}  {'peak memory':>11}   share of CPU"]
    rest_s, rest_cpu_s = whole.elapsed_s, whole.cpu_s
    for name, cost in steps:
        lines.append(_line(name, cost, whole.cpu_s))
        rest_s, rest_cpu_s = rest_s - cost.elapsed_s, rest_cpu_s - cost.cpu_s
    rest = Cost(max(0.0, rest_s), max(0.0, rest_cpu_s), 0.0, False)
    return "\n".join([*lines, _line(REST, rest, whole.cpu_s), _line(TOTAL, whole, 0.0)])


def _line(name: str, cost: Cost, all_s: float) -> str:
    peak = f"{'up to ' * cost.is_bound}{cost.peak_mb:,.0f} MB" if cost.peak_mb else ""
    share = cost.cpu_s / all_s if all_s else 0.0
    shown = f"  {share:5.0%}".replace("%", " %") + "  " + "█" * round(BAR * share) if all_s else ""
    line = f"{name:12} {cost.elapsed_s:6,.1f} s  {cost.cpu_s:6,.1f} s  {peak:>11}"
    return (line + shown).rstrip()


# ---- the trend


def find_growth(step: str, rows: Iterable[Row]) -> list[str]:
    """Describe each cost of a step that has more than doubled, if the rows do not explain it.

    The median of the last runs is compared with that of the runs before, and likewise per row. So a
    larger table is no complaint, nor is a small delivery, whose cost per row is high.

    rows: of the history, oldest first; those of earlier versions have no costs

    >>> rows = [{"cpu_s": 4.0, "rows": 100}] * 8 + [{"cpu_s": 12.0, "rows": 110}] * 3
    >>> find_growth("training", rows)
    ['training: CPU time has grown from 4 s to 12 s, and the number of rows does not explain it']
    >>> find_growth("training", [{**row, "rows": row["cpu_s"]} for row in rows])
    []
    """
    rows = list(rows)
    return [text for figure in FIGURES if (text := _growth(step, figure, rows))]


def _growth(step: str, figure: Figure, rows: Iterable[Row]) -> str | None:
    known = [row for row in rows if row.get(figure.column) is not None][-LAST - BEFORE :]
    last, before = known[-LAST:], known[:-LAST]
    if len(before) < LAST:
        return None
    then, now = (statistics.median(row[figure.column] for row in each) for each in (before, last))
    per_row = [
        statistics.median(row[figure.column] / max(1, row.get("rows") or 0) for row in each)
        for each in (before, last)
    ]
    is_large = now > FACTOR * then and now - then > figure.least
    if not is_large or per_row[1] <= FACTOR * per_row[0]:
        return None
    return (
        f"{step}: {figure.name} has grown from {then:,.0f} {figure.unit} to {now:,.0f} "
        f"{figure.unit}, and the number of rows does not explain it"
    )
