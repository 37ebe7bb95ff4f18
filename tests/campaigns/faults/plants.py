"""Bugs to plant in the product, to see that the checks can fail; each patches it in this process."""

import os
from collections.abc import Callable

from attrition.errors import Busy
from attrition.operations import releases
from attrition.storage import files


def no_fsync() -> None:
    """Nothing is ever brought to the disk before it counts."""
    os.fsync = lambda descriptor: None


def pointer_before_data() -> None:
    """Production points at a release while its files are still being written."""
    real = releases.create

    def create(production, contents, manifest):
        commit = files.commit

        def point_first(record_path, content, record):
            name = record_path.parent.name.removeprefix(".")
            releases.replace_link(production / releases.CURRENT, f"releases/{name}")
            return commit(record_path, content, record)

        files.commit = point_first
        try:
            return real(production, contents, manifest)
        finally:
            files.commit = commit

    releases.create = create


def write_in_place() -> None:
    """Files are opened, emptied and written where they are read."""

    def commit(record_path, contents, record, kept=(), **more):
        files.make_folder(record_path.parent)
        outputs = dict(kept or {})
        for path, content in contents.items():
            _overwrite(path, content)
            outputs[path.name] = files.sha256_file(path)
        record = files.sealed({**_complete(record), "outputs": outputs})
        _overwrite(record_path, files.encode(record))
        return record

    files.commit = commit


def record_before_data() -> None:
    """The record says what was written before it is."""

    def commit(record_path, contents, record, kept=(), **more):
        files.make_folder(record_path.parent)
        staged = {}
        for path, content in contents.items():
            staged[path] = path.with_name(f".{path.name}.new")
            _overwrite(staged[path], content)
        outputs = dict(kept or {})
        outputs |= {path.name: files.sha256_file(new) for path, new in staged.items()}
        record = files.sealed({**_complete(record), "outputs": outputs})
        files.write_bytes(record_path, files.encode(record))
        for path, new in staged.items():
            os.replace(new, path)
        files.fsync_folder(record_path.parent)
        return record

    files.commit = commit


def _complete(record):
    return record() if callable(record) else record


def _overwrite(path, content) -> None:
    if not isinstance(content, bytes):  # it may read the file that it replaces
        aside = path.with_name(f".{path.name}.aside")
        with aside.open("wb") as file:
            content(file)
        content = aside.read_bytes()
        aside.unlink()
    path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def pid_file_lock() -> None:
    """A file that says who runs stands for the lock; nobody removes that of a dead process."""
    from contextlib import contextmanager

    @contextmanager
    def run_lock(path, *more, **settings):
        files.make_folder(path.parent)
        holder = path.with_name(".pid")
        try:
            descriptor = os.open(holder, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except FileExistsError as error:
            raise Busy("another run is at work; nothing to do here") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            holder.unlink()

    files.run_lock = run_lock


PLANTS: dict[str, Callable[[], None]] = {
    "no_fsync": no_fsync,
    "pointer_before_data": pointer_before_data,
    "write_in_place": write_in_place,
    "record_before_data": record_before_data,
    "pid_file_lock": pid_file_lock,
}
