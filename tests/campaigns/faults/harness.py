"""Build the shim, tell it what to do, and run the whole process under it in a fork of this process.

A process that is to fork runs must have been started with the shim preloaded (see `environment`); it
imports every library once, so that a run costs a second instead of five.
"""

import contextlib
import json
import mmap
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrition.databases import reader as databases
from attrition.storage import files

ROOT = Path(__file__).resolve().parents[3]
SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
# The layout of `struct control` in shim.c.
CONTROL = struct.Struct("<IIIIQQ512s512s32s512s")
ACTIONS = ("none", "kill_before", "kill_after", "torn", "fail", "fail_forever", "short")
LIMIT_S = 300
MEMORY = Path("/dev/shm")
SPACE_NEEDED = 1 << 30
FROZEN_AT = "2026-01-01T00:00:00Z"
READ_AT = datetime.now(UTC)  # of tables: by this a whole reading falls due, so it is of today


def build_shim(folder: Path) -> Path:
    """Compile the shim into a folder; raises where there is no compiler."""
    assert COMPILER is not None, "no C compiler"
    shim = folder / "shim.so"
    command = [COMPILER, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(shim)]
    subprocess.run([*command, str(SOURCE), "-ldl", "-lpthread"], check=True)
    return shim


def is_under_shim() -> bool:
    return "FAULTS_CONTROL" in os.environ


def run_under_shim(module: str, arguments: list[str]) -> int:
    """Run a module of ours again in a process that may fork runs; return its exit code."""
    if COMPILER is None:
        print("the shim needs a C compiler (Debian: apt install gcc libc6-dev)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        made = environment(build_shim(Path(place)), Path(place) / "control")
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=ROOT, env=made, check=False).returncode


def work_folder() -> str | None:
    """Choose where projects lie: in memory where there is room, else where temporary files do."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > SPACE_NEEDED:
        return str(MEMORY)
    return None


def environment(shim: Path, control: Path) -> dict[str, str]:
    """Return the environment of a process that runs under the shim; makes the control file.

    One thread a library, so that forking is safe.
    """
    control.write_bytes(bytes(CONTROL.size))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    ours = {"LD_PRELOAD": str(shim), "FAULTS_CONTROL": str(control), "PYTHONPATH": str(ROOT)}
    ours |= {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "PYTHONHASHSEED": "0"}
    return {**os.environ, **threads, **ours}


@dataclass(frozen=True)
class Fault:
    """What is to happen at the `point`-th call; `error` is the errno of a failing one."""

    action: str = "none"
    point: int = 0
    error: int = 0


NOTHING = Fault()


class Shim:
    """The control file, shared with every process that runs under the shim."""

    def __init__(self, control: Path) -> None:
        with control.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), CONTROL.size)

    def arm(self, folder: Path, fault: Fault = NOTHING, log: Path | None = None) -> None:
        """Act on calls below a folder from now on, counting from 1."""
        if log is not None:
            log.write_bytes(b"")
        action = ACTIONS.index(fault.action)
        names = os.fsencode(folder), os.fsencode(log) if log else b"", b"", b""
        self.memory[:] = CONTROL.pack(1, action, fault.error, 0, fault.point, 0, *names)

    def disarm(self) -> tuple[int, str, str]:
        """Stop; return how many calls were counted, and the name and path of the one hit."""
        _, _, _, hit, _, counter, _, _, call, path = CONTROL.unpack(self.memory)
        self.memory[:] = bytes(CONTROL.size)
        if not hit:
            return counter, "", ""
        return counter, call.rstrip(b"\0").decode(), os.fsdecode(path.split(b"\0")[0])


@dataclass(frozen=True)
class Ran:
    """How a run ended: exit code (negative: the signal), all it said, calls counted, the one hit."""

    code: int
    told: str
    calls: int
    hit_call: str
    hit_path: str


def run_forked(
    shim: Shim,
    project: Path,
    fault: Fault = NOTHING,
    log: Path | None = None,
    *,
    frozen: bool = False,
) -> Ran:
    """Run the whole process on a project in a fork, with a fault; frozen: at one and the same time."""
    import fullprocess

    def run() -> int:
        if frozen:
            files.utc_now, time.monotonic = lambda: FROZEN_AT, lambda: 0.0
            databases.utc_datetime = lambda: READ_AT
        return fullprocess.main(["--config", str(project / "config.json"), "--quiet"])

    shim.arm(project, fault, log)
    code, told = fork(run)
    return Ran(code, told, *shim.disarm())


def fork(work: Callable[[], int]) -> tuple[int, str]:
    """Do something in a child, a process group of its own; return its exit code and output."""
    return finish(begin(work))


@dataclass(frozen=True)
class Child:
    """A child at work: its process id and the file that holds what it says."""

    pid: int
    told: int


def begin(work: Callable[[], int]) -> Child:
    """Start something in a child that is the leader of a process group."""
    told = os.memfd_create("told")
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            os.dup2(told, 1)
            os.dup2(told, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            code = work()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return Child(pid, told)


def finish(child: Child) -> tuple[int, str]:
    """Wait for a child, end what it left behind; return its exit code (negative: the signal)."""
    handle = os.pidfd_open(child.pid)
    try:
        if not select.select([handle], [], [], LIMIT_S)[0]:
            os.kill(child.pid, signal.SIGKILL)
    finally:
        os.close(handle)
    status = os.waitpid(child.pid, 0)[1]
    with contextlib.suppress(ProcessLookupError):  # most leave nothing behind
        os.killpg(child.pid, signal.SIGKILL)
    output = os.pread(child.told, os.fstat(child.told).st_size, 0)
    os.close(child.told)
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "backslashreplace")


def ask_forked(question: Callable[[], Any]) -> Any:
    """Return what a function returns when called in a fork, as JSON would carry it."""

    def work() -> int:
        print("\n" + json.dumps(question()))
        return 0

    code, told = fork(work)
    if code != 0:
        raise AssertionError(f"exit {code}: {told}")
    return json.loads(told.rstrip("\n").rpartition("\n")[2])


def import_what_a_run_imports(project: Path) -> None:
    """Import here every module that one run of the whole process had to import.

    No run asks the package index from then on.
    """
    import gc
    import importlib

    import fullprocess
    from attrition.operations import dependencies

    dependencies.ask_all = dict.fromkeys

    def names() -> list[str]:
        import app  # noqa: F401

        code = fullprocess.main(["--config", str(project / "config.json"), "--quiet"])
        assert code == 0, code
        return sorted(sys.modules)

    for name in ask_forked(names):
        if name not in sys.modules and not name.startswith("__"):
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # one that exists only as an attribute of another
    gc.collect()
    gc.freeze()
