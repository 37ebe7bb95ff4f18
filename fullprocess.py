"""The whole process, steps 1 to 7 in order, one decision at a time; what cron runs.

Nothing new and nothing unfinished: it says so and ends. A run that was killed, at any instant, is
finished by the next one. One run at a time; another one that starts meanwhile ends at once.

Reads:  what the steps read
Writes: what the steps write; production_deployment/lastrun.json (the record), reports/fullprocess.log
Run:    python fullprocess.py [--config PATH] [--quiet] [--dry-run]
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from attrition import cli, disk, history, log
from attrition.config import Config
from attrition.errors import AttritionError, Damaged, SourceError, TooLittleData

logger = logging.getLogger("attrition.fullprocess")

R = TypeVar("R", bound=cli.Result)


# ---- is there anything to do?


def find_sources(config: Config) -> dict[str, str]:
    """Hash what a run takes in: config, source and test files, SQLite databases.

    Standard library only, here and below, so that a tick with nothing new costs next to nothing.
    """
    files = [config.file, Path(__file__).resolve().parent / "requirements.txt"]
    files += [*_files(config.input_folder), *_files(config.test_folder)]
    files += [path for database in config.databases for path in _sqlite_files(database.url)]
    return {_shown(path): _hash(path) for path in files}


def find_products(config: Config) -> dict[str, str]:
    """Hash what a run makes, the release in production included."""
    files = [*_files(config.output_folder), *_files(config.model_folder)]
    files += [config.monitoring_record, config.settled_rows]
    files += _files(config.releases / _pointer(config))
    files += [config.risk_scores, config.contact_list, config.assessment_record]
    files += [config.diagnostics_record, config.report, config.report_record]
    return {_shown(path): _hash(path) for path in files} | {"current": _pointer(config)}


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()


def _hash(path: Path) -> str:
    """Hash a regular file; a link or a pipe is only named, never opened."""
    regular = path.is_file() and not path.is_symlink()
    return disk.sha256_file(path) if regular else "not a file"


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [path for path in found if not path.is_dir() or path.is_symlink()]


def _sqlite_files(url: str) -> list[Path]:
    if not url.startswith("sqlite:///"):
        return []
    path = url.removeprefix("sqlite:///").split("?")[0]
    return [Path(path + ending) for ending in ("", "-wal", "-journal")]


def _pointer(config: Config) -> str:
    return Path(config.current.readlink()).name if config.current.is_symlink() else ""


def nothing_new(config: Config) -> bool:
    """Did the last run end whole, and is everything still as it left it?"""
    if any(not database.url.startswith("sqlite:///") for database in config.databases):
        return False
    try:
        last = disk.read_record(config.last_run)
    except Damaged as error:
        logger.warning("%s; every step is looked at again", error)
        return False
    if last is None or not last["complete"]:
        return False
    return last["state"] == find_sources(config) | find_products(config)


# ---- the run


@dataclass(frozen=True)
class Outcome:
    """What a run did: a text a step, whether any had work, sources not read, and if some wait."""

    told: tuple[str, ...]
    worked: bool
    held: tuple[str, ...]
    waiting: bool


def process(config: Config) -> Outcome:
    """Run what is not fresh; a step that cannot do its work leaves what worked before it.

    Raises: AttritionError.
    """
    import assessment
    import deployment
    import diagnostics
    import ingestion
    import reporting
    import scoring
    import training

    done: list[tuple[str, cli.Result]] = []

    def perform(name: str, step: Callable[[Config], R]) -> R:
        result = cli.perform(config, name, step)
        done.append((name, result))
        return result

    ingested = perform("ingestion", ingestion.ingest_new_data)
    if ingested.rows == 0:
        raise AttritionError(
            f"{config.input_folder}: no usable row so far; put files there whose header names "
            f"{', '.join(config.columns.delivered)} (refused rows: {config.rejected})"
        )
    with ThreadPoolExecutor(1) as aside:
        asking = aside.submit(ask_latest, diagnostics.needs_asking(config))
        monitoring = perform("monitoring", diagnostics.monitor_model)
        if monitoring.retrain and deployment.answered(config) is None:
            try:
                perform("training", training.train_model)
                perform("scoring", scoring.score_model)
                perform("deployment", deployment.deploy_model)
            except TooLittleData as error:
                if "no_model" in monitoring.triggers:
                    raise
                why = str(error)
                perform("deployment", lambda c: deployment.refuse(c, why))
        perform("assessment", assessment.assess_clients)
        perform("diagnostics", lambda c: diagnostics.run_diagnostics(c, asking.result))
    perform("reporting", reporting.write_report)
    worked = any(not result.fresh for _, result in done)
    if worked:
        call_running_api(config)
    told = [f"{name}: {result.summary()}" for name, result in done]
    return Outcome(tuple(told), worked, tuple(ingested.held), ingested.deferred > 0)


def ask_latest(names: list[str]) -> dict[str, str | None]:
    from attrition import dependencies

    return dependencies.ask_all(names) if names else {}


def call_running_api(config: Config) -> None:
    """Keep the API's answers, if one is up; a run does not fail because of it."""
    import apicalls

    try:
        if apicalls.is_running(config):
            cli.perform(config, "apicalls", apicalls.call_api)
    except AttritionError as error:
        logger.warning("the API could not be called: %s", error)


def plan(config: Config) -> list[str]:
    """Say what a run would do, without doing it."""
    import ingestion
    from attrition import databases, ledger, sources

    known = ledger.read(config, tidy=False)
    names = [name for name in ingestion.list_folder(config) if not sources.not_an_input(name)]
    hashes = {name: sources.hash_file(config.input_folder / name) for name in names}
    new = [
        name for name, digest in hashes.items() if not known.is_known(ingestion.shown(name), digest)
    ]
    lines = [f"would read {ingestion.shown(name)}" for name in new]
    for database in config.databases:
        try:
            mark = databases.probe(database, seconds=config.max_source_seconds)
            changed = mark != known.marks.get(database.name)
        except SourceError as error:
            lines.append(f"cannot read {error}")
            continue
        lines += [f"would read table {database.name}"] if changed else []
    if not _pointer(config):
        lines.append("would train, score and deploy a first model")
    elif lines:
        lines.append("would judge the model on what is new, and train if it no longer holds")
    if lines:
        lines.append("would assess every current client and write the report")
    return lines or ["would finish what the last run left unfinished"]


def run(config: Config, options: argparse.Namespace) -> int:
    """Decide whether there is work, do it, and keep the record of the run."""
    with disk.run_lock(config.lock):
        if nothing_new(config):
            return say_nothing_new(options)
        if options.dry_run:
            print("\n".join(plan(config)))
            return 0
        disk.make_folder(config.reports_folder)
        log.set_up(quiet=options.quiet, file=config.diary)
        started_at, start = disk.utc_now(), time.monotonic()
        taken = find_sources(config)  # before they are read: what arrives meanwhile is still news
        try:
            outcome = process(config)
        except BaseException as error:
            reason = str(error) or type(error).__name__
            keep_run(config, started_at, time.monotonic() - start, "failed", reason)
            raise
        elapsed_s = time.monotonic() - start
        if outcome.worked or outcome.held:
            keep_run(config, started_at, elapsed_s, "done", outcome.told[0])
        complete = not outcome.held and not outcome.waiting
        state = taken | find_products(config)
        record = {"complete": complete, "ended_at": disk.utc_now(), "state": state}
        disk.write_bytes(config.last_run, disk.encode(disk.sealed(record)))
    if not outcome.worked and not outcome.held:
        return say_nothing_new(options)
    if not options.quiet:
        print("\n".join(outcome.told))
        print(f"done in {elapsed_s:.0f} s. Whom to call: {config.contact_list}")
        print(f"the report: {config.report}; the dashboard: make serve")
    return 1 if outcome.held else 0


def say_nothing_new(options: argparse.Namespace) -> int:
    if not options.quiet:
        print("nothing new")
    return 0


def keep_run(config: Config, started_at: str, elapsed_s: float, outcome: str, reason: str) -> None:
    """Keep a run in the history."""
    row: dict[str, Any] = {"run": f"{started_at} {time.time_ns()}", "started_at": started_at}
    row |= {"ended_at": disk.utc_now(), "elapsed_s": round(elapsed_s, 3), "outcome": outcome}
    history.save(config.history, "runs", [row | {"reason": reason}])


def main(argv: list[str] | None = None) -> int:
    """Run the whole process."""
    parser = cli.parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done")
    options = parser.parse_args(argv)
    return cli.guard(options, lambda config: run(config, options))


if __name__ == "__main__":
    sys.exit(main())
