"""Tokens and users: written privately, read again when they change, and never guessed at."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from attrition.access import credentials
from attrition.access.credentials import Credentials, add_token, revoke, set_user
from attrition.errors import ConfigError, Damaged
from attrition.storage import files

NOW, LATER = "2026-11-28T10:00:00Z", "2026-12-28T10:00:00Z"
PASSWORD = "a long enough password"


@pytest.fixture
def access(tmp_path):
    return Credentials(tmp_path / "access" / "tokens.json", tmp_path / "access" / "users.json")


@pytest.fixture
def at(monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: NOW)
    return NOW


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_token_is_known_by_its_hash_alone(access, at):
    token = add_token(access, "crm", ["predict", "read"], None)
    assert access.find_token(token, at).roles == ("read", "predict")
    assert token not in access.tokens.path.read_text()
    for wrong in ("", token[:-1], token + "x", token.upper(), "ü", access.tokens.all()[0].hash):
        assert access.find_token(wrong, at) is None


def test_files_are_closed_to_everybody_else(access):
    before = os.umask(0)
    try:
        add_token(access, "crm", ["read"], None)
        set_user(access, "ann", ["read"], None, PASSWORD)
    finally:
        os.umask(before)
    assert mode(access.tokens.path.parent) == 0o700
    assert {mode(access.tokens.path), mode(access.users.path)} == {0o600}


def test_token_ends_on_its_day_and_is_never_valid_again(access, at):
    token = add_token(access, "crm", ["read"], 30)
    assert access.find_token(token, "2026-12-28T09:59:59Z")
    assert access.find_token(token, LATER) is None
    assert not access.has_valid(LATER)
    assert not access.is_empty()


def test_change_by_another_process_counts_at_once(access, at):
    other = Credentials(access.tokens.path, access.users.path)
    assert other.is_empty()
    token = add_token(access, "crm", ["read"], None)
    assert other.find_token(token, at)
    assert revoke(access, "CRM") == 1
    assert other.find_token(token, at) is None
    assert not other.is_empty()


def test_unchanged_file_is_not_read_again(access, at, monkeypatch):
    token = add_token(access, "crm", ["read"], None)
    assert access.find_token(token, at)
    monkeypatch.setattr(files, "read_record", None)
    assert access.find_token(token, at)


def test_name_of_a_valid_token_is_taken_and_that_of_a_revoked_one_is_free(access, at):
    first = add_token(access, "crm", ["read"], None)
    with pytest.raises(ConfigError, match="is taken"):
        add_token(access, "CRM", ["lead"], None)
    with pytest.raises(ConfigError, match="is taken"):
        set_user(access, "crm", ["lead"], None, PASSWORD)
    revoke(access, "crm")
    second = add_token(access, "crm", ["lead"], None)
    assert access.find_token(first, at) is None
    assert access.find_token(second, at).roles == ("lead",)


@pytest.mark.parametrize("name", ["", " ann", "a" * 65, "a,b", "a\nb", "api.token"])
def test_name_that_misleads_is_refused(tmp_path, name):
    access = Credentials(tmp_path / "tokens.json", tmp_path / "users.json", "x" * 20)
    with pytest.raises(ConfigError, match="name"):
        add_token(access, name, ["read"], None)


def test_secret_of_the_environment_is_a_token_with_every_role(tmp_path):
    access = Credentials(tmp_path / "tokens.json", tmp_path / "users.json", "x" * 20)
    assert access.find_token("x" * 20, NOW).roles == credentials.ROLES
    assert access.has_valid(NOW)
    with pytest.raises(ConfigError, match="there is no valid token or user"):
        revoke(access, "api.token")


def test_password_is_checked_and_can_be_changed(access, at):
    assert set_user(access, "Ann", ["read"], None, PASSWORD)
    before = access.check_password("ann", PASSWORD, at)
    assert before.name == "Ann"
    assert not set_user(access, "ann", ["read"], None, PASSWORD + "!")
    assert access.check_password("ann", PASSWORD, at) is None
    after = access.check_password("ANN", PASSWORD + "!", at)
    assert after.stamp != before.stamp
    assert [one.name for one in access.users.all()] == ["ann"]


def test_user_without_a_password_and_unknown_user_cannot_sign_in(access, at):
    set_user(access, "bob", ["lead"], None, None)
    assert access.find_user("bob", at)
    for name in ("bob", "nobody"):
        for password in ("", PASSWORD):
            assert access.check_password(name, password, at) is None


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1001])
def test_password_of_an_unsafe_length_is_refused(access, password):
    with pytest.raises(ConfigError, match="expected 12 to"):
        set_user(access, "ann", ["read"], None, password)
    assert access.is_empty()


def test_changes_at_the_same_time_lose_none(access, at):
    def add(number):
        own = Credentials(access.tokens.path, access.users.path)
        return add_token(own, f"t{number}", ["read"], None)

    with ThreadPoolExecutor(8) as pool:
        tokens = [*pool.map(add, range(16))]
    assert all(access.find_token(token, at) for token in tokens)


DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "not sealed": lambda data: data.replace(b'"read"', b'"lead"'),
    "other fields": lambda data: files.encode(files.sealed({"credentials": [{"name": "x"}]})),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file_lets_nobody_in(access, at, kind):
    token = add_token(access, "crm", ["read"], None)
    path = access.tokens.path
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    for ask in (
        access.is_empty,
        lambda: access.has_valid(at),
        lambda: access.find_token(token, at),
    ):
        with pytest.raises(Damaged, match=r"tokens\.json"):
            ask()
    with pytest.raises(Damaged):
        add_token(access, "other", ["read"], None)


def test_file_that_others_could_have_written_lets_nobody_in(access, at):
    token = add_token(access, "crm", ["read"], None)
    folder = access.tokens.path.parent
    for path, open_mode in ((access.tokens.path, 0o620), (folder, 0o770)):
        fresh = Credentials(access.tokens.path, access.users.path)
        before = mode(path)
        path.chmod(open_mode)
        with pytest.raises(Damaged, match="others may write to it"):
            fresh.find_token(token, at)
        path.chmod(before)
    assert access.find_token(token, at)


def test_link_in_place_of_the_file_lets_nobody_in(access, at, tmp_path):
    token = add_token(access, "crm", ["read"], None)
    access.tokens.path.rename(tmp_path / "theirs.json")
    access.tokens.path.symlink_to(tmp_path / "theirs.json")
    with pytest.raises(Damaged, match="is a link"):
        access.find_token(token, at)


def test_record_says_who_has_which_role_until_when(access, at):
    add_token(access, "crm", ["predict"], 1)
    (record,) = json.loads(access.tokens.path.read_text())["credentials"]
    del record["hash"]
    assert record == {
        "name": "crm",
        "roles": ["predict"],
        "created_at": NOW,
        "ends_at": "2026-11-29T10:00:00Z",
        "revoked_at": "",
    }
