"""Accepted rows, typed: what identifies a row, and who is held-out."""

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.config import Columns, Numeric
from attrition.data.cells import NAME_LENGTH, day_number, number_text
from attrition.data.schema import csv_lines
from attrition.rows import typed_rows
from tests.support import PLAIN, plain_rows, row_ids

WORDS = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=40)
NUMBERS = st.just("") | (
    st.floats(-1e15, 1e15)
    | st.integers(-(10**15), 10**15).map(float)
    | st.integers(-9, 9).map(float)
).map(number_text)
DATES = st.just("") | st.dates().map(str)
TIMES = DATES | st.datetimes().map(lambda time: f"{time.isoformat(timespec='seconds')}Z")


def test_typed_rows_have_numbers_and_text():
    rows = plain_rows("a,1,2.5,,1", "b,,0,3,")
    assert rows["lastmonth_activity"].dtype == "float64"
    assert rows["lastyear_activity"].tolist() == [2.5, 0]
    assert rows["exited"].isna().tolist() == [False, True]
    assert rows["corporation"].tolist() == ["a", "b"]


def test_typed_does_not_change_its_argument():
    text = pd.DataFrame([["a", "1", "2", "", "1"]], columns=list(PLAIN.table), dtype=object)
    before = text.copy()
    typed_rows.typed(text, PLAIN)
    pd.testing.assert_frame_equal(text, before)


def test_input_ids_follow_content_alone():
    rows = plain_rows("a,1,2,3,0", "b,1,2,3,0", "a,1,2,3,0")
    ids = typed_rows.input_ids(rows, PLAIN)
    shuffled = typed_rows.input_ids(rows.iloc[[2, 1, 0]], PLAIN)
    assert ids.dtype == np.uint64
    assert ids[0] == ids[2] != ids[1]
    assert shuffled.tolist() == ids[::-1].tolist()


def test_an_outcome_that_arrives_changes_the_row_id_alone():
    rows = plain_rows("a,1,2,3,", "a,1,2,3,0", "a,1,2,3,1")
    assert len(set(row_ids(rows, PLAIN))) == 3
    assert len(set(typed_rows.input_ids(rows, PLAIN))) == 1


def test_ids_are_the_same_in_three_years():
    cells = dict(zip(PLAIN.table, ["a", "1", "2.5", "", "1"], strict=True))
    ids = typed_rows.compute_hashes({n: pa.array([text]) for n, text in cells.items()}, PLAIN)
    assert ids[typed_rows.ROW_ID].to_pylist() == [10842005467356058188]
    assert ids[typed_rows.INPUT_ID].to_pylist() == [10925098838303113411]


def test_held_out_clients_are_the_same_whatever_stands_beside_them():
    clients = typed_rows.client_hashes(pd.Series([f"c{i}" for i in range(1000)]))
    chosen = typed_rows.held_out(clients, 0.2)
    assert 150 < chosen.sum() < 250
    assert typed_rows.held_out(clients[::-1], 0.2).tolist() == chosen[::-1].tolist()
    assert typed_rows.held_out(clients[7:9], 0.2).tolist() == chosen[7:9].tolist()


def test_held_out_share_only_grows_with_the_share():
    clients = typed_rows.client_hashes(pd.Series([f"c{i}" for i in range(1000)]))
    small, large = typed_rows.held_out(clients, 0.1), typed_rows.held_out(clients, 0.3)
    assert not (small & ~large).any()


def test_all_rows_of_a_client_are_held_out_together():
    clients = pd.Series([f"c{i % 50}" for i in range(500)])
    chosen = (
        pd.Series(typed_rows.held_out(typed_rows.client_hashes(clients), 0.3))
        .groupby(clients)
        .nunique()
    )
    assert (chosen == 1).all()


# ---- columns of canonical text


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(
    st.lists(
        st.tuples(WORDS, TIMES, NUMBERS, NUMBERS, DATES, WORDS, st.sampled_from(["", "0", "1"])),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["who", None]),
    st.sampled_from(["seen", None]),
)
def test_columns_are_typed_and_hashed_as_their_lines_are(rows, client, time):
    columns = Columns(
        client, "left", numeric=(Numeric("n"),), categorical=("kind",), time=time, value="worth",
        dates=("end",),
    )  # fmt: skip
    names = (columns.client_name, "seen", "n", "worth", "end", "kind", "left")
    cells = dict(zip(names, zip(*rows, strict=True), strict=True))
    texts = {name: pa.array(cells[name], pa.string()) for name in columns.table}
    days = np.arange(len(rows)) + day_number("2026-03-01")
    values = typed_rows.type_values(texts, columns, days)
    result = pa.table(values | typed_rows.compute_hashes(texts, columns))
    lines = "".join(f"{line}\n" for line in csv_lines([*texts.values()]).to_pylist())
    assert typed_rows.parse_lines(lines.encode(), columns) == texts
    stored = result.append_column(f"{typed_rows.TEXT}end", texts["end"])
    assert typed_rows.to_texts(stored, columns) == texts
    as_text = pd.DataFrame(cells, columns=list(columns.table), dtype=object)
    expected = typed_rows.typed(as_text, columns)
    for name in ("n", "worth", "left"):
        np.testing.assert_array_equal(result[name].to_pandas(), expected[name])
    expected["end"] = as_text["end"]
    assert result[typed_rows.ROW_ID].to_pylist() == row_ids(expected, columns).tolist()
    ids = typed_rows.input_ids(expected, columns)
    assert result[typed_rows.INPUT_ID].to_pylist() == ids.tolist()
    names = as_text[columns.client_name]
    hashed = typed_rows.client_hashes(names if client else names.str[:NAME_LENGTH])
    assert result[typed_rows.CLIENT_HASH].to_pylist() == hashed.tolist()
