"""Which features a record may leave out, by what training left out or saw missing."""

import numpy as np
import pandas as pd
import pytest

import training
from attrition.config import Columns, Numeric
from attrition.data.api_records import BadRecords, check_records
from attrition.web.request_body import optional_features

NAMES = ("logins", "fax_pages", "orders")
COLUMNS = Columns(numeric=tuple(map(Numeric, NAMES)), categorical=("plan",))


def trained(rows):
    """Describe a training on these rows: the features that it uses, and those with missing values."""
    used, _ = training.usable_features(rows, COLUMNS)
    missing = [name for name in used if (rows[name].isna() | (rows[name] == "")).any()]
    numeric = [name for name in used if name in COLUMNS.numeric_names]
    categorical = [name for name in used if name in COLUMNS.categorical]
    features = {"numeric": numeric, "categorical": categorical}
    return {"features": features, "missing_seen": missing}


@pytest.fixture
def rows():
    rows = {name: np.arange(4.0) for name in NAMES} | {"plan": ["a", "b", "a", "b"]}
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fax_pages", [np.nan] * 4),
        ("fax_pages", [7.0] * 4),
        ("orders", [1.0, np.nan, 2.0, 3.0]),
        ("plan", [""] * 4),
        ("plan", ["monthly"] * 4),
        ("plan", ["a", "", "b", "b"]),
    ],
)
def test_a_feature_that_is_not_used_or_was_missing_may_be_left_out(rows, name, values):
    optional = optional_features(COLUMNS, trained(rows.assign(**{name: values})))
    record = {"logins": 3, "fax_pages": 1, "orders": 2, "plan": "a"}
    absent = {key: value for key, value in record.items() if key != name}
    assert (
        len(check_records(COLUMNS, [record, record | {name: None}, absent], optional).clients) == 3
    )


@pytest.mark.parametrize(("change", "problem"), [({}, "missing"), ({"orders": None}, "is null")])
def test_a_feature_that_the_model_uses_may_not(rows, change, problem):
    optional = optional_features(COLUMNS, trained(rows))
    with pytest.raises(BadRecords) as error:
        check_records(COLUMNS, [{"logins": 3, "fax_pages": 1, "plan": "a"} | change], optional)
    [one] = error.value.problems
    assert one["field"] == "orders"
    assert one["problem"].startswith(problem)


def test_a_column_named_since_the_training_is_not_used_yet(rows):
    record = trained(rows)
    record["features"]["numeric"].remove("orders")
    assert optional_features(COLUMNS, record) == {"orders"}
