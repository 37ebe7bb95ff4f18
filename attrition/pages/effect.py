"""Render “Does calling help?” for the lead: the verdict, what it rests on, and who is held out."""

from datetime import date
from typing import Any

from flask import render_template

from attrition import wording
from attrition.contacts import assignments
from attrition.contacts.experiment import CONTROL
from attrition.contacts.sentences import day_text
from attrition.effect import sentences
from attrition.pages.frame import Row, client_url
from attrition.reporting import svg
from attrition.reporting.report_data import Number
from attrition.storage import files
from attrition.web.artifact_cache import State, contact_log_errors, optional, state


def show_effect() -> str:
    """Show whether contacting helps; without an experiment, what one would take."""
    return render_template("effect.html", **effect_context(state(), files.utc_now()))


def effect_context(state: State, at: str) -> dict[str, Any]:
    record = (optional(state.assessment) or {}).get("experiment")
    if not record:
        return {"how_to_start": sentences.HOW_TO_START.items()}
    currency = state.config.currency
    columns, rows = sentences.arm_table(record)
    return {
        "verdict": sentences.verdict(record, currency),
        # The frame of every page shows that there is no key.
        "remarks": [text for text in sentences.remarks(record) if text != sentences.WITHOUT_KEY],
        "numbers": numbers(record, currency),
        "arm_columns": columns,
        "arm_rows": rows,
        "arm_note": sentences.ARM_NOTE,
        "by_look": svg.effect_by_look(sentences.looks_of(record)),
        "background": sentences.background(record),
        "held_out": sentences.held_out(record),
        "quarter": record["quarter"],
        "has_value": bool(state.config.columns.value),
        "controls": optional(find_controls, state, record["quarter"], at) or [],
    }


def numbers(record: Row, currency: str) -> list[Number]:
    """Return the verdict's figures as big numbers; those of a look only once there was one."""
    look, coming, units = record.get("last_look"), record.get("next_look"), record["units"].values()
    known, still_open = (sum(arm[key] for arm in units) for key in ("known", "open"))
    tiles = []
    if look:
        if effect := look["effect"]:
            title = f"{sentences.direction(effect['difference']).capitalize()} left in 100 listed"
            points = sentences.points(effect["difference"])
            tiles.append(Number(title, points, sentences.interval(effect)))
        kept, value, interval = sentences.worth(look, currency)
        if value:
            tiles.append(Number(f"Value {kept}", value, interval))
        compared = sum((look[arm] or {}).get("clients", 0) for arm in sentences.ARMS)
        note = f"at look {look['number']} of {look['of']}; {still_open:,} still open"
        tiles.append(Number("Outcomes compared", wording.count(compared), note))
    else:
        tiles.append(Number("Outcomes known", wording.count(known), f"{still_open:,} still open"))
    if coming:
        day, more = date.fromisoformat(coming["on"]), coming["more_outcomes"]
        note = f"about {wording.plural(more, 'more outcome')}"
        tiles.append(Number("Next look", f"{day.day} {day:%b %Y}", note))
    return tiles


def find_controls(state: State, quarter: str, at: str) -> list[Row]:
    """Return who is held out in a quarter, the highest risk first, and who contacted them since.

    Raises: NotReady if the contact log cannot be read.
    """
    config, day = state.config, state.config.day(at)
    with contact_log_errors():
        assigned, _ = assignments.read(config.contact_log)
        own = [each for each in assigned if each.arm == CONTROL and each.quarter == quarter]
        contacts = {each.client: state.desk.standing(each.client, at).last_contact for each in own}
    return [
        {
            "client": each.client,
            "url": client_url(each.client),
            "since": day_text(config.day(each.at), day),
            "risk": each.risk,
            "value_at_risk": ""
            if each.value is None
            else f"{config.currency} {wording.amount(each.risk * each.value)}",
            "contacted": day_text(config.day(last.at), day) if last and last.at >= each.at else "",
        }
        for each in sorted(own, key=lambda each: (-each.risk, each.client))
        for last in [contacts[each.client]]
    ]
