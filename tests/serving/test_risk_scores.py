"""The lines of riskscores.csv are those that pandas writes, cell by cell."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attrition.config import Columns, Label
from attrition.contacts import fields
from attrition.data.cells import Caution, Reason
from attrition.serving import risk_scores
from attrition.storage import tables

NAMES = ["plain", 'quote " and, comma', "=1+1", "A;=1+1", "Łódź", "007", "new\nline", "re\rturn"]
RISKS = [0.5, 0.1 + 0.2, 1e-7, 9.9e-5, 1e-4, 0.0, 1.0, 0.123456789012345678]
VALUES = [np.nan, 1.0, 1e15, 1e16, 123456.789, -5.0, 0.1, 1e22]
LABELS = {"n": Label("n", label="orders", unit="a year"), "d": Label("d", is_date=True)}
BASELINE = {"n": 20.0, "l": "a", "d": None}


def make_table(due):
    n = len(NAMES)
    return pd.DataFrame(
        {
            **{"client": NAMES, "risk": RISKS, "rank": np.arange(1, n + 1)},
            **{"observed_at": "2026-10-01", "value": VALUES, "value_at_risk": VALUES},
            **{
                "manager": ["", "Kim", "@Kim", *["Lee"] * (n - 3)],
                "due": ["2031-01-31", *[""] * (n - 1)],
            },
        }
    )


@pytest.mark.parametrize("due", [None, "ends"])
def test_lines_are_those_of_pandas(due):
    table, columns = make_table(due), Columns(due=due)
    n = len(table)
    values = {
        "n": np.array([1.5, np.nan, 100.5, 99.999, 1e6, 101.5, 0.0, 2.0]),
        "l": ["a", "", "=b", "c,d", "a", "a", "a", "a"],
        "d": np.array([45.0, -3.0, 36525.0, 1095.0, np.nan, 250.5, 0.0, 1.0]),
    }
    order, counts = np.tile([0, 1, 2], (n, 1)), np.array([3, 3, 3, 3, 3, 3, 1, 0])
    plain = {
        name: [None if v != v or v == "" else v for v in each] for name, each in values.items()
    }
    reasons = [
        [Reason(name, plain[name][i], BASELINE[name], 0.1) for name in [*values][: counts[i]]]
        for i in range(n)
    ]
    cautions = [[Caution("never_missing", "n")], [], [Caution("few_clients")] * 2, *[[]] * (n - 3)]
    frame = table.assign(reasons=reasons, cautions=cautions)
    expected = tables.frame_bytes(
        fields.csv_table(frame, risk_scores.names(columns), LABELS, columns)
    )
    stored = pa.table({name: pa.array(table[name], from_pandas=True) for name in table})
    texts = risk_scores.reason_texts(order, counts, values, BASELINE, LABELS)
    cells = risk_scores.cells(stored, stored["manager"], texts, cautions, LABELS)
    for name, each in cells.items():
        stored = stored.append_column(name, each)
    lines = risk_scores.header(columns) + bytes(risk_scores.lines(stored, 0, columns))
    assert lines == expected
