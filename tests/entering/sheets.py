"""Clients as the work list returns them, workbooks of them, and what people do to such a sheet."""

import io
import zipfile

import xlsxwriter

from attrition.config import DEFAULT_DIALECT
from attrition.contacts.standings import Standing
from attrition.contacts.worklist import contact_fields
from attrition.data.cells import Reason
from attrition.entering import workbook
from attrition.sources.excel import read_excel

ABOUT = workbook.About(
    *("Contact list of Ann", "3f2a9c417b0d5e68", "2026-11-28", "2026-11-28T09:00:00Z", "EUR", {})
)
HEADINGS = ["client", "outcome", "note", "follow-up", "by"]
TICKETS = Reason("open_tickets", 5.0, 1.0, 0.8)


def client(name, **fields):
    """Return a client as a row of the work list."""
    return {
        **contact_fields(Standing(), None),
        **{"client": name, "list_rank": 1, "risk": 0.3, "value": 1000.0, "value_at_risk": 300.0},
        **{"manager": "Ann", "reasons": [TICKETS], "list_reasons": [], **fields},
    }


def part(data, name="xl/worksheets/sheet1.xml"):
    """Return a part of a workbook as text."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(name).decode()


def cells(data):
    """Return header and rows of the first sheet as text."""
    table = read_excel(io.BytesIO(data), DEFAULT_DIALECT, 1 << 26)
    rows = [row for chunk in table.chunks for row in zip(*map(list, chunk.columns), strict=True)]
    return [table.header, *([str(cell) for cell in row] for row in rows)]


def dicts(data):
    """Return the lines of the first sheet by their headings."""
    header, *rows = cells(data)
    return [dict(zip(header, row, strict=True)) for row in rows]


def write(lines, name="Clients", **options):
    """Return a workbook of these lines; dates are cells of dates, a formula begins with "=="."""
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True, **options}) as book:
        sheet = book.add_worksheet(name)
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for i, line in enumerate(lines):
            for j, value in enumerate(line):
                if isinstance(value, str):
                    is_formula = value.startswith("==")
                    sheet.write_formula(i, j, value[1:]) if is_formula else sheet.write_string(
                        i, j, value
                    )
                elif hasattr(value, "year"):
                    sheet.write_datetime(i, j, value, day)
                elif value is not None:
                    sheet.write(i, j, value)
    return data.getvalue()
