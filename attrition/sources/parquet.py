"""Read Parquet a batch of rows at a time, after its unpacked size has been checked.

If a million rows share a text, a dictionary stores it once, in the file and in memory; as rows of a
table it takes its bytes a million times.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from attrition.data.cells import shorten
from attrition.data.schema import MAX_COLUMNS, Chunk, Refused, Table
from attrition.sources.csv_reader import CHUNK_ROWS
from attrition.sources.dialects import typed_text
from attrition.storage.tables import open_parquet

MAX_TEXT = 10_000
MAX_BATCH_CELLS = 4_000_000
MAX_BATCH_BYTES = 64 << 20


def read_parquet(file: IO[bytes], max_bytes: int) -> Table:
    """Read a table of plain columns; each value of a list, struct or map becomes a text that is invalid.

    Raises: Refused, also while the batches are read.
    """
    import pyarrow.parquet as pq

    if not b"PAR1".startswith(file.read(4)):
        raise Refused("BAD_PARQUET", "not Parquet; give it the ending of what it is")
    with _parquet_errors():
        metadata = pq.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        size = max(sum(group.total_byte_size for group in groups), metadata.num_rows * len(schema))
        _check_size(size, max_bytes)
        if len(schema) > MAX_COLUMNS:
            raise Refused("TOO_MANY_COLUMNS", f"{len(schema)} columns, at most {MAX_COLUMNS}")
        if all(pa.types.is_nested(kind) for kind in schema.types):
            raise Refused("NO_HEADER", "no column of plain values, expected column names")
        widths = [
            each.type.byte_width for each in schema if pa.types.is_fixed_size_binary(each.type)
        ]
        if max(widths, default=0) > MAX_TEXT:
            raise Refused("FIELD_TOO_LONG", f"values of {max(widths)} bytes, at most {MAX_TEXT}")
        file.seek(0)
        texts = [each.name for each in schema if _is_text(each.type)]
        reader = open_parquet(file, read_dictionary=texts)
        _check_texts(reader, texts, max_bytes)
    return Table(tuple(schema.names), _chunks(reader, schema))


def _is_text(kind: Any) -> bool:
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_string(kind) or types.is_large_string(kind)
        or types.is_binary(kind) or types.is_large_binary(kind)
    )  # fmt: skip


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        reason = f"{size} bytes when unpacked, at most {max_bytes} (max_source_mb)"
        raise Refused("TOO_LARGE", reason)


def _check_texts(reader: Any, names: list[str], max_bytes: int) -> None:
    """Raise Refused if the texts of all rows are too large; no text is copied to find out."""
    size = 0
    if names:
        for batch in reader.iter_batches(CHUNK_ROWS, columns=names, use_threads=False):
            _check_size(size := size + _text_bytes(batch), max_bytes)


def _text_bytes(batch: Any) -> int:
    """Return the bytes of all texts of a batch, each as often as it stands there."""
    size = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_text(column.type):
            lengths = pc.binary_length(column.dictionary).cast(pa.int64())
            size += pc.sum(lengths.take(column.indices)).as_py() or 0
    return size


def _chunks(reader: Any, schema: Any) -> Iterator[Chunk]:
    line = 1
    nested = {
        i: _nested_text(each.type) for i, each in enumerate(schema) if pa.types.is_nested(each.type)
    }
    plain = [each.name for i, each in enumerate(schema) if i not in nested]
    rows = max(1, min(CHUNK_ROWS, MAX_BATCH_CELLS // len(schema)))
    names = plain if nested else None
    with _parquet_errors():
        for batch in reader.iter_batches(rows, columns=names, use_threads=False):
            if len(batch.columns) != len(plain):
                raise Refused("BAD_PARQUET", "a column and a part of another one share a name")
            parts = 1 + _text_bytes(batch) // MAX_BATCH_BYTES
            step = 1 + batch.num_rows // parts
            for part in (batch.slice(at, step) for at in range(0, batch.num_rows, step)):
                values = iter(part.columns)
                columns = tuple(
                    pa.repeat(nested[i], part.num_rows)
                    if i in nested
                    else _text_column(next(values))
                    for i in range(len(schema))
                )
                yield Chunk(columns, range(line, line + part.num_rows))
                line += part.num_rows


def _nested_text(kind: Any) -> Any:
    """Return what stands for a nested value; the control character makes it invalid everywhere."""
    return pa.scalar(f"\x00{shorten(str(kind))}", pa.string())


@contextmanager
def _parquet_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError:  # arrow's is an ArrowException too, but no fault of the file
        raise
    except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk: arrow's own have no number
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused("BAD_PARQUET", f"not readable ({reason})", unfinished=True) from error


def _text_column(column: Any) -> Any:
    """Convert a plain column of any type to text, each distinct value once.

    Raises: Refused if a text is too long.
    """
    if pa.types.is_integer(column.type):
        return pc.fill_null(column.cast(pa.string()), "")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values.validate(full=True)  # arrow does not check that a text is UTF-8 when it reads one
        texts = values.cast(pa.string())
    else:
        texts = pa.array([typed_text(value) for value in values.to_pylist()], pa.string())
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) > MAX_TEXT:
        raise Refused("FIELD_TOO_LONG", f"a text of more than {MAX_TEXT} characters")
    return pc.fill_null(texts.take(column.indices), "")
