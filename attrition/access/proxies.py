"""Find the client's address, scheme and host of a request that comes through reverse proxies.

Werkzeug's ProxyFix trusts a number of hops, whatever address connects. Here the address has to be that
of a proxy in config.json; forwarded headers from any other address are removed.
"""

import ipaddress
from collections.abc import Collection
from typing import Any

from attrition.errors import ConfigError

CLAIMS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")
IS_PROXY = "attrition.is_proxy"  # set in the environment of a request that a proxy sent


def read_address(text: str) -> str:
    """Return an IP address in its canonical form; "" if the text is not one.

    >>> read_address("::ffff:10.0.0.1"), read_address("2001:DB8::0:1"), read_address("unknown")
    ('10.0.0.1', '2001:db8::1', '')
    """
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def read_proxies(proxies: Collection[str]) -> frozenset[str]:
    """Return the addresses of api.proxies.

    Raises: ConfigError.
    """
    for text in proxies:
        if not read_address(text):
            raise ConfigError(
                f"api.proxies: {text!r} is not an IP address, expected one such as 10.0.0.1"
            )
    return frozenset(map(read_address, proxies))


def apply_claims(environ: dict[str, Any], proxies: frozenset[str]) -> None:
    """Put the client's address, scheme and host into a WSGI environment if a proxy names them.

    The client is the last hop that is not a proxy; the client may have made up the hops to its left.
    """
    peer = read_address(environ.get("REMOTE_ADDR", ""))
    hops, scheme, host = (_split(environ.pop(name, "")) for name in CLAIMS)
    environ["REMOTE_ADDR"] = peer or environ.get("REMOTE_ADDR", "")
    environ[IS_PROXY] = peer in proxies
    if peer not in proxies:
        return
    for hop in reversed(hops):
        if not (address := read_address(hop)):
            break
        environ["REMOTE_ADDR"] = address
        if address not in proxies:
            break
    if scheme and scheme[-1] in ("http", "https"):
        environ["wsgi.url_scheme"] = scheme[-1]
    if host:
        environ["HTTP_HOST"] = host[-1]


def _split(header: str) -> list[str]:
    return [part.strip() for part in header.split(",")] if header.strip() else []
