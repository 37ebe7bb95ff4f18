"""Measure how good the list was, by the held-out clients, and what holding them out costs it."""

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


def measure_kept(
    is_control: NDArray[np.bool_], risk: Vector, value: Vector, order: str
) -> float | None:
    """Divide the value at risk of the treated units by that of as many that would have come first.

    Without an experiment, the list takes units in its order, and those it took rest. If no value is
    known, the risk takes its place. None without any.

    is_control, risk, value: (n,) of the units of a quarter; order: "risk" or "value_at_risk"

    >>> value = np.array([50.0, 30, 20, 10])
    >>> measure_kept(np.arange(4) == 1, np.full(4, 0.5), value, "value_at_risk")
    0.8
    """
    at_risk = np.nan_to_num(risk * value) if np.isfinite(value).any() else risk
    first = np.argsort(-(risk if order == "risk" else at_risk), kind="stable")
    whole = at_risk[first[: int((~is_control).sum())]].sum()
    return float(at_risk[~is_control].sum() / whole) if whole else None
