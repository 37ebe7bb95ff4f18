"""Who may use the API: with which token, session or proxy, in which role, from where."""

import json
import re
import socket
from dataclasses import replace

import pytest

from app import create_app
from attrition.access import credentials, limits, roles
from attrition.access.credentials import Credentials
from attrition.config import Api
from attrition.errors import ConfigError, Damaged
from attrition.storage import files
from attrition.web import auth
from tests.apps import GOOD
from tests.conftest import TOKEN, served, write_config

PASSWORD = "a long enough password"
PAGE = {"Accept": "text/html"}
NETWORK = Api(host="0.0.0.0")
BEHIND = Api(
    hosts=("clients.example.com",), proxies=("10.0.0.1",), user_header="Remote-User", port=9
)
PROXY = {"REMOTE_ADDR": "10.0.0.1"}
HTTPS = {"base_url": "https://clients.example.com"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def access_of(config):
    return Credentials(config.tokens, config.users)


def add_token(config, name, *own, days=None):
    return credentials.add_token(access_of(config), name, own, days)


def add_user(config, name, *own, password=PASSWORD):
    credentials.set_user(access_of(config), name, own, None, password)


@pytest.fixture
def network(project):
    """A project that others can reach, in which Ann is a lead."""
    add_user(project, "Ann", "lead")
    return replace(project, api=NETWORK)


def client_of(config, **more):
    return create_app(config).test_client(**more)


def sign_in(client, name="Ann", password=PASSWORD, **more):
    form = {"name": name, "password": password, "next": more.pop("next", "/")}
    return client.post("/sign-in", data=form, **{**HTTPS, **more})


def calls(app):
    """Yield view, method and address of everything that the app answers."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
            yield rule.endpoint.rpartition(".")[2], method, path


# ---- denied by default


def test_without_a_token_only_health_answers(network):
    client = client_of(network, use_cookies=False)
    for view, method, path in calls(client.application):
        for headers in ({}, PAGE, bearer("wrong"), {"Cookie": f"{auth.COOKIE}=wrong"}):
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == (200 if view == "health" else 401), (view, method)
            if view != "health":
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert (
                    "<form" in answer.text if headers == PAGE else answer.json["code"] == "no_token"
                )
    for path in ("/unknown", "/static/nothing.css", "/console", "/static/../app.py"):
        assert client.get(path).status_code == 401


@pytest.mark.parametrize("role", roles.ROLES)
def test_role_has_exactly_its_own_views(network, role):
    client, headers = client_of(network), bearer(add_token(network, "t", role))
    own = roles.FOR_ALL | roles.FOR_EVERY_ROLE | roles.VIEWS[role]
    for view, method, path in calls(client.application):
        answer = client.open(path, method=method, headers=headers)
        if view == "sign_in":
            assert answer.status_code == 401
        elif view in own:
            assert answer.status_code not in (401, 403, 500), (view, answer.text)
        else:
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), view
            assert role not in answer.json["roles"]


def test_view_that_the_table_does_not_name_is_denied_to_all(network):
    app = create_app(network)
    app.get("/new")(lambda: "new")
    token = add_token(network, "t", *roles.ROLES)
    assert app.test_client().get("/new", headers=bearer(token)).status_code == 403


def test_refusal_names_the_role_that_is_needed(network):
    token = add_token(network, "crm", "read")
    client, path = client_of(network), "/clients/x/entries"
    answer = client.post(path, json={}, headers=bearer(token))
    assert answer.json == {
        "code": "forbidden",
        "error": "this needs the role feedback or lead; crm has the role read",
        "roles": ["feedback", "lead"],
    }
    page = client.post("/list", headers=bearer(token) | PAGE)
    assert page.status_code == 403
    assert "This needs the role lead; crm has the role read." in page.text


def test_file_of_clients_is_predicted_only_for_who_may_list_clients(network):
    client = client_of(network)
    for roles_of, status in ((["predict"], 403), (["predict", "read"], 404)):
        token = add_token(network, f"crm{status}", *roles_of)
        body = {"datafile": "none.csv"}
        answer = client.post("/prediction", json=body, headers=bearer(token))
        assert answer.status_code == status


def test_refusal_lists_all_roles_that_would_do(network):
    token = add_token(network, "crm", "predict", "operate")
    answer = client_of(network).get("/clients", headers=bearer(token))
    sentence = "this needs the role read, feedback or lead; crm has the roles predict and operate"
    assert answer.json["error"] == sentence


def test_page_leads_only_to_what_the_role_may_use(network):
    client, headers = client_of(network), bearer(add_token(network, "ops", "operate")) | PAGE
    page = client.get("/", headers=headers)
    assert page.status_code == 403
    for address in re.findall(r'<a [^>]*href="(/[^"#]*)"', page.text):
        assert client.get(address, headers=headers).status_code != 403, address
    assert 'class="brand" href="/system"' in page.text


def test_page_of_an_error_shows_only_what_the_role_may_see(network):
    token = add_token(network, "bi", "predict")
    answer = client_of(network).get("/", headers=bearer(token) | PAGE)
    assert answer.status_code == 403
    for text in ('href="/list"', 'href="/system"', "Release ", 'type="search"'):
        assert text not in answer.text


# ---- tokens


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(""),
        bearer(TOKEN + "x"),
        bearer("ü"),
        bearer(TOKEN.upper()),
        {"Authorization": "Basic bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ=="},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Digest x"},
        {"Authorization": "Bearer a=b, c=d"},
    ],
)
def test_wrong_token_is_401(guarded, headers):
    answers = [guarded.get("/scoring", headers=sent) for sent in (headers, {})]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].data == answers[1].data


def test_token_of_the_environment_has_every_role(guarded):
    assert guarded.get("/scoring", headers=bearer(TOKEN)).status_code == 200
    answer = guarded.post("/prediction", json={"records": [GOOD]}, headers=bearer(TOKEN))
    assert answer.status_code == 200


def test_revoked_and_ended_tokens_are_refused_in_the_same_words(network, monkeypatch):
    client, missing = client_of(network), client_of(network).get("/scoring").data
    token, short = add_token(network, "a", "read"), add_token(network, "b", "read", days=1)
    for each in (token, short):
        assert client.get("/scoring", headers=bearer(each)).status_code == 200
    credentials.revoke(access_of(network), "a")
    monkeypatch.setattr(files, "utc_now", lambda: "2099-01-01T00:00:00Z")
    for each in (token, short):
        answer = client.get("/scoring", headers=bearer(each))
        assert (answer.status_code, answer.data) == (401, missing)


def test_first_token_closes_an_open_app_and_losing_the_file_does_not_open_it_again(project):
    client = client_of(project)
    assert client.get("/scoring").status_code == 200
    token = add_token(project, "a", "read")
    assert client.get("/scoring").status_code == 401
    assert client.get("/scoring", headers=bearer(token)).status_code == 200
    credentials.revoke(access_of(project), "a")
    assert client_of(project).get("/scoring").status_code == 401
    project.tokens.unlink()
    assert client.get("/scoring").status_code == 401


def test_worker_that_starts_after_the_files_are_gone_does_not_open_the_app(project):
    add_token(project, "a", "read")
    is_closed = auth.check_exposure(project)
    project.tokens.unlink()
    client = create_app(project, is_closed=is_closed).test_client()
    assert client.get("/scoring").status_code == 401
    assert not auth.check_exposure(project)


def test_damaged_file_lets_nobody_in_and_health_still_answers(project):
    token = add_token(project, "a", "read")
    project.tokens.write_bytes(project.tokens.read_bytes()[:-9])
    for api, status in ((Api(), 503), (NETWORK, 401)):
        client = client_of(replace(project, api=api))
        assert client.get("/scoring").status_code == status
        answer = client.get("/scoring", headers=bearer(token))
        assert (answer.status_code, answer.json["code"]) == (503, "access_unavailable")
        assert "Retry-After" in answer.headers
        assert str(project.access_folder) not in answer.text
        assert client.get("/health").status_code == 200


def test_requests_of_a_token_are_limited(project, monkeypatch):
    config = replace(project, api=replace(NETWORK, requests_per_minute=2))
    monkeypatch.setattr(auth.time, "time", lambda: 600.0)
    client = client_of(config)
    one, other = (bearer(add_token(config, name, "read")) for name in "ab")
    statuses = [client.get("/scoring", headers=one).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = client.get("/scoring", headers=one)
    assert (answer.json["code"], answer.headers["Retry-After"]) == ("too_many_requests", "60")
    assert client.get("/scoring", headers=other).status_code == 200


# ---- sessions


def test_session_is_a_cookie_that_no_script_and_no_other_site_can_use(network):
    answer = sign_in(client_of(network), next="/list?q=a%20b")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/list?q=a%20b")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-attrition=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_new_sign_in_ends_the_session_before_it(network):
    client, other = client_of(network), client_of(network, use_cookies=False)
    sign_in(client)
    cookie = client.get_cookie(auth.COOKIE, "clients.example.com").value
    sign_in(client)
    old = {"Cookie": f"{auth.COOKIE}={cookie}"}
    assert other.get("/clients", headers=old).status_code == 401
    assert client.get("/list", **HTTPS).status_code == 200


def test_signed_in_user_sees_pages_in_every_worker_until_the_sign_out(network):
    client, other = client_of(network), client_of(network, use_cookies=False)
    sign_in(client)
    cookie = client.get_cookie(auth.COOKIE, "clients.example.com").value
    stolen = {"Cookie": f"{auth.COOKIE}={cookie}"}
    page = client.get("/list", **HTTPS)
    assert (page.status_code, "<bdi>Ann</bdi>" in page.text) == (200, True)
    assert other.get("/clients", headers=stolen).status_code == 200
    left = client.post("/sign-out", **HTTPS)
    assert (left.status_code, left.headers["Location"]) == (303, "/sign-in")
    assert client.get("/list", **HTTPS).status_code == 401
    for each in (client_of(network, use_cookies=False), other):
        assert each.get("/clients", headers=stolen).status_code == 401


@pytest.mark.parametrize("change", ["password", "roles", "revoked"])
def test_change_of_a_user_ends_the_session(network, change):
    client = client_of(network)
    sign_in(client)
    assert client.get("/clients", **HTTPS).status_code == 200
    if change == "revoked":
        credentials.revoke(access_of(network), "ann")
    else:
        own, password = ("read", PASSWORD) if change == "roles" else ("lead", PASSWORD + "!")
        add_user(network, "Ann", own, password=password)
    assert client.get("/clients", **HTTPS).status_code == 401


def test_session_ends_after_twelve_hours(network, monkeypatch):
    client = client_of(network)
    sign_in(client)
    monkeypatch.setattr(files, "utc_now", lambda: "2099-01-01T00:00:00Z")
    assert client.get("/clients", **HTTPS).status_code == 401


def test_token_signs_in_as_a_password_and_its_revocation_ends_the_session(network):
    client, token = client_of(network), add_token(network, "crm", "read")
    assert sign_in(client, "", token).status_code == 303
    assert client.get("/clients", **HTTPS).status_code == 200
    assert client.post("/list", **HTTPS).status_code == 403
    credentials.revoke(access_of(network), "crm")
    assert client.get("/clients", **HTTPS).status_code == 401


def test_wrong_name_and_wrong_password_get_the_same_answer(network):
    client = client_of(network)
    tries = [("Ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("Ann", "x" * 5000)]
    answers = [sign_in(client, *each) for each in tries]
    for headers in ({}, PAGE):
        assert {(answer.status_code, answer.data) for answer in answers[:3]} == {
            (401, answers[0].data)
        }
        assert "Set-Cookie" not in answers[0].headers, headers


def test_fourth_failure_delays_the_next_try_also_of_the_right_password(network, monkeypatch):
    client, now = client_of(network), [1000.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    assert [sign_in(client, "Ann", "wrong").status_code for _ in range(5)] == [*[401] * 4, 429]
    refused = sign_in(client, headers=PAGE)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert "Too many tries; try again in 2 s." in refused.text
    assert sign_in(client, environ_base={"REMOTE_ADDR": "10.9.9.9"}).status_code == 303
    now[0] += 2
    assert sign_in(client).status_code == 303


def test_own_token_under_the_name_of_another_does_not_end_the_delay_of_that_name(network):
    client, token = client_of(network), add_token(network, "crm", "read")
    statuses = []
    for password in ("wrong", "wrong", "wrong", token, "wrong", token):
        statuses.append(sign_in(client, "Ann", password).status_code)
    assert statuses == [401, 401, 401, 303, 401, 429]


def test_only_two_passwords_wait_for_their_check(network):
    app = create_app(network)
    access = app.extensions["access"]
    with access._checking:
        for _ in range(auth.WAITING_SIGN_INS):
            access._waiting.acquire()
        answer = sign_in(app.test_client())
    assert (answer.status_code, answer.json["code"]) == (429, "too_many_tries")
    assert limits.delay_s(1) == 0


# ---- the Host header, and pages of other sites


@pytest.mark.parametrize(
    ("api", "host", "status"),
    [
        (Api(), "localhost:8000", 200),
        (Api(), "127.0.0.2", 200),
        (Api(host="127.0.0.2"), "127.0.0.2:8000", 200),
        (Api(), "10.0.0.5", 421),
        (Api(), "clients.example.com", 421),
        (Api(hosts=("clients.example.com",)), "clients.example.com:8443", 200),
        (Api(hosts=("Clients.example.com:8443",)), "clients.example.com", 200),
        (Api(hosts=("clients.example.com",)), "clients.example.com.evil.example", 421),
        (Api(hosts=("clients.example.com",)), "evil.example", 421),
        (Api(hosts=("clients.example.com",)), "10.0.0.5", 421),
        (NETWORK, "anything.example", 200),
        (replace(NETWORK, hosts=("clients.example.com",)), "10.0.0.5:8000", 200),
        (replace(NETWORK, hosts=("clients.example.com",)), "anything.example", 421),
    ],
)
def test_host_is_a_name_of_ours(small_project, api, host, status):
    client = client_of(replace(small_project, api=api))
    assert client.get("/health", headers={"Host": host}).status_code == status


FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://clients.example.com"},
    {"Origin": "https://clients.example.com.evil.example"},
    {"Origin": "https://clients.example.com:8443"},
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_form_of_another_site_is_refused_before_anybody_is_identified(network, headers):
    client = client_of(network)
    sign_in(client)
    for path in ("/list", "/client/x", "/sign-out", "/sign-in", "/clients/x/entries"):
        answer = client.post(path, headers=headers | PAGE, **HTTPS)
        assert (answer.status_code, answer.json["code"]) == (403, "cross_site")
    assert client.get("/clients", **HTTPS).status_code == 200


def test_own_form_is_accepted_behind_a_proxy_that_ends_tls(project):
    client = client_of(replace(project, api=BEHIND))
    add_user(project, "Ann", "lead")
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "clients.example.com"}
    claims |= {"Origin": "https://clients.example.com", "Host": "127.0.0.1:8000"}
    form = {"name": "Ann", "password": PASSWORD}
    answer = client.post("/sign-in", data=form, headers=claims, environ_base=PROXY)
    assert answer.status_code == 303
    assert client.post("/sign-in", data=form, headers=claims).status_code == 403


# ---- proxies


def test_proxy_names_the_user(project):
    client = client_of(replace(project, api=BEHIND))
    add_user(project, "Grace Liu", "lead", password=None)
    named = {"Remote-User": "Grace Liu", "X-Forwarded-For": "203.0.113.7"}
    page = client.get("/list", headers=named, environ_base=PROXY)
    assert page.status_code == 200
    assert "<bdi>Grace Liu</bdi>" in page.text
    assert "Sign out" not in page.text
    unknown = client.get("/list", headers={"Remote-User": "x"}, environ_base=PROXY)
    assert (unknown.status_code, unknown.json["code"]) == (403, "unknown_user")
    both = client.get("/list", headers={"Remote-User": "x,Grace Liu"}, environ_base=PROXY)
    assert both.status_code == 403
    credentials.revoke(access_of(project), "Grace Liu")
    assert client.get("/list", headers=named, environ_base=PROXY).status_code == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.2", "203.0.113.7", "::1"])
def test_header_of_the_proxy_counts_for_nothing_from_another_address(project, peer):
    client = client_of(replace(project, api=BEHIND))
    add_user(project, "ann", "lead")
    named = {"Remote-User": "ann", "X-Forwarded-For": "10.0.0.1, 127.0.0.1"}
    assert client.get("/list", headers=named, environ_base={"REMOTE_ADDR": peer}).status_code == 401
    forged = {"X-Forwarded-Host": "clients.example.com", "Host": "evil.example"}
    answer = client.get("/health", headers=forged, environ_base={"REMOTE_ADDR": peer})
    assert answer.status_code == 421


def test_forwarded_host_of_the_proxy_is_checked_too(project):
    client = client_of(replace(project, api=BEHIND))
    for host, status in (("evil.example", 421), ("clients.example.com", 200)):
        headers = {"X-Forwarded-Host": host}
        answer = client.get("/health", headers=headers, environ_base=PROXY)
        assert answer.status_code == status


def test_entry_names_who_entered_it_and_from_where(project):
    client = client_of(replace(project, api=BEHIND))
    add_user(project, "ann", "lead", password=None)
    headers = {"Remote-User": "ann", "X-Forwarded-For": "1.1.1.1, 203.0.113.7"}
    name = client.get("/clients", headers=headers, environ_base=PROXY).json["clients"][0]["client"]
    page = client.get(f"/client/{name}", headers=headers, environ_base=PROXY)
    assert 'value="ann"' in page.text
    entry = {"kind": "contact", "by": "Ann", "outcome": "reached"}
    path = f"/clients/{name}/entries"
    answer = client.post(path, json=entry, headers=headers, environ_base=PROXY)
    assert answer.json["via"] == "api ann 203.0.113.7"
    (event,) = read_audit(project)
    assert event["who"] == "ann"
    assert event["address"] == "203.0.113.7"
    assert {event["view"], event["status"]} == {"add_entry", 201}
    assert name not in json.dumps(event)


def read_audit(config):
    path = config.audit_log(files.utc_now()[:7])
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_audit_log_has_every_refusal_and_no_read(network):
    client, token = client_of(network), add_token(network, "crm", "read")
    client.get("/scoring", headers=bearer(token))
    client.get("/clients/Secret%20Client")
    client.post("/clients/Secret%20Client/entries", headers=bearer(token), json={})
    first, second = read_audit(network)
    assert (first["who"], first["kind"], first["status"]) == ("", "nobody", 401)
    assert (first["view"], first["code"], first["method"]) == ("show_client", "no_token", "GET")
    assert (second["who"], second["status"], second["code"]) == ("crm", 403, "forbidden")
    assert "Secret" not in json.dumps([first, second])
    assert len(first["id"]) == 16


# ---- start


@pytest.mark.parametrize(
    "api",
    [
        *(Api(host=host) for host in ("0.0.0.0", "::", "192.0.2.1", "example.com")),
        *(Api(hosts=("clients.example.com",)), Api(proxies=("10.0.0.1",))),
    ],
)
def test_others_are_not_served_without_a_token_or_a_user(tmp_path, api):
    config = replace(write_config(tmp_path), api=api)
    with pytest.raises(ConfigError, match=r"python app\.py --new-token NAME"):
        auth.check_exposure(config)
    token = add_token(config, "crm", "read", days=1)
    auth.check_exposure(config)
    credentials.revoke(access_of(config), "crm")
    with pytest.raises(ConfigError, match="no valid token"):
        auth.check_exposure(config)
    add_user(config, "ann", "read", password=None)
    auth.check_exposure(config)
    assert token


def test_token_comes_from_the_environment_only(tmp_path, monkeypatch):
    monkeypatch.delenv("API_TOKEN", raising=False)
    config = write_config(tmp_path)
    for token, words in (("plain-secret", "expected"), ("${API_TOKEN}", "API_TOKEN is not set")):
        with pytest.raises(ConfigError, match=words):
            auth.check_exposure(replace(config, api=Api(token=token)))


def test_short_secret_is_refused_and_a_long_one_opens_the_network(tmp_path, monkeypatch):
    config = replace(write_config(tmp_path), api=replace(NETWORK, token="${API_TOKEN}"))
    monkeypatch.setenv("API_TOKEN", "x" * 19)
    with pytest.raises(ConfigError, match="has 19 characters, expected at least 20"):
        auth.check_exposure(config)
    monkeypatch.setenv("API_TOKEN", "x" * 20)
    auth.check_exposure(config)


def test_damaged_or_open_files_are_refused_at_start_also_on_the_loopback_interface(tmp_path):
    config = write_config(tmp_path)
    add_token(config, "a", "read")
    config.access_folder.chmod(0o770)
    with pytest.raises(Damaged, match="chmod -R go-w"):
        auth.check_exposure(config)
    config.access_folder.chmod(0o700)
    auth.check_exposure(config)
    config.tokens.write_bytes(b"{}")
    with pytest.raises(Damaged, match=r"app\.py --new-token"):
        auth.check_exposure(config)


def test_header_without_a_proxy_and_proxy_without_an_address_are_refused(tmp_path):
    config = write_config(tmp_path)
    for api in (Api(user_header="Remote-User"), Api(proxies=("caddy",))):
        with pytest.raises(ConfigError, match=r"api\.proxies"):
            auth.check_exposure(replace(config, api=api))


def test_header_with_an_underscore_does_not_pass_for_that_of_the_proxy(project):
    add_user(project, "ann", "lead", password=None)
    settings = json.loads(project.file.read_text())
    settings["api"] |= {"proxies": ["127.0.0.1"], "user_header": "Remote-User"}
    project.file.write_text(json.dumps(settings))
    with served(project, "--workers", "1", "--host", "0.0.0.0") as (port, _):
        for header, status in (("Remote_User", b"401"), ("Remote-User", b"200")):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                head = f"GET /clients HTTP/1.0\r\nHost: localhost\r\n{header}: ann\r\n\r\n"
                connection.sendall(head.encode())
                assert connection.recv(65536).split()[1] == status
