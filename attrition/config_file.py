"""Read config.json as a `Config`, and report everything that is wrong in it at once.

How each setting is read follows from its declaration in `config`, and so do the tables of
docs/configuration.md: `python -m attrition.config_file` prints them. Standard library only.
"""

import ast
import inspect
import json
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from attrition import config as declared
from attrition.config import DATABASE, Columns, Config, Dialect, Files, Form, Label, Numeric, Rules
from attrition.errors import ConfigError


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
    config = reader.config(raw)
    if problems := [*reader.problems, *(text for check in CHECKS for text in check(config))]:
        raise ConfigError(f"{file}: " + "; ".join(problems))
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


INVALID = object()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


# ---- what a declaration states


def _list_settings(record: Any) -> dict[str, Field]:
    """Return the settings of a record by their names in config.json."""
    return {rules.key or each.name: each for each in fields(record) if (rules := _rules(each))}


def _rules(setting: Field) -> Any:
    """Return the rules of a declaration; None if its field is no setting."""
    return setting.metadata.get("rules", Rules())


def _type(setting: Field) -> Any:
    """Return the type of a setting that is given: Mail for Mail | None."""
    kinds = get_args(setting.type)
    return kinds[0] if type(None) in kinds else setting.type


def _describe_values(setting: Field) -> str:
    """Describe the valid values of a setting, for a message and for the documentation."""
    kind, rules = _type(setting), _rules(setting)
    if kind in (int, float):
        ends = {">=": rules.low, "<=": rules.high}
        limits = " and ".join(f"{sign} {end}" for sign, end in ends.items() if isfinite(end))
        return f"{'a whole number' if kind is int else 'a number'} {limits}".strip()
    if get_origin(kind) is Literal:
        return f"one of {get_args(kind)}"
    if rules.has_keys:
        return "names, or names with their keys"
    if rules.is_level:
        return "the value as text"
    if is_dataclass(kind):
        return "an object"
    texts = {Path: "the name of a folder", bool: "true or false", str: "text"}
    return rules.expected or texts.get(kind, "a list of names")


# ---- the value of each setting


class _Reader:
    """A reader of config.json that collects every problem; a default replaces a wrong value."""

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
        settings = _list_settings(Config)
        values = self._read(settings, raw)
        for key, setting in settings.items():
            if setting.type is Path:
                values[setting.name] = Path(self.file.parent, values[setting.name] or key)
        order = "value_at_risk" if values["columns"].value else "risk"
        values["contact_order"] = values["contact_order"] or order
        return Config(file=self.file, labels=self.labels, **values)

    def _read(self, settings: dict[str, Field], raw: Any, name: str = "") -> dict[str, Any]:
        """Read settings from an object, by the names of their fields; {} if it is no object."""
        if not isinstance(raw, dict):
            self.problems.append(f"{name} is {_kind(raw)}, expected an object")
            return {}
        where, known = f"{name}." if name else "", ", ".join(sorted(settings))
        for key in sorted(set(raw) - set(settings)):
            self.problems.append(f"unknown key {where}{key}; the known keys are {known}")
        return {
            each.name: self._value(raw.get(key, each.default), each, where + key)
            for key, each in settings.items()
        }

    def _value(self, value: Any, setting: Field, name: str) -> Any:
        default, kind, form = setting.default, _type(setting), _rules(setting).form
        if default is MISSING and value in (MISSING, None):
            wanted = f", expected {_describe_values(setting)}" if kind is Path else ""
            self.problems.append(f"{name} is missing{wanted}")
            return ""
        if value is default:
            return value
        result = self._convert(value, setting, name)
        if result is INVALID:
            is_nested = is_dataclass(kind) or (
                get_origin(kind) is tuple and kind != tuple[str, ...]
            )
            shown = _kind(value) if is_nested or (form and form.found) else repr(value)
            self.problems.append(f"{name} is {shown}, expected {_describe_values(setting)}")
            return "" if default is MISSING else default
        if form:
            self._check_form(value, form, name)
        return self._beside_config(value) if form is DATABASE else result

    def _check_form(self, value: Any, form: Form, name: str) -> None:
        """Check the form of a text, or of each one in a list or an object."""
        texts = [(name, text) for text in (value if isinstance(value, list) else [value])]
        if isinstance(value, dict):
            texts = [(f"{name}.{key}", text) for key, text in value.items()]
        for where, text in texts:
            if not isinstance(text, str) or not form.is_valid(text):
                found = form.found or f"is {text!r}"
                self.problems.append(f"{where} {found}, expected {form.expected}")

    def _convert(self, value: Any, setting: Field, name: str) -> Any:
        """Return a value of config.json as the type of its setting; INVALID if it is of another type."""
        kind, rules = _type(setting), _rules(setting)
        if value is None and kind is not setting.type:
            return None
        if kind is bool or isinstance(value, bool):
            return value if kind is type(value) else INVALID
        if get_origin(kind) is tuple:
            return self._list(value, get_args(kind)[0], rules, name)
        if is_dataclass(kind):
            return self._record(kind, value, name) if isinstance(value, dict) else INVALID
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if rules.is_level and isinstance(value, int):
            value = str(value)
        if get_origin(kind) is Literal:
            is_valid = value in get_args(kind)
        elif kind in (int, float):
            is_valid = isinstance(value, int | kind) and rules.low <= value <= rules.high
        else:
            is_valid = isinstance(value, str) and bool(value.strip())
            value = value.strip() if is_valid and (kind is Path or rules.is_level) else value
        return value if is_valid else INVALID

    def _list(self, value: Any, item: Any, rules: Rules, name: str) -> Any:
        """Return a list of names or records, or an object of names and values, as a tuple of them."""
        are_names = isinstance(value, list) and all(
            isinstance(each, str) and (each or rules.may_be_empty) for each in value
        )
        if get_origin(item) is tuple and isinstance(value, dict):
            are_counts = all(type(each) is int and each >= 0 for each in value.values())
            return tuple(value.items()) if are_counts or get_args(item)[1] is not int else INVALID
        if item is Numeric and are_names:
            return tuple(map(Numeric, dict.fromkeys(value)))
        if rules.has_keys and isinstance(value, dict) and all(value):
            return tuple(self._features(value, item, name))
        if is_dataclass(item) and not rules.has_keys and isinstance(value, list):
            records = [self._record(item, each, f"{name}[{i}]") for i, each in enumerate(value)]
            return tuple(filter(None, records))
        return tuple(value) if are_names and item is str else INVALID

    def _record(self, kind: Any, raw: Any, name: str) -> Any:
        """Return an object as a record; None if it is no object."""
        values = self._read(_list_settings(kind), raw, name)
        record: Any = kind(**values) if values else None
        if kind is Columns and raw:
            return self._columns(record, raw)
        return self._files(record, name) if kind is Files else record

    def _columns(self, columns: Columns, raw: dict[str, Any]) -> Columns:
        if not {"numeric", "categorical", "dates"} & raw.keys():
            self.problems.append("columns names no feature, expected numeric, categorical or dates")
        for date in columns.dates:
            self.labels[date] = replace(self.labels.get(date, Label(date)), is_date=True)
        return columns if "numeric" in raw else replace(columns, numeric=())

    def _files(self, files: Files, name: str) -> Files:
        """Read the keys of each pattern over the general dialect."""
        patterns: Any = files.by_name
        by_name = []
        for pattern, keys in patterns:
            values = self._read(_list_settings(Dialect), keys, f"{name}.by_name.{pattern}")
            given = {key: value for key, value in values.items() if key in keys}
            by_name.append((pattern, replace(files.dialect_of_all, **given)))
        return replace(files, by_name=tuple(by_name))

    def _features(self, raw: dict[str, Any], kind: Any, name: str) -> Iterator[Any]:
        """Read features with their labels; one that is no number has only its name, and no unit."""
        limits = _list_settings(kind) if is_dataclass(kind) else {}
        label = _list_settings(Label)
        if not limits:
            del label["unit"]
        for feature, keys in raw.items():
            values = self._read(limits | label, keys, f"{name}.{feature}")
            shown = {key: values.pop(key) for key in label if key in values}
            if shown and keys.keys() & label:
                self.labels[feature] = Label(feature, **shown)
            yield kind(feature, **values)

    def _beside_config(self, url: str) -> str:
        """Resolve a relative SQLite path against the folder of config.json."""
        prefix = "sqlite:///"
        is_relative = url.startswith(prefix) and not url.startswith(f"{prefix}/")
        return prefix + str(self.file.parent / url.removeprefix(prefix)) if is_relative else url


# ---- what several settings mean together


def _check_folders(config: Config) -> Iterator[str]:
    first: dict[Path, str] = {}
    for key, setting in _list_settings(Config).items():
        folder = getattr(config, setting.name)
        if setting.type is Path and (other := first.setdefault(folder, key)) != key:
            yield f"{key} and {other} name the same folder {folder}"


def _check_columns(config: Config) -> Iterator[str]:
    columns = config.columns
    if (columns.left is None) != (columns.stayed is None):
        yield "columns.left and columns.stayed go together: name both values"
    elif columns.left is not None and columns.left.casefold() == str(columns.stayed).casefold():
        yield f"columns.left and columns.stayed are both {columns.left!r}"
    for name, low, high in ((each.name, each.minimum, each.maximum) for each in columns.numeric):
        if low is not None and high is not None and low > high:
            yield f"columns.numeric.{name}.minimum {low} is above maximum {high}"
    for name in sorted({*columns.markers_are_levels} - {*columns.categorical}):
        yield f"columns.markers_are_levels names {name!r}, which is not a categorical feature"
    for name in sorted({*config.accept_leakage} - {*columns.features}):
        yield f"accept_leakage names {name!r}, which is not a feature"
    for name in _find_repeated(_list_names(columns)):
        yield f"columns: {name!r} is given two meanings"
    others = (columns.outcome, columns.client, *columns.categorical, *columns.dates)
    if columns.value and columns.value in others:
        yield f"columns.value: {columns.value!r} is given two meanings"
    labels = [config.labels.get(name, Label(name)).label or name for name in columns.features]
    for label in _find_repeated(labels):
        yield f"columns: the label {label!r} is given to two features"


def _list_names(columns: Columns) -> list[str]:
    """Return the names of the columns that have one meaning each, so not `value`."""
    single = [columns.client_name, columns.outcome, columns.time, columns.manager]
    # The due date may be a feature too: days after the time, from which it follows.
    single += [] if columns.time and columns.due in columns.dates else [columns.due]
    return [*columns.features, *columns.ignore, *columns.details, *filter(None, single)]


def _find_repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _check_sources(config: Config) -> Iterator[str]:
    for pattern, dialect in [("", config.files.dialect_of_all), *config.files.by_name]:
        if dialect.decimal == dialect.thousands:
            where = f"files.by_name.{pattern}" if pattern else "files"
            yield f"{where}: decimal and thousands are both {dialect.decimal!r}"
    names = [database.name for database in config.databases]
    for i, name in enumerate(names):
        if name in names[:i]:
            yield f"databases[{i}].name {name!r} is repeated"


def _check_contacts(config: Config) -> Iterator[str]:
    columns, experiment = config.columns, config.experiment
    if config.contact_order == "value_at_risk" and not columns.value:
        yield "contact_order is 'value_at_risk', but columns.value is not set"
    places = sum(dict(config.manager_capacity).values())
    if places > config.contact_capacity:
        yield f"manager_capacity has {places} places, contact_capacity only {config.contact_capacity}"
    if places and not columns.manager:
        yield "manager_capacity is given, but columns.manager is not set"
    if (config.contact_cost is None) != (config.contact_success is None):
        yield "contact_cost and contact_success go together: give both"
    if experiment and not columns.client:
        yield "experiment is given, but columns.client is null, so no client can be followed"
    if experiment and experiment.never_hold_out.value_above is not None and not columns.value:
        yield "experiment.never_hold_out.value_above is given, but columns.value is not set"


def _check_engine(config: Config) -> Iterator[str]:
    is_cluster, address = config.engine.backend in ("dask", "ray"), config.engine.address
    if not re.search(r".:[0-9]+$" if is_cluster else "^$", address or ""):
        expected = "host:port of the cluster" if is_cluster else "none without a cluster"
        yield f"engine.address is {address!r}, expected {expected}"


def _check_messages(config: Config) -> Iterator[str]:
    mail, alerts = config.mail, config.alerts
    if not mail and (config.digest or (alerts and alerts.recipients)):
        yield "mail is missing, expected the server that sends the messages"
    if mail and bool(mail.user) != bool(mail.password):
        yield "mail.user and mail.password go together: give both"
    if mail and mail.password and mail.security == "none":
        yield "mail.password needs mail.security 'starttls' or 'tls'"


def _check_targets(config: Config) -> Iterator[str]:
    """Describe what would be written into a file of ours or into a source."""

    def place(url: str, table: str) -> tuple[str, str]:
        if (path := url.removeprefix("sqlite:///")) == url:
            return url, table
        return os.path.realpath(path.split("?")[0]), table.casefold().removeprefix("main.")

    written = {}
    if config.alerts and config.alerts.file:
        written["alerts.file"] = os.path.realpath(config.file.parent / config.alerts.file)
    url, table = config.write_back.url, config.write_back.table
    if config.write_back is not Config.write_back and not (url and table):
        yield "write_back.url and write_back.table go together: give both"
    elif url and table:
        if not re.match(r"sqlite:///.|postgres(ql)?(\+\w+)?://", url):
            yield (
                "write_back.url names another kind of database, expected sqlite:///path or "
                "postgresql://user:${PASSWORD}@host/database"
            )
        target = place(url, table)
        written["write_back.url"] = target[0]
        for source in config.databases:
            if place(source.url, source.table) == target:
                yield (
                    f"write_back.table is the source {source.name!r}, which is never written to; name "
                    "another table"
                )
    ours = {*map(os.path.realpath, (config.file, *config.declared_files()))} if written else ()
    for key, path in written.items():
        if path in ours:
            yield f"{key} is {path}, a file of this installation; name another file"


CHECKS = (
    *(_check_folders, _check_columns, _check_sources, _check_contacts),
    *(_check_engine, _check_messages, _check_targets),
)


# ---- the tables of docs/configuration.md

_TITLES = {
    Config: "Settings",
    Columns: "Keys of `columns`",
    Files: "Keys of `files`; those of a pattern in `by_name` are the same",
    Numeric: "Keys of a feature in `columns.numeric`",
    Label: "Display keys of a feature (`unit` only in `columns.numeric`)",
    declared.Database: "Keys of a table in `databases`",
    declared.Api: "Keys of `api`",
    declared.Engine: "Keys of `engine`",
    declared.Experiment: "Keys of `experiment`",
    declared.NeverHoldOut: "Keys of `experiment.never_hold_out`",
    declared.WriteBack: "Keys of `write_back`",
    declared.Mail: "Keys of `mail`",
    declared.Alerts: "Keys of `alerts`",
    declared.Webhook: "Keys of `alerts.webhook`",
    declared.Digest: "Keys of `digest`",
}


def describe() -> str:
    """Return the settings as Markdown tables, one for each object of config.json."""
    meanings, blocks = _read_meanings(), []
    for record, title in _TITLES.items():
        lines = [f"### {title}", "", "| key | meaning | value | default |", "|---|---|---|---|"]
        for key, setting in _list_settings(record).items():
            kind, values = _type(setting), _describe_values(setting)
            if get_origin(kind) is Literal:
                values = " or ".join(f"`{json.dumps(each)[1:-1]}`" for each in get_args(kind))
            names = ((each.__name__, setting.name) for each in record.__mro__)
            meaning = next(meanings[name] for name in names if name in meanings)
            cells = (f"`{key}`", meaning, values.replace("|", "\\|"), _shown(setting.default))
            lines.append(f"| {' | '.join(cells)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _read_meanings() -> dict[tuple[str, str], str]:
    """Return the text below each setting in its source, by the names of its record and its field."""
    tree = ast.parse(inspect.getsource(declared))
    return {
        (record.name, ast.unparse(setting.target)): " ".join(ast.literal_eval(text.value).split())
        for record in tree.body
        if isinstance(record, ast.ClassDef)
        for setting, text in pairwise(record.body)
        if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _shown(default: Any) -> str:
    """Format a default as in config.json."""
    if default is MISSING:
        return "required"
    if default is None or default == ():
        return "none"
    if is_dataclass(default):
        return "see below"
    if isinstance(default, tuple) and isinstance(default[0], Numeric):
        default = {feature.name: {"minimum": feature.minimum} for feature in default}
    if isinstance(default, float):
        return f"`{default:g}`"
    text = json.dumps(str(default) if isinstance(default, Path) else default, ensure_ascii=False)
    return f"`{text}`"


if __name__ == "__main__":
    print(describe(), end="")
