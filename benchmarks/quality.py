"""Cross-validate the whole training recipe on tables, beside plain baselines.

Each fold tries, chooses, calibrates and fits anew on the other folds; copies, near-copies and twins of a
row, and all rows of a client, are in one fold. A table is given by a config that names its
columns and by its CSV file, or by a folder of them.

With --served: hide the outcomes of 30 % of the clients, train as training.py does, with a fifth of the
others held-out, and predict the hidden outcomes with both models of the release.

Run: python -m benchmarks.quality --table examples/telco.json PATH/telco.csv [--table ...]
     [--folds 5] [--repeats 3] [--served [--seeds 5]]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from attrition import config_file
from attrition.data import schema
from attrition.modelling import metrics, models, selection
from attrition.modelling.groups import group_rows
from attrition.modelling.metrics import Vector
from attrition.modelling.selection import RECENT, Table
from attrition.rows import typed_rows
from attrition.sources import files as source_files

TOP = 0.1
BINS = 10
BASELINES = (models.LOGISTIC, models.BOOSTING)
HIDDEN_SHARE, HELD_OUT_SHARE = 0.3, 0.2


def read_table(config_path: Path, data: Path) -> Table:
    """Read the labelled rows of a file, or of each CSV file of a folder, by the contract of ingestion.

    Raises: AttritionError.
    """
    settings = config_file.load(config_path)
    columns = settings.columns
    paths = sorted(data.glob("*.csv")) if data.is_dir() else [data]
    tables = [source_files.read_path(path) for path in paths]
    checked = [schema.check(each, columns, settings.missing_markers).frame() for each in tables]
    rows = typed_rows.typed(pd.concat(checked, ignore_index=True), columns)
    rows = rows[rows[columns.outcome].notna()].reset_index(drop=True)
    return Table(
        rows=rows,
        outcome=rows[columns.outcome].to_numpy(dtype="float64"),
        groups=group_rows(rows, columns.client_name, columns.features),
        age=np.full(len(rows), RECENT),
        numeric=tuple(columns.numeric_names),
        categorical=tuple(columns.categorical),
    )


def part_of(table: Table, rows: np.ndarray) -> Table:
    return Table(
        table.rows.iloc[rows].reset_index(drop=True),
        table.outcome[rows],
        table.groups[rows],
        table.age[rows],
        table.numeric,
        table.categorical,
    )


def cross_validate(
    table: Table, fit: Callable[[Table], models.Model], folds: int, repeat: int, progress: tqdm
) -> tuple[Vector, np.ndarray]:
    """Return the risk of each row from a fit on the other folds, and the number of its own."""
    risk, fold = np.empty(len(table.rows)), np.empty(len(table.rows), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=1000 + repeat)
    cuts = splitter.split(table.rows, table.outcome, table.groups)
    for number, (train, test) in enumerate(cuts):
        fold[test] = number
        risk[test] = models.predict(fit(part_of(table, train)), table.rows.iloc[test])
        progress.update()
    return risk, fold


def calibration_error(outcome: Vector, risk: Vector) -> float:
    """Mean distance between risk and outcome over ten bins of equal size."""
    order = np.argsort(risk, kind="stable")
    gaps = [len(i) * abs(risk[i].mean() - outcome[i].mean()) for i in np.array_split(order, BINS)]
    return float(sum(gaps) / len(outcome))


def measure(outcome: Vector, risk: Vector, fold: np.ndarray) -> dict[str, float]:
    """Score risks out of fold; the AUC is the mean of the folds, as each has a model of its own.

    Source: Forman and Scholz 2010, "Apples-to-apples in cross-validation studies", for that mean.
    """
    folds = [fold == number for number in np.unique(fold)]
    aucs = [metrics.roc_auc(outcome[rows], risk[rows]).value for rows in folds]
    _, lift = metrics.precision_and_lift(outcome, risk, int(TOP * len(outcome)))
    return {
        "AUC": float(np.mean([np.nan if auc is None else auc for auc in aucs])),
        "AUC, pooled": float(metrics.roc_auc(outcome, risk).value or np.nan),
        "log loss": float(metrics.row_log_loss(outcome, risk).mean()),
        "Brier": float(metrics.row_brier(outcome, risk).mean()),
        "lift@10 %": float(lift.value or np.nan),
        "ECE": calibration_error(outcome, risk),
    }


def compare_served(table: Table, seed: int) -> pd.DataFrame:
    """Score the model in production and its evaluation model on rows that neither was trained on.

    Returns: a row for each of the two, and their ROC AUC and log loss on the hidden rows.
    """
    numbers = np.unique(table.groups, return_inverse=True)[1]
    place = np.random.default_rng(seed).permutation(numbers.max() + 1) / numbers.max()
    is_hidden = place[numbers] < HIDDEN_SHARE
    is_held_out = place[numbers] > 1 - HELD_OUT_SHARE * (1 - HIDDEN_SHARE)
    hidden, labelled, usable = (
        part_of(table, np.flatnonzero(rows))
        for rows in (is_hidden, ~is_hidden, ~is_hidden & ~is_held_out)
    )
    selected = selection.select_model(usable)
    served = selection.fit_model(labelled, selected.chosen, selected.model.calibration)
    lines = []
    for name, model in (("evaluation model", selected.model), ("in production", served)):
        risk = models.predict(model, hidden.rows)
        lines.append(
            {"seed": seed, "model": name, "chosen": selected.chosen.title}
            | {"AUC": metrics.roc_auc(hidden.outcome, risk).value}
            | {"log loss": float(metrics.row_log_loss(hidden.outcome, risk).mean())}
        )
    return pd.DataFrame(lines)


def report_served(table: Table, name: str, seeds: int) -> None:
    """Print the mean scores of both models of a release, and the difference with its standard error."""
    cuts = tqdm(range(seeds), desc=name, disable=None)
    lines = pd.concat([compare_served(table, seed) for seed in cuts])
    print(lines.to_string(index=False), file=sys.stderr)
    scores = lines.set_index(["seed", "model"])[["AUC", "log loss"]].unstack("model")
    for measure in ("AUC", "log loss"):
        before, after = scores[measure]["evaluation model"], scores[measure]["in production"]
        gain, error = (after - before).mean(), (after - before).sem()
        print(
            f"{name}, {measure}: evaluation model {before.mean():.4f}, in production "
            f"{after.mean():.4f}, difference {gain:+.4f} (standard error {error:.4f})"
        )


def alone(name: str) -> Callable[[Table], models.Model]:
    def fit(table: Table) -> models.Model:
        everything = np.arange(len(table.rows))
        return models.Model(
            (selection.fit_part(table, name, np.ones(len(everything)), everything),)
        )

    return fit


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", nargs=2, action="append", required=True, metavar=("CONFIG", "CSV"), type=Path
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--served", action="store_true", help="compare both models of a release")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    if options.served:
        for config_path, data in options.table:
            report_served(read_table(config_path, data), data.stem, options.seeds)
        return 0
    lines, chosen = [], []

    def whole(table: Table) -> models.Model:
        learned = selection.select_model(table)
        chosen.append(learned.chosen.title)
        return learned.model

    ways = {"the recipe": whole} | {name: alone(name) for name in BASELINES}
    for config_path, data in options.table:
        table = read_table(config_path, data)
        for way, fit in ways.items():
            start = time.process_time()
            with tqdm(
                total=options.repeats * options.folds, desc=f"{data.stem}, {way}", disable=None
            ) as progress:
                risks = [
                    cross_validate(table, fit, options.folds, repeat, progress)
                    for repeat in range(options.repeats)
                ]
            found = pd.DataFrame([measure(table.outcome, *risk) for risk in risks])
            seconds = (time.process_time() - start) / (options.repeats * options.folds)
            lines.append(
                {"table": data.stem, "rows": len(table.rows), "way": way}
                | found.mean().to_dict()
                | {"CPU s a fit": seconds}
            )
            print(lines[-1], file=sys.stderr)
        print(f"{data.stem}: chosen {pd.Series(chosen).value_counts().to_dict()}", file=sys.stderr)
        chosen.clear()
    print(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
