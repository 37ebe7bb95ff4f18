"""Step 1: take in whatever is new from the source folder and the databases, and account for all of it.

Reads:  sourcedata/*.csv, *.csv.gz, *.parquet; the database tables that config.json names
Writes: ingesteddata/finaldata.csv (the rows), finaldata.parquet (the same, typed, for the steps),
        ingestedfiles.txt (one line per version of a source ever judged), rejected.csv (every row
        refused, and why), withdrawn.csv (open rows that their table no longer holds), table_rows.npz
        (what each table held), ingestion.json (the record)
Run:    python ingestion.py [--config PATH] [--check FILE | --explain | --reconcile]
        [--accept-loss] [--adopt]
"""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from attrition.config import Config, Database
from attrition.data import databases, deduplication, ledger, schema, table_snapshot
from attrition.data import files as source_files
from attrition.data.csv_reader import NotPlain
from attrition.data.deduplication import SourceVerdict
from attrition.data.ledger import (
    ACCEPTED,
    COUNTS,
    DEFERRED,
    QUARANTINED,
    SKIPPED,
    Digest,
    Ledger,
    Line,
)
from attrition.data.schema import Refused
from attrition.errors import AttritionError, SourceError
from attrition.operations import cli
from attrition.storage import files

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SHOWN_REFUSALS = 10
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
ENDINGS = ", ".join(source_files.INPUT_ENDINGS)
WOULD_BE = {
    ACCEPTED: "would be taken",
    QUARANTINED: "would be held back",
    SKIPPED: "would be passed over",
    DEFERRED: "would wait, as it may still be being written",
}


@dataclass(frozen=True)
class Ingestion:
    """What a run took in; `held` names the sources that could not be read at all."""

    lines: tuple[Line, ...]
    rows: int
    unavailable: tuple[str, ...]
    deferred: int
    up_to_date: bool
    made: str

    def summary(self) -> str:
        new = [line for line in self.lines if line.verdict in (ACCEPTED, QUARANTINED)]
        if not new and not self.unavailable:
            waiting = f"; {self.deferred} still being written" if self.deferred else ""
            return f"nothing new; finaldata.csv has {self.rows:,} rows{waiting}"
        total = Line("", "", "", *(sum(getattr(line, name) for line in new) for name in COUNTS))
        text = (
            f"{len(new)} new source{'s' * (len(new) != 1)}: {total.counted}; "
            f"finaldata.csv has {self.rows:,} rows"
        )
        quarantined = [line for line in new if line.verdict == QUARANTINED]
        told = [f"held back {line.source}: {line.reason}" for line in quarantined]
        return "\n".join([text, *told, *(f"cannot be read now: {why}" for why in self.unavailable)])


# ---- the step


def ingest_new_data(
    config: Config,
    *,
    reconcile: bool = False,
    accept_loss: bool = False,
    adopt: bool = False,
) -> Ingestion:
    """Judge every source that is new by content, add its rows, and write all of it as one.

    A source that cannot be read now is held, said and tried again; the others go on. `reconcile` reads
    every table whole; `accept_loss` takes it that a folder is empty or a table has shrunk; `adopt` goes
    on from what a backup brought back.

    Raises: AttritionError when the folder is missing or our own files are damaged.
    """
    now = files.utc_now()
    with closing(open_ledger(config, adopt=adopt)) as known:
        names = list_folder(config)
        with holding(known):
            check_folder(config, known, names, accept_loss=accept_loss)
        for name in tqdm(names, desc="ingesting", unit="file", leave=False, disable=None):
            with holding(known):
                take_file(config, known, name, now)
        for database in config.databases:
            with holding(known):
                take_table(config, known, database, now, reconcile, accept_loss)
        record = known.record
        up_to_date = record is not None and not known.has_news
        if record is None or not up_to_date:
            record = known.write(now)
    lines, unavailable = tuple(known.new_lines), tuple(known.unavailable)
    return Ingestion(
        lines, record["rows"], unavailable, known.deferred, up_to_date, str(record["seal"])
    )


@contextmanager
def holding(known: Ledger) -> Iterator[None]:
    """Hold a source that cannot be read now: it is said, and tried again by the next run."""
    try:
        yield
    except SourceError as error:
        known.unavailable.append(str(error))
        logger.error("%s; the other sources go on", error)


def open_ledger(config: Config, *, adopt: bool) -> Ledger:
    """Read the ledger; begin a new one where the columns got another meaning.

    Raises: Damaged, AttritionError.
    """
    known = ledger.read(config, adopt=adopt)
    if known.record is None or known.record["inputs"].get("contract") == ledger.contract(config):
        return known
    check_nothing_left(config, known)
    logger.warning("the meaning of the columns changed: every source is read again")
    return known.begin_anew()


def check_nothing_left(config: Config, known: Ledger) -> None:
    """Before everything is read again: can it be, all of it?

    Raises: AttritionError.
    """
    there = {source_files.hash_file(config.input_folder / name) for name in list_folder(config)}
    gone = {source for digest, source in known.used.items() if digest not in there}
    for database in config.databases:
        try:
            databases.probe(database, seconds=config.max_source_seconds)
            gone.discard(database.name)
        except SourceError as error:
            logger.error("%s", error)
    if gone:
        raise AttritionError(
            f"config.json gives the columns another meaning, but not everything that rows were taken "
            f"from is there to be read again: {', '.join(sorted(gone)[:5])}. Put it back as it was, "
            "undo the change, or name a new output_folder_path"
        )


def list_folder(config: Config) -> list[str]:
    """List the folder, one level deep for what is not taken, without the databases' own files."""
    found = [table_snapshot.sqlite_file(database) for database in config.databases]
    ours = {path.name for path in found if path and path.parent == config.input_folder}
    ours |= {name + ending for name in ours for ending in ("-wal", "-shm", "-journal")}
    names = []
    for name in source_files.list_names(config.input_folder):
        folder = config.input_folder / name
        if folder.is_dir() and not folder.is_symlink() and source_files.not_an_input(name):
            try:
                names += [f"{name}/{inner}" for inner in source_files.list_names(folder)]
            except SourceError:  # a folder that we may not look into is not an input either
                names.append(name)
        elif name not in ours:
            names.append(name)
    return names


def check_folder(config: Config, known: Ledger, names: Iterable[str], *, accept_loss: bool) -> None:
    """Tell a folder that is not mounted from one that has nothing new.

    Raises: SourceError where files were and none is.
    """
    count = sum("/" not in name and not source_files.not_an_input(name) for name in names)
    if count or accept_loss or config.sources_may_vanish or not known.files:
        known.files = count
        return
    raise SourceError(
        f"{config.input_folder}: no file is there, where {known.files} were before. Mount it or put "
        "them back; if that is as it should be: python ingestion.py --accept-loss, or for good "
        '"sources_may_vanish": true in config.json'
    )


def limits(config: Config) -> source_files.Limits:
    return source_files.Limits(int(config.max_source_mb * 2**20), config.max_source_seconds)


def take_file(config: Config, known: Ledger, name: str, now: str) -> None:
    """Judge one file of the folder, unless this version of it was judged before, and add its rows.

    Raises: SourceError when it takes too long.
    """
    line = Line(now, source_files.shown(name), "-")
    if why := "NOT_TOP_LEVEL" if "/" in name else source_files.not_an_input(name):
        known.add_line(line._replace(reason=why))
        return
    path = config.input_folder / name
    if known.is_known(line.source, source_files.hash_file(path, limits(config))):
        return
    with ExitStack() as stack:
        add(known, judge_file(config, known, path, line, stack))


def judge_file(
    config: Config, known: Ledger, path: Path, line: Line, stack: ExitStack
) -> SourceVerdict:
    """Judge what a file holds now; one that looks unfinished and was written to just now waits.

    Raises: SourceError.
    """
    settled = False
    try:
        file = stack.enter_context(source_files.reading(path, limits(config), spool_folder(config)))
        line = line._replace(sha256=file.sha256)
        settled = abs(file.changed_s_ago) >= config.settle_seconds
        if (twin := known.used.get(file.sha256)) and twin != line.source:
            return SourceVerdict(line._replace(reason=f"SAME_CONTENT: as {twin}"))
        judged = judge_lanes(config, known, file, line, stack)
    except Refused as refused:
        verdict = DEFERRED if refused.unfinished and not settled else QUARANTINED
        return SourceVerdict(
            line._replace(verdict=verdict, reason=f"{refused.code}: {refused.reason}")
        )
    except MemoryError as error:
        told = "needs more memory than there is; lower max_source_mb, or take the file away"
        raise SourceError(f"{line.source}: {told}") from error
    except UNFORESEEN as error:
        # A library stumbled where nobody foresaw it: no file may stop all the others. Not the message,
        # which may hold a client's row, but the place is told.
        at = traceback.extract_tb(error.__traceback__)[-1]
        told = f"cannot be judged ({type(error).__name__} in {Path(at.filename).name}:{at.lineno})"
        raise SourceError(f"{line.source}: {told}; report this, or take the file away") from error
    if judged.unfinished and not settled:
        reason = f"{judged.unfinished}: still being written"
        return SourceVerdict(line._replace(verdict=DEFERRED, reason=reason))
    return judged


def judge_lanes(
    config: Config, known: Ledger, file: source_files.File, line: Line, stack: ExitStack
) -> SourceVerdict:
    """Judge a file in the fast lane, and in the strict one where that does not judge it.

    Raises: Refused, SourceError.
    """
    changed = ("CHANGED",) if line.source in known.used_names else ()
    for fast in (True, False):
        try:
            with source_files.open_table(file, fast=fast) as table:
                table = replace(table, notes=(*table.notes, *changed))
                spool = stack.enter_context(source_files.make_spool(file.spool_folder))
                return deduplication.judge(table, config.columns, known, line, spool)
        except NotPlain:
            continue
    raise AssertionError("the strict lane judges every file")


def spool_folder(config: Config) -> Path | None:
    return config.output_folder if config.output_folder.is_dir() else None


def add(known: Ledger, judged: SourceVerdict) -> None:
    """Add what was judged, unless it says no more than the ledger does already.

    Raises: Unaccounted.
    """
    line = judged.line
    if not known.add_line(line):
        return
    if line.verdict == ACCEPTED:
        for part in judged.accepted():
            known.add_rows(*part)
    known.add_refusals(
        (line.ingested_at, line.source, row.line, f"{row.code}: {row.reason}", row.raw)
        for row in judged.refusals()
    )
    if line.verdict in (ACCEPTED, QUARANTINED):
        level = logging.WARNING if line.verdict == QUARANTINED else logging.INFO
        text = "%s %s: %d records, %d accepted, %d refused, %d duplicates%s"
        noted = f" ({line.reason})" if line.reason else ""
        logger.log(level, text, line.source, line.verdict, *line[3:7], noted)


def take_table(
    config: Config,
    known: Ledger,
    database: Database,
    now: str,
    reconcile: bool,
    accept_loss: bool,
) -> None:
    """Judge what changed in a table since it was last seen, and remember how far it was seen.

    A whole reading also tells which rows the table no longer holds: those are withdrawn.

    Raises: SourceError when it cannot be read, lacks a column, or lost more rows than it should.
    """
    seconds = config.max_source_seconds
    mark = databases.probe(database, seconds=seconds)
    place = databases.identity(database)
    since = known.watermarks.get(place)
    whole = reconcile or is_due(database, since)
    if known.marks.get(database.name) == mark and not whole:
        return
    line = Line(now, database.name, "")
    own = (*config.columns.ignore, *filter(None, [database.changed_column]))
    columns = replace(config.columns, ignore=own)
    with source_files.make_spool(config.output_folder) as spool:
        with databases.reading(database, since, seconds=seconds, whole=whole) as reading:
            check_columns(config, database, reading.header)
            if not accept_loss:
                check_shrink(database, since, reading.seen["rows"])
            table = schema.Table(reading.header, reading.chunks)
            judged = deduplication.judge(table, columns, known, line, spool)
        known.marks[database.name] = mark
        if judged.line.verdict == QUARANTINED:
            add(known, judged)
            return
        gone = find_withdrawn(database, known, place, judged) if reading.whole else set()
        add_looked_at(known, judged, len(gone))
    known.watermarks[place] = reading.seen
    accepted = zip(judged.digests, judged.verdicts, strict=True)
    owned = known.owned.setdefault(place, set())
    owned |= {key for key, verdict in accepted if verdict == ACCEPTED}
    if reading.whole:
        known.withdraw(sorted(gone), database.name, now)
        owned &= set(judged.digests)
    if gone:
        logger.warning("%s: %d rows are no longer there; withdrawn", database.name, len(gone))


def add_looked_at(known: Ledger, judged: SourceVerdict, withdrawn: int) -> None:
    """Add what a table brought; a look that brought nothing and took nothing leaves no line."""
    line = judged.line
    if withdrawn:
        line = line._replace(
            reason="; ".join(filter(None, [line.reason, f"WITHDRAWN: {withdrawn}"]))
        )
    if known.is_known(line.source, line.sha256):
        if not line.accepted and not withdrawn:
            return
        version = f"{line.sha256} {len(known.lines)}"  # the same rows are back: another version
        line = line._replace(sha256=files.sha256_bytes(version.encode()))
    add(known, replace(judged, line=line))


def is_due(database: Database, since: databases.Watermark | None) -> bool:
    """Is it time to read a table whole again, for what slips through and for what was deleted?"""
    if since is None:
        return False  # never read, or held back when it was: it is read whole when it has news
    hours = (datetime.now(UTC) - datetime.fromisoformat(since["whole_at"])).total_seconds() / 3600
    return not 0 <= hours < database.reconcile_hours


def find_withdrawn(
    database: Database, known: Ledger, place: str, judged: SourceVerdict
) -> set[Digest]:
    """Of the rows a table no longer holds, return those that go: an outcome, once told, stays true."""
    missing = known.owned.get(place, set()) - set(judged.digests)
    missing &= known.rows.keys()
    if database.on_delete == "remove":
        return missing
    return {key for key in missing if known.rows[key] == ledger.OPEN}


def check_columns(config: Config, database: Database, header: Sequence[str]) -> None:
    try:
        schema.match_header(header, config.columns)
    except schema.BadHeader as error:
        raise SourceError(f"{database.name}: {error.reason} in {database.table}") from error


def check_shrink(database: Database, since: databases.Watermark | None, rows: int) -> None:
    """Hold a table that lost much at once: it may be half filled, or another one."""
    if since and rows < (1 - database.max_shrink) * since["rows"]:
        raise SourceError(
            f"{database.name}: {rows} rows are in {database.table}, where {since['rows']} were before; "
            "nothing is taken from it until they are back. If that is as it should be: "
            "python ingestion.py --accept-loss"
        )


# ---- by hand


def check_by_hand(config: Config, path: Path) -> tuple[str, bool]:
    """Tell what would happen to a file in the folder, and whether it is of use; take nothing of it.

    Raises: AttritionError where there is no such file.
    """
    name, refusals = source_files.shown(path.name), []
    if not os.path.lexists(path):
        raise AttritionError(f"{source_files.shown(str(path))}: there is no such file")
    if why := source_files.not_an_input(path.name):
        return f"{name}: would be passed over ({why}); inputs end in {ENDINGS}", False
    known = ledger.read_aside(config)
    with closing(known), ExitStack() as stack:
        judged = judge_file(config, known, path, Line(files.utc_now(), name, "-"), stack)
        line = judged.line
        if known.is_known(name, line.sha256):
            line = known.lines[name, line.sha256]
            told = f"{name}: no news, it was {line.verdict} at {line.ingested_at}"
        else:
            told = f"{name}: {WOULD_BE[line.verdict]}"
            refusals = list(islice(judged.refusals(), SHOWN_REFUSALS))
    lines = [f"{told}: {line.counted}" if line.records else told]
    lines += [f"why: {line.reason}"] if line.reason else []
    lines += [f"line {row.line}: {row.code}: {row.reason}" for row in refusals]
    if refusals and line.rejected > len(refusals):
        lines.append(f"... and {line.rejected - len(refusals):,} more")
    return "\n".join(lines), line.verdict in (ACCEPTED, SKIPPED)


def main(argv: list[str] | None = None) -> int:
    """Ingest once, by hand; exits 1 when a source could not be read."""
    parser = cli.parser(__doc__)
    asked = parser.add_mutually_exclusive_group()
    told = "tell what would happen to a file, and take nothing; exits 1 when it is of no use"
    asked.add_argument("--check", type=Path, metavar="FILE", help=told)
    asked.add_argument("--explain", action="store_true", help="say in words what a good row is")
    told = "read every table whole, and withdraw what it no longer holds"
    asked.add_argument("--reconcile", action="store_true", help=told)
    told = "take it that a folder is empty or a table has shrunk"
    parser.add_argument("--accept-loss", action="store_true", help=told)
    told = "go on from an older state, as a backup brings it back"
    parser.add_argument("--adopt", action="store_true", help=told)
    options = parser.parse_args(argv)
    if options.check or options.explain:
        return cli.run_command(options, lambda config: tell(config, options))
    unavailable: list[str] = []

    def ingest(config: Config) -> Ingestion:
        result = ingest_new_data(
            config,
            reconcile=options.reconcile,
            accept_loss=options.accept_loss,
            adopt=options.adopt,
        )
        unavailable.extend(result.unavailable)
        return result

    return cli.run(options, "ingestion", ingest) or int(bool(unavailable))


def tell(config: Config, options: argparse.Namespace) -> int:
    if options.explain:
        print(schema.explain(config.columns, config.missing_markers))
        return 0
    told, is_of_use = check_by_hand(config, options.check)
    print(told)
    return int(not is_of_use)


if __name__ == "__main__":
    sys.exit(main())
