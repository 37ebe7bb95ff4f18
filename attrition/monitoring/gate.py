"""Decide whether a candidate may replace the champion and, before that, whether to train one.

A candidate is deployed only if it is proven better on rows that neither model was trained on: in its
order or, if the champion is no longer accurate or the data has drifted, in its log loss. A candidate
that is proven to rank today's clients worse is never deployed, nor is a base rate instead of a model
that ranks. Training is not repeated until enough new rows could change its result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attrition import wording
from attrition.modelling import metrics
from attrition.modelling.metrics import UNKNOWN, Interval, Vector

MIN_ROWS_TO_COMPARE, MIN_OF_EACH_TO_COMPARE = 100, 20
LEAST_GAIN = 0.005
ALPHA = 0.01
LOOKS_FREE = 4

CHAMPION = "champion"  # the update that keeps the champion as it is

REASONS = {
    "no_model": "no model in production",
    "degraded": "the model is no longer accurate",
    "input_moved": "the data has drifted",
    "more_rows": "the labelled rows have doubled",
}
GROWTH = 2.0
NEWS_SHARE = 0.1


@dataclass(frozen=True)
class Comparison:
    """The metrics of the candidate minus those of the champion, on the same unseen rows.

    weighted_roc_auc_difference: that on rows re-weighted to be like today's clients.
    level_difference: that of the squared error of the expected share who leave. base_rate: the candidate
    gives all rows the same risk.
    """

    set: str
    rows: int
    left: int
    roc_auc_difference: Interval
    p_value: float | None
    log_loss_difference: Interval
    brier_difference: Interval
    precision_difference: Interval
    same_risks: bool
    weighted_roc_auc_difference: Interval = UNKNOWN
    level_difference: Interval = UNKNOWN
    base_rate: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, figures: Mapping[str, Any]) -> "Comparison":
        """Return the comparison that `to_dict` wrote."""
        intervals = {k: Interval(**v) for k, v in figures.items() if k.endswith("_difference")}
        return cls(**{**figures, **intervals})


@dataclass(frozen=True)
class Decision:
    """The decision whether to deploy: `rule` is for machines, `reason` for people."""

    promoted: bool
    rule: str
    reason: str


def compare_risks(
    name: str,
    outcome: Vector,
    candidate: Vector,
    champion: Vector,
    capacity: int = 100,
    weights: Vector | None = None,
) -> Comparison:
    """Compare two models' risks of the same rows with the outcomes.

    outcome: (n,) of 0 and 1; candidate, champion: (n,) float in [0, 1]; capacity: k of precision at k;
    weights: (n,) with mean 1, the number of today's clients that each row represents. If the effective
    sample is too small, all rows count alike.
    """
    difference = metrics.roc_auc_difference(outcome, candidate, champion)
    weighted = difference
    if weights is not None and _effective_rows(weights) >= MIN_ROWS_TO_COMPARE:
        weighted = metrics.roc_auc_difference(outcome, candidate, champion, weights)
    losses = [metrics.row_log_loss(outcome, risk) for risk in (candidate, champion)]
    briers = [metrics.row_brier(outcome, risk) for risk in (candidate, champion)]
    return Comparison(
        set=name,
        rows=len(outcome),
        left=int(outcome.sum()),
        roc_auc_difference=difference.interval,
        p_value=difference.p_value,
        log_loss_difference=metrics.mean(losses[0] - losses[1]),
        brier_difference=metrics.mean(briers[0] - briers[1]),
        precision_difference=metrics.precision_difference(outcome, candidate, champion, capacity),
        same_risks=bool(np.array_equal(candidate, champion)),
        weighted_roc_auc_difference=weighted.interval,
        level_difference=metrics.level_difference(outcome, candidate, champion),
        base_rate=len(candidate) > 0 and bool(np.ptp(candidate) == 0),
    )


def _effective_rows(weights: Vector) -> float:
    """Compute the number of equally weighted rows that give a mean with the same variance.

    Source: Kish 1965.

    >>> _effective_rows(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    return float(weights.sum() ** 2 / np.sum(weights**2))


def alpha(looks: int) -> float:
    """Compute the significance level of the `looks`-th candidate against the same champion.

    1 % for the first candidate and less for each later one, 0.05 / (looks + 4): if thirty candidates are
    no better than the champion, 0.1 of them are promoted on average.

    Source: alpha spending, Lan and DeMets 1983.

    >>> alpha(1), alpha(6)
    (0.01, 0.005)
    """
    return ALPHA * (1 + LOOKS_FREE) / (looks + LOOKS_FREE)


def decide_promotion(
    comparison: Comparison | None,
    *,
    first: bool,
    identical: bool,
    degraded: bool,
    moved: bool = False,
    looks: int = 1,
    recalibration: Interval | None = None,
) -> Decision:
    """Decide whether to promote a candidate, the `looks`-th against this champion.

    A candidate is better if the paired one-sided DeLong p is below `alpha(looks)` and the AUC rises by
    at least 0.005, while log loss, Brier score and precision at k are not proven worse. If the champion
    degraded or the data drifted, which can shift the risks without changing their order, a log loss that
    is proven better at `alpha(looks)` is enough, if nothing else is worse. Whatever its log loss, a
    candidate is refused if its AUC is proven worse on rows like today's clients, or if it is a base rate
    and the champion ranks.

    recalibration: if the candidate is the champion with another intercept and slope, its cross-validated
    log loss minus the champion's. It ranks the same, so this difference has to prove it better at
    `alpha(looks)`, and the unseen rows, if there are enough, must not prove log loss or level worse.
    """
    if first:
        return Decision(True, "first_model", "first model deployed (none was in production)")
    if identical or (comparison is not None and comparison.rows and comparison.same_risks):
        return Decision(False, "same_model", "kept the champion: the candidate is the same model")
    is_enough = comparison is not None and _is_enough(comparison)
    if recalibration is not None:
        return _decide_recalibration(comparison if is_enough else None, recalibration, looks)
    if comparison is None or not is_enough:
        rows = comparison.rows if comparison else 0
        left = comparison.left if comparison else 0
        return Decision(
            False,
            "too_few_rows",
            f"kept the champion: {rows} unseen rows with {left} who left are too few to prove a gain "
            f"(at least {MIN_ROWS_TO_COMPARE} rows and {MIN_OF_EACH_TO_COMPARE} of each outcome)",
        )
    gain, loss = comparison.roc_auc_difference, comparison.log_loss_difference
    figures = (
        f"ROC AUC {_signed(gain)}, log loss {_signed(loss)} on {comparison.rows:,} unseen rows"
    )
    if comparison.base_rate and _above(0, gain.high):
        return Decision(
            False,
            "base_rate",
            f"kept the champion: it ranks, and the candidate is a base rate; {figures}",
        )
    weighted = comparison.weighted_roc_auc_difference
    if _above(0, weighted.high):
        return Decision(
            False,
            "ranks_worse",
            "kept the champion: the candidate is proven to rank clients like today's worse (ROC AUC "
            f"{_signed(weighted)}); {figures}",
        )
    worse = (
        _above(loss.low, 0)
        or _above(comparison.brier_difference.low, 0)
        or _above(0, comparison.precision_difference.high)
    )
    ranks_better = (
        comparison.p_value is not None
        and comparison.p_value < alpha(looks)
        and _above(gain.value, LEAST_GAIN)
    )
    fits_better = _is_below_0(loss, metrics.normal_isf(alpha(looks)))
    if degraded:
        if (fits_better or ranks_better) and not worse:
            reason = f"deployed: the champion is no longer accurate; proven better, {figures}"
            return Decision(True, "champion_degraded", reason)
        reason = f"kept the champion although it degraded: {figures}"
        return Decision(False, "degraded_not_better", reason)
    if moved and fits_better and not worse:
        reason = f"deployed: the data has drifted, and proven better on it, {figures}"
        return Decision(True, "input_moved", reason)
    if ranks_better and not worse:
        return Decision(True, "proven_better", f"deployed: proven better, {figures}")
    return Decision(False, "not_proven_better", f"kept the champion: not proven better, {figures}")


def _decide_recalibration(
    comparison: Comparison | None, cross_validated: Interval, looks: int
) -> Decision:
    is_better = _is_below_0(cross_validated, errors_needed(looks))
    figures = f"cross-validated log loss {_signed(cross_validated, 4)}"
    if comparison is not None:
        loss = comparison.log_loss_difference
        is_better &= not (_above(loss.low, 0) or _above(comparison.level_difference.low, 0))
        figures += f", {_signed(loss, 4)} on {comparison.rows:,} unseen rows"
    if is_better:
        reason = f"deployed: the champion with another level, proven better, {figures}"
        return Decision(True, "recalibrated", reason)
    reason = f"kept the champion: another level is not proven better, {figures}"
    return Decision(False, "recalibration_not_better", reason)


def errors_needed(looks: int) -> float:
    """Compute how many standard errors of its gain in log loss prove the `looks`-th intercept better.

    An intercept that is fitted z standard errors from the champion's has a cross-validated gain of about
    (z^2 - 2) / 2n, with a standard error of z / n, because both grow with the move. So a two-sided test
    of the intercept at `alpha(looks)` needs only z / 2 - 1 / z of them. If nothing has changed, with
    five folds of 400 rows, 1.7 % of the first intercepts pass, and 0.4 % of the thirtieth.

    >>> round(errors_needed(1), 2), round(errors_needed(30), 2)
    (0.9, 1.28)
    """
    z = metrics.normal_isf(alpha(looks) / 2)
    return z / 2 - 1 / z


def _is_below_0(difference: Interval, errors: float) -> bool:
    value = np.nan if difference.value is None else difference.value
    return bool(value + errors * difference.standard_error < 0)


def _is_enough(comparison: Comparison) -> bool:
    rarer = min(comparison.left, comparison.rows - comparison.left)
    return comparison.rows >= MIN_ROWS_TO_COMPARE and rarer >= MIN_OF_EACH_TO_COMPARE


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _signed(interval: Interval, digits: int = 3) -> str:
    if interval.value is None:
        return "unknown"
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.{digits}f}"
    low, high = (f"{bound:+.{digits}f}" for bound in (interval.low, interval.high))
    return f"{interval.value:+.{digits}f} [{low}, {high}]"


# ---- is there reason to train?


@dataclass(frozen=True)
class Attempt:
    """The last training: the number of labelled rows, and of those since a concept drift."""

    labelled: int
    recent: int
    triggers: tuple[str, ...]


def find_triggers(
    *,
    has_model: bool,
    degraded: bool,
    input_moved: bool,
    labelled: int,
    champion_labelled: int,
) -> tuple[str, ...]:
    """Name every reason to train: no model, concept drift, data drift, twice the labelled rows."""
    if not has_model:
        return ("no_model",)
    conditions = {
        "degraded": degraded,
        "input_moved": input_moved,
        "more_rows": labelled >= GROWTH * max(champion_labelled, 1),
    }
    return tuple(name for name, is_met in conditions.items() if is_met)


def is_worth_training(
    triggers: Sequence[str], last: Attempt | None, labelled: int, recent: int
) -> tuple[bool, str]:
    """Return whether training now could give another result than the last training, and why.

    Without new labelled rows the model would be the same. It may differ if the rows that count (all, or
    those since a concept drift) have grown by a tenth; if more rows are the only reason, they must have
    doubled since then.
    """
    if not triggers:
        waiting = (
            f"; {wording.plural(recent, 'new outcome')} not used for training yet" if recent else ""
        )
        return False, (
            "no retraining needed: no drift or loss of accuracy found, and the labelled rows have not "
            f"doubled{waiting}"
        )
    reasons = ", ".join(REASONS[trigger] for trigger in triggers)
    needed = (True, f"retraining needed: {reasons}")
    if last is None or "no_model" in triggers:
        return needed
    if "degraded" in triggers and "degraded" not in last.triggers:
        return needed
    counted, before = (recent, last.recent) if "degraded" in triggers else (labelled, last.labelled)
    growth = GROWTH if tuple(triggers) == ("more_rows",) else 1 + NEWS_SHARE
    wanted = max(before + 1, math.ceil(growth * before)) - counted
    if wanted <= 0:
        return needed
    return False, (
        f"not retraining ({reasons}): the last training had nearly the same rows; "
        f"at least {wanted:,} more outcomes are needed"
    )
