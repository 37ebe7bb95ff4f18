"""Candidate models: build, fit and predict.

A model is one fitted part or a weighted sum of several. Each part returns log-odds, and a calibration
converts their sum to the risk.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)
from threadpoolctl import threadpool_limits

from attrition.modelling import metrics, reliability
from attrition.modelling.calibration import AS_IT_IS, Calibration
from attrition.modelling.metrics import Vector
from attrition.modelling.number_scores import NORMAL, STANDARD, NumberScores

BASE_RATE = reliability.BASE_RATE
CAUTIOUS = "logistic regression, strongly regularised"
LOGISTIC = "logistic regression"
SCORECARD = "scorecard"
SHALLOW = "shallow gradient boosting"
BOOSTING = "gradient boosting"
DEEP = "deep gradient boosting"
SIMPLEST_FIRST = (BASE_RATE, CAUTIOUS, LOGISTIC, SCORECARD, SHALLOW, BOOSTING, DEEP)
BLEND = "blend"

# A candidate is not compared if there are fewer rows, or fewer of the rarer outcome.
MIN_ROWS_TO_TRY = {SCORECARD: (200, 30), SHALLOW: (200, 30), BOOSTING: (500, 50), DEEP: (2000, 100)}
STRENGTH = {CAUTIOUS: 0.03, LOGISTIC: 1.0, SCORECARD: 0.3}
LEAVES = {SHALLOW: 4, BOOSTING: 12, DEEP: 31}
ROUNDS = {SHALLOW: 150, BOOSTING: 100, DEEP: 100}
MIN_FEATURES_PER_SPLIT = 8  # that a split may use, if there are so many
# The blocks of an encoded table.
NUMBERS, BINNED, LEVELS, CODES, RATES = "numbers", "bins", "levels", "codes", "rates"
MAX_LEVELS = 60
BINS = 8
EVEN = 1e-2  # shrinks the weights of a blend towards equal ones, so that similar parts share
MIN_WEIGHT = 0.05


@dataclass(frozen=True)
class Model:
    """The fitted parts of a model, their weights, and the calibration of their sum."""

    parts: tuple[Pipeline, ...]
    weights: tuple[float, ...] = (1.0,)
    calibration: Calibration = AS_IT_IS

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.parts[0].feature_names_in_)


def build(
    name: str, numeric: Sequence[str], categorical: Sequence[str], rows: pd.DataFrame
) -> Pipeline:
    """Build an unfitted candidate for rows like these.

    If a number is missing, it is flagged (logistic) or split on (boosting); a missing category is a
    category of its own. Rare categories are pooled, and an unseen one is treated as rare.
    """
    if name in LEAVES:
        encode = _for_trees(numeric, categorical, rows)
        model = HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=ROUNDS[name],
            max_leaf_nodes=LEAVES[name],
            min_samples_leaf=20,
            l2_regularization=1.0,
            max_features=_features_per_split(len(numeric) + len(categorical)),
            categorical_features=None,
            early_stopping=False,
            random_state=0,
        )
    elif name in STRENGTH:
        encode = _scaled(numeric, categorical, len(rows), binned=name == SCORECARD)
        model = LogisticRegression(C=STRENGTH[name], max_iter=2000)
    else:
        one_hot = _one_hot(len(rows))
        encode = ColumnTransformer(
            [(NUMBERS, "passthrough", [*numeric]), (LEVELS, one_hot, [*categorical])]
        )
        model = DummyClassifier(strategy="prior")
    return Pipeline([("encode", encode), ("model", model)])


def _features_per_split(features: int) -> float:
    """Compute the share of the features that a split may use: if trees differ, so do their errors.

    >>> _features_per_split(4), _features_per_split(10), _features_per_split(60)
    (1.0, 0.8, 0.5)

    Source: Breiman 2001, "Random forests".
    """
    return min(1.0, max(0.5, MIN_FEATURES_PER_SPLIT / max(1, features)))


def _scaled(
    numeric: Sequence[str], categorical: Sequence[str], rows: int, *, binned: bool
) -> ColumnTransformer:
    """Encode numbers as normal scores and as standard scores, and categories one-hot.

    Normal scores suit numbers with heavy tails, standard scores those of even spread; a weight for each
    lets the data decide. If a number is missing, it is replaced by the median and flagged; if binned, as
    for a scorecard, the bin of each number is added.
    """
    fill = SimpleImputer(strategy="median")
    flag = SimpleImputer(strategy="median", add_indicator=True)
    normal = [("scale", NumberScores(NORMAL))]
    blocks = [
        (NUMBERS, Pipeline([*normal, ("fill", flag)]), [*numeric]),
        (STANDARD, Pipeline([("scale", NumberScores(STANDARD)), ("fill", fill)]), [*numeric]),
    ]
    if binned:
        cut = KBinsDiscretizer(
            BINS,
            encode="onehot-dense",
            strategy="quantile",
            quantile_method="averaged_inverted_cdf",
            subsample=None,
        )
        into_bins = Pipeline([*normal, ("fill", fill), ("cut", cut)])
        blocks.append((BINNED, into_bins, [*numeric]))
    return ColumnTransformer([*blocks, (LEVELS, _one_hot(rows), [*categorical])])


def _one_hot(rows: int) -> OneHotEncoder:
    """Encode categories one-hot and pool rare ones; if one is unseen, it counts as rare or as none."""
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=min_category_rows(rows),
        max_categories=MAX_LEVELS,
        sparse_output=False,
    )


def _for_trees(
    numeric: Sequence[str], categorical: Sequence[str], rows: pd.DataFrame
) -> ColumnTransformer:
    """Encode each feature as one column, so that one with many categories does not dominate the others.

    Numbers stay as they are. If a feature has two categories, each has a code; if more, a category
    is encoded as the share of its clients who left, shrunk towards the overall share if they are few and
    computed without the row itself. Rare categories are pooled; an unseen one has the overall share.

    Source: Micci-Barreca 2001 for the rates; Fisher 1958: one cut through sorted rates is the best one.
    """
    many = [name for name in categorical if rows[name].nunique(dropna=False) > 2]
    few = [name for name in categorical if name not in many]
    rate = TargetEncoder(target_type="binary", cv=KFold(5, shuffle=True, random_state=0))
    rates = Pipeline([("codes", _codes(len(rows))), ("rates", rate)])
    return ColumnTransformer(
        [
            (NUMBERS, "passthrough", [*numeric]),
            (CODES, _codes(len(rows)), few),
            (RATES, rates, many),
        ]
    )


def _codes(rows: int) -> OrdinalEncoder:
    return OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=min_category_rows(rows)
    )


def min_category_rows(rows: int) -> int:
    """Return how many rows a category needs; if it has fewer, it is pooled with other rare ones."""
    return max(2, rows // 500)


def encoded_features(part: Pipeline) -> list[str]:
    """Name the feature that each column of the encoded table comes from."""
    features: list[str] = []
    for block, fitted, names in part[0].transformers_:
        if len(names) == 0 or block == "remainder":
            continue
        features += names if block in (NUMBERS, STANDARD, CODES, RATES) else []
        if block == NUMBERS and isinstance(fitted, Pipeline):
            features += [names[i] for i in fitted[-1].indicator_.features_]
        elif block == BINNED:
            features += np.repeat(names, fitted[-1].n_bins_).tolist()
        elif block == LEVELS:
            rare = [0 if some is None else len(some) - 1 for some in fitted.infrequent_categories_]
            width = [len(all_) - n for all_, n in zip(fitted.categories_, rare, strict=True)]
            features += np.repeat(names, width).tolist()
    return features


def candidates(rows: int, left: int) -> list[str]:
    """Name the candidates to compare if there is so much data, simplest first."""
    rarer = min(left, rows - left)
    enough = {name: rows >= n and rarer >= least for name, (n, least) in MIN_ROWS_TO_TRY.items()}
    return [name for name in SIMPLEST_FIRST if enough.get(name, True)]


def fit(part: Pipeline, rows: pd.DataFrame, outcome: Vector, weight: Vector) -> Pipeline:
    """Fit a candidate on one thread, which is faster than several for tables of this size.

    If a column has no values, it is filled with 0, because scikit-learn cannot bin it. The warning that
    a column fills fewer bins than requested is ignored. If all weights are equal, none are passed: with
    weights the binning of boosting takes longer than its trees (four fifths of a fit on 400 rows of 60
    columns).
    """
    empty = [name for name in rows.columns if rows[name].isna().all()]
    rows = rows.assign(**dict.fromkeys(empty, 0.0))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Bins whose width are too small|Feature \d+ is constant")
        weights = {} if (weight == weight[0]).all() else {"model__sample_weight": weight}
        return part.fit(rows, outcome, **weights)


def score_part(part: Pipeline, rows: pd.DataFrame) -> Vector:
    """Compute the log-odds of one part: (n,); rows may have more columns."""
    if len(rows) == 0:
        return np.empty(0)
    rows = rows[list(part.feature_names_in_)]
    with threadpool_limits(1):
        if isinstance(fitted := part[-1], HistGradientBoostingClassifier):
            # The sums of its decision_function, on its own bins, in two thirds of the time.
            bins = fitted._bin_mapper.transform(part[:-1].transform(rows))
            log_odds = np.zeros((len(rows), 1)) + fitted._baseline_prediction
            fitted._predict_iterations(bins, fitted._predictors, log_odds, True, 1)
            return log_odds[:, 0]
        if hasattr(part, "decision_function"):
            return np.asarray(part.decision_function(rows), dtype="float64")
        return metrics.log_odds(part.predict_proba(rows)[:, 1])


def score(model: Model, rows: pd.DataFrame) -> Vector:
    """Compute the weighted sum of the parts' log-odds, before calibration: (n,)."""
    parts = zip(model.parts, model.weights, strict=True)
    return np.asarray(sum(weight * score_part(part, rows) for part, weight in parts))


def predict(model: Model, rows: pd.DataFrame) -> Vector:
    """Compute the risk of each row: (n,) float in [0, 1]; rows may have more columns."""
    return to_risk(model, score(model, rows))


def to_risk(model: Model, score: Vector) -> Vector:
    """Calibrate scores: (n,) log-odds to (n,) risks in [0, 1]."""
    return metrics.expit(model.calibration.apply(score))


def blend_weights(
    scores: NDArray[np.float64], outcome: Vector, row_weight: Vector | None = None
) -> Vector:
    """Compute the non-negative weights (k,) whose weighted sum of log-odds has the lowest log loss.

    scores: (n, k) out-of-fold log-odds. If a weight is below 0.05, it is set to 0; similar parts share
    their weight.

    Source: Wolpert 1992; Breiman 1996, "Stacked regressions", for weights that cannot be negative.
    """
    n, k = scores.shape
    share = np.full(n, 1 / n) if row_weight is None else row_weight / row_weight.sum()

    def loss(weights: Vector) -> tuple[float, Vector]:
        z = scores @ weights
        error = metrics.expit(z) - outcome
        even = weights - 1 / k
        value = float(share @ (np.logaddexp(0, z) - outcome * z) + EVEN * np.sum(even**2))
        return value, scores.T @ (share * error) + 2 * EVEN * even

    start = np.full(k, 1 / k)
    solution = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * k)
    weights = np.where(solution.x < MIN_WEIGHT, 0.0, solution.x)
    return np.asarray(weights if weights.any() else start)


def unseen_levels(model: Model, rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return for each categorical feature which rows have a category that is new to the model: (n,)."""
    seen: dict[str, Any] = {}
    for block, fitted, names in model.parts[0][0].transformers_:
        encoder = fitted[0] if block == RATES else fitted
        if block in (LEVELS, CODES, RATES) and len(names):
            seen |= dict(zip(names, encoder.categories_, strict=True))
    return {name: ~rows[name].isin(categories).to_numpy() for name, categories in seen.items()}


def baseline(
    rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> dict[str, Any]:
    """Compute the baseline client: the median or the most frequent category of each column."""
    client: dict[str, Any] = {}
    for name in numeric:
        median = rows[name].median()
        client[name] = None if math.isnan(median) else float(median)
    for name in categorical:
        client[name] = str(rows[name].mode().sort_values().iloc[0])
    return client
