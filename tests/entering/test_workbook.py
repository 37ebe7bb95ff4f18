"""The sheet to fill in: the same bytes twice, nothing is a formula, and every text comes back."""

import re
import shutil
import subprocess

import pypdf
import pytest

from attrition.config import Label
from attrition.entering import workbook
from attrition.entering.workbook import make_workbook
from attrition.errors import AttritionError
from tests.entering.sheets import ABOUT, cells, client, dicts, part

HOSTILE = (
    *(
        "007",
        "=1+1",
        "+49 30 1234",
        "-5",
        "@SUM(A1)",
        "=HYPERLINK('http://x')",
        "http://example.org",
    ),
    *(
        "_x0041_",
        " blank ",
        "'quoted",
        "1e5",
        "2026-01-02",
        "TRUE",
        "#REF!",
        "Ærø 東京 🙂",
    ),
)


def test_the_same_clients_give_the_same_bytes():
    rows = [client(name) for name in HOSTILE]
    assert make_workbook(rows, ABOUT) == make_workbook(rows, ABOUT)


def test_every_name_comes_back_as_text_and_nothing_is_a_formula_or_a_link():
    data = make_workbook([client(name, manager=name) for name in HOSTILE], ABOUT)
    rows = dicts(data)
    assert [row["client"] for row in rows] == [*HOSTILE]
    assert [row["client manager"] for row in rows] == [*HOSTILE]
    sheet = part(data)
    assert "<f>" not in sheet and "hyperlink" not in sheet
    assert "<formula1>" in sheet  # of the drop-down alone


def test_amounts_risks_and_dates_are_numbers_with_a_format():
    data = make_workbook([client("A", due="2027-01-08", risk=0.251)], ABOUT)
    (row,) = dicts(data)
    assert (row["risk"], row["value"]) == ("0.251", "1000")
    assert row["contract ends"] == "2027-01-08"
    styles = part(data, "xl/styles.xml")
    assert all(text in styles for text in ("yyyy-mm-dd", "&quot;EUR&quot; #,##0", "0 %"))


def test_only_the_cells_to_fill_in_are_open_and_the_key_is_hidden():
    data = make_workbook([client("A")], ABOUT)
    sheet, styles = part(data), part(data, "xl/styles.xml")
    open_styles = {
        i
        for i, style in enumerate(styles.split("<cellXfs")[1].split("<xf ")[1:])
        if 'locked="0"' in style
    }
    header = cells(data)[0]
    line = re.search(r'<row r="2".*?</row>', sheet)[0]
    style_of = {
        name: int(re.search(rf'r="{chr(ord("A") + i)}2" s="(\d+)"', line)[1])
        for i, name in enumerate(header)
    }
    assert {name for name, style in style_of.items() if style in open_styles} == {
        *workbook.TO_FILL_IN
    }
    assert "<sheetProtection" in sheet and 'state="frozen"' in sheet and "<autoFilter" in sheet
    key = header.index("key") + 1
    assert re.search(rf'<col min="{key}"[^>]* hidden="1"', sheet)


def test_labels_of_features_and_a_column_that_nobody_has_are_as_people_read_them():
    labels = {"open_tickets": Label("open_tickets", label="complaints")}
    about = ABOUT._replace(labels=labels)
    (row,) = dicts(make_workbook([client("A", phone="+49 30 1")], about))
    assert row["main reasons"] == "complaints: 5 (baseline: 1)"
    assert row["telephone"] == "+49 30 1" and not {"e-mail", "contract ends"} & row.keys()
    assert row["by"] == "Ann" and row["outcome"] == ""


def test_text_too_long_or_not_of_unicode_is_shortened_or_replaced():
    rows = [client("A", manager="🙂" * 40_000), client("B", manager="a\ud800b\x07\x00")]
    first, second = dicts(make_workbook(rows, ABOUT))
    assert len(first["client manager"].encode("utf-16-le")) <= 2 * workbook.MAX_CELL
    assert first["client manager"].endswith("🙂…")
    assert second["client manager"].startswith("a?b")


def test_more_clients_than_a_sheet_has_lines_are_refused():
    with pytest.raises(AttritionError, match="1,048,576 clients, expected at most 1,048,565"):
        make_workbook([client("A")] * (1 << 20), ABOUT)


def test_a_list_of_nobody_has_its_header_and_lines_to_fill_in():
    (header,) = cells(make_workbook([], ABOUT))
    assert {*workbook.ALWAYS} == {*header}


def test_a_date_before_1900_is_text():
    data = make_workbook([client("A", due="1899-12-31")], ABOUT)
    assert dicts(data)[0]["contract ends"] == "1899-12-31"
    assert "1899-12-31" in part(data, "xl/sharedStrings.xml")


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
def test_libreoffice_opens_prints_and_saves_it(tmp_path):
    data = make_workbook([client(name) for name in HOSTILE], ABOUT)
    (tmp_path / "list.xlsx").write_bytes(data)
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    for ending in ("pdf", "xlsx"):
        command = ["soffice", profile, "--headless", "--convert-to", ending, "--outdir"]
        command += [tmp_path / "saved", tmp_path / "list.xlsx"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    pages = pypdf.PdfReader(tmp_path / "saved" / "list.pdf").pages
    text = "\n".join(page.extract_text() for page in pages)
    assert len(pages) == 2 and "=1+1" in text and "How to fill in" in text
    saved, key = (tmp_path / "saved" / "list.xlsx").read_bytes(), "key"
    names = [(row["client"], row[key]) for row in dicts(data)]
    assert [(row["client"], row[key]) for row in dicts(saved)] == names
