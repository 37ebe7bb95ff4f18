"""What client managers enter on the pages, from the form to the log and back."""

import csv
import html
import io
import re
from dataclasses import replace
from datetime import date, timedelta
from urllib.parse import quote, unquote

import pytest

from app import create_app
from attrition.access import roles
from attrition.contacts import log
from attrition.storage import files
from tests.apps import ODD_NAMES, rewrite
from tests.entering.sheets import HEADINGS, cells, write

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}
NAMES = [*ODD_NAMES, "..", "a/../b", "مقهى", "😀", "x" * 300]


def text_of(page):
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def seen(page):
    return re.search(r'name="seen" value="(\d+)"', page)[1]


def address(client, name):
    """The address of a client's page, as the list links to it."""
    page = client.get("/list", query_string={"q": name[:60]}, headers=BROWSER).text
    row = next(row for row in page.split("<tr>") if f"<bdi>{html.escape(name)}</bdi>" in row)
    return html.unescape(re.search(r'<th scope="row"[^>]*><a href="([^"]*)"', row)[1])


def post(client, url, **form):
    kind = {"action": "contact", "outcome": "reached", "by": "Ann"}
    return client.post(url, data=kind | form, headers=BROWSER)


def entries(config):
    return log.read(config.contact_log)[0]


@pytest.fixture
def first(odd_client):
    """The client at the top of the list, and the address of his or her page."""
    page = odd_client.get("/", headers=BROWSER).text
    name, url = re.search(r'<h3><a href="([^"]*)"><bdi>([^<]*)</bdi>', page).group(2, 1)
    return html.unescape(name), html.unescape(url)


def test_contact_is_saved_confirmed_and_takes_the_client_off_the_list(
    odd_client, odd_project, first
):
    name, url = first
    page = odd_client.get(url, headers=BROWSER).text
    answer = post(odd_client, url, seen=seen(page), outcome="will_stay", note="signs <in> May")
    assert answer.status_code == 303
    (entry,) = entries(odd_project)
    assert (entry.client, entry.by, entry.outcome) == (name, "Ann", "will_stay")
    assert (entry.note, entry.via) == ("signs <in> May", "page 127.0.0.1")
    page = odd_client.get(answer.location, headers=BROWSER).text
    assert "Saved:" in text_of(page) and "– reached, will stay. Not on the list until" in text_of(
        page
    )
    assert "“ signs <in> May ”" in text_of(page)
    assert "Off the list until" in text_of(page)
    assert f"<bdi>{html.escape(name)}</bdi>" not in odd_client.get("/", headers=BROWSER).text


def test_quick_form_of_today_returns_to_today_and_can_be_undone(odd_client, odd_project, first):
    name, url = first
    answer = post(odd_client, url, seen="0", back="today")
    assert answer.location == "/?saved=1"
    page = odd_client.get(answer.location, headers=BROWSER).text
    notice = page[page.index('role="status"') : page.index("Undo</button>")]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', html.unescape(notice)))
    assert fields["replaces"] == "1"
    answer = odd_client.post(url, data=fields | {"action": "withdrawal"}, headers=BROWSER)
    assert answer.location == "/?saved=2"
    assert [entry.kind for entry in entries(odd_project)] == ["contact", "withdrawal"]
    page = odd_client.get(answer.location, headers=BROWSER).text
    assert "– withdrawn: reached." in text_of(page)
    assert f"<bdi>{html.escape(name)}</bdi>" in page


def test_withdrawal_opens_its_form_alone(odd_client, first):
    _, url = first
    post(odd_client, url, seen="0", note="wrong")
    page = odd_client.get(url, headers=BROWSER).text
    link = html.unescape(re.search(r'href="([^"]*)#enter">Withdraw<', page)[1])
    page = odd_client.get(link, headers=BROWSER).text
    assert page.count('class="entry-form"') == 1 and 'value="wrong"' not in page
    assert re.search(r'class="entry-form" name="entry" open>\s*<summary>Withdraw', page)
    assert 'name="replaces" value="1"' in page


def test_double_click_and_two_tabs_make_one_record(odd_client, odd_project, first):
    _, url = first
    assert post(odd_client, url, seen="0").status_code == 303
    assert post(odd_client, url, seen="0").status_code == 303
    assert len(entries(odd_project)) == 1


def test_back_button_makes_one_record(odd_client, odd_project, first):
    """The page that the browser loads again knows of the entry, and the form has the same words."""
    _, url = first
    post(odd_client, url, seen="0", note="called")
    again = odd_client.get(url, headers=BROWSER).text
    assert post(odd_client, url, seen=seen(again), note="called").status_code == 303
    assert len(entries(odd_project)) == 1


def test_stale_form_shows_what_changed_keeps_what_was_typed_and_can_be_saved(
    odd_client, odd_project, first
):
    _, url = first
    post(odd_client, url, seen="0", by="Bob", note="Bob's <note>")
    answer = post(odd_client, url, seen="0", outcome="not_reached", note='typed "before"')
    assert answer.status_code == 409
    assert len(entries(odd_project)) == 1
    assert "Not saved yet." in text_of(answer.text)
    assert "Bob : reached (“ Bob's <note> ”)" in text_of(answer.text)
    assert 'value="typed &#34;before&#34;"' in answer.text
    assert re.search(r'value="not_reached" checked', answer.text)
    assert "Save anyway" in answer.text
    answer = post(odd_client, url, seen=seen(answer.text), outcome="not_reached", note="typed")
    assert answer.status_code == 303
    assert [entry.outcome for entry in entries(odd_project)] == ["reached", "not_reached"]


def test_faults_are_shown_beside_the_fields_and_nothing_is_lost(odd_client, odd_project, first):
    _, url = first
    answer = post(odd_client, url, outcome="", by="", note="kept", date="2020-01-01", seen="0")
    assert answer.status_code == 422
    assert not odd_project.contact_log.exists()
    page = answer.text
    assert 'value="kept"' in page and 'value="2020-01-01"' in page
    for field in ("by", "date"):
        assert f'aria-describedby="contact-{field}-fault"' in page
    assert page.count('class="error"') == 3


@pytest.mark.parametrize(
    ("form", "kind", "shown"),
    [
        ({"action": "not_before:{week}", "note": "away"}, "not_before", "Snoozed until"),
        (
            {"action": "override", "outcome": "stays", "note": "renewed"},
            "override",
            "The manager expects them to stay",
        ),
        (
            {"action": "reassignment", "manager": "Cem", "date": "{week}"},
            "reassignment",
            "Handed over to Cem",
        ),
    ],
)
def test_other_kinds_are_saved_from_the_page_of_a_client(
    odd_client, odd_project, first, form, kind, shown
):
    _, url = first
    page = odd_client.get(url, headers=BROWSER).text
    week = re.search(r'value="not_before:([\d-]+)">Snooze for 1 week, until', page)[1]
    form = {name: value.format(week=week) for name, value in form.items()}
    answer = post(odd_client, url, seen=seen(page), **form)
    assert answer.status_code == 303
    (entry,) = entries(odd_project)
    assert entry.kind == kind and entry.date >= week
    assert shown in text_of(odd_client.get(url, headers=BROWSER).text)


def test_entry_is_corrected_and_withdrawn_and_everything_stays_visible(
    odd_client, odd_project, first
):
    _, url = first
    post(odd_client, url, seen="0", note="wrong")
    page = odd_client.get(url, headers=BROWSER).text
    link = html.unescape(re.search(r'href="([^"]*)#enter">Correct<', page)[1])
    page = odd_client.get(link, headers=BROWSER).text
    assert 'name="replaces" value="1"' in page and 'value="wrong"' in page
    post(odd_client, url, seen=seen(page), replaces="1", note="right")
    post(odd_client, url, seen="2", replaces="2", action="withdrawal")
    assert [(e.kind, e.replaces) for e in entries(odd_project)] == [
        *(("contact", None), ("contact", 1), ("withdrawal", 2)),
    ]
    shown = text_of(odd_client.get(url, headers=BROWSER).text)
    assert "corrected by Ann" in shown and "withdrawn by Ann" in shown
    assert "wrong" in shown and "right" in shown
    assert "Correct · Withdraw" not in shown


def test_several_are_put_off_at_once_in_the_order_of_the_address(odd_client, odd_project):
    names = [*ODD_NAMES[:3]]
    page = odd_client.get("/list?view=all", headers=BROWSER).text
    week = re.search(r'value="not_before:([\d-]+)">Snooze for 1 week, until', page)[1]
    form = {"client": names, "not_before.note": "fair", "by": "Ann", "seen": "0"}
    answer = odd_client.post(
        "/list?view=all&q=b", data=form | {"action": f"not_before:{week}"}, headers=BROWSER
    )
    assert answer.location == "/list?view=all&q=b&saved=1-3"
    assert [(e.client, e.date, e.note) for e in entries(odd_project)] == [
        (name, week, "fair") for name in names
    ]
    page = odd_client.get(answer.location, headers=BROWSER).text
    assert "Saved for 3 clients: snoozed until" in text_of(page)
    assert '<a href="/list?view=resting">Show them</a>' in page
    resting = odd_client.get("/list?view=resting", headers=BROWSER).text
    assert all(f"<bdi>{html.escape(name)}</bdi>" in resting for name in names)


def test_all_clients_of_a_colleague_are_handed_over_at_once(odd_client, odd_project):
    address = "/list?manager=Ann&view=all"
    page = odd_client.get(address, headers=BROWSER).text
    total = re.search(r'name="everybody" value="([^"]+)"', page)
    assert total is None  # they are all on this page
    page = odd_client.get("/list?view=all", headers=BROWSER).text
    total = re.search(r'name="everybody" value="(\d+-[0-9a-f]{16})"', page)[1]
    until = re.search(r'name="override.date" type="date" value="([\d-]+)"', page)[1]
    form = {"action": "reassignment", "reassignment.manager": "Cem", "seen": "0"}
    form |= {"reassignment.date": until, "reassignment.by": "Ann"}
    refused = odd_client.post("/list?view=all", data=form | {"everybody": "99"}, headers=BROWSER)
    assert refused.status_code == 422
    answer = odd_client.post("/list?view=all", data=form | {"everybody": total}, headers=BROWSER)
    assert answer.status_code == 303
    assert len({entry.client for entry in entries(odd_project)}) == 100
    assert total.startswith("100-")
    assert "100 clients of Cem" in text_of(odd_client.get("/list?manager=Cem").text)


@pytest.mark.parametrize("action", ["contact", "export"])
def test_all_of_a_view_are_those_who_were_shown(odd_client, odd_project, action):
    """One client moved to a colleague and another came: as many as before, but not the same."""
    rewrite(odd_project, lambda table: table.assign(manager=["Ann"] * 60 + ["@Bob"] * 40))
    url = "/list?view=all&manager=Ann"
    everybody = re.compile(r'name="everybody" value="([^"]+)"( checked)?')
    shown, _ = everybody.search(odd_client.get(url, headers=BROWSER).text).groups()
    names = [row["client"] for row in odd_client.get("/clients?limit=100").json["clients"]]
    until = str(date.fromisoformat(odd_project.day(files.utc_now())) + timedelta(days=9))
    for name, manager in ((names[0], "@Bob"), (names[-1], "Ann")):
        form = {"action": "reassignment", "manager": manager, "date": until}
        assert post(odd_client, f"/client/{quote(name, safe='')}", **form).status_code == 303
    n_before = len(entries(odd_project))
    form = {"contact.outcome": "reached", "contact.by": "Ann", "contact.note": "kept"}
    answer = post(odd_client, url, **form, action=action, everybody=shown)
    assert answer.status_code == 422
    changed = "Nothing was saved: the clients of this view have changed meanwhile: tick again."
    assert changed in text_of(answer.text) and 'value="kept"' in answer.text
    assert len(entries(odd_project)) == n_before == 2
    again, is_checked = everybody.search(answer.text).groups()
    assert again[:3] == shown[:3] == "60-" and again != shown and not is_checked
    answer = post(odd_client, url, **form, action=action, everybody=again)
    assert answer.status_code == (200 if action == "export" else 303)


def test_one_unknown_of_several_ticked_clients_loses_nothing_that_was_typed(
    odd_client, odd_project
):
    form = {"action": "contact", "outcome": "reached", "by": "Ann", "contact.note": "kept"}
    ticked = {"client": ["gone Ltd", *ODD_NAMES[:2]]}
    answer = odd_client.post("/list", data=form | ticked, headers=BROWSER)
    assert answer.status_code == 422
    told = "Nothing was saved: gone Ltd is no longer a current client: untick it."
    assert told in text_of(answer.text)
    assert len(re.findall(r'name="client" value="[^"]*" [^>]*checked', answer.text)) == 2
    assert 'value="kept"' in answer.text and not odd_project.contact_log.exists()
    answer = odd_client.post("/list", data=form | {"client": "gone Ltd"}, headers=BROWSER)
    assert answer.status_code == 404


def test_refused_form_of_several_keeps_ticks_and_words(odd_client, odd_project):
    form = {"client": list(ODD_NAMES[:2]), "contact.note": "kept", "override.note": "kept too"}
    answer = odd_client.post("/list", data=form | {"action": "contact", "by": "Ann"})
    assert answer.status_code == 422
    assert len(re.findall(r'name="client" value="[^"]*" [^>]*checked', answer.text)) == 2
    assert 'value="kept"' in answer.text and 'value="kept too"' in answer.text
    answer = odd_client.post("/list", data={"action": "contact", "outcome": "reached", "by": "Ann"})
    assert answer.status_code == 422
    assert "Nothing was saved: tick at least one client." in text_of(answer.text)
    assert not odd_project.contact_log.exists()


def test_ticked_clients_and_views_are_exported_without_formulas(odd_client, odd_project):
    answer = odd_client.post("/list", data={"client": ["=1+1", "/lead"], "action": "export"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["client"] for row in rows] == ["'=1+1", "/lead"]
    assert answer.mimetype == "text/csv"
    day = odd_project.day(files.utc_now())
    assert answer.headers["Content-Disposition"].endswith(f'filename="clients-all-{day}.csv"')
    resting = odd_client.get("/list.csv?view=resting").headers["Content-Disposition"]
    assert resting == f'attachment; filename="clients-resting-{day}.csv"'
    of_bob = odd_client.get("/list.csv?manager=%40Bob")
    rows = list(csv.DictReader(io.StringIO(of_bob.text)))
    assert {row["manager"] for row in rows} == {"'@Bob"}
    shown = odd_client.get("/list?manager=%40Bob", headers=BROWSER).text
    assert f"{len(rows)} clients" in text_of(shown)


def test_name_and_choice_of_manager_are_remembered(odd_client, first):
    _, url = first
    answer = odd_client.get("/?manager=%40Bob", headers=BROWSER)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    shown = text_of(odd_client.get("/", headers=BROWSER).text)
    assert "Clients of @Bob" in shown and "Your entries are saved as @Bob" in shown
    post(odd_client, url, seen="0", by="Zoë; <b>")
    assert unquote(odd_client.get_cookie("by").value) == "Zoë; <b>"
    assert 'value="Zoë; &lt;b&gt;"' in odd_client.get(url, headers=BROWSER).text
    odd_client.get("/?manager=", headers=BROWSER)
    assert odd_client.get_cookie("manager") is None
    odd_client.get("/", query_string={"manager": "😀" * 300}, headers=BROWSER)
    assert odd_client.get_cookie("manager") is None


@pytest.fixture
def hostile_client(odd_project):
    """A client with entries about names that are hard to show and to address."""
    new = [log.Entry(name, "contact", "<i>Ann</i>", "reached", note="=1+1") for name in NAMES]
    log.append(odd_project.contact_log, new, files.utc_now())
    return create_app(odd_project).test_client()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_shown_literally_and_can_be_written_about(hostile_client, odd_project, name):
    page = hostile_client.get("/list?view=all&q=", headers=BROWSER).text
    number = NAMES.index(name) + 1
    answer = hostile_client.get(f"/?saved={number}", headers=BROWSER).text
    url = html.unescape(re.search(r"Saved: <a href=\"([^\"]*)\"", answer)[1])
    page = hostile_client.get(url, headers=BROWSER)
    assert page.status_code == 200
    assert f"<bdi>{html.escape(name)}</bdi>" in page.text.replace("&#34;", "&quot;")
    assert "&lt;i&gt;Ann&lt;/i&gt;" in page.text
    assert not re.search(r"\sstyle=|\son\w+=|<script(?! src)|<i>", page.text)
    answer = post(hostile_client, url, seen=seen(page.text), outcome="not_reached")
    assert answer.status_code == 303
    assert entries(odd_project)[-1].client == name
    assert hostile_client.get(answer.location, headers=BROWSER).status_code == 200


def test_client_who_is_no_longer_current_keeps_the_page_and_the_entries(hostile_client):
    page = text_of(hostile_client.get("/client/😀", headers=BROWSER).text)
    assert "no longer a current client" in page and "Reached" in page


def test_unknown_client_is_a_page_for_browsers_and_json_for_programs(odd_client):
    answer = odd_client.get("/client/No one", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert 'name="q" value="No one"' in answer.text
    assert odd_client.get("/client/No one").json["code"] == "unknown_client"
    assert odd_client.get("/list?view=odd", headers=BROWSER).mimetype == "text/html"
    assert odd_client.get("/list?view=odd").json["code"] == "invalid_parameter"
    assert post(odd_client, "/client/No one", seen="0").status_code == 404


def test_log_that_cannot_be_written_loses_nothing_that_was_typed(
    odd_client, odd_project, first, monkeypatch
):
    def fail(*_):
        raise log.AttritionError(f"{odd_project.contact_log}: disk full")

    monkeypatch.setattr(log, "append", fail)
    answer = post(odd_client, first[1], seen="0", note="kept")
    assert answer.status_code == 422
    assert 'value="kept"' in answer.text
    assert "read or written now" in answer.text and str(odd_project.file.parent) not in answer.text


def test_damaged_log_is_named_and_nobody_is_listed(odd_project):
    odd_project.contact_log.write_bytes(b"damaged")
    client = create_app(odd_project).test_client()
    page = client.get("/", headers=BROWSER)
    assert page.status_code == 200
    assert "The contact log is damaged" in page.text and 'class="call"' not in page.text
    assert client.get("/list", headers=BROWSER).status_code == 503
    assert client.get("/client/now1", headers=BROWSER).status_code == 503
    assert odd_project.contact_log.read_bytes() == b"damaged"


def test_pages_without_value_manager_and_time(project):
    client = create_app(project).test_client()
    page = client.get("/", headers=BROWSER).text
    url = re.search(r'<h3><a href="([^"]*)"', page)[1]
    assert "EUR" not in page and "Clients of" not in page and "Sort by" not in page
    assert post(client, url, seen="0").status_code == 303
    assert "Value" not in text_of(client.get(url, headers=BROWSER).text)
    assert client.get("/list?order=risk", headers=BROWSER).status_code == 200
    assert client.get("/list?order=value_at_risk").status_code == 422


def test_days_begin_where_the_managers_work(odd_project):
    config = replace(odd_project, time_zone="Pacific/Kiritimati")
    entry = log.Entry("now9", "contact", "Ann", "reached")
    log.append(config.contact_log, [entry], "2026-11-28T20:30:00Z")
    page = create_app(config).test_client().get("/client/now9", headers=BROWSER).text
    assert "29 November 2026, 10:30" in page


# ---- a filled-in sheet


def upload(client, lines, name="anna.xlsx", **headers):
    data = {"sheet": (io.BytesIO(lines if isinstance(lines, bytes) else write(lines)), name)}
    return client.post("/list/sheet", data=data, headers=headers)


def test_a_view_downloaded_filled_in_and_uploaded_is_saved(odd_client, odd_project):
    answer = odd_client.get("/list.xlsx?view=all&manager=%40Bob")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=clients-all-")
    assert answer.data == odd_client.get("/list.xlsx?view=all&manager=%40Bob").data
    header, *rows = cells(answer.data)
    assert len(rows) == 50 and {row[header.index("client manager")] for row in rows} == {"@Bob"}
    rows[0][header.index("outcome")] = "not reached"
    rows[1][header.index("note")] = "busy"
    page = upload(odd_client, [[*header], *rows], Accept="text/html").text
    assert "1 line of anna.xlsx saved, 1 refused (line 3: outcome: choose a result)." in page
    assert "48 lines without an outcome" in page
    (entry,) = log.read(odd_project.contact_log)[0]
    assert (entry.client, entry.by) == (rows[0][header.index("client")], "@Bob")
    assert entry.via == "sheet 127.0.0.1"
    answer = upload(odd_client, [[*header], *rows])
    counts = {"saved": 0, "saved_before": 1, "nothing_filled_in": 48, "refused": 1}
    assert {name: answer.json[name] for name in counts} == counts
    assert answer.json["lines"][0]["verdict"] == "saved before"


def test_a_file_that_is_no_sheet_is_refused_with_the_reason(odd_client):
    for answer in (
        upload(odd_client, b"%PDF", "a.pdf"),
        upload(odd_client, [["a"], ["b"]]),
        odd_client.post("/list/sheet"),
    ):
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_sheet")
    form = "multipart/form-data; boundary=x"
    answer = odd_client.post("/list/sheet", data=bytes(3_000_000), content_type=form)
    assert answer.status_code == 413


def test_who_may_not_enter_sees_no_form_for_a_sheet(odd_client, monkeypatch):
    assert 'enctype="multipart/form-data"' in odd_client.get("/list").text
    monkeypatch.setitem(roles.VIEWS, roles.FEEDBACK, frozenset())
    monkeypatch.setitem(roles.VIEWS, roles.LEAD, frozenset())
    assert 'enctype="multipart/form-data"' not in odd_client.get("/list").text
    assert upload(odd_client, [HEADINGS]).status_code == 403
