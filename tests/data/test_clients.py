import errno
import gc
import io
import math
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from attrition.config import Columns, Numeric
from attrition.data import clients
from attrition.data.cells import Caution, Reason
from attrition.data.clients import ClientTable
from tests.support import PLAIN, plain_rows

X = Numeric("x")
REASONS = [
    Reason("trade", "plan A; legacy", "plan B", 0.75),
    Reason("size", None, 38.0, 0.25),
]
CAUTIONS = [Caution("outside_range", "size", 900.0, 0.5, 300.0), Caution("few_clients")]
STORED = Columns(client="name", outcome="left", numeric=(X,), categorical=("risk",), value="worth")


def make_table(n=25, **columns):
    """Clients c0, c1 ... ranked by a falling risk; every other one is Ann's."""
    place = np.arange(n)
    table = {
        "client": [f"c{i}" for i in place],
        "rank": place + 1,
        "risk": 1 - (place + 1) / (n + 1),
        "observed_at": "",
        "value": [math.nan if i % 5 == 0 else 10.0 * i for i in place],
        "value_at_risk": math.nan,
        "manager": ["Ann" if i % 2 == 0 else "Bob" for i in place],
        "due": ["2027-01-31" if i % 2 == 0 else "" for i in place],
        "phone": ["+49 30 1" if i % 2 == 0 else "" for i in place],
        "email": "",
        "list_rank": pd.array([pd.NA] * n, "Int64"),
        "previous_rank": pd.array([pd.NA] * n, "Int64"),
        "risk_change": math.nan,
        "reasons": [REASONS] * n,
        "list_reasons": [REASONS[:1]] * n,
        "changes": [[]] * n,
        "cautions": [CAUTIONS] * n,
        "feature_x": [math.nan if i == 1 else float(i) for i in place],
        "feature_risk": ["" if i == 1 else f"level {i}" for i in place],
    }
    return pd.DataFrame(table | columns)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    monkeypatch.setattr(clients, "GROUP_ROWS", 10)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clients.parquet"
    clients.write_clients(path, make_table())
    return path


def test_write_that_fails_raises_its_error_and_writes_nothing_later(capfd):
    class Full(io.BytesIO):
        def write(self, data):
            assert not self.closed
            raise OSError(errno.ENOSPC, "No space left on device")

    with Full() as file, pytest.raises(OSError, match="No space left"):
        clients.write_clients(file, make_table())
    gc.collect()
    assert capfd.readouterr().err == ""


# ---- current clients


def current(*rows, columns=PLAIN):
    found = clients.current_clients(plain_rows(*rows, columns=columns), columns)
    return list(zip(found[columns.client_name], found[columns.features[0]], strict=True))


def test_current_clients_are_those_without_an_outcome():
    assert current("a,1,2,3,", "b,1,2,3,0", "c,1,2,3,1") == [("a", 1)]


def test_latest_open_row_of_a_client_counts():
    assert current("a,1,2,3,", "b,5,2,3,", "a,2,2,3,") == [("a", 2), ("b", 5)]


def test_client_that_left_since_is_not_current():
    assert current("a,1,2,3,", "b,1,2,3,", "a,2,2,3,1") == [("b", 1)]


def test_client_that_came_back_is_current():
    assert current("a,1,2,3,1", "a,2,2,3,") == [("a", 2)]


def test_client_with_an_open_row_that_stayed_before_and_after_is_current():
    assert current("a,1,2,3,0", "a,2,2,3,", "a,3,2,3,0") == [("a", 2)]


def test_without_open_rows_the_latest_of_each_client_that_stayed_counts():
    assert current("a,1,2,3,0", "a,2,2,3,0", "b,1,2,3,0", "b,2,2,3,1") == [("a", 2)]


def test_time_decides_which_row_is_the_latest():
    columns = Columns(numeric=(X,), time="seen")
    rows = ("a,2026-03-02,2,", "a,2026-03-01,1,", "b,2026-03-01,1,1", "b,2026-02-01,2,")
    assert current(*rows, columns=columns) == [("a", 2)]


def test_nobody_is_current_where_there_are_no_rows():
    empty = plain_rows("a,1,2,3,0").iloc[:0]
    assert clients.current_clients(empty, PLAIN).empty


# ---- the table


def test_same_clients_give_the_same_bytes(path, tmp_path):
    clients.write_clients(tmp_path / "again", make_table())
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_table_of_an_earlier_version_is_read_without_what_it_lacks(path, tmp_path):
    old = tmp_path / "old.parquet"
    pq.write_table(
        pq.read_table(path).drop_columns(["list_reasons", "changes", "due", "phone"]), old
    )
    row = ClientTable(old).find("c2")
    assert row["reasons"] == REASONS
    assert row["due"] is row["phone"] is None
    assert row["list_reasons"] == row["changes"] == []
    assert [row["list_reasons"] for row in ClientTable(old).read([0, 1])] == [[], []]


def test_client_is_found_with_its_features_reasons_and_cautions(path):
    row = ClientTable(path).find("c12")
    assert (row["rank"], row["manager"], row["value"]) == (13, "Ann", 120.0)
    assert (row["due"], row["phone"], row["email"]) == ("2027-01-31", "+49 30 1", None)
    assert row["features"] == {"x": 12.0, "risk": "level 12"}
    assert row["reasons"] == REASONS
    assert row["cautions"] == CAUTIONS


def test_what_is_not_known_is_none(path):
    row = ClientTable(path).find("c1")
    assert row["features"] == {"x": None, "risk": None}
    assert row["observed_at"] is row["value_at_risk"] is row["list_rank"] is None


def test_level_with_a_semicolon_stays_one_value(path):
    assert ClientTable(path).find("c3")["reasons"][0].value == "plan A; legacy"


def test_unknown_client_is_not_found(path):
    assert ClientTable(path).find("c25") is None


def test_clients_whose_keys_collide_are_told_apart(tmp_path, monkeypatch):
    keys = lambda names: np.zeros(len(list(names)), dtype="uint64")  # noqa: E731
    monkeypatch.setattr(clients, "client_keys", keys)
    clients.write_clients(tmp_path / "t", make_table())
    table = ClientTable(tmp_path / "t")
    assert [table.find(name)["rank"] for name in ("c0", "c24")] == [1, 25]
    assert table.find("gone") is None


def test_one_row_group_is_read_for_one_client(path):
    table = ClientTable(path)
    table._file = Mock(wraps=table._file)
    table.find("c12")
    assert [call.args[0] for call in table._file.read_row_group.call_args_list] == [1]


def test_keys_are_those_of_the_names_alone():
    first, again = clients.client_keys(["a", "東京"]), clients.client_keys(["東京", "a"])
    assert first.dtype == np.uint64
    assert first.tolist() == again.tolist()[::-1]
    assert first.tolist() == [0x2F42665B399EF840, 0xF02B68D1CA5511EE]  # as in files on disk


def test_table_with_row_groups_of_another_size_is_read(path, monkeypatch):
    monkeypatch.setattr(clients, "GROUP_ROWS", 7)  # as if this version wrote smaller ones
    rows = ClientTable(path).read([24, 3, 11])
    assert [row["client"] for row in rows] == ["c24", "c3", "c11"]
    assert ClientTable(path).find("c17")["client"] == "c17"


def test_lists_that_a_row_group_lacks_are_not_read_and_are_empty(tmp_path):
    lists = [REASONS[:1]] * 10 + [[]] * 15  # two groups and a half
    table = make_table(list_reasons=lists, changes=lists[::-1], cautions=[CAUTIONS] + [[]] * 24)
    clients.write_clients(tmp_path / "t", table)
    opened = ClientTable(tmp_path / "t")
    rows = opened.read(range(25))
    assert [row["list_reasons"] for row in rows] == lists
    assert [row["changes"] for row in rows] == lists[::-1]
    assert [bool(row["cautions"]) for row in rows] == [True] + [False] * 24
    missing = {"list_reasons", "cautions"}
    assert missing.isdisjoint(opened._read_group(1, None).column_names)
    assert missing <= {*opened._read_group(0, None).column_names}


def test_listed_are_in_the_order_of_the_list(tmp_path):
    places = pd.array([3, 1] + [pd.NA] * 22 + [2], "Int64")
    clients.write_clients(tmp_path / "t", make_table(list_rank=places))
    listed = ClientTable(tmp_path / "t").listed
    assert [(row["rank"], row["client"]) for row in listed] == [(1, "c1"), (2, "c24"), (3, "c0")]


def test_assessed_clients_are_typed_as_rows_in_the_order_of_their_keys(path):
    keys = clients.read_column(path, clients.KEY)
    names = dict(zip(keys, clients.read_column(path, "client"), strict=True))
    rows, risk = clients.read_assessed(path, STORED)
    assert list(rows.columns) == ["x", "risk", "worth"]
    assert rows["x"].isna().sum() == 1
    assert (rows["risk"] == "").sum() == 1
    order = [int(level.split()[1]) if level else 1 for level in rows["risk"]]
    assert [f"c{i}" for i in order] == [names[key] for key in sorted(keys)]
    assert risk.tolist() == make_table()["risk"].to_numpy()[order].tolist()


def test_assessed_clients_have_their_times_if_there_is_a_column_of_times(tmp_path):
    clients.write_clients(tmp_path / "t", make_table(observed_at="2026-03-01"))
    rows, _ = clients.read_assessed(tmp_path / "t", replace(STORED, time="seen"))
    assert (rows["seen"] == "2026-03-01").all()


def test_table_of_no_clients_is_served(tmp_path):
    clients.write_clients(tmp_path / "t", make_table().iloc[:0])
    table = ClientTable(tmp_path / "t")
    assert (table.total, table.find("c1"), table.listed) == (0, None, [])
    assert table.read([]) == []
    assert table.rows_of(["c1"]) == {}


def test_columns_are_read_alone(path):
    assert list(clients.read_clients(path, ["rank", "client"]).columns) == ["rank", "client"]


def test_types_are_those_declared(path):
    kinds = pq.read_schema(path)
    assert {name: kinds.field(name).type for name in clients.COLUMNS} == clients.COLUMNS


@pytest.mark.parametrize(
    ("query", "names"),
    [
        *[(query, ["O'Hara & Søn Crown"]) for query in ("son crown", "ohara", "o'hara", "O’HARA")],
        *[(query, ["Łódź Æther"]) for query in ("lodz", "łódź", "aether", "ÆTHER")],
        *[(query, ["Œuvre Ðorþ"]) for query in ("oeuvre", "dorth", "œuvre")],
        *[(query, ["Işık Đakovo"]) for query in ("isik", "ISIK", "dakovo", "işık")],
        *[(query, ["D`Arcy ʼt Hof"]) for query in ("darcy", "d'arcy", "d’arcy 't")],
    ],
)
def test_search_needs_neither_special_letters_nor_apostrophes(tmp_path, query, names):
    everybody = ["O'Hara & Søn Crown", "Łódź Æther", "Œuvre Ðorþ", "Işık Đakovo", "D`Arcy ʼt Hof"]
    clients.write_clients(tmp_path / "named", make_table(5, client=everybody))
    table = ClientTable(tmp_path / "named")
    found = [row["client"] for row in table.read(table.search(query).tolist())]
    assert found == names
