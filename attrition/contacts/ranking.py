"""Rank clients, cut the list to capacity, and compare it with the last list."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

REASONS = 3


def rank(risks: pd.DataFrame) -> pd.DataFrame:
    """Sort clients by risk, highest first, ties by name, and number them from 1.

    risks: columns client and risk; `rank` is added
    """
    ordered = risks.sort_values(["risk", "client"], ascending=[False, True], kind="stable")
    return ordered.assign(rank=np.arange(1, len(ordered) + 1)).reset_index(drop=True)


def cut_to_capacity(ranked: pd.DataFrame, capacity: int, order: str) -> pd.DataFrame:
    """Return the first `capacity` clients; `order` is "risk" or "value_at_risk"."""
    if order == "value_at_risk":
        ranked = ranked.sort_values(
            ["value_at_risk", "risk", "client"],
            ascending=[False, False, True],
            kind="stable",
            na_position="last",
        )
    listed = ranked.head(capacity).reset_index(drop=True)
    return listed.assign(rank=np.arange(1, len(listed) + 1))


def add_changes(listed: pd.DataFrame, before: Mapping[str, tuple[int, float]]) -> pd.DataFrame:
    """Add the previous rank and the change of risk since the last list, empty if a client is new.

    before: client -> (rank, risk)
    """
    previous = [before.get(client) for client in listed["client"]]
    changes = [
        None if old is None else round(float(risk) - old[1], 6)
        for old, risk in zip(previous, listed["risk"], strict=True)
    ]
    ranks = pd.Series([None if old is None else old[0] for old in previous], dtype="Int64")
    return listed.assign(previous_rank=ranks, risk_change=pd.Series(changes, dtype="float64"))
