import io
import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from attrition import models
from attrition.errors import Damaged

NUMERIC, CATEGORICAL = ["activity", "size"], ["industry"]
KINDS = models.SIMPLEST_FIRST


def table(n=400, seed=0):
    """Little activity, and the trade, mean leaving; a tenth of the sizes and trades is missing."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "activity": rng.lognormal(3, 1, n),
            "size": np.where(rng.random(n) < 0.1, np.nan, rng.integers(1, 500, n)),
            "industry": rng.choice(["trade", "bank", ""], n, p=[0.6, 0.3, 0.1]),
        }
    )
    odds = 2 - np.log(rows["activity"]) + (rows["industry"] == "trade")
    return rows, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


def fitted(kind, rows=None, outcome=None):
    if rows is None:
        rows, outcome = table()
    model = models.build(kind, NUMERIC, CATEGORICAL, len(rows))
    return models.fit(model, rows, outcome, np.ones(len(rows)))


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return fitted(request.param)


def test_a_model_comes_back_from_its_file_with_equal_predictions(model):
    rows, _ = table(100, seed=1)
    loaded = models.loads(models.dumps(model))
    np.testing.assert_array_equal(models.predict(loaded, rows), models.predict(model, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_give_the_same_file(kind):
    assert models.dumps(fitted(kind)) == models.dumps(fitted(kind))


def test_risks_lie_between_nought_and_one(model):
    risk = models.predict(model, table(100, seed=1)[0])
    assert risk.shape == (100,)
    assert ((risk >= 0) & (risk <= 1)).all()


def test_no_rows_have_no_risks(model):
    assert models.predict(model, table(5)[0].iloc[:0]).shape == (0,)


def test_further_columns_and_their_order_do_not_matter(model):
    rows, _ = table(50, seed=1)
    more = rows[["industry", "size", "activity"]].assign(client="x", exited=1)
    np.testing.assert_array_equal(models.predict(model, more), models.predict(model, rows))


def test_missing_and_unseen_values_have_a_risk(model):
    odd = pd.DataFrame(
        {
            "activity": [np.nan, 1e15, 0, np.nan],
            "size": [np.nan, -1e15, np.nan, 5],
            "industry": ["", "never seen", "trade", "x" * 200],
        }
    )
    assert np.isfinite(models.predict(model, odd)).all()


def test_a_level_that_was_never_seen_counts_as_a_rare_one():
    rows, outcome = table()
    rows.loc[:0, "industry"] = "rare"
    model = fitted(models.LOGISTIC, rows, outcome)
    some = rows.head(3)
    as_rare = models.predict(model, some.assign(industry="rare"))
    np.testing.assert_array_equal(models.predict(model, some.assign(industry="new")), as_rare)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_has_a_value_only_outside_the_fold_is_no_trouble(kind):
    rows, outcome = table(100)
    rows["size"] = np.nan
    model = fitted(kind, rows, outcome)
    assert np.isfinite(models.predict(model, rows.assign(size=7.0))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_one_value_in_a_fold_is_no_trouble(kind):
    rows, outcome = table(100)
    model = fitted(kind, rows.assign(size=3.0, industry="bank"), outcome)
    assert np.isfinite(models.predict(model, rows)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_one_kind_of_column_are_no_trouble(kind):
    rows, outcome = table(100)
    for numeric, categorical in ([["activity"], []], [[], ["industry"]]):
        model = models.build(kind, numeric, categorical, len(rows))
        models.fit(model, rows[numeric + categorical], outcome, np.ones(len(rows)))
        assert np.isfinite(models.predict(model, rows)).all()


@pytest.mark.parametrize("kind", [models.CAUTIOUS, models.LOGISTIC, models.BOOSTING])
def test_a_planted_effect_is_learned(kind):
    rows, outcome = table(2000)
    model = fitted(kind, rows, outcome)
    some = table(50, seed=1)[0]
    idle, busy = some.assign(activity=1.0), some.assign(activity=200.0)
    assert (models.predict(model, idle) > models.predict(model, busy) + 0.3).all()


def test_the_base_rate_is_the_share_who_left_whatever_the_features():
    rows, outcome = table()
    risk = models.predict(fitted(models.BASE_RATE, rows, outcome), table(20, seed=3)[0])
    assert risk == pytest.approx(np.full(20, outcome.mean()))


def test_weights_of_nought_do_not_count():
    rows, outcome = table()
    weight = np.r_[np.ones(200), np.zeros(200)]
    model = models.build(models.BASE_RATE, NUMERIC, CATEGORICAL, len(rows))
    models.fit(model, rows, outcome, weight)
    assert models.predict(model, rows)[0] == pytest.approx(outcome[:200].mean())


@pytest.mark.parametrize(
    ("rows", "left", "boosts"),
    [(26, 10, False), (199, 90, False), (200, 29, False), (200, 30, True), (200, 171, False)],
)
def test_boosting_is_tried_only_with_enough_rows(rows, left, boosts):
    names = models.candidates(rows, left)
    assert names[0] == models.BASE_RATE
    assert (models.BOOSTING in names) == boosts


def test_unseen_levels_are_told_by_row():
    model = fitted(models.LOGISTIC)
    rows = table(3)[0].assign(industry=["trade", "mining", ""])
    assert models.unseen_levels(model, rows)["industry"].tolist() == [False, True, False]


def test_a_model_without_levels_has_none_unseen():
    rows, outcome = table(100)
    model = models.build(models.LOGISTIC, NUMERIC, [], len(rows))
    models.fit(model, rows[NUMERIC], outcome, np.ones(len(rows)))
    assert models.unseen_levels(model, rows) == {}


def test_typical_is_the_median_and_the_commonest_level():
    rows = pd.DataFrame({"a": [1.0, 2, np.nan, 9], "b": np.nan, "c": ["x", "y", "y", ""]})
    assert models.typical(rows, ["a", "b"], ["c"]) == {"a": 2.0, "b": None, "c": "y"}


# ---- reasons


@pytest.mark.parametrize("kind", [models.CAUTIOUS, models.LOGISTIC, models.BOOSTING])
def test_contributions_have_the_sign_of_the_planted_effect(kind):
    rows, outcome = table(2000)
    model = fitted(kind, rows, outcome)
    some = table(2, seed=1)[0].assign(activity=[1.0, 200.0])
    found = models.contributions(model, some, models.typical(rows, NUMERIC, CATEGORICAL))
    assert found["activity"].iloc[0] > 1
    assert found["activity"].iloc[1] < -1


def test_an_ordinary_value_contributes_nothing():
    rows, outcome = table()
    usual = models.typical(rows, NUMERIC, CATEGORICAL)
    ordinary = rows.head(1).assign(**usual)
    found = models.contributions(fitted(models.LOGISTIC, rows, outcome), ordinary, usual)
    assert found.to_numpy() == pytest.approx(np.zeros((1, 3)))


def test_contributions_of_a_base_rate_are_nothing():
    rows, outcome = table()
    usual = models.typical(rows, NUMERIC, CATEGORICAL)
    found = models.contributions(fitted(models.BASE_RATE, rows, outcome), rows, usual)
    assert not found.to_numpy().any()


def test_a_column_without_a_typical_value_is_compared_with_missing():
    rows, outcome = table()
    found = models.contributions(
        fitted(models.LOGISTIC, rows, outcome),
        rows.head(3),
        {"activity": 20.0, "size": None, "industry": ""},
    )
    assert np.isfinite(found.to_numpy()).all()


# ---- hostile files


class Opens:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def rewritten(data, change):
    """Change the schema of a skops file."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(found, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, change(text.decode()) if name == "schema.json" else text)
    return found.getvalue()


def test_a_pickle_is_refused_and_not_run(tmp_path):
    with pytest.raises(Damaged):
        models.loads(pickle.dumps(Opens(tmp_path / "made")))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK\x05\x06" + bytes(18), np.random.default_rng(0).bytes(999)]
)
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(Damaged):
        models.loads(data)


def test_a_type_that_we_do_not_know_is_refused():
    hostile = Pipeline([("run", FunctionTransformer(np.save)), ("model", LogisticRegression())])
    with pytest.raises(Damaged, match="cannot be trusted"):
        models.loads(skops.io.dumps(hostile))


@pytest.mark.parametrize("name", ["system", "no_such_function"])
def test_a_model_file_changed_to_call_something_else_is_refused(name):
    def change(text):
        schema = json.loads(text)
        schema["__module__"], schema["__class__"] = "os", name
        return json.dumps(schema)

    with pytest.raises(Damaged):
        models.loads(rewritten(models.dumps(fitted(models.LOGISTIC)), change))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_torn_model_file_is_refused(kept):
    data = models.dumps(fitted(models.LOGISTIC))
    with pytest.raises(Damaged):
        models.loads(data[: int(len(data) * kept)])
