"""Add, revoke and list tokens and users from the command line of app.py.

At a terminal a password is asked for; otherwise it is read from standard input.
"""

import argparse
import getpass
import sys
from collections.abc import Iterable

from attrition.access import audit, credentials, roles
from attrition.access.credentials import Credential, Credentials
from attrition.access.roles import ROLES
from attrition.config import Config
from attrition.errors import ConfigError
from attrition.storage import files

COMMANDS = ("new_token", "new_user", "revoke", "list_access")


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tokens and users (the app is not started)")
    commands = group.add_mutually_exclusive_group()
    commands.add_argument("--new-token", metavar="NAME", help="create a token and print it once")
    commands.add_argument(
        "--new-user", metavar="NAME", help="add or replace a user: password, roles, expiry"
    )
    commands.add_argument("--revoke", metavar="NAME", help="revoke a token or a user")
    commands.add_argument("--list-access", action="store_true", help="list tokens and users")
    group.add_argument("--role", action="append", choices=ROLES, help="repeat for several roles")
    group.add_argument(
        "--days", type=int, metavar="N", help="days until it expires; default: never"
    )
    group.add_argument(
        "--no-password", action="store_true", help="for a user who signs in at a reverse proxy only"
    )


def is_command(options: argparse.Namespace) -> bool:
    """Return whether the options add, revoke or list tokens or users.

    Raises: ConfigError if an option is missing, or does not apply.
    """
    is_new = options.new_token is not None or options.new_user is not None
    if is_new and not options.role:
        raise ConfigError(f"--role is missing, expected one or more of {', '.join(ROLES)}")
    if not is_new and (options.role or options.days is not None):
        raise ConfigError("--role and --days go with --new-token or --new-user")
    if options.no_password and options.new_user is None:
        raise ConfigError("--no-password goes with --new-user")
    if options.days is not None and not 0 < options.days <= 36_500:
        raise ConfigError(f"--days is {options.days}, expected 1 to 36500")
    return is_new or options.revoke is not None or options.list_access


def run(config: Config, options: argparse.Namespace, secret: str | None) -> str:
    """Run the command of the options, record it in the audit log, and return the answer."""
    access = Credentials(config.tokens, config.users, secret)
    if options.list_access:
        return "\n".join(describe(access, files.utc_now()))
    if options.new_token is not None:
        name, action = options.new_token, "new token"
        answer = credentials.add_token(access, name, options.role, options.days)
        print(f"token {name} (it will not be shown again):", file=sys.stderr)
    elif options.new_user is not None:
        name, action = options.new_user, "new user"
        password = None if options.no_password else read_password(name)
        is_new = credentials.set_user(access, name, options.role, options.days, password)
        action = "new user" if is_new else "changed user"
        answer = f"{action} {name} with {roles.describe(options.role)}"
    else:
        name, action = options.revoke, "revoked"
        credentials.revoke(access, name)
        answer = f"revoked {name} and its sessions"
    event = {"at": files.utc_now(), "who": "command line", "action": action, "name": name}
    audit.AuditLog(config.audit_log).write(event | {"roles": options.role or []})
    return answer


def read_password(name: str) -> str:
    """Read a password twice from a terminal, or the first line of standard input.

    Raises: ConfigError.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    least = credentials.MIN_PASSWORD
    password = getpass.getpass(f"Password of {name} (at least {least} characters): ")
    if getpass.getpass("Again: ") != password:
        raise ConfigError("the two passwords differ; nothing was changed")
    return password


def describe(access: Credentials, at: str) -> Iterable[str]:
    """Return a line for each token and user: kind, name, roles, and how long it is valid."""
    rows = [("token", one) for one in access.all_tokens()]
    rows += [("user", one) for one in access.users.all()]
    if not rows:
        return ["no token and no user"]
    width = max(len(one.name) for _, one in rows)
    return [
        f"{kind:5}  {one.name:{width}}  {', '.join(one.roles)}; {_validity(kind, one, at)}"
        for kind, one in rows
    ]


def _validity(kind: str, one: Credential, at: str) -> str:
    if one.revoked_at:
        return f"revoked {one.revoked_at[:10]}"
    if one.ends_at:
        return (
            f"{'expires' if one.is_valid(at) else 'expired'} {one.ends_at.replace('T', ' ')[:16]}"
        )
    return "without a password" if kind == "user" and not one.hash else "valid"
