"""Step 1: ingest new records from the source folder and the databases, and account for each of them.

Reads:  sourcedata/*.csv, *.csv.gz, *.parquet, *.xlsx; the database tables that config.json names
Writes: ingesteddata/finaldata.csv (the rows), finaldata.parquet (the same, typed and sorted, for the
        steps; beside many rows also finaldata-<n>.parquet), gone.npz (rows that no longer count),
        ingestedfiles.txt (one line per version of a source), rejected.csv (every refused row and the
        reason), withdrawn.csv (rows that were withdrawn because their table no longer has them),
        table_rows.npz (the rows of each table), deliveries.npz (the number of each row, and
        the line of ingestedfiles.txt of its source), ingestion.json (the record)
Run:    python ingestion.py [--config PATH] [--check FILE | --explain | --reconcile]
        [--accept-loss] [--adopt] [--accept-source NAME]
"""

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from attrition import wording
from attrition.config import Config, Database, Files
from attrition.data import name_variants, schema
from attrition.data.schema import Refused
from attrition.databases import reader as databases
from attrition.databases import table_snapshot
from attrition.errors import AttritionError, SourceError
from attrition.operations import cli
from attrition.rows import deduplication, ledger
from attrition.rows.deduplication import NEWER, SourceVerdict
from attrition.rows.known_rows import OPEN, OUTCOME, Identities
from attrition.rows.ledger import (
    ACCEPTED,
    COUNTS,
    DEFERRED,
    QUARANTINED,
    SKIPPED,
    Ledger,
    Line,
    Unused,
)
from attrition.sources import files as source_files
from attrition.sources import inspection, unused
from attrition.sources.csv_reader import NotPlain
from attrition.storage import files, tables

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SHOWN_REFUSALS = 10
UNUSED_SHOWN = 20
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
ENDINGS = ", ".join(source_files.INPUT_ENDINGS)
WOULD_BE = {
    ACCEPTED: "would be accepted",
    QUARANTINED: "would be quarantined",
    SKIPPED: "would be skipped",
    DEFERRED: "would wait, because it may still be being written",
}


@dataclass(frozen=True)
class Ingestion:
    """The result of a run: `file` has all rows; `unavailable` names sources that could not be read."""

    lines: tuple[Line, ...]
    rows: int
    unavailable: tuple[str, ...]
    unused: tuple[Unused, ...]
    deferred: int
    up_to_date: bool
    seal: str
    file: str

    @property
    def records(self) -> int:
        """The records that this run read."""
        return sum(line.records for line in self.lines)

    def summary(self) -> str:
        new = [line for line in self.lines if line.verdict in (ACCEPTED, QUARANTINED)]
        if not new:
            waiting = f"; {self.deferred} still being written" if self.deferred else ""
            return f"nothing new; {self.file} has {self.rows:,} rows{waiting}"
        total = Line("", "", "", *(sum(getattr(line, name) for line in new) for name in COUNTS))
        return (
            f"{len(new)} new source{'s' * (len(new) != 1)}: {total.counted}; "
            f"{self.file} has {self.rows:,} rows"
        )


# ---- the step


@tables.system_memory()
def ingest_new_data(
    config: Config,
    *,
    reconcile: bool = False,
    accept_loss: bool = False,
    adopt: bool = False,
    accept_source: str | None = None,
) -> Ingestion:
    """Validate every source with new content, add its rows, and write everything in one commit.

    If a source cannot be read now, report it and retry it in the next run; the other sources continue.
    `reconcile` reads every table whole; `accept_loss` accepts an empty folder or a table that lost rows;
    `adopt` continues from a restored backup; `accept_source` names a suspicious delivery to use.

    Raises: AttritionError if the folder is missing or our own files are damaged.
    """
    now = files.utc_now()
    with closing(open_ledger(config, adopt=adopt)) as account:
        if accept_source is not None:
            check_suspicious(config, accept_source)
            account.accepted.setdefault(accept_source, now)
        names, lines = list_folder(config), list[Line]()
        with skip_unavailable(account):
            check_folder(config, account, accept_loss=accept_loss)
        for name in show_progress(names):
            with skip_unavailable(account):
                lines.append(take_file(config, account, name, now))
        for database in config.databases:
            with skip_unavailable(account):
                if line := take_table(config, account, database, now, reconcile, accept_loss):
                    lines.append(line)
        warn_of_names(account)
        not_read = {each.name for each in config.databases} - {line.source for line in lines}
        account.unused = unused.find(lines, unused_before(account), not_read)
        for text in wording.unused_lines([one._asdict() for one in account.unused], UNUSED_SHOWN):
            logger.warning("%s", text)
        record = account.record
        up_to_date = record is not None and not account.has_news
        if record is None or not up_to_date:
            record = account.write(now)
    return Ingestion(
        lines=tuple(account.new_lines),
        rows=record["rows"],
        unavailable=tuple(account.unavailable),
        unused=tuple(account.unused),
        deferred=account.deferred,
        up_to_date=up_to_date,
        seal=str(record["seal"]),
        file=(config.final_data if config.dataset_format == "csv" else config.rows).name,
    )


def show_progress(names: Sequence[str]) -> Iterable[str]:
    """Return the names; on a terminal, a bar shows how many have been taken."""
    if not sys.stderr.isatty():
        return names
    from tqdm import tqdm  # its import costs as much as 10,000 rows

    return tqdm(names, desc="ingesting", unit="file", leave=False)


def warn_of_names(account: Ledger) -> None:
    """Log the new clients whose names may be those of other clients."""
    if account.has_news and (groups := account.name_variants[1]):
        logger.warning("%s", name_variants.describe(groups))


def unused_before(account: Ledger) -> list[Unused]:
    """Return the unused sources of the last run; if its version named none, by their last lines."""
    if account.record is None or "unused" in account.record:
        return account.unused
    last = {line.source: line for line in account.lines.values()}
    return [one for line in last.values() if (one := unused.describe(line))]


@contextmanager
def skip_unavailable(account: Ledger) -> Iterator[None]:
    """If a source cannot be read now, record and log it; the next run retries it."""
    try:
        yield
    except SourceError as error:
        account.unavailable.append(str(error))
        logger.error("%s; the other sources continue", error)


def open_ledger(config: Config, *, adopt: bool) -> Ledger:
    """Read the ledger; start a new one if the meaning of the columns has changed.

    Raises: Damaged, AttritionError.
    """
    account = ledger.read(config, adopt=adopt)
    if account.record is None:
        return account
    is_same = account.record["inputs"]["contract"] == ledger.contract(config)
    if is_same and (name := find_other_dialect(config, account)) is None:
        return account
    change = f"the dialect of {name}" if is_same else "the meaning of the columns"
    check_nothing_left(config, account, change)
    logger.warning("%s has changed: all sources are read again", change)
    return account.begin_anew()


def find_other_dialect(config: Config, account: Ledger) -> str | None:
    """Return a file of the folder that was accepted in another dialect than config.json names now."""
    for name in list_folder(config):
        source = source_files.shown(name)
        named = config.files.dialect(name).named()
        if source in account.used_names and account.dialects.get(source, {}) != named:
            digest = source_files.hash_file(config.input_folder / name, limits(config))
            line = account.lines.get((source, digest))
            if line is not None and line.verdict == ACCEPTED:
                return source
    return None


def check_nothing_left(config: Config, account: Ledger, change: str) -> None:
    """Check that every source of the ingested rows can be read again.

    Raises: AttritionError if one is gone.
    """
    there = {source_files.hash_file(config.input_folder / name) for name in list_folder(config)}
    gone = {source for digest, source in account.used.items() if digest not in there}
    for database in config.databases:
        try:
            databases.probe(database, seconds=config.max_source_seconds)
            gone.discard(database.name)
        except SourceError as error:
            logger.error("%s", error)
    if gone:
        raise AttritionError(
            f"config.json changes {change}, so all sources must be read again, but some are gone: "
            f"{', '.join(sorted(gone)[:5])}. Put them back, undo the change (files.by_name can name "
            "other keys for new files alone), or name a new output_folder_path"
        )


def check_suspicious(config: Config, name: str) -> None:
    """Check that monitoring.py found a delivery suspicious.

    Raises: AttritionError.
    """
    record = files.read_record(config.monitoring_record) or {}
    left_out = [*record.get("other_units", []), *record.get("suspicious", [])]
    names = [one["source"] for one in left_out]
    if name not in names:
        which = f"these are: {', '.join(names)}" if names else "none is"
        raise AttritionError(f"--accept-source {name}: is not a suspicious delivery; {which}")


def list_folder(config: Config) -> list[str]:
    """List the input folder and its sub-folders, one level deep.

    The files of the databases and those of `ignore_files` are left out.
    """
    of_tables = [path for each in config.databases if (path := table_snapshot.sqlite_file(each))]
    endings = ("", "-wal", "-shm", "-journal")
    ours = {
        path.parent.resolve() / (path.name + ending) for path in of_tables for ending in endings
    }
    place, names = config.input_folder.resolve(), list[str]()
    for name in source_files.list_names(config.input_folder):
        folder = config.input_folder / name
        if folder.is_dir() and not folder.is_symlink() and source_files.not_an_input(name):
            try:
                names += [f"{name}/{inner}" for inner in source_files.list_names(folder)]
            except SourceError:  # a folder without read permission is not an input either
                names.append(name)
        else:
            names.append(name)
    return [name for name in names if place / name not in ours and not config.is_ignored(name)]


def check_folder(config: Config, account: Ledger, *, accept_loss: bool) -> None:
    """Check that the folder is mounted: an empty one has no news only if it was empty before.

    Raises: SourceError if it had files before and now has none, not even ignored ones.
    """
    names = list_folder(replace(config, ignore_files=()))
    count = sum("/" not in name and not source_files.not_an_input(name) for name in names)
    if count or accept_loss or config.sources_may_vanish or not account.files:
        account.files = count
        return
    raise SourceError(
        f"{config.input_folder}: no file is there, but {account.files} were before. Mount it or put "
        "them back; if this is intended: python ingestion.py --accept-loss, or permanently "
        '"sources_may_vanish": true in config.json'
    )


def limits(config: Config) -> source_files.Limits:
    return source_files.Limits(int(config.max_source_mb * 2**20), config.max_source_seconds)


def take_file(config: Config, account: Ledger, name: str, now: str) -> Line:
    """Validate one file of the folder and add its rows, if this version of it is new.

    Return the line of this version.

    Raises: SourceError if it takes too long.
    """
    line = Line(now, source_files.shown(name), "-")
    if why := "NOT_TOP_LEVEL" if "/" in name else source_files.not_an_input(name):
        line = line._replace(reason=why)
        account.add_line(line)
        return line._replace(ingested_at=account.lines[line.source, line.sha256].ingested_at)
    path = config.input_folder / name
    dialect = config.files.dialect(name)
    version = source_files.hash_file(path, limits(config))
    if not account.is_known(line.source, version, dialect):
        with ExitStack() as stack:
            result = validate_file(config, account, path, line, stack)
            add(account, result)
            version = result.line.sha256
        if result.line.verdict in (ACCEPTED, QUARANTINED):
            account.enter_dialect(line.source, dialect)
    return account.lines[line.source, version]


def validate_file(
    config: Config, account: Ledger, path: Path, line: Line, stack: ExitStack
) -> SourceVerdict:
    """Validate the content of a file; if it looks unfinished and changed just now, defer it.

    Raises: SourceError.
    """
    settled = False
    try:
        dialect = config.files.dialect(path.name)
        file = stack.enter_context(
            source_files.reading(path, limits(config), spool_folder(config), dialect)
        )
        line = line._replace(sha256=file.sha256)
        settled = abs(file.changed_s_ago) >= config.settle_seconds
        if (twin := account.used.get(file.sha256)) and twin != line.source:
            return no_rows(config, line._replace(reason=f"SAME_CONTENT: as {twin}"))
        result = validate_lanes(config, account, file, line, stack)
    except Refused as refused:
        verdict = DEFERRED if refused.unfinished and not settled else QUARANTINED
        reason = f"{refused.code}: {refused.reason}"
        return no_rows(config, line._replace(verdict=verdict, reason=reason))
    except MemoryError as error:
        reason = "needs more memory than there is; lower max_source_mb, or remove the file"
        raise SourceError(f"{line.source}: {reason}") from error
    except UNFORESEEN as error:
        # An unforeseen error of a library: one file must not stop the others. The message may contain
        # a client's row, so only the type and place of the error are logged.
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = (
            f"cannot be judged ({type(error).__name__} in {Path(at.filename).name}:{at.lineno})"
        )
        raise SourceError(f"{line.source}: {reason}; report this, or remove the file") from error
    if result.unfinished and not settled:
        reason = f"{result.unfinished}: still being written"
        return no_rows(config, line._replace(verdict=DEFERRED, reason=reason))
    return result


def no_rows(config: Config, line: Line) -> SourceVerdict:
    return SourceVerdict(line, config.columns)


def validate_lanes(
    config: Config, account: Ledger, file: source_files.File, line: Line, stack: ExitStack
) -> SourceVerdict:
    """Validate a file in the fast lane, or in the strict lane if the fast one cannot.

    Raises: Refused, SourceError.
    """
    changed = ("CHANGED",) if line.source in account.used_names else ()
    for fast in (True, False):
        try:
            with source_files.open_table(file, fast=fast) as table:
                table = replace(table, notes=(*table.notes, *changed))
                spool = stack.enter_context(tables.make_spool(file.spool_folder))
                return deduplication.judge(table, config.columns, account, line, spool)
        except NotPlain:
            continue
    raise AssertionError("the strict lane validates every file")


def spool_folder(config: Config) -> Path | None:
    return config.output_folder if config.output_folder.is_dir() else None


def add(account: Ledger, result: SourceVerdict) -> None:
    """Add a verdict and its rows, if the ledger does not have the same line yet.

    Raises: Unaccounted.
    """
    line = result.line
    if not account.add_line(line, result.newest_time):
        return
    if line.verdict == ACCEPTED:
        account.add_booleans(result.booleans)
        for rows in result.accepted():
            account.add_rows(rows)
    account.add_refusals(
        (line.ingested_at, line.source, row.line, f"{row.code}: {row.reason}", row.raw)
        for row in result.refusals()
    )
    if line.verdict == ACCEPTED:
        is_doubtful = any(f"{code}: " in line.reason for code in schema.DOUBTFUL)
        level = logging.WARNING if is_doubtful else logging.INFO
        note = f" ({line.reason})" if line.reason else ""
        logger.log(level, "%s accepted: %s%s", line.source, line.counted, note)


def take_table(
    config: Config,
    account: Ledger,
    database: Database,
    now: str,
    reconcile: bool,
    accept_loss: bool,
) -> Line | None:
    """Validate the changes of a table since the last reading, and store how far it was read.

    If the whole table is read, rows that it no longer contains are withdrawn. Return its line, None
    if it has not changed.

    Raises: SourceError if it cannot be read, lacks a column, or lost more rows than `max_shrink`.
    """
    seconds = config.max_source_seconds
    mark = databases.probe(database, seconds=seconds)
    place = databases.identity(database)
    since = account.watermarks.get(place)
    whole = reconcile or is_due(database, since)
    if account.marks.get(database.name) == mark and not whole:
        return None
    line = Line(now, database.name, "")
    own = (*config.columns.ignore, *filter(None, [database.changed_column]))
    columns = replace(config.columns, ignore=own)
    with tables.make_spool(config.output_folder) as spool:
        with databases.reading(database, since, seconds=seconds, whole=whole) as reading:
            check_columns(config, database, reading.header)
            if not accept_loss:
                check_shrink(database, since, reading.seen["rows"])
            table = schema.Table(reading.header, reading.chunks)
            before = account.owned.get(place, Identities())
            result = deduplication.judge(table, columns, account, line, spool, before)
        account.marks[database.name] = mark
        if result.line.verdict == QUARANTINED:
            add(account, result)
            return result.line
        gone = Identities()
        if reading.whole:
            gone = find_withdrawn(database, account, before, result)
        add_table(account, result, len(gone))
    account.watermarks[place] = reading.seen
    owned = before | result.identities(result.verdicts <= NEWER)
    if reading.whole:
        account.withdraw(gone, database.name, now)
        owned &= result.identities()
    account.owned[place] = owned
    if len(gone):
        logger.warning("%s: %d rows are no longer there; withdrawn", database.name, len(gone))
    return result.line


def add_table(account: Ledger, result: SourceVerdict, withdrawn: int) -> None:
    """Add the verdict on a table; if it neither added nor withdrew rows, add no line."""
    line = result.line
    if withdrawn:
        line = line._replace(
            reason="; ".join(filter(None, [line.reason, f"WITHDRAWN: {withdrawn}"]))
        )
    if account.is_known(line.source, line.sha256):
        if not line.accepted and not withdrawn:
            return
        version = f"{line.sha256} {len(account.lines)}"  # the same rows again: another version
        line = line._replace(sha256=files.sha256_bytes(version.encode()))
    add(account, replace(result, line=line))


def is_due(database: Database, since: databases.Watermark | None) -> bool:
    """Return whether the whole table has to be read again, to find deleted rows and missed changes."""
    if since is None:
        return False  # never read, or quarantined: it is read whole when it changes
    age = databases.utc_datetime() - datetime.fromisoformat(since["whole_at"])
    hours = age.total_seconds() / 3600
    return not 0 <= hours < database.reconcile_hours


def find_withdrawn(
    database: Database, account: Ledger, before: Identities, result: SourceVerdict
) -> Identities:
    """Return the rows missing from their table; only open ones if `on_delete` is not "remove"."""
    missing = before - result.identities()
    places = account.rows.find(missing.client, missing.inputs)
    is_gone = places >= 0
    if database.on_delete != "remove":
        is_gone[is_gone] = account.rows.get(OUTCOME, places[is_gone]) == OPEN
    return missing.filter(is_gone)


def check_columns(config: Config, database: Database, header: Sequence[str]) -> None:
    """Raise SourceError if a table lacks a column, be it one that a file may lack."""
    try:
        _, notes = schema.match_header(header, config.columns)
    except schema.BadHeader as error:
        raise SourceError(f"{database.name}: {database.table}: {error.reason}") from error
    if lacking := [note for note in notes if note.startswith(schema.NO_COLUMN)]:
        raise SourceError(f"{database.name}: {database.table}: {'; '.join(lacking)}")


def check_shrink(database: Database, since: databases.Watermark | None, rows: int) -> None:
    """Raise SourceError if a table lost many rows at once; it may be incomplete, or another table."""
    if since and rows < (1 - database.max_shrink) * since["rows"]:
        raise SourceError(
            f"{database.name}: {database.table} has {rows} rows, but had {since['rows']} before; "
            "nothing is read from it until they are back. If this is intended: python ingestion.py "
            "--accept-loss"
        )


# ---- the options


def check_by_hand(config: Config, path: Path) -> tuple[str, bool]:
    """Describe what would happen to a file in the folder, and return if it is usable; ingest nothing.

    If another dialect would read more of its rows, propose it.

    Raises: AttritionError if there is no such file.
    """
    name = source_files.shown(path.name)
    if not os.path.lexists(path):
        raise AttritionError(f"{source_files.shown(str(path))}: there is no such file")
    if why := source_files.not_an_input(path.name):
        return f"{name}: would be skipped ({why}); inputs end in {ENDINGS}", False
    if config.is_ignored(path.name):
        return f"{name}: would be skipped: ignore_files of config.json names it", False
    with closing(ledger.read_aside(config)) as account, ExitStack() as stack:
        line = Line(files.utc_now(), name, "-")
        result = validate_file(config, account, path, line, stack)
        if account.is_known(name, result.line.sha256, config.files.dialect(path.name)):
            known = account.lines[name, result.line.sha256]
            verdict = f"{name}: not new, it was {known.verdict} at {known.ingested_at}"
            lines = describe_verdict(verdict, replace(result, line=known, spool=None))
            is_usable = known.verdict in (ACCEPTED, SKIPPED)
        else:
            lines = describe_verdict(f"{name}: {WOULD_BE[result.line.verdict]}", result)
            is_usable = result.line.verdict in (ACCEPTED, SKIPPED)
        if result.line.verdict != SKIPPED:
            lines += propose_dialect(config, account, path, result.line, stack, is_usable)
    return "\n".join(lines), is_usable


def describe_verdict(verdict: str, result: SourceVerdict) -> list[str]:
    """Describe the counts, the reason and the first refusals of a source."""
    line, refusals = result.line, list(islice(result.refusals(), SHOWN_REFUSALS))
    lines = [f"{verdict}: {line.counted}" if line.records else verdict]
    lines += [f"reason: {line.reason}"] if line.reason else []
    lines += [f"line {row.line}: {row.code}: {row.reason}" for row in refusals]
    if refusals and line.rejected > len(refusals):
        lines.append(f"... and {line.rejected - len(refusals):,} more")
    return lines


def propose_dialect(
    config: Config, account: Ledger, path: Path, line: Line, stack: ExitStack, is_usable: bool
) -> list[str]:
    """Describe what a file looks like, and the lines of config.json by which it would be read."""
    dialect = config.files.dialect(path.name)
    try:
        with source_files.reading(path, limits(config), spool_folder(config), dialect) as file:
            inspected = inspection.inspect(file, config.columns)
    except (Refused, SourceError):
        return []
    is_other = inspected.dialect != dialect
    if is_usable and not is_other and not inspected.ambiguities:
        return []
    lines = ["it looks like this:"] if inspected.findings else []
    lines += [f"  {finding}" for finding in inspected.findings]
    lines += [f"ambiguous: {text}; name the right one" for text in inspected.ambiguities]
    if not is_other:
        return lines
    others = account.used_names - {line.source} - {each.name for each in config.databases}
    proposed = inspection.propose(config.files, path.name, inspected.dialect, for_all=not others)
    read_so = replace(config, files=Files(**vars(inspected.dialect)))
    result = validate_file(read_so, account, path, line._replace(sha256="-"), stack)
    lines.append('to read it this way, set in config.json (replace "files" if it exists):')
    lines.append(f'  "files": {json.dumps(proposed, ensure_ascii=False)}')
    return lines + describe_verdict(f"then it {WOULD_BE[result.line.verdict]}", result)


def main(argv: list[str] | None = None) -> int:
    """Ingest once; exit 1 if a source could not be read."""
    parser = cli.parser(__doc__)
    actions = parser.add_mutually_exclusive_group()
    text = "print what would happen to a file, and ingest nothing; exit with 1 if it is unusable"
    actions.add_argument("--check", type=Path, metavar="FILE", help=text)
    actions.add_argument("--explain", action="store_true", help="describe a valid row")
    text = "read every table in full, and withdraw rows that it no longer contains"
    actions.add_argument("--reconcile", action="store_true", help=text)
    text = "accept an empty source folder, or a table that lost rows"
    parser.add_argument("--accept-loss", action="store_true", help=text)
    text = "continue from an older state, e.g. one restored from a backup"
    parser.add_argument("--adopt", action="store_true", help=text)
    text = "use a delivery although its outcomes contradict the model; monitoring.json names them"
    parser.add_argument("--accept-source", metavar="NAME", help=text)
    options = parser.parse_args(argv)
    if options.check or options.explain:
        return cli.run_command(options, lambda config: print_check(config, options))
    unavailable: list[str] = []
    tables.hide_pandas()

    def ingest(config: Config) -> Ingestion:
        result = ingest_new_data(
            config,
            reconcile=options.reconcile,
            accept_loss=options.accept_loss,
            adopt=options.adopt,
            accept_source=options.accept_source,
        )
        unavailable.extend(result.unavailable)
        return result

    return cli.run(options, "ingestion", ingest) or int(bool(unavailable))


def print_check(config: Config, options: argparse.Namespace) -> int:
    if options.explain:
        print(schema.explain(config.columns, config.missing_markers))
        return 0
    text, is_usable = check_by_hand(config, options.check)
    print(text)
    return int(not is_usable)


if __name__ == "__main__":
    sys.exit(main())
