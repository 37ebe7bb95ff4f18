import gzip
import io
import os
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition import sources
from attrition.config import Columns
from attrition.errors import AttritionError
from attrition.sources import File, Refused, cell_text, read_csv, read_table

# ---- values and files


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        (Decimal("12.50"), "12.50"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "2026-03-01 12:30:00+00:00"),
        ("x", "x"),
    ],
)
def test_typed_value_is_the_text_that_a_csv_would_hold(value, text):
    assert cell_text(value) == text


def parquet_bytes(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_parquet_types_become_text():
    times = pa.array([datetime(2026, 3, 1, tzinfo=UTC), None], pa.timestamp("ns", tz="UTC"))
    data = parquet_bytes(n=[1, None], t=times, s=pa.array(["a", "b"]).dictionary_encode())
    table = read_table(File("a.parquet", "", data, 0))
    assert table.header == ("n", "t", "s")
    assert table.rows == [["1", "2026-03-01 00:00:00+00:00", "a"], ["", "", "b"]]


def test_parquet_date_that_python_cannot_hold_is_refused():
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    with pytest.raises(Refused) as error:
        read_table(File("a.parquet", "", parquet_bytes(d=days), 0))
    assert error.value.code == "BAD_PARQUET"


@pytest.mark.parametrize("kept", [0, 3, 0.5])
def test_cut_parquet_and_gzip_look_unfinished(kept):
    for name, data in (
        ("a.parquet", parquet_bytes(n=list(range(99)))),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)),
    ):
        cut = data[: int(kept * len(data)) if kept < 1 else kept]
        with pytest.raises(Refused) as error:
            read_table(File(name, "", cut, 0))
        assert error.value.unfinished


def test_harmed_gzip_is_refused():
    data = bytearray(gzip.compress(b"a,b\n1,2\n" * 99, mtime=0))
    data[12] ^= 0xFF
    with pytest.raises(Refused) as error:
        read_table(File("a.csv.gz", "", bytes(data), 0))
    assert error.value.code == "BAD_GZIP"


def test_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    with pytest.raises(Refused) as error:
        read_table(File("a.csv.gz", "", gzip.compress(b"0" * 10_000), 0))
    assert error.value.code == "TOO_LARGE"


def test_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    (tmp_path / "a.csv").write_bytes(b"0" * 1001)
    with pytest.raises(Refused) as error:
        sources.read_file(tmp_path / "a.csv")
    assert error.value.code == "TOO_LARGE"


def test_disk_that_fails_while_a_file_is_read_is_that_files_fault_alone(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a\n")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "dup", fail)
    with pytest.raises(Refused) as error:
        sources.read_file(tmp_path / "a.csv")
    assert error.value.code == "UNREADABLE"


def test_hash_of_what_is_no_file_is_a_dash(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    assert [sources.hash_file(tmp_path / name) for name in ("link", "nowhere")] == ["-", "-"]


def test_header_may_be_quoted_over_two_lines():
    table = read_csv(b'id,"days\nsince",x\na,1,2\n')
    assert (table.header, table.rows, table.lines) == (
        ("id", "days\nsince", "x"), [["a", "1", "2"]], [3])  # fmt: skip


def test_table_of_one_column():
    table = read_csv(b"client\nacme\n\nbolt\n")
    assert (table.header, table.rows, table.lines) == (("client",), [["acme"], ["bolt"]], [2, 4])


def test_names_are_listed_in_the_order_of_their_bytes(tmp_path):
    for name in ("b", "é", "B", "a"):
        (tmp_path / name).touch()
    assert sources.list_names(tmp_path) == ["B", "a", "b", "é"]


def test_final_rows_that_are_not_there_are_asked_of_ingestion(tmp_path):
    with pytest.raises(AttritionError, match=r"run ingestion\.py first"):
        sources.read_rows(tmp_path / "finaldata.csv", Columns())
