"""Write the model card of a release in Markdown, to be read in two minutes.

The text contains no time of its own: it is equal if the records are. Names of columns and sources are
data: they cannot break a table or become a heading, a link or HTML.

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
    """Return the model card of a deployed model.

    sources: the lines of ingestedfiles.txt, oldest first
    """
    accepted = [line for line in reversed(sources) if line["verdict"] == "accepted"]
    counts = ("records", "accepted", "rejected", "duplicates")
    sets = {title: rows for key, title in wording.SETS.items() if (rows := score["sets"].get(key))}
    scored = wording.scored(sets)
    # _escape_markdown escapes all that the template inserts.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_escape_markdown,
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
        columns=_describe_columns(training),
        candidates=sorted(training["candidates"], key=lambda row: wording.finite(row["log_loss"])),
        scored=scored,
        scores=_score_rows(scored),
        in_time=_describe_backtest(training["temporal"]),
        COLUMNS_SHOWN=COLUMNS_SHOWN,
        SOURCES_SHOWN=SOURCES_SHOWN,
    )


def _escape_markdown(value: Any) -> str:
    """Escape text that may be data, so that Markdown shows it unchanged on one line.

    >>> _escape_markdown("a|b <i>\\n# _c_ d_e")
    'a\\\\|b \\\\<i\\\\> \\\\# \\\\_c\\\\_ d_e'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return re.sub(r"^([-+=]|\d+[.)](?=\s|$))", r"\\\1", SPECIAL.sub(r"\\\1", line))


def _describe_columns(training: Row) -> list[Row]:
    """Describe each column, the most important first."""
    share = training["importance"]
    kinds = {name: kind for kind, names in training["features"].items() for name in names}
    return [
        {
            "name": name,
            "share": share.get(name),
            "range": _format_range(training["ranges"].get(name), kinds[name]),
            "baseline": _format_baseline(training["baseline"][name]),
        }
        for name in sorted(kinds, key=lambda name: (-wording.finite(share.get(name, 0.0)), name))
    ]


def _format_range(ends: Sequence[float] | None, kind: str) -> str:
    if ends is None:
        return "categories" if kind == "categorical" else wording.UNKNOWN
    return f"{number_text(ends[0])} to {number_text(ends[1])}"


def _format_baseline(value: Any) -> str:
    if isinstance(value, int | float):
        return wording.statistic(value)
    return wording.shorten(str(value or wording.UNKNOWN), 30)


def _score_rows(scored: Mapping[str, tuple[Row, Row]]) -> list[tuple[str, list[str]]]:
    """Return the name of each measure, and its value on each set of outcomes."""
    rows = [("rows (left)", [wording.rows_and_left(outcomes) for outcomes, _ in scored.values()])]
    for measure, (name, show) in wording.MEASURES.items():
        values = [scores.get(measure) for _, scores in scored.values()]
        rows.append((name, [wording.with_interval(value, show, "–") for value in values]))
    return rows


def _describe_backtest(temporal: Row) -> str:
    if not temporal["validated"]:
        return (
            "Not validated in time: it was scored on rows from other clients, "
            "not on rows from a later time than its training rows."
        )
    difference = temporal["difference"]["interval"]
    signed = wording.with_interval(difference, partial(wording.decimal, sign=True))
    return (
        f"When trained only on rows until {temporal['trained_until']}, it reaches ROC AUC "
        f"{wording.decimal(temporal['roc_auc'])} on the {wording.count(temporal['rows'])} rows since "
        f"{temporal['cut']}; cross-validation gives {wording.decimal(temporal['random_roc_auc'])} "
        f"(random minus temporal: {signed})."
    )
