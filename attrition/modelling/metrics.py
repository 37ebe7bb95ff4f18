"""Scores of a risk against what happened, each with a 95 % interval that says how far to trust it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Vector = NDArray[np.float64]

Z95 = 1.959963984540054
SMALLEST_RISK = 1e-6
REPLICATES = 1000
THRESHOLD = 0.5


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; None where the rows cannot tell."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def standard_error(self) -> float:
        """That of a normal figure; NaN where the rows cannot tell."""
        if self.low is None or self.high is None:
            return np.nan
        return (self.high - self.low) / (2 * Z95)

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


UNKNOWN = Interval(None)


def _finite(value: float, low: float, high: float) -> Interval:
    if not np.isfinite(value):
        return UNKNOWN
    if not (np.isfinite(low) and np.isfinite(high)):
        return Interval(float(value))
    return Interval(float(value), float(low), float(high))


# ---- area under the ROC curve


def roc_auc(outcome: Vector, risk: Vector) -> Interval:
    """Probability that one who left had the higher risk, ties counting half.

    Source: DeLong, DeLong and Clarke-Pearson 1988; computed by mid-ranks as in Sun and Xu 2014.

    >>> roc_auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])).value
    0.75
    """
    if len(set(outcome)) < 2:
        return UNKNOWN
    (auc,), covariance = _delong(outcome, risk[np.newaxis, :])
    error = Z95 * np.sqrt(covariance[0, 0])
    return _finite(auc, max(0.0, auc - error), min(1.0, auc + error))


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion on the same rows, and the one-sided p-value of "not better"."""

    interval: Interval
    p_value: float | None


def roc_auc_difference(outcome: Vector, challenger: Vector, champion: Vector) -> Difference:
    """Compare two risks of the same rows by their AUC, taking their correlation into account.

    Source: DeLong, DeLong and Clarke-Pearson 1988.
    """
    if len(set(outcome)) < 2:
        return Difference(UNKNOWN, None)
    aucs, covariance = _delong(outcome, np.vstack([challenger, champion]))
    difference = aucs[0] - aucs[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-18:
        p_value = 0.5 if difference == 0 else float(difference < 0)
        return Difference(
            Interval(float(difference), float(difference), float(difference)), p_value
        )
    error = np.sqrt(variance)
    interval = _finite(difference, difference - Z95 * error, difference + Z95 * error)
    return Difference(interval, float(stats.norm.sf(difference / error)))


def _delong(outcome: Vector, risks: NDArray[np.float64]) -> tuple[Vector, NDArray[np.float64]]:
    """AUCs of k risks and their covariance; risks: (k, n)."""
    left, stayed = risks[:, outcome == 1], risks[:, outcome == 0]
    m, n = left.shape[1], stayed.shape[1]
    among_left = stats.rankdata(left, axis=1)
    among_stayed = stats.rankdata(stayed, axis=1)
    among_all = stats.rankdata(np.hstack([left, stayed]), axis=1)
    of_left = (among_all[:, :m] - among_left) / n
    of_stayed = 1 - (among_all[:, m:] - among_stayed) / m
    covariance = _covariance(of_left) / m + _covariance(of_stayed) / n
    return of_left.mean(axis=1), covariance


def _covariance(components: NDArray[np.float64]) -> NDArray[np.float64]:
    if components.shape[1] < 2:
        return np.full((len(components), len(components)), np.nan)
    return np.atleast_2d(np.cov(components))


# ---- scores that are a mean over rows


def log_odds(risk: Vector) -> Vector:
    """Return log(p / (1 - p)), the risk kept a millionth away from 0 and 1."""
    risk = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(np.log(risk) - np.log1p(-risk))


def expit(log_odds: Vector) -> Vector:
    """Return the risk of log-odds."""
    return np.asarray(special.expit(log_odds))


def row_log_loss(outcome: Vector, risk: Vector) -> Vector:
    """Return the log loss of each row: (n,) in nats."""
    risk = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(-(outcome * np.log(risk) + (1 - outcome) * np.log1p(-risk)))


def row_brier(outcome: Vector, risk: Vector) -> Vector:
    """Return the squared error of each row: (n,)."""
    return np.asarray((risk - outcome) ** 2)


def mean(per_row: Vector) -> Interval:
    """Mean of a score over rows, with the interval of the normal approximation."""
    n = len(per_row)
    if n == 0:
        return UNKNOWN
    value = float(np.mean(per_row))
    error = Z95 * float(np.std(per_row, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    return _finite(value, value - error, value + error)


def simplest(losses: Mapping[str, Vector]) -> str:
    """Name the first whose mean loss is within one standard error of the lowest.

    `losses`: a name, simplest first, -> the loss of each row, the same rows for all: (n,). The error is
    that of the paired difference, row by row.

    Source: Breiman et al. 1984, the one standard error rule; Hastie, Tibshirani and Friedman 2009, 7.10.
    """
    best = min(losses.values(), key=lambda loss: float(loss.mean()))
    for name, loss in losses.items():
        difference = loss - best
        n = len(difference)
        error = float(np.std(difference, ddof=1)) / np.sqrt(n) if n > 1 else 0.0
        if float(difference.mean()) <= error:
            return name
    raise AssertionError("the best is within no error of itself")


# ---- scores of a decision


def wilson(hits: int, n: int) -> Interval:
    """Share of hits with Wilson's interval.

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
    """F1 of "risk >= threshold", its interval from 1,000 stratified bootstrap draws.

    Resampling those who left and those who stayed is the same as drawing the counts of hits and of
    false alarms from two binomial distributions, so no row is touched. 0 where nobody is called.
    """
    left, called = outcome == 1, risk >= threshold
    m, n = int(left.sum()), int((~left).sum())
    if m == 0 or n == 0:
        return UNKNOWN
    hits, alarms = int((left & called).sum()), int((~left & called).sum())
    rng = np.random.default_rng(0)
    drawn_hits = rng.binomial(m, hits / m, REPLICATES)
    drawn_alarms = rng.binomial(n, alarms / n, REPLICATES)
    drawn = 2 * drawn_hits / (m + drawn_hits + drawn_alarms)
    return _finite(2 * hits / (m + hits + alarms), *np.quantile(drawn, [0.025, 0.975]))


def pr_auc(outcome: Vector, risk: Vector) -> Interval:
    """Average precision, its interval from stratified bootstrap draws.

    Ties are taken as one step, as in scikit-learn. Each draw re-weights the rows of one sort.
    """
    m = int((outcome == 1).sum())
    if m == 0 or m == len(outcome):
        return UNKNOWN
    order = np.argsort(-risk, kind="stable")
    sorted_outcome, sorted_risk = outcome[order], risk[order]
    last_of_tie = np.append(sorted_risk[1:] != sorted_risk[:-1], True)
    value = _average_precision(sorted_outcome, np.ones_like(sorted_outcome), last_of_tie)
    rng = np.random.default_rng(0)
    draws = REPLICATES if len(outcome) <= 20_000 else 200
    drawn = []
    for _ in range(draws):
        weight = np.empty(len(outcome))
        for label in (0, 1):
            rows = sorted_outcome == label
            count = int(rows.sum())
            weight[rows] = rng.multinomial(count, np.full(count, 1 / count))
        drawn.append(_average_precision(sorted_outcome, weight, last_of_tie))
    return _finite(value, *np.quantile(drawn, [0.025, 0.975]))


def _average_precision(outcome: Vector, weight: Vector, last_of_tie: NDArray[np.bool_]) -> float:
    hits = np.cumsum(outcome * weight)[last_of_tie]
    called = np.cumsum(weight)[last_of_tie]
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def top(risk: Vector, capacity: int) -> NDArray[np.intp]:
    """Positions of the `capacity` highest risks; ties keep the order of the rows."""
    return np.argsort(-risk, kind="stable")[:capacity]


def precision_and_lift(outcome: Vector, risk: Vector, capacity: int) -> tuple[Interval, Interval]:
    """Share who left among those the managers can call, and how many times the base rate it is."""
    called = top(risk, capacity)
    base_rate = float(np.mean(outcome)) if len(outcome) else 0.0
    precision = wilson(int(outcome[called].sum()), len(called))
    if precision.value is None or precision.low is None or precision.high is None or not base_rate:
        return precision, UNKNOWN
    low, high = precision.low / base_rate, precision.high / base_rate
    return precision, Interval(precision.value / base_rate, low, high)


def precision_difference(
    outcome: Vector, challenger: Vector, champion: Vector, capacity: int
) -> Interval:
    """Share who left on the challenger's list less that on the champion's, as long as `capacity`.

    Only the rows that are on one of the lists tell the two apart; the interval is that of their sum.

    >>> outcome = np.array([1.0, 1, 0, 0])
    >>> precision_difference(outcome, outcome, 1 - outcome, 2).value
    1.0
    """
    k = min(capacity, len(outcome))
    if k == 0:
        return UNKNOWN
    theirs, ours = set(top(champion, k).tolist()), set(top(challenger, k).tolist())
    gained, lost = (outcome[sorted(rows)] for rows in (ours - theirs, theirs - ours))
    value = float(gained.sum() - lost.sum()) / k
    error = Z95 * float(np.sqrt(gained.sum() + lost.sum())) / k
    return _finite(value, value - error, value + error)


def score(outcome: Vector, risk: Vector, capacity: int) -> dict[str, Any]:
    """Every score of a risk: name -> Interval, and how many clients the capacity reaches."""
    precision, lift = precision_and_lift(outcome, risk, capacity)
    scores = {
        "f1": f1(outcome, risk),
        "roc_auc": roc_auc(outcome, risk),
        "pr_auc": pr_auc(outcome, risk),
        "log_loss": mean(row_log_loss(outcome, risk)),
        "brier": mean(row_brier(outcome, risk)),
        "precision": precision,
        "lift": lift,
    }
    called = min(capacity, len(outcome))
    return {"called": called} | {name: scores[name].to_dict() for name in scores}


# ---- curves


def confusion(outcome: Vector, risk: Vector, threshold: float = THRESHOLD) -> dict[str, int]:
    """Counts by what happened and what was predicted, in that order."""
    left, called = outcome == 1, risk >= threshold
    return {
        "stayed_stayed": int((~left & ~called).sum()),
        "stayed_left": int((~left & called).sum()),
        "left_stayed": int((left & ~called).sum()),
        "left_left": int((left & called).sum()),
    }


def roc_curve(outcome: Vector, risk: Vector, points: int = 200) -> dict[str, list[float]]:
    """The ROC curve at no more than `points` places; empty with one class."""
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


def calibration(outcome: Vector, risk: Vector, bins: int = 10) -> list[dict[str, float]]:
    """Mean risk against the share who left, in bins of equal size, with Wilson's interval."""
    found = []
    for rows in np.array_split(np.argsort(risk, kind="stable"), min(bins, len(risk) // 5 or 1)):
        if len(rows) == 0:
            continue
        observed = wilson(int(outcome[rows].sum()), len(rows)).to_dict()
        found.append(
            {
                "mean_risk": float(risk[rows].mean()),
                "observed": float(observed["value"] or 0.0),
                "low": float(observed["low"] or 0.0),
                "high": float(observed["high"] or 0.0),
                "rows": len(rows),
            }
        )
    return found


def gain(outcome: Vector, risk: Vector, points: int = 101) -> dict[str, list[float]]:
    """Share found of those who leave, by the share of clients contacted in order of risk."""
    m, n = float(outcome.sum()), len(outcome)
    if m == 0:
        return {"share_contacted": [], "share_found": []}
    found = np.append(0, np.cumsum(outcome[np.argsort(-risk, kind="stable")])) / m
    kept = np.unique(np.linspace(0, n, points).round().astype(int))
    return {"share_contacted": (kept / n).tolist(), "share_found": found[kept].tolist()}
