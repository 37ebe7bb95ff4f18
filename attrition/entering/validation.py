"""Validate what people enter about a client: the one contract of forms, JSON and filled-in sheets."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.contacts.standings import OVERRIDE_DAYS, days_after

MAX_NOTE, MAX_NAME, MAX_KEY = 2_000, 200, 200
MAX_DAYS_AHEAD = 5 * 366
# The fields of a form, by the kind of entry; all kinds have `ALWAYS` too.
ALWAYS = ("kind", "by", "replaces", "key")
FIELDS = {
    log.CONTACT: ("outcome", "note", "date"),
    log.NOT_BEFORE: ("date", "note"),
    log.OVERRIDE: ("outcome", "note", "date"),
    log.REASSIGNMENT: ("manager", "date", "note"),
    log.WITHDRAWAL: ("note",),
}
OUTCOMES = {log.CONTACT: log.OUTCOMES, log.OVERRIDE: (log.STAYS, log.LEAVES)}


def read_entry(
    form: Mapping[str, Any],
    day: str,
    before: Sequence[Entry],
    n_clients: int,
    problems: dict[str, str],
) -> Entry:
    """Return what the form contains, without client, risk and release; add what is wrong to `problems`.

    before: the entries of the client, of which a correction replaces one
    """
    entry = read_fields(form, problems)
    fields = FIELDS.get(entry.kind, ())
    if entry.kind == log.OVERRIDE and not entry.date:
        entry = entry._replace(date=days_after(day, OVERRIDE_DAYS))
    old = next((each for each in before if each.id == entry.replaces), None)
    needs_reason = entry.kind in (log.NOT_BEFORE, log.OVERRIDE)
    checks = {
        "by": "" if entry.by else "enter your name",
        "outcome": _check_outcome(entry),
        "note": "enter a reason" if needs_reason and not entry.note else "",
        "manager": "" if entry.manager else "enter who takes over",
        "date": _check_date(entry, day, old),
        "replaces": _check_replaces(entry, old, n_clients),
    }
    for name, problem in checks.items():
        if problem and name in (*ALWAYS, *fields):
            problems.setdefault(name, problem)
    return entry


def read_fields(form: Mapping[str, Any], problems: dict[str, str]) -> Entry:
    """Return the fields as they were entered; add those that cannot be read to `problems`."""
    kind = _text(form, "kind", 20, problems)
    fields = FIELDS.get(kind, ())
    if not fields:
        problems["kind"] = f"is {kind!r}, expected one of {', '.join(log.KINDS)}"
    limits = {"note": MAX_NOTE, "outcome": 20, "date": 20, "manager": MAX_NAME}
    text: dict[str, Any] = {name: _text(form, name, limits[name], problems) for name in fields}
    return Entry(
        client="",
        kind=kind,
        by=_text(form, "by", MAX_NAME, problems),
        replaces=read_number(form.get("replaces"), "replaces", problems),
        key=_text(form, "key", MAX_KEY, problems),
        **text,
    )


def _text(form: Mapping[str, Any], name: str, limit: int, problems: dict[str, str]) -> str:
    """Return a field without white space around it; lines of a note end with "\\n"."""
    value = form.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        problems[name] = "expected text"
        return ""
    whole = value.replace("\r\n", "\n")
    text = whole.strip()
    allowed = "\n\t" if name == "note" else ""
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in allowed for c in text):
        problems[name] = "contains a character that cannot be shown"
    elif len(whole) > limit:  # with the blanks, so that a schema can express it
        problems[name] = f"has {len(whole):,} characters, expected at most {limit:,}"
    return text


def read_number(value: Any, name: str, problems: dict[str, str]) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        problems[name] = "expected the number of an entry"
        return None
    return value


def _check_outcome(entry: Entry) -> str:
    expected = OUTCOMES.get(entry.kind, ())
    if not entry.outcome:
        return "choose a result"
    wrong = f"is {entry.outcome!r}, expected one of {', '.join(expected)}"
    return "" if entry.outcome in expected else wrong


def _check_date(entry: Entry, day: str, old: Entry | None) -> str:
    if not entry.date:
        return "" if entry.kind == log.CONTACT else "enter a date"
    if entry.outcome == log.DO_NOT_CONTACT:
        return "a client who must not be contacted cannot have a follow-up"
    if old is not None and entry.date == old.date:
        return ""  # a correction of the note, after the date
    if not _is_date(entry.date):
        return f"{entry.date} is not a date, expected one such as {day}"
    first = days_after(day, 1) if entry.kind == log.NOT_BEFORE else day
    last = days_after(day, OVERRIDE_DAYS if entry.kind == log.OVERRIDE else MAX_DAYS_AHEAD)
    if not first <= entry.date <= last:
        return f"is {entry.date}, expected {first} to {last}"
    return ""


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_replaces(entry: Entry, old: Entry | None, n_clients: int) -> str:
    if entry.replaces is None:
        return "name the entry to withdraw" if entry.kind == log.WITHDRAWAL else ""
    if n_clients > 1:
        return "an entry of one client cannot be replaced for several"
    return "" if old else f"entry {entry.replaces} is not an entry of this client"
