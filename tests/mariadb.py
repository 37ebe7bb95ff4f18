"""A MariaDB server of one's own for tests and benchmarks: made, restarted, and stopped by its pid.

It listens on loopback alone, with TLS, asks for passwords, and forgoes fsync: nothing of it outlives
its folder.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest
import trustme

PASSWORD = "secret123"  # what no output may ever show
READER, OWNER, DATABASE = "reader", "owner", "crm"
USERS = f"""CREATE USER IF NOT EXISTS {OWNER}@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO {OWNER}@'%';
CREATE USER IF NOT EXISTS {READER}@'%' IDENTIFIED BY '{PASSWORD}';
GRANT SELECT ON {DATABASE}.* TO {READER}@'%';
GRANT SELECT ON sales.* TO {READER}@'%';
CREATE DATABASE IF NOT EXISTS {DATABASE};
"""  # at each start, before anybody is let in
START_SECONDS = 60
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


def find_programs() -> tuple[str, str] | None:
    """Return the programs that make and run a server, where they are installed."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    programs = [shutil.which(name, path=path) for name in ("mariadb-install-db", "mariadbd")]
    return None if None in programs else (str(programs[0]), str(programs[1]))


def other_user() -> dict[str, Any]:
    """Say as whom the server runs: not as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("mysql") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A server in a folder; `owner` may write, `reader` may only select, both by password."""

    def __init__(self, folder: Path, programs: tuple[str, str]) -> None:
        self.folder, self.user = folder, other_user()
        self.install, self.program = programs
        self.process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._make()

    def _make(self) -> None:
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        (self.folder / "users.sql").write_text(USERS)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            self.folder / "server.pem"
        )
        command = [self.install, "--no-defaults", f"--datadir={self.folder / 'data'}"]
        command += ["--skip-test-db", "--innodb-flush-method=nosync", "--innodb-log-file-size=16M"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.user)

    def start(self) -> None:
        """Start the server and wait until it lets somebody in."""
        files = {"datadir": "data", "socket": "socket", "pid-file": "pid", "init-file": "users.sql"}
        files |= {"ssl-ca": "ca.pem", "ssl-cert": "server.pem", "ssl-key": "server.pem"}
        command = [self.program, "--no-defaults", f"--port={self.port}"]
        command += [f"--{name}={self.folder / file}" for name, file in files.items()]
        command += [f"--{name}={value}" for name, value in SETTINGS.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, **self.user
            )
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except pymysql.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    log_end = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"MariaDB did not start: {error}\n{log_end}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server: SIGKILL ends it at once, as a crash would."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
            self.process = None

    def restart(self) -> None:
        """Restart as after a crash."""
        self.stop(signal.SIGKILL)
        self.start()

    def url(self, user: str = READER, password: str = PASSWORD) -> str:
        return f"mysql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{DATABASE}"

    def config_url(self) -> str:
        """Return the URL for config.json: the reader's password stands in the environment."""
        return self.url(password="").replace(":@", ":${MARIADB_PASSWORD}@")

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
        """Drop every table."""
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


@contextmanager
def running() -> Iterator[Server]:
    """Run a server in a temporary folder, with a user that can only read."""
    programs = find_programs()
    assert programs, "MariaDB is not installed (Debian: apt install mariadb-server)"
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
    server = Server(folder, programs)
    os.environ["MARIADB_PASSWORD"] = PASSWORD
    try:
        server.start()
        server.clear()
        yield server
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """A MariaDB server for all tests of a session."""
    if find_programs() is None:
        pytest.skip("MariaDB is not installed (Debian: apt install mariadb-server)")
    with running() as server:
        yield server
