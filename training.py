"""Step 2: learn a candidate model from the labelled rows, and write down why it was chosen.

Reads:  ingesteddata/finaldata.csv; production_deployment/monitoring.json (has the truth moved?)
Writes: practicemodels/trainedmodel.skops, training.json (the record), reference.csv (the rows that
        drift is held against), known_rows.npz (which rows were known)
Run:    python training.py [--config PATH]
"""

import io
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from attrition import cells, cli, disk, drift, metrics, models, releases, schema, sources
from attrition.config import Columns, Config
from attrition.errors import TooLittleData
from attrition.metrics import Vector

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

FOLDS = 5
REFERENCE_ROWS = 10_000
PROBE_ROWS = 200
LEAST_ROWS, LEAST_LEFT = 50, 10
FEW_ROWS, FEW_LEFT = 400, 100
ALL_ROWS = "all rows"
# How much a row counts by its age: from before an earlier change of the truth, from before the last
# one, and since then.
WINDOWS = {
    ALL_ROWS: (1.0, 1.0, 1.0),
    "rows since the change before": (0.0, 1.0, 1.0),
    "older rows counted a tenth": (0.1, 0.1, 1.0),
    "only the rows since the change": (0.0, 0.0, 1.0),
}
ANCIENT, OLDER, RECENT = 0, 1, 2


@dataclass(frozen=True)
class Tried:
    """A candidate, tried: its cross-validated risks of the judged rows and their log loss."""

    name: str
    window: str
    risk: Vector
    loss: Vector

    @property
    def title(self) -> str:
        return self.name if self.window == ALL_ROWS else f"{self.name}, {self.window}"


@dataclass(frozen=True)
class Training:
    """What was learned; the rest stands in training.json."""

    kind: str
    rows: int
    left: int
    why: str
    warnings: tuple[str, ...]
    fresh: bool
    made: str

    def summary(self) -> str:
        first = f"{self.kind} from {self.rows:,} rows, {self.left:,} of whom left: {self.why}"
        return "\n".join([first, *(f"note: {warning}" for warning in self.warnings)])


# ---- compute


def group_rows(rows: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Number the groups that must stay in one fold: all rows of a client, and all equal rows.

    Returns: (n,) int, the same number for rows that are linked, directly or through others.
    """
    by_client, clients = pd.factorize(rows[columns.client_name])
    by_content = rows.groupby(list(columns.features), dropna=False, sort=False).ngroup().to_numpy()
    size = len(clients) + int(by_content.max(initial=-1)) + 1
    links = coo_array(
        (np.ones(len(rows)), (by_client, len(clients) + by_content)), shape=(size, size)
    )
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels[by_client])


def usable_features(rows: pd.DataFrame, columns: Columns) -> tuple[list[str], dict[str, str]]:
    """Leave out the features that say nothing; return those kept, and why not the others."""
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


def try_candidates(
    rows: pd.DataFrame,
    outcome: Vector,
    groups: np.ndarray,
    age: np.ndarray,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
) -> list[Tried]:
    """Cross-validate every candidate, judged on the recent rows; simplest first.

    With rows from before a change of the truth, each candidate is tried with the older rows counting
    in full, in part, and not at all. `age`: (n,) of ANCIENT, OLDER, RECENT; all RECENT while nothing
    changed.
    """
    recent = age == RECENT
    left = int(outcome[recent].sum())
    count = min(FOLDS, left, int(recent.sum()) - left, len(np.unique(groups[recent])))
    names = models.candidates(int(recent.sum()), left) if count >= 2 else [models.BASE_RATE]
    folds = _folds(rows, outcome, groups, count) if count >= 2 else []
    tried = []
    todo = [(window, name) for window in windows(age) for name in names]
    for window, name in tqdm(todo, desc="training", unit="model", leave=False, disable=None):
        weight = np.array(WINDOWS[window])[age]
        risk = np.full(len(rows), np.average(outcome, weights=weight))
        for train, test in folds:
            fitted = _fit(name, rows, outcome, weight, train, numeric, categorical)
            risk[test] = models.predict(fitted, rows.iloc[test])
        loss = metrics.row_log_loss(outcome, risk)
        tried.append(Tried(name, window, risk[recent], loss[recent]))
    return tried


def windows(age: np.ndarray) -> list[str]:
    """Name the ways to count older rows that differ for rows of these ages."""
    ages = sorted(set(age.tolist()))
    found: dict[tuple[float, ...], str] = {}
    for name, weights in WINDOWS.items():
        found.setdefault(tuple(weights[a] for a in ages), name)
    return list(found.values())


def _folds(
    rows: pd.DataFrame, outcome: Vector, groups: np.ndarray, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    folds = list(splitter.split(rows, outcome, groups))
    return [(train, test) for train, test in folds if 0 < outcome[train].sum() < len(train)]


def _fit(
    name: str,
    rows: pd.DataFrame,
    outcome: Vector,
    weight: Vector,
    train: np.ndarray,
    numeric: Sequence[str],
    categorical: Sequence[str],
) -> Any:
    counted = train[weight[train] > 0]
    if not 0 < outcome[counted].sum() < len(counted):
        counted, weight, name = train, np.ones(len(rows)), models.BASE_RATE
    features = [*numeric, *categorical]
    model = models.build(name, numeric, categorical, len(counted))
    return models.fit(model, rows.iloc[counted][features], outcome[counted], weight[counted])


def choose(tried: Sequence[Tried]) -> tuple[Tried, str]:
    """Choose the simplest candidate whose log loss is within one standard error of the lowest.

    The error is that of the paired difference, row by row. Source: Breiman et al. 1984, the one
    standard error rule; Hastie, Tibshirani and Friedman 2009, 7.10.
    """
    best = min(tried, key=lambda candidate: float(candidate.loss.mean()))
    for candidate in tried:
        difference = candidate.loss - best.loss
        error = (
            float(np.std(difference, ddof=1)) / np.sqrt(len(difference))
            if len(difference) > 1
            else 0
        )
        if float(difference.mean()) <= error:
            break
    told = f"cross-validated log loss {candidate.loss.mean():.4f}"
    if candidate.window != ALL_ROWS:
        told = f"{candidate.window}, {told}"
    if candidate is best:
        return candidate, f"{told}, the lowest of {len(tried)}"
    return (
        candidate,
        f"{told}, within one standard error of the lowest ({best.title} {best.loss.mean():.4f})",
    )


def warn_of_little(rows: int, left: int) -> list[str]:
    """Say what so little data cannot show, and what would be enough."""
    if rows < LEAST_ROWS or min(left, rows - left) < LEAST_LEFT:
        return [
            f"{rows} rows with {left} who left are too few to learn from; the risks are little more "
            f"than the base rate until there are {LEAST_ROWS} rows and {LEAST_LEFT} of each kind"
        ]
    if rows < FEW_ROWS or min(left, rows - left) < FEW_LEFT:
        return [
            f"{rows} rows with {left} who left are few; the risks are rough until there are "
            f"{FEW_ROWS} rows and {FEW_LEFT} of each kind"
        ]
    return []


# ---- the step


def train_model(config: Config) -> Training:
    """Choose and fit a candidate on all labelled rows but those of the held-out clients.

    Raises: TooLittleData when nobody left or nobody stayed; AttritionError without data.
    """
    disk.finish_commit(config.model_folder)
    inputs = {
        "finaldata": disk.sha256_file(config.final_data),
        "monitoring": disk.sha256_file(config.monitoring_record),
        "settings": config.fingerprint("columns", "held_out_share"),
    }
    if (record := disk.read_fresh(config.training_record, inputs)) is not None:
        return _result(record, fresh=True)
    start = time.monotonic()
    columns = config.columns
    rows = sources.read_rows(config.final_data, columns)
    labelled = rows[rows[columns.outcome].notna()].reset_index(drop=True)
    if len(labelled) == 0:
        raise TooLittleData(
            f"{config.final_data}: no row has an outcome in {columns.outcome!r}, so there is nothing "
            "to learn from; add rows of clients who left and of clients who stayed"
        )
    held_out = schema.held_out(labelled[columns.client_name], config.held_out_share)
    age = find_age(config, labelled)
    usable = labelled[~held_out]
    outcome = usable[columns.outcome].to_numpy(dtype="float64")
    if not 0 < outcome.sum() < len(outcome):
        what = "left" if len(outcome) and outcome.all() else "stayed"
        raise TooLittleData(
            f"{config.final_data}: all {len(outcome)} clients to learn from {what}; training needs "
            "clients who left and clients who stayed"
        )
    record, files = _learn(config, usable, outcome, age[~held_out])
    record |= {
        "inputs": inputs,
        "trained_at": disk.utc_now(),
        "elapsed_s": round(time.monotonic() - start, 3),
        "labelled": len(labelled),
        "recent": int((age == RECENT).sum()),
        "held_out_rows": int(held_out.sum()),
        "held_out_clients": int(labelled.loc[held_out, columns.client_name].nunique()),
        "triggers": _triggers(config),
    }
    ids = schema.row_ids(labelled, columns, with_outcome=True)
    files[config.known_rows] = disk.arrays_bytes(
        labelled=np.unique(ids),
        inputs=np.unique(schema.row_ids(labelled, columns, with_outcome=False)),
        before_change=np.unique(ids[age != RECENT]),
    )
    return _result(disk.commit(config.training_record, files, record), fresh=False)


def _triggers(config: Config) -> list[str]:
    monitoring = disk.read_record(config.monitoring_record)
    return list(monitoring["triggers"]) if monitoring else []


def find_age(config: Config, labelled: pd.DataFrame) -> np.ndarray:
    """Tell the rows from before the truth moved from those since: (n,) of ANCIENT, OLDER, RECENT."""
    ids = schema.row_ids(labelled, config.columns, with_outcome=True)
    age = np.full(len(labelled), RECENT)
    changes = releases.rows_before_change(config)
    for change, name in zip(reversed(changes), (OLDER, ANCIENT), strict=False):
        age[np.isin(ids, change)] = name
    return age if (age == RECENT).any() else np.full(len(labelled), RECENT)


def _learn(
    config: Config, usable: pd.DataFrame, outcome: Vector, age: np.ndarray
) -> tuple[disk.Record, dict[Path, disk.Content]]:
    columns = config.columns
    features, dropped = usable_features(usable, columns)
    if not features:
        raise TooLittleData(
            f"{config.final_data}: no feature differs between clients, so there is nothing to learn"
        )
    if not 0 < outcome[age == RECENT].sum() < (age == RECENT).sum():
        age = np.full(len(usable), RECENT)  # one class since the change: nothing to judge by
    numeric = [name for name in columns.numeric_names if name in features]
    categorical = [name for name in columns.categorical if name in features]
    groups = group_rows(usable, columns)
    tried = try_candidates(usable, outcome, groups, age, numeric=numeric, categorical=categorical)
    chosen, why = choose(tried)
    weight = np.array(WINDOWS[chosen.window])[age]
    model = _fit(chosen.name, usable, outcome, weight, np.arange(len(usable)), numeric, categorical)
    data = models.dumps(model)
    left = int(outcome.sum())
    warnings = warn_of_little(len(usable), left)
    warnings += [f"{name} is left out: {reason}" for name, reason in dropped.items()]
    missing = usable[features].isna() | (usable[features] == "")
    record = {
        "kind": chosen.name,
        "model_sha256": disk.sha256_bytes(data),
        "rows": len(usable),
        "left": left,
        "clients": int(usable[columns.client_name].nunique()),
        "features": {"numeric": numeric, "categorical": categorical},
        "dropped": dropped,
        "candidates": [_told(candidate, candidate is chosen) for candidate in tried],
        "why": why,
        "window": chosen.window,
        "warnings": warnings,
        "typical": models.typical(usable, numeric, categorical),
        "missing_seen": [name for name in features if missing[name].any()],
        "versions": models.versions(),
    }
    reference = usable.loc[age == RECENT, [*features, columns.outcome]]
    reference = reference.assign(**{drift.SCORE: chosen.risk})
    reference = reference.sample(min(len(reference), REFERENCE_ROWS), random_state=0).sort_index()
    # Under other versions of the libraries the model has to give these risks again.
    record["probe"] = models.predict(model, reference.iloc[:PROBE_ROWS]).tolist()
    table = io.StringIO()
    reference.to_csv(table, index=False, lineterminator="\n")
    return record, {config.candidate: data, config.reference: table.getvalue().encode()}


def _told(candidate: Tried, is_chosen: bool) -> dict[str, Any]:
    interval = metrics.mean(candidate.loss)
    error = float(np.std(candidate.loss, ddof=1)) / np.sqrt(len(candidate.loss))
    return {
        "name": candidate.title,
        "log_loss": interval.value,
        "standard_error": error if np.isfinite(error) else None,
        "chosen": is_chosen,
    }


def _result(record: disk.Record, *, fresh: bool) -> Training:
    return Training(
        kind=record["kind"],
        rows=record["rows"],
        left=record["left"],
        why=record["why"],
        warnings=tuple(record["warnings"]),
        fresh=fresh,
        made=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    """Train once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "training", train_model)


if __name__ == "__main__":
    sys.exit(main())
