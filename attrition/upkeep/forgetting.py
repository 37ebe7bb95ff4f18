"""Forget a client on request: put a random token in place of the name everywhere, and keep the facts.

`plan` computes the new content of every file in memory. `commit` writes it beside the files, then the
journal, then renames; from the journal on, a killed run is finished by `finish`. The contact log and the
history are rewritten in place instead, because the app or another run may write to them meanwhile.
Hashes of the name are replaced like the name, because anybody can compute them from it. The risks and
places of all others stay, because nothing is computed again: every record that names the hash of a file
that changed gets the new one.
"""

import os
import re
import secrets
import shutil
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition import wording
from attrition.assessing import kept_parts
from attrition.config import Config, Database
from attrition.contacts import log
from attrition.contacts.assignments import KINDS
from attrition.data import clients, name_variants, risk_history
from attrition.data.cells import read_client
from attrition.data.schema import Refused
from attrition.databases import reader as databases
from attrition.entering import workbook
from attrition.errors import AttritionError, ConfigError, Damaged, SourceError
from attrition.operations import releases
from attrition.rows import forgotten, ledger, segments, typed_rows
from attrition.rows.forgotten import Forgotten
from attrition.rows.observations import name_hash
from attrition.sources import files as source_files
from attrition.storage import files, history, tables
from attrition.upkeep import integrity, rewriting
from attrition.upkeep.rewriting import Ids, Substitution, replace_digests

STAGED = ".forgotten"  # ending of a new file that waits beside the old one
CLIENT = "client"
PROSE = ("note", "body", "subject", "text", "payload", "record")  # columns that people read
# Columns of the contact log that name no client.
KEPT = (
    *("kind", "by", "outcome", "manager", "via", "release", "date", "at"),
    *("arm", "quarter", "key_digest"),
)
BINARY = (".skops", ".png", ".pdf", ".prom", ".bin", ".npy", ".sqlite")


@dataclass
class Plan:
    """What takes the place of what.

    contents: by path; digests: hashes of files and records, and the new ones; removed: files that are
    made again or only save time; counts: replacements by file; kept: files that are not changed
    """

    texts: Substitution
    hidden: Forgotten
    contents: dict[Path, bytes] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    removed: list[Path] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)
    similar: list[str] = field(default_factory=list)


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
    shares = {config.held_out_share}
    for release_id in releases.list_ids(config.production_folder):
        record = files.read_record(config.releases / release_id / releases.TRAINING) or {}
        shares.add(float(record.get("held_out_share", config.held_out_share)))
    return sorted(shares)


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
    parts = [segments.no_rows(config.columns), *segments.read_clients(path, hashed)]
    rows = pa.concat_tables(parts)
    return rows.filter(is_theirs(rows, name, config.columns.client_name))


def list_texts(config: Config, paths: Sequence[Path], name: str) -> list[dict[str, pa.Array]]:
    """Return the rows of a client as text: those in segments, and those that were withdrawn."""
    columns = config.columns
    texts = [typed_rows.to_texts(read_rows(config, path, name), columns) for path in paths]
    if config.withdrawn.exists():
        place, client = len(ledger.WITHDRAWN_HEADER), columns.table.index(columns.client_name)
        rows = [row[place:] for row in tables.read_cells(config.withdrawn)]
        rows = [row for row in rows if row[client] == name]
        cells = zip(*rows, strict=True) if rows else [()] * len(columns.table)
        arrays = [pa.array(each, pa.string()) for each in cells]
        texts.append(dict(zip(columns.table, arrays, strict=True)))
    return texts


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


def rewrite_segment(config: Config, path: Path, name: str, token: str) -> bytes:
    """Return a segment with a token for the name; rows are sorted by the hash of their client."""
    columns, column = config.columns, config.columns.client_name
    old = read_rows(config, path, name)
    texts = typed_rows.to_texts(old, columns)
    texts[column] = pa.array([token] * len(old), pa.string())
    arrivals = {each: segments.column(old, each) for each in segments.arrival_names(columns)}
    computed = {**typed_rows.compute_hashes(texts, columns), **arrivals}
    new = segments.sort_rows(segments.make_rows(texts, computed, columns))
    others = (
        part.filter(pc.invert(is_theirs(part, name, column))) for part in tables.read_parts(path)
    )
    parts = chain([segments.no_rows(columns)], segments.merge([others, iter([new])]))
    buffer = pa.BufferOutputStream()
    unique = [*typed_rows.COMPUTED, typed_rows.NUMBER, typed_rows.EQUAL_ID, typed_rows.NAME_KEY]
    tables.write_parquet(buffer, parts, unique=unique)
    return buffer.getvalue().to_pybytes()


def list_names(config: Config, paths: Sequence[Path]) -> pa.Array:
    """Return the names of all clients, of the rows and of the contact log."""
    column, names = config.columns.client_name, set[str]()
    for path in paths:
        file = segments.open_segment(path)
        for group in range(file.num_row_groups):
            names |= {*pc.unique(file.read_row_group(group, [column])[column]).to_pylist()}
    names |= {entry.client for entry in log.read(config.contact_log)[0]}
    return pa.array(sorted(names), pa.string())


def make_substitution(
    config: Config, paths: Sequence[Path], names: pa.Array, name: str, token: str
) -> Substitution:
    """Find out what contains the name without meaning the client."""
    values = {*list_values(config, paths)}
    others = {each for each in values.union(names.to_pylist()) if name in each} - {name}
    is_number, is_plain = not any(map(str.isalpha, name)), name.isascii() and name.isalpha()
    is_word = is_number or (is_plain and name.islower()) or name in values
    return Substitution(name, token, others, is_word=is_word)


def list_values(config: Config, paths: Sequence[Path]) -> Iterator[str]:
    """Yield the names of columns and sources, and the values of all other columns of text."""
    columns = config.columns
    yield from columns.table
    if paths:
        yield from (line.source for line in ledger.read_lines(config))
    for name in dict.fromkeys([*columns.categorical, *filter(None, [columns.manager])]):
        for path in paths:
            yield from pc.unique(segments.open_segment(path).read([name])[name]).to_pylist()


def find_similar(names: pa.Array, name: str) -> list[str]:
    """Return the names that differ from one only in how they are written."""
    folded = name_variants.fold_names(names)
    (wanted,) = name_variants.fold_names(pa.array([name])).to_pylist()
    there = names.filter(pc.equal(folded, wanted)).to_pylist()
    return [each for each in there if each != name]


# ---- the plan


def plan(config: Config, name: str) -> Plan:
    """Find the name in every file of the state, and compute what takes its place.

    Raises: AttritionError if the state is damaged; ConfigError if there is no column of clients, or if
    no file has the name and it was never forgotten.
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
    names = list_names(config, paths)
    key = known.key or secrets.token_hex(32)
    hidden = Forgotten(key, known.tokens).add(name, token)
    result = Plan(make_substitution(config, paths, names, name, token), hidden)
    result.removed, result.similar = list_removed(config), find_similar(names, name)
    _Planner(config, result, paths).change_all()
    if not result.counts and not known.find(name):
        close = [f"similar names: {', '.join(map(repr, result.similar))}"] if result.similar else []
        raise ConfigError(
            "; ".join([f"--forget {name!r}: no file of the state contains this client", *close])
            + "; expected a name as the lists show it; nothing was changed"
        )
    result.contents[config.forgotten] = files.encode(files.sealed(asdict(hidden)))
    return result


def list_removed(config: Config) -> list[Path]:
    """Return the files that the next run makes again, or that only save time."""
    ours = [config.report, config.report_record, config.contact_sheet, config.write_back_record]
    ours += [config.notices, config.hashes, config.watch_list]
    ours += [config.reports_folder / kept_parts.FOLDER]
    ours += sorted(config.reports_folder.glob("list-*"))
    return [path for path in ours if path.exists()]


def list_files(config: Config) -> list[Path]:
    """Return the regular files in the folders of the state."""
    folders = [*integrity.folders(config), config.contacts_folder, config.access_folder]
    found = {path for folder in folders for path in folder.rglob("*")}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


class _Planner:
    """Fill a plan, file by file."""

    def __init__(self, config: Config, result: Plan, paths: Sequence[Path]) -> None:
        self.config, self.plan, self.paths, self.texts = config, result, paths, result.texts
        rows = list_texts(config, paths, self.texts.name)
        self.ids = pair_ids(config, rows, self.texts.name, self.texts.token)
        self.columns = {CLIENT, config.columns.client_name}

    def change_all(self) -> None:
        config, result = self.config, self.plan
        own = {config.forgotten, config.forgetting, config.lock, *result.removed}
        version = ledger.rows_version(config)
        records = dict[Path, files.Record]()
        for path in list_files(config):
            if path in own or not own.isdisjoint(path.parents):
                continue
            if (record := _read_record(path)) is not None:
                records[path] = record
            elif (data := self._change(path)) is not None:
                result.contents[path] = data
                result.digests[files.sha256_file(path)] = files.sha256_bytes(data)
        paths = [files.sha256_file(path) for path in (*self.paths, config.gone)]
        new = " ".join(result.digests.get(each, each) for each in paths)
        if self.paths:
            result.digests[version] = files.sha256_bytes(new.encode())
        self._change_databases()
        self._change_records(records)

    def _change(self, path: Path) -> bytes | None:
        """Return the new content of a file that is no record; None if it stays as it is."""
        config, name = self.config, self.texts.name
        before = self.texts.count
        is_entered = (
            config.contacts_folder in path.parents
        )  # by people, who choose the name of a file
        if (
            is_entered
            and not self.texts.is_word
            and name in unicodedata.normalize("NFC", path.name)
        ):
            self.plan.kept.append(path)
        if ".damaged-" in path.name or ".replaced-" in path.name:
            self.plan.kept.append(path)
            return None
        if path in self.paths:
            if count := len(read_rows(config, path, name)):
                self._count(path, count)
                return rewrite_segment(config, path, name, self.texts.token)
            return None
        data = path.read_bytes()
        if path.suffix in (".parquet", ".npz") or path == config.risk_history:
            new, count = self._change_arrays(path, data)
        elif path.suffix in BINARY:
            if path.suffix != ".sqlite" and name.encode() in data:
                self.plan.kept.append(path)
            return None
        else:
            new = self._change_text(path, data)
            count = self.texts.count - before
        self._count(path, count)
        return new if count else None

    def _change_arrays(self, path: Path, data: bytes) -> rewriting.Rewritten:
        if path.suffix == ".parquet":
            return rewriting.rewrite_parquet(data, self.ids, self.columns, self.texts.cell)
        if path.suffix == ".npz":
            return rewriting.rewrite_arrays(files.read_arrays(path), self.ids)
        with path.open("rb") as file:
            array, count = rewriting.rewrite_history(risk_history.open_array(file), self.ids)
        buffer = pa.BufferOutputStream()
        risk_history.write(buffer, array)
        return buffer.getvalue().to_pybytes(), count

    def _change_text(self, path: Path, data: bytes) -> bytes:
        config, texts = self.config, self.texts
        try:
            if path in (
                config.final_data,
                config.withdrawn,
                config.risk_scores,
                config.contact_list,
            ):
                cells = dict.fromkeys(self.columns, texts.cell)
                return rewriting.rewrite_lines(data, texts.spelled, cells)
            if path.name == config.ingested_files.name:
                return rewriting.rewrite_csv(data, {"reason": texts.in_message})
            if path == config.rejected:
                raw = partial(rewriting.change_line, change=self._change_raw)
                return rewriting.rewrite_csv(data, {"raw": raw, "reason": texts.in_message})
        except AttritionError as error:
            raise Damaged(f"{path}: {error}; nothing was changed") from error
        is_entered = config.contacts_folder in path.parents  # by people
        change = self._change_entered if is_entered else texts.in_message
        if path.suffix in (".xlsx", ".xlsm"):
            try:
                book = rewriting.rewrite_workbook(data, change)
                if not texts.is_word and rewriting.workbook_has(book, texts.spelled, texts.others):
                    self.plan.kept.append(path)
                return book
            except (zipfile.BadZipFile, ValueError):
                self.plan.kept.append(path)
                return data
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            encoding, text = "latin-1", data.decode("latin-1")
        if path.suffix == ".jsonl":
            new = "".join(rewriting.change_json(line, change) for line in text.splitlines(True))
        else:
            new = change(text)
        return data if new == text else new.encode(encoding)

    def _change_entered(self, text: str) -> str:
        """Replace the name and the keys of lines of sheets, which are hashes of it."""
        config = self.config

        def renew(match: re.Match[str]) -> str:
            key, name, token = match[0], self.texts.name, self.texts.token
            if key != workbook.key_of(config.project, match["day"], name):
                return key
            self.texts.count += 1
            return workbook.key_of(config.project, match["day"], token)

        return workbook.LINE_KEY.sub(renew, self.texts.in_prose(text))

    def _change_raw(self, cell: str) -> str:
        is_name = read_client(cell, "").value == self.texts.name
        return self.texts.cell(self.texts.name) if is_name else cell

    def _change_databases(self) -> None:
        config, before = self.config, self.texts.count
        if config.contact_log.exists():
            change = partial(change_entry, self.texts, self.plan.hidden)
            self.plan.digests |= log.find_new_seals(config.contact_log, KINDS, change)
            self._count(config.contact_log, self.texts.count - before)
        before = self.texts.count
        for column, text in history.read_texts(config.history):
            change_row(self.texts, {}, column, text)
        self._count(config.history, self.texts.count - before)

    def _change_records(self, before: Mapping[Path, files.Record]) -> None:
        """Change the names in records, then their hashes of other files and records, until all agree."""
        records, digests = dict[Path, files.Record](), self.plan.digests

        def change(key: str, text: str) -> str:
            return self.texts.value(text, is_client=key in self.columns or not self.texts.is_word)

        for path, old in before.items():
            count = self.texts.count
            records[path] = rewriting.change_values(old, change)
            self._count(path, self.texts.count - count)
        is_open = True
        while is_open:
            is_open = False
            for path, old in before.items():
                new = self._with_digests(path, records[path])
                pairs = [(_hash(old), _hash(new)), (old["seal"], new["seal"])]
                if "inputs" in old:
                    pairs.append((_hash(old["inputs"]), _hash(new["inputs"])))
                for each, other in pairs:
                    if each != other and digests.get(each) != other:
                        digests[each], is_open = other, True
        for path, old in before.items():
            if (new := self._with_digests(path, records[path])) != old:
                self.plan.contents[path] = files.encode(new)

    def _with_digests(self, path: Path, record: files.Record) -> files.Record:
        """Return a record with the new hashes; the manifest of a release keeps the end of its id."""
        digests = self.plan.digests
        new = rewriting.change_values(record, lambda key, text: replace_digests(text, digests))
        if path.name == releases.MANIFEST and new["outputs"] != record["outputs"]:
            new[releases.DIGEST] = path.parent.name.rpartition("-")[2]
        return files.sealed(new)

    def _count(self, path: Path, count: int) -> None:
        if count:
            self.plan.counts[str(path)] += count


def _read_record(path: Path) -> files.Record | None:
    """Read a record; None if the file is none."""
    try:
        return files.read_record(path) if path.suffix == ".json" else None
    except Damaged:
        return None


def _hash(record: files.Record) -> str:
    return files.sha256_bytes(files.encode(record))


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
    if new.get(CLIENT) != values.get(CLIENT) and "key" in new:
        new["key"] = hidden.sign(values["key"])
    if new.get(CLIENT) != values.get(CLIENT) and "key_digest" in new:
        new["key_digest"] = ""  # the arm was drawn for the name, not for the token
    return new


def change_row(texts: Substitution, digests: Mapping[str, str], column: str, text: str) -> str:
    """Change a text of the history."""
    if column == CLIENT:
        return texts.cell(text)
    change = texts.in_prose if column in PROSE else texts.in_message
    return replace_digests(rewriting.change_json(text, change), digests)


# ---- the change


def commit(config: Config, result: Plan) -> None:
    """Write all new files beside the old ones, then the journal, and carry it out."""
    texts = result.texts
    config.watch_list.unlink(missing_ok=True)  # so that the next run looks at the journal
    paths = sorted(map(str, result.contents))
    journal: files.Record = {"staged": paths, "is_complete": False}
    _write_journal(config, journal)
    for path, data in result.contents.items():
        is_new = path == config.forgotten
        mode = 0o600 if is_new else path.stat().st_mode & 0o777
        modified = None if is_new else path.stat().st_mtime  # of the last run: when it ended
        files.write_bytes(staged(path), data, mode, modified)
    names: files.Record = {"name": texts.name, "token": texts.token, "others": texts.others}
    names |= {"is_word": texts.is_word, "digests": result.digests}
    names |= {"removed": sorted(map(str, result.removed)), "is_complete": True}
    _write_journal(config, journal | names)
    finish(config)


def _write_journal(config: Config, journal: files.Record) -> None:
    files.write_bytes(config.forgetting, files.encode(files.sealed(journal)), 0o600)


def staged(path: Path) -> Path:
    return path.with_name(f".{path.name}{STAGED}")


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
        texts = Substitution(
            journal["name"], journal["token"], journal["others"], is_word=journal["is_word"]
        )
        if config.contact_log.exists():
            change = partial(change_entry, texts, forgotten.read(config))
            log.rewrite(config.contact_log, KINDS, change)
        if config.history.exists():
            history.rewrite(config.history, partial(change_row, texts, journal["digests"]))
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


# ---- what still has the name


def find_in_sources(config: Config, name: str) -> list[str]:
    """Describe the files and tables that have the name, and those that cannot be read."""
    lines = []
    for folder in (config.input_folder, config.test_folder):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_file() and (line := _find_in_file(config, path, name)):
                lines.append(line)
            if name in path.name:
                lines.append(f"{path}: the name of the file contains it; rename the file")
    if name in config.file.read_text("utf-8"):
        lines.append(f"{config.file}: put the token in place of the name there")
    tables_ = [_find_in_table(config, each, name) for each in config.databases]
    return [*lines, *filter(None, tables_)]


def _find_in_table(config: Config, database: Database, name: str) -> str | None:
    place = f"table {database.name}"
    try:
        with databases.reading(database, None, seconds=config.max_source_seconds) as reading:
            count = sum(_count_cells(chunk.columns, name) for chunk in reading.chunks)
    except SourceError as error:
        return f"{place}: cannot be read ({error}); check it yourself"
    return f"{place}: {wording.plural(count, 'cell')}; remove the name there" if count else None


def _find_in_file(config: Config, path: Path, name: str) -> str | None:
    try:
        table = source_files.read_path(path, dialect=config.files.dialect(path.name))
        count = sum(_count_cells(chunk.columns, name) for chunk in table.chunks)
    except (Refused, SourceError):
        count = 0
    data = path.read_bytes()
    texts = [name.encode(each, "ignore") for each in ("utf-8", "utf-16-le", "utf-16-be", "cp1252")]
    if not count and not any(text in data for text in texts if text):
        return None
    return f"{path}: {wording.plural(count, 'cell') if count else 'its content'}; remove the name there"


def _count_cells(columns: Sequence[pa.Array], name: str) -> int:
    return sum(
        sum(read_client(cell, "").value == name for cell in column.to_pylist() if cell)
        for column in columns
    )


def describe(config: Config, result: Plan) -> list[str]:
    """Describe what is replaced where, and what a person has to do about the rest."""
    name = result.texts.name
    total = sum(result.counts.values())
    lines = [
        f"{name!r}: {wording.plural(total, 'replacement')} in "
        f"{wording.plural(len(result.counts), 'file')}, by {result.texts.token}"
    ]
    lines += [f"  {path}: {count}" for path, count in sorted(result.counts.items())]
    lines += [
        f"  {path}: removed; a run writes it again if it is needed" for path in result.removed
    ]
    kept = dict.fromkeys(result.kept)
    lines += [f"still contains the name, or may contain it: {path}; delete it" for path in kept]
    sources = find_in_sources(config, name)
    lines += [f"a source still has the name: {each}" for each in sources]
    if sources:
        lines.append("what is read from a source gets the token in place of the name")
    if config.write_back.url:
        lines.append("the next run replaces the name in the table of write_back")
    if result.similar:
        others = ", ".join(map(repr, result.similar))
        lines.append(
            f"similar names, which stay: {others}; if it is the same client, forget them too"
        )
    lines.append(
        "backups and exports that were made before still have the name: delete or rewrite them"
    )
    return lines
