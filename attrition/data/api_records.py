"""Validate the records of an API body by the contract of rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from attrition.config import Columns, Numeric
from attrition.data.cells import (
    MAX_DAYS,
    MAX_NUMBER,
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
