"""Define the views that return JSON or a file to download.

Each view checks the request, calls one function and returns its result. If a file cannot be read, the
view raises NotReady, and the error handlers of `middleware` respond with 503.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, g, request, send_file, url_for

from attrition import wording
from attrition.config import Config
from attrition.contacts import fields
from attrition.contacts.log import KeyTaken
from attrition.effect import sentences
from attrition.errors import ApiError
from attrition.operations.releases import Release
from attrition.reporting.report_data import find_latest_events
from attrition.serving.prediction import predict
from attrition.storage import files, tables
from attrition.storage.files import Record
from attrition.web import auth, entries, health, metrics, middleware, openapi, request_body
from attrition.web.artifact_cache import optional, state
from attrition.web.parameters import chosen_filters, read

api = Blueprint("api", __name__)

LATEST = ("decided_at", "promoted", "rule", "reason", "release")


@api.post("/prediction")
def prediction() -> Response:
    """Predict the risk of the rows in the body or in a data file; none if one is invalid."""
    reasons = read("reasons") or 0
    data = middleware.read_data("application/json", "text/csv")
    if request.mimetype == "text/csv":
        form, content = "csv", request_body.read_csv(data)
    else:
        form, content = request_body.check_body(request_body.read_json(data))
    if form == "datafile":  # its rows are clients of ours, and the answer names them
        auth.check_role(g.caller, "list_clients")
    release, model = state().production.get()
    config = state().config
    health.check_columns(release, config.columns)
    optional_names = request_body.optional_features(config.columns, release.training)
    today = datetime.now(UTC).date().isoformat()
    spelling = state().spelling()
    rows = request_body.check_rows(config, form, content, optional_names, spelling, today)
    if reasons:
        request_body.check_count(len(rows.clients), request_body.MAX_EXPLAINED, "rows with reasons")
    predictions = predict(release, model, rows, config.labels, reasons)
    answer = {"model": release.id, "count": len(predictions), "predictions": predictions}
    # Flask would sort the keys of 10,000 predictions
    return Response(json.dumps(answer, separators=(",", ":")), mimetype="application/json")


@api.get("/scoring")
def scoring() -> Record:
    """Return the score of the model in production, and what last happened to production."""
    release, _ = state().production.get()
    decision = optional(state().decision) or {}
    return describe_score(release, find_latest_events(state().deployments(), decision))


def describe_score(release: Release, events: Sequence[Mapping[str, Any]]) -> Record:
    """Return the score of the model in production, and the last of the latest events."""
    score = release.score
    sets = {
        name: {"rows": of["rows"], "left": of["left"], "scores": of["candidate"]}
        for name, of in score["sets"].items()
        if of is not None
    }
    return {
        "model": release.id,
        "kind": score["candidate"]["kind"],
        "scored_at": score["scored_at"],
        "threshold": score["threshold"],
        "sets": sets,
        "replaced": score["champion"],
        "comparison": score["comparison"],
        "warnings": score["warnings"],
        "latest_decision": {key: events[-1][key] for key in LATEST} if events else None,
    }


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
def list_clients() -> tuple[Record, dict[str, str]]:
    """List the clients of a view, all by default, one page at a time; without a view, by risk."""
    limit, offset = read("limit"), read("offset")
    config = state().config
    filters = chosen_filters(config)
    if "view" not in request.args and not filters.order:
        filters = filters._replace(order="risk")
    work, _ = state().worklist(files.utc_now())
    places = work.select(read("view"), filters)
    rows = work.rows(places[offset : offset + limit].tolist())
    pages = {"first": 0}
    if offset:
        pages["prev"] = max(0, offset - limit)
    if offset + limit < len(places):
        pages["next"] = offset + limit
    query = request.args.to_dict() | {"limit": limit}
    links = {name: url_for(".list_clients", **query | {"offset": at}) for name, at in pages.items()}
    return {
        **describe_assessment(),
        "clients": [fields.to_dict(row, config.labels) for row in rows],
        "count": len(rows),
        "total": len(places),
        "next": links.get("next"),
    }, {"Link": ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items())}


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


@api.get("/experiment")
def experiment() -> Record:
    """Return whether contacting helps: the record of the experiment, and the same in sentences.

    Without an experiment, the record is null and there is no sentence.
    """
    record, currency = state().assessment().get("experiment"), state().config.currency
    texts = sentences.all_sentences(record, currency) if record else []
    return {**describe_assessment(), "experiment": record, "sentences": texts}


@api.get("/contactlist.csv")
def contact_list() -> Response:
    """Download the contact list as it is now, for a spreadsheet, in the format of the file."""
    config = state().config
    work, _ = state().worklist(files.utc_now())
    data = format_contact_list(work.rows(work.listed.rows.tolist()), config)
    return download(data, "text/csv", config.contact_list)


def format_contact_list(listed: Sequence[fields.Row], config: Config) -> bytes:
    """Return the clients on the list, in order, as contactlist.csv has them."""
    import pandas as pd

    names = {*map(fields.column_of, fields.CONTACT_LIST), "list_reasons", "changes"}
    rows = [{name: row[name] for name in names} | {"rank": row["list_rank"]} for row in listed]
    digits = {name: fields.FIELDS[name].kind.digits for name in fields.CONTACT_LIST}
    # Without a type, a column of None is text, and a place beside None is a decimal.
    types = {name: "Int64" if n == 0 else "float64" for name, n in digits.items() if n is not None}
    table = pd.DataFrame(rows, columns=sorted(names), dtype=object).astype(types)
    return tables.excel_bytes(fields.contact_list(table, config.labels, config.columns))


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


@api.get("/openapi.json", endpoint="openapi")
def show_openapi() -> Record:
    """Return this description of the API as an OpenAPI 3.1 document."""
    return openapi.document(current_app, state())


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


@api.get("/ready", endpoint="ready")
def show_ready() -> Record:
    """Return whether requests can be answered from a model and lists that are up to date.

    Otherwise the answer is 503 with the reason.
    """
    release = health.check_ready(state(), datetime.now(UTC))
    return {"status": "ready", "model": release, "is_flat": state().production.is_flat}


@api.get("/metrics", endpoint="metrics")
def show_metrics() -> Response:
    """Return the metrics of the installation and of the requests, for Prometheus."""
    return metrics.answer(state(), datetime.now(UTC))


def age_s(at: str | None, now: datetime) -> int | None:
    """Return the seconds since a time; 0 for a time in the future."""
    return max(0, round(wording.seconds_since(at, now))) if at else None
