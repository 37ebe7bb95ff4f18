"""What schemathesis cannot derive from the description of the API."""

from datetime import UTC, datetime, timedelta

import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi import format as register_format
from schemathesis.openapi import media_type as register_media_type

TODAY = datetime.now(UTC).date()
HEADER = "lastmonth_activity,lastyear_activity,number_of_employees"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Give the columns of a valid body the same length, which a schema cannot demand."""
    is_valid = case.meta is None or case.meta.generation.mode.is_positive
    if is_valid and isinstance(case.body, dict) and isinstance(case.body.get("columns"), dict):
        columns = case.body["columns"]
        shortest = min(map(len, columns.values()))
        case.body = {"columns": {name: each[:shortest] for name, each in columns.items()}}


@schemathesis.serializer("text/csv")
def serialize_csv(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Give the example of a CSV as bytes, as a registered media type needs it."""
    content = raw_schema["paths"]["/prediction"]["post"]["requestBody"]["content"]["text/csv"]
    content["examples"]["csv"]["value"] = content["examples"]["csv"]["value"].encode()


def csv(rows):
    return "\n".join([HEADER, *(",".join(map(str, row)) for row in rows)]).encode()


# A schema cannot name a day relative to today: from 2 to 80 days ahead, every kind of entry has one.
register_format(
    "date", st.integers(2, 80).map(lambda days: (TODAY + timedelta(days=days)).isoformat())
)
# Nor can it describe the lines of a CSV.
numbers = st.tuples(*[st.integers(0, 10_000)] * 3)
register_media_type("text/csv", st.lists(numbers, min_size=1, max_size=5).map(csv))
