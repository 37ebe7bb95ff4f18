from datetime import date

import pandas as pd
import pytest

from attrition.errors import AttritionError
from benchmarks import demo


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "CLIENTS", 40)
    monkeypatch.setattr(demo, "ROWS_BEFORE", 10)
    monkeypatch.setattr(demo, "TEST_CLIENTS", 20)


def test_company_ends_in_the_month_of_today_and_is_the_same_for_a_seed(small):
    today = date(2028, 2, 29)
    company, again = demo.simulate(1, today), demo.simulate(1, today)
    months = [rows["observed_on"].iloc[0] for rows in company.months]
    assert len(company.before) == 3
    assert months == ["2027-11-01", "2027-12-01", "2028-01-01", "2028-02-01", "2028-03-01"]
    for rows, same in zip(company.months, again.months, strict=True):
        pd.testing.assert_frame_equal(rows, same)
        assert (rows["renewal_date"] > rows["observed_on"]).all()
        assert set(rows["client_manager"]) == set(demo.MANAGERS)
    assert not set(company.test["corporation"]) & set(company.months[0]["corporation"])


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
