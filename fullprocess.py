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
from pathlib import Path
from typing import Any

from attrition import cli, disk, history, log
from attrition.config import Config
from attrition.errors import AttritionError, Damaged, SourceError, TooLittleData

logger = logging.getLogger("attrition.fullprocess")


# ---- is there anything to do?


def find_state(config: Config) -> dict[str, str]:
    """Hash everything a run depends on or makes: config, sources, test data, records, production.

    Standard library only, so that a tick with nothing new costs next to nothing.
    """
    folders = [config.input_folder, config.test_folder, config.output_folder, config.model_folder]
    files = [config.file, Path(__file__).resolve().parent / "requirements.txt"]
    files += [path for folder in folders for path in _files(folder)]
    files += [path for database in config.databases for path in _sqlite_files(database.url)]
    files += [config.monitoring_record, config.settled_rows]
    files += _files(config.releases / _pointer(config))
    made = (config.risk_scores, config.contact_list, config.assessment_record)
    files += [*made, config.diagnostics_record, config.report, config.report_record]
    state = {_shown(path): _hash(path) for path in files}
    return state | {"current": _pointer(config)}


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
    return last is not None and last["complete"] and last["state"] == find_state(config)


# ---- the run


def process(config: Config) -> tuple[list[str], bool]:
    """Run what is not fresh; return what to tell a person, and whether a source is still owed.

    Raises: AttritionError when a step cannot do its work; what worked stays.
    """
    import assessment
    import deployment
    import diagnostics
    import ingestion
    import reporting
    import scoring
    import training

    with ThreadPoolExecutor(1) as aside:
        ingested = cli.perform(config, "ingestion", ingestion.ingest_new_data)
        if ingested.rows == 0:
            raise AttritionError(
                f"{config.input_folder}: no usable row so far; put files there whose header names "
                f"{', '.join(config.columns.delivered)} (refused rows: {config.rejected})"
            )
        names = diagnostics.needs_asking(config)
        asking = aside.submit(ask_latest, names)
        told = [f"ingestion: {ingested.summary()}"]
        monitoring = cli.perform(config, "monitoring", diagnostics.monitor_model)
        decision = deployment.answered(config)
        if monitoring.retrain and decision is None:
            told.append(f"monitoring: {monitoring.reason}")
            try:
                trained = cli.perform(config, "training", training.train_model)
                scores = cli.perform(config, "scoring", scoring.score_model)
                decision = cli.perform(config, "deployment", deployment.deploy_model)
                told += [f"training: {trained.summary()}", f"scoring: {scores.summary()}"]
            except TooLittleData as error:
                if "no_model" in monitoring.triggers:
                    raise
                decision = deployment.refuse(config, str(error))
            told.append(f"deployment: {decision.reason}")
        elif not monitoring.retrain:
            told.append(f"monitoring: {monitoring.summary()}")
        assessed = cli.perform(config, "assessment", assessment.assess_clients)
        diagnosed = cli.perform(
            config, "diagnostics", lambda c: diagnostics.run_diagnostics(c, asking.result)
        )
    written = cli.perform(config, "reporting", reporting.write_report)
    call_running_api(config)
    told += [f"assessment: {assessed.summary()}", f"diagnostics: {diagnosed.summary()}"]
    told.append(f"report: {written.summary()}")
    return told, bool(ingested.held or ingested.deferred)


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
    import diagnostics  # noqa: F401  the import alone tells whether the set-up is whole
    import ingestion
    from attrition import sources

    state = ingestion.read_state(config)
    names = [name for name in ingestion.list_folder(config) if not sources.not_an_input(name)]
    hashes = {name: sources.hash_file(config.input_folder / name) for name in names}
    new = [
        name for name, digest in hashes.items() if not state.is_known(ingestion.shown(name), digest)
    ]
    lines = [f"would read {ingestion.shown(name)}" for name in new]
    for database in config.databases:
        try:
            changed = sources.probe(database) != state.marks.get(database.name)
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
            if not options.quiet:
                print("nothing new")
            return 0
        if options.dry_run:
            print("\n".join(plan(config)))
            return 0
        disk.make_folder(config.reports_folder)
        log.set_up(quiet=options.quiet, file=config.diary)
        started_at, start = disk.utc_now(), time.monotonic()
        told: list[str] = []
        outcome, reason, owed = "failed", "", True
        try:
            told, owed = process(config)
            outcome, reason = "done", told[0]
        except AttritionError as error:
            reason = str(error)
            raise
        finally:
            elapsed_s = round(time.monotonic() - start, 3)
            keep_run(config, started_at, elapsed_s, outcome, reason)
        record = {"complete": not owed, "ended_at": disk.utc_now(), "state": find_state(config)}
        disk.write_bytes(config.last_run, disk.encode(disk.sealed(record)))
        return tell(config, options, told, elapsed_s)


def keep_run(config: Config, started_at: str, elapsed_s: float, outcome: str, reason: str) -> None:
    row: dict[str, Any] = {"run": f"{started_at} {time.time_ns()}", "started_at": started_at}
    row |= {"ended_at": disk.utc_now(), "elapsed_s": elapsed_s, "outcome": outcome}
    history.save(config.history, "runs", [row | {"reason": reason}])


def tell(config: Config, options: argparse.Namespace, told: list[str], elapsed_s: float) -> int:
    """Print what happened and where to look; 1 when a source could not be read."""
    held = [line for text in told for line in text.splitlines() if "cannot be read now" in line]
    if not options.quiet:
        print("\n".join(told))
        print(f"done in {elapsed_s:.0f} s. Whom to call: {config.contact_list}")
        print(f"the report: {config.report}; the dashboard: python app.py")
    return 1 if held else 0


def main(argv: list[str] | None = None) -> int:
    """Run the whole process."""
    parser = cli.parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done")
    options = parser.parse_args(argv)
    work: Callable[[Config], int] = lambda config: run(config, options)  # noqa: E731
    return cli.guard(options, work)


if __name__ == "__main__":
    sys.exit(main())
