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
from attrition.data.text_hashes import find_texts, text_bytes

# Columns with fewer distinct cells among the first ones are validated cell by cell, each distinct once.
SAMPLE, MIN_DISTINCT = 1000, 500
# A decimal number of up to 15 digits is the shortest text of its float, from 1e-4 on without exponent.
MAX_NUMBER_LENGTH = 16
_WHOLE = "0|-?[1-9][0-9]{0,14}"
WHOLE = f"^(?:{_WHOLE})$"
NUMBER = f"^(?:{_WHOLE}|-?[1-9][0-9]*[.][0-9]*[1-9]|-?0[.]0{{0,3}}[1-9](?:[0-9]*[1-9])?)$"
# A number that may have a "." between thousands, see `schema.IN_GROUPS`.
GROUPED = "^-?[1-9][0-9]{0,2}[.][0-9]{3}$"
EXAMPLES = 3
MAX_WHOLE = 10**15 - 1
BLANK, LAST, POINT = np.frombuffer(b" ~.", "uint8")
GROUP = 64  # texts that are searched as one: most groups have no match
_DAY = (
    "[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    "|(?:0[13578]|1[02])-31)"
)
DATE = f"^{_DAY}$"
TIME = f"^{_DAY}(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?$"

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
    texts: dict[str | None, tuple[str | None, Collection[str]]] = {columns.client: (None, ())}
    if dialect.dates is None:
        texts |= dict.fromkeys([*columns.dates, columns.due], (DATE, missing))
        texts[columns.time] = (TIME, missing)
    texts |= dict.fromkeys([columns.manager, *columns.details], (None, missing))
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


def are_printable(texts: pa.Array) -> NDArray[np.bool_]:
    """Return which texts are printable ASCII, not empty, and without blanks at their ends: (n,) bool.

    >>> are_printable(pa.array(["a b", "", " a", "a ", "\u00e4"])).tolist()
    [True, False, False, False, False]
    """
    content, starts = text_bytes(texts)
    padded = np.append(content, BLANK)  # where an empty text at the end would begin
    result = (padded[starts[:-1]] != BLANK) & (padded[starts[1:] - 1] != BLANK)
    result &= starts[1:] > starts[:-1]
    is_other = content - BLANK > LAST - BLANK  # what is below a blank wraps around to large numbers
    result[find_texts(starts, is_other)] = False
    return result


def match_anywhere(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Return which texts match a pattern without anchors, which few do: (n,) bool.

    >>> match_anywhere(pa.array(["ab", "", "c"]), "c|bc").tolist()
    [False, False, True]
    """
    content, starts = text_bytes(texts)
    ends = np.append(starts[:-1:GROUP], starts[-1]).astype("int32")
    buffers = pa.py_buffer(ends), pa.py_buffer(content)
    groups = pa.Array.from_buffers(pa.string(), len(ends) - 1, [None, *buffers])
    may_match = pc.match_substring_regex(groups, pattern).to_numpy(zero_copy_only=False)
    result = np.repeat(may_match, GROUP)[: len(texts)]
    some = pc.match_substring_regex(texts.filter(pa.array(result)), pattern)
    result[result] = some.to_numpy(zero_copy_only=False)
    return result


def _find_texts(texts: pa.Array, pattern: str | None, markers: Collection[str]) -> Plain:
    """Find printable texts that match, without those that stand for a missing value."""
    if pattern is None:
        is_plain = pa.array(are_printable(texts))
    else:
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


def without_empty(texts: pa.Array) -> pa.Array:
    """Replace "" by null."""
    is_empty = pc.equal(pc.binary_length(texts), 0)
    if not pc.any(is_empty).as_py():
        return texts
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), texts)


def _find_numbers(
    texts: pa.Array, pattern: str, column: Numeric, markers: Collection[str], *, is_pointed: bool
) -> Plain:
    """Find numbers in the range of a column, but not all of its examples of a ".".

    is_pointed: whether a "." can only begin a fraction
    """
    numeric = [text for text in markers if NUMERIC.search(text)]
    if not numeric and _are_whole(some := without_empty(texts), column):
        return Plain(some.is_valid().to_numpy(zero_copy_only=False), texts)
    canonical, is_short = texts, pc.less_equal(pc.binary_length(texts), MAX_NUMBER_LENGTH)
    is_dotted = pc.match_substring(texts, ".")
    if is_pointed and pc.any(is_dotted).as_py():
        canonical = _without_zeros(texts, pc.and_(is_dotted, is_short))
    is_plain = pc.and_(is_short, pc.match_substring_regex(canonical, pattern))
    none = pa.scalar(None, pa.string())
    numbers = pc.if_else(is_plain, canonical, none).cast(pa.float64())
    if column.minimum is not None:
        is_plain = pc.and_(is_plain, pc.fill_null(pc.greater_equal(numbers, column.minimum), False))
    if column.maximum is not None:
        is_plain = pc.and_(is_plain, pc.fill_null(pc.less_equal(numbers, column.maximum), False))
    result = _without_markers(texts, is_plain, numeric)
    if is_pointed:
        result = result.copy()
        result[_find_examples(texts, is_dotted.to_numpy(zero_copy_only=False) & result)] = False
    is_normalised = canonical is not texts and bool(
        (pc.not_equal(canonical, texts).to_numpy(zero_copy_only=False) & result).any()
    )
    return Plain(result, canonical, is_normalised)


def _are_whole(texts: pa.Array, column: Numeric) -> bool:
    """Return whether all texts are canonical whole numbers in the range of a column, or null."""
    try:
        numbers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    limits = pc.min_max(numbers).as_py()
    least = -MAX_WHOLE if column.minimum is None else max(-MAX_WHOLE, column.minimum)
    most = MAX_WHOLE if column.maximum is None else min(MAX_WHOLE, column.maximum)
    if limits["min"] is None or not least <= limits["min"] <= limits["max"] <= most:
        return False
    return bool(numbers.cast(pa.string()).equals(texts))


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
    content, starts = text_bytes(texts)
    is_grouped = np.diff(starts) > 4
    is_grouped &= content[starts[1:] - 4] == POINT
    some = pc.match_substring_regex(texts.filter(pa.array(is_grouped)), GROUPED)
    is_grouped[is_grouped] = some.to_numpy(zero_copy_only=False)
    grouped = np.flatnonzero(is_grouped & is_dotted)
    codes = texts.take(pa.array(grouped)).dictionary_encode().indices.to_numpy()
    firsts = [int(np.argmax(codes == n)) for n in range(EXAMPLES) if n in codes]
    return [*np.flatnonzero(is_dotted & ~is_grouped)[:1].tolist(), *grouped[firsts].tolist()]
