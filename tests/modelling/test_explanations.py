from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest

from attrition.modelling import calibration, explanations, models
from attrition.modelling.models import Model
from tests.modelling.samples import CATEGORICAL, KINDS, NUMERIC, fitted, table

FEATURES = [*NUMERIC, *CATEGORICAL]


@pytest.fixture(scope="module")
def baseline():
    return models.baseline(table()[0], NUMERIC, CATEGORICAL)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return fitted(request.param)


def log_odds(model, rows):
    return model.calibration.apply(models.score(model, rows))


def baseline_row(rows, baseline):
    return rows.head(1).assign(**baseline)


def by_definition(model, row, baseline):
    """Shapley's own sum over all coalitions of features."""
    n, found = len(FEATURES), {}
    coalitions = [set(some) for size in range(n + 1) for some in combinations(FEATURES, size)]
    mixed = [{n: (row if n in some else baseline)[n] for n in FEATURES} for some in coalitions]
    worths = log_odds(model, pd.DataFrame(mixed))

    def worth(coalition):
        return worths[coalitions.index(coalition)]

    for name in FEATURES:
        others = [other for other in FEATURES if other != name]
        found[name] = sum(
            factorial(size)
            * factorial(n - size - 1)
            / factorial(n)
            * (worth({*some, name}) - worth(set(some)))
            for size in range(n)
            for some in combinations(others, size)
        )
    return found


def test_contributions_are_shapley_values(model, baseline):
    rows = table(12, seed=4)[0]
    found = explanations.contributions(model, rows, baseline)
    for i, row in enumerate(rows.to_dict("records")):
        assert found.iloc[i].to_dict() == pytest.approx(
            by_definition(model, row, baseline), abs=1e-9
        )


def test_contributions_add_up_to_the_log_odds(model, baseline):
    rows = table(300, seed=3)[0]
    found = explanations.contributions(model, rows, baseline).sum(axis=1).to_numpy()
    expected = log_odds(model, rows) - log_odds(model, baseline_row(rows, baseline))
    assert found == pytest.approx(expected, abs=1e-9)


def test_contributions_against_an_earlier_row_of_each_client_are_shapley_values(model):
    now, before = table(4, seed=4)[0], table(4, seed=5)[0]
    before["industry"] = now["industry"].where(now.index < 2, before["industry"])
    found = explanations.contributions(model, now, before)
    for i, row in enumerate(now.to_dict("records")):
        expected = by_definition(model, row, before.iloc[i].to_dict())
        assert found.iloc[i].to_dict() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", list(calibration.FITS))
def test_contributions_to_a_change_of_a_calibrated_blend_add_up_to_it(kind):
    rows, outcome = table(400)
    parts = tuple(fitted(one).parts[0] for one in (models.LOGISTIC, models.SHALLOW))
    score = models.score(Model(parts, (0.5, 0.4)), rows)
    blend = Model(parts, (0.5, 0.4), calibration.FITS[kind](score, outcome))
    now, before = rows[:200].reset_index(drop=True), rows[200:].reset_index(drop=True)
    found = explanations.contributions(blend, now, before).sum(axis=1).to_numpy()
    assert found == pytest.approx(log_odds(blend, now) - log_odds(blend, before), abs=1e-9)


@pytest.mark.parametrize("kind", list(calibration.FITS))
def test_contributions_of_a_calibrated_blend_add_up_to_the_log_odds(kind, baseline):
    rows, outcome = table(400)
    parts = tuple(fitted(one).parts[0] for one in (models.LOGISTIC, models.SHALLOW))
    score = models.score(Model(parts, (0.5, 0.4)), rows)
    blend = Model(parts, (0.5, 0.4), calibration.FITS[kind](score, outcome))
    found = explanations.contributions(blend, rows, baseline).sum(axis=1).to_numpy()
    expected = log_odds(blend, rows) - log_odds(blend, baseline_row(rows, baseline))
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_contributions_have_the_sign_of_the_planted_effect(kind):
    rows, outcome = table(2000)
    model = fitted(kind, rows, outcome)
    some = table(2, seed=1)[0].assign(activity=[1.0, 200.0])
    found = explanations.contributions(model, some, models.baseline(rows, NUMERIC, CATEGORICAL))
    assert found["activity"].iloc[0] > 1
    assert found["activity"].iloc[1] < -1


def test_an_ordinary_client_has_no_reasons(model, baseline):
    found = explanations.contributions(model, baseline_row(table()[0], baseline), baseline)
    assert found.to_numpy() == pytest.approx(np.zeros((1, 3)))


def test_a_column_without_a_typical_value_is_compared_with_missing(model):
    baseline = {"activity": 20.0, "size": None, "industry": ""}
    rows = table(50, seed=5)[0]
    found = explanations.contributions(model, rows, baseline)
    assert np.isfinite(found.to_numpy()).all()
    assert not found["size"][rows["size"].isna()].any()


def test_no_rows_have_no_reasons(model, baseline):
    assert explanations.contributions(model, table(5)[0].iloc[:0], baseline).shape == (0, 3)


# ---- over a whole table


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_planted_effect_is_the_most_important(kind):
    rows, outcome = table(2000)
    baseline = models.baseline(rows, NUMERIC, CATEGORICAL)
    shares = explanations.importance(fitted(kind, rows, outcome), rows, baseline)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares) == FEATURES
    assert max(shares, key=shares.get) == "activity"


def test_importance_is_the_mean_size_of_what_is_added(model, baseline):
    rows = table(40, seed=6)[0]
    sizes = explanations.contributions(model, rows, baseline).abs().mean()
    expected = sizes / sizes.sum() if sizes.any() else sizes
    assert explanations.importance(model, rows, baseline) == pytest.approx(expected.to_dict())


def test_a_base_rate_goes_by_nothing(baseline):
    shares = explanations.importance(fitted(models.BASE_RATE), table(20)[0], baseline)
    assert shares == dict.fromkeys(FEATURES, 0.0)
