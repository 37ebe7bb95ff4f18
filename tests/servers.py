"""A private database server for tests and benchmarks: set up, restarted, and stopped by its pid.

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

PASSWORD = "secret123"  # what no output may ever show
READER, OWNER = "reader", "owner"
START_SECONDS = 60


def other_user(name: str) -> dict[str, Any]:
    """Name the user that runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get(name) or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A server in a folder; `owner` may write, `reader` may only select, both by password."""

    name = ""
    package = ""  # of Debian
    runs_as = ""
    scheme = ""
    database = ""
    password_variable = ""  # of the environment, as config.json names it
    Refused: type[Exception]  # if a server lets nobody in yet
    STOP: signal.Signals  # ends its sessions
    CRASH: signal.Signals  # at once

    def __init__(self, folder: Path, programs: Any) -> None:
        self.folder, self.programs, self.user = folder, programs, other_user(self.runs_as)
        self.process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        command = self.make_command()
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.user)

    @staticmethod
    def find_programs() -> Any:
        """Return the programs that set up and run a server, or None if they are not installed."""
        raise NotImplementedError

    def make_command(self) -> list[str]:
        raise NotImplementedError

    def start_command(self) -> list[str]:
        raise NotImplementedError

    def connect(self, user: str = OWNER, **options: Any) -> Any:
        raise NotImplementedError

    def clear(self) -> None:
        """Drop every table; the reader may select from all that are created later."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it lets somebody in."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.start_command(), stdout=log, stderr=log, cwd=self.folder, **self.user
            )
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except self.Refused as error:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    log_end = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.name} did not start: {error}\n{log_end}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop the server, by default as its owner would, or as a crash would."""
        if self.process is not None:
            self.process.send_signal(how or self.STOP)
            self.process.wait(START_SECONDS)
            self.process = None

    def restart(self) -> None:
        """Restart as after a crash."""
        self.stop(self.CRASH)
        self.start()

    def url(self, user: str = READER, password: str = PASSWORD, database: str = "") -> str:
        login = f"{user}:{quote(password, safe='')}"
        return f"{self.scheme}://{login}@127.0.0.1:{self.port}/{database or self.database}"

    def config_url(self) -> str:
        """Return the URL for config.json: the reader's password stands in the environment."""
        return self.url(password="").replace(":@", f":${{{self.password_variable}}}@")


def missing(kind: type[Server]) -> str:
    """Return what to install if a server cannot be run, or ""."""
    install = f"{kind.name} is not installed (Debian: apt install {kind.package})"
    return install if kind.find_programs() is None else ""


@contextmanager
def running(kind: type[Server]) -> Iterator[Any]:
    """Run a server in a temporary folder, with a user that can only read."""
    assert not missing(kind), missing(kind)
    folder = Path(tempfile.mkdtemp(prefix=f"{kind.name.lower()}-"))
    server = kind(folder, kind.find_programs())
    os.environ[kind.password_variable] = PASSWORD
    try:
        server.start()
        server.clear()
        yield server
    finally:
        server.stop(kind.CRASH)
        shutil.rmtree(folder)
