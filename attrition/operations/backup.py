"""Back up the contact log while it is in use, or restore it.

Reads:  contacts/contacts.sqlite, or a backup
Writes: a new file, or contacts/contacts.sqlite (the present log is renamed, never deleted)
Run:    python -m attrition.operations.backup (--save FILE | --restore FILE) [--config PATH]
"""

import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from attrition.config import Config
from attrition.contacts import assignments, log
from attrition.errors import AttritionError, Damaged
from attrition.operations import cli
from attrition.storage import files

Seals = Mapping[str, Sequence[str]]


def back_up(path: Path, target: Path) -> int:
    """Copy the log to a new file while it is in use, and verify the copy; return the number of entries.

    Raises: AttritionError if there is no log, if the target exists, or if it cannot be written; Damaged.
    """
    if not os.path.lexists(path):
        raise AttritionError(f"{path}: does not exist yet, so there is nothing to back up")
    with log.explained(target), _copy(path, target) as (temporary, count):
        if os.path.lexists(target):
            raise AttritionError(f"{target}: exists already; name a new file for the backup")
        os.link(temporary, target)
    files.fsync_folder(target.parent)
    return count


def restore(path: Path, backup: Path) -> tuple[int, Path | None]:
    """Replace the log by a copy of a backup; return its number of entries and the old log's new name.

    Writers meanwhile wait, and then write to the restored log. A journal of a damaged log is renamed
    with it; otherwise SQLite would apply it to the restored one.

    Raises: AttritionError if the log is intact and the backup lacks one of its records or has no more;
    Damaged if the backup is damaged.
    """
    if not os.path.lexists(backup):
        raise AttritionError(f"{backup}: does not exist; name the file of a backup")
    files.make_folder(path.parent)
    with log.explained(path), _copy(backup, path) as (temporary, count):
        aside = None
        try:
            os.link(temporary, path)  # a rename would replace a log that was begun meanwhile
        except FileExistsError:
            with _alone(path, temporary):
                aside = _set_aside(path)
                os.replace(temporary, path)
        files.fsync_folder(path.parent)
    return count, aside


@contextmanager
def _copy(path: Path, target: Path) -> Iterator[tuple[Path, int]]:
    """Yield a verified copy of a log beside the target, and its number of entries."""
    with log.temporary_file(target) as temporary:
        with (
            log.explained(path),
            log.connect(path) as source,
            closing(sqlite3.connect(temporary)) as copy,
        ):
            source.backup(copy)
        yield temporary, assignments.check(temporary)


@contextmanager
def _alone(path: Path, backup: Path) -> Iterator[None]:
    """Lock the log, and check that the backup has all its entries, unless it is damaged.

    Nobody can write to a log that SQLite cannot open. If another restore has replaced the log meanwhile,
    the new one is locked.
    """
    while True:
        file, is_intact = path.lstat().st_ino, True
        try:
            assignments.check(path)
        except Damaged:
            is_intact = False
        with ExitStack() as stack:
            connection = _lock(stack, path)
            if path.lstat().st_ino != file:
                continue
            if is_intact and connection:
                present = _seals(connection)
                if any(present.values()):
                    _check_contained(path, present, backup)
            yield
            return


def _lock(stack: ExitStack, path: Path) -> sqlite3.Connection | None:
    """Lock the log until the stack ends; return None if SQLite cannot open it."""
    try:
        with log.explained(path):
            connection = stack.enter_context(log.connect(path))
            connection.execute("BEGIN EXCLUSIVE")
    except Damaged:
        return None
    return connection


def _seals(connection: sqlite3.Connection) -> Seals:
    """Return the seals of the records in each table, oldest first."""
    tables = [name for name in log.ONE if log.has_table(connection, name)]
    rows = {name: connection.execute(f"SELECT seal FROM {name} ORDER BY id") for name in tables}
    return {name: [row["seal"] for row in rows.get(name, ())] for name in log.ONE}


def _check_contained(path: Path, present: Seals, backup: Path) -> None:
    """Check that each table of the backup begins with the present records, and that one has more.

    Raises: AttritionError.
    """
    with log.connect(backup) as connection:
        saved = _seals(connection)
    is_more = any(len(saved[name]) > len(own) for name, own in present.items())
    lacking = [name for name, own in present.items() if [*saved[name][: len(own)]] != [*own]]
    if is_more and not lacking:
        return
    name = (lacking or [*log.ONE])[0]
    pairs = enumerate(zip(present[name], saved[name], strict=False), start=1)
    first = next((number for number, (ours, theirs) in pairs if ours != theirs), None)
    differs = f", and they differ from {log.ONE[name]} {first} on" if first else ""
    raise AttritionError(
        f"{path}: is intact and has {len(present[name])} {name}, the backup has "
        f"{len(saved[name])}{differs}; nothing was changed. To restore the backup nevertheless, first "
        "move the log away"
    )


def _set_aside(path: Path) -> Path:
    """Give the log another name, and its journal the same; the log keeps its name too."""
    stamp = re.sub(r"[-:]", "", files.utc_now())
    aside, n = path.with_name(f"{path.name}.replaced-{stamp}"), 1
    while os.path.lexists(aside):
        aside, n = path.with_name(f"{path.name}.replaced-{stamp}-{n}"), n + 1
    journal = path.with_name(f"{path.name}-journal")
    if os.path.lexists(journal):
        os.rename(journal, aside.with_name(f"{aside.name}-journal"))
    if path.is_dir():
        os.rename(path, aside)
    else:
        os.link(path, aside, follow_symlinks=False)
    return aside


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--save", type=Path, metavar="FILE", help="write a backup to a new file")
    what.add_argument("--restore", type=Path, metavar="FILE", help="replace the log with a backup")
    options = parser.parse_args(argv)

    def work(config: Config) -> int:
        if options.save:
            count = back_up(config.contact_log, options.save)
            print(f"{options.save}: {count} entries saved and verified")
            return 0
        count, aside = restore(config.contact_log, options.restore)
        print(f"{config.contact_log}: {count} entries restored and verified")
        if aside:
            print(f"{aside}: the log before")
        return 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
