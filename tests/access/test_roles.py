"""The table of roles and views."""

import pytest

from app import create_app
from attrition.access import roles


def views(app):
    return {rule.endpoint.rpartition(".")[2] for rule in app.url_map.iter_rules()}


def test_every_view_is_in_the_table_and_the_table_names_only_views(project):
    listed = roles.FOR_ALL | roles.FOR_EVERY_ROLE | frozenset().union(*roles.VIEWS.values())
    assert views(create_app(project)) == listed


@pytest.mark.parametrize("role", roles.ROLES)
def test_role_may_use_what_the_table_lists_and_nothing_else(role):
    own = roles.FOR_ALL | roles.FOR_EVERY_ROLE | roles.VIEWS[role]
    all_views = own | {"a_view_that_is_not_listed"} | frozenset().union(*roles.VIEWS.values())
    assert {view for view in all_views if roles.may_use([role], view)} == own
    assert {view for view in all_views if roles.may_use([], view)} == roles.FOR_ALL
