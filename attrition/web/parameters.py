"""The query parameters of each view, and how they are read."""

import math
import re
from typing import Any

from flask import request

from attrition.config import Config
from attrition.contacts import worklist
from attrition.contacts.worklist import Filters
from attrition.web.request_body import ApiError

ORDERS = {"value_at_risk": "value at risk", "risk": "risk"}
VIEW = {"view", "manager", "q", "due_days", "min_risk", "order"}
PARAMETERS = {
    "prediction": {"reasons"},
    "list_clients": {*VIEW, "limit", "offset"},
    "show_today": {"manager", "order", "show", "saved"},
    "show_list": {*VIEW, "page", "saved"},
    "save_entries": {*VIEW, "page", "saved"},
    "export_view": VIEW,
    "show_client_page": {"client", "correct", "withdraw", "saved"},
    "save_entry": {"client", "correct", "saved"},
}


def read_number(name: str, default: float, low: float, high: float, *, whole: bool) -> Any:
    """Return a number from the query string, `default` if it is absent.

    Raises: ApiError 422 if it is not a number from `low` to `high`.
    """
    text = request.args.get(name)
    if text is None:
        return default
    pattern = r"[0-9]{1,15}" if whole else r"[0-9]{1,15}(\.[0-9]{1,20})?(e-?[0-9]{1,2})?"
    number: float = math.nan
    if re.fullmatch(pattern, text, re.ASCII):
        number = int(text) if whole else float(text)
    if not low <= number <= high:
        kind = "a whole number" if whole else "a number"
        raise ApiError(
            422, "invalid_parameter", f"{name}: expected {kind} from {low:g} to {high:g}"
        )
    return number


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
        due_days=read_number("due_days", 0, 0, 36_500, whole=True) if days else None,
        min_risk=read_number("min_risk", 0.0, 0, 1, whole=False),
        order=order,
    )
