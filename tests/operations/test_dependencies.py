import subprocess

import pytest

from attrition.operations import dependencies

ANSWER = "numpy (2.5.0)\nAvailable versions: 2.5.0, 2.4.6, 2.4.5\n  INSTALLED: 2.4.6\n"


def answering(monkeypatch, text="", code=0, error=None):
    """Answer every question to the index alike; return the commands that were asked."""
    asked = []

    def run(command, **_):
        asked.append(command)
        if error is not None:
            raise error
        return subprocess.CompletedProcess(command, code, text, "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_required_versions_are_read_from_the_pins(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# why\nnumpy==2.4.6\nSQLAlchemy[x,y]==2.1.0 ; python_version>'3'\n-r other\n")
    assert dependencies.read_required(path) == {"numpy": "2.4.6", "SQLAlchemy": "2.1.0"}


def test_our_own_requirements_are_all_pinned_and_installed():
    from diagnostics import REQUIREMENTS

    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line[:1].isalpha()]
    required = dependencies.read_required(REQUIREMENTS)
    assert len(required) == len(lines) > 5
    assert all(dependencies.find_installed(name) for name in required)


def test_the_latest_version_is_the_first_that_the_index_names(monkeypatch):
    answering(monkeypatch, ANSWER)
    assert dependencies.ask_latest("numpy") == "2.5.0"


@pytest.mark.parametrize(
    "answer",
    [
        {"text": ANSWER, "code": 1},
        {"text": "nothing of use"},
        {"error": subprocess.TimeoutExpired("pip", 30)},
        {"error": FileNotFoundError()},
    ],
)
def test_no_answer_is_none_and_never_an_error(monkeypatch, answer):
    answering(monkeypatch, **answer)
    assert dependencies.ask_latest("numpy") is None


def test_the_index_is_asked_for_each_package_when_it_answers(monkeypatch):
    answering(monkeypatch, ANSWER)
    assert dependencies.ask_all(["a", "b", "c"]) == dict.fromkeys("abc", "2.5.0")


def test_an_index_that_does_not_answer_is_asked_once_and_nothing_is_known(monkeypatch):
    asked = answering(monkeypatch, code=1)
    assert dependencies.ask_all(["a", "b", "c"]) == dict.fromkeys("abc")
    assert [command[5] for command in asked] == [dependencies.CANARY]


def test_a_cache_that_is_behind_what_is_installed_does_not_tell_the_latest():
    (line,) = dependencies.compare_versions({"numpy": "2.4.6"}, {"numpy": "1.0"})
    assert (line["latest"], line["outdated"]) == ("unknown", None)


def test_without_an_answer_every_latest_version_is_unknown_and_nothing_is_called_current():
    lines = dependencies.compare_versions({"numpy": "1.0", "pandas": "1.0"}, {})
    assert [line["latest"] for line in lines] == ["unknown", "unknown"]
    assert [line["outdated"] for line in lines] == [None, None]


def test_outdated_is_what_is_installed_in_another_version_than_the_latest():
    installed = dependencies.find_installed("numpy")
    required = {"numpy": installed}
    assert dependencies.compare_versions(required, {"numpy": "999.0"})[0]["outdated"] is True
    assert dependencies.compare_versions(required, {"numpy": installed})[0]["outdated"] is False


def test_a_package_that_is_not_installed_is_told():
    line = dependencies.compare_versions({"no-such-package": "1.0"}, {"no-such-package": "1.0"})[0]
    assert line["installed"] == "not installed"
    assert line["outdated"] is True


def test_packages_are_listed_by_name_whatever_their_case():
    lines = dependencies.compare_versions({"b": "1", "A": "1", "c": "1"}, {})
    assert [line["name"] for line in lines] == ["A", "b", "c"]
