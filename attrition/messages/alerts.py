"""Decide which problems are reported: once when one begins, once when it has ended. Pure, no clock.

A problem that is gone counts as resolved after a cool-down without it, so that one that comes and goes
is one alert. Source: `keep_firing_for` of Prometheus' alerting rules.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from attrition import wording
from attrition.messages.causes import ACTIONS
from attrition.operations.runs import Complaint
from attrition.storage.files import TIME

Row = Mapping[str, Any]

SHOWN = 20
OPENED, RESOLVED = "opened", "resolved"


class Alert(NamedTuple):
    """One problem: when it was first and last seen, as UTC times; None as long as that is open."""

    cause: str
    opened_at: str
    code: str
    sentence: str
    gone_at: str | None = None
    resolved_at: str | None = None


def update(
    before: Iterable[Alert], complaints: Iterable[Complaint], now: str, cooldown_minutes: float
) -> list[Alert]:
    """Compare the open alerts with the complaints of a moment; return those that changed.

    >>> fault = Complaint("unused", "not used: a.zip", "a.zip")
    >>> opened = update([], [fault], "2026-03-01T10:00:00Z", 60)
    >>> [(alert.cause, alert.opened_at) for alert in opened]
    [('unused: a.zip', '2026-03-01T10:00:00Z')]
    >>> update(opened, [fault], "2026-03-01T11:00:00Z", 60)
    []
    >>> gone = update(opened, [], "2026-03-01T12:00:00Z", 60)
    >>> update(gone, [], "2026-03-01T12:59:00Z", 60)
    []
    >>> [alert.gone_at for alert in update(gone, [], "2026-03-01T13:00:00Z", 60)]
    ['2026-03-01T12:00:00Z']
    """
    present: dict[str, Complaint] = {}
    for one in complaints:
        present.setdefault(f"{one.code}: {one.subject}" if one.subject else one.code, one)
    changed = []
    for alert in before:
        is_present = present.pop(alert.cause, None) is not None
        # The clock may have been set back.
        gone_at = None if is_present else min(alert.gone_at or now, now)
        is_over = gone_at is not None and now >= resolves_at(gone_at, cooldown_minutes)
        new = alert._replace(gone_at=gone_at, resolved_at=now if is_over else None)
        changed += [new] * (new != alert)
    return changed + [Alert(cause, now, one.code, one.sentence) for cause, one in present.items()]


def resolves_at(gone_at: str, cooldown_minutes: float) -> str:
    """Return when an alert is resolved unless its problem comes back."""
    end = datetime.fromisoformat(gone_at) + timedelta(minutes=cooldown_minutes)
    return end.strftime(TIME)


def describe(event: str, alerts: Sequence[Alert], where: str) -> dict[str, Any]:
    """Return a message about alerts that opened or were resolved at once.

    where: the machine
    """
    first = alerts[0].sentence
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    title = "Resolved: " if event == RESOLVED else ""
    paragraphs = [_paragraph(event, alert) for alert in alerts[:SHOWN]]
    if len(alerts) > SHOWN:
        paragraphs.append(f"{len(alerts) - SHOWN} more: see /health.")
    paragraphs.append(f"Sent by the attrition run on {where}.")
    return {
        "event": event,
        "subject": f"{title}{wording.shorten(first, 100)}{more}",
        "text": "\n\n".join(paragraphs),
        "alerts": [
            {"cause": cause, "code": code, "sentence": sentence, "since": since, "until": until}
            for cause, since, code, sentence, until, _ in alerts
        ],
    }


def _paragraph(event: str, alert: Alert) -> str:
    """Describe what happened, since when, and what to do."""
    sentence, began = wording.finished(alert.sentence), wording.moment(alert.opened_at)
    if event == RESOLVED:
        return f"Resolved: {sentence}\nFrom {began} to {wording.moment(alert.gone_at)}."
    return f"{sentence}\nSince {began}.\n{ACTIONS.get(alert.code, '')}".rstrip()
