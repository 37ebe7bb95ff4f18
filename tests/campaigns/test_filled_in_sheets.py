"""Two hundred hostile sheets in the inbox: no crash, bounded memory, and every line accounted for."""

import io
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import date, datetime, time, timedelta

import pytest

from attrition import config_file
from attrition.contacts import log
from attrition.storage import tables
from tests.campaigns.workbooks import SHEET, hostile, with_part
from tests.conftest import ROOT
from tests.entering.sheets import HEADINGS, write
from tests.support import settle

LINES = [
    HEADINGS,
    ["now0", "reached", "a note", "", "Ann"],
    ["now1", "not reached", "", "2099-01-01", "Ann"],
    ["now2", "", "", "", "Ann"],
]
GOOD_BOOK = write(LINES, name="Sheet1")
CELLS = (
    *(
        "=1+1",
        "==1+1",
        "==1/0",
        '=="reached"',
        "+1",
        "-1",
        "@x",
        " ",
        "\t",
        "x" * 32_767,
        "reached ",
    ),
    *("😀" * 1_000, "\u202ereached", "a\x00b", "a\x1fb", "_x0000_", "#REF!", "#N/A", "TRUE", "NaN"),
    *(0, -1, 1.5, 1e300, 1e-300, 60, 61, 46_361, 46_361.5, 2_958_465, 2_958_466, True, False),
    *(date(1900, 1, 1), date(1900, 2, 28), date(1900, 3, 1), date(1904, 1, 1), date(2026, 12, 5)),
    *(datetime(2026, 12, 5, 23, 59, 59), date(9999, 12, 31), time(9, 30), timedelta(hours=30)),  # noqa: DTZ001
    *("2026-12-05", "05.12.2026", "12/05/26", "5 Dec", "tomorrow", "2026-02-30", "0000-00-00"),
)


def with_cells():
    """Yield sheets with each of the odd cells in each column."""
    for column in range(5):
        for cell in CELLS:
            line = ["now3", "reached", "n", "", "Ann"]
            line[column] = cell
            yield write([*LINES, line]), "xlsx"
            if column == 3:
                yield write([*LINES, line], date_1904=True), "xlsx"


def repeated(count):
    """Return a sheet whose first line is repeated."""
    row = '<row r="{0}"><c r="A{0}" t="s"><v>5</v></c></row>'
    rows = "".join(row.format(number) for number in range(5, count + 1))
    return with_part(
        GOOD_BOOK, SHEET, lambda text: text.replace("</sheetData>", rows + "</sheetData>")
    )


def others():
    """Yield sheets of other programs and formats, of other shapes, and none at all."""
    yield repeated(1 << 20), "xlsx"
    yield repeated(100_010), "xlsx"
    yield with_part(GOOD_BOOK, "xl/vbaProject.bin", lambda _: b"\xd0\xcf\x11\xe0macro"), "xlsm"
    for options in ('state="hidden"', 'state="veryHidden"'):
        yield (
            with_part(
                GOOD_BOOK,
                "xl/workbook.xml",
                lambda text, options=options: text.replace("<sheet ", f"<sheet {options} "),
            ),
            "xlsx",
        )
    hidden = '<row hidden="1" r="2"'
    yield with_part(GOOD_BOOK, SHEET, lambda text: text.replace('<row r="2"', hidden)), "xlsx"
    yield write([]), "xlsx"
    yield write([["something"], ["else"]]), "xlsx"
    yield write([[*HEADINGS, *HEADINGS]]), "xlsx"
    yield write([HEADINGS] * 3), "xlsx"
    yield write([*LINES[:1], *LINES[1:] * 3]), "xlsx"
    yield write([[f"c{i}" for i in range(2_000)], *LINES]), "xlsx"
    for ending in ("xls", "xlsb", "ods", "numbers", "xlsx", "csv", "pdf", "docx", "zip", ""):
        yield b"\xd0\xcf\x11\xe0" + bytes(2_000), ending
        yield os.urandom(5_000), ending
        yield b"", ending
    with io.BytesIO() as bomb:
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/workbook.xml", bytes(200 << 20))
        yield bomb.getvalue(), "xlsx"
    for end in ("\n", "\r\n", "\r"):
        for sign in (",", ";", "\t"):
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "latin-1"):
                text = end.join(sign.join(line) for line in [*LINES, ["Müller", "reached", *"abc"]])
                yield text.encode(encoding), "csv"
    yield b'client,outcome,note,follow-up,by\nnow0,reached,"open\n', "csv"
    yield b"client,outcome,note,follow-up,by\n" + b"now0,,,,\n" * 150_000, "csv"
    yield b"client,outcome,note,follow-up,by\n" + b"," * 3_000_000, "csv"


def run(config):
    """Read the inbox in a process whose memory is bounded."""
    command = [sys.executable, "-m", "attrition.entering.inbox", "--config", str(config.file)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def drop(config, sheets):
    config.inbox.mkdir(parents=True, exist_ok=True)
    for i, (data, ending) in enumerate(sheets):
        path = config.inbox / f"{i:03}.{ending}"
        path.write_bytes(data)
        settle(path)


def verdicts(config):
    """Return the verdicts on each sheet by its number."""
    return {
        path.name[:3]: tables.parse_dicts(path.read_bytes())
        for path in (config.inbox / "read").glob("*-verdicts.csv")
    }


@pytest.fixture(scope="module")
def result(finished_folder, tmp_path_factory):
    """What two processes have made of the same hostile sheets, one after the other."""
    folder = tmp_path_factory.mktemp("hostile") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    sheets = [(GOOD_BOOK, "xlsx"), *((data, "xlsx") for data in hostile(GOOD_BOOK))]
    sheets += [*with_cells(), *others()]
    results = []
    for _ in range(2):
        drop(config, sheets)
        lines = run(config)
        results.append((lines, verdicts(config), log.read(config.contact_log)[0]))
        assert [path.name for path in config.inbox.iterdir()] == ["read"]
        kept = [p for p in (config.inbox / "read").iterdir() if "verdicts" not in p.name]
        assert len(kept) == len(sheets)
        shutil.rmtree(config.inbox / "read")
    return len(sheets), *results


def test_every_sheet_and_every_line_has_a_verdict(result):
    count, (lines, first, entries), _ = result
    assert count >= 400 and len(lines) == len(first) == count
    kinds = Counter(row["verdict"] for rows in first.values() for row in rows)
    assert {*kinds} == {"saved", "saved before", "nothing filled in", "refused"}
    assert kinds["saved"] == len(entries)
    for number, rows in first.items():
        assert rows, number
        assert all(row["reason"] for row in rows if row["verdict"] == "refused"), rows
        is_whole = [row["line"] for row in rows] == ["0"]
        places = [(row["sheet"], row["line"]) for row in rows]
        assert is_whole or len({*places}) == len(places)
    assert [row["verdict"] for row in first["000"]] == ["saved", "refused", "nothing filled in"]


def test_nothing_is_stored_that_no_sheet_says(result):
    _, (_, _, entries), _ = result
    assert {entry.client for entry in entries} <= {f"now{i}" for i in range(4)}
    assert {entry.date for entry in entries} <= {"", "2026-12-05", "2027-12-05"} | {
        entry.date for entry in entries if entry.date > "2026"
    }
    assert {entry.by for entry in entries if entry.by.isascii() and len(entry.by) < 10} >= {"Ann"}


def test_the_same_sheets_again_store_nothing(result):
    _, (_, first, entries), (_, again, later) = result
    assert later == entries
    for number, rows in first.items():
        expected = ["saved before" if row["verdict"] == "saved" else row["verdict"] for row in rows]
        assert [row["verdict"] for row in again[number]] == expected, number
