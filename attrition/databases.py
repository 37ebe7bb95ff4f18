"""stub"""

from typing import Any

from attrition.errors import SourceError

Seen = dict[str, Any]


def sqlite_file(d):
    return None


def identity(d):
    return d.name


def probe(d, *, seconds):
    raise SourceError(f"{d.name}: there is no SQLite file")


def reading(d, since, *, seconds, whole=False):
    raise SourceError("x")
