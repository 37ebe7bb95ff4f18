"""The observations of single clients in finaldata.parquet, found without reading all of it each time.

In memory are 17 bytes of each row: the hash of the client, time, outcome and delivery. The features are
read when they are needed, from the row groups of the client.
"""

import hashlib
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.data.cells import NAME_LENGTH
from attrition.storage import tables

CLIENT_HASH = "attrition:client_hash"
GROUPS_READ = 2  # of a client's features; each costs some 6 ms
# The deliveries of a row, see `ledger.read_rows`.
DELIVERED, OPENED = "attrition:delivered", "attrition:opened"


def name_hash(name: str) -> int:
    """Hash the name of a client; the hashes never change."""
    digest = hashlib.sha256(str(name).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


class Observation(NamedTuple):
    """A row of a client.

    time: of the observation, "" if unknown; churned: None as long as the outcome is open
    ingested_at, source: of the delivery that delivered the row last, "" if unknown
    features: the values by name, without dates; None if missing
    """

    time: str
    churned: bool | None
    ingested_at: str
    source: str
    features: Mapping[str, float | str | None] = {}


class ObservedRows:
    """Hash, time and outcome of each row."""

    def __init__(self, source: Any, columns: Columns) -> None:
        """Read a path or an open file; rows of other columns than config.json names lack values."""
        file = tables.open_parquet(source)
        known = {*file.schema_arrow.names}
        levels = [name for name in columns.categorical if name in known]  # faster as dictionaries
        self._file, self._lock = tables.open_parquet(source, read_dictionary=levels), RLock()
        self._features = [
            name for name in columns.features if name in known and name not in columns.dates
        ]

        def read(name: str) -> pa.Array:
            return file.read([name], use_threads=False)[name].combine_chunks()

        self._hashes: NDArray[np.uint64] = np.asarray(np.from_dlpack(read(CLIENT_HASH)))
        self._outcomes = np.full(len(self._hashes), -1, np.int8)
        if columns.outcome in known:
            filled = pc.fill_null(read(columns.outcome), -1.0).cast(pa.int8())
            self._outcomes = np.asarray(np.from_dlpack(filled))
        # without a client column, equal rows share the hash, and their names differ by a number
        self._names = "" if columns.client else columns.client_name
        self._times: pa.Array | None = None
        if columns.time and columns.time in known:
            self._times = read(columns.time).dictionary_encode()
        tables.release_memory()

    def find(
        self, client: str, delivered: NDArray[np.int32], lines: Sequence[tuple[str, str]]
    ) -> list[Observation]:
        """Return the observations of a client, in the order of their times.

        delivered: the line that delivered each row, -1 if unknown; lines: (time, source) of each line
        """
        found = []
        rows = self._find_rows(client)
        for row, features in zip(rows, self._read_features(rows), strict=True):
            time = self._times[row].as_py() if self._times is not None else ""
            number = int(delivered[row]) if row < len(delivered) else -1
            line = lines[number] if 0 <= number < len(lines) else ("", "")
            outcome = int(self._outcomes[row])
            churned = None if outcome < 0 else outcome == 1
            found.append(Observation(time or "", churned, *line, features))
        return sorted(found, key=lambda each: each.time)

    def _find_rows(self, client: str) -> list[int]:
        hashed = client[:NAME_LENGTH] if self._names else client
        rows: list[int] = np.flatnonzero(self._hashes == np.uint64(name_hash(hashed))).tolist()
        if not self._names:
            return rows
        named = []
        for group, (start, within) in self._by_group(rows).items():
            with self._lock:
                read = self._file.read_row_group(group, [self._names], use_threads=False)
            names = read[self._names].combine_chunks()
            named += [start + row for row in within if names[row].as_py() == client]
        return named

    def _by_group(self, rows: Sequence[int]) -> dict[int, tuple[int, list[int]]]:
        """Return for each row group with some of the rows its first row and their places in it."""
        metadata, start, groups = self._file.metadata, 0, {}
        for group in range(metadata.num_row_groups):
            end = start + metadata.row_group(group).num_rows
            if within := [row - start for row in rows if start <= row < end]:
                groups[group] = start, within
            start = end
        return groups

    def _read_features(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the features of ascending rows; nothing of a single one, which is compared with none.

        Only the newest row groups that contain the rows are read, so that a long history costs no more.
        """
        if len(rows) < 2 or not self._features:
            return [{} for _ in rows]
        found: list[dict[str, Any]] = []
        groups = self._by_group(rows)
        for group, (_, within) in groups.items():
            if group not in [*groups][-GROUPS_READ:]:
                found += [{} for _ in within]
                continue
            with self._lock:
                read = self._file.read_row_group(group, self._features, use_threads=False)
            parts = {name: read[name].combine_chunks() for name in self._features}
            found += [
                {name: _known(part[row].as_py()) for name, part in parts.items()} for row in within
            ]
        return found


def _known(value: Any) -> Any:
    return None if value == "" else value
