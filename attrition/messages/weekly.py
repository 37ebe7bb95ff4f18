"""Decide when the weekly mails are due, and to whom; each is sent once a week.

Without pandas and numpy: every run that has work asks.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from attrition.config import WEEKDAYS, Config
from attrition.storage import files, history


class Recipient(NamedTuple):
    """Who gets a digest: the clients of one manager, or those of the whole team if that is None."""

    manager: str | None
    address: str


def starts_at(config: Config, now: str) -> datetime:
    """Return from when the digest of the present week is sent, perhaps later today."""
    assert config.digest
    today = date.fromisoformat(config.day(now))
    days = (today.weekday() - WEEKDAYS.index(config.digest.weekday)) % 7
    hour = time(config.digest.hour, tzinfo=ZoneInfo(config.time_zone))
    return datetime.combine(today - timedelta(days=days), hour)


def missing(config: Config, now: str) -> dict[str, Recipient]:
    """Return by its id who has no digest of the present week yet."""
    assert config.digest
    start = starts_at(config, now)
    if datetime.fromisoformat(now) < start:
        return {}
    recipients = [Recipient(name, address) for name, address in config.digest.managers]
    recipients += [Recipient(None, address) for address in config.digest.lead]
    names = {_name(start.date(), each): each for each in recipients}
    stored = {row["message"] for row in history.read_messages(config.history, [*names])}
    return {name: each for name, each in names.items() if name not in stored}


def _name(start: date, recipient: Recipient) -> str:
    digest = files.sha256_bytes(files.encode(recipient._asdict()))
    return f"digest-{start}-{digest[:12]}"


def next_at(config: Config, now: str) -> str:
    """Return when the next digest is due: now if one of this week is missing."""
    start = starts_at(config, now)
    if datetime.fromisoformat(now) >= start and not missing(config, now):
        start += timedelta(days=7)
    return start.astimezone(UTC).strftime(files.TIME)
