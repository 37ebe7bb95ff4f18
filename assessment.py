"""Step 5: assess every current client with the model in production, and write the contact list.

Reads:  production_deployment/current, the current clients in ingesteddata/finaldata.csv
Writes: reports/clients.parquet (every current client: features, risk, reasons and cautions),
        riskscores.csv (the same for programs), contactlist.csv (the list for people),
        assessment.json (the record)
Run:    python assessment.py [--config PATH]
"""

import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition import wording
from attrition.config import Columns, Config
from attrition.contacts import breakeven, fields, ranking
from attrition.data import clients, ledger, typed_rows
from attrition.data.cells import Caution, Reason
from attrition.errors import Damaged
from attrition.modelling import explanations, metrics, models, reliability
from attrition.modelling.models import Model
from attrition.monitoring import performance
from attrition.monitoring.performance import Estimate, SecondOpinion
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.storage import files, tables

LEAST_GAIN, SHOWN_GAINS = 0.02, 3  # of the feature importance; features
logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = (
    *("columns", "contact_capacity", "contact_order", "labels", "max_days_ahead"),
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


def rank(risks: pd.DataFrame) -> pd.DataFrame:
    """Sort clients by risk, highest first, ties by name, and number them from 1.

    risks: columns client and risk; `rank` is added
    """
    ordered = risks.sort_values(["risk", "client"], ascending=[False, True], kind="stable")
    return ordered.assign(rank=np.arange(1, len(ordered) + 1)).reset_index(drop=True)


def cut_to_capacity(ranked: pd.DataFrame, capacity: int, order: str) -> pd.DataFrame:
    """Return the first `capacity` clients; `order` is "risk" or "value_at_risk"."""
    if order == "value_at_risk":
        ranked = ranked.sort_values(
            ["value_at_risk", "risk", "client"],
            ascending=[False, False, True],
            kind="stable",
            na_position="last",
        )
    listed = ranked.head(capacity).reset_index(drop=True)
    return listed.assign(rank=np.arange(1, len(listed) + 1))


def add_changes(listed: pd.DataFrame, before: Mapping[str, tuple[int, float]]) -> pd.DataFrame:
    """Add the previous rank and the change of risk since the last list, empty if a client is new.

    before: client -> (rank, risk)
    """
    previous = [before.get(client) for client in listed["client"]]
    changes = [
        None if old is None else round(float(risk) - old[1], 6)
        for old, risk in zip(previous, listed["risk"], strict=True)
    ]
    ranks = pd.Series([None if old is None else old[0] for old in previous], dtype="Int64")
    return listed.assign(previous_rank=ranks, risk_change=pd.Series(changes, dtype="float64"))


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
    listed: pd.DataFrame,
    added: pd.DataFrame,
    score: metrics.Vector,
    baseline: Mapping[str, Any],
    fixed: Collection[str],
) -> tuple[list[list[Reason]], list[dict[str, Any]]]:
    """Return the reasons that tell each listed client apart, and those that nearly all of them share.

    The contribution of the former is relative to the list; a category that nearly all share is not
    among them, if there is another reason.

    listed, added, score: of listed clients only
    """
    if len(listed) == 0:
        return [], []
    shared = [
        {"feature": name, "value": value, "baseline": baseline[name], "clients": clients}
        for name, (value, clients) in explanations.shared(listed, added).items()
    ]
    levels = {each["feature"]: each["value"] for each in shared if isinstance(each["value"], str)}
    names = explanations.distinguishing(model, listed, added, baseline, fixed, score)
    relative = explanations.relative_to_list(added)
    reasons = [
        [reason for reason in each if levels.get(reason.feature) != reason.value] or each
        for each in _reasons(names, listed, relative, baseline)
    ]
    return [each[: ranking.REASONS] for each in reasons], shared


def explain_changes(
    model: Model, listed: pd.DataFrame, names: pd.Series, last: pd.DataFrame
) -> list[list[Reason]]:
    """Return the features that changed each listed client's risk, the strongest first.

    Their contributions add up to the change of the log-odds; the baseline is the previous value. There
    are none if the client is new, or if the last assessment was of another model.

    listed, names: (n,) rows and clients; last: as `read_last` returns it
    """
    changes: list[list[Reason]] = [[] for _ in names]
    known = names.isin(last["client"]).to_numpy()
    stored = {clients.FEATURE + name: name for name in model.features}
    if not known.any() or not stored.keys() <= set(last.columns):
        return changes
    now = listed[known]
    then = last.set_index("client").loc[names[known], list(stored)].rename(columns=stored)
    added = explanations.contributions(model, now, then)
    values, previous = (_plain_values(rows, added.columns) for rows in (now, then))
    for i, at in enumerate(np.flatnonzero(known)):
        contribution = dict(zip(values, added.iloc[i].tolist(), strict=True))
        reasons = [
            Reason(name, values[name][i], previous[name][i], contribution[name])
            for name in values
            if contribution[name]
        ]
        changes[at] = sorted(reasons, key=lambda reason: -abs(reason.contribution))
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
    """Return one row per client, ranked: the columns of `clients` without those of the contact list.

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
                for name in ("manager", "due", "phone", "email")
            },
            "reasons": reasons,
            "cautions": cautions,
            **{clients.FEATURE + name: current[name].to_numpy() for name in columns.features},
        }
    )
    return rank(table)


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


def last_places(last: pd.DataFrame, names: pd.Series, order: str) -> dict[str, tuple[int, float]]:
    """Return client -> (place, risk) at the last assessment: the place among all, in this order."""
    places = cut_to_capacity(last, len(last), order)
    places = places[places["client"].isin(names)]
    return dict(
        zip(places["client"], zip(places["rank"], places["risk"], strict=True), strict=True)
    )


def add_list(ranked: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """Add what is known of listed clients only: place, change, and reasons relative to the list."""
    shown = listed.rename(columns={"rank": "list_rank"})
    table = ranked.merge(
        shown[["client", "list_rank", "previous_rank", "risk_change"]], how="left", on="client"
    )
    for name in ("list_reasons", "changes"):
        of_listed = dict(zip(shown["client"], shown[name], strict=True))
        table[name] = [of_listed.get(client, ()) for client in table["client"]]
    return table


# ---- the step


def assess_clients(config: Config) -> Assessment:
    """Predict the risk of every current client, rank them, and cut the list to the contact capacity.

    Raises: NoModel if there is no model in production; Damaged.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    other_units = read_other_units(config)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "release": release.id,
        "columns": config.limited_to("columns").fingerprint(),
        "settings": config.fingerprint(),
        "other_units": str(other_units),
        "lists": fields.CSV_LAYOUT,
    }
    if (record := files.read_if_up_to_date(config.assessment_record, inputs)) is not None:
        return _assessment(record, up_to_date=True)
    columns = config.columns
    rows = ledger.read_rows(config, (*columns.table, typed_rows.DELIVERED))
    latest_time = ledger.read_latest_time(config)
    current = clients.current_clients(rows, columns, latest_time)
    current, in_other_units = keep_last_good(rows, current, other_units, columns)
    model, baseline = releases.load_model(release), release.training["baseline"]
    score = models.score(model, current)
    risk = models.to_risk(model, score)
    added = explanations.contributions(model, current, baseline, score)
    reasons = explain_risks(model, current, added, score, baseline)
    cautions = reliability.cautions(model, current, release.training)
    last_seen = find_last_seen(rows, current, latest_time, columns)
    cautions = [
        [*more, *old, *each]
        for more, old, each in zip(in_other_units, last_seen, cautions, strict=True)
    ]
    ranked = rank_clients(current, risk, reasons, cautions, columns)
    listed = cut_to_capacity(ranked, config.contact_capacity, config.contact_order)
    at = pd.Index(current[columns.client_name]).get_indexer(listed["client"])
    rows, fixed = current.iloc[at], [name for name, label in config.labels.items() if label.fixed]
    list_reasons, shared = explain_list(model, rows, added.iloc[at], score[at], baseline, fixed)
    last, last_record = read_last(config, release, model.features)
    changes = explain_changes(model, rows, listed["client"], last)
    listed = add_changes(listed, last_places(last, listed["client"], config.contact_order))
    of_listed: dict[str, Any] = {"list_reasons": list_reasons, "changes": changes}
    listed = listed.assign(**of_listed)
    estimated, again = estimate_performance(
        current, risk, release, columns, np.isin(np.arange(len(current)), at)
    )
    record = {
        "inputs": inputs,
        "assessed_at": files.utc_now(),
        "release": release.id,
        "has_signal": release.training["kind"] != models.BASE_RATE,
        "have_stayed": not current[columns.outcome].isna().any(),
        **summarise_portfolio(ranked, estimated, columns),
        "break_even": breakeven.break_even(
            ranked["risk"].to_numpy(),
            ranked["value"].to_numpy(dtype="float64"),
            config.contact_cost,
            config.contact_success,
        ),
        "shared_reasons": shared,
        "importance": release.training["importance"],
        "estimate": estimated.to_dict(),
        "second_opinion": again.to_dict(),
    }
    was_listed = set(last.loc[last["list_rank"].notna(), "client"])
    record["change"] = describe_change(
        last_record, record, int((~listed["client"].isin(was_listed)).sum())
    )
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_clients(file, add_list(ranked, listed)),
        config.risk_scores: tables.frame_bytes(
            fields.csv_table(ranked, fields.RISK_SCORES, config.labels, columns)
        ),
        config.contact_list: tables.excel_bytes(
            fields.contact_list(listed, config.labels, columns)
        ),
    }
    return _assessment(files.commit(config.assessment_record, contents, record), up_to_date=False)


def read_other_units(config: Config) -> dict[int, str]:
    """Return the deliveries with a column in another unit, as monitoring found them."""
    try:
        record = files.read_record(config.monitoring_record) or {}
    except Damaged:
        return {}  # monitoring.py reports it, and judges again
    return {one["delivery"]: one["column"] for one in record.get("other_units", [])}


def read_last(
    config: Config, release: Release, features: Sequence[str]
) -> tuple[pd.DataFrame, files.Record]:
    """Return the clients and the record of the last assessment: empty if there is none, or damaged.

    If it was of this release, their features are among the columns.
    """
    names = ["client", "rank", "risk", "value_at_risk", "list_rank"]
    nobody = pd.DataFrame({name: [] for name in names})
    try:
        record = files.read_record(config.assessment_record)
    except Damaged:
        return nobody, {}
    if record is None:
        return nobody, {}
    if files.sha256_file(config.clients) != record["outputs"].get(config.clients.name):
        logger.warning("%s: not as it was written; no ranks to compare with", config.clients)
        return nobody, {}
    is_same = record["release"] == release.id
    stored = [clients.FEATURE + name for name in features] if is_same else []
    return clients.read_clients(config.clients, [*names, *stored]), record


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
    return cli.run(options, "assessment", assess_clients)


if __name__ == "__main__":
    sys.exit(main())
