"""What the tests let an engine run."""

import os
import sys
import time
from pathlib import Path

from attrition.config import Engine
from attrition.engine import backends
from attrition.errors import EngineError


def double(number):
    return 2 * number


def fill_disk(number):
    if number == 3:
        raise OSError(28, "No space left on device", f"/part{number}")
    return number


def wait_for(folder, number):
    """Leave a mark, and return when the file `go` is there."""
    Path(folder, f"began-{number}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.02)
    return number


def process_id(number):
    time.sleep(0.05)
    return os.getpid()


if __name__ == "__main__":
    backend, address, folder = sys.argv[1:]
    calls = [(folder, number) for number in range(4)]
    try:
        print(
            backends.run(Engine(backend, address, 2), "tests.engine.tasks:wait_for", calls),
            flush=True,
        )
    except EngineError as error:
        print(error, flush=True)
    os._exit(0)  # what a library does at its end is not what is tested
