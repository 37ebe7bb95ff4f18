"""The observations of single clients in finaldata.parquet, found without reading all of it each time.

In memory are 17 bytes of each row: the hash of the client, time, outcome and delivery.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.storage import tables

CLIENT_HASH = "attrition:client_hash"
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
    """

    time: str
    churned: bool | None
    ingested_at: str
    source: str


class ObservedRows:
    """Hash, time and outcome of each row."""

    def __init__(self, source: Any, columns: Columns) -> None:
        """Read a path or an open file; rows of other columns than config.json names lack values."""
        file = tables.open_parquet(source)
        known = {*file.schema_arrow.names}

        def read(name: str) -> pa.Array:
            return file.read([name], use_threads=False)[name].combine_chunks()

        self._hashes: NDArray[np.uint64] = np.asarray(np.from_dlpack(read(CLIENT_HASH)))
        self._outcomes = np.full(len(self._hashes), -1, np.int8)
        if columns.outcome in known:
            filled = pc.fill_null(read(columns.outcome), -1.0).cast(pa.int8())
            self._outcomes = np.asarray(np.from_dlpack(filled))
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
        for row in np.flatnonzero(self._hashes == np.uint64(name_hash(client))).tolist():
            time = self._times[row].as_py() if self._times is not None else ""
            number = int(delivered[row]) if row < len(delivered) else -1
            line = lines[number] if 0 <= number < len(lines) else ("", "")
            outcome = int(self._outcomes[row])
            found.append(Observation(time or "", None if outcome < 0 else outcome == 1, *line))
        return sorted(found, key=lambda each: each.time)
