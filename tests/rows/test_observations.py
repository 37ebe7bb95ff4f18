"""The rows of one client, found in the typed rows."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attrition.config import Columns, Numeric
from attrition.rows import ledger, observations
from attrition.rows.observations import CLIENT_HASH, DELIVERED, Observation, ObservedRows, name_hash
from attrition.storage import files
from tests.conftest import make_rows


def read(config):
    lines = [(line.ingested_at, line.source) for line in ledger.read_lines(config)]
    return files.read_arrays(config.deliveries)[DELIVERED], lines


def test_observations_of_a_client_have_outcome_and_delivery(project):
    rows = ObservedRows(project.rows, project.columns)
    delivered, lines = read(project)
    source = pd.read_csv(project.input_folder / "history.csv")
    for name, exited in zip(source["corporation"][:5], source["exited"], strict=False):
        (one,) = rows.find(name, delivered, lines)
        assert (one.churned, one.source) == (exited == 1, "history.csv")
        assert one.ingested_at == lines[0][0] or one.ingested_at == lines[1][0]
    (current,) = rows.find("now3", delivered, lines)
    assert (current.churned, current.source) == (None, "current.csv")
    assert rows.find("nobody", delivered, lines) == []


def test_rows_of_an_earlier_version_have_no_delivery(project):
    rows = ObservedRows(project.rows, project.columns)
    assert rows.find("now3", np.zeros(0, np.int32), []) == [Observation("", None, "", "")]


def test_columns_that_config_names_anew_are_unknown_until_the_next_run(project):
    columns = dataclasses.replace(project.columns, outcome="other", time="at", categorical=("new",))
    rows = ObservedRows(project.rows, columns)
    assert rows.find(make_rows(1)["corporation"][0], *read(project))[0].churned is None


def test_features_of_a_client_are_read_in_the_order_of_time_without_dates(tmp_path, monkeypatch):
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
    pq.write_table(table, tmp_path / "rows", row_group_size=2)
    rows = ObservedRows(tmp_path / "rows", columns)
    monkeypatch.setattr(observations, "GROUPS_READ", 3)
    found = rows.find("a", np.zeros(0, np.int32), [])
    assert [(one.time[-1], one.features) for one in found] == [
        ("1", {"x": None, "plan": "old"}),
        ("2", {"x": 2.0, "plan": None}),
        ("3", {"x": 3.0, "plan": "new"}),
    ]
    monkeypatch.setattr(observations, "GROUPS_READ", 2)  # the first is no longer read
    found = rows.find("a", np.zeros(0, np.int32), [])
    assert [one.features.get("x") for one in found] == [None, 2.0, None]
    (single,) = rows.find("c", np.zeros(0, np.int32), [])
    assert single.features == {}  # there is nothing to compare it with
