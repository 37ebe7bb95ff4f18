"""Compare the contact list of the sample company with the best one possible: its true risks are known.

Run: python -m benchmarks.ranking [--seeds 3]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import clients
from attrition.rows import ledger
from benchmarks import simulation
from benchmarks.project import ROOT, make_project


def judge(config: Config) -> tuple[float, float]:
    """Return what is truly at stake on the list, and on the best list of its length.

    The mean true risk or, for a list by value at risk, the mean of true risk times value.
    """
    columns = config.columns
    rows = clients.current_clients(ledger.read_rows(config, columns.table), columns)
    names = list(columns.categorical)
    observed = rows.assign(**{name: rows[name].replace("", None) for name in names})
    stake = pd.Series(simulation.true_risk(observed), index=rows[columns.client_name])
    if config.contact_order == "value_at_risk":
        stake *= rows[columns.value].to_numpy()
    listed = pd.read_csv(config.contact_list, keep_default_na=False)["client"]
    return float(stake[listed].mean()), float(np.sort(stake)[-len(listed) :].mean())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    ratios = []
    for seed in range(simulation.DEFAULT_SEED, simulation.DEFAULT_SEED + options.seeds):
        with tempfile.TemporaryDirectory() as place:
            config = make_project(Path(place) / "company")
            simulation.write_sample(config.file.parent, seed)
            script = [sys.executable, str(ROOT / "fullprocess.py"), "--quiet"]
            subprocess.run([*script, "--config", str(config.file)], check=True)
            ours, best = judge(config)
            ratios.append(ours / best)
            print(
                f"seed {seed}: truly at stake {ours:.3f}, best list {best:.3f}, {ours / best:.1%}"
            )
    return int(min(ratios) < 0.95)


if __name__ == "__main__":
    sys.exit(main())
