"""The model in production: immutable releases, one pointer, and links that follow it.

releases/<utc>-<hash>/ contains a model, its evaluation model, the records on them and, for people,
modelcard.md; its manifest.json names the sha256 of each file. `current` is a symlink that is replaced
by rename, so a reader sees either the old release or the new one. A reader resolves it once, and keeps
its release until a new one is verified.
"""

import calendar
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
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

MODEL, EVALUATION_MODEL = "trainedmodel.skops", "evaluationmodel.skops"
SERVING_MODEL = "servingmodel.npz"  # the model as arrays, see serving.flat_model
TRAINING = "training.json"
SCORE, DECISION = "score.json", "decision.json"
REFERENCE, KNOWN_ROWS = "reference.csv", "known_rows.npz"
# Arrays of known rows: rows from before a concept drift; rows on which the candidates were compared, and
# their risks from models that were not trained on them.
BEFORE_CHANGE, JUDGED, JUDGED_RISK = "before_change", "judged", "judged_risk"
# Array of settled rows: labelled rows that are neither judged nor learned from yet.
WAITING = "waiting"
CARD = "modelcard.md"
MANIFEST, CURRENT = "manifest.json", "current"
DIGEST = "digest"  # in the manifest, if files have changed since: the end of the id
LINKS = (MODEL, "latestscore.txt", "ingestedfiles.txt")
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
STAMP = "%Y%m%dT%H%M%SZ"
KEEP = 10
# Another version of a library may compute in another order, but must give the same result.
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

    @property
    def evaluation_sha256(self) -> str:
        return str(self.manifest["outputs"][EVALUATION_MODEL])


def read(production: Path, release_id: str) -> Release:
    """Read one release and verify every file of it.

    Raises: NoModel if there is no such release, Damaged if a file is not what was deployed or could
    have been written by others.
    """
    folder = production / "releases" / release_id
    if not ID.fullmatch(release_id) or not folder.is_dir():
        raise NoModel(f"{production}: there is no release {release_id!r}")
    permissions.check_private(folder)
    manifest = files.read_record(folder / MANIFEST)
    if manifest is None:
        raise Damaged(f"{folder}: has no {MANIFEST}; roll back with deployment.py --rollback")
    outputs = manifest.get("outputs", {})
    paths = {name: folder / name for name in outputs}
    intact = [
        name
        for name, path in paths.items()
        if path.is_file() and files.sha256_file(path) == outputs[name]
    ]
    if wrong := outputs.keys() - intact:
        names = ", ".join(sorted(wrong))
        raise Damaged(f"{folder}: {names} not as deployed; roll back with deployment.py --rollback")
    if release_id.rpartition("-")[2] not in (manifest.get(DIGEST), *_digests(paths, outputs)):
        raise Damaged(
            f"{folder}: contains another release; roll back with deployment.py --rollback"
        )
    training = files.read_record(folder / TRAINING)
    score = files.read_record(folder / SCORE)
    if training is None or score is None or not {MODEL, CARD} <= outputs.keys():
        raise Damaged(f"{folder}: is not complete; roll back with deployment.py --rollback")
    return Release(release_id, folder, manifest, training, score, paths[CARD].read_bytes())


def current_id(production: Path) -> str:
    """Return the id that `current` points to.

    Raises: NoModel if nothing was deployed yet, Damaged if the pointer is not a link.
    """
    pointer = production / CURRENT
    try:
        target = os.readlink(pointer)
    except FileNotFoundError as error:
        raise NoModel("no model in production yet; run fullprocess.py") from error
    except OSError as error:
        raise Damaged(
            f"{pointer}: is not the link that deployment.py wrote; choose a release with "
            "deployment.py --rollback"
        ) from error
    return Path(target).name


def read_current(production: Path) -> Release:
    """Read and verify the release in production.

    Raises: NoModel, Damaged.
    """
    return read(production, current_id(production))


def read_for(production: Path, columns: Columns) -> Release:
    """Read the release in production, if the config still has its columns.

    Raises: NoModel if it does not, or if an earlier version deployed it; Damaged.
    """
    release = read_current(production)
    if EVALUATION_MODEL not in release.manifest["outputs"]:
        raise NoModel(
            "the model in production was deployed by an earlier version; run fullprocess.py to train "
            "one that can be compared"
        )
    if gone := gone_features(release.training, columns):
        raise NoModel(
            f"the model in production needs {', '.join(gone)}, which config.json no longer names; "
            "run fullprocess.py to train one on the present columns"
        )
    return release


def gone_features(training: Mapping[str, Any], columns: Columns) -> list[str]:
    """List the features of a model that the config no longer names, or names as another kind."""
    features = training["features"]
    gone = set(features["numeric"]) - set(columns.numeric_names)
    return sorted(gone | set(features["categorical"]) - set(columns.categorical))


def load_model(release: Release) -> Any:
    """Load the model of a verified release; skops loads only types that are on our list.

    If versions of libraries differ from those in training, the model must give the same risks as then.

    Raises: Damaged.
    """
    from attrition.modelling import persistence

    model = persistence.loads((release.folder / MODEL).read_bytes())
    if release.training["versions"] != persistence.versions():
        _probe(release, model)
    return model


def load_evaluation_model(release: Release) -> Any:
    """Load the model of a verified release that was fitted without the held-out clients.

    It contains the same kinds of parts as the model, so what `load_model` checks is checked for both.

    Raises: Damaged.
    """
    from attrition.modelling import persistence

    load_model(release)
    return persistence.loads((release.folder / EVALUATION_MODEL).read_bytes())


def read_reference(release: Release) -> "pd.DataFrame":
    """Read the reference rows of a release, each with its cross-validated risk."""
    import numpy as np

    from attrition.monitoring import drift

    rows = tables.read_texts(release.folder / REFERENCE)
    for name in (*release.training["features"]["numeric"], drift.SCORE):
        rows[name] = rows[name].replace("", np.nan).astype("float64")
    return rows


def _probe(release: Release, model: Any) -> None:
    """Raise Damaged if the first reference rows get other risks than in training."""
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
    risks = models.predict(model, rows.iloc[: len(expected)])
    same = len(expected) > 0 and risks.shape == expected.shape
    difference = float(np.max(np.abs(risks - expected))) if same else float("nan")
    if not difference <= MAX_DIFFERENCE:
        raise Damaged(
            f"{release.folder}: gives other risks under {', '.join(changed)} (by up to "
            f"{difference:.2g}); install the previous versions, or run fullprocess.py --repair"
        )
    logger.info("release %s gives the same risks under %s", release.id, ", ".join(changed))


def rows_before_change(config: Config) -> "list[NDArray[np.uint64]]":
    """Return the ids of the labelled rows from before each concept drift, oldest first; [] if none.

    The drifts before its training are stored with the champion. If its performance has degraded since,
    all rows that were settled before that are added.
    """
    import numpy as np

    monitoring = files.read_record(config.monitoring_record)
    try:
        champion = read_current(config.production_folder)
    except NoModel:
        return []
    known = files.read_arrays(champion.folder / KNOWN_ROWS)
    changes = [known[BEFORE_CHANGE]] if len(known[BEFORE_CHANGE]) else []
    if monitoring and "degraded" in monitoring["triggers"]:
        settled = files.read_arrays(config.settled_rows)["labelled"]
        changes.append(np.union1d(known["labelled"], settled))
    return changes


def read_waiting(config: Config) -> "NDArray[np.uint64]":
    """Read the sorted ids of the labelled rows that are neither judged nor learned from yet.

    See monitoring.py.
    """
    import numpy as np

    if files.read_record(config.monitoring_record) is None:
        return np.empty(0, dtype="uint64")
    return np.sort(files.read_arrays(config.settled_rows, [WAITING])[WAITING])


def list_ids(production: Path) -> list[str]:
    """Return the ids of all releases, oldest first."""
    folder = production / "releases"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if ID.fullmatch(name))


def create(production: Path, contents: Mapping[str, bytes], manifest: dict[str, Any]) -> str:
    """Write a new release atomically, without activating it; return its id.

    Ids sort in the order of deployment: if the clock went back, an id has the time of the newest release
    plus one second. The manifest has the time of the clock.
    """
    folder = production / "releases"
    files.make_folder(folder)
    digest = _digest({name: files.sha256_bytes(data) for name, data in contents.items()})
    stamp = re.sub(r"[-:]", "", manifest["deployed_at"])
    release_id = f"{stamp}-{digest}"
    newest = max(list_ids(production), default="")
    if release_id < newest and not (folder / release_id).is_dir():
        release_id = f"{_second_after(newest)}-{digest}"
    new = folder / f".{release_id}"
    if new.is_dir():
        files.remove_folder(new)
    files.commit(new / MANIFEST, {new / name: data for name, data in contents.items()}, manifest)
    if not (folder / release_id).is_dir():
        os.rename(new, folder / release_id)
    files.fsync_folder(folder)
    return release_id


def _digest(outputs: Mapping[str, str]) -> str:
    """Return the end of the id of a release from the names and hashes of its files."""
    return files.sha256_bytes(
        "".join(f"{name} {outputs[name]}\n" for name in sorted(outputs)).encode()
    )[:8]


def _digests(paths: Mapping[str, Path], outputs: Mapping[str, str]) -> Iterator[str]:
    """Yield the ends that the id of a release may have: the present one, and that of version 0.1.0."""
    yield _digest(outputs)
    joined = b"".join(name.encode() + paths[name].read_bytes() for name in sorted(paths))
    yield files.sha256_bytes(joined)[:8]


def _second_after(release_id: str) -> str:
    """Return the time of a release plus one second.

    >>> _second_after("20251231T235959Z-00000000")
    '20260101T000000Z'
    """
    at = calendar.timegm(time.strptime(release_id.partition("-")[0], STAMP))
    return time.strftime(STAMP, time.gmtime(at + 1))


def activate(production: Path, release_id: str) -> None:
    """Put a release into production by one rename."""
    read(production, release_id)
    replace_link(production / CURRENT, f"releases/{release_id}")
    restore_links(production)


def restore_links(production: Path) -> list[Path]:
    """Repair the links of the production folder; return those that were repaired."""
    if not (production / CURRENT).is_symlink():
        return []
    repaired = []
    for name in LINKS:
        link, target = production / name, f"{CURRENT}/{name}"
        if not link.is_symlink() or os.readlink(link) != target:
            replace_link(link, target)
            repaired.append(link)
    return repaired


def replace_link(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.symlink(target, temporary)
    except OSError as error:
        error.filename = str(link)  # otherwise the error names its target
        raise
    try:
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AttritionError(f"{link}: is in the way ({error.strerror}); move it") from error
    files.fsync_folder(link.parent)


def collect(production: Path, keep: int = KEEP) -> list[str]:
    """Delete all but the newest releases and the current one; return the ids deleted."""
    ids = list_ids(production)
    removable = [i for i in ids[:-keep] if i != current_id(production)]
    folder = production / "releases"
    for release_id in removable:  # hidden first, so that no reader sees part of a release
        os.rename(folder / release_id, folder / f".{release_id}")
    for left_over in folder.glob(".2*"):
        files.remove_folder(left_over)
    files.fsync_folder(folder)
    return removable
