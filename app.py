"""Serve predictions, the ranked clients, the diagnostics and the dashboard over what is on disk.

Reads:  production_deployment/, reports/, ingesteddata/finaldata.csv, testdata/, sourcedata/
Writes: nothing
Run:    python app.py [--config PATH] [--host HOST] [--port PORT] [--workers N]
"""

import io
import logging
import math
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
    url_for,
)
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from attrition import access, answers, bodies, cli, dashboard, health, words
from attrition import config as configuration
from attrition.bodies import ApiError
from attrition.config import Config
from attrition.disk import Record
from attrition.shelf import NotReady, Production, Shelf

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

logger = logging.getLogger("attrition.app")

WEB = Path(__file__).resolve().parent / "attrition" / "web"
MAX_BODY_BYTES = 1 << 20
THRESHOLD = 0.5
DEFAULT_LIMIT, MAX_LIMIT = 50, 1_000
RETRY_AFTER_S = 60
WORKERS = 2

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
FOR_BROWSERS = frozenset({"show_dashboard", "static", "figure", "report", "contact_list"})
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
LIST_TEXTS = ("client", "manager", "reasons")


# ---- the endpoints

views = Blueprint("views", __name__)


@dataclass(frozen=True)
class State:
    """What the requests of one application share."""

    config: Config
    shelf: Shelf
    production: Production
    token: str | None


def state() -> State:
    return current_app.extensions["attrition"]


class ClientName(BaseConverter):
    """A client's name in a path: any text, slashes included."""

    regex = r"[\s\S]+"
    part_isolating = False


@views.post("/prediction")
def prediction() -> Record:
    """Assess the records of the body, or those of a file that lies here: all of them or none."""
    config = state().config
    key, value = bodies.check_body(read_body())
    release, model = state().production.get()
    if key == "records":
        seen_missing = release.training["missing_seen"]
        rows = bodies.check_records(config.columns, value, seen_missing)
    else:
        rows = bodies.read_datafile(config, value)
    predictions = answers.predict(release, model, rows, config.columns.client_name)
    return {"model": release.id, "predictions": predictions, "count": len(predictions)}


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
    return bodies.read_json(data)


@views.get("/scoring")
def show_scoring() -> Record:
    """Say how right the model in production is, and what was decided last."""
    config = state().config
    release, _ = state().production.get()
    decision = optional(state().shelf.record, config.decision_record, "deployment.py")
    return answers.scoring(release, decision)


@views.get("/summarystats")
def summarystats() -> Record:
    """Describe each column of the data, its missing values included."""
    record = diagnosed()
    return {key: record[key] for key in ("diagnosed_at", "release", "columns")}


@views.get("/diagnostics")
def diagnostics() -> Record:
    """Say whether anything has moved, how long the steps take, and which packages are outdated."""
    left_out = {"columns", "inputs", "outputs", "seal"}
    return {key: value for key, value in diagnosed().items() if key not in left_out}


def diagnosed() -> Record:
    return state().shelf.record(state().config.diagnostics_record, "diagnostics.py")


@views.get("/clients")
def list_clients() -> Record:
    """List the current clients, the riskiest first, a page at a time."""
    limit = read_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT, whole=True)
    offset = read_number("offset", 0, 0, 1e12, whole=True)
    min_risk = read_number("min_risk", 0.0, 0, 1, whole=False)
    manager = request.args.get("manager")
    record, table = assessed()
    if min_risk:
        table = table[table["risk"] >= min_risk]
    if manager is not None:
        table = table[table["manager"] == manager]
    page = table.iloc[offset : offset + limit]
    following = None
    if offset + limit < len(table):
        asked = {**request.args.to_dict(), "limit": limit, "offset": offset + limit}
        following = url_for(".list_clients", **asked)
    return {
        "model": record["release"],
        "assessed_at": record["assessed_at"],
        "clients": [answers.plain(row) for row in page.to_dict("records")],
        "count": len(page),
        "total": len(table),
        "next": following,
    }


@views.get("/clients/<client:name>")
def show_client(name: str) -> Record:
    """Tell all that is known of one current client, and why it is on the contact list if it is."""
    record, table = assessed()
    found = table[table["client"] == name]
    if found.empty:
        raise ApiError(404, "unknown_client", "there is no such current client")
    listed = next((row for row in contact_rows() if row["client"] == name), None)
    reasons = listed["reasons"].split("; ") if listed and listed["reasons"] else None
    return {
        "model": record["release"],
        "assessed_at": record["assessed_at"],
        **answers.plain(found.iloc[0].to_dict()),
        "clients": len(table),
        "on_contact_list": listed is not None,
        "reasons": reasons,
        "features": latest_features(name),
    }


def assessed() -> tuple[Record, "pd.DataFrame"]:
    """Return the record of the assessment and the risk of every current client."""
    config, shelf = state().config, state().shelf
    record_path, script = config.assessment_record, "assessment.py"
    table = shelf.output(record_path, config.risk_scores, script, answers.parse_risks)
    return shelf.record(record_path, script), table


def contact_rows() -> list[dict[str, str]]:
    config = state().config
    record_path, script = config.assessment_record, "assessment.py"
    return state().shelf.output(record_path, config.contact_list, script, answers.parse_list)


def latest_features(name: str) -> Record:
    config = state().config

    def parse(data: bytes) -> "pd.DataFrame":
        import pandas as pd

        from attrition import schema

        rows = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
        latest = schema.current_clients(schema.typed(rows, config.columns), config.columns)
        return latest.set_index(config.columns.client_name)[list(config.columns.features)]

    record_path, script = config.ingestion_record, "ingestion.py"
    latest = state().shelf.output(record_path, config.final_data, script, parse)
    return answers.plain(latest.loc[name].to_dict()) if name in latest.index else {}


@views.get("/contactlist.csv")
def contact_list() -> Response:
    """Hand out the contact list for a spreadsheet."""
    response = Response(answers.defuse(contact_rows(), LIST_TEXTS), mimetype="text/csv")
    response.headers["Content-Disposition"] = "attachment; filename=contactlist.csv"
    return response


@views.get("/report.pdf")
def report() -> Response:
    """Hand out the report."""
    response = Response(reported(state().config.report), mimetype="application/pdf")
    response.headers["Content-Disposition"] = "attachment; filename=report.pdf"
    return response


@views.get("/figures/<name>.png")
def figure(name: str) -> Response:
    """Hand out one of the figures that the report is made of."""
    if name not in figure_names():
        raise ApiError(404, "unknown_figure", "there is no such figure", figures=figure_names())
    return Response(reported(state().config.figure(name)), mimetype="image/png")


def reported(path: Path) -> bytes:
    return state().shelf.output(state().config.report_record, path, "reporting.py")


def figure_names() -> list[str]:
    record = state().shelf.record(state().config.report_record, "reporting.py")
    return sorted(name[:-4] for name in record["outputs"] if name.endswith(".png"))


@views.get("/health", endpoint="health")
def show_health() -> tuple[Record, int]:
    """Say whether requests can be answered, from what, and what a person should look at."""
    now = datetime.now(UTC)
    found = health.look(state().config, state().shelf, state().production, now)
    last, good_at = found.runs.last, found.runs.good_at
    ended_at = last["ended_at"] if last else None
    return {
        "status": found.status,
        "release": found.release,
        "last_run_ended_at": ended_at,
        "last_run_age_s": age_s(ended_at, now),
        "last_good_run_at": good_at,
        "last_good_run_age_s": age_s(good_at, now),
        "runs_of_last_day": dict(found.runs.counts),
        "complaints": sorted({complaint.code for complaint in found.complaints}),
        "warnings": [complaint.sentence for complaint in found.complaints],
    }, 200 if found.answers else 503


def age_s(at: str | None, now: datetime) -> int | None:
    """Return how long ago something was; 0 where the clock says that it is to come."""
    return max(0, round(dashboard.seconds_since(at, now))) if at else None


def optional(read: Callable[..., T], *args: Any) -> T | None:
    """Return what `read` returns, or None while it is not there."""
    try:
        return read(*args)
    except NotReady:
        return None


@views.get("/")
def show_dashboard() -> str:
    """Show people the state, the contact list and the figures on one page."""
    config, shelf = state().config, state().shelf
    problems: list[str] = []

    def tell(read: Callable[..., T], *args: Any) -> T | None:
        try:
            return read(*args)
        except NotReady as error:
            if error.code == "damaged":
                problems.append(str(error))
        return None

    now = datetime.now(UTC)
    served = tell(state().production.get)
    release = served[0] if served else None
    problems += filter(None, [state().production.problem if served else None])
    monitoring = tell(shelf.record, config.monitoring_record, "fullprocess.py")
    assessment = tell(shelf.record, config.assessment_record, "assessment.py")
    diagnosis = tell(shelf.record, config.diagnostics_record, "diagnostics.py") or {}
    listed = dashboard.contacts(tell(contact_rows) or [])
    names = tell(figure_names)
    manager = request.args.get("manager", "")
    chosen = [row for row in listed if manager in ("", row["manager"])]
    is_cut = not manager and request.args.get("show") != "all"
    score, release_id = (release.score, release.id) if release else (None, None)
    truth = dashboard.truth_of(monitoring, release_id)
    runs = health.of_runs(config, shelf, now)
    problems += [complaint.sentence for complaint in runs.complaints]
    return render_template(
        "dashboard.html",
        headline=dashboard.headline(score, truth, runs.last, now),
        runs=dashboard.runs(runs.good_at, runs.counts, now),
        problems=[words.finished(problem) for problem in dict.fromkeys(problems)],
        release=release_id,
        numbers=dashboard.numbers(assessment, config.currency),
        assessed=f"as of {dashboard.ago(assessment['assessed_at'], now)}" if assessment else "",
        order=config.contact_order,
        contacts=chosen[: dashboard.CONTACTS_SHOWN] if is_cut else chosen,
        listed=len(chosen),
        has_value=any(row["value_at_risk"] is not None for row in listed),
        has_reasons=any(row["reasons"] for row in listed),
        has_moved=any(row["moved"] for row in listed),
        managers=sorted({row["manager"] for row in listed if row["manager"]}),
        manager=manager,
        currency=config.currency,
        figures=dashboard.figures(names or []),
        drift=diagnosis.get("drift"),
        moved_columns=dashboard.moved_columns(diagnosis.get("drift")),
        data=diagnosis.get("data"),
        missing=dashboard.missing_columns(diagnosis.get("columns")),
        packages=dashboard.outdated(diagnosis.get("dependencies")),
        has_report=names is not None,
        with_token=state().token is not None,
    )


# ---- what holds for every endpoint


def check_host() -> None:
    """Answer on the loopback interface to its own names only; elsewhere we cannot know ours.

    Raises: ApiError 421.
    """
    named = request.headers.get("Host")
    if named and access.is_loopback(state().config.api.host) and not access.is_own_name(named):
        raise ApiError(421, "wrong_host", "this is not the host that the request names")


def check_token() -> None:
    """Let nobody past who does not show the token, where there is one; /health tells no secret.

    Raises: ApiError 401.
    """
    token, endpoint = state().token, name_of_view()
    if token is None or endpoint == "health":
        return
    shown = request.authorization
    is_browser = endpoint in FOR_BROWSERS
    if shown is not None and shown.type == "bearer" and access.is_same(shown.token, token):
        return
    password = shown.password if shown is not None and shown.type == "basic" else None
    if is_browser and access.is_same(password, token):
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


# ---- the application


def create_app(config: Config | Path | None = None) -> Flask:
    """Make the application for one config.json; nothing exists before.

    Raises: ConfigError when config.json or the environment does not say all that is needed.
    """
    if not isinstance(config, Config):
        config = configuration.load(config)
    app = Flask("attrition", root_path=str(WEB), static_url_path="/static")
    app.debug = False  # whatever FLASK_DEBUG says
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False
    app.url_map.converters["client"] = ClientName
    app.jinja_env.filters |= {
        name: getattr(words, name) for name in ("count", "finished", "percent")
    }
    app.extensions["attrition"] = State(
        config, Shelf(), Production(config.production_folder), access.read_token(config)
    )
    app.before_request(check_host)
    app.before_request(check_token)
    app.before_request(check_parameters)
    app.after_request(add_headers)
    app.register_error_handler(ApiError, answer_error)
    app.register_error_handler(NotReady, answer_not_ready)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_bug)
    app.register_blueprint(views)
    return app


def serve(config: Config, workers: int) -> int:
    """Serve until a signal says to stop; each worker loads the model before its first request."""
    from attrition import server

    access.check_exposure(config.api.host, access.read_token(config))

    def load() -> Flask:
        app = create_app(config)
        state_of = app.extensions["attrition"]
        optional(state_of.production.get)
        return app

    listener = server.bind(config.api.host, config.api.port)
    host, port = listener.getsockname()[:2]
    print(f"serving on http://{host}:{port} with {workers} workers, Ctrl-C stops it", flush=True)
    server.serve(load, listener, workers=workers)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--host", help="default: api.host of config.json, else 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: api.port of config.json, else 8000")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        host = options.host or config.api.host
        port = config.api.port if options.port is None else options.port
        api = replace(config.api, host=host, port=port)
        return serve(replace(config, api=api), options.workers)

    return cli.guard(options, work)


if __name__ == "__main__":
    sys.exit(main())
