"""What a long-lived reader holds of what is on disk: the model in production, records, reports.

Everything is verified when it is read and read again when it was replaced. What is not there yet or
does not verify is `NotReady`, in a sentence that names the script that makes it, and no folder.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from attrition.errors import AttritionError, Damaged, NoModel
from attrition.operations import releases
from attrition.operations.releases import Release
from attrition.storage import files
from attrition.storage.files import Record

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
            raise NotReady(f"{path.name} is not there yet; {script} or fullprocess.py makes it")
        self._held[path] = (stamp, record)
        return dict(record)

    def output(
        self,
        record_path: Path,
        path: Path,
        script: str,
        parse: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """Read a file that must hash as its record says; what `parse` makes of it is held.

        Between a new file and its new record lie a few milliseconds, so a mismatch is looked at
        again before it is called damage.

        Raises: NotReady.
        """
        for pause_s in (*[READ_PAUSE_S] * (READ_TRIES - 1), 0):
            stamp = (_stamp(path), _stamp(record_path))
            held = self._held.get(path)
            if parse and held is not None and held[0] == stamp:
                return held[1]
            data = _bytes(path)
            record = self.record(record_path, script)
            if data is not None and files.sha256_bytes(data) == record["outputs"].get(path.name):
                value = parse(data) if parse else data
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


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


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
