"""Detect data drift in the features and the predicted risk, by significance and size of the shift.

A column is flagged only if a test is significant (Benjamini-Hochberg over all columns of the batch) and
if the shift is large enough to matter. Constant thresholds on PSI or Wasserstein distance flag every
small batch; a p-value alone flags every large one.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attrition import wording
from attrition.modelling import metrics
from attrition.modelling.metrics import Vector
from attrition.monitoring import significance

MIN_ROWS_FOR_DRIFT = 30
FALSE_DISCOVERY_RATE = 0.05
# The smallest effects of minor drift (look) and of material drift (act).
LOOK_PSI, ACT_PSI = 0.02, 0.10
LOOK_DISTANCE, ACT_DISTANCE = 0.075, 0.25  # a normal column moved by 0.1 and 0.34 SD
LOOK_POINTS, ACT_POINTS = 2.0, 10.0
ACT_SHARE = 0.1
BINS, ROWS_PER_BIN = 10, 10
PERCENTILES = np.linspace(0.005, 0.995, 100)
LEAST_EXPECTED, LEAST_EXPECTED_INEXACT = 5, 20
SCORE = "predicted risk"

JOINT_ROWS, JOINT_REFERENCE_ROWS, MIN_ROWS_FOR_JOINT_DRIFT, JOINT_NAMED = 2500, 10_000, 100, 5
JOINT_Z, LEAST_JOINT_AUC = 3.0, 0.53
# How much wider a cross-validated AUC spreads than its formula, measured without a shift.
WIDER = 1.3
LARGEST = 1e300

MIN_DAYS_FOR_TREND, TREND_LEVELS = 3, np.linspace(0.05, 0.95, 10)
TREND_P_VALUE, EXPECTED_TREND_P_VALUE = 0.01, 0.05


@dataclass(frozen=True)
class ColumnDrift:
    """The drift of one column; its verdict is "stable", "look", "act" or "insufficient".

    `distance`: Wasserstein distance in interquartile ranges of the reference. `unseen_pct`: rows with a
    category that the reference lacks. `points`: by how many percentage points missing values changed, or
    new categories exceed the expected share. `weight`: the column's share of the feature importance.
    """

    column: str
    kind: str
    p_value: float | None
    q_value: float | None
    psi: float | None
    distance: float | None
    missing_pct: float
    reference_missing_pct: float
    unseen_pct: float | None
    points: float
    weight: float | None
    verdict: str


@dataclass(frozen=True)
class DriftReport:
    """The drift of a batch; its verdict is "stable", "moved" or "insufficient".

    `visible`: the mean shift of a column, in standard deviations, that would be detected four times in
    five; `joint`: the drift of all columns jointly, None if it was not tested.
    """

    verdict: str
    rows: int
    sentence: str
    columns: tuple[ColumnDrift, ...]
    visible: float | None = None
    joint: "JointDrift | None" = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "columns": [asdict(column) for column in self.columns]}


def smallest_visible_shift(rows: int, reference_rows: int, columns: int = 1) -> float:
    """Compute the mean shift, in standard deviations, that is detected four times in five.

    Two-sided z-test at 5 %, Bonferroni-corrected for the number of columns: 2.8 / sqrt(n) for one
    column, plus the sampling noise of the reference.

    >>> round(smallest_visible_shift(100, 10_000), 2), round(smallest_visible_shift(100, 10_000, 20), 2)
    (0.28, 0.39)
    """
    z = metrics.normal_isf(FALSE_DISCOVERY_RATE / 2 / columns) + metrics.normal_isf(0.2)
    return float(z * np.sqrt(1 / rows + 1 / reference_rows))


def psi(expected: NDArray[np.int64], observed: NDArray[np.int64]) -> float:
    """Compute the population stability index of two histograms, corrected for sampling noise.

    expected, observed: (n_bins,) counts of the reference and of the batch. Without a shift PSI has the
    mean (B-1)(1/n + 1/m), which is subtracted. Half a count is added to each bin, so that the index is
    finite if a bin is empty.

    Source: Yurdakul 2018; Potgieter et al., arXiv 2307.11878.

    >>> psi(np.array([500, 500]), np.array([50, 50]))
    0.0
    """
    m, n = expected.sum(), observed.sum()
    bins = len(expected)
    a, b = (expected + 0.5) / (m + 0.5 * bins), (observed + 0.5) / (n + 0.5 * bins)
    noise = (bins - 1) * (1 / n + 1 / m)
    return max(0.0, float(np.sum((b - a) * np.log(b / a)) - noise))


def compare_columns(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> DriftReport:
    """Compare a batch with the training rows of a model, column by column.

    Both frames have the features and SCORE, the predicted risk, which is tested first. The batch has
    drifted if the predicted risk has, if drifted columns make up a tenth of the feature importance
    (`weights`, adding up to 1; if there are none, any column counts), or if a tenth of the rows have a
    category that never occurred in training.
    """
    n, m = len(batch), len(reference)
    if n < MIN_ROWS_FOR_DRIFT or m < MIN_ROWS_FOR_DRIFT:
        return DriftReport("insufficient", n, _too_few(n, m), ())
    kinds = [(SCORE, "score"), *((c, "numeric") for c in numeric)]
    kinds += [(name, "categorical") for name in categorical]
    rows = []
    for name, kind in kinds:
        weight = None if weights is None or kind == "score" else weights.get(name, 0.0)
        compare = _compare_categories if kind == "categorical" else _compare_numbers
        figures = compare(reference[name], batch[name])
        rows.append({"column": name, "kind": kind, "weight": weight} | figures)
    q_values = _benjamini_hochberg([row["p_value"] for row in rows])
    columns = tuple(
        ColumnDrift(**row, q_value=q, verdict=_column_verdict(row, q))
        for row, q in zip(rows, q_values, strict=True)
    )
    visible = smallest_visible_shift(n, m, len(columns))
    verdict, sentence = _summarise_columns(columns)
    sentence += f" ({n:,} rows; shifts of {visible:.2f} SD or more would be detected)"
    return DriftReport(verdict, n, sentence, columns, visible)


def _too_few(n: int, m: int) -> str:
    if n == 0 or m == 0:
        return "nothing to compare"
    visible = smallest_visible_shift(n, m)
    rows = "1 row is" if n == 1 else f"{n} rows are"
    return f"{rows} too few: only shifts of {visible:.1f} SD or more would be detected"


def _summarise_columns(columns: Sequence[ColumnDrift]) -> tuple[str, str]:
    material = [column for column in columns if column.verdict == "act"]
    minor = [column.column for column in columns if column.verdict == "look"]
    beside = f"; minor drift in {', '.join(minor)}" if minor else ""
    names = ", ".join(column.column for column in material)
    share = sum(column.weight for column in material if column.weight is not None)
    if any(_counts_alone(column) for column in material) or share >= ACT_SHARE:
        return "moved", f"data has drifted: {names}{beside}"
    if material:
        names = f"{names} drifted, but has little importance to the model"
        return "stable", f"no material drift in any important column: {names}{beside}"
    return "stable", f"no material drift in any column{beside}"


def _counts_alone(column: ColumnDrift) -> bool:
    return column.weight is None or (column.unseen_pct or 0.0) >= ACT_POINTS


def _compare_numbers(reference: pd.Series, batch: pd.Series) -> dict[str, Any]:
    """Compare order (Mann-Whitney), shape (chi-squared over quantile bins) and missing values.

    An infinite value counts as a very large one. There are up to ten bins, fewer if a bin would contain
    less than ten rows of the batch. If one value fills several bins, it gets a bin of its own, so that a
    nearly constant column can fall as well as rise. Kolmogorov-Smirnov has less power for both.
    """
    a, b = _sorted_numbers(reference), _sorted_numbers(batch)
    missing = _test_missing(len(batch) - len(b), batch, len(reference) - len(a), reference)
    tests, effect, distance = [missing.pop("p_value")], None, None
    if len(a) >= MIN_ROWS_FOR_DRIFT and len(b) >= MIN_ROWS_FOR_DRIFT:
        expected, observed = _histograms(a, b)
        effect, distance = psi(expected, observed), _distance(a, b)
        tests.append(_chi_squared(expected, observed))
        tests.append(_mann_whitney(a, b))
    return missing | {
        "p_value": _smallest(tests),
        "psi": effect,
        "distance": distance,
        "unseen_pct": None,
    }


def _sorted_numbers(values: pd.Series) -> NDArray[np.float64]:
    numbers = _as_numbers(values)
    return np.sort(numbers[~np.isnan(numbers)])


def _as_numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return numbers: NaN if a value is not a number, a very large one if it is infinite."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.clip(numbers, -LARGEST, LARGEST)


def _histograms(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count both in bins with equal shares of `a`; both sorted."""
    bins = min(BINS, min(len(a), len(b)) // ROWS_PER_BIN)
    cuts = a[(np.arange(1, bins) * len(a)) // bins]
    repeated = cuts[1:][np.diff(cuts) == 0]
    edges = np.unique(np.append(cuts, np.nextafter(repeated, -np.inf)))
    expected, observed = (
        np.diff(np.searchsorted(x, edges, side="right"), prepend=0, append=len(x)) for x in (a, b)
    )
    filled = expected + observed > 0
    return expected[filled], observed[filled]


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Compute the Wasserstein distance in interquartile ranges of `a`, from percentiles; both sorted.

    None if the middle half of `a` is one value or if the distance is not finite.
    """
    at, of_batch = (x[(PERCENTILES * len(x)).astype(int)] for x in (a, b))
    spread = at[74] - at[24]
    if not 0 < spread < LARGEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        distance = float(np.mean(np.abs(of_batch / spread - at / spread)))
    return distance if np.isfinite(distance) else None


def _compare_categories(reference: pd.Series, batch: pd.Series) -> dict[str, Any]:
    """Compare the shares of categories, a missing value included, and the share of new categories.

    Rare categories are pooled. If a column has many categories, some are always new: the expected share
    is that of the reference rows whose category occurs only once.

    Source: Good 1953, "The population frequencies of species", for the share of new categories.
    """
    n, m = len(batch), len(reference)
    before, now = _count_categories(reference), _count_categories(batch)
    names = sorted(before | now)
    counts = np.array([[side.get(name, 0) for name in names] for side in (before, now)])
    unseen, once = int(counts[1, counts[0] == 0].sum()), int((counts[0] == 1).sum())
    is_common = counts.sum(axis=0) * min(n, m) / (n + m) >= LEAST_EXPECTED
    rare = counts[:, ~is_common].sum(axis=1, keepdims=True)
    pooled = np.hstack([counts[:, is_common], rare])
    expected, observed = pooled[:, pooled.any(axis=0)]
    missing = _test_missing(now.get("", 0), batch, before.get("", 0), reference)
    tests = [_chi_squared(expected, observed), _compare_shares(unseen, n, once, m)]
    tests.append(missing.pop("p_value"))
    return missing | {
        "p_value": _smallest(tests),
        "psi": psi(expected, observed),
        "distance": None,
        "unseen_pct": 100 * unseen / n,
        "points": max(missing["points"], 100 * (unseen / n - once / m)),
    }


def _count_categories(values: pd.Series) -> dict[str, int]:
    codes, names = _encode_categories(values)
    return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))


def _encode_categories(values: pd.Series) -> tuple[NDArray[np.intp], list[str]]:
    """Return the code of each row's category, and the categories as text, "" if it is missing."""
    try:
        codes, categories = pd.factorize(values)
    except TypeError:  # a value that has no hash, such as a list
        codes, categories = pd.factorize(values.map(str, na_action="ignore"))
    texts = np.array([*map(str, categories), ""], dtype=object)  # "": code -1, a missing value
    of_text, names = pd.factorize(texts)
    return of_text[codes], list(names)


def _test_missing(
    hits: int, batch: pd.Series, hits_before: int, reference: pd.Series
) -> dict[str, Any]:
    """Compare the shares of missing values."""
    pct, pct_before = 100 * hits / len(batch), 100 * hits_before / len(reference)
    return {
        "p_value": _compare_shares(hits, len(batch), hits_before, len(reference)),
        "missing_pct": pct,
        "reference_missing_pct": pct_before,
        "points": abs(pct - pct_before),
    }


def _smallest(p_values: Sequence[float | None]) -> float | None:
    """Return the smallest p-value of one column, Bonferroni-corrected; None if there is none."""
    tested = [p for p in p_values if p is not None]
    return min(1.0, min(tested) * len(tested)) if tested else None


def _chi_squared(
    expected: NDArray[np.int64], observed: NDArray[np.int64], correction: float = 0.0
) -> float | None:
    """Compute the p-value of Pearson's test; `correction` is Yates', 0.5 if there are four cells."""
    if len(expected) < 2:
        return None
    table = np.array([expected, observed], dtype="float64")
    fitted = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    off = np.maximum(np.abs(table - fitted) - correction, 0.0)
    return significance.chi_squared(float(np.sum(off**2 / fitted)), len(expected) - 1)


def _mann_whitney(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Compute the two-sided p-value of Mann and Whitney's test; both sorted; None if all are equal.

    Normal approximation, as in scipy.stats.mannwhitneyu, at a tenth of the cost if values are sorted.
    """
    n, m = len(a), len(b)
    both = np.sort(np.concatenate([a, b]), kind="stable")
    ends = np.flatnonzero(np.diff(both, append=np.inf))
    tied = np.diff(ends, prepend=-1).astype("float64")
    below = np.searchsorted(a, b, side="left") + np.searchsorted(a, b, side="right")
    variance = n * m / 12 * (n + m + 1 - np.sum(tied**3 - tied) / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return None
    off = np.abs(below.sum() / 2 - n * m / 2) - 0.5
    return min(1.0, 2 * metrics.normal_sf(float(off / np.sqrt(variance))))


def _compare_shares(hits: int, n: int, hits_before: int, m: int) -> float | None:
    """Compute the p-value of a two-proportion test, exact if counts are small; None if all are equal."""
    if hits + hits_before in (0, n + m):
        return None
    table = np.array([[hits_before, m - hits_before], [hits, n - hits]])
    if table.sum(axis=0).min() * min(n, m) / (n + m) < LEAST_EXPECTED_INEXACT:
        return significance.fisher_exact(hits, n, hits_before, m)
    return _chi_squared(table[0], table[1], correction=0.5)


def _benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Compute q-values; None if a column was not tested."""
    tested = [i for i, p in enumerate(p_values) if p is not None]
    if not tested:
        return [None] * len(p_values)
    adjusted = significance.benjamini_hochberg([p for p in p_values if p is not None])
    q_values: list[float | None] = [None] * len(p_values)
    for i, q in zip(tested, adjusted, strict=True):
        q_values[i] = float(q)
    return q_values


def _column_verdict(figures: Mapping[str, Any], q_value: float | None) -> str:
    effects = (figures["psi"] or 0.0, figures["distance"] or 0.0, figures["points"])
    if q_value is None:
        return "insufficient"
    if q_value > FALSE_DISCOVERY_RATE:
        return "stable"
    if _reaches(effects, (ACT_PSI, ACT_DISTANCE, ACT_POINTS)):
        return "act"
    return "look" if _reaches(effects, (LOOK_PSI, LOOK_DISTANCE, LOOK_POINTS)) else "stable"


def _reaches(effects: Sequence[float], limits: Sequence[float]) -> bool:
    return any(effect >= limit for effect, limit in zip(effects, limits, strict=True))


# ---- all columns jointly


@dataclass(frozen=True)
class JointDrift:
    """The drift of all columns jointly: "stable", "moved" or "insufficient"; `columns`: those with more
    than an equal share of the classifier's gain, each with its share."""

    verdict: str
    rows: int
    roc_auc: float | None
    z: float | None
    columns: tuple[tuple[str, float], ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_jointly(
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> JointDrift:
    """Train a classifier to separate a batch from the reference, and test its ROC AUC.

    It detects drift that no single column shows, such as a new correlation. The verdict is "moved" if
    the out-of-fold ROC AUC is at least 0.53 and more than three standard errors above 0.5. At most
    2,500 rows of the batch are used, so that no irrelevant shift is significant, and 10,000 of the
    reference, whose sampling noise is the same for every batch.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    n = min(len(batch), JOINT_ROWS)
    m = min(len(reference), JOINT_REFERENCE_ROWS)
    names = [*numeric, *categorical]
    if min(n, m) < MIN_ROWS_FOR_JOINT_DRIFT or not names:
        smaller = "1 row is" if min(n, m) == 1 else f"{min(n, m)} rows are"
        sentence = f"{smaller} too few to compare all columns jointly"
        sentence += f" (at least {MIN_ROWS_FOR_JOINT_DRIFT})"
        return JointDrift("insufficient", n, None, None, (), sentence)
    samples = reference.sample(m, random_state=0), batch.sample(n, random_state=0)
    rows = pd.concat(samples, ignore_index=True)
    in_batch = np.r_[np.zeros(m), np.ones(n)]
    probability, gain = classify_rows(rows, in_batch, numeric, categorical)
    auc = float(metrics.roc_auc(in_batch, probability).value or 0.5)
    z = z_of_auc(auc, m, n)
    shares = gain / (gain.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")[:JOINT_NAMED]
    drivers = tuple((names[i], float(shares[i])) for i in order if shares[i] >= 1 / len(names))
    if z > JOINT_Z and auc >= LEAST_JOINT_AUC:
        most = ", ".join(name for name, _ in drivers)
        sentence = f"jointly, the columns have drifted (ROC AUC {auc:.2f}), most of all {most}"
        return JointDrift("moved", n, auc, z, drivers, sentence)
    sentence = f"jointly, the columns have not drifted (ROC AUC {auc:.2f})"
    return JointDrift("stable", n, auc, z, drivers, sentence)


def z_of_auc(auc: float, m: int, n: int) -> float:
    """Compute how many standard errors (without a shift) an AUC of m rows and n rows is above 0.5.

    >>> round(z_of_auc(0.55, 1000, 1000), 2)
    2.98
    """
    return (auc - 0.5) / (WIDER * float(np.sqrt((n + m + 1) / (12 * n * m))))


def classify_rows(
    rows: pd.DataFrame, in_batch: Vector, numeric: Sequence[str], categorical: Sequence[str]
) -> tuple[Vector, Vector]:
    """Fit a classifier that separates a batch (`in_batch` is 1) from the reference, in three folds.

    Returns: (n,) out-of-fold probability that a row is of the batch; (n_columns,) gain of each column.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    X = _encode(rows, numeric, categorical)
    probability, gain = np.empty(len(X)), np.zeros(X.shape[1])
    with threadpool_limits(1):
        for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, in_batch):
            model = HistGradientBoostingClassifier(
                learning_rate=0.1,
                max_iter=60,
                max_leaf_nodes=6,
                early_stopping=False,
                random_state=0,
            ).fit(X[train], in_batch[train])
            probability[test] = model.predict_proba(X[test])[:, 1]
            for (tree,) in model._predictors:  # its only way to the trees
                split = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gain, split["feature_idx"], split["gain"])
    return probability, gain


def _encode(
    rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> NDArray[np.float64]:
    """Encode numbers as they are (0 if a column has none), and categories by frequency."""
    encoded = []
    for name in numeric:
        numbers = _as_numbers(rows[name])
        encoded.append(np.zeros(len(rows)) if np.isnan(numbers).all() else numbers)
    for name in categorical:
        codes, names = _encode_categories(rows[name])
        counts = np.bincount(codes, minlength=len(names))
        order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))
        encoded.append(np.argsort(order)[codes].astype("float64"))
    return np.column_stack(encoded)


# ---- columns that age


def follow_trends(
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], time: str
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Age both frames to the time of the batch, along the trends of the reference.

    A column is aged only if the batch is then closer to the reference, by PSI and by distance. So no
    trend raises an alarm if it has ended or was none. Aged values are rounded to values that occur,
    because a fraction would reveal which rows were aged. The time of the batch is its median time; a row
    without a time counts as of the median time of its frame.

    If a column ages, the predicted risk is expected to, so p < 0.05 is enough for its trend.

    Returns: both frames, and the mean change a month of each column that was aged (of the predicted
    risk: of its log-odds).
    """
    frames = (reference.copy(), batch.copy())
    trends: dict[str, float] = {}
    months = [_months(frame[time]) for frame in frames]
    if min(map(len, frames)) < MIN_ROWS_FOR_DRIFT or any(np.isnan(one).all() for one in months):
        return *frames, trends
    now = np.median(months[1])
    for name in (*numeric, SCORE):
        values = [_as_numbers(frame[name]) for frame in frames]
        scaled = [metrics.log_odds(one) for one in values] if name == SCORE else values
        is_expected = name == SCORE and bool(trends)
        limit = EXPECTED_TREND_P_VALUE if is_expected else TREND_P_VALUE
        slopes = fit_trend(months[0], scaled[0], limit)
        if slopes is None:
            continue
        aged = [_age(x, at, slopes, now) for x, at in zip(scaled, months, strict=True)]
        aged = [metrics.expit(x) for x in aged] if name == SCORE else aged
        aged = _round_to_values(aged, np.concatenate(values))
        if _is_closer(aged, values):
            trends[name] = float(slopes.mean())
            for frame, numbers in zip(frames, aged, strict=True):
                frame[name] = numbers
    return *frames, trends


def _months(times: pd.Series) -> Vector:
    """Return times as months and parts of a month, to the day; all of them NaN if no time is known."""
    day = pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce").dt
    months = 12 * day.year + day.month + (day.day - 1) / day.days_in_month
    return np.asarray(months.fillna(months.median()), dtype="float64")


def fit_trend(months: Vector, values: Vector, limit: float = TREND_P_VALUE) -> Vector | None:
    """Fit the linear trend of a column over time; None if it has none that is significant.

    months, values: (n,) float, NaN if a value is missing. Ten quantiles of each day are regressed on
    time, and their slopes on the quantile: if new clients arrive while the others age, the upper
    quantiles rise more than the lower ones. The t-test is that of the mean of the quantiles of each day:
    whatever all rows of a day have in common counts as noise, and a panel of the same clients shows its
    trend within a few months. With `limit` 0.01, one column in a hundred has a trend by chance.

    Returns: (10,) the slopes at the quantiles, in units of the column a month, 0 if against the mean
    slope; None if there are fewer than three days.

    >>> fit_trend(np.repeat([0.0, 1, 2], 2), np.array([1.0, 3, 4, 6, 7, 9])).round(3)[::9].tolist()
    [3.0, 3.0]
    """
    known = ~np.isnan(values)
    day, place, rows = np.unique(months[known], return_inverse=True, return_counts=True)
    if len(day) < MIN_DAYS_FOR_TREND:
        return None
    with np.errstate(all="ignore"):  # infinite values have no trend
        by_day = pd.Series(values[known]).groupby(place)
        quantiles = by_day.quantile(TREND_LEVELS).to_numpy().reshape(len(day), -1)
        x = day - np.average(day, weights=rows)
        slopes = (rows * x) @ quantiles / (rows @ x**2)
        mean, slope, freedom = quantiles.mean(axis=1), slopes.mean(), len(day) - 2
        residual = mean - np.average(mean, weights=rows) - slope * x
        error = np.sqrt(rows @ residual**2 / freedom / (rows @ x**2))
        p_value = significance.student_t(float(slope / error), freedom)
    if not p_value < limit:
        return None
    fitted = np.polyval(np.polyfit(TREND_LEVELS, slopes, 1), TREND_LEVELS)
    return np.where(fitted * slope > 0, fitted, 0.0)


def _age(values: Vector, months: Vector, slopes: Vector, now: float) -> Vector:
    """Move each value from its time to `now`, by the slope at its rank among the rows of its day."""
    rank = pd.Series(values).groupby(months).rank(pct=True).to_numpy()
    return np.asarray(values + np.interp(rank, TREND_LEVELS, slopes) * (now - months))


def _round_to_values(frames: Sequence[Vector], occurring: Vector) -> list[Vector]:
    known = np.unique(occurring[~np.isnan(occurring)])
    middles = (known[1:] + known[:-1]) / 2
    return [np.where(np.isnan(x), x, known[np.searchsorted(middles, x)]) for x in frames]


def _is_closer(aged: Sequence[Vector], values: Sequence[Vector]) -> bool:
    now, before = (_compare_numbers(*map(pd.Series, pair)) for pair in (aged, values))
    if now["psi"] is None or now["psi"] >= before["psi"]:
        return False
    return now["distance"] is None or now["distance"] <= (before["distance"] or 0.0)


def _describe_trend(name: str, slope: float) -> str:
    unit = "log-odds " if name == SCORE else ""
    change = "+" * (slope > 0) + wording.amount(slope)
    return f"{name}: compared along its trend, {unit}{change} a month"


# ---- each column, then all jointly


def detect_drift(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    weights: Mapping[str, float] | None = None,
    ageing: Container[str] = (),
) -> DriftReport:
    """Compare a batch with the reference column by column, then by all columns jointly.

    If only the joint test detects drift, the batch has drifted if the columns that separate it best make
    up a tenth of the feature importance. Columns in `ageing` are not in the joint test: as clients age,
    these columns change in relation to the others too.
    """
    report = compare_columns(reference, batch, numeric, categorical, weights)
    steady = [name for name in numeric if name not in ageing]
    joint = compare_jointly(reference, batch, steady, categorical)
    share = 1.0 if weights is None else sum(weights.get(name, 0.0) for name, _ in joint.columns)
    if joint.verdict != "moved" or report.verdict == "insufficient" or share < ACT_SHARE:
        return replace(report, joint=joint)
    sentence = f"{report.sentence}; {joint.sentence}"
    return replace(report, verdict="moved", sentence=sentence, joint=joint)


def compare_clients(
    reference: pd.DataFrame,
    clients: pd.DataFrame,
    risk: Vector,
    training: Mapping[str, Any],
    time: str | None = None,
) -> DriftReport:
    """Compare clients with the reference rows of a release, their predicted risk included.

    risk: (n_clients,) float in [0, 1], of that release's model; training: its training record; time:
    the column of times, if there is one. If a column ages, the clients have drifted only if they have
    both along its trend and without it, so that no trend raises an alarm.
    """
    features, importance = training["features"], training["importance"]
    numeric = features["numeric"]
    weights = importance if any(importance.values()) else None  # a base rate uses no column
    clients = clients.assign(**{SCORE: risk})
    trends: dict[str, float] = {}
    if time and time in reference:
        reference, clients, trends = follow_trends(reference, clients, numeric, time)
    report = detect_drift(
        reference, clients, numeric, features["categorical"], weights, ageing=trends
    )
    along = [_describe_trend(name, slope) for name, slope in trends.items()]
    return replace(report, sentence="; ".join([report.sentence, *along]))
