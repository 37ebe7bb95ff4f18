"""Accepted rows, typed: what identifies a row, and who is held-out."""

import numpy as np
import pandas as pd

from attrition.rows import typed_rows
from tests.support import PLAIN, plain_rows


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


def test_row_ids_follow_content_alone():
    rows = plain_rows("a,1,2,3,0", "b,1,2,3,0", "a,1,2,3,0")
    ids = typed_rows.row_ids(rows, PLAIN, with_outcome=True)
    shuffled = typed_rows.row_ids(rows.iloc[[2, 1, 0]], PLAIN, with_outcome=True)
    assert ids.dtype == np.uint64
    assert ids[0] == ids[2] != ids[1]
    assert shuffled.tolist() == ids[::-1].tolist()


def test_row_ids_tell_an_outcome_that_arrives_only_when_asked_to():
    rows = plain_rows("a,1,2,3,", "a,1,2,3,0", "a,1,2,3,1")
    assert len(set(typed_rows.row_ids(rows, PLAIN, with_outcome=True))) == 3
    assert len(set(typed_rows.row_ids(rows, PLAIN, with_outcome=False))) == 1


def test_row_ids_are_the_same_in_three_years():
    ids = typed_rows.row_ids(plain_rows("a,1,2.5,,1"), PLAIN, with_outcome=True)
    assert ids.tolist() == [10842005467356058188]


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
