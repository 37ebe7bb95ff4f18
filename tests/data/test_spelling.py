"""One column of boolean words is one pair of levels, whatever words its sources use."""

import json

import pytest

import scoring
from attrition.config import MISSING_MARKERS, Columns, Numeric
from attrition.data.api_records import check_records
from attrition.data.spelling import Spelling
from attrition.rows import ledger
from attrition.storage import files
from ingestion import ingest_new_data
from tests.conftest import write_config
from tests.earlier import become_earlier
from tests.support import final_rows, put
from tests.support import ledger as account_of

COLUMNS = {"client": "id", "outcome": "left", "numeric": ["x"], "categorical": ["partner"]}


def deliver(config, name, *levels):
    rows = [f"{name}{i},{i},{level},0" for i, level in enumerate(levels)]
    put(config, f"{name}.csv", "\n".join(["id,x,partner,left", *rows]) + "\n")
    ingest_new_data(config)
    return account_of(config)[-1]["reason"]


def levels_of(config, name):
    return [row[2] for row in final_rows(config) if row[0].startswith(name)]


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, columns=COLUMNS)


@pytest.mark.parametrize(
    "words",
    [
        *(("true", "false"), ("True", "False"), ("t", "f"), ("1", "0"), ("ja", "nein"), ("J", "N")),
        *(("YES", "NO"), ("wahr", "falsch"), ("oui", "non"), ("1.0", "0.0"), ("S\u00ed", "No")),
    ],
)
def test_later_source_is_read_in_the_spelling_of_the_first(config, words):
    assert deliver(config, "a", "Yes", "No", "") == ""
    assert deliver(config, "b", *words, "NULL", words[0]) == "BOOLEAN"
    assert levels_of(config, "b") == ["Yes", "No", "", "Yes"]
    assert files.read_record(config.ingestion_record)["booleans"] == {"partner": ["Yes", "No"]}


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (("Yes", "No", "No phone service"), ("true", "false")),
        (("Yes", "No"), ("1", "0", "2")),
        (("Gold", "Silver"), ("t", "f")),
        (("Y", "N", "T", "F"), ("1", "0")),
    ],
)
def test_column_with_a_third_level_is_kept_as_it_is(config, first, later):
    deliver(config, "a", *first)
    assert deliver(config, "b", *later) == ""
    assert levels_of(config, "a") == [*first]
    assert levels_of(config, "b") == [*later]


def test_two_spellings_in_one_source_are_one(config):
    assert deliver(config, "a", "ja", "nein", "Ja", "ja", "true") == "BOOLEAN"
    assert levels_of(config, "a") == ["ja", "nein", "ja", "ja", "ja"]


def test_counterpart_of_a_single_level_is_known(config):
    deliver(config, "a", "NO", "NO")
    deliver(config, "b", "true", "false")
    assert levels_of(config, "b") == ["YES", "NO"]


def test_row_delivered_again_with_other_words_is_a_duplicate(config):
    deliver(config, "a", "Yes", "No")
    put(config, "b.csv", "id,x,partner,left\na0,0,t,0\na1,1,f,0\n")
    assert ingest_new_data(config).rows == 2


@pytest.mark.parametrize(
    ("levels", "words"),
    [(("Yes", "No"), ["Yes", "No"]), (("Yes", "No", "true"), []), (("Gold",), [])],
)
def test_rows_of_an_earlier_version_decide_and_are_never_new_again(config, levels, words):
    deliver(config, "a", *levels)
    assert read_earlier(config, ("a2,2,Yes", "a2,2,true")).spelling.booleans == {"partner": words}


def read_earlier(config, *changes):
    """Change the rows as if an earlier version had ingested them, and read the ledger."""
    become_earlier(config, without=[config.rows.name, config.deliveries.name])
    text = config.final_data.read_text()
    for old, new in changes:
        text = text.replace(old, new)
    config.final_data.write_text(text)
    record = files.read_record(config.ingestion_record)
    for name in ("booleans", "kept", "name_variants", "seal"):
        del record[name]
    record["outputs"][config.final_data.name] = files.sha256_file(config.final_data)
    config.ingestion_record.write_bytes(files.encode(files.sealed(record)))
    return ledger.read(config)


def test_text_that_an_earlier_version_accepted_is_kept(config):
    """`none` was a level, and a name had a blank that is no plain space: the same rows are no news."""
    deliver(config, "a", "cash", "gold", "none")
    changes = [("a0,0,cash", "a\u00a00,0,NULL"), ("a1,1,gold", "a1,1,n/a")]
    account = read_earlier(config, *changes)
    assert account.spelling.kept == {"id": ["a\u00a00"], "partner": ["NULL", "n/a"]}
    put(config, "b.csv", "id,x,partner,left\na\u00a00,0,NULL,0\na1,1,n/a ,0\nb,1,nil,0\n")
    result = ingest_new_data(config)
    assert (result.lines[-1].accepted, result.lines[-1].duplicates, result.rows) == (1, 2, 4)
    assert files.read_record(config.ingestion_record)["kept"]["partner"] == ["NULL", "n/a"]
    assert ingest_new_data(config).up_to_date


def test_test_data_are_read_in_the_spelling_of_the_rows(config):
    deliver(config, "a", "Yes", "No")
    (config.test_folder / "t.csv").write_text("id,x,partner,left\nt0,1,true,0\nt1,2,f,1\n")
    warnings = []
    rows = scoring.read_test_data(config, warnings)
    assert (rows["partner"].tolist(), warnings) == (["Yes", "No"], [])


@pytest.mark.parametrize(
    ("value", "level"),
    [(True, "Yes"), (False, "No"), ("t", "Yes"), ("nein", "No"), ("both", "both")],
)
def test_record_of_the_api_is_read_in_the_spelling_of_the_rows(value, level):
    columns = Columns(
        client="id", outcome="left", numeric=(Numeric("x"),), categorical=("partner",)
    )
    record = json.loads(json.dumps({"x": 1, "partner": value}))
    rows = check_records(columns, [record], (), Spelling({"partner": ["Yes", "No"]}))
    assert rows.columns["partner"] == [level]


def test_markers_are_no_boolean_words():
    assert not {"t", "f", "1", "0", "yes", "no"} & {each.lower() for each in MISSING_MARKERS}
