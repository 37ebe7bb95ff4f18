"""The parts of an assessment, kept so that the next one assesses only the clients who changed since.

Parts depend on the release, the settings, the code and the rows. If ingestion has only added rows beside
the base since, the changed clients are those with new or withdrawn rows, those with another manager, and
those whose outcomes were not asked for before. They are left out when the kept parts are read. After any
other change, or if a file is damaged or missing, all parts are assessed again: these only save time.
"""

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.assessing.parts import Whole, client_hash
from attrition.config import Config
from attrition.data.client_parts import PartFile
from attrition.engine import backends
from attrition.errors import AttritionError
from attrition.rows import ledger
from attrition.rows.ledger import Part
from attrition.rows.typed_rows import CLIENT_HASH
from attrition.storage import files, history, tables

FOLDER, RECORD = "parts", "parts.json"
ROWS_PER_CLIENT = 8  # with so many, a piece of the changed clients has as many rows as a part


class Kept(NamedTuple):
    """Kept parts, and the sorted hashes of the clients who changed since."""

    record: files.Record
    changed: NDArray[np.uint64]

    def pieces(self, rows_per_part: int) -> Iterator[tuple[Part, NDArray[np.uint64]]]:
        """Yield the changed clients in pieces, each with the part in which their rows are."""
        size = max(1, rows_per_part // ROWS_PER_CLIENT)
        for start in range(0, len(self.changed), size):
            piece = self.changed[start : start + size]
            yield Part(int(piece[0]), int(piece[-1]) + 1), piece

    def is_changed(self, client: int) -> bool:
        at = int(np.searchsorted(self.changed, np.uint64(client)))
        return at < len(self.changed) and int(self.changed[at]) == client


class Results(NamedTuple):
    """The files of all parts, the outcomes of the wanted clients, and the newest time of any row."""

    parts: list[PartFile]
    outcomes: Mapping[str, Sequence[tuple[int, bool]]]
    newest: str


def combine(records: Sequence[files.Record]) -> Results:
    """Combine what `assess_part` returned for all parts."""
    return Results(
        [PartFile(record["path"]) for record in records],
        {name: each for record in records for name, each in record["outcomes"].items()},
        max((record["newest"] for record in records), default=""),
    )


def combine_kept(
    config: Config, kept: Kept, records: Sequence[files.Record], whole: Whole
) -> Results | None:
    """Combine kept parts with those of the changed clients.

    Returns None if only earlier rows of changed clients showed that any row is open, or which time is
    the newest. As either is unknown then, all parts must be assessed again.
    """
    parts, results = kept.record["parts"], combine(records)
    others = [part for part in parts if not kept.is_changed(part["newest_client"])]
    newest = max([results.newest, *(part["newest"] for part in others)])
    is_open = [part["open_client"] for part in parts if part["open_client"] is not None]
    has_open = any(record["open_client"] is not None for record in records)
    has_open = has_open or not all(map(kept.is_changed, is_open))
    if has_open != whole.has_open or any(part["newest"] > newest for part in parts):
        return None
    outcomes = {
        name: each
        for part in parts
        for name, each in part["outcomes"].items()
        if name in whole.wanted and not kept.is_changed(client_hash(name, config.columns))
    }
    folder = config.reports_folder / FOLDER
    files_of_parts = [PartFile(folder / part["name"], kept.changed) for part in parts]
    return Results([*files_of_parts, *results.parts], outcomes | dict(results.outcomes), newest)


# ---- on disk


def read(config: Config, release_id: str, whole: Whole) -> Kept | None:
    """Read the kept parts; None if all parts must be assessed again."""
    folder = config.reports_folder / FOLDER
    try:
        record = files.read_record(folder / RECORD)
        if record is None or record["inputs"] != _inputs(config, release_id, whole):
            return None
        if not history.has_generation(config.history, record["ingestion"]):
            return None  # a backup was restored since, so new rows may have the numbers of others
        hashes = {part["name"]: part["sha256"] for part in record["parts"]}
        if any(files.sha256_file(folder / name) != digest for name, digest in hashes.items()):
            return None
    except (AttritionError, OSError):
        return None
    is_later = whole.latest_time >= record["latest_time"]
    times = [part["next_time"] for part in record["parts"] if part["next_time"]]
    if not is_later or any(time <= whole.latest_time for time in times):
        return None
    kept = Kept(record, find_changed(config, record, whole))
    assessed = record["assessed"] + len(kept.changed)
    if assessed > sum(part["clients"] for part in record["parts"]):
        return None  # single changes have cost as much as all parts: keep these anew
    if len(kept.changed):
        record |= {"assessed": assessed}
        try:
            files.write_bytes(folder / RECORD, files.encode(files.sealed(record)))
        except OSError:
            return None
    return kept


def find_changed(config: Config, record: files.Record, whole: Whole) -> NDArray[np.uint64]:
    """Return the sorted hashes of the clients who changed since parts were kept.

    Clients who were listed since do not count as changed: each was a current client then, so that any
    outcome of it has come with a new row.
    """
    rows = ledger.read_table(config, [CLIENT_HASH], since=record["next_number"], is_ordered=False)
    managers = set(whole.managers.items()) ^ set(record["managers"].items())
    names = {name for name, _ in managers} | (whole.judged - {*record["wanted"]})
    names |= set(_withdrawn(config, record["withdrawn_bytes"]))
    hashes = np.array([client_hash(name, config.columns) for name in names], "uint64")
    return np.unique(np.concatenate([rows[CLIENT_HASH].to_numpy(), hashes]))


def _withdrawn(config: Config, start: int) -> Iterator[str]:
    """Yield the clients in withdrawn.csv from a byte on."""
    place = len(ledger.WITHDRAWN_HEADER) + config.columns.table.index(config.columns.client_name)
    with config.withdrawn.open(encoding="utf-8", newline="") as file:
        file.seek(start)
        for row in csv.reader(file):
            yield row[place]


def _inputs(config: Config, release_id: str, whole: Whole) -> files.Record:
    """Return what all parts depend on, except the rows beside the base."""
    return {
        "versions": backends.versions(),
        "release": release_id,
        "settings": config.fingerprint(),
        "other_units": {str(number): name for number, name in whole.other_units.items()},
        "lineage": ledger.read_lineage(config),
        "base": files.sha256_file(config.rows),
    }


def keep(
    config: Config,
    folder: Path,
    records: Sequence[files.Record],
    release_id: str,
    whole: Whole,
) -> list[files.Record]:
    """Keep the parts in a folder instead of the previous ones; return the records with their new paths.

    If all rows fit one row group, no part is kept, because ingestion writes the base anew whenever a row
    arrives.
    """
    state = files.read_record(config.ingestion_record) or {}
    kept = config.reports_folder / FOLDER
    shutil.rmtree(kept, ignore_errors=True)
    if state["rows"] <= tables.ROW_GROUP or state.get("lineage") is None:
        return list(records)
    for record in records:
        files.fsync(record["path"])
    facts = ("sha256", "clients", "outcomes", "open_client", "newest", "newest_client", "next_time")
    record = {
        "inputs": _inputs(config, release_id, whole),
        "ingestion": state["seal"],
        "latest_time": whole.latest_time,
        "next_number": state["next_number"],
        "withdrawn_bytes": config.withdrawn.stat().st_size,
        "managers": dict(whole.managers),
        "wanted": sorted(whole.wanted),
        "has_open": whole.has_open,
        "assessed": 0,
        "parts": [
            {"name": each["path"].name, **{name: each[name] for name in facts}} for each in records
        ],
    }
    files.write_bytes(folder / RECORD, files.encode(files.sealed(record)))
    try:
        os.rename(folder, kept)
    except OSError:
        return list(records)  # something else is there
    files.fsync_folder(config.reports_folder)
    files.keep_hashes({kept / each["path"].name: each["sha256"] for each in records})
    return [{**each, "path": kept / each["path"].name} for each in records]
