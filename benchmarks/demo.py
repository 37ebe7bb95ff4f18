"""Live through a year of a small company in demo/, and serve its dashboard.

The company is simulated, and so is what contacts do: of those who would have left and were reached, some
stay. Everything else is real: a delivery is a file, a run is the whole process, and
what the client managers note goes into the contact log. Only the clock is set back, and it ends now.
The folder is made anew each time; the same seed on the same day makes the same company.

Reads   nothing.
Writes  demo/; with --pictures, the pictures of the README into a folder (needs Chromium and pdftoppm)
Run     python -m benchmarks.demo [--seed 1] [--no-serve] [--port 8000]
        python -m benchmarks.demo --pictures docs
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Collection, Generator
from contextlib import redirect_stderr
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import quote

import numpy as np
import pandas as pd

import fullprocess
from attrition import config_file
from attrition.config import Config
from attrition.contacts import log, ranking
from attrition.contacts.desk import Desk
from attrition.contacts.log import Entry
from attrition.contacts.worklist import LISTED, Filters
from attrition.data import clients
from attrition.errors import AttritionError
from attrition.operations import dependencies
from attrition.storage import files, history
from benchmarks.simulation import CLIENT_MANAGERS, month_start, simulate_months

KEY_VARIABLE = "ATTRITION_EXPERIMENT_KEY"
FOLDER = Path(__file__).resolve().parent.parent / "demo"

CLIENTS, TEST_CLIENTS = 1_200, 800
MONTHS_BEFORE, ROWS_BEFORE = 3, 100  # the history that the first run learns from
MONTHS, OUTCOME_DELAY = 12, 2
SAVED = 0.7  # of the clients who were reached and would have left
CHANGED_TODAY = 60
MANAGERS = CLIENT_MANAGERS[:3]
SATURDAY = 5
# Days from one renewal of a contract to the next, and from an observation to the first one.
TERMS, NOTICE = {"month-to-month": 90, "annual": 365, "multi-year": 1095}, 25

CONFIG = {
    "input_folder_path": "sourcedata",
    "output_folder_path": "ingesteddata",
    "test_data_path": "testdata",
    "output_model_path": "practicemodels",
    "prod_deployment_path": "production_deployment",
    "columns": {
        "client": "corporation",
        "outcome": "exited",
        "numeric": {
            "lastmonth_activity": {"minimum": 0, "label": "orders last month"},
            "lastyear_activity": {"minimum": 0, "label": "orders last year"},
            "number_of_employees": {"minimum": 0, "label": "employees", "fixed": True},
            "tenure_months": {"minimum": 0, "label": "months as a client"},
            "open_tickets": {"minimum": 0, "label": "open tickets"},
            "annual_contract_value": {
                **{"minimum": 0, "label": "contract value", "unit": "EUR a year"}
            },
        },
        "categorical": {
            "industry": {"label": "industry", "fixed": True},
            "contract_type": {"label": "contract"},
        },
        "time": "observed_on",
        "value": "annual_contract_value",
        "manager": "client_manager",
        "due": "renewal_date",
        "phone": "phone",
        "email": "email",
    },
    "contact_capacity": 45,
    "manager_capacity": dict.fromkeys(MANAGERS, 15),
    "contact_cost": 60,
    "contact_success": 0.25,
    "experiment": {"share": 0.2},
    "currency": "EUR",
}

OUTCOME_SHARES = {
    **{"reached": 0.35, "will_stay": 0.2, "will_leave": 0.08, "not_reached": 0.32},
    **{"wrong_person": 0.04, "do_not_contact": 0.01},
}
NOTES = {
    "reached": [
        "happy with the service",
        "compares offers of others",
        "wants fewer deliveries",
        "",
    ],
    "will_stay": ["renews as it is", "renews, with a smaller volume", ""],
    "will_leave": ["has signed with a competitor", "closes a site"],
    "not_reached": ["", "mailbox", "in a meeting", "on leave"],
    "wrong_person": ["the buyer has changed"],
    "do_not_contact": ["does not want calls"],
}
# A file that is none of clients: refused, and taken away again.
BAD_FILE = ("fair-visitors.csv", "company,stand\nHazel Crown Solutions,B 12\nMaple Supply,A 3\n")


class Clock:
    """A clock that can be set, and runs on from there."""

    def __init__(self, at: datetime) -> None:
        self.set(at)

    def set(self, at: datetime) -> None:
        self._at, self._since = at, time.monotonic()

    def utc_now(self) -> str:
        elapsed = timedelta(seconds=time.monotonic() - self._since)
        return (self._at + elapsed).strftime(files.TIME)


# ---- the company


class Company(NamedTuple):
    """The observations with outcome: months before the first run, months since, rows to test on."""

    before: list[pd.DataFrame]
    months: Generator[pd.DataFrame, Collection[str] | None]
    test: pd.DataFrame


def simulate(seed: int, today: date) -> Company:
    """Simulate the company up to a year ago, and clients of another one for the test data."""
    first = month_start(-MONTHS_BEFORE - MONTHS, f"{today:%Y-%m}")[:7]
    ours = simulate_months(clients=CLIENTS, seed=seed, first_month=first)
    rng = np.random.default_rng(seed)
    before = [
        complete(month.iloc[rng.permutation(CLIENTS)[:ROWS_BEFORE]])
        for month in islice(ours, MONTHS_BEFORE)
    ]
    others = simulate_months(clients=TEST_CLIENTS, seed=seed, first_month=first, elsewhere=True)
    return Company(before, ours, complete(next(others)))


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what depends on the name only: one of three managers, the renewal date, phone and e-mail."""
    number = rows["corporation"].map(lambda name: zlib.crc32(name.encode()))
    day = date.fromisoformat(rows["observed_on"].iloc[0])
    days_left = NOTICE + (number - day.toordinal()) % rows["contract_type"].map(TERMS)
    address = (
        rows["corporation"].str.normalize("NFKD").str.encode("ascii", "ignore").str.decode("ascii")
    )
    address = address.str.lower().str.replace(r"[^a-z0-9]+", "-", regex=True).str.strip("-")
    return rows.assign(
        client_manager=np.take(MANAGERS, number % len(MANAGERS)),
        renewal_date=[(day + timedelta(days=int(days))).isoformat() for days in days_left],
        # Numbers that the regulator keeps for fiction, and a domain that nobody can own.
        phone=[f"+44 20 7946 0{digits % 1000:03d}" for digits in number],
        email="office@" + address + ".example",
    )


# ---- its year


class Life:
    """The project in demo/, what is delivered to it, its runs, and what its managers note."""

    def __init__(self, config: Config, company: Company, clock: Clock, seed: int) -> None:
        self.config, self.company, self.clock = config, company, clock
        self.rng = np.random.default_rng([seed, 1])
        self.desk = Desk(config)
        self.planted: set[str] = set()
        self.months: list[pd.DataFrame] = []
        self.saved: set[str] = set()  # in this month

    def deliver(self, name: str, rows: pd.DataFrame | str) -> None:
        """Write a file into the folder of the sources, at the time of the clock."""
        path = self.config.input_folder / name
        text = rows if isinstance(rows, str) else rows.to_csv(index=False)
        path.write_text(text, encoding="utf-8")
        at = datetime.fromisoformat(self.clock.utc_now()).timestamp()
        os.utime(path, (at, at))

    def begin_month(self) -> pd.DataFrame:
        """Return the clients of the next month: those whom contacts saved in this one live on."""
        if self.months:
            rows = self.months[-1]
            stays = rows["corporation"].isin(self.saved)
            self.months[-1] = rows.assign(exited=rows["exited"].mask(stays, 0))
        self.months.append(complete(self.company.months.send(self.saved)))
        self.saved = set()
        return self.months[-1]

    def deliver_clients(self) -> None:
        """Deliver the clients of the next month."""
        rows = self.begin_month()
        self.deliver(f"{month_of(rows)}-clients.csv", rows.assign(exited=None))

    def deliver_outcomes(self) -> None:
        """Deliver the outcomes that are known since this month began; three rows are not valid."""
        if len(self.months) <= OUTCOME_DELAY:
            return
        rows = self.months[-1 - OUTCOME_DELAY]
        rows = rows.assign(number_of_employees=[-1, -1, -1, *rows["number_of_employees"][3:]])
        self.deliver(f"{month_of(rows)}-outcomes.csv", rows)

    def deliver_changes(self, today: date) -> None:
        """Deliver what changed for some clients until today."""
        now, coming = self.months[-1], self.begin_month()
        stays = coming["corporation"].isin(now["corporation"])
        changed = coming[stays].iloc[self.rng.permutation(int(stays.sum()))[:CHANGED_TODAY]]
        changed = changed.assign(observed_on=today.isoformat(), exited=None)
        self.deliver(f"{today}-changes.csv", changed)

    def run(self) -> None:
        """Run the whole process, as cron does, and print what it did."""
        day, began = self.clock.utc_now()[:10], time.monotonic()
        deployed = len(history.read_deployments(self.config.history))
        with redirect_stderr(io.StringIO()) as messages:
            code = fullprocess.main(["--config", str(self.config.file), "--quiet"])
        if code:
            raise AttritionError(f"the run of {day} ended with {code}: {messages.getvalue()}")
        self.table = clients.ClientTable(clients.open_hashed(self.config.clients)[1])
        rows = (files.read_record(self.config.ingestion_record) or {})["rows"]
        news = [row["reason"] for row in history.read_deployments(self.config.history)[deployed:]]
        line = f"{day}: a run of {time.monotonic() - began:.1f} s, {rows:,} rows"
        print("; ".join([line, *news]), flush=True)

    # -- the managers

    def work(self, day: date) -> None:
        """Let the managers contact clients on the list, one manager after the other."""
        for hour, manager in enumerate(MANAGERS, start=9):
            self.clock.set(at(day, hour))
            rows = [row for row in self.own_rows(manager) if row["client"] not in self.planted]
            for number, row in enumerate(rows[: self.rng.integers(2, 5)]):
                self.clock.set(at(day, hour, 7 + 16 * number))
                entry = self.note(self.contact(row, manager, day))
                if entry.outcome in (log.REACHED, "will_stay") and self.rng.random() < SAVED:
                    self.saved.add(entry.client)

    def own_rows(self, manager: str) -> list[dict[str, Any]]:
        """Return the clients of a manager on the list at the time of the clock, the due ones first."""
        worklist, _ = self.desk.worklist(self.table, files.utc_now())
        rows = worklist.rows(worklist.select(LISTED, Filters(manager=manager)))
        return sorted(rows, key=lambda row: ranking.BLOCKS.index(row["block"]))

    def contact(self, row: dict[str, Any], manager: str, day: date) -> Entry:
        """Return the entry of a contact with a plausible outcome, drawn at random."""
        outcome = str(self.rng.choice(list(OUTCOME_SHARES), p=list(OUTCOME_SHARES.values())))
        note = str(self.rng.choice(NOTES[outcome]))
        follow_up = ""
        if self.rng.random() < (0.5 if outcome in ("reached", "will_leave") else 0.1):
            follow_up = workday(day + timedelta(days=int(self.rng.choice([7, 14, 30])))).isoformat()
        return Entry(
            row["client"], log.CONTACT, manager, outcome, note, follow_up, risk=row["risk"]
        )

    def note(self, entry: Entry) -> Entry:
        """Append an entry to the contact log, at the time of the clock."""
        release = Path(self.config.current.readlink()).name
        entry = entry._replace(via="page 127.0.0.1", release=release)
        (stored,), _ = log.append(self.config.contact_log, [entry], files.utc_now())
        return stored

    def plant(self, entry: Entry) -> Entry:
        """Note something about the first client on the list for whom nothing is planned yet."""
        rows = [row for row in self.own_rows(entry.by) if row["client"] not in self.planted]
        self.planted.add(rows[0]["client"])
        return self.note(entry._replace(client=rows[0]["client"], risk=rows[0]["risk"]))


def month_of(rows: pd.DataFrame) -> str:
    return str(rows["observed_on"].iloc[0])[:7]


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def workday(day: date) -> date:
    """Return the day, or the Friday before it if it is on a weekend."""
    return day - timedelta(days=max(day.weekday() - SATURDAY + 1, 0))


def plan(life: Life, today: date) -> dict[date, list[Callable[[], object]]]:
    """Return what the managers note on certain days, so that today has something of everything."""
    amara, bruno, chiara = MANAGERS

    def day(days: int) -> str:
        return (today + timedelta(days=days)).isoformat()

    def entry(by: str, kind: str, outcome: str, note: str, date: str = "", **more: str) -> None:
        life.plant(Entry("", kind, by, outcome, note, date, **more))

    def corrected() -> None:
        first = life.plant(Entry("", log.CONTACT, amara, log.NOT_REACHED, "nobody answers"))
        life.clock.set(datetime.fromisoformat(first.at) + timedelta(minutes=40))
        note = "they called back: content, wants to hear from us in spring"
        life.note(first._replace(outcome="will_stay", note=note, replaces=first.id, key="", id=0))

    def withdrawn() -> None:
        first = life.plant(Entry("", log.NOT_BEFORE, chiara, note="stocktaking", date=day(25)))
        life.clock.set(datetime.fromisoformat(first.at) + timedelta(minutes=5))
        note = "wrong client"
        life.note(Entry(first.client, log.WITHDRAWAL, chiara, note=note, replaces=first.id))

    contact = partial(partial, entry)
    planned = {
        20: [contact(bruno, log.NOT_BEFORE, "", "moves its warehouse until then", day(0))],
        14: [contact(amara, log.CONTACT, "reached", "wants an offer for two years", day(-1))],
        12: [contact(amara, log.OVERRIDE, log.LEAVES, "their buyer goes to a competitor", day(70))],
        11: [contact(chiara, log.CONTACT, log.DO_NOT_CONTACT, "asked not to be called again")],
        10: [
            contact(chiara, log.CONTACT, "will_leave", "too expensive; talk to the owner", day(0))
        ],
        9: [contact(bruno, log.CONTACT, "reached", "undecided, asks for a visit", day(-2))],
        8: [contact(bruno, log.NOT_BEFORE, "", "at a trade fair until then", day(20))],
        7: [
            contact(amara, log.CONTACT, "reached", "delivery late twice; promised to check", day(0))
        ],
        6: [contact(chiara, log.OVERRIDE, log.STAYS, "new contract is in the post", day(80))],
        5: [contact(bruno, log.REASSIGNMENT, "", "on holiday", day(9), manager=chiara)] * 3,
        4: [corrected],
        3: [withdrawn],
    }
    by_day: dict[date, list[Callable[[], object]]] = {}
    for days, actions in planned.items():
        by_day.setdefault(workday(today - timedelta(days=days)), []).extend(actions)
    return by_day


def live(life: Life, now: datetime) -> None:
    """Live from the first day of the month a year ago until now."""
    today = now.date()
    starts = [month_start(n - MONTHS, f"{today:%Y-%m}") for n in range(MONTHS + 1)]
    firsts = [*map(date.fromisoformat, starts)]
    planned, bad_day = plan(life, today), firsts[-2] + timedelta(days=14)
    for day in (firsts[0] + timedelta(days=n) for n in range((today - firsts[0]).days)):
        life.clock.set(at(day, 6))
        if day in firsts:
            life.deliver_clients()
        if day in firsts[:-1]:
            life.deliver_outcomes()
        if day == bad_day:
            life.deliver(*BAD_FILE)
        is_monday = day.weekday() == 0 and day.isocalendar().week % 2 == 0 and day > firsts[-3]
        if is_monday or day in firsts or day in (bad_day, today - timedelta(days=1)):
            life.run()
        if day == bad_day:
            (life.config.input_folder / BAD_FILE[0]).unlink()
        if day.weekday() < SATURDAY:
            life.work(day)
            for action in planned.get(day, []):
                action()
    life.clock.set(now)
    if today in firsts:
        life.deliver_clients()
    life.deliver_outcomes()
    life.deliver_changes(today)
    life.run()


def make_project(folder: Path) -> Config:
    """Make the folder anew, with its config.

    Raises: AttritionError if there is something else in its place.
    """
    if folder.is_symlink() or (folder.exists() and not (folder / "config.json").is_file()):
        raise AttritionError(f"{folder} is not a folder of the demo: rename it, and start again")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    text = json.dumps(CONFIG, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    for name in ("input_folder_path", "test_data_path"):
        (folder / str(CONFIG[name])).mkdir()
    return config_file.load(folder / "config.json")


def make(folder: Path, seed: int, now: datetime) -> Config:
    """Make a project whose company has lived until now."""
    config = make_project(folder)
    company = simulate(seed, now.date())
    company.test.to_csv(config.test_folder / "testdata.csv", index=False)
    clock = Clock(now)
    life = Life(config, company, clock, seed)
    months = zip([-3, -2, -1], company.before, strict=True)
    no_index = patch.object(dependencies, "ask_all", dict.fromkeys)  # the past cannot be asked
    with patch.object(files, "utc_now", clock.utc_now), no_index:
        for month, rows in months:
            life.deliver(f"history{month}.csv", rows)
        live(life, now)
    return config


def serve_command(config: Config) -> list[str]:
    return [sys.executable, str(FOLDER.parent / "app.py"), "--config", str(config.file)]


def take_pictures(config: Config, folder: Path) -> None:
    """Save pictures of Today, a client with a corrected entry, the effect, and the report's page one."""
    from playwright.sync_api import sync_playwright

    corrected = next(entry for entry in log.read(config.contact_log)[0] if entry.replaces)
    command = [*serve_command(config), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[2]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            page.goto(f"{address}/?manager={quote(MANAGERS[0])}")
            page.screenshot(path=folder / "today.png")
            page.goto(f"{address}/client/{quote(corrected.client, safe='')}")
            page.screenshot(path=folder / "client.png")
            page.goto(f"{address}/effect")
            page.screenshot(path=folder / "effect.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    draw = [
        "pdftoppm",
        "-png",
        "-r",
        "80",
        "-singlefile",
        str(config.report),
        str(folder / "report"),
    ]
    subprocess.run(draw, check=True)


def main(argv: list[str] | None = None) -> int:
    """Make the demo, and serve it unless that is not wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-serve", action="store_true", help="do not serve the dashboard")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="save pictures, do not serve"
    )
    options = parser.parse_args(argv)
    began = time.monotonic()
    os.environ.setdefault(KEY_VARIABLE, "demo")
    try:
        config = make(FOLDER, options.seed, datetime.now(UTC))
    except AttritionError as error:
        print(error, file=sys.stderr)
        return 1
    entries = len(log.read(config.contact_log)[0])
    print(f"{entries} entries in the contact log; {time.monotonic() - began:.0f} s", flush=True)
    if options.pictures:
        take_pictures(config, options.pictures)
    if options.pictures or options.no_serve:
        return 0
    again = f"{KEY_VARIABLE}=demo .venv/bin/python app.py --config demo/config.json"
    print(f"to serve it again as it is: {again}", flush=True)
    # A new process: a server that forks after so much work would inherit its threads and memory.
    command = [*serve_command(config), "--port", str(options.port)]
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
