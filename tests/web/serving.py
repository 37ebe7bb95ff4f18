"""Projects served by an app in a process of its own, and a file of theirs damaged beside it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrition.config import Config
from tests.conftest import ROOT

TOKEN = "correct-horse-battery-staple"


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o640)
    path.write_bytes(bytes(data))


@contextmanager
def served(config: Config, *more: str) -> Iterator[tuple[int, int]]:
    """Serve a project from a process of its own, on a free port; yield the port and the pid."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--config", str(config.file), "--port", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+) ", line)
        assert found, line + process.stderr.read()
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in stderr, stderr
