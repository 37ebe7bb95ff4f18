import math
import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attrition.config import Columns, Label
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
        (Caution("base_rate"), "the model is a base rate: all clients have the same risk"),
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


def test_what_a_row_lacks_is_none_for_the_api():
    answer = fields.to_dict(ROW | {"due": "2027-01-31"}, {})
    assert (answer["due"], answer["phone"], answer["block"], answer["low_confidence"]) == (
        *("2027-01-31", None, None),
        ["trained on few clients"],
    )


@pytest.mark.parametrize(
    ("columns", "values", "names"),
    [
        (Columns(), {}, []),
        (Columns(), {"due": "", "phone": ["", ""], "last_contact": None}, []),
        (Columns(due="ends", phone="tel"), {"due": "", "phone": "", "email": ""}, ["due", "phone"]),
        (Columns(), {"email": ["", "a@b.c"], "follow_up": [None, "x"]}, ["email", "follow_up"]),
    ],
)  # fmt: skip
def test_csv_file_has_an_optional_field_if_its_column_is_named_or_anybody_has_a_value(
    columns, values, names
):
    listed = pd.DataFrame({"client": ["a", "b"]} | values)
    optional = [name for name in fields.CONTACT_LIST if fields.FIELDS[name].is_optional]
    table = fields.csv_table(listed, ("client", *optional), {}, columns)
    assert list(table.columns) == ["client", *names]
    assert not table.isna().any(axis=None)


def test_table_of_no_clients_has_its_header():
    empty = pd.DataFrame([ROW]).iloc[:0]
    assert list(fields.csv_table(empty, ("risk", "reasons"), {}).columns) == ["risk", "reasons"]


@pytest.mark.parametrize("output", ["RISK_SCORES", "CONTACT_LIST", "API"])
def test_every_output_has_declared_fields_only(output):
    assert set(getattr(fields, output)) <= set(fields.FIELDS)


MOVED = {"rank": 2, "previous_rank": 9, "risk_change": 0.0412, "changes": []}
TICKETS = Reason("tickets", 5.0, 1.0, 0.8)
ORDERS = Reason("orders", None, 20.0, 0.3)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (MOVED, "up from 9, risk +4.1 points: the model changed"),
        (
            MOVED | {"rank": 10, "changes": [TICKETS, ORDERS, PLAN]},
            "down from 9, risk +4.1 points: tickets 1 → 5, orders 20 → not known",
        ),
        (
            MOVED | {"rank": 9, "risk_change": -0.0412, "changes": [TICKETS]},
            "risk −4.1 points: tickets 1 → 5",
        ),
        (MOVED | {"risk_change": 0.0004}, "up from 9"),
        (MOVED | {"rank": 9, "risk_change": 0.0}, "as before"),
        (MOVED | {"previous_rank": None, "risk_change": None}, "new"),
    ],
)
def test_change_names_rank_risk_and_the_features_that_changed_it(row, text):
    assert fields.moved_texts(row, {})[0] == text


def test_contact_list_has_the_reasons_that_tell_apart_and_then_what_changed():
    row = {
        name: "" if fields.FIELDS[name].kind.digits is None else 0.123456
        for name in fields.CONTACT_LIST
    }
    row |= {"cautions": []}
    rows = [
        row | {"reasons": [PLAN], "list_reasons": [TICKETS], "changes": [TICKETS]},
        row | {"reasons": [PLAN], "list_reasons": [TICKETS], "changes": []},
        row | {"reasons": [PLAN], "list_reasons": [], "changes": [TICKETS]},
    ]
    labels = {"tickets": Label("tickets", "complaints", "open")}
    table = fields.contact_list(pd.DataFrame(rows), labels)
    assert table["reasons"].tolist() == [
        "complaints: 5 open (baseline: 1); since the last list: complaints 1 → 5",
        "complaints: 5 open (baseline: 1)",
        "since the last list: complaints 1 → 5",
    ]
    figures = table.loc[0, ["risk", "value_at_risk", "risk_change"]].tolist()
    assert figures == [0.1235, 0.12, 0.1235]


# ---- formulas

FORMULAS = (
    *("=1", "+1", "-1", "@a", "\tx", "\rx", "\nx", " =1", "＝1", "＋1", "－1", "＠a"),
    *(
        "\ufeff=1",
        "\u200b=1",
        "\u00a0+1",
        "\u3000@a",
        "'=1",
        "''-1",
        "' =1",
        "a;=1",
        "a; =1",
        "a;\tb",
        ";=1;-1",
    ),
)


@pytest.mark.parametrize("cell", FORMULAS)
def test_cell_that_a_spreadsheet_would_evaluate_gets_an_apostrophe(cell):
    escaped = fields.escape_formula(cell)
    for part in (escaped, *escaped.split(";")):  # some spreadsheets separate cells by semicolons
        assert part.strip("\u200b\ufeff \u00a0\u3000")[:1] not in tuple("=+-@＝＋－＠\t\r\n")
    assert fields.restore_formula(escaped) == cell


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "Miller & Sons",
        "A = B",
        "a-b",
        "month-to-month",
        "3 (-4)",
        "'s Hertogenbosch",
        ";",
        "a; b",
    ],
)
def test_other_text_stays_as_it_is(cell):
    assert fields.escape_formula(cell) == cell == fields.restore_formula(cell)


def test_levels_and_columns_that_look_like_formulas_are_escaped_in_reasons():
    reasons = [Reason("=plan", "a", "b", 1.0), Reason("plan", "x;=1", "b", 1.0)]
    row = {"client": "=c", "manager": "+m", "risk": -0.5, "reasons": reasons}
    (row,) = fields.csv_table(pd.DataFrame([row]), tuple(row), {}).to_dict("records")
    assert (row["client"], row["manager"], row["risk"]) == ("'=c", "'+m", -0.5)
    assert row["reasons"] == "'=plan: a (baseline: b); plan: x;'=1 (baseline: b)"


def test_telephone_and_e_mail_are_escaped_as_all_text():
    row = {"due": "2027-01-31", "phone": "+49 30 1", "email": "@x.org", "last_contact_by": "=a"}
    (escaped,) = fields.csv_table(pd.DataFrame([row]), tuple(row), {}).to_dict("records")
    assert [*escaped.values()] == ["2027-01-31", "'+49 30 1", "'@x.org", "'=a"]


# ---- links to an e-mail address and a telephone number


@pytest.mark.parametrize(
    ("email", "link"),
    [
        (" Ann.O'Neil@mail.example.org ", "mailto:Ann.O%27Neil@mail.example.org"),
        ("info@b\u00fcro.de", "mailto:info@b%C3%BCro.de"),
        ("a&b=c#d@example.org", "mailto:a%26b%3Dc%23d@example.org"),
        *(
            (text, "")
            for text in ("", None, "ann", "a@b", "a@b@c.org", "a b@c.org", "Ann <a@b.org>")
        ),
        *((text, "") for text in ("a@b.org; c@d.org", "javascript:alert(1)@b.org", "a@b..org")),
    ],
)
def test_link_to_an_e_mail_address(email, link):
    assert fields.mailto(email) == link


@pytest.mark.parametrize(
    ("phone", "link"),
    [
        ("+49 30 1234567", "tel:+49301234567"),
        ("(+49) (0)30 1234567", "tel:+49301234567"),
        ("0049 (0)30 1234567", "tel:0049301234567"),
        ("(0)30 1234567", "tel:0301234567"),
        ("030.123.45.67", "tel:0301234567"),
        ("+33\u00a01\u201123", "tel:+33123"),
        ("4930123456", "tel:4930123456"),
        ("110", "tel:110"),
        *((text, "") for text in ("", None, "12", "Ann 123", "123 x4", "1+23456", "++4930123456")),
        *((text, "") for text in ("4930123456.0", "030 1234567 / 030 7654321", "tel:123456")),
        *((text, "") for text in ("\u0661\u0662\u0663\u0664", "123;ext=4", "123,4", "(((", "-")),
    ],
)
def test_link_to_a_telephone_number(phone, link):
    assert fields.tel(phone) == link


HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="0123456789+()-/. \u00a0\u2013;:,#*x"),
    st.text(alphabet="ab@.%?&=:/#'\"<> \n\r\t\u202ejavscript"),
    st.builds("{}@{}.org".format, st.text(max_size=8), st.text(max_size=8)),
)


@given(HOSTILE)
@example("javascript:alert(1)")
@example("a@b.org\n")
@example("a@b.org?cc=x@y.org&body=1")
@example('"><script>@b.org')
@example("data:text/html,<script>")
def test_link_is_an_address_or_a_number_or_empty(text):
    link = r"(mailto:([\w.!$*+~-]|%[0-9A-F]{2}){1,200}@([\w.-]|%[0-9A-F]{2})+)?"
    assert re.fullmatch(link, fields.mailto(text), re.ASCII)
    assert re.fullmatch(r"(tel:\+?[0-9]{3,17})?", fields.tel(text))
