"""The numbers of saved entries in an address."""

from types import SimpleNamespace

from attrition.pages import confirmation


def test_entries_saved_together_are_a_range_of_numbers():
    entries = [SimpleNamespace(id=number) for number in (7, 8, 9)]
    assert confirmation.numbers_text(entries) == "7-9"
    assert confirmation.numbers_text(entries[:1]) == "7"
