"""Simulate years of the experiment, and measure what its looks and intervals are worth.

Clients are listed, assigned, looked at and estimated by the product's own functions. Their risks and
values are those of the sample company's most valuable risks, half of whom would leave; outcomes are
drawn with the true risks, which contacts change by a planted effect. Assignments are recomputed from
the key, as each assessment does.

`goals`: the cells that the documentation shows, with the goal beside each figure.
`grid`: other base rates, sizes and shares held out, without an effect and with one.

Run: python -m benchmarks.experiment goals [--runs 1000]
     python -m benchmarks.experiment grid [--runs 300]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from attrition.contacts import ranking
from attrition.contacts.experiment import (
    CONTROL,
    HARMS,
    HELPS,
    TREATED,
    VOID,
    Trial,
    compare_with_draw,
)
from attrition.contacts.ranking import Book, Capacity, ContactList
from attrition.effect import looks
from attrition.effect.estimation import (
    Arms,
    check_draws,
    check_lost,
    check_ratio,
    count_contacted,
    estimate,
)
from benchmarks import simulation

FIRST, MONTHS, QUARTER = date(2026, 1, 1), 12, 3
SHARE, LISTED = 0.2, 100
ROOM = 1.5  # clients a month for each one who is expected above the line
POOL = 1200
KEY, KEYS = b"key", 200  # of the draws; of lists that are refilled
COVERS, NO_GOAL = (0.93, 0.97), (np.nan, np.nan)
FOURTH = [CONTROL, TREATED, TREATED, TREATED]


@dataclass(frozen=True)
class Pool:
    """Clients to draw from, (n,) each; risk: the true one."""

    risk: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Cell:
    """What is planted. effect: what a contact adds to the risk of a client who is reached; reached: the
    share of treated clients who are; contaminated: that of controls; factor: the known risk is so many
    times the true one; noise: SD of its log-odds; drawn: the share that is held out instead of `share`,
    or the arms that are dealt out in turn; lost: the share of treated units that are not stored;
    vanished: the shares whose rows vanish, of those who stay after a contact and of all others
    """

    name: str
    effect: float = 0.0
    reached: float = 1.0
    contaminated: float = 0.0
    factor: float = 1.0
    noise: float = 0.0
    share: float = SHARE
    listed: int = LISTED
    drawn: float | Sequence[str] | None = None
    lost: float = 0.0
    vanished: tuple[float, float] = (0.0, 0.0)


class Year(NamedTuple):
    """The units of a year, (n,) each: their month, what a contact adds to the risk, and the draws."""

    arms: Arms
    month: np.ndarray
    change: np.ndarray
    is_recomputed: np.ndarray
    is_moved: np.ndarray
    is_lost: np.ndarray

    def check(self, is_in: np.ndarray) -> tuple[bool, bool, bool]:
        """Whether some units have the planned share of controls, are as drawn, and vanish alike."""
        ratio = check_ratio(self.arms.is_control[is_in], self.arms.share[is_in])
        draws = check_draws(np.flatnonzero(is_in), self.is_recomputed[is_in], self.is_moved[is_in])
        lost = check_lost(self.arms.is_control[is_in], self.is_lost[is_in], self.arms.share[is_in])
        is_alike = lost is None or lost["is_valid"]
        return ratio is None or ratio["is_valid"], draws["is_valid"], is_alike


def sample_clients() -> Pool:
    """The current clients of the sample company, sorted by value at risk."""
    rows = simulation.simulate(months=simulation.SAMPLE_BOOK_MONTH + 1)
    rows = rows[rows["observed_on"] == rows["observed_on"].max()]
    risk, value = simulation.true_risk(rows), rows["annual_contract_value"].to_numpy(float)
    order = np.argsort(-risk * value, kind="stable")
    return Pool(risk[order], value[order])


def make_list(
    pool: Pool, order: str, capacity: int, draw: Callable[[list[int]], list[str]] | None
) -> ContactList:
    """The list of clients who are sorted by risk."""
    n = len(pool.risk)
    book = Book(
        risk=pool.risk,
        value=pool.value,
        value_at_risk=pool.risk * pool.value,
        manager=np.zeros(n, "int32"),
        managers=("",),
        due=np.full(n, "NaT", "datetime64[D]"),
        previous_rank=np.zeros(n, "int32"),
        risk_change=np.full(n, np.nan),
    )
    places = ranking.order_of_list(book, order)
    return ranking.make_list(book, places, {}, Capacity(capacity, {}), FIRST.isoformat(), draw)


def plan(cell: Cell, quarter: str) -> Trial:
    return Trial(quarter, cell.share, KEY, (), np.inf, {})


def draw_by(cell: Cell, trial: Trial) -> Callable[[list[int]], list[str]]:
    if cell.drawn is not None and not isinstance(cell.drawn, float):
        return lambda rows: [cell.drawn[row % len(cell.drawn)] for row in rows]
    trial = trial._replace(share=cell.drawn or cell.share)
    return lambda rows: [trial.arm(str(row), None) for row in rows]


def live(cell: Cell, pool: Pool, run: int) -> Year:
    rng, units, assigned = np.random.default_rng(run), [], []
    for month in range(MONTHS):
        n = int(ROOM * cell.listed / (1 - cell.share)) + 10
        client = rng.integers(len(pool.risk), size=n)
        client = client[np.argsort(-pool.risk[client], kind="stable")]
        one = Pool(pool.risk[client], pool.value[client])
        trial = plan(cell, f"{run} {month}")
        arms = make_list(one, "value_at_risk", cell.listed, draw_by(cell, trial)).arms
        rows = np.fromiter(arms, int)
        assigned += trial.new_assignments(arms, read, FIRST.isoformat(), "")
        is_control = np.array([arm == CONTROL for arm in arms.values()])
        units.append((one.risk[rows], one.value[rows], is_control, np.full(len(rows), month)))
    true, value, is_control, month = (np.concatenate(part) for part in zip(*units, strict=True))
    n = len(month)
    is_reached = rng.random(n) < np.where(is_control, cell.contaminated, cell.reached)
    change = np.clip(true + cell.effect, 0, 1) - true
    churned = rng.random(n) < true + change * is_reached
    odds = np.log(true / (1 - true)) + rng.normal(0, cell.noise, n)
    risk = cell.factor / (1 + np.exp(-odds))
    arms = Arms(is_control, churned, risk, value, is_reached, np.full(n, cell.share))
    drawn = compare_with_draw(assigned, KEY)
    is_recomputed = np.array([each is not None for each in drawn])
    is_moved = np.array([each is False for each in drawn])
    is_stored = is_control | (np.random.default_rng([run, 1]).random(n) >= cell.lost)
    vanished, others = cell.vanished
    chance = np.where(is_reached & ~is_control & ~churned, vanished, others)
    is_lost = np.random.default_rng([run, 2]).random(n) < chance
    columns = (month, change, is_recomputed, is_moved, is_lost)
    return Year(Arms(*(each[is_stored] for each in arms)), *(each[is_stored] for each in columns))


def read(rows: Sequence[int]) -> list[dict[str, object]]:
    """The clients in rows of the book; only their names count here."""
    nothing = {"risk": 0.5, "value": None, "observed_at": ""}
    return [nothing | {"client": str(row)} for row in rows]


def judge(cell: Cell, pool: Pool, run: int) -> dict[str, float]:
    """Look at a year four times, and compare the last estimate with what was planted."""
    year = live(cell, pool, run)
    arms, month, change, *_ = year
    verdicts = []
    for months in range(QUARTER, MONTHS + 1, QUARTER):
        look, _ = looks.schedule(FIRST, looks.add_months(FIRST, months))
        assert look is not None
        is_known = (month < months) & ~year.is_lost
        known = Arms(*(column[is_known] for column in arms))
        effect, checks = estimate(known), year.check(month < months)
        verdicts.append(looks.decide(effect, look, is_valid=all(checks)))
    contacted = count_contacted(arms.is_reached[arms.is_control])
    figures: dict[str, float] = {
        "helps": HELPS in verdicts,
        "harms": HARMS in verdicts,
        "void": verdicts[-1] == VOID,
        "ratio alone": not checks[0],
        "named": bool(contacted and contacted["is_high"]),
        "welch": effect.method == "welch",
        "units": len(month),
        "rate": arms.churned[arms.is_control].mean() if arms.is_control.any() else np.nan,
    }
    reached, n = cell.reached - cell.contaminated, (~arms.is_control).sum()
    planted = {
        "difference": (effect.difference, change.mean() * reached),
        "per reached": (effect.per_reached, change.mean()),
        "money": (effect.money, -n * (arms.value * change)[~arms.is_control].mean() * reached),
    }
    for name, (interval, value) in planted.items():
        if interval is not None:
            fields = interval if isinstance(interval, dict) else interval._asdict()
            figures[f"{name} covers"] = fields["low"] <= value <= fields["high"]
    return figures


def measure(cell: Cell, pool: Pool, runs: int) -> pd.Series:
    """The mean figures of years."""
    years = pd.DataFrame([judge(cell, pool, run) for run in range(runs)])
    return years.astype(float).mean()


def refill(clients: Pool, order: str) -> float:
    """The share of the value at risk that a list keeps if it is refilled below the held-out clients."""
    at_risk = clients.risk * clients.value
    whole = at_risk[make_list(clients, order, LISTED, None).rows].sum()
    kept = []
    for key in range(KEYS):
        draw = draw_by(Cell(""), plan(Cell(""), str(key)))
        kept.append(at_risk[make_list(clients, order, LISTED, draw).rows].sum() / whole)
    return float(np.mean(kept))


def power(n: int, held_out: float) -> float:
    """The probability that the exact test finds `held_out` of n units instead of `SHARE`."""
    unit, share = np.arange(n), np.full(n, SHARE)
    ratios = (check_ratio(unit < controls, share) for controls in range(n + 1))
    is_found = np.array([ratio is not None and not ratio["is_valid"] for ratio in ratios])
    return float(stats.binom.pmf(np.arange(n + 1), n, held_out)[is_found].sum())


def goals(runs: int) -> int:
    clients = sample_clients()
    pool = Pool(clients.risk[:POOL], clients.value[:POOL])
    no, helps = Cell("no effect"), Cell("-8 points", effect=-0.08)
    partly = Cell("-8 points, 60 % reached", effect=-0.08 / 0.6, reached=0.6)
    covers = {"difference covers": COVERS}
    per_reached = {"per reached covers": COVERS}
    broken, unseen = {"void": (0.99, 1.0), "ratio alone": NO_GOAL}, {"void": NO_GOAL}
    asked: list[tuple[Cell, dict[str, tuple[float, float]]]] = [
        (no, {"helps": (0, 0.06), "harms": (0, 0.06), "void": (0, 0.005), **covers}),
        (helps, {"helps": (0.75, 1), **covers, "money covers": COVERS}),
        (replace(helps, name="risks 10 % too low", factor=0.9), {"helps": (0.75, 1), **covers}),
        (partly, {**covers, **per_reached, "named": (0, 0.01)}),
        (
            replace(partly, name="15 % of controls contacted", contaminated=0.15),
            {"named": (0.95, 1), **covers, **per_reached},
        ),
        (replace(no, name="every fourth held out", drawn=FOURTH), broken),
        (replace(no, name="25 % held out by chance", drawn=0.25), broken),
        (
            replace(no, name="30 % of those who stay after a contact vanish", vanished=(0.3, 0.0)),
            {"void": (0.99, 1.0)},
        ),
        (
            replace(no, name="5 % vanish, whatever their arm", vanished=(0.05, 0.05)),
            {"void": (0, 0.005), "helps": (0, 0.06), "harms": (0, 0.06)},
        ),
        # 133 listed a month, of whom 100 are stored: 1,600 units too
        (replace(no, name="a fourth of the listed lost", listed=133, lost=0.25), unseen),
    ]
    rows: list[tuple[str, str, float, float, float]] = []
    for cell, figures in tqdm(asked, desc="cells", disable=None):
        mean = measure(cell, pool, runs)
        figures = {**figures, **({"rate": (0.45, 0.55)} if cell is no else {})}
        rows += [(cell.name, name, mean[name], *goal) for name, goal in figures.items()]
    rows.append(("400 of 1,600 held out", "power of the exact test", power(1600, 0.25), *NO_GOAL))
    order = np.argsort(-clients.risk, kind="stable")
    by_risk = Pool(clients.risk[order], clients.value[order])
    for name in ("value_at_risk", "risk"):
        rows.append(("refilled list", f"kept, by {name}", refill(by_risk, name), 0.9, np.inf))
    table = pd.DataFrame(rows, columns=["cell", "figure", "measured", "at least", "at most"])
    is_met = table["measured"].between(table["at least"], table["at most"])
    table["met"] = is_met.astype(str).where(table["at least"].notna(), "no goal")
    print(f"{runs:,} years a cell")
    print(table.to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return 0 if is_met[table["at least"].notna()].all() else 1


def grid(runs: int) -> int:
    rng, rows = np.random.default_rng(0), []
    sizes = [*product((0.03, 0.1, 0.3, 0.6, 0.9), (10, 40, 100), (0.05, 0.2, 0.5))]
    for rate, listed, share in tqdm(sizes, desc="cells", disable=None):
        risk = rng.beta(4 * rate, 4 * (1 - rate), 5000).clip(0.005, 0.995)
        pool = Pool(risk, rng.lognormal(8, 1.5, 5000))
        for effect in (0.0, -0.4 * rate):
            cell = Cell("", effect, reached=0.7, noise=0.5, share=share, listed=listed)
            planted = {"listed": listed, "share": share, "effect": effect}
            rows.append(planted | measure(cell, pool, runs).to_dict())
    table = pd.DataFrame(rows).drop(columns="named")
    print(table.to_string(index=False, float_format="{:.3f}".format))
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run, runs in (("goals", goals, 1000), ("grid", grid, 300)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--runs", type=int, default=runs, help="years a cell")
    options = parser.parse_args(argv)
    return int(options.run(options.runs))


if __name__ == "__main__":
    sys.exit(main())
