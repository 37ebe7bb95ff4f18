import numpy as np
import pandas as pd
import pytest

from attrition.modelling import data_checks


@pytest.fixture
def table():
    """1,000 honest rows: activity tells a little, trade hardly anything."""
    rng = np.random.default_rng(0)
    outcome = (rng.random(1000) < 0.2).astype(float)
    rows = pd.DataFrame(
        {
            "activity": rng.normal(-outcome, 1),
            "trade": rng.choice(["bank", "shop", ""], 1000),
        }
    )
    return rows, outcome


def find(rows, outcome):
    numeric = [name for name in rows if rows[name].dtype == float]
    categorical = [name for name in rows if name not in numeric]
    return data_checks.find_signs(rows, outcome, np.arange(len(rows)), numeric, categorical)


def test_honest_columns_are_no_sign(table):
    assert find(*table) == []


def test_a_column_that_alone_tells_who_left_is_grave(table):
    rows, outcome = table
    rows = rows.assign(days_since_last_login=outcome * 60 + np.abs(rows["activity"]))
    (sign,) = find(rows, outcome)
    assert (sign.kind, sign.column, sign.grave) == ("too_good", "days_since_last_login", True)
    assert sign.sentence.startswith("days_since_last_login alone predicts who left (ROC AUC 0.999)")


def test_a_column_that_tells_from_its_middle_is_found(table):
    """Neither low nor high means leaving: the order alone shows nothing."""
    rows, outcome = table
    rng = np.random.default_rng(1)
    rows = rows.assign(
        odd=np.where(outcome == 1, rng.normal(0, 0.05, 1000), rng.choice([-3.0, 3], 1000))
    )
    assert [sign.kind for sign in find(rows, outcome)] == ["too_good"]


def test_a_level_that_tells_who_left_is_grave(table):
    rows, outcome = table
    rows = rows.assign(status=np.where(outcome == 1, "ended", "running"))
    assert [(sign.kind, sign.column) for sign in find(rows, outcome)] == [("too_good", "status")]


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("missing", ["", np.nan])
def test_a_column_filled_only_for_those_who_left_is_grave(table, share, missing):
    rows, outcome = table
    filled = (outcome == 1) & (np.random.default_rng(1).random(1000) < share)
    value = "too dear" if missing == "" else 3.0
    rows = rows.assign(note=pd.Series(np.where(filled, value, missing)))
    (sign,) = find(
        rows.assign(note=rows["note"].astype(object if missing == "" else float)), outcome
    )
    assert (sign.kind, sign.column, sign.grave) == ("filled_afterwards", "note", True)


def test_a_column_filled_for_few_of_both_is_no_sign(table):
    rows, outcome = table
    filled = np.random.default_rng(1).random(1000) < 0.05
    assert find(rows.assign(note=np.where(filled, "x", "")), outcome) == []


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        ("cancellation_date", True),
        ("days_to_exit", True),
        ("churn_score", True),
        ("ExitReason", True),
        ("lefthanded", True),
        ("enclosed", False),
        ("tenure", False),
    ],
)
def test_a_name_that_speaks_of_the_end_is_told_but_not_grave(table, name, is_told):
    rows, outcome = table
    found = find(rows.assign(**{name: np.random.default_rng(1).normal(size=1000)}), outcome)
    assert [(sign.kind, sign.grave) for sign in found] == ([("named_afterwards", False)] * is_told)


def test_a_name_of_each_client_tells_nothing(table):
    rows, outcome = table
    assert find(rows.assign(code=[f"c{i}" for i in range(1000)]), outcome) == []


def test_twelve_who_left_prove_nothing():
    outcome = np.r_[np.ones(12), np.zeros(300)]
    rows = pd.DataFrame({"a": outcome * 5 + np.linspace(0, 1, 312)})
    assert find(rows, outcome) == []


def test_rows_that_repeat_each_other_are_told(table):
    rows, outcome = table
    twice = pd.concat([rows, rows.head(100)], ignore_index=True)
    found = find(twice, np.r_[outcome, outcome[:100]])
    assert [sign.kind for sign in found] == ["copies"]
    assert found[0].sentence.startswith("100 of 1,100 rows duplicate another one")


def test_equal_rows_that_disagree_are_told(table):
    rows, outcome = table
    twice = pd.concat([rows, rows.head(100)], ignore_index=True)
    found = find(twice, np.r_[outcome, 1 - outcome[:100]])
    assert [sign.kind for sign in found] == ["copies", "label_noise"]
    assert found[1].sentence.startswith("200 rows are equal in every feature")


def test_missing_and_infinite_values_are_no_trouble(table):
    rows, outcome = table
    rows = rows.assign(empty=np.nan, infinite=np.inf, one=1.0, nothing="")
    assert find(rows, outcome) == []
