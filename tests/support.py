"""What several test files need: sources and tables by hand, runs in a process, and small records."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

import ingestion
from attrition import config_file
from attrition.config import Columns, Numeric
from attrition.contacts import log
from attrition.rows import typed_rows
from attrition.storage import files, tables
from tests.conftest import NOBODY_AT, PLAIN_KEYS, ROOT, count_as_asked

SCRIPT = [sys.executable, str(ROOT / "fullprocess.py")]
PLAIN = Columns()
WIDE = Columns(
    client="id",
    outcome="left",
    numeric=(Numeric("x"), Numeric("n", minimum=0, maximum=9, integer=True)),
    categorical=("kind",),
    time="seen",
    value="worth",
    manager="owner",
    ignore=("note",),
)


# Which folders of attrition/ each may import; modules that lie in none of them are above all folders.
ARROWS = {
    "": set(),
    "storage": set(),
    "data": {"storage"},
    "engine": {"storage"},
    "rows": {"engine", "data", "storage"},
    "sources": {"rows", "data", "storage"},
    "databases": {"operations", "contacts", "rows", "data", "storage"},
    "modelling": {"rows", "data", "storage"},
    "contacts": {"rows", "data", "storage"},
    "monitoring": {"modelling", "rows", "data", "storage"},
    "entering": {"contacts", "operations", "sources", "rows", "data", "storage"},
    "operations": {"contacts", "monitoring", "modelling", "rows", "engine", "data", "storage"},
    "effect": {"contacts", "monitoring", "modelling", "rows", "data", "storage"},
    "upkeep": {
        *("assessing", "entering", "operations", "contacts", "monitoring", "modelling"),
        *("sources", "databases", "rows", "engine", "data", "storage"),
    },
    "messages": {
        *("effect", "upkeep", "contacts", "operations", "monitoring", "modelling", "rows"),
        *("data", "storage"),
    },
    "reporting": {
        *("messages", "entering", "effect", "upkeep", "contacts", "operations", "monitoring"),
        *("modelling", "data", "storage"),
    },
    "serving": {"contacts", "operations", "modelling", "sources", "rows", "data", "storage"},
    "assessing": {
        *("serving", "contacts", "operations", "modelling", "rows", "engine", "data", "storage"),
    },
    "access": {"storage"},
    "web": {
        *("serving", "access", "reporting", "messages", "entering", "effect", "upkeep"),
        *("contacts", "operations", "monitoring", "modelling", "sources", "rows", "data"),
        "storage",
    },
    "pages": {
        *("web", "access", "reporting", "messages", "entering", "effect", "upkeep"),
        *("contacts", "operations", "monitoring", "modelling", "rows", "data", "storage"),
    },
}


# ---- the whole process


def run(config, *more, **settings):
    """Run the whole process in a process of its own."""
    count_as_asked(config)
    return subprocess.run(
        [*SCRIPT, "--config", str(config.file), *more],
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


class Crash(BaseException):
    """The process dies here."""


MUTATING = ("fsync", "replace", "rename", "symlink")


def crash_at(monkeypatch, k):
    """Make the k-th mutating call the last one; return the calls that were made."""
    calls = []

    def watched(name, real):
        def call(*arguments, **keywords):
            calls.append(name)
            if len(calls) == k:
                raise Crash
            return real(*arguments, **keywords)

        return call

    for name in MUTATING:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return calls


def digest(folder: Path) -> dict[str, str]:
    """Hash every file below a folder, but the lock that is only opened."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def reconfigure(config, **settings):
    """Write other settings into config.json and load it."""
    config.file.write_text(json.dumps(PLAIN_KEYS | {"api": NOBODY_AT} | settings))
    return config_file.load(config.file)


# ---- sources, and what ingestion makes of them


def put(config, name, text, *, up_to_date=False):
    """Write a source file; settled, unless it is up to date."""
    path = config.input_folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if not up_to_date:
        settle(path)
    return path


def settle(path):
    """Date a file back, so that it does not count as being written."""
    os.utime(path, (1, 1), follow_symlinks=False)


def ledger(config):
    """Read the lines of ingestedfiles.txt."""
    with config.ingested_files.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rejected(config):
    """Read the lines of rejected.csv."""
    with config.rejected.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def final_rows(config):
    """Read the rows of finaldata.csv as text."""
    return list(tables.read_cells(config.final_data))


def counts(line):
    """Return how many rows of a source were accepted, rejected and repeats."""
    return int(line["accepted"]), int(line["rejected"]), int(line["duplicates"])


def check_conserved(config):
    """Every record of every source has one fate, and the totals are those of the rows on disk."""
    lines, rows = ledger(config), final_rows(config)
    assert all(int(line["records"]) == sum(counts(line)) for line in lines)
    record = files.read_record(config.ingestion_record)
    totals = {name: sum(int(line[name]) for line in lines) for name in record["totals"]}
    assert record["totals"] == totals
    assert totals["accepted"] - record["replaced"] - record["withdrawn"] == len(rows)
    assert totals["rejected"] == len(rejected(config))
    assert record["rows"] == len(rows)
    assert len({tuple(row[:-1]) for row in rows}) == len(rows)


def folder_bytes(config):
    """Read every file of the folder of ingestion."""
    return {path: path.read_bytes() for path in config.output_folder.iterdir()}


def rows_of(table):
    """List the rows of a table with their lines; its chunks are used up by it."""
    rows = []
    for chunk in table.chunks:
        columns = [column.to_pylist() for column in chunk.columns]
        rows += zip(chunk.lines, zip(*columns, strict=True), strict=True)
        rows += chunk.odd
    return sorted((line, list(row)) for line, row in rows)


# ---- records of a score


def interval(value, half):
    return {"value": value, "low": value - half, "high": value + half}


def metrics(shift=0.0):
    """Return the figures of one set of a score, better by a shift."""
    return {
        "roc_auc": interval(0.812 + shift, 0.022),
        "pr_auc": interval(0.47 + shift, 0.04),
        "f1": interval(0.44 + shift, 0.03),
        "precision": interval(0.58 + shift, 0.09),
        "lift": interval(3.6, 0.5),
        "log_loss": interval(0.351 - shift, 0.014),
        "brier": interval(0.109 - shift, 0.006),
        "called": 100,
    }


def plain_rows(*rows, columns=PLAIN):
    """Typed rows of the plain form: client, features and outcome as text."""
    cells = [row.split(",") for row in rows]
    return typed_rows.typed(pd.DataFrame(cells, columns=list(columns.table), dtype=object), columns)


def row_ids(rows, columns):
    """The ids of typed rows, outcome included, as pandas hashes them: (n,) uint64."""
    text = rows[[*columns.table]].astype(str)
    return pd.util.hash_pandas_object(text, index=False).to_numpy()


# ---- the assessment


def read_table(path):
    return pd.read_csv(path, dtype={"client": object}, keep_default_na=False)


def arrive(config, rows, name="more.csv"):
    rows.to_csv(config.input_folder / name, index=False)
    ingestion.ingest_new_data(config)


def enter(config, client, kind=log.CONTACT, **fields):
    entry = log.Entry(client=client, kind=kind, by="Kim", **fields)
    log.append(config.contact_log, [entry], files.utc_now())
