from dataclasses import replace

import pytest

from attrition.config import DEFAULT_DIALECT, MISSING_MARKERS, Columns, Dialect, Numeric
from attrition.data import cells, schema
from attrition.data.schema import BadHeader, Table, check
from tests.support import PLAIN, WIDE

MARKERS = frozenset(MISSING_MARKERS)
X = Numeric("x")
DETAILED = replace(WIDE, due="ends", phone="tel", email="mail")


def table(header, *rows):
    names = tuple(header.split(","))
    cells = [row.split(",") for row in rows]
    return Table(names, [schema.make_chunk(cells, range(2, 2 + len(rows)), len(names))])


# ---- headers and tables


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        ("id,seen,x,n,kind,worth,owner,left", []),
        ("left,owner,worth,kind,n,x,seen,id", ["REORDERED"]),
        (" ID ,seen,x,n,Kind,worth,owner,left", ["HEADER_FOLDED"]),
        ("\ufeffid,seen\u00a0,\u200bx,n,ki\u00adnd,worth,\u2003owner,left\n", ["HEADER_FOLDED"]),
    ],
)
def test_columns_are_found_by_name(header, notes):
    places, found = schema.match_header(header.split(","), WIDE)
    assert [cells.fold(header.split(",")[place]) for place in places.values()] == list(places)
    assert found == notes


@pytest.mark.parametrize(
    "header",
    [
        "annual  value",
        "Annual\u00a0Value",
        "annual\u202fvalue\u200b",
        "ANNUAL\nvalue",
        "annual value ",
    ],
)
def test_column_with_a_blank_in_its_name_is_found(header):
    columns = Columns(client="id", numeric=(Numeric("annual value"),))
    places, _ = schema.match_header(["id", header, "exited"], columns)
    assert places["annual value"] == 1


def test_column_is_found_whether_its_accents_are_composed_or_not():
    columns = Columns(client="id", numeric=(Numeric("ums\u00e4tze"),))
    assert schema.match_header(["id", "Umsa\u0308tze", "exited"], columns)[0]["ums\u00e4tze"] == 1


@pytest.mark.parametrize(
    ("header", "code", "told"),
    [
        (
            *("id,seen,x,n,kind,worth,owner", "HEADER_MISMATCH"),
            "no column left; the columns are 'id', 'seen', 'x', 'n', 'kind', 'worth', 'owner'$",
        ),
        ("id,x,left", "HEADER_MISMATCH", "no column seen, n, kind, worth, owner; "),
        (
            "id,seen,x,n,kind,worht,owner,left",
            "HEADER_MISMATCH",
            "no column worth .nearest: 'worht'.;",
        ),
        (
            "id,seen,x,n,kinds,w,Owner:,left",
            "HEADER_MISMATCH",
            "kind .nearest: 'kinds'., worth, owner ",
        ),
        ("Kunde,seen,x,n,Art,worth,owner,left", "HEADER_MISMATCH", "no column id, kind; .*'Kunde'"),
        ("id,seen,x,x,kind,worth,owner", "DUP_HEADER", "'x' stands twice; no column n, left; "),
        ("id,seen,x,n,kind,worth,owner,left,X", "DUP_HEADER", "'x' stands twice"),
        ("a,1,2,b,c,d,e,0", "NO_HEADER", "the first line contains values"),
        ("a,no,no,b,c,d,e,0", "NO_HEADER", "the first line contains values"),
    ],
)
def test_header_that_is_not_the_contract_is_told(header, code, told):
    with pytest.raises(BadHeader, match=told) as error:
        schema.match_header(header.split(","), WIDE)
    assert error.value.code == code


TITLED = "id,seen,x,n,kind,worth,owner,left"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["Export of clients", TITLED], 2),
        (["Export of clients,,,,,,,", "as of,2026-03-01,,,,,,", TITLED], 3),
        (["Kunden;Stand", TITLED.replace(",", ";").upper()], 2),
        (["Report\tclients", '"' + TITLED.replace(",", '"\t"') + '"', "a\t\t\t\t\t\t\t"], 2),
        (["x,title", *["a,b"] * 18, TITLED], 20),
    ],
)
def test_line_of_the_column_names_below_a_title_is_named(lines, line):
    with pytest.raises(
        BadHeader, match=f'line {line} looks like .*"files": {{"header_line": {line}}}'
    ):
        check(table(*lines), WIDE, MARKERS)


@pytest.mark.parametrize(
    "lines",
    [
        ["id,seen,x,n,kind", "a,2026-03-01,1,2,b"],
        ["Export of clients", "id,x"],
        ["x,title", *["a,b"] * 19, TITLED],
    ],
)
def test_table_without_better_names_has_no_other_header(lines):
    with pytest.raises(BadHeader) as error:
        check(table(*lines), WIDE, MARKERS)
    assert "looks like" not in error.value.reason


@pytest.mark.parametrize("name", ["seen", "worth", "owner", "ends", "tel", "mail"])
def test_column_that_is_no_feature_may_lack_if_no_other_can_be_meant(name):
    header = [column for column in DETAILED.delivered if column != name]
    rows = table(",".join(header), ",".join({"id": "a", "x": "1"}.get(n, "") for n in header))
    checked = check(rows, DETAILED, MARKERS)
    assert checked.notes == (f"NO_COLUMN: {name}",)
    assert checked.frame()[name].tolist() == [""]
    with pytest.raises(BadHeader, match=f"no column {name}"):
        check(table(",".join([*header, f"my_{name}"])), DETAILED, MARKERS)


# ---- the dialect of a table


@pytest.mark.parametrize(
    ("dialect", "number", "time", "kept"),
    [
        (Dialect(decimal=",", thousands=".", dates="%d.%m.%Y"), "1.234,5", "31.08.2026", "1234.5"),
        (
            Dialect(decimal=",", thousands=" ", dates="%d/%m/%Y"),
            "1\u202f234,5",
            "31/08/2026",
            "1234.5",
        ),
        (Dialect(thousands="'", dates="%d.%m.%y"), "12'345", "31.08.26", "12345"),
        (Dialect(dates="%m/%d/%Y"), "0.5", "8/31/2026", "0.5"),
    ],
)
def test_rows_are_read_in_the_dialect_of_their_table(dialect, number, time, kept):
    header = ("id", "seen", "x", "n", "kind", "worth", "owner", "left")
    row = ["a", time, number, "1", "k", number, "Ann", "ja"]
    chunk = schema.make_chunk([row], [2], len(header))
    checked = check(Table(header, [chunk], dialect=dialect), WIDE, MARKERS)
    assert checked.frame().iloc[0].tolist() == ["a", "2026-08-31", kept, "1", "k", kept, "Ann", "1"]


NUMBERS = Columns(client="id", outcome="left", numeric=(X,))


def contract_of(*texts, dialect=DEFAULT_DIALECT):
    """The contract after it checked a column of numbers."""
    contract = schema.Contract(("id", "x", "left"), NUMBERS, MARKERS, dialect)
    rows = [[f"c{i}", text, "0"] for i, text in enumerate(texts)]
    contract.check(schema.make_chunk(rows, range(2, 2 + len(rows)), 3))
    return contract


@pytest.mark.parametrize(
    "texts",
    [
        ("1.234,5", "1.234"),
        ("12.500", "0,5", "3"),
        (" 1.234 ", "-1.234.567,00"),
        ("999.999", "1,23"),
    ],
)
def test_column_of_two_dialects_is_described(texts):
    problem = contract_of(*texts).find_two_dialects()
    assert problem.startswith("DIALECT: x has ")
    assert '"decimal": ","' in problem


@pytest.mark.parametrize(
    "texts",
    [("1,5", "1.25"), ("1,234", "1.234"), ("0.125", "1,5"), ("1234.567", "1,5"), ("1.234", "5")],
)
def test_column_without_doubt_is_of_one_dialect(texts):
    assert contract_of(*texts).find_two_dialects() == ""


@pytest.mark.parametrize(
    "texts", [("1.234", "12.500", "950", "3.000"), ("-1.234", "1.500", "2.750")]
)
def test_dots_that_may_separate_thousands_are_noted(texts):
    [note] = contract_of(*texts).notes()[-1:]
    assert note.startswith(
        f"THOUSANDS: x {texts[0]!r} is read as {texts[0]}, but '.' may separate "
    )


@pytest.mark.parametrize(
    "texts", [("1.234", "12.5", "3.000", "4.000"), ("0.125", "1.234", "2.345"), ("1.234",)]
)
def test_fractions_are_not_noted(texts):
    assert not [note for note in contract_of(*texts).notes() if note.startswith("THOUSANDS")]


def test_dialect_that_config_names_is_not_noted():
    german = Dialect(decimal=",", thousands=".")
    contract = contract_of("1.234", "12.500", "3.000", dialect=german)
    assert (contract.notes(), contract.find_two_dialects()) == ([], "")


# ---- markers that may be levels

KINDS = Columns(client="id", outcome="left", numeric=(X,), categorical=("kind", "trade"))


def kinds_of(*kinds, columns=KINDS, markers=MISSING_MARKERS):
    rows = [f"c{i},1,{kind},t,0" for i, kind in enumerate(kinds)]
    return check(table("id,x,kind,trade,left", *rows), columns, markers)


@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        (["NA", "EMEA"] * 10, "'NA' in 10 of 20 rows"),
        (["None", "None", "rebate", "None"], "'None' in 3 of 4 rows"),
        (["?", *["a"] * 9] * 5, "'?' in 5 of 50 rows"),
        (["-", *["a"] * 99] * 3, "'-' in 3 of 300 rows"),
        ([" null ", "a"] * 3, "'null' in 3 of 6 rows"),
    ],
)
def test_frequent_marker_in_a_categorical_column_is_noted(kinds, shown):
    [note] = kinds_of(*kinds).notes
    assert note.startswith(f"MARKERS: kind {shown} is read as missing, but may be a level")
    assert "columns.markers_are_levels" in note


@pytest.mark.parametrize(
    "kinds",
    [
        ["NA", "NA", "a"],
        ["NA", *["a"] * 150] * 3,
        ["", "a"] * 5,
        ["\\N", "a"] * 5,
        ["<NA>", "(blank)"] * 5,
    ],
)
def test_rare_marker_or_one_that_is_no_word_is_not_noted(kinds):
    assert kinds_of(*kinds).notes == ()


def test_marker_that_config_lists_is_not_noted():
    assert kinds_of("NA", "NA", "NA", markers=("", "NA")).notes == ()


@pytest.mark.parametrize("marker", ["NA", "None", "?", "#N/A"])
def test_marker_is_a_level_in_the_columns_that_config_names(marker):
    columns = replace(KINDS, markers_are_levels=("kind",))
    checked = kinds_of(marker, "", marker, marker, columns=columns)
    assert checked.frame()["kind"].tolist() == [marker, "", marker, marker]
    assert checked.notes == ()


# ---- rows


def test_good_rows_come_back_in_the_order_of_the_contract():
    rows = table("left,id,x,n,kind,seen,worth,owner,note", "yes,a,1.50,2,gold,2026-03-01,9,Ann,?")
    checked = check(rows, WIDE, MARKERS)
    assert list(checked.columns) == ["id", "seen", "x", "n", "kind", "worth", "owner", "left"]
    assert checked.frame().iloc[0].tolist() == [
        "a",
        "2026-03-01",
        "1.5",
        "2",
        "gold",
        "9",
        "Ann",
        "1",
    ]
    assert checked.notes == ("REORDERED", "NORMALISED", "LABEL")


def test_value_of_a_contract_is_not_negative():
    rows = table("id,seen,x,n,kind,worth,owner,left", "a,,1,1,k,-5,,0")
    [refused] = check(rows, WIDE, MARKERS).refused
    assert refused.reason == "worth is '-5', expected a number >= 0; row refused"


def test_first_problem_of_a_row_is_told_with_its_line_and_text():
    rows = table("corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited",
                 "a,1,2,3,0", "b,x,y,3,9")  # fmt: skip
    checked = check(rows, PLAIN, MARKERS)
    [refused] = checked.refused
    assert (refused.line, refused.code, refused.raw) == (3, "BAD_NUMBER", "b,x,y,3,9")
    assert (len(checked.frame()), checked.lines) == (1, [2])


def test_refusal_describes_all_faults_of_a_row():
    rows = table("id,seen,x,n,kind,worth,owner,left", "a,31.08.2026,1'5,0.5,k,-5,,9")
    [refused] = check(rows, WIDE, MARKERS).refused
    assert refused.code == "BAD_TIME"
    for text in ("seen is '31.08.2026'", 'x is "1\'5"', "n is '0.5'", "and 2 more; row refused"):
        assert text in refused.reason


def test_row_without_any_feature_is_refused_and_with_one_is_not():
    rows = table("id,seen,x,n,kind,worth,owner,left", "a,2026-03-01,,,,5,Ann,0", "b,,,,k,,,0")
    checked = check(rows, WIDE, MARKERS)
    assert [refused.code for refused in checked.refused] == ["EMPTY_ROW"]
    assert checked.frame()["id"].tolist() == ["b"]


def test_table_without_rows_is_good():
    rows = table("id,seen,x,n,kind,worth,owner,left")
    assert check(rows, WIDE, MARKERS).frame().shape == (0, 8)


def test_rows_without_a_client_column_are_named_by_their_features():
    columns = Columns(client=None, outcome="left", numeric=(X,), categorical=("kind",))
    checked = check(table("x,kind,left", "1,a,0", "1.0,a,1", "1,b,0"), columns, MARKERS)
    first, same, other = checked.frame()["client"]
    assert first == same != other


def test_raw_text_reads_back_as_the_row():
    import csv

    row = ["a,b", 'say "x"', "two\nlines", "plain"]
    assert next(csv.reader([schema.raw_text(row)])) == row or "\n" in schema.raw_text(row)
    assert schema.raw_text(row).startswith('"a,b","say ""x"""')
    assert len(schema.raw_text(["x" * 9999])) == 2000


# ---- due date, telephone and e-mail


def check_details(due="", phone="", email="", dialect=DEFAULT_DIALECT):
    header = "id,x,n,kind,left,ends,tel,mail"
    chunk = schema.make_chunk([["a", "1", "", "", "", due, phone, email]], [2], 8)
    return check(Table(tuple(header.split(",")), [chunk], dialect=dialect), DETAILED, MARKERS)


@pytest.mark.parametrize(
    ("text", "dates", "due"),
    [
        ("2027-01-31", None, "2027-01-31"),
        ("2027-01-31 23:30:00+02", None, "2027-01-31"),
        ("31.01.2027", "%d.%m.%Y", "2027-01-31"),
        ("9999-12-31", None, "9999-12-31"),
        ("", None, ""),
        ("n/a", None, ""),
    ],
)
def test_due_date_is_a_day_in_the_dialect_of_its_file(text, dates, due):
    (row,) = check_details(text, dialect=Dialect(dates=dates)).frame().to_dict("records")
    assert row["ends"] == due


@pytest.mark.parametrize("text", ["31.01.2027", "soon", "2027-02-30", "46053"])
def test_row_with_a_wrong_due_date_is_refused(text):
    checked = check_details(text)
    assert [refusal.code for refusal in checked.refused] == ["BAD_TIME"]
    assert f"ends is {text!r}, expected an ISO 8601 date" in checked.refused[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "+49 (30) 12-34",
        "4930123456",
        "ann@example.org",
        "none of these",
        "javascript:alert(1)",
        "=1",
    ],
)
def test_telephone_and_e_mail_are_any_text(text):
    (row,) = check_details(phone=text, email=text).frame().to_dict("records")
    assert row["tel"] == row["mail"] == text


@pytest.mark.parametrize("text", ["a" * 201, "a\x00b", "a\u202eb"])
def test_telephone_and_e_mail_are_texts_as_others(text):
    checked = [check_details(phone=text), check_details(email=text)]
    assert [len(each.refused) for each in checked] == [1, 1]
