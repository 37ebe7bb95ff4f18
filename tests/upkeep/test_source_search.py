"""Sources that have the name of a client: files, tables, and those that cannot be read."""

import sqlite3

from attrition.upkeep import source_search
from tests.conftest import make_rows, write_config
from tests.forgetting import NAME


def test_sources_that_have_the_name_are_named(knowing):
    lines = source_search.find(knowing, NAME)
    names = [line.partition(":")[0].rpartition("/")[2] for line in lines]
    assert names == ["current.csv", "history.csv", "refused.csv"]


def test_a_table_that_has_the_name_is_named(tmp_path):
    url = f"sqlite:///{tmp_path}/crm.sqlite"
    config = write_config(tmp_path, databases=[{"name": "crm", "url": url, "table": "clients"}])
    with sqlite3.connect(tmp_path / "crm.sqlite") as connection:
        make_rows(3).assign(corporation=["a", NAME, "b"]).to_sql("clients", connection, index=False)
    assert source_search.find(config, NAME) == ["table crm: 1 cell; remove the name there"]
    (tmp_path / "crm.sqlite").unlink()
    (line,) = source_search.find(config, NAME)
    assert line.startswith("table crm: cannot be read")
