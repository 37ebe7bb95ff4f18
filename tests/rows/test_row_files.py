"""Lines of finaldata.csv, copied without some of them."""

import io

import numpy as np
import pytest

from attrition.rows import row_files
from attrition.rows.row_files import copy_lines


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
