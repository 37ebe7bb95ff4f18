"""Typed rows for tests of the data."""

import pandas as pd

from attrition.config import Columns
from attrition.data import schema

PLAIN = Columns()


def plain_rows(*rows, columns=PLAIN):
    """Typed rows of the plain form: client, features and outcome as text."""
    cells = [row.split(",") for row in rows]
    return schema.typed(pd.DataFrame(cells, columns=list(columns.table), dtype=object), columns)
