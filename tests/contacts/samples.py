"""Books, standings and tables of clients for the tests of the list."""

import numpy as np
import pandas as pd

from attrition.contacts.ranking import Book
from attrition.contacts.standings import Rest, Standing
from attrition.data import clients

DAY = "2026-11-28"


def make_book(risk, **columns):
    """A book of clients with these risks, sorted by them; managers by name."""
    n = len(risk)
    names = columns.pop("manager", ["Ann"] * n)
    managers = list(dict.fromkeys(names))
    given = {
        "risk": np.array(risk, dtype="float64"),
        "value": np.full(n, np.nan),
        "value_at_risk": np.full(n, np.nan),
        "manager": np.array([managers.index(name) for name in names], dtype=np.int32),
        "managers": managers,
        "due": np.full(n, "NaT", dtype="datetime64[D]"),
        "previous_rank": np.zeros(n, dtype=np.int32),
        "risk_change": np.full(n, np.nan),
    }
    return Book(**given | {name: np.array(value) for name, value in columns.items()})


def resting(until="2026-12-05", why="reached", **more):
    return Standing(rests=(Rest(until, why, **more),))


def write_table(path, risk, **columns):
    """Write clients c0, c1, ... with these risks, the highest first; the rest of a row is empty."""
    n = len(risk)
    given = {
        "client": [f"c{i}" for i in range(n)],
        "rank": range(1, n + 1),
        "risk": risk,
        "value": np.nan,
        "value_at_risk": np.nan,
        **dict.fromkeys(("observed_at", "manager", "due", "phone", "email"), ""),
        "list_rank": pd.array([pd.NA] * n, "Int64"),
        "previous_rank": pd.array([pd.NA] * n, "Int64"),
        "risk_change": np.nan,
        **{name: [[] for _ in risk] for name in ("reasons", "cautions", "list_reasons", "changes")},
    }
    clients.write_clients(path, pd.DataFrame(given | columns))
    return clients.ClientTable(path)
