"""The settings of config.json as one frozen `Config`: each with its type, its default and its rules.

The text below a setting is its meaning in docs/configuration.md. `config_file` reads config.json, checks
it and describes it, all by these declarations. Standard library only: a run that finds nothing new
imports nothing else.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from attrition import environment
from attrition.errors import Undeclared
from attrition.paths import Paths

# Compared without case. Sources: the defaults of pandas' read_csv, the errors of Excel (English and
# German), NULL in the text formats of PostgreSQL and MySQL, and what R, SAS and pivot tables write.
MISSING_MARKERS = (
    *("", "NA", "N/A", "N.A.", "NaN", "-NaN", "NaT", "<NA>", "NULL", "None", "nil", "k.A."),
    *("-", "--", "\u2013", "\u2014", "?", ".", "\\N"),
    *("#N/A", "#N/A N/A", "#NA", "#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"),
    *("#NV", "#WERT!", "#BEZUG!", "#ZAHL!", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    *("(blank)", "(null)", "(empty)", "(none)", "(leer)"),
)
# Results of the version with these settings stay up to date: a setting that was added since is part of a
# fingerprint only if it is set, and the default markers of that version stand for the present ones.
EARLIER_MARKERS = ("", "NA", "N/A", "NaN", "null", "None", "-", "?")
EARLIER_SETTINGS = frozenset(
    "columns databases missing_markers contact_capacity contact_order outcome_after_days held_out_share "
    "settle_seconds max_source_mb max_source_seconds sources_may_vanish accept_leakage "
    "run_limit_minutes overdue_minutes currency api labels "
    "client outcome left stayed numeric categorical time value manager ignore "
    "name minimum maximum integer label unit fixed "
    "url table changed_column overlap_hours reconcile_hours on_delete max_shrink host port token".split()
)


class Form(NamedTuple):
    """What a text must look like; found: what a message states instead of a text that may be secret."""

    is_valid: Callable[[str], object]
    expected: str
    found: str = ""


class Rules(NamedTuple):
    """What a declaration states beside the type and the default of a setting.

    key: its name in config.json, by default that of the field; expected: describes the valid values, if
    their type does not; form: of the text, or of each one; is_level: a value of a column, so a whole
    number is as valid as text; has_keys: names, each of which may have an object of keys
    """

    key: str = ""
    low: float = -math.inf
    high: float = math.inf
    expected: str = ""
    form: Form | None = None
    may_be_empty: bool = False
    is_level: bool = False
    has_keys: bool = False


NO_SETTING = {"rules": None}  # a field that no key of config.json gives


def setting(default: Any = MISSING, **rules: Any) -> Any:
    """Declare a setting with rules; if it has no default, it is required."""
    return field(default=default, metadata={"rules": Rules(**rules)})


# ---- the form of texts


def _has_date(text: str) -> bool:
    """Return whether a date survives being written and read in a format.

    >>> _has_date("%d.%m.%Y"), _has_date("%d.%m.")
    (True, False)
    """
    dates = [datetime(2026, 8, 31), datetime(2031, 12, 5)]  # noqa: DTZ001 - no time of day
    try:
        texts = [date.strftime(text) for date in dates]
        return [datetime.strptime(each, text) for each in texts] == dates  # noqa: DTZ007
    except ValueError:
        return False


def _is_time_zone(name: str) -> bool:
    if name == "UTC":
        return True
    import zoneinfo  # a run that finds nothing new does without it

    try:
        return bool(zoneinfo.ZoneInfo(name))
    except (KeyError, OSError, ValueError):  # an unknown name is a KeyError
        return False


def _has_no_password(url: str) -> bool:
    """Return whether no password stands in a database URL: before the last @, or as a parameter.

    >>> _has_no_password("postgresql://joe:${CRM_PASSWORD}@host/crm")
    True
    >>> _has_no_password("postgresql://joe:hunter2@host/crm")
    False
    >>> _has_no_password("postgresql://joe@host/crm?sslmode=require&password=hunter2")
    False
    """
    secrets = re.findall(r"[?&]\w*passw(?:or)?d=([^&]*)", url, re.IGNORECASE)
    address = re.match(r"[^:/]*://[^:@/?]*:(?!\d+/)(.*)@", url, re.DOTALL)
    secrets += [address[1]] if address else []
    return url.startswith("sqlite:") or all(
        re.fullmatch(r"(\$\{\w+\})?", secret) for secret in secrets
    )


_VARIABLE = "${NAME} with the name of an environment variable"
_URL = f"{_VARIABLE}, as in postgresql://user:${{CRM_PASSWORD}}@host/database"
DATABASE = Form(_has_no_password, _URL, "contains the password itself")
KEY = Form(environment.NAME.fullmatch, _VARIABLE, "is the key itself")
PASSWORD = Form(environment.NAME.fullmatch, _VARIABLE, "is the password itself")
LINK = Form(re.compile(r"https?://.|\$\{\w+\}").match, "https://... or ${NAME}", "is no address")
_EMAIL = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")
EMAIL = Form(_EMAIL.fullmatch, "an address such as ann@example.com")
ADDRESSES = "a list of e-mail addresses"
TIME_ZONE = Form(_is_time_zone, "a name such as Europe/Berlin")
DATES = Form(_has_date, "the format of a date with its day, month and year, such as %d.%m.%Y")


# ---- the settings


@dataclass(frozen=True)
class Numeric:
    """A numeric feature and the range of its valid values."""

    name: str = field(metadata=NO_SETTING)
    minimum: float | None = None
    """a row with a smaller value is refused"""
    maximum: float | None = None
    """a row with a larger value is refused"""
    integer: bool = False
    """only whole numbers are valid"""


PLAIN_FEATURES = (
    Numeric("lastmonth_activity", minimum=0),
    Numeric("lastyear_activity", minimum=0),
    Numeric("number_of_employees", minimum=0),
)


@dataclass(frozen=True)
class Label:
    """How people read a feature; it changes no row and no risk, so it is no part of `Columns`."""

    name: str = field(metadata=NO_SETTING)
    label: str | None = None
    """name to show for the feature; by default the name of its column"""
    unit: str | None = None
    """unit of the values"""
    fixed: bool = False
    """nobody can change this feature, so it comes last among a listed client's reasons"""
    is_date: bool = field(default=False, metadata=NO_SETTING)  # as `Columns.dates` names it


@dataclass(frozen=True)
class Columns:
    """The meaning of each column of a table; the defaults describe the plain CSV files."""

    client: str | None = "corporation"
    """name of the client; `null` if the table has none"""
    outcome: str = "exited"
    """whether the client left; empty as long as that is unknown"""
    left: str | None = setting(None, is_level=True)
    """value of the outcome if the client left; by default 1, yes, true, y, t or ja"""
    stayed: str | None = setting(None, is_level=True)
    """value of the outcome if the client stayed; by default 0, no, false, n, f or nein"""
    numeric: tuple[Numeric, ...] = setting(PLAIN_FEATURES, has_keys=True)
    """numeric features"""
    categorical: tuple[str, ...] = setting((), has_keys=True)
    """features whose values are categories"""
    dates: tuple[str, ...] = setting((), has_keys=True)
    """features that are dates; used as days after the time of the observation, negative before it"""
    markers_are_levels: tuple[str, ...] = ()
    """categorical features in which a missing marker is a level (`NA` for North America) and only an
    empty cell is missing"""
    time: str | None = None
    """when the row was observed, in ISO 8601"""
    value: str | None = None
    """value of the contract; may also be a numeric feature"""
    manager: str | None = None
    """client manager in charge of the client"""
    due: str | None = None
    """date on which the contract ends unless it is renewed; a client whose date has passed is not
    listed"""
    phone: str | None = None
    """telephone number; shown, never learned from"""
    email: str | None = None
    """e-mail address; shown, never learned from"""
    ignore: tuple[str, ...] = ()
    """columns that are neither used nor reported as unknown"""

    @property
    def client_name(self) -> str:
        """The name of the client column in our own files, even if the table has none."""
        return self.client or "client"

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """The features that are numbers in typed rows; dates are days."""
        return (*(column.name for column in self.numeric), *self.dates)

    @property
    def features(self) -> tuple[str, ...]:
        return self.numeric_names + self.categorical

    @property
    def table(self) -> tuple[str, ...]:
        """Every column of `finaldata.csv`, in its order."""
        wanted = (self.client_name, self.time, *self.features, self.value, self.manager)
        wanted += (self.due, *self.details)
        return (*dict.fromkeys(name for name in wanted if name), self.outcome)

    @property
    def details(self) -> tuple[str, ...]:
        """The columns that are shown as they are, and never learned from."""
        return tuple(name for name in (self.phone, self.email) if name)

    @property
    def delivered(self) -> tuple[str, ...]:
        """The columns that a source must have."""
        return self.table if self.client else self.table[1:]


Encoding = Literal["utf-8", "utf-16", "windows-1252", "iso-8859-15"]


@dataclass(frozen=True)
class Dialect:
    """How a file writes text, numbers and dates; nothing of it is guessed."""

    encoding: Encoding = "utf-8"
    """encoding of a text file"""
    separator: Literal[",", ";", "\t", "|"] | None = None
    """what separates the cells of a text file; by default the one of these that splits the header"""
    decimal: Literal[".", ","] = "."
    """decimal sign of numbers"""
    thousands: Literal[",", ".", " ", "'"] | None = None
    """what separates thousands; by default nothing may, or `.` if the decimal sign is `,`"""
    dates: str | None = setting(None, form=DATES)
    """format of dates and times, as of `strftime`: `%d.%m.%Y`; by default ISO 8601"""
    header_line: int | None = setting(None, low=1)
    """line of the column names, if others stand above it; by default the first that is not blank"""
    sheet: str | None = None
    """sheet of an Excel file; by default the first visible one"""

    @property
    def groups(self) -> str | None:
        """What separates thousands: beside a decimal comma, a point can be nothing else."""
        return self.thousands or ("." if self.decimal == "," else None)

    def named(self, other: "Dialect | None" = None) -> dict[str, Any]:
        """Return the keys whose values are not those of another dialect, by default the plain one."""
        names = [each.name for each in fields(Dialect)]
        base = other or DEFAULT_DIALECT
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(base, n)}


DEFAULT_DIALECT = Dialect()


@dataclass(frozen=True)
class Files(Dialect):
    """The dialect of all files, and of those whose names match a pattern."""

    by_name: tuple[tuple[str, Dialect], ...] = setting(
        (), expected="an object of patterns and their keys"
    )
    """other keys for files by a pattern of their names, such as `crm_*.csv`; the first pattern that
    matches counts"""

    def dialect(self, name: str) -> Dialect:
        """Return the dialect of a file; case does not matter, and the cells of Parquet are typed."""
        if name.casefold().endswith(".parquet"):
            return DEFAULT_DIALECT
        matching = (each for pattern, each in self.by_name if self.matches(pattern, name))
        return next(matching, self.dialect_of_all)

    @staticmethod
    def matches(pattern: str, name: str) -> bool:
        return fnmatchcase(name.casefold(), pattern.casefold())

    @property
    def dialect_of_all(self) -> Dialect:
        return Dialect(**{each.name: getattr(self, each.name) for each in fields(Dialect)})


@dataclass(frozen=True)
class Database:
    """A table to read beside the files.

    If there is a `changed_column`, only changes are read, and the whole table every `reconcile_hours`.
    If a row is gone then, it is withdrawn; if it has an outcome, only if `on_delete` is "remove".
    """

    name: str
    """name of the source in `ingestedfiles.txt`"""
    url: str = setting(form=DATABASE)
    """`sqlite:///path`, `postgresql://user:${PASSWORD}@host/database` or `mysql://` (also for MariaDB)
    in the same form; `${NAME}` is taken from the environment"""
    table: str = setting()
    """table or view, `schema.table` where necessary"""
    changed_column: str | None = None
    """column that grows with every change of a row (a time, a counter), so that only changes are read;
    without it the whole table is read each time"""
    overlap_hours: float = setting(24.0, low=0)
    """how long before the newest change a read starts, to find rows that were committed late"""
    reconcile_hours: float = setting(24.0, low=0)
    """how often the whole table is read, to find deleted rows and missed changes"""
    on_delete: Literal["keep_outcomes", "remove"] = "keep_outcomes"
    """rows that are gone from the table: `keep_outcomes` withdraws those without an outcome, `remove`
    withdraws all of them"""
    max_shrink: float = setting(0.5, low=0, high=1)
    """a table that lost a larger share of its rows at once is not used without `--accept-loss`"""


@dataclass(frozen=True)
class Api:
    """Where the API listens, and the secret that its callers must send."""

    host: str = "127.0.0.1"
    """address to listen on; every address except loopback needs a token"""
    port: int = setting(8000, low=1, high=65535)
    """port to listen on"""
    token: str | None = None
    """`${NAME}`: environment variable with a token for all roles; prefer `app.py --new-token`"""
    hosts: tuple[str, ...] = ()
    """host names of the API, such as `clients.example.com`; if there are any, every caller needs a
    token or a user"""
    proxies: tuple[str, ...] = ()
    """IP addresses of reverse proxies whose `X-Forwarded-*` and `user_header` are trusted"""
    user_header: str | None = None
    """header in which a proxy names the user who signed in there, such as `Remote-User`"""
    requests_per_minute: int | None = setting(None, low=1)
    """requests per minute of each token or user to each worker; by default no limit"""


@dataclass(frozen=True)
class Engine:
    """Where the parts of an assessment are computed; the results are the same everywhere."""

    backend: Literal["loky", "dask", "ray"] | None = None
    """what runs the parts: `loky` (processes of this machine), `dask` or `ray` (a cluster that shares
    the folders of this project); by default this process"""
    address: str | None = None
    """address of the cluster, such as `tcp://scheduler:8786` (Dask) or `head:6379` (Ray)"""
    workers: int | None = setting(None, low=1)
    """how many parts are computed at once; by default one on each CPU"""
    rows_per_part: int = setting(1 << 18, low=1_000)
    """approximate rows of a part; the memory of an assessment grows with it"""


@dataclass(frozen=True)
class NeverHoldOut:
    """Clients who are always contacted, and who take no part in the experiment."""

    clients: tuple[str, ...] = ()
    """names of clients"""
    value_above: float | None = setting(None, low=0)
    """clients with a higher value, as in `columns.value`"""


@dataclass(frozen=True)
class Experiment:
    """Whom the list leaves out by chance, to measure what contacting changes."""

    share: float = setting(0.2, low=0.01, high=0.5)
    """share of the clients due for the list who are held out by chance"""
    never_hold_out: NeverHoldOut = NeverHoldOut()
    """clients who are never held out; they take no part in the experiment"""
    key: str = setting("${ATTRITION_EXPERIMENT_KEY}", form=KEY)
    """`${NAME}`: environment variable with the key of the draw; without it, no further client is held
    out"""

    @property
    def secret(self) -> bytes | None:
        """The key of the draw; None if its environment variable is not set."""
        try:
            return environment.resolve(self.key).strip().encode("utf-8", "surrogateescape")
        except environment.NotSet:
            return None


@dataclass(frozen=True)
class WriteBack:
    """The table into which the risk of every client is written, where others read it."""

    url: str | None = setting(None, form=DATABASE)
    """`sqlite:///path` or `postgresql://user:${PASSWORD}@host/database`; `${NAME}` is taken from the
    environment; by default nothing is written"""
    table: str | None = None
    """table, `schema.table` where necessary; it is created if it does not exist"""
    max_seconds: float = setting(300.0, low=1)
    """longest time to write; a longer write changes nothing, and the next run tries again"""


@dataclass(frozen=True)
class Mail:
    """The SMTP server that sends alerts and digests; certificates are always verified."""

    host: str
    """name of the SMTP server"""
    sender: str = setting(form=EMAIL)
    """address that the messages come from"""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`, `tls` from the first byte, or `none`, which excludes a password"""
    port: int | None = setting(None, low=1, high=65535)
    """port of the server; by default 587 with `starttls`, 465 with `tls`, else 25"""
    user: str | None = None
    """user to sign in with; may be `${NAME}`"""
    password: str | None = setting(None, form=PASSWORD)
    """`${NAME}`: environment variable with the password"""


@dataclass(frozen=True)
class Webhook:
    """An address that receives each alert as a POST request."""

    url: str = setting(form=LINK)
    """address, such as `https://chat.example.com/hooks/${CHAT_HOOK}`; `${NAME}` is taken from the
    environment"""
    shape: Literal["json", "chat", "teams"] = "json"
    """`json`: event, causes and text for a program; `chat`: `text` for Slack or Mattermost; `teams`: an
    Adaptive Card"""


@dataclass(frozen=True)
class Alerts:
    """Where a run reports that a problem has begun or has ended."""

    recipients: tuple[str, ...] = setting((), expected=ADDRESSES, form=EMAIL)
    """addresses that get alerts by `mail`"""
    webhook: Webhook | None = None
    """address that gets alerts by HTTP"""
    file: str | None = None
    """file to which each alert is appended, as a line of JSON"""
    heartbeat: str | None = setting(None, form=LINK)
    """URL that each run pings, with `/start` and `/fail` added when a run begins and fails, as
    healthchecks.io expects; may contain `${NAME}`"""
    cooldown_minutes: float = setting(60.0, low=0)
    """how long a problem must be gone before it counts as resolved, so that one that comes and goes is
    reported once"""


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS = get_args(Weekday)


@dataclass(frozen=True)
class Digest:
    """Who gets the list, the follow-ups and the state of the portfolio by mail, once a week."""

    managers: tuple[tuple[str, str], ...] = setting(
        (), expected="an object of managers and addresses", form=EMAIL
    )
    """address of each client manager, by the name in `columns.manager`; `mail` names the server"""
    lead: tuple[str, ...] = setting((), expected=ADDRESSES, form=EMAIL)
    """addresses that get the digest of the whole team"""
    weekday: Weekday = "monday"
    """day of the week in `time_zone`"""
    hour: int = setting(6, low=0, high=23)
    """hour of that day from which a run sends it"""
    link: str | None = setting(None, form=LINK)
    """address of the app, for the link in each digest"""


@dataclass(frozen=True)
class Config(Paths):
    """All settings; every path is resolved against config.json's own folder."""

    file: Path = field(metadata=NO_SETTING)
    input_folder: Path = setting(key="input_folder_path")
    """CSV, gzipped CSV, Parquet and Excel files"""
    output_folder: Path = setting(key="output_folder_path")
    """accepted rows, and the account of every source"""
    test_folder: Path = setting(key="test_data_path")
    """labelled rows of other clients, used only for scoring"""
    model_folder: Path = setting(key="output_model_path")
    """the candidate model"""
    production_folder: Path = setting(key="prod_deployment_path")
    """releases, history, the lock"""
    reports_folder: Path = setting(Path("reports"), key="reports_path")
    """report, figures, lists and log"""
    contacts_folder: Path = setting(Path("contacts"), key="contacts_path")
    """the contact log, which people fill in: back it up"""
    access_folder: Path = setting(Path("access"), key="access_path")
    """tokens, users, sessions and the audit log of the API"""
    columns: Columns = Columns()
    """what each column means"""
    files: Files = Files()
    """how files write text, numbers and dates"""
    databases: tuple[Database, ...] = setting((), expected="a list of tables")
    """tables to read beside the files"""
    missing_markers: tuple[str, ...] = setting(MISSING_MARKERS, may_be_empty=True)
    """cells that count as no value"""
    contact_capacity: int = setting(100, low=1)
    """how many clients the managers can contact"""
    manager_capacity: tuple[tuple[str, int], ...] = setting(
        (), expected="an object of managers and whole numbers >= 0"
    )
    """how many places of the contact list are for the clients of each manager; a place that a manager
    does not need goes to the others, but never to one with 0; managers without a number share the rest;
    clients who are handed over come on top"""
    cooldown_reached_days: int = setting(30, low=0, high=3_650)
    """how many days a client stays off the list after being reached"""
    cooldown_not_reached_days: int = setting(3, low=0, high=3_650)
    """how many days a client stays off the list after an attempt without success"""
    contact_cost: float | None = setting(None, low=0)
    """cost of contacting a client, in `currency`; with `contact_success` it gives the break-even
    risk"""
    contact_success: float | None = setting(None, low=0.001, high=1)
    """your estimate of the share of clients about to leave who stay because they are contacted"""
    time_zone: str = setting("UTC", form=TIME_ZONE)
    """time zone that decides when a day begins for the client managers, such as `Europe/Berlin`"""
    contact_order: Literal["risk", "value_at_risk"] = setting(None)
    """order of the contact list; by default `value_at_risk` if `columns.value` is named, else `risk`"""
    experiment: Experiment | None = None
    """hold out some clients by chance, to measure what contacting changes; `{}` uses the defaults; by
    default nobody is held out"""
    outcome_after_days: float | None = setting(None, low=0)
    """how many days after `columns.time` an outcome is mature, that is, may be judged and learned from;
    by default the outcomes of a month are mature when 90 % of them have arrived"""
    max_days_ahead: float = setting(1.0, low=0)
    """a row whose `columns.time` is later than this many days after it is read is refused"""
    held_out_share: float = setting(0.2, low=0.05, high=0.5)
    """share of clients that the evaluation model is not trained on"""
    settle_seconds: float = setting(30.0, low=0)
    """a file that looks unfinished is not read until it has not changed for this long"""
    max_source_mb: float = setting(2048.0, low=0.001)
    """largest size of a source, unpacked"""
    max_source_seconds: float = setting(600.0, low=1)
    """longest time to read a source"""
    sources_may_vanish: bool = False
    """an empty source folder is no error, even if it contained files before"""
    dataset_format: Literal["csv", "parquet"] = "csv"
    """`csv`: the accepted rows are also written to `finaldata.csv`, for people and to rebuild the other
    files; `parquet`: only in the form that the steps read, for many millions of rows"""
    ignore_files: tuple[str, ...] = ()
    """names of files or sub-folders of the source folder that are neither read nor reported as unused;
    `*` and `?` stand for any characters, and case does not count"""
    accept_leakage: tuple[str, ...] = ()
    """features known before the outcome, although they look as if filled in afterwards"""
    run_limit_minutes: float = setting(60.0, low=0.01)
    """a run that takes longer is stopped"""
    overdue_minutes: float = setting(60.0, low=1)
    """age of the last good run above which `/health` and the report warn"""
    currency: str = "EUR"
    """currency of `columns.value`, for display"""
    api: Api = Api()
    """where the API listens"""
    engine: Engine = Engine()
    """where the parts of an assessment are computed"""
    write_back: WriteBack = WriteBack()
    """table that receives the risk of every client"""
    mail: Mail | None = None
    """server that sends messages"""
    alerts: Alerts | None = None
    """where problems of the runs are reported"""
    digest: Digest | None = None
    """who gets a summary by mail each week"""
    labels: dict[str, Label] = field(default_factory=dict, metadata=NO_SETTING)  # in `columns`

    @property
    def contact_rule(self) -> tuple[str, float | None] | None:
        """What decides whether a contact may have changed an outcome; None without an experiment."""
        return (self.time_zone, self.outcome_after_days) if self.experiment else None

    def day(self, at: str) -> str:
        """Return the date of a UTC time in the time zone of the client managers."""
        return find_day(at, self.time_zone)

    def end_of_day(self, day: str) -> float:
        """Return when a date ends in the time zone of the client managers, in seconds since 1970."""
        import zoneinfo

        morning = datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(self.time_zone))
        return (morning + timedelta(days=1)).timestamp()

    def is_ignored(self, name: str) -> bool:
        """Return whether `ignore_files` names a file, by its path, its name or its sub-folder."""
        names = {name.casefold(), *name.casefold().split("/")}
        patterns = [pattern.casefold() for pattern in self.ignore_files]
        return any(fnmatchcase(one, pattern) for one in names for pattern in patterns)

    def fingerprint(self) -> str:
        """Hash the settings of this view; if they change, results are not up to date."""
        settings = {name: value for name, value in _counted(self).items() if name in SETTINGS}
        if settings.get("missing_markers") == MISSING_MARKERS:
            settings["missing_markers"] = EARLIER_MARKERS
        text = json.dumps(settings, sort_keys=True, default=_counted)
        return hashlib.sha256(text.encode()).hexdigest()

    def limited_to(self, *names: str) -> "Config":
        """Return a view with the named settings only: every path works, any other setting raises.

        Raises: Undeclared.
        """
        view = object.__new__(_Limited)
        paths = {name: value for name, value in vars(self).items() if name not in SETTINGS}
        vars(view).update(paths | {name: getattr(self, name) for name in names})
        return view


class _Limited(Config):
    """The settings that a step declares, so that its fingerprint leaves none out that it reads."""

    def __getattribute__(self, name: str) -> Any:
        if name not in SETTINGS:
            return super().__getattribute__(name)
        if name not in vars(self):
            raise Undeclared(f"{name} is read, but not declared; add it to SETTINGS of this step")
        return vars(self)[name]


# The settings that change results: not paths, the engine, messages, or where risks are copied to.
_NO_RESULT = (Path, Engine, WriteBack, Mail | None, Alerts | None, Digest | None)
SETTINGS = {each.name for each in fields(Config) if each.type not in _NO_RESULT} | {"contact_rule"}


def _counted(record: Any) -> dict[str, Any]:
    """Return the settings of a record that are part of a fingerprint, see `EARLIER_SETTINGS`."""
    defaults = {declared.name: declared.default for declared in fields(record)}
    return {
        name: value
        for name, value in vars(record).items()
        if name in EARLIER_SETTINGS or value != defaults.get(name)
    }


def find_day(at: str, time_zone: str) -> str:
    """Return the date of a UTC time in a time zone."""
    if time_zone == "UTC":
        return at[:10]
    import zoneinfo  # a run that finds nothing new does without it

    zone = zoneinfo.ZoneInfo(time_zone)
    return datetime.fromisoformat(at).astimezone(zone).date().isoformat()
