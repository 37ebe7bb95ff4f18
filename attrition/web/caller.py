"""Call an app over HTTP, and find out who answers at an address before anything else is sent there.

A call has a deadline as a whole, not for each read, so that a program that sends a byte now and then
cannot delay a run. It follows no redirect and uses no proxy. Standard library only.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from attrition.config import Config
from attrition.errors import AttritionError

HEALTH_BYTES, ANSWER_BYTES = 1 << 20, 1 << 28
KINDS = {"text/html": "HTML", "application/json": "JSON"}


class NoAnswer(AttritionError):
    """There is no whole answer in time."""


class NoConnection(NoAnswer):
    """Nothing listens at the address."""


class Answer(NamedTuple):
    """The answer to one request; `value` is None if it is not JSON."""

    status: int
    kind: str
    content: bytes

    @property
    def value(self) -> Any:
        if self.kind != "application/json":
            return None
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


def default_url(config: Config) -> str:
    """Return the URL of the app for a client on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.api.host, config.api.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{config.api.port}"


def send(
    url: str,
    path: str,
    *,
    seconds: float,
    body: Any = None,
    token: str | None = None,
    max_bytes: int = ANSWER_BYTES,
) -> Answer:
    """Send one request and read its answer within `seconds`; a body is sent as JSON with POST.

    Raises: NoConnection; NoAnswer if there is no whole answer in time, or one of more bytes.
    """
    until = time.monotonic() + seconds
    try:
        address = urlsplit(url)
        kind = {"http": HTTPConnection, "https": HTTPSConnection}[address.scheme]
        connection = kind(address.hostname or "", address.port, timeout=max(0.01, seconds))
        connection.connect()
    except (OSError, ValueError, LookupError) as error:
        raise NoConnection(f"nothing answers ({type(error).__name__})") from error
    headers = {"Connection": "close"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {} if body is None else {"Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    try:
        with closing(connection), _ended(connection, until):
            connection.request(method, address.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            data = response.read(max_bytes + 1)
            if response.length or len(data) > max_bytes:
                raise ValueError("the answer is cut short, or too long")
    except (OSError, HTTPException, ValueError) as error:
        raise NoAnswer(f"no answer ({type(error).__name__})") from error
    mimetype = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    return Answer(response.status, mimetype, data)


@contextmanager
def _ended(connection: HTTPConnection, until: float) -> Iterator[None]:
    """End the block with an error at the deadline: a connection that is shut down sends no more.

    Raises: TimeoutError if the deadline has passed, also if the block has an answer.
    """
    timer = threading.Timer(max(0.0, until - time.monotonic()), _shut_down, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if time.monotonic() > until:
        raise TimeoutError("no whole answer in time")


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):  # the connection has ended already
        sock.shutdown(socket.SHUT_RDWR)


# ---- who answers


@dataclass(frozen=True)
class Answerer:
    """The program that answers at a URL; it is ours if it names this project in /health."""

    url: str
    is_ours: bool
    name: str

    @property
    def sentence(self) -> str:
        return f"{self.name} answers at {self.url}"


def identify(config: Config, url: str, seconds: float = 2.0) -> Answerer | None:
    """Ask /health, without the token, whose program answers at a URL; None if nothing answers.

    A program that accepts the connection and does not answer in time is another one.
    """
    try:
        answer = send(url, "/health", seconds=seconds, max_bytes=HEALTH_BYTES)
    except NoConnection:
        return None
    except NoAnswer:
        return Answerer(url, False, "another program (no answer to /health)")
    value = answer.value
    project = value.get("project") if isinstance(value, dict) else None
    if isinstance(project, str) and isinstance(value.get("warnings"), list):
        is_ours = project == config.project
        return Answerer(url, is_ours, "this project" if is_ours else "another project")
    if isinstance(value, dict) and {"status", "release", "warnings"} <= value.keys():
        return Answerer(url, False, "an app of an earlier version (restart it)")
    kind = KINDS.get(answer.kind, "neither HTML nor JSON")
    return Answerer(url, False, f"another program ({kind}, status {answer.status})")
