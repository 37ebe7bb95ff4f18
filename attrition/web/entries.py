"""Save what people enter about clients in a form or in JSON, and return entries for JSON."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.contacts.standings import counting
from attrition.entering.validation import ALWAYS, FIELDS, read_entry, read_fields, read_number
from attrition.errors import ApiError
from attrition.rows import forgotten
from attrition.storage import files
from attrition.storage.files import Record
from attrition.web.artifact_cache import State, contact_log_errors

MAX_CLIENTS = 1_000


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
    number = read_number(seen, "seen", problems)
    before = state.desk.entries(names[0]) if len(names) == 1 else []
    entry = read_entry(form, worklist.day, before, len(names), problems)
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
            refuse = partial(forgotten.refuse, state.config)
            return Saved(*log.append(state.desk.path, entries, at, number, refuse))
    except log.Stale as error:
        return Stale(list(error.newer), max(newest, *(each.id for each in error.newer)))
    except log.NotReplaceable as error:
        return Faults({"replaces": str(error)})


def _find_stored(state: State, client: str, form: Mapping[str, Any]) -> Entry | None:
    """Return the entry that was stored when this form was sent before, with the same key.

    Its date may have been valid only on that day, and so may the date of an override without one.
    """
    problems: dict[str, str] = {}
    entry = read_fields(form, problems)._replace(client=client)
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
