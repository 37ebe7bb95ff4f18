"""Render the pages about the model, the data and the system, and what every page shows around its own.

Every part works if a record does not exist yet or is damaged: on the first day there is only a model.
"""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, render_template, request

from attrition import __version__, wording
from attrition.reporting.report_data import ReportData
from attrition.web import health
from attrition.web.artifact_cache import State, optional, state

status_pages = Blueprint("status_pages", __name__)

UNUSED_SHOWN = 10
PAGES = {"today": "/", "list": "/list", "model": "/model", "data": "/data", "system": "/system"}


@status_pages.app_context_processor
def add_frame() -> dict[str, Any]:
    """Add what the base template shows on every page to the context of all templates."""
    links = {name: request.script_root + path for name, path in PAGES.items()}
    return {"frame": {"links": links, **frame(state(), datetime.now(UTC))}}


def frame(state: State, now: datetime) -> dict[str, Any]:
    """Return the release in production, and the problems that need attention, on any page."""
    loaded = optional(state.production.get)
    return {
        "release": loaded[0].id if loaded else None,
        "problems": describe_problems(state, now),
        "version": __version__,
        "with_token": state.token is not None,
    }


def describe_problems(state: State, now: datetime) -> list[str]:
    """Return the complaints of /health and the suspicious deliveries as sentences, with all reasons."""
    result = health.check_health(state, now)
    hidden = ("no_model", "not_ready", "unused")  # a first day is no problem
    problems = [one.sentence for one in result.complaints if one.code not in hidden]
    problems += wording.unused_lines(health.find_unused(state), UNUSED_SHOWN)
    problems += ReportData(monitoring=optional(state.monitoring) or {}).suspicious
    return [wording.finished(problem) for problem in dict.fromkeys(problems)]


@status_pages.get("/model")
def show_model() -> str:
    """Show the model in production, its scores, and what became of each candidate."""
    return render_template("model.html")


@status_pages.get("/data")
def show_data() -> str:
    """Show what was ingested and refused, the cohorts, and the columns over time."""
    return render_template("data.html")


@status_pages.get("/system")
def show_system() -> str:
    """Show the runs, the durations of the steps, and the state of the installation."""
    return render_template("system.html")
