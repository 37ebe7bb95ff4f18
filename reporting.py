"""Step 7: draw the figures, write the PDF report and the Excel sheets to fill in; print one list.

Reads:  training.json and score.json of the release in production, practicemodels/decision.json,
        production_deployment/monitoring.json and history.sqlite, reports/assessment.json,
        clients.parquet and diagnostics.json, ingesteddata/ingestion.json (the unused sources); if one
        is missing, the report states that
        For --manager: reports/clients.parquet and the contact log, as they are now
Writes: reports/*.png (the figures), reports/report.pdf, reports/contactlist.xlsx and
        reports/list-*.xlsx (the list, and that of each client manager, to fill in),
        reports/report.json (the record);
        for --manager only reports/list-*.pdf, pages to print and to write on
Run:    python reporting.py [--config PATH] [--manager NAME]
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, PageBreak, Spacer

from attrition import __version__, wording
from attrition.config import Config
from attrition.contacts import fields, ranking, sentences
from attrition.contacts.desk import Desk
from attrition.contacts.standings import Standing
from attrition.contacts.worklist import LISTED as ON_THE_LIST
from attrition.contacts.worklist import Filters, contact_fields
from attrition.effect import sentences as effect
from attrition.entering import workbook
from attrition.errors import ConfigError, Damaged
from attrition.operations import cli, runs
from attrition.reporting import pdf, style, svg
from attrition.reporting.pdf import Story
from attrition.reporting.report_data import (
    CAPTIONS,
    ReportData,
    light,
    load_report_data,
    open_clients,
)
from attrition.storage import files

Row = Mapping[str, Any]
Pictures = Mapping[str, bytes]

SETTINGS = (
    *("contact_capacity", "contact_order", "currency", "labels", "overdue_minutes"),
    *("cooldown_reached_days", "cooldown_not_reached_days", "time_zone"),
)
TITLE, DOES_IT_HELP = "Client attrition report", "Does calling help?"
LISTED, LISTED_IN_ALL, WARNINGS_SHOWN, HISTORY_SHOWN, UNUSED_SHOWN = 10, 500, 4, 8, 20
TOO_FEW_SAVES = "Saves are not counted per client manager: they are too few to compare."
DAYS_SHOWN, TITLE_WIDTH = 14, 90
NO_MANAGER = "Clients without a client manager"
BLOCKS = {
    ranking.OVERDUE: ("Overdue", "overdue"),
    ranking.DUE: ("Due today", "due today"),
    ranking.NEW: ("New or risen", "new or risen"),
    ranking.OTHER: ("Also on the list", "also on the list"),
}
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


# ---- page one: for the lead of the team


def first_page(facts: ReportData) -> Story:
    """Lay out page one: what is at stake, whether the model is healthy, what changed, ten clients."""
    when = f"As of {wording.moment(facts.as_of)}" if facts.as_of else "Nothing was run yet"
    story = [
        pdf.title(TITLE),
        pdf.note(f"{when}; {facts.model}"),
        pdf.tiles((number.value, number.label, number.note) for number in facts.numbers),
        *light_section(facts),
        *effect_line(facts),
        *change_section(facts),
        pdf.heading("Whom to contact first"),
    ]
    note = pdf.note(list_note(facts))
    room = pdf.HEIGHT - sum(map(pdf.height, (*story, note)))
    return [*story, contact_section(facts, room), note]


def light_section(facts: ReportData) -> Story:
    """Lay out the traffic light, and the warnings that it does not rest on."""
    judged = light(facts)
    lines = [
        pdf.paragraph(judged.sentence, lead=f"Is the model healthy? {judged.colour.capitalize()}.")
    ]
    if judged.action:
        lines.append(pdf.paragraph(judged.action, lead="What to do:"))
    warnings = [pdf.small(text, lead="!") for text in facts.warnings[:WARNINGS_SHOWN]]
    if more := len(facts.warnings) - len(warnings):
        warnings.append(pdf.note(f"{more} more under “The model”."))
    return [pdf.light(judged.colour, lines), *warnings]


def effect_line(facts: ReportData) -> Story:
    """Lay out whether contacting helps in one line, if an experiment was begun."""
    record = facts.assessment.get("experiment")
    if not record:
        return []
    return [pdf.small(effect.verdict(record, facts.currency).headline, lead=DOES_IT_HELP)]


def change_section(facts: ReportData) -> Story:
    """Lay out what changed since the list of an earlier day."""
    since = facts.assessment.get("changes_since")
    day = f" of {wording.day(since)}" if since else ""
    return [
        pdf.heading(f"What changed since the last list{day}"),
        *(pdf.small(wording.finished(sentence), lead="•") for sentence in facts.changes),
    ]


def contact_section(facts: ReportData, room: float) -> Flowable:
    """Lay out the first ten clients, or as many as fit into `room` points."""
    if not facts.contacts:
        why = (
            "there is no current client"
            if facts.assessment
            else "no current client was assessed yet"
        )
        return pdf.paragraph(f"The contact list is empty: {why}.")
    table = pdf.largest(
        lambda shown: pdf.contact_table(facts.contacts[:shown], facts.currency, facts.labels),
        range(LISTED, 0, -1),
        room,
    )
    return table or pdf.note("There is no room on this page: see “The list”.")


def list_note(facts: ReportData) -> str:
    """Describe how to read the list."""
    notes = [fields.reasons_note(facts.contacts[:LISTED])]
    if cautioned := sum(bool(row["cautions"]) for row in facts.contacts):
        need = "risk needs" if cautioned == 1 else "risks need"
        notes.append(f"{cautioned:,} {need} care: see low_confidence in contactlist.csv.")
    if any("□" in style.drawable(row["client"]) for row in facts.contacts[:LISTED]):
        notes.append("□ stands for a character that this report cannot show.")
    return " ".join(filter(None, notes))


# ---- the pages that follow


def risk_section(facts: ReportData, png: Pictures) -> Flowable:
    """Lay out the distribution of the risks, what the list covers, and who is not on it."""
    now, currency = facts.assessment, facts.currency
    notes = [wording.contact_list(now, currency)] if facts.contacts else []
    notes += [*wording.list_notes(now, currency), fields.shared_text(now, facts.labels)]
    picture = pdf.picture(png["risk_distribution"], pdf.HALF)
    return pdf.side_by_side(picture, [pdf.small(note) for note in notes if note])


def list_section(facts: ReportData) -> Story:
    """Lay out the work of the team, and the whole list; if there is none, why it is empty."""
    story: Story = []
    if team := facts.team:
        story += pdf.with_heading("Client managers", pdf.team_table(team, facts.currency))
        story.append(pdf.note(TOO_FEW_SAVES))
    if facts.contacts:
        by = "value at risk" if facts.order == "value_at_risk" else "risk"
        shown = facts.contacts[:LISTED_IN_ALL]
        note = f"{wording.plural(len(facts.contacts), 'client')}, by {by}."
        if more := len(facts.contacts) - len(shown):
            note += f" The other {more:,}: contactlist.csv."
        table = pdf.contact_table(shown, facts.currency, facts.labels, is_compact=True)
        story += pdf.with_heading("Whom to contact", pdf.note(note), table)
    return story or [contact_section(facts, pdf.HEIGHT)]


def effect_section(facts: ReportData) -> Story:
    """Lay out whether contacting helps, and what that rests on; nobody is named."""
    record = facts.assessment.get("experiment")
    if not record:
        return []
    verdict = effect.verdict(record, facts.currency)
    chart = svg.effect_by_look(effect.looks_of(record))
    texts = [("", effect.held_out(record)), *effect.background(record)]
    rests_on: Story = [pdf.small(text, lead=term and f"{term}:") for term, text in texts if text]
    if chart.drawing:
        drawn = pdf.drawing(chart.drawing, pdf.HALF)
        picture = [pdf.small("", lead=chart.title), pdf.note(chart.note), drawn]
        rests_on = [pdf.side_by_side(picture, rests_on), Spacer(0, 6)]
    columns, rows = effect.arm_table(record)
    titles = {title: 34 if i == 0 else 20 for i, (title, _) in enumerate(columns)}
    return pdf.with_heading(
        DOES_IT_HELP,
        pdf.paragraph(verdict.detail, lead=verdict.headline),
        *(pdf.small(text, lead="!") for text in effect.remarks(record)),
        *rests_on,
        pdf.table(titles, rows, numbers=range(1, len(columns))),
        pdf.note(effect.ARM_NOTE),
    )


def model_section(facts: ReportData, png: Pictures) -> Story:
    """Lay out the model, why it was chosen, and how well it performs."""
    model = facts.training
    sentences = wording.training(model) if model else ["There is no model in production yet."]
    story: Story = [pdf.section("The model"), *map(pdf.paragraph, sentences)]
    if model.get("candidates"):
        story += pdf.with_heading("Candidates", pdf.candidate_table(model["candidates"]))
    if points := wording.learning_curve(model):
        story += pdf.with_heading("Learning curve", pdf.curve_table(points))
    if any(facts.importance.values()):
        note = pdf.note(CAPTIONS["importance"])
        story.append(KeepTogether([Spacer(0, 6), pdf.picture(png["importance"]), note]))
    story += [*score_section(facts), pdf.picture(png["score_over_time"])]
    story += estimate_section(facts) + comparison_section(facts)
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
    story: Story = [pdf.section("Data and drift"), *unused_section(facts)]
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
    story = pdf.with_heading(
        "Drift: current clients compared with the training data",
        pdf.paragraph(facts.drift_sentence),
    )
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


def system_section(facts: ReportData) -> Story:
    """Lay out what an engineer needs: runs, durations, deployments, dependencies."""
    newest = facts.worked_runs[: -HISTORY_SHOWN - 1 : -1]
    counts = runs.tally(facts.runs, facts.now) if facts.as_of else {}
    recent = wording.runs(wording.moment(facts.good_at) if facts.good_at else "none yet", counts)
    days = facts.earlier_days(len(newest))[:DAYS_SHOWN]
    dependencies: Row = facts.diagnostics.get("dependencies") or {}
    packages: Story = [pdf.small(wording.packages(dependencies))]
    if dependencies.get("packages"):
        packages.append(pdf.package_table(dependencies["packages"]))
    timings = facts.diagnostics.get("timings") or {}
    doubled = [pdf.small(f"{text}.") for text in timings.get("doubled", [])]
    deployments = pdf.deployment_table(facts.deployments[: -HISTORY_SHOWN - 1 : -1])
    return [
        pdf.section("System"),
        *pdf.with_heading("Runs, newest first", pdf.small(recent), pdf.run_table(newest)),
        *([pdf.day_table(days)] if days else []),
        *pdf.with_heading("What the steps cost", *doubled, pdf.duration_table(timings)),
        *pdf.with_heading("Deployments, newest first", deployments),
        *pdf.with_heading("Dependencies", *packages),
    ]


# ---- the whole


def figure_data(facts: ReportData) -> dict[str, dict[str, Any]]:
    """Return the data of every figure by its name: the arguments of its function in `charts`.

    None is of the list, which changes with every contact: only another model or other data draws anew.
    """
    now, score, curves = facts.assessment, facts.score, facts.score.get("curves") or {}
    # The curve covers both sets; the AUC beside it is that of the larger one, with its interval.
    sets = [(score.get("sets") or {}).get(name) or {} for name in ("test", "unseen")]
    largest: Row = max(sets, key=lambda one: one.get("rows", 0))
    clients = now.get("clients")
    return {
        "confusionmatrix": {
            "counts": curves.get("confusion"),
            "threshold": score.get("threshold", 0.5),
        },
        "roc": {
            "curve": curves.get("roc"),
            "area": (largest.get("candidate") or {}).get("roc_auc"),
        },
        "calibration": {"groups": curves.get("calibration")},
        "gain": {
            "curve": curves.get("gain"),
            "called": clients and min(facts.capacity, clients),
            "clients": clients,
        },
        "importance": {"shares": facts.importance},
        "score_over_time": {"scores": facts.scores, "deployments": facts.deployments},
        "missing_over_time": {"rows": facts.labelled(facts.missing)},
        "drift": {"columns": facts.drift.get("columns")},
        "risk_distribution": {"histogram": now.get("risk_histogram")},
    }


def build_pdf(facts: ReportData, png: Pictures) -> tuple[bytes, int]:
    """Build the PDF and return it with its number of pages; if the facts are equal, so are the bytes."""
    pdf.register_fonts()
    first, risks = first_page(facts), risk_section(facts, png)
    is_room = sum(map(pdf.height, (*first, risks))) <= pdf.HEIGHT
    story = [*first, risks, PageBreak()] if is_room else [*first, PageBreak()]
    story += [pdf.section("The list"), *([] if is_room else [risks]), *list_section(facts)]
    story += effect_section(facts)
    story += [CondPageBreak(90 * mm), *model_section(facts, png)]
    story += [CondPageBreak(90 * mm), *data_section(facts, png), *drift_section(facts, png)]
    story += [CondPageBreak(90 * mm), *system_section(facts)]
    return pdf.build(story, name=TITLE, running=facts.model)


# ---- the pages of one client manager


def manager_pages(
    rows: Sequence[Row], manager: str, day: str, currency: str, labels: fields.Labels
) -> Story:
    """Lay out the clients of a client manager in the blocks of the day, to print and write on.

    rows: those on the list, as `Worklist.rows` returns them
    """
    own = {block: [row for row in rows if row["block"] == block] for block in BLOCKS}
    counts = ", ".join(
        f"{len(own[block]):,} {name}" for block, (_, name) in BLOCKS.items() if own[block]
    )
    size = f"{sentences.long_day(day)}: {wording.plural(len(rows), 'client')} to contact"
    story: Story = [
        pdf.title(wording.shorten(manager, TITLE_WIDTH) or NO_MANAGER),
        pdf.note(f"{size}: {counts}." if rows else f"{size}."),
    ]
    for block, (title, _) in BLOCKS.items():
        if own[block]:
            story += pdf.with_heading(title, pdf.call_table(own[block], day, currency, labels))
    return story


def write_manager_pages(config: Config, manager: str, at: str) -> Path:
    """Write the list of a client manager as it is at a time, and return the path.

    manager: "" for the clients without one

    Raises: ConfigError if no client has this manager; Damaged, NoRows.
    """
    table, record = open_clients(config)
    worklist, _ = Desk(config).worklist(table, at, record)
    names = {*worklist.book.managers, *(one.manager for one in worklist.standings.values())}
    if manager not in names:
        known = ", ".join(repr(name) for name in sorted(names) if name)
        raise ConfigError(
            f"--manager {manager!r}: no client has this client manager; expected one of: "
            f'{known or "nobody"}, or "" for the clients without one'
        )
    places = worklist.select(ON_THE_LIST, Filters(manager=manager))
    rows = [row | {"rank": row["list_rank"]} for row in worklist.rows(places.tolist())]
    pdf.register_fonts()
    story = manager_pages(rows, manager, worklist.day, config.currency, config.labels)
    document, _ = pdf.build(story, name="Clients to contact", running=f"as of {wording.moment(at)}")
    path = config.manager_pages(manager)
    files.write_bytes(path, document)
    return path


# ---- the sheets to fill in


def build_sheets(config: Config, facts: ReportData) -> dict[Path, bytes]:
    """Return the Excel sheet of the list, and those of the client managers on it, by their paths."""
    if not (record := facts.assessment):
        return {}
    at = str(record["assessed_at"])
    about = workbook.About(
        "Contact list",
        config.project,
        str(record.get("day", at[:10])),
        at,
        facts.currency,
        facts.labels,
    )
    rows: list[Row] = [{**contact_fields(Standing(), None), **row} for row in facts.contacts]
    sheets = {config.contact_sheet: workbook.make_workbook(rows, about)}
    for manager in sorted({row["manager"] for row in rows if row["manager"]}):
        own = [row for row in rows if row["manager"] == manager]
        title = about._replace(title=f"Contact list of {manager}")
        sheets[config.manager_sheet(manager)] = workbook.make_workbook(own, title)
    return sheets


# ---- the step


def write_report(config: Config, unavailable: Sequence[str] | None = None) -> Report:
    """Draw the figures, and write the PDF and the sheets, if they are not up to date.

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
        "sheets": workbook.LAYOUT,
        **{path.name: files.sha256_file(path) for path in read},
    }
    if (record := files.read_if_up_to_date(config.report_record, inputs)) is not None:
        return _report(record, up_to_date=True)
    data = figure_data(facts)
    versions = [__version__, *style.versions()]
    digests = {
        name: files.sha256_bytes(files.encode({"data": each, "versions": versions}))
        for name, each in data.items()
    }
    png = draw_figures(data, read_figures(config, digests))
    document, n_pages = build_pdf(facts, png)
    contents: dict[Path, files.Content] = {config.figure(name): data for name, data in png.items()}
    contents |= {config.report: document, **build_sheets(config, facts)}
    counts = {"pages": n_pages, "figures": len(png), "listed": len(facts.contacts)}
    record = {"inputs": inputs, "as_of": facts.as_of, "figure_data": digests, **counts}
    record = files.commit(config.report_record, contents, record, kept={})
    return _report(record, up_to_date=False)


def read_figures(config: Config, digests: Mapping[str, str]) -> dict[str, bytes]:
    """Read the figures of the last report that are still of the same data.

    digests: the hash of the data of each figure
    """
    try:
        record = files.read_record(config.report_record) or {}
    except Damaged:
        return {}
    before, outputs = record.get("figure_data", {}), record.get("outputs", {})
    png = {}
    for name in (name for name, digest in digests.items() if before.get(name) == digest):
        with suppress(FileNotFoundError):
            data = config.figure(name).read_bytes()
            if files.sha256_bytes(data) == outputs.get(config.figure(name).name):
                png[name] = data
    return png


def draw_figures(data: Mapping[str, Mapping[str, Any]], png: Pictures) -> dict[str, bytes]:
    """Draw the figures that are not in `png` yet; return all.

    data: as `figure_data` returns it
    """
    changed = [name for name in data if name not in png]
    if not changed:
        return dict(png)
    from attrition.reporting import charts  # imports matplotlib, 0.5 s of CPU

    return {**png, **{name: charts.draw(name, data[name]) for name in changed}}


def _report(record: Row, *, up_to_date: bool) -> Report:
    pages, figures, listed = (int(record[name]) for name in ("pages", "figures", "listed"))
    return Report(pages, figures, listed, up_to_date, str(record["seal"]))


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--manager",
        metavar="NAME",
        help='write the pages of one client manager ("": of the clients without one), print the path',
    )
    options = parser.parse_args(argv)
    if options.manager is None:
        return cli.run(options, "reporting", write_report)

    def work(config: Config) -> int:
        print(write_manager_pages(config, options.manager, files.utc_now()))
        return 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
