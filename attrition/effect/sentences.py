"""Describe whether contacting helps, from the record of the experiment: for the page, PDF and API.

A record is that of assessment.json; every figure in it may be None. A difference is the share that left
among the listed minus that among the held-out clients: below 0, contacting keeps clients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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
    "welch": "from each outcome minus the risk of the client (Welch)",
    "newcombe": "from the shares that left, without the risks, since there are few outcomes (Newcombe)",
}
COLUMNS = (
    *("Compared at the last look", "Left", "Expected to leave"),
    *("Known for the next look", "Still open", "Lost", "Reached"),
)
STATES = ("known", "open", "lost")
CHECKS = ("draws", "ratio", "lost")
ARM_NOTE = (
    "At the last look: the clients compared, how many of them left, and how many were expected to (the "
    "sum of their risks). For the next look: the clients whose outcome is known, still open, or lost "
    "with its row, and the share of all of these who were reached. A client counts once a quarter, in "
    "the group of the first assignment, whatever was done later."
)
HOW_TO_START = {
    "How it works": "Each quarter, about one in five of the clients who are due for the list is held "
    "out by chance. They are not listed, and the next clients take their places, so the team contacts "
    "as many clients as before.",
    "What you learn": "After some months, the listed clients are compared with the held-out ones. If "
    "fewer of the listed ones left, contacting keeps clients, and you know how many and what they are "
    "worth.",
    "What it takes": "Outcomes that arrive by themselves, some 100 contacts a month, and about a year. "
    "If contacting keeps 18 in 100 clients, that shows after three months; 9 in 100, after twelve.",
    "What it costs": "The list, filled up with the next clients, keeps about 91\xa0% of its value at "
    "risk with the clients of the sample company. With a few very valuable clients, it can be far less: "
    "exempt those (“never_hold_out”). A follow-up that is due is always listed.",
    "How to switch it on": "Set “experiment” in config.json, and its key in the environment; see "
    "docs/operations.md.",
}
WITHOUT_KEY = (
    "The key of the experiment is not set in the environment, so nobody new is held out. Those who were "
    "assigned before still count."
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
    Contacting keeps clients: 8 fewer in 100 left (95 % interval 2 to 14), worth EUR 1.2 M.
    >>> coming = {"number": 1, "of": 4, "on": "2026-07-01", "more_outcomes": 120}
    >>> coming |= {"smallest_effect": 0.12}
    >>> print(verdict({"verdict": "open", "next_look": coming}, "EUR").headline)
    ... # doctest: +NORMALIZE_WHITESPACE
    Not known yet: next look in July 2026, with about 120 more outcomes; it will not show effects under
    12 points.
    """
    return _VERDICTS[record["verdict"]](record, currency)


def _helps(record: Row, currency: str) -> Verdict:
    look = deciding_look(record)
    is_sure = finite((look.get("money") or {}).get("low")) > 0
    money = f", worth {worth(look, currency)[1]}" if is_sure else ""
    share = (
        "From now on, at most 5\xa0% of the clients due are held out, to notice if that changes."
    )
    detail = _join([_money_text(look, currency), share if record.get("state") == RUNNING else ""])
    return Verdict("good", f"Contacting keeps clients{_left(look)}{money}.", detail)


def _harms(record: Row, currency: str) -> Verdict:
    look = deciding_look(record)
    advice = "Find out why before the team goes on: pause the contacts, or change what is offered."
    detail = _join([_money_text(look, currency), advice])
    return Verdict("bad", f"Contacting does harm{_left(look)}.", detail)


def _no_effect(record: Row, currency: str) -> Verdict:
    headline = f"A year without a proven effect{_left(deciding_look(record))}."
    advice = (
        "Change how clients are contacted, or whom, before another year: the next looks compare new "
        "clients only."
    )
    return Verdict("warn", headline, advice)


def _open(record: Row, currency: str) -> Verdict:
    coming, look = record.get("next_look") or {}, record.get("last_look") or {}
    past, point = "", ""
    if look:
        showed = f"proved nothing{_left(look)}"
        if look["verdict"] == VOID:
            showed = "was void: its groups cannot be compared"
        past = f"Look {look['number']} of {look['of']} {showed}."
    if record.get("state") == OFF:
        headline = "Unknown: the experiment was switched off before it proved anything."
    elif coming.get("on"):
        headline, point = _not_yet(coming)
    else:
        headline = "Not known yet: nobody has been held out so far."
    return Verdict("", headline, _join([past, _early(look), point]))


def _not_yet(coming: Row) -> tuple[str, str]:
    """Describe when there may be an answer and which effects it cannot show, and explain a point."""
    more, smallest = finite(coming.get("more_outcomes")), finite(coming.get("smallest_effect"))
    when = f"Not known yet: next look in {wording.day(coming['on']).partition(' ')[2]}"
    when += f", with about {plural(more, 'more outcome')}" if more > 0 else ""
    if math.isnan(smallest):
        return f"{when}.", ""
    if smallest >= 1:
        return f"{when}; that is too early to see any effect.", ""
    least = points(smallest)
    point = f"An effect of {least} points means that {least} fewer in 100 leave."
    return f"{when}; it will not show effects under {least} points.", point


def _void(record: Row, currency: str) -> Verdict:
    found, advice = _find_fault(record) or _find_fault(deciding_look(record)) or ("", "")
    return Verdict("bad", f"Void: {found}", f"{advice}, before you rely on any figure below.")


def _find_fault(checks: Row) -> tuple[str, str] | None:
    """Return which check of some units failed and what to do; None if none did."""
    draws, ratio, lost = (checks.get(name) or {} for name in CHECKS)
    if draws.get("differ"):
        differ = "differs" if draws["differ"] == 1 else "differ"
        of = f"{count(draws['differ'])} of {plural(draws['recomputed'], 'assignment')}"
        return (
            f"{of} {differ} from the draw.",
            "The key decides who is held out, so chance cannot explain a difference. The first one is "
            f"number {count(draws['first'])} in the table assignments of contacts/contacts.sqlite. "
            "Compare the file with a backup, and find out who or what changed it",
        )
    if not ratio.get("is_valid", True):
        return (
            f"{percent(ratio['observed'])} of the clients were held out, {percent(ratio['expected'])} "
            "planned.",
            f"Chance alone explains that once in {_once_in(ratio['p'])} times, so the two groups cannot "
            "be compared. Find out who or what changed the assignments, in contacts/contacts.sqlite or "
            "in the settings",
        )
    if not lost.get("is_valid", True):
        return (
            f"{percent(lost['treated'])} of the listed clients have vanished from the data, and "
            f"{percent(lost['control'])} of the held-out ones.",
            f"Chance alone explains that once in {_once_in(lost['p'])} times, so those who are left "
            "cannot be compared. Find out why clients vanish (are they renamed or merged after a "
            "contact?)",
        )
    return None


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
    """Describe what is not as it should be: no key, switched off, a failed check, contamination."""
    texts = []
    if record["state"] == NO_KEY:
        texts.append(WITHOUT_KEY)
    if record["state"] == OFF:
        texts.append(
            "The experiment is switched off: nobody is held out, and there is no further look. If it is "
            "switched on again, those who were assigned before still count."
        )
    fault = _find_fault(record)
    if fault and record["verdict"] != VOID:
        texts.append(
            "The verdict rests on an earlier year. That of the next look fails a check, so that look "
            f"will be void: {fault[0]} {fault[1]}, before that look."
        )
    if any(_is_high(each) for each in (record, deciding_look(record))):
        texts.append(
            f"{_then_and_now(record, contamination)} That hides part of the effect: ask the team to "
            "contact clients from the list only."
        )
    return texts


def _is_high(figures: Row) -> bool:
    return bool((figures.get("contacted_controls") or {}).get("is_high"))


def _then_and_now(record: Row, describe: Callable[[Row], str]) -> str:
    """Describe a figure at the look that the verdict rests on, and for the next look so far."""
    look = deciding_look(record)
    then, now = describe(look), describe(record)
    if not then:
        return now
    text = f"At the look on {wording.day(look['at'])}: {then}"
    return f"{text} For the next look, so far: {now}" if now else text


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


def contamination(figures: Row) -> str:
    """Describe how many held-out clients were contacted all the same; "" if nobody was held out."""
    contacted = figures.get("contacted_controls")
    if not contacted:
        return ""
    number = contacted["clients"]
    if not number:
        return "None of the held-out clients was contacted."
    were = "was" if number == 1 else "were"
    return (
        f"{plural(number, 'held-out client')} ({percent(contacted['share'])}) {were} contacted all the "
        "same; they count as held out."
    )


def background(record: Row) -> list[tuple[str, str]]:
    """Return what the verdict rests on, by term; without what is not known, and what is remarked."""
    look = record.get("last_look") or {}
    texts = {
        "Last look": _look_text(look),
        "Next look": _next_text(record.get("next_look") or {}),
        "Per client reached": _per_reached(look),
        "Sample ratio": _then_and_now(record, _ratio_text),
        "Assignments recomputed": _join(
            [_then_and_now(record, _draws_text), _not_recomputed(record, deciding_look(record))]
        ),
        "Contacted all the same": _then_and_now(record, contamination),
        "What it costs": _cost_text(record.get("value_kept") if record.get("held_out") else None),
        "How good the list was": list_quality(record.get("list_quality") or {}),
    }
    if any(_is_high(each) for each in (record, deciding_look(record))):
        del texts["Contacted all the same"]  # it is among the remarks
    return [(term, text) for term, text in texts.items() if text]


def all_sentences(record: Row, currency: str) -> list[str]:
    """Return everything in reading order, the verdict first."""
    first = verdict(record, currency)
    texts = [first.headline, first.detail, *remarks(record), held_out(record)]
    return [*filter(None, texts), *(f"{term}: {text}" for term, text in background(record))]


def list_quality(quality: Row) -> str:
    """Describe how many held-out clients left, and how long after they would first have been listed.

    >>> quality = {"clients": 80, "churned": 31, "expected": 33.2, "low": 0.29, "high": 0.49}
    >>> list_quality(quality | {"lead_days": 45, "lead_clients": 12}).replace("\\xa0", " ")
    ... # doctest: +NORMALIZE_WHITESPACE
    'Of 80 held-out clients whose outcome is known and whom nobody contacted, 31 left (39 %, 95 %
    interval 29 % to 49 %); their risks predicted 33. Typically, they left 45 days after they would
    first have been listed (median of the 12 whose dates are known).'
    """
    if not quality.get("clients"):
        return ""
    left, clients, expected = (quality[key] for key in ("churned", "clients", "expected"))
    inside = wording.between(quality, percent)
    interval = f", 95\xa0% interval {inside}" if inside else ""
    text = f"Of {plural(clients, 'held-out client')} whose outcome is known and whom nobody contacted, "
    text += f"{count(left)} left ({percent(left / clients)}{interval})"
    text += f"; their risks predicted {count(expected)}." if is_known(expected) else "."
    if is_known(quality.get("lead_days")):
        text += (
            f" Typically, they left {plural(quality['lead_days'], 'day')} after they would first have "
            f"been listed (median of the {count(quality['lead_clients'])} whose dates are known)."
        )
    return text


def arm_table(record: Row) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Return both groups as a table: how many left at the last look, and who is counted at the next."""
    look, reached = record.get("last_look") or {}, record.get("reached") or {}
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
    return [("Group", False), *((title, True) for title in COLUMNS)], rows


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
    '8 fewer in 100 left (95 % interval 2 to 14)'
    >>> fewer({"difference": 0.01, "low": -0.04, "high": 0.06}).replace("\\xa0", " ")
    '1 more in 100 left (95 % interval from 4 fewer to 6 more)'
    """
    value = finite(effect.get("difference"))
    if math.isnan(value):
        return ""
    inside = interval(effect)
    text = f"{points(value)} {direction(value)} in 100 left"
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


def worth(look: Row, currency: str) -> tuple[str, str, str]:
    """Return whether contacting kept or lost value, how much, and its interval; "" if unknown.

    >>> money = {"clients": 400, "value": -4e5, "low": -9e5, "high": -1e4}
    >>> worth({"money": money}, "EUR")
    ('lost', 'EUR 400,000', '95\xa0% interval 10,000 to 900,000')
    """
    money = look.get("money") or {}
    value = finite(money.get("value"))
    if math.isnan(value):
        return "", "", ""
    sign = 1 if value >= 0 else -1
    low, high = sorted(sign * finite(money[end]) for end in ("low", "high"))
    inside = wording.between({"low": low, "high": high}, short)
    interval = f"95\xa0% interval {inside}" if inside else ""
    return "kept" if sign > 0 else "lost", f"{currency} {short(abs(value))}", interval


def _money_text(look: Row, currency: str) -> str:
    kept, value, inside = worth(look, currency)
    if not value:
        return ""
    listed = plural(look["money"]["clients"], "listed client")
    return f"Contacting the {listed} {kept} {value}{f' ({inside})' if inside else ''}."


def _per_reached(look: Row) -> str:
    text, reached = fewer(look.get("per_reached") or {}), look.get("reached") or {}
    if not text:
        return ""
    of = [f"{percent(reached.get(arm))} of the {name.lower()}" for arm, name in ARMS.items()]
    return f"Among those who were reached ({', '.join(of)}), {text}."


def _early(look: Row) -> str:
    """Explain an interval that excludes zero although nothing is proven."""
    effect = look.get("effect") or {}
    if look.get("verdict") == OPEN and finite(effect.get("low")) * finite(effect.get("high")) > 0:
        bound = wording.decimal(look["bound"], digits=2)
        return (
            "That interval excludes zero, but that is no proof: with four looks a year, chance alone "
            f"would produce one too often, so this look requires more (z beyond ±{bound})."
        )
    return ""


def _look_text(look: Row) -> str:
    if not look:
        return ""
    text = f"{_when(look, 'at')}."
    if is_known(look.get("z")):
        z, bound = (wording.decimal(look[key], digits=2) for key in ("z", "bound"))
        evidence = f" Strength of the evidence: z\xa0=\xa0{z}; proven beyond ±{bound}."
        text += evidence.replace("-", "−")
    how = METHODS.get((look.get("effect") or {}).get("method", ""))
    return f"{text} Estimated {how}." if how else text


def _next_text(coming: Row) -> str:
    if not coming.get("on"):
        return ""
    more = coming.get("more_outcomes")
    wait = f", with about {plural(more, 'more outcome')}" if is_known(more) else ""
    return f"{_when(coming, 'on')}{wait}."


def _when(look: Row, key: str) -> str:
    return f"{wording.day(look[key])}, number {look['number']} of {look['of']} in its year"


def _ratio_text(figures: Row) -> str:
    ratio = figures.get("ratio") or {}
    if not is_known(ratio.get("observed")):
        return ""
    p = f"p = {wording.probability(ratio['p'])}".replace("= <", "<").replace(" ", "\xa0")
    end = "as expected by chance" if ratio["is_valid"] else "not by chance"
    observed, expected = percent(ratio["observed"]), percent(ratio["expected"])
    return f"{observed} were held out, {expected} planned: {end} ({p})."


def _draws_text(figures: Row) -> str:
    """Describe how many assignments were recomputed, and how many of them differ.

    >>> draws = {"assignments": 1250, "recomputed": 1204, "differ": 2}
    >>> _draws_text({"draws": draws})
    '1,204 of 1,250; differences from the draw: 2.'
    """
    draws = figures.get("draws") or {}
    if not draws.get("assignments"):
        return ""
    recomputed, every = draws["recomputed"], draws["assignments"]
    return f"{count(recomputed)} of {count(every)}; differences from the draw: {count(draws['differ'])}."


def _not_recomputed(*figures: Row) -> str:
    every = [each.get("draws") or {} for each in figures]
    if all(draws.get("recomputed") == draws.get("assignments") for draws in every):
        return ""
    return (
        "The others cannot be recomputed: another key than the present one drew them, or their client "
        "is forgotten. Only the sample ratio checks them."
    )


def _cost_text(kept: Any) -> str:
    if not is_known(kept):
        return ""
    return (
        f"This quarter the list has {percent(kept)} of the value at risk that it would have without "
        "held-out clients."
    )


def _once_in(p: Any) -> str:
    return f"{1 / finite(p):,.0f}" if finite(p) > 1e-6 else "1,000,000"


def _join(texts: Sequence[str]) -> str:
    return " ".join(filter(None, texts))
