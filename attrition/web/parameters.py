"""The query parameters, declared once to be read and described, and how a path names a client."""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from flask import request
from werkzeug.routing import BaseConverter

from attrition.config import Config
from attrition.contacts import worklist
from attrition.contacts.worklist import Filters
from attrition.errors import ApiError

DEFAULT_LIMIT, MAX_LIMIT, MAX_REASONS = 50, 1_000, 20
MAX_TEXT = 200
ORDERS = {"value_at_risk": "value at risk", "risk": "risk"}
VIEW = {"view", "manager", "q", "due_days", "min_risk", "order"}
PARAMETERS = {
    "sign_in": {"next"},
    "prediction": {"reasons"},
    "list_clients": {*VIEW, "limit", "offset"},
    "show_today": {"manager", "order", "show", "saved"},
    "show_list": {*VIEW, "page", "saved"},
    "save_entries": {*VIEW, "page", "saved"},
    "export_view": VIEW,
    "export_workbook": VIEW,
    "show_client_page": {"client", "correct", "withdraw", "saved"},
    "save_entry": {"client", "correct", "saved"},
}


class ClientName(BaseConverter):
    """Converter for a client's name in a URL: any text, slashes included."""

    regex = r"[\s\S]+"
    part_isolating = False


class Parameter(NamedTuple):
    """What a query parameter is for, and its JSON schema, which may contain its default."""

    description: str
    schema: Mapping[str, Any]


@cache
def declared(*, has_value: bool) -> Mapping[str, Parameter]:
    """Return the parameters that `read` reads, by name; has_value: the clients have a value."""
    orders = list(ORDERS) if has_value else ["risk"]
    return {
        "reasons": Parameter(
            "The number of reasons to add to each prediction, strongest first.",
            {"type": "integer", "minimum": 1, "maximum": MAX_REASONS},
        ),
        "view": Parameter(
            "Which clients: all, on the contact list (list), new or risen (moved), off the list for "
            "now (resting), valuable and not contacted for a long time (neglected), with a manager's "
            "override (overridden), past the end of the contract (past_due), or with a follow-up that "
            "does not fit on the list (waiting).",
            {"type": "string", "enum": list(worklist.VIEWS), "default": worklist.ALL},
        ),
        "manager": Parameter(
            "Only clients of this client manager, after reassignments; if empty, of all.",
            {"type": "string", "maxLength": MAX_TEXT},
        ),
        "q": Parameter(
            "Only clients whose name contains these words, whatever their case and accents.",
            {"type": "string", "maxLength": MAX_TEXT, "default": ""},
        ),
        "due_days": Parameter(
            "Only clients whose contract ends within this number of days.",
            {"type": "integer", "minimum": 0, "maximum": 36_500},
        ),
        "min_risk": Parameter(
            "Only clients with at least this risk.",
            {"type": "number", "minimum": 0, "maximum": 1, "default": 0.0},
        ),
        "order": Parameter(
            "The field to sort by, highest first; by default the order of the view.",
            {"type": "string", "enum": orders},
        ),
        "limit": Parameter(
            "The maximum number of clients on a page.",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        ),
        "offset": Parameter(
            "The number of clients to skip.",
            {"type": "integer", "minimum": 0, "maximum": 10**12, "default": 0},
        ),
        "page": Parameter(
            "The number of the page.",
            {"type": "integer", "minimum": 1, "maximum": 10**9, "default": 1},
        ),
        "correct": Parameter(
            "The number of the entry to correct.",
            {"type": "integer", "minimum": 0, "maximum": 10**15, "default": 0},
        ),
    }


def read(name: str, *, has_value: bool = True) -> Any:
    """Return a parameter of the request; if it is absent, its default, or None without one.

    A form on a page sends empty parameters too, which count as absent there.

    Raises: ApiError 422 if it is not what the declaration allows.
    """
    schema = declared(has_value=has_value)[name].schema
    text = request.args.get(name)
    if text is None or (not text and request.blueprint == "pages"):
        return schema.get("default")
    value = _read_number(text, schema["type"]) if schema["type"] != "string" else text
    if problem := _problem(value, schema):
        raise ApiError(422, "invalid_parameter", f"{name}: expected {problem}")
    return value


def _read_number(text: str, kind: str) -> float:
    """Return a number as JSON writes it; NaN for anything else."""
    whole = r"[0-9]{1,15}"
    pattern = whole if kind == "integer" else rf"-?{whole}(\.[0-9]{{1,20}})?([eE]-?[0-9]{{1,3}})?"
    if not re.fullmatch(pattern, text, re.ASCII):
        return math.nan
    return int(text) if kind == "integer" else float(text)


def _problem(value: Any, schema: Mapping[str, Any]) -> str:
    if schema["type"] == "string":
        if value not in (expected := schema.get("enum", [value])):
            return f"one of {', '.join(expected)}"
        too_long = len(value) > MAX_TEXT
        return f"at most {MAX_TEXT} characters" if too_long else ""
    low, high = schema["minimum"], schema["maximum"]
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    return "" if low <= value <= high else f"{kind} from {low:g} to {high:g}"


def chosen_filters(config: Config) -> Filters:
    """Return the filters that the address names.

    Raises: ApiError 422.
    """
    return Filters(
        manager=read("manager") or None,
        query=read("q"),
        due_days=read("due_days"),
        min_risk=read("min_risk"),
        order=read("order", has_value=bool(config.columns.value)) or "",
    )
