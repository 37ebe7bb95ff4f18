"""Live through a week of ticks, one every ten minutes, of which a fifth meets a random fault.

News arrive now and then. A faulted tick is killed at a random call, loses power there, or has a call
fail; nobody helps. A second project gets the same news and no fault. Before news arrive and at the end
both must be the same, and the state must not have grown beyond the other's. Needs a C compiler.

Run: python -m benchmarks.week [--ticks 1008] [--share 0.2] [--seed 0]
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from attrition.config import Config
from tests.campaigns.faults import checker, harness, recording, scenarios, worker
from tests.campaigns.faults.harness import Fault, Shim

NEWS_EVERY = 6
DAY = 144
# Grows with what was delivered and what happened, not with faults.
GROWS = ("sourcedata", "ingesteddata", "history.sqlite", "fullprocess.log")
MORE_ALLOWED = 1.05


@dataclass
class Week:
    """A project that meets faults, its undisturbed twin, and the counts so far."""

    shim: Shim
    config: Config
    twin: Config
    rng: random.Random
    calls_of_a_run: int = 700
    news: int = 0
    broken: int = 0

    def check(self, tick: int, wrong: list[str]) -> None:
        for line in wrong:
            tqdm.write(f"tick {tick}: {line}")
        self.broken += bool(wrong)

    def deliver(self) -> None:
        """Give both the same news; the twin takes them at once."""
        self.news += 1
        for config in (self.config, self.twin):
            scenarios.add_news(config, self.news, rows=20)
        ran = harness.run_forked(self.shim, self.twin.file.parent)
        assert ran.code == 0, ran.told

    def fault(self, *, at_work: bool) -> str:
        """Run one tick with a random fault; say which one it met, "" where it came too late."""
        project = self.config.file.parent
        point = self.rng.randint(1, self.calls_of_a_run if at_work else 2)
        action = self.rng.choice(worker.ACTIONS)
        if action in ("power_cut", "lost_names"):
            disk, log = recording.Disk(project), project.with_name("log")
            ran = harness.run_forked(self.shim, project, Fault("kill_before", point), log)
            if ran.code < 0:
                for call in recording.read_calls(log):
                    disk.apply(call)
                recording.write_tree(project, disk.tree(action))
        elif action in worker.FAILURES:
            kind, error, _ = worker.FAILURES[action]
            ran = harness.run_forked(self.shim, project, Fault(kind, point, error))
        else:
            ran = harness.run_forked(self.shim, project, Fault(action, point))
        return action if ran.hit_call else ""


def size(config: Config) -> tuple[int, int]:
    """Count the files and bytes of the state that must stay bounded."""
    project = config.file.parent
    files = [path for path in project.rglob("*") if path.is_file() and not path.is_symlink()]
    kept = [path for path in files if str(path.relative_to(project)).partition("/")[0] not in GROWS]
    kept = [path for path in kept if not path.name.startswith(GROWS)]
    return len(kept), sum(path.stat().st_size for path in kept)


def live(week: Week, ticks: int, share: float) -> Counter[str]:
    """Live through the ticks; return how many faults of each kind were met."""
    met: Counter[str] = Counter()
    is_even, last_news = False, 0
    for tick in tqdm(range(ticks), unit="tick", disable=None):
        if is_even and tick - last_news >= NEWS_EVERY:
            week.check(tick, difference(week))
            week.deliver()
            is_even, last_news = False, tick
        if tick and week.rng.random() < share:
            met[week.fault(at_work=not is_even) or "nothing to hit"] += 1
            week.check(tick, worker.look(week.config.file.parent, had_model=tick > DAY))
        else:
            ran = harness.run_forked(week.shim, week.config.file.parent)
            is_even = ran.code == 0
            week.check(tick, [] if is_even else [f"I4 exit {ran.code}: {ran.told[-600:]}"])
        if tick % DAY == 0:
            tqdm.write(f"tick {tick}: {told(week.config)}; undisturbed {told(week.twin)}")
    ran = harness.run_forked(week.shim, week.config.file.parent)
    week.check(ticks, [] if ran.code == 0 else [f"I4 exit {ran.code}: {ran.told[-600:]}"])
    week.check(ticks, difference(week))
    return met


def told(config: Config) -> str:
    files, n_bytes = size(config)
    return f"{files} files, {n_bytes:,} bytes"


def difference(week: Week) -> list[str]:
    """Name what is not as in the undisturbed project, its size included."""
    wrong = checker.compare(
        checker.load_report_data(week.config), checker.load_report_data(week.twin)
    )
    (_, mine), (_, twins) = size(week.config), size(week.twin)
    return wrong + ([f"I7 {mine:,} bytes, {twins:,}"] if mine > MORE_ALLOWED * twins else [])


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every comparison held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=1008)
    parser.add_argument("--share", type=float, default=0.2, help="of the ticks that meet a fault")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not harness.is_under_shim():
        return harness.run_under_shim("benchmarks.week", sys.argv[1:] if argv is None else argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=harness.work_folder()) as place:
        shim = Shim(Path(os.environ["FAULTS_CONTROL"]))
        twin = scenarios.make_first(Path(place) / "undisturbed")
        harness.import_what_a_run_imports(twin.file.parent)
        config = scenarios.make_first(Path(place) / "faulted" / "project")
        week = Week(shim, config, twin, random.Random(options.seed))
        met = live(week, options.ticks, options.share)
        end = f"{told(config)} at the end, undisturbed {told(twin)}"
    missed = met.pop("nothing to hit", 0)
    print(", ".join(f"{name} {n}" for name, n in sorted(met.items())))
    print(
        f"{options.ticks:,} ticks, news in {week.news}; {met.total() + missed} met a fault, {missed} "
        f"of them with nothing to hit; {week.broken} broken; {end}; {time.monotonic() - began:.0f} s"
    )
    return int(week.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
