"""Inspect one file: what it looks like, and the dialect that would read it.

Ingestion never calls this: a person looks at the proposal and names the dialect in config.json.
"""

import re
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO

from attrition.config import DEFAULT_DIALECT, Columns, Dialect, Files
from attrition.data import schema
from attrition.data.cells import fold, shorten
from attrition.data.schema import BadHeader, Refused, Table
from attrition.rows import typed_rows
from attrition.sources import dialects, excel
from attrition.sources import files as source_files
from attrition.sources.files import EXCEL_ENDINGS, File

MAX_TEXTS = 100_000
MAX_TITLE_LINES = 12
MAX_DETECTED_BYTES = 64 << 20


@dataclass(frozen=True)
class Inspection:
    """A dialect that would read a file, what it looks like, and what only a person can decide."""

    dialect: Dialect
    findings: tuple[str, ...]
    ambiguities: tuple[str, ...] = ()


def inspect(file: File, columns: Columns) -> Inspection:
    """Detect encoding, sheet, header line, numbers and dates of a file; a parquet file has none."""
    if file.name.lower().endswith(".parquet"):
        return Inspection(file.dialect, ())
    findings: list[str] = []
    ambiguities: list[str] = []
    is_excel = file.name.lower().endswith(EXCEL_ENDINGS)
    if is_excel:
        dialect, names = _choose_sheet(file, columns)
        findings += [f"sheets: {', '.join(map(repr, names))}"] * bool(names)
    else:
        dialect = _detect_encoding(file)
        findings.append(f"encoding: {dialect.encoding}")
    dialect = _choose_header(replace(file, dialect=dialect), columns)
    if dialect.header_line is not None:
        findings.append(f"column names: in line {dialect.header_line}")
    try:
        with source_files.open_table(replace(file, dialect=dialect), fast=False) as table:
            findings += [f"separator: {table.separator!r}"] * bool(table.separator)
            findings.append(_describe_columns(table, columns))
            numbers, times = _collect_texts(table, columns)
    except (Refused, BadHeader):
        return Inspection(dialect, tuple(findings))
    for detect, lines in ((dialects.detect_numbers, numbers), (dialects.detect_dates, times)):
        proposal = detect(lines, dialect, is_typed=is_excel)
        dialect = replace(dialect, **proposal.keys)
        findings += proposal.findings
        ambiguities += proposal.ambiguities
    return Inspection(dialect, tuple(findings), tuple(ambiguities))


def _detect_encoding(file: File) -> Dialect:
    """Return the dialect with the detected encoding, if the bytes are not in the named one."""
    try:
        with source_files.open_table(file, fast=False) as table:
            for _ in table.chunks:
                pass
        return file.dialect
    except Refused as refused:
        if refused.code not in ("ENCODING", "BINARY_NUL"):
            return file.dialect
    with closing(source_files.unpacked(file)) as text:
        encoding = dialects.detect_encoding(_read(text))
    return replace(file.dialect, encoding=encoding or file.dialect.encoding)


def _read(text: IO[bytes]) -> bytes:
    text.seek(0)
    return text.read(MAX_DETECTED_BYTES)


def _choose_sheet(file: File, columns: Columns) -> tuple[Dialect, list[str]]:
    """Return the dialect with the first sheet that has the columns, if the chosen one has not."""
    try:
        names = excel.list_sheets(file.spool, file.limits.max_bytes)
    except Refused:
        return file.dialect, []
    for dialect in (file.dialect, *(replace(file.dialect, sheet=name) for name in names)):
        chosen = _choose_header(replace(file, dialect=dialect), columns)
        if _has_columns(replace(file, dialect=chosen), columns):
            return dialect, names
    return file.dialect, names


def _choose_header(file: File, columns: Columns) -> Dialect:
    """Return the dialect with the line of the column names, if others stand above it."""
    if _has_columns(file, columns):
        return file.dialect
    bare = replace(file, dialect=replace(file.dialect, header_line=None))
    for line in range(1, MAX_TITLE_LINES + 1):
        dialect = replace(bare.dialect, header_line=line)
        if _has_columns(replace(bare, dialect=dialect), columns):
            return dialect
    return file.dialect


def _has_columns(file: File, columns: Columns) -> bool:
    try:
        with source_files.open_table(file, fast=False) as table:
            schema.match_header(table.header, columns)
            return True
    except (Refused, BadHeader):
        return False


def _describe_columns(table: Table, columns: Columns) -> str:
    try:
        places, _ = schema.match_header(table.header, columns)
    except BadHeader as error:
        return f"columns: {error.reason}"
    names = ", ".join(shorten(name) for name in table.header)
    lacking = ", ".join(name for name in columns.delivered if name not in places)
    expected = f"all but {lacking}" if lacking else f"all {len(places)}"
    return f"columns: {expected} that are expected, in {shorten(names, 200)}"


def _collect_texts(table: Table, columns: Columns) -> tuple[dict[str, int], dict[str, int]]:
    """Return the distinct cells of the numeric columns and of the dates, each with its first line."""
    folded = [fold(name) for name in table.header]
    places = {n: folded.index(fold(n)) for n in columns.delivered if fold(n) in folded}
    numbers: dict[str, int] = {}
    times: dict[str, int] = {}
    pools = dict.fromkeys(typed_rows.number_names(columns), numbers)
    pools |= {name: times for name in (columns.time, columns.due, *columns.dates) if name}
    for chunk in table.chunks:
        for name in (name for name in places if name in pools):
            if len(pools[name]) < MAX_TEXTS:
                texts = chunk.columns[places[name]].to_pylist()
                for line, text in zip(chunk.lines, texts, strict=True):
                    pools[name].setdefault(text, line)
    return numbers, times


# ---- the lines of config.json


def propose(files: Files, name: str, dialect: Dialect, *, for_all: bool) -> dict[str, object]:
    """Return the object `files` of config.json by which a file has a dialect.

    for_all: name it for all files, if none of them has another dialect so far; the line of the column
    names and the sheet are those of files of its kind in any case
    """
    base = files.dialect(name)
    general = files.dialect_of_all
    by_name = {pattern: each.named(general) for pattern, each in files.by_name}
    is_addition = all(
        getattr(base, key) == getattr(DEFAULT_DIALECT, key) for key in dialect.named(base)
    )
    if for_all and not by_name and is_addition:
        keys = dialect.named()
        own = {key: keys.pop(key) for key in ("header_line", "sheet") if key in dialect.named(base)}
        return {**keys, **({"by_name": {_pattern(name): own}} if own else {})}
    pattern = next((p for p, each in files.by_name if files.matches(p, name)), _pattern(name))
    by_name = {
        pattern: dialect.named(general),
        **{k: v for k, v in by_name.items() if k != pattern},
    }
    return {**general.named(), "by_name": by_name}


def _pattern(name: str) -> str:
    """Return a pattern of file names of one kind: digits, as of a date, may differ.

    >>> _pattern("Kunden_2026-08.csv"), _pattern("clients.csv.gz")
    ('Kunden_*.csv', 'clients*.csv.gz')
    """
    endings = sorted(source_files.INPUT_ENDINGS, key=len, reverse=True)
    length = next(len(ending) for ending in endings if name.lower().endswith(ending))
    stem, ending = name[:-length], name[-length:]
    parts = [part.replace("[", "[[]") for part in re.split("[0-9][0-9 _.-]*", stem)]
    return "*".join(parts if len(parts) > 1 else [*parts, ""]) + ending
