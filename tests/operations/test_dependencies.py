import json
import os
import subprocess
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from attrition.operations import dependencies


def answering(monkeypatch, text=None, code=0, error=None):
    """Answer every question to the index alike, by default with version 2.5.0 of what is asked.

    Returns the names that each process was asked for.
    """
    asked = []

    def run(command, *, check, **_):
        folder = Path(command[command.index("--path") + 1])
        files = sorted(folder.glob("*/METADATA"))
        names = [file.read_text().splitlines()[1].removeprefix("Name: ") for file in files]
        asked.append(names)
        if error is not None:
            raise error
        if code:
            assert check
            raise subprocess.CalledProcessError(code, command)
        packages = [{"name": name, "version": "0", "latest_version": "2.5.0"} for name in names]
        return subprocess.CompletedProcess(command, code, text or json.dumps(packages), "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


@contextmanager
def serving(pages):
    """Serve an index whose pages are these, by path, and nothing else; yield its address."""

    class Index(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def page(name, *versions):
    files = [f"{name}-{version}.tar.gz" for version in versions]
    return "<!DOCTYPE html>" + "".join(f'<a href="/{file}">{file}</a>' for file in files)


@pytest.fixture
def ask_only(monkeypatch, tmp_path):
    """Return a function by which pip asks this index and nothing else, whatever is configured."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))

    def ask_only(index, more=""):
        settings.write_text(f"[global]\nno-cache-dir = true\nindex-url = {index}\n{more}")
        for name in ("EXTRA_INDEX_URL", "FIND_LINKS"):
            monkeypatch.setenv(f"PIP_{name}", "")

    return ask_only


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


def test_an_index_is_asked_by_pip_for_the_latest_version_that_is_no_pre_release(ask_only):
    pages = {
        f"/simple/{dependencies.CANARY}/": page("sampleproject", "1.0"),
        "/simple/some-name/": page("some_name", "1.9", "1.10", "2.0rc1"),
        "/simple/sqlalchemy/": page("sqlalchemy", "2.1.0"),
        "/simple/nonsense/": "<a href=nothing>\0{",
    }
    with serving(pages) as index:
        ask_only(index, "user = true\n")
        answers = dependencies.ask_all(["some-name", "SQLAlchemy", "nonsense", "not-there"])
    assert answers == {
        "some-name": "1.10",
        "SQLAlchemy": "2.1.0",
        "nonsense": None,
        "not-there": None,
    }


def test_an_index_that_cannot_be_reached_has_no_answer(ask_only):
    with serving({}) as index:
        pass
    ask_only(index)
    assert dependencies.ask_all(["numpy"]) == {"numpy": None}


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 1},
        {"text": "nothing of use"},
        {"text": '[{"name": "numpy"}]'},
        {"text": "[1]"},
        {"error": subprocess.TimeoutExpired("pip", 30)},
        {"error": FileNotFoundError()},
    ],
)
def test_no_answer_is_none_and_never_an_error(monkeypatch, answer):
    answering(monkeypatch, **answer)
    assert dependencies.ask_all(["numpy"]) == {"numpy": None}


def test_one_process_asks_for_all_packages_when_the_index_answers(monkeypatch):
    asked = answering(monkeypatch)
    assert dependencies.ask_all(["a", "b", "c"]) == dict.fromkeys("abc", "2.5.0")
    assert asked == [[dependencies.CANARY], ["a", "b", "c"]]


def test_an_index_that_does_not_answer_is_asked_once_and_nothing_is_known(monkeypatch):
    asked = answering(monkeypatch, text="[]")
    assert dependencies.ask_all(["a", "b", "c"]) == dict.fromkeys("abc")
    assert asked == [[dependencies.CANARY]]


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
