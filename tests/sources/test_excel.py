import io
import re
import resource
import subprocess
import sys
import zipfile
from datetime import date, datetime, time, timedelta

import pytest
import xlsxwriter

from attrition.config import DEFAULT_DIALECT, Dialect
from attrition.data.schema import Refused
from attrition.sources import excel
from attrition.sources.excel import read_excel
from tests.conftest import ROOT
from tests.support import rows_of

ROWS = [["client", "x", "left"], ["acme", 1.5, 0], ["007", 2, 1]]
MAX_BYTES = 1 << 26


def workbook(*sheets, **options):
    """Return a workbook as bytes; a sheet is a list of rows, or a function that fills it."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, **options}) as book:
        for sheet in sheets:
            page = book.add_worksheet()
            if callable(sheet):
                sheet(book, page)
            else:
                for i, row in enumerate(sheet):
                    page.write_row(i, 0, row)
    return buffer.getvalue()


def changed(data, name, change):
    """Change the text of one part of a workbook."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            text = old.read(info)
            new.writestr(info.filename, change(text.decode()) if info.filename == name else text)
    return buffer.getvalue()


def with_sheet(xml, data=None):
    """Return a workbook whose rows are this XML."""
    rows = f"<sheetData>{xml}</sheetData>"
    return changed(
        data or workbook(ROWS),
        "xl/worksheets/sheet1.xml",
        lambda text: re.sub("<sheetData>.*</sheetData>", lambda _: rows, text),
    )


def read(data, dialect=DEFAULT_DIALECT, max_bytes=MAX_BYTES):
    table = read_excel(io.BytesIO(data), dialect, max_bytes)
    return table.header, rows_of(table)


def refused(data, dialect=DEFAULT_DIALECT, max_bytes=MAX_BYTES):
    with pytest.raises(Refused) as error:
        read(data, dialect, max_bytes)
    return error.value


def test_rows_have_the_numbers_of_the_sheet_and_text_stays_text():
    data = workbook([["client", "x"], ["007", 7], [], ["NA", 0.25]])
    assert read(data) == (("client", "x"), [(2, ["007", "7"]), (4, ["NA", "0.25"])])


# What programs write behind the rows, with names that rows and cells have too.
BEHIND_THE_ROWS = (
    "<headerFooter><oddFooter>&amp;RPage &amp;P of &amp;N</oddFooter></headerFooter>",
    "<conditionalFormatting><cfRule><formula>A1&gt;3</formula></cfRule></conditionalFormatting>",
    '<extLst><ext xmlns:x14="urn:x14" xmlns:xm="urn:xm"><x14:dataValidations><x14:dataValidation>'
    "<x14:formula1><xm:f>Lists!$A$1:$A$3</xm:f></x14:formula1><x14:formula2><xm:f>1</xm:f>"
    "</x14:formula2><xm:sqref>A2:A9</xm:sqref></x14:dataValidation></x14:dataValidations></ext></extLst>",
    '<controls xmlns:xdr="urn:xdr"><anchor><from><xdr:row>1</xdr:row></from></anchor></controls>',
)


@pytest.mark.parametrize("last", ["the end", 1, True])
@pytest.mark.parametrize("behind", BEHIND_THE_ROWS)
def test_what_stands_behind_the_rows_is_no_part_of_the_last_cell(behind, last):
    data = changed(
        workbook([["client", "x"], ["acme", last]]),
        "xl/worksheets/sheet1.xml",
        lambda text: text.replace("</worksheet>", f"{behind}</worksheet>"),
    )
    shown = "true" if last is True else str(last)
    assert read(data) == (("client", "x"), [(2, ["acme", shown])])


def fill_with_types(book, page):
    page.write_row(0, 0, ["v"])
    formats = ("dd.mm.yyyy", "dd.mm.yyyy hh:mm", "hh:mm", "[h]:mm")
    day, moment, clock, hours = (book.add_format({"num_format": f}) for f in formats)
    page.write_datetime(1, 0, date(2026, 8, 31), day)
    page.write_datetime(2, 0, datetime(2026, 8, 31, 12, 30), moment)  # noqa: DTZ001
    page.write_datetime(3, 0, time(12, 30), clock)
    page.write_datetime(4, 0, timedelta(hours=36), hours)
    page.write_boolean(5, 0, True)
    page.write_formula(6, 0, "=1+1", None, 2)
    page.write_formula(7, 0, "=1/0", None, "#DIV/0!")
    page.write_formula(8, 0, "=NA()", None, "#N/A")
    page.write_number(9, 0, 1e-7)
    page.write_formula(10, 0, '="a"&"b"', None, "ab")
    page.write_rich_string(11, 0, "a", book.add_format({"bold": True}), "b", "c")


@pytest.mark.parametrize("date_1904", [False, True])
def test_types_are_kept_in_both_date_systems(date_1904):
    _, rows = read(workbook(fill_with_types, default_date_format="", date_1904=date_1904))
    assert [row[0] for _, row in rows] == [
        *("2026-08-31", "2026-08-31 12:30:00", "12:30:00", "1 day, 12:00:00", "true"),
        *("2", "#DIV/0!", "#N/A", "1e-07", "ab", "abc"),
    ]


def test_error_that_only_newer_versions_of_excel_have_is_its_text():
    data = with_sheet('<row r="1"><c r="A1" t="str"><v>a</v></c></row><row r="2"><c t = \'e\' r="A2">'
                      "<v>#SPILL!</v></c></row>")  # fmt: skip
    assert read(data) == (("a",), [(2, ["#SPILL!"])])


def test_numbers_and_dates_are_written_in_the_dialect():
    def fill(book, page):
        page.write_row(0, 0, ["x", "day", "text"])
        page.write_row(1, 0, [1234.5])
        page.write_datetime(1, 1, date(2026, 8, 31), book.add_format({"num_format": "d.m.yy"}))
        page.write_string(1, 2, "1.234,5")

    data = workbook(fill)
    german = Dialect(decimal=",", thousands=".", dates="%d.%m.%Y")
    assert read(data, german)[1] == [(2, ["1234,5", "2026-08-31", "1.234,5"])]
    assert read(data, Dialect(dates="%Y-%d-%m"))[1] == [(2, ["1234.5", "2026-31-08", "1.234,5"])]


def test_first_visible_sheet_is_read_unless_one_is_named():
    def hide(book, page):
        page.write(0, 0, "hidden")
        page.hide()

    def activate(book, page):
        page.write_row(0, 0, ["b"])
        page.activate()

    data = workbook(hide, [["a"]], activate)
    data = changed(
        data, "xl/workbook.xml", lambda text: text.replace("Sheet3", "M&#252;ller &amp; Co")
    )
    assert read(data)[0] == ("a",)
    assert read(data, Dialect(sheet="müller & co"))[0] == ("b",)
    assert read(data, Dialect(sheet="Sheet1"))[0] == ("hidden",)
    error = refused(data, Dialect(sheet="Kunden"))
    assert error.code == "NO_SHEET"
    assert "the sheets are 'Sheet2', 'Müller & Co'; correct files.sheet" in error.reason


def test_empty_rows_and_columns_around_a_table_are_no_rows():
    def fill(book, page):
        red = book.add_format({"bg_color": "red"})
        for i, row in enumerate(ROWS):
            page.write_row(i + 2, 1, row)
        page.write_blank(0, 0, None, red)
        page.write_blank(900, 30, None, red)
        page.write_string(800, 1, " ")

    header, rows = read(workbook(fill))
    assert (header, [line for line, _ in rows]) == (("client", "x", "left"), [4, 5])


def merged(*cells):
    def fill(_, page):
        page.write_row(0, 0, ["Export of August", "", ""])
        for i, row in enumerate(ROWS):
            page.write_row(i + 1, 0, row)
        for place in cells:
            page.merge_range(place, "x" if place < "F" else "")

    return workbook(fill)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["A1:C1"], 'are merged; expected one line of column names, not merged; if this is a title, '
                    'name the line below it: "files": {"header_line": 2}'),
        (["A3:A4"], "the cells A3:A4 are merged; unmerge them"),
        (["B3:C3"], "the cells B3:C3 are merged; unmerge them"),
        (["A1:A2", "B1:C1"], "expected one line of column names"),
    ],
)  # fmt: skip
def test_merged_cells_in_the_table_are_refused_and_named(cells, reason):
    error = refused(merged(*cells))
    assert error.code == "MERGED_CELLS"
    assert reason in error.reason


def test_merged_title_above_the_named_header_and_merged_cells_beside_the_table_are_read_over():
    data = merged("A1:C1", "F2:G9")
    header, rows = read(data, Dialect(header_line=2))
    assert (header[:3], len(rows)) == (("client", "x", "left"), 2)


def test_formula_without_a_value_is_refused_by_its_cell():
    data = with_sheet(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="2"><c r="A2"><f>1+1</f></c></row>'
    )
    error = refused(data)
    assert (error.code, "cell A2 has a formula" in error.reason) == ("NO_VALUE", True)


@pytest.mark.parametrize(
    ("data", "code", "unfinished"),
    [
        (b"", "EMPTY_FILE", True),
        (b"client,x\nacme,1\n", "BAD_EXCEL", False),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "BINARY_XLS", False),
        (workbook(ROWS)[:-400], "BAD_EXCEL", True),
        (workbook(ROWS)[:1000], "BAD_EXCEL", True),
        (workbook([]), "NO_HEADER", False),
        (changed(workbook(ROWS), "xl/workbook.xml", lambda text: "<workbook/>"), "NO_SHEET", False),
    ],
)
def test_file_that_is_no_workbook_is_named(data, code, unfinished):
    error = refused(data)
    assert (error.code, error.unfinished) == (code, unfinished)


CELL = '<c r="A1" t="str"><v>a</v></c>'


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (
            '<row r="2"><c r="A2"><v>1</v></c></row><row r="1"><c r="A1"><v>2</v></c></row>',
            "row '1'",
        ),
        ('<row r="1"><c r="B1"><v>1</v></c><c r="A1"><v>2</v></c></row>', "cell 'A1' after B1"),
        ('<row r="1"><c r="A1"><v>1</v></c><c r="A1"><v>2</v></c></row>', "cell 'A1' after A1"),
        ('<row r="1"><c r="A7"><v>1</v></c></row>', "cell 'A7'"),
        ('<row r="1"><c r="A1"><v>1</v><v>2</v></c></row>', "two values in A1"),
        ('<row r="1"><c r="A1" t="s"><v>9999</v></c></row>', "no text for A1"),
        ('<row r="1"><c r="A1" t="s"><v>x</v></c></row>', "no text for A1"),
        ('<row r="1"><c r="A1" t="b"><v>false</v></c></row>', "no truth value in A1"),
        ('<row r="1048577"><c r="A1048577"><v>1</v></c></row>', "row '1048577'"),
        ('<row r="1"><c r="AAAA1"><v>1</v></c></row>', "cell 'AAAA1'"),
        ('<row r="1"><c r="A1" t="x"><v>1</v></c></row>', "unknown type"),
        ('<c r="A1"><v>1</v></c>', "cell 'A1'"),
        (f'<row r="1">{CELL}</row></sheetData><sheetData><row r="2"/>', "rows in two places"),
        ('<row r="1"/><x.sheetData/><row r="7"><c r="A8"><v>1</v></c></row>', "cell 'A8'"),
    ],
)
def test_sheet_that_calamine_would_read_otherwise_is_refused(xml, reason):
    error = refused(with_sheet(xml))
    assert (error.code, reason in error.reason) == ("BAD_EXCEL", True), error.reason


def test_cells_and_rows_may_lack_their_names():
    data = with_sheet(
        "<row><c t='str'><v>a</v></c><c t='str'><v>b</v></c></row><row><c><v>1</v></c></row>"
    )
    assert read(data) == (("a", "b"), [(2, ["1", ""])])


# ---- what would cost too much

ENTITIES = '<!DOCTYPE x [<!ENTITY a "xxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
SPARSE = (
    '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="{}1048576"><v>1</v></c></row>'
)
LONG = f"<si><t>{'x' * 30_000}</t></si>"


def shared(strings, cells):
    data = with_sheet(f'<row r="1">{CELL}</row>' + "".join(
        f'<row r="{i}"><c r="A{i}" t="s"><v>0</v></c></row>' for i in range(2, cells)
    ))  # fmt: skip
    return changed(data, "xl/sharedStrings.xml", lambda text: f"<sst>{strings}</sst>")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_sheet(SPARSE.format("XFD")), "TOO_MANY_COLUMNS"),
        (with_sheet(SPARSE.format("BXX")), "TOO_LARGE"),
        (with_sheet(f"<row r='1'>{CELL}</row>" + " " * MAX_BYTES), "TOO_LARGE"),
        (shared("<si/>" * (MAX_BYTES // 32), 3), "TOO_LARGE"),
        (shared(LONG, 3000), "TOO_LARGE"),
        (changed(workbook(ROWS), "xl/workbook.xml", lambda text: ENTITIES + text[55:]), "BAD_EXCEL"),
        (changed(workbook(ROWS), "xl/workbook.xml", lambda text: text + " " * (5 << 20)), "TOO_LARGE"),
    ],
    ids=["columns", "sparse", "blanks", "strings", "shared", "entities", "workbook"],
)  # fmt: skip
def test_bomb_is_refused(data, code):
    assert refused(data).code == code


def test_part_that_is_larger_than_declared_is_refused():
    data = bytearray(with_sheet(f"<row r='1'>{CELL}</row>" + " " * 100_000))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo("xl/worksheets/sheet1.xml").file_size
    declared = size.to_bytes(4, "little")
    assert refused(bytes(data.replace(declared, (1000).to_bytes(4, "little")))).code == "BAD_EXCEL"


def test_picture_that_is_never_unpacked_costs_nothing():
    buffer = io.BytesIO(workbook(ROWS))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", bytes(MAX_BYTES + 1))
    assert len(read(buffer.getvalue())[1]) == 2


def test_sparse_sheet_takes_no_memory_beyond_the_limit(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(with_sheet(SPARSE.format("BXX")))
    code = (
        "import sys; from attrition.sources import files\n"
        "try: files.read_path(files.Path(sys.argv[1]))\n"
        "except files.Refused as error: print(error.code)"
    )
    done = subprocess.run(
        check=False,
        args=[sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert (done.stdout, done.returncode) == ("TOO_LARGE\n", 0), done.stderr


def test_panic_is_the_fault_of_the_file(monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(*_):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(excel.zipfile, "ZipFile", panic)
    assert refused(workbook(ROWS)).reason.startswith("not readable (index out of bounds)")
