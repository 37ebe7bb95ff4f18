"""Step 5: assess every current client with the model in production, and write the contact list.

Reads:  production_deployment/current, the current clients in ingesteddata/finaldata.csv
Writes: reports/clients.parquet (every current client: features, risk, reasons and cautions),
        riskscores.csv and contactlist.csv (the same for people), assessment.json (the record)
Run:    python assessment.py [--config PATH]
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Columns, Config
from attrition.contacts import fields, ranking
from attrition.data import clients, ledger
from attrition.data.cells import Caution, Reason
from attrition.errors import Damaged
from attrition.modelling import explanations, metrics, models, reliability
from attrition.modelling.models import Model
from attrition.monitoring import performance
from attrition.monitoring.performance import Estimate, SecondOpinion
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.storage import files, tables

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "contact_capacity", "contact_order")
HISTOGRAM_EDGES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Assessment:
    """The size of the risk and of the list; assessment.json and the two lists have the details."""

    clients: int
    expected_to_leave: float
    listed: int
    listed_mean_risk: float
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return (
            f"{self.clients:,} current clients, {self.expected_to_leave:,.0f} expected to leave; "
            f"{self.listed:,} on the contact list with a mean risk of {self.listed_mean_risk:.0%}"
        )


# ---- compute


def explain_risks(
    model: Model, current: pd.DataFrame, score: metrics.Vector, baseline: dict[str, Any]
) -> list[list[Reason]]:
    """Return the features that raise each client's risk the most, the strongest first.

    score: (n_clients,) log-odds before calibration
    """
    if len(current) == 0:
        return []
    added = explanations.contributions(model, current, baseline, score)
    strongest = explanations.strongest(model, current, added, baseline, ranking.REASONS, score)
    values = current[list(model.features)].astype(object)
    values = values.where(values.notna() & (values != ""), None)
    # plain lists: a list of pandas' objects takes several times as long
    value = {name: values[name].to_numpy().tolist() for name in values.columns}
    contribution = {name: added[name].to_numpy().tolist() for name in added.columns}
    return [
        [Reason(name, value[name][i], baseline[name], contribution[name][i]) for name in names]
        for i, names in enumerate(strongest)
    ]


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
            "manager": current[columns.manager].to_numpy() if columns.manager else "",
            "reasons": reasons,
            "cautions": cautions,
            **{clients.FEATURE + name: current[name].to_numpy() for name in columns.features},
        }
    )
    return ranking.rank(table)


def estimate_performance(
    current: pd.DataFrame, risk: metrics.Vector, release: Release, columns: Columns, capacity: int
) -> tuple[Estimate, SecondOpinion]:
    """Estimate how many clients will leave and how well the model performs on them.

    The second opinion is the same estimate from reference rows that are similar to these clients.
    """
    reference = releases.read_reference(release)
    features = release.training["features"]
    weighing = performance.weigh(reference, current, features["numeric"], features["categorical"])
    given: dict[str, Any] = {
        **performance.reference_arguments(reference, columns.outcome),
        "value": current[columns.value].to_numpy(dtype="float64") if columns.value else None,
        "capacity": capacity,
    }
    return performance.estimate(risk, **given), performance.second_opinion(risk, weighing, **given)


def summarise_portfolio(
    ranked: pd.DataFrame, listed: pd.DataFrame, estimated: Estimate, columns: Columns
) -> dict[str, Any]:
    """Compute the figures of the portfolio and of the list, with their intervals."""
    risk = ranked["risk"].to_numpy()
    value = ranked["value"].to_numpy(dtype="float64")
    counts, _ = np.histogram(risk, HISTOGRAM_EDGES)
    return {
        "clients": len(ranked),
        "mean_risk": float(risk.mean()) if len(risk) else None,
        "expected_to_leave": estimated.expected.to_dict(),
        "value": float(np.nansum(value)) if columns.value else None,
        "value_at_risk": estimated.value_at_risk.to_dict() if columns.value else None,
        "list": {
            "clients": len(listed),
            "mean_risk": float(listed["risk"].mean()) if len(listed) else None,
            "expected_to_leave": float(listed["risk"].sum()),
            "value_at_risk": float(listed["value_at_risk"].sum()) if columns.value else None,
        },
        "risk_histogram": {"edges": HISTOGRAM_EDGES.tolist(), "counts": counts.tolist()},
    }


# ---- the step


def assess_clients(config: Config) -> Assessment:
    """Predict the risk of every current client, rank them, and cut the list to the contact capacity.

    Raises: NoModel if there is no model in production; Damaged.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.reports_folder)
    release = releases.read_for(config.production_folder, config.columns)
    inputs = {
        "finaldata": files.sha256_file(config.final_data),
        "release": release.id,
        "columns": config.limited_to("columns").fingerprint(),
        "settings": config.fingerprint(),
    }
    if (record := files.read_if_up_to_date(config.assessment_record, inputs)) is not None:
        return _assessment(record, up_to_date=True)
    columns = config.columns
    rows = ledger.read_rows(config, columns.table)
    current = clients.current_clients(rows, columns)
    model = releases.load_model(release)
    score = models.score(model, current)
    risk = models.to_risk(model, score)
    reasons = explain_risks(model, current, score, release.training["baseline"])
    cautions = reliability.cautions(model, current, release.training)
    capacity = config.contact_capacity
    estimated, again = estimate_performance(current, risk, release, columns, capacity)
    ranked = rank_clients(current, risk, reasons, cautions, columns)
    listed = ranking.cut_to_capacity(ranked, capacity, config.contact_order)
    listed = ranking.add_changes(listed, _last_ranks(config))
    places = listed.rename(columns={"rank": "list_rank"})[
        ["client", "list_rank", "previous_rank", "risk_change"]
    ]
    table = ranked.merge(places, how="left", on="client")
    record = {
        "inputs": inputs,
        "assessed_at": files.utc_now(),
        "release": release.id,
        "have_stayed": not current[columns.outcome].isna().any(),
        **summarise_portfolio(ranked, listed, estimated, columns),
        "estimate": estimated.to_dict(),
        "second_opinion": again.to_dict(),
    }
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_clients(file, table),
        config.risk_scores: tables.frame_bytes(fields.csv_table(ranked, fields.RISK_SCORES)),
        config.contact_list: tables.frame_bytes(fields.csv_table(listed, fields.CONTACT_LIST)),
    }
    return _assessment(files.commit(config.assessment_record, contents, record), up_to_date=False)


def _last_ranks(config: Config) -> dict[str, tuple[int, float]]:
    """Return client -> (rank, risk) of the last assessment; {} if there is none, or it is damaged."""
    try:
        record = files.read_record(config.assessment_record)
    except Damaged:
        return {}
    if record is None:
        return {}
    if files.sha256_file(config.clients) != record["outputs"].get(config.clients.name):
        logger.warning("%s: not as it was written; no ranks to compare with", config.clients)
        return {}
    last = clients.read_clients(config.clients, ["client", "rank", "risk"])
    return dict(zip(last["client"], zip(last["rank"], last["risk"], strict=True), strict=True))


def _assessment(record: files.Record, *, up_to_date: bool) -> Assessment:
    return Assessment(
        clients=record["clients"],
        expected_to_leave=record["expected_to_leave"]["value"] or 0.0,
        listed=record["list"]["clients"],
        listed_mean_risk=record["list"]["mean_risk"] or 0.0,
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "assessment", assess_clients)


if __name__ == "__main__":
    sys.exit(main())
