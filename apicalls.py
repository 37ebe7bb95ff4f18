"""Call every endpoint of a running app and write the responses to a file; nothing is stored in the app.

Reads:  the API over HTTP; the names of the files in testdata/
Writes: reports/apireturns.txt
Run:    python apicalls.py [--config PATH] [--url URL] [--token-variable NAME]

The token is read from the environment variable ATTRITION_TOKEN, or else from the one that api.token in
config.json names. It is sent only to an app of this project. To call the app of another project, for
example on another machine, name the variable with a token for it: --token-variable NAME.

If a connection is refused or the app asks to wait, the call is repeated, at most twice. A call that the
role of the token does not allow (403) is listed as not allowed; it does not count as a failure.

Exit code: 0 no call failed; 1 a call failed, or nothing answers; 2 invalid option, config or variable
"""

import csv
import io
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from attrition.config import Config
from attrition.errors import AttritionError, ConfigError
from attrition.operations import cli
from attrition.operations.caller import (
    OTHER_PROJECT,
    Answer,
    Answerer,
    BrokenOff,
    NoAnswer,
    NoConnection,
    default_url,
    identify,
    is_refused,
    send,
)
from attrition.storage import files
from attrition.web import auth

TIMEOUT_S, HEALTH_S, ALL_S = 10.0, 2.0, 120.0
DEFAULT_VARIABLE = "ATTRITION_TOKEN"
TRIES, PAUSE_S = 3, 0.5
# A limit of requests is over within a minute; what is not ready may stay so.
LONGEST_WAIT_S = {429: 60, 503: 5}
WIDTH = 100
MAX_ITEMS, ITEMS_SHOWN = 5, 3
MAX_LINES, LINES_SHOWN = 200, 20
REASONS = 3
CLIENTS_ASKED = 2
VIEWS = ("list", "moved", "resting", "neglected", "overridden")
PAGES = ("/", "/list", "/effect", "/model", "/data", "/system", "/docs")


class NoToken(AttritionError):
    """The app wants a token, and there is none."""


@dataclass(frozen=True)
class Call:
    """One request and its response: `answer` as readable text, `value` parsed from JSON."""

    method: str
    path: str
    status: int | None
    elapsed_ms: float
    answer: str
    value: Any = None
    size: int = 0
    tries: int = 1
    lines: int = 0

    @property
    def is_good(self) -> bool:
        return self.status == 200

    @property
    def is_denied(self) -> bool:
        return self.status == 403

    def line(self) -> str:
        """Describe the call in one line."""
        request = f"{self.method:4} {self.path}"
        tries = f"  (try {self.tries})" if self.tries > 1 else ""
        return f"{self.status or '---'} {self.elapsed_ms:6.0f} ms  {request}  {self.short}{tries}"

    def entry(self) -> str:
        """Describe the call for the file: request, status, time, size and answer."""
        head = f"{self.method} {self.path}\n{self.status or 'no answer'}, {self.elapsed_ms:,.0f} ms"
        return f"{head}, {self.size:,} bytes\n{self.answer}\n"

    @property
    def short(self) -> str:
        """Summarise the response, or its error, in a few words."""
        if self.is_denied:
            return "not allowed for this token"
        if isinstance(self.value, dict):
            if not self.is_good:
                return str(self.value.get("error", "an error without a message"))
            return textwrap.shorten("{" + ", ".join(self.value) + "}", WIDTH, placeholder=" ...}")
        lines = self.answer.splitlines()
        return f"{self.lines or len(lines):,} lines" if len(lines) > 1 else self.answer


@dataclass(frozen=True)
class ApiCalls:
    """The calls of all endpoints."""

    url: str
    seal: str
    calls: tuple[Call, ...]
    up_to_date: bool = False

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if not (call.is_good or call.is_denied)]

    def summary(self) -> str:
        calls = f"{len(self.calls)} calls of {self.url}"
        denied = sum(call.is_denied for call in self.calls)
        more = f"; {denied} not allowed for this token" if denied else ""
        if not self.failed:
            succeeded = len(self.calls) - denied if denied else "all"
            return f"{calls}: {succeeded} succeeded{more}"
        failed = "; ".join(f"{call.method} {call.path}: {call.short}" for call in self.failed)
        return f"{calls}: {len(self.failed)} failed: {failed}{more}"


# ---- answers for people


def readable(value: Any, indent: str = "") -> str:
    """Format JSON for people: if a value fits on one line, it stays on one line.

    A long list is cut, with the number of items that are left out.

    >>> print(readable({"count": 2, "names": ["a", "b"]}))
    {"count": 2, "names": ["a", "b"]}
    >>> print(readable([1, 2, 3, 4, 5, 6]))
    [1, 2, 3, "... 3 more"]
    """
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        value = [*value[:ITEMS_SHOWN], f"... {len(value) - ITEMS_SHOWN:,} more"]
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{_plain(key)}: {readable(value[key], inner)}" for key in sorted(value)]
    elif isinstance(value, list):
        parts = [readable(item, inner) for item in value]
    else:
        return _plain(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    line = f"{opening}{', '.join(parts)}{closing}"
    if len(indent) + len(line) <= WIDTH and "\n" not in line:
        return line
    body = f",\n{inner}".join(parts)
    return f"{opening}\n{inner}{body}\n{indent}{closing}"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def shorten(text: str, most: int, shown: int) -> str:
    """Cut a text of more than `most` lines to the first ones, and state how many are left out.

    >>> shorten("a,b,c,d".replace(",", chr(10)), 3, 1).splitlines()
    ['a', '... 3 more lines']
    """
    lines = text.splitlines()
    if len(lines) <= most:
        return text.rstrip("\n")
    return "\n".join([*lines[:shown], f"... {len(lines) - shown:,} more lines"])


def _shown(response: Answer) -> tuple[str, Any]:
    """Return an answer as text, and parsed if it is JSON."""
    if response.kind == "application/json":
        value = response.value
        text = "not valid JSON" if value is None else readable(value)
        return shorten(text, MAX_LINES, MAX_LINES), value
    if response.kind in ("text/csv", "text/markdown", "text/plain"):
        return shorten(response.content.decode("utf-8", "replace"), LINES_SHOWN, LINES_SHOWN), None
    size = f"{response.kind}, {len(response.content):,} bytes"
    if title := re.search(rb"<title>([^<]*)</title>", response.content):
        return f"{size}: {' '.join(title[1].decode('utf-8', 'replace').split())}", None
    return f"{size}, sha256 {files.sha256_bytes(response.content)[:16]}", None


# ---- the calls


class Attempt(NamedTuple):
    """One try of a call, and after how many seconds another one may succeed; None if it cannot."""

    call: Call
    wait_s: float | None


class Caller:
    """A client of one app: all of its calls together take no longer than `seconds`.

    None of its requests stores anything, so each can be repeated.
    """

    def __init__(self, url: str, token: str | None, seconds: float) -> None:
        self.url, self.token, self.tries = url, token, TRIES
        self.until = time.monotonic() + seconds

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> Call:
        """Send one request, again if that may help; if there is no response, the status is None."""
        for i in range(1, TRIES + 1):
            call, wait_s = self._try_once(path, body, kind, i)
            if wait_s is None or i >= self.tries or time.monotonic() + wait_s > self.until:
                break
            time.sleep(wait_s)
        if call.status is None:
            self.tries = 1  # the app is gone: do not wait at each of the other endpoints
        return call

    def _try_once(self, path: str, body: bytes | None, kind: str, i: int) -> Attempt:
        method = "GET" if body is None else "POST"
        start = time.monotonic()
        seconds = min(TIMEOUT_S, self.until - start)
        try:
            answer = send(self.url, path, seconds=seconds, body=body, kind=kind, token=self.token)
        except NoAnswer as error:
            elapsed_ms = 1000 * (time.monotonic() - start)
            call = Call(method, path, None, elapsed_ms, str(error), tries=i)
            return Attempt(call, PAUSE_S if isinstance(error, NoConnection | BrokenOff) else None)
        elapsed_ms = 1000 * (time.monotonic() - start)
        text, value = _shown(answer)
        size, lines = len(answer.content), len(answer.content.splitlines())
        call = Call(method, path, answer.status, elapsed_ms, text, value, size, i, lines)
        wait_s = answer.retry_after_s
        may_help = wait_s is not None and wait_s <= LONGEST_WAIT_S.get(answer.status, -1)
        return Attempt(call, wait_s if may_help else None)


class Body(NamedTuple):
    """A request with a body."""

    path: str
    body: bytes
    kind: str = "application/json"


def predictions(records: list[dict[str, Any]], datafiles: list[str]) -> Iterator[Body]:
    """Yield the address and the body of each form of POST /prediction."""
    if records:
        yield Body("/prediction", as_json({"records": records}))
        columns = {name: [record[name] for record in records] for name in records[0]}
        yield Body(f"/prediction?reasons={REASONS}", as_json({"columns": columns}))
        yield Body("/prediction", as_csv(records), "text/csv")
    for name in datafiles:
        yield Body("/prediction", as_json({"datafile": name}))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def call_all(caller: Caller, datafiles: list[str]) -> Iterator[Call]:
    """Call every endpoint; later requests use the responses to earlier ones."""
    yield caller.ask("/metrics")
    yield caller.ask("/openapi.json")
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
        name = quote(row["client"], safe="")
        client = caller.ask(f"/clients/{name}")
        yield client
        yield caller.ask(f"/clients/{name}/entries")
        yield caller.ask(f"/client/{name}")
        records += [client.value["features"]] if client.is_good and client.value["features"] else []
    for request in predictions(records, datafiles):
        yield caller.ask(*request)
    yield caller.ask("/experiment")
    yield caller.ask("/contactlist.csv")
    yield caller.ask("/report.pdf")
    yield caller.ask("/modelcard.md")
    unknown = caller.ask("/figures/-.png")
    for name in (unknown.value or {}).get("figures", []):
        yield caller.ask(f"/figures/{name}.png")
    yield caller.ask("/list.csv?view=list")
    yield caller.ask("/list.xlsx?view=list")
    for path in PAGES:
        yield caller.ask(path)


def find_app(config: Config, url: str | None = None) -> Answerer | None:
    """Return who answers at the URL, by default that of config.json; None if nobody does."""
    url = (url or default_url(config)).rstrip("/")
    return None if is_refused(url, HEALTH_S) else identify(config, url, HEALTH_S)


def read_token(config: Config, variable: str | None = None) -> str | None:
    """Return the token of an environment variable, or else the one that api.token names.

    Raises: ConfigError if a variable is named that is not set.
    """
    if token := os.environ.get(variable or DEFAULT_VARIABLE, "").strip():
        return token
    if variable:
        raise ConfigError(
            f"the environment variable {variable} is not set; --token-variable names it"
        )
    return auth.read_token(config)


def find_called(config: Config, url: str, variable: str | None) -> Answerer:
    """Return the app at a URL if it may get the token and the calls.

    Raises: AttritionError if the URL does not reach such an app.
    """
    # By hand there is time, and the app may be loading its model.
    app = identify(config, url, TIMEOUT_S)
    if app is None:
        raise AttritionError(f"{url}: nothing answers; start the app with python app.py")
    if app.is_ours or (app.name == OTHER_PROJECT and variable):
        return app
    advice = "set --url to the app of this project"
    if app.name == OTHER_PROJECT:
        advice += ", or --token-variable to the variable with a token for the other one"
    raise AttritionError(f"{app.sentence}; {advice}")


def call_api(
    config: Config, url: str | None = None, seconds: float = ALL_S, variable: str | None = None
) -> ApiCalls:
    """Call every endpoint and write the responses to apireturns.txt.

    variable: the environment variable with a token for that app, whichever project it belongs to

    Raises: AttritionError if the URL does not reach such an app; NoToken; ConfigError.
    """
    token = read_token(config, variable)
    url = (url or default_url(config)).rstrip("/")
    app = find_called(config, url, variable)
    caller = Caller(url, token, seconds)
    health, first = caller.ask("/health"), caller.ask("/ready")
    if first.status == 401:
        raise refusal(url, token, variable)
    folder = config.test_folder
    has_files = app.is_ours and folder.is_dir()
    names = sorted(path.name for path in folder.glob("*.csv")) if has_files else []
    calls = (health, first, *call_all(caller, names))
    called_at = files.utc_now()
    text = f"Answers of {caller.url}, {called_at}\n\n" + "\n".join(call.entry() for call in calls)
    files.write_bytes(config.api_returns, text.encode("utf-8", "backslashreplace"))
    return ApiCalls(caller.url, called_at, calls)


def refusal(url: str, token: str | None, variable: str | None) -> AttritionError:
    """Return the error for an app that does not accept the token, or the lack of one."""
    if token is None:
        return NoToken(
            f"{url}: expected a token; set the environment variable {variable or DEFAULT_VARIABLE} "
            "to one (python app.py --new-token NAME --role read creates it)"
        )
    return AttritionError(f"{url}: the token is not accepted; it is wrong, expired or revoked")


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--url", help="address of the app; default: from config.json")
    parser.add_argument(
        "--token-variable",
        metavar="NAME",
        help=f"environment variable with the token; default: {DEFAULT_VARIABLE}",
    )
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        answers = call_api(config, options.url, variable=options.token_variable)
        for call in answers.calls:
            print(call.line())
        print(answers.summary())
        return 1 if answers.failed else 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
