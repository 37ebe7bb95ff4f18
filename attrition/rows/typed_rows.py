"""Type accepted rows: numbers and days as float64, and the hashes that identify rows and clients.

Ingestion imports this file and does without pandas, whose import costs as much as 100,000 rows.
"""

import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Columns
from attrition.data.cells import (
    MAX_DAYS,
    NAME_LENGTH,
    day_number,
    number_text,
)
from attrition.data.name_variants import fold_names
from attrition.data.plain_cells import has_many_levels
from attrition.data.text_hashes import hash_texts, text_bytes
from attrition.rows import observations

if TYPE_CHECKING:
    import pandas as pd

# Further columns of typed rows: the id of a row with and without its outcome, and the hash that decides
# whether its client is held-out. No company names a column like this.
ROW_ID, INPUT_ID = "attrition:row_id", "attrition:input_id"
CLIENT_HASH = observations.CLIENT_HASH
COMPUTED = (ROW_ID, INPUT_ID, CLIENT_HASH)
# The deliveries of a row, see `ledger.read_rows`.
DELIVERED, OPENED = observations.DELIVERED, observations.OPENED
# The place of a row in the order of arrival; it never changes.
NUMBER = observations.NUMBER
# The day from which the dates of a row count if it has no time, see `ledger.add_line`.
DAY = "attrition:day"
# Of tables without a client: the id of a row without its number, and the number among equal rows.
EQUAL_ID, COPY = "attrition:equal_id", "attrition:copy"
# Of tables with a client: the hash by which variants of a name are found, see `name_variants`.
NAME_KEY = "attrition:name_key"
# The text of a column of dates.
TEXT = "attrition:text:"
# Of the first 1000 texts. If fewer are distinct, a column has about 10,000 levels at most, and to find
# those takes less time than to hash every text.
NEARLY_DISTINCT = 980
TEXTS_AT_ONCE = 1 << 12
MISSING_HASH = np.uint64(2**64 - 1)


def number_names(columns: Columns) -> list[str]:
    """Return the names of the columns that are float64 in typed rows."""
    names = [*columns.numeric_names, columns.outcome, *([columns.value] if columns.value else [])]
    return list(dict.fromkeys(names))


def typed(rows: "pd.DataFrame", columns: Columns, day: str = "") -> "pd.DataFrame":
    """Convert rows of canonical text.

    Numbers and the value become float64 (NaN if missing), the outcome 1.0, 0.0 or NaN (open); all other
    columns stay text ("" if missing). A date becomes days after the time of its row; if the row has
    none, after the newest time of all rows; if no row has one, after `day`.
    """
    import pandas as pd

    result = rows.astype(object).copy()
    for name in number_names(columns):
        if name not in columns.dates:
            result[name] = pd.to_numeric(result[name].replace("", np.nan)).astype("float64")
    if columns.dates:
        times = rows[columns.time].tolist() if columns.time else [""] * len(rows)
        default = day_number(max(times, default="") or day)
        reference = np.array([day_number(time) if time else default for time in times])
        for name in columns.dates:
            result[name] = _days_after(reference, np.array([*map(day_number, rows[name])]))
    return result


def _days_after(reference: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return the days between day numbers, as `cells.days_between` does: (n,) float64."""
    return np.clip(days - reference, -MAX_DAYS, MAX_DAYS)


def parse_lines(lines: bytes, columns: Columns) -> dict[str, pa.Array]:
    """Parse lines of finaldata.csv into columns of text."""
    import pandas as pd

    # pandas' parser starts no thread: where memory is too short for one, arrow's ends the process
    table = pd.read_csv(
        io.BytesIO(lines), names=columns.table, dtype=object, na_filter=False, low_memory=False
    )
    return {name: pa.array(table[name].to_numpy(), pa.string()) for name in columns.table}


def to_texts(rows: pa.Table, columns: Columns) -> dict[str, pa.Array]:
    """Convert stored rows back to the canonical text that they had."""
    numbers, texts = {*number_names(columns)}, {}
    for name in columns.table:
        stored = rows[TEXT + name if name in columns.dates else name].combine_chunks()
        if name in numbers and name not in columns.dates:
            encoded = stored.dictionary_encode()
            values = [number_text(value) for value in encoded.dictionary.to_pylist()]
            stored = pa.array(values, pa.string()).take(encoded.indices)
        texts[name] = pc.fill_null(stored, "")
    return texts


def type_values(
    texts: Mapping[str, pa.Array], columns: Columns, days: np.ndarray | None = None
) -> dict[str, pa.Array]:
    """Convert columns of canonical text as `typed` does.

    days: (n,) the day number from which the dates count if a row has no time
    """
    numbers, result = {*number_names(columns)} - {*columns.dates}, {}
    for name in columns.table:
        result[name] = _to_floats(texts[name]) if name in numbers else texts[name]
    if columns.dates:
        reference = (
            np.zeros(len(texts[columns.outcome])) if days is None else days.astype("float64")
        )
        if columns.time:
            times = _day_numbers(texts[columns.time])
            reference = np.where(np.isnan(times), reference, times)
        for name in columns.dates:
            after = _days_after(reference, _day_numbers(texts[name]))
            result[name] = pa.array(after, from_pandas=True)
    return result


def compute_hashes(texts: Mapping[str, pa.Array], columns: Columns) -> dict[str, pa.Array]:
    """Compute the columns of `COMPUTED` from columns of canonical text.

    A number is hashed as Python's text of the float, with ".0" if it is whole, without a conversion to
    float and back; a date as its text.
    """
    numbers, hashes = {*number_names(columns)} - {*columns.dates}, []
    for name in columns.table:
        distinct, places = _distinct(texts[name])
        if name == columns.client_name:
            # equal rows without a client are on one side of the split
            names = (
                distinct if columns.client else pc.utf8_slice_codeunits(distinct, 0, NAME_LENGTH)
            )
            clients = pa.array(_hash_names(_as_bytes(names))[places])
        hashes.append((_hash_numbers if name in numbers else hash_texts)(distinct)[places])
    row_id, input_id = _combine_hashes(hashes), _combine_hashes(hashes[:-1])
    return {ROW_ID: pa.array(row_id), INPUT_ID: pa.array(input_id), CLIENT_HASH: clients}


def _distinct(texts: pa.Array) -> tuple[pa.Array, Any]:
    """Return the distinct texts and the place of each; if there are many, all of them and a slice."""
    if has_many_levels(texts, NEARLY_DISTINCT):
        return texts, slice(None)
    encoded = texts.dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy()


def _to_floats(texts: pa.Array) -> pa.Array:
    """Convert canonical numbers; "" becomes null."""
    is_missing = pc.equal(pc.binary_length(texts), 0)
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), texts).cast(pa.float64())


def _day_numbers(texts: pa.Array) -> np.ndarray:
    """Return the day numbers of canonical times, NaN if missing: (n,) float64."""
    encoded = pc.utf8_slice_codeunits(texts, 0, 10).dictionary_encode()
    numbers = np.array([*map(day_number, encoded.dictionary.to_pylist())], dtype="float64")
    return numbers[encoded.indices.to_numpy()]


def _hash_numbers(texts: pa.Array) -> np.ndarray:
    """Hash canonical numbers as Python writes floats, "" as `MISSING_HASH`: (n,) uint64."""
    content, starts = text_bytes(texts)
    is_float = pc.match_substring(texts, ".")
    if ord("e") in content:
        is_float = pc.or_(is_float, pc.match_substring(texts, "e"))
    hashes = hash_texts(pc.binary_join_element_wise(texts, pc.if_else(is_float, "", ".0"), ""))
    hashes[starts[1:] == starts[:-1]] = MISSING_HASH
    return hashes


def input_ids(rows: "pd.DataFrame", columns: Columns) -> np.ndarray:
    """Return the `INPUT_ID` of typed rows, as `compute_hashes` does: (n,) uint64.

    rows: with their dates as text
    """
    import pandas as pd

    hashes = []
    for name in columns.table[:-1]:
        places, values = pd.factorize(rows[name], use_na_sentinel=False)
        is_missing = [value != value for value in values.tolist()]
        texts = pa.array([str(value) for value in values.tolist()], pa.string())
        hashes.append(np.where(is_missing, MISSING_HASH, hash_texts(texts))[places])
    return _combine_hashes(hashes)


def _combine_hashes(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """Combine the hashes of the columns of each row: (n,) uint64.

    Source: pandas' `hash_pandas_object`, and CPython's hash of a tuple.
    """
    combined = np.full(len(hashes[0]), 0x345678, dtype="uint64")
    factor = 1000003
    for n, column in zip(range(len(hashes), 0, -1), hashes, strict=True):
        combined = (combined ^ column) * np.uint64(factor % 2**64)
        factor += 82520 + 2 * n
    return combined + np.uint64(97531)


def _hash_names(names: Iterable[bytes]) -> np.ndarray:
    """Hash the names of clients as `observations.name_hash` does: (n,) uint64."""
    digests = bytearray()
    for name in names:
        digests += hashlib.sha256(name).digest()
    return np.frombuffer(digests, ">u8")[::4].astype("uint64")


def _as_bytes(texts: pa.Array) -> Iterator[bytes]:
    """Yield texts as bytes, few of them in memory at a time."""
    for at in range(0, len(texts), TEXTS_AT_ONCE):
        yield from texts[at : at + TEXTS_AT_ONCE].cast(pa.binary()).to_pylist()


def name_keys(names: pa.Array) -> np.ndarray:
    """Return a hash of each name without what may be spelling, see `fold_names`: (n,) uint64."""
    distinct, places = _distinct(names)
    return hash_texts(fold_names(distinct))[places]


def client_hashes(clients: "pd.Series") -> np.ndarray:
    """Return the hash that decides whether a client is held-out, see `compute_hashes`: (n,) uint64."""
    import pandas as pd

    places, names = pd.factorize(clients)
    return _hash_names(str(name).encode("utf-8", "surrogatepass") for name in names)[places]


def held_out(hashes: Any, share: float) -> np.ndarray:
    """Return which rows belong to clients that no model is trained on: (n,) bool.

    hashes: (n,) uint64, see `client_hashes`
    """
    return np.asarray(hashes, dtype="uint64") < np.uint64(math.ceil(share * 2**64))
