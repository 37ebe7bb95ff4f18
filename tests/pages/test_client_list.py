"""List: views, filters and pages of it."""

import html
import re

import pytest

from attrition.contacts import log
from tests.apps import day_after, enter


def test_view_is_an_address_with_the_same_rows_as_the_list(odd_client, odd_project):
    enter(odd_project, log.Entry("now653", "override", "Ann", "leaves", "so", day_after(80)))
    page = odd_client.get("/list?view=overridden").text
    assert re.findall(r'name="client" value="([^"]*)"', page) == ["now653"]
    assert 'Manager disagrees <span class="count">1</span>' in page
    page = odd_client.get("/list?q=uber+TOK").text
    names = re.findall(r'name="client" value="([^"]*)"', page)
    assert names == [] and "No client’s name contains “uber TOK”" in page
    names = re.findall(r'name="client" value="([^"]*)"', odd_client.get("/list?q=UBER sohne").text)
    assert names == ["Über Söhne 東京"]


def test_list_is_paged_and_every_client_is_on_one_page(odd_client):
    names, address = [], "/list?view=all"
    while address:
        page = odd_client.get(address).text
        names += re.findall(r'name="client" value="([^"]*)"', page)
        link = re.search(r'<a href="([^"]*)" rel="next"', page)
        address = link and html.unescape(link[1])
    assert len(names) == len({*names}) == 100


@pytest.mark.parametrize(
    "address",
    [
        *(
            "/list?view=none",
            "/list?order=name",
            "/list?page=0",
            "/list?page=x",
            "/list?due_days=-1",
        ),
        *("/client/now651?correct=x", "/list.csv?view="),
    ],
)
def test_parameter_that_is_none_is_refused(odd_client, address):
    expected = 200 if address.endswith("view=") else 422
    assert odd_client.get(address).status_code == expected
