import numpy as np
import pandas as pd
import pytest

from attrition.monitoring import units

COLUMNS = {
    "amount": lambda rng, n: rng.lognormal(8, 1, n).round(2),
    "heavy": lambda rng, n: rng.lognormal(2, 3, n),
    "years": lambda rng, n: rng.gamma(2, 3, n),
    "balance": lambda rng, n: rng.normal(0, 1000, n),
    "rating": lambda rng, n: rng.integers(1, 6, n).astype(float),
    "count": lambda rng, n: rng.poisson(0.3, n).astype(float),
    "rare": lambda rng, n: np.where(rng.random(n) < 0.1, rng.lognormal(5, 2, n), 0.0),
    "zeros": lambda rng, n: np.zeros(n),
    "flag": lambda rng, n: (rng.random(n) < 0.2).astype(float),
    "missing": lambda rng, n: np.where(rng.random(n) < 0.9, np.nan, rng.lognormal(5, 1, n)),
}


def table(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: draw(rng, n) for name, draw in COLUMNS.items()})


REFERENCE = table(2000, 0)
CALM = 200


def find(delivery):
    return units.find_unit_changes(REFERENCE, delivery, list(COLUMNS))


@pytest.mark.parametrize("n", [60, 1000])
@pytest.mark.parametrize("factor", [100, 0.01, 1000, 10, 0.1])
@pytest.mark.parametrize("name", ["amount", "years", "balance", "rating"])
def test_column_in_another_unit_is_named_with_its_factor(name, factor, n):
    delivery = table(n, 1)
    delivery[name] *= factor
    (change,) = find(delivery)
    assert change.column == name
    assert change.factor == pytest.approx(factor, rel=0.5 if n < 1000 else 0.15)
    assert change.share > 0.85


@pytest.mark.parametrize("factor", [12, 1 / 12])
def test_months_for_years_are_another_unit(factor):
    delivery = table(300, 1)
    delivery["years"] *= factor
    (change,) = find(delivery)
    assert change.factor == pytest.approx(factor, rel=0.2)


def test_several_columns_are_named_at_once():
    delivery = table(300, 1)
    delivery[["amount", "balance"]] *= 100
    assert [change.column for change in find(delivery)] == ["amount", "balance"]


def test_a_few_rows_in_the_old_unit_do_not_hide_the_new_one():
    delivery = table(1000, 1)
    delivery.loc[50:, "amount"] *= 100
    (change,) = find(delivery)
    assert change.share == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("last", [300, 500, 700])
def test_a_mixed_delivery_is_not_in_another_unit(last):
    delivery = table(1000, 1)
    delivery.loc[:last, "amount"] *= 100
    assert find(delivery) == []


@pytest.mark.parametrize("factor", [0.3, 0.5, 2, 5])
def test_real_growth_is_no_other_unit(factor):
    delivery = table(1000, 1)
    delivery[["amount", "years", "rating"]] *= factor
    assert find(delivery) == []


def test_an_added_constant_is_no_other_unit():
    delivery = table(1000, 1)
    delivery["years"] += 60
    assert find(delivery) == []


@pytest.mark.parametrize("n", [0, 1, 29])
def test_fewer_than_thirty_values_are_no_evidence(n):
    delivery = table(n, 1)
    delivery["amount"] *= 100
    assert find(delivery) == []


def test_values_that_are_no_numbers_do_not_count():
    delivery = table(300, 1).astype(object)
    delivery["amount"] *= 100
    delivery.loc[:9, "amount"] = ["text", None, np.inf, -np.inf, np.nan, 0, "", 0.0, pd.NA, "-"]
    assert [change.column for change in find(delivery)] == ["amount"]


def test_calm_deliveries_are_never_named():
    rng = np.random.default_rng(5)
    sizes = rng.choice([30, 50, 100, 300], CALM)
    assert not any(find(table(n, [7, seed])) for seed, n in enumerate(sizes))
