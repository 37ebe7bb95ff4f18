"""Step 1: take in whatever is new from the source folder and the databases, and account for all of it.

Reads:  sourcedata/*.csv, *.csv.gz, *.parquet; the database tables that config.json names
Writes: ingesteddata/finaldata.csv (the rows), ingestedfiles.txt (one line per version of a source
        ever judged), rejected.csv (every row refused, and why), ingestion.json (the record)
Run:    python ingestion.py [--config PATH]
"""

import csv
import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from tqdm import tqdm

from attrition import cli, disk, schema, sources
from attrition.config import Columns, Config, Database
from attrition.errors import AttritionError, Damaged, SourceError

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

ACCEPTED, QUARANTINED, SKIPPED, DEFERRED = "accepted", "quarantined", "skipped", "deferred"
REJECTED_HEADER = ("ingested_at", "source", "line", "reason", "raw")
HELD_SHARE = 0.5

Key = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One line of ingestedfiles.txt: what became of one version of a source."""

    ingested_at: str
    source: str
    sha256: str
    records: int
    accepted: int
    rejected: int
    duplicates: int
    verdict: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """One source, judged: its line, the rows it adds or updates, the rows it may not."""

    line: Line
    rows: tuple[tuple[Key, str], ...] = ()
    refused: tuple[schema.Refusal, ...] = ()


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


COUNTS = ("records", "accepted", "rejected", "duplicates")


# ---- compute: rows and verdicts, no path


def merge(known: dict[Key, str], rows: Iterable[tuple[Key, str]]) -> list[str]:
    """Say what each row is beside the rows known: "accepted", "duplicate" or "conflict".

    A row is known by all of its columns but the outcome. An outcome may arrive later (open -> stayed
    or left, stayed -> left); one that would take back that a client left is a conflict, and so are
    both outcomes for one row in one source. A row that one source brings open and with its outcome
    counts with its outcome. `known` is not changed.
    """
    rows = list(rows)
    labels = _labels(rows)
    seen: dict[Key, str] = {}
    verdicts = []
    for key, outcome in rows:
        old = seen.get(key, known.get(key))
        told = labels.get(key, set())
        if outcome and len(told) > 1:
            verdict = "conflict"
        elif not outcome and len(told) == 1:
            verdict = "duplicate"
        elif old is None or (outcome != old and outcome and old != "1"):
            verdict = "accepted"
            seen[key] = outcome
        elif outcome in ("", old):
            verdict = "duplicate"
        else:
            verdict = "conflict"
        verdicts.append(verdict)
    return verdicts


def _labels(rows: Iterable[tuple[Key, str]]) -> dict[Key, set[str]]:
    labels: dict[Key, set[str]] = {}
    for key, outcome in rows:
        if outcome:
            labels.setdefault(key, set()).add(outcome)
    return labels


def judge(
    table: schema.Table, config: Config, columns: Columns, known: dict[Key, str], line: Line
) -> Judged:
    """Check a table and merge it with the rows known; hold it back where most of it is bad.

    `line` is the line of the source, without its counts.
    """
    records = len(table.rows)
    try:
        checked = schema.check(table, columns, config.missing_markers)
    except schema.BadHeader as error:
        reason = f"{error.code}: {error.reason}"
        return Judged(replace(line, verdict=QUARANTINED, reason=reason))
    cells = checked.rows.itertuples(index=False, name=None)
    rows = [(tuple(row[:-1]), row[-1]) for row in cells]
    verdicts = merge(known, rows)
    refused = [*checked.refused]
    for (key, outcome), verdict, at in zip(rows, verdicts, checked.lines, strict=True):
        if verdict == "conflict":
            raw = schema.raw_text([*key, outcome])
            reason = f"{config.columns.outcome} is {outcome} here and the other elsewhere"
            refused.append(schema.Refusal(at, "CONFLICT", f"{reason}; row refused", raw))
    refused.sort()
    codes = Counter(refusal.code for refusal in refused)
    notes = [*checked.notes, *(f"{code}: {count}" for code, count in codes.items())]
    if len(refused) > HELD_SHARE * records:
        whole = replace(line, records=records, rejected=records, verdict=QUARANTINED)
        reason = "; ".join([*notes, f"{len(refused)} of {records} rows are bad, so none is used"])
        return Judged(replace(whole, reason=reason), refused=tuple(refused))
    kept = tuple(row for row, verdict in zip(rows, verdicts, strict=True) if verdict == ACCEPTED)
    duplicates = verdicts.count("duplicate")
    notes += [f"DUP_ROWS: {duplicates}"] if duplicates else []
    done = replace(
        line,
        records=records,
        accepted=len(kept),
        rejected=len(refused),
        duplicates=duplicates,
        verdict=ACCEPTED,
        reason="; ".join(notes),
    )
    return Judged(done, kept, tuple(refused))


def check_conservation(judged: Judged) -> None:
    """Every record of a source is accepted, refused or a duplicate: a bug of ours otherwise."""
    line = judged.line
    counted = line.accepted + line.rejected + line.duplicates
    assert counted == line.records, f"{line.source}: {counted} of {line.records} accounted for"
    assert len(judged.rows) == line.accepted, f"{line.source}: rows are not those accepted"


def take(known: dict[Key, str], rows: Iterable[tuple[Key, str]]) -> None:
    """Add accepted rows to `known`, in place; an updated row moves to the end, as news."""
    for key, outcome in rows:
        known.pop(key, None)
        known[key] = outcome


# ---- the state on disk


class State:
    """All that ingestion knows: the rows, the ledger by (source, version), how far each table came."""

    def __init__(self, rows: dict[Key, str], ledger: dict[tuple[str, str], Line]) -> None:
        self.rows, self.ledger = rows, ledger
        self.marks: dict[str, str] = {}
        self.watermarks: dict[str, str | None] = {}
        self.rejected = csv_bytes([REJECTED_HEADER])
        self.lines: list[Line] = []
        self.held: list[str] = []

    def is_known(self, source: str, sha256: str) -> bool:
        line = self.ledger.get((source, sha256))
        return line is not None and line.verdict != DEFERRED

    def keep(self, judged: Judged) -> None:
        check_conservation(judged)
        line = judged.line
        before = len(self.rows)
        updates = sum(key in self.rows for key, _ in judged.rows)
        take(self.rows, judged.rows)
        assert len(self.rows) == before + line.accepted - updates, "rows lost in the merge"
        self.ledger[line.source, line.sha256] = line
        self.lines.append(line)
        told = ((line.ingested_at, line.source, r.line, r.reason, r.raw) for r in judged.refused)
        self.rejected += csv_bytes(told)
        level = logging.WARNING if line.verdict == QUARANTINED else logging.INFO
        if line.verdict in (ACCEPTED, QUARANTINED):
            logger.log(
                level,
                "%s %s: %d records, %d accepted, %d refused, %d duplicates %s",
                *(line.source, line.verdict, line.records),
                *(line.accepted, line.rejected, line.duplicates, line.reason),
            )


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_csv(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.reader(file)


def read_state(config: Config) -> State:
    """Read what was ingested so far.

    Raises: Damaged when a file is not what the record says; nothing is ever started from scratch
    in silence.
    """
    disk.make_folder(config.output_folder)
    disk.finish_commit(config.output_folder)
    record = disk.read_record(config.ingestion_record)
    if record is None:
        if config.final_data.exists():
            raise Damaged(
                f"{config.final_data}: stands there without its record "
                f"{config.ingestion_record.name}; move it into {config.input_folder} to have it "
                "ingested, or out of the way"
            )
        return State({}, {})
    if wrong := disk.damaged_outputs(config.output_folder, record):
        raise Damaged(
            f"{config.output_folder}: {', '.join(sorted(wrong))} not as written; put the copy from "
            f"a backup back, or move {config.output_folder} away to ingest every source again"
        )
    if record["inputs"].get("contract") != contract(config):
        return _start_again(config, read_ledger(config.ingested_files))
    cells = read_csv(config.final_data)
    next(cells)
    rows = {tuple(row[:-1]): row[-1] for row in cells}
    state = State(rows, read_ledger(config.ingested_files))
    state.marks = record["marks"]
    state.watermarks = record["watermarks"]
    state.rejected = config.rejected.read_bytes()
    return state


def contract(config: Config) -> str:
    """Hash what decides how a row reads: under another contract everything is read again."""
    return config.fingerprint("columns", "missing_markers")


def _start_again(config: Config, ledger: dict[tuple[str, str], Line]) -> State:
    """Forget the rows of another contract, provided that every file they came from is still there."""
    there = {sources.hash_file(config.input_folder / name) for name in list_folder(config)}
    tables = {database.name for database in config.databases}
    gone = sorted(
        line.source
        for line in ledger.values()
        if line.accepted and line.sha256 not in there and line.source not in tables
    )
    if gone:
        raise AttritionError(
            f"config.json gives the columns another meaning, but {', '.join(gone[:5])} (of which rows "
            f"were taken) left {config.input_folder}: put them back, or name a new output_folder_path"
        )
    logger.warning("the meaning of the columns changed: every source is read again")
    return State({}, {})


def read_ledger(path: Path) -> dict[tuple[str, str], Line]:
    rows = read_csv(path)
    next(rows)
    lines = (Line(*row[:3], *map(int, row[3:7]), *row[7:]) for row in rows)  # type: ignore[arg-type]
    return {(line.source, line.sha256): line for line in lines}


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
        judge_file(config, state, name, now)
    for database in config.databases:
        try:
            judge_table(config, state, database, now)
        except SourceError as error:
            state.held.append(str(error))
            logger.error("%s; the other sources go on", error)
    inputs = {"contract": contract(config)}
    record = disk.read_record(config.ingestion_record)
    settled = record is not None and record["inputs"] == inputs
    if settled and not state.lines and record is not None and record["marks"] == state.marks:
        return _result(state, str(record["seal"]), fresh=True)
    record = disk.commit(
        config.ingestion_record,
        {
            config.final_data: csv_bytes(
                [config.columns.table, *([*key, outcome] for key, outcome in state.rows.items())]
            ),
            config.rejected: state.rejected,
            config.ingested_files: csv_bytes(
                [
                    [field.name for field in fields(Line)],
                    *(asdict(line).values() for line in state.ledger.values()),
                ]
            ),
        },
        {
            "ingested_at": now,
            "inputs": inputs,
            "marks": state.marks,
            "watermarks": state.watermarks,
            "rows": len(state.rows),
            "totals": {
                name: sum(getattr(line, name) for line in state.ledger.values()) for name in COUNTS
            },
            "sources": len(state.ledger),
        },
    )
    return _result(state, str(record["seal"]), fresh=False)


def _result(state: State, made: str, *, fresh: bool) -> Ingestion:
    deferred = sum(line.verdict == DEFERRED for line in state.ledger.values())
    lines, held = tuple(state.lines), tuple(state.held)
    return Ingestion(lines, len(state.rows), held, deferred, fresh, made)


def list_folder(config: Config) -> list[str]:
    """List the folder, one level deep for what is not taken, without the databases' own files."""
    found = [sources.sqlite_file(database) for database in config.databases]
    ours = {path.name for path in found if path and path.parent == config.input_folder}
    ours |= {name + ending for name in ours for ending in ("-wal", "-shm", "-journal")}
    names = []
    for name in sources.list_names(config.input_folder):
        folder = config.input_folder / name
        if folder.is_dir() and not folder.is_symlink() and sources.not_an_input(name):
            names += [f"{name}/{inner}" for inner in sources.list_names(folder)]
        elif name not in ours:
            names.append(name)
    return names


def shown(name: str) -> str:
    """Write a file name as one line of UTF-8, whatever bytes it is made of."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def judge_file(config: Config, state: State, name: str, now: str) -> None:
    """Judge one file of the folder, unless this version of it was judged before."""
    source = shown(name)
    line = Line(now, source, "-", 0, 0, 0, 0, SKIPPED, "")
    why = "NOT_TOP_LEVEL" if "/" in name else sources.not_an_input(name)
    if why:
        if not state.is_known(source, "-"):
            state.keep(Judged(replace(line, reason=why)))
        return
    file = None
    try:
        file = sources.read_file(config.input_folder / name)
        if state.is_known(source, file.sha256):
            return
        line = replace(line, sha256=file.sha256)
        if twin := _twin(state, source, file.sha256):
            state.keep(Judged(replace(line, reason=f"SAME_CONTENT: as {twin}")))
            return
        table = sources.read_table(file)
    except sources.Refused as refused:
        fresh_file = file is not None and 0 <= file.changed_s_ago < config.settle_seconds
        deferred = refused.unfinished and fresh_file
        if state.is_known(source, line.sha256) or (deferred and line_stands(state, line)):
            return
        verdict = DEFERRED if deferred else QUARANTINED
        reason = f"{refused.code}: {refused.reason}"
        state.keep(Judged(replace(line, verdict=verdict, reason=reason)))
        return
    if 0 <= file.changed_s_ago < config.settle_seconds and looks_unfinished(table):
        if not line_stands(state, line):
            why = "NO_FINAL_EOL" if "NO_FINAL_EOL" in table.notes else "RAGGED_SHORT"
            state.keep(
                Judged(replace(line, verdict=DEFERRED, reason=f"{why}: still being written"))
            )
        return
    if any(known == source for known, _ in state.ledger):
        table = replace(table, notes=(*table.notes, "CHANGED"))
    state.keep(judge(table, config, config.columns, state.rows, line))


def line_stands(state: State, line: Line) -> bool:
    """Is this version of a source in the ledger already, whatever the verdict?"""
    return (line.source, line.sha256) in state.ledger


def looks_unfinished(table: schema.Table) -> bool:
    """Does the end of a file look as if more were to come?"""
    short = bool(table.rows) and len(table.rows[-1]) < len(table.header)
    return short or "NO_FINAL_EOL" in table.notes


def _twin(state: State, source: str, sha256: str) -> str | None:
    """Find another source that brought the same bytes and was used."""
    for (other, digest), line in state.ledger.items():
        if digest == sha256 and other != source and line.verdict == ACCEPTED:
            return other
    return None


def judge_table(config: Config, state: State, database: Database, now: str) -> None:
    """Judge what changed in a table since the last time.

    Raises: SourceError.
    """
    mark = sources.probe(database)
    if state.marks.get(database.name) == mark:
        return
    fetched = sources.fetch_table(database, state.watermarks.get(database.name))
    if not state.is_known(database.name, fetched.sha256):
        line = Line(now, database.name, fetched.sha256, 0, 0, 0, 0, SKIPPED, "")
        own = (*config.columns.ignore, *filter(None, [database.changed_column]))
        columns = replace(config.columns, ignore=own)
        judged = judge(fetched.table, config, columns, state.rows, line)
        state.keep(judged)
        if judged.line.verdict == QUARANTINED:
            state.marks[database.name] = mark
            return
    state.marks[database.name] = mark
    state.watermarks[database.name] = fetched.watermark


def main(argv: list[str] | None = None) -> int:
    """Ingest once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "ingestion", ingest_new_data)


if __name__ == "__main__":
    sys.exit(main())
