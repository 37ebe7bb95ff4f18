"""Append a JSON line for each write and each refusal to a file per month, without client data.

The lines of several workers do not mix, because each is a single write to a file opened for appending.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from attrition.access.credentials import FILE_MODE, FOLDER_MODE
from attrition.storage import files
from attrition.storage.files import Record

logger = logging.getLogger(__name__)

MAX_REFUSALS = 60  # per minute and worker


class AuditLog:
    """The audit log of one worker; refusals beyond 60 a minute are only counted."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of
        self._minute, self._refusals, self._left_out = "", 0, 0
        self._is_failing = self._is_torn = False
        self._lock = Lock()

    def write(self, event: Record, *, is_refusal: bool = False) -> None:
        """Append an event with its time in `at`; an error is logged once, and never raised."""
        at = event["at"]
        with self._lock:
            if at[:16] != self._minute:
                lines = [{"at": at, "left_out": self._left_out}] if self._left_out else []
                self._minute, self._refusals, self._left_out = at[:16], 0, 0
            else:
                lines = []
            self._refusals += is_refusal
            if is_refusal and self._refusals > MAX_REFUSALS:
                self._left_out += 1
            else:
                lines.append(event)
            for line in lines:
                self._append(self._path_of(at[:7]), line)

    def _append(self, path: Path, line: Record) -> None:
        data = json.dumps(line, sort_keys=True).encode() + b"\n"
        if self._is_torn:
            data = b"\n" + data
        try:
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = files.open_to_append(path, FILE_MODE, os.O_NOFOLLOW)
            try:
                written = os.write(descriptor, data)
            finally:
                os.close(descriptor)
            self._is_torn = written < len(data)
            problem = "the disk is full" if self._is_torn else ""
        except OSError as error:
            problem = str(error.strerror)
        if problem and not self._is_failing:
            logger.error("%s: %s; writes and refusals are not recorded", path, problem)
        self._is_failing = bool(problem)
