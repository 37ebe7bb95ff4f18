from pathlib import Path

import pytest

from attrition.config import Database
from attrition.databases.table_snapshot import named_table, sqlite_file
from attrition.errors import SourceError


def database(table="clients", url="sqlite:///crm.sqlite", **changes):
    return Database("crm", url, table, **changes)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///data/crm.sqlite", "data/crm.sqlite"),
        ("sqlite:////data/crm.sqlite", "/data/crm.sqlite"),
        ("sqlite:///my %41 #1.sqlite?mode=ro", "my %41 #1.sqlite"),
    ],
)
def test_file_of_an_sqlite_url_is_its_path_without_the_options(url, file):
    assert sqlite_file(database(url=url)) == Path(file)


@pytest.mark.parametrize("url", ["postgresql://reader@host/db", "${CRM_URL}", "sqlite://"])
def test_any_other_url_has_no_file(url):
    assert sqlite_file(database(url=url)) is None


def test_table_has_the_columns_that_were_read_of_it():
    table = named_table(database("sales.clients"), ("corporation", "exited"))
    assert (table.element.name, table.element.schema) == ("clients", "sales")
    assert [column.name for column in table.c] == ["corporation", "exited"]


def test_table_without_a_schema_has_none():
    assert named_table(database()).element.schema is None


def test_column_of_the_changes_that_is_not_in_the_table_is_refused():
    asked = database(changed_column="updated_at")
    assert list(named_table(asked, ("id", "updated_at")).c.keys()) == ["id", "updated_at"]
    with pytest.raises(SourceError, match="^crm: there is no column 'updated_at'$"):
        named_table(asked, ("id",))
