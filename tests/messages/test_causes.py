"""The complaints that follow from records."""

import pytest

from attrition.config import Columns
from attrition.messages import causes
from attrition.messages.causes import Records

COLUMNS = Columns()
TRAINING = {"kind": "logistic regression", "features": {"numeric": [], "categorical": []}}
DEGRADED = {"release": "r1", "performance": {"verdict": "degraded"}}
SOURCES = [
    {"source": f"{i}.zip", "code": "PACKED", "reason": "Acme,1", "advice": "unpack it"}
    for i in range(7)
]


def codes(**records):
    return [one.code for one in causes.judge(Records(**records), COLUMNS)]


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ({"damage": ["the file a.json is damaged"]}, "damaged"),
        (
            {"training": TRAINING | {"features": {"numeric": ["x"], "categorical": []}}},
            "other_columns",
        ),
        ({"release": "r1", "training": TRAINING, "monitoring": DEGRADED}, "model"),
        ({"diagnostics": {"timings": {"doubled": ["training takes twice the time"]}}}, "cost"),
        ({"assessment": {"experiment": {"state": "no_key"}}}, "experiment"),
        ({"worked": {"outcome": "died"}}, "run"),
        ({"last_run": {"unavailable": ["crm: no route to host"]}}, "unavailable"),
        ({"last_run": {"unwritten": ["write_back: no route to host"]}}, "write_back"),
        ({"ingestion": {"unused": SOURCES[:1]}}, "unused"),
    ],
)
def test_record_with_a_problem_is_one_complaint_with_an_action(records, code):
    assert codes(**records) == [code]
    assert causes.ACTIONS[code].endswith(".")


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"release": "r2", "training": TRAINING, "monitoring": DEGRADED},
        {"monitoring": DEGRADED},
        {"assessment": {"experiment": {"state": "running"}}},
        {"worked": {"outcome": "done"}, "last_run": {"unavailable": []}},
        {"diagnostics": {"timings": {}}, "ingestion": {"unused": []}},
        {"assessment": {"experiment": None}},
        {"assessment": {"experiment": {"state": "off"}}},
    ],
)
def test_records_without_a_problem_are_no_complaint(records):
    assert codes(**records) == []


def test_unused_sources_are_told_apart_counted_beyond_five_and_quote_no_row():
    complaints = causes.judge_unused(SOURCES)
    assert [one.subject for one in complaints] == [f"{i}.zip" for i in range(5)] + [""]
    assert complaints[-1].sentence.startswith("2 more sources")
    assert "Acme" not in "".join(one.sentence for one in complaints)


def test_unavailable_sources_are_counted_and_not_quoted():
    (complaint,) = causes.judge(Records(last_run={"unavailable": ["x: secret", "y: z"]}), COLUMNS)
    assert complaint.sentence == "2 sources could not be read in the last run; see its log"
