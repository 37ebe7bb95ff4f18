"""Whom a request comes from, behind proxies and from those who pretend to be one."""

import pytest

from attrition.access.proxies import IS_PROXY, apply_claims, read_proxies
from attrition.errors import ConfigError

PROXIES = read_proxies(["10.0.0.1", "10.0.0.2", "::1"])


def environ(peer, **claims):
    headers = {f"HTTP_X_FORWARDED_{name.upper()}": value for name, value in claims.items()}
    result = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", "HTTP_HOST": "inner:8000", **headers}
    apply_claims(result, PROXIES)
    return result


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.7", "203.0.113.7"),  # 1.2.3.4 is made up
        ("10.0.0.1", "1.2.3.4, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("::ffff:10.0.0.1", "2001:db8:0:0::7", "2001:db8::7"),
        ("::1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, x", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.9", "203.0.113.7", "10.0.0.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
    ],
)
def test_client_is_the_last_hop_that_is_no_proxy(peer, hops, client):
    assert environ(peer, **{"for": hops})["REMOTE_ADDR"] == client


def test_proxy_names_scheme_and_host():
    result = environ("10.0.0.1", proto="https", host="evil.example, clients.example.com")
    assert result["wsgi.url_scheme"] == "https"
    assert result["HTTP_HOST"] == "clients.example.com"
    assert result[IS_PROXY]


@pytest.mark.parametrize("proto", ["javascript", "https://evil.example", ""])
def test_scheme_is_http_or_https(proto):
    assert environ("10.0.0.1", proto=proto)["wsgi.url_scheme"] == "http"


def test_claims_of_anybody_else_are_removed():
    result = environ("10.0.0.9", proto="https", host="clients.example.com", **{"for": "10.0.0.1"})
    assert result == {
        "REMOTE_ADDR": "10.0.0.9",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inner:8000",
        IS_PROXY: False,
    }


@pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.0/8", "", "*"])
def test_proxy_is_named_by_its_address(text):
    with pytest.raises(ConfigError, match=r"api\.proxies"):
        read_proxies([text])
