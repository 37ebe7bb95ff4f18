"""Has the input, the output or the truth moved? Significance and effect, both, at any size.

A column alarms only when a test that knows the number of rows says so (Benjamini-Hochberg over all
columns of the look) and the shift is large enough to matter. Constant thresholds on PSI or Wasserstein
alarm on every small batch; a p-value alone alarms on every large one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from attrition.modelling import metrics
from attrition.modelling.metrics import Vector

MIN_ROWS_FOR_DRIFT = 30
FALSE_DISCOVERY_RATE = 0.05
# The least effects of what is worth a look, and of what is large enough to act on.
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
WIDER = 1.3  # a cross-validated AUC spreads so much wider than its formula says: measured under no shift
LARGEST = 1e300


@dataclass(frozen=True)
class Column:
    """The verdict on one column: "stable", "look", "act" or "insufficient".

    `distance`: Wasserstein's between the distributions, in interquartile ranges of the reference.
    `unseen_pct`: rows with a level that the reference lacks; `points`: by how many percentage points
    missing values moved, or unseen ones exceed what is natural; `weight`: share of what the model uses.
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
    """The verdict on a batch: "stable", "moved" or "insufficient", and one sentence of it.

    `visible`: the mean shift of a column, in standard deviations, that would have been seen four times
    in five; `joint`: what all columns together say, where that was asked.
    """

    verdict: str
    rows: int
    sentence: str
    columns: tuple[Column, ...]
    visible: float | None = None
    joint: "Joint | None" = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "columns": [asdict(column) for column in self.columns]}


def smallest_visible_shift(rows: int, reference_rows: int, columns: int = 1) -> float:
    """Mean shift in standard deviations that a batch would show four times in five.

    Two-sided z-test at 5 %, shared by so many columns: 2.8 / sqrt(n) for one of them, widened by the
    reference's own noise.

    >>> round(smallest_visible_shift(100, 10_000), 2), round(smallest_visible_shift(100, 10_000, 20), 2)
    (0.28, 0.39)
    """
    z = stats.norm.isf(FALSE_DISCOVERY_RATE / 2 / columns) + stats.norm.ppf(0.8)
    return float(z * np.sqrt(1 / rows + 1 / reference_rows))


def psi(expected: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Population stability index between two histograms, without the part that is noise.

    Under no shift PSI has the mean (B-1)(1/n + 1/m); that is taken off. Half a count is added to each
    cell, so that an empty one does not make it infinite.

    Source: Yurdakul 2018; Potgieter et al., arXiv 2307.11878.

    >>> psi(np.array([500, 500]), np.array([50, 50]))
    0.0
    """
    m, n = expected.sum(), found.sum()
    a, b = (expected + 0.5) / (m + 0.5 * len(expected)), (found + 0.5) / (n + 0.5 * len(found))
    noise = (len(expected) - 1) * (1 / n + 1 / m)
    return max(0.0, float(np.sum((b - a) * np.log(b / a)) - noise))


def compare(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> DriftReport:
    """Hold a batch against the rows a model learned from, column by column.

    Both hold the features and SCORE, the model's own output, which is tested first and like any column.
    The batch has moved when the score has, when columns have that make up a tenth of what the model
    goes by (`weights`, adding up to 1; without them any column counts), or when a tenth of the rows
    have a level that the model never met.
    """
    n, m = len(batch), len(reference)
    if n < MIN_ROWS_FOR_DRIFT or m < MIN_ROWS_FOR_DRIFT:
        return DriftReport("insufficient", n, _too_few(n, m), ())
    kinds = [(SCORE, "score"), *((c, "numeric") for c in numeric)]
    kinds += [(name, "categorical") for name in categorical]
    found = []
    for name, kind in kinds:
        weight = None if weights is None or kind == "score" else weights.get(name, 0.0)
        figures = _levels if kind == "categorical" else _numbers
        found.append(
            {"column": name, "kind": kind, "weight": weight} | figures(reference[name], batch[name])
        )
    q_values = _benjamini_hochberg([figures["p_value"] for figures in found])
    judged = tuple(
        Column(**figures, q_value=q, verdict=_judge(figures, q))
        for figures, q in zip(found, q_values, strict=True)
    )
    visible = smallest_visible_shift(n, m, len(judged))
    verdict, sentence = _sum_up(judged)
    return DriftReport(
        verdict,
        n,
        f"{sentence} ({n:,} rows; shifts of {visible:.2f} SD or more would be detected)",
        judged,
        visible,
    )


def _too_few(n: int, m: int) -> str:
    if n == 0 or m == 0:
        return "nothing to compare"
    visible = smallest_visible_shift(n, m)
    return f"{n} rows are too few: only shifts of {visible:.1f} SD or more would be detected"


def _sum_up(judged: Sequence[Column]) -> tuple[str, str]:
    acted = [column for column in judged if column.verdict == "act"]
    looked = [column.column for column in judged if column.verdict == "look"]
    beside = f"; minor drift in {', '.join(looked)}" if looked else ""
    names = ", ".join(column.column for column in acted)
    share = sum(column.weight for column in acted if column.weight is not None)
    if any(_counts_alone(column) for column in acted) or share >= ACT_SHARE:
        return "moved", f"data has drifted: {names}{beside}"
    if acted:
        names = f"{names} drifted, but has little importance to the model"
        return "stable", f"no material drift in any important column: {names}{beside}"
    return "stable", f"no material drift in any column{beside}"


def _counts_alone(column: Column) -> bool:
    return column.weight is None or (column.unseen_pct or 0.0) >= ACT_POINTS


def _numbers(reference: pd.Series, batch: pd.Series) -> dict[str, Any]:
    """Compare order (Mann-Whitney), shape (chi-squared over the reference's deciles) and gaps.

    An infinite value counts as a very large one. The deciles are as many as hold ten rows of the batch
    each. A value that fills several of them is a bin of its own, so that a nearly constant column is
    seen to fall as well as to rise. Kolmogorov-Smirnov sees less of both.
    """
    a, b = _sorted_numbers(reference), _sorted_numbers(batch)
    gaps = _gaps(len(batch) - len(b), batch, len(reference) - len(a), reference)
    tests, effect, distance = [gaps.pop("p_value")], None, None
    if len(a) >= MIN_ROWS_FOR_DRIFT and len(b) >= MIN_ROWS_FOR_DRIFT:
        expected, found = _histograms(a, b)
        effect, distance = psi(expected, found), _distance(a, b)
        tests.append(_chi_squared(expected, found))
        tests.append(_mann_whitney(a, b))
    return gaps | {
        "p_value": _smallest(tests),
        "psi": effect,
        "distance": distance,
        "unseen_pct": None,
    }


def _sorted_numbers(values: pd.Series) -> NDArray[np.float64]:
    numbers = _as_numbers(values)
    return np.sort(numbers[~np.isnan(numbers)])


def _as_numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return numbers, what is none as NaN and infinite ones very large."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.clip(numbers, -LARGEST, LARGEST)


def _histograms(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count both in bins that hold equal shares of `a`; both sorted."""
    bins = min(BINS, min(len(a), len(b)) // ROWS_PER_BIN)
    cuts = a[(np.arange(1, bins) * len(a)) // bins]
    repeated = cuts[1:][np.diff(cuts) == 0]
    edges = np.unique(np.append(cuts, np.nextafter(repeated, -np.inf)))
    expected, found = (
        np.diff(np.searchsorted(x, edges, side="right"), prepend=0, append=len(x)) for x in (a, b)
    )
    filled = expected + found > 0
    return expected[filled], found[filled]


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Wasserstein's distance in interquartile ranges of `a`, over their percentiles; both sorted.

    None where the middle half of `a` is one value, or the distance no number that means anything.
    """
    at, of_batch = (x[(PERCENTILES * len(x)).astype(int)] for x in (a, b))
    spread = at[74] - at[24]
    if not 0 < spread < LARGEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        distance = float(np.mean(np.abs(of_batch / spread - at / spread)))
    return distance if np.isfinite(distance) else None


def _levels(reference: pd.Series, batch: pd.Series) -> dict[str, Any]:
    """Compare the shares of levels, the missing one among them, and those of levels never met.

    Levels too rare to count are pooled. A level is new by nature in a column of many: what is expected
    is the share of rows whose level the reference holds once only.

    Source: Good 1953, for the share of what was never met.
    """
    n, m = len(batch), len(reference)
    before, now = _count_levels(reference), _count_levels(batch)
    levels = sorted(before | now)
    counts = np.array([[side.get(level, 0) for level in levels] for side in (before, now)])
    unseen, once = int(counts[1, counts[0] == 0].sum()), int((counts[0] == 1).sum())
    is_common = counts.sum(axis=0) * min(n, m) / (n + m) >= LEAST_EXPECTED
    rare = counts[:, ~is_common].sum(axis=1, keepdims=True)
    pooled = np.hstack([counts[:, is_common], rare])
    expected, found = pooled[:, pooled.any(axis=0)]
    gaps = _gaps(now.get("", 0), batch, before.get("", 0), reference)
    tests = [gaps.pop("p_value"), _chi_squared(expected, found), _two_shares(unseen, n, once, m)]
    return gaps | {
        "p_value": _smallest(tests),
        "psi": psi(expected, found),
        "distance": None,
        "unseen_pct": 100 * unseen / n,
        "points": max(gaps["points"], 100 * (unseen / n - once / m)),
    }


def _count_levels(values: pd.Series) -> dict[str, int]:
    number, levels = _number_levels(values)
    return dict(zip(levels, np.bincount(number, minlength=len(levels)).tolist(), strict=True))


def _number_levels(values: pd.Series) -> tuple[NDArray[np.intp], list[str]]:
    """Return the number of each row's level, and the levels as text, a missing one as ""."""
    try:
        number, levels = pd.factorize(values)
    except TypeError:  # a level that has no hash, such as a list
        number, levels = pd.factorize(values.map(str, na_action="ignore"))
    texts = np.array([*map(str, levels), ""], dtype=object)  # "": number -1, what is missing
    of_text, distinct = pd.factorize(texts)
    return of_text[number], list(distinct)


def _gaps(hits: int, batch: pd.Series, hits_before: int, reference: pd.Series) -> dict[str, Any]:
    """Compare the shares of missing values."""
    pct, pct_before = 100 * hits / len(batch), 100 * hits_before / len(reference)
    return {
        "p_value": _two_shares(hits, len(batch), hits_before, len(reference)),
        "missing_pct": pct,
        "reference_missing_pct": pct_before,
        "points": abs(pct - pct_before),
    }


def _smallest(p_values: Sequence[float | None]) -> float | None:
    """Return the smallest of several p-values of one column, corrected for their number."""
    known = [p for p in p_values if p is not None]
    return min(1.0, min(known) * len(known)) if known else None


def _chi_squared(
    expected: NDArray[np.int64], found: NDArray[np.int64], correction: float = 0.0
) -> float | None:
    """Pearson's test of two rows of counts; `correction`: Yates', half a count in a table of four."""
    if len(expected) < 2:
        return None
    table = np.array([expected, found], dtype="float64")
    fitted = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    off = np.maximum(np.abs(table - fitted) - correction, 0.0)
    return float(special.chdtrc(len(expected) - 1, np.sum(off**2 / fitted)))


def _mann_whitney(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Mann and Whitney's two-sided test by its normal approximation; both sorted. None if all are equal.

    As scipy.stats.mannwhitneyu, at a tenth of the cost on sorted values.
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
    return float(min(1.0, 2 * special.ndtr(-off / np.sqrt(variance))))


def _two_shares(hits: int, n: int, hits_before: int, m: int) -> float | None:
    """Two-proportion test, exact where counts are small; None where neither side has any, or all."""
    if hits + hits_before in (0, n + m):
        return None
    table = np.array([[hits_before, m - hits_before], [hits, n - hits]])
    if table.sum(axis=0).min() * min(n, m) / (n + m) < LEAST_EXPECTED_INEXACT:
        return float(stats.fisher_exact(table).pvalue)
    return _chi_squared(table[0], table[1], correction=0.5)


def _benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Return q-values; columns without a test keep none.

    Source: Benjamini and Hochberg 1995.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    if not tested:
        return [None] * len(p_values)
    adjusted = stats.false_discovery_control([p_values[i] for i in tested])
    found: list[float | None] = [None] * len(p_values)
    for i, q in zip(tested, adjusted, strict=True):
        found[i] = float(q)
    return found


def _judge(found: Mapping[str, Any], q_value: float | None) -> str:
    effects = (found["psi"] or 0.0, found["distance"] or 0.0, found["points"])
    if q_value is None:
        return "insufficient"
    if q_value > FALSE_DISCOVERY_RATE:
        return "stable"
    if _reaches(effects, (ACT_PSI, ACT_DISTANCE, ACT_POINTS)):
        return "act"
    return "look" if _reaches(effects, (LOOK_PSI, LOOK_DISTANCE, LOOK_POINTS)) else "stable"


def _reaches(effects: Sequence[float], limits: Sequence[float]) -> bool:
    return any(effect >= limit for effect, limit in zip(effects, limits, strict=True))


# ---- all columns together


@dataclass(frozen=True)
class Joint:
    """Whether rows can be told from those of the reference by all columns together: "stable", "moved"
    or "insufficient"; `columns`: those that tell more than an even share, each with its share of it."""

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
) -> Joint:
    """Train a classifier to tell a batch from the reference, and see whether it can.

    This finds what no column shows alone, such as two that now rise together. Moved when the ROC AUC
    of rows out of fold lies three of its standard errors under no shift above 0.5, and is 0.53 at
    least. At most 2,500 rows of the batch are used, so that no shift too small to matter is significant,
    and 10,000 of the reference, whose own noise is the same for batch after batch.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    n = min(len(batch), JOINT_ROWS)
    m = min(len(reference), JOINT_REFERENCE_ROWS)
    names = [*numeric, *categorical]
    if min(n, m) < MIN_ROWS_FOR_JOINT_DRIFT or not names:
        sentence = f"{min(n, m)} rows are too few to compare all columns jointly"
        return Joint(
            "insufficient", n, None, None, (), f"{sentence} (at least {MIN_ROWS_FOR_JOINT_DRIFT})"
        )
    rows = pd.concat(
        [reference.sample(m, random_state=0), batch.sample(n, random_state=0)], ignore_index=True
    )
    is_new = np.r_[np.zeros(m), np.ones(n)]
    likely, gain = tell_apart(rows, is_new, numeric, categorical)
    auc = float(metrics.roc_auc(is_new, likely).value or 0.5)
    z = z_of_auc(auc, m, n)
    shares = gain / (gain.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")[:JOINT_NAMED]
    drivers = tuple((names[i], float(shares[i])) for i in order if shares[i] >= 1 / len(names))
    if z > JOINT_Z and auc >= LEAST_JOINT_AUC:
        told = ", ".join(name for name, _ in drivers)
        sentence = f"jointly, the columns have drifted (ROC AUC {auc:.2f}), most of all {told}"
        return Joint("moved", n, auc, z, drivers, sentence)
    sentence = f"jointly, the columns have not drifted (ROC AUC {auc:.2f})"
    return Joint("stable", n, auc, z, drivers, sentence)


def z_of_auc(auc: float, m: int, n: int) -> float:
    """Return how many standard errors under no shift an AUC of m rows against n lies above 0.5."""
    return (auc - 0.5) / (WIDER * float(np.sqrt((n + m + 1) / (12 * n * m))))


def tell_apart(
    rows: pd.DataFrame, is_new: Vector, numeric: Sequence[str], categorical: Sequence[str]
) -> tuple[Vector, Vector]:
    """Learn to tell new rows from the others, in three folds.

    Returns: (n,) probability out of fold that a row is new; (n_columns,) what each column adds to that.
    """
    X = _encode(rows, numeric, categorical)
    likely, gain = np.empty(len(X)), np.zeros(X.shape[1])
    with threadpool_limits(1):
        for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, is_new):
            model = HistGradientBoostingClassifier(
                learning_rate=0.1,
                max_iter=60,
                max_leaf_nodes=6,
                early_stopping=False,
                random_state=0,
            ).fit(X[train], is_new[train])
            likely[test] = model.predict_proba(X[test])[:, 1]
            for (tree,) in model._predictors:  # its only way to the trees
                split = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gain, split["feature_idx"], split["gain"])
    return likely, gain


def _encode(
    rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> NDArray[np.float64]:
    """Numbers as they are, a column without any as nought; levels numbered by how frequent they are."""
    found = []
    for name in numeric:
        numbers = _as_numbers(rows[name])
        found.append(np.zeros(len(rows)) if np.isnan(numbers).all() else numbers)
    for name in categorical:
        number, levels = _number_levels(rows[name])
        counts = np.bincount(number, minlength=len(levels))
        order = sorted(range(len(levels)), key=lambda i: (-counts[i], levels[i]))
        found.append(np.argsort(order)[number].astype("float64"))
    return np.column_stack(found)


# ---- both


def examine(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> DriftReport:
    """Hold a batch against the reference column by column, then by all columns together.

    What shows only in all together has moved the batch when the columns that tell most are among those
    that the model goes by.
    """
    look = compare(reference, batch, numeric, categorical, weights)
    joint = compare_jointly(reference, batch, numeric, categorical)
    share = 1.0 if weights is None else sum(weights.get(name, 0.0) for name, _ in joint.columns)
    if joint.verdict != "moved" or look.verdict == "insufficient" or share < ACT_SHARE:
        return replace(look, joint=joint)
    return replace(
        look, verdict="moved", sentence=f"{look.sentence}; {joint.sentence}", joint=joint
    )


def compare_clients(
    reference: pd.DataFrame, clients: pd.DataFrame, risk: Vector, training: Mapping[str, Any]
) -> DriftReport:
    """Compare clients with the reference rows of a release, their predicted risk included.

    risk: (n_clients,) float in [0, 1], of that release's model; training: its training record
    """
    features, importance = training["features"], training["importance"]
    return examine(
        reference,
        clients.assign(**{SCORE: risk}),
        features["numeric"],
        features["categorical"],
        importance if any(importance.values()) else None,  # a base rate relies on no column
    )
