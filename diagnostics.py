"""Step 6: describe the data, the drift, the durations of the steps, and outdated dependencies.

Reads:  production_deployment/ (the release, monitoring.json, the history), ingesteddata/finaldata.csv,
        reports/clients.parquet (the current clients with their risks)
Writes: reports/diagnostics.json, dependencies.json
Run:    python diagnostics.py [--config PATH] [--verify]
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition import wording
from attrition.config import Columns, Config
from attrition.data import clients
from attrition.engine import costs
from attrition.errors import AttritionError, Damaged
from attrition.modelling import metrics
from attrition.monitoring import drift, settled_rows
from attrition.operations import cli, dependencies, releases
from attrition.operations.releases import Release
from attrition.rows import ledger, typed_rows
from attrition.storage import files, history, tables
from attrition.upkeep import integrity

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns",)
QUANTILES = (0.05, 0.25, 0.75, 0.95)
TOP_CATEGORIES = 10
ASK_EVERY_S = 24 * 3600
TREND_RUNS = 5
ROWS_AT_ONCE = 1 << 21  # if only two columns are read
TIMED = ("elapsed_s", "cpu_s", "peak_mb", "rows")
REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


@dataclass(frozen=True)
class Diagnosis:
    """A summary in three sentences; diagnostics.json has the details."""

    size: str
    drift: str
    outdated: str
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return "\n".join([self.size, self.drift, self.outdated])


# ---- compute


def summarise(read: Callable[[str], pd.Series], columns: Columns) -> dict[str, dict[str, Any]]:
    """Describe every feature: missing values, and mean, median, spread, quantiles; or categories.

    read: returns a column by its name, so that only one of them has to be in memory
    """
    numbers = [*columns.numeric_names]
    if columns.value and columns.value not in numbers:
        numbers.append(columns.value)
    summary = {name: _summarise_numbers(read(name)) for name in numbers}
    return summary | {name: _summarise_categories(read(name)) for name in columns.categorical}


def _summarise_numbers(values: pd.Series) -> dict[str, Any]:
    given = values[values.notna()]
    quantiles = given.quantile(list(QUANTILES))
    figures = {
        "mean": given.mean(),
        "median": given.median(),
        "std": given.std(ddof=1),
        "minimum": given.min(),
        "maximum": given.max(),
    }
    return {
        "kind": "numeric",
        **_counts(values.isna()),
        **{name: _finite(value) for name, value in figures.items()},
        "quantiles": {f"{q:.2f}": _finite(quantiles[q]) for q in QUANTILES},
    }


def _summarise_categories(values: pd.Series) -> dict[str, Any]:
    counts = values[values != ""].value_counts()
    counts = counts[counts > 0]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return {
        "kind": "categorical",
        **_counts(values == ""),
        "distinct": len(counts),
        "levels": [[str(name), int(count)] for name, count in ordered[:TOP_CATEGORIES]],
    }


def _counts(missing: pd.Series) -> dict[str, Any]:
    share = float(missing.mean()) if len(missing) else 0.0
    return {"count": len(missing), "missing": int(missing.sum()), "missing_pct": 100 * share}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def describe_trend(steps: history.Rows) -> str:
    """Compare the duration of the last run with the median of the runs before, in words."""
    seconds = [float(row["elapsed_s"]) for row in steps]
    if not seconds:
        return "has not run yet"
    last, before = seconds[-1], seconds[-1 - TREND_RUNS : -1]
    if not before:
        return "first run"
    if len(before) < TREND_RUNS:
        return f"{last:.1f} s, too few runs to compare"
    baseline = float(np.median(before))
    change = (last - baseline) / baseline if baseline > 0 else 0.0
    word = "no change" if abs(change) < 0.25 else f"{change:+.0%}"
    return f"{last:.1f} s, {word} (median of {len(before)} before: {baseline:.1f} s)"


def describe_timings(steps: Mapping[str, history.Rows]) -> dict[str, Any]:
    """Return the costs of every step, their trend, and a sentence for each that has doubled."""
    timings: dict[str, Any] = {
        name: [{"at": row["started_at"], **{key: row.get(key) for key in TIMED}} for row in rows]
        for name, rows in steps.items()
    }
    timings["trend"] = {name: describe_trend(rows) for name, rows in steps.items()}
    timings["doubled"] = [
        text for name, rows in steps.items() for text in costs.find_growth(name, rows)
    ]
    return timings


# ---- the step


def run_diagnostics(
    config: Config, latest: Callable[[], dict[str, str | None]] | None = None
) -> Diagnosis:
    """Describe the current clients, missing data, drift, durations and dependencies.

    `latest` returns the latest versions of the dependencies if they were requested before; if it is
    None, they are requested now, at most once a day.

    Raises: NoModel if there is no model in production; Damaged.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    inputs = {
        "finaldata": ledger.rows_version(config),
        "ingested": files.sha256_file(config.ingested_files),  # it changes if all rows are refused
        "release": release.id,
        "monitoring": files.sha256_file(config.monitoring_record),
        "settings": config.fingerprint(),
    }
    if (record := files.read_if_up_to_date(config.diagnostics_record, inputs)) is not None:
        return _diagnosis(record, up_to_date=True)
    columns = config.columns
    assessment = read_assessment(config, inputs)
    risk = clients.read_column(config.clients, "risk").to_numpy(dtype="float64")
    summary = summarise(lambda name: _read_feature(config, name), columns)
    reference = read_reference(assessment["have_stayed"], release, columns.outcome)
    sample = clients.read_assessed(config.clients, columns, settled_rows.MAX_ROWS_TO_COMPARE)
    report = drift.compare_clients(reference, *sample, release.training, columns.time)
    drifted = report.to_dict()
    now = files.utc_now()
    steps = {name: history.read_steps(config.history, name) for name in history.STEPS}
    record = {
        "inputs": inputs,
        "diagnosed_at": now,
        "release": release.id,
        "columns": summary,
        "predictions": _predictions(risk),
        "drift": drifted,
        "monitoring": files.read_record(config.monitoring_record),
        "timings": describe_timings(steps),
        "dependencies": find_dependencies(config, latest),
        "data": _describe_data(config, len(risk)),
    }
    fingerprint = files.sha256_bytes(files.encode(inputs))
    missing = [
        {"at": now, "made": fingerprint, "column": name, "missing_pct": column["missing_pct"]}
        for name, column in summary.items()
    ]
    shifts = [
        {"at": now, "made": fingerprint}
        | {key: column[key] for key in ("column", "psi", "p_value", "verdict")}
        for column in drifted["columns"]
    ]
    history.save(config.history, "missing", missing)
    history.save(config.history, "drift", shifts)
    return _diagnosis(files.commit(config.diagnostics_record, {}, record), up_to_date=False)


def read_assessment(config: Config, inputs: Mapping[str, str]) -> files.Record:
    """Read the record of the assessment, and verify its clients.

    Raises: AttritionError if it is of other rows or another release; Damaged.
    """
    record = files.read_record(config.assessment_record)
    wanted = {name: inputs[name] for name in ("finaldata", "release")}
    wanted["columns"] = inputs["settings"]  # those of this step are the columns
    if record is None or wanted.items() - record["inputs"].items():
        raise AttritionError(
            f"{config.clients}: was not computed from these rows and this model; "
            "run assessment.py first"
        )
    if files.sha256_file(config.clients) != record["outputs"].get(config.clients.name):
        raise Damaged(f"{config.clients}: is not what was written; run assessment.py first")
    return record


def read_reference(have_stayed: bool, release: Release, outcome: str) -> pd.DataFrame:
    """Return the reference; if all current clients have stayed, only the rows of clients who stayed."""
    reference = releases.read_reference(release)
    return reference[reference[outcome].astype("float64") == 0] if have_stayed else reference


def _read_feature(config: Config, name: str) -> pd.Series:
    """Read a column of the current clients, by its name in config.json."""
    columns = config.columns
    stored = {columns.value: "value", columns.time: "observed_at"}
    return clients.read_column(config.clients, stored.get(name, clients.FEATURE + name))


def _predictions(risk: metrics.Vector) -> dict[str, Any]:
    return {
        "set": "current clients",
        "rows": len(risk),
        "mean_risk": float(risk.mean()) if len(risk) else None,
        "predicted_to_leave": int((risk >= metrics.THRESHOLD).sum()),
    }


def _describe_data(config: Config, n_current: int) -> dict[str, Any]:
    lines, counts = ledger.read_lines(config), Counter[str]()
    for part in ledger.split_rows(config, ROWS_AT_ONCE):
        counts.update(count_rows(config, part))
    return {
        **counts,
        "current_clients": n_current,
        "sources": len({line.source for line in lines if line.accepted}),
        "rejected": sum(line.rejected for line in lines),
        "duplicates": sum(line.duplicates for line in lines),
    }


def count_rows(config: Config, part: ledger.Part) -> dict[str, int]:
    """Count the rows and the clients of a part."""
    name = config.columns.outcome
    names = [name, typed_rows.CLIENT_HASH]
    rows = tables.to_frame(ledger.read_table(config, names, part=part, is_ordered=False))
    outcome = rows[name]
    # The rows are nearly sorted already, so that a sort takes less time than hashing.
    client = np.sort(rows[typed_rows.CLIENT_HASH], kind="stable")
    return {
        "rows": len(outcome),
        "labelled": int(outcome.notna().sum()),
        "left": int((outcome == 1).sum()),
        "open": int(outcome.isna().sum()),
        "clients": int(np.count_nonzero(client[1:] != client[:-1])) + min(1, len(client)),
    }


def needs_asking(config: Config) -> list[str]:
    """Name the dependencies, or none if their latest versions were requested in the last 24 hours."""
    try:
        age_s = time.time() - config.dependencies.stat().st_mtime
    except FileNotFoundError:
        age_s = ASK_EVERY_S
    return [] if 0 <= age_s < ASK_EVERY_S else sorted(dependencies.read_required(REQUIREMENTS))


def find_dependencies(
    config: Config, latest: Callable[[], dict[str, str | None]] | None
) -> dict[str, Any]:
    """Return the table of dependencies; if it is older than 24 hours, request the latest versions."""
    names = needs_asking(config)
    if not names:
        try:
            record = files.read_record(config.dependencies)
        except Damaged as error:
            logger.warning("%s; requested again", error)
            record = None
        if record is not None:
            return {key: record[key] for key in ("asked_at", "reachable", "packages")}
    required = dependencies.read_required(REQUIREMENTS)
    versions = latest() if latest is not None else dependencies.ask_all(sorted(required))
    record = {
        "asked_at": files.utc_now(),
        "reachable": any(versions.values()),
        "packages": dependencies.compare_versions(required, versions),
    }
    if record["reachable"]:
        files.write_bytes(config.dependencies, files.encode(files.sealed(record)))
    return record


def _diagnosis(record: files.Record, *, up_to_date: bool) -> Diagnosis:
    data, index = record["data"], record["dependencies"]
    outdated = [package["name"] for package in index["packages"] if package["outdated"]]
    state = f"{len(outdated)} of {len(index['packages'])} outdated"
    if not index["reachable"]:
        state = "latest versions unknown, the package index cannot be reached"
    return Diagnosis(
        size=f"{wording.plural(data['rows'], 'row')} of {wording.plural(data['clients'], 'client')}, "
        f"{data['labelled']:,} with an outcome; "
        f"{wording.plural(data['current_clients'], 'current client')}",
        drift=f"current clients: {record['drift']['sentence']}",
        outdated=f"dependencies: {state}",
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def verify_files(config: Config) -> int:
    """Verify everything that was written, print a line for each; return 1 if something is damaged."""
    files.forget_hashes()
    with files.run_lock(config.lock):
        problems = integrity.scrub(config)
        if any(problems.values()):
            for path in (config.watch_list, config.hashes):  # the next run hashes everything too
                path.unlink(missing_ok=True)
    for path, problem in problems.items():
        print(f"damaged  {path}: {problem}" if problem else f"ok       {path}")
    wrong = [path for path, problem in problems.items() if problem]
    if wrong:
        repair = (
            "; python fullprocess.py --repair repairs it" if wrong != [config.contact_log] else ""
        )
        print(f"{len(wrong)} of {len(problems)} damaged{repair}")
    return 1 if wrong else 0


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="verify every release, record and output, the history and the contact log",
    )
    options = parser.parse_args(argv)
    if options.verify:
        return cli.run_command(options, verify_files)
    return cli.run(options, "diagnostics", run_diagnostics)


if __name__ == "__main__":
    sys.exit(main())
