"""What the pages share."""

import pytest

from attrition.pages import frame


@pytest.mark.parametrize("name", ["..", "a/../b", "./x"])
def test_name_that_a_browser_would_shorten_is_a_parameter(odd_client, name):
    with odd_client.application.test_request_context():
        address = frame.client_url(name)
    assert address.startswith("/client?client=")
    assert frame.local_time("2026-11-28", None) == "28 November 2026"
