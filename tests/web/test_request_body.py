"""What a body of POST /prediction may contain."""

import json
import re
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
    ("1000 digits", one("9" * 1000), {422}),
    ("-1e400", one("-1e400"), {400}),
    ("1e400 deep inside", '{"records": [[[{"x": [1e400]}]]]}', {400}),
    ("columns null", '{"columns": null}', {422}),
    ("columns list", '{"columns": [[1]]}', {422}),
    ("no columns", '{"columns": {}}', {422}),
    ("column of text", '{"columns": {"lastmonth_activity": "12"}}', {422}),
    ("empty columns", '{"columns": {"lastmonth_activity": []}}', {422}),
    ("nested columns", '{"columns": {"lastmonth_activity": [[1]]}}', {422}),
    ("too many rows", '{"columns": {"lastmonth_activity": [' + "1," * 10_000 + "1]}}", {413}),
    ("records and columns", '{"records": [], "columns": {}}', {422}),
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


# ---- columns and CSV

ROWS = [
    GOOD | {"corporation": "b", "lastmonth_activity": 3.5, "industry": "retail"},
    GOOD | {"corporation": "a", "number_of_employees": None, "industry": "space"},
    GOOD | {"corporation": "", "lastyear_activity": 9, "industry": "mining"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
COLUMNS["corporation"] = ["b", "a", None]
CSV = {"Content-Type": "text/csv"}


def as_csv(header, *rows, separator=","):
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join(map(separator.join, [header, *cells]))


def predictions(client, query="", **request):
    answer = client.post(f"/prediction{query}", **request)
    assert answer.status_code == 200, answer.data
    assert answer.json["count"] == len(answer.json["predictions"])
    return answer.json["predictions"]


def test_all_forms_of_the_same_rows_get_the_same_predictions(odd_client):
    records = [{k: v for k, v in row.items() if v != ""} for row in ROWS]
    expected = predictions(odd_client, json={"records": records})
    assert [row["client"] for row in expected] == ["b", "a", None]
    assert expected[1]["flags"] == ["unknown category of industry"]
    assert predictions(odd_client, json={"columns": COLUMNS}) == expected
    names = ["exited", "Industry", *GOOD, "corporation"]
    rows = [["", row["industry"], *(row[name] for name in names[2:])] for row in ROWS]
    assert predictions(odd_client, data=as_csv(names, *rows), headers=CSV) == expected
    german = "\ufeff" + as_csv(names, *rows, separator=";").replace("\n", "\r\n")
    assert predictions(odd_client, data=german.encode(), headers=CSV) == expected


@pytest.mark.parametrize("form", ["records", "columns", "csv"])
def test_reasons_are_returned_if_asked(odd_client, form):
    record = {**GOOD, "lastmonth_activity": 0, "lastyear_activity": 0, "industry": "retail"}
    body = {"json": {"records": [record]}}
    if form == "columns":
        body = {"json": {"columns": {name: [value] for name, value in record.items()}}}
    elif form == "csv":
        body = {"data": as_csv([*record], [*record.values()]), "headers": CSV}
    (row,) = predictions(odd_client, "?reasons=2", **body)
    assert 1 <= len(row["reasons"]) <= 2
    first = row["reasons"][0]
    assert first["contribution"] >= row["reasons"][-1]["contribution"] >= 0.05
    assert first["text"].startswith(first["feature"].replace("_", " "))


def test_reasons_of_a_prediction_are_those_of_the_client(client):
    row = client.get("/clients?limit=1").json["clients"][0]
    shown = client.get(f"/clients/{row['client']}").json
    (again,) = predictions(client, "?reasons=3", json={"records": [shown["features"]]})
    assert again["risk"] == pytest.approx(shown["risk"], abs=1e-12)
    assert [reason.pop("text") for reason in again["reasons"]] == shown["reasons"]
    for reason, other in zip(again["reasons"], shown["reasons_detail"], strict=True):
        assert reason == other | {"contribution": pytest.approx(other["contribution"], abs=1e-9)}


@pytest.mark.parametrize("query", ["?reasons=0", "?reasons=21", "?reasons=x", "?reasons=1_0"])
def test_number_of_reasons_is_checked(client, query):
    answer = client.post(f"/prediction{query}", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_parameter")


def test_reasons_of_too_many_rows_are_413(client):
    body = {"columns": {name: [value] * 1_001 for name, value in GOOD.items()}}
    assert client.post("/prediction?reasons=1", json=body).status_code == 413
    assert client.post("/prediction", json=body).json["count"] == 1_001


def test_faults_of_columns_are_named_by_row_and_field_all_at_once(client):
    body = {"columns": {name: [value] * 250 for name, value in GOOD.items()}}
    body["columns"]["number_of_employees"] = [-1] * 250
    answer = client.post("/prediction", json=body)
    assert answer.status_code == 422
    assert answer.json["error"].endswith("(and 249 more)")
    assert len(answer.json["problems"]) == 100
    assert answer.json["problems"][7] == {
        "record": 7,
        "field": "number_of_employees",
        "problem": "number_of_employees is '-1', expected a number >= 0",
    }


def test_a_thousand_unknown_columns_are_counted_and_the_first_are_named(client):
    body = {"columns": {f"u{i}": [0] * 200 for i in range(1_000)}}
    answer = client.post("/prediction", json=body)
    assert answer.json["error"] == f"record 0: u0: unknown field (and {1_003 * 200 - 1} more)"
    assert [(one["record"], one["problem"]) for one in answer.json["problems"]] == [
        (0, "unknown field")
    ] * 100


def test_columns_of_other_lengths_are_named(client):
    body = {"columns": {"lastmonth_activity": [1, 2], "lastyear_activity": [1], "x": 3}}
    answer = client.post("/prediction", json=body)
    assert [(one["field"], one["problem"]) for one in answer.json["problems"]] == [
        ("lastyear_activity", "has 1 value, expected 2 like the first column"),
        ("x", "expected a list"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"lastmonth_activity,lastyear_activity,number_of_employees", 422),
        (b"lastmonth_activity,lastmonth_activity,number_of_employees\n1,2,3", 422),
        (b"lastmonth_activity,lastyear_activity,colour\n1,2,3", 422),
        (b"lastmonth_activity,lastyear_activity,number_of_employees\n1,2", 422),
        (b"lastmonth_activity,lastyear_activity,number_of_employees\n1,2,3\x00", 422),
        (b'lastmonth_activity,lastyear_activity,number_of_employees\n1,2,"3', 400),
        (b"lastmonth_activity,lastyear_activity,number_of_employees\n1,2,\xff", 400),
        (b"lastmonth_activity,lastyear_activity,number_of_employees" + b"\n1,2,3" * 10_001, 413),
        (b"x" * 200_000 + b"\n1", 400),
        (b'{"records": []}', 422),
    ],
)
def test_csv_that_cannot_be_used_is_refused(client, body, status):
    answer = client.post("/prediction", data=body, headers=CSV)
    assert answer.status_code == status, answer.data
    assert answer.json.keys() >= {"error", "code"}
    assert len(answer.data) < 2_000


def test_blank_lines_above_the_header_do_not_count(client):
    body = "\n \n" + ";".join(GOOD) + "\n" + ";".join(map(str, GOOD.values())) + "\n"
    answer = client.post("/prediction", data=body.encode(), headers=CSV)
    assert answer.status_code == 200, answer.data


def test_an_answer_has_its_three_parts_in_order_without_blanks(client):
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert answer.mimetype == "application/json"
    assert re.match(rb'\{"model":"[^"]+","count":1,"predictions":\[\{"client":null,', answer.data)
