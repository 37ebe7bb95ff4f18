"""Read the last assessment, with which a new one is compared."""

import logging
from pathlib import Path
from typing import NamedTuple

from attrition.config import Config
from attrition.contacts import daily_list
from attrition.contacts.daily_list import Earlier
from attrition.data import clients, risk_history
from attrition.data.risk_history import History, Snapshot
from attrition.errors import Damaged
from attrition.storage import files

logger = logging.getLogger(__name__)


class Last(NamedTuple):
    """The last assessment, as far as it can be read.

    listed: the clients on its list, None if they cannot be read; earlier: the last one of an earlier day
    """

    record: files.Record
    listed: set[str] | None
    earlier: Earlier | None
    history: History
    snapshots: list[Snapshot]


def read_last(config: Config, day: str) -> Last:
    """Read what an assessment on this day is compared with."""
    nothing = Last({}, None, None, risk_history.empty(), [])
    try:
        record = files.read_record(config.assessment_record)
    except Damaged:
        return nothing
    if record is None:
        return nothing._replace(listed=set())
    listed, earlier = None, None
    if _is_intact(config.clients, record):
        last_day = record.get("day") or config.day(record["assessed_at"])  # of an earlier version
        table = clients.read_earlier(config.clients)
        listed = daily_list.listed_clients(table)
        earlier = Earlier(table, last_day, record["release"]) if last_day < day else None
    else:
        logger.warning("%s: not as it was written; no list to compare with", config.clients)
    if earlier is None and _is_intact(config.earlier_clients, record):
        table = clients.read_earlier(config.earlier_clients)
        earlier = Earlier(table, record["changes_since"], record["earlier_release"])
    if _is_intact(config.risk_history, record):
        with config.risk_history.open("rb") as file:
            risks = risk_history.open_array(file)
        return Last(
            record, listed, earlier, risks, [Snapshot(**one) for one in record["snapshots"]]
        )
    return Last(record, listed, earlier, *_begin_history(earlier))


def _begin_history(earlier: Earlier | None) -> tuple[History, list[Snapshot]]:
    """Begin the history of risks with the assessment of an earlier day, if there is one."""
    if earlier is None:
        return risk_history.empty(), []
    keys, snapshot = earlier.table[clients.KEY].to_numpy(), Snapshot(earlier.day, earlier.release)
    return risk_history.add(risk_history.empty(), [], keys, earlier.numbers("risk"), snapshot)


def _is_intact(path: Path, record: files.Record) -> bool:
    digest = record["outputs"].get(path.name)
    return digest is not None and files.sha256_file(path) == digest
