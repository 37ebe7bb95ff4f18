"""Ingest tables that are written to all the time and cut off in mid-read; and measure the reading.

restarts: a PostgreSQL table is inserted into, updated and deleted from, with late commits, ties,
          backdated and future times, while it is ingested again and again, and its server is restarted
          as by a crash, or its reader's session terminated, in mid-read
locks:    the same for an SQLite file, whose lock others hold for seconds
speed:    a million rows from PostgreSQL beside an ADBC driver, both into arrow

At the end the writers stop, every table is read whole once, and what was ingested has to be what SELECT
tells: no row missed, none too many.

Run: python -m benchmarks.databases [restarts | locks | speed] [--restarts 200] [--minutes 10] [--seed 0]
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from attrition import config as configuration
from attrition import databases
from attrition.config import Config, Database
from benchmarks.project import ROOT
from tests.postgres import READER, Server, running

ROWS = 30_000
TABLE = """CREATE TABLE clients (corporation TEXT, lastmonth_activity INTEGER,
    lastyear_activity INTEGER, number_of_employees INTEGER, exited INTEGER, updated_at {time})"""
INSERT = "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?)"
COLUMNS = "corporation, lastmonth_activity, lastyear_activity, number_of_employees, exited"

Change = tuple[str, str, list[Any]]


# ---- a random writer


def random_time(rng: random.Random) -> str | None:
    """Choose when a row says that it changed: now, in ties of a second; long ago; ahead; unknown."""
    now = datetime.now(UTC).replace(microsecond=0)
    kind = rng.random()
    if kind < 0.05:
        return None
    if kind < 0.15:
        return str(now - timedelta(days=rng.uniform(0, 400)))
    if kind < 0.18:
        return str(now + timedelta(days=rng.uniform(0, 4000)))
    return str(now)


def new_client(rng: random.Random, name: str) -> list[Any]:
    features = [rng.randrange(1_000_000) for _ in range(3)]
    return [name, *features, rng.choice([None, None, 0, 1]), random_time(rng)]


def random_change(rng: random.Random, session: str, made: int) -> Change:
    """Choose one change to the table: its kind, the SQL and the values. Outcomes never go back."""
    name = f"{rng.choice(['first', session])}-{rng.randrange(max(1, made))}"
    kind = rng.choices(["inserted", "features", "outcome", "silent", "deleted"], [4, 3, 2, 1, 4])[0]
    if kind == "inserted":
        return kind, INSERT, new_client(rng, f"{session}-{made}")
    if kind == "deleted":
        return kind, "DELETE FROM clients WHERE corporation = ?", [name]
    if kind == "outcome":
        sql = "UPDATE clients SET exited = coalesce(exited + 1, 0), updated_at = ? "
        where = "WHERE corporation = ? AND coalesce(exited, 0) < 1"
        return kind, sql + where, [random_time(rng), name]
    if kind == "silent":  # a change that forgets to say when
        sql = "UPDATE clients SET lastmonth_activity = ? WHERE corporation = ?"
        return kind, sql, [rng.randrange(1_000_000), name]
    sql = "UPDATE clients SET lastyear_activity = ?, updated_at = ? WHERE corporation = ?"
    return kind, sql, [rng.randrange(1_000_000), random_time(rng), name]


def write(
    execute: Callable[[list[Change]], None],
    stopped: Callable[[], bool],
    *,
    seed: int,
    session: str,
    longest_s: float,
) -> Counter[str]:
    """Change the table in transactions of random sizes until stopped; return what was committed."""
    rng, made, done = random.Random(f"{seed} {session}"), 0, Counter[str]()
    while not stopped():
        changes = []
        for _ in range(rng.randrange(1, 20)):
            changes.append(random_change(rng, session, made))
            made += changes[-1][0] == "inserted"
        try:
            execute(changes)
        except (psycopg.Error, sqlite3.OperationalError):
            done["transactions lost"] += 1
        else:
            done += Counter(kind for kind, _, _ in changes)
        time.sleep(rng.uniform(0, longest_s))
    return done


def first_rows(seed: int) -> list[list[Any]]:
    rng = random.Random(seed)
    return [new_client(rng, f"first-{i}") for i in range(ROWS)]


# ---- the ingestion beside it


def make_config(folder: Path, url: str) -> Config:
    table = {"name": "crm", "url": url, "table": "clients", "changed_column": "updated_at"}
    table |= {"on_delete": "remove", "overlap_hours": 0.01}
    folders = ("input_folder", "output_folder", "test_data", "output_model", "prod_deployment")
    settings: dict[str, Any] = {f"{name}_path": name for name in folders}
    (folder / "input_folder").mkdir()
    (folder / "config.json").write_text(json.dumps(settings | {"databases": [table]}))
    return configuration.load(folder / "config.json")


def ingest(config: Config, *more: str) -> int:
    """Run the step once, quietly; return its exit code, 1 where the table could not be read."""
    import ingestion

    with contextlib.redirect_stdout(sys.stderr):
        return ingestion.main(["--config", str(config.file), *more])


def compare(config: Config, wanted: set[tuple[str, ...]]) -> tuple[int, int]:
    """Count the rows missed and those too many in finaldata.csv."""
    import csv

    with config.final_data.open(newline="", encoding="utf-8") as file:
        found = {tuple(row) for row in list(csv.reader(file))[1:]}
    return len(wanted - found), len(found - wanted)


def finish(config: Config, wanted: set[tuple[str, ...]]) -> int:
    """Ingest once plainly and once whole, now that all is quiet; say what was missed."""
    codes = [ingest(config)]
    plain = compare(config, wanted)
    codes.append(ingest(config, "--reconcile"))
    missed, extra = compare(config, wanted)
    print(f"the next plain run: {plain[0]} rows missed, {plain[1]} too many, of {len(wanted):,}")
    print(f"after a whole reading: {missed} missed, {extra} too many")
    return int(any(codes) or missed > 0 or extra > 0)


def told(runs: Counter[int], done: Counter[str]) -> None:
    print(f"{runs[0]} ingestions succeeded, {runs[1]} were held")
    print("rows: " + ", ".join(f"{count:,} {name}" for name, count in sorted(done.items())))


# ---- PostgreSQL


def write_postgres(server: Server, stop: threading.Event, seed: int, session: str) -> Counter[str]:
    """Write from a session of its own; a late one leaves its transactions open for seconds."""
    is_late = session.startswith("late")

    def execute(changes: list[Change]) -> None:
        with server.connect() as connection:
            for _, sql, values in changes:
                connection.execute(sql.replace("?", "%s").encode(), values)
            if is_late:
                stop.wait(random.uniform(0, 4))

    return write(execute, stop.is_set, seed=seed, session=session, longest_s=0.1)


def cut_off(server: Server, stop: threading.Event, seed: int, count: int, hits: Counter[str]) -> None:
    """Restart the server or end the reader's session, each time while it reads."""
    rng = random.Random(seed)
    reading = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND query LIKE 'COPY%%'"
    while sum(hits.values()) < count and not stop.is_set():
        with server.connect(autocommit=True) as connection:
            while connection.execute(reading, [READER]).fetchone() == (0,) and not stop.is_set():
                time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        if rng.random() < 0.5:
            server.restart()
            hits["restarts"] += 1
        else:
            hits["terminated"] += server.terminate()
        stop.wait(rng.uniform(0, 1.5))


def restarts(options: argparse.Namespace) -> int:
    """Return 0 when nothing was missed."""
    done, runs, hits, stop = Counter[str](), Counter[int](), Counter[str](), threading.Event()
    end = time.monotonic() + options.minutes * 60
    with running() as server, tempfile.TemporaryDirectory() as folder:
        server.execute(TABLE.format(time="TIMESTAMPTZ"))
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT.replace("?", "%s"), first_rows(options.seed))
        config = make_config(Path(folder), server.url())
        ingest(config)

        def writer(session: str) -> None:
            done.update(write_postgres(server, stop, options.seed, session))

        threads = [threading.Thread(target=writer, args=[n]) for n in ("writer", "late1", "late2")]
        cutter = threading.Thread(
            target=cut_off, args=[server, stop, options.seed, options.restarts, hits]
        )
        for thread in (*threads, cutter):
            thread.start()
        while time.monotonic() < end or cutter.is_alive():
            runs[ingest(config)] += 1
        stop.set()
        for thread in (*threads, cutter):
            thread.join()
        print(f"PostgreSQL: {dict(hits)} in mid-read, in {options.minutes:g} minutes or more")
        told(runs, done)
        with server.connect() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM clients".encode()).fetchall()
        return finish(config, as_text(rows))


def as_text(rows: list[Any]) -> set[tuple[str, ...]]:
    return {tuple("" if value is None else str(value) for value in row) for row in rows}


# ---- SQLite


def connect_sqlite(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=60, isolation_level=None)


def write_sqlite(path: Path, stop: Any, seed: int, answer: Any) -> None:
    """Write from a process of its own; the journal is a write-ahead log for half of the time."""

    def execute(changes: list[Change]) -> None:
        connection = connect_sqlite(path)
        try:
            if random.random() < 0.1:
                connection.execute(f"PRAGMA journal_mode = {random.choice(['WAL', 'DELETE'])}")
            connection.execute("BEGIN IMMEDIATE")
            for _, sql, values in changes:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        finally:
            connection.close()

    answer.put(write(execute, stop.is_set, seed=seed, session="writer", longest_s=0.1))


def hold_locks(path: Path, stop: Any, seed: int, answer: Any) -> None:
    """Lock the file for up to eight seconds, again and again."""
    rng, held = random.Random(seed), 0
    while not stop.wait(rng.uniform(0, 4)):
        connection = connect_sqlite(path)
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("BEGIN EXCLUSIVE")
            held += 1
            stop.wait(rng.uniform(0, 8))
            connection.execute("ROLLBACK")
        connection.close()
    answer.put(Counter({"locks held": held}))


def locks(options: argparse.Namespace) -> int:
    """Return 0 when nothing was missed."""
    context = multiprocessing.get_context("spawn")
    runs, done = Counter[int](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "crm.sqlite")
        connection = connect_sqlite(path)
        connection.execute(TABLE.format(time="TEXT"))
        connection.execute("BEGIN")
        connection.executemany(INSERT, first_rows(options.seed))
        connection.execute("COMMIT")
        connection.close()
        config = make_config(Path(folder), f"sqlite:///{path}")
        stop, answer = context.Event(), context.Queue()
        others = [
            context.Process(target=target, args=(path, stop, options.seed, answer))
            for target in (write_sqlite, hold_locks)
        ]
        for other in others:
            other.start()
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end:
            runs[ingest(config)] += 1
        stop.set()
        for _ in others:
            done.update(answer.get())
        for other in others:
            other.join()
        print(f"SQLite: {done.pop('locks held', 0)} locks held, in {options.minutes:g} minutes")
        told(runs, done)
        connection = connect_sqlite(path)
        rows = connection.execute(f"SELECT {COLUMNS} FROM clients").fetchall()
        connection.close()
        return finish(config, as_text(rows))


# ---- speed

MILLION = """CREATE TABLE clients AS SELECT 'client ' || i AS corporation,
    (random() * 500)::int AS lastmonth_activity, (random() * 5000)::int AS lastyear_activity,
    (random() * 900)::numeric(10, 2) AS number_of_employees, i % 7 = 0 AS exited,
    timestamptz '2026-01-01' + i * interval '1 second' AS updated_at
    FROM generate_series(1, {rows}) i"""


def read_ours(database: Database) -> int:
    with databases.reading(database, None, seconds=600) as read:
        return sum(len(chunk.lines) for chunk in read.chunks)


def read_adbc(url: str, query: str) -> int:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())


def timed(read: Callable[[], int], rows: int) -> float:
    began = time.perf_counter()
    assert read() == rows
    return time.perf_counter() - began


def readers(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    unordered = Database("crm", url, "clients")
    ordered = Database("crm", url, "clients", changed_column="updated_at")
    yield "ours", lambda: read_ours(unordered)
    yield "ours, in the order of the changes", lambda: read_ours(ordered)
    if importlib.util.find_spec("adbc_driver_postgresql"):
        query = "SELECT * FROM clients"
        yield "ADBC", lambda: read_adbc(url, query)
        ordered_query = f"{query} ORDER BY updated_at"
        yield "ADBC, in the order of the changes", lambda: read_adbc(url, ordered_query)
    yield "a look for news", lambda: bool(databases.probe(ordered, seconds=600)) * options_rows


options_rows = 1_000_000
