"""Two processes of eight threads each, which append to one contact log at the same time."""

import subprocess
import sys

from tests.conftest import ROOT

WRITER = """
import sys, threading, time
from pathlib import Path
from attrition.contacts import log
path, process, pause_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
def write(thread):
    for i in range(56 + (thread < 2)):
        key = f"{process} {thread} {i}"
        entry = log.Entry(f"c{i % 7}", "contact", "Ann", outcome="reached", note=key, key=key)
        for _ in range(2 if i % 10 == 0 else 1):  # repeats
            log.append(path, [entry], "2026-11-28T08:00:00Z")
            time.sleep(pause_s)
threads = [threading.Thread(target=write, args=[n]) for n in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
"""


def write_at_once(path, pause_s=0.0):
    """Start two processes of eight threads each, which append 900 entries and 100 repeats in all."""
    command = [sys.executable, "-c", WRITER, str(path)]
    return [subprocess.Popen([*command, str(n), str(pause_s)], cwd=ROOT) for n in range(2)]
