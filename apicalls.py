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

from attrition.config import Config
from attrition.errors import AttritionError
from attrition.operations import cli
from attrition.operations.caller import Answer, Answerer, NoAnswer, default_url, identify, send
from attrition.storage import files
from attrition.web import auth

TIMEOUT_S, HEALTH_S, ALL_S = 10.0, 2.0, 120.0
WIDTH = 100
CLIENTS_ASKED = 2
VIEWS = ("list", "moved", "resting", "neglected", "overridden")


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
    """A client of one app: all of its calls together take no longer than `seconds`."""

    def __init__(self, url: str, token: str | None, seconds: float) -> None:
        self.url, self.token = url, token
        self.until = time.monotonic() + seconds

    def ask(self, path: str, body: Any = None) -> Call:
        """Send one request; if there is no response, the status is None."""
        method = "GET" if body is None else "POST"
        start = time.monotonic()
        seconds = min(TIMEOUT_S, self.until - start)
        try:
            response = send(self.url, path, seconds=seconds, body=body, token=self.token)
        except NoAnswer as error:
            elapsed_ms = 1000 * (time.monotonic() - start)
            return Call(method, path, None, elapsed_ms, str(error))
        elapsed_ms = 1000 * (time.monotonic() - start)
        answer, value = _shown(response)
        return Call(method, path, response.status, elapsed_ms, answer, value)


def _shown(response: Answer) -> tuple[str, Any]:
    """Return an answer as text, and parsed if it is JSON."""
    if response.kind == "application/json":
        value = response.value
        return ("not valid JSON" if value is None else readable(value)), value
    if response.kind in ("text/csv", "text/markdown"):
        return response.content.decode("utf-8", "replace"), None
    digest = files.sha256_bytes(response.content)
    return f"{response.kind}, {len(response.content):,} bytes, sha256 {digest[:16]}", None


def call_all(caller: Caller, datafiles: list[str]) -> Iterator[Call]:
    """Call every endpoint; later requests use the responses to earlier ones."""
    yield caller.ask("/scoring")
    yield caller.ask("/summarystats")
    yield caller.ask("/diagnostics")
    ranked = caller.ask(f"/clients?limit={CLIENTS_ASKED}")
    yield ranked
    for view in VIEWS:
        yield caller.ask(f"/clients?view={view}&limit={CLIENTS_ASKED}")
    clients = ranked.value["clients"] if ranked.is_good else []
    records = []
    for row in clients:
        client = caller.ask("/clients/" + quote(row["client"], safe=""))
        yield client
        yield caller.ask("/clients/" + quote(row["client"], safe="") + "/entries")
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
    for path in ("/", "/model", "/data", "/system"):
        yield caller.ask(path)


def find_app(config: Config, url: str | None = None) -> Answerer | None:
    """Return who answers at the URL, by default that of config.json; None if nobody does."""
    return identify(config, (url or default_url(config)).rstrip("/"), HEALTH_S)


def call_api(config: Config, url: str | None = None, seconds: float = ALL_S) -> ApiCalls:
    """Call every endpoint and write the responses to apireturns.txt.

    Only an app of this project gets the token and the calls.

    Raises: AttritionError if the URL does not reach such an app.
    """
    url = (url or default_url(config)).rstrip("/")
    # By hand there is time, and the app may be loading its model.
    app = identify(config, url, TIMEOUT_S)
    if app is None:
        raise AttritionError(f"{url}: nothing answers; start the app with python app.py")
    if not app.is_ours:
        raise AttritionError(f"{app.sentence}; name the app of this project with --url")
    caller = Caller(url, auth.read_token(config), seconds)
    health = caller.ask("/health")
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
