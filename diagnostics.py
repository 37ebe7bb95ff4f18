"""Step 6: describe the data, the drift, how long the steps take, and which dependencies are outdated.

Reads:  production_deployment/ (the release, monitoring.json, the history), ingesteddata/finaldata.csv,
        reports/clients.parquet (the current clients with their risks)
Writes: reports/diagnostics.json, dependencies.json
Run:    python diagnostics.py [--config PATH] [--verify]
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Columns, Config
from attrition.data import clients, ledger
from attrition.errors import AttritionError, Damaged
from attrition.modelling import metrics
from attrition.monitoring import drift
from attrition.operations import cli, dependencies, integrity, releases
from attrition.operations.releases import Release
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns",)
QUANTILES = (0.05, 0.25, 0.75, 0.95)
TOP_LEVELS = 10
ASK_EVERY_S = 24 * 3600
TREND_RUNS = 5


@dataclass(frozen=True)
class Diagnosis:
    """A few words on the state of things; the rest stands in diagnostics.json."""

    told: str
    drift: str
    outdated: str
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return "\n".join([self.told, self.drift, self.outdated])


# ---- compute


def summarise(rows: pd.DataFrame, columns: Columns) -> dict[str, dict[str, Any]]:
    """Describe every feature: mean, median, spread and quantiles, or levels; and what is missing."""
    numbers = [*columns.numeric_names]
    if columns.value and columns.value not in numbers:
        numbers.append(columns.value)
    found = {name: _summarise_numbers(rows[name]) for name in numbers}
    return found | {name: _summarise_levels(rows[name]) for name in columns.categorical}


def _summarise_numbers(values: pd.Series) -> dict[str, Any]:
    known = values[values.notna()]
    quantiles = known.quantile(list(QUANTILES))
    figures = {
        "mean": known.mean(),
        "median": known.median(),
        "std": known.std(ddof=1),
        "minimum": known.min(),
        "maximum": known.max(),
    }
    return {
        "kind": "numeric",
        **_counts(values.isna()),
        **{name: _finite(value) for name, value in figures.items()},
        "quantiles": {f"{q:.2f}": _finite(quantiles[q]) for q in QUANTILES},
    }


def _summarise_levels(values: pd.Series) -> dict[str, Any]:
    counts = values[values != ""].value_counts()
    ordered = sorted(counts.items(), key=lambda level: (-level[1], str(level[0])))
    return {
        "kind": "categorical",
        **_counts(values == ""),
        "distinct": len(counts),
        "levels": [[str(level), int(count)] for level, count in ordered[:TOP_LEVELS]],
    }


def _counts(missing: pd.Series) -> dict[str, Any]:
    share = float(missing.mean()) if len(missing) else 0.0
    return {"count": len(missing), "missing": int(missing.sum()), "missing_pct": 100 * share}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def trend(steps: history.Rows) -> str:
    """Say in words how a duration compares with the ones before."""
    seconds = [float(row["elapsed_s"]) for row in steps]
    if not seconds:
        return "has not run yet"
    last, before = seconds[-1], seconds[-1 - TREND_RUNS : -1]
    if not before:
        return f"{last:.1f} s, the first run"
    usual = float(np.median(before))
    change = (last - usual) / usual if usual > 0 else 0.0
    word = "as usual" if abs(change) < 0.25 else f"{change:+.0%}"
    return f"{last:.1f} s, {word} against the {usual:.1f} s of the {len(before)} before"


# ---- the step


def run_diagnostics(
    config: Config, latest: Callable[[], dict[str, str | None]] | None = None
) -> Diagnosis:
    """Describe the current clients, missing data, drift, durations and dependencies.

    `latest` gives the latest versions of the dependencies when somebody asked for them already, so
    that nobody waits for the index here; without it they are asked now, at most once a day.

    Raises: NoModel, Damaged.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "release": release.id,
        "monitoring": files.sha256_file(config.monitoring_record),
        "settings": config.fingerprint(),
    }
    if (record := files.read_if_up_to_date(config.diagnostics_record, inputs)) is not None:
        return _diagnosis(record, up_to_date=True)
    columns = config.columns
    assessment = read_assessment(config, inputs)
    current, risk = clients.read_assessed(config.clients, columns)
    summary = summarise(current, columns)
    look = drift.compare_clients(
        _like(assessment["have_stayed"], release, columns.outcome), current, risk, release.training
    ).to_dict()
    now = files.utc_now()
    steps = {name: history.read_steps(config.history, name) for name in ("ingestion", "training")}
    record = {
        "inputs": inputs,
        "diagnosed_at": now,
        "release": release.id,
        "columns": summary,
        "predictions": _predictions(risk),
        "drift": look,
        "monitoring": files.read_record(config.monitoring_record),
        "timings": {
            **{
                name: [{"at": row["started_at"], "elapsed_s": row["elapsed_s"]} for row in found]
                for name, found in steps.items()
            },
            "trend": {name: trend(found) for name, found in steps.items()},
        },
        "dependencies": find_dependencies(config, latest),
        "data": _describe_data(config, len(current)),
    }
    fingerprint = files.sha256_bytes(files.encode(inputs))
    missing = [
        {"at": now, "made": fingerprint, "column": name, "missing_pct": found["missing_pct"]}
        for name, found in summary.items()
    ]
    moved = [
        {"at": now, "made": fingerprint}
        | {key: column[key] for key in ("column", "psi", "p_value", "verdict")}
        for column in look["columns"]
    ]
    history.save(config.history, "missing", missing)
    history.save(config.history, "drift", moved)
    return _diagnosis(files.commit(config.diagnostics_record, {}, record), up_to_date=False)


def read_assessment(config: Config, inputs: Mapping[str, str]) -> files.Record:
    """Read the record of the assessment of these rows by this release; its clients are verified.

    Raises: AttritionError, Damaged.
    """
    record = files.read_record(config.assessment_record)
    wanted = {name: inputs[name] for name in ("finaldata", "release")}
    wanted["columns"] = inputs["settings"]  # those of this step are the columns
    if record is None or wanted.items() - record["inputs"].items():
        raise AttritionError(
            f"{config.clients}: is not of these rows and the model in production; "
            "run assessment.py first"
        )
    if files.sha256_file(config.clients) != record["outputs"].get(config.clients.name):
        raise Damaged(f"{config.clients}: is not what was written; run assessment.py first")
    return record


def _like(have_stayed: bool, release: Release, outcome: str) -> pd.DataFrame:
    """Return the reference; only those who stayed if the current clients are known to have stayed."""
    reference = releases.read_reference(release)
    return reference[reference[outcome].astype("float64") == 0] if have_stayed else reference


def _predictions(risk: metrics.Vector) -> dict[str, Any]:
    return {
        "set": "current clients",
        "rows": len(risk),
        "mean_risk": float(risk.mean()) if len(risk) else None,
        "predicted_to_leave": int((risk >= metrics.THRESHOLD).sum()),
    }


def _describe_data(config: Config, n_clients: int) -> dict[str, Any]:
    name = config.columns.outcome
    outcome = ledger.read_rows(config, [name])[name]
    ingestion = files.read_record(config.ingestion_record)
    assert ingestion is not None
    return {
        "rows": len(outcome),
        "labelled": int(outcome.notna().sum()),
        "left": int((outcome == 1).sum()),
        "open": int(outcome.isna().sum()),
        "clients": n_clients,
        "sources": ingestion["sources"],
        "rejected": ingestion["totals"]["rejected"],
        "duplicates": ingestion["totals"]["duplicates"],
    }


def needs_asking(config: Config) -> list[str]:
    """Name the dependencies whose latest version is to be asked; none if that was done today."""
    try:
        age_s = time.time() - config.dependencies.stat().st_mtime
    except FileNotFoundError:
        age_s = ASK_EVERY_S
    return [] if 0 <= age_s < ASK_EVERY_S else sorted(dependencies.read_required(REQUIREMENTS))


REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


def find_dependencies(
    config: Config, latest: Callable[[], dict[str, str | None]] | None
) -> dict[str, Any]:
    """Return the table of dependencies, newly asked or as it was asked in the last 24 hours."""
    names = needs_asking(config)
    if not names:
        try:
            record = files.read_record(config.dependencies)
        except Damaged as error:
            logger.warning("%s; asked again", error)
            record = None
        if record is not None:
            return {key: record[key] for key in ("asked_at", "reachable", "packages")}
    required = dependencies.read_required(REQUIREMENTS)
    found = latest() if latest is not None else dependencies.ask_all(sorted(required))
    record = {
        "asked_at": files.utc_now(),
        "reachable": any(found.values()),
        "packages": dependencies.compare_versions(required, found),
    }
    if record["reachable"]:
        files.write_bytes(config.dependencies, files.encode(files.sealed(record)))
    return record


def _diagnosis(record: files.Record, *, up_to_date: bool) -> Diagnosis:
    data, asked = record["data"], record["dependencies"]
    outdated = [package["name"] for package in asked["packages"] if package["outdated"]]
    if not asked["reachable"]:
        told = "dependencies: latest versions unknown, the package index cannot be reached"
    else:
        told = f"dependencies: {len(outdated)} of {len(asked['packages'])} outdated"
    return Diagnosis(
        told=f"{data['rows']:,} rows, {data['labelled']:,} with an outcome; "
        f"{data['clients']:,} current clients",
        drift=f"current clients: {record['drift']['sentence']}",
        outdated=told,
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def verify(config: Config) -> int:
    """Print a line for each thing that was verified; exit code 1 where something is wrong."""
    with files.run_lock(config.lock):
        found = integrity.scrub(config)
    for path, problem in found.items():
        print(f"damaged  {path}: {problem}" if problem else f"ok       {path}")
    wrong = sum(map(bool, found.values()))
    if wrong:
        print(f"{wrong} of {len(found)} damaged; python fullprocess.py --repair mends it")
    return 1 if wrong else 0


def main(argv: list[str] | None = None) -> int:
    """Describe everything, by hand; or verify all that was ever written."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--verify", action="store_true", help="verify every release, record, output and the history"
    )
    options = parser.parse_args(argv)
    if options.verify:
        return cli.run_command(options, verify)
    return cli.run(options, "diagnostics", run_diagnostics)


if __name__ == "__main__":
    sys.exit(main())
