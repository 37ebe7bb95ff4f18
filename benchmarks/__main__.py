"""Run the benchmarks and write their figures as a table into docs/scale.md.

By default those run that end within 20 minutes together; --all runs every benchmark that needs no
table of others, but for the sweep of all faults (make sweep): that takes hours.

Run: python -m benchmarks [--all] [--only NAME ...] [--peer PYTHON] [--out docs/scale.md]
     PYTHON: of an environment with polars, which `benchmarks.ingest` is compared with
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import ROW, Row, read_rows, write_table
from benchmarks.project import ROOT

BUDGET_S = 20 * 60
PEER = "--peer"
VERDICTS = {True: "yes", False: "**no**", None: ""}


class Entry(NamedTuple):
    """A benchmark: its module in `benchmarks` and its options."""

    module: str
    options: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        pairs = pairwise(("", *self.options))
        words = ["PYTHON" if before == PEER else word for before, word in pairs]
        return " ".join([f"python -m benchmarks.{self.module}", *words])


SHORT = (
    Entry("idle"),
    Entry("floor", ("--times", "5")),
    Entry("pages"),
    Entry("sheets"),
    Entry("growth", ("--sizes", "10000", "100000", "300000")),
    Entry("ingest", ("--only", "plain")),
    Entry("assess", ("--clients", "300000")),
    Entry("training", ("first",)),
)
LONG = (
    Entry("growth", ("--large", "--out", "docs/scale.md")),
    Entry("ingest", ("--only", "mixed")),
    Entry("assess", ("--clients", "10000000")),
    Entry("engines"),
    Entry("engines", ("--clients", "10000000", "--repeat", "1")),
    Entry("training"),
    *(Entry("shift", ("--shift", name)) for name in ("none", "harmless", "harmful")),
    *(
        Entry("statistics", (name,))
        for name in ("drift", "ageing", "cost", "ugly", "gate", "updating")
    ),
    Entry("estimates", ("value",)),
    *map(
        Entry,
        (
            *("ranking", "one_client", "kills", "lanes", "scale", "serving", "crowd"),
            *("week", "life", "databases", "planted", "morning", "flat", "write_back"),
        ),
    ),
)


def command_of(entry: Entry) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{entry.module}", *entry.options]


def run(entry: Entry, seconds: float | None) -> tuple[list[Row], int | None]:
    """Run a benchmark and pass on what it prints; return its rows, and its exit code or None.

    seconds: after which it is stopped, which is the exit code None
    """
    print(f"\n== {entry.shown}", flush=True)
    process = subprocess.Popen(
        command_of(entry), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the servers and runs that it started
        output, _ = process.communicate()
        return read_rows(output), None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    lines = [line for line in output.splitlines() if not line.startswith(ROW)]
    print("\n".join(lines), flush=True)
    return read_rows(output), process.returncode


def run_all(entries: Iterable[Entry], budget_s: float | None) -> Iterator[tuple[Entry, Row]]:
    """Yield the rows of the benchmarks; those that the time did not suffice for are named."""
    began = time.monotonic()
    for entry in entries:
        left_s = None if budget_s is None else budget_s - (time.monotonic() - began)
        if left_s is not None and left_s <= 0:
            yield entry, Row("not run", f"the {budget_s / 60:.0f} minutes are over")
            continue
        rows, code = run(entry, left_s)
        if code is None:
            rows.append(Row("stopped", f"the {(budget_s or 0) / 60:.0f} minutes are over"))
        elif code and all(row.is_met is not False for row in rows):
            rows.append(Row("ended with an error", f"exit code {code}", "", is_met=False))
        elif not rows:
            rows.append(Row("all of its checks", "passed", "", is_met=True))
        yield from ((entry, row) for row in rows)


def format_table(results: Iterable[tuple[Entry, Row]]) -> str:
    """Return the results as Markdown."""
    lines = ["| what | figure | goal | met | command |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.figure} | {row.goal} | {VERDICTS[row.is_met]} | `{entry.shown}` |"
        for entry, row in results
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all goals were met, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument(PEER, metavar="PYTHON")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scale.md")
    options = parser.parse_args(argv)
    entries = [*SHORT, *(LONG if options.all else ())]
    entries = [one for one in entries if not options.only or one.module in options.only]
    if options.peer:
        peer = (PEER, options.peer)
        entries = [
            one._replace(options=one.options + peer) if one.module == "ingest" else one
            for one in entries
        ]
    try:
        results = list(run_all(entries, None if options.all else BUDGET_S))
    except KeyboardInterrupt:
        print(f"interrupted; {options.out} was not changed", file=sys.stderr)
        return 130
    table = format_table(results)
    print(f"\n{table}")
    if not options.only:
        write_table(options.out, "make bench", table)
    return int(any(row.is_met is False for _, row in results))


if __name__ == "__main__":
    sys.exit(main())
