"""All that ingestion knows: the account of every source ever judged, and every row, at any size.

A row is known by a digest of its canonical line, the outcome aside. Rows themselves stay on the disk:
what is new waits in a spool without a name until `Ledger.write` commits all files and the record of
them as one. Every count is checked against the rows before it is written: nothing gets lost in between.
"""

import csv
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from itertools import compress, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from attrition.config import Config
from attrition.data import files as source_files
from attrition.data import schema
from attrition.errors import AttritionError, Damaged, Unaccounted
from attrition.storage import files, history, tables

logger = logging.getLogger(__name__)

SETTINGS = ("columns", "missing_markers")
ACCEPTED, QUARANTINED, SKIPPED, DEFERRED = "accepted", "quarantined", "skipped", "deferred"
COUNTS = ("records", "accepted", "rejected", "duplicates")
REJECTED_HEADER = ("ingested_at", "source", "line", "reason", "raw")
WITHDRAWN_HEADER = ("withdrawn_at", "source")
OPEN = ""
DIGEST_BYTES = 16

Digest = bytes


class Line(NamedTuple):
    """One line of ingestedfiles.txt: what became of one version of a source."""

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
        """What became of the records, in words."""
        return (
            f"{self.records:,} record{'s' * (self.records != 1)}, {self.accepted:,} accepted, "
            f"{self.rejected:,} refused, {self.duplicates:,} duplicate{'s' * (self.duplicates != 1)}"
        )


def digest(key: bytes) -> Digest:
    """Return what a row is known by: 128 bits of its canonical line without the outcome."""
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def check_line(line: Line) -> None:
    """Hold the one rule of the account: every record of a source has one fate.

    Raises: Unaccounted.
    """
    counted = line.accepted + line.rejected + line.duplicates
    if counted != line.records:
        raise Unaccounted(
            f"{line.source}: {line.records} records, but {line.accepted} accepted + {line.rejected} "
            f"refused + {line.duplicates} duplicates are {counted}; nothing was written"
        )


NOTHING: files.Record = {
    **{"marks": {}, "watermarks": {}, "outputs": {}, "seal": ""},
    **{"replaced": 0, "withdrawn": 0, "files": 0, "generation": 0},
}


class Ledger:
    """What was ingested so far, and what this run adds to it; nothing counts before `write`."""

    def __init__(self, config: Config, record: files.Record | None = None) -> None:
        self.config, self.record = config.limited_to(*SETTINGS), record
        self.lines: dict[tuple[str, str], Line] = {}
        self.used: dict[str, str] = {}
        self.used_names: set[str] = set()
        start = record or NOTHING
        self.marks: dict[str, str] = dict(start["marks"])
        self.watermarks: dict[str, Any] = dict(start["watermarks"])
        self.replaced, self.withdrawn = int(start["replaced"]), int(start["withdrawn"])
        self.files, self.generation = int(start["files"]), int(start["generation"])
        self.previous = str(start["seal"])
        self.outputs: frozenset[str] = frozenset(start["outputs"])
        self.new_lines: list[Line] = []
        self.unavailable: list[str] = []
        self.deferred = 0
        self.starts_anew = record is None
        self.is_adopted = False
        self._spools = ExitStack()
        self._gone: Counter[Digest] = Counter()
        self._withdrawn: dict[Digest, tuple[str, str]] = {}
        self._is_kept = bytearray()

    def begin_anew(self) -> "Ledger":
        """Return an empty ledger that follows this one, for a run that reads every source again."""
        anew = Ledger(self.config)
        anew.generation, anew.previous = self.generation, self.previous
        return anew

    # what is known

    @cached_property
    def rows(self) -> dict[Digest, str]:
        """The outcome of every row known; read when a source has news, and not before."""
        found: dict[Digest, str] = {}
        if not self.starts_anew:
            with self.config.final_data.open("rb") as file:
                next(file)
                for line in file:
                    key, _, outcome = line.rstrip(b"\n").rpartition(b",")
                    found[digest(key)] = outcome.decode()
        return found

    @cached_property
    def owned(self) -> dict[str, set[Digest]]:
        """The rows that each table, by its place, brought and still held when it was last read."""
        if self.config.table_rows.name not in self.outputs:
            return {}
        arrays = files.read_arrays(self.config.table_rows)
        return {place: {row.tobytes() for row in rows} for place, rows in arrays.items()}

    def is_known(self, source: str, sha256: str) -> bool:
        """Was this version of a source judged for good?"""
        line = self.lines.get((source, sha256))
        return line is not None and line.verdict != DEFERRED

    # what a run adds

    @cached_property
    def _added(self) -> IO[bytes]:
        return self._spools.enter_context(source_files.make_spool(self.config.output_folder))

    @cached_property
    def _rejected(self) -> IO[bytes]:
        return self._spools.enter_context(source_files.make_spool(self.config.output_folder))

    def close(self) -> None:
        """Throw away what was added and not written."""
        self._spools.close()

    def enter(self, line: Line) -> None:
        """Put a line into the account; of a source that was used, the content is remembered."""
        self.lines[line.source, line.sha256] = line
        if line.verdict == ACCEPTED:
            self.used[line.sha256] = line.source
            self.used_names.add(line.source)

    def add_line(self, line: Line) -> bool:
        """Enter a new line, unless it says no more than the account does already.

        Raises: Unaccounted.
        """
        check_line(line)
        self.deferred += line.verdict == DEFERRED
        old = self.lines.get((line.source, line.sha256))
        if old and old.verdict == line.verdict:
            return False
        self.enter(line)
        self.new_lines.append(line)
        return True

    def add_rows(self, digests: Iterable[Digest], outcomes: Iterable[str], text: Any) -> None:
        """Add accepted rows, as they are and as lines of text; one with a known key replaces it.

        The replaced line goes and the new one stands at the end, as news.
        """
        for key, outcome in zip(digests, outcomes, strict=True):
            if key in self.rows:
                self._gone[key] += 1
                self.replaced += 1
            self.rows[key] = outcome
        self._added.writelines(f"{line}\n".encode() for line in text)

    def add_refusals(self, rows: Iterable[Iterable[object]]) -> None:
        """Add lines to rejected.csv."""
        self._rejected.write(tables.csv_bytes(rows))

    def withdraw(self, rows: Iterable[Digest], source: str, now: str) -> int:
        """Take rows out that their table no longer holds; they go to withdrawn.csv. Return how many."""
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
        """Would writing change anything?"""
        if self.record is None or self.new_lines or self.is_adopted:
            return True
        # Whether there were files is remembered: an empty folder is an alarm, until it is accepted.
        if bool(self.record["files"]) != bool(self.files):
            return True
        old = (self.record["marks"], self.record["watermarks"])
        return old != (self.marks, self.watermarks)

    def write(self, now: str) -> files.Record:
        """Commit all that is known, and the record that names it, as one.

        Raises: Unaccounted when the account and the rows disagree: then nothing was written.
        """
        lines = self.lines.values()
        totals = {name: sum(getattr(line, name) for line in lines) for name in COUNTS}
        self._check_rows(totals["accepted"] - self.replaced - self.withdrawn, "the account says")
        owned = {
            place: np.frombuffer(b"".join(sorted(rows)), "uint8").reshape(-1, DIGEST_BYTES)
            for place, rows in sorted(self.owned.items())
        }
        contents: dict[
            Path, files.Content
        ] = {  # in this order: which rows are kept or withdrawn is met among all rows
            self.config.final_data: self._write_rows,
            self.config.rows: self._write_typed_rows,
            self.config.withdrawn: self._write_withdrawn,
            self.config.rejected: self._write_rejected,
            self.config.ingested_files: tables.csv_bytes([Line._fields, *lines]),
            self.config.table_rows: files.arrays_bytes(**owned),
        }
        record = {
            "ingested_at": now,
            "generation": self.generation + 1,
            "previous": self.previous,
            "inputs": {"contract": contract(self.config)},
            "marks": self.marks,
            "watermarks": self.watermarks,
            "rows": len(self.rows),
            "files": self.files,
            "replaced": self.replaced,
            "withdrawn": self.withdrawn,
            "totals": totals,
            "sources": len(lines),
        }
        record = files.commit(self.config.ingestion_record, contents, record)
        known = {"generation": record["generation"], "seal": record["seal"], "at": now}
        history.save(self.config.history, "generations", [known])
        return record

    def _check_rows(self, count: int, who: str) -> None:
        if count != len(self.rows):
            raise Unaccounted(
                f"{self.config.final_data}: {len(self.rows)} rows are known, but {who} {count}; "
                "nothing was written"
            )

    def _write_rows(self, file: IO[bytes]) -> None:
        """Write every row that counts: the old ones in their order, then what is new."""
        gone = self._gone.copy()
        self._withdrawn_lines: list[tuple[str, ...]] = []
        self._is_kept = bytearray()
        file.write(tables.csv_bytes([self.config.columns.table]))
        for line in self._all_lines():
            is_gone = False
            if gone:
                key = digest(line[: line.rindex(b",")])
                if is_gone := gone[key] > 0:
                    gone[key] -= 1
                    self._keep_withdrawn(key, line, last=not gone[key])
            self._is_kept.append(not is_gone)
            if not is_gone:
                file.write(line)
        self._check_rows(sum(self._is_kept), "those written are")

    def _all_lines(self) -> Iterator[bytes]:
        if not self.starts_anew:
            with self.config.final_data.open("rb") as old:
                next(old)
                yield from old
        yield from self._added_lines()

    def _added_lines(self) -> Iterator[bytes]:
        self._added.seek(0)
        yield from self._added

    def _write_typed_rows(self, file: IO[bytes]) -> None:
        """Write the same rows in the same order, typed; those typed before are only copied."""
        tables.write_parquet(file, self._typed_parts(), unique=schema.COMPUTED)

    def _typed_parts(self) -> Iterator[Any]:
        columns, old, lines = self.config.columns, 0, self._all_lines()
        yield schema.type_lines(b"", columns)
        if self.config.rows.name in self.outputs:
            lines = self._added_lines()
            for part in tables.read_parts(self.config.rows):
                is_kept = np.frombuffer(self._is_kept, bool, len(part), old)
                yield part if is_kept.all() else part.filter(pa.array(is_kept))
                old += len(part)
        kept = compress(lines, memoryview(self._is_kept)[old:])
        while block := list(islice(kept, tables.ROW_GROUP)):
            yield schema.type_lines(b"".join(block), columns)

    def _keep_withdrawn(self, key: Digest, line: bytes, *, last: bool) -> None:
        if last and key in self._withdrawn:
            cells = next(csv.reader([line.decode()]))
            self._withdrawn_lines.append((*self._withdrawn[key], *cells))

    def _write_withdrawn(self, file: IO[bytes]) -> None:
        header = tables.csv_bytes([(*WITHDRAWN_HEADER, *self.config.columns.table)])
        self._begin_file(file, self.config.withdrawn, header)
        file.write(tables.csv_bytes(self._withdrawn_lines))

    def _write_rejected(self, file: IO[bytes]) -> None:
        self._begin_file(file, self.config.rejected, tables.csv_bytes([REJECTED_HEADER]))
        self._rejected.seek(0)
        shutil.copyfileobj(self._rejected, file)

    def _begin_file(self, file: IO[bytes], old: Path, header: bytes) -> None:
        """Begin with what the old file holds, or with the header of a new one."""
        if old.name not in self.outputs:
            file.write(header)
        else:
            with old.open("rb") as before:
                shutil.copyfileobj(before, file)


# ---- the state on disk


def _newest_generation(config: Config) -> tuple[int, str]:
    """Return the newest record that was ever written, by its number and seal; (0, "") before that."""
    found = history.read_generations(config.history, 1)
    return (int(found[-1]["generation"]), str(found[-1]["seal"])) if found else (0, "")


def contract(config: Config) -> str:
    """Hash what decides how a row reads: under another contract everything is read again."""
    return config.limited_to(*SETTINGS).fingerprint()


def read(config: Config, *, tidy: bool = True, adopt: bool = False) -> Ledger:
    """Read what was ingested so far, verified; `tidy` finishes what a crash left.

    `adopt` takes over what a backup brought back, and goes on from there.

    Raises: Damaged when a file is not what the record says, or all of it is older than what was last
    written; nothing is ever started from scratch, or again, in silence.
    """
    folder = config.output_folder
    if tidy:
        files.make_folder(folder)
        files.finish_commit(folder)
    mend = "put the copy from a backup back, or have python fullprocess.py --repair mend it"
    newest, seal = _newest_generation(config)
    try:
        record = files.read_record(config.ingestion_record)
    except Damaged as error:
        raise Damaged(f"{error}; {mend}") from error
    if record is None:
        ours = (config.final_data, config.ingested_files, config.rejected)
        if there := [path.name for path in ours if path.exists()]:
            name = config.ingestion_record.name
            raise Damaged(f"{folder}: {', '.join(there)} without the record {name}; {mend}")
        found = Ledger(config)
        found.generation = newest
        if newest and not adopt:
            raise Damaged(
                f"{folder}: is empty, but {newest} generations of it were written; put the copy from a "
                "backup back, or run python ingestion.py --adopt to ingest every source again"
            )
        return found
    wrong = set(files.damaged_outputs(folder, record))
    if wrong == {config.rows.name}:
        logger.warning("%s: is not what was written; it is made again", config.rows)
        kept = {name: digest for name, digest in record["outputs"].items() if name not in wrong}
        record = {**record, "outputs": kept}
    elif wrong:
        raise Damaged(f"{folder}: {', '.join(sorted(wrong))} not as written; {mend}")
    found = Ledger(config, record)
    own = found.generation
    if newest > own or (newest == own > 0 and seal != found.previous):
        found.generation, found.is_adopted = max(own, newest), True
        if not adopt:
            raise Damaged(
                f"{folder}: is generation {own} of {record['ingested_at']}, but another one, {newest}, "
                "was the last to be written. If a backup was put back: python ingestion.py --adopt goes "
                "on from it, and reads again what it does not know"
            )
    for row in tables.read_cells(config.ingested_files):
        found.enter(Line(*row[:3], *map(int, row[3:7]), *row[7:]))  # type: ignore[arg-type]
    return found


def read_aside(config: Config) -> Ledger:
    """Read what was ingested so far and touch nothing, also while a run is at work.

    Raises: AttritionError.
    """
    try:
        known = read(config, tidy=False)
    except Damaged as error:
        if (config.output_folder / files.COMMITTED).is_dir():
            raise AttritionError(
                f"{config.output_folder}: a run is writing it, or was interrupted; ask again when it is "
                "done, or let python ingestion.py finish it"
            ) from error
        known = read(config, tidy=False)  # a run may have ended between two looks
    is_same = known.record is None or known.record["inputs"]["contract"] == contract(config)
    return known if is_same else known.begin_anew()


def read_rows(config: Config, names: Iterable[str]) -> pd.DataFrame:
    """Read the named columns of every row, typed (see `schema.typed` and `schema.COMPUTED`).

    Raises: AttritionError before the first ingestion, Damaged when a file is not what was ingested.
    """
    record = files.read_record(config.ingestion_record)
    outputs = record["outputs"] if record else {}
    if config.rows.name not in outputs:
        raise AttritionError(f"{config.rows}: is not there yet; run ingestion.py first")
    for path in (config.final_data, config.rows):
        if files.sha256_file(path) != outputs[path.name]:
            raise Damaged(f"{path}: is not what was ingested; run fullprocess.py")
    return tables.read_parquet(config.rows, list(dict.fromkeys(names)))
