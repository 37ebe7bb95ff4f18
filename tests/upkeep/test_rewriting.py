"""Change names and ids in files, and nothing else."""

import gzip
import io
from functools import partial
from urllib.parse import quote, quote_plus

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


def test_only_people_write_a_name_in_any_case_and_width():
    texts = Substitution("Ann 1", "X", ["ANN 1", "Ann 1 AG"], is_word=False)
    spelled = "ann 1, \uff21NN\u3000\uff11, Ann\n1; ANN 1, ann 1 ag"
    assert texts.in_prose(spelled) == "X, X, X; ANN 1, ann 1 ag"
    assert texts.in_message(spelled) == "ann 1, \uff21NN\u3000\uff11, X; ANN 1, ann 1 ag"
    assert texts.in_message("--forget 'ann 1': or 'ANN 1'") == "--forget 'X': or 'ANN 1'"
    assert [texts.is_in(each) for each in ("(ANN 1)", "Ann 12")] == [True, False]


@pytest.fixture
def rewrite(tmp_path):
    """Rewrite a file with a content; return the new content and the result, after only counting."""

    def run(function, data, *more, **keywords):
        path = tmp_path / "before"
        path.write_bytes(data)
        counted = function(path, None, *more, **keywords)
        with (tmp_path / "after").open("w+b") as target:
            assert function(path, target, *more, **keywords) == counted
        return (tmp_path / "after").read_bytes(), counted

    return run


@pytest.mark.parametrize(
    "data",
    [b'a,b\n"x,y",Ann\n', "\ufeffa,b\n1,Ann\n".encode(), b"a,b\n", b"", b"a,b\n1,Ann,Ann\n1\n"],
)
def test_only_cells_of_a_column_change_in_a_csv(data, rewrite):
    change = Substitution("Ann", "X", [], is_word=False).cell
    for function in (rewriting.rewrite_csv, partial(rewriting.rewrite_lines, texts=["Ann"])):
        expected = data.replace(b"Ann", b"X", 1)
        assert rewrite(function, data, change={"b": change})[0] == expected
        assert rewrite(function, data, change={"a": change})[0] == data


def test_lines_without_the_name_are_not_even_read(rewrite, monkeypatch):
    monkeypatch.setattr(rewriting, "BLOCK", 4)
    data = b'a,b\n1,"x\r\n3,Ann\n4,Anna\n5,Ann\n6,y\n'
    change = Substitution("Ann", "X", [], is_word=False).cell
    new, _ = rewrite(rewriting.rewrite_lines, data, ["Ann"], {"b": change})
    assert new == b'a,b\n1,"x\r\n3,X\n4,Anna\n5,X\n6,y\n'


def test_a_csv_with_line_breaks_in_its_cells_changes_only_in_a_column(rewrite):
    data = b'raw,b\n"Ann\nBob",Ann\n"\r\n",Bob\n'
    change = Substitution("Ann", "X", [], is_word=False).cell
    assert rewrite(rewriting.rewrite_csv, data, {"b": change})[0] == data.replace(b",Ann", b",X")


@pytest.mark.parametrize("data", [b"a,b\r\n1,2\r\n", b"a,b\n1,'2'\n\"1\",2\n"])
def test_a_csv_of_others_is_refused(data, rewrite):
    with pytest.raises(AttritionError, match="not a table as it was written"):
        rewrite(rewriting.rewrite_csv, data, {})


def test_a_line_as_delivered_is_split_at_any_separator():
    change = Substitution("Ann", "X", [], is_word=False).cell
    assert rewriting.change_raw("Ann;Ann AG;1", change) == "X;Ann AG;1"
    assert rewriting.change_raw('"Ann\t2",Ann', change) == "X\t2,X"
    assert rewriting.change_raw("'Ann', Anna", change) == "'Ann', Anna"
    change = Substitution("A;B|C", "X", [], is_word=False).cell
    assert rewriting.change_raw("A;B|C,A", change) == "X,A"


def test_a_text_is_found_across_blocks_and_in_gzip(tmp_path, monkeypatch):
    monkeypatch.setattr(rewriting, "BLOCK", 3)
    for name, opened in (("a.txt", open), ("a.gz", gzip.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(b"12Ann Lee45")
        assert rewriting.find_in(tmp_path / name, ["Bob", "Ann Lee"])
        assert not rewriting.find_in(tmp_path / name, ["Bob", "Ann  Lee"])


def test_a_log_changes_line_by_line(rewrite):
    data = b'{"a": "Ann"}\n{"b":1}\nAnn \xff\n{"torn": "Ann'
    texts = Substitution("Ann", "X", [], is_word=False)
    new, _ = rewrite(rewriting.rewrite_log, data, texts.in_message)
    assert new == b'{"a": "X"}\n{"b":1}\nX \xff\n{"torn": "X'


def test_ids_change_and_sorted_arrays_stay_sorted(rewrite):
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
    texts = Substitution("Ann", "X", [], is_word=False)
    data, count = rewrite(rewriting.rewrite_arrays, files.arrays_bytes(**arrays), IDS, texts)
    result = np.load(io.BytesIO(data))
    assert count == 10
    assert result["sorted"].tolist() == [1, 2, 9, 100]
    assert result["judged"].tolist() == [2, 100, 1, 9]
    assert result["pairs"].tolist() == [[1, 1], [2, 2], [9, 9], [100, 100]]
    rows = pq.read_table(io.BytesIO(result["table"].tobytes())).to_pydict()
    assert rows == {"id": [2, 100, 1, 9], "n": [1, 2, 3, 4]}
    assert result["numbers"].tolist() == [*range(9)]
    other = files.arrays_bytes(**arrays | {"sorted": np.array([3], "uint64")})
    unchanged = Ids.of({3_000: 1})
    assert rewrite(rewriting.rewrite_arrays, other, unchanged, texts) == (other, 0)


def test_row_groups_and_encodings_of_a_table_stay(rewrite):
    buffer = io.BytesIO()
    table = pa.table({"client": ["b", "Ann", "c", None], "level": ["x", "x", "y", "Ann"]})
    pq.write_table(table, buffer, row_group_size=2, use_dictionary=["level"], compression="NONE")
    texts = Substitution("Ann", "X", [], is_word=False)
    data, count = rewrite(rewriting.rewrite_parquet, buffer.getvalue(), IDS, texts)
    file = pq.ParquetFile(io.BytesIO(data))
    assert count == 1
    assert file.num_row_groups == 2
    assert file.read()["client"].to_pylist() == ["b", "X", "c", None]
    assert file.read()["level"].to_pylist() == ["x", "x", "y", "Ann"]
    group = file.metadata.row_group(0)
    assert [group.column(i).has_dictionary_page for i in (0, 1)] == [False, True]
    assert group.column(0).compression == "UNCOMPRESSED"


def test_a_history_of_risks_stays_sorted_by_client(rewrite, monkeypatch):
    monkeypatch.setattr(rewriting, "BLOCK", 2)
    snapshot = risk_history.Snapshot("2026-11-28", "r")
    keys, risks = np.array([5, 6, 7], "uint64"), np.array([0.5, 0.25, 1.0])
    before, _ = risk_history.add(risk_history.empty(), [], keys, risks, snapshot)
    file = io.BytesIO()
    risk_history.write(file, before)
    data, count = rewrite(rewriting.rewrite_history, file.getvalue(), IDS)
    after = np.load(io.BytesIO(data))
    assert count == 2
    assert after["key"].tolist() == [1, 6, 100]
    assert [risk_history.find(after, key) for key in (1, 100, 6, 5)] == [
        [1.0],
        [0.5],
        [0.25],
        [None],
    ]


def test_a_workbook_changes_where_it_has_text(rewrite):
    data = io.BytesIO()
    with rewriting.zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/sharedStrings.xml", "<t>Ann &amp; Co</t><t>Ann</t>")
        file.writestr("xl/media/a.png", b"Ann\xff")
    texts = Substitution("Ann & Co", "X", [], is_word=False)
    result, plain = rewrite(rewriting.rewrite_workbook, data.getvalue(), texts.in_prose)
    with rewriting.zipfile.ZipFile(io.BytesIO(result)) as file:
        assert file.read("xl/sharedStrings.xml") == b"<t>X</t><t>Ann</t>"
        assert file.read("xl/media/a.png") == b"Ann\xff"
    assert plain == ["XAnn"]  # no tag has a value
    assert texts.count == 2  # once to count, once to write


@pytest.mark.parametrize("name", ["1", "Row"])
def test_tags_and_numbers_of_a_workbook_stay(name, rewrite):
    data = io.BytesIO()
    sheet = (
        '<?xml version="1.0"?><row r="1"><c r="A1"><v>1</v></c><c><v>by {}</v></c><t>{}</t></row>'
    )
    with rewriting.zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/worksheets/sheet1.xml", sheet.format(name, name))
    texts = Substitution(name, "X", [], is_word=False)
    result, plain = rewrite(rewriting.rewrite_workbook, data.getvalue(), texts.in_prose)
    with rewriting.zipfile.ZipFile(io.BytesIO(result)) as file:
        assert file.read("xl/worksheets/sheet1.xml").decode() == sheet.format("X", "X")
    assert plain == ["1by XX", "1.0", "1", "A1"]


def test_a_name_is_found_in_addresses_and_in_python():
    texts = Substitution('O\'Neil "A" & Sönne', "X", [], is_word=False)
    for each in (quote(texts.name), quote_plus(texts.name), repr(texts.name), ascii(texts.name)):
        assert texts.in_message(f"/clients/{each}?a=1").strip("/clients?a=1'") == "X"


def test_values_of_a_record_change_with_the_key_they_stand_under():
    record = {"client": "Ann", "gone": [{"client": "Ann", "why": "left"}], "Ann": 1, "n": 2.0}
    texts = Substitution("Ann", "X", [], is_word=True)
    new = rewriting.change_values(
        record, lambda key, text: texts.cell(text) if key == "client" else texts.in_message(text)
    )
    assert new == {"client": "X", "gone": [{"client": "X", "why": "left"}], "Ann": 1, "n": 2.0}
    assert files.encode(record).count(b"Ann") == 3
