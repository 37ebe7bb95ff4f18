"""Resolve the URL of a database server: its kind, and the secrets that come from the environment."""

import re
from typing import Any
from urllib.parse import quote

from attrition import environment
from attrition.config import Database
from attrition.errors import SourceError

KINDS = {"postgresql": "postgres", "postgres": "postgres", "mysql": "mysql", "mariadb": "mysql"}


def resolve(database: Database) -> tuple[Any, list[str]]:
    """Return the URL with each `${NAME}` replaced, and the secrets in it, longest first.

    A password from the environment may contain any character; in a URL its author has to quote it.

    Raises: SourceError.
    """
    import sqlalchemy as sa

    try:
        given = environment.read_variables(database.url)
    except environment.NotSet as error:
        raise SourceError(f"{database.name}: {error}") from None
    text = re.sub(r"(?<=:)\$\{(\w+)\}(?=@)", lambda m: quote(given[m[1]], safe=""), database.url)
    text = environment.NAME.sub(lambda m: given[m[1]], text)
    try:
        url = sa.make_url(text)
        if "@" in f"{url.host}{url.database}":
            raise ValueError("the password is cut short")
        if not server_kind(url):
            raise ValueError("another kind of database")
    except (sa.exc.ArgumentError, ValueError):
        raise SourceError(
            f"{database.name}: its url is not postgresql://user:${{PASSWORD}}@host/database (or "
            "mysql://), with '@', ':' and '/' in it as %40, %3A, %2F, or sqlite:///path"
        ) from None
    hidden = [value for name, value in url.query.items() if "passw" in name.lower()]
    secrets = {text for text in (url.password, *hidden, *given.values()) if isinstance(text, str)}
    return url, sorted(secrets - {""}, key=len, reverse=True)


def server_kind(url: Any) -> str:
    """Return "postgres" or "mysql", whatever driver the URL names; "" for any other server."""
    return KINDS.get(url.drivername.split("+")[0], "")
