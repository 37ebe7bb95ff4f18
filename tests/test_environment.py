"""Secrets of settings, taken from the environment."""

import pytest

from attrition.environment import NotSet, read_variables, resolve


def test_each_variable_is_replaced(monkeypatch):
    monkeypatch.setenv("HOST", "example.com")
    monkeypatch.setenv("HOOK", "${HOST}")
    assert resolve("https://${HOST}/${HOOK}?a=$b") == "https://example.com/${HOST}?a=$b"


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_variable_without_a_value_is_not_set(monkeypatch, value):
    monkeypatch.delenv("HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK", value)
    with pytest.raises(NotSet, match="environment variable HOOK is not set"):
        resolve("${HOOK}")


def test_value_of_a_variable_may_be_empty_but_not_missing(monkeypatch):
    monkeypatch.setenv("PASSWORD", "")
    assert read_variables("a:${PASSWORD}@b") == {"PASSWORD": ""}
    monkeypatch.delenv("USER_NAME", raising=False)
    with pytest.raises(NotSet, match="environment variable USER_NAME is not set"):
        read_variables("${USER_NAME}:${PASSWORD}@b")
