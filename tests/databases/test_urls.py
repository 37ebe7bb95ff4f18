"""URLs of servers: their kinds, and passwords that no message contains."""

import pytest
import sqlalchemy as sa

from attrition.config import Database
from attrition.databases.urls import resolve, server_kind
from tests.tables import unavailable


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb+pymysql"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("joe:${CRM_PASSWORD}@h/db", "environment variable CRM_PASSWORD is not set"),
        ("joe:hunter2@127.0.0.1:1/db", "Connection refused"),
        ("joe:hun@ter2@127.0.0.1:1/db", "its url is not postgresql://"),
        ("joe:hunter2@127.0.0.1:one/db", "its url is not postgresql://"),
        ("joe:hunter2@127.0.0.1:1/db?nosuch=1&password=hunter2", "nosuch"),
    ],
)
def test_unusable_url_is_told_without_its_password(kind, url, message):
    line = unavailable(Database("crm", f"{kind}://{url}", "clients"))
    assert message in line
    assert "hun" not in line


@pytest.mark.parametrize("url", ["hunter2", "oracle://joe:hunter2@h/db"])
def test_url_of_another_kind_is_refused_without_its_password(url):
    line = unavailable(Database("crm", url, "clients"))
    assert "its url is not postgresql://" in line
    assert "hun" not in line


def test_url_may_come_from_the_environment_as_a_whole(monkeypatch):
    assert "CRM_URL is not set" in unavailable(Database("crm", "${CRM_URL}", "clients"))
    monkeypatch.setenv("CRM_URL", "mysql://joe:hunter2@127.0.0.1:1/db")
    line = unavailable(Database("crm", "${CRM_URL}", "clients"))
    assert line.startswith("crm: Can't connect to MySQL server")
    assert "hunter2" not in line


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_password_from_the_environment_may_hold_any_character(kind, monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "p@ss/w:rd%40#?é")
    database = Database("crm", kind + "://joe:${CRM_PASSWORD}@127.0.0.1:1/db", "clients")
    url, secrets = resolve(database)
    assert url.password == "p@ss/w:rd%40#?é"
    assert secrets == ["p@ss/w:rd%40#?é"]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_secret_is_blotted_out_of_what_the_server_says(kind, monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "127.0.0.1")  # as the message will contain it
    line = unavailable(Database("crm", kind + "://joe:${CRM_PASSWORD}@127.0.0.1:1/db", "clients"))
    assert "***" in line
    assert "127.0.0.1" not in line


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgres://h/db", "postgres"),
        ("postgresql+psycopg://h/db", "postgres"),
        ("mysql://h/db", "mysql"),
        ("mysql+mysqldb://h/db", "mysql"),
        ("mariadb://h/db", "mysql"),
        ("oracle://h/db", ""),
    ],
)
def test_kind_of_a_server_does_not_depend_on_the_driver(url, kind):
    assert server_kind(sa.make_url(url)) == kind
