"""Compute from which value at risk on a contact pays for itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHER_SUCCESS = {"lower": 0.5, "higher": 1.5}  # times the success that config.json expects


def break_even(
    risk: NDArray[np.float64],
    value: NDArray[np.floating[Any]],
    cost: float | None,
    success: float | None,
) -> dict[str, Any] | None:
    """Return where contacts break even: a contact pays if risk * value * success >= cost.

    The success is an assumption, so the number of clients for whom a contact pays is given for half of
    it and for half as much again too, at most 1. `risk_at_median_value` may be above 1: at that value
    no contact pays. None if cost or success is not given, or if no value is known.

    risk: (n,) in [0, 1]; value: (n,) NaN if unknown

    >>> risk, value = np.array([0.5, 0.2, 0.9, 0.9]), np.array([1000.0, 1000.0, 100.0, np.nan])
    >>> found = break_even(risk, value, cost=50.0, success=0.2)
    >>> found["value_at_risk"], found["clients"], found["of"], found["risk_at_median_value"]
    (250.0, 1, 3, 0.25)
    >>> found["lower"], found["higher"]
    ({'success': 0.1, 'clients': 1}, {'success': 0.3, 'clients': 2})

    Source: Verbraken, Verbeke and Baesens, A novel profit maximizing metric for measuring
    classification performance of customer churn prediction models, 2013.
    """
    known = ~np.isnan(value)
    if cost is None or success is None or not known.any():
        return None
    at_risk, median = risk[known] * value[known], float(np.median(value[known]))

    def count(share: float) -> int:
        return int((at_risk * share >= cost).sum())

    other = {name: round(min(1.0, times * success), 6) for name, times in OTHER_SUCCESS.items()}
    return {
        "cost": cost,
        "success": success,
        "value_at_risk": cost / success,
        "clients": count(success),
        "of": int(known.sum()),
        **{name: {"success": share, "clients": count(share)} for name, share in other.items()},
        "median_value": median,
        "risk_at_median_value": cost / (success * median) if median > 0 else None,
    }
