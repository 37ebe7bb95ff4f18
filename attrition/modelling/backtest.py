"""Is the future harder than the past? The chosen candidate, learned from early rows, on late ones.

Cross-validation judges a row by models that know rows of the same time; a deployed model never does.
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

JUDGED_SHARE, GAP_SHARE = 0.2, 0.1  # of the distinct times
MIN_OF_EACH_TO_BACKTEST = 20  # of either kind, to say anything about an AUC: Collins et al. 2016
LEAST_DROP = 0.02


@dataclass(frozen=True)
class Backtest:
    """Risks of the same rows by a model of earlier rows only, and by those of cross-validation.

    cut: the first time that is judged; trained_until: the last one that was learned from; gap: how
    many distinct times lie between and are not used.
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
        """Is the drop more than chance, and more than nothing?"""
        drop = self.difference.interval
        return bool(drop.low is not None and drop.low > 0 and (drop.value or 0) >= LEAST_DROP)

    @property
    def sentence(self) -> str:
        return (
            f"the future is harder than the past: learned from rows until {self.trained_until}, the "
            f"model has ROC AUC {self.roc_auc.value:.3f} on the {self.rows:,} rows since {self.cut}, "
            f"where cross-validation has {self.random_roc_auc.value:.3f}; trust the former"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"validated": True, "harder": self.is_harder} | asdict(self)


def split(
    time: Sequence[str], groups: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], int] | None:
    """Cut rows by time: those to learn from, those to judge, and the number of times left between.

    The last fifth of the distinct times is judged; the tenth before them, at least one, is left out,
    so that an outcome that was not yet known at the cut is not learned from. No group is on both
    sides: of the clients seen early and late, a fifth is judged and the others are learned from. None
    where there are fewer than three times. A row without a time is on no side.

    Source: Bergmeir and Benitez 2012 for the last block with a gap; Kapoor and Narayanan 2023,
    "Leakage and the reproducibility crisis", for the clients.
    """
    times = np.asarray(time, dtype=object)
    distinct = sorted({one for one in times if one})
    judged_from = len(distinct) - max(1, int(JUDGED_SHARE * len(distinct)))
    gap = max(1, int(GAP_SHARE * len(distinct)))
    if judged_from - gap < 1:
        return None
    known = times != ""
    late = known & (times >= distinct[judged_from])
    early = known & (times < distinct[judged_from - gap])
    both = np.intersect1d(groups[late], groups[early])
    judged_of_both = np.random.default_rng(0).permutation(both)[: max(1, len(both) // 5)]
    judged = late & ~np.isin(groups, np.setdiff1d(both, judged_of_both))
    train = early & ~np.isin(groups, groups[judged])
    return np.flatnonzero(train), np.flatnonzero(judged), gap


def run(table: Table, learned: SelectionResult, time: Sequence[str]) -> Backtest | str:
    """Learn the chosen candidate from early rows, and judge it on late ones; or say why not.

    time: (n,) ISO 8601 text, "" where it is not known.
    """
    cut = split(time, table.groups)
    if cut is None:
        return "fewer than three times of observation"
    train, judged, gap = cut
    judged = judged[table.recent[judged]]
    if not (_is_enough(table.outcome[judged]) and _is_enough(table.outcome[train])):
        n = MIN_OF_EACH_TO_BACKTEST
        return f"fewer than {n} who left, or who stayed, before or after the cut"
    with threadpool_limits(1):
        model = selection.fit_model(table, learned.chosen, learned.model.calibration, train)
        risk = models.predict(model, table.rows.iloc[judged])
    place = np.cumsum(table.recent) - 1
    outcome, random_risk = table.outcome[judged], learned.risk[place[judged]]
    times = np.asarray(time, dtype=object)
    return Backtest(
        cut=str(min(times[judged])),
        trained_until=str(max(times[train])),
        gap=gap,
        trained_rows=len(train),
        rows=len(judged),
        roc_auc=metrics.roc_auc(outcome, risk),
        random_roc_auc=metrics.roc_auc(outcome, random_risk),
        difference=metrics.roc_auc_difference(outcome, random_risk, risk),
        log_loss=metrics.mean(metrics.row_log_loss(outcome, risk)),
        random_log_loss=metrics.mean(metrics.row_log_loss(outcome, random_risk)),
    )


def _is_enough(outcome: Vector) -> bool:
    return min(outcome.sum(), len(outcome) - outcome.sum()) >= MIN_OF_EACH_TO_BACKTEST
