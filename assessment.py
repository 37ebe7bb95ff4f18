"""Step 5: assess every current client with the model in production, and write the contact list.

Reads:  production_deployment/current, the current clients in ingesteddata/finaldata.csv,
        contacts/contacts.sqlite (the contact log)
Writes: reports/clients.parquet (every current client: features, risk, reasons and cautions),
        riskscores.csv (the same for programs), contactlist.csv (the list for people),
        previous.parquet (the assessment of an earlier day, to compare with), riskhistory.npy (the risk
        of every client over time), assessment.json (the record)
Run:    python assessment.py [--config PATH]
"""

import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attrition import wording
from attrition.config import Columns, Config
from attrition.contacts import (
    activity,
    breakeven,
    daily_list,
    desk,
    fields,
    log,
    ranking,
    risk_history,
    standings,
)
from attrition.contacts.daily_list import Earlier
from attrition.contacts.log import Entry
from attrition.contacts.ranking import ContactList
from attrition.contacts.risk_history import History, Snapshot
from attrition.contacts.standings import Standing
from attrition.data import clients
from attrition.data.cells import MAX_DAYS, Caution, Reason
from attrition.errors import Damaged
from attrition.modelling import explanations, metrics, models, reliability
from attrition.modelling.models import Model
from attrition.monitoring import performance
from attrition.monitoring.performance import Estimate, SecondOpinion
from attrition.operations import cli, integrity, releases
from attrition.operations.releases import Release
from attrition.rows import ledger, typed_rows
from attrition.storage import files, history, tables

LEAST_GAIN, SHOWN_GAINS = 0.02, 3  # of the feature importance; features
logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = (
    *("columns", "contact_capacity", "contact_order", "labels", "max_days_ahead"),
    *("manager_capacity", "cooldown_reached_days", "cooldown_not_reached_days", "time_zone"),
    *("contact_cost", "contact_success"),
)
NO_SIGNAL = "the model in production is a base rate: all clients have the same risk"
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


def explain_risks(
    model: Model,
    current: pd.DataFrame,
    added: pd.DataFrame,
    score: metrics.Vector,
    baseline: Mapping[str, Any],
) -> list[list[Reason]]:
    """Return the features that raise each client's risk the most, the strongest first.

    added: contributions against the baseline client; score: (n_clients,) log-odds before calibration
    """
    if len(current) == 0:
        return []
    names = explanations.strongest(model, current, added, baseline, ranking.REASONS, score)
    return _reasons(names, current, added, baseline)


def explain_list(
    model: Model,
    rows: pd.DataFrame,
    added: pd.DataFrame,
    score: metrics.Vector,
    baseline: Mapping[str, Any],
    fixed: Collection[str],
    listed: int,
) -> tuple[list[list[Reason]], list[dict[str, Any]]]:
    """Return the reasons that tell each client apart from those on the list, and what nearly all share.

    The contribution of the former is relative to the list; a category that nearly all share is not
    among them, if there is another reason.

    rows, added, score: of the listed clients, and behind them of those who may come next
    listed: how many are on the list
    """
    if len(rows) == 0:
        return [], []
    of_list = slice(listed or None)  # if nobody is listed, the others are compared with each other
    shared = [
        {"feature": name, "value": value, "baseline": baseline[name], "clients": clients}
        for name, (value, clients) in explanations.shared(rows[of_list], added[of_list]).items()
    ]
    levels = {each["feature"]: each["value"] for each in shared if isinstance(each["value"], str)}
    names = explanations.distinguishing(model, rows, added, baseline, fixed, score, of_list.stop)
    relative = explanations.relative_to_list(added, of_list.stop)
    reasons = [
        [reason for reason in each if levels.get(reason.feature) != reason.value] or each
        for each in _reasons(names, rows, relative, baseline)
    ]
    return [each[: ranking.REASONS] for each in reasons], shared if listed else []


def explain_changes(
    model: Model, rows: pd.DataFrame, at: NDArray[np.intp], earlier: pa.Table
) -> list[list[Reason]]:
    """Return the features that changed each client's risk, the strongest first.

    Their contributions add up to the change of the log-odds; the baseline is the earlier value. There
    are none if the client is new, or if a feature of the model was not stored.

    rows: (n,) clients; at: their rows in the earlier table, -1 if new
    """
    changes: list[list[Reason]] = [[] for _ in at]
    stored = {clients.FEATURE + name: name for name in model.features}
    known = np.flatnonzero(at >= 0)
    if not len(known) or not stored.keys() <= set(earlier.column_names):
        return changes
    now = rows.iloc[known]
    then = earlier.select(list(stored)).take(at[known]).to_pandas(use_threads=False)
    then = then.rename(columns=stored).set_axis(now.index)
    added = explanations.contributions(model, now, then)
    values, previous = (_plain_values(rows, added.columns) for rows in (now, then))
    for i, place in enumerate(known):
        contribution = dict(zip(values, added.iloc[i].tolist(), strict=True))
        reasons = [
            Reason(name, values[name][i], previous[name][i], contribution[name])
            for name in values
            if contribution[name]
        ]
        changes[place] = sorted(reasons, key=lambda reason: -abs(reason.contribution))
    return changes


def _reasons(
    names: Sequence[Sequence[str]],
    rows: pd.DataFrame,
    added: pd.DataFrame,
    baseline: Mapping[str, Any],
) -> list[list[Reason]]:
    """Return the named features of each row with their contributions."""
    value = _plain_values(rows, added.columns)
    # plain lists: a list of pandas' objects takes several times as long
    contribution = {name: added[name].to_numpy().tolist() for name in added.columns}
    return [
        [Reason(name, value[name][i], baseline[name], contribution[name][i]) for name in each]
        for i, each in enumerate(names)
    ]


def _plain_values(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, list[Any]]:
    """Return the values of columns as lists, None if missing."""
    values = rows[list(names)].astype(object)
    values = values.where(values.notna() & (values != ""), None)
    return {name: values[name].to_numpy().tolist() for name in values.columns}


def rank_clients(
    current: pd.DataFrame,
    risk: metrics.Vector,
    reasons: Sequence[Sequence[Reason]],
    cautions: Sequence[Sequence[Caution]],
    columns: Columns,
) -> pd.DataFrame:
    """Return one row per client, sorted by risk, equal risks by name, and numbered from 1.

    The columns are those of `clients` without those of the contact list.

    risk: (n,) in [0, 1]; reasons, cautions: one sequence per client.
    """
    value = current[columns.value].to_numpy() if columns.value else np.full(len(current), np.nan)
    table = pd.DataFrame(
        {
            "client": current[columns.client_name].to_numpy(dtype=object),
            "risk": risk,
            "observed_at": current[columns.time].to_numpy() if columns.time else "",
            "value": value,
            "value_at_risk": risk * value,
            **{
                name: current[of].to_numpy() if (of := getattr(columns, name)) else ""
                for name in ("manager", "phone", "email")
            },
            "due": due_dates(current, columns),
            "reasons": reasons,
            "cautions": cautions,
            **{clients.FEATURE + name: current[name].to_numpy() for name in columns.features},
        }
    )
    order = ranking.order_by_risk(risk, table["client"].tolist())
    return table.iloc[order].assign(rank=np.arange(1, len(table) + 1)).reset_index(drop=True)


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


def estimate_performance(
    current: pd.DataFrame,
    risk: metrics.Vector,
    release: Release,
    columns: Columns,
    is_listed: NDArray[np.bool_],
) -> tuple[Estimate, SecondOpinion]:
    """Estimate how many clients will leave and how well the model performs on them.

    The second opinion is the same estimate from reference rows that are similar to these clients.
    """
    reference = releases.read_reference(release)
    features = release.training["features"]
    value = current[columns.value].to_numpy(dtype="float64") if columns.value else np.array([])
    weighing = performance.weigh(reference, current, features["numeric"], features["categorical"])
    given: dict[str, Any] = {
        **performance.reference_arguments(reference, columns.outcome),
        "value": value if has_value(value) else None,
        "capacity": int(is_listed.sum()),
        "is_listed": is_listed,
    }
    return performance.estimate(risk, **given), performance.second_opinion(risk, weighing, **given)


def has_value(value: NDArray[np.float64]) -> bool:
    """Return whether the value of any client is known."""
    return bool(np.isfinite(value).any())


def summarise_portfolio(
    ranked: pd.DataFrame, estimated: Estimate, columns: Columns
) -> dict[str, Any]:
    """Compute the figures of the portfolio and of the list, with their intervals.

    Every number of leavers and every value at risk is that of the estimate, never a sum of risks.
    """
    risk = ranked["risk"].to_numpy()
    value = ranked["value"].to_numpy(dtype="float64")
    is_known = has_value(value)
    counts, _ = np.histogram(risk, HISTOGRAM_EDGES)
    return {
        "clients": len(ranked),
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


def keep_last_good(
    rows: pd.DataFrame, current: pd.DataFrame, other_units: Mapping[int, str], columns: Columns
) -> tuple[pd.DataFrame, list[list[Caution]]]:
    """Replace rows of deliveries in other units by the client's previous observation, if there is one.

    other_units: the columns by number of the delivery. Returns the rows, and the cautions of each.
    """
    numbers = current[typed_rows.DELIVERED]
    if not (is_wrong := numbers.isin(list(other_units))).any():
        return current, [[] for _ in range(len(current))]
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
    cautions = [
        [Caution("other_unit" if known else "other_unit_new", other_units[number])] if wrong else []
        for number, wrong, known in zip(numbers, is_wrong, has_good, strict=True)
    ]
    return kept, cautions


def find_last_seen(
    rows: pd.DataFrame, current: pd.DataFrame, latest_time: str, columns: Columns
) -> list[list[Caution]]:
    """Return for each client a caution if it was last seen long before the newest of all rows."""
    if not columns.time:
        return [[] for _ in range(len(current))]
    times = rows[columns.time]
    newest = max(times[times <= latest_time], default="")
    seen = current[columns.time].tolist()
    return [
        [Caution("last_seen", value=time[:10])] if is_long_ago else []
        for time, is_long_ago in zip(seen, clients.last_seen_long_ago(seen, newest), strict=True)
    ]


# ---- the step


def assess_clients(config: Config) -> Assessment:
    """Predict the risk of every current client, rank them, and make the contact list of the day.

    Raises: NoModel if there is no model in production; Damaged, also if the contact log is.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    entries, seal = log.read(config.contact_log)
    now = files.utc_now()
    day = config.day(now)
    inputs = {
        "finaldata": ledger.rows_version(config),
        "release": release.id,
        "columns": config.limited_to("columns").fingerprint(),
        "settings": config.fingerprint(),
        "other_units": str(read_other_units(config)),
        "lists": fields.CSV_LAYOUT,
        "contacts": f"{len(entries)} {seal}" if entries else "",
        "day": day if entries or config.columns.due else "",
    }
    if (record := files.read_if_up_to_date(config.assessment_record, inputs)) is not None:
        return _assessment(record, up_to_date=True)
    last = read_last(config, day)
    scored = score_clients(config, release, last.earlier)
    book = daily_list.make_book(scored.ranked)
    order = ranking.order_of_list(book, config.contact_order)
    by_client = standings.all_standings(entries, day, desk.rules_of(config))
    at = scored.rows_of(by_client)
    by_row = {at[client]: standing for client, standing in by_client.items() if client in at}
    listed = ranking.make_list(book, order, by_row, desk.capacity_of(config), day)
    next_rows = ranking.next_rows(order, listed, config.contact_capacity)
    table, shared = explain(config, scored, release, listed, next_rows, last.earlier)
    exported = daily_list.add_contacts(table, by_row)
    record = {
        "inputs": inputs,
        "assessed_at": now,
        "day": day,
        "release": release.id,
        "has_signal": release.training["kind"] != models.BASE_RATE,
        "have_stayed": not scored.current[config.columns.outcome].isna().any(),
        "shared_reasons": shared,
        "importance": release.training["importance"],
        "break_even": breakeven.break_even(
            book.risk,
            scored.ranked["value"].to_numpy(dtype="float64"),
            config.contact_cost,
            config.contact_success,
        ),
        **estimate_portfolio(config, scored, release, listed),
        **compare_lists(config, scored, listed, last.earlier),
        "team": describe_team(config, exported, listed, by_client, day),
        "overrides": score_overrides(config, scored.rows, by_client),
    }
    newly_listed = set(table["client"].iloc[listed.rows]) - (last.listed or set())
    record["change"] = describe_change(last.record, record, len(newly_listed))
    keep_moves(config, record, last, scored, listed)
    written = write_assessment(config, record, last, table, exported)
    return _assessment(written, up_to_date=False)


class Scored(NamedTuple):
    """The current clients with their risks.

    rows: all typed rows; current: the row of each client, as the model reads it; risk, score, added: of
    these rows; ranked: the same clients, sorted by risk; order: their rows in `current`
    """

    model: Model
    rows: pd.DataFrame
    current: pd.DataFrame
    risk: metrics.Vector
    score: metrics.Vector
    added: pd.DataFrame
    ranked: pd.DataFrame
    order: NDArray[np.intp]

    def rows_of(self, names: Iterable[str]) -> dict[str, int]:
        """Return client -> row of `ranked`, of the current clients among these."""
        wanted = list(names)
        at = pd.Index(self.ranked["client"]).get_indexer(pd.Index(wanted, dtype=object)).tolist()
        return {name: row for name, row in zip(wanted, at, strict=True) if row >= 0}


def score_clients(config: Config, release: Release, earlier: Earlier | None) -> Scored:
    """Compute the risks of the current clients, with their reasons and cautions."""
    columns, other_units = config.columns, read_other_units(config)
    rows = ledger.read_rows(config, (*columns.table, typed_rows.DELIVERED))
    latest_time = ledger.read_latest_time(config)
    current = clients.current_clients(rows, columns, latest_time)
    current, in_other_units = keep_last_good(rows, current, other_units, columns)
    model, baseline = releases.load_model(release), release.training["baseline"]
    score = models.score(model, current)
    risk = models.to_risk(model, score)
    added = explanations.contributions(model, current, baseline, score)
    reasons = explain_risks(model, current, added, score, baseline)
    unseen = models.unseen_levels(model, current)
    values = {name: current[name] for name in model.features}
    cautions = reliability.cautions(values, unseen, release.training)
    last_seen = find_last_seen(rows, current, latest_time, columns)
    cautions = [
        [*more, *old, *each]
        for more, old, each in zip(in_other_units, last_seen, cautions, strict=True)
    ]
    ranked = rank_clients(current, risk, reasons, cautions, columns)
    ranked = daily_list.compare_with(ranked, earlier)
    order = pd.Index(current[columns.client_name]).get_indexer(ranked["client"])
    return Scored(model, rows, current, risk, score, added, ranked, order)


def explain(
    config: Config,
    scored: Scored,
    release: Release,
    listed: ContactList,
    next_rows: NDArray[np.intp],
    earlier: Earlier | None,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the ranked clients with the list and its reasons, and the reasons that nearly all share."""
    shown = np.concatenate([listed.rows, next_rows])
    names, at = scored.ranked["client"].iloc[shown], scored.order[shown]
    rows, n = scored.current.iloc[at], len(listed.rows)
    fixed = [name for name, label in config.labels.items() if label.fixed]
    baseline = release.training["baseline"]
    list_reasons, shared = explain_list(
        scored.model, rows, scored.added.iloc[at], scored.score[at], baseline, fixed, n
    )
    changes: list[list[Reason]] = [[] for _ in names]
    if earlier is not None and earlier.release == release.id:
        changes = explain_changes(scored.model, rows, earlier.rows_of(names), earlier.table)
    return daily_list.add_list(scored.ranked, shown, n, list_reasons, changes), shared


def estimate_portfolio(
    config: Config, scored: Scored, release: Release, listed: ContactList
) -> dict[str, Any]:
    """Return the figures of the portfolio and of the list, and the estimates behind them."""
    is_listed = np.isin(np.arange(len(scored.current)), scored.order[listed.rows])
    estimated, again = estimate_performance(
        scored.current, scored.risk, release, config.columns, is_listed
    )
    return {
        **summarise_portfolio(scored.ranked, estimated, config.columns),
        "estimate": estimated.to_dict(),
        "second_opinion": again.to_dict(),
    }


def compare_lists(
    config: Config, scored: Scored, listed: ContactList, earlier: Earlier | None
) -> dict[str, Any]:
    """Count who is listed and who is not, and name those gone since the list of an earlier day."""
    names, columns = scored.ranked["client"], config.columns
    was_listed = daily_list.listed_clients(earlier.table) if earlier else set()
    return {
        **daily_list.summarise(listed),
        "gone": daily_list.describe_gone(names, listed, was_listed, scored.rows, columns),
        "changes_since": earlier.day if earlier else None,
        "earlier_release": earlier.release if earlier else None,
    }


def describe_team(
    config: Config,
    exported: pd.DataFrame,
    listed: ContactList,
    by_client: Mapping[str, Standing],
    day: str,
) -> list[dict[str, Any]]:
    """Count for each manager the clients listed and reached, and the follow-ups; see `activity.team`."""
    own = exported.loc[exported["client"].isin(by_client), ["client", "manager"]]
    managers = dict(zip(own["client"], own["manager"], strict=True))
    of_listed = exported["manager"].iloc[listed.rows]
    return activity.team(of_listed, by_client, managers, day, desk.rules_of(config))


def score_overrides(
    config: Config, rows: pd.DataFrame, by_client: Mapping[str, Standing]
) -> dict[str, int | None]:
    """Compare the opinions of managers with the outcomes that arrived since."""
    counting = [entry for standing in by_client.values() for entry in standing.entries]
    overrides = [entry for entry in counting if entry.kind == log.OVERRIDE]
    return activity.score_overrides(overrides, find_outcomes(config, rows, overrides))


def find_outcomes(
    config: Config, rows: pd.DataFrame, entries: Sequence[Entry]
) -> dict[str, list[tuple[str, bool]]]:
    """Return the outcomes of the clients with these entries: client -> (arrival, left), in order."""
    if not entries:
        return {}
    client, outcome = config.columns.client_name, config.columns.outcome
    known = rows[rows[client].isin({entry.client for entry in entries}) & rows[outcome].notna()]
    lines = ledger.read_lines(config)
    outcomes: dict[str, list[tuple[str, bool]]] = {}
    for name, left, number in zip(
        known[client], known[outcome] == 1, known[typed_rows.DELIVERED], strict=True
    ):
        at = lines[number].ingested_at if number != ledger.NEVER else ""
        outcomes.setdefault(name, []).append((at, bool(left)))
    return {name: sorted(each) for name, each in outcomes.items()}


def keep_moves(
    config: Config, record: files.Record, last: "Last", scored: Scored, listed: ContactList
) -> None:
    """Save who came onto the list and who left it since the last assessment.

    It is done before the assessment is written: if it is computed again after a crash, the same rows
    are replaced.
    """
    if last.listed is None:
        return  # the last list cannot be read
    names, columns = scored.ranked["client"], config.columns
    gone = daily_list.describe_gone(names, listed, last.listed, scored.rows, columns)
    moves = daily_list.describe_moves(scored.ranked, listed, last.listed, gone)
    basis = {"inputs": record["inputs"], "last": last.record.get("seal")}
    made = files.sha256_bytes(files.encode(basis))
    at = {"at": record["assessed_at"], "made": made}
    if moves:
        history.save(config.history, "listings", [at | move for move in moves])


def write_assessment(
    config: Config,
    record: files.Record,
    last: "Last",
    table: pd.DataFrame,
    exported: pd.DataFrame,
) -> files.Record:
    """Write all files and the record."""
    labels, columns, earlier = config.labels, config.columns, last.earlier
    risks, snapshots = risk_history.add(
        last.history,
        last.snapshots,
        clients.client_keys(table["client"]),
        table["risk"].to_numpy(),
        Snapshot(record["day"], record["release"]),
    )
    listed = exported[exported["list_rank"].notna()].sort_values("list_rank")
    listed = listed.assign(rank=listed["list_rank"])
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_clients(file, table),
        config.risk_scores: tables.frame_bytes(
            fields.csv_table(exported, fields.RISK_SCORES, labels, columns)
        ),
        config.contact_list: tables.excel_bytes(fields.contact_list(listed, labels, columns)),
        config.risk_history: lambda file: risk_history.write(file, risks),
    }
    if earlier is not None:
        contents[config.earlier_clients] = lambda file: clients.write_earlier(file, earlier.table)
    record |= {"snapshots": [snapshot._asdict() for snapshot in snapshots]}
    return files.commit(config.assessment_record, contents, record)


def read_other_units(config: Config) -> dict[int, str]:
    """Return the deliveries with a column in another unit, as monitoring found them."""
    try:
        record = files.read_record(config.monitoring_record) or {}
    except Damaged:
        return {}  # monitoring.py reports it, and judges again
    return {one["delivery"]: one["column"] for one in record.get("other_units", [])}


class Last(NamedTuple):
    """The last assessment, as far as it can be read.

    listed: the clients on its list, None if they cannot be read; earlier: the last one of an earlier day
    """

    record: files.Record
    listed: set[str] | None
    earlier: Earlier | None
    history: History
    snapshots: list[Snapshot]


def read_last(config: Config, day: str) -> Last:
    """Read what an assessment on this day is compared with."""
    nothing = Last({}, None, None, risk_history.empty(), [])
    try:
        record = files.read_record(config.assessment_record)
    except Damaged:
        return nothing
    if record is None:
        return nothing._replace(listed=set())
    listed, earlier = None, None
    if _is_intact(config.clients, record):
        last_day = record.get("day") or config.day(record["assessed_at"])  # of an earlier version
        table = clients.read_earlier(config.clients)
        listed = daily_list.listed_clients(table)
        earlier = Earlier(table, last_day, record["release"]) if last_day < day else None
    else:
        logger.warning("%s: not as it was written; no list to compare with", config.clients)
    if earlier is None and _is_intact(config.earlier_clients, record):
        table = clients.read_earlier(config.earlier_clients)
        earlier = Earlier(table, record["changes_since"], record["earlier_release"])
    if _is_intact(config.risk_history, record):
        with config.risk_history.open("rb") as file:
            known = risk_history.open_array(file)
        return Last(
            record, listed, earlier, known, [Snapshot(**one) for one in record["snapshots"]]
        )
    return Last(record, listed, earlier, *_begin_history(earlier))


def _begin_history(earlier: Earlier | None) -> tuple[History, list[Snapshot]]:
    """Begin the history of risks with the assessment of an earlier day, if there is one."""
    if earlier is None:
        return risk_history.empty(), []
    keys, snapshot = earlier.table[clients.KEY].to_numpy(), Snapshot(earlier.day, earlier.release)
    return risk_history.add(risk_history.empty(), [], keys, earlier.numbers("risk"), snapshot)


def _is_intact(path: Path, record: files.Record) -> bool:
    digest = record["outputs"].get(path.name)
    return digest is not None and files.sha256_file(path) == digest


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
