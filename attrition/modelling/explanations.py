"""Explain risks by Shapley values: the contribution of each feature to the log-odds of a client.

The values compare a client with one baseline client ("baseline Shapley"). They add up exactly to the
difference between the log-odds of the two. For logistic regressions, a contribution is coefficient times
difference; for trees it is computed exactly, leaf by leaf. If several encoded columns come from one
feature, they count as one player.

Sources: Shapley 1953; Sundararajan and Najmi 2020, "The many Shapley values for model explanation";
the closed form for a leaf is that of Lundberg et al. 2020, "independent" TreeSHAP.
"""

from collections.abc import Mapping, Sequence
from math import factorial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from attrition.modelling import models
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model

MIN_CONTRIBUTION = 0.05  # to the log-odds; if a feature adds less, it is not shown as a reason
Matrix = NDArray[np.float64]


def contributions(
    model: Model, rows: pd.DataFrame, baseline: Mapping[str, Any], score: Vector | None = None
) -> pd.DataFrame:
    """Compute the contribution of each feature to the log-odds: a row per client, a column per feature.

    A row adds up to the log-odds of the client minus those of the baseline client. If a contribution is
    positive, it raises the risk. If the calibration is not linear, it scales all contributions
    of a client alike.

    score: (n,) `models.score` of the rows, if the caller has it
    """
    features = list(model.features)
    reference = pd.DataFrame([{name: _or_missing(baseline[name]) for name in features}])
    reference = reference.astype(rows[features].dtypes)
    both = pd.concat([rows[features], reference], ignore_index=True)
    added = np.zeros((len(rows), len(features)))
    for part, weight in zip(model.parts, model.weights, strict=True):
        added += weight * _explain_part(part, both, features)
    score = models.score(model, rows) if score is None else score
    score = np.append(score, models.score(model, reference))
    difference = score[:-1] - score[-1]
    log_odds = model.calibration.apply(score)
    scale = np.divide(
        log_odds[:-1] - log_odds[-1], difference, out=np.zeros(len(rows)), where=difference != 0
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


def strongest(
    model: Model,
    rows: pd.DataFrame,
    added: pd.DataFrame,
    baseline: Mapping[str, Any],
    shown: int,
    score: Vector | None = None,
) -> list[list[str]]:
    """List for each client the names of the features that raise its risk the most, the strongest first.

    If the baseline value of a feature alone would not lower the risk, because the feature only counts
    together with others, it comes after the features that would.
    """
    values = added[sorted(added.columns)]
    names, contribution = values.columns.to_numpy(), values.to_numpy()
    order = np.argsort(-contribution, axis=1, kind="stable")[:, :shown]
    raises = np.take_along_axis(contribution, order, axis=1) >= MIN_CONTRIBUTION
    last, lowers = raises.sum(axis=1) - 1, raises.copy()
    score = models.score(model, rows) if score is None else score
    # The last reason moves only if one before it would not lower the risk.
    for place in range(order.shape[1]):
        some = np.flatnonzero((place < last) | ((place == last) & ~lowers[:, :place].all(axis=1)))
        changed = rows[list(model.features)].iloc[some]
        for i, name in enumerate(names):
            changed[name] = changed[name].mask(order[some, place] == i, _or_missing(baseline[name]))
        lowers[some, place] = models.score(model, changed) < score[some]
    order = np.take_along_axis(order, np.argsort(~lowers, axis=1, kind="stable"), axis=1)
    return [kept[: n + 1] for kept, n in zip(names[order].tolist(), last.tolist(), strict=True)]


def _or_missing(value: Any) -> Any:
    return np.nan if value is None else value


def _explain_part(part: Pipeline, both: pd.DataFrame, features: Sequence[str]) -> Matrix:
    """Compute the contributions to one part, before calibration; the last row is the baseline client."""
    fitted = part[-1]
    if not isinstance(fitted, LogisticRegression | HistGradientBoostingClassifier):
        return np.zeros((len(both) - 1, len(features)))
    X = part[:-1].transform(both)
    players = np.array([features.index(name) for name in models.encoded_features(part)])
    if isinstance(fitted, LogisticRegression):
        added = (X[:-1] - X[-1]) * fitted.coef_[0]
        return np.column_stack([added[:, players == i].sum(axis=1) for i in range(len(features))])
    return _explain_trees(fitted, X, players, len(features))


def _explain_trees(
    fitted: HistGradientBoostingClassifier, X: Matrix, players: NDArray[np.intp], n_features: int
) -> Matrix:
    added = np.zeros((n_features, len(X) - 1))
    bins = fitted._bin_mapper.transform(X)[:-1].T.astype(np.intp)
    missing = fitted._bin_mapper.missing_values_bin_idx_
    for (tree,) in fitted._predictors:  # scikit-learn has no public access to the trees
        number, distinct = _number_alike(tree.nodes, bins, missing)
        given = np.zeros((n_features, len(distinct)))
        _add_tree(tree.nodes, X[np.append(distinct, -1)], players, given)
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


def _add_tree(nodes: Any, X: Matrix, players: NDArray[np.intp], added: Matrix) -> None:
    """Add the contributions of one tree in place; added: (n_features, n).

    A mixture of client and baseline client reaches a leaf if every feature on the path passes. If only
    the client's value passes, the feature gains the leaf's value; if only the baseline value passes, it
    loses it.
    """
    stack: list[tuple[int, dict[int, tuple[NDArray[np.bool_], bool]]]] = [(0, {})]
    while stack:
        at, path = stack.pop()
        node = nodes[at]
        if node["is_leaf"]:
            _add_leaf(float(node["value"]), path, added)
            continue
        column = node["feature_idx"]
        values = X[:, column]
        goes_left = values <= node["num_threshold"]
        if node["missing_go_to_left"]:
            goes_left |= np.isnan(values)
        player = int(players[column])
        for child, passes in ((node["left"], goes_left), (node["right"], ~goes_left)):
            client, baseline = passes[:-1], bool(passes[-1])
            if player in path:
                client, baseline = path[player][0] & client, path[player][1] and baseline
            if baseline or client.any():  # else no mixture reaches the leaves below
                stack.append((int(child), {**path, player: (client, baseline)}))


def _add_leaf(
    value: float, path: Mapping[int, tuple[NDArray[np.bool_], bool]], added: Matrix
) -> None:
    only_client = [player for player, (_, baseline) in path.items() if not baseline]
    shared = [player for player, (_, baseline) in path.items() if baseline]
    n = added.shape[1]
    reached = np.ones(n, dtype=bool)
    for player in only_client:
        reached &= path[player][0]
    rows = np.flatnonzero(reached)
    if len(rows) == 0:
        return
    fails = {player: ~path[player][0][rows] for player in shared}
    lost = np.zeros(len(rows), dtype=np.intp)
    for fail in fails.values():
        lost += fail
    won = len(only_client)
    gain, loss = _weights(won, len(shared))
    for player in only_client:
        added[player, rows] += value * gain[lost]
    for player, fail in fails.items():
        added[player, rows[fail]] -= value * loss[lost[fail]]


def _weights(won: int, shared: int) -> tuple[Vector, Vector]:
    """Compute the share of feature orders in which one feature decides, by the number of features lost.

    (a-1)! b! / (a+b)! if it is one of a features won, a! (b-1)! / (a+b)! if it is one of b lost.

    >>> [weights.tolist() for weights in _weights(1, 1)]
    [[1.0, 0.5], [0.0, 0.5]]
    """
    lost = range(shared + 1)
    gain = [factorial(won - 1) * factorial(b) / factorial(won + b) if won else 0.0 for b in lost]
    loss = [factorial(won) * factorial(b - 1) / factorial(won + b) if b else 0.0 for b in lost]
    return np.array(gain), np.array(loss)
