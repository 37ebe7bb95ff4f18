"""Try faults at calls of a run, one after the other; print a line of JSON for each.

Started by `start`, under the shim. A job names a scenario, actions and, where not all calls are to be
tried, a sample. Crashes are derived from one recording of the undisturbed run and only recovered from,
once for each state of the disk; failing calls are really made, and so is every double fault.
"""

import copy
import ctypes
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaigns.faults import checker, conditions, harness, plants, recording, scenarios
from tests.campaigns.faults.checker import ReportData
from tests.campaigns.faults.harness import Fault, Ran, Shim
from tests.campaigns.faults.recording import CRASHES, Call, Tree

# A failing call: its errno, and the calls that can fail in this way.
MAKING = {"open", "rename", "mkdir", "symlink", "link"}
SIZES = {"write", "truncate"}
ANY = {*recording.NAMES[1:]}
FAILURES: dict[str, tuple[str, int, set[str]]] = {
    "ENOSPC": ("fail", errno.ENOSPC, MAKING | SIZES | {"fsync"}),
    "EIO": ("fail", errno.EIO, ANY),
    "EROFS": ("fail", errno.EROFS, ANY),
    "EMFILE": ("fail", errno.EMFILE, {"open"}),
    "EACCES": ("fail", errno.EACCES, MAKING | {"unlink", "rmdir", "chmod"}),
    "EINTR": ("fail", errno.EINTR, {"open", "write", "fsync", "truncate"}),
    "short": ("short", 0, {"write"}),
    "ENOSPC_for_ever": ("fail_forever", errno.ENOSPC, MAKING | SIZES | {"fsync"}),
    "EROFS_for_ever": ("fail_forever", errno.EROFS, ANY),
}
PR_SET_PDEATHSIG = 1
STRETCH = 32
ACTIONS = (*CRASHES, *FAILURES)


# ---- the side that starts a worker


def start(folder: Path, job: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a worker in a folder of its own; its standard output is a line for each fault tried."""
    folder.mkdir(parents=True, exist_ok=True)
    shim = harness.build_shim(folder)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns.faults.worker", str(folder), json.dumps(job)],
        cwd=harness.ROOT,
        env=harness.environment(shim, folder / "control"),
        stdout=subprocess.PIPE,
        text=True,
    )


CURRENT = "production_deployment/current"


# ---- the worker


@dataclass(frozen=True)
class Scene:
    """A scenario in a worker's folder: where it starts, where it ends, and the calls between."""

    name: str
    project: Path
    template: Tree
    disk: recording.Disk
    expected: ReportData
    calls: list[Call]
    had_model: bool


def prepare(shim: Shim, folder: Path, name: str) -> Scene:
    """Make a scenario, run it undisturbed, and hold the recording against the disk."""
    project = folder / "project"
    recording.empty(project)
    config = scenarios.make_first(project)
    if name == "news":
        ran = harness.run_forked(shim, project)
        assert ran.code == 0, ran.told
        scenarios.add_old_releases(config)
        scenarios.add_news(config)
    template = recording.read_tree(project)
    disk = recording.Disk(project)
    log = folder / "log"
    ran = harness.run_forked(shim, project, log=log)
    assert ran.code == 0, ran.told
    calls = recording.read_calls(log)
    replayed = copy.deepcopy(disk)
    for call in calls:
        replayed.apply(call)
    made = recording.read_tree(project)
    unseen = recording.difference(replayed.tree(), made)
    assert not unseen, f"changed behind the shim's back: {unseen}"
    assert made[CURRENT] != template.get(CURRENT), (
        "no model was deployed: half of a run is not tried"
    )
    expected = checker.load_report_data(config)
    return Scene(name, project, template, disk, expected, calls, had_model=name == "news")


def choose(calls: list[Call], job: dict[str, Any]) -> list[int]:
    """Choose the calls to try: all, the one asked for, or a sample.

    Half of a sample is outside of SQLite, and a call of every kind that would be missing joins it.

    Several workers take turns by stretches: neighbours often leave the same state.
    """
    if job.get("point"):
        return [job["point"]]
    chosen = [call.k for call in calls]
    if job.get("sample"):
        rng = random.Random(job.get("seed", 0))
        database = [call.k for call in calls if "history.sqlite" in call.path]
        others = sorted(set(chosen) - set(database))
        half = job["sample"] // 2
        chosen = [
            *_spread(rng, database, min(half, len(database))),
            *_spread(rng, others, min(job["sample"] - half, len(others))),
        ]
        sampled = {call.name for call in calls if call.k in chosen}
        for name in sorted({call.name for call in calls} - sampled):
            chosen.append(rng.choice([call.k for call in calls if call.name == name]))
        chosen.sort()
    part, parts = job.get("part", (0, 1))
    return [k for i, k in enumerate(chosen) if i // STRETCH % parts == part]


def _spread(rng: random.Random, points: list[int], n: int) -> list[int]:
    """Take one point of each of n equal stretches."""
    edges = [i * len(points) // n for i in range(n + 1)] if n else []
    return [points[rng.randrange(a, b)] for a, b in itertools.pairwise(edges)]


def look(project: Path, *, had_model: bool) -> list[str]:
    """Check what readers meet now, on a copy: reading the history may change it."""
    readers = project.with_name("readers")
    shutil.rmtree(readers, ignore_errors=True)
    shutil.copytree(project, readers, symlinks=True)
    config = checker.load(readers)
    found: list[str] = harness.ask_forked(
        lambda: checker.check_instant(config, had_model=had_model)
    )
    return found


class Trial:
    """Recoveries in one scenario; a state of the disk that was recovered from is not tried again."""

    def __init__(self, shim: Shim, scene: Scene) -> None:
        self.shim, self.scene = shim, scene
        self.config = checker.load(scene.project)
        self.seen: dict[str, list[str]] = {}
        self.runs = 0

    def run(self, fault: Fault = harness.NOTHING, *, frozen: bool = False) -> Ran:
        self.runs += 1
        return harness.run_forked(self.shim, self.scene.project, fault, frozen=frozen)

    def judge(self, tree: Tree, name: str | None = None) -> list[str]:
        """Look as a reader does at a state of the disk, then let one plain run make it good.

        `name` is what tells states apart, by default all that they hold.
        """
        name = name or recording.digest(tree)
        if name not in self.seen:
            recording.write_tree(self.scene.project, tree)
            self.seen[name] = [*self.look(), *self.recover()]
        return self.seen[name]

    def look(self) -> list[str]:
        return look(self.scene.project, had_model=self.scene.had_model)

    def recover(self) -> list[str]:
        ran = self.run()
        return checker.check_converged(self.config, ran.code, ran.told, self.scene.expected)


def try_crashes(trial: Trial, points: set[int], actions: set[str]) -> Iterator[dict[str, Any]]:
    """Judge what each crash leaves; derived, so that nothing needs to be run up to it."""
    scene = trial.scene
    disk = copy.deepcopy(scene.disk)
    for k, crash, call, tree in recording.crash_trees(disk, scene.calls, points, actions):
        broken = trial.judge(tree)
        yield {"point": k, "action": crash, "call": call.name, "path": call.path, "broken": broken}


def try_failures(trial: Trial, points: set[int], actions: set[str]) -> Iterator[dict[str, Any]]:
    """Run with each failing call; then look, then run plainly.

    The failing runs have one frozen clock, so that equal states can be known as such: the plain run
    does not depend on what the diary and the table of runs tell of the failure.
    """
    scene = trial.scene
    for call in scene.calls:
        for action in FAILURES:
            kind, error, possible = FAILURES[action]
            if call.k not in points or action not in actions or call.name not in possible:
                continue
            recording.write_tree(scene.project, scene.template)
            ran = trial.run(Fault(kind, call.k, error), frozen=True)
            broken = checker.check_failed_run(trial.config, ran.code, ran.told, scene.expected)
            left = recording.read_tree(scene.project)
            broken += trial.judge(left, recording.digest(checker.without_runs(trial.config, left)))
            told = {"point": call.k, "action": action, "call": ran.hit_call, "path": ran.hit_path}
            yield told | {"broken": broken, "code": ran.code}


def try_doubles(trial: Trial, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Kill a run at a random call, then the run that recovers, then run plainly."""
    scene = trial.scene
    part, parts = job.get("part", (0, 1))
    rng = random.Random(f"{job.get('seed', 0)} {part} {scene.name}")
    for _ in range(job["double"] * (part + 1) // parts - job["double"] * part // parts):
        first, second = rng.choice(CRASHES[:3]), rng.choice(CRASHES[:3])
        recording.write_tree(scene.project, scene.template)
        ran = trial.run(Fault(first, rng.choice(scene.calls).k))
        # Most recoveries are shorter than the run was: a call that is not reached kills nothing.
        again = trial.run(Fault(second, int(rng.choice(scene.calls).k * rng.random()) + 1))
        broken = trial.look() + trial.recover()
        told = f"{first} at {ran.hit_call} {ran.hit_path}; {second} at {again.hit_call}"
        yield {
            "action": "double",
            "point": 0,
            "call": told,
            "path": again.hit_path,
            "broken": broken,
        }


def try_condition(trial: Trial, name: str) -> Iterator[dict[str, Any]]:
    """Bring a run into an odd condition; then look, then run plainly."""
    scene = trial.scene
    recording.write_tree(scene.project, scene.template)
    broken = conditions.CONDITIONS[name](trial.config)
    if not any(line.startswith("skipped") for line in broken):
        broken += trial.look() + trial.recover()
    yield {"action": name, "point": 0, "call": "", "path": "", "broken": broken}


def main() -> int:
    """Do the job on the command line."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives who started it
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    shim = Shim(Path(os.environ["FAULTS_CONTROL"]))
    warm = folder / "project"
    recording.empty(warm)
    scenarios.make_first(warm)
    harness.import_what_a_run_imports(warm)
    if job.get("plant"):
        plants.PLANTS[job["plant"]]()
    scene = prepare(shim, folder, job["scenario"])
    points, actions = set(choose(scene.calls, job)), set(job["actions"])
    n_failures = sum(
        call.k in points and call.name in FAILURES[action][2]
        for call in scene.calls
        for action in actions & set(FAILURES)
    )
    faults = len(points) * len(actions & set(CRASHES)) + n_failures
    head = {"scenario": scene.name, "calls": len(scene.calls), "points": len(points)}
    print(checker.as_line(head | {"faults": faults}), flush=True)
    trial = Trial(shim, scene)
    tries = [try_crashes(trial, points, actions), try_failures(trial, points, actions)]
    if job.get("double"):
        tries.append(try_doubles(trial, job))
    tries += [try_condition(trial, name) for name in job.get("conditions", [])]
    for results in tries:
        began, runs = time.monotonic(), trial.runs
        for result in results:
            result |= {"scenario": scene.name, "ran": trial.runs - runs}
            result["elapsed_s"] = round(time.monotonic() - began, 3)
            print(checker.as_line(result), flush=True)
            if result["broken"] and job.get("until_broken"):
                return 0
            began, runs = time.monotonic(), trial.runs
    return 0


if __name__ == "__main__":
    sys.exit(main())
