"""Write the model card of a release in Markdown: what a reviewer reads in two minutes.

Pure, with no clock of its own: same records, same text. Names of columns and sources are data: nothing
in them can break a table or become a heading, a link or HTML.

Source: Mitchell et al. 2019, "Model cards for model reporting".
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attrition import wording
from attrition.data.cells import number_text

Row = Mapping[str, Any]

TEMPLATES = Path(__file__).parent / "templates"
COLUMNS_SHOWN, SOURCES_SHOWN = 15, 10
SPECIAL = re.compile(r"([\\`*\[\]<>|~&#!$@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.)")


def write(training: Row, score: Row, decision: Row, sources: Sequence[Row]) -> str:
    """Write the card of a model that is deployed.

    sources: the lines of ingestedfiles.txt, oldest first
    """
    accepted = [line for line in reversed(sources) if line["verdict"] == "accepted"]
    counts = ("records", "accepted", "rejected", "duplicates")
    sets = {title: rows for key, title in wording.SETS.items() if (rows := score["sets"].get(key))}
    scored = wording.scored(sets)
    # Whatever the template inserts is escaped by _text.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    return environment.get_template("model_card.md").render(
        wording=wording,
        training=training,
        score=score,
        decision=decision,
        accepted=accepted,
        refused=len(sources) - len(accepted),
        total={name: sum(int(line[name]) for line in accepted) for name in counts},
        columns=_columns(training),
        candidates=sorted(training["candidates"], key=lambda row: wording.finite(row["log_loss"])),
        scored=scored,
        scores=_scores(scored),
        in_time=_in_time(training["temporal"]),
        COLUMNS_SHOWN=COLUMNS_SHOWN,
        SOURCES_SHOWN=SOURCES_SHOWN,
    )


def _text(value: Any) -> str:
    """Escape text that may be data: Markdown shows it as it is, on one line.

    >>> _text("a|b <i>\\n# _c_ d_e")
    'a\\\\|b \\\\<i\\\\> \\\\# \\\\_c\\\\_ d_e'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return re.sub(r"^([-+=]|\d+[.)](?=\s|$))", r"\\\1", SPECIAL.sub(r"\\\1", line))


def _columns(training: Row) -> list[Row]:
    """Describe each column, the most important first."""
    share = training["importance"]
    kinds = {name: kind for kind, names in training["features"].items() for name in names}
    return [
        {
            "name": name,
            "share": share.get(name),
            "range": _range(training["ranges"].get(name), kinds[name]),
            "baseline": _baseline(training["baseline"][name]),
        }
        for name in sorted(kinds, key=lambda name: (-wording.finite(share.get(name, 0.0)), name))
    ]


def _range(ends: Sequence[float] | None, kind: str) -> str:
    if ends is None:
        return "categories" if kind == "categorical" else wording.UNKNOWN
    return f"{number_text(ends[0])} to {number_text(ends[1])}"


def _baseline(value: Any) -> str:
    is_number = isinstance(value, int | float)
    return (
        wording.statistic(value)
        if is_number
        else wording.shorten(str(value or wording.UNKNOWN), 30)
    )


def _scores(scored: Mapping[str, tuple[Row, Row]]) -> list[tuple[str, list[str]]]:
    """Return the name of each measure, and its value on each set of outcomes."""
    rows = [("rows (left)", [wording.rows_and_left(outcomes) for outcomes, _ in scored.values()])]
    for measure, (name, say) in wording.MEASURES.items():
        values = [scores.get(measure) for _, scores in scored.values()]
        rows.append((name, [wording.with_interval(value, say, "–") for value in values]))
    return rows


def _in_time(temporal: Row) -> str:
    if not temporal["validated"]:
        return (
            "Not validated in time: it was scored on rows from other clients, "
            "not on rows from a later time than its training rows."
        )
    lost = wording.with_interval(
        temporal["difference"]["interval"], partial(wording.decimal, sign=True)
    )
    return (
        f"When trained only on rows until {temporal['trained_until']}, it reaches ROC AUC "
        f"{wording.decimal(temporal['roc_auc'])} on the {wording.count(temporal['rows'])} rows since "
        f"{temporal['cut']}; cross-validation gives {wording.decimal(temporal['random_roc_auc'])} "
        f"(random minus temporal: {lost})."
    )
