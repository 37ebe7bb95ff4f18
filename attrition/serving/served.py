"""The interface of a model in production, and an adapter for models that cannot be flattened."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, Any]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Served(Protocol):
    """What the app needs of a model; columns: numbers (n,) float64, categories as lists of text."""

    @property
    def features(self) -> tuple[str, ...]: ...

    def encode(self, rows: Any) -> Any:
        """Return what the other methods take too, so that columns are read once for several of them."""

    def predict(self, rows: Any) -> Vector:
        """Compute the risks: (n,)."""

    def score(self, rows: Any) -> Vector:
        """Compute the log-odds before calibration: (n,)."""

    def to_risk(self, score: Vector) -> Vector:
        """Calibrate scores: (n,) log-odds to (n,) risks."""

    def explain(self, rows: Any, baseline: Mapping[str, Any]) -> Matrix:
        """Compute the contributions: (n, features)."""

    def compare(self, rows: Any, earlier: Any) -> Matrix:
        """Compute the contributions against an earlier row of each client: (n, features)."""

    def replace(
        self,
        rows: Any,
        at: NDArray[np.intp],
        features: NDArray[np.intp],
        baseline: Mapping[str, Any],
    ) -> Any:
        """Return some encoded rows, in each of which one feature has its baseline value."""

    def unseen(self, rows: Any) -> dict[str, NDArray[np.bool_]]:
        """Return for each category which rows have a level that is new to the model: (n,)."""


@dataclass(frozen=True)
class FrameModel:
    """A model that cannot be flattened; it evaluates a DataFrame, which is slower."""

    model: Any

    @property
    def features(self) -> tuple[str, ...]:
        return cast(tuple[str, ...], self.model.features)

    def encode(self, rows: Any) -> Any:
        import pandas as pd

        if isinstance(rows, pd.DataFrame):
            return rows
        values = {name: rows[name] for name in self.features}
        is_number = {name: isinstance(each, np.ndarray) for name, each in values.items()}
        types = {name: "float64" if is_number[name] else "object" for name in values}
        return pd.DataFrame({name: pd.Series(values[name], dtype=types[name]) for name in values})

    def predict(self, rows: Any) -> Vector:
        return self.to_risk(self.score(rows))

    def score(self, rows: Any) -> Vector:
        from attrition.modelling import models

        return models.score(self.model, self.encode(rows))

    def to_risk(self, score: Vector) -> Vector:
        from attrition.modelling import models

        return models.to_risk(self.model, score)

    def explain(self, rows: Any, baseline: Mapping[str, Any]) -> Matrix:
        from attrition.modelling import explanations

        return explanations.contributions(self.model, self.encode(rows), baseline).to_numpy()

    def compare(self, rows: Any, earlier: Any) -> Matrix:
        from attrition.modelling import explanations

        now, then = self.encode(rows), self.encode(earlier)
        return explanations.contributions(self.model, now, then).to_numpy()

    def replace(
        self,
        rows: Any,
        at: NDArray[np.intp],
        features: NDArray[np.intp],
        baseline: Mapping[str, Any],
    ) -> Any:
        changed = rows.iloc[at].reset_index(drop=True)
        for i, name in enumerate(self.features):
            value = np.nan if baseline[name] is None else baseline[name]
            changed[name] = changed[name].mask(features == i, value)
        return changed

    def unseen(self, rows: Any) -> dict[str, NDArray[np.bool_]]:
        from attrition.modelling import models

        return models.unseen_levels(self.model, self.encode(rows))
