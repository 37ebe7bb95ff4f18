"""May this candidate replace the champion? And, before that: is there reason to train one?

A deployment has to be proven better on rows that neither model has seen. Where the champion itself is
proven wrong, not being worse is enough. Noise is never promoted, and a question is not asked again
until the rows that could change its answer have come.
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

GROWTH = 2.0
NEWS_SHARE = 0.1


@dataclass(frozen=True)
class Comparison:
    """Candidate minus champion on the same unseen rows."""

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
    """Whether to deploy; `rule` is for machines, `reason` for people."""

    promoted: bool
    rule: str
    reason: str


def compare(
    name: str, outcome: Vector, candidate: Vector, champion: Vector, capacity: int = 100
) -> Comparison:
    """Hold two risks of the same rows against what happened; `capacity`: how many can be called."""
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
    """Return the error that is left to spend on the `looks`-th candidate against one champion.

    1 % for the first and less for each that follows: thirty candidates without a gain are promoted
    0.1 times on average, as the sum of 0.05 / (look + 4).

    >>> alpha(1), alpha(6)
    (0.01, 0.005)
    """
    return ALPHA * (1 + LOOKS_FREE) / (looks + LOOKS_FREE)


def decide(
    comparison: Comparison | None,
    *,
    first: bool,
    identical: bool,
    degraded: bool,
    moved: bool = False,
    looks: int = 1,
) -> Decision:
    """Judge a candidate, the `looks`-th against this champion.

    Better: paired one-sided DeLong p below `alpha(looks)` and AUC up by 0.005 at least, with log loss,
    Brier score and precision of the list not proven worse. Degraded champion: log loss proven better,
    or AUC proven not worse by more than 0.005, while none of the others is worse. Moved input, which
    may cost the risks their level and the order nothing: log loss proven better, by `alpha(looks)` too,
    and nothing else worse.
    """
    if first:
        return Decision(True, "first_model", "deployed: there was no model in production")
    if identical or (comparison is not None and comparison.rows and comparison.same_risks):
        return Decision(False, "same_model", "kept the champion: the candidate is the same model")
    if comparison is None or comparison.rows < MIN_ROWS_TO_COMPARE or not _enough_left(comparison):
        rows = comparison.rows if comparison else 0
        left = comparison.left if comparison else 0
        return Decision(
            False,
            "too_few_rows",
            f"kept the champion: {rows} unseen rows with {left} who left prove nothing "
            f"(at least {MIN_ROWS_TO_COMPARE} rows and {MIN_OF_EACH_TO_COMPARE} of each kind)",
        )
    gain, loss = comparison.roc_auc_difference, comparison.log_loss_difference
    told = f"ROC AUC {_signed(gain)}, log loss {_signed(loss)} on {comparison.rows:,} unseen rows"
    worse = (
        _above(loss.low, 0)
        or _above(comparison.brier_difference.low, 0)
        or _above(0, comparison.precision_difference.high)
    )
    if degraded:
        better = _above(0, loss.high) or (_above(gain.low, -MARGIN) and not worse)
        if better and not worse:
            return Decision(
                True, "champion_degraded", f"deployed: the champion is proven wrong, and {told}"
            )
        return Decision(
            False, "degraded_not_better", f"kept the champion, although it degraded: {told}"
        )
    if moved and _is_proven_below_0(loss, looks) and not worse and not _above(0, gain.high):
        return Decision(
            True, "input_moved", f"deployed: the input has moved, and proven better on it, {told}"
        )
    proven = comparison.p_value is not None and comparison.p_value < alpha(looks)
    if proven and _above(gain.value, LEAST_GAIN) and not worse:
        return Decision(True, "proven_better", f"deployed: proven better, {told}")
    return Decision(False, "not_proven_better", f"kept the champion: not proven better, {told}")


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
    """The last training: on how many labelled rows, of which how many from after a change."""

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
    """Name every reason to train: no model, the truth moved, the input moved, twice the rows."""
    if not has_model:
        return ("no_model",)
    asked = {
        "degraded": degraded,
        "input_moved": input_moved,
        "more_rows": labelled >= GROWTH * max(champion_labelled, 1),
    }
    return tuple(name for name, holds in asked.items() if holds)


def is_worth_training(
    triggers: Sequence[str], last: Attempt | None, labelled: int, recent: int
) -> tuple[bool, str]:
    """Say whether training now could answer anything that the last training could not.

    Without new labelled rows a model would come out the same; with a tenth more of those that count
    (all, or those from after the change) it may not. Where more rows are the only reason, they have to
    have doubled since.
    """
    if not triggers:
        waiting = f"; not trained on {recent:,} new outcomes" if recent else ""
        return False, (
            "no reason to train: nothing speaks against the model in production, and its rows have "
            f"not doubled{waiting}"
        )
    reasons = ", ".join(trigger.replace("_", " ") for trigger in triggers)
    if last is None or "no_model" in triggers:
        return True, f"training: {reasons}"
    if "degraded" in triggers and "degraded" not in last.triggers:
        return True, f"training: {reasons}"
    counted, before = (recent, last.recent) if "degraded" in triggers else (labelled, last.labelled)
    growth = GROWTH if tuple(triggers) == ("more_rows",) else 1 + NEWS_SHARE
    wanted = max(before + 1, math.ceil(growth * before)) - counted
    if wanted <= 0:
        return True, f"training: {reasons}"
    return False, (
        f"not training ({reasons}): the last training knew nearly all that is known now; "
        f"at least {wanted:,} more outcomes are needed"
    )
