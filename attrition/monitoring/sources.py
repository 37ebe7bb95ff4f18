"""Find deliveries whose outcomes contradict the risks, so that none of them topples a model alone.

A file of other clients, of another outcome, or with the outcomes reversed looks like a change of the
clients. A real change is seen in the next delivery too.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrition.modelling import metrics
from attrition.modelling.metrics import Vector
from attrition.monitoring import performance

ALPHA_CONTRADICTED = 0.001
MIN_ROWS_TO_CONTRADICT, MIN_OF_EACH_TO_CONTRADICT = 50, 10
MIN_DELIVERIES = 2  # that prove a change
# Rows that have to come from other deliveries than the largest one.
MIN_ROWS_OF_ANOTHER = 20
MORE, FEWER, REVERSED = "more left", "fewer left", "reversed"


@dataclass(frozen=True)
class Contradiction:
    """A delivery whose outcomes contradict the risks; `kind` is MORE, FEWER or REVERSED."""

    source: str
    kind: str
    rows: int
    left: int
    expected: float
    roc_auc: float | None

    @property
    def sentence(self) -> str:
        facts = f"{self.left:,} of {self.rows:,} left, {self.expected:,.0f} expected"
        if self.kind == REVERSED:
            facts = f"the risks rank its outcomes in reverse, ROC AUC {self.roc_auc:.2f}"
        return (
            f"{self.source} contradicts the model ({facts}): left out until another delivery agrees, or "
            f"until you run python ingestion.py --accept-source '{self.source}'"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sentence": self.sentence}


def find_contradictions(
    outcome: Vector,
    risk: Vector,
    number: NDArray[np.intp],
    names: Sequence[str],
    *,
    left_in_training: float = np.inf,
) -> list[Contradiction]:
    """Compare the outcomes of each delivery with the risks, and return those that contradict them.

    A delivery contradicts if its ROC AUC is proven below 0.5, or if the number who left is outside the
    99.9 % band about the expected one, and differs from it by at least 15 %.

    outcome: (n,) of 0 and 1; risk: (n,) in [0, 1]; number: (n,) positions in `names`
    """
    contradictions = []
    for i in np.unique(number):
        rows = number == i
        left, n, expected = int(outcome[rows].sum()), int(rows.sum()), float(risk[rows].sum())
        if n < MIN_ROWS_TO_CONTRADICT:
            continue
        auc = metrics.roc_auc(outcome[rows], risk[rows])
        kind = _kind_by_rank(auc, left, n) or _kind_by_rate(left, risk[rows], left_in_training)
        if kind:
            contradictions.append(Contradiction(names[i], kind, n, left, expected, auc.value))
    return contradictions


def _kind_by_rank(auc: metrics.Interval, left: int, rows: int) -> str | None:
    if auc.value is None or min(left, rows - left) < MIN_OF_EACH_TO_CONTRADICT:
        return None
    high = auc.value + metrics.normal_isf(ALPHA_CONTRADICTED) * auc.standard_error
    return REVERSED if high < 0.5 else None


def _kind_by_rate(left: int, risk: Vector, left_in_training: float) -> str | None:
    z, ratio = performance.compare_with_expected(left, risk, left_in_training)
    if abs(z) < metrics.normal_isf(ALPHA_CONTRADICTED / 2) or performance.is_near_one(ratio):
        return None
    return MORE if z > 0 else FEWER


def find_suspicious(
    contradictions: Sequence[Contradiction], accepted: Collection[str] = ()
) -> list[Contradiction]:
    """Return the contradictions that no other delivery shares and that no person has accepted."""
    count = Counter(each.kind for each in contradictions)
    return [each for each in contradictions if count[each.kind] < 2 and each.source not in accepted]


def count_deliveries(number: NDArray[np.intp]) -> int:
    """Count the deliveries of rows; if all but a few come from one delivery, count one.

    >>> count_deliveries(np.repeat([3, 8], [500, 20])), count_deliveries(np.repeat([3, 8], [500, 19]))
    (2, 1)
    """
    counts = np.bincount(number) if len(number) else np.zeros(1)
    is_one = len(number) - counts.max() < MIN_ROWS_OF_ANOTHER
    return min(1, len(number)) if is_one else int((counts > 0).sum())
