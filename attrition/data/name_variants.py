"""Find clients that may be one client, because their names differ only in how they are written."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attrition.data.cells import shorten

MAX_EXAMPLES = 3


def fold_names(names: pa.Array) -> pa.Array:
    """Return names without what may be spelling: case, repeated blanks, leading zeros, a trailing .0.

    >>> fold_names(pa.array(["ACME  Ltd ", "007", "12.0", "A-01"])).to_pylist()
    ['acme ltd', '7', '12', 'a-01']
    """
    folded = pc.utf8_trim_whitespace(pc.utf8_lower(names))
    folded = pc.replace_substring_regex(folded, r"[\s\p{Z}]+", " ")
    folded = pc.replace_substring_regex(folded, r"^([0-9]+)\.0+$", r"\1")
    return pc.replace_substring_regex(folded, "^0+([0-9])", r"\1")


def find_variants(names: pa.Array, earlier: pa.Array) -> tuple[int, list[list[str]]]:
    """Return how many groups of names fold to one, and those groups that have a name not in `earlier`.

    names: distinct

    >>> find_variants(pa.array(["ACME", "7", "acme", "bolt"]), pa.array(["acme"]))
    (1, [['ACME', 'acme']])
    """
    places = fold_names(names).dictionary_encode().indices.to_numpy()
    is_shared = np.bincount(places)[places] > 1 if len(places) else np.zeros(0, bool)
    is_new = ~pc.is_in(names, value_set=earlier).to_numpy(zero_copy_only=False)
    groups: dict[int, list[str]] = defaultdict(list)
    new = set(places[is_shared & is_new].tolist())
    shared = np.flatnonzero(is_shared)
    for place, name in zip(
        places[shared].tolist(), names.take(pa.array(shared)).to_pylist(), strict=True
    ):
        groups[place].append(name)
    return len(groups), sorted(sorted(group) for place, group in groups.items() if place in new)


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
