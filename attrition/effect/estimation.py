"""Estimate what contacting clients changes, from a randomised group of clients held out of the list.

A unit is one client in one quarter. Units are compared by what they were assigned to, whether or not
they were contacted (intention to treat). All intervals are at 95 %. A figure that cannot be estimated is
None.
"""

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtri, stdtr, stdtrit, xlog1py, xlogy

from attrition.modelling.metrics import Z95, Vector

WELCH, NEWCOMBE = "welch", "newcombe"
# With fewer, only Newcombe's interval covers: normal intervals cover 81 to 93 %.
MIN_CONTROLS, MIN_OF_EACH_OUTCOME = 30, 10
MIN_RATIO_P = 0.001
MAX_CONTACTED_CONTROLS = 0.1
SAME = 1 + 1e-7  # two probabilities that differ by less are equal

Bool = NDArray[np.bool_]


class Arms(NamedTuple):
    """The units whose outcomes are known, (n,) each.

    value: NaN if unknown; is_reached: contacted between the assignment and the outcome; share: the
    probability with which the unit was held out. Units are compared with those of equal share only,
    since a share that was changed compares different times.
    """

    is_control: Bool
    churned: Bool
    risk: Vector
    value: Vector
    is_reached: Bool
    share: Vector


class Range(NamedTuple):
    """A difference and its interval, treated minus control units."""

    difference: float
    low: float
    high: float


class Effect(NamedTuple):
    """What contacts changed; see `estimate`.

    z: the normal quantile of the p-value, with the sign of the difference: it is compared with the bound
    of a look
    """

    difference: Range | None
    method: str | None
    z: float | None
    per_reached: Range | None
    money: dict[str, float] | None
    treated: dict[str, float]
    control: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of a look, as the record contains them."""
        effect = self.difference and self.difference._asdict() | {"method": self.method}
        return {
            "z": self.z,
            "effect": effect,
            "per_reached": self.per_reached and self.per_reached._asdict(),
            "money": self.money,
            "treated": self.treated,
            "control": self.control,
        }


class _Contrast(NamedTuple):
    """The coefficients that turn units into a difference between arms within each share.

    cell: (n,) int, 2 * stratum + is_control; coefficient: (n,) that of a treated unit is positive;
    freedom: (2,) degrees of freedom of the treated and of the control units
    """

    cell: NDArray[np.intp]
    coefficient: Vector
    freedom: NDArray[np.intp]


def estimate(arms: Arms) -> Effect:
    """Estimate the share that churned, treated minus control: negative if contacts help.

    With enough units in each arm (`MIN_CONTROLS`, and `MIN_OF_EACH_OUTCOME` who churned and who stayed),
    means of outcome - risk are compared, with Welch's interval. Otherwise shares are compared, with
    Newcombe's interval and an exact test, and neither `per_reached` nor `money` is estimated.

    Source: Deng, Xu, Kohavi and Walker 2013 and Lin 2013 for the adjustment; Welch 1947; Newcombe 1998.

    >>> n, is_control = np.arange(400), np.arange(400) < 100
    >>> churned, quarter = n % np.where(is_control, 2, 4) == 0, np.full(400, 0.25)
    >>> effect = estimate(Arms(is_control, churned, quarter, quarter * np.nan, ~is_control, quarter))
    >>> effect.method, [round(x, 3) for x in effect.difference], round(effect.z, 2)
    ('welch', [-0.25, -0.361, -0.139], -4.31)
    """
    summaries = [_describe_arm(arms, arms.is_control == is_control) for is_control in (False, True)]
    contrast = _contrast(arms.is_control, arms.share)
    if contrast is None:
        return Effect(None, None, None, None, None, *summaries)
    rarer = min(min(arm["churned"], arm["clients"] - arm["churned"]) for arm in summaries)
    if contrast.freedom.min() + 1 < MIN_CONTROLS or rarer < MIN_OF_EACH_OUTCOME:
        counts = _count(arms.churned, arms.is_control, arms.share)
        z = _exact_quantile(*counts)
        return Effect(newcombe(*counts), NEWCOMBE, z, None, None, *summaries)
    residual = arms.churned - arms.risk
    means, covariance, freedom = _compare(np.column_stack([residual, arms.is_reached]), contrast)
    return Effect(
        _welch(means[0], covariance[0, 0], freedom),
        WELCH,
        _normal_quantile(means[0], covariance[0, 0], freedom),
        _fieller(means, covariance, freedom),
        _estimate_money(arms, residual),
        *summaries,
    )


def newcombe(churned: NDArray[np.intp], n: NDArray[np.intp], z: float = Z95) -> Range:
    """Compute the first share minus the second, with Newcombe's interval.

    churned, n: (k, 2) in k strata, which are weighted by n1 n2 / (n1 + n2); the distances of Wilson's
    limits are combined as the roots of sums of squares.

    Source: Newcombe 1998, Stat Med 17:873, method 10; Zou and Donner 2008 for the combination.

    >>> [round(x, 4) for x in newcombe(np.array([[56, 48]]), np.array([[70, 80]]))]
    [0.2, 0.0524, 0.3339]
    """
    weight = n[:, 0] * n[:, 1] / n.sum(axis=1)
    used = weight > 0
    weight, n = (weight / weight.sum())[used, None], n[used]
    share, z2 = churned[used] / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    below = np.square(weight * (share - middle + reach)).sum(axis=0)
    above = np.square(weight * (middle + reach - share)).sum(axis=0)
    first, second = (weight * share).sum(axis=0)
    difference = float(first - second)
    return Range(
        difference,
        difference - float(np.sqrt(below[0] + above[1])),
        difference + float(np.sqrt(above[0] + below[1])),
    )


def check_ratio(is_control: Bool, share: Vector) -> dict[str, Any] | None:
    """Compare the share of units that were held out with the one expected, by an exact test.

    The number of controls is a sum of binomial variables, one for each share. The p-value is the
    probability of all numbers that are at most as likely as the observed one. None without units.

    is_control, share: (n,) all units, those with open outcomes too

    Source: Clopper and Pearson 1934; Fabijan et al. 2019, "Diagnosing sample ratio mismatch".

    >>> check_ratio(np.arange(100) < 35, np.full(100, 0.2))["is_valid"]
    False
    """
    if len(share) == 0:
        return None
    probability = np.ones(1)
    for p, n in zip(*np.unique(share, return_counts=True), strict=True):
        k = np.arange(n + 1)
        choices = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        probability = np.convolve(probability, np.exp(choices + xlogy(k, p) + xlog1py(n - k, -p)))
    p_value = _sum_unlikely(probability, int(is_control.sum()))
    return {
        "expected": float(share.mean()),
        "observed": float(is_control.mean()),
        "p": p_value,
        "is_valid": p_value >= MIN_RATIO_P,
    }


def check_lost(is_control: Bool, is_lost: Bool, share: Vector) -> dict[str, Any] | None:
    """Compare the shares of both arms whose rows are lost, by Fisher's exact test within each share.

    If contacts change who vanishes from the table, the units that are left cannot be compared. None
    without units of both arms.

    is_control, is_lost, share: (n,) all units

    >>> n = np.arange(400)
    >>> check_lost(n < 100, n >= 360, np.full(400, 0.2))["is_valid"]
    False
    """
    if is_control.all() or not is_control.any():
        return None
    p_value = _sum_unlikely(*_distribute(*_count(is_lost, is_control, share)))
    return {
        "treated": float(is_lost[~is_control].mean()),
        "control": float(is_lost[is_control].mean()),
        "p": p_value,
        "is_valid": p_value >= MIN_RATIO_P,
    }


def check_draws(number: NDArray[np.int64], is_recomputed: Bool, is_moved: Bool) -> dict[str, Any]:
    """Count the assignments that were recomputed, and those that differ from the draw.

    The arm follows from the key, so chance cannot explain a difference.

    number: (n,) of the assignments in the contact log; first: that of the first one that differs

    >>> check_draws(np.arange(1, 9), np.arange(8) < 5, np.arange(8) == 3)
    {'assignments': 8, 'recomputed': 5, 'differ': 1, 'first': 4, 'is_valid': False}
    """
    moved = number[is_moved]
    return {
        "assignments": len(number),
        "recomputed": int(is_recomputed.sum()),
        "differ": len(moved),
        "first": int(moved[0]) if len(moved) else None,
        "is_valid": len(moved) == 0,
    }


def count_contacted(is_reached: Bool) -> dict[str, Any] | None:
    """Count the controls who were contacted all the same, which hides part of the effect.

    is_reached: (n,) of the controls; None without any

    >>> count_contacted(np.arange(20) < 3)
    {'clients': 3, 'share': 0.15, 'is_high': True}
    """
    if len(is_reached) == 0:
        return None
    share = float(is_reached.mean())
    return {
        "clients": int(is_reached.sum()),
        "share": share,
        "is_high": share > MAX_CONTACTED_CONTROLS,
    }


def _sum_unlikely(probability: Vector, observed: int) -> float:
    """Sum the probabilities of all numbers that are at most as likely as the observed one."""
    return float(min(1.0, probability[probability <= probability[observed] * SAME].sum()))


def _describe_arm(arms: Arms, mask: Bool) -> dict[str, float]:
    return {
        "clients": int(mask.sum()),
        "churned": int(arms.churned[mask].sum()),
        "expected": float(arms.risk[mask].sum()),
    }


def _count(
    is_hit: Bool, is_control: Bool, share: Vector
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count the units of a kind and all units, (k, 2): by share, treated and control."""
    cell, n_cells = _cells(is_control, share)
    counts = [np.bincount(one, minlength=n_cells).reshape(-1, 2) for one in (cell[is_hit], cell)]
    return counts[0], counts[1]


def _cells(is_control: Bool, share: Vector) -> tuple[NDArray[np.intp], int]:
    shares, stratum = np.unique(share, return_inverse=True)
    return 2 * stratum + is_control, 2 * len(shares)


def _contrast(is_control: Bool, share: Vector) -> _Contrast | None:
    """Weight strata by n1 n2 / (n1 + n2), the inverse variance; None if none of them has both arms."""
    cell, n_cells = _cells(is_control, share)
    n = np.bincount(cell, minlength=n_cells).reshape(-1, 2)
    weight = n.prod(axis=1) / n.sum(axis=1)
    if not weight.any():
        return None
    freedom = (n - 1)[weight > 0].sum(axis=0)
    coefficient = (weight / weight.sum())[:, None] / np.maximum(n, 1) * [1, -1]
    return _Contrast(cell, coefficient.ravel()[cell], freedom)


def _compare(x: Vector, contrast: _Contrast) -> tuple[Vector, Vector, float]:
    """Compute the differences between arms, their covariance, and Welch's degrees of freedom.

    x: (n, m); returns: (m,), (m, m), and the freedom of the first figure

    Source: Welch 1947; Satterthwaite 1946.
    """
    cell, coefficient, freedom = contrast
    covariances = []
    n = np.maximum(np.bincount(cell), 1)
    mean = np.column_stack([np.bincount(cell, column) / n for column in x.T])
    rest = np.where(coefficient[:, None] != 0, x - mean[cell], 0.0)
    for arm in range(2):
        own = cell % 2 == arm
        spread = np.square(coefficient[own]).sum() / freedom[arm]
        covariances.append(rest[own].T @ rest[own] * spread)
    covariance = covariances[0] + covariances[1]
    parts = sum(one[0, 0] ** 2 / free for one, free in zip(covariances, freedom, strict=True))
    free = covariance[0, 0] ** 2 / parts if parts > 0 else freedom.min()
    return coefficient @ x, covariance, float(free)


def _welch(mean: float, variance: float, freedom: float) -> Range:
    reach = float(stdtrit(freedom, 0.975) * np.sqrt(variance))
    return Range(float(mean), float(mean) - reach, float(mean) + reach)


def _normal_quantile(mean: float, variance: float, freedom: float) -> float:
    """Compute the normal quantile of Welch's p-value, which is comparable whatever the freedom."""
    if variance == 0:
        return 0.0
    t = float(mean / np.sqrt(variance))
    z = -float(ndtri(stdtr(freedom, -abs(t))))
    return math.copysign(min(z, abs(t)), t)  # z is infinite if the p-value is 0


def _fieller(means: Vector, covariance: Vector, freedom: float) -> Range | None:
    """Divide the difference in outcomes by that in contact rates; None if the latter is not proven.

    Source: Bloom 1984 for the ratio; Fieller 1954 for its interval.
    """
    (difference, contact), t2 = means, stdtrit(freedom, 0.975) ** 2
    a = contact**2 - t2 * covariance[1, 1]
    if contact <= 0 or a <= 0:
        return None
    middle = difference * contact - t2 * covariance[0, 1]
    reach = np.sqrt(max(0.0, middle**2 - a * (difference**2 - t2 * covariance[0, 0])))
    low, high = (middle - reach) / a, (middle + reach) / a
    return Range(float(difference / contact), float(low), float(high))


def _estimate_money(arms: Arms, residual: Vector) -> dict[str, float] | None:
    """Estimate the value that contacts kept with the treated units whose value is known.

    Means of value * (outcome - risk) are compared, as shares of the largest value: squares of large
    ones are infinite. Welch's interval covers 94 to 98 % if values are lognormal with sigma 0.5 to 2 and
    75 or 300 units are controls; the percentiles of a bootstrap cover 89 to 95 %, a bootstrap-t 86 to
    94 %. None with fewer than `MIN_CONTROLS` controls of known value.
    """
    known = np.isfinite(arms.value)
    contrast = _contrast(arms.is_control[known], arms.share[known])
    if contrast is None or contrast.freedom.min() + 1 < MIN_CONTROLS:
        return None
    largest = float(np.abs(arms.value[known]).max()) or 1.0
    lost = (arms.value[known] / largest * residual[known])[:, None]
    means, covariance, freedom = _compare(lost, contrast)
    difference, low, high = np.array(_welch(means[0], covariance[0, 0], freedom)) * largest
    n = int((known & ~arms.is_control).sum())
    money = {"value": -n * difference, "low": -n * high, "high": -n * low}
    return {name: float(amount) for name, amount in money.items()} | {"clients": n}


def _exact_quantile(churned: NDArray[np.intp], n: NDArray[np.intp]) -> float:
    """Compute the normal quantile of the mid-p value of Fisher's exact test within each share.

    Under no effect at most 1.2 times as many z exceed a bound of a look as normal ones do (2 to 120
    units); 1.5 to 7 times as many if Newcombe's interval has to end before 0 at that bound, since it
    covers less if one arm is much smaller, at levels far above 95 %.

    Source: Lancaster 1961 for the mid-p value.
    """
    probability, observed = _distribute(churned, n)
    half = probability[observed] / 2
    more, fewer = probability[observed + 1 :].sum() + half, probability[:observed].sum() + half
    z = ndtri(max(min(more, fewer), sys.float_info.min))
    return float(z if more < fewer else -z)


def _distribute(churned: NDArray[np.intp], n: NDArray[np.intp]) -> tuple[Vector, int]:
    """Return the probability of each number of controls who churned, and the place of the observed one.

    Given how many units of each share churned, whatever their arms; churned, n: as `_count` returns them

    Source: Mehta, Patel and Gray 1985 for strata.
    """
    probability, observed = np.ones(1), 0
    for (hits, controls_hit), (treated, controls) in zip(churned, n, strict=True):
        m = hits + controls_hit
        k = np.arange(max(0, m - treated), min(controls, m) + 1)
        parts = (k, m - k, controls - k, treated - m + k)
        log = -np.sum([gammaln(part + 1) for part in parts], axis=0)
        ratios = np.exp(log - log.max())
        probability = np.convolve(probability, ratios / ratios.sum())
        observed += int(controls_hit - k[0])
    return probability, observed
