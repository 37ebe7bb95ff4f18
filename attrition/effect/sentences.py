"""Describe whether contacting helps, from the record of the experiment: for the page, PDF and API.

A record is that of assessment.json; every figure in it may be None. A difference is the share that left
among the listed minus that among the held-out clients: below 0, contacting keeps clients.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attrition import wording
from attrition.contacts.experiment import (
    CONTROL,
    HARMS,
    HELPS,
    NO_EFFECT,
    NO_KEY,
    OFF,
    OPEN,
    RUNNING,
    TREATED,
    VOID,
)
from attrition.wording import amount, count, finite, is_known, percent, plural

Row = Mapping[str, Any]

ARMS = {TREATED: "Listed", CONTROL: "Held out by chance"}
METHODS = {
    "welch": "from the outcomes minus the risks (Welch)",
    "newcombe": "from the shares that left alone, since there are few outcomes (Newcombe)",
}
STATES = ("known", "open", "lost")
ARM_NOTE = (
    "A client counts once a quarter, in the group of the first assignment, whatever was done later. "
    "Compared, left and expected (the sum of the risks) are as of the last look. The other columns "
    "count all since the year of the next look began, and those still open then: outcomes known, still "
    "open, or lost with the row."
)
HOW_TO_START = (
    "Every fifth client above the line of the list is held out by chance for a quarter: not listed, "
    "and the next ones take the places, so the team contacts as many clients as before.",
    "After some months, the listed clients are compared with the held-out ones. If fewer of the listed "
    "ones left, contacting keeps clients, and you know how many and what they are worth.",
    "What it takes: outcomes that arrive by themselves, some 100 contacts a month, and about a year. "
    "An effect of 18 points shows after three months, one of 9 points after twelve.",
    "What it costs: the refilled list keeps about 92\xa0% of its value at risk. Clients of great value "
    "can be exempt, and a follow-up that is due is always listed.",
    "How to switch it on: set “experiment” in config.json, and its key in the environment; see "
    "docs/operations.md.",
)


class Verdict(NamedTuple):
    """The answer as one line, its tone (good, warn, bad or ""), and what to know about it."""

    tone: str
    headline: str
    detail: str


def verdict(record: Row, currency: str) -> Verdict:
    """Return the answer to the question whether contacting helps.

    >>> effect = {"difference": -0.08, "low": -0.14, "high": -0.02, "method": "welch"}
    >>> money = {"clients": 400, "value": 1.2e6, "low": 3e5, "high": 2.1e6}
    >>> look = {"number": 2, "of": 4, "verdict": "helps", "effect": effect, "money": money}
    >>> record = {"verdict": "helps", "looks": [look]}
    >>> print(verdict(record, "EUR").headline.replace("\\xa0", " "))
    Contacting keeps clients: 8 of 100 fewer left (95 % interval 2 to 14), worth EUR 1.2 M.
    >>> coming = {"number": 1, "of": 4, "on": "2026-07-01", "more_outcomes": 120}
    >>> coming |= {"smallest_effect": 0.12}
    >>> print(verdict({"verdict": "open", "next_look": coming}, "EUR").headline)
    Not yet: about 120 more outcomes, likely in July 2026; effects under 12 points will not be seen.
    """
    return _VERDICTS[record["verdict"]](record, currency)


def _helps(record: Row, currency: str) -> Verdict:
    look = deciding_look(record)
    money = look.get("money") or {}
    worth = f", worth {currency} {short(money)}" if finite(money.get("low")) > 0 else ""
    share = "From now on, at most 5\xa0% are held out, to notice if that changes."
    detail = _join([_money_text(look, currency), share if record.get("state") == RUNNING else ""])
    return Verdict("good", f"Contacting keeps clients{_left(look)}{worth}.", detail)


def _harms(record: Row, currency: str) -> Verdict:
    look = deciding_look(record)
    advice = "Find out why before the team goes on: pause the contacts, or change what is offered."
    detail = _join([_money_text(look, currency), advice])
    return Verdict("bad", f"Contacting does harm{_left(look)}.", detail)


def _no_effect(record: Row, currency: str) -> Verdict:
    look = deciding_look(record)
    headline = "A year without a proven effect"
    advice = (
        "Change how clients are contacted, or whom, before another year; the next looks count new "
        "clients only."
    )
    return Verdict("warn", f"{headline}{_left(look)}.", advice)


def _open(record: Row, currency: str) -> Verdict:
    coming, look = record.get("next_look") or {}, record.get("last_look") or {}
    when = f"likely in {_month(coming.get('on'))}" if coming.get("on") else ""
    more = coming.get("more_outcomes")
    wait = f"about {plural(more, 'more outcome')}" if more and is_known(more) else ""
    smallest, unseen = finite(coming.get("smallest_effect")), ""
    if not math.isnan(smallest):
        unseen = f"; effects under {points(min(smallest, 1.0))} points will not be seen"
    text = ", ".join(filter(None, (wait, when))) or "there are too few outcomes"
    detail = ""
    if look:
        detail = f"Look {look['number']} of {look['of']} proved nothing{_left(look)}."
    if look.get("verdict") == VOID:
        detail = (
            f"Look {look['number']} of {look['of']} was void: its groups were not drawn as planned."
        )
    return Verdict("", f"Not yet: {text}{unseen}.", _join([detail, _early(look)]))


def _void(record: Row, currency: str) -> Verdict:
    ratio = record["ratio"]
    headline = (
        f"Void: {percent(ratio['observed'])} of the clients were held out, {percent(ratio['expected'])} "
        "planned."
    )
    detail = (
        f"Chance alone explains that once in {_once_in(ratio['p'])} times, so the two groups cannot be "
        "compared. Find out who or what changed the assignments, in contacts/contacts.sqlite or in the "
        "settings, before you rely on any figure below."
    )
    return Verdict("bad", headline, detail)


_VERDICTS = {HELPS: _helps, HARMS: _harms, NO_EFFECT: _no_effect, OPEN: _open, VOID: _void}


def deciding_look(record: Row) -> Row:
    """Return the look that the verdict rests on: for no effect, that at the end of the year.

    Else the newest one with the same verdict, or just the newest; {} if there is none.
    """
    looks = looks_of(record)
    if record["verdict"] == NO_EFFECT:
        same = [look for look in looks if look["number"] == look["of"]]
    else:
        same = [look for look in looks if look["verdict"] == record["verdict"]]
    return (same or looks or [{}])[-1]


def looks_of(record: Row) -> Sequence[Row]:
    return record.get("looks") or ()


# ---- what is behind it


def remarks(record: Row) -> list[str]:
    """Describe what is not as it should be: no key, switched off, controls who were contacted."""
    texts = []
    if record["state"] == NO_KEY:
        texts.append(
            "The key of the experiment is not set in the environment, so nobody new is held out. "
            "Those who were assigned before still count."
        )
    if record["state"] == OFF:
        texts.append(
            "The experiment is switched off: nobody new is held out. Outcomes of those who were "
            "assigned before still count."
        )
    if (record.get("contacted_controls") or {}).get("is_high"):
        texts.append(
            f"{contamination(record)} That hides part of the effect: ask the team to contact "
            "clients from the list only."
        )
    return texts


def held_out(record: Row | None) -> str:
    """Describe how many clients are held out in the quarter, without a name; "" if nobody is.

    >>> print(held_out({"held_out": 1}))
    1 client who would be listed is held out by chance this quarter, to see whether contacting helps.
    """
    number = (record or {}).get("held_out") or 0
    if not number:
        return ""
    are = "is" if number == 1 else "are"
    return (
        f"{plural(number, 'client')} who would be listed {are} held out by chance this quarter, to see "
        "whether contacting helps."
    )


def contamination(record: Row) -> str:
    """Describe how many held-out clients were contacted all the same."""
    contacted = record.get("contacted_controls") or {}
    number = contacted.get("clients") or 0
    if not number:
        return "None of the held-out clients was contacted."
    were = "was" if number == 1 else "were"
    return (
        f"{plural(number, 'held-out client')} ({percent(contacted['share'])}) {were} contacted all the "
        "same; they count as held out."
    )


def background(record: Row) -> list[tuple[str, str]]:
    """Return what the verdict rests on, by term; without what is not known."""
    look = record.get("last_look") or {}
    texts = {
        "Last look": _look_text(look),
        "Next look": _next_text(record.get("next_look") or {}),
        "Per client reached": _per_reached(look),
        "Sample ratio": _ratio_text(record.get("ratio") or {}),
        "Contacted all the same": contamination(record),
        "What it costs": _cost_text(record.get("value_kept")),
        "How good the list was": list_quality(record.get("list_quality") or {}),
    }
    return [(term, text) for term, text in texts.items() if text]


def all_sentences(record: Row, currency: str) -> list[str]:
    """Return everything in reading order, the verdict first."""
    first = verdict(record, currency)
    texts = [first.headline, first.detail, *remarks(record), held_out(record)]
    return [*filter(None, texts), *(text for _, text in background(record))]


def list_quality(quality: Row) -> str:
    """Describe how many held-out clients left, and how long after they would first have been listed.

    >>> quality = {"clients": 80, "churned": 31, "expected": 33.2, "low": 0.29, "high": 0.49}
    >>> list_quality(quality | {"lead_days": 45, "lead_clients": 12}).replace("\\xa0", " ")
    ... # doctest: +NORMALIZE_WHITESPACE
    'Of 80 held-out clients with a known outcome, 31 left (39 %, 95 % interval 29 % to 49 %); 33 were
    expected. Half of the 12 whose dates are known left within 45 days of when they would first have
    been listed.'
    """
    if not quality.get("clients"):
        return ""
    left, clients = quality["churned"], quality["clients"]
    inside = wording.between(quality, percent)
    interval = f", 95\xa0% interval {inside}" if inside else ""
    text = f"Of {plural(clients, 'held-out client')} with a known outcome, {count(left)} left "
    text += f"({percent(left / clients)}{interval})"
    text += (
        f"; {count(quality['expected'])} were expected." if is_known(quality["expected"]) else "."
    )
    if is_known(quality.get("lead_days")):
        days = plural(quality["lead_days"], "day")
        text += (
            f" Half of the {count(quality['lead_clients'])} whose dates are known left within {days} of "
            "when they would first have been listed."
        )
    return text


def arm_table(record: Row) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Return both groups as a table: how many left at the last look, and who is counted at the next."""
    look, reached = record.get("last_look") or {}, record.get("reached") or {}
    titles = ("Compared", "Left", "Expected to leave", "Known since", "Open", "Lost", "Reached")
    rows = []
    for arm, name in ARMS.items():
        units, seen = record["units"][arm], look.get(arm) or {}
        compared = [wording.DASH] * 3
        if seen.get("clients"):
            share = percent(seen["churned"] / seen["clients"])
            compared = [count(seen["clients"]), f"{count(seen['churned'])} ({share})"]
            compared.append(count(seen["expected"]))
        share = percent(reached[arm]) if is_known(reached.get(arm)) else wording.DASH
        rows.append([name, *compared, *(count(units[key]) for key in STATES), share])
    return [("Group", False), *((title, True) for title in titles)], rows


def points(share: Any) -> str:
    """Format a share of 1 as points of 100, without a sign.

    >>> points(-0.08), points(0.123), points(0.006), points(None)
    ('8', '12', '0.6', 'unknown')
    """
    number = abs(100 * finite(share))
    if math.isnan(number):
        return wording.UNKNOWN
    return f"{number:.0f}" if number >= 0.95 or not number else f"{number:.1f}"


def fewer(effect: Row) -> str:
    """Describe a difference with its 95 % interval; "" if it could not be estimated.

    >>> fewer({"difference": -0.08, "low": -0.14, "high": -0.02}).replace("\\xa0", " ")
    '8 of 100 fewer left (95 % interval 2 to 14)'
    >>> fewer({"difference": 0.01, "low": -0.04, "high": 0.06}).replace("\\xa0", " ")
    '1 of 100 more left (95 % interval from 4 fewer to 6 more)'
    """
    value = finite(effect.get("difference"))
    if math.isnan(value):
        return ""
    inside = interval(effect)
    text = f"{points(value)} of 100 {direction(value)} left"
    return f"{text} ({inside})" if inside else text


def interval(effect: Row) -> str:
    """Format the 95 % interval of a difference, with the direction of each end if they differ."""
    value, *ends = (finite(effect.get(key)) for key in ("difference", "low", "high"))
    near, far = ends if value > 0 else reversed(ends)
    if math.isnan(near + far):
        return ""
    if near * far < 0:
        inside = f"from {points(near)} {direction(near)} to {points(far)} {direction(far)}"
    else:
        inside = f"{points(near)} to {points(far)}"
    return f"95\xa0% interval {inside}"


def direction(difference: float) -> str:
    return "more" if difference > 0 else "fewer"


def _left(look: Row) -> str:
    text = fewer(look.get("effect") or {})
    return f": {text}" if text else ""


def short(value: Any) -> str:
    return amount(value, short=True)


def _money_text(look: Row, currency: str) -> str:
    money = look.get("money") or {}
    if not is_known(money.get("value")):
        return ""
    sign = 1 if money["value"] >= 0 else -1
    ends = sorted(sign * finite(money[end]) for end in ("low", "high"))
    inside = wording.between({"low": ends[0], "high": ends[1]}, short)
    interval = f" (95\xa0% interval {inside})" if inside else ""
    did = "kept" if sign > 0 else "cost"
    value = f"{currency} {short(sign * money['value'])}"
    return f"Contacting the {plural(money['clients'], 'listed client')} {did} {value}{interval}."


def _per_reached(look: Row) -> str:
    text = fewer(look.get("per_reached") or {})
    return f"Of those who were reached, {text}." if text else ""


def _early(look: Row) -> str:
    """Explain an interval that excludes zero although nothing is proven."""
    effect = look.get("effect") or {}
    if look.get("verdict") == OPEN and finite(effect.get("low")) * finite(effect.get("high")) > 0:
        return (
            "The interval excludes zero, but with four looks a year that is not enough: it takes |z| "
            f"of {wording.decimal(look['bound'], digits=2)} at this look."
        )
    return ""


def _look_text(look: Row) -> str:
    if not look:
        return ""
    effect = look.get("effect") or {}
    text = f"Look {look['number']} of {look['of']}, on {wording.day(look['at'])}"
    if is_known(look.get("z")):
        z, bound = (wording.decimal(look[key], digits=2) for key in ("z", "bound"))
        text += f": z\xa0=\xa0{z}, proven from ±{bound}".replace("-", "−")
    how = METHODS.get(effect.get("method", ""), "")
    return f"{text}; estimated {how}." if how else f"{text}."


def _next_text(coming: Row) -> str:
    if not coming.get("on"):
        return ""
    text = f"Look {coming['number']} of {coming['of']}, on {wording.day(coming['on'])}"
    if is_known(coming.get("more_outcomes")):
        text += f", with about {plural(coming['more_outcomes'], 'more outcome')}"
    return f"{text}."


def _ratio_text(ratio: Row) -> str:
    if not is_known(ratio.get("observed")):
        return ""
    p = f"p = {wording.probability(ratio['p'])}".replace("= <", "<").replace(" ", "\xa0")
    end = "as expected by chance" if ratio["is_valid"] else "not by chance"
    observed, expected = percent(ratio["observed"]), percent(ratio["expected"])
    return f"{observed} were held out, {expected} planned: {end} ({p})."


def _cost_text(kept: Any) -> str:
    if not is_known(kept):
        return ""
    return (
        f"The list of today, refilled from below, has {percent(kept)} of the value at risk that it "
        "would have if nobody were held out."
    )


def _month(on: Any) -> str:
    return wording.day(on).partition(" ")[2] or wording.UNKNOWN


def _once_in(p: Any) -> str:
    return f"{1 / finite(p):,.0f}" if finite(p) > 1e-6 else "1,000,000"


def _join(texts: Sequence[str]) -> str:
    return " ".join(filter(None, texts))
