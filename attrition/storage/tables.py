"""Read and write our own tables: CSV for people, Parquet for the steps.

`data` validates the tables of others; here a table is as we wrote it. A run that finds nothing new
imports this file, so the libraries are imported in the functions.
"""

import codecs
import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from attrition.errors import Damaged

if TYPE_CHECKING:
    import pandas as pd

ROW_GROUP = 1 << 17
IN_MEMORY = 16 << 20
SAMPLE = 1000  # rows by which the encoding of a column is chosen


def make_spool(folder: Path | None = None) -> IO[bytes]:
    """Create an unnamed file, in memory while it is small, then in a folder."""
    import tempfile

    return tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder) if folder else None)


def hide_pandas() -> None:
    """Keep arrow from importing pandas in its first conversion, which takes 0.25 s of CPU time.

    After that, arrow does not recognise a DataFrame: call this only in a process that has none. None in
    `sys.modules` would not do, because arrow takes it for pandas.
    """
    import pyarrow as pa

    class Hidden:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name)

    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, Hidden)
        pa.array([""])  # arrow looks for pandas only once
        sys.meta_path.remove(Hidden)


@contextmanager
def system_memory() -> Iterator[None]:
    """Let arrow allocate by malloc in the block, which returns pages to the system less often.

    With the allocator of arrow, clearing pages took a tenth of the CPU time of ingestion.
    """
    import pyarrow as pa

    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)


# ---- CSV


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV in UTF-8; if a name is not Unicode, its bytes are escaped."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def frame_bytes(table: "pd.DataFrame") -> bytes:
    """Return a DataFrame as CSV in UTF-8 with a header and without its index."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8", "backslashreplace")


def excel_bytes(table: "pd.DataFrame") -> bytes:
    """Return a DataFrame as CSV with a byte order mark, by which Excel recognises UTF-8."""
    return codecs.BOM_UTF8 + frame_bytes(table)


def csv_cells(values: Any) -> Any:
    """Format an arrow array as the cells of a CSV file, as pandas and csv do; an arrow array of text.

    A number has the shortest text that gives it back; arrow writes small, large and whole ones in
    another way than Python.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False)
        size = np.abs(numbers)
        texts = pc.fill_null(values.cast(pa.string()), "")
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        is_whole = pa.array((numbers == np.floor(numbers)) & (size < 1e15))
        whole = pc.binary_join_element_wise(texts.filter(is_whole), "0", ".")
        texts = pc.replace_with_mask(texts, is_whole, whole)
        is_other = (size >= 1e15) | ((size < 1e-4) & (size > 0))
        if not is_other.any():
            return texts
        others = pa.array([repr(number) for number in numbers[is_other].tolist()], pa.string())
        return pc.replace_with_mask(texts, pa.array(is_other), others)
    if not pa.types.is_string(values.type):
        return pc.fill_null(values.cast(pa.string()), "")
    texts = pc.fill_null(values, "")
    is_quoted = pc.match_substring_regex(texts, '[,"\r\n]')
    if not pc.any(is_quoted, min_count=0).as_py():
        return texts
    quoted = [csv_bytes([[text, ""]])[:-2].decode() for text in texts.filter(is_quoted).to_pylist()]
    return pc.replace_with_mask(texts, is_quoted, pa.array(quoted, pa.string()))


def read_cells(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file as text, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def parse_dicts(data: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV, each as a dictionary of text."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def read_texts(path: Path) -> "pd.DataFrame":
    """Read a CSV into a DataFrame of text; an empty cell is ""."""
    import pandas as pd

    return pd.read_csv(path, dtype=object, na_filter=False, encoding="utf-8")


# ---- Parquet


def write_parquet(file: IO[bytes], parts: Iterable[Any], unique: Sequence[str] = ()) -> None:
    """Write arrow tables as one Parquet file with row groups of equal size: same rows, same bytes.

    parts: at least one, all of one schema; at most a row group and a part are kept in memory
    unique: columns of mostly distinct numbers, which are written as they are
    """
    import pyarrow as pa

    writer, waiting = None, None
    for part in parts:
        waiting = pa.concat_tables([waiting, part]) if waiting is not None else part
        while len(waiting) >= ROW_GROUP:
            writer = writer or _open_writer(file, waiting, unique)
            writer.write_table(waiting.slice(0, ROW_GROUP))
            waiting = waiting.slice(ROW_GROUP)
    assert waiting is not None, "no part to write"
    writer = writer or _open_writer(file, waiting, unique)
    writer.write_table(waiting)
    writer.close()


def _open_writer(file: IO[bytes], rows: Any, unique: Sequence[str]) -> Any:
    """Open a Parquet file; columns whose first values are mostly distinct have no dictionary."""
    import pyarrow.parquet as pq

    first = rows.slice(0, SAMPLE)
    has_levels = [
        name
        for name in rows.schema.names
        if name not in unique and 2 * len(first[name].unique()) <= SAMPLE
    ]
    compression = {name: "NONE" if name in unique else "SNAPPY" for name in rows.schema.names}
    return pq.ParquetWriter(
        file, rows.schema, use_dictionary=has_levels or False, compression=compression
    )


def parquet_bytes(table: Any) -> bytes:
    """Return an arrow table as the bytes of a Parquet file: same rows, same bytes."""
    buffer = io.BytesIO()
    write_parquet(buffer, [table])
    return buffer.getvalue()


def open_parquet(source: Any, **options: Any) -> Any:
    """Open a Parquet file so that it is read without threads, given `use_threads=False`.

    If memory is too short to start a thread, arrow ends the process; without, it raises MemoryError.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, pre_buffer=False, **options)


def release_memory() -> None:
    """Return freed memory to the system after a large read; otherwise the process keeps it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def read_parquet(path: Path, names: Sequence[str] | None = None) -> "pd.DataFrame":
    """Read columns of a Parquet file, by default all; text becomes objects.

    Raises: Damaged.
    """
    with _open_to_read(path) as file:
        return parse_parquet(file, names)


def parse_parquet(file: IO[bytes], names: Sequence[str] | None = None) -> "pd.DataFrame":
    """Read columns of an open Parquet file, by default all; text becomes objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(file)
    file.seek(0)
    # Text is read as a dictionary: each distinct value becomes one Python object.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return to_frame(open_parquet(file, read_dictionary=texts).read(names, use_threads=False))


def to_frame(table: Any, categories: Sequence[str] = ()) -> "pd.DataFrame":
    """Convert an arrow table; dictionary-encoded text becomes objects.

    categories: columns that stay encoded, which saves an object for each distinct text
    """
    import pandas as pd

    columns = {
        name: _to_pandas(table[name]) for name in table.column_names if name not in categories
    }
    for name in categories:
        column = table[name].unify_dictionaries().combine_chunks()
        levels = pd.Index(pd.array(column.dictionary, dtype="str"))
        codes = column.indices.to_numpy()
        columns[name] = pd.Series(pd.Categorical.from_codes(codes, levels, validate=False))
    return pd.DataFrame({name: columns[name] for name in table.column_names}, copy=False)


def _to_pandas(column: Any) -> "pd.Series":
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return pd.Series(column.to_pandas(use_threads=False))
    column = column.unify_dictionaries().combine_chunks()
    values = np.array(column.dictionary.to_pylist(), dtype=object)
    return pd.Series(values[column.indices.to_numpy()], dtype=object)


def read_parts(path: Path) -> Iterator[Any]:
    """Yield a Parquet file as arrow tables, one for each row group.

    Raises: Damaged.
    """
    with _open_to_read(path) as file:
        reader = open_parquet(file)
        for i in range(reader.num_row_groups):
            yield reader.read_row_group(i, use_threads=False)


@contextmanager
def _open_to_read(path: Path) -> Iterator[IO[bytes]]:
    import pyarrow as pa

    try:
        with path.open("rb") as file:
            yield file
    except MemoryError:  # arrow's is an ArrowException too, but no fault of the file
        raise
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{path}: cannot be read ({error})") from error
