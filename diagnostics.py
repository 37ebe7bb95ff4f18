"""Step 6: is the model in production still right, and what state are data, drift and machine in?

Reads:  production_deployment/current, ingesteddata/finaldata.csv, testdata/, the history
Writes: production_deployment/monitoring.json, settled_rows.npz (the verdict that asks for training);
        reports/diagnostics.json, dependencies.json
Run:    python diagnostics.py [--config PATH] [--verify]
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Columns, Config
from attrition.data import files as source_files
from attrition.data import schema
from attrition.errors import Damaged, NoModel
from attrition.modelling import metrics, models
from attrition.modelling.metrics import Interval, Vector
from attrition.monitoring import drift, gate, performance
from attrition.operations import cli, dependencies, integrity, releases
from attrition.operations.releases import Release
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

QUANTILES = (0.05, 0.25, 0.75, 0.95)
TOP_LEVELS = 10
# Fewer new rows than this are pooled with the next ones before they count as judged.
POOL_ROWS = 100
SETTLED, ESTIMATED = ("labelled", "inputs"), "estimated"
ASK_EVERY_S = 24 * 3600
TREND_RUNS = 5


@dataclass(frozen=True)
class Monitoring:
    """Whether to train, and why; the verdicts themselves stand in monitoring.json."""

    retrain: bool
    triggers: tuple[str, ...]
    reason: str
    truth: str
    input: str
    fresh: bool
    made: str

    def summary(self) -> str:
        if "no_model" in self.triggers:
            return self.reason
        return "\n".join([self.reason, self.truth, self.input])


@dataclass(frozen=True)
class Diagnosis:
    """A few words on the state of things; the rest stands in diagnostics.json."""

    told: str
    drift: str
    outdated: str
    fresh: bool
    made: str

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


# ---- is the model in production still right?


def monitor_model(config: Config) -> Monitoring:
    """Look at what came since the champion was trained, once, and say whether to train.

    Two different things can have moved: the truth (new outcomes contradict the model) and the input.
    Rows that were judged and found in order are settled and not looked at again; too few rows are
    pooled with those to come.

    Raises: Damaged when the champion does not verify.
    """
    files.finish_commit(config.production_folder)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "settings": config.fingerprint("columns", "held_out_share"),
    }
    if (record := files.read_fresh(config.monitoring_record, inputs)) is not None:
        return _monitoring(record, fresh=True)
    columns = config.columns
    rows = source_files.read_rows(config.final_data, columns)
    labelled = rows[rows[columns.outcome].notna()]
    checks: history.Rows = []
    try:
        champion = releases.read_for(config.production_folder, config.columns)
    except NoModel:
        champion = None
    if champion is None:
        settled = {name: np.array([], dtype="uint64") for name in (*SETTLED, ESTIMATED)}
        truth = drift.Truth(
            "no_model", 0, 0, metrics.UNKNOWN, metrics.UNKNOWN, 0, 0, "no model yet"
        )
        look = drift.Look("insufficient", 0, "nothing to compare with before the first model", ())
        new_labelled = 0
    else:
        settled = _settled(config, champion)
        truth, look, new_labelled, checks = _look(config, champion, rows, settled)
    last = _last_attempt(config, champion)
    triggers = gate.find_triggers(
        has_model=champion is not None,
        degraded=truth.verdict == "degraded",
        input_moved=look.verdict == "moved",
        labelled=len(labelled),
        champion_labelled=champion.training["labelled"] if champion else 0,
    )
    retrain, reason = gate.is_worth_training(triggers, last, len(labelled), new_labelled)
    record = {
        "inputs": inputs,
        "checked_at": files.utc_now(),
        "release": champion.id if champion else None,
        "retrain": retrain,
        "triggers": list(triggers),
        "reason": reason,
        "truth": truth.plain(),
        "input": look.plain(),
        "estimator": checks,
    }
    history.save(config.history, "estimates", _history_rows(record))
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**settled)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), fresh=False)


def _settled(config: Config, champion: Release) -> dict[str, np.ndarray]:
    """Return the ids of the rows this champion knew or was already judged on and found right."""
    arrays = files.read_arrays(champion.folder / releases.KNOWN_ROWS)
    known = {name: arrays[name] for name in SETTLED} | {ESTIMATED: arrays["labelled"]}
    try:
        before = files.read_record(config.monitoring_record)
        if before is None or before["release"] != champion.id:
            return known
        if files.damaged_outputs(config.production_folder, before):
            raise Damaged(f"{config.settled_rows}: is not what was written")
        return known | files.read_arrays(config.settled_rows)
    except Damaged as error:
        logger.warning("%s; everything since the deployment is judged again", error)
        return known


def _look(
    config: Config, champion: Release, rows: pd.DataFrame, settled: dict[str, np.ndarray]
) -> tuple[drift.Truth, drift.Look, int, history.Rows]:
    """Judge the rows that are not settled; settle those found in order, in place.

    What would have been estimated of them without their outcomes is held against these, once.
    """
    columns = config.columns
    model = releases.load_model(champion)
    labelled = rows[rows[columns.outcome].notna()]
    ids = schema.row_ids(labelled, columns, with_outcome=True)
    is_new = ~np.isin(ids, settled["labelled"])
    new = labelled[is_new]
    outcome = new[columns.outcome].to_numpy(dtype="float64")
    risk = models.predict(model, new)
    is_first = ~np.isin(ids[is_new], settled[ESTIMATED])
    checks: history.Rows = []
    if is_first.sum() >= performance.LEAST_ROWS:
        checks = _check_estimate(config, champion, new[is_first], risk[is_first])
        settled[ESTIMATED] = np.union1d(settled[ESTIMATED], ids)
    truth = drift.check_truth(
        outcome,
        risk,
        _reference_auc(champion),
        left_in_training=champion.training["left"],
    )
    if truth.verdict == "fine":
        settled["labelled"] = np.union1d(settled["labelled"], ids)
    ids = schema.row_ids(rows, columns, with_outcome=False)
    batch = rows[~np.isin(ids, settled["inputs"])]
    look = compare_input(champion, model, batch, releases.read_reference(champion))
    if look.verdict == "stable" and look.rows >= POOL_ROWS:
        settled["inputs"] = np.union1d(settled["inputs"], ids)
    return truth, look, len(new), checks


def _check_estimate(
    config: Config, champion: Release, new: pd.DataFrame, risk: Vector
) -> history.Rows:
    """Hold what would have been estimated of rows without their outcomes against these."""
    columns = config.columns
    reference = releases.read_reference(champion)
    value = new[columns.value].to_numpy(dtype="float64") if columns.value else None
    estimated = performance.estimate(
        risk,
        **performance.judged_on(reference, columns.outcome),
        value=value,
        capacity=config.contact_capacity,
    )
    outcome = new[columns.outcome].to_numpy(dtype="float64")
    checks = performance.check(estimated, outcome, risk, value)
    return [{"rows": len(new)} | check.plain() for check in checks]


def _history_rows(record: files.Record) -> history.Rows:
    made = files.sha256_bytes(files.encode(record["inputs"]))
    kept = ("rows", "figure", "estimated", "low", "high", "realised")
    return [
        {"at": record["checked_at"], "made": made, "release": record["release"]}
        | {key: check[key] for key in kept}
        for check in record["estimator"]
    ]


def _reference_auc(champion: Release) -> Interval:
    """Return the AUC that the champion had on unseen rows when it was deployed."""
    for name in ("recent", "unseen", "test"):
        scored = champion.score["sets"].get(name)
        if scored and scored["rows"] >= drift.LEAST_LABELLED:
            return Interval(**scored["candidate"]["roc_auc"])
    return metrics.UNKNOWN


def compare_input(
    champion: Release, model: Any, batch: pd.DataFrame, reference: pd.DataFrame
) -> drift.Look:
    """Hold rows against those of the reference of the release, the model's own risk included."""
    batch = batch.assign(**{drift.SCORE: models.predict(model, batch)})
    features = champion.training["features"]
    uses = champion.training["importance"] or {}
    return drift.examine(
        reference,
        batch,
        features["numeric"],
        features["categorical"],
        uses if any(uses.values()) else None,  # a base rate goes by nothing
    )


def _last_attempt(config: Config, champion: Release | None) -> gate.Attempt | None:
    """Return the last training; one that became the champion counts no row as tried since."""
    try:
        record = files.read_record(config.training_record)
    except Damaged:
        return None  # what cannot be read was no attempt: training is asked again
    if record is None:
        return None
    if champion and champion.model_sha256 == record["model_sha256"]:
        return gate.Attempt(record["labelled"], 0, ())
    return gate.Attempt(record["labelled"], record["recent"], tuple(record["triggers"]))


def _monitoring(record: files.Record, *, fresh: bool) -> Monitoring:
    return Monitoring(
        retrain=record["retrain"],
        triggers=tuple(record["triggers"]),
        reason=record["reason"],
        truth=record["truth"]["sentence"],
        input=record["input"]["sentence"],
        fresh=fresh,
        made=record["seal"],
    )


# ---- the step


def run_diagnostics(
    config: Config, latest: Callable[[], dict[str, str | None]] | None = None
) -> Diagnosis:
    """Describe the current clients, missing data, drift, durations and dependencies.

    `latest` gives the latest versions of the dependencies when somebody asked for them already, so
    that nobody waits for the index here; without it they are asked now, at most once a day.

    Raises: NoModel, Damaged.
    """
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "release": release.id,
        "monitoring": files.sha256_file(config.monitoring_record),
        "settings": config.fingerprint("columns"),
    }
    if (record := files.read_fresh(config.diagnostics_record, inputs)) is not None:
        return _diagnosis(record, fresh=True)
    columns = config.columns
    rows = source_files.read_rows(config.final_data, columns)
    current = schema.current_clients(rows, columns)
    model = releases.load_model(release)
    summary = summarise(current, columns)
    look = compare_input(release, model, current, _like(current, release, columns.outcome)).plain()
    now = files.utc_now()
    steps = {name: history.read_steps(config.history, name) for name in ("ingestion", "training")}
    record = {
        "inputs": inputs,
        "diagnosed_at": now,
        "release": release.id,
        "columns": summary,
        "predictions": _predictions(model, current),
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
        "data": _describe_data(config, rows, current),
    }
    made = files.sha256_bytes(files.encode(inputs))
    missing = [
        {"at": now, "made": made, "column": name, "missing_pct": found["missing_pct"]}
        for name, found in summary.items()
    ]
    moved = [
        {"at": now, "made": made}
        | {key: column[key] for key in ("column", "psi", "p_value", "verdict")}
        for column in look["columns"]
    ]
    history.save(config.history, "missing", missing)
    history.save(config.history, "drift", moved)
    return _diagnosis(files.commit(config.diagnostics_record, {}, record), fresh=False)


def _like(current: pd.DataFrame, release: Release, outcome: str) -> pd.DataFrame:
    """Return the reference; only those who stayed where current clients are known to have stayed."""
    reference = releases.read_reference(release)
    if current[outcome].isna().any():
        return reference
    return reference[reference[outcome].astype("float64") == 0]


def _predictions(model: Any, current: pd.DataFrame) -> dict[str, Any]:
    risk = models.predict(model, current)
    return {
        "set": "current clients",
        "rows": len(risk),
        "mean_risk": float(risk.mean()) if len(risk) else None,
        "predicted_to_leave": int((risk >= metrics.THRESHOLD).sum()),
    }


def _describe_data(config: Config, rows: pd.DataFrame, current: pd.DataFrame) -> dict[str, Any]:
    outcome = rows[config.columns.outcome]
    ingestion = files.read_record(config.ingestion_record)
    assert ingestion is not None
    return {
        "rows": len(rows),
        "labelled": int(outcome.notna().sum()),
        "left": int((outcome == 1).sum()),
        "open": int(outcome.isna().sum()),
        "clients": len(current),
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
        "packages": dependencies.table(required, found),
    }
    if record["reachable"]:
        files.write_bytes(config.dependencies, files.encode(files.sealed(record)))
    return record


def _diagnosis(record: files.Record, *, fresh: bool) -> Diagnosis:
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
        fresh=fresh,
        made=record["seal"],
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
    """Look at the model, then describe everything, by hand; or verify all that was ever written."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--verify", action="store_true", help="verify every release, record, output and the history"
    )
    options = parser.parse_args(argv)
    if options.verify:
        return cli.guard(options, verify)
    code = cli.run(options, "monitoring", monitor_model)
    return code or cli.run(options, "diagnostics", run_diagnostics)


if __name__ == "__main__":
    sys.exit(main())
