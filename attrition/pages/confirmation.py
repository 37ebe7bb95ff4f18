"""Confirm what was saved, by the numbers of the entries in the address, and offer to take it back."""

from collections.abc import Sequence

import numpy as np
from flask import request, url_for

from attrition.contacts import log, sentences, standings, worklist
from attrition.contacts.log import Entry
from attrition.pages.frame import Row, client_url
from attrition.storage import files
from attrition.web.artifact_cache import State


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
