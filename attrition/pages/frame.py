"""What the pages share: who sits at the browser, cards of clients, addresses and dates of forms."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from flask import g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from attrition.access.credentials import PROXY, USER
from attrition.config import Config
from attrition.contacts import sentences, standings
from attrition.contacts.worklist import Worklist
from attrition.web.artifact_cache import State

Row = Mapping[str, Any]

REMEMBERED_S = 365 * 86_400
MAX_COOKIE = 3_000  # bytes; browsers keep 4,096 with name and attributes
FIELDS = ("outcome", "note", "date", "manager", "by", "replaces")
SNOOZES = (("1 week", 7), ("1 month", 30))
DATE_LENGTH = len("2026-11-28")
LATEST_DAYS = 5 * 365


class Person(NamedTuple):
    """Who sits at the browser: whose clients to show, and the name for entries; "" if unknown."""

    manager: str
    name: str


def add_person() -> dict[str, Any]:
    return {"me": person().manager}


def person() -> Person:
    """Return the choice in the address of Today, else the remembered one."""
    manager = remembered("manager")
    if request.endpoint == "pages.show_today" and "manager" in request.args:
        manager = request.args["manager"]
    own = g.caller.name if g.caller.kind in (USER, PROXY) else ""
    return Person(manager, remembered("by") or own or manager)


def remembered(name: str) -> str:
    return unquote(request.cookies.get(name, ""))


def remember(response: BaseResponse, name: str, text: str) -> None:
    """Set a cookie, or delete it if the text is empty."""
    value = quote(text, safe="")
    if not text:
        response.delete_cookie(name, httponly=True, samesite="Lax")
    elif len(value) <= MAX_COOKIE:
        response.set_cookie(name, value, max_age=REMEMBERED_S, httponly=True, samesite="Lax")


def client_url(name: str, **query: Any) -> str:
    """Return the address of a client's page.

    A name with "." or ".." between slashes is not put into the path, which browsers would shorten.
    """
    if {".", ".."} & {*name.split("/")}:
        return url_for("pages.show_client_page", client=name, **query)
    return url_for("pages.show_client_page", name=name, **query)


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


def managers(work: Worklist) -> list[str]:
    """Return the names of the managers who have clients, of their own or handed over."""
    moved = {standing.manager for standing in work.standings.values()}
    return sorted({*work.book.managers, *moved} - {""}, key=str.casefold)


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


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def local_time(at: str, config: Config) -> str:
    """Format a UTC time where the client managers work, or a date."""
    time = datetime.fromisoformat(at)
    if len(at) == DATE_LENGTH:
        return f"{time.day} {time:%B %Y}"
    time = time.astimezone(ZoneInfo(config.time_zone))
    return f"{time.day} {time:%B %Y, %H:%M}"


def read_form(form: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the entry that the pressed button saves, without the prefix of its kind.

    The button sends the kind as `action`, with a date after ":" if the date stands on the button.
    """
    kind, _, date = form.get("action", "").partition(":")
    return read_fields(form, kind) | {"kind": kind} | ({"date": date} if date else {})


def read_fields(form: Mapping[str, str], kind: str) -> dict[str, str]:
    """Return the fields of one kind of entry."""
    return {name: form.get(f"{kind}.{name}", form.get(name, "")) for name in FIELDS}
