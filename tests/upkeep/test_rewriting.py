"""Change names and ids in files, and nothing else."""

import io
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrition.data import risk_history
from attrition.errors import AttritionError
from attrition.storage import files
from attrition.upkeep import rewriting
from attrition.upkeep.rewriting import Ids, Substitution

IDS = Ids.of({5: 100, 7: 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann called", "X called"),
        ("Anna and Joann", "Anna and Joann"),
        ("Ann AG, Ann", "Ann AG, X"),
        ("old Sue Ann", "old Sue Ann"),
        ("'Ann'", "'X'"),
    ],
)
def test_a_name_is_replaced_as_a_word_and_not_in_longer_names(text, expected):
    texts = Substitution("Ann", "X", ["Ann AG", "Sue Ann"], is_word=False)
    assert texts.in_prose(text) == expected
    assert texts.count == expected.count("X")


def test_a_number_as_a_name_is_replaced_in_messages_only_in_quotes():
    texts = Substitution("12", "X", [], is_word=True)
    assert texts.in_message("12 rows, client '12'") == "12 rows, client 'X'"
    assert texts.in_prose("12 called") == "X called"


@pytest.mark.parametrize("data", [b'a,b\n"x,y",Ann\n', "\ufeffa,b\n1,Ann\n".encode(), b"a,b\n"])
def test_only_cells_of_a_column_change_in_a_csv(data):
    change = Substitution("Ann", "X", [], is_word=False).cell
    for rewrite in (rewriting.rewrite_csv, partial(rewriting.rewrite_lines, texts=["Ann"])):
        assert rewrite(data, change={"b": change}) == data.replace(b"Ann", b"X")
        assert rewrite(data, change={"a": change}) == data


def test_lines_without_the_name_are_not_even_read():
    data = b'a,b\n1,"x\r\n3,Ann\n4,Anna\n5,Ann\n6,y\n'
    change = Substitution("Ann", "X", [], is_word=False).cell
    new = rewriting.rewrite_lines(data, ["Ann"], {"b": change})
    assert new == b'a,b\n1,"x\r\n3,X\n4,Anna\n5,X\n6,y\n'


def test_a_csv_of_others_is_refused():
    with pytest.raises(AttritionError, match="not a table as it was written"):
        rewriting.rewrite_csv(b"a,b\r\n1,2\r\n", {})


def test_ids_change_and_sorted_arrays_stay_sorted():
    ids = np.array([2, 5, 7, 9], "uint64")
    table = pa.table({"id": pa.array(ids), "n": [1, 2, 3, 4]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    arrays = {
        "sorted": ids,
        "judged": ids,
        "judged_risk": np.arange(4.0),
        "pairs": np.column_stack([ids, ids]),
        "table": np.frombuffer(buffer.getvalue(), "uint8"),
        "numbers": np.arange(9),
    }
    data, count = rewriting.rewrite_arrays(arrays, IDS)
    result = np.load(io.BytesIO(data))
    assert count == 10
    assert result["sorted"].tolist() == [1, 2, 9, 100]
    assert result["judged"].tolist() == [2, 100, 1, 9]
    assert result["pairs"].tolist() == [[1, 1], [2, 2], [9, 9], [100, 100]]
    rows = pq.read_table(io.BytesIO(result["table"].tobytes())).to_pydict()
    assert rows == {"id": [2, 100, 1, 9], "n": [1, 2, 3, 4]}
    assert result["numbers"].tolist() == [*range(9)]
    assert rewriting.rewrite_arrays({"other": np.array([3], "uint64")}, IDS)[1] == 0


def test_row_groups_and_encodings_of_a_table_stay():
    buffer = io.BytesIO()
    table = pa.table({"client": ["b", "Ann", "c", "d"], "level": ["x", "x", "y", "Ann"]})
    pq.write_table(table, buffer, row_group_size=2, use_dictionary=["level"], compression="NONE")
    change = Substitution("Ann", "X", [], is_word=False).cell
    data, count = rewriting.rewrite_parquet(buffer.getvalue(), IDS, ["client"], change)
    file = pq.ParquetFile(io.BytesIO(data))
    assert count == 1
    assert file.num_row_groups == 2
    assert file.read()["client"].to_pylist() == ["b", "X", "c", "d"]
    assert file.read()["level"].to_pylist() == ["x", "x", "y", "Ann"]
    group = file.metadata.row_group(0)
    assert [group.column(i).has_dictionary_page for i in (0, 1)] == [False, True]
    assert group.column(0).compression == "UNCOMPRESSED"


def test_a_history_of_risks_stays_sorted_by_client():
    snapshot = risk_history.Snapshot("2026-11-28", "r")
    keys = np.array([5, 7], "uint64")
    history, _ = risk_history.add(risk_history.empty(), [], keys, np.array([0.5, 1.0]), snapshot)
    result, count = rewriting.rewrite_history(history, IDS)
    assert count == 2
    assert [risk_history.find(result, key) for key in (1, 100, 5)] == [[1.0], [0.5], [None]]


def test_a_workbook_changes_where_it_has_text():
    data = io.BytesIO()
    with rewriting.zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/sharedStrings.xml", "<t>Ann &amp; Co</t><t>Ann</t>")
        file.writestr("xl/media/a.png", b"Ann\xff")
    texts = Substitution("Ann & Co", "X", [], is_word=False)
    result = rewriting.rewrite_workbook(data.getvalue(), texts.in_prose)
    with rewriting.zipfile.ZipFile(io.BytesIO(result)) as file:
        assert file.read("xl/sharedStrings.xml") == b"<t>X</t><t>Ann</t>"
        assert file.read("xl/media/a.png") == b"Ann\xff"
    assert texts.count == 1


def test_values_of_a_record_change_with_the_key_they_stand_under():
    record = {"client": "Ann", "gone": [{"client": "Ann", "why": "left"}], "Ann": 1, "n": 2.0}
    texts = Substitution("Ann", "X", [], is_word=True)
    new = rewriting.change_values(
        record, lambda key, text: texts.value(text, is_client=key == "client")
    )
    assert new == {"client": "X", "gone": [{"client": "X", "why": "left"}], "Ann": 1, "n": 2.0}
    assert files.encode(record).count(b"Ann") == 3
