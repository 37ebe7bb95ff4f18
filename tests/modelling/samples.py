"""A small table with a signal, and models of every kind that were fitted to it."""

import numpy as np
import pandas as pd

from attrition.modelling import models
from attrition.modelling.models import Model

NUMERIC, CATEGORICAL = ["activity", "size"], ["industry"]
KINDS = models.SIMPLEST_FIRST


def table(n=400, seed=0):
    """Little activity, and the trade, mean leaving; a tenth of the sizes and trades is missing."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "activity": rng.lognormal(3, 1, n),
            "size": np.where(rng.random(n) < 0.1, np.nan, rng.integers(1, 500, n)),
            "industry": rng.choice(["trade", "bank", ""], n, p=[0.6, 0.3, 0.1]),
        }
    )
    odds = 2 - np.log(rows["activity"]) + (rows["industry"] == "trade")
    return rows, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


def fitted(kind, rows=None, outcome=None):
    """Fit a model of one kind, by default to the small table."""
    if rows is None:
        rows, outcome = table()
    part = models.build(kind, NUMERIC, CATEGORICAL, rows)
    return Model((models.fit(part, rows, outcome, np.ones(len(rows))),))
