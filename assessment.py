"""Step 5: assess every current client with the model in production, and write the contact list.

Reads:  production_deployment/current, the current clients in ingesteddata/finaldata.csv,
        contacts/contacts.sqlite (the contact log), production_deployment/settled_rows.npz
Writes: reports/clients.parquet (every current client: features, risk, reasons and cautions),
        riskscores.csv (the same for programs), contactlist.csv (the list for people),
        previous.parquet (the assessment of an earlier day, to compare with), riskhistory.npy (the risk
        of every client over time), assessment.json (the record); in an experiment also whom it
        assigned, in contacts/contacts.sqlite
Run:    python assessment.py [--config PATH]
"""

import logging
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attrition import wording
from attrition.assessing.last import Last, read_last
from attrition.assessing.outputs import add_last_seen, ranked_clients, write_risk_scores
from attrition.assessing.parts import Whole
from attrition.assessing.scored import PARTS, Scored, Shown, assessed, model_columns
from attrition.config import Columns, Config
from attrition.contacts import (
    activity,
    assignments,
    daily_list,
    desk,
    fields,
    log,
    ranking,
    standings,
)
from attrition.contacts.daily_list import Change, Earlier
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Book, ContactList
from attrition.contacts.standings import Standing
from attrition.data import clients, risk_history
from attrition.data.cells import Reason
from attrition.data.risk_history import History, Snapshot
from attrition.effect import breakeven
from attrition.engine import backends
from attrition.errors import Damaged
from attrition.modelling import metrics, reliability
from attrition.monitoring import performance
from attrition.monitoring.performance import Estimate, SecondOpinion
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.rows import ledger
from attrition.serving import explaining
from attrition.serving.explaining import Explainer
from attrition.serving.served import Served
from attrition.storage import files, history, tables
from attrition.upkeep import integrity

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

LEAST_GAIN, SHOWN_GAINS = 0.02, 3  # of the feature importance; features

SETTINGS = (
    *("columns", "contact_capacity", "contact_order", "labels", "max_days_ahead"),
    *("manager_capacity", "cooldown_reached_days", "cooldown_not_reached_days", "time_zone"),
    *("contact_cost", "contact_success", "experiment"),
)
NO_SIGNAL = "the model in production is a base rate: all clients have the same risk"
UNKNOWN_EXEMPT = (
    "config.json: %d of the %d names in experiment.never_hold_out.clients belong to no current client, "
    "the first is number %d; correct or remove them"
)
NO_KEY = "the environment variable of experiment.key, %s, is not set, so nobody new is held out"
# Clients that are compared with the reference; if there are more, a sample of them.
WEIGHED = 50_000
HISTOGRAM_EDGES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Assessment:
    """The size of the risk and of the list; assessment.json and the two lists have the details."""

    clients: int
    expected_to_leave: float
    listed: int
    listed_to_leave: float
    contains: str
    has_signal: bool
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        if not self.clients:
            return "there is no current client to assess"
        texts = [
            f"expected to leave: {self.expected_to_leave:,.0f} of "
            f"{wording.plural(self.clients, 'current client')}, "
            f"and {self.listed_to_leave:,.0f} of the {self.listed:,} on the contact list"
        ]
        texts += [f"the list contains {self.contains}"] if self.contains else []
        texts += [] if self.has_signal else [NO_SIGNAL]
        return "; ".join(texts)


# ---- compute


def explain_list(
    explainer: Explainer,
    columns: Mapping[str, Any],
    fixed: Collection[str],
    listed: int,
) -> tuple[list[list[Reason]], list[dict[str, Any]]]:
    """Return the reasons that distinguish each client from those on the list, and what nearly all share.

    The contributions are relative to the list. A category that nearly all share is left out if the
    client has another reason.

    columns: of the listed clients, and behind them of those who may come next
    listed: how many are on the list
    """
    model, baseline = explainer.model, explainer.baseline
    rows = model.encode(columns)
    score = model.score(rows)
    added = explainer.explain(rows, score)
    if len(added) == 0:
        return [], []
    of_list = slice(listed or None)  # if nobody is listed, the others are compared with each other
    first = {name: values[of_list] for name, values in columns.items()}
    shared = [
        {"feature": name, "value": value, "baseline": baseline[name], "clients": clients}
        for name, (value, clients) in explaining.shared(first, added[of_list]).items()
    ]
    levels = {each["feature"]: each["value"] for each in shared if isinstance(each["value"], str)}
    order = explaining.distinguishing(model, rows, added, score, baseline, fixed, of_list.stop)
    relative = explaining.relative_to_list(added, of_list.stop).tolist()
    values, names = _plain_values(columns), [*columns]
    reasons = []
    for i, each in enumerate(order):
        own = [
            Reason(names[j], values[names[j]][i], baseline[names[j]], relative[i][j]) for j in each
        ]
        apart = [reason for reason in own if levels.get(reason.feature) != reason.value]
        reasons.append((apart or own)[: ranking.REASONS])
    return reasons, shared if listed else []


def explain_changes(
    model: Served, columns: Mapping[str, Any], at: NDArray[np.intp], earlier: pa.Table
) -> list[list[Reason]]:
    """Return the features that changed each client's risk, the strongest first.

    Their contributions add up to the change of the log-odds; the baseline is the earlier value. The list
    is empty if the client is new, or if a feature of the model was not stored.

    columns: of n clients; at: their rows in the earlier table, -1 if new
    """
    changes: list[list[Reason]] = [[] for _ in at]
    places = np.flatnonzero(at >= 0)
    if not len(places) or not {clients.FEATURE + name for name in columns} <= {
        *earlier.column_names
    }:
        return changes
    then = model_columns(earlier.take(pa.array(at[places])), columns)
    now = {
        name: values[places]
        if isinstance(values, np.ndarray)
        else [values[i] for i in places.tolist()]
        for name, values in columns.items()
    }
    values, previous = _plain_values(now), _plain_values(then)
    for i, (place, added) in enumerate(zip(places, model.compare(now, then).tolist(), strict=True)):
        reasons = [
            Reason(name, values[name][i], previous[name][i], contribution)
            for name, contribution in zip(values, added, strict=True)
            if contribution
        ]
        changes[place] = sorted(reasons, key=lambda reason: -abs(reason.contribution))
    return changes


def _plain_values(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of columns as lists, None if missing."""
    return {
        name: [None if value != value else value for value in values.tolist()]
        if isinstance(values, np.ndarray)
        else [value or None for value in values]
        for name, values in columns.items()
    }


def estimate_performance(
    some: pd.DataFrame,
    risk: metrics.Vector,
    value: metrics.Vector,
    release: Release,
    columns: Columns,
    is_listed: NDArray[np.bool_],
) -> tuple[Estimate, SecondOpinion]:
    """Estimate how many clients will leave and how well the model performs on them.

    The second opinion is the same estimate from reference rows that are similar to these clients.

    some: the features of some clients, or of all; risk, value, is_listed: of all
    """
    reference = releases.read_reference(release)
    features = release.training["features"]
    weighing = performance.weigh(reference, some, features["numeric"], features["categorical"])
    given: dict[str, Any] = {
        **performance.reference_arguments(reference, columns.outcome),
        "value": value if has_value(value) else None,
        "capacity": int(is_listed.sum()),
        "is_listed": is_listed,
    }
    return performance.estimate(risk, **given), performance.second_opinion(risk, weighing, **given)


def has_value(value: NDArray[np.floating[Any]]) -> bool:
    """Return whether the value of any client is known."""
    return bool(np.isfinite(value).any())


def summarise_portfolio(
    risk: metrics.Vector, value: metrics.Vector, estimated: Estimate, columns: Columns
) -> dict[str, Any]:
    """Compute the figures of the portfolio and of the list, with their intervals.

    Every number of leavers and every value at risk is that of the estimate, never a sum of risks.
    """
    is_known = has_value(value)
    counts, _ = np.histogram(risk, HISTOGRAM_EDGES)
    return {
        "clients": len(risk),
        "expected_to_leave": estimated.expected.to_dict(),
        "value": float(np.nansum(value)) if is_known else None,
        "without_value": int(np.isnan(value).sum()) if columns.value else None,
        "value_at_risk": estimated.value_at_risk.to_dict() if is_known else None,
        "list": {
            "clients": estimated.called,
            "expected_to_leave": estimated.listed.to_dict(),
            "value_at_risk": estimated.listed_value_at_risk.to_dict() if is_known else None,
        },
        "risk_histogram": {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts.tolist()},
    }


def describe_change(
    before: files.Record, after: files.Record, newly_listed: int
) -> dict[str, Any] | None:
    """Describe what the last deployment changed in the assessment; None before the second release.

    before, after: the records of two assessments; newly_listed: clients on the list now and not before.
    gained: the features whose share of the importance grew, the most first.
    """
    if "importance" not in before or before["release"] == after["release"]:
        return before.get("change")  # an earlier version has neither
    shares = {
        name: share - before["importance"].get(name, 0.0)
        for name, share in after["importance"].items()
    }
    gained = sorted(shares, key=lambda name: -shares[name])
    return {
        "from": before["release"],
        "to": after["release"],
        "expected_before": before["expected_to_leave"]["value"],
        "expected_after": after["expected_to_leave"]["value"],
        "listed": after["list"]["clients"],
        "newly_listed": newly_listed,
        "gained": [name for name in gained if shares[name] >= LEAST_GAIN][:SHOWN_GAINS],
    }


# ---- the step


def assess_clients(config: Config) -> Assessment:
    """Predict the risk of every current client, rank them, and make the contact list of the day.

    Raises: NoModel if there is no model in production; Damaged, also if the contact log is.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    for left_over in config.reports_folder.glob(f"{PARTS}*"):  # of a run that was interrupted
        shutil.rmtree(left_over, ignore_errors=True)
    release = releases.read_for(config.production_folder, config.columns)
    entries, seal = log.read(config.contact_log)
    now = files.utc_now()
    day = config.day(now)
    is_dated = bool(entries or config.columns.due or config.experiment)
    inputs = {
        "finaldata": ledger.rows_version(config),
        "release": release.id,
        "columns": config.limited_to("columns").fingerprint(),
        "settings": config.fingerprint(),
        "other_units": str(read_other_units(config)),
        "lists": fields.CSV_LAYOUT,
        "contacts": f"{len(entries)} {seal}" if entries else "",
        "day": day if is_dated else "",
        **experiment_inputs(config),
    }
    if (record := files.read_if_up_to_date(config.assessment_record, inputs)) is not None:
        return _assessment(record, up_to_date=True)
    last = read_last(config, day)
    by_client = standings.all_standings(entries, day, desk.rules_of(config))
    whole = describe_whole(config, last, by_client)
    with assessed(config, release, whole) as scored:
        record = make_list(config, scored, release, last, by_client, now, inputs)
        return _assessment(record, up_to_date=False)


def describe_whole(config: Config, last: Last, by_client: Mapping[str, Standing]) -> Whole:
    """Describe what each part needs to know; `assess_rows` finds whether any row is open."""
    judged = frozenset(entry.client for entry in overrides(by_client))
    listed = daily_list.listed_clients(last.earlier.table) if last.earlier else set()
    return Whole(
        ledger.read_latest_time(config),
        has_open=False,
        other_units=read_other_units(config),
        wanted=judged.union(last.listed or (), listed),
        judged=judged,
        managers={name: each.manager for name, each in by_client.items() if each.manager},
    )


def make_list(
    config: Config,
    scored: Scored,
    release: Release,
    last: Last,
    by_client: Mapping[str, Standing],
    now: str,
    inputs: Mapping[str, str],
) -> files.Record:
    """Make the contact list of the day from the assessed clients, and write all files.

    The figures of the portfolio are estimated while the files are written, if there are several workers.
    """
    day, parts = config.day(now), scored.parts
    change = daily_list.compare_with(parts.keys, parts.risk, last.earlier)
    book = daily_list.make_book(parts, change)
    order = ranking.order_of_list(book, config.contact_order)
    ranks = scored.ranks_of({*by_client, *scored.whole.wanted})
    by_row = {ranks[client]: each for client, each in by_client.items() if client in ranks}
    listed = choose_listed(config, scored, book, order, by_row, release.id, now)
    measured, seen = measure_contacts(config, by_client, now)
    inputs = {**inputs, **seen}
    next_rows = ranking.next_rows(order, listed, config.contact_capacity)
    shown = explain(config, scored, release, listed, next_rows, last.earlier)
    record = {
        "inputs": inputs,
        "assessed_at": now,
        "day": day,
        "release": release.id,
        "has_signal": release.training["kind"] != reliability.BASE_RATE,
        "have_stayed": not (scored.whole.has_open and parts.total),
        "shared_reasons": shown.shared,
        "importance": release.training["importance"],
        **compare_lists(scored, ranks, listed, last.earlier),
        "team": describe_team(config, book, listed, by_row, ranks, by_client, day),
        "overrides": score_overrides(config, scored, by_client),
        "experiment": measured
        and measured | {"held_out": len(listed.held_out), "listed": len(listed.rows)},
    }
    names = scored.names_of(listed.rows)
    keep_moves(config, record, last, scored, ranks, listed, names)
    on_list = tabulate_list(scored, listed, shown, change, by_row)
    risks, snapshots = risk_history.add(
        last.history, last.snapshots, parts.keys, parts.risk, Snapshot(day, release.id)
    )
    record["snapshots"] = [snapshot._asdict() for snapshot in snapshots]
    contents = prepare_files(config, scored, shown, change, on_list, risks, last.earlier)

    def complete() -> files.Record:
        whole = record | estimate_portfolio(config, scored, release, book, listed)
        newly_listed = len(set(names) - (last.listed or set()))
        return {**whole, "change": describe_change(last.record, whole, newly_listed)}

    at_once = backends.count_threads(config.engine)
    return files.commit(config.assessment_record, contents, complete, at_once=at_once)


def choose_listed(
    config: Config,
    scored: Scored,
    book: Book,
    order: ranking.Places,
    by_row: Mapping[int, Standing],
    release_id: str,
    now: str,
) -> ContactList:
    """Return the contact list of the day; save who is above its line for the first time in a quarter.

    The list is made again if the app assigned one of them otherwise in the meantime.
    """
    day, columns = config.day(now), ("client", "risk", "value", "observed_at")

    def read(rows: Sequence[int]) -> list[dict[str, Any]]:
        table: list[dict[str, Any]] = scored.parts.take(rows, columns).to_pylist()
        return table

    if config.experiment:
        exempt = config.experiment.never_hold_out.clients
        known = scored.ranks_of({*exempt})
        if unknown := [i for i, name in enumerate(exempt, 1) if name not in known]:
            logger.warning(UNKNOWN_EXEMPT, len(unknown), len(exempt), unknown[0])
        if config.experiment.secret is None:
            logger.warning(NO_KEY, config.experiment.key)
    while True:
        trial = desk.read_trial(config, day)
        draw = (lambda rows, trial=trial: trial.draw(rows, read)) if trial else None
        listed = ranking.make_list(book, order, by_row, desk.capacity_of(config), day, draw)
        if trial is None:
            return listed
        new = trial.new_assignments(listed.arms, read, now, release_id)
        stored = assignments.append(config.contact_log, new)
        if [each.arm for each in stored] == [each.arm for each in new]:
            return listed


def experiment_inputs(config: Config) -> dict[str, str]:
    """Return what the description of the experiment depends on; {} if there is and was none."""
    if not (inputs := assignments.find_inputs(config)):
        return {}
    waiting = read_waiting(config)
    return inputs | {"waiting": "" if waiting is None else files.sha256_bytes(waiting.tobytes())}


def read_waiting(config: Config) -> NDArray[np.uint64] | None:
    """Return the outcomes that do not count yet; None if monitoring.py has not judged these rows."""
    try:
        record = files.read_record(config.monitoring_record) or {}
        if record.get("inputs", {}).get("finaldata") == ledger.rows_version(config):
            return releases.read_waiting(config)
    except Damaged:
        pass  # monitoring.py reports it, and judges again
    return None


def measure_contacts(
    config: Config, by_client: Mapping[str, Standing], now: str
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Describe the experiment, and take the look that is due; None if there is and was none.

    Returns the records of the contact log that are part of it, too.
    """
    path, day = config.contact_log, config.day(now)
    assigned, counted = assignments.read(path)
    if config.experiment is None and not assigned:
        return None, {}
    from attrition.effect import units  # it imports scipy

    waiting = read_waiting(config)
    rows = units.read_rows(config, {each.client for each in assigned}, waiting)
    own = units.find_units(config, assigned, rows, by_client)
    looks, _ = assignments.read_looks(path)
    trial = desk.trial_of(config, assigned, looks, day)
    if trial and waiting is not None:
        look = units.take_look(own, looks, day, now, trial.share)
        if look is not None:
            assignments.append_look(path, look)
    looks, taken = assignments.read_looks(path)
    trial = desk.trial_of(config, assigned, looks, day)
    described = units.describe_experiment(trial, own, looks, day)
    described["value_kept"] = units.measure_kept(own, day, config.contact_order)
    return described, {assignments.TABLE: counted, assignments.LOOKS: taken}


def explain(
    config: Config,
    scored: Scored,
    release: Release,
    listed: ContactList,
    next_rows: NDArray[np.signedinteger[Any]],
    earlier: Earlier | None,
) -> Shown:
    """Explain the clients on the list, and those who may come next."""
    rows = np.concatenate([listed.rows, next_rows]).astype(np.intp)
    fixed = [name for name, label in config.labels.items() if label.fixed]
    columns = scored.features_of(rows, release.training)
    reasons, shared = explain_list(scored.explainer, columns, fixed, len(listed.rows))
    changes: list[list[Reason]] = [[] for _ in rows]
    if earlier is not None and earlier.release == release.id:
        at = earlier.rows_of(scored.parts.keys[rows])
        changes = explain_changes(scored.explainer.model, columns, at, earlier.table)
    return Shown(rows, reasons, changes, shared)


def estimate_portfolio(
    config: Config, scored: Scored, release: Release, book: Book, listed: ContactList
) -> dict[str, Any]:
    """Return the figures of the portfolio and of the list, and the estimates behind them."""
    is_listed = np.zeros(scored.parts.total, dtype=bool)
    is_listed[listed.rows] = True
    some, value = sample_clients(scored, release), book.value.astype("float64", copy=False)
    estimated, again = estimate_performance(
        some, book.risk, value, release, config.columns, is_listed
    )
    return {
        **summarise_portfolio(book.risk, value, estimated, config.columns),
        "break_even": breakeven.break_even(
            book.risk, book.value, config.contact_cost, config.contact_success
        ),
        "estimate": estimated.to_dict(),
        "second_opinion": again.to_dict(),
    }


def sample_clients(scored: Scored, release: Release) -> pd.DataFrame:
    """Return the features of all clients, or of the sample with the lowest hashes, sorted by client."""
    parts, rows = scored.parts, np.arange(scored.parts.total)
    if len(rows) > WEIGHED:
        rows = np.sort(np.argpartition(parts.keys, WEIGHED)[:WEIGHED])
    names = pa.array(scored.names_of(rows), pa.string())
    rows = rows[pc.sort_indices(names).to_numpy()]
    return pd.DataFrame(scored.features_of(rows, release.training))


def compare_lists(
    scored: Scored, ranks: Mapping[str, int], listed: ContactList, earlier: Earlier | None
) -> dict[str, Any]:
    """Count who is listed and who is not, and name those gone since the list of an earlier day."""
    was_listed = daily_list.listed_clients(earlier.table) if earlier else set()
    return {
        **daily_list.summarise(listed),
        "gone": daily_list.describe_gone(ranks, listed, was_listed, who_left(scored)),
        "changes_since": earlier.day if earlier else None,
        "earlier_release": earlier.release if earlier else None,
    }


def who_left(scored: Scored) -> set[str]:
    return {name for name, each in scored.outcomes.items() if any(left for _, left in each)}


def describe_team(
    config: Config,
    book: Book,
    listed: ContactList,
    by_row: Mapping[int, Standing],
    ranks: Mapping[str, int],
    by_client: Mapping[str, Standing],
    day: str,
) -> list[dict[str, Any]]:
    """Count for each manager the clients listed and reached, and the follow-ups; see `activity.team`."""

    def manager(row: int) -> str:
        return (by_row[row].manager if row in by_row else "") or book.managers[book.manager[row]]

    managers = {client: manager(ranks[client]) for client in by_client if client in ranks}
    of_listed = [manager(row) for row in listed.rows.tolist()]
    return activity.team(of_listed, by_client, managers, day, desk.rules_of(config))


def overrides(by_client: Mapping[str, Standing]) -> list[Entry]:
    """Return the opinions of managers that count."""
    counting = [entry for standing in by_client.values() for entry in standing.entries]
    return [entry for entry in counting if entry.kind == log.OVERRIDE]


def score_overrides(
    config: Config, scored: Scored, by_client: Mapping[str, Standing]
) -> dict[str, int | None]:
    """Compare the opinions of managers with the outcomes that arrived since."""
    opinions = overrides(by_client)
    lines = ledger.read_lines(config) if opinions else []
    outcomes = {
        entry.client: sorted(
            (lines[number].ingested_at if number != ledger.NEVER else "", left)
            for number, left in scored.outcomes.get(entry.client, ())
        )
        for entry in opinions
    }
    return activity.score_overrides(opinions, outcomes)


def keep_moves(
    config: Config,
    record: files.Record,
    last: Last,
    scored: Scored,
    ranks: Mapping[str, int],
    listed: ContactList,
    names: Sequence[str],
) -> None:
    """Save who came onto the list and who left it since the last assessment.

    This is done before the assessment is written: if a crash lets both be computed again, the same rows
    are replaced.

    names: of the listed clients
    """
    if last.listed is None:
        return  # the last list cannot be read
    gone = daily_list.describe_gone(ranks, listed, last.listed, who_left(scored))
    risks = scored.parts.risk[listed.rows].tolist()
    moves = daily_list.describe_moves(names, risks, listed, last.listed, gone)
    basis = {"inputs": record["inputs"], "last": last.record.get("seal")}
    fingerprint = files.sha256_bytes(files.encode(basis))
    at = {"at": record["assessed_at"], "made": fingerprint}
    if moves:
        history.save(config.history, "listings", [at | move for move in moves])


def tabulate_list(
    scored: Scored,
    listed: ContactList,
    shown: Shown,
    change: Change,
    by_row: Mapping[int, Standing],
) -> pd.DataFrame:
    """Return the table of the listed clients, with their standings and all their cautions."""
    n, at = len(listed.rows), np.asarray(listed.rows, np.intp)
    stored = [name for name in clients.COLUMNS if name in scored.parts.schema.names]
    on_list = daily_list.list_table(
        scored.parts.take(at, stored),
        Change(change.previous_rank[at], change.risk_change[at]),
        shown.list_reasons[:n],
        shown.changes[:n],
        [by_row.get(row, Standing()) for row in at.tolist()],
    )
    seen = on_list["cautions"].tolist(), on_list["observed_at"].tolist()
    on_list["cautions"] = pd.Series(add_last_seen(*seen, scored.is_long_ago[at]), dtype=object)
    return on_list


def prepare_files(
    config: Config,
    scored: Scored,
    shown: Shown,
    change: Change,
    on_list: pd.DataFrame,
    risks: History,
    earlier: Earlier | None,
) -> dict[Path, files.Content]:
    """Return the content of each file; large ones are computed while they are written."""
    labels, columns = config.labels, config.columns
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_tables(
            file, ranked_clients(scored, shown, len(on_list), change)
        ),
        config.risk_scores: lambda file: write_risk_scores(file, scored, labels, columns),
        config.contact_list: tables.excel_bytes(fields.contact_list(on_list, labels, columns)),
        config.risk_history: lambda file: risk_history.write(file, risks),
    }
    if earlier is not None:
        contents[config.earlier_clients] = lambda file: clients.write_earlier(file, earlier.table)
    return contents


def read_other_units(config: Config) -> dict[int, str]:
    """Return the deliveries with a column in another unit, as monitoring found them."""
    try:
        record = files.read_record(config.monitoring_record) or {}
    except Damaged:
        return {}  # monitoring.py reports it, and judges again
    return {one["delivery"]: one["column"] for one in record.get("other_units", [])}


def _assessment(record: files.Record, *, up_to_date: bool) -> Assessment:
    return Assessment(
        clients=record["clients"],
        expected_to_leave=record["expected_to_leave"]["value"] or 0.0,
        listed=record["list"]["clients"],
        listed_to_leave=record["list"]["expected_to_leave"]["value"] or 0.0,
        contains=wording.share_listed(record).replace("\xa0", " "),
        has_signal=record["has_signal"],
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    options = cli.parser(__doc__).parse_args(argv)

    def step(config: Config) -> Assessment:
        integrity.check_contact_log(config)  # in a whole run, this was done at its start
        return assess_clients(config)

    return cli.run(options, "assessment", step)


if __name__ == "__main__":
    sys.exit(main())
