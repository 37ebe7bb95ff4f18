"""Build the responses of the API from rows and records, without a path, a clock or a request."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrition.config import Config
from attrition.contacts import fields
from attrition.errors import NotReady
from attrition.operations.releases import Release
from attrition.serving.production import ServingModel
from attrition.storage import tables
from attrition.storage.files import Record

if TYPE_CHECKING:
    import pandas as pd


LATEST = ("decided_at", "promoted", "rule", "reason", "release")


def predict(
    release: Release, model: ServingModel, rows: "pd.DataFrame", client: str, labels: fields.Labels
) -> list[Record]:
    """Return the risk of each row in the same order, with flags if it is uncertain.

    Raises: NotReady if the model was trained on columns that config.json no longer names.
    """
    from attrition.modelling import metrics, reliability

    features = [name for names in release.training["features"].values() for name in names]
    if unnamed := [name for name in features if name not in rows]:
        raise NotReady(
            f"the model in production needs {', '.join(unnamed)}, which config.json no longer "
            "names; run fullprocess.py",
            "other_columns",
        )
    columns = {name: rows[name].to_numpy() for name in features}
    cautions = reliability.cautions(columns, model.unseen(columns), release.training)
    risks = model.predict(columns)
    return [
        {
            "client": name or None,
            "risk": float(risk),
            "outcome": int(risk >= metrics.THRESHOLD),
            "flags": [fields.caution_text(caution, labels) for caution in cautions[i]],
        }
        for i, (name, risk) in enumerate(zip(rows[client], risks, strict=True))
    ]


def contact_list(listed: Sequence[fields.Row], config: Config) -> bytes:
    """Return the clients on the list, in order, as contactlist.csv has them."""
    import pandas as pd

    names = {*map(fields.column_of, fields.CONTACT_LIST), "list_reasons", "changes"}
    rows = [{name: row[name] for name in names} | {"rank": row["list_rank"]} for row in listed]
    digits = {name: fields.FIELDS[name].kind.digits for name in fields.CONTACT_LIST}
    # Without a type, a column of None is text, and a place beside None is a decimal.
    types = {name: "Int64" if n == 0 else "float64" for name, n in digits.items() if n is not None}
    table = pd.DataFrame(rows, columns=sorted(names), dtype=object).astype(types)
    return tables.excel_bytes(fields.contact_list(table, config.labels, config.columns))


def scoring(release: Release, events: Sequence[Mapping[str, Any]]) -> Record:
    """Return the score of the model in production, and the last of the latest events."""
    score = release.score
    sets = {
        name: {"rows": of["rows"], "left": of["left"], "scores": of["candidate"]}
        for name, of in score["sets"].items()
        if of is not None
    }
    return {
        "model": release.id,
        "kind": score["candidate"]["kind"],
        "scored_at": score["scored_at"],
        "threshold": score["threshold"],
        "sets": sets,
        "replaced": score["champion"],
        "comparison": score["comparison"],
        "warnings": score["warnings"],
        "latest_decision": {key: events[-1][key] for key in LATEST} if events else None,
    }
