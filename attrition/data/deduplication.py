"""What becomes of each record of a source: accepted, refused, a duplicate or in conflict.

A source is judged run by run; its records wait in a spool, so that one of millions costs little memory,
and that a file of which most is bad can be held back whole.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Columns
from attrition.data import ledger, schema
from attrition.data.ledger import ACCEPTED, QUARANTINED, Digest, Ledger, Line
from attrition.storage import files

CONFLICT, DUPLICATE = "conflict", "duplicate"
HELD_SHARE = 0.5
RECORDS = pa.schema(
    [("line", pa.int64()), *((n, pa.string()) for n in ("code", "reason", "raw", "key", "outcome"))]
)

K = TypeVar("K")


def merge(known: Mapping[K, str], keys: Sequence[K], outcomes: Sequence[str]) -> list[str]:
    """Say what each row is beside the rows known: "accepted", "duplicate" or "conflict".

    A row is known by all of its columns but the outcome. An outcome may arrive later (open -> stayed
    or left, stayed -> left); one that would take back that a client left is a conflict, and so are
    both outcomes for one row in one source. A row that one source brings open and with its outcome
    counts with its outcome. `known` is not changed.
    """
    told: dict[K, str] = {}
    both = {
        key
        for key, outcome in zip(keys, outcomes, strict=True)
        if outcome and told.setdefault(key, outcome) != outcome
    }
    seen: dict[K, str] = {}
    verdicts = []
    for key, outcome in zip(keys, outcomes, strict=True):
        old = seen.get(key, known.get(key))
        if outcome and key in both:
            verdict = CONFLICT
        elif not outcome and key in told and key not in both:
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


@dataclass(frozen=True)
class SourceVerdict:
    """One source, judged: its line, and every record of it in a spool, with the verdict of the good.

    `digests` and `verdicts` are of the records without a code, in their order.
    """

    line: Line
    spool: IO[bytes] | None = None
    digests: Sequence[Digest] = ()
    verdicts: Sequence[str] = ()
    outcome_name: str = ""
    unfinished: str = ""

    def batches(self) -> Iterator[tuple["pa.RecordBatch", "pa.RecordBatch", np.ndarray]]:
        """Yield all records of a run, the good ones among them, and their verdicts."""
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
        """Yield the rows to add, a run at a time: digests, outcomes, and lines of text."""
        at = 0
        for _, good, verdicts in self.batches():
            is_kept = verdicts == ACCEPTED
            rows = good.filter(pa.array(is_kept, pa.bool_()))
            lines = pc.binary_join_element_wise(rows["key"], rows["outcome"], ",").to_pylist()
            kept = np.flatnonzero(is_kept).tolist()
            yield [self.digests[at + i] for i in kept], rows["outcome"].to_pylist(), lines
            at += len(good)

    def refusals(self) -> Iterator[schema.Refusal]:
        """Yield every record that is not used, by line: the bad, those in conflict, those held."""
        is_held = self.line.verdict == QUARANTINED
        why = f"nothing wrong with this row, but {self.line.reason.rpartition('; ')[2]}"
        for batch, _, verdicts in self.batches():
            is_good = pc.equal(batch["code"], "").to_numpy(False)
            is_conflict = np.zeros(len(batch), dtype=bool)
            is_conflict[is_good] = verdicts == CONFLICT
            is_told = ~is_good | is_conflict | is_held
            records = batch.filter(pa.array(is_told)).to_pylist()
            for record, conflicts in zip(records, is_conflict[is_told], strict=True):
                code, reason = record["code"], record["reason"]
                if conflicts:
                    code = "CONFLICT"
                    outcome = f"{self.outcome_name} is {record['outcome']}"
                    reason = f"{outcome} here and the other elsewhere; row refused"
                elif not code:
                    code, reason = "HELD", why
                yield schema.Refusal(record["line"], code, reason, record["raw"])


def judge(
    table: schema.Table, columns: Columns, known: Ledger, line: Line, spool: IO[bytes]
) -> SourceVerdict:
    """Check a table, run by run, and merge it with the rows known; hold it back if most of it is bad.

    `line` is the line of the source, without its counts; a sha256 of "" is made from the records,
    whatever their order.

    Raises: Refused, and what reading the table raises.
    """
    cut = "NO_FINAL_EOL" if "NO_FINAL_EOL" in table.notes else ""
    try:
        contract = schema.Contract(table.header, columns, known.config.missing_markers)
    except schema.BadHeader as error:
        line = line._replace(verdict=QUARANTINED, reason=f"{error.code}: {error.reason}")
        return SourceVerdict(line, unfinished=cut)
    digests: list[Digest] = []
    outcomes: list[str] = []
    codes: Counter[str] = Counter()
    content, ends_short = 0, False
    with pa.ipc.new_stream(spool, RECORDS) as writer:
        for chunk in table.chunks:
            checked = contract.check(chunk)
            keys = checked.keys()
            up_to_date = [ledger.digest(key.encode()) for key in keys.to_pylist()]
            told = [sys.intern(text) for text in checked.columns[columns.outcome].to_pylist()]
            ends_short = bool(chunk.odd) and is_last_short(chunk, len(table.header))
            codes.update(refusal.code for refusal in checked.refused)
            if not line.sha256:
                content += hash_records(up_to_date, told, checked.refused)
            digests += up_to_date
            outcomes += told
            writer.write_batch(gather(checked, keys, columns.outcome))
    records = len(digests) + codes.total()
    if not line.sha256:
        text = f"{table.header} {records} {content}"
        line = line._replace(sha256=files.sha256_bytes(text.encode("utf-8", "surrogatepass")))
    verdicts = merge(known.rows, digests, outcomes)
    counts = Counter(verdicts)
    if counts[CONFLICT]:
        codes["CONFLICT"] = counts[CONFLICT]
    notes = [*table.notes, *contract.notes()]
    notes += [] if records else ["NO_ROWS"]
    notes += [f"{code}: {count}" for code, count in sorted(codes.items())]
    line = line._replace(records=records)
    if (bad := codes.total()) > HELD_SHARE * records:
        why = f"{bad} of {records} rows are bad, so none is used"
        reason = "; ".join([*notes, why])
        line = line._replace(rejected=records, verdict=QUARANTINED, reason=reason)
    else:
        duplicates = counts[DUPLICATE]
        notes += [f"DUP_ROWS: {duplicates}"] if duplicates else []
        line = line._replace(
            accepted=counts[ACCEPTED], rejected=bad, duplicates=duplicates,
            verdict=ACCEPTED, reason="; ".join(notes),
        )  # fmt: skip
    unfinished = "RAGGED_SHORT" if ends_short else cut
    return SourceVerdict(line, spool, digests, verdicts, columns.outcome, unfinished)


def is_last_short(chunk: schema.Chunk, width: int) -> bool:
    """Does the last row of a run lack fields, as that of a file does which is still being written?"""
    line, row = chunk.odd[-1]
    return len(row) < width and line > max(chunk.lines, default=0)


def gather(checked: schema.ValidatedRows, keys: "pa.Array", outcome: str) -> "pa.RecordBatch":
    """Return all records of a run, good and refused, by line."""
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
    """Add up a hash of every record: the same sum in any order, another one for a repeat."""
    good = (digest + outcome.encode() for digest, outcome in zip(digests, outcomes, strict=True))
    bad = (refusal.raw.encode("utf-8", "surrogatepass") for refusal in refused)
    return sum(int.from_bytes(ledger.digest(text)) for group in (good, bad) for text in group)
