"""Declare the fields of the risk scores and of the contact list once for every output.

To add a field, add its column to `data/clients.py`, compute it in `assessment.py`, declare it here, and
name it in the outputs that show it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from attrition import wording
from attrition.config import Columns, Label
from attrition.data.cells import MAX_DAYS, Caution, Reason, number_text

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Labels = Mapping[str, Label]
CHANGES_SHOWN = 2
NO_COLUMNS = Columns()


# ---- reasons, changes and cautions as text


def reason_text(reason: Reason, labels: Labels) -> str:
    """Format a reason.

    >>> reason_text(Reason("contract_type", "month-to-month", "multi-year", 0.8), {})
    'contract type: month-to-month (baseline: multi-year)'
    >>> tenure = Label("tenure_months", label="client for", unit="months")
    >>> reason_text(Reason("tenure_months", 3.0, 38.0, 0.2), {"tenure_months": tenure})
    'client for: 3 months (baseline: 38)'
    """
    label = labels.get(reason.feature)
    return _reason_text(reason.feature, label, reason.value, reason.baseline)


@lru_cache(maxsize=100_000)  # a million clients share far fewer reasons
def _reason_text(feature: str, label: Label | None, value: Any, baseline: Any) -> str:
    shown = _value_text(value, label)
    unit = f" {label.unit}" if label and label.unit and shown != UNKNOWN else ""
    return f"{_name(feature, label)}: {shown}{unit} (baseline: {_value_text(baseline, label)})"


def change_text(change: Reason, labels: Labels) -> str:
    """Format how a feature changed since the last list.

    >>> change_text(Reason("open_tickets", 5.0, 1.0, 0.8), {})
    'open tickets 1 → 5'
    """
    label = labels.get(change.feature)
    before, now = (_value_text(value, label) for value in (change.baseline, change.value))
    return f"{_name(change.feature, label)} {before} → {now}"


def moved_texts(row: Row, labels: Labels) -> tuple[str, ...]:
    """Describe how a listed client's rank and risk changed since the last list, and why.

    The wordings become shorter, for outputs with little room.

    >>> tickets = Reason("open_tickets", 5.0, 1.0, 0.8)
    >>> moved = {"rank": 2, "previous_rank": 9, "risk_change": 0.0412, "changes": [tickets]}
    >>> moved_texts(moved, {})[0]
    'up from 9, risk +4.1 points: open tickets 1 → 5'
    >>> moved_texts(moved | {"previous_rank": None}, {})[0]
    'new, risk +4.1 points: open tickets 1 → 5'
    """
    rank, before = row.get("list_rank") or row["rank"], row["previous_rank"]
    change = 100 * (row["risk_change"] or 0.0)
    place = "new" if before is None else ""
    if before is not None and rank != before:
        place = f"{'up' if rank < before else 'down'} from {before}"
    if abs(change) < 0.1:
        return (place or "as before",)
    risk = f"risk {'+' if change > 0 else '−'}{abs(change):.1f} points"
    causes = [change_text(each, labels) for each in row["changes"][:CHANGES_SHOWN]]
    causes = causes or ["the model changed"]
    moved = ", ".join(filter(None, (place, risk)))
    return f"{moved}: {', '.join(causes)}", f"{risk}: {causes[0]}", causes[0]


def reasons_note(listed: Sequence[Row]) -> str:
    """Explain the main reasons of the clients on a list; "" if none has any."""
    if not any(row["list_reasons"] for row in listed):
        return ""
    return (
        "Main reasons: what tells a client apart from the others on the list; in brackets the baseline, "
        "the median or most frequent value in training."
    )


def shared_text(assessment: Row, labels: Labels) -> str:
    """Name the reasons that nearly all listed clients share; "" if there are none.

    >>> plan = {"feature": "plan", "value": "monthly", "baseline": "yearly", "clients": 89}
    >>> shared_text({"list": {"clients": 100}, "shared_reasons": [plan]}, {})
    'Nearly all clients on the list have: plan monthly (baseline yearly; 89 of 100).'
    """
    listed, texts = assessment.get("list", {}).get("clients"), []
    for shared in assessment.get("shared_reasons", ()):
        label = labels.get(shared["feature"])
        name = _name(shared["feature"], label)
        is_number = isinstance(shared["value"], float)
        value = f"{'median ' if is_number else ''}{_value_text(shared['value'], label)}"
        baseline = _value_text(shared["baseline"], label)
        count = f"{shared['clients']:,} of {listed:,}"
        texts.append(f"{name} {value} (baseline {baseline}; {count})")
    return f"Nearly all clients on the list have: {', '.join(texts)}." if texts else ""


def _name(feature: str, label: Label | None) -> str:
    return (label and label.label) or feature.replace("_", " ")


def _value_text(value: Any, label: Label | None = None) -> str:
    if value is None or value == "" or value != value:
        return UNKNOWN
    if label and label.is_date:
        return _days_text(value)
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else number_text(round(float(value), 2))


def feature_text(name: str, value: Any, labels: Labels) -> str:
    """Format the value of a feature.

    >>> feature_text("tenure_months", 3.0, {"tenure_months": Label("tenure_months", unit="months")})
    '3 months'
    """
    label = labels.get(name)
    shown = _value_text(value, label)
    return f"{shown} {label.unit}" if label and label.unit and shown != UNKNOWN else shown


def _days_text(days: float) -> str:
    """Format a date as days after the time of the observation.

    >>> _days_text(45.0), _days_text(-1095.0), _days_text(0.0), _days_text(36525.0)
    ('in 45 days', '1,095 days before', 'the same day', 'more than 100 years ahead')
    """
    if abs(days) >= MAX_DAYS:
        return f"more than 100 years {'ahead' if days > 0 else 'before'}"
    count = wording.plural(abs(days), "day")
    return f"in {count}" if days > 0 else f"{count} before" if days < 0 else "the same day"


def caution_text(caution: Caution, labels: Labels) -> str:
    """Format a caution.

    >>> caution_text(Caution("outside_range", "activity", 900.0, 0.5, 300.0), {})
    'activity 900 is outside the training range 0.5 to 300'
    """
    feature = caution.feature and wording.column(caution.feature, labels)
    if feature and (label := labels.get(caution.feature or "")) and label.is_date:
        feature = f"{feature} (in days)"
    return _caution_text(caution._replace(feature=feature))


@lru_cache(maxsize=10_000)
def _caution_text(caution: Caution) -> str:
    shown = [number_text(part) if isinstance(part, float) else part for part in caution]
    return CAUTIONS[caution.code].format(**dict(zip(Caution._fields, shown, strict=True)))


UNKNOWN = "not known"
CAUTIONS = {
    "unknown_level": "unknown category of {feature}",
    "never_missing": "no value of {feature}, which was never missing in training",
    "outside_range": "{feature} {value} is outside the training range {low} to {high}",
    "other_unit": "{feature} looks like another unit in the last delivery; the risk is that of the "
    "previous observation",
    "other_unit_new": "{feature} looks like another unit, and there is no earlier observation",
    "last_seen": "last seen on {value}, long before the newest rows",
    "few_clients": "trained on few clients",
    "base_rate": "the model is a base rate: all clients have the same risk",
}


# ---- the fields


class Kind(NamedTuple):
    """A kind of field: `item` formats each element if the value is a list, `show` any other value.

    `digits` are the decimals in contactlist.csv; if it is None, the field is text, which a spreadsheet
    must not evaluate.
    """

    show: Callable[[Any], str] = str
    item: Callable[[Any, Labels], str] | None = None
    digits: int | None = None
    is_number: bool = False


TEXT = DATE = Kind()
TIME = Kind(wording.minute)
PLACE = Kind(digits=0)
PERCENT = Kind(wording.percent, digits=4, is_number=True)
MONEY = Kind(wording.amount, digits=2, is_number=True)
REASONS, CHANGES = Kind(item=reason_text), Kind(item=change_text)
CAUTION_TEXTS = Kind(item=caution_text)


class Field(NamedTuple):
    """A field of a client: its heading and kind.

    `column` is the name in clients.parquet if it differs. A CSV file has an optional field only if
    config.json names its column, or if any client has a value.
    """

    header: str
    kind: Kind = TEXT
    column: str = ""
    is_optional: bool = False

    @property
    def show(self) -> Callable[[Any], str]:
        return self.kind.show

    @property
    def is_number(self) -> bool:
        return self.kind.is_number


FIELDS = {
    "client": Field("client"),
    "rank": Field("rank", PLACE),
    "risk": Field("risk", PERCENT),
    "observed_at": Field("observed", TIME),
    "value": Field("value, {currency}", MONEY),
    "value_at_risk": Field("value at risk, {currency}", MONEY),
    "manager": Field("client manager"),
    "due": Field("due", DATE, is_optional=True),
    "phone": Field("telephone", is_optional=True),
    "email": Field("e-mail", is_optional=True),
    "reasons": Field("reasons against the baseline", REASONS),
    "list_reasons": Field("main reasons", REASONS),
    "low_confidence": Field("read with care", CAUTION_TEXTS, column="cautions"),
    "previous_rank": Field("previous rank", PLACE),
    "risk_change": Field("change of risk", PERCENT),
    "changes": Field("changed features", CHANGES),
    "moved": Field("change"),  # of rank and risk, with its causes, as text
    # what follows from the contact log
    "block": Field("block"),  # overdue, due, new or rest
    "last_contact": Field("last contact", DATE, is_optional=True),
    "last_contact_by": Field("contacted by", is_optional=True),
    "last_outcome": Field("outcome of the contact", is_optional=True),
    "follow_up": Field("follow-up", DATE, is_optional=True),
    "override": Field("manager expects"),  # stays or leaves
    "resting_until": Field("not listed until", DATE),
    "resting_why": Field("why not listed"),
}
DETAILS = ("due", "phone", "email")
CONTACTS = ("last_contact", "last_contact_by", "last_outcome", "follow_up")
RISK_SCORES = (
    *("client", "risk", "rank", "observed_at", "value", "value_at_risk", "manager"),
    *("reasons", "low_confidence", "due"),
)
CONTACT_LIST = (
    *("rank", "client", "risk", "observed_at", "value", "value_at_risk", "manager"),
    *("reasons", "low_confidence", "previous_rank", "risk_change", *DETAILS, *CONTACTS),
)
API = (
    *("client", "risk", "rank", "observed_at", "value", "value_at_risk", "manager"),
    *("reasons", "low_confidence", *DETAILS, *CONTACTS),
    *("block", "override", "resting_until", "resting_why"),
)
# Of the two CSV files; if it changes, they are written again.
CSV_LAYOUT = str(("escaped and rounded", RISK_SCORES, CONTACT_LIST))
# An address without quotes, comments and display name; anything else is shown, not linked.
EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[^\W_](?:[\w-]{0,62})\.){1,9}[^\W\d_][\w-]{1,62}"
)
# 4930123456.0 is a number that a program wrote, which may have lost its first zero.
PHONE = re.compile(r"\(?\+?[0-9(](?:[0-9 \u00a0()/-]|\u2010|\u2011|\u2013|\.(?!0$))*")
MIN_DIALLED, MAX_DIALLED = 3, 17  # a country code of two zeros and E.164's 15 digits
# A spreadsheet evaluates a cell that begins like this, after any white space. Some split cells at ";".
FORMULA = r"(?='*(?:[\s\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]|[\t\r\n]))"


def column_of(name: str) -> str:
    """Return the column of clients.parquet that contains a field."""
    return FIELDS[name].column or name


def heading(name: str, currency: str) -> str:
    return FIELDS[name].header.format(currency=currency)


def value_of(name: str, row: Row, labels: Labels) -> Any:
    """Return the value of a field: a list of texts if it is a list, None if the row has none."""
    if name == "moved":
        return moved_texts(row, labels)[0]
    value, item = row.get(column_of(name)), FIELDS[name].kind.item
    return value if item is None else [item(each, labels) for each in value or ()]


def to_dict(row: Row, labels: Labels, names: Sequence[str] = API) -> dict[str, Any]:
    """Return fields of a row of clients.parquet by name, a list of texts if it is a list."""
    return {name: value_of(name, row, labels) for name in names}


def escape_formula(cell: str) -> str:
    """Insert an apostrophe where a spreadsheet would evaluate a formula.

    Source: OWASP, CSV Injection.

    >>> escape_formula("=1+1"), escape_formula("A;=1+1"), escape_formula("A = B")
    ("'=1+1", "A;'=1+1", 'A = B')
    """
    if cell[:1].isalnum() and ";" not in cell:
        return cell  # a million clients have several million texts
    return re.sub(rf"(^|;){FORMULA}", r"\1'", cell)


def restore_formula(cell: str) -> str:
    """Return the text that `escape_formula` was given.

    >>> restore_formula("'=1+1"), restore_formula("A;'=1+1"), restore_formula("'s Hertogenbosch")
    ('=1+1', 'A;=1+1', "'s Hertogenbosch")
    """
    return re.sub(rf"(^|;)'{FORMULA}", r"\1", cell)


def csv_table(
    table: "pd.DataFrame", names: Sequence[str], labels: Labels, columns: Columns = NO_COLUMNS
) -> "pd.DataFrame":
    """Return fields of the client table for a CSV file: text escaped, lists joined.

    columns: those that config.json names, see `Field`
    """
    kept = [name for name in names if not FIELDS[name].is_optional or _has(table, name, columns)]
    return table.assign(**{name: _csv_column(table, name, labels) for name in kept})[kept]


def _has(table: "pd.DataFrame", name: str, columns: Columns) -> bool:
    return bool(getattr(columns, name, None)) or any(map(_text, table.get(name, ())))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""  # pandas turns None into NaN


def _csv_column(table: "pd.DataFrame", name: str, labels: Labels) -> Any:
    values, kind = table[column_of(name)], FIELDS[name].kind
    if kind.digits is not None:
        return values
    if (item := kind.item) is None:
        return [escape_formula(_text(value)) for value in values]
    return ["; ".join([escape_formula(item(one, labels)) for one in each]) for each in values]


def contact_list(
    listed: "pd.DataFrame", labels: Labels, columns: Columns = NO_COLUMNS
) -> "pd.DataFrame":
    """Return the contact list for a CSV file: rounded, with the reasons that tell the clients apart.

    The features that changed a risk since the last list follow them.
    """
    own_reasons = listed.assign(reasons=listed["list_reasons"])
    table = csv_table(own_reasons, CONTACT_LIST, labels, columns)
    changes = csv_table(listed, ("changes",), labels)["changes"]
    reasons = [
        "; ".join(filter(None, (text, change and f"since the last list: {change}")))
        for text, change in zip(table["reasons"], changes, strict=True)
    ]
    digits = {name: FIELDS[name].kind.digits for name in table.columns}
    rounded = {name: table[name].round(n) for name, n in digits.items() if n is not None}
    return table.assign(reasons=reasons, **rounded)


# ---- due date, e-mail and telephone on a page


def due_text(due: str, day: str) -> str:
    """Format a due date as days from a day; "" if it is not known.

    >>> due_text("2027-01-31", "2026-12-17"), due_text("2026-12-17", "2026-12-17")
    ('in 45 days', 'today')
    >>> due_text("2026-12-16", "2026-12-17"), due_text("9999-12-31", "2026-12-17")
    ('1 day ago', 'in more than 100 years')
    """
    if not due:
        return ""
    days = (date.fromisoformat(due) - date.fromisoformat(day)).days
    count = wording.plural(abs(days), "day") if abs(days) < MAX_DAYS else "more than 100 years"
    return f"in {count}" if days > 0 else f"{count} ago" if days < 0 else "today"


def mailto(email: str | None) -> str:
    """Return the address of a link that writes to an e-mail address; "" if the text is not one.

    Source: RFC 6068.

    >>> mailto("ann.smith+crm@example.org"), mailto("50%?bcc=x@example.org"), mailto("ask Ann")
    ('mailto:ann.smith+crm@example.org', 'mailto:50%25%3Fbcc%3Dx@example.org', '')
    """
    text = (email or "").strip()
    return f"mailto:{quote(text, safe='@+')}" if EMAIL.fullmatch(text) else ""


def tel(phone: str | None) -> str:
    """Return the address of a link that calls a telephone number; "" if the text is not one.

    A zero in brackets behind a country code is not dialled from abroad.

    Source: RFC 3966.

    >>> tel("+49 (0)30 1234-56"), tel("030/123456"), tel("extension 12")
    ('tel:+4930123456', 'tel:030123456', '')
    """
    text = (phone or "").strip()
    if not PHONE.fullmatch(text):
        return ""
    if text.startswith(("+", "(+", "00")):
        text = text.replace("(0)", "")
    digits = re.sub("[^0-9]", "", text)
    is_number = MIN_DIALLED <= len(digits) <= MAX_DIALLED
    return f"tel:{'+' * ('+' in text)}{digits}" if is_number else ""
