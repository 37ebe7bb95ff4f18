"""Render the dashboard: the state of the model, the contact list, figures and data on one page.

Every part works if a record does not exist yet: on the first day there is only a model.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flask import Blueprint, render_template, request

from attrition import wording
from attrition.contacts import fields
from attrition.reporting.report_data import CAPTIONS, ReportData
from attrition.web import health
from attrition.web.artifact_cache import State, optional, state

pages = Blueprint("pages", __name__)

Row = Mapping[str, Any]

# The width of a figure on the page.
SIZES = {"risk_distribution": "large", "gain": "large"}
SIZES |= dict.fromkeys(("importance", "score_over_time", "drift", "missing_over_time"), "wide")
MISSING_SHOWN, CONTACTS_SHOWN, UNUSED_SHOWN = 8, 20, 10
ORDERS = ("value_at_risk", "risk")


class Figure(NamedTuple):
    """A picture, its caption, and its size on the page."""

    name: str
    caption: str
    size: str


@pages.get("/")
def show_dashboard() -> str:
    """Show the state, the contact list and the figures on one page."""
    manager, show_all = request.args.get("manager", ""), request.args.get("show") == "all"
    order = request.args.get("order", "")
    context = dashboard(state(), manager, order, show_all=show_all, now=datetime.now(UTC))
    return render_template("dashboard.html", **context)


def dashboard(
    state: State, manager: str, order: str, *, show_all: bool, now: datetime
) -> dict[str, Any]:
    """Return the context of the template; if a file is damaged, it is among the problems.

    order: "risk" or "value_at_risk" sorts the clients on the list; any other leaves them as they are
    """
    config, production, problems = state.config, state.production, list[str]()
    loaded = optional(production.get, damage=problems)
    release = loaded[0] if loaded else None
    problems += [production.problem] if loaded and production.problem else []
    data = ReportData(
        release=release.id if release else None,
        training=release.training if release else {},
        score=release.score if release else {},
        decision=optional(state.decision, damage=problems) or {},
        monitoring=optional(state.monitoring, damage=problems) or {},
        assessment=optional(state.assessment, damage=problems) or {},
        diagnostics=optional(state.diagnostics, damage=problems) or {},
        deployments=state.deployments(),
        currency=config.currency,
        capacity=config.contact_capacity,
        order=config.contact_order,
        labels=config.labels,
    )
    rows = optional(state.listed, damage=problems) or []
    names = optional(state.figure_names, damage=problems)
    if order in ORDERS:
        rows = sorted(rows, key=lambda row: (-(row[order] or 0.0), row["rank"]))
    listed = contacts(rows, config.labels)
    chosen = [row for row in listed if manager in ("", row["manager"])]
    is_cut = not manager and not show_all
    recent = health.summarise_runs(state, now)
    problems += [complaint.sentence for complaint in recent.complaints]
    problems += wording.unused_lines(health.find_unused(state, problems), UNUSED_SHOWN)
    return {
        "data": data,
        "last_run": describe_last_run(recent.last, now),
        "runs": wording.runs(wording.ago(recent.good_at, now), recent.counts),
        "problems": [wording.finished(problem) for problem in dict.fromkeys(problems)],
        "assessed": assessment_age(data, now),
        "list_figures": wording.contact_list(data.assessment, config.currency)
        if data.assessment
        else "",
        "shared": fields.shared_text(data.assessment, config.labels),
        "reasons_note": fields.reasons_note(rows),
        "cautions": cautions_of_all(rows, config.labels),
        "columns": columns(listed, config.currency),
        "contacts": chosen[:CONTACTS_SHOWN] if is_cut else chosen,
        "listed": len(chosen),
        "managers": sorted({row["manager"] for row in listed if row["manager"]}),
        "manager": manager,
        "show_all": show_all,
        "order": order if order in ORDERS else config.contact_order,
        "orders": ORDERS if config.columns.value else (),
        "figures": figures(names or []),
        "verdicts": wording.DRIFT_VERDICTS,
        "missing": missing_columns(data.columns),
        "packages": wording.packages(data.diagnostics.get("dependencies") or {}),
        "has_report": names is not None,
        "with_token": state.token is not None,
    }


# ---- parts of the page


def describe_last_run(run: Row | None, now: datetime) -> str:
    if run is None:
        return ""
    when = wording.ago(run["ended_at"] or run["started_at"], now)
    did_fail = run["outcome"] in ("failed", "died")
    return (
        f"The last run {run['outcome']} {when}."
        if did_fail
        else f"Last run with work to do: {when}."
    )


def assessment_age(data: ReportData, now: datetime) -> str:
    at = data.assessment.get("assessed_at")
    return f"computed {wording.ago(at, now)}" if at else ""


def contacts(rows: Sequence[Row], labels: fields.Labels) -> list[dict[str, Any]]:
    """Return the contact list for display; `moved` describes the change since the last list."""
    general = cautions_of_all(rows, labels)
    is_first = all(row["previous_rank"] is None for row in rows)
    return [
        {name: fields.value_of(name, row, labels) for name in (*fields.DASHBOARD, "reasons")}
        | ({"moved": ""} if is_first else {})
        | {"cautions": [text for text in _cautions(row, labels) if text not in general]}
        for row in rows
    ]


def columns(listed: Sequence[Row], currency: str) -> dict[str, str]:
    """Return the fields that any client on the list has, with their headings."""
    return {
        name: fields.heading(name, currency)
        for name in fields.DASHBOARD
        if any(
            row[name] not in (None, "", []) or (name == "list_reasons" and row["cautions"])
            for row in listed
        )
    }


def cautions_of_all(rows: Sequence[Row], labels: fields.Labels) -> list[str]:
    """Return the cautions that apply to every client on the list."""
    first, *others = [_cautions(row, labels) for row in rows] or [[]]
    return [text for text in first if all(text in other for other in others)]


def _cautions(row: Row, labels: fields.Labels) -> list[str]:
    return fields.value_of("low_confidence", row, labels)


def missing_columns(columns: Mapping[str, Row]) -> list[tuple[str, float]]:
    """Return the columns with missing values and their share, the most first."""
    shares = [(name, of["missing_pct"]) for name, of in columns.items() if of["missing"]]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0]))[:MISSING_SHOWN]


def figures(names: Iterable[str]) -> list[Figure]:
    """Return the figures in reading order, last those without a caption."""
    ranked = sorted(set(names), key=lambda name: ([*CAPTIONS, name].index(name), name))
    return [
        Figure(name, CAPTIONS.get(name, name.replace("_", " ")), SIZES.get(name, ""))
        for name in ranked
    ]
