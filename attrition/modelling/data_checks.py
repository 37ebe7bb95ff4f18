"""Checks of the training data before a model is fitted.

The most serious problem is leakage: a column that reveals the outcome because it was filled in
afterwards. A model trained on it looks perfect, and is worth nothing for clients who have not left yet.
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
# Words in the name of a column that may be filled in when a client leaves.
AFTERWARDS = re.compile(
    r"(?<![a-z])(churn|exit|cancel|terminat|attrition|deactivat|clos(ed|ing|ure)|left|leav)"
)
LEAST_COPIES_SHARE = 0.05


@dataclass(frozen=True)
class LeakageSign:
    """A problem in the training data: `kind` is for machines, `sentence` for people.

    If it is grave, training stops.
    """

    kind: str
    column: str | None
    sentence: str
    grave: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_signs(
    rows: pd.DataFrame,
    outcome: Vector,
    groups: NDArray[np.intp],
    numeric: Sequence[str],
    categorical: Sequence[str],
    dates: Sequence[str] = (),
) -> list[LeakageSign]:
    """Find problems in the training data, grave ones first.

    dates: the numeric columns that are days after the observation.
    rows: the features; a missing number is NaN, a missing category "". outcome: (n,) of 0 and 1.
    groups: (n,), the same number if rows must not be on both sides of a split.
    """
    signs = []
    for name in (*numeric, *categorical):
        signs += _check_column(rows[name], outcome, groups, name, is_date=name in dates)
    signs += _check_duplicates(rows[[*numeric, *categorical]], outcome)
    return sorted(signs, key=lambda sign: not sign.grave)


def _check_column(
    values: pd.Series, outcome: Vector, groups: NDArray[np.intp], name: str, *, is_date: bool
) -> list[LeakageSign]:
    if min(outcome.sum(), len(outcome) - outcome.sum()) < MIN_OF_EACH_TO_CHECK:
        return []
    has_value = (values.notna() & (values != "")).to_numpy()
    if (side := one_sided(has_value, outcome)) is not None:
        clients = "clients who left" if side else "clients who stayed"
        sentence = (
            f"{name} has a value almost only for {clients}, as if it were filled in afterwards"
        )
        return [LeakageSign("filled_afterwards", name, sentence, grave=True)]
    if is_date and (side := one_sided((values > 0).to_numpy(), outcome)) is not None:
        clients = "clients who left" if side else "clients who stayed"
        sentence = (
            f"{name} is after the time of the observation almost only for {clients}, as if it were "
            "filled in afterwards"
        )
        return [LeakageSign("filled_afterwards", name, sentence, grave=True)]
    alone = auc_alone(values, outcome, groups)
    if alone.value is not None and alone.value >= TOO_GOOD_AUC:
        sentence = (
            f"{name} alone predicts who left (ROC AUC {alone.value:.3f}): "
            "was it known before they left?"
        )
        return [LeakageSign("too_good", name, sentence, grave=True)]
    if AFTERWARDS.search(name.lower()):
        sentence = f"{name}: judging by its name, it may have been filled in when a client left"
        return [LeakageSign("named_afterwards", name, sentence)]
    return []


def one_sided(has_value: NDArray[np.bool_], outcome: Vector) -> float | None:
    """Return the outcome (1 or 0) if almost only clients with that outcome have a value, else None.

    Almost all of the values must belong to it, significantly more than by chance.

    >>> has_value = np.arange(100) < 30
    >>> one_sided(has_value, has_value.astype(float))
    1.0
    """
    n = int(has_value.sum())
    if n in (0, len(has_value)):
        return None
    for side in (1.0, 0.0):
        hits = int((outcome[has_value] == side).sum())
        base = float((outcome == side).mean())
        if hits < ONE_SIDED_SHARE * n or hits < MIN_OF_EACH_TO_CHECK:
            continue
        if stats.binom.sf(hits - 1, n, base) < ONE_SIDED_P:
            return side
    return None


def auc_alone(values: pd.Series, outcome: Vector, groups: NDArray[np.intp]) -> Interval:
    """Compute the ROC AUC of one column alone, whatever the shape of its relation to the outcome.

    The share who left in a category, or in a twentieth of the range, in one half of the groups is the
    risk in the other half.
    """
    codes = _bin_values(values)
    half = groups % 2 == 0
    risk = np.empty(len(outcome))
    for train, test in ((half, ~half), (~half, half)):
        base = float(outcome[train].mean()) if train.any() else 0.0
        size = codes.max(initial=0) + 1
        left = np.bincount(codes[train], outcome[train], minlength=size)
        count = np.bincount(codes[train], minlength=size)
        risk[test] = ((left + base) / (count + 1))[codes[test]]
    return metrics.roc_auc(outcome, risk)


def _bin_values(values: pd.Series) -> NDArray[np.intp]:
    if not pd.api.types.is_numeric_dtype(values):
        return np.asarray(pd.factorize(values)[0])
    numbers = values.to_numpy(dtype="float64")
    finite = np.isfinite(numbers)
    cuts = (
        np.quantile(numbers[finite], np.linspace(0, 1, BINS + 1)) if finite.any() else np.empty(0)
    )
    frequent = cuts[1:][np.diff(cuts) == 0]  # if a value fills a bin, it gets that bin to itself
    edges = np.unique(np.append(cuts, np.nextafter(frequent, -np.inf)))
    return np.where(finite, np.searchsorted(edges, numbers), len(edges) + 1)


def _check_duplicates(features: pd.DataFrame, outcome: Vector) -> list[LeakageSign]:
    """Report if many rows are duplicates, or equal to a row with the other outcome."""
    number = features.groupby(list(features.columns), dropna=False, sort=False).ngroup().to_numpy()
    count = np.bincount(number)
    left = np.bincount(number, outcome)
    signs = []
    copies = len(number) - len(count)
    if copies >= LEAST_COPIES_SHARE * len(number):
        sentence = f"{copies:,} of {len(number):,} rows duplicate another one in every feature"
        signs.append(LeakageSign("copies", None, f"{sentence}; they are kept together in one fold"))
    mixed = (left > 0) & (left < count)
    if (rows := int(count[mixed].sum())) >= LEAST_COPIES_SHARE * len(number):
        sentence = f"{rows:,} rows are equal in every feature to one with the other outcome"
        signs.append(LeakageSign("label_noise", None, f"{sentence}; no model can predict both"))
    return signs
