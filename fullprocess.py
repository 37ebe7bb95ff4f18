"""Run the whole process, steps 1 to 7; cron runs this script.

If nothing is new or unfinished, print that and end. If a run is killed at any moment, the next run
finishes its work. Only one run works at a time; one that starts meanwhile ends at once. A run that
takes longer than config.json allows is stopped. A damaged file is reported, and computed again from
other files if possible; otherwise runs stop until --repair renames it (it deletes nothing) and recovers.

Reads:  the inputs of all steps; contacts/inbox/ (filled-in sheets)
Writes: the outputs of all steps; the contact log and contacts/inbox/read/ (from filled-in sheets);
        production_deployment/lastrun.json (the record; its modification time is the end of the last
        good run), hashes.json, watchlist.bin, forgotten.json (keyed hashes of the names that --forget
        replaced); reports/fullprocess.log, reports/attrition.prom (metrics); the table that
        `write_back` names, if any
Run:    python fullprocess.py [--config PATH] [--quiet] [--dry-run | --repair | --test-alert]
        [--accept-leakage] [--accept-log-loss] [--profile]
        python fullprocess.py --forget NAME [--dry-run | --yes] [--config PATH]
"""

import sys

from attrition import idle


def ping_heartbeat(url: str, ending: str = "", wait_s: float = 1.5) -> None:
    """Ping the heartbeat, without waiting for a slow answer."""
    from attrition.messages import heartbeat

    heartbeat.ping(url, ending).join(wait_s)


if __name__ == "__main__" and idle.is_idle(sys.argv[1:], ping_heartbeat):
    sys.exit(0)  # what is imported below costs several times as much as this check

import argparse
import logging
import os
import shlex
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from attrition import wording
from attrition.config import Config
from attrition.engine import costs
from attrition.entering import inbox
from attrition.errors import (
    AttritionError,
    Busy,
    Damaged,
    Leakage,
    NoRows,
    SourceError,
    TooLittleData,
)
from attrition.operations import cli, log, notices, releases, runs
from attrition.storage import files, history, permissions
from attrition.upkeep import integrity, repair

logger = logging.getLogger("attrition.fullprocess")

R = TypeVar("R", bound=cli.Result)

# Failures that another run with the same inputs would only repeat.
OF_INPUTS = (NoRows, TooLittleData, Leakage)
UNUSED_SHOWN, UNUSED_NAMED, CHANGED_NAMED = 20, 5, 3
RunStep = Callable[[str, Callable[[Config], R]], R]
Profile = list[tuple[str, costs.Cost]]
LIST_INPUTS = ("contacts", "day", "assignments", "looks", "key")  # of the assessment


# ---- is there anything to do?


def find_sources(config: Config) -> dict[str, str]:
    """Hash the inputs of a run: config, source and test files, SQLite databases.

    Here and below only the standard library is imported, so that a run costs next to nothing if nothing
    is new.
    """
    return {_shown(path): _hash(path) for path in _sources(config)}


def find_products(config: Config) -> dict[str, str]:
    """Hash the outputs of a run, including all releases and the history; a link by its target."""
    return {_shown(path): _hash(path) for path in _products(config)} | {
        _shown(link): str(link.readlink()) if link.is_symlink() else "not a link"
        for link in _links(config)
    }


def _sources(config: Config) -> list[Path]:
    paths = [config.file.resolve(), Path(__file__).resolve().parent / "requirements.txt"]
    paths += [*_files(config.input_folder), *_files(config.test_folder)]
    return paths + [path for each in config.databases for path in _sqlite_files(each.url)]


def _products(config: Config) -> list[Path]:
    paths = [*_files(config.output_folder), *_files(config.model_folder)]
    paths += [config.monitoring_record, config.settled_rows, config.history]
    paths += _files(config.releases)
    paths += [config.clients, config.risk_scores, config.contact_list]
    paths += [config.earlier_clients, config.risk_history, config.assessment_record]
    paths += [config.diagnostics_record, config.report, config.report_record, config.metrics]
    paths += [config.write_back_record] if config.write_back.url else []
    return [*paths, config.contact_sheet, *config.find_manager_sheets(), *config.find_figures()]


def _links(config: Config) -> list[Path]:
    return [config.current, *(config.production_folder / name for name in releases.LINKS)]


def find_list_inputs(config: Config) -> dict[str, str]:
    """Return what changes the list alone: the newest entry in the contact log, the experiment, the day.

    The keys and values are those of the inputs of the assessment.
    """
    inputs = {"contacts": ""}
    if config.contact_log.exists() or config.experiment:
        from attrition.contacts import assignments, log

        inputs["contacts"] = log.newest(config.contact_log)
        inputs |= assignments.find_inputs(config)
    is_dated = inputs["contacts"] or config.columns.due or config.experiment
    return inputs | {"day": config.day(files.utc_now()) if is_dated else ""}


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()


def _hash(path: Path) -> str:
    """Hash a regular file; never open a link or a pipe."""
    regular = path.is_file() and not path.is_symlink()
    return files.sha256_file(path) if regular else "not a file"


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [path for path in paths if not path.is_dir() or path.is_symlink()]


def _folders(folder: Path) -> list[Path]:
    return [
        folder,
        *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()),
    ]


def _sqlite_files(url: str) -> list[Path]:
    """Return a database with its log and journal; SQLite keeps them beside the file, not the link."""
    if not url.startswith("sqlite:///"):
        return []
    return _with_journals(Path(url.removeprefix("sqlite:///").split("?")[0]).resolve())


def _with_journals(database: Path) -> list[Path]:
    return [Path(f"{database}{ending}") for ending in ("", "-wal", "-journal")]


def _pointer(config: Config) -> str:
    return Path(config.current.readlink()).name if config.current.is_symlink() else ""


def nothing_new(config: Config) -> bool:
    """Return whether the last run completed, and all inputs and outputs are unchanged since."""
    return not has_server(config) and find_reason(config) is None


def find_reason(config: Config) -> str | None:
    """Return why a run may have something to do, as far as files show; None if it has nothing to do."""
    try:
        last = files.read_record(config.last_run)
        if last is None or not last.get("complete"):
            return "the last run is not recorded as complete"
        if _have_matured(last):
            return "outcomes have matured"
        if last.get("list_inputs") != find_list_inputs(config):
            return "a day has begun, or the contact log or the experiment has changed"
        if inbox.find_settled(config):
            return f"there are sheets in {config.inbox}"
    except AttritionError as error:
        logger.warning("%s; every step is checked again", error)
        return "a record cannot be read"
    before, now = last.get("state") or {}, find_sources(config) | find_products(config)
    changed = sorted({path for path, _ in before.items() ^ now.items()})
    more = [f"{len(changed) - CHANGED_NAMED:,} more"] if len(changed) > CHANGED_NAMED else []
    names = wording.listing([*changed[:CHANGED_NAMED], *more], "and")
    return f"{names} changed" if changed else None


def _have_matured(last: files.Record) -> bool:
    """Return whether outcomes that the last run did not use have matured since."""
    next_at = last.get("next_mature_at")
    return next_at is not None and next_at <= files.utc_now()


# ---- the watch list, by which the next run sees at once that nothing is new


def keep_watch(config: Config) -> None:
    """Write the watch list, or remove it if only a run can see whether anything is new; save the hashes.

    The signatures are taken before the contents are compared with the record of the last run: a file
    that changes later has another signature.
    """
    if idle.is_current(str(config.file)):
        return
    since = time.time()
    watched = _watch(config)
    last = files.read_record(config.last_run) or {}
    is_known = watched is not None and not find_unused(config) and nothing_new(config)
    is_known = is_known and not inbox.find_sheets(config)  # one that is being written settles
    hashed_at = files.save_hashes(config.hashes)
    with suppress(OSError):  # the next run looks at the contents
        if watched is None or not is_known:
            config.watch_list.unlink(missing_ok=True)
            return
        data = idle.encode(
            config=str(config.file),
            lock=str(config.lock),
            renewed=(str(config.last_run), str(config.metrics)),
            watched=watched | {str(config.notices): idle.MISSING},  # if it exists, a run empties it
            valid=(since, min([hashed_at + files.DAY_S, *_changes_at(config, last)])),
            heartbeat=(config.alerts and config.alerts.heartbeat) or "",
        )
        files.write_bytes(config.watch_list, data)


def _watch(config: Config) -> dict[str, str] | None:
    """Return the signature of everything that a run looks at; None if a later change may not show."""
    if config.experiment and config.experiment.secret is None:
        return None  # its key may be in the environment of the next run
    trees = [config.input_folder, config.test_folder, config.output_folder]
    trees += [config.model_folder, config.releases]
    folders = [config.reports_folder, config.inbox]
    folders += [folder for tree in trees for folder in _folders(tree)]
    paths = [*_sources(config), *_products(config), *_links(config)]
    paths += [config.file, *_with_journals(config.contact_log)]
    paths += [Path(each.url.removeprefix("sqlite:///").split("?")[0]) for each in config.databases]
    names = {str(path) for path in paths if path != config.metrics}
    names |= {f"{folder}/." for folder in folders}  # the folder itself, should its name be a link
    return idle.sign_settled(sorted(names))


def _changes_at(config: Config, last: files.Record) -> list[float]:
    """Return when a run has something to do without any change, such as mature outcomes or a mail."""
    times = []
    if next_at := last["next_mature_at"]:
        times.append(datetime.fromisoformat(next_at).timestamp())
    if day := last["list_inputs"]["day"]:
        times.append(config.end_of_day(day))
    if config.alerts or config.digest:
        from attrition.messages import outbox

        next_at = outbox.next_at(config, files.utc_now())
        times += [datetime.fromisoformat(next_at).timestamp()] if next_at else []
    return times


# ---- the run


@dataclass(frozen=True)
class Outcome:
    """The result of a run: a summary per step, its unavailable and unused sources, waiting files.

    inputs: see `process`; unwritten: why the risks could not be written back, if they could not; lost:
    what a repair could not bring back
    """

    inputs: dict[str, str]
    summaries: tuple[str, ...]
    worked: bool
    unavailable: tuple[str, ...]
    unused: tuple[str, ...]
    waiting: bool
    unwritten: tuple[str, ...]
    lost: tuple[str, ...] = ()
    is_recovery: bool = False

    @property
    def is_partial(self) -> bool:
        """Return whether a source could not be read, or a table could not be written."""
        return bool(self.unavailable or self.unwritten)

    @property
    def is_good(self) -> bool:
        return not self.is_partial and not self.lost

    @property
    def failed(self) -> dict[str, list[str]]:
        """Return what could not be read or written, as the record of the run names it."""
        return {"unavailable": list(self.unavailable), "unwritten": list(self.unwritten)}


def process(
    config: Config,
    inputs: dict[str, str],
    *,
    adopt: bool = False,
    show: Callable[[str], object] = lambda text: None,
    profile: Profile | None = None,
) -> Outcome:
    """Run the steps that are not up to date; if a step fails, the results before it stay in force.

    inputs: as `find_sources` returned them before any is read, so that a failure of these inputs is not
    repeated; adopt: accept that the rows ingested so far were moved aside, and ingest everything again;
    show: print the summary of a step; profile: receives the cost of each step

    Raises: AttritionError.
    """
    import ingestion
    import monitoring
    import reporting

    done: list[tuple[str, cli.Result]] = []

    def run_step(name: str, step: Callable[[Config], R]) -> R:
        result = cli.run_step(config, name, step, profile)
        done.append((name, result))
        if not result.up_to_date or name == "ingestion":
            show(f"{name}: {result.summary()}")
        return result

    ingested = run_step("ingestion", lambda c: ingestion.ingest_new_data(c, adopt=adopt))
    try:
        if ingested.rows == 0:
            raise NoRows(describe_no_rows(config, ingested))
        verdict = run_step("monitoring", monitoring.monitor_model)
        if verdict.retrain:
            update_model(config, verdict, run_step)
    except OF_INPUTS as error:
        if not ingested.unavailable and not ingested.deferred:
            keep_failure(config, inputs, str(error))
        raise
    describe_clients(config, run_step)
    run_step("reporting", lambda c: reporting.write_report(c, ingested.unavailable))
    unwritten = write_back_risks(config, run_step)
    worked = any(not result.up_to_date for _, result in done)
    if worked:
        call_running_api(config, show)
    summaries = tuple(f"{name}: {result.summary()}" for name, result in done)
    unused = tuple(f"{one.source} ({one.code})" for one in ingested.unused)
    waiting = ingested.deferred > 0
    return Outcome(inputs, summaries, worked, ingested.unavailable, unused, waiting, unwritten)


def update_model(config: Config, verdict: Any, run_step: RunStep) -> None:
    """Train, score and deploy a model, unless the last decision still stands.

    Raises: TooLittleData or Leakage if there is no model in production yet.
    """
    import deployment
    import scoring
    import training

    if deployment.find_current_decision(config) is not None:
        return
    try:
        run_step("training", training.train_model)
        run_step("scoring", scoring.score_model)
        run_step("deployment", deployment.deploy_model)
    except (TooLittleData, Leakage) as error:
        if "no_model" in verdict.triggers:
            raise
        rule = deployment.LEAKAGE if isinstance(error, Leakage) else deployment.TOO_LITTLE_DATA
        why = str(error)
        run_step("deployment", lambda c: deployment.refuse(c, rule, why))


def describe_clients(config: Config, run_step: RunStep) -> None:
    """Assess the clients and diagnose the data; ask meanwhile for the latest versions of packages."""
    import assessment
    import diagnostics

    with ThreadPoolExecutor(1) as aside:
        asking = aside.submit(ask_latest, diagnostics.needs_asking(config))
        run_step("assessment", assessment.assess_clients)
        run_step("diagnostics", lambda c: diagnostics.run_diagnostics(c, asking.result))


def write_back_risks(config: Config, run_step: RunStep) -> tuple[str, ...]:
    """Write the risks into the table that config.json names, if any; return why that failed, if so."""
    if not config.write_back.url:
        return ()
    from attrition.databases import write_back

    result = run_step("write_back", write_back.write_back)
    return (result.problem,) if result.problem else ()


def describe_no_rows(config: Config, ingested: Any) -> str:
    """Describe why there is no usable row: the sources that are not used, unavailable or unfinished."""
    unused = [one._asdict() for one in ingested.unused]
    causes = [*wording.unused_lines(unused, UNUSED_NAMED), *ingested.unavailable]
    if ingested.deferred:
        files_wait = wording.plural(ingested.deferred, "file")
        causes.append(f"{files_wait} may still be being written; a later run reads them")
    if not causes:
        causes = [
            f"put files there whose header names {', '.join(config.columns.delivered)} (refused rows: "
            f"{config.rejected})"
        ]
    return f"{config.input_folder}: no usable row so far; {'; '.join(causes)}"


def has_server(config: Config) -> bool:
    """Return whether a table is on a server, so that no file tells whether it has changed."""
    return any(not database.url.startswith("sqlite:///") for database in config.databases)


def with_state(config: Config, inputs: dict[str, str]) -> dict[str, str]:
    """Add to the inputs what else decides whether a run fails for them alone."""
    ingested = files.sha256_file(config.ingestion_record)
    return inputs | {"ingested": ingested, "current": _pointer(config)}


def keep_failure(config: Config, inputs: dict[str, str], reason: str) -> None:
    """Remember a failure that the same inputs would repeat."""
    if not has_server(config):
        notices.keep_failure(config.notices, with_state(config, inputs), reason)


def check_failure(config: Config, inputs: dict[str, str]) -> None:
    """Fail at once if a run with the same inputs failed today and would only fail again.

    Raises: AttritionError.
    """
    reason = notices.find_failure(config.notices, with_state(config, inputs))
    record = files.read_record(config.monitoring_record) or {}
    if reason is not None and not has_server(config) and not _have_matured(record):
        raise AttritionError(reason)


def ask_latest(names: list[str]) -> dict[str, str | None]:
    from attrition.operations import dependencies

    return dependencies.ask_all(names) if names else {}


def call_running_api(config: Config, show: Callable[[str], object] = lambda text: None) -> None:
    """If the app of this project is running, store its answers; no failure here fails the run."""
    import apicalls

    try:
        app = apicalls.find_app(config)
        if app and app.is_ours:
            calls = cli.run_step(config, "apicalls", apicalls.call_api)
            show(f"apicalls: {calls.summary()}")
        elif app:
            logger.info("%s; nothing was asked of it", app.sentence)
    except apicalls.NoToken as error:
        logger.info("the API was not called: %s", error)
    except AttritionError as error:
        logger.warning("the API could not be called: %s", error)


def plan(config: Config) -> list[str]:
    """Describe what a run would do, without doing it; there is no line if nothing is new."""
    import ingestion
    from attrition.databases import reader as databases
    from attrition.rows import ledger
    from attrition.sources import files as source_files

    known = ledger.read(config, tidy=False)
    names = [name for name in ingestion.list_folder(config) if not source_files.not_an_input(name)]
    hashes = {name: source_files.hash_file(config.input_folder / name) for name in names}
    new = [
        name
        for name, digest in hashes.items()
        if not known.is_known(source_files.shown(name), digest, config.files.dialect(name))
    ]
    lines = [f"would read {source_files.shown(name)}" for name in new]
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
        lines.append("would judge the model on the new rows, and train if it is no longer accurate")
    if lines:
        lines.append("would assess every current client and write the report")
    elif reason := find_reason(config):
        lines.append(f"would check every step again: {reason}")
    return lines


def run(config: Config, options: argparse.Namespace) -> int:
    """Work under the lock; if another run has it, report that and leave the work to it."""
    if options.test_alert:
        return print_test(config)
    asked = is_requested(options)
    is_mailed = options.quiet and not asked and not sys.stderr.isatty()
    once = notices.OncePerDay(config.notices) if is_mailed else None
    log.set_up(quiet=options.quiet, once=once)
    if options.repair:
        repair.free_lock(config)
    try:
        with files.run_lock(config.lock) as lock:
            if config.forgetting.exists() and not options.dry_run:
                finish_forgetting(config)
            if options.dry_run:
                return print_plan(config)
            dead_run = runs.read_mark(config.lock)
            if dead_run is None and not asked and nothing_new(config):
                renew_times(config)
                report_end(config, is_good=True, has_list=True)
                keep_history(config)
                keep_watch(config)
                code = print_nothing_new(options, find_unused(config))
            else:
                code = work(config, options, lock, dead_run, once)
            if once:
                once.forget_others()
            return code
    except Busy as busy:
        return record_skipped(config, options, busy)


def finish_forgetting(config: Config) -> None:
    """Complete the work of a killed --forget, so that no file has half of it."""
    from attrition.upkeep import forgetting

    if forgetting.finish(config):
        logger.warning("a --forget was interrupted; it is completed now")


def forget(config: Config, options: argparse.Namespace) -> int:
    """Put a token in place of a client's name in all files, if a person confirms that."""
    import reporting
    from attrition.upkeep import forgetting

    with cli.step_lock(config, "forget"):
        if config.forgetting.exists() and not options.dry_run:
            finish_forgetting(config)
        result = forgetting.plan(config, options.forget)
        print("\n".join(forgetting.describe(config, result)))
        if options.dry_run:
            print("nothing was changed")
            return 0
        if not options.yes and not is_confirmed():
            return 2
        forgetting.commit(config, result)
        if config.assessment_record.exists():
            unavailable = runs.last_unavailable(config)
            cli.run_step(config, "reporting", lambda c: reporting.write_report(c, unavailable))
    print(f"done: {result.texts.token} now stands for the client")
    return 0


def is_confirmed() -> bool:
    """Ask a person at a terminal for confirmation; without a terminal, nobody can confirm."""
    if not sys.stdin.isatty():
        logger.error("--forget cannot be undone; confirm with --yes. Nothing was changed")
        return False
    answer = input("This cannot be undone. Replace the name? Enter yes to go on: ")
    if answer.strip().lower() != "yes":
        print("nothing was changed")
        return False
    return True


def renew_times(config: Config) -> None:
    """Renew the time of the last good run, which is that of two files, without changing a content."""
    os.utime(config.last_run)
    with suppress(FileNotFoundError):  # it could not be written
        os.utime(config.metrics)


def keep_history(config: Config) -> None:
    """Accept in the record of the last run that a message has changed the history since."""
    record = files.read_record(config.last_run)
    now = {_shown(config.history): _hash(config.history)}
    if record and not now.items() <= record["state"].items():
        record["state"] |= now
        files.write_bytes(config.last_run, files.encode(files.sealed(record)))


def report_end(config: Config, **end: Any) -> None:
    """Send alerts, weekly mails and the heartbeat; no failure here fails the run."""
    if config.alerts is None and config.digest is None:
        return
    try:
        from attrition.messages import outbox

        outbox.report_end(config, **end)
    except Exception as error:
        logger.warning("the messages of this run cannot be sent: %s", cli.error_message(error))


def find_unused(config: Config) -> list[Any]:
    """Return the unused sources that the record of ingestion names."""
    return list((files.read_record(config.ingestion_record) or {}).get("unused", []))


def print_plan(config: Config) -> int:
    """Print what a run would do, and do nothing."""
    lines = [] if nothing_new(config) else plan(config)
    if config.write_back.url:
        from attrition.databases import write_back

        try:
            lines.append(write_back.count_changes(config))
        except AttritionError as error:
            lines.append(f"cannot count the risks to write: {error}")
    if runs.read_mark(config.lock):
        lines = ["would record that the last run died, and finish it", *lines]
    print("\n".join(lines or ["nothing new"]))
    return 0


def print_test(config: Config) -> int:
    """Send a test message by every channel; exit code 1 if one fails, or if there is none."""
    from attrition.messages import outbox

    results = outbox.send_test(config)
    for channel, problem in results.items():
        print(f"{channel}: {problem or 'sent'}")
    if not results:
        print("no channel to test; name one in alerts or mail of config.json")
    return 0 if results and not any(results.values()) else 1


def record_skipped(config: Config, options: argparse.Namespace, busy: Busy) -> int:
    """Leave the work to the run that has the lock and count that; if it hangs, report it and exit 1."""
    mark = runs.read_mark(config.lock) or {}
    by = f"process {mark['pid']}, since {mark['started_at']}" if "pid" in mark else "a process"
    reason = f"{busy}: {by}"
    if options.dry_run:
        print(reason)
        return 0
    if config.history.is_file():
        keep_run(config, Run(), "skipped", reason)
    if mark and runs.is_overdue(mark):
        minutes = mark["limit_s"] / 60
        logger.error("%s; its limit is %g minutes: check it, and stop it if it hangs", by, minutes)
        sentence = f"a run has worked for longer than its limit of {minutes:g} minutes"
        report_end(config, is_good=False, extra=[runs.Complaint("hanging", sentence)])
        return 1
    if not options.quiet:
        print(reason)
    return 0


class Run:
    """A run; it begins when the object is created."""

    def __init__(self) -> None:
        self.started_at, self.since = files.utc_now(), time.monotonic()
        self.id = f"{self.started_at} {time.time_ns()}"

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.since


def work(
    config: Config,
    options: argparse.Namespace,
    lock: int,
    dead_run: runs.Mark | None,
    once: notices.OncePerDay | None,
) -> int:
    """Do the work within the time limit, and record the run."""
    permissions.close_folders(config)
    files.make_folder(config.reports_folder)
    log.set_up(quiet=options.quiet, file=config.diary, once=once)
    this_run, limit_s = Run(), 60 * config.run_limit_minutes
    begin(config, lock, this_run, limit_s)
    profile: Profile | None = [] if options.profile else None
    try:
        with runs.time_limit(limit_s):
            outcome = recover_and_process(config, options, dead_run, profile)
    except BaseException as error:
        with runs.undisturbed():
            fail(config, lock, this_run, error)
        print_profile(profile, this_run.elapsed_s)
        raise
    elapsed_s = this_run.elapsed_s
    with runs.undisturbed():
        if outcome.worked or outcome.is_partial or outcome.is_recovery or options.repair:
            problems = [*outcome.lost, *outcome.unavailable, *outcome.unwritten]
            reason = "\n".join([*problems, outcome.summaries[0]][:3])
            keep_run(config, this_run, "unavailable" if outcome.is_partial else "done", reason)
        report_end(config, is_good=outcome.is_good, failed=outcome.failed, has_list=True)
        keep_state(config, outcome)
        keep_watch(config)
        notices.forget_failure(config.notices)
        with files.named(config.lock):
            runs.clear_mark(lock)
    code = report(config, options, outcome, elapsed_s)
    print_profile(profile, elapsed_s)
    return code


def begin(config: Config, lock: int, this_run: Run, limit_s: float) -> None:
    """Leave the mark of a run in the lock file, and ping the heartbeat."""
    with files.named(config.lock):
        runs.leave_mark(lock, this_run.id, this_run.started_at, limit_s)
    if config.alerts and config.alerts.heartbeat:
        ping_heartbeat(config.alerts.heartbeat, "/start", 0.0)


def recover_and_process(
    config: Config,
    options: argparse.Namespace,
    dead_run: runs.Mark | None,
    profile: Profile | None,
) -> Outcome:
    """Repair and recover what has to be, run the steps, and check that nothing is damaged."""
    show = (lambda text: None) if options.quiet else show_summary
    is_ingested_anew = options.repair and repair_damage(config, options)
    if dead_run is not None:
        cli.keep_death(config, dead_run)
        report_end(config, is_good=None)
    # Before they are read: if a file arrives meanwhile, the next run sees it.
    inputs = find_sources(config)
    check_state(config, accept_log_loss=options.accept_log_loss)
    for text in inbox.read_inbox(config):
        show(text)
    is_recovery = dead_run is not None or did_fail(config)
    if dead_run is None and not is_requested(options):
        check_failure(config, inputs)
    outcome = process(config, inputs, adopt=is_ingested_anew, show=show, profile=profile)
    lost = repair.find_lost(config) if is_ingested_anew else []
    if is_recovery:
        repair.accept_decision(config)
    check_made(config)
    return replace(outcome, lost=tuple(lost), is_recovery=is_recovery)


def is_requested(options: argparse.Namespace) -> bool:
    """Did a person ask for something that a run does even if nothing is new?"""
    return bool(options.repair or options.accept_leakage or options.accept_log_loss)


def print_profile(profile: Profile | None, elapsed_s: float) -> None:
    """Print what each step has cost, if that was requested."""
    if profile is not None:
        print(costs.format_table(profile, costs.measure_run(profile, elapsed_s)))


def show_summary(text: str) -> None:
    """Print the summary of a step at once; if the reader has closed the pipe, the run continues."""
    with suppress(BrokenPipeError):
        print(text, flush=True)


def did_fail(config: Config) -> bool:
    """Did the last run with work to do fail or die?"""
    last = history.read_worked_runs(config.history, 1)
    return bool(last) and last[-1]["outcome"] in ("failed", "died")


def repair_damage(config: Config, options: argparse.Namespace) -> bool:
    """Move damaged files aside and report them; return whether everything must be ingested again."""
    files.forget_hashes()
    repairs = repair.repair_state(config)
    for line in repairs.lines:
        logger.warning("%s", line)
    if not options.quiet and not repairs.lines:
        print("nothing is damaged")
    return repairs.needs_ingestion


def check_state(config: Config, *, accept_log_loss: bool = False) -> None:
    """Check all outputs of earlier runs: warn if a file can be made again, and stop if it cannot.

    Raises: Damaged.
    """
    damages = integrity.find(config, accept_log_loss=accept_log_loss)
    for each in damages:
        if each.follows:
            logger.warning("%s: %s; it is made again", each.path, each.problem)
        if each.path == config.notices and each.follows:
            notices.write(config.notices, notices.read(config.notices))
    if grave := [each for each in damages if not each.follows]:
        raise damage_error(grave)
    for link in releases.restore_links(config.production_folder):
        logger.warning("%s: is not the link that deployment.py wrote; made again", link)


def check_made(config: Config) -> None:
    """Check everything once more, for damage that the run could not repair.

    Raises: Damaged.
    """
    damages = [each for each in integrity.find_all(config) if each.path != config.last_run]
    if damages:  # the record of the last run is written last
        raise damage_error(damages)


def damage_error(damages: list[integrity.Damage]) -> Damaged:
    problems = "; ".join(f"{each.path}: {each.problem}" for each in damages)
    if any(each.by_repair for each in damages):
        problems += ". python fullprocess.py --repair repairs it, and deletes nothing"
    return Damaged(problems)


def fail(config: Config, lock: int, this_run: Run, error: BaseException) -> None:
    """Record why a run failed; if that fails too, log it and let the first error stand."""
    try:
        keep_run(config, this_run, "failed", cli.error_message(error))
        with files.named(config.lock):
            runs.clear_mark(lock)
    except (AttritionError, OSError) as other:
        if str(other) != str(error):
            logger.error("%s", cli.error_message(other))
    report_end(config, is_good=False)
    try:
        files.save_hashes(config.hashes)
        write_metrics(config, runs.last_unavailable(config), runs.last_good_at(config))
    except (AttritionError, OSError, MemoryError) as other:
        logger.warning("the metrics do not show this: %s", cli.error_message(other))


def write_metrics(config: Config, unavailable: Sequence[str], good_at: str | None) -> None:
    """Write the metrics for the node exporter, from what the records and the history contain now."""
    from attrition.operations import metrics

    metrics.write_textfile(config, unavailable, good_at)


def keep_state(config: Config, outcome: Outcome) -> None:
    """Record the run's inputs and outputs, so that the next run can see whether anything is new.

    If a source could not be read, `good_at` is the end of the last run that read all of them.
    """
    all_read = not outcome.unavailable
    good_at = files.utc_now() if all_read else runs.last_good_at(config)
    write_metrics(config, outcome.unavailable, good_at)
    assessed = (files.read_record(config.assessment_record) or {})["inputs"]
    record = {
        "complete": not outcome.is_partial and not outcome.waiting,
        "ended_at": files.utc_now(),
        "good": all_read,
        "good_at": good_at,
        **outcome.failed,
        "state": outcome.inputs | find_products(config),
        "list_inputs": {name: assessed[name] for name in LIST_INPUTS if name in assessed},
        "next_mature_at": (files.read_record(config.monitoring_record) or {}).get("next_mature_at"),
    }
    files.write_bytes(config.last_run, files.encode(files.sealed(record)))


def report(config: Config, options: argparse.Namespace, outcome: Outcome, elapsed_s: float) -> int:
    """Print the result; exit code 1 if a source or a table was unavailable, or rows were lost."""
    for line in outcome.lost:
        logger.error("%s", line)
    if not outcome.worked and not outcome.is_partial and not options.repair:
        return print_nothing_new(options)
    if not options.quiet:
        if outcome.unused:
            names = ", ".join(outcome.unused[:UNUSED_NAMED])
            more = ", ..." if len(outcome.unused) > UNUSED_NAMED else ""
            print(f"not used: {names}{more}; the warnings above describe what to do")
        print(f"done in {elapsed_s:.0f} s. Contact list: {config.contact_list}")
        print(f"report: {config.report}; dashboard: {command_to_serve(config)}")
    return 0 if outcome.is_good else 1


def command_to_serve(config: Config) -> str:
    """Return the command that serves this project."""
    is_default = config.file == Path(__file__).resolve().parent / "config.json"
    return "make serve" if is_default else f"python app.py --config {shlex.quote(str(config.file))}"


def print_nothing_new(options: argparse.Namespace, unused: Sequence[Any] = ()) -> int:
    """Print that nothing is new, and which sources are still not used."""
    for line in wording.unused_lines(unused, UNUSED_SHOWN):
        logger.warning("%s", line)
    if not options.quiet:
        print("nothing new")
    return 0


def keep_run(config: Config, this_run: Run, outcome: str, reason: str) -> None:
    """Add a run to the history."""
    if cli.is_history_gone(config):
        return
    row: dict[str, Any] = {"run": this_run.id, "started_at": this_run.started_at}
    row |= {"ended_at": files.utc_now(), "elapsed_s": round(this_run.elapsed_s, 3)}
    history.save(config.history, "runs", [row | {"outcome": outcome, "reason": reason}])


def main(argv: list[str] | None = None) -> int:
    """Run the whole process."""
    parser = cli.parser(__doc__)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--dry-run", action="store_true", help="print what a run would do")
    either.add_argument(
        "--repair", action="store_true", help="rename damaged files and recover; nothing is deleted"
    )
    either.add_argument(
        "--test-alert", action="store_true", help="send a test message through every channel"
    )
    cli.add_accept_leakage(parser)
    parser.add_argument(
        "--accept-log-loss",
        action="store_true",
        help="list clients although entries are missing from the contact log",
    )
    parser.add_argument(
        "--profile", action="store_true", help="print time, CPU time and peak memory of each step"
    )
    parser.add_argument(
        "--forget", metavar="NAME", help="replace the name of a client with a token in all files"
    )
    parser.add_argument("--yes", action="store_true", help="forget without confirmation")
    options = parser.parse_args(argv)
    if options.forget is None and options.yes:
        parser.error("--yes: expected --forget NAME")
    others = (options.repair, options.test_alert, options.profile, is_requested(options))
    if options.forget is not None and any(others):
        parser.error("--forget: expected no other option than --dry-run or --yes")
    command = run if options.forget is None else forget
    return cli.run_command(options, lambda config: command(cli.accepting(config, options), options))


if __name__ == "__main__":
    sys.exit(main())
