"""Lines of finaldata.csv, written, and copied without some of them."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest

from attrition.rows import row_files
from attrition.rows.row_files import copy_lines, to_lines


@pytest.mark.parametrize("block", [3, 7, 16, 1 << 20])
@pytest.mark.parametrize("dropped", [[], [0], [4], [1, 2, 3], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_lines_are_copied_without_those_dropped(monkeypatch, block, dropped):
    monkeypatch.setattr(row_files, "BLOCK", block)
    lines = [b"a,1\n", b"\n", b"a long line of text\n", b"b\n", b"c,\n"]
    source, target = io.BytesIO(b"header\n" + b"".join(lines)), io.BytesIO()
    source.readline()
    assert copy_lines(source, target, np.array(dropped, int)) == 5 - len(dropped)
    assert target.getvalue().splitlines(True) == [
        line for i, line in enumerate(lines) if i not in dropped
    ]


@pytest.mark.parametrize(
    "cell", ['"', ",", "\r", "\n", "'", " x ", "\t", "é", "\u2028", "", "\\", ";"]
)
def test_lines_read_back_as_their_cells(cell):
    texts = [["a", f"b{cell}d", cell], ["", "1", cell]]
    lines = to_lines([pa.array(column) for column in texts]).decode()
    rows = csv.reader(io.StringIO(lines, newline=""), strict=True)
    assert [*rows] == [list(row) for row in zip(*texts, strict=True)]
