"""How much of a model is updated after a planted change; for shares, see benchmarks.statistics."""

import numpy as np
import pytest

from attrition.modelling import calibration, metrics, selection
from attrition.modelling.calibration import Calibration
from attrition.modelling.models import Model
from attrition.monitoring import updating
from benchmarks.statistics import (
    HIGHER,
    LINES,
    REFITS,
    REVERSED,
    UNCHANGED,
    WEAKER,
    cut_folds,
    draw_clients,
    update_after,
)


def update(shift, n, seed):
    return update_after(shift, n, np.random.default_rng(seed))


def share(names, shift, n, runs):
    """The share of runs in which one of these updates is chosen."""
    return np.mean([update(shift, n, seed)[1].name in names for seed in range(runs)])


def test_without_a_shift_the_champion_is_kept():
    assert share([updating.CHAMPION], UNCHANGED, 400, 8) >= 0.75


def test_another_level_moves_the_intercept_and_refits_nothing():
    assert share(LINES, HIGHER, 400, 8) >= 0.75


def test_weaker_effects_change_the_slope():
    assert share([updating.SLOPE], WEAKER, 2000, 2) == 1


def test_reversed_effects_refit_the_model():
    assert share(REFITS, REVERSED, 2000, 2) == 1


def test_the_level_is_right_afterwards_and_the_order_the_same():
    champion, chosen = update(HIGHER, 4000, 1)
    features, _, risk = draw_clients(20_000, HIGHER, np.random.default_rng(9))
    before = champion.decision_function(features)
    after = chosen.line.apply(before)
    assert metrics.expit(before).sum() < 0.7 * risk.sum()
    assert metrics.expit(after).sum() == pytest.approx(risk.sum(), rel=0.1)
    assert np.array_equal(np.argsort(after), np.argsort(before))


# ---- the evidence


def evidence(n, left, **facts):
    """The updates compared for n recent rows of which so many left, and those refitted."""
    rng = np.random.default_rng(0)
    outcome = rng.permutation(np.r_[np.ones(left), np.zeros(n - left)])
    risk, refitted = rng.normal(-1, 1, n) + outcome, []
    refits = {
        name: lambda name=name: refitted.append(name) or rng.permutation(risk) for name in REFITS
    }
    facts = {"folds": cut_folds(n), "deliveries": 2, "refits": refits} | facts
    return updating.choose_update(risk, outcome, **facts), refitted


@pytest.mark.parametrize(
    ("left", "compared"),
    [(19, 0), (20, 2), (49, 2), (50, 3), (99, 3), (100, 4), (299, 4), (300, 5)],
)
def test_an_update_is_compared_only_with_evidence_enough(left, compared):
    for rarer in (left, 1000 - left):
        chosen, refitted = evidence(1000, rarer)
        assert len(chosen.losses) == compared
        assert len(refitted) == max(0, compared - 3)  # a refit that cannot be chosen is not run


def test_one_delivery_changes_nothing():
    chosen, refitted = evidence(2000, 800, deliveries=1)
    assert (chosen.name, chosen.losses, refitted) == (updating.CHAMPION, {}, [])
    assert "deliveries: 1 (needed: 20" in chosen.reason


def test_no_rows_change_nothing():
    none = np.empty(0)
    chosen = updating.choose_update(none, none, folds=[], deliveries=0, refits={})
    assert chosen.name == updating.CHAMPION
    assert chosen.to_dict()["difference"]["value"] is None


def test_a_slope_of_0_is_a_base_rate_and_no_update():
    rng = np.random.default_rng(0)
    risk = rng.normal(-1, 1, 400)
    outcome = (rng.random(400) < metrics.expit(-risk - 2)).astype(float)
    chosen = updating.choose_update(risk, outcome, folds=cut_folds(400), deliveries=2, refits={})
    assert updating.SLOPE not in chosen.losses
    assert updating.INTERCEPT in chosen.losses


def test_the_reason_names_the_update_and_its_loss():
    _, chosen = update(HIGHER, 400, 0)
    assert chosen.reason.startswith(f"updated ({chosen.name}): cross-validated log loss ")
    assert f"{chosen.losses[chosen.name]:.4f} on 400 recent rows" in chosen.reason
    gain = chosen.losses[chosen.name] - chosen.losses[updating.CHAMPION]
    assert chosen.difference.value == pytest.approx(gain)
    assert chosen.difference.value + chosen.difference.standard_error < 0


# ---- the updated model


@pytest.mark.parametrize(
    "before",
    [
        calibration.AS_IT_IS,
        Calibration(calibration.SIGMOID, (0.0, 1.0), (-1.0, 1.0)),
        Calibration(calibration.FLOORED, (-1.0, 0.0), (-2.0, 0.5)),
        Calibration(calibration.ISOTONIC, (-1.0, 0.0, 2.0), (-2.0, -1.0, 3.0)),
    ],
)
def test_intercept_and_slope_compose_with_any_calibration(before):
    line = Calibration(calibration.SIGMOID, (0.0, 1.0), (0.3, 0.8))
    chosen = updating.Update(updating.SLOPE, "", {}, line, metrics.UNKNOWN)
    after = updating.recalibrate(Model((), (), before), chosen).calibration
    scores = np.linspace(-5, 5, 101)
    assert after.apply(scores) == pytest.approx(line.apply(before.apply(scores)))


def test_refit_needs_as_few_rows_as_the_caller_allows():
    least = updating.MIN_OF_RARER | {selection.OLDER_WEIGHTED: 20}
    assert evidence(200, 30)[1] == []
    assert evidence(200, 30, least=least)[1] == [selection.OLDER_WEIGHTED]
