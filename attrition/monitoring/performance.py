"""How well does the model do on clients whose outcome nobody knows yet, and how many of them leave?

Calibrated risks say what to expect of themselves: of clients at 20 %, one in five leaves. Each figure
is the mean of what may happen, and its interval says where the figure that will be realised lies 95
times in 100: outcomes are drawn from the risks, and the risks from what the reference leaves open about
their calibration. Good for the number who leave and the value at risk, which it follows wherever the
clients change; blind to a change of the truth, when like clients leave more often than before: that
only outcomes show (check_performance).

On the telco table with month-to-month clients four times as likely, batches of 1,000, and the product's
own reference, the mean error is 0.012 of the share who leave (0.079 had nothing changed), 0.013 of the
ROC AUC (0.034), and 0.037 of the precision at 100, which is put 0.030 too low. A second opinion, by the
rows of the reference that are like the clients, errs as much (python -m benchmarks.estimates).

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
from scipy import stats
from threadpoolctl import threadpool_limits

from attrition.modelling import metrics
from attrition.modelling.metrics import UNKNOWN, Interval, Vector
from attrition.monitoring import drift

MIN_ROWS_TO_ESTIMATE, MIN_ROWS_TO_TRUST_AUC, MIN_OF_EACH_TO_ESTIMATE = 100, 500, 20
LEAST_AUC_DROP = 0.03

REPLICATES = (200, 1000)  # at least, at most
DRAWS_IN_ALL = 20_000_000  # many clients need fewer replicates, and would take long
DRAWS_AT_ONCE = 1_000_000
NEWTON_STEPS = 50
AS_IT_IS, SLOPES = np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])
# By how much a calibration that holds on the reference is off among other clients: slope, log-odds.
TURN, MOVE = 0.04, 0.03
LARGEST = 1e290  # a million values of this size still have a sum

MIN_ROWS_TO_REWEIGH, MIN_EFFECTIVE_ROWS = 1000, 200
SHIFT_Z, LARGEST_WEIGHT = 3.0, 20.0

INSUFFICIENT, FINE, DEGRADED = "insufficient", "fine", "degraded"
# Outcomes against risks: fewer rows, or fewer of either outcome, are not judged.
MIN_LABELLED_TO_JUDGE, MIN_OF_EACH_TO_JUDGE = 100, 20
ALPHA_DEGRADED = 0.01
MIN_AUC_DROP_DEGRADED = 0.02
MIN_RATE_RATIO_DEGRADED = 1.15
FIGURES = ("expected", "rate", "value_at_risk", "roc_auc", "precision")


@dataclass(frozen=True)
class Estimate:
    """Figures of clients whose outcome is not known, each with the interval of what will be realised.

    precision: among the `called` highest risks. verdict: "degraded" where all of the interval of the
    ROC AUC lies more than 0.03 below that of the reference, else "fine", or "insufficient" where either
    is unknown. warnings: what is missing or weak, in words.
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
) -> Estimate:
    """Estimate how many leave, what is at stake, and how well the risks rank, before any outcome.

    risk, value: (n,); a missing value counts nothing. The reference: risks out of fold and outcomes of
    rows that the model was judged on, (m,) each, on which the risks are recalibrated; its `weights`:
    (m,), how many rows of the batch each stands for. Equal whatever the order of the rows.

    Fewest rows: of 100 clients the realised ROC AUC itself has a standard error of 0.055.

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
    with threadpool_limits(1):  # as fast, and the same sums on any machine
        figures = _figures(risk, reference, value, called)
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
    count = f"expected to leave: {expected.value:,.0f} of {n:,} clients"
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


def _reference(
    risk: Vector | None, outcome: Vector | None, weights: Vector | None
) -> _Reference | None:
    """Put the rows in an order of their own; None where they are too few to recalibrate on."""
    if risk is None or outcome is None:
        return None
    left = int(outcome.sum())
    if min(left, len(outcome) - left) < MIN_OF_EACH_TO_ESTIMATE:
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
    worth = np.zeros(n) if value is None else _worth(value)
    order = np.lexsort((worth, risk))
    risk, worth = risk[order], worth[order]
    of_each = np.column_stack([np.ones(n), stats.rankdata(risk), np.arange(n) >= n - called, worth])
    lines = _recalibrations(reference, int(np.clip(DRAWS_IN_ALL / n, *REPLICATES)))
    terms = _terms(risk)
    score = terms @ lines[0]
    likely = metrics.expit(score)
    noise = float(np.sum(likely * (1 - likely)))
    means = _rates(likely @ of_each, n, called, noise)
    loosened = _loosen(lines[1:], float(score.mean()))
    drawn = _rates(_draw_sums(terms, loosened, of_each).T, n, called, 0.0)
    found = {name: _interval(means[name], drawn[name]) for name in means}
    return found if value is not None else found | {"value_at_risk": UNKNOWN}


def _worth(value: Vector) -> Vector:
    return np.clip(np.nan_to_num(value), -LARGEST, LARGEST)


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
    """Return what the log-odds of a recalibrated risk are a weighted sum of: (n, 3).

    One slope for low and one for high risks. A sigmoid, the same slope for both, estimated the
    precision of the hundred highest risks on the telco table 0.04 too low, this 0.02.

    Source: Kull, Silva Filho and Flach 2017, "Beta calibration".
    """
    risk = np.clip(risk, metrics.SMALLEST_RISK, 1 - metrics.SMALLEST_RISK)
    return np.column_stack([np.log(risk), -np.log1p(-risk), np.ones(len(risk))])


def _recalibrations(reference: _Reference | None, replicates: int) -> NDArray[np.float64]:
    """Fit the weights of the terms, then on resamples: (1 + replicates, 3).

    A resample is a Bayesian bootstrap, which never loses the last one who left, and one Newton step
    from the fit. Without a reference the risks stay as they are.

    Source: Rubin 1981, "The Bayesian bootstrap".
    """
    if reference is None:
        return np.tile(AS_IT_IS, (1 + replicates, 1))
    terms = _terms(reference.risk)
    rows = reference.weights[np.newaxis]
    fit = AS_IT_IS
    for _ in range(NEWTON_STEPS):
        (fit,) = _newton(terms, reference.outcome, rows, fit)
    rng = np.random.default_rng(1)
    lines = [fit[np.newaxis]]
    blocks = math.ceil(replicates * len(terms) / DRAWS_AT_ONCE)
    for some in np.array_split(np.arange(replicates), blocks):
        resampled = rows * rng.standard_exponential((len(some), len(terms)))
        lines.append(_newton(terms, reference.outcome, resampled, fit))
    return np.vstack(lines)


def _loosen(lines: NDArray[np.float64], centre: float) -> NDArray[np.float64]:
    """Let each line turn about the clients' mean log-odds, and move up or down, a little.

    What holds for the reference as a whole holds less well for another mix of clients, however many
    rows it was learned from. Without this, 84 to 91 % of intervals held the ROC AUC of telco clients
    under two shifts.
    """
    rng = np.random.default_rng(2)
    turn, move = rng.normal(0, [TURN, MOVE], (len(lines), 2)).T
    loosened = lines * (1 + turn)[:, np.newaxis]
    loosened[:, 2] += move - turn * centre
    return loosened


def _newton(
    terms: NDArray[np.float64], outcome: Vector, weights: NDArray[np.float64], fit: Vector
) -> NDArray[np.float64]:
    """Go one step from a fit to the likeliest one, for each row of weights: (len(weights), 3).

    A normal prior of variance 1 draws the slopes to 1, so that equal scores, or ones that separate the
    outcomes, leave finite ones.
    """
    risk = metrics.expit(terms @ fit)
    squares = (terms[:, :, np.newaxis] * terms[:, np.newaxis, :]).reshape(len(terms), -1)
    up = weights @ (terms * (outcome - risk)[:, np.newaxis]) - SLOPES * (fit - AS_IT_IS)
    down = (weights @ (squares * (risk * (1 - risk))[:, np.newaxis])).reshape(-1, 3, 3)
    step = np.linalg.solve(down + np.diag(SLOPES), up[..., np.newaxis])[..., 0]
    return np.asarray(fit + np.clip(step, -1, 1))


# ---- a second opinion, where the clients have changed


@dataclass(frozen=True)
class Weighing:
    """How much each row of the reference is like those of a batch: (m,) weights of mean 1.

    roc_auc and z: how well the two can be told apart; effective_rows: how many rows of equal weight
    say as much as the weighted ones (Kish 1965).
    """

    weights: Vector
    roc_auc: float
    z: float
    effective_rows: float


@dataclass(frozen=True)
class SecondOpinion:
    """The figures of an Estimate on the re-weighted reference, or None; and why so, in words."""

    estimate: Estimate | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judged_on(reference: pd.DataFrame, outcome: str) -> dict[str, Vector]:
    """Return risks and outcomes of the reference of a release, as `estimate` takes them."""
    return {
        "reference_risk": reference[drift.SCORE].to_numpy(dtype="float64"),
        "reference_outcome": reference[outcome].to_numpy(dtype="float64"),
    }


def weigh(
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> Weighing:
    """Weigh the rows of the reference by how much likelier each is among the batch's.

    A classifier learns to tell the two apart; the odds that it gives a row out of fold are the weight,
    at most twenty times the mean. For a batch too small for a second opinion all weigh the same.

    Source: Białek et al. 2024, arXiv 2401.08348; the classifier as in drift.compare_jointly.
    """
    m, n = len(reference), len(batch)
    if m < MIN_ROWS_TO_ESTIMATE or n < MIN_ROWS_TO_REWEIGH:
        return Weighing(np.ones(m), 0.5, 0.0, float(m))
    rows = pd.concat([reference, batch], ignore_index=True)
    is_new = np.r_[np.zeros(m), np.ones(n)]
    likely, _ = drift.classify_rows(rows, is_new, numeric, categorical)
    auc = float(metrics.roc_auc(is_new, likely).value or 0.5)
    z = drift.z_of_auc(auc, m, n)
    odds = np.exp(metrics.log_odds(likely[:m]))
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
) -> SecondOpinion:
    """Estimate again on the part of the reference that is like the batch, where that can help.

    Only where the clients have changed, are many, and the reference has enough like them; the first
    opinion stays the one to lead with, since re-weighting loses where the change does no harm.
    """
    if len(risk) < MIN_ROWS_TO_REWEIGH:
        reason = f"not possible: {len(risk)} clients are too few (at least {MIN_ROWS_TO_REWEIGH:,})"
        return SecondOpinion(None, reason)
    if weighing.z <= SHIFT_Z:
        return SecondOpinion(None, "not needed: the clients are like the reference rows")
    if weighing.effective_rows < MIN_EFFECTIVE_ROWS:
        reason = (
            "not possible: the reference has too few rows like these clients, worth only "
            f"{weighing.effective_rows:.0f} of them (at least {MIN_EFFECTIVE_ROWS})"
        )
        return SecondOpinion(None, reason)
    found = estimate(
        risk,
        reference_risk=reference_risk,
        reference_outcome=reference_outcome,
        value=value,
        capacity=capacity,
        weights=weighing.weights,
    )
    return SecondOpinion(found, "the clients have changed; estimated from reference rows like them")


# ---- the estimator itself, once outcomes are known


@dataclass(frozen=True)
class Check:
    """A figure as it was estimated, with its interval, and as it was realised."""

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
class Record:
    """How good the estimates of a figure have been: mean absolute error, and the share covered."""

    figure: str
    estimates: int
    mean_absolute_error: float
    coverage: Interval

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(
    estimated: Estimate, outcome: Vector, risk: Vector, value: Vector | None = None
) -> tuple[Check, ...]:
    """Hold an estimate against what came of the same rows; figures that either lacks are left out.

    outcome, risk, value: (n,), those that were estimated, all outcomes known by now.
    """
    n = len(outcome)
    if n == 0:
        return ()
    realised = {
        "expected": float(outcome.sum()),
        "rate": float(outcome.mean()),
        "value_at_risk": None if value is None else float(outcome @ _worth(value)),
        "roc_auc": metrics.roc_auc(outcome, risk).value,
        "precision": float(outcome[metrics.top(risk, estimated.called)].mean()),
    }
    return tuple(
        Check(name, one.value, one.low, one.high, true)
        for name, true in realised.items()
        for one in [getattr(estimated, name)]
        if true is not None and one.low is not None
    )


def sum_up(checks: Sequence[Check]) -> tuple[Record, ...]:
    """Sum up many checks, figure by figure; coverage should be 95 %, within its Wilson interval."""
    found = []
    for name in FIGURES:
        of_name = [one for one in checks if one.figure == name]
        if of_name:
            error = float(np.mean([abs(one.error) for one in of_name]))
            hits = sum(one.is_covered for one in of_name)
            found.append(Record(name, len(of_name), error, metrics.wilson(hits, len(of_name))))
    return tuple(found)


# ---- once outcomes are known


@dataclass(frozen=True)
class Performance:
    """Whether outcomes still are what the model says: "fine", "degraded" or "insufficient"."""

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
    """Hold outcomes that came after a model was trained against the risks it gives them.

    Degraded when the AUC lies significantly, and by at least 0.02, below what it was on the unseen
    rows at deployment, or when significantly more or fewer leave than the risks add up to, by at least
    15 %. One-sided 1 % each: a false alarm costs one training that the gate will refuse. The risks add
    up to a number that is itself known only as well as the rows that the model learned from tell:
    `left_in_training` of them left.
    """
    n, left = len(outcome), int(outcome.sum())
    expected = float(risk.sum())
    auc = metrics.roc_auc(outcome, risk)
    facts = (n, left, auc, reference, float(left), expected)
    if n < MIN_LABELLED_TO_JUDGE or min(left, n - left) < MIN_OF_EACH_TO_JUDGE:
        sentence = (
            f"{n} new outcomes ({left} left) are too few to check the model "
            f"(at least {MIN_LABELLED_TO_JUDGE}, with {MIN_OF_EACH_TO_JUDGE} of each outcome)"
        )
        return Performance("insufficient", *facts, sentence)
    worse = _auc_dropped(auc, reference)
    noise = float(np.sum(risk * (1 - risk))) + expected**2 / left_in_training
    z = (left - expected) / (np.sqrt(noise) or 1.0)
    ratio = max(left, 1) / max(expected, 1e-9)
    off = abs(z) > stats.norm.isf(ALPHA_DEGRADED / 2) and not (
        1 / MIN_RATE_RATIO_DEGRADED < ratio < MIN_RATE_RATIO_DEGRADED
    )
    verdict, accuracy = ("degraded", "no longer") if worse or off else ("fine", "still")
    sentence = f"{accuracy} accurate: {left} of {n:,} left, {expected:.0f} expected"
    if np.ptp(risk) == 0:  # it ranks nobody
        return Performance(verdict, *facts, f"base rate {sentence}")
    sentence += f", ROC AUC {auc.value:.3f}"
    if reference.value is not None:
        sentence += f" ({reference.value:.3f} at deployment)"
    return Performance(verdict, *facts, f"model {sentence}")


def _auc_dropped(now: Interval, then: Interval) -> bool:
    if now.value is None or then.value is None:
        return False
    drop = then.value - now.value
    limit = stats.norm.isf(ALPHA_DEGRADED) * np.hypot(now.standard_error, then.standard_error)
    return bool(drop >= MIN_AUC_DROP_DEGRADED and drop > limit)
