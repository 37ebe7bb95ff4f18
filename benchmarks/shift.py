"""Feed the sample company month by month, labels two months late, and print what each run decided.

Run: python -m benchmarks.shift [--shift none|harmless|harmful] [--months 10] [--rows 1000]
     [--seed 2025] [--history 12]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import fullprocess
from attrition.config import Config
from attrition.modelling import metrics, models
from attrition.operations import releases
from attrition.rows import typed_rows
from attrition.storage import files, history
from benchmarks import simulation
from benchmarks.project import make_project


def prepare(folder: Path, *, months: int, rows: int, seed: int) -> Config:
    """Write a project with so many months of labelled history and the sample's test data."""
    config = make_project(folder, databases=[])
    for month in range(months):
        table = simulation.simulate_month(month, seed=seed).sample(rows, random_state=month)
        table.to_csv(config.input_folder / f"history-{month:02d}.csv", index=False)
    return config


def describe(
    config: Config, month: int, shift: str, shift_month: int, seed: int
) -> dict[str, object]:
    """Return what the run decided, and how the model in production does on the month's clients."""
    monitoring = files.read_record(config.monitoring_record)
    assert monitoring is not None
    release = releases.read_current(config.production_folder)
    now = simulation.simulate_month(
        month,
        seed=seed,
        shift=shift,
        shift_month=shift_month,
    )
    text = now.astype(object).where(now.notna(), "").astype(str)
    rows = typed_rows.typed(text[list(config.columns.table)], config.columns)
    risk = models.predict(releases.load_model(release), rows)
    auc = metrics.roc_auc(now["exited"].to_numpy(dtype="float64"), risk).value
    last = history.read_deployments(config.history)[-1]
    return {
        "month": month,
        "triggers": ",".join(monitoring["triggers"]) or "-",
        "performance": monitoring["performance"]["verdict"],
        "trained": monitoring["retrain"],
        "decision": last["reason"][:60] if monitoring["retrain"] else "-",
        "release": release.id,
        "auc now": round(auc or np.nan, 3),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shift", choices=simulation.SHIFTS, default="harmful")
    parser.add_argument("--months", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--history", type=int, default=12)
    parser.add_argument("--seed", type=int, default=simulation.DEFAULT_SEED)
    options = parser.parse_args(argv)
    shift_month = options.history + 2
    with tempfile.TemporaryDirectory() as place:
        config = prepare(
            Path(place) / "p", months=options.history, rows=options.rows, seed=options.seed
        )
        lines = []
        for month in range(options.history, options.history + options.months):
            simulation.write_month(
                config.input_folder,
                month,
                rows=options.rows,
                seed=options.seed,
                shift=options.shift,
                shift_month=shift_month,
            )
            code = fullprocess.main(["--config", str(config.file), "--quiet"])
            assert code == 0, f"the run of month {month} ended {code}"
            lines.append(describe(config, month, options.shift, shift_month, options.seed))
            print(lines[-1], file=sys.stderr)
        with pd.option_context("display.width", 200, "display.max_colwidth", 70):
            print(pd.DataFrame(lines).to_string(index=False))
        print(f"shift: {options.shift} from month {shift_month}; outcomes come two months late")
        print(f"releases: {len(releases.list_ids(config.production_folder))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
