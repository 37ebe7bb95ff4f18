"""What runs in production: immutable releases, one pointer, and links that follow it.

releases/<utc>-<hash>/ holds a model and all that is known of it; its manifest.json names the sha256
of each file. `current` is a symlink replaced by rename, so that a reader sees one release or the
other. A reader resolves it once, and keeps what it holds while a new one does not verify.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition import disk
from attrition.config import Columns, Config
from attrition.errors import AttritionError, Damaged, NoModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL, TRAINING, SCORE, DECISION = (
    "trainedmodel.skops",
    "training.json",
    "score.json",
    "decision.json",
)
REFERENCE, KNOWN_ROWS = "reference.csv", "known_rows.npz"
BEFORE_CHANGE = "before_change"
MANIFEST, CURRENT = "manifest.json", "current"
LINKS = (MODEL, "latestscore.txt", "ingestedfiles.txt")
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
KEEP = 10


@dataclass(frozen=True)
class Release:
    """A verified release; `training` and `score` are the records that travel with it."""

    id: str
    folder: Path
    manifest: dict[str, Any]
    training: dict[str, Any]
    score: dict[str, Any]

    @property
    def model_sha256(self) -> str:
        return str(self.manifest["outputs"][MODEL])


def read(production: Path, release_id: str) -> Release:
    """Read one release and verify every file of it.

    Raises: NoModel when there is no such release, Damaged when a file is not what was deployed.
    """
    folder = production / "releases" / release_id
    if not ID.fullmatch(release_id) or not folder.is_dir():
        raise NoModel(f"{production}: there is no release {release_id!r}")
    manifest = disk.read_record(folder / MANIFEST)
    if manifest is None:
        raise Damaged(f"{folder}: has no {MANIFEST}; roll back with deployment.py --rollback")
    if wrong := disk.damaged_outputs(folder, manifest):
        files = ", ".join(sorted(wrong))
        raise Damaged(f"{folder}: {files} not as deployed; roll back with deployment.py --rollback")
    training = disk.read_record(folder / TRAINING)
    score = disk.read_record(folder / SCORE)
    if training is None or score is None or MODEL not in manifest["outputs"]:
        raise Damaged(f"{folder}: is not complete; roll back with deployment.py --rollback")
    return Release(release_id, folder, manifest, training, score)


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
    """Load the model of a verified release; skops runs no code that is not on our list."""
    from attrition import models

    return models.loads((release.folder / MODEL).read_bytes())


def rows_before_change(config: Config) -> "list[NDArray[np.uint64]]":
    """Return the ids of the labelled rows from before the truth moved, by change, oldest first.

    The changes that the champion was trained after travel with it; a champion that no longer tells
    the truth adds one: everything that was settled before it was found wrong. [] if nothing changed.
    """
    monitoring = disk.read_record(config.monitoring_record)
    try:
        champion = read_current(config.production_folder)
    except NoModel:
        return []
    known = disk.read_arrays(champion.folder / KNOWN_ROWS)
    changes = [known[BEFORE_CHANGE]] if len(known[BEFORE_CHANGE]) else []
    if monitoring and "degraded" in monitoring["triggers"]:
        changes.append(disk.read_arrays(config.settled_rows)["labelled"])
    return changes


def list_ids(production: Path) -> list[str]:
    """Return the ids of all releases, oldest first."""
    folder = production / "releases"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if ID.fullmatch(name))


def create(production: Path, files: Mapping[str, bytes], manifest: dict[str, Any]) -> str:
    """Write a new release, complete or not at all; return its id. It is not in production yet."""
    folder = production / "releases"
    disk.make_folder(folder)
    digest = disk.sha256_bytes(b"".join(name.encode() + files[name] for name in sorted(files)))
    stamp = re.sub(r"[-:]", "", manifest["deployed_at"])
    release_id = f"{stamp}-{digest[:8]}"
    made = folder / f".{release_id}"
    if made.is_dir():
        shutil.rmtree(made)
    disk.commit(made / MANIFEST, {made / name: data for name, data in files.items()}, manifest)
    if not (folder / release_id).is_dir():
        os.rename(made, folder / release_id)
    disk.fsync_folder(folder)
    return release_id


def activate(production: Path, release_id: str) -> None:
    """Point production at a release, by one rename."""
    read(production, release_id)
    replace_link(production / CURRENT, f"releases/{release_id}")
    for name in LINKS:
        if not (production / name).is_symlink():
            replace_link(production / name, f"{CURRENT}/{name}")


def replace_link(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    try:
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AttritionError(f"{link}: stands in the way ({error.strerror}); move it") from error
    disk.fsync_folder(link.parent)


def collect(production: Path, keep: int = KEEP) -> list[str]:
    """Delete all but the newest releases and the current one; return what was deleted."""
    ids = list_ids(production)
    removable = [i for i in ids[:-keep] if i != current_id(production)]
    for release_id in removable:
        shutil.rmtree(production / "releases" / release_id)
    for left_over in (production / "releases").glob(".2*"):
        shutil.rmtree(left_over)
    return removable
