"""Totals, headings and footers of exports are named, and no client is taken for one."""

from dataclasses import replace

import pytest

from attrition.config import MISSING_MARKERS, Columns, Numeric
from attrition.data import schema
from attrition.data.schema import Table, check
from tests.support import PLAIN

SALES = Columns(
    client="client",
    outcome="left",
    numeric=(Numeric("x"), Numeric("y")),
    categorical=("region",),
    time="seen",
)
CLIENTS = ["a,10,5,EMEA,2026-03-01,0", "b,20,7,APAC,2026-03-01,1", "c,30,9,EMEA,2026-03-01,"]


def codes(columns, header, *rows, chunk_rows=1000, first_line=2):
    """The codes of the refused rows, by line."""
    cells = [row.split(",") for row in rows]
    width = len(header.split(","))
    chunks = [
        schema.make_chunk(
            cells[i : i + chunk_rows],
            range(first_line + i, first_line + min(len(cells), i + chunk_rows)),
            width,
        )
        for i in range(0, len(cells), chunk_rows)
    ]
    checked = check(Table(tuple(header.split(",")), chunks), columns, MISSING_MARKERS)
    assert len(checked.lines) + len(checked.refused) == len(rows)
    return {row.line: row.code for row in checked.refused}


def sales(*rows, **more):
    return codes(SALES, "client,x,y,region,seen,left", *rows, **more)


def plain(*rows, **more):
    return codes(PLAIN, ",".join(PLAIN.table), *rows, **more)


@pytest.mark.parametrize("chunk_rows", [1, 2, 1000])
@pytest.mark.parametrize(
    "total",
    [
        "Total,60,21,,,",
        "Summe,60,21,-,,",
        "Gesamtsumme,60,21,,,1",
        "Grand Total:,60,,,,",
        "GESAMT,61,22,,,",
        "Subtotal,60,21,n/a,n/a,n/a",
        "Mittelwert,20,7,,,",
        "Total EMEA,60,21,,,",
        "EMEA Total,60,21,,,1",
        "Summe,60,21,Summe,,3",
        "Total,60 EUR,21,,,",
        "TOTAL,,,,,",
    ],
)
def test_total_below_the_rows_is_named(total, chunk_rows):
    assert sales(*CLIENTS, total, chunk_rows=chunk_rows) == {5: "TOTAL_ROW"}


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"phone": "tel", "email": "mail"}, "Total,99,99,+49 30 1,,"),
        ({"phone": "tel", "due": "mail"}, "Total,99,99,,2027-01-31,"),
        ({"phone": "no", "email": "such"}, "Total,99,99,,,"),  # not in this table: no evidence
    ],
)
def test_client_named_total_is_known_by_its_due_date_or_contact_details(columns, row):
    plain = Columns("client", "left", numeric=SALES.numeric, ignore=("tel", "mail"))
    header = "client,x,y,tel,mail,left"
    rows = ["a,1,2,,,", "b,3,4,,,", row, "c,5,6,,,"]
    assert codes(replace(plain, **columns), header, *rows) == {}


@pytest.mark.parametrize(
    "row",
    [
        "Total,60,3,EMEA,2026-03-01,0",
        "Total,8,3,EMEA,2026-03-01,",
        "Total,60,,EMEA,2026-03-01,0",
        "Total,8,3,,,",
        "Total Energies,12,3,EMEA,2026-03-01,1",
        "Summit Ltd,99,99,,,",
        "Consumer Goods,99,99,,,",
        "Gesamtschule Kiel,99,99,EMEA,2026-03-01,0",
    ],
)
def test_company_with_the_name_of_a_total_is_a_client(row):
    assert sales(*CLIENTS, row, "d,1,1,EMEA,2026-03-01,0") == {}


@pytest.mark.parametrize(
    "total", ["Total,60,600,6,", "Total,60,600,6,1", "Gesamt,61,700,7,", "Anzahl,20,200,2,"]
)
def test_total_in_a_table_of_numbers_is_named(total):
    assert plain("a,10,100,1,0", "b,20,200,2,1", "c,30,300,3,0", total) == {5: "TOTAL_ROW"}


@pytest.mark.parametrize("row", ["Total,5,700,7,", "Total,61,700,7,0", "Total Oil,61,700,7,"])
def test_last_client_of_a_table_of_numbers_may_be_named_total(row):
    assert plain("a,10,100,1,0", "b,20,200,2,1", "c,30,300,3,0", row) == {}


@pytest.mark.parametrize(
    "total", [",60,21,Total,,", ",60,21,Gesamtsumme:,,3", ",60,,Grand Total,,", ",61,30,Summe,,"]
)
def test_total_is_named_whatever_column_has_its_label(total):
    assert sales(*CLIENTS, total) == {5: "TOTAL_ROW"}


def test_row_without_a_client_and_a_label_is_no_total():
    assert sales(*CLIENTS, ",60,21,EMEA,2026-03-01,0") == {5: "MISSING_VALUE"}


def test_groups_have_headings_and_totals():
    rows = ["North,,,,,", *CLIENTS[:2], "North Total,30,12,,,", "South,,,,,", *CLIENTS[2:]]
    rows += ["d,5,1,APAC,2026-03-01,0", "South Total,35,10,,,", "Grand Total,65,22,,,"]
    names = {2: "GROUP_ROW", 5: "TOTAL_ROW", 6: "GROUP_ROW", 9: "TOTAL_ROW", 10: "TOTAL_ROW"}
    for chunk_rows in (1, 3, 1000):
        assert sales(*rows, chunk_rows=chunk_rows) == names


@pytest.mark.parametrize(
    "footer",
    [
        *("(3 rows)", "-- 3 rows", "3 records", "3 Zeilen", "Anzahl: 3", "Anzahl Kunden: 3"),
        *("Exported by Ann on 2026-03-01", "Report generated 2026-03-01 12:00", "Page 1 of 3"),
        *("Erstellt am 31.08.2026", "Stand: 31.08.2026", "Copyright (c) 2026 salesforce.com"),
        *("Confidential Information - Do Not Distribute", "Quelle: CRM", "End of report"),
    ],
)
def test_footer_is_named_whether_it_fills_the_row_or_not(footer):
    for row in (footer, f"{footer},,,,,"):
        [code] = sales(*CLIENTS, row).values()
        assert code in ("FOOTER", "TOTAL_ROW")


def test_note_below_a_blank_line_or_a_footer_is_a_footer():
    header, cells = ("client", "x", "y", "region", "seen", "left"), [r.split(",") for r in CLIENTS]
    rows = [*cells, ["M\u00fcller, Controlling"], ["Filter", "x > 1"]]
    chunk = schema.make_chunk(rows, [2, 3, 4, 6, 7], len(header))
    checked = check(Table(header, [chunk]), SALES, MISSING_MARKERS)
    assert [row.code for row in checked.refused] == ["FOOTER", "FOOTER"]


def test_short_row_without_such_words_is_ragged():
    assert sales(*CLIENTS, "d,1", "# made by the export") == {5: "RAGGED_SHORT", 6: "RAGGED_SHORT"}


def test_blank_rows_are_named():
    assert sales(*CLIENTS, ",,,,,", " ,,\u00a0,,,") == {5: "BLANK_ROW", 6: "BLANK_ROW"}


def test_total_stands_in_the_first_column_if_there_is_no_client_column():
    columns = Columns(client=None, outcome="left", numeric=(Numeric("x"),), categorical=("kind",))
    rows = ["a,1,0", "b,2,1", "c,3,0", "Total,6,"]
    assert codes(columns, "kind,x,left", *rows) == {5: "TOTAL_ROW"}
