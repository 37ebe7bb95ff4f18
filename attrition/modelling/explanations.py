"""Explain risks by Shapley values: the contribution of each feature to the log-odds of a client.

The values compare a client with one baseline client, or with an earlier row of its own ("baseline
Shapley"). They add up exactly to the difference between the log-odds of the two. For logistic
regressions, a contribution is coefficient times difference; for trees it is computed exactly, leaf by
leaf. If several encoded columns come from one feature, they count as one player.

Sources: Shapley 1953; Sundararajan and Najmi 2020, "The many Shapley values for model explanation";
the closed form for a leaf is that of Lundberg et al. 2020, "independent" TreeSHAP.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import factorial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from attrition.modelling import models
from attrition.modelling.models import Model

Matrix = NDArray[np.float64]
# For each feature on the way to a leaf, which clients and which baseline clients pass: (n,), (1 or n,).
Path = dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]


def contributions(
    model: Model,
    rows: pd.DataFrame,
    baseline: Mapping[str, Any] | pd.DataFrame,
) -> pd.DataFrame:
    """Compute the contribution of each feature to the log-odds: a row per client, a column per feature.

    A row adds up to the log-odds of the client minus those of the baseline client. If a contribution is
    positive, it raises the risk. If the calibration is not linear, it scales a client's contributions
    alike.

    baseline: one client for all, or (n,) rows, one for each client
    """
    features, n = list(model.features), len(rows)
    if isinstance(baseline, pd.DataFrame):
        reference = baseline[features]
    else:
        reference = pd.DataFrame([{name: _or_missing(baseline[name]) for name in features}])
    reference = reference.astype(rows[features].dtypes)
    both = pd.concat([rows[features], reference], ignore_index=True)
    added = np.zeros((n, len(features)))
    for part, weight in zip(model.parts, model.weights, strict=True):
        added += weight * _explain_part(part, both, n, features)
    score = np.append(models.score(model, rows), models.score(model, reference))
    log_odds = model.calibration.apply(score)
    difference = score[:n] - score[n:]
    scale = np.divide(
        log_odds[:n] - log_odds[n:], difference, out=np.zeros(n), where=difference != 0
    )
    return pd.DataFrame(added * scale[:, np.newaxis], columns=features, index=rows.index)


def importance(model: Model, rows: pd.DataFrame, baseline: Mapping[str, Any]) -> dict[str, float]:
    """Compute the feature importance: the mean absolute contribution to the log-odds over the rows.

    The values are shares that add up to 1. All are 0 if no feature changes a risk.

    Source: Lundberg et al. 2020, "From local explanations to global understanding": mean |SHAP|.
    """
    sizes = contributions(model, rows, baseline).abs().sum()
    total = float(sizes.sum())
    return {str(name): float(size) / total if total else 0.0 for name, size in sizes.items()}


def _or_missing(value: Any) -> Any:
    return np.nan if value is None else value


def _explain_part(part: Pipeline, both: pd.DataFrame, n: int, features: Sequence[str]) -> Matrix:
    """Compute the contributions to one part, before calibration; both: n rows, then their baselines."""
    fitted = part[-1]
    if not isinstance(fitted, LogisticRegression | HistGradientBoostingClassifier):
        return np.zeros((n, len(features)))
    X = part[:-1].transform(both)
    players = np.array([features.index(name) for name in models.encoded_features(part)])
    if isinstance(fitted, LogisticRegression):
        added = (X[:n] - X[n:]) * fitted.coef_[0]
        return np.column_stack([added[:, players == i].sum(axis=1) for i in range(len(features))])
    return _explain_trees(fitted, X, n, players, len(features))


def _explain_trees(
    fitted: HistGradientBoostingClassifier,
    X: Matrix,
    n: int,
    players: NDArray[np.intp],
    n_features: int,
) -> Matrix:
    added = np.zeros((n_features, n))
    bins = fitted._bin_mapper.transform(X)[:n].T.astype(np.intp)
    missing = fitted._bin_mapper.missing_values_bin_idx_
    number = distinct = np.arange(n)
    for (tree,) in fitted._predictors:  # scikit-learn has no public access to the trees
        if len(X) == n + 1:
            number, distinct = _number_alike(tree.nodes, bins, missing)
        given = np.zeros((n_features, len(distinct)))
        _add_tree(tree.nodes, X[distinct], X[n:], players, given)
        for i in np.flatnonzero(given.any(axis=1)):
            added[i] += given[i][number]
    return added.T


def _number_alike(
    nodes: Any, bins: NDArray[np.intp], missing: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the rows: (n,), the same number if no split of the tree separates them; and return
    one row of each number. bins: (n_columns, n)."""
    splits = nodes[nodes["is_leaf"] == 0]
    key = np.zeros(bins.shape[1], dtype=np.int64)
    for column in np.unique(splits["feature_idx"]):
        cuts = np.unique(splits["bin_threshold"][splits["feature_idx"] == column])
        piece = np.searchsorted(cuts, np.arange(missing + 1))
        piece[missing] = len(cuts) + 1
        key = key * (len(cuts) + 2) + piece[bins[column]]
    number, keys = pd.factorize(key)
    distinct = np.empty(len(keys), dtype=np.intp)
    distinct[number] = np.arange(len(number))
    return number, distinct


def _add_tree(
    nodes: Any, X: Matrix, reference: Matrix, players: NDArray[np.intp], added: Matrix
) -> None:
    """Add the contributions of one tree in place; reference: (1 or n, columns); added: (n_features, n).

    A mixture of client and baseline client reaches a leaf if every feature on the path passes. If only
    the client's value passes, the feature gains the leaf's value; if only the baseline value passes, it
    loses it.
    """
    stack: list[tuple[int, Path]] = [(0, {})]
    while stack:
        at, path = stack.pop()
        node = nodes[at]
        if node["is_leaf"]:
            _add_leaf(float(node["value"]), path, added)
            continue
        goes_left = [_goes_left(node, values) for values in (X, reference)]
        player = int(players[node["feature_idx"]])
        for child, (client, baseline) in (
            (node["left"], goes_left),
            (node["right"], [~passes for passes in goes_left]),
        ):
            if player in path:
                client, baseline = path[player][0] & client, path[player][1] & baseline
            if baseline.any() or client.any():  # else no mixture reaches the leaves below
                stack.append((int(child), {**path, player: (client, baseline)}))


def _goes_left(node: Any, X: Matrix) -> NDArray[np.bool_]:
    values = X[:, node["feature_idx"]]
    goes_left = values <= node["num_threshold"]
    return goes_left | np.isnan(values) if node["missing_go_to_left"] else goes_left


def _add_leaf(value: float, path: Path, added: Matrix) -> None:
    reached = np.ones(added.shape[1], dtype=bool)
    for client, baseline in path.values():
        if not baseline.all():
            reached &= client | baseline
    rows = np.flatnonzero(reached)
    if len(rows) == 0:
        return
    gains, losses = {}, {}
    for player, (client, baseline) in path.items():
        client, baseline = client[rows], baseline[rows] if len(baseline) > 1 else baseline
        if not baseline.all():
            gains[player] = client & ~baseline
        if baseline.any():
            losses[player] = baseline & ~client
    zero = np.zeros(len(rows), dtype=np.intp)
    won, lost = (sum(of.values(), zero) for of in (gains, losses))
    gain, loss = (value * shares[won, lost] for shares in _weights(len(path)))
    for player, wins in gains.items():
        added[player, rows[wins]] += gain[wins]
    for player, loses in losses.items():
        added[player, rows[loses]] -= loss[loses]


@lru_cache
def _weights(players: int) -> tuple[Matrix, Matrix]:
    """Compute the share of feature orders in which one feature decides, by the numbers won and lost.

    (a-1)! b! / (a+b)! if it is one of a features won, a! (b-1)! / (a+b)! if it is one of b lost.

    >>> [weights.tolist() for weights in _weights(1)]
    [[[0.0, 0.0], [1.0, 0.5]], [[0.0, 1.0], [0.0, 0.5]]]
    """
    gain, loss = np.zeros((2, players + 1, players + 1))
    for won in range(players + 1):
        for lost in range(players + 1):
            orders = factorial(won + lost)
            gain[won, lost] = factorial(won - 1) * factorial(lost) / orders if won else 0.0
            loss[won, lost] = factorial(won) * factorial(lost - 1) / orders if lost else 0.0
    return gain, loss
