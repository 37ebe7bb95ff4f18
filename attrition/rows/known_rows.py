"""Find rows among all accepted ones by their identity, in sorted arrays.

The identity of a row is a pair of 64-bit hashes: of its client, and of all its columns without the
outcome. 10,000,000 rows need some 300 MB; no Python object exists for a row.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attrition.rows.observations import CLIENT_HASH, OPENED
from attrition.rows.typed_rows import COPY, DAY, EQUAL_ID, INPUT_ID, NUMBER

Hashes = NDArray[np.uint64]
Arrays = Mapping[str, np.ndarray]

OUTCOME = "attrition:outcome"  # a code: -1 if it is open
OPEN, ABSENT = -1, -2
TYPES = {
    **{
        CLIENT_HASH: "uint64",
        INPUT_ID: "uint64",
        OUTCOME: "int8",
        NUMBER: "int64",
        OPENED: "int32",
    },
    **{DAY: "int32", EQUAL_ID: "uint64", COPY: "int32"},
}
# A sorted run is merged with the next one if that is not smaller by this factor, so each row is merged
# only a few times, in however many pieces the rows arrive.
GROWTH = 4
LAST_BITS = 1 << 16
MANY = 10_000  # values that are looked up in their order, so that neighbours share cache lines


def sort_order(client: Hashes, inputs: Hashes) -> NDArray[np.intp]:
    """Return the order of pairs; joined sorted runs are merged in linear time."""
    order = np.argsort(client, kind="stable")
    first = client[order]
    is_tie = np.zeros(len(order), bool)
    is_tie[1:] = first[1:] == first[:-1]
    is_tie[:-1] |= is_tie[1:]
    tied = order[is_tie]
    order[is_tie] = tied[np.lexsort((inputs[tied], client[tied]))]
    return order


def find_pairs(runs: tuple[Hashes, Hashes], client: Hashes, inputs: Hashes) -> NDArray[np.intp]:
    """Return the place of each pair among sorted pairs, -1 if it is not there: (n,) int."""
    clients, others = runs
    if not len(clients) or not len(client):
        return np.full(len(client), -1)
    order = np.argsort(client)  # neighbours are found in the same cache lines
    client, inputs = client[order], inputs[order]
    low = np.searchsorted(clients, client)
    end = np.searchsorted(clients, client, side="right")
    high = end.copy()
    while (is_open := low < high).any():
        middle = (low + high) // 2
        is_less = is_open & (others[np.minimum(middle, len(others) - 1)] < inputs)
        low = np.where(is_less, middle + 1, low)
        high = np.where(is_open & ~is_less, middle, high)
    is_there = low < end
    is_there &= others[np.minimum(low, len(others) - 1)] == inputs
    places = np.empty(len(client), np.intp)
    places[order] = np.where(is_there, low, -1)
    return places


def find_repeated(client: Hashes, inputs: Hashes) -> NDArray[np.bool_]:
    """Return which pairs occur more than once: (n,) bool."""
    is_candidate = find_repeated_values(inputs)
    places = np.flatnonzero(is_candidate)
    order = places[sort_order(client[places], inputs[places])]
    is_same = (client[order[1:]] == client[order[:-1]]) & (inputs[order[1:]] == inputs[order[:-1]])
    result = np.zeros(len(client), bool)
    result[order[1:][is_same]] = result[order[:-1][is_same]] = True
    return result


def find_repeated_values(values: Hashes) -> NDArray[np.bool_]:
    """Return which values occur more than once: (n,) bool."""
    ordered = np.sort(values)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    return is_among(values, np.unique(repeated))


def is_among(values: np.ndarray, members: np.ndarray) -> NDArray[np.bool_]:
    """Return which values are among sorted members: (n,) bool.

    If there are few members, most values are ruled out by their last bits.
    """
    if not len(members):
        return np.zeros(len(values), bool)
    if len(members) > LAST_BITS // 16:
        if len(values) <= MANY or (values[1:] >= values[:-1]).all():
            return _are_at_places(values, members)
        order = np.argsort(values)
        result = np.empty(len(values), bool)
        result[order] = _are_at_places(values[order], members)
        return result
    last = np.asarray(LAST_BITS - 1, values.dtype)
    is_possible = np.zeros(LAST_BITS, bool)
    is_possible[members & last] = True
    result = is_possible[values & last]
    places = np.flatnonzero(result)
    result[places] = _are_at_places(values[places], members)
    return result


def _are_at_places(values: np.ndarray, members: np.ndarray) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[places] == values)


class Identities:
    """A set of identities as sorted arrays."""

    def __init__(self, client: Sequence[int] | Hashes = (), inputs: Sequence[int] | Hashes = ()):
        client, inputs = np.asarray(client, "uint64"), np.asarray(inputs, "uint64")
        order = sort_order(client, inputs)
        client, inputs = client[order], inputs[order]
        is_first = np.ones(len(client), bool)
        is_first[1:] = (client[1:] != client[:-1]) | (inputs[1:] != inputs[:-1])
        self.client, self.inputs = client[is_first], inputs[is_first]

    def __len__(self) -> int:
        return len(self.client)

    def contains(self, client: Hashes, inputs: Hashes) -> NDArray[np.bool_]:
        """Return which pairs are in the set: (n,) bool."""
        return find_pairs((self.client, self.inputs), client, inputs) >= 0

    def filter(self, is_kept: NDArray[np.bool_]) -> "Identities":
        return Identities(self.client[is_kept], self.inputs[is_kept])

    def __or__(self, other: "Identities") -> "Identities":
        return Identities(
            np.append(self.client, other.client), np.append(self.inputs, other.inputs)
        )

    def __and__(self, other: "Identities") -> "Identities":
        return self.filter(other.contains(self.client, self.inputs))

    def __sub__(self, other: "Identities") -> "Identities":
        return self.filter(~other.contains(self.client, self.inputs))


class StoredArrays(dict[str, np.ndarray]):
    """Sorted arrays of a segment; each is read when it is first used, since most new rows need few."""

    def __init__(self, read: Callable[[str], np.ndarray]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = self._read(name)
        return self[name]


class KnownRows:
    """Identity, outcome, number and arrival of each accepted row, in sorted runs."""

    def __init__(self, names: Sequence[str]) -> None:
        """names: of the arrays of each row, among `TYPES`"""
        self.types = {name: TYPES[name] for name in names}
        self._runs: list[dict[str, np.ndarray]] = []
        self._waiting: list[dict[str, np.ndarray]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Arrays) -> None:
        """Add rows that are not there, in any order."""
        arrays = {name: np.asarray(rows[name], kind) for name, kind in self.types.items()}
        self._count += len(arrays[CLIENT_HASH])
        self._waiting.append(arrays)

    def add_stored(self, rows: "StoredArrays") -> None:
        """Add sorted rows that are not there."""
        self._count += len(rows[CLIENT_HASH])
        self._runs.append(rows)

    def find(self, client: Hashes, inputs: Hashes) -> NDArray[np.int64]:
        """Return the places of rows, -1 if there is none; they are valid until rows are added."""
        self._merge_waiting()
        places, start = np.full(len(client), -1), 0
        order = np.argsort(client) if self._runs else places
        for run in self._runs:
            missing = order[places[order] < 0]
            missing = missing[is_among(client[missing], run[CLIENT_HASH])]
            if len(missing):
                pairs = run[CLIENT_HASH], run[INPUT_ID]
                within = find_pairs(pairs, client[missing], inputs[missing])
                missing, within = missing[within >= 0], within[within >= 0]
                if len(within):
                    is_there = run[OUTCOME][within] != ABSENT
                    places[missing[is_there]] = start + within[is_there]
            start += len(run[CLIENT_HASH])
        return places

    def find_clients(self, client: Hashes) -> NDArray[np.bool_]:
        """Return which clients have rows, or had some before this run: (n,) bool."""
        self._merge_waiting()
        result = np.zeros(len(client), bool)
        for run in self._runs:
            result |= is_among(client, run[CLIENT_HASH])
        return result

    def read_clients(self, clients: Hashes) -> dict[str, np.ndarray]:
        """Return the rows of distinct clients."""
        self._merge_waiting()
        parts = [{name: np.empty(0, kind) for name, kind in self.types.items()}]
        for run in self._runs:
            low = np.searchsorted(run[CLIENT_HASH], clients)
            counts = np.searchsorted(run[CLIENT_HASH], clients, side="right") - low
            before = np.cumsum(counts) - counts
            rows = np.arange(counts.sum()) + np.repeat(low - before, counts)
            rows = rows[run[OUTCOME][rows] != ABSENT]
            parts.append({name: run[name][rows] for name in self.types})
        return {name: np.concatenate([part[name] for part in parts]) for name in self.types}

    def get(self, name: str, places: NDArray[np.int64]) -> np.ndarray:
        """Return the values of an array at places of `find`."""
        values, start = np.empty(len(places), self.types[name]), 0
        for run in self._runs:
            is_here = (places >= start) & (places < start + len(run[CLIENT_HASH]))
            if is_here.any():  # else the array need not be read
                values[is_here] = run[name][places[is_here] - start]
            start += len(run[CLIENT_HASH])
        return values

    def change(self, places: NDArray[np.int64], changes: Arrays) -> None:
        """Change arrays at places of `find`."""
        start = 0
        for run in self._runs:
            is_here = (places >= start) & (places < start + len(run[CLIENT_HASH]))
            if is_here.any():
                for name, values in changes.items():
                    run[name][places[is_here] - start] = values[is_here]
            start += len(run[CLIENT_HASH])

    def remove(self, places: NDArray[np.int64]) -> None:
        self.change(places, {OUTCOME: np.full(len(places), ABSENT, "int8")})
        self._count -= len(places)

    def _merge_waiting(self) -> None:
        if self._waiting:
            self._runs.append(self._merge(self._waiting))
            self._waiting = []
        while len(self._runs) > 1 and (
            len(self._runs[-2][CLIENT_HASH]) < GROWTH * len(self._runs[-1][CLIENT_HASH])
        ):
            self._runs[-2:] = [self._merge(self._runs[-2:])]

    def _merge(self, runs: Sequence[Arrays]) -> dict[str, np.ndarray]:
        """Sort rows; those that were removed are left out."""
        arrays = {name: np.concatenate([run[name] for run in runs]) for name in self.types}
        order = sort_order(arrays[CLIENT_HASH], arrays[INPUT_ID])
        order = order[arrays[OUTCOME][order] != ABSENT]
        return {name: arrays.pop(name)[order] for name in self.types}
