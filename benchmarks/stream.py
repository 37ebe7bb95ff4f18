"""Feed a stream of batches whose outcomes come late, and tell what each run decided.

The folder holds reference.csv (with outcomes), batches control_N.csv and shift_N.csv (without),
labels.csv (batch, client, outcome) and truth.json: label_delay_batches, and reference_run, what a
reference has reached. Each batch is delivered with the outcomes of the batch so many before it, then
the whole process runs. The control is a stream of its own.

Run: python -m benchmarks.stream CONFIG FOLDER
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fullprocess
from attrition import config_file
from attrition.config import Config
from attrition.modelling import metrics
from attrition.operations import releases
from attrition.storage import files, history
from benchmarks.project import make_project

STREAMS = ("control", "shift")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def deliver(folder: Path, config: Config, stream: str, batch: int, delay: int) -> pd.DataFrame:
    """Put a batch and the outcomes that are due into the source folder; return the batch with its own.

    A batch of the control has outcomes nowhere.
    """
    outcome = config.columns.outcome
    labels = read(folder / "labels.csv")
    for number, knows in ((batch, False), (batch - delay, True)):
        path = folder / f"{stream}_{number}.csv"
        if number < 1:
            continue
        rows = read(path).drop(columns=outcome, errors="ignore")
        known = labels[labels["batch"] == path.stem].drop(columns="batch")
        whole = rows.merge(known, on=config.columns.client, how="left", validate="1:1")
        given = whole if knows else whole.assign(**{outcome: ""})
        if knows and known.empty:
            continue
        given.to_csv(
            config.input_folder / f"{path.stem}-{'late' if knows else 'open'}.csv", index=False
        )
        if number == batch:
            found = whole
    return found


def run(
    folder: Path, config: Config, stream: str, truth: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Feed one stream from its reference on; yield a line a batch."""
    read(folder / "reference.csv").to_csv(config.input_folder / "reference.csv", index=False)
    process(config)
    batches = sorted(folder.glob(f"{stream}_*.csv"), key=lambda path: int(path.stem.split("_")[1]))
    for batch in range(1, len(batches) + 1):
        rows = deliver(folder, config, stream, batch, truth["label_delay_batches"])
        process(config)
        yield describe(config, stream, batch, rows, truth)


def process(config: Config) -> None:
    code = fullprocess.main(["--config", str(config.file), "--quiet"])
    assert code == 0, f"the run ended {code}"


def describe(
    config: Config, stream: str, batch: int, rows: pd.DataFrame, truth: dict[str, Any]
) -> dict[str, Any]:
    """Return what the run decided, and the log loss of the model in production on the batch."""
    monitoring = files.read_record(config.monitoring_record)
    assert monitoring is not None
    look = monitoring["drift"]
    release = releases.read_current(config.production_folder)
    assessed = pd.read_csv(config.risk_scores, dtype={"client": str}).set_index("client")["risk"]
    risk = assessed[rows[config.columns.client_name]].to_numpy()
    outcome = rows[config.columns.outcome].map({config.columns.left: 1.0}).fillna(0.0).to_numpy()
    known = rows[config.columns.outcome].notna().all()
    reference = [
        line["ll_refit"]
        for line in truth["reference_run"]
        if (line["stream"], line["batch"]) == (stream, batch)
    ]
    last = history.read_deployments(config.history)[-1]
    return {
        "stream": stream,
        "batch": batch,
        "drift": look["verdict"],
        "named": ",".join(c["column"] for c in look["columns"] if c["verdict"] == "act"),
        "together": look["joint"]["verdict"] if look["joint"] else "-",
        "performance": monitoring["performance"]["verdict"],
        "triggers": ",".join(monitoring["triggers"]),
        "trained": monitoring["retrain"],
        "decision": last["reason"] if monitoring["retrain"] else "-",
        "release": release.id[-8:],
        "log loss": metrics.row_log_loss(outcome, risk).mean() if known else np.nan,
        "reference": reference[0] if reference else np.nan,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a config that names the columns")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(argv)
    truth = json.loads((options.folder / "truth.json").read_text())
    columns = json.loads(options.config.read_text())["columns"]
    lines = []
    for stream in STREAMS:
        with tempfile.TemporaryDirectory() as place:
            config = make_project(Path(place) / "p", columns=columns, databases=[])
            for path in config.test_folder.iterdir():  # of the sample company
                path.unlink()
            for line in run(options.folder, config_file.load(config.file), stream, truth):
                lines.append(line)
                print(line, file=sys.stderr)
    with pd.option_context("display.width", 250, "display.max_colwidth", 90):
        print(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
