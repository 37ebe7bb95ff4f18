"""What every script's command line shares: --config, exit codes, the lock, and the time a step took."""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from attrition import config as configuration
from attrition import disk, history, log
from attrition.config import Config
from attrition.errors import AttritionError, Busy, ConfigError

logger = logging.getLogger(__name__)


class Result(Protocol):
    """What a step returns: what it made, whether that stood already, and a few lines on it."""

    @property
    def fresh(self) -> bool: ...

    @property
    def made(self) -> str: ...

    def summary(self) -> str: ...


R = TypeVar("R", bound=Result)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Make the parser of a script whose help text is its module docstring."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", type=Path, metavar="PATH", help="default: config.json here")
    made.add_argument("--quiet", action="store_true", help="speak only of what needs a person")
    return made


def perform(config: Config, name: str, step: Callable[[Config], R]) -> R:
    """Run one step and keep how long it took, unless its results stood already."""
    started_at, start = disk.utc_now(), time.monotonic()
    result = step(config)
    elapsed_s = time.monotonic() - start
    headline = result.summary().splitlines()[0]
    if not result.fresh:
        row = {
            "step": name,
            "made": result.made,
            "started_at": started_at,
            "elapsed_s": round(elapsed_s, 3),
            "outcome": headline,
        }
        history.save(config.history, "steps", [row])
        logger.info("%s: %s (%.1f s)", name, headline, elapsed_s)
    return result


def guard(options: argparse.Namespace, work: Callable[[Config], int]) -> int:
    """Load the config, do the work, and turn what goes wrong into one line and an exit code."""
    log.set_up(quiet=options.quiet)
    try:
        return work(configuration.load(options.config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except Busy as error:
        if not options.quiet:
            print(error)
        return 0
    except AttritionError as error:
        logger.error("%s", error)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        logger.error("%s", disk.explain(error))
        return 1


def run(options: argparse.Namespace, name: str, step: Callable[[Config], Result]) -> int:
    """Run one step by hand, under the lock; print what it made."""

    def work(config: Config) -> int:
        with disk.run_lock(config.lock):
            result = perform(config, name, step)
        print(result.summary())
        return 0

    return guard(options, work)
