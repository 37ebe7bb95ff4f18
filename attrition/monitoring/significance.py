"""The p-values of a few tests in closed form, since importing scipy costs more than all of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAME = 1 + 1e-7  # two probabilities that differ by less are equal


def chi_squared(statistic: float, freedom: int) -> float:
    """Compute the probability of a larger chi-squared statistic; freedom: at least 1.

    >>> round(chi_squared(3.84, 1), 3), round(chi_squared(5.99, 2), 3)
    (0.05, 0.05)

    Source: Abramowitz and Stegun 1964, 26.4.4 and 26.4.5.
    """
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    powers = (k + freedom % 2 / 2 for k in range(freedom // 2))
    terms = (math.exp(p * math.log(half) - half - math.lgamma(p + 1)) for p in powers)
    return min(1.0, math.fsum(terms) + (math.erfc(math.sqrt(half)) if freedom % 2 else 0.0))


def student_t(statistic: float, freedom: int) -> float:
    """Compute the two-sided p-value of a t statistic; freedom: at least 1.

    >>> round(student_t(12.706, 1), 3), round(student_t(-2.228, 10), 3)
    (0.05, 0.05)

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(statistic) / math.sqrt(freedom))
    cosine, is_odd = math.cos(angle), freedom % 2
    term, total = cosine if is_odd else 1.0, 0.0
    for k in range(2 + is_odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    inside = math.sin(angle) * total
    # in this order, so that nan stays nan
    return max(1.0 - (2 / math.pi * (angle + inside) if is_odd else inside), 0.0)


def fisher_exact(hits: int, n: int, hits_before: int, m: int) -> float:
    """Compute the two-sided p-value of Fisher's exact test of two shares, hits / n and hits_before / m.

    >>> round(fisher_exact(1, 10, 11, 14), 4)  # Fisher 1935
    0.0028
    """
    both = hits + hits_before
    k = np.arange(max(0, both - m), min(n, both) + 1, dtype="float64")
    ratios = (n - k[:-1]) * (both - k[:-1]) / ((k[:-1] + 1) * (m - both + k[:-1] + 1))
    log = np.append(0.0, np.cumsum(np.log(ratios)))
    probability = np.exp(log - log.max())
    observed = probability[int(hits - k[0])]
    return float(min(1.0, probability[probability <= observed * SAME].sum() / probability.sum()))


def benjamini_hochberg(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Compute the q-values, in the order of the p-values: (n,).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]

    Source: Benjamini and Hochberg 1995, "Controlling the false discovery rate".
    """
    p = np.asarray(p_values, dtype="float64")
    order = np.argsort(-p, kind="stable")
    ranks = np.arange(len(p), 0, -1)
    result = np.empty(len(p))
    result[order] = np.minimum(np.minimum.accumulate(p[order] * len(p) / ranks), 1.0)
    return result
