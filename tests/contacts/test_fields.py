import math

import pandas as pd
import pytest

from attrition.contacts import fields
from attrition.data.cells import Caution, Reason

PLAN = Reason("plan", "plan A; legacy", "plan B", 0.5)
FEW = Caution("few_clients")
ROW = {"client": "a", "risk": 0.5, "reasons": [PLAN, PLAN], "cautions": [FEW]}


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            Reason("contract_type", "month-to-month", "multi-year", 1.0),
            "contract type: month-to-month (baseline: multi-year)",
        ),
        (Reason("tenure_months", None, 38.0, 1.0), "tenure months: not known (baseline: 38)"),
        (Reason("trade", "", "bank", 1.0), "trade: not known (baseline: bank)"),
        (Reason("activity", 3.0, None, 1.0), "activity: 3 (baseline: not known)"),
        (PLAN, "plan: plan A; legacy (baseline: plan B)"),
    ],
)
def test_reason_names_the_value_and_the_baseline(reason, text):
    assert fields.reason_text(reason, {}) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not known"),
        ("", "not known"),
        (math.nan, "not known"),
        ("Trade", "Trade"),
        (0.1 + 0.2, "0.3"),
        (12.0, "12"),
        (-0.001, "0"),
        (1234567.8, "1,234,568"),
        (-250.0, "-250"),
    ],
)
def test_values_are_shown_as_a_person_writes_them(value, shown):
    assert fields._value_text(value) == shown


@pytest.mark.parametrize(
    ("caution", "text"),
    [
        (Caution("unknown_level", "trade", "space"), "unknown category of trade"),
        (
            Caution("never_missing", "trade"),
            "no value of trade, which was never missing in training",
        ),
        (
            Caution("outside_range", "size", -1.5, 0.5, 300.0),
            "size -1.5 is outside the training range 0.5 to 300",
        ),
        (FEW, "trained on few clients"),
        (Caution("base_rate"), "no usable signal: the base rate"),
    ],
)
def test_caution_is_put_in_words(caution, text):
    assert fields.caution_text(caution, {}) == text


def test_list_is_a_list_of_texts_for_the_api():
    answer = fields.to_dict(ROW, {}, ("client", "reasons", "low_confidence"))
    assert answer == {
        "client": "a",
        "reasons": ["plan: plan A; legacy (baseline: plan B)"] * 2,
        "low_confidence": ["trained on few clients"],
    }


def test_list_is_one_text_in_a_csv_file():
    table = fields.csv_table(pd.DataFrame([ROW]), ("risk", "reasons", "low_confidence"), {})
    (row,) = table.to_dict("records")
    both = "plan: plan A; legacy (baseline: plan B); plan: plan A; legacy (baseline: plan B)"
    assert row == {"risk": 0.5, "reasons": both, "low_confidence": "trained on few clients"}


def test_table_of_no_clients_has_its_header():
    empty = pd.DataFrame([ROW]).iloc[:0]
    assert list(fields.csv_table(empty, ("risk", "reasons"), {}).columns) == ["risk", "reasons"]


@pytest.mark.parametrize("output", ["RISK_SCORES", "CONTACT_LIST", "API", "DASHBOARD", "PDF"])
def test_every_output_has_declared_fields_only(output):
    assert set(getattr(fields, output)) <= set(fields.FIELDS)
