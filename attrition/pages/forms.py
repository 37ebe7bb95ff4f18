"""Save what people enter on the pages, and show a refused form again.

After a form was saved, the answer is a redirect, so that reloading the page sends nothing again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flask import g, redirect, render_template, request, url_for

from attrition import wording
from attrition.config import Config
from attrition.contacts import sentences
from attrition.contacts.log import Entry
from attrition.contacts.worklist import Worklist
from attrition.data.schema import Refused
from attrition.entering import filled_in
from attrition.errors import ApiError, NotReady
from attrition.pages.client import client_page
from attrition.pages.client_list import everybody_in, list_page, spreadsheet
from attrition.pages.confirmation import numbers_text
from attrition.pages.frame import (
    Row,
    client_url,
    local_time,
    person,
    read_form,
    remember,
    remembered,
)
from attrition.rows import forgotten
from attrition.storage import files
from attrition.web import auth
from attrition.web import entries as entering
from attrition.web.artifact_cache import contact_log_errors, state
from attrition.web.middleware import wants_page
from attrition.web.parameters import chosen_filters, read

VERDICTS = (filled_in.SAVED, filled_in.BEFORE, filled_in.EMPTY, filled_in.REFUSED)
CHANGED = "the clients of this view have changed meanwhile: tick again"


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


def save_entries() -> Any:
    """Save an entry about each of the ticked clients, all or none, or export them."""
    work, _ = state().worklist(files.utc_now())
    ticked, form = ticked_clients(work), read_form(request.form)
    if ticked is None:
        result: Any = entering.Faults({"clients": CHANGED})
    elif form["kind"] == "export":
        rows = work.table.rows_of(ticked)
        places = [rows[name] for name in ticked if name in rows]
        return spreadsheet(work, places, read("view"), state().config)
    else:
        result = save(ticked, form)
    if isinstance(result, entering.Saved):
        query: dict[str, Any] = request.args.to_dict()
        query["saved"] = numbers_text(result.entries)
        return after_saving(url_for(".show_list", **query), form)
    context = list_page(state(), files.utc_now(), request.form) | {"saved": None}
    return refused(result, "list.html", context)


def upload_sheet() -> Any:
    """Save the lines of a filled-in sheet, the file `sheet` of a form; return a verdict for each."""
    now, sheet = state(), request.files.get("sheet")
    if sheet is None or not sheet.filename:
        raise ApiError(422, "invalid_sheet", "choose a file: .xlsx or CSV, as the field sheet")
    at, dialect = files.utc_now(), now.config.files.dialect(sheet.filename)
    work, _ = now.worklist(at)  # checks the contact log
    desk = filled_in.Desk(
        *(now.desk.path, work.table, now.config.project, now.assessment()["release"], work.day, at),
        *(auth.origin("sheet", request, g.caller), dialect.dates, person().name),
        hidden=forgotten.read(now.config),
        refuse=partial(forgotten.refuse, now.config),
    )
    try:
        lines = filled_in.read_lines(sheet.read(), now.config.columns, dialect)
    except Refused as error:
        raise ApiError(422, "invalid_sheet", f"the sheet was refused: {error.reason}") from error
    with contact_log_errors():
        verdicts = filled_in.save_lines(lines, desk)
    counts = Counter(verdict.verdict for verdict in verdicts)
    summary = {
        "file": sheet.filename,
        **{name.replace(" ", "_"): counts[name] for name in VERDICTS},
    }
    if not wants_page():
        return {**summary, "lines": [verdict._asdict() for verdict in verdicts]}
    shown = [verdict for verdict in verdicts if verdict.verdict != filled_in.EMPTY]
    text = wording.finished(filled_in.describe(sheet.filename, verdicts))
    return render_template("sheet.html", text=text, verdicts=shown, counts=counts)


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
        places = work.select(read("view"), chosen_filters(state().config))
        is_same = everybody == everybody_in(work, places)
        return [row["client"] for row in work.table.read(places.tolist())] if is_same else None
    return request.form.getlist("client")


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
    if form["by"] and form["by"].strip() != remembered("by"):
        remember(response, "by", form["by"].strip())
    return response


def origin() -> str:
    return auth.origin("page", request, g.caller)
