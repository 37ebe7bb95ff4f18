"""Call every endpoint of a running app and write the responses to a file.

Reads:  the API over HTTP; the names of the files in testdata/
Writes: reports/apireturns.txt
Run:    python apicalls.py [--config PATH] [--url URL]
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from attrition.config import Config
from attrition.errors import AttritionError
from attrition.operations import cli
from attrition.storage import files
from attrition.web import auth

TIMEOUT_S = 10.0
WIDTH = 100
CLIENTS_ASKED = 2


@dataclass(frozen=True)
class Call:
    """One request and its response: `answer` as readable text, `value` parsed from JSON."""

    method: str
    path: str
    status: int | None
    elapsed_ms: float
    answer: str
    value: Any = None

    @property
    def is_good(self) -> bool:
        return self.status == 200

    def line(self) -> str:
        request = f"{self.method:4} {self.path}"
        return f"{self.status or '---'} {self.elapsed_ms:6.0f} ms  {request}  {self.short}"

    @property
    def short(self) -> str:
        """Summarise the response, or its error, in a few words."""
        if isinstance(self.value, dict):
            if not self.is_good:
                return str(self.value.get("error", "an error without a sentence"))
            return "{" + ", ".join(self.value) + "}"
        lines = self.answer.splitlines()
        return f"{len(lines)} lines" if len(lines) > 1 else self.answer


@dataclass(frozen=True)
class ApiCalls:
    """The calls of all endpoints."""

    url: str
    seal: str
    calls: tuple[Call, ...]
    up_to_date: bool = False

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if not call.is_good]

    def summary(self) -> str:
        calls = f"{len(self.calls)} calls of {self.url}"
        if not self.failed:
            return f"{calls}: all succeeded"
        failed = "; ".join(f"{call.method} {call.path}: {call.short}" for call in self.failed)
        return f"{calls}: {len(self.failed)} failed: {failed}"


def readable(value: Any, indent: str = "") -> str:
    """Format JSON for people: if a value fits on one line, it stays on one line.

    >>> print(readable({"count": 2, "names": ["a", "b"]}))
    {"count": 2, "names": ["a", "b"]}
    """
    line = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= WIDTH:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {readable(value[key], inner)}" for key in sorted(value)]
    else:
        parts = [readable(item, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    body = f",\n{inner}".join(parts)
    return f"{opening}\n{inner}{body}\n{indent}{closing}"


# ---- the calls


class Caller:
    """A client of one app: a timeout for each call, no proxy, no redirects."""

    def __init__(self, url: str, token: str | None, timeout_s: float) -> None:
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self.session = requests.Session()
        self.session.trust_env = False
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, path: str, body: Any = None) -> Call:
        """Send one request; if there is no response, the status is None."""
        method = "GET" if body is None else "POST"
        start = time.monotonic()
        try:
            response = self.session.request(
                method, self.url + path, json=body, timeout=self.timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            elapsed_ms = 1000 * (time.monotonic() - start)
            return Call(method, path, None, elapsed_ms, f"no answer ({type(error).__name__})")
        elapsed_ms = 1000 * (time.monotonic() - start)
        answer, value = _parse(response)
        return Call(method, path, response.status_code, elapsed_ms, answer, value)


def _parse(response: requests.Response) -> tuple[str, Any]:
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/json":
        try:
            value = response.json()
        except requests.JSONDecodeError:
            return "not valid JSON", None
        return readable(value), value
    if kind in ("text/csv", "text/markdown"):
        return response.content.decode("utf-8", "replace"), None
    digest = files.sha256_bytes(response.content)
    return f"{kind}, {len(response.content):,} bytes, sha256 {digest[:16]}", None


def call_all(caller: Caller, datafiles: list[str]) -> Iterator[Call]:
    """Call every endpoint; later requests use the responses to earlier ones."""
    yield caller.ask("/scoring")
    yield caller.ask("/summarystats")
    yield caller.ask("/diagnostics")
    ranked = caller.ask(f"/clients?limit={CLIENTS_ASKED}")
    yield ranked
    clients = ranked.value["clients"] if ranked.is_good else []
    records = []
    for row in clients:
        client = caller.ask("/clients/" + quote(row["client"], safe=""))
        yield client
        records += [client.value["features"]] if client.is_good and client.value["features"] else []
    if records:
        yield caller.ask("/prediction", {"records": records})
    for name in datafiles:
        yield caller.ask("/prediction", {"datafile": name})
    yield caller.ask("/contactlist.csv")
    yield caller.ask("/report.pdf")
    yield caller.ask("/modelcard.md")
    unknown = caller.ask("/figures/-.png")
    for name in (unknown.value or {}).get("figures", []):
        yield caller.ask(f"/figures/{name}.png")
    yield caller.ask("/")


def default_url(config: Config) -> str:
    """Return the URL of the app for a client on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.api.host, config.api.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{config.api.port}"


def is_running(config: Config, url: str | None = None, timeout_s: float = 2.0) -> bool:
    """Return whether this app is running at the URL."""
    return _is_this_app(Caller(url or default_url(config), None, timeout_s).ask("/health"))


def _is_this_app(health: Call) -> bool:
    return isinstance(health.value, dict) and "warnings" in health.value


def call_api(config: Config, url: str | None = None, timeout_s: float = TIMEOUT_S) -> ApiCalls:
    """Call every endpoint and write the responses to apireturns.txt.

    Raises: AttritionError if the URL does not reach this app.
    """
    caller = Caller(url or default_url(config), auth.read_token(config), timeout_s)
    health = caller.ask("/health")
    if health.status is None:
        raise AttritionError(f"{caller.url}: {health.answer}; start the app with python app.py")
    if not _is_this_app(health):
        raise AttritionError(f"{caller.url}: another server answers there; name the app with --url")
    folder = config.test_folder
    names = sorted(path.name for path in folder.glob("*.csv")) if folder.is_dir() else []
    calls = (health, *call_all(caller, names))
    called_at = files.utc_now()
    parts = [f"{call.method} {call.path}\n{call.status}\n{call.answer}\n" for call in calls]
    text = f"Answers of {caller.url}, {called_at}\n\n" + "\n".join(parts)
    files.write_bytes(config.api_returns, text.encode("utf-8", "backslashreplace"))
    return ApiCalls(caller.url, called_at, calls)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--url", help="address of the app; default: from config.json")
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        answers = call_api(config, options.url)
        for call in answers.calls:
            print(call.line())
        print(answers.summary())
        return 1 if answers.failed else 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
