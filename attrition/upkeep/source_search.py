"""Find a client's name in the sources, which only their owners change, and describe what to do there."""

import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from attrition import wording
from attrition.config import Config, Database
from attrition.data.cells import read_client
from attrition.data.schema import Chunk, Refused
from attrition.databases import reader as databases
from attrition.errors import SourceError
from attrition.sources import files as source_files
from attrition.sources.csv_reader import NotPlain
from attrition.upkeep import rewriting


def find(config: Config, name: str) -> list[str]:
    """Describe the files and tables that have the name, and those that cannot be read."""
    lines = []
    for folder in (config.input_folder, config.test_folder):
        for path in sorted(filter(Path.is_file, folder.rglob("*"))):
            if what := _search_file(config, path, name):
                lines.append(f"{path}: {what}")
            if name in unicodedata.normalize("NFC", path.name):
                lines.append(
                    f"{path}: the name of the file contains it, and so does what was recorded about "
                    "the file; rename the file"
                )
    if name in config.file.read_text("utf-8"):
        lines.append(f"{config.file}: put the token in place of the name there")
    found = {each.name: _search_table(config, each, name) for each in config.databases}
    return lines + [f"table {place}: {what}" for place, what in found.items() if what]


def _search_table(config: Config, database: Database, name: str) -> str:
    try:
        with databases.reading(database, None, seconds=config.max_source_seconds) as reading:
            count = sum(_count_cells(chunk, name) for chunk in reading.chunks)
    except SourceError as error:
        return f"cannot be read ({error}); check it yourself"
    return f"{wording.plural(count, 'cell')}; remove the name there" if count else ""


def _search_file(config: Config, path: Path, name: str) -> str:
    try:
        with source_files.reading(path, dialect=config.files.dialect(path.name)) as file:
            if count := _count_in_file(file, name):
                return f"{wording.plural(count, 'cell')}; remove the name there"
    except (Refused, SourceError):
        pass  # it is no table, and is searched as text
    try:
        is_there = rewriting.find_in(path, {name})
    except rewriting.UNREADABLE as error:
        return f"cannot be read ({error}); check it yourself"
    return "its content; remove the name there" if is_there else ""


def _count_in_file(file: source_files.File, name: str) -> int:
    for fast in (True, False):
        try:
            with source_files.open_table(file, fast=fast) as table:
                return sum(_count_cells(chunk, name) for chunk in table.chunks)
        except NotPlain:
            continue
    raise AssertionError("the strict lane reads every file")


def _count_cells(chunk: Chunk, name: str) -> int:
    """Count the cells that are the name, however it is written, also in rows with too many cells."""
    word, count = max(name.split(), key=len), 0
    for column in (*chunk.columns, pa.array([c for _, row in chunk.odd for c in row], pa.string())):
        composed = column if name.isascii() else pc.utf8_normalize(column, "NFC")
        cells = column.filter(pc.match_substring(composed, word)).to_pylist()
        count += sum(read_client(cell, "").value == name for cell in cells)
    return count
