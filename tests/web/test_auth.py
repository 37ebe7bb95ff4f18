"""Who may call the API: with which token, from where."""

import base64
import re
from dataclasses import replace

import pytest

from app import create_app
from attrition.config import Api
from attrition.errors import ConfigError
from attrition.web import auth
from tests.apps import GOOD
from tests.conftest import TOKEN


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_without_the_token_only_health_answers(guarded):
    for rule in guarded.application.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        answer = guarded.open(path, method="POST" if "POST" in rule.methods else "GET")
        assert answer.status_code == (200 if rule.rule == "/health" else 401)
        if rule.rule != "/health":
            assert "WWW-Authenticate" in answer.headers
            assert answer.json["code"] == "no_token"


def test_with_the_token_everything_answers(guarded):
    assert guarded.get("/scoring", headers=bearer(TOKEN)).status_code == 200
    answer = guarded.post("/prediction", json={"records": [GOOD]}, headers=bearer(TOKEN))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(""),
        bearer(TOKEN + "x"),
        bearer("ü"),
        bearer(TOKEN.upper()),
        basic(TOKEN),
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Digest x"},
        {"Authorization": "Bearer a=b, c=d"},
    ],
)
def test_wrong_token_is_401(guarded, headers):
    assert guarded.get("/scoring", headers=headers).status_code == 401


def test_browser_may_show_the_token_as_a_password(guarded):
    for path in (
        *("/", "/list", "/list.csv"),
        "/static/style.css",
        "/figures/roc.png",
        "/report.pdf",
        "/modelcard.md",
        "/contactlist.csv",
    ):
        refused = guarded.get(path, headers=basic("wrong"))
        assert (refused.status_code, refused.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        assert guarded.get(path, headers=basic(TOKEN), buffered=True).status_code == 200


def test_token_comes_from_the_environment_only(project, monkeypatch):
    monkeypatch.delenv("API_TOKEN", raising=False)
    for token, words in (("plain-secret", "expected"), ("${API_TOKEN}", "API_TOKEN is not set")):
        with pytest.raises(ConfigError, match=words):
            create_app(replace(project, api=Api(token=token)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_others_are_not_served_without_a_token(host):
    with pytest.raises(ConfigError, match=r"api\.token"):
        auth.check_exposure(host, None)
    auth.check_exposure(host, "secret")
