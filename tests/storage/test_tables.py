import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition.errors import Damaged
from attrition.storage import tables

HOSTILE = ["NA", "nan", "", "a,b", 'say "hi"', "Café", "=1+1", "007", "null", "a\nb"]


def test_csv_reads_back_as_it_was_written(tmp_path):
    (tmp_path / "t.csv").write_bytes(tables.csv_bytes([("name", "n"), *((t, 1) for t in HOSTILE)]))
    assert list(tables.read_cells(tmp_path / "t.csv")) == [[text, "1"] for text in HOSTILE]
    rows = tables.parse_dicts((tmp_path / "t.csv").read_bytes())
    assert rows == [{"name": text, "n": "1"} for text in HOSTILE]
    assert tables.read_texts(tmp_path / "t.csv")["name"].tolist() == HOSTILE


def test_system_memory_is_for_the_block_only():
    before = pa.default_memory_pool().backend_name
    with tables.system_memory():
        assert pa.default_memory_pool().backend_name == "system"
    assert pa.default_memory_pool().backend_name == before


def test_frame_is_the_csv_of_its_cells():
    frame = pd.DataFrame({"name": HOSTILE, "n": 1}, dtype=object)
    assert tables.frame_bytes(frame) == tables.csv_bytes([frame.columns, *frame.to_numpy()])


def test_name_that_is_not_unicode_is_written_with_its_bytes_escaped():
    name = b"\xff".decode("utf-8", "surrogateescape")
    frame = pd.DataFrame({"x": [name]}, dtype=object)
    assert tables.csv_bytes([["x"], [name]]) == tables.frame_bytes(frame) == b"x\n\\udcff\n"


def arrow_table():
    numbers = pa.array([0.1, None, 5e-324, *range(len(HOSTILE) - 3)], pa.float64())
    ids = pa.array(range(2**64 - len(HOSTILE), 2**64), pa.uint64())
    return pa.table({"name": HOSTILE, "n": numbers, "a.b": ids})


def test_parquet_reads_back_only_what_is_asked_for(tmp_path):
    (tmp_path / "t.parquet").write_bytes(tables.parquet_bytes(arrow_table()))
    assert tables.read_parquet(tmp_path / "t.parquet")["name"].tolist() == HOSTILE
    frame = tables.read_parquet(tmp_path / "t.parquet", ["a.b", "name"])
    assert frame.dtypes.astype(str).to_dict() == {"a.b": "uint64", "name": "object"}
    assert frame["a.b"].tolist() == arrow_table()["a.b"].to_pylist()
    numbers = tables.read_parquet(tmp_path / "t.parquet", ["n"])["n"]
    assert numbers.dtype == "float64"
    assert numbers.isna().tolist() == [False, True, *[False] * (len(HOSTILE) - 2)]


def test_parquet_of_the_same_rows_has_the_same_bytes_however_they_come(monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    table, written = arrow_table(), set()
    for size in (1, 2, 4, len(table)):
        file = io.BytesIO()
        tables.write_parquet(file, [table[at : at + size] for at in range(0, len(table), size)])
        written.add(file.getvalue())
    assert len(written) == 1
    about = pq.ParquetFile(io.BytesIO(written.pop())).metadata
    assert [about.row_group(i).num_rows for i in range(about.num_row_groups)] == [3, 3, 3, 1]


def test_parquet_has_a_dictionary_only_where_values_repeat_and_hashes_as_they_are():
    names = pa.array([f"client {i}" for i in range(1000)])
    rows = pa.table({"name": names, "plan": ["basic", "plus"] * 500, "hash": pa.array(range(1000))})
    file = io.BytesIO()
    tables.write_parquet(file, [rows[:0], rows], unique=["hash"])
    group = pq.ParquetFile(file).metadata.row_group(0)
    about = {group.column(i).path_in_schema: group.column(i) for i in range(3)}
    has_dictionary = {name: each.has_dictionary_page for name, each in about.items()}
    assert has_dictionary == {"name": False, "plan": True, "hash": False}
    compressed = {name: each.compression for name, each in about.items()}
    assert compressed == {"name": "SNAPPY", "plan": "SNAPPY", "hash": "UNCOMPRESSED"}


def test_parquet_of_no_rows_keeps_its_columns(tmp_path):
    (tmp_path / "t.parquet").write_bytes(tables.parquet_bytes(arrow_table()[:0]))
    frame = tables.read_parquet(tmp_path / "t.parquet")
    assert (len(frame), list(frame.columns)) == (0, ["name", "n", "a.b"])


@pytest.mark.parametrize("read", [tables.read_parquet, lambda path: list(tables.read_parts(path))])
def test_parquet_that_cannot_be_read_is_told_by_its_path(tmp_path, read):
    (tmp_path / "t.parquet").write_bytes(tables.parquet_bytes(arrow_table())[:-5])
    for name in ("t.parquet", "nowhere.parquet"):
        with pytest.raises(Damaged, match=f"{name}: cannot be read"):
            read(tmp_path / name)
