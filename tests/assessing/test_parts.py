"""The table of assessed clients of a part."""

import numpy as np
import pandas as pd
import pytest

from attrition.assessing import parts
from attrition.config import Columns, Numeric
from attrition.data import cells

VALUED = Columns(
    client="client",
    outcome="left",
    numeric=(Numeric("a"),),
    value="worth",
    manager="who",
    due="ends",
    phone="tel",
)


def test_value_at_risk_is_risk_times_value():
    details = {"who": "Kim", "ends": "2027-01-31", "tel": "+49 30 1"}
    worth = [10.0, np.nan, 1000.0]
    rows = pd.DataFrame({"client": list("pqr"), "a": 1.0, "worth": worth, **details})
    table = parts.tabulate(rows, np.array([0.9, 0.8, 0.1]), VALUED)
    found = table.to_pandas().set_index("client")
    assert found["value_at_risk"].tolist() == pytest.approx([9.0, np.nan, 100.0], nan_ok=True)
    assert found["manager"].tolist() == ["Kim"] * 3
    details = found[["due", "phone", "email"]].drop_duplicates().to_numpy().tolist()
    assert details == [["2027-01-31", "+49 30 1", ""]]


def test_due_date_that_is_a_feature_follows_from_its_days_and_the_time():
    columns = Columns(time="seen", numeric=(), dates=("ends",), due="ends")
    rows = pd.DataFrame(
        {
            "seen": ["2026-11-28", "2026-11-28T10:00:00Z", "", "2026-11-28", "2026-11-28"],
            "ends": [45.0, -1.0, 3.0, float("nan"), float(cells.MAX_DAYS)],
        }
    )
    assert parts.due_dates(rows, columns) == ["2027-01-12", "2026-11-27", "", "", ""]
