"""Validate what people enter about clients, in a form or in JSON, and append it to the contact log."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.contacts.standings import OVERRIDE_DAYS, counting, days_after
from attrition.errors import ApiError
from attrition.storage import files
from attrition.storage.files import Record
from attrition.web.artifact_cache import State, contact_log_errors

MAX_NOTE, MAX_NAME, MAX_KEY, MAX_CLIENTS = 2_000, 200, 200, 1_000
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
REQUIRED = {
    "outcome": "choose a result",
    "date": "enter a date",
    "manager": "enter who takes over",
    "by": "enter your name",
}


class Saved(NamedTuple):
    """The entries as they are stored; `is_repeat` is true if they were stored before: sent twice."""

    entries: list[Entry]
    is_repeat: bool


class Stale(NamedTuple):
    """Nothing was stored: the clients have newer entries; `seen` is for the form that shows them."""

    newer: list[Entry]
    seen: int


class Faults(NamedTuple):
    """Nothing was stored: what is wrong, by field; each sentence starts with a small letter."""

    problems: dict[str, str]


def save(
    state: State, clients: Sequence[str], form: Mapping[str, Any], seen: Any, via: str
) -> Saved | Stale | Faults:
    """Validate a form, and append an entry for each client, all or none.

    form: the fields of `FIELDS` and `ALWAYS`; fields of other kinds are ignored. seen: the number that
    `state.worklist` returned when the form was shown; None or "" if unknown. via: "page" or "api", and
    from where.

    Raises: ApiError 404 if it is about one client, and there is no such client; KeyTaken; NotReady.
    """
    at = files.utc_now()
    worklist, newest = state.worklist(at)
    names = list(dict.fromkeys(clients))
    rows = worklist.table.rows_of(names)
    unknown = [name for name in names if name not in rows and not state.desk.entries(name)]
    if unknown and len(names) == 1:
        raise ApiError(404, "unknown_client", "there is no such client")
    if len(names) == 1 and (stored := _find_stored(state, names[0], form)):
        return Saved([stored], is_repeat=True)
    problems: dict[str, str] = {}
    if unknown:
        problems["clients"] = f"{unknown[0]} is no longer a current client: untick it"
    if not 0 < len(names) <= MAX_CLIENTS:
        most = f"tick at most {MAX_CLIENTS:,} clients"
        problems["clients"] = most if names else "tick at least one client"
    number = _whole_number(seen, "seen", problems)
    before = state.desk.entries(names[0]) if len(names) == 1 else []
    entry = _read_entry(form, worklist.day, before, len(names), problems)
    if problems:
        return Faults(problems)
    release = state.assessment()["release"]
    entries = [
        entry._replace(
            client=name,
            key=f"{entry.key} {name}" if entry.key and len(names) > 1 else entry.key,
            via=via,
            risk=float(worklist.book.risk[rows[name]]) if name in rows else None,
            release=release,
        )
        for name in names
    ]
    if number is not None and (just_entered := _find_just_entered(state, entries, at)):
        number = min(number, just_entered[0].id - 1)
    try:
        with contact_log_errors():
            return Saved(*log.append(state.desk.path, entries, at, number))
    except log.Stale as error:
        return Stale(list(error.newer), max(newest, *(each.id for each in error.newer)))
    except log.NotReplaceable as error:
        return Faults({"replaces": str(error)})


def _find_stored(state: State, client: str, form: Mapping[str, Any]) -> Entry | None:
    """Return the entry that was stored when this form was sent before, with the same key.

    Its date may have been valid only on that day, and so may the date of an override without one.
    """
    problems: dict[str, str] = {}
    entry = _read_fields(form, problems)._replace(client=client)
    if problems or not entry.key:
        return None
    with contact_log_errors():
        stored = log.find_key(state.desk.path, entry.key)
    if stored and entry.kind == log.OVERRIDE and not entry.date:
        entry = entry._replace(date=stored.date)
    return stored if stored and stored.content == entry.content else None


def _find_just_entered(state: State, entries: Sequence[Entry], at: str) -> list[Entry]:
    """Return the newest entry of each client if all of them are these, and were made just now; else [].

    With the back button, a form is sent again although its page shows what it has saved.
    """
    newest = []
    for entry in entries:
        old = next(reversed(state.desk.entries(entry.client)), None)
        if old is None or old.content != entry.content or not log.is_recent(old.at, at):
            return []
        newest.append(old)
    return sorted(newest, key=lambda entry: entry.id)


# ---- JSON


def check_body(body: Any, key: str | None) -> Record:
    """Return the fields of an entry in JSON; `key` is that of the header, None if it has none.

    Raises: ApiError 422 if it is no object, or has a field that this kind of entry has not.
    """
    if not isinstance(body, dict):
        raise ApiError(422, "invalid_body", "expected an object with the fields of an entry")
    form = body if key is None else body | {"key": key}
    kind, problems = form.get("kind"), {}
    if key is not None and body.get("key") not in (None, key):
        problems["key"] = "is not that of the header Idempotency-Key"
    if isinstance(kind, str) and kind in FIELDS:  # another is a fault of its own
        unknown = [name for name in form if name not in ("seen", *ALWAYS, *FIELDS[kind])]
        problems |= {name[:60]: f"is no field of {kind}" for name in unknown}
    if problems:
        raise invalid(problems)
    return form


def invalid(problems: Mapping[str, str]) -> ApiError:
    """Return the error for invalid fields."""
    (field, problem), *others = problems.items()
    sentence = f"{field}: {problem}" + (f" (and {len(others)} more)" if others else "")
    listed = [{"field": name, "problem": text} for name, text in problems.items()]
    return ApiError(422, "invalid_entry", sentence, problems=listed)


def to_dicts(own: Sequence[Entry]) -> list[Record]:
    """Return entries of one client for JSON, with whether each counts and which one replaced it."""
    replaced_by = {entry.replaces: entry.id for entry in own if entry.replaces is not None}
    valid = {entry.id for entry in counting(own)}
    return [
        {name: None if value == "" else value for name, value in entry._asdict().items()}
        | {"counts": entry.id in valid, "replaced_by": replaced_by.get(entry.id)}
        for entry in own
    ]


def is_escaped(environ: Mapping[str, Any]) -> bool:
    """Return whether an address ends with an escaped slash and "entries": part of a client's name."""
    path = str(environ.get("RAW_URI", "")).partition("?")[0]
    return path.lower().endswith("%2fentries")


# ---- fields


def _read_entry(
    form: Mapping[str, Any],
    day: str,
    before: Sequence[Entry],
    n_clients: int,
    problems: dict[str, str],
) -> Entry:
    """Return what the form contains, without client, risk and release; add what is wrong to `problems`.

    before: the entries of the client, of which a correction replaces one
    """
    entry = _read_fields(form, problems)
    fields = FIELDS.get(entry.kind, ())
    if entry.kind == log.OVERRIDE and not entry.date:
        entry = entry._replace(date=days_after(day, OVERRIDE_DAYS))
    old = next((each for each in before if each.id == entry.replaces), None)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("by", lambda: "" if entry.by else REQUIRED["by"]),
        ("outcome", lambda: _check_outcome(entry)),
        ("note", lambda: _check_note(entry)),
        ("manager", lambda: "" if entry.manager else REQUIRED["manager"]),
        ("date", lambda: _check_date(entry, day, old)),
        ("replaces", lambda: _check_replaces(entry, old, n_clients)),
    ]
    for name, check in checks:
        if name in (*ALWAYS, *fields) and name not in problems and (problem := check()):
            problems[name] = problem
    return entry


def _read_fields(form: Mapping[str, Any], problems: dict[str, str]) -> Entry:
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
        replaces=_whole_number(form.get("replaces"), "replaces", problems),
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


def _whole_number(value: Any, name: str, problems: dict[str, str]) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        problems[name] = "expected the number of an entry"
        return None
    return value


def _check_outcome(entry: Entry) -> str:
    expected = OUTCOMES[entry.kind]
    if entry.outcome in expected:
        return ""
    return (
        f"is {entry.outcome!r}, expected one of {', '.join(expected)}"
        if entry.outcome
        else REQUIRED["outcome"]
    )


def _check_note(entry: Entry) -> str:
    needs_reason = entry.kind in (log.NOT_BEFORE, log.OVERRIDE)
    return "enter a reason" if needs_reason and not entry.note else ""


def _check_date(entry: Entry, day: str, old: Entry | None) -> str:
    if not entry.date:
        return "" if entry.kind == log.CONTACT else REQUIRED["date"]
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
    return "" if old else f"entry {entry.replaces} is none of this client"
