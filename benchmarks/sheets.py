"""Measure the Excel sheet of 10,000 clients: written, and read and saved after every line was filled in.

The clients are synthetic, each with three reasons, a contact and a due date. Each figure is the CPU time
within a process of its own, without imports.

Run: python -m benchmarks.sheets [--clients 10000]
"""

import argparse
import io
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import xlsxwriter

from attrition.config import DEFAULT_DIALECT, Columns
from attrition.contacts.standings import Standing
from attrition.contacts.worklist import contact_fields
from attrition.data import clients
from attrition.data.cells import Reason
from attrition.entering import filled_in, workbook
from benchmarks.measure import at_most, print_rows

GOAL_S = 2.0
DAY = "2026-11-28"
ABOUT = workbook.About("All clients", "0" * 16, DAY, f"{DAY}T09:00:00Z", "EUR", {})
REASONS = [
    Reason("tenure_months", 3.0, 38.0, 0.3),
    Reason("contract_type", "month-to-month", "yearly", 0.2),
    Reason("open_tickets", 5.0, 1.0, 0.1),
]
OF_LOG = {
    **{"last_contact": "2026-10-01", "last_outcome": "not_reached", "last_contact_by": "Ann"},
    **{"phone": "+49 30 123456", "email": "ann@example.org", "due": "2027-01-31"},
}


def make_rows(count: int) -> list[dict[str, Any]]:
    """Return clients as the work list returns them."""
    nothing = contact_fields(Standing(), None)
    return [
        {
            **{**nothing, **OF_LOG, "client": f"Client {i:07} Ltd", "list_rank": i + 1},
            **{"risk": 0.9 - 0.5 * i / count, "value": 1000.0 + i, "value_at_risk": 500.0 + i},
            **{"manager": f"Manager {i % 40}", "reasons": REASONS, "list_reasons": []},
        }
        for i in range(count)
    ]


def fill_in(count: int) -> bytes:
    """Return the sheet with an outcome, a note and a follow-up in each line."""
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, filled_in.KNOWN)
        for line, row in enumerate(make_rows(count), start=1):
            name, manager = row["client"], row["manager"]
            key = workbook.key_of(ABOUT.project, DAY, name)
            cells = (name, "not reached", f"note {line}", "2026-12-05", manager, manager, key)
            sheet.write_row(line, 0, cells)
    return data.getvalue()


def measure_writing(count: int, _: Path) -> float:
    rows = make_rows(count)
    began = time.process_time()
    workbook.make_workbook(rows, ABOUT)
    return time.process_time() - began


def measure_reading(count: int, folder: Path) -> float:
    columns = {name: [row[name] for row in make_rows(count)] for name in ("client", "risk")}
    rest = dict.fromkeys(("observed_at", "manager", "due", "phone", "email"), "")
    numbers = dict.fromkeys(("value", "value_at_risk", "risk_change"), float("nan"))
    none = pd.array([pd.NA] * count, "Int64")
    lists = ("reasons", "cautions", "list_reasons", "changes")
    table = pd.DataFrame(
        {
            **columns,
            **rest,
            **numbers,
            **{"rank": range(1, count + 1), "list_rank": none, "previous_rank": none},
            **{name: [[] for _ in range(count)] for name in lists},
        }
    )
    clients.write_clients(folder / "clients.parquet", table)
    data = fill_in(count)
    desk = filled_in.Desk(
        *(folder / "contacts.sqlite", clients.ClientTable(folder / "clients.parquet")),
        *(ABOUT.project, "release", DAY, ABOUT.made_at, "sheet"),
    )
    began = time.process_time()
    lines = filled_in.read_lines(data, "sheet.xlsx", Columns(), DEFAULT_DIALECT)
    verdicts = filled_in.save_lines(lines, desk)
    elapsed_s = time.process_time() - began
    assert [each.verdict for each in verdicts] == [filled_in.SAVED] * count
    return elapsed_s


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    count = parser.parse_args(argv).clients
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (
            ("written", measure_writing),
            ("filled in, read and saved", measure_reading),
        ):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds = pool.apply(measure, (count, Path(folder)))
            rows.append(at_most(f"sheet of {count:,} clients, {name}", seconds, GOAL_S, "CPU s"))
    return print_rows(rows)


if __name__ == "__main__":
    sys.exit(main())
