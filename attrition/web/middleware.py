"""What holds for every request and every answer: host, token, parameters, body, headers, errors.

A caller is told what was wrong in JSON, and nothing of how it looks inside.
"""

import logging
import math
import uuid
from functools import partial
from typing import Any

from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from attrition.web import auth, request_body
from attrition.web.artifact_cache import NotReady
from attrition.web.request_body import ApiError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
RETRY_AFTER_S = 60
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
API_POLICY = "default-src 'none'"
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
)
# What a person opens in a browser, which can show the token as a password only.
FOR_BROWSERS = frozenset(
    {"show_dashboard", "static", "figure", "report", "model_card", "contact_list"}
)
PARAMETERS = {
    "list_clients": {"limit", "offset", "manager", "min_risk"},
    "show_dashboard": {"manager", "show"},
}
SENTENCES = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is nothing under this address"),
    405: ("method_not_allowed", "this address does not know the method"),
    413: ("too_large", f"the body is too large, expected at most {MAX_BODY_BYTES} bytes"),
}


def init_app(app: Flask, host: str, token: str | None) -> None:
    """Let every request of an application pass the checks, and every answer carry the headers."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.before_request(partial(check_host, host))
    app.before_request(partial(check_token, token))
    app.before_request(check_parameters)
    app.after_request(add_headers)
    app.register_error_handler(ApiError, answer_error)
    app.register_error_handler(NotReady, answer_not_ready)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_bug)


# ---- requests


def check_host(host: str) -> None:
    """Answer on the loopback interface to its own names only; elsewhere we cannot know ours.

    Raises: ApiError 421.
    """
    named = request.headers.get("Host")
    if named and auth.is_loopback(host) and not auth.is_own_name(named):
        raise ApiError(421, "wrong_host", "this is not the host that the request names")


def check_token(token: str | None) -> None:
    """Let nobody past who does not show the token, where there is one; /health tells no secret.

    Raises: ApiError 401.
    """
    endpoint = name_of_view()
    if token is None or endpoint == "health":
        return
    shown = request.authorization
    is_browser = endpoint in FOR_BROWSERS
    if shown is not None and shown.type == "bearer" and auth.is_same(shown.token, token):
        return
    password = shown.password if shown is not None and shown.type == "basic" else None
    if is_browser and auth.is_same(password, token):
        return
    challenge = 'Basic realm="attrition", charset="UTF-8"' if is_browser else "Bearer"
    raise ApiError(
        401,
        "no_token",
        "expected the token in the header Authorization: Bearer",
        {"WWW-Authenticate": challenge},
    )


def check_parameters() -> None:
    """Refuse parameters that nobody reads: whoever sends them expects something else.

    Raises: ApiError 400.
    """
    if request.routing_exception is None:
        known = PARAMETERS.get(name_of_view(), set())
        if unknown := set(request.args) - known:
            name = min(unknown)[:60]
            raise ApiError(400, "unknown_parameter", f"there is no parameter {name!r}")


def name_of_view() -> str:
    return (request.endpoint or "").rpartition(".")[2]


def read_number(name: str, default: float, low: float, high: float, *, whole: bool) -> Any:
    """Read a number of the query string.

    Raises: ApiError 422.
    """
    text = request.args.get(name)
    if text is None:
        return default
    try:
        number = int(text) if whole and len(text) < 20 else float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high or (whole and not isinstance(number, int)):
        wanted = "a whole number" if whole else "a number"
        raise ApiError(
            422, "invalid_parameter", f"{name}: expected {wanted} from {low:g} to {high:g}"
        )
    return number


def read_body() -> Any:
    """Return the JSON of the request.

    Raises: ApiError.
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8"):
        raise ApiError(415, "unsupported_type", "expected a body of type application/json, UTF-8")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "expected a body without a content encoding")
    try:
        data = request.get_data(cache=False)
    except ParseException as error:
        raise ApiError(400, "bad_request", f"the body cannot be read: {error}") from error
    if request.content_length is None and len(data) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge  # sent in chunks, and cut where the limit lies
    if len(data) < (request.content_length or 0):
        raise ApiError(400, "bad_request", "the body ended before its Content-Length")
    return request_body.read_json(data)


# ---- answers


def add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    is_page = response.mimetype == "text/html"
    response.headers["Content-Security-Policy"] = PAGE_POLICY if is_page else API_POLICY
    return response


def answer_error(error: ApiError) -> Response:
    response = jsonify(error.body)
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def answer_not_ready(error: NotReady) -> Response:
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return answer_error(ApiError(503, error.code, str(error), retry))


def answer_http_error(error: HTTPException) -> Response:
    status = error.code or 500
    code, sentence = SENTENCES.get(status, ("refused", f"{error.name.lower()}"))
    allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return answer_error(ApiError(status, code, sentence, headers))


def answer_bug(error: Exception) -> Response:
    """Tell the caller nothing but an id, by which the log tells the rest."""
    case = uuid.uuid4().hex[:12]
    logger.error("case %s: %s %s", case, request.method, name_of_view(), exc_info=error)
    sentence = f"something went wrong here; the log says more under {case}"
    return answer_error(ApiError(500, "internal_error", sentence, id=case))
