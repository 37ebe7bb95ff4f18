"""The state of ingestion: the verdict on every source so far, and every row, at any size.

A row is identified by a digest of its canonical line without the outcome. Rows stay on disk: new ones
wait in an unnamed spool until `Ledger.write` commits all files and their record as one. Every count is
checked against the rows before anything is written, so no row is lost in between.
"""

import csv
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cached_property
from itertools import compress, count, islice, pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import DEFAULT_DIALECT, Config, Dialect
from attrition.data.cells import NAME_LENGTH, day_number, readers
from attrition.data.spelling import Spelling, choose_spelling, read_spelling
from attrition.errors import AttritionError, Damaged, Unaccounted
from attrition.rows import typed_rows
from attrition.rows.name_variants import find_variants
from attrition.storage import files, history, tables

logger = logging.getLogger(__name__)

SETTINGS = ("columns", "missing_markers", "max_days_ahead")
ACCEPTED, QUARANTINED, SKIPPED, DEFERRED = "accepted", "quarantined", "skipped", "deferred"
STATE = ("marks", "watermarks", "accepted", "dialects")
COUNTS = ("records", "accepted", "rejected", "duplicates")
REJECTED_HEADER = ("ingested_at", "source", "line", "reason", "raw")
WITHDRAWN_HEADER = ("withdrawn_at", "source")
OPEN, NEVER = "", -1
DIGEST_BYTES = 16
ROWS_PER_PART = 1 << 18

Digest = bytes


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


def digest(key: bytes) -> Digest:
    """Return the identity of a row: a 128-bit hash of its canonical line without the outcome."""
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def split_number(key: bytes) -> tuple[bytes, int]:
    """Return the canonical line of a row without a client, and its number among rows equal to it.

    >>> split_number(b"0a1b-2,7,8"), split_number(b"0a1b,7,8")
    ((b'0a1b,7,8', 2), (b'0a1b,7,8', 1))
    """
    name, comma, rest = key.partition(b",")
    name, _, number = name.partition(b"-")
    return name + comma + rest, int(number or 1)


def numbered(key: Digest, number: int) -> Digest:
    """Return the identity of the row with a number among equal rows without a client."""
    return key if number == 1 else digest(key + str(number).encode())


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
    **{"replaced": 0, "withdrawn": 0, "files": 0, "generation": 0},
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

    def __init__(self, config: Config, record: files.Record | None = None) -> None:
        self.config, self.record = config.limited_to(*SETTINGS), record
        self.lines: dict[tuple[str, str], Line] = {}
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
        self.outputs: frozenset[str] = frozenset(start["outputs"])
        self.new_lines: list[Line] = []
        self.unavailable: list[str] = []
        self.deferred = 0
        self.superseded: set[tuple[str, str]] = set()  # lines of rejected.csv: time and source
        self.starts_anew = record is None
        self.is_adopted = False
        self._spools = ExitStack()
        # Of rows without a client: the numbers of equal rows, and the highest number of each name.
        self.equals: dict[Digest, set[int]] = {}
        self.numbers: dict[bytes, int] = {}
        self._number = -1  # of the line whose rows are added now
        self._delivered: list[int] = []
        self._opened: list[int] = []
        self._day, self._days = 0, list[int]()
        self._gone: Counter[Digest] = Counter()
        self._withdrawn: dict[Digest, tuple[str, str]] = {}
        self._is_kept = bytearray()

    def begin_anew(self) -> "Ledger":
        """Return an empty ledger that follows this one, for a run that reads every source again."""
        empty = Ledger(self.config)
        empty.generation, empty.previous = self.generation, self.previous
        empty.accepted = self.accepted
        return empty

    # so far

    @cached_property
    def rows(self) -> dict[Digest, str]:
        """The outcome of every row; read only when a source has news."""
        outcomes: dict[Digest, str] = {}
        if not self.starts_anew:
            with self.config.final_data.open("rb") as file:
                next(file)
                for line in file:
                    key, _, outcome = line.rstrip(b"\n").rpartition(b",")
                    outcomes[self._identify(key)] = outcome.decode()
                    self._enter_number(key)
        return outcomes

    def _identify(self, key: bytes) -> Digest:
        """Return the identity of a row from its line without the outcome."""
        if self.config.columns.client:
            return digest(key)
        bare, number = split_number(key)
        return numbered(digest(bare), number)

    def _enter_number(self, key: bytes) -> None:
        if not self.config.columns.client:
            (bare, number), name = split_number(key), key[:NAME_LENGTH]
            self.equals.setdefault(digest(bare), set()).add(number)
            self.numbers[name] = max(number, self.numbers.get(name, 0))

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
    def owned(self) -> dict[str, set[Digest]]:
        """The rows that each table, by its place, contained when it was last read."""
        if self.config.table_rows.name not in self.outputs:
            return {}
        arrays = files.read_arrays(self.config.table_rows)
        return {place: {row.tobytes() for row in rows} for place, rows in arrays.items()}

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
        known = (self.record or {}).get("name_variants")
        count = 0 if self.starts_anew or known is None else int(known)
        if not self.config.columns.client or not (self._delivered or known is None):
            return count, []
        earlier = self._earlier_clients()
        added = self._distinct_clients(csv.reader(line.decode() for line in self._added_lines()))
        unseen = added.filter(pc.invert(pc.is_in(added, value_set=earlier)))
        if known is not None and not len(unseen):
            return count, []
        if known is None:  # an earlier version compared none
            earlier, unseen = earlier[:0], pa.concat_arrays([earlier, unseen])
        return find_variants(earlier, unseen)

    def _earlier_clients(self) -> pa.Array:
        if self.starts_anew:
            return pa.array([], pa.string())
        if self.config.rows.name not in self.outputs:
            return self._distinct_clients(tables.read_cells(self.config.final_data))
        name = self.config.columns.client_name
        return pc.unique(
            tables.open_parquet(self.config.rows).read([name], use_threads=False)[name]
        )

    def _distinct_clients(self, rows: Iterable[Sequence[str]]) -> pa.Array:
        """Return the distinct names of clients of rows of text; the client is the first column."""
        names, rows = pa.array([], pa.string()), iter(rows)
        while block := [row[0] for row in islice(rows, tables.ROW_GROUP)]:
            names = pc.unique(pa.concat_arrays([names, pa.array(block, pa.string())]))
        return names

    # what a run adds

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
        self._number = list(self.lines).index((line.source, line.sha256))
        self.new_lines.append(line)
        if self.config.columns.dates:
            self._day = int(day_number(newest_time or line.ingested_at))
        return True

    def add_rows(self, digests: Iterable[Digest], outcomes: Iterable[str], text: Any) -> None:
        """Add accepted rows of the line entered last; a new version of a row replaces the old one."""
        for key, outcome in zip(digests, outcomes, strict=True):
            self._delivered.append(self._number)
            self._opened.append(self._number if outcome == OPEN else NEVER)
            self._days.append(self._day)
            if key in self.rows:
                self._gone[key] += 1
                self.replaced += 1
            self.rows[key] = outcome
        lines = [f"{line}\n".encode() for line in text]
        for line in lines:
            self._enter_number(line[: line.rindex(b",")])
        self._added.writelines(lines)

    def add_booleans(self, booleans: Mapping[str, Sequence[str]]) -> None:
        """Remember how a source spells the boolean columns about which no earlier one decided."""
        self.spelling = self.spelling._replace(booleans={**self.spelling.booleans, **booleans})

    def add_refusals(self, rows: Iterable[Iterable[object]]) -> None:
        """Append lines to rejected.csv."""
        self._rejected.write(tables.csv_bytes(rows))

    def withdraw(self, rows: Iterable[Digest], source: str, now: str) -> int:
        """Move rows that are gone from their table to withdrawn.csv; return how many."""
        count = 0
        for key in rows:
            del self.rows[key]
            self._gone[key] += 1
            self._withdrawn[key] = (now, source)
            count += 1
        self.withdrawn += count
        return count

    @property
    def has_news(self) -> bool:
        """Return whether writing would change anything."""
        if self.record is None or self.new_lines or self.is_adopted:
            return True
        if self.config.rows.name not in self.outputs:  # it is damaged
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
        lines = self.lines.values()
        totals = {name: sum(getattr(line, name) for line in lines) for name in COUNTS}
        self._check_rows(
            totals["accepted"] - self.replaced - self.withdrawn, "the sources add up to"
        )
        owned = {
            place: np.frombuffer(b"".join(sorted(rows)), "uint8").reshape(-1, DIGEST_BYTES)
            for place, rows in sorted(self.owned.items())
        }
        # In this order: writing all rows decides which are kept and which are withdrawn.
        contents: dict[Path, files.Content] = {
            self.config.final_data: self._write_rows,
            self.config.rows: self._write_typed_rows,
            self.config.withdrawn: self._write_withdrawn,
            self.config.rejected: self._write_rejected,
            self.config.ingested_files: tables.csv_bytes([Line._fields, *lines]),
            self.config.table_rows: files.arrays_bytes(**owned),
            self.config.deliveries: self._write_deliveries,
        }
        record = {
            "ingested_at": now,
            "generation": self.generation + 1,
            "previous": self.previous,
            "inputs": {"contract": contract(self.config)},
            "marks": self.marks,
            "watermarks": self.watermarks,
            "accepted": self.accepted,
            "dialects": self.dialects,
            **self.spelling._asdict(),
            "name_variants": self.name_variants[0],
            "unused": [one._asdict() for one in self.unused],
            "rows": len(self.rows),
            "files": self.files,
            "replaced": self.replaced,
            "withdrawn": self.withdrawn,
            "totals": totals,
            "sources": len(lines),
        }
        record = files.commit(self.config.ingestion_record, contents, record)
        row = {"generation": record["generation"], "seal": record["seal"], "at": now}
        history.save(self.config.history, "generations", [row])
        return record

    def _check_rows(self, count: int, source: str) -> None:
        if count != len(self.rows):
            raise Unaccounted(
                f"{self.config.final_data}: expected {len(self.rows)} rows, but {source} {count}; "
                "nothing was written"
            )

    def _write_rows(self, file: IO[bytes]) -> None:
        """Write every row that is kept: the old ones in their order, then the new ones."""
        gone, deliveries = self._gone.copy(), self._deliveries
        kept_from_first = [deliveries[name] for name in deliveries if name != typed_rows.DELIVERED]
        first: dict[Digest, int] = {}
        self._withdrawn_lines: list[tuple[str, ...]] = []
        self._is_kept = bytearray()
        file.write(tables.csv_bytes([self.config.columns.table]))
        for i, line in enumerate(self._all_lines()):
            is_gone = False
            if gone:
                key = self._identify(line[: line.rindex(b",")])
                if key in gone:
                    for numbers in kept_from_first:
                        numbers[i] = numbers[first.setdefault(key, i)]
                if is_gone := gone[key] > 0:
                    gone[key] -= 1
                    if not gone[key] and key in self._withdrawn:  # its last version
                        cells = next(csv.reader([line.decode()]))
                        self._withdrawn_lines.append((*self._withdrawn[key], *cells))
            self._is_kept.append(not is_gone)
            if not is_gone:
                file.write(line)
        self._check_rows(sum(self._is_kept), "the file would have")

    def _all_lines(self) -> Iterator[bytes]:
        if not self.starts_anew:
            with self.config.final_data.open("rb") as old:
                next(old)
                yield from old
        yield from self._added_lines()

    def _added_lines(self) -> Iterator[bytes]:
        self._added.seek(0)
        yield from self._added

    @cached_property
    def _deliveries(self) -> dict[str, np.ndarray]:
        """The numbers of the lines that delivered each row: last, and first without an outcome.

        If there are columns of dates, also the day from which they count if the row has no time.
        """
        added = {typed_rows.DELIVERED: self._delivered, typed_rows.OPENED: self._opened}
        added |= {typed_rows.DAY: self._days} if self.config.columns.dates else {}
        old = {name: np.empty(0, "int32") for name in added}
        if not self.starts_anew:
            old = _read_deliveries(self.config, self.outputs)
        return {name: np.append(old[name], np.array(added[name], "int32")) for name in added}

    def _write_deliveries(self, file: IO[bytes]) -> None:
        kept = np.frombuffer(self._is_kept, bool)
        arrays = {name: numbers[kept] for name, numbers in self._deliveries.items()}
        file.write(files.arrays_bytes(**arrays))

    def _write_typed_rows(self, file: IO[bytes]) -> None:
        """Write the same rows in the same order, typed; copy those that were typed before."""
        tables.write_parquet(file, self._typed_parts(), unique=typed_rows.COMPUTED)

    def _typed_parts(self) -> Iterator[Any]:
        columns, old, lines = self.config.columns, 0, self._all_lines()
        days = self._deliveries.get(typed_rows.DAY)
        yield typed_rows.type_lines(b"", columns)
        if self.config.rows.name in self.outputs:
            lines = self._added_lines()
            for part in tables.read_parts(self.config.rows):
                is_kept = np.frombuffer(self._is_kept, bool, len(part), old)
                yield part if is_kept.all() else part.filter(pa.array(is_kept))
                old += len(part)
        kept = compress(lines, memoryview(self._is_kept)[old:])
        if days is not None:
            days = days[old:][np.frombuffer(self._is_kept, bool)[old:]]
        for start in count(0, tables.ROW_GROUP):
            if not (block := list(islice(kept, tables.ROW_GROUP))):
                return
            own = None if days is None else days[start : start + len(block)]
            yield typed_rows.type_lines(b"".join(block), columns, own)

    def _write_withdrawn(self, file: IO[bytes]) -> None:
        header = tables.csv_bytes([(*WITHDRAWN_HEADER, *self.config.columns.table)])
        self._begin_file(file, self.config.withdrawn, header)
        file.write(tables.csv_bytes(self._withdrawn_lines))

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
    return config.limited_to(*SETTINGS).fingerprint()


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
    if wrong == {config.rows.name}:
        logger.warning("%s: is not what was written; it is written again", config.rows)
        kept = {name: digest for name, digest in record["outputs"].items() if name not in wrong}
        record = {**record, "outputs": kept}
    elif wrong:
        raise Damaged(f"{folder}: {', '.join(sorted(wrong))} not as written; {advice}")
    ledger = Ledger(config, record)
    own = ledger.generation
    if newest > own or (newest == own > 0 and seal != ledger.previous):
        ledger.generation, ledger.is_adopted = max(own, newest), True
        if not adopt:
            raise Damaged(
                f"{folder}: is generation {own} of {record['ingested_at']}, but another one, {newest}, "
                "was written last. If a backup was restored, run python ingestion.py --adopt to "
                "continue from it and to read the other sources again"
            )
    for line in read_lines(config):
        ledger.enter(line)
    return ledger


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


def read_lineage(config: Config) -> int | None:
    """Return what the numbers of rows belong to: another one if all rows were ingested anew.

    None if an earlier version ingested the rows, whose numbers may change.
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
    return files.sha256_file(config.final_data)


def split_rows(config: Config, rows_per_part: int = ROWS_PER_PART) -> list[Part]:
    """Split all rows into parts of about so many rows; there is at least one."""
    record = files.read_record(config.ingestion_record) or {}
    count = max(1, round(record.get("rows", 0) / rows_per_part))
    ends = [i * 2**64 // count for i in range(count + 1)]
    return [Part(low, high) for low, high in pairwise(ends)]


def read_rows(
    config: Config, names: Iterable[str], *, part: Part | None = None, since: int = 0
) -> pd.DataFrame:
    """Read the named columns of every row, typed (see `typed_rows.typed` and `typed_rows.COMPUTED`).

    The rows are in the order of their arrival, which `typed_rows.NUMBER` counts. `DELIVERED` and
    `OPENED` are the numbers of the lines (see `read_lines`) that delivered the row last, and first
    without an outcome, `NEVER` if it always had one.

    part: only rows of these clients; since: only rows with this number or a higher one

    Raises: AttritionError before the first ingestion, Damaged if a file is not what was ingested.
    """
    record = files.read_record(config.ingestion_record)
    outputs = record["outputs"] if record else {}
    if config.rows.name not in outputs:
        raise AttritionError(f"{config.rows}: is not there yet; run ingestion.py first")
    names = list(dict.fromkeys(names))
    asked = [
        *names,
        *([typed_rows.CLIENT_HASH] if part and typed_rows.CLIENT_HASH not in names else []),
    ]
    numbers = [name for name in asked if name in (typed_rows.DELIVERED, typed_rows.OPENED)]
    for path in (config.final_data, config.rows, *([config.deliveries] if numbers else [])):
        if path.name in outputs and files.sha256_file(path) != outputs[path.name]:
            raise Damaged(f"{path}: is not what was ingested; run fullprocess.py")
    rows = tables.read_parquet(
        config.rows, [name for name in asked if name not in (*numbers, typed_rows.NUMBER)]
    )
    arrays = _read_deliveries(config, outputs) if numbers else {}
    arrays[typed_rows.NUMBER] = np.arange(len(rows))
    rows = rows.assign(**{name: arrays[name] for name in asked if name in arrays})
    is_kept = np.arange(len(rows)) >= since
    if part:
        hashes = rows[typed_rows.CLIENT_HASH].to_numpy()
        is_kept &= (hashes >= np.uint64(part.low)) & (hashes <= np.uint64(part.high - 1))
    return rows[names] if is_kept.all() else rows.loc[is_kept, names].reset_index(drop=True)


def _read_deliveries(config: Config, outputs: Collection[str]) -> dict[str, np.ndarray]:
    """Read the numbers of the deliveries of each row.

    If an earlier version ingested the rows, none was delivered by a known line, and those without an
    outcome count as opened by the first line.
    """
    if config.deliveries.name in outputs:
        return files.read_arrays(config.deliveries)
    with config.final_data.open("rb") as file:
        next(file)
        opened = np.array([0 if line.endswith(b",\n") else NEVER for line in file], "int32")
    return {typed_rows.DELIVERED: np.full(len(opened), NEVER, "int32"), typed_rows.OPENED: opened}
