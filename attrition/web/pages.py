"""Render the pages of the client managers (Today, List, Client), and save what they enter.

A view reads the request, builds the context of its template from the state, and renders it. After a
form was saved, the answer is a redirect, so that reloading the page sends nothing again.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

import numpy as np
from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from attrition import wording
from attrition.config import Config
from attrition.contacts import activity, fields, log, ranking, sentences, standings, worklist
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Places
from attrition.contacts.worklist import Filters, Worklist
from attrition.reporting import svg
from attrition.reporting.report_data import ReportData
from attrition.storage import files
from attrition.web import entries as entering
from attrition.web import middleware
from attrition.web.artifact_cache import NotReady, State, optional, state
from attrition.web.request_body import ApiError

pages = Blueprint("pages", __name__)

Row = Mapping[str, Any]

TODAY_SHOWN, PAGE_SIZE, EXPORTED = 100, 50, 10_000
REASONS_SHOWN, GONE_SHOWN = 3, 20
REMEMBERED_S = 365 * 86_400
MAX_COOKIE = 3_000  # bytes; browsers keep 4,096 with name and attributes
ORDERS = {"value_at_risk": "value at risk", "risk": "risk"}
BLOCK_TITLES = {
    ranking.OVERDUE: "Overdue",
    ranking.DUE: "Due today",
    ranking.NEW: "New or risen",
    ranking.OTHER: "The rest of the list",
}
VIEW_TITLES = {
    worklist.ALL: "All clients",
    worklist.LISTED: "Contact list",
    worklist.MOVED: "New and risen",
    worklist.RESTING: "Off the list for now",
    worklist.NEGLECTED: f"Valuable, not contacted for {worklist.NEGLECTED_DAYS} days",
    worklist.OVERRIDDEN: "Manager disagrees",
    worklist.WAITING: "Follow-up due, no place on the list",
    worklist.PAST_DUE: "Contract has ended",
}
TEAM = ("listed", "reached", "follow_ups_due", "follow_ups_kept")
RARE_VIEWS = (worklist.WAITING, worklist.PAST_DUE)  # a tab only if there is somebody in it
DUE_DAYS = (30, 60, 90)
SNOOZES = (("1 week", 7), ("1 month", 30))
FORMS = {
    log.CONTACT: "Record a contact",
    log.NOT_BEFORE: "Snooze until a date",
    log.OVERRIDE: "I disagree with the risk",
    log.REASSIGNMENT: "Hand over to a colleague",
    log.WITHDRAWAL: "Withdraw this entry",
}
FIELDS = ("outcome", "note", "date", "manager", "by", "replaces")
DATE_LENGTH = len("2026-11-28")
LATEST_DAYS = 5 * 365
CHANGED = "the clients of this view have changed meanwhile: tick again"


class Person(NamedTuple):
    """Who sits at the browser: whose clients to show, and the name for entries; "" if unknown."""

    manager: str
    name: str


# ---- the remembered choice


@pages.app_context_processor
def add_person() -> dict[str, Any]:
    return {"me": person().manager}


def person() -> Person:
    """Return the choice in the address of Today, else the remembered one."""
    manager = _cookie("manager")
    if request.endpoint == "pages.show_today" and "manager" in request.args:
        manager = request.args["manager"]
    return Person(manager, _cookie("by") or manager)


def _cookie(name: str) -> str:
    return unquote(request.cookies.get(name, ""))


def remember(response: BaseResponse, name: str, text: str) -> None:
    """Set a cookie, or delete it if the text is empty."""
    value = quote(text, safe="")
    if not text:
        response.delete_cookie(name, httponly=True, samesite="Lax")
    elif len(value) <= MAX_COOKIE:
        response.set_cookie(name, value, max_age=REMEMBERED_S, httponly=True, samesite="Lax")


# ---- Today


@pages.get("/")
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


def cards_of(state: State, work: Worklist, places: Iterable[int]) -> list[dict[str, Any]]:
    """Return clients as the pages show them, each with its number in the table and its address."""
    config, nothing, numbers = state.config, standings.Standing(), [int(place) for place in places]
    return [
        {
            **sentences.card(
                row,
                work.standings.get(place, nothing),
                work.day,
                config.labels,
                config.currency,
            ),
            "number": place,
            "url": client_url(row["client"]),
        }
        for place, row in zip(numbers, work.rows(numbers), strict=True)
    ]


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


def managers(work: Worklist) -> list[str]:
    """Return the names of the managers who have clients, of their own or handed over."""
    moved = {standing.manager for standing in work.standings.values()}
    return sorted({*work.book.managers, *moved} - {""}, key=str.casefold)


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


def dates(day: str) -> dict[str, Any]:
    """Return the limits and the proposals of the forms: exact dates, so that no script is needed."""
    snoozes = [(title, standings.days_after(day, days)) for title, days in SNOOZES]
    return {
        "today": day,
        "tomorrow": standings.days_after(day, 1),
        "latest": standings.days_after(day, LATEST_DAYS),
        "override_end": standings.days_after(day, standings.OVERRIDE_DAYS),
        "outcomes": list(sentences.OUTCOMES.items()),
        "overrides": list(sentences.OVERRIDES.items()),
        "snoozes": [(title, on, sentences.day_text(on, day)) for title, on in snoozes],
    }


# ---- List


@pages.get("/list")
def show_list() -> str:
    """Show a view of the clients, one page at a time; the address names view, filters and page."""
    return render_template("list.html", **list_page(state(), files.utc_now()))


def list_page(state: State, at: str, form: MultiDict[str, str] | None = None) -> dict[str, Any]:
    """Return the context of List; form: what was ticked and typed, if it was not saved."""
    form = form or MultiDict()
    view, filters = chosen_view(), chosen_filters(state.config)
    page = middleware.read_number("page", 1, 1, 1e9, whole=True)
    work, seen = state.worklist(at)
    places = work.select(view, filters)
    shown = places[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    address: dict[str, Any] = {**request.args.to_dict(), "page": None, "saved": None}
    before = url_for(".show_list", **address | {"page": page - 1}) if page > 1 else None
    after = url_for(".show_list", **address | {"page": page + 1})
    everybody = everybody_in(work, places)
    return {
        "seen": seen,
        "saved": saved(state, seen, "list"),
        "view": view,
        "title": VIEW_TITLES[view],
        "tabs": tabs(work, filters, view, address),
        "rows": cards_of(state, work, shown),
        "total": len(places),
        "range": f"{(page - 1) * PAGE_SIZE + 1:,} to {(page - 1) * PAGE_SIZE + len(shown):,}",
        "before": before,
        "after": after if page * PAGE_SIZE < len(places) else None,
        "q": filters.query,
        "filters": filters,
        "due_days": DUE_DAYS,
        "orders": ORDERS if state.config.columns.value else {},
        "is_filtered": filters != worklist.NO_FILTERS,
        "all_url": url_for(".show_list", view=view),
        "here": url_for(".show_list", **address | {"page": page if page > 1 else None}),
        "export_url": url_for(".export_view", **address | {"view": view}),
        "managers": managers(work),
        "by": person().name,
        "on": dates(work.day),
        "faults": {},
        "newer": [],
        "kind": read_form(form)["kind"],
        "typed": {kind: read_fields(form, kind) for kind in log.KINDS},
        "ticked": set(form.getlist("client")),
        "everybody": everybody,
        "is_everybody": bool(everybody) and form.get("everybody") == everybody,
        "has_value": bool(state.config.columns.value),
        "has_due": bool(state.config.columns.due),
        "can_export": len(places) <= EXPORTED,
    }


def chosen_view() -> str:
    """Return the view that the address names.

    Raises: ApiError 422.
    """
    view = request.args.get("view") or worklist.ALL
    if view not in worklist.VIEWS:
        names = ", ".join(worklist.VIEWS)
        raise ApiError(422, "invalid_parameter", f"view: expected one of {names}")
    return view


def chosen_filters(config: Config) -> Filters:
    """Return the filters that the address names; a form sends empty ones too.

    Raises: ApiError 422.
    """
    order, days = request.args.get("order", ""), request.args.get("due_days")
    if order and order not in (ORDERS if config.columns.value else {"risk"}):
        raise ApiError(422, "invalid_parameter", f"order: expected one of {', '.join(ORDERS)}")
    return Filters(
        manager=request.args.get("manager") or None,
        query=request.args.get("q", ""),
        due_days=middleware.read_number("due_days", 0, 0, 36_500, whole=True) if days else None,
        min_risk=middleware.read_number("min_risk", 0.0, 0, 1, whole=False),
        order=order,
    )


def tabs(
    work: Worklist, filters: Filters, view: str, address: dict[str, Any]
) -> list[tuple[str, str, str, int]]:
    """Return each view with the number of clients in it that pass the filters, and its address."""
    counts = work.counts(filters)
    return [
        (name, title, url_for(".show_list", **address | {"view": name}), counts[name])
        for name, title in VIEW_TITLES.items()
        if counts[name] or name == view or name not in RARE_VIEWS
    ]


@pages.get("/list.csv")
def export_view() -> Response:
    """Download the clients of a view for a spreadsheet; the address is that of the page."""
    work, _ = state().worklist(files.utc_now())
    view = chosen_view()
    places = work.select(view, chosen_filters(state().config))
    if len(places) > EXPORTED:
        sentence = (
            f"the view has {len(places):,} clients, expected at most {EXPORTED:,}: choose fewer, or use "
            "riskscores.csv, which has all"
        )
        raise ApiError(422, "too_many", sentence)
    return spreadsheet(work, places, view, state().config)


def spreadsheet(work: Worklist, places: Iterable[int], view: str, config: Config) -> Response:
    """Return clients as CSV, with what the log says; no cell is evaluated as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields.API)
    writer.writerows(
        [export_cell(fields.value_of(name, row, config.labels)) for name in fields.API]
        for row in work.rows([*places])
    )
    name = f"clients-{view}-{work.day}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), mimetype="text/csv", headers=headers)


def export_cell(value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(fields.escape_formula(text) for text in value)
    if isinstance(value, float):
        return round(value, 4)
    return "" if value is None else fields.escape_formula(str(value))


# ---- Client


def client_url(name: str, **query: Any) -> str:
    """Return the address of a client's page.

    A name with "." or ".." between slashes is not put into the path, which browsers would shorten.
    """
    if {".", ".."} & {*name.split("/")}:
        return url_for("pages.show_client", client=name, **query)
    return url_for("pages.show_client", name=name, **query)


@pages.get("/client", defaults={"name": ""})
@pages.get("/client/<client:name>")
def show_client(name: str) -> str:
    """Show one client: the facts, the forms, and all that happened, the newest first."""
    name = name or request.args.get("client", "")
    correct = middleware.read_number("correct", 0, 0, 1e15, whole=True)
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


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def replacement_text(entry: Entry | None, config: Config) -> str:
    if entry is None:
        return ""
    verb = "withdrawn" if entry.kind == log.WITHDRAWAL else "corrected"
    return f"{verb} by {entry.by}, {local_time(entry.at, config)}"


def local_time(at: str, config: Config) -> str:
    """Format a UTC time where the client managers work, or a date."""
    time = datetime.fromisoformat(at)
    if len(at) == DATE_LENGTH:
        return f"{time.day} {time:%B %Y}"
    time = time.astimezone(ZoneInfo(config.time_zone))
    return f"{time.day} {time:%B %Y, %H:%M}"


# ---- what is entered


@pages.post("/client", defaults={"name": ""})
@pages.post("/client/<client:name>")
def save_entry(name: str) -> Any:
    """Save an entry about one client; if it is refused, show the form again with what was typed."""
    name = name or request.args.get("client", "")
    form, back = read_form(request.form), request.form.get("back")
    result = save([name], form)
    if isinstance(result, entering.Saved):
        target = ".show_today" if back == "today" else ""
        numbers = numbers_text(result.entries)
        address = url_for(target, saved=numbers) if target else client_url(name, saved=numbers)
        return after_saving(address, form)
    number = int(form["replaces"]) if form["replaces"].isdecimal() else 0
    context = client_page(state(), name, files.utc_now(), number)
    context |= {"typed": form, "saved": None, "back": back}
    return refused(result, "client.html", context)


@pages.post("/list")
def save_entries() -> Any:
    """Save an entry about each of the ticked clients, all or none, or export them."""
    work, _ = state().worklist(files.utc_now())
    ticked, form = ticked_clients(work), read_form(request.form)
    if ticked is None:
        result: Any = entering.Faults({"clients": CHANGED})
    elif form["kind"] == "export":
        rows = work.table.rows_of(ticked)
        places = [rows[name] for name in ticked if name in rows]
        return spreadsheet(work, places, chosen_view(), state().config)
    else:
        result = save(ticked, form)
    if isinstance(result, entering.Saved):
        query: dict[str, Any] = request.args.to_dict()
        query["saved"] = numbers_text(result.entries)
        return after_saving(url_for(".show_list", **query), form)
    context = list_page(state(), files.utc_now(), request.form) | {"saved": None}
    return refused(result, "list.html", context)


def save(clients: Sequence[str], form: Mapping[str, str]) -> Any:
    """Save an entry about each client; an error that will pass is a fault, which keeps the form."""
    try:
        return entering.save(state(), clients, form, request.form.get("seen"), origin())
    except NotReady as error:
        if error.code != "log_busy":
            raise
        return entering.Faults({"seen": str(error)})


def ticked_clients(work: Worklist) -> list[str] | None:
    """Return the ticked clients, or all of the view; None if others were in it when it was shown."""
    if everybody := request.form.get("everybody"):
        places = work.select(chosen_view(), chosen_filters(state().config))
        is_same = everybody == everybody_in(work, places)
        return [row["client"] for row in work.table.read(places.tolist())] if is_same else None
    return request.form.getlist("client")


def everybody_in(work: Worklist, places: Places) -> str:
    """Return the number of the clients of a view, and a digest of who they are; "" if too many.

    The digest is over the hashes of the names: to read a thousand names can take a second.
    """
    if len(places) > entering.MAX_CLIENTS:
        return ""
    keys = np.sort(work.table.keys_of(places)).tobytes()
    return f"{len(places)}-{hashlib.blake2b(keys, digest_size=8).hexdigest()}"


def read_form(form: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the entry that the pressed button saves, without the prefix of its kind.

    The button sends the kind as `action`, with a date after ":" if the date stands on the button.
    """
    kind, _, date = form.get("action", "").partition(":")
    return read_fields(form, kind) | {"kind": kind} | ({"date": date} if date else {})


def read_fields(form: Mapping[str, str], kind: str) -> dict[str, str]:
    """Return the fields of one kind of entry."""
    return {name: form.get(f"{kind}.{name}", form.get(name, "")) for name in FIELDS}


def refused(result: Any, template: str, context: dict[str, Any]) -> tuple[str, int]:
    """Show a form again: what is wrong with it, or what was entered in the meantime."""
    if isinstance(result, entering.Stale):
        day = context["on"]["today"]
        newer = [newer_text(entry, state().config, day) for entry in result.newer]
        return render_template(
            template, **context | {"newer": newer, "faults": {}, "seen": result.seen}
        ), 409
    faults = {name: wording.finished(text) for name, text in result.problems.items()}
    if "clients" in faults:  # it follows "Nothing was saved:", and may begin with a name
        faults["clients"] = f"{result.problems['clients']}."
    return render_template(template, **context | {"faults": faults, "newer": []}), 422


def newer_text(entry: Entry, config: Config, day: str) -> Row:
    return {
        "client": entry.client,
        "text": sentences.entry_text(entry, day),
        "by": entry.by,
        "when": local_time(entry.at, config),
        "note": entry.note,
    }


def after_saving(address: str, form: Mapping[str, str]) -> Any:
    response = redirect(address, 303)
    if form["by"] and form["by"].strip() != _cookie("by"):
        remember(response, "by", form["by"].strip())
    return response


def origin() -> str:
    return f"page {request.remote_addr}"


def numbers_text(entries: Sequence[Entry]) -> str:
    """Return the numbers of entries that were saved together, for an address."""
    first, last = entries[0].id, entries[-1].id
    return str(first) if first == last else f"{first}-{last}"


def saved(state: State, seen: int, back: str) -> Row | None:
    """Return what the entries named by the address are, to confirm that they were saved."""
    numbers = request.args.get("saved", "").split("-")
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        return None
    first, last = int(numbers[0]), int(numbers[-1])
    own = state.desk.numbered(first, last)
    if not own:
        return None
    entry, clients = own[0], sentences.names_of(own)
    work, _ = state.worklist(files.utc_now())
    rows = [*work.table.rows_of(clients).values()]
    ends = ["" if np.isnat(on) else str(on) for on in work.book.due[rows]]
    undo = {"url": client_url(entry.client), "id": entry.id, "by": entry.by, "back": back}
    # withdrawing a correction withdraws the entry itself, which no undo should do
    can_undo = len(own) == 1 and entry.kind != log.WITHDRAWAL and entry.replaces is None
    return {
        "text": saved_text(state, entry, work.day, is_alone=len(clients) == 1),
        "warning": sentences.contract_text(entry, ends, work.day),
        "show_url": view_of(state, entry) if len(clients) > 1 else "",
        "clients": clients,
        "url": client_url(entry.client),
        "undo": undo if can_undo else None,
        "seen": seen,
    }


def saved_text(state: State, entry: Entry, day: str, *, is_alone: bool) -> str:
    """Describe what was saved; if it is about one client, also until when the client is not listed."""
    text = sentences.entry_text(entry, day)
    if entry.kind == log.WITHDRAWAL:
        own = state.desk.entries(entry.client)
        old = next((one for one in own if one.id == entry.replaces), None)
        text = f"withdrawn: {sentences.entry_text(old, day)}" if old else text
    rest = rest_of(state, entry.client) if is_alone else None
    if rest is None or (entry.kind == log.NOT_BEFORE and rest.why == log.NOT_BEFORE):
        return text
    until = (
        "any more"
        if rest.until == standings.NEVER
        else f"until {sentences.day_text(rest.until, day)}"
    )
    return f"{text}. Not on the list {until}"


def rest_of(state: State, client: str) -> standings.Rest | None:
    at = files.utc_now()
    row = state.worklist(at)[0].table.find(client)
    return state.desk.standing(client, at).rest(row["risk"]) if row else None


def view_of(state: State, entry: Entry) -> str:
    """Return where the clients of entries that were saved together are shown; "" if nowhere."""
    if entry.kind == log.REASSIGNMENT:
        return url_for(".show_list", manager=entry.manager)
    if entry.kind == log.OVERRIDE:
        return url_for(".show_list", view=worklist.OVERRIDDEN)
    return url_for(".show_list", view=worklist.RESTING) if rest_of(state, entry.client) else ""
