"""What tables of real servers have in common: sessions, views, and what a server can refuse."""

import re
import socket
import time
import traceback

import psycopg
import pymysql
import pytest

from attrition.config import Database
from attrition.databases import mysql, postgres
from attrition.databases import reader as databases
from attrition.databases.reader import probe
from attrition.errors import SourceError
from tests.servers import OWNER, PASSWORD, READER
from tests.tables import all_rows, client, day, unavailable

MODULES = {"postgres": postgres, "mariadb": mysql}
LOCKS = {
    "postgres": (
        "LOCK TABLE clients IN ACCESS EXCLUSIVE MODE",
        "crm: canceling statement due to lock timeout",
    ),
    "mariadb": ("LOCK TABLES clients WRITE", "crm: Lock wait timeout exceeded.*"),
}
WRONG_PASSWORD = {"postgres": "password authentication failed", "mariadb": "Access denied"}
DENIED = {
    "postgres": (psycopg.errors.InsufficientPrivilege, "permission denied"),
    "mariadb": (pymysql.OperationalError, "denied"),
}
READ_ONLY = {
    "postgres": (psycopg.errors.ReadOnlySqlTransaction, "read-only transaction"),
    "mariadb": (pymysql.Error, "READ ONLY transaction"),
}


def test_table_of_another_schema_is_read(server_crm):
    if server_crm.kind == "postgres":
        server_crm.execute("CREATE SCHEMA sales")
        server_crm.execute("GRANT ALL ON SCHEMA sales TO PUBLIC")
    else:
        server_crm.execute("CREATE DATABASE sales")
    server_crm.execute("CREATE TABLE sales.clients AS SELECT 7 AS n")
    database = server_crm.database(table="sales.clients", changed_column=None)
    assert all_rows(database) == [["7"]]
    assert probe(database, seconds=60) == probe(database, seconds=60)


def test_view_is_read_on(server_crm):
    server_crm.insert(*(client(f"old{i}", i) for i in range(10)))
    server_crm.execute("CREATE VIEW other AS SELECT * FROM clients")
    seen, before = server_crm.read(table="other")[2], server_crm.mark(table="other")
    server_crm.insert(client("new", 9))
    # In the order of their changes; PostgreSQL leaves the order of equal times open.
    whole, names, _ = server_crm.read(seen, table="other")
    if server_crm.kind == "postgres":
        names.sort(key=["old8", "old9", "new"].index)
    assert (whole, names) == (False, ["old8", "old9", "new"])
    assert server_crm.mark(table="other") != before


def test_late_commit_with_an_old_time_and_number_is_read(server_crm):
    """The first to begin is the last to commit, and a whole look came in between."""
    kind = {"postgres": "BIGSERIAL", "mariadb": "BIGINT AUTO_INCREMENT PRIMARY KEY"}
    server_crm.execute(f"ALTER TABLE clients ADD COLUMN id {kind[server_crm.kind]}")
    insert = "INSERT INTO clients (corporation, updated_at) VALUES ('{}', '{}')"
    with server_crm.table.connect() as late, late.cursor() as cursor:
        cursor.execute(insert.format("late", "2026-01-01"))
        server_crm.execute(insert.format("soon", day(5)))
        seen = {name: server_crm.read(changed_column=name)[2] for name in ("id", "updated_at")}
        marks = {name: server_crm.mark(changed_column=name) for name in seen}
        late.commit()
    for name in seen:
        whole, names, _ = server_crm.read(seen[name], changed_column=name)
        assert "late" in names
        assert server_crm.kind != "postgres" or not whole, "PostgreSQL knows which rows are fresh"
        assert server_crm.mark(changed_column=name) != marks[name]


@pytest.mark.parametrize("password", [PASSWORD, f"{PASSWORD}wrong"])
def test_password_stands_nowhere(server_crm, monkeypatch, caplog, capfd, password):
    monkeypatch.setenv("CRM_PASSWORD", password)
    url = server_crm.table.url.replace(PASSWORD, "${CRM_PASSWORD}")
    output = ""
    with caplog.at_level("DEBUG"):
        try:
            output += server_crm.mark(url=url) + str(server_crm.read(url=url))
            server_crm.read(url=url, table="nowhere")
        except SourceError as error:
            output += "".join(traceback.format_exception(error))
            is_wrong = WRONG_PASSWORD[server_crm.kind] in str(error)
            assert is_wrong == (password != PASSWORD)
    output += caplog.text + "".join(capfd.readouterr())
    assert output
    assert PASSWORD not in output


def test_role_that_may_only_read_is_enough_and_ours_refuses_to_write(server_crm):
    server_crm.insert(client("acme"))
    error, message = DENIED[server_crm.kind]
    with (
        server_crm.table.connect(READER) as session,
        session.cursor() as cursor,
        pytest.raises(error, match=message),
    ):
        cursor.execute("DELETE FROM clients")
    error, message = READ_ONLY[server_crm.kind]
    with (
        databases._opened(server_crm.database(url=server_crm.table.server.url(OWNER)), 60) as found,
        pytest.raises(error, match=message),
    ):
        found.ask(found.table.element.insert().values(corporation="x"))


@pytest.mark.parametrize(("kind", "message"), [("postgres", "timeout"), ("mariadb", "timed out")])
def test_server_that_never_answers_is_given_up(monkeypatch, kind, message):
    scheme = {"postgres": "postgresql", "mariadb": "mysql"}[kind]
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://joe:hunter2@127.0.0.1:{server.getsockname()[1]}/db"
        seconds = {"postgres": 2, "mariadb": 1}[kind]  # libpq waits at least two
        monkeypatch.setattr(MODULES[kind], "CONNECT_SECONDS", seconds)
        start = time.monotonic()
        assert message in unavailable(Database("crm", url, "clients"))
        assert time.monotonic() - start < 10


def test_table_that_is_locked_is_told_in_seconds(server_crm, monkeypatch):
    monkeypatch.setattr(MODULES[server_crm.kind], "BUSY_SECONDS", 0.2)
    lock, message = LOCKS[server_crm.kind]
    with server_crm.table.connect() as owner, owner.cursor() as cursor:
        cursor.execute(lock)
        assert re.fullmatch(message, unavailable(server_crm.database()))
