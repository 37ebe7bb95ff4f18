"""Dates as features: days after the observation, from ingestion to the API."""

import numpy as np
import pandas as pd
import pytest

import ingestion
import scoring
import training
from app import create_app
from attrition.config import Columns, Dialect, Label, Numeric
from attrition.contacts import fields
from attrition.data import schema
from attrition.data.api_records import BadRecords, check_records
from attrition.data.cells import Caution, Reason
from attrition.errors import ConfigError, Leakage
from attrition.modelling import data_checks
from attrition.rows import typed_rows
from tests.conftest import read_rows, run_whole, write_config
from tests.support import ledger as lines_of
from tests.support import put, rejected

COLUMNS = {"client": "client", "outcome": "left", "numeric": ["x"], "dates": ["end", "signed"]}
TIMED = COLUMNS | {"time": "seen"}
DATED = Columns(
    client="client", outcome="left", numeric=(Numeric("x"),), dates=("end",), time="seen"
)
NOW = "2026-11-28T12:00:00Z"


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set; the disk need not outlive a power cut."""
    times = [NOW]
    monkeypatch.setattr("attrition.storage.files.utc_now", lambda: times[-1])
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return times


def days(config, name="end"):
    """Return the days of each client's rows, in the order of the rows."""
    rows = read_rows(config)
    return list(zip(rows["client"], rows[name].tolist(), strict=True))


def ingest(config, name, *rows):
    put(config, name, "\n".join([",".join(config.columns.delivered), *rows, ""]))
    ingestion.ingest_new_data(config)


# ---- ingestion


@pytest.mark.parametrize(
    ("end", "seen", "expected"),
    [
        ("2026-04-15", "2026-03-01", 45.0),
        ("2026-02-27T23:59:00Z", "2026-03-01T00:30:00Z", -2.0),
        ("2026-03-01", "2026-03-01T22:00:00Z", 0.0),
        ("9999-12-31", "2026-03-01", 36525.0),
        ("1900-01-01", "2026-03-01", -36525.0),
        ("2028-03-01", "", 731.0),  # the newest time of the delivery
    ],
)
def test_a_date_becomes_days_after_the_observation(tmp_path, clock, end, seen, expected):
    config = write_config(tmp_path, columns=TIMED)
    ingest(config, "a.csv", f"a,{seen},1,{end},,", "b,2026-03-01,1,,2020-01-01,1")
    assert days(config)[0] == ("a", expected)
    assert np.isnan(days(config)[1][1])
    assert f",{end[:10]}," in config.final_data.read_text()


def test_without_times_the_days_count_from_the_day_of_ingestion(tmp_path, clock):
    config = write_config(tmp_path, columns=COLUMNS)
    ingest(config, "a.csv", "a,1,2026-11-30,2020-01-01,")
    clock.append("2026-12-28T12:00:00Z")
    ingest(config, "b.csv", "a,1,2026-11-30,2020-01-01,", "b,1,2026-12-30,2020-01-01,0")
    assert days(config) == [("a", 2.0), ("b", 2.0)]


def test_an_outcome_that_arrives_later_changes_no_days(tmp_path, clock):
    config = write_config(tmp_path, columns=COLUMNS)
    ingest(config, "a.csv", "a,1,2026-11-30,,", "b,1,2026-11-30,,")
    clock.append("2026-12-28T12:00:00Z")
    ingest(config, "b.csv", "a,1,2026-11-30,,1", "c,1,2026-11-30,,")
    assert sorted(days(config)) == [("a", 2.0), ("b", 2.0), ("c", -28.0)]
    again = files_of(config)
    config.rows.unlink()
    ingestion.ingest_new_data(config)
    assert files_of(config) == again


def files_of(config):
    return config.rows.read_bytes(), config.deliveries.read_bytes(), config.final_data.read_bytes()


def test_what_is_no_date_is_refused_with_a_reason(tmp_path, clock):
    config = write_config(tmp_path, columns=TIMED)
    ingest(config, "a.csv", "a,2026-03-01,1,soon,,", "b,2026-03-01,1,2026-13-01,,",
           "c,2026-03-01,1,2026-04-01,,", "d,2026-03-01,1,,,0", "e,2026-03-01,1,NA,,0")  # fmt: skip
    assert [row["reason"].split(":")[0] for row in rejected(config)] == ["BAD_TIME"] * 2
    assert "end is 'soon'" in rejected(config)[0]["reason"]
    assert lines_of(config)[0]["accepted"] == "3"


def test_dates_are_read_in_the_dialect_of_the_file():
    chunk = schema.make_chunk([["a", "01.03.2026", "1", "15.04.2026", ""]], [2], 5)
    table = schema.Table(DATED.delivered, [chunk], dialect=Dialect(dates="%d.%m.%Y"))
    rows = schema.check(table, DATED, ("",)).frame()
    assert rows["end"].tolist() == ["2026-04-15"]
    assert typed_rows.typed(rows, DATED)["end"].tolist() == [45.0]


def test_a_table_may_have_dates_alone_and_a_total_below(tmp_path, clock):
    config = write_config(
        tmp_path, columns={"client": "client", "outcome": "left", "dates": ["end"]}
    )
    ingest(config, "a.csv", "a,2026-12-01,1", "b,2026-11-20,", "Total,,")
    assert days(config) == [("a", 3.0), ("b", -8.0)]


@pytest.mark.parametrize(
    "text", ["2026-09-30", "2026-09-30T00:00:00Z", "2026-09-30 00:00:00+02", "2026-09-30 23:30-05"]
)
def test_a_date_is_the_day_as_it_is_written(tmp_path, clock, text):
    config = write_config(tmp_path, columns=TIMED)
    ingest(config, "a.csv", f"a,2026-09-01,1,{text},,1")
    ingest(config, "b.csv", "a,2026-09-01,1,2026-09-30,,1", "b,2026-09-01,1,2026-09-30,,")
    assert days(config) == [("a", 29.0), ("b", 29.0)]


def test_adding_dates_to_the_columns_reads_every_source_again(tmp_path, clock):
    config = write_config(tmp_path, columns=TIMED | {"dates": ["signed"]})
    put(config, "a.csv", "client,seen,x,end,signed,left\na,2026-03-01,1,2026-04-15,2026-01-01,\n")
    ingestion.ingest_new_data(config)
    config = write_config(tmp_path, columns=TIMED)
    ingestion.ingest_new_data(config)
    assert days(config) == [("a", 45.0)]


def test_ids_of_typed_rows_are_those_of_the_test_data(tmp_path, clock):
    config = write_config(tmp_path, columns=TIMED)
    rows = ["a,2026-03-01,1,2026-04-15,,1", "b,2026-03-02,2,,2020-01-01,0"]
    ingest(config, "a.csv", *rows)
    header = ",".join(config.columns.delivered)
    (config.test_folder / "t.csv").write_text("\n".join([header, *rows, ""]))
    test = scoring.read_test_data(config, [])
    stored = read_rows(config)
    assert test[typed_rows.INPUT_ID].tolist() == stored[typed_rows.INPUT_ID].tolist()
    assert test["end"].tolist()[0] == stored["end"].tolist()[0] == 45.0


# ---- configuration


def test_dates_have_labels_and_are_named_once(tmp_path):
    labelled = {"end": {"label": "contract end", "fixed": True}, "signed": {}}
    config = write_config(tmp_path, columns=COLUMNS | {"dates": labelled})
    assert config.columns.features == ("x", "end", "signed")
    assert config.labels["end"] == Label("end", "contract end", fixed=True, is_date=True)
    assert config.labels["signed"] == Label("signed", is_date=True)
    with pytest.raises(ConfigError, match="'x' is given two meanings"):
        write_config(tmp_path, columns=COLUMNS | {"dates": ["x"]})
    with pytest.raises(ConfigError, match="columns.dates.end.unit"):
        write_config(tmp_path, columns=COLUMNS | {"dates": {"end": {"unit": "days"}}})


def test_dates_may_be_the_only_features(tmp_path):
    assert write_config(tmp_path, columns={"dates": ["end"]}).columns.features == ("end",)


# ---- leakage


def signs(values, outcome):
    rows = pd.DataFrame({"end": values})
    found = data_checks.find_signs(rows, outcome, np.arange(len(outcome)), ("end",), (), ("end",))
    return [(sign.kind, sign.grave) for sign in found if sign.column == "end"]


def planted(kind):
    """Return days and outcomes: 100 of 600 clients left, and the date knows it, or does not."""
    rng = np.random.default_rng(0)
    left = np.arange(600) < 100
    if kind == "only of those who left":
        days = np.where(left, rng.integers(-30, 30, 600), np.nan)
    elif kind == "overwritten by the day of leaving":
        days = np.where(left, rng.integers(1, 30, 600), rng.integers(1, 720, 600))
    elif kind == "overwritten before the observation":
        days = np.where(left, rng.integers(-90, 0, 600), rng.integers(1, 720, 600))
    elif kind == "after the observation":
        days = np.where(left & (rng.random(600) < 0.5), 20, rng.integers(-400, 0, 600))
    elif kind == "a contract that ends at any time":
        days = rng.integers(1, 720, 600)
    elif kind == "signed at any time":
        days = rng.integers(-3000, 0, 600)
    elif kind == "more likely to leave soon before the end":
        days = np.where(left & (rng.random(600) < 0.6), rng.integers(1, 90, 600),
                        rng.integers(1, 720, 600))  # fmt: skip
    return days.astype("float64"), left.astype("float64")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("only of those who left", [("filled_afterwards", True)]),
        ("overwritten by the day of leaving", [("too_good", True)]),
        ("overwritten before the observation", [("filled_afterwards", True)]),
        ("after the observation", [("filled_afterwards", True)]),
        ("a contract that ends at any time", []),
        ("signed at any time", []),
        ("more likely to leave soon before the end", []),
    ],
)
def test_a_date_that_gives_the_outcome_away_is_found(kind, expected):
    assert signs(*planted(kind)) == expected


# ---- the API


def dated(*records, today="2026-03-01", allowed=()):
    return check_records(DATED, records, allowed, today=today).columns["end"].tolist()


def test_a_date_of_a_record_counts_from_its_time_or_today():
    assert dated({"x": 1, "end": "2026-03-11"}) == [10.0]
    assert dated({"x": 1, "end": "2026-03-11", "seen": "2026-03-10"}) == [1.0]
    assert dated({"x": 1, "end": "2026-03-11", "seen": None}) == [10.0]
    assert dated({"x": 1, "end": 45}, {"x": 1, "end": -2.0}) == [45.0, -2.0]
    assert dated({"x": 1, "end": "9999-12-31"}) == [36525.0]
    assert np.isnan(dated({"x": 1}, allowed=("end",))).all()


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"end": "tomorrow"}, "end", "expected an ISO 8601"),
        ({"end": ""}, "end", "expected an ISO 8601"),
        ({"end": True}, "end", "expected an ISO 8601"),
        ({"end": 1e6}, "end", "expected a number <= 36525"),
        ({"end": None}, "end", "is null"),
        ({"seen": "now"}, "seen", "expected an ISO 8601"),
        ({"seen": 7}, "seen", "expected an ISO 8601"),
    ],
)
def test_a_wrong_date_of_a_record_is_named(change, field, problem):
    with pytest.raises(BadRecords) as error:
        dated({"x": 1, "end": "2026-03-11"} | change)
    [one] = error.value.problems
    assert one["field"] == field
    assert problem in one["problem"]


# ---- texts


def test_reasons_changes_and_cautions_name_days():
    labels = {"contract_end": Label("contract_end", is_date=True)}
    reason = Reason("contract_end", 45.0, -1095.0, 0.2)
    assert fields.reason_text(reason, labels) == (
        "contract end: in 45 days (baseline: 1,095 days before)"
    )
    assert fields.change_text(reason, labels) == "contract end 1,095 days before → in 45 days"
    caution = Caution("outside_range", "contract_end", 900.0, 0.0, 300.0)
    assert fields.caution_text(caution, labels) == (
        "contract_end (in days) 900 is outside the training range 0 to 300"
    )
    missing = Reason("contract_end", None, 36525.0, 0.2)
    assert fields.reason_text(missing, labels) == (
        "contract end: not known (baseline: more than 100 years ahead)"
    )


# ---- the whole process


def write_dated(config, *, leaks=False):
    """Write 500 rows of clients who leave shortly before their contracts end, and 100 open ones."""
    rng = np.random.default_rng(0)
    end = rng.integers(1, 720, 600)
    left = rng.random(600) < np.where(end < 120, 0.6, 0.1)
    end = np.where(leaks & left, rng.integers(-20, 0, 600), end)
    seen = pd.Timestamp("2026-09-01") + pd.to_timedelta(rng.integers(0, 60, 600), "D")
    rows = pd.DataFrame(
        {"client": [f"c{i}" for i in range(600)], "seen": seen, "x": rng.normal(size=600)}
    )
    rows["end"] = (rows["seen"] + pd.to_timedelta(end, "D")).dt.strftime("%Y-%m-%d")
    rows.loc[rng.random(600) < 0.05, "end"] = "9999-12-31"
    signed = rows["seen"] - pd.to_timedelta(rng.integers(30, 3000, 600), "D")
    rows["signed"] = signed.dt.strftime("%Y-%m-%d")
    rows.loc[::9, "signed"] = ""
    rows["left"] = np.where(np.arange(600) < 500, left.astype(int).astype(str), "")
    rows["seen"] = rows["seen"].dt.strftime("%Y-%m-%d")
    rows.to_csv(config.input_folder / "a.csv", index=False)


def test_a_table_with_dates_runs_from_files_to_the_api(tmp_path):
    config = write_config(tmp_path, columns=TIMED, contact_capacity=10)
    write_dated(config)
    assert run_whole(config) == 0
    client = create_app(config).test_client()
    listed = client.get("/clients?limit=3").json["clients"]
    details = [client.get(f"/clients/{row['client']}").json for row in listed]
    records = [row["features"] for row in details]
    again = client.post("/prediction", json={"records": records}).json["predictions"]
    assert [row["risk"] for row in again] == pytest.approx([row["risk"] for row in listed])
    by_date = client.post("/prediction", json={"datafile": "a.csv"}).json["predictions"]
    risks = {row["client"]: row["risk"] for row in by_date}
    assert [risks[row["client"]] for row in listed] == pytest.approx([r["risk"] for r in listed])
    assert any("end: in " in reason for row in listed for reason in row["reasons"])
    assert client.get("/summarystats").json["columns"]["end"]["median"] > 0
    assert client.get("/").status_code == 200


def test_a_contract_end_overwritten_by_the_day_of_leaving_stops_training(tmp_path, clock):
    config = write_config(tmp_path, columns=TIMED)
    write_dated(config, leaks=True)
    ingestion.ingest_new_data(config)
    with pytest.raises(Leakage, match="end "):
        training.train_model(config)
