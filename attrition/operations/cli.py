"""The parts common to the command lines of all scripts: --config, exit codes, the lock, durations."""

import argparse
import gc
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from attrition import __version__, config_file
from attrition.config import Config
from attrition.engine import costs
from attrition.errors import AttritionError, Busy, ConfigError, Damaged
from attrition.operations import log, runs
from attrition.storage import files, history, permissions

logger = logging.getLogger(__name__)


class Result(Protocol):
    """The result of a step: the seal of its record, whether it was up to date, and a summary."""

    @property
    def up_to_date(self) -> bool: ...

    @property
    def seal(self) -> str: ...

    def summary(self) -> str: ...


R = TypeVar("R", bound=Result)

# Objects allocated between two searches for garbage in cycles. A step keeps millions until it ends: at
# Python's 700, an eighth of the CPU of an assessment of 300,000 clients was spent on the search.
COLLECT_AFTER = 100_000


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a script; its module docstring is the help text."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="default: config.json beside the scripts"
    )
    parser.add_argument("--quiet", action="store_true", help="print only what needs attention")
    return parser


def add_accept_leakage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-leakage",
        action="store_true",
        help="train even on columns that look as if they were filled in after the outcome",
    )


def accepting(config: Config, options: argparse.Namespace) -> Config:
    """Return the config as --accept-leakage changes it for this run."""
    accepted = tuple(config.columns.features)
    return replace(config, accept_leakage=accepted) if options.accept_leakage else config


def run_step(
    config: Config,
    name: str,
    step: Callable[[Config], R],
    profile: list[tuple[str, costs.Cost]] | None = None,
) -> R:
    """Run one step and add its cost to the profile; if it was not up to date, save its cost."""
    gc.set_threshold(COLLECT_AFTER)
    started_at = files.utc_now()
    result, cost = costs.measure(lambda: step(config))
    if profile is not None:
        profile.append((name, cost))
    headline = result.summary().splitlines()[0]
    if not result.up_to_date:
        row = {
            "step": name,
            "made": result.seal,
            "started_at": started_at,
            "elapsed_s": round(cost.elapsed_s, 3),
            "outcome": headline,
            "cpu_s": round(cost.cpu_s, 3),
            "peak_mb": None if cost.is_bound else round(cost.peak_mb, 1),
            "rows": _count_rows(config, result),
        }
        history.save(config.history, "steps", [row])
        logger.info("%s: %s (%.1f s)", name, headline, cost.elapsed_s, extra=log.PRINTED)
    return result


def _count_rows(config: Config, result: Result) -> int | None:
    """Return the rows that a step read: those of the new sources for ingestion, else all."""
    if (records := getattr(result, "records", None)) is not None:
        return int(records)
    try:
        return (files.read_record(config.ingestion_record) or {}).get("rows")
    except Damaged:
        return None  # the next run reports it


def run_command(options: argparse.Namespace, work: Callable[[Config], int]) -> int:
    """Load the config, do the work, and turn an error into one line and an exit code.

    A signal, or a reader that closes the pipe, ends the work at once.
    """
    open_standard_streams()
    with permissions.private(), runs.ended_by_signals():
        log.set_up(quiet=options.quiet)
        try:
            config = config_file.load(options.config)
            files.load_hashes(config.hashes)
            code = work(config)
            print(end="", flush=True)  # a closed pipe has to raise here
        except ConfigError as error:
            print(error, file=sys.stderr)
            return 2
        except Busy as error:
            if not options.quiet:
                print(error)
            return 0
        except BrokenPipeError:
            drop_output()
            return 1
        except (AttritionError, OSError, MemoryError, runs.Ended) as error:
            logger.error("%s", error_message(error))
            return error.code if isinstance(error, runs.Ended) else 1
    return code


def error_message(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError):
        return str(files.explain(error))
    if isinstance(error, MemoryError):
        return "not enough memory; nothing was changed"
    return str(error) or type(error).__name__


def open_standard_streams() -> None:
    """Open the first three descriptors on /dev/null if they are closed; stdout escapes as stderr does.

    Otherwise one of our files would get such a descriptor, and with it what is printed; and a name with
    a character that the encoding of stdout lacks would end the script.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # another program has put a pipe in place of the file that it was
            sys.stdout.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Discard the remaining output, because its reader has closed the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def step_lock(config: Config, name: str) -> Iterator[None]:
    """Lock the installation for a step that is run by hand, and write its name into the lock file.

    Raises: Busy, Damaged if the history is missing.
    """
    with files.run_lock(config.lock) as lock:
        permissions.close_folders(config)
        if is_history_gone(config):
            raise Damaged(
                f"{config.history}: is missing; python fullprocess.py --repair repairs it"
            )
        started_at = files.utc_now()
        if (dead_run := runs.read_mark(config.lock)) is not None:
            keep_death(config, dead_run)
        with files.named(config.lock):
            runs.leave_mark(lock, f"{started_at} {time.time_ns()} {name}", started_at, None)
        try:
            yield
        finally:
            with files.named(config.lock):
                runs.clear_mark(lock)


def is_history_gone(config: Config) -> bool:
    """Return whether the history is missing although a model was deployed."""
    return not os.path.lexists(config.history) and os.path.lexists(config.current)


def keep_death(config: Config, dead_run: runs.Mark) -> None:
    """Save and log a run that started and never ended."""
    run, started_at = dead_run["run"], dead_run["started_at"]
    reason = "it never ended: it was killed, or the machine stopped"
    row = {"run": run, "started_at": started_at, "outcome": "died", "reason": reason}
    if not is_history_gone(config):
        history.save(config.history, "runs", [row], replace=False)
    logger.warning("the previous run, of %s: %s", started_at or "an unknown time", reason)


def run(options: argparse.Namespace, name: str, step: Callable[[Config], Result]) -> int:
    """Run one step by hand, under the lock; print its summary."""

    def work(config: Config) -> int:
        with step_lock(config, name):
            result = run_step(config, name, step)
        print(result.summary())
        return 0

    return run_command(options, work)
