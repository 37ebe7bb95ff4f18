"""Measure the write-back of the risks of many clients to PostgreSQL beside a bare COPY of the same rows.

The peer copies the rows, rendered as CSV before, into a table with the same columns and primary key.
Both run in turn, on a server without fsync; the goal is for the median of the ratios. Beside it: a write
if every row changed, if one in a hundred did, or none, and the peak memory of a process.

Run: python -m benchmarks.write_back [--clients 1000000] [--rounds 5]
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
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
        for _, batch in write_back.read_rows(config, assessment):
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
    ratios, times = [], []
    for _ in range(options.rounds):
        server.execute("DROP TABLE IF EXISTS bare, risks")
        bare_s = seconds_of(lambda: copy_bare(server, rendered))
        ours_s = seconds_of(lambda: write(config))
        ratios.append(ours_s / bare_s)
        times.append((ours_s, bare_s))
        print(f"  write-back {ours_s:.1f} s, bare COPY {bare_s:.1f} s", flush=True)
    ours_s, bare_s = (statistics.median(each) for each in zip(*times, strict=True))
    ratio = statistics.median(ratios)
    figure = f"{ratio:.2f} times ({ours_s:.1f} s, {bare_s:.1f} s)"
    shown = f"{options.clients:,} clients"
    name = f"write-back of {shown} beside a bare COPY"
    rows = [Row(name, figure, f"<= {GOAL:g}", ratio <= GOAL)]
    change_release(config, "other")
    rows.append(Row("the same if every row changed", f"{seconds_of(lambda: write(config)):.1f} s"))
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
    return rows


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the goal was met."""
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
