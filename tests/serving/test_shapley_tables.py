"""The values of all trees from tables are those that are computed leaf by leaf."""

import numpy as np
import pytest

from attrition.serving import flattening, shapley_tables
from attrition.serving.shapley_tables import ShapleyTables
from tests.serving import samples


@pytest.fixture(scope="module")
def encoded():
    flat, _, rows = samples.flat_and_fitted()
    rows = rows.head(40).copy()
    rows.loc[:3, "x0"] = [np.nan, -5.0, 1e6, 2.0]
    rows.loc[:1, "c0"] = ["never seen", ""]
    return flat, flat.encode(flattening.to_columns(flat, rows)).bins


def leaf_by_leaf(flat, bins, baseline):
    return sum(forest.explain(bins, baseline[:, np.newaxis]) for forest in flat.forests)


@pytest.mark.parametrize("cells", [4, 64, 2048])
def test_values_are_those_of_the_leaves_however_they_are_grouped(encoded, monkeypatch, cells):
    flat, bins = encoded
    monkeypatch.setattr(shapley_tables, "CELLS", cells)
    for baseline in bins[:, :3].T:
        values = ShapleyTables(flat, baseline).explain(bins)
        np.testing.assert_allclose(values, leaf_by_leaf(flat, bins, baseline), atol=1e-7)
        assert np.abs(values).max() > 0.1


def test_a_leaf_with_too_many_cells_is_computed_without_a_table(encoded, monkeypatch):
    flat, bins = encoded
    monkeypatch.setattr(shapley_tables, "CELLS", 2)
    monkeypatch.setattr(shapley_tables, "MOST_CELLS", 4)
    values = ShapleyTables(flat, bins[:, 0]).explain(bins)
    np.testing.assert_allclose(values, leaf_by_leaf(flat, bins, bins[:, 0]), atol=1e-7)


def test_values_of_a_client_do_not_depend_on_the_others(encoded, monkeypatch):
    flat, bins = encoded
    tables = ShapleyTables(flat, bins[:, 0])
    together = tables.explain(bins)
    monkeypatch.setattr(shapley_tables, "ROWS", 7)
    assert np.array_equal(tables.explain(bins), together)
    assert np.array_equal(tables.explain(bins[:, 5:6]), together[5:6])


@pytest.mark.parametrize("cells", [8, 4096])
def test_values_for_many_clients_are_the_same_from_fewer_tables(encoded, monkeypatch, cells):
    flat, bins = encoded
    tables = ShapleyTables(flat, bins[:, 0])
    one_by_one = tables.explain(bins)
    monkeypatch.setattr(shapley_tables, "MANY", 1)
    monkeypatch.setattr(shapley_tables, "MERGED_CELLS", cells)
    assert np.array_equal(tables.explain(bins), one_by_one)
    assert cells == 8 or len(tables._merged_blocks) < len(tables._blocks)
