"""The views that answer in JSON or with a file."""

import codecs
import re
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote

import pandas as pd
import pytest

from app import create_app
from attrition.contacts import fields, log
from attrition.data import clients
from attrition.data.clients import ClientTable
from attrition.operations import releases
from attrition.storage import files, tables
from attrition.web.api import LATEST, describe_score
from tests.apps import GETS, GOOD, LISTS, ODD_NAMES, rewrite


def test_predictions_are_those_of_the_assessment_in_the_order_asked(client, project):
    assessed = pd.read_csv(project.risk_scores).set_index("client")["risk"]
    asked = pd.read_csv(project.input_folder / "current.csv")["corporation"].tolist()
    answer = client.post("/prediction", json={"datafile": "current.csv"}).json
    assert [row["client"] for row in answer["predictions"]] == asked
    assert answer["count"] == len(asked)
    for row in answer["predictions"]:
        assert row["risk"] == pytest.approx(assessed[row["client"]], abs=1e-9)
        assert row["outcome"] == (row["risk"] >= 0.5)
    assert answer["model"] == releases.current_id(project.production_folder)


def test_records_get_the_same_risk_as_the_file_they_stand_in(client, project):
    rows = pd.read_csv(project.input_folder / "current.csv").drop(columns="exited").head(50)
    by_file = client.post("/prediction", json={"datafile": "current.csv"}).json["predictions"]
    records = rows.to_dict("records")
    assert client.post("/prediction", json={"records": records}).json["predictions"] == by_file[:50]


def test_unknown_level_is_an_answer_with_a_flag(odd_client):
    record = {**GOOD, "industry": "space"}
    (row,) = odd_client.post("/prediction", json={"records": [record]}).json["predictions"]
    assert row["flags"] == ["unknown category of industry"]
    assert 0 <= row["risk"] <= 1


def test_number_that_training_never_saw_is_an_answer_with_a_flag(odd_client):
    record = {**GOOD, "industry": "retail", "number_of_employees": 900}
    (row,) = odd_client.post("/prediction", json={"records": [record]}).json["predictions"]
    assert row["flags"] == ["number_of_employees 900 is outside the training range 1 to 498"]


def test_model_of_other_columns_is_503_that_names_them(project):
    columns = replace(project.columns, numeric=project.columns.numeric[:2])
    answer = (
        create_app(replace(project, columns=columns))
        .test_client()
        .post("/prediction", json={"records": [{k: v for k, v in GOOD.items() if "emp" not in k}]})
    )
    assert (answer.status_code, answer.json["code"]) == (503, "other_columns")
    assert "number_of_employees" in answer.json["error"]


@pytest.mark.parametrize("value", ["many", "4", ""])
def test_model_of_a_number_that_is_a_category_now_is_503(project, value):
    columns = replace(
        project.columns,
        numeric=project.columns.numeric[:2],
        categorical=(*project.columns.categorical, "number_of_employees"),
    )
    client = create_app(replace(project, columns=columns)).test_client()
    record = GOOD | {"number_of_employees": value}
    answer = client.post("/prediction", json={"records": [record]})
    assert (answer.status_code, answer.json["code"]) == (503, "other_columns")
    assert "number_of_employees" in answer.json["error"]


def test_scoring_is_the_score_of_the_release_with_intervals(client, project):
    answer = client.get("/scoring").json
    score = releases.read_current(project.production_folder).score
    assert answer["model"] == releases.current_id(project.production_folder)
    assert answer["sets"]["test"]["scores"] == score["sets"]["test"]["candidate"]
    assert answer["sets"]["test"]["scores"]["roc_auc"].keys() == {"value", "low", "high"}
    assert answer["latest_decision"]["promoted"] is True


def test_scoring_shows_the_newest_event_or_none():
    score = {"sets": {"test": None}, "candidate": {"kind": "scorecard"}, "scored_at": "2026-01-01"}
    score |= {"threshold": 0.5, "champion": None, "comparison": None, "warnings": []}
    event = {"decided_at": "2026-01-02", "promoted": False, "rule": "refused", "reason": "kept"}
    event |= {"release": "r1", "inputs": {}}
    release = SimpleNamespace(id="r1", score=score)
    answer = describe_score(release, [event | {"rule": "rolled_back"}, event])
    assert answer["latest_decision"] == {name: event[name] for name in LATEST}
    assert describe_score(release, [])["latest_decision"] is None
    assert answer["sets"] == {}


def test_summarystats_describe_every_column_with_its_missing_values(client):
    columns = client.get("/summarystats").json["columns"]
    assert set(GOOD) <= set(columns)
    assert {"mean", "median", "std", "missing", "missing_pct"} <= set(columns["lastmonth_activity"])


def test_diagnostics_include_drift_timings_and_dependencies(client):
    answer = client.get("/diagnostics").json
    assert {"drift", "monitoring", "timings", "dependencies", "predictions"} <= set(answer)


def test_clients_are_ranked_and_paged_to_the_end(client, project):
    expected = pd.read_csv(project.risk_scores)["client"].tolist()
    path, names = "/clients?limit=70", []
    while path:
        page = client.get(path).json
        assert page["total"] == 200
        names += [row["client"] for row in page["clients"]]
        path = page["next"]
    assert names == expected
    assert client.get("/clients").json["count"] == 50


def test_views_of_clients_are_those_of_the_pages(client, project):
    listed = client.get("/clients?view=list&limit=1000").json
    assert listed["total"] == project.contact_capacity
    assert {row["block"] for row in listed["clients"]} == {"rest"}
    second = listed["clients"][1]["client"]
    entry = log.Entry(client=second, kind=log.CONTACT, by="Kim", outcome=log.REACHED)
    log.append(project.contact_log, [entry], files.utc_now())
    (resting,) = client.get("/clients?view=resting").json["clients"]
    assert (resting["client"], resting["resting_why"]) == (second, "reached")
    assert resting["last_contact_by"] == "Kim"
    again = client.get("/clients?view=list&limit=1000").json
    assert again["total"] == project.contact_capacity
    assert second not in {row["client"] for row in again["clients"]}
    shown = client.get(f"/clients/{second}").json
    assert not shown["on_contact_list"]
    assert shown["standing"]["resting_why"] == "reached"
    assert [each["risk"] for each in shown["risk_history"]] == [round(shown["risk"], 4)]
    assert client.get("/clients?q=nobody").json["total"] == 0
    riskiest = client.get("/clients?view=all&limit=1").json["clients"][0]["risk"]
    assert client.get(f"/clients?min_risk={riskiest}&limit=1").json["total"] == 1


@pytest.mark.parametrize(
    "query", ["view=none", "order=name", "due_days=-1", "min_risk=2", "limit=0", "due_days=x"]
)
def test_unknown_views_and_numbers_are_refused(client, query):
    answer = client.get(f"/clients?{query}")
    assert answer.status_code == 422
    assert answer.json["error"].startswith(query.partition("=")[0] + ": expected ")


def test_clients_are_filtered_by_manager_and_risk(odd_client):
    anns = odd_client.get("/clients?manager=Ann&limit=1000").json
    bobs = odd_client.get("/clients?manager=%40Bob&limit=1000").json
    assert (anns["total"], bobs["total"]) == (50, 50)
    assert {row["manager"] for row in bobs["clients"]} == {"@Bob"}
    page = odd_client.get("/clients?manager=Ann&min_risk=0.3&limit=2").json
    assert all(row["risk"] >= 0.3 for row in page["clients"])
    assert odd_client.get(page["next"]).json["total"] == page["total"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_client_is_found_by_any_name(odd_client, name):
    answer = odd_client.get("/clients/" + quote(name, safe="")).json
    assert answer["client"] == name
    assert answer["features"]["lastmonth_activity"] == 0
    assert answer["manager"] == "Ann"


def test_client_comes_with_reasons_on_the_list_or_not(client):
    rows = client.get("/clients").json["clients"]
    first, last = (client.get(f"/clients/{rows[i]['client']}").json for i in (0, -1))
    assert first["rank"] == 1
    assert (first["on_contact_list"], last["on_contact_list"]) == (True, False)
    assert first["reasons"]
    assert first["reasons"] == rows[0]["reasons"]
    assert last["reasons"] == rows[-1]["reasons"]


def test_contact_list_is_an_attachment_that_no_spreadsheet_runs(odd_client, odd_project):
    answer = odd_client.get("/contactlist.csv")
    assert answer.headers["Content-Disposition"] == "attachment; filename=contactlist.csv"
    assert answer.data == odd_project.contact_list.read_bytes()
    assert answer.data.startswith(codecs.BOM_UTF8)
    rows = tables.parse_dicts(answer.data)
    assert len(rows) == 30
    assert {"'=1+1", "Über Söhne 東京"} <= {row["client"] for row in rows}
    assert {row["manager"] for row in rows} == {"Ann", "'@Bob"}
    for row in rows:
        assert not any(
            cell.lstrip()[:1] in tuple("=+-@") for cell in row.values() if "." not in cell
        )
        listed = odd_client.get(
            f"/clients/{quote(row['client'].removeprefix(chr(39)), safe='')}"
        ).json
        assert float(row["risk"]) == round(listed["risk"], 4)
        assert float(row["value_at_risk"]) == round(listed["value_at_risk"], 2)


def test_contact_list_follows_the_contact_log_at_once(odd_client, odd_project):
    before = tables.parse_dicts(odd_client.get("/contactlist.csv").data)
    name = before[0]["client"]
    entry = {"kind": "contact", "by": "Ann", "outcome": log.DO_NOT_CONTACT}
    address = f"/clients/{quote(name.removeprefix(chr(39)), safe='')}/entries"
    assert odd_client.post(address, json=entry).status_code == 201
    after = tables.parse_dicts(odd_client.get("/contactlist.csv").data)
    assert name not in {row["client"] for row in after}
    assert [row["client"] for row in after[:29]] == [row["client"] for row in before[1:]]
    assert [row["rank"] for row in after] == [str(place) for place in range(1, 31)]
    assert tables.parse_dicts(odd_project.contact_list.read_bytes()) == before


def test_contact_list_is_that_of_the_file_where_it_names_clients_of_an_earlier_list(
    client, project
):
    assert client.get("/contactlist.csv").data == project.contact_list.read_bytes()
    rewrite(
        project,
        lambda table: table.assign(
            previous_rank=[None, *range(2, len(table) + 1)],
            value=[None, 0.125, *[1e6 / 3] * (len(table) - 2)],
        ).astype({"previous_rank": "Int64"}),
    )
    table = clients.read_clients(project.clients, [*clients.COLUMNS])
    rows = ClientTable(project.clients).listed
    lists = {name: [row[name] for row in rows] for name in LISTS}
    listed = table[table["list_rank"].notna()].sort_values("list_rank")
    listed = listed.assign(**lists, rank=listed["list_rank"])
    listed = listed.astype({"rank": "Int64", "previous_rank": "Int64"})
    listed = listed.assign(**dict.fromkeys(fields.CONTACTS))
    expected = tables.excel_bytes(fields.contact_list(listed, project.labels, project.columns))
    assert client.get("/contactlist.csv").data == expected


def test_contact_list_without_clients_is_its_header(project):
    client = create_app(replace(project, contact_capacity=0)).test_client()
    header = project.contact_list.read_bytes().splitlines(keepends=True)[0]
    assert client.get("/contactlist.csv").data == header


def test_report_and_figures_are_those_on_disk(client, project):
    report = client.get("/report.pdf")
    assert report.mimetype == "application/pdf"
    assert report.data == project.report.read_bytes()
    figure = client.get("/figures/roc.png")
    assert (figure.mimetype, figure.data) == ("image/png", project.figure("roc").read_bytes())


def test_model_card_is_that_of_the_release_in_production(client, project):
    answer = client.get("/modelcard.md")
    assert answer.mimetype == "text/markdown"
    assert answer.data == (project.current / releases.CARD).read_bytes()


def test_picture_that_is_not_of_the_report_is_not_handed_out(client, project):
    project.figure("private").write_bytes(b"x")
    assert client.get("/figures/private.png").status_code == 404


@pytest.mark.parametrize("path", GETS)
def test_before_the_first_run_it_is_503_that_names_the_script(empty_project, path):
    answer = create_app(empty_project).test_client().get(path)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert re.search(r"\w+\.py", answer.json["error"])


def test_before_the_first_run_predictions_are_503_and_health_is_starting(empty_project):
    client = create_app(empty_project).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["code"]) == (503, "no_model")
    health = client.get("/health")
    assert (health.status_code, health.json["status"]) == (200, "starting")
