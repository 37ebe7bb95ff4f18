"""Check access to the API: the listening address, the token and the Host header.

Without a token the API listens on the loopback interface only. There the Host header is checked, so
that a web page in a browser on the same machine cannot reach the API under a domain of its own (DNS
rebinding). Standard library only.
"""

import hmac
import ipaddress
import os
import re

from attrition.config import Config
from attrition.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def read_token(config: Config) -> str | None:
    """Return the token that callers must send, or None if the config names none.

    Raises: ConfigError if api.token does not name an environment variable or if it is not set.
    """
    if config.api.token is None:
        return None
    variable = re.fullmatch(r"\$\{(\w+)\}", config.api.token.strip())
    if variable is None:
        raise ConfigError(
            f"{config.file}: api.token is the secret itself, expected ${{NAME}} with the name "
            "of an environment variable"
        )
    token = os.environ.get(variable[1], "").strip()
    if not token:
        raise ConfigError(f"the environment variable {variable[1]} is not set; api.token names it")
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host.

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
    """Refuse to serve client data to a network without a token.

    Raises: ConfigError.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached by others, and api.token is not set: name a secret in "
            'config.json ("api": {"token": "${ATTRITION_TOKEN}"}) or listen on 127.0.0.1'
        )


def is_own_name(host_header: str) -> bool:
    """Return whether a Host header names the loopback interface, with or without a port.

    Flask's TRUSTED_HOSTS cannot do this: Werkzeug 3.1 cuts each trusted name at its first colon, so
    that [::1] never matches, and it compares upper case with lower case.

    >>> is_own_name("localhost:8000"), is_own_name("[::1]"), is_own_name("127.0.0.1.evil.example")
    (True, True, False)
    """
    return re.sub(r":[0-9]{1,5}$", "", host_header).lower() in LOOPBACK_NAMES


def is_token(candidate: str | None, token: str) -> bool:
    """Compare in constant time, so that the time does not reveal how much matches."""
    encoded = (candidate or "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(encoded, token.encode())
