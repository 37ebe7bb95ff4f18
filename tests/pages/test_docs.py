"""The page that describes the API."""

import html
import io
import re
import shlex
from itertools import pairwise
from urllib.parse import urlsplit

from app import create_app
from tests.conftest import TOKEN
from tests.entering.sheets import HEADINGS, write


def commands(page):
    """Every command line of the page, as curl gets it."""
    lines = re.findall(r'aria-label="Command line[^>]*>(.*?)</pre>', page.text, re.S)
    return [shlex.split(html.unescape(line)) for line in lines]


def run(client, command):
    """Send what a command line sends."""
    url = next(word for word in command if word.startswith("http"))
    values = {a: b for a, b in pairwise(command) if a in ("-d", "--data-binary")}
    headers = dict(b.split(": ", 1) for a, b in pairwise(command) if a == "-H")
    headers = {k: v.replace("$ATTRITION_TOKEN", TOKEN) for k, v in headers.items()}
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    body = next(iter(values.values()), None)
    if "-F" in command:
        assert command[command.index("-F") + 1] == "sheet=@sheet.xlsx"
        body = {"sheet": (io.BytesIO(write([HEADINGS])), "sheet.xlsx")}
    return client.open(path, method="POST" if body else "GET", data=body, headers=headers)


def test_every_command_line_works(client):
    lines = commands(client.get("/docs"))
    assert len(lines) >= 15
    for line in lines:
        assert run(client, line).status_code in (200, 201), line


def test_command_lines_send_the_token_if_one_is_needed(guarded):
    page = guarded.get("/docs", headers={"Authorization": f"Bearer {TOKEN}"})
    for line in commands(page):
        sends = "Authorization: Bearer $ATTRITION_TOKEN" in line
        assert sends != line[2].endswith("/health")
        assert run(guarded, line).status_code in (200, 201), line


def test_page_shows_every_operation_and_code_without_javascript(client):
    page, document = client.get("/docs").text, client.get("/openapi.json").json
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
    for code in document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]:
        assert code in page
    assert page.count("<script") == 1  # that of every page, which this one does not need


def test_page_works_before_the_first_release(empty_project):
    answer = create_app(empty_project).test_client().get("/docs")
    assert answer.status_code == 200
    assert "No model is in production yet" in answer.text
    assert "/clients/NAME" in answer.text
