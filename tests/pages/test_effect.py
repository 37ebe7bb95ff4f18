"""The page “Does calling help?”, and the same in the API and on Today."""

import re
from html import unescape

import jsonschema_rs
import pytest

from app import create_app
from attrition.access import credentials
from attrition.access.credentials import Credentials
from attrition.contacts import assignments, experiment, log
from attrition.contacts.experiment import Assignment
from attrition.contacts.log import Entry
from attrition.storage import files
from tests.apps import enter
from tests.effect.records import FIRST, make_open, make_record, plant

PATHS = ("/effect", "/experiment")
NOTHING = dict.fromkeys(("z", "effect", "per_reached", "money"))
NO_ESTIMATE = FIRST | NOTHING | {"verdict": "void"}


def text_of(page):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).replace("\xa0", " ").split())


def app_of(config, experiment):
    plant(config, experiment)
    return create_app(config).test_client()


def test_first_line_of_the_page_is_the_verdict(project):
    page = app_of(project, make_record()).get("/effect").text
    (heading,) = re.findall("<h1>(.*?)</h1>", page)
    assert text_of(heading).startswith(
        "Contacting keeps clients: 8 fewer in 100 left (95 % interval"
    )
    text = text_of(page)
    for part in (
        "EUR 1.2 M",
        "Held out by chance",
        "sample ratio",
        "600 of 631; differences from the draw: 0",
        "25 clients who would be listed are held out",
    ):
        assert part.lower() in text.lower()
    assert page.count('class="whisker first"') == 2
    assert not re.search(r"<script>|<style|\sstyle=|https?://|\son\w+=", page)


def test_looks_are_a_chart_and_a_table(project):
    text = text_of(app_of(project, make_record()).get("/effect").text)
    assert "Apr 2026 +10.0 (+1.0 to +19.0) not proven" in text
    assert "Jul 2026 +8.0 (+2.0 to +14.0) proven" in text


@pytest.mark.parametrize(
    "experiment",
    [
        make_open(),
        make_open(last_look=FIRST),
        make_open(last_look=NO_ESTIMATE),
        make_record(
            units=make_open()["units"], ratio=None, reached={"treated": None, "control": None}
        ),
        make_open(state="no_key", next_look=None, held_out=0),
        make_record(verdict="void", ratio={**make_record()["ratio"], "observed": 0.3, "p": 0.0}),
        make_record(verdict="no_effect"),
        make_record(verdict="harms"),
    ],
)
def test_page_answers_whatever_is_known(project, experiment):
    client = app_of(project, experiment)
    page = client.get("/effect").text
    assert client.get("/experiment").json["sentences"][0] in unescape(page)


def test_page_without_a_figure_has_no_tile_for_it(project):
    page = text_of(app_of(project, make_open(last_look=NO_ESTIMATE)).get("/effect").text)
    assert "Outcomes compared 500 at look 1 of 4; 115 still open Next look 1 Jul 2026" in page
    assert "Value kept" not in page and "left in 100 listed" not in page


def test_missing_key_is_shown_once(project):
    page = text_of(app_of(project, make_open(state="no_key")).get("/effect").text)
    assert page.count("nobody new is held out") == 1


def test_without_an_experiment_the_page_describes_what_one_would_take(client):
    page = text_of(client.get("/effect").text)
    assert "“experiment” in config.json" in page
    assert client.get("/experiment").json["experiment"] is None
    assert client.get("/experiment").json["sentences"] == []


def test_today_counts_those_held_out(project):
    client = app_of(project, make_record())
    assert "25 clients who would be listed are held out by chance this quarter" in text_of(
        client.get("/").text
    )
    assert "held out" not in app_of(project, None).get("/").text


def test_lead_sees_who_is_held_out_this_quarter_and_who_was_contacted_all_the_same(project):
    now = files.utc_now()
    quarter = experiment.quarter_of(project.day(now))

    def assign(client, arm="control", quarter=quarter):
        return Assignment(client, quarter, arm, now, "r", 1, 0.71, 3_000.0, "", 0.2)

    assigned = [assign("<b>Ann</b>"), assign("now1"), assign("now2", "treated")]
    assignments.append(project.contact_log, [*assigned, assign("now3", quarter="2020-Q1")])
    enter(project, Entry("now1", log.CONTACT, "Bob", log.REACHED))
    page = app_of(project, make_record(quarter=quarter)).get("/effect").text
    (table,) = re.findall('<table class="framed cards">(.*?)</table>', page, re.DOTALL)
    rows = [text_of(row) for row in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)][1:]
    assert rows == ["<b>Ann</b> today 71 %", "now1 today 71 % today"]
    assert "<b>Ann" not in page


def test_answer_of_the_api_is_described(project):
    client = app_of(project, make_record())
    document = client.get("/openapi.json").json
    schema = document["components"]["schemas"]["Experiment"] | {
        "components": document["components"]
    }
    answer = client.get("/experiment").json
    jsonschema_rs.Draft202012Validator(schema | {"additionalProperties": False}).validate(answer)
    assert answer["experiment"]["last_look"]["money"]["value"] == 1.2e6


@pytest.mark.parametrize("role", ["read", "feedback", "operate", "lead"])
def test_only_the_lead_sees_the_experiment(project, role):
    plant(project, make_record())
    access = Credentials(project.tokens, project.users)
    token = credentials.add_token(access, "somebody", [role], None)
    client = create_app(project).test_client()
    headers = {"Authorization": f"Bearer {token}"}
    expected = 200 if role == "lead" else 403
    assert [client.get(path, headers=headers).status_code for path in PATHS] == [expected] * 2
    model = client.get("/model", headers=headers).text
    assert ('href="/effect"' in model) is (role == "lead")
