"""Recognise cells that are canonical already, by array operations: nearly all of a clean table.

Only what is certain is decided: the validator of the column in `cells` would return such a cell as it
is, without a note, or a number without the zeros at its end. Every other cell goes to that validator.
"""

import re
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import DEFAULT_DIALECT, Columns, Dialect, Numeric
from attrition.data.cells import MAX_TEXT, fold_markers, numeric_columns

# Columns with fewer distinct cells among the first ones are validated cell by cell, each distinct once.
SAMPLE, MIN_DISTINCT = 1000, 500
TEXT = "^[!-~](?:[ -~]*[!-~])?$"
# A decimal number of up to 15 digits is the shortest text of its float, from 1e-4 on without exponent.
MAX_NUMBER_LENGTH = 16
_WHOLE = "0|-?[1-9][0-9]{0,14}"
WHOLE = f"^(?:{_WHOLE})$"
NUMBER = f"^(?:{_WHOLE}|-?[1-9][0-9]*[.][0-9]*[1-9]|-?0[.]0{{0,3}}[1-9](?:[0-9]*[1-9])?)$"
# A number that may have a "." between thousands, see `schema.IN_GROUPS`.
GROUPED = "^-?[1-9][0-9]{0,2}[.][0-9]{3}$"
EXAMPLES = 3
_DAY = (
    "[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    "|(?:0[13578]|1[02])-31)"
)
DATE = f"^{_DAY}$"
TIME = f"^{_DAY}(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?$"

NONE = pa.scalar(None, pa.string())
NUMERIC = re.compile("[0-9]")


class Plain(NamedTuple):
    """Which cells are plain, (n,) bool, and the column with these as canonical text.

    is_normalised: whether the text of one of them differs
    """

    is_plain: NDArray[np.bool_]
    texts: pa.Array
    is_normalised: bool = False


Finder = Callable[[pa.Array], Plain]


def has_many_levels(texts: pa.Array, least: int = MIN_DISTINCT) -> bool:
    """Return whether most of the first cells, or at least so many, are distinct."""
    return len(texts[:SAMPLE].dictionary_encode().dictionary) >= least


def finders(
    columns: Columns, markers: Collection[str], dialect: Dialect = DEFAULT_DIALECT
) -> dict[str, Finder]:
    """Return for delivered columns a function that finds the plain cells.

    Columns whose cells depend on each other, as categories and outcomes do, have none.
    """
    missing = fold_markers(markers)
    texts: dict[str | None, tuple[str, Collection[str]]] = {columns.client: (TEXT, ())}
    if dialect.dates is None:
        texts |= dict.fromkeys([*columns.dates, columns.due], (DATE, missing))
        texts[columns.time] = (TIME, missing)
    texts |= dict.fromkeys([columns.manager, *columns.details], (TEXT, missing))
    result: dict[str, Finder] = {
        name: partial(_find_texts, pattern=pattern, markers=own)
        for name, (pattern, own) in texts.items()
        if name
    }
    for name, column in numeric_columns(columns).items():
        is_pointed = dialect.decimal == "."
        pattern = NUMBER if is_pointed and not column.integer else WHOLE
        result[name] = partial(
            _find_numbers, pattern=pattern, column=column, markers=missing, is_pointed=is_pointed
        )
    return {name: result[name] for name in columns.delivered if name in result}


def _find_texts(texts: pa.Array, pattern: str, markers: Collection[str]) -> Plain:
    """Find ASCII texts that match, without those that stand for a missing value."""
    is_plain = pc.match_substring_regex(texts, pattern)
    is_plain = pc.and_(is_plain, pc.less_equal(pc.binary_length(texts), MAX_TEXT))
    return Plain(_without_markers(texts, is_plain, markers), texts)


def _without_markers(
    texts: pa.Array, is_plain: pa.Array, markers: Collection[str]
) -> NDArray[np.bool_]:
    ascii_markers = sorted(filter(str.isascii, markers))
    if any(ascii_markers):
        is_missing = pc.is_in(pc.ascii_lower(texts), value_set=pa.array(ascii_markers))
        is_plain = pc.and_not(is_plain, is_missing)
    result: NDArray[np.bool_] = is_plain.to_numpy(zero_copy_only=False)
    return result


def _find_numbers(
    texts: pa.Array, pattern: str, column: Numeric, markers: Collection[str], *, is_pointed: bool
) -> Plain:
    """Find numbers in the range of a column, but not all of its examples of a ".".

    is_pointed: whether a "." can only begin a fraction
    """
    canonical, is_short = texts, pc.less_equal(pc.binary_length(texts), MAX_NUMBER_LENGTH)
    is_dotted = pc.match_substring(texts, ".")
    if is_pointed and pc.any(is_dotted).as_py():
        canonical = _without_zeros(texts, pc.and_(is_dotted, is_short))
    is_plain = pc.and_(is_short, pc.match_substring_regex(canonical, pattern))
    numbers = pc.if_else(is_plain, canonical, NONE).cast(pa.float64())
    if column.minimum is not None:
        is_plain = pc.and_(is_plain, pc.fill_null(pc.greater_equal(numbers, column.minimum), False))
    if column.maximum is not None:
        is_plain = pc.and_(is_plain, pc.fill_null(pc.less_equal(numbers, column.maximum), False))
    numeric = [text for text in markers if NUMERIC.search(text)]
    result = _without_markers(texts, is_plain, numeric)
    if is_pointed:
        result = result.copy()
        result[_find_examples(texts, is_dotted.to_numpy(zero_copy_only=False) & result)] = False
    is_normalised = canonical is not texts and bool(
        (pc.not_equal(canonical, texts).to_numpy(zero_copy_only=False) & result).any()
    )
    return Plain(result, canonical, is_normalised)


def _without_zeros(texts: pa.Array, is_dotted: pa.Array) -> pa.Array:
    """Return numbers with a "." without the zeros at their end, and without a "." that ends them."""
    has_zeros = pc.and_(is_dotted, pc.ends_with(texts, "0"))
    if not pc.any(has_zeros).as_py():
        return texts
    trimmed = pc.replace_substring_regex(texts.filter(has_zeros), "[.]?0+$", "")
    return pc.replace_with_mask(texts, has_zeros, trimmed)


def _find_examples(texts: pa.Array, is_dotted: NDArray[np.bool_]) -> list[int]:
    """Return the places of the first numbers with a ".", from which `schema` infers the dialect.

    They are the first one that has none between thousands, and the first distinct ones that may have.
    """
    if not is_dotted.any():
        return []
    is_grouped = pc.match_substring_regex(texts, GROUPED).to_numpy(zero_copy_only=False)
    grouped = np.flatnonzero(is_grouped & is_dotted)
    codes = texts.take(pa.array(grouped)).dictionary_encode().indices.to_numpy()
    firsts = [int(np.argmax(codes == n)) for n in range(EXAMPLES) if n in codes]
    return [*np.flatnonzero(is_dotted & ~is_grouped)[:1].tolist(), *grouped[firsts].tolist()]
