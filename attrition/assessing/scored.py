"""The assessed clients of all parts as one table."""

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition.assessing import kept_parts
from attrition.assessing.kept_parts import Results
from attrition.assessing.parts import Whole, find_open, load_explainer
from attrition.config import Config
from attrition.data import clients
from attrition.data.cells import Reason, day_number
from attrition.data.client_parts import ClientParts
from attrition.engine import backends
from attrition.operations.releases import Release
from attrition.rows import ledger
from attrition.serving.explaining import Explainer
from attrition.storage import files

PARTS = ".parts-"  # the folder for the results of all parts begins with it


class Scored(NamedTuple):
    """The current clients with their risks, sorted by risk, and what is known of some of them.

    outcomes: see `find_outcomes`; is_long_ago: (n,) whether a client was last seen long ago
    """

    explainer: Explainer
    parts: ClientParts
    whole: Whole
    outcomes: Mapping[str, Sequence[tuple[int, bool]]]
    is_long_ago: NDArray[np.bool_]

    def ranks_of(self, names: Collection[str]) -> dict[str, int]:
        """Return client -> rank of the current clients among these."""
        wanted = list(names)
        ranks = self.parts.find(clients.client_keys(wanted))
        stored = iter(self.names_of(ranks[ranks >= 0]))
        own = [(name, rank) for name, rank in zip(wanted, ranks.tolist(), strict=True) if rank >= 0]
        return {name: rank for name, rank in own if name == next(stored)}

    def names_of(self, ranks: NDArray[np.intp]) -> list[str]:
        names: list[str] = self.parts.take(ranks, ["client"])["client"].to_pylist()
        return names

    def features_of(self, ranks: NDArray[np.intp], training: Mapping[str, Any]) -> dict[str, Any]:
        numeric = training["features"]["numeric"]
        kinds: dict[str, Any] = {
            name: np.empty(0) if name in numeric else [] for name in self.explainer.model.features
        }
        stored = self.parts.take(ranks, [clients.FEATURE + name for name in kinds])
        return model_columns(stored, kinds)


@contextmanager
def assessed(config: Config, release: Release, whole: Whole) -> Iterator[Scored]:
    """Assess all parts, and keep their results open until the assessment is written."""
    files.make_folder(config.reports_folder)
    # Each run has its own, because workers of one that was interrupted may still be writing.
    folder = Path(tempfile.mkdtemp(prefix=PARTS, dir=config.reports_folder))
    try:
        results, whole = assess_rows(config, release.id, whole, folder)
        parts = ClientParts(results.parts)
        times, distinct = parts.codes("observed_at")
        days = np.array([*map(day_number, distinct), np.nan])[times]
        is_long_ago = clients.last_seen_long_ago(days, day_number(results.newest))
        _, explainer = load_explainer(config.production_folder, release.id)
        yield Scored(explainer, parts, whole, results.outcomes, is_long_ago)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def assess_rows(
    config: Config, release_id: str, whole: Whole, folder: Path
) -> tuple[Results, Whole]:
    """Assess all parts, or only the clients who changed since parts were kept.

    Returns the whole as well, with `has_open`.
    """

    def run(whole: Whole, pieces: Iterable[tuple[Any, ...]]) -> list[files.Record]:
        calls = [(config, part, release_id, whole, folder, *only) for part, *only in pieces]
        return backends.run(config.engine, "attrition.assessing.parts:assess_part", calls)

    size = config.engine.rows_per_part
    if (kept := kept_parts.read(config, release_id, whole)) is not None:
        whole = whole._replace(has_open=kept.record["has_open"])
        records = run(whole, kept.pieces(size))
        if (results := kept_parts.combine_kept(config, kept, records, whole)) is not None:
            return results, whole
        for record in records:
            record["path"].unlink()
    whole = whole._replace(has_open=find_open(config, whole.latest_time))
    records = run(whole, ((part,) for part in ledger.split_rows(config, size)))
    records = kept_parts.keep(config, folder, records, release_id, whole)
    return kept_parts.combine(records), whole


class Shown(NamedTuple):
    """The clients on the list and those who may come next, with what is computed only for them.

    rows: their ranks, in order; list_reasons, changes: one for each; shared: see `explain_list`
    """

    rows: NDArray[np.intp]
    list_reasons: list[list[Reason]]
    changes: list[list[Reason]]
    shared: list[dict[str, Any]]


def model_columns(table: pa.Table, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features of stored clients as a model takes them; kinds: columns of the same types."""
    columns: dict[str, Any] = {}
    for name, kind in kinds.items():
        stored = table[clients.FEATURE + name]
        if isinstance(kind, np.ndarray):
            columns[name] = pc.fill_null(stored, np.nan).to_numpy()
        else:
            columns[name] = stored.to_pylist()
    return columns
