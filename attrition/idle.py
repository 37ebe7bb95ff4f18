"""Return within milliseconds if nothing has changed since the last complete run.

A complete run writes a watch list: the signature of every file, folder and link that it looked at, and
until when the list is valid. As long as all signatures are the same, no content needs to be read again.
Whatever differs or cannot be read is left to the run itself. fullprocess.py asks before it imports
anything else, so only what costs next to nothing is imported here: no json, no pathlib, no logging.

Source: git's index, which compares files in the same way (Documentation/technical/racy-git.txt).
"""

import os
import stat
import time
from _collections_abc import Callable  # in memory already, unlike collections.abc

WATCH_LIST = "watchlist.bin"
VERSION = b"2"
FOLDER_KEY = b'"prod_deployment_path"'
MISSING = "-"
# A file that changed less than this ago may change again and keep its times: the clock of a file system
# advances by steps of up to 10 ms, or of up to 2 s where it stores whole seconds.
STEP_NS, LONG_STEP_NS, SECOND_NS = 20_000_000, 2_000_000_000, 1_000_000_000


def sign(about: os.stat_result) -> str:
    """Return the signature of a file; it differs after each change of the file."""
    place = f"{about.st_dev} {about.st_ino} {about.st_size}"
    return f"{place} {about.st_mtime_ns} {about.st_ctime_ns}"


def sign_path(path: str | bytes) -> str:
    """Return the signature of a file, folder or link by its path; "-" if there is none."""
    try:
        return sign(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return MISSING


def settled_at(*times_ns: int) -> int:
    """Return the time after which any change of a file with these times gives it other times."""
    is_coarse = not any(time_ns % SECOND_NS for time_ns in times_ns)
    return max(times_ns) + (LONG_STEP_NS if is_coarse else STEP_NS)


def is_settled(now_ns: int, *times_ns: int) -> bool:
    """Return whether a change of a file with these times, from now on, gives it other times."""
    return settled_at(*times_ns) < now_ns


def sign_settled(paths: list[str]) -> dict[str, str] | None:
    """Return the signature of each path, if all are settled within 20 ms; else None."""
    for may_wait in (True, False):
        signatures, last_ns, now_ns = {}, 0, time.time_ns()
        for path in paths:
            try:
                about = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                signatures[path] = MISSING
                continue
            last_ns = max(last_ns, settled_at(about.st_mtime_ns, about.st_ctime_ns))
            signatures[path] = sign(about)
        if last_ns < now_ns:
            return signatures
        if not may_wait or last_ns > now_ns + STEP_NS:
            break
        time.sleep((last_ns + 1 - now_ns) / 1e9)
    return None


def checksum(path: str | bytes) -> bytes:
    """Return the CRC-32 of a regular file's content; "-" if there is none.

    Of a file whose times are renewed, the signature says nothing.
    """
    import zlib

    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return b"not a file"
        with open(path, "rb") as file:
            return b"%d" % zlib.crc32(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return MISSING.encode()


def encode(
    *,
    config: str,
    lock: str,
    renewed: tuple[str, str],
    watched: dict[str, str],
    valid: tuple[float, float],
    heartbeat: str = "",
) -> bytes:
    """Return a watch list as bytes.

    renewed: the two files whose times are renewed at each run; watched: signatures by path; valid: since
    and until when, in seconds since 1970; heartbeat: the URL that every run pings, "" if there is none
    """
    import zlib

    since, until = valid
    fields = [VERSION, b"%.3f" % since, b"%.3f" % until]
    fields += [os.fsencode(os.path.abspath(config)), heartbeat.encode(), os.fsencode(lock)]
    fields += [part for path in renewed for part in (os.fsencode(path), checksum(path))]
    fields += [os.fsencode(part) for entry in watched.items() for part in entry]
    body = b"\0".join(fields)
    return b"%d\0" % zlib.crc32(body) + body


def is_idle(arguments: list[str], ping: Callable[[str], object] = lambda url: None) -> bool:
    """Return whether a run with these arguments has nothing to do; if so, complete it.

    The run is counted by renewing the time of the last good one, under the lock, and by `ping`, which
    receives the URL of the heartbeat if there is one.
    """
    beside_scripts = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    quiet, config = False, os.path.join(beside_scripts, "config.json")
    rest = iter(arguments)
    for argument in rest:
        if argument == "--quiet":
            quiet = True
        elif argument == "--config":
            config = next(rest, "")
        else:
            return False
    try:
        fields = read_watch_list(config)
        if fields is None or not check_under_lock(fields):
            return False
        if not quiet:
            print("nothing new", flush=True)
        if fields[4]:
            ping(fields[4].decode())
    except (OSError, ValueError):
        return False
    return True


def read_watch_list(config: str) -> list[bytes] | None:
    """Return the fields of the watch list of a config; None if there is no valid one.

    Only the place of the list is read from the config here. The list names the config that it is of, and
    its signature, so it does not count if the place was read wrongly.
    """
    import zlib

    with open(config, "rb") as file:
        _, key, rest = file.read().partition(FOLDER_KEY)
    colon, quote, value = rest.partition(b'"')
    folder, end, _ = value.partition(b'"')
    if not key or colon.strip() != b":" or not quote or not end or b"\\" in folder:
        return None
    config_path = os.fsencode(os.path.abspath(config))
    beside = os.path.dirname(os.fsencode(config))  # without `..` it would lead past a link
    place = os.path.join(beside, folder, WATCH_LIST.encode())
    with open(place, "rb") as file:
        check, _, body = file.read().partition(b"\0")
    fields = body.split(b"\0")
    if check != b"%d" % zlib.crc32(body) or fields[0] != VERSION or fields[3] != config_path:
        return None
    return fields if float(fields[1]) <= time.time() < float(fields[2]) else None


def check_under_lock(fields: list[bytes]) -> bool:
    """Return whether nothing has changed and no other run works; if so, renew the time of the last."""
    import fcntl

    _, _, _, _, _, lock, last_run, _, metrics, metrics_sum, *_ = fields
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size or not is_unchanged(
            fields
        ):  # or a run left its mark and died
            return False
        os.utime(last_run)
        if metrics_sum != MISSING.encode():
            os.utime(metrics)
    finally:
        os.close(descriptor)
    return True


def is_unchanged(fields: list[bytes]) -> bool:
    """Return whether everything is as the watch list names it."""
    last_run, last_run_sum, metrics, metrics_sum, *watched = fields[6:]
    for path, signature in zip(watched[::2], watched[1::2], strict=True):
        if sign_path(path) != signature.decode():
            return False
    return checksum(last_run) == last_run_sum and checksum(metrics) == metrics_sum


def is_current(config: str) -> bool:
    """Return whether there is a watch list and everything is as it names it."""
    try:
        fields = read_watch_list(config)
        return fields is not None and is_unchanged(fields)
    except (OSError, ValueError):
        return False
