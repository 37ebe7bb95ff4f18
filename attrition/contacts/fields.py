"""Declare the fields of the risk scores and of the contact list once for every output.

To add a field, add its column to `data/clients.py`, compute it in `assessment.py`, declare it here, and
name it in the outputs that show it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition import wording
from attrition.data.cells import Caution, Reason, number_text

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


# ---- reasons and cautions as text


def reason_text(reason: Reason) -> str:
    """Format a reason.

    >>> reason_text(Reason("contract_type", "month-to-month", "multi-year", 0.8))
    'contract type: month-to-month (typical: multi-year)'
    >>> reason_text(Reason("tenure_months", None, 38.0, 0.2))
    'tenure months: not known (typical: 38)'
    """
    return _reason_text(reason.feature, reason.value, reason.baseline)


@lru_cache(maxsize=100_000)  # a million clients share far fewer reasons
def _reason_text(feature: str, value: Any, baseline: Any) -> str:
    return f"{feature.replace('_', ' ')}: {_value_text(value)} (typical: {_value_text(baseline)})"


def _value_text(value: Any) -> str:
    if value is None or value == "" or value != value:
        return "not known"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else number_text(round(float(value), 2))


@lru_cache(maxsize=10_000)
def caution_text(caution: Caution) -> str:
    """Format a caution.

    >>> caution_text(Caution("outside_range", "activity", 900.0, 0.5, 300.0))
    'activity 900 is outside the training range 0.5 to 300'
    """
    shown = [number_text(part) if isinstance(part, float) else part for part in caution]
    return CAUTIONS[caution.code].format(**dict(zip(Caution._fields, shown, strict=True)))


CAUTIONS = {
    "unknown_level": "unknown category of {feature}",
    "never_missing": "no value of {feature}, which was never missing in training",
    "outside_range": "{feature} {value} is outside the training range {low} to {high}",
    "few_clients": "trained on few clients",
    "base_rate": "no usable signal: the base rate",
}


# ---- the fields


class Field(NamedTuple):
    """A field of a client: its heading, and how to format its value.

    `item` formats each element if the value is a list, `show` any other value. `column` is the name in
    clients.parquet if it differs, `width` is in millimetres of the PDF.
    """

    header: str
    show: Callable[[Any], str] = str
    item: Callable[[Any], str] | None = None
    column: str = ""
    width: float = 20
    is_number: bool = False


FIELDS = {
    "client": Field("client", width=44),
    "rank": Field("rank", width=10),
    "risk": Field("risk", wording.percent, width=12, is_number=True),
    "observed_at": Field("observed"),
    "value": Field("value, {currency}", wording.amount, is_number=True),
    "value_at_risk": Field("value at risk, {currency}", wording.amount, is_number=True),
    "manager": Field("client manager", width=25),
    "reasons": Field("main reasons", item=reason_text, width=63),
    "low_confidence": Field("read with care", item=caution_text, column="cautions"),
    "previous_rank": Field("previous rank", is_number=True),
    "risk_change": Field("change of risk", is_number=True),
    "moved": Field("change"),  # of rank and risk, as text
}
RISK_SCORES = (
    *("client", "risk", "rank", "observed_at", "value", "value_at_risk", "manager"),
    *("reasons", "low_confidence"),
)
CONTACT_LIST = (
    *("rank", "client", "risk", "value", "value_at_risk", "manager"),
    *("reasons", "low_confidence", "previous_rank", "risk_change"),
)
API = RISK_SCORES
DASHBOARD = ("rank", "client", "risk", "value_at_risk", "manager", "reasons", "moved")
PDF = ("rank", "client", "risk", "value_at_risk", "manager", "reasons")
# Text from people and sources, which a spreadsheet must not interpret as a formula.
TEXTS = ("client", "manager", "reasons", "low_confidence")


def column_of(name: str) -> str:
    """Return the column of clients.parquet that contains a field."""
    return FIELDS[name].column or name


def heading(name: str, currency: str) -> str:
    return FIELDS[name].header.format(currency=currency)


def value_of(name: str, row: Row) -> Any:
    """Return the value of a field, a list of texts if it is a list."""
    value, item = row[column_of(name)], FIELDS[name].item
    return value if item is None else list(map(item, value))


def to_dict(row: Row, names: Sequence[str] = API) -> dict[str, Any]:
    """Return fields of a row of clients.parquet by name, a list of texts if it is a list."""
    return {name: value_of(name, row) for name in names}


def csv_table(table: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    """Return fields of the client table for a CSV file; if a value is a list, its texts are joined."""
    lists = {name: item for name in names if (item := FIELDS[name].item)}
    texts = {
        name: ["; ".join(map(item, each)) for each in table[column_of(name)]]
        for name, item in lists.items()
    }
    return table.assign(**texts)[list(names)]
