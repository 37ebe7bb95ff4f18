"""The recipe by which a model is made: candidates tried by cross-validation, one chosen, calibrated.

Pure: rows in, model out. Everything that is chosen is chosen on rows that the part in question had not
learned from, with all rows of a client, and copies and near-copies of a row, in one fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from attrition.modelling import calibration, metrics, models
from attrition.modelling.calibration import Calibration, Folds
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model

FOLDS = 5
REPEATS = 3
MANY_ROWS = 50_000  # above this one cross-validation says enough
STILL_IN_THE_RACE = 3.0  # standard errors from the best after one cross-validation
MIN_ROWS_TO_BLEND, MIN_OF_EACH_TO_BLEND = 500, 50

CELL = 0.005  # of the middle half of a column, within which numbers are nearly the same
MOST_GLUED = 0.05  # of the rows in one group because of near-copies

ALL_ROWS = "all rows"
# How much a row counts by its age: from before an earlier change of the truth, from before the last
# one, and since then.
WINDOWS = {
    ALL_ROWS: (1.0, 1.0, 1.0),
    "rows since the change before": (0.0, 1.0, 1.0),
    "older rows counted a tenth": (0.1, 0.1, 1.0),
    "only the rows since the change": (0.0, 0.0, 1.0),
}
ANCIENT, OLDER, RECENT = 0, 1, 2


@dataclass(frozen=True)
class CandidateScore:
    """A candidate, tried: what it gives to the judged rows out of fold, and what that costs.

    score: (n, repeats) log-odds; loss: (n,) log loss, the mean of the repeats. `parts` and `weights`
    are those of a blend.
    """

    name: str
    window: str
    score: NDArray[np.float64]
    loss: Vector
    parts: tuple[str, ...] = ()
    weights: tuple[float, ...] = (1.0,)

    @property
    def title(self) -> str:
        return self.name if self.window == ALL_ROWS else f"{self.name}, {self.window}"


@dataclass(frozen=True)
class SelectionResult:
    """A model, and all that was weighed to come to it.

    risk: (n,) cross-validated risk of the judged rows, each by a calibration that never saw it; usual:
    the same by the model's own, which is what its risks of other rows are like.
    """

    model: Model
    chosen: CandidateScore
    tried: tuple[CandidateScore, ...]
    why: str
    calibrations: dict[str, float]
    risk: Vector
    reference_risk: Vector


@dataclass(frozen=True)
class Table:
    """What is learned from: rows, (n,) outcomes, groups and ages, and the names of the features."""

    rows: pd.DataFrame
    outcome: Vector
    groups: NDArray[np.intp]
    age: NDArray[np.intp]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def recent(self) -> NDArray[np.bool_]:
        return self.age == RECENT


def group_rows(rows: pd.DataFrame, client: str, features: Sequence[str]) -> NDArray[np.intp]:
    """Number the groups that must stay in one fold: all rows of a client, all copies and near-copies.

    Near-copies have equal levels, and numbers that fall into one cell of a grid, or of the same grid
    moved by half a cell. Where that would glue much of a coarse table together, copies are equal rows.

    Returns: (n,) int, the same number for rows that are linked, directly or through others.
    """
    table = rows[list(features)]
    by_client, by_content = pd.factorize(rows[client])[0], _number(table)
    exact = _link(by_client, by_content)
    near = _link(by_client, by_content, *(_number(_on_grid(table, moved)) for moved in (0.0, 0.5)))
    glued = np.bincount(near).max(initial=0)
    is_fine = glued <= max(np.bincount(exact).max(initial=0), MOST_GLUED * len(rows))
    return near if is_fine else exact


def _number(table: pd.DataFrame) -> NDArray[np.intp]:
    """Number the rows by their content: equal rows have one number."""
    number = table.groupby(list(table.columns), dropna=False, sort=False).ngroup()
    return np.asarray(number, dtype=np.intp)


def _on_grid(table: pd.DataFrame, moved: float) -> pd.DataFrame:
    """Put for each number its cell, as wide as a share of the middle half of its column."""
    cells: dict[str, pd.Series] = {}
    for name in map(str, table.select_dtypes("number")):
        low, high = table[name].quantile([0.25, 0.75])
        if 0 < high - low < np.inf:
            cells[name] = np.floor(table[name] / (CELL * (high - low)) + moved)
    return table.assign(**cells)


def _link(*numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number the rows that share a number in any of the ways of numbering, or are linked by others."""
    starts = np.cumsum([len(numbers[0]), *(int(one.max(initial=-1)) + 1 for one in numbers)])
    row = np.tile(np.arange(len(numbers[0])), len(numbers))
    shared = np.concatenate([one + start for one, start in zip(numbers, starts, strict=False)])
    links = coo_array((np.ones(len(row)), (row, shared)), shape=(starts[-1], starts[-1]))
    _, labels = connected_components(links, directed=False)
    return np.unique(labels[: len(numbers[0])], return_inverse=True)[1]


def learn(table: Table) -> SelectionResult:
    """Try, choose, calibrate, and fit the chosen model on all rows.

    On one thread: for sums as short as these, more of them only wait for each other.
    """
    with threadpool_limits(1):
        return _learn(table)


def _learn(table: Table) -> SelectionResult:
    repeats = 1 if len(table.rows) > MANY_ROWS else REPEATS
    folds = [split(table, repeat) for repeat in range(repeats)]
    tried = try_candidates(_coded(table), folds)
    tried = [*tried, *try_blends(table, tried, folds)]
    chosen, why = choose(tried)
    outcome = table.outcome[table.recent]
    score = chosen.score[:, 0]  # of one model each, as clients will have; means would spread less
    judged = [_among_recent(table, repeat) for repeat in folds]
    scale, losses = calibration.choose(score, outcome, judged[0])
    model = fit_model(table, chosen, scale)
    risk = metrics.expit(calibration.cross_calibrate(scale.kind, score, outcome, judged[0]))
    reference_risk = metrics.expit(scale.apply(score))
    if chosen.name == models.BASE_RATE:  # of which each fold has one of its own
        reference_risk = models.predict(model, table.rows[table.recent])
    return SelectionResult(model, chosen, tuple(tried), why, losses, risk, reference_risk)


def split(table: Table, repeat: int) -> Folds:
    """Cut the rows into folds that keep groups whole and both outcomes in each; [] where none can."""
    left = int(table.outcome[table.recent].sum())
    judged = int(table.recent.sum())
    count = min(FOLDS, left, judged - left, len(np.unique(table.groups[table.recent])))
    if count < 2:
        return []
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=repeat)
    found = splitter.split(table.rows, table.outcome, table.groups)
    return [(train, test) for train, test in found if 0 < table.outcome[train].sum() < len(train)]


def _coded(table: Table) -> Table:
    """Put a number for each level, in their order: encoders are many times faster on them."""
    codes = {
        name: pd.factorize(table.rows[name], sort=True)[0].astype("float64")
        for name in table.categorical
    }
    return replace(table, rows=table.rows.assign(**codes))


def windows(age: NDArray[np.intp]) -> list[str]:
    """Name the ways to count older rows that differ for rows of these ages."""
    ages = sorted(set(age.tolist()))
    found: dict[tuple[float, ...], str] = {}
    for name, weights in WINDOWS.items():
        found.setdefault(tuple(weights[a] for a in ages), name)
    return list(found.values())


def try_candidates(table: Table, folds: Sequence[Folds]) -> list[CandidateScore]:
    """Cross-validate every candidate, judged on the recent rows; simplest first.

    With rows from before a change of the truth, each is tried with the older rows counting in full, in
    part, and not at all. Who is clearly beaten after one repeat, and adds nothing to a blend either, is
    not tried in the others.
    """
    recent = table.outcome[table.recent]
    names = models.candidates(len(recent), int(recent.sum())) if folds[0] else [models.BASE_RATE]
    todo = [(window, name) for window in windows(table.age) for name in names]
    first = [
        _tried(table, name, window, [cross_validate(table, name, window, folds[0])])
        for window, name in _shown(todo)
    ]
    best = min(first, key=lambda one: float(one.loss.mean()))
    helpful = _helpful(table, [one for one in first if one.window == best.window])
    found = []
    for one in _shown(first):
        more = [] if _is_beaten(one, best) and one.title not in helpful else folds[1:]
        scores = [cross_validate(table, one.name, one.window, repeat) for repeat in more]
        found.append(_tried(table, one.name, one.window, [*one.score.T, *scores]))
    return found


def _shown(todo: Sequence[Any]) -> Any:
    return tqdm(todo, desc="training", unit="model", leave=False, disable=None)


def _tried(table: Table, name: str, window: str, scores: Sequence[Vector]) -> CandidateScore:
    score = np.column_stack(scores)
    return CandidateScore(name, window, score, _loss(score, table.outcome[table.recent]))


def _loss(score: NDArray[np.float64], outcome: Vector) -> Vector:
    losses = [metrics.row_log_loss(outcome, metrics.expit(one)) for one in score.T]
    return np.asarray(np.mean(losses, axis=0))


def _is_beaten(one: CandidateScore, best: CandidateScore) -> bool:
    difference = one.loss - best.loss
    error = float(np.std(difference)) / np.sqrt(len(difference))
    return float(difference.mean()) > STILL_IN_THE_RACE * error


def _helpful(table: Table, tried: Sequence[CandidateScore]) -> set[str]:
    """Name those that a blend by the first repeat would take in: the beaten may know something else."""
    parts = [one for one in tried if one.name != models.BASE_RATE]
    outcome = table.outcome[table.recent]
    if not _is_enough_to_blend(outcome):
        return set()
    weights = models.blend_weights(np.column_stack([one.score[:, 0] for one in parts]), outcome)
    return {one.title for one, weight in zip(parts, weights, strict=True) if weight}


def _is_enough_to_blend(outcome: Vector) -> bool:
    rarer = min(outcome.sum(), len(outcome) - outcome.sum())
    return len(outcome) >= MIN_ROWS_TO_BLEND and rarer >= MIN_OF_EACH_TO_BLEND


def cross_validate(table: Table, name: str, window: str, folds: Folds) -> Vector:
    """Return the log-odds of each judged row from models that never saw it: (n_recent,)."""
    weight = np.array(WINDOWS[window])[table.age]
    base_rate = np.average(table.outcome, weights=weight)
    score = metrics.log_odds(np.full(len(table.rows), base_rate))
    for train, test in folds:
        test = test[table.recent[test]]
        part = fit_part(table, name, weight, train)
        score[test] = models.score_part(part, table.rows.iloc[test])
    return score[table.recent]


def fit_part(table: Table, name: str, weight: Vector, train: NDArray[np.intp]) -> Any:
    """Fit one candidate on some rows; where those that count have one outcome, the base rate of all."""
    counted = train[weight[train] > 0]
    if not 0 < table.outcome[counted].sum() < len(counted):
        counted, weight, name = train, np.ones(len(table.rows)), models.BASE_RATE
    features = [*table.numeric, *table.categorical]
    rows = table.rows.iloc[counted][features]
    part = models.build(name, table.numeric, table.categorical, rows)
    return models.fit(part, rows, table.outcome[counted], weight[counted])


def try_blends(
    table: Table, tried: Sequence[CandidateScore], folds: Sequence[Folds]
) -> list[CandidateScore]:
    """Blend the finalists of the best window; judged with weights that never saw the row."""
    outcome = table.outcome[table.recent]
    best = min(tried, key=lambda one: float(one.loss.mean()))
    parts = [
        one
        for one in tried
        if one.window == best.window and one.name != models.BASE_RATE and _ran_all(one, folds)
    ]
    if not _is_enough_to_blend(outcome) or len(parts) < 2:
        return []
    blended = np.empty((len(outcome), len(folds)))
    for repeat, cut in enumerate(folds):
        scores = np.column_stack([one.score[:, repeat] for one in parts])
        for train, test in _among_recent(table, cut):
            weights = models.blend_weights(scores[train], outcome[train])
            blended[test, repeat] = scores[test] @ weights
    everything = np.column_stack([one.score.T.ravel() for one in parts])
    weights = models.blend_weights(everything, np.tile(outcome, len(folds)))
    kept = [(one.name, float(weight)) for one, weight in zip(parts, weights, strict=True) if weight]
    if len(kept) < 2:
        return []
    names, shares = zip(*kept, strict=True)
    loss = _loss(blended, outcome)
    return [CandidateScore(models.BLEND, best.window, blended, loss, tuple(names), tuple(shares))]


def _ran_all(one: CandidateScore, folds: Sequence[Folds]) -> bool:
    return one.score.shape[1] == len(folds)


def _among_recent(table: Table, folds: Folds) -> Folds:
    """Return folds as positions among the judged rows."""
    place = np.cumsum(table.recent) - 1
    return [
        (place[train[table.recent[train]]], place[test[table.recent[test]]])
        for train, test in folds
    ]


def choose(tried: Sequence[CandidateScore]) -> tuple[CandidateScore, str]:
    """Choose the simplest candidate within one standard error of the lowest log loss."""
    by_title = {one.title: one for one in tried}
    chosen = by_title[metrics.simplest({one.title: one.loss for one in tried})]
    best = min(tried, key=lambda one: float(one.loss.mean()))
    told = f"cross-validated log loss {chosen.loss.mean():.4f}"
    if chosen.window != ALL_ROWS:
        told = f"{chosen.window}, {told}"
    if chosen is best:
        return chosen, f"{told}, the lowest of {len(tried)}"
    lowest = f"({best.title} {best.loss.mean():.4f})"
    return chosen, f"{told}, within one standard error of the lowest {lowest}"


def fit_model(
    table: Table, chosen: CandidateScore, scale: Calibration, train: NDArray[np.intp] | None = None
) -> Model:
    """Fit the chosen candidate, or all parts of a blend, on all rows or on some."""
    weight = np.array(WINDOWS[chosen.window])[table.age]
    train = np.arange(len(table.rows)) if train is None else train
    names = chosen.parts or (chosen.name,)
    parts = tuple(fit_part(table, name, weight, train) for name in names)
    return Model(parts, chosen.weights, scale)
