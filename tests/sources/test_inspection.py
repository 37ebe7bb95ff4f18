"""What --check finds in one look at a file, and the lines of config.json that it proposes."""

import gzip
import io
import json

import pytest
import xlsxwriter

from attrition import config as configuration
from attrition import config_file
from ingestion import check_by_hand, ingest_new_data
from tests.conftest import PLAIN_KEYS, write_config
from tests.support import final_rows, folder_bytes, put

COLUMNS = {
    "numeric": ["lastmonth_activity", "lastyear_activity", "number_of_employees"],
    "time": "observed_on",
}
NAMES = "corporation;observed_on;lastmonth_activity;lastyear_activity;number_of_employees;exited"
GERMAN = f"{NAMES}\nMüller GmbH;31.08.2026;1.234,56;2;3;1\nGöbel KG;01.09.2026;45,0;3;4;0\n"
ROWS = [
    ["Müller GmbH", "2026-08-31", "1234.56", "2", "3", "1"],
    ["Göbel KG", "2026-09-01", "45", "3", "4", "0"],
]


@pytest.fixture
def project(tmp_path):
    return write_config(tmp_path, columns=COLUMNS)


def paste(config, text):
    """Write the lines that --check printed into config.json."""
    [line] = [line for line in text.splitlines() if line.startswith('  "files": ')]
    settings = PLAIN_KEYS | {"columns": COLUMNS} | json.loads("{" + line + "}")
    config.file.write_text(json.dumps(settings))
    return config_file.load(config.file)


def workbook(rows, *, title=0, sheet=None):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        if sheet:
            book.add_worksheet("Info").write(0, 0, "Export")
        page = book.add_worksheet(sheet)
        if title:
            page.merge_range(0, 0, title - 1, 3, "Export of 31.08.2026")
        for i, row in enumerate(rows):
            page.write_row(i + title, 0, row)
    return buffer.getvalue()


CELLS = [line.split(";") for line in GERMAN.splitlines()]
US = GERMAN.translate(str.maketrans(";.,", "|,.")).replace("31,08,2026", "8/31/2026")
US = US.replace("01,09,2026", "9/1/2026")
SWISS = GERMAN.replace("1.234,56", "1'234.56").replace("45,0", "45.0")
FRENCH = GERMAN.replace("1.234,56", "1\u202f234,56").replace("31.08.2026", "31/08/2026")
FRENCH = FRENCH.replace("01.09.2026", "01/09/2026")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", GERMAN.encode("windows-1252")),
        ("a.csv", GERMAN.encode("utf-8-sig")),
        ("a.csv", GERMAN.encode("utf-16-le")),
        ("a.csv", GERMAN.replace("Müller", "Müller").encode("iso-8859-15")),
        ("a.csv", f"Kundenliste\n\n{GERMAN}".encode("windows-1252")),
        ("a.csv", US.encode()),
        ("a.csv", SWISS.encode("windows-1252")),
        ("a.csv", FRENCH.encode()),
        ("a.csv.gz", gzip.compress(GERMAN.encode("windows-1252"))),
        ("a.xlsx", workbook(CELLS)),
        ("a.xlsx", workbook(CELLS, title=2)),
        ("a.xlsx", workbook(CELLS, sheet="Kunden")),
    ],
)
def test_file_is_taken_after_one_look_by_pasting_what_is_printed(project, name, data):
    path = put(project, name, data)
    text, is_usable = check_by_hand(project, path)
    assert not is_usable
    assert "then it would be accepted: 2 records, 2 accepted" in text
    ingest_new_data(paste(project, text))
    assert final_rows(project) == ROWS


def test_whole_file_that_is_refused_for_its_encoding_has_all_its_faults_named(project):
    path = put(project, "a.csv", GERMAN.encode("windows-1252"))
    text, _ = check_by_hand(project, path)
    assert "not valid UTF-8 at line 2, column 2 (byte 0xFC)" in text
    for finding in ("encoding: windows-1252", "separator: ';'", "decimal: ','"):
        assert finding in text
    assert "dates: '%d.%m.%Y'" in text
    assert "columns: all 6 that are expected" in text


def test_fault_of_a_number_is_named_beside_a_missing_column(project):
    path = put(project, "a.csv", GERMAN.replace("observed_on", "seen"))
    text, _ = check_by_hand(project, path)
    assert "no column observed_on" in text
    assert '"files": {"decimal": ","}' in text


@pytest.mark.parametrize(
    ("change", "readings"),
    [
        ({"1.234,56": "1,234", "45,0": "2,345"}, ("1,234 is either 1.234", "or 1234 (")),
        ({"1.234,56": "1.234", "45,0": "2.345"}, ("1.234 is either 1.234 (by default)", "or 1234")),
        (
            {"31.08.2026": "03/04/2026", "01.09.2026": "05/06/2026"},
            ('2026-04-03 ("files": {"dates": "%d/%m/%Y"})', "2026-03-04 ("),
        ),
    ],
)
def test_number_or_date_with_two_meanings_is_named_and_left_to_a_person(project, change, readings):
    text = GERMAN
    for old, new in change.items():
        text = text.replace(old, new)
    printed, _ = check_by_hand(project, put(project, "a.csv", text))
    [line] = [line for line in printed.splitlines() if line.startswith("ambiguous: line 2: ")]
    assert all(reading in line for reading in readings)


def test_one_date_that_decides_is_enough(project):
    text = GERMAN.replace("31.08.2026", "03/04/2026").replace("01.09.2026", "03/14/2026")
    printed, _ = check_by_hand(project, put(project, "a.csv", text))
    assert "ambiguous" not in printed
    assert '"dates": "%m/%d/%Y"' in printed


def test_file_beside_others_gets_a_dialect_of_its_own(project):
    plain = (
        "corporation,observed_on,lastmonth_activity,lastyear_activity,number_of_employees,exited\n"
    )
    put(project, "plain.csv", plain + "acme,2026-01-01,1.5,2,3,0\n")
    ingest_new_data(project)
    path = put(project, "kunden_2026-08.csv", GERMAN)
    text, _ = check_by_hand(project, path)
    config = paste(project, text)
    assert [pattern for pattern, _ in config.files.by_name] == ["kunden_*.csv"]
    assert config.files.dialect("plain.csv") == configuration.DEFAULT_DIALECT
    assert ingest_new_data(config).rows == 3


def test_second_look_adds_to_the_keys_that_are_there(project):
    first = put(project, "a.csv", GERMAN.replace("31.08.2026", "2026-08-31").encode("cp1252"))
    first.write_bytes(first.read_bytes().replace(b"01.09.2026", b"2026-09-01"))
    config = paste(project, check_by_hand(project, first)[0])
    config = paste(config, check_by_hand(config, put(config, "b.csv", GERMAN.encode("cp1252")))[0])
    assert config.files.dialect("x") == configuration.Dialect(
        encoding="windows-1252", decimal=",", dates="%d.%m.%Y"
    )


def test_clean_file_has_no_proposal_and_nothing_is_written(project):
    text = GERMAN.replace("31.08.2026", "2026-08-31").replace("01.09.2026", "2026-09-01")
    path = put(project, "a.csv", text.replace("1.234,56", "1234.56").replace("45,0", "45.0"))
    ingest_new_data(project)
    before = folder_bytes(project)
    printed, is_usable = check_by_hand(project, path)
    assert is_usable
    assert "write into config.json" not in printed
    assert folder_bytes(project) == before


def test_format_of_due_dates_is_detected(tmp_path):
    config = write_config(tmp_path, columns={"numeric": ["x"], "due": "ends"})
    rows = "corporation,x,ends,exited\na,1,31.08.2026,\nb,2,,\nc,3,01.09.2026,\n"
    text, is_usable = check_by_hand(config, put(config, "a.csv", rows))
    assert not is_usable
    assert '"files": {"dates": "%d.%m.%Y"}' in text
    assert "3 records, 3 accepted, 0 refused" in text
