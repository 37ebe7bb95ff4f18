"""Decide whether a candidate may replace the champion and, before that, whether to train one.

A candidate is deployed only if it is proven better on rows that neither model was trained on. If the
champion is proven wrong, a candidate that is not worse is enough. Random differences are never promoted,
and training is not repeated until enough new rows could change its result.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from attrition.modelling import metrics
from attrition.modelling.metrics import Interval, Vector

MIN_ROWS_TO_COMPARE, MIN_OF_EACH_TO_COMPARE = 100, 20
LEAST_GAIN = 0.005
ALPHA = 0.01
LOOKS_FREE = 4
MARGIN = 0.005

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
    """The metrics of the candidate minus those of the champion, on the same unseen rows."""

    set: str
    rows: int
    left: int
    roc_auc_difference: Interval
    p_value: float | None
    log_loss_difference: Interval
    brier_difference: Interval
    precision_difference: Interval
    same_risks: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Decision:
    """The decision whether to deploy: `rule` is for machines, `reason` for people."""

    promoted: bool
    rule: str
    reason: str


def compare_risks(
    name: str, outcome: Vector, candidate: Vector, champion: Vector, capacity: int = 100
) -> Comparison:
    """Compare two models' risks of the same rows with the outcomes.

    outcome: (n,) of 0 and 1; candidate, champion: (n,) float in [0, 1]; capacity: k of precision at k.
    """
    difference = metrics.roc_auc_difference(outcome, candidate, champion)
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
    )


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
) -> Decision:
    """Decide whether to promote a candidate, the `looks`-th against this champion.

    A candidate is better if the paired one-sided DeLong p is below `alpha(looks)` and the AUC rises by
    at least 0.005, while log loss, Brier score and precision at k are not proven worse. If the champion
    degraded: log loss proven better, or AUC proven not worse by more than 0.005, and none of the others
    worse. If the data drifted, which can shift the risks without changing their order: log loss proven
    better at `alpha(looks)`, and nothing else worse.
    """
    if first:
        return Decision(True, "first_model", "first model deployed (none was in production)")
    if identical or (comparison is not None and comparison.rows and comparison.same_risks):
        return Decision(False, "same_model", "kept the champion: the candidate is the same model")
    if comparison is None or comparison.rows < MIN_ROWS_TO_COMPARE or not _enough_left(comparison):
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
    worse = (
        _above(loss.low, 0)
        or _above(comparison.brier_difference.low, 0)
        or _above(0, comparison.precision_difference.high)
    )
    if degraded:
        better = _above(0, loss.high) or (_above(gain.low, -MARGIN) and not worse)
        if better and not worse:
            return Decision(
                True,
                "champion_degraded",
                f"deployed: the champion is no longer accurate; {figures}",
            )
        return Decision(
            False, "degraded_not_better", f"kept the champion although it degraded: {figures}"
        )
    if moved and _is_proven_below_0(loss, looks) and not worse and not _above(0, gain.high):
        return Decision(
            True,
            "input_moved",
            f"deployed: the data has drifted, and proven better on it, {figures}",
        )
    proven = comparison.p_value is not None and comparison.p_value < alpha(looks)
    if proven and _above(gain.value, LEAST_GAIN) and not worse:
        return Decision(True, "proven_better", f"deployed: proven better, {figures}")
    return Decision(False, "not_proven_better", f"kept the champion: not proven better, {figures}")


def _is_proven_below_0(difference: Interval, looks: int) -> bool:
    value = np.nan if difference.value is None else difference.value
    return bool(value + stats.norm.isf(alpha(looks)) * difference.standard_error < 0)


def _enough_left(comparison: Comparison) -> bool:
    return min(comparison.left, comparison.rows - comparison.left) >= MIN_OF_EACH_TO_COMPARE


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _signed(interval: Interval) -> str:
    if interval.value is None:
        return "unknown"
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.3f}"
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


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
        waiting = f"; {recent:,} new outcomes not used for training yet" if recent else ""
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
