"""Find clients that may be one client, because their names differ only in how they are written."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.data.cells import shorten
from attrition.data.plain_cells import BLANK, POINT, are_printable
from attrition.data.text_hashes import find_texts, text_bytes

MAX_EXAMPLES = 3
ZERO = np.uint8(ord("0"))
BLANKS = r"\s\s|[\t\x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]"


def fold_names(names: pa.Array) -> pa.Array:
    """Return names without what may be spelling: case, repeated blanks, leading zeros, a trailing .0.

    >>> fold_names(pa.array(["ACME  Ltd ", "007", "12.0", "A-01"])).to_pylist()
    ['acme ltd', '7', '12', 'a-01']
    """
    is_other, folded = _may_be_spelling(names), pc.ascii_lower(names)
    if not is_other.any():
        return folded
    others = pa.array(is_other)
    return pc.replace_with_mask(folded, others, _fold(names.filter(others)))


def _may_be_spelling(names: pa.Array) -> NDArray[np.bool_]:
    """Return which names may have variants that differ in more than the case of letters: (n,) bool.

    These are names that are not printable ASCII, that have two blanks in a row or begin with a zero, and
    those with a "." that end with a zero.
    """
    content, starts = text_bytes(names)
    padded = np.append(content, ZERO)  # where an empty name at the end would begin
    ends_as_number = np.zeros(len(names), bool)
    ends_as_number[find_texts(starts, content == POINT)] = True
    ends_as_number &= padded[starts[1:] - 1] == ZERO
    result = ~are_printable(names) | ends_as_number | (padded[starts[:-1]] == ZERO)
    result[find_texts(starts, (padded[:-1] == BLANK) & (padded[1:] == BLANK))] = True
    return result


def _fold(names: pa.Array) -> pa.Array:
    folded = pc.utf8_trim_whitespace(pc.utf8_lower(names))
    has_blanks = pc.match_substring_regex(folded, BLANKS)  # few, and to replace them costs the most
    plain = pc.replace_substring_regex(folded.filter(has_blanks), r"[\s\p{Z}]+", " ")
    folded = pc.replace_with_mask(folded, has_blanks, plain)
    folded = pc.replace_substring_regex(folded, r"^([0-9]+)\.0+$", r"\1")
    return pc.replace_substring_regex(folded, "^0+([0-9])", r"\1")


def find_variants(earlier: pa.Array, new: pa.Array) -> tuple[int, list[list[str]]]:
    """Return how many groups of names fold to one, and the groups that have a new name.

    earlier, new: distinct names, none of them in both

    >>> find_variants(pa.array(["acme", "7"]), pa.array(["ACME", "bolt"]))
    (1, [['ACME', 'acme']])
    """
    names = pa.concat_arrays([earlier, new])
    places = fold_names(names).dictionary_encode().indices.to_numpy()
    shared = np.flatnonzero(np.bincount(places)[places] > 1) if len(places) else places
    groups: dict[int, list[str]] = defaultdict(list)
    texts = names.take(pa.array(shared, pa.int64())).to_pylist()
    for place, name in zip(places[shared].tolist(), texts, strict=True):
        groups[place].append(name)
    joined = set(places[shared[shared >= len(earlier)]].tolist())
    return len(groups), sorted(sorted(groups[place]) for place in joined)


def describe(groups: Sequence[Sequence[str]]) -> str:
    """Describe groups of names by their number and some examples.

    >>> describe([["ACME", "acme"]])
    "NAMES: 1 group of clients may be one client: 'ACME' and 'acme'; they are not merged"
    """
    examples = [
        " and ".join(repr(shorten(name)) for name in group[:MAX_EXAMPLES])
        for group in groups[:MAX_EXAMPLES]
    ]
    more = ", ..." if len(groups) > MAX_EXAMPLES else ""
    count = f"{len(groups):,} group{'s' * (len(groups) != 1)} of clients may be one client each"
    if len(groups) == 1:
        count = "1 group of clients may be one client"
    return f"NAMES: {count}: {', '.join(examples)}{more}; they are not merged"
