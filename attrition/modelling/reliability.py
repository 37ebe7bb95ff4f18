"""Decide whether a risk needs care, and why: values that the model has not seen, or too few rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrition.data.cells import Caution

if TYPE_CHECKING:
    import pandas as pd

BASE_RATE = "base rate"  # the kind of a model that has the same risk for all
MIN_CONTRIBUTION = 0.05  # to the log-odds; if a feature adds less, it is not shown as a reason

# Source: the minimum of Salesforce Einstein before it trains: 400 rows, 100 of each outcome.
MIN_ROWS_TO_RELY, MIN_OF_EACH_TO_RELY = 400, 100


def is_few(rows: int, left: int) -> bool:
    """Return whether the risks are only approximate: too few rows, or too few of one outcome."""
    return rows < MIN_ROWS_TO_RELY or min(left, rows - left) < MIN_OF_EACH_TO_RELY


def cautions(
    columns: Mapping[str, Any], unseen: Mapping[str, NDArray[np.bool_]], training: Mapping[str, Any]
) -> list[list[Caution]]:
    """List for each row why its risk needs care; [] if there is no reason."""
    some = find_cautions(columns, unseen, training)
    return [some.get(i, []) for i in range(_count(columns, training))]


def find_cautions(
    columns: Mapping[str, Any], unseen: Mapping[str, NDArray[np.bool_]], training: Mapping[str, Any]
) -> dict[int, list[Caution]]:
    """List why the risk of a row needs care: row -> cautions, of the rows that have any.

    Cautions of the row come first, then those of the model.

    columns: numbers, NaN if missing, and texts, "" if missing: (n,) each; unseen: for each category,
    which rows have one that is new to the model; training: the record of the model, with `features`,
    `missing_seen`, `ranges`, `rows`, `left`, `kind`
    """
    numeric, categorical = (training["features"][kind] for kind in ("numeric", "categorical"))
    result: dict[int, list[Caution]] = {}
    for name in (*numeric, *categorical):
        if name in numeric:
            values = np.asarray(columns[name], dtype="float64")
            missing = np.isnan(values)
        else:
            values = np.asarray(columns[name], dtype=object)
            missing = values == ""
        if name in unseen:
            for i in np.flatnonzero(unseen[name] & ~missing).tolist():
                result.setdefault(i, []).append(Caution("unknown_level", name, str(values[i])))
        if name not in training["missing_seen"]:
            for i in np.flatnonzero(missing).tolist():
                result.setdefault(i, []).append(Caution("never_missing", name))
        if name in training["ranges"]:
            low, high = training["ranges"][name]
            for i in np.flatnonzero((values < low) | (values > high)).tolist():
                result.setdefault(i, []).append(
                    Caution("outside_range", name, float(values[i]), low, high)
                )
    if general := cautions_of_model(training):
        rows = range(_count(columns, training))
        return {i: [*result.get(i, ()), *general] for i in rows}
    return result


def _count(columns: Mapping[str, Any], training: Mapping[str, Any]) -> int:
    """Return the number of rows."""
    numeric, categorical = (training["features"][kind] for kind in ("numeric", "categorical"))
    return len(columns[(*numeric, *categorical)[0]])


def cautions_of_model(training: Mapping[str, Any]) -> list[Caution]:
    """List the cautions that apply to every risk of a model.

    >>> [caution.code for caution in cautions_of_model({"kind": "base rate", "rows": 90, "left": 20})]
    ['few_clients', 'base_rate']
    """
    few = [Caution("few_clients")] if is_few(training["rows"], training["left"]) else []
    no_signal = training["kind"] == BASE_RATE
    return few + ([Caution("base_rate")] if no_signal else [])


def ranges(rows: "pd.DataFrame", numeric: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the minimum and the maximum of each numeric column, missing values left out."""
    return {name: [float(rows[name].min()), float(rows[name].max())] for name in numeric}
