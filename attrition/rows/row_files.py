"""Write the files of accepted rows: a segment, finaldata.csv, and what is withdrawn."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import Config
from attrition.data.schema import csv_lines
from attrition.errors import Unaccounted
from attrition.rows import segments, typed_rows
from attrition.rows.known_rows import is_among
from attrition.rows.typed_rows import NUMBER
from attrition.storage import files, tables

# Bytes, which stay in the cache of a core; 4 MB take up to three times the CPU time.
BLOCK = 1 << 18
NEW_LINE = ord("\n")
Numbers = NDArray[np.int64]


def to_lines(rows: Sequence[pa.Array]) -> bytes:
    """Return columns of text as lines of CSV.

    >>> to_lines([pa.array(["a", "b"]), pa.array(["1", ""])])
    b'a,1\\nb,\\n'
    """
    import pyarrow.csv

    table = pa.table(rows, names=[str(i) for i in range(len(rows))])
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    lines = pa.BufferOutputStream()
    try:
        pyarrow.csv.write_csv(table, lines, options)
    except pa.ArrowInvalid:  # a cell has to be quoted
        return end_lines(csv_lines(rows))
    return lines.getvalue().to_pybytes()


def end_lines(lines: pa.Array) -> bytes:
    """Return lines of text, each with its end."""
    ended = pc.binary_join_element_wise(lines, "", "\n")
    _, offsets, data = ended.buffers()
    if data is None:
        return b""
    places = np.frombuffer(offsets, "int32")[ended.offset :][: len(ended) + 1]
    return data.slice(int(places[0]), int(places[-1] - places[0])).to_pybytes()


def copy_lines(source: IO[bytes], target: IO[bytes], dropped: NDArray[np.intp]) -> int:
    """Copy the lines of a file from where it stands; return how many were written.

    dropped: sorted places of the lines that are left out
    """
    first, rest = 0, b""
    while block := source.read(BLOCK):
        block = rest + block
        end = block.rfind(b"\n") + 1
        block, rest = block[:end], block[end:]
        is_end = np.frombuffer(block, "uint8") == NEW_LINE
        count = int(np.count_nonzero(is_end))
        low, high = np.searchsorted(dropped, (first, first + count))
        if low < high:
            lengths = np.diff(np.flatnonzero(is_end), prepend=-1)
            is_kept = np.ones(count, bool)
            is_kept[dropped[low:high] - first] = False
            block = np.frombuffer(block, "uint8")[np.repeat(is_kept, lengths)].tobytes()
        target.write(block)
        first += count
    return first - len(dropped)


class Withdrawn(NamedTuple):
    """Rows that were withdrawn, by their numbers and clients."""

    at: str
    source: str
    clients: NDArray[np.uint64]
    numbers: Numbers


@dataclass
class RowFiles:
    """The rows of a commit: what is stored, what is new, and what is gone.

    stay, merged: segments; the merged ones are written anew, together with the new rows
    gone: sorted numbers of the rows that are gone; those from `first_number` on are new ones
    old_count, old_numbers: of the rows in finaldata.csv before, if any of them is gone now
    lines: the new rows as lines of CSV, or None if finaldata.csv is written from the segments
    """

    config: Config
    count: int
    new: segments.RowSpool
    lines: IO[bytes] | None
    first_number: int
    gone: Numbers
    newly_gone: Numbers
    stay: Sequence[Path]
    merged: Sequence[Path]
    old_count: int
    old_numbers: Numbers | None
    withdrawn: Sequence[Withdrawn]
    _arrivals: list[dict[str, np.ndarray]] = field(default_factory=list)
    _texts: list[tuple[Numbers, pa.Array]] = field(default_factory=list)

    def write_segment(self, file: IO[bytes]) -> None:
        """Write the new rows and those of merged segments as one segment.

        Raises: Unaccounted.
        """
        columns = self.config.columns
        runs = [segments.read_parts(path, self.gone) for path in self.merged]
        parts = segments.merge([*runs, *self.new.runs(self.gone)])
        unique = [*typed_rows.COMPUTED, NUMBER, typed_rows.EQUAL_ID, typed_rows.NAME_KEY]
        parts = chain([segments.no_rows(columns)], map(self._enter, parts))
        tables.write_parquet(file, parts, unique=unique)
        if not self.names_gone:
            self._check_segments(0)

    @property
    def names_gone(self) -> bool:
        """Return whether rows are gone that a segment which stays may contain."""
        return bool(self.stay and np.any(self.gone < self.first_number))

    def _enter(self, rows: pa.Table) -> pa.Table:
        names = segments.arrival_names(self.config.columns)
        self._arrivals.append({name: segments.column(rows, name) for name in names})
        if self.lines is None:
            texts = typed_rows.to_texts(rows, self.config.columns)
            self._texts.append((segments.column(rows, NUMBER), csv_lines([*texts.values()])))
        return rows

    def write_deliveries(self, file: IO[bytes]) -> None:
        """Write what is known of the arrival of the rows in the segment, in the order of arrival."""
        empty = segments.no_rows(self.config.columns)
        names = segments.arrival_names(self.config.columns)
        parts = [{name: segments.column(empty, name) for name in names}, *self._arrivals]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
        places = arrays[NUMBER] - arrays[NUMBER].min(initial=self.first_number)
        order = np.full(places.max(initial=-1) + 1, -1)
        order[places] = np.arange(len(places))
        order = order[order >= 0]  # as argsort, in linear time: no number is there twice
        file.write(files.arrays_bytes(**{name: values[order] for name, values in arrays.items()}))

    def write_gone(self, file: IO[bytes]) -> None:
        """Write which rows of the segments that stay are gone; check that all others are there.

        Raises: Unaccounted.
        """
        stored = self.gone[self.gone < self.first_number]
        merged = [segments.read_arrays(path, [NUMBER])[NUMBER] for path in self.merged]
        dropped = np.sort(np.concatenate([np.empty(0, "int64"), *merged]))
        left = stored[~is_among(stored, dropped)]
        file.write(files.arrays_bytes(**{NUMBER: left}))
        self._check_segments(len(left))

    def _check_segments(self, gone: int) -> None:
        written = sum(len(part[NUMBER]) for part in self._arrivals)
        self._check(sum(map(segments.count_rows, self.stay)) - gone + written)

    def write_csv(self, file: IO[bytes]) -> None:
        """Write finaldata.csv: the lines before without the rows that are gone, and the new ones.

        Raises: Unaccounted.
        """
        file.write(tables.csv_bytes([self.config.columns.table]))
        if self.lines is None:
            self._check(self._write_texts(file))
            return
        is_new = self.newly_gone >= self.first_number
        written = 0
        if self.old_numbers is not None:
            with self.config.final_data.open("rb") as before:
                next(before)
                if is_new.all():
                    shutil.copyfileobj(before, file, BLOCK)
                    written = self.old_count
                else:
                    old = np.searchsorted(self.old_numbers, self.newly_gone[~is_new])
                    written = copy_lines(before, file, old)
        self.lines.seek(0)
        written += copy_lines(self.lines, file, self.newly_gone[is_new] - self.first_number)
        self._check(written)

    def _write_texts(self, file: IO[bytes]) -> int:
        numbers = np.concatenate([np.empty(0, "int64"), *(part for part, _ in self._texts)])
        lines = pa.chunked_array([part for _, part in self._texts], pa.string()).combine_chunks()
        file.write(end_lines(lines.take(pa.array(np.argsort(numbers)))))
        return len(lines)

    def _check(self, count: int) -> None:
        if count != self.count:
            raise Unaccounted(
                f"{self.config.rows}: expected {self.count} rows, but the file would have {count}; "
                "nothing was written"
            )

    def withdrawn_lines(self) -> Iterator[tuple[str, ...]]:
        """Yield the withdrawn rows as text, in the order of their arrival."""
        sources = {
            number: (each.at, each.source)
            for each in self.withdrawn
            for number in each.numbers.tolist()
        }
        if not sources:
            return
        numbers = np.array(sorted(sources))
        clients = np.unique(np.concatenate([each.clients for each in self.withdrawn]))
        parts: list[Any] = [*self.new.runs(np.empty(0, "int64"))]
        parts += [segments.read_clients(path, clients) for path in (*self.stay, *self.merged)]
        rows = pa.concat_tables(
            [
                part.filter(pa.array(is_among(segments.column(part, NUMBER), numbers)))
                for part in chain.from_iterable(parts)
            ]
        ).sort_by(NUMBER)
        texts = typed_rows.to_texts(rows, self.config.columns)
        cells = zip(*(column.to_pylist() for column in texts.values()), strict=True)
        for number, row in zip(segments.column(rows, NUMBER).tolist(), cells, strict=True):
            yield (*sources[number], *row)
