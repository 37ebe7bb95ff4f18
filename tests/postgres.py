"""A private PostgreSQL server for tests and benchmarks."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import servers
from tests.servers import OWNER, PASSWORD, READER

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "timezone": "Europe/Berlin",  # not ours: a reader has to ask for UTC
    "restart_after_crash": "off",
}
ROLE = f"""DO $$ BEGIN CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER};
EXCEPTION WHEN duplicate_object THEN NULL; END $$"""


class Server(servers.Server):
    """A cluster in a folder; `owner` may write, `reader` may only select, both by password."""

    name, package, runs_as = "PostgreSQL", "postgresql", "postgres"
    scheme, database, password_variable = "postgresql", "postgres", "POSTGRES_PASSWORD"
    Refused = psycopg.OperationalError
    STOP, CRASH = signal.SIGINT, signal.SIGQUIT

    @staticmethod
    def find_programs() -> Path | None:
        """Return the folder of the newest PostgreSQL's programs, if one is installed."""
        found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        if on_path := shutil.which("initdb"):
            found.append(Path(on_path).resolve().parent)
        return max(found, key=lambda path: path.parent.name.zfill(3), default=None)

    def make_command(self) -> list[str]:
        passwords = self.folder / "password"
        passwords.write_text(PASSWORD)
        passwords.chmod(0o644)
        command = [f"{self.programs}/initdb", f"--pgdata={self.folder}/data", "--username", OWNER]
        command += [f"--pwfile={passwords}", "--auth=scram-sha-256", "--no-sync"]
        return [*command, "--encoding=UTF8", "--locale=C"]

    def start_command(self) -> list[str]:
        command = [f"{self.programs}/postgres", "-D", f"{self.folder}/data"]
        command += ["-p", str(self.port), "-k", str(self.folder)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        return command

    def connect(
        self, user: str = OWNER, *, database: str = "", **options: Any
    ) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(user, database=database), connect_timeout=5, **options)

    def execute(self, *statements: str) -> None:
        """Run statements as the owner, in one transaction."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def clear(self) -> None:
        self.execute(
            ROLE,
            "DROP SCHEMA IF EXISTS public, sales CASCADE",
            "CREATE SCHEMA public",
            f"GRANT USAGE ON SCHEMA public TO {READER}",
        )

    def terminate(self, user: str = READER) -> int:
        """End every session of a user; return how many there were."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
        with self.connect() as connection:
            return len(connection.execute(query, [user]).fetchall())


def running() -> AbstractContextManager[Server]:
    return servers.running(Server)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server for all tests of a session."""
    if message := servers.missing(Server):
        pytest.skip(message)
    with running() as server:
        yield server
