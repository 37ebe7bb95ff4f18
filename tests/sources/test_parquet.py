import io
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition.data.schema import Refused
from attrition.sources.parquet import read_parquet
from ingestion import ingest_new_data
from tests.conftest import write_config
from tests.support import counts, ledger, put, rows_of

MAX_BYTES = 8 << 20
NUMBERS = ("lastmonth_activity", "lastyear_activity", "number_of_employees", "exited")


def parquet(table):
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def repeated(text, rows, kind=None):
    """A column that has one value a million times, and takes no more bytes for that."""
    values = pa.array([text], kind)
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), values)


def table_of(rows, **columns):
    return {**columns, **{name: [0] * rows for name in NUMBERS}}


@pytest.mark.parametrize(
    "column",
    [
        repeated("x" * 5000, 2000),
        repeated("x" * 5000, 2000, pa.large_string()),
        repeated(b"x" * 5000, 2000),
    ],
    ids=["text", "large", "bytes"],
)
def test_text_is_counted_as_often_as_it_stands_there(column):
    data = parquet({"x": column})
    assert len(data) < 20_000
    with pytest.raises(Refused, match="10000000 bytes when unpacked") as error:
        read_parquet(io.BytesIO(data), MAX_BYTES)
    assert error.value.code == "TOO_LARGE"
    assert not error.value.unfinished


@pytest.mark.parametrize("name", ["corporation", "note"])
def test_million_long_texts_are_refused_in_seconds_and_not_tried_again(tmp_path, name):
    config = write_config(tmp_path, max_source_mb=64)
    columns = {"corporation": repeated("acme", 1_000_000), name: repeated("x" * 5000, 1_000_000)}
    data = parquet(table_of(1_000_000, **columns))
    assert len(data) < 100_000
    put(config, "a.parquet", data)
    began = time.process_time()
    ingest_new_data(config)
    assert time.process_time() - began < 10
    [line] = ledger(config)
    assert (line["verdict"], line["reason"][:10]) == ("quarantined", "TOO_LARGE:")
    assert ingest_new_data(config).up_to_date


def test_long_rows_are_split_into_small_chunks():
    data = parquet({"x": repeated("x" * 9000, 20_000)})
    table = read_parquet(io.BytesIO(data), 1 << 30)
    sizes = [chunk.records for chunk in table.chunks]
    assert (sum(sizes), max(sizes) * 9000 < 70 << 20) == (20_000, True)


LISTS = pa.array([["a"], ["b"], None, []])
NESTED = {
    "list": LISTS,
    "struct": pa.array([{"a": 1}, {"a": 2}, {"a": 3}, None]),
    "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "list of structs": pa.array([[{"a": "x"}]] * 4),
}


@pytest.mark.parametrize("column", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("name", ["corporation", "kind"])
def test_nested_value_is_no_name_and_no_level(tmp_path, column, name):
    columns = {"numeric": ["lastmonth_activity"], "categorical": ["kind"]}
    config = write_config(tmp_path, columns=columns)
    own = {"corporation": list("abcd"), "kind": list("aabb"), name: column}
    put(config, "a.parquet", parquet(table_of(4, **own)))
    ingest_new_data(config)
    [line] = ledger(config)
    assert (line["verdict"], counts(line)) == ("quarantined", (0, 4, 0))
    assert "CONTROL_CHAR: 4" in line["reason"]


@pytest.mark.parametrize("column", NESTED.values(), ids=NESTED)
def test_nested_column_beside_those_of_the_contract_is_never_unpacked(column):
    data = parquet({"more": column, "x": [1, 2, 3, 4]})
    table = read_parquet(io.BytesIO(data), MAX_BYTES)
    assert [row[1] for _, row in rows_of(table)] == list("1234")


def test_list_that_unpacks_to_gigabytes_costs_nothing():
    offsets = pa.array([i * 1000 for i in range(1001)], pa.int32())
    lists = pa.ListArray.from_arrays(offsets, repeated("x" * 5000, 1_000_000))
    data = parquet({"more": lists, "x": [1] * 1000})
    began = time.process_time()
    table = read_parquet(io.BytesIO(data), MAX_BYTES)
    assert sum(chunk.records for chunk in table.chunks) == 1000
    assert time.process_time() - began < 5


def test_table_of_nothing_but_lists_has_no_column():
    with pytest.raises(Refused, match="no column of plain values"):
        read_parquet(io.BytesIO(parquet({"a": LISTS})), MAX_BYTES)
