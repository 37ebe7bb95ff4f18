"""Step 7: draw the figures and write the PDF that people read in the morning.

Reads:  training.json and score.json of the release in production, practicemodels/decision.json,
        production_deployment/monitoring.json and history.sqlite, reports/assessment.json,
        clients.parquet and diagnostics.json; whatever of it is not there yet is said to be missing
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
from attrition.operations import cli, runs
from attrition.reporting import charts, pdf
from attrition.reporting.pdf import Story
from attrition.reporting.report_data import CAPTIONS, ReportData, load_report_data
from attrition.storage import files

Row = Mapping[str, Any]
Pictures = Mapping[str, bytes]

SETTINGS = ("contact_capacity", "contact_order", "currency", "overdue_minutes")
TITLE = "Client attrition report"
LISTED, LISTED_AT_LEAST, WARNINGS_SHOWN, HISTORY_SHOWN = 12, 10, 4, 8
IN_GALLERY = ("roc", "calibration", "gain", "confusionmatrix")


@dataclass(frozen=True)
class Report:
    """What was written, or stood already."""

    pages: int
    figures: int
    listed: int
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        what = f"report.pdf: {self.pages} pages, {self.figures} figures"
        return f"{what}, {wording.plural(self.listed, 'client')} to contact"


# ---- page one: what the manager of the team reads in a minute


def first_page(facts: ReportData, png: Pictures) -> Story:
    """Set the first page: the list has ten clients or more, and what is below it may move on."""
    when = f"As of {wording.moment(facts.as_of)}" if facts.as_of else "Nothing was run yet"
    above = [
        pdf.title(TITLE),
        pdf.note(f"{when}; {facts.model}"),
        pdf.tiles((number.value, number.label, number.note) for number in facts.numbers),
        pdf.paragraph(facts.state.sentence, lead=f"{facts.state.title}."),
        pdf.paragraph(wording.decision(facts.decision), lead="Latest change:"),
        *warnings(facts),
        pdf.heading("Whom to contact first"),
    ]
    note, below = pdf.note(list_note(facts)), clients_today(facts, png)
    room = pdf.HEIGHT - sum(map(pdf.height, (*above, note)))
    listed = contact_list(facts, room - pdf.height(below), least=LISTED_AT_LEAST)
    listed = listed or contact_list(facts, room)
    return [*above, *([listed] if listed else []), note, below]


def warnings(facts: ReportData) -> Story:
    shown = [pdf.small(warning, lead="!") for warning in facts.warnings[:WARNINGS_SHOWN]]
    if more := len(facts.warnings) - len(shown):
        shown.append(pdf.note(f"{more} more under “The model”."))
    return [pdf.heading("Warnings"), *shown] if shown else []


def contact_list(facts: ReportData, room: float, *, least: int = 1) -> Flowable | None:
    """Set the first clients of the list, as many as fit into `room` points."""
    if not facts.contacts:
        return pdf.paragraph("The contact list is empty: no current client was assessed yet.")
    return pdf.largest(
        lambda shown: pdf.contact_table(facts.contacts[:shown], facts.currency),
        range(LISTED, least - 1, -1),
        room,
    )


def list_note(facts: ReportData) -> str:
    if not facts.contacts:
        return ""
    by = "value at risk" if facts.order == "value_at_risk" else "risk"
    said = f"The whole list, by {by}, with all reasons: contactlist.csv."
    new = sum(row["previous_rank"] is None for row in facts.contacts)
    if new < len(facts.contacts):
        said += f" {new:,} of {len(facts.contacts):,} were not on the last list."
    if cautioned := sum(bool(row["cautions"]) for row in facts.contacts):
        said += f" {cautioned:,} risks are to be read with care: see low_confidence there."
    if any("□" in charts.drawable(row["client"]) for row in facts.contacts[:LISTED]):
        said += " □ stands for a character that this report cannot show."
    return said


def clients_today(facts: ReportData, png: Pictures) -> Flowable:
    """Set how the risk is spread, and whose clients are on the list."""
    said: Story = []
    if facts.assessment:
        said.append(pdf.small(wording.contact_list(facts.assessment, facts.currency)))
    said += pdf.manager_table(facts.contacts, facts.currency)
    return pdf.side_by_side(pdf.picture(png["risk_distribution"], pdf.HALF), said)


# ---- the pages that follow


def model_section(facts: ReportData, png: Pictures) -> Story:
    """Set what the model is, why it was chosen, and what it is worth."""
    model = facts.training
    said = wording.training(model) if model else ["There is no model in production yet."]
    story: Story = [pdf.section("The model"), *map(pdf.paragraph, said)]
    if model.get("candidates"):
        story += pdf.with_heading("Candidates", pdf.candidate_table(model["candidates"]))
    if any((model.get("importance") or {}).values()):
        story.append(importance(png))
    story += scores(facts) + estimated(facts) + duel(facts)
    if more := facts.warnings[WARNINGS_SHOWN:]:
        story += pdf.with_heading("Further warnings", *(pdf.small(text, lead="!") for text in more))
    if curves := facts.score.get("curves"):
        story.append(model_figures(curves, png))
    return story


def importance(png: Pictures) -> Flowable:
    note = pdf.note(CAPTIONS["importance"])
    return KeepTogether([Spacer(0, 6), pdf.picture(png["importance"]), note])


def scores(facts: ReportData) -> Story:
    """Set the scores on every set of outcomes, and those of the previous model on the same rows."""
    scored = wording.scored(facts.sets)
    if not scored:
        return pdf.with_heading("Scores", pdf.paragraph("The model was not scored on any outcome."))
    made = pdf.score_table(scored, facts.capacity)
    return pdf.with_heading("Scores on rows not used for training", *made)


def estimated(facts: ReportData) -> Story:
    """Set the performance estimated for current clients, and how accurate past estimates were."""
    now = facts.assessment.get("estimate")
    if not now:
        return []
    again = facts.assessment["second_opinion"]
    check = f"Check under covariate shift: {again['reason']}."
    made: Story = [
        pdf.paragraph(wording.finished(now["sentence"])),
        pdf.estimate_table(now, again["estimate"]),
        pdf.small(check),
    ]
    made += [pdf.small(warning, lead="!") for warning in now["warnings"]]
    if facts.estimates:
        made += [Spacer(0, 4), pdf.accuracy_table(facts.estimates)]
    else:
        made.append(pdf.small("No estimate has been checked against outcomes yet."))
    return pdf.with_heading("Estimated performance (outcomes still unknown)", *made)


def duel(facts: ReportData) -> Story:
    """Set the last comparison of challenger and champion."""
    found = facts.decision.get("comparison") or facts.score.get("comparison")
    made: Story = [pdf.small("There was no previous model to compare it with.")]
    if found:
        made = pdf.comparison_table(found)
    decision = pdf.small(wording.decision(facts.decision))
    return pdf.with_heading("Challenger against champion", decision, *made)


def model_figures(curves: Row, png: Pictures) -> Flowable:
    on = (
        f"On {wording.plural(curves['rows'], 'row')} of test data and held-out clients together, "
        f"with {wording.plural(curves['left'], 'leaver')}."
    )
    heading = pdf.heading("Model quality in figures")
    pictures = pdf.gallery((png[name], CAPTIONS[name]) for name in IN_GALLERY)
    return KeepTogether([heading, pdf.note(on), *pictures])


def data_section(facts: ReportData, png: Pictures) -> Story:
    """Set what the data is: how much, how complete, what is in each column."""
    story: Story = [pdf.section("The data")]
    found = facts.diagnostics
    if not found.get("columns"):
        return [*story, pdf.paragraph("The data has not been examined yet.")]
    story.append(pdf.paragraph(wording.rows_read(found["data"])))
    for kind, title, set_table in (
        ("numeric", "Numbers", pdf.number_table),
        ("categorical", "Categories", pdf.category_table),
    ):
        columns = {name: row for name, row in found["columns"].items() if row["kind"] == kind}
        if columns:
            story += pdf.with_heading(title, set_table(columns))
    return [*story, pdf.picture(png["missing_over_time"])]


def drift_section(facts: ReportData, png: Pictures) -> Story:
    """Set how far current clients have drifted from the rows that the model was trained on."""
    story: Story = [
        pdf.section("Data drift: current clients compared with the training data"),
        pdf.paragraph(facts.drift_sentence),
    ]
    if not facts.drift.get("columns"):
        return story
    if facts.is_monitored:
        reason = wording.finished(facts.monitoring["reason"])
        story.append(pdf.paragraph(reason, lead="What followed for the model:"))
    note = pdf.note(
        "Minor: a real shift that may need an explanation. Material: large enough to change decisions. "
        "PSI: population stability index, corrected for sampling noise. q: false discovery rate at "
        "which this column would be flagged (Benjamini-Hochberg). Importance: the column's share of "
        "the model's feature importance; drift in a column of little importance changes no decision."
    )
    story += [pdf.picture(png["drift"]), Spacer(0, 6), CondPageBreak(45 * mm)]
    return [*story, pdf.drift_table(facts.drift["columns"]), note]


def operations_section(facts: ReportData, png: Pictures) -> Story:
    """Set what the engineer looks at: scores over time, durations, dependencies, history."""
    newest = slice(None, -HISTORY_SHOWN - 1, -1)
    durations = pdf.duration_table(facts.diagnostics.get("timings") or {})
    dependencies: Row = facts.diagnostics.get("dependencies") or {}
    packages: Story = [pdf.small(wording.packages(dependencies))]
    if dependencies.get("packages"):
        packages.append(pdf.package_table(dependencies["packages"]))
    deployments, worked_runs = facts.deployments[newest], facts.worked_runs[newest]
    return [
        KeepTogether([pdf.section("Operations"), pdf.picture(png["score_over_time"])]),
        *pdf.with_heading("How long the steps take", durations),
        *pdf.with_heading("Dependencies", *packages),
        *pdf.with_heading("Deployments, newest first", pdf.deployment_table(deployments)),
        *pdf.with_heading(
            "Runs, newest first", pdf.small(recent_runs(facts)), pdf.run_table(worked_runs)
        ),
    ]


def recent_runs(facts: ReportData) -> str:
    counts = runs.tally(facts.runs, facts.now) if facts.as_of else {}
    return wording.runs(wording.moment(facts.good_at), counts)


# ---- the whole


def draw_figures(facts: ReportData) -> dict[str, Figure]:
    """Draw every figure by the name of its file."""
    now, score, curves = facts.assessment, facts.score, facts.score.get("curves") or {}
    listed = now.get("list", {}).get("clients")
    risks = [wording.finite(row["risk"]) for row in facts.contacts] if facts.order == "risk" else []
    # The curve is mostly made of the largest set, whose area stands for it.
    drawn = [found for name in ("test", "unseen") if (found := (score.get("sets") or {}).get(name))]
    largest: Row = max(drawn, key=lambda found: found["rows"], default={})
    area = (largest.get("candidate") or {}).get("roc_auc")
    return {
        "confusionmatrix": charts.confusion_matrix(
            curves.get("confusion"), threshold=score.get("threshold", 0.5)
        ),
        "roc": charts.roc(curves.get("roc"), area),
        "calibration": charts.calibration(curves.get("calibration")),
        "gain": charts.gain(curves.get("gain"), called=listed, clients=now.get("clients")),
        "importance": charts.importance(facts.training.get("importance")),
        "score_over_time": charts.score_over_time(facts.scores, facts.deployments),
        "missing_over_time": charts.missing_over_time(facts.missing),
        "drift": charts.drift(facts.drift.get("columns")),
        "risk_distribution": charts.risk_distribution(
            now.get("risk_histogram"), cut=min(risks, default=None), called=listed
        ),
    }


def build_pdf(facts: ReportData, png: Pictures) -> tuple[bytes, int]:
    """Return the report as PDF and its number of pages: same facts, same bytes."""
    pdf.register_fonts()
    story = [*first_page(facts, png), CondPageBreak(pdf.HEIGHT / 2), *model_section(facts, png)]
    for section in (data_section, drift_section, operations_section):
        story += [CondPageBreak(90 * mm), *section(facts, png)]
    return pdf.build(story, name=TITLE, running=facts.model)


# ---- the step


def write_report(config: Config, unavailable: Sequence[str] | None = None) -> Report:
    """Draw the figures and write the PDF, unless both stand already for the same inputs.

    held: the sources that cannot be read now; None for those of the last run.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    facts = load_report_data(config, unavailable)
    # Not the runs: each run would ask for a new report of itself.
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
    """Write the report once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "reporting", write_report)


if __name__ == "__main__":
    sys.exit(main())
