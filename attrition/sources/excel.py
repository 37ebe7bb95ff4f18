"""Read Excel workbooks (.xlsx): check the XML of one sheet, then let python-calamine read its cells.

calamine lays a sheet out densely up to its last cell and drops what it does not expect, so a file of a
few kB can take all memory, which ends the process. Therefore the parts that are needed are unpacked
within the limit, checked in one pass, and packed into a workbook of exactly this sheet.

Source: ECMA-376, parts 1 (SpreadsheetML) and 2 (packages).
"""

import posixpath
import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.parsers import expat

from attrition.config import Dialect
from attrition.data import schema
from attrition.data.cells import BLANKS, shorten
from attrition.data.schema import MAX_COLUMNS, Chunk, Refused, Table
from attrition.sources.csv_reader import CHUNK_ROWS, MAGIC, PIECE
from attrition.sources.dialects import typed_text
from attrition.storage.tables import make_spool

OLE2 = b"\xd0\xcf\x11\xe0"
METHODS = (b"\x00\x00", b"\x08\x00")  # of a zip: stored, deflated
MAX_ROWS, MAX_SHEET_COLUMNS = 1 << 20, 1 << 14
MAX_INDEX_BYTES = 4 << 20  # of the workbook and its relations
MAX_TAG = 1 << 20
CELL_BYTES = 64  # measured: 52 a cell of calamine's dense table, with short texts
STRING_BYTES = 32
REFERENCE = re.compile("([A-Z]{1,3})([1-9][0-9]{0,6})")
# calamine drops the text of an error, and fails at the errors that newer versions of Excel have.
ERROR_CELL = re.compile(rb"""(<(?:\w+:)?c\s(?:[^<>]*\s)?t\s*=\s*)(["'])e\2""")
KINDS = frozenset({None, "n", "s", "b", "e", "str", "inlineStr", "d"})
OPEN_XML = "http://schemas.openxmlformats.org"
RELATIONS = f"{OPEN_XML}/officeDocument/2006/relationships"
WORKBOOK = (
    f'<workbook xmlns="{OPEN_XML}/spreadsheetml/2006/main" xmlns:r="{RELATIONS}"><workbookPr '
    'date1904="{}"/><sheets><sheet name="sheet" sheetId="1" r:id="r1"/></sheets></workbook>'
)
RELATION = f'<Relationship Id="r1" Type="{RELATIONS}/{{}}" Target="{{}}"/>'
FIXED_PARTS = {
    "_rels/.rels": RELATION.format("officeDocument", "xl/workbook.xml"),
    "xl/_rels/workbook.xml.rels": RELATION.format("worksheet", "worksheets/sheet1.xml"),
}
SHEET, STRINGS, STYLES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"


class Budget:
    """The bytes that a source may take when it is unpacked."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = self.left = max_bytes

    def spend(self, size: int) -> None:
        """Raise Refused if more is spent than there is."""
        self.left -= size
        if self.left < 0:
            reason = f"more than {self.max_bytes} bytes when unpacked (max_source_mb)"
            raise Refused("TOO_LARGE", reason)


class _Workbook(NamedTuple):
    """The parts of a workbook by their names in the archive; sheets by their folded names."""

    sheets: dict[str, str]
    shown: tuple[str, ...]
    strings: str | None
    styles: str | None
    has_1904_dates: bool

    def sheet(self, wanted: str | None) -> str:
        """Return the part of the named sheet, or of the first visible one.

        Raises: Refused.
        """
        title = wanted if wanted is not None else (self.shown or ("",))[0]
        if (part := self.sheets.get(title.casefold())) is not None:
            return part
        names = ", ".join(shorten(repr(name)) for name in self.shown[:20]) or "none"
        if wanted is None:
            raise Refused("NO_SHEET", "there is no visible sheet with cells")
        advice = "correct files.sheet in config.json"
        reason = f"there is no sheet {shorten(title)!r}; the sheets are {names}; {advice}"
        raise Refused("NO_SHEET", reason)


def read_excel(
    packed: IO[bytes],
    dialect: Dialect,
    max_bytes: int,
    spool_folder: Path | None = None,
    title_lines: int = 0,
) -> Table:
    """Read one sheet of a workbook; lines are the numbers of its rows.

    title_lines: how many of the first lines may have cells that are merged with others of the line

    Raises: Refused, also while the chunks are read.
    """
    import python_calamine

    _check_magic(packed)
    budget = Budget(max_bytes)
    with _excel_errors(), make_spool(spool_folder) as plain:
        with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(plain, "w") as rebuilt:
            _rebuild(_Archive(archive, budget), rebuilt, dialect, title_lines)
        plain.seek(0)
        workbook = python_calamine.CalamineWorkbook.from_filelike(plain)
        sheet = workbook.get_sheet_by_index(0)
    rows = _numbered_rows(sheet, dialect)
    for line, header in rows:
        if dialect.header_line in (line, None):
            return Table(tuple(header), _chunks(rows, len(header)), (), dialect)
    empty = f"nothing in line {dialect.header_line} (header_line)"
    empty = empty if dialect.header_line else "an empty sheet"
    raise Refused("NO_HEADER", f"{empty}, expected column names")


def list_sheets(packed: IO[bytes], max_bytes: int) -> list[str]:
    """Return the names of the visible sheets with cells.

    Raises: Refused.
    """
    _check_magic(packed)
    with _excel_errors(), zipfile.ZipFile(packed) as archive:
        return list(_read_workbook(_Archive(archive, Budget(max_bytes))).shown)


def _check_magic(packed: IO[bytes]) -> None:
    """Raise Refused if a file does not begin like an archive."""
    packed.seek(0)
    start, method = packed.read(4), packed.read(6)[4:]
    if not start:
        raise Refused("EMPTY_FILE", "0 bytes", unfinished=True)
    if start == OLE2:
        code, advice = MAGIC[OLE2]
        raise Refused(code, f"expected an .xlsx workbook, found {advice}")
    if start != b"PK\x03\x04" or method not in METHODS:
        reason = "not an .xlsx workbook; give it the ending of what it is, or save it as .xlsx"
        raise Refused("BAD_EXCEL", reason)


@contextmanager
def _excel_errors() -> Iterator[None]:
    try:
        yield
    except (Refused, MemoryError):
        raise
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, struct.error, expat.ExpatError),
        *(NotImplementedError, RuntimeError, LookupError, ValueError, ArithmeticError),
    ) as error:
        raise _damaged(error) from error
    except BaseException as error:  # calamine's own, and a panic, which is no Exception
        if type(error).__name__ not in ("CalamineError", "XmlError", "ZipError", "PanicException"):
            raise
        raise _damaged(error) from error


def _damaged(error: BaseException) -> Refused:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    reason = f"not readable ({shorten(reason, 100)}); open it in Excel and save it again"
    return Refused("BAD_EXCEL", reason, unfinished=True)


def _numbered_rows(sheet: Any, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank as text, with their numbers."""
    with _excel_errors():
        for i, row in enumerate(sheet.iter_rows()):
            texts = [typed_text(value, dialect) for value in row]
            if any(text.strip(BLANKS) for text in texts):
                yield i + 1, texts


def _chunks(rows: Iterator[tuple[int, list[str]]], width: int) -> Iterator[Chunk]:
    waiting: list[list[str]] = []
    lines: list[int] = []
    for line, texts in rows:
        waiting.append(texts)
        lines.append(line)
        if len(waiting) >= CHUNK_ROWS:
            yield schema.make_chunk(waiting, lines, width)
            waiting, lines = [], []
    if waiting:
        yield schema.make_chunk(waiting, lines, width)


# ---- the archive


class _Archive:
    """The parts of an archive by their names; their bytes are counted as they are unpacked."""

    def __init__(self, archive: zipfile.ZipFile, budget: Budget) -> None:
        self.archive, self.budget = archive, budget
        self.parts = {_part_name(info.filename): info for info in archive.infolist()}
        if len(self.parts) < len(archive.infolist()):
            raise Refused("BAD_EXCEL", "the archive contains a part twice")

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the content of a part."""
        if (info := self.parts.get(_part_name(name))) is None:
            raise Refused("BAD_EXCEL", f"the workbook has no part {shorten(name)!r}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused("BAD_EXCEL", "compressed by a method that Excel does not use")
        if info.file_size > self.budget.left:
            self.budget.spend(info.file_size)
        with self.archive.open(info) as part:
            while piece := part.read(PIECE):
                self.budget.spend(len(piece))
                yield piece

    def elements(self, name: str) -> list[tuple[str, dict[str, str]]]:
        """Return the elements of a small part and their attributes, without name spaces."""
        elements: list[tuple[str, dict[str, str]]] = []
        parser = _Parser(lambda tag, attributes: elements.append((tag, attributes)))
        size = 0
        for piece in self.pieces(name):
            if (size := size + len(piece)) > MAX_INDEX_BYTES:
                raise Refused("TOO_LARGE", f"{shorten(name)} has more than {MAX_INDEX_BYTES} bytes")
            parser.feed(piece)
        parser.close()
        return [
            (tag, {key.rpartition(":")[2]: value for key, value in attributes.items()})
            for tag, attributes in elements
        ]


def _part_name(name: str) -> str:
    """Return the name of a part as packages compare it."""
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/").casefold()


class _Parser:
    """A parser of XML in UTF-8 without a document type, so that no entity can expand."""

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], object],
        text: Callable[[str], object] | None = None,
        end: Callable[[str], object] | None = None,
    ) -> None:
        self.start, self.parser = start, expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.XmlDeclHandler = self._check_encoding
        self.parser.CharacterDataHandler = text
        self.parser.EndElementHandler = end

    def feed(self, piece: bytes) -> None:
        if b"\x00" in piece:
            raise Refused("BAD_EXCEL", "its XML is not UTF-8")
        self.parser.Parse(piece)

    def close(self) -> None:
        self.parser.Parse(b"", True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.start(name.rpartition(":")[2] if ":" in name else name, attributes)

    def _refuse_doctype(self, *_: object) -> None:
        raise Refused("BAD_EXCEL", "its XML declares a document type, which no workbook needs")

    def _check_encoding(self, _: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.casefold() not in ("utf-8", "utf8", "us-ascii"):
            raise Refused("BAD_EXCEL", f"its XML is in {shorten(encoding)}, expected UTF-8")


def _read_workbook(archive: _Archive) -> _Workbook:
    """Find the sheets with cells, and the parts that belong to all of them.

    Raises: Refused.
    """
    relations = _relations(archive, "_rels/.rels", "")
    workbook = next((path for path, kind in relations.values() if kind == "officeDocument"), None)
    if workbook is None:
        raise Refused("BAD_EXCEL", "an archive without a workbook, expected .xlsx")
    folder, name = posixpath.split(workbook)
    relations = _relations(archive, f"{folder}/_rels/{name}.rels", folder)
    paths = {kind: path for path, kind in reversed(relations.values())}
    has_1904_dates = False
    sheets: dict[str, str] = {}
    shown: list[str] = []
    for tag, attributes in archive.elements(workbook):
        path, kind = relations.get(attributes.get("id", ""), ("", ""))
        if tag == "workbookPr":
            has_1904_dates = attributes.get("date1904") in ("1", "true")
        elif tag == "sheet" and kind == "worksheet":
            title = attributes.get("name", "")
            sheets[title.casefold()] = path
            shown += [title] * (attributes.get("state", "visible") == "visible")
    strings, styles = paths.get("sharedStrings"), paths.get("styles")
    return _Workbook(sheets, tuple(shown), strings, styles, has_1904_dates)


def _relations(archive: _Archive, name: str, folder: str) -> dict[str, tuple[str, str]]:
    """Return the path and the kind of each relation of a part by its id."""
    relations = {}
    for tag, attributes in archive.elements(name):
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            path = posixpath.join("/", folder, attributes.get("Target", "").replace("\\", "/"))
            kind = attributes.get("Type", "").rpartition("/")[2]
            relations[attributes.get("Id", "")] = (posixpath.normpath(path), kind)
    return relations


def _rebuild(
    archive: _Archive, rebuilt: zipfile.ZipFile, dialect: Dialect, title_lines: int
) -> None:
    """Write a workbook of one sheet, from parts that were checked.

    Raises: Refused.
    """
    parts = _read_workbook(archive)
    part = parts.sheet(dialect.sheet)
    for name, relation in FIXED_PARTS.items():
        text = f'<Relationships xmlns="{OPEN_XML}/package/2006/relationships">{relation}</Relationships>'
        rebuilt.writestr(name, text)
    rebuilt.writestr("xl/workbook.xml", WORKBOOK.format(int(parts.has_1904_dates)))
    strings = _Strings(archive.budget)
    if parts.strings:
        parser = _Parser(strings.start, strings.text)
        _copy(archive, parts.strings, rebuilt, STRINGS, parser)
    if parts.styles:
        _copy(archive, parts.styles, rebuilt, STYLES, _Parser(lambda *_: None))
    sheet = _Sheet(archive.budget, strings.sizes, dialect.header_line, title_lines)
    _copy(archive, part, rebuilt, SHEET, _Parser(sheet.start, sheet.text, sheet.end))
    sheet.close()


def _copy(
    archive: _Archive, name: str, rebuilt: zipfile.ZipFile, target: str, parser: _Parser
) -> None:
    """Copy a part while it is checked, with errors as text; tags are not cut apart."""
    rest = b""
    with rebuilt.open(target, "w", force_zip64=True) as part:
        for piece in archive.pieces(name):
            parser.feed(piece)
            whole, end, rest = (rest + piece).rpartition(b">")
            part.write(ERROR_CELL.sub(rb"\1\2str\2", whole + end))
            if len(rest) > MAX_TAG:
                if b"<" in rest:
                    raise Refused("BAD_EXCEL", f"its XML has a tag of more than {MAX_TAG} bytes")
                part.write(rest)
                rest = b""
        parser.close()
        part.write(rest)


# ---- the parts


class _Strings:
    """The sizes of the shared strings: a long one that many cells share takes memory in each."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.sizes = budget, array("L")

    def start(self, tag: str, _: dict[str, str]) -> None:
        if tag == "si":
            self.budget.spend(STRING_BYTES)
            self.sizes.append(0)

    def text(self, text: str) -> None:
        if self.sizes:
            self.sizes[-1] += len(text) if text.isascii() else 4 * len(text)


class _Sheet:
    """A check that calamine reads a sheet whole: rows and cells in order, one value each, not merged."""

    def __init__(
        self, budget: Budget, sizes: "array[int]", header_line: int | None, title_lines: int
    ) -> None:
        self.budget, self.sizes = budget, sizes
        self.header_line, self.title_lines = header_line, title_lines
        self.row = self.column = 0
        self.first_row = self.last_row = self.first_column = self.last_column = 0
        self.sheets, self.is_over = 0, False
        self.kind: str | None = None
        self.elements: list[str] = []
        self.value = ""

    @property
    def cell(self) -> str:
        """The name of the current cell, such as B3."""
        letters, column = "", self.column
        while column:
            column, letter = divmod(column - 1, 26)
            letters = chr(ord("A") + letter) + letters
        return f"{letters}{self.row}"

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "mergeCell":
            self._check_merged(attributes.get("ref", ""))
        elif tag == "sheetData":
            self.sheets += 1
            self._check(self.sheets == 1, "has its rows in two places")
        elif self.is_over:
            return  # headers, rules of cells and extensions have elements of the same names
        elif tag == "c":
            self._begin_cell(attributes)
        elif tag in ("v", "is", "f"):
            self._begin_value(tag)
        elif tag == "row":
            self._begin_row(attributes)

    def end(self, name: str) -> None:
        """End the last cell at the end of the rows."""
        if name.rpartition(":")[2] == "sheetData":
            self._end_cell()
            self.is_over = True

    def text(self, text: str) -> None:
        if self.kind in ("s", "b") and self.elements[-1:] == ["v"]:
            self.value += text
            self._check(len(self.value) < PIECE, f"has a value that is too long in {self.cell}")

    def close(self) -> None:
        """Check the last cell, and what the dense table takes.

        Raises: Refused.
        """
        self._end_cell()
        width = self.last_column - self.first_column + 1
        if width > MAX_COLUMNS:
            raise Refused("TOO_MANY_COLUMNS", f"{width} columns, at most {MAX_COLUMNS}")
        self.budget.spend(CELL_BYTES * width * (self.last_row - self.first_row + 1))

    def _begin_row(self, attributes: dict[str, str]) -> None:
        self._end_cell()
        row = attributes.get("r", str(self.row + 1))
        is_next = (
            row.isascii() and row.isdigit() and len(row) < 8 and self.row < int(row) <= MAX_ROWS
        )
        self._check(is_next, f"has row {shorten(row)!r} after row {self.row}")
        self.row, self.column = int(row), 0

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        self._end_cell()
        self.kind = attributes.get("t")
        self._check(self.kind in KINDS, f"has a cell of an unknown type after {self.cell}")
        reference = attributes.get("r")
        if reference is None:
            self.column += 1
        else:
            match = REFERENCE.fullmatch(reference)
            column = _column_number(match[1]) if match else 0
            is_next = match and int(match[2]) == self.row and column > self.column
            self._check(is_next, f"has the cell {shorten(reference)!r} after {self.cell}")
            self.column = column
        self._check(self.row > 0, "has cells without a row")
        self._check(self.column <= MAX_SHEET_COLUMNS, f"has too many cells in row {self.row}")

    def _begin_value(self, tag: str) -> None:
        before = self.elements[-1:]
        is_valid = not before or before == ["f"] or (before, tag) == (["v"], "is")
        self._check(
            self.column > 0 and is_valid and before != [tag], f"has two values in {self.cell}"
        )
        self.elements.append(tag)
        if tag != "f" and len(self.elements) < 3:
            self.first_row = self.first_row or self.row
            self.last_row = self.row
            self.first_column = min(self.first_column or self.column, self.column)
            self.last_column = max(self.last_column, self.column)

    def _end_cell(self) -> None:
        elements, value = self.elements, self.value.strip()
        self.elements, self.value = [], ""
        if elements == ["f"]:
            raise Refused(
                "NO_VALUE",
                f"cell {self.cell} has a formula without a value; open the file in Excel and save it",
            )
        if not value:
            return
        if self.kind == "s":
            is_index = value.isascii() and value.isdigit() and len(value) < 10
            self._check(is_index and int(value) < len(self.sizes), f"has no text for {self.cell}")
            self.budget.spend(self.sizes[int(value)])
        elif self.kind == "b":
            self._check(value in ("0", "1", "true"), f"has no truth value in {self.cell}")

    def _check_merged(self, reference: str) -> None:
        """Raise Refused if merged cells are in the table; only the first of them has the value."""
        self._end_cell()
        first, _, last = reference.partition(":")
        begin, end = REFERENCE.fullmatch(first), REFERENCE.fullmatch(last or first)
        self._check(begin and end and self.row, f"merges {shorten(reference)!r}")
        assert begin and end
        header = self.header_line or self.first_row
        is_right = _column_number(begin[1]) > self.last_column
        if int(end[2]) < header or int(begin[2]) > self.last_row or is_right:
            return
        if int(begin[2]) == int(end[2]) <= self.title_lines:
            return
        advice = "unmerge them, so that each cell has its own value"
        if int(begin[2]) == header and not self.title_lines:
            line = int(end[2]) + 1
            advice = (
                "expected one line of column names, not merged; if this is a title, name the line below "
                f'it: "files": {{"header_line": {line}}}'
            )
        raise Refused("MERGED_CELLS", f"the cells {reference} are merged; {advice}")

    def _check(self, is_valid: object, problem: str) -> None:
        if not is_valid:
            reason = f"the sheet {problem}; open it in Excel and save it again"
            raise Refused("BAD_EXCEL", reason)


def _column_number(letters: str) -> int:
    """Return the number of a column.

    >>> _column_number("A"), _column_number("XFD")
    (1, 16384)
    """
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number
