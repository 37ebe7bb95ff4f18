"""Write clients as an Excel workbook to fill in: outcome, note, follow-up, and who contacted the client.

The same clients and the same time give the same bytes. No text becomes a formula, a link or a number.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition import wording
from attrition.contacts import fields, sentences
from attrition.contacts.standings import days_after
from attrition.entering import validation
from attrition.errors import AttritionError

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

MAX_ROWS, MAX_CELL = 1 << 20, 32_767  # of Excel; a cell counts units of UTF-16
SPARE = 10  # lines for clients who are not on the sheet
REASONS_SHOWN = 3
CLIENT, MANAGER, KEY = "client", "client manager", "key"
OUTCOME, NOTE, FOLLOW_UP, BY = TO_FILL_IN = ("outcome", "note", "follow-up", "by")
SHEET, HELP = "Clients", "Explanation"
FIRST_OUTCOME = 14  # its row on the sheet that explains
DATE_FORMAT = "yyyy-mm-dd"
LINE_HEIGHT, MAX_LINES = 15, 10
LAYOUT = "1"  # if it changes, the sheets are written again


class About(NamedTuple):
    """The title of a workbook, the project, the day of its list, and the time of the record."""

    title: str
    project: str
    day: str
    made_at: str
    currency: str
    labels: fields.Labels


class Column(NamedTuple):
    """A column: its heading, its width in characters, what it shows of a client, and its format."""

    heading: str
    width: float
    value: Callable[[fields.Row, About], Any]
    number_format: str = ""
    is_date: bool = False


# What `key_of` returns.
LINE_KEY = re.compile("(?P<project>[0-9a-f]{1,8})-(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})-[0-9a-f]{12}")


def key_of(project: str, day: str, client: str) -> str:
    """Return the key of a line: the project, the day of the list, and the client.

    >>> key_of("3f2a9c417b0d5e68", "2026-11-28", "Acme")
    '3f2a9c41-2026-11-28-f0f470d45229'
    """
    digest = hashlib.sha256("\n".join((project, day, client)).encode("utf-8", "replace"))
    return f"{project[:8]}-{day}-{digest.hexdigest()[:12]}"


def _reasons(row: fields.Row, about: About) -> str:
    reasons = row["list_reasons"] or row["reasons"]
    return "\n".join(fields.reason_text(each, about.labels) for each in reasons[:REASONS_SHOWN])


MONEY = '"{currency}" #,##0'
COLUMNS = (
    Column("place", 6, lambda row, _: row["list_rank"], "0"),
    Column(CLIENT, 26, lambda row, _: row["client"]),
    Column("telephone", 16, lambda row, _: row.get("phone")),
    Column("risk", 7, lambda row, _: row["risk"], "0 %"),
    Column("value at risk", 13, lambda row, _: row["value_at_risk"], MONEY),
    Column("contract ends", 14, lambda row, _: row.get("due"), DATE_FORMAT, is_date=True),
    Column("main reasons", 46, _reasons),
    Column(OUTCOME, 20, lambda *_: None),
    Column(NOTE, 32, lambda *_: None),
    Column(FOLLOW_UP, 12, lambda *_: None, DATE_FORMAT),
    Column(BY, 16, lambda row, _: row["manager"]),
    Column("last contact", 26, lambda row, _: sentences.dated_contact_text(row)),
    Column("status", 26, lambda row, about: sentences.place_text(row, about.day)),
    Column("value", 13, lambda row, _: row["value"], MONEY),
    Column("e-mail", 24, lambda row, _: row.get("email")),
    Column(MANAGER, 16, lambda row, _: row["manager"]),
    Column(KEY, 36, lambda row, about: key_of(about.project, about.day, row["client"])),
)
ALWAYS = (CLIENT, "risk", *TO_FILL_IN, KEY)  # the others only if any client has a value


def make_workbook(rows: Sequence[fields.Row], about: About) -> bytes:
    """Return a workbook with a line per client; rows: as `Worklist.rows` returns them.

    Raises: AttritionError if they are more than an Excel sheet has lines.
    """
    import xlsxwriter

    if len(rows) > (most := MAX_ROWS - SPARE - 1):
        raise AttritionError(
            f"{len(rows):,} clients, expected at most {most:,}, the lines of an Excel sheet: choose "
            "fewer by a view or a filter"
        )
    columns = []
    for column in COLUMNS:
        values = [column.value(row, about) for row in rows]
        if column.heading in ALWAYS or any(value not in (None, "") for value in values):
            columns.append((column, values))
    data = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(data, options) as book:
        made_at = datetime.fromisoformat(about.made_at).replace(tzinfo=None)
        book.set_properties({"title": _text(about.title), "created": made_at})
        sheet, explanation = book.add_worksheet(SHEET), book.add_worksheet(HELP)
        look = _Look(book, about.currency)
        for number, (column, values) in enumerate(columns):
            _write_column(sheet, number, column, values, look)
        _set_heights(sheet, columns, len(rows))
        _set_up(sheet, [column for column, _ in columns], len(rows), about)
        _explain(explanation, about, look)
    return data.getvalue()


class _Look:
    """The formats of a workbook; cells to fill in are yellow, and not locked."""

    def __init__(self, book: "Workbook", currency: str) -> None:
        self._book, self._currency = book, currency.replace('"', "")
        head = {"bold": True, "text_wrap": True, "valign": "vcenter", "border": 1, "indent": 1}
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.bold = book.add_format({"bold": True, "valign": "top"})
        self.wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        dark = head | {"bg_color": "#1F3A5F", "font_color": "#FFFFFF", "border_color": "#1F3A5F"}
        self.heading = book.add_format(dark)
        self.heading_to_fill_in = book.add_format(
            head | {"bg_color": "#F2C84B", "border_color": "#B9B9B9"}
        )

    def cell(self, number_format: str, *, is_open: bool) -> Any:
        style: dict[str, Any] = {"valign": "top", "border": 1, "border_color": "#D9D9D9"}
        style |= {"locked": not is_open} | ({"bg_color": "#FFF9E3"} if is_open else {})
        if number_format:
            style |= {"num_format": number_format.replace("{currency}", self._currency)}
        else:
            style |= {"text_wrap": True, "align": "left", "indent": 1}
        return self._book.add_format(style)


def _write_column(
    sheet: "Worksheet", number: int, column: Column, values: Sequence[Any], look: _Look
) -> None:
    """Write the heading and the cells of a column, and the spare lines below."""
    is_to_fill_in = column.heading in TO_FILL_IN
    heading = look.heading_to_fill_in if is_to_fill_in else look.heading
    sheet.write_string(0, number, column.heading, heading)
    cell = look.cell(column.number_format, is_open=is_to_fill_in)
    options = {"hidden": True} if column.heading == KEY else {}
    sheet.set_column(number, number, column.width, None, options)
    for line, value in enumerate(values, start=1):
        if value is None or value == "":
            sheet.write_blank(line, number, None, cell)
        elif column.is_date and value >= "1900-03-01":  # before that, Excel counts a day too many
            sheet.write_datetime(line, number, date.fromisoformat(value), cell)
        elif isinstance(value, float | int):
            if math.isfinite(value):
                sheet.write_number(line, number, value, cell)
        else:
            sheet.write_string(line, number, _text(value), cell)
    spare = look.cell(column.number_format, is_open=is_to_fill_in or column.heading == CLIENT)
    for line in range(len(values) + 1, len(values) + 1 + SPARE):
        sheet.write_blank(line, number, None, spare)


def _set_heights(
    sheet: "Worksheet", columns: Sequence[tuple[Column, Sequence[Any]]], n_rows: int
) -> None:
    """Make each line as high as its longest text: not every program does so by itself."""
    lines = [1] * n_rows
    for column, values in columns:
        if column.heading != KEY:
            room = int(column.width) - 2
            for row, value in enumerate(values):
                if isinstance(value, str) and len(value) > room:
                    parts = value.split("\n")
                    lines[row] = max(lines[row], sum(-(-len(part) // room) for part in parts))
    for row, count in enumerate(lines, start=1):
        sheet.set_row(row, LINE_HEIGHT * min(count, MAX_LINES))


def _text(value: Any) -> str:
    """Return a text that a cell can contain: UTF-8, and cut at the limit of Excel."""
    units = str(value).encode("utf-16-le", "replace")
    if len(units) <= 2 * MAX_CELL:
        return units.decode("utf-16-le")
    return units[: 2 * (MAX_CELL - 1)].decode("utf-16-le", "ignore") + "…"


def _set_up(sheet: "Worksheet", columns: Sequence[Column], n_rows: int, about: About) -> None:
    """Set what the sheet allows, and how it is shown and printed."""
    at = {column.heading: number for number, column in enumerate(columns)}
    last = n_rows + SPARE
    outcomes = f"={HELP}!$A${FIRST_OUTCOME}:$A${FIRST_OUTCOME + len(sentences.OUTCOMES) - 1}"
    rules: dict[str, dict[str, Any]] = {
        OUTCOME: {
            **{"validate": "list", "source": outcomes, "error_title": "Outcome"},
            "error_message": "Choose one of the outcomes in the list.",
        },
        NOTE: {
            **{"validate": "length", "criteria": "<=", "value": validation.MAX_NOTE},
            "error_message": f"A note has at most {validation.MAX_NOTE:,} characters.",
        },
        FOLLOW_UP: {
            **{"validate": "date", "criteria": "between", "error_title": "Follow-up"},
            "minimum": date.fromisoformat(about.day),
            "maximum": date.fromisoformat(days_after(about.day, validation.MAX_DAYS_AHEAD)),
            "error_message": f"Enter a date from {about.day} on.",
        },
    }
    for heading, rule in rules.items():
        sheet.data_validation(1, at[heading], last, at[heading], rule)
    sheet.ignore_errors({"number_stored_as_text": f"A2:XFD{last + 1}"})
    sheet.freeze_panes(1, at[CLIENT] + 1)
    sheet.set_row(0, 30)
    sheet.autofilter(0, 0, last, len(columns) - 1)
    allowed = ("autofilter", "format_columns", "format_rows")
    sheet.protect("", dict.fromkeys(allowed, True))
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.print_area(0, 0, last, at[BY])
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_margins(left=0.4, right=0.4, top=0.7, bottom=0.6)
    title = wording.shorten(_text(about.title), 150).replace("&", "&&")
    sheet.set_header(f"&L{title}")
    sheet.set_footer("&RPage &P of &N")


def _explain(sheet: "Worksheet", about: About, look: _Look) -> None:
    """Write how to fill in the sheet; the outcomes are those that it offers."""
    lines = (
        ("", ""),
        ("How to fill in", "Only the yellow cells can be changed. An empty line is ignored."),
        (OUTCOME, "the result of the contact: choose one of the words below"),
        (NOTE, f"what you want to remember, at most {validation.MAX_NOTE:,} characters"),
        (FOLLOW_UP, f"the date of the next call, from {about.day} on, if one is agreed"),
        (BY, f"who contacted the client; if it is empty, the {MANAGER}"),
        ("Other clients", f"The lines at the end are for others: type the name in {CLIENT}."),
        (
            "How to send it back",
            "Upload it on the page List, or copy it into the folder contacts/inbox. Each line is "
            "stored once, so you can send the sheet again at any time; a line that you have changed "
            "since corrects what it stored before.",
        ),
        ("", ""),
        ("", ""),
        ("Outcome", "Meaning"),
    )
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 1, 84)
    sheet.write_string(0, 0, _text(about.title), look.title)
    sheet.write_string(1, 0, f"as of {sentences.long_day(about.day)}")
    for row, (name, text) in enumerate(lines, start=2):
        sheet.write_string(row, 0, name, look.bold)
        sheet.write_string(row, 1, text, look.bold if text == "Meaning" else look.wrapped)
    for row, (outcome, word) in enumerate(sentences.OUTCOMES.items(), start=FIRST_OUTCOME - 1):
        sheet.write_string(row, 0, word)
        sheet.write_string(row, 1, MEANINGS[outcome], look.wrapped)
    sheet.protect()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)


MEANINGS = {
    "reached": "you talked to the client, but what he or she will do is open",
    "will_stay": "you talked to the client, who will stay",
    "will_leave": "you talked to the client, who will leave",
    "not_reached": "you tried, but reached nobody",
    "wrong_person": "the person whom you reached does not decide",
    "do_not_contact": "the client must not be contacted any more, and is never listed again",
}
