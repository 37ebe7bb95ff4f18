"""Write riskscores.csv from arrays: the same text as `fields.csv_table`, at a fraction of its cost.

The cells of a line before and after the rank, which is only known when all parts are, are columns of
the part files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.contacts import fields
from attrition.contacts.fields import Labels
from attrition.data.cells import Caution, Reason
from attrition.storage import tables

BEFORE, AFTER, CAUTIONS = "csv:before", "csv:after", "csv:cautions"
CELLS = (BEFORE, AFTER, CAUTIONS)
NO_FORMULA = r"^[\pL\pN][^;]*$"  # text that `fields.escape_formula` does not change
WHOLE = 100  # from this size on, a number is shown without decimals


def header(columns: Columns) -> bytes:
    return tables.csv_bytes([names(columns)])


def names(columns: Columns) -> list[str]:
    return [name for name in fields.RISK_SCORES if name != "due" or columns.due]


def cells(
    table: pa.Table,
    managers: pa.Array,
    reasons: pa.Array,
    cautions: Mapping[int, Sequence[Caution]],
    labels: Labels,
) -> dict[str, pa.Array]:
    """Return the cells of each client as text: those before the rank, those after it, the cautions.

    managers: with reassigned clients; reasons: as `reason_texts` returns them; cautions: by row
    """
    before = [_escape(table["client"]), tables.csv_cells(table["risk"])]
    after = [
        _texts(table["observed_at"]),
        *(tables.csv_cells(table[name]) for name in ("value", "value_at_risk")),
        _texts(managers),
        tables.csv_cells(reasons),
    ]
    texts = np.full(len(table), "", dtype=object)
    texts[[*cautions]] = [caution_cell(each, labels) for each in cautions.values()]
    of_cautions = tables.csv_cells(pa.array(texts, pa.string()))
    return {BEFORE: _join(before), AFTER: _join(after), CAUTIONS: of_cautions}


def caution_cell(cautions: Sequence[Caution], labels: Labels) -> str:
    return "; ".join([fields.escape_formula(fields.caution_text(one, labels)) for one in cautions])


def reason_texts(
    order: NDArray[np.intp],
    counts: NDArray[np.intp],
    columns: Mapping[str, Any],
    baseline: Mapping[str, Any],
    labels: Labels,
) -> pa.Array:
    """Return the reasons of each client as text; each distinct one is formatted once.

    order, counts, columns: see `clients.reason_array`
    """
    row, place = np.nonzero(np.arange(order.shape[1]) < counts[:, np.newaxis])
    feature, codes, texts = order[row, place], np.empty(len(row), np.intp), list[str]()
    for i, (name, values) in enumerate(columns.items()):
        at = np.flatnonzero(feature == i)
        number, distinct = pd.factorize(
            _shown(values, row[at], labels.get(name)), use_na_sentinel=False
        )
        codes[at] = number + len(texts)
        for value in distinct.tolist():
            reason = Reason(name, None if value != value else value, baseline[name], 0.0)
            texts.append(fields.escape_formula(fields.reason_text(reason, labels)))
    ends = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    each = pa.array(texts, pa.string()).take(pa.array(codes))
    return pc.binary_join(pa.ListArray.from_arrays(ends, each), "; ")


def _shown(values: Any, rows: NDArray[np.intp], label: Any) -> NDArray[Any]:
    """Return values that have the same texts, but fewer distinct ones."""
    if not isinstance(values, np.ndarray):
        return np.array(values, dtype=object)[rows]
    own = values[rows]
    return own if label and label.is_date else np.where(np.abs(own) >= WHOLE, np.rint(own), own)


def replace_cautions(
    table: pa.Table,
    is_replaced: NDArray[np.bool_],
    cautions: Sequence[Sequence[Caution]],
    labels: Labels,
) -> pa.Table:
    """Replace the cautions of some clients."""
    texts = tables.csv_cells(
        pa.array([caution_cell(each, labels) for each in cautions], pa.string())
    )
    replaced = pc.replace_with_mask(table[CAUTIONS].combine_chunks(), pa.array(is_replaced), texts)
    return table.set_column(table.schema.get_field_index(CAUTIONS), CAUTIONS, replaced)


def lines(table: pa.Table, start: int, columns: Columns) -> memoryview:
    """Return the lines of clients with these cells, whose ranks begin after `start`."""
    ranks = pa.array(np.arange(start + 1, start + 1 + len(table))).cast(pa.string())
    line = [table[BEFORE], ranks, table[AFTER], table[CAUTIONS]]
    line += [_texts(table["due"])] if columns.due else []
    ended = pc.binary_join_element_wise(_join(line), "", "\n")
    if isinstance(ended, pa.ChunkedArray):
        ended = ended.combine_chunks()
    offsets = np.frombuffer(ended.buffers()[1], np.int32)[
        ended.offset : ended.offset + len(ended) + 1
    ]
    data = memoryview(ended.buffers()[2] or b"")
    return data[offsets[0] : offsets[-1]] if len(ended) else data[:0]


def _join(cells: Sequence[Any]) -> Any:
    return pc.binary_join_element_wise(*cells, ",")


def _texts(values: Any) -> Any:
    """Return text as cells without formulas; each distinct text is escaped once."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = values.dictionary_encode()
    return _escape(encoded.dictionary).take(encoded.indices)


def _escape(texts: Any) -> Any:
    """Return distinct texts as cells without formulas."""
    texts = texts.cast(pa.string())
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    is_other = pc.invert(pc.match_substring_regex(texts, NO_FORMULA))
    if pc.any(is_other, min_count=0).as_py():
        others = [fields.escape_formula(text) for text in texts.filter(is_other).to_pylist()]
        texts = pc.replace_with_mask(texts, is_other, pa.array(others, pa.string()))
    return tables.csv_cells(texts)
