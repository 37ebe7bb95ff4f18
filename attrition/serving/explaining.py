"""Choose the contributions that are shown as reasons: those of one client, and those of a list.

Contributions are arrays, a row per client, a column per feature of the model, in its order.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from attrition.modelling.reliability import MIN_CONTRIBUTION
from attrition.serving.flat_model import FlatModel
from attrition.serving.served import Served
from attrition.serving.shapley_tables import ShapleyTables

MIN_SPREAD = 0.2  # of contributions over a list: smaller differences tell no clients apart
SHARED = 0.85  # share of the listed clients from which on a reason is common to the list
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]


class Explainer:
    """Explain many clients against one baseline client, with tables if the model is flat."""

    def __init__(self, model: Served, baseline: Mapping[str, Any]) -> None:
        self.model, self.baseline = model, baseline

    @cached_property
    def _tables(self) -> ShapleyTables:
        model = cast(FlatModel, self.model)
        return ShapleyTables(model, model.encode_one(self.baseline).bins[:, 0])

    def explain(self, rows: Any, score: Vector) -> Matrix:
        """Compute what `model.explain` does, with errors of about 1e-7: (n, features).

        rows: encoded; score: (n,) as the model computes it
        """
        if not isinstance(self.model, FlatModel):
            return self.model.explain(rows, self.baseline)
        base = self.model.encode_one(self.baseline)
        return self.model.calibrate(rows, base, self._tables.explain(rows.bins), score)

    def strongest(self, rows: Any, added: Matrix, score: Vector, shown: int) -> tuple[Index, Index]:
        return strongest(self.model, rows, added, score, self.baseline, shown)


def strongest(
    model: Served,
    rows: Any,
    added: Matrix,
    score: Vector,
    baseline: Mapping[str, Any],
    shown: int,
) -> tuple[Index, Index]:
    """Return for each client the features that raise its risk the most, the strongest first.

    If the baseline value of a feature alone would not lower the risk, because the feature only counts
    together with others, it comes after the features that would.

    rows: encoded; added, score: as the model computes them. Returns the numbers of the features in the
    model, (n, shown), and how many of them raise the risk, (n,).
    """
    by_name = np.argsort(np.array(model.features, dtype=object), kind="stable")
    contribution = added[:, by_name]
    order = np.argsort(-contribution, axis=1, kind="stable")[:, :shown]
    raises = np.take_along_axis(contribution, order, axis=1) >= MIN_CONTRIBUTION
    order, last, lowers = by_name[order], raises.sum(axis=1) - 1, raises.copy()
    # The last reason moves only if one before it would not lower the risk.
    for place in range(order.shape[1]):
        before = lowers[:, :place].all(axis=1)
        some = np.flatnonzero((place < last) | ((place == last) & ~before))
        if len(some):
            changed = model.replace(rows, some, order[some, place], baseline)
            lowers[some, place] = model.score(changed) < score[some]
    moved = np.flatnonzero(~(lowers | ~raises).all(axis=1))
    at = np.argsort(~lowers[moved], axis=1, kind="stable")
    order[moved] = np.take_along_axis(order[moved], at, axis=1)
    return order, last + 1


def relative_to_list(added: Matrix, listed: int | None = None) -> Matrix:
    """Compute contributions relative to a list: those against the baseline client minus their mean.

    A row adds up to the log-odds of the client minus the mean log-odds of the list.

    listed: how many of the first rows are on the list, by default all

    >>> relative_to_list(np.array([[2.0, 0.5], [2.0, 1.5]])).tolist()
    [[0.0, -0.5], [0.0, 0.5]]
    """
    return np.asarray(added - added[:listed].mean(axis=0))


def distinguishing(
    model: Served,
    rows: Any,
    added: Matrix,
    score: Vector,
    baseline: Mapping[str, Any],
    fixed: Collection[str],
    listed: int | None = None,
) -> list[list[int]]:
    """List for each client the features that raise its risk and tell it apart from those on the list.

    The order is that of the contribution relative to the list, in standard deviations of the list. Last
    come features that are fixed, and among the others those whose baseline value alone would not lower
    the risk.

    rows: encoded, of the listed clients, and behind them of others
    listed: how many of the first rows are on the list, by default all
    """
    relative = relative_to_list(added, listed)
    apart = relative / np.maximum(relative[:listed].std(axis=0), MIN_SPREAD)
    client, feature = np.nonzero(added >= MIN_CONTRIBUTION)
    changed = model.replace(rows, client, feature, baseline)
    lowers = model.score(changed) < score[client]
    names, keys = model.features, [list[tuple[Any, ...]]() for _ in range(len(added))]
    for at, i, does_lower in zip(client.tolist(), feature.tolist(), lowers.tolist(), strict=True):
        keys[at].append((names[i] in fixed, not does_lower, -float(apart[at, i]), names[i], i))
    return [[key[-1] for key in sorted(each)] for each in keys]


def shared(columns: Mapping[str, Sequence[Any]], added: Matrix) -> dict[str, tuple[Any, int]]:
    """Return the features that raise the risk of nearly all listed clients: name -> value, clients.

    The value of a number is the median; a category must itself be that of nearly all.

    columns: those of the model, in its order

    >>> rows = {"plan": ["monthly"] * 9 + ["yearly"], "tickets": np.array([0.0] * 5 + [9.0] * 5)}
    >>> shared(rows, np.array([[2.0, -0.1]] * 5 + [[2.0, 1.0]] * 4 + [[0.1, 1.0]]))
    {'plan': ('monthly', 9)}
    """
    common: dict[str, tuple[Any, int]] = {}
    for (name, values), raises in zip(columns.items(), (added >= MIN_CONTRIBUTION).T, strict=True):
        if isinstance(values, np.ndarray):
            given = values[raises & ~np.isnan(values)]
            common[name] = float(np.median(given)) if len(given) else np.nan, int(raises.sum())
        elif raises.any():
            levels = Counter(values[i] for i in np.flatnonzero(raises).tolist())
            common[name] = levels.most_common(1)[0]
    return {name: each for name, each in common.items() if each[1] >= SHARED * len(added)}
