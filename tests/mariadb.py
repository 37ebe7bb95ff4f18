"""A private MariaDB server with TLS, for tests and benchmarks."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pymysql
import pytest
import trustme

from tests import servers
from tests.servers import OWNER, PASSWORD, READER

DATABASE = "crm"
USERS = f"""CREATE USER IF NOT EXISTS {OWNER}@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO {OWNER}@'%';
CREATE USER IF NOT EXISTS {READER}@'%' IDENTIFIED BY '{PASSWORD}';
GRANT SELECT ON {DATABASE}.* TO {READER}@'%';
GRANT SELECT ON sales.* TO {READER}@'%';
CREATE DATABASE IF NOT EXISTS {DATABASE};
"""  # at each start, before anybody is let in
SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-flush-method": "nosync",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "16M",
    "innodb-fast-shutdown": "2",
    "performance-schema": "OFF",
    "character-set-server": "latin1",  # not ours: a reader has to ask for Unicode
    "default-time-zone": "+02:00",  # nor this
}


class Server(servers.Server):
    """A server in a folder; `owner` may write, `reader` may only select, both by password."""

    name, package, runs_as = "MariaDB", "mariadb-server", "mysql"
    scheme, database, password_variable = "mysql", DATABASE, "MARIADB_PASSWORD"
    Refused = pymysql.OperationalError
    STOP, CRASH = signal.SIGTERM, signal.SIGKILL

    @staticmethod
    def find_programs() -> list[str] | None:
        """Return the programs that set up and run a server, if they are installed."""
        path = f"{os.environ['PATH']}:/usr/sbin"
        names = ("mariadb-install-db", "mariadbd")
        programs = [found for name in names if (found := shutil.which(name, path=path))]
        return programs if len(programs) == len(names) else None

    def make_command(self) -> list[str]:
        (self.folder / "users.sql").write_text(USERS)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            self.folder / "server.pem"
        )
        command = [self.programs[0], "--no-defaults", f"--datadir={self.folder / 'data'}"]
        command += ["--skip-test-db", "--innodb-flush-method=nosync", "--innodb-log-file-size=16M"]
        return command

    def start_command(self) -> list[str]:
        files = {"datadir": "data", "socket": "socket", "pid-file": "pid", "init-file": "users.sql"}
        files |= {"ssl-ca": "ca.pem", "ssl-cert": "server.pem", "ssl-key": "server.pem"}
        command = [self.programs[1], "--no-defaults", f"--port={self.port}"]
        command += [f"--{name}={self.folder / file}" for name, file in files.items()]
        return [*command, *(f"--{name}={value}" for name, value in SETTINGS.items())]

    def connect(self, user: str = OWNER, **options: Any) -> Any:
        """Connect to the server; names in double quotes are identifiers, as in standard SQL."""
        given = {"host": "127.0.0.1", "port": self.port, "user": user, "password": PASSWORD}
        given |= {"connect_timeout": 5, "sql_mode": "ANSI_QUOTES", "database": DATABASE}
        given |= {"ssl_disabled": True}  # for speed
        return pymysql.connect(**given | options)

    def execute(self, *statements: str) -> None:
        """Run statements as the owner, in one transaction."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def clear(self) -> None:
        self.execute(
            *(f"DROP DATABASE IF EXISTS {name}" for name in (DATABASE, "sales")),
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4",
        )

    def terminate(self, user: str = READER) -> int:
        """End every session of a user; return how many there were."""
        with self.connect() as connection, connection.cursor() as cursor:
            query = "SELECT id FROM information_schema.processlist WHERE user = %s"
            cursor.execute(query, [user])
            sessions = cursor.fetchall()
            cursor.execute(f"KILL USER {user}")
        return len(sessions)


def running() -> AbstractContextManager[Server]:
    return servers.running(Server)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """A MariaDB server for all tests of a session."""
    if message := servers.missing(Server):
        pytest.skip(message)
    with running() as server:
        yield server
