"""Decide for each record of a source: accepted, refused, duplicate or in conflict.

A source is validated chunk by chunk and its records wait in a spool. So a source with millions of rows
needs little memory, and a file can still be quarantined as a whole if most of it is bad.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Columns
from attrition.data import schema, summary_rows
from attrition.rows import ledger, typed_rows
from attrition.rows.known_rows import (
    ABSENT,
    OPEN,
    OUTCOME,
    Identities,
    KnownRows,
    find_repeated,
    find_repeated_values,
)
from attrition.rows.ledger import ACCEPTED, QUARANTINED, REPLACES, Ledger, Line, outcome_codes
from attrition.rows.typed_rows import CLIENT_HASH, COPY, EQUAL_ID, INPUT_ID, ROW_ID
from attrition.storage import files

CONFLICT, DUPLICATE = "conflict", "duplicate"
# Verdicts as codes: a row without an equal one, a new version of one, and rows that are not used.
NEW, NEWER, REPEATED, CONTRARY = range(4)
OUTCOMES = np.array(["0", "1", ""], dtype=object)  # by code
MAX_BAD_SHARE = 0.5
# The columns of a record before those of its row.
LINE, CODE, REASON, RAW = (f"attrition:{name}" for name in ("line", "code", "reason", "raw"))
# In the metadata of records: the names of their columns as delivered, in order.
DELIVERED = b"delivered"

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


def classify(
    known: KnownRows, client: np.ndarray, inputs: np.ndarray, outcome: np.ndarray
) -> np.ndarray:
    """Classify rows by the rules of `merge`; return their codes: (n,) int8.

    Only rows that are repeated within the source are classified one by one.

    client, inputs: their identities; outcome: their codes
    """
    places = known.find(client, inputs)
    before = np.full(len(client), ABSENT, "int8")
    is_known = places >= 0
    before[is_known] = known.get(OUTCOME, places[is_known])
    is_news = (outcome != OPEN) & (before != outcome) & (before != 1)
    is_same = (outcome == OPEN) | (before == outcome)
    codes = np.select([~is_known, is_news, is_same], [NEW, NEWER, REPEATED], CONTRARY).astype(
        "int8"
    )
    rows = np.flatnonzero(find_repeated(client, inputs))
    keys = list(zip(client[rows].tolist(), inputs[rows].tolist(), strict=True))
    earlier = {
        key: OUTCOMES[code]
        for key, code in zip(keys, before[rows].tolist(), strict=True)
        if code != ABSENT
    }
    verdicts = merge(earlier, keys, OUTCOMES[outcome[rows]].tolist())
    as_codes = {DUPLICATE: REPEATED, CONFLICT: CONTRARY}
    codes[rows] = [
        as_codes.get(verdict, NEWER if key in earlier else NEW)
        for key, verdict in zip(keys, verdicts, strict=True)
    ]
    return codes


class EqualRow(NamedTuple):
    """A known row of a table without clients: its number among equal ones, and its outcome.

    is_own: the source contained it before
    """

    copy: int
    outcome: int
    is_own: bool


def merge_unnamed(
    known: Mapping[K, Sequence[EqualRow]],
    highest: Mapping[int, int],
    keys: Sequence[K],
    clients: Sequence[int],
    outcomes: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Classify rows of a table without clients; return the code and the number of each.

    Each row of a source is a client of its own, as often as it stands there, and a duplicate as often
    as it is known. A new outcome closes an open row that is equal in all columns, if there is one. Rows
    that the source contained before are matched first, then open ones.

    highest: the highest number of each client so far; outcomes: codes
    """
    codes, copies = [REPEATED] * len(keys), [0] * len(keys)
    places: dict[K, list[int]] = {}
    numbers = dict(highest)
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)

    def add(i: int) -> None:
        numbers[clients[i]] = copies[i] = 1 + numbers.get(clients[i], 0)
        codes[i] = NEW

    for key, rows in places.items():
        free: dict[int, list[EqualRow]] = {1: [], 0: [], OPEN: []}
        for row in sorted(known.get(key, ()), key=lambda row: (row.is_own, -row.copy)):
            free[row.outcome].append(row)
        news = []
        for i in rows:
            if outcomes[i] != OPEN and free[outcomes[i]]:
                copies[i] = free[outcomes[i]].pop().copy
            elif outcomes[i] != OPEN:
                news.append(i)
        for i in news:
            if free[OPEN]:
                codes[i], copies[i] = NEWER, free[OPEN].pop().copy
            else:
                add(i)
        others = sorted([*free[1], *free[0], *free[OPEN]], key=lambda row: row.is_own)
        for i in rows:
            if outcomes[i] == OPEN and others:
                copies[i] = others.pop().copy
            elif outcomes[i] == OPEN:
                add(i)
    return codes, copies


def classify_unnamed(
    known: KnownRows, client: np.ndarray, equal: np.ndarray, outcome: np.ndarray, own: Identities
) -> tuple[np.ndarray, np.ndarray]:
    """Classify rows of a table without clients; return codes and numbers: (n,) int8, (n,) int32.

    Only rows that are repeated, or whose client is known, are classified one by one.

    client, equal: the hashes of the rows with the number 1; own: what the source contained before
    """
    codes, copies = np.full(len(client), NEW, "int8"), np.ones(len(client), "int32")
    rows = np.flatnonzero(find_repeated_values(client) | known.find_clients(client))
    if not len(rows):
        return codes, copies
    there = known.read_clients(np.unique(client[rows]))
    is_own = own.contains(there[CLIENT_HASH], there[INPUT_ID])
    equals: dict[tuple[int, int], list[EqualRow]] = {}
    highest: dict[int, int] = {}
    columns = (there[name].tolist() for name in (CLIENT_HASH, EQUAL_ID, COPY, OUTCOME))
    for name, key, copy, code, is_mine in zip(*columns, is_own.tolist(), strict=True):
        equals.setdefault((name, key), []).append(EqualRow(copy, code, is_mine))
        highest[name] = max(copy, highest.get(name, 0))
    names, outcomes = client[rows].tolist(), outcome[rows].tolist()
    keys = list(zip(names, equal[rows].tolist(), strict=True))
    codes[rows], copies[rows] = merge_unnamed(equals, highest, keys, names, outcomes)
    return codes, copies


@dataclass(frozen=True)
class SourceVerdict:
    """The verdict on one source: its line of the account, its records in a spool, and their verdicts.

    `verdicts`, `rows` (client and input hash) and, of rows without a client, `copies` cover the records
    without a code, in order; `booleans` is how it spells the boolean columns about which no earlier
    source decided.
    """

    line: Line
    columns: Columns
    spool: IO[bytes] | None = None
    rows: tuple[np.ndarray, np.ndarray] = (np.empty(0, "uint64"), np.empty(0, "uint64"))
    verdicts: np.ndarray = field(default_factory=lambda: np.empty(0, "int8"))
    unfinished: str = ""
    copies: np.ndarray | None = None
    booleans: Mapping[str, list[str]] = field(default_factory=dict)
    newest_time: str = ""

    def batches(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, slice]]:
        """Yield for each chunk: all records, the valid ones, and the place of their verdicts."""
        if self.spool is None:
            return
        at, end = 0, self.spool.seek(0, os.SEEK_END)
        self.spool.seek(0)
        while self.spool.tell() < end:
            with pa.ipc.open_stream(self.spool) as reader:
                batch = reader.read_next_batch()
                reader.read_all()  # its end
            is_good = pc.equal(batch[CODE], "")
            good = batch if pc.all(is_good).as_py() else batch.filter(is_good)
            yield batch, good, slice(at, at + len(good))
            at += len(good)

    def identities(self, is_wanted: np.ndarray | None = None) -> Identities:
        """Return the identities of valid records, by default of all."""
        return Identities(
            *(hashes if is_wanted is None else hashes[is_wanted] for hashes in self.rows)
        )

    def accepted(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows to add, chunk by chunk, as `Ledger.add_rows` takes them."""
        names = (*self.columns.table, *typed_rows.COMPUTED)
        for _, good, at in self.batches():
            verdicts = self.verdicts[at]
            is_kept = verdicts <= NEWER
            rows = good.select(names)
            rows = rows if is_kept.all() else rows.filter(pa.array(is_kept))
            if self.copies is not None:
                rows = number_rows(rows, self.copies[at][is_kept], self.columns)
            yield rows.append_column(REPLACES, pa.array(verdicts[is_kept] == NEWER))

    def refusals(self) -> Iterator[schema.Refusal]:
        """Yield every record that is not used, by line: invalid, in conflict, or quarantined."""
        if not self.line.rejected:
            return
        is_quarantined = self.line.verdict == QUARANTINED
        why = f"this row is valid, but {self.line.reason.rpartition('; ')[2]}"
        outcome = self.columns.outcome
        for batch, _, at in self.batches():
            is_good = pc.equal(batch[CODE], "").to_numpy(False)
            is_conflict = np.zeros(len(batch), dtype=bool)
            is_conflict[is_good] = self.verdicts[at] == CONTRARY
            is_refused = ~is_good | is_conflict | is_quarantined
            refused = batch.filter(pa.array(is_refused))
            refused = refused.set_column(
                refused.schema.get_field_index(RAW), RAW, raw_lines(refused)
            )
            records = refused.select((LINE, CODE, REASON, RAW, outcome)).to_pylist()
            for record, conflicts in zip(records, is_conflict[is_refused], strict=True):
                code, reason = record[CODE], record[REASON]
                if conflicts:
                    code = "CONFLICT"
                    is_here = f"{outcome} is {record[outcome]}"
                    reason = f"{is_here} here and the opposite elsewhere; row refused"
                elif not code:
                    code, reason = "HELD", why
                yield schema.Refusal(record[LINE], code, reason, record[RAW])


def number_rows(rows: pa.RecordBatch, copies: np.ndarray, columns: Columns) -> pa.RecordBatch:
    """Add their numbers to the names of rows without a client, and the columns about equal rows."""
    rows = rows.append_column(EQUAL_ID, rows[INPUT_ID])
    rows = rows.append_column(COPY, pa.array(copies, pa.int32()))
    name, is_further = columns.client_name, copies > 1
    if not is_further.any():
        return rows
    suffix = pc.binary_join_element_wise("-", pa.array(copies).cast(pa.string()), "")
    suffix = pc.if_else(pa.array(is_further), suffix, "")
    texts = {each: rows[each] for each in columns.table}
    texts[name] = pc.binary_join_element_wise(rows[name], suffix, "")
    changed = {name: texts[name], **typed_rows.compute_hashes(texts, columns)}
    for each, values in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(each), each, values)
    return rows


def judge(
    table: schema.Table,
    columns: Columns,
    known: Ledger,
    line: Line,
    spool: IO[bytes],
    own: Identities | None = None,
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
        return SourceVerdict(line, columns, unfinished="" if error.is_whole else cut)
    hashes: dict[str, list[np.ndarray]] = {name: [] for name in (CLIENT_HASH, INPUT_ID, OUTCOME)}
    newest = ""
    codes: Counter[str] = Counter()
    content, ends_short = np.zeros(2, "uint64"), False
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    for chunk, is_last in schema.mark_last(table.chunks):
        checked = contract.check(chunk, is_last=is_last)
        checked = known.forgotten.replace_in(checked, columns.client_name)
        computed = typed_rows.compute_hashes(checked.columns, columns)
        for name in (CLIENT_HASH, INPUT_ID):
            hashes[name].append(computed[name].to_numpy())
        hashes[OUTCOME].append(outcome_codes(checked.columns[columns.outcome]))
        ends_short = ends_cut(chunk, checked.refused)
        codes.update(refusal.code for refusal in checked.refused)
        if not line.sha256:
            content += hash_records(computed, checked.refused)
        if columns.time:
            newest = max(newest, pc.max(checked.columns[columns.time]).as_py() or "")
        batch = gather(checked, computed, columns)
        with pa.ipc.new_stream(spool, batch.schema, options=options) as writer:
            writer.write_batch(batch)
    none = {CLIENT_HASH: "uint64", INPUT_ID: "uint64", OUTCOME: "int8"}
    client, inputs, outcome = (
        np.concatenate([np.empty(0, kind), *hashes.pop(name)]) for name, kind in none.items()
    )
    records = len(client) + codes.total()
    if not line.sha256:
        text = f"{table.header} {records} {content.tolist()}"
        line = line._replace(sha256=files.sha256_bytes(text.encode("utf-8", "surrogatepass")))
    copies = None
    if columns.client:
        verdicts = classify(known.rows, client, inputs, outcome)
    else:
        earlier = own or Identities()
        verdicts, copies = classify_unnamed(known.rows, client, inputs, outcome, earlier)
    counts = np.bincount(verdicts, minlength=4).tolist()
    if counts[CONTRARY]:
        codes["CONFLICT"] = counts[CONTRARY]
    notes = [*table.notes, *contract.notes()]
    notes += [] if records else ["NO_ROWS"]
    notes += [f"{code}: {count}" for code, count in sorted(codes.items())]
    line = line._replace(records=records)
    refused = codes.total()
    summaries = sum(codes[code] for code in summary_rows.CODES) if len(client) else 0
    why = contract.find_two_dialects()
    if (bad := refused - summaries) > MAX_BAD_SHARE * (records - summaries):
        why = f"{bad} of {records - summaries} rows are bad, so none is used"
    if why:
        reason = "; ".join([*notes, why])
        line = line._replace(rejected=records, verdict=QUARANTINED, reason=reason)
    else:
        duplicates = counts[REPEATED]
        notes += [f"DUP_ROWS: {duplicates}"] if duplicates else []
        line = line._replace(
            accepted=counts[NEW] + counts[NEWER], rejected=refused, duplicates=duplicates,
            verdict=ACCEPTED, reason="; ".join(notes),
        )  # fmt: skip
    unfinished = "RAGGED_SHORT" if ends_short else cut
    result = SourceVerdict(
        *(line, columns, spool, (client, inputs), verdicts, unfinished, copies),
        newest_time=newest,
        booleans=contract.booleans.decided,
    )
    return replace(result, rows=renumbered(result)) if copies is not None else result


def renumbered(result: SourceVerdict) -> tuple[np.ndarray, np.ndarray]:
    """Return the identities of rows without a client, which their numbers change."""
    client, inputs = result.rows
    assert result.copies is not None
    if (result.copies <= 1).all():
        return result.rows
    inputs = inputs.copy()
    names = (*result.columns.table, *typed_rows.COMPUTED)
    for _, good, at in result.batches():
        rows = number_rows(good.select(names), result.copies[at], result.columns)
        inputs[at] = rows[INPUT_ID].to_numpy()
    return client, inputs


def ends_cut(chunk: schema.Chunk, refused: Sequence[schema.Refusal]) -> bool:
    """Return whether the last row of a chunk lacks fields, as if a file is still being written."""
    if not chunk.odd or not refused:
        return False
    last = refused[-1]
    return last.code == "RAGGED_SHORT" and last.line > max(chunk.lines, default=0)


def gather(
    checked: schema.ValidatedRows, hashes: Mapping[str, pa.Array], columns: Columns
) -> pa.RecordBatch:
    """Return all records of a chunk, valid and refused, sorted by line.

    A column that was delivered in canonical text is there once; see `raw_lines`.
    """
    none = pa.repeat("", len(checked.lines))
    values = {LINE: pa.array(np.asarray(checked.lines, "int64")), CODE: none, REASON: none}
    values |= {RAW: none, **{name: checked.columns[name] for name in columns.table}, **hashes}
    names = []
    for i, texts in enumerate(checked.delivered):
        same = (name for name in columns.table if texts.equals(checked.columns[name]))
        names.append(next(same, f"{RAW}:{i}"))
        values.setdefault(names[-1], texts)
    batch = pa.record_batch(values).replace_schema_metadata({DELIVERED: json.dumps(names)})
    if not checked.refused:
        return batch
    rows = [dict(zip((LINE, CODE, REASON, RAW), row, strict=True)) for row in checked.refused]
    both = pa.concat_batches([batch, pa.RecordBatch.from_pylist(rows, batch.schema)])
    return both.sort_by(LINE)


def raw_lines(records: pa.RecordBatch) -> pa.Array:
    """Return records of `gather` as delivered, as lines of CSV."""
    names = json.loads(records.schema.metadata[DELIVERED])
    valid = schema.csv_lines([records[name] for name in names])
    return pc.if_else(pc.equal(records[CODE], ""), valid, records[RAW])


def hash_records(hashes: Mapping[str, pa.Array], refused: Iterable[schema.Refusal]) -> np.ndarray:
    """Sum a hash of every record: (2,) uint64, the same in any order, another one for a repeat."""
    row, client = hashes[ROW_ID].to_numpy(), hashes[CLIENT_HASH].to_numpy()
    total = np.array([row.sum(dtype="uint64"), (row * (client | np.uint64(1))).sum(dtype="uint64")])
    for refusal in refused:
        raw = refusal.raw.encode("utf-8", "surrogatepass")
        total += np.frombuffer(hashlib.blake2b(raw, digest_size=16).digest(), "<u8")
    return total
