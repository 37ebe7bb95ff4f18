"""The description of the API: complete, valid, and that of this installation."""

import ast
import re
from dataclasses import replace

import jsonschema_rs
import pytest
import schemathesis

from app import create_app
from attrition.access import roles
from attrition.config import Columns, Numeric
from attrition.operations import releases
from attrition.web import openapi, parameters
from tests.apps import day_after
from tests.conftest import ROOT, TOKEN

NOT_DESCRIBED = {"show_docs", "sign_in", "sign_out", "static"}  # pages, and what pages need


def read(client):
    return client.get("/openapi.json").json


def resolved(document, name):
    """A named schema with the others beside it, as a validator needs it."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def is_valid(document, name, value):
    return jsonschema_rs.Draft202012Validator(resolved(document, name)).is_valid(value)


def closed(schema):
    """The same schema, in which an object has no other properties than those named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        result.setdefault("additionalProperties", False)
    return result


def test_document_is_valid_openapi_3_1(odd_client):
    schema = schemathesis.openapi.from_dict(read(odd_client))
    schema.validate()
    assert schema.raw_schema["openapi"].startswith("3.1")
    assert all(operation.ok() for operation in schema.get_all_operations())


def test_every_view_that_is_no_page_is_described(client):
    app = client.application
    views = {
        rule.endpoint.rpartition(".")[2]
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("pages.")
    }
    operations = [one for path in read(client)["paths"].values() for one in path.values()]
    for_both = {"export_view", "export_workbook", "upload_sheet"}
    assert {one["operationId"] for one in operations} == (views - NOT_DESCRIBED) | for_both


def test_each_operation_names_the_roles_that_may_use_it(client):
    for path in read(client)["paths"].values():
        for operation in path.values():
            view = operation["operationId"]
            assert operation["x-roles"] == [
                role for role in roles.ROLES if roles.may_use([role], view)
            ]


def test_field_may_be_null_if_the_release_has_seen_it_missing(odd_client):
    record = read(odd_client)["components"]["schemas"]["Record"]
    assert "null" in record["properties"]["number_of_employees"]["type"]
    assert "number_of_employees" not in record["required"]
    assert record["properties"]["lastmonth_activity"]["type"] == "number"
    assert "lastmonth_activity" in record["required"]


def test_before_the_first_release_every_feature_may_be_null(empty_project):
    document = read(create_app(empty_project).test_client())
    fields = document["components"]["schemas"]["Record"]["properties"]
    assert all("null" in fields[name]["type"] for name in Columns().features)
    assert "503" in document["paths"]["/prediction"]["post"]["responses"]


def test_examples_are_valid_and_accepted(odd_client):
    document = read(odd_client)
    bodies = document["paths"]["/prediction"]["post"]["requestBody"]["content"]
    schema = bodies["application/json"]["schema"] | {"components": document["components"]}
    for example in bodies["application/json"]["examples"].values():
        assert jsonschema_rs.Draft202012Validator(schema).is_valid(example["value"])
        assert odd_client.post("/prediction", json=example["value"]).status_code == 200
    text = bodies["text/csv"]["examples"]["csv"]["value"]
    assert odd_client.post("/prediction", data=text, content_type="text/csv").status_code == 200
    entries = document["paths"]["/clients/{name}/entries"]["post"]["requestBody"]["content"]
    for example in entries["application/json"]["examples"].values():
        assert is_valid(document, "NewEntry", example["value"])
        assert odd_client.post("/clients/now601/entries", json=example["value"]).status_code in (
            201,
            404,
        )


@pytest.mark.parametrize(
    ("entry", "is_good"),
    [
        ({"kind": "contact", "outcome": "reached"}, True),
        ({"kind": "contact"}, False),
        ({"kind": "contact", "outcome": "stays"}, False),
        ({"kind": "not_before", "date": day_after(3), "note": "at a fair"}, True),
        ({"kind": "not_before", "date": day_after(3)}, False),
        ({"kind": "override", "outcome": "stays", "note": "  "}, False),
        ({"kind": "reassignment", "manager": "Bob", "date": day_after(3)}, True),
        ({"kind": "withdrawal"}, False),
        ({"kind": "contact", "outcome": "reached", "manager": "Bob"}, False),
        ({"kind": "contact", "outcome": "reached", "note": "two\nlines"}, True),
        ({"kind": "contact", "outcome": "reached", "note": "x" * 2001}, False),
    ],
)
def test_schema_of_an_entry_allows_what_the_view_accepts(client, entry, is_good):
    entry = entry | {"by": "Ann"}
    assert is_valid(read(client), "NewEntry", entry) is is_good
    answer = client.post("/clients/now1/entries", json=entry)
    assert answer.status_code == (201 if is_good else 422)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/clients?limit=3", "Clients"),
        ("/clients/now1", "OneClient"),
        ("/clients/now1/entries", "Entries"),
        ("/scoring", "Scoring"),
        ("/summarystats", "SummaryStats"),
        ("/health", "Health"),
        ("/figures/-.png", "Error"),
    ],
)
def test_every_field_of_an_answer_is_described(client, path, name):
    document = closed(read(client))
    answer = client.get(path).json
    jsonschema_rs.Draft202012Validator(resolved(document, name)).validate(answer)


def test_predictions_are_described(client):
    record = {"lastmonth_activity": 1, "lastyear_activity": 1, "number_of_employees": 1}
    answer = client.post("/prediction?reasons=2", json={"records": [record]}).json
    document = closed(read(client))
    jsonschema_rs.Draft202012Validator(resolved(document, "Predictions")).validate(answer)


def test_document_names_the_token_only_if_one_is_needed(client, guarded):
    assert "securitySchemes" not in read(client)["components"]
    answer = guarded.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json
    assert answer["paths"]["/scoring"]["get"]["security"] == [{"bearer": []}, {"session": []}]
    assert answer["paths"]["/health"]["get"]["security"] == []
    assert "401" in answer["paths"]["/scoring"]["get"]["responses"]


def test_order_by_value_is_offered_only_if_clients_have_one(project):
    without = read(create_app(project).test_client())
    columns = replace(project.columns, value="worth")
    with_value = read(create_app(replace(project, columns=columns)).test_client())
    for document, orders in ((without, ["risk"]), (with_value, ["value_at_risk", "risk"])):
        (order,) = (
            one
            for one in document["paths"]["/clients"]["get"]["parameters"]
            if one["name"] == "order"
        )
        assert order["schema"]["enum"] == orders


def raised_codes():
    """Every code that the code can answer with, by the statuses that stand beside it."""
    codes = set()
    for path in sorted((ROOT / "attrition").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = {"ApiError": 1, "NotReady": 1, "_not_utf8": 1}.get(name)
            if place is None or len(node.args) <= place:
                continue
            code = node.args[place]
            if isinstance(code, ast.Constant):
                codes.add(code.value)
    return codes


def test_codes_are_those_that_the_code_raises():
    from attrition.web.middleware import SENTENCES
    from attrition.web.server import REASONS

    given_elsewhere = {code for code, _ in SENTENCES.values()} | {
        code for _, code, _ in REASONS.values()
    }
    # The default of NotReady, that of any other HTTP error, what `runs.check_overdue` returns, and
    # what `auth.too_many` composes.
    by_default = {"not_ready", "refused", "overdue", "too_many_requests", "too_many_tries"}
    assert set(openapi.CODES) == raised_codes() | given_elsewhere | by_default


def test_guide_lists_every_code():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Errors")[2]
    assert set(re.findall(r"`([a-z_]+)`", text)) >= set(openapi.CODES)


@pytest.mark.parametrize(
    ("view", "begin", "end"),
    [
        ("prediction", "## Predict", "## List clients"),
        ("show_today", "| `GET /` |", "| `GET /list` |"),
        ("show_list", "The parameters of `/list`", "\n\n"),
        ("show_client_page", "The parameters of `/list`", "\n\n"),
        ("sign_in", "The parameters of `/list`", "\n\n"),
        ("list_clients", "`view` is one of those", "\n\n"),
    ],
)
def test_guide_lists_every_parameter(view, begin, end):
    guide = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    text = guide.partition(begin)[2].partition(end)[0]
    names = set(re.findall(r"[`?]([a-z_]+)[`=]", f"{begin}{text}"))
    assert names | {"saved"} >= parameters.PARAMETERS[view]


@pytest.mark.parametrize(
    "path",
    [
        *("/scoring", "/summarystats", "/diagnostics", "/modelcard.md", "/report.pdf"),
        *("/figures/roc.png", "/openapi.json", "/docs", "/static/style.css"),
    ],
)
def test_what_is_constant_between_runs_is_sent_once(client, path):
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert not first.headers["ETag"].startswith("W/")
    for name in ("ETag", "Cache-Control", "Content-Security-Policy", "X-Frame-Options"):
        assert again.headers[name] == first.headers[name]
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.head(path).headers["ETag"] == first.headers["ETag"]


def test_etag_changes_with_the_content(client, project):
    before = client.get("/summarystats").headers["ETag"]
    assert client.get("/scoring").headers["ETag"] != before
    assert "ETag" not in client.get("/clients").headers


def test_links_lead_through_all_clients(client):
    links, seen = {"next": "/clients?limit=90"}, []
    while "next" in links:
        answer = client.get(links["next"])
        seen += [one["client"] for one in answer.json["clients"]]
        links = {
            name: url for url, name in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])
        }
        assert links.get("next") == answer.json["next"]
    assert len(set(seen)) == len(seen) == 200
    assert links == {"first": "/clients?limit=90&offset=0", "prev": "/clients?limit=90&offset=90"}


def test_parameter_that_is_there_twice_is_refused(client):
    answer = client.get("/clients?limit=1&limit=2")
    assert (answer.status_code, answer.json["code"]) == (400, "repeated_parameter")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "FOO"])
def test_method_that_health_does_not_know_needs_no_token_either(guarded, method):
    answer = guarded.open("/health", method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.json["code"] == "method_not_allowed"


def test_an_example_is_one_of_the_columns_that_the_model_does_not_have_any_more(odd_project):
    release = releases.read_current(odd_project.production_folder)
    columns = Columns(numeric=(Numeric("industry", minimum=1, integer=True),))
    assert openapi.example_record(columns, release) == {"industry": 1}
