import io

import pytest

from attrition.config import DEFAULT_DIALECT, MISSING_MARKERS, Columns, Dialect
from attrition.data import schema
from attrition.data.schema import BadHeader, Refused, Table
from attrition.sources import csv_reader
from attrition.sources.csv_reader import NotPlain, read_csv
from tests.campaigns import catalogue
from tests.campaigns.catalogue import GOOD
from tests.support import rows_of


def read(data, dialect=DEFAULT_DIALECT, *, fast=False):
    table = read_csv(io.BytesIO(data), dialect, fast=fast)
    return Table(table.header, list(table.chunks), table.notes)


def verdict(data, dialect=DEFAULT_DIALECT, *, fast):
    """All that a text comes to in one lane; None where the fast lane leaves it to the strict one."""
    try:
        checked = schema.check(read(data, dialect, fast=fast), Columns(), MISSING_MARKERS)
    except NotPlain:
        return None
    except (Refused, BadHeader) as error:
        return error.code, str(error)
    rows = checked.frame().values.tolist()
    return rows, list(checked.lines), checked.raw.to_pylist(), checked.refused, checked.notes


def test_header_may_be_quoted_over_two_lines():
    table = read(b'id,"days\nsince",x\na,1,2\n')
    assert (table.header, rows_of(table)) == (("id", "days\nsince", "x"), [(3, ["a", "1", "2"])])


@pytest.mark.parametrize("text", [b'""', b'""\n', b'sep=;\n""\r', b'\n"  "\n\n'])
def test_quotes_around_nothing_are_no_header(text):
    with pytest.raises(Refused) as error:
        read(text)
    assert (error.value.code, error.value.unfinished) == ("NO_HEADER", True)


def test_table_of_one_column():
    table = read(b"client\nacme\n\nbolt\n")
    assert (table.header, rows_of(table)) == (("client",), [(2, ["acme"]), (4, ["bolt"])])


# ---- the two lanes


def content(case, folder):
    case.write(folder / case.name)
    path = folder / case.name
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


CSV_CASES = [
    case for case in catalogue.all_cases(catalogue.PLAIN)
    if case.name.lower().endswith(".csv") and isinstance(case.content, bytes)
]  # fmt: skip


@pytest.mark.parametrize("case", CSV_CASES, ids=lambda case: case.name[:24])
def test_fast_lane_agrees_with_the_strict_one(tmp_path, case):
    (tmp_path / "x").mkdir()
    data = content(case, tmp_path / "x")
    if data is None:
        return
    fast = verdict(data, fast=True)
    assert fast is None or fast == verdict(data, fast=False)


def test_clean_files_take_the_fast_lane():
    crlf, tabs = GOOD.replace("\n", "\r\n"), GOOD.replace(",", "\t")
    for text in (GOOD, crlf, tabs, "sep=;\n" + GOOD.replace(",", ";"), "\ufeff" + GOOD, GOOD[:-1]):
        assert verdict(text.encode(), fast=True) is not None


@pytest.mark.parametrize(
    "text", ['a,b\n"1",2\n', "a,b\n1\n", "a,b\n\n1,2\n", "a\n1\n", "a,b\n1,2,3\n"]
)
def test_what_arrow_could_read_otherwise_is_left_to_the_strict_lane(text):
    with pytest.raises(NotPlain):
        read(text.encode(), fast=True)


# ---- what would cost too much


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"x," * 3_000_000, "TOO_MANY_COLUMNS"),
        (b"x" * 5_000_000, "FIELD_TOO_LONG"),
        (b"a,b\n1," + b"2" * 5_000_000, "FIELD_TOO_LONG"),
        (b"a,b\n" + b"1," * 3_000_000, "TOO_MANY_COLUMNS"),
        (b"a,b\n" + b'"\n",' * 2_000_000, "FIELD_TOO_LONG"),
    ],
)
def test_record_without_end_is_refused_while_it_is_small(text, code):
    with pytest.raises(Refused) as error:
        read(text)
    assert error.value.code == code


def test_runs_of_rows_are_short_where_rows_are_long(monkeypatch):
    monkeypatch.setattr(csv_reader, "CHUNK_CHARACTERS", 1000)
    table = read(b"a,b\n" + (b"x" * 400 + b",1\n") * 10)
    assert [chunk.records for chunk in table.chunks] == [3, 3, 3, 1]
    assert [line for line, _ in rows_of(table)] == list(range(2, 12))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            b"a,b\n" + b"1,2\n" * csv_reader.PIECE + b"\xff,2\n",
            "line 1048578, column 1 (byte 0xFF)",
        ),
        (b"a,b\n1,M\xfcller\n", "line 2, column 4 (byte 0xFC)"),
        ("a,b\né,M".encode() + b"\xfcller\n", "line 2, column 4 (byte 0xFC)"),
    ],
)
def test_bytes_that_are_no_utf8_are_located_by_line_and_column(text, where):
    with pytest.raises(Refused) as error:
        read(text)
    assert error.value.code == "ENCODING"
    assert error.value.reason.startswith(f"not valid UTF-8 at {where}; ")


# ---- dialects

UMLAUTS = (
    "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited\nMüller,1,2,3,0\n"
)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (UMLAUTS.encode("windows-1252"), "windows-1252"),
        (UMLAUTS.replace("ll", "€").encode("windows-1252"), "windows-1252"),
        (UMLAUTS.replace("ll", "€").encode("iso-8859-15"), "iso-8859-15"),
        (UMLAUTS.encode("utf-8-sig"), "windows-1252"),
        (UMLAUTS.encode("utf-16"), "windows-1252"),
        (UMLAUTS.encode("utf-16-le"), "utf-16"),
        (UMLAUTS.encode("utf-16-be"), "utf-16"),
    ],
)
def test_encoding_is_the_named_one_unless_the_file_is_marked(data, encoding, fast):
    result = verdict(data, Dialect(encoding=encoding), fast=fast)
    if result is None:
        assert b"\x00" in data
        return
    [[client, *_]], *_ = result
    assert client in ("Müller", "Mü€er")


@pytest.mark.parametrize(
    ("data", "dialect", "reason"),
    [
        (UMLAUTS.encode(), Dialect(encoding="windows-1252"), "is in UTF-8, but config.json names"),
        (b"a,b\nx\x81,1\n", Dialect(encoding="windows-1252"), "not valid Windows-1252 at line 2"),
        (b"a,b\nx\x81,1\n", DEFAULT_DIALECT, "(byte 0x81); save the file as UTF-8"),
        ("é,b\nM\udcfc,1\n".encode(errors="surrogateescape"), DEFAULT_DIALECT, "0xFC); save"),
        ("a,b\nM,5 €\n".encode("iso-8859-15"), DEFAULT_DIALECT, '{"encoding": "iso-8859-15"}'),
        ("a,b\nM,5 €\n".encode("windows-1252"), DEFAULT_DIALECT, '{"encoding": "windows-1252"}'),
        (UMLAUTS.encode("utf-16-le"), DEFAULT_DIALECT, 'set "files": {"encoding": "utf-16"}'),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", DEFAULT_DIALECT, "an .xls or password-protected"),
        (b"Rar!\x1a\x07", DEFAULT_DIALECT, "a rar archive; unpack it"),
    ],
)
def test_refused_bytes_are_named_with_what_reads_them(data, dialect, reason):
    with pytest.raises(Refused) as error:
        read(data, dialect)
    assert reason in error.value.reason


@pytest.mark.parametrize("fast", [True, False])
def test_separator_and_line_of_the_header_are_those_that_are_named(fast):
    text = b"Export; of 31.08.2026\n\na,b;c|d\n1,5;2|3\n"
    table = read(text, Dialect(separator="|", header_line=3), fast=fast)
    assert (table.header, rows_of(table)) == (("a,b;c", "d"), [(4, ["1,5;2", "3"])])
    assert table.notes == ()


@pytest.mark.parametrize(("line", "where"), [(9, "only 2 lines"), (2, "blank")])
def test_named_line_of_the_header_that_is_not_there_is_refused(line, where):
    with pytest.raises(Refused, match=where) as error:
        read(b"a,b\n \n", Dialect(header_line=line))
    assert error.value.code == "NO_HEADER"


def test_character_across_two_pieces_is_one():
    text = b"a,b\n" + b"x" * (csv_reader.PIECE - 5) + "é,2\n".encode()
    with pytest.raises(Refused) as error:
        read(text)
    assert error.value.code == "FIELD_TOO_LONG"
