"""Signs of trouble in a table to learn from, told before anything is learned.

The gravest is leakage: a column that knows the outcome because it was filled in afterwards. A model that
learns from it looks perfect, and is worth nothing for clients who have not left yet.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from attrition.modelling import metrics
from attrition.modelling.metrics import Interval, Vector

TOO_GOOD_AUC = 0.95
MIN_OF_EACH_TO_CHECK = 20
BINS = 20
ONE_SIDED_SHARE, ONE_SIDED_P = 0.98, 1e-6
# Words in the name of a column that is filled in when, or because, a client leaves.
AFTERWARDS = re.compile(
    r"(?<![a-z])(churn|exit|cancel|terminat|attrition|deactivat|clos(ed|ing|ure)|left|leav)"
)
LEAST_COPIES_SHARE = 0.05


@dataclass(frozen=True)
class LeakageSign:
    """Trouble: `kind` is for machines, `sentence` for people; grave ones stop training."""

    kind: str
    column: str | None
    sentence: str
    grave: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find(
    rows: pd.DataFrame,
    outcome: Vector,
    groups: NDArray[np.intp],
    numeric: Sequence[str],
    categorical: Sequence[str],
) -> list[LeakageSign]:
    """Find what should make one doubt a table; grave signs first.

    rows: the features, a number missing as NaN, a level as ""; outcome: (n,) of 0 and 1; groups: (n,),
    the same number for rows that must not be on both sides of a split.
    """
    found = []
    for name in (*numeric, *categorical):
        found += _of_column(rows[name], outcome, groups, name)
    found += _copies(rows[[*numeric, *categorical]], outcome)
    return sorted(found, key=lambda sign: not sign.grave)


def _of_column(
    values: pd.Series, outcome: Vector, groups: NDArray[np.intp], name: str
) -> list[LeakageSign]:
    if min(outcome.sum(), len(outcome) - outcome.sum()) < MIN_OF_EACH_TO_CHECK:
        return []
    known = (values.notna() & (values != "")).to_numpy()
    if (side := one_sided(known, outcome)) is not None:
        who = "left" if side else "stayed"
        says = (
            f"{name} has a value for nearly nobody but clients who {who}, as if it were filled in"
        )
        return [LeakageSign("filled_afterwards", name, f"{says} afterwards", grave=True)]
    alone = auc_alone(values, outcome, groups)
    if alone.value is not None and alone.value >= TOO_GOOD_AUC:
        told = f"{name} alone tells who left (ROC AUC {alone.value:.3f})"
        return [LeakageSign("too_good", name, f"{told}: was it known before they did?", grave=True)]
    if AFTERWARDS.search(name.lower()):
        says = f"{name}: by its name it may have been filled in when a client left"
        return [LeakageSign("named_afterwards", name, says)]
    return []


def one_sided(known: NDArray[np.bool_], outcome: Vector) -> float | None:
    """Return the one outcome (1 or 0) whose clients alone have a value, None where both do.

    Nearly all of the known values belong to it, more than chance would give it, and of the other
    clients nearly nobody has one.
    """
    n = int(known.sum())
    if n in (0, len(known)):
        return None
    for side in (1.0, 0.0):
        hits = int((outcome[known] == side).sum())
        base = float((outcome == side).mean())
        if hits < ONE_SIDED_SHARE * n or hits < MIN_OF_EACH_TO_CHECK:
            continue
        if stats.binom.sf(hits - 1, n, base) < ONE_SIDED_P:
            return side
    return None


def auc_alone(values: pd.Series, outcome: Vector, groups: NDArray[np.intp]) -> Interval:
    """Return how well one column tells outcomes apart, in whatever shape: the rate of its level, or of
    the twentieth of its range, in one half of the groups is the risk in the other half."""
    codes = _codes(values)
    half = groups % 2 == 0
    risk = np.empty(len(outcome))
    for learned, judged in ((half, ~half), (~half, half)):
        base = float(outcome[learned].mean()) if learned.any() else 0.0
        size = codes.max(initial=0) + 1
        left = np.bincount(codes[learned], outcome[learned], minlength=size)
        count = np.bincount(codes[learned], minlength=size)
        risk[judged] = ((left + base) / (count + 1))[codes[judged]]
    return metrics.roc_auc(outcome, risk)


def _codes(values: pd.Series) -> NDArray[np.intp]:
    if not pd.api.types.is_numeric_dtype(values):
        return np.asarray(pd.factorize(values)[0])
    numbers = values.to_numpy(dtype="float64")
    known = np.isfinite(numbers)
    cuts = np.quantile(numbers[known], np.linspace(0, 1, BINS + 1)) if known.any() else np.empty(0)
    often = cuts[1:][np.diff(cuts) == 0]  # a value that fills a bin has it for itself
    edges = np.unique(np.append(cuts, np.nextafter(often, -np.inf)))
    return np.where(known, np.searchsorted(edges, numbers), len(edges) + 1)


def _copies(features: pd.DataFrame, outcome: Vector) -> list[LeakageSign]:
    """Tell of equal rows, and of equal rows that disagree: no model can be right about both."""
    number = features.groupby(list(features.columns), dropna=False, sort=False).ngroup().to_numpy()
    count = np.bincount(number)
    left = np.bincount(number, outcome)
    found = []
    copies = len(number) - len(count)
    if copies >= LEAST_COPIES_SHARE * len(number):
        says = f"{copies:,} of {len(number):,} rows repeat another one in every feature"
        found.append(LeakageSign("copies", None, f"{says}; they are kept together in one fold"))
    torn = (left > 0) & (left < count)
    if (rows := int(count[torn].sum())) >= LEAST_COPIES_SHARE * len(number):
        says = f"{rows:,} rows are equal in every feature to one with the other outcome"
        found.append(LeakageSign("label_noise", None, f"{says}; no model can be right about both"))
    return found
