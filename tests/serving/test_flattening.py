"""A flat model gives the risks of the model that it was made from."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from attrition.modelling import calibration, explanations, models
from attrition.modelling.models import Model
from attrition.serving import flattening
from tests.serving.samples import KINDS, fit, flat_and_fitted, table

SHAPES = {
    "numbers only": {"levels": ()},
    "one number": {"numbers": 1, "levels": ()},
    "categories only": {"numbers": 0},
    "one level": {"levels": (1, 2)},
    "70 levels": {"n": 1500, "levels": (70, 3)},
    "60 columns": {"n": 300, "numbers": 50, "levels": (3,) * 10},
    "few rows": {"n": 40},
}
ALL_BUT_DEEP = [kind for kind in KINDS if kind != models.DEEP]


def check(model, rows):
    """The risks are equal to 1e-12, on random rows too, and the contributions to 1e-9."""
    flat = flattening.flatten(model)
    assert flattening.check_equal(flat, model, rows) <= 1e-12
    some = pd.concat([flattening.random_rows(flat, rows, 40), rows[:5]], ignore_index=True)
    numeric, categorical = [n for n in rows if n[0] == "x"], [n for n in rows if n[0] == "c"]
    baseline = models.baseline(rows, numeric, categorical)
    expected = explanations.contributions(model, some, baseline)
    contributions = flat.explain(flattening.to_columns(flat, some), baseline)
    np.testing.assert_allclose(contributions, expected.to_numpy(), atol=1e-9)
    unseen = flat.unseen(flattening.to_columns(flat, some))
    assert unseen.keys() == set(categorical)
    for name, is_unseen in models.unseen_levels(model, some).items():
        np.testing.assert_array_equal(unseen[name], is_unseen)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_part_gives_the_same_risks(kind):
    rows, outcome = table()
    check(fit([kind], rows, outcome), rows)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_tables_of_each_shape_give_the_same_risks(shape):
    rows, outcome = table(**shape)
    kinds = [models.SCORECARD, models.LOGISTIC, models.SHALLOW]
    check(fit(kinds, rows, outcome, (0.5, 0.3, 0.4)), rows)


@pytest.mark.parametrize("kind", list(calibration.FITS))
def test_each_calibration_gives_the_same_risks(kind):
    rows, outcome = table()
    check(fit([models.LOGISTIC], rows, outcome, calibrate=kind), rows)


def test_blend_of_all_kinds_gives_the_same_risks():
    rows, outcome = table()
    check(fit(ALL_BUT_DEEP, rows, outcome, (0.1, 0.2, 0.3, 0.1, 0.2, 0.4)), rows)


def test_column_without_values_in_training_gives_the_same_risks():
    rows, outcome = table()
    rows["x2"] = np.nan
    model = fit([models.SCORECARD, models.BOOSTING], rows, outcome)
    check(model, rows.assign(x2=np.where(rows.index % 2, 3.0, np.nan)))


def test_two_scorecards_with_the_same_knots_keep_their_own_bins():
    rows, outcome = table()
    one, other = (fit([models.SCORECARD], rows, y).parts[0] for y in (outcome, 1 - outcome))
    check(Model((one, other), (0.7, 0.2)), rows)


def test_parts_that_know_other_levels_are_both_right():
    rows, outcome = table()
    some = rows["c1"] != "level 1 é"
    parts = [
        fit([kind], rows[some], outcome[some]).parts[0]
        for kind in (models.LOGISTIC, models.SHALLOW)
    ]
    whole = fit([models.BOOSTING], rows, outcome).parts[0]
    check(Model((*parts, whole), (0.3, 0.3, 0.4)), rows)
    check(Model((whole, *parts), (0.3, 0.3, 0.4)), rows)


def test_logistic_parts_that_share_knots_have_two_curves_for_a_number():
    flat, _, _ = flat_and_fitted([models.CAUTIOUS, models.LOGISTIC, models.SCORECARD])
    assert [len(encoder.curves) for encoder in flat.encoders[:3]] == [2, 2, 2]


def test_model_with_other_risks_is_not_equal():
    flat, model, rows = flat_and_fitted([models.LOGISTIC])
    with pytest.raises(flattening.NotFlat, match="differ by up to"):
        flattening.check_equal(replace(flat, intercept=flat.intercept + 1e-9), model, rows)


def test_part_of_another_kind_is_not_flattened():
    _, model, _ = flat_and_fitted([models.LOGISTIC])
    forest = Pipeline([("encode", model.parts[0][0]), ("model", RandomForestClassifier())])
    with pytest.raises(flattening.NotFlat, match="RandomForestClassifier"):
        flattening.flatten(Model((forest,)))


def test_levels_that_are_not_text_are_not_flattened():
    rows, outcome = table()
    rows["c0"] = np.arange(len(rows)) % 3
    with pytest.raises(flattening.NotFlat, match="not text"):
        flattening.flatten(fit([models.LOGISTIC], rows, outcome))


def test_tree_of_more_than_64_leaves_is_not_flattened():
    rows, outcome = table(n=1500)
    part = models.build(models.DEEP, ["x0", "x1"], [], rows)
    part.set_params(model__max_iter=1, model__max_leaf_nodes=80, model__min_samples_leaf=1)
    part.set_params(model__learning_rate=1.0, model__l2_regularization=0.0)
    model = Model((models.fit(part, rows[["x0", "x1"]], outcome, np.ones(len(rows))),))
    with pytest.raises(flattening.NotFlat, match="80 leaves"):
        flattening.flatten(model)
    part.set_params(model__max_leaf_nodes=60)
    check(
        Model((models.fit(part, rows[["x0", "x1"]], outcome, np.ones(len(rows))),)),
        rows[["x0", "x1"]],
    )


def test_random_rows_have_missing_unknown_and_far_values_and_are_the_same_each_time():
    flat, _, rows = flat_and_fitted([models.SHALLOW])
    some = flattening.random_rows(flat, rows)
    assert some["x0"].isna().any()
    assert (some["x0"].abs() == flattening.FAR_OUT).any()
    assert some["x0"].isin(flat.encoders[0].thresholds).any()
    assert {"", "no such level"} <= set(some["c1"])
    assert some.equals(flattening.random_rows(flat, rows))
