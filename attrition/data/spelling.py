"""How earlier rows spell values, so that the same value of a later source is the same value.

The first source in which a column contains only boolean words decides the spelling (`Yes` and `No`), so
no row changes. A later source with other words for the same two (`true`, `t`, `1`, `ja`) is read as that
spelling. If a column has a third level in a source, it is not boolean in that source; if in the first,
never.

A text that an earlier version accepted, but this one would read otherwise (`none` as missing), is kept:
delivered again, its row is the same row.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.data.cells import NO, YES


class Spelling(NamedTuple):
    """How earlier rows spell values, by column.

    `booleans` are the words for true and false, none if the column has other levels; `kept` are texts
    that are read as they are.
    """

    booleans: Mapping[str, Sequence[str]] = MappingProxyType({})
    kept: Mapping[str, Collection[str]] = MappingProxyType({})


NO_SPELLING = Spelling()

MEANING = dict.fromkeys(YES, True) | dict.fromkeys(NO, False)
_PAIRS = [
    *(("yes", "no"), ("true", "false"), ("y", "n"), ("t", "f"), ("1", "0"), ("1.0", "0.0")),
    *(("ja", "nein"), ("wahr", "falsch"), ("oui", "non"), ("vrai", "faux")),
]
_TRUE = {false: true for true, false in reversed(_PAIRS)}
_FALSE = dict(_PAIRS) | {"si": "no", "s\u00ed": "no", "j": "n"}


def meaning(text: str) -> bool | None:
    """Return what a boolean word means; None if it is another level.

    >>> meaning("TRUE"), meaning("nein"), meaning("maybe")
    (True, False, None)
    """
    return MEANING.get(text.casefold())


def choose_spelling(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the words for true and false among the levels of a column; () if it has other levels.

    counts: the rows of each level; the more frequent of two words is chosen.
    If only one of the two occurs, the other one is its counterpart.

    >>> choose_spelling({"Yes": 5, "No": 3, "true": 1}), choose_spelling({"NO": 2})
    (('Yes', 'No'), ('YES', 'NO'))
    >>> choose_spelling({"1": 5, "0": 3, "2": 1})
    ()
    """
    means = {text: meaning(text) for text in counts}
    if not counts or None in means.values():
        return ()
    common = sorted(counts, key=lambda text: (-counts[text], text))
    true = [text for text in common if means[text]]
    false = [text for text in common if not means[text]]
    if (
        max(
            len({text for text in side if len(text) == 1 and text.isalpha()})
            for side in (true, false)
        )
        > 1
    ):
        return ()  # Y, N, T and F in one column are codes of four levels
    return (
        true[0] if true else _like(false[0], _TRUE),
        false[0] if false else _like(true[0], _FALSE),
    )


def spell(text: str, spelling: Sequence[str]) -> str:
    """Return a boolean word in a spelling; another text, or without a spelling, the text itself.

    >>> spell("t", ("Yes", "No")), spell("maybe", ("Yes", "No")), spell("t", ())
    ('Yes', 'maybe', 't')
    """
    is_true = meaning(text) if spelling else None
    return text if is_true is None else spelling[0 if is_true else 1]


def _like(text: str, counterparts: Mapping[str, str]) -> str:
    """Return the counterpart of a word in the same case."""
    other = counterparts[text.casefold()]
    return other.upper() if text.isupper() else other.title() if text.istitle() else other


def read_spelling(record: Mapping[str, Any] | None) -> Spelling:
    """Return how the rows of a record of ingestion spell values."""
    names = Spelling._fields if record and "booleans" in record else ()
    return Spelling(**{name: dict(record[name]) for name in names})  # type: ignore[index]


class Booleans:
    """The boolean columns of one source: those of earlier sources, and what its first rows decide."""

    def __init__(self, earlier: Mapping[str, Sequence[str]]) -> None:
        self._earlier = earlier
        self._own: dict[str, Sequence[str]] = {}

    @property
    def decided(self) -> dict[str, list[str]]:
        """The columns about which no earlier source decided."""
        return {n: list(each) for n, each in self._own.items() if n not in self._earlier}

    def fold(self, name: str, values: list[str], places: NDArray[np.integer]) -> list[str]:
        """Return the distinct values of a column in a chunk of rows, boolean words in one spelling.

        places: of the value of each row
        """
        if name not in self._own:
            counts: Counter[str] = Counter()
            for value, count in zip(
                values, np.bincount(places, minlength=len(values)), strict=True
            ):
                counts[value] += int(count)
            del counts[""]
            if not counts:
                return values
            own = choose_spelling(counts)
            self._own[name] = own and self._earlier.get(name, own)
        spelling = self._own[name]
        return [spell(value, spelling) for value in values] if spelling else values
