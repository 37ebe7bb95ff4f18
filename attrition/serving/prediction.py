"""Predict the risks of checked rows, with flags if a risk is uncertain, and with reasons if asked.

No Flask and no DataFrame: the rows are columns, as `data.api_records` returns them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from attrition.contacts import fields
from attrition.data.api_records import CheckedRows, Values
from attrition.data.cells import Reason
from attrition.modelling import reliability
from attrition.operations.releases import Release
from attrition.storage.files import Record

Columns = Mapping[str, Any]
Vector = NDArray[np.float64]


class Served(Protocol):
    """What the app needs of a model; columns: numbers (n,) float64, categories as lists of text."""

    @property
    def features(self) -> tuple[str, ...]: ...

    def predict(self, columns: Columns) -> Vector:
        """Compute the risks: (n,)."""

    def score(self, columns: Columns) -> Vector:
        """Compute the log-odds before calibration: (n,)."""

    def explain(self, columns: Columns, baseline: Mapping[str, Any]) -> NDArray[np.float64]:
        """Compute the contributions: (n, features)."""

    def unseen(self, columns: Columns) -> dict[str, NDArray[np.bool_]]:
        """Return for each category which rows have a level that is new to the model: (n,)."""


@dataclass(frozen=True)
class FrameModel:
    """A model that cannot be flattened; it evaluates a DataFrame, which is slower."""

    model: Any

    @property
    def features(self) -> tuple[str, ...]:
        return cast(tuple[str, ...], self.model.features)

    def predict(self, columns: Columns) -> Vector:
        from attrition.modelling import models

        return models.predict(self.model, self._frame(columns))

    def score(self, columns: Columns) -> Vector:
        from attrition.modelling import models

        return models.score(self.model, self._frame(columns))

    def explain(self, columns: Columns, baseline: Mapping[str, Any]) -> NDArray[np.float64]:
        from attrition.modelling import explanations

        return explanations.contributions(self.model, self._frame(columns), baseline).to_numpy()

    def unseen(self, columns: Columns) -> dict[str, NDArray[np.bool_]]:
        from attrition.modelling import models

        return models.unseen_levels(self.model, self._frame(columns))

    def _frame(self, columns: Columns) -> Any:
        import pandas as pd

        values = {name: columns[name] for name in self.features}
        is_number = {name: isinstance(each, np.ndarray) for name, each in values.items()}
        types = {name: "float64" if is_number[name] else "object" for name in values}
        return pd.DataFrame({name: pd.Series(values[name], dtype=types[name]) for name in values})


def predict(
    release: Release, model: Served, rows: CheckedRows, labels: fields.Labels, reasons: int = 0
) -> list[Record]:
    """Return the risk of each row in the same order, with flags, and with so many reasons."""
    training = release.training
    risk = model.predict(rows.columns)
    outcome = (risk >= release.score["threshold"]).astype(int).tolist()
    cautions = reliability.cautions(rows.columns, model.unseen(rows.columns), training)
    # many rows have the same ones
    texts = {one: fields.caution_text(one, labels) for one in set(chain.from_iterable(cautions))}
    predictions: list[Record] = [
        {
            "client": client or None,
            "risk": own_risk,
            "outcome": own_outcome,
            "flags": [texts[caution] for caution in own],
        }
        for client, own_risk, own_outcome, own in zip(
            rows.clients, risk.tolist(), outcome, cautions, strict=True
        )
    ]
    if reasons:
        explained = explain(model, rows.columns, training["baseline"], reasons)
        for prediction, own_reasons in zip(predictions, explained, strict=True):
            prediction["reasons"] = [
                {**reason._asdict(), "text": fields.reason_text(reason, labels)}
                for reason in own_reasons
            ]
    return predictions


def explain(
    model: Served, columns: Columns, baseline: Mapping[str, Any], shown: int
) -> list[list[Reason]]:
    """List for each row the features that raise its risk the most, as `explanations.strongest` does."""
    contribution = model.explain(columns, baseline)
    names = sorted(model.features)
    contribution = contribution[:, [model.features.index(name) for name in names]]
    order = np.argsort(-contribution, axis=1, kind="stable")[:, :shown]
    raises = np.take_along_axis(contribution, order, axis=1) >= reliability.MIN_CONTRIBUTION
    order = _sort_by_lowering(model, columns, baseline, names, order, raises)
    values = {name: _plain(columns[name]) for name in names}
    return [
        [
            Reason(names[j], values[names[j]][i], baseline[names[j]], float(contribution[i, j]))
            for j in kept[:count]
        ]
        for i, (kept, count) in enumerate(
            zip(order.tolist(), raises.sum(axis=1).tolist(), strict=True)
        )
    ]


def _sort_by_lowering(
    model: Served,
    columns: Columns,
    baseline: Mapping[str, Any],
    names: Sequence[str],
    order: NDArray[np.intp],
    raises: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Move features whose baseline value alone would not lower the risk behind the others.

    order: (n, shown) places in `names`, the largest contribution first; raises: (n, shown)
    """
    score, lowers = model.score(columns), raises.copy()
    row, place = np.nonzero(raises)
    if len(row):
        feature = order[row, place]
        changed = {name: _take(columns[name], row) for name in names}
        for j, name in enumerate(names):
            for i in np.flatnonzero(feature == j).tolist():
                changed[name][i] = _value(baseline[name], columns[name])
        lowers[row, place] = model.score(changed) < score[row]
    return np.take_along_axis(order, np.argsort(~lowers, axis=1, kind="stable"), axis=1)


def _take(values: Values | Vector, rows: NDArray[np.intp]) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    return [values[i] for i in rows.tolist()]


def _value(value: Any, column: Values | Vector) -> Any:
    """Return a value of the baseline client as a column has it."""
    missing: Any = np.nan if isinstance(column, np.ndarray) else ""
    return missing if value is None else value


def _plain(values: Values | Vector) -> list[Any]:
    """Return the values of a column as JSON has them, None if missing."""
    if isinstance(values, np.ndarray):
        return [None if value != value else value for value in values.tolist()]
    return [value or None for value in values]
