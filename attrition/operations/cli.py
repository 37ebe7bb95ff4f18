"""What every script's command line shares: --config, exit codes, the lock, and the time a step took."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from attrition import __version__
from attrition import config as configuration
from attrition.config import Config
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


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Make the parser of a script whose help text is its module docstring."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    made.add_argument("--config", type=Path, metavar="PATH", help="default: config.json here")
    made.add_argument("--quiet", action="store_true", help="speak only of what needs a person")
    return made


def add_accept_leakage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-leakage",
        action="store_true",
        help="learn even from columns that look as if they were filled in after the outcome",
    )


def accepting(config: Config, options: argparse.Namespace) -> Config:
    """Return the config as --accept-leakage changes it for this run."""
    if not options.accept_leakage:
        return config
    return replace(config, accept_leakage=tuple(config.columns.features))


def run_step(config: Config, name: str, step: Callable[[Config], R]) -> R:
    """Run one step and keep how long it took, unless its results stood already."""
    started_at, start = files.utc_now(), time.monotonic()
    result = step(config)
    elapsed_s = time.monotonic() - start
    headline = result.summary().splitlines()[0]
    if not result.up_to_date:
        row = {
            "step": name,
            "made": result.seal,
            "started_at": started_at,
            "elapsed_s": round(elapsed_s, 3),
            "outcome": headline,
        }
        history.save(config.history, "steps", [row])
        logger.info("%s: %s (%.1f s)", name, headline, elapsed_s)
    return result


def run_command(options: argparse.Namespace, work: Callable[[Config], int]) -> int:
    """Load the config, do the work, and turn what goes wrong into one line and an exit code.

    What ends the work from outside, a signal or a reader that closed the pipe, ends it at once.
    """
    open_standard_streams()
    with permissions.private(), runs.ended_by_signals():
        log.set_up(quiet=options.quiet)
        try:
            code = work(configuration.load(options.config))
            print(end="", flush=True)  # here, where a closed pipe can still be told
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
    """Say in one line what went wrong."""
    if isinstance(error, OSError):
        return str(files.explain(error))
    if isinstance(error, MemoryError):
        return "not enough memory; nothing was changed"
    return str(error) or type(error).__name__


def open_standard_streams() -> None:
    """Let the first three descriptors lead nowhere where they are closed.

    Else a file of ours would be opened as one of them, and take what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def drop_output() -> None:
    """Send what is still to be printed nowhere: whoever read it is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def step_lock(config: Config, name: str) -> Iterator[None]:
    """Hold the lock for a step that is run by hand, and say so in the lock file.

    Raises: Busy.
    """
    with files.run_lock(config.lock) as lock:
        permissions.close_folders(config)
        if is_history_gone(config):
            raise Damaged(f"{config.history}: is missing; python fullprocess.py --repair mends it")
        started_at = files.utc_now()
        if (died := runs.read_mark(config.lock)) is not None:
            keep_death(config, died)
        with files.named(config.lock):
            runs.leave_mark(lock, f"{started_at} {time.time_ns()} {name}", started_at, None)
        try:
            yield
        finally:
            with files.named(config.lock):
                runs.clear_mark(lock)


def is_history_gone(config: Config) -> bool:
    """Is there no history although there was one? It is not begun anew in silence."""
    return not os.path.lexists(config.history) and os.path.lexists(config.current)


def keep_death(config: Config, died: runs.Mark) -> None:
    """Keep a run that left its mark and never ended in the history, and say it."""
    why = "it never ended: it was killed, or the machine stopped"
    row = {"run": died["run"], "started_at": died["started_at"], "outcome": "died", "reason": why}
    if not is_history_gone(config):
        history.save(config.history, "runs", [row], replace=False)
    logger.warning("the run before, of %s: %s", died["started_at"] or "an unknown time", why)


def run(options: argparse.Namespace, name: str, step: Callable[[Config], Result]) -> int:
    """Run one step by hand, under the lock; print what it made."""

    def work(config: Config) -> int:
        with step_lock(config, name):
            result = run_step(config, name, step)
        print(result.summary())
        return 0

    return run_command(options, work)
