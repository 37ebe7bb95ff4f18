"""Has the input, the output or the truth moved? Significance and effect, both, at any size.

A column alarms only when a test that knows the number of rows says so (Benjamini-Hochberg over all
columns of the look) and the shift is large enough to matter. Constant thresholds on PSI or Wasserstein
alarm on every small batch; a p-value alone alarms on every large one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from attrition import metrics
from attrition.metrics import Interval, Vector

LEAST_ROWS = 30
FALSE_DISCOVERY_RATE = 0.05
LOOK_PSI, ACT_PSI = 0.02, 0.10
LOOK_MISSING_POINTS, ACT_MISSING_POINTS = 2.0, 10.0
BINS = 10
LEAST_EXPECTED = 5
SCORE = "predicted risk"

JOINT_ROWS, LEAST_JOINT_ROWS, JOINT_NAMED = 2500, 100, 5
JOINT_Z, LEAST_JOINT_AUC = 3.0, 0.53
LARGEST = 1e300

LEAST_LABELLED, LEAST_LEFT = 100, 20
TRUTH_ALPHA = 0.01
LEAST_AUC_DROP = 0.02
LEAST_RATE_RATIO = 1.15


@dataclass(frozen=True)
class Column:
    """The verdict on one column: "stable", "look", "act" or "insufficient"."""

    column: str
    kind: str
    p_value: float | None
    q_value: float | None
    psi: float | None
    missing_pct: float
    reference_missing_pct: float
    unseen_pct: float | None
    verdict: str


@dataclass(frozen=True)
class Look:
    """The verdict on a batch: "stable", "moved" or "insufficient", and one sentence of it."""

    verdict: str
    rows: int
    sentence: str
    columns: tuple[Column, ...]

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "columns": [asdict(column) for column in self.columns]}


def smallest_visible_shift(rows: int, reference_rows: int) -> float:
    """Mean shift in standard deviations that a batch would show four times in five.

    Two-sided z-test at 5 %: 2.8 / sqrt(n), widened by the reference's own noise.

    >>> round(smallest_visible_shift(100, 10_000), 2)
    0.28
    """
    return 2.8 * float(np.sqrt(1 / rows + 1 / reference_rows))


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
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> Look:
    """Hold a batch against the rows a model learned from, column by column.

    Both hold the features and SCORE, the model's own output, which is tested like any column.
    """
    n, m = len(batch), len(reference)
    if n < LEAST_ROWS or m < LEAST_ROWS:
        return Look("insufficient", n, _too_few(n, m), ())
    kinds = [(SCORE, "score"), *((c, "numeric") for c in numeric)]
    kinds += [(name, "categorical") for name in categorical]
    found = [_column(reference[name], batch[name], name, kind) for name, kind in kinds]
    q_values = _benjamini_hochberg([column.p_value for column in found])
    judged = tuple(_verdict(column, q) for column, q in zip(found, q_values, strict=True))
    moved = [column.column for column in judged if column.verdict == "act"]
    looked = [column.column for column in judged if column.verdict == "look"]
    if moved:
        return Look("moved", n, f"input has moved: {', '.join(moved)} ({n:,} rows)", judged)
    beside = f"; worth a look: {', '.join(looked)}" if looked else ""
    return Look(
        "stable", n, f"no column has moved so far that it matters{beside} ({n:,} rows)", judged
    )


def _too_few(n: int, m: int) -> str:
    if n == 0 or m == 0:
        return "nothing to compare"
    visible = smallest_visible_shift(n, m)
    return f"{n} rows are too few to tell: only a shift of {visible:.1f} SD or more would show"


def _column(reference: pd.Series, batch: pd.Series, name: str, kind: str) -> Column:
    if kind == "categorical":
        missing, missing_before = batch == "", reference == ""
        p_value, effect, unseen = _levels(reference, batch)
    else:
        missing, missing_before = batch.isna(), reference.isna()
        p_value, effect = _numbers(reference[~missing_before], batch[~missing])
        unseen = None
    p_missing = _two_shares(
        int(missing.sum()), len(batch), int(missing_before.sum()), len(reference)
    )
    p_values = [p for p in (p_value, p_missing) if p is not None]
    smallest = min(1.0, min(p_values) * len(p_values)) if p_values else None
    pct, pct_before = 100 * float(missing.mean()), 100 * float(missing_before.mean())
    return Column(name, kind, smallest, None, effect, pct, pct_before, unseen, "stable")


def _numbers(reference: pd.Series, batch: pd.Series) -> tuple[float | None, float | None]:
    """Kolmogorov-Smirnov, and PSI over the reference's deciles.

    A value that fills several deciles is a bin of its own, so that a nearly constant column is seen
    to fall as well as to rise.
    """
    a = reference.to_numpy(dtype="float64")
    b = batch.to_numpy(dtype="float64")
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if len(a) < LEAST_ROWS or len(b) < LEAST_ROWS:
        return None, None
    deciles = np.quantile(a, np.linspace(0, 1, BINS + 1)[1:-1])
    repeated = deciles[1:][np.diff(deciles) == 0]
    edges = np.unique(np.append(deciles, np.nextafter(repeated, -np.inf)))
    expected = np.bincount(np.searchsorted(edges, a, side="left"), minlength=len(edges) + 1)
    found = np.bincount(np.searchsorted(edges, b, side="left"), minlength=len(edges) + 1)
    filled = expected + found > 0
    p_value = float(stats.ks_2samp(a, b, method="asymp").pvalue)
    return p_value, psi(expected[filled], found[filled])


def _levels(reference: pd.Series, batch: pd.Series) -> tuple[float | None, float | None, float]:
    """Chi-squared over levels frequent enough to count, the rest pooled; the share of unseen ones."""
    before, now = reference.value_counts(), batch.value_counts()
    unseen = 100 * float((~batch.isin(before.index)).mean())
    share = len(batch) / (len(batch) + len(reference))
    both = before.add(now, fill_value=0)
    common = both[both * min(share, 1 - share) >= LEAST_EXPECTED].index
    rest_before = before.drop(common, errors="ignore").sum()
    rest_now = now.drop(common, errors="ignore").sum()
    expected = [*before.reindex(common, fill_value=0), rest_before]
    found = [*now.reindex(common, fill_value=0), rest_now]
    counts = np.array([expected, found], dtype="int64")
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] < 2:
        return None, 0.0, unseen
    p_value = float(stats.chi2_contingency(counts, correction=False).pvalue)
    return p_value, psi(counts[0], counts[1]), unseen


def _two_shares(hits: int, n: int, hits_before: int, m: int) -> float | None:
    """Two-proportion test; None where neither side has any, or all, of them."""
    if hits + hits_before in (0, n + m):
        return None
    table = [[hits, n - hits], [hits_before, m - hits_before]]
    return float(stats.fisher_exact(table).pvalue)


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


def _verdict(column: Column, q_value: float | None) -> Column:
    points = abs(column.missing_pct - column.reference_missing_pct)
    effect = column.psi or 0.0
    if q_value is None or q_value > FALSE_DISCOVERY_RATE:
        verdict = "stable" if q_value is not None else "insufficient"
    elif effect >= ACT_PSI or points >= ACT_MISSING_POINTS:
        verdict = "act"
    elif effect >= LOOK_PSI or points >= LOOK_MISSING_POINTS:
        verdict = "look"
    else:
        verdict = "stable"
    return Column(**{**asdict(column), "q_value": q_value, "verdict": verdict})


# ---- all columns together


@dataclass(frozen=True)
class Joint:
    """Whether rows can be told from those of the reference by all columns together: "stable", "moved"
    or "insufficient"; `columns`: those that tell, each with its share of that, the largest first."""

    verdict: str
    rows: int
    roc_auc: float | None
    z: float | None
    columns: tuple[tuple[str, float], ...]
    sentence: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def compare_jointly(
    reference: pd.DataFrame, batch: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> Joint:
    """Train a classifier to tell a batch from the reference, and see whether it can.

    This finds what no column shows alone, such as two that now rise together. Moved when the ROC AUC
    of rows out of fold lies three of its standard errors under no shift above 0.5, and is 0.53 at
    least. At most 2,500 rows of each are used, so that no shift too small to matter is significant.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    n = min(len(batch), JOINT_ROWS)
    m = min(len(reference), JOINT_ROWS)
    if min(n, m) < LEAST_JOINT_ROWS:
        sentence = f"{min(n, m)} rows are too few to look at all columns together"
        return Joint("insufficient", n, None, None, (), f"{sentence} (at least {LEAST_JOINT_ROWS})")
    rows = pd.concat(
        [reference.sample(m, random_state=0), batch.sample(n, random_state=0)], ignore_index=True
    )
    X = _encode(rows, numeric, categorical)
    is_new = np.r_[np.zeros(m), np.ones(n)]
    risk, gain = np.empty(m + n), np.zeros(X.shape[1])
    with threadpool_limits(1):
        for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, is_new):
            model = HistGradientBoostingClassifier(
                learning_rate=0.1,
                max_iter=60,
                max_leaf_nodes=6,
                early_stopping=False,
                random_state=0,
            ).fit(X[train], is_new[train])
            risk[test] = model.predict_proba(X[test])[:, 1]
            for (tree,) in model._predictors:  # its only way to the trees
                split = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gain, split["feature_idx"], split["gain"])
    auc = float(metrics.roc_auc(is_new, risk).value or 0.5)
    z = (auc - 0.5) / float(np.sqrt((n + m + 1) / (12 * n * m)))
    names = [*numeric, *categorical]
    shares = gain / (gain.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")[:JOINT_NAMED]
    drivers = tuple((names[i], float(shares[i])) for i in order if shares[i] > 0)
    if z > JOINT_Z and auc >= LEAST_JOINT_AUC:
        told = ", ".join(name for name, _ in drivers)
        sentence = f"together, the columns tell the new rows apart (ROC AUC {auc:.2f}): most {told}"
        return Joint("moved", n, auc, z, drivers, sentence)
    sentence = f"together, the columns do not tell the new rows apart (ROC AUC {auc:.2f})"
    return Joint("stable", n, auc, z, drivers, sentence)


def _encode(
    rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> NDArray[np.float64]:
    """Numbers as they are, infinite ones very large; levels numbered by how frequent they are."""
    numbers = rows[list(numeric)].to_numpy(dtype="float64")
    found = [np.clip(numbers, -LARGEST, LARGEST)]
    for name in categorical:
        counts = rows[name].astype(str).value_counts()
        ordered = sorted(counts.index, key=lambda level: (-counts[level], level))
        place = {level: float(i) for i, level in enumerate(ordered)}
        found.append(rows[name].astype(str).map(place).to_numpy(dtype="float64")[:, np.newaxis])
    return np.hstack(found)


# ---- the truth


@dataclass(frozen=True)
class Truth:
    """Whether outcomes still are what the model says: "fine", "degraded" or "insufficient"."""

    verdict: str
    rows: int
    left: int
    roc_auc: Interval
    reference_roc_auc: Interval
    observed: float
    expected: float
    sentence: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def check_truth(
    outcome: Vector, risk: Vector, reference: Interval, *, left_in_training: float = np.inf
) -> Truth:
    """Hold outcomes that came after a model was trained against the risks it gives them.

    Degraded when the AUC lies significantly, and by at least 0.02, below what it was on the unseen
    rows at deployment, or when significantly more or fewer leave than the risks add up to, by at least
    15 %. One-sided 1 % each: a false alarm costs one training that the gate will refuse. The risks add
    up to a number that is itself known only as well as the rows that the model learned from tell:
    `left_in_training` of them left.
    """
    n, left = len(outcome), int(outcome.sum())
    expected = float(risk.sum())
    auc = metrics.roc_auc(outcome, risk)
    facts = (n, left, auc, reference, float(left), expected)
    if n < LEAST_LABELLED or min(left, n - left) < LEAST_LEFT:
        sentence = (
            f"{n} new outcomes, {left} left: too few to tell "
            f"(at least {LEAST_LABELLED} and {LEAST_LEFT} of each kind)"
        )
        return Truth("insufficient", *facts, sentence)
    worse = _auc_dropped(auc, reference)
    noise = float(np.sum(risk * (1 - risk))) + expected**2 / left_in_training
    z = (left - expected) / (np.sqrt(noise) or 1.0)
    ratio = max(left, 1) / max(expected, 1e-9)
    off = abs(z) > stats.norm.isf(TRUTH_ALPHA / 2) and not (
        1 / LEAST_RATE_RATIO < ratio < LEAST_RATE_RATIO
    )
    found = f"{left} of {n:,} left where {expected:.0f} were expected, ROC AUC {auc.value:.3f}"
    if reference.value is not None:
        found += f" (at deployment {reference.value:.3f})"
    if worse or off:
        return Truth("degraded", *facts, f"the model no longer tells the truth: {found}")
    return Truth("fine", *facts, f"the model still tells the truth: {found}")


def _auc_dropped(now: Interval, then: Interval) -> bool:
    values = (now.value, now.low, now.high, then.value, then.low, then.high)
    if any(value is None for value in values):
        return False
    assert now.value is not None and then.value is not None
    errors = [_standard_error(now), _standard_error(then)]
    drop = then.value - now.value
    limit = stats.norm.isf(TRUTH_ALPHA) * float(np.sqrt(np.sum(np.square(errors))))
    return bool(drop >= LEAST_AUC_DROP and drop > limit)


def _standard_error(interval: Interval) -> float:
    assert interval.low is not None and interval.high is not None
    return (interval.high - interval.low) / (2 * metrics.Z95)
