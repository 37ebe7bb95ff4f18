"""Type accepted rows: numbers and days as float64, and the hashes that identify rows and clients."""

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from attrition.config import Columns
from attrition.data.cells import (
    MAX_DAYS,
    NAME_LENGTH,
    day_number,
)
from attrition.rows import observations

# Further columns of typed rows: the id of a row with and without its outcome, and the hash that decides
# whether its client is held-out. No company names a column like this.
ROW_ID, INPUT_ID = "attrition:row_id", "attrition:input_id"
CLIENT_HASH = observations.CLIENT_HASH
COMPUTED = (ROW_ID, INPUT_ID, CLIENT_HASH)
# The deliveries of a row, see `ledger.read_rows`.
DELIVERED, OPENED = observations.DELIVERED, observations.OPENED
# The place of a row in the order of arrival; it never changes.
NUMBER = "attrition:number"
# The day from which the dates of a row count if it has no time, see `ledger.add_line`.
DAY = "attrition:day"
MISSING_HASH = np.uint64(2**64 - 1)


def number_names(columns: Columns) -> list[str]:
    """Return the names of the columns that are float64 in typed rows."""
    names = [*columns.numeric_names, columns.outcome, *([columns.value] if columns.value else [])]
    return list(dict.fromkeys(names))


def typed(rows: pd.DataFrame, columns: Columns, day: str = "") -> pd.DataFrame:
    """Convert rows of canonical text.

    Numbers and the value become float64 (NaN if missing), the outcome 1.0, 0.0 or NaN (open); all other
    columns stay text ("" if missing). A date becomes days after the time of its row; if the row has
    none, after the newest time of all rows; if no row has one, after `day`.
    """
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


def type_lines(lines: bytes, columns: Columns, days: np.ndarray | None = None) -> pa.Table:
    """Parse lines of finaldata.csv into the columns of `typed` and those of `COMPUTED`.

    Each distinct value of a column is converted and hashed once. A number is hashed as Python's text of
    the float, with ".0" if it is whole, without a conversion to float and back; a date as its text.

    days: (n,) the day number from which the dates count if a row has no time
    """
    # pandas' parser starts no thread: where memory is too short for one, arrow's ends the process
    table = pd.read_csv(
        io.BytesIO(lines), names=columns.table, dtype=object, na_filter=False, low_memory=False
    )
    numbers, result, hashes = set(number_names(columns)) - {*columns.dates}, {}, []
    reference = np.zeros(len(table)) if days is None else days.astype("float64")
    for name in columns.table:
        result[name] = pa.array(table[name].to_numpy(), pa.string())
        encoded = result[name].dictionary_encode()
        texts, places = encoded.dictionary, encoded.indices.to_numpy()
        if name in numbers:
            texts = pc.replace_with_mask(texts, pc.equal(texts, ""), pa.scalar(None, pa.string()))
            result[name] = texts.cast(pa.float64()).take(encoded.indices)
            is_float = pc.match_substring_regex(texts, "[.e]")
            texts = pc.if_else(is_float, texts, pc.binary_join_element_wise(texts, ".0", ""))
        elif columns.dates and name in (columns.time, *columns.dates):
            numbered = np.array([*map(day_number, texts.to_pylist())])[places]
            if name in columns.dates:
                result[name] = pa.array(_days_after(reference, numbered), from_pandas=True)
            else:
                reference = np.where(np.isnan(numbered), reference, numbered)
        elif name == columns.client_name:
            # equal rows without a client are on one side of the split
            names = texts if columns.client else pc.utf8_slice_codeunits(texts, 0, NAME_LENGTH)
            result[CLIENT_HASH] = pa.array(_hash_names(names.to_pylist())[places])
        hashes.append(_hash_texts(texts.to_pylist())[places])
    result[ROW_ID] = pa.array(_combine_hashes(hashes))
    result[INPUT_ID] = pa.array(_combine_hashes(hashes[:-1]))
    return pa.table({name: result[name] for name in (*columns.table, *COMPUTED)})


def row_ids(rows: pd.DataFrame, columns: Columns, *, with_outcome: bool) -> np.ndarray:
    """Return a 64-bit id of each typed row from its content, as `type_lines` does: (n,) uint64.

    With its outcome, a row gets another id when its outcome arrives. `rows` have their dates as text.
    """
    hashes = []
    for name in columns.table if with_outcome else columns.table[:-1]:
        places, values = pd.factorize(rows[name], use_na_sentinel=False)
        texts = [None if value != value else str(value) for value in values.tolist()]
        hashes.append(_hash_texts(texts)[places])
    return _combine_hashes(hashes)


def _hash_texts(texts: Sequence[str | None]) -> np.ndarray:
    """Return a 64-bit hash of each text, `MISSING_HASH` for None: (n,) uint64."""
    objects = np.array([text or "" for text in texts], dtype=object)
    hashes = np.asarray(pd.util.hash_array(objects, categorize=False), dtype="uint64")
    return np.where([text is None for text in texts], MISSING_HASH, hashes)


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


def _hash_names(names: Iterable[str]) -> np.ndarray:
    """Hash the names of clients; the hashes never change: (n,) uint64."""
    return np.array([observations.name_hash(name) for name in names], dtype="uint64")


def client_hashes(clients: pd.Series) -> np.ndarray:
    """Return the hash that decides whether a client is held-out, as `type_lines` does: (n,) uint64."""
    places, names = pd.factorize(clients)
    return _hash_names(names)[places]


def held_out(hashes: Any, share: float) -> np.ndarray:
    """Return which rows belong to clients that no model is trained on: (n,) bool.

    hashes: (n,) uint64, see `client_hashes`
    """
    return np.asarray(hashes, dtype="uint64") < np.uint64(math.ceil(share * 2**64))
