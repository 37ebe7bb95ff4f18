"""Databases into which risks are written: a new SQLite file, or a server; and what is written."""

import sqlite3
from contextlib import closing

import pytest

from attrition.storage import files
from tests.contacts.samples import write_table
from tests.postgres import OWNER

MORNING = "2026-03-01T08:00:00Z"


class SqliteTarget:
    kind = "sqlite"

    def __init__(self, folder):
        self.path = folder / "crm.sqlite"
        self.config_url = f"sqlite:///{self.path}"

    def execute(self, statement):
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(statement).fetchall()
            connection.commit()
            return rows


class PostgresTarget:
    kind = "postgres"

    def __init__(self, server):
        server.clear()
        self.server = server
        self.config_url = server.url(OWNER, password="").replace(":@", ":${POSTGRES_PASSWORD}@")

    def execute(self, statement):
        with self.server.connect() as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def sqlite_target(tmp_path):
    return SqliteTarget(tmp_path)


@pytest.fixture
def postgres_target(postgres_server):
    return PostgresTarget(postgres_server)


@pytest.fixture(params=["sqlite", "postgres"])
def target(request):
    return request.getfixturevalue(f"{request.param}_target")


def assess(config, risk, at=MORNING, release="r1", **columns):
    """Let this be the last assessment: clients c0, c1, ... with these risks."""
    path = config.file.parent / "clients.parquet"
    write_table(path, risk, **columns)
    record = {"release": release, "assessed_at": at, "inputs": {}}
    files.commit(config.assessment_record, {config.clients: path.read_bytes()}, record)
