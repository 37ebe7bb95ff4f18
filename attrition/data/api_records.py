"""Validate the records of an API body by the contract of rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from attrition.config import Columns, Numeric
from attrition.data.cells import (
    MAX_DAYS,
    MAX_NUMBER,
    MAX_TEXT,
    Cell,
    day_number,
    days_between,
    read_client,
    read_date,
    read_number,
    read_text,
    read_time,
    shorten,
)
from attrition.data.spelling import NO_SPELLING, Spelling, spell


class BadRecords(Exception):
    """API records that break the contract; `problems` contains the record, the field and the reason."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems in the records")
        self.problems = problems


def check_records(
    columns: Columns,
    records: Sequence[Any],
    missing_allowed: Collection[str] = (),
    spelling: Spelling = NO_SPELLING,
    today: str = "",
) -> pd.DataFrame:
    """Validate records of an API body by the same contract; return typed features in their order.

    A record contains the features and may name its client. Numbers are JSON numbers, categories text.
    A feature may be null or absent only if it is in `missing_allowed`, and at least one has a value.
    The words of a boolean column, and true and false, are read in its spelling. A date is ISO text,
    relative to the record's own time or else `today`, or the number of days.

    Raises: BadRecords.
    """
    problems: list[dict[str, Any]] = []
    checked = []
    for i, record in enumerate(records):
        row, reasons = _check_record(columns, record, missing_allowed, spelling, today)
        problems += [{"record": i, "field": name, "problem": reason} for name, reason in reasons]
        checked.append(row)
    if problems:
        raise BadRecords(problems)
    rows = pd.DataFrame(checked, columns=[columns.client_name, *columns.features], dtype=object)
    for name in columns.numeric_names:
        rows[name] = pd.to_numeric(rows[name]).astype("float64")
    return rows


def _check_record(
    columns: Columns,
    record: Any,
    missing_allowed: Collection[str],
    spelling: Spelling,
    today: str,
) -> tuple[dict[str, Any], list[tuple[str | None, str]]]:
    if not isinstance(record, Mapping):
        return {}, [(None, "expected an object of features")]
    extras = {columns.client_name, columns.outcome, columns.time, columns.value, columns.manager}
    extras |= {columns.due, *columns.details}
    fields = {*columns.features, *(name for name in extras if name)}
    unknown = [name for name in record if name not in fields]
    problems: list[tuple[str | None, str]] = [(shorten(name), "unknown field") for name in unknown]
    row: dict[str, Any] = {columns.client_name: ""}
    if columns.client and (client := record.get(columns.client)) is not None:
        cell = read_client(client, columns.client) if isinstance(client, str) else None
        if cell is None or cell.code:
            problems.append((columns.client, cell.problem if cell else "expected text"))
        else:
            row[columns.client] = cell.value
    numeric = {column.name: column for column in columns.numeric}
    if columns.dates and columns.time and record.get(columns.time) is not None:
        time = _record_time(record[columns.time], columns.time)
        problems += [(columns.time, time.problem)] if time.code else []
        today = time.value or today
    for name in columns.features:
        if (value := record.get(name)) is None:
            row[name] = "" if name in columns.categorical else math.nan
            if name not in missing_allowed:
                is_null = "is null, but the model has never seen it missing"
                problems.append((name, is_null if name in record else "missing"))
        else:
            row[name], problem = (
                _record_number(value, numeric[name])
                if name in numeric
                else _record_date(value, name, today)
                if name in columns.dates
                else _record_text(value, name, spelling.booleans.get(name, ()))
            )
            problems += [(name, problem)] if problem else []
    if not problems and all(record.get(name) is None for name in columns.features):
        problems.append((None, "no feature has a value"))
    return row, problems


def _record_number(value: Any, column: Numeric) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan, "expected a number"
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return math.nan, "expected at most 1e15 either way"
    cell = read_number(repr(value), column, ())
    return (math.nan, cell.problem) if cell.code else (float(cell.value), "")


def _record_time(value: Any, name: str) -> Cell:
    if not isinstance(value, str):
        return Cell("", "BAD_TIME", "expected an ISO 8601 date or time as text")
    return read_time(value, name, ())


def _record_date(value: Any, name: str, today: str) -> tuple[float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _record_number(value, Numeric(name, -MAX_DAYS, MAX_DAYS))
    cell = _record_time(value, name)
    cell = cell if cell.code else read_date(value, name, ())
    return days_between(day_number(today), day_number(cell.value)), cell.problem


def _record_text(value: Any, name: str, words: Sequence[str]) -> tuple[str, str]:
    if isinstance(value, bool) and words:
        value = str(value)
    if not isinstance(value, str):
        return "", "expected text"
    cell = read_text(value, name, ())
    return spell(cell.value, words), cell.problem


# ---- the same contract as a JSON schema

# Characters that `cells` refuses: control, format and separator characters (of the basic plane).
REFUSED = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
)
TEXT = rf"^[ \t]*[^{REFUSED}]*[ \t]*$"
NAME = rf"^[ \t]*[^{REFUSED}]*[^\s{REFUSED}][^{REFUSED}]*[ \t]*$"
ISO_TIME = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}


def describe_record(
    columns: Columns, missing_allowed: Collection[str] = (), spelling: Spelling = NO_SPELLING
) -> dict[str, Any]:
    """Return the JSON schema of a record; every record that it allows passes `check_records`."""
    features = {
        **{column.name: _describe_number(column) for column in columns.numeric},
        **{name: _describe_date(name) for name in columns.dates},
        **{
            name: _describe_category(spelling.booleans.get(name, ()))
            for name in columns.categorical
        },
    }
    properties: dict[str, Any] = {
        name: {"anyOf": [schema, {"type": "null"}]} if name in missing_allowed else schema
        for name, schema in features.items()
    }
    for name in (columns.outcome, columns.value, columns.manager, columns.due, *columns.details):
        if name:
            properties.setdefault(name, {"description": "Not used."})
    if columns.time:
        of_time = {"anyOf": [ISO_TIME, {"type": "null"}]} if columns.dates else {}
        about = "From when the dates of the record count, by default today."
        properties.setdefault(columns.time, {**of_time, "description": about})
    if columns.client:
        name_schema = {"type": ["string", "null"], "maxLength": MAX_TEXT, "pattern": NAME}
        properties[columns.client] = {
            **name_schema,
            "description": "The client, returned as it is.",
        }
    required = [name for name in features if name not in missing_allowed]
    some_value = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in features
    ]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {"anyOf": some_value}),
    }


def _describe_number(column: Numeric) -> dict[str, Any]:
    return {
        "type": "integer" if column.integer else "number",
        "minimum": -MAX_NUMBER if column.minimum is None else column.minimum,
        "maximum": MAX_NUMBER if column.maximum is None else column.maximum,
    }


def _describe_date(name: str) -> dict[str, Any]:
    days = _describe_number(Numeric(name, -MAX_DAYS, MAX_DAYS))
    return {
        "description": "An ISO date or time, or the days from the record's time to the date.",
        "anyOf": [ISO_TIME, days],
    }


def _describe_category(words: Sequence[str]) -> dict[str, Any]:
    text = {"type": "string", "maxLength": MAX_TEXT, "pattern": TEXT}
    return text | {"type": ["string", "boolean"]} if words else text
