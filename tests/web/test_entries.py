"""What people enter about clients: validated, saved once, never lost, never from another site."""

import builtins
import io
import os

import pytest

from app import create_app
from attrition.contacts import log
from attrition.errors import ApiError, NotReady
from attrition.storage import files
from attrition.web import entries
from tests.apps import rewrite
from tests.conftest import TOKEN

CALL = {"kind": "contact", "by": "Ann", "outcome": "reached", "note": "called"}
TODAY = "2026-11-28"


@pytest.fixture(autouse=True)
def today(monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: f"{TODAY}T09:00:00Z")


@pytest.fixture
def app(project):
    return create_app(project)


@pytest.fixture
def state(app):
    return app.extensions["attrition"]


@pytest.fixture
def name(state):
    """The client with the highest risk."""
    return state.clients().read([0])[0]["client"]


def save(state, names, form=CALL, seen=None, **more):
    names = [names] if isinstance(names, str) else names
    return entries.save(state, names, {**form, **more}, seen, "page 127.0.0.1")


def url(name):
    return f"/clients/{name}/entries"


# ---- fields


def test_what_is_saved_names_who_when_from_where_and_what_the_model_assumed(state, name):
    (entry,) = save(state, name, note=" called\r\nagain ").entries
    risk = state.clients().find(name)["risk"]
    release = state.assessment()["release"]
    assert entry == log.Entry(
        *(name, "contact", "Ann", "reached", "called\nagain"),
        **{"via": "page 127.0.0.1", "risk": risk, "release": release},
        **{"id": 1, "key": entry.key, "at": f"{TODAY}T09:00:00Z"},
    )
    assert state.desk.entries(name) == [entry]


def test_all_faults_of_a_form_are_named_at_once_and_nothing_is_saved(state, name):
    result = save(state, name, by=" ", outcome="stays", date="tomorrow")
    assert isinstance(result, entries.Faults), result
    assert set(result.problems) == {"by", "outcome", "date"}
    assert not state.desk.entries(name)


def test_an_override_ends_after_ninety_days_if_no_date_is_given(state, name):
    form = {"kind": "override", "by": "Ann", "outcome": "leaves", "note": "told me"}
    assert save(state, name, form).entries[0].date == "2027-02-26"


def test_fields_of_other_kinds_in_a_form_are_not_saved(state, name):
    form = {**CALL, "kind": "not_before", "date": "2026-12-01", "manager": "Bob"}
    (entry,) = save(state, name, form).entries
    assert (entry.outcome, entry.manager) == ("", "")


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_form_is_about_one_to_a_thousand_clients(state, name, count):
    table = state.clients()
    table.rows_of = lambda names: dict.fromkeys(names, 0)
    result = save(state, [f"{name} {i}" for i in range(count)])
    assert set(result.problems) == {"clients"}


@pytest.mark.parametrize("seen", ["x", 1.5, -1, True, "1" * 30])
def test_a_number_that_is_none_is_a_fault(state, name, seen):
    assert set(save(state, name, seen=seen).problems) == {"seen"}


# ---- once, and all or none


def test_several_clients_are_saved_at_once_and_a_double_click_saves_nothing_more(state):
    names = [row["client"] for row in state.clients().read([0, 1, 2])]
    _, seen = state.worklist(files.utc_now())
    first = save(state, [*names, names[0]], seen=str(seen), key="k")
    assert [entry.client for entry in first.entries] == names
    assert save(state, names, seen=str(seen), key="k") == (first.entries, True)
    assert save(state, names, seen=str(seen)) == (first.entries, True)
    assert log.check(state.desk.path) == 3


def test_a_form_sent_again_from_its_own_result_is_one_entry_for_ten_minutes(
    state, name, monkeypatch
):
    first = save(state, name, seen=0).entries
    assert save(state, name, seen=1) == (first, True)
    assert not save(state, [name, "now1"], seen=1).is_repeat  # the other client is new
    monkeypatch.setattr(files, "utc_now", lambda: f"{TODAY}T09:10:00Z")
    assert not save(state, name, seen=9).is_repeat


def test_a_stale_form_shows_what_is_new_and_can_be_saved_after_that(state, name):
    save(state, name, by="Bob")
    stale = save(state, [name], seen=0)
    assert [entry.by for entry in stale.newer] == ["Bob"]
    assert isinstance(save(state, name, seen=stale.seen), entries.Saved)
    assert log.check(state.desk.path) == 2


def test_an_unknown_client_is_404_and_one_with_entries_is_not(state, name, project):
    save(state, name)
    rewrite(project, lambda table: table[table["client"] != name])
    assert save(state, name, by="Bob").entries[0].risk is None
    with pytest.raises(ApiError, match="no such client"):
        save(state, "nobody")
    problem = "nobody is no longer a current client: untick it"
    assert save(state, [name, "nobody"]).problems == {"clients": problem}
    assert log.check(project.contact_log) == 2


# ---- corrections


def test_an_entry_is_corrected_by_another_of_its_kind(state, name):
    save(state, name, date="2026-12-24")
    (entry,) = save(state, name, note="better", replaces="1").entries
    assert (entry.replaces, state.desk.standing(name, files.utc_now()).entries) == (1, (entry,))
    assert set(save(state, name, replaces=1).problems) == {"replaces"}  # it no longer counts
    wrong_kind = {"kind": "not_before", "by": "A", "note": "x", "date": "2026-12-01", "replaces": 2}
    assert set(save(state, name, wrong_kind).problems) == {"replaces"}
    assert set(save(state, [name, "now1"], replaces=2).problems) == {"replaces"}


def test_a_correction_keeps_a_date_that_has_passed(state, name, monkeypatch):
    save(state, name, date="2026-12-24")
    monkeypatch.setattr(files, "utc_now", lambda: "2027-01-03T09:00:00Z")
    assert isinstance(save(state, name, date="2026-12-24", note="x", replaces=1), entries.Saved)
    assert set(save(state, name, date="2026-12-23", replaces=2).problems) == {"date"}


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "not_before", "note": "on holiday", "date": "2026-11-29"},
        {"kind": "override", "outcome": "stays", "note": "signed"},
    ],
)
def test_a_form_that_is_sent_again_after_midnight_is_one_entry(state, name, form, monkeypatch):
    form = {"by": "Ann", "key": "k", **form}
    first = save(state, name, form)
    assert not first.is_repeat
    monkeypatch.setattr(files, "utc_now", lambda: "2026-11-29T12:00:00Z")
    assert save(state, name, form) == entries.Saved(first.entries, is_repeat=True)
    with pytest.raises(log.KeyTaken):
        save(state, name, form, note="other", date="2026-12-05")


def test_a_contact_without_the_date_of_the_entry_with_its_key_is_another(state, name):
    save(state, name, date="2026-12-05", key="k")
    with pytest.raises(log.KeyTaken):
        save(state, name, key="k")


def test_a_withdrawn_entry_no_longer_counts(state, name):
    before = state.worklist(files.utc_now())[0].listed
    save(state, name, outcome="do_not_contact")
    assert 0 in state.worklist(files.utc_now())[0].listed.resting
    save(state, name, {"kind": "withdrawal", "by": "Ann", "replaces": 1})
    after = state.worklist(files.utc_now())[0].listed
    assert (after.rows.tolist(), after.resting) == (before.rows.tolist(), before.resting)


# ---- API


@pytest.fixture
def client(app):
    return app.test_client()


def test_post_stores_an_entry_and_get_lists_it(client, name):
    answer = client.post(url(name), json={**CALL, "date": "2026-12-05"})
    assert answer.status_code == 201
    assert answer.json["via"] == "api 127.0.0.1"
    assert (answer.json["manager"], answer.json["counts"], answer.json["id"]) == (None, True, 1)
    client.post(url(name), json={"kind": "withdrawal", "by": "Bob", "replaces": 1})
    listed = client.get(url(name)).json
    states = [(each["id"], each["counts"], each["replaced_by"]) for each in listed["entries"]]
    assert states == [(1, False, 2), (2, False, None)]
    assert (listed["seen"], listed["is_current"], listed["client"]) == (2, True, name)


def test_the_standing_of_a_client_is_that_of_today(client, name):
    client.post(url(name), json={**CALL, "outcome": "not_reached"})
    standing = client.get(url(name)).json["standing"]
    assert standing["resting_until"] == "2026-12-01"
    assert (standing["resting_why"], standing["last_contact"]) == ("not_reached", TODAY)
    client.post(url(name), json={**CALL, "outcome": "do_not_contact"})
    standing = client.get(url(name)).json["standing"]
    assert (standing["resting_why"], standing["resting_until"]) == ("do_not_contact", None)


def test_a_repeat_with_the_same_key_is_200_and_another_content_409(client, name):
    head = {"Idempotency-Key": "k"}
    first = client.post(url(name), json=CALL, headers=head)
    again = client.post(url(name), json={**CALL, "key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json
    other = client.post(url(name), json={**CALL, "by": "Bob"}, headers=head)
    assert (other.status_code, other.json["code"]) == (409, "key_taken")
    both = client.post(url(name), json={**CALL, "key": "q"}, headers=head)
    assert [each["field"] for each in both.json["problems"]] == ["key"]


def test_a_stale_post_is_409_with_the_newer_entries(client, name):
    client.post(url(name), json=CALL)
    answer = client.post(url(name), json={**CALL, "by": "Bob", "seen": 0})
    assert (answer.status_code, answer.json["code"], answer.json["seen"]) == (409, "stale", 1)
    assert [each["by"] for each in answer.json["newer"]] == ["Ann"]


def test_an_invalid_post_is_422_with_every_fault(client, name):
    answer = client.post(
        url(name), json={"kind": "override", "by": "", "outcome": "x", "note": "y"}
    )
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_entry")
    assert {each["field"] for each in answer.json["problems"]} == {"by", "outcome"}
    assert answer.json["error"] == "by: enter your name (and 1 more)"


@pytest.mark.parametrize(
    ("body", "code"), [([CALL], "invalid_body"), ({**CALL, "manager": "Bob"}, "invalid_entry")]
)
def test_a_body_of_another_form_is_refused(client, name, body, code):
    assert client.post(url(name), json=body).json["code"] == code
    assert client.get(url(name)).json["entries"] == []


def test_other_requests_are_refused_as_elsewhere(client, name):
    assert client.post(url(name), data="kind=contact").status_code == 415
    assert client.post(url(name), data=b"[" + b" " * (1 << 20), headers={}).status_code in (
        413,
        415,
    )
    assert client.post(url("nobody"), json=CALL).status_code == 404
    assert client.get(url("nobody")).json["code"] == "unknown_client"
    assert client.delete(url(name)).status_code == 405
    assert client.get(url(name) + "?x=1").status_code == 400


@pytest.fixture
def ending_in_entries(project):
    """Clients named Acme/entries and, with entries of its own, Acme."""

    def change(table):
        names = {table["client"].iloc[0]: "Acme", table["client"].iloc[1]: "Acme/entries"}
        return table.assign(client=table["client"].replace(names))

    rewrite(project, change)
    return create_app(project).test_client()


def test_a_client_whose_name_ends_like_the_address_stays_reachable(ending_in_entries):
    client = ending_in_entries
    assert client.get("/clients/Acme%2Fentries").json["client"] == "Acme/entries"
    assert client.get("/clients/Acme/entries").json["client"] == "Acme"
    assert client.post("/clients/Acme/entries/entries", json=CALL).json["client"] == "Acme/entries"
    assert len(client.get("/clients/Acme%2Fentries/entries").json["entries"]) == 1
    assert client.get("/clients/Acme/entries").json["entries"] == []


def test_without_a_token_nobody_reads_or_writes(guarded, name):
    assert guarded.get(url(name)).status_code == 401
    assert guarded.post(url(name), json=CALL).status_code == 401
    head = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post(url(name), json=CALL, headers=head).status_code == 201


# ---- a log that cannot be used


def test_with_a_damaged_log_nobody_is_listed_and_nothing_is_written(client, state, name, project):
    client.post(url(name), json=CALL)
    content = bytes(5000)
    project.contact_log.write_bytes(content)
    answer = client.post(url(name), json=CALL)
    assert (answer.status_code, answer.json["code"]) == (503, "damaged")
    assert str(project.file.parent) not in answer.json["error"]
    with pytest.raises(NotReady, match="nobody can be listed"):
        state.worklist(files.utc_now())
    assert project.contact_log.read_bytes() == content


def test_a_log_that_lost_counted_entries_is_not_continued(state, name, project):
    save(state, name)
    _, seal = log.read(project.contact_log)
    record = files.read_record(project.assessment_record)
    record["inputs"]["contacts"] = f"1 {seal}"
    files.write_bytes(project.assessment_record, files.encode(files.sealed(record)))
    assert save(state, name, by="Bob").entries[0].id == 2
    project.contact_log.unlink()
    with pytest.raises(NotReady, match="incomplete"):
        save(state, name)
    assert not project.contact_log.exists()


def test_a_log_that_is_busy_is_503_and_the_entry_can_be_sent_again(client, name, monkeypatch):
    def fail(*_):
        raise log.AttritionError("/secret/path: locked")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", fail)
        answer = client.post(url(name), json=CALL)
    assert (answer.status_code, answer.json["code"]) == (503, "log_busy")
    assert "/secret" not in answer.json["error"]
    assert client.post(url(name), json=CALL).status_code == 201


def test_the_app_opens_the_log_by_sqlite_alone(client, name, project, monkeypatch):
    # closing any other descriptor of the file would end the locks of SQLite in this process
    opened = []

    def watched(real):
        def call(path, *more, **options):
            opened.append(str(path))
            return real(path, *more, **options)

        return call

    for module, function in ((io, "open"), (builtins, "open"), (os, "open")):
        monkeypatch.setattr(module, function, watched(getattr(module, function)))
    assert client.post(url(name), json=CALL).status_code == 201
    for path in (url(name), "/", "/list", f"/client/{name}", "/health", "/clients", "/system"):
        assert client.get(path).status_code == 200
    assert str(project.monitoring_record) in opened
    assert str(project.contact_log) not in opened


# ---- other sites

OWN = {"Origin": "http://localhost"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", **OWN}, 403),  # such as another port, or a subdomain
        ({"Sec-Fetch-Site": "cross-site, same-origin"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin", **OWN}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        (OWN, 201),  # a browser from before Sec-Fetch-Site
        ({}, 201),  # no browser
    ],
)
def test_only_our_own_pages_can_let_a_browser_write(client, name, headers, status):
    answer = client.post(url(name), json=CALL, headers=headers)
    assert answer.status_code == status
    assert len(client.get(url(name), headers=headers).json["entries"]) == (status == 201)


def test_a_form_of_another_site_is_refused_before_it_is_read(client, name):
    head = {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    for path in (url(name), "/prediction", "/", "/unknown"):
        answer = client.post(path, data="{", headers=head)
        assert (answer.status_code, answer.json["code"]) == (403, "cross_site")
