"""The errors that are ours: each message says what was found, expected, where, and what to do."""


class AttritionError(Exception):
    """Something a person has to know; `main()` prints it as one line and exits 1."""


class ConfigError(AttritionError):
    """The configuration or the command line is wrong; exits 2."""


class Busy(AttritionError):
    """Another run holds the lock; it will do the work, so this one exits 0."""


class NoModel(AttritionError):
    """There is no model in production yet; the API answers 503."""


class TooLittleData(AttritionError):
    """There is nothing to learn from yet; whatever is in production stays."""


class Leakage(AttritionError):
    """A column knows the outcome, and nobody said that it may; whatever is in production stays."""


class Damaged(AttritionError):
    """A file of ours does not hash as its record says."""


class SourceError(AttritionError):
    """One source cannot be read now; the others go on and the run's exit code tells it."""


class Unaccounted(AttritionError):
    """The count of rows and their account disagree: our own bug, and nothing of it is written."""


class Undeclared(AttritionError):
    """A step reads a setting that it does not declare: our own bug, its fingerprint would miss it."""
