import re

import pytest

from attrition import errors
from attrition.errors import AttritionError
from attrition.operations import cli

OURS = [
    each for each in vars(errors).values() if getattr(each, "__module__", "") == errors.__name__
]
# An answer over HTTP, which no script raises.
ALL = [error for error in OURS if error is not errors.ApiError]
NAMES = [error.__name__ for error in ALL]
EXIT_CODES = {"ConfigError": 2, "Busy": 0}


@pytest.mark.parametrize("error", ALL, ids=NAMES)
def test_each_error_ends_a_script_with_one_line_and_its_exit_code(
    empty_project, monkeypatch, capsys, caplog, error
):
    monkeypatch.setattr("attrition.operations.log.set_up", lambda **_: None)
    options = cli.parser("Does this.").parse_args(["--config", str(empty_project.file)])

    def fail(config):
        raise error("a.csv: expected this; do that")

    assert cli.run_command(options, fail) == EXIT_CODES.get(error.__name__, 1)
    shown = capsys.readouterr()
    output = shown.out + shown.err + "".join(caplog.messages)
    assert output.strip() == "a.csv: expected this; do that"


@pytest.mark.parametrize("error", ALL, ids=NAMES)
def test_an_exit_code_that_a_docstring_names_is_the_one_of_the_script(error):
    named = re.search(r"exits? (?:with )?(\d)", error.__doc__)
    if named and error is not AttritionError:
        assert int(named[1]) == EXIT_CODES[error.__name__]
    assert issubclass(error, AttritionError)


def test_whoever_catches_one_error_catches_no_other():
    assert len({error.__mro__[1] for error in ALL if error is not AttritionError}) == 1
