"""The rows of one client, found in the typed rows."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attrition.config import Columns, Numeric
from attrition.rows import ledger, observations
from attrition.rows.observations import (
    CLIENT_HASH,
    DELIVERED,
    NUMBER,
    ObservedRows,
    name_hash,
)
from tests.conftest import make_rows


def read_lines(config):
    return [(line.ingested_at, line.source) for line in ledger.read_lines(config)]


def test_observations_of_a_client_have_outcome_and_delivery(project):
    rows, lines = [ObservedRows(project.rows, project.columns)], read_lines(project)
    source = pd.read_csv(project.input_folder / "history.csv")
    for name, exited in zip(source["corporation"][:5], source["exited"], strict=False):
        (one,) = observations.find(rows, name, lines)
        assert (one.churned, one.source) == (exited == 1, "history.csv")
        assert one.ingested_at == lines[0][0] or one.ingested_at == lines[1][0]
    (current,) = observations.find(rows, "now3", lines)
    assert (current.churned, current.source) == (None, "current.csv")
    assert observations.find(rows, "nobody", lines) == []


def test_columns_that_config_names_anew_are_unknown_until_the_next_run(project):
    columns = dataclasses.replace(project.columns, outcome="other", time="at", categorical=("new",))
    rows = [ObservedRows(project.rows, columns)]
    (one,) = observations.find(rows, make_rows(1)["corporation"][0], read_lines(project))
    assert one.churned is None


def test_observations_of_segments_are_in_the_order_of_time_without_dates(tmp_path):
    columns = Columns(
        client="name", time="at", outcome="left", numeric=(Numeric("x"),), dates=("ends",)
    )
    columns = dataclasses.replace(columns, categorical=("plan",))
    table = pa.table(
        {
            "name": ["a", "b", "a", "b", "a", "c"],
            "at": [f"2026-10-0{i}" for i in (3, 1, 1, 2, 2, 1)],
            "left": pa.nulls(6, pa.float64()),
            "x": [3.0, 7.0, None, 8.0, 2.0, 9.0],
            "ends": [1.0] * 6,
            "plan": ["new", "", "old", "", "", ""],
            CLIENT_HASH: pa.array([name_hash(name) for name in "ababac"], pa.uint64()),
        }
    )
    pq.write_table(table, tmp_path / "earlier", row_group_size=2)
    rows = ObservedRows(tmp_path / "earlier", columns)
    delivered = np.array([0, 1, 1, 1, 0, 1], "int32")
    found = observations.find([rows], "a", [("then", "x"), ("now", "y")], delivered=delivered)
    assert [one.source for one in found] == ["y", "x", "x"]
    table = table.append_column(NUMBER, pa.array([5, 1, 2, 3, 4, 0]))
    table = table.append_column(DELIVERED, pa.array(delivered))
    for name, part in (("a", table[:3]), ("b", table[3:])):
        pq.write_table(part, tmp_path / name)
    rows = [ObservedRows(tmp_path / name, columns) for name in "ab"]
    assert len(observations.find(rows, "a", [], gone=np.array([2, 3, 5]))) == 1
    found = observations.find(rows, "a", [])
    assert [(one.time[-1], one.features) for one in found] == [
        ("1", {"x": None, "plan": "old"}),
        ("2", {"x": 2.0, "plan": None}),
        ("3", {"x": 3.0, "plan": "new"}),
    ]
