"""The invariants that hold after any fault, each check naming the one that broke.

I1 no accepted row is lost or doubled            I5 a run that lost anything exits != 0 and says so
I2 every input has one outcome in the ledger     I6 no state file is ever unparsable to a reader
I3 API answers from a whole, hash-true model     I7 state is bounded: what was left over is collected
I4 the next plain run ends as if undisturbed     I8 no record is ahead of the data that it names
"""

import csv
import json
import os
import re
import sqlite3
import stat
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from attrition import config_file
from attrition.config import Config
from attrition.errors import Damaged, NoModel
from attrition.operations import releases
from attrition.storage import files
from tests.campaigns.faults.recording import Tree

RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
# What grows by design, or holds a moment and not a state: the log, and what cron has mailed today.
DIARY = re.compile(r"(fullprocess\.log(\.\d+)?|notices\.json)$")
FACT_BREAKS = {"rows": "I1", "ledger": "I2", "refused": "I2", "paths": "I7"}
RUNS = 'INSERT INTO "runs"'
QUESTION = {"lastmonth_activity": 3, "lastyear_activity": 90, "number_of_employees": 4}

ReportData = dict[str, Any]


# ---- what must be the same as after an undisturbed run


def load_report_data(config: Config) -> ReportData:
    """Read all that a fault may not change; times, and names made of times, aside."""
    release = releases.read_current(config.production_folder)
    assessment = _record(config.assessment_record)
    return {
        "rows": config.final_data.read_bytes(),
        "ledger": [line[1:] for line in _cells(config.ingested_files)],
        "refused": [line[1:] for line in _cells(config.rejected)],
        "model": release.model_sha256,
        "candidate": files.sha256_file(config.candidate),
        "releases": len(releases.list_ids(config.production_folder)),
        "scores": release.score["sets"],
        "latest score": config.latest_score.read_bytes(),
        "decision": _some(_record(config.decision_record), "promoted", "rule", "comparison"),
        "monitoring": _some(
            _record(config.monitoring_record), "retrain", "triggers", "performance"
        ),
        "risks": config.risk_scores.read_bytes(),
        "contacts": config.contact_list.read_bytes(),
        "assessed": assessment["release"] == release.id,
        "diagnostics": _some(_record(config.diagnostics_record), "columns", "predictions"),
        "report": _some(_record(config.report_record), "figures", "listed"),
        "history": read_history(config.history),
        "paths": list_paths(config),
    }


def _record(path: Path) -> files.Record:
    record = files.read_record(path)
    if record is None:
        raise Damaged(f"{path}: is not there")
    return record


def _some(record: files.Record, *names: str) -> files.Record:
    return {name: record[name] for name in names}


def _cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="", errors="surrogateescape") as file:
        return list(csv.reader(file))


def read_history(path: Path) -> ReportData:
    """Read what the history must know whatever happened: decisions, scores, drift, missing data."""
    queries = {
        "deployments": "SELECT action, reason FROM deployments ORDER BY rowid",
        "scores": 'SELECT model, kind, promoted, "set", metric, value FROM scores ORDER BY 1, 4, 5',
        "missing": 'SELECT "column", missing_pct FROM missing ORDER BY rowid',
        "drift": 'SELECT "column", verdict FROM drift ORDER BY rowid',
    }
    with closing(sqlite3.connect(path)) as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in queries.items()}


def list_paths(config: Config) -> list[str]:
    """List every path of the project with its mode; a release's name is made of a time."""
    project, found = config.file.parent, []
    for path in sorted(project.rglob("*")):
        name = RELEASE_ID.sub("RELEASE", str(path.relative_to(project)))
        if not DIARY.search(name):
            mode = 0 if path.is_symlink() else stat.S_IMODE(path.lstat().st_mode)
            found.append(f"{name} {mode:o}")
    return sorted(found)


def compare(found: ReportData, expected: ReportData) -> list[str]:
    """Name the invariant behind each fact that differs."""
    broken = []
    for name, wanted in expected.items():
        if found[name] != wanted:
            how = _difference(found[name], wanted)
            broken.append(f"{FACT_BREAKS.get(name, 'I4')} {name}: {how}")
    return broken


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(wanted, bytes):
        found, wanted = found.splitlines(), wanted.splitlines()
    if isinstance(wanted, list):
        lines, expected = Counter(map(str, found)), Counter(map(str, wanted))
        more, fewer = list((lines - expected).elements()), list((expected - lines).elements())
        return f"{len(more)} more {more[:3]}, {len(fewer)} missing {fewer[:3]}"
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = [name for name in wanted if found.get(name) != wanted[name]]
        return "; ".join(f"{name}: {_difference(found.get(name), wanted[name])}" for name in names)
    return f"{str(found)[:200]}, expected {str(wanted)[:200]}"


def check_converged(config: Config, code: int, told: str, expected: ReportData) -> list[str]:
    """Check what a plain run after the fault has made of it."""
    if code != 0:
        return [f"I4 the next plain run exits with {code}: {told.strip()[-600:]}"]
    try:
        return compare(load_report_data(config), expected)
    except (Damaged, NoModel, OSError, KeyError, sqlite3.Error) as error:
        return [f"I4 after the next plain run: {type(error).__name__}: {error}"]


# ---- what holds at every instant, for whoever reads


def check_instant(config: Config, *, had_model: bool) -> list[str]:
    """Check what readers meet at this moment, in a project that nobody else needs any more.

    Reading the history makes SQLite undo a half-written transaction.
    """
    return [
        *check_records(config),
        *check_tables(config),
        *check_history(config),
        *check_production(config, had_model=had_model),
        *check_api(config, had_model=had_model),
    ]


def check_records(config: Config) -> list[str]:
    """I6: every record parses. I8: none names data that is not there."""
    broken = []
    for path in sorted(config.file.parent.rglob("*.json")):
        inner = path.relative_to(config.file.parent).parts
        if len(inner) == 1 or any(part.startswith(".") for part in inner):
            continue
        try:
            record = files.read_record(path)
        except Damaged as error:
            broken.append(f"I6 {error}")
            continue
        wrong = files.damaged_outputs(path.parent, record or {})
        # While a commit is being finished its files come first and its record last.
        if wrong and not (path.parent / files.COMMITTED).is_dir():
            broken.append(f"I8 {'/'.join(inner)}: {', '.join(wrong)} not as the record says")
    return broken


def check_tables(config: Config) -> list[str]:
    """I1, I2, I6: the tables that people and steps read are whole, without a row twice."""
    broken = []
    for path in (config.final_data, config.ingested_files, config.risk_scores, config.contact_list):
        if not path.exists():
            continue
        raw = path.read_bytes()
        lines = _cells(path)
        widths = {len(line) for line in lines}
        if not raw.endswith(b"\n") or len(widths) != 1:
            broken.append(f"I6 {path.name}: is cut ({len(raw)} bytes)")
        elif path == config.final_data and len(set(map(tuple, lines))) != len(lines):
            broken.append(f"I1 {path.name}: a row stands there twice")
        elif path == config.ingested_files:
            broken += check_ledger(lines)
    return broken


def check_ledger(lines: list[list[str]]) -> list[str]:
    """I2: one line a version of a source, and every record of it accounted for."""
    header, *rows = lines
    place = {name: header.index(name) for name in header}
    times = Counter((row[place["source"]], row[place["sha256"]]) for row in rows)
    broken = [f"I2 {name} has {n} lines" for name, n in times.items() if n > 1]
    for row in rows:
        counts = [int(row[place[name]]) for name in ("accepted", "rejected", "duplicates")]
        if sum(counts) != int(row[place["records"]]):
            broken.append(f"I2 {row[place['source']]}: {counts} of {row[place['records']]}")
    return broken


def check_history(config: Config) -> list[str]:
    if not config.history.exists() or config.history.stat().st_size == 0:
        return []
    try:
        with closing(sqlite3.connect(config.history)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    return [] if verdict == "ok" else [f"I6 {config.history.name}: {verdict}"]


def check_production(config: Config, *, had_model: bool) -> list[str]:
    """I3: production is a whole release, or there was none before either."""
    try:
        releases.read_current(config.production_folder)
    except NoModel as error:
        return [f"I3 {error}"] if had_model or os.path.lexists(config.current) else []
    except (Damaged, OSError) as error:
        return [f"I3 {error}"]
    return []


def check_api(config: Config, *, had_model: bool) -> list[str]:
    """I3: a worker that starts at this instant answers, from the release that is deployed."""
    import app

    client = app.create_app(config).test_client()
    has_model = had_model or os.path.lexists(config.current)
    health = client.get("/health")
    answer = client.post("/prediction", json={"records": [QUESTION]})
    if not has_model and answer.status_code == 503 and health.status_code == 200:
        return []
    if health.status_code != 200 or answer.status_code != 200:
        return [f"I3 /health {health.status}, /prediction {answer.status} {answer.text[:200]}"]
    used = answer.json["model"]
    if not has_model:  # one that is written, and not yet pointed at: it has to verify
        releases.read(config.production_folder, used)
    elif used != releases.current_id(config.production_folder):
        return [f"I3 /prediction answers from {used}"]
    return []


def check_failed_run(config: Config, code: int, told: str, expected: ReportData) -> list[str]:
    """I5: a run that was told of an error made all of it good, or exits != 0 and names a path."""
    if code < 0:
        return [f"I5 died of signal {-code}: {told.strip()[-600:]}"]
    if code == 0:
        wrong = check_converged(config, code, told, expected)
        return [f"I5 exits 0, but {what}" for what in wrong]
    if str(config.file.parent) not in told:
        return [f"I5 exits {code} and names no path: {told.strip()[-600:] or 'silent'}"]
    if "Traceback" in told:
        return [f"I5 exits {code} with a traceback: {told.strip()[-900:]}"]
    return []


def without_runs(config: Config, tree: Tree) -> Tree:
    """Return a tree without the diary, and with a whole history as its text but for the runs."""
    history = str(config.history.relative_to(config.file.parent))
    kept = {path: what for path, what in tree.items() if not DIARY.search(path)}
    if history not in kept or f"{history}-journal" in kept:
        return kept
    kind, mode, content = kept[history]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        lines = [line for line in connection.iterdump() if not line.startswith(RUNS)]
    return kept | {history: (kind, mode, "\n".join(lines).encode())}


def load(project: Path) -> Config:
    return config_file.load(project / "config.json")


def as_line(result: dict[str, Any]) -> str:
    return json.dumps(result, sort_keys=True)
