"""Describe entries of the contact log, rests and places on the list in the words of the pages.

`day` is the present date where the client managers work: dates near it are named by it.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from attrition import wording
from attrition.contacts import fields, log, ranking, standings
from attrition.contacts.log import Entry
from attrition.contacts.standings import Rest, Standing

Row = Mapping[str, Any]

REASONS_SHOWN = 3
OUTCOMES = {
    log.REACHED: "reached",
    "will_stay": "reached, will stay",
    "will_leave": "reached, will leave",
    log.NOT_REACHED: "not reached",
    "wrong_person": "wrong contact person",
    log.DO_NOT_CONTACT: "do not contact again",
}
OVERRIDES = {log.STAYS: "will stay", log.LEAVES: "will leave"}
GONE = {
    log.REACHED: "was reached",
    log.NOT_REACHED: "was not reached",
    log.DO_NOT_CONTACT: "do not contact",
    log.NOT_BEFORE: "snoozed until a later date",
    log.OVERRIDE: "the manager expects them to stay",
    standings.FOLLOW_UP: "a follow-up is agreed for later",
    ranking.PAST_DUE: "the contract has ended",
    ranking.NO_PLACE: "other clients were more urgent",
    "left": "has left",
    "not_current": "is no longer a current client",
}
KINDS = {
    log.CONTACT: "Contact",
    log.NOT_BEFORE: "Snoozed",
    log.OVERRIDE: "Disagreement with the risk",
    log.REASSIGNMENT: "Handed over",
    log.WITHDRAWAL: "Withdrawal",
}
BADGES = {
    ranking.OVERDUE: ("overdue", "bad"),
    ranking.DUE: ("due today", "warn"),
    ranking.NEW: ("new", "accent"),
    ranking.BACK: ("back", "accent"),
    ranking.RISEN: ("risen", "warn"),
}


def day_text(on: str, day: str) -> str:
    """Format a date; the year only if it is another one.

    >>> day_text("2026-12-05", "2026-11-28"), day_text("2027-05-03", "2026-11-28")
    ('5 December', '3 May 2027')
    >>> day_text("2026-11-28", "2026-11-28"), day_text("2026-11-29", "2026-11-28")
    ('today', 'tomorrow')
    """
    at = date.fromisoformat(on)
    near = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get((at - date.fromisoformat(day)).days)
    year = "" if on[:4] == day[:4] else f" {at.year}"
    return near or f"{at.day} {at:%B}{year}"


def long_day(on: str) -> str:
    """Format a date with its weekday.

    >>> long_day("2026-12-05")
    'Saturday, 5 December 2026'
    """
    at = date.fromisoformat(on)
    return f"{at:%A}, {at.day} {at:%B %Y}"


def days_ago(on: str, day: str) -> str:
    """Format how many days a date lies back.

    >>> days_ago("2026-11-25", "2026-11-28"), days_ago("2026-11-27", "2026-11-28")
    ('3 days ago', 'yesterday')
    """
    days = (date.fromisoformat(day) - date.fromisoformat(on)).days
    return f"{wording.plural(days, 'day')} ago" if days > 1 else day_text(on, day)


def entry_text(entry: Entry, day: str) -> str:
    """Describe what was entered, without the note.

    >>> entry_text(Entry("A", "contact", "Ann", "will_stay", date="2026-12-05"), "2026-11-28")
    'reached, will stay; follow-up on 5 December'
    >>> entry_text(Entry("A", "reassignment", "Ann", manager="Bob", date="2026-12-05"), "2026-11-28")
    'handed over to Bob until 5 December'
    """
    on = day_text(entry.date, day) if entry.date else ""
    if entry.kind == log.CONTACT:
        when = on if on in ("today", "tomorrow", "yesterday") else f"on {on}"
        outcome = OUTCOMES.get(entry.outcome, entry.outcome)
        return f"{outcome}; follow-up {when}" if on else outcome
    if entry.kind == log.NOT_BEFORE:
        return f"snoozed until {on}"
    if entry.kind == log.OVERRIDE:
        view = OVERRIDES.get(entry.outcome, entry.outcome).removeprefix("will ")
        return f"the manager expects them to {view} (until {on})"
    if entry.kind == log.REASSIGNMENT:
        return f"handed over to {entry.manager} until {on}"
    return "an earlier entry withdrawn"


def contract_text(entry: Entry, ends: Sequence[str], day: str) -> str:
    """Warn that contracts end before the date of an entry; "" if none does, or if it agrees no call.

    ends: of the contract of each client for whom the entry was made, "" if unknown

    >>> entry = Entry("A", "not_before", "Ann", date="2027-02-01")
    >>> contract_text(entry, ["2027-01-08"], "2026-11-28")
    'The contract ends before that, on 8 January 2027.'
    >>> contract_text(entry, ["2027-01-08", "2027-01-09", "2027-02-01"], "2026-11-28")
    'The contracts of 2 clients end before that.'
    """
    is_call = entry.kind in (log.CONTACT, log.NOT_BEFORE) and entry.outcome != log.DO_NOT_CONTACT
    early = [on for on in ends if is_call and on and on < entry.date]
    if not early:
        return ""
    if len(early) > 1:
        return f"The contracts of {len(early):,} clients end before that."
    if len(ends) > 1:
        return "The contract of 1 client ends before that."
    on = day_text(early[0], day)
    when = on if on in ("today", "tomorrow", "yesterday") else f"on {on}"
    return f"The contract {'ended' if early[0] < day else 'ends'} before that, {when}."


def rest_text(rest: Rest, day: str) -> str:
    """Describe why a client is not listed, and until when.

    >>> rest_text(Rest("2026-12-05", "follow_up"), "2026-11-28")
    'Off the list until 5 December: follow-up agreed'
    """
    if rest.why == log.DO_NOT_CONTACT:
        return "Off the list: do not contact"
    until = day_text(rest.until, day)
    if rest.why == log.NOT_BEFORE:
        return f"Snoozed until {until}"
    why = {
        standings.FOLLOW_UP: "follow-up agreed",
        log.OVERRIDE: "the manager expects them to stay",
        log.REACHED: "reached recently",
        log.NOT_REACHED: "tried recently, not reached",
    }
    return f"Off the list until {until}: {why.get(rest.why, rest.why)}"


def place_text(row: Row, day: str) -> str:
    """Describe why a client is on the list or is not; "" if only risk and value decide.

    row: a client with what the log says of it, see `worklist.Worklist.overlay`
    """
    if row["list_rank"] is None and is_past_due(row, day):
        return "Off the list: the contract has ended"
    if row["resting_until"]:
        return rest_text(Rest(row["resting_until"], row["resting_why"]), day)
    if row["follow_up"] and row["follow_up"] <= day:
        when = day_text(row["follow_up"], day)
        late = row["follow_up"] < day
        ago = f", {days_ago(row['follow_up'], day)}" if late and when != "yesterday" else ""
        place = "; no place on the list today" if row["list_rank"] is None else ""
        return f"Follow-up {'was' if late else 'is'} due {when}{ago}{place}"
    if row["override"] == log.LEAVES:
        until = day_text(row["override_until"], day)
        return f"The manager expects them to leave (until {until})"
    return ""


def is_past_due(row: Row, day: str) -> bool:
    return bool(row.get("due")) and row["due"] < day


def contact_text(row: Row, day: str) -> str:
    """Describe the last contact with a client; "" if there was none."""
    if not row["last_contact"]:
        return ""
    outcome = OUTCOMES.get(row["last_outcome"], row["last_outcome"])
    return f"{days_ago(row['last_contact'], day)}: {outcome} ({row['last_contact_by']})"


def dated_contact_text(row: Row) -> str:
    """Describe the last contact with a client by its date; "" if there was none.

    >>> reached = {"last_outcome": "not_reached", "last_contact_by": "Grace Liu"}
    >>> dated_contact_text({"last_contact": "2026-11-23"} | reached)
    '2026-11-23: not reached (Grace Liu)'
    """
    if not row.get("last_contact"):
        return ""
    outcome = OUTCOMES.get(row["last_outcome"], row["last_outcome"])
    return f"{row['last_contact']}: {outcome} ({row['last_contact_by']})"


def since_text(since: str | None, day: str) -> str:
    """Name the day of the earlier list.

    >>> since_text("2026-11-27", "2026-11-28"), since_text("2026-11-20", "2026-11-28")
    ('yesterday', '20 November')
    """
    return day_text(since, day) if since else "the last list"


def summary(counts: Mapping[str, int], much_worse: int, since: str) -> str:
    """Describe the list of the day in one sentence; the counts are those of its blocks.

    >>> summary({"overdue": 2, "due": 0, "new": 1, "rest": 3}, 1, "yesterday")
    '6 to call today: 2 overdue, 1 got much worse since yesterday'
    >>> summary({}, 0, "yesterday")
    'Nobody to call today'
    """
    total = sum(counts.values())
    if not total:
        return "Nobody to call today"
    due, overdue = counts.get(ranking.DUE, 0), counts.get(ranking.OVERDUE, 0)
    parts = [f"{overdue:,} overdue"] if overdue else []
    parts += [f"{due:,} due today"] if due else []
    parts += [f"{much_worse:,} got much worse since {since}"] if much_worse else []
    return f"{total:,} to call today" + (f": {', '.join(parts)}" if parts else "")


def names_of(entries: Sequence[Entry]) -> list[str]:
    """Return the clients of entries, each once."""
    return list(dict.fromkeys(entry.client for entry in entries))


def moved_text(row: Row, labels: fields.Labels) -> str:
    """Describe how the risk changed since the list of an earlier day, and why; "" if it did not."""
    if row["list_rank"] is None or (row["previous_rank"] is None and not row["status"]):
        return ""
    same_place = {"rank": row["list_rank"], "previous_rank": row["list_rank"]}
    text = fields.moved_texts({**row, **same_place}, labels)[0]
    return "" if text == "as before" else wording.finished(text).rstrip(".")


def card(row: Row, standing: Standing, day: str, labels: fields.Labels, currency: str) -> Row:
    """Return a client as the pages show one: texts, links, and what the log says.

    row: see `worklist.Worklist.overlay`
    """
    last, at_risk = standing.last_contact, row["value_at_risk"]
    reasons = row["list_reasons"] or row["reasons"]
    return {
        **{name: row[name] for name in ("client", "risk", "list_rank", "own_manager")},
        "badge": BADGES.get(row["status"]),
        "value": f"{currency} {wording.amount(row['value'])}" if row["value"] is not None else "",
        "value_at_risk": f"{currency} {wording.amount(at_risk)}" if at_risk is not None else "",
        "manager": row["manager"] or "",
        "manager_until": day_text(row["manager_until"], day) if row["manager_until"] else "",
        "due": fields.due_text(row.get("due") or "", day),
        "phone": row.get("phone") or "",
        "tel": fields.tel(row.get("phone")),
        "email": row.get("email") or "",
        "mailto": fields.mailto(row.get("email")),
        "place": place_text(row, day),
        "moved": moved_text(row, labels),
        "reasons": [fields.reason_text(reason, labels) for reason in reasons[:REASONS_SHOWN]],
        "cautions": [fields.caution_text(each, labels) for each in row["cautions"]],
        "contacted": contact_text(row, day),
        "note": last.note if last else "",
        "follow_up": day_text(row["follow_up"], day) if row["follow_up"] else "",
    }
