"""Step 1: take in whatever is new from the source folder and the databases, and account for all of it.

Reads:  sourcedata/*.csv, *.csv.gz, *.parquet; the database tables that config.json names
Writes: ingesteddata/finaldata.csv (the rows), ingestedfiles.txt (one line per version of a source
        ever judged), rejected.csv (every row refused, and why), ingestion.json (the record)
Run:    python ingestion.py [--config PATH]
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from attrition import cli, disk, schema, sources
from attrition.config import Columns, Config, Database
from attrition.errors import AttritionError, Damaged, SourceError

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

ACCEPTED, QUARANTINED, SKIPPED, DEFERRED = "accepted", "quarantined", "skipped", "deferred"
COUNTS = ("records", "accepted", "rejected", "duplicates")
REJECTED_HEADER = ("ingested_at", "source", "line", "reason", "raw")
HELD_SHARE = 0.5

Key = tuple[str, ...]
Row = tuple[Key, str]


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


class Judged(NamedTuple):
    """One source, judged: its line, the rows it adds or updates, the rows it may not."""

    line: Line
    rows: Sequence[Row] = ()
    refused: Sequence[schema.Refusal] = ()


@dataclass(frozen=True)
class Ingestion:
    """What a run took in; `held` names the sources that could not be read at all."""

    lines: tuple[Line, ...]
    rows: int
    held: tuple[str, ...]
    deferred: int
    fresh: bool
    made: str

    def summary(self) -> str:
        new = [line for line in self.lines if line.verdict in (ACCEPTED, QUARANTINED)]
        if not new and not self.held:
            waiting = f"; {self.deferred} still being written" if self.deferred else ""
            return f"nothing new; finaldata.csv has {self.rows:,} rows{waiting}"
        counts = {name: sum(getattr(line, name) for line in new) for name in COUNTS}
        text = (
            f"{len(new)} new source{'s' * (len(new) != 1)}: {counts['records']:,} records, "
            f"{counts['accepted']:,} accepted, {counts['rejected']:,} refused, "
            f"{counts['duplicates']:,} duplicates; finaldata.csv has {self.rows:,} rows"
        )
        quarantined = [line for line in new if line.verdict == QUARANTINED]
        told = [f"held back {line.source}: {line.reason}" for line in quarantined]
        return "\n".join([text, *told, *(f"cannot be read now: {why}" for why in self.held)])


# ---- compute: rows and verdicts, no path


def merge(known: dict[Key, str], rows: Iterable[Row]) -> list[str]:
    """Say what each row is beside the rows known: "accepted", "duplicate" or "conflict".

    A row is known by all of its columns but the outcome. An outcome may arrive later (open -> stayed
    or left, stayed -> left); one that would take back that a client left is a conflict, and so are
    both outcomes for one row in one source. A row that one source brings open and with its outcome
    counts with its outcome. `known` is not changed.
    """
    rows = list(rows)
    told: dict[Key, str] = {}
    both = {key for key, outcome in rows if outcome and told.setdefault(key, outcome) != outcome}
    seen: dict[Key, str] = {}
    verdicts = []
    for key, outcome in rows:
        old = seen.get(key, known.get(key))
        if outcome and key in both:
            verdict = "conflict"
        elif not outcome and key in told and key not in both:
            verdict = "duplicate"
        elif old is None or (outcome and old not in (outcome, "1")):
            verdict = "accepted"
            seen[key] = outcome
        elif outcome in ("", old):
            verdict = "duplicate"
        else:
            verdict = "conflict"
        verdicts.append(verdict)
    return verdicts


def judge(
    table: schema.Table, config: Config, columns: Columns, known: dict[Key, str], line: Line
) -> Judged:
    """Check a table and merge it with the rows known; hold it back where most of it is bad.

    `line` is the line of the source, without its counts.
    """
    try:
        checked = schema.check(table, columns, config.missing_markers)
    except schema.BadHeader as error:
        return Judged(line._replace(verdict=QUARANTINED, reason=f"{error.code}: {error.reason}"))
    rows = [(row[:-1], row[-1]) for row in checked.rows.itertuples(index=False, name=None)]
    verdicts = merge(known, rows)
    refused = [*checked.refused]
    for (_, outcome), verdict, at in zip(rows, verdicts, checked.lines, strict=True):
        if verdict == "conflict":
            reason = f"{columns.outcome} is {outcome} here and the other elsewhere; row refused"
            refused.append(schema.Refusal(at, "CONFLICT", reason, schema.raw_at(table, at)))
    codes = Counter(refusal.code for refusal in sorted(refused))
    notes = [*checked.notes, *(f"{code}: {count}" for code, count in codes.items())]
    line = line._replace(records=len(table.rows))
    if len(refused) > HELD_SHARE * line.records:
        why = f"{len(refused)} of {line.records} rows are bad, so none is used"
        refused += held_rows(table, refused, why)
        reason = "; ".join([*notes, why])
        line = line._replace(rejected=line.records, verdict=QUARANTINED, reason=reason)
        return Judged(line, refused=sorted(refused))
    kept = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == "accepted"]
    duplicates = verdicts.count("duplicate")
    notes += [f"DUP_ROWS: {duplicates}"] if duplicates else []
    line = line._replace(accepted=len(kept), rejected=len(refused), duplicates=duplicates)
    return Judged(line._replace(verdict=ACCEPTED, reason="; ".join(notes)), kept, sorted(refused))


def held_rows(
    table: schema.Table, refused: Iterable[schema.Refusal], why: str
) -> list[schema.Refusal]:
    """Refuse the rest of a table as well, so that each of its records can be found again."""
    bad = {refusal.line for refusal in refused}
    rest = zip(table.lines, table.rows, strict=True)
    reason = f"nothing wrong with this row, but {why}"
    return [
        schema.Refusal(at, "HELD", reason, schema.raw_text(row))
        for at, row in rest
        if at not in bad
    ]


def find_unfinished(table: schema.Table) -> str | None:
    """Say what makes the end of a file look as if more were to come."""
    if table.rows and len(table.rows[-1]) < len(table.header):
        return "RAGGED_SHORT"
    return "NO_FINAL_EOL" if "NO_FINAL_EOL" in table.notes else None


# ---- the state on disk


class State:
    """All that ingestion knows: the rows, the ledger by (source, version), how far each table came."""

    def __init__(self, record: disk.Record | None = None) -> None:
        self.record = record
        self.rows: dict[Key, str] = {}
        self.ledger: dict[tuple[str, str], Line] = {}
        self.rejected = bytearray(sources.csv_bytes([REJECTED_HEADER]))
        self.marks: dict[str, str] = dict(record["marks"]) if record else {}
        self.watermarks: dict[str, Any] = dict(record["watermarks"]) if record else {}
        self.used: dict[str, str] = {}
        self.lines: list[Line] = []
        self.held: list[str] = []
        self.deferred = 0

    def is_known(self, source: str, sha256: str) -> bool:
        """Was this version of a source judged for good?"""
        line = self.ledger.get((source, sha256))
        return line is not None and line.verdict != DEFERRED

    def enter(self, line: Line) -> None:
        """Put a line into the ledger; of a source that was used, the content is remembered."""
        self.ledger[line.source, line.sha256] = line
        if line.verdict == ACCEPTED:
            self.used[line.sha256] = line.source

    def keep(self, judged: Judged) -> None:
        """Add what was judged, unless it says no more than the ledger does already."""
        line = judged.line
        self.deferred += line.verdict == DEFERRED
        old = self.ledger.get((line.source, line.sha256))
        if old and old.verdict == line.verdict:
            return
        counted = line.accepted + line.rejected + line.duplicates
        assert counted == line.records, f"{line.source}: {counted} of {line.records} accounted for"
        assert len(judged.rows) == line.accepted, f"{line.source}: rows are not those accepted"
        for key, outcome in judged.rows:
            self.rows.pop(key, None)  # an updated row moves to the end, as news
            self.rows[key] = outcome
        self.enter(line)
        self.lines.append(line)
        self.rejected += sources.csv_bytes(
            (line.ingested_at, line.source, row.line, f"{row.code}: {row.reason}", row.raw)
            for row in judged.refused
        )
        if line.verdict in (ACCEPTED, QUARANTINED):
            level = logging.WARNING if line.verdict == QUARANTINED else logging.INFO
            text = "%s %s: %d records, %d accepted, %d refused, %d duplicates%s"
            noted = f" ({line.reason})" if line.reason else ""
            logger.log(level, text, line.source, line.verdict, *line[3:7], noted)


def read_state(config: Config) -> State:
    """Read what was ingested so far.

    Raises: Damaged when a file is not what the record says; nothing is ever started from scratch
    in silence.
    """
    folder = config.output_folder
    disk.make_folder(folder)
    disk.finish_commit(folder)
    mend = f"put the copy from a backup back, or move {folder} away to ingest every source again"
    try:
        record = disk.read_record(config.ingestion_record)
    except Damaged as error:
        raise Damaged(f"{error}; {mend}") from error
    if record is None:
        ours = (config.final_data, config.ingested_files, config.rejected)
        if there := [path.name for path in ours if path.exists()]:
            name = config.ingestion_record.name
            raise Damaged(f"{folder}: {', '.join(there)} without the record {name}; {mend}")
        return State()
    if wrong := disk.damaged_outputs(folder, record):
        raise Damaged(f"{folder}: {', '.join(sorted(wrong))} not as written; {mend}")
    state = State(record)
    for row in sources.read_cells(config.ingested_files):
        state.enter(Line(*row[:3], *map(int, row[3:7]), *row[7:]))  # type: ignore[arg-type]
    if record["inputs"].get("contract") != contract(config):
        check_nothing_left(config, state)
        logger.warning("the meaning of the columns changed: every source is read again")
        return State()
    state.rows = {tuple(row[:-1]): row[-1] for row in sources.read_cells(config.final_data)}
    state.rejected = bytearray(config.rejected.read_bytes())
    return state


def contract(config: Config) -> str:
    """Hash what decides how a row reads: under another contract everything is read again."""
    return config.fingerprint("columns", "missing_markers")


def check_nothing_left(config: Config, state: State) -> None:
    """Before everything is read again: can it be, all of it?

    Raises: AttritionError.
    """
    there = {sources.hash_file(config.input_folder / name) for name in list_folder(config)}
    gone = {source for digest, source in state.used.items() if digest not in there}
    for database in config.databases:
        try:
            sources.probe(database)
            gone.discard(database.name)
        except SourceError as error:
            logger.error("%s", error)
    if gone:
        raise AttritionError(
            f"config.json gives the columns another meaning, but not everything that rows were taken "
            f"from is there to be read again: {', '.join(sorted(gone)[:5])}. Put it back as it was, "
            "undo the change, or name a new output_folder_path"
        )


# ---- the step


def ingest_new_data(config: Config) -> Ingestion:
    """Judge every source that is new by content, add its rows, and write all of it as one.

    A source that cannot be read now is held, said and tried again; the others go on.

    Raises: AttritionError when the folder is missing or our own files are damaged.
    """
    state = read_state(config)
    now = disk.utc_now()
    names = list_folder(config)
    for name in tqdm(names, desc="ingesting", unit="file", leave=False, disable=None):
        if judged := judge_file(config, state, name, now):
            state.keep(judged)
    for database in config.databases:
        try:
            judge_table(config, state, database, now)
        except SourceError as error:
            state.held.append(str(error))
            logger.error("%s; the other sources go on", error)
    record = state.record
    fresh = record is not None and not state.lines and record["marks"] == state.marks
    if record is None or not fresh:
        record = write_state(config, state, now)
    lines, held = tuple(state.lines), tuple(state.held)
    return Ingestion(lines, len(state.rows), held, state.deferred, fresh, str(record["seal"]))


def write_state(config: Config, state: State, now: str) -> disk.Record:
    lines = state.ledger.values()
    rows = ((*key, outcome) for key, outcome in state.rows.items())
    files: dict[Path, disk.Content] = {
        config.final_data: sources.csv_bytes([config.columns.table, *rows]),
        config.rejected: bytes(state.rejected),
        config.ingested_files: sources.csv_bytes([Line._fields, *lines]),
    }
    record = {
        "ingested_at": now,
        "inputs": {"contract": contract(config)},
        "marks": state.marks,
        "watermarks": state.watermarks,
        "rows": len(state.rows),
        "totals": {name: sum(getattr(line, name) for line in lines) for name in COUNTS},
        "sources": len(lines),
    }
    return disk.commit(config.ingestion_record, files, record)


def list_folder(config: Config) -> list[str]:
    """List the folder, one level deep for what is not taken, without the databases' own files."""
    found = [sources.sqlite_file(database) for database in config.databases]
    ours = {path.name for path in found if path and path.parent == config.input_folder}
    ours |= {name + ending for name in ours for ending in ("-wal", "-shm", "-journal")}
    names = []
    for name in sources.list_names(config.input_folder):
        folder = config.input_folder / name
        if folder.is_dir() and not folder.is_symlink() and sources.not_an_input(name):
            try:
                names += [f"{name}/{inner}" for inner in sources.list_names(folder)]
            except SourceError:  # a folder that we may not look into is not an input either
                names.append(name)
        elif name not in ours:
            names.append(name)
    return names


def shown(name: str) -> str:
    """Write a file name as one line of UTF-8, whatever bytes it is made of."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def judge_file(config: Config, state: State, name: str, now: str) -> Judged | None:
    """Judge one file of the folder; None where this version of it was judged before."""
    line = Line(now, shown(name), "-")
    if why := "NOT_TOP_LEVEL" if "/" in name else sources.not_an_input(name):
        return Judged(line._replace(reason=why))
    settled = True
    try:
        file = sources.read_file(config.input_folder / name)
        line = line._replace(sha256=file.sha256)
        settled = abs(file.changed_s_ago) >= config.settle_seconds
        if state.is_known(line.source, file.sha256):
            return None
        if twin := state.used.get(file.sha256):
            return Judged(line._replace(reason=f"SAME_CONTENT: as {twin}"))
        table = sources.read_table(file)
    except sources.Refused as refused:
        verdict = DEFERRED if refused.unfinished and not settled else QUARANTINED
        return Judged(line._replace(verdict=verdict, reason=f"{refused.code}: {refused.reason}"))
    if not settled and (why := find_unfinished(table)):
        return Judged(line._replace(verdict=DEFERRED, reason=f"{why}: still being written"))
    if line.source in state.used.values():
        table = replace(table, notes=(*table.notes, "CHANGED"))
    return judge(table, config, config.columns, state.rows, line)


def judge_table(config: Config, state: State, database: Database, now: str) -> None:
    """Judge what changed in a table since it was last seen, and remember how far it was seen.

    Raises: SourceError when it cannot be read, or lacks a column.
    """
    mark = sources.probe(database)
    if state.marks.get(database.name) == mark:
        return
    place = sources.identity(database)
    since = state.watermarks.get(place)
    fetched = sources.fetch_table(database, since)
    try:
        schema.match_header(fetched.table.header, config.columns)
    except schema.BadHeader as error:
        raise SourceError(f"{database.name}: {error.reason} in {database.table}") from error
    if since and fetched.seen["rows"] < since["rows"]:
        gone = since["rows"] - fetched.seen["rows"]
        logger.warning("%s: %d rows fewer than before; what was read stays", database.name, gone)
    state.marks[database.name] = mark
    if not state.is_known(database.name, fetched.sha256):
        line = Line(now, database.name, fetched.sha256)
        own = (*config.columns.ignore, *filter(None, [database.changed_column]))
        columns = replace(config.columns, ignore=own)
        judged = judge(fetched.table, config, columns, state.rows, line)
        state.keep(judged)
        if judged.line.verdict == QUARANTINED:
            return
    state.watermarks[place] = fetched.seen


def main(argv: list[str] | None = None) -> int:
    """Ingest once, by hand; exits 1 when a source could not be read."""
    options = cli.parser(__doc__).parse_args(argv)
    held: list[str] = []

    def ingest(config: Config) -> Ingestion:
        result = ingest_new_data(config)
        held.extend(result.held)
        return result

    return cli.run(options, "ingestion", ingest) or int(bool(held))


if __name__ == "__main__":
    sys.exit(main())
