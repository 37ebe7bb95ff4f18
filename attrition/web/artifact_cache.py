"""Cache verified files, reload them when they change on disk, and share them with the views.

If a file does not exist yet or does not match its hash, reading it raises `NotReady`; the message names
the script that writes it, and no folder.
"""

import io
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from flask import current_app
from numpy.typing import NDArray

from attrition.config import Config
from attrition.contacts import activity, log, standings
from attrition.contacts.desk import Desk
from attrition.contacts.worklist import Worklist
from attrition.data import risk_history
from attrition.data.clients import ClientTable, Row, client_keys, open_hashed
from attrition.data.risk_history import Snapshot
from attrition.data.spelling import Spelling, read_spelling
from attrition.errors import AttritionError, Damaged, NotReady
from attrition.messages.causes import LOG_DAMAGED
from attrition.rows import observations
from attrition.rows.observations import DELIVERED, NUMBER, Observation, ObservedRows
from attrition.serving.production import Production
from attrition.storage import files, history, tables
from attrition.storage.files import Record

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOG_BUSY = "the contact log cannot be read or written now; try again, nothing is saved twice"
# Errors of what is to be appended, not of the log.
ASKING = (log.Stale, log.KeyTaken, log.NotReplaceable)
READ_TRIES, READ_PAUSE_S = 4, 0.05
LINES_KEPT = 200  # the newest, of ingestedfiles.txt
RAW_SHOWN = 500


class ArtifactCache:
    """A cache of verified files, which reads a file again only when it was replaced on disk."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[object, Any]] = {}

    def remember(self, key: Hashable, stamp: object, read: Callable[[], T]) -> T:
        """Return what `read` returned when the stamp was the same, or call it now."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == stamp:
            return cast(T, entry[1])
        value = read()
        self._entries[key] = (stamp, value)
        return value

    def discard(self, folder: Path, suffix: str, keep: Collection[Path]) -> None:
        """Close the files of a folder that are not kept: their names may never come again."""
        for key in [*self._entries]:
            path = key[0] if isinstance(key, tuple) else key
            is_there = isinstance(path, Path) and path.parent == folder and path.suffix == suffix
            if is_there and path not in keep:
                self._entries.pop(key, None)

    def record(self, path: Path, script: str) -> Record:
        """Read a record that `script` writes.

        Raises: NotReady if it does not exist yet or is damaged.
        """
        stamp = _stamp(path)
        entry = self._entries.get(path)
        if entry is not None and entry[0] == stamp:
            return dict(entry[1])
        try:
            record = files.read_record(path)
        except Damaged as error:
            logger.warning("%s", error)
            raise _damaged(path, script) from error
        if record is None:
            raise _missing(path, script)
        self._entries[path] = (stamp, record)
        return dict(record)

    def output(
        self,
        record_path: Path,
        path: Path,
        script: str,
        parse: Callable[[Any], Any] | None = None,
        load: Callable[[Path], tuple[str, Any]] | None = None,
    ) -> Any:
        """Read a file and compare its hash with its record; cache what `parse` returns.

        `load` returns the sha256 of a file and its content, the bytes if there is no `load`. A new
        file is written a few milliseconds before its record, so a mismatch is checked again before it
        counts as damage.

        Raises: NotReady.
        """
        for pause_s in (*[READ_PAUSE_S] * (READ_TRIES - 1), 0):
            stamp = (_stamp(path), _stamp(record_path))
            entry = self._entries.get((path, parse))
            if parse and entry is not None and entry[0] == stamp:
                return entry[1]
            digest, content = _load(path, load or _bytes)
            outputs = self.record(record_path, script)["outputs"]
            if path.name not in outputs:
                raise _missing(path, script)
            if digest == outputs[path.name]:
                if not parse:
                    return content
                value = parse(content)
                self._entries[path, parse] = (stamp, value)
                return value
            time.sleep(pause_s)
        raise _damaged(path, script)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _history_stamp(path: Path) -> object:
    """Return what changes with every transaction: SQLite counts them in the header of its file.

    Source: https://www.sqlite.org/fileformat.html, "File change counter".
    """
    try:
        with path.open("rb") as file:
            return _stamp(path), file.read(28)[24:]
    except OSError:
        return None


def _load(path: Path, load: Callable[[Path], tuple[str, Any]]) -> tuple[str, Any]:
    try:
        return load(path)
    except OSError:
        return "", None


def _bytes(path: Path) -> tuple[str, bytes]:
    data = path.read_bytes()
    return files.sha256_bytes(data), data


def _hash_only(path: Path) -> tuple[str, Path]:
    """Return the hash of a file that is too large to be read as a whole, and its path."""
    return files.sha256_file(path), path


def _missing(path: Path, script: str) -> NotReady:
    return NotReady(f"{path.name} does not exist yet; run {script} or fullprocess.py")


def _damaged(path: Path, script: str) -> NotReady:
    sentence = f"the file {path.name} is damaged: its content does not match its hash"
    return NotReady(f"{sentence}; run {script} or fullprocess.py to write it again", "damaged")


# ---- what ingestion read and refused


class Refusals(NamedTuple):
    """The number of rows refused with the same code, and the newest of them as an example."""

    code: str
    rows: int
    source: str
    line: str
    reason: str
    raw: str


def count_refusals(path: Path) -> list[Refusals]:
    """Count the rows of rejected.csv by the code that their reason begins with, in one pass."""
    counts: Counter[str] = Counter()
    newest: dict[str, list[str]] = {}
    for row in tables.read_cells(path):
        code = row[3].partition(":")[0]
        counts[code] += 1
        newest[code] = row
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        Refusals(code, rows, source, line, reason, raw[:RAW_SHOWN])
        for code, rows in ranked
        for _, source, line, reason, raw in [newest[code]]
    ]


def _as_it_is(content: Any) -> Any:
    return content


def _delivered(data: bytes) -> NDArray[np.int32]:
    """Return the number of the line that delivered each row."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return cast(NDArray[np.int32], arrays[DELIVERED])


def _numbers(data: bytes) -> NDArray[np.int64]:
    """Return the numbers of the rows that are gone."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return cast(NDArray[np.int64], arrays[NUMBER])


def _sources(data: bytes) -> list[tuple[str, str]]:
    """Return the time and the source of each line of ingestedfiles.txt."""
    return [(row["ingested_at"], row["source"]) for row in tables.parse_dicts(data)]


def _newest_lines(data: bytes) -> list[dict[str, str]]:
    return tables.parse_dicts(data)[: -LINES_KEPT - 1 : -1]


# ---- the state that views share


@contextmanager
def contact_log_errors() -> Iterator[None]:
    """Raise NotReady without the name of a folder if the contact log is damaged, or busy for long."""
    try:
        yield
    except ASKING:
        raise
    except AttritionError as error:
        logger.error("%s", error)
        is_damaged = isinstance(error, Damaged)
        raise (
            NotReady(LOG_DAMAGED, "damaged") if is_damaged else NotReady(LOG_BUSY, "log_busy")
        ) from error


def optional(read: Callable[..., T], *arguments: Any, damage: list[str] | None = None) -> T | None:
    """Return what `read` returns, None if it is not ready; if a file is damaged, add it to `damage`."""
    try:
        return read(*arguments)
    except NotReady as error:
        if error.code == "damaged" and damage is not None:
            damage.append(str(error))
    return None


@dataclass(frozen=True)
class State:
    """The state of one app. Every method raises NotReady if its file cannot be read."""

    config: Config
    cache: ArtifactCache
    production: Production
    desk: Desk

    def worklist(self, at: str) -> tuple[Worklist, int]:
        """Return the work list at a time, and the number of the newest entry in the contact log."""
        table = self.clients()
        with contact_log_errors():
            return self.desk.worklist(table, at, optional(self.assessment) or {})

    def check_contact_log(self) -> None:
        """Check the contact log, and that it has the entries that the assessment counted."""
        with contact_log_errors():
            self.desk.check(optional(self.assessment) or {})

    def count_entries(self) -> int:
        """Return the number of entries in the contact log."""
        with contact_log_errors():
            return self.desk.count()

    def spelling(self) -> Spelling:
        """Return how the ingested rows spell values; none if their record cannot be read."""
        return read_spelling(optional(self.ingestion))

    def ingestion(self) -> Record:
        return self.cache.record(self.config.ingestion_record, "ingestion.py")

    def last_run(self) -> Record:
        return self.cache.record(self.config.last_run, "fullprocess.py")

    def monitoring(self) -> Record:
        return self.cache.record(self.config.monitoring_record, "monitoring.py")

    def decision(self) -> Record:
        return self.cache.record(self.config.decision_record, "deployment.py")

    def read_history(self, read: Callable[..., history.Rows], *arguments: Any) -> history.Rows:
        """Return rows of the history, which are read again only after a transaction.

        Raises: AttritionError if it cannot be read.
        """
        path = self.config.history
        key, stamp = (path, read, arguments), _history_stamp(path)
        return self.cache.remember(key, stamp, lambda: read(path, *arguments))

    def read_optional_history(
        self, read: Callable[..., history.Rows], *arguments: Any
    ) -> history.Rows:
        """Return rows of the history; [] if it cannot be read, which /health reports."""
        try:
            return self.read_history(read, *arguments)
        except AttritionError:
            return []

    def deployments(self) -> history.Rows:
        return self.read_optional_history(history.read_deployments)

    def ingestions(self) -> list[dict[str, str]]:
        """Return the newest lines of ingestedfiles.txt, the newest first."""
        return self._ingested(self.config.ingested_files, _newest_lines)

    def refusals(self) -> list[Refusals]:
        """Return the refused rows, counted by the code of their reason, the most frequent first."""
        return self._ingested(self.config.rejected, count_refusals, _hash_only)

    def _ingested(self, path: Path, *how: Any) -> Any:
        return self.cache.output(self.config.ingestion_record, path, "ingestion.py", *how)

    def diagnostics(self) -> Record:
        return self.cache.record(self.config.diagnostics_record, "diagnostics.py")

    def assessment(self) -> Record:
        return self.cache.record(self.config.assessment_record, "assessment.py")

    def clients(self) -> ClientTable:
        """Return the table of current clients."""
        return self._assessed(self.config.clients, ClientTable, open_hashed)

    def listed(self) -> list[Row]:
        """Return the clients on the contact list."""
        return self.clients().listed

    def risk_history(self, client: str) -> list[activity.RiskAt]:
        """Return the risks of a client over time, oldest first."""
        path, (key,) = self.config.risk_history, client_keys([client])
        risks = self._assessed(path, _as_it_is, risk_history.open_hashed)
        snapshots = [Snapshot(**one) for one in self.assessment()["snapshots"]]
        return activity.risks_over_time(snapshots, risk_history.find(risks, int(key)))

    def observations(self, client: str) -> list[Observation]:
        """Return the observations of a client, in the order of their times."""
        seal = self.ingestion()["seal"]
        try:
            result = self._find_observations(client)
            if self.ingestion()["seal"] == seal:
                return result
        except NotReady:
            if self.ingestion()["seal"] == seal:
                raise
        return self._find_observations(client)  # a run replaced rows or a segment in between

    def _find_observations(self, client: str) -> list[Observation]:
        config, record = self.config, self.ingestion()
        paths = config.list_segments(record["outputs"])
        if not paths:
            raise _missing(config.rows, "ingestion.py")
        self.cache.discard(config.output_folder, config.rows.suffix, keep=paths)
        segments = [self._ingested(path, self._observed_rows, open_hashed) for path in paths]
        lines = self._ingested(config.ingested_files, _sources)
        if "next_number" in record:
            gone = np.zeros(0, np.int64)
            if config.gone.name in record["outputs"]:
                gone = self._ingested(config.gone, _numbers)
            return observations.find(segments, client, lines, gone=gone)
        delivered = optional(self._ingested, config.deliveries, _delivered)  # of an earlier version
        return observations.find(segments, client, lines, delivered=delivered)

    def _observed_rows(self, file: Any) -> ObservedRows:
        return ObservedRows(file, self.config.columns)

    def timeline(self, client: str, day: str) -> list[activity.Event]:
        """Return all that happened to a client, the newest first; what cannot be read is left out."""
        entries = self.desk.entries(client)
        listings = self.read_optional_history(history.read_listings)
        return activity.timeline(
            entries,
            standings.counting(entries),
            [row for row in listings if row["client"] == client],
            optional(self.risk_history, client) or [],
            optional(self.observations, client) or [],
            day,
            self.config.labels,
        )

    def _assessed(self, path: Path, *how: Any) -> Any:
        return self.cache.output(self.config.assessment_record, path, "assessment.py", *how)

    def report(self, path: Path) -> bytes:
        """Return the bytes of the PDF or of one of its figures."""
        return self.cache.output(self.config.report_record, path, "reporting.py")

    def figure_names(self) -> list[str]:
        record = self.cache.record(self.config.report_record, "reporting.py")
        return sorted(name[:-4] for name in record["outputs"] if name.endswith(".png"))


def state() -> State:
    """Return the state of the app that answers the current request."""
    return current_app.extensions["attrition"]
