"""A real server process: raw bytes, silent connections, killed workers."""

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attrition import config as configuration
from attrition.errors import AttritionError
from attrition.web import server
from tests.apps import one
from tests.conftest import served


@pytest.fixture(scope="module")
def port(finished_folder, tmp_path_factory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    with served(configuration.load(folder / "config.json"), "--workers", "1") as (number, _):
        yield number


def send(port: int, data: bytes, *, timeout_s: float = 20) -> bytes:
    """Send bytes as they are and read until the server closes or says no more."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=timeout_s)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /prediction HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


BODY = one("12").encode()


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


NO_HOST = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"


TWO_HOSTS = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"


RAW = [
    ("good", post(BODY, f"Content-Length: {len(BODY)}"), {200}),
    ("chunked", post(CHUNKED, "Transfer-Encoding: chunked"), {200}),
    (
        "chunked 2 MB",
        post(b"200000\r\n" + b" " * (2 << 20), "Transfer-Encoding: chunked"),
        {0, 413},
    ),
    ("TRACE", b"TRACE /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {405}),
    ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405, 501}),
    ("made up method", b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {405}),
    ("dot dot", get("/../../etc/passwd"), {400, 404}),
    ("encoded dots", get("/%2e%2e/%2e%2e/etc/passwd"), {400, 404}),
    ("double encoded", get("/%252e%252e/etc/passwd"), {400, 404}),
    ("backslash", get("/..\\..\\etc"), {400, 404}),
    ("semicolon params", get("/scoring;x=../y"), {400, 404}),
    ("fragment in path", get("/scoring#a"), {200, 400, 404}),
    ("double slash", get("//health"), {200, 301, 308, 400, 404}),
    ("absolute uri", get("http://localhost/health"), {200, 400, 404}),
    ("NUL in path", get("/scoring%00.png"), {400, 404}),
    ("bad percent", get("/%zz"), {400, 404}),
    ("bad utf8 path", get("/%ff%fe"), {400, 404}),
    ("long path", get("/" + "a" * 100_000), {400, 404, 414}),
    ("long query", get("/health?" + "a" * 100_000), {200, 400, 414}),
    ("no host", NO_HOST, {200, 400}),
    ("evil host", get("/scoring").replace(b"localhost", b"evil.example"), {400, 421}),
    ("two hosts", TWO_HOSTS, {200, 400}),
    ("header 1MB", get("/health", "X: " + "a" * (1 << 20)), {0, 400, 431}),
    ("2000 headers", get("/health", *[f"X{i}: 1" for i in range(2000)]), {0, 400, 431}),
    ("auth 60kB", get("/scoring", "Authorization: Bearer " + "a" * 60_000), {400, 401, 431}),
    ("header CRLF", get("/health", "X: a\r\n b"), {200, 400}),
    ("space before colon", get("/health", "X : a"), {0, 400}),
    ("range bomb", get("/report.pdf", "Range: bytes=" + "0-," * 500 + "0-"), {200, 206, 400, 416}),
    ("XFF spoof", get("/health", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil"), {200, 400}),
    (
        "CL+TE smuggle",
        post(CHUNKED, "Content-Length: 4", "Transfer-Encoding: chunked"),
        {0, 400, 401, 411, 415},
    ),
    ("two CL", post(BODY, f"Content-Length: {len(BODY)}", "Content-Length: 1"), {0, 400}),
    ("CL negative", post(BODY, "Content-Length: -1"), {0, 400, 411}),
    ("CL text", post(BODY, "Content-Length: ten"), {0, 400, 411}),
    ("CL huge", post(BODY, "Content-Length: 99999999999999"), {0, 400, 413}),
    ("CL too long", post(BODY, f"Content-Length: {len(BODY) + 100}"), {0, 400, 408}),
    ("TE xchunked", post(CHUNKED, "Transfer-Encoding: xchunked"), {0, 400, 501}),
    ("bad chunk", post(b"zz\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), {0, 400, 401, 415}),
    ("HTTP/0.9", b"GET /health\r\n", {0, 400, 505}),
    ("HTTP/9.9", b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", {0, 400, 505}),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, {0, 400}),
    ("garbage", bytes(range(256)) * 4, {0, 400}),
    ("empty line only", b"\r\n", {0, 400}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "allowed"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
def test_raw_bytes(port, data, allowed):
    answer = send(port, data)
    assert status_of(answer) in allowed, answer[:300]
    assert not re.search(rb"Traceback|site-packages|gunicorn/|/tmp|Werkzeug", answer)
    assert status_of(send(port, get("/health"))) == 200


WAIT_CHANGED = (
    "gunicorn no longer asks gunicorn.workers.gthread.TConn.wait_for_data before a thread reads a new "
    "connection: see what ThreadWorker.handle does instead, and adapt attrition.web.server.Worker"
)


@pytest.mark.slow
def test_silent_connections_delay_no_request(port):
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for _ in range(20):
            assert status_of(send(port, get("/health"), timeout_s=3)) == 200, WAIT_CHANGED
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_request_that_stalls_is_ended(port):
    head = post(b"", "Content-Length: 100")
    with closing(socket.create_connection(("127.0.0.1", port), timeout=25)) as connection:
        connection.sendall(head + b"{")
        assert status_of(connection.recv(65536)) in {0, 400, 408}


@pytest.mark.slow
def test_killed_worker_is_replaced(project):
    with served(project, "--workers", "1") as (port, pid):
        assert status_of(send(port, get("/health"))) == 200
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert status_of(send(port, get("/health"))) == 200


def test_host_that_is_not_ours_is_a_clear_error():
    with pytest.raises(AttritionError, match="cannot listen"):
        server.bind("192.0.2.1", 0)
