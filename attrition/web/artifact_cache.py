"""What a long-lived reader holds of what is on disk: the model in production, records, reports.

Everything is verified when it is read and read again when it was replaced. What is not there yet or
does not verify is `NotReady`, in a sentence that names the script that makes it, and no folder.
"""

import csv
import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast

from flask import current_app

from attrition.config import Config
from attrition.data.clients import ClientTable, Row, open_hashed
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.operations import releases
from attrition.operations.releases import Release
from attrition.storage import files
from attrition.storage.files import Record

T = TypeVar("T")

logger = logging.getLogger(__name__)

READ_TRIES, READ_PAUSE_S = 4, 0.05


class NotReady(AttritionError):
    """What was asked for cannot be read now; a later run of the named script mends it."""

    def __init__(self, sentence: str, code: str = "not_ready") -> None:
        super().__init__(sentence)
        self.code = code


class ArtifactCache:
    """Files as they were last read; read again only when another file stands in their place."""

    def __init__(self) -> None:
        self._held: dict[Path, tuple[object, Any]] = {}

    def record(self, path: Path, script: str) -> Record:
        """Read a record that `script` writes.

        Raises: NotReady when it is not there yet, or damaged.
        """
        stamp = _stamp(path)
        held = self._held.get(path)
        if held is not None and held[0] == stamp:
            return dict(held[1])
        try:
            record = files.read_record(path)
        except Damaged as error:
            logger.warning("%s", error)
            raise _damaged(path, script) from error
        if record is None:
            raise _missing(path, script)
        self._held[path] = (stamp, record)
        return dict(record)

    def output(
        self,
        record_path: Path,
        path: Path,
        script: str,
        parse: Callable[[Any], Any] | None = None,
        load: Callable[[Path], tuple[str, Any]] | None = None,
    ) -> Any:
        """Read a file that must hash as its record says; what `parse` makes of it is held.

        `load` returns the sha256 of a file, and what to parse: without it the bytes of the file.

        Between a new file and its new record lie a few milliseconds, so a mismatch is looked at
        again before it is called damage.

        Raises: NotReady.
        """
        for pause_s in (*[READ_PAUSE_S] * (READ_TRIES - 1), 0):
            stamp = (_stamp(path), _stamp(record_path))
            held = self._held.get(path)
            if parse and held is not None and held[0] == stamp:
                return held[1]
            digest, content = _load(path, load or _bytes)
            outputs = self.record(record_path, script)["outputs"]
            if path.name not in outputs:
                raise _missing(path, script)
            if digest == outputs[path.name]:
                value = parse(content) if parse else content
                if parse:
                    self._held[path] = (stamp, value)
                return value
            time.sleep(pause_s)
        raise _damaged(path, script)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _load(path: Path, load: Callable[[Path], tuple[str, Any]]) -> tuple[str, Any]:
    try:
        return load(path)
    except OSError:
        return "", None


def _bytes(path: Path) -> tuple[str, bytes]:
    data = path.read_bytes()
    return files.sha256_bytes(data), data


def _missing(path: Path, script: str) -> NotReady:
    return NotReady(f"{path.name} is not there yet; {script} or fullprocess.py makes it")


def _damaged(path: Path, script: str) -> NotReady:
    sentence = f"the file {path.name} is damaged: it is not what was written"
    return NotReady(f"{sentence}; {script} or fullprocess.py makes it again", "damaged")


class Production:
    """The release that requests are answered from, with its model loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem: str | None = None
        self._held: tuple[Release, Any] | None = None
        self._lock = Lock()

    def get(self) -> tuple[Release, Any]:
        """Return the release that `current` names now.

        While that does not verify: the one held, else the newest that does.

        Raises: NotReady when there is none that can be used.
        """
        with self._lock:
            try:
                wanted = releases.current_id(self.folder)
                if self._held is None or self._held[0].id != wanted:
                    self._held = self._load(wanted)
                self.problem = None
            except (AttritionError, OSError) as error:
                if self._held is None:
                    self._held = self._newest()
                if self._held is None and isinstance(error, NoModel):
                    sentence = "no model is in production yet; run fullprocess.py"
                    raise NotReady(sentence, "no_model") from error
                self._complain(error)
            if self._held is None:
                raise NotReady(
                    f"{self.problem}; roll back with deployment.py --rollback", "damaged"
                )
            return self._held

    def _newest(self) -> tuple[Release, Any] | None:
        """Load the newest release that verifies: a model of before is better than none."""
        for release_id in reversed(releases.list_ids(self.folder)):
            try:
                return self._load(release_id)
            except (AttritionError, OSError):
                continue  # each request comes here; what is wrong is said once, by _complain
        return None

    def _load(self, release_id: str) -> tuple[Release, Any]:
        try:
            release = releases.read(self.folder, release_id)
        except NoModel as error:
            raise Damaged(f"{error}, but it is the one deployed") from error
        model = releases.load_model(release)
        logger.info("release %s is served", release_id)
        return release, model

    def _complain(self, error: Exception) -> None:
        """Log once what is wrong, and keep it for /health in words that name no folder."""
        problem = "the release that is deployed does not verify"
        if self._held is not None:
            problem += f", {self._held[0].id} is served in its place"
        if problem != self.problem:
            logger.error("%s: %s", problem, error)
        self.problem = problem


# ---- what the views read


def optional(read: Callable[..., T], *arguments: Any) -> T | None:
    """Return what `read` returns, or None if it is not ready."""
    try:
        return read(*arguments)
    except NotReady:
        return None


@dataclass(frozen=True)
class State:
    """What the requests of one app share, and how they read it; each read raises NotReady."""

    config: Config
    cache: ArtifactCache
    production: Production
    token: str | None

    def diagnostics(self) -> Record:
        return self.cache.record(self.config.diagnostics_record, "diagnostics.py")

    def assessment(self) -> Record:
        return self.cache.record(self.config.assessment_record, "assessment.py")

    def clients(self) -> ClientTable:
        """Return the current clients, to be looked up."""
        table: ClientTable = self._assessed(self.config.clients, ClientTable, open_hashed)
        return table

    def listed(self) -> list[Row]:
        """Return the clients on the contact list, as data."""
        return self.clients().listed

    def contact_list(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = self._assessed(self.config.contact_list, parse_list)
        return rows

    def _assessed(self, path: Path, *how: Any) -> Any:
        return self.cache.output(self.config.assessment_record, path, "assessment.py", *how)

    def report(self, path: Path) -> bytes:
        """Return the bytes of the PDF or of one of its figures."""
        data: bytes = self.cache.output(self.config.report_record, path, "reporting.py")
        return data

    def figure_names(self) -> list[str]:
        record = self.cache.record(self.config.report_record, "reporting.py")
        return sorted(name[:-4] for name in record["outputs"] if name.endswith(".png"))


def state() -> State:
    """Return the state of the app that answers the current request."""
    return cast(State, current_app.extensions["attrition"])


def parse_list(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
