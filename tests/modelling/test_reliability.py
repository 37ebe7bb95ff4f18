import numpy as np
import pandas as pd
import pytest

from attrition.modelling import models, reliability
from tests.modelling.samples import CATEGORICAL, NUMERIC, fitted, table

TRAINING = {
    "kind": models.LOGISTIC,
    "rows": 2000,
    "left": 900,
    "features": {"numeric": NUMERIC, "categorical": CATEGORICAL},
    "missing_seen": ["size"],
    "ranges": {"activity": [0.5, 300.0], "size": [1.0, 499.0]},
}
USUAL = {"activity": 20.0, "size": 50.0, "industry": "trade"}


@pytest.fixture(scope="module")
def model():
    rows, outcome = table()
    known = rows["industry"] != ""
    return fitted(models.LOGISTIC, rows[known], outcome[known])


def doubts(model, training=TRAINING, **odd):
    (found,) = reliability.doubts(model, pd.DataFrame([USUAL | odd]), training)
    return found


def test_a_client_like_those_known_raises_no_doubt(model):
    assert doubts(model) == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"industry": "space"}, "unknown level of industry"),
        ({"industry": ""}, "no value of industry, which was never missing in training"),
        ({"activity": np.nan}, "no value of activity, which was never missing in training"),
        ({"activity": 900.0}, "activity 900, the model knows 0.5 to 300"),
        ({"activity": -1.5}, "activity -1.5, the model knows 0.5 to 300"),
    ],
)
def test_what_the_model_never_met_is_said(model, odd, said):
    assert doubts(model, **odd) == [said]


@pytest.mark.parametrize("odd", [{"size": np.nan}, {"size": 1.0}, {"size": 499.0}])
def test_what_training_has_met_is_no_doubt(model, odd):
    assert doubts(model, **odd) == []


def test_each_row_has_its_own_doubts_and_all_those_of_the_model(model):
    rows = pd.DataFrame([USUAL, USUAL | {"industry": "space", "activity": 900.0}])
    few = "learned from few clients"
    assert reliability.doubts(model, rows, TRAINING | {"rows": 399}) == [
        [few],
        ["activity 900, the model knows 0.5 to 300", "unknown level of industry", few],
    ]


@pytest.mark.parametrize(
    ("rows", "left", "few"),
    [(400, 100, False), (399, 150, True), (900, 99, True), (900, 801, True)],
)
def test_few_is_few_rows_or_few_of_either_kind(rows, left, few):
    assert reliability.is_few(rows, left) is few


def test_a_base_rate_says_so_for_every_client(model):
    training = TRAINING | {"kind": models.BASE_RATE}
    assert doubts(model, training) == ["no usable signal: the base rate"]


def test_a_record_from_before_ranges_were_told_doubts_no_number(model):
    assert doubts(model, TRAINING | {"ranges": {}}, activity=1e9) == []


def test_no_rows_have_no_doubts(model):
    assert reliability.doubts(model, table(5)[0].iloc[:0], TRAINING) == []


def test_ranges_are_those_of_the_known_values():
    rows = pd.DataFrame({"a": [3.0, np.nan, -1.0]})
    assert reliability.ranges(rows, ("a",)) == {"a": [-1.0, 3.0]}
