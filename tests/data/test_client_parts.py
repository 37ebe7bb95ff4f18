"""Clients of several parts, read as one table sorted by rank; planted."""

import numpy as np
import pyarrow as pa
import pytest

from attrition.data import client_parts, clients
from attrition.data.client_parts import ClientParts, PartFile, write_part

PARTS = [
    [("c", 0.5), ("d", 0.5), ("h", 0.1)],
    [("a", 0.9), ("b", 0.5), ("g", 0.5)],
    [],
    [("e", 0.4)],
]
BY_RANK = [*"abcdgeh"]


def make_parts(folder, parts):
    paths = []
    for rows in parts:
        names, risks = [name for name, _ in rows], [risk for _, risk in rows]
        columns = {
            clients.KEY: pa.array(clients.client_keys(names)),
            "client": pa.array(names, pa.string()),
            "risk": pa.array(risks, pa.float64()),
            "value": pa.array([None if name == "a" else risk for name, risk in rows], pa.float64()),
            "manager": pa.array([name.upper() for name in names], pa.string()),
        }
        paths.append(PartFile(write_part(folder, pa.table(columns))[0]))
    return ClientParts(paths)


@pytest.fixture(params=[1, 2, 4096])
def parts(request, tmp_path, monkeypatch):
    monkeypatch.setattr(client_parts, "BATCH_ROWS", request.param)
    return make_parts(tmp_path, PARTS)


def test_rows_are_sorted_by_risk_and_equal_risks_by_name(parts):
    assert parts.total == 7
    assert parts.take(range(7), ["client"])["client"].to_pylist() == BY_RANK
    assert parts.risk.tolist() == [0.9, 0.5, 0.5, 0.5, 0.5, 0.4, 0.1]


def test_columns_are_in_the_order_of_the_ranks(parts):
    assert np.nan_to_num(parts.numbers("value"), nan=-1).tolist()[:2] == [-1, 0.5]
    codes, levels = parts.codes("manager")
    assert [levels[code] for code in codes] == [name.upper() for name in BY_RANK]


def test_clients_are_taken_and_found_by_key_in_any_order(parts):
    table = parts.take([6, 0, 3], ["manager", "client"])
    assert table.to_pydict() == {"manager": ["H", "A", "D"], "client": ["h", "a", "d"]}
    assert parts.find(clients.client_keys(["d", "nobody", "a"])).tolist() == [3, -1, 0]
    assert parts.take([], ["client"])["client"].to_pylist() == []


def test_blocks_of_all_clients_follow_each_other(parts, monkeypatch):
    monkeypatch.setattr(client_parts, "MERGED_ROWS", 3)
    blocks = [*parts.merged(["client", "risk"])]
    assert [start for start, _ in blocks] == [0, 3, 6]
    assert [name for _, table in blocks for name in table["client"].to_pylist()] == BY_RANK


def test_without_any_client_there_is_one_block_without_rows(tmp_path):
    parts = make_parts(tmp_path, [[], []])
    ((start, table),) = parts.merged(["client"])
    assert (start, len(table), parts.total) == (0, 0, 0)
    assert parts.codes("manager")[1] == []
    assert parts.find(clients.client_keys(["a"])).tolist() == [-1]
