"""Change who may use the API, from the command line of app.py.

The password of a user is asked for at a terminal, and read from standard input otherwise.
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
    group = parser.add_argument_group("who may use the API (prints one answer, serves nothing)")
    commands = group.add_mutually_exclusive_group()
    commands.add_argument("--new-token", metavar="NAME", help="print a new token, once")
    commands.add_argument(
        "--new-user", metavar="NAME", help="add a user, or change password, roles and end of one"
    )
    commands.add_argument("--revoke", metavar="NAME", help="end a token or a user, at once")
    commands.add_argument("--list-access", action="store_true", help="list tokens and users")
    group.add_argument("--role", action="append", choices=ROLES, help="repeat it for several roles")
    group.add_argument("--days", type=int, metavar="N", help="end after so many days")
    group.add_argument(
        "--no-password", action="store_true", help="a user who comes through a proxy only"
    )


def is_command(options: argparse.Namespace) -> bool:
    """Return whether the options change or list who may use the API.

    Raises: ConfigError if an option is missing, or has nothing to change.
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
    """Do what the options ask for, record it in the audit log, and return the answer."""
    access = Credentials(config.tokens, config.users, secret)
    if options.list_access:
        return "\n".join(describe(access, files.utc_now()))
    if options.new_token is not None:
        name, action = options.new_token, "new token"
        answer = credentials.add_token(access, name, options.role, options.days)
        print(f"the token {name}; it is not shown again:", file=sys.stderr)
    elif options.new_user is not None:
        name, action = options.new_user, "new user"
        password = None if options.no_password else read_password(name)
        is_new = credentials.set_user(access, name, options.role, options.days, password)
        action = "new user" if is_new else "changed user"
        answer = f"{action} {name} with {roles.describe(options.role)}"
    else:
        name, action = options.revoke, "revoked"
        credentials.revoke(access, name)
        answer = f"revoked {name}; what was begun with it has ended"
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
        return f"{'until' if one.is_valid(at) else 'ended'} {one.ends_at.replace('T', ' ')[:16]}"
    return "without a password" if kind == "user" and not one.hash else "valid"
