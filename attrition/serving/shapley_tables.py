"""Explain many clients by the trees of a flat model: baseline Shapley values, looked up in tables.

The leaves of a tree are split into groups. So few thresholds decide a group that a small table has the
values of all combinations of bins. The cell of a client in a table is a sum of numbers, one for the bin
of each feature. The values are those of `Forest.explain`, which needs no tables and is faster for a few
clients, but rounded to multiples of a billionth of the most that all trees can add. So one lookup gives
the values of eight features, and the sums are the same in any order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.serving.flat_model import FlatModel, Forest, Index, Matrix, Vector, order_weights

CELLS = 2048  # of a group
MERGED_CELLS = 4096  # of a table for many clients; larger ones leave the cache of a core
MOST_CELLS = 1 << 16  # of a single leaf, whose group cannot be split
MANY = 50_000  # clients; from so many on it pays to merge groups, which takes 0.1 s
# Of 350 trees, in CPU us a client: 5.3 with values of 64 bits and a table for each group, 2.1 with whole
# numbers of 32 bits and merged groups, 1.8 with more rows and fewer tables at a time.
ROWS = 1 << 14  # that are explained together
BLOCK = 16  # tables whose cells are computed together
OCTET = 8  # features whose values are looked up together, as 32 bytes
LARGEST = 1 << 30  # a sum of values and of their rounding errors stays below 2^31


class Group(NamedTuple):
    """Some leaves of trees: the number that each bin of a feature adds to the cell, and the values.

    cells: feature -> (its bins,); values: number of eight features -> (cells, 8), their Shapley values
    """

    cells: Mapping[int, NDArray[np.intp]]
    values: Mapping[int, NDArray[Any]]


class Block(NamedTuple):
    """Groups whose cells are computed together; cells: for their features, (rows of masks, groups)."""

    features: Sequence[int]
    cells: NDArray[np.uint16]
    groups: Sequence[Group]


class ShapleyTables:
    """The tables of all trees for one baseline client."""

    def __init__(self, model: FlatModel, baseline: Index) -> None:
        """Build the tables, which takes part of a second; baseline: (features,) rows of the masks."""
        groups, self._slow = list[Group](), list[Forest]()
        self._baseline, self._starts = baseline, model.starts
        for forest in model.forests:
            is_slow = np.zeros(len(forest.values), dtype=bool)
            for tree in range(len(forest.values)):
                split = list(_split_tree(forest, tree, model.starts, baseline))
                is_slow[tree] = None in split
                groups += [] if is_slow[tree] else [group for group in split if group]
            if is_slow.any():
                self._slow.append(Forest(forest.masks[:, is_slow], forest.values[is_slow]))
        most = sum(max(float(np.abs(each).max()) for each in g.values.values()) for g in groups)
        self._scale = LARGEST / (most or 1.0)
        self._groups = [_to_whole_numbers(group, self._scale) for group in groups]

    @cached_property
    def _blocks(self) -> list[Block]:
        return _blocks(self._groups, self._starts)

    @cached_property
    def _merged_blocks(self) -> list[Block]:
        return _blocks([*_merge(self._groups)], self._starts)

    def explain(self, bins: Index) -> Matrix:
        """Compute the Shapley values of the trees: (n, features). bins: (features, n)."""
        features, n = bins.shape
        blocks = self._blocks if n < MANY else self._merged_blocks
        added = np.empty((n, features))
        for start in range(0, n, ROWS):
            rows = slice(start, start + ROWS)
            added[rows] = _explain(blocks, bins[:, rows])[:, :features]
        added /= self._scale
        for forest in self._slow:
            added += forest.explain(bins, self._baseline[:, np.newaxis])
        return added


def _explain(blocks: Sequence[Block], bins: Index) -> NDArray[np.int32]:
    features, n = bins.shape
    added = np.zeros((-(-features // OCTET), n, OCTET), np.int32)
    values = np.empty((n, OCTET), np.int32)
    for block in blocks:
        cells = np.zeros((n, len(block.groups)), np.uint16)
        for feature in block.features:
            cells += block.cells.take(bins[feature], axis=0)
        for group, cell in zip(block.groups, cells.T.astype(np.intp), strict=True):
            for octet, of_cells in group.values.items():
                of_cells.take(cell, axis=0, out=values, mode="clip")
                added[octet] += values
    return added.transpose(1, 0, 2).reshape(n, -1)


def _to_whole_numbers(group: Group, scale: float) -> Group:
    values = {at: np.rint(each * scale).astype(np.int32) for at, each in group.values.items()}
    return group._replace(values=values)


def _blocks(groups: Sequence[Group], starts: Index) -> list[Block]:
    return [_block(groups[i : i + BLOCK], starts) for i in range(0, len(groups), BLOCK)]


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
    octets: dict[int, Matrix] = {}
    for feature, own_values in zip(features, added, strict=True):
        octet = octets.setdefault(feature // OCTET, np.zeros((grid.shape[1], OCTET)))
        octet[:, feature % OCTET] = own_values
    return Group(_cells({feature: piece for feature, (_, piece) in pieces.items()}), octets)


def _cells(pieces: Mapping[int, NDArray[np.intp]]) -> dict[int, NDArray[np.intp]]:
    """Return the number that each bin adds to the cell; pieces: the piece of each bin."""
    cells, factor = {}, 1
    for feature in reversed([*pieces]):
        cells[feature] = factor * pieces[feature]
        factor *= int(pieces[feature].max()) + 1
    return dict(reversed(cells.items()))


# ---- fewer tables for many clients


def _merge(groups: Sequence[Group]) -> Iterator[Group]:
    """Merge groups of all trees, those of the same features first, while their cells fit a table."""
    waiting, pieces = list[Group](), dict[int, NDArray[np.intp]]()
    for group in sorted(groups, key=_by_features):
        finer = _refine(pieces, group)
        if waiting and math.prod(int(each.max()) + 1 for each in finer.values()) > MERGED_CELLS:
            yield _join(waiting, pieces)
            waiting, finer = [], _refine({}, group)
        waiting.append(group)
        pieces = finer
    if waiting:
        yield _join(waiting, pieces)


def _by_features(group: Group) -> tuple[int, list[int], int]:
    return -len(group.cells), [*group.cells], len(next(iter(group.values.values())))


def _refine(pieces: Mapping[int, NDArray[np.intp]], group: Group) -> dict[int, NDArray[np.intp]]:
    """Split the pieces of the bins of each feature where a group splits them."""
    finer = dict(pieces)
    for feature, own in group.cells.items():
        both = pieces.get(feature, 0) * (int(own.max()) + 1) + own
        finer[feature] = np.unique(both, return_inverse=True)[1]
    return finer


def _join(groups: Sequence[Group], pieces: Mapping[int, NDArray[np.intp]]) -> Group:
    """Add up the values of groups in each combination of pieces."""
    first = {feature: np.unique(each, return_index=True)[1] for feature, each in pieces.items()}
    values: dict[int, Any] = {}
    for group in groups:
        cell = np.zeros(1, np.intp)
        for feature, bins in first.items():
            own = group.cells[feature][bins] if feature in group.cells else np.zeros_like(bins)
            cell = np.add.outer(cell, own).ravel()
        for octet, of_cells in group.values.items():
            values[octet] = values.get(octet, 0) + of_cells[cell]
    return Group(_cells(pieces), values)
