"""Assess the current clients among the rows of a part; every part alone, in any process."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attrition.config import Columns, Config
from attrition.contacts import ranking
from attrition.data import client_parts, clients
from attrition.data.cells import MAX_DAYS, NAME_LENGTH, Caution
from attrition.modelling import metrics, reliability
from attrition.operations.releases import Release
from attrition.rows import ledger, observations, typed_rows
from attrition.rows.ledger import Part
from attrition.serving import production, risk_scores
from attrition.serving.explaining import Explainer
from attrition.storage import files, tables

OTHER_UNIT = ("other_unit", "other_unit_new")


class Whole(NamedTuple):
    """What the assessment of a part needs to know about all rows.

    has_open: whether any row is open, see `find_open`; wanted: clients whose outcomes are returned
    judged: those of them about whom a manager has an opinion; managers: of the reassigned clients
    """

    latest_time: str
    has_open: bool
    other_units: Mapping[int, str]
    wanted: frozenset[str]
    judged: frozenset[str]
    managers: Mapping[str, str]


def assess_part(
    config: Config,
    part: Part,
    release_id: str,
    whole: Whole,
    folder: Path,
    only: NDArray[np.uint64] | None = None,
) -> files.Record:
    """Assess the current clients among the rows of a part, and write them; see `client_parts`.

    Returns the path and the hash of the new file, what `describe_rows` returns, the number of clients,
    and the outcomes of the clients in `wanted`: client -> (number of the delivery, left), in order.

    only: sorted hashes of clients; the rows of others are left out
    """
    # For a million clients, arrow's own pool takes 1.2 CPU s (of 21) and 90 MB more.
    pa.set_memory_pool(pa.system_memory_pool())
    columns = config.columns
    release, explainer = load_explainer(config.production_folder, release_id)
    model, baseline = explainer.model, explainer.baseline
    names = (*columns.table, typed_rows.DELIVERED, typed_rows.CLIENT_HASH)
    stored = ledger.read_table(config, names, part=part, clients=only)
    rows = tables.to_frame(stored, categories=[columns.client_name])
    current = clients.current_clients(rows, columns, whole.latest_time, whole.has_open)
    current, in_other_units = keep_last_good(rows, current, whole.other_units, columns)
    features = feature_columns(current, release.training)
    encoded = model.encode(features)
    score = model.score(encoded)
    added = explainer.explain(encoded, score)
    strongest, counts = explainer.strongest(encoded, added, score, ranking.REASONS)
    cautions = reliability.find_cautions(features, model.unseen(encoded), release.training)
    for row, caution in in_other_units.items():
        cautions[row] = [caution, *cautions.get(row, ())]
    risk = model.to_risk(score)
    order = np.argsort(-risk, kind="stable")
    table = tabulate(current.iloc[order], risk[order], columns)
    hashes = current[typed_rows.CLIENT_HASH].to_numpy()[order]
    table = table.append_column(client_parts.CLIENT_HASH, pa.array(hashes))
    of_model = {name: features[name] for name in model.features}
    reasons = clients.reason_array(strongest, counts, added, of_model, baseline)
    texts = risk_scores.reason_texts(strongest, counts, of_model, baseline, config.labels)
    place = np.argsort(order)
    cautions = {int(place[row]): each for row, each in cautions.items()}
    managers, texts = _reassign(table, whole.managers), texts.take(pa.array(order))
    cells = risk_scores.cells(table, managers, texts, cautions, config.labels)
    of_rows = clients.to_list_array(cautions, len(table), clients.COLUMNS["cautions"])
    table = table.append_column("cautions", of_rows)
    table = table.append_column("reasons", reasons.take(pa.array(order)))
    for name, cell in cells.items():
        table = table.append_column(name, cell)
    path, digest = client_parts.write_part(folder, table)
    return {
        "path": path,
        "sha256": digest,
        "clients": rows[typed_rows.CLIENT_HASH].nunique(),
        "outcomes": find_outcomes(rows, whole.wanted, columns),
        **describe_rows(rows, columns, whole.latest_time),
    }


def describe_rows(rows: pd.DataFrame, columns: Columns, latest_time: str) -> dict[str, Any]:
    """Return a client with an open row, the newest time up to the latest one, and the next one after it.

    Rows after the latest time count only if a client has no other row; see `clients.current_clients`.

    open_client: the hash of the client, None if no row is open; newest_client: that of a client with a
    row of the newest time; the times are "" if there is none
    """
    is_open, hashes = (
        rows[columns.outcome].isna().to_numpy(),
        rows[typed_rows.CLIENT_HASH].to_numpy(),
    )
    times = rows[columns.time].to_numpy(dtype=object) if columns.time else np.empty(0, object)
    distinct = pd.unique(times)
    newest = max((time for time in distinct if time <= latest_time), default="")
    next_time = min((time for time in distinct if time > latest_time), default="")
    if next_time:
        is_future = times > latest_time
        is_open = is_open & ~(is_future & np.isin(hashes, hashes[~is_future]))
    return {
        "open_client": int(hashes[np.argmax(is_open)]) if is_open.any() else None,
        "newest": newest,
        "newest_client": int(hashes[np.argmax(times == newest)]) if newest else 0,
        "next_time": next_time,
    }


def find_open(config: Config, latest_time: str) -> bool:
    """Return whether any row is open; no part is read after the first one that shows it."""
    columns = config.columns
    names = [columns.outcome, typed_rows.CLIENT_HASH, *([columns.time] if columns.time else [])]
    pieces = ledger.split_rows(config, config.engine.rows_per_part)
    parts = (ledger.read_rows(config, names, part=part) for part in pieces)
    return any(
        describe_rows(rows, columns, latest_time)["open_client"] is not None for rows in parts
    )


@lru_cache(maxsize=1)
def load_explainer(folder: Path, release_id: str) -> tuple[Release, Explainer]:
    """Load a release and its model, once in each process."""
    release, model = production.load_checked(folder, release_id)
    return release, Explainer(model, release.training["baseline"])


def feature_columns(rows: pd.DataFrame, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features of typed rows as a model takes them."""
    features = training["features"]
    numbers = {name: rows[name].to_numpy(dtype="float64") for name in features["numeric"]}
    return numbers | {name: rows[name].tolist() for name in features["categorical"]}


def find_outcomes(
    rows: pd.DataFrame, wanted: Collection[str], columns: Columns
) -> dict[str, list[tuple[int, bool]]]:
    """Return the outcomes of some clients: client -> (number of the delivery, left), in order."""
    outcomes: dict[str, list[tuple[int, bool]]] = {}
    if not wanted:
        return outcomes
    client, outcome = columns.client_name, columns.outcome
    hashes = [client_hash(name, columns) for name in wanted]
    known = rows[rows[typed_rows.CLIENT_HASH].isin(hashes) & rows[outcome].notna()]
    known = known[known[client].isin(wanted)]
    for name, left, number in zip(
        known[client], known[outcome] == 1, known[typed_rows.DELIVERED], strict=True
    ):
        outcomes.setdefault(name, []).append((int(number), bool(left)))
    return outcomes


def client_hash(name: str, columns: Columns) -> int:
    """Return the hash of a client as the rows have it."""
    return observations.name_hash(name if columns.client else name[:NAME_LENGTH])


def tabulate(current: pd.DataFrame, risk: metrics.Vector, columns: Columns) -> pa.Table:
    """Return the columns of `clients` that depend on one client alone, without the lists.

    risk: (n,) in [0, 1]
    """
    value = current[columns.value].to_numpy() if columns.value else np.full(len(current), np.nan)
    names = pa.array(current[columns.client_name]).cast(pa.string())
    texts = {
        name: current[of].to_numpy() if (of := getattr(columns, name)) else [""] * len(current)
        for name in ("manager", "phone", "email")
    }
    values = {
        "client": names,
        "risk": risk,
        "observed_at": current[columns.time].to_numpy() if columns.time else [""] * len(current),
        "value": value,
        "value_at_risk": risk * value,
        **texts,
        "due": due_dates(current, columns),
    }
    arrays = {clients.KEY: pa.array(clients.hash_names(names.cast(pa.binary()).to_pylist()))}
    arrays |= {name: clients.to_array(each, clients.COLUMNS[name]) for name, each in values.items()}
    for name in columns.features:
        arrays[clients.FEATURE + name] = clients.to_array(
            current[name], clients.feature_type(current[name])
        )
    return pa.table(arrays)


def due_dates(current: pd.DataFrame, columns: Columns) -> Sequence[str]:
    """Return the due dates, "" if unknown; if they are a feature, from the days after the time."""
    if not columns.due:
        return [""] * len(current)
    due = current[columns.due]
    if columns.due not in columns.dates or not columns.time:
        return list(due)
    days = due.where(current[columns.time].ne("") & due.abs().lt(MAX_DAYS))
    dates = pd.to_datetime(current[columns.time].str[:10]) + pd.to_timedelta(days, unit="D")
    return list(dates.dt.strftime("%Y-%m-%d").fillna(""))


def keep_last_good(
    rows: pd.DataFrame, current: pd.DataFrame, other_units: Mapping[int, str], columns: Columns
) -> tuple[pd.DataFrame, dict[int, Caution]]:
    """Replace rows of deliveries in other units by the client's previous observation, if there is one.

    other_units: the columns by number of the delivery. Returns the rows, and the cautions by row.
    """
    numbers = current[typed_rows.DELIVERED]
    if not (is_wrong := numbers.isin(list(other_units))).any():
        return current, {}
    rows, current = (each.astype({columns.client_name: object}) for each in (rows, current))
    good = rows[~rows[typed_rows.DELIVERED].isin(list(other_units))]
    good = good.sort_values(columns.time, kind="stable") if columns.time else good
    good = good.drop_duplicates(columns.client_name, keep="last").set_index(columns.client_name)
    names = current[columns.client_name]
    has_good = is_wrong & names.isin(good.index)
    replaced = [
        name for name in columns.table if name not in (columns.client_name, columns.outcome)
    ]
    kept = current.copy()
    kept.loc[has_good, replaced] = good.loc[names[has_good], replaced].to_numpy()
    kept = kept.astype(current.dtypes)
    cautions = {
        row: Caution(OTHER_UNIT[not known], other_units[number])
        for row, (number, wrong, known) in enumerate(zip(numbers, is_wrong, has_good, strict=True))
        if wrong
    }
    return kept, cautions


def _reassign(table: pa.Table, managers: Mapping[str, str]) -> pa.Array:
    """Return the manager of each client, those of reassigned ones replaced."""
    if not managers:
        return table["manager"].combine_chunks()
    pairs = zip(table["client"].to_pylist(), table["manager"].to_pylist(), strict=True)
    return pa.array([managers.get(name) or manager for name, manager in pairs], pa.string())
