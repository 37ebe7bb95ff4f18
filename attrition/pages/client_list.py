"""Render List: a view of the clients by filters, one page at a time, or as a spreadsheet."""

import csv
import hashlib
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from flask import Response, render_template, request, send_file, url_for
from werkzeug.datastructures import MultiDict

from attrition.config import Config
from attrition.contacts import fields, log, worklist
from attrition.contacts.ranking import Places
from attrition.contacts.worklist import Filters, Worklist
from attrition.entering import workbook
from attrition.errors import ApiError
from attrition.pages.confirmation import saved
from attrition.pages.frame import cards_of, dates, managers, person, read_fields, read_form
from attrition.storage import files
from attrition.web import entries as entering
from attrition.web.artifact_cache import State, state
from attrition.web.openapi import XLSX
from attrition.web.parameters import ORDERS, chosen_filters, read

PAGE_SIZE, EXPORTED = 50, 10_000
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
RARE_VIEWS = (worklist.WAITING, worklist.PAST_DUE)  # a tab only if there is somebody in it
DUE_DAYS = (30, 60, 90)


def show_list() -> str:
    """Show a view of the clients, one page at a time; the address names view, filters and page."""
    return render_template("list.html", **list_page(state(), files.utc_now()))


def list_page(state: State, at: str, form: MultiDict[str, str] | None = None) -> dict[str, Any]:
    """Return the context of List; form: what was ticked and typed, if it was not saved."""
    form = form or MultiDict()
    view, filters = read("view"), chosen_filters(state.config)
    page = read("page")
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
        "sheet_url": url_for(".upload_sheet"),
        "workbook_url": url_for(".export_workbook", **address | {"view": view}),
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


def everybody_in(work: Worklist, places: Places) -> str:
    """Return the number of the clients of a view, and a digest of who they are; "" if too many.

    The digest is over the hashes of the names: to read a thousand names can take a second.
    """
    if len(places) > entering.MAX_CLIENTS:
        return ""
    keys = np.sort(work.table.keys_of(places)).tobytes()
    return f"{len(places)}-{hashlib.blake2b(keys, digest_size=8).hexdigest()}"


def export_view() -> Response:
    """Download the clients of a view for a spreadsheet; the address is that of the page."""
    work, view, places = exported()
    return spreadsheet(work, places, view, state().config)


def export_workbook() -> Response:
    """Download the clients of a view as an Excel sheet to fill in; the address is that of the page."""
    work, view, places = exported()
    config, manager = state().config, chosen_filters(state().config).manager
    title = f"{VIEW_TITLES[view]}{f' of {manager}' if manager else ''}"
    made_at = state().assessment()["assessed_at"]
    about = workbook.About(title, config.project, work.day, made_at, config.currency, config.labels)
    data = workbook.make_workbook(work.rows(places.tolist()), about)
    name = f"clients-{view}-{work.day}.xlsx"
    return send_file(io.BytesIO(data), XLSX, as_attachment=True, download_name=name)


def exported() -> tuple[Worklist, str, Places]:
    """Return the clients to download, by the view and the filters in the address.

    Raises: ApiError 422 if they are too many.
    """
    work, _ = state().worklist(files.utc_now())
    view = read("view")
    places = work.select(view, chosen_filters(state().config))
    if len(places) > EXPORTED:
        sentence = (
            f"the view has {len(places):,} clients, expected at most {EXPORTED:,}: choose fewer, or use "
            "riskscores.csv, which has all"
        )
        raise ApiError(422, "too_many", sentence)
    return work, view, places


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
