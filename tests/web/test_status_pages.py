"""The pages about the model, the data and the system, and the frame of every page."""

import re

import pytest

from app import create_app

PATHS = ("/model", "/data", "/system")


@pytest.mark.parametrize("path", PATHS)
def test_page_marks_itself_in_the_navigation_and_has_nothing_inline(client, path):
    page = client.get(path).text
    (current,) = re.findall(r'<a href="([^"]*)" aria-current="page"', page)
    assert current == path
    assert not re.search(r"<script>|<style|\sstyle=|https?://|\son\w+=", page)


@pytest.mark.parametrize("path", PATHS)
def test_page_of_an_empty_project_has_no_alert(empty_project, path):
    answer = create_app(empty_project).test_client().get(path)
    assert answer.status_code == 200
    assert 'role="alert"' not in answer.text
