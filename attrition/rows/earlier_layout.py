"""Read accepted rows as the previous version stored them; ingestion rewrites them once.

Its `finaldata.parquet` has the rows in the order of their arrival, and `deliveries.npz` beside it the
lines of ingestedfiles.txt by which they came. Rows of a table were named by a digest of their line.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa

from attrition.config import Config
from attrition.rows import segments, typed_rows
from attrition.rows.known_rows import Identities
from attrition.rows.typed_rows import CLIENT_HASH, DELIVERED, INPUT_ID, NUMBER, OPENED
from attrition.storage import files, tables

NEVER = -1
DIGEST_BYTES = 16


def read_arrivals(config: Config, outputs: Collection[str]) -> dict[str, np.ndarray]:
    """Read number and deliveries of each row.

    If a still earlier version ingested the rows, none was delivered by a known line, and those without
    an outcome count as opened by the first line.
    """
    if config.deliveries.name in outputs:
        arrays = files.read_arrays(config.deliveries)
    else:
        with config.final_data.open("rb") as file:
            next(file)
            opened = np.array([0 if line.endswith(b",\n") else NEVER for line in file], "int32")
        arrays = {DELIVERED: np.full(len(opened), NEVER, "int32"), OPENED: opened}
    return {NUMBER: np.arange(len(arrays[DELIVERED])), **arrays}


def read(
    config: Config, names: Sequence[str], outputs: Collection[str], low: int, high: int, since: int
) -> pa.Table:
    """Read columns of the rows as `segments.read` does."""
    arrivals = read_arrivals(config, outputs)
    asked = [name for name in dict.fromkeys([*names, CLIENT_HASH]) if name not in arrivals]
    rows = segments.read_plain(config.rows, asked)
    for name, values in arrivals.items():
        rows = rows.append_column(name, pa.array(values))
    return segments.limit(rows, low, high, since).select(names)


def is_digest(rows: np.ndarray) -> bool:
    """Return whether the rows of a table are digests."""
    return rows.dtype == np.uint8


def find_identities(config: Config, digests: Mapping[str, np.ndarray]) -> dict[str, Identities]:
    """Return the identities of the rows of each table, by their digests."""
    wanted = {place: {row.tobytes() for row in rows} for place, rows in digests.items()}
    pairs: dict[str, list[np.ndarray]] = {place: [np.empty((0, 2), "uint64")] for place in wanted}
    for block in read_blocks(config):
        texts = typed_rows.parse_lines(b"".join(block), config.columns)
        hashes = typed_rows.compute_hashes(texts, config.columns)
        rows = np.column_stack([hashes[CLIENT_HASH].to_numpy(), hashes[INPUT_ID].to_numpy()])
        keys = [_digest(line[: line.rindex(b",")], config) for line in block]
        for place, members in wanted.items():
            pairs[place].append(rows[[key in members for key in keys]])
    return {
        place: Identities(*np.concatenate(parts).reshape(-1, 2).T) for place, parts in pairs.items()
    }


def read_blocks(config: Config) -> Iterator[list[bytes]]:
    """Yield the lines of finaldata.csv, a row group at a time."""
    with config.final_data.open("rb") as file:
        next(file)
        while block := list(islice(file, tables.ROW_GROUP)):
            yield block


def _digest(key: bytes, config: Config) -> bytes:
    """Return the digest of a line without its outcome."""
    if config.columns.client:
        return _hash(key)
    name, comma, rest = key.partition(b",")
    name, _, number = name.partition(b"-")
    bare = _hash(name + comma + rest)
    return _hash(bare + number) if number else bare


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
