"""Check whether the model in production is still accurate, and decide whether to retrain.

Reads:  production_deployment/current, the rows in ingesteddata/, the history
Writes: production_deployment/monitoring.json (the verdict: retrain or not, and why), settled_rows.npz
        (the rows whose verdict is final, and those that wait)
Run:    python monitoring.py [--config PATH]
"""

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.errors import Damaged, NoModel
from attrition.modelling import metrics
from attrition.modelling.metrics import Interval, Vector
from attrition.monitoring import cohorts, drift, gate, performance, settled_rows, sources, units
from attrition.monitoring.cohorts import Cohorts
from attrition.monitoring.performance import EarlyOrder
from attrition.monitoring.settled_rows import IN_BATCH, IS_NEW, SettledRows
from attrition.monitoring.sources import Contradiction
from attrition.monitoring.units import OtherUnits
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.rows import ledger, typed_rows
from attrition.serving import production
from attrition.serving.served import Served
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "contact_capacity", "outcome_after_days")
# Fewer new rows than this are pooled with the next ones before they count as judged.
MIN_ROWS_TO_SETTLE = 100
SHOWN_COHORTS = 3


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

    waiting: (n,) bool of all rows, the labelled ones that are immature or suspicious; recent: number of
    new mature outcomes; deliveries: in how many they came, one more if a person accepted one.
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
    looks = read_looks(config)
    grouped = find_cohorts(config, looks, now)
    labelled = looks[config.columns.outcome].notna().to_numpy()
    try:
        champion = releases.read_for(config.production_folder, config.columns)
    except NoModel:
        champion = None
    settled: SettledRows | None = None
    if champion is None:
        judged = Judgement(NO_MODEL, NOTHING_TO_COMPARE, labelled & ~grouped.mature)
    else:
        settled, model = _read_settled(config, champion), production.load_model(champion)
        read_new_rows(config, model, looks, settled)
        judged = _judge_new_rows(config, champion, model, looks, grouped, settled)
    is_confirmed = judged.deliveries >= sources.MIN_DELIVERIES
    usable = int(labelled.sum() - judged.waiting.sum())
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
        "lineage": ledger.read_lineage(config),
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
    arrays = settled.to_arrays() if settled else {}
    arrays[releases.WAITING] = _read_ids(config, judged.waiting)
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**arrays)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), up_to_date=False)


def is_due(record: files.Record, now: str) -> bool:
    """Return whether further outcomes have matured since the last judgement."""
    return record["next_mature_at"] is not None and record["next_mature_at"] <= now


def read_looks(config: Config) -> pd.DataFrame:
    """Read what decides the cohort of every row, and nothing else of it, in any order."""
    columns = config.columns
    # each row without a client is one of its own
    client = typed_rows.CLIENT_HASH if columns.client else typed_rows.INPUT_ID
    named = filter(None, [columns.time])
    deliveries = (typed_rows.NUMBER, typed_rows.DELIVERED, typed_rows.OPENED)
    rows = ledger.read_table(
        config, (columns.outcome, *named, client, *deliveries), is_ordered=False
    )
    return pd.DataFrame(
        {name: rows[name].to_pandas(use_threads=False) for name in rows.column_names}, copy=False
    )


def find_cohorts(config: Config, looks: pd.DataFrame, now: str) -> Cohorts:
    columns = config.columns
    no_time = pd.Categorical.from_codes(np.zeros(len(looks), np.int8), pd.Index([""]))
    view = {
        cohorts.OUTCOME: looks[columns.outcome],
        cohorts.TIME: looks[columns.time] if columns.time else no_time,
        cohorts.CLIENT: looks[typed_rows.CLIENT_HASH if columns.client else typed_rows.INPUT_ID],
        cohorts.DELIVERED: looks[typed_rows.DELIVERED],
        cohorts.OPENED: looks[typed_rows.OPENED],
    }
    deliveries = [(line.source, line.ingested_at) for line in ledger.read_lines(config)]
    return cohorts.find_cohorts(
        pd.DataFrame(view, copy=False), deliveries, now=now, after_days=config.outcome_after_days
    )


# ---- the rows to judge


def _read_settled(config: Config, champion: Release) -> SettledRows:
    """Return the rows that this champion learned from, or was judged on and passed."""
    names = (settled_rows.LABELLED, settled_rows.INPUTS)
    trained = files.read_arrays(champion.folder / releases.KNOWN_ROWS, names)
    settled = SettledRows(trained | {settled_rows.ESTIMATED: trained[settled_rows.LABELLED]})
    try:
        before = files.read_record(config.monitoring_record)
        if before is None or before["release"] != champion.id:
            return settled
        if files.damaged_outputs(config.production_folder, before):
            raise Damaged(f"{config.settled_rows}: is not what was written")
        lineage = ledger.read_lineage(config)
        is_same_store = lineage is not None and before.get("lineage") == lineage
        settled.read(files.read_arrays(config.settled_rows), is_same_store=is_same_store)
    except Damaged as error:
        logger.warning("%s; everything since the deployment is judged again", error)
    return settled


def read_new_rows(config: Config, model: Served, looks: pd.DataFrame, settled: SettledRows) -> None:
    """Add the rows that are not settled, with their risks, to those that wait, if these still exist."""
    columns, numbers = config.columns, looks[typed_rows.NUMBER].to_numpy()
    features = [*columns.features, *filter(None, [columns.time])]
    ids = [typed_rows.NUMBER, typed_rows.ROW_ID, typed_rows.INPUT_ID, typed_rows.DELIVERED]
    facts = [*ids, *dict.fromkeys(filter(None, [columns.outcome, columns.value]))]
    rows, sample = (
        [frame[np.isin(frame[typed_rows.NUMBER].to_numpy(), numbers)]] if frame is not None else []
        for frame in (settled.rows, settled.features)
    )
    is_short = (numbers >= settled.since).sum() <= ledger.ROWS_PER_PART
    for part in [None] if is_short else ledger.split_rows(config):
        names = dict.fromkeys([*features, *facts])
        read = ledger.read_rows(config, names, part=part, since=settled.since)
        is_new = read[columns.outcome].notna().to_numpy() & ~settled.contains(
            settled_rows.LABELLED, read[typed_rows.ROW_ID].to_numpy()
        )
        in_batch = ~settled.contains(settled_rows.INPUTS, read[typed_rows.INPUT_ID].to_numpy())
        asked, is_asked = read[is_new | in_batch], is_new | in_batch
        flags = {IS_NEW: is_new[is_asked], IN_BATCH: in_batch[is_asked]}
        rows.append(asked[facts].assign(**{drift.SCORE: predict(model, asked)}, **flags))
        batch = asked.loc[flags[IN_BATCH], [*dict.fromkeys([*features, *ids])]]
        sample = [settled_rows.thin(settled_rows.join([*sample, batch]))]
    settled.rows, settled.features = settled_rows.join(rows), settled_rows.join(sample)


def predict(model: Served, rows: pd.DataFrame) -> Vector:
    if rows.empty:
        return np.empty(0)
    return model.predict({name: rows[name].to_numpy() for name in model.features})


def find_places(numbers: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """Return where some numbers are among distinct ones in any order; sought: sorted, all among them.

    >>> find_places(np.array([7, 3, 9, 5]), np.array([5, 7])).tolist()
    [3, 0]
    """
    places = np.flatnonzero(np.isin(numbers, sought))
    return np.asarray(places[np.argsort(numbers[places])])


def _read_ids(config: Config, is_asked: np.ndarray) -> np.ndarray:
    """Return the sorted ids of some rows; is_asked: (n,) bool of all rows, as `read_looks` has them."""
    if not is_asked.any():
        return np.array([], dtype="uint64")
    rows = ledger.read_table(config, [typed_rows.ROW_ID], is_ordered=False)
    return np.sort(rows[typed_rows.ROW_ID].to_numpy()[is_asked])


def _judge_new_rows(
    config: Config,
    champion: Release,
    model: Served,
    looks: pd.DataFrame,
    grouped: Cohorts,
    settled: SettledRows,
) -> Judgement:
    """Judge the rows that are not settled; if they are in order, settle them, in place.

    Once per row, the estimate without its outcome is compared with its outcome.
    """
    assert settled.rows is not None and settled.features is not None
    rows, numbers = settled.rows, looks[typed_rows.NUMBER].to_numpy()
    place = find_places(numbers, rows[typed_rows.NUMBER].to_numpy())
    number, ids = grouped.number[place], rows[typed_rows.ROW_ID].to_numpy()
    outcome = rows[config.columns.outcome].to_numpy(dtype="float64")
    risk, new, in_batch = (rows[name].to_numpy() for name in (drift.SCORE, IS_NEW, IN_BATCH))
    left_in_training = champion.training["level_left"]

    accepted, reference = ledger.read_accepted(config), releases.read_reference(champion)
    numeric = champion.training["features"]["numeric"]
    delivered = rows.loc[in_batch, typed_rows.DELIVERED]
    other_units = find_other_units(
        config, settled.features, delivered.value_counts(), reference, numeric, accepted
    )
    has_other_units = (
        rows[typed_rows.DELIVERED].isin([one.delivery for one in other_units]).to_numpy()
    )
    mature = new & grouped.mature[place] & ~has_other_units
    first = mature.copy()
    first[mature] = ~settled.contains(settled_rows.ESTIMATED, ids[mature])
    checks: history.Rows = []
    if first.sum() >= performance.MIN_ROWS_TO_ESTIMATE:
        checks = _check_estimate(config, champion, rows[first], risk[first])
        settled.add(settled_rows.ESTIMATED, ids[mature])
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
    is_early = new & ~grouped.mature[place]
    if not judged.any() and is_early.any():
        sentence = f"none of the {is_early.sum():,} new outcomes is mature yet"
        verdict = replace(verdict, sentence=sentence)
    waiting = looks[config.columns.outcome].notna().to_numpy() & ~grouped.mature
    waiting[place[is_suspicious & new]] = True
    if verdict.verdict == "fine":
        settled.add(settled_rows.LABELLED, ids[judged])
        rows[IS_NEW] = new & ~judged
    for i in _young_cohorts(grouped, outcome, number, new):
        known = risk[number == i]
        excess = _find_excess(config, model, numbers, grouped, i, known, left_in_training)
        if excess:
            verdict = replace(verdict, verdict="degraded", sentence=excess)

    report = _compare_batch(config, champion, reference, rows[in_batch & ~is_suspicious], settled)
    if report.verdict == "stable" and report.rows >= MIN_ROWS_TO_SETTLE:
        compared = in_batch & ~is_suspicious
        settled.add(settled_rows.INPUTS, rows.loc[compared, typed_rows.INPUT_ID].to_numpy())
        rows[IN_BATCH] = in_batch & ~compared
    settled.keep((rows[IS_NEW] | rows[IN_BATCH]).to_numpy(), int(numbers.max(initial=-1)) + 1)
    return Judgement(
        performance=verdict,
        drift=report,
        waiting=waiting,
        suspicious=tuple(suspicious),
        other_units=tuple(other_units),
        early=performance.judge_order_early(outcome[is_early], risk[is_early]),
        recent=int(judged.sum()),
        deliveries=sources.count_deliveries(number[judged])
        + any(names[i] in accepted for i in np.unique(number[judged])),
        checks=checks,
    )


def _compare_batch(
    config: Config,
    champion: Release,
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    settled: SettledRows,
) -> drift.DriftReport:
    """Compare the features of the batch, or of a sample of it, with the reference."""
    assert settled.features is not None
    numbers = batch[typed_rows.NUMBER].to_numpy()
    is_compared = settled_rows.is_in(settled.features[typed_rows.NUMBER].to_numpy(), numbers)
    clients = settled.features[is_compared]
    clients = clients[settled_rows.smallest(clients[typed_rows.INPUT_ID].to_numpy())]
    risk = batch[drift.SCORE].to_numpy()
    return drift.compare_clients(
        reference,
        clients,
        risk[np.searchsorted(numbers, clients[typed_rows.NUMBER].to_numpy())],
        champion.training,
        config.columns.time,
    )


def find_other_units(
    config: Config,
    batch: pd.DataFrame,
    counts: Mapping[int, int],
    reference: pd.DataFrame,
    numeric: Sequence[str],
    accepted: Collection[str],
) -> list[OtherUnits]:
    """Find deliveries with new rows of which nearly all have a column in another unit.

    counts: the number of new rows of each delivery, of which `batch` contains all or a sample
    """
    lines = ledger.read_lines(config)
    numeric = [name for name in numeric if name not in config.columns.dates]  # all of them are days
    numbers = batch[typed_rows.DELIVERED].to_numpy()
    return [
        OtherUnits(number, lines[number].source, change.column, change.factor, int(counts[number]))
        for number in np.unique(numbers).tolist()
        if number >= 0 and lines[number].source not in accepted
        for change in units.find_unit_changes(reference, batch[numbers == number], numeric)
    ]


def _young_cohorts(
    grouped: Cohorts, outcome: Vector, number: np.ndarray, new: np.ndarray
) -> list[int]:
    """Return the cohorts that are not mature, but of which enough clients have left to be compared."""
    left = np.bincount(number[new & (outcome == 1)], minlength=len(grouped.cohorts))
    return [
        i
        for i, cohort in enumerate(grouped.cohorts)
        if not cohort.mature and left[i] >= performance.MIN_OF_EACH_TO_JUDGE
    ]


def _find_excess(
    config: Config,
    model: Served,
    numbers: np.ndarray,
    grouped: Cohorts,
    i: int,
    known: Vector,
    left_in_training: float,
) -> str | None:
    """Describe it if more of a cohort left than expected; read no more of it than decides that.

    numbers: (n,) of all rows; known: risks of some rows of the cohort
    """
    cohort, read = grouped.cohorts[i], []
    if performance.is_expected(cohort.left, known):
        return None
    for part in ledger.split_rows(config):
        names = (typed_rows.NUMBER, *config.columns.features)
        rows = ledger.read_rows(config, names, part=part)
        rows = rows[np.isin(rows[typed_rows.NUMBER].to_numpy(), numbers[grouped.number == i])]
        read.append(pd.Series(predict(model, rows), rows[typed_rows.NUMBER]))
        known = np.asarray(pd.concat(read).sort_index(), "float64")  # whatever the parts
        if performance.is_expected(cohort.left, known):
            return None
    return performance.find_excess(cohort.name, cohort.left, known, left_in_training)


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
    is_kept = update.get("name") == gate.CHAMPION
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
