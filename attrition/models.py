"""Candidate models: how each is built, fitted, kept and asked; whatever ends up in a model file.

Models are files of skops, never pickles: loading runs no code that is not in TRUSTED.
"""

import io
import math
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skops
import skops.io
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer
from threadpoolctl import threadpool_limits

from attrition.errors import Damaged
from attrition.metrics import SMALLEST_RISK

Vector = NDArray[np.float64]

BASE_RATE = "base rate"
CAUTIOUS = "logistic regression, strongly regularised"
LOGISTIC = "logistic regression"
BOOSTING = "gradient boosting"
SIMPLEST_FIRST = (BASE_RATE, CAUTIOUS, LOGISTIC, BOOSTING)

LEAST_ROWS_TO_BOOST = 200
LEAST_LEFT_TO_BOOST = 30
MAX_LEVELS = 60

PART = re.compile(r"schema\.json|\d+\.\w+")
SCHEMA = "schema.json"  # skops' own name for the description of a model, in its file
TRUSTED = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


def build(name: str, numeric: Sequence[str], categorical: Sequence[str], rows: int) -> Pipeline:
    """Return an unfitted candidate.

    Missing numbers are flagged (logistic) or split on (boosting); a missing level is a level; rare
    levels are pooled and unseen ones join them.
    """
    if name == BASE_RATE:
        encode, model = _for_boosting(numeric, categorical, rows), DummyClassifier(strategy="prior")
    elif name == BOOSTING:
        encode = _for_boosting(numeric, categorical, rows)
        model = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=200,
            max_leaf_nodes=12,
            min_samples_leaf=20,
            l2_regularization=1.0,
            categorical_features=None,
            early_stopping=False,
            random_state=0,
        )
    else:
        encode = _for_logistic(numeric, categorical, rows)
        model = LogisticRegression(C=0.03 if name == CAUTIOUS else 1.0, max_iter=2000)
    return Pipeline([("encode", encode), ("model", model)])


def _for_logistic(
    numeric: Sequence[str], categorical: Sequence[str], rows: int
) -> ColumnTransformer:
    """Numbers to normal scores, which no heavy tail upsets, then median and missing flag."""
    numbers = Pipeline(
        [
            (
                "scale",
                QuantileTransformer(
                    n_quantiles=max(2, min(100, rows // 2)),
                    output_distribution="normal",
                    random_state=0,
                ),
            ),
            ("fill", SimpleImputer(strategy="median", add_indicator=True)),
        ]
    )
    return ColumnTransformer(
        [("numbers", numbers, [*numeric]), ("levels", _levels(rows), [*categorical])]
    )


def _for_boosting(
    numeric: Sequence[str], categorical: Sequence[str], rows: int
) -> ColumnTransformer:
    """Numbers as they are, levels one-hot: native categorical splits need types we do not trust."""
    return ColumnTransformer(
        [("numbers", "passthrough", [*numeric]), ("levels", _levels(rows), [*categorical])]
    )


def _levels(rows: int) -> OneHotEncoder:
    """Pool levels too rare to learn from; an unseen level counts as one of those, or as none."""
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=max(2, rows // 500),
        max_categories=MAX_LEVELS,
        sparse_output=False,
    )


def candidates(rows: int, left: int) -> list[str]:
    """Name the candidates worth trying on so much data, the simplest first."""
    enough = rows >= LEAST_ROWS_TO_BOOST and min(left, rows - left) >= LEAST_LEFT_TO_BOOST
    return [name for name in SIMPLEST_FIRST if enough or name != BOOSTING]


def fit(model: Pipeline, rows: pd.DataFrame, outcome: Vector, weight: Vector) -> Pipeline:
    """Fit a candidate; one thread, which is the faster for tables of this size.

    A column without any value counts as constant: scikit-learn cannot cut it into bins.
    """
    empty = [name for name in rows.columns if rows[name].isna().all()]
    rows = rows.assign(**dict.fromkeys(empty, 0.0))
    with threadpool_limits(1):
        return model.fit(rows, outcome, model__sample_weight=weight)


def predict(model: Pipeline, rows: pd.DataFrame) -> Vector:
    """Return the risk of each row: (n,) float in [0, 1]; rows may have more columns."""
    if len(rows) == 0:
        return np.empty(0)
    with threadpool_limits(1):
        return np.asarray(model.predict_proba(rows[list(model.feature_names_in_)])[:, 1])


def unseen_levels(model: Pipeline, rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Say for each categorical feature which rows hold a level the model never met."""
    encoder = model.named_steps["encode"].named_transformers_.get("levels")
    if not hasattr(encoder, "categories_"):
        return {}
    known = zip(encoder.feature_names_in_, encoder.categories_, strict=True)
    return {name: ~rows[name].isin(levels).to_numpy() for name, levels in known}


def typical(
    rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> dict[str, Any]:
    """Return what an ordinary client looks like: the median or the commonest level of each column."""
    found: dict[str, Any] = {}
    for name in numeric:
        median = rows[name].median()
        found[name] = None if math.isnan(median) else float(median)
    for name in categorical:
        found[name] = str(rows[name].mode().sort_values().iloc[0])
    return found


def log_odds(risk: Vector) -> Vector:
    risk = np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.asarray(np.log(risk / (1 - risk)))


def contributions(model: Pipeline, rows: pd.DataFrame, usual: Mapping[str, Any]) -> pd.DataFrame:
    """Return how much each feature adds to the log-odds, one column a feature, one row a client.

    The method is occlusion: what the risk would be if this one feature were that of an ordinary
    client. Positive raises the risk. Contributions need not add up to the risk.
    """
    base = log_odds(predict(model, rows))
    found = {}
    for name in model.feature_names_in_:
        ordinary = rows.copy()
        ordinary[name] = math.nan if usual[name] is None else usual[name]
        found[name] = base - log_odds(predict(model, ordinary))
    return pd.DataFrame(found, index=rows.index)


# ---- the model file


def dumps(model: Pipeline) -> bytes:
    """Return a fitted model as the bytes of a skops file: same model, same bytes.

    skops names the parts of a model by where they lay in memory; here they are numbered.
    """
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)))

    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as old,
        zipfile.ZipFile(made, "w") as new,
    ):
        schema = re.sub(r'("__id__": |"file": ")([\w-]+)', number, old.read(SCHEMA).decode())
        new.writestr(zipfile.ZipInfo(SCHEMA), schema)
        parts = {Path(name): name for name in old.namelist() if name != SCHEMA}
        for path in sorted(parts, key=lambda path: int(numbers[path.stem])):
            named = zipfile.ZipInfo(numbers[path.stem] + path.suffix)
            new.writestr(named, old.read(parts[path]))
    return made.getvalue()


def loads(data: bytes) -> Pipeline:
    """Load a model whose every type is known.

    Raises: Damaged, having run no code of the file and unpacked no more than it holds.
    """
    try:
        _check_parts(data)
        return skops.io.loads(data, trusted=list(TRUSTED))
    except Exception as error:  # a hostile file can raise anything; none of it may pass
        raise Damaged(f"the model file cannot be trusted: {error}") from error


def _check_parts(data: bytes) -> None:
    """Let only pass what `dumps` makes: parts by number, each once, stored as they are.

    Nothing packed means that no small file can become a large one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = file.infolist()
    names = [part.filename for part in parts]
    if bad := [name for name in names if not PART.fullmatch(name)]:
        raise ValueError(f"it holds {bad[0]!r}, which no model has")
    if len(set(names)) < len(names):
        raise ValueError("it holds a part twice")
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > len(data):
        raise ValueError("its parts are packed, expected them as they are")


def versions() -> dict[str, str]:
    """Return the versions on which the risks of a model may depend."""
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skops": skops.__version__,
    }
