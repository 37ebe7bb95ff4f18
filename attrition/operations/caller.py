"""Call an app over HTTP, and find out who answers at an address before anything else is sent there.

A call has a deadline as a whole, not for each read, so that a program that sends a byte now and then
cannot delay a run. It follows no redirect and uses no proxy. `requests` is imported when something
listens: it costs 45 ms of CPU, and most runs find no app.
"""

import json
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from attrition.config import Config
from attrition.errors import AttritionError

HEALTH_BYTES, ANSWER_BYTES = 1 << 20, 1 << 28
OTHER_PROJECT = "another project"
KINDS = {"text/html": "HTML", "application/json": "JSON"}


class NoAnswer(AttritionError):
    """There is no whole answer in time."""


class NoConnection(NoAnswer):
    """Nothing listens at the address."""


class BrokenOff(NoAnswer):
    """The connection ended before the whole answer."""


class Answer(NamedTuple):
    """The answer to one request; `value` is None if it is not JSON."""

    status: int
    kind: str
    content: bytes
    retry_after_s: int | None = None

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
    host = config.api.host.strip("[]")
    with suppress(ValueError):  # a name
        if (address := ip_address(host)).is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{config.api.port}"


def send(
    url: str,
    path: str,
    *,
    seconds: float,
    body: bytes | None = None,
    kind: str = "application/json",
    token: str | None = None,
    max_bytes: int = ANSWER_BYTES,
) -> Answer:
    """Send one request and read its answer within `seconds`; a body is sent with POST.

    requests has a limit for each read only, so a thread waits for the answer, and is left to its fate
    at the deadline.

    Raises: NoConnection; BrokenOff; NoAnswer if there is no whole answer in time, or one of more bytes.
    """
    answers: SimpleQueue[Answer | AttritionError] = SimpleQueue()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {} if body is None else {"Content-Type": kind}
    until = time.monotonic() + seconds

    def ask() -> None:
        try:
            answers.put(_exchange(url.rstrip("/") + path, body, headers, until, max_bytes))
        except AttritionError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, seconds))
    except Empty:
        raise NoAnswer("no answer in time") from None
    if isinstance(answer, AttritionError):
        raise answer
    return answer


def _exchange(
    url: str, body: bytes | None, headers: dict[str, str], until: float, max_bytes: int
) -> Answer:
    import requests
    from urllib3.exceptions import HTTPError

    method, content = "GET" if body is None else "POST", b""
    session = requests.Session()
    session.trust_env = False  # no proxy, no password of ~/.netrc
    ask = partial(session.request, method, url, data=body, headers=headers, stream=True)
    timeout = max(0.01, until - time.monotonic())
    try:
        with session, ask(timeout=timeout, allow_redirects=False) as response:
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > max_bytes or time.monotonic() > until:
                    raise NoAnswer("no answer (it is too long, or too slow)")
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _kind_of(error)(f"no answer ({type(error).__name__})") from error
    mimetype = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    wait = re.fullmatch(r"[0-9]{1,5}", response.headers.get("Retry-After", ""), re.ASCII)
    return Answer(response.status_code, mimetype, content, int(wait[0]) if wait else None)


def _kind_of(error: Exception) -> type[NoAnswer]:
    """Return NoConnection if there was no connection at all, or no valid address."""
    from requests import ConnectionError as BrokenConnection
    from requests import Timeout
    from requests.exceptions import ChunkedEncodingError, InvalidSchema, InvalidURL
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    cause = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(cause, NewConnectionError | ConnectTimeoutError) or isinstance(
        error, InvalidURL | InvalidSchema
    ):
        return NoConnection
    is_late = isinstance(error, Timeout)
    is_broken = isinstance(error, BrokenConnection | ChunkedEncodingError)
    return BrokenOff if is_broken and not is_late else NoAnswer


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


def is_refused(url: str, seconds: float) -> bool:
    """Return whether the machine that a URL names answers that nothing listens there."""
    try:
        place = urlsplit(url)
        address = place.hostname or "", place.port or 80
        socket.create_connection(address, timeout=seconds).close()
    except (OSError, ValueError) as error:  # ValueError: no such port
        return isinstance(error, ConnectionRefusedError)
    return False


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
        return Answerer(url, is_ours, "this project" if is_ours else OTHER_PROJECT)
    if isinstance(value, dict) and {"status", "release", "warnings"} <= value.keys():
        return Answerer(url, False, "an app of an earlier version (restart it)")
    kind = KINDS.get(answer.kind, "neither HTML nor JSON")
    return Answerer(url, False, f"another program ({kind}, status {answer.status})")
