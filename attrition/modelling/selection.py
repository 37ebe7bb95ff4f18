"""Model selection: cross-validate the candidates, choose one, calibrate it and fit it on all rows.

Pure: rows in, model out. Every choice is made on rows that the part in question was not trained on.
The groups of `groups.py` stay in one fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from attrition.modelling import calibration, metrics, models
from attrition.modelling.calibration import Calibration, Folds
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model
from attrition.rows.sampling import Sample

FOLDS = 5
MAX_REPEATS = 3
MANY_ROWS = 50_000  # if there are more, or a sample of more, one cross-validation is precise enough
MAX_ERRORS_FROM_BEST = 3.0  # standard errors; a candidate is dropped if it is further from the best
LEAST_GAIN = 0.0005  # of log loss that more rows must add
CURVE = (models.LOGISTIC, models.BOOSTING)
MIN_ROWS_TO_BLEND, MIN_OF_EACH_TO_BLEND = 500, 50

ALL_ROWS = "all rows"
OLDER_WEIGHTED, RECENT_ROWS = "older rows counted a tenth", "only the rows since the change"
# The weight of a row by its age: before an earlier concept drift, before the last one, and since then.
WINDOWS = {
    ALL_ROWS: (1.0, 1.0, 1.0),
    "rows since the change before": (0.0, 1.0, 1.0),
    OLDER_WEIGHTED: (0.1, 0.1, 1.0),
    RECENT_ROWS: (0.0, 0.0, 1.0),
}
ANCIENT, OLDER, RECENT = 0, 1, 2


@dataclass(frozen=True)
class CandidateScore:
    """The out-of-fold scores of one candidate on the recent rows, and their loss.

    score: (n, repeats) log-odds; loss: (n,) log loss, the mean of the repeats, times the weight of the
    row. `parts` and `weights`
    are set if it is a blend.
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
    """The selected model, every candidate it was compared with, and the reason for the choice.

    risk: (n,) cross-validated risk of the recent rows, each calibrated without the row itself.
    reference_risk: the same with the calibration of the model, so that it is comparable with the risks
    that the model gives to new rows.
    """

    model: Model
    chosen: CandidateScore
    candidates: tuple[CandidateScore, ...]
    why: str
    calibrations: dict[str, float]
    risk: Vector
    reference_risk: Vector


@dataclass(frozen=True)
class Table:
    """The training data: rows, (n,) outcomes, groups and ages, and the names of the features.

    If the rows are a sample, `represents` has the number of rows that each represents, (n,), and
    `is_simple` those that represent all rows without weights, (n,) bool. `is_contacted`: the rows whose
    outcome a contact may have changed, (n,) bool; None if there are none.
    """

    rows: pd.DataFrame
    outcome: Vector
    groups: NDArray[np.intp]
    age: NDArray[np.intp]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    represents: Vector | None = None
    is_simple: NDArray[np.bool_] | None = None
    is_contacted: NDArray[np.bool_] | None = None

    @property
    def recent(self) -> NDArray[np.bool_]:
        return self.age == RECENT

    @property
    def representative(self) -> NDArray[np.bool_]:
        """The recent rows that represent all recent rows without weights."""
        return self.recent if self.is_simple is None else self.recent & self.is_simple

    @property
    def recent_weight(self) -> Vector:
        """The weights of the recent rows, with mean 1."""
        if self.represents is None:
            return np.ones(int(self.recent.sum()))
        weight = self.represents[self.recent]
        return np.asarray(weight / weight.mean())

    @property
    def calibration_weight(self) -> Vector:
        """The weights of the recent rows in calibration, with mean 1: contacted ones do not count."""
        if self.is_contacted is None:
            return self.recent_weight
        weight = self.recent_weight * ~self.is_contacted[self.recent]
        return np.asarray(weight / weight.mean())

    def training_weight(self, window: str) -> Vector:
        """The weights of all rows in training, (n,): the mean of those at full weight is 1."""
        weight = np.array(WINDOWS[window])[self.age]
        if self.represents is None:
            return weight
        return np.asarray(weight * self.represents / self.represents[self.recent].mean())

    def sample(self, sample: Sample) -> "Table":
        """Return the table of the rows in a sample."""
        table = replace(self, represents=sample.weight, is_simple=sample.is_simple)
        return table.take(sample.is_taken)

    def take(self, places: NDArray[Any]) -> "Table":
        """Return the table of some rows, named by position or by a mask."""
        return replace(
            self,
            rows=self.rows.iloc[places],
            outcome=self.outcome[places],
            groups=self.groups[places],
            age=self.age[places],
            represents=None if self.represents is None else self.represents[places],
            is_simple=None if self.is_simple is None else self.is_simple[places],
            is_contacted=None if self.is_contacted is None else self.is_contacted[places],
        )


def select_model(table: Table, allowed: Sequence[str] = tuple(WINDOWS)) -> SelectionResult:
    """Compare the candidates, choose one, calibrate it, and fit it on all rows.

    allowed: the weightings of older rows to compare.

    Uses one thread: the computations are so short that more threads only wait for each other.
    """
    with threadpool_limits(1):
        return _select_model(table, allowed)


def _select_model(table: Table, allowed: Sequence[str]) -> SelectionResult:
    is_enough = table.represents is not None or len(table.rows) > MANY_ROWS
    repeats = 1 if is_enough else MAX_REPEATS
    folds = [make_folds(table, repeat) for repeat in range(repeats)]
    candidates = compare_candidates(_encode_categories(table), folds, allowed)
    chosen, why = choose_candidate(candidates)
    outcome = table.outcome[table.recent]
    score = chosen.score[
        :, 0
    ]  # of one model, as in production; a mean of repeats would spread less
    recent_folds = among_recent(table, folds[0])
    weight = table.calibration_weight
    scale, losses = calibration.choose_calibration(score, outcome, recent_folds, weight)
    model = fit_model(table, chosen, scale)
    fit = calibration.FITS[scale.kind]
    risk = metrics.expit(calibration.cross_calibrate(fit, score, outcome, recent_folds, weight))
    reference_risk = metrics.expit(scale.apply(score))
    return SelectionResult(model, chosen, tuple(candidates), why, losses, risk, reference_risk)


def make_folds(table: Table, repeat: int) -> Folds:
    """Split the rows into folds that keep groups whole, with both outcomes in each training part.

    Returns [] if fewer than two folds are possible.
    """
    left, rows = int(table.outcome[table.recent].sum()), int(table.recent.sum())
    count = min(FOLDS, left, rows - left, len(np.unique(table.groups[table.recent])))
    if count < 2:
        return []
    fold = deal_groups(table.outcome, table.groups, count, repeat)
    folds = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(count)]
    return [(train, test) for train, test in folds if 0 < table.outcome[train].sum() < len(train)]


def deal_groups(
    outcome: Vector, groups: NDArray[np.intp], count: int, seed: int
) -> NDArray[np.intp]:
    """Deal whole groups to folds that are alike in rows of each outcome: (n,) the fold of each row.

    The largest groups are dealt first, and groups with the same rows of each outcome at once: at random,
    to the folds with the fewest of such rows so far.
    """
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    left = np.bincount(group, outcome).astype(np.intp)
    rows = np.column_stack([left, size - left])
    total = np.maximum(rows.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(size))
    key = size * (size.max(initial=0) + 1) + left
    order = order[np.argsort(-key[order], kind="stable")]
    dealt, filled = np.empty(len(size), dtype=np.intp), np.zeros((count, 2))
    for members in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        each = rows[members[0]]
        use = each / total**2
        number = _fill_evenly(filled @ use / (each @ use), len(members))
        dealt[members] = np.repeat(np.arange(count), number)
        filled += number[:, np.newaxis] * each
    return dealt[group]


def _fill_evenly(levels: Vector, units: int) -> NDArray[np.intp]:
    """Compute how many of the units each level gets if each goes to the lowest level: (k,) int.

    >>> _fill_evenly(np.array([0.0, 3.0, 1.0]), 3).tolist()
    [2, 0, 1]
    """
    order = np.argsort(levels, kind="stable")
    water = (units + np.cumsum(levels[order])) / np.arange(1, len(levels) + 1)
    reached = water[np.flatnonzero(water >= levels[order])[-1]]
    number = np.maximum(np.floor(reached - levels + 1e-9), 0).astype(np.intp)
    number[np.argsort(levels + number, kind="stable")[: units - number.sum()]] += 1
    return number


def _encode_categories(table: Table) -> Table:
    """Replace each category by its number in sorted order: the encoders are many times faster on it."""
    codes = {
        name: pd.factorize(table.rows[name], sort=True)[0].astype("float64")
        for name in table.categorical
    }
    return replace(table, rows=table.rows.assign(**codes))


def windows(age: NDArray[np.intp], allowed: Sequence[str] = tuple(WINDOWS)) -> list[str]:
    """Name the allowed weightings of older rows that differ from each other if rows have these ages."""
    ages = sorted(set(age.tolist()))
    names: dict[tuple[float, ...], str] = {}
    for name, weights in WINDOWS.items():
        if name not in allowed:
            continue
        names.setdefault(tuple(weights[a] for a in ages), name)
    return list(names.values())


def compare_candidates(
    table: Table, folds: Sequence[Folds], allowed: Sequence[str] = tuple(WINDOWS)
) -> list[CandidateScore]:
    """Cross-validate every candidate and their blend, and score them on the recent rows; simplest first.

    If there are rows from before a concept drift, each candidate is scored with the older rows at full,
    reduced and zero weight. A candidate that is clearly worse than the best after one repeat and adds
    nothing to a blend does not run in the others. The repeats average out the chance of a split; they
    end when one more does not change the choice.
    """
    recent = table.outcome[table.recent]
    names = models.candidates(len(recent), int(recent.sum())) if folds[0] else [models.BASE_RATE]
    pairs = [(window, name) for window in windows(table.age, allowed) for name in names]
    candidates = [
        _score_candidate(table, name, window, [cross_validate(table, name, window, folds[0])])
        for window, name in _with_progress(pairs)
    ]
    best = _lowest_loss(candidates)
    useful = _useful_in_blend(table, [one for one in candidates if one.window == best.window])
    runs_on = {
        one.title for one in candidates if not _is_clearly_worse(one, best) or one.title in useful
    }
    compared = [*candidates, *score_blends(table, candidates, folds[:1])]
    for i in range(1, len(folds)):
        before = choose_candidate(compared)[0].title
        candidates = [
            _score_again(table, one, folds[i]) if one.title in runs_on else one
            for one in _with_progress(candidates)
        ]
        compared = [*candidates, *score_blends(table, candidates, folds[: i + 1])]
        if choose_candidate(compared)[0].title == before:
            break
    return compared


def _with_progress(items: Sequence[Any]) -> Any:
    return tqdm(items, desc="training", unit="model", leave=False, disable=None)


def _score_candidate(
    table: Table, name: str, window: str, scores: Sequence[Vector]
) -> CandidateScore:
    score = np.column_stack(scores)
    return CandidateScore(name, window, score, _mean_loss(table, score))


def _score_again(table: Table, candidate: CandidateScore, folds: Folds) -> CandidateScore:
    score = cross_validate(table, candidate.name, candidate.window, folds)
    scores = [*candidate.score.T, score]
    return _score_candidate(table, candidate.name, candidate.window, scores)


def _mean_loss(table: Table, score: NDArray[np.float64]) -> Vector:
    outcome = table.outcome[table.recent]
    losses = [metrics.row_log_loss(outcome, metrics.expit(repeat)) for repeat in score.T]
    return np.asarray(np.mean(losses, axis=0) * table.recent_weight)


def _lowest_loss(candidates: Sequence[CandidateScore]) -> CandidateScore:
    return min(candidates, key=lambda candidate: float(candidate.loss.mean()))


def _is_clearly_worse(candidate: CandidateScore, best: CandidateScore) -> bool:
    difference = candidate.loss - best.loss
    error = float(np.std(difference)) / np.sqrt(len(difference))
    return float(difference.mean()) > MAX_ERRORS_FROM_BEST * error


def _useful_in_blend(table: Table, candidates: Sequence[CandidateScore]) -> set[str]:
    """Name the candidates with weight in a blend of the first repeat: a weak one can still add to it."""
    parts = [one for one in candidates if one.name != models.BASE_RATE]
    outcome = table.outcome[table.recent]
    if not _is_enough_to_blend(outcome):
        return set()
    scores = np.column_stack([one.score[:, 0] for one in parts])
    weights = models.blend_weights(scores, outcome, table.recent_weight)
    return {one.title for one, weight in zip(parts, weights, strict=True) if weight}


def _is_enough_to_blend(outcome: Vector) -> bool:
    rarer = min(outcome.sum(), len(outcome) - outcome.sum())
    return len(outcome) >= MIN_ROWS_TO_BLEND and rarer >= MIN_OF_EACH_TO_BLEND


def cross_validate(table: Table, name: str, window: str, folds: Folds) -> Vector:
    """Return the log-odds of each recent row from models that were not trained on it: (n_recent,)."""
    weight = table.training_weight(window)
    base_rate = np.average(table.outcome, weights=weight)
    score = metrics.log_odds(np.full(len(table.rows), base_rate))
    for train, test in folds:
        test = test[table.recent[test]]
        part = fit_part(table, name, weight, train)
        score[test] = models.score_part(part, table.rows.iloc[test])
    return score[table.recent]


def fit_part(table: Table, name: str, weight: Vector, train: NDArray[np.intp]) -> Any:
    """Fit one candidate on some rows; the base rate, if those with any weight have only one outcome."""
    weighted = train[weight[train] > 0]
    if not 0 < table.outcome[weighted].sum() < len(weighted):
        weighted, weight, name = train, np.ones(len(table.rows)), models.BASE_RATE
    features = [*table.numeric, *table.categorical]
    rows = table.rows.iloc[weighted][features]
    part = models.build(name, table.numeric, table.categorical, rows)
    return models.fit(part, rows, table.outcome[weighted], weight[weighted])


def score_blends(
    table: Table, candidates: Sequence[CandidateScore], folds: Sequence[Folds]
) -> list[CandidateScore]:
    """Blend the candidates of the best window that ran in all repeats, and score the blend.

    The weights for a row are fitted without it. Returns [] if there are too few rows to blend, or if
    fewer than two candidates get any weight.
    """
    outcome = table.outcome[table.recent]
    best = _lowest_loss(candidates)
    parts = [
        one
        for one in candidates
        if one.window == best.window
        and one.name != models.BASE_RATE
        and one.score.shape[1] == len(folds)
    ]
    if not _is_enough_to_blend(outcome) or len(parts) < 2:
        return []
    row_weight = table.recent_weight
    blended = np.empty((len(outcome), len(folds)))
    for i, repeat in enumerate(folds):
        scores = np.column_stack([one.score[:, i] for one in parts])
        for train, test in among_recent(table, repeat):
            weights = models.blend_weights(scores[train], outcome[train], row_weight[train])
            blended[test, i] = scores[test] @ weights
    all_scores = np.column_stack([one.score.T.ravel() for one in parts])
    weights = models.blend_weights(
        all_scores, np.tile(outcome, len(folds)), np.tile(row_weight, len(folds))
    )
    kept = [(one.name, float(weight)) for one, weight in zip(parts, weights, strict=True) if weight]
    if len(kept) < 2:
        return []
    names, shares = zip(*kept, strict=True)
    loss = _mean_loss(table, blended)
    return [CandidateScore(models.BLEND, best.window, blended, loss, tuple(names), tuple(shares))]


def among_recent(table: Table, folds: Folds) -> Folds:
    """Return folds as positions among the recent rows."""
    place = np.cumsum(table.recent) - 1
    return [
        (place[train[table.recent[train]]], place[test[table.recent[test]]])
        for train, test in folds
    ]


def choose_candidate(candidates: Sequence[CandidateScore]) -> tuple[CandidateScore, str]:
    """Choose the simplest candidate within one standard error of the lowest log loss; state why."""
    by_title = {one.title: one for one in candidates}
    chosen = by_title[metrics.simplest({one.title: one.loss for one in candidates})]
    best = _lowest_loss(candidates)
    reason = f"cross-validated log loss {chosen.loss.mean():.4f}"
    if chosen.window != ALL_ROWS:
        reason = f"{chosen.window}, {reason}"
    if chosen is best:
        return chosen, f"{reason}, the lowest of {len(candidates)}"
    lowest = f"({best.title} {best.loss.mean():.4f})"
    return chosen, f"{reason}, within one standard error of the lowest {lowest}"


def fit_model(
    table: Table, chosen: CandidateScore, scale: Calibration, train: NDArray[np.intp] | None = None
) -> Model:
    """Fit the chosen candidate, or each part if it is a blend, on all rows or on those in `train`."""
    weight = table.training_weight(chosen.window)
    train = np.arange(len(table.rows)) if train is None else train
    names = chosen.parts or (chosen.name,)
    parts = tuple(fit_part(table, name, weight, train) for name in names)
    return Model(parts, chosen.weights, scale)


@dataclass(frozen=True)
class LearningCurve:
    """The log loss on the same rows after training on samples of growing size.

    points: for each, the size of the sample, the rows of it that were fitted, the log loss, the gain on
    the size before and its standard error (None for the first); chosen: the size to train on; is_enough:
    whether the next size was fitted, and gained no more than its standard error, or than `LEAST_GAIN`
    """

    points: tuple[dict[str, Any], ...]
    chosen: int
    is_enough: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def draw_learning_curve(table: Table, samples: Mapping[int, Sample], least: int) -> LearningCurve:
    """Fit samples of growing size, until more rows no longer lower the log loss, and choose a size.

    samples: by size; table: the rows of the largest one. A fifth of the groups is scored and never
    fitted. The smallest size of at least `least` is chosen whose next one gains no more than its
    standard error, or than `LEAST_GAIN`.

    Source: Perlich, Provost and Simonoff 2003, "Tree induction vs. logistic regression: a learning-curve
    analysis", for curves that go on rising with boosting.
    """
    test = deal_groups(table.outcome, table.groups, FOLDS, 0) == 0
    largest = [*samples.values()][-1]
    scored = replace(table, represents=largest.weight).take(test & table.recent)
    points: list[dict[str, Any]] = []
    loss, last = np.empty(0), 0
    for size, sample in samples.items():
        part = table.take(~test).sample(sample.among(~test))
        score = _score_curve(part, scored.rows)
        new = metrics.row_log_loss(scored.outcome, metrics.expit(score)) * scored.recent_weight
        point = {"size": size, "rows": len(part.rows), "log_loss": float(new.mean())}
        gain = metrics.mean(loss - new) if len(loss) else metrics.UNKNOWN
        error = gain.standard_error if gain.low is not None else None
        points.append(point | {"gain": gain.value, "standard_error": error})
        if last >= least and gain.value is not None and gain.value <= max(LEAST_GAIN, error or 0):
            return LearningCurve(tuple(points), last, is_enough=True)
        loss, last = new, size
    return LearningCurve(tuple(points), last, is_enough=False)


def _score_curve(table: Table, rows: pd.DataFrame) -> Vector:
    """Return the mean log-odds of the candidates of a curve: (n,); cheap, and as good as a blend."""
    weight, everything = table.training_weight(ALL_ROWS), np.arange(len(table.rows))
    parts = [fit_part(table, name, weight, everything) for name in CURVE]
    return np.asarray(np.mean([models.score_part(part, rows) for part in parts], axis=0))
