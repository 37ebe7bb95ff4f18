"""The rows whose verdict is final, and those that wait for one, so that no row is judged twice.

Rows are identified by the ids of their content. Unless the rows were ingested anew, all rows with a
number below `since` are settled, except those that wait. So only later rows are read; of all others, the
counts of each group are enough.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition.monitoring import cohorts
from attrition.rows import typed_rows
from attrition.rows.known_rows import is_among
from attrition.storage import tables

# Labelled rows that were judged; inputs that were compared; labelled rows that estimates were compared
# with.
LABELLED, INPUTS, ESTIMATED = "labelled", "inputs", "estimated"
KINDS = (LABELLED, INPUTS, ESTIMATED)
SINCE, ROWS, FEATURES, GROUPS = "since", "rows", "features", "groups"
# Columns of the rows that wait: whether the outcome is not judged, and the features not compared yet.
IS_NEW, IN_BATCH = "attrition:is_new", "attrition:in_batch"
ID_AND_FLAG = {LABELLED: (typed_rows.ROW_ID, IS_NEW), INPUTS: (typed_rows.INPUT_ID, IN_BATCH)}
# More would not be more precise: the reference has a tenth of these rows, and its own noise remains.
MAX_ROWS_TO_COMPARE = 100_000
MAX_WAITING = 4_000_000  # some 80 bytes each, in memory and on disk
MAX_GROUPS = 100_000

Ids = NDArray[np.uint64]
Mask = NDArray[np.bool_]


@dataclass
class SettledRows:
    """Ids of the rows whose verdict is final: `trained` by the model, `settled` since then.

    rows: the rows that wait, sorted by number; features: of a sample of the rows in the batch, see
    `thin`; groups: the counts of all rows below `since`; all three are None if all rows must be read
    """

    trained: Mapping[str, Ids]
    settled: dict[str, Ids] = field(default_factory=dict)
    since: int = 0
    rows: pd.DataFrame | None = None
    features: pd.DataFrame | None = None
    groups: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        none = np.array([], dtype="uint64")
        self.settled = dict.fromkeys(KINDS, none) | self.settled

    def count(self) -> int:
        """Return the number of rows in all groups; it is too high if some of them are gone."""
        return int(self.groups[cohorts.ROWS].sum()) if self.groups is not None else 0

    def contains(self, kind: str, ids: Ids) -> Mask:
        return is_among(ids, self.trained[kind]) | is_among(ids, self.settled[kind])

    def add(self, kind: str, ids: Ids) -> None:
        new, old = np.unique(ids[~self.contains(kind, ids)]), self.settled[kind]
        self.settled[kind] = np.insert(old, np.searchsorted(old, new), new)

    def select(self, rows: pd.DataFrame, is_labelled: Mask) -> pd.DataFrame:
        """Return the rows that are not settled, with `IS_NEW` and `IN_BATCH`."""
        ids, inputs = (rows[name].to_numpy() for name in (typed_rows.ROW_ID, typed_rows.INPUT_ID))
        is_new = is_labelled & ~self.contains(LABELLED, ids)
        in_batch = ~self.contains(INPUTS, inputs)
        return rows.assign(**{IS_NEW: is_new, IN_BATCH: in_batch})[is_new | in_batch]

    def limit(self, numbers: NDArray[np.int64]) -> None:
        """Drop the rows that wait, except those with these sorted numbers."""
        if self.rows is not None and self.features is not None:
            self.rows, self.features = (
                frame[is_among(frame[typed_rows.NUMBER].to_numpy(), numbers)]
                for frame in (self.rows, self.features)
            )

    def find_sample(self, rows: Sequence[pd.DataFrame]) -> NDArray[np.int64]:
        """Return the sorted numbers of a sample of the batch and further rows, see `thin`."""
        names = [typed_rows.NUMBER, typed_rows.INPUT_ID, typed_rows.DELIVERED]
        batch = [frame.loc[frame[IN_BATCH], names] for frame in rows]
        old = [self.features[names]] if self.features is not None else []
        return np.asarray(thin(join([*old, *batch]))[typed_rows.NUMBER])

    def append(self, rows: Sequence[pd.DataFrame], features: Sequence[pd.DataFrame]) -> None:
        """Add rows to those that wait, and the features of those sampled."""
        old = [] if self.rows is None or self.features is None else [(self.rows, self.features)]
        self.rows = join([*(frame for frame, _ in old), *rows])
        self.features = thin(join([*(frame for _, frame in old), *features]))

    def settle(self, kind: str, is_settled: Mask) -> None:
        """Settle the outcomes or the inputs of some rows; is_settled: (n,) of `rows`."""
        assert self.rows is not None
        name, flag = ID_AND_FLAG[kind]
        self.add(kind, self.rows.loc[is_settled, name].to_numpy())
        self.rows = self.rows.assign(**{flag: self.rows[flag] & ~is_settled})

    def keep(self, since: int) -> None:
        """Keep the rows that still wait, if there are not too many; since: the next number."""
        assert self.rows is not None and self.features is not None and self.groups is not None
        waits = self.rows[IS_NEW] | self.rows[IN_BATCH]
        self.since = since if waits.sum() <= MAX_WAITING else 0
        if not self.since or len(self.groups) > MAX_GROUPS:
            self.groups = self.groups[:0]  # all of them are counted again
        self.rows = self.rows[waits & bool(self.since)]
        in_batch = self.rows.loc[self.rows[IN_BATCH], typed_rows.NUMBER].to_numpy()
        self.features = self.features[
            is_among(self.features[typed_rows.NUMBER].to_numpy(), in_batch)
        ]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {**self.settled, SINCE: np.array(self.since)}
        frames = {ROWS: self.rows, FEATURES: self.features, GROUPS: self.groups}
        return arrays | {
            name: _to_array(frame) for name, frame in frames.items() if frame is not None
        }

    def read(self, arrays: Mapping[str, NDArray[Any]], *, is_same_store: bool) -> None:
        """Restore what `to_arrays` returned, or only the ids if the rows were ingested anew.

        The same is done if an earlier version wrote the arrays, which then have no groups.
        """
        self.settled = {name: arrays[name] for name in KINDS}
        if is_same_store and GROUPS in arrays:
            self.since = int(arrays[SINCE])
            self.rows, self.features, self.groups = (
                _to_frame(arrays[name]) for name in (ROWS, FEATURES, GROUPS)
            )


def thin(rows: pd.DataFrame, most: int = MAX_ROWS_TO_COMPARE) -> pd.DataFrame:
    """Return a sample of each delivery: the rows with the smallest ids, which are hashes.

    So the sample is random, does not depend on the parts in which rows are read, and contains the sample
    of all rows together, see `smallest`.
    """
    if len(rows) <= most:
        return rows
    ids, delivered = (rows[name].to_numpy() for name in (typed_rows.INPUT_ID, typed_rows.DELIVERED))
    order = np.lexsort((ids, delivered))
    is_kept = np.empty(len(rows), dtype=bool)
    is_kept[order] = rows.iloc[order].groupby(typed_rows.DELIVERED).cumcount().to_numpy() < most
    return rows[is_kept]


def smallest(ids: NDArray[Any], most: int = MAX_ROWS_TO_COMPARE) -> Mask:
    """Return which rows have the smallest ids, at most so many: a random sample, see `thin`."""
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
