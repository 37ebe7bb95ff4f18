"""A PostgreSQL server of one's own for tests and benchmarks: made, restarted, and stopped by its pid.

It listens on loopback alone, asks for passwords, and forgoes fsync: nothing of it outlives its folder.
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

import psycopg
import pytest

PASSWORD = "secret123"  # what no output may ever show
READER, OWNER = "reader", "owner"
START_SECONDS = 60
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "timezone": "Europe/Berlin",  # not ours: a reader has to ask for UTC
    "restart_after_crash": "off",
}


def find_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs, where one is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: path.parent.name.zfill(3), default=None)


def other_user() -> dict[str, Any]:
    """Say as whom the server runs: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A cluster in a folder; `owner` may write, `reader` may only select, both by password."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.user = folder, programs, other_user()
        self.process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._make()

    def _make(self) -> None:
        passwords = self.folder / "password"
        passwords.write_text(PASSWORD)
        if self.user:
            for path in (self.folder, passwords):
                os.chown(path, self.user["user"], self.user["group"])
        command = [self.programs / "initdb", "--pgdata", self.data, "--username", OWNER]
        command += ["--pwfile", passwords, "--auth", "scram-sha-256", "--no-sync"]
        command += ["--encoding", "UTF8", "--locale", "C"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.user)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start the server and wait until it lets somebody in."""
        command = [self.programs / "postgres", "-D", self.data, "-p", self.port, "-k", self.folder]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stderr=log, cwd=self.folder, **self.user
            )
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    told = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{told}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends its sessions, SIGQUIT at once, as a crash would."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
            self.process = None

    def restart(self) -> None:
        """Restart as after a crash."""
        self.stop(signal.SIGQUIT)
        self.start()

    def url(self, user: str = READER, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def config_url(self) -> str:
        """Return the URL for config.json: the reader's password stands in the environment."""
        return self.url(password="").replace(":@", ":${POSTGRES_PASSWORD}@")

    def connect(
        self, user: str = OWNER, *, database: str = "postgres", **options: Any
    ) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(user, database=database), connect_timeout=5, **options)

    def execute(self, *statements: str) -> None:
        """Run statements as the owner, in one transaction."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def clear(self) -> None:
        """Drop every table; whatever is made from here on, the reader may select from."""
        self.execute(
            "DROP SCHEMA IF EXISTS public, sales CASCADE",
            "CREATE SCHEMA public",
            f"GRANT USAGE ON SCHEMA public TO {READER}",
        )

    def terminate(self, user: str = READER) -> int:
        """End every session of a user; return how many there were."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
        with self.connect() as connection:
            return len(connection.execute(query, [user]).fetchall())


@contextmanager
def running() -> Iterator[Server]:
    """Run a server in a temporary folder, with a role that can only read."""
    programs = find_programs()
    assert programs, "PostgreSQL is not installed (Debian: apt install postgresql)"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Server(folder, programs)
    os.environ["POSTGRES_PASSWORD"] = PASSWORD
    try:
        server.start()
        server.execute(
            f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'",
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}",
        )
        server.clear()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server for all tests of a session."""
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with running() as server:
        yield server
