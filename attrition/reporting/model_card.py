"""The model card of a release: what a reviewer reads of a model in two minutes, in plain Markdown.

Pure, with no clock of its own: same records, same text. Names of columns and sources are data: nothing
in them can break a table or become a heading, a link or HTML.

Source: Mitchell et al. 2019, "Model cards for model reporting".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrition import wording
from attrition.data.cells import number_text

Row = Mapping[str, Any]

COLUMNS_SHOWN, SOURCES_SHOWN = 15, 10
SPECIAL = re.compile(r"([\\`*\[\]<>|~&#!$@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.)")
ALIGN = {True: "---:", False: "---"}
PURPOSE = """\
It ranks current clients by their risk of leaving, so that client managers know whom to contact first.
It supports the decision of a person and takes none.

It does not say whom a call would keep: it has learned from what happened, not from trials, and makes no
claim of uplift. It says nothing of what makes clients leave, and is not made for decisions on prices,
credit or service, nor for people who are no clients of this company."""
NOT_IN_TIME = (
    "Not validated in time: the rows that it was scored on are of other clients, not of a later time "
    "than those that it learned from."
)
KNOWN = (
    "It knows no more than the columns above, in their ranges. For a client beyond them the column "
    "low_confidence of riskscores.csv and the flags of /prediction say so."
)
CONTACTED = "It does not know which clients were contacted, nor what that changed."


def write(training: Row, score: Row, decision: Row, sources: Sequence[Row]) -> str:
    """Write the card of a model that is deployed.

    sources: the lines of ingestedfiles.txt, oldest first
    """
    kept = {said: found for key, said in wording.SETS.items() if (found := score["sets"].get(key))}
    parts = {
        f"Model card: {_text(training['kind'])}": [
            _text(wording.decision(decision)),
            f"sha256 of the model: {training['model_sha256']}",
        ],
        "What it is for": [PURPOSE],
        "Data": [_text(wording.learned_from(training)), *_sources(sources)],
        "What it goes by": _columns(training),
        "How it was chosen": _choice(training),
        "Scores on rows that it had not learned from": _scores(
            wording.scored(kept), score["capacity"]
        ),
        "Calibration": _calibration(score["curves"]),
        "Warnings": [_list([*training["warnings"], *score["warnings"]]) or "None."],
        "Limits": [_list([_in_time(training), KNOWN, CONTACTED])],
        "Provenance": _provenance(training),
    }
    lines = []
    for i, (title, blocks) in enumerate(parts.items()):
        lines += [f"{'##' if i else '#'} {title}", *blocks]
    return "\n\n".join(lines) + "\n"


# ---- Markdown


def _text(value: Any) -> str:
    """Write text that may be data so that Markdown takes all of it for text, on one line.

    >>> _text("a|b <i>\\n# _c_ d_e")
    'a\\\\|b \\\\<i\\\\> \\\\# \\\\_c\\\\_ d_e'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return re.sub(r"^([-+=]|\d+[.)](?=\s|$))", r"\\\1", SPECIAL.sub(r"\\\1", line))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], words_in: int = 1) -> str:
    """Set rows under a header; all columns but the first `words_in` are numbers."""
    lines = [[_text(name) for name in columns], [ALIGN[i >= words_in] for i in range(len(columns))]]
    lines += [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(sentences: Iterable[Any]) -> str:
    return "\n".join(f"- {_text(wording.finished(sentence))}" for sentence in sentences)


# ---- what stands in it


def _sources(lines: Sequence[Row]) -> list[str]:
    """Say from where all rows came, those of current clients included."""
    taken = [line for line in lines if line["verdict"] == "accepted"]
    counts = ("records", "accepted", "rejected", "duplicates")
    total = {name: sum(int(line[name]) for line in taken) for name in counts}
    said = (
        f"All rows, those of current clients too, came in "
        f"{wording.plural(len(taken), 'version')} of files and tables: of "
        f"{wording.plural(total['records'], 'record')} {wording.count(total['accepted'])} were "
        f"accepted, {wording.count(total['rejected'])} refused and "
        f"{wording.count(total['duplicates'])} repeats."
    )
    if held := len(lines) - len(taken):
        said += f" Not taken in: {wording.count(held)} more."
    newest = taken[: -SOURCES_SHOWN - 1 : -1]
    rows = [
        [
            wording.shorten(line["source"], 60),
            wording.minute(line["ingested_at"]),
            line["sha256"][:12],
            *(wording.count(line[name]) for name in counts),
        ]
        for line in newest
    ]
    titles = (
        *("source, newest first", "taken in (UTC)", "sha256"),
        *("records", "accepted", "refused", "repeats"),
    )
    more = [f"and {len(taken) - len(newest):,} before"] if len(taken) > len(newest) else []
    return [said, *([_table(titles, rows, words_in=3)] if rows else []), *more]


def _columns(training: Row) -> list[str]:
    """Say what is known of each column, the most used first."""
    share = training["importance"] or {}
    kinds = {name: kind for kind, names in training["features"].items() for name in names}
    ranked = sorted(kinds, key=lambda name: (-wording.finite(share.get(name, 0.0)), name))
    rows = [
        [
            wording.shorten(name, 60),
            wording.percent(share.get(name)),
            _range(training["ranges"].get(name), kinds[name]),
            _value(training["baseline"][name]),
            "yes" if name in training["missing_seen"] else "never",
        ]
        for name in ranked[:COLUMNS_SHOWN]
    ]
    titles = ("column", "share", "range in training", "ordinary client", "missing in training")
    said = "Share: of all that moves the risks away from that of an ordinary client."
    rest = ", ".join(ranked[COLUMNS_SHOWN:])
    further = [f"Further columns, each used less: {_text(rest)}."] if rest else []
    unused = [_text(wording.dropped(training))] if training["dropped"] else []
    return [said, _table(titles, rows), *further, *unused]


def _range(ends: Sequence[float] | None, kind: str) -> str:
    if ends is None:
        return "levels" if kind == "categorical" else wording.UNKNOWN
    return f"{number_text(ends[0])} to {number_text(ends[1])}"


def _value(value: Any) -> str:
    is_number = isinstance(value, int | float)
    return wording.plain(value) if is_number else wording.shorten(str(value or wording.UNKNOWN), 30)


def _choice(training: Row) -> list[str]:
    """Say what was tried, and why this one was taken."""
    ranked = sorted(training["candidates"], key=lambda row: wording.finite(row["log_loss"]))
    rows = [
        [
            row["name"],
            "chosen" if row["chosen"] else "",
            wording.decimal(row["log_loss"], digits=4),
            wording.decimal(row["standard_error"], digits=4),
        ]
        for row in ranked
    ]
    tried = training["calibration"]["log_loss"]
    losses = ", ".join(f"{name} {wording.decimal(loss, digits=4)}" for name, loss in tried.items())
    return [
        _text(wording.finished(training["why"])),
        _table(("candidate", "", "log loss", "standard error"), rows, words_in=2),
        _text(wording.made_of(training)),
        f"Calibrations tried, with their log loss: {_text(losses)}. "
        f"Rows learned from: {_text(training['window'])}.",
    ]


def _scores(scored: Mapping[str, tuple[Row, Row]], capacity: int) -> list[str]:
    if not scored:
        return ["It was scored on no outcome."]
    sizes = [
        f"{wording.count(of['rows'])} ({wording.count(of['left'])})" for of, _ in scored.values()
    ]
    rows = [["rows (left)", *sizes]]
    for measure, (name, say) in wording.MEASURES.items():
        values = [scores.get(measure) for _, scores in scored.values()]
        rows.append([name, *(wording.with_interval(value, say, "–") for value in values)])
    said = f"In brackets the 95 % interval. Called: as many as {capacity:,} calls reach."
    return [_table(("measure", *scored), rows), said]


def _calibration(curves: Row | None) -> list[str]:
    if not curves or not curves["calibration"]:
        return ["There was no outcome to hold the risks against."]
    rows = [
        [
            wording.percent(row["mean_risk"]),
            wording.percent(row["observed"]),
            wording.between(row, wording.percent),
            wording.count(row["rows"]),
        ]
        for row in curves["calibration"]
    ]
    said = "Groups of like risk, on all rows scored: what was predicted, and the share that left."
    return [said, _table(("predicted", "left", "95 % interval", "rows"), rows, words_in=0)]


def _in_time(training: Row) -> str:
    found = training.get("temporal") or {"validated": False}
    if not found["validated"]:
        return NOT_IN_TIME
    random, late = found["random_roc_auc"], found["roc_auc"]
    lost = wording.with_interval(
        found["difference"]["interval"], partial(wording.decimal, sign=True)
    )
    return (
        f"Learned from rows until {found['trained_until']} only, it has ROC AUC "
        f"{wording.decimal(late)} on the {wording.count(found['rows'])} rows since {found['cut']}, "
        f"where cross-validation has {wording.decimal(random)} (random less temporal: {lost})."
    )


def _provenance(training: Row) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    rows = wording.count(training["reference_rows"])
    return [
        _list(
            [
                f"Drift is held against {rows} rows, each with its cross-validated risk: reference.csv",
                f"The rows it was trained from have the sha256 {training['inputs']['finaldata']}",
                f"Made with {versions}",
            ]
        ),
        "The records that this card is made from lie beside it; manifest.json names the sha256 of each.",
    ]
