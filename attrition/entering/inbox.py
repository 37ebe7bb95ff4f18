"""Read the filled-in sheets that people copied into contacts/inbox/ into the contact log.

A verdict for each line is written into contacts/inbox/read/, and the sheet is moved beside it. If the
process is killed, the next run reads the sheet again, and stores what is not stored yet.

Reads:  contacts/inbox/*, reports/clients.parquet and assessment.json, the contact log
Writes: contacts/contacts.sqlite, contacts/inbox/read/
Run:    python -m attrition.entering.inbox [--config PATH]
"""

import csv
import io
import logging
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.config import Config
from attrition.contacts import log
from attrition.errors import AttritionError, Damaged
from attrition.operations import cli
from attrition.storage import files

if TYPE_CHECKING:
    from attrition.entering.filled_in import Verdict

logger = logging.getLogger(__name__)

UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")
MAX_PACKED, MAX_STEM = 64 << 20, 100


def find_sheets(config: Config) -> dict[Path, os.stat_result]:
    """Return the files in the inbox, also those that may still be being written.

    Hidden files, temporary files of other programs, links and folders are not sheets. An inbox that
    cannot be read is reported, and does not stop a run.
    """
    sheets: dict[Path, os.stat_result] = {}
    try:
        paths = sorted(config.inbox.iterdir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        logger.warning("%s: %s; no sheet is read", config.inbox, error.strerror)
        return {}
    for path in paths:
        if path.name.startswith((".", "~$")) or path.name.lower().endswith(UNFINISHED):
            continue
        with suppress(FileNotFoundError):  # removed meanwhile
            about = path.lstat()
            if stat.S_ISREG(about.st_mode):
                sheets[path] = about
    return sheets


def find_settled(config: Config) -> list[Path]:
    """Return the sheets of the inbox that have not changed for `settle_seconds`.

    A time in the future counts as long ago.
    """
    now = time.time()
    return [
        path
        for path, about in find_sheets(config).items()
        if abs(now - about.st_mtime) >= config.settle_seconds
    ]


def read_inbox(config: Config) -> list[str]:
    """Read every settled sheet of the inbox; return a line for each, with what became of it.

    Call it under the run lock. A sheet that cannot be read or saved now stays in the inbox.
    """
    with suppress(OSError):  # people copy sheets there, so it should exist
        files.make_folder(config.inbox)
    from attrition.sources.files import shown

    texts = []
    for path in find_settled(config):
        record = files.read_record(config.assessment_record)
        if record is None:
            break  # no client is known yet
        try:
            texts.append(_read_sheet(config, path, shown(path.name), record))
        except (AttritionError, OSError) as error:
            problem = shown(path.name), cli.error_message(error)
            logger.warning("contacts: %s: %s; it stays in the inbox", *problem)
    return texts


def _read_sheet(config: Config, path: Path, name: str, record: files.Record) -> str:
    """Save the lines of a sheet, write the verdicts, and move the sheet beside them."""
    from attrition.data.clients import ClientTable
    from attrition.data.schema import Refused
    from attrition.entering import filled_in
    from attrition.entering.filled_in import REFUSED, Verdict
    from attrition.rows import forgotten

    outputs = record.get("outputs", {})
    if files.sha256_file(config.clients) != outputs.get(config.clients.name):
        raise Damaged(f"{config.clients}: does not match its hash; run assessment.py first")
    data, about = _read_file(path)
    at, dialect = files.utc_now(), config.files.dialect(path.name)
    desk = filled_in.Desk(
        *(config.contact_log, ClientTable(config.clients), config.project, record["release"]),
        *(config.day(at), at, f"sheet {name}"[:200], dialect.dates),
        hidden=forgotten.read(config),
    )
    try:
        if len(data) > MAX_PACKED:
            raise Refused("TOO_LARGE", f"more than {MAX_PACKED:,} bytes")
        lines = filled_in.read_lines(data, config.columns, dialect)
        verdicts = filled_in.save_lines(lines, desk)
    except Refused as error:
        verdicts = [Verdict("", 0, "", REFUSED, error.reason)]
    _put_away(path, about, verdicts, at)
    text = f"contacts: {filled_in.describe(name, verdicts)}"
    if any(verdict.verdict == REFUSED for verdict in verdicts):
        logger.warning("%s; see %s", text, config.inbox / "read")
    return text


def _read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a file, and its state when it was read.

    Raises: AttritionError if it changes meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        data = file.read(MAX_PACKED + 1)
        if _state(before) != _state(os.fstat(descriptor)):
            raise AttritionError("it is being written")
    return data, before


def _state(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_ino, about.st_size, about.st_mtime_ns


def _put_away(path: Path, about: os.stat_result, verdicts: "Sequence[Verdict]", at: str) -> None:
    """Write the verdicts, and move the sheet beside them, unless it was replaced meanwhile."""
    folder = path.parent / "read"
    name = f"{path.stem[:MAX_STEM]}-{at.replace('-', '').replace(':', '')}"
    for n in count(1):
        stem = f"{name}-{n}" if n > 1 else name
        moved, described = folder / f"{stem}{path.suffix}", folder / f"{stem}-verdicts.csv"
        if not os.path.lexists(moved) and not os.path.lexists(described):
            break
    files.write_bytes(described, format_verdicts(verdicts))
    if _state(path.lstat()) != _state(about):
        raise AttritionError("it was replaced while it was read")
    os.rename(path, moved)
    files.fsync_folder(folder)
    files.fsync_folder(path.parent)


def format_verdicts(verdicts: "Sequence[Verdict]") -> bytes:
    """Return the verdict on each line as CSV, for a spreadsheet."""
    from attrition.contacts.fields import escape_formula

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sheet", "line", "client", "verdict", "reason"))
    writer.writerows([escape_formula(str(each)) for each in verdict] for verdict in verdicts)
    return text.getvalue().encode("utf-8-sig", "backslashreplace")


def main(argv: list[str] | None = None) -> int:
    options = cli.parser(__doc__).parse_args(argv)

    def work(config: Config) -> int:
        with cli.step_lock(config, "inbox"):
            record = files.read_record(config.assessment_record) or {}
            log.check_counted(config.contact_log, str(record.get("inputs", {}).get("contacts", "")))
            texts = read_inbox(config)
        print("\n".join(texts or ["contacts: no settled sheet in the inbox"]))
        return 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
