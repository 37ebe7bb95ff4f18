"""Feed a company month by month, with outcomes as they arrive in practice, and check its contact list.

Each month 2,000 clients are observed; if a client leaves, a new one takes its place, and the others are
observed again a month later. Six months arrive with every outcome. Then each month arrives open, and its
outcomes later, as the scenario describes. The steps run after each delivery. Two figures are computed
over the current clients, whose true risks are known: the efficiency (mean true risk of the 100 listed
clients / of the best possible 100) and the level (sum of the risks / true expected number). The
efficiency is compared with that of other models:

never   the first release, never updated
always  boosting, fitted to all known outcomes after each delivery
recent  boosting, fitted to the known outcomes since the change

Return 1 if a bound of `SCENARIOS` is broken.

Run: python -m benchmarks.life [--scenario NAME ...] [--seed N ...] [--months 4] [--whole]
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.ensemble import HistGradientBoostingClassifier

import diagnostics
import fullprocess
import reporting
from attrition import config_file
from attrition.config import Config
from attrition.modelling import models
from attrition.operations import releases
from attrition.storage import files, history
from benchmarks.project import make_project

CLIENTS, LISTED, BURN_IN = 2_000, 100, 12
FIRST = 7  # the first month that arrives open
MIN_EFFICIENCY, MIN_LEVEL, MAX_LEVEL = 0.95, 0.8, 1.25
ODD_ROWS, TRICKLE_ROWS, EARLY_STAYERS = 400, 60, 0.03
# The size of a middling value of each numeric feature.
NUMERIC = {"logins": 20.0, "tickets": 3.0, "seats": 15.0, "tenure": 30.0, "fee": 400.0, "age": 8.0}
PLAN, REGION = pd.CategoricalDtype(list("abc")), pd.CategoricalDtype(list("nesw"))
FEATURES = [*NUMERIC, "plan", "region"]
TABLE = ["client", "seen_on", *FEATURES, "left"]
COLUMNS = {
    **{"client": "client", "time": "seen_on", "outcome": "left"},
    **{"numeric": list(NUMERIC), "categorical": ["plan", "region"]},
}
# Kept from month to month, the rest is new; the weights of the main effects on the log-odds.
KEPT = 0.9
INTERCEPT, WEIGHTS, PLAN_WEIGHTS = -2.4, (-1.0, 0.8, 0.6, -0.5, 0.0, 0.0), (0.5, 0.0, -0.5)

Cohorts = dict[int, pd.DataFrame]
Delivery = dict[str, pd.DataFrame]
Predict = Callable[[pd.DataFrame], np.ndarray]  # rows to risks


# ---- the scenarios: each function returns the deliveries that contain the outcomes of a month


def complete(cohorts: Cohorts, month: int, rng: np.random.Generator) -> list[Delivery]:
    return [{f"outcomes-{month:02d}": cohorts[month]}]


def leavers_first(cohorts: Cohorts, month: int, rng: np.random.Generator) -> list[Delivery]:
    rows = cohorts[month]
    is_early = (rows["left"] == 1) | (rng.random(len(rows)) < EARLY_STAYERS)
    part = np.where(is_early, rng.integers(2, size=len(rows)), 2)
    return [{f"outcomes-{month:02d}-{i}": rows[part == i]} for i in range(3)]


def leavers_only(cohorts: Cohorts, month: int, rng: np.random.Generator) -> list[Delivery]:
    """Return those who left; after the last month, also those who stayed in all months."""
    deliveries = [{f"left-{month:02d}": cohorts[month].query("left == 1")}]
    if month + 1 == max(cohorts):
        months = range(FIRST, month + 1)
        deliveries.append({f"stayed-{m:02d}": cohorts[m].query("left == 0") for m in months})
    return deliveries


def odd_file(cohorts: Cohorts, month: int, rng: np.random.Generator) -> list[Delivery]:
    """Return complete outcomes; in the first month, before them, other clients with random outcomes."""
    deliveries = complete(cohorts, month, rng)
    if month > FIRST:
        return deliveries
    company = simulate(int(rng.integers(1_000, 9_000)), month, Scenario(), clients=ODD_ROWS)
    odd = company[month].assign(left=rng.integers(2, size=ODD_ROWS))
    odd["client"] = "x" + odd["client"]
    return [{"odd": odd}, *deliveries]


def trickle(cohorts: Cohorts, month: int, rng: np.random.Generator) -> list[Delivery]:
    return [{f"some-{month:02d}": cohorts[month].sample(TRICKLE_ROWS, random_state=rng)}]


@dataclass(frozen=True)
class Scenario:
    """What changes in which months, how outcomes arrive, and the bounds.

    shift: of the log-odds; sign: of the main effects; factor: of the numbers of one column; peers: the
    models of which the better one is the standard of the efficiency; efficiency_from, level_from: the
    first month whose current clients are checked, none if None; deployments: most after the first
    """

    deliver: Callable[[Cohorts, int, np.random.Generator], list[Delivery]] = complete
    changed: Sequence[int] = ()
    shift: float = 0.0
    sign: int = 1
    factor: float = 1.0
    peers: tuple[str, ...] = ("never", "always")
    efficiency_from: int = FIRST
    level_from: int | None = FIRST
    deployments: int | None = 1
    must_name: str = ""


FROM_NOW = range(FIRST, 1_000)
# After a change in month 7, the outcomes of two months are complete when month 9 is current.
TWO_COHORTS_LATER = FIRST + 2
SCENARIOS = {
    "calm": Scenario(),
    "leavers first": Scenario(leavers_first),
    "leavers only": Scenario(leavers_only),
    "odd file": Scenario(odd_file, must_name="odd.csv"),
    "level": Scenario(changed=FROM_NOW, shift=0.9, level_from=TWO_COHORTS_LATER, deployments=None),
    "reversal": Scenario(
        changed=FROM_NOW,
        sign=-1,
        peers=("recent",),
        efficiency_from=TWO_COHORTS_LATER,
        level_from=None,
        deployments=None,
    ),
    "trickle": Scenario(trickle),
    "other units": Scenario(
        changed=[FIRST + 1], factor=100.0, efficiency_from=FIRST + 2, level_from=FIRST + 2
    ),
    # There and back: one deployment each.
    "season": Scenario(changed=[FIRST], shift=0.9, level_from=TWO_COHORTS_LATER + 1, deployments=2),
}


# ---- the company


def simulate(seed: int, months: int, scenario: Scenario, *, clients: int = CLIENTS) -> Cohorts:
    """Simulate months 1 to `months`: their observations, with the outcome and the true `risk`."""
    rng = np.random.default_rng(seed)
    z, plan = rng.normal(size=(clients, len(NUMERIC))), rng.integers(3, size=clients)
    region, client = rng.integers(4, size=clients), np.arange(clients)
    cohorts = {}
    for month in range(1 - BURN_IN, months + 1):
        is_changed = month in scenario.changed
        main = z @ WEIGHTS + np.take(PLAN_WEIGHTS, plan)
        log_odds = INTERCEPT + scenario.shift * is_changed + 0.4 * z[:, 4] * z[:, 5]
        risk = 1 / (1 + np.exp(-log_odds - main * (scenario.sign if is_changed else 1)))
        left = rng.random(clients) < risk
        numbers = np.round(np.exp(z / 2) * list(NUMERIC.values()), 2)
        cohorts[month] = pd.DataFrame(numbers, columns=list(NUMERIC)).assign(
            client=[f"c{i:06d}" for i in client],
            seen_on=f"{2025 + (month + 5) // 12}-{(month + 5) % 12 + 1:02d}-01",
            plan=PLAN.categories[plan],
            region=REGION.categories[region],
            left=left.astype(int),
            risk=risk,
        )
        z = KEPT * z + np.sqrt(1 - KEPT**2) * rng.normal(size=z.shape)
        new = int(left.sum())
        z[left], plan[left] = rng.normal(size=(new, len(NUMERIC))), rng.integers(3, size=new)
        client[left] = client.max() + 1 + np.arange(new)
    return {month: rows for month, rows in cohorts.items() if month > 0}


def fit_boosting(rows: pd.DataFrame) -> Predict:
    """Fit boosting to rows with an outcome."""

    def prepare(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[FEATURES].astype({"plan": PLAN, "region": REGION})

    model = HistGradientBoostingClassifier(random_state=0).fit(prepare(rows), rows["left"])
    return lambda rows: model.predict_proba(prepare(rows))[:, 1]


# ---- a life


class Life:
    """A project after its first release, and the outcomes delivered to it."""

    def __init__(self, config: Config, scenario: Scenario, cohorts: Cohorts) -> None:
        self.config, self.scenario, self.cohorts = config, scenario, cohorts
        self.first = releases.load_model(releases.read_current(config.production_folder))
        self.outcomes = [cohorts[month] for month in range(1, FIRST)]
        self.sources: set[str] = set()
        self.broken: list[str] = []

    def remember(self, delivery: Delivery) -> None:
        """Add the outcomes of a delivery, and the sources that the run names as suspicious."""
        self.outcomes += [rows for rows in delivery.values() if is_numeric_dtype(rows["left"])]
        record = files.read_record(self.config.monitoring_record) or {}
        self.sources |= {entry["source"] for entry in record.get("suspicious", [])}

    def fit_others(self) -> dict[str, Predict]:
        """Fit the models that the list is compared with to the outcomes so far."""
        known = pd.concat(self.outcomes)
        others = {
            "never": lambda rows: models.predict(self.first, rows),
            "always": fit_boosting(known),
        }
        recent = known[known["seen_on"] >= self.cohorts[FIRST]["seen_on"].iloc[0]]
        if "recent" in self.scenario.peers and recent["left"].nunique() == 2:
            others["recent"] = fit_boosting(recent)
        return others

    def measure(self, month: int) -> dict[str, float]:
        """Compute the efficiency of each model, and the level, over the current clients."""
        assessed = pd.read_csv(self.config.risk_scores, dtype={"client": str})
        listed = pd.read_csv(self.config.contact_list, dtype={"client": str})["client"]
        seen = pd.concat(rows for m, rows in self.cohorts.items() if m <= month)
        latest = seen.drop_duplicates("client", keep="last").set_index("client")
        current = latest.loc[assessed["client"]]
        risk = current["risk"].to_numpy()
        best = np.sort(risk)[-LISTED:].mean()
        figures = {"efficiency": latest.loc[listed, "risk"].mean() / best}
        for name, predict in self.fit_others().items():
            top = np.argsort(-predict(current), kind="stable")[:LISTED]
            figures[name] = risk[top].mean() / best
        return figures | {"level": assessed["risk"].sum() / risk.sum()}

    def check(self, month: int) -> dict[str, float]:
        """Return the figures of the current clients, and note each bound that they break."""
        scenario, figures = self.scenario, self.measure(month)
        efficiency, level = figures["efficiency"], figures["level"]
        standard = max(figures.get(name, 0.0) for name in scenario.peers)
        is_low = efficiency < MIN_EFFICIENCY * standard
        if is_low and month >= scenario.efficiency_from:
            self.broken.append(f"month {month}: efficiency {efficiency:.2f} of {standard:.2f}")
        is_off = not MIN_LEVEL <= level <= MAX_LEVEL
        if is_off and scenario.level_from and month >= scenario.level_from:
            self.broken.append(f"month {month}: level {level:.2f}")
        return figures

    def check_end(self) -> None:
        """Note a bound on the whole life that is broken: deployments, the file to name."""
        count, limit = self.count_deployments(), self.scenario.deployments
        if limit is not None and count > limit:
            self.broken.append(f"{count} deployments after the first")
        if (name := self.scenario.must_name) and name not in self.sources:
            self.broken.append(f"{name} not named")

    def count_deployments(self) -> int:
        """Count those after the first."""
        return len(find_deployments(self.config)) - 1


def run_steps(config: Config, *, whole: bool = False) -> None:
    """Run the whole process, or only the steps up to the contact list."""
    if whole:
        code = fullprocess.main(["--config", str(config.file), "--quiet"])
        assert code == 0, f"the run ended {code}"
        return
    skipped = SimpleNamespace(up_to_date=True, seal="", summary=lambda: "skipped")
    with ExitStack() as stack:
        for step, name in ((diagnostics, "run_diagnostics"), (reporting, "write_report")):
            stack.enter_context(patch.object(step, name, lambda *inputs: skipped))
        fullprocess.process(config, fullprocess.find_sources(config))


def find_deployments(config: Config) -> history.Rows:
    rows = history.read_deployments(config.history)
    return [row for row in rows if row["action"] == "promoted"]


def make_company(folder: Path, cohorts: Cohorts) -> Config:
    """Make a project of the first six months and the first open one; it is not run yet."""
    config = make_project(
        folder, columns=COLUMNS, databases=[], contact_order="risk", contact_capacity=LISTED
    )
    for path in config.test_folder.iterdir():  # of the sample company
        path.unlink()
    past = {f"history-{month:02d}": cohorts[month] for month in range(1, FIRST)}
    write(config, past | observations(cohorts, FIRST))
    return config


def observations(cohorts: Cohorts, month: int) -> Delivery:
    return {f"open-{month:02d}": cohorts[month].assign(left="")}


def write(config: Config, delivery: Delivery) -> None:
    for name, rows in delivery.items():
        rows[TABLE].to_csv(config.input_folder / f"{name}.csv", index=False)


def live(config: Config, scenario: Scenario, seed: int, months: int, *, whole: bool) -> Life:
    """Run a scenario from the first release on, and print a line for each delivery."""
    rng, end = np.random.default_rng(seed), FIRST + months
    cohorts = simulate(seed, end, scenario)
    arriving = {
        month: rows.assign(seats=rows["seats"] * scenario.factor)
        if month in scenario.changed
        else rows
        for month, rows in cohorts.items()
    }
    life = Life(config, scenario, cohorts)
    report(life, FIRST, "history", deployed=1)
    for month in range(FIRST, end):
        *early, final = scenario.deliver(arriving, month, rng)
        deliveries = [(month, delivery) for delivery in early]
        deliveries.append((month + 1, final | observations(arriving, month + 1)))
        for current, delivery in deliveries:
            deployed = len(find_deployments(config))
            write(config, delivery)
            run_steps(config, whole=whole)
            life.remember(delivery)
            report(life, current, " ".join(delivery), deployed=deployed)
    life.check_end()
    return life


def report(life: Life, month: int, delivery: str, *, deployed: int) -> None:
    """Print the figures after a delivery, and the deployments since the first `deployed`."""
    broken = len(life.broken)
    figures = "  ".join(f"{name} {figure:.2f}" for name, figure in life.check(month).items())
    mark = "  BROKEN" if len(life.broken) > broken else ""
    print(f"  month {month:2d}  {delivery:32s} {figures}{mark}", flush=True)
    for row in find_deployments(life.config)[deployed:]:
        print(f"      {row['reason']}")


def main(argv: list[str] | None = None) -> int:
    """Return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--months", type=int, default=4, help="after the first six")
    parser.add_argument("--whole", action="store_true", help="run diagnostics and reporting too")
    options = parser.parse_args(argv)
    broken = 0
    for seed in options.seed:
        with tempfile.TemporaryDirectory() as place:
            # Until the first release, all scenarios are the same.
            company = make_company(Path(place) / "first", simulate(seed, FIRST, Scenario()))
            run_steps(company, whole=options.whole)
            for name in options.scenario:
                print(f"{name}, seed {seed}")
                folder = shutil.copytree(company.file.parent, Path(place) / name, symlinks=True)
                config = config_file.load(folder / company.file.name)
                scenario = SCENARIOS[name]
                life = live(config, scenario, seed, options.months, whole=options.whole)
                deployments = f"{life.count_deployments()} deployments after the first"
                suspicious = f"suspicious: {', '.join(sorted(life.sources)) or 'none'}"
                verdict = "; ".join(life.broken) or "within bounds"
                print(f"{name}, seed {seed}: {deployments}; {suspicious}; {verdict}", flush=True)
                broken += bool(life.broken)
    print(f"{broken} of {len(options.scenario) * len(options.seed)} lives broke a bound")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
