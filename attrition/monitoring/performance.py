"""Estimate the performance of a model before outcomes are known, and check it when they are.

If risks are calibrated, one in five clients with a risk of 20 % leaves. Each estimate is an expectation,
and its 95 % interval is that of the figure that will be realised: outcomes are drawn from the risks, and
the risks from the uncertainty of their calibration on the reference. Accurate for the number who leave
and the value at risk if the mix of clients changes. It cannot detect concept drift, that is, if similar
clients leave more often than before: only outcomes can show that (check_performance).

If month-to-month clients of the telco table are four times as frequent, in batches of 1,000 with the
product's own reference, the mean error is 0.012 for the share who leave (0.079 if the estimate ignores
the shift), 0.013 for the ROC AUC (0.034) and 0.037 for the precision at 100, which is estimated 0.030
too low. The estimate under covariate shift is no more accurate (python -m benchmarks.estimates).

Source: confidence-based performance estimation, Kivimäki et al. 2025, arXiv 2407.08649, and the
distribution of its figures, arXiv 2505.05295; re-weighted, Białek et al. 2024, arXiv 2401.08348.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attrition import wording
from attrition.modelling import metrics
from attrition.modelling.metrics import UNKNOWN, Interval, Vector
from attrition.monitoring import drift

MIN_ROWS_TO_ESTIMATE, MIN_ROWS_TO_TRUST_AUC, MIN_OF_EACH_TO_ESTIMATE = 100, 500, 20
LEAST_AUC_DROP = 0.03

REPLICATES = (200, 1000)  # at least, at most
DRAWS_IN_ALL = 20_000_000  # if there are many clients, fewer replicates are enough
DRAWS_AT_ONCE = 1_000_000
# Of more clients than `MANY`, so many are drawn one by one; the others are in so many blocks.
MANY, SINGLE, BLOCKS = 100_000, 4_096, 2_000
BLOCKS_AT_ONCE = 40
NEWTON_STEPS = 50
IDENTITY, SLOPES = np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])
# Standard deviation of the calibration error among other clients: slope, log-odds.
TURN, MOVE = 0.04, 0.03
LARGEST = 1e290  # the sum of a million values of this size is finite

MIN_ROWS_TO_REWEIGH, MIN_EFFECTIVE_ROWS = 1000, 200
SHIFT_Z, LARGEST_WEIGHT = 3.0, 20.0

CHANCE = 0.5  # the ROC AUC of a random order
INSUFFICIENT, FINE, DEGRADED = "insufficient", "fine", "degraded"
# With fewer rows, or fewer of either outcome, performance is not checked.
MIN_LABELLED_TO_JUDGE, MIN_OF_EACH_TO_JUDGE = 100, 20
ALPHA_DEGRADED = 0.01
MIN_AUC_DROP_DEGRADED = 0.02
MIN_RATE_RATIO_DEGRADED = 1.15
FIGURES = ("expected", "rate", "value_at_risk", "roc_auc", "precision")


@dataclass(frozen=True)
class Estimate:
    """Estimated figures of clients without an outcome, each with the interval of the realised figure.

    precision: among the `called` highest risks. listed, listed_value_at_risk: those who leave among the
    clients of a list, and their value. verdict: "degraded" if the whole interval of the ROC AUC is more
    than 0.03 below that of the reference, "insufficient" if either is unknown, else "fine".
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
    listed: Interval = UNKNOWN
    listed_value_at_risk: Interval = UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    risk: Vector,
    *,
    reference_risk: Vector | None = None,
    reference_outcome: Vector | None = None,
    value: Vector | None = None,
    capacity: int = 100,
    weights: Vector | None = None,
    is_listed: Vector | NDArray[np.bool_] | None = None,
) -> Estimate:
    """Estimate how many leave, the value at risk and the ranking, before outcomes are known.

    risk, value: (n,); a missing value counts as 0. reference_risk, reference_outcome: (m,) out-of-fold
    risks and outcomes, on which the risks are recalibrated. weights: (m,) the number of rows of the
    batch that each reference row represents. is_listed: (n,) whether a client is on the list. The result
    does not depend on the order of the rows.

    At the minimum of 100 clients, the realised ROC AUC itself has a standard error of 0.055.

    >>> result = estimate(np.full(400, 0.25))
    >>> round(result.expected.value, 6), round(result.roc_auc.value, 6)
    (100.0, 0.5)
    """
    n = len(risk)
    if n == 0:
        unknown = (UNKNOWN,) * 6
        return Estimate(0, 0, *unknown, INSUFFICIENT, (), "there is no client to estimate for")
    called = min(capacity, n)
    reference = _sort_reference(reference_risk, reference_outcome, weights)
    with threadpool_limits(1):  # as fast, and the same sums on any machine
        figures = _estimate_figures(risk, reference, value, called, is_listed)
    before = UNKNOWN if reference is None else metrics.roc_auc(reference.outcome, reference.risk)
    expected = figures["expected"].value or 0.0
    too_few = n < MIN_ROWS_TO_ESTIMATE or min(expected, n - expected) < MIN_OF_EACH_TO_ESTIMATE
    if too_few:
        figures |= {"roc_auc": UNKNOWN, "precision": UNKNOWN}
    verdict = _verdict(figures["roc_auc"], before)
    return Estimate(
        rows=n,
        called=called,
        **figures,
        reference_roc_auc=before,
        verdict=verdict,
        warnings=tuple(_warnings(n, too_few=too_few, recalibrated=reference is not None)),
        sentence=_sentence(n, figures, before, verdict),
    )


def _verdict(auc: Interval, before: Interval) -> str:
    if auc.high is None or before.value is None:
        return INSUFFICIENT
    return DEGRADED if auc.high < before.value - LEAST_AUC_DROP else FINE


def _warnings(n: int, *, too_few: bool, recalibrated: bool) -> Iterator[str]:
    if not recalibrated:
        yield (
            f"the reference is absent or has fewer than {MIN_OF_EACH_TO_ESTIMATE} of an outcome: "
            "the intervals assume that the risks are calibrated"
        )
    if too_few:
        yield (
            f"too few clients to estimate the ROC AUC (at least {MIN_ROWS_TO_ESTIMATE}, of whom "
            f"{MIN_OF_EACH_TO_ESTIMATE} leave and {MIN_OF_EACH_TO_ESTIMATE} stay)"
        )
    elif n < MIN_ROWS_TO_TRUST_AUC:
        yield f"below {MIN_ROWS_TO_TRUST_AUC} clients the estimate of the ROC AUC is imprecise"


def _sentence(n: int, figures: Mapping[str, Interval], before: Interval, verdict: str) -> str:
    expected, auc = figures["expected"], figures["roc_auc"]
    count = f"expected to leave: {expected.value:,.0f} of {wording.plural(n, 'client')}"
    count += f" (95 % interval {expected.low:,.0f} to {expected.high:,.0f})"
    if auc.value is None:
        return f"{count}; too few clients to estimate the ROC AUC"
    ranks = f"estimated ROC AUC {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})"
    if verdict == DEGRADED:
        ranks += f", below the {before.value:.2f} of the reference rows"
    return f"{count}; {ranks}"


# ---- the replicates


@dataclass(frozen=True)
class _Reference:
    risk: Vector
    outcome: Vector
    weights: Vector


def _sort_reference(
    risk: Vector | None, outcome: Vector | None, weights: Vector | None
) -> _Reference | None:
    """Sort the reference so that results do not depend on row order; None if it has too few rows."""
    if risk is None or outcome is None:
        return None
    left = int(outcome.sum())
    if min(left, len(outcome) - left) < MIN_OF_EACH_TO_ESTIMATE:
        return None
    weights = np.ones(len(risk)) if weights is None else weights / weights.mean()
    order = np.lexsort((weights, outcome, risk))
    return _Reference(risk[order], outcome[order], weights[order])


def _estimate_figures(
    risk: Vector,
    reference: _Reference | None,
    value: Vector | None,
    called: int,
    is_listed: Vector | NDArray[np.bool_] | None,
) -> dict[str, Interval]:
    """Estimate the mean of each figure, and the interval of the realised figure.

    Each is computed from sums over those who leave: their number, ranks, number at k, and value. The
    interval is simulated, since one client may have half of all value.
    """
    n = len(risk)
    worth = np.zeros(n) if value is None else _clip_value(value)
    on_list = np.zeros(n) if is_listed is None else np.asarray(is_listed, dtype="float64")
    order = _sort(risk, worth, on_list)
    risk = risk[order]
    starts = np.flatnonzero(np.append(True, risk[1:] != risk[:-1]))
    counts = np.diff(np.append(starts, n))
    of_each = np.ones((n, 6))
    of_each[:, 1] = np.repeat(starts + (counts + 1) / 2, counts)  # tied risks have their mean rank
    of_each[:, 2] = np.arange(n) >= n - called
    of_each[:, 3], of_each[:, 4] = worth[order], on_list[order]
    of_each[:, 5] = of_each[:, 3] * of_each[:, 4]
    lines = _recalibrations(reference, int(np.clip(DRAWS_IN_ALL / n, *REPLICATES)))
    terms = _terms(risk)
    score = terms @ lines[0]
    perturbed, probability = _perturb(lines[1:], float(score.mean())), metrics.expit(score)
    noise = float(np.sum(probability * (1 - probability)))
    means = _rates(probability @ of_each, n, called, noise)
    del order, score, probability  # ten million of each take 80 MB
    drawn = _rates(_draw_sums(terms, perturbed, of_each).T, n, called, 0.0)
    figures = {name: _interval(means[name], drawn[name]) for name in means}
    unknown = ["value_at_risk", "listed_value_at_risk"] if value is None else []
    unknown += ["listed", "listed_value_at_risk"] if is_listed is None else []
    return figures | dict.fromkeys(unknown, UNKNOWN)


def _sort(risk: Vector, worth: Vector, on_list: Vector) -> NDArray[np.intp]:
    """Return the order by risk, then by value, then by whether a client is on the list."""
    order = np.argsort(risk, kind="stable")
    is_equal = risk[order[1:]] == risk[order[:-1]]
    is_tied = np.append(is_equal, False) | np.append(False, is_equal)
    tied = order[is_tied]
    order[is_tied] = tied[np.lexsort((on_list[tied], worth[tied], risk[tied]))]
    return order


def _clip_value(value: Vector) -> Vector:
    return np.clip(np.nan_to_num(value), -LARGEST, LARGEST)


def _rates(sums: Vector, n: int, called: int, noise: float) -> dict[str, Vector]:
    """Compute the figures from sums over those who leave; `noise`: the variance of their number.

    ROC AUC: the expected share of pairs in the right order, from the sum of ranks.

    Source: Mann and Whitney 1947.
    """
    left, ranks, hits, at_risk, listed, listed_at_risk = sums
    pairs = left * (n - left) - noise
    in_order = ranks - (left * (left + 1) + noise) / 2
    return {
        "expected": left,
        "rate": left / n,
        "value_at_risk": at_risk,
        "roc_auc": in_order / np.where(pairs > 0, pairs, np.nan),
        "precision": hits / (called or np.nan),
        "listed": listed,
        "listed_value_at_risk": listed_at_risk,
    }


def _interval(value: Vector, drawn: Vector) -> Interval:
    """Return the value with the quantiles that contain one more draw 95 times in 100."""
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) == 0:
        return UNKNOWN
    low = np.quantile(drawn, 0.025, method="lower")
    high = np.quantile(drawn, 0.975, method="higher")
    return Interval(float(value), float(low), float(high))


def _draw_sums(
    terms: NDArray[np.float64], lines: NDArray[np.float64], of_each: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw outcomes for each recalibration, and sum over those who leave: (replicates, sums)."""
    draw = _draw_many if len(terms) > MANY else _draw_each
    return draw(terms, lines, of_each)


def _draw_each(
    terms: NDArray[np.float64], lines: NDArray[np.float64], of_each: NDArray[np.float64]
) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    sums = []
    for block in np.array_split(lines, math.ceil(len(lines) * len(terms) / DRAWS_AT_ONCE)):
        risk = metrics.expit(block @ terms.T)
        sums.append((rng.random(risk.shape) < risk) @ of_each)
    return np.vstack(sums)


def _draw_many(
    terms: NDArray[np.float64], lines: NDArray[np.float64], of_each: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw one by one only the clients with the largest shares of a sum.

    The others, sorted by risk, are in blocks, each with its mean terms. The sums over so many who leave
    have a normal distribution, whose mean and covariance are sums over the blocks.

    Source: the central limit theorem; of independent outcomes with risk p, each adding x, the variance
    of the sum is the sum of p (1 - p) x^2.
    """
    size = np.maximum(np.abs(of_each).max(axis=0), np.finfo(float).tiny)
    share = np.zeros(len(terms))
    for column, most in zip(of_each.T, size, strict=True):
        parts = np.abs(column) / most
        np.maximum(share, parts / max(float(np.linalg.norm(parts)), 1.0), out=share)
    is_single = np.zeros(len(terms), dtype=bool)
    is_single[np.argpartition(share, -SINGLE)[-SINGLE:]] = True
    extra = len(terms) % BLOCKS
    is_single[:extra] = True  # so that the others fill blocks of the same size
    sums = _draw_each(terms[is_single], lines, of_each[is_single])
    risk, totals, products = np.empty((len(lines), BLOCKS)), [], []
    ends = np.linspace(extra, len(terms), BLOCKS + 1, dtype=np.intp)
    for some in np.array_split(np.arange(BLOCKS), BLOCKS // BLOCKS_AT_ONCE):
        rows = slice(ends[some[0]], ends[some[-1] + 1])
        centres = terms[rows].reshape(len(some), -1, terms.shape[1]).mean(axis=1)
        risk[:, some] = metrics.expit(lines @ centres.T)
        parts = of_each[rows] / size
        parts[is_single[rows]] = 0
        parts = parts.reshape(len(some), -1, len(size))
        totals.append(parts.sum(axis=1))
        products.append((parts.transpose(0, 2, 1) @ parts).reshape(len(some), -1))
    total = np.vstack(totals)
    shape = (len(lines), len(size), len(size))
    spread, vectors = np.linalg.eigh(((risk * (1 - risk)) @ np.vstack(products)).reshape(shape))
    noise = np.random.default_rng(3).standard_normal((len(lines), len(size), 1))
    drawn = vectors @ (np.sqrt(np.maximum(spread, 0))[..., np.newaxis] * noise)
    others = risk @ total + drawn[..., 0]
    # A normal distribution has no limits: of these clients, none to all leave.
    is_signed = of_each.min(axis=0) < 0
    low, high = np.where(is_signed, -np.inf, 0), np.where(is_signed, np.inf, total.sum(axis=0))
    return np.asarray(sums + np.clip(others, low, high) * size)


# ---- the uncertainty of the calibration


def _terms(risk: Vector) -> NDArray[np.float64]:
    """Compute the terms whose weighted sum is the log-odds of a recalibrated risk: (n, 3).

    Low and high risks each have a slope. With one slope for both (a sigmoid), the estimated precision at
    100 on the telco table was 0.04 too low; with two it is 0.02.

    Source: Kull, Silva Filho and Flach 2017, "Beta calibration".
    """
    risk = np.clip(risk, metrics.SMALLEST_RISK, 1 - metrics.SMALLEST_RISK)
    terms = np.ones((len(risk), 3))
    np.log(risk, out=terms[:, 0])
    terms[:, 1] = -np.log1p(-risk)
    return terms


def _recalibrations(reference: _Reference | None, replicates: int) -> NDArray[np.float64]:
    """Fit the weights of the terms to all rows, then to resamples: (1 + replicates, 3).

    A resample is a Bayesian bootstrap, so that no row is ever lost, and one Newton step from the fit.
    If there is no reference, the risks are not recalibrated.

    Source: Rubin 1981, "The Bayesian bootstrap".
    """
    if reference is None:
        return np.tile(IDENTITY, (1 + replicates, 1))
    terms = _terms(reference.risk)
    rows = reference.weights[np.newaxis]
    fit = IDENTITY
    for _ in range(NEWTON_STEPS):
        (fit,) = _newton(terms, reference.outcome, rows, fit)
    rng = np.random.default_rng(1)
    lines = [fit[np.newaxis]]
    blocks = math.ceil(replicates * len(terms) / DRAWS_AT_ONCE)
    for block in np.array_split(np.arange(replicates), blocks):
        resampled = rows * rng.standard_exponential((len(block), len(terms)))
        lines.append(_newton(terms, reference.outcome, resampled, fit))
    return np.vstack(lines)


def _perturb(lines: NDArray[np.float64], centre: float) -> NDArray[np.float64]:
    """Add noise to the slope of each calibration, about the mean log-odds, and to its intercept.

    A calibration fitted to the reference is less accurate if the mix of clients changes, however many
    rows it was fitted to. Without the noise, 84 to 91 % of the 95 % intervals contained the realised ROC
    AUC of telco clients under two shifts.
    """
    rng = np.random.default_rng(2)
    turn, move = rng.normal(0, [TURN, MOVE], (len(lines), 2)).T
    perturbed = lines * (1 + turn)[:, np.newaxis]
    perturbed[:, 2] += move - turn * centre
    return perturbed


def _newton(
    terms: NDArray[np.float64], outcome: Vector, weights: NDArray[np.float64], fit: Vector
) -> NDArray[np.float64]:
    """Compute one Newton step of a penalised logistic fit per row of weights: (len(weights), 3).

    A normal prior with variance 1 pulls the slopes to 1, so that they are finite if all scores are equal
    or if the scores separate the outcomes.
    """
    risk = metrics.expit(terms @ fit)
    squares = (terms[:, :, np.newaxis] * terms[:, np.newaxis, :]).reshape(len(terms), -1)
    up = weights @ (terms * (outcome - risk)[:, np.newaxis]) - SLOPES * (fit - IDENTITY)
    down = (weights @ (squares * (risk * (1 - risk))[:, np.newaxis])).reshape(-1, 3, 3)
    step = np.linalg.solve(down + np.diag(SLOPES), up[..., np.newaxis])[..., 0]
    return np.asarray(fit + np.clip(step, -1, 1))


# ---- the estimate under covariate shift


@dataclass(frozen=True)
class Weighing:
    """The importance weights of the reference rows for a batch: (m,) with mean 1.

    roc_auc, z: how well a classifier separates the two; effective_rows: effective sample size (Kish
    1965).
    """

    weights: Vector
    roc_auc: float
    z: float
    effective_rows: float


@dataclass(frozen=True)
class SecondOpinion:
    """The estimate from the re-weighted reference, None if there is none, and the reason."""

    estimate: Estimate | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reference_arguments(reference: pd.DataFrame, outcome: str) -> dict[str, Vector]:
    """Return risks and outcomes of the reference of a release as arguments of `estimate`."""
    return {
        "reference_risk": reference[drift.SCORE].to_numpy(dtype="float64"),
        "reference_outcome": reference[outcome].to_numpy(dtype="float64"),
    }


def weigh(
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> Weighing:
    """Weight each reference row by how much more likely it is in the batch.

    A classifier separates the two; the weight of a row is its out-of-fold odds, at most twenty times the
    mean. If the batch is too small for a second opinion, all weights are 1.

    Source: Białek et al. 2024, arXiv 2401.08348; the classifier as in drift.compare_jointly.
    """
    m, n = len(reference), len(batch)
    if m < MIN_ROWS_TO_ESTIMATE or n < MIN_ROWS_TO_REWEIGH:
        return Weighing(np.ones(m), 0.5, 0.0, float(m))
    rows = pd.concat([reference, batch], ignore_index=True)
    in_batch = np.r_[np.zeros(m), np.ones(n)]
    probability, _ = drift.classify_rows(rows, in_batch, numeric, categorical)
    auc = float(metrics.roc_auc(in_batch, probability).value or 0.5)
    z = drift.z_of_auc(auc, m, n)
    odds = np.exp(metrics.log_odds(probability[:m]))
    weights = np.minimum(odds, LARGEST_WEIGHT * odds.mean())
    weights = weights / weights.mean()
    return Weighing(weights, auc, z, float(m / np.mean(weights**2)))


def second_opinion(
    risk: Vector,
    weighing: Weighing,
    *,
    reference_risk: Vector,
    reference_outcome: Vector,
    value: Vector | None = None,
    capacity: int = 100,
    is_listed: Vector | NDArray[np.bool_] | None = None,
) -> SecondOpinion:
    """Estimate again with a re-weighted reference, if the batch is large and its clients have changed.

    The reference must have enough similar rows. The first estimate stays the main one, because
    re-weighting loses accuracy if the change does not affect performance.
    """
    if len(risk) < MIN_ROWS_TO_REWEIGH:
        reason = f"not possible: too few clients ({len(risk)}, at least {MIN_ROWS_TO_REWEIGH:,})"
        return SecondOpinion(None, reason)
    if weighing.z <= SHIFT_Z:
        return SecondOpinion(None, "not needed, as the clients resemble the training data")
    if weighing.effective_rows < MIN_EFFECTIVE_ROWS:
        reason = (
            "not possible: the reference has too few rows like these clients, worth only "
            f"{weighing.effective_rows:.0f} of them (at least {MIN_EFFECTIVE_ROWS})"
        )
        return SecondOpinion(None, reason)
    result = estimate(
        risk,
        reference_risk=reference_risk,
        reference_outcome=reference_outcome,
        value=value,
        capacity=capacity,
        weights=weighing.weights,
        is_listed=is_listed,
    )
    return SecondOpinion(
        result, "the clients have changed; estimated from reference rows like them"
    )


# ---- the accuracy of estimates, when outcomes are known


@dataclass(frozen=True)
class EstimateCheck:
    """An estimated figure with its interval, and the realised figure."""

    figure: str
    estimated: float
    low: float
    high: float
    realised: float

    @property
    def error(self) -> float:
        return self.estimated - self.realised

    @property
    def is_covered(self) -> bool:
        return self.low <= self.realised <= self.high

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EstimateAccuracy:
    """The accuracy of past estimates of a figure; coverage: share of intervals with the realised one."""

    figure: str
    estimates: int
    mean_absolute_error: float
    coverage: Interval

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_estimate(
    estimated: Estimate, outcome: Vector, risk: Vector, value: Vector | None = None
) -> tuple[EstimateCheck, ...]:
    """Compare an estimate with the outcomes of the same rows, omitting figures that either lacks.

    outcome, risk, value: (n,) of the rows that were estimated
    """
    n = len(outcome)
    if n == 0:
        return ()
    realised = {
        "expected": float(outcome.sum()),
        "rate": float(outcome.mean()),
        "value_at_risk": None if value is None else float(outcome @ _clip_value(value)),
        "roc_auc": metrics.roc_auc(outcome, risk).value,
        "precision": float(outcome[metrics.top(risk, estimated.called)].mean()),
    }
    return tuple(
        EstimateCheck(name, figure.value, figure.low, figure.high, actual)
        for name, actual in realised.items()
        for figure in [getattr(estimated, name)]
        if actual is not None and figure.low is not None
    )


def estimate_accuracy(checks: Sequence[EstimateCheck]) -> tuple[EstimateAccuracy, ...]:
    """Compute the accuracy of past estimates by figure, with a Wilson interval of the coverage."""
    rows = []
    for name in FIGURES:
        group = [check for check in checks if check.figure == name]
        if group:
            error = float(np.mean([abs(check.error) for check in group]))
            coverage = metrics.wilson(sum(check.is_covered for check in group), len(group))
            rows.append(EstimateAccuracy(name, len(group), error, coverage))
    return tuple(rows)


# ---- the performance of a model, when outcomes are known


@dataclass(frozen=True)
class Performance:
    """The performance of a model on new outcomes; verdict "fine", "degraded" or "insufficient"."""

    verdict: str
    rows: int
    left: int
    roc_auc: Interval
    reference_roc_auc: Interval
    observed: float
    expected: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_performance(
    outcome: Vector, risk: Vector, reference: Interval, *, left_in_training: float = np.inf
) -> Performance:
    """Compare outcomes that arrived after training with the predicted risks.

    Degraded if the ROC AUC is significantly, and by at least 0.02, below that of the unseen rows at
    deployment, or if the number who left differs significantly, and by at least 15 %, from the expected
    one. One-sided 1 % each: a false alarm costs one training, whose model the gate will reject. The
    expected number has a sampling error of its own, estimated from `left_in_training`, the number of
    clients who left among the training rows.
    """
    n, left = len(outcome), int(outcome.sum())
    expected = float(risk.sum())
    auc = metrics.roc_auc(outcome, risk)
    facts = (n, left, auc, reference, float(left), expected)
    if n < MIN_LABELLED_TO_JUDGE or min(left, n - left) < MIN_OF_EACH_TO_JUDGE:
        sentence = (
            f"{wording.plural(n, 'new outcome')} ({left} left) {'is' if n == 1 else 'are'} too few to "
            "check the model "
            f"(at least {MIN_LABELLED_TO_JUDGE}, with {MIN_OF_EACH_TO_JUDGE} of each outcome)"
        )
        return Performance("insufficient", *facts, sentence)
    worse = _auc_dropped(auc, reference)
    z, ratio = compare_with_expected(left, risk, left_in_training)
    off = abs(z) > metrics.normal_isf(ALPHA_DEGRADED / 2) and not is_near_one(ratio)
    verdict = "degraded" if worse or off else "fine"
    compared = f"{left:,} of {n:,} left, {expected:,.0f} expected"
    as_expected = "about as many clients left as expected"
    if off:
        as_expected = f"{'more' if left > expected else 'fewer'} clients left than expected"
    if np.ptp(risk) == 0:
        sentence = f"{as_expected}: {compared}; all have the same risk (base rate)"
        return Performance(verdict, *facts, sentence)
    ranking = f"ROC AUC {auc.value:.3f}"
    if reference.value is not None:
        ranking += f" ({reference.value:.3f} at deployment)"
    if verdict == "fine" and auc.low is not None and auc.low <= CHANCE:
        sentence = (
            f"{as_expected}: {compared}; their order is not proven better than chance, {ranking}"
        )
        return Performance(verdict, *facts, sentence)
    accuracy = "no longer" if verdict == "degraded" else "still"
    return Performance(verdict, *facts, f"model {accuracy} accurate: {compared}, {ranking}")


@dataclass(frozen=True)
class EarlyOrder:
    """The ROC AUC on outcomes that are not mature: the order keeps its meaning, the rate has none."""

    rows: int
    left: int
    roc_auc: Interval

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_order_early(outcome: Vector, risk: Vector) -> EarlyOrder | None:
    """Compute the ROC AUC on outcomes that are not mature, None if there are too few of either."""
    n, left = len(outcome), int(outcome.sum())
    if min(left, n - left) < MIN_OF_EACH_TO_JUDGE:
        return None
    return EarlyOrder(n, left, metrics.roc_auc(outcome, risk))


def find_excess(
    cohort: str, left: int, risk: Vector, left_in_training: float = np.inf
) -> str | None:
    """Describe it if more have left so far than a whole cohort was expected to lose; else None.

    That is proof at any time, because the outcomes still to come can only add leavers.

    risk: (n,) of every row of the cohort, with or without an outcome
    """
    z, ratio = compare_with_expected(left, risk, left_in_training)
    if z < metrics.normal_isf(ALPHA_DEGRADED / 2) or is_near_one(ratio):
        return None
    return (
        f"more clients left than expected: {left:,} of the {len(risk):,} clients of {cohort} have left "
        f"so far, {risk.sum():,.0f} were expected of all"
    )


def is_expected(left: int, risk: Vector) -> bool:
    """Return whether so many leavers are no excess, given the risks of only some rows of a cohort."""
    return left < MIN_RATE_RATIO_DEGRADED * float(risk.sum())


def compare_with_expected(
    left: int, risk: Vector, left_in_training: float = np.inf
) -> tuple[float, float]:
    """Compare the number who left with the expected one: standard errors above it, and the ratio.

    The expected number has a sampling error of its own, which `left_in_training`, the number who left
    among the training rows, determines.

    Source: the normal approximation of the Poisson binomial distribution, Le Cam 1960.

    >>> compare_with_expected(60, np.full(100, 0.5))
    (2.0, 1.2)
    """
    expected = float(risk.sum())
    noise = float(np.sum(risk * (1 - risk))) + expected**2 / left_in_training
    return (left - expected) / (float(np.sqrt(noise)) or 1.0), max(left, 1) / max(expected, 1e-9)


def is_near_one(ratio: float) -> bool:
    """Return whether a ratio of leavers to expected leavers is too small to matter."""
    return 1 / MIN_RATE_RATIO_DEGRADED < ratio < MIN_RATE_RATIO_DEGRADED


def _auc_dropped(now: Interval, then: Interval) -> bool:
    if now.value is None or then.value is None:
        return False
    drop = then.value - now.value
    limit = metrics.normal_isf(ALPHA_DEGRADED) * np.hypot(now.standard_error, then.standard_error)
    return bool(drop >= MIN_AUC_DROP_DEGRADED and drop > limit)
