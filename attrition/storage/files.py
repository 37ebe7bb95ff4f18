"""Write and read back artefacts: atomic commits, hashes, records, the run lock.

A step writes all of its files in one `commit`: they are staged beside their destination, one rename
makes them valid, and the next run completes a commit that a crash interrupted. So no partial results
exist, whenever a process dies. Standard library only: a run that finds nothing new imports nothing else.
"""

import fcntl
import glob
import hashlib
import io
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from attrition import idle
from attrition.errors import AttritionError, Busy, Damaged

logger = logging.getLogger(__name__)

Content = bytes | Callable[[IO[bytes]], object]
Record = dict[str, Any]

REMOVED = ".removed"  # ending of an empty staged file: the file of this name is removed
STAGING, COMMITTED = ".staging", ".committed"
FOLDER_MODE, FILE_MODE = 0o750, 0o640
CHUNK = 1 << 20
TIME = "%Y-%m-%dT%H:%M:%SZ"
DAY_S = 86_400
# What precedes the seal in a record; only keys of the record itself are indented by one blank.
SEAL = b'\n "seal": "'


class _Hashes:
    """Hashes of files, with the signature of the content that was hashed.

    settled: by this process, of files that cannot change without another signature; earlier: by earlier
    processes; since: when the oldest was computed
    """

    def __init__(self, earlier: dict[str, list[str]], since: float) -> None:
        self.settled: dict[str, list[str]] = {}
        self.earlier, self.since = earlier, since

    def find(self, path: str, about: os.stat_result) -> str | None:
        """Return the hash of a file that has not changed since it was hashed; else None."""
        for hashes in (self.settled, self.earlier):
            signature, digest = hashes.get(path, ("", ""))
            if signature != idle.sign(about):
                continue
            if hashes is self.earlier:
                if max(about.st_mtime_ns, about.st_ctime_ns) > time.time_ns():
                    return None  # the clock was set back
                self.settled[path] = [signature, digest]
            return digest
        return None


_hashes = _Hashes({}, time.time())


def utc_now() -> str:
    """Return the time as UTC ISO 8601, to the second."""
    return time.strftime(TIME, time.gmtime())


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash a file's content; "" if there is no such file.

    If the file has not changed since it was hashed, it is not read again.
    """
    try:
        if (digest := find_hash(str(path), path.stat())) is not None:
            return digest
        with path.open("rb") as file:
            return sha256_open(path, file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return ""


def sha256_open(path: Path, descriptor: int) -> str:
    """Hash an open file from its start, unless it has not changed since it was hashed."""
    began, before = time.time_ns(), os.fstat(descriptor)
    if (known := find_hash(str(path), before)) is not None:
        return known
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK):
        digest.update(chunk)
    keep_hash(str(path), digest.hexdigest(), before, os.fstat(descriptor), began)
    return digest.hexdigest()


def find_hash(key: str, about: os.stat_result) -> str | None:
    """Return the hash of a file that has not changed since it was kept under a key; else None.

    key: the path, followed by NUL and a word if the hash is not that of the content alone
    """
    return _hashes.find(key, about)


def keep_hash(
    key: str, digest: str, before: os.stat_result, after: os.stat_result, began_ns: int
) -> None:
    """Keep the hash of a file that was read from `began_ns` on, unless it changed or may have."""
    is_settled = idle.is_settled(began_ns, after.st_mtime_ns, after.st_ctime_ns)
    if is_settled and idle.sign(before) == idle.sign(after):
        _hashes.settled[key] = [idle.sign(after), digest]


def keep_hashes(digests: Mapping[Path, str]) -> None:
    """Keep the hashes of files that were just written, so that none is read back.

    The hash of a file is not kept if it changed so recently that a later write may not show in its
    times. A commit sets the times of modification back, see `_write_staged`.
    """
    for path, digest in digests.items():
        with suppress(FileNotFoundError):  # removed at once; the next reader notices
            about = path.stat()
            if idle.is_settled(time.time_ns(), about.st_mtime_ns):
                _hashes.settled[str(path)] = [idle.sign(about), digest]


def load_hashes(path: Path) -> None:
    """Load the hashes that earlier processes saved, so that a file is read again only if it changed.

    A file without them costs time, nothing else. All files are hashed again once a day, so that a disk
    that damages a file without a write is noticed.
    """
    global _hashes  # noqa: PLW0603 - what a process knows of the disk
    try:
        record = read_record(path) or {}
    except Damaged:
        record = {}
    now = time.time()
    since, hashes = record.get("since", 0.0), record.get("files", {})
    is_valid = now - DAY_S < since <= now
    _hashes = _Hashes(hashes, since) if is_valid else _Hashes({}, now)


def known_hashes() -> dict[str, list[str]]:
    """Return the hashes of files, with their signatures, as far as this process knows them."""
    return {**_hashes.earlier, **_hashes.settled}


def learn_hashes(hashes: Mapping[str, list[str]]) -> None:
    """Use the hashes of another process: a file with the same signature is not read again."""
    _hashes.earlier.update(hashes)


def forget_hashes() -> None:
    """Let every file be read again."""
    global _hashes  # noqa: PLW0603
    _hashes = _Hashes({}, time.time())


def save_hashes(path: Path) -> float:
    """Save the hashes of files that are as they were hashed; return when the oldest was computed.

    Files that changed too recently to notice another change are hashed by the next reader.
    """
    hashes = {
        name: [signature, digest]
        for name, (signature, digest) in known_hashes().items()
        if signature == idle.sign_path(name.partition("\0")[0])
    }
    data = encode(sealed({"since": _hashes.since, "files": hashes}))
    with suppress(OSError):  # it only saves time
        if not path.is_file() or path.read_bytes() != data:
            write_bytes(path, data)
    return _hashes.since


def make_folder(folder: Path) -> None:
    """Create a durable folder and its parents, not readable by others.

    If a folder is empty, a run may have been killed before the folder's name was on disk.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if next(folder.iterdir(), None) is None:
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    fsync(folder, os.O_DIRECTORY)


def fsync(path: Path, flags: int = 0) -> None:
    """Make sure that what was written to a file or a folder is on disk."""
    with named(path):
        descriptor = os.open(path, os.O_RDONLY | flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the file's name to an error of a call on its descriptor."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_bytes(
    path: Path, data: bytes, mode: int = FILE_MODE, modified: float | None = None
) -> None:
    """Replace one file atomically; remove temporary files that an interrupted write left.

    modified: its modification time, in seconds since 1970; by default now
    """
    make_folder(path.parent)
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left_over.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_new(temporary, data, mode)
    if modified is not None:
        os.utime(temporary, (modified, modified))
    os.replace(temporary, path)
    fsync_folder(path.parent)


def open_to_append(path: Path, mode: int = FILE_MODE, flags: int = 0) -> int:
    """Open a file to append a line; return its descriptor.

    It has a shared lock, so that no line gets lost if `--forget` puts another file in its place.
    NFS wants to read and write a file that it locks.
    """
    flags |= os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


class HashedFile(io.BufferedWriter):
    """A file that is hashed while it is written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "wb"))
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return super().write(data)


def write_new(path: Path, content: Content, mode: int = FILE_MODE) -> str:
    """Create a new, durable file; return its sha256."""
    with named(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        with HashedFile(descriptor) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
    return file.sha256.hexdigest()


# ---- commits


def commit(
    record_path: Path,
    files: Mapping[Path, Content],
    record: Record | Callable[[], Record],
    kept: Mapping[str, str] | None = None,
    at_once: int = 1,
) -> Record:
    """Write files and the record that names them, all or none; return the record.

    All files are in the record's folder. The record gets `outputs`, the sha256 of each file, and a seal.

    record: may be a function that computes it
    kept: the sha256 of outputs that stay as they are; if given, other outputs of the record before that
    are not written again are removed
    at_once: how many threads write the files and compute the record
    """
    folder = record_path.parent
    make_folder(folder)
    finish_commit(folder)
    before = (kept is not None and read_record(record_path)) or {}
    staging = folder / STAGING
    staging.mkdir(mode=FOLDER_MODE)
    assert all(path.parent == folder for path in files), f"a file lies outside {folder}"
    jobs: list[Callable[[], Any]] = [
        partial(_write_staged, staging / path.name, content) for path, content in files.items()
    ]
    jobs.append(record if callable(record) else partial(dict, record))
    *digests, complete = _run_jobs(jobs, at_once)
    outputs = {**(kept or {}), **dict(zip([path.name for path in files], digests, strict=True))}
    for name in {*before.get("outputs", {})} - {*outputs}:
        _write_staged(staging / f"{name}{REMOVED}", b"")
    record = sealed({**complete, "outputs": outputs})
    own = _write_staged(staging / record_path.name, encode(record))
    fsync_folder(staging)
    os.rename(staging, folder / COMMITTED)
    fsync_folder(folder)
    finish_commit(folder)
    keep_hashes({path: outputs[path.name] for path in files} | {record_path: own})
    return record


def _run_jobs(jobs: Sequence[Callable[[], Any]], at_once: int) -> list[Any]:
    """Run jobs, in threads if more than one may run at once; return their results in order."""
    if at_once < 2:
        return [job() for job in jobs]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # begin no other after an error


def _write_staged(path: Path, content: Content) -> str:
    """Create a new file whose modification time is one step of the clock ago; return its sha256.

    If it is written to later, even in the same step, it gets another time.
    """
    digest = write_new(path, content)
    before_ns = time.time_ns() - 2 * idle.STEP_NS
    os.utime(path, ns=(before_ns, before_ns))
    return digest


def finish_commit(folder: Path) -> None:
    """Complete a commit that a crash interrupted; discard one that was not yet valid."""
    committed = folder / COMMITTED
    if _is_left_over(committed):
        for staged in sorted(committed.iterdir(), key=lambda path: (path.suffix == ".json", path)):
            if staged.suffix == REMOVED:
                (folder / staged.stem).unlink(missing_ok=True)
                staged.unlink()
            else:
                os.replace(staged, folder / staged.name)
        fsync_folder(folder)
        fsync_folder(committed)
        committed.rmdir()
        fsync_folder(folder)
    if _is_left_over(folder / STAGING):
        remove_folder(folder / STAGING)


def remove_folder(folder: Path) -> None:
    """Remove a folder and its content; an error names the folder."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        error.filename = str(folder)  # it may be a bare name inside the folder
        raise


def _is_left_over(folder: Path) -> bool:
    """Return whether a run that died left this folder.

    Raises: Damaged if it is not a folder, such as a link that leads elsewhere.
    """
    try:
        mode = folder.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISDIR(mode):
        raise Damaged(f"{folder}: is not the folder of an interrupted run; remove it")
    return True


# ---- records


def encode(record: Record) -> bytes:
    """Return a record as JSON with sorted keys: same record, same bytes."""
    text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogateescape") + b"\n"


def sealed(record: Record) -> Record:
    """Add a hash of the rest, which reveals damage."""
    rest = {key: value for key, value in record.items() if key != "seal"}
    return {**rest, "seal": sha256_bytes(encode(rest))}


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none.

    Raises: Damaged if it is not JSON, or not byte for byte what was sealed.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror})") from error
    # Byte for byte: 1e-05 and 1E-05 are the same number, but only one of them was written.
    try:
        record = json.loads(raw.decode("utf-8", "surrogateescape"))
        intact = isinstance(record, dict) and _is_sealed(raw)
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise Damaged(f"{path}: is not what was written (its seal does not match)")
    return dict(record)


def _is_sealed(raw: bytes) -> bool:
    """Return whether the bytes of a record are those that `sealed` and `encode` gave.

    The seal is taken out of the bytes: to encode the record again would cost ten times as much.
    """
    before, _, after = raw.partition(SEAL)
    digest, quote, after = after[:64], after[64:65], after[65:]
    if after.startswith(b","):
        rest = before + after[1:]
    elif before.endswith(b","):  # the seal is the last key
        rest = before[:-1] + after
    else:  # the only key
        rest = encode({}) if before + after == b"{\n}\n" else b""
    return quote == b'"' and digest == sha256_bytes(rest).encode()


def read_if_up_to_date(record_path: Path, inputs: Mapping[str, str]) -> Record | None:
    """Read a record if its inputs are exactly these and its outputs are intact; else return None.

    If the record is damaged, log that the work is repeated.
    """
    try:
        record = read_record(record_path)
    except Damaged as error:
        logger.warning("%s; it is written again", error)
        return None
    if record is None or record.get("inputs") != dict(inputs):
        return None
    return None if damaged_outputs(record_path.parent, record) else record


def damaged_outputs(folder: Path, record: Record) -> list[str]:
    """Return the names of the files that are missing or differ from the record."""
    outputs = record.get("outputs", {})
    return [name for name, digest in outputs.items() if sha256_file(folder / name) != digest]


# ---- arrays


def arrays_bytes(**arrays: Any) -> bytes:
    """Return named numpy arrays as the bytes of an .npz file: same arrays, same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Read arrays by their names, by default all; pickled objects are refused.

    Raises: Damaged.
    """
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path}: cannot be read ({error})") from error


# ---- one run at a time


@contextmanager
def run_lock(path: Path) -> Iterator[int]:
    """Lock this installation for the duration of the block; yield the lock's descriptor.

    The kernel frees the lock when the process dies.

    Raises: Busy if another process has the lock.
    """
    make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("another run is at work; nothing to do here") from error
        yield descriptor
    finally:
        os.close(descriptor)


def explain(error: OSError) -> AttritionError:
    """Turn a failed system call into an error that names the path."""
    path, reason = error.filename or "a file", error.strerror or error
    return AttritionError(f"{path}: {reason}; nothing was changed")
