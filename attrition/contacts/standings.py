"""Compute where each client stands on a day from the entries of the contact log: pure, no clock.

A client rests, that is, is not listed, until a cool-down after a contact has passed, until the follow-up
date that was agreed, until the date of a "not before", as long as an override expects the client to
stay, or for ever after "do not contact". The longest of these counts; a follow-up takes the place of the
cool-downs of its contact and of earlier ones.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from attrition.contacts import log
from attrition.contacts.log import Entry

OVERRIDE_DAYS = 90
WAKES_AFTER_RISE = 0.1  # a risk that rose by ten points since ends a "not before" early
NEVER = "9999-12-31"
FOLLOW_UP = "follow_up"
OF_THEN = ("at", "risk", "release")
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

    def to_dict(self, risk: float) -> dict[str, Any]:
        """Return the standing of a client with this risk for JSON, NaN if it is unknown."""
        rest = self.rest(risk)
        is_for_ever = rest is not None and rest.until == NEVER
        return {
            "resting_why": rest.why if rest else None,
            "resting_until": rest.until if rest and not is_for_ever else None,
            "follow_up": self.due_on or None,
            "override": self.override or None,
            "override_until": self.override_until or None,
            "manager": self.manager or None,
            "manager_until": self.manager_until or None,
            "last_contact": self.contacted_on or None,
            "last_outcome": self.last_contact.outcome if self.last_contact else None,
        }


class Rules(NamedTuple):
    """The cool-downs in days, and the date of a time where the client managers work."""

    reached_days: int
    not_reached_days: int
    day_of: Callable[[str], str]


def counting(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that count, without those that a later entry corrects or withdraws.

    A correction has time, risk and release of the entry that it corrects: the contact took place then.
    """
    kept: dict[int, Entry] = {}
    first: dict[int, Entry] = {}  # the entry that an entry corrects, itself if it corrects none
    for entry in entries:
        original = first.get(entry.replaces or 0, entry)
        first[entry.id] = original
        kept.pop(original.id, None)
        if entry.kind != log.WITHDRAWAL:
            then = original._asdict()
            kept[original.id] = entry._replace(**{name: then[name] for name in OF_THEN})
    return [kept[number] for number in sorted(kept)]


def standing(entries: Sequence[Entry], day: str, rules: Rules) -> Standing:
    """Return where a client stands on a day; entries: all of the client, oldest first."""
    valid = counting(entries)
    contacts = [entry for entry in valid if entry.kind == log.CONTACT]
    is_taboo = any(entry.outcome == log.DO_NOT_CONTACT for entry in contacts)
    agreed, later = _split_at_follow_up(contacts)
    snooze = _last(valid, log.NOT_BEFORE)
    override = _in_force(_last(valid, log.OVERRIDE), day)
    moved = _in_force(_last(valid, log.REASSIGNMENT), day)
    rests = [_cooldown(entry, rules) for entry in later]
    due_on = ""
    if agreed:
        rests.append(Rest(agreed.date, FOLLOW_UP))
        is_postponed = snooze and valid.index(snooze) > valid.index(agreed)
        due_on = max(agreed.date, snooze.date) if snooze and is_postponed else agreed.date
    if is_taboo:
        rests.append(Rest(NEVER, log.DO_NOT_CONTACT))
        due_on = ""
    if snooze:
        rests.append(Rest(snooze.date, log.NOT_BEFORE, _wakes_at(snooze)))
    if override and override.outcome == log.STAYS:
        rests.append(Rest(days_after(override.date, 1), log.OVERRIDE, _wakes_at(override)))
    in_force = [rest for rest in rests if rest.until > day]
    last = contacts[-1] if contacts else None
    return Standing(
        rests=tuple(sorted(in_force, key=lambda rest: rest.until, reverse=True)),
        due_on=due_on,
        manager=moved.manager if moved else "",
        manager_until=moved.date if moved else "",
        override=override.outcome if override else "",
        override_until=override.date if override else "",
        last_contact=last,
        contacted_on=rules.day_of(last.at) if last else "",
        entries=tuple(valid),
    )


def _split_at_follow_up(contacts: Sequence[Entry]) -> tuple[Entry | None, Sequence[Entry]]:
    """Return the contact whose follow-up is open, and the contacts after it; None and all if none is.

    A client who was reached needs no earlier follow-up; an attempt without success leaves it open.
    """
    for i in reversed(range(len(contacts))):
        if contacts[i].date:
            return contacts[i], contacts[i + 1 :]
        if contacts[i].outcome not in NOT_IN_REACH:
            break
    return None, contacts


def _in_force(entry: Entry | None, day: str) -> Entry | None:
    """Return an entry until its last day: after it, the model or the data decides again."""
    return entry if entry and entry.date >= day else None


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
