"""Write the risk of every client into a table of the company, where CRM and BI read it.

Only rows that differ from those in the table are sent, in one transaction. The record names the
assessment that was written, so that no connection is opened until there is another one.

Reads:  reports/assessment.json, reports/clients.parquet, the table that `write_back` names
Writes: that table; production_deployment/writeback.json (the record)
Run:    python -m attrition.databases.write_back [--dry-run] [--config PATH]
"""

import logging
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition import wording
from attrition.config import Config, Database
from attrition.contacts import fields
from attrition.contacts.fields import Labels
from attrition.data import clients
from attrition.data.text_hashes import hash_texts
from attrition.databases import reader, risk_table
from attrition.databases.risk_table import READ, RiskTable, Rows
from attrition.errors import AttritionError, ConfigError, Damaged, SourceError
from attrition.operations import cli
from attrition.storage import files, tables

logger = logging.getLogger(__name__)

BATCH_GROUPS = 16  # row groups of clients.parquet at a time
STORED = ("client", "risk", "rank", "value_at_risk", "reasons")
REASON_KEY = ("feature", "number", "level")
SEPARATOR = "\x1f"  # no text of ours contains it


@dataclass(frozen=True)
class Counts:
    """How many of the clients were, or would be, inserted, updated and deleted."""

    clients: int
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class WriteBackResult:
    """What the last write changed; `problem`: why this one failed, and the next run tries again."""

    counts: Counts
    problem: str
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return self.problem or format_counts(self.counts)


def format_counts(counts: Counts) -> str:
    """Format the counts.

    >>> format_counts(Counts(10_000, 3, 20, 1))
    '3 inserted, 20 updated, 1 deleted; 10,000 clients in all'
    """
    changes = (
        f"{counts.inserted:,} inserted, {counts.updated:,} updated, {counts.deleted:,} deleted"
    )
    return f"{changes}; {wording.plural(counts.clients, 'client')} in all"


# ---- compute


def reason_texts(lists: pa.ListArray, labels: Labels) -> pa.Array:
    """Format the reasons of each client as text; each distinct one is formatted once."""
    flat = lists.flatten()
    parts = [pc.fill_null(pc.struct_field(flat, name).cast(pa.string()), "") for name in REASON_KEY]
    codes = pc.binary_join_element_wise(*parts, SEPARATOR).dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    texts = [
        fields.reason_text(clients.decode_reason(each), labels)
        for each in flat.take(pa.array(first)).to_pylist()
    ]
    each = pa.array(texts, pa.string()).take(pa.array(codes))
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    ends = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(ends, each), "; ")


def row_hashes(rows: Rows) -> NDArray[np.uint64]:
    """Return a hash of each row of `READ`, equal if all values are: (n,) uint64."""
    texts = [pc.fill_null(rows[name].cast(pa.string()), "") for name in READ]
    return hash_texts(pc.binary_join_element_wise(*texts, SEPARATOR))


class Comparison:
    """Find which rows of the assessment are new or changed, compared with those in the table."""

    def __init__(self, stored: Iterator[Rows]) -> None:
        names, none = [pa.array([], pa.string())], np.zeros(0, "uint64")
        keys, hashes = [none], [none]
        for rows in stored:
            names.append(rows["client"])
            keys.append(hash_texts(rows["client"]))
            hashes.append(row_hashes(rows))
        order = np.argsort(np.concatenate(keys), kind="stable")
        self._keys, self._hashes = np.concatenate(keys)[order], np.concatenate(hashes)[order]
        self._names, self._order = pa.chunked_array(names), order
        self._is_gone = np.ones(len(order), dtype=bool)
        self.clients = self.inserted = self.updated = 0

    def changed(self, rows: Rows) -> Rows:
        """Return the rows that are new or changed, and count them."""
        count = len(rows["client"])
        is_changed = np.ones(count, dtype=bool)
        if len(self._keys):
            keys = hash_texts(rows["client"])
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            is_known = self._keys[at] == keys
            is_changed[is_known] = (self._hashes[at] != row_hashes(rows))[is_known]
            self._is_gone[at[is_known]] = False
            self.updated += int(is_changed[is_known].sum())
            self.inserted -= int(is_known.sum())
        self.clients += count
        self.inserted += count
        return {name: column.filter(pa.array(is_changed)) for name, column in rows.items()}

    def gone(self) -> list[str]:
        """Return the names in the table that no row of the assessment had."""
        return list(self._names.take(pa.array(self._order[self._is_gone])).to_pylist())


# ---- read, write


def read_rows(config: Config, assessment: files.Record) -> Iterator[Rows]:
    """Yield the rows of the assessed clients, in batches."""
    file = tables.open_parquet(config.clients)
    groups = range(file.metadata.num_row_groups)
    for at in range(0, len(groups), BATCH_GROUPS):
        batch = file.read_row_groups(
            [*groups[at : at + BATCH_GROUPS]], [*STORED], use_threads=False
        ).combine_chunks()
        rows: Rows = {name: batch[name].combine_chunks() for name in STORED}
        value = rows["value_at_risk"]
        rows["value_at_risk"] = pc.if_else(pc.is_finite(value), value, None)
        rows["reasons"] = reason_texts(rows["reasons"], config.labels)
        rows["release"] = pa.repeat(assessment["release"], len(batch))
        rows["assessed_at"] = pa.repeat(assessment["assessed_at"], len(batch))
        yield rows


def write_changes(
    table: RiskTable, release: str, batches: Iterator[Rows], *, dry_run: bool
) -> Counts:
    """Write what differs from the table; return the counts."""
    comparison = Comparison(table.read(release))
    changed = map(comparison.changed, batches)
    if dry_run:
        deque(changed, maxlen=0)
    else:
        table.put(changed)
    gone = comparison.gone()
    if not dry_run:
        table.delete(gone)
    return Counts(comparison.clients, comparison.inserted, comparison.updated, len(gone))


def compare_or_write(config: Config, assessment: files.Record, *, dry_run: bool) -> Counts:
    """Write an assessment into the table, or only count what would be written.

    Raises: SourceError; Damaged if clients.parquet is not that of the assessment.
    """
    if files.damaged_outputs(config.reports_folder, assessment):
        raise Damaged(f"{config.clients}: is not what assessment.py wrote; run fullprocess.py")
    table, seconds = _database(config), config.write_back.max_seconds
    with risk_table.opened(table, seconds, read_only=dry_run) as opened:
        batches = read_rows(config, assessment)
        return write_changes(opened, assessment["release"], batches, dry_run=dry_run)


def write_back(config: Config, *, always: bool = False) -> WriteBackResult:
    """Write the last assessment into the table, unless that was done before; if it fails, record why.

    always: compare with the table even if this assessment was written, because others changed it

    Raises: AttritionError if there is no assessment; Damaged.
    """
    assessment = _read_assessment(config)
    target = reader.identity(_database(config))
    record = _read_last(config, target)
    if not always and record["assessment"] == assessment["seal"]:
        return _result(record, up_to_date=True)
    try:
        counts = compare_or_write(config, assessment, dry_run=False)
        record |= {**asdict(counts), "assessment": assessment["seal"], "problem": ""}
        record["written_at"] = files.utc_now()
    except SourceError as error:
        logger.warning("%s; the next run writes it", error)
        record |= {"assessment": None, "problem": str(error)}
    files.write_bytes(config.write_back_record, files.encode(record := files.sealed(record)))
    return _result(record, up_to_date=bool(record["problem"]))


def _read_assessment(config: Config) -> files.Record:
    if not (assessment := files.read_record(config.assessment_record)):
        raise AttritionError(f"{config.assessment_record}: does not exist yet; run fullprocess.py")
    return assessment


def _read_last(config: Config, target: str) -> files.Record:
    """Return the record of the last write into this table; if there is none, that of no row."""
    try:
        record = files.read_record(config.write_back_record) or {}
    except Damaged as error:
        logger.warning("%s; the table is compared again", error)
        record = {}
    none = asdict(Counts(0, 0, 0, 0)) | {"assessment": None, "problem": "", "written_at": None}
    return record if record.get("target") == target else none | {"target": target}


def _database(config: Config) -> Database:
    """Return the table in the form in which the readers connect to it."""
    return Database("write_back", config.write_back.url or "", config.write_back.table or "")


def _result(record: files.Record, *, up_to_date: bool) -> WriteBackResult:
    counts = Counts(*(record[each.name] for each in dataclass_fields(Counts)))
    return WriteBackResult(counts, record["problem"], up_to_date, record["seal"])


def count_changes(config: Config) -> str:
    """Describe what a write of the last assessment would change in the table.

    Raises: AttritionError if there is no assessment, or if the table cannot be read.
    """
    counts = compare_or_write(config, _read_assessment(config), dry_run=True)
    return f"would write the risks of the last assessment: {format_counts(counts)}"


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the counts, write nothing")
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        if not config.write_back.url:
            raise ConfigError(f"{config.file}: write_back is not set, so nothing is written")
        if options.dry_run:
            print(count_changes(config))
            return 0
        with cli.step_lock(config, "write_back"):
            result = write_back(config, always=True)
        print(result.summary())
        return int(bool(result.problem))

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
