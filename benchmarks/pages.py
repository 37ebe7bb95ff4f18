"""Measure every page and view of the clients over HTTP, in one warm worker: CPU ms and memory.

The project is that of `benchmarks.morning`: many synthetic clients, with rows, risks over time and a
contact log of 2,000 entries. The worker is one of the app's own; its CPU time is the kernel's figure,
and each figure the mean of requests that differ, after others of the same kind. Exports, and a
thousand clients that are not neighbours in the table, have no goal.

Run: python -m benchmarks.pages [--clients 1000000] [--requests 30]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from attrition.contacts import log, worklist
from benchmarks.measure import Row, at_most, print_rows
from benchmarks.morning import grow
from benchmarks.project import finish_sample
from benchmarks.serving import Server, serve_ours

MAX_MS, MAX_MB, WARM = 100.0, 400.0, 5
MANAGERS = 40


def addresses(count: int) -> dict[str, Callable[[int], str]]:
    """Return the kinds of requests: from a number to an address."""

    def name(i: int) -> str:
        return quote(f"Client {i * 7919 % count:07} Ltd")

    kinds: dict[str, Callable[[int], str]] = {
        "/": lambda i: "/",
        "/?manager=": lambda i: f"/?manager=Manager%20{i % MANAGERS}",
        "/?order=risk": lambda i: "/?order=risk",
        "/list, deep pages": lambda i: f"/list?page={1 + i * 397 % (count // 50)}",
        "/list?q=, words": lambda i: f"/list?q={i * 7919 % count:07}",
        "/list?q=, a letter": lambda i: f"/list?q={i % 10}",
        "/list?manager=": lambda i: f"/list?manager=Manager%20{i % MANAGERS}",
        "/list, filters": lambda i: f"/list?due_days=90&min_risk=0.{i % 9 + 1}&order=risk",
        "/clients": lambda i: f"/clients?offset={50 * (i * 397 % (count // 50))}",
        "/clients?limit=1000": lambda i: f"/clients?limit=1000&offset={1000 * i}",
        "/clients?q=&manager=": lambda i: f"/clients?q={i}&manager=Manager%20{i % MANAGERS}",
        "/client/NAME": lambda i: f"/client/{name(i)}",
        "/clients/NAME": lambda i: f"/clients/{name(i)}",
        "/clients/NAME/entries": lambda i: f"/clients/{name(i)}/entries",
    }
    for view in worklist.VIEWS:
        kinds[f"/list?view={view}"] = lambda i, view=view: f"/list?view={view}&page={i % 3 + 1}"
        kinds[f"/clients?view={view}"] = lambda i, view=view: f"/clients?view={view}&limit=50"
    return kinds


def cpu_ms(server: Server, address: Callable[[int], str], requests: int) -> float:
    """Return the mean CPU milliseconds of a request in the worker."""
    for i in range(-WARM, 0):
        get(server, address(i % 7))
    began = server.cpu_s()
    for i in range(requests):
        get(server, address(10 + i))
    return 1000 * (server.cpu_s() - began) / requests


def get(server: Server, address: str) -> None:
    status, content = server.ask(address)
    assert status == 200, (address, content[:500])


def after_entry(server: Server, requests: int) -> float:
    """Return the mean CPU milliseconds of Today after somebody entered a contact."""
    entry = {"kind": log.CONTACT, "outcome": log.REACHED, "by": "Kim"}
    spent = 0.0
    for i in range(requests):
        path = f"/clients/{quote(f'Client {i * 7907:07} Ltd')}/entries"
        status, content = server.ask(path, json.dumps(entry).encode())
        assert status == 201, content[:500]
        began = server.cpu_s()
        get(server, "/")
        spent += server.cpu_s() - began
    return 1000 * spent / requests


def memory_mb(server: Server) -> float:
    """Return the memory of the worker; what it shares with others counts in part (PSS)."""
    (pid,) = server.pids
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(server: Server, count: int, requests: int) -> list[Row]:
    kinds = addresses(count)
    rows = [at_most(name, cpu_ms(server, kinds[name], requests), MAX_MS, "ms") for name in kinds]
    rows.append(at_most("/ after an entry", after_entry(server, requests), MAX_MS, "ms"))
    rows.append(at_most("memory of the worker", memory_mb(server), MAX_MB, "MB"))
    export = cpu_ms(server, lambda i: f"/list.csv?view=all&min_risk=0.{7 + i % 2}", 2)
    rows.append(Row("export of a view", f"{export:,.0f} ms"))
    by_value = cpu_ms(server, lambda i: f"/clients?view=all&limit=1000&offset={1000 * i}", 5)
    rows.append(Row("/clients?view=all&limit=1000, by value at risk", f"{by_value:,.0f} ms"))
    rows.append(Row("memory after the export", f"{memory_mb(server):,.0f} MB"))
    return [row._replace(name=f"{count:,} clients, {row.name}") for row in rows]


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all limits were kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=30)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        config = finish_sample(Path(folder))
        grow(config, options.clients)
        with serve_ours(config, workers=1) as server:
            rows = measure(server, options.clients, options.requests)
    return print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
