from datetime import UTC, date, datetime

import pandas as pd
import pytest

from attrition.errors import AttritionError
from benchmarks import demo

NOW = datetime(2028, 2, 29, 12, tzinfo=UTC)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "CLIENTS", 40)
    monkeypatch.setattr(demo, "ROWS_BEFORE", 10)
    monkeypatch.setattr(demo, "TEST_CLIENTS", 20)


@pytest.fixture
def live(small, tmp_path):
    """Let a company live for some months; return its life and the months."""

    def live(company, months):
        life = demo.Life(demo.make_project(tmp_path / "demo"), company, demo.Clock(NOW), 1)
        return life, [life.begin_month() for _ in range(months)]

    return live


def test_company_begins_a_year_ago_and_is_the_same_for_a_seed(live):
    today = date(2028, 2, 29)
    company, again = demo.simulate(1, today), demo.simulate(1, today)
    _, months = live(company, 3)
    assert len(company.before) == 3
    starts = [rows["observed_on"].iloc[0] for rows in months]
    assert starts == ["2027-02-01", "2027-03-01", "2027-04-01"]
    for rows, same in zip(months, live(again, 3)[1], strict=True):
        pd.testing.assert_frame_equal(rows, same)
        assert (rows["renewal_date"] > rows["observed_on"]).all()
        assert set(rows["client_manager"]) == set(demo.MANAGERS)
    assert not set(company.test["corporation"]) & set(months[0]["corporation"])


def test_a_saved_client_stays_in_the_outcomes_and_in_the_months_that_follow(live):
    company = demo.simulate(1, date(2028, 2, 29))
    life, (first,) = live(company, 1)
    leavers = first["corporation"][first["exited"] == 1].tolist()
    life.saved = {leavers[0]}
    second = life.begin_month()
    outcome = life.months[0].set_index("corporation")["exited"]
    assert [outcome[name] for name in leavers] == [0, *[1] * (len(leavers) - 1)]
    assert [name in set(second["corporation"]) for name in leavers[:2]] == [True, False]


def test_folder_that_is_not_of_the_demo_is_left_alone(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "diary.txt").write_text("mine")
    with pytest.raises(AttritionError, match="rename it"):
        demo.make_project(tmp_path / "demo")
    assert (tmp_path / "demo" / "diary.txt").read_text() == "mine"


def test_folder_of_an_earlier_demo_is_made_anew(tmp_path):
    earlier = demo.make_project(tmp_path / "demo")
    (earlier.input_folder / "old.csv").write_text("old")
    config = demo.make_project(tmp_path / "demo")
    assert list(config.input_folder.iterdir()) == []
    assert config.columns.due == "renewal_date"
