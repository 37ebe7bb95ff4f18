"""Render the page of one client: the facts, the forms, and all that happened."""

from typing import Any

from flask import render_template, request

from attrition import wording
from attrition.config import Config
from attrition.contacts import activity, fields, log, sentences
from attrition.contacts.log import Entry
from attrition.errors import ApiError
from attrition.pages.confirmation import saved
from attrition.pages.frame import Row, capital, client_url, dates, local_time, managers, person
from attrition.reporting import svg
from attrition.storage import files
from attrition.web.artifact_cache import State, optional, state
from attrition.web.parameters import read

FORMS = {
    log.CONTACT: "Record a contact",
    log.NOT_BEFORE: "Snooze until a date",
    log.OVERRIDE: "I disagree with the risk",
    log.REASSIGNMENT: "Hand over to a colleague",
    log.WITHDRAWAL: "Withdraw this entry",
}


def show_client_page(name: str) -> str:
    """Show one client: the facts, the forms, and all that happened, the newest first."""
    name = name or request.args.get("client", "")
    correct = read("correct")
    context = client_page(state(), name, files.utc_now(), correct)
    if correct and "withdraw" in request.args and "replaces" in context["typed"]:
        context["typed"] = {"kind": log.WITHDRAWAL, "replaces": context["typed"]["replaces"]}
    return render_template("client.html", **context)


def client_page(state: State, name: str, at: str, correct: int = 0) -> dict[str, Any]:
    """Return the context of a client's page, also if the client is no longer a current one.

    correct: the number of the entry to correct, 0 if none

    Raises: ApiError 404 if there is no such client.
    """
    work, seen = state.worklist(at)
    own, row = state.desk.entries(name), work.table.find(name)
    if row is None and not own:
        raise ApiError(404, "unknown_client", "there is no such client")
    standing = state.desk.standing(name, at)
    shown: Row = {}
    if row is not None:
        place = work.table.rows_of([name])[name]
        shown = sentences.card(
            work.overlay(place, row), standing, work.day, state.config.labels, state.config.currency
        )
    old = next((entry for entry in standing.entries if entry.id == correct), None)
    return {
        "seen": seen,
        "saved": saved(state, seen, "client"),
        "client": name,
        "url": client_url(name),
        "row": shown,
        "value_label": value_label(state.config),
        "features": feature_texts(row["features"], state.config) if row is not None else [],
        "observed": wording.minute(row["observed_at"]) if row and row["observed_at"] else "",
        "standing": standing,
        "kinds": list(FORMS.items()),
        "typed": old._asdict() | {"replaces": old.id} if old else {"kind": log.CONTACT},
        "faults": {},
        "newer": [],
        "events": describe_events(state, name, work.day),
        "risks": svg.risk_over_time(optional(state.risk_history, name) or []),
        "managers": managers(work),
        "by": person().name,
        "on": dates(work.day) | ({"today": "", "tomorrow": ""} if old else {}),
    }


def value_label(config: Config) -> str:
    """Return the label of the column with the value of a client."""
    label = config.labels.get(config.columns.value or "")
    return capital((label and label.label) or "contract value")


def feature_texts(features: Row, config: Config) -> list[tuple[str, str]]:
    return [
        (wording.column(name, config.labels), fields.feature_text(name, value, config.labels))
        for name, value in features.items()
    ]


def describe_events(state: State, name: str, day: str) -> list[Row]:
    """Return all that happened to a client as texts, the newest first."""
    config, own = state.config, state.desk.entries(name)
    replaced_by = {entry.replaces: entry for entry in own if entry.replaces}
    return [
        {
            "when": local_time(event.at, config),
            "title": capital(event.text),
            "who": event.who,
            "source": event.source,
            "is_page": event.kind == activity.ENTRY and event.source.startswith("page "),
            "kind": event.kind,
            "note": event.entry.note if event.entry else "",
            "is_counted": event.is_counted or (event.entry and event.entry.kind == log.WITHDRAWAL),
            "replaced": replacement_text(replaced_by.get(event.entry.id), config)
            if event.entry
            else "",
            "correct_url": client_url(name, correct=event.entry.id)
            if event.entry and event.is_counted and event.entry.kind != log.WITHDRAWAL
            else "",
            "withdraw_url": client_url(name, correct=event.entry.id, withdraw=1)
            if event.entry
            else "",
        }
        for event in state.timeline(name, day)
    ]


def replacement_text(entry: Entry | None, config: Config) -> str:
    if entry is None:
        return ""
    verb = "withdrawn" if entry.kind == log.WITHDRAWAL else "corrected"
    return f"{verb} by {entry.by}, {local_time(entry.at, config)}"
