"""Scores of numbers for linear models: normal scores of the rank, and standard scores."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, TransformerMixin

from attrition.modelling.metrics import Vector

MAX_KNOTS = 100
MAX_STANDARD_SCORE = 5.0  # so that one number far out does not decide the weight of a column
NORMAL, STANDARD = "normal", "standard"


class NumberScores(TransformerMixin, BaseEstimator):
    """Replace each number by its score; a missing one stays missing.

    Between two knots the score is interpolated; beyond the lowest and the highest knot it stays that of
    the end. Models in production name this class by its module: if it moves, they cannot be loaded.
    """

    def __init__(self, kind: str = NORMAL) -> None:
        self.kind = kind

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        learn = normal_scores if self.kind == NORMAL else standard_scores
        columns = np.asarray(X, dtype="float64").T
        self.knots_ = [learn(column[~np.isnan(column)]) for column in columns]
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        columns = zip(np.asarray(X, dtype="float64").T, self.knots_, strict=True)
        return np.column_stack([np.interp(column, *knots) for column, knots in columns])


def normal_scores(values: Vector) -> tuple[Vector, Vector]:
    """Compute the knots of normal scores: numbers in ascending order, and the score of each.

    The score is the normal quantile of the mid-rank share: the share of the rows below the number plus
    half of the share that have it. Of many numbers, those about equally spaced in score are kept.

    >>> numbers, scores = normal_scores(np.array([0.0, 0.0, 1.0, 5.0]))
    >>> numbers.tolist(), scores.round(2).tolist()  # shares 2/8, 5/8 and 7/8
    ([0.0, 1.0, 5.0], [-0.67, 0.32, 1.15])

    Source: van der Waerden 1952 for normal scores; Conover 1999, "Practical Nonparametric Statistics",
    for mid-ranks of ties.
    """
    numbers, counts = np.unique(values, return_counts=True)
    scores = ndtri((np.cumsum(counts) - counts / 2) / len(values))
    if len(numbers) > MAX_KNOTS:
        kept = np.unique(np.searchsorted(scores, np.linspace(scores[0], scores[-1], MAX_KNOTS)))
        numbers, scores = numbers[kept], scores[kept]
    return numbers, scores


def standard_scores(values: Vector) -> tuple[Vector, Vector]:
    """Compute the knots of standard scores, which end at 5 SD from the mean: the two ends, their scores.

    >>> ends, scores = standard_scores(np.array([0.0, 0.0, 4.0, 4.0]))
    >>> ends.tolist(), scores.tolist()
    ([0.0, 4.0], [-1.0, 1.0])

    Source: Dixon 1960, "Simplified estimation from censored normal samples", for winsorising.
    """
    size = float(np.abs(values).max()) or 1.0  # the square of a large number would overflow
    mean, sd = size * (values / size).mean(), size * (values / size).std()
    low = max(values.min(), mean - MAX_STANDARD_SCORE * sd)
    high = min(values.max(), mean + MAX_STANDARD_SCORE * sd)
    if not low < high:
        return values[:1], np.zeros(1)
    ends = np.array([low, high])
    return ends, (ends - mean) / sd
