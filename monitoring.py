"""Check whether the model in production is still accurate, and decide whether to retrain.

Reads:  production_deployment/current, the rows in ingesteddata/, the history;
        contacts/contacts.sqlite in an experiment (outcomes that contacts may have changed)
Writes: production_deployment/monitoring.json (the verdict: retrain or not, and why), settled_rows.npz
        (the rows whose verdict is final, and those that wait)
Run:    python monitoring.py [--config PATH]
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.effect import contacted_rows
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
from attrition.rows.known_rows import is_among
from attrition.serving import production
from attrition.serving.served import Served
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "contact_capacity", "outcome_after_days", "contact_rule")
# Fewer new rows than this are pooled with the next ones before they count as judged.
MIN_ROWS_TO_SETTLE = 100
SHOWN_COHORTS = 3
ROWS_AT_ONCE = 1 << 21  # if only a few columns are read


@dataclass(frozen=True)
class Monitoring:
    """Whether to train, and why; the verdicts themselves are in monitoring.json."""

    retrain: bool
    triggers: tuple[str, ...]
    reason: str
    performance: str
    drift: str
    waiting: tuple[str, ...]
    up_to_date: bool
    seal: str
    deployed_since: str = ""

    def summary(self) -> str:
        reason = self.reason
        if self.up_to_date:
            before = f" before {self.deployed_since} was deployed" if self.deployed_since else ""
            reason = f"nothing new since the last check{before}, which found: {reason}"
        if "no_model" in self.triggers:
            return "\n".join([reason, *self.waiting])
        return "\n".join([reason, self.performance, self.drift, *self.waiting])


@dataclass(frozen=True)
class Judgement:
    """The judgement of the new rows: what is suspicious, and which labelled rows wait.

    waiting: the sorted ids of the labelled rows that are immature or suspicious; recent: number of new
    mature outcomes; deliveries: in how many they came, one more if a person accepted one.
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


# ---- the step


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
        later = _find_later_release(config, record)
        return replace(_monitoring(record, up_to_date=True), deployed_since=later)
    champion = _find_champion(config)
    contacted = contacted_rows.find_contacted(config)
    judged, grouped, settled = judge_rows(config, champion, inputs["settings"], now, contacted)
    labelled = int(grouped.groups[cohorts.KNOWN].sum())
    retrain, triggers, reason = decide(config, champion, judged, labelled)
    record = {
        "inputs": inputs,
        "checked_at": now,
        "release": champion.id if champion else None,
        "lineage": ledger.read_lineage(config),
        "ingestion": ledger.read_seal(config),
        "retrain": retrain,
        "triggers": triggers,
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
    arrays[releases.WAITING] = judged.waiting
    contents: dict[Path, files.Content] = {config.settled_rows: files.arrays_bytes(**arrays)}
    return _monitoring(files.commit(config.monitoring_record, contents, record), up_to_date=False)


def is_due(record: files.Record, now: str) -> bool:
    """Return whether further outcomes have matured since the last judgement."""
    return record["next_mature_at"] is not None and record["next_mature_at"] <= now


def judge_rows(
    config: Config, champion: Release | None, settings: str, now: str, contacted: np.ndarray
) -> tuple[Judgement, Cohorts, SettledRows | None]:
    """Judge the rows since the training; return the judgement, all cohorts, and the settled rows.

    Without a model nothing is settled: None. contacted: see `judge_new_rows`
    """
    if champion is None:
        groups, _ = read_groups(config, np.empty(0, "int64"))
        grouped = find_cohorts(config, groups, now)
        immature = read_immature(config, grouped)
        return Judgement(NO_MODEL, NOTHING_TO_COMPARE, immature), grouped, None
    settled, model = _read_settled(config, champion, settings), production.load_model(champion)
    grouped = find_cohorts(config, read_new_rows(config, model, settled), now)
    judgement = judge_new_rows(config, champion, model, grouped, settled, contacted)
    return judgement, grouped, settled


def decide(
    config: Config, champion: Release | None, judged: Judgement, labelled: int
) -> tuple[bool, list[str], str]:
    """Return whether to train, the triggers, and the reason."""
    is_degraded = judged.performance.verdict == "degraded"
    is_confirmed = judged.deliveries >= sources.MIN_DELIVERIES
    usable = labelled - len(judged.waiting)
    triggers = gate.find_triggers(
        has_model=champion is not None,
        degraded=is_degraded and is_confirmed,
        input_moved=judged.drift.verdict == "moved",
        labelled=usable,
        champion_labelled=champion.training["labelled"] if champion else 0,
    )
    last = _last_attempt(config, champion)
    retrain, reason = gate.is_worth_training(triggers, last, usable, judged.recent)
    if is_degraded and not is_confirmed:
        reason = f"waiting for a second delivery, because one alone is no proof; {reason}"
    return retrain, list(triggers), reason


# ---- all rows, of which only the counts of each group are needed


def find_cohorts(config: Config, groups: pd.DataFrame, now: str) -> Cohorts:
    return cohorts.find_cohorts(
        groups,
        [(line.source, line.ingested_at) for line in ledger.read_lines(config)],
        now=now,
        after_days=config.outcome_after_days,
        count_replaced=lambda: count_replaced(config, groups),
    )


def find_keys(config: Config, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what decides the cohort of each row; rows: the columns of `_key_names`."""
    arrivals = (rows[name].to_numpy() for name in (typed_rows.DELIVERED, typed_rows.OPENED))
    times = rows[config.columns.time] if config.columns.time else None
    return cohorts.find_keys(times, *arrivals, after_days=config.outcome_after_days)


def _key_names(config: Config) -> list[str]:
    return [*filter(None, [config.columns.time]), typed_rows.DELIVERED, typed_rows.OPENED]


def read_groups(config: Config, numbers: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Count all rows of each group; return the counts, and which of some sorted numbers still exist."""
    outcome, groups, existing = config.columns.outcome, [], []
    for rows in _read_parts(config, [*_key_names(config), outcome, typed_rows.NUMBER]):
        keys = find_keys(config, rows)
        groups.append(cohorts.count_groups(keys, rows[outcome].to_numpy("float64")))
        own = rows[typed_rows.NUMBER].to_numpy()
        existing.append(own[is_among(own, numbers)])
    return cohorts.add_groups(groups), np.sort(np.concatenate(existing))


def count_replaced(config: Config, groups: pd.DataFrame) -> np.ndarray:
    """Count the open rows of each group that a later one of the same client has replaced."""
    columns = config.columns
    # If rows have no client, each is a client of its own.
    client = typed_rows.CLIENT_HASH if columns.client else typed_rows.INPUT_ID
    counts = np.zeros(len(groups), np.intp)
    for rows in _read_parts(config, [*_key_names(config), columns.outcome, client]):
        times = rows[columns.time] if columns.time else pd.Series("", rows.index)
        arrivals = (rows[name].to_numpy() for name in (typed_rows.DELIVERED, typed_rows.OPENED))
        is_replaced = cohorts.find_replaced(rows[client].to_numpy(), times, *arrivals)
        waits = is_replaced & rows[columns.outcome].isna() & (rows[typed_rows.OPENED] >= 0)
        places = cohorts.find_groups(groups, find_keys(config, rows[waits]))
        counts += np.bincount(places, minlength=len(groups))
    return counts


def read_immature(config: Config, grouped: Cohorts) -> np.ndarray:
    """Return the sorted ids of all rows with an outcome that does not count yet."""
    ids, outcome = [np.empty(0, "uint64")], config.columns.outcome
    if (grouped.groups[cohorts.KNOWN] * ~grouped.mature).any():
        for rows in _read_parts(config, [*_key_names(config), outcome, typed_rows.ROW_ID]):
            labelled = rows[rows[outcome].notna()]
            places = cohorts.find_groups(grouped.groups, find_keys(config, labelled))
            ids.append(labelled[typed_rows.ROW_ID].to_numpy()[~grouped.mature[places]])
    return np.sort(np.concatenate(ids))


def _read_parts(config: Config, names: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield columns of all rows, all rows of a client in one part, in any order."""
    for part in ledger.split_rows(config, ROWS_AT_ONCE):
        rows = ledger.read_table(config, names, part=part, is_ordered=False)
        yield pd.DataFrame(
            {name: rows[name].to_pandas(use_threads=False) for name in rows.column_names},
            copy=False,
        )


# ---- the rows to judge


def _find_later_release(config: Config, record: files.Record) -> str:
    """Return the release in production if it was deployed after this judgement; otherwise ""."""
    try:
        release = releases.current_id(config.production_folder)
    except NoModel:
        return ""
    return "" if release == record["release"] else release


def _find_champion(config: Config) -> Release | None:
    try:
        return releases.read_for(config.production_folder, config.columns)
    except NoModel:
        return None


def _read_settled(config: Config, champion: Release, settings: str) -> SettledRows:
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
        is_same_store &= before["inputs"]["settings"] == settings
        # not if a backup was restored since, after which numbers are given again
        is_same_store &= history.has_generation(config.history, before.get("ingestion", ""))
        settled.read(files.read_arrays(config.settled_rows), is_same_store=is_same_store)
    except Damaged as error:
        logger.warning("%s; everything since the deployment is judged again", error)
    return settled


def read_new_rows(config: Config, model: Served, settled: SettledRows) -> pd.DataFrame:
    """Add new rows that are not settled to those that wait, and drop those of the latter that are gone.

    Features are read, and risks computed, only for rows with a new outcome and for those to compare.

    Returns: the counts of all rows in each group.
    """
    columns, count = config.columns, ledger.count_rows(config)
    ids = [typed_rows.NUMBER, typed_rows.ROW_ID, typed_rows.INPUT_ID]
    facts = [*ids, *_key_names(config), *filter(None, [columns.outcome, columns.value])]
    is_short = count - settled.count() <= ledger.ROWS_PER_PART
    groups, unsettled = [settled.groups] if settled.groups is not None else [], []
    for part in [None] if is_short else ledger.split_rows(config):
        rows = ledger.read_rows(config, facts, part=part, since=settled.since)
        outcome = rows[columns.outcome].to_numpy("float64")
        groups.append(cohorts.count_groups(find_keys(config, rows), outcome))
        unsettled.append((part, settled.select(rows, ~np.isnan(outcome))))
    settled.groups = cohorts.add_groups(groups)
    if settled.count() != count:  # some rows are gone, or were not counted
        waiting = settled.rows[typed_rows.NUMBER] if settled.rows is not None else np.empty(0)
        settled.groups, existing = read_groups(config, np.asarray(waiting, "int64"))
        settled.limit(existing)
    sampled = settled.find_sample([rows for _, rows in unsettled])
    read = [_read_features(config, model, settled.since, *each, sampled) for each in unsettled]
    settled.append([rows for rows, _ in read], [features for _, features in read])
    return settled.groups


def _read_features(
    config: Config,
    model: Served,
    since: int,
    part: ledger.Part | None,
    rows: pd.DataFrame,
    sampled: np.ndarray,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of a part with their risks, NaN if not needed, and the features of the sample."""
    numbers = rows[typed_rows.NUMBER].to_numpy()
    is_needed = rows[IS_NEW].to_numpy() | is_among(numbers, sampled)
    risk = np.full(len(rows), np.nan)
    names = [*config.columns.features, *filter(None, [config.columns.time])]
    names += [typed_rows.NUMBER, typed_rows.INPUT_ID, typed_rows.DELIVERED]
    since = since if is_needed.any() else ledger.read_next_number(config)  # if not, no row is read
    read = ledger.read_rows(config, names, part=part, since=since)
    read = read[is_among(read[typed_rows.NUMBER].to_numpy(), numbers[is_needed])]
    risk[is_needed] = predict(model, read)
    is_sampled = is_among(read[typed_rows.NUMBER].to_numpy(), sampled)
    return rows.assign(**{drift.SCORE: risk}), read[is_sampled]


def predict(model: Served, rows: pd.DataFrame) -> Vector:
    if rows.empty:
        return np.empty(0)
    return model.predict({name: rows[name].to_numpy() for name in model.features})


# ---- judge them


@dataclass(frozen=True)
class NewRows:
    """The rows that are not settled, as arrays: (n,) each.

    cohort: its position; is_new: with an outcome that is not judged; in_batch: with features that are
    not compared; is_mature: with an outcome that counts
    """

    table: pd.DataFrame
    ids: np.ndarray
    cohort: np.ndarray
    outcome: Vector
    risk: Vector
    is_new: np.ndarray
    in_batch: np.ndarray
    is_mature: np.ndarray


def _describe_rows(config: Config, grouped: Cohorts, rows: pd.DataFrame) -> NewRows:
    place = cohorts.find_groups(grouped.groups, find_keys(config, rows))
    names = (config.columns.outcome, drift.SCORE, IS_NEW, IN_BATCH)
    outcome, risk, is_new, in_batch = (rows[name].to_numpy() for name in names)
    return NewRows(
        table=rows,
        ids=rows[typed_rows.ROW_ID].to_numpy(),
        cohort=grouped.number[place],
        outcome=outcome.astype("float64"),
        risk=risk,
        is_new=is_new,
        in_batch=in_batch,
        is_mature=is_new & grouped.mature[place],
    )


def judge_new_rows(
    config: Config,
    champion: Release,
    model: Served,
    grouped: Cohorts,
    settled: SettledRows,
    contacted: np.ndarray,
) -> Judgement:
    """Judge the rows that are not settled; if they are in order, settle them, in place.

    contacted: the sorted ids of rows whose outcomes may be due to a contact: they are not judged
    """
    assert settled.rows is not None and settled.features is not None
    rows, accepted = _describe_rows(config, grouped, settled.rows), ledger.read_accepted(config)
    reference = releases.read_reference(champion)
    names = [cohort.name for cohort in grouped.cohorts]
    other_units = find_other_units(config, champion, reference, rows, settled.features)
    is_suspicious = np.isin(
        rows.table[typed_rows.DELIVERED].to_numpy(), [one.delivery for one in other_units]
    )
    is_contacted = is_among(rows.ids, contacted)
    counted = rows.is_mature & ~is_suspicious & ~is_contacted
    checks = _check_estimate(config, reference, rows, counted, settled)
    contradictions = sources.find_contradictions(
        rows.outcome[counted],
        rows.risk[counted],
        rows.cohort[counted],
        names,
        left_in_training=champion.training["level_left"],
    )
    suspicious = sources.find_suspicious(contradictions, accepted)
    is_suspicious |= np.isin(rows.cohort, [names.index(one.source) for one in suspicious])
    judged, is_early = counted & ~is_suspicious, rows.is_new & ~rows.is_mature
    verdict = judge_outcomes(champion, rows, judged)
    compared = rows.in_batch & ~is_suspicious
    report = compare_inputs(config, champion, reference, rows.table[compared], settled.features)
    is_done = rows.is_mature & is_contacted & ~is_suspicious
    settled.settle(
        settled_rows.LABELLED, is_done | judged if verdict.verdict == "fine" else is_done
    )
    if report.verdict == "stable" and report.rows >= MIN_ROWS_TO_SETTLE:
        settled.settle(settled_rows.INPUTS, compared)
    settled.keep(ledger.read_next_number(config))
    cohort = rows.cohort[judged]
    return Judgement(
        performance=find_excess(config, champion, model, grouped, rows, verdict),
        drift=report,
        waiting=find_waiting(config, grouped, rows, is_suspicious),
        suspicious=tuple(suspicious),
        other_units=tuple(other_units),
        early=performance.judge_order_early(rows.outcome[is_early], rows.risk[is_early]),
        recent=int(judged.sum()),
        deliveries=sources.count_deliveries(cohort)
        + any(names[i] in accepted for i in np.unique(cohort)),
        checks=checks,
    )


def find_other_units(
    config: Config, champion: Release, reference: pd.DataFrame, rows: NewRows, sample: pd.DataFrame
) -> list[OtherUnits]:
    """Find deliveries with new rows of which nearly all have a column in another unit.

    sample: the features of all rows in the batch, or of a sample of them
    """
    lines, accepted = ledger.read_lines(config), ledger.read_accepted(config)
    numeric = champion.training["features"]["numeric"]
    numeric = [name for name in numeric if name not in config.columns.dates]  # all of them are days
    counts = rows.table.loc[rows.in_batch, typed_rows.DELIVERED].value_counts()
    numbers = sample[typed_rows.DELIVERED].to_numpy()
    return [
        OtherUnits(number, lines[number].source, change.column, change.factor, int(counts[number]))
        for number in np.unique(numbers).tolist()
        if number >= 0 and lines[number].source not in accepted
        for change in units.find_unit_changes(reference, sample[numbers == number], numeric)
    ]


def judge_outcomes(champion: Release, rows: NewRows, judged: np.ndarray) -> performance.Performance:
    """Compare outcomes that count with the risks; judged: (n,) bool of the rows."""
    verdict = performance.check_performance(
        rows.outcome[judged],
        rows.risk[judged],
        _reference_auc(champion),
        left_in_training=champion.training["level_left"],
    )
    early = int((rows.is_new & ~rows.is_mature).sum())
    if early and not judged.any():
        sentence = f"none of the {early:,} new outcomes is mature yet"
        verdict = replace(verdict, sentence=sentence)
    return verdict


def find_excess(
    config: Config,
    champion: Release,
    model: Served,
    grouped: Cohorts,
    rows: NewRows,
    verdict: performance.Performance,
) -> performance.Performance:
    """Return the verdict, "degraded" if more clients of any cohort left than were expected.

    Mature cohorts have been judged already.
    """
    left = np.bincount(
        rows.cohort[rows.is_new & (rows.outcome == 1)], minlength=len(grouped.cohorts)
    )
    for i, cohort in enumerate(grouped.cohorts):
        if cohort.mature or left[i] < performance.MIN_OF_EACH_TO_JUDGE:
            continue
        risk = rows.risk[(rows.cohort == i) & ~np.isnan(rows.risk)]
        if performance.is_expected(cohort.left, risk):
            continue
        risk = read_risks(config, model, grouped, i)
        level = champion.training["level_left"]
        excess = performance.find_excess(cohort.name, cohort.left, risk, level)
        if excess:
            verdict = replace(verdict, verdict="degraded", sentence=excess)
    return verdict


def read_risks(config: Config, model: Served, grouped: Cohorts, i: int) -> Vector:
    """Return risks of a cohort in the order of arrival, until they explain how many clients left."""
    read = [pd.Series(dtype="float64")]
    for part in ledger.split_rows(config):
        names = [typed_rows.NUMBER, *_key_names(config), *config.columns.features]
        rows = ledger.read_rows(config, names, part=part)
        places = cohorts.find_groups(grouped.groups, find_keys(config, rows))
        rows = rows[grouped.number[places] == i]
        read.append(pd.Series(predict(model, rows), rows[typed_rows.NUMBER]))
        risk = np.asarray(pd.concat(read).sort_index(), "float64")  # the same in whatever parts
        if performance.is_expected(grouped.cohorts[i].left, risk):
            break
    return risk


def find_waiting(
    config: Config, grouped: Cohorts, rows: NewRows, is_suspicious: np.ndarray
) -> np.ndarray:
    """Return the sorted ids of all rows with an outcome that is not mature, or that is suspicious."""
    early = rows.ids[rows.is_new & ~rows.is_mature]
    if len(early) != (grouped.groups[cohorts.KNOWN] * ~grouped.mature).sum():
        early = read_immature(config, grouped)  # others were judged while their cohort was mature
    return np.union1d(early, rows.ids[rows.is_new & is_suspicious])


def compare_inputs(
    config: Config,
    champion: Release,
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    sample: pd.DataFrame,
) -> drift.DriftReport:
    """Compare the features of the batch, or of a sample of it, with the reference."""
    numbers = batch[typed_rows.NUMBER].to_numpy()
    clients = sample[is_among(sample[typed_rows.NUMBER].to_numpy(), numbers)]
    clients = clients[settled_rows.smallest(clients[typed_rows.INPUT_ID].to_numpy())]
    risk = batch[drift.SCORE].to_numpy()
    return drift.compare_clients(
        reference,
        clients,
        risk[np.searchsorted(numbers, clients[typed_rows.NUMBER].to_numpy())],
        champion.training,
        config.columns.time,
    )


def _check_estimate(
    config: Config,
    reference: pd.DataFrame,
    rows: NewRows,
    counted: np.ndarray,
    settled: SettledRows,
) -> history.Rows:
    """Compare estimates that were made without outcomes with the outcomes, once for each row."""
    first = counted & ~settled.contains(settled_rows.ESTIMATED, rows.ids)
    if first.sum() < performance.MIN_ROWS_TO_ESTIMATE:
        return []
    settled.add(settled_rows.ESTIMATED, rows.ids[counted])
    name = config.columns.value
    value = rows.table.loc[first, name].to_numpy(dtype="float64") if name else None
    estimated = performance.estimate(
        rows.risk[first],
        **performance.reference_arguments(reference, config.columns.outcome),
        value=value,
        capacity=config.contact_capacity,
    )
    checks = performance.check_estimate(estimated, rows.outcome[first], rows.risk[first], value)
    return [{"rows": int(first.sum())} | check.to_dict() for check in checks]


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

    If the training kept the champion, its model is the champion too, but these rows were tried.
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
