"""Logging to stderr and, if cron runs it, to a rotating file; only main() sets it up."""

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LOG_BYTES, LOG_FILES = 1_000_000, 5
REQUESTS = logging.getLogger("attrition.requests")


class UtcFormatter(logging.Formatter):
    """A formatter with times in UTC that keeps each record on one line, unless it has a traceback."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else text.replace("\n", "\\n").replace("\r", "\\r")


class JsonFormatter(UtcFormatter):
    """A formatter that writes each record as one line of JSON, a request with its own keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": self.formatTime(record), "level": record.levelname.lower()}
        if (request := getattr(record, "request", None)) is not None:
            return json.dumps(line | request)
        line |= {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_request(
    *,
    request_id: str,
    status: int,
    method: str | None = None,
    view: str | None = None,
    ms: float | None = None,
    caller: str | None = None,
) -> None:
    """Log a request, if requests are logged. Its path and query are left out: they name clients."""
    values = {"request_id": request_id, "method": method, "view": view, "status": status}
    REQUESTS.info("request", extra={"request": {**values, "ms": ms, "caller": caller}})


class Diary(RotatingFileHandler):
    """The log file; if it cannot be written, one line on stderr reports that and the run continues."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed and sys.stderr is not None:
            self.failed = True
            reason = sys.exc_info()[1]
            print(f"{self.baseFilename}: the log cannot be written ({reason})", file=sys.stderr)


# For a line that the caller prints itself, so that a terminal shows it once: logger.info(..., extra=)
PRINTED = {"is_printed": True}


def is_not_printed(record: logging.LogRecord) -> bool:
    return not getattr(record, "is_printed", False)


def set_up(
    *,
    quiet: bool = False,
    file: Path | None = None,
    once: logging.Filter | None = None,
    as_json: bool = False,
) -> None:
    """Send log records to stderr, only warnings if quiet, and all of them to `file` if it is given.

    `once` may drop records from stderr. With `as_json` each record is a line of JSON, and requests are
    logged too.

    The file is opened when its first line is written, so that a run with nothing to do does not create
    it. If it is a link, nothing is written to it, because it may lead to another user's file.
    """
    formatter = JsonFormatter() if as_json else UtcFormatter(FORMAT)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(logging.WARNING if quiet else logging.INFO)
    stderr.addFilter(is_not_printed)
    if once is not None:
        stderr.addFilter(once)
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
    REQUESTS.setLevel(logging.INFO if as_json else logging.WARNING)
