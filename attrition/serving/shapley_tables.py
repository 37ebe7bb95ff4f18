"""Explain many clients by the trees of a flat model: baseline Shapley values, looked up in tables.

The leaves of a tree are split into groups which so few thresholds decide that all combinations of bins
fit a small table, with the values of each. A client's cell in a table is a sum over its features, as
each of its bins adds a number. The values are those of `Forest.explain`, which needs no tables and is
faster for a few clients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.serving.flat_model import FlatModel, Forest, Index, Matrix, Vector, order_weights

CELLS = 2048  # of a group
MOST_CELLS = 1 << 16  # of a single leaf, whose group cannot be split
ROWS = 1 << 13  # that are explained together
BLOCK = 64  # groups whose cells are computed together
QUAD = (
    4  # features whose values are looked up together; as fast as one, since it is a vector register
)


class Group(NamedTuple):
    """Leaves of one tree: the number that each bin of a feature adds to the cell, and the values.

    cells: feature -> (its bins,); values: number of four features -> (cells, 4), their Shapley values
    """

    cells: Mapping[int, NDArray[np.intp]]
    values: Mapping[int, Matrix]


class Block(NamedTuple):
    """Groups whose cells are computed together; cells: for their features, (rows of masks, groups)."""

    features: Sequence[int]
    cells: NDArray[np.uint16]
    groups: Sequence[Group]


class ShapleyTables:
    """The tables of all trees for one baseline client; it is used for any number of clients."""

    def __init__(self, model: FlatModel, baseline: Index) -> None:
        """Build the tables, which takes part of a second; baseline: (features,) rows of the masks."""
        starts = model.starts
        groups, self._slow = list[Group](), list[Forest]()
        self._baseline = baseline
        for forest in model.forests:
            is_slow = np.zeros(len(forest.values), dtype=bool)
            for tree in range(len(forest.values)):
                split = list(_split_tree(forest, tree, starts, baseline))
                is_slow[tree] = None in split
                groups += [] if is_slow[tree] else [group for group in split if group]
            if is_slow.any():
                self._slow.append(Forest(forest.masks[:, is_slow], forest.values[is_slow]))
        self._blocks = [_block(groups[i : i + BLOCK], starts) for i in range(0, len(groups), BLOCK)]

    def explain(self, bins: Index) -> Matrix:
        """Compute the Shapley values of the trees: (n, features). bins: (features, n)."""
        features, n = bins.shape
        added = np.zeros((n, features))
        for start in range(0, n, ROWS):
            rows = slice(start, start + ROWS)
            added[rows] = self._explain(bins[:, rows])[:, :features]
        for forest in self._slow:
            added += forest.explain(bins, self._baseline[:, np.newaxis])
        return added

    def _explain(self, bins: Index) -> Matrix:
        features, n = bins.shape
        added = np.zeros((-(-features // QUAD), n, QUAD))
        values = np.empty((n, QUAD))
        for block in self._blocks:
            cells = np.zeros((n, len(block.groups)), np.uint16)
            for feature in block.features:
                cells += block.cells.take(bins[feature], axis=0)
            for group, cell in zip(block.groups, cells.T.astype(np.intp), strict=True):
                for quad, of_cells in group.values.items():
                    of_cells.take(cell, axis=0, out=values, mode="clip")
                    added[quad] += values
        return added.transpose(1, 0, 2).reshape(n, -1)


def _block(groups: Sequence[Group], starts: Index) -> Block:
    cells = np.zeros((starts[-1], len(groups)), np.uint16)
    for i, group in enumerate(groups):
        for feature, numbers in group.cells.items():
            cells[starts[feature] : starts[feature + 1], i] = numbers
    return Block(sorted({feature for group in groups for feature in group.cells}), cells, groups)


def _split_tree(
    forest: Forest, tree: int, starts: Index, baseline: Index
) -> Iterator[Group | None]:
    """Yield the groups of a tree, or None for a leaf that has too many cells for a table."""
    column, first = np.ascontiguousarray(forest.masks[:, tree]), starts[:-1]
    reachable = np.bitwise_and.reduce(np.bitwise_or.reduceat(column, first))
    used = np.flatnonzero(reachable >> np.arange(column.dtype.itemsize * 8) & 1).tolist()
    waiting = [used] if used else []
    while waiting:
        leaves = waiting.pop()
        own = column & column.dtype.type(sum(1 << leaf for leaf in leaves))
        changes = np.bitwise_or.reduceat(own, first) != np.bitwise_and.reduceat(own, first)
        pieces = {
            feature: np.unique(own[starts[feature] : starts[feature + 1]], return_inverse=True)
            for feature in np.flatnonzero(changes).tolist()
        }
        sizes = [len(distinct) for distinct, _ in pieces.values()]
        count = int(np.prod(sizes, dtype=object)) if sizes else 1
        if count > (CELLS if len(leaves) > 1 else MOST_CELLS):
            if len(leaves) == 1:
                yield None
                continue
            half = len(leaves) // 2
            waiting += [leaves[:half], leaves[half:]]
        elif pieces:
            yield _group(forest.values[tree], leaves, pieces, column[baseline])


def _group(values: Vector, leaves: Sequence[int], pieces: Any, base: NDArray[Any]) -> Group:
    """Compute the Shapley values of some leaves in each cell; see `Forest.explain`."""
    features = list(pieces)
    sizes = [len(distinct) for distinct, _ in pieces.values()]
    grid = np.indices(sizes).reshape(len(sizes), -1)
    client = np.array(
        [distinct[at] for (distinct, _), at in zip(pieces.values(), grid, strict=True)]
    )
    bits = np.array(leaves, dtype=client.dtype)[:, np.newaxis, np.newaxis]
    passes = (client >> bits & 1).astype(bool)  # (leaves, features, cells)
    base_passes = (base[features, np.newaxis] >> bits & 1).astype(bool)
    lost = base_passes & ~passes
    # A leaf is reached if the client passes wherever the baseline client does not.
    n_won, n_lost = (~base_passes).sum(axis=1), lost.sum(axis=1)
    reached = (passes | base_passes).all(axis=1)
    gain, loss = order_weights(len(sizes))
    own = values[leaves, np.newaxis] * reached
    gains, losses = own * gain[n_won, n_lost], own * loss[n_won, n_lost]
    # Not by a matrix product, whose sums depend on its shape.
    added = np.where(base_passes, -losses[:, np.newaxis] * lost, gains[:, np.newaxis]).sum(axis=0)
    factors = np.cumprod([1, *reversed(sizes[1:])])[::-1].tolist()
    cells = {
        feature: factor * inverse
        for (feature, (_, inverse)), factor in zip(pieces.items(), factors, strict=True)
    }
    quads: dict[int, Matrix] = {}
    for feature, own_values in zip(features, added, strict=True):
        quad = quads.setdefault(feature // QUAD, np.zeros((grid.shape[1], QUAD)))
        quad[:, feature % QUAD] = own_values
    return Group(cells, quads)
