"""Compute where each client stands on a day from the entries of the contact log: pure, no clock.

A client rests, that is, is not listed, until a cool-down after a contact has passed, until the follow-up
date that was agreed, until the date of a "not before", as long as an override expects the client to
stay, or for ever after "do not contact". The longest of these counts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from attrition.contacts import log
from attrition.contacts.log import Entry

OVERRIDE_DAYS = 90
WAKES_AFTER_RISE = 0.1  # a risk that rose by ten points since ends a "not before" early
NEVER = "9999-12-31"
FOLLOW_UP = "follow_up"
NOT_IN_REACH = (log.NOT_REACHED, "wrong_person")


class Rest(NamedTuple):
    """Why a client is not listed, and the first day on which he or she may be listed again.

    wakes_at: the risk from which on the client is listed all the same; infinity if none
    """

    until: str
    why: str
    wakes_at: float = math.inf


class Standing(NamedTuple):
    """Where a client stands on a day.

    rests: those in force on the day, the longest first
    due_on: when the follow-up is due, "" if none is open
    manager, manager_until: who has taken over the client, and the last day of that; "" if nobody
    override: "stays", "leaves" or "", and its last day
    last_contact, contacted_on: the newest attempt to contact the client, and its day
    entries: those that count, oldest first
    """

    rests: tuple[Rest, ...] = ()
    due_on: str = ""
    manager: str = ""
    manager_until: str = ""
    override: str = ""
    override_until: str = ""
    last_contact: Entry | None = None
    contacted_on: str = ""
    entries: tuple[Entry, ...] = ()

    def rest(self, risk: float) -> Rest | None:
        """Return the longest rest that holds back a client with this risk; None if there is none."""
        return next((rest for rest in self.rests if not risk >= rest.wakes_at), None)


class Rules(NamedTuple):
    """The cool-downs in days, and the date of a time where the client managers work."""

    reached_days: int
    not_reached_days: int
    day_of: Callable[[str], str]


def counting(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that count, without those that a later entry corrects or withdraws.

    A correction has the time of the entry that it corrects: the contact took place then.
    """
    kept: dict[int, Entry] = {}
    first: dict[int, Entry] = {}  # the entry that an entry corrects, itself if it corrects none
    for entry in entries:
        original = first.get(entry.replaces or 0, entry)
        first[entry.id] = original
        kept.pop(original.id, None)
        if entry.kind != log.WITHDRAWAL:
            kept[original.id] = entry._replace(at=original.at)
    return [kept[number] for number in sorted(kept)]


def standing(entries: Sequence[Entry], day: str, rules: Rules) -> Standing:
    """Return where a client stands on a day; entries: all of the client, oldest first."""
    valid = counting(entries)
    contacts = [entry for entry in valid if entry.kind == log.CONTACT]
    last = contacts[-1] if contacts else None
    snooze = _last(valid, log.NOT_BEFORE)
    override = _last(valid, log.OVERRIDE)
    moved = _last(valid, log.REASSIGNMENT)
    rests = [_cooldown(entry, rules) for entry in contacts]
    due_on = ""
    if last and last.date and last.outcome != log.DO_NOT_CONTACT:
        rests = [Rest(last.date, FOLLOW_UP)]
        due_on = last.date
        if snooze and valid.index(snooze) > valid.index(last):
            due_on = max(due_on, snooze.date)
    rests += [
        Rest(NEVER, log.DO_NOT_CONTACT) for each in contacts if each.outcome == log.DO_NOT_CONTACT
    ][:1]
    if snooze:
        rests.append(Rest(snooze.date, log.NOT_BEFORE, _wakes_at(snooze)))
    if override and override.date < day:
        override = None
    if override and override.outcome == log.STAYS:
        rests.append(Rest(days_after(override.date, 1), log.OVERRIDE, _wakes_at(override)))
    in_force = sorted(
        (rest for rest in rests if rest.until > day), key=lambda rest: rest.until, reverse=True
    )
    if moved and moved.date < day:
        moved = None  # the data decides again
    return Standing(
        rests=tuple(in_force),
        due_on=due_on,
        manager=moved.manager if moved else "",
        manager_until=moved.date if moved else "",
        override=override.outcome if override else "",
        override_until=override.date if override else "",
        last_contact=last,
        contacted_on=rules.day_of(last.at) if last else "",
        entries=tuple(valid),
    )


def _last(entries: Sequence[Entry], kind: str) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.kind == kind), None)


def _cooldown(contact: Entry, rules: Rules) -> Rest:
    missed = contact.outcome in NOT_IN_REACH
    days = rules.not_reached_days if missed else rules.reached_days
    why = log.NOT_REACHED if missed else log.REACHED
    return Rest(days_after(rules.day_of(contact.at), days), why)


def _wakes_at(entry: Entry) -> float:
    return math.inf if entry.risk is None else entry.risk + WAKES_AFTER_RISE


def days_after(day: str, days: int) -> str:
    """Return the date some days after another.

    >>> days_after("2026-11-28", 30)
    '2026-12-28'
    """
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def all_standings(entries: Iterable[Entry], day: str, rules: Rules) -> dict[str, Standing]:
    """Return client -> standing of every client with entries."""
    return {client: standing(own, day, rules) for client, own in by_client(entries).items()}


def by_client(entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    """Group entries by client, each group oldest first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.client, []).append(entry)
    return groups
