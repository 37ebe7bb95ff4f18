"""Step 5: assess every current client with the model in production, and write the contact list.

Reads:  production_deployment/current, the current clients in ingesteddata/finaldata.csv
Writes: reports/clients.parquet (every current client: features, risk, reasons and cautions),
        riskscores.csv and contactlist.csv (what people read of it), assessment.json (the record)
Run:    python assessment.py [--config PATH]
"""

import io
import logging
import sys
from collections.abc import Mapping, Sequence
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
from attrition.storage import files

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "contact_capacity", "contact_order")
HISTOGRAM_EDGES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Assessment:
    """How many clients are at risk; the rest stands in assessment.json and the two lists."""

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


def explain(model: Model, current: pd.DataFrame, baseline: Mapping[str, Any]) -> list[list[Reason]]:
    """Return what raises each client's risk the most, the strongest first."""
    if len(current) == 0:
        return []
    added = explanations.contributions(model, current, baseline)
    strongest = explanations.strongest(model, current, added, baseline, ranking.REASONS)
    values = current[list(model.features)].astype(object)
    values = values.where(values.notna() & (values != ""), None)
    return [
        [Reason(name, value[name], baseline[name], contribution[name]) for name in names]
        for names, value, contribution in zip(
            strongest, values.to_dict("records"), added.to_dict("records"), strict=True
        )
    ]


def assess(
    current: pd.DataFrame,
    risk: metrics.Vector,
    reasons: Sequence[Sequence[Reason]],
    cautions: Sequence[Sequence[Caution]],
    columns: Columns,
) -> pd.DataFrame:
    """Return one line a client, ranked: the columns of `clients`, those of the list aside."""
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


def estimate(
    current: pd.DataFrame, risk: metrics.Vector, release: Release, columns: Columns, capacity: int
) -> tuple[Estimate, SecondOpinion]:
    """Estimate what will become of the clients, and how well the model does on them; ask again on that
    part of the rows the model was judged on that is like them."""
    reference = releases.read_reference(release)
    features = release.training["features"]
    weighing = performance.weigh(reference, current, features["numeric"], features["categorical"])
    given: dict[str, Any] = {
        **performance.reference_arguments(reference, columns.outcome),
        "value": current[columns.value].to_numpy(dtype="float64") if columns.value else None,
        "capacity": capacity,
    }
    return performance.estimate(risk, **given), performance.second_opinion(risk, weighing, **given)


def sum_up(
    ranked: pd.DataFrame, listed: pd.DataFrame, estimated: Estimate, columns: Columns
) -> dict[str, Any]:
    """Return the figures of the portfolio and of the list, with their intervals."""
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
    """Give every current client a risk and a rank, and cut the list to what the managers can do.

    Raises: NoModel, Damaged.
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
        return _result(record, up_to_date=True)
    columns = config.columns
    rows = ledger.read_rows(config, columns.table)
    current = clients.current_clients(rows, columns)
    model = releases.load_model(release)
    reasons = explain(model, current, release.training["baseline"])
    cautions = reliability.cautions(model, current, release.training)
    risk = models.predict(model, current)
    estimated, again = estimate(current, risk, release, columns, config.contact_capacity)
    ranked = assess(current, risk, reasons, cautions, columns)
    listed = ranking.cut_to_capacity(ranked, config.contact_capacity, config.contact_order)
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
        **sum_up(ranked, listed, estimated, columns),
        "estimate": estimated.to_dict(),
        "second_opinion": again.to_dict(),
    }
    contents: dict[Path, files.Content] = {
        config.clients: lambda file: clients.write_clients(file, table),
        config.risk_scores: _csv(fields.csv_table(ranked, fields.RISK_SCORES)),
        config.contact_list: _csv(fields.csv_table(listed, fields.CONTACT_LIST)),
    }
    return _result(files.commit(config.assessment_record, contents, record), up_to_date=False)


def _csv(table: pd.DataFrame) -> bytes:
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode("utf-8", "backslashreplace")


def _last_ranks(config: Config) -> dict[str, tuple[int, float]]:
    """Return client -> (rank, risk) of the last assessment; empty where there is none to trust."""
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


def _result(record: files.Record, *, up_to_date: bool) -> Assessment:
    return Assessment(
        clients=record["clients"],
        expected_to_leave=record["expected_to_leave"]["value"] or 0.0,
        listed=record["list"]["clients"],
        listed_mean_risk=record["list"]["mean_risk"] or 0.0,
        up_to_date=up_to_date,
        seal=record["seal"],
    )


def main(argv: list[str] | None = None) -> int:
    """Assess once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "assessment", assess_clients)


if __name__ == "__main__":
    sys.exit(main())
