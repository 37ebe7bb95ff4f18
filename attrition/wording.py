"""Format numbers, times and results in the same words for the report, the figures and the dashboard.

A number may have an interval, {"value", "low", "high"}. If a value is not a finite number (None, text,
infinity, an interval without a value), it is shown as unknown, never an error.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

Row = Mapping[str, Any]
Format = Callable[[Any], str]

UNKNOWN, DASH = "unknown", "–"
SIZES = ((1e9, " billion", "\xa0bn"), (1e6, " million", "\xa0M"))


def finite(value: Any) -> float:
    """Return a number, NaN if the value is not one.

    >>> finite("0.5"), finite({"value": 3, "low": 1, "high": 5}), finite(None), finite("inf")
    (0.5, 3.0, nan, nan)
    """
    value = value.get("value") if isinstance(value, Mapping) else value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def is_known(value: Any) -> bool:
    return not math.isnan(finite(value))


# ---- sources


def unused(source: Row, *, with_reason: bool = True) -> str:
    """Describe an unused source and what to do; the reason may quote its content.

    >>> unused({"source": "a.zip", "code": "C", "reason": "it is packed", "advice": "unpack it"})
    'not used: a.zip (it is packed); unpack it'
    """
    why = source["reason"] if with_reason else source["code"]
    return f"not used: {source['source']} ({why}); {source['advice']}"


def unused_lines(sources: Sequence[Row], limit: int, *, with_reason: bool = True) -> list[str]:
    """Describe up to `limit` unused sources, a line each, and count the others."""
    lines = [unused(source, with_reason=with_reason) for source in sources[:limit]]
    if more := sources[limit:]:
        others = plural(len(more), "more source")
        lines.append(f"{others} cannot be used either; ingestedfiles.txt has the reasons")
    return lines


# ---- numbers


def count(value: Any) -> str:
    """Format a count.

    >>> count(12345.6), count(None)
    ('12,346', 'unknown')
    """
    return f"{finite(value):,.0f}" if is_known(value) else UNKNOWN


def plural(number: Any, noun: str) -> str:
    """Format a count with its noun, in the plural if it is not 1.

    >>> plural(1, "client"), plural(1200, "client")
    ('1 client', '1,200 clients')
    """
    return f"{count(number)} {noun}{'s' * (finite(number) != 1)}"


def listing(names: Sequence[str], last: str) -> str:
    """Join names with commas, and the last one with a word.

    >>> listing(["read"], "or"), listing(["read", "feedback", "lead"], "or")
    ('read', 'read, feedback or lead')
    """
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def amount(value: Any, *, short: bool = False) -> str:
    """Format an amount with three significant digits; `short` uses M and bn.

    >>> amount(4251234.5), amount(12345), amount(987.6), amount(12.34), amount(None)
    ('4.25 million', '12,300', '988', '12.3', 'unknown')
    >>> amount(4251234.5, short=True)
    '4.25\\xa0M'
    """
    if not is_known(value):
        return UNKNOWN
    number = float(f"{finite(value):.3g}")
    for size, word, symbol in SIZES:
        if abs(number) >= size:
            return f"{float(f'{number / size:.3g}'):,g}{symbol if short else word}"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:g}"


def percent(share: Any) -> str:
    """Format a share as a percentage without false precision.

    >>> percent(0.314), percent(0.0421), percent(0.0004), percent(0.9996), percent(None)
    ('31\\xa0%', '4.2\\xa0%', '<\\xa00.1\\xa0%', '>\\xa099.9\\xa0%', 'unknown')
    """
    number = finite(share)
    if math.isnan(number):
        return UNKNOWN
    if 0 < number < 0.001:
        return "<\xa00.1\xa0%"
    if 0.999 < number < 1:
        return ">\xa099.9\xa0%"
    digits = 1 if 0 < abs(number) < 0.0995 or 0.9905 < abs(number) < 1 else 0
    return f"{100 * number:.{digits}f}\xa0%"


def decimal(value: Any, *, digits: int = 3, sign: bool = False) -> str:
    """Format a score.

    >>> decimal(0.8123), decimal(0.8123, digits=2), decimal(0.0123, sign=True), decimal(None)
    ('0.812', '0.81', '+0.012', 'unknown')
    """
    return f"{finite(value):{'+' if sign else ''}.{digits}f}" if is_known(value) else UNKNOWN


def statistic(value: Any) -> str:
    """Format a statistic of a column with four significant digits; a dash if there is none.

    >>> statistic(1234567.8), statistic(0.123456), statistic(12.0), statistic(None)
    ('1,235,000', '0.1235', '12', '–')
    """
    if not is_known(value):
        return DASH
    number = float(f"{finite(value):.4g}")
    return f"{number:,.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:,.4g}"


def probability(p_value: Any) -> str:
    """Format a p-value or a q-value; a dash if nothing was tested.

    >>> probability(0.0421), probability(1e-9), probability(None)
    ('0.042', '< 0.001', '–')
    """
    number = finite(p_value)
    return DASH if math.isnan(number) else "< 0.001" if number < 0.001 else f"{number:.3f}"


def between(interval: Any, show: Format, to: str = " to ") -> str:
    """Format a 95 % interval; "" if there is none or it could not be computed.

    >>> between({"value": 5, "low": 3, "high": 9}, count), between(5, count)
    ('3 to 9', '')
    """
    ends = interval if isinstance(interval, Mapping) else {}
    low, high = ends.get("low"), ends.get("high")
    return f"{show(low)}{to}{show(high)}" if is_known(low) and is_known(high) else ""


def with_interval(interval: Any, show: Format, to: str = " to ") -> str:
    """Format a number and, in brackets, its 95 % interval.

    >>> with_interval({"value": 0.8123, "low": 0.79, "high": 0.834}, percent, "–")
    '81\\xa0% (79\\xa0%–83\\xa0%)'
    """
    inside = between(interval, show, to)
    return f"{show(interval)} ({inside})" if inside else show(interval)


# ---- times


def moment(time: Any) -> str:
    """Format a UTC ISO time for a sentence.

    >>> moment("2026-11-23T18:30:00Z"), moment(None)
    ('23 November 2026, 18:30 UTC', 'unknown')
    """
    try:
        at = datetime.fromisoformat(str(time))
    except ValueError:
        return UNKNOWN
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def day(date: Any) -> str:
    """Format an ISO date, or the date of an ISO time, for a sentence.

    >>> day("2026-11-23"), day(None)
    ('23 November 2026', 'unknown')
    """
    return moment(date).partition(",")[0]


def minute(time: Any) -> str:
    """Format a UTC ISO time for a table.

    >>> minute("2026-11-23T18:30:00Z"), minute(None)
    ('2026-11-23 18:30', 'unknown')
    """
    return str(time)[:16].replace("T", " ") if time else UNKNOWN


def seconds(value: Any) -> str:
    """Format a duration.

    >>> seconds(0.42), seconds(0.01), seconds(75), seconds(None)
    ('0.4 s', '< 0.1 s', '1 min 15 s', 'unknown')
    """
    if not is_known(value):
        return UNKNOWN
    minutes, rest = divmod(round(finite(value)), 60)
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{finite(value):.1f} s" if finite(value) >= 0.05 else "< 0.1 s"


def ago(at: str | None, now: datetime) -> str:
    """Format how long ago something happened; "never" if it did not.

    >>> ago("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, 25, tzinfo=UTC))
    '25 minutes ago'
    """
    if at is None:
        return "never"
    seconds = seconds_since(at, now)
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"


def seconds_since(at: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(at).replace(tzinfo=UTC)).total_seconds()


# ---- text


def finished(sentence: Any) -> str:
    """Capitalise a sentence and end it with a full stop if it has no end.

    >>> finished("no column has drifted"), finished(None)
    ('No column has drifted.', '')
    """
    text = str(sentence or "").strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "!", "?")) else ".")


def column(name: str, labels: Mapping[str, Any]) -> str:
    """Return the label of a column if config.json gives one, else its name.

    labels: an object with `label` by the name of the column
    """
    return (name in labels and labels[name].label) or name


def shorten(text: str, width: int = 28) -> str:
    """Shorten a long name in the middle, because similar names often differ at the end.

    >>> shorten("number_of_employees_in_the_last_month", 20)
    'number_of_…ast_month'
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + "…" + text[-end:]


# ---- the results of the steps

SETS = {
    "unseen": "unseen clients",
    "test": "test data",
    "recent": "recent outcomes",
    "since": "outcomes since the previous model (cross-validated)",
}
HUNDREDTHS = partial(decimal, digits=2)
ESTIMATED: dict[str, tuple[str, Format]] = {
    "expected": ("clients who leave", count),
    "rate": ("share who leave", percent),
    "value_at_risk": ("value at risk", partial(amount, short=True)),
    "listed": ("clients on the contact list who leave", count),
    "listed_value_at_risk": ("value at risk on the contact list", partial(amount, short=True)),
    "roc_auc": ("ROC AUC", HUNDREDTHS),
    "precision": (
        "share of the clients with the highest risks (as many as on the list) who leave",
        percent,
    ),
}
MEASURES: dict[str, tuple[str, Format]] = {
    "roc_auc": ("ROC AUC: ranking of the risks (0.5 is chance, 1 is perfect)", HUNDREDTHS),
    "pr_auc": ("PR AUC: precision averaged over all thresholds", HUNDREDTHS),
    "f1": ("F1: balance of precision and recall, at a risk of 50\xa0%", HUNDREDTHS),
    "precision": ("Precision: share of the highest risks who left", percent),
    "lift": ("Lift: precision divided by the share who left overall", partial(decimal, digits=1)),
    "brier": ("Brier score: mean squared error of the risks (lower is better)", decimal),
    "log_loss": ("Log loss: penalty for confident errors (lower is better)", decimal),
}
PROOF_ROWS = {
    "unseen": "rows from clients reserved to evaluate it",
    "test": "rows of test data",
    "recent": "recent outcomes reserved to evaluate it",
    "since": "outcomes since the previous model (cross-validated)",
}
IMPORTANCE = "Mean absolute contribution of each column to the log-odds, over the training clients."
DRIFT_VERDICTS = {
    "act": "material",
    "look": "minor",
    "stable": "stable",
    "insufficient": "too few rows",
}


def trained_on(record: Row) -> str:
    """Describe how much data a model was trained on, and which its evaluation model was not."""
    reserved, clients = record["held_out_rows"], record["held_out_clients"]
    evaluation = (
        f"To evaluate it, the same candidate was also trained without {plural(reserved, 'row')} of "
        f"{plural(clients, 'client')}; all scores are of that evaluation model."
    )
    return (
        f"{record['kind'].capitalize()}, trained {moment(record['trained_at'])} on "
        f"{plural(record['rows'], 'row')} of {plural(record['clients'], 'client')}, with "
        f"{plural(record['left'], 'leaver')}. Rows used: {record['window']}. "
        f"{evaluation if reserved else 'No row was reserved to evaluate it.'}"
    )


def sample(record: Row) -> str:
    """Describe the sample that a model was fitted on; "" if it was fitted on all rows.

    >>> sample({"sample": {"rows": 50_000, "left": 9_000, "is_enough": True}})
    'It was fitted on 50,000 of these rows, with 9,000 leavers, weighted to represent all of them: more \
rows no longer lower its log loss.'
    """
    drawn = record.get("sample")
    if not drawn:
        return ""
    reason = (
        "more rows no longer lower its log loss"
        if drawn["is_enough"]
        else "that is the largest sample, and more rows might lower its log loss further"
    )
    rows, left = count(drawn["rows"]), plural(drawn["left"], "leaver")
    sample = f"{rows} of these rows, with {left}, weighted to represent all of them"
    return f"It was fitted on {sample}: {reason}."


def learning_curve(record: Row) -> list[tuple[str, str, str, str, str]]:
    """Return sample size, rows fitted, log loss, its gain, and which was chosen; [] if all were used."""
    sample = record.get("sample") or {}
    return [
        (
            count(point["size"]),
            count(point["rows"]),
            decimal(point["log_loss"], digits=4),
            f"{decimal(point['gain'], digits=4)} ± {decimal(point['standard_error'], digits=4)}"
            if is_known(point["gain"])
            else "",
            "chosen" if point["size"] == sample["chosen"] else "",
        )
        for point in sample.get("points", ())
    ]


def unused_columns(record: Row) -> str:
    """Name the columns that a model does not use, and why; "" if it uses all.

    >>> unused_columns({"dropped": {"fax": "always 0"}}), unused_columns({"dropped": {}})
    ('Columns not used: fax: always 0.', '')
    """
    reasons = "; ".join(f"{name}: {reason}" for name, reason in record["dropped"].items())
    return f"Columns not used: {reasons}." if reasons else ""


def training(record: Row) -> list[str]:
    """Describe the training data of a model, why it was chosen, and the columns it does not use."""
    sentences = (
        trained_on(record),
        sample(record),
        finished(record["why"]),
        blend(record),
        unused_columns(record),
    )
    return [*filter(None, sentences)]


def blend(record: Row) -> str:
    """Describe the parts of a model, and how its scores are calibrated.

    >>> blend({"parts": {"scorecard": 0.6, "boosting": 0.2}, "calibration": {"kind": "sigmoid"}})
    'A blend of scorecard (75\xa0%) and boosting (25\xa0%). Its scores are calibrated: sigmoid.'
    >>> blend({"parts": {"scorecard": 1.0}, "calibration": {"kind": "none"}})
    'Its scores need no calibration.'
    """
    weights, kind = record["parts"], record["calibration"]["kind"]
    total = sum(weights.values())
    shares = [f"{name} ({percent(weight / total)})" for name, weight in weights.items()]
    parts = f"A blend of {', '.join(shares[:-1])} and {shares[-1]}. " if len(shares) > 1 else ""
    need = "need no calibration." if kind == "none" else f"are calibrated: {kind}."
    return f"{parts}Its scores {need}"


def scored(sets: Mapping[str, Row]) -> dict[str, tuple[Row, Row]]:
    """Return each set of outcomes with the scores of a model on it, by the name of set and model."""
    return {
        f"{name}{whose}": (outcomes, outcomes[model])
        for name, outcomes in sets.items()
        for model, whose in (("candidate", ""), ("champion", ", previous model"))
        if outcomes[model]
    }


def rows_and_left(outcomes: Row) -> str:
    return f"{count(outcomes['rows'])} ({count(outcomes['left'])})"


def score_note(capacity: int) -> str:
    return (
        "These scores are of the evaluation model, which was not trained on these rows. "
        "In brackets: the 95 % interval. Precision and lift are measured on the "
        f"{plural(capacity, 'client')} with the highest risk (contact_capacity)."
    )


def proof(sets: Mapping[str, Row]) -> str:
    """Describe how well the model ranked the first set of outcomes that has a ROC AUC.

    sets: outcomes by the key of SETS
    """
    for key, rows in PROOF_ROWS.items():
        area = ((sets.get(key) or {}).get("candidate") or {}).get("roc_auc")
        if is_known(area):
            limits = between(area, percent)
            interval = f" (95 % interval {limits})" if limits else ""
            return (
                f"On {count(sets[key]['rows'])} {rows}, the model ranked a client who left above "
                f"one who stayed in {percent(area)} of pairs{interval}."
            )
    return "There were too few outcomes to test it on before it was deployed."


def decision(record: Row) -> str:
    """Format the last decision on a candidate, and its time.

    >>> decision({"reason": "kept: not better", "decided_at": "2026-11-23T18:30:00Z"})
    'Kept: not better. (23 November 2026, 18:30 UTC)'
    """
    if not record:
        return "No candidate has been evaluated yet."
    reason, when = finished(record["reason"]), moment(record["decided_at"])
    return reason if when in reason else f"{reason} ({when})"


def rollback(row: Row, *, is_last: bool) -> str:
    """Describe a change of production that no gate decided; is_last: nothing was decided since.

    row: a row of the history whose action is "rolled back" or "withdrawn"

    >>> by_hand = {"at": "2026-11-23T18:30:00Z", "action": "rolled back", "release": "r1"}
    >>> rollback(by_hand | {"reason": "by hand, from r2"}, is_last=False)
    'rolled back by hand on 23 November 2026, 18:30 UTC, from r2 to r1'
    """
    by, _, origin = row["reason"].partition(", from ")
    to, on = row["release"], moment(row["at"])
    if row["action"] == "withdrawn":
        return f"withdrawn by --repair on {on}, because no release verified"
    if by != "by hand":
        return f"rolled back by --repair on {on} to {to}, the newest release that verified"
    verb = "rolled back" if to <= origin else "rolled forward"
    start = f" from {origin}" if origin not in ("None", to) else ""
    news = "; nothing newer is deployed until there is news" if is_last else ""
    return f"{verb} by hand on {on},{start} to {to}{news}"


def change(record: Row, labels: Mapping[str, Any]) -> str:
    """Describe what the last deployment changed in the assessment of the clients.

    >>> change({"expected_before": 100, "expected_after": 140, "listed": 50, "newly_listed": 12,
    ... "gained": ["tickets"]}, {})
    'Expected to leave: 100 before, 140 after; 12 of 50 listed clients are new. More important: tickets.'
    """
    gained = ", ".join(column(name, labels) for name in record["gained"])
    verb = "is" if record["newly_listed"] == 1 else "are"
    return (
        f"Expected to leave: {count(record['expected_before'])} before, "
        f"{count(record['expected_after'])} after; {record['newly_listed']:,} of "
        f"{plural(record['listed'], 'listed client')} {verb} new."
        + (f" More important: {gained}." if gained else "")
    )


def contact_list(record: Row, currency: str) -> str:
    """Describe how many clients on the contact list are expected to leave, and the value at risk."""
    listed, share = record["list"], share_listed(record)
    leaving = with_interval(listed["expected_to_leave"], count)
    verb = "is" if count(listed["expected_to_leave"]) == "1" else "are"
    at_risk = ""
    if is_known(listed["value_at_risk"]):
        value = amount(listed["value_at_risk"], short=True)
        at_risk = f"; {currency} {value} of their value is at risk"
    contains = f"The list contains {share}." if share else ""
    if at_risk and share.endswith("of the value at risk"):
        contains = f"That is {share} of all clients."
    return (
        f"Of the {plural(listed['clients'], 'client')} on the contact list, {leaving} {verb} "
        f"expected to leave{at_risk}. {contains}"
    ).strip()


def break_even(record: Row, currency: str) -> str:
    """Describe from which value at risk on a contact pays for itself.

    >>> half, more = {"success": 0.1, "clients": 118}, {"success": 0.3, "clients": 402}
    >>> pays = {"cost": 50, "success": 0.2, "value_at_risk": 250, "clients": 312, "of": 1000}
    >>> pays |= {"lower": half, "higher": more, "median_value": 2000, "risk_at_median_value": 0.125}
    >>> print(*break_even(pays, "EUR").replace("\\xa0", " ").split(". "), sep=".\\n")
    A contact costs EUR 50 and keeps 20 % of those about to leave, so it pays from EUR 250 at risk.
    That is the case for 312 of 1,000 clients; if it keeps 10 % or 30 %, for 118 or 402.
    At the median value, EUR 2,000, it pays from a risk of 12 %.
    """
    lower, higher, risk = record["lower"], record["higher"], record["risk_at_median_value"]
    sentences = [
        f"A contact costs {currency} {amount(record['cost'])} and keeps {percent(record['success'])} "
        f"of those about to leave, so it pays from {currency} "
        f"{amount(record['value_at_risk'])} at risk.",
        f"That is the case for {record['clients']:,} of {plural(record['of'], 'client')}; if it keeps "
        f"{percent(lower['success'])} or {percent(higher['success'])}, for {lower['clients']:,} or "
        f"{higher['clients']:,}.",
    ]
    if risk is not None:
        limit = f"it pays from a risk of {percent(risk)}" if risk <= 1 else "it never pays"
        sentences.append(
            f"At the median value, {currency} {amount(record['median_value'])}, {limit}."
        )
    return " ".join(sentences)


def share_listed(record: Row) -> str:
    """Format the share of the value at risk, or of the expected leavers, on the list; "" if unknown.

    >>> share_listed({"list": {"expected_to_leave": 9}, "expected_to_leave": {"value": 36}})
    '25\\xa0% of those expected to leave'
    """
    stakes = {
        "value_at_risk": "of the value at risk",
        "expected_to_leave": "of those expected to leave",
    }
    for key, of_all in stakes.items():
        part, whole = finite(record["list"].get(key)), finite(record.get(key))
        if part >= 0 and whole > 0:
            return f"{percent(min(1.0, part / whole))} {of_all}"
    return ""


WHY_NOT_LISTED = {
    "reached": "reached lately",
    "not_reached": "not reached lately",
    "follow_up": "with a follow-up later",
    "not_before": "not before a date",
    "override": "expected to stay",
    "do_not_contact": "not to be contacted",
    "past_due": "whose contract has ended",
    "no_place": "less urgent than others",
    "left": "who have left",
    "not_current": "no longer current",
}


def not_listed(why: str) -> str:
    """Describe why clients are not on the list."""
    return WHY_NOT_LISTED.get(why, why.replace("_", " "))


def list_notes(record: Row, currency: str) -> list[str]:
    """Describe who is not on the list for now, the overrides, and from where on a contact pays.

    record: of an assessment; one of an earlier version has none of it

    >>> list_notes({"resting": {"reached": 20, "not_before": 1}, "past_due": 3, "waiting": 1}, "EUR")
    ... # doctest: +NORMALIZE_WHITESPACE
    ['Not on the list for now: 20 reached lately, 1 not before a date.',
     'Too late to save: 3 clients whose contract has ended.',
     'No place on the list: 1 client whose follow-up is due.']
    >>> list_notes({"overrides": {"open": 2, "known": 7, "right": None, "model_right": None}}, "EUR")
    ['Overrides: 2 without an outcome yet, 7 with one, too few to compare with the model.']
    """
    notes = []
    if resting := record.get("resting"):
        most = sorted(resting.items(), key=lambda item: (-item[1], item[0]))
        whys = ", ".join(f"{n:,} {not_listed(why)}" for why, n in most)
        notes.append(f"Not on the list for now: {whys}.")
    if past := record.get("past_due"):
        notes.append(f"Too late to save: {plural(past, 'client')} whose contract has ended.")
    if waiting := record.get("waiting"):
        notes.append(f"No place on the list: {plural(waiting, 'client')} whose follow-up is due.")
    return (
        notes
        + _override_notes(record.get("overrides") or {})
        + ([break_even(record["break_even"], currency)] if record.get("break_even") else [])
    )


def _override_notes(record: Row) -> list[str]:
    """Compare the opinions of the client managers with those of the model."""
    if not record.get("open") and not record.get("known"):
        return []
    note = f"Overrides: {record['open']:,} without an outcome yet"
    if not record["known"]:
        return [f"{note}."]
    note += f", {record['known']:,} with one"
    if record["right"] is None:
        return [f"{note}, too few to compare with the model."]
    right, model_right = count(record["right"]), count(record["model_right"])
    return [f"{note}; the client managers were right in {right}, the model in {model_right}."]


def kept(row: Row) -> str:
    """Format how many of the follow-ups that were due were kept.

    >>> kept({"follow_ups_due": 8, "follow_ups_kept": 6}), kept({"follow_ups_due": 0}), kept({})
    ('6 of 8', 'none due', '–')
    """
    due = row.get("follow_ups_due")
    if due is None:
        return DASH
    return f"{row['follow_ups_kept']:,} of {due:,}" if due else "none due"


def rows_read(record: Row) -> str:
    """Describe how much data there is, and how much of it could not be used."""
    clients = ""
    if "current_clients" in record:  # an earlier version counted no others
        current = count(record["current_clients"])
        clients = f" of {plural(record['clients'], 'client')}, {current} of them current,"
    has = "has" if record["labelled"] == 1 else "have"
    does = "does" if record["open"] == 1 else "do"
    return (
        f"{plural(record['rows'], 'row')}{clients} from "
        f"{plural(record['sources'], 'accepted source')}: {count(record['labelled'])} {has} a known "
        f"outcome ({count(record['left'])} left); {count(record['open'])} {does} not yet. "
        f"{plural(record['rejected'], 'row')} refused (reasons in rejected.csv); "
        f"{plural(record['duplicates'], 'duplicate')}."
    )


def categories(row: Row, shown: int, width: int = 40) -> str:
    """Format the most frequent categories of a column, each with its share of the rows.

    >>> categories({"count": 8, "levels": [["retail", 4], ["health", 3], ["energy", 1]]}, 2)
    'retail 50\\xa0%, health 38\\xa0%, …'
    """
    names = [
        f"{shorten(str(name), width)} {percent(rows / row['count'])}"
        for name, rows in row["levels"][:shown]
    ]
    return ", ".join([*names, *(["…"] if len(row["levels"]) > shown else [])]) or DASH


def outcomes(each: Iterable[str]) -> str:
    """Count the outcomes of runs.

    >>> outcomes(["done", "failed", "done"])
    '2 done, 1 failed'
    """
    return ", ".join(f"{n:,} {outcome}" for outcome, n in Counter(each).most_common())


def runs(good_at: str, counts: Mapping[str, int]) -> str:
    """Summarise the runs of the last 24 hours that did not succeed.

    >>> runs("never", {"skipped": 2, "failed": 0, "died": 1, "unavailable": 0})
    'Last good run: never. In the last 24 hours: 2 runs skipped, 1 run died.'
    """
    names = {"unavailable": "could not read every source"}
    problems = [f"{plural(n, 'run')} {names.get(of, of)}" for of, n in counts.items() if n]
    return (
        f"Last good run: {good_at}. In the last 24 hours: {', '.join(problems) or 'no problems'}."
    )


def packages(record: Row) -> str:
    """Describe how many installed packages are outdated, and which."""
    if not record or not record["packages"]:
        return "The installed packages have not been checked yet."
    total = plural(len(record["packages"]), "package")
    if not record["reachable"]:
        return f"The package index could not be reached, so the latest versions of {total} are unknown."
    old = [package["name"] for package in record["packages"] if package["outdated"]]
    names = f": {', '.join(old)}" if old else ""
    return f"{len(old)} of {total} outdated{names} (checked {moment(record['asked_at'])})."
