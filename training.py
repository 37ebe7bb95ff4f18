"""Step 2: train a candidate model on the labelled rows, and record why it was chosen.

Reads:  ingesteddata/finaldata.csv; production_deployment/monitoring.json (is there concept drift?)
Writes: practicemodels/trainedmodel.skops, training.json (the record), reference.csv (the reference
        for drift), known_rows.npz (the rows that the model knows, with their cross-validated risks)
Run:    python training.py [--config PATH] [--accept-leakage]
"""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Columns, Config
from attrition.data import cells, ledger, schema
from attrition.errors import Leakage, TooLittleData
from attrition.modelling import (
    backtest,
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
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model
from attrition.modelling.selection import (
    ANCIENT,
    OLDER,
    RECENT,
    CandidateScore,
    SelectionResult,
    Table,
)
from attrition.monitoring import drift
from attrition.operations import cli, releases
from attrition.storage import files, tables

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "held_out_share", "accept_leakage")
REFERENCE_ROWS = 10_000
IMPORTANCE_ROWS = 2_000
PROBE_ROWS = 200
MIN_ROWS_TO_TRAIN, MIN_OF_EACH_TO_TRAIN = 50, 10
NO_SIGNAL = (
    "no usable signal: nothing in these columns predicts who leaves, so every client has the base rate "
    "as its risk; rank by value, and add columns that predict more"
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
            f"{config.final_data}: {problems}. A model trained on that is worth nothing for clients who "
            "have not left yet: name the column in columns.ignore; if it is known before clients leave, "
            f"run with --accept-leakage, or set accept_leakage to [{names}] in {config.file.name}"
        )


# ---- the step


def train_model(config: Config) -> TrainingResult:
    """Choose and fit a candidate on the labelled rows, without those of the held-out clients.

    Raises: TooLittleData if nobody left or nobody stayed; Leakage; AttritionError if there is no data.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.model_folder)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "monitoring": files.sha256_file(config.monitoring_record),
        "settings": config.fingerprint(),
    }
    if (record := files.read_if_up_to_date(config.training_record, inputs)) is not None:
        return _training_result(record, up_to_date=True)
    start = time.monotonic()
    columns = config.columns
    names = (columns.client_name, *filter(None, [columns.time]), *columns.features, columns.outcome)
    rows = ledger.read_rows(config, (*names, *schema.COMPUTED))
    labelled = rows[rows[columns.outcome].notna()].reset_index(drop=True)
    if len(labelled) == 0:
        raise TooLittleData(
            f"{config.final_data}: no row has an outcome in {columns.outcome!r}, so there is nothing "
            "to train on; add rows of clients who left and of clients who stayed"
        )
    held_out = schema.held_out(labelled[schema.CLIENT_HASH], config.held_out_share)
    age = find_age(config, labelled)
    usable = labelled[~held_out]
    outcome = usable[columns.outcome].to_numpy(dtype="float64")
    if not 0 < outcome.sum() < len(outcome):
        same = "left" if len(outcome) and outcome.all() else "stayed"
        raise TooLittleData(
            f"{config.final_data}: all {len(outcome)} clients to learn from {same}; training needs "
            "clients who left and clients who stayed"
        )
    record, contents, validated = _fit_candidate(config, usable, outcome, age[~held_out])
    record |= {
        "inputs": inputs,
        "trained_at": files.utc_now(),
        "elapsed_s": round(time.monotonic() - start, 3),
        "labelled": len(labelled),
        "recent": int((age == RECENT).sum()),
        "held_out_rows": int(held_out.sum()),
        "held_out_clients": int(labelled.loc[held_out, columns.client_name].nunique()),
        "triggers": (files.read_record(config.monitoring_record) or {}).get("triggers", []),
    }
    ids = labelled[schema.ROW_ID].to_numpy()
    contents[config.known_rows] = files.arrays_bytes(
        labelled=np.unique(ids),
        inputs=np.unique(labelled[schema.INPUT_ID].to_numpy()),
        before_change=np.unique(ids[age != RECENT]),
        **validated,
    )
    record = files.commit(config.training_record, contents, record)
    return _training_result(record, up_to_date=False)


def find_age(config: Config, labelled: pd.DataFrame) -> np.ndarray:
    """Sort rows by age relative to the last concept drifts: (n,) of ANCIENT, OLDER, RECENT.

    If no row is newer than the last one, all of them count as recent.
    """
    ids = labelled[schema.ROW_ID].to_numpy()
    age = np.full(len(labelled), RECENT)
    changes = releases.rows_before_change(config)
    for change, name in zip(reversed(changes), (OLDER, ANCIENT), strict=False):
        age[np.isin(ids, change)] = name
    return age if (age == RECENT).any() else np.full(len(labelled), RECENT)


def _fit_candidate(
    config: Config, usable: pd.DataFrame, outcome: Vector, age: np.ndarray
) -> tuple[files.Record, dict[Path, files.Content], dict[str, np.ndarray]]:
    columns = config.columns
    features, dropped = usable_features(usable, columns)
    if not features:
        raise TooLittleData(
            f"{config.final_data}: no feature differs between clients, so there is nothing to learn"
        )
    # If all recent outcomes are equal, no candidate can be scored on them alone.
    if not 0 < outcome[age == RECENT].sum() < (age == RECENT).sum():
        age = np.full(len(usable), RECENT)
    numeric = tuple(name for name in columns.numeric_names if name in features)
    categorical = tuple(name for name in columns.categorical if name in features)
    groups = selection.group_rows(usable, columns.client_name, columns.features)
    signs = data_checks.find_signs(usable, outcome, groups, numeric, categorical)
    check_leakage(config, signs)
    table = Table(usable, outcome, groups, age, numeric, categorical)
    selected = selection.select_model(table)
    past = _backtest(table, selected, columns)
    chosen, model = selected.chosen, selected.model
    data = persistence.dumps(model)
    left = int(outcome.sum())
    warnings = warn_if_few_rows(len(usable), left)
    warnings += [f"{name} is left out: {reason}" for name, reason in dropped.items()]
    warnings += [sign.sentence for sign in signs]
    if chosen.name == models.BASE_RATE and left >= reliability.MIN_OF_EACH_TO_RELY:
        warnings.append(NO_SIGNAL)
    if isinstance(past, Backtest) and past.is_harder:
        warnings.append(past.sentence)
    baseline = models.baseline(usable, numeric, categorical)
    missing = usable[features].isna() | (usable[features] == "")
    record = {
        "kind": chosen.name,
        "model_sha256": files.sha256_bytes(data),
        "rows": len(usable),
        "left": left,
        "clients": int(usable[columns.client_name].nunique()),
        "features": {"numeric": list(numeric), "categorical": list(categorical)},
        "dropped": dropped,
        "candidates": [_describe_candidate(one, one is chosen) for one in selected.candidates],
        "why": selected.why,
        "parts": dict(zip(chosen.parts or (chosen.name,), chosen.weights, strict=True)),
        "calibration": {"kind": model.calibration.kind, "log_loss": selected.calibrations},
        "window": chosen.window,
        "temporal": past.to_dict() if isinstance(past, Backtest) else past,
        "warnings": warnings,
        "signs": [sign.to_dict() for sign in signs],
        "baseline": baseline,
        "ranges": reliability.ranges(usable, numeric),
        "missing_seen": [name for name in features if missing[name].any()],
        "versions": persistence.versions(),
    }
    named = filter(None, [columns.time])
    reference = usable.loc[age == RECENT, [*named, *features, columns.outcome]]
    reference = reference.assign(**{drift.SCORE: selected.reference_risk})
    reference = reference.sample(min(len(reference), REFERENCE_ROWS), random_state=0).sort_index()
    record |= _probe_model(model, reference, baseline)
    validated = {
        releases.JUDGED: usable.loc[age == RECENT, schema.ROW_ID].to_numpy(),
        releases.JUDGED_RISK: selected.risk,
    }
    contents: dict[Path, files.Content] = {config.candidate: data}
    contents[config.reference] = tables.frame_bytes(reference)
    return record, contents, validated


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
