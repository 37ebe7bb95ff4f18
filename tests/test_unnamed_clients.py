"""Tables without a client column: each row of a delivery is a client, and repeats are no news."""

import random
import sqlite3
from collections import Counter

import numpy as np
import pytest

import ingestion
from attrition.data import clients
from attrition.data.cells import NAME_LENGTH
from attrition.rows import observations, typed_rows
from attrition.rows.observations import ObservedRows
from ingestion import ingest_new_data
from tests.conftest import read_rows, write_config
from tests.support import counts, final_rows, ledger, put

COLUMNS = {"client": None, "outcome": "left", "numeric": ["x"], "categorical": ["plan"]}
HEADER = "x,plan,left\n"
LEFT, STAYED, OPEN = "1,a,1\n", "1,a,0\n", "1,a,\n"


@pytest.fixture
def unnamed(tmp_path):
    """A project whose table has no client column."""
    return write_config(tmp_path, columns=COLUMNS)


def deliver(config, name, *rows):
    """Ingest one file; return how many of its rows were accepted, refused and duplicates."""
    put(config, name, HEADER + "".join(rows))
    ingest_new_data(config)
    return counts(ledger(config)[-1])


def outcomes(config):
    return Counter(row[-1] for row in final_rows(config))


def current(config):
    return len(clients.current_clients(read_rows(config), config.columns))


@pytest.mark.parametrize(
    ("first", "second", "expected", "account"),
    [
        ([], [LEFT, OPEN, OPEN], {"1": 1, "": 2}, (3, 0, 0)),
        ([LEFT], [OPEN], {"1": 1}, (0, 0, 1)),
        ([LEFT], [LEFT, OPEN], {"1": 1, "": 1}, (1, 0, 1)),
        ([OPEN, OPEN], [OPEN, OPEN, "2,b,\n"], {"": 3}, (1, 0, 2)),
        ([OPEN, OPEN], [LEFT], {"": 1, "1": 1}, (1, 0, 0)),
        ([OPEN, OPEN], [LEFT, STAYED], {"1": 1, "0": 1}, (2, 0, 0)),
        ([OPEN], [LEFT, STAYED, OPEN], {"1": 1, "0": 1, "": 1}, (3, 0, 0)),
        ([STAYED], [STAYED, STAYED, LEFT], {"0": 2, "1": 1}, (2, 0, 1)),
        ([OPEN, LEFT], [LEFT, OPEN], {"1": 1, "": 1}, (0, 0, 2)),
    ],
)
def test_rows_are_clients_of_their_own_as_often_as_they_stand(
    unnamed, first, second, expected, account
):
    deliver(unnamed, "a.csv", *first, "9,z,0\n")
    assert deliver(unnamed, "b.csv", *second, "9,z,0\n") == (account[0], 0, account[2] + 1)
    assert outcomes(unnamed) - Counter({"0": 1}) == Counter(expected)
    assert len({row[0] for row in final_rows(unnamed)}) == len(final_rows(unnamed))


def test_no_open_row_of_a_coarse_table_vanishes(unnamed):
    rng = random.Random(0)
    rows = [
        f"{rng.randrange(3)},{rng.choice('ab')},{rng.choice(['0', '1', ''])}\n" for _ in range(954)
    ]
    open_rows = sum(row.endswith(",\n") for row in rows)
    assert deliver(unnamed, "a.csv", *rows) == (954, 0, 0)
    assert current(unnamed) == open_rows
    assert deliver(unnamed, "again.csv", *rows[::-1]) == (0, 0, 954)
    assert current(unnamed) == open_rows


def brute_force(known, delivered):
    """Merge one delivery into the known rows by the rule as it is written down; return the account."""
    accepted = 0
    for vector in {row[0] for row in delivered}:
        of = Counter(outcome for each, outcome in delivered if each == vector)
        for outcome in ("1", "0"):
            for _ in range(max(0, of[outcome] - known[vector, outcome])):
                accepted += 1
                if known[vector, ""]:
                    known[vector, ""] -= 1
                known[vector, outcome] += 1
        total = sum(known[vector, outcome] for outcome in ("1", "0", ""))
        more = min(of[""], max(0, of.total() - total))
        known[vector, ""] += more
        accepted += more
    return accepted, 0, len(delivered) - accepted


@pytest.mark.parametrize("seed", range(5))
def test_any_deliveries_leave_the_multiset_of_the_rule(unnamed, seed):
    rng, known = random.Random(seed), Counter()
    for i in range(6):
        delivered = [
            (f"{rng.randrange(2)},{rng.choice('ab')}", rng.choice(["0", "1", "", ""]))
            for _ in range(rng.randrange(1, 12))
        ]
        before = Counter(known)
        rows = [f"{vector},{outcome}\n" for vector, outcome in delivered]
        account = deliver(unnamed, f"{i}.csv", *rows)
        expected = brute_force(known, delivered)
        assert account == expected, (before, delivered)
        stored = Counter((",".join(row[1:3]), row[3]) for row in final_rows(unnamed))
        assert stored == +known
        names = [row[0] for row in final_rows(unnamed)]
        assert len(set(names)) == len(names)


def test_first_row_has_the_name_of_an_earlier_version(unnamed):
    deliver(unnamed, "a.csv", OPEN, OPEN, LEFT)
    names = sorted(row[0] for row in final_rows(unnamed))
    bare = names[0]
    assert len(bare) == NAME_LENGTH
    assert names == [bare, f"{bare}-2", f"{bare}-3"]


def test_equal_rows_with_other_times_are_clients_of_their_own(tmp_path):
    config = write_config(tmp_path, columns=COLUMNS | {"time": "seen"})
    put(config, "a.csv", "x,plan,seen,left\n1,a,2026-01-01,\n1,a,2026-02-01,1\n1,a,2026-02-01,\n")
    ingest_new_data(config)
    assert current(config) == 2


def test_equal_rows_are_on_one_side_of_the_split_and_have_ids_of_their_own(unnamed):
    deliver(unnamed, "a.csv", OPEN, OPEN, LEFT, "2,a,\n")
    rows = read_rows(unnamed)
    assert rows[typed_rows.CLIENT_HASH].nunique() == 2
    assert rows[typed_rows.INPUT_ID].nunique() == 4
    bare = rows["client"].str[:NAME_LENGTH]
    assert np.array_equal(typed_rows.client_hashes(bare), rows[typed_rows.CLIENT_HASH])


def test_each_of_equal_rows_has_its_own_observation(unnamed):
    deliver(unnamed, "a.csv", OPEN, OPEN, LEFT, "2,a,\n")
    rows = [ObservedRows(unnamed.rows, unnamed.columns)]
    expected = {row[0]: {"1": True, "": None}[row[-1]] for row in final_rows(unnamed)}
    for name, churned in expected.items():
        (one,) = observations.find(rows, name, [])
        assert one.churned is churned
    bare = min(expected, key=len)
    assert observations.find(rows, f"{bare}-9", []) == []


# ---- databases

TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}


@pytest.fixture
def crm(tmp_path):
    """A project with a table of three equal open rows and another one, ingested."""
    config = write_config(tmp_path, columns=COLUMNS, databases=[TABLE])
    execute(config, "CREATE TABLE clients (x, plan, left)")
    execute(config, "INSERT INTO clients VALUES (1, 'a', NULL), (1, 'a', NULL), (1, 'a', NULL)")
    execute(config, "INSERT INTO clients VALUES (2, 'b', NULL)")
    assert ingest_new_data(config).rows == 4
    return config


def execute(config, sql):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM clients WHERE rowid = 2", {"": 3}),
        ("DELETE FROM clients WHERE rowid IN (1, 3)", {"": 2}),
        ("INSERT INTO clients VALUES (1, 'a', NULL)", {"": 5}),
        ("UPDATE clients SET left = 1 WHERE rowid = 2", {"": 3, "1": 1}),
        ("UPDATE clients SET x = 5 WHERE rowid = 2", {"": 4}),
    ],
)
def test_a_table_has_each_row_as_often_as_it_stands_there(crm, sql, expected):
    execute(crm, sql)
    ingest_new_data(crm)
    assert outcomes(crm) == Counter(expected)
    assert ingestion.ingest_new_data(crm, reconcile=True).rows == sum(expected.values())


def test_an_outcome_that_a_file_delivers_closes_one_row_of_a_table(crm):
    put(crm, "outcome.csv", HEADER + LEFT)
    ingest_new_data(crm)
    assert outcomes(crm) == Counter({"": 3, "1": 1})
    ingest_new_data(crm, reconcile=True)
    assert outcomes(crm) == Counter({"": 3, "1": 1})
    execute(crm, "DELETE FROM clients WHERE rowid = 2")
    ingest_new_data(crm)
    assert outcomes(crm) == Counter({"": 3, "1": 1})  # the one that left is gone from the table
