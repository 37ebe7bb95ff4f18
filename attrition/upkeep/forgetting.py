"""Forget a client on request: put a random token in place of the name everywhere, and keep the facts.

`RULES` lists how each file is rewritten. `plan` finds the name, and changes nothing. `commit`
writes the new files part by part beside the old ones, then the journal, then renames; from the journal
on, a killed run is finished by `finish`. Databases and logs are rewritten in place instead, because the
app or another run may write to them meanwhile. Hashes of the name are replaced like the name, because
anybody can compute them from it. The risks and places of all others stay, because nothing is computed
again: every record that names the hash of a file that changed gets the new one.
"""

import csv
import fcntl
import html
import logging
import os
import re
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition import wording
from attrition.assessing import kept_parts
from attrition.config import Config
from attrition.contacts import assignments, log
from attrition.data import clients, name_variants
from attrition.data.cells import read_client
from attrition.entering import workbook
from attrition.errors import AttritionError, ConfigError, Damaged
from attrition.operations import releases
from attrition.rows import forgotten, ledger, segments, typed_rows
from attrition.rows.forgotten import Forgotten
from attrition.rows.observations import name_hash
from attrition.storage import files, history, tables
from attrition.upkeep import integrity, rewriting, source_search
from attrition.upkeep.rewriting import CLIENT, Ids, Substitution, Target, replace_digests

logger = logging.getLogger(__name__)

STAGED = ".forgotten"  # ending of a new file that waits beside the old one
PROSE = ("note", "body", "subject", "text", "payload", "record")  # columns that people read
# Columns of the contact log that name no client.
KEPT = (
    *("kind", "by", "outcome", "manager", "via", "release", "date", "at"),
    *("arm", "quarter", "key_digest"),
)


@dataclass
class Plan:
    """What takes the place of what, and where.

    paths: the segments; counts: replacements by file; staged: files that are written anew; records: as
    they are, and with other names but the old hashes; digests: hashes of files and records, and the new
    ones; removed: files that are made again or only save time; kept: files that have the name and stay
    """

    config: Config
    texts: Substitution
    hidden: Forgotten
    paths: Sequence[Path]
    ids: Ids
    similar: Sequence[str] = ()
    removed: Sequence[Path] = ()
    counts: Counter[str] = field(default_factory=Counter)
    staged: list[Path] = field(default_factory=list)
    records: dict[Path, tuple[files.Record, files.Record]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    kept: list[Path] = field(default_factory=list)

    def in_prose(self, text: str) -> str:
        """Replace the name in what people wrote, and the keys of lines of sheets, hashes of it."""
        project, texts = self.config.project, self.texts

        def renew(match: re.Match[str]) -> str:
            if match[0] != workbook.key_of(project, match["day"], texts.name):
                return match[0]
            texts.count += 1
            return workbook.key_of(project, match["day"], texts.token)

        return workbook.LINE_KEY.sub(renew, texts.in_prose(text))


# ---- the name, the token, the rows


def choose_token(name: str, shares: Sequence[float]) -> str:
    """Return a random token that is held out of training exactly if the client is.

    So no client changes the side of the split. The token is not computed from the name, and reveals one
    bit of it, which at least half of all names share.
    """

    def sides(text: str) -> list[bool]:
        return [bool(typed_rows.held_out([name_hash(text)], share)[0]) for share in shares]

    wanted = sides(name)
    while True:
        if sides(token := f"forgotten-{secrets.token_hex(8)}") == wanted:
            return token


def list_shares(config: Config) -> list[float]:
    """Return the shares of held-out clients of config.json and of all releases."""
    folders = [config.releases / each for each in releases.list_ids(config.production_folder)]
    records = [files.read_record(folder / releases.TRAINING) or {} for folder in folders]
    present = config.held_out_share
    return sorted({present, *(float(each.get("held_out_share", present)) for each in records)})


def list_segments(config: Config) -> list[Path]:
    """Return the files of rows, as the present version writes them.

    Raises: AttritionError if they are those of an earlier version, or of other columns.
    """
    record = files.read_record(config.ingestion_record)
    if record is None:
        return []
    is_present = record.get("layout") == ledger.LAYOUT and config.rows.name in record["outputs"]
    if not is_present or record["inputs"]["contract"] != ledger.contract(config):
        raise AttritionError(
            f"{config.ingestion_record}: an earlier version or another config.json wrote the rows; run "
            "python fullprocess.py first"
        )
    return config.list_segments(record["outputs"])


def is_theirs(rows: pa.Table, name: str, column: str) -> pa.Array:
    return pc.equal(rows[column].combine_chunks().cast(pa.string()), name)


def read_rows(config: Config, path: Path, name: str) -> pa.Table:
    """Return the rows of a client in a segment."""
    hashed = np.array([name_hash(name)], "uint64")
    parts = chain([segments.no_rows(config.columns)], segments.read_clients(path, hashed))
    column = config.columns.client_name
    return pa.concat_tables(part.filter(is_theirs(part, name, column)) for part in parts)


def read_withdrawn(config: Config) -> Iterator[list[str]]:
    """Yield the rows that were withdrawn, as text."""
    if config.withdrawn.exists():
        yield from (
            row[len(ledger.WITHDRAWN_HEADER) :] for row in tables.read_cells(config.withdrawn)
        )


def list_texts(config: Config, paths: Sequence[Path], name: str) -> list[dict[str, pa.Array]]:
    """Return the rows of a client as text: those in segments, and those that were withdrawn."""
    columns = config.columns
    texts = [typed_rows.to_texts(read_rows(config, path, name), columns) for path in paths]
    client = columns.table.index(columns.client_name)
    rows = [row for row in read_withdrawn(config) if row[client] == name]
    cells = zip(*rows, strict=True) if rows else [()] * len(columns.table)
    arrays = [pa.array(each, pa.string()) for each in cells]
    return [*texts, dict(zip(columns.table, arrays, strict=True))]


def pair_ids(config: Config, texts: Sequence[Mapping[str, pa.Array]], name: str, token: str) -> Ids:
    """Pair all hashes of a client and of the rows with the new ones, whatever their outcome was."""
    columns = config.columns
    (old_key, new_key) = clients.client_keys([name, token]).tolist()
    pairs = {name_hash(name): name_hash(token), old_key: new_key}
    for rows in texts:
        count = len(rows[columns.outcome])
        for outcome in ("", "0", "1"):
            old = {**rows, columns.outcome: pa.array([outcome] * count, pa.string())}
            new = {**old, columns.client_name: pa.array([token] * count, pa.string())}
            before = typed_rows.compute_hashes(old, columns)
            after = typed_rows.compute_hashes(new, columns)
            for kind in typed_rows.COMPUTED:
                pairs |= zip(before[kind].to_pylist(), after[kind].to_pylist(), strict=True)
    return Ids.of(pairs)


def change_segment(plan: Plan, path: Path, target: Target) -> int:
    """Write a segment with a token for the name; rows are sorted by the hash of their client."""
    if path not in plan.paths:  # not one of ours
        plan.kept.append(path)
        return 0
    columns, column = plan.config.columns, plan.config.columns.client_name
    name, token = plan.texts.name, plan.texts.token
    old = read_rows(plan.config, path, name)
    if target is None:
        return len(old)
    texts = typed_rows.to_texts(old, columns)
    texts[column] = pa.array([token] * len(old), pa.string())
    arrivals = {each: segments.column(old, each) for each in segments.arrival_names(columns)}
    computed = {**typed_rows.compute_hashes(texts, columns), **arrivals}
    new = segments.sort_rows(segments.make_rows(texts, computed, columns))
    parts = tables.read_parts(path)
    others = (part.filter(pc.invert(is_theirs(part, name, column))) for part in parts)
    merged = chain([segments.no_rows(columns)], segments.merge([others, iter([new])]))
    unique = [*typed_rows.COMPUTED, typed_rows.NUMBER, typed_rows.EQUAL_ID, typed_rows.NAME_KEY]
    tables.write_parquet(target, merged, unique=unique)
    return len(old)


def list_names(config: Config, paths: Sequence[Path]) -> Iterator[pa.Array]:
    """Yield the names of all clients part by part: of rows, also withdrawn ones, and of the log."""
    yield from list_distinct(paths, config.columns.client_name)
    client = config.columns.table.index(config.columns.client_name)
    yield pa.array({row[client] for row in read_withdrawn(config)}, pa.string())
    if config.contact_log.exists():
        for records, _ in (log.read(config.contact_log), assignments.read(config.contact_log)):
            yield pa.array({each.client for each in records}, pa.string())


def list_distinct(paths: Sequence[Path], column: str) -> Iterator[pa.Array]:
    """Yield the distinct texts of a column of segments, part by part."""
    for path in paths:
        file = segments.open_segment(path)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, [column], use_threads=False)
            yield pc.drop_null(pc.unique(rows[column].combine_chunks()))


def list_values(config: Config, paths: Sequence[Path]) -> Iterator[pa.Array]:
    """Yield the names of columns, releases and sources, and the values of other columns of text."""
    columns = config.columns
    yield pa.array([*columns.table, *releases.list_ids(config.production_folder)], pa.string())
    if paths:
        yield pa.array([line.source for line in ledger.read_lines(config)], pa.string())
    for name in dict.fromkeys([*columns.categorical, *filter(None, [columns.manager])]):
        yield from list_distinct(paths, name)


def list_refused(config: Config, texts: Substitution) -> set[str]:
    """Return the spellings of a name in lines that were refused."""
    rows = tables.read_cells(config.rejected) if config.rejected.exists() else ()
    cells = (cell for row in rows for cell in next(csv.reader([row[-1]]), []))
    parts = (part.strip() for cell in cells for part in rewriting.SEPARATOR.split(cell))
    return set(filter(texts.is_spelling, parts))


def find_like(parts: Iterable[pa.Array], texts: Substitution) -> tuple[set[str], set[str]]:
    """Return what contains a name as a word, and what differs from it only in spelling."""

    def fold(names: pa.Array) -> pa.Array:
        return name_variants.fold_names(pc.utf8_normalize(names, "NFKC"))

    (wanted,) = fold(pa.array([texts.name])).to_pylist()
    containing, similar, word = set[str](), set[str](), max(wanted.split(), key=len)
    for names in parts:
        folded = fold(names)
        there = names.filter(pc.match_substring(folded, word)).to_pylist()
        containing |= set(filter(texts.is_in, there))
        similar |= {*names.filter(pc.equal(folded, wanted)).to_pylist()}
    return containing, similar


def make_substitution(
    config: Config, paths: Sequence[Path], name: str, token: str
) -> tuple[Substitution, set[str]]:
    """Find out what is like a name without meaning the client; return also its other spellings."""
    bare = Substitution(name, token, (), is_word=False)
    longer, similar = find_like(list_names(config, paths), bare)
    values, _ = find_like(list_values(config, paths), bare)
    similar = (similar | list_refused(config, bare)) - {name}
    is_number, is_plain = not any(map(str.isalpha, name)), name.isascii() and name.isalpha()
    is_word = is_number or (is_plain and name.islower()) or name in values
    others = (longer | values | similar) - {name}
    return Substitution(name, token, others, is_word=is_word), similar


# ---- how each file is rewritten


def _change_reasons(plan: Plan, path: Path, target: Target) -> None:
    """Change reasons, in which names are in quotes, and lines as they were delivered."""
    texts = plan.texts

    def change(cell: str) -> str:
        is_client = texts.is_client
        new = texts.cell(cell if read_client(cell, "").value != texts.name else texts.name)
        if texts.is_word:  # it may stand in any column
            texts.is_client = is_client
        return new

    raw = partial(rewriting.change_raw, change=change)
    rewriting.rewrite_csv(path, target, {"raw": raw, "reason": texts.in_quotes})


def _change_sheet(plan: Plan, path: Path, target: Target) -> None:
    """Change a workbook; one that has the name in several formats or after a code is kept."""
    texts = plan.texts
    for text in rewriting.rewrite_workbook(path, target, plan.in_prose):
        for other in texts.others:
            text = text.replace(other, "").replace(html.escape(other), "")
        if not texts.is_word and any(each in text for each in texts.spelled):
            plan.kept.append(path)


def _change_record(plan: Plan, path: Path, target: Target) -> None:
    """Change the names in a record; it is written when the hashes of all other files are known."""
    columns, texts = (CLIENT, plan.config.columns.client_name), plan.texts

    def change(key: str, text: str) -> str:
        return texts.cell(text) if key in columns else texts.in_message(text)

    try:
        record = files.read_record(path) or {}
    except Damaged:  # it is no record
        return rewriting.rewrite_text(path, target, texts.in_message)
    plan.records[path] = record, rewriting.change_values(record, change)


def _change_contacts(plan: Plan, path: Path, target: Target) -> None:
    change = partial(change_entry, plan.texts, plan.hidden)
    plan.digests |= log.find_new_seals(path, assignments.KINDS, change)


def _change_history(plan: Plan, path: Path, target: Target) -> None:
    for column, text in history.read_texts(path):
        change_row(plan.texts, {}, column, text)


def _search(plan: Plan, path: Path, target: Target) -> None:
    if rewriting.find_in(path, plan.texts.spelled):
        plan.kept.append(path)


class Rule(NamedTuple):
    """How a file of ours is rewritten, or the files in a folder whose names match a pattern.

    where: the name of the path in `Config`, "" for any folder; change: returns how many ids it replaced,
    while `Plan.texts` counts the texts
    """

    where: str
    patterns: str
    change: Callable[[Plan, Path, Target], int | None]


def _change_lines(plan: Plan, path: Path, target: Target) -> None:
    cells = dict.fromkeys((CLIENT, plan.config.columns.client_name), plan.texts.cell)
    rewriting.rewrite_lines(path, target, plan.texts.spelled, cells)


# The first rule that matches counts.
RULES = (
    Rule("contact_log", "", _change_contacts),
    Rule("history", "", _change_history),
    Rule("sessions", "", lambda plan, path, to: 0),
    Rule("", "*.damaged-* *.replaced-* *.tmp", lambda p, path, to: p.kept.append(path)),
    Rule(
        "",
        "*.jsonl *.log *.log.[0-9]",
        lambda p, path, to: rewriting.rewrite_log(path, to, p.texts.in_message),
    ),
    Rule("output_folder", "finaldata*.parquet", change_segment),
    Rule("final_data", "", _change_lines),
    Rule("withdrawn", "", _change_lines),
    Rule("risk_scores", "", _change_lines),
    Rule("contact_list", "", _change_lines),
    Rule("rejected", "", _change_reasons),
    Rule("", "ingestedfiles*.txt", _change_reasons),
    Rule("", "*.parquet", lambda p, path, to: rewriting.rewrite_parquet(path, to, p.ids, p.texts)),
    Rule("", "*.npz", lambda p, path, to: rewriting.rewrite_arrays(path, to, p.ids, p.texts)),
    Rule("risk_history", "", lambda p, path, to: rewriting.rewrite_history(path, to, p.ids)),
    Rule("access_folder", "*.json", _search),  # colleagues keep the names by which they sign in
    Rule("", "*.json", _change_record),
    Rule("contacts_folder", "*.pdf *.xlsb *.zip", lambda p, path, to: p.kept.append(path)),
    Rule("", "*.skops *.png *.pdf *.prom *.bin *.npy *.sqlite* *.gz *.xls", _search),
    Rule("contacts_folder", "*.xlsx *.xlsm *.ods", _change_sheet),
    Rule("contacts_folder", "*", lambda p, path, to: rewriting.rewrite_text(path, to, p.in_prose)),
    Rule("", "*", lambda p, path, to: rewriting.rewrite_text(path, to, p.texts.in_message)),
)


def rewrite(plan: Plan, path: Path, target: Target = None) -> int:
    """Write the new content of a file to a target, if there is one; return how much is replaced.

    Raises: Damaged if a table of ours is not as it was written.
    """
    before = plan.texts.count
    for rule in RULES:
        place = getattr(plan.config, rule.where) if rule.where else path.parent
        is_named = any(fnmatchcase(path.name, each) for each in rule.patterns.split())
        if path == place or (is_named and place in path.parents):
            break
    try:
        count = rule.change(plan, path, target) or 0
    except AttritionError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise Damaged(f"{path}: {text}; nothing was changed") from error
    return count + plan.texts.count - before


def change_entry(
    texts: Substitution, hidden: Forgotten, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Change a record of the contact log; the key of an entry may contain a hash of the name."""
    new = dict(values)
    for column, text in values.items():
        if column == CLIENT:
            new[column] = texts.cell(text)
        elif isinstance(text, str) and (column not in KEPT or text.startswith("sheet ")):
            new[column] = rewriting.change_json(text, texts.in_prose)
    is_client = new.get(CLIENT) != values.get(CLIENT)
    if is_client and "key" in new:
        new["key"] = hidden.sign(values["key"])
    if is_client and "key_digest" in new:
        new["key_digest"] = ""  # the arm was drawn for the name, not for the token
    return new


def change_row(texts: Substitution, digests: Mapping[str, str], column: str, text: str) -> str:
    """Change a text of the history."""
    if column == CLIENT:
        return texts.cell(text)
    change = texts.in_prose if column in PROSE else texts.in_message
    return replace_digests(rewriting.change_json(text, change), digests)


# ---- the plan


def plan(config: Config, name: str) -> Plan:
    """Find the name in every file of the state, and count what will be replaced.

    Raises: AttritionError if the state is damaged; ConfigError if there is no column of clients, or if
    no client has the name, though a note may contain it, and it was never forgotten.
    """
    if not config.columns.client:
        raise ConfigError("--forget: config.json names no column of clients, so no name is stored")
    if damages := integrity.find_all(config):
        raise Damaged(
            f"{damages[0].path}: {damages[0].problem}; run python fullprocess.py first, so that all "
            "files can be verified"
        )
    cell = read_client(name, "--forget")
    if cell.code:
        raise ConfigError(f"{cell.problem}; nothing was changed")
    name = cell.value
    known, paths = forgotten.read(config), list_segments(config)
    if name in known.tokens.values():  # the next delivery of the name would get the old token
        raise ConfigError(
            f"--forget {name!r}: is the token of a forgotten client; nothing was changed"
        )
    token = known.find(name) or choose_token(name, list_shares(config))
    texts, similar = make_substitution(config, paths, name, token)
    result = Plan(
        *(config, texts),
        Forgotten(known.key or secrets.token_hex(32), known.tokens).add(name, token),
        *(paths, pair_ids(config, list_texts(config, paths, name), name, token)),
        *(sorted(similar), list_removed(config)),
    )
    for path in list_files(config, result.removed):
        count_in(result, path)
    if not texts.is_client and not known.find(name):
        close = [_list_similar(result)] if similar else []
        only = [f"only texts contain the name: {', '.join(result.counts)}"] if result.counts else []
        raise ConfigError(
            "; ".join([f"--forget {name!r}: there is no client of this name", *close, *only])
            + "; expected a name as the lists show it; nothing was changed"
        )
    return result


def list_removed(config: Config) -> list[Path]:
    """Return the files that the next run makes again, or that only save time."""
    ours = [config.report, config.report_record, config.contact_sheet, config.write_back_record]
    ours += [config.notices, config.hashes, config.watch_list]
    ours += [config.reports_folder / kept_parts.FOLDER]
    ours += sorted(config.reports_folder.glob("list-*"))
    return [path for path in ours if path.exists()]


def list_files(config: Config, removed: Sequence[Path]) -> list[Path]:
    """Return the regular files in the folders of the state, without those that are removed."""
    folders = [*integrity.folders(config), config.contacts_folder, config.access_folder]
    own = {config.forgotten, config.forgetting, config.lock, *removed}
    found = {path for folder in folders for path in folder.rglob("*")}.union(list_logs(config))
    return [
        path
        for path in sorted(found)
        if path.is_file() and not path.is_symlink() and own.isdisjoint([path, *path.parents])
    ]


def list_logs(config: Config) -> list[Path]:
    """Return the files to which the app and deliveries may append lines meanwhile."""
    given = config.alerts.file if config.alerts else None
    paths = [Path(config.file.parent, given).resolve()] if given else []
    paths += [*config.access_folder.glob("*.jsonl"), config.diary]
    paths += config.reports_folder.glob(f"{config.diary.name}.[0-9]")
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def count_in(plan: Plan, path: Path) -> None:
    """Count what is replaced in a file; one that cannot be read as what it should be is kept."""
    config, logs = plan.config, list_logs(plan.config)
    is_entered = config.contacts_folder in path.parents  # by people, who choose the name of a file
    composed = unicodedata.normalize("NFC", path.name)
    if is_entered and not plan.texts.is_word and plan.texts.name in composed:
        plan.kept.append(path)
    try:
        count = rewrite(plan, path)
    except rewriting.UNREADABLE:
        plan.kept.append(path)
        return
    if count and path in logs and not _is_replaceable(path):
        plan.kept.append(path)
    elif count:
        plan.counts[str(path)] = count
        if path not in (*logs, *plan.records, config.contact_log, config.history):
            plan.staged.append(path)


def _is_replaceable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK | os.X_OK)


# ---- the change


def commit(config: Config, plan: Plan) -> None:
    """Write all new files beside the old ones, then the journal, and carry it out."""
    texts = plan.texts
    config.watch_list.unlink(missing_ok=True)  # so that the next run looks at the journal
    paths = sorted(map(str, (*plan.staged, *plan.records, config.forgotten)))
    journal: files.Record = {"staged": paths, "is_complete": False}
    _write_journal(config, journal)
    version = ledger.rows_version(config)
    for path in plan.staged:
        plan.digests[files.sha256_file(path)] = _stage(path, partial(rewrite, plan, path))
    if plan.paths:
        hashes = [files.sha256_file(path) for path in (*plan.paths, config.gone)]
        new = " ".join(plan.digests.get(each, each) for each in hashes)
        plan.digests[version] = files.sha256_bytes(new.encode())
    contents = {path: files.encode(record) for path, record in renew_records(plan).items()}
    contents[config.forgotten] = files.encode(files.sealed(asdict(plan.hidden)))
    for path, data in contents.items():
        _stage(path, data)
    for folder in {Path(path).parent for path in paths}:
        files.fsync_folder(folder)
    names = {"name": texts.name, "token": texts.token, "others": texts.others}
    journal |= {"texts": {**names, "is_word": texts.is_word}, "digests": plan.digests}
    journal |= {"removed": sorted(map(str, plan.removed)), "is_complete": True}
    _write_journal(config, journal)
    finish(config)


def renew_records(plan: Plan) -> dict[Path, files.Record]:
    """Return the records that change, when all hashes of other files and records in them agree."""
    while True:
        renewed = {path: _with_digests(plan, path, new) for path, (_, new) in plan.records.items()}
        pairs = dict[str, str]()
        for path, new in renewed.items():
            old, _ = plan.records[path]
            pairs |= {_hash(old): _hash(new), old["seal"]: new["seal"]}
            if "inputs" in old:
                pairs[_hash(old["inputs"])] = _hash(new["inputs"])
        pairs = {old: new for old, new in pairs.items() if old != new}
        if pairs.items() <= plan.digests.items():
            return {path: new for path, new in renewed.items() if new != plan.records[path][0]}
        plan.digests |= pairs


def _with_digests(plan: Plan, path: Path, record: files.Record) -> files.Record:
    """Return a record with the new hashes; the manifest of a release keeps the end of its id."""
    new = rewriting.change_values(record, lambda key, text: replace_digests(text, plan.digests))
    if path.name == releases.MANIFEST and new["outputs"] != record["outputs"]:
        new[releases.DIGEST] = path.parent.name.rpartition("-")[2]
    return files.sealed(new)


def _hash(record: files.Record) -> str:
    return files.sha256_bytes(files.encode(record))


def _write_journal(config: Config, journal: files.Record) -> None:
    files.write_bytes(config.forgetting, files.encode(files.sealed(journal)), 0o600)


def staged(path: Path) -> Path:
    return path.with_name(f".{path.name}{STAGED}")


def _stage(path: Path, content: files.Content) -> str:
    """Write a new file beside an old one, with its mode and time; return its sha256."""
    about, new = path.stat() if path.exists() else None, staged(path)
    new.unlink(missing_ok=True)
    files.write_new(new, content, 0o600)
    if about:  # the time of the last run is when it ended
        new.chmod(about.st_mode & 0o777)
        os.utime(new, (about.st_mtime, about.st_mtime))
    return files.sha256_file(new)  # a zip file is not written from its start to its end


def finish(config: Config) -> bool:
    """Carry out the journal that a killed run left, under the run lock; return whether it was complete.

    Before it was complete, nothing was changed: what was written beside the files is removed.

    Raises: Damaged if the journal is not what was written; AttritionError if a file cannot be written.
    """
    journal = files.read_record(config.forgetting) or {"staged": [], "is_complete": False}
    is_complete = journal["is_complete"]
    for path in map(Path, journal["staged"]):
        if not is_complete:
            staged(path).unlink(missing_ok=True)
        elif staged(path).exists():
            os.replace(staged(path), path)
            files.fsync_folder(path.parent)
    if is_complete:
        _finish_in_place(config, journal)
        for path in map(Path, journal["removed"]):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            files.fsync_folder(path.parent)
    config.forgetting.unlink(missing_ok=True)
    files.fsync_folder(config.forgetting.parent)
    files.forget_hashes()
    return bool(is_complete)


def _finish_in_place(config: Config, journal: files.Record) -> None:
    """Rewrite the files to which others may write meanwhile; what has the token already stays."""
    texts = Substitution(**journal["texts"])
    if config.contact_log.exists():
        change = partial(change_entry, texts, forgotten.read(config))
        log.rewrite(config.contact_log, assignments.KINDS, change)
    if config.history.exists():
        history.rewrite(config.history, partial(change_row, texts, journal["digests"]))
    for path in list_logs(config):
        try:
            replace_log(path, texts)
        except PermissionError as error:
            logger.warning("%s: still contains the name: %s; delete it", path, error.strerror)


def replace_log(path: Path, texts: Substitution) -> None:
    """Replace a log that has the name, while others wait to append to it, see `files.open_to_append`."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = texts.count
        rewriting.rewrite_log(path, None, texts.in_message)
        if texts.count > before:
            _stage(path, lambda target: rewriting.rewrite_log(path, target, texts.in_message))
            os.replace(staged(path), path)
            files.fsync_folder(path.parent)


def describe(config: Config, result: Plan) -> list[str]:
    """Describe what is replaced where, and what a person has to do about the rest."""
    name = result.texts.name
    total = sum(result.counts.values())
    lines = [
        f"{name!r}: {wording.plural(total, 'replacement')} in "
        f"{wording.plural(len(result.counts), 'file')}, with {result.texts.token}"
    ]
    lines += [f"  {path}: {count}" for path, count in sorted(result.counts.items())]
    lines += [
        f"  {path}: removed; a run writes it again if it is needed" for path in result.removed
    ]
    kept = dict.fromkeys(result.kept)
    for path in kept:
        is_people = config.access_folder in path.parents
        advice = "to change that, python app.py --revoke NAME" if is_people else "delete it"
        lines.append(f"still contains the name, or may contain it: {path}; {advice}")
    sources = source_search.find(config, name)
    lines += [f"a source still has the name: {each}" for each in sources]
    if sources:
        lines.append("what is read from a source gets the token in place of the name")
    if config.write_back.url:
        lines.append("the next run replaces the name in the table of write_back")
    if result.similar:
        lines.append(
            f"{_list_similar(result)}; they stay: if it is the same client, forget them too"
        )
    lines.append(
        "backups, exports, sent messages and logs elsewhere, such as that of systemd, that were made "
        "before still have the name: delete or rewrite them"
    )
    return lines


def _list_similar(result: Plan) -> str:
    return f"similar names: {', '.join(map(repr, result.similar))}"
