"""Each curl line of the README and docs/api.md works on the sample, and answers as shown there."""

import json
import os
import re
import shlex
import sqlite3

import pandas as pd
import pytest
import requests

from attrition import config_file
from tests.apps import day_after
from tests.conftest import NOBODY_AT, ROOT, TOKEN, run_whole, served

DOCUMENTS = ("README.md", "docs/api.md")
ADDRESS = re.compile(r"^(?:https?://)?(?:localhost|host|[\w.]+\.example\.com)(?::8000)?(?=/)")
DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b(?!T)")
# Of curl's options those that take a value, and those that change only what curl prints.
WITH_VALUE = ("-X", "-H", "-d", "--data-binary")
FOR_PRINTING = ("-s", "-sS", "-S")


def curl_lines(text):
    """Each curl command of the code blocks, with the answer that is shown below it ("" if none is)."""
    examples = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        while lines:
            command = lines.pop(0).removeprefix("$ ")
            if not command.startswith("curl "):
                continue
            while is_open(command):
                command = f"{command}\n{lines.pop(0)}"
            is_answered = lines and lines[0].startswith("{")
            examples.append((command, lines.pop(0) if is_answered else ""))
    return examples


def is_open(command):
    try:
        return command.endswith("\\") or not shlex.split(command)
    except ValueError:  # a quotation that goes on in the next line
        return True


EXAMPLES = [
    pytest.param(*example, id=f"{document}-{i}")
    for document in DOCUMENTS
    for i, example in enumerate(curl_lines((ROOT / document).read_text(encoding="utf-8")))
]


def send(command, url, folder):
    """Send what curl would send."""
    words = shlex.split(os.path.expandvars(command.replace("\\\n", " ")))[1:]
    method, address, body, headers = None, None, None, {}
    while words:
        word = words.pop(0)
        if word in WITH_VALUE:
            value = words.pop(0)
            if word == "-X":
                method = value
            elif word == "-H":
                name, _, content = value.partition(": ")
                headers[name] = content
            else:
                body = (folder / value[1:]).read_bytes() if value[0] == "@" else value.encode()
        elif word not in FOR_PRINTING:
            assert address is None and word[0] != "-", f"{word}: this test does not know it"
            address = ADDRESS.sub(url, word)
    body = body and DAY.sub(day_after(30), body.decode()).encode()
    return requests.request(
        method or ("POST" if body else "GET"), address, data=body, headers=headers, timeout=20
    )


def shape(value):
    """The keys and the kinds of an answer; of a list those of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if type(value) in (int, float) else type(value).__name__


def rows_of_sample(folder):
    """Write a few rows of the sample: some with outcomes, and some of the current clients."""
    for file, rows in (("sourcedata/2026-08.csv", 1000), ("testdata/testdata.csv", 300)):
        pd.read_csv(ROOT / file).head(rows).to_csv(folder / file, index=False)
    with sqlite3.connect(f"file:{ROOT}/sourcedata/crm.sqlite?mode=ro", uri=True) as connection:
        current = pd.read_sql("SELECT * FROM clients", connection).drop(columns="updated_at")
    connection.close()
    named = current["corporation"] == "Hazel Island Systems"
    few = pd.concat([current[named], current[~named].head(100)])
    few.to_csv(folder / "sourcedata" / "current.csv", index=False)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A project with a part of the sample, after a whole run, and the address of its app."""
    folder = tmp_path_factory.mktemp("sample")
    for name in ("sourcedata", "testdata"):
        (folder / name).mkdir()
    settings = json.loads((ROOT / "config.json").read_text()) | {"databases": [], "api": NOBODY_AT}
    (folder / "config.json").write_text(json.dumps(settings))
    rows_of_sample(folder)
    config = config_file.load(folder / "config.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attrition.operations.dependencies.ask_all", dict.fromkeys)
        assert run_whole(config) == 0
    with served(config, "--workers", "1") as (port, _):
        yield folder, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_curl_line_works_and_answers_as_shown(sample, monkeypatch, command, shown):
    folder, url = sample
    for name in re.findall(r"\$(\w+)", command):
        monkeypatch.setenv(name, TOKEN)
    response = send(command, url, folder)
    if not shown:
        assert response.ok, response.text
        return
    expected, answer = json.loads(shown), response.json()
    assert shape(answer) == shape(expected)
    assert response.ok is ("code" not in expected)
    assert answer.get("code") == expected.get("code")


def test_examples_are_found_and_read_as_a_shell_reads_them():
    text = "```\n$ curl -s host/a \\\n    -d '{\"a\":\n 1}'\n{\"b\": 2}\ncurl 'host/b?c=d'\n```\n"
    assert curl_lines(text) == [
        ("curl -s host/a \\\n    -d '{\"a\":\n 1}'", '{"b": 2}'),
        ("curl 'host/b?c=d'", ""),
    ]
    assert len(EXAMPLES) > 8


def test_shown_answer_of_another_shape_differs():
    assert shape({"a": [{"b": 1}], "c": None}) == {"a": [{"b": "number"}], "c": "NoneType"}
    assert shape({"a": []}) != shape({"a": [1]})
    assert shape(1.5) == shape(2) != shape(True)
