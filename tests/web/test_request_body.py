"""What a body of POST /prediction may contain."""

import json
import shutil

import pytest

from attrition.web import request_body
from tests.apps import GOOD, JSON, one
from tests.conftest import make_rows


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


GOOD_TEXT = json.dumps(GOOD)


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
