"""Load config.json as one frozen `Config`; the only file that contains paths and file names.

Each setting is declared once, by `setting(...)`: the reader, the error messages and the tables of
docs/configuration.md (python -m attrition.config prints them) follow from the declaration. Standard
library only: a run that finds nothing new imports nothing else.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from attrition import environment
from attrition.errors import ConfigError, Undeclared
from attrition.idle import WATCH_LIST

# Compared without case. Sources: the defaults of pandas' read_csv, the errors of Excel (English and
# German), NULL in the text formats of PostgreSQL and MySQL, and what R, SAS and pivot tables write.
MISSING_MARKERS = (
    *("", "NA", "N/A", "N.A.", "NaN", "-NaN", "NaT", "<NA>", "NULL", "None", "nil", "k.A."),
    *("-", "--", "\u2013", "\u2014", "?", ".", "\\N"),
    *("#N/A", "#N/A N/A", "#NA", "#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"),
    *("#NV", "#WERT!", "#BEZUG!", "#ZAHL!", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    *("(blank)", "(null)", "(empty)", "(none)", "(leer)"),
)
# What the version with these settings computed stays up to date: a setting that was added since is part
# of a fingerprint only if it is set, and its default markers stand for the present ones.
EARLIER_MARKERS = ("", "NA", "N/A", "NaN", "null", "None", "-", "?")
EARLIER_SETTINGS = frozenset(
    "columns databases missing_markers contact_capacity contact_order outcome_after_days held_out_share "
    "settle_seconds max_source_mb max_source_seconds sources_may_vanish accept_leakage "
    "run_limit_minutes overdue_minutes currency api labels "
    "client outcome left stayed numeric categorical time value manager ignore "
    "name minimum maximum integer label unit fixed "
    "url table changed_column overlap_hours reconcile_hours on_delete max_shrink host port token".split()
)


def setting(
    meaning: str,
    default: Any = MISSING,
    *,
    key: str | None = None,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    may_be_empty: bool = False,
    is_level: bool = False,
    has_labels: bool = False,
) -> Any:
    """Declare a setting: its meaning and its valid values; if it has no default, it is required.

    key: its name in config.json, by default that of the field; is_level: a value of a column, so a
    whole number is as valid as text; has_labels: a name may have an object with a `Label`.
    """
    declared = {
        **{"meaning": meaning, "key": key, "low": low, "high": high, "choices": choices},
        **{"may_be_empty": may_be_empty, "is_level": is_level, "has_labels": has_labels},
    }
    return field(default=default, metadata=declared)


@dataclass(frozen=True)
class Numeric:
    """A numeric feature and the range of its valid values."""

    name: str
    minimum: float | None = setting("a row with a smaller value is refused", None)
    maximum: float | None = setting("a row with a larger value is refused", None)
    integer: bool = setting("only whole numbers are valid", False)


@dataclass(frozen=True)
class Label:
    """How people read a feature; it changes no row and no risk, so it is no part of `Columns`."""

    name: str
    label: str | None = setting(
        "name to show for the feature; by default the name of its column", None
    )
    unit: str | None = setting("unit of the values", None)
    fixed: bool = setting(
        "nobody can change this feature, so it comes last among a listed client's reasons", False
    )
    is_date: bool = False  # as `Columns.dates` names it


@dataclass(frozen=True)
class Columns:
    """The meaning of each column of a table; the defaults describe the plain CSV files."""

    client: str | None = setting("name of the client; `null` if the table has none", "corporation")
    outcome: str = setting("whether the client left; empty as long as that is unknown", "exited")
    left: str | None = setting(
        "value of the outcome if the client left; by default 1, yes, true, y, t or ja",
        None,
        is_level=True,
    )
    stayed: str | None = setting(
        "value of the outcome if the client stayed; by default 0, no, false, n, f or nein",
        None,
        is_level=True,
    )
    numeric: tuple[Numeric, ...] = setting(
        "numeric features",
        (
            Numeric("lastmonth_activity", minimum=0),
            Numeric("lastyear_activity", minimum=0),
            Numeric("number_of_employees", minimum=0),
        ),
    )
    categorical: tuple[str, ...] = setting(
        "features whose values are categories", (), has_labels=True
    )
    dates: tuple[str, ...] = setting(
        "features that are dates; used as days after the time of the observation, negative before it",
        (),
        has_labels=True,
    )
    markers_are_levels: tuple[str, ...] = setting(
        "categorical features in which a missing marker is a level (`NA` for North America) and only an "
        "empty cell is missing",
        (),
    )
    time: str | None = setting("when the row was observed, in ISO 8601", None)
    value: str | None = setting("value of the contract; may also be a numeric feature", None)
    manager: str | None = setting("client manager in charge of the client", None)
    due: str | None = setting(
        "date on which the contract ends unless it is renewed; a client whose date has passed is not "
        "listed",
        None,
    )
    phone: str | None = setting("telephone number; shown, never learned from", None)
    email: str | None = setting("e-mail address; shown, never learned from", None)
    ignore: tuple[str, ...] = setting("columns that are neither used nor reported as unknown", ())

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


@dataclass(frozen=True)
class Dialect:
    """How a file writes text, numbers and dates; nothing of it is guessed."""

    encoding: str = setting(
        "encoding of a text file",
        "utf-8",
        choices=("utf-8", "utf-16", "windows-1252", "iso-8859-15"),
    )
    separator: str | None = setting(
        "what separates the cells of a text file; by default the one of these that splits the header",
        None,
        choices=(",", ";", "\t", "|"),
    )
    decimal: str = setting("decimal sign of numbers", ".", choices=(".", ","))
    thousands: str | None = setting(
        "what separates thousands; by default nothing may, or `.` if the decimal sign is `,`",
        None,
        choices=(",", ".", " ", "'"),
    )
    dates: str | None = setting(
        "format of dates and times, as of `strftime`: `%d.%m.%Y`; by default ISO 8601", None
    )
    header_line: int | None = setting(
        "line of the column names, if others stand above it; by default the first that is not blank",
        None,
        low=1,
    )
    sheet: str | None = setting("sheet of an Excel file; by default the first visible one", None)

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
        "other keys for files by a pattern of their names, such as `crm_*.csv`; the first pattern that "
        "matches counts",
        (),
    )

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

    name: str = setting("name of the source in `ingestedfiles.txt`")
    url: str = setting(
        "`sqlite:///path`, `postgresql://user:${PASSWORD}@host/database` or `mysql://` (also for "
        "MariaDB) in the same form; `${NAME}` is taken from the environment"
    )
    table: str = setting("table or view, `schema.table` where necessary")
    changed_column: str | None = setting(
        "column that grows with every change of a row (a time, a counter), so that only changes are "
        "read; without it the whole table is read each time",
        None,
    )
    overlap_hours: float = setting(
        "how long before the newest change a read starts, to find rows that were committed late",
        24.0,
        low=0,
    )
    reconcile_hours: float = setting(
        "how often the whole table is read, to find deleted rows and missed changes",
        24.0,
        low=0,
    )
    on_delete: str = setting(
        "rows that are gone from the table: `keep_outcomes` withdraws those without an outcome, "
        "`remove` withdraws all of them",
        "keep_outcomes",
        choices=("keep_outcomes", "remove"),
    )
    max_shrink: float = setting(
        "a table that lost a larger share of its rows at once is not used without `--accept-loss`",
        0.5,
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class Api:
    """Where the API listens, and the secret that its callers must send."""

    host: str = setting(
        "address to listen on; every address except loopback needs a token", "127.0.0.1"
    )
    port: int = setting("port to listen on", 8000, low=1, high=65535)
    token: str | None = setting(
        "`${NAME}`: environment variable with a token for all roles; prefer `app.py --new-token`",
        None,
    )
    hosts: tuple[str, ...] = setting(
        "host names of the API, such as `clients.example.com`; if there are any, every "
        "caller needs a token or a user",
        (),
    )
    proxies: tuple[str, ...] = setting(
        "IP addresses of reverse proxies whose `X-Forwarded-*` and `user_header` are trusted", ()
    )
    user_header: str | None = setting(
        "header in which a proxy names the user who signed in there, such as `Remote-User`", None
    )
    requests_per_minute: int | None = setting(
        "requests per minute of each token or user to each worker; by default no limit",
        None,
        low=1,
    )


@dataclass(frozen=True)
class Engine:
    """Where the parts of an assessment are computed; the results are the same everywhere."""

    backend: str | None = setting(
        "what runs the parts: `loky` (processes of this machine), `dask` or `ray` (a cluster that "
        "shares the folders of this project); by default this process",
        None,
        choices=("loky", "dask", "ray"),
    )
    address: str | None = setting(
        "address of the cluster, such as `tcp://scheduler:8786` (Dask) or `head:6379` (Ray)", None
    )
    workers: int | None = setting(
        "how many parts are computed at once; by default one on each CPU", None, low=1
    )
    rows_per_part: int = setting(
        "approximate rows of a part; the memory of an assessment grows with it", 1 << 18, low=1_000
    )


@dataclass(frozen=True)
class NeverHoldOut:
    """Clients who are always contacted, and who take no part in the experiment."""

    clients: tuple[str, ...] = setting("names of clients", ())
    value_above: float | None = setting(
        "clients with a higher value, as in `columns.value`", None, low=0
    )


@dataclass(frozen=True)
class Experiment:
    """Whom the list leaves out by chance, to measure what contacting changes."""

    share: float = setting(
        "share of the clients due for the list who are held out by chance", 0.2, low=0.01, high=0.5
    )
    never_hold_out: NeverHoldOut = setting(
        "clients who are never held out; they take no part in the experiment", NeverHoldOut()
    )
    key: str = setting(
        "`${NAME}`: environment variable with the key of the draw; without it, no further client is "
        "held out",
        "${ATTRITION_EXPERIMENT_KEY}",
    )

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

    url: str | None = setting(
        "`sqlite:///path` or `postgresql://user:${PASSWORD}@host/database`; `${NAME}` is taken from "
        "the environment; by default nothing is written",
        None,
    )
    table: str | None = setting(
        "table, `schema.table` where necessary; it is created if it does not exist", None
    )
    max_seconds: float = setting(
        "longest time to write; what was not finished is written at the next run", 300.0, low=1
    )


@dataclass(frozen=True)
class Mail:
    """The SMTP server that sends alerts and digests; certificates are always verified."""

    host: str = setting("name of the SMTP server")
    sender: str = setting("address that the messages come from")
    security: str = setting(
        "`starttls`, `tls` from the first byte, or `none`, which excludes a password",
        "starttls",
        choices=("starttls", "tls", "none"),
    )
    port: int | None = setting(
        "port of the server; by default 587 with `starttls`, 465 with `tls`, else 25",
        None,
        low=1,
        high=65535,
    )
    user: str | None = setting("user to sign in with; may be `${NAME}`", None)
    password: str | None = setting("`${NAME}`: environment variable with the password", None)


@dataclass(frozen=True)
class Webhook:
    """An address that receives each alert as a POST request."""

    url: str = setting(
        "address, such as `https://chat.example.com/hooks/${CHAT_HOOK}`; `${NAME}` is taken from the "
        "environment"
    )
    shape: str = setting(
        "`json`: event, causes and text for a program; `chat`: `text` for Slack or Mattermost; "
        "`teams`: an Adaptive Card",
        "json",
        choices=("json", "chat", "teams"),
    )


@dataclass(frozen=True)
class Alerts:
    """Where a run reports that a problem has begun or has ended."""

    recipients: tuple[str, ...] = setting("addresses that get alerts by `mail`", ())
    webhook: Webhook | None = setting("address that gets alerts by HTTP", None)
    file: str | None = setting("file to which each alert is appended, as a line of JSON", None)
    heartbeat: str | None = setting(
        "URL that each run pings, with `/start` and `/fail` added when a run begins and fails, as "
        "healthchecks.io expects; may contain `${NAME}`",
        None,
    )
    cooldown_minutes: float = setting(
        "how long a problem must be gone before it counts as resolved, so that one that comes and goes "
        "is reported once",
        60.0,
        low=0,
    )


_ADDRESS = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Digest:
    """Who gets the list, the follow-ups and the state of the portfolio by mail, once a week."""

    managers: tuple[tuple[str, str], ...] = setting(
        "address of each client manager, by the name in `columns.manager`; `mail` names the server",
        (),
    )
    lead: tuple[str, ...] = setting("addresses that get the digest of the whole team", ())
    weekday: str = setting("day of the week in `time_zone`", "monday", choices=WEEKDAYS)
    hour: int = setting("hour of that day from which a run sends it", 6, low=0, high=23)
    link: str | None = setting("address of the app, for the link in each digest", None)


class _File:
    """The path of one of our files: the setting of its folder, and its name."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name

    def __get__(self, config: "Config", owner: type) -> Path:
        return getattr(config, self.folder) / self.name


@dataclass(frozen=True)
class Config:
    """All settings and paths; every path is resolved against config.json's own folder."""

    file: Path
    input_folder: Path = setting(
        "CSV, gzipped CSV, Parquet and Excel files", key="input_folder_path"
    )
    output_folder: Path = setting(
        "accepted rows, and the account of every source", key="output_folder_path"
    )
    test_folder: Path = setting(
        "labelled rows of other clients, used only for scoring", key="test_data_path"
    )
    model_folder: Path = setting("the candidate model", key="output_model_path")
    production_folder: Path = setting("releases, history, the lock", key="prod_deployment_path")
    reports_folder: Path = setting(
        "report, figures, lists and log", Path("reports"), key="reports_path"
    )
    contacts_folder: Path = setting(
        "the contact log, which people fill in: back it up", Path("contacts"), key="contacts_path"
    )
    access_folder: Path = setting(
        "tokens, users, sessions and the audit log of the API", Path("access"), key="access_path"
    )
    columns: Columns = setting("what each column means", Columns())
    files: Files = setting("how files write text, numbers and dates", Files())
    databases: tuple[Database, ...] = setting("tables to read beside the files", ())
    missing_markers: tuple[str, ...] = setting(
        "cells that count as no value", MISSING_MARKERS, may_be_empty=True
    )
    contact_capacity: int = setting("how many clients the managers can contact", 100, low=1)
    manager_capacity: tuple[tuple[str, int], ...] = setting(
        "how many places of the contact list are for the clients of each manager; a place that a "
        "manager does not need goes to the others, but never to one with 0; managers without a "
        "number share the rest; clients who are handed over come on top",
        (),
    )
    cooldown_reached_days: int = setting(
        "how many days a client stays off the list after being reached", 30, low=0, high=3_650
    )
    cooldown_not_reached_days: int = setting(
        "how many days a client stays off the list after an attempt without success",
        3,
        low=0,
        high=3_650,
    )
    contact_cost: float | None = setting(
        "cost of contacting a client, in `currency`; with `contact_success` it gives the break-even "
        "risk",
        None,
        low=0,
    )
    contact_success: float | None = setting(
        "your estimate of the share of clients about to leave who stay because they are contacted",
        None,
        low=0.001,
        high=1,
    )
    time_zone: str = setting(
        "time zone that decides when a day begins for the client managers, such as `Europe/Berlin`",
        "UTC",
    )
    contact_order: str = setting(
        "order of the contact list; by default `value_at_risk` if `columns.value` is named, else `risk`",
        None,
        choices=("risk", "value_at_risk"),
    )
    experiment: Experiment | None = setting(
        "hold out some clients by chance, to measure what contacting changes; `{}` uses the defaults; "
        "by default nobody is held out",
        None,
    )
    outcome_after_days: float | None = setting(
        "how many days after `columns.time` an outcome is mature, that is, may be judged and learned "
        "from; by default the outcomes of a month are mature when 90 % of them have arrived",
        None,
        low=0,
    )
    max_days_ahead: float = setting(
        "a row whose `columns.time` is later than this many days after it is read is refused",
        1.0,
        low=0,
    )
    held_out_share: float = setting(
        "share of clients that the evaluation model is not trained on", 0.2, low=0.05, high=0.5
    )
    settle_seconds: float = setting(
        "a file that looks unfinished is not read until it has not changed for this long",
        30.0,
        low=0,
    )
    max_source_mb: float = setting("largest size of a source, unpacked", 2048.0, low=0.001)
    max_source_seconds: float = setting("longest time to read a source", 600.0, low=1)
    sources_may_vanish: bool = setting(
        "an empty source folder is no error, even if it contained files before", False
    )
    dataset_format: str = setting(
        "`csv`: the accepted rows are also written to `finaldata.csv`, for people and to rebuild the "
        "other files; `parquet`: only in the form that the steps read, for many millions of rows",
        "csv",
        choices=("csv", "parquet"),
    )
    ignore_files: tuple[str, ...] = setting(
        "names of files or sub-folders of the source folder that are neither read nor reported as "
        "unused; `*` and `?` stand for any characters, and case does not count",
        (),
    )
    accept_leakage: tuple[str, ...] = setting(
        "features known before the outcome, although they look as if filled in afterwards",
        (),
    )
    run_limit_minutes: float = setting("a run that takes longer is stopped", 60.0, low=0.01)
    overdue_minutes: float = setting(
        "age of the last good run above which `/health` and the report warn", 60.0, low=1
    )
    currency: str = setting("currency of `columns.value`, for display", "EUR")
    api: Api = setting("where the API listens", Api())
    engine: Engine = setting("where the parts of an assessment are computed", Engine())
    write_back: WriteBack = setting("table that receives the risk of every client", WriteBack())
    mail: Mail | None = setting("server that sends messages", None)
    alerts: Alerts | None = setting("where problems of the runs are reported", None)
    digest: Digest | None = setting("who gets a summary by mail each week", None)
    labels: dict[str, Label] = field(default_factory=dict)  # by feature; given in `columns`

    # ingestion
    final_data = _File("output_folder", "finaldata.csv")
    rows = _File("output_folder", "finaldata.parquet")
    ingested_files = _File("output_folder", "ingestedfiles.txt")
    rejected = _File("output_folder", "rejected.csv")
    withdrawn = _File("output_folder", "withdrawn.csv")
    table_rows = _File("output_folder", "table_rows.npz")
    deliveries = _File("output_folder", "deliveries.npz")
    gone = _File("output_folder", "gone.npz")
    ingestion_record = _File("output_folder", "ingestion.json")

    # training, scoring, the decision to deploy
    candidate = _File("model_folder", "trainedmodel.skops")
    evaluation_model = _File("model_folder", "evaluationmodel.skops")
    reference = _File("model_folder", "reference.csv")
    known_rows = _File("model_folder", "known_rows.npz")
    training_record = _File("model_folder", "training.json")
    latest_score = _File("model_folder", "latestscore.txt")
    score_record = _File("model_folder", "score.json")
    decision_record = _File("model_folder", "decision.json")

    # production
    releases = _File("production_folder", "releases")
    current = _File("production_folder", "current")
    history = _File("production_folder", "history.sqlite")
    lock = _File("production_folder", ".lock")
    last_run = _File("production_folder", "lastrun.json")
    notices = _File("production_folder", "notices.json")
    hashes = _File("production_folder", "hashes.json")
    watch_list = _File("production_folder", WATCH_LIST)
    forgotten = _File("production_folder", "forgotten.json")
    forgetting = _File("production_folder", "forgetting.json")
    write_back_record = _File("production_folder", "writeback.json")

    # monitoring
    monitoring_record = _File("production_folder", "monitoring.json")
    settled_rows = _File("production_folder", "settled_rows.npz")

    # who may use the API
    tokens = _File("access_folder", "tokens.json")
    users = _File("access_folder", "users.json")
    sessions = _File("access_folder", "sessions.sqlite")

    # what people enter
    contact_log = _File("contacts_folder", "contacts.sqlite")

    # what people read
    clients = _File("reports_folder", "clients.parquet")
    risk_scores = _File("reports_folder", "riskscores.csv")
    contact_list = _File("reports_folder", "contactlist.csv")
    earlier_clients = _File("reports_folder", "previous.parquet")
    risk_history = _File("reports_folder", "riskhistory.npy")
    assessment_record = _File("reports_folder", "assessment.json")
    diagnostics_record = _File("reports_folder", "diagnostics.json")
    dependencies = _File("reports_folder", "dependencies.json")
    report = _File("reports_folder", "report.pdf")
    contact_sheet = _File("reports_folder", "contactlist.xlsx")
    report_record = _File("reports_folder", "report.json")
    api_returns = _File("reports_folder", "apireturns.txt")
    diary = _File("reports_folder", "fullprocess.log")
    metrics = _File("reports_folder", "attrition.prom")

    @property
    def inbox(self) -> Path:
        """The folder for sheets that people have filled in."""
        return self.contacts_folder / "inbox"

    def audit_log(self, month: str) -> Path:
        return self.access_folder / f"audit-{month}.jsonl"

    def figure(self, name: str) -> Path:
        return self.reports_folder / f"{name}.png"

    def manager_pages(self, manager: str) -> Path:
        """Return the printed list of a client manager; different names never have the same file."""
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in manager)[:40]
        digest = hashlib.sha256(manager.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.reports_folder / f"list-{plain}-{digest}.pdf"

    def manager_sheet(self, manager: str) -> Path:
        """Return the Excel sheet of a client manager."""
        return self.manager_pages(manager).with_suffix(self.contact_sheet.suffix)

    def find_manager_sheets(self) -> list[Path]:
        return sorted(self.reports_folder.glob(f"list-*{self.contact_sheet.suffix}"))

    def declared_files(self) -> list[Path]:
        """Return the path of each file of ours that has a name of its own, figures aside."""
        return [getattr(self, n) for n, value in vars(Config).items() if isinstance(value, _File)]

    def segment(self, generation: int) -> Path:
        """Return the file of the rows that a generation added, beside those of `rows`."""
        return self.rows.with_name(f"{self.rows.stem}-{generation}{self.rows.suffix}")

    def deliveries_of(self, segment: Path) -> Path:
        """Return the file about the arrival of the rows in a segment."""
        ending = segment.stem.removeprefix(self.rows.stem)
        return self.deliveries.with_name(f"{self.deliveries.stem}{ending}{self.deliveries.suffix}")

    def list_segments(self, outputs: Collection[str]) -> list[Path]:
        """Return the files of rows among the outputs of ingestion, oldest first."""
        stem, suffix = f"{self.rows.stem}-", self.rows.suffix
        names = [name for name in outputs if name.startswith(stem) and name.endswith(suffix)]
        numbers = sorted(int(name.removeprefix(stem).removesuffix(suffix)) for name in names)
        base = [self.rows] if self.rows.name in outputs else []
        return [*base, *map(self.segment, numbers)]

    def list_derived(self, outputs: Collection[str]) -> list[Path]:
        """Return the outputs of ingestion that follow from others: segments, beside finaldata.csv."""
        return self.list_segments(outputs) if self.final_data.name in outputs else []

    def find_segments(self) -> list[Path]:
        """Return the existing segments beside `rows`, and the files about their arrival."""
        pattern = self.segment(0).name.replace("0", "*")
        found = [
            path
            for path in sorted(self.output_folder.glob(pattern))
            if path.stem.rpartition("-")[2].isdecimal()  # any other one is not ours
        ]
        return [*found, *filter(Path.exists, map(self.deliveries_of, found))]

    def find_figures(self) -> list[Path]:
        return sorted(self.reports_folder.glob(self.figure("*").name))

    @property
    def project(self) -> str:
        """The identity of this installation: a hash of where its production folder is."""
        place = os.fsencode(self.production_folder.resolve())
        return hashlib.sha256(place).hexdigest()[:16]

    def day(self, at: str) -> str:
        """Return the date of a UTC time in the time zone of the client managers."""
        if self.time_zone == "UTC":
            return at[:10]
        import zoneinfo  # a run that finds nothing new does without it

        zone = zoneinfo.ZoneInfo(self.time_zone)
        return datetime.fromisoformat(at).astimezone(zone).date().isoformat()

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
        text = json.dumps(_plain(settings), sort_keys=True, default=str)
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
        if name in SETTINGS and name not in object.__getattribute__(self, "__dict__"):
            raise Undeclared(f"{name} is read, but not declared; add it to SETTINGS of this step")
        return super().__getattribute__(name)


def _declared(record: type) -> dict[str, Field]:
    """Return the settings of a record by their names in config.json."""
    declared = (f for f in fields(record) if f.metadata)
    return {f.metadata["key"] or f.name: f for f in declared}


# By the type of a setting: the record of its object.
_RECORDS: dict[Any, Any] = {
    **{each: each for each in (Columns, Files, Api, Engine, NeverHoldOut, WriteBack)},
    **{each | None: each for each in (Experiment, Mail, Webhook, Alerts, Digest)},
}
# The settings that change results: not paths, the engine, messages, or where risks are copied to.
_NO_RESULT = (Path, Engine, WriteBack, Mail | None, Alerts | None, Digest | None)
SETTINGS = frozenset(f.name for f in _declared(Config).values() if f.type not in _NO_RESULT) | {
    "labels"
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return _plain(_counted(value)) if hasattr(value, "__dataclass_fields__") else value


def _counted(record: Any) -> dict[str, Any]:
    """Return the settings of a record that are part of a fingerprint, see `EARLIER_SETTINGS`."""
    defaults = {declared.name: declared.default for declared in fields(record)}
    return {
        name: value
        for name, value in vars(record).items()
        if name in EARLIER_SETTINGS or value != defaults[name]
    }


def load(file: Path | None = None) -> Config:
    """Read and check config.json, by default the one beside the scripts; report all wrong keys at once.

    Raises: ConfigError.
    """
    file = (file or Path(__file__).resolve().parent.parent / "config.json").absolute()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); name it with --config") from error
    reader = _Reader(file)
    try:
        raw = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=reader.object)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected a JSON object of settings, found {_kind(raw)}")
    return reader.config(raw)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


_WHOLE = (int, int | None)
_NUMBERS = (*_WHOLE, float, float | None)
LABELLED = "names, or names with their keys"
# The description of a value that is not a number, and the JSON type of a nested value.
_EXPECTED: dict[Any, str] = {
    **{Path: "the name of a folder", str: "text", str | None: "text", bool: "true or false"},
    **dict.fromkeys(_RECORDS, "an object"),
    tuple[str, ...]: "a list of names",
    tuple[Numeric, ...]: LABELLED,
    tuple[Database, ...]: "a list of tables",
    tuple[tuple[str, Dialect], ...]: "an object of patterns and their keys",
    tuple[tuple[str, int], ...]: "an object of managers and whole numbers >= 0",
    tuple[tuple[str, str], ...]: "an object of managers and addresses",
}
_PAIRS = tuple(kind for kind in _EXPECTED if str(kind).startswith("tuple[tuple"))
_NESTED: dict[Any, Any] = {
    **dict.fromkeys((*_RECORDS, *_PAIRS), dict),
    tuple[Numeric, ...]: dict | list,
    tuple[Database, ...]: list,
}


def _expected(declared: Field) -> str:
    """Describe the valid values of a setting, for a message and for the documentation."""
    kind, rules = declared.type, declared.metadata
    if kind in _NUMBERS:
        ends = {">=": rules["low"], "<=": rules["high"]}
        limits = " and ".join(f"{sign} {end}" for sign, end in ends.items() if end is not None)
        return f"{'a whole number' if kind in _WHOLE else 'a number'} {limits}".strip()
    if rules["choices"]:
        return f"one of {rules['choices']}"
    if rules["has_labels"]:
        return LABELLED
    return "the value as text" if rules["is_level"] else _EXPECTED[kind]


def _is_valid(value: Any, declared: Field) -> bool:
    """Return whether a value of config.json is valid for a setting."""
    kind, rules = declared.type, declared.metadata
    if kind in _NESTED:
        if kind == tuple[tuple[str, int], ...] and isinstance(value, dict):
            return all(type(places) is int and places >= 0 for places in value.values())
        is_names = kind != tuple[Numeric, ...] or isinstance(value, dict) or _is_names(value)
        return isinstance(value, _NESTED[kind]) and is_names
    if rules["has_labels"] and isinstance(value, dict):
        return all(value)
    if kind == tuple[str, ...]:
        return _is_names(value, may_be_empty=rules["may_be_empty"])
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind in _NUMBERS:
        low, high = rules["low"], rules["high"]
        is_number = isinstance(value, int) or (
            isinstance(value, float) and (kind not in _WHOLE or value.is_integer())
        )
        return is_number and (low is None or value >= low) and (high is None or value <= high)
    if value is None or (isinstance(value, int) and rules["is_level"]):
        return value is not None or kind == str | None
    if rules["choices"]:
        return value in rules["choices"]
    return isinstance(value, str) and bool(value.strip())


def _is_names(value: Any, *, may_be_empty: bool = False) -> bool:
    return isinstance(value, list) and all(
        isinstance(name, str) and (name or may_be_empty) for name in value
    )


def _is_date_format(text: str) -> bool:
    """Return whether a date survives being written and read in a format."""
    try:
        dates = [datetime(2026, 8, 31), datetime(2031, 12, 5)]  # noqa: DTZ001 - no time of day
        return all(
            datetime.strptime(date.strftime(text), text) == date  # noqa: DTZ007
            for date in dates
        )
    except ValueError:
        return False


def _is_time_zone(name: str) -> bool:
    if name == "UTC":
        return True
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError):
        return False
    return True


class _Reader:
    """A reader of config.json that collects every problem, so that all are reported at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[str] = []
        self.labels: dict[str, Label] = {}

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object of config.json; note each key that it gives twice."""
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                self.problems.append(f"the key {key!r} is given twice in one object; remove one")
            result[key] = value
        return result

    def config(self, raw: dict[str, Any]) -> Config:
        values = self.read(_declared(Config), raw)
        keys = {f.name: key for key, f in _declared(Config).items() if f.type is Path}
        values |= {name: Path(self.file.parent, values[name] or keys[name]) for name in keys}
        first: dict[Path, str] = {}
        for name, key in keys.items():
            if (other := first.setdefault(values[name], key)) != key:
                self.problems.append(f"{key} and {other} name the same folder {values[name]}")
        columns: Columns = values["columns"]
        if values["contact_order"] == "value_at_risk" and not columns.value:
            self.problems.append("contact_order is 'value_at_risk', but columns.value is not set")
        values["contact_order"] = values["contact_order"] or (
            "value_at_risk" if columns.value else "risk"
        )
        self._check_contacts(values)
        self._check_messages(values["mail"], values["alerts"], values["digest"])
        for name in sorted(set(values["accept_leakage"]) - set(columns.features)):
            self.problems.append(f"accept_leakage names {name!r}, which is not a feature")
        shown = [each.label or each.name for each in map(self._label, columns.features)]
        for label in sorted({label for label in shown if shown.count(label) > 1}):
            self.problems.append(f"columns: the label {label!r} is given to two features")
        if self.problems:
            raise ConfigError(f"{self.file}: " + "; ".join(self.problems))
        config = Config(file=self.file, labels=self.labels, **values)
        if problems := list(_find_overwritten(config)):
            raise ConfigError(f"{self.file}: " + "; ".join(problems))
        return config

    def _check_contacts(self, values: dict[str, Any]) -> None:
        places = sum(dict(values["manager_capacity"]).values())
        if places > values["contact_capacity"]:
            self.problems.append(
                f"manager_capacity has {places} places, contact_capacity only "
                f"{values['contact_capacity']}"
            )
        if places and not values["columns"].manager:
            self.problems.append("manager_capacity is given, but columns.manager is not set")
        if (values["contact_cost"] is None) != (values["contact_success"] is None):
            self.problems.append("contact_cost and contact_success go together: give both")
        if values["experiment"]:
            self._check_experiment(values["experiment"], values["columns"])
        if not _is_time_zone(values["time_zone"]):
            self.problems.append(
                f"time_zone is {values['time_zone']!r}, expected a name such as Europe/Berlin"
            )

    def _check_messages(
        self, mail: Mail | None, alerts: Alerts | None, digest: Digest | None
    ) -> None:
        """Check that messages can be sent, and that no secret stands in config.json."""
        addresses = {"mail.sender": [mail.sender] if mail and mail.sender else []}
        addresses |= {"alerts.recipients": list(alerts.recipients) if alerts else []}
        if digest:
            addresses |= {"digest.lead": list(digest.lead)}
            addresses |= {f"digest.managers.{name}": [to] for name, to in digest.managers}
        for key, each in addresses.items():
            self.problems += [
                f"{key} is {address!r}, expected an address such as ann@example.com"
                for address in each
                if not isinstance(address, str) or not _ADDRESS.fullmatch(address)
            ]
        if not mail and (digest or (alerts and alerts.recipients)):
            self.problems.append("mail is missing, expected the server that sends the messages")
        if mail and mail.password:
            self._check_secret("mail.password", "password", mail.password)
        if mail and bool(mail.user) != bool(mail.password):
            self.problems.append("mail.user and mail.password go together: give both")
        if mail and mail.password and mail.security == "none":
            self.problems.append("mail.password needs mail.security 'starttls' or 'tls'")
        urls = {
            "alerts.heartbeat": alerts.heartbeat if alerts else None,
            "alerts.webhook.url": alerts.webhook.url if alerts and alerts.webhook else None,
            "digest.link": digest.link if digest else None,
        }
        self.problems += [  # without the URL, which may be a secret
            f"{key} is no address, expected https://... or ${{NAME}}"
            for key, url in urls.items()
            if url and not re.match(r"https?://.|\$\{\w+\}", url)
        ]

    def _check_secret(self, key: str, kind: str, value: str) -> None:
        if not environment.NAME.fullmatch(value):
            expected = "expected ${NAME} with the name of an environment variable"
            self.problems.append(f"{key} is the {kind} itself, {expected}")

    def _check_experiment(self, experiment: Experiment, columns: Columns) -> None:
        self._check_secret("experiment.key", "key", experiment.key)
        if not columns.client:
            self.problems.append(
                "experiment is given, but columns.client is null: nobody can be followed"
            )
        if experiment.never_hold_out.value_above is not None and not columns.value:
            self.problems.append(
                "experiment.never_hold_out.value_above is given, but columns.value is not set"
            )

    def read(
        self, settings: dict[str, Field], raw: dict[str, Any], where: str = ""
    ) -> dict[str, Any]:
        """Read declared settings from an object of config.json, by the names of their fields."""
        for key in sorted(set(raw) - set(settings)):
            self.problems.append(
                f"unknown key {where}{key}; the known keys are {', '.join(sorted(settings))}"
            )
        return {f.name: self._value(raw, key, f, where) for key, f in settings.items()}

    def _value(self, raw: dict[str, Any], key: str, declared: Field, where: str) -> Any:
        default, kind, name = declared.default, declared.type, where + key
        value = raw.get(key, default)
        if default is MISSING and value in (MISSING, None):
            wanted = f", expected {_expected(declared)}" if kind is Path else ""
            self.problems.append(f"{name} is missing{wanted}")
            return ""
        if value is default:
            return value
        if not _is_valid(value, declared):
            shown = _kind(value) if kind in _NESTED or key == "password" else repr(value)
            self.problems.append(f"{name} is {shown}, expected {_expected(declared)}")
            return "" if default is MISSING else default
        if kind == Columns:
            return self._columns(value)
        if kind == Engine:
            return self._engine(value)
        if kind == WriteBack:
            return self._write_back(value)
        if kind == Files:
            return self._files(value)
        if kind in _RECORDS:
            record = _RECORDS[kind]
            return record(**self.read(_declared(record), value, f"{name}."))
        if kind in _PAIRS:
            return tuple(value.items())
        if kind == tuple[Numeric, ...]:
            return self._numeric(value)
        if kind == tuple[Database, ...]:
            return self._databases(value)
        if isinstance(value, dict):
            return self._names(value, name)
        if kind == tuple[str, ...]:
            return tuple(value)
        if kind is Path or (declared.metadata["is_level"] and value is not None):
            return str(value).strip()
        return int(value) if kind in _WHOLE else value

    def _engine(self, raw: dict[str, Any]) -> Engine:
        engine = Engine(**self.read(_declared(Engine), raw, "engine."))
        is_cluster = engine.backend in ("dask", "ray")
        if not re.search(r".:[0-9]+$" if is_cluster else "^$", engine.address or ""):
            expected = "host:port of the cluster" if is_cluster else "none without a cluster"
            self.problems.append(f"engine.address is {engine.address!r}, expected {expected}")
        return engine

    def _write_back(self, raw: dict[str, Any]) -> WriteBack:
        written = WriteBack(**self.read(_declared(WriteBack), raw, "write_back."))
        if not written.url or not written.table:
            self.problems.append("write_back.url and write_back.table go together: give both")
            return written
        if not re.match(r"sqlite:///.|postgres(ql)?(\+\w+)?://", written.url):
            self.problems.append(
                "write_back.url is of another database, expected sqlite:///path or "
                "postgresql://user:${PASSWORD}@host/database"
            )
        self._check_password(written.url, "write_back")
        return replace(written, url=self._beside_config(written.url))

    def _columns(self, raw: dict[str, Any]) -> Columns:
        if not raw:
            return Columns()
        if not {"numeric", "categorical", "dates"} & raw.keys():
            self.problems.append("columns names neither numeric nor categorical features nor dates")
        columns = Columns(**self.read(_declared(Columns), {"numeric": [], **raw}, "columns."))
        if (columns.left is None) != (columns.stayed is None):
            self.problems.append("columns.left and columns.stayed go together: name both values")
        elif columns.left is not None and columns.left.casefold() == str(columns.stayed).casefold():
            self.problems.append(f"columns.left and columns.stayed are both {columns.left!r}")
        for name in sorted(set(columns.markers_are_levels) - set(columns.categorical)):
            self.problems.append(
                f"columns.markers_are_levels names {name!r}, which is no categorical feature"
            )
        self._one_meaning(columns)
        self.labels |= {name: replace(self._label(name), is_date=True) for name in columns.dates}
        return columns

    def _files(self, raw: dict[str, Any]) -> Files:
        """Read the general dialect, and over it the keys of each pattern."""
        files = Files(**self.read(_declared(Files), raw, "files."))
        self._check_dialect(files, "files")
        dialects = []
        for pattern, keys in files.by_name:
            where = f"files.by_name.{pattern}"
            if not isinstance(keys, dict):
                self.problems.append(f"{where} is {_kind(keys)}, expected an object")
                continue
            values = self.read(_declared(Dialect), keys, f"{where}.")
            given = {key: value for key, value in values.items() if key in keys}
            dialect = replace(files.dialect_of_all, **given)
            self._check_dialect(dialect, where)
            dialects.append((pattern, dialect))
        return replace(files, by_name=tuple(dialects))

    def _check_dialect(self, dialect: Dialect, where: str) -> None:
        if dialect.decimal == dialect.thousands:
            self.problems.append(f"{where}: decimal and thousands are both {dialect.decimal!r}")
        if dialect.dates is not None and not _is_date_format(dialect.dates):
            self.problems.append(
                f"{where}.dates is {dialect.dates!r}, expected the format of a date with its day, month "
                "and year, such as %d.%m.%Y"
            )

    @staticmethod
    def _is_date_feature(columns: Columns) -> bool:
        """Return whether the due date is a feature too: days after the time, from which it follows."""
        return columns.time is not None and columns.due in columns.dates

    def _one_meaning(self, columns: Columns) -> None:
        single = [columns.client_name, columns.outcome, columns.time, columns.manager]
        single += [None if self._is_date_feature(columns) else columns.due, *columns.details]
        names = [*columns.features, *columns.ignore, *(name for name in single if name)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"columns: {name!r} is given two meanings")
        if columns.value and columns.value in {
            columns.outcome,
            columns.client,
            *columns.categorical,
            *columns.dates,
        }:
            self.problems.append(f"columns.value: {columns.value!r} is given two meanings")

    def _numeric(self, raw: dict[str, Any] | list[str]) -> tuple[Numeric, ...]:
        features = []
        for name, keys in (raw if isinstance(raw, dict) else {name: {} for name in raw}).items():
            where = f"columns.numeric.{name}"
            limits = self._labelled(name, keys, where, _declared(Numeric))
            feature = Numeric(name, **limits)
            low, high = feature.minimum, feature.maximum
            if low is not None and high is not None and low > high:
                self.problems.append(f"{where}.minimum {low} is above maximum {high}")
            features.append(feature)
        return tuple(features)

    def _names(self, raw: dict[str, Any], where: str) -> tuple[str, ...]:
        """Read names of features with their labels."""
        for name, keys in raw.items():
            self._labelled(name, keys, f"{where}.{name}", {})
        return tuple(raw)

    def _labelled(
        self, name: str, keys: Any, where: str, settings: dict[str, Field]
    ) -> dict[str, Any]:
        """Read the settings of a feature, and beside them its label; a category has no unit."""
        if not isinstance(keys, dict):
            self.problems.append(f"{where} is {_kind(keys)}, expected an object")
            return {}
        label = _declared(Label)
        if not settings:
            del label["unit"]
        values = self.read(settings | label, keys, f"{where}.")
        if keys.keys() & label:
            self.labels[name] = Label(name, **{key: values.pop(key) for key in label})
        return {key: values[key] for key in settings}

    def _label(self, name: str) -> Label:
        return self.labels.get(name) or Label(name)

    def _databases(self, raw: list[Any]) -> tuple[Database, ...]:
        databases: list[Database] = []
        for i, entry in enumerate(raw):
            where = f"databases[{i}]"
            if not isinstance(entry, dict):
                self.problems.append(f"{where} is {_kind(entry)}, expected an object")
                continue
            values = self.read(_declared(Database), entry, f"{where}.")
            if values["name"] in {database.name for database in databases}:
                self.problems.append(f"{where}.name {values['name']!r} is repeated")
            self._check_password(values["url"], where)
            databases.append(Database(**values | {"url": self._beside_config(values["url"])}))
        return tuple(databases)

    def _check_password(self, url: str, where: str) -> None:
        if _has_literal_password(url):
            self.problems.append(
                f"{where}.url contains the password itself, expected ${{NAME}} with the name of "
                "an environment variable, as in postgresql://user:${CRM_PASSWORD}@host/database"
            )

    def _beside_config(self, url: str) -> str:
        """Resolve a relative SQLite path against the folder of config.json."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str(self.file.parent / url.removeprefix(prefix))
        return url


def _find_overwritten(config: Config) -> Iterator[str]:
    """Describe what would be written into a file of ours or into a source."""

    def place(url: str, table: str) -> tuple[str, str]:
        if (path := url.removeprefix("sqlite:///")) == url:
            return url, table
        return os.path.realpath(path.split("?")[0]), table.casefold().removeprefix("main.")

    written = dict[str, str]()
    if config.alerts and config.alerts.file:
        written["alerts.file"] = os.path.realpath(config.file.parent / config.alerts.file)
    if config.write_back.url and config.write_back.table:
        target = place(config.write_back.url, config.write_back.table)
        written["write_back.url"] = target[0]
        for source in config.databases:
            if place(source.url, source.table) == target:
                yield (
                    f"write_back.table is the source {source.name!r}, which is never written to; name "
                    "another table"
                )
    if written:
        ours = {*map(os.path.realpath, (config.file, *config.declared_files()))}
        for key, path in written.items():
            if path in ours:
                yield f"{key} is {path}, a file of this installation; name another file"


def _has_literal_password(url: str) -> bool:
    """Return whether a password stands in a database URL: before the last @, or as a parameter.

    >>> _has_literal_password("postgresql://joe:${CRM_PASSWORD}@host/crm")
    False
    >>> _has_literal_password("postgresql://joe:hunter2@host/crm")
    True
    >>> _has_literal_password("postgresql://joe@host/crm?sslmode=require&password=hunter2")
    True
    """
    if url.startswith("sqlite:"):
        return False
    secrets = re.findall(r"[?&]\w*passw(?:or)?d=([^&]*)", url, re.IGNORECASE)
    address = re.match(r"[^:/]*://[^:@/?]*:(?!\d+/)(.*)@", url, re.DOTALL)
    secrets += [address[1]] if address else []
    return not all(re.fullmatch(r"(\$\{\w+\})?", secret) for secret in secrets)


def describe() -> str:
    """Return the settings as Markdown tables, one for each object of config.json."""
    titles = {
        Config: "Settings",
        Columns: "Keys of `columns`",
        Files: "Keys of `files`; those of a pattern in `by_name` are the same",
        Numeric: "Keys of a feature in `columns.numeric`",
        Label: "Display keys of a feature (`unit` only in `columns.numeric`)",
        Database: "Keys of a table in `databases`",
        Api: "Keys of `api`",
        Engine: "Keys of `engine`",
        Experiment: "Keys of `experiment`",
        NeverHoldOut: "Keys of `experiment.never_hold_out`",
        WriteBack: "Keys of `write_back`",
        Mail: "Keys of `mail`",
        Alerts: "Keys of `alerts`",
        Webhook: "Keys of `alerts.webhook`",
        Digest: "Keys of `digest`",
    }
    blocks = []
    for record, title in titles.items():
        lines = [f"### {title}", "", "| key | meaning | value | default |", "|---|---|---|---|"]
        for key, declared in _declared(record).items():
            choices = declared.metadata["choices"]
            value = " or ".join(f"`{json.dumps(c)[1:-1]}`" for c in choices).replace("|", "\\|")
            cells = (declared.metadata["meaning"], value or _expected(declared))
            lines.append(f"| `{key}` | {' | '.join(cells)} | {_shown(declared.default)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _shown(default: Any) -> str:
    """Format a default as in config.json."""
    if default is MISSING:
        return "required"
    if default is None or default == ():
        return "none"
    if type(default) in _RECORDS:
        return "see below"
    if isinstance(default, tuple) and isinstance(default[0], Numeric):
        default = {feature.name: {"minimum": feature.minimum} for feature in default}
    if isinstance(default, float):
        return f"`{default:g}`"
    text = json.dumps(str(default) if isinstance(default, Path) else default, ensure_ascii=False)
    return f"`{text}`"


if __name__ == "__main__":
    print(describe(), end="")
