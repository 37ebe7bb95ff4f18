"""The dashboard: its view, and the sentences, numbers, rows and figures that it shows.

Each part accepts a missing record (None): on the first day there is only a model. A number that
cannot be computed is shown as unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from flask import Blueprint, render_template, request

from attrition import wording
from attrition.contacts import fields
from attrition.web import health
from attrition.web.artifact_cache import State, optional, state

pages = Blueprint("pages", __name__)

Row = Mapping[str, Any]

BASE_RATE = "base rate"
NBSP = "\u00a0"
VERDICTS = {
    "fine": ("good", "The model is still accurate"),
    "degraded": ("bad", "The model is no longer accurate"),
    "insufficient": ("calm", "Too few new outcomes to judge the model"),
}
SETS = {"unseen": "rows of clients it has never seen", "test": "rows of test data"}
# In reading order: caption and width of each figure.
FIGURES = {
    "risk_distribution": ("Distribution of the risks of the current clients", "large"),
    "gain": ("Share of the leavers found by contacting the riskiest clients first", "large"),
    "calibration": ("Share that left against the predicted risk", ""),
    "confusionmatrix": ("Confusion matrix: predictions and outcomes", ""),
    "roc": ("ROC curve: how well the model tells leavers from stayers", ""),
    "importance": ("Feature importance: the share of each column", "wide"),
    "score_over_time": ("Score of every candidate, and deployments", "wide"),
    "drift": ("Drift of each column since the model was trained", "wide"),
    "missing_over_time": ("Missing values of the current clients over time", "wide"),
}
MISSING_SHOWN, CONTACTS_SHOWN = 8, 20


class Headline(NamedTuple):
    """The state of the model; `tone` is good, calm or bad."""

    tone: str
    title: str
    sentence: str


class Number(NamedTuple):
    """A big number, its label, and its uncertainty."""

    label: str
    value: str
    note: str


class Figure(NamedTuple):
    """A figure, its caption, and its size on the page."""

    name: str
    shows: str
    size: str


@pages.get("/")
def show_dashboard() -> str:
    """Show the state, the contact list and the figures on one page."""
    manager, show_all = request.args.get("manager", ""), request.args.get("show") == "all"
    shown = dashboard(state(), manager, show_all=show_all, now=datetime.now(UTC))
    return render_template("dashboard.html", **shown)


def dashboard(state: State, manager: str, *, show_all: bool, now: datetime) -> dict[str, Any]:
    """Return what the template shows; damaged files are listed among the problems."""
    config, production, problems = state.config, state.production, list[str]()
    served = optional(production.get, damage=problems)
    release = served[0] if served else None
    problems += [production.problem] if served and production.problem else []
    monitoring = optional(state.monitoring, damage=problems)
    assessment = optional(state.assessment, damage=problems)
    diagnosis = optional(state.diagnostics, damage=problems) or {}
    rows = optional(state.listed, damage=problems) or []
    names = optional(state.figure_names, damage=problems)
    listed = contacts(rows)
    chosen = [row for row in listed if manager in ("", row["manager"])]
    is_cut = not manager and not show_all
    score, release_id = (release.score, release.id) if release else (None, None)
    performance = health.performance_of(monitoring, release_id)
    recent = health.summarise_runs(state, now)
    problems += [complaint.sentence for complaint in recent.complaints]
    return {
        "headline": headline(score, performance, recent.last, now),
        "runs": runs(recent.good_at, recent.counts, now),
        "problems": [wording.finished(problem) for problem in dict.fromkeys(problems)],
        "release": release_id,
        "numbers": numbers(assessment, config.currency),
        "assessed": f"as of {wording.ago(assessment['assessed_at'], now)}" if assessment else "",
        "order": config.contact_order,
        "cautions": cautions_of_all(rows),
        "columns": columns(listed, config.currency),
        "contacts": chosen[:CONTACTS_SHOWN] if is_cut else chosen,
        "listed": len(chosen),
        "managers": sorted({row["manager"] for row in listed if row["manager"]}),
        "manager": manager,
        "currency": config.currency,
        "figures": figures(names or []),
        "drift": diagnosis.get("drift"),
        "moved_columns": moved_columns(diagnosis.get("drift")),
        "data": diagnosis.get("data"),
        "missing": missing_columns(diagnosis.get("columns")),
        "packages": outdated(diagnosis.get("dependencies")),
        "has_report": names is not None,
        "with_token": state.token is not None,
    }


# ---- parts of the page


def headline(
    score_record: Row | None, performance: Row | None, last_run: Row | None, now: datetime
) -> Headline:
    """Describe the model in production, its quality, the last run and its recent performance.

    `performance` is monitoring's record of this release, None if it has not been checked yet.
    """
    if score_record is None:
        return Headline(
            "calm",
            "No model is in production yet",
            "Put files of clients into the input folder and run fullprocess.py: it trains and deploys "
            "a model and fills this page.",
        )
    sentences = [_quality(score_record)]
    if last_run is not None:
        when = wording.ago(last_run["ended_at"] or last_run["started_at"], now)
        did_fail = last_run["outcome"] in ("failed", "died")
        sentences.append(
            f"The last run {last_run['outcome']}, {when}."
            if did_fail
            else f"Last run with news: {when}."
        )
    tone, title = "calm", "A model is in production"
    if performance is not None and performance["verdict"] in VERDICTS:
        tone, title = VERDICTS[performance["verdict"]]
        sentences.append(wording.finished(performance["sentence"]))
    return Headline(tone, title, " ".join(sentences))


def runs(good_at: str | None, counts: Mapping[str, int], now: datetime) -> str:
    """Describe the last good run, and count the others of the last day.

    >>> runs(None, {"skipped": 2, "failed": 0, "died": 1, "unavailable": 0}, datetime.now(UTC))
    'Last good run: never. In the last day: 2 runs skipped, 1 run died.'
    """
    lately = wording.runs(counts)
    return f"Last good run: {wording.ago(good_at, now)}." + (
        f" In the last day: {lately}." if lately else ""
    )


def _quality(score_record: Row) -> str:
    kind = score_record["candidate"]["kind"]
    if kind == BASE_RATE:
        return "So far no column separates the clients: all have the same risk."
    for name, seen in SETS.items():
        of = score_record["sets"].get(name)
        auc = of["candidate"]["roc_auc"] if of else None
        if wording.is_known(auc):
            scored = wording.with_interval(auc, partial(wording.decimal, digits=2))
            rows = f"{wording.count(of['rows'])} {seen}"
            return wording.finished(f"{kind}, ROC AUC {scored} on {rows}")
    return wording.finished(f"{kind}, too few rows to score it")


def numbers(assessment: Row | None, currency: str) -> list[Number]:
    """Return the four big numbers of an assessment."""
    if assessment is None:
        labels = ("Current clients", "Expected to leave", "Value at risk", "On the contact list")
        return [Number(label, wording.DASH, "not assessed yet") for label in labels]
    leaving, worth, listed = (
        assessment[key] for key in ("expected_to_leave", "value_at_risk", "list")
    )
    short = partial(wording.amount, short=True)
    if wording.is_known(worth):
        between = wording.between(worth, short)
        under = f"of {short(assessment['value'])} under contract"
        note = f"{between}, {under}" if between else under
        third = Number(f"Value at risk, {currency}", short(worth), note)
    else:
        risk = wording.percent(assessment["mean_risk"])
        third = Number("Average risk", risk, "of the current clients")
    between = wording.between(leaving, wording.count)
    likely = wording.count(listed["expected_to_leave"])
    return [
        Number("Current clients", wording.count(assessment["clients"]), "each with its risk"),
        Number(
            "Expected to leave",
            wording.count(leaving),
            f"{between} (95{NBSP}% interval)" if between else "an estimate",
        ),
        third,
        Number(
            "On the contact list", wording.count(listed["clients"]), f"about {likely} would leave"
        ),
    ]


def contacts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the contact list for display; `moved` describes the change since the last list."""
    general = cautions_of_all(rows)
    is_first = all(row["previous_rank"] is None for row in rows)
    return [
        {name: fields.value_of(name, row) for name in fields.DASHBOARD if name != "moved"}
        | {"moved": "" if is_first else _moved(row)}
        | {"cautions": [text for text in _cautions(row) if text not in general]}
        for row in rows
    ]


def columns(listed: Sequence[Row], currency: str) -> dict[str, str]:
    """Return the fields that any client on the list has, with their headings."""
    return {
        name: fields.heading(name, currency)
        for name in fields.DASHBOARD
        if any(
            row[name] not in (None, "", []) or (name == "reasons" and row["cautions"])
            for row in listed
        )
    }


def cautions_of_all(rows: Sequence[Row]) -> list[str]:
    """Return the cautions that apply to every client on the list."""
    first, *others = [_cautions(row) for row in rows] or [[]]
    return [text for text in first if all(text in other for other in others)]


def _cautions(row: Row) -> list[str]:
    return fields.value_of("low_confidence", row)


def _moved(row: Row) -> str:
    """Describe the change of one client's rank and risk.

    >>> _moved({"rank": 2, "previous_rank": 9, "risk_change": 0.0412})
    'up from 9, risk +4.1 points'
    """
    rank, before = row["rank"], row["previous_rank"]
    if before is None:
        return "new"
    parts = [f"{'up' if rank < before else 'down'} from {before}"] if rank != before else []
    change = 100 * row["risk_change"]
    if abs(change) >= 0.1:
        parts.append(f"risk {'+' if change > 0 else '−'}{abs(change):.1f} points")
    return ", ".join(parts) or "as before"


def moved_columns(drift: Row | None) -> list[Row]:
    """Return the columns that need attention, the largest drift first."""
    columns: Sequence[Row] = drift["columns"] if drift else []
    moved = [column for column in columns if column["verdict"] in ("look", "act")]
    return sorted(moved, key=lambda column: (column["verdict"] != "act", -(column["psi"] or 0)))


def missing_columns(columns: Mapping[str, Row] | None) -> list[tuple[str, float]]:
    """Return the columns with missing values and their share, the largest first."""
    shares = [(name, of["missing_pct"]) for name, of in (columns or {}).items() if of["missing"]]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0]))[:MISSING_SHOWN]


def figures(names: Iterable[str]) -> list[Figure]:
    """Return the available figures in reading order, those without a caption last."""
    names = set(names)
    captioned = [Figure(name, *FIGURES[name]) for name in FIGURES if name in names]
    return captioned + [
        Figure(name, name.replace("_", " "), "") for name in sorted(names - {*FIGURES})
    ]


def outdated(dependencies: Row | None) -> str:
    """Describe in one sentence how current the installed packages are."""
    if not dependencies or not dependencies["asked_at"]:
        return "The package index has not been asked yet."
    if not dependencies["reachable"]:
        return "The package index could not be reached: whether packages are current is unknown."
    old = [package["name"] for package in dependencies["packages"] if package["outdated"]]
    if not old:
        return "All installed packages are current."
    return f"{len(old)} of {len(dependencies['packages'])} packages are outdated: {', '.join(old)}."
