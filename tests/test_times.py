"""What becomes of rows whose times cannot be right, and of clients last seen long ago."""

import numpy as np
import pandas as pd
import pytest

from attrition.assessing import outputs
from attrition.contacts import fields
from attrition.data import cells, clients
from attrition.rows import ledger
from ingestion import check_by_hand, ingest_new_data
from tests.conftest import read_rows, write_config
from tests.support import counts, final_rows, put, reconfigure, rejected
from tests.support import ledger as lines_of

COLUMNS = {"client": "client", "outcome": "left", "numeric": ["x"], "time": "seen"}
HEADER = "client,seen,x,left\n"
CASE = (
    "A,9999-12-31,1,\nA,2026-09-30,1,1\nD,2031-01-01,1,\nD,2026-10-01,8,\nE,2026-10-01,1,0\n"
    "F,2019-01-01,4,\n"
)


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """A project with a column of times, whose clock stands in November 2026."""
    monkeypatch.setattr("attrition.storage.files.utc_now", lambda: "2026-11-28T12:00:00Z")
    return write_config(tmp_path, columns=COLUMNS)


def long_ago(times, newest):
    days = np.array([*map(cells.day_number, times)])
    return clients.last_seen_long_ago(days, cells.day_number(newest))


def current(config):
    latest = ledger.read_latest_time(config)
    rows = read_rows(config)
    found = clients.current_clients(rows, config.columns, latest)
    times = found["seen"].tolist()
    newest = max(time for time in rows["seen"] if time <= latest)
    is_long_ago = long_ago(times, newest)
    flagged = outputs.add_last_seen([[]] * len(times), times, is_long_ago)
    texts = [[fields.caution_text(each, {}) for each in one] for one in flagged]
    return dict(zip(found["client"], zip(found["seen"], texts, strict=True), strict=True))


def test_a_time_in_the_far_future_neither_hides_a_row_nor_keeps_a_client_alive(timed):
    put(timed, "a.csv", HEADER + CASE)
    ingest_new_data(timed)
    assert current(timed) == {
        "D": ("2026-10-01", []),
        "F": ("2019-01-01", ["last seen on 2019-01-01, long before the newest rows"]),
    }
    assert counts(lines_of(timed)[0]) == (4, 2, 0)


@pytest.mark.parametrize(
    ("time", "is_refused"),
    [
        ("2026-11-29", False),
        ("2026-11-29T12:00:00Z", False),
        ("2026-11-29T14:00:00+02:00", False),
        ("2026-11-29T12:00:01Z", True),
        ("2026-11-30", True),
        ("2027-01-01 00:00", True),
        ("9999-12-31T23:59:59Z", True),
    ],
)
def test_a_time_more_than_a_day_after_ingestion_is_refused(timed, time, is_refused):
    put(timed, "a.csv", f"{HEADER}a,{time},1,\nb,2026-10-01,1,0\nc,,1,1\n")
    ingest_new_data(timed)
    assert counts(lines_of(timed)[0]) == (3 - is_refused, int(is_refused), 0)
    for row in rejected(timed):
        assert row["reason"].startswith(f"FUTURE_TIME: seen is {time[:10]}")
        assert "expected at most 2026-11-29" in row["reason"]
        assert "max_days_ahead" in row["reason"]


def test_a_raised_limit_takes_the_rows_of_known_files(timed):
    put(timed, "a.csv", HEADER + CASE)
    ingest_new_data(timed)
    timed = reconfigure(timed, columns=COLUMNS, max_days_ahead=5000)
    ingest_new_data(timed)
    assert counts(lines_of(timed)[0]) == (5, 1, 0)


def test_a_file_with_mostly_future_times_is_quarantined_with_the_reason(timed):
    path = put(timed, "a.csv", HEADER + "a,9999-12-31,1,\nb,9999-12-31,1,\nc,2026-10-01,1,0\n")
    text, is_usable = check_by_hand(timed, path)
    assert not is_usable
    assert "FUTURE_TIME: 2" in text


def test_rows_without_times_have_no_limit(empty_project):
    put(empty_project, "a.csv", "corporation,lastmonth_activity,lastyear_activity,"
        "number_of_employees,exited\n9999-12-31,1,2,3,\n")  # fmt: skip
    ingest_new_data(empty_project)
    assert len(final_rows(empty_project)) == 1


# ---- rows that an earlier version accepted


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "9999-12-31", None), ("a", "2026-09-30", 1.0)], []),
        ([("a", "2031-01-01", None), ("a", "2026-10-01", None)], ["2026-10-01"]),
        ([("a", "2031-01-01", None)], ["2031-01-01"]),
        ([("a", "2031-01-01", 1.0), ("a", "2026-10-01", None)], ["2026-10-01"]),
        ([("a", "", None), ("a", "2031-01-01", None)], [""]),
    ],
)
def test_far_future_rows_of_an_earlier_version_yield_to_the_others(timed, rows, expected):
    frame = pd.DataFrame(rows, columns=["client", "seen", "left"]).astype({"left": "float64"})
    found = clients.current_clients(frame, timed.columns, "2026-11-29T12:00:00Z")
    assert found["seen"].tolist() == expected


def test_fingerprints_of_an_earlier_version_stay(timed):
    limit = timed.limited_to("max_days_ahead").fingerprint()
    assert limit == timed.limited_to().fingerprint()


# ---- last seen


@pytest.mark.parametrize(
    ("times", "flagged"),
    [
        (["2026-10-01"], []),
        (["2026-10-01", "2026-07-01"], []),
        (["2026-10-01", "2026-06-30"], [1]),
        (["2026-10-01", "2026-10-01", "2020-05-05T10:00:00Z", "2018-01-01"], [2, 3]),
        (["2019-01-01", "", "2026-10-01"], [0]),
        ([f"2026-{month:02}-01" for month in range(1, 11)], []),
        ([f"{year}-06-01" for year in range(2010, 2027)], []),
        ([*[f"2026-{month:02}-01" for month in range(1, 11)], "2020-01-01"], [10]),
        (["", ""], []),
    ],
)
def test_clients_last_seen_long_before_the_newest_rows_are_flagged(times, flagged):
    is_long_ago = long_ago(times, max(times))
    assert is_long_ago.nonzero()[0].tolist() == flagged


def test_only_clients_seen_long_before_the_outcomes_are_flagged():
    assert long_ago(["2026-01-01"], "2026-10-01").tolist() == [True]


def test_contact_list_and_dashboard_show_when_a_client_was_last_seen():
    assert "observed_at" in fields.CONTACT_LIST
    assert fields.FIELDS["observed_at"].show("2026-10-01T12:30:00Z") == "2026-10-01 12:30"
