"""The observations of single clients among all rows, found without reading all of them.

A segment is sorted by client, so the statistics of its row groups lead to the few that contain the rows
of a client. Nothing of a segment but its footer is kept in memory.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.data.cells import NAME_LENGTH
from attrition.storage import tables

CLIENT_HASH = "attrition:client_hash"
NUMBER = "attrition:number"
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


NO_NUMBERS: NDArray[np.int64] = np.empty(0, "int64")


class ClientRows(NamedTuple):
    """Where rows of a client are: their group and their places in it; and their values by name."""

    group: int
    places: NDArray[np.intp]
    values: Mapping[str, list[Any]]


class ObservedRows:
    """The rows of one segment."""

    def __init__(self, source: Any, columns: Columns) -> None:
        """Read a path or an open file; rows of other columns than config.json names lack values."""
        file = tables.open_parquet(source)
        known = {*file.schema_arrow.names}
        levels = [name for name in columns.categorical if name in known]  # faster as dictionaries
        self._file, self._lock = tables.open_parquet(source, read_dictionary=levels), RLock()
        self._features = [
            name for name in columns.features if name in known and name not in columns.dates
        ]
        # without a client column, equal rows share the hash, and their names differ by a number
        self._names = "" if columns.client else columns.client_name
        facts = {"name": self._names, "time": columns.time, "outcome": columns.outcome}
        facts |= {"number": NUMBER, "delivered": DELIVERED}
        self._facts = {key: name for key, name in facts.items() if name and name in known}
        metadata = file.metadata
        place = file.schema_arrow.names.index(CLIENT_HASH)
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *(group.num_rows for group in groups)])
        limits = [group.column(place).statistics for group in groups]
        self._limits = [(each.min, each.max) if each else (0, 2**64) for each in limits]

    def find(self, client: str) -> Iterator[ClientRows]:
        """Yield the rows of a client, group by group.

        The values have the keys `number` and, if they are stored, `time`, `outcome` and `delivered`.
        """
        hashed = np.uint64(name_hash(client[:NAME_LENGTH] if self._names else client))
        for group, (low, high) in enumerate(self._limits):
            if not low <= hashed <= high:
                continue
            hashes = np.asarray(np.from_dlpack(self._read(group, [CLIENT_HASH])[CLIENT_HASH]))
            places = np.flatnonzero(hashes == hashed)
            if not len(places):
                continue
            facts = self._read(group, [*self._facts.values()])
            values = {
                key: facts[name].take(pa.array(places)).to_pylist()
                for key, name in self._facts.items()
            }
            values.setdefault("number", (self._starts[group] + places).tolist())
            if self._names:
                is_named = [name == client for name in values["name"]]
                places = places[is_named]
                values = {key: [*compress(each, is_named)] for key, each in values.items()}
            yield ClientRows(group, places, values)

    def read_features(self, rows: ClientRows) -> list[dict[str, Any]]:
        """Return the features of rows of a client."""
        read = self._read(rows.group, self._features)
        parts = {name: read[name].take(pa.array(rows.places)).to_pylist() for name in read}
        return [
            {name: None if part[i] == "" else part[i] for name, part in parts.items()}
            for i in range(len(rows.places))
        ]

    def _read(self, group: int, names: Sequence[str]) -> dict[str, pa.Array]:
        with self._lock:
            read = self._file.read_row_group(group, names, use_threads=False)
        return {name: read[name].combine_chunks() for name in names}


def find(
    segments: Sequence[ObservedRows],
    client: str,
    lines: Sequence[tuple[str, str]],
    *,
    gone: NDArray[np.int64] = NO_NUMBERS,
    delivered: NDArray[np.int32] | None = None,
) -> list[Observation]:
    """Return the observations of a client, in the order of their times.

    A single one has no features, because it is compared with none.

    lines: (time, source) of each line of ingestedfiles.txt; gone: sorted numbers of rows to leave out
    delivered: the line that delivered each row, if the segments do not name it, -1 if unknown
    """
    there = [(each, rows) for each in segments for rows in each.find(client)]
    places = [
        (rows.values["number"][i], part, i)
        for part, (_, rows) in enumerate(there)
        for i in range(len(rows.places))
    ]
    places = [each for each in sorted(places) if not _is_among(each[0], gone)]
    features: list[list[dict[str, Any]]] = [[{}] * len(rows.places) for _, rows in there]
    if len(places) > 1:
        features = [each.read_features(rows) for each, rows in there]
    observations = []
    for number, part, i in places:
        values = there[part][1].values
        at = values["delivered"][i] if "delivered" in values else _at(delivered, number)
        line = lines[at] if 0 <= at < len(lines) else ("", "")
        outcome = values["outcome"][i] if "outcome" in values else None
        churned = None if outcome is None else outcome == 1
        time = values["time"][i] if "time" in values else ""
        observations.append(Observation(time, churned, *line, features[part][i]))
    return sorted(observations, key=lambda each: each.time)


def _is_among(number: int, numbers: NDArray[np.int64]) -> bool:
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and numbers[place] == number


def _at(delivered: NDArray[np.int32] | None, number: int) -> int:
    return int(delivered[number]) if delivered is not None and number < len(delivered) else -1
