"""What applies to every request and answer."""

import gzip
import json
import logging
import pickle
from collections.abc import Iterator

import pytest

from attrition.operations import log
from attrition.web import api
from tests.apps import GETS, GOOD, JSON, one

TYPES = [
    ("form type", {"Content-Type": "application/x-www-form-urlencoded"}, {415}),
    ("no type", {}, {415}),
    ("text/plain", {"Content-Type": "text/plain"}, {415}),
    ("charset trick", {"Content-Type": "application/json; charset=utf-7"}, {415}),
    ("charset utf-8", {"Content-Type": "application/json; charset=UTF-8"}, {200}),
    ("multipart no boundary", {"Content-Type": "multipart/form-data"}, {415}),
    ("gzip encoding claimed", JSON | {"Content-Encoding": "gzip"}, {415}),
    ("pickle", {"Content-Type": "application/vnd.bentoml+pickle"}, {415}),
]


@pytest.mark.parametrize(("headers", "allowed"), [t[1:] for t in TYPES], ids=[t[0] for t in TYPES])
def test_type(client, headers, allowed):
    answer = client.post("/prediction", data=one("12"), headers=headers)
    assert answer.status_code in allowed


def test_packed_and_pickled_bodies_are_not_opened(client):
    packed = gzip.compress(one("12").encode())
    claimed = JSON | {"Content-Encoding": "gzip"}
    assert client.post("/prediction", data=packed, headers=claimed).status_code == 415
    assert client.post("/prediction", data=packed, headers=JSON).status_code == 400
    assert client.post("/prediction", data=pickle.dumps([GOOD]), headers=JSON).status_code == 400


def test_multipart_bomb_is_refused_unread(client):
    parts = {f"part{i}": "x" for i in range(2000)}
    answer = client.post("/prediction", data=parts, content_type="multipart/form-data")
    assert answer.status_code in {413, 415}


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/prediction", 405, "OPTIONS, POST"),
        ("DELETE", "/clients", 405, "GET, HEAD, OPTIONS"),
        ("TRACE", "/health", 405, "GET, HEAD, OPTIONS"),
        ("BREW", "/health", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/scoring?_method=GET", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/scoring", 200, None),
        ("OPTIONS", "/scoring", 200, "GET, HEAD, OPTIONS"),
    ],
)
def test_method(client, method, path, status, allow):
    answer = client.open(path, method=method, headers={"X-HTTP-Method-Override": "GET"})
    assert answer.status_code == status
    if status == 405:
        usable = allow.removeprefix("OPTIONS, ").partition(",")[0]
        assert answer.json["error"] == f"use {usable} for {path.partition('?')[0]}"
    if allow:
        assert ", ".join(sorted(answer.headers["Allow"].split(", "))) == allow


@pytest.mark.parametrize(
    "path",
    [
        "/unknown",
        "/scoring/",
        "/..",
        "/%2e%2e/etc/passwd",
        "/%252e%252e/etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/templates/today.html",
        "/static/..%2ftemplates%2ftoday.html",
        "/static//etc/passwd",
        "/figures/../report.pdf",
        "/figures/..%2freport.png",
        "/figures/x.png",
        "/figures/.png",
        "/scoring;a=b",
        "/scoring%23",
        "/scoring%00",
        "/\\..\\config.json",
        "/%ff%fe",
        "/clients/../../../etc/passwd",
        "/clients/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/clients/nobody",
        "/console",
        "/.git/config",
        "/.env",
        "/templates/today.html",
        "/" + "a" * 5000,
    ],
)
def test_path_that_is_none_is_404_in_json(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json.keys() >= {"error", "code"}


@pytest.mark.parametrize(
    "path",
    ["//", "//clients", "///health", "//static/style.css", "/clients/", "//evil.example/list"],
)
def test_an_extra_slash_makes_another_address(client, path):
    answer = client.get(environ_overrides={"PATH_INFO": path, "RAW_URI": path})
    assert answer.status_code == 404
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/scoring?file=/etc/passwd",
        "/scoring?url=http://127.0.0.1",
        "/?__debugger__=yes&cmd=resource&f=style.css",
        "/health?" + "&".join(f"a{i}=1" for i in range(10_000)),
    ],
)
def test_unknown_parameter_is_refused(client, path):
    assert client.get(path).status_code == 400


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a b", "x:y:z"])
def test_other_host_is_refused(client, host):
    assert client.get("/scoring", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8123", "[::1]:8000"])
def test_own_host_is_answered(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


def every_answer(client) -> Iterator:
    for path in (*GETS, "/health", "/", "/static/style.css", "/figures/roc.png", "/unknown"):
        yield client.get(path, buffered=True)
    yield client.get("/prediction")
    yield client.get("/clients?limit=x")
    yield client.post("/prediction", json={"records": [GOOD]})
    yield client.post("/prediction", json={"datafile": "nothing"})
    yield client.post("/prediction", data="{")


def test_every_answer_carries_the_headers(client):
    for answer in every_answer(client):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
        policy = answer.headers["Content-Security-Policy"]
        if answer.mimetype == "text/html":
            assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'")
            assert "unsafe" not in policy
        else:
            assert policy == "default-src 'none'"


def test_no_answer_names_a_folder(client, project):
    for answer in every_answer(client):
        assert str(project.file.parent).encode() not in answer.data


def test_bug_is_500_with_an_id_that_the_log_has_too(client, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("SELECT secret FROM /var/lib")

    monkeypatch.setattr(api, "describe_score", fail)
    answer = client.get("/scoring")
    assert answer.status_code == 500
    assert answer.json["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.json["id"] in caplog.text
    assert "SELECT secret" in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1.5",
        "limit=",
        "limit=" + "9" * 5000,
        "offset=-1",
        "offset=1e3",
        "min_risk=2",
        "min_risk=nan",
        "min_risk=inf",
    ],
)
def test_bad_number_in_a_query_is_422(client, query):
    answer = client.get(f"/clients?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_parameter")


def test_line_of_a_request_names_the_view_and_no_client(client, caplog):
    caplog.set_level(logging.INFO, "attrition.requests")
    answer = client.get("/clients/Secret%20Ltd?limit=Secret")
    (record,) = caplog.records
    line = json.loads(log.JsonFormatter().format(record))
    assert list(line) == "at level request_id method view status ms caller".split()
    assert (line["method"], line["view"], line["status"]) == (
        "GET",
        "show_client",
        answer.status_code,
    )
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert "Secret" not in str(line)
