"""A real server process: raw bytes, silent connections, killed workers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from attrition import config_file
from attrition.web import server
from attrition.web.middleware import HEADERS, MAX_BODY_BYTES
from tests.apps import one
from tests.conftest import ROOT, served


@pytest.fixture(scope="module")
def port(finished_folder, tmp_path_factory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    with served(config_file.load(folder / "config.json"), "--workers", "1") as (number, _):
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
    ("double slash", get("//health"), {404}),
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
    assert not re.search(rb"Traceback|site-packages|gunicorn/|/tmp|Werkzeug|SELECT|<html", answer)
    if status_of(answer) >= 400:
        assert_refused(answer, status_of(answer))
    assert status_of(send(port, get("/health"))) == 200


# An app without a model, in a process with short limits.
SMALL = """
import os, socket, sys, time
from attrition.web import server
from attrition.web.middleware import HEADERS, MAX_BODY_BYTES

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    if path == "/slot":
        path = os.environ["ATTRITION_WORKER_SLOT"] + os.environ["PROMETHEUS_MULTIPROC_DIR"] + " "
        path += str(os.getpid())
    if path == "/slow":
        time.sleep(1)
    answer = b"x" * 20_000_000 if path == "/large" else path.encode() + b" %d" % len(body)
    if path == "/broken":
        raise ValueError("broken")
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]

server.REQUEST_S, server.SILENCE_S, server.SEND_BYTES = 2, 1, 20_000_000
server.SEND_S = int(sys.argv[2])
server.CONNECTIONS, server.BUFFERED_BYTES = 100, 30_000_000
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
server.serve(lambda: app, listener, workers=int(sys.argv[1]))
"""


@contextmanager
def small_server(workers: int = 1, send_s: int = 1) -> Iterator[tuple[int, subprocess.Popen]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL, str(workers), str(send_s)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr


@pytest.fixture(scope="module")
def small() -> Iterator[int]:
    with small_server() as (number, _):
        yield number


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    with suppress(OSError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def assert_refused(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == status, answer[:300]
    assert set(json.loads(body)) == {"error", "code"}
    lines = head.decode().split("\r\n")
    for name, value in HEADERS.items():
        assert f"{name}: {value}" in lines
    assert "Content-Security-Policy: default-src 'none'" in lines
    assert "Content-Type: application/json" in lines


HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


def test_slow_and_silent_senders_delay_no_request_and_are_ended(small):
    starts = (HEAD[:20], HEAD, HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"))
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(small))) for _ in range(30)]
        silent = [stack.enter_context(closing(connect(small))) for _ in range(30)]
        for place, connection in enumerate(slow):
            connection.sendall(starts[place % len(starts)])
        for _ in range(6):
            time.sleep(0.3)
            for connection in slow:
                connection.sendall(b"1")
            assert status_of(send(small, get("/a"), timeout_s=10)) == 200
        for connection in slow:
            assert_refused(read_all(connection), 408)
        assert {read_all(connection) for connection in silent} == {b""}


def test_slow_readers_delay_no_request(small):
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(small))) for _ in range(16)]
        for connection in slow:
            connection.sendall(get("/large"))
        for _ in range(3):
            time.sleep(0.3)
            assert status_of(send(small, get("/a"), timeout_s=10)) == 200
        with closing(connect(small)) as quick:
            quick.sendall(get("/a"))
            assert read_all(quick).endswith(b"/a 0")
        time.sleep(2)
        assert max(len(read_all(connection)) for connection in slow) < 20_000_000


def test_large_answer_arrives_whole():
    with small_server(send_s=600) as (small, _):  # in two seconds, a busy reader may not read it
        answer = send(small, get("/large"))
    assert len(answer.partition(b"\r\n\r\n")[2]) == 20_000_000


def test_clients_that_do_not_close_delay_no_request(small):
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(closing(connect(small)))
            connection.sendall(get("/a"))
        assert status_of(send(small, get("/b"), timeout_s=10)) == 200


def test_more_connections_than_the_limit_are_served(small):
    with ExitStack() as stack:
        for _ in range(150):
            connection = stack.enter_context(closing(connect(small)))
            connection.sendall(HEAD[:20])
        assert status_of(send(small, get("/a"), timeout_s=10)) == 200


def test_pipelined_requests_are_answered_in_order(small):
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    second = (
        b"\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: trailer\r\n\r\n"
    )
    bodies = re.findall(rb"\r\n\r\n(/\d \d)", send(small, first + second + get("/3")))
    assert bodies == [b"/1 3", b"/2 6", b"/3 0"]


def test_connection_carries_several_requests(small):
    with closing(connect(small)) as connection:
        for place in range(5):
            for byte in b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % place:
                connection.sendall(bytes([byte]))
            assert connection.recv(65536).endswith(b"/%d 0" % place)


def test_client_that_expects_continue_gets_it_once(small):
    with closing(connect(small)) as connection:
        connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"a" * 100)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"/echo 100")


REFUSED = [
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("bare line feeds", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("no version", b"GET /\r\n\r\n", 400),
    ("bad header name", get("/a", "X y: 1"), 400),
    ("two lengths", post(b"", "Content-Length: 1", "Content-Length: 2"), 400),
    (
        "length and chunks",
        post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        400,
    ),
    ("other coding", post(b"", "Transfer-Encoding: br"), 501),
    ("other expectation", get("/a", "Expect: tea"), 417),
    ("endless address", b"GET /" + b"a" * 70_000, 414),
    ("long address", get("/" + "a" * 10_000), 414),
    ("endless headers", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
    ("long header", get("/a", "X: " + "a" * 10_000), 431),
    ("many headers", get("/a", *[f"X{place}: 1" for place in range(101)]), 431),
    ("exception", get("/broken"), 500),
]


@pytest.mark.parametrize(("data", "status"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_errors_of_the_server_are_json_with_the_headers(small, data, status):
    with closing(connect(small)) as connection:  # its end is not needed for an answer
        connection.sendall(data)
        assert_refused(read_all(connection), status)


def test_body_above_the_limit_is_not_collected(small):
    with closing(connect(small)) as connection:
        connection.sendall(HEAD.replace(b"100", b"99999999"))
        assert status_of(connection.recv(65536)) in {200, 400}


def test_stopped_server_finishes_its_requests():
    with small_server() as (port, process), closing(connect(port)) as connection:
        connection.sendall(get("/slow"))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        assert read_all(connection).endswith(b"/slow 0")


@pytest.mark.parametrize(
    "data",
    [
        get("/a"),
        HEAD + b"b" * 100,
        HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: Chunked")
        + b"a\r\n0123456789\r\n1;x\r\n\r\r\n0\r\nX: 1\r\n\r\n",
    ],
)
def test_end_of_a_request_does_not_depend_on_how_it_arrives(data):
    for size in (1, 2, 3, 7):
        incoming = server.Incoming()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert not any(incoming.add(piece) for piece in pieces[:-1])
        assert incoming.add(pieces[-1])
        assert incoming.is_whole


def test_chunks_above_the_limit_are_not_collected():
    incoming = server.Incoming()
    incoming.add(HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"))
    count = 0
    while not incoming.add(b"10000\r\n" + b"a" * 65_536 + b"\r\n"):
        count += 1
    assert MAX_BODY_BYTES // 65_536 - 1 <= count <= MAX_BODY_BYTES // 65_536
    assert not incoming.is_whole


def test_chunk_extensions_above_the_limit_are_not_collected():
    incoming = server.Incoming()
    incoming.add(HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"))
    while not incoming.add(b"1;" + b"a" * 8_000 + b"\r\nx\r\n"):
        assert len(incoming.data) < 3 * MAX_BODY_BYTES
    assert not incoming.is_whole


@pytest.mark.parametrize(
    ("length", "is_ready"), [(b"0" * 25 + b"100", False), (b"1" + b"0" * 18, True)]
)
def test_long_content_length_is_read_as_the_parser_reads_it(length, is_ready):
    incoming = server.Incoming()
    assert incoming.add(HEAD.replace(b"100", length)) == is_ready
    assert not incoming.is_whole


def read_slots(port: int, count: int) -> dict[str, int]:
    """Ask until `count` workers have answered; return their pids by slot and folder."""
    pids: dict[str, int] = {}
    until = time.monotonic() + 20
    while len(pids) < count and time.monotonic() < until:
        with suppress(OSError):
            slot, pid, _ = send(port, get("/slot")).rpartition(b"\r\n")[2].decode().split()
            pids[slot] = int(pid)
    return pids


def test_successor_of_a_dead_worker_has_its_slot_and_the_folder_goes_at_the_end():
    with small_server(workers=2) as (port, _):
        before = read_slots(port, 2)
        assert {slot[0] for slot in before} == {"0", "1"}
        (folder,) = {Path(slot[1:]) for slot in before}
        assert folder.is_dir()
        os.kill(before[f"1{folder}"], signal.SIGKILL)
        time.sleep(0.5)
        after = read_slots(port, 2)
        assert set(after) == set(before)
        assert after[f"0{folder}"] == before[f"0{folder}"]
        assert after[f"1{folder}"] != before[f"1{folder}"]
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.slow
def test_killed_worker_is_replaced(project):
    with served(project, "--workers", "1") as (port, pid):
        assert status_of(send(port, get("/health"))) == 200
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert status_of(send(port, get("/health"))) == 200
