import numpy as np
import pandas as pd
import pytest

from attrition.modelling.groups import group_rows


def table(clients, a, b):
    return pd.DataFrame({"client": list(clients), "a": np.array(a, float), "b": list(b)})


def group(rows):
    return group_rows(rows, "client", ["a", "b"])


def test_rows_of_one_client_and_equal_rows_are_one_group():
    found = group(table("aabccd", [1, 2, 2, 3, 4, 5], "xxxxxx"))
    assert len(set(found[:3])) == 1  # a and b share a row
    assert len(set(found)) == 3
    assert found[3] == found[4] != found[5]


def test_missing_values_are_equal_to_each_other():
    found = group(table("ab", [np.nan, np.nan], ["", ""]))
    assert found[0] == found[1]


def test_near_copies_are_one_group_with_what_they_were_copied_from():
    rng = np.random.default_rng(0)
    rows = table(range(400), rng.lognormal(4, 2, 400), rng.choice(list("xy"), 400)).assign(
        c=rng.normal(size=400)
    )
    copies = rows.assign(client=range(400, 800))
    copies[["a", "c"]] *= 1 + 1e-6 * rng.normal(size=(400, 2))
    found = group_rows(pd.concat([rows, copies]), "client", ["a", "b", "c"])
    assert (found[:400] == found[400:]).mean() > 0.99
    assert np.bincount(found).max() < 10


def test_rows_that_differ_in_a_level_are_no_copies():
    found = group(table("abcdefgh", [1, 2, 3, 4, 5, 6, 7, 7.0001], "xxxxxxxy"))
    assert len(set(found)) == 8


def test_a_coarse_table_is_not_glued_together():
    """A thousand numbers lie so close that each is nearly the next one's copy."""
    found = group(table(range(1000), np.arange(1000) / 1000, ["x"] * 1000))
    assert len(set(found)) == 1000


def test_a_column_without_a_middle_half_is_compared_as_it_is():
    found = group(table("abcd", [0, 0, 0, 1e-9], "xyzz"))
    assert len(set(found)) == 4


# ---- twins: rows that differ in one column

FEATURES = [f"x{i:02}" for i in range(12)]


def draw(kind, n, rng):
    """One column of a table of clients that have nothing to do with each other."""
    if kind == "amount":
        return np.where(rng.random(n) < 0.4, 0, rng.lognormal(4, 1, n).round(2))
    if kind == "size":
        return rng.lognormal(3, 1, n)
    if kind == "count":
        return rng.poisson(3, n) * 1.0
    return rng.choice(list("abcdefgh")[: 2 if kind == "flag" else 8], n)


def twins(kinds, n=1000, seed=0):
    """A table of clients, and for each a twin with another value in one of the columns."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({x: draw(kind, n, rng) for x, kind in zip(FEATURES, kinds, strict=True)})
    copies, changed = rows.copy(), rng.integers(0, 12, n)
    for i, x in enumerate(FEATURES):
        other = pd.Series(rng.permutation(rows[x]))
        if rows[x].dtype.kind == "f":
            other = rows[x] + 1
        copies[x] = copies[x].mask(changed == i, other)
    return pd.concat([rows, copies], ignore_index=True).assign(client=range(2 * n))


@pytest.mark.parametrize(
    "kinds",
    [
        ["amount"] * 12,
        ["level"] * 12,
        ["amount", "level", "count", "flag"] * 3,
        ["size"] * 3 + ["flag"] * 9,
        ["count"] * 12,
    ],
    ids=["amounts", "levels", "mixed", "mostly flags", "counts"],
)
def test_twins_that_differ_in_one_of_twelve_columns_are_linked_and_strangers_are_not(kinds):
    groups = group_rows(twins(kinds), "client", FEATURES)
    is_linked = groups[:1000] == groups[1000:]
    own = np.tile(1 + is_linked, 2)
    assert is_linked.mean() >= 0.99
    assert (np.bincount(groups)[groups] > own).mean() <= 0.001


def test_five_twins_of_each_row_are_one_group():
    rows = twins(["level"] * 12, n=200).head(200)
    family = pd.concat([rows, *(rows.assign(**{x: "new"}) for x in FEATURES[:5])])
    groups = group_rows(family.assign(client=range(1200)), "client", FEATURES)
    assert (groups[200:] == np.tile(groups[:200], 5)).mean() >= 0.99


def test_rows_that_differ_in_two_columns_are_no_twins():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({x: draw("amount", 300, rng) for x in FEATURES})
    both = pd.concat([rows, rows.assign(x00=rows["x00"] + 1, x05=rows["x05"] + 1)])
    groups = group_rows(both.assign(client=range(600)), "client", FEATURES)
    assert len(np.unique(groups)) == 600


@pytest.mark.parametrize("kind", ["flag", "level"])
def test_a_table_of_few_distinct_rows_is_not_glued_together_by_chance(kind):
    """Of four coarse columns and a number, a client has the same as another one in all but one."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({x: draw(kind, 1000, rng) for x in FEATURES[:4]})
    rows = rows.assign(x04=[f"id {i}" for i in range(1000)], client=range(1000))
    groups = group_rows(rows, "client", FEATURES[:5])
    assert len(np.unique(groups)) >= 999


def test_a_profile_that_many_clients_share_makes_no_twins():
    """A tenth are idle: nought in each column but one, as in no copy of a row."""
    rows = twins(["amount"] * 12, n=500)
    rows.loc[::10, FEATURES[1:]] = 0.0
    rows.loc[::10, "x00"] = np.arange(100) + 0.5
    groups = group_rows(rows, "client", FEATURES)
    assert len(np.unique(groups[::10])) == 100


@pytest.mark.parametrize("features", [FEATURES[:n] for n in (1, 2, 3, 4)])
def test_few_columns_are_too_few_for_twins(features):
    rows = twins(["level"] * 12, n=50).drop_duplicates(features)
    assert len(np.unique(group_rows(rows, "client", features))) == len(rows)
