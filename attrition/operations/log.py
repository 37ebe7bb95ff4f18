"""Logging: the diary on stderr and, for runs by cron, in a rotating file; set up by main() alone."""

import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LOG_BYTES, LOG_FILES = 1_000_000, 5


class UtcFormatter(logging.Formatter):
    """Times in UTC, and no message may start a line of its own: one record is one line."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else text.replace("\n", "\\n").replace("\r", "\\r")


class Diary(RotatingFileHandler):
    """The diary's file. Where it cannot be written, that is one line on stderr and the run goes on."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed and sys.stderr is not None:
            self.failed = True
            reason = sys.exc_info()[1]
            print(f"{self.baseFilename}: the diary cannot be written ({reason})", file=sys.stderr)


def set_up(*, quiet: bool = False, file: Path | None = None) -> None:
    """Send the diary to stderr (only warnings when quiet) and all of it to `file`, if given.

    The file is opened with the first line written to it, so that a tick with nothing to do leaves
    no trace. A link in its place is left alone: it leads to a file of somebody else.
    """
    formatter = UtcFormatter(FORMAT)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(logging.WARNING if quiet else logging.INFO)
    handlers: list[logging.Handler] = [stderr]
    if file is not None and file.parent.is_dir() and not file.is_symlink():
        handlers.append(
            Diary(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True)
        )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("attrition").setLevel(logging.INFO)
