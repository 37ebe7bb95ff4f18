"""Write the files of the state with other names and ids: text, CSV, JSON, Parquet, arrays, workbooks.

Each function returns the new content and how many texts or ids in it changed; the rest stays the same to
the byte. No function reads or writes a file.
"""

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attrition.contacts.fields import restore_formula
from attrition.errors import AttritionError
from attrition.rows.known_rows import sort_order
from attrition.storage import files

DIGEST = re.compile(r"\b[0-9a-f]{16,64}\b")
MAX_UNPACKED = 1 << 28  # bytes of a workbook
MARKUP = (".xml", ".rels", ".vml")  # the parts of a workbook that contain text
Rewritten = tuple[bytes, int]


class Substitution:
    """A name and the token that takes its place; `count` is how often it was replaced.

    others: longer names of other clients that contain the name, which stay
    is_word: whether the name is also a word or a value of its own, such as a number or a city: then it
    is replaced in what programs wrote only if it stands alone or in quotes
    """

    def __init__(self, name: str, token: str, others: Iterable[str], *, is_word: bool) -> None:
        self.name, self.token, self.is_word, self.count = name, token, is_word, 0
        self.others = sorted(others, key=lambda each: (-len(each), each))

    @cached_property
    def spelled(self) -> set[str]:
        """The name as it stands in text, in JSON, in HTML or XML, and in CSV.

        Also in decomposed letters, as some keyboards and file systems write them.
        """
        result = set[str]()
        for name in (self.name, unicodedata.normalize("NFD", self.name)):
            in_json = json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]
            in_html = escape(name), escape(name, quote=False)
            result |= {name, *in_json, *in_html, name.replace('"', '""')}
        return result

    def _pattern(self, before: str, after: str) -> re.Pattern[str]:
        """Return a pattern of all names, the longest first; a blank may be the end of a line."""
        names = [*self.others, *sorted(self.spelled, key=len, reverse=True)]
        patterns = [r"\s+".join(map(re.escape, name.split())) for name in names]
        return re.compile(f"{before}(?:{'|'.join(patterns)}){after}")

    @cached_property
    def _in_prose(self) -> re.Pattern[str]:
        return self._pattern(r"(?<!\w)", r"(?!\w)")

    @cached_property
    def _in_quotes(self) -> re.Pattern[str]:
        return self._pattern("(?<=['\"])", "(?=['\"])")

    def in_prose(self, text: str) -> str:
        """Replace the name where it stands as a word, unless it is part of another client's name."""
        return self._replace(self._in_prose, text)

    def in_message(self, text: str) -> str:
        """Replace the name in what a program wrote."""
        return self._replace(self._in_quotes if self.is_word else self._in_prose, text)

    def _replace(self, pattern: re.Pattern[str], text: str) -> str:
        spelled = {" ".join(name.split()) for name in self.spelled}

        def change(match: re.Match[str]) -> str:
            is_name = " ".join(match[0].split()) in spelled
            self.count += is_name
            return self.token if is_name else match[0]

        return pattern.sub(change, text)

    def value(self, text: str, *, is_client: bool) -> str:
        """Replace the name in a text of a record; is_client: whether it stands where clients do."""
        return self.cell(text) if is_client and text == self.name else self.in_message(text)

    def cell(self, text: str) -> str:
        """Replace a cell that is the name, or the name with the apostrophe before a formula."""
        names = {unicodedata.normalize("NFC", each) for each in (text, restore_formula(text))}
        if text != self.name and self.name not in names:
            return text
        self.count += 1
        return self.token


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
        if not len(self.old):
            return ids, 0
        places = np.minimum(np.searchsorted(self.old, ids), len(self.old) - 1)
        is_old = self.old[places] == ids
        return np.where(is_old, self.new[places], ids), int(is_old.sum())


# ---- text


def rewrite_csv(data: bytes, change: Mapping[str, Callable[[str], str]]) -> bytes:
    """Change the cells of columns of a CSV.

    Raises: AttritionError if the other lines would not stay the same.
    """
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    if _csv_bytes(rows) != data:
        raise AttritionError("is not a table as it was written")
    if not rows:
        return data
    changes = [change.get(name.removeprefix("\ufeff"), str) for name in rows[0]]
    body = [[f(cell) for f, cell in zip(changes, row, strict=False)] for row in rows[1:]]
    return _csv_bytes([rows[0], *body])


def rewrite_lines(
    data: bytes, texts: Iterable[str], change: Mapping[str, Callable[[str], str]]
) -> bytes:
    """Change the cells of columns of a CSV without line breaks, in the lines that have some texts.

    Raises: AttritionError if the rest of a line would not stay the same.
    """
    header, parts = data[: data.find(b"\n") + 1], list[bytes]()
    pattern = re.compile(b"|".join(re.escape(each.encode()) for each in texts))
    at = len(header)
    while match := pattern.search(data, at):
        start = data.rfind(b"\n", at, match.start()) + 1 or at
        end = data.find(b"\n", match.start()) + 1 or len(data)
        line = rewrite_csv(header + data[start:end], change)
        parts += [data[at:start], line[len(header) :]]
        at = end
    return b"".join([header, *parts, data[at:]])


def _csv_bytes(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


def change_line(line: str, change: Callable[[str], str]) -> str:
    """Change the cells of one line of CSV, as it stands in a cell of rejected.csv."""
    cells = next(csv.reader([line]), [])
    new = [change(cell) for cell in cells]
    return line if new == cells else _csv_bytes([new])[:-1].decode()


def change_values(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Return a value of JSON with other texts.

    change: returns the new text, from the key under which it stands and the text; the keys stay
    """
    if isinstance(value, dict):
        return {name: change_values(each, change, name) for name, each in value.items()}
    if isinstance(value, list):
        return [change_values(each, change, key) for each in value]
    return change(key, value) if isinstance(value, str) else value


def change_json(text: str, change: Callable[[str], str]) -> str:
    """Change the texts of a value of JSON, or a text that is none."""
    if text[:1] not in ("{", "["):
        return change(text)
    try:
        value = json.loads(text)
    except ValueError:
        return change(text)
    new = change_values(value, lambda key, each: change(each))
    return text if new == value else json.dumps(new, ensure_ascii=False)


def rewrite_workbook(data: bytes, change: Callable[[str], str]) -> bytes:
    """Change the text of a workbook, which is XML in a zip file.

    Raises: zipfile.BadZipFile, ValueError.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        if sum(each.file_size for each in old.infolist()) > MAX_UNPACKED:
            raise ValueError("too large")
        for each in old.infolist():
            content = old.read(each)
            if each.filename.endswith(MARKUP):
                content = change(content.decode("utf-8")).encode("utf-8")
            new.writestr(each, content)
    return result.getvalue()


def workbook_has(data: bytes, texts: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether a workbook contains a text, perhaps in several formats or after a code.

    others: longer texts, which do not count
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = [
            re.sub("<[^>]*>", "", file.read(each).decode("utf-8", "replace"))
            for each in file.namelist()
            if each.endswith(MARKUP)
        ]
    for other in others:
        parts = [part.replace(other, "").replace(escape(other), "") for part in parts]
    return any(text in part for text in texts for part in parts)


# ---- tables and arrays


def rewrite_parquet(
    data: bytes, ids: Ids, names: Collection[str], change: Callable[[str], str]
) -> Rewritten:
    """Change the ids of a Parquet file and the texts of some columns; row groups and order stay."""
    file = pq.ParquetFile(io.BytesIO(data), pre_buffer=False)
    writer, result, count = None, io.BytesIO(), 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, use_threads=False)
        for place, column in enumerate(rows.schema):
            values = rows[column.name].combine_chunks()
            if pa.types.is_uint64(column.type):
                new, changed = ids.replace(values.to_numpy(zero_copy_only=False))
                new = pa.array(new, pa.uint64())
            elif column.name in names and pa.types.is_string(column.type):
                levels = values.dictionary_encode()
                texts = levels.dictionary.to_pylist()
                other = [change(text) for text in texts]
                changed = other != texts
                new = pa.array(other, pa.string()).take(levels.indices)
            else:
                continue
            if changed:
                rows = rows.set_column(place, column, new)
            count += changed
        writer = writer or _open_writer(result, file)
        writer.write_table(rows, row_group_size=max(1, len(rows)))
    if writer is None or not count:
        return data, 0
    writer.close()
    return result.getvalue(), count


def _open_writer(target: io.BytesIO, file: Any) -> Any:
    """Open a Parquet file whose columns are encoded as those of another one."""
    group = file.metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    levels = [each.path_in_schema for each in columns if each.has_dictionary_page]
    compression = {
        each.path_in_schema: "NONE" if each.compression == "UNCOMPRESSED" else each.compression
        for each in columns
    }
    return pq.ParquetWriter(
        target, file.schema_arrow, use_dictionary=levels or False, compression=compression
    )


def rewrite_arrays(arrays: Mapping[str, NDArray[Any]], ids: Ids) -> Rewritten:
    """Change the ids in arrays of an .npz file; those that were sorted are sorted again.

    Pairs of ids are sorted as `Identities`; an array with risks of its own keeps its order.
    """
    result, count = dict[str, NDArray[Any]](), 0
    for name, values in arrays.items():
        new, changed = values, 0
        if values.dtype == np.uint64:
            new, changed = ids.replace(values)
            if changed and values.ndim == 2:
                new = new[sort_order(new[:, 0], new[:, 1])]
            elif changed and f"{name}_risk" not in arrays and (values[1:] >= values[:-1]).all():
                new = np.sort(new)
        elif values.dtype == np.uint8 and values[:4].tobytes() == b"PAR1":
            table, changed = rewrite_parquet(values.tobytes(), ids, (), str)
            new = np.frombuffer(table, "uint8")
        result[name], count = new, count + changed
    return files.arrays_bytes(**result), count


def rewrite_history(history: NDArray[np.void], ids: Ids) -> tuple[NDArray[np.void], int]:
    """Change the keys of a history of risks, which is sorted by them."""
    keys, count = ids.replace(history["key"])
    result = history.copy()
    result["key"] = keys
    return result[np.argsort(keys, kind="stable")], count
