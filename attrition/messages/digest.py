"""Write the weekly mails: to each client manager the own list, to the lead the whole team.

There is no mail without anything to report.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from attrition import wording
from attrition.config import Config
from attrition.contacts import ranking, sentences, worklist
from attrition.contacts.desk import Desk
from attrition.contacts.standings import Standing, days_after
from attrition.contacts.worklist import Filters, Worklist
from attrition.data.clients import ClientTable
from attrition.effect import sentences as effect
from attrition.messages.weekly import Recipient
from attrition.storage import files

Row = Mapping[str, Any]
Content = dict[str, str] | None  # None if there is nothing to report

SHOWN = 25  # clients of each section
AHEAD_DAYS = 6  # follow-ups of the week are named


def make_digests(config: Config, missing: Mapping[str, Recipient], now: str) -> dict[str, Content]:
    """Return the digests that are missing, by their ids; none if no client was assessed yet."""
    record = files.read_record(config.assessment_record)
    if not record or config.clients.name not in record.get("outputs", {}):
        return {}
    work, _ = Desk(config).worklist(ClientTable(config.clients), now, record)
    return {
        name: describe_team(config, record, work)
        if each.manager is None
        else describe_manager(config, record, work, each.manager)
        for name, each in missing.items()
    }


def describe_manager(config: Config, record: Row, work: Worklist, manager: str) -> Content:
    """Return the digest of a client manager; None if there is nothing to report."""
    own = Filters(manager)
    since = sentences.since_text(record.get("changes_since"), work.day)
    listed, worse = work.select(worklist.LISTED, own).tolist(), much_worse(work, own)
    follow_ups = find_follow_ups(work, own)
    if not (listed or worse or follow_ups):
        return None
    block_of = dict(zip(work.listed.rows.tolist(), work.listed.blocks, strict=True))
    counts = Counter(block_of[row] for row in listed)
    summary = sentences.summary(counts, len({*worse} & {*listed}), since)
    sections = {
        f"Follow-ups until {sentences.long_day(days_after(work.day, AHEAD_DAYS))}": follow_ups,
        "To call today": listed,
        f"Got much worse since {since}": worse,
    }
    lines = [f"{summary}.", ""]
    for title, places in sections.items():
        lines += describe_clients(config, work, title, places)
    lines += _link(config, manager=manager)
    return {
        "event": "digest",
        "subject": f"Your clients: {summary}",
        "text": "\n".join(lines).strip(),
    }


def describe_team(config: Config, record: Row, work: Worklist) -> Content:
    """Return the digest of the lead: portfolio, team and experiment; None without current clients."""
    if not record["clients"]:
        return None
    leaving = wording.with_interval(record["expected_to_leave"], wording.count)
    lines = [f"{record['clients']:,} current clients, of whom {leaving} are expected to leave."]
    if wording.is_known(record["value_at_risk"]):
        at_risk = wording.with_interval(record["value_at_risk"], wording.amount)
        lines.append(f"Value at risk: {config.currency} {at_risk}.")
    lines.append(wording.contact_list(record, config.currency))
    lines += wording.list_notes(record, config.currency)
    counts = work.listed.counts()
    overdue = len(find_follow_ups(work, Filters(), until=days_after(work.day, -1)))
    worse = len(much_worse(work, Filters()))
    on_list = counts[ranking.OVERDUE]
    follow_ups = f"Follow-ups overdue: {overdue:,}, {on_list:,} of them on the list."
    lines += ["", f"{follow_ups} Risks up by ten points or more: {worse:,}."]
    if team := [row for row in record.get("team") or () if row["manager"]]:
        lines += ["", "The team in the last 30 days:"]
        lines += [
            f"  {row['manager']}: {row['listed']:,} on the list, {row['reached']:,} reached, follow-ups "
            f"kept: {wording.kept(row)}"
            for row in team
        ]
    if experiment := record.get("experiment"):
        lines += ["", f"Does calling help? {effect.verdict(experiment, config.currency).headline}"]
    lines += ["", *_link(config)]
    subject = f"The team: {sum(counts.values()):,} clients to call, {on_list:,} overdue"
    return {"event": "digest", "subject": subject, "text": "\n".join(lines).strip()}


def much_worse(work: Worklist, filters: Filters) -> list[int]:
    """Return the rows of clients whose risk rose by ten points since the list of an earlier day."""
    moved = work.select(worklist.MOVED, filters)
    return moved[work.book.risk_change[moved] >= ranking.MUCH_WORSE].tolist()


def find_follow_ups(work: Worklist, filters: Filters, until: str = "") -> list[int]:
    """Return the rows with a follow-up until a day, by default in the week ahead, the oldest first."""
    last = until or days_after(work.day, AHEAD_DAYS)
    due = {row: each.due_on for row, each in work.standings.items() if "" < each.due_on <= last}
    own = set(work.select(worklist.ALL, filters).tolist())
    return sorted(own & due.keys(), key=lambda row: (due[row], row))


def describe_clients(
    config: Config, work: Worklist, title: str, places: Sequence[int]
) -> list[str]:
    """Return a section: a line for each of the first clients, and how many more there are."""
    if not places:
        return []
    lines = [f"{title} ({len(places):,})"]
    for place, row in zip(places, work.rows(places[:SHOWN]), strict=False):
        standing = work.standings.get(place, Standing())
        lines.append(_line(sentences.card(row, standing, work.day, config.labels, config.currency)))
    if len(places) > SHOWN:
        lines.append(f"  and {len(places) - SHOWN:,} more")
    return [*lines, ""]


def _line(card: Row) -> str:
    """Describe a client in one line."""
    at_risk = f"{card['value_at_risk']} at risk" if card["value_at_risk"] else ""
    place = f"follow-up due {card['follow_up']}" if card["follow_up"] else card["place"]
    contacted = f"last contact {card['contacted']}" if card["contacted"] else ""
    risk = f"risk {wording.percent(card['risk'])}"
    details = [risk, at_risk, place, card["moved"], contacted]
    return f"  {card['client']}: {'; '.join(filter(None, details))}"


def _link(config: Config, **parameters: str) -> list[str]:
    assert config.digest
    if not config.digest.link:
        return []
    query = f"?{urlencode(parameters)}" if parameters else ""
    return [f"The list: {config.digest.link.rstrip('/')}/{query}"]
