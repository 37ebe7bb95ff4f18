"""What runs in production: immutable releases, one pointer, and links that follow it.

releases/<utc>-<hash>/ holds a model and all that is known of it, in records and, for people, in
modelcard.md; its manifest.json names the sha256 of each file. `current` is a symlink replaced by
rename, so that a reader sees one release or the other. A reader resolves it once, and keeps what it
holds while a new one does not verify.
"""

import calendar
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.config import Columns, Config
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.storage import files, permissions, tables

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MODEL, TRAINING, SCORE, DECISION = (
    "trainedmodel.skops",
    "training.json",
    "score.json",
    "decision.json",
)
REFERENCE, KNOWN_ROWS = "reference.csv", "known_rows.npz"
# Arrays of the known rows: those from before the truth moved; those that the candidates were judged
# by, and the risk that each had from models that had not learned from it.
BEFORE_CHANGE, JUDGED, JUDGED_RISK = "before_change", "judged", "judged_risk"
CARD = "modelcard.md"
MANIFEST, CURRENT = "manifest.json", "current"
LINKS = (MODEL, "latestscore.txt", "ingestedfiles.txt")
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
STAMP = "%Y%m%dT%H%M%SZ"
KEEP = 10
# Another version of a library may compute in another order, but to no other result.
MAX_DIFFERENCE = 1e-9


@dataclass(frozen=True)
class Release:
    """A verified release; `training` and `score` are the records that travel with it."""

    id: str
    folder: Path
    manifest: dict[str, Any]
    training: dict[str, Any]
    score: dict[str, Any]
    card: bytes

    @property
    def model_sha256(self) -> str:
        return str(self.manifest["outputs"][MODEL])


def read(production: Path, release_id: str) -> Release:
    """Read one release and verify every file of it.

    Raises: NoModel when there is no such release, Damaged when a file is not what was deployed, or
    could have been written by others.
    """
    folder = production / "releases" / release_id
    if not ID.fullmatch(release_id) or not folder.is_dir():
        raise NoModel(f"{production}: there is no release {release_id!r}")
    permissions.check_private(folder)
    manifest = files.read_record(folder / MANIFEST)
    if manifest is None:
        raise Damaged(f"{folder}: has no {MANIFEST}; roll back with deployment.py --rollback")
    outputs = manifest.get("outputs", {})
    contents = {name: _bytes(folder / name) for name in outputs}
    if wrong := [name for name in contents if files.sha256_bytes(contents[name]) != outputs[name]]:
        told = ", ".join(sorted(wrong))
        raise Damaged(f"{folder}: {told} not as deployed; roll back with deployment.py --rollback")
    if _digest(contents) != release_id.rpartition("-")[2]:
        raise Damaged(f"{folder}: holds another release; roll back with deployment.py --rollback")
    training = files.read_record(folder / TRAINING)
    score = files.read_record(folder / SCORE)
    if training is None or score is None or not {MODEL, CARD} <= outputs.keys():
        raise Damaged(f"{folder}: is not complete; roll back with deployment.py --rollback")
    return Release(release_id, folder, manifest, training, score, contents[CARD])


def _bytes(path: Path) -> bytes:
    """Read a file of a release; b"" where there is none, or something else in its place."""
    return path.read_bytes() if path.is_file() else b""


def current_id(production: Path) -> str:
    """Return the id that `current` points to.

    Raises: NoModel when nothing was deployed yet, Damaged when the pointer is no link of ours.
    """
    pointer = production / CURRENT
    try:
        target = os.readlink(pointer)
    except FileNotFoundError as error:
        raise NoModel("no model in production yet; run fullprocess.py") from error
    except OSError as error:
        raise Damaged(
            f"{pointer}: is not the link it was; choose a release with deployment.py --rollback"
        ) from error
    return Path(target).name


def read_current(production: Path) -> Release:
    """Read and verify the release in production.

    Raises: NoModel, Damaged.
    """
    return read(production, current_id(production))


def read_for(production: Path, columns: Columns) -> Release:
    """Read the release in production, provided that it knows the columns of today's config.

    Raises: NoModel, Damaged.
    """
    release = read_current(production)
    features = release.training["features"]
    gone = [
        *(set(features["numeric"]) - set(columns.numeric_names)),
        *(set(features["categorical"]) - set(columns.categorical)),
    ]
    if gone:
        raise NoModel(
            f"the model in production needs {', '.join(sorted(gone))}, which config.json no longer "
            "names; run fullprocess.py to train one on the columns of today"
        )
    return release


def load_model(release: Release) -> Any:
    """Load the model of a verified release; skops runs no code that is not on our list.

    Where the libraries are of other versions than those it was trained with, it has to give the risks
    that it gave then.

    Raises: Damaged.
    """
    from attrition.modelling import persistence

    model = persistence.loads((release.folder / MODEL).read_bytes())
    if release.training["versions"] != persistence.versions():
        _probe(release, model)
    return model


def read_reference(release: Release) -> "pd.DataFrame":
    """Read the rows that travel with a release, each with the cross-validated risk it had."""
    import numpy as np

    from attrition.monitoring import drift

    rows = tables.read_texts(release.folder / REFERENCE)
    for name in (*release.training["features"]["numeric"], drift.SCORE):
        rows[name] = rows[name].replace("", np.nan).astype("float64")
    return rows


def _probe(release: Release, model: Any) -> None:
    """Compare the risks of the first reference rows with those that the model gave when trained.

    Raises: Damaged.
    """
    import numpy as np

    from attrition.modelling import models, persistence

    then = release.training["versions"]
    changed = [
        f"{name} {then.get(name)} -> {version}"
        for name, version in persistence.versions().items()
        if then.get(name) != version
    ]
    rows = read_reference(release)
    expected = np.asarray(release.training["probe"], dtype="float64")
    found = models.predict(model, rows.iloc[: len(expected)])
    same = len(expected) > 0 and found.shape == expected.shape
    difference = float(np.max(np.abs(found - expected))) if same else float("nan")
    if not difference <= MAX_DIFFERENCE:
        raise Damaged(
            f"{release.folder}: gives other risks under {', '.join(changed)} (by up to "
            f"{difference:.2g}); install the versions of before, or run fullprocess.py --repair"
        )
    logger.info("release %s gives the same risks under %s", release.id, ", ".join(changed))


def rows_before_change(config: Config) -> "list[NDArray[np.uint64]]":
    """Return the ids of the labelled rows from before the truth moved, by change, oldest first.

    The changes that the champion was trained after travel with it; a champion that no longer tells
    the truth adds one: everything that was settled before it was found wrong. [] if nothing changed.
    """
    monitoring = files.read_record(config.monitoring_record)
    try:
        champion = read_current(config.production_folder)
    except NoModel:
        return []
    known = files.read_arrays(champion.folder / KNOWN_ROWS)
    changes = [known[BEFORE_CHANGE]] if len(known[BEFORE_CHANGE]) else []
    if monitoring and "degraded" in monitoring["triggers"]:
        changes.append(files.read_arrays(config.settled_rows)["labelled"])
    return changes


def list_ids(production: Path) -> list[str]:
    """Return the ids of all releases, oldest first."""
    folder = production / "releases"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if ID.fullmatch(name))


def create(production: Path, contents: Mapping[str, bytes], manifest: dict[str, Any]) -> str:
    """Write a new release, complete or not at all; return its id. It is not in production yet.

    Ids sort in the order of deployment: where the clock went back, the time in an id is that of the
    newest release and a second. The manifest holds the time that the clock said.
    """
    folder = production / "releases"
    files.make_folder(folder)
    digest = _digest(contents)
    stamp = re.sub(r"[-:]", "", manifest["deployed_at"])
    release_id = f"{stamp}-{digest}"
    newest = max(list_ids(production), default="")
    if release_id < newest and not (folder / release_id).is_dir():
        release_id = f"{_second_after(newest)}-{digest}"
    made = folder / f".{release_id}"
    if made.is_dir():
        files.remove_folder(made)
    files.commit(made / MANIFEST, {made / name: data for name, data in contents.items()}, manifest)
    if not (folder / release_id).is_dir():
        os.rename(made, folder / release_id)
    files.fsync_folder(folder)
    return release_id


def _digest(contents: Mapping[str, bytes]) -> str:
    return files.sha256_bytes(
        b"".join(name.encode() + contents[name] for name in sorted(contents))
    )[:8]


def _second_after(release_id: str) -> str:
    """Return the stamp that follows that of a release.

    >>> _second_after("20251231T235959Z-00000000")
    '20260101T000000Z'
    """
    at = calendar.timegm(time.strptime(release_id.partition("-")[0], STAMP))
    return time.strftime(STAMP, time.gmtime(at + 1))


def activate(production: Path, release_id: str) -> None:
    """Point production at a release, by one rename."""
    read(production, release_id)
    replace_link(production / CURRENT, f"releases/{release_id}")
    restore_links(production)


def restore_links(production: Path) -> list[Path]:
    """Make the links at the root that are not what they were; return them."""
    if not (production / CURRENT).is_symlink():
        return []
    made = []
    for name in LINKS:
        link, target = production / name, f"{CURRENT}/{name}"
        if not link.is_symlink() or os.readlink(link) != target:
            replace_link(link, target)
            made.append(link)
    return made


def replace_link(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.symlink(target, temporary)
    except OSError as error:
        error.filename = str(link)  # else its target is named
        raise
    try:
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AttritionError(f"{link}: stands in the way ({error.strerror}); move it") from error
    files.fsync_folder(link.parent)


def collect(production: Path, keep: int = KEEP) -> list[str]:
    """Delete all but the newest releases and the current one; return what was deleted."""
    ids = list_ids(production)
    removable = [i for i in ids[:-keep] if i != current_id(production)]
    folder = production / "releases"
    for release_id in removable:  # a release is whole or none, also while it is being deleted
        os.rename(folder / release_id, folder / f".{release_id}")
    for left_over in folder.glob(".2*"):
        files.remove_folder(left_over)
    files.fsync_folder(folder)
    return removable
