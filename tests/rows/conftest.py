"""Fixtures of the tests of rows."""

import pytest

from attrition.rows import segments
from attrition.storage import tables
from tests.conftest import write_config
from tests.segments import DATED


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A project whose row groups have eight rows."""
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    monkeypatch.setattr(segments, "ROWS_PER_RUN", 16)
    monkeypatch.setattr(segments, "ROWS_PER_BATCH", 4)
    return write_config(tmp_path, columns=DATED)
