"""Who may call the API: where it listens, the token callers show, the hosts it answers to.

Without a token the API listens on the loopback interface only. There, the name in the Host header
is checked, so that a web page open in a browser on the same machine cannot reach it under a name of
its own (DNS rebinding). Standard library only.
"""

import hmac
import ipaddress
import os
import re

from attrition.config import Config
from attrition.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def read_token(config: Config) -> str | None:
    """Return the token that callers have to show, or None where none is asked for.

    Raises: ConfigError when config.json does not name an environment variable, or it is empty.
    """
    if config.api.token is None:
        return None
    named = re.fullmatch(r"\$\{(\w+)\}", config.api.token.strip())
    if named is None:
        raise ConfigError(
            f"{config.file}: api.token holds the secret itself, expected ${{NAME}} with the name "
            "of an environment variable"
        )
    token = os.environ.get(named[1], "").strip()
    if not token:
        raise ConfigError(f"the environment variable {named[1]} is not set; api.token names it")
    return token


def is_loopback(host: str) -> bool:
    """Can only this machine reach the host?

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")
    (True, True, True)
    >>> is_loopback("0.0.0.0"), is_loopback("::"), is_loopback("example.com")
    (False, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to show clients to a network that has to show nothing in return.

    Raises: ConfigError.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached by others, and api.token is not set: name a secret in "
            'config.json ("api": {"token": "${ATTRITION_TOKEN}"}) or listen on 127.0.0.1'
        )


def is_own_name(host_header: str) -> bool:
    """Does a Host header name the loopback interface, with or without a port?

    >>> is_own_name("localhost:8000"), is_own_name("[::1]"), is_own_name("127.0.0.1.evil.example")
    (True, True, False)
    """
    return re.sub(r":[0-9]{1,5}$", "", host_header).lower() in LOOPBACK_NAMES


def is_same(shown: str | None, token: str) -> bool:
    """Compare in a time that says nothing of how much was right."""
    given = (shown or "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(given, token.encode())
