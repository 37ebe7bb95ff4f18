"""Read and write the tokens and users of the API, and verify tokens and passwords.

Only hashes are stored. A revoked or expired entry stays in its file, so an API that has had a token is
never open again. While a file is damaged, nobody gets in.
"""

import fcntl
import hmac
import os
import secrets
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

from attrition.access.roles import ROLES
from attrition.errors import AttritionError, ConfigError, Damaged
from attrition.storage import files, permissions

FOLDER_MODE, FILE_MODE = 0o700, 0o600
MIN_PASSWORD, MAX_PASSWORD, MIN_SECRET, MAX_NAME = 12, 1_000, 20, 64
PREFIX = "attrition_"  # so that secret scanners can recognise a token
SECRET_NAME = "api.token"
TOKEN, USER, PROXY, OPEN, NOBODY = "token", "user", "proxy", "open", "nobody"


class Caller(NamedTuple):
    """Who sends a request: kind is "token", "user", "proxy", "open" (no access control) or "nobody"."""

    name: str
    roles: frozenset[str]
    kind: str


ANYBODY = Caller("", frozenset(ROLES), OPEN)
STRANGER = Caller("", frozenset(), NOBODY)


@dataclass(frozen=True)
class Credential:
    """A token or a user. `hash`: sha256 of a token, scrypt of a password; "" for a user without one."""

    name: str
    hash: str
    roles: tuple[str, ...]
    created_at: str
    ends_at: str = ""
    revoked_at: str = ""

    def is_valid(self, at: str) -> bool:
        return not self.revoked_at and not (self.ends_at and self.ends_at <= at)

    @property
    def stamp(self) -> str:
        """A hash of all fields; if it changes, the sessions that began before have ended."""
        return files.sha256_bytes(files.encode(asdict(self)))


Stamp = tuple[int, int, int, int] | None


class CredentialFile:
    """The credentials in one file, which is read again only if it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: tuple[Stamp, tuple[Credential, ...]] | None = None

    def all(self) -> tuple[Credential, ...]:
        """Return all credentials, including revoked ones.

        Raises: Damaged if the file does not match its seal, or if others could have written it.
        """
        stamp = self._stamp()
        if self._loaded is None or self._loaded[0] != stamp:
            self._loaded = stamp, self._read() if stamp else ()
        return self._loaded[1]

    def _stamp(self) -> Stamp:
        try:
            about = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"{self.path}: cannot be read ({error.strerror})") from error
        return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns

    def _read(self) -> tuple[Credential, ...]:
        check_folder(self.path.parent)
        try:
            permissions.check_ours(self.path)
            record = files.read_record(self.path) or {}
            return tuple(
                Credential(**{**one, "roles": tuple(one["roles"])})
                for one in record.get("credentials", ())
            )
        except (OSError, TypeError, KeyError) as error:
            raise Damaged(f"{self.path}: cannot be read ({error})") from error
        except Damaged as error:
            raise Damaged(
                f"{error}; restore it from a backup, or stop the app, remove it, and write a new one "
                "with app.py --new-token or --new-user"
            ) from error


def check_folder(folder: Path) -> None:
    """Check that nobody else could have put a credential into the folder.

    Raises: Damaged.
    """
    try:
        permissions.check_ours(folder)
    except FileNotFoundError:
        return


class Credentials:
    """The tokens and users of one installation, and api.token, which is a token with every role."""

    def __init__(self, tokens: Path, users: Path, secret: str | None = None) -> None:
        self.tokens, self.users = CredentialFile(tokens), CredentialFile(users)
        self._secret = (
            [Credential(SECRET_NAME, _sha256(secret), ROLES, created_at="")] if secret else []
        )

    def all_tokens(self) -> list[Credential]:
        return [*self._secret, *self.tokens.all()]

    def is_empty(self) -> bool:
        """Return whether there has never been a token or a user."""
        return not self.all_tokens() and not self.users.all()

    def has_valid(self, at: str) -> bool:
        """Return whether somebody can get in."""
        return any(one.is_valid(at) for one in (*self.all_tokens(), *self.users.all()))

    def find_token(self, token: str, at: str) -> Credential | None:
        """Return the valid credential of a token; compare it with all of them in constant time."""
        digest = _sha256(token)
        equal = [one for one in self.all_tokens() if hmac.compare_digest(one.hash, digest)]
        return next((one for one in equal if one.is_valid(at)), None)

    def find_user(self, name: str, at: str) -> Credential | None:
        """Return the valid user with a name, ignoring case."""
        return next((one for one in _named(self.users.all(), name) if one.is_valid(at)), None)

    def find(self, kind: str, name: str, at: str) -> Credential | None:
        """Return the valid credential of a kind by its name."""
        if kind == USER:
            return self.find_user(name, at)
        return next((one for one in _named(self.all_tokens(), name) if one.is_valid(at)), None)

    def check_password(self, name: str, password: str, at: str) -> Credential | None:
        """Return the user if the password is right; an unknown name takes as long as a known one."""
        from werkzeug.security import check_password_hash

        user = self.find_user(name, at)
        has_hash = user is not None and user.hash != ""
        is_right = check_password_hash(user.hash if user and has_hash else _no_hash(), password)
        return user if has_hash and is_right else None


@cache
def _no_hash() -> str:
    """Return the hash of a password that nobody knows."""
    return hash_password(secrets.token_urlsafe())


def hash_password(password: str) -> str:
    from werkzeug.security import generate_password_hash

    return generate_password_hash(password)  # scrypt, with 32 MB and a salt


def _sha256(token: str) -> str:
    return files.sha256_bytes(token.encode("utf-8", "surrogatepass"))


def _named(credentials: Sequence[Credential], name: str) -> list[Credential]:
    key = _key(name)
    return [one for one in credentials if _key(one.name) == key]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# ---- changes, made by app.py


def add_token(access: Credentials, name: str, roles: Collection[str], days: int | None) -> str:
    """Add a token and return it; only its hash is stored.

    Raises: ConfigError if the name is taken.
    """
    token = PREFIX + secrets.token_urlsafe(32)

    def change(tokens: list[Credential], at: str) -> list[Credential]:
        _check_free(name, (*access.all_tokens(), *access.users.all()), at)
        others = [one for one in tokens if one not in _named(tokens, name)]
        return [*others, _credential(name, _sha256(token), roles, days, at)]

    _change(access.tokens, change)
    return token


def set_user(
    access: Credentials, name: str, roles: Collection[str], days: int | None, password: str | None
) -> bool:
    """Add a user, or change the password, the roles and the end of one; return whether it is new.

    Raises: ConfigError if the name is that of a token, or the password is too short.
    """
    if password is not None and not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise ConfigError(
            f"the password has {len(password)} characters, expected {MIN_PASSWORD} to {MAX_PASSWORD}"
        )
    digest, is_new = "" if password is None else hash_password(password), []

    def change(users: list[Credential], at: str) -> list[Credential]:
        _check_free(name, access.all_tokens(), at)
        others = [one for one in users if one not in _named(users, name)]
        is_new.append(len(others) == len(users))
        return [*others, _credential(name, digest, roles, days, at)]

    _change(access.users, change)
    return is_new[0]


def revoke(access: Credentials, name: str) -> int:
    """Revoke every valid token and user of a name; return how many there were.

    Raises: ConfigError if there is none.
    """
    count = 0

    def change(credentials: list[Credential], at: str) -> list[Credential]:
        nonlocal count
        ended = [one for one in _named(credentials, name) if one.is_valid(at)]
        count += len(ended)
        return [replace(one, revoked_at=at) if one in ended else one for one in credentials]

    for file in (access.tokens, access.users):
        if any(_named(file.all(), name)):
            _change(file, change)
    if not count:
        raise ConfigError(
            f"there is no valid token or user {name!r}; app.py --list-access lists them"
        )
    return count


def _credential(
    name: str, digest: str, roles: Collection[str], days: int | None, at: str
) -> Credential:
    ends_at = ""
    if days is not None:
        ends_at = (datetime.fromisoformat(at) + timedelta(days=days)).strftime(files.TIME)
    ordered = tuple(role for role in ROLES if role in roles)
    return Credential(name, digest, ordered, created_at=at, ends_at=ends_at)


def _check_free(name: str, others: Sequence[Credential], at: str) -> None:
    """Check a name, which pages show, entries store, and proxies send in a header.

    Raises: ConfigError.
    """
    if (
        not 0 < len(name) <= MAX_NAME
        or name != name.strip()
        or "," in name
        or not name.isprintable()
    ):
        raise ConfigError(
            f"the name {name!r} is not valid: expected 1 to {MAX_NAME} printable characters without "
            "a comma and without spaces at either end"
        )
    if any(one.is_valid(at) or one.name == SECRET_NAME for one in _named(others, name)):
        raise ConfigError(f"the name {name} is taken; choose another one, or --revoke it first")


def _change(
    file: CredentialFile, change: Callable[[list[Credential], str], list[Credential]]
) -> None:
    """Replace the credentials in a file by what `change` returns; one change runs at a time."""
    with _locked(file.path.parent):
        changed = sorted(change(list(file.all()), files.utc_now()), key=lambda one: _key(one.name))
        record = files.sealed({"credentials": [asdict(one) for one in changed]})
        files.write_bytes(file.path, files.encode(record), FILE_MODE)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder, accessible to its owner only, and lock it."""
    if not folder.is_dir():
        files.make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    try:
        check_folder(folder)
        if folder.stat().st_mode & permissions.OTHERS:
            folder.chmod(FOLDER_MODE)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise AttritionError(f"{folder}: {error.strerror}; nothing was changed") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
