import csv
import json
import re

import pytest

from attrition.operations import releases
from attrition.reporting import model_card
from attrition.storage import files
from tests.support import metrics

HOSTILE = (
    "a|b",
    "line\nbreak\r\n# Heading",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://127.0.0.1:9/x.png)",
    "`code` *bold* _slanted_ $x$",
    "\u202eevil \ud800",
    "http://127.0.0.1:9 www.example.com a@b.c",
)


@pytest.fixture(scope="module")
def made(finished_folder):
    """The records of a whole run, and the card that was made from them."""
    folder = finished_folder / "production_deployment" / "current"
    training, score, decision = (
        files.read_record(folder / name)
        for name in (releases.TRAINING, releases.SCORE, releases.DECISION)
    )
    with (folder / "ingestedfiles.txt").open(newline="") as file:
        sources = list(csv.DictReader(file))
    return training, score, decision, sources, (folder / releases.CARD).read_text()


@pytest.fixture
def records(made):
    """Records to change."""
    return json.loads(json.dumps(made[:4]))


def rows_under(text, title):
    """The cells of each row of the table in a section, the header and the rule aside."""
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines[2:]]


def test_the_same_records_give_the_same_card(made):
    *records, text = made
    assert model_card.write(*records) == text


def test_a_card_tells_what_a_reviewer_asks(made):
    training, score, *_, text = made
    assert "does not estimate uplift" in text
    assert "Not validated in time" in text
    assert f"{training['rows']} rows of {training['clients']} clients" in text
    assert "First model deployed (none was in production)." in text
    assert f"sha256 of the model: {training['model_sha256']}" in text
    assert f"against {training['reference_rows']} rows" in text
    for name, version in training["versions"].items():
        assert f"{name} {version}" in text
    assert len(rows_under(text, "Model selection")) == len(training["candidates"])
    assert sorted(row[3] for row in rows_under(text, "Data")) == ["200", "600"]
    calibration = rows_under(text, "Calibration")
    assert [int(row[3]) for row in calibration] == [
        group["rows"] for group in score["curves"]["calibration"]
    ]


def test_a_card_tells_how_much_harder_the_future_was(records):
    records[0]["temporal"] = {"validated": True, "trained_until": "2025-08", "cut": "2025-10"} | {
        "rows": 900,
        "roc_auc": {"value": 0.8, "low": 0.77, "high": 0.83},
        "random_roc_auc": {"value": 0.83, "low": 0.8, "high": 0.86},
        "difference": {"interval": {"value": 0.03, "low": 0.01, "high": 0.05}, "p_value": 0.002},
    }
    text = " ".join(model_card.write(*records).split())
    assert (
        "only on rows until 2025-08, it reaches ROC AUC 0.800 on the 900 rows since 2025-10" in text
    )
    assert "(random minus temporal: +0.030 (+0.010 to +0.050))" in text


def test_columns_are_told_with_share_and_range_the_most_used_first(made):
    training, text = made[0], made[-1]
    rows = rows_under(text, "Feature importance")
    share = training["importance"]
    assert [row[0] for row in rows] == sorted(share, key=share.get, reverse=True)
    low, high = training["ranges"][rows[0][0]]
    assert rows[0][2] == f"{low:g} to {high:g}"


def test_the_champion_stands_beside_the_candidate_on_the_same_rows(records):
    training, score, *others = records
    found = {"rows": 500, "left": 90, "candidate": metrics(), "champion": metrics(-0.1)}
    text = model_card.write(training, score | {"sets": {"test": found}}, *others)
    auc = rows_under(text, "Scores on rows not used for training")[1]
    assert "| test data | test data, previous model |" in text
    assert [cell[:4] for cell in auc[1:]] == ["0.81", "0.71"]


def test_of_many_columns_and_sources_the_first_are_shown_and_the_rest_told(records):
    training, score, decision, sources = records
    names = [f"c{i:02d}" for i in range(20)]
    training["features"] = {"numeric": names, "categorical": []}
    training["importance"] = {name: (20 - i) / 210 for i, name in enumerate(names)}
    training["ranges"], training["baseline"] = {}, dict.fromkeys(names, 1.0)
    text = model_card.write(training, score, decision, sources[:1] * 25)
    assert len(rows_under(text, "Feature importance")) == 15
    assert "Other columns, each with a smaller share: c15, c16, c17, c18, c19." in text
    assert len(rows_under(text, "Data")) == 10
    assert "and 15 earlier" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(records, name):
    training, score, decision, sources = records
    training["features"] = {"numeric": [name], "categorical": []}
    training["importance"], training["ranges"] = {name: 1.0}, {name: [0.0, 1.0]}
    training["baseline"] = {name: name}
    training["dropped"], training["warnings"] = {name: name}, [name, f"{name} is left out"]
    sources = [sources[0] | {"source": name}]
    text = model_card.write(training, score, decision | {"reason": name}, sources)
    text.encode()
    titles = [line for line in text.splitlines() if line.lstrip("- ").startswith("#")]
    assert len(titles) == 10
    assert [len(row) for row in rows_under(text, "Feature importance")] == [5]
    assert [len(row) for row in rows_under(text, "Data")] == [7]
    bare = re.sub(r"\\[^a-z\s]", "", text)  # without what is escaped
    assert not set(bare) & set("[]<>`*$@!~&\\\u202e")
    assert "://" not in bare
    assert "www." not in bare
    assert " _" not in bare


def test_a_model_that_was_scored_on_nothing_says_so(records):
    training, score, *others = records
    score |= {"sets": {"test": None, "unseen": None, "recent": None}, "curves": None}
    text = model_card.write(training, score, *others)
    assert "It was not scored, because no outcome was available." in text
    assert "There were no outcomes to compare the risks with." in text


def test_warnings_of_training_and_of_scoring_are_told(records):
    training, score, *others = records
    text = model_card.write(
        training | {"warnings": ["few rows"]}, score | {"warnings": ["old"]}, *others
    )
    assert "- Few rows.\n- Old.\n" in text


def test_a_card_shows_the_learning_curve_of_a_sample(records):
    points = [
        {"size": 25_000, "rows": 16_000, "log_loss": 0.31, "gain": None, "standard_error": None},
        {"size": 50_000, "rows": 32_000, "log_loss": 0.3, "gain": 0.01, "standard_error": 0.002},
    ]
    sample = {"rows": 50_025, "left": 9000, "is_enough": True, "chosen": 50_000, "points": points}
    records[0]["sample"] = sample
    text = model_card.write(*records)
    assert "fitted on 50,025 of these rows, with 9,000 leavers" in text
    assert "| 50,000 | 32,000 | 0.3000 | 0.0100 ± 0.0020 | chosen |" in text
    assert "Learning curve" not in model_card.write(records[0] | {"sample": None}, *records[1:])
