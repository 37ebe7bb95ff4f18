"""Backtest: fit the chosen candidate on early rows and evaluate it on late ones.

In cross-validation a model is trained on rows of the same time as those it is evaluated on; a deployed
model never is. If the backtest is worse, the future is harder than cross-validation suggests.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attrition.modelling import metrics, models, selection
from attrition.modelling.metrics import Difference, Interval, Vector
from attrition.modelling.selection import SelectionResult, Table

LATE_SHARE, GAP_SHARE = 0.2, 0.1  # of the distinct times
MIN_OF_EACH_TO_BACKTEST = 20  # clients, if an AUC is to be meaningful: Collins et al. 2016
LEAST_DROP = 0.02


@dataclass(frozen=True)
class Backtest:
    """The scores on the same late rows of a model of early rows only, and of cross-validation.

    cut: the first time in the late rows; trained_until: the last time in the training rows; gap: the
    number of distinct times between them, which are not used.
    """

    cut: str
    trained_until: str
    gap: int
    trained_rows: int
    rows: int
    roc_auc: Interval
    random_roc_auc: Interval
    difference: Difference
    log_loss: Interval
    random_log_loss: Interval

    @property
    def is_harder(self) -> bool:
        """Is the drop in ROC AUC statistically significant, and large enough to matter?"""
        drop = self.difference.interval
        return bool(drop.low is not None and drop.low > 0 and (drop.value or 0) >= LEAST_DROP)

    @property
    def sentence(self) -> str:
        return (
            f"the future is harder than the past: trained on rows until {self.trained_until}, the "
            f"model has ROC AUC {self.roc_auc.value:.3f} on the {self.rows:,} rows since {self.cut}; "
            f"cross-validation has {self.random_roc_auc.value:.3f}; rely on the former"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"validated": True, "harder": self.is_harder} | asdict(self)


def split_by_time(
    time: Sequence[str], groups: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], int] | None:
    """Split rows by time: positions of the training rows and of the late rows, and the gap in times.

    The late rows are those of the last fifth of the distinct times. The tenth before them, at least one
    time, is skipped, because these outcomes were not yet known at the cut. No group is on both sides: if
    a client has rows on both, one in five counts as late, the others as early. A row without a time is
    on neither side. None if there are fewer than three times.

    Source: Bergmeir and Benitez 2012 for the last block with a gap; Kapoor and Narayanan 2023,
    "Leakage and the reproducibility crisis", for the clients.
    """
    times = np.asarray(time, dtype=object)
    distinct = sorted({one for one in times if one})
    first_late = len(distinct) - max(1, int(LATE_SHARE * len(distinct)))
    gap = max(1, int(GAP_SHARE * len(distinct)))
    if first_late - gap < 1:
        return None
    has_time = times != ""
    late = has_time & (times >= distinct[first_late])
    early = has_time & (times < distinct[first_late - gap])
    both = np.intersect1d(groups[late], groups[early])
    late_of_both = np.random.default_rng(0).permutation(both)[: max(1, len(both) // 5)]
    late &= ~np.isin(groups, np.setdiff1d(both, late_of_both))
    train = early & ~np.isin(groups, groups[late])
    return np.flatnonzero(train), np.flatnonzero(late), gap


def backtest_model(table: Table, selected: SelectionResult, time: Sequence[str]) -> Backtest | str:
    """Fit the chosen candidate on early rows and evaluate it on late ones, or return why not.

    time: (n,) ISO 8601 text, "" if unknown.
    """
    cut = split_by_time(time, table.groups)
    if cut is None:
        return "fewer than three times of observation"
    train, late, gap = cut
    late = late[table.recent[late]]
    if not (_is_enough(table.outcome[late]) and _is_enough(table.outcome[train])):
        return (
            f"fewer than {MIN_OF_EACH_TO_BACKTEST} who left, or who stayed, before or after the cut"
        )
    with threadpool_limits(1):
        model = selection.fit_model(table, selected.chosen, selected.model.calibration, train)
        risk = models.predict(model, table.rows.iloc[late])
    place = np.cumsum(table.recent) - 1
    outcome, random_risk = table.outcome[late], selected.risk[place[late]]
    weight = table.recent_weight[place[late]]
    weight /= weight.mean()
    times = np.asarray(time, dtype=object)
    return Backtest(
        cut=str(min(times[late])),
        trained_until=str(max(times[train])),
        gap=gap,
        trained_rows=len(train),
        rows=len(late),
        roc_auc=metrics.roc_auc(outcome, risk, weight),
        random_roc_auc=metrics.roc_auc(outcome, random_risk, weight),
        difference=metrics.roc_auc_difference(outcome, random_risk, risk, weight),
        log_loss=metrics.mean(metrics.row_log_loss(outcome, risk) * weight),
        random_log_loss=metrics.mean(metrics.row_log_loss(outcome, random_risk) * weight),
    )


def _is_enough(outcome: Vector) -> bool:
    return min(outcome.sum(), len(outcome) - outcome.sum()) >= MIN_OF_EACH_TO_BACKTEST
