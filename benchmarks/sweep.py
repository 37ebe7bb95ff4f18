"""Break a run of the whole process at every system call that changes the project; all must be made good.

Two small projects: one that never ran, and one into which news arrive, so that it trains and deploys.
At each call the process is killed (before it, after it, in the middle of a write), the power is cut
(what was not fsynced is gone; or names whose folder was not, as well), or the call fails: ENOSPC, EIO,
EROFS, EMFILE, EACCES, EINTR, a short write, a disk that stays full or read-only. Then readers look, one
plain run follows, and it has to end as a run that nobody disturbed. Needs a C compiler.

Run: python -m benchmarks.sweep [--sample 60] [--actions crash] [--double 500] [--workers 2]
     python -m benchmarks.sweep --scenario first --point 123 --action torn
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from tqdm import tqdm

from tests.campaigns.faults import harness, worker
from tests.campaigns.faults.plants import PLANTS
from tests.campaigns.faults.recording import CRASHES
from tests.campaigns.faults.scenarios import SCENARIOS

GROUPS = {"crash": CRASHES, "errno": tuple(worker.FAILURES), "all": worker.ACTIONS}

Result = dict[str, Any]


def read_results(workers: list[subprocess.Popen[str]]) -> Iterator[Result]:
    """Yield what the workers print, as it comes.

    Raises: RuntimeError when one of them fails.
    """
    lines: Queue[str | None] = Queue()

    def read(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    for process in workers:
        Thread(target=read, args=[process], daemon=True).start()
    for _ in workers:
        while (line := lines.get()) is not None:
            yield json.loads(line)
    if any(process.wait() for process in workers):
        raise RuntimeError("a worker failed; what it said is above")


def sweep(folder: Path, job: Result, n_workers: int, kept: Path | None) -> list[Result]:
    """Do one scenario with some workers; show each violation, with the command that repeats it.

    Each result is appended to the file `kept` at once: a sweep that is ended early still tells.
    """
    jobs = [job | {"part": (i, n_workers)} for i in range(n_workers)]
    workers = [worker.start(folder / f"{job['scenario']}{i}", job) for i, job in enumerate(jobs)]
    found = []
    with tqdm(desc=job["scenario"], total=0, unit="fault", disable=None) as progress:
        for result in read_results(workers):
            if "faults" in result:
                progress.total += result["faults"]
                progress.refresh()
                continue
            found.append(result)
            progress.update()
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result, sort_keys=True) + "\n")
            if result["broken"]:
                tqdm.write(describe(result))
    return found


def describe(result: Result) -> str:
    head = f"{result['action']} at call {result['point']}, {result['call']} {result['path']}"
    again = f"--scenario {result['scenario']} --point {result['point']} --action {result['action']}"
    lines = [f"{result['scenario']}: {head}", *(f"    {what}" for what in result["broken"])]
    return "\n".join([*lines, f"    again: python -m benchmarks.sweep {again}"])


def print_table(results: list[Result], elapsed_s: float) -> None:
    """Print a line an action: calls tried, worker seconds, and violations by invariant."""
    print(
        f"{'scenario':<9} {'action':<16} {'faults':>7} {'broken':>7} {'seconds':>8}  by invariant"
    )
    for scenario in dict.fromkeys(result["scenario"] for result in results):
        for action in (*worker.ACTIONS, "double"):
            own = [r for r in results if (r["scenario"], r["action"]) == (scenario, action)]
            if own:
                broken = Counter(line[:2] for r in own for line in {x[:2] for x in r["broken"]})
                told = ", ".join(f"{name}: {n}" for name, n in sorted(broken.items())) or "none"
                n_broken, seconds = (
                    sum(bool(r["broken"]) for r in own),
                    sum(r["elapsed_s"] for r in own),
                )
                line = f"{scenario:<9} {action:<16} {len(own):>7,} {n_broken:>7} {seconds:>8.0f}"
                print(f"{line}  {told}")
    points = len({(r["scenario"], r["point"]) for r in results if r["point"]})
    runs = sum(r["ran"] for r in results)
    n_broken = sum(bool(r["broken"]) for r in results)
    print(
        f"{points:,} calls, {len(results):,} faults, {runs:,} runs of the whole process, "
        f"{n_broken} violations, {elapsed_s / 60:.1f} minutes"
    )


def main(argv: list[str] | None = None) -> int:
    """Return 0 when nothing broke."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=SCENARIOS)
    parser.add_argument("--actions", choices=GROUPS, default="all")
    parser.add_argument("--action", choices=worker.ACTIONS, nargs="+", help="only these")
    parser.add_argument("--point", type=int, help="only this call, counted from 1")
    parser.add_argument("--sample", type=int, help="so many calls, half of them not of SQLite")
    parser.add_argument("--double", type=int, default=0, help="so many double faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="PATH", help="keep each as a line of JSON")
    parser.add_argument("--table", type=Path, metavar="PATH", help="print that of kept results")
    parser.add_argument("--plant", choices=PLANTS, help="a bug that has to be found")
    options = parser.parse_args(argv)
    if options.table:
        kept = [json.loads(line) for line in options.table.read_text().splitlines()]
        print_table(kept, sum(result["elapsed_s"] for result in kept) / options.workers)
        return int(any(result["broken"] for result in kept))
    if harness.COMPILER is None:
        print("the shim needs a C compiler (Debian: apt install gcc libc6-dev)", file=sys.stderr)
        return 1
    actions = options.action or GROUPS[options.actions]
    job = {"actions": list(actions), "sample": options.sample, "seed": options.seed}
    job |= {"point": options.point, "plant": options.plant}
    began, results = time.monotonic(), []
    with tempfile.TemporaryDirectory(dir=harness.work_folder()) as folder:
        for i, scenario in enumerate(options.scenario):
            n = len(options.scenario)
            double = options.double * (i + 1) // n - options.double * i // n
            mine = job | {"scenario": scenario, "double": double}
            n_workers = 1 if options.point else options.workers
            results += sweep(Path(folder), mine, n_workers, options.results)
    print_table(results, time.monotonic() - began)
    return int(any(result["broken"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
