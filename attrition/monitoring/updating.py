"""Choose the update of a model: keep it, move its intercept, change its slope too, or refit it.

The least extensive update that is not clearly worse than the best is chosen, because each needs more
evidence than the one before: if only the level has changed, a refit on a few hundred rows ranks worse
than the champion with another intercept.

Source: the closed testing procedure of Vergouwe et al. 2017, Stat Med 36:4529; by cross-validated loss,
for any model, Davis et al. 2019, JAMIA 26:1448.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attrition.modelling import calibration, metrics, selection
from attrition.modelling.calibration import AS_IT_IS, Calibration, Fit, Folds
from attrition.modelling.metrics import UNKNOWN, Interval, Vector
from attrition.modelling.models import Model
from attrition.monitoring.gate import CHAMPION

INTERCEPT, SLOPE = "intercept", "intercept and slope"
RECALIBRATIONS: dict[str, Fit] = {
    INTERCEPT: calibration.fit_intercept,
    SLOPE: calibration.fit_sigmoid,
}
# The updates, the smallest first, and how many recent rows of the rarer outcome each needs.
MIN_OF_RARER = {
    INTERCEPT: 20,
    SLOPE: 50,
    selection.OLDER_WEIGHTED: 100,
    selection.RECENT_ROWS: 300,
}
MIN_DELIVERIES = 2


@dataclass(frozen=True)
class Update:
    """The chosen update, the reason, and the mean log loss of all that were compared.

    line: the change of the champion's log-odds; none unless the update is a recalibration.
    difference: its log loss on the recent rows, out of fold, minus that of the champion.
    """

    name: str
    reason: str
    losses: dict[str, float]
    line: Calibration
    difference: Interval

    @property
    def is_recalibration(self) -> bool:
        return self.name in RECALIBRATIONS

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reason": self.reason,
            "losses": self.losses,
            "difference": self.difference.to_dict(),
        }


def choose_update(
    champion: Vector,
    outcome: Vector,
    *,
    folds: Folds,
    deliveries: int,
    refits: Mapping[str, Callable[[], Vector]],
    least: Mapping[str, int] = MIN_OF_RARER,
) -> Update:
    """Choose the least extensive update within one standard error of the lowest log loss.

    champion: (n,) log-odds of the recent mature rows, none of which the champion was trained on.
    folds: positions among these rows, all rows of a client in one fold. deliveries: in how many the rows
    arrived. refits: by name in `MIN_OF_RARER`, functions that return the out-of-fold log-odds (n,) of a
    refit, calibrated as it would be deployed; one is called only if there is evidence enough for it.
    least: rows of the rarer outcome that each update needs.

    Intercept and slope are fitted without the fold that they are evaluated on. A slope of 0, the base
    rate, is no update.
    """
    rarer = int(min(outcome.sum(), len(outcome) - outcome.sum()))
    if rarer < min(MIN_OF_RARER.values()) or deliveries < MIN_DELIVERIES or len(folds) < 2:
        reason = (
            f"kept the champion: not enough evidence to update it: {len(outcome):,} recent rows, "
            f"{rarer} with the rarer outcome, deliveries: {deliveries} (needed: "
            f"{min(MIN_OF_RARER.values())} with the rarer outcome, {MIN_DELIVERIES} deliveries)"
        )
        return Update(CHAMPION, reason, {}, AS_IT_IS, UNKNOWN)
    lines: dict[str, Calibration] = {}
    log_odds = {CHAMPION: champion}
    for name in [name for name, needed in least.items() if rarer >= needed]:
        if (fit := RECALIBRATIONS.get(name)) is not None:
            lines[name] = fit(champion, outcome)
            if np.ptp(lines[name].log_odds) > 0:
                log_odds[name] = calibration.cross_calibrate(fit, champion, outcome, folds)
        elif name in refits:
            log_odds[name] = refits[name]()
    losses = {
        name: metrics.row_log_loss(outcome, metrics.expit(each)) for name, each in log_odds.items()
    }
    chosen = metrics.simplest(losses)
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    return Update(
        chosen,
        _explain(chosen, means, len(outcome)),
        means,
        lines.get(chosen, AS_IT_IS),
        metrics.mean(losses[chosen] - losses[CHAMPION]),
    )


def _explain(chosen: str, losses: Mapping[str, float], rows: int) -> str:
    figure = f"cross-validated log loss {losses[chosen]:.4f} on {rows:,} recent rows"
    best = min(losses, key=lambda name: losses[name])
    lowest = (
        "the lowest"
        if best == chosen
        else f"within one standard error of the lowest ({best} {losses[best]:.4f})"
    )
    if chosen == CHAMPION:
        return f"kept the champion: {figure}, {lowest} of {len(losses)} updates"
    return f"updated ({chosen}): {figure}, {lowest}; the champion's is {losses[CHAMPION]:.4f}"


def recalibrate(champion: Model, update: Update) -> Model:
    """Return the champion with its intercept and slope updated; the order of its risks is the same."""
    return replace(champion, calibration=champion.calibration.then(update.line))
