"""Describe the API of this installation as an OpenAPI 3.1 document.

The addresses come from the app's URL map, the texts from the docstrings of the views, the query
parameters from `parameters`, the rows from `data/api_records`, the roles from `access/roles`. The error
codes, the bodies and the answers are declared here.

Source: https://spec.openapis.org/oas/v3.1.1
"""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.routing import Rule

from attrition import __version__
from attrition.access import roles
from attrition.config import Columns, Config
from attrition.contacts import fields, log
from attrition.data import api_records
from attrition.data.spelling import NO_SPELLING, Spelling
from attrition.entering import validation
from attrition.operations import releases
from attrition.operations.releases import Release
from attrition.storage.files import Record
from attrition.web import parameters, request_body
from attrition.web.artifact_cache import State, optional
from attrition.web.auth import COOKIE
from attrition.web.middleware import CONSTANT, get_access

Schema = dict[str, Any]

JSON, CSV, FORM = "application/json", "text/csv", "multipart/form-data"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# The statuses that a code comes with, and what it means.
CODES: Mapping[str, tuple[tuple[int, ...], str]] = {
    "bad_request": ((400, 417), "the request cannot be read"),
    "not_json": (
        (400,),
        "the body is not JSON in UTF-8, repeats a key, or contains an infinite number",
    ),
    "not_csv": ((400,), "the body is not CSV in UTF-8"),
    "unknown_parameter": ((400,), "there is no such query parameter"),
    "repeated_parameter": ((400,), "a query parameter is repeated"),
    "no_token": ((401,), "the token is missing or wrong"),
    "forbidden": ((403,), "the caller's roles do not allow this; roles lists those that do"),
    "unknown_user": ((403,), "the proxy names somebody who is not a user here"),
    "cross_site": ((403,), "the request was sent by a page of another site"),
    "not_found": ((404,), "there is no such address"),
    "unknown_client": ((404,), "there is no such client"),
    "unknown_datafile": (
        (404,),
        "there is no such data file; datafiles lists those that exist",
    ),
    "unknown_figure": ((404,), "there is no such figure; figures lists those that exist"),
    "method_not_allowed": (
        (405,),
        "the method is not allowed; the header Allow lists those that are",
    ),
    "timeout": ((408,), "the request did not arrive in time"),
    "key_taken": ((409,), "the key was used for an entry with other content"),
    "stale": ((409,), "there are entries newer than seen; newer lists them"),
    "too_large": ((413, 414, 431), "the body, the address or the headers are too large"),
    "too_many_records": ((413,), "there are more rows than one request may have"),
    "unsupported_type": ((415,), "the media type of the body is not supported"),
    "unsupported_encoding": ((415,), "the content encoding of the body is not supported"),
    "wrong_host": ((421,), "the Host header names another host"),
    "invalid_body": ((422,), "the body has none of the expected forms"),
    "invalid_records": ((422,), "a row is invalid; problems lists every error"),
    "invalid_datafile": ((422,), "the data file cannot be read"),
    "invalid_sheet": ((422,), "the filled-in sheet cannot be read"),
    "invalid_entry": ((422,), "a field of the entry is invalid; problems lists every error"),
    "invalid_parameter": ((422,), "a query parameter has an invalid value"),
    "too_many": ((422,), "the view has more clients than a spreadsheet can contain"),
    "too_many_requests": ((429,), "the limit of requests per minute is reached"),
    "too_many_tries": ((429,), "too many wrong passwords"),
    "internal_error": ((500,), "a bug; the log has the details under id"),
    "not_implemented": ((501,), "the only transfer coding supported is chunked"),
    "no_model": ((503,), "no model is in production yet"),
    "not_ready": ((503,), "a file does not exist yet"),
    "overdue": ((503,), "the last good run is too long ago"),
    "damaged": ((503,), "a file is damaged"),
    "other_columns": ((503,), "the model needs columns that config.json no longer names"),
    "log_busy": ((503,), "the contact log cannot be read or written now"),
    "access_unavailable": ((503,), "tokens, users or sessions cannot be read now"),
    "busy": ((503,), "too many large requests at once"),
    "refused": ((), "any other refusal"),
}
# Not named at each address: broken HTTP and bugs can come with any.
ANYWHERE = (408, 417, 431, 500, 501)
FOR_ALL = ("unknown_parameter", "repeated_parameter", "bad_request", "too_large", "wrong_host")
TO_SEND = ("cross_site", "unsupported_type", "unsupported_encoding", "not_json", "busy")
TO_IDENTIFY = ("no_token", "forbidden", "unknown_user", "too_many_requests", "access_unavailable")
NO_FILE, NO_RELEASE = ("not_ready", "damaged"), ("no_model", "not_ready", "damaged")
NO_LIST = (*NO_FILE, "log_busy")
HEADERS = {
    "X-Request-Id": "The id of the request, as in the log.",
    "ETag": "A hash of the content; send it as If-None-Match to get 304 if nothing has changed.",
    "Retry-After": "The number of seconds to wait before another try.",
    "WWW-Authenticate": "How to send the token.",
    "Allow": "The methods that this address accepts.",
    "Link": "The first, the previous and the next page (RFC 8288).",
}
HEADER_OF = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
TAGS = {
    "prediction": "The risk of rows that you send.",
    "clients": "The current clients, ranked, and the contact list.",
    "contacts": "What people enter about a client, its standing, and whether contacting helps.",
    "model": "The model in production, and the data behind it.",
    "service": "The state of this service, and its description.",
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token, for programs."},
    "session": {
        **{"type": "apiKey", "in": "cookie", "name": COOKIE},
        "description": "The session of a user who signed in on a page.",
    },
}


# ---- schemas


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(properties: Mapping[str, Schema], *may_lack: str, **more: Any) -> Schema:
    """Return the schema of an object that has all properties but those that it may lack."""
    required = [name for name in properties if name not in may_lack]
    return {"type": "object", "properties": dict(properties), "required": required, **more}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(*types: str, **more: Any) -> Schema:
    return {"type": [*types, "null"], **more}


def each(names: Sequence[str], schema: Schema) -> dict[str, Schema]:
    return dict.fromkeys(names, schema)


TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "description": "A time in UTC."}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
RECORD: Schema = {"type": "object"}
ANY: Schema = {}
RISK: Schema = {"type": "number", "minimum": 0, "maximum": 1}
RELEASE: Schema = {"type": "string", "description": "The release in production."}
VALUE = or_null("number", "string")
MAYBE_TEXT, MAYBE_WHOLE, MAYBE_RECORD = or_null("string"), or_null("integer"), or_null("object")
REASON = obj({"feature": TEXT, "value": VALUE, "baseline": VALUE, "contribution": NUMBER})
# What people enter: no control characters, some text that is not blank, lines, a header.
CONTROL = r"\u0000-\u001f\u007f-\u009f"
LINE = rf"^\s*[^\s{CONTROL}][^{CONTROL}]*\s*$"
LINES = r"^\s*(?:[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*\s*$"
SOME_LINES = rf"^\s*[^\s{CONTROL}](?:[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*\s*$"
IN_HEADER = rf"^(?:[^\s{CONTROL}](?:[^{CONTROL}]*[^\s{CONTROL}])?)?$"


def schemas(columns: Columns, nullable: Collection[str], spelling: Spelling) -> dict[str, Schema]:
    """Return the named schemas; nullable: the features that may have no value."""
    rows = (columns, nullable, spelling)
    most = request_body.MAX_ROWS
    return {
        "Record": api_records.describe_record(*rows),
        "Columns": api_records.describe_columns(*rows, max_rows=most),
        "NewEntry": {"oneOf": [describe_entry(kind) for kind in validation.FIELDS]},
        "Error": describe_error(),
        **describe_clients(),
        **describe_status(),
    }


def describe_field(name: str) -> Schema:
    """Return the schema of a field of a client."""
    field = fields.FIELDS[name]
    kind = "string" if field.kind.digits is None else "number" if field.is_number else "integer"
    known = {"client": TEXT, "risk": RISK, "rank": WHOLE}
    schema = array(TEXT) if field.kind.item else known.get(name, or_null(kind))
    return schema | {"description": field.header.format(currency="in the currency of config.json")}


def describe_clients() -> dict[str, Schema]:
    """Return the schemas of predictions, clients and entries."""
    client = {name: describe_field(name) for name in fields.API}
    assessed = {"model": RELEASE, "assessed_at": TIME}
    reason = obj({**REASON["properties"], "text": TEXT})
    prediction = {
        "client": MAYBE_TEXT,
        "risk": RISK | {"description": "The probability that the client leaves."},
        "outcome": {"enum": [0, 1], "description": "1 if the risk is at least the threshold."},
        "flags": array(TEXT) | {"description": "Reasons to treat the risk with caution."},
        "reasons": array(reason) | {"description": "Only with ?reasons=N."},
    }
    entry = {
        **each(log.Entry._fields, MAYBE_TEXT),
        **{"id": WHOLE, "client": TEXT, "kind": {"enum": list(log.KINDS)}, "at": TIME},
        **{"risk": or_null("number"), "replaces": MAYBE_WHOLE},
        **{"counts": BOOLEAN, "replaced_by": MAYBE_WHOLE},
    }
    standing = (
        *("resting_why", "resting_until", "follow_up", "override", "override_until"),
        *("manager", "manager_until", "last_contact", "last_outcome"),
    )
    return {
        "Predictions": obj(
            {
                **{"model": RELEASE, "count": WHOLE},
                "predictions": array(obj(prediction, "reasons")),
            }
        ),
        "Client": obj(client),
        "Clients": obj(
            {
                **{**assessed, "clients": array(ref("Client")), "count": WHOLE, "total": WHOLE},
                "next": MAYBE_TEXT | {"description": "The address of the next page."},
            }
        ),
        "OneClient": obj(
            {
                **assessed,
                **client,
                **each(("reasons_detail", "list_reasons_detail", "changes"), array(REASON)),
                **{"clients": WHOLE, "on_contact_list": BOOLEAN, "list_rank": MAYBE_WHOLE},
                "standing": ref("Standing"),
                "risk_history": array(obj({"date": TEXT, "release": TEXT, "risk": RISK})),
                "features": {"type": "object", "additionalProperties": VALUE},
            }
        ),
        "Standing": obj(each(standing, MAYBE_TEXT)),
        "Entry": obj(entry),
        "Verdicts": obj(
            {
                "file": TEXT,
                **each(("saved", "saved_before", "nothing_filled_in", "refused"), WHOLE),
                "lines": array(
                    obj({**each(("sheet", "client", "verdict", "reason"), TEXT), "line": WHOLE})
                ),
            }
        ),
        "Experiment": obj(
            {
                **assessed,
                "experiment": MAYBE_RECORD
                | {
                    "description": "As in assessment.json; draws: how many assignments were recomputed "
                    "from the key, and how many of these differ. In looks, ratio, draws, lost, "
                    "contacted_controls and reached are of the units that were compared; beside "
                    "them, of those of the next look."
                },
                "sentences": array(TEXT) | {"description": "The verdict first."},
            }
        ),
        "Entries": obj(
            {
                **{"client": TEXT, "is_current": BOOLEAN, "entries": array(ref("Entry"))},
                **{"standing": ref("Standing"), "seen": WHOLE},
            }
        ),
    }


def describe_status() -> dict[str, Schema]:
    """Return the schemas of the answers about the model, the data and the service."""
    scores = obj({"rows": WHOLE, "left": WHOLE, "scores": RECORD})
    times, ages = (
        ("last_run_ended_at", "last_good_run_at"),
        ("last_run_age_s", "last_good_run_age_s"),
    )
    return {
        "Scoring": obj(
            {
                **{"model": RELEASE, "kind": TEXT, "scored_at": TIME, "threshold": NUMBER},
                "sets": {"type": "object", "additionalProperties": scores},
                **each(("replaced", "comparison", "latest_decision"), MAYBE_RECORD),
                "warnings": array(TEXT),
            }
        ),
        "SummaryStats": obj(
            {
                **{"diagnosed_at": TIME, "release": MAYBE_TEXT},
                "columns": {"type": "object", "additionalProperties": RECORD},
            }
        ),
        "Diagnostics": obj(
            {"diagnosed_at": TIME, "estimate": MAYBE_RECORD, "second_opinion": ANY},
            description="Also drift, timings and packages, as diagnostics.py recorded them.",
        ),
        "Health": obj(
            {
                "status": {"enum": ["ok", "starting", "degraded"]},
                **{"project": TEXT, "release": MAYBE_TEXT},
                **each(times, MAYBE_TEXT),
                **each(ages, MAYBE_WHOLE),
                "runs_of_last_day": {"type": "object", "additionalProperties": WHOLE},
                **each(("complaints", "warnings"), array(TEXT)),
            }
        ),
        "Ready": obj({"status": {"const": "ready"}, "model": RELEASE, "is_flat": BOOLEAN}),
    }


def describe_entry(kind: str) -> Schema:
    """Return the schema of a new entry of one kind."""
    number = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    # As a form on a page sends a number.
    maybe_number = number | {"type": ["integer", "string", "null"], "pattern": "^[0-9]{0,15}$"}
    note: Schema = {"type": "string", "maxLength": validation.MAX_NOTE, "pattern": SOME_LINES}
    name: Schema = {"type": "string", "maxLength": validation.MAX_NAME, "pattern": LINE}
    needs_reason = kind in (log.NOT_BEFORE, log.OVERRIDE)
    may_lack = {"seen"} | (set() if kind == log.WITHDRAWAL else {"replaces"})
    may_lack |= set() if needs_reason else {"note"}
    may_lack |= {"date"} if kind in validation.OUTCOMES else set()
    known: dict[str, Schema] = {
        "kind": {"const": kind},
        "by": name | {"description": "The person who enters this."},
        "outcome": {"enum": list(validation.OUTCOMES.get(kind, ()))},
        "note": note if needs_reason else note | or_null("string", pattern=LINES),
        "date": {"type": "string", "format": "date"},
        "manager": name | {"description": "The client manager who takes over."},
        "replaces": (maybe_number if "replaces" in may_lack else number)
        | {"description": "The id of an earlier entry of the client."},
        "seen": maybe_number
        | {
            "description": "seen of the client's entries: if there are newer ones, this is refused."
        },
    }
    names = ("kind", "by", *validation.FIELDS[kind], "replaces", "seen")
    return obj({n: known[n] for n in names}, *may_lack, additionalProperties=False)


def describe_error() -> Schema:
    """Return the schema of every error."""
    row = or_null("integer", description="The row, counted from 0.")
    line = WHOLE | {"description": "The line of the data file."}
    problem = obj(
        {"problem": TEXT, "field": MAYBE_TEXT, "record": row, "line": line}, "record", "line"
    )
    details = {
        "problems": array(problem),
        **each(("figures", "datafiles", "roles"), array(TEXT)),
        **{"newer": array(ref("Entry")), "seen": WHOLE, "id": TEXT},
    }
    sentence = TEXT | {"description": "One sentence for people."}
    code = {"enum": list(CODES), "description": "For programs."}
    return obj({"error": sentence, "code": code, **details}, *details)


# ---- what the views take and answer


class Answer(NamedTuple):
    """What a view answers with, and the codes of its own errors; more: other statuses like 200."""

    tag: str
    content: Mapping[str, Schema]
    codes: Sequence[str] = ()
    more: Mapping[int, str] = {}


ANSWERS = {
    "prediction": Answer(
        *("prediction", {JSON: ref("Predictions")}),
        (
            *(*TO_SEND, "not_csv", "invalid_body", "invalid_records", "invalid_parameter"),
            *("too_many_records", "unknown_datafile", "invalid_datafile"),
            *("no_model", "damaged", "other_columns"),
        ),
    ),
    "list_clients": Answer("clients", {JSON: ref("Clients")}, ("invalid_parameter", *NO_LIST)),
    "show_client": Answer("clients", {JSON: ref("OneClient")}, ("unknown_client", *NO_LIST)),
    "contact_list": Answer("clients", {CSV: TEXT}, NO_LIST),
    "experiment": Answer("contacts", {JSON: ref("Experiment")}, NO_FILE),
    "export_view": Answer("clients", {CSV: TEXT}, ("invalid_parameter", "too_many", *NO_LIST)),
    "export_workbook": Answer("clients", {XLSX: ANY}, ("invalid_parameter", "too_many", *NO_LIST)),
    "list_entries": Answer("contacts", {JSON: ref("Entries")}, ("unknown_client", *NO_LIST)),
    "add_entry": Answer(
        *("contacts", {JSON: ref("Entry")}),
        (
            *(*TO_SEND, "invalid_body", "invalid_entry", "unknown_client"),
            *("key_taken", "stale", *NO_LIST),
        ),
        {201: "The stored entry; 200 if it had been stored before."},
    ),
    "upload_sheet": Answer(
        "contacts", {JSON: ref("Verdicts")}, ("cross_site", "invalid_sheet", *NO_LIST)
    ),
    "scoring": Answer("model", {JSON: ref("Scoring")}, NO_RELEASE),
    "summarystats": Answer("model", {JSON: ref("SummaryStats")}, NO_FILE),
    "diagnostics": Answer("model", {JSON: ref("Diagnostics")}, NO_FILE),
    "model_card": Answer("model", {"text/markdown": TEXT}, NO_RELEASE),
    "report": Answer("model", {"application/pdf": ANY}, NO_FILE),
    "figure": Answer("model", {"image/png": ANY}, ("unknown_figure", *NO_FILE)),
    "health": Answer(
        *("service", {JSON: ref("Health")}),
        more={503: "No request can be answered; warnings has the reason."},
    ),
    "ready": Answer(
        "service", {JSON: ref("Ready")}, ("no_model", "damaged", "other_columns", "overdue")
    ),
    "metrics": Answer("service", {"text/plain": TEXT, "application/openmetrics-text": TEXT}),
    "openapi": Answer("service", {JSON: RECORD}),
}


def describe_body(view: str, columns: Columns, release: Release | None) -> Schema:
    """Return the body of a POST, with examples that work in this installation; {} without a body."""
    if view == "add_entry":
        examples = {kind: {"value": example} for kind, example in EXAMPLE_ENTRIES.items()}
        content = {JSON: {"schema": ref("NewEntry"), "examples": examples}}
    elif view == "prediction":
        example = example_record(columns, release)
        records = array(ref("Record")) | {"minItems": 1, "maxItems": request_body.MAX_RECORDS}
        datafile = TEXT | {"description": "The name of a file in the test or the source folder."}
        forms = {"records": records, "columns": ref("Columns"), "datafile": datafile}
        bodies = [obj({name: form}, additionalProperties=False) for name, form in forms.items()]
        examples = {
            "records": {"value": {"records": [example]}},
            "columns": {"value": {"columns": {name: [value] for name, value in example.items()}}},
        }
        lines = [",".join(example), ",".join(map(str, example.values()))]
        about = f"At most {request_body.MAX_ROWS:,} lines below a header of column names."
        content = {
            JSON: {"schema": {"oneOf": bodies}, "examples": examples},
            CSV: {
                "schema": TEXT | {"description": about},
                "examples": {"csv": {"value": "\n".join(lines) + "\n"}},
            },
        }
    elif view == "upload_sheet":
        sheet = {"type": "string", "format": "binary", "description": "An .xlsx workbook or CSV."}
        content = {FORM: {"schema": obj({"sheet": sheet})}}
    else:
        return {}
    return {"required": True, "content": content}


EXAMPLE_ENTRIES: Mapping[str, Record] = {
    log.CONTACT: {
        "kind": log.CONTACT,
        "by": "Grace Liu",
        "outcome": log.REACHED,
        "note": "an offer",
    },
    log.OVERRIDE: {
        "kind": log.OVERRIDE,
        "by": "Grace Liu",
        "outcome": log.STAYS,
        "note": "renewed",
    },
}


def example_record(columns: Columns, release: Release | None) -> Record:
    """Return the baseline client of a release; before the first, values that the columns allow.

    >>> example_record(Columns(numeric=(), categorical=("plan",), dates=("signed",)), None)
    {'signed': 0.0, 'plan': 'a'}
    """
    baseline: Record = {}
    if release:
        gone = releases.gone_features(release.training, columns)
        baseline = {n: value for n, value in release.training["baseline"].items() if n not in gone}
    record: Record = {}
    for column in columns.numeric:
        value = baseline.get(column.name)
        if value is None or value != value:
            value = next(
                (limit for limit in (column.minimum, column.maximum) if limit is not None), 1
            )
        record[column.name] = round(value) if column.integer else value
    record |= {name: baseline.get(name) or 0.0 for name in columns.dates}
    return record | {name: baseline.get(name) or "a" for name in columns.categorical}


# ---- the document


def document(app: Flask, state: State) -> Schema:
    """Return the document of this installation, made once for each release."""
    loaded = optional(state.production.get)
    release, spelling = loaded[0] if loaded else None, state.spelling()
    is_controlled = not get_access().is_open()
    return state.cache.remember(
        "openapi",
        (release and release.id, str(spelling), is_controlled),
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
    """Return the document; is_controlled: callers need a token."""
    columns = config.columns
    nullable: Collection[str] = columns.features
    about = "No model is in production yet: most answers are 503 until the first run has ended."
    if release:
        nullable = request_body.optional_features(columns, release.training)
        about = f"The model in production is release {release.id}."
    paths: dict[str, Schema] = {}
    for rule in app.url_map.iter_rules():
        view = rule.endpoint.rpartition(".")[2]
        if view in ANSWERS:
            method = "post" if "POST" in (rule.methods or ()) else "get"
            text = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
            own = describe_operation(rule, view, text, config, is_controlled=is_controlled)
            if body := describe_body(view, columns, release):
                own["requestBody"] = body
            paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})[method] = own
    headers = {name: {"description": text, "schema": TEXT} for name, text in HEADERS.items()}
    return {
        "openapi": "3.1.1",
        "info": {"title": "Clients at risk", "version": __version__, "description": about},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(columns, nullable, spelling),
            "headers": headers,
            **({"securitySchemes": SECURITY} if is_controlled else {}),
        },
    }


def describe_operation(
    rule: Rule, view: str, text: str, config: Config, *, is_controlled: bool
) -> Schema:
    """Return the description of one method of an address; text: the docstring of the view."""
    answer = ANSWERS[view]
    summary, _, rest = text.partition("\n\n")
    allowed = [role for role in roles.ROLES if roles.may_use([role], view)]
    needs_token = view not in roles.FOR_ALL
    who = f"Roles: {', '.join(allowed)}." if needs_token else "Needs no token."
    codes = [*FOR_ALL, *answer.codes, *(TO_IDENTIFY if is_controlled and needs_token else [])]
    # Of those that need no token, one still counts the requests of a token that is sent.
    codes += ["too_many_requests"] if is_controlled and not needs_token else []
    return {
        "operationId": view,
        "tags": [answer.tag],
        "summary": summary.replace("\n", " "),
        "description": "\n\n".join(filter(None, (rest.partition("Raises:")[0].strip(), who))),
        "x-roles": allowed,
        "x-codes": codes,
        "parameters": describe_parameters(rule, view, has_value=bool(config.columns.value)),
        "responses": describe_answers(view, answer) | describe_errors(codes, answer),
        **(
            {"security": [{name: []} for name in SECURITY] if needs_token else []}
            if is_controlled
            else {}
        ),
    }


FIGURE: Schema = {
    "description": "The name of a figure of the report.",
    "schema": {"type": "string", "pattern": "^[^/]+$"},
    "example": "roc",
}
CLIENT: Schema = {
    "description": "The name of a client; if it ends with /entries, escape that slash as %2F.",
    "schema": {"type": "string", "minLength": 1},
}
CONDITION: Schema = {
    **{"name": "If-None-Match", "in": "header", "schema": TEXT},
    "description": "The ETag of an earlier answer: if the content is the same, the answer is 304.",
}
KEY: Schema = {
    **{"name": "Idempotency-Key", "in": "header"},
    "description": "A key of your choice: an entry sent twice with the same key is stored once.",
    "schema": {"type": "string", "maxLength": validation.MAX_KEY, "pattern": IN_HEADER},
}


def describe_parameters(rule: Rule, view: str, *, has_value: bool) -> list[Schema]:
    """Return the parameters in the path, the query and the headers."""
    known = parameters.declared(has_value=has_value)
    is_form = rule.endpoint.startswith("pages.")
    path = FIGURE if view == "figure" else CLIENT
    return [
        *({"name": name, "in": "path", "required": True, **path} for name in rule.arguments),
        *(
            {
                **{"name": name, "in": "query", "description": known[name].description},
                "schema": or_empty(known[name].schema) if is_form else dict(known[name].schema),
            }
            for name in sorted(parameters.PARAMETERS.get(view, ()))
        ),
        *([CONDITION] if view in CONSTANT else []),
        *([KEY] if view == "add_entry" else []),
    ]


def or_empty(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of a parameter that a form on a page may send empty."""
    is_free = schema["type"] == "string" and "enum" not in schema
    return dict(schema) if is_free else {"anyOf": [dict(schema), {"const": ""}]}


def headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def describe_answers(view: str, answer: Answer) -> dict[str, Schema]:
    """Return the answers that are no errors, by status."""
    content = {media: {"schema": schema} for media, schema in answer.content.items()}
    names = [
        name for name, has in (("ETag", view in CONSTANT), ("Link", view == "list_clients")) if has
    ]
    result = {
        str(status): {"description": text, "content": content, "headers": headers(*names)}
        for status, text in {200: "The answer.", **answer.more}.items()
    }
    if view == "list_clients":
        result["200"]["links"] = {
            name: {"operationId": name, "parameters": {"name": "$response.body#/clients/0/client"}}
            for name in ("show_client", "list_entries", "add_entry")
        }
    if view in CONSTANT:
        result["304"] = {"description": "The content has not changed.", "headers": headers("ETag")}
    return result


def describe_errors(codes: Sequence[str], answer: Answer) -> dict[str, Schema]:
    """Return the errors with these codes, by status; their codes are enumerated."""
    statuses = {status for code in codes for status in CODES[code][0]} - {*ANYWHERE, *answer.more}
    result = {}
    for status in sorted(statuses):
        own = [code for code in codes if status in CODES[code][0]]
        meanings = "; ".join(f"{code}: {CODES[code][1]}" for code in own)
        schema = {"allOf": [ref("Error"), {"properties": {"code": {"enum": own}}}]}
        result[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}. {meanings}.",
            "headers": headers(*([HEADER_OF[status]] if status in HEADER_OF else [])),
            "content": {JSON: {"schema": schema}},
        }
    return result
