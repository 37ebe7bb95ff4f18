"""The rows whose verdict is final, and those that wait for one, so that no row is judged twice.

Rows are known by the ids of their content. As long as the rows were not ingested anew, all rows with a
number below `since` are settled, but for those that wait, so that only rows since then are read.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition.rows import typed_rows
from attrition.storage import tables

# Labelled rows that were judged; inputs that were compared; labelled rows that estimates were compared
# with.
LABELLED, INPUTS, ESTIMATED = "labelled", "inputs", "estimated"
KINDS = (LABELLED, INPUTS, ESTIMATED)
SINCE, ROWS, FEATURES = "since", "rows", "features"
# Columns of the rows that wait: whether the outcome is not judged, and the features not compared yet.
IS_NEW, IN_BATCH = "attrition:is_new", "attrition:in_batch"
# Beyond this, no more precise: the reference has a tenth of these rows, and its own noise remains.
MAX_ROWS_TO_COMPARE = 100_000
MAX_WAITING = 4_000_000  # some 70 bytes each, in memory and on disk

Ids = NDArray[np.uint64]
Mask = NDArray[np.bool_]


@dataclass
class SettledRows:
    """Ids of the rows of which the verdict is final: those that the model knows, and those since.

    rows: the rows that wait, sorted by number; features: those of a sample of the rows in the batch,
    see `thin`; both None if all rows have to be read
    """

    trained: Mapping[str, Ids]
    settled: dict[str, Ids] = field(default_factory=dict)
    since: int = 0
    rows: pd.DataFrame | None = None
    features: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        none = np.array([], dtype="uint64")
        self.settled = dict.fromkeys(KINDS, none) | self.settled

    def contains(self, kind: str, ids: Ids) -> Mask:
        return is_in(ids, self.trained[kind]) | is_in(ids, self.settled[kind])

    def add(self, kind: str, ids: Ids) -> None:
        new, old = np.unique(ids[~self.contains(kind, ids)]), self.settled[kind]
        self.settled[kind] = np.insert(old, np.searchsorted(old, new), new)

    def keep(self, waits: Mask, since: int) -> None:
        """Keep the rows that wait, if there are not too many; waits: (n,) of `rows`."""
        assert self.rows is not None and self.features is not None
        self.since = since if waits.sum() <= MAX_WAITING else 0
        self.rows = self.rows[waits & bool(self.since)]
        in_batch = self.rows.loc[self.rows[IN_BATCH], typed_rows.NUMBER].to_numpy()
        self.features = self.features[is_in(self.features[typed_rows.NUMBER].to_numpy(), in_batch)]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {**self.settled, SINCE: np.array(self.since)}
        if self.rows is not None and self.features is not None:
            arrays |= {ROWS: _to_array(self.rows), FEATURES: _to_array(self.features)}
        return arrays

    def read(self, arrays: Mapping[str, NDArray[Any]], *, is_same_store: bool) -> None:
        """Take what `to_arrays` returned; without the numbers if the rows were ingested anew.

        An earlier version wrote ids only.
        """
        self.settled = {name: arrays[name] for name in KINDS}
        if is_same_store and SINCE in arrays:
            self.since = int(arrays[SINCE])
            self.rows, self.features = _to_frame(arrays[ROWS]), _to_frame(arrays[FEATURES])


def is_in(ids: NDArray[Any], ordered: NDArray[Any]) -> Mask:
    """Return which ids are in a sorted array: (n,) bool; few ids cost little.

    >>> is_in(np.array([5, 2, 9]), np.array([2, 3, 5])).tolist()
    [True, True, False]
    """
    if not len(ordered):
        return np.zeros(len(ids), dtype=bool)
    at = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    return np.asarray(ordered[at] == ids)


def thin(rows: pd.DataFrame, most: int = MAX_ROWS_TO_COMPARE) -> pd.DataFrame:
    """Return a sample of each delivery: the rows with the smallest ids, which are hashes.

    So it is random, the same in whatever parts the rows are read, and that of all rows is in it.
    """
    if len(rows) <= most:
        return rows
    ids, delivered = (rows[name].to_numpy() for name in (typed_rows.INPUT_ID, typed_rows.DELIVERED))
    order = np.lexsort((ids, delivered))
    is_kept = np.empty(len(rows), dtype=bool)
    is_kept[order] = rows.iloc[order].groupby(typed_rows.DELIVERED).cumcount().to_numpy() < most
    return rows[is_kept]


def smallest(ids: NDArray[Any], most: int = MAX_ROWS_TO_COMPARE) -> Mask:
    """Return which rows have the smallest ids: a sample of at most so many, see `thin`."""
    if len(ids) <= most:
        return np.ones(len(ids), dtype=bool)
    result = np.zeros(len(ids), dtype=bool)
    result[np.argpartition(ids, most)[:most]] = True
    return result


def join(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return rows of several parts in the order of their numbers."""
    filled = [frame for frame in frames if len(frame)] or [*frames[:1]]
    return pd.concat(filled).sort_values(typed_rows.NUMBER, ignore_index=True)


def _to_array(frame: pd.DataFrame) -> NDArray[np.uint8]:
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    return np.frombuffer(tables.parquet_bytes(table), dtype="uint8")


def _to_frame(array: NDArray[np.uint8]) -> pd.DataFrame:
    return tables.parse_parquet(io.BytesIO(array.tobytes()))
