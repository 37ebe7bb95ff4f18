"""Ingest tables that are written to all the time and cut off in mid-read; and measure the reading.

restarts: a PostgreSQL table is inserted into, updated and deleted from, with late commits, ties,
          backdated and future times, while it is ingested again and again, and its server is restarted
          as by a crash, or its reader's session terminated, in mid-read
mariadb:  the same for a table of MariaDB
locks:    the same for an SQLite file, whose lock others hold for seconds
speed:    a million rows from PostgreSQL beside an ADBC driver, both into arrow

At the end the writers stop, every table is read whole once, and what was ingested has to be what SELECT
returns: no row missed, none too many.

Run: python -m benchmarks.databases [restarts] [mariadb] [locks] [speed] [--restarts 200]
     [--minutes 10] [--rows 1000000] [--rounds 7] [--seed 0]
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
import pymysql

from attrition import config_file
from attrition.config import Config, Database
from attrition.databases import reader as databases
from tests import mariadb, postgres

ROWS = 30_000
TABLE = """CREATE TABLE clients (corporation TEXT, lastmonth_activity INTEGER,
    lastyear_activity INTEGER, number_of_employees INTEGER, exited INTEGER, updated_at {time},
    filler TEXT DEFAULT '{filler}')"""
FILLER = "x" * 500  # more than the buffers between a server and its reader hold: it has to wait
NAMED = "corporation, lastmonth_activity, lastyear_activity, number_of_employees, exited"
INSERT = f"INSERT INTO clients ({NAMED}, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
MOST_TIMES_ADBC = 1.5

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
        except (psycopg.Error, pymysql.Error, sqlite3.OperationalError):
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
    settings |= {"columns": {"numeric": NAMED.split(", ")[1:4], "ignore": ["filler"]}}
    (folder / "input_folder").mkdir()
    (folder / "config.json").write_text(json.dumps(settings | {"databases": [table]}))
    return config_file.load(folder / "config.json")


def ingest(config: Config, *, reconcile: bool = False) -> str:
    """Run the step once; return why the table could not be read, "" where it could."""
    from ingestion import ingest_new_data

    return " ".join(ingest_new_data(config, reconcile=reconcile).unavailable)


def outcome(held: str) -> str:
    """Say what became of a run: a reader that was connected was cut off."""
    if not held:
        return "succeeded"
    cuts = ("closed the connection", "terminating connection", "Lost connection", "was killed")
    is_cut = any(cut in held for cut in cuts)
    return "cut off" if is_cut and "connection failed" not in held else "not let in"


def compare(config: Config, wanted: set[tuple[str, ...]]) -> tuple[int, int]:
    """Count the rows missed and those too many in finaldata.csv."""
    import csv

    with config.final_data.open(newline="", encoding="utf-8") as file:
        found = {tuple(row) for row in list(csv.reader(file))[1:]}
    return len(wanted - found), len(found - wanted)


def finish(config: Config, wanted: set[tuple[str, ...]]) -> int:
    """Ingest once plainly and once whole, now that all is quiet; say what was missed."""
    held = ingest(config)
    plain = compare(config, wanted)
    held += ingest(config, reconcile=True)
    missed, extra = compare(config, wanted)
    print(f"the next plain run: {plain[0]} rows missed, {plain[1]} too many, of {len(wanted):,}")
    print(f"after a whole reading: {missed} missed, {extra} too many {held}")
    return int(bool(held) or plain[0] > 0 or missed > 0 or extra > 0)


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


# ---- PostgreSQL and MariaDB

Server = postgres.Server | mariadb.Server
# Whether the reader fetches rows; the type of a time, and an index, so that MariaDB locks single rows.
FETCHING = {
    postgres: "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active' "
    "AND query LIKE 'COPY%'",
    mariadb: "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader' "
    "AND info LIKE '%ORDER BY%'",
}
SETTINGS = {
    postgres: ("TIMESTAMPTZ", "clients (corporation)"),
    mariadb: ("DATETIME", "clients (corporation(40))"),
}


def write_server(server: Server, stop: threading.Event, seed: int, session: str) -> Counter[str]:
    """Write from a session of its own; a late one leaves its transactions open for seconds."""
    is_late = session.startswith("late")

    def execute(changes: list[Change]) -> None:
        with server.connect() as connection, connection.cursor() as cursor:
            for _, sql, values in changes:
                cursor.execute(sql.replace("?", "%s"), values)
            if is_late:
                stop.wait(random.uniform(0, 4))
            connection.commit()

    return write(execute, stop.is_set, seed=seed, session=session, longest_s=0.1)


def cut_off(
    server: Server, fetching: str, stop: threading.Event, seed: int, done: Counter[str]
) -> None:
    """Restart the server or end the reader's session, each time while it reads."""
    rng = random.Random(seed)
    while not stop.is_set():
        with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(fetching)
            while cursor.fetchone() == (0,) and not stop.is_set():
                time.sleep(0.002)
                cursor.execute(fetching)
        if rng.random() < 0.5:
            server.restart()
            done["restarts"] += 1
        else:
            done["sessions ended"] += server.terminate()
        stop.wait(rng.uniform(0, 2))


def restarts(options: argparse.Namespace, kind: Any = postgres) -> int:
    """Return 0 when nothing was missed."""
    done, runs, cuts, stop = Counter[str](), Counter[str](), Counter[str](), threading.Event()
    end = time.monotonic() + options.minutes * 60
    with kind.running() as server, tempfile.TemporaryDirectory() as folder:
        time_type, indexed = SETTINGS[kind]
        server.execute(TABLE.format(time=time_type, filler=FILLER))
        server.execute(f"CREATE INDEX of_client ON {indexed}")
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT.replace("?", "%s"), first_rows(options.seed))
            connection.commit()
        config = make_config(Path(folder), server.config_url())
        ingest(config)

        def writer(session: str) -> None:
            done.update(write_server(server, stop, options.seed, session))

        threads = [threading.Thread(target=writer, args=[n]) for n in ("writer", "late1", "late2")]
        threads.append(
            threading.Thread(
                target=cut_off, args=[server, FETCHING[kind], stop, options.seed, cuts]
            )
        )
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while time.monotonic() < end or runs["cut off"] < options.restarts:
            runs[outcome(ingest(config))] += 1
        minutes = (time.monotonic() - began) / 60
        stop.set()
        for thread in threads:
            thread.join()
        print(f"{kind.__name__}, {minutes:.1f} minutes: {told(cuts)}; ingestions: {told(runs)}")
        print(f"rows: {told(done)}")
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {NAMED} FROM clients")
            rows = cursor.fetchall()
        return finish(config, as_text(rows))


def restart_mariadb(options: argparse.Namespace) -> int:
    return restarts(options, mariadb)


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
    runs, done = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "crm.sqlite")
        connection = connect_sqlite(path)
        connection.execute(TABLE.format(time="TEXT", filler=""))
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
            runs[outcome(ingest(config))] += 1
        stop.set()
        for _ in others:
            done.update(answer.get())
        for other in others:
            other.join()
        locked = f"{done.pop('locks held', 0)} locks held"
        print(f"SQLite, {options.minutes:g} minutes: {locked}; ingestions: {told(runs)}")
        print(f"rows: {told(done)}")
        connection = connect_sqlite(path)
        rows = connection.execute(f"SELECT {NAMED} FROM clients").fetchall()
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


def readers(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    unordered = Database("crm", url, "clients")
    ordered = Database("crm", url, "clients", changed_column="updated_at")
    query = "SELECT * FROM clients"
    yield "ours", lambda: read_ours(unordered)
    yield "ADBC", lambda: read_adbc(url, query)
    yield "ours, in the order of the changes", lambda: read_ours(ordered)
    yield (
        "ADBC, in the order of the changes",
        lambda: read_adbc(url, f"{query} ORDER BY updated_at"),
    )


def speed(options: argparse.Namespace) -> int:
    """Return 0 when ours takes at most 1.5 times as long, by the medians of rounds in turn.

    Where ADBC is not installed there is nothing to compare with: 2.
    """
    if not importlib.util.find_spec("adbc_driver_postgresql"):
        print("nothing to compare with: pip install adbc-driver-postgresql", file=sys.stderr)
        return 2
    seconds: dict[str, list[float]] = {}
    with postgres.running() as server:
        server.execute(MILLION.format(rows=options.rows))
        for _ in range(options.rounds + 1):  # the first warms the caches
            for name, read in readers(server.url()):
                began = time.perf_counter()
                assert read() == options.rows, name
                seconds.setdefault(name, []).append(time.perf_counter() - began)
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    for name, median in medians.items():
        spread = f"{min(seconds[name][1:]):.2f} to {max(seconds[name][1:]):.2f}"
        print(f"{name}: {median:.2f} s for {options.rows:,} rows ({spread})")
    ratios = [
        medians[f"ours{how}"] / medians[f"ADBC{how}"]
        for how in ("", ", in the order of the changes")
    ]
    print(f"ours takes {ratios[0]:.2f} times as long; in order {ratios[1]:.2f} times")
    return int(max(ratios) > MOST_TIMES_ADBC)


def main(argv: list[str] | None = None) -> int:
    """Return 0 when all that was asked for held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = {"restarts": restarts, "mariadb": restart_mariadb, "locks": locks, "speed": speed}
    parser.add_argument("modes", nargs="*", metavar="|".join(modes), default=list(modes))
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    return max(modes[mode](options) for mode in options.modes)


if __name__ == "__main__":
    sys.exit(main())
