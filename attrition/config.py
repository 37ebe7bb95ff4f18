"""config.json -> one frozen `Config`; the only file that spells a path or a file name.

Standard library only: a tick of cron that finds nothing new imports nothing else.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from attrition.errors import ConfigError

MISSING_MARKERS = ("", "NA", "N/A", "NaN", "null", "None", "-", "?")
FOLDER_KEYS = (
    "input_folder_path",
    "output_folder_path",
    "test_data_path",
    "output_model_path",
    "prod_deployment_path",
)
CONTACT_ORDERS = ("risk", "value_at_risk")
ON_DELETE = ("keep_outcomes", "remove")


@dataclass(frozen=True)
class Numeric:
    """A numeric feature and the range outside which a value is an error, not information."""

    name: str
    minimum: float | None = None
    maximum: float | None = None
    integer: bool = False


@dataclass(frozen=True)
class Columns:
    """What each column of a table means; the defaults are the form of the plain CSV files."""

    client: str | None = "corporation"
    outcome: str = "exited"
    left: str | None = None
    stayed: str | None = None
    numeric: tuple[Numeric, ...] = (
        Numeric("lastmonth_activity", minimum=0),
        Numeric("lastyear_activity", minimum=0),
        Numeric("number_of_employees", minimum=0),
    )
    categorical: tuple[str, ...] = ()
    time: str | None = None
    value: str | None = None
    manager: str | None = None
    ignore: tuple[str, ...] = ()

    @property
    def client_name(self) -> str:
        """The name of the client column in our own files, also where the table has none."""
        return self.client or "client"

    @property
    def numeric_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.numeric)

    @property
    def features(self) -> tuple[str, ...]:
        return self.numeric_names + self.categorical

    @property
    def table(self) -> tuple[str, ...]:
        """Every column of `finaldata.csv`, in its order."""
        wanted = (self.client_name, self.time, *self.features, self.value, self.manager)
        return (*dict.fromkeys(name for name in wanted if name), self.outcome)

    @property
    def delivered(self) -> tuple[str, ...]:
        """The columns that a source has to bring."""
        return self.table if self.client else self.table[1:]


@dataclass(frozen=True)
class Database:
    """A table to read beside the files; `${NAME}` in the URL is taken from the environment.

    With `changed_column` only what changed is read, `overlap_hours` back from the newest change, and
    all of it every `reconcile_hours`. What is then gone from the table goes from our rows too; of rows
    with an outcome only where `on_delete` is "remove". A table that shrank by more than `max_shrink`
    is held.
    """

    name: str
    url: str
    table: str
    changed_column: str | None = None
    overlap_hours: float = 24.0
    reconcile_hours: float = 24.0
    on_delete: str = "keep_outcomes"
    max_shrink: float = 0.5


@dataclass(frozen=True)
class Api:
    """Where the API listens; `token` names the secret callers must show, `${NAME}` style."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None


@dataclass(frozen=True)
class Config:
    """Everything a company changes, with every path resolved against config.json's own folder."""

    file: Path
    input_folder: Path
    output_folder: Path
    test_folder: Path
    model_folder: Path
    production_folder: Path
    reports_folder: Path
    columns: Columns = field(default_factory=Columns)
    databases: tuple[Database, ...] = ()
    missing_markers: tuple[str, ...] = MISSING_MARKERS
    contact_capacity: int = 100
    contact_order: str = "risk"
    held_out_share: float = 0.2
    settle_seconds: float = 30.0
    max_source_mb: float = 2048.0
    max_source_seconds: float = 600.0
    sources_may_vanish: bool = False
    accept_leakage: tuple[str, ...] = ()
    run_limit_minutes: float = 60.0
    overdue_minutes: float = 60.0
    currency: str = "EUR"
    api: Api = field(default_factory=Api)

    # ingestion
    @property
    def final_data(self) -> Path:
        return self.output_folder / "finaldata.csv"

    @property
    def ingested_files(self) -> Path:
        return self.output_folder / "ingestedfiles.txt"

    @property
    def rejected(self) -> Path:
        return self.output_folder / "rejected.csv"

    @property
    def withdrawn(self) -> Path:
        return self.output_folder / "withdrawn.csv"

    @property
    def table_rows(self) -> Path:
        return self.output_folder / "table_rows.npz"

    @property
    def ingestion_record(self) -> Path:
        return self.output_folder / "ingestion.json"

    # training, scoring, the decision to deploy
    @property
    def candidate(self) -> Path:
        return self.model_folder / "trainedmodel.skops"

    @property
    def reference(self) -> Path:
        return self.model_folder / "reference.csv"

    @property
    def known_rows(self) -> Path:
        return self.model_folder / "known_rows.npz"

    @property
    def training_record(self) -> Path:
        return self.model_folder / "training.json"

    @property
    def latest_score(self) -> Path:
        return self.model_folder / "latestscore.txt"

    @property
    def score_record(self) -> Path:
        return self.model_folder / "score.json"

    @property
    def decision_record(self) -> Path:
        return self.model_folder / "decision.json"

    # production
    @property
    def releases(self) -> Path:
        return self.production_folder / "releases"

    @property
    def current(self) -> Path:
        return self.production_folder / "current"

    @property
    def history(self) -> Path:
        return self.production_folder / "history.sqlite"

    @property
    def lock(self) -> Path:
        return self.production_folder / ".lock"

    @property
    def last_run(self) -> Path:
        return self.production_folder / "lastrun.json"

    # monitoring: is the model in production still right?
    @property
    def monitoring_record(self) -> Path:
        return self.production_folder / "monitoring.json"

    @property
    def settled_rows(self) -> Path:
        return self.production_folder / "settled_rows.npz"

    # what people read
    @property
    def clients(self) -> Path:
        return self.reports_folder / "clients.parquet"

    @property
    def risk_scores(self) -> Path:
        return self.reports_folder / "riskscores.csv"

    @property
    def contact_list(self) -> Path:
        return self.reports_folder / "contactlist.csv"

    @property
    def assessment_record(self) -> Path:
        return self.reports_folder / "assessment.json"

    @property
    def diagnostics_record(self) -> Path:
        return self.reports_folder / "diagnostics.json"

    @property
    def dependencies(self) -> Path:
        return self.reports_folder / "dependencies.json"

    @property
    def report(self) -> Path:
        return self.reports_folder / "report.pdf"

    @property
    def report_record(self) -> Path:
        return self.reports_folder / "report.json"

    @property
    def api_returns(self) -> Path:
        return self.reports_folder / "apireturns.txt"

    @property
    def diary(self) -> Path:
        return self.reports_folder / "fullprocess.log"

    def figure(self, name: str) -> Path:
        return self.reports_folder / f"{name}.png"

    def find_figures(self) -> list[Path]:
        return sorted(self.reports_folder.glob(self.figure("*").name))

    def fingerprint(self, *names: str) -> str:
        """Hash the named settings: a result made under other settings is not fresh."""
        settings = {name: _plain(getattr(self, name)) for name in names}
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def default_file() -> Path:
    """config.json beside the scripts, whatever the working folder."""
    return Path(__file__).resolve().parent.parent / "config.json"


def load(file: Path | None = None) -> Config:
    """Read and check config.json; report every wrong key at once, each with its name.

    Raises: ConfigError.
    """
    file = Path(file) if file is not None else default_file()
    file = file.absolute()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); name it with --config") from error
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected a JSON object of settings, found {_kind(raw)}")
    return _Reader(file, raw).config()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


class _Reader:
    """Reads one object of settings and remembers every complaint, so that all are told at once."""

    def __init__(self, file: Path, raw: dict[str, Any]) -> None:
        self.file, self.raw = file, raw
        self.problems: list[str] = []

    def config(self) -> Config:
        folders = self._folders()
        known = {*FOLDER_KEYS, "reports_path", *(f.name for f in fields(Config))}
        known -= {"file", *(f.name for f in fields(Config) if f.name.endswith("_folder"))}
        self._unknown(self.raw, known, "")
        columns = self._columns(self._object(self.raw, "columns", ""))
        databases = self._databases()
        markers = self._names(self.raw, "missing_markers", "", MISSING_MARKERS, empty=True)
        capacity = self._number(self.raw, "contact_capacity", "", 100, low=1, integer=True)
        order = self._text(self.raw, "contact_order", "", "risk")
        if order not in CONTACT_ORDERS:
            self.problems.append(f"contact_order is {order!r}, expected one of {CONTACT_ORDERS}")
        if order == "value_at_risk" and not columns.value:
            self.problems.append("contact_order is 'value_at_risk', but columns.value names none")
        held_out = self._number(self.raw, "held_out_share", "", 0.2, low=0.05, high=0.5)
        settle = self._number(self.raw, "settle_seconds", "", 30.0, low=0)
        limits: dict[str, Any] = {
            "max_source_mb": self._number(self.raw, "max_source_mb", "", 2048.0, low=0.001),
            "max_source_seconds": self._number(self.raw, "max_source_seconds", "", 600.0, low=1),
            "run_limit_minutes": self._number(self.raw, "run_limit_minutes", "", 60.0, low=0.01),
            "overdue_minutes": self._number(self.raw, "overdue_minutes", "", 60.0, low=1),
        }
        may_vanish = self._flag(self.raw, "sources_may_vanish", "")
        accepted = self._names(self.raw, "accept_leakage", "", ())
        for name in sorted(set(accepted) - set(columns.features)):
            self.problems.append(f"accept_leakage names {name!r}, which is no feature")
        currency = self._text(self.raw, "currency", "", "EUR")
        api = self._api(self._object(self.raw, "api", ""))
        if self.problems:
            raise ConfigError(f"{self.file}: " + "; ".join(self.problems))
        return Config(
            file=self.file,
            **folders,
            columns=columns,
            databases=databases,
            missing_markers=markers,
            contact_capacity=int(capacity),
            contact_order=str(order),
            held_out_share=held_out,
            settle_seconds=settle,
            **limits,
            sources_may_vanish=may_vanish,
            accept_leakage=accepted,
            currency=str(currency),
            api=api,
        )

    def _folders(self) -> dict[str, Any]:
        names = {
            "input_folder": "input_folder_path",
            "output_folder": "output_folder_path",
            "test_folder": "test_data_path",
            "model_folder": "output_model_path",
            "production_folder": "prod_deployment_path",
            "reports_folder": "reports_path",
        }
        folders: dict[str, Any] = {}
        for attribute, key in names.items():
            default = "reports" if key == "reports_path" else None
            text = self._text(self.raw, key, "", default)
            if text is None and key not in self.raw:
                self.problems.append(f"{key} is missing, expected the name of a folder")
            folders[attribute] = Path(self.file.parent, (text or key).strip() or key)
        seen: dict[Path, str] = {}
        for attribute, folder in folders.items():
            key = names[attribute]
            where = Path(*folder.parts)
            if where in seen:
                self.problems.append(f"{key} and {seen[where]} name the same folder {folder}")
            seen[where] = key
        return folders

    def _columns(self, raw: dict[str, Any]) -> Columns:
        where = "columns."
        if not raw:
            return Columns()
        self._unknown(raw, {f.name for f in fields(Columns)}, where)
        if "numeric" not in raw and "categorical" not in raw:
            self.problems.append("columns names neither numeric nor categorical features")
        client = raw.get("client", "corporation")
        if client is not None:
            client = self._text(raw, "client", where, "corporation")
        columns = Columns(
            client=client,
            outcome=self._text(raw, "outcome", where, "exited") or "exited",
            left=self._level(raw, "left"),
            stayed=self._level(raw, "stayed"),
            numeric=self._numeric(raw.get("numeric", [])),
            categorical=self._names(raw, "categorical", where, ()),
            time=self._text(raw, "time", where, None),
            value=self._text(raw, "value", where, None),
            manager=self._text(raw, "manager", where, None),
            ignore=self._names(raw, "ignore", where, ()),
        )
        if (columns.left is None) != (columns.stayed is None):
            self.problems.append("columns.left and columns.stayed go together: name both values")
        elif columns.left is not None and columns.left.casefold() == str(columns.stayed).casefold():
            self.problems.append(f"columns.left and columns.stayed are both {columns.left!r}")
        self._one_meaning(columns)
        return columns

    def _one_meaning(self, columns: Columns) -> None:
        single = [columns.client_name, columns.outcome, columns.time, columns.manager]
        names = [*columns.features, *columns.ignore, *(name for name in single if name)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"columns: {name!r} is given two meanings")
        if columns.value and columns.value in {
            columns.outcome,
            columns.client,
            *columns.categorical,
        }:
            self.problems.append(f"columns.value: {columns.value!r} is given two meanings")

    def _level(self, raw: dict[str, Any], key: str) -> str | None:
        value = raw.get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value.strip() if value else None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        self.problems.append(f"columns.{key} is {value!r}, expected the value as text")
        return None

    def _numeric(self, raw: Any) -> tuple[Numeric, ...]:
        if isinstance(raw, list):
            raw = {name: {} for name in raw if isinstance(name, str) and name} or raw
        if not isinstance(raw, dict):
            if raw:
                self.problems.append("columns.numeric: expected names, or names with their ranges")
            return ()
        found = []
        for name, limits in raw.items():
            where = f"columns.numeric.{name}."
            if not isinstance(limits, dict):
                self.problems.append(f"columns.numeric.{name} is {_kind(limits)}, expected a range")
                continue
            self._unknown(limits, {"minimum", "maximum", "integer"}, where)
            low = self._number(limits, "minimum", where, None)
            high = self._number(limits, "maximum", where, None)
            if low is not None and high is not None and low > high:
                self.problems.append(f"{where}minimum {low} is above maximum {high}")
            found.append(Numeric(name, low, high, self._flag(limits, "integer", where)))
        return tuple(found)

    def _databases(self) -> tuple[Database, ...]:
        raw = self.raw.get("databases", [])
        if not isinstance(raw, list):
            self.problems.append(f"databases is {_kind(raw)}, expected a list of tables")
            return ()
        found: list[Database] = []
        for i, entry in enumerate(raw):
            where = f"databases[{i}]."
            if not isinstance(entry, dict):
                self.problems.append(f"databases[{i}] is {_kind(entry)}, expected an object")
                continue
            self._unknown(entry, {f.name for f in fields(Database)}, where)
            texts = {key: self._text(entry, key, where, None) for key in ("name", "url", "table")}
            for key, text in texts.items():
                if not text:
                    self.problems.append(f"{where}{key} is missing")
            name, url, table = (text or "" for text in texts.values())
            if name in {database.name for database in found}:
                self.problems.append(f"{where}name {name!r} stands twice")
            changed = self._text(entry, "changed_column", where, None)
            on_delete = self._text(entry, "on_delete", where, "keep_outcomes") or "keep_outcomes"
            if on_delete not in ON_DELETE:
                self.problems.append(
                    f"{where}on_delete is {on_delete!r}, expected one of {ON_DELETE}"
                )
            found.append(
                Database(
                    name,
                    self._beside_config(url),
                    table,
                    changed,
                    overlap_hours=self._number(entry, "overlap_hours", where, 24.0, low=0),
                    reconcile_hours=self._number(entry, "reconcile_hours", where, 24.0, low=0),
                    on_delete=on_delete,
                    max_shrink=self._number(entry, "max_shrink", where, 0.5, low=0, high=1),
                )
            )
        return tuple(found)

    def _beside_config(self, url: str) -> str:
        """A relative SQLite path is relative to config.json, like every path."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str(self.file.parent / url.removeprefix(prefix))
        return url

    def _api(self, raw: dict[str, Any]) -> Api:
        self._unknown(raw, {f.name for f in fields(Api)}, "api.")
        port = self._number(raw, "port", "api.", 8000, low=1, high=65535, integer=True)
        host = self._text(raw, "host", "api.", "127.0.0.1")
        return Api(str(host), int(port or 0), self._text(raw, "token", "api.", None))

    def _unknown(self, raw: dict[str, Any], known: Iterable[str], where: str) -> None:
        for key in sorted(set(raw) - set(known)):
            self.problems.append(f"unknown key {where}{key}, known are {', '.join(sorted(known))}")

    def _object(self, raw: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        value = raw.get(key, {})
        if isinstance(value, dict):
            return value
        self.problems.append(f"{where}{key} is {_kind(value)}, expected an object")
        return {}

    def _text(self, raw: dict[str, Any], key: str, where: str, default: str | None) -> str | None:
        value = raw.get(key, default)
        if value is default or (isinstance(value, str) and value.strip()):
            return value
        self.problems.append(f"{where}{key} is {value!r}, expected text")
        return default

    def _flag(self, raw: dict[str, Any], key: str, where: str) -> bool:
        value = raw.get(key, False)
        if not isinstance(value, bool):
            self.problems.append(f"{where}{key} is {value!r}, expected true or false")
        return bool(value)

    def _names(
        self,
        raw: dict[str, Any],
        key: str,
        where: str,
        default: tuple[str, ...],
        *,
        empty: bool = False,
    ) -> tuple[str, ...]:
        value = raw.get(key, list(default))
        if isinstance(value, list) and all(isinstance(v, str) and (v or empty) for v in value):
            return tuple(value)
        self.problems.append(f"{where}{key} is {value!r}, expected a list of names")
        return default

    def _number(
        self,
        raw: dict[str, Any],
        key: str,
        where: str,
        default: Any,
        *,
        low: float | None = None,
        high: float | None = None,
        integer: bool = False,
    ) -> Any:
        value = raw.get(key, default)
        if value is default:
            return value
        wanted = "a whole number" if integer else "a number"
        wanted += f" >= {low}" if low is not None else ""
        wanted += f" and <= {high}" if high is not None else ""
        good = isinstance(value, int | float) and not isinstance(value, bool)
        good = good and (not integer or value == int(value))
        good = good and (low is None or value >= low) and (high is None or value <= high)
        if not good:
            self.problems.append(f"{where}{key} is {value!r}, expected {wanted}")
            return default
        return value
