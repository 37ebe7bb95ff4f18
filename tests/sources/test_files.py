import gzip
import hashlib
import io
import os
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition.data import schema
from attrition.data.schema import Refused
from attrition.errors import SourceError
from attrition.sources import files as source_files
from attrition.sources.dialects import typed_text
from attrition.sources.files import File, Limits, read_table
from attrition.storage import tables
from tests.support import rows_of


def opened(name, data, limits=source_files.DEFAULT_LIMITS):
    """A file as it would have been read."""
    return File(name, "", io.BytesIO(data), 0, limits)


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
    assert typed_text(value) == text


def parquet_bytes(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_parquet_types_become_text():
    times = pa.array([datetime(2026, 3, 1, tzinfo=UTC), None], pa.timestamp("ns", tz="UTC"))
    data = parquet_bytes(n=[1, None], t=times, s=pa.array(["a", "b"]).dictionary_encode())
    table = read_table(opened("a.parquet", data))
    assert table.header == ("n", "t", "s")
    assert rows_of(table) == [(1, ["1", "2026-03-01 00:00:00+00:00", "a"]), (2, ["", "", "b"])]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, -(2**63), None, 2**63 - 1]),
        pa.array([0, 255, None], pa.uint8()),
        pa.array(["a", "", None, "é", "a"]),
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None, "b", "a"]).dictionary_encode(),
        pa.array([2, None, 1]).dictionary_encode(),
        pa.array([0.1, -0.0, None, 1e300, float("inf"), 12.0]),
        pa.array([True, None, False]),
        pa.array([Decimal("12.50"), None]),
        pa.array([b"a", None]),
        pa.nulls(2),
        pa.array([], pa.string()),
    ],
    ids=lambda column: str(column.type)[:20],
)
def test_parquet_column_of_any_type_is_the_text_of_its_values(column):
    table = read_table(opened("a.parquet", parquet_bytes(x=column)))
    texts = [["" if value is None else typed_text(value)] for value in column.to_pylist()]
    assert [row for _, row in rows_of(table)] == texts


def test_parquet_text_that_is_not_utf8_is_refused():
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    with pytest.raises(Refused) as error:
        read_table(opened("a.parquet", parquet_bytes(x=text)))
    assert error.value.code == "BAD_PARQUET"


def test_parquet_date_that_python_cannot_hold_is_refused():
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    with pytest.raises(Refused) as error:
        read_table(opened("a.parquet", parquet_bytes(d=days)))
    assert error.value.code == "BAD_PARQUET"


@pytest.mark.parametrize("kept", [0, 3, 0.5])
def test_cut_parquet_and_gzip_look_unfinished(kept):
    for name, data in (
        ("a.parquet", parquet_bytes(n=list(range(99)))),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)),
    ):
        cut = data[: int(kept * len(data)) if kept < 1 else kept]
        with pytest.raises(Refused) as error:
            read_table(opened(name, cut))
        assert error.value.unfinished


def test_parquet_with_a_harmed_footer_is_refused():
    data = bytearray(parquet_bytes(n=list(range(99))))
    data[-8 - int.from_bytes(data[-8:-4], "little")] ^= 0xFF
    with pytest.raises(Refused) as error:
        read_table(opened("a.parquet", bytes(data)))
    assert (error.value.code, "\n" in error.value.reason) == ("BAD_PARQUET", False)


def test_disk_that_fails_under_a_parquet_file_is_not_its_fault():
    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    file = File("a.parquet", "", Failing(parquet_bytes(n=[1])), 0)
    with pytest.raises(OSError, match="Input/output error"):
        read_table(file)


def test_harmed_gzip_is_refused():
    data = bytearray(gzip.compress(b"a,b\n1,2\n" * 99, mtime=0))
    data[12] ^= 0xFF
    with pytest.raises(Refused) as error:
        read_table(opened("a.csv.gz", bytes(data)))
    assert error.value.code == "BAD_GZIP"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv.gz", gzip.compress(b"0" * 10_000_000)),
        ("a.parquet", parquet_bytes(n=pa.array([1] * 1_000_000, pa.int8()))),
    ],
)
def test_bomb_is_refused(name, data):
    assert len(data) < 100_000
    with pytest.raises(Refused) as error:
        read_table(opened(name, data, Limits(max_bytes=100_000)))
    assert error.value.code == "TOO_LARGE"


def test_text_that_a_parquet_file_repeats_a_million_times_is_refused_not_spelled_out():
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1000), ["x" * 100_000])
    with pytest.raises(Refused) as error:
        read_table(opened("a.parquet", parquet_bytes(s=text)))
    assert error.value.code == "FIELD_TOO_LONG"


def test_parquet_of_too_many_columns_is_refused():
    data = parquet_bytes(**{f"c{i}": [1] for i in range(schema.MAX_COLUMNS + 1)})
    with pytest.raises(Refused) as error:
        read_table(opened("a.parquet", data))
    assert error.value.code == "TOO_MANY_COLUMNS"


def test_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(3 << 30)  # sparse: it costs nothing, until somebody reads it
    with pytest.raises(Refused) as error, source_files.reading(tmp_path / "a.csv"):
        pytest.fail("it was read")
    assert error.value.code == "TOO_LARGE"


def test_disk_that_fails_while_a_file_is_read_is_that_files_fault_alone(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a\n")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(SourceError, match=r"a\.csv: cannot be read \(Input/output error\); "):
        source_files.hash_file(tmp_path / "a.csv")


def test_file_that_changes_while_it_is_read_waits(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n")
    real = os.read

    def grow(descriptor, size):
        with path.open("a") as file:
            file.write("more\n" * (path.stat().st_size < 100))
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", grow)
    with pytest.raises(Refused) as error, source_files.reading(path):
        pytest.fail("it was read")
    assert (error.value.code, error.value.unfinished) == ("UNSTABLE", True)


def test_file_that_takes_too_long_is_tried_again(tmp_path):
    table = opened("a.csv", b"a,b\n1,2\n", Limits(max_seconds=-1))
    with pytest.raises(SourceError, match=r"a\.csv: took longer than max_source_seconds"):
        read_table(table)


def test_what_is_hashed_is_what_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n")
    with source_files.reading(tmp_path / "a.csv") as file:
        (tmp_path / "a.csv").write_bytes(b"a,b\n3,4\n")
        assert rows_of(read_table(file)) == [(2, ["1", "2"])]
        file.spool.seek(0)
        assert file.sha256 == hashlib.sha256(file.spool.read()).hexdigest()


def test_large_file_waits_on_the_disk_without_a_name(tmp_path):
    with tables.make_spool(tmp_path) as spool:
        spool.write(b"0" * (tables.IN_MEMORY + 1))
        assert os.fstat(spool.fileno()).st_size > tables.IN_MEMORY
        assert list(tmp_path.iterdir()) == []


def test_hash_of_what_is_no_file_is_a_dash(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    assert [source_files.hash_file(tmp_path / name) for name in ("link", "nowhere")] == ["-", "-"]


def test_names_are_listed_in_the_order_of_their_bytes(tmp_path):
    for name in ("b", "é", "B", "a"):
        (tmp_path / name).touch()
    assert source_files.list_names(tmp_path) == ["B", "a", "b", "é"]
