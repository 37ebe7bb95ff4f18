"""Query parameters: numbers and filters."""

import pytest


@pytest.mark.parametrize("text", ["1_0", "1e1", "x", "", " 5", "0", "1001", "٣", "-1", "+5"])
def test_limit_that_is_no_plain_number_is_refused(odd_client, text):
    answer = odd_client.get("/clients", query_string={"limit": text})
    assert answer.status_code == 422
    assert answer.json["code"] == "invalid_parameter"


@pytest.mark.parametrize("path", ["/clients", "/list.csv"])
def test_an_empty_manager_and_search_are_no_filter(odd_client, path):
    answer = odd_client.get(f"{path}?view=all&manager=&q=")
    assert answer.data.count(b"Ann") == odd_client.get(f"{path}?view=all").data.count(b"Ann") > 0
