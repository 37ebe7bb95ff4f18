"""Render the description of the API as a page, with a command line for each endpoint."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from flask import current_app, g, render_template, request

from attrition.access import roles
from attrition.web import openapi
from attrition.web.artifact_cache import State, optional, state

Schema = Mapping[str, Any]

MAX_DEPTH = 3
TYPES = {
    "string": ("text", "texts"),
    "integer": ("whole number", "whole numbers"),
    "number": ("number", "numbers"),
    "boolean": ("true or false", "booleans"),
    "object": ("object", "objects"),
    "null": ("null", "nulls"),
}
QUERIES = {
    **{"list_clients": "?limit=2", "export_view": "?view=list"},
    "export_workbook": "?view=list",
}
SAVED = ("application/pdf", "image/png", openapi.XLSX)  # no terminal shows them


class Line(NamedTuple):
    """A line of a table: a parameter or a field, what it may be, and what it is for."""

    name: str
    kind: str
    about: str


def show_docs() -> str:
    """Show every endpoint: parameters, body, answers, roles and a command line that calls it."""
    document = openapi.document(current_app, state())
    sections = [
        {**tag, "operations": [*operations_of(document, tag["name"])]} for tag in document["tags"]
    ]
    return render_template(
        "docs.html",
        about=document["info"]["description"],
        sections=sections,
        codes=[(code, *code_line(code)) for code in openapi.CODES],
        is_controlled="securitySchemes" in document["components"],
    )


def operations_of(document: Schema, tag: str) -> Iterator[dict[str, Any]]:
    """Return what the page shows of each operation with a tag."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield {
                    "id": operation["operationId"],
                    "method": method.upper(),
                    "path": path,
                    "summary": operation["summary"],
                    "paragraphs": operation["description"].split("\n\n"),
                    "curl": command(path, operation, first_client(state())),
                    "parameters": [parameter_line(one) for one in operation["parameters"]],
                    "bodies": [*bodies(operation, document)],
                    "good": good(operation["responses"]),
                    "fields": answer_fields(operation, document),
                    "errors": error_lines(operation),
                }


def first_client(state: State) -> str:
    """Return the name of a listed client; "NAME" if there is none or the caller may not see clients."""
    listed = optional(state.listed) if roles.may_use(g.caller.roles, "list_clients") else None
    return listed[0]["client"] if listed else "NAME"


# ---- the command line


def command(path: str, operation: Schema, client: str) -> str:
    """Return a command that calls an operation at the address of this request."""
    names = {
        one["name"]: str(one.get("example", client))
        for one in operation["parameters"]
        if one["in"] == "path"
    }
    path = path.format(**{name: quote(value, safe="") for name, value in names.items()})
    url = request.host_url.rstrip("/") + request.script_root + path
    url += QUERIES.get(operation["operationId"], "")
    parts = ["curl -s", shlex.quote(url)]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $ATTRITION_TOKEN"')
    bodies = operation.get("requestBody", {"content": {"": {}}})["content"]
    media, content = next(iter(bodies.items()))
    if media == openapi.FORM:
        parts.append("-F sheet=@sheet.xlsx")
    elif media:
        example = next(iter(content["examples"].values()))["value"]
        body = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
        flag = "--data-binary" if media == openapi.CSV else "-d"
        parts += [f"-H 'Content-Type: {media}'", f"{flag} {shlex.quote(body)}"]
    parts += ["-O"] if {*SAVED} & operation["responses"]["200"]["content"].keys() else []
    return " ".join(parts)


# ---- schemas as tables


def parameter_line(parameter: Schema) -> Line:
    schema = parameter["schema"]
    where = {"path": "in the path", "query": "", "header": "header"}[parameter["in"]]
    default = (
        f"default {shown_number(schema['default'])}"
        if schema.get("default") not in (None, "")
        else ""
    )
    kind = ", ".join(filter(None, (where, describe(schema), default)))
    return Line(parameter["name"], kind, parameter["description"])


def resolve(schema: Schema, document: Schema) -> Schema:
    """Return what a reference names, or the schema itself."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def describe(schema: Schema) -> str:
    """Return what a value may be.

    >>> describe({"type": "integer", "minimum": 1, "maximum": 9})
    'whole number, 1 to 9'
    >>> describe({"type": "array", "items": {"type": "string"}})
    'list of texts'
    >>> describe({"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]})
    'number, at least 0, or null'
    """
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if choices := schema.get("anyOf") if "type" not in schema else None:
        return ", or ".join(describe(each) for each in choices)
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return f"“{schema['const']}”" if schema["const"] != "" else "empty"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds == ["array"]:
        return "list of " + plural(schema["items"])
    names = [TYPES[kind][0] for kind in kinds]
    if schema.get("format") == "date":
        names[0] = "date"
    parts = [" or ".join(names) or "any value", limits(schema)]
    return ", ".join(filter(None, parts))


def plural(schema: Schema) -> str:
    kind = schema.get("type")
    return TYPES[kind][1] if isinstance(kind, str) and kind in TYPES else describe(schema)


def shown_number(value: Any) -> str:
    """Format a limit or a default as people write it.

    >>> shown_number(1e12), shown_number(0.0), shown_number(0.5), shown_number("risk")
    ('1,000,000,000,000', '0', '0.5', 'risk')
    """
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def limits(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is not None and high < 1e15:
        most = shown_number(high)
        return f"{shown_number(low)} to {most}" if low is not None else f"at most {most}"
    if low is not None and low > -1e15:
        return f"at least {shown_number(low)}"
    return f"at most {schema['maxLength']} characters" if "maxLength" in schema else ""


def lines(schema: Schema, document: Schema, prefix: str = "", depth: int = 0) -> Iterator[Line]:
    """Return the fields of an object, those of the objects in it too, by their paths."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner = resolve(field, document)
        is_list = inner.get("type") == "array"
        kind = describe(inner if is_list or "$ref" not in field else {"type": "object"})
        about = str(field.get("description", ""))
        kind += "" if name in required else " (may be left out)"
        path = f"{prefix}{name}" + ("[]" if is_list else "")
        yield Line(path, kind, about)
        items = resolve(inner["items"], document) if is_list else inner
        if items.get("properties") and depth < MAX_DEPTH:
            yield from lines(items, document, f"{path}.", depth + 1)


def bodies(operation: Schema, document: Schema) -> Iterator[tuple[str, Sequence[Line], str]]:
    """Return a heading, the fields and an example of each form of the body."""
    content = operation.get("requestBody", {}).get("content", {})
    for media, body in content.items():
        schema = resolve(body["schema"], document)
        examples = body.get("examples", {})
        for form in schema.get("oneOf", [schema]):
            kind = form.get("properties", {}).get("kind", {}).get("const")
            name = kind or next(iter(form.get("properties", {})), media)
            example = examples.get(name, {}).get("value")
            shown = example if isinstance(example, str) else json.dumps(example, indent=2)
            heading = media if name == media else f"{name} ({media})"
            yield heading, [*lines(form, document)], shown if example else ""


def good(responses: Schema) -> str:
    """Describe the answers without an error, and their headers."""
    texts = [
        f"{status}: {one['description']} Headers: {', '.join(one['headers'])}."
        for status, one in responses.items()
        if status in ("200", "201", "304")
    ]
    return " ".join(texts)


def answer_fields(operation: Schema, document: Schema) -> list[Line]:
    """Return the fields of the answer if all is well."""
    content = next(iter(operation["responses"]["200"]["content"].values()))
    return [*lines(resolve(content["schema"], document), document)]


def error_lines(operation: Schema) -> list[tuple[str, str, str]]:
    """Return the code, the statuses and the meaning of each error."""
    return [(code, *code_line(code)) for code in operation["x-codes"]]


def code_line(code: str) -> tuple[str, str]:
    statuses, meaning = openapi.CODES[code]
    return ", ".join(map(str, statuses)), meaning
