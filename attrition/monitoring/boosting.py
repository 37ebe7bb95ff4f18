"""Boosted trees that separate two samples, grown by array operations: few columns cost 0.2 s.

A tick of few new rows loads no scikit-learn for them, whose import alone takes seconds.

Source: Friedman 2001, Annals of Statistics 29:1189; Chen and Guestrin 2016, KDD, "XGBoost", for the gain
of a split and the value of a leaf.
"""

import numpy as np
from numpy.typing import NDArray

from attrition.modelling import metrics
from attrition.modelling.metrics import Vector

FOLDS, ROUNDS, DEPTH, RATE, BINS = 3, 60, 3, 0.1, 64
LEAST_HESSIAN = 1.0  # of the rows on either side of a split, as of four rows with probability 0.5

Codes = NDArray[np.uint8]
Numbers = NDArray[np.intp]


def separate(columns: NDArray[np.float64], is_second: Vector) -> tuple[Vector, Vector]:
    """Fit trees in folds; return the out-of-fold probability of each row, and the gain of each column.

    Half of the gain of a split counts for the column of the split above it: if two columns have drifted
    only together, the split of the first one gains nothing by itself.

    columns: (n, n_columns), NaN if missing; is_second: (n,) 1 if a row is of the second sample, else 0

    Returns: (n,) probability that a row is of the second sample; (n_columns,).

    >>> values = np.repeat([0.0, 1.0], 50)
    >>> probability, gain = separate(np.column_stack([values, np.zeros(100)]), values)
    >>> bool(probability[:50].max() < 0.1 < 0.9 < probability[50:].min()), float(gain[1])
    (True, 0.0)
    """
    n, fold = len(is_second), _assign_folds(is_second)
    # Each fold has a copy of all rows: it learns from those of other folds, and predicts its own.
    copies = np.tile(np.array([_bin(column) for column in columns.T]), FOLDS)
    tree, row = np.repeat(np.arange(FOLDS), n), np.tile(np.arange(n), FOLDS)
    is_own, target = fold[row] == tree, is_second[row]
    learned = np.flatnonzero(~is_own)
    codes, shares = copies[:, learned], np.bincount(tree[learned], target[learned])
    score = metrics.log_odds(shares / np.bincount(tree[learned]))[tree]
    gain = np.zeros(len(copies))
    for _ in range(ROUNDS):
        risk = metrics.expit(score)
        gradient, hessian = (risk - target)[learned], (risk * (1 - risk))[learned]
        node, nodes, above = tree, FOLDS, None
        for _ in range(DEPTH):
            column, cut, gained = _choose_splits(codes, node[learned], nodes, gradient, hessian)
            for named in (column, column if above is None else above):
                np.add.at(gain, named, gained / 2)
            is_high = copies[column[node], np.arange(len(node))] > cut[node]
            node, nodes, above = 2 * node + is_high, 2 * nodes, np.repeat(column, 2)
        slope, curvature = (
            np.bincount(node[learned], each, minlength=nodes) for each in (gradient, hessian)
        )
        score -= RATE * (slope / np.maximum(curvature, LEAST_HESSIAN))[node]
    probability = np.empty(n)
    probability[row[is_own]] = metrics.expit(score[is_own])
    return probability, gain


def _choose_splits(
    codes: Codes, node: Numbers, nodes: int, gradient: Vector, hessian: Vector
) -> tuple[Numbers, Numbers, Vector]:
    """Return for each node the column to split, the last code on its lower side, and the gain.

    codes: (n_columns, n); node: (n,); a node that is not split has a gain of 0
    """
    bins = BINS + 1
    sums = np.empty((2, nodes, len(codes), bins))
    for i, column in enumerate(codes):
        cells = node * bins + column
        for total, each in zip(sums, (gradient, hessian), strict=True):
            total[:, i] = np.bincount(cells, each, minlength=nodes * bins).reshape(nodes, bins)
    slope, curvature = np.cumsum(sums, axis=3)
    low, all_slope = (slope[:, :, :-1], curvature[:, :, :-1]), slope[:, :, -1:]
    high = (all_slope - low[0], curvature[:, :, -1:] - low[1])
    is_split = (low[1] >= LEAST_HESSIAN) & (high[1] >= LEAST_HESSIAN)
    with np.errstate(all="ignore"):
        gains = low[0] ** 2 / low[1] + high[0] ** 2 / high[1] - all_slope**2 / curvature[:, :, -1:]
    gains = np.where(is_split, gains, 0.0).reshape(nodes, -1)
    best, gained = gains.argmax(axis=1), gains.max(axis=1)
    column, cut = np.divmod(best, bins - 1)
    return column, np.where(gained > 0, cut, bins), np.maximum(gained, 0.0)


def _bin(values: Vector) -> Codes:
    """Return the bin of each value: 0 if missing, else by value, or by quantile if many differ."""
    known = values[~np.isnan(values)]
    edges = np.unique(known)[:-1]
    if len(edges) >= BINS:
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="lower"))
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values)).astype(np.uint8)


def _assign_folds(is_second: Vector) -> Numbers:
    """Return the fold of each row, so that both samples are spread over all of them."""
    rng, fold = np.random.default_rng(0), np.empty(len(is_second), np.intp)
    for sample in (0, 1):
        rows = np.flatnonzero(is_second == sample)
        fold[rows] = rng.permutation(len(rows)) % FOLDS
    return fold
