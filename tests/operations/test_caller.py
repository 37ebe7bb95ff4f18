"""Whoever answers at the address: only an app of this project gets the token and the calls."""

import itertools
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

import apicalls
import fullprocess
from attrition.config import Api
from attrition.errors import AttritionError
from attrition.operations.caller import default_url, identify
from tests.conftest import TOKEN, write_config

HEAD = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"


def answer(status=b"200 OK", body=b"{}", more=JSON):
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return [b"HTTP/1.1 " + status + b"\r\n" + more + length + body]


def health(**changes):
    value = {"status": "ok", "release": None, "project": "0" * 16, "warnings": []} | changes
    return answer(body=json.dumps(value).encode())


def drip(data):
    for i in range(len(data)):
        time.sleep(0.02)
        yield data[i : i + 1]


STRANGERS = {
    "another project": health(),
    "any JSON": answer(body=b'{"project": 5, "warnings": "none"}'),
    "a JSON list": answer(body=b"[1, 2]"),
    "deep JSON": answer(body=b"[" * 100_000),
    "a huge number": answer(body=b'{"project": ' + b"9" * 10_000 + b"}"),
    "JSON in another encoding": answer(body='{"project": "é"}'.encode("utf-16")),
    "HTML": answer(body=b"<html>", more=b"Content-Type: text/html\r\n"),
    "server error": answer(b"500 Oops", b""),
    "login": answer(b"401 Unauthorized", b"who?", b"WWW-Authenticate: Basic\r\n"),
    "a redirect": answer(b"302 Found", b"", b"Location: http://127.0.0.1:9/health\r\n"),
    "a body that is cut short": [HEAD + JSON + b"Content-Length: 500\r\n\r\n{}"],
    "garbage": [bytes(range(256)) * 50],
    "another protocol": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "nothing at all": [],
}


ENDLESS = {
    "silence": lambda: itertools.repeat(b""),
    "a slow head": lambda: drip(HEAD + b"X: " + b"x" * 1000),
    "slow lines": lambda: itertools.chain([HEAD], drip(b"X: y\r\n" * 200)),
    "a slow body": lambda: itertools.chain([HEAD + JSON + b"\r\n"], drip(b"[1" + b" " * 1000)),
    "an endless head": lambda: itertools.chain([HEAD], itertools.repeat(b"X-Y: z\r\n")),
    "an endless body": lambda: itertools.chain(
        [HEAD + JSON + b"\r\n"], itertools.repeat(b" " * 9999)
    ),
    "endless 100 Continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


class Anew:
    """Pieces that begin anew for each connection."""

    def __init__(self, begin):
        self.begin = begin

    def __iter__(self):
        return iter(self.begin())


@contextmanager
def answering(pieces):
    """Answer every connection with these pieces; yield the address and what was received."""
    received, is_over = [], threading.Event()

    def serve():
        while not is_over.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    for piece in itertools.takewhile(lambda _: not is_over.is_set(), pieces):
                        connection.sendall(piece) if piece else time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port, received
        finally:
            is_over.set()
            thread.join()


@pytest.mark.parametrize("name", [*STRANGERS, *ENDLESS])
def test_a_foreign_program_gets_no_token_and_delays_no_run(tmp_path, monkeypatch, caplog, name):
    monkeypatch.setenv("API_TOKEN", TOKEN)
    monkeypatch.setattr(apicalls, "HEALTH_S", 0.3)
    monkeypatch.setattr(apicalls, "TIMEOUT_S", 0.3)
    caplog.set_level("INFO")
    pieces = Anew(ENDLESS[name]) if name in ENDLESS else STRANGERS[name]
    with answering(pieces) as (port, received):
        config = write_config(tmp_path, api={"token": "${API_TOKEN}", "port": port})
        start = time.monotonic()
        fullprocess.call_running_api(config, print)
        assert time.monotonic() - start < 3
        assert f"answers at http://127.0.0.1:{port}; nothing was asked of it" in caplog.text
        with pytest.raises(AttritionError, match="answers at"):
            apicalls.call_api(config)
    assert received
    assert TOKEN.encode() not in b"".join(received)
    assert not config.api_returns.exists()


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (STRANGERS["another project"], "another project answers at http"),
        (STRANGERS["HTML"], "another program (HTML, status 200) answers at http"),
        (STRANGERS["server error"], "another program (JSON, status 500) answers at http"),
        (STRANGERS["nothing at all"], "another program (no answer to /health) answers at http"),
    ],
)
def test_whoever_answers_is_named(tmp_path, pieces, name):
    with answering(pieces) as (port, _):
        answerer = identify(write_config(tmp_path), f"http://127.0.0.1:{port}")
    assert not answerer.is_ours
    assert answerer.sentence.startswith(name)


def test_an_app_of_the_version_before_is_named_as_such(tmp_path):
    old = json.dumps({"status": "ok", "release": None, "warnings": []}).encode()
    with answering(answer(body=old)) as (port, _):
        answerer = identify(write_config(tmp_path), f"http://127.0.0.1:{port}")
    assert not answerer.is_ours
    assert "an app of an earlier version (restart it)" in answerer.sentence


def test_our_app_that_stops_answering_ends_the_calls_in_time(tmp_path):
    config = write_config(tmp_path)
    ours = health(project=config.project)[0]
    calls = iter([[ours], [ours]])
    with answering(Anew(lambda: next(calls, itertools.repeat(b"")))) as (port, _):
        url = f"http://127.0.0.1:{port}"
        assert identify(config, url).is_ours
        start = time.monotonic()
        answers = apicalls.call_api(config, url, seconds=0.5)
        assert time.monotonic() - start < 5
    assert answers.failed


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://127.0.0.1:x", "h:1", "http://[::1"])
def test_what_is_no_address_is_nobody(tmp_path, url):
    assert identify(write_config(tmp_path), url) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_address_is_that_of_the_config(tmp_path, host, url):
    config = replace(write_config(tmp_path), api=Api(host=host))
    assert default_url(config) == url
