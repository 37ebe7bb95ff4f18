"""Tables of many shapes, and models that were fitted to them, flat and as scikit-learn has them."""

import numpy as np
import pandas as pd

from attrition.modelling import calibration, models
from attrition.modelling.models import Model
from attrition.serving import flattening

TREES = 30  # fewer than in the product, for speed
KINDS = models.SIMPLEST_FIRST


def table(n=600, numbers=3, levels=(2, 5), seed=0):
    """Numbers, some of them missing in places, and categories with so many levels; and the outcome."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({f"x{i}": rng.lognormal(2, 1, n).round(2) for i in range(numbers)})
    for i in range(1, numbers, 2):
        rows.loc[rng.random(n) < 0.1, f"x{i}"] = np.nan
    for i, k in enumerate(levels):
        names = ["", *(f"level {j} é" for j in range(k - 1))]
        rows[f"c{i}"] = pd.Series(rng.choice(names, n), dtype=object)
    odds = rows.filter(like="x").fillna(0).rank(pct=True).sum(axis=1) - numbers / 2
    for i in range(len(levels)):
        odds = odds + (rows[f"c{i}"] == "")
    return rows, (rng.random(n) < 1 / (1 + np.exp(-2 * odds))).astype(float)


def names(rows):
    """Return the numeric and the categorical columns of a table."""
    return [n for n in rows if n[0] == "x"], [n for n in rows if n[0] == "c"]


def fit(kinds, rows, outcome, weights=(), calibrate=None):
    """Fit a model of these kinds of parts; `calibrate` is one of the fits of `calibration`."""
    parts = [models.build(kind, *names(rows), rows) for kind in kinds]
    for kind, part in zip(kinds, parts, strict=True):
        if kind in models.LEAVES:
            part.set_params(model__max_iter=TREES)
        models.fit(part, rows, outcome, np.ones(len(rows)))
    model = Model(tuple(parts), tuple(weights or [1.0] * len(parts)))
    if calibrate is None:
        return model
    return Model(
        model.parts,
        model.weights,
        calibration.FITS[calibrate](models.score(model, rows), outcome),
    )


def flat_and_fitted(kinds=(models.LOGISTIC, models.SHALLOW, models.BOOSTING), **shape):
    """Return a flat model, the model that it was made from, and the rows of both."""
    rows, outcome = table(**shape)
    model = fit(kinds, rows, outcome)
    return flattening.flatten(model), model, rows
