"""Ask drift detectors of other projects, by their defaults, about frames of benchmarks/statistics.

Runs in their own environments and imports nothing of this project; whichever is installed answers:
    python3 -m venv PATH/evidently
    PATH/evidently/bin/pip install evidently==0.7.23 "pandas<3" pyarrow
    python3 -m venv PATH/nannyml
    PATH/nannyml/bin/pip install nannyml==0.13.1 statsmodels "pandas<3" pyarrow

Reads:  FOLDER/roles.json, reference.parquet, and case-*.parquet with case-*.json (rows of a batch)
Prints: JSON; drift: for each peer the share of batches with an alarm, case by case;
        cost: seconds of CPU time of one report on reference.parquet and batch.parquet
Run:    PYTHON -P benchmarks/peers.py drift|cost FOLDER
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

DRIFTED_SHARE = 0.5
# NannyML's classifier costs 5 s of CPU a batch, and as much for each chunk of the reference.
CLASSIFIER_ROWS, CLASSIFIER_BATCHES = 2000, 10


def run_evidently(reference, batch, roles):
    """Return the share of columns that Evidently's DataDriftPreset calls drifted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(
        numerical_columns=roles["numeric"], categorical_columns=roles["categorical"]
    )
    frames = [Dataset.from_pandas(frame, definition) for frame in (batch, reference)]
    found = Report([DataDriftPreset()]).run(*frames).dict()["metrics"]
    return next(
        metric["value"]["share"]
        for metric in found
        if metric["config"]["type"].endswith(":DriftedColumnsCount")
    )


def ask_evidently(reference, cases, roles):
    rows = []
    for rows_each, frame in cases:
        batches = [frame[i : i + rows_each] for i in range(0, len(frame), rows_each)]
        shares = np.array(
            [run_evidently(reference, b.reset_index(drop=True), roles) for b in batches]
        )
        any_column, data_set = shares > 0, shares >= DRIFTED_SHARE
        found = {"a column": shares, "any": any_column, "data set": data_set}
        rows.append({name: float(values.mean()) for name, values in found.items()})
    return rows


def ask_nannyml(reference, cases, roles):
    """Chunks as long as a batch; where the reference is one chunk only, thresholds are not defined."""
    import nannyml

    rows, classifier = [], None
    names = [*roles["numeric"], *roles["categorical"]]
    for rows_each, frame in cases:
        row = {"any": None, "classifier": None}
        kinds = {"treat_as_categorical": roles["categorical"], "chunk_size": rows_each}
        if rows_each < len(reference):
            calculator = nannyml.UnivariateDriftCalculator(column_names=names, **kinds)
            row["any"] = _alerts(calculator.fit(reference), frame)
        if rows_each == CLASSIFIER_ROWS:
            classifier = classifier or nannyml.DomainClassifierCalculator(
                feature_column_names=names, **kinds
            ).fit(reference)
            row["classifier"] = _alerts(classifier, frame[: CLASSIFIER_ROWS * CLASSIFIER_BATCHES])
        rows.append(row)
    return rows


def _alerts(calculator, frame):
    """Share of chunks with an alert of any column."""
    found = calculator.calculate(frame).filter(period="analysis").to_df()
    alerts = found[[name for name in found.columns if name[-1] == "alert"]]
    return float(alerts.any(axis=1).mean())


PEERS = {"evidently": ask_evidently, "nannyml": ask_nannyml}


def measure_drift(folder, roles):
    reference = pd.read_parquet(folder / "reference.parquet")
    cases = [
        (json.loads(path.with_suffix(".json").read_text())["n"], pd.read_parquet(path))
        for path in sorted(folder.glob("case-*.parquet"))
    ]
    installed = [name for name in PEERS if importlib.util.find_spec(name)]
    return {name: PEERS[name](reference, cases, roles) for name in installed}


def measure_cost(folder, roles):
    """Time a report after a small one, so that no import and no cache is counted."""
    reference, batch = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "batch")
    )
    run_evidently(reference[:100], batch[:100], roles)
    start = time.process_time()
    run_evidently(reference, batch, roles)
    return {"Evidently": time.process_time() - start}


def main() -> int:
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    mode, folder = sys.argv[1], Path(sys.argv[2])
    roles = json.loads((folder / "roles.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        found = {"drift": measure_drift, "cost": measure_cost}[mode](folder, roles)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
