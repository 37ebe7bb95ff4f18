"""Whether a risk is to be read with care, and why: what the model never met, or never learned.

Pure: rows and the record of a training in, words out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition.data.cells import number_text
from attrition.modelling import models
from attrition.modelling.models import Model

# Source: the least that Salesforce Einstein asks for before it learns: 400 rows, 100 of each kind.
MIN_ROWS_TO_RELY, MIN_OF_EACH_TO_RELY = 400, 100


def is_few(rows: int, left: int) -> bool:
    """Are so few rows, of so many who left, too few for more than rough risks?"""
    return rows < MIN_ROWS_TO_RELY or min(left, rows - left) < MIN_OF_EACH_TO_RELY


def doubts(model: Model, rows: pd.DataFrame, training: Mapping[str, Any]) -> list[list[str]]:
    """Say for each row why its risk is to be read with care, in words; [] where all is well.

    What is odd about the row comes first, then what holds for every risk of this model.

    training: the record of the model, with `features`, `missing_seen`, `ranges`, `rows`, `left`, `kind`
    """
    found: list[list[str]] = [[] for _ in range(len(rows))]
    unseen, ranges = models.unseen_levels(model, rows), training["ranges"]
    for name in (name for names in training["features"].values() for name in names):
        missing = (rows[name].isna() | (rows[name] == "")).to_numpy()
        if name in unseen:
            _add(found, unseen[name] & ~missing, f"unknown level of {name}")
        if name not in training["missing_seen"]:
            _add(found, missing, f"no value of {name}, which was never missing in training")
        if name in ranges:
            _add_outside(found, rows[name].to_numpy(dtype="float64"), name, *ranges[name])
    general = of_model(training)
    return [[*said, *general] for said in found]


def _add(found: list[list[str]], where: NDArray[np.bool_], said: str) -> None:
    for i in np.flatnonzero(where):
        found[i].append(said)


def _add_outside(
    found: list[list[str]], values: NDArray[np.float64], name: str, low: float, high: float
) -> None:
    known = f"the model knows {number_text(low)} to {number_text(high)}"
    for i in np.flatnonzero((values < low) | (values > high)):
        found[i].append(f"{name} {number_text(float(values[i]))}, {known}")


def of_model(training: Mapping[str, Any]) -> list[str]:
    """Say what holds for every risk that a model gives.

    >>> of_model({"kind": "base rate", "rows": 90, "left": 20})
    ['learned from few clients', 'no usable signal: the base rate']
    """
    few = ["learned from few clients"] if is_few(training["rows"], training["left"]) else []
    no_signal = training["kind"] == models.BASE_RATE
    return few + (["no usable signal: the base rate"] if no_signal else [])


def ranges(rows: pd.DataFrame, numeric: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the lowest and the highest known value of each numeric column."""
    return {name: [float(rows[name].min()), float(rows[name].max())] for name in numeric}
