"""Detect numeric columns of one delivery that are in another unit: all values are off by one factor.

If a delivery is in cents instead of euros, or in months instead of years, the logarithms of its values
have the same distribution as before, at another place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from attrition.modelling.metrics import Vector

MIN_VALUES_FOR_UNITS = 30
LEAST_FACTOR, LEAST_SHARE = 10.0, 0.8
# By chance, one column in a million is five standard errors off.
ERRORS_FROM_NOTHING, ERRORS_FROM_LEAST = 5.0, 2.0
LEVELS = np.linspace(0.1, 0.9, 9)
MAX_DEVIATION = 0.1  # of the deciles from the common factor, as log10: a factor of 1.26


@dataclass(frozen=True)
class UnitChange:
    """A column whose values are `factor` times as large as before; `share`: of the rows with a value."""

    column: str
    factor: float
    share: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class OtherUnits:
    """A delivery with a column in another unit; `delivery` is its number in ingestedfiles.txt."""

    delivery: int
    source: str
    column: str
    factor: float
    rows: int

    @property
    def sentence(self) -> str:
        factor = self.factor if self.factor > 1 else 1 / self.factor
        size = "large" if self.factor > 1 else "small"
        return (
            f"{self.source}: {self.column} is about {factor:,.0f} times too {size} in {self.rows:,} "
            "rows, as if in another unit. These rows are left out, and their clients keep the risk of "
            "their previous observation, until the rows are delivered again or you run "
            f"python ingestion.py --accept-source '{self.source}'"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sentence": self.sentence}


def find_unit_changes(
    reference: pd.DataFrame, delivery: pd.DataFrame, numeric: Sequence[str]
) -> list[UnitChange]:
    """Name the columns of one delivery that are off by one factor of 10 or more, either way.

    The sizes of the values are compared on the log scale; zeros, missing and infinite values do not
    count. A column is named only if its deciles are off by the same factor, for nearly all rows, and by
    more than sampling noise; it needs 30 values on both sides.
    """
    changes = []
    for name in numeric:
        before, now = _log_sizes(reference[name]), _log_sizes(delivery[name])
        if min(len(before), len(now)) < MIN_VALUES_FOR_UNITS:
            continue
        change = _compare_sizes(before, now)
        if change is not None:
            changes.append(UnitChange(name, *change))
    return changes


def _log_sizes(values: pd.Series) -> Vector:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.log10(np.abs(numbers[np.isfinite(numbers) & (numbers != 0)]))


def _compare_sizes(before: Vector, now: Vector) -> tuple[float, float] | None:
    """Return the factor and the share of rows, None if there is no common factor.

    The standard error is that of a difference of medians of normal logarithms.
    """
    differences = np.quantile(now, LEVELS) - np.quantile(before, LEVELS)
    shift = float(np.median(differences))
    variance = before.var() / len(before) + now.var() / len(now)
    error = float(np.sqrt(np.pi / 2 * variance))
    least = np.log10(LEAST_FACTOR) - ERRORS_FROM_LEAST * error
    if abs(shift) < max(least, ERRORS_FROM_NOTHING * error):
        return None
    if np.abs(differences - shift).mean() > MAX_DEVIATION + error:
        return None
    share = _share_shifted(before, now, shift)
    return (float(10**shift), share) if share >= LEAST_SHARE else None


def _share_shifted(before: Vector, now: Vector, shift: float) -> float:
    """Estimate which share of `now` is shifted, from the rows beyond half the shift.

    The share beyond is compared with the shares if no row is shifted and if all are.

    >>> _share_shifted(np.zeros(4), np.array([2.0, 2.0, 2.0, 0.0]), 2.0)
    0.75
    """
    sign, limit = np.sign(shift), np.median(before) + shift / 2
    none, all_rows, observed = (
        float(np.mean(sign * (x - limit) > 0)) for x in (before, before + shift, now)
    )
    return float(np.clip((observed - none) / (all_rows - none), 0.0, 1.0))
