"""Compute what happened: to one client over time, and what came of the contacts of the team.

The caller passes entries, outcomes and the day. Savings of single managers are not compared,
because a team has too few outcomes for that.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from attrition import wording
from attrition.contacts import fields, log, sentences
from attrition.contacts.log import Entry
from attrition.contacts.ranking import BACK
from attrition.contacts.standings import NOT_IN_REACH, Rules, Standing, days_after
from attrition.data.cells import Reason
from attrition.data.risk_history import Snapshot
from attrition.rows.observations import Observation

DAYS = 30
# A follow-up is kept if the client was contacted at the latest one day after its date.
GRACE_DAYS = 1
CHANGES_SHOWN = 3
MIN_KNOWN = 20  # of fewer outcomes a hit rate would say nothing
THRESHOLD = 0.5
NO_LABELS: fields.Labels = {}
ENTRY, LISTING, ASSESSMENT, OBSERVATION = "entry", "listing", "assessment", "observation"


# ---- one client


class Event(NamedTuple):
    """Something that happened to a client.

    at: UTC time, or a date; who: the person, "" if a program; source: where it comes from
    entry: that of an entry; is_counted: whether no later entry corrects or withdraws it
    """

    at: str
    kind: str
    who: str
    source: str
    text: str
    entry: Entry | None = None
    is_counted: bool = True


class RiskAt(NamedTuple):
    """The risk of a client on a day, and the release that computed it."""

    date: str
    release: str
    risk: float


def risks_over_time(snapshots: Iterable[Snapshot], risks: Iterable[float | None]) -> list[RiskAt]:
    """Combine snapshots with the risks of a client; leave out days on which there was none."""
    both = zip(snapshots, risks, strict=True)
    return [RiskAt(*snapshot, risk) for snapshot, risk in both if risk is not None]


def timeline(
    entries: Iterable[Entry],
    counting: Iterable[Entry],
    listings: Iterable[Mapping[str, Any]],
    risks: Sequence[RiskAt],
    observations: Sequence[Observation],
    day: str,
    labels: fields.Labels = NO_LABELS,
) -> list[Event]:
    """Return all that happened to a client, the newest first.

    entries: all of the client; counting: those that count; listings: see `daily_list.describe_moves`
    observations: in the order of their times
    """
    counted = {entry.id for entry in counting}
    events = [
        Event(
            each.at,
            ENTRY,
            each.by,
            each.via,
            sentences.entry_text(each, day),
            each,
            each.id in counted,
        )
        for each in entries
    ]
    events += [Event(row["at"], LISTING, "", "contact list", listing_text(row)) for row in listings]
    events += [
        Event(now.date, ASSESSMENT, "", f"release {now.release}", _risk_text(before, now))
        for before, now in zip([None, *risks], risks, strict=False)
        if before is None or before.release != now.release
    ]
    events += [
        Event(
            now.time or now.ingested_at,
            OBSERVATION,
            "",
            now.source,
            _observation_text(before, now, labels),
        )
        for before, now in zip([None, *observations], observations, strict=False)
    ]
    return sorted(events, key=_in_order, reverse=True)


def _in_order(event: Event) -> tuple[str, int]:
    """Return what orders the timeline: a correction of the same time comes after its entry."""
    return event.at, event.entry.id if event.entry else 0


def listing_text(row: Mapping[str, Any]) -> str:
    r"""Describe how a client came onto the list or left it.

    >>> row = {"action": "listed", "rank": 3, "risk": 0.41, "reason": "back"}
    >>> listing_text(row).replace("\xa0", " ")
    'came back onto the contact list, number 3, risk 41 %'
    >>> listing_text({"action": "gone", "rank": None, "risk": None, "reason": "no_place"})
    'left the contact list: other clients were more urgent'
    """
    if row["action"] == "gone":
        return f"left the contact list: {sentences.GONE.get(row['reason'], row['reason'])}"
    back = "back " if row["reason"] == BACK else ""
    risk = wording.percent(row["risk"])
    return f"came {back}onto the contact list, number {row['rank']:,}, risk {risk}"


def _risk_text(before: RiskAt | None, now: RiskAt) -> str:
    risk = wording.percent(now.risk)
    if before is None:
        return f"assessed, risk {risk}"
    return f"new model: risk {wording.percent(before.risk)} → {risk}"


def _observation_text(before: Observation | None, now: Observation, labels: fields.Labels) -> str:
    """Describe which features changed since the observation before, and the outcome."""
    outcome = {None: "outcome not known yet", True: "left", False: "stayed"}[now.churned]
    changes = _changes(before, now) if before else []
    texts = [fields.change_text(change, labels) for change in changes[:CHANGES_SHOWN]]
    return f"observed: {', '.join(texts)} ({outcome})" if texts else f"observed: {outcome}"


def _changes(before: Observation, now: Observation) -> list[Reason]:
    """Return the features that changed: categories first, then numbers by their relative change."""
    both = [
        (name, value, before.features[name])
        for name, value in now.features.items()
        if name in before.features and value != before.features[name]
    ]
    changes = [Reason(name, value, old, _relative_change(old, value)) for name, value, old in both]
    return sorted(changes, key=lambda change: -change.contribution)


def _relative_change(old: float | str | None, new: float | str | None) -> float:
    """Return by what share of the larger value a number changed, at most 2; 3 if it is a category.

    >>> _relative_change(1.0, 3.0) > _relative_change(20.0, 16.0), _relative_change("a", None)
    (True, 3.0)
    """
    if isinstance(old, str) or isinstance(new, str):
        return 3.0
    if old is None or new is None:
        return 1.0
    return abs(new - old) / max(abs(old), abs(new))


# ---- the team


def team(
    listed: Iterable[str],
    standings: Mapping[str, Standing],
    managers: Mapping[str, str],
    day: str,
    rules: Rules,
) -> list[dict[str, Any]]:
    """Return for each manager the clients listed and reached, and the follow-ups due and kept.

    Clients reached and follow-ups due are those of the last `DAYS` days. A follow-up that can still be
    kept is not due yet. A client belongs to the manager who is in charge on the day.

    listed: the manager of each listed client; managers: client -> manager, for clients with entries; if
    a client is no longer current or has no manager, the entries of each person count for that person
    """
    counts = {"listed": Counter(listed)}
    counts |= {name: Counter[str]() for name in ("reached", "follow_ups_due", "follow_ups_kept")}
    since = days_after(day, -DAYS)
    for client, standing in standings.items():
        contacts = [entry for entry in standing.entries if entry.kind == log.CONTACT]
        reached = [
            managers.get(client) or entry.by
            for entry in contacts
            if entry.outcome not in NOT_IN_REACH and rules.day_of(entry.at) > since
        ]
        counts["reached"].update(set(reached))
        for entry, due_on, is_kept in _follow_ups(standing.entries, rules):
            can_be_kept = days_after(due_on, GRACE_DAYS) >= day
            if since < due_on <= day and (is_kept or not can_be_kept):
                manager = managers.get(client) or entry.by
                counts["follow_ups_due"][manager] += 1
                counts["follow_ups_kept"][manager] += is_kept
    names = sorted({name for each in counts.values() for name in each})
    return [{"manager": name} | {key: each[name] for key, each in counts.items()} for name in names]


def _follow_ups(entries: Sequence[Entry], rules: Rules) -> list[tuple[Entry, str, bool]]:
    """Return the follow-ups of a client: the contact that set it, its date, and whether it was kept.

    A "not before" that is entered in time moves the date.
    """
    follow_ups: list[tuple[Entry, str, bool]] = []
    pending: tuple[Entry, str] | None = None
    for entry in entries:
        day = rules.day_of(entry.at)
        in_time = pending is not None and day <= days_after(pending[1], GRACE_DAYS)
        if pending and entry.kind == log.NOT_BEFORE and in_time:
            pending = pending[0], max(pending[1], entry.date)
        if entry.kind == log.CONTACT:
            if pending:
                follow_ups.append((*pending, in_time))
            has_date = entry.date and entry.outcome != log.DO_NOT_CONTACT
            pending = (entry, entry.date) if has_date else None
    return [*follow_ups, *([(*pending, False)] if pending else [])]


def score_overrides(
    entries: Iterable[Entry], outcomes: Mapping[str, Sequence[tuple[str, bool]]]
) -> dict[str, int | None]:
    """Compare opinions with the first outcome that arrived after them; the model beside them.

    `right` and `model_right` count the known ones that agree; None if fewer than `MIN_KNOWN` are known.

    entries: those that count; outcomes: client -> (time of arrival, whether the client left), in order
    """
    known = right = model_right = waiting = 0
    for entry in entries:
        if entry.kind != log.OVERRIDE or entry.risk is None:
            continue  # without a risk, the model said nothing
        later = [left for at, left in outcomes.get(entry.client, ()) if at > entry.at]
        if not later:
            waiting += 1
            continue
        known += 1
        right += later[0] == (entry.outcome == log.LEAVES)
        model_right += later[0] == (entry.risk >= THRESHOLD)
    is_enough = known >= MIN_KNOWN
    return {
        **{"open": waiting, "known": known},
        **{
            "right": right if is_enough else None,
            "model_right": model_right if is_enough else None,
        },
    }
