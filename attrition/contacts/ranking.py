"""Rank clients, cut the list to capacity, and compare it with the last list."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

REASONS = 3


def rank(risks: pd.DataFrame) -> pd.DataFrame:
    """Order clients by risk, ties by name, and number them from 1.

    `risks` has the columns client and risk; returned with `rank`, highest risk first.
    """
    ordered = risks.sort_values(["risk", "client"], ascending=[False, True], kind="stable")
    return ordered.assign(rank=np.arange(1, len(ordered) + 1)).reset_index(drop=True)


def choose(ranked: pd.DataFrame, capacity: int, order: str) -> pd.DataFrame:
    """Cut the ranking to what the managers can do; `order` is "risk" or "value_at_risk"."""
    if order == "value_at_risk":
        ranked = ranked.sort_values(
            ["value_at_risk", "risk", "client"],
            ascending=[False, False, True],
            kind="stable",
            na_position="last",
        )
    chosen = ranked.head(capacity).reset_index(drop=True)
    return chosen.assign(rank=np.arange(1, len(chosen) + 1))


def since_last_list(chosen: pd.DataFrame, before: Mapping[str, tuple[int, float]]) -> pd.DataFrame:
    """Add what moved: the rank and the change of risk since the last assessment, empty for new ones.

    `before`: client -> (rank, risk).
    """
    known = [before.get(client) for client in chosen["client"]]
    changes = [
        None if old is None else round(float(risk) - old[1], 6)
        for old, risk in zip(known, chosen["risk"], strict=True)
    ]
    ranks = pd.Series([None if old is None else old[0] for old in known], dtype="Int64")
    return chosen.assign(previous_rank=ranks, risk_change=pd.Series(changes, dtype="float64"))
