"""CSV that no spreadsheet runs."""

import csv
import io

import pytest

from attrition.web import responses


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\tx", "\rx", " =1", "＝1", "\ufeff=1"])
def test_cell_that_a_spreadsheet_would_run_is_defused(cell):
    (_, row) = csv.reader(
        io.StringIO(
            responses.defuse([{"client": cell, "n": "-1"}], ["client"]).decode(), newline=""
        )
    )
    assert row == [f"'{cell}", "-1"]
