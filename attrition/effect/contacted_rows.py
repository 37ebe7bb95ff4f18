"""Find the rows whose outcome a contact may have changed, so that training need not learn from it."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attrition.config import Config, find_day
from attrition.contacts import log, standings
from attrition.contacts.standings import NOT_IN_REACH
from attrition.rows import ledger, observations, typed_rows
from attrition.storage import tables

DAY = len("2026-01-01")


def find_contacted(config: Config) -> NDArray[np.uint64]:
    """Return the sorted ids of the rows whose clients were reached between observation and outcome.

    Without times, a row was observed when it arrived without an outcome. If it never did, or arrived
    long after its outcome, a contact before its arrival counts all the same: only `outcome_after_days`
    says how long before. Empty if there is no experiment.
    """
    if config.contact_rule is None:
        return np.empty(0, "uint64")
    time_zone, days = config.contact_rule
    if not (reached := _read_reached(config.contact_log, time_zone)):
        return np.empty(0, "uint64")
    columns = config.columns
    facts = (typed_rows.DELIVERED, typed_rows.OPENED, typed_rows.ROW_ID)
    names = [columns.client_name, columns.outcome, *filter(None, [columns.time]), *facts]
    is_stored = ledger.read_next_number(config) > 0  # not by an earlier version
    hashes = np.unique(np.array([observations.name_hash(name) for name in reached], "uint64"))
    table = ledger.read_table(config, names, clients=hashes if is_stored else None)
    rows = tables.to_frame(table)
    rows = rows[rows[columns.client_name].isin(reached) & rows[columns.outcome].notna()]
    arrived = [line.ingested_at for line in ledger.read_lines(config)]
    times = rows[columns.time] if columns.time else [""] * len(rows)
    ids = [
        row_id
        for client, time, delivered, opened, row_id in zip(
            rows[columns.client_name], times, *(rows[name] for name in facts), strict=True
        )
        if delivered != ledger.NEVER
        and is_between(
            reached[client],
            observed_on=time[:DAY],
            opened_at="" if time or opened == ledger.NEVER else arrived[opened],
            arrived_at=arrived[delivered],
            days=days,
        )
    ]
    return np.unique(np.array(ids, "uint64"))


def is_between(
    contacts: Sequence[tuple[str, str]],
    *,
    observed_on: str,
    opened_at: str,
    arrived_at: str,
    days: float | None,
) -> bool:
    """Return whether a contact took place after the observation and before the outcome.

    contacts: the time (UTC) and the day of each; observed_on, opened_at: "" if unknown; days: until the
    outcome counts, None if unknown

    >>> contacts = [("2026-02-03T09:00:00Z", "2026-02-03")]
    >>> row = {"observed_on": "2026-01-01", "opened_at": "", "arrived_at": "2026-04-01T06:00:00Z"}
    >>> is_between(contacts, **row, days=None), is_between(contacts, **row, days=30)
    (True, False)
    """
    between = [day for at, day in contacts if opened_at <= at < arrived_at and observed_on <= day]
    if not observed_on or days is None:
        return bool(between)
    first = date.fromisoformat(observed_on)
    return any((date.fromisoformat(day) - first).days <= days for day in between)


def _read_reached(contact_log: Path, time_zone: str) -> dict[str, list[tuple[str, str]]]:
    """Return client -> the time and the day of each contact in which he or she was reached."""
    entries, _ = log.read(contact_log)
    reached: dict[str, list[tuple[str, str]]] = {}
    for entry in standings.counting(entries):
        if entry.kind == log.CONTACT and entry.outcome not in NOT_IN_REACH:
            reached.setdefault(entry.client, []).append((entry.at, find_day(entry.at, time_zone)))
    return reached
