"""Draw by chance whom the contact list leaves out, so that the effect of contacting can be measured.

Pure, no clock. The draw of a client in a quarter follows from the key, so that it can be repeated; what
was stored counts for the whole quarter, whatever the key and the share are later. Standard library only.
"""

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

TREATED, CONTROL = "treated", "control"
OUTSIDE = ""
SHARE_AFTER_PROOF = 0.05  # enough to see whether contacting still helps
# The verdicts of looks, and the states of the experiment.
HELPS, HARMS, NO_EFFECT, OPEN, VOID = "helps", "harms", "no_effect", "open", "void"
RUNNING, NO_KEY, OFF = "running", "no_key", "off"


class Assignment(NamedTuple):
    """A client who was above the line of the list for the first time in a quarter.

    arm: "treated" if listed, "control" if held out; release, rank, risk, value: of that time
    observed: the time of the row that was assessed, "" if it has none; share: of those held out
    key_digest: of the key that drew the arm; "" once the client's name is forgotten
    """

    client: str
    quarter: str
    arm: str
    at: str
    release: str
    rank: int
    risk: float
    value: float | None
    observed: str
    share: float
    key_digest: str = ""
    id: int = 0


class Trial(NamedTuple):
    """The experiment on a day.

    key: None if it is unknown, so that only stored assignments count; exempt: clients outside the
    experiment, as are those with a higher value than `value_above`; arms: those stored in the quarter
    """

    quarter: str
    share: float
    key: bytes | None
    exempt: Collection[str]
    value_above: float
    arms: Mapping[str, str]

    def arm(self, client: str, value: float | None) -> str:
        """Return the arm of a client above the line, "" if outside the experiment."""
        if client in self.exempt or (value is not None and value > self.value_above):
            return OUTSIDE
        if client in self.arms:
            return self.arms[client]
        if self.key is None:
            return OUTSIDE
        return draw_arm(self.key, client, self.quarter, self.share)

    def draw(self, rows: Sequence[int], read: "Read") -> list[str]:
        """Return the arms of the clients in these rows of the book."""
        return [self.arm(each["client"], each["value"]) for each in read(rows)]

    def new_assignments(
        self, arms: Mapping[int, str], read: "Read", at: str, release: str
    ) -> list[Assignment]:
        """Return the assignments that are not stored yet; arms: by row of the book."""
        rows = [row for row, arm in arms.items() if arm != OUTSIDE]
        digest = key_digest(self.key)
        return [
            Assignment(
                each["client"],
                self.quarter,
                arms[row],
                at,
                release,
                rank=row + 1,
                risk=each["risk"],
                value=each["value"],
                observed=each["observed_at"] or "",
                share=self.share,
                key_digest=digest,
            )
            for row, each in zip(rows, read(rows), strict=True)
            if each["client"] not in self.arms
        ]


# Returns client, risk, value and observed_at of rows of the book.
Read = Callable[[Sequence[int]], Sequence[Mapping[str, Any]]]


def quarter_of(day: str) -> str:
    """Return the quarter of a date.

    >>> quarter_of("2026-03-31"), quarter_of("2026-04-01")
    ('2026-Q1', '2026-Q2')
    """
    return f"{day[:4]}-Q{(int(day[5:7]) + 2) // 3}"


def draw(key: bytes, client: str, quarter: str) -> float:
    """Return the number in [0, 1) that decides whether a client is held out in a quarter.

    >>> round(draw(b"secret", "Acme", "2026-Q1"), 6)
    0.83282
    """
    text = f"{client}\n{quarter}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hmac.digest(key, text, "sha256")[:8], "big") / 2**64


def draw_arm(key: bytes, client: str, quarter: str, share: float) -> str:
    return CONTROL if draw(key, client, quarter) < share else TREATED


def compare_with_draw(assigned: Iterable[Assignment], key: bytes | None) -> list[bool | None]:
    """Return whether each arm is the one that the key draws, at the share that was stored with it.

    None if that cannot be recomputed: another key drew it, or the client's name is forgotten.
    """
    digest = key_digest(key)
    return [
        each.arm == draw_arm(key, each.client, each.quarter, each.share)
        if key and each.key_digest == digest
        else None
        for each in assigned
    ]


def share_after(verdicts: Sequence[str], share: float) -> float:
    """Return the share held out from now on, given the verdicts of the looks so far, oldest first.

    >>> share_after([], 0.2), share_after(["helps", "open"], 0.2), share_after(["helps", "harms"], 0.2)
    (0.2, 0.05, 0.2)
    """
    decided = [verdict for verdict in verdicts if verdict in (HELPS, HARMS)]
    return min(share, SHARE_AFTER_PROOF) if decided[-1:] == [HELPS] else share


def key_digest(key: bytes | None) -> str:
    """Return what changes with the key and does not reveal it, "" without one."""
    return hmac.digest(key, b"digest", "sha256").hex()[:8] if key else ""
