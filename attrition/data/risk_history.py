"""The risk of every client over time, in one array that is searched without reading it in full.

The array is sorted by the key of the client. It has a risk for each snapshot, one for each day on which
risks changed: the newest `NEWEST`, and the last of each month before, at most `MOST` in all.
"""

import hashlib
import mmap
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEWEST, MOST = 14, 32
UNKNOWN, SCALE = 65_535, 65_534  # a risk is stored as a whole number of 16 bits
History = NDArray[np.void]


class Snapshot(NamedTuple):
    """The day and the release of an assessment."""

    date: str
    release: str


def empty() -> History:
    return np.zeros(0, _kind(0))


def _kind(snapshots: int) -> np.dtype[np.void]:
    return np.dtype([("key", "<u8"), ("risk", "<u2", (snapshots,))])


def add(
    history: History,
    snapshots: Sequence[Snapshot],
    keys: NDArray[np.uint64],
    risk: NDArray[np.float64],
    snapshot: Snapshot,
) -> tuple[History, list[Snapshot]]:
    """Add a snapshot; it takes the place of one of the same day, and is left out if nothing changed.

    keys, risk: (n,) of the current clients; clients without any risk that is kept are removed

    >>> first, second = Snapshot("2026-05-01", "a"), Snapshot("2026-05-02", "a")
    >>> history, days = add(empty(), [], np.uint64([7]), np.array([0.5]), first)
    >>> history, days = add(history, days, np.uint64([7, 3]), np.array([0.25, 1.0]), second)
    >>> find(history, 7), find(history, 3)
    ([0.5, 0.25], [None, 1.0])
    """
    order = np.argsort(keys)
    keys, earlier = keys[order], np.ascontiguousarray(history["key"])
    both = np.sort(np.concatenate([earlier, keys]), kind="stable")  # merges two sorted runs
    union = both[np.append(True, both[1:] != both[:-1])[: len(both)]]
    risks = np.full((len(union), len(snapshots) + 1), UNKNOWN, "<u2")
    risks[np.searchsorted(union, earlier), :-1] = history["risk"]
    risks[np.searchsorted(union, keys), -1] = np.round(risk[order] * SCALE)
    dates = [*snapshots, snapshot]
    if snapshots and snapshots[-1].date >= snapshot.date:
        dates = [*snapshots[:-1], snapshot._replace(date=snapshots[-1].date)]
        risks = np.delete(risks, -2, axis=1)
    elif snapshots and snapshots[-1].release == snapshot.release and _is_same(risks):
        return history, list(snapshots)
    kept = _kept(dates)
    risks = risks[:, kept]
    has_any = (risks != UNKNOWN).any(axis=1)
    result = np.zeros(int(has_any.sum()), _kind(len(kept)))
    result["key"], result["risk"] = union[has_any], risks[has_any]
    return result, [dates[i] for i in kept]


def _is_same(risks: NDArray[np.uint16]) -> bool:
    return bool((risks[:, -1] == risks[:, -2]).all())


def _kept(snapshots: Sequence[Snapshot]) -> list[int]:
    """Return the places of the snapshots that are kept.

    >>> days = [f"2026-{month:02}-{day:02}" for month in (1, 2, 3) for day in range(1, 11)]
    >>> [days[i] for i in _kept([Snapshot(day, "") for day in days])][:4]
    ['2026-01-10', '2026-02-07', '2026-02-08', '2026-02-09']
    """
    before = len(snapshots) - NEWEST
    ends = [i for i in range(before) if snapshots[i].date[:7] != snapshots[i + 1].date[:7]]
    newest = range(max(before, 0), len(snapshots))
    return [*ends, *newest][-MOST:]


def write(file: IO[bytes], history: History) -> None:
    """Write the array as an .npy file; `np.save` would write past the hash of the file."""
    header = np.lib.format.header_data_from_array_1_0(history)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(history.tobytes())


def open_array(file: IO[bytes]) -> History:
    """Map a file into memory, so that only the parts that are looked at are read."""
    np.lib.format.read_magic(file)
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    return np.memmap(file, kind, mode="r", offset=file.tell(), shape=shape)


def open_hashed(path: Path) -> tuple[str, History]:
    """Map a file into memory; return its sha256 and the array: what is read is what was hashed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return digest, open_array(file)


def find(history: History, key: int) -> list[float | None]:
    """Return the risk of a client at each snapshot, None if he or she was not assessed."""
    at = bisect_left(history["key"], key)
    is_known = at < len(history) and history["key"][at] == key
    stored = history["risk"][at].tolist() if is_known else [UNKNOWN] * history["risk"].shape[1]
    if isinstance(history.base, mmap.mmap):
        history.base.madvise(mmap.MADV_DONTNEED)  # otherwise every look keeps a megabyte in memory
    return [None if each == UNKNOWN else round(each / SCALE, 4) for each in stored]
