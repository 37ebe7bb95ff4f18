import math

import pytest

from attrition import wording

NO_NUMBERS = (None, "", "x", math.nan, math.inf, {}, {"value": None, "low": 1, "high": 2}, [])
SAY = (wording.count, wording.amount, wording.percent, wording.decimal, wording.seconds)


@pytest.mark.parametrize("nothing", NO_NUMBERS)
def test_what_is_no_number_is_said_to_be_unknown(nothing):
    assert not wording.is_known(nothing)
    assert {say(nothing) for say in SAY} == {wording.UNKNOWN}
    assert wording.statistic(nothing) == wording.probability(nothing) == wording.DASH


def test_number_with_its_interval_is_its_value():
    area = {"value": 0.8123, "low": 0.79, "high": 0.834}
    assert [say(area) for say in (wording.percent, wording.decimal)] == ["81\xa0%", "0.812"]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (0.994, "99.4 %"),
        (math.nan, "unknown"),
    ],
)
def test_percent_has_no_false_precision(share, said):
    assert wording.percent(share).replace("\xa0", " ") == said


@pytest.mark.parametrize(
    ("value", "said", "short"),
    [
        (0, "0", "0"),
        (-2_500_000, "-2.5 million", "-2.5 M"),
        (999_600, "1 million", "1 M"),
        (999_400, "999,000", "999,000"),
        (2.5e12, "2,500 billion", "2,500 bn"),
    ],
)
def test_amount_has_three_digits_in_words_or_in_short(value, said, short):
    assert wording.amount(value) == said
    assert wording.amount(value, short=True).replace("\xa0", " ") == short


def test_interval_without_an_end_is_not_said():
    assert wording.with_interval({"value": 5, "low": None, "high": 9}, wording.count) == "5"


@pytest.mark.parametrize(
    ("elapsed", "said"), [(59.4, "59.4 s"), (59.9, "1 min 0 s"), (0, "< 0.1 s")]
)
def test_seconds_never_reach_sixty(elapsed, said):
    assert wording.seconds(elapsed) == said


def test_finished_leaves_a_finished_sentence_alone():
    assert wording.finished("Why? Because!") == "Why? Because!"


def test_share_listed_is_of_the_value_where_there_is_one():
    listed = {"value_at_risk": 25.0, "expected_to_leave": 9.0}
    everyone = {"value_at_risk": {"value": 100.0}, "expected_to_leave": {"value": 10.0}}
    assert wording.share_listed({"list": listed} | everyone) == "25\xa0% of the value at risk"
    nobody = {"value_at_risk": None, "expected_to_leave": {"value": 0.0}}
    assert wording.share_listed({"list": listed} | nobody) == ""


def test_list_without_a_value_has_a_share_of_those_expected_to_leave():
    leaving = {"value": 10.0, "low": 8.0, "high": 12.0}
    listed = {"clients": 20, "value_at_risk": 25.0, "expected_to_leave": leaving}
    everyone = {"value_at_risk": {"value": 100.0}, "expected_to_leave": {"value": 40.0}}
    told = wording.contact_list({"list": listed} | everyone, "EUR")
    assert told.endswith("at risk. That is 25\xa0% of the value at risk of all clients.")
    no_value = {"value_at_risk": None}
    told = wording.contact_list({"list": listed | no_value} | everyone | no_value, "EUR")
    assert told.endswith("leave. The list contains 25\xa0% of those expected to leave.")


def test_levels_of_an_empty_column_are_a_dash():
    assert wording.categories({"count": 0, "levels": []}, 4) == wording.DASH
