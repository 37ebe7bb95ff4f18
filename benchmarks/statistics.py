"""Show by simulation what the statistics promise: false alarms, power, ugly data, the gate, the cost.

Everything goes through the functions that the steps call. Each line of a table has its goal; the exit
code is 1 when one is missed. Peers are measured on the same frames by the Python of their own
environment (evidently, nannyml or both); see benchmarks/peers.py.

Run: python -m benchmarks.statistics drift|ageing|ugly|gate|updating|cost
     [--peers PYTHON ...] [--runs N] [--seed S]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import deployment
from attrition.modelling import calibration, metrics, selection
from attrition.modelling.metrics import Vector
from attrition.monitoring import drift, gate, updating

REFERENCE = 10_000
ALARMS = ("look", "act")

Row = dict[str, Any]


# ---- clients, drawn


@dataclass(frozen=True)
class Law:
    """The kind of each numeric column and the number of levels of each categorical one."""

    name: str
    kinds: tuple[str, ...]
    levels: tuple[int, ...]

    @property
    def numeric(self) -> list[str]:
        return [f"{kind} {i}" for i, kind in enumerate(self.kinds)]

    @property
    def categorical(self) -> list[str]:
        return [f"{count} levels {i}" for i, count in enumerate(self.levels)]


KINDS = ("normal", "normal", "lognormal", "count", "ties", "missing", "lognormal")
LEVELS = (2, 3, 5, 10, 20, 50)
MIXED = Law("mixed", KINDS * 2, LEVELS)
NORMAL = Law("normal", ("normal",) * 20, ())


@dataclass(frozen=True)
class Change:
    """What happens to some numeric columns, named by their places: so many standard deviations up, a
    share of their values lost, or a correlation of the two."""

    name: str = "no change"
    places: tuple[int, ...] = ()
    shift_sd: float = 0.0
    missing: float = 0.0
    correlation: float = 0.0


NONE = Change()


def draw(law: Law, n: int, rng: np.random.Generator, change: Change = NONE) -> pd.DataFrame:
    """Draw n clients: each column is a function of a normal variable, and so is the risk of three."""
    z = rng.standard_normal((n, len(law.kinds)))
    if change.correlation:
        first, second = change.places
        rest = np.sqrt(1 - change.correlation**2)
        z[:, second] = change.correlation * z[:, first] + rest * z[:, second]
    z[:, change.places] += change.shift_sd
    found: dict[str, Any] = {}
    for i, (name, kind) in enumerate(zip(law.numeric, law.kinds, strict=True)):
        found[name] = _values(kind, z[:, i], rate=0.3 if i < len(KINDS) else 3.0, rng=rng)
        if change.missing and i in change.places:
            found[name] = np.where(rng.random(n) < change.missing, np.nan, found[name])
    risk = -1.5 + 0.8 * z[:, 0] + 0.5 * z[:, 2]
    for name, count in zip(law.categorical, law.levels, strict=True):
        shares = 1 / np.arange(1, count + 1)
        code = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(n))
        labels = np.array(["", *(f"level {k}" for k in range(1, count))], dtype=object)
        found[name] = pd.Series(labels[code], dtype=object)
        risk += 0.4 * (code == 0) if count == LEVELS[0] else 0.0
    return pd.DataFrame(found | {drift.SCORE: special.expit(risk)})


def _values(kind: str, z: Vector, *, rate: float, rng: np.random.Generator) -> Vector:
    if kind == "lognormal":
        return np.exp(8 + z)
    if kind == "count":
        steps = stats.poisson.cdf(np.arange(30), rate)
        return np.searchsorted(steps, special.ndtr(z)).astype("float64")
    if kind == "ties":
        return np.maximum(0.0, np.round(2 * z))
    if kind == "missing":
        return np.where(rng.random(len(z)) < 0.2, np.nan, z)
    return z


# ---- drift

SIZES = (30, 100, 300, 1000, 10_000)
JOINT_N = 2000
TWO_NORMAL = (1, 8)
CORRELATED = Change("correlation 0 -> 0.6 of two columns", TWO_NORMAL, correlation=0.6)
SHIFTS = (
    (1000, 0.95, Change("0.2 SD, three normal columns", (1, 7, 8), shift_sd=0.2)),
    (1000, 0.95, Change("0.2 SD, a normal, a lognormal, a count", (1, 6, 10), shift_sd=0.2)),
    (100, 0.80, Change("0.5 SD, three normal columns", (1, 7, 8), shift_sd=0.5)),
    (100, 0.80, Change("0.5 SD, one normal column", (1,), shift_sd=0.5)),
    (1000, 0.99, Change("missing 0 -> 10 %, one normal column", (1,), missing=0.1)),
)


def look_at(law: Law, reference: pd.DataFrame, batch: pd.DataFrame) -> drift.DriftReport:
    return drift.compare_columns(reference, batch, law.numeric, law.categorical)


def alarms(look: drift.DriftReport) -> set[str]:
    return {column.column for column in look.columns if column.verdict in ALARMS}


def look_jointly(law: Law, reference: pd.DataFrame, batch: pd.DataFrame) -> bool:
    return drift.compare_jointly(reference, batch, law.numeric, law.categorical).verdict == "moved"


def measure_false_alarms(runs: int, joint_runs: int, seed: int) -> list[Row]:
    """Compare batches that nothing happened to, each with a reference of its own."""
    rows = []
    for law in (MIXED, NORMAL):
        for n in SIZES:
            looks, joint = [], []
            for run in progress(runs, f"no shift, {law.name}, n={n:,}"):
                rng = np.random.default_rng([seed, n, run])
                reference, batch = draw(law, REFERENCE, rng), draw(law, n, rng)
                looks.append(look_at(law, reference, batch))
                if run < joint_runs:
                    joint.append(look_jointly(law, reference, batch))
            alarmed = [bool(alarms(look)) for look in looks]
            either = [alarm or told for alarm, told in zip(alarmed, joint, strict=False)]
            share = np.mean(alarmed)
            rows.append(
                {"columns": law.name, "n": n, "runs": runs, "any column": share}
                | {"the score": np.mean([drift.SCORE in alarms(look) for look in looks])}
                | {"moved": np.mean([look.verdict == "moved" for look in looks])}
                | {"joint runs": len(joint), "joint": np.mean(joint), "any at all": np.mean(either)}
                | hold(share, "<=", 0.07)
            )
    return rows


def measure_power(runs: int, seed: int) -> list[Row]:
    """Plant a shift in named columns, and count how often one, all, and others are found."""
    rows = []
    for n, goal, change in SHIFTS:
        named = {MIXED.numeric[place] for place in change.places}
        found = []
        for run in progress(runs, change.name):
            rng = np.random.default_rng([seed, n, run])
            reference = draw(MIXED, REFERENCE, rng)
            found.append(alarms(look_at(MIXED, reference, draw(MIXED, n, rng, change))))
        one = np.mean([bool(named & names) for names in found])
        rows.append(
            {"planted": change.name, "n": n, "runs": runs, "one found": one}
            | {"all found": np.mean([named <= names for names in found])}
            | {"another named": np.mean([bool(names - named) for names in found])}
            | hold(one, ">=", goal)
        )
    return rows


def measure_joint_power(runs: int, seed: int) -> list[Row]:
    """Change how two columns go together, and nothing that one column shows."""
    rows = []
    for change, sign, goal in ((NONE, "<=", 0.01), (CORRELATED, ">=", 0.95)):
        joint, alone = [], []
        for run in progress(runs, f"jointly, {change.name}"):
            rng = np.random.default_rng([seed, JOINT_N, run])
            reference, batch = draw(MIXED, REFERENCE, rng), draw(MIXED, JOINT_N, rng, change)
            joint.append(look_jointly(MIXED, reference, batch))
            alone.append(bool(alarms(look_at(MIXED, reference, batch))))
        rows.append(
            {"planted": change.name, "n": JOINT_N, "runs": runs, "jointly": np.mean(joint)}
            | {"any column": np.mean(alone)}
            | hold(np.mean(joint), sign, goal)
        )
    return rows


PEERS_RUNS = 100
PEERS_CASES = (
    *((n, NONE) for n in SIZES),
    *((n, change) for n, _, change in SHIFTS),
    (JOINT_N, NONE),
    (JOINT_N, CORRELATED),
)


def measure_peers(pythons: list[str], runs: int, seed: int) -> list[Row]:
    """Hold ours and the peers against the same frames: one reference, `runs` batches a case."""
    rng = np.random.default_rng(seed)
    reference = draw(MIXED, REFERENCE, rng)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        write_frames(Path(place), MIXED, reference=reference)
        for i, (n, change) in enumerate(PEERS_CASES):
            batches = [draw(MIXED, n, rng, change) for _ in range(runs)]
            named = {MIXED.numeric[place] for place in change.places}
            ours = [alarms(look_at(MIXED, reference, batch)) for batch in batches]
            joint = np.mean([look_jointly(MIXED, reference, batch) for batch in batches])
            rows.append(
                {"case": change.name, "n": n, "ours: any": np.mean([bool(a) for a in ours])}
                | {"named": np.mean([bool(a & named) for a in ours]), "ours: joint": joint}
            )
            case = pd.concat(batches, ignore_index=True)
            write_frames(Path(place), MIXED, **{f"case-{i:02d}": case})
            (Path(place) / f"case-{i:02d}.json").write_text(json.dumps({"n": n}))
        for python in pythons:
            for peer, cases in ask_peer(python, "drift", Path(place)).items():
                for row, found in zip(rows, cases, strict=True):
                    row |= {f"{peer}: {key}": value for key, value in found.items()}
    return rows


def run_drift(options: argparse.Namespace) -> list[Row]:
    rows = measure_false_alarms(options.runs or 500, options.runs or 200, options.seed)
    show("No shift: share of runs with an alarm, reference 10,000", rows)
    rows += show("Power, reference 10,000", measure_power(options.runs or 300, options.seed))
    rows += show("All columns together", measure_joint_power(options.runs or 200, options.seed))
    if options.peers:
        runs = min(options.runs or PEERS_RUNS, PEERS_RUNS)
        peers = measure_peers(options.peers, runs, options.seed)
        show(f"Beside the peers' defaults: {runs} batches a case, the same frames", peers)
    return rows


# ---- clients who grow older

PANEL_CLIENTS, PANEL_MONTHS, TRAINED_MONTHS = 1500, 24, 6
PANEL_NUMERIC = ["tenure", "activity", "employees", "tickets"]
PANEL_RUNS = 10


def draw_panel(rng: np.random.Generator, *, replaced: bool) -> pd.DataFrame:
    """Draw 24 calm months of the same clients: tenure grows, all else varies around each client's mean.

    About 2 % leave in a month, the young and the inactive first; with `replaced`, as many new ones come.
    """
    n = PANEL_CLIENTS
    tenure, own = rng.integers(1, 61, n).astype("float64"), rng.standard_normal((n, 3))
    contract, noise, months = rng.random(n), 0.7 * rng.standard_normal(n), []
    for month in range(PANEL_MONTHS):
        n = len(tenure)
        noise = 0.7 * noise + 0.5 * rng.standard_normal(n)
        z = 0.8 * own[:, 0] + noise
        tickets = rng.poisson(np.exp(-0.5 + 0.6 * own[:, 2])).astype("float64")
        odds = (
            -3.8 - 0.6 * z + 0.3 * tickets - 0.6 * (contract > 0.6) - 0.01 * np.minimum(tenure, 60)
        )
        left = rng.random(n) < special.expit(odds)
        table = {
            "tenure": tenure,
            "activity": np.round(np.exp(4 + z)),
            "employees": np.round(np.exp(3 + own[:, 1])),
            "tickets": tickets,
            "contract": np.where(contract > 0.6, "annual", "monthly"),
            "time": f"{2024 + month // 12}-{month % 12 + 1:02d}-01",
            "exited": left.astype("float64"),
        }
        months.append(pd.DataFrame(table).assign(month=month))
        new = int(left.sum()) if replaced else 0
        tenure = np.r_[tenure[~left] + 1, np.ones(new)]
        own = np.r_[own[~left], rng.standard_normal((new, 3))]
        noise = np.r_[noise[~left], 0.7 * rng.standard_normal(new)]
        contract = np.r_[contract[~left], rng.random(new)]
    return pd.concat(months, ignore_index=True)


@dataclass(frozen=True)
class PanelModel:
    """A logistic regression on the first months of a panel, and its reference."""

    model: Any
    reference: pd.DataFrame
    record: Row

    def compare(self, batch: pd.DataFrame, time: str | None) -> drift.DriftReport:
        risk = self.model.predict_proba(batch)[:, 1]
        return drift.compare_clients(self.reference, batch, risk, self.record, time)


def fit_panel(rows: pd.DataFrame) -> PanelModel:
    numbers = make_pipeline(FunctionTransformer(np.log1p), StandardScaler())
    columns = make_column_transformer(
        (numbers, PANEL_NUMERIC), (OneHotEncoder(drop="first"), ["contract"])
    )
    model = make_pipeline(columns, LogisticRegression())
    risk = cross_val_predict(model, rows, rows["exited"], cv=5, method="predict_proba")[:, 1]
    model.fit(rows, rows["exited"])
    names = [*PANEL_NUMERIC, "contract"]
    size = np.abs(model[-1].coef_[0]) * model[:-1].transform(rows).std(axis=0)
    record = {
        "features": {"numeric": PANEL_NUMERIC, "categorical": ["contract"]},
        "importance": dict(zip(names, size / size.sum(), strict=True)),
    }
    reference = rows.assign(**{drift.SCORE: risk})
    reference = reference.sample(min(len(rows), REFERENCE), random_state=0).sort_index()
    return PanelModel(model, reference, record)


def months_asking(panel: pd.DataFrame, column: str | None) -> list[int]:
    """List the months that ask for training, which then renews model and reference."""
    fitted, asking = fit_panel(panel[panel["month"] < TRAINED_MONTHS]), []
    for month in range(TRAINED_MONTHS, PANEL_MONTHS):
        report = fitted.compare(panel[panel["month"] == month], column)
        if report.verdict == "moved":
            asking.append(month)
            fitted = fit_panel(panel[panel["month"] < month])
    return asking


def run_ageing(options: argparse.Namespace) -> list[Row]:
    runs, rows = options.runs or PANEL_RUNS, []
    for replaced in (False, True):
        for column in (None, "time"):
            name = f"those who leave are {'' if replaced else 'not '}replaced"
            months = []
            for run in progress(runs, name):
                panel = draw_panel(np.random.default_rng([options.seed, run]), replaced=replaced)
                with threadpool_limits(1):
                    months.append(len(months_asking(panel, column)))
            rows.append(
                {"clients": name, "times": "known" if column else "unknown", "runs": runs}
                | {"months, mean": np.mean(months), "most": max(months)}
                | {"runs with more than one": np.mean(np.array(months) > 1)}
                | (hold(np.mean(months), "<=", 1) if column else {})
            )
    return show("18 calm months in which clients age: months that ask for training", rows)


# ---- ugly frames

UGLY_ROWS = (0, 1, 2, 29, 30, 31, 99, 100, 101, 150, 200, 400)
MANY_LEVELS = 5000
VERDICTS = {"stable", "moved", "insufficient"}
COLUMN_VERDICTS = {"stable", "look", "act", "insufficient"}

Maker = Callable[[int, np.random.Generator], Any]


def _pick(*values: Any) -> Maker:
    """Return a maker of object columns of these values."""

    def make(n: int, rng: np.random.Generator) -> pd.Series:
        choices = np.empty(len(values), dtype=object)
        choices[:] = values
        return pd.Series(choices[rng.integers(len(values), size=n)], dtype=object)

    return make


def _cast(make: Maker, dtype: str) -> Maker:
    return lambda n, rng: make(n, rng).astype(dtype)


UGLY_NUMBERS: dict[str, Maker] = {
    "normal": lambda n, rng: rng.normal(size=n),
    "all missing": lambda n, rng: np.full(n, np.nan),
    "mostly missing": lambda n, rng: np.where(rng.random(n) < 0.9, np.nan, rng.normal(size=n)),
    "constant": lambda n, rng: np.full(n, 7.0),
    "infinite": _cast(_pick(0.0, 1.0, np.inf, -np.inf, np.nan), "float64"),
    "all infinite": lambda n, rng: np.full(n, np.inf),
    "huge": _cast(_pick(1e308, -1e308, 1.7e308, 0.0), "float64"),
    "tiny": _cast(_pick(5e-324, 1e-310, 0.0, -0.0), "float64"),
    "wide": lambda n, rng: rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n),
    "bool": lambda n, rng: rng.random(n) < 0.5,
    "int64": lambda n, rng: rng.integers(-(2**63), 2**63 - 1, n),
    "uint8": lambda n, rng: rng.integers(0, 255, n).astype("uint8"),
    "float32": lambda n, rng: rng.normal(size=n).astype("float32"),
    "object numbers": _pick(1, 2.5, -3, 10**18, True),
    "object numbers with None": _pick(1, 2.5, None, np.nan, np.float64(4)),
    "object numbers with NA": _pick(1, 2.5, pd.NA),
    "numbers as text": _pick("1", "2.5", "-3e5", None),
    "Int64 with NA": _cast(_pick(1, 2, 3, pd.NA), "Int64"),
    "Float64 with NA": _cast(_pick(1.5, 2.5, pd.NA), "Float64"),
    "boolean with NA": _cast(_pick(True, False, pd.NA), "boolean"),
}
UGLY_LEVELS: dict[str, Maker] = {
    "text": _pick("a", "b", "c", ""),
    "all missing": _pick(""),
    "all None": _pick(None),
    "all NaN": _pick(np.nan),
    "one level": _pick("only"),
    "many levels": _pick(*map(str, range(MANY_LEVELS))),
    "every row its own": lambda n, rng: pd.Series([f"row {i}" for i in range(n)], dtype=object),
    "odd text": _pick("a\0b", "a\0", "\U0001f600", " ", "\n", "nan", "None", "é", "e\u0301"),
    "half a pair": _pick("a", "\ud800"),
    "with None": _pick("a", "b", None),
    "with NaN": _pick("a", "", np.nan, None),
    "mixed": _pick("a", 1, 1.0, "1", True, "True", None, np.nan, b"a", (1, 2), pd.NaT),
    "mixed with NA": _pick("a", 1, pd.NA),
    "bool": lambda n, rng: rng.random(n) < 0.5,
    "numbers": lambda n, rng: rng.integers(0, 4, n),
    "floats": _cast(_pick(0.5, np.nan, np.inf), "float64"),
    "string": _cast(_pick("a", "b", ""), "string"),
    "string with NA": _cast(_pick("a", "b", pd.NA), "string"),
    "str": _cast(_pick("a", "b", np.nan), "str"),
    "category": _cast(_pick("a", "b", "c"), "category"),
    "category with NaN": _cast(_pick("a", "b", None), "category"),
    "Int64 with NA": _cast(_pick(1, 2, pd.NA), "Int64"),
    "boolean with NA": _cast(_pick(True, False, pd.NA), "boolean"),
}


@dataclass(frozen=True)
class Ugly:
    """A frame in the making: how many rows, the index, and the kind of each column."""

    rows: int
    index: str
    kinds: dict[str, str]
    seed: int

    def frame(self) -> pd.DataFrame:
        rng = np.random.default_rng(self.seed)
        columns = {}
        for name, kind in self.kinds.items():
            makers = UGLY_LEVELS if name.startswith("level") else UGLY_NUMBERS
            columns[name] = pd.Series(makers[kind](self.rows, rng))
        frame = pd.DataFrame(columns, index=range(self.rows))
        if self.index == "duplicated":
            frame.index = pd.Index(rng.integers(0, 3, self.rows))
        elif self.index == "text":
            frame.index = pd.Index([f"client {i}" for i in range(self.rows)])
        return frame

    def only(self, name: str) -> "Ugly":
        """Return the same with that column, and a harmless score."""
        kinds = {drift.SCORE: "normal", name: self.kinds[name]}
        return Ugly(self.rows, self.index, kinds, self.seed)


def draw_ugly(rng: np.random.Generator) -> tuple[Ugly, Ugly]:
    """Two frames of the same columns, each column ugly in its own way on either side."""
    numeric = [f"number {i}" for i in range(rng.integers(0, 4))]
    levels = [f"level {i}" for i in range(rng.integers(0, 4))]
    sides = []
    for _ in range(2):
        kinds = {name: str(rng.choice(list(UGLY_LEVELS))) for name in levels}
        kinds |= {name: str(rng.choice(list(UGLY_NUMBERS))) for name in [*numeric, drift.SCORE]}
        rows = MANY_LEVELS if rng.random() < 0.03 else int(rng.choice(UGLY_ROWS))
        index = str(rng.choice(["plain", "duplicated", "text"]))
        sides.append(Ugly(rows, index, kinds, int(rng.integers(2**31))))
    return sides[0], sides[1]


def find_failures(reference: Ugly, batch: Ugly) -> dict[str, str]:
    """Return how each comparison fails on the two frames: its name -> one line."""
    numeric = [name for name in batch.kinds if name.startswith("number")]
    levels = [name for name in batch.kinds if name.startswith("level")]
    failures = {}
    for compare, check in (
        (drift.compare_columns, _check_look),
        (drift.compare_jointly, _check_joint),
    ):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = compare(reference.frame(), batch.frame(), numeric, levels)
                wrong = check(found, len(numeric) + len(levels) + 1)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)
                ours = [step for step in place if step.filename.endswith("drift.py")][-1]
                wrong = f"{type(error).__name__} in {ours.name}: {_shorten(error)}"
        if not wrong and warned:
            wrong = f"warns: {warned[0].category.__name__}: {_shorten(warned[0].message)}"
        if wrong:
            failures[compare.__name__] = wrong
    return failures


def _shorten(error: object) -> str:
    """Return the beginning of a message without the values in it, so that equal failures are equal."""
    return re.sub(r"'[^']*'|\d+", "..", str(error).splitlines()[0])[:60]


def _check_look(look: drift.DriftReport, columns: int) -> str:
    if look.verdict not in VERDICTS or not look.sentence:
        return f"verdict {look.verdict!r}, sentence {look.sentence!r}"
    if any(column.verdict not in COLUMN_VERDICTS for column in look.columns):
        return "a column's verdict is none of the known"
    if look.verdict != "insufficient" and len(look.columns) != columns:
        return f"{len(look.columns)} columns judged of {columns}"
    return _check_json(look.to_dict())


def _check_joint(joint: drift.JointDrift, columns: int) -> str:
    if joint.verdict not in VERDICTS or not joint.sentence:
        return f"verdict {joint.verdict!r}, sentence {joint.sentence!r}"
    return _check_json(joint.to_dict())


def _check_json(plain: Row) -> str:
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError:
        return "NaN or infinity in the result"
    except TypeError as error:
        return f"not JSON: {error}"
    return ""


def find_cause(reference: Ugly, batch: Ugly, function: str, wrong: str) -> str:
    """Return the column that fails in the same way all alone, or the sizes of the frames."""
    for name in reference.kinds:
        if find_failures(reference.only(name), batch.only(name)).get(function) == wrong:
            return f"{name[:6].strip()}: {reference.kinds[name]!r} | {batch.kinds[name]!r}"
    names = "no columns" if len(batch.kinds) == 1 else ", ".join(batch.kinds)
    return f"{names}: {reference.rows} | {batch.rows} rows"


def run_ugly(options: argparse.Namespace) -> list[Row]:
    runs, first, counts = options.runs or 1000, {}, {}
    for run in progress(runs, "ugly frames"):
        pair = draw_ugly(np.random.default_rng([options.seed, run]))
        for function, wrong in find_failures(*pair).items():
            first.setdefault((function, wrong), (run, pair))
            counts[function, wrong] = counts.get((function, wrong), 0) + 1
    rows = []
    for (function, wrong), (run, pair) in sorted(first.items()):
        cause = find_cause(*pair, function, wrong)
        rows.append(
            {"function": function, "failure": wrong, "pairs": counts[function, wrong]}
            | {"first": run, "reference | batch": cause}
        )
    if rows:
        show("Failures on ugly frames", rows)
    failed = sum(counts.values())
    total = {"pairs of ugly frames": runs, "failures": failed} | hold(failed, "<=", 0)
    return show("Ugly frames, either side of compare and compare_jointly", [total])


# ---- gate

LEFT_SHARE, SCORE_CORRELATION, CHAMPION_AUC = 0.2, 0.9, 0.80
RETRAINS = 30
FINDINGS = ("degraded", "moved")
# challenger, its AUC, rows, what was found before it was trained, goal
GATE_CASES = (
    ("identical", 0.80, 300, None, ("<=", 0.03)),
    ("worse", 0.78, 300, None, ("<=", 0.01)),
    ("better", 0.84, 1000, None, (">=", 0.95)),
    ("identical", 0.80, 1000, None, None),
    ("worse", 0.78, 1000, None, None),
    ("better", 0.84, 300, None, None),
    *(
        (name, auc, n, finding, None)
        for finding in FINDINGS
        for name, auc in (("identical", 0.80), ("worse", 0.78), ("better", 0.84))
        for n in (300, 1000)
    ),
)
# rows at the first and at the last of the retrains
GROWTHS = ((300, 300), (1000, 1000), (3000, 3000), (300, 3000))


def draw_outcome(n: int, rng: np.random.Generator) -> Vector:
    return (rng.random(n) < LEFT_SHARE).astype("float64")


def calibrated(outcome: Vector, noise: Vector, auc: float) -> Vector:
    """Turn noise into the calibrated risk of a model with that AUC: two normals of one variance.

    Those who left lie d = sqrt(2) x the normal quantile of the AUC higher; the log odds of a score s
    are those of the base rate plus d s - d^2 / 2.
    """
    d = np.sqrt(2) * stats.norm.ppf(auc)
    score = noise + d * outcome
    return special.expit(special.logit(LEFT_SHARE) + d * score - d**2 / 2)


def draw_alike(noise: Vector, rng: np.random.Generator) -> Vector:
    rest = np.sqrt(1 - SCORE_CORRELATION**2)
    return SCORE_CORRELATION * noise + rest * rng.standard_normal(len(noise))


def decide(
    outcome: Vector, candidate: Vector, champion: Vector, finding: str | None, looks: int = 1
) -> gate.Decision:
    comparison = gate.compare_risks("unseen", outcome, candidate, champion)
    found = {name: name == finding for name in FINDINGS}
    return gate.decide_promotion(comparison, first=False, identical=False, looks=looks, **found)


def measure_gate(runs: int, seed: int) -> list[Row]:
    """Let the gate judge one challenger, the first against a champion of AUC 0.80."""
    rows = []
    for name, auc, n, finding, goal in GATE_CASES:
        promoted = []
        for run in progress(runs, f"gate, {name}, n={n}"):
            rng = np.random.default_rng([seed, n, run])
            outcome, noise = draw_outcome(n, rng), rng.standard_normal(n)
            champion = calibrated(outcome, noise, CHAMPION_AUC)
            candidate = calibrated(outcome, draw_alike(noise, rng), auc)
            promoted.append(decide(outcome, candidate, champion, finding).promoted)
        share = np.mean(promoted)
        rows.append(
            {"challenger": name, "AUC": auc, "n": n, "found": finding or "-"}
            | {"runs": runs, "promoted": share}
            | (hold(share, *goal) if goal else {"goal": "", "held": ""})
        )
    return rows


def measure_retrains(runs: int, seed: int) -> list[Row]:
    """Thirty challengers in turn, none with a gain, counted as deployment counts them."""
    rows = []
    cases = [(None, *growth) for growth in GROWTHS]
    cases += [(finding, *GROWTHS[-1]) for finding in FINDINGS]
    for finding, first, last in cases:
        sizes = np.linspace(first, last, RETRAINS).astype(int)
        promotions = [
            _needless(sizes, finding, np.random.default_rng([seed, first, last, run]))
            for run in progress(runs, f"{RETRAINS} retrains on {first}-{last} rows")
        ]
        mean = np.mean(promotions)
        rows.append(
            {
                "found": finding or "-",
                "rows": f"{first:,}" if first == last else f"{first:,} to {last:,}",
                "runs": runs,
            }
            | {"needless, mean": mean, "share with one": np.mean(np.array(promotions) > 0)}
            | {"most": max(promotions)}
            | hold(mean, "<=", 0.5)
        )
    return rows


def _needless(sizes: Vector, finding: str | None, rng: np.random.Generator) -> int:
    """Return how many of the challengers are promoted; one that is becomes the champion."""
    outcome, noise = draw_outcome(sizes[-1], rng), rng.standard_normal(sizes[-1])
    deployments: list[Row] = []
    for n in sizes:
        up_to_date = draw_alike(noise, rng)
        risks = [calibrated(outcome[:n], part[:n], CHAMPION_AUC) for part in (up_to_date, noise)]
        decision = decide(outcome[:n], *risks, finding, deployment.count_looks(deployments))
        deployments.append({"action": "promoted" if decision.promoted else "refused"})
        noise = up_to_date if decision.promoted else noise
    return sum(row["action"] == "promoted" for row in deployments)


def measure_same_model(runs: int, seed: int) -> list[Row]:
    """Hold a model against itself."""
    refused = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        outcome = draw_outcome(300, rng)
        risk = calibrated(outcome, rng.standard_normal(300), CHAMPION_AUC)
        for finding in (None, *FINDINGS):
            decision = decide(outcome, risk, risk.copy(), finding)
            refused.append(not decision.promoted and decision.rule == "same_model")
    share = np.mean(refused)
    return [
        {"the model itself, n": 300, "runs": runs, "refused as such": share} | hold(share, ">=", 1)
    ]


def run_gate(options: argparse.Namespace) -> list[Row]:
    runs = options.runs or 1000
    return [
        *show("The gate, champion of AUC 0.80", measure_gate(runs, options.seed)),
        *show(f"{RETRAINS} retrains without a gain", measure_retrains(runs, options.seed)),
        *show("The same model", measure_same_model(runs, options.seed)),
    ]


# ---- updating

UPDATING_RUNS, OLDER_ROWS, LATER_ROWS = 200, 5000, 20_000
EFFECTS, LEVEL = np.array([0.8, -0.6, 0.5, 0.3, 0.0, 0.0]), -1.6
KEPT, LINES = (updating.CHAMPION,), tuple(updating.RECALIBRATIONS)
REFITS = {selection.OLDER_WEIGHTED: 0.1, selection.RECENT_ROWS: 0.0}


@dataclass(frozen=True)
class Shift:
    """What is added to the log-odds of each client, and what the effects are multiplied by."""

    name: str
    level: float = 0.0
    effects: float = 1.0


UNCHANGED, HIGHER = Shift("none"), Shift("log-odds + 0.7", level=0.7)
WEAKER, REVERSED = Shift("effects halved", effects=0.5), Shift("effects reversed", effects=-1.0)
# the shift, recent rows, and which updates are to be chosen how often
UPDATING_CASES = (
    (UNCHANGED, 400, ((KEPT, ">=", 0.9),)),
    (UNCHANGED, 2000, ((KEPT, ">=", 0.9),)),
    (HIGHER, 400, ((LINES, ">=", 0.95), (REFITS, "<=", 0.05))),
    (WEAKER, 2000, (((updating.SLOPE,), ">=", 0.9),)),
    (REVERSED, 2000, ((REFITS, ">=", 0.95),)),
)


def draw_clients(n: int, shift: Shift, rng: np.random.Generator) -> tuple[Vector, Vector, Vector]:
    """Draw features (n, 6), outcomes (n,) and the true risks (n,)."""
    features = rng.standard_normal((n, len(EFFECTS)))
    risk = special.expit(features @ EFFECTS * shift.effects + LEVEL + shift.level)
    return features, (rng.random(n) < risk).astype("float64"), risk


def cut_folds(n: int, count: int = 5) -> calibration.Folds:
    tests = np.array_split(np.arange(n), count)
    return [(np.setdiff1d(np.arange(n), test), test) for test in tests]


def update_after(
    shift: Shift, n: int, rng: np.random.Generator
) -> tuple[LogisticRegression, updating.Update]:
    """Fit a champion to older rows, and choose its update on n rows after a shift."""
    (old, old_outcome, _), (new, outcome, _) = (
        draw_clients(OLDER_ROWS, UNCHANGED, rng),
        draw_clients(n, shift, rng),
    )
    champion = LogisticRegression().fit(old, old_outcome)
    folds = cut_folds(n)

    def refit(weight: float) -> Vector:
        score = np.empty(n)
        for train, test in folds:
            rows, outcomes = np.vstack([old, new[train]]), np.r_[old_outcome, outcome[train]]
            weights = np.r_[np.full(OLDER_ROWS, weight), np.ones(len(train))]
            model = LogisticRegression().fit(rows, outcomes, weights)
            score[test] = model.decision_function(new[test])
        return calibration.cross_calibrate(calibration.fit_sigmoid, score, outcome, folds)

    return champion, updating.choose_update(
        champion.decision_function(new),
        outcome,
        folds=folds,
        deliveries=2,
        refits={name: partial(refit, weight) for name, weight in REFITS.items()},
    )


def measure_update(shift: Shift, n: int, rng: np.random.Generator) -> Row:
    """Return the update and, unless it is a refit, the level and the change of the AUC on later clients.

    The level is the expected number of leavers divided by the true one.
    """
    champion, update = update_after(shift, n, rng)
    if update.name in REFITS:
        return {"update": update.name}
    features, outcome, risk = draw_clients(LATER_ROWS, shift, rng)
    score = champion.decision_function(features)
    updated = update.line.apply(score)
    gain = metrics.roc_auc_difference(outcome, updated, score).interval.value
    level = float(special.expit(updated).sum() / risk.sum())
    return {"update": update.name, "level": level, "AUC": abs(gain or 0.0)}


def measure_updating(runs: int, seed: int) -> list[Row]:
    """Count which update is chosen after a shift, and measure the level and the order afterwards."""
    rows = []
    for shift, n, goals in UPDATING_CASES:
        results = pd.DataFrame(
            measure_update(shift, n, np.random.default_rng([seed, n, run]))
            for run in progress(runs, f"updating, {shift.name}, n={n:,}")
        ).reindex(columns=["update", "level", "AUC"])
        shares = results["update"].value_counts(normalize=True)
        row = {"shift": shift.name, "n": n, "runs": runs}
        row |= {name: shares.get(name, 0.0) for name in (*KEPT, *LINES, *REFITS)}
        level = results["level"].dropna()
        row |= {"level": level.mean(), "within 10 %": (level - 1).abs().le(0.1).mean()}
        row |= {"AUC changed": results["AUC"].max()}
        for wanted, sign, goal in goals:
            rows.append(row | hold(results["update"].isin(wanted).mean(), sign, goal))
        if len(level):
            rows.append(row | hold(abs(level.mean() - 1), "<=", 0.1))
    return rows


def run_updating(options: argparse.Namespace) -> list[Row]:
    runs = options.runs or UPDATING_RUNS
    return show("The update, 5,000 older rows", measure_updating(runs, options.seed))


# ---- cost

COST_RUNS = 7
WIDE, WIDER = (
    Law(f"{count} columns", (KINDS * 10)[: count * 7 // 10], (LEVELS * 5)[: count * 3 // 10])
    for count in (50, 100)
)
COST = Law("30 columns", (KINDS * 3)[:20], (LEVELS * 2)[:10])


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def run_cost(options: argparse.Namespace) -> list[Row]:
    """Alternate the runs, so that a busy machine slows all of them alike."""
    rng = np.random.default_rng(options.seed)
    frames = {
        law: (draw(law, REFERENCE, rng), draw(law, REFERENCE, rng)) for law in (COST, WIDE, WIDER)
    }
    work = {
        f"compare, {law.name}": partial(drift.compare_columns, *pair, law.numeric, law.categorical)
        for law, pair in frames.items()
    }
    jointly = partial(drift.compare_jointly, *frames[COST], COST.numeric, COST.categorical)
    work[f"compare_jointly, {COST.name}"] = jointly
    seconds: dict[str, list[float]] = {name: [] for name in work}
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):
        write_frames(Path(place), COST, reference=frames[COST][0], batch=frames[COST][1])
        for _ in progress(options.runs or COST_RUNS, "cost"):
            for name, call in work.items():
                seconds[name].append(cpu_seconds(call))
            for python in options.peers:
                for name, spent in ask_peer(python, "cost", Path(place)).items():
                    seconds.setdefault(f"{name}, {COST.name}", []).append(spent)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    rows = [{"work": name, "CPU s, median": value} for name, value in median.items()]
    show("CPU time, 10,000 rows against 10,000, one thread", rows)
    wide, wider, ours = (median[f"compare, {law.name}"] for law in (WIDE, WIDER, COST))
    ratios = [{"ratio": "compare, 100 columns : 50", "is": wider / wide}]
    ratios[0] |= hold(wider / wide, "<=", 2.2)
    if peer := median.get(f"Evidently, {COST.name}"):
        row = {"ratio": "Evidently : compare, 30 columns", "is": peer / ours}
        ratios.append(row | hold(peer / ours, ">=", 50))
    return show("Ratios", ratios)


# ---- peers


def write_frames(folder: Path, law: Law, **frames: pd.DataFrame) -> None:
    """Write what benchmarks/peers.py reads: NAME.parquet, and the roles of the columns."""
    roles = {"numeric": [*law.numeric, drift.SCORE], "categorical": law.categorical}
    (folder / "roles.json").write_text(json.dumps(roles))
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)


def ask_peer(python: str, mode: str, folder: Path) -> dict[str, Any]:
    """Run peers.py on one thread in the environment of `python`.

    -P keeps benchmarks/ off its path, where the name of this file hides Python's own `statistics`.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    script = Path(__file__).with_name("peers.py")
    done = subprocess.run(
        [python, "-P", str(script), mode, str(folder)],
        env=os.environ | one,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


# ---- tables


def hold(value: float, sign: str, goal: float) -> Row:
    """Return the columns of a table that say what was aimed at, and whether it holds."""
    held = value <= goal if sign == "<=" else value >= goal
    return {"goal": f"{sign} {goal:g}", "held": "yes" if held else "NO"}


def progress(runs: int, name: str) -> Iterable[int]:
    return tqdm(range(runs), desc=name, disable=None, leave=False)


def show(title: str, rows: list[Row]) -> list[Row]:
    table = pd.DataFrame(rows)
    with pd.option_context("display.max_colwidth", 90):
        told = table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="-")
    print(f"\n{title}\n{told}", flush=True)
    return rows


RUNS = {
    "drift": run_drift,
    "ageing": run_ageing,
    "ugly": run_ugly,
    "gate": run_gate,
    "updating": run_updating,
    "cost": run_cost,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", choices=RUNS)
    parser.add_argument(
        "--peers", action="append", default=[], metavar="PYTHON", help="may be given twice"
    )
    parser.add_argument("--runs", type=int, help="default: what each table asks for")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    start = time.process_time()
    rows = RUNS[options.section](options)
    missed = sum(row.get("held") == "NO" for row in rows)
    print(f"\n{missed} goals missed; {time.process_time() - start:.0f} s of CPU, the peers' apart")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
