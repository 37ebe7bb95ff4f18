"""Repair damaged files: rename them, so that the run that follows can write them again.

Nothing is ever deleted, and the contact log, which people filled in, is not touched. If a file cannot be
rebuilt from others, it is started again: rows are ingested again from all sources, the history continues
with the rows that can still be read, and production points at the newest release that verifies.
"""

import csv
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attrition.config import Config
from attrition.errors import AttritionError, NoModel
from attrition.operations import releases
from attrition.storage import files, history
from attrition.upkeep import integrity


@dataclass
class RepairLog:
    """The repairs, one line each, and whether everything is to be ingested again."""

    lines: list[str] = field(default_factory=list)
    needs_ingestion: bool = False


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to <name>.damaged-<utc>; return its new path."""
    stamp = re.sub(r"[-:]", "", files.utc_now())
    target, n = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while os.path.lexists(target):
        target, n = path.with_name(f"{path.name}.damaged-{stamp}-{n}"), n + 1
    os.rename(path, target)
    files.fsync_folder(path.parent)
    return target


def free_lock(config: Config) -> None:
    """Set aside a folder or link in place of the lock file: without the lock nothing can be repaired."""
    if config.lock.is_symlink() or config.lock.is_dir():
        set_aside(config.lock)


def repair_state(config: Config) -> RepairLog:
    """Repair everything that the next run does not write again by itself; call it under the run lock.

    Raises: AttritionError, OSError if a damaged file cannot be renamed.
    """
    log = RepairLog()
    for damage in integrity.find_in_the_way(config):
        _set_aside(log, damage.path, damage.problem)
    for folder in integrity.folders(config):
        files.finish_commit(folder)
    _repair_history(config, log)
    _repair_ingested(config, log)
    _repair_releases(config, log)
    _repair_candidate(config, log)
    for damage in list(integrity.find_in_record(config.dependencies)):
        _set_aside(log, damage.path, damage.problem)
    for damage in integrity.find_in_contact_log(config):
        log.lines.append(f"{damage.path}: {damage.problem}; it stays as it is")
    return log


def _set_aside(log: RepairLog, path: Path, problem: str) -> Path:
    target = set_aside(path)
    log.lines.append(f"{path}: {problem}; set aside as {target.name}")
    return target


def _repair_history(config: Config, log: RepairLog) -> None:
    for damage in list(integrity.find_in_history(config)):
        if not config.history.exists():
            history.begin(config.history)
            log.lines.append(f"{damage.path}: {damage.problem}; started again, empty")
            continue
        aside = _set_aside(log, damage.path, damage.problem)
        for ending in ("-journal", "-wal", "-shm"):
            companion = config.history.with_name(config.history.name + ending)
            if companion.exists():
                os.rename(companion, aside.with_name(aside.name + ending))
        count = history.salvage(aside, config.history)
        log.lines.append(f"{damage.path}: started again with the {count} rows that can be read")


def _repair_ingested(config: Config, log: RepairLog) -> None:
    paths = integrity.ingested_files(config)
    unit = integrity.ingested(config)
    damages = list(integrity.find_in_unit(unit, is_expected=bool(paths)))
    if all(damage.follows for damage in damages):
        return
    for damage in damages:
        log.lines.append(
            f"{damage.path}: {damage.problem}; everything is ingested again from all sources"
        )
    for path in (*paths, config.ingestion_record):
        if os.path.lexists(path):
            _set_aside(log, path, "belongs to a damaged file")
    log.needs_ingestion = True


def _repair_releases(config: Config, log: RepairLog) -> None:
    """Set damaged releases aside, and point production at the newest that verifies and loads."""
    damages = [
        damage
        for release_id in releases.list_ids(config.production_folder)
        for damage in integrity.find_in_release(config, release_id, is_current=False)
    ]
    for damage in damages:
        _set_aside(log, damage.path, damage.problem)
    if not os.path.lexists(config.current) and not integrity.was_deployed(config):
        return
    if (problem := _find_production_problem(config)) is None:
        return
    if os.path.lexists(config.current):
        _set_aside(log, config.current, problem)
    for release_id in reversed(releases.list_ids(config.production_folder)):
        try:
            releases.load_model(releases.read(config.production_folder, release_id))
        except AttritionError as error:
            log.lines.append(f"{release_id}: cannot be used ({error})")
            continue
        releases.activate(config.production_folder, release_id)
        _record_deployment(config, "rolled back", release_id, problem)
        log.lines.append(f"{config.current}: points at {release_id}, the newest that verifies")
        return
    _record_deployment(config, integrity.WITHDRAWN, None, problem)
    if os.path.lexists(config.monitoring_record):  # by it the model would need no retraining
        _set_aside(log, config.monitoring_record, "belongs to a model that is gone")
    log.lines.append(f"{config.current}: no release verifies; a new model is trained")


def _record_deployment(config: Config, action: str, release_id: str | None, why: str) -> None:
    """Record in the history how a repair changed production."""
    now = files.utc_now()
    row: dict[str, str | None] = {"at": now, "action": action, "release": release_id}
    row |= {"made": f"{now} {time.time_ns()} repaired", "reason": f"by --repair: {why}"}
    history.save(config.history, "deployments", [row])


def _find_production_problem(config: Config) -> str | None:
    """Return why the release in production cannot be used; None if it can."""
    try:
        releases.load_model(releases.read_current(config.production_folder))
    except NoModel:
        return "points at no release"
    except AttritionError as error:
        return str(error)
    return None


def _repair_candidate(config: Config, log: RepairLog) -> None:
    """Replace a damaged candidate by that of the release in production.

    If there is no release, the candidate is only set aside, and the run that follows trains one.
    """
    units = integrity.candidate_units(config)
    is_deployed = os.path.lexists(config.current)
    damages = [
        damage for unit in units for damage in integrity.find_in_unit(unit, is_expected=is_deployed)
    ]
    records = {unit.record for unit in units}
    damages += [damage for damage in integrity.find_older(config) if damage.path in records]
    if not damages:
        return
    for damage in damages:
        if os.path.lexists(damage.path):
            _set_aside(log, damage.path, damage.problem)
        else:
            log.lines.append(f"{damage.path}: {damage.problem}")
    if is_deployed:
        _restore_candidate(config)
        log.lines.append(f"{config.model_folder}: restored from the release in production")


def _restore_candidate(config: Config) -> None:
    release = releases.read_current(config.production_folder)
    for unit in integrity.candidate_units(config):
        record = files.read_record(release.folder / unit.record.name)
        if record is None:
            continue  # a release deployed by hand has no decision
        names: Iterable[str] = record.get("outputs", {})
        contents: dict[Path, files.Content] = {
            config.model_folder / name: (release.folder / name).read_bytes() for name in names
        }
        if unit.record == config.decision_record:
            record = {**record, "release": release.id}
        restored = files.commit(unit.record, contents, record)
        rows = history.read_steps(config.history, unit.step, history.KEEP)
        history.save(
            config.history, "steps", [row for row in rows if row["made"] == restored["seal"]]
        )
    _record_deployment(config, "repaired", release.id, "the records of the candidate were damaged")


def accept_decision(config: Config) -> None:
    """Make the decision on disk the last one in the history if a run ended before it wrote its own.

    A decision is written to the history first. If new rows changed the answer in the meantime, the older
    decision is the valid one.
    """
    decision = files.read_record(config.decision_record)
    rows = history.read_deployments(config.history)
    decided = [row for row in rows if row["action"] in integrity.DECIDED]
    if decision is None or not decided or decided[-1]["made"] == integrity.made_by(decision):
        return
    on_disk = [row for row in decided if row["made"] == integrity.made_by(decision)]
    history.save(config.history, "deployments", on_disk)


def find_lost(config: Config) -> list[str]:
    """Describe the sources that the damaged ledger names and that no longer exist; [] if none."""
    name = config.ingested_files.name
    lost: set[str] = set()
    aside = sorted(config.output_folder.glob(f"{name}.damaged-*"))
    if aside:
        lost = _accepted_sources(aside[-1]) - _accepted_sources(config.ingested_files)
    if not lost:
        return []
    names = ", ".join(sorted(lost)[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [
        f"rows of {names} were ingested before and cannot be ingested again: the source is gone. Put "
        f"it back into {config.input_folder}, or recover the rows from {aside[-1].name} and the files "
        "set aside with it"
    ]


def _accepted_sources(ledger: Path) -> set[str]:
    """Return the names of the sources with accepted rows, as far as they can be read."""
    text = ledger.read_bytes().decode("utf-8", "replace") if ledger.is_file() else ""
    lines = csv.reader(text.replace("\0", "").splitlines())
    header = next(lines, [])
    if not {"source", "verdict"} <= set(header):
        return set()
    at, verdict = header.index("source"), header.index("verdict")
    return {line[at] for line in lines if len(line) == len(header) and line[verdict] == "accepted"}
