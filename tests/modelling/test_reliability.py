import numpy as np
import pandas as pd
import pytest

from attrition.data.cells import Caution
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


def cautions(model, training=TRAINING, **odd):
    (found,) = cautions_of(model, pd.DataFrame([USUAL | odd]), training)
    return found


def cautions_of(model, rows, training):
    return reliability.cautions(rows, models.unseen_levels(model, rows), training)


def test_a_client_like_those_known_raises_no_caution(model):
    assert cautions(model) == []


@pytest.mark.parametrize(
    ("odd", "caution"),
    [
        ({"industry": "space"}, Caution("unknown_level", "industry", "space")),
        ({"industry": ""}, Caution("never_missing", "industry")),
        ({"activity": np.nan}, Caution("never_missing", "activity")),
        ({"activity": 900.0}, Caution("outside_range", "activity", 900.0, 0.5, 300.0)),
        ({"activity": -1.5}, Caution("outside_range", "activity", -1.5, 0.5, 300.0)),
    ],
)
def test_what_the_model_never_met_is_a_caution(model, odd, caution):
    assert cautions(model, **odd) == [caution]


@pytest.mark.parametrize("odd", [{"size": np.nan}, {"size": 1.0}, {"size": 499.0}])
def test_what_training_has_met_is_no_caution(model, odd):
    assert cautions(model, **odd) == []


def test_each_row_has_its_own_cautions_and_all_those_of_the_model(model):
    rows = pd.DataFrame([USUAL, USUAL | {"industry": "space", "activity": 900.0}])
    few = Caution("few_clients")
    assert cautions_of(model, rows, TRAINING | {"rows": 399}) == [
        [few],
        [
            Caution("outside_range", "activity", 900.0, 0.5, 300.0),
            Caution("unknown_level", "industry", "space"),
            few,
        ],
    ]


@pytest.mark.parametrize(
    ("rows", "left", "few"),
    [(400, 100, False), (399, 150, True), (900, 99, True), (900, 801, True)],
)
def test_few_is_few_rows_or_few_of_either_kind(rows, left, few):
    assert reliability.is_few(rows, left) is few


def test_a_base_rate_is_a_caution_for_every_client(model):
    assert cautions(model, TRAINING | {"kind": models.BASE_RATE}) == [Caution("base_rate")]


def test_no_rows_have_no_cautions(model):
    assert cautions_of(model, table(5)[0].iloc[:0], TRAINING) == []


def test_ranges_are_those_of_the_known_values():
    rows = pd.DataFrame({"a": [3.0, np.nan, -1.0]})
    assert reliability.ranges(rows, ("a",)) == {"a": [-1.0, 3.0]}
