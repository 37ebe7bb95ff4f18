"""Accepted rows on disk: Parquet segments, sorted by client and row, so that few new rows cost little.

The base is `finaldata.parquet`. Beside many rows, new ones are written to a further segment, which is
merged with the next ones and at last with the base. Rows that were replaced or withdrawn stay in their
segment and are named by number in `gone.npz` until it is written anew.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.errors import Damaged
from attrition.rows import typed_rows
from attrition.rows.known_rows import is_among, sort_order
from attrition.rows.typed_rows import CLIENT_HASH, INPUT_ID, NAME_KEY, NUMBER
from attrition.storage import tables

ROWS_PER_RUN = 1 << 20
ROWS_PER_BATCH = 1 << 14
GROWTH = 4  # a new segment is merged with the previous one unless that has so many times its rows
MAX_SHARE = 0.25  # of rows outside the base, and of rows that are gone, beside those in the base


def arrival_names(columns: Columns) -> list[str]:
    """Return the columns about the arrival of a row."""
    day = [typed_rows.DAY] if columns.dates else []
    return [NUMBER, typed_rows.DELIVERED, typed_rows.OPENED, *day]


def row_names(columns: Columns) -> list[str]:
    """Return every column of a segment."""
    named = [NAME_KEY] if columns.client else [typed_rows.EQUAL_ID, typed_rows.COPY]
    texts = [typed_rows.TEXT + name for name in columns.dates]
    computed = [*typed_rows.COMPUTED, *arrival_names(columns)]
    return [*columns.table, *computed, *named, *texts]


def make_rows(
    texts: Mapping[str, pa.Array], computed: Mapping[str, Any], columns: Columns
) -> pa.Table:
    """Return rows as a segment has them.

    computed: the columns of `row_names` that do not follow from the texts
    """
    values = typed_rows.type_values(texts, columns, computed.get(typed_rows.DAY))
    dates = {typed_rows.TEXT + name: texts[name] for name in columns.dates}
    everything = {**values, **computed, **dates}
    if columns.client:
        everything[NAME_KEY] = typed_rows.name_keys(texts[columns.client])
    return pa.table({name: everything[name] for name in row_names(columns)})


def no_rows(columns: Columns) -> pa.Table:
    """Return no rows, with every column."""
    texts = {name: pa.array([], pa.string()) for name in columns.table}
    kinds = {NUMBER: "int64", typed_rows.EQUAL_ID: "uint64"}
    names = [name for name in row_names(columns) if name not in texts]
    empty = {name: np.empty(0, kinds.get(name, "int32")) for name in names}
    return make_rows(texts, {**empty, **typed_rows.compute_hashes(texts, columns)}, columns)


# ---- reading


def count_rows(path: Path) -> int:
    """Return the number of rows in a segment, including those that are gone."""
    return int(open_segment(path).metadata.num_rows)


def open_segment(path: Path, *, with_dictionaries: bool = False) -> Any:
    """Open a segment; with dictionaries, each distinct text of a row group is read once.

    Raises: Damaged.
    """
    try:
        file = tables.open_parquet(path)
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        return tables.open_parquet(path, read_dictionary=texts) if with_dictionaries else file
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{path}: cannot be read ({error})") from error


def find_groups(file: Any, low: int = 0, high: int = 2**64, since: int = 0) -> list[int]:
    """Return the row groups that may contain rows of these clients and with these numbers."""
    metadata, names = file.metadata, file.schema_arrow.names
    places = {name: names.index(name) for name in (CLIENT_HASH, NUMBER) if name in names}

    def limits(group: int, name: str) -> tuple[int, int]:
        statistics = name in places and metadata.row_group(group).column(places[name]).statistics
        return (statistics.min, statistics.max) if statistics else (0, 2**64)

    return [
        group
        for group in range(metadata.num_row_groups)
        if limits(group, CLIENT_HASH)[0] < high
        and limits(group, CLIENT_HASH)[1] >= low
        and limits(group, NUMBER)[1] >= since
    ]


def read_parts(path: Path, gone: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield a segment group by group, without rows that are gone."""
    for part in tables.read_parts(path):
        yield drop(part, gone)


def find_names(
    path: Path, name: str, keys: NDArray[np.uint64], gone: NDArray[np.int64]
) -> pa.Array:
    """Return the distinct names of clients whose `NAME_KEY` is among sorted ones."""
    file, found = open_segment(path), [pa.array([], pa.string())]
    for group in range(file.num_row_groups):
        there = file.read_row_group(group, [NAME_KEY], use_threads=False)
        if is_among(column(there, NAME_KEY), keys).any():
            rows = drop(
                file.read_row_group(group, [name, NAME_KEY, NUMBER], use_threads=False), gone
            )
            is_wanted = is_among(column(rows, NAME_KEY), keys)
            found.append(pc.unique(rows[name].combine_chunks().filter(pa.array(is_wanted))))
    return pc.unique(pa.concat_arrays(found))


def read_clients(path: Path, clients: NDArray[np.uint64]) -> Iterator[pa.Table]:
    """Yield the row groups that may contain rows of sorted clients."""
    file = open_segment(path)
    for group in find_groups(file, int(clients[0]), int(clients[-1]) + 1):
        hashes = file.read_row_group(group, [CLIENT_HASH], use_threads=False)
        if is_among(column(hashes, CLIENT_HASH), clients).any():
            yield file.read_row_group(group, use_threads=False)


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read numeric columns of a segment, one row group at a time; null becomes NaN."""
    file, arrays = open_segment(path), {}
    for name in names:
        kind = file.schema_arrow.field(name).type.to_pandas_dtype()
        arrays[name], at = np.empty(file.metadata.num_rows, kind), 0
        for group in range(file.num_row_groups):
            part = column(file.read_row_group(group, [name], use_threads=False), name)
            arrays[name][at : at + len(part)] = part
            at += len(part)
    return arrays


def drop(rows: pa.Table, gone: NDArray[np.int64]) -> pa.Table:
    """Return rows without those whose number is among sorted ones."""
    if not len(gone):
        return rows
    is_gone = is_among(column(rows, NUMBER), gone)
    return rows.filter(pa.array(~is_gone)) if is_gone.any() else rows


def column(rows: pa.Table, name: str) -> np.ndarray:
    """Return a numeric column as an array; null becomes NaN."""
    return np.asarray(rows[name].combine_chunks().to_numpy(False))


def read(
    paths: Sequence[Path],
    names: Sequence[str],
    gone: NDArray[np.int64],
    *,
    low: int = 0,
    high: int = 2**64,
    since: int = 0,
    clients: NDArray[np.uint64] | None = None,
    is_ordered: bool = True,
) -> pa.Table:
    """Read columns of segments in the order of arrival; text is dictionary-encoded.

    low, high: only rows of clients with a hash from low up to, but not including, high
    since: only rows with this number or a higher one; clients: only rows with these sorted hashes
    is_ordered: if not, in the order of the segments
    """
    is_limited = low > 0 or high < 2**64
    asked = list(dict.fromkeys([*names, NUMBER, *([CLIENT_HASH] if is_limited else [])]))
    parts = []
    for path in paths:
        file = open_segment(path, with_dictionaries=True)
        groups = find_groups(file, low, high, since)
        part = drop(_read_groups(file, groups, asked, clients), gone)
        parts.append(limit(part, low, high, since))
    rows = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    numbers = column(rows, NUMBER)
    if is_ordered and np.any(numbers[1:] < numbers[:-1]):
        rows = rows.take(pa.array(np.argsort(numbers)))
    return rows.select(names)


def _read_groups(
    file: Any, groups: Sequence[int], names: list[str], clients: NDArray[np.uint64] | None
) -> pa.Table:
    """Read columns of row groups; if clients are given, only of the groups that have rows of them."""
    if clients is None:
        return file.read_row_groups(groups, names, use_threads=False)
    parts = [file.read_row_groups([], names, use_threads=False)]
    for group in groups:
        hashes = file.read_row_group(group, [CLIENT_HASH], use_threads=False)
        is_kept = is_among(column(hashes, CLIENT_HASH), clients)
        if is_kept.any():
            rows = file.read_row_group(group, names, use_threads=False).filter(pa.array(is_kept))
            parts.append(_with_own_levels(rows))
    return pa.concat_tables(parts)


def _with_own_levels(rows: pa.Table) -> pa.Table:
    """Remove the texts of other rows from the dictionaries of a few rows."""
    columns = [
        column.cast(pa.string()).dictionary_encode()
        if pa.types.is_dictionary(column.type)
        else column
        for column in rows.columns
    ]
    return pa.table(columns, schema=rows.schema)


def read_plain(path: Path, names: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file as they stand there; text is dictionary-encoded."""
    rows = open_segment(path, with_dictionaries=True).read(names, use_threads=False)
    return rows.unify_dictionaries().combine_chunks()


def limit(rows: pa.Table, low: int, high: int, since: int) -> pa.Table:
    """Return the rows of some clients, and with some numbers, see `read`."""
    is_kept = np.ones(len(rows), bool)
    if low > 0 or high < 2**64:
        hashes = column(rows, CLIENT_HASH)
        is_kept &= (hashes >= np.uint64(low)) & (hashes <= np.uint64(high - 1))
    if since:
        is_kept &= column(rows, NUMBER) >= since
    return rows if is_kept.all() else rows.filter(pa.array(is_kept))


# ---- sorting


def sort_rows(rows: pa.Table) -> pa.Table:
    order = pa.array(sort_order(column(rows, CLIENT_HASH), column(rows, INPUT_ID)))
    # only one column at a time is there three times: in chunks, in one piece and sorted
    return pa.table({name: rows[name].combine_chunks().take(order) for name in rows.schema.names})


class RowSpool:
    """Rows in any order, which wait sorted on disk beyond `ROWS_PER_RUN`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, ExitStack()
        self._spools: list[Any] = []
        self._waiting: list[pa.Table] = []
        self._count = self._unsorted = 0

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._files.close()

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._count += len(rows)
        self._unsorted += len(rows)
        if self._unsorted >= ROWS_PER_RUN:
            self._spill()

    def _spill(self) -> None:
        rows = sort_rows(pa.concat_tables(self._waiting))
        spool = self._files.enter_context(tables.make_spool(self._folder))
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with pa.ipc.new_stream(spool, rows.schema, options=options) as writer:
            writer.write_table(rows, max_chunksize=ROWS_PER_BATCH)
        self._spools.append(spool)
        self._waiting, self._unsorted = [], 0

    def runs(self, gone: NDArray[np.int64]) -> list[Iterator[pa.Table]]:
        """Return sorted runs of the rows that are not gone."""
        runs = [_read_run(spool, gone) for spool in self._spools]
        if self._waiting:
            rows = sort_rows(drop(pa.concat_tables(self._waiting), gone))
            runs.append(iter([rows]))
        return runs


def _read_run(spool: Any, gone: NDArray[np.int64]) -> Iterator[pa.Table]:
    spool.seek(0)
    with pa.ipc.open_stream(spool) as reader:
        for batch in reader:
            yield drop(pa.Table.from_batches([batch]), gone)


class _Run:
    """The rows of a sorted run that are next."""

    def __init__(self, parts: Iterator[pa.Table]) -> None:
        self._parts = parts
        self.rows: pa.Table | None = None
        self.read()

    def read(self) -> bool:
        """Add the next rows of the run; return whether there were any."""
        for part in self._parts:
            if len(part):
                self.rows = pa.concat_tables([self.rows, part]) if self.rows else part
                return True
        return False

    @property
    def last(self) -> int:
        assert self.rows is not None
        return int(self.rows[CLIENT_HASH][-1].as_py())

    def take(self, last: int) -> pa.Table:
        """Remove and return all rows up to a client."""
        while self.last <= last and self.read():
            pass
        assert self.rows is not None
        count = int(np.searchsorted(column(self.rows, CLIENT_HASH), np.uint64(last), side="right"))
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        if not len(self.rows):
            self.rows = None
            self.read()
        return taken


def merge(runs: Sequence[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of sorted runs in their order; few of each run are in memory at a time."""
    waiting = [run for run in map(_Run, runs) if run.rows is not None]
    while waiting:
        last = min(run.last for run in waiting)
        parts = [run.take(last) for run in waiting]
        waiting = [run for run in waiting if run.rows is not None]
        parts = [part for part in parts if len(part)]
        yield sort_rows(pa.concat_tables(parts)) if len(parts) > 1 else parts[0]


def choose_merged(counts: Sequence[int], new: int, gone: int) -> int:
    """Return from which segment on all are written anew, together with new rows.

    counts: of rows in each segment, the base first; gone: how many of these rows are gone

    >>> choose_merged([1000000], 500, 0), choose_merged([1000000, 20000, 700], 500, 0)
    (1, 2)
    >>> choose_merged([1000000, 2000, 700], 2000, 0), choose_merged([1000000, 200000], 500, 60000)
    (1, 0)
    """
    base, *others = counts or [0]
    live = sum(counts) + new - gone
    if live <= tables.ROW_GROUP or sum(others) + new + gone > MAX_SHARE * base:
        return 0
    first, size = len(counts), new
    while new and first > 1 and counts[first - 1] < GROWTH * size:
        first -= 1
        size += counts[first]
    return first
