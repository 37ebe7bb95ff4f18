"""Names that were forgotten, recognised by keyed hashes in what a source delivers."""

import pyarrow as pa
import pytest

from attrition.data.schema import Refusal, ValidatedRows
from attrition.errors import Damaged
from attrition.rows import forgotten
from attrition.rows.forgotten import Forgotten
from attrition.storage import files

KEY, OTHER = "11" * 32, "22" * 32


@pytest.fixture
def hidden():
    return Forgotten(KEY).add("Ann", "forgotten-1")


def test_a_name_is_recognised_only_with_the_key(hidden):
    assert hidden.find("Ann") == "forgotten-1"
    assert Forgotten(OTHER, hidden.tokens).find("Ann") is None
    assert "Ann" not in str(hidden)


def test_names_get_tokens_and_all_others_stay(hidden):
    names = pa.array(["Bob", "Ann", "ann", "Ann"])
    assert hidden.replace(names).to_pylist() == ["Bob", "forgotten-1", "ann", "forgotten-1"]
    assert hidden.replace(pa.array(["Bob"])).to_pylist() == ["Bob"]
    assert Forgotten().replace(names) is names


def test_cells_as_delivered_and_refused_lines_get_tokens(hidden):
    rows = ValidatedRows(
        columns={"client": pa.array(["Ann", "Bob"]), "x": pa.array(["1", "2"])},
        lines=[1, 2],
        delivered=[pa.array(["1", "2"]), pa.array([" Ann", "Bob"])],
        refused=[Refusal(3, "X", "client is 'Ann'", 'x,"Ann"'), Refusal(4, "X", "y", "1,Bob")],
    )
    result = hidden.replace_in(rows, "client")
    assert result.columns["client"].to_pylist() == ["forgotten-1", "Bob"]
    assert [each.to_pylist() for each in result.delivered] == [["1", "2"], ["forgotten-1", "Bob"]]
    assert result.refused[0][2:] == ("client is 'forgotten-1'", "x,forgotten-1")
    assert result.refused[1] == rows.refused[1]


def test_a_damaged_record_is_an_error(empty_project):
    config = empty_project
    assert forgotten.read(config) == Forgotten()
    files.write_bytes(config.forgotten, b"{}")
    with pytest.raises(Damaged, match="restore a backup of it"):
        forgotten.read(config)
