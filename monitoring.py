"""Check whether the model in production is still accurate, and decide whether to retrain.

Reads:  production_deployment/current, the rows in ingesteddata/, the history
Writes: production_deployment/monitoring.json (the verdict: retrain or not, and why), settled_rows.npz
        (the rows whose verdict is final, and those that wait)
Run:    python monitoring.py [--config PATH]
"""

import logging
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.errors import Damaged, NoModel
from attrition.modelling import metrics, models
from attrition.modelling.metrics import Interval, Vector
from attrition.monitoring import cohorts, drift, gate, performance, sources, units, updating
from attrition.monitoring.cohorts import Cohorts
from attrition.monitoring.performance import EarlyOrder
from attrition.monitoring.sources import Contradiction
from attrition.monitoring.units import OtherUnits
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.rows import ledger, typed_rows
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "contact_capacity", "outcome_after_days")
# Fewer new rows than this are pooled with the next ones before they count as judged.
MIN_ROWS_TO_SETTLE = 100
SHOWN_COHORTS = 3
SETTLED, ESTIMATED = ("labelled", "inputs"), "estimated"


@dataclass(frozen=True)
class Monitoring:
    """Whether to train, and why; the verdicts themselves stand in monitoring.json."""

    retrain: bool
    triggers: tuple[str, ...]
    reason: str
    performance: str
    drift: str
    waiting: tuple[str, ...]
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        reason = self.reason
        if self.up_to_date:
            reason = f"nothing new since the last check, which found: {reason}"
        if "no_model" in self.triggers:
            return "\n".join([reason, *self.waiting])
        return "\n".join([reason, self.performance, self.drift, *self.waiting])


# ---- the step


@dataclass(frozen=True)
class Judgement:
    """The judgement of the new rows: what is suspicious, and which labelled rows wait.

    waiting: (n,) bool, the labelled rows that are immature or suspicious; recent: number of new mature
    outcomes; deliveries: in how many they came, one more if a person accepted one.
    """

    performance: performance.Performance
    drift: drift.DriftReport
    waiting: np.ndarray
    suspicious: tuple[Contradiction, ...] = ()
    other_units: tuple[OtherUnits, ...] = ()
    early: EarlyOrder | None = None
    recent: int = 0
    deliveries: int = 0
    checks: history.Rows = field(default_factory=list)


NO_MODEL = performance.Performance(
    "no_model", 0, 0, metrics.UNKNOWN, metrics.UNKNOWN, 0, 0, "no model yet"
)
NOTHING_TO_COMPARE = drift.DriftReport(
    "insufficient", 0, "there is no model to compare with yet", ()
)


def monitor_model(config: Config) -> Monitoring:
    """Judge the champion on the rows since its training, each row once, and decide whether to train.

    Two things are judged: its performance (do new mature outcomes contradict it?) and data drift (do the
    new rows differ from its reference?). If rows are in order, they are settled and not judged again; if
    they are too few, they are pooled with later ones. Outcomes that are not mature wait, and so does a
    delivery that contradicts the model while no other one does: they are neither judged nor learned
    from.

    Raises: Damaged if the champion does not verify.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.production_folder)
    now = files.utc_now()
    inputs = {
        "finaldata": ledger.rows_version(config),
        "accepted": "\n".join(ledger.read_accepted(config)),
        "settings": config.fingerprint(),
    }
    record = files.read_if_up_to_date(config.monitoring_record, inputs)
    if record is not None and not is_due(record, now):
        return _monitoring(record, up_to_date=True)
    columns = config.columns
    names = (*columns.features, *filter(None, [columns.value, columns.time]), columns.outcome)
    deliveries = (typed_rows.DELIVERED, typed_rows.OPENED)
    rows = ledger.read_rows(config, (*names, *typed_rows.COMPUTED, *deliveries))
    grouped = find_cohorts(config, rows, now)
    labelled = rows[columns.outcome].notna().to_numpy()
    try:
        champion = releases.read_for(config.production_folder, config.columns)
    except NoModel:
        champion = None
    if champion is None:
        settled = {name: np.array([], dtype="uint64") for name in (*SETTLED, ESTIMATED)}
        judged = Judgement(NO_MODEL, NOTHING_TO_COMPARE, labelled & ~grouped.mature)
    else:
        settled = _read_settled(config, champion)
        judged = _judge_new_rows(config, champion, rows, grouped, settled)
    is_confirmed = judged.deliveries >= sources.MIN_DELIVERIES
    usable = int((labelled & ~judged.waiting).sum())
    last = _last_attempt(config, champion)
    triggers = gate.find_triggers(
        has_model=champion is not None,
        degraded=judged.performance.verdict == "degraded" and is_confirmed,
        input_moved=judged.drift.verdict == "moved",
        labelled=usable,
        champion_labelled=champion.training["labelled"] if champion else 0,
    )
    retrain, reason = gate.is_worth_training(triggers, last, usable, judged.recent)
    if judged.performance.verdict == "degraded" and not is_confirmed:
        reason = f"waiting for a second delivery, because one alone is no proof; {reason}"
    record = {
        "inputs": inputs,
        "checked_at": now,
        "release": champion.id if champion else None,
        "retrain": retrain,
        "triggers": list(triggers),
        "deliveries": judged.deliveries,
        "reason": reason,
        "performance": judged.performance.to_dict(),
        "drift": judged.drift.to_dict(),
        "estimator": judged.checks,
        "cohorts": [cohort.to_dict() for cohort in grouped.cohorts],
        "next_mature_at": grouped.next_at,
        "suspicious": [one.to_dict() for one in judged.suspicious],
        "other_units": [one.to_dict() for one in judged.other_units],
        "early": judged.early.to_dict() if judged.early else None,
    }
    history.save(config.history, "estimates", _history_rows(record))
    settled[releases.WAITING] = rows.loc[judged.waiting, typed_rows.ROW_ID].to_numpy()
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**settled)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), up_to_date=False)


def is_due(record: files.Record, now: str) -> bool:
    """Return whether further outcomes have matured since the last judgement."""
    return record["next_mature_at"] is not None and record["next_mature_at"] <= now


def find_cohorts(config: Config, rows: pd.DataFrame, now: str) -> Cohorts:
    columns = config.columns
    view = {
        cohorts.OUTCOME: rows[columns.outcome],
        cohorts.TIME: rows[columns.time] if columns.time else "",
        # each row without a client is one of its own
        cohorts.CLIENT: rows[typed_rows.CLIENT_HASH if columns.client else typed_rows.INPUT_ID],
        cohorts.DELIVERED: rows[typed_rows.DELIVERED],
        cohorts.OPENED: rows[typed_rows.OPENED],
    }
    deliveries = [(line.source, line.ingested_at) for line in ledger.read_lines(config)]
    return cohorts.find_cohorts(
        pd.DataFrame(view), deliveries, now=now, after_days=config.outcome_after_days
    )


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
    config: Config,
    champion: Release,
    rows: pd.DataFrame,
    grouped: Cohorts,
    settled: dict[str, np.ndarray],
) -> Judgement:
    """Judge the rows that are not settled; if they are in order, settle them, in place.

    Once per row, the estimate without its outcome is compared with its outcome.
    """
    outcome = rows[config.columns.outcome].to_numpy(dtype="float64")
    ids, number, labelled = rows[typed_rows.ROW_ID].to_numpy(), grouped.number, ~np.isnan(outcome)
    left_in_training = champion.training["level_left"]
    new = labelled & ~np.isin(ids, settled["labelled"])
    in_batch = ~np.isin(rows[typed_rows.INPUT_ID].to_numpy(), settled["inputs"])
    young = _young_cohorts(grouped, outcome, new)
    risk = np.full(len(rows), np.nan)
    asked = new | in_batch | np.isin(number, young)
    risk[asked] = models.predict(releases.load_model(champion), rows[asked])

    accepted, reference = ledger.read_accepted(config), releases.read_reference(champion)
    numeric = champion.training["features"]["numeric"]
    other_units = find_other_units(config, rows, in_batch, reference, numeric, accepted)
    has_other_units = (
        rows[typed_rows.DELIVERED].isin([one.delivery for one in other_units]).to_numpy()
    )
    mature = new & grouped.mature & ~has_other_units
    first = mature & ~np.isin(ids, settled[ESTIMATED])
    checks: history.Rows = []
    if first.sum() >= performance.MIN_ROWS_TO_ESTIMATE:
        checks = _check_estimate(config, champion, rows[first], risk[first])
        settled[ESTIMATED] = np.union1d(settled[ESTIMATED], ids[mature])
    names = [cohort.name for cohort in grouped.cohorts]
    contradictions = sources.find_contradictions(
        outcome[mature], risk[mature], number[mature], names, left_in_training=left_in_training
    )
    suspicious = sources.find_suspicious(contradictions, accepted)
    is_suspicious = np.isin(number, [names.index(one.source) for one in suspicious])
    is_suspicious |= has_other_units
    judged = mature & ~is_suspicious
    verdict = performance.check_performance(
        outcome[judged], risk[judged], _reference_auc(champion), left_in_training=left_in_training
    )
    is_early = new & ~grouped.mature
    if not judged.any() and is_early.any():
        sentence = f"none of the {is_early.sum():,} new outcomes is mature yet"
        verdict = replace(verdict, sentence=sentence)
    if verdict.verdict == "fine":
        settled["labelled"] = np.union1d(settled["labelled"], ids[judged])
    for i in young:
        cohort, total = grouped.cohorts[i], risk[number == i]
        if excess := performance.find_excess(cohort.name, cohort.left, total, left_in_training):
            verdict = replace(verdict, verdict="degraded", sentence=excess)

    batch = in_batch & ~is_suspicious
    report = drift.compare_clients(
        reference,
        rows[batch],
        risk[batch],
        champion.training,
        config.columns.time,
    )
    if report.verdict == "stable" and report.rows >= MIN_ROWS_TO_SETTLE:
        inputs = rows.loc[~is_suspicious, typed_rows.INPUT_ID].to_numpy()
        settled["inputs"] = np.union1d(settled["inputs"], inputs)
    return Judgement(
        performance=verdict,
        drift=report,
        waiting=labelled & (~grouped.mature | is_suspicious & new),
        suspicious=tuple(suspicious),
        other_units=tuple(other_units),
        early=performance.judge_order_early(outcome[is_early], risk[is_early]),
        recent=int(judged.sum()),
        deliveries=sources.count_deliveries(number[judged])
        + any(names[i] in accepted for i in np.unique(number[judged])),
        checks=checks,
    )


def find_other_units(
    config: Config,
    rows: pd.DataFrame,
    in_batch: np.ndarray,
    reference: pd.DataFrame,
    numeric: Sequence[str],
    accepted: Collection[str],
) -> list[OtherUnits]:
    """Find deliveries with new rows of which nearly all have a column in another unit."""
    lines = ledger.read_lines(config)
    batch = rows[in_batch]
    numeric = [name for name in numeric if name not in config.columns.dates]  # all of them are days
    numbers = batch[typed_rows.DELIVERED].to_numpy()
    return [
        OtherUnits(number, lines[number].source, change.column, change.factor, int(is_of.sum()))
        for number in np.unique(numbers).tolist()
        for is_of in [numbers == number]
        if number >= 0 and lines[number].source not in accepted
        for change in units.find_unit_changes(reference, batch[is_of], numeric)
    ]


def _young_cohorts(grouped: Cohorts, outcome: Vector, new: np.ndarray) -> list[int]:
    """Return the cohorts that are not mature, but of which enough clients have left to be compared."""
    left = np.bincount(grouped.number[new & (outcome == 1)], minlength=len(grouped.cohorts))
    return [
        i
        for i, cohort in enumerate(grouped.cohorts)
        if not cohort.mature and left[i] >= performance.MIN_OF_EACH_TO_JUDGE
    ]


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
    """Return the last training; if it became the champion, no recent row counts as tried.

    If it kept the champion, its model is the champion too, but these rows were tried.
    """
    try:
        record = files.read_record(config.training_record)
    except Damaged:
        return None  # an unreadable record is no attempt, so training may run again
    if record is None:
        return None
    update = record.get("update") or {}  # an earlier version has no updates
    is_kept = update.get("name") == updating.CHAMPION
    if champion and champion.model_sha256 == record["model_sha256"] and not is_kept:
        return gate.Attempt(record["labelled"], 0, ())
    return gate.Attempt(record["labelled"], record["recent"], tuple(record["triggers"]))


def _monitoring(record: files.Record, *, up_to_date: bool) -> Monitoring:
    young = [one["sentence"] for one in record["cohorts"] if one["known"] and not one["mature"]]
    return Monitoring(
        retrain=record["retrain"],
        triggers=tuple(record["triggers"]),
        reason=record["reason"],
        performance=record["performance"]["sentence"],
        drift=record["drift"]["sentence"],
        waiting=(
            *(one["sentence"] for one in (*record["other_units"], *record["suspicious"])),
            *young[-SHOWN_COHORTS:],
        ),
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    """Judge the model once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "monitoring", monitor_model)


if __name__ == "__main__":
    sys.exit(main())
