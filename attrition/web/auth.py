"""Identify the caller of a request, and check that an API without access control is not exposed.

The API is open, with every role for everybody, only on loopback and only until the first token or user
exists. There the Host header is checked, so that a web page in a browser on the same machine cannot
reach the API under a domain of its own (DNS rebinding).
"""

import ipaddress
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from attrition import environment, wording
from attrition.access import credentials, limits, proxies, roles, sessions
from attrition.access.audit import AuditLog
from attrition.access.credentials import ANYBODY, Caller, Credential, Credentials
from attrition.access.sessions import Session
from attrition.config import Config
from attrition.errors import ApiError, AttritionError, ConfigError
from attrition.storage import files

logger = logging.getLogger(__name__)

COOKIE = "__Host-attrition"
# One password is being checked, another one waits; the other threads stay free for requests.
WAITING_SIGN_INS = 2
MAKE_ONE = "python app.py --new-token NAME --role read, or --new-user NAME --role read"


class Access:
    """Who may use one app: credentials, sessions, limits and the audit log of a worker.

    is_closed: there was a token or a user when the app started, so that a worker that starts later stays
    closed even if their files are gone
    """

    def __init__(self, config: Config, *, is_closed: bool = False) -> None:
        self.config = config
        self.credentials = Credentials(config.tokens, config.users, read_token(config))
        self.proxies = proxies.read_proxies(config.api.proxies)
        self.limit = limits.RequestLimit(config.api.requests_per_minute)
        self.delay = limits.FailureDelay()
        self.audit = AuditLog(config.audit_log)
        self._is_closed = is_closed or not is_private(config)
        self._checking, self._waiting = threading.Lock(), threading.Semaphore(WAITING_SIGN_INS)

    def is_open(self) -> bool:
        """Return whether everybody has every role; once it was closed, the app stays closed.

        Raises: Damaged.
        """
        self._is_closed = self._is_closed or not self.credentials.is_empty()
        return not self._is_closed

    def identify(self, request: Any) -> Caller:
        """Return who sends a request.

        Raises: ApiError 401, 403, 503.
        """
        with readable():
            return self._identify(request)

    def _identify(self, request: Any) -> Caller:
        if self.is_open():
            return ANYBODY
        at, header = files.utc_now(), self.config.api.user_header
        if "Authorization" in request.headers:
            sent = request.authorization
            token = (sent.token or "") if sent is not None and sent.type == "bearer" else ""
            return _caller(self.credentials.find_token(token, at), credentials.TOKEN)
        if header and request.environ[proxies.IS_PROXY] and header in request.headers:
            user = self.credentials.find_user(_as_utf8(request.headers[header]), at)
            if user is None:
                raise ApiError(
                    403, "unknown_user", "the proxy names somebody who is not a user here"
                )
            return _caller(user, credentials.PROXY)
        if cookie := request.cookies.get(COOKIE):
            return self._find_session(cookie, at)
        raise unidentified()

    def _find_session(self, cookie: str, at: str) -> Caller:
        session = sessions.find(self.config.sessions, cookie, at)
        if session is None:
            raise unidentified()
        credential = self.credentials.find(session.kind, session.name, at)
        is_same = credential is not None and credential.stamp == session.stamp
        return _caller(credential if is_same else None, session.kind)

    def sign_in(self, name: str, password: str, address: str) -> tuple[Caller, str]:
        """Begin a session with a password, or with a token in its place; return the cookie too.

        Raises: ApiError 401, 429, 503.
        """
        with readable():
            return self._sign_in(name, password, address)

    def _sign_in(self, name: str, password: str, address: str) -> tuple[Caller, str]:
        at, name = files.utc_now(), name.strip()[: credentials.MAX_NAME]
        if wait_s := self.delay.wait(name.casefold(), address, time.monotonic()):
            raise too_many("tries", wait_s)
        kind, credential = credentials.TOKEN, self.credentials.find_token(password, at)
        if credential is None:
            kind, credential = credentials.USER, self._check_password(name, password, at)
        if credential is None:
            self.delay.fail(name.casefold(), address, time.monotonic())
            raise unidentified()
        self.delay.succeed(credential.name.casefold(), address)
        session = Session(kind, credential.name, credential.stamp)
        return _caller(credential, kind), sessions.begin(self.config.sessions, session, at)

    def _check_password(self, name: str, password: str, at: str) -> Credential | None:
        """Check one password at a time: it takes 32 MB and a tenth of a second."""
        if not self._waiting.acquire(blocking=False):
            raise too_many("tries", 1)
        try:
            with self._checking:
                given = password[: credentials.MAX_PASSWORD + 1]
                return self.credentials.check_password(name, given, at)
        finally:
            self._waiting.release()

    def sign_out(self, cookie: str) -> None:
        """Raises: ApiError 503."""
        with readable():
            sessions.end(self.config.sessions, cookie)

    def check_limit(self, caller: Caller) -> None:
        """Count a request of a token or a user.

        Raises: ApiError 429.
        """
        is_counted = caller.kind in (credentials.TOKEN, credentials.USER, credentials.PROXY)
        key = f"{caller.kind == credentials.TOKEN} {caller.name}"
        if is_counted and (wait_s := self.limit.take(key, time.time())):
            raise too_many("requests", wait_s)


def unidentified() -> ApiError:
    """Return the one error for a missing, wrong, expired or revoked token, session or password."""
    sentence = (
        "expected a valid token in the header Authorization: Bearer, or a session from /sign-in"
    )
    return ApiError(401, "no_token", sentence, {"WWW-Authenticate": "Bearer"})


def too_many(what: str, wait_s: int) -> ApiError:
    sentence = f"too many {what}; try again in {wait_s} s"
    return ApiError(429, f"too_many_{what}", sentence, {"Retry-After": str(wait_s)})


@contextmanager
def readable() -> Iterator[None]:
    """Raise ApiError 503 if the files in access/ cannot be read or written, so nobody gets in."""
    try:
        yield
    except ApiError:
        raise
    except (AttritionError, OSError) as error:
        logger.error("%s", error)
        sentence = "tokens, users or sessions cannot be read now; the log has the details"
        raise ApiError(503, "access_unavailable", sentence, {"Retry-After": "60"}) from error


def check_role(caller: Caller, view: str) -> None:
    """Refuse a view that no role of the caller may use.

    Raises: ApiError 403.
    """
    if roles.may_use(caller.roles, view):
        return
    needed = [role for role in roles.ROLES if view in roles.VIEWS[role]]
    own = roles.describe([role for role in roles.ROLES if role in caller.roles])
    sentence = f"this needs the role {wording.listing(needed, 'or')}; {caller.name} has {own}"
    raise ApiError(403, "forbidden", sentence, roles=needed)


def _caller(credential: Credential | None, kind: str) -> Caller:
    if credential is None:
        raise unidentified()
    return Caller(credential.name, frozenset(credential.roles), kind)


def _as_utf8(header: str) -> str:
    """Decode a header, which WSGI passes as Latin-1."""
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


def is_own_path(text: str) -> bool:
    """Return whether an address is a path of this API, so that a sign-in leads nowhere else.

    >>> [is_own_path(text) for text in ("/list?q=a", "//evil.example", "/%sevil" % chr(92), "http:x")]
    [True, False, False, False]
    """
    is_plain = text.startswith("/") and text.isascii() and text.isprintable() and "\\" not in text
    return is_plain and not text.startswith("//") and not any(urlsplit(text)[:2])


def origin(channel: str, request: Any, caller: Caller) -> str:
    """Return the origin of an entry: "page" or "api", the caller's name if known, the address."""
    return " ".join(filter(None, (channel, caller.name, request.remote_addr)))


# ---- the address


def read_token(config: Config) -> str | None:
    """Return the token that the environment names, or None if the config names none.

    Raises: ConfigError if api.token does not name an environment variable or if it is not set.
    """
    if config.api.token is None:
        return None
    setting = config.api.token.strip()
    if not environment.NAME.fullmatch(setting):
        raise ConfigError(
            f"{config.file}: api.token is the secret itself, expected ${{NAME}} with the name "
            "of an environment variable"
        )
    try:
        return environment.resolve(setting).strip()
    except environment.NotSet as error:
        raise ConfigError(f"{error}; api.token names it") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")
    (True, True, True)
    >>> is_loopback("0.0.0.0"), is_loopback("::"), is_loopback("example.com")
    (False, False, False)
    """
    address = proxies.read_address(host)
    return host == "localhost" or (address != "" and ipaddress.ip_address(address).is_loopback)


def is_private(config: Config) -> bool:
    """Return whether only this machine can reach the API, directly or through a proxy."""
    return is_loopback(config.api.host) and not config.api.hosts and not config.api.proxies


def check_exposure(config: Config) -> bool:
    """Check that others can reach the API only with a token or a user, and cannot create either.

    Return whether callers need a token or a user.

    Raises: ConfigError, Damaged.
    """
    secret, api = read_token(config), config.api
    if secret is not None and len(secret) < credentials.MIN_SECRET:
        raise ConfigError(
            f"the secret of api.token has {len(secret)} characters, expected at least "
            f"{credentials.MIN_SECRET}: make one with openssl rand -hex 32, or use {MAKE_ONE}"
        )
    if api.user_header and not api.proxies:
        raise ConfigError(
            "api.user_header is set, but api.proxies is empty, so this header is ignored: name the "
            "address of the proxy in api.proxies"
        )
    proxies.read_proxies(api.proxies)
    access = Credentials(config.tokens, config.users, secret)
    credentials.check_folder(config.access_folder)
    if not access.has_valid(files.utc_now()) and not is_private(config):
        where = api.host if not is_loopback(api.host) else "with api.hosts or api.proxies, the API"
        raise ConfigError(
            f"{where} can be reached by others, and there is no valid token, user or api.token: run "
            f"{MAKE_ONE}; or listen on 127.0.0.1"
        )
    return not (is_private(config) and access.is_empty())


def is_own_name(host_header: str, host: str, hosts: tuple[str, ...]) -> bool:
    """Return whether a Host header names this API, with or without a port.

    host: the address that it listens on. If others can reach it, every name is accepted unless api.hosts
    names some, and every IP address is accepted: DNS rebinding needs a name.

    Flask's TRUSTED_HOSTS cannot do this: Werkzeug 3.1 cuts each trusted name at its first colon, so
    [::1] never matches, and it compares upper case with lower case.

    >>> is_own_name("localhost:8000", "127.0.0.1", ()), is_own_name("127.0.0.2", "127.0.0.2", ())
    (True, True)
    >>> is_own_name("127.0.0.1.evil.example", "127.0.0.1", ()), is_own_name("10.0.0.1", "::1", ())
    (False, False)
    """
    name = re.sub(r":[0-9]{1,5}$", "", host_header).lower()
    names = [re.sub(r":[0-9]{1,5}$", "", each).lower() for each in hosts]
    if name in names or is_loopback(name):
        return True
    return not is_loopback(host) and (not hosts or proxies.read_address(name) != "")
