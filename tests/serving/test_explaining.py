"""Which contributions are reasons, of one client and on a list, for a model without a flat form."""

import numpy as np
import pytest

from attrition.modelling import models
from attrition.serving import explaining
from attrition.serving.served import FrameModel
from tests.modelling.samples import CATEGORICAL, KINDS, NUMERIC, fitted, table

FEATURES = [*NUMERIC, *CATEGORICAL]


@pytest.fixture(scope="module")
def baseline():
    return models.baseline(table()[0], NUMERIC, CATEGORICAL)


def names_of(model, order, count):
    return [model.features[i] for i in order[:count]]


def strongest(added, model, baseline):
    model, rows = FrameModel(model), table(1)[0].assign(activity=1.0)
    given = np.array([[added[name] for name in model.features]])
    score = model.score(rows)
    order, counts = explaining.strongest(model, rows, given, score, baseline, 2)
    return names_of(model, order[0], counts[0])


def test_only_what_raises_the_risk_is_a_reason(baseline):
    model = fitted(models.LOGISTIC)
    assert strongest({"activity": 0.049, "size": -2.0, "industry": 0.0}, model, baseline) == []


def test_no_more_reasons_than_asked_for_the_strongest_first_ties_by_name(baseline):
    model = fitted(
        models.BASE_RATE
    )  # where undoing lowers nothing, the order is that of the values
    added = {"activity": 0.5, "size": 0.9, "industry": 0.5}
    assert strongest(added, model, baseline) == ["size", "activity"]


def test_what_would_lower_nothing_when_undone_comes_after_what_would(baseline):
    model = fitted(models.LOGISTIC)
    baseline = baseline | {"size": table(1)[0]["size"].iloc[0]}
    assert strongest({"activity": 0.5, "size": 0.9, "industry": 0.0}, model, baseline) == [
        "activity",
        "size",
    ]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_undoing_the_first_reason_lowers_the_risk(kind):
    rows, outcome = table(2000)
    model, baseline = fitted(kind, rows, outcome), models.baseline(rows, NUMERIC, CATEGORICAL)
    served, risk = FrameModel(model), models.predict(model, rows)
    riskiest = rows.loc[np.argsort(-risk)[:500]].reset_index(drop=True)
    added, score = served.explain(riskiest, baseline), served.score(riskiest)
    order, counts = explaining.strongest(served, riskiest, added, score, baseline, 3)
    assert counts.all()
    undone = served.replace(riskiest, np.arange(500), order[:, 0], baseline)
    assert (served.score(undone) < score).mean() >= 0.95


# ---- relative to a list


def riskiest(kind, n=200, **fixed):
    """A model of activity and size, its riskiest clients, their contributions and scores."""
    rows = table(2000)[0].fillna({"size": 50.0})
    size = np.log1p(rows["size"])
    odds = 1.5 * (size - size.mean()) - 2 * (np.log1p(rows["activity"]) - 3)
    outcome = (np.random.default_rng(0).random(2000) < 1 / (1 + np.exp(-odds))).astype(float)
    model, baseline = fitted(kind, rows, outcome), models.baseline(rows, NUMERIC, CATEGORICAL)
    listed = rows.loc[np.argsort(-models.predict(model, rows))[:n]].reset_index(drop=True)
    listed, served = listed.assign(**fixed), FrameModel(model)
    return served, listed, served.explain(listed, baseline), served.score(listed), baseline


def test_contributions_relative_to_a_list_add_up_to_the_log_odds_above_its_mean(baseline):
    model, listed = FrameModel(fitted(models.LOGISTIC)), table(60, seed=7)[0]
    sums = explaining.relative_to_list(model.explain(listed, baseline)).sum(axis=1)
    odds = model.model.calibration.apply(model.score(listed))
    assert sums == pytest.approx(odds - odds.mean(), abs=1e-9)


def test_what_all_listed_clients_share_tells_none_of_them_apart():
    model, listed, added, score, baseline = riskiest(models.LOGISTIC, activity=1.0)
    order = explaining.distinguishing(model, listed, added, score, baseline, ())
    size = model.features.index("size")
    is_larger = added[:, size] > added[:, size].mean()
    assert is_larger.sum() > 50
    assert {order[i][0] for i in np.flatnonzero(is_larger)} == {size}
    columns = {name: listed[name].to_numpy() for name in NUMERIC}
    columns |= {name: listed[name].tolist() for name in CATEGORICAL}
    columns = {name: columns[name] for name in model.features}
    assert explaining.shared(columns, added)["activity"] == (1.0, 200)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_undoing_the_first_reason_that_can_be_changed_lowers_the_risk(kind):
    model, listed, added, score, baseline = riskiest(kind)
    order = explaining.distinguishing(model, listed, added, score, baseline, {"size"})
    size = model.features.index("size")
    first = [next((i for i in each if i != size), -1) for each in order]
    some = np.array([at for at, i in enumerate(first) if i >= 0])
    assert len(some) >= 0.95 * len(first)
    undone = model.replace(listed, some, np.array(first)[some], baseline)
    assert (model.score(undone) < score[some]).mean() >= 0.95


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_nobody_can_change_comes_last(kind):
    model, listed, added, score, baseline = riskiest(kind)
    order = explaining.distinguishing(model, listed, added, score, baseline, {"activity"})
    activity = model.features.index("activity")
    assert any(len(each) > 1 for each in order)
    assert all(activity not in each[:-1] for each in order)
