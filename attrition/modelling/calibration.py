"""Calibration of scores to risks that match the outcomes: of 100 clients with a risk of 20 %, 20 leave.

Scores and results are log-odds, and no calibration reverses their order. A calibration is fitted on
out-of-fold scores, those of rows that the model was not trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from sklearn.isotonic import IsotonicRegression

from attrition.modelling import metrics
from attrition.modelling.metrics import Vector

NONE, SIGMOID, FLOORED, ISOTONIC = "none", "sigmoid", "sigmoid with a floor", "isotonic"
MIN_ROWS_TO_BEND, MIN_OF_EACH_TO_CALIBRATE = 1000, 10
FLOORS = np.linspace(0, 0.9, 10)  # candidate shares of rows on the floor

Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
Fit = Callable[..., "Calibration"]  # of a score, an outcome and weights: (n,) each


@dataclass(frozen=True)
class Calibration:
    """Calibrated log-odds at the knots, in ascending order of score, with straight lines between them.

    Beyond the knots the line continues (sigmoid) or the last value stays (isotonic; below a floor).
    """

    kind: str
    scores: tuple[float, ...]
    log_odds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def apply(self, score: Vector) -> Vector:
        """Return the calibrated log-odds of scores: (n,) each.

        >>> Calibration(SIGMOID, (0.0, 1.0), (-1.0, 1.0)).apply(np.array([0.0, 2.0])).tolist()
        [-1.0, 3.0]
        """
        if self.kind == ISOTONIC:
            return np.asarray(np.interp(score, self.scores, self.log_odds))
        (a, b), (low, high) = self.scores, self.log_odds
        if self.kind == FLOORED:
            score = np.maximum(score, a)
        return np.asarray(low + (high - low) / (b - a) * (score - a))

    def then(self, line: "Calibration") -> "Calibration":
        """Return the calibration that applies this one, then the line.

        >>> twice = Calibration(SIGMOID, (0.0, 1.0), (0.0, 2.0))
        >>> twice.then(Calibration(SIGMOID, (0.0, 1.0), (5.0, 6.0))).log_odds
        (5.0, 7.0)
        """
        kind = SIGMOID if self.kind == NONE else self.kind
        log_odds = line.apply(np.array(self.log_odds))
        return Calibration(kind, self.scores, tuple(log_odds.tolist()))


AS_IT_IS = Calibration(NONE, (0.0, 1.0), (0.0, 1.0))


def fit_intercept(score: Vector, outcome: Vector, weight: Vector | None = None) -> Calibration:
    """Fit an intercept by maximum likelihood, with a slope of 1 and the targets of `fit_sigmoid`."""
    rate = float(np.average(_targets(outcome, weight), weights=weight))
    middle = float(metrics.log_odds(np.array(rate)))
    low, high = middle - score.max() - 1, middle - score.min() + 1
    intercept = optimize.brentq(
        lambda a: np.average(metrics.expit(score + a), weights=weight) - rate, low, high
    )
    return Calibration(SIGMOID, (0.0, 1.0), (intercept, intercept + 1))


def _targets(outcome: Vector, weight: Vector | None = None) -> Vector:
    """Shrink the outcomes as if there were one more client of each, so that every fit is finite.

    Source: Platt 1999.
    """
    share = float(np.average(outcome, weights=weight))
    m, n = share * len(outcome), (1 - share) * len(outcome)
    return np.where(outcome == 1, (m + 1) / (m + 2), 1 / (n + 2))


def fit_sigmoid(score: Vector, outcome: Vector, weight: Vector | None = None) -> Calibration:
    """Fit slope and intercept by maximum likelihood, with a slope of at least 0.

    The targets are shrunk, so that the slope stays finite if the scores separate the outcomes perfectly.

    Source: Platt 1999.
    """
    target = _targets(outcome, weight)

    def loss(parameters: Vector) -> tuple[float, Vector]:
        slope, intercept = parameters
        z = slope * score + intercept
        error = metrics.expit(z) - target
        value = float(np.average(np.logaddexp(0, z) - target * z, weights=weight))
        slopes = np.average(np.array([error * score, error]), axis=1, weights=weight)
        return value, slopes

    start = np.array([1.0, 0.0])
    result = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None), (None,) * 2]
    )
    slope, intercept = (float(value) for value in result.x)
    return Calibration(SIGMOID, (0.0, 1.0), (intercept, intercept + slope))


def fit_floored(score: Vector, outcome: Vector, weight: Vector | None = None) -> Calibration:
    """Fit a sigmoid to scores raised to a floor, choosing the floor with the lowest log loss.

    The clients with the lowest scores leave for reasons that no column contains, so a model that ranks
    them among each other is overconfident.

    Source: the lower asymptote of Birnbaum 1968, in Lord and Novick, "Statistical theories of mental
    test scores"; here as a corner, which is one line to fit.
    """
    fits = []
    for floor in np.unique(np.quantile(score, FLOORS)):
        raised = np.maximum(score, floor)
        line = fit_sigmoid(raised, outcome, weight)
        loss = metrics.row_log_loss(outcome, metrics.expit(line.apply(raised)))
        fits.append((float(np.average(loss, weights=weight)), float(floor), line))
    _, floor, line = min(fits, key=lambda fit: fit[0])
    low, high = line.apply(np.array([floor, floor + 1])).tolist()
    return Calibration(FLOORED, (floor, floor + 1), (low, high))


def fit_isotonic(score: Vector, outcome: Vector, weight: Vector | None = None) -> Calibration:
    """Fit an isotonic regression, its steps connected by lines.

    If nobody or everybody left on a step, half a client of the other outcome is added, so that no risk
    is 0 or 1.
    If there is only one step, the scores are left as they are.

    Source: Zadrozny and Elkan 2002.
    """
    model = IsotonicRegression(out_of_bounds="clip").fit(score, outcome, weight)
    rate, count = np.unique(model.predict(score), return_counts=True)
    if len(rate) < 2:
        return AS_IT_IS
    low = min(0.5 / (count[0] + 1), rate[1])
    high = max(1 - 0.5 / (count[-1] + 1), rate[-2])
    risk = np.clip(model.y_thresholds_, low, high)
    log_odds = metrics.log_odds(risk)
    return Calibration(ISOTONIC, tuple(model.X_thresholds_.tolist()), tuple(log_odds.tolist()))


FITS: dict[str, Fit] = {
    NONE: lambda score, outcome, weight=None: AS_IT_IS,
    SIGMOID: fit_sigmoid,
    FLOORED: fit_floored,
    ISOTONIC: fit_isotonic,
}


def choose_calibration(
    score: Vector, outcome: Vector, folds: Folds, weight: Vector | None = None
) -> tuple[Calibration, dict[str, float]]:
    """Choose the simplest calibration within one standard error of the lowest log loss.

    score: (n,) out-of-fold log-odds; weight: (n,) with mean 1. Each kind is fitted on all folds but one
    and evaluated on that one; those with a floor or steps are compared only if there are 1,000 rows.

    Returns: the calibration, and the log loss of each kind that was compared.

    Source: Niculescu-Mizil and Caruana 2005 for the rows that isotonic needs.
    """
    kinds = [NONE]
    if (
        min(outcome.sum(), len(outcome) - outcome.sum()) >= MIN_OF_EACH_TO_CALIBRATE
        and len(folds) > 1
    ):
        kinds += [SIGMOID, *([FLOORED, ISOTONIC] if len(outcome) >= MIN_ROWS_TO_BEND else [])]
    weight = np.ones(len(outcome)) if weight is None else weight
    losses = {}
    for kind in kinds:
        risk = metrics.expit(cross_calibrate(FITS[kind], score, outcome, folds, weight))
        losses[kind] = metrics.row_log_loss(outcome, risk) * weight
    chosen = metrics.simplest(losses)
    mean_losses = {kind: float(loss.mean()) for kind, loss in losses.items()}
    return FITS[chosen](score, outcome, weight), mean_losses


def cross_calibrate(
    fit: Fit, score: Vector, outcome: Vector, folds: Folds, weight: Vector | None = None
) -> Vector:
    """Return calibrated log-odds: (n,), the calibration of each fold fitted on the others."""
    weight = np.ones(len(outcome)) if weight is None else weight
    calibrated = score.copy()
    for train, test in folds:
        calibrated[test] = fit(score[train], outcome[train], weight[train]).apply(score[test])
    return calibrated
