"""Is the model in production still accurate, and is there reason to train?

Reads:  production_deployment/current, the rows in ingesteddata/, the history
Writes: production_deployment/monitoring.json (the verdict that asks for training), settled_rows.npz
        (the rows that were judged and need no second look)
Run:    python monitoring.py [--config PATH]
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import files as source_files
from attrition.data import schema
from attrition.errors import Damaged, NoModel
from attrition.modelling import metrics, models
from attrition.modelling.metrics import Interval, Vector
from attrition.monitoring import drift, gate, performance
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

# Fewer new rows than this are pooled with the next ones before they count as judged.
POOL_ROWS = 100
SETTLED, ESTIMATED = ("labelled", "inputs"), "estimated"


@dataclass(frozen=True)
class Monitoring:
    """Whether to train, and why; the verdicts themselves stand in monitoring.json."""

    retrain: bool
    triggers: tuple[str, ...]
    reason: str
    performance: str
    drift: str
    up_to_date: bool
    made: str

    def summary(self) -> str:
        if "no_model" in self.triggers:
            return self.reason
        return "\n".join([self.reason, self.performance, self.drift])


# ---- the step


def monitor_model(config: Config) -> Monitoring:
    """Look at what came since the champion was trained, once, and say whether to train.

    Two different things can have moved: the judged (new outcomes contradict the model) and the input.
    Rows that were judged and found in order are settled and not looked at again; too few rows are
    pooled with those to come.

    Raises: Damaged when the champion does not verify.
    """
    files.finish_commit(config.production_folder)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "settings": config.fingerprint("columns", "held_out_share"),
    }
    if (record := files.read_if_up_to_date(config.monitoring_record, inputs)) is not None:
        return _monitoring(record, up_to_date=True)
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
        judged = performance.Performance(
            "no_model", 0, 0, metrics.UNKNOWN, metrics.UNKNOWN, 0, 0, "no model yet"
        )
        look = drift.DriftReport("insufficient", 0, "there is no model to compare with yet", ())
        new_labelled = 0
    else:
        settled = _settled(config, champion)
        judged, look, new_labelled, checks = _look(config, champion, rows, settled)
    last = _last_attempt(config, champion)
    triggers = gate.find_triggers(
        has_model=champion is not None,
        degraded=judged.verdict == "degraded",
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
        "performance": judged.to_dict(),
        "drift": look.to_dict(),
        "estimator": checks,
    }
    history.save(config.history, "estimates", _history_rows(record))
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**settled)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), up_to_date=False)


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
) -> tuple[performance.Performance, drift.DriftReport, int, history.Rows]:
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
    judged = performance.check_performance(
        outcome,
        risk,
        _reference_auc(champion),
        left_in_training=champion.training["left"],
    )
    if judged.verdict == "fine":
        settled["labelled"] = np.union1d(settled["labelled"], ids)
    ids = schema.row_ids(rows, columns, with_outcome=False)
    batch = rows[~np.isin(ids, settled["inputs"])]
    look = drift.compare_clients(
        releases.read_reference(champion), batch, models.predict(model, batch), champion.training
    )
    if look.verdict == "stable" and look.rows >= POOL_ROWS:
        settled["inputs"] = np.union1d(settled["inputs"], ids)
    return judged, look, len(new), checks


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
    return [{"rows": len(new)} | check.to_dict() for check in checks]


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
        if scored and scored["rows"] >= performance.MIN_LABELLED_TO_JUDGE:
            return Interval(**scored["candidate"]["roc_auc"])
    return metrics.UNKNOWN


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


def _monitoring(record: files.Record, *, up_to_date: bool) -> Monitoring:
    return Monitoring(
        retrain=record["retrain"],
        triggers=tuple(record["triggers"]),
        reason=record["reason"],
        performance=record["performance"]["sentence"],
        drift=record["drift"]["sentence"],
        up_to_date=up_to_date,
        made=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    """Judge the model once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "monitoring", monitor_model)


if __name__ == "__main__":
    sys.exit(main())
