"""Decide for each record of a source: accepted, refused, duplicate or in conflict.

A source is validated chunk by chunk and its records wait in a spool. So a source with millions of rows
needs little memory, and a file can still be quarantined as a whole if most of it is bad.
"""

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Columns
from attrition.data import schema, summary_rows
from attrition.data.cells import NAME_LENGTH
from attrition.rows import ledger
from attrition.rows.ledger import ACCEPTED, OPEN, QUARANTINED, Digest, Ledger, Line
from attrition.storage import files

CONFLICT, DUPLICATE = "conflict", "duplicate"
MAX_BAD_SHARE = 0.5
RECORDS = pa.schema(
    [("line", pa.int64()), *((n, pa.string()) for n in ("code", "reason", "raw", "key", "outcome"))]
)

K = TypeVar("K")


def merge(known: Mapping[K, str], keys: Sequence[K], outcomes: Sequence[str]) -> list[str]:
    """Classify each row as "accepted", "duplicate" or "conflict" against the rows known so far.

    All columns except the outcome identify a row. An outcome may arrive later (open -> stayed or left,
    stayed -> left). It is a conflict if a row changes from left to stayed, or if one source gives both
    outcomes for the same row. If a source contains a row both open and with an outcome, the outcome
    counts. `known` is not changed.
    """
    first: dict[K, str] = {}
    both = {
        key
        for key, outcome in zip(keys, outcomes, strict=True)
        if outcome and first.setdefault(key, outcome) != outcome
    }
    seen: dict[K, str] = {}
    verdicts = []
    for key, outcome in zip(keys, outcomes, strict=True):
        old = seen.get(key, known.get(key))
        if outcome and key in both:
            verdict = CONFLICT
        elif not outcome and key in first and key not in both:
            verdict = DUPLICATE
        elif old is None or (outcome and old not in (outcome, "1")):
            verdict = ACCEPTED
            seen[key] = outcome
        elif outcome in ("", old):
            verdict = DUPLICATE
        else:
            verdict = CONFLICT
        verdicts.append(verdict)
    return verdicts


def merge_unnamed(
    known: Ledger,
    keys: Sequence[Digest],
    names: Sequence[str],
    outcomes: Sequence[str],
    own: Collection[Digest] = (),
) -> tuple[list[str], list[int]]:
    """Classify rows of a table without clients; return the verdict and the number of each.

    Each row of a source is a client of its own, as often as it stands there, and a duplicate as often
    as it is known. A new outcome closes an open row that is equal in all columns, if there is one. Rows
    that the source contained before (`own`) are matched first, then open ones. `known` is not changed.
    """
    known_outcomes = known.rows  # reading them fills known.equals
    verdicts, numbers = [DUPLICATE] * len(keys), [0] * len(keys)
    places: dict[Digest, list[int]] = {}
    highest: dict[str, int] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)

    def add(i: int) -> None:
        name = names[i]
        highest[name] = 1 + highest.get(name, known.numbers.get(name.encode(), 0))
        verdicts[i], numbers[i] = ACCEPTED, highest[name]

    for key, rows in places.items():
        is_own = {n: ledger.numbered(key, n) in own for n in known.equals.get(key, ())}
        free: dict[str, list[int]] = {"1": [], "0": [], OPEN: []}
        for n in sorted(is_own, key=lambda n: (is_own[n], -n)):
            if (outcome := known_outcomes.get(ledger.numbered(key, n))) is not None:
                free[outcome].append(n)
        news = []
        for i in rows:
            if outcomes[i] and free[outcomes[i]]:
                numbers[i] = free[outcomes[i]].pop()
            elif outcomes[i]:
                news.append(i)
        for i in news:
            if free[OPEN]:
                verdicts[i], numbers[i] = ACCEPTED, free[OPEN].pop()
            else:
                add(i)
        others = sorted([*free["1"], *free["0"], *free[OPEN]], key=lambda n: is_own[n])
        for i in rows:
            if not outcomes[i] and others:
                numbers[i] = others.pop()
            elif not outcomes[i]:
                add(i)
    return verdicts, numbers


@dataclass(frozen=True)
class SourceVerdict:
    """The verdict on one source: its line of the account, its records in a spool, and their verdicts.

    `digests`, `verdicts` and, of rows without a client, `numbers` cover the records without a code, in
    order; `booleans` is how it spells the boolean columns about which no earlier source decided.
    """

    line: Line
    spool: IO[bytes] | None = None
    digests: Sequence[Digest] = ()
    verdicts: Sequence[str] = ()
    outcome_name: str = ""
    unfinished: str = ""
    numbers: Sequence[int] = ()
    booleans: Mapping[str, list[str]] = field(default_factory=dict)
    newest_time: str = ""

    def batches(self) -> Iterator[tuple["pa.RecordBatch", "pa.RecordBatch", np.ndarray]]:
        """Yield for each chunk: all records, the valid ones, and their verdicts."""
        if self.spool is None:
            return
        self.spool.seek(0)
        at = 0
        with pa.ipc.open_stream(self.spool) as reader:
            for batch in reader:
                good = batch.filter(pc.equal(batch["code"], ""))
                yield batch, good, np.array(self.verdicts[at : at + len(good)], dtype=object)
                at += len(good)

    def accepted(self) -> Iterator[tuple[Sequence[Digest], list[str], list[str]]]:
        """Yield the rows to add, chunk by chunk: digests, outcomes, and lines of text."""
        at = 0
        for _, good, verdicts in self.batches():
            is_kept = verdicts == ACCEPTED
            rows = good.filter(pa.array(is_kept, pa.bool_()))
            lines = pc.binary_join_element_wise(rows["key"], rows["outcome"], ",").to_pylist()
            kept = (at + np.flatnonzero(is_kept)).tolist()
            if self.numbers:
                lines = [
                    number_line(line, self.numbers[i]) for i, line in zip(kept, lines, strict=True)
                ]
            yield [self.digests[i] for i in kept], rows["outcome"].to_pylist(), lines
            at += len(good)

    def refusals(self) -> Iterator[schema.Refusal]:
        """Yield every record that is not used, by line: invalid, in conflict, or quarantined."""
        is_quarantined = self.line.verdict == QUARANTINED
        why = f"this row is valid, but {self.line.reason.rpartition('; ')[2]}"
        for batch, _, verdicts in self.batches():
            is_good = pc.equal(batch["code"], "").to_numpy(False)
            is_conflict = np.zeros(len(batch), dtype=bool)
            is_conflict[is_good] = verdicts == CONFLICT
            is_refused = ~is_good | is_conflict | is_quarantined
            records = batch.filter(pa.array(is_refused)).to_pylist()
            for record, conflicts in zip(records, is_conflict[is_refused], strict=True):
                code, reason = record["code"], record["reason"]
                if conflicts:
                    code = "CONFLICT"
                    outcome = f"{self.outcome_name} is {record['outcome']}"
                    reason = f"{outcome} here and the opposite elsewhere; row refused"
                elif not code:
                    code, reason = "HELD", why
                yield schema.Refusal(record["line"], code, reason, record["raw"])


def number_line(line: str, number: int) -> str:
    """Add its number to the name of a row without a client, if it is not the first.

    >>> number_line("0123456789abcdef,7,1", 2)
    '0123456789abcdef-2,7,1'
    """
    suffix = f"-{number}" if number > 1 else ""
    return f"{line[:NAME_LENGTH]}{suffix}{line[NAME_LENGTH:]}"


def judge(
    table: schema.Table,
    columns: Columns,
    known: Ledger,
    line: Line,
    spool: IO[bytes],
    own: Collection[Digest] = (),
) -> SourceVerdict:
    """Validate a table chunk by chunk and merge it with the known rows; quarantine it if most is bad.

    `line` is the source's line of the account without its counts. If its sha256 is "", compute it from
    the records, independent of their order. `own`: the rows that the source contained before.

    Raises: Refused, and whatever reading the table raises.
    """
    cut = "NO_FINAL_EOL" if "NO_FINAL_EOL" in table.notes else ""
    try:
        markers = known.config.missing_markers
        contract = schema.make_contract(table, columns, markers, known.spelling)
        if line.ingested_at:
            contract.latest = ledger.latest_time(line.ingested_at, known.config.max_days_ahead)
    except schema.BadHeader as error:
        line = line._replace(verdict=QUARANTINED, reason=f"{error.code}: {error.reason}")
        return SourceVerdict(line, unfinished="" if error.is_whole else cut)
    digests: list[Digest] = []
    outcomes: list[str] = []
    names: list[str] = []
    newest = ""
    codes: Counter[str] = Counter()
    content, ends_short = 0, False
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(spool, RECORDS, options=options) as writer:
        for chunk, is_last in schema.mark_last(table.chunks):
            checked = contract.check(chunk, is_last=is_last)
            keys = checked.keys()
            row_digests = [ledger.digest(key.encode()) for key in keys.to_pylist()]
            chunk_outcomes = [
                sys.intern(text) for text in checked.columns[columns.outcome].to_pylist()
            ]
            ends_short = ends_cut(chunk, checked.refused)
            codes.update(refusal.code for refusal in checked.refused)
            if not line.sha256:
                content += hash_records(row_digests, chunk_outcomes, checked.refused)
            digests += row_digests
            outcomes += chunk_outcomes
            if columns.time:
                newest = max(newest, pc.max(checked.columns[columns.time]).as_py() or "")
            if not columns.client:
                names += checked.columns[columns.client_name].to_pylist()
            writer.write_batch(gather(checked, keys, columns.outcome))
    records = len(digests) + codes.total()
    if not line.sha256:
        text = f"{table.header} {records} {content}"
        line = line._replace(sha256=files.sha256_bytes(text.encode("utf-8", "surrogatepass")))
    numbers: list[int] = []
    if columns.client:
        verdicts = merge(known.rows, digests, outcomes)
    else:
        verdicts, numbers = merge_unnamed(known, digests, names, outcomes, own)
        digests = [ledger.numbered(*row) for row in zip(digests, numbers, strict=True)]
    counts = Counter(verdicts)
    if counts[CONFLICT]:
        codes["CONFLICT"] = counts[CONFLICT]
    notes = [*table.notes, *contract.notes()]
    notes += [] if records else ["NO_ROWS"]
    notes += [f"{code}: {count}" for code, count in sorted(codes.items())]
    line = line._replace(records=records)
    refused = codes.total()
    summaries = sum(codes[code] for code in summary_rows.CODES) if digests else 0
    why = contract.find_two_dialects()
    if (bad := refused - summaries) > MAX_BAD_SHARE * (records - summaries):
        why = f"{bad} of {records - summaries} rows are bad, so none is used"
    if why:
        reason = "; ".join([*notes, why])
        line = line._replace(rejected=records, verdict=QUARANTINED, reason=reason)
    else:
        duplicates = counts[DUPLICATE]
        notes += [f"DUP_ROWS: {duplicates}"] if duplicates else []
        line = line._replace(
            accepted=counts[ACCEPTED], rejected=refused, duplicates=duplicates,
            verdict=ACCEPTED, reason="; ".join(notes),
        )  # fmt: skip
    unfinished = "RAGGED_SHORT" if ends_short else cut
    return SourceVerdict(
        *(line, spool, digests, verdicts, columns.outcome, unfinished, numbers),
        newest_time=newest,
        booleans=contract.booleans.decided,
    )


def ends_cut(chunk: schema.Chunk, refused: Sequence[schema.Refusal]) -> bool:
    """Return whether the last row of a chunk lacks fields, as if a file is still being written."""
    if not chunk.odd or not refused:
        return False
    last = refused[-1]
    return last.code == "RAGGED_SHORT" and last.line > max(chunk.lines, default=0)


def gather(checked: schema.ValidatedRows, keys: "pa.Array", outcome: str) -> "pa.RecordBatch":
    """Return all records of a chunk, valid and refused, sorted by line."""
    refused, count = checked.refused, len(keys)
    none = pa.array([""], pa.string()).take(pa.array(np.zeros(count, dtype="int64")))
    good = [pa.array(checked.lines, pa.int64()), none, none, checked.raw, keys]
    good.append(checked.columns[outcome])
    batch = pa.record_batch(good, schema=RECORDS)
    if not refused:
        return batch
    rows = [{**row._asdict(), "key": "", "outcome": ""} for row in refused]
    both = pa.concat_batches([batch, pa.RecordBatch.from_pylist(rows, RECORDS)])
    return both.sort_by("line")


def hash_records(
    digests: Iterable[Digest], outcomes: Iterable[str], refused: Iterable[schema.Refusal]
) -> int:
    """Sum a hash of every record: independent of order, but a repeated record changes it."""
    good = (digest + outcome.encode() for digest, outcome in zip(digests, outcomes, strict=True))
    bad = (refusal.raw.encode("utf-8", "surrogatepass") for refusal in refused)
    return sum(int.from_bytes(ledger.digest(text)) for group in (good, bad) for text in group)
