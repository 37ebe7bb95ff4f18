"""Step 7: draw the figures and write the PDF that people read in the morning.

Reads:  training.json and score.json of the release in production, practicemodels/decision.json,
        production_deployment/monitoring.json and history.sqlite, reports/assessment.json,
        contactlist.csv and diagnostics.json; whatever of it is not there yet is said to be missing
Writes: reports/*.png (the figures), reports/report.pdf, reports/report.json (the record)
Run:    python reporting.py [--config PATH]
"""

import csv
import io
import logging
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from matplotlib.figure import Figure
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from attrition import charts, cli, disk, history, releases
from attrition.charts import finite, percent
from attrition.config import Config
from attrition.errors import NoModel

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

Row = Mapping[str, Any]
Story = list[Flowable]

TITLE = "Client attrition report"
UNKNOWN = "unknown"
FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
INK, GREY, LIGHT, ACCENT, SHADE = map(
    HexColor, (charts.INK, charts.GREY, charts.LIGHT, charts.ACCENT, "#f3f5f8")
)
MARGIN, TOP, BOTTOM = 18 * mm, 20 * mm, 17 * mm
WIDTH, HEIGHT = A4[0] - 2 * MARGIN, A4[1] - TOP - BOTTOM
HALF = (WIDTH - 6 * mm) / 2

BODY = ParagraphStyle("body", fontName=FONT, fontSize=9, leading=12.5, textColor=INK, spaceAfter=4)
SMALL = ParagraphStyle("small", BODY, fontSize=7.5, leading=10, spaceAfter=2)
NOTE = ParagraphStyle("note", SMALL, textColor=GREY)
CELL = ParagraphStyle("cell", SMALL, spaceAfter=0)
NUMBER = ParagraphStyle("number", CELL, alignment=TA_RIGHT)
HEAD = ParagraphStyle("head", CELL, fontName=BOLD)
HEAD_NUMBER = ParagraphStyle("head number", HEAD, alignment=TA_RIGHT)
BIG = ParagraphStyle("big", BODY, fontName=BOLD, fontSize=14, leading=18, textColor=ACCENT)
H1 = ParagraphStyle("h1", BODY, fontName=BOLD, fontSize=18, leading=23, spaceAfter=1)
H2 = ParagraphStyle("h2", BODY, fontName=BOLD, fontSize=13, leading=17, spaceBefore=8)
H3 = ParagraphStyle("h3", BODY, fontName=BOLD, fontSize=9.5, leading=13, spaceBefore=7)

LISTED, LISTED_AT_LEAST, MANAGERS_SHOWN = 12, 10, 8
WARNINGS_SHOWN, HISTORY_SHOWN, LEVELS_SHOWN = 4, 8, 4
MEASURES = {
    "roc_auc": ("ROC AUC", "order of the risks: 0.5 is chance, 1 is perfect"),
    "pr_auc": ("PR AUC", "precision, averaged over all cut-offs"),
    "f1": ("F1", "hits against misses, at a risk of 50\xa0%"),
    "precision": ("Precision", "share of the called who leave"),
    "lift": ("Lift", "leavers among the called, against calling at random"),
    "brier": ("Brier score", "error of the risks, less is better"),
    "log_loss": ("Log loss", "error of the risks, less is better"),
}
TRUST = {
    "fine": "Yes.",
    "degraded": "No: it has become worse.",
    "insufficient": "Not known yet: too few outcomes since it was deployed.",
    "no_model": "There is no model yet.",
}
PACKAGE = ("name", "required", "installed", "latest")
RIGHT_TO_LEFT = re.compile("[\u0590-\u065f\u066e-\u08ff]+(?:[ ]+[\u0590-\u065f\u066e-\u08ff]+)*")


@dataclass(frozen=True)
class Facts:
    """All that the report tells, as the other steps wrote it; {} and () for what is not there."""

    release: str | None = None
    training: Row = field(default_factory=dict)
    score: Row = field(default_factory=dict)
    decision: Row = field(default_factory=dict)
    monitoring: Row = field(default_factory=dict)
    assessment: Row = field(default_factory=dict)
    diagnostics: Row = field(default_factory=dict)
    contacts: Sequence[Row] = ()
    scores: Sequence[Row] = ()
    missing: Sequence[Row] = ()
    deployments: Sequence[Row] = ()
    runs: Sequence[Row] = ()
    currency: str = "EUR"
    capacity: int = 100
    order: str = "risk"

    @property
    def as_of(self) -> str:
        """The time of the newest of the records: the report has no clock of its own."""
        times = (
            self.training.get("trained_at"),
            self.decision.get("decided_at"),
            self.monitoring.get("checked_at"),
            self.assessment.get("assessed_at"),
            self.diagnostics.get("diagnosed_at"),
        )
        return max((str(time) for time in times if time), default="")

    @property
    def warnings(self) -> list[str]:
        found = [*self.training.get("warnings", ()), *self.score.get("warnings", ())]
        return list(dict.fromkeys(str(warning) for warning in found))


@dataclass(frozen=True)
class Report:
    """What was written, or stood already."""

    pages: int
    figures: int
    listed: int
    fresh: bool
    made: str

    def summary(self) -> str:
        what = f"report.pdf: {self.pages} pages, {self.figures} figures"
        return f"{what}, {plural(self.listed, 'client')} to contact"


# ---- numbers and data in words


def count(value: Any) -> str:
    """Say a number of things.

    >>> count(12345.6), count(None)
    ('12,346', 'unknown')
    """
    number = finite(value)
    return f"{number:,.0f}" if number == number else UNKNOWN


def plural(number: Any, noun: str) -> str:
    """Say how many of a thing.

    >>> plural(1, "client"), plural(1200, "client")
    ('1 client', '1,200 clients')
    """
    return f"{count(number)} {noun}{'s' * (finite(number) != 1)}"


def amount(value: Any) -> str:
    """Say money to three digits: no estimate knows more.

    >>> amount(4251234.5), amount(12345), amount(987.6), amount(None)
    ('4.25 million', '12,300', '988', 'unknown')
    """
    number = finite(value)
    if number != number:
        return UNKNOWN
    number = float(f"{number:.3g}")
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if abs(number) >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:g}"


def decimal(value: Any, *, digits: int = 3, sign: bool = False) -> str:
    number = finite(value)
    return f"{number:{'+' if sign else ''}.{digits}f}" if number == number else UNKNOWN


def plain(value: Any) -> str:
    """Say a statistic of a column to four digits, whatever its size.

    >>> plain(1234567.8), plain(0.123456), plain(12.0), plain(None)
    ('1,235,000', '0.1235', '12', '–')
    """
    number = finite(value)
    if number != number:
        return "–"
    number = float(f"{number:.4g}")
    return f"{number:,.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:,.4g}"


def between(interval: Any, say: Any, to: str = " to ") -> str:
    """Say the 95 % interval, "" where it could not be computed."""
    low, high = (finite((interval or {}).get(end)) for end in ("low", "high"))
    return f"{say(low)}{to}{say(high)}" if low == low and high == high else ""


def with_interval(interval: Any, say: Any, to: str = " to ") -> str:
    """Say a number and its 95 % interval in brackets."""
    value = say((interval or {}).get("value"))
    inside = between(interval, say, to)
    return f"{value} ({inside})" if inside else str(value)


def finished(sentence: Any) -> str:
    """Let a sentence begin and end like one.

    >>> finished("no column has moved"), finished(None)
    ('No column has moved.', '')
    """
    text = str(sentence or "").strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def moment(time: Any) -> str:
    """Say a UTC ISO time.

    >>> moment("2026-11-23T18:30:00Z"), moment(None)
    ('23 November 2026, 18:30 UTC', 'unknown')
    """
    try:
        at = datetime.fromisoformat(str(time))
    except ValueError:
        return UNKNOWN
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def minute(time: Any) -> str:
    """Say a UTC ISO time in a table."""
    return str(time)[:16].replace("T", " ") if time else UNKNOWN


def seconds(value: Any) -> str:
    """Say a duration.

    >>> seconds(0.42), seconds(75), seconds(None)
    ('0.4 s', '1 min 15 s', 'unknown')
    """
    number = finite(value)
    if number != number:
        return UNKNOWN
    minutes, rest = divmod(round(number), 60)
    if number >= 60:
        return f"{minutes} min {rest} s"
    return f"{number:.1f} s" if number >= 0.05 else "< 0.1 s"


def visible(text: Any) -> str:
    """Return text as the page can show it, right-to-left runs in the order they are read.

    >>> visible("שלום Ltd")
    'םולש Ltd'
    """
    return RIGHT_TO_LEFT.sub(lambda run: run[0][::-1], charts.drawable(text))


# ---- pieces of a page


def paragraph(text: Any, style: ParagraphStyle = BODY, *, lead: str = "") -> Paragraph:
    """Set text that may be data; `lead` goes before it in bold."""
    markup = f"<b>{escape(visible(lead))}</b> " if lead else ""
    return Paragraph(markup + escape(visible(text)), style)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    widths: Sequence[float],
    *,
    numbers: Iterable[int] = (),
    width: float = WIDTH,
) -> Table:
    """Set rows below a header that every page repeats; `numbers` are the right-aligned columns."""
    right = set(numbers)
    styles = [(HEAD_NUMBER, NUMBER) if i in right else (HEAD, CELL) for i in range(len(header))]
    cells = [[paragraph(text, style[0]) for text, style in zip(header, styles, strict=True)]]
    for row in rows:
        cells.append([paragraph(text, style[1]) for text, style in zip(row, styles, strict=True)])
    scale = width / sum(widths)
    made = Table(cells, [part * scale for part in widths], repeatRows=1, spaceAfter=6)
    made.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 2.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ("LEFTPADDING", (0, 0), (-1, -1), 4),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4),
            ("LEFTPADDING", (0, 0), (0, -1), 0),
            ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
            ("LINEBELOW", (0, 1), (-1, -1), 0.3, LIGHT),
        ]
    )
    return made


def picture(png: bytes, width: float) -> Image:
    image = Image(io.BytesIO(png))
    image.drawHeight *= width / image.drawWidth
    image.drawWidth = width
    return image


def side_by_side(*cells: Flowable | list[Flowable]) -> Table:
    made = Table([list(cells)], [WIDTH / len(cells)] * len(cells), spaceBefore=6)
    made.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-2, -1), 6 * mm),
            ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
        ]
    )
    return made


def titled(title: str, *flowables: Flowable) -> Story:
    """Keep a heading with what it heads, or with the beginning of it."""
    heading = paragraph(title, H3)
    needed = height(heading) + sum(height(flowable) for flowable in flowables)
    return [CondPageBreak(min(needed, 70 * mm)), heading, *flowables]


def height(flowable: Flowable) -> float:
    spaces = flowable.getSpaceBefore() + flowable.getSpaceAfter()
    return float(flowable.wrap(WIDTH, HEIGHT)[1] + spaces)


# ---- page one: what the manager of the team reads in a minute


def first_page(facts: Facts, png: Mapping[str, bytes]) -> Story:
    """Set the first page: the list has ten clients or more, and what is below it may move on."""
    above = [
        paragraph(TITLE, H1),
        paragraph(as_of(facts), NOTE),
        Spacer(0, 5),
        tiles(facts),
        paragraph(trust(facts), lead="Can the model be trusted today?"),
        paragraph(last_decision(facts), lead="What happened to the model?"),
        *warnings(facts),
        paragraph("Whom to contact first", H3),
    ]
    note = paragraph(list_note(facts), NOTE)
    below = clients_today(facts, png)
    room = HEIGHT - sum(height(flowable) for flowable in (*above, note))
    listed = contact_table(facts, room - height(below), least=LISTED_AT_LEAST)
    return [*above, listed or contact_table(facts, room) or note, note, below]


def as_of(facts: Facts) -> str:
    when = f"As of {moment(facts.as_of)}" if facts.as_of else "Nothing was run yet"
    return f"{when}; {model_name(facts)}"


def model_name(facts: Facts) -> str:
    if not facts.release:
        return "no model in production yet"
    return f"model: {facts.training.get('kind', UNKNOWN)}, release {facts.release}"


def tiles(facts: Facts) -> Table:
    """Set the four numbers that matter."""
    cells = [
        [paragraph(big, BIG), paragraph(label, HEAD), paragraph(small, NOTE)]
        for big, label, small in big_numbers(facts)
    ]
    made = Table([cells], [WIDTH / len(cells)] * len(cells), spaceAfter=8)
    made.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("BACKGROUND", (0, 0), (-1, -1), SHADE),
            ("LINEABOVE", (0, 0), (-1, 0), 1.5, ACCENT),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
        ]
    )
    return made


def big_numbers(facts: Facts) -> list[tuple[str, str, str]]:
    """Return number, label and small print of each tile."""
    now = facts.assessment
    if not now:
        return [(UNKNOWN, "current clients", "they were not assessed yet")]
    leaving, at_risk = now.get("expected_to_leave"), now.get("value_at_risk")
    expected = between(leaving, count)
    value = ("–", "value at risk", "config.json names no column with the value of a client")
    if finite((at_risk or {}).get("value")) == finite((at_risk or {}).get("value")):
        inside = between(at_risk, amount)
        small = f"of {amount(now.get('value'))}" + (f"; likely {inside}" if inside else "")
        value = (amount((at_risk or {}).get("value")), f"value at risk, {facts.currency}", small)
    return [
        (
            count(now.get("clients")),
            "current clients",
            f"with a mean risk of {percent(now.get('mean_risk'))}",
        ),
        (
            count((leaving or {}).get("value")),
            "clients likely to leave",
            f"expected number; likely {expected}" if expected else "expected number",
        ),
        value,
        (count((now.get("list") or {}).get("clients")), "on the contact list", list_holds(facts)),
    ]


def list_holds(facts: Facts) -> str:
    """Say which share of what is at stake the contact list holds."""
    now = facts.assessment
    listed = now.get("list") or {}
    for share_of, words in (
        ("value_at_risk", "of the value at risk"),
        ("expected_to_leave", "of those likely to leave"),
    ):
        share = ratio(listed.get(share_of), (now.get(share_of) or {}).get("value"))
        if share is not None:
            return f"they hold {percent(share)} {words}"
    return f"the team can contact {facts.capacity:,}"


def ratio(part: Any, whole: Any) -> float | None:
    part, whole = finite(part), finite(whole)
    return min(1.0, part / whole) if part == part and whole > 0 else None


def trust(facts: Facts) -> str:
    """Say whether the risks can be relied on: what monitoring found, then the score."""
    if not facts.release:
        return "There is no model in production yet: no client has a risk."
    if facts.training.get("kind") == "base rate":
        words = ["Only as an average: every client has the same risk, so the order of the list"]
        words += ["says nothing. There is not enough data for a model that tells clients apart."]
        return " ".join(words)
    truth, moved = facts.monitoring.get("truth") or {}, drift_now(facts)
    said = ["It is new: no outcome has come in since it was deployed."]
    if is_monitored(facts):
        said = [TRUST.get(str(truth.get("verdict")), "Not checked yet.")]
        said.append(finished(truth.get("sentence")))
    said.append(proof(facts))
    if moved.get("verdict") == "moved":
        said.append(f"But the clients have changed. {finished(moved.get('sentence'))}")
    return " ".join(filter(None, said))


def is_monitored(facts: Facts) -> bool:
    """Is the model that was last checked the one in production, not the one before it?"""
    return facts.monitoring.get("release") == facts.release


def drift_now(facts: Facts) -> Row:
    """Return how the clients of today differ from those that the model learned from."""
    found: Row = facts.diagnostics.get("drift") or {}
    if not found and is_monitored(facts):
        found = facts.monitoring.get("input") or {}
    return found


def proof(facts: Facts) -> str:
    """Say how the model did on outcomes that it had not seen."""
    for name, words in charts.SETS.items():
        found = (facts.score.get("sets") or {}).get(name)
        area = ((found or {}).get("candidate") or {}).get("roc_auc") or {}
        if found and finite(area.get("value")) == finite(area.get("value")):
            inside = between(area, percent)
            inside = f" (95 % interval {inside})" if inside else ""
            return (
                f"Before it was deployed, on {count(found.get('rows'))} rows of {words}, none of "
                "them learned from, the client who left had a higher risk than the one who stayed "
                f"in {percent(area['value'])} of pairs{inside}."
            )
    return "No outcome was left over to test it on before it was deployed."


def last_decision(facts: Facts) -> str:
    made = facts.decision
    if not made:
        return "No candidate was judged yet."
    return f"{finished(made.get('reason'))} ({moment(made.get('decided_at'))})"


def warnings(facts: Facts) -> Story:
    found = facts.warnings
    shown = [paragraph(finished(warning), SMALL, lead="!") for warning in found[:WARNINGS_SHOWN]]
    if len(found) > WARNINGS_SHOWN:
        shown.append(paragraph(f"{len(found) - WARNINGS_SHOWN} more under “The model”.", NOTE))
    return [paragraph("Warnings", H3), *shown] if shown else []


def contact_table(facts: Facts, room: float, *, least: int = 1) -> Flowable | None:
    """Set the first clients of the list, as many as fit into `room` points."""
    if not facts.contacts:
        return paragraph("The contact list is empty: no current client was assessed yet.")
    for shown in range(LISTED, least - 1, -1):
        made = contacts_as_table(facts.contacts[:shown], facts.currency)
        if height(made) <= room:
            return made
    return None


def contacts_as_table(contacts: Sequence[Row], currency: str) -> Table:
    """Leave out the columns that no client has: value, manager, reason."""
    columns: dict[str, tuple[str, float, Any]] = {
        "rank": ("#", 7, str),
        "client": ("client", 46, str),
        "risk": ("risk", 14, percent),
        "value_at_risk": (f"value at risk, {currency}", 31, amount),
        "manager": ("client manager", 30, str),
        "reasons": ("main reason", 47, lambda reasons: str(reasons).split(";")[0]),
    }
    kept = {
        key: column
        for key, column in columns.items()
        if key in ("rank", "client", "risk") or any(row.get(key) for row in contacts)
    }
    return table(
        [title for title, _, _ in kept.values()],
        [
            [say(row[key]) if row.get(key) else "–" for key, (_, _, say) in kept.items()]
            for row in contacts
        ],
        [width for _, width, _ in kept.values()],
        numbers=[i for i, key in enumerate(kept) if key in ("risk", "value_at_risk")],
    )


def list_note(facts: Facts) -> str:
    if not facts.contacts:
        return ""
    by = "value at risk" if facts.order == "value_at_risk" else "risk"
    said = f"The whole list, by {by}, with all reasons: contactlist.csv."
    new = sum(not row.get("previous_rank") for row in facts.contacts)
    if new < len(facts.contacts):
        said += f" {count(new)} of {count(len(facts.contacts))} were not on the last list."
    if any("□" in charts.drawable(row.get("client", "")) for row in facts.contacts[:LISTED]):
        said += " □ stands for a character that this report cannot show."
    return said


# ---- the pages that follow


def clients_today(facts: Facts, png: Mapping[str, bytes]) -> Flowable:
    """Set how the risk is spread, and whose clients are on the list."""
    words: Story = []
    if listed := facts.assessment.get("list"):
        words.append(paragraph(list_in_words(facts, listed), SMALL))
    by_manager: dict[str, list[Row]] = {}
    for row in facts.contacts:
        by_manager.setdefault(str(row.get("manager") or "no client manager"), []).append(row)
    ranked = sorted(by_manager.items(), key=lambda item: (-len(item[1]), item[0]))
    if len(by_manager) > 1:
        header = ["client manager", "on the list", f"value at risk, {facts.currency}"]
        rows = [[name, count(len(own)), at_risk(own)] for name, own in ranked[:MANAGERS_SHOWN]]
        words.append(table(header, rows, [42, 18, 28], numbers=(1, 2), width=HALF))
        if (more := len(ranked) - MANAGERS_SHOWN) > 0:
            words.append(paragraph(f"and {plural(more, 'other manager')}", NOTE))
    return side_by_side(picture(png["risk_distribution"], HALF), words)


def at_risk(contacts: Iterable[Row]) -> str:
    known = [value for row in contacts if (value := finite(row.get("value_at_risk"))) >= 0]
    return amount(sum(known)) if known else "–"


def list_in_words(facts: Facts, listed: Row) -> str:
    said = (
        f"The contact list holds {plural(listed.get('clients'), 'client')} with a mean risk of "
        f"{percent(listed.get('mean_risk'))}; of all current clients it is "
        f"{percent(facts.assessment.get('mean_risk'))}. "
    )
    said += f"Of those listed, {count(listed.get('expected_to_leave'))} are expected to leave"
    if finite(listed.get("value_at_risk")) == finite(listed.get("value_at_risk")):
        said += f" and {facts.currency} {amount(listed['value_at_risk'])} are at risk"
    return said + "."


def model_section(facts: Facts, png: Mapping[str, bytes]) -> Story:
    """Set what the model is, why it was chosen, and what it is worth."""
    story: Story = [paragraph("The model", H2), *(paragraph(text) for text in model_words(facts))]
    candidates = facts.training.get("candidates") or ()
    if candidates:
        rows = [
            [
                row.get("name"),
                f"{decimal(row.get('log_loss'))} ± {decimal(row.get('standard_error'))}",
                "chosen" if row.get("chosen") else "",
            ]
            for row in sorted(candidates, key=lambda row: finite(row.get("log_loss")))
        ]
        header = ["candidate", "log loss ± standard error, less is better", ""]
        story += titled("Candidates", table(header, rows, [70, 70, 34], numbers=(1,)))
    story += score_tables(facts) + comparison(facts)
    if len(facts.warnings) > WARNINGS_SHOWN:
        more = [
            paragraph(finished(text), SMALL, lead="!") for text in facts.warnings[WARNINGS_SHOWN:]
        ]
        story += titled("Further warnings", *more)
    return [*story, *model_figures(facts, png)]


def model_words(facts: Facts) -> list[str]:
    model = facts.training
    if not model:
        return ["There is no model in production yet."]
    held_out = plural(model.get("held_out_clients"), "other client")
    aside = (
        f"{plural(model.get('held_out_rows'), 'row')} of {held_out} were kept aside to judge it."
    )
    if not model.get("held_out_rows"):
        aside = "No row was kept aside to judge it."
    said = [
        f"{str(model.get('kind')).capitalize()}, trained {moment(model.get('trained_at'))} on "
        f"{plural(model.get('rows'), 'row')} of {plural(model.get('clients'), 'client')}, of "
        f"which {count(model.get('left'))} left ({model.get('window', 'all rows')}). {aside}",
        finished(model.get("why")),
    ]
    if dropped := model.get("dropped"):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in dropped.items())
        said.append(f"Columns not used: {reasons}.")
    return [text for text in said if text]


def score_tables(facts: Facts) -> Story:
    """Set every measure on every set of outcomes, and of the model before on the same rows."""
    sets = {name: found for name, found in (facts.score.get("sets") or {}).items() if found}
    columns = [
        (f"{charts.SETS.get(name, name)}{whose}", found, found[model])
        for name in charts.SETS
        if (found := sets.get(name))
        for model, whose in (("candidate", ""), ("champion", ", the model before"))
        if found.get(model)
    ]
    if not columns:
        return titled("Scores", paragraph("The model was not scored on any outcome."))
    rows = [
        [
            "rows (left)",
            *(f"{count(s.get('rows'))} ({count(s.get('left'))})" for _, s, _ in columns),
        ]
    ]
    unknown = []
    for measure, (name, meaning) in MEASURES.items():
        found = [metrics.get(measure) or {} for _, _, metrics in columns]
        if all(finite(value.get("value")) != finite(value.get("value")) for value in found):
            unknown.append(name)
            continue
        say = percent if measure == "precision" else partial(decimal, digits=digits(measure))
        rows.append([f"{name}: {meaning}", *(with_interval(value, say, "–") for value in found)])
    header = ["measure", *(title for title, _, _ in columns)]
    widths = [42, *[132 / len(columns)] * len(columns)]
    made = table(header, rows, widths, numbers=range(1, len(header)))
    note = f"In brackets the 95 % interval. Called: as many as {count(facts.capacity)} calls reach."
    if unknown:
        note += f" So few outcomes say nothing about {', '.join(unknown)}."
    return titled("Scores on outcomes that it had not learned from", made, paragraph(note, NOTE))


def digits(measure: str) -> int:
    return {"lift": 1, "brier": 3, "log_loss": 3}.get(measure, 2)


def comparison(facts: Facts) -> Story:
    """Set the last duel of champion and challenger."""
    duel = facts.decision.get("comparison") or facts.score.get("comparison")
    said = paragraph(last_decision(facts), SMALL)
    if not duel:
        alone = "There was no model before to compare it with."
        return titled("Challenger against champion", said, paragraph(alone, SMALL))
    signed = partial(decimal, sign=True)
    p_value = finite(duel.get("p_value"))
    chance = "p < 0.001" if p_value < 0.001 else f"p = {decimal(p_value)}"
    rows = [
        [words, with_interval(duel.get(key), signed), better]
        for key, words, better in (
            ("roc_auc_difference", f"ROC AUC ({chance})", "above 0"),
            ("log_loss_difference", "Log loss", "below 0"),
            ("brier_difference", "Brier score", "below 0"),
        )
    ]
    on = f"Both were asked about the same {count(duel.get('rows'))} rows, {count(duel.get('left'))}"
    on += " of which left; neither had learned from them."
    header = ["challenger minus champion", "difference (95 % interval)", "better is"]
    made = table(header, rows, [60, 70, 44], numbers=(1,))
    return titled("Challenger against champion", said, made, paragraph(on, NOTE))


def model_figures(facts: Facts, png: Mapping[str, bytes]) -> Story:
    captions = {
        "roc": "How well leaving and staying clients are told apart: the further the line bends to "
        "the upper left, the better.",
        "calibration": "Whether a risk of 20 % means that 20 of 100 leave: the bars should touch "
        "the dashed line.",
        "gain": "What calling is worth: the dashed line is calling without a model.",
        "confusionmatrix": "Right and wrong predictions. The contact list goes by the order of the "
        "risks, not by this cut.",
    }
    cells = [
        [picture(png[name], HALF), paragraph(caption, NOTE)] for name, caption in captions.items()
    ]
    curves = facts.score.get("curves")
    if not curves:
        return []
    on = f"On {plural(curves.get('rows'), 'row')} of test data and unseen clients together, "
    on += f"{count(curves.get('left'))} of which left."
    grid = [paragraph("What the model is worth, in pictures", H3), paragraph(on, NOTE)]
    return [KeepTogether([*grid, side_by_side(*cells[:2]), side_by_side(*cells[2:])])]


def data_section(facts: Facts, png: Mapping[str, bytes]) -> Story:
    """Set what the data is: how much, how complete, what is in each column."""
    story: Story = [paragraph("The data", H2)]
    columns = facts.diagnostics.get("columns") or {}
    if not columns:
        return [*story, paragraph("The data was not examined yet.")]
    if data := facts.diagnostics.get("data"):
        story.append(
            paragraph(
                f"{plural(data.get('rows'), 'row')} of {plural(data.get('clients'), 'client')} "
                f"from {plural(data.get('sources'), 'source')}: {count(data.get('labelled'))} with "
                f"an outcome ({count(data.get('left'))} left), {count(data.get('open'))} "
                f"without one yet. {count(data.get('rejected'))} were refused, with the reason in "
                f"rejected.csv, and {count(data.get('duplicates'))} were repeats."
            )
        )
    numeric = {name: row for name, row in columns.items() if row.get("kind") == "numeric"}
    if numeric:
        header = ["column", "missing", "mean", "std", "min", "5 %", "median", "95 %", "max"]
        rows = [numeric_row(name, row) for name, row in numeric.items()]
        widths = [46, *[16] * 8]
        story += titled("Numbers", table(header, rows, widths, numbers=range(1, 9)))
    categorical = {name: row for name, row in columns.items() if row.get("kind") == "categorical"}
    if categorical:
        header = ["column", "missing", "levels", "most frequent"]
        rows = [categorical_row(name, row) for name, row in categorical.items()]
        story += titled("Categories", table(header, rows, [46, 16, 16, 96], numbers=(1, 2)))
    return [*story, KeepTogether([Spacer(0, 4), picture(png["missing_over_time"], WIDTH)])]


def numeric_row(name: str, row: Row) -> list[str]:
    at = row.get("quantiles") or {}
    values = (
        row.get("mean"),
        row.get("std"),
        row.get("minimum"),
        at.get("0.05"),
        row.get("median"),
        at.get("0.95"),
        row.get("maximum"),
    )
    return [charts.shorten(name, 60), missing(row), *map(plain, values)]


def categorical_row(name: str, row: Row) -> list[str]:
    levels = row.get("levels") or ()
    present = finite(row.get("count")) or 1.0
    said = [
        f"{charts.shorten(str(level), 40)} {percent(finite(number) / present)}"
        for level, number in levels[:LEVELS_SHOWN]
    ]
    most = ", ".join(said) + (", …" if len(levels) > LEVELS_SHOWN else "")
    return [charts.shorten(name, 60), missing(row), count(row.get("distinct")), most or "–"]


def missing(row: Row) -> str:
    return percent(finite(row.get("missing_pct")) / 100)


def drift_section(facts: Facts, png: Mapping[str, bytes]) -> Story:
    """Set whether the clients of today are like those that the model learned from."""
    story: Story = [paragraph("Drift: are today's clients like those the model knows?", H2)]
    found = drift_now(facts)
    if not found.get("columns"):
        return [*story, paragraph(finished(found.get("sentence") or "nothing to compare yet"))]
    verdict = {"stable": "Yes.", "moved": "No.", "insufficient": "Not known yet."}
    lead = verdict.get(str(found.get("verdict")), "")
    story.append(paragraph(finished(found.get("sentence")), lead=lead))
    if is_monitored(facts):
        reason = finished(facts.monitoring.get("reason"))
        story.append(paragraph(reason, lead="What followed for the model:"))
    story += [picture(png["drift"], WIDTH), Spacer(0, 6)]
    rows = [
        [
            "predicted risk" if row.get("kind") == "score" else charts.shorten(row["column"], 60),
            decimal(row.get("psi")) if row.get("psi") is not None else "–",
            small_p(row.get("q_value")),
            percent(finite(row.get("reference_missing_pct")) / 100),
            percent(finite(row.get("missing_pct")) / 100),
            percent(finite(row.get("unseen_pct")) / 100) if row.get("unseen_pct") else "–",
            {"insufficient": "too few rows"}.get(str(row.get("verdict")), row.get("verdict")),
        ]
        for row in sorted(found["columns"], key=lambda row: -(row.get("psi") or 0.0))
    ]
    header = [
        "column",
        "shift (PSI)",
        "chance (q)",
        "missing then",
        "missing now",
        "new levels",
        "",
    ]
    made = table(header, rows, [56, 19, 19, 20, 20, 18, 22], numbers=range(1, 6))
    note = (
        "Look: the shift is real and may be worth a question. Act: it is large enough to change "
        "decisions. q: how often chance alone makes such a shift, corrected for the number of "
        "columns looked at."
    )
    return [*story, CondPageBreak(45 * mm), made, paragraph(note, NOTE)]


def small_p(value: Any) -> str:
    number = finite(value)
    return "–" if number != number else "< 0.001" if number < 0.001 else f"{number:.3f}"


def operations_section(facts: Facts, png: Mapping[str, bytes]) -> Story:
    """Set what the engineer looks at: scores over time, durations, dependencies, history."""
    story: Story = [
        KeepTogether(
            [paragraph("Operations", H2), picture(png["score_over_time"], WIDTH), Spacer(0, 4)]
        )
    ]
    timings = facts.diagnostics.get("timings") or {}
    trend = timings.get("trend") or {}
    rows = [timing_row(step, timings[step], trend) for step in timings if step != "trend"]
    header = ["step", "times run", "median", "last", "trend"]
    nothing = paragraph("No step was timed yet.", SMALL)
    made = table(header, rows, [28, 18, 22, 22, 84], numbers=(1, 2, 3)) if rows else nothing
    story += titled("How long the steps take", made)
    story += dependencies(facts.diagnostics.get("dependencies") or {})
    changes = [
        [minute(row.get("at")), row.get("action"), row.get("release"), row.get("reason")]
        for row in facts.deployments[: -HISTORY_SHOWN - 1 : -1]
    ]
    header = ["when (UTC)", "what", "release", "why"]
    nothing = paragraph("Nothing was deployed yet.", SMALL)
    made = table(header, changes, [27, 20, 48, 79]) if changes else nothing
    story += titled("Deployments, newest first", made)
    runs = [
        [minute(row.get("started_at")), seconds(row.get("elapsed_s")), run_words(row)]
        for row in facts.runs[: -HISTORY_SHOWN - 1 : -1]
    ]
    nothing = paragraph("No run was recorded yet.", SMALL)
    header = ["started (UTC)", "took", "outcome"]
    made = table(header, runs, [27, 20, 127], numbers=(1,)) if runs else nothing
    return [*story, *titled("Runs, newest first", made)]


def timing_row(step: str, timed: Sequence[Row], trend: Row) -> list[str]:
    took = [elapsed for row in timed if (elapsed := finite(row.get("elapsed_s"))) >= 0]
    if not took:
        return [step, "0", "–", "–", str(trend.get(step) or "not run yet")]
    median = statistics.median(took)
    return [step, count(len(took)), seconds(median), seconds(took[-1]), str(trend.get(step, ""))]


def dependencies(found: Row) -> Story:
    """Set the packages, those that are behind first."""
    title = "Dependencies"
    packages = found.get("packages") or ()
    if not packages:
        return titled(title, paragraph("The installed packages were not listed yet.", SMALL))
    behind = [row for row in packages if row.get("outdated")]
    asked = f"Asked {moment(found.get('asked_at'))}: "
    said = asked + f"{count(len(behind))} of {plural(len(packages), 'package')} behind the latest."
    if not found.get("reachable"):
        said = "The package index could not be reached: what the latest versions are is unknown."
    words = {True: "behind", False: "current"}
    rows = [
        [*(row.get(key) or "–" for key in PACKAGE), words.get(row.get("outdated"), UNKNOWN)]
        for row in sorted(packages, key=lambda row: (not row.get("outdated"), str(row.get("name"))))
    ]
    header = ["package", *PACKAGE[1:], ""]
    made = table(header, rows, [50, 34, 34, 34, 22])
    return titled(title, paragraph(said, SMALL), made)


def run_words(row: Row) -> str:
    outcome, reason = row.get("outcome") or "not ended", row.get("reason")
    return f"{outcome}: {reason}" if reason else str(outcome)


# ---- the whole


def draw_figures(facts: Facts) -> dict[str, Figure]:
    """Draw every figure by the name of its file."""
    curves = facts.score.get("curves") or {}
    listed = (facts.assessment.get("list") or {}).get("clients")
    risks = [risk for row in facts.contacts if (risk := finite(row.get("risk"))) >= 0]
    by_risk = facts.order == "risk" and len(risks) > 0
    cut = min(risks) if by_risk else None
    clients = facts.assessment.get("clients")
    return {
        "confusionmatrix": charts.confusion_matrix(
            curves.get("confusion"), threshold=facts.score.get("threshold", 0.5)
        ),
        "roc": charts.roc(curves.get("roc"), curves_area(facts)),
        "calibration": charts.calibration(curves.get("calibration")),
        "gain": charts.gain(curves.get("gain"), called=listed, clients=clients),
        "score_over_time": charts.score_over_time(facts.scores, facts.deployments),
        "missing_over_time": charts.missing_over_time(facts.missing),
        "drift": charts.drift(drift_now(facts).get("columns")),
        "risk_distribution": charts.risk_distribution(
            facts.assessment.get("risk_histogram"), cut=cut, called=listed
        ),
    }


def curves_area(facts: Facts) -> Row | None:
    """Return the ROC AUC of the set that the curve is mostly made of."""
    sets = [found for found in (facts.score.get("sets") or {}).values() if found]
    largest: Row = max(sets, key=lambda found: finite(found.get("rows")), default={})
    area: Row | None = (largest.get("candidate") or {}).get("roc_auc")
    return area


def build_pdf(facts: Facts, png: Mapping[str, bytes]) -> tuple[bytes, int]:
    """Return the report as PDF and its number of pages: same facts, same bytes."""
    register_fonts()
    # Nothing in the data may make the report open a file or an address.
    rl_config.trustedHosts, rl_config.trustedSchemes = [], ["data"]
    gap = CondPageBreak(90 * mm)
    story = [
        *first_page(facts, png),
        CondPageBreak(HEIGHT / 2),
        *model_section(facts, png),
        gap,
        *data_section(facts, png),
        gap,
        *drift_section(facts, png),
        gap,
        *operations_section(facts, png),
    ]
    buffer = io.BytesIO()
    document = BaseDocTemplate(buffer, pagesize=A4, title=TITLE, lang="en", invariant=1)
    frame = Frame(MARGIN, BOTTOM, WIDTH, HEIGHT, 0, 0, 0, 0)
    around = partial(draw_around, running=model_name(facts))
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=around))
    document.build(story)
    return buffer.getvalue(), document.page


def register_fonts() -> None:
    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(charts.font_folder() / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def draw_around(canvas: Canvas, document: Any, *, running: str) -> None:
    """Draw the running header and the page number."""
    canvas.saveState()
    canvas.setFont(FONT, 7)
    canvas.setFillColor(GREY)
    top = A4[1] - 12 * mm
    canvas.drawString(MARGIN, top, TITLE)
    canvas.drawRightString(A4[0] - MARGIN, top, visible(running))
    canvas.setStrokeColor(LIGHT)
    canvas.line(MARGIN, top - 4, A4[0] - MARGIN, top - 4)
    canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"Page {document.page}")
    canvas.restoreState()


# ---- the step


def write_report(config: Config) -> Report:
    """Draw the figures and write the PDF, unless both stand already for the same inputs."""
    disk.finish_commit(config.reports_folder)
    facts = read_facts(config)
    inputs = {
        "release": facts.release or "",
        "history": disk.sha256_bytes(disk.encode(shown_history(facts))),
        "settings": config.fingerprint("currency", "contact_capacity", "contact_order"),
        **{path.name: disk.sha256_file(path) for path in input_files(config)},
    }
    if disk.is_fresh(config.report_record, inputs):
        record = disk.read_record(config.report_record) or {}
        return as_report(record, fresh=True)
    png = {name: charts.png(figure) for name, figure in draw_figures(facts).items()}
    pdf, pages = build_pdf(facts, png)
    files: dict[Path, disk.Content] = {config.figure(name): data for name, data in png.items()}
    files[config.report] = pdf
    record = {
        "inputs": inputs,
        "as_of": facts.as_of,
        "pages": pages,
        "figures": len(png),
        "listed": len(facts.contacts),
    }
    return as_report(disk.commit(config.report_record, files, record), fresh=False)


def as_report(record: Row, *, fresh: bool) -> Report:
    pages, figures, listed = (int(record[name]) for name in ("pages", "figures", "listed"))
    return Report(pages, figures, listed, fresh, str(record["seal"]))


def input_files(config: Config) -> list[Path]:
    return [
        config.decision_record,
        config.monitoring_record,
        config.assessment_record,
        config.contact_list,
        config.diagnostics_record,
    ]


def shown_history(facts: Facts) -> dict[str, Any]:
    """Return what makes a new report necessary: not the runs, or each run would ask for one."""
    return {
        "scores": list(facts.scores),
        "missing": list(facts.missing),
        "deployments": list(facts.deployments),
    }


def read_facts(config: Config) -> Facts:
    """Read all that the other steps wrote.

    Raises: Damaged when a record or the release in production is not what was written.
    """
    try:
        release = releases.read_current(config.production_folder)
    except NoModel:
        release = None
    return Facts(
        release=release.id if release else None,
        training=release.training if release else {},
        score=release.score if release else {},
        decision=disk.read_record(config.decision_record) or {},
        monitoring=disk.read_record(config.monitoring_record) or {},
        assessment=disk.read_record(config.assessment_record) or {},
        diagnostics=disk.read_record(config.diagnostics_record) or {},
        contacts=read_contacts(config.contact_list),
        scores=history.read_scores(config.history),
        missing=history.read_missing(config.history),
        deployments=history.read_deployments(config.history),
        runs=history.read_runs(config.history, HISTORY_SHOWN),
        currency=config.currency,
        capacity=config.contact_capacity,
        order=config.contact_order,
    )


def read_contacts(path: Path) -> list[dict[str, str]]:
    """Read the contact list as it stands; [] when there is none yet."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(argv: list[str] | None = None) -> int:
    """Write the report once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "reporting", write_report)


if __name__ == "__main__":
    sys.exit(main())
