"""The pages as they are read; test_forms.py has what is entered on them."""

import html
import re
import shutil
from dataclasses import replace

import pandas as pd
import pypdf
import pytest

import assessment
import deployment
import reporting
from app import create_app
from attrition import wording
from attrition.config import Label
from attrition.contacts import log
from attrition.data.cells import Caution, Reason
from attrition.operations import releases
from attrition.pages import today
from attrition.reporting.report_data import ReportData
from attrition.storage import files, history
from tests.apps import day_after, deploy_again, enter, rewrite
from tests.conftest import damage


def text_of(page):
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def caution(config, *cautions, of):
    """Let the assessment say of clients, by name, why their risk is to be read with care."""

    def change(table):
        return table.assign(
            cautions=[[*cautions] if name in of else [] for name in table["client"]]
        )

    rewrite(config, change)


def test_uncertain_client_is_marked(client, project):
    name = client.get("/clients?limit=1").json["clients"][0]["client"]
    few = Caution("few_clients")
    caution(project, Caution("unknown_level", "<a>; b", "x"), few, of=[name])
    texts = ["unknown category of <a>; b", "trained on few clients"]
    assert client.get(f"/clients/{name}").json["low_confidence"] == texts
    assert client.get("/clients?limit=2").json["clients"][1]["low_confidence"] == []
    page = client.get(f"/client/{name}").text
    assert "Read with care: unknown category of &lt;a&gt;; b" in page


def test_caution_about_all_clients_is_shown_once(client, project):
    names = pd.read_csv(project.risk_scores)["client"]
    caution(project, Caution("few_clients"), of=set(names))
    page = client.get("/").text
    assert page.count("trained on few clients") == 1
    assert "Treat all of them with caution: trained on few clients." in page


def test_level_with_a_semicolon_is_one_reason(client, project):
    plan = Reason("plan", "plan A; legacy", "plan B", 0.7)
    reasons = [[plan]]
    rewrite(
        project,
        lambda table: table.assign(reasons=reasons * len(table), list_reasons=reasons * len(table)),
    )
    text = "plan: plan A; legacy (baseline: plan B)"
    row = client.get("/clients?limit=1").json["clients"][0]
    answer = client.get(f"/clients/{row['client']}").json
    assert row["reasons"] == answer["reasons"] == [text]
    assert answer["reasons_detail"] == [
        {"feature": "plan", "value": "plan A; legacy", "baseline": "plan B", "contribution": 0.7}
    ]
    assert client.get("/").text.count(f"<li>{text}</li>") == 20


def blocks_of(page):
    """The clients of each block of Today, and the number beside its title."""
    blocks = {}
    for section in page.split('<section class="section" aria-labelledby="block-')[1:]:
        count = re.search(r'class="count">([\d,]+)<', section)[1]
        names = re.findall(r"<h3><a [^>]*><bdi>([^<]*)</bdi>", section)
        blocks[section[: section.index('"')]] = (names, int(count))
    return blocks


def sentence_of(page):
    return re.search(r"<h1>(.*?)</h1>", page)[1]


def test_pages_load_nothing_from_elsewhere_and_link_to_what_exists(odd_client):
    for address in ("/", "/list?view=list"):
        page = odd_client.get(address).text
        assert not re.search(r"<script>|\sstyle=|https?://|\son\w+=|<b>bold", page)
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
        for path in {*re.findall(r'(?:src|href)="(/[^"#]*)', page)}:
            answer = odd_client.get(html.unescape(path), buffered=True)
            assert answer.status_code == 200, path


def test_sentence_counts_what_the_blocks_show(odd_client, odd_project):
    page = odd_client.get("/").text
    assert sentence_of(page) == "30 to call today"
    assert {name: count for name, (_, count) in blocks_of(page).items()} == {"rest": 30}
    (first, second, third, risen, *_), _ = blocks_of(page)["rest"]
    names = [html.unescape(name) for name in (first, second, third, risen)]
    for name, due in zip(names[:3], (-3, 0, 2), strict=True):
        entry = log.Entry(name, "contact", "Ann", "not_reached", date=day_after(due))
        enter(odd_project, entry, days_ago=9)

    def change(table):
        is_risen = table["client"] == names[3]
        return table.assign(
            previous_rank=table["list_rank"], risk_change=is_risen * 0.2, changes=[[]] * len(table)
        )

    rewrite(odd_project, change)
    page = odd_client.get("/").text
    blocks = blocks_of(page)
    assert [blocks[name][1] for name in ("overdue", "due", "new", "rest")] == [1, 1, 2, 26]
    assert all(len(shown) == count for shown, count in blocks.values())
    assert blocks["overdue"][0] == [first] and blocks["due"][0] == [second]
    assert risen in blocks["new"][0]
    everybody = [name for shown, _ in blocks.values() for name in shown]
    assert len(everybody) == len({*everybody}) == 30
    assert third not in everybody
    start = "30 to call today: 1 overdue, 1 due today, 1 got much worse since "
    assert sentence_of(page).startswith(start)
    assert "Follow-up was due" in page and "Last contact 9 days ago: not reached (Ann)" in page


def test_list_of_a_manager_has_the_clients_of_theirs_and_those_handed_over(odd_client, odd_project):
    names, _ = blocks_of(odd_client.get("/?manager=%40Bob").text)["rest"]
    page = odd_client.get("/?manager=").text
    other = next(name for name in blocks_of(page)["rest"][0] if name not in names)
    moved = log.Entry(
        html.unescape(other), "reassignment", "Ann", manager="@Bob", date=day_after(9)
    )
    enter(odd_project, moved)
    page = odd_client.get("/?manager=%40Bob").text
    assert {*blocks_of(page)["rest"][0]} == {*names, other}
    assert sentence_of(page) == f"{len(names) + 1} to call today"
    assert "No client of &lt;i&gt;" in odd_client.get("/?manager=<i>").text


def test_printed_list_has_every_client_once_by_manager(odd_client):
    page = odd_client.get("/").text
    paper = page[page.index('<div class="paper">') :]
    assert re.findall(r"<h2><bdi>([^<]*)</bdi>", paper) == ["@Bob", "Ann"]
    assert paper.count('<th scope="row">') == 30


def test_printed_list_is_whole_where_the_screen_shows_the_first(odd_client, monkeypatch):
    monkeypatch.setattr(today, "TODAY_SHOWN", 20)
    page = odd_client.get("/").text
    assert len(blocks_of(page)["rest"][0]) == 20
    assert page[page.index('<div class="paper">') :].count('<th scope="row">') == 30


def test_long_list_is_cut_to_a_hundred_and_shown_in_full_when_asked(odd_project):
    config = replace(odd_project, contact_capacity=110)
    client = create_app(config).test_client()
    page = client.get("/").text
    (names, count) = blocks_of(page)["rest"]
    assert (len(names), count) == (100, 100)
    assert sentence_of(page) == "100 to call today"


def test_ended_contracts_and_follow_ups_without_a_place_are_named(odd_project):
    config = replace(odd_project, contact_capacity=1)
    today = day_after(0)
    for name in ("now651", "now652", "now653"):
        enter(config, log.Entry(name, "contact", "Ann", "not_reached", date=today), days_ago=9)
    rewrite(
        config,
        lambda table: table.assign(
            due=[day_after(-1) if name in ("now658", "now659") else "" for name in table["client"]]
        ),
    )
    client = create_app(config).test_client()
    page = client.get("/").text
    assert "The contracts of 2 clients have ended: too late to save." in page
    assert "2 follow-ups are due, but there is no place for them on the list." in page
    for view, count in (("past_due", 2), ("waiting", 2)):
        assert f"{count} clients" in text_of(client.get(f"/list?view={view}").text)
    assert "Off the list: the contract has ended." in client.get("/client/now659").text


def test_team_has_a_row_for_each_manager_and_no_savings(odd_client):
    page = text_of(odd_client.get("/").text)
    assert "The team" in page and "We do not count saved clients per manager" in page
    assert "The team" not in text_of(odd_client.get("/?manager=Ann").text)


def test_label_is_shown_instead_of_the_name_of_the_column(project):
    label = Label("lastmonth_activity", "logins & <b>", "a month", fixed=True)
    config = replace(project, labels={"lastmonth_activity": label})
    client = create_app(config).test_client()
    page = client.get("/").text
    assert re.search(r"<li>logins &amp; &lt;b&gt;: [\d,.]+ a month \(baseline: ", page)
    assert "lastmonth activity" not in page
    row = client.get("/clients?limit=1").json["clients"][0]
    answer = client.get(f"/clients/{row['client']}").json
    assert any(text.startswith("logins & <b>: ") for text in answer["reasons"])
    assert "lastmonth_activity" in {reason["feature"] for reason in answer["reasons_detail"]}
    assert "lastmonth_activity" in answer["features"]


def test_one_thing_has_one_number_everywhere(odd_client, odd_project):
    """Expected leavers and value at risk, of all clients and of the list, wherever they are shown."""
    record = files.read_record(odd_project.assessment_record)
    estimate = odd_client.get("/diagnostics").json["estimate"]
    assert record["expected_to_leave"] == estimate["expected"]
    assert record["value_at_risk"] == estimate["value_at_risk"]
    assert record["list"]["expected_to_leave"] == estimate["listed"]
    assert record["list"]["value_at_risk"] == estimate["listed_value_at_risk"]
    page = " ".join(text_of(odd_client.get(path).text) for path in ("/", "/model"))
    pdf = " ".join(p.extract_text() for p in pypdf.PdfReader(odd_project.report).pages)
    texts = {
        "page": page,
        "pdf": " ".join(pdf.split()),
        "console": " ".join(assessment.assess_clients(odd_project).summary().split()),
    }
    expected = {
        "leaving": wording.count(estimate["expected"]),
        "listed": wording.count(estimate["listed"]),
        "at risk": wording.amount(estimate["value_at_risk"], short=True),
        "listed at risk": wording.amount(estimate["listed_value_at_risk"], short=True),
        "share": wording.share_listed(record),
    }
    patterns = {
        "leaving": (
            r"Expected to leave (\d+) 95",
            r"(\d+) Expected to leave",
            r"[Ee]xpected to leave: (\d+) of",
            r"(?<!the contact list who leave )clients who leave (\d+)",
        ),
        "listed": (
            r"(\d+) of the \d+ on the contact list",
            r"on the contact list, (\d+)",
            r"clients on the contact list who leave (\d+)",
        ),
        "at risk": (
            r"Value at risk, EUR ([\d.,M ]+?) of",
            r"(?<!to )(?<!\d)([\d.,]+M?) Value at risk",
        ),
        "listed at risk": (
            r"EUR ([\d.,]+) of their value",
            r"value at risk on the contact list ([\d.,]+)",
        ),
        "share": (r"(\d+ % of the value at risk)",),
    }
    for name, all_ in patterns.items():
        shown = {
            (where, number)
            for where, text in texts.items()
            for p in all_
            for number in re.findall(p, text)
        }
        assert {number for _, number in shown} == {expected[name].replace("\xa0", " ")}, name
        assert {where for where, _ in shown} >= {"page", "pdf"}, name


def test_today_is_sorted_by_risk_with_one_click(odd_client):
    page = odd_client.get("/").text
    assert "the highest value at risk first" in page
    (link,) = re.findall(r'<a href="([^"]*)">Sort by risk</a>', page)
    page = odd_client.get(html.unescape(link)).text
    assert "the highest risk first" in page
    screen = page[: page.index('<div class="paper">')]
    risks = [float(width) for width in re.findall(r'<rect class="fill" width="([\d.]+)"', screen)]
    assert risks == sorted(risks, reverse=True) and len(risks) == 30


def test_dashboard_without_a_model_names_the_next_step(empty_project):
    answer = create_app(empty_project).test_client().get("/")
    assert answer.status_code == 200
    assert "No model is in production yet" in answer.text
    assert "fullprocess.py" in answer.text


@pytest.mark.parametrize(
    "file", ["monitoring_record", "assessment_record", "diagnostics_record", "report_record"]
)
def test_dashboard_and_health_name_the_damaged_file(client, project, file):
    path = getattr(project, file)
    damage(path)
    page = client.get("/").text
    assert 'role="alert"' in page
    assert f"The file {path.name} is damaged" in page
    assert f"{path.name} is damaged" in client.get("/health").json["warnings"][0]


def test_verdict_on_another_release_is_not_shown_for_this_one(client, project):
    monitoring = files.read_record(project.monitoring_record)
    current = releases.current_id(project.production_folder)
    shown = {}
    for release in (current, "20200101T000000Z-00000000"):
        performance = {**monitoring["performance"], "verdict": "degraded", "sentence": "worse"}
        record = files.sealed({**monitoring, "release": release, "performance": performance})
        files.write_bytes(project.monitoring_record, files.encode(record))
        shown[release == current] = client.get("/health").json["status"], client.get("/").text
    assert shown[True][0] == "degraded"
    assert "The model is no longer accurate" in shown[True][1]
    assert shown[False][0] == "ok"
    assert "A model is in production" in shown[False][1]


def test_dashboard_stands_on_a_model_alone(client, project):
    shutil.rmtree(project.reports_folder)
    project.monitoring_record.unlink()
    page = client.get("/")
    assert page.status_code == 200
    assert "A model is in production" in page.text


def test_rollback_is_named_on_page_one_on_the_page_of_the_model_and_by_scoring(client, project):
    first = releases.current_id(project.production_folder)
    second = deploy_again(project)
    at = {"at": files.utc_now(), "made": "x", "action": "promoted", "release": second}
    history.save(project.history, "deployments", [at | {"reason": "deployed: proven better"}])
    deployment.roll_back(project, None)
    row = history.read_deployments(project.history)[-1]
    sentence = (
        f"olled back by hand on {wording.moment(row['at'])}, from {second} to {first}; "
        "nothing newer is deployed until there is news"
    )
    assert f"R{sentence.partition(';')[0]}" in text_of(client.get("/model").text)
    latest = client.get("/scoring").json["latest_decision"]
    assert latest == {
        "decided_at": row["at"],
        "promoted": False,
        "rule": "rolled_back",
        "reason": f"r{sentence}",
        "release": first,
    }
    reporting.write_report(project)
    page = " ".join(pypdf.PdfReader(project.report).pages[0].extract_text().split())
    assert f"R{sentence}" in page
    assert "proven better" not in page


def test_dashboard_without_a_readable_history_shows_the_last_decision(client, project):
    project.history.write_bytes(b"damaged")
    assert "First model deployed" in client.get("/model").text


def test_base_rate_is_never_called_accurate(project):
    release = releases.read_current(project.production_folder)
    training = {**release.training, "kind": "base rate"}
    performance = {"verdict": "degraded", "sentence": "fewer clients left than expected: 9 of 300"}
    data = ReportData(
        release=release.id,
        training=training,
        monitoring={"release": release.id, "performance": performance},
    )
    assert data.state.title == "All clients have the same risk"
    assert "Fewer clients left than expected: 9 of 300." in data.state.sentence
    assert "accurate" not in data.state.sentence


def test_clients_of_the_rows_and_current_clients_are_counted_apart(client):
    data = client.get("/diagnostics").json["data"]
    assert (data["rows"], data["clients"], data["current_clients"]) == (800, 800, 200)
    page = text_of(client.get("/data").text)
    assert "800 rows of 800 clients, 200 of them current" in page


@pytest.mark.parametrize(
    ("inputs", "seen", "expected"),
    [
        ({"contacts": "3 seal", "day": "2026-11-28"}, 3, True),
        ({"contacts": "3 seal", "day": "2026-11-28"}, 4, False),
        ({"contacts": "3 seal", "day": "2026-11-27"}, 3, False),
        ({"contacts": "", "day": ""}, 0, True),
        ({}, 0, True),  # of an earlier version
    ],
)
def test_figures_of_the_list_are_shown_as_long_as_they_are_those_of_the_list(
    inputs, seen, expected
):
    assert today.is_assessed({"inputs": inputs}, "2026-11-28", seen) is expected
