"""The contract of an entry: which fields of which values are valid."""

import pytest

from attrition.entering.validation import read_entry

CALL = {"kind": "contact", "by": "Ann", "outcome": "reached", "note": "called"}
TODAY = "2026-11-28"


def problems_of(form):
    problems = {}
    read_entry(form, TODAY, [], 1, problems)
    return problems


VALID = [
    {**CALL, "outcome": "will_stay", "date": TODAY},
    {**CALL, "note": "", "date": "2031-11-01"},
    {"kind": "not_before", "by": "Ann", "date": "2026-11-29", "note": "on holiday"},
    {"kind": "override", "by": "Ann", "outcome": "stays", "note": "signed", "date": "2027-02-26"},
    {"kind": "reassignment", "by": "Ann", "manager": "Bob", "date": TODAY},
    {**CALL, "note": "x" * 2_000, "by": "y" * 200, "date": None},
]


@pytest.mark.parametrize("form", VALID)
def test_a_valid_form_has_no_problem(form):
    assert problems_of(form) == {}


INVALID = [
    ({}, {"kind", "by"}),
    ({"kind": "contact"}, {"by", "outcome"}),
    ({**CALL, "kind": "visit"}, {"kind"}),
    ({**CALL, "by": " "}, {"by"}),
    ({**CALL, "by": "y" * 201}, {"by"}),
    ({**CALL, "by": "Ann\nBob"}, {"by"}),
    ({**CALL, "note": "x" * 2_001}, {"note"}),
    ({**CALL, "note": "bell \a"}, {"note"}),
    ({**CALL, "note": "half \ud800"}, {"note"}),
    ({**CALL, "note": 7}, {"note"}),
    ({**CALL, "outcome": "stays"}, {"outcome"}),
    ({**CALL, "date": "2026-11-27"}, {"date"}),
    ({**CALL, "date": "2031-12-31"}, {"date"}),
    ({**CALL, "date": "2026-02-30"}, {"date"}),
    ({**CALL, "date": "20261201"}, {"date"}),
    ({**CALL, "date": "tomorrow"}, {"date"}),
    ({**CALL, "outcome": "do_not_contact", "date": "2026-12-01"}, {"date"}),
    ({"kind": "not_before", "by": "Ann", "date": TODAY}, {"date", "note"}),
    ({"kind": "not_before", "by": "Ann", "note": "why"}, {"date"}),
    ({"kind": "override", "by": "Ann", "outcome": "reached"}, {"outcome", "note"}),
    (
        {"kind": "override", "by": "A", "outcome": "stays", "note": "x", "date": "2027-02-27"},
        {"date"},
    ),
    ({"kind": "reassignment", "by": "Ann", "date": "2026-11-27"}, {"manager", "date"}),
    ({"kind": "reassignment", "by": "Ann", "manager": "Bob"}, {"date"}),
    ({"kind": "withdrawal", "by": "Ann"}, {"replaces"}),
    ({**CALL, "replaces": "one"}, {"replaces"}),
    ({**CALL, "replaces": True}, {"replaces"}),
    ({**CALL, "replaces": 5}, {"replaces"}),
    ({**CALL, "key": "k" * 201}, {"key"}),
]


@pytest.mark.parametrize(("form", "fields"), INVALID)
def test_all_faults_of_a_form_are_named_at_once(form, fields):
    problems = problems_of(form)
    assert set(problems) == fields
    assert all(problems.values())
