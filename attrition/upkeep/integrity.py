"""Find damage in every record, output and release, in the history and in the contact log.

A file is damaged if its hash differs from its record, if a record does not match its seal or is an older
one, if the file is missing, or if something else is in its place. Standard library only.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from attrition.config import Config
from attrition.contacts import assignments
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.operations import releases
from attrition.storage import files, history

GONE, FOLDER, LINK, CHANGED = (
    "is missing",
    "a folder stands in its place",
    "a link stands in its place",
    "is not what was written",
)
OLDER = "is not the one that was written last"
WITHDRAWN = "withdrawn"
DEPLOYED = ("promoted", "rolled back", WITHDRAWN)
DECIDED = ("promoted", "refused", "repaired")


class Damage(NamedTuple):
    """Damage to one file; `follows` is true if a run can write it again from other files.

    by_repair: whether --repair recovers from it; only a person can restore the contact log
    """

    path: Path
    problem: str
    follows: bool
    by_repair: bool = True


class Unit(NamedTuple):
    """A record with the files that it names, and the step that writes them.

    If a unit does not follow from other files, `derived` returns those of its outputs that do.
    """

    record: Path
    step: str
    follows: bool = True
    derived: Callable[[Collection[str]], list[Path]] = lambda outputs: []


def ingested(config: Config) -> Unit:
    return Unit(config.ingestion_record, "ingestion", follows=False, derived=config.list_derived)


def candidate_units(config: Config) -> list[Unit]:
    """Return the records of the candidate, which must exist once a model was deployed."""
    return [
        Unit(config.training_record, "training"),
        Unit(config.score_record, "scoring"),
        Unit(config.decision_record, "deployment"),
    ]


def run_units(config: Config) -> list[Unit]:
    """Return the records that every run writes if they are missing."""
    return [
        Unit(config.monitoring_record, "monitoring"),
        Unit(config.assessment_record, "assessment"),
        Unit(config.diagnostics_record, "diagnostics"),
        Unit(config.report_record, "reporting"),
    ]


def folders(config: Config) -> list[Path]:
    return [
        config.output_folder,
        config.model_folder,
        config.production_folder,
        config.reports_folder,
    ]


# ---- damage


def find(config: Config, *, accept_log_loss: bool = False) -> list[Damage]:
    """Check every file of earlier runs that a run reads; complete interrupted commits first.

    Call it under the run lock. accept_log_loss: as `find_in_contact_log` describes it.
    """
    in_the_way = list(find_in_the_way(config))
    if not in_the_way:
        for folder in folders(config):
            files.finish_commit(folder)
    damage = [*find_in_unit(ingested(config), is_expected=bool(ingested_files(config)))]
    damage += [*find_in_history(config), *find_in_pointer(config)]
    is_deployed = os.path.lexists(config.current)
    for unit in candidate_units(config):
        damage += find_in_unit(unit, is_expected=is_deployed)
    for unit in run_units(config):
        damage += find_in_unit(unit, is_expected=False)
    written = [config.write_back_record] if config.write_back.url else []
    for path in (config.last_run, config.notices, config.dependencies, *written):
        damage += find_in_record(path)
    for each in find_in_record(config.forgotten):
        problem = f"{each.problem}; restore a backup, see docs/operations.md, Forget a client"
        damage.append(Damage(each.path, problem, follows=False, by_repair=False))
    damage += find_in_contact_log(config, accept_log_loss=accept_log_loss)
    listed = {each.path for each in in_the_way}
    return [*in_the_way, *(each for each in damage if each.path not in listed)]


def list_all(config: Config) -> list[Path]:
    """Return every file, release and pointer that exists, sorted."""
    paths = [*our_files(config), config.current, config.contact_log]
    paths += [config.production_folder / name for name in releases.LINKS]
    paths += [config.releases / name for name in releases.list_ids(config.production_folder)]
    return sorted(path for path in paths if os.path.lexists(path))


def find_all(config: Config) -> list[Damage]:
    """Check everything: also releases that are not in production, and for older records."""
    damage = find(config)
    try:
        current = releases.current_id(config.production_folder)
    except AttritionError:
        current = None
    for release_id in releases.list_ids(config.production_folder):
        if release_id != current:
            damage += find_in_release(config, release_id, is_current=False)
    return [*damage, *find_older(config), *find_in_access(config)]


def scrub(config: Config) -> dict[Path, str]:
    """Read every file and load every release; return the problem of each, "" if there is none."""
    wrong = {each.path: each.problem for each in find_all(config)}
    for release_id in releases.list_ids(config.production_folder):
        folder = config.releases / release_id
        try:
            releases.load_model(releases.read(config.production_folder, release_id))
        except AttritionError as error:
            wrong.setdefault(folder, _problem(error, folder))
    return {path: wrong.get(path, "") for path in sorted({*list_all(config), *wrong})}


def find_in_the_way(config: Config) -> Iterator[Damage]:
    """Find folders, links and pipes in place of our files, which no run can replace."""
    for path in our_files(config):
        if path.is_symlink():
            yield Damage(path, LINK, follows=False)
        elif path.is_dir():
            yield Damage(path, FOLDER, follows=False)
        elif os.path.lexists(path) and not path.is_file():
            yield Damage(path, "is not a regular file", follows=False)
    for folder in folders(config):
        for name in (files.STAGING, files.COMMITTED):
            path = folder / name
            if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
                yield Damage(path, "is not a folder", follows=False)
    for name in releases.LINKS:
        path = config.production_folder / name
        if path.is_dir() and not path.is_symlink():
            yield Damage(path, FOLDER, follows=False)


def our_files(config: Config) -> list[Path]:
    """Return every path at which a run writes a file."""
    not_files = (config.releases, config.current, config.contact_log)
    ours = [path for path in config.declared_files() if path not in not_files]
    found = [*config.find_segments(), *config.find_figures(), *config.find_manager_sheets()]
    return [*ours, *found]


def ingested_files(config: Config) -> list[Path]:
    """Return the existing files of ingestion, without their record."""
    contents = [config.final_data, config.rows, config.ingested_files, config.rejected]
    contents += [config.withdrawn, config.table_rows, config.deliveries, config.gone]
    contents += config.find_segments()
    return [path for path in contents if os.path.lexists(path)]


def find_in_unit(unit: Unit, *, is_expected: bool) -> Iterator[Damage]:
    """Check a record and every file that it names."""
    try:
        record = files.read_record(unit.record)
    except Damaged:
        yield Damage(unit.record, CHANGED, unit.follows)
        return
    if record is None:
        if is_expected:
            yield Damage(unit.record, GONE, unit.follows)
        return
    outputs = record.get("outputs", {})
    derived = unit.derived(outputs)
    for name, digest in outputs.items():
        path = unit.record.with_name(name)
        follows = unit.follows or path in derived
        if not path.is_file():
            yield Damage(path, GONE, follows)
        elif files.sha256_file(path) != digest:
            yield Damage(path, CHANGED, follows)


def find_in_record(path: Path) -> Iterator[Damage]:
    try:
        files.read_record(path)
    except Damaged:
        yield Damage(path, CHANGED, follows=True)


def find_in_history(config: Config) -> Iterator[Damage]:
    """Check every row; if a model was deployed, the history must exist."""
    if not config.history.exists():
        if os.path.lexists(config.current):
            yield Damage(config.history, GONE, follows=False)
        return
    try:
        history.check(config.history)
    except Damaged as error:
        yield Damage(config.history, _problem(error, config.history), follows=False)


def find_in_contact_log(config: Config, *, accept_log_loss: bool = False) -> Iterator[Damage]:
    """Check every record of the contact log, and whether it has those that the last list counted.

    accept_log_loss: do not report that it has fewer, because a person accepts that
    """
    path = config.contact_log
    try:
        assignments.check(path)
        if not accept_log_loss:
            assignments.check_counted(path, counted_inputs(config))
    except Damaged as error:
        problem = str(error).removeprefix(f"{path}: ")
        yield Damage(path, problem, follows=False, by_repair=False)


def counted_inputs(config: Config) -> files.Record:
    """Return the inputs of the last assessment, {} if they are unknown."""
    try:
        record = files.read_record(config.assessment_record) or {}
    except Damaged:
        record = {}  # another check reports it
    return dict(record.get("inputs", {}))


def check_contact_log(config: Config) -> None:
    """Raises: Damaged if the contact log is damaged or has lost entries."""
    for damage in find_in_contact_log(config):
        raise Damaged(f"{damage.path}: {damage.problem}")


def find_in_pointer(config: Config) -> Iterator[Damage]:
    """Check the release in production; before the first deployment there is none."""
    try:
        release_id = releases.current_id(config.production_folder)
    except NoModel:
        if was_deployed(config):
            yield Damage(config.current, GONE, follows=False)
        return
    except Damaged as error:
        yield Damage(config.current, _problem(error, config.current), follows=False)
        return
    yield from find_in_release(config, release_id, is_current=True)


def was_deployed(config: Config) -> bool:
    """Return whether the history contains a deployment that no repair has withdrawn since."""
    try:
        rows = history.read_deployments(config.history)
    except AttritionError:
        return bool(releases.list_ids(config.production_folder))
    actions = [row["action"] for row in rows if row["action"] in DEPLOYED]
    return bool(actions) and actions[-1] != WITHDRAWN


def find_in_release(config: Config, release_id: str, *, is_current: bool) -> Iterator[Damage]:
    folder = config.releases / release_id
    try:
        releases.read(config.production_folder, release_id)
    except NoModel:
        pointer = config.current if is_current else folder
        yield Damage(pointer, f"there is no release {release_id}", follows=False)
    except AttritionError as error:
        yield Damage(folder, _problem(error, folder), follows=False)


def find_in_access(config: Config) -> Iterator[Damage]:
    """Check tokens and users; a run does not need them, and only a person can restore them."""
    for path in (config.tokens, config.users):
        for damage in find_in_record(path):
            yield damage._replace(follows=False, by_repair=False)


def find_older(config: Config) -> Iterator[Damage]:
    """Find intact records that are not the last ones written."""
    try:
        for unit in (*candidate_units(config), *run_units(config)):
            record = files.read_record(unit.record)
            seals = [row["made"] for row in history.read_steps(config.history, unit.step)]
            if record is not None and record["seal"] in seals[:-1]:
                yield Damage(unit.record, OLDER, unit.follows)
        decision = files.read_record(config.decision_record)
        rows = history.read_deployments(config.history)
    except AttritionError:
        return  # another check reports a file that cannot be read
    decided = [row for row in rows if row["action"] in DECIDED]
    if decision is not None and decided and decided[-1]["action"] != "repaired":
        key = made_by(decision)
        if key != decided[-1]["made"]:
            is_older = any(row["made"] == key for row in decided)
            other = f"does not match {config.history.name}: one of them is an older version"
            yield Damage(config.decision_record, OLDER if is_older else other, follows=True)


def made_by(decision: files.Record) -> str:
    """Return the key of a decision in the history."""
    return f"{decision['candidate']} {decision['champion']} {decision['inputs']['monitoring']}"


def _problem(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").split("; ")[0]
