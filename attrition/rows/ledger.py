"""The state of ingestion: the verdict on every source so far, and every row, at any size.

A row is identified by the hashes of its client and of its columns without the outcome. Rows stay on
disk in `segments`: new ones wait in unnamed spools until `Ledger.write` commits all files and their
record as one. Every count is checked against the rows before anything is written, so no row is lost in
between.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import DEFAULT_DIALECT, Columns, Config, Dialect
from attrition.data.cells import NAME_LENGTH, day_number, readers
from attrition.data.name_variants import find_variants
from attrition.data.plain_cells import has_many_levels
from attrition.data.spelling import Spelling, choose_spelling, read_spelling
from attrition.errors import AttritionError, Damaged, Unaccounted
from attrition.rows import earlier_layout, forgotten, segments, typed_rows
from attrition.rows.known_rows import (
    OPEN,
    OUTCOME,
    Identities,
    KnownRows,
    StoredArrays,
    find_repeated_values,
    is_among,
)
from attrition.rows.row_files import RowFiles, Withdrawn, to_lines
from attrition.rows.typed_rows import (
    CLIENT_HASH,
    COPY,
    DAY,
    DELIVERED,
    EQUAL_ID,
    INPUT_ID,
    NAME_KEY,
    NUMBER,
    OPENED,
)
from attrition.storage import files, history, tables

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

CONTRACT = ("columns", "missing_markers", "max_days_ahead")
SETTINGS = (*CONTRACT, "dataset_format")
ACCEPTED, QUARANTINED, SKIPPED, DEFERRED = "accepted", "quarantined", "skipped", "deferred"
STATE = ("marks", "watermarks", "accepted", "dialects")
COUNTS = ("records", "accepted", "rejected", "duplicates")
REJECTED_HEADER = ("ingested_at", "source", "line", "reason", "raw")
WITHDRAWN_HEADER = ("withdrawn_at", "source")
NEVER = -1
ROWS_PER_PART = 1 << 18
LAYOUT = 3  # of the columns in segments; rows in another one are rewritten when rows arrive
REPLACES = "attrition:replaces"  # of an accepted row: whether it is a new version of another one


class Line(NamedTuple):
    """One line of ingestedfiles.txt: the verdict on one version of a source."""

    ingested_at: str
    source: str
    sha256: str
    records: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    verdict: str = SKIPPED
    reason: str = ""

    @property
    def counted(self) -> str:
        """Return the counts as a phrase."""
        return (
            f"{self.records:,} record{'s' * (self.records != 1)}, {self.accepted:,} accepted, "
            f"{self.rejected:,} refused, {self.duplicates:,} duplicate{'s' * (self.duplicates != 1)}"
        )


class Unused(NamedTuple):
    """A source that is there and of which nothing is used, and what to do about it."""

    source: str
    code: str
    reason: str
    advice: str
    since: str


def outcome_codes(outcomes: Any) -> np.ndarray:
    """Return the code of each outcome, given as text: -1 if it is open, 0 or 1: (n,) int8."""
    codes = pc.index_in(outcomes, value_set=pa.array(["", "0", "1"]))
    return codes.to_numpy(False).astype("int8") - np.int8(1)


def _typed_codes(outcomes: np.ndarray) -> np.ndarray:
    """Return the code of each typed outcome, which is NaN if it is open: (n,) int8."""
    codes = np.full(len(outcomes), OPEN, "int8")
    np.copyto(codes, outcomes, where=~np.isnan(outcomes), casting="unsafe")
    return codes


def _no_names() -> pa.Array:
    return pa.array([], pa.string())


def number_equal(texts: Mapping[str, pa.Array], columns: Columns) -> dict[str, Any]:
    """Return `EQUAL_ID` and `COPY` of rows of text without a client, by their names."""
    name = columns.client_name
    bare = pc.utf8_slice_codeunits(texts[name], 0, NAME_LENGTH)
    copies = pc.utf8_slice_codeunits(texts[name], NAME_LENGTH + 1)
    copies = pc.if_else(pc.equal(copies, ""), "1", copies).cast(pa.int32())
    equal = typed_rows.compute_hashes({**texts, name: bare}, columns)[INPUT_ID]
    return {EQUAL_ID: equal, COPY: copies}


def check_line(line: Line) -> None:
    """Raise Unaccounted if a record of the source was counted twice or not at all."""
    counted = line.accepted + line.rejected + line.duplicates
    if counted != line.records:
        raise Unaccounted(
            f"{line.source}: {line.records} records, but {line.accepted} accepted + {line.rejected} "
            f"refused + {line.duplicates} duplicates are {counted}; nothing was written"
        )


NOTHING: files.Record = {
    **{"marks": {}, "watermarks": {}, "outputs": {}, "seal": "", "accepted": {}},
    **{"replaced": 0, "withdrawn": 0, "files": 0, "generation": 0, "rows": 0, "next_number": 0},
}


def latest_time(at: str, days: float) -> str:
    """Return the latest valid time of an observation, for comparison with canonical times.

    at: the time of ingestion

    >>> latest_time("2026-03-01T12:00:00Z", 1), latest_time("2026-03-01T12:00:00Z", 1e9)
    ('2026-03-02T12:00:00Z', '9999-12-31T23:59:59Z')
    """
    try:
        moment = datetime.fromisoformat(at).replace(tzinfo=None) + timedelta(days=days)
    except OverflowError:
        return "9999-12-31T23:59:59Z"
    return f"{moment.isoformat(timespec='seconds')}Z"


class Ledger:
    """The sources and rows ingested so far, and what this run adds; `write` saves all of it."""

    def __init__(
        self,
        config: Config,
        record: files.Record | None = None,
        damaged: Collection[str] = (),
    ) -> None:
        """damaged: segments that are not what was written; their rows are read from finaldata.csv"""
        self.config, self.record = config.limited_to(*SETTINGS), record
        self.lines: dict[tuple[str, str], Line] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self.used: dict[str, str] = {}
        self.used_names: set[str] = set()
        start = record or NOTHING
        self.marks: dict[str, str] = dict(start["marks"])
        self.watermarks: dict[str, Any] = dict(start["watermarks"])
        self.accepted: dict[str, str] = dict(start.get("accepted", {}))
        # By file: the keys of the dialect by which it was last judged, if it is not the plain one.
        self.dialects: dict[str, dict[str, Any]] = dict(start.get("dialects", {}))
        self.replaced, self.withdrawn = int(start["replaced"]), int(start["withdrawn"])
        self.files, self.generation = int(start["files"]), int(start["generation"])
        self.unused = read_unused(start)
        self.previous = str(start["seal"])
        self.outputs: dict[str, str] = dict(start["outputs"])
        self.new_lines: list[Line] = []
        self.unavailable: list[str] = []
        self.deferred = 0
        self.superseded: set[tuple[str, str]] = set()  # lines of rejected.csv: time and source
        self.starts_anew = record is None
        self.is_adopted = False
        self._spools = ExitStack()
        self._damaged = frozenset(damaged)
        # What is not stored in segments is read from finaldata.csv, and all of it is written anew.
        self._is_stored = start.get("layout") == LAYOUT and not damaged
        self.next_number = int(start["next_number" if "next_number" in start else "rows"])
        self._first_number = self.next_number
        self._number = -1  # of the line whose rows are added now
        self._day = 0
        self._gone = [np.empty(0, "int64")]
        self._withdrawn: list[Withdrawn] = []
        # Of clients: the hashes of those before this run, their names as far as they were read, and the
        # names and the keys of the new ones, some more than once.
        self._earlier_clients: list[np.ndarray] = []
        self._earlier_names: list[pa.Array] = []
        self._new_names: list[tuple[pa.Array, np.ndarray]] = []

    def begin_anew(self) -> "Ledger":
        """Return an empty ledger that follows this one, for a run that reads every source again."""
        empty = Ledger(self.config)
        empty.generation, empty.previous = self.generation, self.previous
        empty.accepted = self.accepted
        empty.next_number = empty._first_number = self.next_number
        return empty

    # so far

    @cached_property
    def gone(self) -> np.ndarray:
        """The numbers of the rows in segments that were gone before this run, sorted."""
        if not self._is_stored or self.config.gone.name not in self.outputs:
            return np.empty(0, "int64")
        return np.asarray(files.read_arrays(self.config.gone)[NUMBER])

    @cached_property
    def _segments(self) -> list[Path]:
        """The segments that are stored; none if all rows are written anew."""
        return self.config.list_segments(self.outputs) if self._is_stored else []

    @cached_property
    def rows(self) -> KnownRows:
        """The identity of every row; read only if a source has new content."""
        columns = self.config.columns
        equal = [] if columns.client else [EQUAL_ID, COPY]
        day = [DAY] if columns.dates else []
        names = [CLIENT_HASH, INPUT_ID, NUMBER, OPENED, *day, *equal]
        rows = KnownRows([*names, OUTCOME])
        if not self._is_stored and not self.starts_anew:
            for part in self._derive():
                self._new.add(part)
                rows.add(self._known(part, names))
        for path in self._segments:
            stored = StoredArrays(self._reader(path))
            self._earlier_clients.append(stored[CLIENT_HASH])
            rows.add_stored(stored)
        return rows

    def _reader(self, path: Path) -> Callable[[str], np.ndarray]:
        """Return a function that reads an array of the rows of a segment that are not gone."""
        is_live: Any = slice(None)
        if len(self.gone):
            is_live = ~is_among(segments.read_arrays(path, [NUMBER])[NUMBER], self.gone)

        def read(name: str) -> np.ndarray:
            stored = self.config.columns.outcome if name == OUTCOME else name
            values = segments.read_arrays(path, [stored])[stored][is_live]
            return _typed_codes(values) if name == OUTCOME else values

        return read

    def _known(self, rows: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
        arrays = {name: segments.column(rows, name) for name in names}
        outcome = rows[self.config.columns.outcome].combine_chunks().to_numpy(False)
        return {**arrays, OUTCOME: _typed_codes(outcome)}

    def _derive(self) -> Iterator[pa.Table]:
        """Yield all rows from finaldata.csv, typed."""
        columns, at = self.config.columns, 0
        for block in earlier_layout.read_blocks(self.config):
            texts = typed_rows.parse_lines(b"".join(block), columns)
            arrivals = {name: a[at : at + len(block)] for name, a in self._arrivals.items()}
            at += len(block)
            hashes = typed_rows.compute_hashes(texts, columns)
            hashes |= {} if columns.client else number_equal(texts, columns)
            rows = segments.make_rows(texts, {**hashes, **arrivals}, columns)
            self._earlier_clients.append(np.unique(segments.column(rows, CLIENT_HASH)))
            self._earlier_names.append(pc.unique(texts[columns.client_name]))
            yield rows

    @cached_property
    def _arrivals(self) -> dict[str, np.ndarray]:
        """Number, deliveries and, if there are dates, day of each row that is derived, in their order.

        Raises: Damaged.
        """
        if self.record is None or "next_number" not in self.record:
            return earlier_layout.read_arrivals(self.config, self.outputs)
        names, parts = segments.arrival_names(self.config.columns), []
        for path in self.config.list_segments(self.record["outputs"]):
            if path.name in self._damaged:
                parts.append(files.read_arrays(self.config.deliveries_of(path)))
            else:
                parts.append(segments.read_arrays(path, names))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
        if self.config.gone.name in self.outputs:
            gone = files.read_arrays(self.config.gone)[NUMBER]
            is_live = ~is_among(arrays[NUMBER], gone)
            arrays = {name: values[is_live] for name, values in arrays.items()}
        order = np.argsort(arrays[NUMBER])
        return {name: values[order] for name, values in arrays.items()}

    @cached_property
    def forgotten(self) -> forgotten.Forgotten:
        return forgotten.read(self.config)

    @cached_property
    def spelling(self) -> Spelling:
        """How the rows so far spell values; this run adds to its `booleans`.

        If an earlier version stored none, its rows decide: with two words for one meaning, each stays a
        level of its own, and what would be read otherwise is kept, so that no row is new again.
        """
        if self.starts_anew or self.record is None:
            return Spelling({}, {})
        if "booleans" in self.record:
            return read_spelling(self.record)
        columns = self.config.columns
        read = readers(columns, self.config.missing_markers)
        names = (columns.client, *columns.categorical, columns.manager)
        counts = {name: Counter[str]() for name in names if name}
        for row in tables.read_cells(self.config.final_data):
            texts = dict(zip(columns.table, row, strict=True))
            for name, counter in counts.items():
                counter[texts[name]] += 1
        booleans, kept = {}, {}
        for name, counter in counts.items():
            del counter[""]
            kept[name] = sorted(text for text in counter if read[name](text).value != text)
            if name in columns.categorical and counter:
                words = choose_spelling(counter)
                booleans[name] = list(words) if counter.keys() <= set(words) else []
        return Spelling(booleans, {name: texts for name, texts in kept.items() if texts})

    @cached_property
    def owned(self) -> dict[str, Identities]:
        """The rows that each table, by its place, contained when it was last read."""
        if self.config.table_rows.name not in self.outputs:
            return {}
        arrays = files.read_arrays(self.config.table_rows)
        if any(map(earlier_layout.is_digest, arrays.values())):
            return earlier_layout.find_identities(self.config, arrays)
        return {place: Identities(*rows.T) for place, rows in arrays.items()}

    def is_known(self, source: str, sha256: str, dialect: Dialect = DEFAULT_DIALECT) -> bool:
        """Return whether the verdict on this version of a source is final.

        A file that was refused is judged again in another dialect.
        """
        line = self.lines.get((source, sha256))
        if line is None or line.verdict == DEFERRED:
            return False
        return line.verdict != QUARANTINED or self.dialects.get(source, {}) == dialect.named()

    def enter_dialect(self, source: str, dialect: Dialect) -> None:
        """Remember the dialect in which a file was judged."""
        self.dialects.pop(source, None)
        if named := dialect.named():
            self.dialects[source] = named

    @cached_property
    def name_variants(self) -> tuple[int, list[list[str]]]:
        """How many groups of clients may be one client, see `name_variants`, and the new groups."""
        stored = (self.record or {}).get("name_variants")
        count = 0 if self.starts_anew or stored is None else int(stored)
        if not self.config.columns.client or not (self._new_names or stored is None):
            return count, []
        parts, earlier = self._new_names, None
        if stored is None:  # an earlier version compared none
            _ = self.rows
            keyed = [(names, typed_rows.name_keys(names)) for names in self._earlier_names]
            parts, earlier = [*keyed, *self._new_names], _no_names()
        new = pa.chunked_array([names for names, _ in parts], pa.string())
        keys = np.concatenate([np.empty(0, "uint64"), *(keys for _, keys in parts)])
        if earlier is None:
            earlier = self._find_earlier_names(np.unique(keys))
        is_variant = find_repeated_values(keys) | is_among(
            keys, np.unique(typed_rows.name_keys(earlier))
        )
        before, _ = find_variants(_no_names(), earlier)
        groups, described = find_variants(earlier, pc.unique(new.filter(pa.array(is_variant))))
        return count + groups - before, described

    def _find_earlier_names(self, keys: np.ndarray) -> pa.Array:
        """Return the distinct names with one of the keys of the clients before this run."""
        name, parts = self.config.columns.client_name, [_no_names()]
        for names in self._earlier_names:
            parts.append(names.filter(pa.array(is_among(typed_rows.name_keys(names), keys))))
        parts += [segments.find_names(path, name, keys, self.gone) for path in self._segments]
        return pc.unique(pa.concat_arrays(parts))

    # what a run adds

    @cached_property
    def _new(self) -> segments.RowSpool:
        spool = segments.RowSpool(self.config.output_folder)
        self._spools.callback(spool.close)
        return spool

    @cached_property
    def _added(self) -> IO[bytes]:
        return self._spools.enter_context(tables.make_spool(self.config.output_folder))

    @cached_property
    def _rejected(self) -> IO[bytes]:
        return self._spools.enter_context(tables.make_spool(self.config.output_folder))

    def close(self) -> None:
        """Discard additions that were not written."""
        self._spools.close()

    def enter(self, line: Line) -> None:
        """Enter a verdict; if the source was accepted, remember its content too."""
        self.lines[line.source, line.sha256] = line
        self._numbers.setdefault((line.source, line.sha256), len(self._numbers))
        if line.verdict == ACCEPTED:
            self.used[line.sha256] = line.source
            self.used_names.add(line.source)

    def add_line(self, line: Line, newest_time: str = "") -> bool:
        """Enter a new verdict; return False if the ledger contains the same one already.

        The dates of a row without a time count from the newest time of its first delivery, or, if that
        has none, from the day of ingestion.

        Raises: Unaccounted.
        """
        check_line(line)
        self.deferred += line.verdict == DEFERRED
        old = self.lines.get((line.source, line.sha256))
        is_same = old and old._replace(ingested_at="") == line._replace(ingested_at="")
        if old and (is_same or old.verdict == ACCEPTED):  # its rows are counted by that line
            return False
        if old and old.rejected:
            self.superseded.add((old.ingested_at, old.source))
        self.enter(line)
        self._number = self._numbers[line.source, line.sha256]
        self.new_lines.append(line)
        if self.config.columns.dates:
            self._day = int(day_number(newest_time or line.ingested_at))
        return True

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Add accepted rows of the line entered last; a new version of a row replaces the old one.

        rows: the columns of the table as text, `typed_rows.COMPUTED`, `REPLACES` (whether a row is a new
        version), and `EQUAL_ID` and `COPY` if there is no column of clients
        """
        columns, count = self.config.columns, len(rows)
        known = self.rows
        texts = {name: rows[name] for name in columns.table}
        computed = {
            name: rows[name] for name in rows.schema.names if name not in (*texts, REPLACES)
        }
        numbers = np.arange(self.next_number, self.next_number + count)
        self.next_number += count
        outcome = outcome_codes(texts[columns.outcome])
        arrivals = {
            NUMBER: numbers,
            DELIVERED: np.full(count, self._number, "int32"),
            OPENED: np.where(outcome == OPEN, self._number, NEVER).astype("int32"),
            **({DAY: np.full(count, self._day, "int32")} if columns.dates else {}),
        }
        pairs = {name: computed[name].to_numpy() for name in (CLIENT_HASH, INPUT_ID)}
        is_new = ~rows[REPLACES].to_numpy(False)
        if not is_new.all():
            places = known.find(*(values[~is_new] for values in pairs.values()))
            self._gone.append(known.get(NUMBER, places))
            self.replaced += len(places)
            for name in segments.arrival_names(columns)[2:]:  # those of the first version
                arrivals[name][~is_new] = known.get(name, places)
            changes = {NUMBER: numbers[~is_new], OUTCOME: outcome[~is_new]}
            known.change(places, changes)
        typed = segments.make_rows(texts, {**computed, **arrivals}, columns)
        names = [name for name in typed.schema.names if name in known.types]
        known.add({n: v[is_new] for n, v in self._known(typed, names).items()})
        if columns.client:
            keys = segments.column(typed, NAME_KEY)
            self._enter_names(texts[columns.client_name], keys, pairs[CLIENT_HASH])
        self._new.add(typed)
        self._added.write(to_lines(list(texts.values())))

    def _enter_names(self, names: pa.Array, keys: np.ndarray, clients: np.ndarray) -> None:
        """Remember the names of clients that had no row before this run."""
        is_new = np.ones(len(clients), bool)
        if not has_many_levels(names):
            is_new[:] = False
            is_new[np.unique(clients, return_index=True)[1]] = True
        for earlier in self._earlier_clients:
            is_new &= ~is_among(clients, earlier)
        if is_new.any():
            new = names if is_new.all() else names.filter(pa.array(is_new))
            self._new_names.append((new, keys[is_new]))

    def add_booleans(self, booleans: Mapping[str, Sequence[str]]) -> None:
        """Remember how a source spells the boolean columns about which no earlier one decided."""
        self.spelling = self.spelling._replace(booleans={**self.spelling.booleans, **booleans})

    def add_refusals(self, rows: Iterable[Iterable[object]]) -> None:
        """Append lines to rejected.csv."""
        self._rejected.write(tables.csv_bytes(rows))

    def withdraw(self, rows: Identities, source: str, now: str) -> None:
        """Move rows that are gone from their table to withdrawn.csv."""
        places = self.rows.find(rows.client, rows.inputs)
        numbers = self.rows.get(NUMBER, places)
        self.rows.remove(places)
        self._gone.append(numbers)
        self._withdrawn.append(Withdrawn(now, source, rows.client, numbers))
        self.withdrawn += len(rows)

    @property
    def has_news(self) -> bool:
        """Return whether writing would change anything."""
        if self.record is None or self.new_lines or self.is_adopted:
            return True
        if self._damaged or self.config.rows.name not in self.outputs:
            return True
        if (self.config.final_data.name in self.outputs) != self._has_csv:
            return True
        # Whether there were files is remembered: an empty folder is an error until it is accepted.
        if bool(self.record["files"]) != bool(self.files):
            return True
        if read_unused(self.record) != self.unused:
            return True
        old = tuple(self.record.get(name, {}) for name in STATE)
        return old != tuple(getattr(self, name) for name in STATE)

    def write(self, now: str) -> files.Record:
        """Commit all files and the record that names them as one.

        Raises: Unaccounted if the counts and the rows disagree; then nothing was written.
        """
        if not self._is_stored:
            _ = self.rows
        lines = self.lines.values()
        totals = {name: sum(getattr(line, name) for line in lines) for name in COUNTS}
        self._check_rows(
            totals["accepted"] - self.replaced - self.withdrawn, "the sources add up to"
        )
        contents, kept = self._choose_files()
        contents[self.config.ingested_files] = tables.csv_bytes([Line._fields, *lines])
        record = {
            "ingested_at": now,
            "generation": self.generation + 1,
            "lineage": self._lineage(now),
            "previous": self.previous,
            "inputs": {"contract": contract(self.config)},
            "marks": self.marks,
            "watermarks": self.watermarks,
            "accepted": self.accepted,
            "dialects": self.dialects,
            **self.spelling._asdict(),
            "name_variants": self.name_variants[0],
            "unused": [one._asdict() for one in self.unused],
            "rows": self._count(),
            "next_number": self.next_number,
            "layout": LAYOUT,
            "files": self.files,
            "replaced": self.replaced,
            "withdrawn": self.withdrawn,
            "totals": totals,
            "sources": len(lines),
        }
        outputs = {name: self.outputs[name] for name in kept}
        record = files.commit(self.config.ingestion_record, contents, record, kept=outputs)
        row = {"generation": record["generation"], "seal": record["seal"], "at": now}
        history.save(self.config.history, "generations", [row])
        return record

    def _lineage(self, now: str) -> str:
        """Return what the numbers of rows belong to, see `read_lineage`.

        Generations alone are counted from 1 again if the history is lost together with the rows.
        """
        earlier = None if self.is_adopted or self.record is None else self.record.get("lineage")
        return f"{self.generation + 1} {now}" if earlier is None else str(earlier)

    def _choose_files(self) -> tuple[dict[Path, files.Content], list[str]]:
        """Return what is written, in this order, and the names of the files that stay as they are."""
        config, rows = self.config, self._choose_rows()
        contents: dict[Path, files.Content] = {}
        if len(self._new) or rows.merged or not rows.stay:
            path = config.segment(self.generation + 1) if rows.stay else config.rows
            contents[path] = rows.write_segment
            if self._has_csv:
                contents[config.deliveries_of(path)] = rows.write_deliveries
        kept = [path.name for path in rows.stay]
        if self._has_csv:
            kept += [config.deliveries_of(path).name for path in rows.stay]
            contents[config.final_data] = rows.write_csv
        if rows.names_gone:
            contents[config.gone] = rows.write_gone
        contents[config.withdrawn] = lambda file: self._write_withdrawn(file, rows)
        contents[config.rejected] = self._write_rejected
        contents[config.table_rows] = self._write_owned
        is_same = {
            config.final_data: self.next_number == self._first_number and not self._has_gone,
            config.withdrawn: not self._withdrawn,
            config.rejected: not self.superseded and not self._rejected.tell(),
            config.table_rows: self._is_stored and "owned" not in vars(self),
        }
        for path, stays in is_same.items():
            if stays and path in contents and path.name in self.outputs:
                kept.append(path.name)
                del contents[path]
        return contents, [name for name in kept if name in self.outputs]

    def _choose_rows(self) -> RowFiles:
        """Choose which segments stay as they are and which are written anew."""
        config, newly_gone = self.config, np.sort(np.concatenate(self._gone))
        has_lines = not self._has_csv or self.starts_anew or config.final_data.name in self.outputs
        counts = [segments.count_rows(path) for path in self._segments]
        gone = np.union1d(self.gone, newly_gone)
        stored = int(np.searchsorted(gone, self._first_number))
        first = segments.choose_merged(counts, len(self._new), stored) if has_lines else 0
        return RowFiles(
            config=config,
            count=self._count(),
            new=self._new,
            lines=self._added if has_lines else None,
            first_number=self._first_number,
            gone=gone,
            newly_gone=newly_gone,
            stay=self._segments[:first],
            merged=self._segments[first:],
            old_count=int((self.record or NOTHING)["rows"]),
            old_numbers=None if self.starts_anew or not self._has_csv else self._old_numbers(),
            withdrawn=self._withdrawn,
        )

    @property
    def _has_gone(self) -> bool:
        return any(map(len, self._gone))

    def _old_numbers(self) -> np.ndarray:
        """Return the sorted numbers of the rows before this run, if any of them is gone now."""
        if not self._has_gone:
            return np.empty(0, "int64")
        if not self._is_stored:
            return self._arrivals[NUMBER]
        is_live = np.zeros(self._first_number, bool)
        for path in self._segments:
            is_live[segments.read_arrays(path, [NUMBER])[NUMBER]] = True
        is_live[self.gone] = False
        return np.flatnonzero(is_live)

    @property
    def _has_csv(self) -> bool:
        return self.config.dataset_format == "csv"

    def _count(self) -> int:
        """Return the number of rows, without reading them if none of them changed."""
        if self.starts_anew or "rows" in vars(self):
            return len(self.rows)
        return int((self.record or NOTHING)["rows"])

    def _check_rows(self, count: int, source: str) -> None:
        if count != self._count():
            raise Unaccounted(
                f"{self.config.rows}: expected {self._count()} rows, but {source} {count}; nothing was "
                "written"
            )

    def _write_owned(self, file: IO[bytes]) -> None:
        owned = sorted(self.owned.items())
        arrays = {place: np.column_stack([rows.client, rows.inputs]) for place, rows in owned}
        file.write(files.arrays_bytes(**arrays))

    def _write_withdrawn(self, file: IO[bytes], rows: RowFiles) -> None:
        header = tables.csv_bytes([(*WITHDRAWN_HEADER, *self.config.columns.table)])
        self._begin_file(file, self.config.withdrawn, header)
        file.write(tables.csv_bytes(rows.withdrawn_lines()))

    def _write_rejected(self, file: IO[bytes]) -> None:
        if self.superseded:
            rows = tables.read_cells(self.config.rejected)
            kept = (row for row in rows if (row[0], row[1]) not in self.superseded)
            file.write(tables.csv_bytes([REJECTED_HEADER]))
            while part := list(islice(kept, tables.ROW_GROUP)):
                file.write(tables.csv_bytes(part))
        else:
            self._begin_file(file, self.config.rejected, tables.csv_bytes([REJECTED_HEADER]))
        self._rejected.seek(0)
        shutil.copyfileobj(self._rejected, file)

    def _begin_file(self, file: IO[bytes], old: Path, header: bytes) -> None:
        """Copy the old file, or write the header if there is none."""
        if old.name not in self.outputs:
            file.write(header)
        else:
            with old.open("rb") as before:
                shutil.copyfileobj(before, file)


# ---- the state on disk


def _newest_generation(config: Config) -> tuple[int, str]:
    """Return the number and the seal of the last record written; (0, "") before the first."""
    rows = history.read_generations(config.history, 1)
    return (int(rows[-1]["generation"]), str(rows[-1]["seal"])) if rows else (0, "")


def contract(config: Config) -> str:
    """Hash the settings that decide how a row reads; if they change, every source is read again."""
    return config.limited_to(*CONTRACT).fingerprint()


def read(config: Config, *, tidy: bool = True, adopt: bool = False) -> Ledger:
    """Read and verify the ledger.

    tidy: complete a commit that a crash interrupted; adopt: continue from an older state, e.g. one
    restored from a backup

    Raises: Damaged if a file differs from its record, or the record is not the last one written:
    ingestion never starts again without an error.
    """
    folder = config.output_folder
    if tidy:
        files.make_folder(folder)
        files.finish_commit(folder)
    advice = "restore it from a backup, or run python fullprocess.py --repair"
    newest, seal = _newest_generation(config)
    try:
        record = files.read_record(config.ingestion_record)
    except Damaged as error:
        raise Damaged(f"{error}; {advice}") from error
    if record is None:
        ours = (config.final_data, config.ingested_files, config.rejected)
        if there := [path.name for path in ours if path.exists()]:
            name = config.ingestion_record.name
            raise Damaged(f"{folder}: {', '.join(there)} without the record {name}; {advice}")
        if newest and not adopt:
            raise Damaged(
                f"{folder}: is empty, but {newest} generations of it were written; restore it from a "
                "backup, or run python ingestion.py --adopt to ingest every source again"
            )
        ledger = Ledger(config)
        ledger.generation = newest
        return ledger
    wrong = set(files.damaged_outputs(folder, record))
    derived = {path.name for path in config.list_derived(record["outputs"])}
    if wrong - derived:
        raise Damaged(f"{folder}: {', '.join(sorted(wrong))} not as written; {advice}")
    for name in sorted(wrong):
        logger.warning("%s: is not what was written; it is written again", folder / name)
    ledger = Ledger(config, record, wrong)
    own = ledger.generation
    if newest > own or (newest == own > 0 and seal != ledger.previous):
        ledger.generation, ledger.is_adopted = max(own, newest), True
        if not adopt:
            raise Damaged(
                f"{folder}: is generation {own} of {record['ingested_at']}, but another one, {newest}, "
                "was written last. If a backup was restored, run python ingestion.py --adopt to "
                "continue from it and to read the other sources again"
            )
    if tidy:
        _remove_stale(config, record)
    for line in read_lines(config):
        ledger.enter(line)
    return ledger


def _remove_stale(config: Config, record: files.Record) -> None:
    """Remove segments that the record does not name, such as those beside a restored backup."""
    for path in config.find_segments():
        if path.name not in record["outputs"]:
            path.unlink()


def read_aside(config: Config) -> Ledger:
    """Read the ledger and change nothing, also while a run is active.

    Raises: AttritionError.
    """
    try:
        ledger = read(config, tidy=False)
    except Damaged as error:
        if (config.output_folder / files.COMMITTED).is_dir():
            raise AttritionError(
                f"{config.output_folder}: a run is writing it, or was interrupted; try again when it "
                "is done, or run python ingestion.py to finish it"
            ) from error
        ledger = read(config, tidy=False)  # a run may have ended since the files were compared
    is_same = ledger.record is None or ledger.record["inputs"]["contract"] == contract(config)
    return ledger if is_same else ledger.begin_anew()


def read_lines(config: Config) -> list[Line]:
    """Read ingestedfiles.txt; the number of a line is its place in the list."""
    cells = tables.read_cells(config.ingested_files)
    return [Line(*row[:3], *map(int, row[3:7]), *row[7:]) for row in cells]  # type: ignore[arg-type]


def read_first_day(config: Config) -> str:
    """Return the day of the first ingestion, "" before it; dates without any time count from it."""
    lines = read_lines(config) if config.ingested_files.exists() else []
    return lines[0].ingested_at[:10] if lines else ""


def read_unused(record: files.Record) -> list[Unused]:
    """Return the sources that the record of ingestion names as unused."""
    return [Unused(**one) for one in record.get("unused", [])]


def read_accepted(config: Config) -> list[str]:
    """Return the suspicious deliveries that a person accepted."""
    record = files.read_record(config.ingestion_record)
    return sorted(record.get("accepted", {})) if record else []


def read_lineage(config: Config) -> str | None:
    """Return what the numbers of rows belong to: the ingestion since which none was given twice.

    None if an earlier version ingested the rows, whose numbers change.
    """
    record = files.read_record(config.ingestion_record)
    return record.get("lineage") if record else None


def read_latest_time(config: Config) -> str:
    """Return the latest valid time of the rows ingested so far; later ones are of an earlier version."""
    record = files.read_record(config.ingestion_record)
    return latest_time(record["ingested_at"], config.max_days_ahead) if record else ""


class Part(NamedTuple):
    """The rows of the clients whose hash is in [low, high): all rows of a client are in one part."""

    low: int
    high: int


def rows_version(config: Config) -> str:
    """Return what identifies the accepted rows, "" before the first ingestion."""
    record = files.read_record(config.ingestion_record)
    if record is None:
        return ""
    outputs = record["outputs"]
    if "next_number" not in record:  # the previous version wrote them
        return files.sha256_file(config.final_data)
    paths = [*config.list_segments(outputs), config.gone]
    return files.sha256_bytes(" ".join(map(files.sha256_file, paths)).encode())


def read_seal(config: Config) -> str:
    """Return the seal of the newest ingestion, "" before the first one; the history has all seals."""
    record = files.read_record(config.ingestion_record)
    return str(record["seal"]) if record else ""


def count_rows(config: Config) -> int:
    """Return the number of accepted rows, 0 before the first ingestion."""
    record = files.read_record(config.ingestion_record)
    return int(record["rows"]) if record else 0


def read_next_number(config: Config) -> int:
    """Return the number that the next row gets; 0 if an earlier version ingested the rows."""
    record = files.read_record(config.ingestion_record) or {}
    return int(record.get("next_number", 0))


def split_rows(config: Config, rows_per_part: int = ROWS_PER_PART) -> list[Part]:
    """Split all rows into parts of about so many rows; there is at least one."""
    count = max(1, round(count_rows(config) / rows_per_part))
    ends = [i * 2**64 // count for i in range(count + 1)]
    return [Part(low, high) for low, high in pairwise(ends)]


def read_rows(
    config: Config,
    names: Iterable[str],
    *,
    part: Part | None = None,
    since: int = 0,
) -> "pd.DataFrame":
    """Read the named columns of every row, typed (see `typed_rows.typed` and `typed_rows.COMPUTED`).

    The rows are in the order of their arrival, which `typed_rows.NUMBER` counts. `DELIVERED` and
    `OPENED` are the numbers of the lines (see `read_lines`) that delivered the row last, and first
    without an outcome, `NEVER` if it always had one.

    part: only rows of these clients; since: only rows with this number or a higher one

    Raises: AttritionError before the first ingestion, Damaged if a file is not what was ingested.
    """
    return tables.to_frame(read_table(config, names, part=part, since=since))


def read_table(
    config: Config,
    names: Iterable[str],
    *,
    part: Part | None = None,
    since: int = 0,
    clients: NDArray[np.uint64] | None = None,
    is_ordered: bool = True,
) -> pa.Table:
    """Read rows as `read_rows` does, as an arrow table; text is dictionary-encoded.

    clients: only rows of clients with these sorted hashes
    is_ordered: if not, the rows are in the order in which they are stored, which costs far less

    Raises: AttritionError, Damaged.
    """
    record = files.read_record(config.ingestion_record)
    outputs = record["outputs"] if record else {}
    paths = config.list_segments(outputs)
    if not record or not paths:
        raise AttritionError(f"{config.rows}: is not there yet; run ingestion.py first")
    names = list(dict.fromkeys(names))
    is_stored = "next_number" in record
    others = [config.final_data, config.gone if is_stored else config.deliveries]
    for path in (*paths, *others):
        if path.name in outputs and files.sha256_file(path) != outputs[path.name]:
            raise Damaged(f"{path}: is not what was ingested; run fullprocess.py")
    low, high = part or Part(0, 2**64)
    if not is_stored:
        assert clients is None, "an earlier version wrote the rows"
        return earlier_layout.read(config, names, outputs, low, high, since)
    gone = np.empty(0, "int64")
    if config.gone.name in outputs:
        gone = files.read_arrays(config.gone)[NUMBER]
    limits: dict[str, Any] = {"low": low, "high": high, "since": since, "clients": clients}
    return segments.read(paths, names, gone, **limits, is_ordered=is_ordered)
