"""Measure the write-back of the risks of many clients to PostgreSQL beside a bare COPY of the same rows.

The peer copies the rows, rendered as CSV before, into a table with the same columns and primary key.
Both run in turn, on a server without fsync, and then a write of another release, which changes every
row; the goal is for the medians of the ratios. Beside them: a write if one row in a hundred changed, or
none, the peak memory of a process, and both writes to SQLite.

Run: python -m benchmarks.write_back [--clients 1000000] [--rounds 5]
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from attrition.config import Config
from attrition.databases import risk_table, write_back
from attrition.storage import files
from benchmarks.measure import Row, cpu_of, print_rows
from benchmarks.one_client import write_assessment
from benchmarks.project import make_project
from tests.postgres import OWNER, Server, running

GOAL = 2.0
PIECE = 1 << 20


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def copy_bare(server: Server, file: Path) -> None:
    """Copy rendered rows into an empty table, in one transaction."""
    with server.connect(OWNER) as connection:
        kinds = ", ".join(f"{name} {kind}" for name, (kind, _) in risk_table.COLUMNS.items())
        connection.execute(f"CREATE TABLE bare ({kinds}, PRIMARY KEY (client))".encode())
        statement = "COPY bare FROM STDIN (FORMAT csv)"
        with connection.cursor().copy(statement) as copy, file.open("rb") as rows:
            while piece := rows.read(PIECE):
                copy.write(piece)


def render(config: Config, file: Path) -> None:
    assessment = files.read_record(config.assessment_record) or {}
    with file.open("wb") as rows:
        for batch in write_back.read_rows(config, assessment):
            rows.write(risk_table.csv_bytes(batch))


def change_release(config: Config, release: str) -> None:
    """Let another model have assessed the clients, so that every row changes."""
    record = files.read_record(config.assessment_record) or {}
    files.write_bytes(
        config.assessment_record, files.encode(files.sealed(record | {"release": release}))
    )


def write(config: Config) -> None:
    result = write_back.write_back(config, always=True)
    assert not result.problem, result.problem
    print(f"  {result.summary()}", flush=True)


def measure(config: Config, server: Server, options: argparse.Namespace) -> list[Row]:
    rendered = config.file.parent / "rows.csv"
    render(config, rendered)
    rounds = []
    for number in range(options.rounds):
        server.execute("DROP TABLE IF EXISTS bare, risks")
        bare_s = seconds_of(lambda: copy_bare(server, rendered))
        first_s = seconds_of(lambda: write(config))
        change_release(config, f"r{number}")
        server.execute("CLUSTER risks USING risks_pkey")  # not in the order of the new risks
        every_s = seconds_of(lambda: write(config))
        rounds.append((bare_s, first_s, every_s))
        print("  bare COPY {:.1f} s, first {:.1f} s, all {:.1f} s".format(*rounds[-1]), flush=True)
    rows = []
    for at, name in (1, f"write-back of {options.clients:,} clients"), (2, "if every row changed"):
        ratio = statistics.median(each[at] / each[0] for each in rounds)
        ours_s, bare_s = (statistics.median(each[i] for each in rounds) for i in (at, 0))
        figure = f"{ratio:.2f} times ({ours_s:.1f} s, {bare_s:.1f} s)"
        rows.append(Row(f"{name}, beside a bare COPY", figure, f"<= {GOAL:g}", ratio <= GOAL))
    server.execute("UPDATE risks SET risk = risk / 2 WHERE rank % 100 = 0")
    rows.append(Row("if one in a hundred changed", f"{seconds_of(lambda: write(config)):.1f} s"))
    command = [sys.executable, "-m", "attrition.databases.write_back", "--config", str(config.file)]
    for name, statement in (
        ("no row changed", "SELECT 1"),
        ("it is the first", "DROP TABLE risks"),
    ):
        server.execute(statement)
        cost = cpu_of(command)
        rows.append(Row(f"in a process, if {name}", f"{cost.seconds:.1f} s, {cost.peak_mb:.0f} MB"))
    file = replace(config.write_back, url=f"sqlite:///{config.file.parent}/risks.sqlite")
    config = replace(config, write_back=file)
    for name, release in ("to SQLite, the first", "first"), ("to SQLite, every row", "next"):
        change_release(config, release)
        rows.append(Row(name, f"{seconds_of(lambda: write(config)):.1f} s"))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the goals were met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, running() as server:
        url = server.url(OWNER, password="").replace(":@", ":${POSTGRES_PASSWORD}@")
        config = make_project(Path(folder), write_back={"url": url, "table": "risks"})
        # In another process: the peak memory of a command is at least that of the one that starts it.
        maker = multiprocessing.get_context("spawn").Process(
            target=write_assessment, args=(config, options.clients)
        )
        maker.start()
        maker.join()
        return print_rows(measure(config, server, options))


if __name__ == "__main__":
    sys.exit(main())
