"""The addresses of the pages."""

import pytest


@pytest.mark.parametrize(
    "address", ["/", "/list", "/list.csv", "/client/now651", "/model", "/data"]
)
def test_each_page_answers(odd_client, address):
    assert odd_client.get(address).status_code == 200
