"""Serve predictions, the ranked clients, the diagnostics and the dashboard over what is on disk.

Reads:  production_deployment/, reports/, ingesteddata/finaldata.csv, testdata/, sourcedata/
Writes: nothing
Run:    python app.py [--config PATH] [--host HOST] [--port PORT] [--workers N]
"""

import io
import sys
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
    render_template,
    request,
    url_for,
)
from werkzeug.routing import BaseConverter

from attrition import config as configuration
from attrition import wording
from attrition.config import Config
from attrition.operations import cli
from attrition.storage.files import Record
from attrition.web import auth, health, middleware, pages, request_body, responses
from attrition.web.artifact_cache import ArtifactCache, NotReady, Production
from attrition.web.request_body import ApiError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

WEB = Path(__file__).resolve().parent / "attrition" / "web"
DEFAULT_LIMIT, MAX_LIMIT = 50, 1_000
WORKERS = 2


# ---- the endpoints

views = Blueprint("views", __name__)


@dataclass(frozen=True)
class State:
    """What the requests of one application share."""

    config: Config
    cache: ArtifactCache
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
    key, value = request_body.check_body(middleware.read_body())
    release, model = state().production.get()
    if key == "records":
        seen_missing = release.training["missing_seen"]
        rows = request_body.check_records(config.columns, value, seen_missing)
    else:
        rows = request_body.read_datafile(config, value)
    predictions = responses.predict(release, model, rows, config.columns.client_name)
    return {"model": release.id, "predictions": predictions, "count": len(predictions)}


@views.get("/scoring")
def show_scoring() -> Record:
    """Say how right the model in production is, and what was decided last."""
    config = state().config
    release, _ = state().production.get()
    decision = optional(state().cache.record, config.decision_record, "deployment.py")
    return responses.scoring(release, decision)


@views.get("/summarystats")
def summarystats() -> Record:
    """Describe each column of the data, its missing values included."""
    record = diagnosed()
    return {key: record[key] for key in ("diagnosed_at", "release", "columns")}


@views.get("/diagnostics")
def diagnostics() -> Record:
    """Say whether anything has moved, what is estimated while outcomes are not known, how long the
    steps take, and which packages are outdated."""
    left_out = {"columns", "inputs", "outputs", "seal"}
    found = {key: value for key, value in diagnosed().items() if key not in left_out}
    assessed = (
        optional(state().cache.record, state().config.assessment_record, "assessment.py") or {}
    )
    return found | {key: assessed.get(key) for key in ("estimate", "second_opinion")}


def diagnosed() -> Record:
    return state().cache.record(state().config.diagnostics_record, "diagnostics.py")


@views.get("/clients")
def list_clients() -> Record:
    """List the current clients, the riskiest first, a page at a time."""
    limit = middleware.read_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT, whole=True)
    offset = middleware.read_number("offset", 0, 0, 1e12, whole=True)
    min_risk = middleware.read_number("min_risk", 0.0, 0, 1, whole=False)
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
        "clients": [responses.client(row) for row in page.to_dict("records")],
        "count": len(page),
        "total": len(table),
        "next": following,
    }


@views.get("/clients/<client:name>")
def show_client(name: str) -> Record:
    """Tell all that is known of one current client, and what raises its risk."""
    record, table = assessed()
    found = table[table["client"] == name]
    if found.empty:
        raise ApiError(404, "unknown_client", "there is no such current client")
    return {
        "model": record["release"],
        "assessed_at": record["assessed_at"],
        **responses.client(found.iloc[0].to_dict()),
        "clients": len(table),
        "on_contact_list": any(row["client"] == name for row in contact_rows()),
        "features": latest_features(name),
    }


def assessed() -> tuple[Record, "pd.DataFrame"]:
    """Return the record of the assessment and the risk of every current client."""
    config, cache = state().config, state().cache
    record_path, script = config.assessment_record, "assessment.py"
    table = cache.output(record_path, config.risk_scores, script, responses.parse_risks)
    return cache.record(record_path, script), table


def contact_rows() -> list[dict[str, str]]:
    config = state().config
    record_path, script = config.assessment_record, "assessment.py"
    return state().cache.output(record_path, config.contact_list, script, responses.parse_list)


def latest_features(name: str) -> Record:
    config = state().config

    def parse(data: bytes) -> "pd.DataFrame":
        import pandas as pd

        from attrition.data import schema

        rows = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
        latest = schema.current_clients(schema.typed(rows, config.columns), config.columns)
        return latest.set_index(config.columns.client_name)[list(config.columns.features)]

    record_path, script = config.ingestion_record, "ingestion.py"
    latest = state().cache.output(record_path, config.final_data, script, parse)
    return responses.to_dict(latest.loc[name].to_dict()) if name in latest.index else {}


@views.get("/contactlist.csv")
def contact_list() -> Response:
    """Hand out the contact list for a spreadsheet."""
    response = Response(responses.defuse(contact_rows(), responses.LIST_TEXTS), mimetype="text/csv")
    response.headers["Content-Disposition"] = "attachment; filename=contactlist.csv"
    return response


@views.get("/report.pdf")
def report() -> Response:
    """Hand out the report."""
    response = Response(reported(state().config.report), mimetype="application/pdf")
    response.headers["Content-Disposition"] = "attachment; filename=report.pdf"
    return response


@views.get("/modelcard.md")
def model_card() -> Response:
    """Hand out the model card of the release in production."""
    release, _ = state().production.get()
    return Response(release.card, mimetype="text/markdown")


@views.get("/figures/<name>.png")
def figure(name: str) -> Response:
    """Hand out one of the figures that the report is made of."""
    if name not in figure_names():
        raise ApiError(404, "unknown_figure", "there is no such figure", figures=figure_names())
    return Response(reported(state().config.figure(name)), mimetype="image/png")


def reported(path: Path) -> bytes:
    return state().cache.output(state().config.report_record, path, "reporting.py")


def figure_names() -> list[str]:
    record = state().cache.record(state().config.report_record, "reporting.py")
    return sorted(name[:-4] for name in record["outputs"] if name.endswith(".png"))


@views.get("/health", endpoint="health")
def show_health() -> tuple[Record, int]:
    """Say whether requests can be answered, from what, and what a person should look at."""
    now = datetime.now(UTC)
    found = health.look(state().config, state().cache, state().production, now)
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
    return max(0, round(wording.seconds_since(at, now))) if at else None


def optional(read: Callable[..., T], *args: Any) -> T | None:
    """Return what `read` returns, or None while it is not there."""
    try:
        return read(*args)
    except NotReady:
        return None


@views.get("/")
def show_dashboard() -> str:
    """Show people the state, the contact list and the figures on one page."""
    config, cache = state().config, state().cache
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
    monitoring = tell(cache.record, config.monitoring_record, "fullprocess.py")
    assessment = tell(cache.record, config.assessment_record, "assessment.py")
    diagnosis = tell(cache.record, config.diagnostics_record, "diagnostics.py") or {}
    rows = tell(contact_rows) or []
    listed = pages.contacts(rows)
    names = tell(figure_names)
    manager = request.args.get("manager", "")
    chosen = [row for row in listed if manager in ("", row["manager"])]
    is_cut = not manager and request.args.get("show") != "all"
    score, release_id = (release.score, release.id) if release else (None, None)
    performance = pages.performance_of(monitoring, release_id)
    runs = health.of_runs(config, cache, now)
    problems += [complaint.sentence for complaint in runs.complaints]
    return render_template(
        "dashboard.html",
        headline=pages.headline(score, performance, runs.last, now),
        runs=pages.runs(runs.good_at, runs.counts, now),
        problems=[wording.finished(problem) for problem in dict.fromkeys(problems)],
        release=release_id,
        numbers=pages.numbers(assessment, config.currency),
        assessed=f"as of {wording.ago(assessment['assessed_at'], now)}" if assessment else "",
        order=config.contact_order,
        doubts=pages.doubts_of_all(rows),
        contacts=chosen[: pages.CONTACTS_SHOWN] if is_cut else chosen,
        listed=len(chosen),
        has_value=any(row["value_at_risk"] is not None for row in listed),
        has_reasons=any(row["reasons"] or row["doubts"] for row in listed),
        has_moved=any(row["moved"] for row in listed),
        managers=sorted({row["manager"] for row in listed if row["manager"]}),
        manager=manager,
        currency=config.currency,
        figures=pages.figures(names or []),
        drift=diagnosis.get("drift"),
        moved_columns=pages.moved_columns(diagnosis.get("drift")),
        data=diagnosis.get("data"),
        missing=pages.missing_columns(diagnosis.get("columns")),
        packages=pages.outdated(diagnosis.get("dependencies")),
        has_report=names is not None,
        with_token=state().token is not None,
    )


# ---- the application


def create_app(config: Config | Path | None = None) -> Flask:
    """Make the application for one config.json; nothing exists before.

    Raises: ConfigError when config.json or the environment does not say all that is needed.
    """
    if not isinstance(config, Config):
        config = configuration.load(config)
    app = Flask("attrition", root_path=str(WEB), static_url_path="/static")
    app.debug = False  # whatever FLASK_DEBUG says
    app.url_map.merge_slashes = False
    app.url_map.converters["client"] = ClientName
    app.jinja_env.filters |= {
        name: getattr(wording, name) for name in ("count", "finished", "percent")
    }
    production = Production(config.production_folder)
    state_of = State(config, ArtifactCache(), production, auth.read_token(config))
    app.extensions["attrition"] = state_of
    middleware.init_app(app, config.api.host, state_of.token)
    app.register_blueprint(views)
    return app


def serve(config: Config, workers: int) -> int:
    """Serve until a signal says to stop; each worker loads the model before its first request."""
    from attrition.web import server

    auth.check_exposure(config.api.host, auth.read_token(config))

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

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
