"""The API and the dashboard, over projects that the whole process has made."""

import base64
import csv
import gzip
import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as pq
import pytest

import app as api
from attrition import config as configuration
from attrition.config import Api, Config
from attrition.data import clients
from attrition.data.clients import ClientTable
from attrition.data.schema import Caution, Reason
from attrition.errors import AttritionError, ConfigError
from attrition.operations import releases
from attrition.storage import files, history
from attrition.web import auth, request_body, responses
from tests.conftest import ROOT, make_rows, run_whole, write_config

GOOD = {"lastmonth_activity": 12, "lastyear_activity": 150, "number_of_employees": 40}
ODD_NAMES = ("A/B & C", "Über Söhne 東京", "/lead", "=1+1", "<b>bold</b>", "50% off?", "a#b;c")
GETS = (
    *("/scoring", "/summarystats", "/diagnostics", "/clients"),
    *("/contactlist.csv", "/report.pdf", "/modelcard.md"),
)
TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def client(project):
    return api.create_app(project).test_client()


@pytest.fixture(scope="session")
def odd_folder(tmp_path_factory):
    """A project with a categorical column, missing values, values, managers and odd names."""
    folder = tmp_path_factory.mktemp("odd")
    numeric = {name: {"minimum": 0} for name in GOOD}
    columns = {
        "numeric": numeric,
        "categorical": ["industry"],
        "value": "worth",
        "manager": "cares",
    }
    config = write_config(folder, contact_capacity=30, columns=columns)
    rows = make_rows(700).assign(worth=1000, cares="Ann", industry="retail")
    rows.loc[::3, "industry"] = "mining"
    rows.loc[::5, "number_of_employees"] = float("nan")
    names = rows["corporation"].mask(rows.index >= 600)
    rows["corporation"] = names.fillna(pd.Series([f"now{i}" for i in range(700)]))
    rows.loc[600 : 600 + len(ODD_NAMES) - 1, "corporation"] = ODD_NAMES
    rows.loc[600 : 600 + len(ODD_NAMES) - 1, ["lastmonth_activity", "lastyear_activity"]] = 0
    rows["exited"] = rows["exited"].astype(object).mask(rows.index >= 600, "")
    rows.loc[rows.index >= 650, "cares"] = "@Bob"
    rows.to_csv(config.input_folder / "all.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attrition.operations.dependencies.ask_all", dict.fromkeys)
        assert run_whole(config) == 0
    return folder


@pytest.fixture
def odd_project(odd_folder, tmp_path):
    shutil.copytree(odd_folder, tmp_path / "odd", symlinks=True)
    return configuration.load(tmp_path / "odd" / "config.json")


@pytest.fixture
def odd_client(odd_project):
    return api.create_app(odd_project).test_client()


@pytest.fixture
def guarded(project, monkeypatch):
    """A client of an app that asks for a token."""
    monkeypatch.setenv("API_TOKEN", TOKEN)
    return api.create_app(replace(project, api=Api(token="${API_TOKEN}"))).test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def deploy_again(config: Config) -> str:
    """Make another release of the same model, and put it into production."""
    old = releases.read_current(config.production_folder)
    contents = {name: (old.folder / name).read_bytes() for name in old.manifest["outputs"]}
    left_out = ("outputs", "seal")
    manifest = {key: value for key, value in old.manifest.items() if key not in left_out}
    manifest["deployed_at"] = "2031-01-01T00:00:00Z"
    release_id = releases.create(config.production_folder, contents, manifest)
    releases.activate(config.production_folder, release_id)
    return release_id


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o640)
    path.write_bytes(bytes(data))


# ---- predictions


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
    assert row["flags"] == ["unknown level of industry"]
    assert 0 <= row["risk"] <= 1


def test_number_that_training_never_saw_is_an_answer_with_a_flag(odd_client):
    record = {**GOOD, "industry": "retail", "number_of_employees": 900}
    (row,) = odd_client.post("/prediction", json={"records": [record]}).json["predictions"]
    assert row["flags"] == ["number_of_employees 900, the model knows 1 to 498"]


def test_null_is_allowed_where_training_saw_missing_values_and_nowhere_else(odd_client):
    record = {**GOOD, "industry": "retail"}
    allowed = {"records": [{**record, "number_of_employees": None}]}
    refused = {"records": [{**record, "lastmonth_activity": None}]}
    assert odd_client.post("/prediction", json=allowed).status_code == 200
    answer = odd_client.post("/prediction", json=refused)
    assert (answer.status_code, answer.json["problems"][0]["field"]) == (422, "lastmonth_activity")


def test_one_bad_record_refuses_all_and_is_named(client):
    answer = client.post(
        "/prediction", json={"records": [GOOD, {**GOOD, "number_of_employees": -3}]}
    )
    assert answer.status_code == 422
    assert answer.json["code"] == "invalid_records"
    assert answer.json["error"].startswith("record 1: number_of_employees is '-3'")
    assert "predictions" not in answer.json


def test_file_in_both_folders_is_that_of_the_test_folder(client, project):
    shutil.copy(project.test_folder / "testdata.csv", project.input_folder / "testdata.csv")
    make_rows(5, prefix="other").to_csv(project.input_folder / "testdata.csv", index=False)
    assert client.post("/prediction", json={"datafile": "testdata.csv"}).json["count"] == 300


@pytest.mark.parametrize(
    "name",
    [
        "nothing.csv",
        "../config.json",
        "../testdata/testdata.csv",
        "./testdata.csv",
        "/etc/passwd",
        "testdata.csv\x00",
        "",
        ".",
        "..",
        "file:///etc/passwd",
        "http://127.0.0.1/x.csv",
    ],
)
def test_only_names_in_the_listing_are_data_files(client, name):
    answer = client.post("/prediction", json={"datafile": name})
    assert answer.status_code == 404
    assert answer.json["datafiles"] == ["current.csv", "history.csv", "testdata.csv"]


def test_link_among_the_data_files_is_not_followed(client, project):
    (project.test_folder / "link.csv").symlink_to("/etc/passwd")
    answer = client.post("/prediction", json={"datafile": "link.csv"})
    assert answer.status_code == 422
    assert b"root:" not in answer.data


def test_file_with_a_bad_row_is_refused_with_its_line(client, project):
    path = project.test_folder / "testdata.csv"
    path.write_text(path.read_text() + "last,-1,5,5,0\n")
    answer = client.post("/prediction", json={"datafile": "testdata.csv"})
    assert answer.status_code == 422
    assert answer.json["problems"][0]["line"] == 302


def test_too_large_a_file_is_413(client, monkeypatch):
    monkeypatch.setattr(request_body, "MAX_FILE_RECORDS", 299)
    assert client.post("/prediction", json={"datafile": "testdata.csv"}).status_code == 413


def test_model_of_other_columns_is_503_and_says_so(project):
    columns = replace(project.columns, numeric=project.columns.numeric[:2])
    answer = (
        api.create_app(replace(project, columns=columns))
        .test_client()
        .post("/prediction", json={"records": [{k: v for k, v in GOOD.items() if "emp" not in k}]})
    )
    assert (answer.status_code, answer.json["code"]) == (503, "other_columns")
    assert "number_of_employees" in answer.json["error"]


# ---- what a body may be

GOOD_TEXT = json.dumps(GOOD)
RECORD = '{"lastmonth_activity": %s, "lastyear_activity": 150, "number_of_employees": 40}'
JSON = {"Content-Type": "application/json"}


def one(value: str) -> str:
    return '{"records": [' + RECORD % value + "]}"


BODIES = [
    ("good", one("12"), {200}),
    ("good x1000", '{"records": [' + ", ".join([GOOD_TEXT] * 1000) + "]}", {200}),
    ("too many records", '{"records": [' + ", ".join([GOOD_TEXT] * 1001) + "]}", {413}),
    ("empty body", "", {400}),
    ("not json", "hello", {400}),
    ("truncated json", one("12")[:-3], {400}),
    ("json null", "null", {422}),
    ("json array", f"[{GOOD_TEXT}]", {422}),
    ("json string", '"records"', {422}),
    ("json number", "12", {422}),
    ("records null", '{"records": null}', {422}),
    ("records empty", '{"records": []}', {422}),
    ("records of ints", '{"records": [1, 2]}', {422}),
    ("records object", '{"records": ' + GOOD_TEXT + "}", {422}),
    ("empty object", "{}", {422}),
    ("extra top field", '{"records": [' + GOOD_TEXT + '], "url": "http://x"}', {422}),
    ("both ways to ask", '{"records": [' + GOOD_TEXT + '], "datafile": "testdata.csv"}', {422}),
    ("datafile number", '{"datafile": 3}', {422}),
    ("missing field", '{"records": [{"lastmonth_activity": 1}]}', {422}),
    ("extra field", '{"records": [{"x": 1, ' + GOOD_TEXT[1:] + "]}", {422}),
    ("__proto__", '{"records": [{"__proto__": {}, ' + GOOD_TEXT[1:] + "]}", {422}),
    ("duplicate keys", '{"records": [{"number_of_employees": 1, ' + GOOD_TEXT[1:] + "]}", {400}),
    ("NaN", one("NaN"), {400}),
    ("Infinity", one("Infinity"), {400}),
    ("-Infinity", one("-Infinity"), {400}),
    ("1e400", one("1e400"), {400}),
    ("2^63", one(str(2**63)), {422}),
    ("5000 digits", one("9" * 5000), {400}),
    ("negative", one("-1"), {422}),
    ("string number", one('"12"'), {422}),
    ("bool", one("true"), {422}),
    ("null", one("null"), {422}),
    ("list", one("[12]"), {422}),
    ("float", one("12.5"), {200}),
    ("deep nesting", "[" * 100_000, {400}),
    ("deep nesting closed", "[" * 100_000 + "]" * 100_000, {400, 422}),
    ("deep in a field", one("[" * 400 + "]" * 400), {400, 422}),
    ("2 MB body", one("12") + " " * (2 << 20), {413}),
    ("utf-16 body", one("12").encode("utf-16"), {400}),
    ("bad utf-8", b'{"records": [{"corporation": "\xff\xfe"}]}', {400}),
    ("BOM", b"\xef\xbb\xbf" + one("12").encode(), {400}),
    ("lone surrogate", '{"records": [{"corporation": "\\ud800", ' + GOOD_TEXT[1:] + "]}", {422}),
    ("surrogate as key", '{"records": [{"\\ud800": 1, ' + GOOD_TEXT[1:] + "]}", {422}),
    ("surrogate as file", '{"datafile": "\\ud800"}', {404}),
    ("NUL in string", '{"records": [{"corporation": "a\\u0000b", ' + GOOD_TEXT[1:] + "]}", {422}),
]


@pytest.mark.parametrize(("body", "allowed"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_body(client, body, allowed):
    answer = client.post("/prediction", data=body, headers=JSON)
    assert answer.status_code in allowed
    if answer.status_code != 200:
        assert answer.json.keys() >= {"error", "code"}
    assert client.get("/health").status_code == 200


TYPES = [
    ("form type", {"Content-Type": "application/x-www-form-urlencoded"}, {415}),
    ("no type", {}, {415}),
    ("text/plain", {"Content-Type": "text/plain"}, {415}),
    ("charset trick", {"Content-Type": "application/json; charset=utf-7"}, {415}),
    ("charset utf-8", {"Content-Type": "application/json; charset=UTF-8"}, {200}),
    ("multipart no boundary", {"Content-Type": "multipart/form-data"}, {415}),
    ("gzip encoding claimed", JSON | {"Content-Encoding": "gzip"}, {415}),
    ("pickle", {"Content-Type": "application/vnd.bentoml+pickle"}, {415}),
]


@pytest.mark.parametrize(("headers", "allowed"), [t[1:] for t in TYPES], ids=[t[0] for t in TYPES])
def test_type(client, headers, allowed):
    answer = client.post("/prediction", data=one("12"), headers=headers)
    assert answer.status_code in allowed


def test_packed_and_pickled_bodies_are_not_opened(client):
    packed = gzip.compress(one("12").encode())
    claimed = JSON | {"Content-Encoding": "gzip"}
    assert client.post("/prediction", data=packed, headers=claimed).status_code == 415
    assert client.post("/prediction", data=packed, headers=JSON).status_code == 400
    assert client.post("/prediction", data=pickle.dumps([GOOD]), headers=JSON).status_code == 400


def test_multipart_bomb_is_refused_unread(client):
    parts = {f"part{i}": "x" for i in range(2000)}
    answer = client.post("/prediction", data=parts, content_type="multipart/form-data")
    assert answer.status_code in {413, 415}


# ---- methods, paths, headers


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/prediction", 405, "OPTIONS, POST"),
        ("DELETE", "/clients", 405, "GET, HEAD, OPTIONS"),
        ("TRACE", "/health", 405, "GET, HEAD, OPTIONS"),
        ("BREW", "/health", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/scoring?_method=GET", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/scoring", 200, None),
        ("OPTIONS", "/scoring", 200, "GET, HEAD, OPTIONS"),
    ],
)
def test_method(client, method, path, status, allow):
    answer = client.open(path, method=method, headers={"X-HTTP-Method-Override": "GET"})
    assert answer.status_code == status
    if allow:
        assert ", ".join(sorted(answer.headers["Allow"].split(", "))) == allow


@pytest.mark.parametrize(
    "path",
    [
        "/unknown",
        "/scoring/",
        "/..",
        "/%2e%2e/etc/passwd",
        "/%252e%252e/etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/templates/dashboard.html",
        "/static/..%2ftemplates%2fdashboard.html",
        "/static//etc/passwd",
        "/figures/../report.pdf",
        "/figures/..%2freport.png",
        "/figures/x.png",
        "/figures/.png",
        "/scoring;a=b",
        "/scoring%23",
        "/scoring%00",
        "/\\..\\config.json",
        "/%ff%fe",
        "/clients/../../../etc/passwd",
        "/clients/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/clients/nobody",
        "/console",
        "/.git/config",
        "/.env",
        "/templates/dashboard.html",
        "/" + "a" * 5000,
    ],
)
def test_path_that_is_none_is_404_in_json(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json.keys() >= {"error", "code"}


@pytest.mark.parametrize(
    "path",
    [
        "/scoring?file=/etc/passwd",
        "/scoring?url=http://127.0.0.1",
        "/?__debugger__=yes&cmd=resource&f=style.css",
        "/health?" + "&".join(f"a{i}=1" for i in range(10_000)),
    ],
)
def test_parameter_that_nobody_reads_is_refused(client, path):
    assert client.get(path).status_code == 400


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a b", "x:y:z"])
def test_other_host_is_refused(client, host):
    assert client.get("/scoring", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8123", "[::1]:8000"])
def test_own_host_is_answered(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


def every_answer(client) -> Iterator:
    for path in (*GETS, "/health", "/", "/static/dashboard.css", "/figures/roc.png", "/unknown"):
        yield client.get(path, buffered=True)
    yield client.get("/prediction")
    yield client.get("/clients?limit=x")
    yield client.post("/prediction", json={"records": [GOOD]})
    yield client.post("/prediction", json={"datafile": "nothing"})
    yield client.post("/prediction", data="{")


def test_every_answer_carries_the_headers(client):
    for answer in every_answer(client):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
        policy = answer.headers["Content-Security-Policy"]
        if answer.mimetype == "text/html":
            assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'")
            assert "unsafe" not in policy
        else:
            assert policy == "default-src 'none'"


def test_no_answer_names_a_folder(client, project):
    for answer in every_answer(client):
        assert str(project.file.parent).encode() not in answer.data


def test_bug_is_500_with_an_id_that_the_log_has_too(client, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("SELECT secret FROM /var/lib")

    monkeypatch.setattr(responses, "scoring", fail)
    answer = client.get("/scoring")
    assert answer.status_code == 500
    assert answer.json["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.json["id"] in caplog.text
    assert "SELECT secret" in caplog.text


def test_debug_stays_off_whatever_the_environment_says(project, monkeypatch):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    assert not api.create_app(project).debug


# ---- scores, statistics, clients


def test_scoring_tells_the_score_of_the_release_with_intervals(client, project):
    answer = client.get("/scoring").json
    score = releases.read_current(project.production_folder).score
    assert answer["model"] == releases.current_id(project.production_folder)
    assert answer["sets"]["test"]["scores"] == score["sets"]["test"]["candidate"]
    assert answer["sets"]["test"]["scores"]["roc_auc"].keys() == {"value", "low", "high"}
    assert answer["latest_decision"]["promoted"] is True


def test_summarystats_describe_every_column_with_its_missing_values(client):
    columns = client.get("/summarystats").json["columns"]
    assert set(GOOD) <= set(columns)
    assert {"mean", "median", "std", "missing", "missing_pct"} <= set(columns["lastmonth_activity"])


def test_diagnostics_tell_of_drift_timings_and_dependencies(client):
    answer = client.get("/diagnostics").json
    assert {"drift", "monitoring", "timings", "dependencies", "predictions"} <= set(answer)


def test_clients_are_ranked_and_paged_to_the_end(client, project):
    expected = pd.read_csv(project.risk_scores)["client"].tolist()
    path, found = "/clients?limit=70", []
    while path:
        page = client.get(path).json
        assert page["total"] == 200
        found += [row["client"] for row in page["clients"]]
        path = page["next"]
    assert found == expected
    assert client.get("/clients").json["count"] == 50


def test_clients_are_filtered_by_manager_and_risk(odd_client):
    anns = odd_client.get("/clients?manager=Ann&limit=1000").json
    bobs = odd_client.get("/clients?manager=%40Bob&limit=1000").json
    assert (anns["total"], bobs["total"]) == (50, 50)
    assert {row["manager"] for row in bobs["clients"]} == {"@Bob"}
    page = odd_client.get("/clients?manager=Ann&min_risk=0.3&limit=2").json
    assert all(row["risk"] >= 0.3 for row in page["clients"])
    assert odd_client.get(page["next"]).json["total"] == page["total"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1.5",
        "limit=",
        "limit=" + "9" * 5000,
        "offset=-1",
        "offset=1e3",
        "min_risk=2",
        "min_risk=nan",
        "min_risk=inf",
    ],
)
def test_bad_number_in_a_query_is_422(client, query):
    answer = client.get(f"/clients?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_parameter")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_client_is_found_by_whatever_name(odd_client, name):
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


def rewrite(config, change):
    """Let the assessment have written another table of clients; `change` gets it and returns it."""
    names = pq.read_schema(config.clients).names
    table = clients.read_clients(config.clients, [name for name in names if name != clients.KEY])
    rows, _ = ClientTable(config.clients).page(0, len(table))
    data = {name: [row[name] for row in rows] for name in ("reasons", "cautions")}
    places = {"list_rank": "Int64", "previous_rank": "Int64"}
    changed = change(table.assign(**data).astype(places))
    contents = {path: path.read_bytes() for path in (config.risk_scores, config.contact_list)}
    contents[config.clients] = lambda path: clients.write_clients(path, changed)
    files.commit(config.assessment_record, contents, files.read_record(config.assessment_record))


def caution(config, *cautions, of):
    """Let the assessment say of clients, by name, why their risk is to be read with care."""

    def change(table):
        return table.assign(
            cautions=[[*cautions] if name in of else [] for name in table["client"]]
        )

    rewrite(config, change)


def test_client_that_the_model_hardly_knows_is_told_apart(client, project):
    name = client.get("/clients?limit=1").json["clients"][0]["client"]
    few = Caution("few_clients")
    caution(project, Caution("unknown_level", "<a>; b", "x"), few, of=[name])
    texts = ["unknown level of <a>; b", "learned from few clients"]
    assert client.get(f"/clients/{name}").json["low_confidence"] == texts
    assert client.get("/clients?limit=2").json["clients"][1]["low_confidence"] == []
    page = client.get("/").text
    assert page.count("Read with care: unknown level of &lt;a&gt;; b; learned") == 1


def test_what_holds_for_all_clients_is_said_once(client, project):
    names = pd.read_csv(project.risk_scores)["client"]
    caution(project, Caution("few_clients"), of=set(names))
    page = client.get("/").text
    assert page.count("learned from few clients") == 1
    assert "All to be read with care: learned from few clients." in page


def test_level_with_a_semicolon_is_one_reason(client, project):
    plan = Reason("plan", "plan A; legacy", "plan B", 0.7)
    rewrite(project, lambda table: table.assign(reasons=[[plan]] * len(table)))
    text = "plan: plan A; legacy (typical: plan B)"
    row = client.get("/clients?limit=1").json["clients"][0]
    answer = client.get(f"/clients/{row['client']}").json
    assert row["reasons"] == answer["reasons"] == [text]
    assert answer["reasons_detail"] == [
        {"feature": "plan", "value": "plan A; legacy", "baseline": "plan B", "contribution": 0.7}
    ]
    assert client.get("/").text.count(f"<li>{text}</li>") == 20


def test_assessment_without_the_table_of_clients_is_503(client, project):
    contents = {path: path.read_bytes() for path in (project.risk_scores, project.contact_list)}
    record = files.read_record(project.assessment_record)
    files.commit(project.assessment_record, contents, record)
    answer = client.get("/clients")
    assert (answer.status_code, answer.json["code"]) == (503, "not_ready")
    assert client.get("/").status_code == client.get("/contactlist.csv").status_code == 200


def test_contact_list_is_an_attachment_that_no_spreadsheet_runs(odd_client, odd_project):
    answer = odd_client.get("/contactlist.csv")
    assert answer.headers["Content-Disposition"] == "attachment; filename=contactlist.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    kept = list(csv.DictReader(odd_project.contact_list.read_text().splitlines()))
    assert len(rows) == len(kept) == 30
    for row, original in zip(rows, kept, strict=True):
        assert row["client"].removeprefix("'") == original["client"]
        assert not any(
            cell.lstrip()[:1] in tuple("=+-@") for cell in (row["client"], row["manager"])
        )
        assert float(row["risk"]) == float(original["risk"])
    assert "'=1+1" in {row["client"] for row in rows}


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\tx", "\rx", " =1", "＝1", "\ufeff=1"])
def test_cell_that_a_spreadsheet_would_run_is_defused(cell):
    (_, row) = csv.reader(
        io.StringIO(
            responses.defuse([{"client": cell, "n": "-1"}], ["client"]).decode(), newline=""
        )
    )
    assert row == [f"'{cell}", "-1"]


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


def test_release_from_before_model_cards_has_none(client, project):
    old = releases.read_current(project.production_folder)
    names = [name for name in old.manifest["outputs"] if name != releases.CARD]
    contents = {name: (old.folder / name).read_bytes() for name in names}
    manifest = {"deployed_at": "2031-01-01T00:00:00Z"}
    release_id = releases.create(project.production_folder, contents, manifest)
    releases.activate(project.production_folder, release_id)
    answer = client.get("/modelcard.md")
    assert (answer.status_code, answer.json["code"]) == (404, "no_model_card")
    assert client.get("/").status_code == 200


def test_picture_that_is_not_of_the_report_is_not_handed_out(client, project):
    project.figure("private").write_bytes(b"x")
    assert client.get("/figures/private.png").status_code == 404


# ---- what changes while the app runs


def test_new_release_answers_the_next_request(client, project):
    before = client.post("/prediction", json={"records": [GOOD]}).json["model"]
    new = deploy_again(project)
    after = client.post("/prediction", json={"records": [GOOD]}).json["model"]
    assert before != new == after


def test_damaged_new_release_leaves_the_old_one_in_service(client, project):
    old = client.get("/health").json["release"]
    new = deploy_again(project)
    damage(project.releases / new / releases.MODEL)
    answer = client.post("/prediction", json={"records": [GOOD]})
    health = client.get("/health")
    assert (answer.status_code, answer.json["model"]) == (200, old)
    assert (health.status_code, health.json["status"]) == (200, "degraded")
    assert old in health.json["warnings"][0]
    releases.activate(project.production_folder, old)
    assert client.get("/health").json["status"] == "ok"


def test_damaged_first_release_is_503_and_says_how_to_go_back(client, project):
    damage(project.current / releases.MODEL)
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["code"]) == (503, "damaged")
    assert "deployment.py --rollback" in answer.json["error"]
    assert client.get("/health").status_code == 503
    assert client.get("/").status_code == 200


def test_replaced_clients_are_read_again(client, project):
    first = client.get("/clients?limit=1").json["clients"][0]
    rewrite(project, lambda table: table.assign(manager="New"))
    again = client.get("/clients?limit=1").json["clients"][0]
    assert (first["manager"], again["manager"]) == (None, "New")


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("clients", "/clients"),
        ("clients", "/clients/now1"),
        ("contact_list", "/contactlist.csv"),
        ("assessment_record", "/clients"),
        ("diagnostics_record", "/summarystats"),
        ("diagnostics_record", "/diagnostics"),
        ("report_record", "/report.pdf"),
        ("report", "/report.pdf"),
        ("decision_record", "/scoring"),
    ],
)
def test_damaged_file_is_503_never_500_and_the_page_stands(client, project, file, path):
    damage(getattr(project, file))
    answer = client.get(path)
    if file == "decision_record":
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json["code"]) == (503, "damaged")
    assert "Retry-After" in answer.headers
    assert client.get("/").status_code == 200


def test_missing_file_of_a_record_is_503(client, project):
    project.figure("roc").unlink()
    assert client.get("/figures/roc.png").status_code == 503


def test_health_tells_of_damage_and_of_a_failed_run(client, project):
    assert client.get("/health").json["warnings"] == []
    damage(project.diagnostics_record)
    run = {"run": "z", "started_at": "2999-01-01T00:00:00Z", "ended_at": "2999-01-01T00:00:01Z"}
    history.save(project.history, "runs", [run | {"outcome": "failed", "reason": "no disk"}])
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert len(answer.json["warnings"]) == 2


def test_health_and_the_page_stand_without_a_readable_history(client, project):
    project.history.write_bytes(b"no database at all" * 100)
    assert "the history cannot be read" in client.get("/health").json["warnings"]
    assert "The history cannot be read" in client.get("/").text


def test_api_that_starts_beside_a_damaged_release_serves_the_one_before(project):
    old = releases.current_id(project.production_folder)
    new = deploy_again(project)
    damage(project.releases / new / releases.MODEL)
    client = api.create_app(project).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["model"]) == (200, old)
    assert client.get("/health").json["complaints"] == ["release"]


def test_api_serves_on_when_the_pointer_is_gone(client, project):
    old = client.get("/health").json["release"]
    project.current.unlink()
    for each in (client, api.create_app(project).test_client()):
        answer = each.post("/prediction", json={"records": [GOOD]})
        assert (answer.status_code, answer.json["model"]) == (200, old)
        assert each.get("/health").json["status"] == "degraded"


# ---- before there is anything


@pytest.mark.parametrize("path", GETS)
def test_before_the_first_run_it_is_503_that_names_the_script(empty_project, path):
    answer = api.create_app(empty_project).test_client().get(path)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert re.search(r"\w+\.py", answer.json["error"])


def test_before_the_first_run_predictions_wait_and_health_says_starting(empty_project):
    client = api.create_app(empty_project).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["code"]) == (503, "no_model")
    health = client.get("/health")
    assert (health.status_code, health.json["status"]) == (200, "starting")


# ---- the token


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
        "/",
        "/static/dashboard.css",
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
            api.create_app(replace(project, api=Api(token=token)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_others_are_not_served_without_a_token(host):
    with pytest.raises(ConfigError, match=r"api\.token"):
        auth.check_exposure(host, None)
    auth.check_exposure(host, "secret")


# ---- the dashboard


def test_dashboard_shows_the_list_and_asks_nothing_of_others(odd_client):
    page = odd_client.get("/").text
    assert "ROC AUC" in page
    assert "Whom to contact first" in page
    assert "Last run with news" in page
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


def test_dashboard_says_what_to_do_before_there_is_a_model(empty_project):
    answer = api.create_app(empty_project).test_client().get("/")
    assert answer.status_code == 200
    assert "No model is in production yet" in answer.text
    assert "fullprocess.py" in answer.text


@pytest.mark.parametrize(
    "file", ["monitoring_record", "assessment_record", "diagnostics_record", "report_record"]
)
def test_dashboard_and_health_say_what_is_damaged(client, project, file):
    path = getattr(project, file)
    damage(path)
    page = client.get("/").text
    assert 'role="alert"' in page
    assert f"The file {path.name} is damaged" in page
    assert f"{path.name} is damaged" in client.get("/health").json["warnings"][0]


def test_verdict_on_another_release_is_not_told_of_this_one(client, project):
    monitoring = files.read_record(project.monitoring_record)
    current = releases.current_id(project.production_folder)
    told = {}
    for release in (current, "20200101T000000Z-00000000"):
        performance = {**monitoring["performance"], "verdict": "degraded", "sentence": "worse"}
        record = files.sealed({**monitoring, "release": release, "performance": performance})
        files.write_bytes(project.monitoring_record, files.encode(record))
        told[release == current] = client.get("/health").json["status"], client.get("/").text
    assert told[True][0] == "degraded"
    assert "The model is no longer right" in told[True][1]
    assert told[False][0] == "ok"
    assert "A model is in production" in told[False][1]


def test_dashboard_stands_on_a_model_alone(client, project):
    shutil.rmtree(project.reports_folder)
    project.monitoring_record.unlink()
    page = client.get("/")
    assert page.status_code == 200
    assert "A model is in production" in page.text


# ---- over a real server


@contextmanager
def served(config: Config, *more: str) -> Iterator[tuple[int, int]]:
    """Serve a project from a process of its own, on a free port; yield the port and the pid."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), "--port", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+) ", line)
        assert found, line + process.stderr.read()
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in stderr, stderr


@pytest.fixture(scope="module")
def port(finished_folder, tmp_path_factory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    with served(configuration.load(folder / "config.json"), "--workers", "1") as (found, _):
        yield found


def send(port: int, data: bytes, *, timeout_s: float = 20) -> bytes:
    """Send bytes as they are and read until the server closes or says no more."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=timeout_s)) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /prediction HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


BODY = one("12").encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
NO_HOST = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
TWO_HOSTS = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
RAW = [
    ("good", post(BODY, f"Content-Length: {len(BODY)}"), {200}),
    ("chunked", post(CHUNKED, "Transfer-Encoding: chunked"), {200}),
    (
        "chunked 2 MB",
        post(b"200000\r\n" + b" " * (2 << 20), "Transfer-Encoding: chunked"),
        {0, 413},
    ),
    ("TRACE", b"TRACE /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {405}),
    ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405, 501}),
    ("made up method", b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {405}),
    ("dot dot", get("/../../etc/passwd"), {400, 404}),
    ("encoded dots", get("/%2e%2e/%2e%2e/etc/passwd"), {400, 404}),
    ("double encoded", get("/%252e%252e/etc/passwd"), {400, 404}),
    ("backslash", get("/..\\..\\etc"), {400, 404}),
    ("semicolon params", get("/scoring;x=../y"), {400, 404}),
    ("fragment in path", get("/scoring#a"), {200, 400, 404}),
    ("double slash", get("//health"), {200, 301, 308, 400, 404}),
    ("absolute uri", get("http://localhost/health"), {200, 400, 404}),
    ("NUL in path", get("/scoring%00.png"), {400, 404}),
    ("bad percent", get("/%zz"), {400, 404}),
    ("bad utf8 path", get("/%ff%fe"), {400, 404}),
    ("long path", get("/" + "a" * 100_000), {400, 404, 414}),
    ("long query", get("/health?" + "a" * 100_000), {200, 400, 414}),
    ("no host", NO_HOST, {200, 400}),
    ("evil host", get("/scoring").replace(b"localhost", b"evil.example"), {400, 421}),
    ("two hosts", TWO_HOSTS, {200, 400}),
    ("header 1MB", get("/health", "X: " + "a" * (1 << 20)), {0, 400, 431}),
    ("2000 headers", get("/health", *[f"X{i}: 1" for i in range(2000)]), {0, 400, 431}),
    ("auth 60kB", get("/scoring", "Authorization: Bearer " + "a" * 60_000), {400, 401, 431}),
    ("header CRLF", get("/health", "X: a\r\n b"), {200, 400}),
    ("space before colon", get("/health", "X : a"), {0, 400}),
    ("range bomb", get("/report.pdf", "Range: bytes=" + "0-," * 500 + "0-"), {200, 206, 400, 416}),
    ("XFF spoof", get("/health", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil"), {200, 400}),
    (
        "CL+TE smuggle",
        post(CHUNKED, "Content-Length: 4", "Transfer-Encoding: chunked"),
        {0, 400, 401, 411, 415},
    ),
    ("two CL", post(BODY, f"Content-Length: {len(BODY)}", "Content-Length: 1"), {0, 400}),
    ("CL negative", post(BODY, "Content-Length: -1"), {0, 400, 411}),
    ("CL text", post(BODY, "Content-Length: ten"), {0, 400, 411}),
    ("CL huge", post(BODY, "Content-Length: 99999999999999"), {0, 400, 413}),
    ("CL too long", post(BODY, f"Content-Length: {len(BODY) + 100}"), {0, 400, 408}),
    ("TE xchunked", post(CHUNKED, "Transfer-Encoding: xchunked"), {0, 400, 501}),
    ("bad chunk", post(b"zz\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), {0, 400, 401, 415}),
    ("HTTP/0.9", b"GET /health\r\n", {0, 400, 505}),
    ("HTTP/9.9", b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", {0, 400, 505}),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, {0, 400}),
    ("garbage", bytes(range(256)) * 4, {0, 400}),
    ("empty line only", b"\r\n", {0, 400}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "allowed"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
def test_raw_bytes(port, data, allowed):
    answer = send(port, data)
    assert status_of(answer) in allowed, answer[:300]
    assert not re.search(rb"Traceback|site-packages|gunicorn/|/tmp|Werkzeug", answer)
    assert status_of(send(port, get("/health"))) == 200


@pytest.mark.slow
def test_silent_callers_keep_nobody_waiting(port):
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for _ in range(20):
            assert status_of(send(port, get("/health"), timeout_s=3)) == 200
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_caller_who_falls_silent_in_the_middle_is_let_go(port):
    head = post(b"", "Content-Length: 100")
    with closing(socket.create_connection(("127.0.0.1", port), timeout=25)) as connection:
        connection.sendall(head + b"{")
        assert status_of(connection.recv(65536)) in {0, 400, 408}


@pytest.mark.slow
def test_killed_worker_is_replaced(project):
    with served(project, "--workers", "1") as (port, pid):
        assert status_of(send(port, get("/health"))) == 200
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert status_of(send(port, get("/health"))) == 200


def start(config: Config, *more: str) -> subprocess.CompletedProcess:
    """Run app.py where it is expected to end by itself."""
    command = [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)


@pytest.mark.slow
def test_taken_port_is_one_clear_line(project, port):
    ended = start(project, "--port", str(port))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}: cannot listen" in ended.stderr


@pytest.mark.slow
def test_open_host_without_a_token_is_refused_at_start(project):
    ended = start(project, "--host", "0.0.0.0", "--port", "0")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "api.token" in ended.stderr


def test_host_that_is_not_ours_is_a_clear_error():
    from attrition.web import server

    with pytest.raises(AttritionError, match="cannot listen"):
        server.bind("192.0.2.1", 0)
