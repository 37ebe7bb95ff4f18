"""Limit how often a caller may send a request, and how often a password may be tried.

Both count in the memory of one worker: with two workers, twice as much gets through. The caller passes
the time in, in seconds of a clock that never goes back.
"""

import math
from threading import Lock

WINDOW_S = 60
FREE_TRIES, MAX_DELAY_S, FORGET_S, MAX_KEYS = 3, 60, 900, 10_000


class RequestLimit:
    """A limit of requests per caller and minute of the clock (a fixed window)."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._minute, self._counts = 0, dict[str, int]()
        self._lock = Lock()

    def take(self, caller: str, now: float) -> int:
        """Count a request; return 0 if it may proceed, else the seconds until the next minute."""
        if self._per_minute is None:
            return 0
        with self._lock:
            if int(now // WINDOW_S) != self._minute:
                self._minute, self._counts = int(now // WINDOW_S), {}
            self._counts[caller] = count = self._counts.get(caller, 0) + 1
        return 0 if count <= self._per_minute else math.ceil(WINDOW_S - now % WINDOW_S)


class FailureDelay:
    """A delay after failed sign-ins: none for the first three, then 2, 4, 8 and up to 60 seconds.

    It counts by address, so that one address cannot try many names, and by name and address, so that
    nobody can lock somebody else out from another address.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[str, ...], tuple[int, float]] = {}
        self._lock = Lock()

    def wait(self, name: str, address: str, now: float) -> int:
        """Return the seconds until the next try; 0 if it may be made now."""
        with self._lock:
            return max(self._wait(key, now) for key in ((address,), (address, name)))

    def _wait(self, key: tuple[str, ...], now: float) -> int:
        count, last = self._failures.get(key, (0, now))
        return max(0, math.ceil(last + delay_s(count) - now))

    def fail(self, name: str, address: str, now: float) -> None:
        """Count a failed sign-in; after fifteen minutes without a failure, the count starts again."""
        with self._lock:
            for key in ((address,), (address, name)):
                count, last = self._failures.pop(key, (0, now))
                self._failures[key] = (count + 1 if now - last < FORGET_S else 1, now)
            while len(self._failures) > MAX_KEYS:
                del self._failures[next(iter(self._failures))]  # the oldest

    def succeed(self, name: str, address: str) -> None:
        """Forget the failures of a user who has signed in."""
        with self._lock:
            for key in ((address,), (address, name)):
                self._failures.pop(key, None)


def delay_s(failures: int) -> int:
    """Return the delay after so many failures.

    >>> [delay_s(n) for n in (0, 3, 4, 5, 8, 9, 2000)]
    [0, 0, 2, 4, 32, 60, 60]
    """
    return 0 if failures <= FREE_TRIES else min(MAX_DELAY_S, 2 ** min(failures - FREE_TRIES, 10))
