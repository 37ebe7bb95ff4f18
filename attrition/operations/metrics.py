"""Compute the metrics of an installation from the records that the steps wrote.

`/metrics` adds what changes without a run. The whole process writes the others to attrition.prom, which
the textfile collector of Prometheus' node exporter reads. A metric names no client and no path.

Source: names and units as https://prometheus.io/docs/practices/naming/ recommends.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily

from attrition.config import Config
from attrition.errors import AttritionError, NoModel
from attrition.operations import releases
from attrition.storage import files, history

Row = Mapping[str, Any]
# The value of each label of a metric, by the name of the metric; the label of one without labels is "".
Values = dict[str, dict[str, float]]


class Gauge(NamedTuple):
    """The name, meaning and label of a metric; `is_live` if it changes without a run."""

    name: str
    meaning: str
    label: str = ""
    is_live: bool = False


GAUGES = (
    Gauge("release_info", "the release served by the app, or in production; always 1", "release"),
    Gauge("release_deployed_timestamp_seconds", "when that release was deployed"),
    Gauge("release_verified", "0 if the release in production does not match its hashes"),
    Gauge("ready", "1 if `/ready` answers 200", "", True),
    Gauge("model_flat", "1 if the model is served as arrays, 0 if by scikit-learn", "", True),
    Gauge("last_run_end_timestamp_seconds", "end of the last run with work to do"),
    Gauge("last_run_duration_seconds", "duration of the last run with work to do"),
    Gauge("last_run_outcome", "1 for the outcome of the last run with work to do", "outcome"),
    Gauge(
        "last_good_run_timestamp_seconds", "end of the last run that read every source", "", True
    ),
    Gauge("last_day_runs", "runs of the last 24 hours that were not good", "outcome", True),
    Gauge("sources", "files and tables that were ingested"),
    Gauge("sources_unused", "sources of which nothing is used"),
    Gauge("sources_unavailable", "sources that the last complete run could not read"),
    Gauge("records", "records of all sources, by result", "result"),
    Gauge("clients", "current clients"),
    Gauge("clients_expected_to_leave", "current clients who are expected to leave"),
    Gauge("clients_listed", "clients on the contact list"),
    Gauge("value_at_risk", "value at risk of all current clients, in `currency`"),
    Gauge(
        "listed_value_at_risk", "value at risk of the clients on the contact list, in `currency`"
    ),
    Gauge("assessment_timestamp_seconds", "when the current clients were assessed"),
    Gauge("drifted_columns", "columns that have drifted, the predicted risk included", "extent"),
    Gauge("model_performance", "1 for the verdict on the model in production", "verdict"),
    Gauge("outdated_dependencies", "packages with a newer version"),
    Gauge("complaints", "number of complaints of `/health`", "code", True),
    Gauge("contact_log_entries", "entries in the contact log", "", True),
    Gauge("state_bytes", "size of the files in a folder of the installation", "folder", True),
    Gauge("disk_free_bytes", "free space of the disk with that folder", "folder", True),
    Gauge("disk_size_bytes", "size of the disk with that folder", "folder", True),
    Gauge("record_readable", "0 if a record is damaged, so that its metrics are missing", "record"),
)
OUTCOMES = ("done", "unavailable", "failed", "died")
VERDICTS = ("fine", "degraded", "insufficient", "no_model")
EXTENTS = {"minor": "look", "material": "act"}
RESULTS = ("accepted", "rejected", "duplicates")
FOLDERS = {
    "ingested": "output_folder",
    "candidate": "model_folder",
    "production": "production_folder",
    "reports": "reports_folder",
    "contacts": "contacts_folder",
    "access": "access_folder",
}


def timestamp(at: str) -> float:
    """Return a UTC time as seconds since 1970.

    >>> timestamp("1970-01-02T00:00:00Z")
    86400.0
    """
    return datetime.strptime(at, files.TIME).replace(tzinfo=UTC).timestamp()


def one_of(names: Iterable[str], chosen: str) -> dict[str, float]:
    """Return 1 for the chosen name and 0 for the others.

    >>> one_of(["done", "failed"], "done")
    {'done': 1.0, 'failed': 0.0}
    """
    return {name: float(name == chosen) for name in names}


def point(estimate: Row | None) -> float | None:
    """Return an estimate without its interval."""
    return None if estimate is None else estimate["value"]


# ---- from one record each


def describe_release(manifest: Row) -> Values:
    """manifest: that of a release that was verified, with its `id`"""
    at = timestamp(manifest["deployed_at"])
    return {"release_info": {manifest["id"]: 1.0}, "release_deployed_timestamp_seconds": {"": at}}


def describe_run(run: Row) -> Values:
    """run: the last one with work to do; a run that died has no end"""
    values: Values = {"last_run_outcome": one_of(OUTCOMES, run["outcome"])}
    if run["ended_at"]:
        values["last_run_end_timestamp_seconds"] = {"": timestamp(run["ended_at"])}
        values["last_run_duration_seconds"] = {"": float(run["elapsed_s"])}
    return values


def describe_ingestion(record: Row) -> Values:
    return {
        "sources": {"": record["sources"]},
        "sources_unused": {"": len(record.get("unused", ()))},
        "records": {result: record["totals"][result] for result in RESULTS},
    }


def describe_monitoring(record: Row) -> Values:
    """record: with `served`, the release in production; the verdict on another one does not count"""
    is_same = record["release"] == record["served"]
    verdict = record["performance"]["verdict"] if is_same else "insufficient"
    return {"model_performance": one_of(VERDICTS, verdict)}


def describe_assessment(record: Row) -> Values:
    figures = {
        "clients": record["clients"],
        "clients_expected_to_leave": point(record["expected_to_leave"]),
        "clients_listed": record["list"]["clients"],
        "value_at_risk": point(record["value_at_risk"]),
        "listed_value_at_risk": point(record["list"]["value_at_risk"]),
        "assessment_timestamp_seconds": timestamp(record["assessed_at"]),
    }
    return {name: {"": figure} for name, figure in figures.items() if figure is not None}


def describe_diagnostics(record: Row) -> Values:
    verdicts = [column["verdict"] for column in record["drift"]["columns"]]
    packages = (record["dependencies"] or {}).get("packages") or ()
    return {
        "drifted_columns": {extent: verdicts.count(code) for extent, code in EXTENTS.items()},
        "outdated_dependencies": {"": sum(bool(package["outdated"]) for package in packages)},
    }


def describe_last_run(record: Row) -> Values:
    return {"sources_unavailable": {"": len(record.get("unavailable", ()))}}


def describe_contact_log(record: Row) -> Values:
    return {"contact_log_entries": {"": record["entries"]}}


DESCRIBE: dict[str, Callable[[Row], Values]] = {
    "history": describe_run,
    "ingestion": describe_ingestion,
    "monitoring": describe_monitoring,
    "assessment": describe_assessment,
    "diagnostics": describe_diagnostics,
    "last_run": describe_last_run,
    "contact_log": describe_contact_log,
}


# ---- from all of them


def compute(readers: Mapping[str, Callable[[], Row | None]]) -> Values:
    """Compute the metrics of all records; one that cannot be read costs its own metrics only.

    readers: return a record by its name in DESCRIBE, None if there is none yet
    """
    values: Values = {}
    readable: dict[str, float] = {}
    for name, read in readers.items():
        try:
            record = read()
            if record is not None:
                values |= as_floats(DESCRIBE[name](record))
                readable[name] = 1.0
        except (AttritionError, OSError, LookupError, TypeError, ValueError, AttributeError):
            readable[name] = 0.0  # /health and the next run report the reason
    return values | {"record_readable": readable}


def as_floats(values: Values) -> Values:
    return {
        name: {label: float(figure) for label, figure in figures.items()}
        for name, figures in values.items()
    }


def families(values: Values) -> list[GaugeMetricFamily]:
    """Return the metrics in the order in which they are declared; one without a value is left out."""
    result = []
    for gauge in GAUGES:
        if samples := values.get(gauge.name):
            labels = [gauge.label] if gauge.label else []
            family = GaugeMetricFamily(f"attrition_{gauge.name}", gauge.meaning, labels=labels)
            for label, value in samples.items():
                family.add_metric([label] if labels else [], value)
            result.append(family)
    return result


class Families(list[Any]):
    """Metric families, as a collector of prometheus-client."""

    def collect(self) -> Iterable[Any]:
        return self


# ---- the disk


def measure_disk(config: Config) -> Values:
    """Measure the folders of the installation that exist."""
    folders = {name: getattr(config, setting) for name, setting in FOLDERS.items()}
    existing = {name: folder for name, folder in folders.items() if folder.is_dir()}
    disks = {name: shutil.disk_usage(folder) for name, folder in existing.items()}
    return {
        "state_bytes": {name: folder_size(folder) for name, folder in existing.items()},
        "disk_free_bytes": {name: disk.free for name, disk in disks.items()},
        "disk_size_bytes": {name: disk.total for name, disk in disks.items()},
    }


def folder_size(folder: Path) -> int:
    """Add up the sizes of the files below a folder; one that a run removes meanwhile counts as 0."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(path, name).lstat().st_size
    return size


# ---- the textfile


def describe_files(config: Config, unavailable: Sequence[str]) -> Values:
    """Compute what changes only by a run.

    unavailable: the sources that the last complete run could not read; its record is written later
    """
    values, release = describe_last_run({"unavailable": unavailable}), None
    try:
        release = releases.read_current(config.production_folder)
        values |= describe_release({**release.manifest, "id": release.id})
        values["release_verified"] = {"": 1.0}
    except NoModel:
        pass
    except (AttritionError, OSError):
        values["release_verified"] = {"": 0.0}

    def read_monitoring() -> Row | None:
        record = files.read_record(config.monitoring_record)
        return record and record | {"served": release.id if release else None}

    return values | compute(
        {
            "history": lambda: next(iter(history.read_worked_runs(config.history, 1)), None),
            "ingestion": lambda: files.read_record(config.ingestion_record),
            "monitoring": read_monitoring,
            "assessment": lambda: files.read_record(config.assessment_record),
            "diagnostics": lambda: files.read_record(config.diagnostics_record),
        }
    )


def write_textfile(config: Config, unavailable: Sequence[str], good_at: str | None) -> None:
    """Write the textfile if its content changes; its modification time is that of the last good run.

    An idle run updates only this time, as it does for the record of the last run. The node exporter
    publishes it as node_textfile_mtime_seconds.

    unavailable: as in `describe_files`; good_at: the end of the last good run, None if there was none
    """
    data = generate_latest(Families(families(describe_files(config, unavailable))))
    renewed = timestamp(good_at) if good_at else 0.0
    if config.metrics.is_file() and config.metrics.read_bytes() == data:
        os.utime(config.metrics, (renewed, renewed))
    else:
        files.write_bytes(config.metrics, data, modified=renewed)
