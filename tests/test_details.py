"""Due date, telephone and e-mail of clients, from every kind of source to every output."""

import io
import shutil
import sqlite3
from contextlib import closing

import pandas as pd
import pytest
import xlsxwriter

import app
import assessment
import ingestion
import training
from attrition import config_file
from attrition.data.clients import ClientTable
from attrition.storage import files
from tests.support import check_conserved, put, reconfigure, rejected

DETAILS = {"due": "ends", "phone": "tel", "email": "mail"}
HEADER = ["corporation", "lastmonth_activity", "lastyear_activity", "number_of_employees"]
HEADER += ["ends", "tel", "mail"]


def sheet():
    """A client whose telephone number is a number and whose due date is a date."""
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True}) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, [*HEADER, "exited"])
        page.write_row(1, 0, ["sheet", 1, 10, 5])
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        page.write_datetime(1, 4, pd.Timestamp("2027-03-31").to_pydatetime(), day)
        page.write_row(1, 5, [4930123456, "s@example.org"])
    return data.getvalue()


@pytest.fixture(scope="module")
def detailed(finished_folder, tmp_path_factory):
    """A finished project that then names the three columns; its first sources lack them all."""
    folder = tmp_path_factory.mktemp("detailed") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = reconfigure(
        config_file.load(folder / "config.json"),
        columns={"numeric": HEADER[1:4], **DETAILS},
        files={"by_name": {"german*": {"separator": ";", "dates": "%d.%m.%Y"}}},
        databases=[{"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}],
    )
    put(
        config,
        "german.csv",
        ";".join([*HEADER, "exited"])
        + "\ngerman;1;10;5;31.01.2027;+49 30 123;g@example.org;"
        + "\nwrong;1;10;5;31.02.2027;+49 30 123;w@example.org;"
        + "\nnothing;1;10;5;;-;n/a;\n",
    )
    put(config, "sheet.xlsx", sheet())
    with closing(sqlite3.connect(folder / "crm.sqlite")) as base, base:
        base.execute(f"CREATE TABLE clients ({', '.join(HEADER)}, exited)")
        values = ("table", 1, 10, 5, "2027-02-28 00:00:00", 4930123456, "=t@example.org", None)
        base.execute(f"INSERT INTO clients VALUES ({', '.join('?' * 8)})", values)
    ingestion.ingest_new_data(config)
    training.train_model(config)
    assessment.assess_clients(config)
    return config


def test_details_of_every_source_are_in_the_client_table(detailed):
    table = ClientTable(detailed.clients)
    details = {
        name: tuple(table.find(name)[key] for key in DETAILS)
        for name in ("german", "sheet", "table", "nothing")
    }
    assert details == {
        "german": ("2027-01-31", "+49 30 123", "g@example.org"),
        "sheet": ("2027-03-31", "4930123456", "s@example.org"),
        "table": ("2027-02-28", "4930123456", "=t@example.org"),
        "nothing": (None, None, None),
    }


def test_row_with_a_wrong_due_date_is_the_only_one_refused(detailed):
    check_conserved(detailed)
    (line,) = rejected(detailed)
    assert line["reason"].startswith("BAD_TIME: ends is '31.02.2027', expected a date as %d.%m.%Y")


def test_model_learns_from_none_of_them(detailed):
    record = files.read_record(detailed.training_record)
    features = {*record["features"]["numeric"], *record["features"]["categorical"]}
    assert features == {*record["importance"]} == {*HEADER[1:4]}


def test_contact_list_has_them_escaped_and_the_risk_scores_the_due_date(detailed):
    listed = pd.read_csv(detailed.contact_list, dtype=str).set_index("client")
    assert listed.loc["german", ["due", "phone"]].tolist() == ["2027-01-31", "'+49 30 123"]
    assert listed.loc["table", "email"] == "'=t@example.org"
    scores = pd.read_csv(detailed.risk_scores, dtype=str)
    assert "due" in scores
    assert not {"phone", "email"} & {*scores}


def test_api_has_them_and_reads_over_them_in_a_prediction(detailed):
    client = app.create_app(config_file.load(detailed.file)).test_client()
    answer = client.get("/clients/sheet").json
    assert (answer["due"], answer["phone"], answer["email"]) == (
        *("2027-03-31", "4930123456", "s@example.org"),
    )
    plain = dict(zip(HEADER[:4], ["a", 1, 10, 5], strict=True))
    bare = client.post("/prediction", json={"records": [plain]})
    detail = plain | {"ends": "soon", "tel": 4930123456, "mail": None}
    assert client.post("/prediction", json={"records": [detail]}).json == bare.json
    assert bare.status_code == 200


@pytest.mark.parametrize(
    ("form", "warning"),
    [
        (
            {"action": "contact", "outcome": "reached", "date": "2027-04-01"},
            "reached; follow-up on 1 April 2027. Not on the list until 1 April 2027. "
            "The contract ends before that, on 31 March 2027.",
        ),
        (
            {"action": "not_before", "date": "2027-04-01"},
            "snoozed until 1 April 2027. Not on the list until 1 April 2027. "
            "The contract ends before that, on 31 March 2027.",
        ),
        ({"action": "not_before", "date": "2027-03-31"}, ""),
        ({"action": "contact", "outcome": "reached"}, ""),
        ({"action": "reassignment", "manager": "Cy", "date": "2027-04-01"}, ""),
    ],
)
def test_date_after_the_end_of_the_contract_is_saved_with_a_warning(
    detailed, monkeypatch, form, warning
):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-11-28T10:00:00Z")
    client = app.create_app(config_file.load(detailed.file)).test_client()
    answer = client.post("/client/sheet", data=form | {"by": "Ann", "note": "why"})
    assert answer.status_code == 303
    notice = client.get(answer.location).text.partition('role="status"')[2].partition("<form")[0]
    assert warning in notice and ("before that" in notice) == bool(warning)


def test_warning_about_several_contracts_counts_those_that_end_before(detailed, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-11-28T10:00:00Z")
    client = app.create_app(config_file.load(detailed.file)).test_client()
    form = {"client": ["german", "sheet", "table", "nothing"], "note": "why"}
    form |= {"action": "not_before", "by": "Bo"}
    for date, warning in {
        "2027-03-01": "The contracts of 2 clients end before that.",
        "2027-02-15": "The contract of 1 client ends before that.",
    }.items():
        answer = client.post("/list", data=form | {"date": date})
        assert warning in client.get(answer.location).text


def test_page_of_a_client_says_what_changed_since_the_row_before(detailed):
    row = ["german", 3, 10, 5, "31.05.2027", "+49 30 123", "g@example.org", ""]
    put(detailed, "german2.csv", ";".join([*HEADER, "exited"]) + f"\n{';'.join(map(str, row))}\n")
    ingestion.ingest_new_data(detailed)
    client = app.create_app(config_file.load(detailed.file)).test_client()
    page = client.get("/client/german").text
    assert "Observed: lastmonth activity 1 → 3 (outcome not known yet)" in page
    assert "Observed: outcome not known yet" in page
