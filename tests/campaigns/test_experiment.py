"""The experiment over simulated weeks: each list and assignment against a second implementation."""

import json
import os
import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

import assessment
import ingestion
import monitoring
from attrition.contacts import assignments, log, standings
from attrition.contacts.desk import Desk, rules_of
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Book, Capacity
from attrition.data.clients import ClientTable
from attrition.storage import files
from tests.conftest import make_rows, run_whole, write_config
from tests.contacts import rules
from tests.support import read_table, reconfigure

KEY, STEPS = "ATTRITION_EXPERIMENT_KEY", 15
FEATURES = {"client": "corporation", "outcome": "exited", "numeric": ["lastmonth_activity"]}
MORE = {"time": "seen", "value": "worth", "manager": "owner", "due": "ends"}
ODD = [
    "Émile Straße",
    "客户 一",
    "=1+1",
    "x" * 190,
    "\u202eabc",
    "None",
    "007",
    "🐙",
    "a\nb",
    'q"o',
]
EXPERIMENTS = [
    *(None, {"share": 0.3}, {"share": 0.5}, {"share": 0.01}),
    {"share": 0.3, "never_hold_out": {"clients": ODD[:3], "value_above": 50}},
]
SETTINGS = [
    *({"experiment": each} for each in EXPERIMENTS),
    *({"contact_capacity": n, "manager_capacity": {}} for n in (1, 5, 500)),
    {"contact_capacity": 12, "manager_capacity": {"Ann": 3, "Bob": 0}},
    {"contact_capacity": 12, "manager_capacity": {"Ann": 2, "Bob": 2, "Dee": 1}},
    *({"contact_order": order} for order in ("risk", "value_at_risk")),
    *({"time_zone": zone} for zone in ("Pacific/Auckland", "America/Los_Angeles")),
]


def expect(config, key, before):
    """Return the list, who is held out above its line, and the arms of the new assignments."""
    table, day = ClientTable(config.clients), config.day(files.utc_now())
    rows = table.read(range(len(table.numbers("risk"))))
    own = {i: table.numbers(i) for i in ("risk", "value", "value_at_risk")}
    names = [row["manager"] or "" for row in rows]
    due = np.array([row["due"] or "NaT" for row in rows], "datetime64[D]")
    managers = sorted({*names})
    codes = np.array([managers.index(name) for name in names], np.int32)
    nothing = np.zeros(len(rows), np.int32)
    book = Book(*own.values(), codes, managers, due, nothing, nothing)
    capacity = Capacity(config.contact_capacity, dict(config.manager_capacity))
    order = config.contact_order or ("value_at_risk" if config.columns.value else "risk")
    today = (date.fromisoformat(day) - rules.MONDAY).days
    case = rules.Case({}, book, capacity, today, order, None)
    entries = standings.by_client(log.read(config.contact_log)[0])
    local = {
        client: [each._replace(at=config.day(each.at)) for each in those]
        for client, those in entries.items()
    }
    able = {
        i
        for i, row in enumerate(rows)
        if not due[i] < np.datetime64(day)
        and rules.may_be_listed(local.get(row["client"], []), today, row["risk"])
    }
    standing = {
        i: standings.standing(entries[row["client"]], day, rules_of(config))
        for i, row in enumerate(rows)
        if row["client"] in entries
    }
    claims = {
        i
        for i in able & standing.keys()
        if "" < standing[i].due_on <= day or standing[i].override == "leaves"
    }
    for i, each in standing.items():
        if each.manager and capacity.of_manager.get(names[i]) == 0:
            names[i] = each.manager
    quarter = f"{day[:4]}-Q{-(-int(day[5:7]) // 3)}"
    stored = {each.client: each.arm for each in before if each.quarter == quarter}
    arms = [find_arm(config.experiment, key, row, quarter, stored) for row in rows]
    held = {i for i in able - claims if arms[i] == "control"}
    listed = rules.expected_places(case, able - held, claims, names)
    above = {i for i in held if i in rules.expected_places(case, able - held | {i}, claims, names)}
    new = {rows[i]["client"]: arms[i] for i in (above | listed) - claims if arms[i]}
    in_order = sorted(listed, key=lambda i: rules.listed_place(case, i))
    return (
        [rows[i]["client"] for i in in_order],
        {rows[i]["client"] for i in above},
        {client: arm for client, arm in new.items() if client not in stored},
    )


def find_arm(experiment, key, row, quarter, stored):
    if experiment is None or row["client"] in experiment.never_hold_out.clients:
        return ""
    if (row["value"] or 0) > (experiment.never_hold_out.value_above or np.inf):
        return ""
    if row["client"] in stored or not key:
        return stored.get(row["client"], "")
    is_held = rules.draw_again(key.encode(), row["client"], quarter) < experiment.share
    return "control" if is_held else "treated"


class World:
    """A project whose settings, key, clients and contact log change at random."""

    def __init__(self, folder, patch, seed, columns, n):
        self.rng, self.patch = random.Random(seed), patch
        self.now, self.key = datetime(2027, 1, 4, 8, tzinfo=UTC), "secret"
        patch.setattr(files, "utc_now", lambda: self.now.strftime(files.TIME))
        patch.setenv(KEY, self.key)
        self.columns = {name: MORE[name] for name in columns}
        self.settings = {"columns": FEATURES | self.columns, "contact_capacity": 8}
        self.settings |= {"experiment": {"share": 0.3}}
        self.config = write_config(folder, **self.settings)
        self.names = [*ODD, *(f"c{i}" for i in range(n))][:n]
        for path, count in (("sourcedata/history.csv", 500), ("testdata/test.csv", 200)):
            self.rows(count, "2026-06-01").to_csv(folder / path, index=False)
        current = self.rows(n, "2026-12-20").assign(corporation=self.names, exited="")
        current.to_csv(folder / "sourcedata/current.csv", index=False)
        assert run_whole(self.config) == 0
        self.desk = Desk(self.config)

    def rows(self, n, time):
        choose = self.rng.choice
        rows = make_rows(n, seed=self.rng.randrange(10**6), prefix=f"{time} {n} ")
        more = {
            "seen": [time] * n,
            "worth": [choose(["", "0", "10", "100", "5000"]) for _ in range(n)],
            "owner": [choose(["Ann", "Bob", "", "Cem"]) for _ in range(n)],
            "ends": [choose(["", "2027-02-01", "2029-01-01"]) for _ in range(n)],
        }
        more = {name: more[name] for name in self.columns.values()}
        return rows[["corporation", "exited", "lastmonth_activity"]].assign(**more)

    def deliver(self):
        rows = self.rows(3, self.config.day(files.utc_now())).assign(
            corporation=self.rng.sample(self.names, 3)
        )
        rows["exited"] = self.rng.choice(["", "0", "1"])
        path = self.config.input_folder / f"{self.now:%m%d%H}.csv"
        rows.to_csv(path, index=False)
        os.utime(path, (1, 1))
        ingestion.ingest_new_data(self.config)
        monitoring.monitor_model(self.config)

    def change(self):
        self.key = self.rng.choice(["secret", "secret", "other", ""])
        self.patch.setenv(KEY, self.key)
        self.settings |= self.rng.choice(SETTINGS)
        given = {name: each for name, each in self.settings.items() if each is not None}
        self.config = reconfigure(self.config, **given)
        self.desk = Desk(self.config)

    def enter(self):
        listed = self.see_list()
        client = self.rng.choice([*self.names, *listed * 5])
        entry = rules.day((self.now.date() - rules.MONDAY).days + self.rng.randrange(50))
        kind = self.rng.choice(["contact", "contact", "not_before", "override", "reassignment"])
        outcomes = {"contact": ["reached", "not_reached", "will_stay", "wrong_person"]}
        outcomes["override"] = ["stays", "leaves"]
        outcome = self.rng.choice(outcomes.get(kind, [""]))
        is_dated = kind != "contact" or self.rng.random() < 0.3
        manager = self.rng.choice(["Ann", "Bob", "Dee"]) if kind == "reassignment" else ""
        risk = self.rng.choice([0.1, 0.5, 0.9])
        fields = {"date": entry if is_dated else "", "manager": manager, "risk": risk}
        log.append(
            self.config.contact_log,
            [Entry(client, kind, "Kim", outcome, **fields)],
            files.utc_now(),
        )

    def stored(self):
        return assignments.read(self.config.contact_log)[0]

    def see_list(self):
        """Return the list of the app."""
        before, table = self.stored(), ClientTable(self.config.clients)
        record = files.read_record(self.config.assessment_record)
        work, _ = self.desk.worklist(table, files.utc_now(), record)
        listed, held = (
            [row["client"] for row in table.read([int(i) for i in rows])]
            for rows in (work.listed.rows, work.listed.held_out)
        )
        self.check(before, listed, len(held))
        return listed

    def assess(self):
        before = self.stored()
        if self.rng.random() < 0.2:
            with self.patch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(files, "commit", interrupt)
                if assessment.assess_clients(self.config).up_to_date:
                    raise KeyboardInterrupt
        assessment.assess_clients(self.config)
        record = files.read_record(self.config.assessment_record)
        json.dumps(record, allow_nan=False)
        table = ClientTable(self.config.clients)
        listed = [row["client"] for row in table.listed]
        assert len(listed) == len(read_table(self.config.contact_list))
        experiment = record["experiment"]
        self.check(before, listed, experiment["held_out"] if experiment else 0)
        assert not experiment or experiment["draws"]["differ"] == 0
        after = self.stored()
        assert assessment.assess_clients(self.config).up_to_date
        assert self.see_list() == listed
        assert self.stored() == after

    def check(self, before, listed, held_out):
        expected, above, new = expect(self.config, self.key, before)
        after = self.stored()
        assert (listed, held_out) == (expected, len(above))
        assert after[: len(before)] == before
        assert {each.client: each.arm for each in after[len(before) :]} == new
        assert len({each[:2] for each in after}) == len(after)


def interrupt(*arguments, **more):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("seed", "columns", "n"),
    [(0, [*MORE], 50), (1, ["manager", "value"], 30), (2, [*MORE], 3)],
)
def test_each_list_and_assignment_is_that_of_the_rules(tmp_path, monkeypatch, seed, columns, n):
    world = World(tmp_path, monkeypatch, seed, columns, n)
    for _ in range(STEPS):
        world.now += timedelta(hours=world.rng.choice([1, 5, 30, 800]))
        for act in (world.enter, world.enter, world.change, world.deliver):
            if world.rng.random() < 0.5:
                act()
        world.assess()
    assert len({each.quarter for each in world.stored()}) > 1
