"""Groups of rows that must stay in one fold: of one client, duplicates, near-duplicates and twins."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CELL = 0.005  # of the interquartile range: numbers in one cell count as nearly equal
MAX_GROUP_SHARE = 0.05  # of the rows in one group because of near-duplicates or twins
MAX_CHANCE_TWINS = 0.001  # expected for a row; if there are more, its twins may be other clients
MIN_COLUMNS_EQUAL = 2  # in each half of the columns
MAX_TWINS = 10  # rows; more of them are a profile that many clients share
MAX_RELATIVES = 10  # pairs of other copies of a row, of which such an expectation says nothing
Numbers = NDArray[np.intp]
Hashes = NDArray[np.uint64]


def group_rows(rows: pd.DataFrame, client: str, features: Sequence[str]) -> Numbers:
    """Number the groups that must stay in one fold.

    Rows are in one group if they are of one client, equal in all features, near-duplicates or twins.
    Two rows are near-duplicates if their categories are equal and their numbers fall into the same cells
    of a grid, or of the same grid shifted by half a cell. If near-duplicates or twins put too much of a
    coarse table into one group, they are not grouped.

    Returns: (n,) int, the same number if two rows are linked, directly or through other rows.
    """
    table = rows[list(features)]
    hashes = _hash_cells(table)
    groups = _connect([pd.factorize(rows[client])[0], _number(hashes.sum(axis=1))])
    cells = [_hash_cells(_snap_to_grid(table, shift)).sum(axis=1) for shift in (0.0, 0.5)]
    for numberings in ([_number(each) for each in cells], number_twins(hashes)):
        linked = _connect([groups, *numberings])
        largest = np.bincount(linked).max(initial=0)
        if largest <= max(np.bincount(groups).max(initial=0), MAX_GROUP_SHARE * len(rows)):
            groups = linked
    return groups


def number_twins(hashes: Hashes) -> list[Numbers]:
    """Number, for each column, the rows that are equal in all others, but hardly by chance.

    hashes: (n, columns) of the cells. The columns are split into two halves that discriminate alike. If
    a rows are equal to a twin in the first half only, and b in the second half only, chance makes about
    a * b / n rows equal in both. Twins count in neither. Many rows that are equal in all other columns
    share a profile, such as that of an idle client, and are no copies.

    Returns: (n,) int for each column, the same number if rows are twins.
    """
    n, columns = hashes.shape
    alike = [_count_equal(column).mean() for column in hashes.T]
    in_first = np.zeros(columns, dtype=bool)
    in_first[np.argsort(alike, kind="stable")[::2]] = True
    halves = [hashes[:, half].sum(axis=1) for half in (in_first, ~in_first)]
    counts = [_count_equal(half) for half in halves]
    numberings = []
    for i in range(columns):
        mine = 0 if in_first[i] else 1
        if (in_first == in_first[i]).sum() <= MIN_COLUMNS_EQUAL:
            continue
        shorter = halves[mine] - hashes[:, i]
        number = _number(shorter + halves[1 - mine])
        twins = np.bincount(number)[number]
        pairs = (_count_equal(shorter) - twins) * (counts[1 - mine] - twins)
        alone = number.max(initial=0) + 1 + np.arange(n)
        is_twin = (pairs <= max(MAX_RELATIVES, MAX_CHANCE_TWINS * n)) & (twins <= MAX_TWINS)
        numberings.append(np.where(is_twin, number, alone))
    return numberings


def _hash_cells(table: pd.DataFrame) -> Hashes:
    """Hash each cell so that sums of hashes are equal if all of the cells are: (n, columns)."""
    random = np.random.default_rng(0)
    hashes = np.empty(table.shape, dtype=np.uint64)
    for i, name in enumerate(table):
        codes, values = pd.factorize(table[name], use_na_sentinel=False)
        hashes[:, i] = random.integers(2**64, size=len(values), dtype=np.uint64)[codes]
    return hashes


def _number(values: Hashes) -> Numbers:
    """Number the rows by their value: equal values get the same number."""
    return np.asarray(pd.factorize(values)[0])


def _count_equal(values: Hashes) -> Numbers:
    number = _number(values)
    return np.bincount(number)[number]


def _snap_to_grid(table: pd.DataFrame, shift: float) -> pd.DataFrame:
    """Replace each number by its cell, whose width is a share of the interquartile range."""
    cells: dict[str, pd.Series] = {}
    for name in map(str, table.select_dtypes("number")):
        low, high = table[name].quantile([0.25, 0.75])
        if 0 < high - low < np.inf:
            cells[name] = np.floor(table[name] / (CELL * (high - low)) + shift)
    return table.assign(**cells)


def _connect(numbers: Sequence[Numbers]) -> Numbers:
    """Number the connected rows: two are connected if they share a number in any of the numberings."""
    starts = np.cumsum([len(numbers[0]), *(int(one.max(initial=-1)) + 1 for one in numbers)])
    row = np.tile(np.arange(len(numbers[0])), len(numbers))
    shared = np.concatenate([one + start for one, start in zip(numbers, starts, strict=False)])
    links = coo_array((np.ones(len(row)), (row, shared)), shape=(starts[-1], starts[-1]))
    _, labels = connected_components(links, directed=False)
    return np.unique(labels[: len(numbers[0])], return_inverse=True)[1]
