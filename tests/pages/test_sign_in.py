"""The sign-in page: it stands alone, leads nowhere else, and helps links of e-mails."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from app import create_app
from attrition.access import credentials
from attrition.access.credentials import Credentials
from attrition.config import Api
from attrition.web import auth

PASSWORD = "a long enough password"
PAGE = {"Accept": "text/html"}
LINKED = PAGE | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
OWN = {**LINKED, "Sec-Fetch-Site": "same-origin"}
HTTPS = {"base_url": "https://clients.example.com"}


@pytest.fixture
def closed(project):
    return replace(project, api=Api(host="0.0.0.0"))


@pytest.fixture
def signing_in(closed):
    for role in ("lead", "feedback", "read", "predict", "operate"):
        access = Credentials(closed.tokens, closed.users)
        credentials.set_user(access, role, [role], None, PASSWORD)
    return create_app(closed).test_client()


def sign_in(client, name, wanted="/"):
    form = {"name": name, "password": PASSWORD, "next": wanted}
    return client.post("/sign-in", data=form, headers=PAGE, **HTTPS)


def test_page_needs_nothing_but_itself(closed):
    answer = create_app(closed).test_client().get("/list?q=a%20b", headers=PAGE)
    assert (answer.status_code, answer.mimetype) == (401, "text/html")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'")
    assert not re.search(r"<script|<link|<img|href=|src=|url\(", answer.text)
    assert 'name="next" value="/list?q=a%20b"' in answer.text


def test_page_reveals_nothing_about_the_system(closed):
    client = create_app(closed).test_client()
    answer = client.get("/", headers=PAGE)
    release = client.get("/health").json["release"]
    for text in (release, closed.project, str(closed.file.parent)):
        assert text not in answer.text


@pytest.mark.parametrize(
    "wanted",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)"),
        *("\\/evil.example", "/a\r\nSet-Cookie: x=y", "///evil.example", "evil", "/\t/evil", ""),
    ],
)
def test_sign_in_leads_to_no_other_site(signing_in, wanted):
    answer = sign_in(signing_in, "lead", wanted)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = signing_in.get("/sign-in", query_string={"next": wanted}, headers=PAGE)
    assert 'name="next" value="/"' in page.text


@pytest.mark.parametrize(
    ("role", "home"),
    [("lead", "/"), ("read", "/"), ("predict", "/docs"), ("operate", "/system")],
)
def test_everybody_begins_at_a_page_of_their_role(signing_in, role, home):
    assert sign_in(signing_in, role).headers["Location"] == home


def test_link_of_an_e_mail_loads_once_more_so_that_the_cookie_comes_along(closed):
    client = create_app(closed).test_client()
    refresh = '<meta http-equiv="refresh" content="0; url=/client/a%22b?x=1">'
    address = "/client/a%22b?x=1"
    assert refresh in client.get(address, headers=LINKED).text
    assert "http-equiv" not in client.get(address, headers=OWN).text
    assert "http-equiv" not in client.get(address, headers=PAGE).text
    assert 'content="0; url=/"' in client.get("//evil.example", headers=LINKED).text


def test_page_says_if_the_browser_will_not_keep_the_session(closed):
    client = create_app(closed).test_client()
    warning = "Your browser will not keep you signed in"
    for url, is_warned in (
        ("http://10.0.0.5:8000", True),
        ("http://127.0.0.1:8000", False),
        ("http://localhost", False),
        ("https://clients.example.com", False),
    ):
        assert (warning in client.get("/", headers=PAGE, base_url=url).text) is is_warned


def test_wrong_password_shows_the_form_again_without_it(signing_in):
    form = {"name": '"><b>Ann', "password": "wrong secret", "next": "/list"}
    answer = signing_in.post("/sign-in", data=form, headers=PAGE)
    assert answer.status_code == 401
    assert "The name or the password is wrong" in answer.text
    assert 'value="&#34;&gt;&lt;b&gt;Ann"' in answer.text
    assert 'name="next" value="/list"' in answer.text
    assert "wrong secret" not in answer.text


def test_sign_out_forgets_session_and_name(signing_in):
    sign_in(signing_in, "lead")
    signing_in.set_cookie("by", "Somebody", domain="clients.example.com")
    assert signing_in.get("/sign-out", **HTTPS).status_code == 405
    signing_in.post("/sign-out", **HTTPS)
    assert signing_in.get_cookie("by", "clients.example.com") is None
    assert signing_in.get_cookie(auth.COOKIE, "clients.example.com") is None


def test_pages_show_only_forms_that_the_role_may_send(signing_in):
    name = None
    for role, can_enter, can_tick in (
        *(("lead", True, True), ("feedback", True, False), ("read", False, False)),
    ):
        sign_in(signing_in, role)
        name = name or signing_in.get("/clients", **HTTPS).json["clients"][0]["client"]
        page = signing_in.get(f"/client/{name}", **HTTPS).text
        assert ('id="enter"' in page) is can_enter
        today = signing_in.get("/", **HTTPS).text
        assert ("Record a contact" in today) is can_enter
        assert ("Your entries are saved as" in today) is can_enter
        assert ('name="client"' in signing_in.get("/list", **HTTPS).text) is can_tick


def test_open_app_has_nobody_to_sign_in(project):
    client = create_app(project).test_client()
    answer = client.get("/sign-in", headers=PAGE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Sign out" not in client.get("/list").text
