"""The model in production as plain arrays, which numpy alone evaluates: no scikit-learn, no DataFrame.

Each feature adds its own term to the log-odds (logistic parts), and each tree the value of one leaf. The
thresholds of all trees cut a number into bins; the levels of a category are its bins. For each bin and
tree, a bit mask states which leaves a client in that bin can reach. The masks of a client's bins have
one leaf in common, the one that it reaches.

Source: Lucchese et al. 2015, "QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees", for the bit masks; the explanations are those of `modelling.explanations`.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrition.errors import Damaged

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]
Columns = Mapping[str, Any]  # numbers (n,) float64, NaN if missing; categories as lists of text

NONE, SIGMOID, FLOORED, ISOTONIC = "none", "sigmoid", "sigmoid with a floor", "isotonic"
WIDTHS = (8, 16, 32, 64)  # the most leaves of a tree, in bits of a mask
CACHE = (
    1 << 19
)  # bytes: the places of leaves that are looked up together stay in the cache of a core
DESCRIPTION = "description"


@dataclass(frozen=True)
class Curve:
    """A term of a number: its score times a weight, plus the step of the bin in which the score is.

    numbers, scores: the knots of `modelling.number_scores`; cuts: (k,) scores between k + 1 steps
    """

    numbers: Vector
    scores: Vector
    weight: float
    cuts: Vector
    steps: Vector

    def term(self, values: Vector) -> Vector:
        score = np.interp(values, self.numbers, self.scores)
        bins = np.searchsorted(self.cuts, score, side="right") if len(self.cuts) else 0
        return np.asarray(self.weight * score + self.steps[bins])


@dataclass(frozen=True)
class Number:
    """A numeric feature: its bins end at the thresholds, and the last bin is that of missing values.

    missing: the term if there is no value
    """

    name: str
    thresholds: Vector
    curves: tuple[Curve, ...]
    missing: float

    @property
    def bins(self) -> int:
        return len(self.thresholds) + 2

    def encode(self, values: Any) -> tuple[Vector, Index]:
        """Return the term and the bin of each value: (n,) each."""
        values = np.asarray(values, dtype="float64")
        is_missing = np.isnan(values)
        term = np.zeros(len(values))
        for curve in self.curves:
            term += curve.term(values)
        term[is_missing] = self.missing
        bins = np.searchsorted(self.thresholds, values, side="left")
        bins[is_missing] = len(self.thresholds) + 1
        return term, bins


@dataclass(frozen=True)
class Category:
    """A categorical feature: each level is a bin, and the last bin is that of unknown levels.

    terms: (levels + 1,); seen: for each level, whether the model calls it known
    """

    name: str
    levels: tuple[str, ...]
    seen: NDArray[np.bool_]
    terms: Vector

    @property
    def bins(self) -> int:
        return len(self.levels) + 1

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {level: code for code, level in enumerate(self.levels)}

    def encode(self, values: Any) -> tuple[Vector, Index]:
        """Return the term and the bin of each value: (n,) each."""
        unknown = len(self.levels)
        codes = [self._codes.get(value, unknown) for value in values]
        bins = np.array(codes, dtype=np.intp)
        return self.terms[bins], bins

    def is_unseen(self, bins: Index) -> NDArray[np.bool_]:
        return ~np.append(self.seen, False)[bins]


@dataclass(frozen=True)
class Forest:
    """Trees of about the same size.

    masks: (bins of all features, trees), bit i of which is set if leaf i can be reached;
    values: (trees, width + 1), the weighted value of each leaf; the last one, of no leaf, is 0
    """

    masks: NDArray[Any]
    values: Matrix

    @cached_property
    def _first(self) -> Index:
        trees, leaves = self.values.shape
        return np.arange(trees) * leaves

    @cached_property
    def _leaf_values(self) -> Vector:
        return self.values[:, :-1].ravel()

    def score(self, bins: Index) -> Vector:
        """Compute the sum of the trees: (n,). bins: (features, n), rows of the masks."""
        total = np.empty(bins.shape[1])
        chunk = max(1, CACHE // self._first.nbytes)
        for start in range(0, bins.shape[1], chunk):
            rows = slice(start, start + chunk)
            leaf = self.masks.take(bins[0, rows], axis=0)
            for own in bins[1:, rows]:
                leaf &= self.masks.take(own, axis=0)
            places = np.bitwise_count(leaf - leaf.dtype.type(1)) + self._first
            total[rows] = self.values.take(places).sum(axis=1)
        return total

    def explain(self, bins: Index, baseline: Index) -> Matrix:
        """Compute baseline Shapley values: (n, features); baseline: (features, 1 or n), as the bins.

        A mixture of client and baseline client reaches a leaf if every feature passes. If only the
        client's value passes, the feature gains the leaf's value; if only the baseline value passes,
        it loses it.
        """
        added = np.zeros(bins.shape[::-1])
        for i, (own, other) in enumerate(
            zip(bins.T, np.broadcast_to(baseline, bins.shape).T, strict=True)
        ):
            if (own == other).all():
                continue
            client, base = self.masks[own], self.masks[other]
            reached = np.bitwise_and.reduce(client | base, axis=0)
            reached[(client == base).all(axis=0)] = 0
            leaves = np.flatnonzero(_bits(reached))
            won, lost = _bits(client & ~base)[:, leaves], _bits(base & ~client)[:, leaves]
            counts = won.sum(axis=0, dtype=np.intp), lost.sum(axis=0, dtype=np.intp)
            gain, loss = order_weights(len(own))
            values = self._leaf_values[leaves]
            added[i] = won @ (values * gain[counts]) - lost @ (values * loss[counts])
        return added


def _bits(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bits of masks as 0 and 1: (..., trees) to (..., trees * width)."""
    return np.unpackbits(masks.view(np.uint8), axis=-1, bitorder="little")


@lru_cache
def order_weights(players: int) -> tuple[Matrix, Matrix]:
    """Compute the share of feature orders in which one feature decides, by the numbers won and lost.

    1 / (a C(a+b, a)) if it is one of a features won, 1 / (b C(a+b, a)) if it is one of b lost.

    >>> [weights.tolist() for weights in order_weights(1)]
    [[[0.0, 0.0], [1.0, 0.5]], [[0.0, 1.0], [0.0, 0.5]]]
    """
    ways = np.ones((players + 1, players + 1))
    with np.errstate(over="ignore"):  # of a thousand features no order counts
        for n in range(1, players + 1):
            ways[n] = np.cumsum(ways[n - 1])
    gain = np.zeros_like(ways)
    gain[1:] = 1 / (np.arange(1, players + 1)[:, np.newaxis] * ways[1:])
    return gain, gain.T


class Encoded(NamedTuple):
    """Rows as a model reads them: the term of each value, and its row of the masks: (features, n)."""

    terms: Matrix
    bins: Index


@dataclass(frozen=True)
class Calibration:
    """The knots of `modelling.calibration.Calibration`, which is applied alike."""

    kind: str
    scores: tuple[float, ...]
    log_odds: tuple[float, ...]

    def apply(self, score: Vector) -> Vector:
        """Return the calibrated log-odds of scores: (n,) each.

        >>> Calibration(SIGMOID, (0.0, 1.0), (-1.0, 1.0)).apply(np.array([0.0, 2.0])).tolist()
        [-1.0, 3.0]
        """
        if self.kind == ISOTONIC:
            return np.asarray(np.interp(score, self.scores, self.log_odds))
        (a, b), (low, high) = self.scores, self.log_odds
        if self.kind == FLOORED:
            score = np.maximum(score, a)
        return np.asarray(low + (high - low) / (b - a) * (score - a))


@dataclass(frozen=True)
class FlatModel:
    """A model as plain arrays; it gives the risks of `models.predict` for the model it was made from."""

    encoders: tuple[Number | Category, ...]
    intercept: float
    forests: tuple[Forest, ...]
    calibration: Calibration

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(encoder.name for encoder in self.encoders)

    def predict(self, rows: "Columns | Encoded") -> Vector:
        """Compute the risk of each row: (n,) float in [0, 1]; there may be more columns."""
        return self.to_risk(self.score(rows))

    def to_risk(self, score: Vector) -> Vector:
        """Calibrate scores: (n,) log-odds to (n,) risks in [0, 1]."""
        return expit(self.calibration.apply(score))

    def score(self, rows: "Columns | Encoded") -> Vector:
        """Compute the log-odds of each row before calibration: (n,)."""
        terms, bins = self.encode(rows)
        score = self.intercept + np.asarray(terms.sum(axis=0))
        for forest in self.forests:
            score += forest.score(bins)
        return score

    def explain(self, rows: "Columns | Encoded", baseline: Mapping[str, Any]) -> Matrix:
        """Compute the contributions of `explanations.contributions`: (n, features).

        baseline: the value of each feature of one client; None if it is missing
        """
        return self.compare(rows, self.encode_one(baseline))

    def compare(self, rows: "Columns | Encoded", earlier: "Columns | Encoded") -> Matrix:
        """Compute the contributions against an earlier row of each client, or one for all."""
        encoded, base = self.encode(rows), self.encode(earlier)
        added = np.zeros(encoded.bins.shape[::-1])
        for forest in self.forests:
            added += forest.explain(encoded.bins, base.bins)
        return self.calibrate(encoded, base, added, self.score(encoded))

    def calibrate(
        self, rows: "Encoded", base: "Encoded", of_trees: Matrix, score: Vector
    ) -> Matrix:
        """Add the terms to the contributions of the trees, and scale both to the calibrated log-odds."""
        added, base_score = of_trees + (rows.terms - base.terms).T, self.score(base)
        difference = score - base_score
        moved = self.calibration.apply(score) - self.calibration.apply(base_score)
        scale = np.divide(moved, difference, out=np.zeros(len(score)), where=difference != 0)
        return added * scale[:, np.newaxis]

    def replace(
        self, rows: "Encoded", at: Index, features: Index, baseline: Mapping[str, Any]
    ) -> "Encoded":
        """Return some rows, in each of which one feature, by its number, has its baseline value."""
        base = self.encode_one(baseline)
        terms, bins = rows.terms[:, at], rows.bins[:, at]
        places = np.arange(len(at))
        terms[features, places] = base.terms[features, 0]
        bins[features, places] = base.bins[features, 0]
        return Encoded(terms, bins)

    def unseen(self, rows: "Columns | Encoded") -> dict[str, NDArray[np.bool_]]:
        """Return for each category which rows have a level that is new to the model: (n,)."""
        bins = self.encode(rows).bins - self.starts[:-1, np.newaxis]
        return {
            encoder.name: encoder.is_unseen(own)
            for encoder, own in zip(self.encoders, bins, strict=True)
            if isinstance(encoder, Category)
        }

    @cached_property
    def starts(self) -> Index:
        """The first row of each feature in the masks, and the number of rows."""
        return np.cumsum([0, *(encoder.bins for encoder in self.encoders)])

    def encode(self, rows: "Columns | Encoded") -> "Encoded":
        """Encode columns for several calls; what is encoded stays as it is."""
        if isinstance(rows, Encoded):
            return rows
        pairs = [encoder.encode(rows[encoder.name]) for encoder in self.encoders]
        terms = np.array([term for term, _ in pairs])
        return Encoded(terms, np.array([bins for _, bins in pairs]) + self.starts[:-1, np.newaxis])

    def encode_one(self, client: Mapping[str, Any]) -> "Encoded":
        return self.encode({name: [client[name]] for name in self.features})

    def to_bytes(self) -> bytes:
        """Return the model as the bytes of an .npz file; equal models give equal bytes."""
        about = {
            "encoders": [_plain(encoder) for encoder in self.encoders],
            "intercept": self.intercept,
            "calibration": _plain(self.calibration),
        }
        text = json.dumps(about, ensure_ascii=False, sort_keys=True).encode()
        arrays: dict[str, NDArray[Any]] = {DESCRIPTION: np.frombuffer(text, dtype=np.uint8)}
        for forest in self.forests:
            width = forest.masks.dtype.itemsize * 8
            arrays |= {f"masks{width}": forest.masks, f"values{width}": forest.values}
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, **arrays)
        return data.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "FlatModel":
        """Load a model and check all of it, so that no file can make it read outside its arrays.

        Raises: Damaged if it is not what `to_bytes` writes.
        """
        try:
            return _load(data)
        except Exception as error:  # a hostile file can raise anything; none of it may pass
            raise Damaged(f"the serving model cannot be trusted: {error}") from error


def expit(log_odds: Vector) -> Vector:
    """Compute the risk from log-odds: (n,) float in [0, 1].

    >>> expit(np.array([-1000.0, 0.0, 2.0])).round(2).tolist()
    [0.0, 0.5, 0.88]
    """
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small))


# ---- files


def _plain(record: Any) -> dict[str, Any]:
    """Return a record as JSON has it."""
    plain = asdict(record)
    if isinstance(record, Number):
        plain["curves"] = [_plain(curve) for curve in record.curves]
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in plain.items()
    }


def _load(data: bytes) -> FlatModel:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = file.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its arrays are compressed, expected them uncompressed")
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("its arrays are larger than the file")
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    names = {DESCRIPTION, *(f"{kind}{width}" for kind in ("masks", "values") for width in WIDTHS)}
    if len(members) != len(arrays) or not {DESCRIPTION} <= arrays.keys() <= names:
        raise ValueError(f"it contains the arrays {', '.join(sorted(arrays))}")
    about = _Fields(json.loads(_array(arrays.pop(DESCRIPTION), np.uint8, (None,)).tobytes()))
    encoders = tuple(_encoder(_Fields(one)) for one in about.take("encoders", list))
    if not encoders or len({encoder.name for encoder in encoders}) < len(encoders):
        raise ValueError("it has no feature, or one twice")
    bins = sum(encoder.bins for encoder in encoders)
    widths = [width for width in WIDTHS if f"masks{width}" in arrays]
    if len(arrays) != 2 * len(widths):
        raise ValueError("it has masks without values, or values without masks")
    forests = tuple(
        _forest(arrays[f"masks{width}"], arrays[f"values{width}"], width, bins) for width in widths
    )
    calibration = _calibration(_Fields(about.take("calibration", dict)))
    model = FlatModel(encoders, about.number("intercept"), forests, calibration)
    about.check_empty()
    return model


class _Fields:
    """The fields of a JSON object, each of which is taken once and has its type."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise ValueError(f"a record is {type(fields).__name__}, expected an object")
        self.fields = dict(fields)

    def take(self, name: str, kind: type) -> Any:
        value = self.fields.pop(name)
        if type(value) is not kind:
            raise ValueError(f"{name} is {type(value).__name__}, expected {kind.__name__}")
        return value

    def number(self, name: str) -> float:
        value: float = self.take(name, float)
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, expected a finite number")
        return value

    def list_of(self, name: str, kind: type) -> list[Any]:
        values: list[Any] = self.take(name, list)
        if any(type(value) is not kind for value in values):
            raise ValueError(f"{name} contains others than {kind.__name__}")
        return values

    def vector(self, name: str, length: int | None = None) -> Vector:
        values = np.array(self.list_of(name, float), dtype="float64")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are not finite")
        return _array(values, np.float64, (length,))

    def ascending(self, name: str) -> Vector:
        values = self.vector(name)
        if not (np.diff(values) > 0).all():
            raise ValueError(f"{name} do not ascend")
        return values

    def check_empty(self) -> None:
        if self.fields:
            raise ValueError(f"it has the fields {', '.join(sorted(self.fields))}")


def _array(values: NDArray[Any], kind: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return an array if it has this type and this shape, in which None is any length."""
    fits = len(values.shape) == len(shape) and all(
        wanted in (None, length) for length, wanted in zip(values.shape, shape, strict=True)
    )
    if values.dtype != np.dtype(kind) or not fits:
        expected = f"expected {np.dtype(kind)} {shape}"
        raise ValueError(f"an array is {values.dtype} {values.shape}, {expected}")
    return np.ascontiguousarray(values)


def _encoder(fields: _Fields) -> Number | Category:
    encoder = _category(fields) if "levels" in fields.fields else _number(fields)
    fields.check_empty()
    return encoder


def _number(fields: _Fields) -> Number:
    return Number(
        fields.take("name", str),
        fields.ascending("thresholds"),
        tuple(_curve(_Fields(curve)) for curve in fields.take("curves", list)),
        fields.number("missing"),
    )


def _curve(fields: _Fields) -> Curve:
    numbers, cuts = fields.ascending("numbers"), fields.ascending("cuts")
    if len(numbers) == 0:
        raise ValueError("a curve has no knot")
    scores, steps = fields.vector("scores", len(numbers)), fields.vector("steps", len(cuts) + 1)
    curve = Curve(numbers, scores, fields.number("weight"), cuts, steps)
    fields.check_empty()
    return curve


def _category(fields: _Fields) -> Category:
    levels = tuple(fields.list_of("levels", str))
    if len(set(levels)) < len(levels):
        raise ValueError("a level is there twice")
    seen = np.array(fields.list_of("seen", bool), dtype=bool)
    return Category(
        fields.take("name", str),
        levels,
        _array(seen, np.bool_, (len(levels),)),
        fields.vector("terms", len(levels) + 1),
    )


def _forest(masks: NDArray[Any], values: NDArray[Any], width: int, bins: int) -> Forest:
    values = _array(values, np.float64, (None, width + 1))
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("there is no tree, or the value of a leaf is not finite")
    return Forest(_array(masks, f"<u{width // 8}", (bins, len(values))), values)


def _calibration(fields: _Fields) -> Calibration:
    kind, scores = fields.take("kind", str), fields.vector("scores")
    log_odds = fields.vector("log_odds", len(scores))
    fields.check_empty()
    if kind not in (NONE, SIGMOID, FLOORED, ISOTONIC):
        raise ValueError(f"the calibration is {kind!r}")
    is_line = kind != ISOTONIC
    if len(scores) != 2 if is_line else len(scores) == 0:
        raise ValueError(f"the calibration has {len(scores)} knots")
    if not (np.diff(scores) > 0).all():
        raise ValueError("the knots of the calibration do not ascend")
    return Calibration(kind, tuple(scores.tolist()), tuple(log_odds.tolist()))
