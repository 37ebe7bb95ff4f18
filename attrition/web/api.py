"""Define the views that return JSON or a file to download.

Each view checks the request, calls one function and returns its result. If a file cannot be read, the
view raises NotReady, and the error handlers of `middleware` respond with 503.
"""

import io
import math
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Response, g, request, send_file, url_for

from attrition import wording
from attrition.contacts import fields
from attrition.contacts.log import KeyTaken
from attrition.reporting.report_data import find_latest_events
from attrition.storage import files
from attrition.storage.files import Record
from attrition.web import auth, entries, health, middleware, request_body, responses
from attrition.web.artifact_cache import optional, state
from attrition.web.parameters import chosen_filters, chosen_view, read_number
from attrition.web.request_body import ApiError

api = Blueprint("api", __name__)

DEFAULT_LIMIT, MAX_LIMIT = 50, 1_000


@api.post("/prediction")
def prediction() -> Record:
    """Predict the risk of the records in the body or in a data file; none if one is invalid."""
    config = state().config
    key, value = request_body.check_body(middleware.read_body())
    today = datetime.now(UTC).date().isoformat()
    release, model = state().production.get()
    spelling = state().spelling()
    if key == "records":
        optional_names = request_body.optional_features(config.columns, release.training)
        rows = request_body.check_records(config.columns, value, optional_names, spelling, today)
    else:
        rows = request_body.read_datafile(config, value, spelling, today)
    predictions = responses.predict(release, model, rows, config.columns.client_name, config.labels)
    return {"model": release.id, "predictions": predictions, "count": len(predictions)}


@api.get("/scoring")
def scoring() -> Record:
    """Return the score of the model in production, and what last happened to production."""
    release, _ = state().production.get()
    decision = optional(state().decision) or {}
    return responses.scoring(release, find_latest_events(state().deployments(), decision))


@api.get("/summarystats")
def summarystats() -> Record:
    """Return statistics of each column, missing values included."""
    record = state().diagnostics()
    return {key: record[key] for key in ("diagnosed_at", "release", "columns")}


@api.get("/diagnostics")
def diagnostics() -> Record:
    """Return drift, estimated performance, timings of the steps and outdated packages."""
    left_out = {"columns", "inputs", "outputs", "seal"}
    record = {k: value for k, value in state().diagnostics().items() if k not in left_out}
    assessment = optional(state().assessment) or {}
    return record | {key: assessment.get(key) for key in ("estimate", "second_opinion")}


@api.get("/clients")
def list_clients() -> Record:
    """List the clients of a view, all by default, one page at a time; without a view, by risk."""
    limit = read_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT, whole=True)
    offset = read_number("offset", 0, 0, 1e12, whole=True)
    config = state().config
    filters = chosen_filters(config)
    if "view" not in request.args and not filters.order:
        filters = filters._replace(order="risk")
    work, _ = state().worklist(files.utc_now())
    places = work.select(chosen_view(), filters)
    rows = work.rows(places[offset : offset + limit].tolist())
    next_page = None
    if offset + limit < len(places):
        query = {**request.args.to_dict(), "limit": limit, "offset": offset + limit}
        next_page = url_for(".list_clients", **query)
    return {
        **describe_assessment(),
        "clients": [fields.to_dict(row, config.labels) for row in rows],
        "count": len(rows),
        "total": len(places),
        "next": next_page,
    }


@api.get("/clients/<client:name>")
def show_client(name: str) -> Record:
    """Return one current client with risk and reasons, what the log says, and the latest features."""
    at = files.utc_now()
    work, _ = state().worklist(at)
    row = work.table.find(name)
    if row is None:
        raise ApiError(404, "unknown_client", "there is no such current client")
    row = work.overlay(work.table.rows_of([name])[name], row)
    return {
        **describe_assessment(),
        **fields.to_dict(row, state().config.labels),
        "reasons_detail": [reason._asdict() for reason in row["reasons"]],
        "list_reasons_detail": [reason._asdict() for reason in row["list_reasons"]],
        "changes": [change._asdict() for change in row["changes"]],
        "clients": work.table.total,
        "on_contact_list": row["list_rank"] is not None,
        "list_rank": row["list_rank"],
        "standing": state().desk.standing(name, at).to_dict(row["risk"]),
        "risk_history": [each._asdict() for each in optional(state().risk_history, name) or []],
        "features": row["features"],
    }


@api.get("/clients/<client:name>/entries")
def list_entries(name: str) -> Record:
    """Return all entries of a client, oldest first, and where it stands; also one no longer current."""
    at = files.utc_now()
    worklist, seen = state().worklist(at)
    row = worklist.table.find(name)
    own = state().desk.entries(name)
    is_unknown, whole = row is None and not own, f"{name}/entries"
    is_whole = is_unknown or entries.is_escaped(request.environ)
    if is_whole and worklist.table.find(whole) is not None:
        return show_client(whole)  # its name ends like this address
    if is_unknown:
        raise ApiError(404, "unknown_client", "there is no such client")
    standing = state().desk.standing(name, at)
    return {
        "client": name,
        "is_current": row is not None,
        "entries": entries.to_dicts(own),
        "standing": standing.to_dict(row["risk"] if row else math.nan),
        "seen": seen,
    }


@api.post("/clients/<client:name>/entries")
def add_entry(name: str) -> tuple[Record, int]:
    """Append an entry about a client to the contact log."""
    form = entries.check_body(middleware.read_body(), request.headers.get("Idempotency-Key"))
    via = auth.origin("api", request, g.caller)
    try:
        result = entries.save(state(), [name], form, form.get("seen"), via)
    except KeyTaken as error:
        raise ApiError(409, "key_taken", str(error)) from error
    if isinstance(result, entries.Stale):
        newer = entries.to_dicts(result.newer)
        sentence = "something was entered about the client in the meantime; nothing was saved"
        raise ApiError(409, "stale", sentence, newer=newer, seen=result.seen)
    if isinstance(result, entries.Faults):
        raise entries.invalid(result.problems)
    (entry,) = entries.to_dicts(result.entries)
    return entry, 200 if result.is_repeat else 201


def describe_assessment() -> Record:
    """Return the model that assessed the clients, and the time."""
    record = state().assessment()
    return {"model": record["release"], "assessed_at": record["assessed_at"]}


@api.get("/contactlist.csv")
def contact_list() -> Response:
    """Download the contact list as it is now, for a spreadsheet, in the format of the file."""
    config = state().config
    work, _ = state().worklist(files.utc_now())
    data = responses.contact_list(work.rows(work.listed.rows.tolist()), config)
    return download(data, "text/csv", config.contact_list)


@api.get("/report.pdf")
def report() -> Response:
    """Download the report."""
    path = state().config.report
    return download(state().report(path), "application/pdf", path)


def download(data: bytes, mimetype: str, path: Path) -> Response:
    return send_file(io.BytesIO(data), mimetype, as_attachment=True, download_name=path.name)


@api.get("/modelcard.md")
def model_card() -> Response:
    """Return the model card of the release in production."""
    release, _ = state().production.get()
    return Response(release.card, mimetype="text/markdown")


@api.get("/figures/<name>.png")
def figure(name: str) -> Response:
    """Return one figure of the report."""
    names = state().figure_names()
    if name not in names:
        raise ApiError(404, "unknown_figure", "there is no such figure", figures=names)
    return Response(state().report(state().config.figure(name)), mimetype="image/png")


@api.get("/health", endpoint="health")
def show_health() -> tuple[Record, int]:
    """Return the status, the release, the times of recent runs, and what needs attention."""
    now = datetime.now(UTC)
    result = health.check_health(state(), now)
    last, good_at = result.runs.last, result.runs.good_at
    ended_at = last["ended_at"] if last else None
    return {
        "status": result.status,
        "project": state().config.project,
        "release": result.release,
        "last_run_ended_at": ended_at,
        "last_run_age_s": age_s(ended_at, now),
        "last_good_run_at": good_at,
        "last_good_run_age_s": age_s(good_at, now),
        "runs_of_last_day": dict(result.runs.counts),
        "complaints": sorted({complaint.code for complaint in result.complaints}),
        "warnings": [complaint.sentence for complaint in result.complaints],
    }, 200 if result.can_answer else 503


def age_s(at: str | None, now: datetime) -> int | None:
    """Return the seconds since a time; 0 for a time in the future."""
    return max(0, round(wording.seconds_since(at, now))) if at else None
