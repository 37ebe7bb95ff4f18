"""Build the responses of the API from rows and records, without a path, a clock or a request."""

import csv
import io
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from attrition.contacts import fields
from attrition.operations.releases import Release
from attrition.storage.files import Record
from attrition.web.artifact_cache import NotReady

if TYPE_CHECKING:
    import pandas as pd


def predict(
    release: Release, model: Any, rows: "pd.DataFrame", client: str, labels: fields.Labels
) -> list[Record]:
    """Return the risk of each row in the same order, with flags if it is uncertain.

    Raises: NotReady if the model was trained on columns that config.json no longer names.
    """
    from attrition.modelling import metrics, models, reliability

    features = [name for names in release.training["features"].values() for name in names]
    if unnamed := [name for name in features if name not in rows]:
        raise NotReady(
            f"the model in production needs {', '.join(unnamed)}, which config.json no longer "
            "names; run fullprocess.py",
            "other_columns",
        )
    cautions = reliability.cautions(model, rows, release.training)
    risks = models.predict(model, rows)
    return [
        {
            "client": name or None,
            "risk": float(risk),
            "outcome": int(risk >= metrics.THRESHOLD),
            "flags": [fields.caution_text(caution, labels) for caution in cautions[i]],
        }
        for i, (name, risk) in enumerate(zip(rows[client], risks, strict=True))
    ]


def scoring(release: Release, decision: Record | None) -> Record:
    """Return the score of the model in production and the latest decision."""
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
        "latest_decision": decision
        and {key: decision[key] for key in ("decided_at", "promoted", "rule", "reason", "release")},
    }


def defuse(table: list[dict[str, str]], columns: Collection[str]) -> bytes:
    """Format a table as CSV, with text escaped if a spreadsheet would read it as a formula.

    >>> defuse([{"client": "=1+1", "risk_change": "-0.1"}], ["client"])
    b"client,risk_change\\r\\n'=1+1,-0.1\\r\\n"
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]) if table else [], lineterminator="\r\n")
    writer.writeheader()
    for row in table:
        writer.writerow({k: _escape(v) if k in columns else v for k, v in row.items()})
    return text.getvalue().encode("utf-8")


def _escape(cell: str) -> str:
    """Prefix a cell with an apostrophe if it would start a formula. Source: OWASP, CSV Injection."""
    first = cell.lstrip(" \n\u00a0\ufeff")[:1]
    return f"'{cell}" if first and first in "=+-@\t\r＝＋－＠" else cell
