"""Check every request (host, token, parameters, body) and add headers and JSON errors to responses.

An error names what is wrong with the request, and nothing internal to the server.
"""

import logging
import time
import uuid
from functools import partial
from typing import Any

from flask import Flask, Response, g, render_template, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from attrition import wording
from attrition.errors import NotReady
from attrition.storage.files import Record
from attrition.web import auth, parameters, request_body
from attrition.web.request_body import ApiError

logger = logging.getLogger(__name__)

Answer = tuple[Record | str, int, dict[str, str]]

MAX_BODY_BYTES = 2_000_000
RETRY_AFTER_S = 60
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    # With no-referrer, a browser sends "Origin: null" with a form of our own.
    "Referrer-Policy": "same-origin",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
API_POLICY = "default-src 'none'"
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'"
)
# Views that people open in a browser, which can send the token only as a password.
FOR_BROWSERS = frozenset(
    {
        *(
            "show_today",
            "show_list",
            "show_client_page",
            "save_entry",
            "save_entries",
            "export_view",
        ),
        *("show_model", "show_data", "show_system"),
        *("static", "figure", "report", "model_card", "contact_list"),
    }
)
SENTENCES = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is no such address"),
    405: ("method_not_allowed", "use {methods} for {path}"),
    413: ("too_large", f"the body is too large, expected at most {MAX_BODY_BYTES} bytes"),
}


# Errors that a browser shows as a page; not those before the token is checked, which reveal nothing.
TITLES = {
    400: "Not understood",
    404: "Not found",
    405: "Not possible",
    413: "Too long",
    422: "Not understood",
    503: "Not available now",
}


def init_app(app: Flask, host: str, token: str | None) -> None:
    """Register request checks, security headers and error handlers on the app."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.before_request(begin)
    app.before_request(partial(check_host, host))
    app.before_request(check_site)
    app.before_request(partial(check_token, token))
    app.before_request(check_parameters)
    app.after_request(add_headers)
    app.register_error_handler(ApiError, answer_error)
    app.register_error_handler(NotReady, answer_not_ready)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_bug)


# ---- requests


def begin() -> None:
    """Give the request an id, which the log and the answer name."""
    g.request_id, g.started = uuid.uuid4().hex[:16], time.perf_counter()


def check_host(host: str) -> None:
    """Accept only loopback names in the Host header if the app listens on the loopback interface.

    Raises: ApiError 421.
    """
    name = request.headers.get("Host")
    if name and auth.is_loopback(host) and not auth.is_own_name(name):
        raise ApiError(421, "wrong_host", "the Host header names another host")


def check_site() -> None:
    """Refuse what a page of another site lets a browser send.

    A browser names where a request comes from, in one header or the other; other callers send neither.

    Raises: ApiError 403.
    """
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = f"{request.scheme}://{request.host}"
    is_own = origin in (None, own) if site is None else site in ("same-origin", "none")
    if not is_own:
        raise ApiError(403, "cross_site", "a page of another site may not send this")


def check_token(token: str | None) -> None:
    """Require the token if one is configured, except for /health, which reveals no client.

    Raises: ApiError 401.
    """
    endpoint = name_of_view()
    if token is None or endpoint == "health":
        return
    is_browser = endpoint in FOR_BROWSERS
    if (sent := request.authorization) is not None:
        if sent.type == "bearer" and auth.is_token(sent.token, token):
            return
        if sent.type == "basic" and is_browser and auth.is_token(sent.password, token):
            return
    challenge = 'Basic realm="attrition", charset="UTF-8"' if is_browser else "Bearer"
    raise ApiError(
        401,
        "no_token",
        "expected the token in the header Authorization: Bearer",
        {"WWW-Authenticate": challenge},
    )


def check_parameters() -> None:
    """Reject unknown query parameters; a typo should not be ignored.

    Raises: ApiError 400.
    """
    unknown = set(request.args) - parameters.PARAMETERS.get(name_of_view(), set())
    if unknown and request.routing_exception is None:
        raise ApiError(400, "unknown_parameter", f"there is no parameter {min(unknown)[:60]!r}")


def name_of_view() -> str:
    return (request.endpoint or "").rpartition(".")[2]


def read_body() -> Any:
    """Return the parsed JSON body of the request.

    Raises: ApiError.
    """
    return request_body.read_json(read_data("application/json"))


def read_data(*types: str) -> bytes:
    """Return the body of the request, which has one of these types and is not encoded.

    Raises: ApiError.
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in types or charset not in ("utf-8", "utf8"):
        expected = f"expected a body of type {' or '.join(types)}, UTF-8"
        raise ApiError(415, "unsupported_type", expected)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "expected a body without a content encoding")
    try:
        data = request.get_data(cache=False)
    except ParseException as error:
        raise ApiError(400, "bad_request", f"the body cannot be read: {error}") from error
    if request.content_length is None and len(data) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge  # a chunked body, which Werkzeug cuts at the limit
    if len(data) < (request.content_length or 0):
        raise ApiError(400, "bad_request", "the body ended before its Content-Length")
    return data


# ---- responses


def add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers["X-Request-Id"] = g.request_id
    is_page = response.mimetype == "text/html"
    response.headers["Content-Security-Policy"] = PAGE_POLICY if is_page else API_POLICY
    return response


def answer_error(error: ApiError) -> Answer:
    body: Record | str = error.body
    if error.status in TITLES and wants_page():
        sentence, title = wording.finished(error.body["error"]), TITLES[error.status]
        name = (request.view_args or {}).get("name", "")
        body = render_template(
            "error.html", title=title, sentence=sentence, status=error.status, wanted=name
        )
    return body, error.status, dict(error.headers)


def wants_page() -> bool:
    """Return whether a browser asks for something to show, not a program."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def answer_not_ready(error: NotReady) -> Answer:
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return answer_error(ApiError(503, error.code, str(error), retry))


def answer_http_error(error: HTTPException) -> Answer:
    status = error.code or 500
    code, sentence = SENTENCES.get(status, ("refused", error.name.lower()))
    headers = {}
    if isinstance(error, MethodNotAllowed):
        methods = sorted(error.valid_methods or ())
        headers["Allow"] = ", ".join(methods)
        usable = " or ".join(name for name in methods if name not in ("HEAD", "OPTIONS"))
        sentence = sentence.format(methods=usable, path=request.path[:60])
    return answer_error(ApiError(status, code, sentence, headers))


def answer_bug(error: Exception) -> Answer:
    """Log an unexpected error under an id, and respond with that id only."""
    logger.error("request %s: %s %s", g.request_id, request.method, name_of_view(), exc_info=error)
    sentence = f"internal error; the log has the details under {g.request_id}"
    return answer_error(ApiError(500, "internal_error", sentence, id=g.request_id))
