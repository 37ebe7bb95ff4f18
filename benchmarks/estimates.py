"""Hold performance estimated without labels against what is realised, under shifts of the clients.

`late`: a table is cut into training 40 %, reference 24 % and production 36 %, several times. Batches of
production clients, some kinds likelier than others, are estimated by the model and its reference, then
their outcomes are looked at. Once with a held-out reference, and once as the product does it: trained
on the 64 %, whose risks out of fold are the reference. A client is drawn once, or, with
--with-replacement, at times twice, who then leaves twice: outcomes are no longer independent, and
every interval that takes them to be covers less. --shift: "none" or COLUMN=LEVEL, COLUMN>NUMBER and
how many times as likely.

`value`: portfolios whose true risks are known, with values of a heavy tail.

Run: python -m benchmarks.estimates late --table examples/telco.json PATH/telco.csv [--draws 300]
         [--splits 10] [--rows 1000] [--second 6] [--model recipe]
         [--with-replacement]
         [--shift none 1 --shift "Contract=Month-to-month" 4 --shift "tenure>24" 5]
     python -m benchmarks.estimates value [--portfolios 1000]
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from attrition.modelling import metrics, models, selection
from attrition.modelling.metrics import Vector
from attrition.modelling.selection import Table
from attrition.monitoring import performance
from benchmarks import quality

CAPACITY = 100
FIGURES = ("rate", "roc_auc", "precision")
SHIFTS = [("none", 1.0), ("Contract=Month-to-month", 4.0), ("tenure>24", 5.0)]
HELD_OUT, OUT_OF_FOLD = "held out", "out of fold"
RECIPE = "recipe"
ONE_IS_HALF = 0.0  # instead of the sigma of lognormal values: equal ones, but for one


@dataclass(frozen=True)
class SourceVerdict:
    """A model's reference, and its production clients with their risks."""

    way: str
    before: Table
    reference_risk: Vector
    production: Table
    risk: Vector


def judge(table: Table, split: int, model: str) -> Iterator[SourceVerdict]:
    """Cut the table once, and fit both ways."""
    order = np.random.default_rng(split).permutation(len(table.rows))
    n = len(order)
    cut = np.split(order, [int(0.4 * n), int(0.64 * n)])
    train, held_out, production = (quality.part_of(table, rows) for rows in cut)
    fitted, _ = _fit(train, model)
    risk = models.predict(fitted, held_out.rows)
    yield SourceVerdict(
        HELD_OUT, held_out, risk, production, models.predict(fitted, production.rows)
    )
    known = quality.part_of(table, np.concatenate(cut[:2]))
    fitted, risk = _fit(known, model)
    yield SourceVerdict(
        OUT_OF_FOLD, known, risk, production, models.predict(fitted, production.rows)
    )


def _fit(table: Table, model: str) -> tuple[models.Model, Vector]:
    """Return the model, and the risks out of fold of its own rows."""
    if model == RECIPE:
        learned = selection.select_model(table)
        return learned.model, learned.risk
    score = selection.cross_validate(
        table, model, selection.ALL_ROWS, selection.make_folds(table, 0)
    )
    return quality.alone(model)(table), metrics.expit(score)


def likelihood(rows: pd.DataFrame, shift: str, times: float) -> Vector:
    """How likely each client is to be drawn: (n,), summing to 1."""
    if shift == "none":
        weight = np.ones(len(rows))
    elif "=" in shift:
        column, level = shift.split("=")
        weight = np.where(rows[column] == level, times, 1.0)
    else:
        column, number = shift.split(">")
        weight = np.where(rows[column] > float(number), times, 1.0)
    return weight / weight.sum()


def hold(judged: SourceVerdict, drawn: np.ndarray, *, twice: bool) -> Iterator[dict[str, object]]:
    """Estimate one batch, by a second opinion too, and hold what was said against its outcomes."""
    risk, outcome = judged.risk[drawn], judged.production.outcome[drawn]
    reference = {
        "reference_risk": judged.reference_risk,
        "reference_outcome": judged.before.outcome,
    }
    first = performance.estimate(risk, capacity=CAPACITY, **reference)
    opinions = {"first": first}
    if twice:
        columns = (judged.before.numeric, judged.before.categorical)
        batch = judged.production.rows.iloc[drawn]
        weighing = performance.weigh(judged.before.rows, batch, *columns)
        second = performance.second_opinion(risk, weighing, capacity=CAPACITY, **reference).estimate
        opinions |= {"second": second} if second else {}
    realised = metrics.roc_auc(outcome, risk).value
    unchanged = abs(first.reference_roc_auc.value - realised)
    was = float(judged.before.outcome.mean())
    for opinion, found in opinions.items():
        yield {
            "opinion": opinion,
            "has second": "second" in opinions,
            "alarm": found.verdict == performance.DEGRADED,
            "dropped": realised < first.reference_roc_auc.value - performance.LEAST_AUC_DROP,
            "unchanged rate": abs(was - outcome.mean()),
            "unchanged auc": unchanged,
        } | {
            f"{one.figure} {name}": told
            for one in performance.check_estimate(found, outcome, risk)
            if one.figure in FIGURES
            for name, told in (
                ("MAE", abs(one.error)),
                ("bias", one.error),
                ("cover", one.is_covered),
            )
        }


def late(options: argparse.Namespace) -> int:
    (config_path, data), lines = options.table, []
    table = quality.read_table(config_path, data)
    each = -(-options.draws // options.splits)
    for split in tqdm(range(options.splits), desc="splits", disable=None):
        for judged in judge(table, split, options.model):
            rng = np.random.default_rng(split)
            for shift, times in options.shift or SHIFTS:
                chance = likelihood(judged.production.rows, shift, float(times))
                for draw in range(each):
                    drawn = rng.choice(
                        len(chance), options.rows, replace=options.with_replacement, p=chance
                    )
                    said = hold(judged, drawn, twice=draw < options.second)
                    keys = {"reference": judged.way, "shift": f"{shift} x{float(times):g}"}
                    lines += [keys | {"split": split} | one for one in said]
    found = pd.DataFrame(lines)
    keys = ["reference", "shift"]
    first = found[found["opinion"] == "first"]
    both = found[found["has second"]]
    print(f"{data.stem}: {options.splits} splits x {each} draws of {options.rows:,} clients")
    _print("first opinion, every draw", first, keys)
    if len(both):
        _print("where there is a second opinion, both", both, [*keys, "opinion"])
    return 0


def _print(title: str, found: pd.DataFrame, keys: list[str]) -> None:
    kept = found.drop(columns=[c for c in ("opinion", "has second") if c not in keys])
    table = kept.groupby(keys, sort=False).mean(numeric_only=True).drop(columns="split")
    table.insert(0, "draws", kept.groupby(keys, sort=False).size())
    print(f"\n{title}")
    with pd.option_context("display.width", 250, "display.max_columns", 30):
        print(table.to_string(float_format=lambda value: f"{value:.3f}"))


def value(options: argparse.Namespace) -> int:
    """Cover of the value at risk, by rows and by the tail of the values."""
    lines = []
    cells = [(1000, 1.5, options.portfolios)]
    fewer = max(1, options.portfolios // 5)
    cells += [(n, sigma, fewer) for n in (100, 1000, 10_000) for sigma in (0.5, 1.0, 1.5)]
    cells += [(1000, ONE_IS_HALF, fewer)]
    for n, sigma, portfolios in tqdm(cells, desc="portfolios", disable=None):
        start, checks = time.process_time(), []
        for seed in range(portfolios):
            checks += _portfolio(np.random.default_rng([seed, n, int(10 * sigma)]), n, sigma)
        seconds = (time.process_time() - start) / portfolios
        cover = {one.figure: one.coverage for one in performance.estimate_accuracy(checks)}
        at_risk = cover["value_at_risk"]
        lines.append(
            {
                "clients": n,
                "values": "one is half" if sigma == ONE_IS_HALF else f"sigma {sigma}",
                "portfolios": portfolios,
                "cover of value": f"{at_risk.value:.3f} ({at_risk.low:.3f} to {at_risk.high:.3f})",
            }
            | {f"of {name}": f"{cover[name].value:.3f}" for name in FIGURES if name in cover}
            | {"CPU s each": f"{seconds:.2f}"}
        )
    print(pd.DataFrame(lines).to_string(index=False))
    return 0


def _portfolio(
    rng: np.random.Generator, n: int, sigma: float
) -> tuple[performance.EstimateCheck, ...]:
    """Estimate one portfolio by risks that are wrong by a slope and a shift that the reference shows."""
    slope, shift = rng.normal(1, 0.1), rng.normal(0, 0.2)

    def draw(rows: int) -> tuple[Vector, Vector]:
        truth = rng.beta(1, 4, rows)
        outcome = (rng.random(rows) < truth).astype(float)
        return metrics.expit(slope * metrics.log_odds(truth) + shift), outcome

    reference_risk, reference_outcome = draw(3000)
    risk, outcome = draw(n)
    worth = rng.lognormal(4, sigma, n) if sigma != ONE_IS_HALF else np.ones(n)
    if sigma == ONE_IS_HALF:
        worth[0] = n - 1.0
    found = performance.estimate(
        risk,
        reference_risk=reference_risk,
        reference_outcome=reference_outcome,
        value=worth,
        capacity=CAPACITY,
    )
    return performance.check_estimate(found, outcome, risk, worth)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("late")
    command.set_defaults(run=late)
    command.add_argument("--table", nargs=2, required=True, metavar=("CONFIG", "CSV"), type=Path)
    command.add_argument("--draws", type=int, default=300)
    command.add_argument("--splits", type=int, default=10)
    command.add_argument("--rows", type=int, default=1000)
    command.add_argument("--second", type=int, default=6, help="second opinions a split")
    command.add_argument("--model", choices=(RECIPE, *models.SIMPLEST_FIRST), default=RECIPE)
    command.add_argument("--with-replacement", action="store_true")
    command.add_argument("--shift", nargs=2, action="append", metavar=("SHIFT", "TIMES"))
    command = commands.add_parser("value")
    command.set_defaults(run=value)
    command.add_argument("--portfolios", type=int, default=1000)
    options = parser.parse_args(argv)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
