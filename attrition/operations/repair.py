"""Mend what is damaged: set it aside under another name, and let what can be made be made again.

Nothing is ever deleted. What does not follow from other things is begun anew: rows are ingested again
from all sources, the history goes on with the rows that can still be read, and production points at
the newest release that verifies.
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
from attrition.operations import integrity, releases
from attrition.storage import files, history

BEGUN = "is ingested again from all sources"


@dataclass
class RepairLog:
    """What was done, a line each, and whether everything is to be ingested again."""

    told: list[str] = field(default_factory=list)
    is_ingested_anew: bool = False


def set_aside(path: Path) -> Path:
    """Rename what is damaged to <name>.damaged-<utc>; return where it is now."""
    stamp = re.sub(r"[-:]", "", files.utc_now())
    target, n = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while os.path.lexists(target):
        target, n = path.with_name(f"{path.name}.damaged-{stamp}-{n}"), n + 1
    os.rename(path, target)
    files.fsync_folder(path.parent)
    return target


def free_lock(config: Config) -> None:
    """Set aside what stands where the lock file belongs: without the lock nothing can be mended."""
    if config.lock.is_symlink() or config.lock.is_dir():
        set_aside(config.lock)


def mend(config: Config) -> RepairLog:
    """Mend all but what the run that follows makes again by itself; call it under the run lock.

    Raises: AttritionError, OSError when something cannot even be set aside.
    """
    mended = RepairLog()
    for found in integrity.find_in_the_way(config):
        _aside(mended, found.path, found.problem)
    for folder in integrity.folders(config):
        files.finish_commit(folder)
    _mend_history(config, mended)
    _mend_ingested(config, mended)
    _mend_releases(config, mended)
    _mend_candidate(config, mended)
    for found in list(integrity.find_in_record(config.dependencies)):
        _aside(mended, found.path, found.problem)
    return mended


def _aside(mended: RepairLog, path: Path, problem: str) -> Path:
    target = set_aside(path)
    mended.told.append(f"{path}: {problem}; set aside as {target.name}")
    return target


def _mend_history(config: Config, mended: RepairLog) -> None:
    for found in list(integrity.find_in_history(config)):
        if not config.history.exists():
            history.begin(config.history)
            mended.told.append(f"{found.path}: {found.problem}; begun anew")
            continue
        aside = _aside(mended, found.path, found.problem)
        for ending in ("-journal", "-wal", "-shm"):
            companion = config.history.with_name(config.history.name + ending)
            if companion.exists():
                os.rename(companion, aside.with_name(aside.name + ending))
        saved = history.salvage(aside, config.history)
        mended.told.append(f"{found.path}: begun anew with the {saved} rows that can still be read")


def _mend_ingested(config: Config, mended: RepairLog) -> None:
    there = integrity.ingested_files(config)
    unit = integrity.ingested(config)
    found = list(integrity.find_in_unit(unit, is_expected=bool(there)))
    if all(each.follows for each in found):
        return
    for each in found:
        mended.told.append(f"{each.path}: {each.problem}; everything {BEGUN}")
    for path in (*there, config.ingestion_record):
        if os.path.lexists(path):
            _aside(mended, path, "belongs to what is damaged")
    mended.is_ingested_anew = True


def _mend_releases(config: Config, mended: RepairLog) -> None:
    """Set broken releases aside, and point production at the newest that verifies and loads."""
    broken = [
        each
        for release_id in releases.list_ids(config.production_folder)
        for each in integrity.find_in_release(config, release_id, is_current=False)
    ]
    for each in broken:
        _aside(mended, each.path, each.problem)
    if not os.path.lexists(config.current) and not integrity.was_deployed(config):
        return
    if (why := _unusable(config)) is None:
        return
    if os.path.lexists(config.current):
        _aside(mended, config.current, why)
    for release_id in reversed(releases.list_ids(config.production_folder)):
        try:
            releases.load_model(releases.read(config.production_folder, release_id))
        except AttritionError as error:
            mended.told.append(f"{release_id}: cannot be used ({error})")
            continue
        releases.activate(config.production_folder, release_id)
        _note(config, "rolled back", release_id, why)
        mended.told.append(f"{config.current}: points at {release_id}, the newest that verifies")
        return
    _note(config, integrity.WITHDRAWN, None, why)
    if os.path.lexists(config.monitoring_record):  # it says that the model needs no training
        _aside(mended, config.monitoring_record, "is of a model that is gone")
    mended.told.append(f"{config.current}: no release verifies; a new model is trained")


def _note(config: Config, action: str, release_id: str | None, why: str) -> None:
    """Keep in the history what a repair did to what is deployed."""
    now = files.utc_now()
    row: dict[str, str | None] = {"at": now, "action": action, "release": release_id}
    row |= {"made": f"{now} {time.time_ns()} repaired", "reason": f"by --repair: {why}"}
    history.save(config.history, "deployments", [row])


def _unusable(config: Config) -> str | None:
    """Say why what is in production cannot be used, or None."""
    try:
        releases.load_model(releases.read_current(config.production_folder))
    except NoModel:
        return "points at no release"
    except AttritionError as error:
        return str(error)
    return None


def _mend_candidate(config: Config, mended: RepairLog) -> None:
    """Put the candidate of the release in production in the place of one that is damaged.

    Without a release it is only set aside: then the run trains.
    """
    units = integrity.candidate_units(config)
    is_deployed = os.path.lexists(config.current)
    found = [
        each for unit in units for each in integrity.find_in_unit(unit, is_expected=is_deployed)
    ]
    ours = {unit.record for unit in units}
    found += [each for each in integrity.find_older(config) if each.path in ours]
    if not found:
        return
    for each in found:
        if os.path.lexists(each.path):
            _aside(mended, each.path, each.problem)
        else:
            mended.told.append(f"{each.path}: {each.problem}")
    if is_deployed:
        _restore_candidate(config)
        mended.told.append(
            f"{config.model_folder}: is again as it was for the release in production"
        )


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
    _note(config, "repaired", release.id, "the records of the candidate were damaged")


def accept_decision(config: Config) -> None:
    """Let the decision that stands be the last one, after a run that ended before it wrote its own.

    The history learns of a decision first. Where the question came to be answered otherwise meanwhile,
    say by new rows, the older decision is the one in force.
    """
    decision = files.read_record(config.decision_record)
    rows = history.read_deployments(config.history)
    decided = [row for row in rows if row["action"] in integrity.DECIDED]
    if decision is None or not decided or decided[-1]["made"] == integrity.made_by(decision):
        return
    known = [row for row in decided if row["made"] == integrity.made_by(decision)]
    history.save(config.history, "deployments", known)


def find_lost(config: Config) -> list[str]:
    """Say which sources the record that was set aside names and that are not there any more."""
    name = config.ingested_files.name
    gone: set[str] = set()
    aside = sorted(config.output_folder.glob(f"{name}.damaged-*"))
    if aside:
        gone = _used(aside[-1]) - _used(config.ingested_files)
    if not gone:
        return []
    told = ", ".join(sorted(gone)[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    return [
        f"rows of {told} were there before and cannot be ingested again: the source is gone. Put it "
        f"back into {config.input_folder}, or take the rows from {aside[-1].name} and its neighbours"
    ]


def _used(ledger: Path) -> set[str]:
    """Return the names of the sources of which rows were taken, as far as they can be read."""
    text = ledger.read_bytes().decode("utf-8", "replace") if ledger.is_file() else ""
    lines = csv.reader(text.replace("\0", "").splitlines())
    header = next(lines, [])
    if not {"source", "verdict"} <= set(header):
        return set()
    at, verdict = header.index("source"), header.index("verdict")
    return {line[at] for line in lines if len(line) == len(header) and line[verdict] == "accepted"}
