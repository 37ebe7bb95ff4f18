"""Odd conditions for a run: stopped, told to end, without a reader, short of descriptors or memory.

Each brings a run on a project into one, and returns what was wrong about how it ended.
"""

import fcntl
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attrition.config import Config
from tests.campaigns.faults import harness, recording
from tests.campaigns.faults.harness import Child

NOBODY = 65534
PROMPT_S = 20
FEW_DESCRIPTORS = 24
LITTLE_MEMORY = 30 << 20
PAGE, PAGES_FREE = resource.getpagesize(), 60


def start(config: Config, prepare: Callable[[], object] = lambda: None, *more: str) -> Child:
    """Start the whole process in a fork, after something was prepared there."""
    import fullprocess

    def work() -> int:
        prepare()
        return fullprocess.main(["--config", str(config.file), *more])

    return harness.begin(work)


def is_held(config: Config) -> bool:
    """Does a run hold the lock?"""
    try:
        with config.lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def wait_until_held(config: Config) -> None:
    end = time.monotonic() + PROMPT_S
    while not is_held(config):
        assert time.monotonic() < end, "the run never took the lock"
        time.sleep(0.002)


def stopped_holder(config: Config) -> list[str]:
    """A run that is stopped, as by a suspended machine, keeps the lock; then it ends well."""
    first = start(config)
    wait_until_held(config)
    os.kill(first.pid, signal.SIGSTOP)
    before = recording.read_tree(config.file.parent)
    code, told = harness.finish(start(config))
    broken = [] if code == 0 and "another run" in told else [f"I1 beside it: {code} {told}"]
    changed = recording.difference(before, recording.read_tree(config.file.parent))
    changed = [path for path in changed if config.history.name not in path]  # a tick was skipped
    broken += [f"I1 the second run changed {changed}"] if changed else []
    os.kill(first.pid, signal.SIGCONT)
    code, told = harness.finish(first)
    return broken + ([] if code == 0 else [f"I4 the stopped run: {code} {told}"])


def listen() -> None:
    """Hear signals that whoever started the tests ignores, as `nohup` does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _signalled(number: signal.Signals) -> Callable[[Config], list[str]]:
    def send(config: Config) -> list[str]:
        """A run that is told to end does so at once."""
        child = start(config, listen)
        wait_until_held(config)
        time.sleep(random.Random(number).uniform(0, 0.6))
        began = time.monotonic()
        os.kill(child.pid, number)
        code, _ = harness.finish(child)
        broken = [] if code != 0 else ["I5 exits 0 although it was told to end"]
        if time.monotonic() - began > PROMPT_S:
            broken.append(f"F12 took {time.monotonic() - began:.0f} s to end")
        return broken

    return send


def closed_stdout(config: Config) -> list[str]:
    """Nobody reads what a run prints, as behind `| head -c1`."""

    def close() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)

    code, told = harness.finish(start(config, close))
    wrong = code < 0 or "Traceback" in told
    return [f"I5 exit {code}: {told}"] if wrong else []


def few_descriptors(config: Config) -> list[str]:
    """No more than 24 files can be open at once."""
    limit = (FEW_DESCRIPTORS, FEW_DESCRIPTORS)
    return _clear_end(start(config, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)))


def little_memory(config: Config) -> list[str]:
    """Memory runs out; nothing is changed."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + LITTLE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return _clear_end(start(config, limit), traceback_allowed=True)


def read_only_for_others(config: Config) -> list[str]:
    """Another user starts a run on a project that only its owner may write."""
    if os.geteuid() != 0:
        return ["skipped: only root can become another user"]
    project = config.file.parent
    tree = recording.read_tree(project)
    for path in [project, *project.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    for above in project.parents:
        if above.stat().st_mode & 0o005 != 0o005 and above.stat().st_uid == 0:
            if not str(above).startswith((tempfile.gettempdir(), str(harness.MEMORY))):
                return [f"skipped: {above} is closed to other users"]
            above.chmod(0o755)
    before = recording.read_tree(project)

    def become_nobody() -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)

    broken = _clear_end(start(config, become_nobody))
    changed = recording.difference(before, recording.read_tree(project))
    recording.write_tree(project, tree)
    return broken + ([f"I1 changed {changed}"] if changed else [])


def full_disk(config: Config) -> list[str]:
    """The project lies on a file system that becomes full; then there is room again."""
    project = config.file.parent
    tree = recording.read_tree(project)
    pages = sum(1 + len(content) // PAGE for _, _, content in tree.values())
    size = f"size={PAGE * (pages + PAGES_FREE)}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "attrition", str(project)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return ["skipped: not allowed to mount a tmpfs"]
    try:
        recording.write_tree(project, tree)
        broken = _clear_end(start(config))
        left = recording.read_tree(project)
    finally:
        subprocess.run(["umount", str(project)], check=True)
    recording.write_tree(project, left)
    return broken


def _clear_end(child: Child, *, traceback_allowed: bool = False) -> list[str]:
    """A run that cannot do its work says so and exits 1, or it could do it after all."""
    code, told = harness.finish(child)
    if code == 0:
        return []
    if code < 0 or (code != 1 and not traceback_allowed):
        return [f"I5 exit {code}: {told[-600:]}"]
    if not told.strip() or ("Traceback" in told and not traceback_allowed):
        return [f"I5 exit {code} without one clear line: {told[-900:]}"]
    return []


CONDITIONS: dict[str, Callable[[Config], list[str]]] = {
    "stopped_holder": stopped_holder,
    "sigterm": _signalled(signal.SIGTERM),
    "sigint": _signalled(signal.SIGINT),
    "sighup": _signalled(signal.SIGHUP),
    "closed_stdout": closed_stdout,
    "few_descriptors": few_descriptors,
    "little_memory": little_memory,
    "read_only_for_others": read_only_for_others,
    "full_disk": full_disk,
}
