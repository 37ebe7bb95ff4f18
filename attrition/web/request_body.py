"""Parse and validate the body of POST /prediction."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attrition.config import Columns, Config
from attrition.errors import AttritionError, SourceError

if TYPE_CHECKING:
    import pandas as pd

    from attrition.data.spelling import Spelling

MAX_RECORDS, MAX_FILE_RECORDS = 1_000, 100_000
MAX_DIGITS = 400
MAX_PROBLEMS = 100


class ApiError(AttritionError):
    """An error response: status, code, sentence and details."""

    def __init__(
        self, status: int, code: str, sentence: str, headers: Mapping[str, str] = {}, **details: Any
    ) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers
        self.body = {"error": sentence, "code": code, **details}


def read_json(data: bytes) -> Any:
    """Parse JSON strictly: UTF-8, finite numbers, no repeated key.

    Raises: ApiError 400 if it is anything else.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_read_int,
            parse_float=_read_float,
        )
    except RecursionError:
        sentence = "the body is nested too deeply"
    except UnicodeDecodeError as error:
        sentence = f"the body is not UTF-8: byte {error.start} cannot be read"
    except json.JSONDecodeError as error:
        sentence = f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}"
    except ValueError as error:
        sentence = f"the body is not JSON: {error}"
    raise ApiError(400, "not_json", sentence)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:60]!r} is repeated in one object")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _read_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits, expected at most {MAX_DIGITS}")
    return int(text)


def _read_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def check_body(body: Any) -> tuple[str, Any]:
    """Return the one key of the body, "records" or "datafile", and its value.

    Raises: ApiError 422, 413.
    """
    if not isinstance(body, dict) or len(body) != 1 or not body.keys() <= {"records", "datafile"}:
        raise ApiError(
            422,
            "invalid_body",
            'expected {"records": [{...}, ...]} or {"datafile": "name.csv"}, and no other key',
        )
    key, value = next(iter(body.items()))
    if key == "datafile" and not isinstance(value, str):
        raise ApiError(422, "invalid_body", "datafile: expected the name of a file")
    if key == "records" and not isinstance(value, list):
        raise ApiError(422, "invalid_body", "records: expected a list of objects")
    if key == "records" and not value:
        raise ApiError(422, "invalid_body", "records: expected at least one")
    if key == "records" and len(value) > MAX_RECORDS:
        raise ApiError(
            413, "too_many_records", f"{len(value)} records, expected at most {MAX_RECORDS}"
        )
    return key, value


def optional_features(columns: Columns, training: Mapping[str, Any]) -> set[str]:
    """Return the features that a record may leave out.

    These are the ones that the model does not use, and those that were missing in its training.

    >>> training = {"features": {"numeric": ["logins"], "categorical": []}, "missing_seen": []}
    >>> optional_features(Columns(numeric=(), categorical=("logins", "fax")), training)
    {'fax'}
    """
    used = {name for names in training["features"].values() for name in names}
    return set(columns.features) - used | set(training["missing_seen"])


def check_records(
    columns: Columns,
    records: list[Any],
    missing_allowed: Collection[str],
    spelling: "Spelling | None" = None,
    today: str = "",
) -> "pd.DataFrame":
    """Validate the records of a body, and return their features in the same order.

    today: the day from which the dates of a record without a time count

    Raises: ApiError 422 with every wrong record and field.
    """
    from attrition.data import api_records
    from attrition.data.spelling import NO_SPELLING

    try:
        return api_records.check_records(
            columns, records, missing_allowed, spelling or NO_SPELLING, today
        )
    except api_records.BadRecords as error:
        raise _invalid_records(error.problems) from error


def _invalid_records(problems: list[dict[str, Any]]) -> ApiError:
    first = problems[0]
    field, problem = first["field"], first["problem"]
    has_name = not field or problem.startswith(f"{field} ")
    sentence = f"record {first['record']}: {problem if has_name else f'{field}: {problem}'}"
    if len(problems) > 1:
        sentence += f" (and {len(problems) - 1} more)"
    return ApiError(422, "invalid_records", sentence, problems=problems[:MAX_PROBLEMS])


def read_datafile(
    config: Config, name: str, spelling: "Spelling", today: str = ""
) -> "pd.DataFrame":
    """Read the rows of a file in the test or the input folder, in the same order.

    If the name is not in the listing of a folder it is refused; it is never used as a path.

    Raises: ApiError 404, 413, 422.
    """
    from attrition.data import schema, typed_rows
    from attrition.sources import files as source_files

    folders: dict[str, Path] = {}
    for folder in (config.input_folder, config.test_folder):
        names = source_files.list_names(folder) if folder.is_dir() else []
        folders |= {each: folder for each in names if not source_files.not_an_input(each)}
    if name not in folders:
        raise ApiError(
            404, "unknown_datafile", "there is no such data file", datafiles=sorted(folders)
        )
    try:
        table = source_files.read_path(folders[name] / name, dialect=config.files.dialect(name))
        if (count := sum(chunk.records for chunk in table.chunks)) > MAX_FILE_RECORDS:
            raise ApiError(
                413,
                "too_many_records",
                f"{name} has {count} records, expected at most {MAX_FILE_RECORDS}",
            )
        checked = schema.check(table, config.columns, config.missing_markers, spelling)
    except (schema.Refused, schema.BadHeader, SourceError) as error:
        raise ApiError(422, "invalid_datafile", f"{name}: {error}") from error
    if checked.refused:
        problems = [
            {"line": row.line, "field": None, "problem": row.reason} for row in checked.refused
        ]
        first = checked.refused[0]
        raise ApiError(
            422,
            "invalid_records",
            f"{name} line {first.line}: {first.reason} ({len(problems)} such rows)",
            problems=problems[:MAX_PROBLEMS],
        )
    if not len(checked.lines):
        raise ApiError(422, "invalid_datafile", f"{name}: has no rows")
    return typed_rows.typed(checked.frame(), config.columns, today)
