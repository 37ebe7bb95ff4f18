"""Predictions from checked columns: risk, outcome, flags and reasons."""

from types import SimpleNamespace

import numpy as np
import pytest

from attrition.config import Label
from attrition.data.api_records import CheckedRows
from attrition.modelling import explanations, models, reliability
from attrition.serving import explaining
from attrition.serving.prediction import explain, predict
from attrition.serving.served import FrameModel
from tests.serving import samples

LABELS = {"x0": Label("x0", label="logins", unit="a day")}


@pytest.fixture(scope="module")
def fitted():
    """A flat model, the model that it was made from, and rows with missing and unknown values."""
    flat, model, rows = samples.flat_and_fitted()
    rows = rows.head(60).copy()
    rows.loc[:3, "x0"] = [np.nan, -5.0, 1e6, 2.0]
    rows.loc[:1, "c0"] = ["never seen", ""]
    return flat, model, rows


@pytest.fixture(scope="module")
def release(fitted):
    _, _, rows = fitted
    numeric, categorical = samples.names(rows)
    training = {
        **{"kind": models.BLEND, "rows": 600, "left": 300, "missing_seen": ["x1"]},
        "features": {"numeric": numeric, "categorical": categorical},
        "ranges": reliability.ranges(rows.iloc[4:], tuple(numeric)),
        "baseline": models.baseline(rows, numeric, categorical),
    }
    return SimpleNamespace(id="r1", training=training, score={"threshold": 0.5})


def columns_of(rows):
    return {name: rows[name].to_numpy() if name[0] == "x" else rows[name].tolist() for name in rows}


def checked(rows):
    return CheckedRows([f"client {i}" if i else "" for i in range(len(rows))], columns_of(rows))


def test_predictions_are_in_the_order_of_the_rows_with_the_risks_of_the_model(fitted, release):
    flat, model, rows = fitted
    predictions = predict(release, flat, checked(rows), LABELS)
    assert [one["client"] for one in predictions[:3]] == [None, "client 1", "client 2"]
    assert [one["risk"] for one in predictions] == pytest.approx(
        models.predict(model, rows), abs=1e-12
    )
    assert all(one["outcome"] == (one["risk"] >= 0.5) for one in predictions)
    assert {*predictions[0]} == {"client", "risk", "outcome", "flags"}


def test_flags_are_the_cautions_of_each_row(fitted, release):
    flat, _, rows = fitted
    predictions = predict(release, flat, checked(rows), LABELS)
    high = release.training["ranges"]["x0"][1]
    assert predictions[0]["flags"] == [
        "no value of logins, which was never missing in training",
        "unknown category of c0",
    ]
    assert "no value of c0, which was never missing in training" in predictions[1]["flags"]
    assert predictions[2]["flags"][0].startswith("logins 1000000 is outside the training range")
    assert predictions[2]["flags"][0].endswith(f"to {high:g}")
    assert "few" not in str(predictions[5]["flags"])


@pytest.mark.parametrize("shown", [1, 3, 20])
def test_reasons_are_those_of_the_assessment(fitted, release, shown):
    flat, model, rows = fitted
    baseline = release.training["baseline"]
    added = explanations.contributions(model, rows, baseline)
    score = models.score(model, rows)
    order, counts = explaining.strongest(
        FrameModel(model), rows, added.to_numpy(), score, baseline, shown
    )
    names = [
        [model.features[i] for i in each[:count]]
        for each, count in zip(order.tolist(), counts.tolist(), strict=True)
    ]
    reasons = explain(flat, columns_of(rows), baseline, shown)
    assert [[one.feature for one in each] for each in reasons] == names
    assert any(names)
    for i, each in enumerate(reasons):
        for one in each:
            assert one.contribution == pytest.approx(added[one.feature].iloc[i], abs=1e-9)
            value = rows[one.feature].iloc[i]
            assert one.value == (value if value and value == value else None)
            assert one.baseline == baseline[one.feature]


def test_reasons_have_a_text_with_the_labels_of_the_config(fitted, release):
    flat, _, rows = fitted
    predictions = predict(release, flat, checked(rows), LABELS, reasons=5)
    reasons = [one for each in predictions for one in each["reasons"]]
    assert {*reasons[0]} == {"feature", "value", "baseline", "contribution", "text"}
    assert all(
        one["text"].startswith("logins: ") and "(baseline: " in one["text"]
        for one in reasons
        if one["feature"] == "x0"
    )


def test_a_model_that_is_not_flat_gives_the_same_predictions(fitted, release):
    flat, model, rows = fitted
    slow = FrameModel(model)
    fast = predict(release, flat, checked(rows), LABELS, reasons=3)
    for one, other in zip(
        predict(release, slow, checked(rows), LABELS, reasons=3), fast, strict=True
    ):
        assert one["risk"] == pytest.approx(other["risk"], abs=1e-12)
        assert one["flags"] == other["flags"]
        assert [each["text"] for each in one["reasons"]] == [
            each["text"] for each in other["reasons"]
        ]
