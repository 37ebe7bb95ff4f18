"""The release in production with its model, loaded for serving.

Each request asks for it. If `current` names another release, a thread loads that one while the old one
keeps serving; if it does not verify, the old one stays.
"""

import csv
import logging
import time
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

from attrition.errors import AttritionError, Damaged, NoModel, NotReady
from attrition.operations import releases
from attrition.operations.releases import Release
from attrition.serving.flat_model import FlatModel
from attrition.serving.served import FrameModel, Served

logger = logging.getLogger(__name__)

RETRY_S = 5.0  # until a release that did not verify is read again
MODELS_KEPT = 4  # so that a rollback need not load its model again


class Production:
    """The deployed release with its model; for use by many threads.

    problem: why the deployed release is not being served, for /health; None if it is
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem: str | None = None
        self._served: tuple[Release, Served] | None = None
        self._tried = "", -RETRY_S  # the release that was last loaded, and when
        self._models: dict[str, Served] = {}  # by sha256, the one used last at the end
        self._loading = Lock()

    @property
    def is_flat(self) -> bool:
        """Whether the model is served as arrays; true if there is none."""
        return self._served is None or isinstance(self._served[1], FlatModel)

    def get(self) -> tuple[Release, Served]:
        """Return the release that `current` names, and its model.

        If another release is loaded, return it until the new one is ready; if none is, wait. If the new
        one does not verify, return the one loaded before, or the newest that verifies.

        Raises: NotReady if there is none.
        """
        target = self._target()
        if (served := self._served) is None:
            return self._load_first(target)
        if served[0].id == target:
            self.problem = None
        elif self._is_due(target) and self._loading.acquire(blocking=False):
            Thread(target=self._load_next, args=(target,), daemon=True).start()
        return served

    def _target(self) -> str:
        """Return the id that `current` names, "" if it names none."""
        try:
            return releases.current_id(self.folder)
        except AttritionError:
            return ""

    def _is_due(self, target: str) -> bool:
        tried, at = self._tried
        return target != tried or time.monotonic() > at + RETRY_S

    def _load_first(self, target: str) -> tuple[Release, Served]:
        with self._loading:
            if self._served is None and (self.problem is None or self._is_due(target)):
                error = self._load_current(target)
                if error is not None:
                    self._load_newest()
                if self._served is None and isinstance(error, NoModel):
                    sentence = "no model is in production yet; run fullprocess.py"
                    raise NotReady(sentence, "no_model") from error
                if error is not None:
                    self._set_problem(error)
            if self._served is None:
                sentence = f"{self.problem}; roll back with deployment.py --rollback"
                raise NotReady(sentence, "damaged")
            return self._served

    def _load_next(self, target: str) -> None:
        try:
            if (error := self._load_current(target)) is not None:
                self._set_problem(error)
        finally:
            self._loading.release()

    def _load_current(self, target: str) -> Exception | None:
        """Load the deployed release and serve it; return the error if it cannot be."""
        self._tried = target, time.monotonic()
        try:
            self._serve(releases.current_id(self.folder))
        except (
            Exception
        ) as error:  # whatever it is, the release before serves on, and /health says so
            return error
        self.problem = None
        return None

    def _load_newest(self) -> None:
        """Serve the newest release that verifies, since an older model is better than none."""
        for release_id in reversed(releases.list_ids(self.folder)):
            try:
                return self._serve(release_id)
            except Exception as error:
                logger.warning("release %s is not served: %s", release_id, error)
        return None

    def _serve(self, release_id: str) -> None:
        try:
            release = releases.read(self.folder, release_id)
        except NoModel as error:
            raise Damaged(f"{error}, but it is the deployed release") from error
        try:
            model = self._model(release)
        except (KeyError, TypeError, ValueError) as error:  # as if written by hand
            raise Damaged(f"{release.folder}: its files do not fit together ({error!r})") from error
        logger.info("serving release %s", release_id)
        self._served = release, model

    def _model(self, release: Release) -> Served:
        key = release.manifest["outputs"].get(releases.SERVING_MODEL, release.model_sha256)
        model = self._models.pop(key, None) or load_model(release)
        check_probe(release, model)
        self._models[key] = model
        while len(self._models) > MODELS_KEPT:
            del self._models[next(iter(self._models))]
        return model

    def _set_problem(self, error: Exception) -> None:
        """Log a problem once, and describe it for /health without naming a folder."""
        problem = "the deployed release does not verify"
        if self._served is not None:
            problem += f"; {self._served[0].id} is served instead"
        if problem != self.problem:
            logger.error("%s: %s", problem, error)
        self.problem = problem


def load_model(release: Release) -> Served:
    """Load the flat model of a verified release.

    If it has none, as one that an earlier version deployed, flatten its model now; if that fails, return
    the fitted model.

    Raises: Damaged.
    """
    if releases.SERVING_MODEL in release.manifest["outputs"]:
        return FlatModel.from_bytes((release.folder / releases.SERVING_MODEL).read_bytes())
    from attrition.serving import flattening

    logger.info("release %s has no flat model, so that loading it takes seconds", release.id)
    model = releases.load_model(release)
    try:
        return flattening.flatten_and_check(model, releases.read_reference(release))
    except flattening.NotFlat as error:
        logger.warning(
            "release %s: the model cannot be flattened: %s; predictions are slower",
            release.id,
            error,
        )
        return FrameModel(model)


@lru_cache(maxsize=1)
def load_checked(production: Path, release_id: str) -> tuple[Release, Served]:
    """Read a release and its model, for the steps; a process reads the same one once.

    Raises: NoModel, Damaged.
    """
    release = releases.read(production, release_id)
    model = load_model(release)
    check_probe(release, model)
    return release, model


def check_probe(release: Release, model: Served) -> None:
    """Raise Damaged if the risks of the first reference rows differ from those in training."""
    expected = np.array(release.training["probe"], dtype="float64")
    risks = model.predict(_read_probe(release, len(expected)))
    is_same = risks.shape == expected.shape and len(expected) > 0
    difference = float(np.max(np.abs(risks - expected))) if is_same else float("nan")
    if not difference <= releases.MAX_DIFFERENCE:
        raise Damaged(
            f"{release.folder}: its {releases.SERVING_MODEL} gives other risks than its model in "
            f"training (by up to {difference:.2g}); roll back with deployment.py --rollback"
        )


def _read_probe(release: Release, n: int) -> dict[str, Any]:
    """Return the features of the first reference rows as a flat model takes them."""
    with (release.folder / releases.REFERENCE).open(encoding="utf-8", newline="") as file:
        rows = list(islice(csv.DictReader(file), n))
    numeric, categorical = (
        release.training["features"][kind] for kind in ("numeric", "categorical")
    )
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in categorical}
    for name in numeric:
        columns[name] = np.array([float(row[name] or "nan") for row in rows], dtype="float64")
    return columns
