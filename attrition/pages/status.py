"""Render the pages about the model, the data and the system, and what every page shows around its own.

Every part works if a record does not exist yet or is damaged: on the first day there is only a model.
"""

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask import g, render_template, request

from attrition import __version__, wording
from attrition.access import roles
from attrition.operations import metrics, releases
from attrition.pages import sign_in
from attrition.reporting import svg
from attrition.reporting.report_data import CAPTIONS, ReportData, light
from attrition.storage import history
from attrition.upkeep import integrity
from attrition.web import health
from attrition.web.artifact_cache import State, optional, state

Row = Mapping[str, Any]
Context = dict[str, Any]

PAGES = {"today": "/", "list": "/list", "effect": "/effect"}
PAGES |= {"model": "/model", "data": "/data", "system": "/system"}
UNUSED_SHOWN, EVENTS_SHOWN, RUNS_SHOWN, COHORTS_SHOWN, LEVELS_SHOWN = 10, 12, 40, 24, 6
DRAWN = ("risk_distribution", "confusionmatrix", "roc")  # figures of the report, as there
STATISTICS = ("mean", "std", "minimum", "0.05", "median", "0.95", "maximum")
# The PSI from which a shift counts as material, as in monitoring.drift, which imports pandas.
ACT_PSI = 0.1
TREND_RUNS = 5
UNBROKEN = "–\u2060"  # a dash after which no line ends
TONES = {
    **{"accepted": "good", "quarantined": "bad", "skipped": "warn"},  # verdicts on sources
    **{"promoted": "good", "rolled back": "warn", "withdrawn": "bad"},  # changes of production
    **{"done": "good", "failed": "bad", "died": "bad", "unavailable": "warn"},  # runs
    **{"act": "bad", "look": "warn"},  # drift
    **{"green": "good", "amber": "warn", "red": "bad"},  # the traffic light
}
FOLDERS = {
    "ingested rows": "output_folder",
    "candidate model": "model_folder",
    "releases and history": "production_folder",
    "lists and report": "reports_folder",
    "contact log": "contacts_folder",
}


# ---- what every page shows


def add_frame() -> Context:
    """Add what the base template shows on every page to the context of all templates."""
    links = {name: request.script_root + path for name, path in PAGES.items()}
    links["home"] = request.script_root + sign_in.home(g.caller, "")
    sees_status = roles.may_use(g.caller.roles, "show_system")
    shown = frame(state(), datetime.now(UTC)) if sees_status else {"release": None, "problems": []}
    may_use = partial(roles.may_use, g.caller.roles)
    return {
        "frame": {
            **{"links": links, "caller": g.caller, "may_use": may_use, "version": __version__},
            **shown,
        }
    }


def frame(state: State, now: datetime) -> Context:
    """Return the release in production, and the problems that need attention, on any page."""
    loaded = optional(state.production.get)
    return {
        "release": loaded[0].id if loaded else None,
        "problems": describe_problems(state, now),
    }


def describe_problems(state: State, now: datetime) -> list[str]:
    """Return the complaints of /health and the suspicious deliveries as sentences, with all reasons."""
    result = health.check_health(state, now)
    hidden = (
        "no_model",
        "not_ready",
        "unused",
    )  # a first day is no problem; unused comes with reason
    problems = [one.sentence for one in result.complaints if one.code not in hidden]
    problems += ReportData(monitoring=optional(state.monitoring) or {}).suspicious
    sentences = [wording.finished(problem) for problem in problems]
    return [*dict.fromkeys(sentences + describe_unused(state))]


def describe_unused(state: State) -> list[str]:
    lines = wording.unused_lines(health.find_unused(state), UNUSED_SHOWN)
    return [wording.finished(line) for line in lines]


def read_report_data(state: State) -> ReportData:
    """Read the records that the pages share with the report; {} if one does not exist or is damaged."""
    config, loaded = state.config, optional(state.production.get)
    release = loaded[0] if loaded else None
    last_run = optional(state.cache.record, config.last_run, "fullprocess.py") or {}
    return ReportData(
        release=release.id if release else None,
        training=release.training if release else {},
        score=release.score if release else {},
        decision=optional(state.decision) or {},
        monitoring=optional(state.monitoring) or {},
        assessment=optional(state.assessment) or {},
        diagnostics=optional(state.diagnostics) or {},
        scores=state.read_optional_history(history.read_scores),
        missing=state.read_optional_history(history.read_missing),
        estimates=state.read_optional_history(history.read_estimates),
        deployments=state.deployments(),
        unavailable=last_run.get("unavailable", ()),
        unused=health.find_unused(state),
        overdue_minutes=config.overdue_minutes,
        currency=config.currency,
        capacity=config.contact_capacity,
        order=config.contact_order,
        labels=config.labels,
    )


# ---- the model


def show_model() -> str:
    """Show the model in production, its scores, and what became of each candidate."""
    return render_template("model.html", **model_context(state(), datetime.now(UTC)))


def model_context(state: State, now: datetime) -> Context:
    data = read_report_data(state)
    curves = data.score.get("curves") or {}
    listed = data.assessment.get("list", {}).get("clients") or 0
    names = optional(state.figure_names) or []
    importance = {name: share for name, share in data.importance.items() if share}
    return {
        "data": data,
        "state": describe_state(state, data, now),
        "facts": model_facts(data),
        "training": wording.training(data.training) if data.training else [],
        "scores": score_rows(data),
        "score_note": wording.score_note(data.capacity),
        "over_time": svg.scores_over_time(data.scores, data.deployments),
        "calibration": svg.calibration(curves.get("calibration") or ()),
        "gain": svg.gain(
            curves.get("gain"), contacted=listed, clients=data.assessment.get("clients") or 0
        ),
        "importance": sorted(importance.items(), key=lambda item: (-item[1], item[0])),
        "importance_note": CAPTIONS["importance"],
        "estimates": estimate_rows(data.assessment.get("estimate")),
        "second_opinion": (data.assessment.get("second_opinion") or {}).get("reason"),
        "accuracy": accuracy_rows(data.estimates),
        "events": describe_events(data),
        "change": describe_change(data),
        "break_even": describe_break_even(data),
        "releases": list_releases(state, data.release),
        "figures": [(name, CAPTIONS[name]) for name in DRAWN if name in names],
        "has_report": bool(names),
    }


def describe_state(state: State, data: ReportData, now: datetime) -> Context:
    """Return the traffic light of the model, as the report has it; on the first day, what to do."""
    if not data.release:
        return {"tone": data.state.tone, "title": data.state.title, "sentence": data.state.sentence}
    complaints = health.check_health(state, now).complaints
    damage = [one.sentence for one in complaints if one.code in ("damaged", "release", "history")]
    overdue = next((one for one in complaints if one.code == "overdue"), None)
    colour, sentence, action = light(data, damage=damage, overdue=overdue)
    return {
        "tone": TONES[colour],
        "title": data.state.title,
        "colour": colour,
        "sentence": sentence,
        "action": action,
    }


def model_facts(data: ReportData) -> list[tuple[str, str]]:
    """Return the main facts about the model in production, by term."""
    record = data.training
    if not record:
        return []
    return [
        ("Release", str(data.release)),
        ("Model", record["kind"]),
        ("Trained", wording.moment(record["trained_at"])),
        (
            "Trained on",
            f"{wording.plural(record['rows'], 'row')} of "
            f"{wording.plural(record['clients'], 'client')}, {record['left']:,} of whom left",
        ),
        ("Assessed", wording.moment(data.assessment.get("assessed_at"))),
    ]


def score_rows(data: ReportData) -> Context:
    """Return a table of every measure on every set of outcomes; {} if the model was not scored."""
    scored = wording.scored(data.sets)
    if not scored:
        return {}
    columns = [("measure", False), *((title, True) for title in scored)]
    rows = [["rows (left)", *(wording.rows_and_left(outcomes) for outcomes, _ in scored.values())]]
    for measure, (name, show) in wording.MEASURES.items():
        values = [scores.get(measure) for _, scores in scored.values()]
        if any(map(wording.is_known, values)):
            rows.append([name, *(wording.with_interval(value, show, UNBROKEN) for value in values)])
    return {"columns": columns, "rows": rows}


def estimate_rows(estimate: Row | None) -> list[list[str]]:
    return [
        [wording.finished(name).rstrip("."), wording.with_interval(estimate[figure], show)]
        for figure, (name, show) in wording.ESTIMATED.items()
        if estimate and wording.is_known(estimate.get(figure))
    ]


def accuracy_rows(estimates: Sequence[Row]) -> list[list[str]]:
    """Return how accurate past estimates were, by figure: how many outcomes their intervals covered."""
    rows = []
    for figure, (name, show) in wording.ESTIMATED.items():
        checks = [row for row in estimates if row["figure"] == figure]
        if checks:
            covered = sum(row["low"] <= row["realised"] <= row["high"] for row in checks)
            error = statistics.fmean(abs(row["estimated"] - row["realised"]) for row in checks)
            last = checks[-1]
            estimated = wording.with_interval({**last, "value": last["estimated"]}, show)
            coverage = f"{covered} of {len(checks)}"
            rows.append([name, coverage, show(error), estimated, show(last["realised"])])
    return rows


def describe_events(data: ReportData) -> list[Context]:
    """Describe what happened to production, the newest first, with the last decision."""
    events = []
    rows = [row for row in data.deployments if row["action"] != "repaired"]
    for row in reversed(rows[-EVENTS_SHOWN:]):
        is_decided = row["action"] in integrity.DECIDED
        sentence = row["reason"] if is_decided else wording.rollback(row, is_last=row is rows[-1])
        events.append(
            {
                "at": wording.moment(row["at"]),
                "tone": TONES.get(row["action"], ""),
                "sentence": wording.finished(sentence),
                "release": row["release"],
            }
        )
    decided_at = data.decision.get("decided_at")
    if decided_at and all(row["at"] != decided_at for row in rows):
        sentence = wording.finished(data.decision["reason"])
        at = wording.moment(decided_at)
        events.insert(0, {"at": at, "tone": "", "sentence": sentence, "release": None})
    return events


def describe_change(data: ReportData) -> str:
    """Describe what the last deployment changed for the clients; "" if nothing is known."""
    change = data.assessment.get("change") or {"to": None}
    is_known = data.release is not None and change["to"] == data.release
    return wording.change(change, data.labels) if is_known else ""


def describe_break_even(data: ReportData) -> str:
    """Describe from which value at risk on a contact pays, or how to find out."""
    if record := data.assessment.get("break_even"):
        return wording.break_even(record, data.currency)
    if not data.assessment:
        return ""
    keys = "Set contact_cost and contact_success in config.json"
    return f"{keys} to see from which value at risk on a contact pays."


def list_releases(state: State, served: str | None) -> list[Context]:
    """Return the releases that production can go back to, the newest first."""
    ids = releases.list_ids(state.config.production_folder)
    older = [one for one in ids if served and one < served]
    return [
        {"id": one, "is_served": one == served, "is_next": one in older[-1:]}
        for one in reversed(ids[-EVENTS_SHOWN:])
    ]


# ---- the data


def show_data() -> str:
    """Show what was ingested and refused, the cohorts, and the columns over time."""
    return render_template("data.html", **data_context(state()))


def data_context(state: State) -> Context:
    data = read_report_data(state)
    counts = data.diagnostics.get("data") or {}
    damage: list[str] = []
    lines = optional(state.ingestions, damage=damage) or []
    refusals = optional(state.refusals, damage=damage)
    cohorts = data.monitoring.get("cohorts", ())
    return {
        "data": data,
        "counts": counts,
        "read": wording.rows_read(counts) if counts else "",
        "lines": lines,
        "refusals": refusals or [],
        "is_nothing_refused": refusals == [],
        "damage": [wording.finished(sentence) for sentence in damage],
        "tones": TONES,
        "unused": describe_unused(state),
        "cohorts": [describe_cohort(one) for one in reversed(cohorts[-COHORTS_SHOWN:])],
        "columns": columns_over_time(state, data),
        "verdicts": wording.DRIFT_VERDICTS,
        "numbers": number_rows(data),
        "categories": category_rows(data),
    }


def describe_cohort(cohort: Row) -> Context:
    known, rows = cohort["known"], cohort["rows"]
    when = (
        f"judged from {cohort['matures_at'][:10]}"
        if cohort["matures_at"]
        else "not complete yet, not used"
    )
    return {
        "name": cohort["name"],
        "rows": rows,
        "known": known,
        "share_known": known / rows if rows else 0.0,
        "left": cohort["left"],
        "left_share": cohort["left"] / known if known and cohort["mature"] else None,
        "is_mature": cohort["mature"],
        "state": "complete" if cohort["mature"] else when,
    }


def columns_over_time(state: State, data: ReportData) -> list[Context]:
    """Return the missing values and the drift of each column, now and over time."""
    shifts: dict[str, list[Any]] = {}
    for row in data.labelled(state.read_optional_history(history.read_drift)):
        shifts.setdefault(row["column"], []).append(row["psi"])
    gaps: dict[str, list[Any]] = {}
    for row in data.labelled(data.missing):
        gaps.setdefault(row["column"], []).append(row["missing_pct"])
    drift = {row["column"]: row for row in data.drift.get("columns", ())}
    names = dict.fromkeys([*drift, *data.columns])
    rows = [
        {
            "name": name,
            "missing": data.columns.get(name, drift.get(name, {})).get("missing_pct", 0.0) / 100,
            "missing_over_time": svg.spark(gaps.get(name, ()), at_least=5.0),
            "psi": drift.get(name, {}).get("psi"),
            "psi_over_time": svg.spark(shifts.get(name, ()), at_least=ACT_PSI, guide=ACT_PSI),
            "verdict": drift.get(name, {}).get("verdict", "insufficient"),
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: (-(row["psi"] or 0.0), row["name"]))


def number_rows(data: ReportData) -> list[list[str]]:
    return [
        [name, *(wording.statistic({**row, **row["quantiles"]}.get(key)) for key in STATISTICS)]
        for name, row in data.columns.items()
        if row["kind"] == "numeric"
    ]


def category_rows(data: ReportData) -> list[list[str]]:
    return [
        [name, wording.count(row["distinct"]), wording.categories(row, LEVELS_SHOWN)]
        for name, row in data.columns.items()
        if row["kind"] == "categorical"
    ]


# ---- the system


def show_system() -> str:
    """Show the runs, the durations of the steps, and the state of the installation."""
    return render_template("system.html", **system_context(state(), datetime.now(UTC)))


def system_context(state: State, now: datetime) -> Context:
    recent = health.summarise_runs(state, now)
    diagnostics = optional(state.diagnostics) or {}
    worked = state.read_optional_history(history.read_worked_runs, RUNS_SHOWN)
    packages = (diagnostics.get("dependencies") or {}).get("packages") or []
    is_overdue = any(complaint.code == "overdue" for complaint in recent.complaints)
    return {
        "good_at": wording.ago(recent.good_at, now),
        "is_overdue": is_overdue,
        "limit": state.config.overdue_minutes,
        "summary": wording.runs(wording.ago(recent.good_at, now), recent.counts),
        "runs": list(reversed(worked)),
        "tones": TONES,
        "steps": [describe_step(state, name) for name in history.STEPS],
        "packages": wording.packages(diagnostics.get("dependencies") or {}),
        "outdated": sorted(packages, key=lambda one: (not one["outdated"], one["name"])),
        "events": describe_events(read_report_data(state)),
        "disk": disk_usage(state),
    }


def describe_step(state: State, name: str) -> Context:
    """Return how long a step took, and how the last time compares with the median of those before.

    The trend is "" if the step ran only once.
    """
    rows = state.read_optional_history(history.read_steps, name)
    elapsed = [float(row["elapsed_s"]) for row in rows]
    before = elapsed[-1 - TREND_RUNS : -1]
    return {
        "name": name,
        "times": len(rows),
        "cpu": _figure(rows, "cpu_s", wording.seconds),
        "peak": _figure(rows, "peak_mb", "{:,.0f} MB".format),
        "last": wording.seconds(elapsed[-1]) if elapsed else wording.DASH,
        "median": wording.seconds(statistics.median(before)) if before else wording.DASH,
        "trend": describe_trend(elapsed[-1], before) if before else "",
        "over_time": svg.spark(elapsed),
        "outcome": rows[-1]["outcome"] if rows else "",
        "at": wording.minute(rows[-1]["started_at"]) if rows else wording.DASH,
    }


def _figure(rows: Sequence[Row], name: str, show: Callable[[float], str]) -> str:
    """Format a cost of the last run; a run of an earlier version recorded none."""
    value = rows[-1].get(name) if rows else None
    return wording.DASH if value is None else show(value)


def describe_trend(last: float, before: Sequence[float]) -> str:
    """Compare a duration with the median before; up to a quarter or half a second is no change.

    >>> [describe_trend(last, [median] * 5) for last, median in ((3.0, 2.0), (2.1, 2.0), (0.4, 0.1))]
    ['50 % longer', 'no change', 'no change']
    >>> describe_trend(46.2, [6.3])
    'too few runs to compare'
    """
    if len(before) < TREND_RUNS:
        return "too few runs to compare"
    baseline = statistics.median(before)
    change = (last - baseline) / baseline if baseline else 0.0
    if abs(change) < 0.25 or abs(last - baseline) < 0.5:
        return "no change"
    return f"{abs(change):.0%}".replace("%", " %") + (" longer" if change > 0 else " shorter")


def disk_usage(state: State) -> Context:
    """Return the size of each folder that this project writes, and the free space."""
    folders = {name: getattr(state.config, folder) for name, folder in FOLDERS.items()}
    return {
        "sizes": [(name, megabytes(metrics.folder_size(path))) for name, path in folders.items()],
        "free": megabytes(shutil.disk_usage(state.config.file.parent).free),
    }


def megabytes(size: float) -> str:
    """Format a size on disk.

    >>> megabytes(1_234_567), megabytes(12), megabytes(45_000_000_000)
    ('1.2 MB', '< 0.1 MB', '45 GB')
    """
    if size >= 1e9:
        return f"{size / 1e9:.3g} GB"
    return f"{size / 1e6:,.1f} MB" if size >= 5e4 else "< 0.1 MB"
