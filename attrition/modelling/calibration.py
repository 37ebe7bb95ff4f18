"""From the score of a model to a risk that means what it says: of 100 clients at 20 %, 20 leave.

All in log-odds: a score goes in, calibrated log-odds come out, and higher stays higher. Fitted on
scores of rows that the model had not learned from.
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
FLOORS = np.linspace(0, 0.9, 10)  # the shares of rows that may lie on the floor

Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass(frozen=True)
class Calibration:
    """Calibrated log-odds at rising scores; between the knots a line, beyond them the last line goes on
    (sigmoid, whose two knots are one line) or the last value stays (isotonic, below a floor)."""

    kind: str
    scores: tuple[float, ...]
    log_odds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def apply(self, score: Vector) -> Vector:
        """Return calibrated log-odds: (n,)."""
        if self.kind == ISOTONIC:
            return np.asarray(np.interp(score, self.scores, self.log_odds))
        (a, b), (low, high) = self.scores, self.log_odds
        if self.kind == FLOORED:
            score = np.maximum(score, a)
        return np.asarray(low + (high - low) / (b - a) * (score - a))


AS_IT_IS = Calibration(NONE, (0.0, 1.0), (0.0, 1.0))


def fit_sigmoid(score: Vector, outcome: Vector) -> Calibration:
    """Fit slope and intercept by maximum likelihood; a slope below nought is none of ours.

    The outcomes are drawn in by one case of each kind, so that scores which separate them perfectly
    leave a finite slope.

    Source: Platt 1999.
    """
    m, n = float(outcome.sum()), float(len(outcome) - outcome.sum())
    target = np.where(outcome == 1, (m + 1) / (m + 2), 1 / (n + 2))

    def loss(parameters: Vector) -> tuple[float, Vector]:
        slope, intercept = parameters
        z = slope * score + intercept
        error = metrics.expit(z) - target
        value = float(np.mean(np.logaddexp(0, z) - target * z))
        return value, np.array([np.mean(error * score), np.mean(error)])

    start = np.array([1.0, 0.0])
    found = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None), (None,) * 2]
    )
    slope, intercept = (float(value) for value in found.x)
    return Calibration(SIGMOID, (0.0, 1.0), (intercept, intercept + slope))


def fit_floored(score: Vector, outcome: Vector) -> Calibration:
    """Fit a sigmoid to scores of which the lowest count alike: those that score the lowest leave for
    reasons no column tells, and a model that is surer of the one than of the other is mistaken.

    Source: the lower asymptote of Birnbaum 1968, in Lord and Novick, "Statistical theories of mental
    test scores"; here as a corner, which is one line to fit.
    """
    fits = []
    for floor in np.unique(np.quantile(score, FLOORS)):
        raised = np.maximum(score, floor)
        line = fit_sigmoid(raised, outcome)
        loss = metrics.row_log_loss(outcome, metrics.expit(line.apply(raised))).mean()
        fits.append((float(loss), float(floor), line))
    _, floor, line = min(fits, key=lambda fit: fit[0])
    low, high = line.apply(np.array([floor, floor + 1])).tolist()
    return Calibration(FLOORED, (floor, floor + 1), (low, high))


def fit_isotonic(score: Vector, outcome: Vector) -> Calibration:
    """Fit the best rising steps, joined by lines.

    A step on which nobody or everybody left has half a client of the other kind: no risk is 0 or 1.

    Source: Zadrozny and Elkan 2002.
    """
    model = IsotonicRegression(out_of_bounds="clip").fit(score, outcome)
    rate, count = np.unique(model.predict(score), return_counts=True)
    if len(rate) < 2:
        return AS_IT_IS
    low = min(0.5 / (count[0] + 1), rate[1])
    high = max(1 - 0.5 / (count[-1] + 1), rate[-2])
    risk = np.clip(model.y_thresholds_, low, high)
    log_odds = metrics.log_odds(risk)
    return Calibration(ISOTONIC, tuple(model.X_thresholds_.tolist()), tuple(log_odds.tolist()))


FITS: dict[str, Callable[[Vector, Vector], Calibration]] = {
    NONE: lambda score, outcome: AS_IT_IS,
    SIGMOID: fit_sigmoid,
    FLOORED: fit_floored,
    ISOTONIC: fit_isotonic,
}


def choose(score: Vector, outcome: Vector, folds: Folds) -> tuple[Calibration, dict[str, float]]:
    """Choose the simplest calibration within one standard error of the lowest log loss.

    `score` are those of rows out of fold; each way is fitted on all folds but one and judged on that
    one. What bends needs 1,000 rows. Returns the choice and the log loss of each way that was tried.

    Source: Niculescu-Mizil and Caruana 2005 for the rows that isotonic needs.
    """
    ways = [NONE]
    rarer = min(outcome.sum(), len(outcome) - outcome.sum())
    if rarer >= MIN_OF_EACH_TO_CALIBRATE and len(folds) > 1:
        ways += [SIGMOID, *([FLOORED, ISOTONIC] if len(outcome) >= MIN_ROWS_TO_BEND else [])]
    losses = {}
    for way in ways:
        risk = metrics.expit(cross_calibrate(way, score, outcome, folds))
        losses[way] = metrics.row_log_loss(outcome, risk)
    chosen = metrics.simplest(losses)
    told = {way: float(loss.mean()) for way, loss in losses.items()}
    return FITS[chosen](score, outcome), told


def cross_calibrate(kind: str, score: Vector, outcome: Vector, folds: Folds) -> Vector:
    """Return calibrated log-odds of rows, each by a calibration that never saw it."""
    found = score.copy()
    for train, test in folds:
        found[test] = FITS[kind](score[train], outcome[train]).apply(score[test])
    return found
