"""Lay out text, tables and pictures as a PDF, in the colours and the font of the figures.

Any text may be data: it is escaped, right-to-left runs are put in visual order, and a square replaces
a character if the font does not have it. Text cannot make reportlab open a file or a URL. The PDF
contains no time of its own: the bytes are equal if the story is.
"""

import hashlib
import re
import statistics
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from io import BytesIO
from itertools import compress
from typing import Any
from xml.etree import ElementTree

from reportlab import rl_config
from reportlab.graphics import shapes
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFDictionary, PDFName, PDFStream
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageTemplate,
    Paragraph,
    Table,
)

from attrition import wording
from attrition.contacts import fields, sentences
from attrition.reporting.style import BOLD, COLOURS, FONT, drawable, load_font

Row = Mapping[str, Any]
Story = list[Flowable]

INK, GREY, LIGHT, ACCENT, SHADE = map(HexColor, (*COLOURS, "#f3f5f8"))
MARGIN, TOP, BOTTOM, GUTTER, PADDING = 18 * mm, 20 * mm, 17 * mm, 6 * mm, 4
WIDTH, HEIGHT = A4[0] - 2 * MARGIN, A4[1] - TOP - BOTTOM
HALF = (WIDTH - GUTTER) / 2
CELL_LINES = 2
NAME_WIDTH, CLIENT_WIDTH, LEVELS_SHOWN = 60, 120, 4
RIGHT_TO_LEFT = re.compile("[\u0590-\u065f\u066e-\u08ff]+(?:[ ]+[\u0590-\u065f\u066e-\u08ff]+)*")
ALL, FIRST_ROW, LATER_ROWS = ((0, 0), (-1, -1)), ((0, 0), (-1, 0)), ((0, 1), (-1, -1))
FIRST_COLUMN, LAST_COLUMN, BUT_LAST = ((0, 0), (0, -1)), ((-1, 0), (-1, -1)), ((0, 0), (-2, -1))

BODY = ParagraphStyle("body", fontName=FONT, fontSize=9, leading=12.5, textColor=INK, spaceAfter=4)
SMALL = ParagraphStyle("small", BODY, fontSize=7.5, leading=10, spaceAfter=2)
NOTE = ParagraphStyle("note", SMALL, textColor=GREY)
CELL = ParagraphStyle("cell", SMALL, spaceAfter=0)
NUMBER = ParagraphStyle("number", CELL, alignment=TA_RIGHT)
HEAD = ParagraphStyle("head", CELL, fontName=BOLD)
HEAD_NUMBER = ParagraphStyle("head number", HEAD, alignment=TA_RIGHT)
# The styles of a column's heading and of its cells.
NORMAL, NUMBERS = (HEAD, CELL), (HEAD_NUMBER, NUMBER)
TINY, TINY_NUMBERS = (
    tuple(
        ParagraphStyle(f"tiny {style.name}", style, fontSize=6.5, leading=8.5) for style in styles
    )
    for styles in (NORMAL, NUMBERS)
)
BIG = ParagraphStyle("big", BODY, fontName=BOLD, fontSize=14, leading=18, textColor=ACCENT)
H1 = ParagraphStyle("h1", BODY, fontName=BOLD, fontSize=18, leading=23, spaceAfter=1)
H2 = ParagraphStyle("h2", BODY, fontName=BOLD, fontSize=13, leading=17, spaceBefore=8)
H3 = ParagraphStyle("h3", BODY, fontName=BOLD, fontSize=9.5, leading=13, spaceBefore=7)

LAMPS = {"green": HexColor("#2e9e4f"), "amber": HexColor("#f5a623"), "red": HexColor("#e5322d")}
# In millimetres; an ISO date needs 19 mm, in a compact table 17 mm.
FIRST_WIDTHS = {"rank": 10, "client": 34, "risk": 11, "value_at_risk": 17, "manager": 20, "due": 20}
FIRST_WIDTHS |= {"list_reasons": 38, "moved": 24}
LIST_WIDTHS = {"rank": 8, "client": 31, "risk": 10, "value_at_risk": 16, "manager": 20, "due": 17.5}
LIST_WIDTHS |= {"list_reasons": 28, "last_contact": 27, "follow_up": 16.5}
OUTCOMES = ("☐ reached   ☐ not reached", "☐ will stay   ☐ will leave")
NOTE_WIDTH, REASONS_SHOWN = 46, 2
NOTE_LINES = [("LINEBELOW", *ALL, 0.3, GREY)]
SIGNED = partial(wording.decimal, sign=True)
STATISTICS = ("mean", "std", "minimum", "0.05", "median", "0.95", "maximum")
PACKAGE = ("name", "required", "installed", "latest")
OUTDATED = {True: "outdated", False: "current"}
# The classes that `svg` gives to lines and dots.
DRAWN: dict[str, dict[str, Any]] = {
    "axis": {"strokeColor": GREY},
    "rule": {"strokeColor": LIGHT},
    "guide": {"strokeColor": INK, "strokeDashArray": [5, 4]},
    "whisker first": {"strokeColor": ACCENT, "strokeWidth": 1.6},
    "dot first": {"strokeColor": ACCENT, "fillColor": ACCENT},
    "dot first open": {"strokeColor": ACCENT, "strokeWidth": 1.6, "fillColor": white},
}


def visible(text: Any) -> str:
    """Return text that the font can show, with right-to-left runs in visual order.

    >>> visible("שלום Ltd")
    'םולש Ltd'
    """
    return RIGHT_TO_LEFT.sub(lambda run: run[0][::-1], drawable(text))


# ---- pieces of a page


class Text(Paragraph):
    """A paragraph that is broken into lines once; its table asks for its height three times or more."""

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        # Its lines; those of a part of a paragraph that was split are only complete after wrapping.
        has_lines = hasattr(self, "blPara") and not getattr(self, "_splitpara", 0)
        if has_lines and self.width == width:
            return self.width, self.height
        size: tuple[float, float] = super().wrap(width, height)
        return size


def paragraph(text: Any, style: ParagraphStyle = BODY, *, lead: str = "") -> Text:
    """Return a paragraph of text that may be data, after `lead` in bold."""
    markup = f"<b>{escape(visible(lead), quote=False)}</b> " if lead else ""
    return Text(markup + escape(visible(text), quote=False), style)


title, section, heading = (partial(paragraph, style=style) for style in (H1, H2, H3))
small, note = (partial(paragraph, style=style) for style in (SMALL, NOTE))


def with_heading(title: str, *flowables: Flowable) -> Story:
    """Return a heading and its content, at least 50 mm of it on the same page."""
    head = heading(title)
    needed = sum(map(height, (head, *flowables)))
    return [CondPageBreak(min(needed, 50 * mm)), head, *flowables]


def table(
    columns: Mapping[str, float],
    rows: Iterable[Sequence[Any]],
    *,
    numbers: Iterable[int] = (),
    width: float = WIDTH,
    empty: str = "",
    is_compact: bool = False,
) -> Flowable:
    """Return a table whose header is repeated on every page, or the text `empty` if it has no rows.

    columns: title -> part of the width; rows: texts, a tuple of wordings, the longest first, or
    flowables; numbers: indices of the columns that are aligned right
    """
    rows = list(rows)
    if not rows and empty:
        return small(empty)
    right = set(numbers)
    of_texts, of_numbers = (TINY, TINY_NUMBERS) if is_compact else (NORMAL, NUMBERS)
    styles = [of_numbers if i in right else of_texts for i in range(len(columns))]
    widths = [part * width / sum(columns.values()) for part in columns.values()]
    heads = [paragraph(text, head) for text, (head, _) in zip(columns, styles, strict=True)]
    cells: list[list[Any]] = [heads]
    for row in rows:
        around = zip(row, styles, widths, strict=True)
        cells.append([_cell(text, style, room) for text, (_, style), room in around])
    look = [
        ("TOPPADDING", *ALL, 2.5),
        ("BOTTOMPADDING", *ALL, 2.5),
        ("LEFTPADDING", *ALL, PADDING),
        ("RIGHTPADDING", *ALL, PADDING),
        ("LEFTPADDING", *FIRST_COLUMN, 0),
        ("RIGHTPADDING", *LAST_COLUMN, 0),
        ("LINEBELOW", *FIRST_ROW, 0.8, INK),
        ("LINEBELOW", *LATER_ROWS, 0.3, LIGHT),
    ]
    return _grid(cells, widths, look, repeatRows=1, spaceAfter=6)


def _cell(text: Any, style: ParagraphStyle, width: float) -> Flowable | Story:
    """Return the first wording that fits into two lines, or the last if none does."""
    if isinstance(text, (Flowable, list)):
        return text
    *longer, shortest = text if isinstance(text, tuple) else (text,)
    for candidate in longer:
        cell = paragraph(_breakable(candidate), style)
        if cell.wrap(width - 2 * PADDING, HEIGHT)[1] <= CELL_LINES * style.leading:
            return cell
    return paragraph(_breakable(shortest), style)


def _breakable(text: Any) -> str:
    """Let lines break at a no-break space: a cell may be narrower than a number with its unit."""
    return str(text).replace("\xa0", " ")


def tiles(numbers: Iterable[tuple[str, str, str]]) -> Table:
    """Return big numbers side by side, each with its label and a note."""
    cells = [
        [paragraph(number, BIG), paragraph(label, HEAD), note(text)]
        for number, label, text in numbers
    ]
    look = [
        ("BACKGROUND", *ALL, SHADE),
        ("LINEABOVE", *FIRST_ROW, 1.5, ACCENT),
        ("TOPPADDING", *ALL, 5),
        ("BOTTOMPADDING", *ALL, 4),
    ]
    return _grid([cells], [WIDTH / len(cells)] * len(cells), look, spaceBefore=5, spaceAfter=8)


def side_by_side(*cells: Flowable | Story) -> Table:
    look = [
        ("LEFTPADDING", *ALL, 0),
        ("RIGHTPADDING", *BUT_LAST, GUTTER),
        ("RIGHTPADDING", *LAST_COLUMN, 0),
    ]
    return _grid([list(cells)], [WIDTH / len(cells)] * len(cells), look, spaceBefore=6)


def _grid(cells: list[list[Any]], widths: list[float], look: list[Any], **settings: Any) -> Table:
    grid = Table(cells, widths, **settings)
    grid.setStyle([("VALIGN", *ALL, "TOP"), *look])
    return grid


class Picture(Flowable):
    """A PNG that `charts` drew: RGB, eight bits each, not interlaced.

    Its pixels are copied as they are compressed. reportlab would decompress, hash and compress them
    again, at two thirds of the CPU time of the whole document.
    Source: ISO 32000-1:2008, 7.4.4.4: predictor 15 undoes the filters of PNG.
    """

    def __init__(self, png: bytes, width: float) -> None:
        super().__init__()
        self.png = png
        self.columns, self.rows = struct.unpack(">II", png[16:24])
        self.width, self.height = width, width * self.rows / self.columns

    def draw(self) -> None:
        canvas: Any = self.canv
        name = hashlib.sha256(self.png).hexdigest()
        if not canvas.hasForm(name):
            canvas._doc.addForm(name, self._stream())
        canvas.saveState()
        canvas.scale(self.width, self.height)
        canvas.doForm(name)
        canvas.restoreState()

    def _stream(self) -> PDFStream:
        size = {"Width": self.columns, "Height": self.rows, "BitsPerComponent": 8}
        rows = {"Predictor": 15, "Colors": 3, "BitsPerComponent": 8, "Columns": self.columns}
        about = {"Type": PDFName("XObject"), "Subtype": PDFName("Image")} | size
        about |= {"ColorSpace": PDFName("DeviceRGB"), "Filter": PDFName("FlateDecode")}
        pixels = b"".join(data for kind, data in _chunks(self.png) if kind == b"IDAT")
        return PDFStream(PDFDictionary(about | {"DecodeParms": PDFDictionary(rows)}), pixels)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the data of each chunk of a PNG."""
    start = 8
    while start < len(png):
        (length,) = struct.unpack(">I", png[start : start + 4])
        yield png[start + 4 : start + 8], png[start + 8 : start + 8 + length]
        start += length + 12


def picture(png: bytes, width: float = WIDTH) -> Picture:
    return Picture(png, width)


def drawing(markup: str, width: float) -> shapes.Drawing:
    """Return lines, dots and texts that `svg` drew, as vectors in the colours of the PDF."""
    root = ElementTree.fromstring(markup)
    columns, rows = (float(size) for size in root.attrib["viewBox"].split()[2:])
    scale = width / columns
    parts = [_shape(element, rows) for element in root if element.tag != "title"]
    group = shapes.Group(*parts, transform=(scale, 0, 0, scale, 0, 0))
    return shapes.Drawing(width, scale * rows, group)


def _shape(element: ElementTree.Element, top: float) -> shapes.Shape:
    """Return an element of SVG, whose y grows downwards from the top."""
    own = element.attrib

    def point(x: str, y: str) -> tuple[float, float]:
        return float(own[x]), top - float(own[y])

    if element.tag == "line":
        return shapes.Line(*point("x1", "y1"), *point("x2", "y2"), **DRAWN[own["class"]])
    if element.tag == "circle":
        return shapes.Circle(*point("cx", "cy"), float(own["r"]), **DRAWN[own["class"]])
    assert element.tag == "text"
    style: dict[str, Any] = {"fontName": FONT, "fontSize": 13, "fillColor": INK}
    style["textAnchor"] = own.get("text-anchor", "start")
    return shapes.String(*point("x", "y"), element.text or "", **style)


def gallery(pictures: Iterable[tuple[bytes, str]]) -> Story:
    """Return pictures with their captions, two side by side."""
    cells: list[Story] = [[picture(png, HALF), note(caption)] for png, caption in pictures]
    return [side_by_side(*cells[i : i + 2]) for i in range(0, len(cells), 2)]


def height(flowable: Flowable) -> float:
    spaces = flowable.getSpaceBefore() + flowable.getSpaceAfter()
    return float(flowable.wrap(WIDTH, HEIGHT)[1] + spaces)


def largest(make: Callable[[int], Flowable], sizes: Iterable[int], room: float) -> Flowable | None:
    """Return the first make(size) that fits into `room` points, None if none does."""
    return next((part for size in sizes if height(part := make(size)) <= room), None)


# ---- tables of the results of the steps


def contact_table(
    contacts: Sequence[Row], currency: str, labels: fields.Labels, *, is_compact: bool = False
) -> Flowable:
    """Return a row per client, without a field that no client has.

    If the change of all is the same ("as before"), it is left out, too. A compact table has longer
    names, one reason per client, and the last contact instead of the change.
    """
    widths = LIST_WIDTHS if is_compact else FIRST_WIDTHS
    reasons, letters = (1, CLIENT_WIDTH) if is_compact else (2, NAME_WIDTH)
    contacts = [{**row, "client": wording.shorten(row["client"], letters)} for row in contacts]
    rows = [[_contact_cell(name, row, labels, reasons) for name in widths] for row in contacts]
    is_shown = [
        any(cell != wording.DASH for cell in cells) and (name != "moved" or len(set(cells)) > 1)
        for name, cells in zip(widths, zip(*rows, strict=True), strict=True)
    ]
    kept = list(compress(widths, is_shown))
    columns = {fields.heading(name, currency): widths[name] for name in kept}
    numbers = [i for i, name in enumerate(kept) if fields.FIELDS[name].is_number]
    cells = [list(compress(row, is_shown)) for row in rows]
    return table(columns, cells, numbers=numbers, is_compact=is_compact)


def _contact_cell(
    name: str, row: Row, labels: fields.Labels, reasons: int
) -> str | tuple[str, ...]:
    """Format a field as wordings, the longest first; of a list, the first `reasons` or fewer."""
    if name == "moved":
        is_back = row["previous_rank"] is None and row.get("last_contact")
        return ("back",) if is_back else fields.moved_texts(row, labels)
    value = fields.value_of(name, row, labels)
    if not value:
        return wording.DASH
    if name == "last_contact":
        text = sentences.dated_contact_text(row)
        return text, text.partition(" (")[0]
    if isinstance(value, list):
        return tuple("; ".join(value[:n]) for n in range(reasons, 0, -1))
    return fields.FIELDS[name].show(value)


def team_table(team: Sequence[Row], currency: str) -> Flowable:
    """Return a row per client manager: clients listed and their value, reached, follow-ups kept.

    An earlier version recorded no work of the managers.
    """
    rows = [
        [
            row["manager"] or "no client manager",
            wording.count(row["listed"]),
            wording.amount(row["value"]) if wording.is_known(row["value"]) else wording.DASH,
        ]
        for row in team
    ]
    columns = {"client manager": 54, "on the list": 28, f"value, {currency}": 28}
    if any("reached" in row for row in team):
        columns |= {"reached in the last 30 days": 32, "follow-ups kept": 32}
        work = [[wording.count(row.get("reached", 0)), wording.kept(row)] for row in team]
        rows = [[*row, *more] for row, more in zip(rows, work, strict=True)]
    return table(columns, rows, numbers=range(1, len(columns)))


def light(colour: str, content: Sequence[Flowable]) -> Table:
    """Return a traffic light with one of its lamps lit, beside what explains it."""
    lamps = shapes.Drawing(16, 46)
    lamps.add(_filled(shapes.Rect(0, 0, 16, 46, 5, 5), INK))
    for y, lamp in ((37, "red"), (23, "amber"), (9, "green")):
        lamps.add(_filled(shapes.Circle(8, y, 5.5), LAMPS[lamp] if lamp == colour else GREY))
    look = [
        ("BACKGROUND", *ALL, SHADE),
        ("LEFTPADDING", *FIRST_COLUMN, 8),
        ("TOPPADDING", *ALL, 6),
        ("BOTTOMPADDING", *ALL, 4),
    ]
    return _grid([[lamps, list(content)]], [32, WIDTH - 32], look, spaceAfter=6)


def _filled(shape: shapes.SolidShape, colour: Color) -> shapes.SolidShape:
    shape.fillColor, shape.strokeColor = colour, None
    return shape


def call_table(contacts: Iterable[Row], day: str, currency: str, labels: fields.Labels) -> Flowable:
    """Return a row per client for a printed page: how to reach it, why, and lines for notes."""
    rows = [
        [
            row["rank"],
            [
                paragraph(wording.shorten(row["client"], CLIENT_WIDTH), HEAD),
                *_texts(_reach(row, day)),
            ],
            _texts(_stakes(row, currency)),
            _texts(_why(row, labels)),
            [
                *_texts(OUTCOMES),
                _grid([[""]] * 2, [NOTE_WIDTH * mm - PADDING], NOTE_LINES, rowHeights=15),
            ],
        ]
        for row in contacts
    ]
    columns = {"rank": 9, "client": 44, "at stake": 31, "why": 44, "notes": NOTE_WIDTH}
    return table(columns, rows)


def _texts(texts: Iterable[str]) -> Story:
    return [paragraph(text, CELL) for text in texts]


def _reach(row: Row, day: str) -> list[str]:
    """Return how to reach a client, and when its contract ends."""
    due = row.get("due") and f"due {row['due']} ({fields.due_text(row['due'], day)})"
    return [*filter(None, (row.get("phone"), row.get("email"), due))]


def _stakes(row: Row, currency: str) -> list[str]:
    texts = [f"risk {wording.percent(row['risk'])}"]
    if wording.is_known(row["value_at_risk"]):
        texts.append(f"{currency} {wording.amount(row['value_at_risk'])} at risk")
    return [*texts, *filter(None, [row.get("status")])]


def _why(row: Row, labels: fields.Labels) -> list[str]:
    """Return the reasons of a client, its change, and the last contact with it."""
    moved, last = fields.moved_texts(row, labels), sentences.dated_contact_text(row)
    reasons = [fields.value_of(name, row, labels) for name in ("list_reasons", "reasons")]
    return [
        *next(filter(None, reasons), [])[:REASONS_SHOWN],
        *([f"Changed: {moved[0]}"] if len(moved) > 1 else []),
        *([f"Last contact {last}"] if last else []),
        *([f"Follow-up on {row['follow_up']}"] if row.get("follow_up") else []),
    ]


def candidate_table(candidates: Iterable[Row]) -> Flowable:
    """Return the candidates, the best first."""
    rows = [
        [
            row["name"],
            f"{wording.decimal(row['log_loss'])} ± {wording.decimal(row['standard_error'])}",
            "chosen" if row["chosen"] else "",
        ]
        for row in sorted(candidates, key=lambda row: wording.finite(row["log_loss"]))
    ]
    columns = {"candidate": 70, "log loss ± standard error (lower is better)": 70, "": 34}
    return table(columns, rows, numbers=(1,))


def curve_table(points: Sequence[Sequence[str]]) -> Flowable:
    """Return the learning curve, see `wording.learning_curve`."""
    columns = {"sample": 24, "rows of it fitted": 32, "log loss (lower is better)": 48}
    columns |= {"gain ± standard error": 46, "": 24}
    return table(columns, points, numbers=(0, 1, 2, 3))


def score_table(scored: Mapping[str, tuple[Row, Row]], capacity: int) -> Story:
    """Return every measure on every set of outcomes; a measure is omitted if it is unknown on all.

    scored: title -> the set of outcomes, and the scores of one model on it
    """
    sizes = [wording.rows_and_left(outcomes) for outcomes, _ in scored.values()]
    rows, unknown = [["rows (left)", *sizes]], []
    for measure, (name, show) in wording.MEASURES.items():
        values = [scores.get(measure) for _, scores in scored.values()]
        if any(map(wording.is_known, values)):
            rows.append([name, *(wording.with_interval(value, show, "–") for value in values)])
        else:
            unknown.append(name.split(":")[0])
    columns = {"measure": 42.0, **dict.fromkeys(scored, 132 / len(scored))}
    text = wording.score_note(capacity)
    if unknown:
        text += f" Too few outcomes for {', '.join(unknown)}."
    return [table(columns, rows, numbers=range(1, len(columns))), note(text)]


def estimate_table(estimate: Row, again: Row | None) -> Flowable:
    """Return the estimates for clients without an outcome, and those under covariate shift."""
    estimates = [estimate, *([again] if again else [])]
    rows = [
        [name, *(wording.with_interval(one[figure], show, "–") for one in estimates)]
        for figure, (name, show) in wording.ESTIMATED.items()
        if wording.is_known(estimate[figure])
    ]
    titles = ["figure", "estimated", "under covariate shift"][: 1 + len(estimates)]
    columns = {"figure": 60.0, **dict.fromkeys(titles[1:], 114 / len(estimates))}
    return table(columns, rows, numbers=range(1, len(columns)))


def accuracy_table(estimates: Sequence[Row]) -> Flowable:
    """Return the accuracy of past estimates, over all batches whose outcomes are known."""
    from attrition.monitoring import performance  # imports pandas: only if there is an estimate

    names = ("figure", "estimated", "low", "high", "realised")
    checks = [performance.EstimateCheck(*(row[name] for name in names)) for row in estimates]
    last = {check.figure: check for check in checks}
    rows = []
    for record in performance.estimate_accuracy(checks):
        (name, show), newest = wording.ESTIMATED[record.figure], last[record.figure]
        inside = round((record.coverage.value or 0.0) * record.estimates)
        rows.append(
            [
                name,
                wording.count(record.estimates),
                show(record.mean_absolute_error),
                f"{inside} of {record.estimates}",
                f"{show(newest.estimated)} [{show(newest.low)} – {show(newest.high)}]",
                show(newest.realised),
            ]
        )
    columns = {"estimate checked against outcomes": 48, "batches": 16, "mean error": 22}
    columns |= {"inside the interval": 28, "last estimate": 40, "outcome": 20}
    return table(columns, rows, numbers=range(1, 6))


def comparison_table(comparison: Row) -> Story:
    """Return the differences between challenger and champion on the same rows."""
    p = f"p = {wording.probability(comparison['p_value'])}".replace("= <", "<")
    rows = [
        [name, wording.with_interval(comparison[f"{measure}_difference"], SIGNED), better]
        for measure, name, better in (
            ("roc_auc", f"ROC AUC ({p})", "above 0"),
            ("log_loss", "Log loss", "below 0"),
            ("brier", "Brier score", "below 0"),
            ("precision", "Precision of the list", "above 0"),
        )
        if f"{measure}_difference" in comparison
    ]
    columns = {"challenger minus champion": 60, "difference (95 % interval)": 70, "better is": 44}
    text = (
        f"Both were scored on the same {wording.plural(comparison['rows'], 'row')}, with "
        f"{wording.plural(comparison['left'], 'leaver')}, by evaluation models that were not trained on "
        "them."
    )
    return [table(columns, rows, numbers=(1,)), note(text)]


def number_table(columns: Mapping[str, Row]) -> Flowable:
    """Return the summary statistics of numeric columns by name."""
    rows = [
        [
            wording.shorten(name, NAME_WIDTH),
            _percentage(row["missing_pct"]),
            *(wording.statistic({**row, **row["quantiles"]}.get(key)) for key in STATISTICS),
        ]
        for name, row in columns.items()
    ]
    titles = ("missing", "mean", "std", "min", "5 %", "median", "95 %", "max")
    return table({"column": 46, **dict.fromkeys(titles, 16)}, rows, numbers=range(1, 9))


def category_table(columns: Mapping[str, Row]) -> Flowable:
    """Return the categories of categorical columns by name."""
    rows = [
        [
            wording.shorten(name, NAME_WIDTH),
            _percentage(row["missing_pct"]),
            wording.count(row["distinct"]),
            wording.categories(row, LEVELS_SHOWN),
        ]
        for name, row in columns.items()
    ]
    titles = {"column": 46, "missing": 16, "categories": 21, "most frequent": 91}
    return table(titles, rows, numbers=(1, 2))


def _percentage(of_100: Any) -> str:
    return wording.percent(wording.finite(of_100) / 100)


def drift_table(columns: Iterable[Row]) -> Flowable:
    """Return the drift of each column, the largest first."""
    names = {"score": "predicted risk"}
    rows = [
        [
            names.get(row["kind"]) or wording.shorten(row["column"], NAME_WIDTH),
            wording.percent(row["weight"]) if wording.is_known(row.get("weight")) else wording.DASH,
            wording.decimal(row["psi"]) if wording.is_known(row["psi"]) else wording.DASH,
            wording.probability(row["q_value"]),
            _percentage(row["reference_missing_pct"]),
            _percentage(row["missing_pct"]),
            _percentage(row["unseen_pct"]) if row["unseen_pct"] else wording.DASH,
            wording.DRIFT_VERDICTS[row["verdict"]],
        ]
        for row in sorted(columns, key=lambda row: -(row["psi"] or 0.0))
    ]
    titles = {"column": 44, "importance": 21, "PSI": 17, "q-value": 17}
    titles |= {"missing then": 19, "missing now": 19, "new values": 18, "drift": 19}
    return table(titles, rows, numbers=range(1, 7))


def duration_table(timings: Mapping[str, Any]) -> Flowable:
    """Return what each step costs; timings["trend"] describes the change of its duration."""
    rows, trend = [], timings.get("trend", {})
    for step in (name for name in timings if name not in ("trend", "doubled")):
        elapsed = [wording.finite(row["elapsed_s"]) for row in timings[step]]
        values = [value for value in elapsed if value >= 0]
        durations = [statistics.median(values), values[-1]] if values else []
        texts = [wording.seconds(value) for value in durations] or [wording.DASH] * 2
        last: Row = timings[step][-1] if timings[step] else {}
        cpu_s, peak_mb = (wording.finite(last.get(key)) for key in ("cpu_s", "peak_mb"))
        texts.append(wording.seconds(cpu_s) if cpu_s >= 0 else wording.DASH)
        texts.append(f"{peak_mb:,.0f} MB" if peak_mb >= 0 else wording.DASH)
        change = trend.get(step) or ("" if values else "not run yet")
        rows.append([step, len(values), *texts, change])
    columns = {"step": 26, "times run": 18, "median": 20, "last": 20, "CPU time": 20}
    columns |= {"peak memory": 22, "trend": 48}
    return table(columns, rows, numbers=range(1, 6), empty="No step has been timed yet.")


def package_table(packages: Iterable[Row]) -> Flowable:
    """Return the packages that are outdated, or whose latest version is unknown."""
    rows = [
        [
            *(row[key] or wording.DASH for key in PACKAGE),
            OUTDATED.get(row["outdated"], wording.UNKNOWN),
        ]
        for row in sorted(packages, key=lambda row: (not row["outdated"], row["name"]))
        if row["outdated"] is not False
    ]
    columns = {"package": 50, "required": 34, "installed": 34, "latest": 34, "": 22}
    return table(columns, rows, empty="All packages are current.")


def deployment_table(deployments: Iterable[Row]) -> Flowable:
    rows = [
        [wording.minute(row["at"]), row["action"], row["release"], row["reason"]]
        for row in deployments
    ]
    columns = {"when (UTC)": 27, "what": 20, "release": 48, "why": 79}
    return table(columns, rows, empty="Nothing has been deployed yet.")


def day_table(days: Iterable[Row]) -> Flowable:
    """Return the runs with work of each day, the newest day first."""
    rows = [
        [day["day"], day["runs"], day["outcomes"], wording.seconds(day["took"])] for day in days
    ]
    columns = {"earlier day (UTC)": 34, "runs with work": 28, "outcomes": 80, "took in all": 32}
    return table(columns, rows, numbers=(1, 3))


def run_table(runs: Iterable[Row]) -> Flowable:
    rows = [
        [
            wording.minute(row["started_at"]),
            wording.seconds(row["elapsed_s"]),
            ": ".join(filter(None, (row["outcome"] or "not ended", row["reason"]))),
        ]
        for row in runs
    ]
    columns = {"started (UTC)": 27, "took": 20, "outcome": 127}
    return table(columns, rows, numbers=(1,), empty="No run has been recorded yet.")


# ---- the document


def build(story: Story, *, name: str, running: str) -> tuple[bytes, int]:
    """Return the PDF and its number of pages; `running` is on the right of every header."""
    # No text in the data may make reportlab open a file or a URL.
    rl_config.trustedHosts, rl_config.trustedSchemes = [], ["data"]
    # The streams as bytes: a fifth smaller, and a third of the CPU of the layout.
    rl_config.useA85 = 0
    buffer = BytesIO()
    document = BaseDocTemplate(buffer, pagesize=A4, title=name, lang="en", invariant=1)
    frame = Frame(MARGIN, BOTTOM, WIDTH, HEIGHT, 0, 0, 0, 0)
    around = partial(_draw_around, name=name, running=running)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=around))
    document.build(story)
    return buffer.getvalue(), document.page


def register_fonts() -> None:
    """Register the font; until then, no text can be laid out or measured."""
    for font in (FONT, BOLD):
        pdfmetrics.registerFont(load_font(font))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def _draw_around(canvas: Canvas, document: Any, *, name: str, running: str) -> None:
    """Draw the running header and the page number."""
    canvas.saveState()
    canvas.setFont(FONT, 7)
    canvas.setFillColor(GREY)
    top = A4[1] - 12 * mm
    canvas.drawString(MARGIN, top, name)
    canvas.drawRightString(A4[0] - MARGIN, top, visible(running))
    canvas.setStrokeColor(LIGHT)
    canvas.line(MARGIN, top - 4, A4[0] - MARGIN, top - 4)
    canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"Page {document.page}")
    canvas.restoreState()
