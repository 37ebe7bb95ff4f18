"""Check whether the model in production is still accurate, and decide whether to retrain.

Reads:  production_deployment/current, the rows in ingesteddata/, the history
Writes: production_deployment/monitoring.json (the verdict: retrain or not, and why), settled_rows.npz
        (the rows whose verdict is final)
Run:    python monitoring.py [--config PATH]
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import ledger, schema
from attrition.errors import Damaged, NoModel
from attrition.modelling import metrics, models
from attrition.modelling.metrics import Interval, Vector
from attrition.monitoring import drift, gate, performance
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

# held_out_share: with another share, whether to train is a new question.
SETTINGS = ("columns", "contact_capacity")
# Fewer new rows than this are pooled with the next ones before they count as judged.
MIN_ROWS_TO_SETTLE = 100
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
    seal: str

    def summary(self) -> str:
        if "no_model" in self.triggers:
            return self.reason
        return "\n".join([self.reason, self.performance, self.drift])


# ---- the step


def monitor_model(config: Config) -> Monitoring:
    """Judge the champion on the rows since its training, each row once, and decide whether to train.

    Two things are judged: its performance (do new outcomes contradict it?) and data drift (do the new
    rows differ from its reference?). If rows are in order, they are settled and not judged again; if
    they are too few, they are pooled with later ones.

    Raises: Damaged if the champion does not verify.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.production_folder)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "settings": config.fingerprint(),
    }
    if (record := files.read_if_up_to_date(config.monitoring_record, inputs)) is not None:
        return _monitoring(record, up_to_date=True)
    columns = config.columns
    named = filter(None, [columns.time, columns.value])
    names = (*columns.features, *named, columns.outcome)
    rows = ledger.read_rows(config, (*names, schema.ROW_ID, schema.INPUT_ID))
    labelled = rows[rows[columns.outcome].notna()]
    checks: history.Rows = []
    try:
        champion = releases.read_for(config.production_folder, config.columns)
    except NoModel:
        champion = None
    if champion is None:
        settled = {name: np.array([], dtype="uint64") for name in (*SETTLED, ESTIMATED)}
        verdict = performance.Performance(
            "no_model", 0, 0, metrics.UNKNOWN, metrics.UNKNOWN, 0, 0, "no model yet"
        )
        report = drift.DriftReport("insufficient", 0, "there is no model to compare with yet", ())
        new_labelled = 0
    else:
        settled = _read_settled(config, champion)
        verdict, report, new_labelled, checks = _judge_new_rows(config, champion, rows, settled)
    last = _last_attempt(config, champion)
    triggers = gate.find_triggers(
        has_model=champion is not None,
        degraded=verdict.verdict == "degraded",
        input_moved=report.verdict == "moved",
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
        "performance": verdict.to_dict(),
        "drift": report.to_dict(),
        "estimator": checks,
    }
    history.save(config.history, "estimates", _history_rows(record))
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**settled)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), up_to_date=False)


def _read_settled(config: Config, champion: Release) -> dict[str, np.ndarray]:
    """Return the ids of the rows that this champion learned from, or was judged on and passed."""
    arrays = files.read_arrays(champion.folder / releases.KNOWN_ROWS)
    settled = {name: arrays[name] for name in SETTLED} | {ESTIMATED: arrays["labelled"]}
    try:
        before = files.read_record(config.monitoring_record)
        if before is None or before["release"] != champion.id:
            return settled
        if files.damaged_outputs(config.production_folder, before):
            raise Damaged(f"{config.settled_rows}: is not what was written")
        return settled | files.read_arrays(config.settled_rows)
    except Damaged as error:
        logger.warning("%s; everything since the deployment is judged again", error)
        return settled


def _judge_new_rows(
    config: Config, champion: Release, rows: pd.DataFrame, settled: dict[str, np.ndarray]
) -> tuple[performance.Performance, drift.DriftReport, int, history.Rows]:
    """Judge the rows that are not settled; if they are in order, settle them, in place.

    Once per row, the estimate without its outcome is compared with its outcome.
    """
    columns = config.columns
    model = releases.load_model(champion)
    labelled = rows[rows[columns.outcome].notna()]
    ids = labelled[schema.ROW_ID].to_numpy()
    is_new = ~np.isin(ids, settled["labelled"])
    new = labelled[is_new]
    outcome = new[columns.outcome].to_numpy(dtype="float64")
    risk = models.predict(model, new)
    is_first = ~np.isin(ids[is_new], settled[ESTIMATED])
    checks: history.Rows = []
    if is_first.sum() >= performance.MIN_ROWS_TO_ESTIMATE:
        checks = _check_estimate(config, champion, new[is_first], risk[is_first])
        settled[ESTIMATED] = np.union1d(settled[ESTIMATED], ids)
    verdict = performance.check_performance(
        outcome,
        risk,
        _reference_auc(champion),
        left_in_training=champion.training["left"],
    )
    if verdict.verdict == "fine":
        settled["labelled"] = np.union1d(settled["labelled"], ids)
    ids = rows[schema.INPUT_ID].to_numpy()
    batch = rows[~np.isin(ids, settled["inputs"])]
    report = drift.compare_clients(
        releases.read_reference(champion),
        batch,
        models.predict(model, batch),
        champion.training,
        columns.time,
    )
    if report.verdict == "stable" and report.rows >= MIN_ROWS_TO_SETTLE:
        settled["inputs"] = np.union1d(settled["inputs"], ids)
    return verdict, report, len(new), checks


def _check_estimate(
    config: Config, champion: Release, new: pd.DataFrame, risk: Vector
) -> history.Rows:
    """Compare the estimates of rows, made without their outcomes, with the outcomes."""
    columns = config.columns
    reference = releases.read_reference(champion)
    value = new[columns.value].to_numpy(dtype="float64") if columns.value else None
    estimated = performance.estimate(
        risk,
        **performance.reference_arguments(reference, columns.outcome),
        value=value,
        capacity=config.contact_capacity,
    )
    outcome = new[columns.outcome].to_numpy(dtype="float64")
    checks = performance.check_estimate(estimated, outcome, risk, value)
    return [{"rows": len(new)} | check.to_dict() for check in checks]


def _history_rows(record: files.Record) -> history.Rows:
    fingerprint = files.sha256_bytes(files.encode(record["inputs"]))
    columns = ("rows", "figure", "estimated", "low", "high", "realised")
    return [
        {"at": record["checked_at"], "made": fingerprint, "release": record["release"]}
        | {key: check[key] for key in columns}
        for check in record["estimator"]
    ]


def _reference_auc(champion: Release) -> Interval:
    """Return the ROC AUC of the champion on unseen rows at its deployment."""
    for name in ("recent", "unseen", "test"):
        scored = champion.score["sets"].get(name)
        if scored and scored["rows"] >= performance.MIN_LABELLED_TO_JUDGE:
            return Interval(**scored["candidate"]["roc_auc"])
    return metrics.UNKNOWN


def _last_attempt(config: Config, champion: Release | None) -> gate.Attempt | None:
    """Return the last training; if it became the champion, no recent row counts as tried."""
    try:
        record = files.read_record(config.training_record)
    except Damaged:
        return None  # an unreadable record is no attempt, so training may run again
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
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    """Judge the model once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "monitoring", monitor_model)


if __name__ == "__main__":
    sys.exit(main())
