"""How well does the model do on clients whose outcome nobody knows yet, and how many of them leave?

Calibrated risks say what to expect of themselves: of clients at 20 %, one in five leaves. Each figure
is the mean of what may happen, and its interval says where the figure that will be realised lies 95
times in 100: outcomes are drawn from the risks, and the risks from what the reference leaves open about
their calibration. Good for the number who leave and the value at risk, which it follows wherever the
clients change; blind to a change of the truth, when like clients leave more often than before: that
only outcomes show (drift.check_truth).

Source: confidence-based performance estimation, Kivimäki et al. 2025, arXiv 2407.08649, and the
distribution of its figures, arXiv 2505.05295; re-weighted, Białek et al. 2024, arXiv 2401.08348.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attrition import metrics
from attrition.metrics import UNKNOWN, Interval, Vector

LEAST_ROWS, FEW_ROWS, LEAST_OF_EACH = 100, 500, 20
LEAST_AUC_DROP = 0.03

REPLICATES = (200, 1000)  # at least, at most
DRAWS_IN_ALL = 20_000_000  # many clients need fewer replicates, and would take long
DRAWS_AT_ONCE = 1_000_000
NEWTON_STEPS = 50
LARGEST = 1e290  # a million values of this size still have a sum

LEAST_ROWS_SECOND, LEAST_EFFECTIVE_ROWS = 1000, 200
SHIFT_Z = 3.0

INSUFFICIENT, FINE, DEGRADED = "insufficient", "fine", "degraded"
FIGURES = ("expected", "rate", "value_at_risk", "roc_auc", "precision")


@dataclass(frozen=True)
class Estimate:
    """Figures of clients whose outcome is not known, each with the interval of what will be realised.

    precision: among the `called` highest risks. verdict: "degraded" where the ROC AUC is estimated
    below that of the reference by 0.03 at least, else "fine", or "insufficient". warnings: what is
    missing or weak, in words.
    """

    rows: int
    called: int
    expected: Interval
    rate: Interval
    value_at_risk: Interval
    roc_auc: Interval
    precision: Interval
    reference_roc_auc: Interval
    verdict: str
    warnings: tuple[str, ...]
    sentence: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    risk: Vector,
    *,
    reference_risk: Vector | None = None,
    reference_outcome: Vector | None = None,
    value: Vector | None = None,
    capacity: int = 100,
    weights: Vector | None = None,
) -> Estimate:
    """Estimate how many leave, what is at stake, and how well the risks rank, before any outcome.

    risk, value: (n,); a missing value counts nothing. The reference: risks out of fold and outcomes of
    rows that the model was judged on, (m,) each, on which the risks are recalibrated; its `weights`:
    (m,), how many rows of the batch each stands for. Equal whatever the order of the rows.

    Source for the fewest rows: NannyML's chunks; Collins et al. 2016 for 20 of each outcome.

    >>> found = estimate(np.full(400, 0.25))
    >>> round(found.expected.value, 6), round(found.roc_auc.value, 6)
    (100.0, 0.5)
    """
    n = len(risk)
    if n == 0:
        unknown = (UNKNOWN,) * 6
        return Estimate(0, 0, *unknown, INSUFFICIENT, (), "there is no client to estimate for")
    called = min(capacity, n)
    reference = _reference(reference_risk, reference_outcome, weights)
    figures = _figures(risk, reference, value, called)
    before = UNKNOWN if reference is None else metrics.roc_auc(reference.outcome, reference.risk)
    warnings = []
    if reference is None:
        warnings.append(
            f"the reference is absent or has fewer than {LEAST_OF_EACH} of an outcome: "
            "the intervals take the risks as they are"
        )
    expected = figures["expected"].value or 0.0
    too_few = n < LEAST_ROWS or min(expected, n - expected) < LEAST_OF_EACH
    if too_few:
        figures |= {"roc_auc": UNKNOWN, "precision": UNKNOWN}
        warnings.append(
            f"too few to estimate how well the risks rank (at least {LEAST_ROWS} clients, "
            f"{LEAST_OF_EACH} who leave and {LEAST_OF_EACH} who stay)"
        )
    elif n < FEW_ROWS:
        warnings.append(f"few clients: below {FEW_ROWS} the estimate of the ROC AUC says little")
    verdict = INSUFFICIENT if too_few else _verdict(figures["roc_auc"], before)
    return Estimate(
        rows=n,
        called=called,
        **figures,
        reference_roc_auc=before,
        verdict=verdict,
        warnings=tuple(warnings),
        sentence=_sentence(n, figures, before, verdict),
    )


def _verdict(auc: Interval, before: Interval) -> str:
    if auc.high is None or before.value is None:
        return FINE if auc.value is not None else INSUFFICIENT
    return DEGRADED if auc.high < before.value - LEAST_AUC_DROP else FINE


def _sentence(n: int, figures: Mapping[str, Interval], before: Interval, verdict: str) -> str:
    told = f"about {_told(figures['expected'], ',.0f', 'likely ')} of {n:,} clients will leave"
    auc = figures["roc_auc"]
    if auc.value is None:
        ranks = "too few to estimate how well the risks rank"
    else:
        ranks = f"estimated ROC AUC {_told(auc, '.2f')}"
    if verdict == DEGRADED:
        ranks += f", below the {before.value:.2f} of the rows that the model was judged on"
    return f"{told}; {ranks}; no outcome is known yet"


def _told(interval: Interval, form: str, word: str = "") -> str:
    told = f"{interval.value:{form}}"
    if interval.low is None or interval.high is None:
        return told
    return f"{told} ({word}{interval.low:{form}} to {interval.high:{form}})"


# ---- the replicates


@dataclass(frozen=True)
class _Reference:
    risk: Vector
    outcome: Vector
    weights: Vector


def _reference(
    risk: Vector | None, outcome: Vector | None, weights: Vector | None
) -> _Reference | None:
    """Put the rows in an order of their own; None where they are too few to recalibrate on."""
    if risk is None or outcome is None:
        return None
    left = int(outcome.sum())
    if min(left, len(outcome) - left) < LEAST_OF_EACH:
        return None
    weights = np.ones(len(risk)) if weights is None else weights / weights.mean()
    order = np.lexsort((weights, outcome, risk))
    return _Reference(risk[order], outcome[order], weights[order])


def _figures(
    risk: Vector, reference: _Reference | None, value: Vector | None, called: int
) -> dict[str, Interval]:
    """Return the mean of each figure and the interval of what will be realised.

    Each follows from sums over those who leave: how many, their ranks, how many called, their value.
    The interval is of simulated quantiles, since one client may be half of all value.
    """
    n = len(risk)
    worth = np.zeros(n) if value is None else np.clip(np.nan_to_num(value), -LARGEST, LARGEST)
    order = np.lexsort((worth, risk))
    risk, worth = risk[order], worth[order]
    of_each = np.column_stack([np.ones(n), stats.rankdata(risk), np.arange(n) >= n - called, worth])
    lines = _recalibrations(reference, int(np.clip(DRAWS_IN_ALL / n, *REPLICATES)))
    terms = _terms(risk)
    likely = metrics.expit(terms @ lines[0])
    noise = float(np.sum(likely * (1 - likely)))
    means = _rates(likely @ of_each, n, called, noise)
    drawn = _rates(_draw_sums(terms, lines[1:], of_each).T, n, called, 0.0)
    found = {name: _interval(means[name], drawn[name]) for name in means}
    return found if value is not None else found | {"value_at_risk": UNKNOWN}


def _rates(sums: Vector, n: int, called: int, noise: float) -> dict[str, Vector]:
    """Return the figures of sums over those who leave; `noise`: the variance of their number.

    ROC AUC is the expected number of pairs in the right order over that of all pairs, from the sum of
    ranks (Mann and Whitney 1947).
    """
    left, ranks, found, at_risk = sums
    pairs = left * (n - left) - noise
    in_order = ranks - (left * (left + 1) + noise) / 2
    return {
        "expected": left,
        "rate": left / n,
        "value_at_risk": at_risk,
        "roc_auc": in_order / np.where(pairs > 0, pairs, np.nan),
        "precision": found / called,
    }


def _interval(value: Vector, drawn: Vector) -> Interval:
    """Take the quantiles between which one more draw would lie 95 times in 100."""
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) == 0:
        return UNKNOWN
    low = np.quantile(drawn, 0.025, method="lower")
    high = np.quantile(drawn, 0.975, method="higher")
    return Interval(float(value), float(low), float(high))


def _draw_sums(
    terms: NDArray[np.float64], lines: NDArray[np.float64], of_each: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw outcomes once for each recalibration, and sum over those who leave: (replicates, sums)."""
    rng = np.random.default_rng(0)
    sums = []
    for some in np.array_split(lines, math.ceil(len(lines) * len(terms) / DRAWS_AT_ONCE)):
        risk = metrics.expit(some @ terms.T)
        sums.append((rng.random(risk.shape) < risk) @ of_each)
    return np.vstack(sums)


# ---- what the reference leaves open about the calibration


def _terms(risk: Vector) -> NDArray[np.float64]:
    """Return what a recalibration is a sum of: (n, 3)."""
    score = metrics.log_odds(risk)
    if SIG:
        return np.column_stack([score, np.ones(len(risk))])
    return np.column_stack([-np.logaddexp(0, -score), np.logaddexp(0, score), np.ones(len(risk))])


def _recalibrations(reference: _Reference | None, replicates: int) -> NDArray[np.float64]:
    ASIS = np.array([1.0, 0.0]) if SIG else np.array([1.0, 1.0, 0.0])
    if reference is None:
        return np.tile(ASIS, (1 + replicates, 1))
    terms = _terms(reference.risk)
    rows = reference.weights[np.newaxis]
    fit = ASIS
    for _ in range(NEWTON_STEPS):
        (fit,) = _newton(terms, reference.outcome, rows, fit, ASIS)
    rng = np.random.default_rng(1)
    lines = [fit[np.newaxis]]
    blocks = math.ceil(replicates * len(terms) / DRAWS_AT_ONCE)
    for some in np.array_split(np.arange(replicates), blocks):
        resampled = rows * rng.standard_exponential((len(some), len(terms)))
        lines.append(_newton(terms, reference.outcome, resampled, fit, ASIS))
    return np.vstack(lines)


SIG = False


def _newton(
    terms, outcome: Vector, weights: NDArray[np.float64], line: Vector, ASIS
) -> NDArray[np.float64]:
    risk = metrics.expit(terms @ line)
    k = len(line)
    squares = (terms[:, :, np.newaxis] * terms[:, np.newaxis, :]).reshape(len(terms), -1)
    up = weights @ (terms * (outcome - risk)[:, np.newaxis]) - ASIS * (line - ASIS)
    down = (weights @ (squares * (risk * (1 - risk))[:, np.newaxis])).reshape(-1, k, k)
    step = np.linalg.solve(down + np.diag(ASIS), up[..., np.newaxis])[..., 0]
    return line + np.clip(step, -1, 1)
