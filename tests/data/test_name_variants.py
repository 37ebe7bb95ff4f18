"""Clients whose names differ only in how they are written are counted and described once."""

import logging

import pyarrow as pa
import pytest

from attrition.data.name_variants import fold_names
from attrition.storage import files
from ingestion import ingest_new_data
from tests.conftest import write_config
from tests.support import final_rows, put

HEADER = "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def deliver(config, caplog):
    """Ingest a file with a row for each name, and return the warnings."""

    def ingest(file, *names):
        rows = [f"{name},{i},2,3,0" for i, name in enumerate(names)]
        put(config, file, "\n".join([HEADER, *rows]) + "\n")
        caplog.clear()
        ingest_new_data(config)
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    return ingest


def test_name_folds_alike_alone_and_among_others():
    names = ["ACME Ltd", "0", "007", "5.0", "A.B", "a  b", " a", "a ", "Ünï X", "x\ty", "1-0", "~"]
    folded = ["acme ltd", "0", "7", "5", "a.b", "a b", "a", "a", "ünï x", "x y", "1-0", "~"]
    assert fold_names(pa.array(names)).to_pylist() == folded
    assert [fold_names(pa.array([name]))[0].as_py() for name in names] == folded


@pytest.mark.parametrize(
    "pair",
    [
        *(("ACME", "acme"), ("Acme  Ltd", "Acme Ltd"), ("007", "7"), ("12", "12.0")),
        *(
            ("00012.0", "12"),
            ("0001-A", "1-a"),
            ("\u00c4RZTE AG", "\u00e4rzte ag"),
            ("'x  y'", "'X y'"),
        ),
    ],
)
def test_names_that_differ_in_writing_are_described_and_not_merged(config, pair, deliver):
    first, second = sorted(pair)
    note = f"NAMES: 1 group of clients may be one client: {first!r} and {second!r}; they are not merged"
    assert deliver("a.csv", "bolt", *pair) == [note]
    assert len(final_rows(config)) == 3


@pytest.mark.parametrize(
    "pair", [("12", "12.5"), ("70", "7"), ("A 1", "A1"), ("1.0.0", "1"), ("0", "00x")]
)
def test_names_that_differ_in_more_are_clients_of_their_own(pair, deliver):
    assert deliver("a.csv", *pair) == []


def test_group_is_described_once_and_again_if_a_name_joins_it(config, deliver):
    assert "2 groups" in deliver("a.csv", "ACME", "acme", "7", "007")[0]
    assert deliver("b.csv", "acme", "other") == []
    assert "'ACME' and 'Acme' and 'acme'" in deliver("c.csv", "Acme")[0]
    assert files.read_record(config.ingestion_record)["name_variants"] == 2


def test_at_most_three_groups_are_shown(deliver):
    assert deliver("a.csv", *"abcd", *"ABCD") == [
        "NAMES: 4 groups of clients may be one client each: 'A' and 'a', 'B' and 'b', 'C' and 'c', ...; "
        "they are not merged"
    ]


def test_new_client_is_compared_with_those_of_earlier_runs(deliver):
    deliver("a.csv", "acme", '"bolt, inc"')
    assert deliver("b.csv", '"BOLT, Inc"')[0].startswith("NAMES: 1 group")
