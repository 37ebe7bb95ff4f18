import numpy as np
import pandas as pd
import pytest

from attrition.modelling import metrics, models
from attrition.modelling.models import Model
from tests.modelling.samples import CATEGORICAL, KINDS, NUMERIC, fitted, table


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return fitted(request.param)


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
        part = models.build(kind, numeric, categorical, rows)
        models.fit(part, rows[numeric + categorical], outcome, np.ones(len(rows)))
        assert np.isfinite(models.predict(Model((part,)), rows)).all()
        assert len(models.encoded_features(part)) == part[:-1].transform(rows).shape[1]


@pytest.mark.parametrize("kind", models.SIMPLEST_FIRST[1:])
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
    part = models.build(models.BASE_RATE, NUMERIC, CATEGORICAL, rows)
    models.fit(part, rows, outcome, weight)
    assert models.predict(Model((part,)), rows)[0] == pytest.approx(outcome[:200].mean())


@pytest.mark.parametrize(
    ("rows", "left", "names"),
    [
        (26, 10, models.SIMPLEST_FIRST[:3]),
        (200, 29, models.SIMPLEST_FIRST[:3]),
        (200, 171, models.SIMPLEST_FIRST[:3]),
        (200, 30, models.SIMPLEST_FIRST[:5]),
        (500, 50, models.SIMPLEST_FIRST[:6]),
        (2000, 100, models.SIMPLEST_FIRST),
    ],
)
def test_what_many_rows_can_teach_is_tried_only_with_so_many(rows, left, names):
    assert models.candidates(rows, left) == list(names)


def test_every_encoded_column_is_known_by_its_feature():
    rows, outcome = table(600)
    rows.loc[:0, "industry"] = "rare"
    part = fitted(models.SCORECARD, rows, outcome).parts[0]
    found = models.encoded_features(part)
    encoded = part[:-1].transform(rows)
    for name, value in (("activity", 1e3), ("size", np.nan), ("industry", "bank")):
        moved = part[:-1].transform(rows.assign(**{name: value})) != encoded
        assert {found[i] for i in np.flatnonzero(moved.any(axis=0))} == {name}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12])
def test_the_unit_of_a_number_is_no_trouble(kind, scale):
    rows, outcome = table(100)
    rows["size"] = np.random.default_rng(0).normal(size=100) * scale
    assert np.isfinite(models.predict(fitted(kind, rows, outcome), rows)).all()


def test_twelve_columns_that_are_constant_in_a_fold_are_no_trouble():
    rows, outcome = table(100)
    more = [f"k{i}" for i in range(12)]
    rows = rows.assign(**dict.fromkeys(more, 3.0))
    part = models.build(models.SCORECARD, [*NUMERIC, *more], CATEGORICAL, rows)
    models.fit(part, rows, outcome, np.ones(100))
    assert np.isfinite(models.predict(Model((part,)), rows)).all()


def test_equal_weights_are_none():
    rows, outcome = table()
    once, thrice = (
        models.fit(models.build(models.BOOSTING, NUMERIC, CATEGORICAL, rows), rows, outcome, weight)
        for weight in (np.ones(400), np.full(400, 3.0))
    )
    np.testing.assert_array_equal(models.score_part(once, rows), models.score_part(thrice, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_one_column_a_feature_goes_into_trees_whatever_its_levels(kind):
    rows, outcome = table(600)
    rows = rows.assign(industry=[f"i{i % 50}" for i in range(600)])
    part = fitted(kind, rows, outcome).parts[0]
    width = part[:-1].transform(rows).shape[1]
    assert width == 3 if kind in models.LEAVES else width > 40


def test_a_level_that_every_row_has_for_itself_tells_trees_nothing():
    rows, outcome = table(600)
    rows = rows.assign(industry=[f"day {i}" for i in range(600)])
    risk = models.predict(fitted(models.SHALLOW, rows, outcome), rows)
    other = models.predict(fitted(models.SHALLOW, rows, outcome), rows.assign(industry="day 7"))
    np.testing.assert_array_equal(risk, other)


# ---- blends


def test_the_weights_of_a_blend_are_those_that_make_the_outcomes_likeliest():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (5000, 3))
    outcome = (rng.random(5000) < metrics.expit(scores @ [0.8, 0.4, 0.0])).astype(float)
    assert models.blend_weights(scores, outcome) == pytest.approx([0.8, 0.4, 0.0], abs=0.06)


def test_no_weight_is_below_nought():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (5000, 2))
    outcome = (rng.random(5000) < metrics.expit(scores @ [1.0, -1.0])).astype(float)
    assert models.blend_weights(scores, outcome)[1] == 0


def test_unseen_levels_are_told_by_row():
    model = fitted(models.LOGISTIC)
    rows = table(3)[0].assign(industry=["trade", "mining", ""])
    assert models.unseen_levels(model, rows)["industry"].tolist() == [False, True, False]


def test_a_model_without_levels_has_none_unseen():
    rows, outcome = table(100)
    part = models.build(models.LOGISTIC, NUMERIC, [], rows)
    models.fit(part, rows[NUMERIC], outcome, np.ones(len(rows)))
    assert models.unseen_levels(Model((part,)), rows) == {}


def test_typical_is_the_median_and_the_commonest_level():
    rows = pd.DataFrame({"a": [1.0, 2, np.nan, 9], "b": np.nan, "c": ["x", "y", "y", ""]})
    assert models.baseline(rows, ["a", "b"], ["c"]) == {"a": 2.0, "b": None, "c": "y"}


@pytest.mark.parametrize("kind", [models.SHALLOW, models.BOOSTING, models.DEEP])
def test_boosting_scored_on_its_bins_equals_its_decision_function(kind):
    rows, _ = table()
    (part,) = fitted(kind).parts
    assert np.array_equal(models.score_part(part, rows), part.decision_function(rows)), (
        "scikit-learn changed _bin_mapper or _predict_iterations: let models.score_part call "
        "decision_function for boosting too, which takes half as long again"
    )
