"""The assessed clients of each part in a file of its own, read as one table sorted by rank.

The files are Arrow's own format, in batches so small that one of each part fits in memory. Each is
sorted by risk, equal risks by name, so that all are merged in one pass.
"""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.data.clients import GROUP_ROWS, find_rows
from attrition.storage import files

BATCH_ROWS = 4_096
MERGED_ROWS = 16 * GROUP_ROWS
CLIENT_HASH = "attrition:client_hash"  # as in the rows
NOBODY: NDArray[np.uint64] = np.empty(0, "uint64")
OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class PartFile(NamedTuple):
    """A file of `write_part`; without: sorted hashes of the clients whose rows are left out."""

    path: Path
    without: NDArray[np.uint64] = NOBODY


def write_part(folder: Path, table: pa.Table) -> tuple[Path, str]:
    """Write the clients of a part, which are sorted; return the new file and its sha256.

    No two calls write to the same file, because a worker that is believed lost may still be writing
    when another one does its part.
    """
    descriptor, name = tempfile.mkstemp(".arrow", dir=folder)
    with (
        files.named(Path(name)),
        files.HashedFile(descriptor) as file,
        pa.ipc.new_file(file, table.schema, options=OPTIONS) as to,
    ):
        to.write_table(table, max_chunksize=BATCH_ROWS)
    return Path(name), file.sha256.hexdigest()


class ClientParts:
    """The files of all parts as one table; a row is a rank, from 0."""

    def __init__(self, parts: Sequence[PartFile]) -> None:
        self._files = [_OpenPart(*part) for part in parts]
        self._ends = np.cumsum([0, *(len(file) for file in self._files)])
        self.total = int(self._ends[-1])
        risk = self._stored("risk").to_numpy()
        order = np.argsort(-risk, kind="stable")
        self.order = self._sort_ties(order, risk[order]) if len(parts) > 1 else order
        self.risk = risk[self.order]

    def _stored(self, name: str) -> pa.ChunkedArray:
        """Read a column in the order in which it is stored."""
        chunks = [chunk for file in self._files for chunk in file.column(name)]
        return pa.chunked_array(chunks, self.schema.field(name).type)

    def _sort_ties(self, order: NDArray[np.intp], risk: NDArray[np.float64]) -> NDArray[np.intp]:
        """Sort clients of equal risk by name."""
        is_equal = risk[1:] == risk[:-1]
        is_tied = np.append(is_equal, False) | np.append(False, is_equal)
        if not is_tied.any():
            return order
        names = pc.take(self._stored("client"), pa.array(order[is_tied]))
        by_name = pc.sort_indices(names).to_numpy()
        at = np.argsort(-risk[is_tied][by_name], kind="stable")
        order[is_tied] = order[is_tied][by_name[at]]
        return order

    @property
    def schema(self) -> pa.Schema:
        return self._files[0].schema

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers by rank, NaN if missing."""
        column = self._stored(name)
        if pa.types.is_floating(column.type):
            column = pc.fill_null(column, np.nan)
        numbers: NDArray[Any] = column.to_numpy()[self.order]
        return numbers

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column of texts by rank as numbers into its distinct values."""
        encoded = self._stored(name).dictionary_encode().unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # of no chunk
            return np.zeros(0, np.int32), []
        return encoded.indices.to_numpy()[self.order], encoded.dictionary.to_pylist()

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        return self.numbers("client_key")

    @cached_property
    def _by_key(self) -> NDArray[np.intp]:
        return np.argsort(self.keys)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the rank of each of some clients, -1 if there is none."""
        if not self.total:
            return np.full(len(keys), -1, np.intp)
        at = np.searchsorted(self.keys, keys, sorter=self._by_key)
        rows = self._by_key[np.minimum(at, self.total - 1)]
        return np.where(self.keys[rows] == keys, rows, -1)

    def take(self, rows: Any, names: Sequence[str]) -> pa.Table:
        """Return columns of some clients in the order of these ranks."""
        at = self.order[np.asarray(rows, np.intp)]
        part = np.searchsorted(self._ends, at, side="right") - 1
        tables, places, start = [], np.empty(len(at), np.intp), 0
        for i in np.unique(part).tolist():
            own = np.flatnonzero(part == i)
            table, places[own] = self._files[i].take(at[own] - self._ends[i], names)
            places[own] += start
            start += len(table)
            tables.append(table)
        if not tables:
            return pa.schema([self.schema.field(name) for name in names]).empty_table()
        return pa.concat_tables(tables).take(pa.array(places))

    def merged(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Yield columns by rank, in blocks, and the rank at which each starts."""
        readers = [file.reader(names) for file in self._files]
        for start in range(0, max(self.total, 1), MERGED_ROWS):
            at = self.order[start : start + MERGED_ROWS]
            part = np.searchsorted(self._ends, at, side="right") - 1
            counts = np.bincount(part, minlength=len(readers))
            table = pa.concat_tables(
                reader.next(count) for reader, count in zip(readers, counts.tolist(), strict=True)
            ).combine_chunks()
            if len(readers) > 1:
                table = table.take(pa.array(np.argsort(np.argsort(part, kind="stable"))))
            yield start, table


class _OpenPart:
    """A file of `write_part`; only what is asked for is read."""

    def __init__(self, path: Path, without: NDArray[np.uint64]) -> None:
        self.path = path
        with self._open() as file:
            self.schema = file.schema
            self._batches = file.num_record_batches
            last = file.get_batch(self._batches - 1).num_rows if self._batches else 0
        self._count = max(self._batches - 1, 0) * BATCH_ROWS + last
        self._kept: NDArray[np.intp] | None = None  # the rows that are not left out
        if len(without):
            hashes = pa.chunked_array(self.column(CLIENT_HASH), pa.uint64()).to_numpy()
            self._kept = np.flatnonzero(find_rows(without, hashes) < 0)
            self._count = len(self._kept)

    def __len__(self) -> int:
        return self._count

    def _open(self, names: Sequence[str] | None = None) -> Any:
        fields = None if names is None else [self.schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        return pa.ipc.open_file(pa.OSFile(str(self.path)), options=options)

    def batches(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns from beginning to end."""
        file = self._open(names)
        for i in range(self._batches):
            batch = pa.Table.from_batches([file.get_batch(i)]).select(list(names))
            if self._kept is not None:
                first, end = np.searchsorted(self._kept, [i * BATCH_ROWS, (i + 1) * BATCH_ROWS])
                if end - first < len(batch):
                    batch = batch.take(pa.array(self._kept[first:end] - i * BATCH_ROWS))
            yield batch

    def column(self, name: str) -> Iterator[pa.Array]:
        for batch in self.batches([name]):
            yield from batch[name].chunks

    def take(
        self, rows: NDArray[np.intp], names: Sequence[str]
    ) -> tuple[pa.Table, NDArray[np.intp]]:
        """Return batches with these rows, and the places of the rows in them."""
        rows = rows if self._kept is None else self._kept[rows]
        file, wanted = self._open(names), np.unique(rows // BATCH_ROWS)
        table = pa.Table.from_batches([file.get_batch(i) for i in wanted.tolist()]).select(
            list(names)
        )
        return table, np.searchsorted(wanted, rows // BATCH_ROWS) * BATCH_ROWS + rows % BATCH_ROWS

    def reader(self, names: Sequence[str]) -> "_Reader":
        return _Reader(self.batches(names), self.schema.empty_table().select(list(names)))


class _Reader:
    """Read columns of a file from beginning to end; rest: a table of them without rows."""

    def __init__(self, batches: Iterator[pa.Table], rest: pa.Table) -> None:
        self._batches, self._rest = batches, rest

    def next(self, count: int) -> pa.Table:
        parts = [self._rest]
        while sum(map(len, parts)) < count:
            parts.append(next(self._batches))
        table = pa.concat_tables(parts)
        self._rest = table.slice(count)
        return table.slice(0, count)
