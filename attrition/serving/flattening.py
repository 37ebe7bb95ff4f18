"""Flatten a fitted model into arrays for serving, and check that both give the same risks.

The encoders of scikit-learn encode each level of a category and a missing number once; the trees of its
boosting are read node by node.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from attrition.errors import AttritionError
from attrition.modelling import metrics, models
from attrition.modelling.models import Model
from attrition.modelling.number_scores import STANDARD
from attrition.serving.flat_model import (
    WIDTHS,
    Calibration,
    Category,
    Curve,
    FlatModel,
    Forest,
    Number,
    Vector,
)

MAX_DIFFERENCE = 1e-12  # between risks
RANDOM_ROWS = 1000
SPOILED, FAR_OUT = 0.1, 1e9  # share of the random values that are replaced, and a number far out

Levels = Mapping[str, tuple[str, ...]]
Allowed = Mapping[int, NDArray[np.bool_]]  # for each feature on a path, the bins that pass


class NotFlat(AttritionError):
    """A model that cannot be flattened, or whose flat form gives different risks."""


# ---- flatten


def flatten(model: Model) -> FlatModel:
    """Return a model as arrays.

    Raises: NotFlat if it has parts or levels that the arrays cannot have.
    """
    levels, seen = _levels(model), _seen(model.parts[0])
    table = _level_table(model.features, levels)
    terms = {name: np.zeros(len(table)) for name in model.features}
    curves: dict[str, list[Curve]] = {name: [] for name in model.features}
    intercept, trees = 0.0, []
    for part, weight in zip(model.parts, model.weights, strict=True):
        fitted = part[-1]
        if isinstance(fitted, LogisticRegression):
            intercept += weight * float(fitted.intercept_[0])
            _add_terms(part, weight, table, terms)
            for name, curve in _curves(part, weight):
                _add_curve(curves[name], curve)
        elif isinstance(fitted, HistGradientBoostingClassifier):
            intercept += weight * float(fitted._baseline_prediction[0, 0])
            trees.append((part, weight))
        elif isinstance(fitted, DummyClassifier):
            intercept += weight * float(metrics.log_odds(fitted.class_prior_[1]))
        else:
            raise NotFlat(f"a part of the model is {type(fitted).__name__}")
    thresholds = _thresholds(model.features, trees)
    encoders: list[Number | Category] = []
    for name in model.features:
        if name in levels:
            is_seen = np.array([level in seen[name] for level in levels[name]], dtype=bool)
            all_terms = terms[name][: len(levels[name]) + 1]
            encoders.append(Category(name, levels[name], is_seen, all_terms))
        else:
            missing = float(terms[name][0])
            encoders.append(Number(name, thresholds[name], tuple(curves[name]), missing))
    calibration = Calibration(**model.calibration.to_dict())
    forests = _forests(tuple(encoders), trees, table)
    return FlatModel(tuple(encoders), intercept, forests, calibration)


def _seen(part: Pipeline) -> dict[str, list[str]]:
    """Return the levels of each category that a part has a code for."""
    seen: dict[str, list[str]] = {}
    for block, fitted, names in part[0].transformers_:
        if block in (models.LEVELS, models.CODES, models.RATES) and len(names):
            encoder = fitted[0] if block == models.RATES else fitted
            seen |= {
                name: list(all_) for name, all_ in zip(names, encoder.categories_, strict=True)
            }
    return seen


def _levels(model: Model) -> dict[str, tuple[str, ...]]:
    """Return the levels of each category that any part has a code for, sorted.

    Raises: NotFlat if one is not a text.
    """
    levels: dict[str, set[str]] = {}
    for part in model.parts:
        for name, some in _seen(part).items():
            if not all(isinstance(level, str) for level in some):
                raise NotFlat(f"{name} has levels that are not text")
            levels.setdefault(name, set()).update(map(str, some))
    return {name: tuple(sorted(some)) for name, some in levels.items()}


def _level_table(features: tuple[str, ...], levels: Levels) -> pd.DataFrame:
    """Return a table with each level of each category, below them an unknown one; no numbers."""
    n = 1 + max((len(some) for some in levels.values()), default=0)
    unknown = "?" * (1 + max((len(level) for some in levels.values() for level in some), default=0))
    columns = {
        name: [*levels[name], *[unknown] * (n - len(levels[name]))]
        if name in levels
        else np.full(n, np.nan)
        for name in features
    }
    return pd.DataFrame(columns)


# ---- logistic parts


def _add_terms(
    part: Pipeline, weight: float, table: pd.DataFrame, terms: Mapping[str, Vector]
) -> None:
    """Add what a part gives to each level, and to a missing number, in place."""
    added = part[:-1].transform(table) * (weight * part[-1].coef_[0])
    names = np.array(models.encoded_features(part))
    for name, term in terms.items():
        term += added[:, names == name].sum(axis=1)


def _curves(part: Pipeline, weight: float) -> Iterator[tuple[str, Curve]]:
    """Yield the curves of each number in a logistic part."""
    coefficients, at = weight * part[-1].coef_[0], part[0].output_indices_
    blocks = {block: (fitted, names) for block, fitted, names in part[0].transformers_}
    steps = {}
    if models.BINNED in blocks and len(blocks[models.BINNED][1]):
        fitted, names = blocks[models.BINNED]
        ends = np.cumsum(fitted[-1].n_bins_)[:-1]
        some = zip(
            fitted[-1].bin_edges_, np.split(coefficients[at[models.BINNED]], ends), strict=True
        )
        steps = {name: (edges[1:-1], of) for name, (edges, of) in zip(names, some, strict=True)}
    for block in (models.NUMBERS, STANDARD):
        fitted, names = blocks[block]
        for i, name in enumerate(names):
            numbers, scores = fitted[0].knots_[i]
            none = (np.empty(0), np.zeros(1))
            own = steps.get(name, none) if block == models.NUMBERS else none
            yield name, Curve(numbers, scores, float(coefficients[at[block]][i]), *own)


def _add_curve(curves: list[Curve], new: Curve) -> None:
    """Add a curve to those of a number; it is added to the weight of one with the same knots."""
    for i, old in enumerate(curves):
        is_same = np.array_equal(old.numbers, new.numbers) and np.array_equal(
            old.scores, new.scores
        )
        if is_same and not (len(old.cuts) and len(new.cuts)):
            cuts, steps = np.append(old.cuts, new.cuts), old.steps + new.steps  # one has one step
            weight = old.weight + new.weight
            curves[i] = Curve(old.numbers, old.scores, weight, cuts, steps)
            return
    curves.append(new)


# ---- trees


def _thresholds(
    features: tuple[str, ...], trees: list[tuple[Pipeline, float]]
) -> dict[str, Vector]:
    """Return the finite thresholds at which the trees split each feature, in ascending order.

    At an infinite one only missing values part from the others, and they have a bin of their own.
    """
    used: dict[str, list[Vector]] = {name: [np.empty(0)] for name in features}
    for part, _ in trees:
        names = models.encoded_features(part)
        for (tree,) in part[-1]._predictors:  # scikit-learn has no public access to the trees
            splits = tree.nodes[tree.nodes["is_leaf"] == 0]
            for at in np.unique(splits["feature_idx"]):
                used[names[at]].append(splits["num_threshold"][splits["feature_idx"] == at])
    return {
        name: (values := np.unique(np.concatenate(some)))[np.isfinite(values)]
        for name, some in used.items()
    }


def _forests(
    encoders: tuple[Number | Category, ...],
    trees: list[tuple[Pipeline, float]],
    table: pd.DataFrame,
) -> tuple[Forest, ...]:
    """Return the trees of all parts, grouped by the width of the mask that their leaves need."""
    starts = np.cumsum([0, *(encoder.bins for encoder in encoders)])
    grouped: dict[int, list[tuple[NDArray[Any], Vector]]] = {}
    for part, weight in trees:
        tests = _tests(part, encoders, table)
        for (tree,) in part[-1]._predictors:
            leaves = list(_walk(tree.nodes, tests))
            width = next((width for width in WIDTHS if len(leaves) <= width), None)
            if width is None:
                raise NotFlat(f"a tree has {len(leaves)} leaves, at most {WIDTHS[-1]} are possible")
            masks = np.full(starts[-1], (1 << len(leaves)) - 1, dtype=f"<u{width // 8}")
            values = np.zeros(width + 1)
            for leaf, (value, allowed) in enumerate(leaves):
                values[leaf] = weight * value
                bit = masks.dtype.type(1 << leaf)
                for i, passes in allowed.items():
                    masks[starts[i] : starts[i + 1]][~passes] &= ~bit
            grouped.setdefault(width, []).append((masks, values))
    return tuple(
        Forest(
            np.column_stack([masks for masks, _ in some]), np.array([values for _, values in some])
        )
        for _, some in sorted(grouped.items())
    )


def _tests(
    part: Pipeline, encoders: tuple[Number | Category, ...], table: pd.DataFrame
) -> list[tuple[int, Vector]]:
    """Return for each encoded column its feature, and a value in each bin; NaN if it is missing."""
    features = [encoder.name for encoder in encoders]
    encoded = part[:-1].transform(table)
    tests = []
    for column, name in enumerate(models.encoded_features(part)):
        i = features.index(name)
        encoder = encoders[i]
        if isinstance(encoder, Category):
            values = encoded[: encoder.bins, column]
        else:
            values = np.array([*encoder.thresholds, np.inf, np.nan])
        tests.append((i, values))
    return tests


def _walk(nodes: Any, tests: list[tuple[int, Vector]]) -> Iterator[tuple[float, Allowed]]:
    """Yield the value of each leaf of a tree, and for each feature on its path which bins pass."""
    stack: list[tuple[int, Allowed]] = [(0, {})]
    while stack:
        at, path = stack.pop()
        node = nodes[at]
        if node["is_leaf"]:
            yield float(node["value"]), path
            continue
        i, values = tests[node["feature_idx"]]
        goes_left = values <= node["num_threshold"]
        if node["missing_go_to_left"]:
            goes_left |= np.isnan(values)
        for child, passes in ((node["right"], ~goes_left), (node["left"], goes_left)):
            stack.append((int(child), {**path, i: path.get(i, True) & passes}))


# ---- check


def flatten_and_check(model: Model, rows: pd.DataFrame) -> FlatModel:
    """Return a model as arrays that give the same risks for rows and others like them.

    Raises: NotFlat.
    """
    flat = flatten(model)
    check_equal(flat, model, rows)
    return flat


def check_equal(flat: FlatModel, model: Model, rows: pd.DataFrame) -> float:
    """Return the greatest difference between the two models' risks, for rows and others like them.

    Random rows are added: values of all rows and the thresholds of trees, a tenth of which are replaced
    by missing ones, levels that no model knows, and numbers far out.

    Raises: NotFlat if a difference is greater than 1e-12.
    """
    table = pd.concat([rows[list(flat.features)], random_rows(flat, rows)], ignore_index=True)
    risks, expected = flat.predict(to_columns(flat, table)), models.predict(model, table)
    difference = float(np.max(np.abs(risks - expected), initial=0.0))
    if not difference <= MAX_DIFFERENCE:
        raise NotFlat(f"its flat form gives risks that differ by up to {difference:.2g}")
    return difference


def random_rows(flat: FlatModel, rows: pd.DataFrame, n: int = RANDOM_ROWS) -> pd.DataFrame:
    """Return random rows, always the same; see `check_equal`."""
    rng = np.random.default_rng(0)
    columns: dict[str, NDArray[Any]] = {}
    for encoder in flat.encoders:
        values = rows[encoder.name].to_numpy()
        if isinstance(encoder, Category):
            some: NDArray[Any] = np.array(["", "no such level", *encoder.levels], dtype=object)
        else:
            some = np.array([np.nan, 0.0, -FAR_OUT, FAR_OUT, *encoder.thresholds])
        chosen = rng.choice(values, n) if len(values) else rng.choice(some, n)
        columns[encoder.name] = np.where(rng.random(n) < SPOILED, rng.choice(some, n), chosen)
    return pd.DataFrame(columns)


def to_columns(flat: FlatModel, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the features of a table as a flat model takes them."""
    return {
        encoder.name: rows[encoder.name].tolist()
        if isinstance(encoder, Category)
        else rows[encoder.name].to_numpy(dtype="float64")
        for encoder in flat.encoders
    }
