"""Feed the sample company month by month, labels two months late, and tell what each run decided.

Run: python -m benchmarks.shift [--shift none|harmless|harmful] [--months 10] [--rows 1000]
     [--seed 2025] [--history 12]
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import fullprocess
from attrition import config as configuration
from attrition import dependencies, disk, history, metrics, releases, schema, simulation, sources
from attrition.config import Config

ROOT = Path(__file__).resolve().parent.parent


def prepare(folder: Path, *, months: int, rows: int, seed: int) -> Config:
    """Write a project with so many months of labelled history and the sample's test data."""
    (folder / "sourcedata").mkdir(parents=True)
    shutil.copytree(ROOT / "testdata", folder / "testdata")
    settings = json.loads((ROOT / "config.json").read_text()) | {"databases": []}
    (folder / "config.json").write_text(json.dumps(settings))
    for month in range(months):
        table = simulation.simulate_month(month, seed=seed).sample(rows, random_state=month)
        table.to_csv(folder / "sourcedata" / f"history-{month:02d}.csv", index=False)
    return configuration.load(folder / "config.json")


def describe(
    config: Config, month: int, shift: str, shift_month: int, seed: int
) -> dict[str, object]:
    """Return what the run decided, and how the model in production does on the month's clients."""
    monitoring = disk.read_record(config.monitoring_record)
    assert monitoring is not None
    release = releases.read_current(config.production_folder)
    now = simulation.simulate_month(
        month,
        seed=seed,
        shift=shift,
        shift_month=shift_month,  # type: ignore[arg-type]
    )
    text = now.astype(object).where(now.notna(), "").astype(str)
    rows = schema.typed(text[list(config.columns.table)], config.columns)
    from attrition import models

    risk = models.predict(releases.load_model(release), rows)
    auc = metrics.roc_auc(now["exited"].to_numpy(dtype="float64"), risk).value
    last = history.read_deployments(config.history)[-1]
    return {
        "month": month,
        "triggers": ",".join(monitoring["triggers"]) or "-",
        "truth": monitoring["truth"]["verdict"],
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
    dependencies.ask_all = lambda names: dict.fromkeys(names)  # type: ignore[assignment]
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
    assert sources
    return 0


if __name__ == "__main__":
    sys.exit(main())
