"""Recognise rows of an export that describe no client: totals, group headings, footers, blank rows.

A company may be called Total, so a row with such a name is a total only if its numbers are those of the
rows above, or if nothing but numbers stands beside the name.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.data.cells import fold, shorten
from attrition.data.plain_cells import match_anywhere, without_empty

TOTAL, GROUP, FOOTER, BLANK = "TOTAL_ROW", "GROUP_ROW", "FOOTER", "BLANK_ROW"
# Rows with these codes are no sign of a bad source.
CODES = (TOTAL, GROUP, FOOTER, BLANK, "REPEATED_HEADER")
MAX_FOOTER = 300
MAX_FOOTER_CELLS = 2

_TOTALS = (
    r"(?:grand |overall |sub|sub[ -])?totals?|sums?|summary|summe|gesamt(?:summe|ergebnis|betrag|wert)?"
    r"|zwischen(?:summe|ergebnis)|teilergebnis|ergebnis|insgesamt|sous-total|somme|totale|suma|totaal"
)
_AVERAGES = r"averages?|mean|median|durchschnitt|mittelwert|moyenne|counts?|anzahl"
MAY_BE_TOTAL = (
    "(?i)total|sum|somm|gesamt|ergebnis|totaal|average|mean|median|schnitt|mittel|moyenne"
    "|count|anzahl"
)
IS_TOTAL = re.compile(rf"(?:{_TOTALS}|{_AVERAGES})(?: ?[:=].*)?")
IS_AVERAGE = re.compile(rf"(?:{_AVERAGES})\b.*")
HAS_TOTAL = re.compile(rf"(?:{_TOTALS}|{_AVERAGES})\b.*|.*\b(?:{_TOTALS})")
IS_FOOTER = re.compile(
    r"[-( ]*[0-9][0-9,.' ]* ?(?:rows?|records?|lines?|zeilen?|datens\u00e4tze?|lignes?)\b.*"
    r"|(?:page|seite) [0-9].*|end of .*|ende(?: .*)?|\u00a9.*"
    r"|(?:source|quelle|stand|as of|filters?|date|datum|user|benutzer|notes?|hinweis|rows|records|zeilen"
    r"|datens\u00e4tze|number of .{0,40}|anzahl .{0,40}) ?[:=].*"
)
HAS_FOOTER = re.compile(
    r"\b(?:exported|exportiert|generated|generiert|erstellt|created|printed|gedruckt|report|bericht"
    r"|copyright|confidential|vertraulich|disclaimer)\b"
)


class SummaryRows:
    """The sums of a source so far, to recognise its totals chunk by chunk."""

    def __init__(self, columns: Columns, places: Mapping[str, int]) -> None:
        self._columns = columns
        self._label_place = label = places[columns.client] if columns.client else 0
        numeric = [*(column.name for column in columns.numeric), *filter(None, [columns.value])]
        self._numeric = [*dict.fromkeys(numeric)]
        words = (*columns.dates, *columns.categorical, columns.time, columns.manager)
        words += (columns.due, *columns.details)
        self._words = [name for name in filter(None, words) if places.get(name, label) != label]
        self._all = _Sums(len(self._numeric))
        self._group = _Sums(len(self._numeric))

    def find(
        self,
        delivered: Sequence[Any],
        texts: Mapping[str, Any],
        refused: Collection[int],
        *,
        is_last: bool,
    ) -> dict[int, tuple[str, str]]:
        """Return the code and the problem of each summary row of a chunk, by its place.

        delivered: the columns as delivered; texts: those of the contract as canonical text; refused: the
        places of rows that are refused in any case
        """
        labels = delivered[self._label_place]
        result: dict[int, tuple[str, str]] = {}
        for i in refused:
            cells = [column[i].as_py()[:MAX_FOOTER] for column in delivered]
            row = describe_refused(cells)
            if row is None and not fold(cells[self._label_place]):
                row = _describe_total_without_client(cells)
            if row:
                result[i] = row
        places = np.flatnonzero(match_anywhere(labels, MAY_BE_TOTAL)).tolist()
        numbers = _to_numbers([texts[name] for name in self._numeric], len(labels))
        last = (
            max(set(range(len(numbers))) - result.keys(), default=-1) if places and is_last else -1
        )
        start = 0
        for i in sorted({*places, *(i for i, (code, _) in result.items() if code == TOTAL)}):
            self._add(numbers[start:i])
            label = labels[i].as_py()
            if i not in result and self._is_total(label, i, texts, numbers[i], is_last=i == last):
                result[i] = (TOTAL, _describe_total(label))
            is_total = result.get(i, ("", ""))[0] == TOTAL
            if is_total:
                self._group = _Sums(len(self._numeric))
            start = i + is_total
        self._add(numbers[start:])
        return result

    def _add(self, numbers: NDArray[np.float64]) -> None:
        self._all.add(numbers)
        self._group.add(numbers)

    def _is_total(
        self,
        label: str,
        i: int,
        texts: Mapping[str, Any],
        numbers: NDArray[np.float64],
        *,
        is_last: bool,
    ) -> bool:
        name = fold(label)
        if not HAS_TOTAL.fullmatch(name[:MAX_FOOTER]):
            return False
        has_number = np.isfinite(numbers)
        is_sum = has_number & (self._all.matches(numbers) | self._group.matches(numbers))
        if has_number.sum() > 1 and is_sum.sum() == has_number.sum():
            return True
        if any(texts[word][i].as_py() for word in (*self._words, self._columns.outcome)):
            return False
        if has_number.any() and 2 * is_sum.sum() >= has_number.sum():
            return True
        if not self._is_largest(numbers, name):
            return False
        return bool(self._words) or (
            is_last and self._all.rows > 1 and bool(IS_TOTAL.fullmatch(name))
        )

    def _is_largest(self, numbers: NDArray[np.float64], name: str) -> bool:
        """Return whether no row above is larger; an average need not be the largest."""
        sums = self._group if self._group.rows else self._all
        return bool(IS_AVERAGE.fullmatch(name)) or not (numbers < sums.maxima).any()


class _Sums:
    """Sums, counts and maxima of numeric columns."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.sums, self.counts = np.zeros(columns), np.zeros(columns)
        self.maxima = np.full(columns, -np.inf)

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Add rows: (n, columns), NaN if missing."""
        if len(numbers):
            self.rows += len(numbers)
            self.sums += np.nansum(numbers, axis=0)
            self.counts += np.isfinite(numbers).sum(axis=0)
            self.maxima = np.fmax(self.maxima, np.fmax.reduce(numbers, axis=0))

    def matches(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which numbers are the sum, or the mean, of two rows or more."""
        means = self.sums / np.maximum(self.counts, 1)
        is_sum = np.isclose(numbers, self.sums, rtol=1e-6, atol=1e-9)
        return (self.counts > 1) & (is_sum | np.isclose(numbers, means, rtol=1e-4, atol=1e-9))


def _describe_total(label: str) -> str:
    return f"{shorten(label)!r} sums up the rows above, so it is no client"


def _describe_total_without_client(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the code and the problem of a total if another cell than the client is its label."""
    words = [cell for cell in cells if any(map(str.isalpha, cell))]
    is_total = len(words) == 1 and HAS_TOTAL.fullmatch(fold(words[0]))
    return (TOTAL, _describe_total(words[0])) if is_total else None


def _to_numbers(columns: Sequence[Any], rows: int) -> NDArray[np.float64]:
    numbers = [
        without_empty(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
        for column in columns
    ]
    return (
        np.array(numbers, dtype="float64").reshape(len(numbers), rows).T
    )  # columns are contiguous


def describe_refused(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the code and the problem of a refused row if its cells show that it is no client."""
    texts = [cell for cell in cells if fold(cell[:MAX_FOOTER])]
    if not texts:
        return (BLANK, "no cell has a value")
    first = fold(texts[0][:MAX_FOOTER])
    shown = repr(shorten(texts[0]))
    if len(texts) <= MAX_FOOTER_CELLS and (IS_FOOTER.fullmatch(first) or HAS_FOOTER.search(first)):
        return (FOOTER, f"{shown} is a note of the export, no client")
    if len(texts) == 1 and HAS_TOTAL.fullmatch(first):
        return (TOTAL, f"{shown} is a total without numbers, no client")
    if len(texts) == 1 and len(cells) > 2 and any(map(str.isalpha, first)):
        return (GROUP, f"{shown} stands alone in its row, so it is a heading or a note, no client")
    return None


def describe_odd(
    rows: Sequence[tuple[int, Sequence[str]]], last_line: int, *, is_last: bool
) -> dict[int, tuple[str, str]]:
    """Return the code and the problem of each summary row with fewer fields than the header, by line.

    At the end of a source, below a blank line or a footer, each such row is a footer.

    last_line: that of the last row of full width in the same chunk, 0 if there is none
    """
    result: dict[int, tuple[str, str]] = {}
    previous = last_line or (rows[0][0] - 1 if rows else 0)
    is_below = False
    for line, row in rows:
        first = fold(row[0][:MAX_FOOTER]) if row else ""
        problem = describe_refused(row)
        if problem is None and HAS_TOTAL.fullmatch(first):
            problem = (TOTAL, _describe_total(row[0]))
        if is_last and line > last_line:
            is_below = is_below or line > previous + 1
            if is_below and (problem is None or problem[0] == GROUP):
                problem = (FOOTER, f"{shorten(row[0])!r} is a note below the rows, no client")
        if problem and problem[0] != GROUP:
            result[line] = problem
            is_below = is_below or problem[0] == FOOTER
        previous = line
    return result
