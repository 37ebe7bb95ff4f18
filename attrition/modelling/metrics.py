"""Metrics that compare risks with outcomes, each with a 95 % confidence interval.

Unless stated otherwise, outcome: (n,) of 0 and 1, 1 if the client left; risk: (n,) float in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

Z95 = 1.959963984540054
SMALLEST_RISK = 1e-6
REPLICATES = 1000
THRESHOLD = 0.5


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; None if it cannot be computed from the rows."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def standard_error(self) -> float:
        """The standard error under a normal approximation; NaN if there is no interval."""
        if self.low is None or self.high is None:
            return np.nan
        return (self.high - self.low) / (2 * Z95)

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


UNKNOWN = Interval(None)


def normal_sf(z: float) -> float:
    """Compute the probability that a standard normal variable exceeds z.

    >>> round(normal_sf(1.96), 3)
    0.025
    """
    return math.erfc(z / math.sqrt(2)) / 2


def normal_isf(p: float) -> float:
    """Compute the number that a standard normal variable exceeds with probability p, in (0, 1).

    >>> round(normal_isf(0.025), 3)
    1.96
    """
    return -NormalDist().inv_cdf(p)


def _finite(value: float, low: float, high: float) -> Interval:
    if not np.isfinite(value):
        return UNKNOWN
    if not (np.isfinite(low) and np.isfinite(high)):
        return Interval(float(value))
    return Interval(float(value), float(low), float(high))


# ---- area under the ROC curve


def roc_auc(outcome: Vector, risk: Vector, weights: Vector | None = None) -> Interval:
    """Compute the probability that a client who left had a higher risk than one who stayed.

    A tie counts as one half; unknown if there is only one outcome. weights: see `roc_auc_difference`.

    Source: DeLong, DeLong and Clarke-Pearson 1988; computed from ranks as in Sun and Xu 2014.

    >>> roc_auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])).value
    0.75
    """
    if len(set(outcome)) < 2:
        return UNKNOWN
    (auc,), covariance = _delong(outcome, risk[np.newaxis, :], weights)
    error = Z95 * np.sqrt(covariance[0, 0])
    return _finite(auc, max(0.0, auc - error), min(1.0, auc + error))


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion on the same rows, and the one-sided p-value of "not better".

    p_value: None if it cannot be computed.
    """

    interval: Interval
    p_value: float | None


def roc_auc_difference(
    outcome: Vector, challenger: Vector, champion: Vector, weights: Vector | None = None
) -> Difference:
    """Compare the AUC of two risks of the same rows by a paired test.

    weights: (n,) the number of rows of another sample that each row represents; a pair counts as the
    product of its weights. They are taken as known, so the interval does not contain their own error.

    Source: DeLong, DeLong and Clarke-Pearson 1988; with weights, Yao, Li and Graubard 2015, "Estimation
    of ROC curve with complex survey data".

    >>> outcome = np.array([0.0, 0, 1, 1])
    >>> roc_auc_difference(outcome, outcome, np.array([0.1, 0.4, 0.35, 0.8])).interval.value
    0.25
    """
    if len(set(outcome)) < 2:
        return Difference(UNKNOWN, None)
    aucs, covariance = _delong(outcome, np.vstack([challenger, champion]), weights)
    difference = aucs[0] - aucs[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-18:
        p_value = 0.5 if difference == 0 else float(difference < 0)
        return Difference(
            Interval(float(difference), float(difference), float(difference)), p_value
        )
    error = np.sqrt(variance)
    interval = _finite(difference, difference - Z95 * error, difference + Z95 * error)
    return Difference(interval, normal_sf(float(difference / error)))


def _delong(
    outcome: Vector, risks: NDArray[np.float64], weights: Vector | None = None
) -> tuple[Vector, NDArray[np.float64]]:
    """Compute the AUCs (k,) and their covariance (k, k) of k risks; risks: (k, n), weights: (n,)."""
    weights = np.ones(len(outcome)) if weights is None else weights
    placements = np.array([_placements(outcome, risk, weights) for risk in risks])
    sides = [(placements[:, rows], weights[rows]) for rows in (outcome == 1, outcome == 0)]
    aucs = np.average(sides[0][0], axis=1, weights=sides[0][1])
    covariance = np.zeros((len(risks), len(risks)))
    for placed, weight in sides:
        influence = (placed - aucs[:, np.newaxis]) * weight / weight.mean()
        covariance += _covariance(influence) / len(weight)
    return aucs, covariance


def _placements(outcome: Vector, risk: Vector, weights: Vector) -> Vector:
    """Compute the weighted share of the rows with the other outcome that each row is in order with.

    Returns: (n,); a tie counts as one half.
    """
    _, place = np.unique(risk, return_inverse=True)
    left, stayed = (np.bincount(place, weights * (outcome == label)) for label in (1, 0))
    below = (np.cumsum(stayed) - stayed / 2) / stayed.sum()
    above = (left.sum() - np.cumsum(left) + left / 2) / left.sum()
    return np.where(outcome == 1, below[place], above[place])


def _covariance(components: NDArray[np.float64]) -> NDArray[np.float64]:
    if components.shape[1] < 2:
        return np.full((len(components), len(components)), np.nan)
    return np.atleast_2d(np.cov(components))


# ---- metrics that are a mean over rows


def log_odds(risk: Vector) -> Vector:
    """Compute log(p / (1 - p)): (n,), with the risk clipped to a millionth from 0 and 1.

    >>> log_odds(np.array([0.5, 1.0])).round(2).tolist()
    [0.0, 13.82]
    """
    risk = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(np.log(risk) - np.log1p(-risk))


def expit(log_odds: Vector) -> Vector:
    """Compute the risk from log-odds, the inverse of `log_odds`: (n,) float in [0, 1].

    >>> expit(np.array([0.0, 2.0])).round(2).tolist()
    [0.5, 0.88]
    """
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small))


def row_log_loss(outcome: Vector, risk: Vector) -> Vector:
    """Compute the log loss of each row: (n,) in nats.

    Source: Good 1952, "Rational decisions".

    >>> row_log_loss(np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(2).tolist()
    [0.69, 0.22]
    """
    risk = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(-(outcome * np.log(risk) + (1 - outcome) * np.log1p(-risk)))


def row_brier(outcome: Vector, risk: Vector) -> Vector:
    """Compute the squared error of each row: (n,) in [0, 1].

    Source: Brier 1950.

    >>> row_brier(np.array([1.0, 0.0]), np.array([0.5, 0.2])).round(2).tolist()
    [0.25, 0.04]
    """
    return np.asarray((risk - outcome) ** 2)


def mean(per_row: Vector) -> Interval:
    """Compute the mean of a metric over rows, with a normal approximation for the interval."""
    n = len(per_row)
    if n == 0:
        return UNKNOWN
    value = float(np.mean(per_row))
    error = Z95 * float(np.std(per_row, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    return _finite(value, value - error, value + error)


def level_difference(outcome: Vector, challenger: Vector, champion: Vector) -> Interval:
    """Compute the squared error of the challenger's mean risk minus that of the champion's.

    It is linear in the number who left, so its interval follows from the variance of that number.

    >>> level_difference(np.array([1.0, 0, 0, 0]), np.full(4, 0.25), np.full(4, 0.5)).value
    -0.0625
    """
    n = len(outcome)
    if n == 0:
        return UNKNOWN
    new, old, rate = float(challenger.mean()), float(champion.mean()), float(outcome.mean())
    value = (old - new) * (2 * rate - old - new)
    error = Z95 * 2 * abs(old - new) * float(np.sqrt(np.sum((outcome - challenger) ** 2))) / n
    return _finite(value, value - error, value + error)


def simplest(losses: Mapping[str, Vector]) -> str:
    """Return the first name whose mean loss is within one standard error of the lowest.

    losses: name -> the loss of each row, (n,), simplest first, same rows. The standard error is
    that of the paired difference, row by row.

    Source: Breiman et al. 1984, the one standard error rule; Hastie, Tibshirani and Friedman 2009, 7.10.

    >>> simplest({"base rate": np.array([0.9, 0.9]), "boosting": np.array([0.2, 0.3])})
    'boosting'
    """
    best = min(losses.values(), key=lambda loss: float(loss.mean()))
    for name, loss in losses.items():
        difference = loss - best
        n = len(difference)
        error = float(np.std(difference, ddof=1)) / np.sqrt(n) if n > 1 else 0.0
        if float(difference.mean()) <= error:
            return name
    raise AssertionError("the lowest loss is not within one standard error of itself")


# ---- metrics of a decision


def wilson(hits: int, n: int) -> Interval:
    """Compute the share of hits among n with Wilson's interval; unknown if n is 0.

    Source: Wilson 1927.

    >>> tuple(round(x, 3) for x in (wilson(10, 20).low, wilson(10, 20).high))
    (0.299, 0.701)
    """
    if n == 0:
        return UNKNOWN
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, float(max(0.0, middle - reach)), float(min(1.0, middle + reach)))


def f1(outcome: Vector, risk: Vector, threshold: float = THRESHOLD) -> Interval:
    """Compute F1 of "risk >= threshold", with an interval from 1,000 stratified bootstrap draws.

    Resampling the rows of each outcome is the same as drawing the counts of hits and of false alarms
    from two binomial distributions, so no row is resampled. 0 if no risk reaches the threshold; unknown
    if there is only one outcome.

    Source: van Rijsbergen 1979; Efron and Tibshirani 1993 for the bootstrap.

    >>> f1(np.array([1.0, 1, 0, 0]), np.array([0.9, 0.2, 0.6, 0.1])).value
    0.5
    """
    left, is_predicted = outcome == 1, risk >= threshold
    m, n = int(left.sum()), int((~left).sum())
    if m == 0 or n == 0:
        return UNKNOWN
    hits, alarms = int((left & is_predicted).sum()), int((~left & is_predicted).sum())
    rng = np.random.default_rng(0)
    drawn_hits = rng.binomial(m, hits / m, REPLICATES)
    drawn_alarms = rng.binomial(n, alarms / n, REPLICATES)
    drawn = 2 * drawn_hits / (m + drawn_hits + drawn_alarms)
    return _finite(2 * hits / (m + hits + alarms), *np.quantile(drawn, [0.025, 0.975]))


def pr_auc(outcome: Vector, risk: Vector) -> Interval:
    """Compute the average precision, with an interval from the influence of each row.

    Ties are one step, as in scikit-learn. A row at rank k changes the precision of every leaver from k
    on; a leaver also adds the precision at k. To first order, the variance over stratified bootstrap
    draws is the sum of the variances of these influences, of those who left and of those who stayed.

    Source: Jaeckel 1972, "The infinitesimal jackknife"; Efron and Tibshirani 1993, chapter 21.

    >>> round(pr_auc(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])).value, 3)
    0.833
    """
    m = int((outcome == 1).sum())
    if m == 0 or m == len(outcome):
        return UNKNOWN
    order = np.argsort(-risk, kind="stable")
    is_left, sorted_risk = outcome[order] == 1, risk[order]
    is_last = np.append(sorted_risk[1:] != sorted_risk[:-1], True)  # of a tie
    hits, at_k = np.cumsum(is_left)[is_last], np.flatnonzero(is_last) + 1
    precision, left = hits / at_k, np.diff(hits, prepend=0)
    value = float(np.sum(left * precision)) / m
    gained, lost = (np.cumsum(each[::-1])[::-1] for each in (left / at_k, left * precision / at_k))
    step = np.cumsum(is_last) - is_last  # the tie of each row
    influence = is_left * (precision + gained)[step] - lost[step]
    squares = sum(np.var(influence[rows]) * rows.sum() for rows in (is_left, ~is_left))
    error = Z95 * float(np.sqrt(squares)) / m
    return _finite(value, max(0.0, value - error), min(1.0, value + error))


def top(risk: Vector, capacity: int) -> NDArray[np.intp]:
    """Return the positions of the `capacity` highest risks; ties keep the order of the rows.

    >>> top(np.array([0.2, 0.9, 0.2]), 2).tolist()
    [1, 0]
    """
    return np.argsort(-risk, kind="stable")[:capacity]


def precision_and_lift(outcome: Vector, risk: Vector, capacity: int) -> tuple[Interval, Interval]:
    """Compute the share who left among the `capacity` highest risks, and its ratio to the base rate."""
    at_k = top(risk, capacity)
    base_rate = float(np.mean(outcome)) if len(outcome) else 0.0
    precision = wilson(int(outcome[at_k].sum()), len(at_k))
    if precision.value is None or precision.low is None or precision.high is None or not base_rate:
        return precision, UNKNOWN
    low, high = precision.low / base_rate, precision.high / base_rate
    return precision, Interval(precision.value / base_rate, low, high)


def precision_difference(
    outcome: Vector, challenger: Vector, champion: Vector, capacity: int
) -> Interval:
    """Compute precision at `capacity` of the challenger minus that of the champion.

    Rows on both lists cancel out; the interval is that of the sum over rows on only one of them.

    >>> outcome = np.array([1.0, 1, 0, 0])
    >>> precision_difference(outcome, outcome, 1 - outcome, 2).value
    1.0
    """
    k = min(capacity, len(outcome))
    if k == 0:
        return UNKNOWN
    old, new = set(top(champion, k).tolist()), set(top(challenger, k).tolist())
    gained, lost = (outcome[sorted(rows)] for rows in (new - old, old - new))
    value = float(gained.sum() - lost.sum()) / k
    error = Z95 * float(np.sqrt(gained.sum() + lost.sum())) / k
    return _finite(value, value - error, value + error)


def compute_metrics(outcome: Vector, risk: Vector, capacity: int) -> dict[str, Any]:
    """Compute every metric of a risk: name -> Interval, and k of precision and lift as `called`."""
    precision, lift = precision_and_lift(outcome, risk, capacity)
    intervals = {
        "f1": f1(outcome, risk),
        "roc_auc": roc_auc(outcome, risk),
        "pr_auc": pr_auc(outcome, risk),
        "log_loss": mean(row_log_loss(outcome, risk)),
        "brier": mean(row_brier(outcome, risk)),
        "precision": precision,
        "lift": lift,
    }
    k = min(capacity, len(outcome))
    return {"called": k} | {name: interval.to_dict() for name, interval in intervals.items()}


# ---- curves


def confusion(outcome: Vector, risk: Vector, threshold: float = THRESHOLD) -> dict[str, int]:
    """Count rows by outcome and prediction, in that order.

    >>> confusion(np.array([1.0, 1, 0]), np.array([0.9, 0.2, 0.1]))
    {'stayed_stayed': 1, 'stayed_left': 0, 'left_stayed': 1, 'left_left': 1}
    """
    left, is_predicted = outcome == 1, risk >= threshold
    return {
        "stayed_stayed": int((~left & ~is_predicted).sum()),
        "stayed_left": int((~left & is_predicted).sum()),
        "left_stayed": int((left & ~is_predicted).sum()),
        "left_left": int((left & is_predicted).sum()),
    }


def roc_curve(outcome: Vector, risk: Vector, points: int = 200) -> dict[str, list[float]]:
    """Compute the ROC curve at no more than `points` points; empty if there is only one outcome."""
    m, n = int((outcome == 1).sum()), int((outcome == 0).sum())
    if m == 0 or n == 0:
        return {"false_positive_rate": [], "true_positive_rate": []}
    order = np.argsort(-risk, kind="stable")
    last = np.append(np.diff(risk[order]) != 0, True)
    hits = np.append(0, np.cumsum(outcome[order])[last]) / m
    alarms = np.append(0, np.cumsum(1 - outcome[order])[last]) / n
    kept = np.unique(np.linspace(0, len(hits) - 1, points).round().astype(int))
    return {
        "false_positive_rate": alarms[kept].tolist(),
        "true_positive_rate": hits[kept].tolist(),
    }


def calibration_curve(outcome: Vector, risk: Vector, bins: int = 10) -> list[dict[str, float]]:
    """Compare mean risk and share who left in bins of equal size, with Wilson's interval."""
    points = []
    for rows in np.array_split(np.argsort(risk, kind="stable"), min(bins, len(risk) // 5 or 1)):
        if len(rows) == 0:
            continue
        observed = wilson(int(outcome[rows].sum()), len(rows)).to_dict()
        points.append(
            {
                "mean_risk": float(risk[rows].mean()),
                "observed": float(observed["value"] or 0.0),
                "low": float(observed["low"] or 0.0),
                "high": float(observed["high"] or 0.0),
                "rows": len(rows),
            }
        )
    return points


def gain_curve(outcome: Vector, risk: Vector, points: int = 101) -> dict[str, list[float]]:
    """Compute the share of leavers reached by the share of clients contacted, highest risk first."""
    m, n = float(outcome.sum()), len(outcome)
    if m == 0:
        return {"share_contacted": [], "share_found": []}
    recall = np.append(0, np.cumsum(outcome[np.argsort(-risk, kind="stable")])) / m
    kept = np.unique(np.linspace(0, n, points).round().astype(int))
    return {"share_contacted": (kept / n).tolist(), "share_found": recall[kept].tolist()}
