"""Describe the API of this installation as an OpenAPI 3.1 document.

The addresses come from the app's URL map, the texts from the docstrings of the views, the query
parameters from `parameters`, the records from `data/api_records`, the roles from `access/roles`. What is
left, the bodies, the answers and the error codes, is declared here.

Source: https://spec.openapis.org/oas/v3.1.1
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.routing import Rule

import attrition
from attrition.access import roles
from attrition.config import Columns, Config
from attrition.contacts import fields, log
from attrition.data import api_records
from attrition.data.spelling import NO_SPELLING, Spelling
from attrition.operations.releases import Release
from attrition.web import entries, parameters, request_body
from attrition.web.artifact_cache import State, optional
from attrition.web.middleware import CONSTANT

Schema = dict[str, Any]

JSON, CSV = "application/json", "text/csv"
# What a code means, and the status that it comes with.
CODES = {
    "bad_request": (400, "the request cannot be read"),
    "not_json": (400, "the body is not JSON in UTF-8, or not finite, or repeats a key"),
    "unknown_parameter": (400, "there is no such query parameter"),
    "repeated_parameter": (400, "a query parameter is there twice"),
    "no_token": (401, "the token is missing or wrong"),
    "cross_site": (403, "a page of another site let a browser send this"),
    "not_found": (404, "there is no such address"),
    "unknown_client": (404, "there is no such client"),
    "unknown_datafile": (404, "there is no such data file; `datafiles` names those that are there"),
    "unknown_figure": (404, "there is no such figure; `figures` names those that are there"),
    "method_not_allowed": (405, "another method is needed; the header Allow names it"),
    "key_taken": (409, "the key belongs to an entry with other content"),
    "stale": (409, "something was entered about the client since `seen`; `newer` has it"),
    "too_large": (413, "the body is too large"),
    "too_many_records": (413, "there are more records than one request may have"),
    "unsupported_type": (415, "the body has another media type"),
    "unsupported_encoding": (415, "the body has a content encoding"),
    "wrong_host": (421, "the Host header names another host"),
    "invalid_body": (422, "the body has another form"),
    "invalid_records": (422, "a record is invalid; `problems` lists each fault"),
    "invalid_datafile": (422, "the data file cannot be read"),
    "invalid_entry": (422, "a field of the entry is invalid; `problems` lists each fault"),
    "invalid_parameter": (422, "a query parameter is not what is allowed"),
    "too_many": (422, "the view has more clients than a spreadsheet may have"),
    "no_model": (503, "no model is in production yet"),
    "not_ready": (503, "a file does not exist yet"),
    "damaged": (503, "a file is damaged"),
    "other_columns": (503, "the model needs columns that config.json no longer names"),
    "log_busy": (503, "the contact log cannot be read or written now"),
    "internal_error": (500, "a bug; the log has the details under `id`"),
    "refused": (0, "any other refusal by the server"),
}
FOR_ALL = ("unknown_parameter", "repeated_parameter", "bad_request", "wrong_host")
TO_SEND = ("cross_site", "too_large", "not_json", "unsupported_type", "unsupported_encoding")
NO_FILE = ("not_ready", "damaged")
OF_LIST = ("invalid_parameter", *NO_FILE, "log_busy")
HEADERS = {
    "X-Request-Id": "The id of the request, which the log names.",
    "ETag": "A hash of the content; send it as If-None-Match to get 304 while it is the same.",
    "Retry-After": "After so many seconds it is worth another try.",
    "WWW-Authenticate": "How to send the token.",
    "Allow": "The methods of this address.",
    "Link": "The first, the previous and the next page (RFC 8288).",
}
SENT = {
    "If-None-Match": "The ETag of an earlier answer: 304 without a body if the content is the same.",
    "Idempotency-Key": "A text of your own, up to 200 characters: sent again, it is stored once.",
}
# No blank at either end, which a header cannot have.
EDGE, INNER = rf"[^\s{api_records.REFUSED}]", rf"[^{api_records.REFUSED}]"
SENT_SCHEMAS: Mapping[str, Schema] = {
    "If-None-Match": {"type": "string"},
    "Idempotency-Key": {
        **{"type": "string", "maxLength": entries.MAX_KEY},
        "pattern": f"^({EDGE}({INNER}*{EDGE})?)?$",
    },
}
TAGS = {
    "prediction": "The risk of records that you send.",
    "clients": "The current clients, ranked, and the contact list.",
    "contacts": "What people enter about a client, and where it stands.",
    "model": "The model in production and the data behind it.",
    "service": "The state of this service, and its description.",
}


class Answer(NamedTuple):
    """What a view takes and answers with, and the codes of its own errors.

    body: its media types; more: further statuses, with the same content as 200
    """

    tag: str
    content: Mapping[str, Schema]
    codes: Sequence[str] = ()
    body: Mapping[str, Any] | None = None
    more: Mapping[int, str] = {}
    has_pages: bool = False


# ---- schemas


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(properties: Mapping[str, Schema], *may_lack: str, **more: Any) -> Schema:
    """Return the schema of an object, all properties required but the optional ones."""
    required = [name for name in properties if name not in may_lack]
    return {"type": "object", "properties": dict(properties), "required": required, **more}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(*types: str, **more: Any) -> Schema:
    return {"type": [*types, "null"], **more}


TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "description": "A time in UTC."}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
RECORD: Schema = {"type": "object"}
BOOLEAN: Schema = {"type": "boolean"}
RISK: Schema = {"type": "number", "minimum": 0, "maximum": 1}
RELEASE: Schema = {"type": "string", "description": "The release in production."}


def field_schema(name: str) -> Schema:
    """Return the schema of a field of a client."""
    field = fields.FIELDS[name]
    schema: Schema
    if field.kind.item:
        schema = array(TEXT)
    elif name in ("client", "risk", "rank"):
        schema = {"client": TEXT, "risk": RISK, "rank": WHOLE}[name]
    elif field.kind.digits is not None:
        schema = or_null("number" if field.is_number else "integer")
    else:
        schema = or_null("string")
    return schema | {"description": field.header.format(currency="in the currency of config.json")}


def schemas(columns: Columns, nullable: Sequence[str], spelling: Spelling) -> dict[str, Schema]:
    """Return the named schemas of the document."""
    client = {name: field_schema(name) for name in fields.API}
    assessed = {"model": RELEASE, "assessed_at": TIME}
    standing = obj(
        {
            **{name: or_null("string") for name in ("resting_why", "resting_until", "follow_up")},
            **{name: or_null("string") for name in ("override", "override_until", "manager")},
            **{
                name: or_null("string")
                for name in ("manager_until", "last_contact", "last_outcome")
            },
        },
        description="Where a client stands by the contact log.",
    )
    value = {"type": ["number", "string", "null"]}
    reason = obj({"feature": TEXT, "value": value, "baseline": value, "contribution": NUMBER})
    prediction = {
        "client": or_null("string"),
        "risk": RISK | {"description": "The probability that the client leaves."},
        "outcome": {"enum": [0, 1], "description": "1 if the risk is at least 0.5."},
        "flags": array(TEXT) | {"description": "Reasons to treat the risk with caution."},
    }
    entry = {
        "id": WHOLE,
        **{name: or_null("string") for name in log.Entry._fields if name not in ("id", "risk")},
        **{"client": TEXT, "at": TIME, "key": TEXT, "kind": {"enum": list(log.KINDS)}},
        **{"risk": or_null("number"), "replaces": or_null("integer")},
        **{"replaced_by": or_null("integer"), "counts": BOOLEAN},
    }
    return {
        "Record": api_records.describe_record(columns, nullable, spelling),
        "Predictions": obj(
            {"model": RELEASE, "count": WHOLE, "predictions": array(obj(prediction))}
        ),
        "Client": obj(client),
        "Clients": obj(
            {
                **assessed,
                **{"clients": array(ref("Client")), "count": WHOLE, "total": WHOLE},
                "next": or_null("string", description="The address of the next page."),
            }
        ),
        "OneClient": obj(
            {
                **assessed,
                **client,
                **{f"{name}_detail": array(reason) for name in ("reasons", "list_reasons")},
                **{"changes": array(reason), "clients": WHOLE, "on_contact_list": BOOLEAN},
                **{"list_rank": or_null("integer"), "standing": ref("Standing")},
                "risk_history": array(obj({"date": TEXT, "release": TEXT, "risk": RISK})),
                "features": {"type": "object", "additionalProperties": value},
            }
        ),
        "Standing": standing,
        "Entry": obj(entry),
        "Entries": obj(
            {
                **{"client": TEXT, "is_current": BOOLEAN, "entries": array(ref("Entry"))},
                **{"standing": ref("Standing"), "seen": WHOLE},
            }
        ),
        "NewEntry": {"oneOf": [entry_schema(kind) for kind in entries.FIELDS]},
        "Error": error_schema(),
        **status_schemas(),
    }


def status_schemas() -> dict[str, Schema]:
    """Return the schemas of the answers about the model, the data and the service."""
    return {
        "Scoring": obj(
            {
                **{"model": RELEASE, "kind": TEXT, "scored_at": TIME, "threshold": NUMBER},
                "sets": {
                    "type": "object",
                    "additionalProperties": obj({"rows": WHOLE, "left": WHOLE, "scores": RECORD}),
                },
                **{"replaced": or_null("object"), "comparison": or_null("object")},
                **{"warnings": array(TEXT), "latest_decision": or_null("object")},
            }
        ),
        "SummaryStats": obj(
            {
                **{"diagnosed_at": TIME, "release": or_null("string")},
                "columns": {"type": "object", "additionalProperties": RECORD},
            }
        ),
        "Diagnostics": obj(
            {"diagnosed_at": TIME, "estimate": or_null("object"), "second_opinion": {}},
            description="Drift, estimates, timings and packages, as diagnostics.py wrote them.",
        ),
        "Health": obj(
            {
                "status": {"enum": ["ok", "starting", "degraded"]},
                **{"project": TEXT, "release": or_null("string")},
                **{name: or_null("string") for name in ("last_run_ended_at", "last_good_run_at")},
                **{name: or_null("integer") for name in ("last_run_age_s", "last_good_run_age_s")},
                "runs_of_last_day": {"type": "object", "additionalProperties": WHOLE},
                **{"complaints": array(TEXT), "warnings": array(TEXT)},
            }
        ),
    }


def entry_schema(kind: str) -> Schema:
    """Return the schema of a new entry of one kind."""
    outcomes = entries.OUTCOMES.get(kind, ())
    about: dict[str, Schema] = {
        "kind": {"const": kind},
        "by": {"type": "string", "minLength": 1, "maxLength": entries.MAX_NAME}
        | {"pattern": api_records.NAME, "description": "Who enters it."},
        "outcome": {"enum": list(outcomes)},
        "note": or_null("string", maxLength=entries.MAX_NOTE, pattern=NOTE),
        "date": {"type": "string", "format": "date"},
        "manager": {"type": "string", "maxLength": entries.MAX_NAME, "pattern": api_records.NAME},
        "replaces": or_null("integer", minimum=0, maximum=10**15 - 1)
        | {"description": "The id of an earlier entry of the client, which this one corrects."},
        "seen": or_null("integer", minimum=0, maximum=10**15 - 1)
        | {"description": "The `seen` of GET: refused if something was entered since."},
    }
    names = ("kind", "by", *entries.FIELDS[kind], "replaces", "seen")
    may_lack = {"replaces", "seen", "note", *(["date"] if outcomes else [])}
    if kind == log.WITHDRAWAL:
        about["replaces"] = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
        may_lack -= {"replaces"}
    if kind in (log.NOT_BEFORE, log.OVERRIDE):
        about["note"] = {"type": "string", "maxLength": entries.MAX_NOTE, "pattern": NAME_LINES}
        may_lack -= {"note"}
    return obj({name: about[name] for name in names}, *may_lack, additionalProperties=False)


# A note has lines and tabs; a reason is not blank.
NOTE = api_records.TEXT.replace(r"\u0000-\u001f", r"\u0000-\u0008\u000b-\u001f")
NAME_LINES = api_records.NAME.replace(r"\u0000-\u001f", r"\u0000-\u0008\u000b-\u001f")


def error_schema() -> Schema:
    """Return the schema of every error."""
    problem = obj(
        {
            "problem": TEXT,
            "field": or_null("string"),
            "record": WHOLE | {"description": "Counted from 0."},
            "line": WHOLE | {"description": "Of the data file."},
        },
        *("field", "record", "line"),
    )
    return obj(
        {
            "error": {"type": "string", "description": "One sentence for people."},
            "code": {"enum": list(CODES), "description": "For machines."},
            "problems": array(problem),
            **{"figures": array(TEXT), "datafiles": array(TEXT), "id": TEXT},
            **{"newer": array(ref("Entry")), "seen": WHOLE},
        },
        *("problems", "figures", "datafiles", "id", "newer", "seen"),
    )


# ---- what the views take and answer


def answers(release: Release | None, columns: Columns) -> dict[str, Answer]:
    """Return what each view of the API takes and answers with."""
    log_errors = (*NO_FILE, "log_busy")
    of_client = ("unknown_client", *log_errors)
    text = {"type": "string"}
    binary: Schema = {}
    return {
        "prediction": Answer(
            "prediction",
            {JSON: ref("Predictions")},
            (
                *TO_SEND,
                *("invalid_body", "invalid_records", "too_many_records"),
                *("unknown_datafile", "invalid_datafile", "no_model", "damaged", "other_columns"),
            ),
            body={JSON: prediction_body(release, columns)},
        ),
        "list_clients": Answer("clients", {JSON: ref("Clients")}, OF_LIST, has_pages=True),
        "show_client": Answer("clients", {JSON: ref("OneClient")}, of_client),
        "list_entries": Answer("contacts", {JSON: ref("Entries")}, of_client),
        "add_entry": Answer(
            "contacts",
            {JSON: ref("Entry")},
            (*TO_SEND, *of_client, "invalid_body", "invalid_entry", "key_taken", "stale"),
            body={JSON: {"schema": ref("NewEntry"), "examples": entry_examples()}},
            more={201: "The entry as it was stored."},
        ),
        "contact_list": Answer("clients", {CSV: text}, log_errors),
        "export_view": Answer("clients", {CSV: text}, (*OF_LIST, "too_many")),
        "scoring": Answer("model", {JSON: ref("Scoring")}, ("no_model", *NO_FILE)),
        "summarystats": Answer("model", {JSON: ref("SummaryStats")}, NO_FILE),
        "diagnostics": Answer("model", {JSON: ref("Diagnostics")}, NO_FILE),
        "model_card": Answer("model", {"text/markdown": text}, ("no_model", *NO_FILE)),
        "report": Answer("model", {"application/pdf": binary}, NO_FILE),
        "figure": Answer("model", {"image/png": binary}, ("unknown_figure", *NO_FILE)),
        "health": Answer(
            *("service", {JSON: ref("Health")}),
            more={503: "No request can be answered; `warnings` names why."},
        ),
        "openapi": Answer("service", {JSON: RECORD}),
    }


def prediction_body(release: Release | None, columns: Columns) -> Schema:
    """Return the media type of the body of POST /prediction, with an example that works."""
    records = array(ref("Record")) | {"minItems": 1, "maxItems": request_body.MAX_RECORDS}
    datafile = TEXT | {"description": "The name of a file in the test or the source folder."}
    forms = [
        obj({"records": records}, additionalProperties=False),
        obj({"datafile": datafile}, additionalProperties=False),
    ]
    example = {"records": [example_record(columns, release)]}
    return {"schema": {"oneOf": forms}, "examples": {"records": {"value": example}}}


def example_record(columns: Columns, release: Release | None) -> Schema:
    """Return the baseline client of the release; before the first, values that are allowed."""
    baseline = release.training["baseline"] if release else {}
    numbers = {
        column.name: baseline.get(column.name) or column.minimum or column.maximum or 1
        for column in columns.numeric
    } | {name: baseline.get(name) or 0 for name in columns.dates}
    whole = {column.name for column in columns.numeric if column.integer}
    return {
        **{name: round(value) if name in whole else value for name, value in numbers.items()},
        **{name: baseline.get(name) or "text" for name in columns.categorical},
    }


def entry_examples() -> Schema:
    by = {"by": "Grace Liu"}
    return {
        log.CONTACT: {
            "value": {"kind": log.CONTACT, **by, "outcome": log.REACHED, "note": "wants an offer"}
        },
        log.OVERRIDE: {
            "value": {"kind": log.OVERRIDE, **by, "outcome": log.STAYS, "note": "has renewed"}
        },
    }


# ---- the document


def document(app: Flask, state: State) -> Schema:
    """Return the document for the release in production, made once for each release."""
    loaded = optional(state.production.get)
    release, spelling = loaded[0] if loaded else None, state.spelling()
    is_controlled = state.token is not None
    stamp = (release and release.id, str(spelling), is_controlled)
    return state.cache.remember(
        "openapi",
        stamp,
        lambda: build(app, state.config, release, spelling, is_controlled=is_controlled),
    )


def build(
    app: Flask,
    config: Config,
    release: Release | None,
    spelling: Spelling = NO_SPELLING,
    *,
    is_controlled: bool,
) -> Schema:
    """Return the document; is_controlled: a caller needs a token or a session."""
    columns = config.columns
    nullable = (
        request_body.optional_features(columns, release.training)
        if release
        else set(columns.features)
    )
    described = answers(release, columns)
    paths: dict[str, Schema] = {}
    for rule in app.url_map.iter_rules():
        view = rule.endpoint.rpartition(".")[2]
        if view in described:
            path = paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
            method = "post" if "POST" in (rule.methods or ()) else "get"
            function = app.view_functions[rule.endpoint]
            about = inspect.getdoc(function) or ""
            path[method] = operation(rule, view, about, described[view], config, is_controlled)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Clients at risk",
            "version": attrition.__version__,
            "description": introduction(release),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(columns, sorted(nullable), spelling),
            "headers": {
                name: {"description": about, "schema": TEXT} for name, about in HEADERS.items()
            },
            **({"securitySchemes": SECURITY} if is_controlled else {}),
        },
    }


SECURITY = {
    "bearer": {
        **{"type": "http", "scheme": "bearer"},
        "description": "A token in the header Authorization.",
    }
}


def introduction(release: Release | None) -> str:
    if release is None:
        return "No model is in production yet: most answers are 503 until the first run has ended."
    return f"The model in production is release {release.id}; /health names it too."


def operation(
    rule: Rule, view: str, about: str, answer: Answer, config: Config, is_controlled: bool
) -> Schema:
    """Return the description of one method of an address."""
    summary, _, rest = about.partition("\n\n")
    allowed = [role for role in roles.ROLES if roles.may_use([role], view)]
    is_for_all = view in roles.FOR_ALL
    who = "Needs no token." if is_for_all else f"Roles: {', '.join(allowed)}."
    description = rest.partition("Raises:")[0].strip()
    codes = [*FOR_ALL, *answer.codes, *(["no_token"] if is_controlled and not is_for_all else [])]
    return {
        "operationId": view,
        "tags": [answer.tag],
        "summary": summary.replace("\n", " "),
        "description": "\n\n".join(filter(None, (description, who))),
        "x-roles": allowed,
        "x-codes": codes,
        "parameters": [*parameters_of(rule, view, answer, config)],
        **({"requestBody": request_of(answer.body)} if answer.body else {}),
        "responses": {**responses(view, answer), **errors(codes, answer.more)},
        **({"security": [] if is_for_all else [{"bearer": []}]} if is_controlled else {}),
    }


def request_of(body: Mapping[str, Any]) -> Schema:
    return {"required": True, "content": dict(body)}


def parameters_of(rule: Rule, view: str, answer: Answer, config: Config) -> list[Schema]:
    """Return the parameters in the path, the query and the headers."""
    path = [
        {"name": name, "in": "path", "required": True, **PATH.get(view, PATH["client"])}
        for name in sorted(rule.arguments)
    ]
    known = parameters.declared(has_value=bool(config.columns.value))
    is_form = rule.endpoint.startswith("pages.")
    query = [
        {
            **{"name": name, "in": "query", "description": known[name].description},
            "schema": or_empty(known[name].schema) if is_form else dict(known[name].schema),
        }
        for name in sorted(parameters.PARAMETERS.get(view, ()))
    ]
    sent = ["If-None-Match"] if view in CONSTANT else []
    sent += ["Idempotency-Key"] if view == "add_entry" else []
    headers = [
        {"name": name, "in": "header", "description": SENT[name], "schema": SENT_SCHEMAS[name]}
        for name in sent
    ]
    return path + query + headers


PATH: Mapping[str, Schema] = {
    "client": {
        "description": "The name of a client; escape a slash at its end as %2F.",
        "schema": {"type": "string", "minLength": 1},
    },
    "figure": {
        "description": "The name of a figure of the report.",
        "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
        "example": "roc",
    },
}


def or_empty(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of a parameter that a form on a page sends, which may be empty."""
    if schema["type"] == "string" and "enum" not in schema:
        return dict(schema)
    return {"anyOf": [{k: v for k, v in schema.items() if k != "default"}, {"const": ""}]} | {
        k: v for k, v in schema.items() if k == "default"
    }


def headers_of(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def responses(view: str, answer: Answer) -> dict[str, Schema]:
    """Return the answers without an error, by status."""
    content = {media: {"schema": schema} for media, schema in answer.content.items()}
    names = [*(["ETag"] if view in CONSTANT else []), *(["Link"] if answer.has_pages else [])]
    result = {
        str(status): {"description": about, "content": content, "headers": headers_of(*names)}
        for status, about in {200: "All is well.", **answer.more}.items()
    }
    if view in CONSTANT:
        about = "The content is that of If-None-Match."
        result["304"] = {"description": about, "headers": headers_of("ETag")}
    return result


OF_STATUS = {401: "WWW-Authenticate", 405: "Allow", 503: "Retry-After"}


def errors(codes: Sequence[str], more: Mapping[int, str]) -> dict[str, Schema]:
    """Return the errors with these codes by status, without the statuses that answers have."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        if CODES[code][0] not in more:
            by_status.setdefault(CODES[code][0], []).append(code)
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}. "
            + "; ".join(f"`{code}`: {CODES[code][1]}" for code in own)
            + ".",
            "headers": headers_of(*filter(None, [OF_STATUS.get(status)])),
            "content": {
                JSON: {
                    "schema": {
                        "allOf": [ref("Error"), {"properties": {"code": {"enum": sorted(own)}}}]
                    }
                }
            },
        }
        for status, own in sorted(by_status.items())
    }
