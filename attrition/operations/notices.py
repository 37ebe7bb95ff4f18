"""Remember what cron has mailed today, and the last failure that the same inputs would only repeat.

cron mails what --quiet prints. Each line is printed once a day, at once if it is new, and again if it
was gone in between. Standard library only.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrition.errors import Damaged
from attrition.storage import files

NOTHING: files.Record = {"day": "", "printed": [], "failure": None}


def read(path: Path) -> files.Record:
    """Read the record; one without content if there is none, or if it is damaged."""
    try:
        record = files.read_record(path)
    except Damaged:
        record = None
    return {**NOTHING, **(record or {})}


def write(path: Path, record: files.Record) -> None:
    """Write the record; if it has no content, there is none, as before the first notice."""
    if not record["printed"] and record["failure"] is None:
        path.unlink(missing_ok=True)
        return
    files.write_bytes(path, files.encode(files.sealed(record)))


def today() -> str:
    return files.utc_now()[:10]


class OncePerDay(logging.Filter):
    """A filter of the handler that prints: it drops a line that was printed on the same UTC day."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.lines = path, set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        line = files.sha256_bytes(record.getMessage().encode("utf-8", "backslashreplace"))[:16]
        self.lines.add(line)
        state = read(self.path)
        printed = state["printed"] if state["day"] == today() else []
        if line in printed:
            return False
        with suppress(OSError):  # if it cannot be remembered, it is printed again
            write(self.path, state | {"day": today(), "printed": [*printed, line]})
        return True

    def forget_others(self) -> None:
        """Forget the lines that this run had no reason to print: if they come back, they are news."""
        state = read(self.path)
        printed = [line for line in state["printed"] if line in self.lines]
        if printed != state["printed"]:
            write(self.path, state | {"printed": printed})


# ---- a failure that is not worth its price


def keep_failure(path: Path, inputs: dict[str, Any], reason: str) -> None:
    """Remember that a run with these inputs fails for this reason."""
    failure = {"day": today(), "inputs": _hash(inputs), "reason": reason}
    write(path, read(path) | {"failure": failure})


def find_failure(path: Path, inputs: dict[str, Any]) -> str | None:
    """Return why a run with the same inputs failed today, None if it did not."""
    failure = read(path)["failure"]
    is_same = failure and (failure["day"], failure["inputs"]) == (today(), _hash(inputs))
    return str(failure["reason"]) if is_same else None


def forget_failure(path: Path) -> None:
    state = read(path)
    if state["failure"] is not None:
        write(path, state | {"failure": None})


def _hash(inputs: dict[str, Any]) -> str:
    return files.sha256_bytes(files.encode(inputs))
