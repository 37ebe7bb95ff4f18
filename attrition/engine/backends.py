"""Run one function over many parts of the data: in this process, or by joblib on loky, Dask or Ray.

Parts share nothing but files: a call gets plain values, such as paths and numbers, and returns a plain
record. So the result is the same on every backend. Workers of a cluster need the same checkout, the same
packages and the same paths as this process; each checks that before it works.
"""

import hashlib
import importlib
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from attrition.config import Engine
from attrition.errors import AttritionError, EngineError
from attrition.storage import files

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("numpy", "pandas", "pyarrow", "scikit-learn", "joblib")
CONNECT_S = 10
# A cluster whose workers are replaced has some again within this time.
PATIENCE_S = 30.0
LOOK_EVERY_S = 0.5
Outcome = tuple[Any, Exception | None]
CountWorkers = Callable[[], int]


def run(engine: Engine, task: str, calls: Iterable[Sequence[Any]]) -> list[Any]:
    """Call a function once for each tuple of arguments; return the results in the order of the calls.

    task: "module:function", imported wherever it runs; arguments and results are plain values. A single
    call needs no engine and runs in this process.

    Raises: EngineError if the engine fails; the first error of a call.

    >>> run(Engine(), "math:hypot", [(3, 4), (6, 8)])
    [5.0, 10.0]
    """
    waiting = list(calls)
    if engine.backend is None or len(waiting) < 2:
        return [find(task)(*arguments) for arguments in waiting]
    try:
        check_address(engine)
        with CONNECT[engine.backend](engine) as count_workers:
            outcomes = _attend(count_workers, lambda: _submit(engine, task, waiting, versions()))
    except Exception as error:  # each library has its own errors; those of a call are outcomes
        raise EngineError(f"{_name(engine)}: {_describe(error)}; {ADVICE}") from error
    for problem in (problem for _, problem in outcomes if problem is not None):
        raise problem
    return [result for result, _ in outcomes]


def count_threads(engine: Engine) -> int:
    """Return how many files the run itself may write at once: as many as parts are computed at once."""
    return 1 if engine.backend is None else engine.workers or os.cpu_count() or 1


def find(task: str) -> Callable[..., Any]:
    """Import the function of a task."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # the scripts lie there
    module, _, name = task.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions on which the result of a task depends, and a hash of our own code."""
    code = hashlib.sha256()
    for path in sorted([*ROOT.glob("*.py"), *(ROOT / "attrition").rglob("*.py")]):
        code.update(path.read_bytes())
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"code": code.hexdigest()[:12], "Python": platform.python_version()} | packages


# ---- in a worker


def work(
    task: str, arguments: Sequence[Any], expected: dict[str, str], hashes: dict[str, list[str]]
) -> Outcome:
    """Do one call; return its result or its error. An error that is raised is one of the engine.

    hashes: of files that the run has read, so that a worker on the same machine need not read them
    """
    try:
        files.learn_hashes(hashes)
        own = versions()
        if differing := [name for name in expected if own[name] != expected[name]]:
            lines = [f"{name} {own[name]}, expected {expected[name]}" for name in differing]
            return None, EngineError(
                f"the worker on {socket.gethostname()} has {'; '.join(lines)}: install the same "
                "checkout and requirements.lock on every worker, and start it again"
            )
        return find(task)(*arguments), None
    except Exception as error:  # raised again in the run
        return None, error


# ---- in the run


def _submit(
    engine: Engine, task: str, calls: Sequence[Sequence[Any]], expected: dict[str, str]
) -> list[Outcome]:
    from joblib import Parallel, delayed, parallel_config

    hashes = files.known_hashes()
    with parallel_config(engine.backend, n_jobs=engine.workers or -1):
        jobs = (delayed(work)(task, arguments, expected, hashes) for arguments in calls)
        return list(Parallel(batch_size=1, pre_dispatch="all")(jobs))


def check_address(engine: Engine) -> None:
    """Check that something listens at the address of a cluster: Ray would try for minutes.

    Raises: OSError.
    """
    if engine.address:
        host, _, port = engine.address.rpartition("/")[2].rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _attend(count_workers: CountWorkers, submit: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Wait for workers, and for the outcomes; stop if no worker has been there for `PATIENCE_S`.

    Both the jobs and the look at the workers have a thread of their own, because a call to a cluster
    that is gone may never return.

    Raises: EngineError, and any error of the engine.
    """
    end = time.monotonic() + CONNECT_S
    while not count_workers():
        if time.monotonic() > end:
            raise EngineError(f"has no worker after {CONNECT_S} s")
        time.sleep(LOOK_EVERY_S)
    outcomes: Future[list[Outcome]] = Future()
    seen_at = [time.monotonic()]

    def follow() -> None:
        try:
            outcomes.set_result(submit())
        except BaseException as error:  # raised again by the future
            outcomes.set_exception(error)

    def look() -> None:
        while not wait([outcomes], LOOK_EVERY_S).done:
            if count_workers():
                seen_at[0] = time.monotonic()

    for target in (follow, look):
        threading.Thread(target=target, daemon=True).start()
    while not wait([outcomes], LOOK_EVERY_S).done:
        if time.monotonic() - seen_at[0] > PATIENCE_S:
            raise EngineError(f"no worker answered for {PATIENCE_S:g} s")
    return outcomes.result()


@contextmanager
def _connect_dask(engine: Engine) -> Iterator[CountWorkers]:
    from dask.distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # we describe the error ourselves
    with Client(engine.address, timeout=CONNECT_S) as client:
        yield lambda: len(client.ncores())


@contextmanager
def _connect_ray(engine: Engine) -> Iterator[CountWorkers]:
    import ray
    from ray.util.joblib import register_ray

    ray.init(engine.address, log_to_driver=False, logging_level=logging.ERROR)
    register_ray()
    try:
        yield lambda: sum(
            node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes()
        )
    finally:
        ray.shutdown()


CONNECT: dict[str, Callable[[Engine], AbstractContextManager[CountWorkers]]] = {
    "loky": lambda engine: nullcontext(lambda: engine.workers or 1),
    "dask": _connect_dask,
    "ray": _connect_ray,
}
ADVICE = (
    "this step changed nothing; start it again, or remove engine from config.json to work in this "
    "process"
)


def _name(engine: Engine) -> str:
    return f"engine {engine.backend}" + (f" at {engine.address}" if engine.address else "")


def _describe(error: Exception) -> str:
    """Return an error of a library as one line."""
    if isinstance(error, ImportError) and error.name in ("dask", "distributed", "ray"):
        return f"{error.name} is not installed (make engines)"
    lines = str(error).strip().splitlines()
    return (
        lines[0]
        if isinstance(error, AttritionError)
        else f"{type(error).__name__}: {(lines or [''])[0]}"
    )
