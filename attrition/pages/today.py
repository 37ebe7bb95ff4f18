"""Render Today: whom to call, in blocks, and what to know about the list."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flask import Response, make_response, render_template, request, url_for

from attrition import wording
from attrition.config import Config
from attrition.contacts import activity, fields, ranking, sentences, worklist
from attrition.contacts.worklist import Filters, Worklist
from attrition.effect.sentences import held_out
from attrition.errors import NotReady
from attrition.pages.confirmation import saved
from attrition.pages.frame import (
    Person,
    Row,
    cards_of,
    client_url,
    dates,
    managers,
    person,
    remember,
)
from attrition.reporting.report_data import ReportData
from attrition.storage import files
from attrition.web.artifact_cache import State, optional, state
from attrition.web.parameters import ORDERS

TODAY_SHOWN, GONE_SHOWN = 100, 20
BLOCK_TITLES = {
    ranking.OVERDUE: "Overdue",
    ranking.DUE: "Due today",
    ranking.NEW: "New or risen",
    ranking.OTHER: "The rest of the list",
}
TEAM = ("listed", "reached", "follow_ups_due", "follow_ups_kept")


def show_today() -> Response:
    """Show whom to call today, in blocks, the clients of the remembered manager only."""
    order, show_all = request.args.get("order", ""), request.args.get("show") == "all"
    try:
        context = today(state(), person(), files.utc_now(), order, show_all=show_all)
        context["saved"] = saved(state(), context["seen"], "today")
    except NotReady as error:
        context = no_list(state(), error, files.utc_now())
    response = make_response(render_template("today.html", **context))
    if "manager" in request.args:
        remember(response, "manager", request.args["manager"])
    return response


def no_list(state: State, error: NotReady, at: str) -> dict[str, Any]:
    day = state.config.day(at)
    return {
        "problem": wording.finished(error),
        "date": sentences.long_day(day),
        "model": model_state(state),
        "on": dates(day),
    }


def model_state(state: State) -> Any:
    """Return the state of the model as a title and its tone."""
    loaded = optional(state.production.get)
    return ReportData(
        release=loaded[0].id if loaded else None,
        training=loaded[0].training if loaded else {},
        monitoring=optional(state.monitoring) or {},
    ).state


def today(
    state: State, who: Person, at: str, order: str = "", *, show_all: bool = False
) -> dict[str, Any]:
    """Return the context of Today: the clients on the list of the day, and what to know about it."""
    config = state.config
    work, seen = state.worklist(at)
    record = state.assessment()
    order = order if order in ORDERS and config.columns.value else ""
    places = work.select(worklist.LISTED, Filters(who.manager or None, order=order))
    blocks = in_blocks(work, places)
    in_order = [place for own in blocks.values() for place in own]
    all_cards = cards_of(state, work, in_order)
    cards = all_cards if show_all else all_cards[:TODAY_SHOWN]
    shown = {card["number"]: card for card in cards}
    common = take_common_cautions(cards)
    since = sentences.since_text(record.get("changes_since"), work.day)
    much_worse = int(np.sum(work.book.risk_change[places] >= ranking.MUCH_WORSE))
    counts = {name: len(own) for name, own in blocks.items()}
    return {
        "seen": seen,
        "date": sentences.long_day(work.day),
        "model": model_state(state),
        "sentence": sentences.summary(counts, much_worse, since),
        "blocks": [
            {
                "name": name,
                "title": BLOCK_TITLES[name],
                "count": len(own),
                "rows": [shown[place] for place in own if place in shown],
            }
            for name, own in blocks.items()
            if own
        ],
        "listed": len(places),
        "all_url": url_for(".show_today", show="all", order=order or None),
        "nobody": nobody_text(record, who.manager),
        "manager": who.manager,
        "managers": managers(work),
        "by": who.name,
        "on": dates(work.day),
        "remarks": remarks(work, who.manager),
        "notes": notes_of(
            record,
            config,
            cards,
            common,
            is_whole=not who.manager and is_assessed(record, work.day, seen),
        ),
        "order": order,
        **order_links(config, order),
        "gone_count": len(record.get("gone") or ()),
        "gone": gone(record) if not who.manager else [],
        "since": since,
        "held_out": held_out(record.get("experiment")),
        "team": None if who.manager else team(record),
        "printed": by_manager(all_cards),
        "currency": config.currency,
        "has_value": bool(config.columns.value),
    }


def in_blocks(work: Worklist, places: Iterable[int]) -> dict[str, list[int]]:
    """Return the listed clients by block, in the order of the blocks; each is in exactly one."""
    block_of = dict(zip(work.listed.rows.tolist(), work.listed.blocks, strict=True))
    blocks: dict[str, list[int]] = {name: [] for name in ranking.BLOCKS}
    for place in places:
        blocks[block_of[int(place)]].append(int(place))
    return blocks


def take_common_cautions(cards: Sequence[dict[str, Any]]) -> list[str]:
    """Remove the cautions that apply to every client shown, and return them."""
    lists = [card["cautions"] for card in cards]
    common = [text for text in (lists or [[]])[0] if all(text in own for own in lists)]
    for card in cards:
        card["cautions"] = [text for text in card["cautions"] if text not in common]
    return common


def notes_of(
    record: Row, config: Config, cards: Sequence[Row], common: Sequence[str], *, is_whole: bool
) -> list[str]:
    """Return what is to be known about all clients shown; is_whole: those whom the record counts."""
    listed = wording.contact_list(record, config.currency) if is_whole else ""
    care = f"Treat all of them with caution: {'; '.join(common)}." if common else ""
    return (
        [*filter(None, (listed, fields.shared_text(record, config.labels), care))] if cards else []
    )


def is_assessed(record: Row, day: str, seen: int) -> bool:
    """Return whether the list of the day is the one whose figures the assessment computed."""
    inputs = record["inputs"]
    counted = int((inputs.get("contacts") or "0").split()[0])
    return counted == seen and inputs.get("day", "") in ("", day)


def nobody_text(record: Row, manager: str) -> str:
    if manager:
        return f"No client of {manager} is on the list today."
    if not record["clients"]:
        return "The contact list is empty: there is no current client."
    return "The contact list is empty: every client is off the list for now, or the contract has ended."


def remarks(work: Worklist, manager: str) -> dict[str, list[tuple[str, str]]]:
    """Return what the list leaves out, and where it is shown: above the list, or below it."""
    texts = {
        worklist.WAITING: (
            "1 follow-up is due, but there is no place for it on the list.",
            "{} follow-ups are due, but there is no place for them on the list.",
        ),
        worklist.PAST_DUE: (
            "The contract of 1 client has ended: too late to save.",
            "The contracts of {} clients have ended: too late to save.",
        ),
    }
    found: dict[str, list[tuple[str, str]]] = {"above": [], "below": []}
    for view, (one, many) in texts.items():
        if count := len(work.select(view, Filters(manager or None))):
            text = one if count == 1 else many.format(wording.count(count))
            where = "above" if view == worklist.WAITING else "below"
            address = url_for(".show_list", view=view, manager=manager or None)
            found[where].append((text, address))
    return found


def order_links(config: Config, order: str) -> dict[str, Any]:
    """Return the order of the list as a sentence, and the other order with its address."""
    order = order or config.contact_order
    other = next((name for name in ORDERS if name != order), "")
    link = (ORDERS[other], url_for(".show_today", order=other)) if config.columns.value else None
    text = f"Overdue and due first; within each group, the highest {ORDERS[order]} first."
    return {"order_text": text, "other_order": link}


def gone(record: Row) -> list[tuple[str, str, str]]:
    """Return the clients of the earlier list who are not on this one, where to see them, and why."""
    return [
        (one["client"], client_url(one["client"]), sentences.GONE.get(one["why"], one["why"]))
        for one in (record.get("gone") or ())[:GONE_SHOWN]
    ]


def team(record: Row) -> Row | None:
    """Return what each client manager did as a table; nobody's clients saved are compared."""
    rows = [row for row in record.get("team") or () if row["manager"]]
    if not rows:
        return None
    return {
        "note": f"Reached and follow-ups: in the last {activity.DAYS} days. We do not count saved "
        "clients per manager: the numbers are too small to compare people.",
        "columns": [
            *[("Client manager", False), ("On the list", True), ("Clients reached", True)],
            *[("Follow-ups due", True), ("Follow-ups kept", True)],
        ],
        "rows": [[row["manager"], *(wording.count(row[key]) for key in TEAM)] for row in rows],
    }


def by_manager(cards: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Group clients by manager, for one printed page each."""
    groups: dict[str, list[Row]] = {}
    for card in cards:
        groups.setdefault(card["manager"], []).append(card)
    return sorted(groups.items(), key=lambda group: group[0].casefold())
