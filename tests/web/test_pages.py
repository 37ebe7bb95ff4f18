"""The dashboard."""

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
from attrition.data.cells import Caution, Reason
from attrition.operations import releases
from attrition.reporting.report_data import ReportData
from attrition.storage import files, history
from tests.conftest import damage
from tests.web.conftest import deploy_again, rewrite


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
    page = client.get("/").text
    assert page.count("Read with care: unknown category of &lt;a&gt;; b; trained") == 1


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
    assert client.get("/").text.count(f"<li>{text}</li>") == 40


def test_dashboard_shows_the_list_and_loads_nothing_from_elsewhere(odd_client):
    page = odd_client.get("/").text
    assert "ranked a client who left above one who stayed" in page
    assert "Whom to contact first" in page
    assert "Last run with work to do" in page
    assert not re.search(r"<script|style=|https?://|onclick|&lt;b&gt;bold.*<b>bold", page)
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    for path in re.findall(r'(?:src|href)="(/[^"#]*)', page):
        answer = odd_client.get(path.replace("&amp;", "&"), buffered=True)
        assert answer.status_code == 200


def test_dashboard_shows_one_manager_the_clients_of_theirs(odd_client):
    page = odd_client.get("/?manager=%40Bob").text
    assert 'class="manager">@Bob' in page
    assert 'class="manager">Ann' not in page
    assert "No client of &lt;i&gt;" in odd_client.get("/?manager=<i>").text


def test_dashboard_shows_the_first_of_a_long_list_and_all_when_asked(odd_client):
    assert odd_client.get("/").text.count('class="client"') == 20
    assert odd_client.get("/?show=all").text.count('class="client"') == 30


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
    page = " ".join(re.sub(r"<[^>]*>", " ", odd_client.get("/").text).split())
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


def test_dashboard_sorts_the_list_by_risk_with_one_click(odd_client):
    def order(address):
        page = odd_client.get(address).text
        return re.findall(r'<td class="rank figure">(\d+)</td>', page), page

    ranks, page = order("/")
    assert ranks == [str(i) for i in range(1, 21)]
    assert "Highest value at risk first" in page
    (link,) = re.findall(r'<a href="([^"]*)">Sort by risk</a>', page)
    by_risk, page = order(link.replace("&amp;", "&"))
    assert "Highest risk first" in page
    risks = [float(width) for width in re.findall(r'<rect class="bar" width="([\d.]+)"', page)]
    assert risks == sorted(risks, reverse=True)
    assert len(by_risk) == 20
    assert order("/?order=name")[0] == ranks


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


def test_rollback_is_named_on_page_one_dashboard_and_by_scoring(client, project):
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
    assert f"Latest change: R{sentence}." in client.get("/").text
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
    assert f"Latest change: R{sentence}" in page
    assert "proven better" not in page


def test_dashboard_without_a_readable_history_shows_the_last_decision(client, project):
    project.history.write_bytes(b"damaged")
    assert "Latest change: First model deployed" in client.get("/").text


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
    page = " ".join(re.sub(r"<[^>]*>", " ", client.get("/").text).split())
    assert "Clients in these rows 800 Current clients 200" in page
