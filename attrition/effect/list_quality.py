"""Measure how good the list was, by the clients who were held out of it and whom nobody contacted."""

from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrition.effect.looks import MONTHS_BETWEEN, add_months
from attrition.modelling import metrics
from attrition.modelling.metrics import Vector

Days = NDArray[np.datetime64]


def describe_list_quality(
    today: date,
    *,
    assigned_on: Days,
    churned: NDArray[np.bool_],
    risk: Vector,
    first_on: Days,
    left_on: Days,
) -> dict[str, Any] | None:
    """Compare the held-out clients with known outcomes with their risks, three months later.

    Returns: clients, how many of them churned and were expected to, the share that churned with Wilson's
    interval (low, high), and the median days from first being due for the list until leaving, over those
    whose day of leaving is known (lead_days, lead_clients). None if nobody was assigned that long ago.

    All (n,) of the controls with known outcomes. assigned_on, first_on, left_on: datetime64[D], the day
    of this assignment, of the client's first listing or assignment, and of leaving (NaT if unknown)

    >>> days = np.array(["2026-01-05"] * 4, "datetime64[D]")
    >>> left_on = np.array(["2026-02-04", "NaT", "2026-02-14", "NaT"], "datetime64[D]")
    >>> churned, risk = np.array([True, True, True, False]), np.full(4, 0.5)
    >>> rows = {"assigned_on": days, "churned": churned, "risk": risk, "first_on": days}
    >>> quality = describe_list_quality(date(2026, 4, 5), **rows, left_on=left_on)
    >>> quality["churned"], quality["expected"], quality["lead_days"], quality["lead_clients"]
    (3, 2.0, 35.0, 2)
    """
    is_old = assigned_on <= np.datetime64(add_months(today, -MONTHS_BETWEEN), "D")
    if not is_old.any():
        return None
    lead = (left_on - first_on)[is_old & churned & ~np.isnat(left_on)].astype(int)
    lead = lead[lead >= 0]  # whoever had left before was on a list that was out of date
    n, n_churned = int(is_old.sum()), int(churned[is_old].sum())
    share = metrics.wilson(n_churned, n)
    return {
        "clients": n,
        "churned": n_churned,
        "expected": float(risk[is_old].sum()),
        "low": share.low,
        "high": share.high,
        "lead_days": float(np.median(lead)) if len(lead) else None,
        "lead_clients": len(lead),
    }
