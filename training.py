"""Step 2: train a candidate model on the labelled rows, and record why it was chosen.

Reads:  ingesteddata/finaldata.csv; production_deployment/monitoring.json (is there concept drift?);
        contacts/contacts.sqlite in an experiment (outcomes that contacts may have changed)
Writes: practicemodels/trainedmodel.skops, evaluationmodel.skops (the same choices, fitted without the
        held-out clients), training.json (the record), reference.csv (the reference for drift),
        known_rows.npz (the rows that the model knows, with their cross-validated risks)
Run:    python training.py [--config PATH] [--accept-leakage]
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition.config import Columns, Config
from attrition.data import cells
from attrition.effect import contacted_rows
from attrition.errors import Leakage, TooLittleData
from attrition.modelling import (
    backtest,
    calibration,
    data_checks,
    explanations,
    metrics,
    models,
    persistence,
    reliability,
    selection,
)
from attrition.modelling.backtest import Backtest
from attrition.modelling.data_checks import LeakageSign
from attrition.modelling.groups import group_rows
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model
from attrition.modelling.selection import (
    ANCIENT,
    OLDER,
    OLDER_WEIGHTED,
    RECENT,
    RECENT_ROWS,
    CandidateScore,
    SelectionResult,
    Table,
)
from attrition.monitoring import drift, updating
from attrition.monitoring.updating import Update
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.rows import ledger, sampling, typed_rows
from attrition.rows.known_rows import is_among
from attrition.rows.sampling import Sample
from attrition.storage import files, tables

SETTINGS = ("columns", "held_out_share", "accept_leakage", "contact_rule")
# The sizes of the samples on the learning curve, and the smallest one that may be chosen.
SIZES, MIN_SAMPLE = (12_500, 25_000, 50_000, 100_000, 200_000, 400_000), 50_000
MAX_SAMPLE_SHARE = 0.75  # of all rows; a larger sample would save too little
MONTH = len("2026-01")
MAX_CONTACTED_SHARE = 0.05  # of the labelled rows; more are left out of training
REFERENCE_ROWS = 10_000
IMPORTANCE_ROWS = 2_000
PROBE_ROWS = 200
# What the record of a recalibrated champion has in common with that of the champion.
DESCRIBED = (
    *(
        "kind",
        "rows",
        "left",
        "clients",
        "held_out_rows",
        "held_out_clients",
        "features",
        "baseline",
        "ranges",
        "missing_seen",
        "dropped",
    ),
    *("parts", "window", "temporal", "signs", "warnings"),
)
MIN_ROWS_TO_TRAIN, MIN_OF_EACH_TO_TRAIN = 50, 10
NO_SIGNAL = (
    "no usable signal in the training rows: nothing in these columns predicted who left, so every "
    "client has the base rate as its risk; rank by value, and add columns that predict more"
)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training; training.json has the details."""

    kind: str
    rows: int
    left: int
    why: str
    warnings: tuple[str, ...]
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        first = f"{self.kind} from {self.rows:,} rows, {self.left:,} of whom left: {self.why}"
        return "\n".join([first, *(f"note: {warning}" for warning in self.warnings)])


# ---- compute


def usable_features(rows: pd.DataFrame, columns: Columns) -> tuple[list[str], dict[str, str]]:
    """Return the features that can be used, and why each of the others is dropped."""
    dropped = {}
    for name in columns.features:
        values = rows[name]
        missing = values.isna() | (values == "")
        if missing.all():
            dropped[name] = "never has a value"
        elif not missing.any() and values.nunique() == 1:
            value = values.iloc[0]
            shown = value if isinstance(value, str) else cells.number_text(float(value))
            dropped[name] = f"always {shown}"
    return [name for name in columns.features if name not in dropped], dropped


def warn_if_few_rows(rows: int, left: int) -> list[str]:
    """Warn if there are too few rows for reliable risks, and state how many are enough."""
    if rows < MIN_ROWS_TO_TRAIN or min(left, rows - left) < MIN_OF_EACH_TO_TRAIN:
        return [
            f"Only {rows} labelled rows ({left} left): the risks are little more than the base rate "
            f"until there are {MIN_ROWS_TO_TRAIN} rows with {MIN_OF_EACH_TO_TRAIN} of each outcome."
        ]
    if reliability.is_few(rows, left):
        return [
            f"Only {rows} labelled rows ({left} left): treat the risks as approximate until there "
            f"are {reliability.MIN_ROWS_TO_RELY} rows with {reliability.MIN_OF_EACH_TO_RELY} of each "
            "outcome."
        ]
    return []


def check_leakage(config: Config, signs: Sequence[LeakageSign]) -> None:
    """Stop if a column reveals the outcome and config.json does not accept it by name.

    Raises: Leakage.
    """
    grave = [sign for sign in signs if sign.grave and sign.column not in config.accept_leakage]
    if grave:
        problems = "; ".join(sign.sentence for sign in grave)
        names = ", ".join(f'"{sign.column}"' for sign in grave)
        raise Leakage(
            f"{config.rows}: {problems}. A model trained on that is worth nothing for clients who "
            "have not left yet: name the column in columns.ignore; if it is known before clients leave, "
            f"run with --accept-leakage, or set accept_leakage to [{names}] in {config.file.name}"
        )


# ---- the step


def train_model(config: Config) -> TrainingResult:
    """Choose a candidate without the rows of the held-out clients, then fit it on all labelled rows.

    Raises: TooLittleData if nobody left or nobody stayed; Leakage; AttritionError if there is no data.
    """
    config = config.limited_to(*SETTINGS)
    contacted = contacted_rows.find_contacted(config)
    files.finish_commit(config.model_folder)
    inputs = {
        "finaldata": ledger.rows_version(config),
        "monitoring": files.sha256_file(config.monitoring_record),
        "settings": config.fingerprint(),
    }
    if len(contacted):
        inputs["contacted"] = files.sha256_bytes(contacted.tobytes())
    if (record := files.read_if_up_to_date(config.training_record, inputs)) is not None:
        return _training_result(record, up_to_date=True)
    start = time.monotonic()
    labels = read_labels(config)
    learned, left_out = leave_contacted_out(labels, contacted)
    outcome = learned.loc[~learned["held_out"], "outcome"].to_numpy()
    if not 0 < outcome.sum() < len(outcome):
        same = "left" if len(outcome) and outcome.all() else "stayed"
        raise TooLittleData(
            f"{config.rows}: all {len(outcome)} clients to learn from {same}; training needs "
            "clients who left and clients who stayed"
        )
    monitoring = files.read_record(config.monitoring_record) or {}
    candidate = _fit_candidate(config, learned, monitoring)
    record = candidate.record | {
        "model_sha256": files.sha256_bytes(candidate.model),
        "versions": persistence.versions(),
        "inputs": inputs,
        "trained_at": files.utc_now(),
        "elapsed_s": round(time.monotonic() - start, 3),
        "labelled": len(labels),
        "recent": int((labels["age"] == RECENT).sum()),
        "held_out_share": candidate.held_out_share,
        "triggers": monitoring.get("triggers", []),
    }
    if left_out is not None:
        record["contacted"] = left_out
        record["warnings"] = [*record["warnings"], left_out["sentence"]]
    ids = labels[typed_rows.ROW_ID].to_numpy()
    known_rows = files.arrays_bytes(
        labelled=np.unique(ids),
        inputs=np.unique(labels[typed_rows.INPUT_ID].to_numpy()),
        before_change=np.unique(ids[labels["age"] != RECENT]),
        **candidate.validated,
    )
    contents: dict[Path, files.Content] = {
        config.candidate: candidate.model,
        config.evaluation_model: candidate.evaluation_model,
        config.reference: tables.frame_bytes(candidate.reference),
        config.known_rows: known_rows,
    }
    record = files.commit(config.training_record, contents, record)
    return _training_result(record, up_to_date=False)


def read_labels(config: Config) -> pd.DataFrame:
    """Return what decides which rows to train on, of every row with a mature outcome, as they arrived.

    Returns: `typed_rows.COMPUTED` and `NUMBER`; `outcome`; `cohort`, the number of its month;
    `held_out`; `age`, see `find_age`

    Raises: TooLittleData if there is no such row.
    """
    columns = config.columns
    parts, months = [], dict[str, int]()
    waits, waiting = releases.read_waiting(config), 0
    names = (*typed_rows.COMPUTED, typed_rows.NUMBER, columns.outcome)
    for part in ledger.split_rows(config):
        rows = ledger.read_rows(config, [*names, *filter(None, [columns.time])], part=part)
        is_waiting = is_among(rows[typed_rows.ROW_ID].to_numpy(), waits)
        waiting += int(is_waiting.sum())
        rows = rows[rows[columns.outcome].notna() & ~is_waiting]
        month = rows[columns.time].str[:MONTH] if columns.time else pd.Series("", rows.index)
        cohort = month.map(lambda text: months.setdefault(text, len(months)))
        labels = rows[list(names)].rename(columns={columns.outcome: "outcome"})
        parts.append(labels.assign(cohort=cohort.astype("int32")))
    labels = pd.concat(parts).sort_values(typed_rows.NUMBER, ignore_index=True)
    if len(labels) == 0 and waiting:
        raise TooLittleData(
            f"{config.rows}: none of {waiting:,} outcomes is mature, so there is "
            "nothing to train on yet; outcomes are used when 90 % of their cohort are known, or after "
            "outcome_after_days of config.json"
        )
    if len(labels) == 0:
        raise TooLittleData(
            f"{config.rows}: no row has an outcome in {columns.outcome!r}, so there is nothing "
            "to train on; add rows of clients who left and of clients who stayed"
        )
    held_out = typed_rows.held_out(labels[typed_rows.CLIENT_HASH], config.held_out_share)
    age = find_age(config, labels)
    return labels.assign(held_out=held_out, age=age)


def leave_contacted_out(
    labels: pd.DataFrame, contacted: np.ndarray
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Return the rows to learn from, with `is_contacted`, and the record of the contacted ones, if any.

    Contacts change the outcomes of clients at high risk, which would then seem to be at lower risk. Up
    to `MAX_CONTACTED_SHARE` of the rows they are only left out when the risks are calibrated.

    contacted: sorted ids of rows
    """
    is_contacted = is_among(labels[typed_rows.ROW_ID].to_numpy(), contacted)
    labels = labels.assign(is_contacted=is_contacted)
    if not is_contacted.any():
        return labels, None
    n, share = int(is_contacted.sum()), float(is_contacted.mean())
    is_left_out = share > MAX_CONTACTED_SHARE
    step = "training" if is_left_out else "calibration"
    sentence = (
        f"{n:,} of {len(labels):,} labelled rows are of clients who were reached between observation "
        f"and outcome: they are left out of {step}"
    )
    record = {"rows": n, "share": share, "left_out_of": step, "sentence": sentence}
    return labels[~is_contacted] if is_left_out else labels, record


def draw_samples(labels: pd.DataFrame) -> dict[int, Sample]:
    """Draw samples of growing size to choose from, the largest last; {} if all rows are few enough.

    labels: see `read_labels`
    """
    sizes = [*takewhile(lambda size: size < MAX_SAMPLE_SHARE * len(labels), SIZES)]
    if not any(size >= MIN_SAMPLE for size in sizes):
        return {}
    outcome, age = labels["outcome"].to_numpy(), labels["age"].to_numpy()
    codes = [
        labels[name].to_numpy().astype(np.intp) for name in ("outcome", "age", "held_out", "cohort")
    ]
    place, stratum = sampling.place_rows(labels[typed_rows.ROW_ID].to_numpy(), codes)
    sizes += [len(labels)] if len(labels) <= SIZES[-1] else []
    return {size: sampling.take_sample(place, stratum, outcome, age, size) for size in sizes}


def read_sampled(config: Config, labels: pd.DataFrame) -> pd.DataFrame:
    """Read the rows with these labels, with the columns that a model needs, in the same order."""
    columns, numbers = config.columns, labels[typed_rows.NUMBER].to_numpy()
    named = (columns.client_name, *filter(None, [columns.time]), *columns.features, columns.outcome)
    names = [*named, typed_rows.ROW_ID, typed_rows.NUMBER]
    parts = []
    for part in ledger.split_rows(config):
        rows = ledger.read_rows(config, names, part=part)
        parts.append(rows[np.isin(rows[typed_rows.NUMBER].to_numpy(), numbers)])
    return pd.concat(parts).sort_values(typed_rows.NUMBER, ignore_index=True)


def find_age(config: Config, labelled: pd.DataFrame) -> np.ndarray:
    """Sort rows by age relative to the last concept drifts: (n,) of ANCIENT, OLDER, RECENT.

    If no row is newer than the last one, all of them count as recent.
    """
    ids = labelled[typed_rows.ROW_ID].to_numpy()
    age = np.full(len(labelled), RECENT)
    changes = releases.rows_before_change(config)
    for change, name in zip(reversed(changes), (OLDER, ANCIENT), strict=False):
        age[np.isin(ids, change)] = name
    return age if (age == RECENT).any() else np.full(len(labelled), RECENT)


@dataclass(frozen=True)
class Candidate:
    """A candidate: its record, the bytes of its two models, and its reference rows.

    validated: arrays of the rows on which it was compared, and of their cross-validated risks.
    """

    record: files.Record
    model: bytes
    evaluation_model: bytes
    reference: pd.DataFrame
    validated: dict[str, np.ndarray]
    held_out_share: float


def _fit_candidate(config: Config, labels: pd.DataFrame, monitoring: files.Record) -> Candidate:
    """Choose without the held-out clients; fit the chosen candidate without them, and on all rows.

    Only the first of the two models, the evaluation model, may be compared on rows of these clients. If
    the champion has degraded, the least extensive update of it that is enough is the candidate.
    """
    columns = config.columns
    training = _read_training(config, labels)
    table, all_rows, held_out = training.table, training.all_rows, training.held_out
    age, outcomes, dropped = all_rows.age, all_rows.outcome, training.dropped
    signs = data_checks.find_signs(
        table.rows, table.outcome, table.groups, table.numeric, table.categorical, columns.dates
    )
    check_leakage(config, signs)
    update = None
    if "degraded" in monitoring.get("triggers", ()) and (age != RECENT).any():
        champion = releases.read_for(config.production_folder, columns)
        update, selected = _choose_update(champion, table, monitoring)
        if selected is None:
            return _recalibrate(config, champion, update, table, all_rows)
    else:
        selected = selection.select_model(table)
    notes = [f"column {name} is left out: {reason}" for name, reason in dropped.items()]
    notes += [sign.sentence for sign in signs]
    chosen = selected.chosen
    if chosen.name == models.BASE_RATE and outcomes.sum() >= reliability.MIN_OF_EACH_TO_RELY:
        notes.append(NO_SIGNAL)
    past = _backtest(table, selected, columns)
    if isinstance(past, Backtest) and past.is_harder:
        notes.append(past.sentence)
    model = selection.fit_model(all_rows, chosen, selected.model.calibration)
    record = _describe_rows(all_rows, labels) | {
        "kind": chosen.name,
        "dropped": dropped,
        "candidates": [_describe_candidate(one, one is chosen) for one in selected.candidates],
        "why": selected.why,
        "update": update.to_dict() if update else None,
        "parts": dict(zip(chosen.parts or (chosen.name,), chosen.weights, strict=True)),
        "calibration": {"kind": model.calibration.kind, "log_loss": selected.calibrations},
        "window": chosen.window,
        "temporal": past.to_dict() if isinstance(past, Backtest) else past,
        "signs": [sign.to_dict() for sign in signs],
        "sample": training.sample,
    }
    record["warnings"] = warn_if_few_rows(record["rows"], record["left"]) + notes
    risk = _reference_risk(selected, model, all_rows, held_out)
    reference = _sample_reference(all_rows, risk, columns)
    return Candidate(
        record | _probe_model(model, reference, record["baseline"]),
        persistence.dumps(model),
        persistence.dumps(selected.model),
        reference,
        _validated(table, selected.risk),
        config.held_out_share,
    )


@dataclass(frozen=True)
class TrainingRows:
    """The rows to train on, without the held-out clients (`table`) and with them (`all_rows`).

    dropped: why each feature that is not used is dropped; sample: None if these are all labelled rows,
    else the number of rows and the learning curve by which it was chosen.
    """

    table: Table
    all_rows: Table
    held_out: np.ndarray
    dropped: dict[str, str]
    sample: dict[str, Any] | None


def _read_training(config: Config, labels: pd.DataFrame) -> TrainingRows:
    columns = config.columns
    samples = draw_samples(labels)
    largest = [*samples.values()][-1].is_taken if samples else np.ones(len(labels), dtype=bool)
    labels = labels[largest]
    rows, held_out = read_sampled(config, labels), labels["held_out"].to_numpy()
    usable = rows[~held_out]
    features, dropped = usable_features(usable, columns)
    if not features:
        raise TooLittleData(
            f"{config.rows}: no feature differs between clients, so there is nothing to learn"
        )
    outcome, age = labels["outcome"].to_numpy(), labels["age"].to_numpy()
    # If all recent outcomes are equal, no candidate can be scored on them alone.
    if len(np.unique(outcome[~held_out & (age == RECENT)])) < 2:
        age = np.full(len(labels), RECENT)
    numeric = tuple(name for name in columns.numeric_names if name in features)
    categorical = tuple(name for name in columns.categorical if name in features)
    all_rows = Table(rows, outcome, np.arange(len(rows)), age, numeric, categorical)
    is_contacted = labels["is_contacted"].to_numpy()
    # If all others have the same outcome, risks cannot be calibrated on them alone.
    others = outcome[~held_out & (age == RECENT) & ~is_contacted]
    if is_contacted.any() and len(np.unique(others)) == 2:
        all_rows = replace(all_rows, is_contacted=is_contacted)
    groups = group_rows(usable, columns.client_name, columns.features)
    table = replace(all_rows.take(~held_out), groups=groups)
    if not samples:
        return TrainingRows(table, all_rows, held_out, dropped, None)
    cut = {size: sample.among(largest) for size, sample in samples.items()}
    of_usable = {size: sample.among(~held_out) for size, sample in cut.items()}
    curve = selection.draw_learning_curve(table, of_usable, MIN_SAMPLE)
    sample, usable_sample = cut[curve.chosen], of_usable[curve.chosen]
    all_rows, table = all_rows.sample(sample), table.sample(usable_sample)
    described = {"rows": len(all_rows.rows), "left": int(all_rows.outcome.sum()), **curve.to_dict()}
    return TrainingRows(table, all_rows, held_out[sample.is_taken], dropped, described)


def _choose_update(
    champion: Release, table: Table, monitoring: files.Record
) -> tuple[Update, SelectionResult | None]:
    """Choose the least extensive update of the champion; the selection is None unless it is a refit.

    The served champion was not trained on recent rows either, so its own risks are the ones to update.
    If it is a base rate, or the labelled rows have doubled, a refit needs as few rows as an intercept.
    """
    least = updating.MIN_OF_RARER
    if champion.training["kind"] == models.BASE_RATE or "more_rows" in monitoring["triggers"]:
        least = least | {OLDER_WEIGHTED: least[updating.INTERCEPT]}
    recent = _recent_rows(table)
    refits: dict[str, SelectionResult] = {}

    def refit(name: str, windows: Sequence[str]) -> Vector:
        refits[name] = selection.select_model(table, windows)
        return metrics.log_odds(refits[name].risk[_is_compared(table)[table.recent]])

    older = [window for window in selection.WINDOWS if window != RECENT_ROWS]
    model = releases.load_model(champion)
    update = updating.choose_update(
        metrics.log_odds(models.predict(model, recent.rows)),
        recent.outcome,
        folds=selection.make_folds(recent, 0),
        deliveries=monitoring["deliveries"],
        least=least,
        refits={
            OLDER_WEIGHTED: lambda: refit(OLDER_WEIGHTED, older),
            RECENT_ROWS: lambda: refit(RECENT_ROWS, [RECENT_ROWS]),
        },
    )
    return update, refits.get(update.name)


def _recent_rows(table: Table) -> Table:
    return table.take(_is_compared(table))


def _is_compared(table: Table) -> NDArray[np.bool_]:
    """Return the recent rows on which updates are compared, without those of contacted clients."""
    if table.is_contacted is None:
        return table.representative
    return table.representative & ~table.is_contacted


def _recalibrate(
    config: Config, champion: Release, update: Update, table: Table, all_rows: Table
) -> Candidate:
    """Return the champion with another intercept and slope, or as it is; both of its models alike."""
    data, evaluation = (
        (champion.folder / name).read_bytes()
        for name in (releases.MODEL, releases.EVALUATION_MODEL)
    )
    model = persistence.loads(data)
    recent = _recent_rows(table)
    compared = metrics.log_odds(models.predict(persistence.loads(evaluation), recent.rows))
    if update.is_recalibration:
        fit, folds = updating.RECALIBRATIONS[update.name], selection.make_folds(recent, 0)
        compared = calibration.cross_calibrate(fit, compared, recent.outcome, folds)
        model = updating.recalibrate(model, update)
        data = persistence.dumps(model)
        evaluation = persistence.dumps(updating.recalibrate(persistence.loads(evaluation), update))
    described = {name: champion.training[name] for name in DESCRIBED}
    record = described | {
        "candidates": [
            {"name": name, "log_loss": loss, "standard_error": None, "chosen": name == update.name}
            for name, loss in update.losses.items()
        ],
        "why": update.reason,
        "update": update.to_dict() | {"champion": champion.id},
        "calibration": {"kind": model.calibration.kind, "log_loss": {}},
        "level_left": int(all_rows.outcome[all_rows.representative].sum()),
    }
    risk = models.predict(model, all_rows.rows)
    numeric, categorical = (tuple(record["features"][kind]) for kind in ("numeric", "categorical"))
    all_rows = replace(all_rows, numeric=numeric, categorical=categorical)
    reference = _sample_reference(all_rows, risk, config.columns)
    return Candidate(
        record | _probe_model(model, reference, record["baseline"]),
        data,
        evaluation,
        reference,
        _validated(recent, metrics.expit(compared)),
        min(config.held_out_share, champion.training["held_out_share"]),
    )


def _describe_rows(table: Table, labels: pd.DataFrame) -> files.Record:
    """Describe the labelled rows, and the baseline client among those that the model is trained on."""
    numeric, categorical = table.numeric, table.categorical
    features, left = [*numeric, *categorical], int(labels["outcome"].sum())
    missing = table.rows[features].isna() | (table.rows[features] == "")
    clients, held_out = labels[typed_rows.CLIENT_HASH], labels["held_out"]
    simple = table.rows if table.is_simple is None else table.rows[table.is_simple]
    return {
        "rows": len(labels),
        "left": left,
        "level_left": left,
        "clients": int(clients.nunique()),
        "held_out_rows": int(held_out.sum()),
        "held_out_clients": int(clients[held_out].nunique()),
        "features": {"numeric": list(numeric), "categorical": list(categorical)},
        "baseline": models.baseline(simple, numeric, categorical),
        "ranges": reliability.ranges(table.rows, numeric),
        "missing_seen": [name for name in features if missing[name].any()],
    }


def _sample_reference(table: Table, risk: Vector, columns: Columns) -> pd.DataFrame:
    """Return recent rows with their risks, the reference for data drift; risk: (n,) of all rows."""
    named = filter(None, [columns.time])
    names = [*named, *table.numeric, *table.categorical, columns.outcome, drift.SCORE]
    reference = table.rows.assign(**{drift.SCORE: risk}).loc[table.representative, names]
    return reference.sample(min(len(reference), REFERENCE_ROWS), random_state=0).sort_index()


def _validated(table: Table, risk: Vector) -> dict[str, np.ndarray]:
    """Return the ids and the risks of recent rows without weights; risk: (n,) of the recent rows."""
    ids = table.rows.loc[table.representative, typed_rows.ROW_ID].to_numpy()
    return {releases.JUDGED: ids, releases.JUDGED_RISK: risk[table.representative[table.recent]]}


def _reference_risk(
    selected: SelectionResult, model: Model, all_rows: Table, held_out: np.ndarray
) -> Vector:
    """Return the risk of each row from a model that was not trained on it: (n,), nan if it is older.

    A base rate is that of the model: each fold has another, which would look like drift.
    """
    if selected.chosen.name == models.BASE_RATE:
        return models.predict(model, all_rows.rows)
    risk = np.full(len(all_rows.rows), np.nan)
    risk[all_rows.recent & ~held_out] = selected.reference_risk
    risk[held_out] = models.predict(selected.model, all_rows.rows[held_out])
    return risk


def _backtest(
    table: Table, selected: SelectionResult, columns: Columns
) -> Backtest | dict[str, Any]:
    """Validate on rows later than the training rows, or return why that is not possible."""
    times = table.rows[columns.time].tolist() if columns.time else None
    past = backtest.backtest_model(table, selected, times) if times else "no column of times"
    if isinstance(past, Backtest):
        return past
    return {"validated": False, "reason": f"not temporally validated: {past}"}


def _probe_model(model: Model, reference: pd.DataFrame, baseline: dict[str, Any]) -> dict[str, Any]:
    """Return the feature importance on the reference, and the risks of some of its rows (`probe`).

    If the libraries change, the model must still predict the risks of the probe.
    """
    some = reference.sample(min(len(reference), IMPORTANCE_ROWS), random_state=0)
    return {
        "probe": models.predict(model, reference.iloc[:PROBE_ROWS]).tolist(),
        "reference_rows": len(reference),
        "importance": explanations.importance(model, some, baseline),
    }


def _describe_candidate(candidate: CandidateScore, is_chosen: bool) -> dict[str, Any]:
    interval = metrics.mean(candidate.loss)
    error = float(np.std(candidate.loss, ddof=1)) / np.sqrt(len(candidate.loss))
    return {
        "name": candidate.title,
        "log_loss": interval.value,
        "standard_error": error if np.isfinite(error) else None,
        "chosen": is_chosen,
    }


def _training_result(record: files.Record, *, up_to_date: bool) -> TrainingResult:
    return TrainingResult(
        kind=record["kind"],
        rows=record["rows"],
        left=record["left"],
        why=record["why"],
        warnings=tuple(record["warnings"]),
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    cli.add_accept_leakage(parser)
    options = parser.parse_args(argv)
    return cli.run(options, "training", lambda config: train_model(cli.accepting(config, options)))


if __name__ == "__main__":
    sys.exit(main())
