"""The rules of the contact list once more, written from their description and not from the code.

`check_list` and `check_replaced` compare the code with them on the cases that `cases` draws.
"""

import hashlib
import math
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from attrition.contacts import log, ranking, standings
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Book, Capacity
from attrition.contacts.standings import Rules

RULES = Rules(30, 3, lambda at: at[:10])
MONDAY = date(2026, 11, 2)
MANAGERS = ("", "Ann", "Bob", "Cem")


def draw_again(key, client, quarter):
    """HMAC-SHA256 of RFC 2104, written out; its first eight bytes as a number in [0, 1)."""
    block = key.ljust(64, b"\0")
    inner = bytes(byte ^ 0x36 for byte in block) + f"{client}\n{quarter}".encode()
    outer = bytes(byte ^ 0x5C for byte in block) + hashlib.sha256(inner).digest()
    number = 0
    for byte in hashlib.sha256(outer).digest()[:8]:
        number = number * 256 + byte
    return number / 2**64


def day(number):
    """Return the ISO date so many days after the first Monday of November."""
    return (MONDAY + timedelta(days=number)).isoformat()


class Case(NamedTuple):
    """Clients with entries, each list oldest first, and the book, capacity and day of a list.

    arms: of each client in the experiment, "" if outside it; None if there is none
    """

    entries: dict[int, list[Entry]]
    book: Book
    capacity: Capacity
    today: int
    order: str
    arms: list[str] | None


def survivors(entries):
    """Return the entries that count: (number of the first version, the last version)."""
    versions = []  # of each entry, oldest first
    for entry in entries:
        known = [each for each in versions if each[-1].id == entry.replaces]
        if known:
            known[0].append(entry)
        else:
            versions.append([entry])
    alive = [each for each in versions if each[-1].kind != "withdrawal"]
    return [(each[0], each[-1]) for each in alive]


def may_be_listed(entries, today, risk):
    """Return whether the rules allow a client to be listed on a day."""
    contacts, before, opinion = [], None, None
    for first, last in survivors(entries):
        made = (date.fromisoformat(first.at[:10]) - MONDAY).days
        until = (date.fromisoformat(last.date) - MONDAY).days if last.date else None
        if last.kind == "contact":
            contacts.append((last.outcome, made, until))
        elif last.kind == "not_before":
            before = until, first.risk
        elif last.kind == "override":
            opinion = last.outcome, until, first.risk
    if any(outcome == "do_not_contact" for outcome, _, _ in contacts):
        return False
    if before and today < before[0] and not risk >= before[1] + 0.1:
        return False
    if opinion and opinion[0] == "stays" and today <= opinion[1] and not risk >= opinion[2] + 0.1:
        return False
    while contacts:
        outcome, made, until = contacts.pop()
        is_missed = outcome in ("not_reached", "wrong_person")
        if until is not None:
            return today >= until
        if today < made + (3 if is_missed else 30):
            return False
        if not is_missed:
            return True  # an older cool-down ended earlier, an older follow-up is settled
    return True


def expected_places(case, able, claims, manager_of):
    """Return the rows that get a place, place by place."""
    total, own = case.capacity
    order = sorted(able, key=lambda row: (row not in claims, listed_place(case, row)))
    own_left, listed = dict(own), []
    shared_left = total - sum(own.values())
    for row in order:
        name = manager_of[row]
        if name in own_left:
            if own_left[name]:
                own_left[name] -= 1
                listed.append(row)
        elif shared_left:
            shared_left -= 1
            listed.append(row)
    for row in order:
        if row not in listed and len(listed) < total and own.get(manager_of[row]) != 0:
            listed.append(row)
    return set(listed)


def listed_place(case, row):
    """Return what sorts the list: by value at risk, or by risk; clients without a value last."""
    value = case.book.value_at_risk[row]
    if case.order == "risk":
        return (0, 0.0, row)
    return (math.isnan(value), 0.0 if math.isnan(value) else -value, row)


@st.composite
def entries_of(draw, client, first_id, today):
    """Draw what was entered about a client until a day; corrections and withdrawals are valid."""
    entries, number = [], draw(st.integers(today - 100, today))
    for i in range(draw(st.integers(0, 5))):
        number = min(today, number + draw(st.integers(0, 40)))
        counting = [last for _, last in survivors(entries)]
        old = draw(st.sampled_from([None, None, None, *counting]))
        kind = (
            draw(st.sampled_from(["contact", "contact", *log.KINDS[:4]])) if not old else old.kind
        )
        made = {"id": first_id + i, "at": f"{day(number)}T09:00:00Z", "by": "Ann", "client": client}
        made["risk"] = draw(st.sampled_from([0.1, 0.3, 0.5, 0.7]))
        if old and draw(st.booleans()):
            entries.append(Entry(**made, kind="withdrawal", replaces=old.id))
            continue
        until = day(number + draw(st.integers(0, 60)))
        outcome = {
            "contact": draw(st.sampled_from([*log.OUTCOMES, "reached", "not_reached"])),
            "override": draw(st.sampled_from(["stays", "leaves"])),
        }.get(kind, "")
        is_dated = kind != "contact" or (outcome != "do_not_contact" and draw(st.booleans()))
        made |= {"date": until if is_dated else "", "outcome": outcome, "kind": kind}
        made["manager"] = draw(st.sampled_from(MANAGERS[1:])) if kind == "reassignment" else ""
        entries.append(Entry(**made, replaces=old.id if old else None))
    return entries


@st.composite
def cases(draw):
    n, today = draw(st.integers(1, 8)), draw(st.integers(0, 120))
    some = st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.4, 0.55, 0.6, 0.9, 1.0])
    risk = np.array(sorted(draw(st.lists(some, min_size=n, max_size=n)), reverse=True))
    worth = st.sampled_from([math.nan, 0.0, 10.0, 10.0, 500.0])
    value = np.array(draw(st.lists(worth, min_size=n, max_size=n)))
    ends = st.sampled_from(["NaT", "NaT", day(today - 1), day(today), day(today + 9)])
    book = Book(
        risk=risk,
        value=value,
        value_at_risk=value * risk,
        manager=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=np.int32),
        managers=list(MANAGERS[:3]),
        due=np.array(draw(st.lists(ends, min_size=n, max_size=n)), dtype="datetime64[D]"),
        previous_rank=np.array(
            draw(st.lists(st.sampled_from([0, 1, 2]), min_size=n, max_size=n)), dtype=np.int32
        ),
        risk_change=np.array(
            draw(st.lists(st.sampled_from([math.nan, 0.0, 0.2]), min_size=n, max_size=n))
        ),
    )
    own = draw(st.dictionaries(st.sampled_from(MANAGERS[1:]), st.integers(0, 2), max_size=3))
    capacity = Capacity(sum(own.values()) + draw(st.integers(0, 4)), own)
    rows = draw(st.sets(st.integers(0, n - 1)))
    entries = {row: draw(entries_of(f"c{row}", 1 + 10 * row, today)) for row in sorted(rows)}
    order = draw(st.sampled_from(["risk", "value_at_risk"]))
    arm = st.sampled_from(["", "treated", "control", "control"])
    arms = draw(st.none() | st.lists(arm, min_size=n, max_size=n))
    return Case(entries, book, capacity, today, order, arms)


def make_list(case):
    by_row = {
        row: standings.standing(own, day(case.today), RULES)
        for row, own in case.entries.items()
        if own
    }
    order = ranking.order_of_list(case.book, case.order)
    draw = (lambda rows: [case.arms[row] for row in rows]) if case.arms else None
    return by_row, ranking.make_list(case.book, order, by_row, case.capacity, day(case.today), draw)


def check_list(case):
    """Check the list of a case against the rules."""
    by_row, listed = make_list(case)
    book, today, rows = case.book, case.today, listed.rows.tolist()
    n = len(book.risk)
    free = {r for r in range(n) if may_be_listed(case.entries.get(r, []), today, book.risk[r])}
    ended = {r for r in range(n) if book.due[r] < np.datetime64(day(today))}
    able = free - ended
    assert set(rows) <= able
    assert set(listed.resting) == set(range(n)) - free
    assert set(listed.past_due.tolist()) == ended
    due = {r for r in able if r in by_row and "" < by_row[r].due_on <= day(today)}
    claims = due | {r for r in able if r in by_row and by_row[r].override == "leaves"}
    names = [book.managers[code] for code in book.manager]
    places = case.capacity.of_manager
    moved = {
        r: by_row[r].manager for r in by_row if by_row[r].manager and places.get(names[r]) == 0
    }
    manager_of = [moved.get(r, names[r]) for r in range(n)]
    held = {r for r in able - claims if case.arms and case.arms[r] == "control"}
    assert set(rows) == expected_places(case, able - held, claims, manager_of)
    above = {r for r in held if r in expected_places(case, able - held | {r}, claims, manager_of)}
    assert set(listed.held_out) == above
    drawn = (above | set(rows)) - claims if case.arms else set()
    assert listed.arms == {r: case.arms[r] for r in drawn}, "nobody else is drawn"
    assert rows == sorted(rows, key=lambda row: listed_place(case, row))
    assert len(rows) == len(set(rows)) <= case.capacity.total
    assert len(listed.blocks) == len(rows)
    assert set(listed.blocks) <= set(ranking.BLOCKS)
    assert sum(listed.counts().values()) == len(rows)
    assert {
        r for r, block in zip(rows, listed.blocks, strict=True) if block in ("overdue", "due")
    } == (due & set(rows))
    assert set(listed.waiting.tolist()) == due - set(rows)
    gone = {r for r in range(n) if book.previous_rank[r] and r not in rows}
    assert set(listed.gone) == gone
    again = make_list(case)[1]
    assert (again.rows.tolist(), again.status) == (rows, listed.status)


def check_replaced(case):
    """Check that a withdrawn entry leaves the state without it, a corrected one that of the right."""
    for own in case.entries.values():
        for first, last in survivors(own):
            versions = chain(own, last)
            number, at = max(entry.id for entry in own) + 1, own[-1].at
            withdrawn = Entry("c", "withdrawal", "Ann", replaces=last.id, id=number, at=at)
            rest = [entry for entry in own if entry.id not in versions]
            assert same(case, [*own, withdrawn], rest)
            changed = last._replace(note="other", outcome=last.outcome and "reached", date=day(130))
            corrected = changed._replace(id=number, replaces=last.id, at=at, risk=0.99)
            right = changed._replace(id=first.id, replaces=None, at=first.at, risk=first.risk)
            in_place = sorted([*rest, right], key=lambda entry: entry.id)
            assert same(case, [*own, corrected], in_place)


def chain(entries, last):
    """Return the numbers of all versions of an entry."""
    numbers = [last.id]
    for entry in reversed(entries):
        if entry.id == numbers[-1] and entry.replaces is not None:
            numbers.append(entry.replaces)
    return set(numbers)


def same(case, one, two):
    def plain(entry):
        return entry and entry._replace(id=0, replaces=None)

    results = [standings.standing(entries, day(case.today), RULES) for entries in (one, two)]
    first, second = (
        each._replace(
            entries=tuple(map(plain, each.entries)), last_contact=plain(each.last_contact)
        )
        for each in results
    )
    return first == second
