"""Take the secrets of settings from the environment: `${NAME}` stands for a variable."""

import os
import re

from attrition.errors import AttritionError

NAME = re.compile(r"\$\{(\w+)\}")


class NotSet(AttritionError):
    """An environment variable that a setting names is not set."""


def read_variables(text: str) -> dict[str, str]:
    """Return the variables that a text names; a value may be empty.

    Raises: NotSet.
    """
    names = NAME.findall(text)
    if unset := [name for name in names if name not in os.environ]:
        raise NotSet(f"the environment variable {', '.join(unset)} is not set")
    return {name: os.environ[name] for name in names}


def resolve(text: str) -> str:
    """Replace each `${NAME}` by the value of the variable, which may not be empty.

    Raises: NotSet.
    """

    def value(match: re.Match[str]) -> str:
        if not os.environ.get(match[1], "").strip():
            raise NotSet(f"the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return NAME.sub(value, text)
