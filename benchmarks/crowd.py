"""Start many runs of the whole process at the same instant, again and again, with news each time.

One of them has to do the work and the others to end well without it; a project of its own that gets the
same news and one run each time must be the same after every round. Needs a C compiler.

Run: python -m benchmarks.crowd [--rounds 50] [--runs 20]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

import fullprocess
from attrition.config import Config
from tests.campaigns.faults import checker, harness, recording, scenarios

DONE, BUSY, NOTHING_NEW = "done in", "another run is at work", "nothing new"


def run_at_once(config: Config, n: int) -> list[tuple[int, str]]:
    """Let n runs wait at a gate and open it; return the exit code of each and what it said."""
    gate, held_shut = os.pipe()

    def work() -> int:
        os.close(held_shut)
        os.read(gate, 1)  # ends when the last who holds the gate shut lets go
        return fullprocess.main(["--config", str(config.file)])

    children = [harness.begin(work) for _ in range(n)]
    os.close(held_shut)
    os.close(gate)
    return [harness.finish(child) for child in children]


def name_end(told: str) -> str:
    """Say in which of the three ways a run ended, or what it said instead."""
    return next((name for name in (DONE, BUSY, NOTHING_NEW) if name in told), told[-400:])


def main(argv: list[str] | None = None) -> int:
    """Return 0 when exactly one run worked in every round and nothing differs from a lone one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args(argv)
    if not harness.is_under_shim():
        return harness.run_under_shim("benchmarks.crowd", sys.argv[1:] if argv is None else argv)
    began, ends, broken = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory(dir=harness.work_folder()) as place:
        crowd = scenarios.make_first(Path(place) / "crowd")
        lone = scenarios.make_first(Path(place) / "alone")
        harness.import_what_a_run_imports(lone.file.parent)
        recording.empty(lone.file.parent)
        scenarios.make_first(lone.file.parent)
        for i in tqdm(range(options.rounds), unit="round", disable=None):
            if i:
                for config in (crowd, lone):
                    scenarios.add_news(config, i, rows=20)
            found = run_at_once(crowd, options.runs)
            [alone] = run_at_once(lone, 1)
            assert alone[0] == 0, alone[1]
            named = Counter(name_end(told) for _, told in found)
            wrong = [f"exit {code}: {told}" for code, told in found if code != 0]
            wrong += [] if named[DONE] == 1 else [f"not one worked: {dict(named)}"]
            wrong += checker.compare(
                checker.load_report_data(crowd), checker.load_report_data(lone)
            )
            for line in wrong:
                tqdm.write(f"round {i}: {line}")
            broken += bool(wrong)
            ends += named
    print(
        f"{options.rounds} rounds of {options.runs} runs: {ends[DONE]} worked, {ends[BUSY]} found "
        f"another at work, {ends[NOTHING_NEW]} found nothing new; {broken} rounds broken; "
        f"{time.monotonic() - began:.0f} s"
    )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
