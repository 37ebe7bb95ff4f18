"""Parse and validate the body of POST /prediction: records, columns, CSV or the name of a file."""

import csv
import io
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from attrition import wording
from attrition.config import Columns, Config
from attrition.data import api_records
from attrition.data.api_records import MAX_PROBLEMS, BadRecords, CheckedRows
from attrition.data.cells import fold
from attrition.data.spelling import Spelling
from attrition.errors import ApiError, SourceError

MAX_RECORDS, MAX_ROWS, MAX_FILE_RECORDS, MAX_EXPLAINED = 1_000, 10_000, 100_000, 1_000
FORMS = ("records", "columns", "datafile")
DELIMITERS = ",;\t|"


# ---- JSON


def read_json(data: bytes) -> Any:
    """Parse JSON strictly: UTF-8, finite numbers, no repeated key.

    Raises: ApiError 400 if it is anything else.
    """
    try:
        # a function for each number would take longer than everything else
        body = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise _not_json("the body is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(error, "not_json") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise _not_json(f"the body is not JSON: {where}") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise _not_json("the body is not JSON: a number of too many digits") from error
    if _has_infinity(body):
        raise _not_json("the body is not JSON: a number is too large")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _not_json(
            f"the body is not JSON: the key {repeated[:60]!r} is repeated in one object"
        )
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise _not_json(f"the body is not JSON: {name} is not a JSON number")


def _has_infinity(body: Any) -> bool:
    """Return whether a number was too large for a float, such as 1e400."""
    waiting = [[body]]
    while waiting:
        items = waiting.pop()
        types = set(map(type, items))
        if float in types and (math.inf in items or -math.inf in items):
            return True
        if list in types:
            waiting += [each for each in items if type(each) is list]
        if dict in types:
            waiting += [list(each.values()) for each in items if type(each) is dict]
    return False


def _not_json(sentence: str) -> ApiError:
    return ApiError(400, "not_json", sentence)


def _not_utf8(error: UnicodeDecodeError, code: str) -> ApiError:
    return ApiError(400, code, f"the body is not UTF-8: byte {error.start} cannot be read")


def check_body(body: Any) -> tuple[str, Any]:
    """Return the one key of the body, one of `FORMS`, and its value.

    Raises: ApiError 422, 413.
    """
    if not isinstance(body, dict) or len(body) != 1 or not body.keys() <= {*FORMS}:
        raise _invalid_body(
            'expected {"records": [{...}, ...]}, {"columns": {"name": [...], ...}} or '
            '{"datafile": "name.csv"}, and no other key'
        )
    key, value = next(iter(body.items()))
    if key == "datafile":
        if not isinstance(value, str):
            raise _invalid_body("datafile: expected the name of a file")
    elif key == "columns":
        check_count(_count_rows(value), MAX_ROWS, "rows")
    elif not isinstance(value, list):
        raise _invalid_body("records: expected a list of objects")
    else:
        check_count(len(value), MAX_RECORDS, "records")
    return key, value


def check_count(count: int, most: int, noun: str) -> None:
    """Raise ApiError 422 if there is nothing to predict, 413 if there is too much."""
    if count == 0:
        raise _invalid_body(f"{noun}: expected at least one")
    if count > most:
        raise ApiError(413, "too_many_records", f"{count} {noun}, expected at most {most}")


def _count_rows(columns: Any) -> int:
    """Return the length of the columns.

    Raises: ApiError 422 with every column that is not a list, or not as long as the first one.
    """
    if not isinstance(columns, dict) or not columns:
        raise _invalid_body("columns: expected an object of lists")
    lengths = {
        name: len(each) if isinstance(each, list) else None for name, each in columns.items()
    }
    expected = next((length for length in lengths.values() if length is not None), 0)
    problems = [
        {
            "record": None,
            "field": name[:60],
            "problem": "expected a list"
            if length is None
            else f"has {wording.plural(length, 'value')}, expected {expected} like the first column",
        }
        for name, length in lengths.items()
        if length != expected
    ]
    if problems:
        first = problems[0]
        sentence = f"columns: {first['field']}: {first['problem']}{_more(len(problems))}"
        raise _invalid_body(sentence, problems=problems[:MAX_PROBLEMS])
    return expected


def _invalid_body(sentence: str, **details: Any) -> ApiError:
    return ApiError(422, "invalid_body", sentence, **details)


# ---- CSV


def read_csv(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Parse CSV strictly (UTF-8, a header), and return the header and the rows that are not blank.

    The delimiter is the one that splits the header most often, as it is of files.

    Raises: ApiError 400, 413, 422.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(error, "not_csv") from None
    delimiter = max(DELIMITERS, key=text.lstrip(" \r\n").partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [row for row in lines if len(row) > 1 or (row and row[0].strip())]
    except csv.Error as error:
        sentence = f"the body is not CSV: {error}, line {lines.line_num}"
        raise ApiError(400, "not_csv", sentence) from None
    if not rows:
        raise _invalid_body("expected a first line with the names of the columns")
    header, *cells = rows
    check_count(len(cells), MAX_ROWS, "rows")
    folded = [fold(name) for name in header]
    if repeated := [name for name in header if fold(name) and folded.count(fold(name)) > 1]:
        raise _invalid_body(f"the column {repeated[0][:60]!r} is repeated")
    return header, cells


# ---- rows


def optional_features(columns: Columns, training: Mapping[str, Any]) -> set[str]:
    """Return the features that a record may leave out.

    These are the ones that the model does not use, and those that were missing in its training.

    >>> training = {"features": {"numeric": ["logins"], "categorical": []}, "missing_seen": []}
    >>> optional_features(Columns(numeric=(), categorical=("logins", "fax")), training)
    {'fax'}
    """
    used = {name for names in training["features"].values() for name in names}
    return set(columns.features) - used | set(training["missing_seen"])


def check_rows(
    config: Config,
    form: str,
    content: Any,
    missing_allowed: Collection[str],
    spelling: Spelling,
    today: str,
) -> CheckedRows:
    """Validate the rows of a body, and return their features in the same order.

    form: one of `FORMS`, or "csv" with a header and rows; today: the day from which the dates of a row
    without a time count

    Raises: ApiError 422 with every wrong row and field; 404 and 413 of a data file.
    """
    columns, rules = config.columns, (missing_allowed, spelling, today)
    try:
        if form == "records":
            return api_records.check_records(columns, content, *rules)
        if form == "columns":
            return api_records.check_columns(columns, content, *rules)
        if form == "csv":
            header, cells = content
            markers = config.missing_markers
            return api_records.check_texts(columns, header, cells, markers, *rules)
    except BadRecords as error:
        raise _invalid_records(error.problems, error.count) from None
    return read_datafile(config, content, spelling, today)


def _invalid_records(problems: list[dict[str, Any]], count: int) -> ApiError:
    first = problems[0]
    field, problem = first["field"], first["problem"]
    has_name = not field or problem.startswith(f"{field} ")
    sentence = f"record {first['record']}: {problem if has_name else f'{field}: {problem}'}"
    sentence += _more(count)
    return ApiError(422, "invalid_records", sentence, problems=problems)


def _more(problems: int) -> str:
    return f" (and {problems - 1} more)" if problems > 1 else ""


def read_datafile(config: Config, name: str, spelling: Spelling, today: str = "") -> CheckedRows:
    """Read the rows of a file in the test or the input folder, in the same order.

    If the name is not in the listing of a folder it is refused; it is never used as a path.

    Raises: ApiError 404, 413, 422.
    """
    from attrition.data import schema
    from attrition.rows import typed_rows
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
    columns = config.columns
    rows = typed_rows.typed(checked.frame(), columns, today)
    numbers = {name: rows[name].to_numpy(dtype="float64") for name in columns.numeric_names}
    texts = {name: rows[name].tolist() for name in columns.categorical}
    return CheckedRows(rows[columns.client_name].tolist(), numbers | texts)
