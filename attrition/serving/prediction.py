"""Predict the risks of checked rows, with flags if a risk is uncertain, and with reasons if asked.

No Flask and no DataFrame: the rows are columns, as `data.api_records` returns them.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrition.contacts import fields
from attrition.data.api_records import CheckedRows, Values
from attrition.data.cells import Reason
from attrition.modelling import reliability
from attrition.operations.releases import Release
from attrition.serving import explaining
from attrition.serving.served import Served
from attrition.storage.files import Record

Columns = Mapping[str, Any]
Vector = NDArray[np.float64]


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
    """List for each row the features that raise its risk the most, the strongest first."""
    rows = model.encode(columns)
    added = model.explain(rows, baseline)
    order, counts = explaining.strongest(model, rows, added, model.score(rows), baseline, shown)
    values = {name: _plain(columns[name]) for name in model.features}
    names = model.features
    return [
        [
            Reason(names[j], values[names[j]][i], baseline[names[j]], float(added[i, j]))
            for j in own[:count]
        ]
        for i, (own, count) in enumerate(zip(order.tolist(), counts.tolist(), strict=True))
    ]


def _plain(values: Values | Vector) -> list[Any]:
    """Return the values of a column as JSON has them, None if missing."""
    if isinstance(values, np.ndarray):
        return [None if value != value else value for value in values.tolist()]
    return [value or None for value in values]
