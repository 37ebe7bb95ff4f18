"""Each line is printed once a day, and a failure of the same inputs is remembered for a day."""

import logging

import pytest

from attrition.operations import notices
from attrition.storage import files


def record(text):
    return logging.LogRecord("x", logging.WARNING, "", 0, "%s", (text,), None)


def test_a_new_one_is_mailed_at_once_and_a_known_one_is_not(empty_project, capsys):
    once = notices.OncePerDay(empty_project.notices)
    assert [once.filter(record(text)) for text in ("a", "b", "a")] == [True, True, False]
    later = notices.OncePerDay(empty_project.notices)
    assert [later.filter(record(text)) for text in ("a", "c")] == [False, True]
    later.forget_others()  # b is gone
    assert notices.OncePerDay(empty_project.notices).filter(record("b"))


def test_a_known_failure_is_tried_again_on_another_day_and_with_other_inputs(empty_project):
    path = empty_project.notices
    notices.keep_failure(path, {"a": "1"}, "no rows")
    assert notices.find_failure(path, {"a": "1"}) == "no rows"
    assert notices.find_failure(path, {"a": "2"}) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "utc_now", lambda: "2126-01-01T00:00:00Z")
        assert notices.find_failure(path, {"a": "1"}) is None
