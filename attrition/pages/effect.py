"""Render “Does calling help?” for the lead: the verdict, what it rests on, and who is held out."""

from typing import Any

from flask import render_template

from attrition import wording
from attrition.effect import sentences
from attrition.pages.frame import Row
from attrition.reporting import svg
from attrition.reporting.report_data import Number
from attrition.web.artifact_cache import State, optional, state


def show_effect() -> str:
    """Show whether contacting helps; without an experiment, what one would take."""
    return render_template("effect.html", **effect_context(state()))


def effect_context(state: State) -> dict[str, Any]:
    record = (optional(state.assessment) or {}).get("experiment")
    if not record:
        return {"how_to_start": sentences.HOW_TO_START}
    currency = state.config.currency
    columns, rows = sentences.arm_table(record)
    looks = record.get("looks") or [*filter(None, [record.get("last_look")])]
    return {
        "verdict": sentences.verdict(record, currency),
        "remarks": sentences.remarks(record),
        "numbers": numbers(record, currency),
        "arm_columns": columns,
        "arm_rows": rows,
        "arm_note": sentences.ARM_NOTE,
        "by_look": svg.effect_by_look(looks),
        "background": sentences.background(record),
        "held_out": sentences.held_out(record),
    }


def numbers(record: Row, currency: str) -> list[Number]:
    """Return the verdict's figures as big numbers; those of a look only once there was one."""
    look, coming, units = record.get("last_look"), record.get("next_look"), record["units"].values()
    tiles = []
    if look:
        effect, money = look["effect"], look.get("money") or {}
        title = f"{sentences.direction(effect['difference']).capitalize()} left, of 100 listed"
        points = sentences.points(effect["difference"])
        tiles.append(Number(title, points, sentences.interval(effect)))
        inside = wording.between(money, sentences.short)
        worth = f"{currency} {sentences.short(money)}" if wording.is_known(money) else wording.DASH
        tiles.append(Number("Value kept", worth, f"95\xa0% interval {inside}" if inside else ""))
    known, still_open = (sum(arm[key] for arm in units) for key in ("known", "open"))
    tiles.append(Number("Outcomes known", wording.count(known), f"{still_open:,} open"))
    if coming:
        note = f"about {wording.plural(coming['more_outcomes'], 'more outcome')}"
        tiles.append(Number("Next look", wording.day(coming["on"]), note))
    return tiles
