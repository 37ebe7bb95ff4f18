"""Sample labelled rows: those of clients who left, and some of those who stayed, with weights.

A sample depends on the rows, not on their order, and a larger sample contains each smaller one.

Source: Horvitz and Thompson 1952 for the weights; Fithian and Hastie 2014, "Local case-control
sampling", for samples with as many of each outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Sample:
    """Which rows are in the sample, (n,) bool, and how many rows each of them represents, (n,).

    is_simple: (n,) bool, the rows that would be in the sample if both outcomes were sampled alike: they
    represent all rows without weights.
    """

    is_taken: NDArray[np.bool_]
    weight: Vector
    is_simple: NDArray[np.bool_]

    def among(self, rows: NDArray[np.bool_]) -> "Sample":
        """Return the sample among some of the rows; rows: (n,) bool."""
        return Sample(self.is_taken[rows], self.weight[rows], self.is_simple[rows])


def place_rows(ids: NDArray[np.uint64], strata: Sequence[Codes]) -> tuple[Vector, Codes]:
    """Place the rows of each stratum at random in [0, 1), at equal distances.

    ids: (n,) hashes of the rows; strata: (n,) codes >= 0, each of which divides the strata further

    Returns: the places (n,), and the numbers of the strata (n,).
    """
    stratum = np.zeros(len(ids), dtype=np.intp)
    for codes in strata:
        stratum = np.unique(stratum * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[
            1
        ]
    order = np.lexsort((_mix(ids), stratum))
    size = np.bincount(stratum)
    first = np.repeat(np.cumsum(size) - size, size)
    place = np.empty(len(ids))
    place[order] = (np.arange(len(ids)) - first) / size[stratum[order]]
    return place, stratum


def _mix(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of hashes, so that the result is independent of every other use of them.

    Source: Steele, Lea and Flood 2014, the finaliser of SplitMix64.
    """
    mixed = ids.astype("uint64") + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def split_size(size: int, left: int, stayed: int) -> tuple[int, int]:
    """Return how many rows of each outcome to take: all who left, up to half of the sample.

    >>> split_size(100, 20, 900), split_size(100, 300, 900), split_size(100, 300, 30)
    ((20, 80), (50, 50), (70, 30))
    """
    of_left = min(left, max(size // 2, size - stayed))
    return of_left, min(stayed, size - of_left)


def take_sample(place: Vector, stratum: Codes, outcome: Vector, age: Codes, size: int) -> Sample:
    """Take the rows with the lowest places, about `size` of each age.

    place, stratum: see `place_rows`; a stratum has one outcome and one age.
    """
    share, lowest = np.ones(len(place)), np.ones(len(place))
    for each in np.unique(age):
        of_age = age == each
        left = of_age & (outcome == 1)
        stayed = of_age & (outcome == 0)
        counts = int(left.sum()), int(stayed.sum())
        shares = [
            n / max(1, count) for n, count in zip(split_size(size, *counts), counts, strict=True)
        ]
        share[left], share[stayed] = shares
        lowest[of_age] = min(shares)
    is_taken = place < share
    taken = np.bincount(stratum, is_taken)
    weight = np.bincount(stratum) / np.maximum(taken, 1)
    return Sample(is_taken, weight[stratum], place < lowest)
