"""Check every request (host, site, caller, parameters, body); add headers and JSON errors to responses.

An error names what is wrong with the request, and nothing internal to the server.
"""

import base64
import hashlib
import logging
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Flask, Response, current_app, g, render_template, request
from flask.globals import request_ctx
from gunicorn.http.errors import ParseException
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from attrition import wording
from attrition.access import proxies, roles
from attrition.access.credentials import NOBODY, STRANGER
from attrition.errors import ApiError, NotReady
from attrition.operations import log
from attrition.storage import files
from attrition.storage.files import Record
from attrition.web import auth, parameters, request_body

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
# Views whose answer changes with a run or a release only.
CONSTANT = frozenset(
    {
        *("scoring", "summarystats", "diagnostics", "model_card", "report", "figure"),
        *("openapi", "show_docs", "static"),
    }
)
SENTENCES = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is no such address"),
    405: ("method_not_allowed", "use {methods} for {path}"),
    413: ("too_large", f"the body is too large, expected at most {MAX_BODY_BYTES} bytes"),
}


# Errors shown as a page if the caller is known, since the page has a menu.
TITLES = {
    400: "Invalid request",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    413: "Too large",
    422: "Invalid request",
    429: "Too many requests",
    503: "Not available now",
}
READ_ONLY = ("prediction",)  # views that take a POST and change nothing
WRONG = "The name or the password is wrong, or access has expired or been revoked."
REFUSALS = (401, 403, 421, 429)


def init_app(app: Flask, access: auth.Access) -> None:
    """Register request checks, security headers and error handlers on the app."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["access"] = access
    serve = app.wsgi_app

    def serve_behind_proxies(environ: dict[str, Any], start_response: Any) -> Any:
        proxies.apply_claims(environ, access.proxies)
        return serve(environ, start_response)

    app.wsgi_app = serve_behind_proxies  # type: ignore[method-assign]
    app.before_request(begin)
    app.before_request(check_host)
    app.before_request(check_site)
    app.before_request(check_access)
    app.before_request(check_parameters)
    app.after_request(log_answer)  # the last one: Flask calls them in reverse order
    app.after_request(add_headers)
    app.after_request(record_event)
    app.after_request(answer_conditionally)
    app.register_error_handler(ApiError, answer_error)
    app.register_error_handler(NotReady, answer_not_ready)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_bug)


# ---- requests


def begin() -> None:
    """Give the request an id for the log and the answer; its caller is not known yet.

    Werkzeug ignores all but one of the slashes that begin an address; here it is another address.
    """
    if request.environ["PATH_INFO"].startswith("//"):
        request.url_rule, request.routing_exception = None, NotFound()
    g.request_id, g.started = uuid.uuid4().hex[:16], time.perf_counter()
    g.caller, g.code, g.policy = STRANGER, "", None


def get_access() -> auth.Access:
    """Return who may use the app that answers the current request."""
    return current_app.extensions["access"]


def check_host() -> None:
    """Accept only our own names in the Host header.

    Raises: ApiError 421.
    """
    name, api = request.headers.get("Host"), get_access().config.api
    if name and not auth.is_own_name(name, api.host, api.hosts):
        raise ApiError(421, "wrong_host", "the Host header names another host")


def check_site() -> None:
    """Refuse requests that a page of another site makes a browser send.

    A browser sends at least one of these two headers; other callers send neither.

    Raises: ApiError 403.
    """
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = f"{request.scheme}://{request.host}"
    is_own = origin in (None, own) if site is None else site in ("same-origin", "none")
    if not is_own:
        raise ApiError(403, "cross_site", "a page of another site may not send this")


def check_access() -> None:
    """Identify the caller, and refuse a view that none of the caller's roles may use.

    Raises: ApiError 401, 403, 429, 503.
    """
    view, access = name_of_view(), get_access()
    try:
        g.caller = access.identify(request)
    except ApiError:
        if view in roles.FOR_ALL:
            return
        raise
    access.check_limit(g.caller)
    if request.routing_exception is None:
        auth.check_role(g.caller, view)


def check_parameters() -> None:
    """Reject unknown and repeated query parameters; a typo should not be ignored.

    Raises: ApiError 400.
    """
    if request.routing_exception is not None:
        return
    known = parameters.PARAMETERS.get(name_of_view(), set())
    if unknown := set(request.args) - known:
        names = f"only {', '.join(sorted(known))}" if known else "nor any other"
        sentence = f"there is no parameter {min(unknown)[:60]!r}, {names}"
        raise ApiError(400, "unknown_parameter", sentence)
    for name, values in request.args.lists():
        if len(values) > 1:
            raise ApiError(400, "repeated_parameter", f"the parameter {name!r} is repeated")


def name_of_view() -> str:
    """Return the view of the request; if only the method is wrong, a view of the same address."""
    endpoint, error = request.endpoint or "", request.routing_exception
    adapter = request_ctx.url_adapter
    if adapter and isinstance(error, MethodNotAllowed) and error.valid_methods:
        endpoint, _ = adapter.match(method=next(iter(error.valid_methods)))
    return endpoint.rpartition(".")[2]


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
        given, wanted = request.content_type or "no Content-Type", " or ".join(types)
        sentence = f"found {given[:60]!r}, expected a body with Content-Type: {wanted}, in UTF-8"
        raise ApiError(415, "unsupported_type", sentence)
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


def answer_conditionally(response: Response) -> Response:
    """Add a hash of the content as ETag if it is constant between runs; 304 if the caller has it.

    Flask derives the ETag of a static file from its time, which differs between installations.
    """
    if (
        name_of_view() in CONSTANT
        and request.method in ("GET", "HEAD")
        and response.status_code == 200
    ):
        response.direct_passthrough = False
        response.set_etag(files.sha256_bytes(response.get_data())[:32])
        response.close()  # the file of a static answer, which is in memory now
        del response.last_modified
        response.make_conditional(request)
    return response


def add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers["X-Request-Id"] = g.request_id
    is_page = response.mimetype == "text/html"
    response.headers["Content-Security-Policy"] = g.policy or (
        PAGE_POLICY if is_page else API_POLICY
    )
    return response


def record_event(response: Response) -> Response:
    """Record a write or a refusal in the audit log, without what was written."""
    view = name_of_view()
    is_refusal = response.status_code in REFUSALS
    if is_refusal or (request.method not in SAFE_METHODS and view not in READ_ONLY):
        event = {
            **{"at": files.utc_now(), "id": g.request_id, "who": g.caller.name},
            **{"kind": g.caller.kind, "address": request.remote_addr, "method": request.method},
            **{"view": view, "status": response.status_code, "code": g.code},
        }
        get_access().audit.write(event, is_refusal=is_refusal)
    return response


def log_answer(response: Response) -> Response:
    log.log_request(
        request_id=g.request_id,
        method=request.method,
        view=name_of_view() or None,
        status=response.status_code,
        ms=round((time.perf_counter() - g.started) * 1000, 1),
        caller=getattr(g.get("caller"), "name", None),
    )
    return response


def answer_error(error: ApiError) -> Answer:
    body: Record | str = error.body
    g.code = error.body["code"]
    is_sign_in = name_of_view() == "sign_in" and error.status in (429, 503)
    if (error.status == 401 or is_sign_in) and wants_page():
        body = sign_in_page(error)
    elif error.status in TITLES and g.caller.kind != NOBODY and wants_page():
        sentence, title = wording.finished(error.body["error"]), TITLES[error.status]
        name = (request.view_args or {}).get("name", "")
        body = render_template(
            "error.html", title=title, sentence=sentence, status=error.status, wanted=name
        )
    return body, error.status, dict(error.headers)


def sign_in_page(error: ApiError) -> str:
    """Return the sign-in page; its styles are inlined, since static files need a session too.

    If a link in an e-mail is opened, the browser does not send the SameSite=Strict cookie, although the
    reader may be signed in. Then the page reloads itself, as a request from our own site.
    """
    style = (Path(current_app.root_path) / "static" / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    g.policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'"
    )
    is_tried = name_of_view() == "sign_in" and request.method == "POST"
    if name_of_view() == "sign_in":
        wanted = request.form.get("next") or request.args.get("next", "/")
    else:
        wanted = request.environ.get("RAW_URI") or quote(request.path)
    wanted = wanted if auth.is_own_path(wanted) else "/"
    is_cross_site = request.headers.get("Sec-Fetch-Site") == "cross-site"
    is_opened = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    host = urlsplit(request.host_url).hostname or ""
    # Without the context of the other templates, which show the state of the system.
    return current_app.jinja_env.get_template("sign_in.html").render(
        style=Markup(style),
        problem=(WRONG if error.status == 401 else wording.finished(str(error)))
        if is_tried
        else "",
        name=request.form.get("name", "") if is_tried else "",
        wanted=wanted,
        action=f"{request.script_root}/sign-in",
        reload=wanted if is_cross_site and is_opened else "",
        is_kept=request.is_secure or auth.is_loopback(host),
    )


def wants_page() -> bool:
    """Return whether the caller prefers HTML, as a browser does."""
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
