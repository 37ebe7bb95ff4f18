"""Write the files of the state with other names and ids: text, CSV, JSON, Parquet, arrays, workbooks.

Each `rewrite_` function reads a file part by part, and writes the new content to a target; the rest
stays the same to the byte. Without a target it only counts what would change.
"""

import csv
import gzip
import json
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import cached_property
from html import escape
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, quote_plus

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attrition.contacts.fields import restore_formula
from attrition.data import risk_history
from attrition.errors import AttritionError
from attrition.rows.known_rows import is_among, sort_order
from attrition.storage import tables

CLIENT = "client"  # the column of names in our own tables
DIGEST = re.compile(r"\b[0-9a-f]{16,64}\b")
MAX_UNPACKED = 1 << 28  # bytes of a workbook
BLOCK = 1 << 20  # bytes of a text, or rows of a history, that are in memory at a time
WIDER = 0xFEE0  # from a character of ASCII to the full-width one
SEPARATOR = re.compile(r"([;|\t])")
TAG, NUMBER = re.compile("(<[^>]*>)"), re.compile("[-+.0-9eE]+")
MARKUP = (".xml", ".rels", ".vml")  # the parts of a workbook that contain text
Target = IO[bytes] | None
# Raised if a file is not what its name says, or is encrypted; those of ours were verified before.
UNREADABLE = (
    *(ValueError, EOFError, RuntimeError),
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
)
Change = Callable[[str], str]


class Substitution:
    """A name and the token that takes its place; `count` is how often it was replaced.

    others: names of other clients that are like the name or contain it, and stay
    is_word: whether the name is also a word or a value of its own, such as a number or a city: then it
    is replaced in what programs wrote only if it stands in quotes
    is_client: whether a cell was the name
    """

    def __init__(self, name: str, token: str, others: Iterable[str], *, is_word: bool) -> None:
        self.name, self.token, self.is_word, self.count = name, token, is_word, 0
        self.others, self.is_client = sorted(others, key=lambda each: (-len(each), each)), False

    @cached_property
    def spelled(self) -> set[str]:
        """The name as it stands in text, in JSON, in HTML or XML, in CSV, in Python and in addresses.

        Also in decomposed letters, as some keyboards and file systems write them.
        """
        result = set[str]()
        for name in (self.name, unicodedata.normalize("NFD", self.name)):
            in_code = (
                json.dumps(name),
                json.dumps(name, ensure_ascii=False),
                repr(name),
                ascii(name),
            )
            result |= {name, name.replace('"', '""'), *(each[1:-1] for each in in_code)}
            result |= {escape(name), escape(name, quote=False)}
            result |= {quote(name), quote(name, safe=""), quote_plus(name)}
        return result

    @cached_property
    def _name(self) -> re.Pattern[str]:
        """The name in letters of any case and width."""
        names = sorted(self.spelled, key=len, reverse=True)
        return re.compile("|".join(map(_any_width, names)), re.IGNORECASE)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """All names, the longest first, as a word and in quotes."""
        longer = [_join(each, re.escape) for each in self.others if not self.is_spelling(each)]
        name = self._name.pattern
        either = f"(?:(?P<other>{'|'.join(longer or ['(?!)'])})|{name})"
        patterns = f"(?<!\\w){either}(?!\\w)", f"(?<=['\"]){either}(?=['\"])"
        return re.compile(patterns[0], re.IGNORECASE), re.compile(patterns[1], re.IGNORECASE)

    def is_in(self, text: str) -> bool:
        """Return whether a text contains the name as a word, however it is written."""
        return bool(self._patterns[0].search(text))

    def is_spelling(self, text: str) -> bool:
        return bool(self._name.fullmatch(text))

    def in_prose(self, text: str) -> str:
        """Replace the name where it stands as a word, however it is written.

        It stays in another client's name, and if another client's name is written just so.
        """
        return self._replace(self._patterns[0], text)

    def in_quotes(self, text: str) -> str:
        return self._replace(self._patterns[1], text)

    def in_message(self, text: str) -> str:
        """Replace the name in what a program wrote: as it is, and in quotes however it is written."""
        text = self.in_quotes(text)
        return text if self.is_word else self._replace(self._patterns[0], text, is_exact=True)

    def _replace(self, pattern: re.Pattern[str], text: str, *, is_exact: bool = False) -> str:
        def change(match: re.Match[str]) -> str:
            found = {match[0], " ".join(match[0].split())}
            is_other = match["other"] or not found.isdisjoint(self.others)
            if is_other or (is_exact and found.isdisjoint(self.spelled)):
                return match[0]
            self.count += 1
            return self.token

        return pattern.sub(change, text)

    def cell(self, text: str) -> str:
        """Replace a cell that is the name, or the name with the apostrophe before a formula."""
        if self.name not in {
            unicodedata.normalize("NFC", each) for each in (text, restore_formula(text))
        }:
            return text
        self.count, self.is_client = self.count + 1, True
        return self.token

    def cells(self, texts: pa.Array) -> tuple[pa.Array, int]:
        """Replace cells of our own tables, which contain names as they are."""
        is_name = pc.fill_null(pc.equal(texts, self.name), False)
        count = pc.sum(is_name).as_py() or 0
        self.is_client |= count > 0
        return pc.if_else(is_name, self.token, texts) if count else texts, count


def _join(name: str, write: Change) -> str:
    """Return a pattern of a name; a blank may be the end of a line."""
    return r"\s+".join(map(write, name.split()))


def _any_width(name: str) -> str:
    """Return a pattern of a name in letters of any width."""

    def write(character: str) -> str:
        narrow = unicodedata.normalize("NFKC", character)
        wide = chr(ord(narrow) + WIDER) if "!" <= narrow <= "~" and len(narrow) == 1 else narrow
        return f"(?:{'|'.join(map(re.escape, dict.fromkeys([character, narrow, wide])))})"

    return _join(name, lambda word: "".join(map(write, word)))


def replace_digests(text: str, digests: Mapping[str, str]) -> str:
    """Replace hashes in hexadecimal.

    >>> replace_digests("2 00000000000000aa", {"00000000000000aa": "00000000000000bb"})
    '2 00000000000000bb'
    """
    return DIGEST.sub(lambda match: digests.get(match[0], match[0]), text)


class Ids(NamedTuple):
    """64-bit hashes of a client and of his or her rows, sorted, and the new ones."""

    old: NDArray[np.uint64]
    new: NDArray[np.uint64]

    @classmethod
    def of(cls, pairs: Mapping[int, int]) -> "Ids":
        old = np.array(sorted(pairs), "uint64")
        return cls(old, np.array([pairs[each] for each in old.tolist()], "uint64"))

    def replace(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
        """Return ids of any shape with the new ones, and how many changed."""
        places = np.flatnonzero(is_among(ids.ravel(), self.old))
        if not len(places):
            return ids, 0
        result = np.array(ids)
        result.flat[places] = self.new[np.searchsorted(self.old, result.flat[places])]
        return result, len(places)


# ---- text


def find_in(path: Path, texts: Iterable[str]) -> bool:
    """Return whether a file contains one of some texts, in any encoding of text files."""
    kinds = ("utf-8", "utf-16-le", "utf-16-be", "cp1252")
    words = {text.encode(kind, "ignore") for text in texts for kind in kinds} - {b""}
    tail, overlap = b"", max(map(len, words))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while block := file.read(BLOCK):
            if any(word in tail + block for word in words):
                return True
            tail = (tail + block)[-overlap:]
    return False


def rewrite_csv(path: Path, target: Target, change: Mapping[str, Change]) -> None:
    """Change the cells of columns of a CSV, which may contain line breaks.

    Raises: AttritionError if the rest would not stay the same.
    """
    with path.open("rb") as file, path.open(encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        header = next(rows, [])
        _write(target, _change_row(file.read(len(tables.csv_bytes([header]))), header, [], {}))
        for row in rows:
            line = file.read(len(tables.csv_bytes([row])))
            _write(target, _change_row(line, row, header, change))


def rewrite_lines(
    path: Path, target: Target, texts: Iterable[str], change: Mapping[str, Change]
) -> None:
    """Change the cells of columns of a CSV without line breaks, in the lines that have some texts.

    Raises: AttritionError if the rest of a line would not stay the same.
    """
    pattern = re.compile(b"|".join(re.escape(each.encode()) for each in texts))
    with path.open("rb") as file:
        first = file.readline()
        _write(target, first)
        header = next(csv.reader([first.decode()]), [])
        while block := file.read(BLOCK) + file.readline():
            at = 0
            while match := pattern.search(block, at):
                start = block.rfind(b"\n", at, match.start()) + 1 or at
                end = block.find(b"\n", match.start()) + 1 or len(block)
                row = next(csv.reader([block[start:end].decode()]))
                _write(target, block[at:start])
                _write(target, _change_row(block[start:end], row, header, change))
                at = end
            _write(target, block[at:])


def _write(target: Target, data: bytes) -> None:
    if target is not None:
        target.write(data)


def _change_row(
    line: bytes, row: list[str], header: list[str], change: Mapping[str, Change]
) -> bytes:
    """Return a line of a CSV with other cells; row: its cells."""
    if tables.csv_bytes([row] if row else []) != line:
        raise AttritionError("is not a table as it was written")
    names = [name.removeprefix("\ufeff") for name in header]
    new = [
        change.get(name, str)(cell) for name, cell in zip_longest(names, row) if cell is not None
    ]
    return line if new == row else tables.csv_bytes([new])


def change_raw(line: str, change: Change) -> str:
    """Change the cells of a line as delivered, which a cell of rejected.csv contains.

    They are split at other separators too: by the wrong one, the file may have been refused.
    """
    cells = next(csv.reader([line]), [])
    new = [
        whole if (whole := change(cell)) != cell else "".join(map(change, SEPARATOR.split(cell)))
        for cell in cells
    ]
    return line if new == cells else tables.csv_bytes([new])[:-1].decode()


def change_values(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Return a value of JSON with other texts.

    change: returns the new text, from the key under which it stands and the text; the keys stay
    """
    if isinstance(value, dict):
        return {name: change_values(each, change, name) for name, each in value.items()}
    if isinstance(value, list):
        return [change_values(each, change, key) for each in value]
    return change(key, value) if isinstance(value, str) else value


def change_json(text: str, change: Change) -> str:
    """Change the texts of a value of JSON, or a text that is none."""
    if text[:1] not in ("{", "["):
        return change(text)
    try:
        value = json.loads(text)
    except ValueError:
        return change(text)
    new = change_values(value, lambda key, each: change(each))
    end = text[len(text.rstrip()) :]
    return text if new == value else json.dumps(new, ensure_ascii=False) + end


def rewrite_log(path: Path, target: Target, change: Change) -> None:
    """Change a file line by line; a line may be JSON."""
    with path.open("rb") as file:
        for line in file:
            text = line.decode("utf-8", "surrogateescape")
            _write(target, change_json(text, change).encode("utf-8", "surrogateescape"))


def rewrite_text(path: Path, target: Target, change: Change) -> None:
    """Change a text, whatever its encoding is."""
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "latin-1", data.decode("latin-1")
    new = change(text)
    _write(target, data if new == text else new.encode(encoding))


def rewrite_workbook(path: Path, target: Target, change: Change) -> list[str]:
    """Change the text of a workbook, which is XML in a zip file; return the new text without codes.

    Tags and numbers stay, or the workbook could not be opened; the values in tags are returned too.

    Raises: zipfile.BadZipFile, ValueError.
    """
    texts = []
    with zipfile.ZipFile(path) as old, _open_zip(target) as new:
        if sum(each.file_size for each in old.infolist()) > MAX_UNPACKED:
            raise ValueError("too large")
        for each in old.infolist():
            content = old.read(each)
            if each.filename.endswith(MARKUP):
                parts = TAG.split(content.decode("utf-8"))
                for i in range(0, len(parts), 2):  # the others are tags
                    is_number = parts[i - 1] == "<v>" and NUMBER.fullmatch(parts[i])
                    parts[i] = parts[i] if is_number else change(parts[i])
                texts += ["".join(parts[::2]), *re.findall('"([^"]*)"', " ".join(parts[1::2]))]
                content = "".join(parts).encode("utf-8")
            if new is not None:
                new.writestr(each, content)
    return texts


def _open_zip(target: Target) -> Any:
    return nullcontext() if target is None else zipfile.ZipFile(target, "w")


# ---- tables and arrays


def rewrite_parquet(source: Any, target: Target, ids: Ids, texts: Substitution) -> int:
    """Change the ids of a Parquet file and the names of clients; row groups and order stay.

    source: its path, or an open file

    Return how many cells change.
    """
    file, writer, count = tables.open_parquet(source), None, 0
    schema = file.schema_arrow
    found = [each.name for each in schema if pa.types.is_uint64(each.type) or each.name == CLIENT]
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, found if target is None else None, use_threads=False)
        for name in found:
            values = rows[name].combine_chunks()
            if pa.types.is_string(values.type):
                new, changed = texts.cells(values)
            else:
                new, changed = ids.replace(values.to_numpy(zero_copy_only=False))
            if changed:
                place = rows.schema.get_field_index(name)
                rows = rows.set_column(place, name, pa.array(new, values.type))
            count += changed
        if target is not None:
            writer = writer or _open_writer(target, file)
            writer.write_table(rows, row_group_size=max(1, len(rows)))
    if writer is not None:
        writer.close()
    return count


def _open_writer(target: IO[bytes], file: Any) -> Any:
    """Open a Parquet file whose columns are encoded as those of another one."""
    group = file.metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    levels = [each.path_in_schema for each in columns if each.has_dictionary_page] or False
    kinds = {
        each.path_in_schema: each.compression.replace("UNCOMPRESSED", "NONE") for each in columns
    }
    return pq.ParquetWriter(target, file.schema_arrow, use_dictionary=levels, compression=kinds)


def rewrite_arrays(path: Path, target: Target, ids: Ids, texts: Substitution) -> int:
    """Change the ids in an .npz file, array by array; those that were sorted are sorted again.

    Pairs of ids are sorted as `Identities`; an array with risks of its own keeps its order.

    Return how many ids change.
    """
    count = 0
    with np.load(path, allow_pickle=False) as arrays, _open_zip(target) as result:
        for name in arrays.files:
            new, changed = arrays[name], 0
            if new.dtype == np.uint64:
                has_order = f"{name}_risk" not in arrays
                new, changed = _replace_sorted(new, ids, has_order=has_order)
            elif new.dtype == np.uint8 and new[:4].tobytes() == b"PAR1":
                table = BytesIO()
                changed = rewrite_parquet(BytesIO(new), table, ids, texts)
                new = np.frombuffer(table.getvalue(), "uint8") if changed else new
            count += changed
            if result is not None:  # as np.savez does
                with result.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, new, allow_pickle=False)
    return count


def _replace_sorted(
    ids_there: NDArray[np.uint64], ids: Ids, *, has_order: bool
) -> tuple[NDArray[np.uint64], int]:
    new, changed = ids.replace(ids_there)
    if changed and new.ndim == 2:
        new = new[sort_order(new[:, 0], new[:, 1])]
    elif changed and has_order and (ids_there[1:] >= ids_there[:-1]).all():
        new = np.sort(new)
    return new, changed


def rewrite_history(path: Path, target: Target, ids: Ids) -> int:
    """Change the keys of a history of risks, which stays sorted by them; return how many."""
    with path.open("rb") as file:
        history = risk_history.open_array(file)
    keys, count = ids.replace(np.array(history["key"]))
    if target is not None:
        about = np.lib.format.header_data_from_array_1_0(history)
        np.lib.format.write_array_header_1_0(target, about)
        order = np.argsort(keys, kind="stable")
        for at in range(0, len(order), BLOCK):
            rows = np.array(history[order[at : at + BLOCK]])
            rows["key"] = keys[order[at : at + BLOCK]]
            target.write(rows.tobytes())
    return count
