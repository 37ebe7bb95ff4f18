"""The page of one client; test_forms.py has what is entered on it."""

from types import SimpleNamespace

from attrition.contacts import log
from attrition.pages import client


def test_replaced_entry_names_who_replaced_it_and_when():
    config = SimpleNamespace(time_zone="UTC")
    entry = log.Entry("a", "contact", "Ann", "reached", replaces=1)._replace(
        at="2026-11-28T09:05:00Z"
    )
    text = client.replacement_text(entry, config)
    assert text == "corrected by Ann, 28 November 2026, 09:05"
    withdrawn = client.replacement_text(entry._replace(kind=log.WITHDRAWAL), config)
    assert withdrawn.startswith("withdrawn by Ann")
    assert client.replacement_text(None, config) == ""
