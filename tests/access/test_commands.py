"""Tokens and users on the command line of app.py."""

import io
import json
import subprocess
import sys

import pytest

import app
from attrition.access.credentials import Credentials
from attrition.storage import files
from tests.conftest import ROOT, write_config

PASSWORD = "a long enough password"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def run(config, capsys, monkeypatch):
    """Run app.py; return its exit code, and what it printed to stdout and stderr."""

    def run_app(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = app.main(["--config", str(config.file), *arguments])
        return (code, *capsys.readouterr())

    return run_app


def access_of(config):
    return Credentials(config.tokens, config.users)


def test_new_token_is_printed_alone_and_once(config, run):
    code, token, note = run("--new-token", "crm", "--role", "predict", "--role", "read")
    assert (code, note) == (0, "token crm (it will not be shown again):\n")
    assert access_of(config).find_token(token.strip(), files.utc_now()).name == "crm"
    code, listed, _ = run("--list-access")
    assert (code, listed) == (0, "token  crm  read, predict; valid\n")
    assert token.strip() not in config.audit_log(files.utc_now()[:7]).read_text()


def test_user_gets_a_password_and_changes_it(config, run):
    assert run("--new-user", "ann", "--role", "lead", stdin=f"{PASSWORD}\n")[:2] == (
        *(0, "new user ann with the role lead\n"),
    )
    assert access_of(config).check_password("ann", PASSWORD, files.utc_now())
    assert run("--new-user", "ann", "--role", "read", stdin=f"{PASSWORD}!\n")[:2] == (
        *(0, "changed user ann with the role read\n"),
    )
    user = access_of(config).check_password("ann", f"{PASSWORD}!", files.utc_now())
    assert user.roles == ("read",)


def test_user_of_a_proxy_needs_no_password(config, run):
    assert run("--new-user", "bob", "--role", "read", "--no-password")[0] == 0
    assert run("--list-access")[1] == "user   bob  read; without a password\n"


def test_revoked_and_ended_access_stays_on_the_list(config, run):
    run("--new-token", "crm", "--role", "read", "--days", "30")
    run("--new-token", "bi", "--role", "read")
    assert run("--revoke", "bi")[:2] == (0, "revoked bi and its sessions\n")
    first, second = run("--list-access")[1].splitlines()
    assert first.startswith("token  bi   read; revoked 20")
    assert second.startswith("token  crm  read; expires 20")


def test_each_change_is_in_the_audit_log(config, run):
    run("--new-token", "crm", "--role", "read")
    run("--revoke", "crm")
    text = config.audit_log(files.utc_now()[:7]).read_text()
    events = [json.loads(line) for line in text.splitlines()]
    assert [(one["action"], one["name"]) for one in events] == [
        *(("new token", "crm"), ("revoked", "crm")),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--new-token", "crm"), "--role is missing, expected one or more of read, predict"),
        (("--new-user", "ann", "--role", "read"), "expected 12 to"),
        (("--revoke", "nobody"), "no valid token or user 'nobody'"),
        (("--role", "read"), "--role and --days go with"),
        (("--new-token", "crm", "--role", "read", "--days", "0"), "--days is 0"),
        (("--list-access", "--no-password"), "--no-password goes with"),
    ],
)
def test_incomplete_command_is_one_clear_line_and_changes_nothing(config, run, arguments, words):
    code, answer, problem = run(*arguments, stdin="short\n")
    assert (code, answer, len(problem.splitlines())) == (2, "", 1)
    assert words in problem
    assert not config.tokens.exists()
    assert not config.users.exists()


def test_command_imports_nothing_heavy(config):
    code = (
        "import sys, app; code = app.main(sys.argv[1:]); "
        "print(sorted({'flask', 'numpy', 'pyarrow', 'pandas', 'gunicorn'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, "--config", str(config.file), "--list-access"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "no token and no user\n[]\n"
