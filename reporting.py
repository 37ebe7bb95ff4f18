"""Step 7: draw the figures and write the PDF report.

Reads:  training.json and score.json of the release in production, practicemodels/decision.json,
        production_deployment/monitoring.json and history.sqlite, reports/assessment.json,
        clients.parquet and diagnostics.json, ingesteddata/ingestion.json (the unused sources); if one
        is missing, the report states that
Writes: reports/*.png (the figures), reports/report.pdf, reports/report.json (the record)
Run:    python reporting.py [--config PATH]
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, Spacer

from attrition import wording
from attrition.config import Config
from attrition.contacts import fields
from attrition.operations import cli, runs
from attrition.reporting import charts, pdf
from attrition.reporting.pdf import Story
from attrition.reporting.report_data import CAPTIONS, ReportData, load_report_data
from attrition.storage import files

Row = Mapping[str, Any]
Pictures = Mapping[str, bytes]

SETTINGS = ("contact_capacity", "contact_order", "currency", "labels", "overdue_minutes")
TITLE = "Client attrition report"
LISTED, LISTED_AT_LEAST, WARNINGS_SHOWN, HISTORY_SHOWN, UNUSED_SHOWN = 12, 10, 4, 8, 20
IN_GALLERY = ("roc", "calibration", "gain", "confusionmatrix")


@dataclass(frozen=True)
class Report:
    """The size of the report."""

    pages: int
    figures: int
    listed: int
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        size = f"report.pdf: {self.pages} pages, {self.figures} figures"
        return f"{size}, {wording.plural(self.listed, 'client')} to contact"


# ---- page one: for the manager of the team


def first_page(facts: ReportData, png: Pictures) -> Story:
    """Lay out page one with at least ten clients; if there is no room, the rest flows to page two."""
    when = f"As of {wording.moment(facts.as_of)}" if facts.as_of else "Nothing was run yet"
    shared = fields.shared_text(facts.assessment, facts.labels)
    above = [
        pdf.title(TITLE),
        pdf.note(f"{when}; {facts.model}"),
        pdf.tiles((number.value, number.label, number.note) for number in facts.numbers),
        pdf.paragraph(facts.state.sentence, lead=f"{facts.state.title}."),
        pdf.paragraph(facts.latest_change, lead="Latest change:"),
        *warning_section(facts),
        pdf.heading("Whom to contact first"),
        *([pdf.small(shared)] if shared else []),
    ]
    note, below = pdf.note(list_note(facts)), risk_section(facts, png)
    room = pdf.HEIGHT - sum(map(pdf.height, (*above, note)))
    listed = contact_section(facts, room - pdf.height(below), least=LISTED_AT_LEAST)
    listed = listed or contact_section(facts, room)
    return [*above, *([listed] if listed else []), note, below]


def warning_section(facts: ReportData) -> Story:
    shown = [pdf.small(warning, lead="!") for warning in facts.warnings[:WARNINGS_SHOWN]]
    if more := len(facts.warnings) - len(shown):
        shown.append(pdf.note(f"{more} more under “The model”."))
    return [pdf.heading("Warnings"), *shown] if shown else []


def contact_section(facts: ReportData, room: float, *, least: int = 1) -> Flowable | None:
    """Lay out as many clients as fit into `room` points; None if fewer than `least` fit."""
    if not facts.contacts:
        why = (
            "there is no current client"
            if facts.assessment
            else "no current client was assessed yet"
        )
        return pdf.paragraph(f"The contact list is empty: {why}.")
    return pdf.largest(
        lambda shown: pdf.contact_table(facts.contacts[:shown], facts.currency, facts.labels),
        range(LISTED, least - 1, -1),
        room,
    )


def list_note(facts: ReportData) -> str:
    if not facts.contacts:
        return ""
    by = "value at risk" if facts.order == "value_at_risk" else "risk"
    reasons = fields.reasons_note(facts.contacts)
    note = f"{reasons} The whole list, by {by}: contactlist.csv.".lstrip()
    before = [row["previous_rank"] for row in facts.contacts]
    if any(before):
        new = sum(rank is None or rank > len(before) for rank in before)
        was = "was" if new == 1 else "were"
        note += f" {new:,} of {len(before):,} {was} not on the last list." if new else ""
    if cautioned := sum(bool(row["cautions"]) for row in facts.contacts):
        need = "risk needs" if cautioned == 1 else "risks need"
        note += f" {cautioned:,} {need} care: see low_confidence there."
    if any("□" in charts.drawable(row["client"]) for row in facts.contacts[:LISTED]):
        note += " □ stands for a character that this report cannot show."
    return note


def risk_section(facts: ReportData, png: Pictures) -> Flowable:
    """Lay out the distribution of the risks, and the listed clients of each manager."""
    beside: Story = []
    if facts.contacts:
        beside.append(pdf.small(wording.contact_list(facts.assessment, facts.currency)))
    beside += pdf.manager_table(facts.contacts, facts.currency)
    return pdf.side_by_side(pdf.picture(png["risk_distribution"], pdf.HALF), beside)


# ---- the pages that follow


def model_section(facts: ReportData, png: Pictures) -> Story:
    """Lay out the model, why it was chosen, and how well it performs."""
    model = facts.training
    sentences = wording.training(model) if model else ["There is no model in production yet."]
    story: Story = [pdf.section("The model"), *map(pdf.paragraph, sentences)]
    if model.get("candidates"):
        story += pdf.with_heading("Candidates", pdf.candidate_table(model["candidates"]))
    if any(facts.importance.values()):
        note = pdf.note(CAPTIONS["importance"])
        story.append(KeepTogether([Spacer(0, 6), pdf.picture(png["importance"]), note]))
    story += score_section(facts) + estimate_section(facts) + comparison_section(facts)
    if more := facts.warnings[WARNINGS_SHOWN:]:
        story += pdf.with_heading("Further warnings", *(pdf.small(text, lead="!") for text in more))
    if curves := facts.score.get("curves"):
        story.append(model_figures(curves, png))
    return story


def score_section(facts: ReportData) -> Story:
    """Lay out the scores on every set of outcomes, beside those of the previous model."""
    scored = wording.scored(facts.sets)
    if not scored:
        return pdf.with_heading("Scores", pdf.paragraph("The model was not scored on any outcome."))
    tables = pdf.score_table(scored, facts.capacity)
    return pdf.with_heading("Scores on rows not used for training", *tables)


def estimate_section(facts: ReportData) -> Story:
    """Lay out the performance estimated for current clients, and how accurate past estimates were."""
    now = facts.assessment.get("estimate")
    if not now:
        return []
    again = facts.assessment["second_opinion"]
    check = f"Check under covariate shift: {again['reason']}."
    content: Story = [
        pdf.paragraph(wording.finished(now["sentence"])),
        pdf.estimate_table(now, again["estimate"]),
        pdf.small(check),
    ]
    content += [pdf.small(warning, lead="!") for warning in now["warnings"]]
    if facts.estimates:
        content += [Spacer(0, 4), pdf.accuracy_table(facts.estimates)]
    else:
        content.append(pdf.small("No estimate has been checked against outcomes yet."))
    return pdf.with_heading("Estimated performance (outcomes still unknown)", *content)


def comparison_section(facts: ReportData) -> Story:
    """Lay out the last comparison of challenger and champion."""
    record, sentences = facts.decision or facts.score, facts.latest_events
    if facts.decision and (decision := wording.decision(facts.decision)) not in sentences:
        sentences = [decision, *sentences]
    champion = (
        "No candidate was compared with it."
        if record.get("champion")
        else ("There was no previous model to compare it with.")
    )
    content: Story = [pdf.small(champion)]
    if comparison := record.get("comparison"):
        content = pdf.comparison_table(comparison)
    return pdf.with_heading("Challenger against champion", pdf.small(" ".join(sentences)), *content)


def model_figures(curves: Row, png: Pictures) -> Flowable:
    on = (
        f"On {wording.plural(curves['rows'], 'row')} of test data and held-out clients together, "
        f"with {wording.plural(curves['left'], 'leaver')}."
    )
    heading = pdf.heading("Model quality in figures")
    pictures = pdf.gallery((png[name], CAPTIONS[name]) for name in IN_GALLERY)
    return KeepTogether([heading, pdf.note(on), *pictures])


def data_section(facts: ReportData, png: Pictures) -> Story:
    """Lay out the size of the data, its missing values, and a summary of each column."""
    story: Story = [pdf.section("The data"), *unused_section(facts)]
    record = facts.diagnostics
    if not facts.columns:
        return [*story, pdf.paragraph("The data has not been examined yet.")]
    story.append(pdf.paragraph(wording.rows_read(record["data"])))
    for kind, title, set_table in (
        ("numeric", "Numbers", pdf.number_table),
        ("categorical", "Categories", pdf.category_table),
    ):
        columns = {name: row for name, row in facts.columns.items() if row["kind"] == kind}
        if columns:
            story += pdf.with_heading(title, set_table(columns))
    return [*story, pdf.picture(png["missing_over_time"])]


def unused_section(facts: ReportData) -> Story:
    """Lay out the sources of which nothing is used, and what to do about each."""
    lines = wording.unused_lines(facts.unused, UNUSED_SHOWN)
    shown = [pdf.small(wording.finished(line), lead="!") for line in lines]
    return pdf.with_heading("Sources that are not used", *shown) if shown else []


def drift_section(facts: ReportData, png: Pictures) -> Story:
    """Lay out the drift of the current clients from the rows that the model was trained on."""
    story: Story = [
        pdf.section("Data drift: current clients compared with the training data"),
        pdf.paragraph(facts.drift_sentence),
    ]
    if not facts.drift.get("columns"):
        return story
    if facts.is_monitored:
        reason = wording.finished(facts.monitoring["reason"])
        story.append(pdf.paragraph(reason, lead="Consequence for the model:"))
    note = pdf.note(
        "Minor: a real shift that may need an explanation. Material: large enough to change decisions. "
        "PSI: population stability index, corrected for sampling noise. q: false discovery rate at "
        "which this column would be flagged (Benjamini-Hochberg). Importance: the column's share of "
        "the model's feature importance; drift in a column of little importance changes no decision."
    )
    story += [pdf.picture(png["drift"]), Spacer(0, 6), CondPageBreak(45 * mm)]
    return [*story, pdf.drift_table(facts.drift["columns"]), note]


def operations_section(facts: ReportData, png: Pictures) -> Story:
    """Lay out what an engineer needs: scores over time, durations, dependencies, history."""
    newest = slice(None, -HISTORY_SHOWN - 1, -1)
    durations = pdf.duration_table(facts.diagnostics.get("timings") or {})
    dependencies: Row = facts.diagnostics.get("dependencies") or {}
    packages: Story = [pdf.small(wording.packages(dependencies))]
    if dependencies.get("packages"):
        packages.append(pdf.package_table(dependencies["packages"]))
    deployments, worked_runs = facts.deployments[newest], facts.worked_runs[newest]
    counts = runs.tally(facts.runs, facts.now) if facts.as_of else {}
    recent = wording.runs(wording.moment(facts.good_at) if facts.good_at else "none yet", counts)
    return [
        KeepTogether([pdf.section("Operations"), pdf.picture(png["score_over_time"])]),
        *pdf.with_heading("How long the steps take", durations),
        *pdf.with_heading("Dependencies", *packages),
        *pdf.with_heading("Deployments, newest first", pdf.deployment_table(deployments)),
        *pdf.with_heading("Runs, newest first", pdf.small(recent), pdf.run_table(worked_runs)),
    ]


# ---- the whole


def draw_figures(facts: ReportData) -> dict[str, Figure]:
    """Draw every figure; return them by the names of their files."""
    now, score, curves = facts.assessment, facts.score, facts.score.get("curves") or {}
    listed = now.get("list", {}).get("clients")
    risks = [wording.finite(row["risk"]) for row in facts.contacts] if facts.order == "risk" else []
    # The curve covers both sets; the AUC beside it is that of the larger one, with its interval.
    sets = [(score.get("sets") or {}).get(name) or {} for name in ("test", "unseen")]
    largest: Row = max(sets, key=lambda one: one.get("rows", 0))
    area = (largest.get("candidate") or {}).get("roc_auc")
    return {
        "confusionmatrix": charts.confusion_matrix(
            curves.get("confusion"), threshold=score.get("threshold", 0.5)
        ),
        "roc": charts.roc(curves.get("roc"), area),
        "calibration": charts.calibration(curves.get("calibration")),
        "gain": charts.gain(curves.get("gain"), called=listed, clients=now.get("clients")),
        "importance": charts.importance(facts.importance),
        "score_over_time": charts.score_over_time(facts.scores, facts.deployments),
        "missing_over_time": charts.missing_over_time(facts.labelled(facts.missing)),
        "drift": charts.drift(facts.drift.get("columns")),
        "risk_distribution": charts.risk_distribution(
            now.get("risk_histogram"), cut=min(risks, default=None), called=listed
        ),
    }


def build_pdf(facts: ReportData, png: Pictures) -> tuple[bytes, int]:
    """Build the PDF and return it with its number of pages; if the facts are equal, so are the bytes."""
    pdf.register_fonts()
    story = [*first_page(facts, png), CondPageBreak(pdf.HEIGHT / 2), *model_section(facts, png)]
    for section in (data_section, drift_section, operations_section):
        story += [CondPageBreak(90 * mm), *section(facts, png)]
    return pdf.build(story, name=TITLE, running=facts.model)


# ---- the step


def write_report(config: Config, unavailable: Sequence[str] | None = None) -> Report:
    """Draw the figures and write the PDF, if they are not up to date.

    unavailable: the sources that cannot be read now; if None, those of the last run.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    facts = load_report_data(config, unavailable)
    # Without the runs: if they counted, every run would require a new report.
    shown = {name: list(getattr(facts, name)) for name in ("scores", "missing", "deployments")}
    read = (
        config.decision_record,
        config.monitoring_record,
        config.assessment_record,
        config.diagnostics_record,
    )
    inputs = {
        "release": facts.release or "",
        "unavailable": files.sha256_bytes("\n".join(facts.unavailable).encode())
        if facts.unavailable
        else "",
        "unused": files.sha256_bytes(files.encode({"unused": list(facts.unused)}))
        if facts.unused
        else "",
        "history": files.sha256_bytes(files.encode(shown)),
        "settings": config.fingerprint(),
        **{path.name: files.sha256_file(path) for path in read},
    }
    if (record := files.read_if_up_to_date(config.report_record, inputs)) is not None:
        return _report(record, up_to_date=True)
    png = {name: charts.png(figure) for name, figure in draw_figures(facts).items()}
    document, n_pages = build_pdf(facts, png)
    contents: dict[Path, files.Content] = {config.figure(name): data for name, data in png.items()}
    contents[config.report] = document
    counts = {"pages": n_pages, "figures": len(png), "listed": len(facts.contacts)}
    record = {"inputs": inputs, "as_of": facts.as_of, **counts}
    return _report(files.commit(config.report_record, contents, record), up_to_date=False)


def _report(record: Row, *, up_to_date: bool) -> Report:
    pages, figures, listed = (int(record[name]) for name in ("pages", "figures", "listed"))
    return Report(pages, figures, listed, up_to_date, str(record["seal"]))


def main(argv: list[str] | None = None) -> int:
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "reporting", write_report)


if __name__ == "__main__":
    sys.exit(main())
