"""A model without a flat form gives what its flat form would, if it had one."""

import numpy as np
import pytest

from attrition.modelling import models
from attrition.serving import flattening
from attrition.serving.explaining import Explainer
from attrition.serving.served import FrameModel
from tests.serving import samples


@pytest.fixture(scope="module")
def both():
    """A model in both forms, the columns of some rows, and the baseline client."""
    flat, model, rows = samples.flat_and_fitted()
    columns = flattening.to_columns(flat, rows.head(30))
    return FrameModel(model), flat, columns, models.baseline(rows, *samples.names(rows))


def test_scores_and_contributions_are_those_of_the_flat_form(both):
    slow, flat, columns, baseline = both
    rows = slow.encode(columns)
    np.testing.assert_allclose(slow.score(rows), flat.score(columns), atol=1e-12)
    np.testing.assert_allclose(slow.predict(rows), flat.predict(columns), atol=1e-12)
    expected, score = flat.explain(columns, baseline), flat.score(columns)
    np.testing.assert_allclose(slow.explain(rows, baseline), expected, atol=1e-9)
    np.testing.assert_allclose(Explainer(slow, baseline).explain(rows, score), expected, atol=1e-9)
    many = Explainer(flat, baseline).explain(flat.encode(columns), score)
    np.testing.assert_allclose(many, expected, atol=1e-7)


def test_contributions_against_an_earlier_row_are_those_of_the_flat_form(both):
    slow, flat, columns, _ = both
    earlier = {name: values[::-1] for name, values in columns.items()}
    added = flat.compare(columns, earlier)
    np.testing.assert_allclose(slow.compare(columns, earlier), added, atol=1e-9)
    assert not flat.compare(columns, columns).any()


def test_a_replaced_feature_has_its_baseline_value_in_either_form(both):
    slow, flat, columns, baseline = both
    at, features = np.array([3, 3, 7]), np.array([0, 1, len(flat.features) - 1])
    replaced = [
        model.score(model.replace(model.encode(columns), at, features, baseline))
        for model in (slow, flat)
    ]
    np.testing.assert_allclose(replaced[0], replaced[1], atol=1e-12)
    assert (replaced[1] != flat.score(columns)[at]).any()
