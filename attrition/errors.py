"""The errors of this package: each message states what was found, expected, where, and what to do."""

from collections.abc import Mapping
from typing import Any


class AttritionError(Exception):
    """An error that a person has to act on; `main()` prints it as one line and exits 1."""


class ConfigError(AttritionError):
    """The configuration or the command line is wrong; exits 2."""


class Busy(AttritionError):
    """The lock is taken: another run is at work, so this one exits 0."""


class NoModel(AttritionError):
    """There is no model in production yet; the API answers 503."""


class NotReady(AttritionError):
    """A file that cannot be read now; running the named script repairs it. The app answers 503."""

    def __init__(self, sentence: str, code: str = "not_ready") -> None:
        super().__init__(sentence)
        self.code = code


class NoRows(AttritionError):
    """No source has a usable row yet."""


class TooLittleData(AttritionError):
    """The training data is not enough for a model yet; the one in production stays."""


class Leakage(AttritionError):
    """A column reveals the outcome, and the config does not accept it; the model in production stays."""


class Damaged(AttritionError):
    """A file is damaged: its hash is not that in its record, or it cannot be trusted."""


class SourceError(AttritionError):
    """A source is unavailable; the others are read, and the exit code of the run is 1."""


class EngineError(AttritionError):
    """The engine that runs the parts failed: a worker, its scheduler, or the versions of both."""


class Unaccounted(AttritionError):
    """The rows and their ledger differ in number: our own bug, and nothing is written."""


class Undeclared(AttritionError):
    """A step reads a setting that it does not declare: our own bug, its fingerprint would miss it."""


class ApiError(AttritionError):
    """An error response: status, code, sentence and details."""

    def __init__(
        self, status: int, code: str, sentence: str, headers: Mapping[str, str] = {}, **details: Any
    ) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers
        self.body = {"error": sentence, "code": code, **details}
