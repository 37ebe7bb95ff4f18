"""Use every page in Chromium, with and without JavaScript, as client managers do."""

import csv
import io
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import axe_playwright_python
import pytest
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

from attrition import config_file
from attrition.access import credentials
from attrition.access.credentials import Credentials
from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.operations import dependencies
from attrition.storage import files
from tests.conftest import ROOT, make_rows, run_whole, write_config
from tests.effect.records import make_record, plant

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="needs Chromium (Debian: apt install chromium)"
)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
# The app, at a time that is ahead of the clock by so many days.
LAUNCH = """
import sys
from datetime import UTC, datetime, timedelta
from attrition.storage import files
days = timedelta(days=int(sys.argv.pop(1)))
files.utc_now = lambda: (datetime.now(UTC) + days).strftime(files.TIME)
import app
sys.exit(app.main(sys.argv[1:]))
"""

# A name has at most 200 characters, and no character that is invisible or turns the direction.
HOSTILE = [
    "<script>alert(1)</script>",
    "=1+1",
    "שלום עולם بعيد ltd.",
    "W" * 200,
    "🦄 Einhorn & Söhne 👍🏽 株式会社",
    'a/b?c=d#e%20f "quoted" \\ & <b>bold</b> {{ 1 }}',
]
COLUMNS = {
    "client": "corporation",
    "outcome": "exited",
    "numeric": ["lastmonth_activity", "lastyear_activity", "number_of_employees"],
    "time": "seen",
    "value": "worth",
    "manager": "manager",
    "due": "due",
    "phone": "phone",
    "email": "email",
}
MANAGERS = ["Ann Lee", "Bob <i>Ray</i>"]
WIDTHS = (390, 1440)


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A project after its first run, whose clients have every field and hostile names."""
    today = datetime.now(UTC).date()
    config = write_config(tmp_path_factory.mktemp("company"), columns=COLUMNS, contact_capacity=30)
    history, current = make_rows(400, prefix="past "), make_rows(80, seed=5, prefix="Client ")
    current.loc[: len(HOSTILE) - 1, "corporation"] = HOSTILE
    current.loc[: len(HOSTILE) - 1, "lastmonth_activity"] = 1  # a high risk: they are listed
    for name, rows, days in (("history", history, 60), ("current", current.assign(exited=""), 1)):
        rows.assign(
            seen=(today - timedelta(days=days)).isoformat(),
            worth=[1000 + 10 * i for i in range(len(rows))],
            manager=[MANAGERS[i % 2] for i in range(len(rows))],
            due=[(today + timedelta(days=20 + i)).isoformat() for i in range(len(rows))],
            phone="+44 20 7946 0123",
            email="office@client.example",
        ).to_csv(config.input_folder / f"{name}.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "ask_all", dict.fromkeys)
        assert run_whole(config) == 0
    enter_something(config, today)
    plant(config, make_record())
    return config


def enter_something(config, today):
    """Enter something of every kind, so that the pages show it."""

    def enter(client, kind, *more, days_ago=20, **fields):
        at = datetime.now(UTC) - timedelta(days=days_ago)
        entry = Entry(client, kind, "Ann " + "Lee" * 40, *more, via="page 127.0.0.1", **fields)
        (stored,), _ = log.append(config.contact_log, [entry], at.strftime(files.TIME))
        return stored

    def day(days):
        return (today + timedelta(days=days)).isoformat()

    first = enter("Client 70", log.CONTACT, log.NOT_REACHED, "N" * 300)
    enter("Client 70", log.CONTACT, log.REACHED, "<b>n</b> " * 40, replaces=first.id)
    moved = enter("Client 70", log.REASSIGNMENT, date=day(5), manager="M" * 150)
    enter("Client 70", log.WITHDRAWAL, note="wrong client", replaces=moved.id)
    enter("Client 70", log.REASSIGNMENT, date=day(5), manager="M" * 150)
    enter("Client 70", log.OVERRIDE, log.LEAVES, "their buyer leaves", day(60))
    enter("Client 71", log.CONTACT, log.REACHED, "asks for an offer", day(0))
    enter("Client 72", log.CONTACT, log.REACHED, "asks for a visit", day(-2))
    enter("Client 73", log.NOT_BEFORE, note="at a fair", date=day(9))
    enter(HOSTILE[3], log.CONTACT, "do_not_contact")


@contextmanager
def serving(config, *, days_ahead=0):
    """Serve a project on a free port from a process whose clock may be ahead; yield the address."""
    command = [sys.executable, "-c", LAUNCH, str(days_ahead)]
    command += ["--config", str(config.file), "--port", "0", "--workers", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        line = process.stdout.readline()
        port = re.search(r":(\d+) ", line)
        assert port, line + process.stderr.read()
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr, stderr


@pytest.fixture(scope="module")
def site(company):
    with serving(company) as address:
        yield address


@pytest.fixture(scope="module")
def site_of_tomorrow(company):
    with serving(company, days_ahead=1) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        # The sandbox does not work for root, as which CI runs.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page in a context of its own, and what went wrong in it."""

    def __init__(self, page, site):
        self.page, self.site, self.wrong = page, site, []
        page.set_default_timeout(30_000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", self._on_request)
        page.on("response", self._on_response)
        page.on("dialog", self._on_dialog)
        self.expected = set()

    def _on_console(self, message):
        if message.type in ("error", "warning") and not self._is_expected(message.text):
            self.wrong.append(f"console: {message.text}")

    def _is_expected(self, text):
        return any(f"status of {status}" in text for status in self.expected)

    def _on_request(self, request):
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.wrong.append(f"another host: {request.url}")

    def _on_response(self, response):
        if response.status >= 400 and response.status not in self.expected:
            self.wrong.append(f"{response.status}: {response.url}")

    def _on_dialog(self, dialog):
        if dialog.type != "beforeunload":
            self.wrong.append(f"dialog: {dialog.message}")
        dialog.accept()

    def open(self, path, *, expected=200):
        self.expected.add(expected)
        response = self.page.goto(self.site + path)
        assert response.status == expected, path

    def check(self):
        assert self.wrong == []


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def script(request):
    return request.param


@pytest.fixture
def new_tab(chromium, site, script):
    """Open tabs of one browser profile; after the test, nothing went wrong in any."""
    context = chromium.new_context(
        java_script_enabled=script, viewport={"width": 1440, "height": 900}, accept_downloads=True
    )
    tabs = []

    def open_tab(where=site):
        tabs.append(Tab(context.new_page(), where))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.check()
    context.close()


@pytest.fixture
def tab(new_tab):
    return new_tab()


def client_path(name):
    return "/client/" + quote(name, safe="")


PATHS = {
    "today": "/?manager=",
    "list": "/list",
    "all clients": "/list?view=all",
    "search without result": "/list?view=all&q=nobody",
    "client": client_path("Client 70"),
    "effect": "/effect",
    "model": "/model",
    "data": "/data",
    "system": "/system",
    "docs": "/docs",
    **{f"hostile {n}": client_path(name) for n, name in enumerate(HOSTILE)},
}


# ---- each page


@pytest.mark.parametrize("name", PATHS)
def test_page_fits_reads_well_and_asks_nobody_else(tab, script, name):
    tab.open(PATHS[name])
    open_all(tab.page)
    for scheme, widths in (("light", WIDTHS), ("dark", WIDTHS[::-1])):
        tab.page.emulate_media(color_scheme=scheme)
        for width in widths:
            tab.page.set_viewport_size({"width": width, "height": 900})
            assert overflow(tab.page) == [], f"{width} px"
            assert spilling(tab.page) == [], f"{width} px"
        if script:  # at one width for each scheme, because axe is slow
            assert findings(tab.page) == [], scheme


def open_all(page):
    """Open whatever can be opened, so that it is checked too."""
    page.evaluate(
        """() => {
            const all = [...document.querySelectorAll("main details")];
            for (const one of all) one.removeAttribute("name");
            for (const one of all) one.open = true;
        }"""
    )


def overflow(page):
    """Name the elements that reach beyond the width of the page, if it can be scrolled sideways."""
    return page.evaluate(
        """() => {
            const width = innerWidth, root = document.scrollingElement;
            if (root.scrollWidth <= width) return [];
            return [...document.body.querySelectorAll("*")]
                .filter((one) => one.getBoundingClientRect().right > width + 1)
                .map((one) => one.outerHTML.slice(0, 120)).slice(-5);
        }"""
    )


def spilling(page):
    """Name the elements with content that is wider than they are, where nothing lets it scroll."""
    return page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((one) => {
            const style = getComputedStyle(one);
            return one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 1
                && style.display !== "inline" && style.overflowX === "visible"
                && !one.closest(".scroll, svg, .unseen");
        }).map((one) => `${one.scrollWidth} in ${one.clientWidth}: ${one.outerHTML.slice(0, 150)}`)
        .slice(-3)"""
    )


def findings(page):
    """Return the serious findings of axe-core, each with the first element that it is about."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE)
    violations = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:150]} ({len(one['nodes'])} in all)"
        f" {one['nodes'][0]['failureSummary'][:300]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


# ---- what client managers do, each with and without JavaScript


def own(script, first, count=1):
    """Name clients of this test alone: others with JavaScript than without."""
    first += 0 if script else count
    names = [f"Client {number}" for number in range(first, first + count)]
    return names if count > 1 else names[0]


def day_ahead(days):
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def form(page, title):
    """Open one of the forms of a page."""
    section = page.locator("details.entry-form").filter(has=page.get_by_text(title, exact=True))
    if section.get_attribute("open") is None:
        section.locator("summary").click()
    return section


def record(page, note, *, outcome="reached", date=""):
    """Fill in the form of a contact; it is not saved yet."""
    contact = form(page, "Record a contact")
    contact.get_by_label(outcome, exact=True).check()
    contact.get_by_label("Note").fill(note)
    contact.get_by_label("Call again on").fill(date)
    contact.get_by_label("Your name").fill("Ann Lee")
    return contact


def save(section, button="Save"):
    """Press a button, and wait until the page that confirms it is there."""
    page = section.page
    section.get_by_role("button", name=button).click()
    page.locator(".notice[role=status]").wait_for()
    page.wait_for_load_state()


def entries(tab, name):
    """Return what the log has about a client, from the API."""
    answer = tab.page.request.get(f"{tab.site}/clients/{quote(name, safe='')}/entries")
    assert answer.ok
    return answer.json()["entries"]


def names_on(tab, path):
    """Open an address, and return the names of the clients on it, as the browser shows them."""
    tab.open(path)
    return tab.page.locator("tbody th bdi").evaluate_all("all => all.map((one) => one.textContent)")


def test_client_is_found_by_a_part_of_the_name_from_any_page(tab):
    tab.open("/system")
    search = tab.page.get_by_label("Find a client by name")
    search.fill("sohne EINHORN")
    search.press("Enter")
    tab.page.get_by_role("link", name=HOSTILE[4]).click()
    assert tab.page.locator("h1 bdi").text_content() == HOSTILE[4]


def test_hostile_names_are_shown_literally(tab):
    assert set(HOSTILE) <= {*names_on(tab, "/list?view=all"), *names_on(tab, "/list?view=resting")}
    for name in HOSTILE:
        tab.open(client_path(name))
        assert tab.page.locator("h1 bdi").text_content() == name
        assert tab.page.title().startswith(" ".join(name.split()))


def test_follow_up_of_tomorrow_is_due_tomorrow(new_tab, site_of_tomorrow, script):
    name, tab, tomorrow = own(script, 10), new_tab(), new_tab(site_of_tomorrow)
    tab.open(client_path(name))
    save(record(tab.page, "call after the meeting", date=day_ahead(1)))
    due = "section:has(#block-due)"
    tab.open("/?manager=")
    assert tab.page.locator(due).get_by_role("link", name=name).count() == 0
    tomorrow.open("/?manager=")
    assert tomorrow.page.locator(due).get_by_role("link", name=name).is_visible()


def test_contact_is_recorded_from_the_list_of_the_day(tab):
    tab.open("/?manager=Ann+Lee")
    first = tab.page.locator("li.call").first
    name = first.locator("h3 bdi").text_content()
    first.locator("summary").click()
    first.get_by_label("Result").select_option("not_reached")
    first.get_by_label("Note").fill("mailbox")
    first.get_by_label("Note").press("Enter")
    tab.page.locator(".notice[role=status]").wait_for()
    entry = entries(tab, name)[-1]
    assert (entry["outcome"], entry["note"], entry["by"]) == ("not_reached", "mailbox", "Ann Lee")
    assert name not in tab.page.locator("li.call h3 bdi").all_text_contents()


def test_three_clients_are_put_off_at_once(tab, script):
    names = own(script, 12, 3)
    tab.open("/list?view=all&q=client+1")
    for name in names:
        tab.page.get_by_label(f"Tick {name}", exact=True).check()
    section = form(tab.page, "Snooze until a date")
    section.get_by_label("Reason").fill("holidays of the plant")
    section.get_by_label("Your name").fill("Ann Lee")
    save(section, "Snooze for 1 week")
    assert set(names) <= set(names_on(tab, "/list?view=resting"))
    assert [entries(tab, name)[-1]["date"] for name in names] == 3 * [day_ahead(7)]


def test_other_view_of_a_client_counts(tab, script):
    name = own(script, 20)
    tab.open(client_path(name))
    section = form(tab.page, "I disagree with the risk")
    section.get_by_label("will leave").check()
    section.get_by_label("Reason").fill("the buyer told me")
    section.get_by_label("Your name").fill("Ann Lee")
    save(section)
    assert name in names_on(tab, "/list?view=overridden")
    assert name in names_on(tab, "/list?view=list")


def test_client_is_handed_over_until_a_date(tab, script):
    name = own(script, 22)
    tab.open(client_path(name))
    section = form(tab.page, "Hand over to a colleague")
    section.get_by_label("To whom").fill("Zoë Zhang")
    section.get_by_label("Until (inclusive)").fill(day_ahead(14))
    section.get_by_label("Your name").fill("Ann Lee")
    save(section)
    assert name in names_on(tab, "/list?view=all&manager=Zo%C3%AB+Zhang")


def test_corrected_entry_stays_visible_and_counts_no_more(tab, script):
    name = own(script, 24)
    tab.open(client_path(name))
    save(record(tab.page, "nobody there", outcome="not reached"))
    tab.page.get_by_role("link", name="Correct", exact=True).click()
    section = form(tab.page, "Record a contact")
    assert section.get_by_label("Note").input_value() == "nobody there"
    section.get_by_label("reached", exact=True).check()
    save(section)
    assert [(e["outcome"], e["counts"]) for e in entries(tab, name)] == [
        ("not_reached", False),
        ("reached", True),
    ]
    assert tab.page.locator(".events s").all_text_contents() == ["Not reached"]


def test_entry_is_withdrawn_from_its_confirmation(tab, script):
    name = own(script, 26)
    tab.open(client_path(name))
    save(record(tab.page, "wrong client"))
    tab.page.get_by_role("button", name="Undo").click()
    tab.page.locator(".events s").wait_for()
    assert [e["counts"] for e in entries(tab, name)] == [False, False]


def test_ticked_clients_are_exported_and_no_name_is_a_formula(tab, script):
    tab.open("/list?view=all")
    for name in ("=1+1", HOSTILE[5]):
        tab.page.get_by_label(f"Tick {name}", exact=True).check()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Download the ticked clients as CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    names = [row["client"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert sorted(names) == ["'=1+1", HOSTILE[5]]


def test_double_click_and_back_button_make_one_record(tab, script):
    name = own(script, 28)
    tab.open(client_path(name))
    contact = record(tab.page, "once")
    contact.get_by_role("button", name="Save").dblclick()
    tab.page.locator(".notice[role=status]").wait_for()
    assert len(entries(tab, name)) == 1
    tab.page.go_back()
    save(record(tab.page, "once"))
    assert [e["note"] for e in entries(tab, name)] == ["once"]


def test_stale_form_keeps_what_was_typed_and_can_be_saved_anyway(new_tab, script):
    name, one, other = own(script, 30), new_tab(), new_tab()
    for tab in (one, other):
        tab.open(client_path(name))
    save(record(one.page, "first"))
    other.expected.add(409)
    contact = record(other.page, "second", outcome="wrong contact person")
    contact.get_by_role("button", name="Save").click()
    other.page.get_by_role("alert").filter(has_text="first").wait_for()
    contact = form(other.page, "Record a contact")
    assert contact.get_by_label("Note").input_value() == "second"
    assert contact.get_by_label("wrong contact person").is_checked()
    assert len(entries(one, name)) == 1
    save(contact, "Save anyway")
    assert [e["note"] for e in entries(one, name)] == ["first", "second"]


def test_fault_is_shown_beside_its_field_and_nothing_is_lost(tab, script):
    name = own(script, 32)
    tab.open(client_path(name))
    tab.expected.add(422)
    contact = record(tab.page, "kept")
    contact.get_by_label("Your name").fill(" ")
    contact.get_by_role("button", name="Save").click()
    fault = tab.page.locator("p.error")
    fault.wait_for()
    contact = form(tab.page, "Record a contact")
    assert contact.get_by_label("Your name").get_attribute("aria-invalid") == "true"
    assert contact.get_by_label("Note").input_value() == "kept"
    if script:
        assert findings(tab.page) == []
    assert entries(tab, name) == []


def test_contact_is_recorded_with_the_keyboard_alone(tab, script):
    name = own(script, 34)
    tab.open(client_path(name))
    if script:  # a clicked summary would have had the focus
        assert tab.page.evaluate("() => document.activeElement === document.body")
    walk_to(tab.page, "input[type=radio][value=reached]")
    tab.page.keyboard.press("Space")
    walk_to(tab.page, "details[open] input[name=note]")
    tab.page.keyboard.type("by keyboard")
    walk_to(tab.page, "details[open] input[name=by]")
    tab.page.keyboard.type("Ann Lee")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".notice[role=status]").wait_for()
    assert [(e["outcome"], e["note"]) for e in entries(tab, name)] == [("reached", "by keyboard")]


def walk_to(page, selector):
    """Press Tab until an element has the focus, which must be visible."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.locator(":focus").count() and page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_choice_of_the_manager_is_remembered(tab, script):
    tab.open("/?manager=")
    tab.page.get_by_label("Clients of").select_option("Ann Lee")
    if not script:
        tab.page.get_by_role("button", name="Show").click()
    tab.page.locator(".me").wait_for()
    tab.open("/")
    assert tab.page.locator(".me").text_content() == "Clients of Ann Lee"
    shown = tab.page.locator("li.call").count()
    tab.open("/?manager=")
    assert 0 < shown < tab.page.locator("li.call").count()


def test_form_of_another_site_is_refused(tab, script):
    name = own(script, 36)
    action = tab.site + client_path(name)
    tab.expected.add(403)
    tab.page.set_content(
        f"""<form method="post" action="{action}"><input name="outcome" value="reached">
        <input name="by" value="x"><button name="action" value="contact">Win</button></form>"""
    )
    with tab.page.expect_response(action) as response:
        tab.page.get_by_role("button").click()
    assert response.value.status == 403
    assert entries(tab, name) == []


def test_each_manager_has_a_printed_page(tab, tmp_path):
    tab.open("/?manager=")
    tab.page.pdf(path=tmp_path / "today.pdf", format="A4")
    pages = [page.extract_text() for page in PdfReader(tmp_path / "today.pdf").pages]
    titles = [page.count("whom to call") for page in pages]
    assert max(titles) == 1
    assert sum(titles) == tab.page.locator(".paper section").count() >= len(MANAGERS)
    assert titles[0] == 1


def test_what_was_typed_is_not_lost_without_a_question(chromium, site):
    page = chromium.new_page()
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.goto(site + client_path("Client 9"))
    record(page, "typed")
    with page.expect_event("dialog") as asked:
        page.get_by_role("link", name="Today").click(no_wait_after=True)
    assert asked.value.type == "beforeunload"
    assert form(page, "Record a contact").get_by_label("Note").input_value() == "typed"
    page.close()


# ---- who is there


PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
def closed_site(company, tmp_path_factory):
    """The same project, in which somebody has to sign in."""
    folder = tmp_path_factory.mktemp("closed") / "company"
    shutil.copytree(company.file.parent, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    access = Credentials(config.tokens, config.users)
    credentials.set_user(access, "Ann Lee", ["feedback"], None, PASSWORD)
    with serving(config) as address:
        yield address


@pytest.fixture
def other_site(tmp_path, closed_site):
    """Another site with a link to ours, as an e-mail in a browser has it."""
    (tmp_path / "index.html").write_text(f'<a href="{closed_site}/list?view=all">Our list</a>')
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


def test_somebody_signs_in_follows_a_link_of_another_site_and_signs_out(
    new_tab, closed_site, other_site, script
):
    tab = new_tab(closed_site)
    page = tab.page
    tab.open("/list?view=all", expected=401)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert overflow(page) == []
    if script:
        assert findings(page) == []
    page.get_by_label("Name").fill("ann lee")
    page.get_by_label("Password or token").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    assert page.url == f"{closed_site}/list?view=all"
    assert page.locator(".signed-in").inner_text().startswith("Ann Lee")

    tab.site = "http://"  # the other one is another host
    tab.expected.add(404)  # its icon
    page.goto(other_site)
    page.get_by_role("link", name="Our list").click()
    page.locator(".signed-in").wait_for()
    assert page.url == f"{closed_site}/list?view=all"

    page.goto(closed_site)
    assert overflow(page) == []
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(f"{closed_site}/list")
    page.get_by_role("heading", name="Sign in").wait_for()
